//! Names for one C file, in which each may be defined once; in BTF each may occur often.

use crate::btf::Btf;
use crate::build::identifier;
use crate::kind::{FwdKind, Kind, TypeId};
use crate::names::Name;
use crate::shape::{Shape, Type};
use std::collections::{HashMap, HashSet};

/// Names that differ from those in the BTF.
#[derive(Default)]
pub(super) struct Fresh {
    types: HashMap<TypeId, String>,
    constants: HashMap<(TypeId, u32), String>,
    /// Enumerations without a name that are written where they are used.
    inline: HashSet<TypeId>,
}

/// One of C's two spaces of names.
#[derive(Default)]
struct Space<'a> {
    taken: HashSet<&'a [u8]>,
    made: HashSet<String>,
    /// The last number behind each name, so that the next one is not looked for from the start.
    numbers: HashMap<String, u32>,
}

impl<'a> Space<'a> {
    /// Takes a name; gives another one if it cannot be had.
    fn take(&mut self, name: Name<'a>) -> Option<String> {
        let is_valid = is_identifier(name.as_bytes());
        if is_valid && !self.is_made(name) && self.taken.insert(name.as_bytes()) {
            return None;
        }
        let start = name.as_bytes().get(..LONGEST).unwrap_or(name.as_bytes());
        let wanted = identifier(&Name(start).to_string());
        if !is_valid && self.make(&wanted) {
            return Some(wanted);
        }
        let mut number = self.numbers.get(&wanted).map_or(2, |last| last + 1);
        loop {
            let name = format!("{wanted}___{number}");
            if self.make(&name) {
                self.numbers.insert(wanted, number);
                return Some(name);
            }
            number += 1;
        }
    }

    fn is_made(&self, name: Name<'_>) -> bool {
        !self.made.is_empty() && name.to_str().is_some_and(|name| self.made.contains(name))
    }

    fn make(&mut self, name: &str) -> bool {
        !self.taken.contains(name.as_bytes()) && self.made.insert(name.to_owned())
    }
}

/// The longest name that the kernel takes. Longer ones are cut, so that many types or constants that
/// share one are not slow to tell apart.
const LONGEST: usize = 512;

fn is_identifier(name: &[u8]) -> bool {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    name.len() <= LONGEST
        && name.first().is_some_and(|first| !first.is_ascii_digit())
        && name.iter().all(is_part)
}

/// Whether C has a number of this name by itself.
pub(super) fn is_builtin(name: Name<'_>) -> bool {
    const WORDS: &[&str] = &[
        "char", "short", "int", "long", "signed", "unsigned", "float", "double", "_Bool",
        "__int128", "_Complex",
    ];
    let text = name.to_str().unwrap_or("");
    !text.is_empty() && text.split(' ').all(|word| WORDS.contains(&word))
}

/// What the compiler defines itself.
pub(super) fn is_predefined(name: Name<'_>) -> bool {
    name == "__builtin_va_list"
}

/// All types, those of the base first.
fn all<B: AsRef<[u8]>>(btf: &Btf<B>) -> impl Iterator<Item = Type<'_>> {
    let base = btf.base().into_iter().flat_map(|base| base.types());
    base.chain(btf.types())
}

impl Fresh {
    /// Decides on all names.
    pub(super) fn new<B: AsRef<[u8]>>(btf: &Btf<B>) -> Fresh {
        let mut fresh = Fresh::default();
        fresh.tags(btf);
        fresh.ordinary(btf);
        fresh
    }

    pub(super) fn of(&self, id: TypeId) -> Option<&str> {
        // Most often there are none at all.
        if self.types.is_empty() {
            return None;
        }
        self.types.get(&id).map(String::as_str)
    }

    pub(super) fn is_inline(&self, id: TypeId) -> bool {
        self.inline.contains(&id)
    }

    pub(super) fn constant(&self, id: TypeId, number: u32) -> Option<&str> {
        if self.constants.is_empty() {
            return None;
        }
        self.constants.get(&(id, number)).map(String::as_str)
    }

    /// Names behind `struct`, `union` and `enum`.
    fn tags<B: AsRef<[u8]>>(&mut self, btf: &Btf<B>) {
        let mut space = Space::default();
        let mut holders: HashMap<Name<'_>, Kind> = HashMap::new();
        for ty in all(btf).filter(|ty| !ty.name().is_empty()) {
            let kind = match ty.kind() {
                Kind::ENUM | Kind::ENUM64 => Kind::ENUM,
                kind @ (Kind::STRUCT | Kind::UNION) => kind,
                _ => continue,
            };
            match space.take(ty.name()) {
                Some(name) => drop(self.types.insert(ty.id(), name)),
                None => drop(holders.insert(ty.name(), kind)),
            }
        }
        for ty in all(btf) {
            let Shape::Fwd(kind) = ty.shape() else {
                continue;
            };
            let kind = match kind {
                FwdKind::Struct => Kind::STRUCT,
                FwdKind::Union => Kind::UNION,
            };
            // It speaks of the one that is defined.
            if is_identifier(ty.name().as_bytes()) && holders.get(&ty.name()) == Some(&kind) {
                continue;
            }
            match space.take(ty.name()) {
                Some(name) => drop(self.types.insert(ty.id(), name)),
                None => drop(holders.insert(ty.name(), kind)),
            }
        }
        for (id, uses) in uses(btf) {
            let name = format!("anonymous_{}", id.0);
            match uses {
                0 => {}
                1 => drop(self.inline.insert(id)),
                // Its constants can be defined only once, so what it is needs a name.
                _ if space.make(&name) => drop(self.types.insert(id, name)),
                _ => drop(self.types.insert(id, format!("{name}___2"))),
            }
        }
    }

    /// All other names: type definitions, numbers that C does not have, constants.
    fn ordinary<B: AsRef<[u8]>>(&mut self, btf: &Btf<B>) {
        let mut space = Space::default();
        for ty in all(btf) {
            let name = ty.name();
            match ty.kind() {
                Kind::INT | Kind::FLOAT if is_builtin(name) => continue,
                Kind::TYPEDEF if is_predefined(name) => continue,
                Kind::TYPEDEF | Kind::INT | Kind::FLOAT => {}
                Kind::ENUM | Kind::ENUM64 => {
                    for (value, number) in ty.enumerators().zip(0..) {
                        if let Some(name) = space.take(value.name) {
                            self.constants.insert((ty.id(), number), name);
                        }
                    }
                    continue;
                }
                _ => continue,
            }
            if let Some(name) = space.take(name) {
                self.types.insert(ty.id(), name);
            }
        }
    }
}

/// How often each enumeration without a name is written where it is used.
fn uses<B: AsRef<[u8]>>(btf: &Btf<B>) -> HashMap<TypeId, u32> {
    let is_anonymous =
        |ty: &Type<'_>| matches!(ty.kind(), Kind::ENUM | Kind::ENUM64) && ty.name().is_empty();
    let mut uses: HashMap<TypeId, u32> = all(btf)
        .filter(is_anonymous)
        .map(|ty| (ty.id(), 0))
        .collect();
    let mut count = |id: TypeId, by: u32| {
        if let Some(uses) = uses.get_mut(&id) {
            *uses = uses.saturating_add(by);
        }
    };
    for ty in all(btf) {
        // What has no name itself is written wherever it is used, so this counts as several.
        let by = if ty.name().is_empty() { 2 } else { 1 };
        match ty.shape() {
            Shape::Struct(_, members) | Shape::Union(_, members) => {
                members.for_each(|member| count(member.ty, by));
            }
            Shape::Array(array) => count(array.element, by),
            Shape::FuncProto(result, params) => {
                count(result, by);
                params.for_each(|param| count(param.ty, by));
            }
            // They are no part of a header.
            Shape::Func(..) | Shape::Var(..) | Shape::DeclTag(..) => {}
            _ => ty.target().into_iter().for_each(|target| count(target, by)),
        }
    }
    uses
}
