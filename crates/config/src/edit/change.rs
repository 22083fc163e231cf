//! How a configuration is changed: its text, of which all is read again.

use super::find::{self, FoundGroup, FoundProxy};
use super::{Document, EditError, Effect};
use crate::desired::{Desired, Place, Source};
use crate::parts::{self, Part, PartKind};
use crate::problem::Problems;
use crate::read::Read;
use crate::spot::{self, Holder, Step};
use crate::toml;
use crate::value::{At, Entry, Kind, Value};
use std::collections::BTreeSet;
use std::sync::Arc;
use toml_edit::{DocumentMut, Table};

impl Document {
    /// Changes the text, if it is right afterwards.
    pub(super) fn change(
        &mut self,
        edit: impl FnOnce(&mut Table) -> Result<(), Problems>,
    ) -> Result<Effect, EditError> {
        // What is said of the whole file belongs to nothing in it.
        let (head, body) = self.text.split_at(head(&self.text));
        // It ends with a blank line, unless nothing comes behind it yet.
        let is_apart = !body.is_empty();
        let body = edited(self.value.at, body, edit)?;
        let body = body.trim_start_matches('\n');
        let gap = match head {
            _ if is_apart || head.is_empty() || body.is_empty() || head.ends_with("\n\n") => "",
            _ if head.ends_with('\n') => "\n",
            _ => "\n\n",
        };
        let text = [head, gap, body].concat();
        let after = Document::read(&text).map_err(|problems| EditError::of(&problems, &text))?;
        Ok(self.become_this(after))
    }

    /// Changes the table at that place, as [`change`](Document::change) does. Where it is in a part of the text, no
    /// other part is read again.
    pub(super) fn change_at(
        &mut self,
        path: &[Step],
        edit: impl FnOnce(&mut Holder<'_>) -> Result<(), Problems>,
    ) -> Result<Effect, EditError> {
        let Some((part, inner)) = self.part_at(path) else {
            return self.change(|root| at(root, path, edit));
        };
        let (before, behind) = (&self.text[..part.bytes.start], &self.text[part.bytes.end..]);
        let old = &self.text[part.bytes.clone()];
        let new = edited(self.value.at, old, |root| at(root, &inner, edit))?;
        let text = [before, &new, behind].concat();
        let lines = [old, &new].map(|text| text.matches('\n').count());
        let read = toml::part_of(&new, &part);
        let value = match read.and_then(|entry| self.with_part(path, &part, lines, entry)) {
            Some(value) => Ok(value),
            None => toml::read(&text),
        };
        let after = value.and_then(|value| {
            let desired = Desired::read(&value)?;
            Ok(Document {
                text: text.as_str().into(),
                value: Arc::new(value),
                desired: Arc::new(desired),
            })
        });
        let after = after.map_err(|problems| EditError::of(&problems, &text))?;
        Ok(self.become_this(after))
    }

    /// The part of the text that has a place, and where the place is in it.
    fn part_at(&self, path: &[Step]) -> Option<(Part, Vec<Step>)> {
        let mut parts = parts::split(&self.text)?.into_iter();
        let (part, first) = match path {
            [Step::Key(key), Step::Index(number), ..] if key == "proxies" => {
                let mut proxies = parts.filter(|part| part.kind == PartKind::Proxy);
                (proxies.nth(*number)?, Step::Index(0))
            }
            [Step::Key(key), Step::Key(name), ..] if key == "groups" => {
                let is_it = |part: &Part| matches!(&part.kind, PartKind::Group(it) if it == name);
                (parts.find(is_it)?, path[1].clone())
            }
            _ => return None,
        };
        let inner = [path[0].clone(), first].into_iter();
        let inner = inner.chain(path[2..].iter().cloned());
        Some((part, inner.collect()))
    }

    /// The tree with another part at that place; the old one had so many lines, and the new one has so many.
    fn with_part(
        &self,
        path: &[Step],
        part: &Part,
        lines: [usize; 2],
        new: Entry,
    ) -> Option<Value> {
        let [old_lines, new_lines] = lines.map(|it| i32::try_from(it).ok());
        let (old_lines, new_lines) = (old_lines?, new_lines?);
        let mut value = (*self.value).clone();
        let end = part.lines.checked_add_signed(old_lines)?;
        if new_lines != old_lines {
            shift(&mut value, end, new_lines - old_lines);
        }
        let Kind::Table(all) = &mut value.kind else {
            return None;
        };
        let entry = all.iter_mut().find(|entry| entry.key == new.key)?;
        if (part.lines..end).contains(&entry.at.line.saturating_sub(1)) {
            // It is the first of its kind.
            (entry.at, entry.value.at) = (new.at, new.value.at);
        }
        match (&mut entry.value.kind, new.value.kind, &path[1]) {
            (Kind::List(all), Kind::List(new), Step::Index(number)) => {
                *all.get_mut(*number)? = new.into_iter().next()?;
            }
            (Kind::Table(all), Kind::Table(new), Step::Key(_)) => {
                let new = new.into_iter().next()?;
                let old = all.iter_mut().find(|it| it.key == new.key)?;
                *old = new;
            }
            _ => return None,
        }
        Some(value)
    }

    /// Becomes another one; what came of that.
    fn become_this(&mut self, after: Document) -> Effect {
        let (before, now) = (find::used(&self.value), find::used(&after.value));
        let there: BTreeSet<&str> = after.desired.groups.iter().map(|it| &*it.name).collect();
        let named = find::named(&self.value).into_iter();
        let idle = named.filter(|group| {
            before.contains(group) && there.contains(group) && !now.contains(group)
        });
        let effect = Effect {
            idle: idle.map(str::to_owned).collect(),
            renamed: Vec::new(),
        };
        *self = after;
        effect
    }
}

/// A text that is changed.
fn edited(
    at: At,
    text: &str,
    edit: impl FnOnce(&mut Table) -> Result<(), Problems>,
) -> Result<String, Problems> {
    let parsed: Result<DocumentMut, _> = text.parse();
    let mut document = parsed.map_err(|error| {
        let what = error.message().trim().replace('\n', ": ");
        Problems::one(at, what)
    })?;
    edit(document.as_table_mut())?;
    Ok(document.to_string())
}

/// All that begins behind a line is so many lines further down.
fn shift(value: &mut Value, line: u32, by: i32) {
    let shift_at = |at: &mut At| {
        if at.line > line {
            at.line = at.line.saturating_add_signed(by);
        }
    };
    shift_at(&mut value.at);
    match &mut value.kind {
        Kind::List(all) => all.iter_mut().for_each(|it| shift(it, line, by)),
        Kind::Table(all) => {
            for entry in all {
                shift_at(&mut entry.at);
                shift(&mut entry.value, line, by);
            }
        }
        _ => {}
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
