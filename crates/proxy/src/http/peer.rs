//! Who is at the other end.

use bpfsmith_uapi::Errno;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::AsFd;

/// Who sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// A process of this machine, as the kernel knows it from when it connected.
    Unix {
        /// Its effective user.
        uid: u32,
        /// Its effective group.
        gid: u32,
        /// Its number; 0 if it has none in the namespace of the server.
        pid: i32,
    },
    /// Somebody over TCP.
    Tcp(SocketAddr),
}

impl Peer {
    pub(super) fn of_unix(socket: &impl AsFd) -> Result<Peer, Errno> {
        let peer = getsockopt(socket, PeerCredentials).map_err(|errno| Errno(errno as i32))?;
        Ok(Peer::Unix {
            uid: peer.uid(),
            gid: peer.gid(),
            pid: peer.pid(),
        })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Unix { uid, pid, .. } => write!(f, "process {pid} of user {uid}"),
            Peer::Tcp(address) => address.fmt(f),
        }
    }
}
