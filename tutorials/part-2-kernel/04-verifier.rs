//! # Part 2, chapter 4: the verifier and its refusals
//!
//! Run it as root: `cargo build --example chapter_2_4`, then
//! `sudo target/debug/examples/chapter_2_4`.
//!
//! When a program is loaded the kernel follows it, instruction by instruction and way by way, and
//! keeps what it knows of each register: a number between two bounds, a pointer to the stack, to a
//! packet, to a map's value, perhaps null. What it cannot prove safe it refuses.
//!
//! The checker of part 1 finds mistakes of form. The verifier finds those of *meaning*, for which one
//! has to follow values. The four programs below pass the checker, and no kernel takes them. Each is
//! one of the classics:
//!
//! * the result of a lookup is used without asking whether it is null;
//! * a packet is read behind its end, or where its end was not looked at;
//! * a record is reserved in a ring buffer, and on one way out nobody gives it back;
//! * a loop has no end.
//!
//! The kernel's own answer is an error number and a log of a few hundred lines, in terms of
//! instruction numbers. [`Refusal`] is that log read backwards: the Rust line that is guilty, the
//! fragments around it, what was known of the registers, the way that led there, where the pointer
//! was made, and what to do. An error is one line in `{}`; `{:#}` is the whole picture.
//!
//! The kernel quotes Rust as well: loading tells it the line of each instruction, with its text where
//! the source is at hand (see [`Lines`](bpfsmith::prog::Lines)). What it wrote is in `Refusal::log`.

use bpfsmith::dsl::*;
use bpfsmith::kit::map::count_at;
use bpfsmith::kit::packet;
use bpfsmith::prog::blame::Refusal;
use bpfsmith::prog::{Error, Load, Maps};

const CTX: Reg = R6;
const DATA: Reg = R7;
const END: Reg = R8;
const RECORD: Reg = R9;

static HITS: MapDef<u32, u64> = MapDef::array("hits", 4);
static EVENTS: MapDef<(), ()> = MapDef::ringbuf("events", 4096);

/// Counts in slot 1, and does not ask whether there is such a slot.
fn null_unchecked() -> Code {
    let key = slot::<u32>("key");
    code![
        store(key.u32(0), 1),
        map_lookup_elem(&HITS, key),
        mov(R1, 1),
        atomic_add(R0.u64(0), R1),
        ret(XDP_PASS),
    ]
}

/// Compares 14 bytes with the end of the packet, and reads the fifteenth.
fn behind_the_check() -> Code {
    let short = label("short");
    code![
        load(DATA, CTX.get(xdp_md::data)),
        load(END, CTX.get(xdp_md::data_end)),
        packet::need(DATA, END, eth::SIZE, R2, short),
        load(R3, DATA.at(eth::SIZE).get(ipv4::ver_ihl)),
        bind(short),
        ret(XDP_PASS),
    ]
}

/// Reserves a record, and forgets it where the packet is short.
fn record_forgotten() -> Code {
    let out = label("out");
    code![
        ringbuf_reserve(&EVENTS, 8, 0),
        jeq(R0, 0, out),
        mov(RECORD, R0),
        load(DATA, CTX.get(xdp_md::data)),
        load(END, CTX.get(xdp_md::data_end)),
        packet::need(DATA, END, eth::SIZE, R2, out),
        store(RECORD.u64(0), 0),
        ringbuf_submit(RECORD, 0),
        bind(out),
        ret(XDP_PASS),
    ]
}

/// Waits for the packet to become longer, which it never does.
fn endless() -> Code {
    code![
        load(R2, CTX.get(xdp_md::rx_queue_index)),
        while_(R2.ne(77)).body(mov(R3, R2)),
        ret(XDP_PASS),
    ]
}

/// The program that keeps the context in a register of its own and goes on as given.
fn with_context(name: &'static str, body: Code) -> Program {
    let code = code![mov(CTX, R1), body];
    Program::new(ProgType::XDP, name, code).unwrap_or_else(|report| panic!("{report}"))
}

/// The four, each with the name of the advice that belongs to it.
///
/// # Panics
/// If the checker finds anything wrong with them: it should not.
#[must_use]
pub fn refused() -> [(Program, &'static str); 4] {
    [
        (
            with_context("null_unchecked", null_unchecked()),
            "null-check",
        ),
        (
            with_context("behind_check", behind_the_check()),
            "packet-bounds",
        ),
        (with_context("forgotten", record_forgotten()), "leak"),
        (with_context("endless", endless()), "endless"),
    ]
}

/// All four mended, in one program. `count_at` asks for null; the check covers what is read, and
/// comes before the record is reserved; the loop counts.
///
/// # Panics
/// If the checker finds anything wrong with it.
#[must_use]
pub fn program() -> Program {
    let out = label("out");
    let body = code![
        count_at(&HITS, 1, 1),
        load(DATA, CTX.get(xdp_md::data)),
        load(END, CTX.get(xdp_md::data_end)),
        packet::need(DATA, END, eth::SIZE + ipv4::SIZE, R2, out),
        load(R3, DATA.at(eth::SIZE).get(ipv4::ver_ihl)),
        ringbuf_reserve(&EVENTS, 8, 0),
        jeq(R0, 0, out),
        mov(RECORD, R0),
        mov(R2, 0),
        repeat(R3, 0..8).body(code![lsh(R2, 8), or(R2, R3)]),
        store(RECORD.u64(0), R2),
        ringbuf_submit(RECORD, 0),
        bind(out),
        ret(XDP_PASS),
    ];
    with_context("mended", body)
}

/// What the kernel says against a program.
fn refusal(program: &Program) -> Result<Refusal, Box<dyn std::error::Error>> {
    let maps = Maps::of(program)?;
    match Load::new(program).maps(&maps).load() {
        Err(Error::Refused(refusal)) => Ok(*refusal),
        Err(other) => Err(other.into()),
        Ok(_) => Err(format!("the kernel took {}", program.name()).into()),
    }
}

/// Loads all of them, and prints the refusals.
///
/// # Errors
/// When the kernel takes a program that is wrong, when it is blamed for something else, or when the
/// kernel refuses the one that is right.
pub fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut refusals = Vec::new();
    for (program, advice) in refused() {
        let refusal = refusal(&program)?;
        let hint = refusal.hint.as_ref().ok_or("there is no advice")?;
        println!("{refusal}\nhelp: {}\n", hint.text);
        let is_here = refusal.at.is_some_and(|at| at.file() == file!());
        if hint.name != advice || !is_here {
            return Err(format!("{}: {refusal:#}", program.name()).into());
        }
        refusals.push(refusal);
    }

    // The same as above, and the whole picture of it.
    println!("{:#}\n", refusals[0]);

    // The last lines in the kernel's own words.
    let log: Vec<&str> = refusals[0].log.lines().collect();
    println!("{}\n", log[log.len().saturating_sub(8)..].join("\n"));

    // What is right is taken. The log level asks for the verifier's effort, which has its bounds
    // too: a million instructions followed, counting each way.
    let program = program();
    let maps = Maps::of(&program)?;
    let prog = Load::new(&program).maps(&maps).log_level(4).load()?;
    let effort = &prog.account().stats;
    let slots = program.insns().len();
    let followed = effort
        .processed
        .ok_or("the kernel does not tell its effort")?;
    println!("{slots} slots, {followed} instructions followed");
    Ok(())
}

#[allow(dead_code, reason = "tests include this file for its program")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    run()
}
