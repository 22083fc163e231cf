//! BTF objects, tokens and run statistics.

use crate::attr::{self, Fd, Ptr, PtrMut, token_flag};
use crate::call::{Failed, Result, bpf_fd};
use crate::delegate::owned;
use crate::prog::Log;
use crate::refused::Answer;
use bpfsmith_uapi::{Cmd, Errno, StatsType};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// Has the kernel check a BTF blob, and returns its fd. Linux 4.18.
///
/// # Errors
/// What the kernel answers; the log says more.
pub fn load_btf(blob: &[u8], log: &mut Log<'_>, token: Option<BorrowedFd<'_>>) -> Result<OwnedFd> {
    let cmd = Cmd::BTF_LOAD;
    let length = |bytes: &[u8]| {
        u32::try_from(bytes.len()).map_err(|_| Failed {
            cmd,
            errno: Errno::E2BIG,
        })
    };
    let mut attr = attr::BtfLoad {
        btf: Ptr::to(blob),
        btf_log_size: length(log.buffer)?,
        btf_log_buf: PtrMut::to_some(log.buffer),
        btf_size: length(blob)?,
        btf_log_level: log.level,
        btf_log_true_size: 0,
        btf_flags: token_flag(token),
        btf_token_fd: Fd::some(token),
    };
    // SAFETY: lengths are those of the slices.
    let done = unsafe { bpf_fd(cmd, &mut attr) };
    log.true_size = attr.btf_log_true_size;
    done
}

/// Counts runs and time of every program while the fd is open. Linux 5.8.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`.
pub fn enable_stats(kind: StatsType) -> Result<OwnedFd> {
    let mut attr = attr::EnableStats { r#type: kind.0 };
    // SAFETY: only a number is passed.
    unsafe { bpf_fd(Cmd::ENABLE_STATS, &mut attr) }
}

/// Makes a token from a bpffs that delegates rights to its user namespace. Linux 6.9.
///
/// # Errors
/// `EOPNOTSUPP` in the first user namespace; `ENOENT` when nothing is delegated.
pub fn create_token(bpffs: BorrowedFd<'_>) -> Result<OwnedFd> {
    let mut attr = attr::TokenCreate {
        flags: 0,
        bpffs_fd: Fd::of(bpffs),
    };
    // SAFETY: only an fd is passed.
    unsafe { bpf_fd(Cmd::TOKEN_CREATE, &mut attr) }
}

/// Opens a process: the key of its value in `TASK_STORAGE`. Linux 5.3.
///
/// # Errors
/// `ESRCH` without such a process; `EINVAL` for a thread that leads no process.
pub fn pidfd(pid: u32) -> Answer<OwnedFd> {
    // SAFETY: only numbers are passed.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::c_ulong::from(pid), 0) };
    owned("pidfd_open", fd)
}

/// Duplicates a descriptor of another process, by its number there. Linux 5.6.
///
/// # Errors
/// `EBADF` without such a number; `EPERM` without the right to trace the process.
pub fn pidfd_take(process: BorrowedFd<'_>, number: i32) -> Answer<OwnedFd> {
    let process = process.as_raw_fd();
    // SAFETY: only numbers are passed.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process, number, 0) };
    owned("pidfd_getfd", fd)
}
