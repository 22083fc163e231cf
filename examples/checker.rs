//! Two programs full of mistakes, and the reports about them. Needs no privileges.
//!
//! What is wrong is found in two stages, and each reports all it finds: first everything that keeps
//! the program from being laid out (labels, numbers that do not fit), then, once its instructions
//! have their places, everything on the paths through it.

use bpfsmith::asm::report::Report;
use bpfsmith::dsl::*;

static HITS: MapDef<u32, u64> = MapDef::array("hits", 1);

/// Names that lead nowhere and numbers that fit nowhere.
fn names_and_numbers() -> Code {
    let (nowhere, twice) = (label("nowhere"), label("twice"));
    code![
        jeq(R1, 0, nowhere),
        bind(twice),
        mov(R2, 0x1_0000_0000_i64),
        add(W2, -0x1_0000_0000_i64),
        load(R3, R1.u32(40_000)),
        atomic_add(R10.u16(-8), R2),
        bind(twice),
        mov(Reg::n(12), 0),
        ret(XDP_PASS),
    ]
}

/// Counts, and forgets what a call destroys.
fn forgets(hits: &MapDef<u32, u64>) -> Code {
    let key = slot::<u32>("key");
    code![
        store(key.u32(0), 0),
        map_lookup_elem(hits, key),
        R0.ne(0).then(code![
            load(R2, R1.get(xdp_md::data)),
            add(R3, 1),
            store(R0.u64(0), R3),
        ]),
    ]
}

/// Registers, stack, helpers and paths that no kernel accepts.
fn paths(hits: &MapDef<u32, u64>) -> Code {
    let end = label("end");
    code![
        mov(R6, R1),
        add(R7, 1),
        forgets(hits),
        sub(R10, 8),
        store(R10.u64(-520), 0),
        store(R10.u64(-12), 0),
        load(R2, R10.u32(0)),
        get_current_pid_tgid(),
        skb_change_type(R6, 0),
        R6.ne(0).then(mov(R8, 1)),
        mov(R9, R8),
        ja(end),
        mov(R0, XDP_DROP),
        bind(end),
        exit(),
    ]
}

/// The first stage: what the layout finds.
///
/// # Panics
/// If nothing is found.
#[must_use]
pub fn layout_report() -> Report {
    Program::new(ProgType::XDP, "names", names_and_numbers())
        .expect_err("the program is full of mistakes")
}

/// The second stage: what the control flow shows.
///
/// # Panics
/// If nothing is found.
#[must_use]
pub fn report() -> Report {
    Program::new(ProgType::XDP, "paths", paths(&HITS)).expect_err("the program is full of mistakes")
}

/// Prints both reports.
pub fn run() {
    println!("{}\n", layout_report());
    println!("{}", report());
}

fn main() {
    run();
}
