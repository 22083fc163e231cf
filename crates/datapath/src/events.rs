//! Reading events.

use crate::clock::Clock;
use crate::error::Result;
use crate::event::{Event, Malformed};
use crate::generation::Generation;
use bpfsmith_maps::{Handle, RingBuf};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// The reading end of the ring of events.
///
/// Programs wake nobody for an event, for that costs more than telling it: only a ring that is half full does. So
/// a reader asks every so often, [`PAUSE`] or what suits it, and waits in between for its descriptor to
/// become ready.
#[derive(Debug)]
pub struct Events {
    ring: RingBuf,
    clock: Clock,
}

/// How long a reader may wait until it asks again.
pub const PAUSE: Duration = Duration::from_millis(100);

/// What one reading brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// Events.
    pub events: u64,
    /// Records that are none.
    pub malformed: u64,
    /// The first of these.
    pub first_malformed: Option<Malformed>,
}

impl Events {
    /// Opens the ring of a generation, and of those after it. One process reads at a time.
    ///
    /// # Errors
    /// When its configuration has no events, or this process has the ring open.
    pub fn open(generation: &Generation) -> Result<Events> {
        let ring = generation.shape().event_ring();
        let map = generation.maps().handle(ring.shape().name)?;
        Events::of(&map, generation.shape().clock)
    }

    /// Opens the ring in a map, a pinned one for example.
    ///
    /// # Errors
    /// When it is no ring, or open in this process.
    pub fn of(map: &Handle, clock: Clock) -> Result<Events> {
        let ring = RingBuf::of(map)?;
        Ok(Events { ring, clock })
    }

    /// Hands out the events that are there, until there is none or the callback breaks off.
    ///
    /// # Errors
    /// When somebody else has written to the ring's positions.
    pub fn read(&mut self, mut each: impl FnMut(Event) -> ControlFlow<()>) -> Result<Read> {
        let mut read = Read::default();
        let clock = self.clock;
        self.ring.consume(|bytes| match Event::read(bytes, clock) {
            Ok(event) => {
                read.events += 1;
                each(event)
            }
            Err(malformed) => {
                read.malformed += 1;
                read.first_malformed.get_or_insert(malformed);
                ControlFlow::Continue(())
            }
        })?;
        Ok(read)
    }
}

impl AsFd for Events {
    /// Ready when the ring is half full, and sometimes before.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}
