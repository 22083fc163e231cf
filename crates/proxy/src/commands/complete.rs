//! What completes a line: scripts for shells, and a function for the shell of its own.

mod bash;
mod fish;
mod zsh;

use super::table::{self, Count, FAMILIES, Family, GLOBAL, Kind, Opt, Section, Spec, VERSION};
use super::words::{Names as Known, Shell};
use std::fmt::Write;

/// The script that gives a shell its completions.
#[must_use]
pub fn script(shell: Shell) -> String {
    match shell {
        Shell::Bash => bash::script(),
        Shell::Zsh => zsh::script(),
        Shell::Fish => fish::script(),
    }
}

/// Knows names of what is there.
pub trait Names {
    /// Those of one kind; none if nobody can be asked.
    fn names(&self, kind: Known) -> Vec<String>;
}

/// What may stand where the cursor is: the byte of the line where it begins, and all that begins like what is
/// there up to the cursor. Names of files are not among it.
#[must_use]
pub fn complete(line: &str, cursor: usize, names: &dyn Names) -> (usize, Vec<String>) {
    let mut cursor = cursor.min(line.len());
    while !line.is_char_boundary(cursor) {
        cursor -= 1;
    }
    let line = &line[..cursor];
    let start = line.rfind(char::is_whitespace).map_or(0, |at| {
        at + line[at..].chars().next().map_or(0, char::len_utf8)
    });
    let (before, word) = line.split_at(start);
    let place = Place::behind(before.split_whitespace());
    let (skipped, found) = place.candidates(word, names);
    let begun = &word[skipped..];
    let mut found: Vec<String> = found
        .into_iter()
        .filter(|it| it.starts_with(begun))
        .collect();
    found.sort();
    found.dedup();
    (start + skipped, found)
}

/// Where a word stands.
#[derive(Default)]
struct Place {
    family: Option<&'static Family>,
    spec: Option<&'static Spec>,
    /// The first word is no command.
    is_lost: bool,
    /// How many operands stand before it.
    operand: usize,
    /// The first of them.
    first: String,
    /// What the option before it takes.
    wanted: Option<Kind>,
    /// Two dashes stand before it.
    is_rest: bool,
}

impl Place {
    fn behind<'a>(words: impl Iterator<Item = &'a str>) -> Place {
        let mut place = Place::default();
        for word in words {
            place.pass(word);
        }
        place
    }

    fn pass(&mut self, word: &str) {
        if self.wanted.take().is_some() {
            return;
        }
        if !self.is_rest && word.len() > 1 && word.starts_with('-') {
            self.is_rest = word == "--";
            self.wanted = self
                .option(word)
                .and_then(|it| it.value)
                .map(|(_, kind)| kind);
        } else if self.spec.is_some() {
            if self.operand == 0 {
                word.clone_into(&mut self.first);
            }
            self.operand += 1;
        } else if let Some(family) = self.family {
            self.spec = family.commands().find(|spec| spec.word() == word);
            self.is_lost = self.spec.is_none();
        } else {
            self.family = Family::find(word);
            self.spec = table::find(word);
            self.is_lost = self.family.is_none() && self.spec.is_none();
        }
    }

    fn option(&self, written: &str) -> Option<&'static Opt> {
        match self.spec {
            Some(spec) => spec.option(written),
            None => table::among(GLOBAL, written),
        }
    }

    /// How much of the word stays as it is, and what may stand behind that.
    fn candidates(&self, word: &str, names: &dyn Names) -> (usize, Vec<String>) {
        let nothing = (0, Vec::new());
        if let Some(kind) = self.wanted {
            return values(kind, word, names);
        }
        if self.is_lost {
            return nothing;
        }
        if !self.is_rest && word.starts_with('-') {
            let Some((option, value)) = word.split_once('=') else {
                return (0, options(self.spec).map(|it| it.long.to_owned()).collect());
            };
            let kind = self
                .option(option)
                .and_then(|it| it.value)
                .map(|(_, kind)| kind);
            let skipped = option.len() + 1;
            return kind.map_or(nothing, |kind| {
                let (more, found) = values(kind, value, names);
                (skipped + more, found)
            });
        }
        let Some(spec) = self.spec else {
            return (
                0,
                words(self.family)
                    .map(|(word, _)| word.to_owned())
                    .collect(),
            );
        };
        match operand(spec, self.operand) {
            Some(Kind::Command) if self.operand > 0 => match Family::find(&self.first) {
                Some(family) => (
                    0,
                    words(Some(family))
                        .map(|(word, _)| word.to_owned())
                        .collect(),
                ),
                None => nothing,
            },
            Some(kind) => values(kind, word, names),
            None => nothing,
        }
    }
}

/// Words that may stand where a value does, behind so much of it.
fn values(kind: Kind, value: &str, names: &dyn Names) -> (usize, Vec<String>) {
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    match kind {
        Kind::Words(words) => (0, owned(words)),
        Kind::Several(words) => (value.rfind(',').map_or(0, |at| at + 1), owned(words)),
        Kind::Known(kind) => (0, names.names(kind)),
        Kind::Command => (0, words(None).map(|(word, _)| word.to_owned()).collect()),
        _ => (0, Vec::new()),
    }
}

/// Options of a command, or of none.
fn options(spec: Option<&'static Spec>) -> impl Iterator<Item = &'static Opt> {
    let own = spec.map_or(&[][..], |spec| spec.options);
    let version = spec.is_none().then_some(&VERSION);
    own.iter().chain(GLOBAL).chain(version)
}

/// Words that may be the command, or the second word of one, and what they do.
fn words(family: Option<&Family>) -> impl Iterator<Item = (&'static str, &'static str)> {
    let of = family.map(|family| family.name);
    let one = |spec: &'static Spec| (spec.word(), spec.summary);
    let is_shown = |spec: &&Spec| spec.section != Section::Hidden;
    let specs = table::all().filter(is_shown);
    let own = specs.filter(move |spec| spec.family().map(|family| family.name) == of);
    let families = FAMILIES.iter().filter(move |_| of.is_none());
    own.map(one)
        .chain(families.map(|family| (family.name, family.summary)))
}

/// The kind of an operand.
fn operand(spec: &Spec, number: usize) -> Option<Kind> {
    let last = spec.operands.last()?;
    let more = (last.count == Count::Some || last.kind == Kind::Command).then_some(last);
    spec.operands.get(number).or(more).map(|it| it.kind)
}

/// What scripts call a kind: a word, and what belongs to it.
fn called(kind: Kind) -> String {
    match kind {
        Kind::File => "file".to_owned(),
        Kind::Directory => "directory".to_owned(),
        Kind::Words(words) => format!("words {}", words.join(" ")),
        Kind::Several(words) => format!("several {}", words.join(" ")),
        Kind::Known(names) => format!("names {names}"),
        Kind::Command => "command".to_owned(),
        _ => "any".to_owned(),
    }
}

/// A row of a shell's `case`: words of a command and an option, and what the option takes.
fn option_rows(row: impl Fn(&str, &str) -> String) -> String {
    let mut rows = String::new();
    let mut all = |name: &str, options: &'static [Opt]| {
        for option in options {
            let Some((_, kind)) = option.value else {
                continue;
            };
            let short = option.short.map(|letter| format!("-{letter}"));
            for written in [Some(option.long.to_owned()), short].into_iter().flatten() {
                rows += &row(&format!("{name}{written}"), &called(kind));
            }
        }
    };
    for spec in table::all() {
        all(&format!("{}:", spec.name), spec.options);
    }
    all("*:", GLOBAL);
    rows
}

/// The same for operands: `add:0`.
fn operand_rows(row: impl Fn(&str, &str) -> String) -> String {
    let mut rows = String::new();
    for spec in table::all().filter(|spec| spec.section != Section::Hidden) {
        for (number, operand) in spec.operands.iter().enumerate() {
            let place = match operand.count {
                Count::Some => format!("{}:*", spec.name),
                _ => format!("{}:{number}", spec.name),
            };
            rows += &row(&place, &called(operand.kind));
        }
    }
    rows
}

/// Words, each with what it does, for each place where a command's words stand: nothing, `route` and so on.
fn word_lists() -> Vec<(&'static str, Vec<(&'static str, &'static str)>)> {
    let families = FAMILIES
        .iter()
        .map(|family| (family.name, words(Some(family)).collect()));
    [("", words(None).collect())]
        .into_iter()
        .chain(families)
        .collect()
}

/// Options for each command, and for none, with what they are for.
fn option_lists() -> Vec<(&'static str, Vec<(String, &'static str)>)> {
    let list = |spec: Option<&'static Spec>| {
        let mut list = Vec::new();
        for option in options(spec) {
            list.push((option.long.to_owned(), option.text));
        }
        list
    };
    let shown = table::all().filter(|spec| spec.section != Section::Hidden);
    let of_commands = shown.map(|spec| (spec.name, list(Some(spec))));
    [("", list(None))].into_iter().chain(of_commands).collect()
}

/// A text with quotes around it for a shell of the Bourne family.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// What families are called, with bars between.
fn families(bar: &str) -> String {
    let names: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
    names.join(bar)
}

/// What a text says up to its first comma or semicolon: descriptions beside candidates are short.
fn brief(text: &str) -> &str {
    text.split([';', '.', ':'])
        .next()
        .unwrap_or(text)
        .trim_end()
}

/// A script with its tables in their places.
fn filled(script: &str, tables: &[(&str, String)]) -> String {
    let mut out = String::new();
    for line in script.lines() {
        match tables.iter().find(|(name, _)| line.trim() == *name) {
            Some((_, table)) => out += table,
            None => {
                // Writing to a string does not fail.
                let _ = writeln!(out, "{line}");
            }
        }
    }
    out
}
