//! # Part 1, chapter 3: what the checker catches
//!
//! Run it: `cargo run --example chapter_1_3`. It needs neither root nor Linux.
//!
//! The verifier is the judge, but a slow one to argue with: it needs a kernel and privileges, stops
//! at the first mistake, and speaks of instruction numbers. Most mistakes are simpler than that.
//! `Program::new` follows the control flow once and reports *all* of them, each with the Rust line
//! that wrote the instruction and the fragments around it.
//!
//! There are two degrees. An **error** is what a kernel refuses on the path that is shown; the
//! program is not built. A **warning** is what a kernel may accept because it follows values, which
//! the checker does not: a register that is written on some paths only, say. The program is built,
//! and [`Program::warnings`] holds them.
//!
//! Some mistakes never come so far. An instruction written as a statement, outside `code![…]`, does
//! not compile under `#![deny(unused_must_use)]`; nor does a stack slot where a map belongs, or a
//! 32-bit operation with a 64-bit source register.

use bpfsmith::asm::report::Report;
use bpfsmith::dsl::*;

static HITS: MapDef<u32, u64> = MapDef::array("hits", 1);

/// Looks the packet's length up, with mistakes in every line but the last.
fn wrong() -> Code {
    let key = slot::<u32>("key");
    code![
        store(key.u32(0), R6),
        map_lookup_elem(&HITS, key),
        load(R2, R1.get(xdp_md::data)),
        store(R10.u64(-520), 0),
        skb_load_bytes(R6, 0, key, 4),
        ret(XDP_PASS),
    ]
}

/// The same, mended: R1 is saved before the call, the key is a constant, and what belongs to socket
/// buffers is gone.
fn right() -> Code {
    let key = slot::<u32>("key");
    code![
        mov(R6, R1),
        store(key.u32(0), 0),
        map_lookup_elem(&HITS, key),
        load(R2, R6.get(xdp_md::data)),
        store(R10.u64(-8), 0),
        ret(XDP_PASS),
    ]
}

/// What is wrong with the first program.
///
/// # Panics
/// If the checker finds nothing.
#[must_use]
pub fn report() -> Report {
    Program::new(ProgType::XDP, "wrong", wrong()).expect_err("the program is wrong")
}

/// The second program.
///
/// # Panics
/// If the program is wrong; the message names the line.
#[must_use]
pub fn program() -> Program {
    Program::new(ProgType::XDP, "right", right()).expect("the program is right")
}

/// Prints what is wrong with the first program, and the second one.
pub fn run() {
    println!("{}\n", report());
    println!("{}", program().listing());
}

#[allow(dead_code, reason = "tests include this file for its program")]
fn main() {
    run();
}
