//! Mutated bytes by the million: every way to read them ends, soon, and in little memory.
//!
//! `BPFSMITH_BTF_CASES` says how many; each depends on its number alone, and a failure names it, so
//! that `BPFSMITH_BTF_FIRST` and `BPFSMITH_BTF_CASES=1` show it again. Long runs are best optimised
//! and yet checked:
//!
//! ```text
//! BPFSMITH_BTF_CASES=10000000 CARGO_PROFILE_TEST_OPT_LEVEL=3 \
//!     cargo test -p bpfsmith-btf --test mutations -- --nocapture
//! ```

#[path = "support/excerpt.rs"]
mod excerpt;
#[path = "support/exercise.rs"]
mod exercise;
#[path = "support/mutate.rs"]
mod mutate;
#[path = "support/seeds.rs"]
mod seeds;

use bpfsmith_btf::{Btf, Kind, Order, Type, TypeId};
use bpfsmith_gate::{needs, rounds};
use mutate::{Random, mutate, poke};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const PATH: &str = "/sys/kernel/btf/vmlinux";

/// How long a single case may take. The slowest are expected to take a hundredth of it; whatever is
/// not bounded takes for ever.
const LONGEST: Duration = Duration::from_secs(20);

/// The most memory, in kB, that the whole run may ever have had: the kernel's types several times.
const MOST_MEMORY: u64 = 200_000;

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Sections to mutate.
struct Seeds {
    alone: Vec<Vec<u8>>,
    exts: Vec<Vec<u8>>,
    kernel: Vec<u8>,
    /// Where each of the kernel's records starts.
    starts: Vec<usize>,
}

fn record_size(ty: &Type<'_>) -> usize {
    let count = ty.len() as usize;
    12 + match ty.kind() {
        Kind::INT | Kind::VAR | Kind::DECL_TAG => 4,
        Kind::ARRAY => 12,
        Kind::STRUCT | Kind::UNION | Kind::DATASEC | Kind::ENUM64 => 12 * count,
        Kind::ENUM | Kind::FUNC_PROTO => 8 * count,
        _ => 0,
    }
}

impl Seeds {
    fn new() -> Seeds {
        let kernel = std::fs::read(PATH).expect("the kernel's BTF");
        let btf = Btf::parse(kernel.as_slice()).expect("BTF");
        let (mut alone, mut exts) = (Vec::new(), Vec::new());
        for order in [Order::Little, Order::Big] {
            alone.push(seeds::every_kind(order));
            let (program, ext) = seeds::program(order);
            alone.push(program);
            exts.push(ext);
        }
        // Pieces of the kernel: of every region, and of several sizes.
        let step = btf.len() / 250;
        for (number, ty) in btf.types().step_by(step).enumerate() {
            let order = if number % 4 == 0 {
                Order::Big
            } else {
                Order::Little
            };
            let most = [3, 5, 8, 12, 20][number % 5];
            alone.push(excerpt::excerpt(&btf, ty.id(), most, order));
        }
        for name in [
            "task_struct",
            "sk_buff",
            "tcp_sock",
            "bpf_prog",
            "tcp_congestion_ops",
        ] {
            let id = btf.find_struct(name).expect("a struct");
            alone.push(excerpt::excerpt(&btf, id, 24, Order::Little));
        }
        let mut at = 24;
        let starts = btf.types().map(|ty| {
            at += record_size(&ty);
            at - record_size(&ty)
        });
        let starts = starts.collect();
        Seeds {
            alone,
            exts,
            starts,
            kernel,
        }
    }

    fn mutant(of: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
        let mut bytes = of[random.below(of.len())].clone();
        mutate(&mut bytes, random);
        bytes
    }

    /// Whether the bytes could be opened.
    fn case(&mut self, number: u64) -> bool {
        let mut random = Random::new(number);
        match number % 256 {
            255 => self.in_place(&mut random),
            by if by % 8 == 0 => exercise::ext(&Seeds::mutant(&self.exts, &mut random)),
            by if by % 8 < 3 => self.split(&mut random),
            _ => exercise::alone(&Seeds::mutant(&self.alone, &mut random)),
        }
    }

    /// A mutated piece on top of a good one, or the other way round.
    fn split(&self, random: &mut Random) -> bool {
        let mut base = self.alone[random.below(self.alone.len())].clone();
        let mut top = self.alone[random.below(self.alone.len())].clone();
        let victim = match random.below(4) {
            0 => &mut base,
            _ => &mut top,
        };
        mutate(victim, random);
        match Btf::parse(base.as_slice()) {
            Ok(base) => exercise::split(&Arc::new(base), &top),
            Err(_) => false,
        }
    }

    /// Changes a word of the kernel's types and undoes it. Asked about are the types around it, by
    /// number and by name, and some that everything hangs on.
    fn in_place(&mut self, random: &mut Random) -> bool {
        let (at, before) = poke(&mut self.kernel, random);
        let parsed = self.ask_kernel(at);
        self.kernel[at..at + 4].copy_from_slice(&before);
        parsed
    }

    fn ask_kernel(&self, at: usize) -> bool {
        let Ok(btf) = Btf::parse(self.kernel.as_slice()) else {
            return false;
        };
        let near = self.starts.partition_point(|start| *start <= at).max(2);
        let near = u32::try_from(near).expect("an id");
        exercise::about(&btf, (near - 1..near + 3).map(TypeId));
        for (name, path) in [
            ("task_struct", "se.avg.load_avg"),
            ("sk_buff", "dev"),
            ("tcp_sock", "inet_conn.icsk_inet.sk.__sk_common.skc_daddr"),
        ] {
            if let Some(id) = btf.find_struct(name) {
                let _ = (btf.member(id, path), btf.size_of(id), btf.align_of(id));
            }
        }
        true
    }
}

/// The most memory that this process ever had, in kB.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("our own status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|text| text.parse().ok()).expect("a number")
}

/// Ends the process when one case takes too long: a loop cannot be ended from within.
fn watch(current: &AtomicU64, done: &AtomicBool) {
    let mut last = (u64::MAX, Instant::now());
    while !done.load(Ordering::Acquire) {
        std::thread::park_timeout(Duration::from_millis(200));
        let now = current.load(Ordering::Acquire);
        if now != last.0 {
            last = (now, Instant::now());
        } else if last.1.elapsed() > LONGEST {
            eprintln!("case {now} takes longer than {LONGEST:?}");
            std::process::abort();
        }
    }
}

#[test]
fn every_mutation_is_survived() {
    needs!(Btf);
    let mut seeds = Seeds::new();
    for bytes in &seeds.alone {
        assert!(exercise::alone(bytes), "a good seed");
    }
    assert!(seeds.exts.iter().all(|bytes| exercise::ext(bytes)));
    let first = variable("BPFSMITH_BTF_FIRST", 0);
    let cases = variable("BPFSMITH_BTF_CASES", rounds(10_000).into());
    let (current, done) = (AtomicU64::new(first), AtomicBool::new(false));
    let (mut longest, mut opened) = ((Duration::ZERO, first), 0_u64);
    let start = Instant::now();
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&current, &done));
        for number in first..first + cases {
            current.store(number, Ordering::Release);
            let begin = Instant::now();
            let result = catch_unwind(AssertUnwindSafe(|| seeds.case(number)));
            let took = begin.elapsed();
            if took > longest.0 {
                longest = (took, number);
            }
            match result {
                Ok(parsed) => opened += u64::from(parsed),
                Err(panic) => {
                    done.store(true, Ordering::Release);
                    eprintln!("case {number}: BPFSMITH_BTF_FIRST={number} BPFSMITH_BTF_CASES=1");
                    resume_unwind(panic);
                }
            }
        }
        done.store(true, Ordering::Release);
        watcher.thread().unpark();
    });
    let memory = peak_memory();
    println!(
        "{cases} mutated inputs in {:?}, of which {opened} could be opened; the longest took {:?} \
         (case {}); at most {memory} kB of memory",
        start.elapsed(),
        longest.0,
        longest.1
    );
    assert!(longest.0 < LONGEST, "{longest:?}");
    assert!(memory < MOST_MEMORY, "{memory} kB");
    assert!(
        opened > cases / 4,
        "most inputs are refused at once: {opened} of {cases}"
    );
}
