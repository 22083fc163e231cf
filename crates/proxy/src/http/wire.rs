//! One connection's bytes: in and out, each with a time limit, and until the server stops.

use super::error::errno;
use bpfsmith_uapi::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Tells all who wait that it is over.
#[derive(Debug)]
pub(super) struct Stop(EventFd);

impl Stop {
    pub(super) fn new() -> Result<Stop, Errno> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        EventFd::from_flags(flags).map(Stop).map_err(errno)
    }

    /// Nobody reads it, so that it stays told.
    pub(super) fn tell(&self) {
        // It could only be refused if it was told more often than 64 bits count.
        let _ = self.0.write(1);
    }

    /// Sleeps, unless it is told.
    pub(super) fn sleep(&self, time: Duration) {
        self.wait(None, PollFlags::empty(), Some(Instant::now() + time));
    }

    /// Waits until the descriptor is ready, the time has come, or it is told.
    pub(super) fn wait(
        &self,
        other: Option<BorrowedFd<'_>>,
        flags: PollFlags,
        until: Option<Instant>,
    ) -> Waited {
        loop {
            let mut fds = vec![PollFd::new(
                self.0.as_fd(),
                PollFlags::POLLIN,
            )];
            fds.extend(other.map(|fd| PollFd::new(fd, flags)));
            let polled = poll(&mut fds, timeout(until));
            let ready = |at: usize| fds.get(at).and_then(PollFd::any).unwrap_or(false);
            match polled {
                Err(nix::errno::Errno::EINTR) => {}
                Err(failed) => return Waited::Failed(errno(failed)),
                Ok(_) if ready(0) => return Waited::Stopped,
                Ok(_) if ready(1) => return Waited::Ready,
                Ok(_) if until.is_some_and(|until| until <= Instant::now()) => {
                    return Waited::Late;
                }
                Ok(_) => {}
            }
        }
    }
}

impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What waiting led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waited {
    Ready,
    Late,
    Stopped,
    Failed(Errno),
}

/// In milliseconds, rounded up, so that waiting does not end before its time.
fn timeout(until: Option<Instant>) -> PollTimeout {
    let Some(until) = until else {
        return PollTimeout::NONE;
    };
    let left = until.saturating_duration_since(Instant::now());
    let millis = left.as_nanos().div_ceil(1_000_000);
    PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
}

/// Why a connection is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gone {
    /// The client took too long.
    Late,
    /// The server stops.
    Stopped,
    /// The client went, or the kernel says something else.
    Closed,
}

/// The socket of one connection, which never blocks.
#[derive(Debug)]
pub(super) struct Wire<'a> {
    pub(super) socket: &'a OwnedFd,
    pub(super) stop: &'a Stop,
}

impl Wire<'_> {
    fn wait(&self, flags: PollFlags, until: Instant) -> Result<(), Gone> {
        match self
            .stop
            .wait(Some(self.socket.as_fd()), flags, Some(until))
        {
            Waited::Ready => Ok(()),
            Waited::Late => Err(Gone::Late),
            Waited::Stopped => Err(Gone::Stopped),
            Waited::Failed(_) => Err(Gone::Closed),
        }
    }

    /// What came; nothing at the end.
    pub(super) fn read<'b>(&self, to: &'b mut [u8], until: Instant) -> Result<&'b [u8], Gone> {
        loop {
            self.wait(PollFlags::POLLIN, until)?;
            match recv(self.socket.as_raw_fd(), to, MsgFlags::empty()) {
                Ok(count) => return Ok(to.get(..count).unwrap_or_default()),
                Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => {}
                Err(_) => return Err(Gone::Closed),
            }
        }
    }

    /// All of it.
    pub(super) fn write(&self, bytes: &[u8], until: Instant) -> Result<(), Gone> {
        let mut left = bytes;
        while !left.is_empty() {
            match send(self.socket.as_raw_fd(), left, MsgFlags::MSG_NOSIGNAL) {
                Ok(count) => left = left.get(count..).unwrap_or_default(),
                Err(nix::errno::Errno::EAGAIN) => self.wait(PollFlags::POLLOUT, until)?,
                Err(nix::errno::Errno::EINTR) => {}
                Err(_) => return Err(Gone::Closed),
            }
        }
        Ok(())
    }

    /// Ends the connection so that the last answer arrives: bytes that nobody read would have the
    /// kernel break it off. What still comes is thrown away, as long as it is not much.
    pub(super) fn part(&self) {
        let until = Instant::now() + Duration::from_secs(1);
        let mut bytes = vec![0; 16 << 10];
        if shutdown(self.socket.as_raw_fd(), Shutdown::Write).is_err() {
            return;
        }
        for _ in 0..64 {
            match self.read(&mut bytes, until) {
                Ok([]) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }
}
