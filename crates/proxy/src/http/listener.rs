//! Where a server listens.

use super::error::{Error, Result, number};
use super::peer::Peer;
use super::socket_file::SocketFile;
use bpfsmith_uapi::Errno;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

/// A place that is taken for a [`Server`](super::Server), which may be started later: who connects meanwhile waits.
#[derive(Debug)]
pub struct Listener {
    /// The file that is removed in the end: before the socket is closed, so that the inode is nobody else's.
    pub(super) file: Option<SocketFile>,
    pub(super) socket: Socket,
    pub(super) address: Option<SocketAddr>,
}

#[derive(Debug)]
pub(super) enum Socket {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    /// A file, which is made with mode 0600 and removed in the end.
    ///
    /// # Errors
    /// [`Error::Served`] when another process serves on the path, [`Error::NoSocket`] when something
    /// else is there, and what the kernel refuses.
    pub fn unix(path: &Path) -> Result<Listener> {
        let (listener, file) = SocketFile::make(path)?;
        Ok(Listener {
            socket: Socket::Unix(listener),
            file: Some(file),
            address: None,
        })
    }

    /// An address; port 0 for any that is free.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn tcp(address: SocketAddr) -> Result<Listener> {
        let failed = |call: &'static str| {
            move |error: std::io::Error| Error::Address {
                call,
                address,
                errno: number(&error),
            }
        };
        let listener = TcpListener::bind(address).map_err(failed("bind"))?;
        listener.set_nonblocking(true).map_err(failed("fcntl"))?;
        let address = listener.local_addr().map_err(failed("getsockname"))?;
        Ok(Listener {
            socket: Socket::Tcp(listener),
            file: None,
            address: Some(address),
        })
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Unix(listener) => listener.as_fd(),
            Socket::Tcp(listener) => listener.as_fd(),
        }
    }
}

impl Socket {
    /// `None` when nobody waits any more.
    pub(super) fn accept(&self) -> std::result::Result<Option<(OwnedFd, Peer)>, Errno> {
        let accepted = match self {
            Socket::Unix(listener) => listener.accept().and_then(|(stream, _)| {
                stream.set_nonblocking(true)?;
                let peer = Peer::of_unix(&stream)?;
                Ok((OwnedFd::from(stream), peer))
            }),
            Socket::Tcp(listener) => listener.accept().and_then(|(stream, address)| {
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                Ok((OwnedFd::from(stream), Peer::Tcp(address)))
            }),
        };
        match accepted {
            Ok(accepted) => Ok(Some(accepted)),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionAborted
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(number(&error)),
        }
    }
}
