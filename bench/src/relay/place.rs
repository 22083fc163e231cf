//! Who works on which processor, and for how long processors work.

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::{Pid, gettid};
use std::fs;
use std::sync::LazyLock;
use std::time::Instant;

/// The processors of a run: the first two that this process may use, or the only one twice.
static PROCESSORS: LazyLock<[usize; 2]> = LazyLock::new(|| {
    let allowed = sched_getaffinity(Pid::from_raw(0)).expect("processors of this process");
    let mut numbers = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu) == Ok(true));
    let first = numbers.next().expect("a processor");
    [first, numbers.next().unwrap_or(first)]
});

/// Where client, proxy and server work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// All on one processor: what a packet costs shows, and not how long a processor takes to wake up
    /// another.
    Together,
    /// The client on one, the server on the other, and a proxy on both.
    Apart,
}

impl Place {
    /// What to say of it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Place::Together => "all on one processor",
            Place::Apart => "client and server on a processor each",
        }
    }

    /// The client's processors.
    #[must_use]
    pub fn client(self) -> Processors {
        match self {
            Place::Together => self.server(),
            Place::Apart => Processors::of(&PROCESSORS[..1]),
        }
    }

    /// The server's.
    #[must_use]
    pub fn server(self) -> Processors {
        Processors::of(&PROCESSORS[1..])
    }

    /// The proxy's.
    #[must_use]
    pub fn proxy(self) -> Processors {
        match self {
            Place::Together => self.server(),
            Place::Apart => Processors::of(&PROCESSORS[..]),
        }
    }
}

/// Some processors.
#[derive(Clone, Debug)]
pub struct Processors(CpuSet);

impl Processors {
    fn of(numbers: &[usize]) -> Processors {
        let mut set = CpuSet::new();
        for number in numbers {
            set.set(*number).expect("a number of a processor");
        }
        Processors(set)
    }

    /// The calling thread, and threads that it starts, stay on them.
    ///
    /// # Panics
    /// If the kernel refuses it.
    pub fn keep_this_thread(&self) {
        self.keep(gettid());
    }

    /// A thread stays on them, unless it is gone.
    ///
    /// # Panics
    /// If the kernel refuses it.
    pub fn keep(&self, thread: Pid) {
        match sched_setaffinity(thread, &self.0) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => panic!("a processor for thread {thread}: {error}"),
        }
    }
}

/// How many of the kernel's ticks a second has: the unit of everything in `/proc` that is time.
const TICKS: f64 = 100.0;

/// A moment, and how long the processors of a run had nothing to do until then.
#[derive(Clone, Copy, Debug)]
pub struct Idle {
    seconds: f64,
    at: Instant,
}

impl Idle {
    /// So far. The kernel measures idleness to the microsecond, where it only samples what else a
    /// processor does, and tells it in hundredths of a second. Time that a virtual machine was not given
    /// counts as idle.
    ///
    /// # Panics
    /// If the kernel does not say.
    #[must_use]
    pub fn now() -> Idle {
        let text = fs::read_to_string("/proc/stat").expect("/proc/stat");
        let at = Instant::now();
        let ticks = text.lines().filter_map(|line| {
            let (name, words) = line.split_once(' ')?;
            let number: usize = name.strip_prefix("cpu")?.parse().ok()?;
            PROCESSORS.contains(&number).then(|| idle(words))
        });
        let seconds = ticks.sum::<f64>() / TICKS;
        Idle { seconds, at }
    }

    /// Seconds that the processors worked since then, together.
    #[must_use]
    pub fn work_since(&self) -> f64 {
        let now = Idle::now();
        let all = (now.at - self.at).as_secs_f64() * processors();
        all - (now.seconds - self.seconds)
    }
}

/// How many processors a run has.
#[must_use]
pub fn processors() -> f64 {
    let [first, second] = *PROCESSORS;
    if first == second { 1.0 } else { 2.0 }
}

/// Of a line: idle, waiting for disks, and what other machines got.
fn idle(words: &str) -> f64 {
    let ticks = words.split_whitespace().enumerate();
    let ticks = ticks.filter(|(at, _)| matches!(at, 3 | 4 | 7));
    ticks
        .map(|(_, word)| word.parse::<f64>().expect("a number of ticks"))
        .sum()
}
