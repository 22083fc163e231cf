//! Why something failed: one line, with what to do next.

use bpfsmith_config::Problems;
use bpfsmith_uapi::Errno;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// What the functions of this crate return.
pub type Result<T> = std::result::Result<T, Error>;

/// Why something failed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What is wanted is wrong, or not possible here: all of it.
    #[error("{0}")]
    Wanted(Problems),
    /// The datapath refused.
    #[error(transparent)]
    Datapath(#[from] bpfsmith_datapath::error::Error),
    /// The network could not be asked.
    #[error(transparent)]
    Net(#[from] bpfsmith_net::Error),
    /// A map could not be read.
    #[error(transparent)]
    Map(#[from] bpfsmith_maps::Error),
    /// A change of the configuration is refused.
    #[error(transparent)]
    Edit(#[from] bpfsmith_config::edit::EditError),
    /// Names cannot be asked for.
    #[error(transparent)]
    Names(#[from] crate::dns::Error),
    /// Targets cannot be asked.
    #[error(transparent)]
    Checks(#[from] crate::health::Error),
    /// Nobody can be listened to.
    #[error(transparent)]
    Http(#[from] crate::http::Error),
    /// The configuration is of a file that is not written by this program.
    #[error("{} is JSON, and what is saved is TOML: write `bpfsmith-proxy config` to a file, and run with that", .0.display())]
    NoToml(PathBuf),
    /// The demo could not go on.
    #[error(transparent)]
    Demo(#[from] crate::demo::Error),
    /// The terminal is none, or is gone.
    #[error(transparent)]
    Terminal(#[from] crate::terminal::Error),
    /// What was changed could not be written down.
    #[error("the change is made, but not saved: {0}")]
    Unsaved(Box<Error>),
    /// The configuration is of no file.
    #[error("the configuration came from no file: name one when the proxy is started")]
    NoFile,
    /// A file could not be read or written.
    #[error("{}: {error} ({hint})", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: std::io::Error,
        /// What to do.
        hint: &'static str,
    },
    /// Something of this machine's is used up.
    #[error("{call}: {error} ({hint})")]
    Machine {
        /// What was asked for.
        call: &'static str,
        /// What the kernel answered.
        #[source]
        error: std::io::Error,
        /// What to do.
        hint: &'static str,
    },
    /// There is none of that name.
    #[error("there is no {what} {name}: {}", there_are(known))]
    Unknown {
        /// What was looked for.
        what: &'static str,
        /// Its name.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// There is one of that name already.
    #[error("there is a {what} {name} already: update it, or take another name")]
    Taken {
        /// What it is.
        what: &'static str,
        /// Its name.
        name: String,
    },
}

bpfsmith_uapi::debug_as_display!(Error);

impl From<Problems> for Error {
    fn from(problems: Problems) -> Error {
        Error::Wanted(problems)
    }
}

impl Error {
    /// What the kernel answered, if it was asked.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Error::Datapath(error) => error.errno(),
            Error::Net(error) => error.errno(),
            Error::Map(error) => error.errno(),
            Error::Unsaved(error) => error.errno(),
            Error::File { error, .. } | Error::Machine { error, .. } => Errno::of(error),
            _ => None,
        }
    }
}

fn there_are(known: &[String]) -> String {
    // Several groups may have one target.
    let known: BTreeSet<&str> = known.iter().map(String::as_str).collect();
    let known: Vec<&str> = known.into_iter().collect();
    match known.as_slice() {
        [] => "there are none".to_owned(),
        some => format!("there are {}", some.join(", ")),
    }
}
