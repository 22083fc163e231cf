//! Values on lines: lists and tables without headers, with the comments between them.

use super::Holder;
use crate::problem::Problems;
use crate::scan::DEEPEST;
use crate::value::{Kind, Value};
use toml_edit::{Array, InlineTable, Value as Plain};

/// A value on one line, or a list with a line for each if they are long.
pub(super) fn plain(value: &Value) -> Result<Plain, Problems> {
    plain_at(value, 0)
}

fn plain_at(value: &Value, depth: u32) -> Result<Plain, Problems> {
    if depth > DEEPEST {
        let what = format!("this is more than {DEEPEST} levels deep");
        return Err(Problems::one(value.at, what));
    }
    Ok(match &value.kind {
        Kind::Null => {
            let what = "nothing is here where a value should be";
            return Err(Problems::one(value.at, what));
        }
        Kind::Bool(it) => Plain::from(*it),
        Kind::Int(it) => Plain::from(*it),
        Kind::Float(it) => Plain::from(*it),
        Kind::Text(it) => Plain::from(it.as_str()),
        Kind::List(list) => {
            let mut array = Array::new();
            for value in list {
                array.push(plain_at(value, depth + 1)?);
            }
            spread(&mut array);
            Plain::Array(array)
        }
        Kind::Table(entries) => {
            let mut table = InlineTable::new();
            for entry in entries {
                if entry.value.kind != Kind::Null {
                    table.insert(&entry.key, plain_at(&entry.value, depth + 1)?);
                }
            }
            Plain::InlineTable(table)
        }
    })
}

/// Gives each of a long list a line of its own.
fn spread(array: &mut Array) {
    const WIDEST: usize = 80;
    if array.len() < 2 || array.to_string().len() <= WIDEST {
        return;
    }
    for plain in array.iter_mut() {
        *plain.decor_mut() = toml_edit::Decor::new("\n    ", "");
    }
    array.set_trailing_comma(true);
    array.set_trailing("\n");
}

/// Another value with the comments of the one before.
pub(super) fn replace(old: &mut Plain, value: &Value) -> Result<(), Problems> {
    if let (Plain::InlineTable(table), Kind::Table(entries)) = (&mut *old, &value.kind) {
        return Holder::Inline(table).become_all(entries);
    }
    let mut new = plain(value)?;
    *new.decor_mut() = old.decor().clone();
    *old = new;
    Ok(())
}

/// Inline tables have their spaces where they are usual, unless that would take comments away.
pub(super) fn tidy(table: &mut InlineTable) {
    if !table.to_string().contains('#') {
        table.fmt();
    }
}

pub(super) fn push_plain(old: &mut Plain, value: &Value) -> Result<(), Problems> {
    let new = plain(value)?;
    let Plain::Array(list) = old else {
        let decor = old.decor().clone();
        let mut one = old.clone();
        one.decor_mut().clear();
        let mut list = Array::new();
        list.push(one);
        list.push(new);
        spread(&mut list);
        *list.decor_mut() = decor;
        *old = Plain::Array(list);
        return Ok(());
    };
    let Some(number) = list.len().checked_sub(1) else {
        list.push(new);
        return Ok(());
    };
    let line = list
        .get(number)
        .and_then(|last| line_of(&text_of(last.decor().prefix())));
    let Some(line) = line else {
        list.push(new);
        return Ok(());
    };
    // Every one has its own line.
    if let Some(last) = list.get_mut(number) {
        let end = text_of(last.decor().suffix());
        if !end.contains('#') {
            last.decor_mut().set_suffix("");
            if list.trailing().as_str().is_none_or(str::is_empty) {
                list.set_trailing(end);
            }
        }
    }
    list.push_formatted(new.decorated(line, ""));
    list.set_trailing_comma(true);
    Ok(())
}

fn text_of(raw: Option<&toml_edit::RawString>) -> String {
    let text = raw.and_then(toml_edit::RawString::as_str);
    text.unwrap_or_default().to_owned()
}

/// The beginning of a line, if there is one.
fn line_of(prefix: &str) -> Option<String> {
    let (_, indent) = prefix.rsplit_once('\n')?;
    Some(format!("\n{indent}"))
}

/// Takes one of a list away with the comment on its line; that of the line before stays.
pub(super) fn pull_plain(list: &mut Array, number: usize) {
    if number >= list.len() {
        return;
    }
    let gone = list.remove(number);
    let prefix = text_of(gone.decor().prefix());
    let next = match list.get(number) {
        Some(next) => text_of(next.decor().prefix()),
        None if list.trailing_comma() => text_of(Some(list.trailing())),
        None => text_of(gone.decor().suffix()),
    };
    let Some((before, _)) = prefix.split_once('\n') else {
        // All are on one line.
        if number == 0
            && !next.contains(['#', '\n'])
            && let Some(first) = list.get_mut(0)
        {
            first.decor_mut().set_prefix(prefix);
        }
        return;
    };
    let behind = match next.split_once('\n') {
        Some((_, behind)) => format!("{before}\n{behind}"),
        None => match (list.get(number), line_of(&prefix)) {
            (Some(_), Some(line)) => [before, &line].concat(),
            _ if before.contains('#') => format!("{before}\n"),
            _ => next,
        },
    };
    if let Some(next) = list.get_mut(number) {
        next.decor_mut().set_prefix(behind);
    } else if list.trailing_comma() || list.is_empty() {
        list.set_trailing(behind);
    } else if let Some(last) = list.get_mut(number - 1) {
        let end = text_of(last.decor().suffix());
        last.decor_mut().set_suffix([end, behind].concat());
    }
}
