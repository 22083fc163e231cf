//! How long programs take, and what they are.

use super::rows::Row;
use super::world::World;
use bpfsmith_datapath::programs::Hook;
use bpfsmith_prog::Prog;
use bpfsmith_prog::list::prog_info;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Pid, gettid};
use std::fs;
use std::process::Command;
use std::time::Duration;

/// A thread in the proxy's namespace that stays on one processor and is not interrupted by other work,
/// as far as the machine permits. Its clock goes only while it runs.
#[derive(Debug)]
pub struct Timer {
    repeat: u32,
}

impl Timer {
    /// The calling thread from now on. Says so where something is not permitted.
    ///
    /// # Panics
    /// If the machine has no such processor.
    #[must_use]
    pub fn here(cpu: usize, repeat: u32) -> Timer {
        let mut set = CpuSet::new();
        set.set(cpu).expect("a number of a processor");
        sched_setaffinity(Pid::from_raw(0), &set).expect("a processor");
        let thread = gettid().to_string();
        let real = Command::new("chrt")
            .args(["-f", "-p", "1", &thread])
            .output();
        if !real.is_ok_and(|real| real.status.success()) {
            eprintln!("SCHED_FIFO is not permitted here: other work interrupts this");
        }
        Timer { repeat }
    }

    /// What this thread was given of its processor meanwhile.
    pub fn spent(&self, work: impl FnOnce()) -> Duration {
        let before = cpu_time();
        work();
        cpu_time() - before
    }

    /// Nanoseconds that a run takes.
    ///
    /// # Panics
    /// If the program does not run, or answers something else.
    #[must_use]
    pub fn time(&self, prog: &Prog, hook: Hook, row: &Row) -> f64 {
        let repeat = row.opened.unwrap_or(self.repeat).min(self.repeat);
        let run = prog.run().data(row.frame.bytes()).repeat(repeat);
        let mut outcome = None;
        let took = self.spent(|| outcome = Some(run.go().expect("a run")));
        let outcome = outcome.expect("what became of it");
        let answer = outcome.retval.cast_signed();
        assert_eq!(answer, row.answer(hook), "{}", row.name);
        took.as_secs_f64() * 1e9 / f64::from(repeat)
    }
}

/// What this thread was given of its processor.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .expect("a clock")
        .into()
}

/// One run: what came out.
///
/// # Panics
/// If it was something else than the row says.
#[must_use]
pub fn once(world: &World, prog: &Prog, hook: Hook, row: &Row) -> Vec<u8> {
    let before = world.counters();
    let run = || prog.run().data(row.frame.bytes()).go().expect("a run");
    let outcome = world.run(run);
    let after = world.counters();
    let answer = outcome.retval.cast_signed();
    let moved: Vec<_> = after
        .iter()
        .filter(|(reason, count)| before[*reason] != **count)
        .collect();
    assert_eq!(answer, row.answer(hook), "{} {hook:?}: {moved:?}", row.name);
    if row.is_exact && row.is_sent {
        let frame = row.frame.after(outcome.data.clone());
        assert!(
            frame.is_right(),
            "{} {hook:?}: {:02x?}",
            row.name,
            outcome.data
        );
        assert_ne!(outcome.data, row.frame.bytes(), "{}", row.name);
    }
    outcome.data
}

/// What a program is.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Instructions after the verifier.
    pub insns: u32,
    /// Bytes of machine code.
    pub jited: u32,
    /// Instructions that the verifier looked at.
    pub verified: u32,
}

/// What a program is.
///
/// # Panics
/// If the kernel does not say.
#[must_use]
pub fn facts(prog: &Prog) -> Facts {
    let info = prog_info(prog).expect("a program");
    Facts {
        insns: info.xlated / 8,
        jited: info.jited,
        verified: info.verified,
    }
}

/// How busy the machine is.
#[must_use]
pub fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace()
        .take(3)
        .collect::<Vec<_>>()
        .join(" ")
}
