//! [`Standing`]: what answers of a target come to.

use bpfsmith_config::desired::Health;
use std::fmt;
use std::time::{Duration, Instant};

/// What checks say of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// It has not answered yet, and has not failed often enough either. It counts as up.
    Unknown,
    /// It lives.
    Up,
    /// It does not.
    Down,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            State::Unknown => "unknown",
            State::Up => "up",
            State::Down => "down",
        })
    }
}

/// What an operator says of a target, whatever checks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Forced {
    /// It has its whole share, at once.
    Up,
    /// It gets nothing.
    Down,
}

impl fmt::Display for Forced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Forced::Up => "up",
            Forced::Down => "down",
        })
    }
}

/// The first step of slow start in percent, and by how much each other one is higher.
const STEP: u8 = 10;

/// How often the share rises.
const RISES: u128 = 9;

/// What answers of one target come to. It holds no clock: who calls says what time it is.
///
/// ```
/// use bpfsmith_config::desired::{Check, Health};
/// use bpfsmith_proxy::health::{Standing, State};
/// use std::time::{Duration, Instant};
///
/// let health = Health {
///     check: Check::Tcp,
///     interval: Duration::from_secs(10),
///     timeout: Duration::from_secs(3),
///     jitter: 0.1,
///     up: 2,
///     down: 3,
///     slow_start: Duration::from_secs(90),
/// };
/// let now = Instant::now();
/// let mut standing = Standing::new(&health, now);
/// assert_eq!((standing.state(), standing.share(now)), (State::Unknown, 100));
/// assert_eq!(standing.failed(now), None);
/// assert_eq!(standing.failed(now), None);
/// assert_eq!(standing.failed(now), Some(State::Down));
/// assert_eq!(standing.share(now), 0);
/// assert_eq!(standing.answered(now), None);
/// assert_eq!(standing.answered(now), Some(State::Up));
/// assert_eq!(standing.share(now), 10);
/// assert_eq!(standing.next_step(now), Some(Duration::from_secs(10)));
/// assert_eq!(standing.share(now + Duration::from_secs(90)), 100);
/// ```
#[derive(Clone, Debug)]
pub struct Standing {
    up: u32,
    down: u32,
    slow_start: Duration,
    state: State,
    since: Instant,
    /// Answers in turn that speak against the state.
    against: u32,
    /// When its share began to rise, if it has to.
    rising: Option<Instant>,
    forced: Option<Forced>,
}

impl Standing {
    /// Of a target that nobody has asked yet.
    #[must_use]
    pub fn new(health: &Health, now: Instant) -> Standing {
        Standing {
            up: health.up,
            down: health.down,
            slow_start: health.slow_start,
            state: State::Unknown,
            since: now,
            against: 0,
            rising: None,
            forced: None,
        }
    }

    /// Goes by other numbers from now on. State and answers so far are kept; a lower threshold counts with the
    /// next answer. A share that has risen does not fall; one that is rising goes by the new time.
    pub fn adapt(&mut self, health: &Health, now: Instant) {
        if self.rise(now).is_none() {
            self.rising = None;
        }
        self.up = health.up;
        self.down = health.down;
        self.slow_start = health.slow_start;
    }

    /// A check went well. Returns the new state if that changed it.
    pub fn answered(&mut self, now: Instant) -> Option<State> {
        match self.state {
            State::Up => {
                self.against = 0;
                None
            }
            // It counted as up all the time: its share does not change.
            State::Unknown => self.turn(State::Up, now),
            State::Down => {
                self.against = self.against.saturating_add(1);
                if self.against < self.up {
                    return None;
                }
                // Whoever had its whole share meanwhile needs no slow start.
                self.rising = (self.forced != Some(Forced::Up)).then_some(now);
                self.turn(State::Up, now)
            }
        }
    }

    /// A check failed. Returns the new state if that changed it.
    pub fn failed(&mut self, now: Instant) -> Option<State> {
        if self.state == State::Down {
            self.against = 0;
            return None;
        }
        self.against = self.against.saturating_add(1);
        if self.against < self.down {
            return None;
        }
        self.rising = None;
        self.turn(State::Down, now)
    }

    fn turn(&mut self, state: State, now: Instant) -> Option<State> {
        self.state = state;
        self.since = now;
        self.against = 0;
        Some(state)
    }

    /// Has an operator's word go before what checks say, or no longer. A target that was kept out and lives
    /// starts slowly.
    pub fn force(&mut self, forced: Option<Forced>, now: Instant) {
        if self.forced == Some(Forced::Down) && forced.is_none() && self.state != State::Down {
            self.rising = Some(now);
        }
        self.forced = forced;
    }

    /// What checks say, whatever an operator says.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Since when they say that.
    #[must_use]
    pub const fn since(&self) -> Instant {
        self.since
    }

    /// What an operator says.
    #[must_use]
    pub const fn forced(&self) -> Option<Forced> {
        self.forced
    }

    /// Whether it gets new connections.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        match self.forced {
            Some(Forced::Up) => true,
            Some(Forced::Down) => false,
            None => !matches!(self.state, State::Down),
        }
    }

    /// How much of its weight counts, in percent: from 10 to 100 while it is up, and else 0.
    #[must_use]
    pub fn share(&self, now: Instant) -> u8 {
        if !self.is_up() {
            return 0;
        }
        let rise = self.rise(now).filter(|_| self.forced.is_none());
        let rises = rise.and_then(|rise| u8::try_from(rise.rises).ok());
        rises.map_or(100, |rises| STEP + STEP * rises)
    }

    /// How long until the share changes by itself.
    #[must_use]
    pub fn next_step(&self, now: Instant) -> Option<Duration> {
        let rise = self.rise(now)?;
        (self.is_up() && self.forced.is_none()).then_some(rise.next)
    }

    /// How far its share has risen; nothing when it need not, or is done.
    fn rise(&self, now: Instant) -> Option<Rise> {
        let gone = now.saturating_duration_since(self.rising?).as_nanos();
        let whole = self.slow_start.as_nanos();
        let rises = (gone * RISES).checked_div(whole)?;
        if rises >= RISES {
            return None;
        }
        let next = (whole * (rises + 1)).div_ceil(RISES) - gone;
        Some(Rise {
            rises,
            next: Duration::from_nanos(u64::try_from(next).unwrap_or(u64::MAX)),
        })
    }
}

struct Rise {
    rises: u128,
    next: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;
    use bpfsmith_config::desired::Check;
    use proptest::prelude::*;

    fn health(up: u32, down: u32, slow_start: Duration) -> Health {
        Health {
            check: Check::Tcp,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            jitter: 0.0,
            up,
            down,
            slow_start,
        }
    }

    const NONE: Duration = Duration::ZERO;
    const SLOW: Duration = Duration::from_secs(90);

    fn fail(standing: &mut Standing, times: u32, now: Instant) -> Vec<Option<State>> {
        (0..times).map(|_| standing.failed(now)).collect()
    }

    #[test]
    fn a_new_target_counts_as_up_until_it_failed_often_enough() {
        let now = Instant::now();
        let mut standing = Standing::new(&health(2, 3, SLOW), now);
        assert!(standing.is_up());
        assert_eq!(
            (standing.state(), standing.share(now)),
            (State::Unknown, 100)
        );
        assert_eq!(fail(&mut standing, 3, now), [None, None, Some(State::Down)]);
        assert_eq!((standing.share(now), standing.next_step(now)), (0, None));
    }

    #[test]
    fn a_new_target_that_answers_has_its_whole_share_at_once() {
        let now = Instant::now();
        let mut standing = Standing::new(&health(5, 2, SLOW), now);
        assert_eq!(standing.failed(now), None);
        let later = now + SLOW;
        assert_eq!(standing.answered(later), Some(State::Up));
        assert_eq!((standing.share(later), standing.since()), (100, later));
        // The failure from before does not count any more.
        assert_eq!(fail(&mut standing, 2, later), [None, Some(State::Down)]);
    }

    #[test]
    fn one_that_flaps_stays_what_it_is() {
        let now = Instant::now();
        let mut standing = Standing::new(&health(2, 3, NONE), now);
        standing.answered(now);
        for _ in 0..50 {
            assert_eq!(fail(&mut standing, 2, now), [None, None]);
            assert_eq!(standing.answered(now), None);
        }
        assert_eq!(fail(&mut standing, 3, now), [None, None, Some(State::Down)]);
        for _ in 0..50 {
            assert_eq!((standing.answered(now), standing.failed(now)), (None, None));
        }
        assert_eq!(
            (standing.answered(now), standing.answered(now)),
            (None, Some(State::Up))
        );
    }

    #[test]
    fn an_operators_word_goes_before() {
        let now = Instant::now();
        let mut standing = Standing::new(&health(1, 1, SLOW), now);
        standing.answered(now);
        standing.force(Some(Forced::Down), now);
        assert_eq!(
            (standing.share(now), standing.state(), standing.is_up()),
            (0, State::Up, false)
        );
        assert_eq!(standing.next_step(now), None);
        standing.force(None, now);
        assert_eq!(standing.share(now), 10, "it was out, and starts slowly");
        standing.force(Some(Forced::Up), now);
        assert_eq!((standing.share(now), standing.next_step(now)), (100, None));
        standing.failed(now);
        assert_eq!((standing.share(now), standing.state()), (100, State::Down));
        standing.answered(now);
        standing.force(None, now);
        assert_eq!(
            standing.share(now),
            100,
            "it had all of its share meanwhile"
        );
        standing.force(Some(Forced::Up), now);
        standing.failed(now);
        standing.force(None, now);
        assert_eq!(standing.share(now), 0);
    }

    #[test]
    fn other_numbers_keep_the_standing() {
        let now = Instant::now();
        let mut standing = Standing::new(&health(2, 5, SLOW), now);
        fail(&mut standing, 4, now);
        standing.adapt(&health(3, 2, SLOW), now);
        assert_eq!(standing.state(), State::Unknown);
        assert_eq!(standing.failed(now), Some(State::Down));
        standing.adapt(&health(1, 2, SLOW), now);
        assert_eq!(standing.answered(now), Some(State::Up));
        standing.adapt(&health(1, 2, 2 * SLOW), now);
        assert_eq!(standing.share(now + SLOW), 50, "it goes by the new time");
        standing.adapt(&health(1, 2, 100 * SLOW), now + 2 * SLOW);
        assert_eq!(
            standing.share(now + 2 * SLOW),
            100,
            "what has risen does not fall"
        );
    }

    /// What the thresholds say, told in another way: the end of the list alone decides.
    fn naive(answers: &[bool], up: usize, down: usize) -> State {
        let mut state = State::Unknown;
        for end in 1..=answers.len() {
            let all = |count: usize, good: bool| {
                let last = end.checked_sub(count).map(|from| &answers[from..end]);
                last.is_some_and(|last| last.iter().all(|&answer| answer == good))
            };
            if state != State::Down && all(down, false) {
                state = State::Down;
            } else if (state == State::Down && all(up, true))
                || (state == State::Unknown && answers[end - 1])
            {
                state = State::Up;
            }
        }
        state
    }

    proptest! {
        #[test]
        fn thresholds_are_exact(answers: Vec<bool>, up in 1_u32..5, down in 1_u32..5) {
            let now = Instant::now();
            let mut standing = Standing::new(&health(up, down, NONE), now);
            for (index, &good) in answers.iter().enumerate() {
                let before = standing.state();
                let told = if good { standing.answered(now) } else { standing.failed(now) };
                let wanted = naive(&answers[..=index], up as usize, down as usize);
                prop_assert_eq!(standing.state(), wanted);
                prop_assert_eq!(told, (wanted != before).then_some(wanted));
                let share = if wanted == State::Down { 0 } else { 100 };
                prop_assert_eq!(standing.share(now), share);
            }
        }

        #[test]
        fn slow_start_rises_to_all_and_says_when(
            nanos in prop_oneof![1_u64..50, 1..10_000_000_000_u64, 1 << 50..1_u64 << 60],
            later in 0.0..2.0,
        ) {
            let now = Instant::now();
            let slow = Duration::from_nanos(nanos);
            let mut standing = Standing::new(&health(1, 1, slow), now);
            standing.failed(now);
            standing.answered(now);
            prop_assert_eq!(standing.share(now), 10);
            prop_assert_eq!(standing.share(now + slow), 100);
            prop_assert_eq!(standing.next_step(now + slow), None);
            prop_assert!(standing.share(now + (slow - Duration::from_nanos(1))) < 100);
            let any = standing.share(now + slow.mul_f64(later));
            prop_assert!((10..=100).contains(&any));
            // From step to step: nothing changes before, and it is more then.
            let (mut at, mut steps) = (now, 0);
            while let Some(next) = standing.next_step(at) {
                let share = standing.share(at);
                prop_assert!(next > Duration::ZERO);
                prop_assert_eq!(standing.share(at + (next - Duration::from_nanos(1))), share);
                at += next;
                prop_assert!(standing.share(at) > share);
                steps += 1;
            }
            prop_assert_eq!((standing.share(at), at), (100, now + slow));
            prop_assert!((1..=9).contains(&steps));
        }

        #[test]
        fn nothing_makes_it_panic(moves: Vec<(u8, u32)>, up: u32, down: u32, slow: u64) {
            let start = Instant::now();
            let mut standing = Standing::new(&health(up, down, Duration::from_secs(slow)), start);
            for (what, time) in moves {
                let now = start + Duration::from_secs(time.into());
                match what % 7 {
                    0 | 1 => drop(standing.answered(now)),
                    2 | 3 => drop(standing.failed(now)),
                    4 => standing.force(Some(Forced::Up), now),
                    5 => standing.force(Some(Forced::Down), now),
                    _ => standing.force(None, now),
                }
                prop_assert_eq!(standing.share(now) > 0, standing.is_up());
                prop_assert!(standing.share(now) <= 100);
                let _ = standing.next_step(now);
            }
        }
    }
}
