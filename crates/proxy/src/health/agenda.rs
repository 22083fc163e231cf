//! What is to be done when.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

/// One time at most for each number.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    times: HashMap<u64, Instant>,
    order: BTreeSet<(Instant, u64)>,
}

impl Agenda {
    /// Gives the number a time, in place of the one it had.
    pub(super) fn set(&mut self, number: u64, at: Instant) {
        self.remove(number);
        self.times.insert(number, at);
        self.order.insert((at, number));
    }

    /// Forgets the number.
    pub(super) fn remove(&mut self, number: u64) {
        if let Some(at) = self.times.remove(&number) {
            self.order.remove(&(at, number));
        }
    }

    /// The time of a number.
    pub(super) fn at(&self, number: u64) -> Option<Instant> {
        self.times.get(&number).copied()
    }

    /// The first time.
    pub(super) fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes out a number whose time has come, the first one first.
    pub(super) fn pop(&mut self, now: Instant) -> Option<u64> {
        let (at, number) = self.order.first().copied()?;
        if at > now {
            return None;
        }
        self.remove(number);
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn each_number_comes_once_at_its_last_time() {
        let (mut agenda, now) = (Agenda::default(), Instant::now());
        let at = |second| now + Duration::from_secs(second);
        agenda.set(1, at(5));
        agenda.set(2, at(3));
        agenda.set(3, at(1));
        agenda.set(1, at(2));
        agenda.set(2, at(4));
        agenda.remove(3);
        agenda.remove(9);
        assert_eq!(agenda.next(), Some(at(2)));
        assert_eq!(agenda.at(2), Some(at(4)));
        assert_eq!(agenda.pop(at(1)), None);
        assert_eq!(agenda.pop(at(9)), Some(1));
        assert_eq!(agenda.pop(at(9)), Some(2));
        assert_eq!((agenda.pop(at(9)), agenda.next()), (None, None));
    }

    #[test]
    fn numbers_of_the_same_time_do_not_replace_each_other() {
        let (mut agenda, now) = (Agenda::default(), Instant::now());
        agenda.set(1, now);
        agenda.set(2, now);
        assert_eq!(agenda.pop(now), Some(1));
        assert_eq!(agenda.pop(now), Some(2));
    }
}
