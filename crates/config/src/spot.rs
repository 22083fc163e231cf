//! Places in a document of TOML, and what is changed at them, so that all else stays as it was written.

mod plain;

use crate::problem::Problems;
use crate::toml;
use crate::value::{Entry, Kind, Value};
use plain::{plain, pull_plain, push_plain, replace, tidy};
use toml_edit::{ArrayOfTables, InlineTable, Item, Key, Table, Value as Plain};

/// One step into a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// To what has that name.
    Key(String),
    /// To one of a list; the first of something that is no list is itself.
    Index(usize),
}

impl From<&str> for Step {
    fn from(key: &str) -> Step {
        Step::Key(key.to_owned())
    }
}

/// Something in a document.
enum Spot<'a> {
    Item(&'a mut Item),
    Table(&'a mut Table),
    Plain(&'a mut Plain),
}

impl<'a> Spot<'a> {
    fn step(self, step: &Step) -> Option<Spot<'a>> {
        match step {
            Step::Key(key) => match self.holder()? {
                Holder::Headed(table) => table.get_mut(key).map(Spot::Item),
                Holder::Inline(table) => table.get_mut(key).map(Spot::Plain),
            },
            Step::Index(number) => match self {
                Spot::Item(Item::ArrayOfTables(tables)) => tables.get_mut(*number).map(Spot::Table),
                Spot::Item(Item::Value(Plain::Array(list))) | Spot::Plain(Plain::Array(list)) => {
                    list.get_mut(*number).map(Spot::Plain)
                }
                one => (*number == 0).then_some(one),
            },
        }
    }

    fn holder(self) -> Option<Holder<'a>> {
        match self {
            Spot::Table(table) | Spot::Item(Item::Table(table)) => Some(Holder::Headed(table)),
            Spot::Plain(Plain::InlineTable(table))
            | Spot::Item(Item::Value(Plain::InlineTable(table))) => Some(Holder::Inline(table)),
            _ => None,
        }
    }
}

/// A table in a document, in either of its two forms.
pub(crate) enum Holder<'a> {
    Headed(&'a mut Table),
    Inline(&'a mut InlineTable),
}

/// The table at that place, if there is one.
pub(crate) fn holder<'a>(root: &'a mut Table, path: &[Step]) -> Option<Holder<'a>> {
    let mut spot = Spot::Table(root);
    for step in path {
        spot = spot.step(step)?;
    }
    spot.holder()
}

impl Holder<'_> {
    /// Puts a value under that name, in the place and the form of what had it; nothing takes that away.
    pub(crate) fn set(&mut self, key: &str, value: &Value) -> Result<(), Problems> {
        if value.kind == Kind::Null {
            self.remove(key);
            return Ok(());
        }
        match self {
            Holder::Headed(table) => set_headed(table, key, value),
            Holder::Inline(table) => {
                match table.get_mut(key) {
                    Some(old) => replace(old, value)?,
                    None => {
                        table.insert(key, plain(value)?);
                    }
                }
                tidy(table);
                Ok(())
            }
        }
    }

    /// Takes away what has that name.
    pub(crate) fn remove(&mut self, key: &str) {
        match self {
            Holder::Headed(table) => drop(table.remove(key)),
            Holder::Inline(table) => {
                if table.remove(key).is_some() {
                    tidy(table);
                }
            }
        }
    }

    /// One more of what has that name; one alone becomes a list.
    pub(crate) fn push(&mut self, key: &str, value: &Value) -> Result<(), Problems> {
        match self {
            Holder::Headed(table) => match table.get_mut(key) {
                None => set_headed(table, key, &Value::list([value.clone()])),
                Some(item) => push_item(item, value),
            },
            Holder::Inline(table) => {
                match table.get_mut(key) {
                    None => {
                        table.insert(key, plain(&Value::list([value.clone()]))?);
                    }
                    Some(old) => push_plain(old, value)?,
                }
                tidy(table);
                Ok(())
            }
        }
    }

    /// Takes away one of what has that name; of one alone, all of it.
    pub(crate) fn pull(&mut self, key: &str, number: usize) {
        let is_list = match self {
            Holder::Headed(table) => match table.get_mut(key) {
                Some(Item::ArrayOfTables(tables)) if tables.len() > 1 => {
                    if number < tables.len() {
                        tables.remove(number);
                    }
                    true
                }
                Some(Item::Value(Plain::Array(list))) => {
                    pull_plain(list, number);
                    true
                }
                _ => false,
            },
            Holder::Inline(table) => match table.get_mut(key) {
                Some(Plain::Array(list)) => {
                    pull_plain(list, number);
                    true
                }
                _ => false,
            },
        };
        if !is_list {
            self.remove(key);
        }
    }

    /// Gives what has that name another one; it stays where it is.
    pub(crate) fn rename(&mut self, old: &str, new: &str) {
        let renamed = |key: Key| match key.get() == old {
            true => Key::new(new).with_leaf_decor(key.leaf_decor().clone()),
            false => key,
        };
        match self {
            Holder::Headed(table) => {
                let keys: Vec<String> = table.iter().map(|(key, _)| key.to_owned()).collect();
                for key in keys {
                    if let Some((key, item)) = table.remove_entry(&key) {
                        table.insert_formatted(&renamed(key), item);
                    }
                }
            }
            Holder::Inline(table) => {
                let keys: Vec<String> = table.iter().map(|(key, _)| key.to_owned()).collect();
                for key in keys {
                    if let Some((key, plain)) = table.remove_entry(&key) {
                        table.insert_formatted(&renamed(key), plain);
                    }
                }
            }
        }
    }

    /// The same for each of a table.
    pub(crate) fn merge(&mut self, entries: &[Entry]) -> Result<(), Problems> {
        entries
            .iter()
            .try_for_each(|entry| self.set(&entry.key, &entry.value))
    }

    fn become_all(&mut self, entries: &[Entry]) -> Result<(), Problems> {
        let keys: Vec<String> = match self {
            Holder::Headed(table) => table.iter().map(|(key, _)| key.to_owned()).collect(),
            Holder::Inline(table) => table.iter().map(|(key, _)| key.to_owned()).collect(),
        };
        for key in keys {
            if !entries.iter().any(|entry| entry.key == key) {
                self.remove(&key);
            }
        }
        self.merge(entries)
    }
}

/// Names at the top that are no proxy's.
pub(crate) const TOP: [&str; 3] = ["proxies", "groups", "settings"];

/// Makes the short form, whose proxy stands at the top, one with a list.
pub(crate) fn promote(root: &mut Table) {
    let mut short = Table::new();
    if !root.contains_key("name") {
        short.insert("name", Item::Value(Plain::from("proxy")));
    }
    let keys: Vec<String> = root.iter().map(|(key, _)| key.to_owned()).collect();
    for key in keys {
        if TOP.contains(&key.as_str()) {
            continue;
        }
        if let Some((key, item)) = root.remove_entry(&key) {
            short.insert_formatted(&key, item);
        }
    }
    place_anew(&mut short);
    // It is the first of all tables, as it was.
    short.set_position(Some(0));
    let mut proxies = ArrayOfTables::new();
    proxies.push(short);
    let old = match root.remove("proxies") {
        Some(Item::Table(one)) => vec![one],
        Some(other) => match other.into_array_of_tables() {
            Ok(tables) => tables.into_iter().collect(),
            Err(_) => Vec::new(),
        },
        None => Vec::new(),
    };
    for table in old {
        proxies.push(table);
    }
    root.insert("proxies", Item::ArrayOfTables(proxies));
}

/// Tables without places of their own come right behind what they belong to.
fn place_anew(table: &mut Table) {
    table.set_position(None);
    for (_, item) in table.iter_mut() {
        match item {
            Item::Table(table) => place_anew(table),
            Item::ArrayOfTables(tables) => tables.iter_mut().for_each(place_anew),
            Item::Value(_) | Item::None => {}
        }
    }
}

fn set_headed(table: &mut Table, key: &str, value: &Value) -> Result<(), Problems> {
    let is_dotted = table.is_dotted();
    match (table.get_mut(key), &value.kind) {
        (Some(Item::Table(old)), Kind::Table(entries)) => {
            return Holder::Headed(old).become_all(entries);
        }
        (Some(Item::Value(old)), _) => return replace(old, value),
        (Some(Item::ArrayOfTables(old)), Kind::List(list)) if is_tables(value) => {
            let mut old: Vec<Table> = std::mem::take(old).into_iter().collect();
            let mut new = ArrayOfTables::new();
            for value in list {
                let bare = value.bare();
                let same = old
                    .iter()
                    .position(|old| toml::bare(old) == Some(bare.clone()));
                new.push(match same {
                    Some(same) => old.remove(same),
                    None => headed(value)?,
                });
            }
            new.iter_mut().for_each(place_anew);
            table.insert(key, Item::ArrayOfTables(new));
            return Ok(());
        }
        _ => {}
    }
    table.remove(key);
    let item = match is_dotted {
        true => Item::Value(plain(value)?),
        false => item(key, value)?,
    };
    table.insert(key, item);
    Ok(())
}

/// A value in the form that it has in a table with a header.
fn item(key: &str, value: &Value) -> Result<Item, Problems> {
    Ok(match (key, &value.kind) {
        ("proxies" | "routes", Kind::List(list)) if is_tables(value) => {
            let tables = list.iter().map(headed);
            Item::ArrayOfTables(tables.collect::<Result<_, _>>()?)
        }
        ("proxies" | "routes", Kind::Table(_)) => {
            Item::ArrayOfTables([headed(value)?].into_iter().collect())
        }
        ("settings", Kind::Table(_)) => Item::Table(headed(value)?),
        ("groups", Kind::Table(entries)) => {
            let mut groups = Table::new();
            groups.set_implicit(true);
            for entry in entries {
                let group = match entry.value.kind {
                    Kind::Null => continue,
                    Kind::Table(_) => Item::Table(headed(&entry.value)?),
                    _ => Item::Value(plain(&entry.value)?),
                };
                groups.insert(&entry.key, group);
            }
            Item::Table(groups)
        }
        _ => Item::Value(plain(value)?),
    })
}

fn is_tables(value: &Value) -> bool {
    let is_table = |value: &Value| matches!(value.kind, Kind::Table(_));
    matches!(&value.kind, Kind::List(list) if !list.is_empty() && list.iter().all(is_table))
}

/// A group, as it is written with a header of its own.
pub(crate) fn group(root: &mut Table, name: &str, value: &Value) -> Result<(), Problems> {
    match Spot::Table(root).step(&"groups".into()) {
        None => {
            let groups = Value::table([(name, value.clone())]);
            root.insert("groups", item("groups", &groups)?);
            Ok(())
        }
        Some(Spot::Item(Item::Table(groups))) if !groups.is_dotted() => {
            match (groups.get_mut(name), &value.kind) {
                (None, Kind::Table(_)) => {
                    groups.insert(name, Item::Table(headed(value)?));
                    Ok(())
                }
                _ => set_headed(groups, name, value),
            }
        }
        Some(spot) => match spot.holder() {
            Some(mut holder) => holder.set(name, value),
            None => Ok(()),
        },
    }
}

/// A table with a header.
pub(crate) fn headed(value: &Value) -> Result<Table, Problems> {
    let mut table = Table::new();
    let Kind::Table(entries) = &value.kind else {
        let what = format!("{value} is here where a table should be");
        return Err(Problems::one(value.at, what));
    };
    for entry in entries {
        if entry.value.kind != Kind::Null {
            table.insert(&entry.key, item(&entry.key, &entry.value)?);
        }
    }
    Ok(table)
}

fn push_item(item: &mut Item, value: &Value) -> Result<(), Problems> {
    match item {
        Item::ArrayOfTables(tables) => {
            tables.push(headed(&as_table(value))?);
            Ok(())
        }
        Item::Table(one) => {
            let one = std::mem::take(one);
            let both = [one, headed(&as_table(value))?];
            *item = Item::ArrayOfTables(both.into_iter().collect());
            Ok(())
        }
        Item::Value(old) => push_plain(old, value),
        Item::None => Ok(()),
    }
}

/// A target may be written without a table; among tables it needs one.
fn as_table(value: &Value) -> Value {
    match value.kind {
        Kind::Table(_) => value.clone(),
        _ => Value::table([("address", value.clone())]),
    }
}
