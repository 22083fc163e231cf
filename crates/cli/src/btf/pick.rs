//! Types by the words of a command line.

use super::glob::Glob;
use super::source::{Bytes, Source};
use crate::{Failure, visible};
use bpfsmith_btf::{Btf, Kind, Type, TypeId};
use bpfsmith_prog::near::Nearest;

/// All types, those of the base first.
pub(super) fn all(btf: &Btf<Bytes>) -> impl Iterator<Item = Type<'_>> {
    let base = btf.base().into_iter().flat_map(|base| base.types());
    base.chain(btf.types())
}

/// What people call a kind.
pub(super) fn kind_word(kind: Kind) -> String {
    match kind {
        Kind::ENUM64 => "enum".to_owned(),
        kind => crate::objects::kind_name(kind.name(), kind.0),
    }
}

/// A type as a command line names it: `tcp_sock`, `struct tcp_sock`, `tcp_*` or `#123`.
pub(super) struct Wanted<'a> {
    word: &'a str,
    kind: Option<&'a str>,
    name: Glob,
    id: Option<TypeId>,
}

impl<'a> Wanted<'a> {
    pub(super) fn new(word: &'a str) -> Wanted<'a> {
        const KINDS: &[&str] = &[
            "struct", "union", "enum", "typedef", "func", "var",
        ];
        let (kind, name) = match word.split_once(' ') {
            Some((kind, name)) if KINDS.contains(&kind) => (Some(kind), name.trim()),
            _ => (None, word),
        };
        let digits = name.strip_prefix('#').unwrap_or(name);
        Wanted {
            word,
            kind,
            name: Glob::new(name),
            id: digits.parse().ok().map(TypeId),
        }
    }

    pub(super) fn fits(&self, ty: &Type<'_>) -> bool {
        if let Some(id) = self.id {
            return ty.id() == id;
        }
        let name = ty.name();
        !name.is_empty()
            && self.kind.is_none_or(|kind| kind == kind_word(ty.kind()))
            && match name.to_str() {
                Some(name) => self.name.fits(name),
                None => self.name.fits(&name.to_string()),
            }
    }

    /// Why there is none, and what to do.
    pub(super) fn missing<'s>(&self, sources: impl IntoIterator<Item = &'s Source>) -> Failure {
        let sources: Vec<&Source> = sources.into_iter().collect();
        let places: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
        let (word, place) = (visible(self.word), places.join(" and "));
        if self.id.is_some() {
            let last = sources.iter().map(|source| source.btf.end().0 - 1).max();
            let last = last.unwrap_or(0);
            return Failure::Failed(format!(
                "no type {word} in {place}: numbers go from 1 to {last}"
            ));
        }
        let name = self.word.rsplit(' ').next().unwrap_or(self.word);
        let btfs = sources.iter().map(|source| &source.btf);
        let hint = match name.split_once('.') {
            Some(_) => format!("for a member use `bpfsmith btf find {word}`"),
            None => hint(&near(btfs, name, |_, _| {})),
        };
        Failure::Failed(format!("no type {word} in {place}: {hint}"))
    }
}

/// Names near to one that does not exist; `more` says what else has names.
pub(super) fn near<'b>(
    btfs: impl Iterator<Item = &'b Btf<Bytes>>,
    name: &str,
    more: impl Fn(&Type<'_>, &mut Nearest<'_>),
) -> Vec<String> {
    let mut nearest = Nearest::to(name);
    for btf in btfs {
        for ty in all(btf) {
            if let Some(name) = ty.name().to_str().filter(|name| !name.is_empty()) {
                nearest.see(name);
            }
            more(&ty, &mut nearest);
        }
    }
    nearest.names()
}

/// What to do when a name is not there.
pub(super) fn hint(near: &[String]) -> String {
    match near {
        [] => "names are case-sensitive, and * stands for any text, as in '*sock*'".to_owned(),
        near => format!("near: {}", visible(&near.join(", "))),
    }
}
