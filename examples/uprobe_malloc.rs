//! Counts the calls of `malloc` in this process, by the size that is asked for. Needs root.
//!
//! A uprobe sits at the function's first instruction in the file of the C library, and the kernel lets
//! it fire for this process only. The process then asks for memory of sizes that nobody else asks for,
//! and has to find every single call.

use bpfsmith::dsl::*;
use bpfsmith::kit::map::{count, lookup_or_zero};
use bpfsmith::maps::Map;
use bpfsmith::prog::target::Uprobe;
use bpfsmith::prog::{Load, Maps};
use std::error::Error;
use std::hint::black_box;
use std::io;
use std::path::PathBuf;

const SIZE: Reg = R6;
const LOG: Reg = R7;

/// Where a probe finds the first argument of the function.
#[cfg(target_arch = "x86_64")]
const FIRST_ARGUMENT: Field = bpfsmith::uapi::arch::x86_64::pt_regs::di;
#[cfg(target_arch = "aarch64")]
const FIRST_ARGUMENT: Field = bpfsmith::uapi::arch::arm64::user_pt_regs::regs.at(0);

/// Calls by the exact size, as long as there is room, and by powers of two. Both are counted for all
/// CPUs at once: the kernel may interrupt a uprobe's program to run it for another thread, so that a
/// counter of this CPU alone would lose calls.
static SIZES: MapDef<u64, u64> = MapDef::hash("sizes", 4096);
static POWERS: MapDef<u32, u64> = MapDef::array("powers", 64);

/// Sizes that nobody else asks for, and how often this example does.
const BURST: [(usize, u64); 4] = [
    (12_347, 10),
    (23_459, 7),
    (34_567, 25),
    (1_234_577, 3),
];

/// Makes `log` the position of the highest bit of a number, which is lost. Of 0 it is 0. Clobbers
/// scratch.
fn log2(log: Reg, number: Reg, scratch: Reg) -> Code {
    code![
        mov(log, 0),
        [32, 16, 8, 4, 2, 1].map(|bits| {
            code![
                mov(scratch, number),
                rsh(scratch, bits),
                scratch
                    .ne(0)
                    .then(code![mov(number, scratch), add(log, bits)]),
            ]
        }),
    ]
}

/// The program.
///
/// # Panics
/// If the checker finds anything wrong with it.
#[must_use]
pub fn program() -> Program {
    let (size, power, full) = (slot::<u64>("size"), slot::<u32>("power"), label("full"));
    let code = code![
        load(SIZE, R1.get(FIRST_ARGUMENT)),
        store(size.u64(0), SIZE),
        log2(LOG, SIZE, R1),
        store(power.u32(0), LOG),
        count(&POWERS, power, 1),
        lookup_or_zero(&SIZES, size, full),
        mov(R1, 1),
        atomic_add(R0.u64(0), R1),
        bind(full),
        ret(0),
    ];
    Program::new(ProgType::KPROBE, "malloc_sizes", code).unwrap_or_else(|report| panic!("{report}"))
}

/// Attaches the program, asks for memory, and compares what was counted.
///
/// # Errors
/// When a step is refused, or the counts are not what was asked for.
pub fn run() -> Result<(), Box<dyn Error>> {
    let program = program();
    let maps = Maps::of(&program)?;
    let sizes: Map<u64, u64> = maps.open(&SIZES)?;
    let powers: Map<u32, u64> = maps.open(&POWERS)?;

    let malloc = Uprobe::entry(file()?, "malloc").pid(std::process::id());
    let prog = Load::new(&program).maps(&maps).to(&malloc)?.load()?;
    let link = prog.attach(&malloc)?;
    for (size, count) in BURST {
        for _ in 0..count {
            ask(size);
        }
    }
    link.detach()?;
    ask(BURST[0].0);

    let mut counted = [0; 64];
    for (power, count) in (0..).zip(&mut counted) {
        *count = powers.lookup(&power)?.unwrap_or(0);
    }
    draw(&counted);
    println!("size       calls");
    for (size, count) in BURST {
        let found = sizes.lookup(&u64::try_from(size)?)?.unwrap_or(0);
        println!("{size:<9}  {found:>5}");
        if found != count {
            return Err(format!("malloc({size}) was called {count} times").into());
        }
        if counted[size.ilog2() as usize] < count {
            return Err(format!("the bar of {size} is too short").into());
        }
    }
    Ok(())
}

/// Where `malloc` is. A name without a slash is that of a library, which is looked for among those
/// mapped here; a program that is linked statically has a `malloc` of its own.
fn file() -> io::Result<PathBuf> {
    if cfg!(target_feature = "crt-static") {
        return std::env::current_exe();
    }
    Ok(PathBuf::from("libc"))
}

/// Asks for memory and gives it back, in a way that the compiler must not leave out.
fn ask(size: usize) {
    drop(black_box(Vec::<u8>::with_capacity(black_box(size))));
}

/// A bar for each power of two between the smallest and the largest that was asked for.
fn draw(counted: &[u64]) {
    let first = counted.iter().position(|&count| count > 0).unwrap_or(0);
    let last = counted.iter().rposition(|&count| count > 0).unwrap_or(0);
    let most = counted.iter().copied().max().unwrap_or(0).max(1);
    println!("from bytes   calls");
    for (power, &count) in counted.iter().enumerate().take(last + 1).skip(first) {
        let bar: String = (0..(count * 50).div_ceil(most)).map(|_| '#').collect();
        println!("{:>10}  {count:>6}  {bar}", 1_u64 << power);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    run()
}
