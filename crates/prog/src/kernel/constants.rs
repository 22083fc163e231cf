//! Constants of the kernel's enumerations.

use super::answer::{homes, types_named};
use super::{Bytes, btf};
use crate::error::{Error, Result};
use crate::near::Nearest;
use bpfsmith_btf::{Btf, Type, TypeId};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::OnceLock;

/// What a name stands for.
pub(super) struct Constant {
    name: String,
    /// Each value, with the enumeration that has it.
    values: Vec<(String, i128)>,
}

impl Constant {
    /// A constant of any enumeration, or of the one in front of the dot.
    pub(super) fn find(name: &str) -> Result<Option<Constant>> {
        for home in homes() {
            let home = home?;
            let mut values = Vec::new();
            match name.split_once('.') {
                Some((of, name)) => types_named(home.btf(), of)
                    .filter_map(|ty| home.btf().resolve(ty.id()).ok())
                    .for_each(|ty| see(&mut values, of, ty, name)),
                None => with(home.btf(), name)?
                    .into_iter()
                    .for_each(|ty| see(&mut values, &ty.name().to_string(), ty, name)),
            }
            if !values.is_empty() {
                let name = name.to_owned();
                return Ok(Some(Constant { name, values }));
            }
        }
        Ok(None)
    }

    /// Its value, if it has one alone.
    pub(super) fn only(&self) -> Result<i128> {
        if let [(_, value)] = self.values[..] {
            return Ok(value);
        }
        let each = self.values.iter().map(|(of, value)| {
            let name = self.name.rsplit('.').next().unwrap_or(&self.name);
            match of.as_str() {
                "" => format!("{value}"),
                of => format!("{value} as `{of}.{name}`"),
            }
        });
        Err(Error::Argument {
            what: "constant",
            problem: format!(
                "{} has several values in this kernel: write one as a number, or with its \
                 enumeration ({})",
                self.name,
                each.collect::<Vec<_>>().join(", ")
            ),
        })
    }
}

/// Keeps each value once, and where there is a name for it, with that.
fn see(values: &mut Vec<(String, i128)>, of: &str, ty: Type<'_>, name: &str) {
    for value in ty.enumerators().filter(|value| value.name == name) {
        match values.iter_mut().find(|known| known.1 == value.value) {
            Some(known) if known.0.is_empty() => of.clone_into(&mut known.0),
            Some(_) => {}
            None => values.push((of.to_owned(), value.value)),
        }
    }
}

/// The enumerations that may have a constant of that name.
fn with<'a>(types: &'a Btf<Bytes>, name: &str) -> Result<Vec<Type<'a>>> {
    if !std::ptr::eq(types, btf()?) {
        return Ok(types.types().collect());
    }
    // To look through all of them for each constant takes a millisecond; to remember where they
    // are takes 16 bytes for each, and is done once.
    static INDEX: OnceLock<Vec<(u64, TypeId)>> = OnceLock::new();
    let index = INDEX.get_or_init(|| {
        let each = |ty: Type<'a>| {
            let values = ty.enumerators();
            values.map(move |value| (hash(value.name.as_bytes()), ty.id()))
        };
        let mut index: Vec<_> = types.types().flat_map(each).collect();
        index.sort_unstable();
        index.shrink_to_fit();
        index
    });
    let wanted = hash(name.as_bytes());
    let from = index.partition_point(|(hash, _)| *hash < wanted);
    let known = index[from..].iter().take_while(|(hash, _)| *hash == wanted);
    Ok(known.filter_map(|(_, id)| types.get(*id)).collect())
}

fn hash(name: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

pub(super) fn no_constant(path: &str) -> Error {
    let last = path.rsplit(['|', '.']).next().unwrap_or(path).trim();
    let mut nearest = Nearest::to(last);
    if let Ok(btf) = btf() {
        for ty in btf.types() {
            ty.enumerators()
                .for_each(|value| nearest.see(&value.name.to_string()));
        }
    }
    Error::Unknown {
        what: "constant",
        name: path.to_owned(),
        near: nearest.names(),
        hint: "only constants of enumerations have names in the kernel's BTF, macros have none; test \
               with `kernel_const(…).exists()`",
    }
}
