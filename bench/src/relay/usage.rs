//! Time that processors spent.

use std::fs;
use std::ops::Sub;

/// How many of the kernel's ticks a second has: the unit of everything in `/proc` that is time.
const TICKS: f64 = 100.0;

/// What one process used, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage(pub f64);

impl Usage {
    /// Of all threads so far.
    ///
    /// # Panics
    /// If there is no such process.
    #[must_use]
    pub fn of(process: u32) -> Usage {
        let path = format!("/proc/{process}/stat");
        let text = fs::read_to_string(&path).expect("the process runs");
        // The second word is a name in parentheses, which may contain anything.
        let rest = text.rsplit(')').next().expect("words behind the name");
        let ticks: f64 = rest.split_whitespace().skip(11).take(2).map(number).sum();
        Usage(ticks / TICKS)
    }
}

/// What all processors did, in seconds: everything but waiting. Time that a virtual machine was not
/// given is not among it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine(pub f64);

impl Machine {
    /// So far.
    ///
    /// # Panics
    /// If the kernel does not say.
    #[must_use]
    pub fn now() -> Machine {
        let text = fs::read_to_string("/proc/stat").expect("/proc/stat");
        let line = text.lines().next().expect("a line for all processors");
        let ticks: Vec<f64> = line.split_whitespace().skip(1).map(number).collect();
        // User, nice, system; idle and waiting for disks are left out; interrupts, soft ones.
        let [user, nice, system, _, _, hard, soft, ..] = ticks[..] else {
            panic!("/proc/stat: {line}");
        };
        Machine((user + nice + system + hard + soft) / TICKS)
    }
}

impl Sub for Usage {
    type Output = f64;

    fn sub(self, before: Usage) -> f64 {
        self.0 - before.0
    }
}

impl Sub for Machine {
    type Output = f64;

    fn sub(self, before: Machine) -> f64 {
        self.0 - before.0
    }
}

fn number(word: &str) -> f64 {
    word.parse().expect("a number of ticks")
}
