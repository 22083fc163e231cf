//! Chance, so that checks do not march in step.

use bpfsmith_sys::{Answer, Refused};
use bpfsmith_uapi::Errno;
use std::fs::File;
use std::io::Read;
use std::time::Duration;

/// Numbers that nobody needs to guess right: xorshift.
#[derive(Debug)]
pub(super) struct Chance(u64);

impl Chance {
    /// Begins somewhere else in each process.
    pub(super) fn new() -> Answer<Chance> {
        let mut seed = [0; 8];
        let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut seed));
        read.map_err(|error| Refused {
            call: "read /dev/urandom",
            errno: Errno::of(&error).unwrap_or(Errno::EIO),
        })?;
        Ok(Chance::from(u64::from_ne_bytes(seed)))
    }

    pub(super) fn from(seed: u64) -> Chance {
        // From nothing there would never come anything.
        Chance(seed | 1)
    }

    /// From 0 up to 1, without 1.
    pub(super) fn part(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let high = u32::try_from(self.0 >> 32).unwrap_or(0);
        f64::from(high) / (f64::from(u32::MAX) + 1.0)
    }

    /// A part of that time.
    pub(super) fn within(&mut self, time: Duration) -> Duration {
        let part = self.part();
        Duration::try_from_secs_f64(time.as_secs_f64() * part).unwrap_or(time)
    }

    /// That time, with up to `jitter` of it more or less.
    pub(super) fn around(&mut self, time: Duration, jitter: f64) -> Duration {
        let jitter = if jitter.is_nan() { 0.0 } else { jitter };
        let factor = 1.0 + jitter.clamp(0.0, 1.0) * (2.0 * self.part() - 1.0);
        Duration::try_from_secs_f64(time.as_secs_f64() * factor).unwrap_or(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn stays_in_its_range(seed: u64, millis in 0_u64..1 << 40, jitter in 0.0..0.5) {
            let mut chance = Chance::from(seed);
            let time = Duration::from_millis(millis);
            for _ in 0..20 {
                prop_assert!((0.0..1.0).contains(&chance.part()));
                prop_assert!(chance.within(time) <= time);
                let around = chance.around(time, jitter).as_secs_f64();
                let (least, most) = (1.0 - jitter - 1e-9, 1.0 + jitter + 1e-9);
                prop_assert!(around >= time.as_secs_f64() * least);
                prop_assert!(around <= time.as_secs_f64() * most);
            }
        }

        #[test]
        fn no_number_makes_it_panic(seed: u64, secs: u64, jitter: f64) {
            let mut chance = Chance::from(seed);
            chance.around(Duration::from_secs(secs), jitter);
            chance.within(Duration::from_secs(secs));
        }
    }

    #[test]
    fn it_reaches_all_over() {
        let mut chance = Chance::new().unwrap();
        let mut tenths = [0; 10];
        for _ in 0..10_000 {
            let part = chance.part();
            let tenth = (0..10).rev().find(|&tenth| part >= f64::from(tenth) / 10.0);
            tenths[usize::try_from(tenth.unwrap()).unwrap()] += 1;
        }
        assert!(tenths.iter().all(|&count| count > 500), "{tenths:?}");
    }
}
