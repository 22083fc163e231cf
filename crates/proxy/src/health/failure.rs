//! Why a check failed.

use bpfsmith_sys::Refused;
use bpfsmith_uapi::Errno;
use std::fmt;
use std::io;
use std::time::Duration;

/// Why a check failed. Its text is one line, without the target.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The target refused the connection: nobody listens there.
    Refused,
    /// There was no connection when that time was over.
    NoConnection(Duration),
    /// There was one, and no answer when that time was over.
    NoAnswer(Duration),
    /// The target reset the connection.
    Reset,
    /// The target ended the connection before its answer.
    Closed,
    /// The answer has a status that is not expected.
    Status(u16),
    /// The answer is no HTTP.
    NotHttp,
    /// There was no end of what came before a status.
    Endless(usize),
    /// There is no way to the target.
    Unreachable(Errno),
    /// It could not be asked, because something ran out here: descriptors, memory, own ports. That says
    /// nothing about the target, and does not count.
    NotAsked(Refused),
}

bpfsmith_uapi::debug_as_display!(Failure);

/// What ran out here, and what to do about it. A check that meets one of these does not count.
pub(super) const SHORTAGES: &[(Errno, &str)] = &[
    (Errno::EMFILE, "raise the limit of open files"),
    (Errno::ENFILE, "the system has too many open files"),
    (Errno::ENOBUFS, "the kernel lacks memory"),
    (Errno::ENOMEM, "the kernel lacks memory"),
    (Errno::ENOSPC, "raise fs.epoll.max_user_watches"),
    (
        Errno::EADDRNOTAVAIL,
        "no own address or port is left: see net.ipv4.ip_local_port_range, and whether the family has an address",
    ),
    (
        Errno::EAGAIN,
        "no own port is left: see net.ipv4.ip_local_port_range",
    ),
    (
        Errno::EAFNOSUPPORT,
        "the kernel lacks this family of addresses",
    ),
];

fn shortage(errno: Errno) -> Option<&'static str> {
    let row = SHORTAGES.iter().find(|row| row.0 == errno);
    row.map(|row| row.1)
}

impl Failure {
    /// Whether it says something about the target. Others leave its standing as it is.
    #[must_use]
    pub const fn counts(&self) -> bool {
        !matches!(self, Failure::NotAsked(_))
    }

    /// What a call on a socket says.
    pub(super) fn of(call: &'static str, error: &io::Error) -> Failure {
        let errno = Errno::of(error).unwrap_or(Errno::EIO);
        match errno {
            Errno::ECONNREFUSED => Failure::Refused,
            Errno::ECONNRESET | Errno::EPIPE => Failure::Reset,
            errno if shortage(errno).is_some() => Failure::NotAsked(Refused { call, errno }),
            errno => Failure::Unreachable(errno),
        }
    }

    /// A call failed that has not to do with the target.
    pub(super) const fn here(call: &'static str, errno: i32) -> Failure {
        let errno = Errno(errno);
        Failure::NotAsked(Refused { call, errno })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused => f.write_str("refused: nobody listens there"),
            Failure::NoConnection(time) => write!(f, "no connection within {time:?}"),
            Failure::NoAnswer(time) => write!(f, "connected, but no answer within {time:?}"),
            Failure::Reset => f.write_str("the target reset the connection"),
            Failure::Closed => f.write_str("the target closed the connection before an answer"),
            Failure::Status(status) => write!(f, "status {status}, which is not expected"),
            Failure::NotHttp => f.write_str("the answer is no HTTP/1"),
            Failure::Endless(bytes) => write!(f, "no status within {bytes} bytes"),
            Failure::Unreachable(errno) => write!(f, "unreachable: {errno}"),
            Failure::NotAsked(refused) => {
                write!(f, "not asked, which does not count: {refused}")?;
                match shortage(refused.errno) {
                    Some(hint) => write!(f, " ({hint})"),
                    None => Ok(()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ran_out_here_does_not_count_and_says_what_to_do() {
        for &(errno, hint) in SHORTAGES {
            let failure = Failure::of("connect", &io::Error::from_raw_os_error(errno.0));
            assert!(!failure.counts(), "{errno}");
            let text = failure.to_string();
            assert!(text.contains(hint) && text.contains("connect"), "{text}");
        }
    }

    #[test]
    fn what_the_target_does_counts() {
        let rows = [
            (Errno::ECONNREFUSED, Failure::Refused),
            (Errno::ECONNRESET, Failure::Reset),
            (Errno::EPIPE, Failure::Reset),
            (
                Errno::EHOSTUNREACH,
                Failure::Unreachable(Errno::EHOSTUNREACH),
            ),
            (Errno::ENETUNREACH, Failure::Unreachable(Errno::ENETUNREACH)),
        ];
        for (errno, failure) in rows {
            let of = Failure::of("connect", &io::Error::from_raw_os_error(errno.0));
            assert_eq!(of, failure);
            assert!(of.counts());
            assert!(!of.to_string().contains('\n'));
        }
    }
}
