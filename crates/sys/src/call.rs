//! The one place where bpf(2) is called.

use crate::attr::Attribute;
use bpfsmith_uapi::{Cmd, Errno};
use std::fmt;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A command that the kernel refused.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub struct Failed {
    /// What was asked.
    pub cmd: Cmd,
    /// Why not.
    pub errno: Errno,
}

bpfsmith_uapi::debug_as_display!(Failed);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.cmd, self.errno)
    }
}

/// What commands return.
pub type Result<T> = std::result::Result<T, Failed>;

/// Runs a command with the attributes of its row.
///
/// # Safety
/// The kernel reads and writes only memory that the attributes borrow: every length in them, and
/// every length that the kernel derives from the object, is that of the borrowed buffer.
#[inline]
pub(crate) unsafe fn bpf<A: Attribute>(attr: &mut A) -> Result<i32> {
    // SAFETY: the caller vouches for the attributes.
    unsafe { bpf_as(A::CMD, attr) }
}

/// Runs one of the commands that share a row.
///
/// # Safety
/// As for [`bpf`].
#[inline]
pub(crate) unsafe fn bpf_as<A: Attribute>(cmd: Cmd, attr: &mut A) -> Result<i32> {
    // SAFETY: `attr` is a structure without padding, of the size that is passed; the caller vouches
    // for what it points to.
    let answer = unsafe {
        syscall(
            cmd.0 as usize,
            std::ptr::from_mut(attr).cast(),
            size_of::<A>(),
        )
    };
    judge(cmd, answer)
}

/// Runs a command that answers a new file descriptor.
///
/// # Safety
/// As for [`bpf`], and the command answers a file descriptor that nobody else owns.
pub(crate) unsafe fn bpf_fd<A: Attribute>(cmd: Cmd, attr: &mut A) -> Result<OwnedFd> {
    // SAFETY: the caller vouches for the attributes and for the answer.
    let fd = unsafe { OwnedFd::from_raw_fd(bpf_as(cmd, attr)?) };
    if fd.as_raw_fd() > 0 {
        return Ok(fd);
    }
    // A process without standard input. In many attributes 0 means that there is no fd.
    fd.try_clone().map_err(|error| Failed {
        cmd,
        errno: Errno::of(&error).unwrap_or(Errno::EMFILE),
    })
}

/// Runs any command with attributes as bytes: for commands that this crate has no row for.
///
/// # Errors
/// What the kernel answers.
///
/// # Safety
/// As for any pointer given away: the kernel may write wherever the attributes point to, and a file
/// descriptor that it answers belongs to the caller.
pub unsafe fn raw(cmd: Cmd, attr: &mut [u8]) -> Result<i32> {
    // SAFETY: the caller vouches for the attributes.
    let answer = unsafe { syscall(cmd.0 as usize, attr.as_mut_ptr(), attr.len()) };
    judge(cmd, answer)
}

#[inline]
fn judge(cmd: Cmd, answer: isize) -> Result<i32> {
    match i32::try_from(answer) {
        Ok(value) if value >= 0 => Ok(value),
        Ok(error) => Err(Failed {
            cmd,
            errno: Errno(-error),
        }),
        // No command answers more than 32 bits.
        Err(_) => Err(Failed {
            cmd,
            errno: Errno::EOVERFLOW,
        }),
    }
}

/// bpf(2); a negative answer is the error number. Without libc in between there is no errno to
/// write to and read back.
#[cfg(target_arch = "x86_64")]
#[inline]
unsafe fn syscall(cmd: usize, attr: *mut u8, size: usize) -> isize {
    let answer;
    // SAFETY: the kernel's calling convention: it keeps all registers but rax, rcx and r11. Memory
    // is not declared untouched, so the compiler writes `attr` before and reads it after.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") libc::SYS_bpf => answer,
            in("rdi") cmd,
            in("rsi") attr,
            in("rdx") size,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    answer
}

/// bpf(2); a negative answer is the error number.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
unsafe fn syscall(cmd: usize, attr: *mut u8, size: usize) -> isize {
    // SAFETY: the caller vouches for the attributes.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, cmd, attr, size) };
    if answer < 0 {
        let errno = std::io::Error::last_os_error().raw_os_error();
        return -(errno.unwrap_or(libc::EIO) as isize);
    }
    answer as isize
}
