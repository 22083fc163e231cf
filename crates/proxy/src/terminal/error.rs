//! Why something about the terminal failed.

use super::line::LONGEST_LINE;
use bpfsmith_sys::Refused;
use bpfsmith_uapi::Errno;
use std::fmt;
use std::path::PathBuf;

/// What the functions of this module return.
pub type Result<T> = std::result::Result<T, Error>;

/// Why something about the terminal failed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A screen was to be drawn where there is none.
    #[error("draw a screen: {0} is no terminal: {hint}", hint = ONCE)]
    NoTerminal(Stream),
    /// The terminal cannot place a cursor, as `TERM` says.
    #[error("draw a screen: the terminal is TERM={term:?}, which has no screen: {hint}", hint = ONCE)]
    Dumb {
        /// What `TERM` says.
        term: String,
    },
    /// A screen or a line that is being read has the terminal already.
    #[error(
        "take the terminal: this process has taken it already: drop the other Screen or Reader first"
    )]
    Taken,
    /// The terminal is gone.
    #[error("read keys: the terminal was closed")]
    Closed,
    /// A system call failed.
    #[error("terminal: {0}")]
    System(#[from] Refused),
    /// A line of the input is no text.
    #[error("read line {line}: it is not UTF-8: save the script as UTF-8")]
    NotText {
        /// Its number, from 1.
        line: u64,
    },
    /// A line of the input is too long.
    #[error("read line {line}: it is longer than {LONGEST_LINE} bytes: is this a script?")]
    TooLong {
        /// Its number, from 1.
        line: u64,
    },
    /// The history could not be read or kept.
    #[error("{}", history(.call, .path, *.errno))]
    History {
        /// What was called.
        call: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        errno: Errno,
    },
    /// The file of the history is something else.
    #[error("history {path:?}: it is no regular file: choose another, or none")]
    HistoryKind {
        /// The file.
        path: PathBuf,
    },
}

bpfsmith_uapi::debug_as_display!(Error);

/// What to do where there is no screen.
const ONCE: &str = "use --once or --json";

/// Where a process reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard input.
    Input,
    /// Standard output.
    Output,
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Stream::Input => "standard input",
            Stream::Output => "standard output",
        })
    }
}

/// What an error number means for the history.
const HINTS: &[(Errno, &str)] = &[
    (Errno::ENOENT, "its directory is missing: make it"),
    (Errno::ENOTDIR, "a part of the path is no directory"),
    (Errno::EACCES, "its owner or mode keep you out"),
    (Errno::EPERM, "its owner or mode keep you out"),
    (Errno::EROFS, "the file system is read-only"),
    (Errno::ENOSPC, "the file system is full"),
    (Errno::EDQUOT, "your quota is used up"),
];

fn history(call: &str, path: &std::path::Path, errno: Errno) -> String {
    let hint = HINTS.iter().find(|row| row.0 == errno);
    let hint = hint.map_or("choose another file, or none", |row| row.1);
    format!("history {path:?}: {call}: {errno}: {hint}")
}

/// A refusal as nix tells it.
pub(crate) fn refused(call: &'static str) -> impl Fn(nix::errno::Errno) -> Error {
    move |errno| {
        Error::System(Refused {
            call,
            errno: Errno(errno as i32),
        })
    }
}

/// A refusal as the standard library tells it.
pub(crate) fn io(call: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |error| {
        Error::System(Refused {
            call,
            errno: Errno::of(&error).unwrap_or(Errno::EIO),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_one_line_and_say_what_to_do() {
        let path = PathBuf::from("/root/.x\n\u{1b}[31m");
        let call = "rename";
        for error in [
            Error::NoTerminal(Stream::Output),
            Error::Dumb {
                term: "dumb\x1b[31m".to_owned(),
            },
            Error::Taken,
            Error::NotText { line: 3 },
            Error::TooLong { line: 3 },
            Error::HistoryKind { path: path.clone() },
            Error::History {
                call,
                path,
                errno: Errno::EROFS,
            },
        ] {
            let text = error.to_string();
            assert!(!text.chars().any(char::is_control), "{text:?}");
            assert!(text.matches(": ").count() >= 2, "{text}");
        }
    }

    #[test]
    fn each_number_has_one_hint() {
        for (place, (errno, hint)) in HINTS.iter().enumerate() {
            assert!(!hint.is_empty());
            assert!(!HINTS[..place].iter().any(|row| row.0 == *errno), "{errno}");
            let text = history("open", std::path::Path::new("/x"), *errno);
            assert!(text.ends_with(hint), "{text}");
        }
    }
}
