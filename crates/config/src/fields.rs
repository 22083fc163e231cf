//! Reading a table by names.

use crate::problem::Problems;
use crate::read::Read;
use crate::value::{At, Entry, Kind, Value};

/// A table that is being read: every name is asked for once, and those that nobody asked for are wrong.
#[derive(Debug)]
pub struct Fields<'a> {
    at: At,
    entries: &'a [Entry],
    asked: Vec<&'static str>,
    problems: &'a Problems,
}

impl Value {
    /// The table that this is; if it is none, that is a problem, and the table has nothing.
    pub fn fields<'a>(&'a self, problems: &'a Problems) -> Fields<'a> {
        let entries = match &self.kind {
            Kind::Table(entries) => entries.as_slice(),
            _ => {
                problems.add(self.at, format!("{self} is here where a table should be"));
                &[]
            }
        };
        Fields {
            at: self.at,
            entries,
            asked: Vec::new(),
            problems,
        }
    }

    /// The values that this is a list of, or this one alone.
    #[must_use]
    pub fn each(&self) -> &[Value] {
        match &self.kind {
            Kind::List(list) => list,
            _ => std::slice::from_ref(self),
        }
    }

    /// This value as something; if it is not that, that is a problem.
    pub fn read_as<T: Read>(&self, what: &str, problems: &Problems) -> Option<T> {
        let read = T::read(self);
        if read.is_none() {
            problems.add(self.at, format!("{what} is {self}: {}", T::allowed()));
        }
        read
    }
}

impl<'a> Fields<'a> {
    /// Where the table begins.
    #[must_use]
    pub const fn at(&self) -> At {
        self.at
    }

    /// Whether there is anything of that name, which still is to be asked for.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == name)
    }

    /// What has that name, whatever it is.
    pub fn value(&mut self, name: &'static str) -> Option<&'a Value> {
        self.asked.push(name);
        let entry = self.entries.iter().find(|entry| entry.key == name)?;
        Some(&entry.value)
    }

    /// What has that name, if anything does.
    pub fn get<T: Read>(&mut self, name: &'static str) -> Option<T> {
        self.value(name)?.read_as(name, self.problems)
    }

    /// The same, or what it is where nobody says.
    pub fn get_or<T: Read>(&mut self, name: &'static str, usual: T) -> T {
        self.get(name).unwrap_or(usual)
    }

    /// What has that name; that nothing has it is a problem.
    pub fn need<T: Read>(&mut self, name: &'static str) -> Option<T> {
        match self.value(name) {
            Some(value) => value.read_as(name, self.problems),
            None => {
                let what = format!("{name} is missing: {}", T::allowed());
                self.problems.add(self.at, what);
                None
            }
        }
    }

    /// All that have that name: a list, or one alone.
    pub fn all<T: Read>(&mut self, name: &'static str) -> Vec<T> {
        let each = self.value(name).map_or(&[][..], Value::each);
        let read = each.iter().map(|value| value.read_as(name, self.problems));
        read.flatten().collect()
    }

    /// The table of that name, if there is one.
    pub fn table(&mut self, name: &'static str) -> Option<Fields<'a>> {
        let value = self.value(name)?;
        Some(value.fields(self.problems))
    }

    /// The tables that have that name: a list, or one alone.
    pub fn tables(&mut self, name: &'static str) -> Vec<Fields<'a>> {
        let each = self.value(name).map_or(&[][..], Value::each);
        each.iter()
            .map(|value| value.fields(self.problems))
            .collect()
    }

    /// The table of that name, by whose names things are told apart: each with its name.
    pub fn named(&mut self, name: &'static str) -> Vec<(&'a str, Fields<'a>)> {
        let Some(value) = self.value(name) else {
            return Vec::new();
        };
        let entries = value.fields(self.problems).entries;
        let each = entries.iter();
        each.map(|entry| (entry.key.as_str(), entry.value.fields(self.problems)))
            .collect()
    }

    /// Something about this table is wrong.
    pub fn wrong(&self, what: impl Into<String>) {
        self.problems.add(self.at, what);
    }

    /// Something about what has that name is wrong.
    pub fn wrong_at(&self, name: &str, what: impl Into<String>) {
        let entry = self.entries.iter().find(|entry| entry.key == name);
        let at = entry.map_or(self.at, |entry| entry.value.at);
        self.problems.add(at, what);
    }

    /// Names that nobody asked for are problems.
    pub fn end(self) {
        for entry in self.entries {
            if self.asked.contains(&entry.key.as_str()) {
                continue;
            }
            let mut what = format!("there is no {} here", entry.key);
            match nearest(&entry.key, &self.asked) {
                Some(name) => what += &format!(": did you mean {name}?"),
                None => what += &format!(": there are {}", self.asked.join(", ")),
            }
            self.problems.add(entry.at, what);
        }
    }
}

/// The name that was meant, if one begins so or is near enough.
fn nearest(key: &str, names: &[&'static str]) -> Option<&'static str> {
    let names = || names.iter().copied();
    let begun = names().filter(|name| key.len() > 2 && name.starts_with(key));
    let near = names().map(|name| (distance(key, name), name));
    let near = near.filter(|(distance, name)| *distance <= 1 + name.len() / 3);
    begun
        .min_by_key(|name| name.len())
        .or_else(|| near.min().map(|(_, name)| name))
}

/// How many letters are put in, taken out or changed to make one word of another. Long ones are not compared.
fn distance(one: &str, other: &str) -> usize {
    const LONGEST: usize = 64;
    if one.len().max(other.len()) > LONGEST {
        return usize::MAX;
    }
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, a) in one.chars().enumerate() {
        let mut corner = row[0];
        row[0] = line + 1;
        for (column, b) in other.iter().enumerate() {
            let changed = corner + usize::from(a != *b);
            corner = row[column + 1];
            row[column + 1] = changed.min(row[column] + 1).min(corner + 1);
        }
    }
    row[other.len()]
}
