//! `btf dump`: types as C, as records, or for programs.

use super::pick::Wanted;
use super::printable;
use super::source::{Bytes, Source};
use crate::args::btf::Detail;
use crate::{Failure, Out, visible};
use bpfsmith_btf::{Btf, Error, Header, Shape, TypeId};

pub(super) fn run(
    source: &Source,
    words: &[String],
    detail: Detail,
    out: &mut Out<'_>,
) -> Result<(), Failure> {
    let btf = &source.btf;
    let ids = ids(source, words)?;
    let mut skipped = Skipped::default();
    match detail {
        Detail::C if !words.is_empty() => places(btf, &ids, &mut skipped, out)?,
        Detail::C | Detail::Deep => {
            let copied = source.copied.as_deref();
            header(btf, &source.name, copied, &ids, &mut skipped, out)?;
        }
        Detail::Raw => {
            for id in ids {
                if out.is_closed() {
                    break;
                }
                match btf.raw(id) {
                    Ok(text) => out.write(&(printable(&text) + "\n"))?,
                    Err(error) => skipped.add(id, error),
                }
            }
        }
        Detail::Json => {
            out.write("{\"types\":[")?;
            let mut gap = "";
            for id in ids {
                if out.is_closed() {
                    break;
                }
                match super::json::ty(btf, id) {
                    Ok(value) => out.write(&format!("{gap}{value}"))?,
                    Err(error) => {
                        skipped.add(id, error);
                        continue;
                    }
                }
                gap = ",";
            }
            out.write("]}\n")?;
        }
    }
    out.flush()?;
    skipped.tell(&source.name)
}

/// The types that are meant, in order.
fn ids(source: &Source, words: &[String]) -> Result<Vec<TypeId>, Failure> {
    let btf = &source.btf;
    if words.is_empty() {
        return Ok(btf.types().map(|ty| ty.id()).collect());
    }
    let mut ids = Vec::new();
    for word in words {
        let wanted = Wanted::new(word);
        let before = ids.len();
        let found = super::pick::all(btf).filter(|ty| wanted.fits(ty));
        ids.extend(found.map(|ty| ty.id()));
        if ids.len() == before {
            return Err(wanted.missing([source]));
        }
    }
    let mut seen = std::collections::HashSet::new();
    ids.retain(|id| seen.insert(*id));
    Ok(ids)
}

/// What could not be printed.
#[derive(Default)]
struct Skipped {
    first: Option<(TypeId, Error)>,
    count: usize,
}

impl Skipped {
    fn add(&mut self, id: TypeId, error: Error) {
        self.count += 1;
        self.first.get_or_insert((id, error));
    }

    fn tell(self, name: &str) -> Result<(), Failure> {
        let Some((id, error)) = self.first else {
            return Ok(());
        };
        let error = visible(&error.to_string());
        let (count, id) = (self.count, id.0);
        Err(Failure::Failed(format!(
            "{name}: left out {count} broken types, the first is #{id}: {error}: see --raw"
        )))
    }
}

/// Each type with its places and holes.
fn places(
    btf: &Btf<Bytes>,
    ids: &[TypeId],
    skipped: &mut Skipped,
    out: &mut Out<'_>,
) -> Result<(), Failure> {
    let mut gap = "";
    for id in ids {
        if out.is_closed() {
            break;
        }
        match btf.define_with_places(*id) {
            Ok(text) => out.write(&format!("{gap}{}\n", printable(&text)))?,
            Err(error) => {
                skipped.add(*id, error);
                continue;
            }
        }
        gap = "\n";
    }
    Ok(())
}

/// The types, and all that they need, as a C header.
fn header(
    btf: &Btf<Bytes>,
    name: &str,
    copied: Option<&str>,
    ids: &[TypeId],
    skipped: &mut Skipped,
    out: &mut Out<'_>,
) -> Result<(), Failure> {
    let how = match copied {
        Some(why) => format!(", copied because it would not be mapped: {why}"),
        None => String::new(),
    };
    let name = name.replace("*/", "* /");
    out.write(&format!(
        "/* Types of {name}{how}. For C compilers with -std=gnu11. */\n\n#pragma once\n\n"
    ))?;
    let mut header = Header::new(btf);
    for id in ids {
        if out.is_closed() {
            break;
        }
        match text(&mut header, btf, *id) {
            Ok(text) => out.write(&printable(&text))?,
            Err(error) => {
                skipped.add(*id, error);
                out.write(&format!("/* #{} is broken and left out */\n\n", id.0))?;
            }
        }
    }
    Ok(())
}

/// What of a type belongs in a header. Of functions and variables that is what they speak of.
fn roots(btf: &Btf<Bytes>, id: TypeId) -> Result<Vec<TypeId>, Error> {
    Ok(match btf.ty(id)?.shape() {
        Shape::Var(to, _) => vec![pointee(btf, to)?],
        Shape::Func(proto, _) => {
            let proto = btf.ty(proto)?;
            let params = proto.params().map(|param| param.ty);
            let all = proto.target().into_iter().chain(params);
            all.map(|id| pointee(btf, id)).collect::<Result<_, _>>()?
        }
        _ => vec![id],
    })
}

/// What a pointer points to; other types are themselves.
fn pointee(btf: &Btf<Bytes>, id: TypeId) -> Result<TypeId, Error> {
    match btf.resolve(id)?.shape() {
        Shape::Ptr(to) => Ok(to),
        _ => Ok(id),
    }
}

/// The text that defines what a type needs, and the type.
fn text(header: &mut Header<'_, Bytes>, btf: &Btf<Bytes>, id: TypeId) -> Result<String, Error> {
    roots(btf, id)?
        .into_iter()
        .map(|id| header.add(id))
        .collect()
}
