//! Why a name was not resolved: one line, with what to do next.

use super::message::{Code, Family, Garbled};
use super::name::BadName;
use super::system::Server;
use bpfsmith_uapi::Errno;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Why a name was not resolved, or could not be watched.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The text is no name of a host.
    Name {
        /// The text.
        host: String,
        /// What is wrong with it.
        why: BadName,
    },
    /// There is no such name.
    NoName {
        /// The name.
        host: String,
        /// How long that holds, if a server says so.
        holds: Option<Duration>,
    },
    /// There is such a name, but no address.
    NoAddress {
        /// The name.
        host: String,
        /// How long that holds, if a server says so.
        holds: Option<Duration>,
    },
    /// No server gave an answer.
    Servers {
        /// The name that they were asked for.
        host: String,
        /// The addresses that they were asked for.
        family: Family,
        /// What each did instead.
        failures: Vec<(Server, Failure)>,
    },
    /// There is no server to ask.
    NoServers {
        /// The name that there was to ask for.
        host: String,
    },
    /// A file could not be read.
    File {
        /// The call.
        call: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        errno: Errno,
    },
    /// What the threads need could not be made.
    Start {
        /// The call.
        call: &'static str,
        /// Why not.
        errno: Errno,
    },
    /// There was no answer in the time that there was.
    Late {
        /// The name.
        host: String,
        /// How long there was.
        within: Duration,
    },
    /// The name is not one of those that are kept fresh.
    NotKept {
        /// The name.
        host: String,
    },
}

bpfsmith_uapi::debug_as_display!(Error);

/// What a server did instead of answering.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// It was silent.
    Silent {
        /// So many packets came that belong to other questions, or that somebody made up.
        foreign: u32,
    },
    /// It says that it cannot, or does not want to.
    Said(Code),
    /// It names other servers, which a program like this does not ask.
    Referral,
    /// Its answer makes no sense.
    Garbled(Garbled),
    /// Its answer does not fit, not even by TCP.
    Cut,
    /// It closed the connection before it answered.
    Closed,
    /// The network or the machine refuses.
    Call {
        /// The call.
        call: &'static str,
        /// Why.
        errno: Errno,
    },
    /// There is no such interface for its address.
    Interface {
        /// The name of the interface.
        name: String,
    },
    /// Whoever asked has gone.
    Stopped,
}

bpfsmith_uapi::debug_as_display!(Failure);

/// What to do about each kind of error.
const HINTS: &[(&str, &str)] = &[
    (
        "name",
        "write letters, digits, '-' and '_' with dots between, other letters in the form that begins with xn--",
    ),
    (
        "no name",
        "correct the name, or add it to its zone or to /etc/hosts",
    ),
    (
        "no address",
        "add a record of type A or AAAA to its zone, or a line to /etc/hosts",
    ),
    ("no servers", "add a nameserver to /etc/resolv.conf"),
    ("file", "see that it is there and may be read"),
    ("start", "raise the limits of processes and open files"),
    (
        "late",
        "wait longer, or see what the servers of /etc/resolv.conf do",
    ),
    ("not kept", "name it in the configuration first"),
    (
        "silent",
        "see that the server runs and that no firewall is between",
    ),
    (
        "foreign",
        "somebody sends made-up answers, or a middlebox changes them: ask a server that is nearer",
    ),
    ("SERVFAIL", "see the log of the server, or name another"),
    (
        "REFUSED",
        "let the server answer this machine, or name another",
    ),
    ("said", "name another server"),
    ("referral", "name a server that resolves for others"),
    ("garbled", "name another server"),
    ("cut", "let fewer addresses have the name"),
    ("closed", "let the server take questions by TCP"),
    (
        "refused",
        "start the server, or name another in /etc/resolv.conf",
    ),
    ("unreachable", "see the routes to the server"),
    ("call", "see that the machine's network is up"),
    ("interface", "correct what is behind the % of the address"),
    ("stopped", "ask again"),
];

fn hint(name: &str) -> &'static str {
    let row = HINTS.iter().find(|row| row.0 == name);
    row.map_or("", |row| row.1)
}

impl Failure {
    fn name(&self) -> &'static str {
        match self {
            Failure::Silent { foreign: 0 } => "silent",
            Failure::Silent { .. } => "foreign",
            Failure::Said(Code::SERVFAIL) => "SERVFAIL",
            Failure::Said(Code::REFUSED) => "REFUSED",
            Failure::Said(_) => "said",
            Failure::Referral => "referral",
            Failure::Garbled(_) => "garbled",
            Failure::Cut => "cut",
            Failure::Closed => "closed",
            Failure::Call { errno, .. } => match *errno {
                Errno::ECONNREFUSED => "refused",
                Errno::ENETUNREACH | Errno::EHOSTUNREACH => "unreachable",
                _ => "call",
            },
            Failure::Interface { .. } => "interface",
            Failure::Stopped => "stopped",
        }
    }

    /// Whether asking the same server again at once may help.
    pub(super) fn may_pass(&self) -> bool {
        matches!(
            self,
            Failure::Silent { .. } | Failure::Closed | Failure::Call { .. }
        )
    }

    pub(super) fn call(call: &'static str, error: &std::io::Error) -> Failure {
        Failure::Call {
            call,
            errno: Errno::of(error).unwrap_or(Errno::EIO),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Silent { foreign: 0 } => f.write_str("is silent"),
            Failure::Silent { foreign } => {
                write!(
                    f,
                    "is silent, but {foreign} packets came that are no answers"
                )
            }
            Failure::Said(code) => write!(f, "says {code}"),
            Failure::Referral => f.write_str("names other servers"),
            Failure::Garbled(what) => write!(f, "sends nonsense: {what}"),
            Failure::Cut => f.write_str("sends a part of the answer, also by TCP"),
            Failure::Closed => f.write_str("closed the connection"),
            Failure::Call { call, errno } => write!(f, "cannot be asked: {call}: {errno}"),
            Failure::Interface { name } => {
                write!(f, "cannot be asked: there is no interface {name}")
            }
            Failure::Stopped => f.write_str("was not waited for"),
        }
    }
}

impl Error {
    fn name(&self) -> &'static str {
        match self {
            Error::Name { .. } => "name",
            Error::NoName { .. } => "no name",
            Error::NoAddress { .. } => "no address",
            Error::Servers { failures, .. } => {
                failures.last().map_or("no servers", |(_, it)| it.name())
            }
            Error::NoServers { .. } => "no servers",
            Error::File { .. } => "file",
            Error::Start { .. } => "start",
            Error::Late { .. } => "late",
            Error::NotKept { .. } => "not kept",
        }
    }

    /// How long it would be in vain to ask again, where a server said so.
    #[must_use]
    pub const fn holds(&self) -> Option<Duration> {
        match self {
            Error::NoName { holds, .. } | Error::NoAddress { holds, .. } => *holds,
            _ => None,
        }
    }

    pub(super) fn file(
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
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Name { host, why } => write!(f, "resolve {host:?}: {why}"),
            Error::NoName { host, .. } => write!(f, "resolve {host}: there is no such name"),
            Error::NoAddress { host, .. } => write!(f, "resolve {host}: it has no address"),
            Error::Servers {
                host,
                family,
                failures,
            } => {
                write!(f, "resolve {host}: no answer about {family}: ")?;
                failures
                    .iter()
                    .enumerate()
                    .try_for_each(|(n, (server, it))| {
                        write!(f, "{}{server} {it}", if n == 0 { "" } else { ", " })
                    })
            }
            Error::NoServers { host } => write!(f, "resolve {host}: there is no server to ask"),
            Error::File { call, path, errno } => write!(f, "{call} {}: {errno}", path.display()),
            Error::Start { call, errno } => write!(f, "keep names fresh: {call}: {errno}"),
            Error::Late { host, within } => {
                write!(f, "resolve {host}: no answer within {within:?}")
            }
            Error::NotKept { host } => write!(f, "ask for {host}: it is no name that is kept"),
        }?;
        write!(f, " ({})", hint(self.name()))
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Name { why, .. } => Some(why),
            Error::File { errno, .. } | Error::Start { errno, .. } => Some(errno),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::net::SocketAddr;

    fn failures() -> Vec<Failure> {
        let call = |errno| Failure::Call {
            call: "connect",
            errno,
        };
        vec![
            Failure::Silent { foreign: 0 },
            Failure::Silent { foreign: 2 },
            Failure::Said(Code::SERVFAIL),
            Failure::Said(Code::REFUSED),
            Failure::Said(Code(9)),
            Failure::Referral,
            Failure::Garbled(Garbled::Chain),
            Failure::Cut,
            Failure::Closed,
            call(Errno::ECONNREFUSED),
            call(Errno::ENETUNREACH),
            call(Errno::EPERM),
            Failure::Interface {
                name: "eth7".to_owned(),
            },
            Failure::Stopped,
        ]
    }

    fn errors() -> Vec<Error> {
        let host = || "web.example".to_owned();
        let holds = None;
        let mut errors = vec![
            Error::Name {
                host: "a..b".to_owned(),
                why: BadName::Empty,
            },
            Error::NoName {
                host: host(),
                holds,
            },
            Error::NoAddress {
                host: host(),
                holds,
            },
            Error::NoServers { host: host() },
            Error::File {
                call: "open",
                path: "/etc/hosts".into(),
                errno: Errno::EACCES,
            },
            Error::Start {
                call: "eventfd",
                errno: Errno::EMFILE,
            },
            Error::Late {
                host: host(),
                within: Duration::from_secs(5),
            },
            Error::NotKept { host: host() },
        ];
        let server = || Server::from(SocketAddr::from(([10, 0, 0, 1], 53)));
        errors.extend(failures().into_iter().map(|failure| Error::Servers {
            host: host(),
            family: Family::V6,
            failures: vec![(server(), failure)],
        }));
        errors
    }

    #[test]
    fn every_error_has_a_hint_and_every_hint_an_error() {
        let names: BTreeSet<&str> = errors().iter().map(Error::name).collect();
        for name in &names {
            assert!(!hint(name).is_empty(), "{name}");
        }
        assert_eq!(names.len(), HINTS.len());
    }

    #[test]
    fn an_error_is_one_line() {
        let texts: Vec<String> = errors().iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(texts.join("\n"));
    }
}
