//! Why asking or serving failed: one line, with what to do next.

use bpfsmith_uapi::Errno;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// What the functions of this module return.
pub type Result<T> = std::result::Result<T, Error>;

/// Why asking or serving failed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A call about a socket file.
    #[error("{call} {}: {errno}{}", path.display(), hint(call, *errno))]
    File {
        /// The call.
        call: &'static str,
        /// The socket, or the file beside it that keeps others out while it is made.
        path: PathBuf,
        /// Why not.
        errno: Errno,
    },
    /// A call about an address of TCP.
    #[error("{call} {address}: {errno}{}", address_hint(call, *errno))]
    Address {
        /// The call.
        call: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why not.
        errno: Errno,
    },
    /// A call about something that has no name.
    #[error("{call}: {errno}{}", hint(call, *errno))]
    Call {
        /// The call.
        call: &'static str,
        /// Why not.
        errno: Errno,
    },
    /// Another process serves on the socket.
    #[error(
        "bind {}: process {pid} serves there (stop that one first, or name another socket)", path.display()
    )]
    Served {
        /// The socket.
        path: PathBuf,
        /// Who made it listen.
        pid: i32,
    },
    /// What is there is no socket, and is left alone.
    #[error("bind {}: there is a file that is no socket (name another path)", path.display())]
    NoSocket {
        /// The file.
        path: PathBuf,
    },
    /// Nothing came in time.
    #[error("read {}: no answer within {seconds} s (see what the daemon does, or wait longer)", path.display())]
    Late {
        /// The socket.
        path: PathBuf,
        /// How long was waited.
        seconds: u64,
    },
    /// What came is no answer.
    #[error("read {}: {garbled}", path.display())]
    Garbled {
        /// The socket.
        path: PathBuf,
        /// What is wrong with it.
        garbled: Garbled,
    },
    /// A stream was asked for, and something else was answered.
    #[error("GET {target}: {status} {} (the daemon says why)", said(body))]
    Status {
        /// What was asked for.
        target: String,
        /// The status.
        status: u16,
        /// What was told with it.
        body: Vec<u8>,
    },
    /// Text that cannot stand in a request.
    #[error("a request for {text:?}: this is no target (make one with http::target)")]
    Target {
        /// The text.
        text: String,
    },
}

bpfsmith_uapi::debug_as_display!(Error);

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Garbled {
    /// It ends before it is complete.
    Cut,
    /// Its head is none.
    Head,
    /// It is longer than this client takes.
    Long,
    /// A chunk of it is none.
    Chunk,
    /// A line of a stream is no text, or longer than this client takes.
    Line,
}

impl Garbled {
    /// All of them.
    pub const ALL: [Garbled; 5] = [
        Garbled::Cut,
        Garbled::Head,
        Garbled::Long,
        Garbled::Chunk,
        Garbled::Line,
    ];

    const fn row(self) -> (&'static str, &'static str) {
        match self {
            Garbled::Cut => (
                "the answer ends before it is complete",
                "the daemon ended, or was told to: see its log",
            ),
            Garbled::Head => (
                "what answers there does not speak HTTP/1.1",
                "name the socket of the daemon",
            ),
            Garbled::Long => ("the answer is too long", "ask for less of it"),
            Garbled::Chunk => (
                "a part of the answer is broken",
                "use the same version as the daemon",
            ),
            Garbled::Line => (
                "a line of the answer is no text, or too long",
                "use the same version as the daemon",
            ),
        }
    }
}

impl fmt::Display for Garbled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, next) = self.row();
        write!(f, "{what} ({next})")
    }
}

/// What to do next: the call, the error number, the hint.
const HINTS: &[(&str, Errno, &str)] = &[
    (
        "connect",
        Errno::ENOENT,
        "is the daemon running? start it: bpfsmith-proxy run CONFIG",
    ),
    (
        "connect",
        Errno::ECONNREFUSED,
        "the daemon that made it is gone: start it again: bpfsmith-proxy run CONFIG",
    ),
    (
        "connect",
        Errno::EACCES,
        "run as root, or as the user of the daemon",
    ),
    (
        "connect",
        Errno::EAGAIN,
        "too many are waiting for the daemon: try again, or see what it does",
    ),
    (
        "connect",
        Errno::ENAMETOOLONG,
        "the path of a socket may have 107 bytes",
    ),
    ("connect", Errno::ENOTSOCK, "name the socket of the daemon"),
    (
        "bind",
        Errno::ENAMETOOLONG,
        "the path of a socket may have 107 bytes",
    ),
    ("bind", Errno::ENOENT, "make the directory above it first"),
    (
        "bind",
        Errno::EACCES,
        "run as root, or name a path that may be written",
    ),
    (
        "bind",
        Errno::EADDRINUSE,
        "name another one, or stop whoever has it",
    ),
    (
        "bind",
        Errno::EADDRNOTAVAIL,
        "name an address of this machine",
    ),
    ("open", Errno::ENOENT, "make the directory above it first"),
    (
        "open",
        Errno::EACCES,
        "run as root, or name a path that may be written",
    ),
    (
        "open",
        Errno::ELOOP,
        "somebody put a link there: name a path in a directory that only root may write",
    ),
    (
        "flock",
        Errno::EAGAIN,
        "another daemon is being started: see that one first",
    ),
    (
        "connect to see who serves",
        Errno::EACCES,
        "run as root, or name another socket",
    ),
];

fn hint(call: &str, errno: Errno) -> String {
    let mut rows = HINTS.iter();
    let row = rows.find(|row| (row.0, row.1) == (call, errno));
    row.map_or_else(String::new, |(_, _, hint)| format!(" ({hint})"))
}

/// What is no path needs other rights.
fn address_hint(call: &str, errno: Errno) -> String {
    match (call, errno) {
        ("bind", Errno::EACCES) => {
            " (ports below 1024 take CAP_NET_BIND_SERVICE at the start: name another port, or run as root)"
                .to_owned()
        }
        _ => hint(call, errno),
    }
}

/// The beginning of what was told, in one line.
fn said(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let line: String = text.trim_end().chars().take(200).map(plain).collect();
    line
}

impl Error {
    pub(super) fn file(call: &'static str, path: &Path, errno: Errno) -> Error {
        Error::File {
            call,
            path: path.to_owned(),
            errno,
        }
    }
}

/// The number in an error of the library, which all of those have that come from a call.
pub(super) fn number(error: &std::io::Error) -> Errno {
    Errno::of(error).unwrap_or(Errno::EINVAL)
}

/// The number in an error of a call.
pub(super) const fn errno(errno: nix::errno::Errno) -> Errno {
    Errno(errno as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_is_found_and_says_something() {
        for &(call, errno, text) in HINTS {
            assert_eq!(hint(call, errno), format!(" ({text})"));
            let rows = HINTS.iter().filter(|row| (row.0, row.1) == (call, errno));
            assert_eq!(rows.count(), 1, "{call} {errno}");
            assert!(!text.is_empty() && !text.contains('\n'));
        }
        assert_eq!(hint("connect", Errno::EIO), "");
        for garbled in Garbled::ALL {
            let (what, next) = garbled.row();
            assert!(!what.is_empty() && !next.is_empty());
        }
    }

    #[test]
    fn an_error_is_one_line_that_names_all() {
        let path = Path::new("/run/x.sock");
        assert_eq!(
            Error::file("connect", path, Errno::ENOENT).to_string(),
            "connect /run/x.sock: ENOENT (is the daemon running? start it: bpfsmith-proxy run CONFIG)"
        );
        let status = Error::Status {
            target: "/events".to_owned(),
            status: 403,
            body: b"{\"error\":\"no\"}\r\n".to_vec(),
        };
        assert_eq!(
            status.to_string(),
            "GET /events: 403 {\"error\":\"no\"} (the daemon says why)"
        );
    }
}
