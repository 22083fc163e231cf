//! `btf diff`: what is different between two sets of types.

mod changes;

use super::layout;
use super::pick::{Wanted, all};
use super::source::{Bytes, Source};
use crate::args::Form;
use crate::json::Json;
use crate::{DIFFERENT, DONE, Failure, Out, visible};
use bpfsmith_btf::{Kind, Type, TypeId};
use changes::{Change, Side};
use std::collections::BTreeMap;

/// What is compared with what: kind and name.
type Key = (&'static str, String);

/// Two types of one name, or one.
struct Pair {
    old: Option<TypeId>,
    new: Option<TypeId>,
}

/// A difference between types of one name.
enum Difference {
    Removed(TypeId),
    Added(TypeId),
    Changed(TypeId, TypeId, Vec<Change>),
}

/// The kinds whose types have names that mean the same in both.
fn class(ty: &Type<'_>) -> Option<&'static str> {
    Some(match ty.kind() {
        Kind::STRUCT => "struct",
        Kind::UNION => "union",
        Kind::ENUM | Kind::ENUM64 => "enum",
        Kind::TYPEDEF => "typedef",
        Kind::FUNC => "func",
        Kind::VAR => "var",
        Kind::INT => "int",
        Kind::FLOAT => "float",
        _ => return None,
    })
}

/// All types that are compared, by kind and name, each list in order.
fn named(source: &Source, wanted: &[Wanted<'_>]) -> BTreeMap<Key, Vec<TypeId>> {
    let mut names: BTreeMap<Key, Vec<TypeId>> = BTreeMap::new();
    for ty in all(&source.btf) {
        let Some(class) = class(&ty) else { continue };
        // Enumerations without a name are known by their first constant.
        let name = match ty.name() {
            name if !name.is_empty() => name.to_string(),
            _ if class == "enum" => match ty.enumerators().next() {
                Some(first) => format!("{{{}, …}}", first.name),
                None => continue,
            },
            _ => continue,
        };
        if !wanted.is_empty() && !wanted.iter().any(|wanted| wanted.fits(&ty)) {
            continue;
        }
        names.entry((class, name)).or_default().push(ty.id());
    }
    names
}

/// More types of one name than this are compared one by one, as they come.
const MOST: usize = 64;

/// Which type of a name is compared with which: those that are equal first.
fn pairs(old: &mut Side<'_>, new: &mut Side<'_>, a: &[TypeId], b: &[TypeId]) -> Vec<Pair> {
    let (mut a, mut b) = (a.to_vec(), b.to_vec());
    if (a.len() > 1 || b.len() > 1) && a.len().max(b.len()) <= MOST {
        a.retain(|one| {
            let equal = b
                .iter()
                .position(|other| changes::of(old, new, *one, *other).is_empty());
            equal.map(|at| b.remove(at)).is_none()
        });
    }
    let count = a.len().max(b.len());
    (0..count)
        .map(|at| Pair {
            old: a.get(at).copied(),
            new: b.get(at).copied(),
        })
        .collect()
}

/// Prints the differences, and says whether there are any by the exit status.
pub(super) fn run(
    old: &Source,
    new: &Source,
    words: &[String],
    form: Form,
    out: &mut Out<'_>,
) -> Result<u8, Failure> {
    let wanted: Vec<Wanted<'_>> = words.iter().map(|word| Wanted::new(word)).collect();
    let (olds, mut news) = (named(old, &wanted), named(new, &wanted));
    for wanted in &wanted {
        let is_there = |source: &Source| all(&source.btf).any(|ty| wanted.fits(&ty));
        if !is_there(old) && !is_there(new) {
            return Err(wanted.missing([old, new]));
        }
    }
    let mut keys: BTreeMap<Key, (Vec<TypeId>, Vec<TypeId>)> = BTreeMap::new();
    for (key, ids) in olds {
        let others = news.remove(&key).unwrap_or_default();
        keys.insert(key, (ids, others));
    }
    keys.extend(news.into_iter().map(|(key, ids)| (key, (Vec::new(), ids))));

    let mut printer = Printer {
        old: Side::new(&old.btf),
        new: Side::new(&new.btf),
        names: (&old.name, &new.name),
        form,
        gap: "",
        is_different: false,
    };
    if form == Form::Json {
        let (old, new) = (Json::from(old.name.as_str()), Json::from(new.name.as_str()));
        out.write(&format!("{{\"old\":{old},\"new\":{new},\"differences\":["))?;
    }
    for (key, (a, b)) in keys {
        if out.is_closed() {
            break;
        }
        printer.name(&key, &a, &b, out)?;
    }
    if form == Form::Json {
        out.write("]}\n")?;
    }
    Ok(if printer.is_different {
        DIFFERENT
    } else {
        DONE
    })
}

struct Printer<'s> {
    old: Side<'s>,
    new: Side<'s>,
    names: (&'s str, &'s str),
    form: Form,
    gap: &'static str,
    is_different: bool,
}

impl Printer<'_> {
    /// Compares all types of a name.
    fn name(
        &mut self,
        key: &Key,
        a: &[TypeId],
        b: &[TypeId],
        out: &mut Out<'_>,
    ) -> Result<(), Failure> {
        for pair in pairs(&mut self.old, &mut self.new, a, b) {
            let difference = match (pair.old, pair.new) {
                (Some(old), Some(new)) => {
                    let changes = changes::of(&mut self.old, &mut self.new, old, new);
                    if changes.is_empty() {
                        continue;
                    }
                    Difference::Changed(old, new, changes)
                }
                (Some(old), None) => Difference::Removed(old),
                (None, Some(new)) => Difference::Added(new),
                (None, None) => continue,
            };
            if !self.is_different && self.form == Form::Text {
                let (old, new) = self.names;
                out.write(&format!("--- {old}\n+++ {new}\n"))?;
            }
            self.is_different = true;
            match self.form {
                Form::Text => out.write(&self.text(key, &difference))?,
                Form::Json => {
                    let gap = std::mem::replace(&mut self.gap, ",");
                    out.write(&format!("{gap}{}", self.json(key, &difference)))?;
                }
            }
        }
        Ok(())
    }

    fn text(&mut self, key: &Key, difference: &Difference) -> String {
        match difference {
            Difference::Removed(id) => format!("- {}\n", self.old.whole(key.0, &key.1, *id)),
            Difference::Added(id) => format!("+ {}\n", self.new.whole(key.0, &key.1, *id)),
            Difference::Changed(_, _, changes) => {
                let mut text = format!("~ {} {}\n", key.0, visible(&key.1));
                for change in changes {
                    text += &format!("    {}\n", change.line());
                }
                text
            }
        }
    }

    fn json(&mut self, key: &Key, difference: &Difference) -> Json {
        let (word, old, new, changes) = match difference {
            Difference::Removed(id) => ("removed", Some(*id), None, &[][..]),
            Difference::Added(id) => ("added", None, Some(*id), &[][..]),
            Difference::Changed(old, new, changes) => {
                ("changed", Some(*old), Some(*new), changes.as_slice())
            }
        };
        let size = |side: &Side<'_>, id: Option<TypeId>| side.size(id?);
        Json::Object(vec![
            ("difference", word.into()),
            ("kind", key.0.into()),
            ("name", key.1.as_str().into()),
            ("old_id", old.map(|id| id.0).into()),
            ("new_id", new.map(|id| id.0).into()),
            ("old_size", size(&self.old, old).into()),
            ("new_size", size(&self.new, new).into()),
            (
                "changes",
                Json::List(changes.iter().map(Change::json).collect()),
            ),
        ])
    }
}
