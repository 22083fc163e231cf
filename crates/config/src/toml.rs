//! TOML.

use crate::parts::{self, Part, PartKind};
use crate::problem::Problems;
use crate::scan::DEEPEST;
use crate::spot;
use crate::value::{At, Entry, Kind, Value};
use std::collections::BTreeSet;
use toml_edit::{Document, Item, TableLike, Value as Plain};

/// Reads a text.
///
/// # Errors
/// When it is not TOML, or has a date, which means nothing in a configuration.
pub fn read(text: &str) -> Result<Value, Problems> {
    let parts = parts::split(text);
    match parts.and_then(|parts| in_parts(text, &parts)) {
        Some(value) => Ok(value),
        // What is wrong with it is said of the whole.
        None => whole(text),
    }
}

/// Reads a text at once.
pub(crate) fn whole(text: &str) -> Result<Value, Problems> {
    let kind = below(text, 0)?;
    let at = At { line: 1, column: 1 };
    Ok(Value { at, kind })
}

/// The table that a text is, which has so many lines above it.
fn below(text: &str, lines: u32) -> Result<Kind, Problems> {
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(error) => {
            let byte = error.span().map_or(0, |span| span.start);
            let what = error.message().trim().replace('\n', ": ");
            return Err(Problems::one(At::of(text, byte), what));
        }
    };
    let reader = Reader {
        text,
        lines: self::lines(text),
        above: lines,
    };
    reader.table(document.as_table(), 0)
}

/// Reads a text part by part; nothing if that is not possible, or if anything is wrong.
pub(crate) fn in_parts(text: &str, parts: &[Part]) -> Option<Value> {
    let mut all: Vec<Entry> = Vec::new();
    let mut groups = BTreeSet::new();
    let (mut proxies_at, mut groups_at) = (None, None);
    for part in parts {
        let text = &text[part.bytes.clone()];
        let into = match &part.kind {
            PartKind::Top | PartKind::Other(_) => {
                let Kind::Table(entries) = below(text, part.lines).ok()? else {
                    return None;
                };
                for entry in entries {
                    let is_listed = ["proxies", "groups"].contains(&entry.key.as_str());
                    if is_listed || all.iter().any(|it| it.key == entry.key) {
                        return None;
                    }
                    all.push(entry);
                }
                continue;
            }
            PartKind::Proxy => &mut proxies_at,
            PartKind::Group(name) => {
                if !groups.insert(name) {
                    return None;
                }
                &mut groups_at
            }
        };
        let new = part_of(text, part)?;
        match *into {
            None => {
                *into = Some(all.len());
                all.push(new);
            }
            Some(index) => match (&mut all[index].value.kind, new.value.kind) {
                (Kind::List(all), Kind::List(new)) => all.extend(new),
                (Kind::Table(all), Kind::Table(new)) => all.extend(new),
                _ => return None,
            },
        }
    }
    let at = At { line: 1, column: 1 };
    let kind = Kind::Table(all);
    Some(Value { at, kind })
}

/// The list of one proxy or the table of one group that a part's text is.
pub(crate) fn part_of(text: &str, part: &Part) -> Option<Entry> {
    let Kind::Table(entries) = below(text, part.lines).ok()? else {
        return None;
    };
    let [entry]: [Entry; 1] = entries.try_into().ok()?;
    let is_right = match (&part.kind, &entry.value.kind) {
        (PartKind::Proxy, Kind::List(list)) => entry.key == "proxies" && list.len() == 1,
        (PartKind::Group(name), Kind::Table(all)) => {
            entry.key == "groups" && all.len() == 1 && all[0].key == *name
        }
        _ => false,
    };
    is_right.then_some(entry)
}

/// Where lines begin.
fn lines(text: &str) -> Vec<usize> {
    let ends = text.match_indices('\n').map(|(at, _)| at + 1);
    [0].into_iter().chain(ends).collect()
}

/// Writes a table: proxies, their routes, groups and settings with headers, all else on lines.
///
/// # Errors
/// When it is no table, or a list in it has nothing for a value.
pub fn write(value: &Value) -> Result<String, Problems> {
    let table = spot::headed(value)?;
    Ok(toml_edit::DocumentMut::from(table).to_string())
}

/// A table that is being changed, as a value without places.
pub(crate) fn bare(table: &dyn TableLike) -> Option<Value> {
    let reader = Reader {
        text: "",
        lines: vec![0],
        above: 0,
    };
    let kind = reader.table(table, 0).ok()?;
    Some(Value::new(kind).bare())
}

struct Reader<'a> {
    text: &'a str,
    lines: Vec<usize>,
    /// How many lines there are before the text.
    above: u32,
}

impl Reader<'_> {
    /// What is at a byte of the text.
    fn at(&self, byte: Option<usize>) -> At {
        let Some(byte) = byte else {
            return At { line: 1, column: 1 };
        };
        let line = self.lines.partition_point(|begin| *begin <= byte);
        let begin = self.lines[line.saturating_sub(1)];
        let before = self.text.get(begin..byte).unwrap_or_default();
        let column = u32::try_from(before.chars().count()).unwrap_or(u32::MAX);
        At {
            line: u32::try_from(line)
                .unwrap_or(u32::MAX)
                .saturating_add(self.above),
            column: column.saturating_add(1),
        }
    }

    fn table(&self, table: &dyn TableLike, depth: u32) -> Result<Kind, Problems> {
        let mut entries = Vec::new();
        for (key, item) in table.iter() {
            let span = table.key(key).and_then(toml_edit::Key::span);
            let at = self.at(span.map(|span| span.start));
            let value = self.value(item, at, depth)?;
            entries.push(Entry {
                at,
                key: key.to_owned(),
                value,
            });
        }
        entries.sort_by_key(|entry| entry.at);
        Ok(Kind::Table(entries))
    }

    /// A value, which begins at `name` if the text does not say where.
    fn value(&self, item: &Item, name: At, depth: u32) -> Result<Value, Problems> {
        let at = item.span().map_or(name, |span| self.at(Some(span.start)));
        self.deep(at, depth)?;
        let depth = depth + 1;
        let kind = match item {
            Item::None => Kind::Null,
            Item::Table(table) => self.table(table, depth)?,
            Item::ArrayOfTables(tables) => {
                let tables = tables.iter().map(|table| {
                    let at = table.span().map_or(name, |span| self.at(Some(span.start)));
                    let kind = self.table(table, depth)?;
                    Ok(Value { at, kind })
                });
                Kind::List(tables.collect::<Result<_, _>>()?)
            }
            Item::Value(plain) => return self.plain(plain, at, depth),
        };
        Ok(Value { at, kind })
    }

    fn plain(&self, plain: &Plain, name: At, depth: u32) -> Result<Value, Problems> {
        let at = plain.span().map_or(name, |span| self.at(Some(span.start)));
        let kind = match plain {
            Plain::String(it) => Kind::Text(it.value().clone()),
            Plain::Integer(it) => Kind::Int(*it.value()),
            Plain::Float(it) => Kind::Float(*it.value()),
            Plain::Boolean(it) => Kind::Bool(*it.value()),
            Plain::Datetime(_) => {
                let what = "dates mean nothing here: put text in quotes";
                return Err(Problems::one(at, what));
            }
            Plain::Array(list) => {
                self.deep(at, depth)?;
                let list = list.iter().map(|plain| self.plain(plain, at, depth + 1));
                Kind::List(list.collect::<Result<_, _>>()?)
            }
            Plain::InlineTable(table) => {
                self.deep(at, depth)?;
                self.table(table, depth + 1)?
            }
        };
        Ok(Value { at, kind })
    }

    fn deep(&self, at: At, depth: u32) -> Result<(), Problems> {
        if depth < DEEPEST {
            return Ok(());
        }
        let what = format!("this is more than {DEEPEST} levels deep");
        Err(Problems::one(at, what))
    }
}
