//! Socket filters: how much of each packet a socket receives.

use super::on_socket::SocketOption;
use super::{Hook, Target, expect_type};
use crate::error::Result;
use crate::link::Link;
use crate::prog::Prog;
use bpfsmith_sys::socket::{attach_filter, detach_filter};
use bpfsmith_uapi::{AttachType, ProgType};
use std::os::fd::{AsFd, BorrowedFd};

/// A socket, for a `SOCKET_FILTER` program: it returns how many bytes of a packet the socket
/// receives, and 0 drops the packet. Linux 3.19.
///
/// The link holds the socket open. A filter that was there is replaced and does not come back.
/// Sockets do not tell their filter: dropping the link takes away whichever is there by then.
#[derive(Clone, Copy, Debug)]
pub struct SocketFilter<'a>(BorrowedFd<'a>);

impl<'a> SocketFilter<'a> {
    /// That socket.
    #[must_use]
    pub fn on(socket: &'a impl AsFd) -> SocketFilter<'a> {
        SocketFilter(socket.as_fd())
    }
}

impl Target for SocketFilter<'_> {
    fn hook(&self) -> Result<Hook> {
        Ok(Hook::default())
    }

    fn attach(&self, prog: &Prog) -> Result<Link> {
        expect_type(prog, ProgType::SOCKET_FILTER, AttachType(0))?;
        let option = SocketOption {
            kind: "socket filter",
            attach: attach_filter,
            detach: detach_filter,
        };
        option.run(self.0, prog)
    }
}
