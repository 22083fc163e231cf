//! Programs on sockets, and what the kernel calls a socket.

use crate::refused::{Answer, Refused};
use bpfsmith_uapi::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};

fn set(call: &'static str, socket: BorrowedFd<'_>, option: i32, value: i32) -> Answer<()> {
    set_at(call, socket, (libc::SOL_SOCKET, option), value)
}

fn set_at(
    call: &'static str,
    socket: BorrowedFd<'_>,
    (level, option): (i32, i32),
    value: i32,
) -> Answer<()> {
    // SAFETY: the kernel reads 4 bytes at `value`.
    let answer = unsafe {
        let value = std::ptr::from_ref(&value).cast();
        libc::setsockopt(socket.as_raw_fd(), level, option, value, 4)
    };
    if answer == 0 {
        Ok(())
    } else {
        Err(Refused::last(call))
    }
}

/// Numbers as the kernel writes them to an option.
trait Number: Default {
    const SIZE: libc::socklen_t;
}

impl Number for u32 {
    const SIZE: libc::socklen_t = 4;
}

impl Number for u64 {
    const SIZE: libc::socklen_t = 8;
}

fn read<T: Number>(call: &'static str, socket: BorrowedFd<'_>, option: i32) -> Answer<T> {
    let mut value = T::default();
    let mut len = T::SIZE;
    // SAFETY: the kernel writes at most `len` bytes to `value`, any of which make a number.
    let answer = unsafe {
        let value = std::ptr::from_mut(&mut value).cast();
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            value,
            &mut len,
        )
    };
    match answer {
        0 if len == T::SIZE => Ok(value),
        0 => Err(Refused::because(call, Errno::EBADMSG)),
        _ => Err(Refused::last(call)),
    }
}

/// Has a socket filter decide how much of each packet the socket receives, in place of the one that
/// was there. Linux 3.19.
///
/// # Errors
/// `EINVAL` for another type of program; `EPERM` when filters are locked.
pub fn attach_filter(socket: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Answer<()> {
    let program = program.as_raw_fd();
    set(
        "setsockopt SO_ATTACH_BPF",
        socket,
        libc::SO_ATTACH_BPF,
        program,
    )
}

/// Takes the filter of a socket away.
///
/// # Errors
/// `ENOENT` without one; `EPERM` when filters are locked.
pub fn detach_filter(socket: BorrowedFd<'_>) -> Answer<()> {
    set("setsockopt SO_DETACH_BPF", socket, libc::SO_DETACH_BPF, 0)
}

/// Has a program choose among the sockets that share the address with this one: a socket filter by
/// their number (Linux 4.5), or an `SK_REUSEPORT` program by a map (Linux 4.19).
///
/// # Errors
/// `EINVAL` for another type of program, or when the socket has no `SO_REUSEPORT`.
pub fn attach_reuseport(socket: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Answer<()> {
    let call = "setsockopt SO_ATTACH_REUSEPORT_EBPF";
    set(
        call,
        socket,
        libc::SO_ATTACH_REUSEPORT_EBPF,
        program.as_raw_fd(),
    )
}

/// Lets the kernel choose again. Linux 5.3.
///
/// # Errors
/// `ENOENT` without a program.
pub fn detach_reuseport(socket: BorrowedFd<'_>) -> Answer<()> {
    /// libc lacks it for some targets.
    const SO_DETACH_REUSEPORT_BPF: i32 = 68;
    set(
        "setsockopt SO_DETACH_REUSEPORT_BPF",
        socket,
        SO_DETACH_REUSEPORT_BPF,
        0,
    )
}

/// The number that programs see as a socket's cookie. Linux 4.12.
///
/// # Errors
/// `ENOTSOCK`.
pub fn cookie(socket: BorrowedFd<'_>) -> Answer<u64> {
    read("getsockopt SO_COOKIE", socket, libc::SO_COOKIE)
}

/// The number that programs see as the cookie of a socket's network namespace. Linux 5.14.
///
/// # Errors
/// `ENOPROTOOPT` where the kernel has no such option.
pub fn netns_cookie(socket: BorrowedFd<'_>) -> Answer<u64> {
    const SO_NETNS_COOKIE: i32 = 71;
    read("getsockopt SO_NETNS_COOKIE", socket, SO_NETNS_COOKIE)
}

/// The CPU that processed the last packet of a socket; `None` before the first one.
///
/// # Errors
/// `ENOTSOCK`.
pub fn incoming_cpu(socket: BorrowedFd<'_>) -> Answer<Option<u32>> {
    let cpu = read::<u32>("getsockopt SO_INCOMING_CPU", socket, libc::SO_INCOMING_CPU)?;
    Ok((cpu != u32::MAX).then_some(cpu))
}

/// Has TCP use the algorithm of that name for a connection, which may be going on. Linux 2.6.13.
///
/// # Errors
/// `ENOENT` when there is none of that name; `EPERM` when it is not for everybody.
pub fn set_congestion(socket: BorrowedFd<'_>, name: &str) -> Answer<()> {
    let len = libc::socklen_t::try_from(name.len())
        .map_err(|_| Refused::because(CONGESTION, Errno::EINVAL))?;
    // SAFETY: the kernel reads `len` bytes at most, which `name` has.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_CONGESTION,
            name.as_ptr().cast(),
            len,
        )
    };
    match answer {
        0 => Ok(()),
        _ => Err(Refused::last(CONGESTION)),
    }
}

const CONGESTION: &str = "setsockopt TCP_CONGESTION";

/// The name of the algorithm that TCP uses for a connection. Linux 2.6.13.
///
/// # Errors
/// `ENOTSOCK`; `EOPNOTSUPP` for other protocols.
pub fn congestion(socket: BorrowedFd<'_>) -> Answer<String> {
    const CALL: &str = "getsockopt TCP_CONGESTION";
    let mut name = [0_u8; 16];
    let mut len: libc::socklen_t = 16;
    // SAFETY: the kernel writes at most `len` bytes, which `name` has.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_CONGESTION,
            name.as_mut_ptr().cast(),
            &mut len,
        )
    };
    if answer != 0 {
        return Err(Refused::last(CALL));
    }
    let text = name.split(|&byte| byte == 0).next().unwrap_or_default();
    match str::from_utf8(text) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(Refused::because(CALL, Errno::EBADMSG)),
    }
}

/// Has the kernel add its own sentence to what it refuses on a netlink socket (Linux 4.12), and not
/// quote the request (Linux 4.3).
///
/// # Errors
/// `ENOPROTOOPT` on another kind of socket or an older kernel.
pub fn explain_netlink(socket: BorrowedFd<'_>) -> Answer<()> {
    let option = |name| (libc::SOL_NETLINK, name);
    set_at(
        "setsockopt NETLINK_EXT_ACK",
        socket,
        option(libc::NETLINK_EXT_ACK),
        1,
    )?;
    set_at(
        "setsockopt NETLINK_CAP_ACK",
        socket,
        option(libc::NETLINK_CAP_ACK),
        1,
    )
}
