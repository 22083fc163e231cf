//! Why two connections could not be joined.

use bpfsmith_sys::Refused;
use bpfsmith_sys::socket::TcpState;
use bpfsmith_uapi::Errno;
use std::fmt;
use std::ops::RangeInclusive;

/// What the functions of this crate return.
pub type Result<T> = std::result::Result<T, Error>;

/// Why something about joined connections failed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting is out of range.
    #[error("splice: {name} is {value}: it can be {} to {}", allowed.start(), allowed.end())]
    Setting {
        /// Its name in [`Settings`](crate::Settings).
        name: &'static str,
        /// What it was to be.
        value: u32,
        /// What it can be.
        allowed: RangeInclusive<u32>,
    },
    /// The verdict program could not be built.
    #[error("build the verdict: {0}")]
    Program(#[from] bpfsmith_asm::report::Report),
    /// The program could not be loaded or attached.
    #[error(transparent)]
    Load(#[from] bpfsmith_prog::Error),
    /// A map could not be made or changed.
    #[error(transparent)]
    Map(#[from] bpfsmith_maps::Error),
    /// A system call on a socket or on what waits for sockets failed.
    #[error(transparent)]
    Socket(#[from] Refused),
    /// A call of the standard library on a socket failed.
    #[error("{call}: {error}")]
    Io {
        /// The system call.
        call: &'static str,
        /// Why.
        error: std::io::Error,
    },
    /// The kernel does not take a pair of sockets.
    #[error("{0}")]
    Refused(Refusal),
}

bpfsmith_uapi::debug_as_display!(Error);

impl Error {
    pub(crate) fn io(call: &'static str) -> impl FnOnce(std::io::Error) -> Error {
        move |error| Error::Io { call, error }
    }

    /// Why the kernel does not take a pair, if that is what failed: such a pair can be copied.
    #[must_use]
    pub const fn refusal(&self) -> Option<&Refusal> {
        match self {
            Error::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }
}

/// Which socket of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The one named first.
    First,
    /// The other.
    Second,
}

impl Side {
    /// Both.
    pub const ALL: [Side; 2] = [Side::First, Side::Second];

    /// The other one.
    #[must_use]
    pub const fn other(self) -> Side {
        match self {
            Side::First => Side::Second,
            Side::Second => Side::First,
        }
    }

    pub(crate) const fn index(self) -> usize {
        match self {
            Side::First => 0,
            Side::Second => 1,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Side::First => "first",
            Side::Second => "second",
        })
    }
}

/// A pair of sockets that the kernel does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The socket that it refused.
    pub side: Side,
    /// Its error number.
    pub errno: Errno,
    /// The state of its connection, if it is one of TCP.
    pub state: Option<TcpState>,
    /// How many pairs the maps have room for.
    pub pairs: u32,
}

/// Why a kernel refuses a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Why {
    /// The maps hold as many pairs as they can.
    Full,
    /// It is no TCP connection.
    NotTcp,
    /// The connection is not established any more: the other side ended its stream, or it broke.
    NotEstablished,
    /// Its user-space part is in use by something else, like TLS in the kernel.
    Busy,
    /// The kernel lacks memory.
    Memory,
    /// Something that no row of the table tells.
    Other,
}

/// What an error number means here, and what to do.
const WHYS: &[(Errno, Why, &str)] = &[
    (
        Errno::E2BIG,
        Why::Full,
        "the maps are full: give Settings::pairs a larger number, or copy this pair",
    ),
    (
        Errno::ENOMEM,
        Why::Memory,
        "the kernel lacks memory: copy this pair",
    ),
    (
        Errno::EBUSY,
        Why::Busy,
        "the socket has another program or protocol on top: copy this pair",
    ),
    (
        Errno::EINVAL,
        Why::Busy,
        "the socket has another protocol on top, such as TLS: copy this pair",
    ),
    (
        Errno::EOPNOTSUPP,
        Why::NotEstablished,
        "only established connections can be joined, and the other side has ended this one's stream: copy this pair",
    ),
    (
        Errno::ENOTSUPP,
        Why::NotTcp,
        "only TCP can be joined, and no MPTCP: copy this pair",
    ),
];

impl Refusal {
    /// What that means.
    #[must_use]
    pub fn why(&self) -> Why {
        self.row().map_or(Why::Other, |row| row.1)
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        self.row().map_or("copy this pair", |row| row.2)
    }

    fn row(&self) -> Option<&'static (Errno, Why, &'static str)> {
        // The kernel has one number for "not TCP" and "not established".
        let refuses_state = matches!(self.errno, Errno::EOPNOTSUPP | Errno::ENOTSUPP);
        let errno = match (refuses_state, self.state) {
            (true, Some(_)) => Errno::EOPNOTSUPP,
            (true, None) => Errno::ENOTSUPP,
            (false, _) => self.errno,
        };
        WHYS.iter().find(|row| row.0 == errno)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "join the {} socket of a pair, {} pairs at most: {} ({})",
            self.side,
            self.pairs,
            self.errno,
            self.hint()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(errno: Errno, state: Option<TcpState>, why: Why, words: &str) {
        let refusal = Refusal {
            side: Side::Second,
            errno,
            state,
            pairs: 7,
        };
        assert_eq!(refusal.why(), why);
        let text = refusal.to_string();
        assert!(text.contains(words) && text.contains("7 pairs"), "{text}");
        assert!(text.starts_with("join the second socket"), "{text}");
    }

    #[test]
    fn each_number_has_its_meaning() {
        let ended = Some(TcpState::CLOSE_WAIT);
        check(Errno::E2BIG, None, Why::Full, "Settings::pairs");
        check(Errno::ENOMEM, None, Why::Memory, "memory");
        check(Errno::EBUSY, None, Why::Busy, "another program");
        check(Errno::EINVAL, ended, Why::Busy, "TLS");
        check(Errno::EOPNOTSUPP, ended, Why::NotEstablished, "ended");
        check(Errno::ENOTSUPP, ended, Why::NotEstablished, "ended");
        check(Errno::EOPNOTSUPP, None, Why::NotTcp, "only TCP");
        check(Errno::ENOTSUPP, None, Why::NotTcp, "only TCP");
        check(Errno::EIO, None, Why::Other, "copy");
    }
}
