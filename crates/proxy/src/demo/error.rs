//! Why the demo could not go on.

use bpfsmith_sys::Refused;
use nix::sys::signal::Signal;
use std::path::PathBuf;

/// What the functions of the demo return.
pub(super) type Result<T> = std::result::Result<T, Error>;

/// Why the demo could not go on: one line, with what to do next.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It may not make networks, or mount.
    #[error(
        "demo: {refused}; it builds machines of its own and loads programs: run it as root, \
         like `sudo bpfsmith-proxy demo`, and in a container with all privileges"
    )]
    Rights {
        /// What was refused.
        refused: String,
    },
    /// The network could not be built.
    #[error(transparent)]
    Net(bpfsmith_net::Error),
    /// Nothing can be mounted.
    #[error("demo: {0}: programs get their names in a BPF file system")]
    Mount(Refused),
    /// The daemon does not answer as it should.
    #[error(transparent)]
    Http(#[from] crate::http::Error),
    /// What it answers cannot be read.
    #[error("demo: the daemon's answer: {0}")]
    Answer(#[from] bpfsmith_config::Problems),
    /// The daemon refused.
    #[error("demo: {command}: {why}")]
    Refused {
        /// What it was asked for.
        command: String,
        /// Its answer.
        why: String,
    },
    /// The daemon is gone.
    #[error("demo: the daemon ended ({how}): {said}")]
    Daemon {
        /// How it ended.
        how: String,
        /// What it said last.
        said: String,
    },
    /// Something did not happen.
    #[error("demo: {what} did not happen within {seconds} s: is the machine very busy? try again")]
    Late {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
    },
    /// A file could not be written.
    #[error("demo: {}: {error} (is there room, and may it be written? TMPDIR says where)", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: std::io::Error,
    },
    /// The machine refused.
    #[error("demo: {call}: {error} (see ulimit -n and ulimit -u)")]
    Machine {
        /// What was asked for.
        call: &'static str,
        /// What the kernel answered.
        #[source]
        error: std::io::Error,
    },
    /// Programs cannot be taken away.
    #[error(transparent)]
    Detach(#[from] bpfsmith_datapath::error::Error),
    /// Somebody ended it.
    #[error("demo: ended by {}", .0.as_str())]
    Ended(Signal),
    /// Nobody reads what it prints.
    #[error("demo: nobody reads what is printed")]
    Unread,
}

bpfsmith_uapi::debug_as_display!(Error);

impl From<bpfsmith_net::Error> for Error {
    fn from(error: bpfsmith_net::Error) -> Error {
        match error.errno() {
            Some(bpfsmith_uapi::Errno::EPERM) => Error::Rights {
                refused: error.to_string(),
            },
            _ => Error::Net(error),
        }
    }
}

impl Error {
    /// For what the machine refused.
    pub(super) fn machine(call: &'static str) -> impl Fn(std::io::Error) -> Error {
        move |error| Error::Machine { call, error }
    }
}
