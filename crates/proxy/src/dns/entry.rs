//! What is known of one name, and when it is asked for again. Nothing here asks, or looks at a clock.

use super::error::Error;
use super::resolver::Answer;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

/// The pause after the first failure; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause after a failure.
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// What is known of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its addresses, as the last good answer has them: none if there was no good one.
    pub addresses: BTreeSet<IpAddr>,
    /// When it was last asked for, with whatever outcome; never yet, perhaps.
    pub asked: Option<SystemTime>,
    /// When it is asked for again. It may have passed: then it is being asked for.
    pub again: SystemTime,
    /// Why the last try failed, or a family could not be asked for: what it did not tell is as it was before.
    pub error: Option<Error>,
}

/// A name that is kept fresh.
#[derive(Debug)]
pub(super) struct Entry {
    /// Tells it from one of the same name that was forgotten.
    pub(super) serial: u64,
    pub(super) addresses: BTreeSet<IpAddr>,
    pub(super) asked: Option<SystemTime>,
    pub(super) again: Instant,
    pub(super) error: Option<Error>,
    pub(super) is_asked: bool,
    /// How often an answer, or none, has come.
    pub(super) rounds: u64,
    /// Whether somebody wants it asked for again, once it has been.
    pub(super) is_urgent: bool,
    failures: u32,
}

impl Entry {
    /// One that is due.
    pub(super) fn new(serial: u64, now: Instant) -> Entry {
        Entry {
            serial,
            addresses: BTreeSet::new(),
            asked: None,
            again: now,
            error: None,
            is_asked: false,
            rounds: 0,
            is_urgent: false,
            failures: 0,
        }
    }

    /// Makes it due, also if it is being asked for just now.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.is_urgent = self.is_asked;
        self.again = self.again.min(now);
    }

    /// Takes an outcome; whether the addresses are others now. `chance` is any number.
    pub(super) fn take(
        &mut self,
        outcome: Result<Answer, Error>,
        (now, time): (Instant, SystemTime),
        chance: u16,
    ) -> Change {
        self.is_asked = false;
        self.asked = Some(time);
        self.rounds += 1;
        let before = self.addresses.clone();
        let pause = match outcome {
            Ok(Answer {
                addresses,
                lasts,
                partial,
            }) => {
                let lost = partial.as_ref().map(|it| it.family);
                let kept = before.iter().copied();
                let kept = kept.filter(|it| lost.is_some_and(|family| family.has(*it)));
                self.addresses = addresses.into_iter().chain(kept).collect();
                self.failures = 0;
                self.error = partial.map(|it| it.error);
                lasts
            }
            Err(error) => {
                let pause = pause(self.failures, chance);
                self.failures = self.failures.saturating_add(1);
                // A server that says how long nothing is there is believed, for a while.
                let pause = error
                    .holds()
                    .map_or(pause, |it| it.min(LAST_PAUSE).max(pause));
                self.error = Some(error);
                pause
            }
        };
        self.again = if self.is_urgent { now } else { now + pause };
        self.is_urgent = false;
        match self.addresses == before {
            true => Change::Same,
            false => Change::Others,
        }
    }

    pub(super) fn known(&self, (now, time): (Instant, SystemTime)) -> Known {
        let again = match self.again.checked_duration_since(now) {
            Some(left) => time.checked_add(left),
            None => time.checked_sub(now.saturating_duration_since(self.again)),
        };
        Known {
            addresses: self.addresses.clone(),
            asked: self.asked,
            again: again.unwrap_or(time),
            error: self.error.clone(),
        }
    }
}

/// What an outcome did to the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    Same,
    /// They are others.
    Others,
}

/// The pause after so many failures, up to a quarter of it shorter by chance: names that failed together do not
/// all come back together.
fn pause(failures: u32, chance: u16) -> Duration {
    let whole = FIRST_PAUSE
        .saturating_mul(2_u32.saturating_pow(failures))
        .min(LAST_PAUSE);
    whole - whole / 4 * u32::from(chance) / u32::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::message::Family;
    use super::super::resolver::Partial;
    use super::*;

    fn clock() -> (Instant, SystemTime) {
        (Instant::now(), SystemTime::now())
    }

    fn good(addresses: &[&str], seconds: u64) -> Answer {
        Answer {
            addresses: addresses.iter().map(|it| it.parse().unwrap()).collect(),
            lasts: Duration::from_secs(seconds),
            partial: None,
        }
    }

    fn absent(holds: Option<u64>) -> Error {
        Error::NoName {
            host: "x".to_owned(),
            holds: holds.map(Duration::from_secs),
        }
    }

    fn texts(entry: &Entry) -> Vec<String> {
        entry.addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_last_good_answer_is_kept_and_pauses_grow() {
        let clock = clock();
        let mut entry = Entry::new(0, clock.0);
        assert_eq!(
            entry.take(Ok(good(&["10.0.0.1"], 7)), clock, 0),
            Change::Others
        );
        assert_eq!(entry.again, clock.0 + Duration::from_secs(7));
        assert_eq!(
            entry.take(Ok(good(&["10.0.0.1"], 7)), clock, 0),
            Change::Same
        );
        let mut pauses = Vec::new();
        for _ in 0..7 {
            assert_eq!(entry.take(Err(absent(None)), clock, 0), Change::Same);
            pauses.push((entry.again - clock.0).as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        let known = entry.known(clock);
        assert_eq!(known.addresses, good(&["10.0.0.1"], 0).addresses);
        assert_eq!(known.error, Some(absent(None)));
        assert_eq!(known.again, clock.1 + Duration::from_secs(30));
        // A good one ends it, and the next failure is a first one.
        entry.take(Ok(good(&["10.0.0.2"], 7)), clock, 0);
        assert_eq!(entry.known(clock).error, None);
        entry.take(Err(absent(None)), clock, 0);
        assert_eq!(entry.again, clock.0 + Duration::from_secs(1));
    }

    #[test]
    fn a_server_that_says_how_long_nothing_is_there_is_believed_for_a_while() {
        for (holds, seconds) in [(0, 1), (7, 7), (3000, 30)] {
            let clock = clock();
            let mut entry = Entry::new(0, clock.0);
            entry.take(Err(absent(Some(holds))), clock, 0);
            assert_eq!(
                entry.again,
                clock.0 + Duration::from_secs(seconds),
                "{holds}"
            );
        }
    }

    #[test]
    fn a_family_that_could_not_be_asked_for_stays() {
        let clock = clock();
        let mut entry = Entry::new(0, clock.0);
        entry.take(Ok(good(&["10.0.0.1", "fd00::1"], 7)), clock, 0);
        let mut part = good(&["10.0.0.2"], 7);
        part.partial = Some(Partial {
            family: Family::V6,
            error: absent(None),
        });
        assert_eq!(entry.take(Ok(part), clock, 0), Change::Others);
        assert_eq!(texts(&entry), ["10.0.0.2", "fd00::1"]);
        assert_eq!(entry.error, Some(absent(None)));
        entry.take(Ok(good(&["10.0.0.2"], 7)), clock, 0);
        assert_eq!(texts(&entry), ["10.0.0.2"]);
    }

    #[test]
    fn who_hurries_while_it_is_asked_for_gets_another_round() {
        let clock = clock();
        let mut entry = Entry::new(0, clock.0);
        entry.is_asked = true;
        entry.hurry(clock.0);
        entry.take(Ok(good(&["10.0.0.1"], 7)), clock, 0);
        assert_eq!(entry.again, clock.0);
        entry.take(Ok(good(&["10.0.0.1"], 7)), clock, 0);
        assert_eq!(entry.again, clock.0 + Duration::from_secs(7));
    }

    #[test]
    fn chance_shortens_a_pause_by_a_quarter_at_most() {
        assert_eq!(pause(0, u16::MAX), Duration::from_millis(750));
        assert_eq!(pause(u32::MAX, 0), Duration::from_secs(30));
        assert_eq!(pause(u32::MAX, u16::MAX), Duration::from_millis(22_500));
    }
}
