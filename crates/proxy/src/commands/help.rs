//! Pages of help: text of 80 columns, made from the table.

use super::parse::Topic;
use super::table::{
    self, ABOUT, Count, Family, GLOBAL, Operand, Opt, PROGRAM, SUMMARY, Section, Spec, VERSION,
};
use super::words::Exit;

/// Columns of a page.
const WIDTH: usize = 80;

/// The column where explanations begin.
const COLUMN: usize = 24;

/// The page, with a line's end behind each line.
#[must_use]
pub fn page(topic: Topic) -> String {
    match topic {
        Topic::Overview => overview(),
        Topic::Family(family) => of_family(family),
        Topic::Command(spec) => of_command(spec),
    }
}

fn overview() -> String {
    let mut page = format!("{PROGRAM}: {SUMMARY}\n\nUsage: {PROGRAM} COMMAND [OPTION…]\n\n");
    page += &paragraphs(ABOUT);
    for section in Section::SHOWN {
        page += &format!("\n{}:\n", section.title());
        for spec in table::all().filter(|spec| spec.section == *section) {
            page += &row(spec.name, spec.summary, 17);
        }
    }
    page += "\nOptions of all commands, in front of the command or behind it:\n";
    for option in GLOBAL.iter().chain([&VERSION]) {
        page += &row(&written(option), option.text, COLUMN);
    }
    page += "\nExit status:\n";
    page += &exits(Exit::ALL);
    let more = format!("`{PROGRAM} help COMMAND` says more about a command, with examples.");
    format!("{page}\n{more}\n")
}

fn of_family(family: &Family) -> String {
    let mut page = format!("{}\n\n", begun(family.summary));
    page += &usage(family.commands().flat_map(Spec::usages));
    page += "\nCommands:\n";
    for spec in family.commands() {
        page += &row(spec.name, spec.summary, 17);
    }
    let name = family.name;
    format!("{page}\n`{PROGRAM} help {name} WORD` says more about one of them.\n")
}

fn of_command(spec: &Spec) -> String {
    let mut page = format!("{}\n\n", begun(spec.summary));
    page += &usage(spec.usages());
    page += &format!("\n{}", paragraphs(spec.text));
    if !spec.operands.is_empty() {
        page += "\nOperands:\n";
        for operand in spec.operands {
            page += &row(&placed(operand), operand.text, COLUMN);
        }
    }
    page += "\nOptions:\n";
    let globals = GLOBAL
        .iter()
        .filter(|it| it.long != "--json" || spec.has_json());
    for option in spec.options.iter().chain(globals) {
        page += &row(&written(option), &explained(option), COLUMN);
    }
    if !spec.examples.is_empty() {
        page += "\nExamples:\n";
        for (line, what) in spec.examples {
            page += &example(line, what);
        }
    }
    page += "\nExit status:\n";
    page + &exits(spec.exits)
}

fn usage(forms: impl IntoIterator<Item = String>) -> String {
    let mut page = String::new();
    for (number, form) in forms.into_iter().enumerate() {
        let begin = if number == 0 { "Usage: " } else { "       " };
        page += &format!("{begin}{PROGRAM} {form}\n");
    }
    page
}

/// An example: what it does above it, if that has to be said.
fn example(line: &str, what: &str) -> String {
    let what = match what {
        "" => String::new(),
        what => format!("  # {what}\n"),
    };
    format!("{what}  {PROGRAM} {line}\n")
}

fn exits(exits: &[Exit]) -> String {
    let rows = exits
        .iter()
        .map(|exit| row(&exit.code().to_string(), exit.meaning(), 5));
    rows.collect()
}

/// How an option is written, with room for a letter.
#[must_use]
pub fn written(option: &Opt) -> String {
    let letter = match option.short {
        Some(letter) => format!("-{letter}, "),
        None => "    ".to_owned(),
    };
    match option.value {
        Some((value, _)) => format!("{letter}{} {value}", option.long),
        None => format!("{letter}{}", option.long),
    }
}

/// What an option is for, and whether it may be there again.
pub(crate) fn explained(option: &Opt) -> String {
    match option.is_repeated {
        true => format!("{}; may be there more than once", option.text),
        false => option.text.to_owned(),
    }
}

/// How an operand is written.
pub(crate) fn placed(operand: &Operand) -> String {
    match operand.count {
        Count::One => operand.name.to_owned(),
        Count::Optional => format!("[{}]", operand.name),
        Count::Some => format!("{}…", operand.name),
    }
}

/// A sentence's beginning.
pub(crate) fn begun(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|it| it.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}

/// A name and what it is, which begins in that column, or on the next line if the name is too long.
fn row(name: &str, text: &str, column: usize) -> String {
    let name = format!("  {name}");
    let width = name.chars().count();
    let text = wrapped(text, column);
    match width + 2 <= column {
        true => format!("{name}{}{}", " ".repeat(column - width), text.trim_start()),
        false => format!("{name}\n{text}"),
    }
}

fn paragraphs(text: &str) -> String {
    let each = text.split("\n\n").map(|paragraph| wrapped(paragraph, 0));
    each.collect::<Vec<_>>().join("\n")
}

/// Lines that begin in that column, each with its end.
fn wrapped(text: &str, column: usize) -> String {
    let mut page = String::new();
    let mut width = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if width > 0 && width + 1 + length <= WIDTH {
            page.push(' ');
            width += 1 + length;
        } else {
            if width > 0 {
                page.push('\n');
            }
            page += &" ".repeat(column);
            width = column + length;
        }
        page += word;
    }
    page + "\n"
}
