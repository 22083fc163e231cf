//! [`RingBuf`]: what programs tell user space, in the order in which they told it.

use crate::error::{Operation, Problem, Result};
use crate::handle::Handle;
use crate::view;
use bpfsmith_sys::ring::{Consumer, Corrupt, OpenError};
use bpfsmith_uapi::map::MapDef;
use std::fmt;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};
use zerocopy::{FromBytes, Immutable, KnownLayout};

pub use bpfsmith_sys::ring::{Drained, End, Pace, Positions, Record, Verdict};
pub use drops::Stats;
pub use set::{Polled, RingSet};

mod drops;
mod set;

/// Why a ring cannot be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RingProblem {
    /// Another part of this process has it open.
    Taken,
    /// A header or a position contradicts the rest.
    Corrupt(Corrupt),
    /// The same, in the ring of a perf event.
    CorruptPerf(bpfsmith_sys::perf_ring::Corrupt),
    /// A record finds no room.
    NoRoom(bpfsmith_sys::user_ring::NoRoom),
    /// A map that is to count drops has other values than 8 bytes.
    NotACounter,
}

impl fmt::Display for RingProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RingProblem::Taken => f.write_str(
                "the ring is open in this process already (share that one, or drop it before)",
            ),
            RingProblem::Corrupt(corrupt) => {
                write!(
                    f,
                    "{corrupt} (somebody else moves the positions of this ring)"
                )
            }
            RingProblem::CorruptPerf(corrupt) => {
                write!(f, "{corrupt} (somebody else reads this ring)")
            }
            RingProblem::NoRoom(no_room) => no_room.fmt(f),
            RingProblem::NotACounter => {
                f.write_str("a counter of drops is an array with u32 keys and u64 values")
            }
        }
    }
}

/// The reading end of a ring buffer. Linux 5.8.
///
/// Records are read where they lie, without a copy. A map has one reader in a process; several
/// processes must not read it at the same time either.
///
/// ```no_run
/// use bpfsmith_maps::{Result, RingBuf};
/// use bpfsmith_uapi::map::MapDef;
///
/// static EVENTS: MapDef<(), ()> = MapDef::ringbuf("events", 1 << 20);
///
/// fn sum() -> Result<u64> {
///     let mut events = RingBuf::create(&EVENTS)?;
///     let mut sum = 0;
///     events.for_each(|event: &u64| sum += event)?;
///     Ok(sum)
/// }
/// ```
#[derive(Debug)]
pub struct RingBuf {
    consumer: Consumer,
    handle: Handle,
    pace: Pace,
    drops: Option<Handle>,
}

/// What was read as values of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Typed {
    /// How many values were handed out.
    pub values: u64,
    /// How many records had another length than the type, and were skipped.
    pub misfits: u64,
    /// How long the first of these was.
    pub first_misfit: Option<usize>,
    /// How many records programs had discarded.
    pub discarded: u64,
    /// Why it ended.
    pub end: End,
}

impl Deref for RingBuf {
    type Target = Handle;

    #[inline]
    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl AsFd for RingBuf {
    /// Ready to be read as long as there are records, also such as are not submitted yet.
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

impl From<RingBuf> for Handle {
    fn from(ring: RingBuf) -> Handle {
        ring.handle
    }
}

impl view::View<MapDef<(), ()>> for RingBuf {
    fn view(handle: Handle) -> Result<RingBuf> {
        RingBuf::new(handle)
    }
}

pub(crate) fn not_open(handle: &Handle, view: &'static str, error: OpenError) -> crate::Error {
    match error {
        OpenError::Refused(refused) => handle.refused(refused, refused.errno),
        OpenError::Unknown(failed) => handle.failed(failed),
        OpenError::Kind(kind) => {
            let view_of = view::view_of(kind);
            handle.problem(Operation::View(view), Problem::Kind { view: view_of })
        }
        OpenError::Taken => {
            handle.problem(Operation::View(view), Problem::Ring(RingProblem::Taken))
        }
    }
}

impl RingBuf {
    /// Makes a ring buffer and opens it.
    ///
    /// # Errors
    /// `EINVAL` for a size that is no power of two of whole pages.
    pub fn create(def: &MapDef<(), ()>) -> Result<RingBuf> {
        view::is_made_for(def.shape(), "RingBuf")?;
        RingBuf::new(Handle::create(def.shape())?)
    }

    /// Opens a ring buffer.
    ///
    /// # Errors
    /// When the map is of another kind, or open in this process already.
    pub fn new(handle: Handle) -> Result<RingBuf> {
        view::is_for(&handle, "RingBuf")?;
        let consumer = Consumer::open(handle.raw());
        Ok(RingBuf {
            consumer: consumer.map_err(|error| not_open(&handle, "RingBuf", error))?,
            handle,
            pace: Pace::ALL,
            drops: None,
        })
    }

    /// Opens the ring buffer of a map that somebody else keeps.
    ///
    /// # Errors
    /// As for [`RingBuf::new`].
    pub fn of(handle: &Handle) -> Result<RingBuf> {
        RingBuf::new(handle.try_clone()?)
    }

    /// Sets how many records [`consume`](RingBuf::consume) reads at most, and how soon programs
    /// learn of the room that becomes free.
    pub fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    #[cold]
    fn corrupt(&self, corrupt: Corrupt) -> crate::Error {
        let problem = Problem::Ring(RingProblem::Corrupt(corrupt));
        self.handle.problem(Operation::Call("read ring"), problem)
    }

    /// Hands each record to the callback, which may return a
    /// [`ControlFlow`](std::ops::ControlFlow) to end it.
    ///
    /// If the callback panics, its record stays in the ring.
    ///
    /// # Errors
    /// [`RingProblem::Corrupt`]; the records before are read.
    #[inline]
    pub fn consume<V: Verdict>(&mut self, each: impl FnMut(&[u8]) -> V) -> Result<Drained> {
        let drained = self.consumer.drain(self.pace, each);
        drained.map_err(|corrupt| self.corrupt(corrupt))
    }

    /// Hands each record to the callback as a value of a type. Records of another length are counted
    /// and skipped.
    ///
    /// # Errors
    /// As for [`RingBuf::consume`].
    #[inline]
    pub fn for_each<T, V: Verdict>(&mut self, mut each: impl FnMut(&T) -> V) -> Result<Typed>
    where
        T: FromBytes + KnownLayout + Immutable,
    {
        const {
            assert!(
                align_of::<T>() <= 8,
                "records start at multiples of 8 bytes"
            );
        }
        let (mut misfits, mut first_misfit) = (0_u64, None);
        let drained = self.consume(|bytes| match T::ref_from_bytes(bytes) {
            Ok(value) if each(value).is_enough() => std::ops::ControlFlow::Break(()),
            Ok(_) => std::ops::ControlFlow::Continue(()),
            Err(_) => {
                misfits += 1;
                first_misfit.get_or_insert(bytes.len());
                std::ops::ControlFlow::Continue(())
            }
        })?;
        Ok(Typed {
            values: drained.records - misfits,
            misfits,
            first_misfit,
            discarded: drained.discarded,
            end: drained.end,
        })
    }

    /// Lends the next record; its room is given back when it is dropped. `None` when there is none,
    /// or none that is submitted.
    ///
    /// # Errors
    /// [`RingProblem::Corrupt`].
    #[inline]
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>> {
        match self.consumer.next_record() {
            Ok(record) => Ok(record),
            Err(corrupt) => {
                let problem = Problem::Ring(RingProblem::Corrupt(corrupt));
                Err(self.handle.problem(Operation::Call("read ring"), problem))
            }
        }
    }

    /// Bytes of the ring.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.consumer.size()
    }

    /// How far programs have written and this end has read.
    #[must_use]
    pub fn positions(&self) -> Positions {
        self.consumer.positions()
    }
}
