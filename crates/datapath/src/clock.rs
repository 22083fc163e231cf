//! The kernel's ticks.

use nix::time::{ClockId, clock_getres, clock_gettime};
use std::time::Duration;

/// The most ticks that any time is: stamps have 32 bits, and twice as long ago looks like the future.
pub(crate) const LONGEST: i32 = i32::MAX / 2;

/// How fast the kernel's ticks go. Programs read them for nothing, where any other clock is a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    hz: u32,
}

impl Clock {
    /// A kernel with so many ticks a second.
    #[must_use]
    pub const fn new(hz: u32) -> Clock {
        Clock {
            hz: if hz == 0 { 1 } else { hz },
        }
    }

    /// The running kernel's: its coarse clock goes on with each tick.
    ///
    /// # Errors
    /// When the kernel does not say how coarse its clock is.
    pub fn of_kernel() -> nix::Result<Clock> {
        let resolution = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE)?;
        let nanos = resolution.tv_nsec().max(1);
        let hz = u32::try_from(1_000_000_000 / nanos).unwrap_or(1);
        Ok(Clock::new(hz))
    }

    /// Ticks in a second.
    #[must_use]
    pub const fn hz(self) -> u32 {
        self.hz
    }

    /// The kernel's ticks now, as programs read them: it counts them by its monotonic clock, from five minutes
    /// before 0 on.
    ///
    /// # Errors
    /// When the kernel does not say what time it is.
    #[expect(clippy::cast_possible_truncation, reason = "ticks wrap around")]
    pub fn now(self) -> nix::Result<u32> {
        let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE)?);
        let ticks = now.as_nanos() * u128::from(self.hz) / 1_000_000_000;
        Ok((ticks as u32).wrapping_sub(300 * self.hz))
    }

    /// So much time, in ticks; at least one, and no more than numbers that wrap around can tell apart.
    #[must_use]
    pub fn ticks(self, time: Duration) -> i32 {
        let ticks = time.as_nanos().saturating_mul(self.hz.into()) / 1_000_000_000;
        i32::try_from(ticks).unwrap_or(i32::MAX).clamp(1, LONGEST)
    }

    /// So many ticks, as time.
    #[must_use]
    pub fn time(self, ticks: u32) -> Duration {
        let nanos = u64::from(ticks) * 1_000_000_000 / u64::from(self.hz);
        Duration::from_nanos(nanos)
    }

    /// The power of two of ticks that is nearest below a second: how far a program shifts.
    #[must_use]
    pub(crate) const fn shift(self) -> i32 {
        self.hz.ilog2().cast_signed()
    }

    /// The number of the present "tick" of about a second, of which a flow remembers 16 bits.
    #[must_use]
    pub const fn tick(self, jiffies: u32) -> u16 {
        ((jiffies >> self.hz.ilog2()) & 0xffff) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::Clock;
    use std::time::Duration;

    #[test]
    fn the_kernel_has_one_of_the_usual_rates() {
        let hz = Clock::of_kernel().map(Clock::hz);
        assert!(matches!(hz, Ok(100 | 250 | 300 | 1000)), "{hz:?}");
    }

    #[test]
    fn times_become_ticks() {
        let clock = Clock::new(250);
        assert_eq!(clock.ticks(Duration::from_secs(3)), 750);
        assert_eq!(clock.ticks(Duration::ZERO), 1);
        assert_eq!(clock.time(750), Duration::from_secs(3));
        assert_eq!(clock.time(u32::MAX).as_secs(), 17_179_869);
        assert_eq!(clock.ticks(Duration::MAX), i32::MAX / 2);
    }

    #[test]
    fn a_tick_is_about_a_second() {
        assert_eq!(Clock::new(250).tick(255), 1);
        assert_eq!(Clock::new(1000).tick(511), 0);
        assert_eq!(Clock::new(1000).tick(512), 1);
    }
}
