//! Why a command line is refused.

use super::table::{PROGRAM, either};
use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;

/// Why a command line is refused: one line, with what is allowed and where to read on.
#[derive(Clone, PartialEq, Eq)]
pub struct UsageError {
    /// The command whose arguments they are, or its first word, if there was one.
    pub command: Option<&'static str>,
    /// What is wrong.
    pub wrong: Wrong,
}

bpfsmith_uapi::debug_as_display!(UsageError);

/// What is wrong with a command line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Wrong {
    /// There is no command.
    #[error("no command is given, such as status or run")]
    NoCommand,
    /// There is no such command.
    #[error("there is no command {given}{}", meant(near.as_slice()))]
    Command {
        /// What was given.
        given: String,
        /// What was meant, if that can be guessed.
        near: Option<&'static str>,
    },
    /// The second word of a command is missing.
    #[error("a word is missing behind it: {}", either(known))]
    NoWord {
        /// Those that there are.
        known: Vec<&'static str>,
    },
    /// There is no such second word.
    #[error("there is no {given} of it: it is {}{}", either(known), meant(near.as_slice()))]
    Word {
        /// What was given.
        given: String,
        /// What was meant, if that can be guessed.
        near: Option<&'static str>,
        /// Those that there are.
        known: Vec<&'static str>,
    },
    /// There is no such option.
    #[error("there is no option {given}{}", meant_or(near.as_slice(), known))]
    Option {
        /// What was given.
        given: String,
        /// What was meant, if that can be guessed.
        near: Option<&'static str>,
        /// Those that there are.
        known: Vec<&'static str>,
    },
    /// An option of some commands stands in front of the command.
    #[error("{option} stands behind its command, which is {}", either(commands))]
    Early {
        /// The option.
        option: &'static str,
        /// Commands that have it.
        commands: Vec<&'static str>,
    },
    /// An option has no value.
    #[error("{option} has no value: {allowed}")]
    NoValue {
        /// The option.
        option: &'static str,
        /// What is allowed.
        allowed: Cow<'static, str>,
    },
    /// An option has a value, and takes none.
    #[error("{option} takes no value: leave out what stands behind the =")]
    NotTaken {
        /// The option.
        option: &'static str,
    },
    /// An option is there twice, and has one value.
    #[error("{option} is there twice: it has one value")]
    Twice {
        /// The option.
        option: &'static str,
    },
    /// A value is not allowed.
    #[error("{of} is {given}: {allowed}{}", meant(near.as_slice()))]
    Value {
        /// The option or operand.
        of: &'static str,
        /// What was given.
        given: String,
        /// What is allowed.
        allowed: Cow<'static, str>,
        /// What was meant, if that can be guessed.
        near: Option<&'static str>,
    },
    /// Something has to be there.
    #[error("{what} is missing: {allowed}")]
    Missing {
        /// The options or operands.
        what: &'static str,
        /// What is allowed.
        allowed: Cow<'static, str>,
    },
    /// There are more operands than it takes.
    #[error("{given} is one too many: it is used as {usage}")]
    TooMany {
        /// The first that is too many.
        given: String,
        /// How the command is written.
        usage: String,
    },
    /// Two things exclude each other.
    #[error("{one} and {other} are both there: {why}")]
    Together {
        /// The one.
        one: &'static str,
        /// The other.
        other: &'static str,
        /// Why only one of them may be there.
        why: &'static str,
    },
    /// Something is there without what it belongs to.
    #[error("{one} is there without {other}")]
    Alone {
        /// What is there.
        one: &'static str,
        /// What is not.
        other: &'static str,
    },
    /// The ending of a file does not say what it is written in.
    #[error(
        "{file} has no ending that says what it is written in: --format {}",
        either(known)
    )]
    Ending {
        /// The file.
        file: String,
        /// What is possible.
        known: Vec<&'static str>,
    },
    /// An update that changes nothing.
    #[error("nothing is to be changed: give an option, such as --port")]
    Nothing,
    /// The command prints no JSON.
    #[error("it prints no JSON: leave out --json")]
    NoJson,
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let command = self.command.map(|it| format!(" {it}")).unwrap_or_default();
        let wrong = &self.wrong;
        write!(
            f,
            "{PROGRAM}{command}: {wrong} (see {PROGRAM}{command} --help)"
        )
    }
}

impl std::error::Error for UsageError {}

fn meant(near: &[&str]) -> String {
    match near {
        [name, ..] => format!(": did you mean {name}?"),
        [] => String::new(),
    }
}

fn meant_or(near: &[&str], known: &[&str]) -> String {
    match near {
        [] => format!(": there are {}", known.join(", ")),
        some => meant(some),
    }
}

/// What was given, so that an error stays one line of visible letters.
pub(crate) fn shown(given: &OsStr) -> String {
    const MOST: usize = 60;
    let text = given.to_string_lossy();
    let is_plain = |it: char| !it.is_control() && !it.is_whitespace() && it != '"';
    let short: String = text.chars().take(MOST).collect();
    let dots = if short.len() < text.len() { "…" } else { "" };
    match !text.is_empty() && text.chars().all(is_plain) {
        true => format!("{short}{dots}"),
        false => format!("{short:?}{dots}"),
    }
}

/// The name that was meant, if one begins so or is near enough.
pub(crate) fn nearest(
    given: &OsStr,
    names: impl IntoIterator<Item = &'static str>,
) -> Option<&'static str> {
    let given = given.to_str()?;
    let bare = |name: &str| name.trim_start_matches('-').chars().count();
    let measure = |name: &'static str| {
        let begins = bare(given) > 1 && name.starts_with(given);
        let apart = if begins { 0 } else { distance(given, name)? };
        let most = (bare(name) / 3).max(1).min(bare(name).saturating_sub(1));
        (apart <= most).then_some((apart, name))
    };
    let near = names.into_iter().filter_map(measure);
    near.min_by_key(|(apart, name)| (*apart, name.len()))
        .map(|(_, name)| name)
}

/// How many letters are put in, taken out or changed, or change places with the next one, to make one word of
/// another. Long ones are not compared.
fn distance(one: &str, other: &str) -> Option<usize> {
    const LONGEST: usize = 40;
    if one.len().max(other.len()) > LONGEST {
        return None;
    }
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let width = other.len() + 1;
    let mut rows: Vec<Vec<usize>> = vec![(0..width).collect()];
    for line in 1..=one.len() {
        let mut row = vec![line; width];
        for column in 1..width {
            let is_other = usize::from(one[line - 1] != other[column - 1]);
            let changed = rows[line - 1][column - 1] + is_other;
            row[column] = changed
                .min(rows[line - 1][column] + 1)
                .min(row[column - 1] + 1);
            let is_swapped = line > 1
                && column > 1
                && one[line - 1] == other[column - 2]
                && one[line - 2] == other[column - 1];
            if is_swapped {
                row[column] = row[column].min(rows[line - 2][column - 2] + 1);
            }
        }
        rows.push(row);
    }
    rows.last()?.last().copied()
}
