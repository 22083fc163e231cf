//! Numbers that look random, the same for the same seed.

use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) struct Dice(u64);

impl Dice {
    /// The seed is that of `BPFSMITH_SEED`, or another one each time; it is printed.
    pub(crate) fn new() -> Dice {
        let said = std::env::var("BPFSMITH_SEED").ok();
        let seed = said.map_or_else(
            || {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
                u64::from(now.subsec_nanos()) ^ now.as_secs() << 20
            },
            |text| text.parse().unwrap(),
        );
        eprintln!("BPFSMITH_SEED={seed}");
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Below that number.
    pub(crate) fn below(&mut self, count: u64) -> u64 {
        (self.next() >> 11) % count
    }

    /// From 0 to 1.
    pub(crate) fn part(&mut self) -> f64 {
        f64::from(u32::try_from(self.next() >> 32).unwrap()) / f64::from(u32::MAX)
    }

    /// One of so many times.
    pub(crate) fn one_of(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap()]
    }
}
