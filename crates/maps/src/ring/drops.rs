//! How full a ring is, and what found no room in it.

use super::{RingBuf, RingProblem};
use crate::error::{Operation, Problem, Result};
use crate::handle::Handle;
use bpfsmith_uapi::MapType;

/// A ring at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Bytes of the ring.
    pub size: usize,
    /// Bytes that are reserved or written and not read yet, with headers.
    pub used: usize,
    /// Bytes that were read since the ring was made, with headers.
    pub read: usize,
    /// How many records found no room, where programs count them.
    pub drops: Option<u64>,
}

impl RingBuf {
    /// Tells the ring where programs count the records that found no room: under key 0 of an array
    /// with `u64` values, or of a per-CPU array.
    ///
    /// The kernel counts no drops. A program that gets null from `ringbuf_reserve`, or an error from
    /// `ringbuf_output`, adds 1 there.
    ///
    /// # Errors
    /// [`RingProblem::NotACounter`] for another map.
    pub fn with_drops(mut self, counter: &Handle) -> Result<RingBuf> {
        let facts = counter.facts();
        let is_array = matches!(facts.kind, MapType::ARRAY | MapType::PERCPU_ARRAY);
        if !is_array || facts.value != 8 {
            let problem = Problem::Ring(RingProblem::NotACounter);
            return Err(counter.problem(Operation::View("RingBuf"), problem));
        }
        self.drops = Some(counter.try_clone()?);
        Ok(self)
    }

    /// How full it is, and how many records were lost.
    ///
    /// # Errors
    /// When the counter cannot be read.
    pub fn stats(&self) -> Result<Stats> {
        let positions = self.positions();
        let drops = self.drops.as_ref().map(count).transpose()?;
        Ok(Stats {
            size: self.size(),
            used: positions.used(),
            read: positions.consumer,
            drops,
        })
    }
}

/// The sum over all CPUs.
fn count(counter: &Handle) -> Result<u64> {
    let mut values = vec![0; counter.facts().stride];
    let read = counter.raw().lookup(&[0; 4], &mut values, 0);
    read.map_err(|failed| counter.failed(failed))?;
    let (values, _) = values.as_chunks::<8>();
    let values = values.iter().map(|value| u64::from_ne_bytes(*value));
    Ok(values.fold(0, u64::wrapping_add))
}
