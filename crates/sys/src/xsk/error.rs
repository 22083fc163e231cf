//! Why an XDP socket could not be opened or used: problems as types, advice as rows of a table.

use crate::refused::Refused;
use bpfsmith_uapi::Errno;
use std::fmt;

/// A queue of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// The number of the device, in the network namespace of the socket.
    pub device: u32,
    /// The number of its queue, from 0 on.
    pub queue: u32,
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "device {} queue {}", self.device, self.queue)
    }
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// This kernel has no XDP sockets.
    NoFamily,
    /// The process may not.
    NotAllowed,
    /// No device has that number.
    NoDevice,
    /// The device has no such queue.
    NoQueue,
    /// Another socket has the queue. The kernel lets go of it a moment after the socket was closed.
    QueueTaken,
    /// The driver cannot work in the frames themselves.
    NoZeroCopy,
    /// The device is down.
    Down,
    /// There is no memory, or not as much as the process may lock.
    NoMemory,
    /// There are no huge pages.
    NoHugePages,
    /// The frames are too few, too small, too large, or their room in front too large.
    BadFrames,
    /// The length of a ring is no power of two, or more than a million.
    BadRing,
    /// The other socket is on other memory.
    OtherMemory,
    /// This kernel is too old.
    TooOld,
    /// The socket has no ring for this.
    NoRing,
    /// Something else.
    Other,
}

/// The call, the error number, the problem, and what to do about it.
type Row = (&'static str, Errno, Problem, &'static str);

pub(super) const SOCKET: &str = "socket(AF_XDP)";
pub(super) const MMAP: &str = "mmap";
pub(super) const REG: &str = "setsockopt XDP_UMEM_REG";
pub(super) const FILL_RING: &str = "setsockopt XDP_UMEM_FILL_RING";
pub(super) const COMPLETION_RING: &str = "setsockopt XDP_UMEM_COMPLETION_RING";
pub(super) const RECEIVE_RING: &str = "setsockopt XDP_RX_RING";
pub(super) const SEND_RING: &str = "setsockopt XDP_TX_RING";
pub(super) const OFFSETS: &str = "getsockopt XDP_MMAP_OFFSETS";
pub(super) const BIND: &str = "bind(AF_XDP)";
pub(super) const SEND: &str = "sendto(AF_XDP)";
pub(super) const RECV: &str = "recvfrom(AF_XDP)";
pub(super) const POLL: &str = "poll(AF_XDP)";
pub(super) const BUSY_POLL: &str = "setsockopt SO_PREFER_BUSY_POLL";
/// Not a call: what is refused before the kernel is asked.
pub(super) const PLAN: &str = "plan";

/// The kernel has no memory for one of the rings.
const fn long(call: &'static str) -> Row {
    let say = "the kernel has no memory for so long a ring: a shorter one";
    (call, Errno::ENOMEM, Problem::NoMemory, say)
}

const ROWS: &[Row] = &[
    long(FILL_RING),
    long(COMPLETION_RING),
    long(RECEIVE_RING),
    long(SEND_RING),
    (
        SOCKET,
        Errno::EAFNOSUPPORT,
        Problem::NoFamily,
        "the kernel was built without CONFIG_XDP_SOCKETS",
    ),
    (
        SOCKET,
        Errno::EPERM,
        Problem::NotAllowed,
        "it takes CAP_NET_RAW in the user namespace that owns the network namespace",
    ),
    (
        MMAP,
        Errno::ENOMEM,
        Problem::NoMemory,
        "fewer or smaller frames or rings; huge pages must be set aside: sysctl vm.nr_hugepages",
    ),
    (
        MMAP,
        Errno::EINVAL,
        Problem::NoHugePages,
        "this kernel has no huge pages of 2 MB: use common ones",
    ),
    (
        REG,
        Errno::ENOBUFS,
        Problem::NoMemory,
        "more memory than the process may lock: raise ulimit -l, or CAP_IPC_LOCK",
    ),
    (
        REG,
        Errno::ENOMEM,
        Problem::NoMemory,
        "fewer or smaller frames",
    ),
    (
        REG,
        Errno::EINVAL,
        Problem::BadFrames,
        "frames have 2048 to 4096 bytes, by default a power of two, and room beside headroom and \
         the kernel's 256 bytes",
    ),
    (
        PLAN,
        Errno::EINVAL,
        Problem::BadRing,
        "the length of a ring is a power of two up to 1048576, and a socket receives or sends",
    ),
    (
        PLAN,
        Errno::EXDEV,
        Problem::OtherMemory,
        "open it on the memory of the socket that it is to be beside, or without Plan::beside",
    ),
    (
        OFFSETS,
        Errno::EBADMSG,
        Problem::TooOld,
        "rings that say when to wake the kernel need Linux 5.4",
    ),
    (
        BIND,
        Errno::EBUSY,
        Problem::QueueTaken,
        "another socket has this queue, or had it a moment ago: close it and try again, or take another \
         queue",
    ),
    (
        BIND,
        Errno::EOPNOTSUPP,
        Problem::NoZeroCopy,
        "the driver has no zero copy: use Mode::Copy or Mode::Any",
    ),
    (
        BIND,
        Errno::ENODEV,
        Problem::NoDevice,
        "numbers of devices are those of the network namespace in which the socket was opened",
    ),
    (
        BIND,
        Errno::EINVAL,
        Problem::NoQueue,
        "the device has fewer queues: ethtool -l DEVICE shows them",
    ),
    (
        BIND,
        Errno::ENETDOWN,
        Problem::Down,
        "set the device up first",
    ),
    (
        BIND,
        Errno::ENOMEM,
        Problem::NoMemory,
        "fewer frames, shorter rings",
    ),
    (
        BIND,
        Errno::EPERM,
        Problem::NotAllowed,
        "it takes CAP_NET_RAW in the user namespace that owns the network namespace",
    ),
    (
        SEND,
        Errno::ENOBUFS,
        Problem::NoRing,
        "the socket was opened without a ring to send: Plan::send",
    ),
    (
        SEND,
        Errno::ENETDOWN,
        Problem::Down,
        "set the device up; frames in the ring stay there",
    ),
    (
        SEND,
        Errno::ENXIO,
        Problem::NoDevice,
        "the device has gone: open another socket",
    ),
    (
        RECV,
        Errno::ENOBUFS,
        Problem::NoRing,
        "the socket was opened without a ring to receive: Plan::receive",
    ),
    (
        POLL,
        Errno::ENOBUFS,
        Problem::NoRing,
        "the socket was opened without the ring that is waited for: Plan::receive, Plan::send",
    ),
    (
        RECV,
        Errno::ENETDOWN,
        Problem::Down,
        "set the device up; frames in the ring stay there",
    ),
    (
        RECV,
        Errno::ENXIO,
        Problem::NoDevice,
        "the device has gone: open another socket",
    ),
    (
        BUSY_POLL,
        Errno::ENOPROTOOPT,
        Problem::TooOld,
        "it needs Linux 5.11, built with CONFIG_NET_RX_BUSY_POLL",
    ),
    (
        BUSY_POLL,
        Errno::EPERM,
        Problem::NotAllowed,
        "it takes CAP_NET_ADMIN",
    ),
];

/// A call about an XDP socket that was refused.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    /// The call.
    pub call: &'static str,
    /// The queue, where the call is about one.
    pub on: Option<Queue>,
    /// What the kernel answered.
    pub errno: Errno,
    /// What that means here.
    pub problem: Problem,
}

bpfsmith_uapi::debug_as_display!(Error);

impl Error {
    pub(super) fn new(call: &'static str, on: Option<Queue>, errno: Errno) -> Error {
        let problem = row(call, errno).map_or(Problem::Other, |row| row.2);
        Error {
            call,
            on,
            errno,
            problem,
        }
    }

    pub(super) fn of(refused: Refused, on: Option<Queue>) -> Error {
        Error::new(refused.call, on, refused.errno)
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        row(self.call, self.errno).map(|row| row.3)
    }
}

fn row(call: &str, errno: Errno) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.0 == call && row.1 == errno)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.call)?;
        if let Some(on) = self.on {
            write!(f, " {on}")?;
        }
        write!(f, ": {}", self.errno)?;
        match self.hint() {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// Which ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Frames to receive into.
    Fill,
    /// Frames that were sent.
    Completion,
    /// Received frames.
    Receive,
    /// Frames to send.
    Send,
}

/// A ring that contradicts itself: its kernel is broken, or somebody else wrote to its pages.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Corrupt {
    /// The positions are farther apart than the ring is long.
    #[error(
        "{ring:?} ring: the positions {ours} and {theirs} make no sense among {entries} entries"
    )]
    Positions {
        /// The ring.
        ring: Which,
        /// Where this side is.
        ours: u32,
        /// Where the other side is.
        theirs: u32,
        /// How many entries the ring has.
        entries: u32,
    },
    /// The descriptor is of no frame that the kernel has, or reaches out of it. It was skipped.
    #[error("{ring:?} ring: the kernel has no frame with {len} bytes at {address:#x}")]
    Frame {
        /// The ring.
        ring: Which,
        /// The address in the descriptor.
        address: u64,
        /// The length in the descriptor; 0 where it has none.
        len: u32,
    },
}

bpfsmith_uapi::debug_as_display!(Corrupt);

/// Why a socket could not be worked with.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The kernel refused.
    #[error(transparent)]
    Refused(#[from] Error),
    /// A ring contradicts itself.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// This frame belongs to other memory than the socket. Nothing was taken from it on.
    #[error("frame {at} of those to send is of another Umem: copy it into one of this")]
    Foreign {
        /// Which one in the list.
        at: usize,
    },
    /// This frame has no whole Ethernet header. Nothing was taken from it on.
    #[error("frame {at} of those to send has {len} bytes: 14 is the least")]
    TooShort {
        /// Which one in the list.
        at: usize,
        /// How many bytes it has.
        len: u32,
    },
}

bpfsmith_uapi::debug_as_display!(Fault);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_is_found_and_says_what_to_do() {
        for (at, (call, errno, problem, say)) in ROWS.iter().enumerate() {
            let error = Error::new(call, None, *errno);
            assert_eq!(error.problem, *problem, "{call} {errno}");
            assert_eq!(error.hint(), Some(*say), "{call} {errno}: a row hides it");
            assert!(!say.is_empty() && !say.ends_with('.'), "row {at}");
        }
        let unknown = Error::new(BIND, None, Errno::EXDEV);
        assert_eq!((unknown.problem, unknown.hint()), (Problem::Other, None));
    }

    #[test]
    fn an_error_is_one_line() {
        let on = Queue {
            device: 3,
            queue: 1,
        };
        assert_eq!(
            Error::new(BIND, Some(on), Errno::EBUSY).to_string(),
            "bind(AF_XDP) device 3 queue 1: EBUSY (another socket has this queue, or had it a moment \
             ago: close it and try again, or take another queue)"
        );
    }
}
