//! File systems that are configured before they are mounted: how the machine's root lends BPF rights
//! to a user namespace.
//!
//! Three steps, by two processes: one in the user namespace calls [`open`]; root outside takes over
//! its descriptor ([`pidfd_take`](crate::misc::pidfd_take)), says with [`set`] what is lent, and
//! calls [`create`]; the first one calls [`mount`], and asks for a token with
//! [`create_token`](crate::misc::create_token) on the directory.

use crate::refused::{Answer, Refused};
use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Begins to configure a file system of that kind (`bpf`), for the user namespace of the caller.
/// Linux 5.2.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN` in that namespace; `ENODEV` when the kernel has no such kind.
pub fn open(kind: &CStr) -> Answer<OwnedFd> {
    // SAFETY: the kind is zero-terminated.
    let fd = unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), libc::FSOPEN_CLOEXEC) };
    owned("fsopen", fd)
}

/// Sets an option: for `bpf`, `delegate_cmds`, `delegate_maps`, `delegate_progs` and
/// `delegate_attachs` to a mask of numbers such as `0x40`, or to `any`. Linux 5.2.
///
/// # Errors
/// `EPERM` when a user namespace's root lends what is not its own; `EINVAL` for a wrong option.
pub fn set(fs: BorrowedFd<'_>, option: &CStr, value: &CStr) -> Answer<()> {
    configure(fs, libc::FSCONFIG_SET_STRING, Some((option, value)))
}

/// Makes the file system as configured. Linux 5.2.
///
/// # Errors
/// `EBUSY` when it was made already; `EINVAL` when the options do not go together.
pub fn create(fs: BorrowedFd<'_>) -> Answer<()> {
    configure(fs, libc::FSCONFIG_CMD_CREATE, None)
}

fn configure(fs: BorrowedFd<'_>, cmd: libc::c_uint, option: Option<(&CStr, &CStr)>) -> Answer<()> {
    let (key, value) = option.map_or((std::ptr::null(), std::ptr::null()), |(key, value)| {
        (key.as_ptr(), value.as_ptr())
    });
    // SAFETY: both are zero-terminated, or null where the command takes none.
    let answer = unsafe { libc::syscall(libc::SYS_fsconfig, fs.as_raw_fd(), cmd, key, value, 0) };
    match answer {
        0 => Ok(()),
        _ => Err(Refused::last("fsconfig")),
    }
}

/// Mounts it where only the holder of the descriptor finds it, and opens its directory. Linux 5.2.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN` in the user namespace of the mount namespace; `EINVAL` before
/// [`create`].
pub fn mount(fs: BorrowedFd<'_>) -> Answer<File> {
    // SAFETY: only numbers are passed.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_fsmount,
            fs.as_raw_fd(),
            libc::FSMOUNT_CLOEXEC,
            libc::c_ulong::from(0_u32),
        )
    };
    let mount = owned("fsmount", fd)?;
    // That descriptor is a place only, which the kernel does not take for a directory.
    // SAFETY: the path is zero-terminated.
    let fd = unsafe {
        let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
        libc::openat(mount.as_raw_fd(), c".".as_ptr(), flags)
    };
    owned("openat", fd.into()).map(File::from)
}

/// Takes over a descriptor that a system call made.
pub(crate) fn owned(call: &'static str, answer: libc::c_long) -> Answer<OwnedFd> {
    match i32::try_from(answer) {
        // SAFETY: the kernel made this fd for us.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(Refused::last(call)),
    }
}
