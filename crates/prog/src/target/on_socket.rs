//! What setsockopt(2) puts on a socket, and how it is taken away again.

use crate::error::{Error, Result};
use crate::link::{Link, Undo};
use crate::prog::Prog;
use bpfsmith_sys::{Answer, Refused};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// One of the options that attach programs.
#[derive(Clone, Copy)]
pub(super) struct SocketOption {
    pub(super) kind: &'static str,
    pub(super) attach: fn(BorrowedFd<'_>, BorrowedFd<'_>) -> Answer<()>,
    pub(super) detach: fn(BorrowedFd<'_>) -> Answer<()>,
}

impl SocketOption {
    pub(super) fn run(self, socket: BorrowedFd<'_>, prog: &Prog) -> Result<Link> {
        let object = format!("{} on a socket", prog.quoted());
        let socket = socket.try_clone_to_owned().map_err(|error| {
            Error::io("fcntl F_DUPFD_CLOEXEC", self.kind, object.clone(), &error)
        })?;
        let held = Held {
            option: self,
            socket,
            object: object.clone(),
        };
        (self.attach)(held.socket.as_fd(), prog.as_fd()).map_err(|refused| held.failed(refused))?;
        Ok(Link::undo(held, self.kind, object))
    }
}

struct Held {
    option: SocketOption,
    socket: OwnedFd,
    object: String,
}

impl Held {
    fn failed(&self, refused: Refused) -> Error {
        Error::refused(refused, self.option.kind, self.object.clone())
    }
}

impl Undo for Held {
    fn undo(&mut self) -> Result<()> {
        (self.option.detach)(self.socket.as_fd()).map_err(|refused| self.failed(refused))
    }

    fn update(&mut self, new: &Prog) -> Option<Result<()>> {
        let done = (self.option.attach)(self.socket.as_fd(), new.as_fd());
        Some(done.map_err(|refused| self.failed(refused)))
    }
}
