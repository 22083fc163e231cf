//! Waiting for several file descriptors at once.

use crate::refused::{Answer, Refused};
use bpfsmith_uapi::Errno;
use nix::sys::epoll::{EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// As long as there is something to read.
    Read,
    /// Whenever the other side has made room since the last time.
    Room,
    /// When the other side of a connection ends its stream or breaks off, told once. What it sends
    /// before wakes nobody.
    End,
    /// Whenever something has come or room has been made since the last time, and as
    /// [`End`](Interest::End).
    Changes,
}

impl Interest {
    fn flags(self) -> EpollFlags {
        let end = EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        match self {
            Interest::Read => EpollFlags::EPOLLIN,
            Interest::Room => EpollFlags::EPOLLOUT | EpollFlags::EPOLLET,
            Interest::End => end,
            Interest::Changes => end | EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT,
        }
    }
}

/// A set of file descriptors to wait for.
#[derive(Debug)]
pub struct Epoll(nix::sys::epoll::Epoll);

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.0.as_fd()
    }
}

const fn refused(call: &'static str, errno: nix::errno::Errno) -> Refused {
    Refused {
        call,
        errno: Errno(errno as i32),
    }
}

impl Epoll {
    /// An empty set.
    ///
    /// # Errors
    /// `EMFILE` when the process has too many files open.
    pub fn new() -> Answer<Epoll> {
        let epoll = nix::sys::epoll::Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC);
        epoll
            .map(Epoll)
            .map_err(|errno| refused("epoll_create1", errno))
    }

    /// Adds a file descriptor. It leaves the set when its last copy is closed.
    ///
    /// # Errors
    /// `EEXIST` when it is in there; `EPERM` when it cannot be waited for.
    pub fn add(&self, fd: BorrowedFd<'_>, interest: Interest, token: u64) -> Answer<()> {
        let event = EpollEvent::new(interest.flags(), token);
        let added = self.0.add(fd, event);
        added.map_err(|errno| refused("epoll_ctl EPOLL_CTL_ADD", errno))
    }

    /// Waits for something else with a file descriptor that is in the set. What is there already
    /// counts as new.
    ///
    /// # Errors
    /// `ENOENT` when it is not in there.
    pub fn change(&self, fd: BorrowedFd<'_>, interest: Interest, token: u64) -> Answer<()> {
        let mut event = EpollEvent::new(interest.flags(), token);
        let changed = self.0.modify(fd, &mut event);
        changed.map_err(|errno| refused("epoll_ctl EPOLL_CTL_MOD", errno))
    }

    /// Takes a file descriptor out.
    ///
    /// # Errors
    /// `ENOENT` when it is not in there.
    pub fn remove(&self, fd: BorrowedFd<'_>) -> Answer<()> {
        let removed = self.0.delete(fd);
        removed.map_err(|errno| refused("epoll_ctl EPOLL_CTL_DEL", errno))
    }

    /// Waits until there is something or the time is over, and gives the tokens of those that are
    /// ready to the callback. `None` waits for ever. Returns how many there were; of more than 64
    /// the rest comes with the next call. A signal does not end the waiting.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn wait(&self, time: Option<Duration>, mut ready: impl FnMut(u64)) -> Answer<usize> {
        // A time that no clock can add up is for ever.
        let end = time.and_then(|time| Instant::now().checked_add(time));
        let mut events = [EpollEvent::empty(); 64];
        loop {
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            match self.0.wait(&mut events, timeout(left)) {
                Ok(count) => {
                    let events = events.get(..count).unwrap_or(&events);
                    // A long wait goes in several steps.
                    if !events.is_empty() || left.is_some_and(|left| left.is_zero()) {
                        events.iter().for_each(|event| ready(event.data()));
                        return Ok(events.len());
                    }
                }
                Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(refused("epoll_wait", errno)),
            }
        }
    }
}

/// In milliseconds, rounded up, so that waiting does not end before its time.
fn timeout(left: Option<Duration>) -> EpollTimeout {
    let Some(left) = left else {
        return EpollTimeout::NONE;
    };
    let millis = left.as_nanos().div_ceil(1_000_000);
    let millis = i32::try_from(millis).unwrap_or(i32::MAX);
    EpollTimeout::try_from(millis).unwrap_or(EpollTimeout::MAX)
}
