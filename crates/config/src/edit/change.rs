//! How a configuration is changed: its text, of which all is read again.

use super::find::{self, FoundGroup, FoundProxy};
use super::{Document, EditError, Effect};
use crate::desired::{Place, Source};
use crate::problem::Problems;
use crate::read::Read;
use crate::spot::{self, Holder, Step};
use crate::value::{At, Entry, Kind, Value};
use std::collections::BTreeSet;
use toml_edit::{DocumentMut, Table};

impl Document {
    /// Changes the text, if it is right afterwards.
    pub(super) fn change(
        &mut self,
        edit: impl FnOnce(&mut Table) -> Result<(), Problems>,
    ) -> Result<Effect, EditError> {
        // What is said of the whole file belongs to nothing in it.
        let (head, body) = self.text.split_at(head(&self.text));
        let parsed: Result<DocumentMut, _> = body.parse();
        let mut document = parsed.map_err(|error| {
            let what = error.message().trim().replace('\n', ": ");
            Problems::one(self.value.at, what)
        })?;
        edit(document.as_table_mut())?;
        let body = document.to_string();
        let body = body.trim_start_matches('\n');
        let gap = match head {
            _ if head.is_empty() || body.is_empty() || head.ends_with("\n\n") => "",
            _ if head.ends_with('\n') => "\n",
            _ => "\n\n",
        };
        let text = [head, gap, body].concat();
        let after = Document::read(&text).map_err(|problems| EditError::of(&problems, &text))?;
        let (before, now) = (find::used(&self.value), find::used(&after.value));
        let there: BTreeSet<&str> = after.desired.groups.iter().map(|it| &*it.name).collect();
        let named = find::groups(&self.value).into_iter();
        let named = named.filter(|group| group.proxy.is_none());
        let idle = named.map(|group| group.name).filter(|group| {
            let group = group.as_str();
            before.contains(group) && there.contains(group) && !now.contains(group)
        });
        let idle = idle.collect();
        let effect = Effect {
            idle,
            renamed: Vec::new(),
        };
        *self = after;
        Ok(effect)
    }
}

/// How long the comments are that a text begins with, if a blank line comes behind them.
fn head(text: &str) -> usize {
    let mut end = 0;
    let mut byte = 0;
    for line in text.split_inclusive('\n') {
        byte += line.len();
        match line.trim_matches([' ', '\t', '\r', '\n']) {
            "" => end = byte,
            line if line.starts_with('#') => {}
            _ => return end,
        }
    }
    byte
}

/// Does something to the table at that place.
pub(super) fn at(
    root: &mut Table,
    path: &[Step],
    edit: impl FnOnce(&mut Holder<'_>) -> Result<(), Problems>,
) -> Result<(), Problems> {
    match spot::holder(root, path) {
        Some(mut holder) => edit(&mut holder),
        None => Err(Problems::one(
            At::default(),
            "there is no table at this place",
        )),
    }
}

/// Names of which only one may be there.
const ANSWERS: [&str; 3] = ["target", "targets", "group"];

/// Values of something that answers: one way to say who does takes the place of another.
pub(super) fn answer(holder: &mut Holder<'_>, fields: &[Entry]) -> Result<(), Problems> {
    let is_given = |key: &str| {
        let mut fields = fields.iter();
        fields.any(|entry| entry.key == key && entry.value.kind != Kind::Null)
    };
    if ANSWERS.iter().any(|key| is_given(key)) {
        for key in ANSWERS.iter().filter(|key| !is_given(key)) {
            holder.remove(key);
        }
    }
    holder.merge(fields)
}

pub(super) fn entries(value: &Value) -> Result<&[Entry], EditError> {
    match &value.kind {
        Kind::Table(entries) => Ok(entries),
        _ => {
            let what = format!("{value} is here where a table should be");
            Err(Problems::one(value.at, what).into())
        }
    }
}

/// Names that mean something else where these would stand.
pub(super) fn refuse(fields: &[Entry], is_wrong: impl Fn(&str) -> bool) -> Result<(), EditError> {
    let problems = Problems::new();
    for entry in fields.iter().filter(|entry| is_wrong(&entry.key)) {
        problems.add(entry.at, format!("there is no {} here", entry.key));
    }
    Ok(problems.end()?)
}

/// That a group has a name of its own.
pub(super) fn inline(group: &FoundGroup<'_>) -> Result<(), EditError> {
    match group.proxy {
        None => Ok(()),
        Some(proxy) => Err(EditError::Inline {
            group: group.name.clone(),
            proxy: proxy.to_owned(),
        }),
    }
}

/// The groups that are a proxy's own targets, and of which of its routes they are.
pub(super) fn groups_of(value: &Value, proxy: &str) -> Vec<(String, Option<usize>)> {
    let groups = find::groups(value).into_iter();
    let own = groups.filter(|group| group.proxy == Some(proxy));
    own.map(|group| {
        let route = match group.path.as_slice() {
            [.., Step::Key(key), Step::Index(number)] if key == "routes" => Some(*number),
            _ => None,
        };
        (group.name, route)
    })
    .collect()
}

/// The route of a source, and which one of its sources it is.
pub(super) fn route_of(proxy: &FoundProxy<'_>, source: &Source) -> Option<(usize, usize)> {
    let routes = proxy.routes().iter().enumerate();
    let mut found = routes.filter_map(|(number, route)| {
        let all = route.get("source").map_or(&[][..], Value::each);
        let which = all
            .iter()
            .position(|it| Source::read(it).as_ref() == Some(source));
        which.map(|which| (number, which))
    });
    found.next()
}

/// The targets of a group, and under which name.
pub(super) fn targets<'a>(group: &FoundGroup<'a>) -> (&'static str, &'a [Value]) {
    match group.value.get("target") {
        Some(target) => ("target", target.each()),
        None => (
            "targets",
            group.value.get("targets").map_or(&[], Value::each),
        ),
    }
}

pub(super) fn place_of(target: &Value) -> Option<Place> {
    Place::read(target.get("address").unwrap_or(target))
}

pub(super) fn taken(what: &'static str, name: &str) -> EditError {
    let name = name.to_owned();
    EditError::Taken { what, name }
}

pub(super) fn unknown<S: Into<String>>(
    what: &'static str,
    name: &str,
    known: impl IntoIterator<Item = S>,
) -> EditError {
    EditError::Unknown {
        what,
        name: name.to_owned(),
        known: known.into_iter().map(Into::into).collect(),
    }
}
