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

/// The family of a socket, such as `AF_INET6`. Linux 2.6.32.
///
/// # Errors
/// `ENOTSOCK`.
pub fn family(socket: BorrowedFd<'_>) -> Answer<u32> {
    read("getsockopt SO_DOMAIN", socket, libc::SO_DOMAIN)
}

/// The protocol of a socket, such as `IPPROTO_TCP`. Linux 2.6.32.
///
/// # Errors
/// `ENOTSOCK`.
pub fn protocol(socket: BorrowedFd<'_>) -> Answer<u32> {
    read("getsockopt SO_PROTOCOL", socket, libc::SO_PROTOCOL)
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

/// How far a TCP connection is. Linux 4.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpProgress {
    /// Its state.
    pub state: TcpState,
    /// Bytes that arrived in order. The end of the stream counts as one.
    pub received: u64,
    /// Bytes that the other side has acknowledged. At the side that connected, the connection itself
    /// counts as one.
    pub acked: u64,
}

/// The state of a TCP connection, as `TCP_INFO` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpState(pub u8);

impl TcpState {
    /// Both sides may send.
    pub const ESTABLISHED: TcpState = TcpState(1);
    /// This side has ended its stream, and that is not acknowledged.
    pub const FIN_WAIT1: TcpState = TcpState(4);
    /// This side has ended its stream.
    pub const FIN_WAIT2: TcpState = TcpState(5);
    /// The connection is over: ended both ways, or broken.
    pub const CLOSE: TcpState = TcpState(7);
    /// The other side has ended its stream.
    pub const CLOSE_WAIT: TcpState = TcpState(8);
    /// The other side has ended its stream, then this side, and that is not acknowledged.
    pub const LAST_ACK: TcpState = TcpState(9);
    /// Nobody is connected: the socket waits for connections.
    pub const LISTEN: TcpState = TcpState(10);
    /// Both sides have ended their streams at once.
    pub const CLOSING: TcpState = TcpState(11);
}

/// How far a TCP connection is. Linux 4.1.
///
/// # Errors
/// `EOPNOTSUPP` or `ENOPROTOOPT` for other protocols.
pub fn tcp_progress(socket: BorrowedFd<'_>) -> Answer<TcpProgress> {
    const CALL: &str = "getsockopt TCP_INFO";
    // Where `struct tcp_info` has them; libc knows its older part only.
    const ACKED: usize = 120;
    const RECEIVED: usize = 128;
    const SIZE: usize = 136;
    let mut info = [0_u8; SIZE];
    let mut len = 136;
    // SAFETY: the kernel writes at most `len` bytes, which `info` has.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &mut len,
        )
    };
    if answer != 0 {
        return Err(Refused::last(CALL));
    }
    let word = |at: usize| {
        let bytes = info.get(at..).and_then(|bytes| bytes.first_chunk());
        bytes.map(|bytes| u64::from_ne_bytes(*bytes))
    };
    match (word(ACKED), word(RECEIVED), info.first()) {
        (Some(acked), Some(received), Some(&state)) if usize::try_from(len) == Ok(SIZE) => {
            Ok(TcpProgress {
                state: TcpState(state),
                received,
                acked,
            })
        }
        _ => Err(Refused::because(CALL, Errno::EBADMSG)),
    }
}

fn queued(call: &'static str, socket: BorrowedFd<'_>, request: libc::Ioctl) -> Answer<u32> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: these requests write one `int`.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), request, &mut bytes) };
    match (answer, u32::try_from(bytes)) {
        (0, Ok(bytes)) => Ok(bytes),
        (0, Err(_)) => Err(Refused::because(call, Errno::EBADMSG)),
        _ => Err(Refused::last(call)),
    }
}

/// How many bytes of a TCP connection wait to be read.
///
/// # Errors
/// `EINVAL` for a socket that listens.
pub fn unread(socket: BorrowedFd<'_>) -> Answer<u32> {
    queued("ioctl SIOCINQ", socket, libc::FIONREAD)
}

/// How many bytes written to a TCP connection are not acknowledged, sent or not.
///
/// # Errors
/// `EINVAL` for a socket that listens.
pub fn unacked(socket: BorrowedFd<'_>) -> Answer<u32> {
    queued("ioctl SIOCOUTQ", socket, libc::TIOCOUTQ)
}

/// Sets how many bytes must be there before a reader is woken; 1 is usual. At a TCP connection the
/// kernel looks at once whether they are, and tells the reader, or the program that stands in for one.
///
/// # Errors
/// `ENOTSOCK`.
pub fn set_low_water(socket: BorrowedFd<'_>, bytes: u32) -> Answer<()> {
    let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
    set("setsockopt SO_RCVLOWAT", socket, libc::SO_RCVLOWAT, bytes)
}

/// How many bytes a socket may hold that are not read, with what the kernel adds to each packet.
///
/// # Errors
/// `ENOTSOCK`.
pub fn receive_buffer(socket: BorrowedFd<'_>) -> Answer<u32> {
    read("getsockopt SO_RCVBUF", socket, libc::SO_RCVBUF)
}

/// Sets how much a socket may hold that is not read, whatever the system's limit is; the kernel
/// doubles it for what it adds, and does not change it any more. Needs `CAP_NET_ADMIN`.
///
/// # Errors
/// `EPERM` without the capability.
pub fn force_receive_buffer(socket: BorrowedFd<'_>, bytes: u32) -> Answer<()> {
    let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
    let call = "setsockopt SO_RCVBUFFORCE";
    set(call, socket, libc::SO_RCVBUFFORCE, bytes)
}

/// The same for what is to be sent, or is not acknowledged.
///
/// # Errors
/// As there.
pub fn force_send_buffer(socket: BorrowedFd<'_>, bytes: u32) -> Answer<()> {
    let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
    let call = "setsockopt SO_SNDBUFFORCE";
    set(call, socket, libc::SO_SNDBUFFORCE, bytes)
}

/// Sets how far the other side of a TCP connection may send ahead of what is read, if there is room.
/// Room that was offered before is not taken back.
///
/// # Errors
/// `EOPNOTSUPP` or `ENOPROTOOPT` for other protocols.
pub fn set_window(socket: BorrowedFd<'_>, bytes: u32) -> Answer<()> {
    let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
    let option = (libc::IPPROTO_TCP, libc::TCP_WINDOW_CLAMP);
    set_at("setsockopt TCP_WINDOW_CLAMP", socket, option, bytes)
}

/// Has urgent bytes of a TCP connection stay where they are in its stream, for readers and counts: else
/// reads leave them out.
///
/// # Errors
/// `ENOTSOCK`.
pub fn keep_urgent_in_line(socket: BorrowedFd<'_>) -> Answer<()> {
    set("setsockopt SO_OOBINLINE", socket, libc::SO_OOBINLINE, 1)
}

/// Has the kernel reset the connection when the socket is closed, and forget what is not sent.
///
/// # Errors
/// `ENOTSOCK`.
pub fn reset_on_close(socket: BorrowedFd<'_>) -> Answer<()> {
    const CALL: &str = "setsockopt SO_LINGER";
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    let len = libc::socklen_t::try_from(size_of::<libc::linger>());
    let len = len.map_err(|_| Refused::because(CALL, Errno::EINVAL))?;
    // SAFETY: the kernel reads `len` bytes at `linger`.
    let answer = unsafe {
        let linger = std::ptr::from_ref(&linger).cast();
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            linger,
            len,
        )
    };
    match answer {
        0 => Ok(()),
        _ => Err(Refused::last(CALL)),
    }
}
