//! TOML.

use crate::problem::Problems;
use crate::scan::DEEPEST;
use crate::spot;
use crate::value::{At, Entry, Kind, Value};
use toml_edit::{Document, Item, TableLike, Value as Plain};

/// Reads a text.
///
/// # Errors
/// When it is not TOML, or has a date, which means nothing in a configuration.
pub fn read(text: &str) -> Result<Value, Problems> {
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
        lines: lines(text),
    };
    let kind = reader.table(document.as_table(), 0)?;
    let at = At { line: 1, column: 1 };
    Ok(Value { at, kind })
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
    };
    let kind = reader.table(table, 0).ok()?;
    Some(Value::new(kind).bare())
}

struct Reader<'a> {
    text: &'a str,
    lines: Vec<usize>,
}

impl Reader<'_> {
    /// What is at a byte of the text.
    fn at(&self, byte: Option<usize>) -> At {
        let Some(byte) = byte else {
            return At { line: 1, column: 1 };
        };
        let line = self.lines.partition_point(|begin| *begin <= byte);
        let begin = self.lines[line.saturating_sub(1)];
        let column = At::of(&self.text[begin..], byte - begin).column;
        At {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column,
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
