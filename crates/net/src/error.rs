//! `Error`: what was asked, of which object, and why it did not happen.

use crate::hints;
use crate::wire::{Malformed, TooLong};
use bpfsmith_uapi::Errno;
use std::fmt;
use std::time::Duration;

/// A request or system call, by the name the kernel gives it.
///
/// Names of one's own are fine: `Operation("RTM_NEWRULE")`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Operation(pub &'static str);

macro_rules! operations {
    ($($(#[$meta:meta])* $name:ident = $text:literal;)+) => {
        impl Operation {
            $($(#[$meta])* pub const $name: Operation = Operation($text);)+

            /// Every operation of this crate.
            pub const ALL: &[Operation] = &[$(Operation::$name),+];
        }
    };
}

operations! {
    /// Open a netlink socket.
    SOCKET = "socket(AF_NETLINK)";
    /// Start a thread that enters a namespace.
    THREAD = "clone";
    /// Make a network namespace.
    UNSHARE = "unshare(CLONE_NEWNET)";
    /// Enter a network namespace.
    SETNS = "setns(CLONE_NEWNET)";
    /// Open the file of a namespace.
    OPEN = "open";
    /// Make the file that names a namespace.
    CREATE = "open(O_CREAT)";
    /// Keep others from naming namespaces at the same time.
    LOCK = "flock";
    /// Tie a namespace to its file.
    MOUNT = "mount";
    /// Untie a namespace from its file.
    UMOUNT = "umount";
    /// Remove the file that names a namespace.
    UNLINK = "unlink";
    /// Read a file below `/proc/sys`.
    SYSCTL_READ = "read sysctl";
    /// Write a file below `/proc/sys`.
    SYSCTL_WRITE = "write sysctl";
    /// Make a device.
    NEW_LINK = "RTM_NEWLINK";
    /// Change a device.
    SET_LINK = "RTM_SETLINK";
    /// Delete a device.
    DEL_LINK = "RTM_DELLINK";
    /// Look at devices.
    READ_LINK = "RTM_GETLINK";
    /// Wait until a device is up.
    WAIT_LINK = "wait for RTM_GETLINK IFLA_OPERSTATE up";
    /// Attach an XDP program.
    ATTACH_XDP = "RTM_SETLINK IFLA_XDP attach";
    /// Detach an XDP program.
    DETACH_XDP = "RTM_SETLINK IFLA_XDP detach";
    /// Add an address.
    NEW_ADDR = "RTM_NEWADDR";
    /// Delete an address.
    DEL_ADDR = "RTM_DELADDR";
    /// Look at addresses.
    READ_ADDR = "RTM_GETADDR";
    /// Add a route.
    NEW_ROUTE = "RTM_NEWROUTE";
    /// Delete a route.
    DEL_ROUTE = "RTM_DELROUTE";
    /// Look at routes.
    READ_ROUTE = "RTM_GETROUTE";
    /// Add a neighbour.
    NEW_NEIGH = "RTM_NEWNEIGH";
    /// Delete a neighbour.
    DEL_NEIGH = "RTM_DELNEIGH";
    /// Look at neighbours.
    READ_NEIGH = "RTM_GETNEIGH";
    /// Add a queueing discipline.
    NEW_QDISC = "RTM_NEWQDISC";
    /// Delete a queueing discipline.
    DEL_QDISC = "RTM_DELQDISC";
    /// Look at queueing disciplines.
    READ_QDISC = "RTM_GETQDISC";
    /// Add or replace a traffic filter.
    NEW_FILTER = "RTM_NEWTFILTER";
    /// Delete a traffic filter.
    DEL_FILTER = "RTM_DELTFILTER";
    /// Look at traffic filters.
    READ_FILTER = "RTM_GETTFILTER";
    /// Look at the number one namespace has in another.
    READ_NSID = "RTM_GETNSID";
    /// Give one namespace a number in another.
    NEW_NSID = "RTM_NEWNSID";
    /// Look for a family of generic netlink.
    READ_FAMILY = "CTRL_CMD_GETFAMILY";
    /// Look at the features of a device.
    READ_FEATURES = "ETHTOOL_MSG_FEATURES_GET";
    /// Switch features of a device.
    SET_FEATURES = "ETHTOOL_MSG_FEATURES_SET";
    /// Look at what a device does for XDP.
    READ_XDP_FEATURES = "NETDEV_CMD_DEV_GET";
    /// See whether frames that XDP programs send arrive.
    CHECK_XDP = "check XDP of";
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// What the kernel said when it refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The error number.
    pub errno: Errno,
    /// The kernel's own sentence. Linux 4.12.
    pub sentence: Option<String>,
    /// The number of the attribute that is to blame, as its family counts.
    pub attribute: Option<u16>,
    /// Where that attribute starts in the request.
    pub offset: Option<u32>,
}

impl Refusal {
    /// A refusal of which only the number is known.
    #[must_use]
    pub const fn plain(errno: Errno) -> Refusal {
        Refusal {
            errno,
            sentence: None,
            attribute: None,
            offset: None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.errno)?;
        if let Some(sentence) = &self.sentence {
            write!(
                f,
                ", the kernel says \"{}\"",
                sentence.trim_end_matches(['.', '\n'])
            )?;
        }
        match (self.attribute, self.offset) {
            (Some(attribute), Some(offset)) => {
                write!(f, ", because of attribute {attribute} at byte {offset}")
            }
            _ => Ok(()),
        }
    }
}

/// Why an operation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The kernel refused.
    #[error("{0}")]
    Refused(Refusal),
    /// The kernel's answer could not be read.
    #[error("the kernel's answer makes no sense, {0}")]
    Malformed(#[from] Malformed),
    /// The kernel acknowledged without an answer.
    #[error("the kernel gave no answer")]
    NoAnswer,
    /// The request does not fit into a message.
    #[error("{0}")]
    TooLong(#[from] TooLong),
    /// The table changed during each of several tries to list it.
    #[error("the table changed while it was listed, {tries} times in a row")]
    Unstable {
        /// How often it was listed.
        tries: u32,
    },
    /// The name cannot be used.
    #[error("{why}")]
    BadName {
        /// Which rule it breaks.
        why: &'static str,
    },
    /// What was waited for did not happen.
    #[error("it did not happen within {waited:?}")]
    Deadline {
        /// How long was waited.
        waited: Duration,
    },
    /// The device kept a feature as it was.
    #[error("the device keeps {feature} as it is")]
    Fixed {
        /// The kernel's name of the feature.
        feature: String,
    },
    /// Frames that XDP programs send to the device are dropped.
    #[error("frames sent to it by {action} are dropped ({advice})")]
    TakesNoFrames {
        /// How they are sent: `XDP_REDIRECT` or `XDP_TX`.
        action: &'static str,
        /// What to switch on.
        advice: &'static str,
    },
}

/// An operation on an object failed.
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    /// What was asked.
    pub operation: Operation,
    /// Of which object: a device, a prefix, a path.
    pub object: String,
    /// Why it failed.
    pub reason: Reason,
}

bpfsmith_uapi::debug_as_display!(Error);

impl Error {
    pub(crate) fn new(
        operation: Operation,
        object: impl fmt::Display,
        reason: impl Into<Reason>,
    ) -> Error {
        Error {
            operation,
            object: object.to_string(),
            reason: reason.into(),
        }
    }

    pub(crate) fn plain(operation: Operation, object: impl fmt::Display, errno: Errno) -> Error {
        Error::new(operation, object, Reason::Refused(Refusal::plain(errno)))
    }

    pub(crate) fn nix(
        operation: Operation,
        object: impl fmt::Display,
        errno: nix::errno::Errno,
    ) -> Error {
        Error::plain(operation, object, Errno(errno as i32))
    }

    /// An error of the standard library; those that are not the kernel's count as `EIO`.
    pub(crate) fn io(
        operation: Operation,
        object: impl fmt::Display,
        error: &std::io::Error,
    ) -> Error {
        Error::plain(operation, object, Errno::of(error).unwrap_or(Errno::EIO))
    }

    /// The kernel's error number, if the kernel refused.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match &self.reason {
            Reason::Refused(refusal) => Some(refusal.errno),
            _ => None,
        }
    }

    /// The kernel's own sentence, if it gave one.
    #[must_use]
    pub fn sentence(&self) -> Option<&str> {
        match &self.reason {
            Reason::Refused(refusal) => refusal.sentence.as_deref(),
            _ => None,
        }
    }

    /// Whether the running kernel lacks what was asked for, like a kind of device.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        self.errno() == Some(Errno::EOPNOTSUPP)
    }

    /// What to do next, if the table of hints knows.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        let Reason::Refused(refusal) = &self.reason else {
            return None;
        };
        hints::find(self.operation, refusal)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.operation)?;
        if !self.object.is_empty() {
            write!(f, " {}", self.object)?;
        }
        write!(f, ": {}", self.reason)?;
        match self.hint() {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.reason {
            Reason::Refused(refusal) => Some(&refusal.errno),
            other => Some(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(error: &Error, text: &str) {
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn errors_are_one_line() {
        let refusal = Refusal {
            errno: Errno::EOPNOTSUPP,
            sentence: Some("Unknown device type.".into()),
            attribute: Some(1),
            offset: Some(52),
        };
        check(
            &Error::new(
                Operation::NEW_LINK,
                "dummy \"d0\"",
                Reason::Refused(refusal),
            ),
            "RTM_NEWLINK dummy \"d0\": EOPNOTSUPP, the kernel says \"Unknown device type\", because \
             of attribute 1 at byte 52 (this kernel is built without that kind of device)",
        );
        check(
            &Error::plain(Operation::NEW_ROUTE, "10.0.0.0/8", Errno::EEXIST),
            "RTM_NEWROUTE 10.0.0.0/8: EEXIST (it exists already; replace it or delete it first)",
        );
        check(
            &Error::new(Operation::READ_LINK, "", Reason::Unstable { tries: 8 }),
            "RTM_GETLINK: the table changed while it was listed, 8 times in a row",
        );
        check(
            &Error::new(
                Operation::NEW_LINK,
                "\"a/b\"",
                Reason::BadName {
                    why: "a device name has no slash",
                },
            ),
            "RTM_NEWLINK \"a/b\": a device name has no slash",
        );
    }
}
