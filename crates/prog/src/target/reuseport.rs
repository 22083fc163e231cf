//! Reuseport groups: which of the sockets on one address gets a packet.

use super::on_socket::SocketOption;
use super::{Hook, Target};
use crate::error::{Error, Result};
use crate::link::Link;
use crate::prog::Prog;
use bpfsmith_sys::socket::{attach_reuseport, detach_reuseport};
use bpfsmith_uapi::{AttachType, ProgType};
use std::os::fd::{AsFd, BorrowedFd};

/// A bound socket with `SO_REUSEPORT`, for a program that chooses for its whole group: an
/// `SK_REUSEPORT` program chooses from a map (Linux 4.19), a `SOCKET_FILTER` program returns the
/// socket's number in the group (Linux 4.5).
///
/// The link holds the socket open. A program that was there is replaced and does not come back.
/// Sockets do not tell their program: dropping the link takes away whichever is there by then.
#[derive(Clone, Copy, Debug)]
pub struct Reuseport<'a> {
    socket: BorrowedFd<'a>,
    attach_type: AttachType,
}

impl<'a> Reuseport<'a> {
    /// The group of that socket.
    #[must_use]
    pub fn of(socket: &'a impl AsFd) -> Reuseport<'a> {
        Reuseport {
            socket: socket.as_fd(),
            attach_type: AttachType::SK_REUSEPORT_SELECT,
        }
    }

    /// The program also chooses for connections whose listener closes. Linux 5.14.
    #[must_use]
    pub const fn migrating(mut self) -> Reuseport<'a> {
        self.attach_type = AttachType::SK_REUSEPORT_SELECT_OR_MIGRATE;
        self
    }
}

impl Target for Reuseport<'_> {
    fn hook(&self) -> Result<Hook> {
        Ok(Hook::plain(self.attach_type))
    }

    fn attach(&self, prog: &Prog) -> Result<Link> {
        if !matches!(
            prog.kind(),
            ProgType::SK_REUSEPORT | ProgType::SOCKET_FILTER
        ) {
            return Err(Error::WrongHook {
                program: prog.name().to_owned(),
                is: (prog.kind(), prog.attach_type()),
                wanted: (ProgType::SK_REUSEPORT, self.attach_type),
            });
        }
        let option = SocketOption {
            kind: "reuseport",
            attach: attach_reuseport,
            detach: detach_reuseport,
        };
        option.run(self.socket, prog)
    }
}
