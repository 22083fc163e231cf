//! Why something about steering failed: one line, with what to do next.

use crate::binding::{BadBinding, BadLabel, Binding, Label};
use bpfsmith_sys::Refused;
use bpfsmith_uapi::Errno;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// What the functions of this crate return.
pub type Result<T> = std::result::Result<T, Error>;

/// Why something about steering failed.
#[non_exhaustive]
pub enum Error {
    /// A map could not be made, opened, read or written.
    Map(bpfsmith_maps::Error),
    /// The program could not be loaded, attached, opened or run.
    Prog(bpfsmith_prog::Error),
    /// The namespace could not be reached.
    Net(bpfsmith_net::Error),
    /// A file or directory could not be made, opened, locked or removed.
    File {
        /// The call.
        call: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        errno: Errno,
    },
    /// The directory is not as it should be.
    Home {
        /// The directory.
        dir: PathBuf,
        /// What is wrong.
        problem: HomeProblem,
    },
    /// Text that is no binding.
    Binding(BadBinding),
    /// Text that is no label.
    Label(BadLabel),
    /// Two rules for one binding.
    Contradiction {
        /// The binding.
        binding: Binding,
        /// Both services.
        services: [Label; 2],
    },
    /// A packet from one family to the other.
    Families {
        /// Where it comes from.
        from: SocketAddr,
        /// Where it goes.
        to: SocketAddr,
    },
    /// A service that is not there.
    NoService {
        /// What was looked for.
        label: Label,
        /// Those that are there.
        has: Vec<Label>,
    },
    /// A service that still has bindings.
    Bound {
        /// The service.
        label: Label,
        /// One of them.
        binding: Binding,
    },
    /// There is no room.
    Full {
        /// For what.
        what: &'static str,
        /// How many there may be.
        most: u32,
    },
    /// A socket that nothing can be steered to.
    Socket {
        /// The service that it was for.
        label: Label,
        /// What is wrong with it.
        problem: SocketProblem,
    },
    /// A socket could not be asked or passed on.
    Call(Refused),
    /// Bytes in a map that this crate does not write.
    Foreign {
        /// The map.
        map: &'static str,
    },
    /// A hand-over that went wrong.
    Handover(HandoverProblem),
}

bpfsmith_uapi::debug_as_display!(Error);

/// What is wrong with a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HomeProblem {
    /// It is there already.
    Exists,
    /// It is not there, or nothing is in it.
    Missing,
    /// It was removed and made again since it was opened.
    Replaced,
    /// A pin is not there.
    Incomplete {
        /// Which.
        pin: &'static str,
    },
    /// It is in no bpffs.
    NotBpffs,
    /// What is pinned has another layout.
    Layout {
        /// Its version.
        found: u32,
        /// The version of this library.
        ours: u32,
    },
    /// What is pinned is not of this library.
    Foreign,
}

/// What is wrong with a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SocketProblem {
    /// It is no socket.
    NoSocket,
    /// It is neither IPv4 nor IPv6.
    Family(u32),
    /// It is neither TCP nor UDP.
    Protocol(u32),
    /// A raw socket.
    Raw,
    /// A TCP socket that does not listen.
    NotListening,
    /// A UDP socket that is connected.
    Connected,
    /// A UDP socket that is not bound.
    Unbound,
    /// It is in another network namespace.
    Namespace,
}

/// What is wrong with a hand-over.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandoverProblem {
    /// The other end went before everything was there.
    Closed,
    /// Nothing came, or nothing was read, in the time that the stream waits.
    TimedOut,
    /// The other end does not speak this protocol.
    Garbled,
    /// The other end speaks another version of it.
    Version {
        /// Its version.
        found: u16,
        /// The version of this library.
        ours: u16,
    },
    /// More sockets than one hand-over takes.
    TooMany {
        /// How many.
        sockets: usize,
        /// How many there may be.
        most: usize,
    },
    /// The other end did not take all of them.
    Refused {
        /// How many it took.
        took: u32,
        /// How many were sent.
        sent: u32,
    },
}

/// Problems by name, and what to do next.
const HINTS: &[(&str, &str)] = &[
    ("exists", "open it with Steering::open, or remove it first"),
    ("missing", "make it with Steering::create"),
    ("replaced", "open it again"),
    (
        "incomplete",
        "if it is the right directory, whoever made it did not finish: remove it and make it again",
    ),
    ("not bpffs", "mount one: mount -t bpf none DIR"),
    (
        "layout",
        "use the version of the library that made it, or remove it and make it again",
    ),
    ("foreign", "choose another directory"),
    ("no socket", "pass the descriptor of a socket"),
    ("family", "pass a socket of AF_INET or AF_INET6"),
    ("protocol", "pass a socket of TCP or UDP"),
    (
        "raw",
        "pass a socket of SOCK_STREAM for TCP, or SOCK_DGRAM for UDP",
    ),
    ("not listening", "call listen first"),
    (
        "connected",
        "datagrams for a connected socket never come here: register one that is only bound",
    ),
    (
        "unbound",
        "bind it first, to port 0 if the port does not matter",
    ),
    (
        "namespace",
        "a socket belongs to the namespace of the thread that made it: make it in the one that is \
         steered",
    ),
    ("closed", "see why the other process ended, and start over"),
    (
        "timed out",
        "see what the other process does, or let the stream wait longer; it is of no use any more",
    ),
    (
        "garbled",
        "connect both ends by handover::send and handover::receive",
    ),
    (
        "version",
        "use the same version of the library at both ends",
    ),
    ("too many", "hand them over in several calls"),
    ("refused", "the other process says why"),
];

/// What to do about a file: the call, the error number, the hint.
const FILE_HINTS: &[(&str, Errno, &str)] = &[
    ("mkdir", Errno::ENOENT, "make the directory above it first"),
    (
        "mkdir",
        Errno::EACCES,
        "run as root, or in a bpffs of your own",
    ),
    ("mkdir", Errno::EPERM, "name a directory of a bpffs"),
    ("open", Errno::ENOTDIR, "name a directory of a bpffs"),
    ("open", Errno::EACCES, "run as root, or as who made it"),
    (
        "rmdir",
        Errno::ENOTEMPTY,
        "take out what was put there besides",
    ),
];

fn file_hint(call: &str, errno: Errno) -> Option<&'static str> {
    let mut rows = FILE_HINTS.iter();
    let row = rows.find(|row| (row.0, row.1) == (call, errno));
    row.map(|(_, _, hint)| *hint)
}

fn hint(name: &str) -> &'static str {
    let row = HINTS.iter().find(|(problem, _)| *problem == name);
    row.map_or("", |(_, hint)| hint)
}

impl HomeProblem {
    const fn name(&self) -> &'static str {
        match self {
            HomeProblem::Exists => "exists",
            HomeProblem::Missing => "missing",
            HomeProblem::Replaced => "replaced",
            HomeProblem::Incomplete { .. } => "incomplete",
            HomeProblem::NotBpffs => "not bpffs",
            HomeProblem::Layout { .. } => "layout",
            HomeProblem::Foreign => "foreign",
        }
    }
}

impl fmt::Display for HomeProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HomeProblem::Exists => f.write_str("there is something already"),
            HomeProblem::Missing => f.write_str("nothing is pinned there"),
            HomeProblem::Replaced => f.write_str("it is not the one that was opened"),
            HomeProblem::Incomplete { pin } => write!(f, "there is no {pin}"),
            HomeProblem::NotBpffs => f.write_str("it is in no bpffs"),
            HomeProblem::Layout { found, ours } => {
                write!(f, "its layout is version {found}, this library's {ours}")
            }
            HomeProblem::Foreign => f.write_str("what is pinned there is not of this library"),
        }?;
        write!(f, " ({})", hint(self.name()))
    }
}

impl SocketProblem {
    const fn name(self) -> &'static str {
        match self {
            SocketProblem::NoSocket => "no socket",
            SocketProblem::Family(_) => "family",
            SocketProblem::Protocol(_) => "protocol",
            SocketProblem::Raw => "raw",
            SocketProblem::NotListening => "not listening",
            SocketProblem::Connected => "connected",
            SocketProblem::Unbound => "unbound",
            SocketProblem::Namespace => "namespace",
        }
    }
}

impl fmt::Display for SocketProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SocketProblem::NoSocket => f.write_str("it is no socket"),
            SocketProblem::Family(family) => write!(f, "its family is {family}"),
            SocketProblem::Protocol(protocol) => write!(f, "its protocol is {protocol}"),
            SocketProblem::Raw => f.write_str("it is raw"),
            SocketProblem::NotListening => f.write_str("it does not listen"),
            SocketProblem::Connected => f.write_str("it is connected"),
            SocketProblem::Unbound => f.write_str("it is bound to nothing"),
            SocketProblem::Namespace => f.write_str("it is in another network namespace"),
        }?;
        write!(f, " ({})", hint(self.name()))
    }
}

impl HandoverProblem {
    const fn name(&self) -> &'static str {
        match self {
            HandoverProblem::Closed => "closed",
            HandoverProblem::TimedOut => "timed out",
            HandoverProblem::Garbled => "garbled",
            HandoverProblem::Version { .. } => "version",
            HandoverProblem::TooMany { .. } => "too many",
            HandoverProblem::Refused { .. } => "refused",
        }
    }
}

impl fmt::Display for HandoverProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandoverProblem::Closed => f.write_str("the other end was closed before the end"),
            HandoverProblem::TimedOut => f.write_str("the other end is silent"),
            HandoverProblem::Garbled => f.write_str("the other end says something else"),
            HandoverProblem::Version { found, ours } => {
                write!(f, "the other end speaks version {found}, this one {ours}")
            }
            HandoverProblem::TooMany { sockets, most } => {
                write!(f, "{sockets} sockets, where {most} go at once")
            }
            HandoverProblem::Refused { took, sent } => {
                write!(f, "the other end took {took} of {sent} sockets")
            }
        }?;
        write!(f, " ({})", hint(self.name()))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Map(error) => error.fmt(f),
            Error::Prog(error) => error.fmt(f),
            Error::Net(error) => error.fmt(f),
            Error::File { call, path, errno } => {
                write!(f, "{call} {}: {errno}", path.display())?;
                file_hint(call, *errno).map_or(Ok(()), |hint| write!(f, " ({hint})"))
            }
            Error::Home { dir, problem } => write!(f, "steering in {}: {problem}", dir.display()),
            Error::Binding(error) => error.fmt(f),
            Error::Label(error) => error.fmt(f),
            Error::Contradiction {
                binding,
                services: [one, other],
            } => write!(
                f,
                "{binding}: two rules, for {one} and for {other} (a binding has one service)"
            ),
            Error::Families { from, to } => write!(
                f,
                "ask about {from} to {to}: no packet is of two families (name two addresses of one)"
            ),
            Error::NoService { label, has } => {
                write!(f, "there is no service {label}; there are: ")?;
                match has.as_slice() {
                    [] => f.write_str("none"),
                    has => has.iter().enumerate().try_for_each(|(n, label)| {
                        write!(f, "{}{label}", if n == 0 { "" } else { ", " })
                    }),
                }?;
                f.write_str(" (a binding or a socket makes it)")
            }
            Error::Bound { label, binding } => write!(
                f,
                "forget {label}: {binding} is bound to it (unbind what is, first)"
            ),
            Error::Full { what, most } => {
                write!(f, "no room for more {what}: there are {most} (remove some)")
            }
            Error::Socket { label, problem } => {
                write!(f, "a socket for {label}: {problem}")
            }
            Error::Call(refused) => refused.fmt(f),
            Error::Foreign { map } => write!(
                f,
                "{map}: bytes that this library does not write (somebody else changed the map: replace \
                 the rules)"
            ),
            Error::Handover(problem) => write!(f, "hand over sockets: {problem}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Map(error) => Some(error),
            Error::Prog(error) => Some(error),
            Error::Net(error) => Some(error),
            Error::Call(refused) => Some(refused),
            _ => None,
        }
    }
}

impl Error {
    /// What a map says that is full, in terms of what is in it.
    pub(crate) fn room(what: &'static str, most: u32, error: bpfsmith_maps::Error) -> Error {
        match error.errno() {
            Some(Errno::E2BIG | Errno::ENOSPC) => Error::Full { what, most },
            _ => Error::Map(error),
        }
    }

    pub(crate) fn file(
        call: &'static str,
        path: impl Into<PathBuf>,
        error: &std::io::Error,
    ) -> Error {
        Error::File {
            call,
            path: path.into(),
            errno: Errno::of(error).unwrap_or(Errno::EIO),
        }
    }

    /// The error number, where the kernel gave one.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Error::Map(error) => error.errno(),
            Error::Prog(error) => error.errno(),
            Error::Net(error) => error.errno(),
            Error::File { errno, .. } => Some(*errno),
            Error::Call(refused) => Some(refused.errno),
            _ => None,
        }
    }
}

macro_rules! from {
    ($($source:ty => $variant:ident;)+) => { $(
        impl From<$source> for Error {
            fn from(error: $source) -> Error {
                Error::$variant(error)
            }
        }
    )+ };
}

from! {
    bpfsmith_maps::Error => Map;
    bpfsmith_prog::Error => Prog;
    bpfsmith_net::Error => Net;
    BadBinding => Binding;
    BadLabel => Label;
    Refused => Call;
}

#[cfg(test)]
mod tests {
    use super::{HINTS, HandoverProblem, HomeProblem, SocketProblem, hint};

    #[test]
    fn every_problem_has_a_hint_and_every_hint_a_problem() {
        let homes = [
            HomeProblem::Exists,
            HomeProblem::Missing,
            HomeProblem::Replaced,
            HomeProblem::Incomplete { pin: "link" },
            HomeProblem::NotBpffs,
            HomeProblem::Layout { found: 2, ours: 1 },
            HomeProblem::Foreign,
        ];
        let sockets = [
            SocketProblem::NoSocket,
            SocketProblem::Family(1),
            SocketProblem::Protocol(132),
            SocketProblem::Raw,
            SocketProblem::NotListening,
            SocketProblem::Connected,
            SocketProblem::Unbound,
            SocketProblem::Namespace,
        ];
        let handovers = [
            HandoverProblem::Closed,
            HandoverProblem::TimedOut,
            HandoverProblem::Garbled,
            HandoverProblem::Version { found: 2, ours: 1 },
            HandoverProblem::TooMany {
                sockets: 9,
                most: 8,
            },
            HandoverProblem::Refused { took: 1, sent: 2 },
        ];
        let mut names: Vec<&str> = homes.iter().map(HomeProblem::name).collect();
        names.extend(sockets.iter().map(|problem| problem.name()));
        names.extend(handovers.iter().map(HandoverProblem::name));
        for name in &names {
            assert!(!hint(name).is_empty(), "{name}");
        }
        assert_eq!(names.len(), HINTS.len());
        let text = homes.map(|problem| problem.to_string()).join("\n");
        assert!(text.contains("its layout is version 2, this library's 1 (use the version"));
        let text = sockets.map(|problem| problem.to_string()).join("\n");
        assert!(text.contains("it does not listen (call listen"), "{text}");
    }
}
