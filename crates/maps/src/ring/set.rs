//! [`RingSet`]: several ring buffers and one place to wait.

use super::{RingBuf, Verdict};
use crate::error::Result;
use bpfsmith_sys::Refused;
use bpfsmith_sys::epoll::{Epoll, Interest};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// Several ring buffers that are waited for together.
///
/// A program decides whether its record wakes the waiter: it does if everything before it was read,
/// unless the program asked otherwise with `BPF_RB_NO_WAKEUP` or `BPF_RB_FORCE_WAKEUP`.
#[derive(Debug)]
pub struct RingSet {
    rings: Vec<RingBuf>,
    ready: Vec<usize>,
    epoll: Epoll,
}

/// What one round of waiting brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Polled {
    /// How many rings were ready; 0 when the time was over.
    pub rings: usize,
    /// How many records were handed out.
    pub records: u64,
}

impl AsFd for RingSet {
    /// Ready to be read when one of the rings is.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

fn failed(ring: &RingBuf, refused: Refused) -> crate::Error {
    ring.refused(refused, refused.errno)
}

impl RingSet {
    /// A set with one ring, whose number is 0.
    ///
    /// # Errors
    /// `EMFILE` when the process has too many files open.
    pub fn new(first: RingBuf) -> Result<RingSet> {
        let epoll = Epoll::new().map_err(|refused| failed(&first, refused))?;
        let mut set = RingSet {
            rings: Vec::new(),
            ready: Vec::new(),
            epoll,
        };
        set.add(first)?;
        Ok(set)
    }

    /// Adds a ring, and returns its number: they count up.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn add(&mut self, ring: RingBuf) -> Result<usize> {
        let number = self.rings.len();
        let added = self.epoll.add(ring.as_fd(), Interest::Read, number as u64);
        added.map_err(|refused| failed(&ring, refused))?;
        self.rings.push(ring);
        Ok(number)
    }

    /// The rings, by their numbers.
    #[must_use]
    pub fn rings(&self) -> &[RingBuf] {
        &self.rings
    }

    /// The rings, by their numbers, to be read.
    pub fn rings_mut(&mut self) -> &mut [RingBuf] {
        &mut self.rings
    }

    /// Waits until a ring is ready, or the time is over; `None` waits for ever. Hands the records of
    /// each ring that is ready to the callback, with the number of the ring.
    ///
    /// Each ring goes on for as long as its [`Pace`](super::Pace) says: set a limit where one of
    /// several rings never becomes empty. A ring whose next record is not submitted yet is ready all
    /// the same, and brings nothing.
    ///
    /// # Errors
    /// As for [`RingBuf::consume`].
    pub fn poll<V: Verdict>(
        &mut self,
        time: Option<Duration>,
        each: impl FnMut(usize, &[u8]) -> V,
    ) -> Result<Polled> {
        let ready = &mut self.ready;
        ready.clear();
        let waited = self.epoll.wait(time, |token| {
            // Only numbers of rings were registered.
            ready.extend(usize::try_from(token));
        });
        if let (Err(refused), Some(ring)) = (waited, self.rings.first()) {
            return Err(failed(ring, refused));
        }
        let records = consume(&mut self.rings, self.ready.iter().copied(), each)?;
        Ok(Polled {
            rings: self.ready.len(),
            records,
        })
    }

    /// Hands all records of all rings to the callback, without waiting: also those that wake nobody.
    ///
    /// # Errors
    /// As for [`RingBuf::consume`].
    pub fn consume<V: Verdict>(&mut self, each: impl FnMut(usize, &[u8]) -> V) -> Result<u64> {
        let numbers = 0..self.rings.len();
        consume(&mut self.rings, numbers, each)
    }
}

/// Reads the rings of these numbers, until the callback has enough.
fn consume<V: Verdict>(
    rings: &mut [RingBuf],
    numbers: impl Iterator<Item = usize>,
    mut each: impl FnMut(usize, &[u8]) -> V,
) -> Result<u64> {
    let mut records = 0;
    for number in numbers {
        let Some(ring) = rings.get_mut(number) else {
            continue;
        };
        let drained = ring.consume(|record| {
            if each(number, record).is_enough() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        records += drained.records;
        if drained.end == super::End::Stopped {
            break;
        }
    }
    Ok(records)
}
