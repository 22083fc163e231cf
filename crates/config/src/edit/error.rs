//! Why a configuration was not changed.

use crate::problem::{Problem, Problems};
use std::fmt;

/// Why a configuration was not changed. It is as it was.
#[derive(Clone, Debug, PartialEq)]
pub enum EditError {
    /// What was given is no value that a configuration may have, or the configuration would be wrong with it. Each
    /// problem quotes the line that it is about: places are those of a text that nobody has seen.
    Problems(Problems),
    /// There is nothing of that name.
    Unknown {
        /// What it should be: a proxy, a group, a route, a target, a setting.
        what: &'static str,
        /// Its name.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// There is one already.
    Taken {
        /// What it is: a proxy, a group, a route, a target.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A group is still named.
    Used {
        /// The group.
        group: String,
        /// By whom.
        by: Vec<String>,
    },
    /// A group has no name of its own: it is the targets of a proxy, or of one of its routes.
    Inline {
        /// The group, as it is called in what is told.
        group: String,
        /// The proxy.
        proxy: String,
    },
}

impl From<Problems> for EditError {
    fn from(problems: Problems) -> EditError {
        EditError::Problems(problems)
    }
}

impl EditError {
    /// What is wrong with a text that would have come of an edit: problems say what they are about.
    pub(super) fn of(problems: &Problems, text: &str) -> EditError {
        let told = Problems::new();
        for Problem { at, what } in problems.list() {
            let number = usize::try_from(at.line.saturating_sub(1)).unwrap_or(usize::MAX);
            let line = text.lines().nth(number).unwrap_or_default().trim();
            match line {
                "" => told.add(at, what),
                line => {
                    let short: String = line.chars().take(60).collect();
                    let more = if short.len() < line.len() { "…" } else { "" };
                    told.add(at, format!("{what} (in {short}{more})"));
                }
            }
        }
        EditError::Problems(told)
    }
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EditError::Problems(problems) => {
                let list = problems.list();
                let told: Vec<&str> = list.iter().map(|it| it.what.as_str()).collect();
                write!(f, "nothing was changed: {}", told.join("; "))
            }
            EditError::Unknown { what, name, known } if known.is_empty() => {
                write!(f, "there is no {what} {name}: there are none")
            }
            EditError::Unknown { what, name, known } => {
                write!(
                    f,
                    "there is no {what} {name}: there are {}",
                    known.join(", ")
                )
            }
            EditError::Taken { what, name } => write!(
                f,
                "there is a {what} {name} already: change that one instead"
            ),
            EditError::Used { group, by } => write!(
                f,
                "group {group} is named by {}: give them another group first",
                by.join(", ")
            ),
            EditError::Inline { group, proxy } => write!(
                f,
                "group {group} has no name of its own, it is the targets of proxy {proxy}: change the proxy"
            ),
        }
    }
}

impl std::error::Error for EditError {}
