//! What is different between two types of one name.

use super::super::brief;
use super::Bytes;
use super::layout::{self, Field, Step};
use crate::json::Json;
use crate::visible;
use bpfsmith_btf::{Btf, Error, Kind, Shape, Type, TypeId};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

/// Types, and how C spells those that were asked about.
pub(super) struct Side<'b> {
    btf: &'b Btf<Bytes>,
    spelled: HashMap<TypeId, Rc<str>>,
}

impl<'b> Side<'b> {
    pub(super) fn new(btf: &'b Btf<Bytes>) -> Side<'b> {
        Side {
            btf,
            spelled: HashMap::new(),
        }
    }

    pub(super) fn size(&self, id: TypeId) -> Option<u32> {
        self.btf.size_of(id).ok()
    }

    fn spell(&mut self, id: TypeId) -> Rc<str> {
        let spell = || {
            let text = self.btf.spell(id, "");
            cut(text.unwrap_or_else(|error| broken(&error))).into()
        };
        Rc::clone(self.spelled.entry(id).or_insert_with(spell))
    }

    /// A type on one line.
    pub(super) fn whole(&mut self, kind: &str, name: &str, id: TypeId) -> String {
        let size = self.size(id);
        let (kind, shown) = (visible(kind), visible(name));
        let Some(ty) = self.btf.get(id) else {
            return format!("{kind} {shown}");
        };
        match (ty.shape(), size) {
            (Shape::Func(to, _) | Shape::Var(to, _) | Shape::Typedef(to), _) => {
                let text = self.btf.spell(to, name);
                format!(
                    "{kind} {}",
                    brief(&text.unwrap_or_else(|error| broken(&error)))
                )
            }
            (_, Some(1)) => format!("{kind} {shown}: 1 byte"),
            (_, Some(size)) => format!("{kind} {shown}: {size} bytes"),
            _ => format!("{kind} {shown}"),
        }
    }

    /// A prototype without the names of parameters, which mean nothing.
    fn signature(&mut self, proto: &Type<'_>) -> Vec<Rc<str>> {
        let result = proto.target().unwrap_or(TypeId::VOID);
        let ids = [result]
            .into_iter()
            .chain(proto.params().map(|param| param.ty));
        ids.map(|id| self.spell(id)).collect()
    }

    /// Members with those of parts without a name. Nothing if the type is broken.
    fn fields(&self, ty: &Type<'_>) -> Vec<Field> {
        let btf = self.btf;
        let fields = layout::walk(btf, ty, |_, _, id| match layout::is_nameless(btf, id) {
            true => Step::Enter,
            false => Step::Take,
        });
        fields.unwrap_or_default()
    }
}

/// The text, or of one that is too long to be kept the start and what tells it from others.
fn cut(text: String) -> String {
    const LONGEST: usize = 1 << 14;
    if text.len() <= LONGEST {
        return text;
    }
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let start: String = text.chars().take(64).collect();
    format!("{start}… /* {:016x} */", hasher.finish())
}

fn broken(error: &Error) -> String {
    format!("/* {error} */")
}

/// One difference between two types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The size in bytes.
    Size(u32, u32),
    /// A member or constant that is gone.
    Removed(String, String),
    /// A member or constant that is new.
    Added(String, String),
    /// A member at another place.
    Moved(String, String, String),
    /// Another type, or value.
    Became(String, String, String),
}

impl Change {
    pub(super) fn line(&self) -> String {
        let named = |name: &str| match name {
            "" => String::new(),
            name => format!("{}: ", visible(name)),
        };
        match self {
            Change::Size(old, new) => format!("size: {old} -> {new}"),
            Change::Removed(name, what) => format!("- {}{what}", named(name)),
            Change::Added(name, what) => format!("+ {}{what}", named(name)),
            Change::Moved(name, old, new) => format!("{}at {old} -> {new}", named(name)),
            Change::Became(name, old, new) => format!("{}{old} -> {new}", named(name)),
        }
    }

    pub(super) fn json(&self) -> Json {
        let optional = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let object = |what: &str, name: &str, old: Option<String>, new: Option<String>| {
            Json::Object(vec![
                ("change", what.into()),
                ("name", optional(name).into()),
                ("old", old.into()),
                ("new", new.into()),
            ])
        };
        match self {
            Change::Size(old, new) => {
                object("size", "", Some(old.to_string()), Some(new.to_string()))
            }
            Change::Removed(name, old) => object("removed", name, Some(old.clone()), None),
            Change::Added(name, new) => object("added", name, None, Some(new.clone())),
            Change::Moved(name, old, new) => {
                object("moved", name, Some(old.clone()), Some(new.clone()))
            }
            Change::Became(name, old, new) => {
                object("became", name, Some(old.clone()), Some(new.clone()))
            }
        }
    }
}

/// All differences between two types of one kind and name.
pub(super) fn of(old: &mut Side<'_>, new: &mut Side<'_>, a: TypeId, b: TypeId) -> Vec<Change> {
    let (Some(a), Some(b)) = (old.btf.get(a), new.btf.get(b)) else {
        return Vec::new();
    };
    let mut changes = Vec::new();
    match (a.shape(), b.shape()) {
        (Shape::Struct(..) | Shape::Union(..), _) => composites(old, new, &a, &b, &mut changes),
        (Shape::Enum(..), _) => {
            size(&a, &b, &mut changes);
            constants(&a, &b, &mut changes);
        }
        (Shape::Func(from, _), Shape::Func(to, _)) => {
            let (Ok(p), Ok(q)) = (old.btf.ty(from), new.btf.ty(to)) else {
                return changes;
            };
            if old.signature(&p) != new.signature(&q) {
                changes.push(Change::Became(
                    String::new(),
                    proto(old, from),
                    proto(new, to),
                ));
            }
        }
        (Shape::Typedef(from), Shape::Typedef(to))
            if layout::is_nameless(old.btf, from) && layout::is_nameless(new.btf, to) =>
        {
            if let (Ok(a), Ok(b)) = (old.btf.unqualified(from), new.btf.unqualified(to)) {
                composites(old, new, &a, &b, &mut changes);
            }
        }
        (Shape::Typedef(from), Shape::Typedef(to)) | (Shape::Var(from, _), Shape::Var(to, _)) => {
            let (from, to) = (old.spell(from), new.spell(to));
            if from != to {
                changes.push(Change::Became(String::new(), brief(&from), brief(&to)));
            }
        }
        (Shape::Int(p), Shape::Int(q)) => {
            size(&a, &b, &mut changes);
            if p.is_signed() != q.is_signed() {
                let word = |is_signed| if is_signed { "signed" } else { "unsigned" }.to_owned();
                let (p, q) = (word(p.is_signed()), word(q.is_signed()));
                changes.push(Change::Became(String::new(), p, q));
            }
        }
        _ => size(&a, &b, &mut changes),
    }
    changes
}

fn proto(side: &Side<'_>, id: TypeId) -> String {
    let text = side.btf.spell(id, "");
    brief(&text.unwrap_or_else(|error| broken(&error)))
}

fn size(a: &Type<'_>, b: &Type<'_>, changes: &mut Vec<Change>) {
    let sizes = a.own_size().zip(b.own_size());
    if let Some((a, b)) = sizes.filter(|(a, b)| a != b) {
        changes.push(Change::Size(a, b));
    }
}

fn constants(a: &Type<'_>, b: &Type<'_>, changes: &mut Vec<Change>) {
    if a.enumerators().eq(b.enumerators()) {
        return;
    }
    let of = |ty: &Type<'_>| -> Vec<(String, i128)> {
        let values = ty.enumerators();
        values
            .map(|value| (value.name.to_string(), value.value))
            .collect()
    };
    let (old, new) = (of(a), of(b));
    let was: HashMap<&str, i128> = old.iter().map(|(name, value)| (&**name, *value)).collect();
    let is: HashMap<&str, i128> = new.iter().map(|(name, value)| (&**name, *value)).collect();
    for (name, value) in &old {
        match is.get(name.as_str()) {
            None => changes.push(Change::Removed(name.clone(), value.to_string())),
            Some(now) if now != value => changes.push(Change::Became(
                name.clone(),
                value.to_string(),
                now.to_string(),
            )),
            Some(_) => {}
        }
    }
    let added = new.iter().filter(|(name, _)| !was.contains_key(&**name));
    changes.extend(added.map(|(name, value)| Change::Added(name.clone(), value.to_string())));
}

/// Whether every member has the same name, place and type: most often that is so, and cheap to see.
fn is_same(old: &mut Side<'_>, new: &mut Side<'_>, a: &Type<'_>, b: &Type<'_>) -> bool {
    a.kind() == b.kind()
        && a.own_size() == b.own_size()
        && a.len() == b.len()
        && a.members().zip(b.members()).all(|(p, q)| {
            (p.name, p.bit_offset, p.bits) == (q.name, q.bit_offset, q.bits)
                && old.spell(p.ty) == new.spell(q.ty)
        })
}

fn composites(
    old: &mut Side<'_>,
    new: &mut Side<'_>,
    a: &Type<'_>,
    b: &Type<'_>,
    changes: &mut Vec<Change>,
) {
    if is_same(old, new, a, b) {
        return;
    }
    if a.kind() != b.kind() {
        let word = |ty: &Type<'_>| match ty.kind() {
            Kind::UNION => "union",
            _ => "struct",
        };
        changes.push(Change::Became(
            String::new(),
            word(a).into(),
            word(b).into(),
        ));
    }
    size(a, b, changes);
    let (was, is) = (old.fields(a), new.fields(b));
    let by_path = |fields: &[Field]| -> HashMap<String, usize> {
        let paths = fields.iter().enumerate();
        paths.map(|(at, field)| (field.path.clone(), at)).collect()
    };
    let (was_at, is_at) = (by_path(&was), by_path(&is));
    for field in &was {
        match is_at.get(&field.path).and_then(|at| is.get(*at)) {
            None => changes.push(Change::Removed(field.path.clone(), described(old, field))),
            Some(now) => member(old, new, field, now, changes),
        }
    }
    let added = is.iter().filter(|field| !was_at.contains_key(&field.path));
    for field in added {
        changes.push(Change::Added(field.path.clone(), described(new, field)));
    }
}

/// Type and place of a member.
fn described(side: &mut Side<'_>, field: &Field) -> String {
    let at = layout::place(field.bit_offset, field.bits);
    let ty = width(side, field);
    format!("{ty} at {at}")
}

/// The type of a member, and its width if it is a bit field.
fn width(side: &mut Side<'_>, field: &Field) -> String {
    let ty = brief(&side.spell(field.ty));
    match field.bits {
        Some(bits) => format!("{ty} : {bits}"),
        None => ty,
    }
}

fn member(
    old: &mut Side<'_>,
    new: &mut Side<'_>,
    was: &Field,
    is: &Field,
    changes: &mut Vec<Change>,
) {
    if was.bit_offset != is.bit_offset {
        let (from, to) = (
            layout::place(was.bit_offset, was.bits),
            layout::place(is.bit_offset, is.bits),
        );
        changes.push(Change::Moved(was.path.clone(), from, to));
    }
    if was.bits != is.bits || old.spell(was.ty) != new.spell(is.ty) {
        let (from, to) = (width(old, was), width(new, is));
        changes.push(Change::Became(was.path.clone(), from, to));
    }
}
