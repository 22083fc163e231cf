//! When which slot is to be looked after, though nothing happens.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// One time for each slot at most: a pair that is woken often while it waits must not be woken by
/// each of the times that it gave.
#[derive(Debug, Default)]
pub(super) struct Timers {
    queue: BinaryHeap<Reverse<(Instant, usize)>>,
    /// What counts for a slot. Others of it in the queue are of the past.
    due: Vec<Option<Instant>>,
}

impl Timers {
    /// Has the slot looked after at that time, or at the earlier one that is set.
    pub(super) fn set(&mut self, slot: usize, at: Instant) {
        if slot >= self.due.len() {
            self.due.resize(slot + 1, None);
        }
        if let Some(due) = self.due.get_mut(slot)
            && due.is_none_or(|due| at < due)
        {
            *due = Some(at);
            self.queue.push(Reverse((at, slot)));
        }
    }

    /// Forgets the time of a slot.
    pub(super) fn clear(&mut self, slot: usize) {
        if let Some(due) = self.due.get_mut(slot) {
            *due = None;
        }
    }

    /// How long until the next one, at most.
    pub(super) fn next(&self, now: Instant) -> Option<Duration> {
        let Reverse((at, _)) = self.queue.peek()?;
        Some(at.saturating_duration_since(now))
    }

    /// The slots whose time has come, each once.
    pub(super) fn pass(&mut self, now: Instant) -> Vec<usize> {
        let mut slots = Vec::new();
        while let Some(Reverse((at, slot))) = self.queue.peek().copied() {
            if at > now {
                break;
            }
            self.queue.pop();
            if let Some(due) = self.due.get_mut(slot)
                && *due == Some(at)
            {
                *due = None;
                slots.push(slot);
            }
        }
        slots
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(20);

    #[test]
    fn a_slot_that_is_set_often_is_due_once() {
        let (mut timers, start) = (Timers::default(), Instant::now());
        // As a pair that is woken by its sockets again and again, and always wants the same.
        for round in 0..1000 {
            timers.set(3, start + STEP + Duration::from_micros(round));
        }
        assert_eq!(timers.next(start), Some(STEP));
        assert_eq!(timers.pass(start), []);
        assert_eq!(timers.pass(start + 2 * STEP), [3]);
        assert_eq!(timers.pass(start + 2 * STEP), []);
        assert_eq!((timers.queue.len(), timers.next(start)), (0, None));
    }

    #[test]
    fn an_earlier_time_replaces_a_later_one() {
        let (mut timers, start) = (Timers::default(), Instant::now());
        timers.set(0, start + 2 * STEP);
        timers.set(1, start + 2 * STEP);
        timers.set(0, start + STEP);
        assert_eq!(timers.pass(start + STEP), [0]);
        assert_eq!(timers.pass(start + 3 * STEP), [1]);
    }

    #[test]
    fn a_slot_that_is_cleared_is_not_due() {
        let (mut timers, start) = (Timers::default(), Instant::now());
        timers.set(0, start);
        timers.clear(0);
        timers.clear(7);
        assert_eq!(timers.pass(start + STEP), []);
        timers.set(0, start + STEP);
        assert_eq!(timers.pass(start + STEP), [0]);
    }
}
