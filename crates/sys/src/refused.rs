//! A system call other than bpf(2) that the kernel refused.

use bpfsmith_uapi::Errno;
use std::fmt;

/// What was called, and why not.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub struct Refused {
    /// The system call, with the request where it has many: `ioctl PERF_EVENT_IOC_SET_BPF`.
    pub call: &'static str,
    /// Why not.
    pub errno: Errno,
}

bpfsmith_uapi::debug_as_display!(Refused);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call, self.errno)
    }
}

/// What these calls return.
pub type Answer<T> = std::result::Result<T, Refused>;

impl Refused {
    /// What errno says after a call of libc failed.
    #[cold]
    pub(crate) fn last(call: &'static str) -> Refused {
        Refused::of(call, &std::io::Error::last_os_error())
    }

    #[cold]
    pub(crate) fn of(call: &'static str, error: &std::io::Error) -> Refused {
        Refused {
            call,
            errno: Errno::of(error).unwrap_or(Errno::EIO),
        }
    }

    #[cold]
    pub(crate) const fn because(call: &'static str, errno: Errno) -> Refused {
        Refused { call, errno }
    }
}
