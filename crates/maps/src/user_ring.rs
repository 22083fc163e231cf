//! [`UserRing`]: what user space tells programs.

use crate::error::{Operation, Problem, Result};
use crate::handle::Handle;
use crate::ring::{RingProblem, not_open};
use crate::view;
use bpfsmith_sys::Refused;
use bpfsmith_sys::epoll::{Epoll, Interest};
use bpfsmith_sys::user_ring::{NoRoom, Producer};
use bpfsmith_uapi::map::MapDef;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

pub use bpfsmith_sys::user_ring::Reserved;

/// The writing end of a user ring buffer. Linux 6.1.
///
/// A program reads it with `user_ringbuf_drain`, whenever that program runs: nothing here makes it
/// run.
///
/// ```no_run
/// use bpfsmith_maps::{Result, UserRing};
/// use bpfsmith_uapi::MapType;
/// use bpfsmith_uapi::map::MapDef;
///
/// static ORDERS: MapDef<(), ()> = MapDef::new(MapType::USER_RINGBUF, "orders", 4096);
///
/// fn order(amount: u64) -> Result<()> {
///     let mut orders = UserRing::create(&ORDERS)?;
///     let mut room = orders.reserve(8)?;
///     room.copy_from_slice(&amount.to_ne_bytes());
///     room.submit();
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct UserRing {
    producer: Producer,
    handle: Handle,
    /// Made when somebody waits for the first time.
    epoll: Option<Epoll>,
}

impl Deref for UserRing {
    type Target = Handle;

    #[inline]
    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl AsFd for UserRing {
    /// Ready to be written as long as the ring is not full.
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

impl From<UserRing> for Handle {
    fn from(ring: UserRing) -> Handle {
        ring.handle
    }
}

impl UserRing {
    /// Makes a user ring buffer and opens it.
    ///
    /// # Errors
    /// `EINVAL` for a size that is no power of two of whole pages, or an older kernel.
    pub fn create(def: &MapDef<(), ()>) -> Result<UserRing> {
        view::is_made_for(def.shape(), "UserRing")?;
        UserRing::new(Handle::create(def.shape())?)
    }

    /// Opens a user ring buffer.
    ///
    /// # Errors
    /// When the map is of another kind, or open in this process already.
    pub fn new(handle: Handle) -> Result<UserRing> {
        view::is_for(&handle, "UserRing")?;
        let producer = Producer::open(handle.raw());
        Ok(UserRing {
            producer: producer.map_err(|error| not_open(&handle, "UserRing", error))?,
            handle,
            epoll: None,
        })
    }

    /// Opens the ring of a map that somebody else keeps.
    ///
    /// # Errors
    /// As for [`UserRing::new`].
    pub fn of(handle: &Handle) -> Result<UserRing> {
        UserRing::new(handle.try_clone()?)
    }

    /// Bytes of the ring.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.producer.size()
    }

    /// Bytes that no program has read yet, with headers.
    #[must_use]
    pub fn used(&self) -> usize {
        self.producer.positions().used()
    }

    /// Reserves a record of `len` bytes, which is to be filled and submitted; dropped, it is skipped.
    /// At first it holds what was in its place before.
    ///
    /// # Errors
    /// [`RingProblem::NoRoom`], with how many bytes are free.
    #[inline]
    pub fn reserve(&mut self, len: u32) -> Result<Reserved<'_>> {
        match self.producer.reserve(len) {
            Ok(reserved) => Ok(reserved),
            Err(no_room) => Err(refused(&self.handle, no_room)),
        }
    }

    /// Reserves a record, or returns `None` when programs have to read first.
    ///
    /// # Errors
    /// [`RingProblem::NoRoom`] for a record that never fits.
    #[inline]
    pub fn try_reserve(&mut self, len: u32) -> Result<Option<Reserved<'_>>> {
        match self.producer.reserve(len) {
            Ok(reserved) => Ok(Some(reserved)),
            Err(NoRoom::Full { .. }) => Ok(None),
            Err(no_room) => Err(refused(&self.handle, no_room)),
        }
    }

    /// Reserves a record, and waits for a program to make room if need be; `None` waits for ever.
    ///
    /// # Errors
    /// [`RingProblem::NoRoom`] when the time is over, or for a record that never fits.
    pub fn reserve_within(&mut self, len: u32, time: Option<Duration>) -> Result<Reserved<'_>> {
        let end = time.and_then(|time| Instant::now().checked_add(time));
        // Whether there is room does not change but for the better while this end is borrowed.
        while !self
            .producer
            .has_room(len)
            .map_err(|no_room| refused(&self.handle, no_room))?
        {
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            // Armed before the second look: what becomes free in between wakes us.
            self.arm()?;
            if matches!(self.producer.has_room(len), Ok(true)) {
                break;
            }
            let Some(epoll) = &self.epoll else { break };
            let waited = epoll.wait(left, |_| {});
            waited.map_err(|error| self.handle.refused(error, error.errno))?;
            if left.is_some_and(|left| left.is_zero()) {
                break;
            }
        }
        self.reserve(len)
    }

    fn arm(&mut self) -> Result<()> {
        if self.epoll.is_some() {
            return Ok(());
        }
        let fail = |error: Refused| self.handle.refused(error, error.errno);
        let epoll = Epoll::new().map_err(fail)?;
        epoll
            .add(self.handle.as_fd(), Interest::Room, 0)
            .map_err(fail)?;
        self.epoll = Some(epoll);
        Ok(())
    }
}

#[cold]
fn refused(handle: &Handle, no_room: NoRoom) -> crate::Error {
    let problem = Problem::Ring(RingProblem::NoRoom(no_room));
    handle.problem(Operation::Call("reserve"), problem)
}
