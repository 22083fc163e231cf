//! Connections that are begun without waiting for them.

use super::failure::Failure;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, connect, socket,
};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;

/// Begins a connection; the socket is non-blocking.
pub(super) fn start(target: SocketAddr) -> Result<TcpStream, Failure> {
    let family = match target {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(family, SockType::Stream, flags, SockProtocol::Tcp)
        .map_err(|errno| Failure::here("socket", errno as i32))?;
    match connect(fd.as_raw_fd(), &SockaddrStorage::from(target)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(fd.into()),
        Err(errno) => Err(Failure::of("connect", &errno.into())),
    }
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connected {
    Yes,
    NotYet,
}

/// Whether it stands by now.
pub(super) fn look(stream: &TcpStream) -> Result<Connected, Failure> {
    let of = |error| Failure::of("connect", &error);
    if let Some(error) = stream.take_error().map_err(of)? {
        return Err(of(error));
    }
    let peer = match stream.peer_addr() {
        Ok(peer) => peer,
        Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(Connected::NotYet),
        Err(error) => return Err(of(error)),
    };
    // Where nobody listens at a port of this very host, the kernel may take that port for the near end
    // too. Then the socket has connected to itself.
    match stream.local_addr().map_err(of)? == peer {
        true => Err(Failure::Refused),
        false => Ok(Connected::Yes),
    }
}
