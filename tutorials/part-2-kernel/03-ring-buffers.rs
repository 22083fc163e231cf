//! # Part 2, chapter 3: ring buffers
//!
//! Run it as root: `cargo build --example chapter_2_3`, then
//! `sudo target/debug/examples/chapter_2_3`.
//!
//! A map answers questions; a ring buffer tells stories. Programs write records into it from all
//! CPUs, and one process reads them in the order in which they were written. A record is written in
//! two steps: `ringbuf_reserve` gives its memory, or null if the buffer is full, and `ringbuf_submit`
//! hands it over. The verifier sees to it that what was reserved is submitted or discarded.
//!
//! `kit::event` wraps these steps. What it cannot decide for you is what to do when the buffer is
//! full: the record is lost, and the kernel does not even count it. So the program counts.
//!
//! The reading end reads records where they lie, without copying them:
//!
//! | to … | use |
//! |---|---|
//! | read all that is there, by type | [`RingBuf::for_each`] |
//! | read all that is there, as bytes | [`RingBuf::consume`] |
//! | take one record at a time | [`RingBuf::next_record`] |
//! | wait for one ring or several | [`RingSet::poll`] |
//! | put it under an async runtime | its `AsFd` |
//!
//! A ring has one reading end in a process: a second one would take records from the first, so
//! opening it again is refused.

use bpfsmith::dsl::*;
use bpfsmith::kit::event::event;
use bpfsmith::kit::map::count_at;
use bpfsmith::kit::packet::{self, Packet};
use bpfsmith::maps::{RingBuf, RingSet};
use bpfsmith::prog::{Load, Maps, Prog};
use bpfsmith::record;
use std::error::Error;
use std::time::Duration;
use zerocopy::{FromBytes, Immutable, KnownLayout};

const P: Packet = Packet {
    data: R6,
    end: R7,
    cursor: R8,
    scratch: R5,
};
const RECORD: Reg = R9;

record! {
    /// A frame that came in.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, KnownLayout, Immutable)]
    pub struct Frame {
        /// When, in nanoseconds since the machine started.
        time: u64,
        /// How long it was.
        bytes: u32,
        /// What it carries: IPv4, IPv6, ARP, …
        kind: u32,
    }
}

/// One page: small enough to see it full.
static FRAMES: MapDef<(), ()> = MapDef::ringbuf("frames", 4096);

/// How many records found no room, under key 0.
static LOST: MapDef<u32, u64> = MapDef::array("lost", 1);

/// Tells of every frame. `event` reserves a record, makes all its bytes zero, runs the third argument
/// and submits; if there is no room, the fourth runs instead.
fn tell() -> Code {
    let (short, kind) = (label("short"), slot::<u32>("kind"));
    let fill = code![
        ktime_get_ns(),
        store(RECORD.get(Frame::time), R0),
        mov(R1, P.end),
        sub(R1, P.data),
        store(RECORD.get(Frame::bytes), R1),
        load(R1, kind.u32(0)),
        store(RECORD.get(Frame::kind), R1),
    ];
    code![
        packet::xdp(P, R1),
        packet::ethernet(P, R4, short),
        to_be16(R4),
        store(kind.u32(0), R4),
        event::<Frame>(&FRAMES, RECORD, fill, Some(count_at(&LOST, 0, 1))),
        bind(short),
        ret(XDP_PASS),
    ]
}

/// The program.
///
/// # Panics
/// If the program is wrong; the message names the line.
#[must_use]
pub fn program() -> Program {
    Program::new(ProgType::XDP, "tell", tell()).expect("the program is right")
}

/// Runs the program on frames of its own making, and reads what it tells.
///
/// # Errors
/// When the kernel refuses a step, or the story is not what happened.
pub fn run() -> Result<(), Box<dyn Error>> {
    let program = program();
    let maps = Maps::of(&program)?;
    let prog = Load::new(&program).maps(&maps).load()?;
    let frames: RingBuf = maps.open(&FRAMES)?;
    let frames = frames.with_drops(&maps.handle(LOST.shape().name)?)?;
    let mut set = RingSet::new(frames)?;

    in_order(&prog, &mut set.rings_mut()[0])?;
    with_waiting(&prog, &mut set)?;
    to_the_brim(&prog, &mut set.rings_mut()[0])
}

/// What was written first is read first.
fn in_order(prog: &Prog, frames: &mut RingBuf) -> Result<(), Box<dyn Error>> {
    let sent: [(u16, u16); 3] = [
        (0x0800, 60),
        (0x0806, 42),
        (0x86dd, 1000),
    ];
    for (kind, bytes) in sent {
        prog.run().data(&frame(kind, bytes)).go()?;
    }
    let (mut told, mut times) = (Vec::new(), Vec::new());
    frames.for_each(|frame: &Frame| {
        println!("{:>5} bytes of {:#06x}", frame.bytes, frame.kind);
        told.push((frame.kind, frame.bytes));
        times.push(frame.time);
    })?;
    let sent = sent.map(|(kind, bytes)| (kind.into(), bytes.into()));
    expect("told as sent", told == sent && times.is_sorted())
}

/// Another thread sleeps until there is something to read. It may wait for any number of rings, and
/// learns the number of the ring with each record.
fn with_waiting(prog: &Prog, set: &mut RingSet) -> Result<(), Box<dyn Error>> {
    let polled = std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            set.poll(Some(Duration::from_secs(20)), |ring, record| {
                println!("woken up by ring {ring}: {} bytes", record.len());
            })
        });
        let ran = prog.run().data(&frame(0x0800, 100)).go();
        let polled = waiter.join().map_err(|_| "the waiting thread panicked");
        ran.map_err(Box::<dyn Error>::from).and(Ok(polled?))
    })??;
    expect("one record woke the thread up", polled.records == 1)
}

/// Far more frames than there is room for: what was read and what was lost is what was sent.
fn to_the_brim(prog: &Prog, frames: &mut RingBuf) -> Result<(), Box<dyn Error>> {
    const SENT: u32 = 1000;
    prog.run().data(&frame(0x0800, 64)).repeat(SENT).go()?;
    let stats = frames.stats()?;
    let lost = stats.drops.unwrap_or(0);
    println!(
        "{} of {} bytes used, {lost} records lost",
        stats.used, stats.size
    );
    let read = frames.for_each(|_: &Frame| ())?;
    println!("{} records read", read.values);
    expect(
        "some found room, others did not",
        read.values > 0 && lost > 0,
    )?;
    expect("none is missing", read.values + lost == u64::from(SENT))?;

    // There is room again.
    prog.run().data(&frame(0x0806, 42)).go()?;
    let record = frames.next_record()?.ok_or("no record")?;
    let frame = Frame::read_from_bytes(&record).map_err(|_| "the record has another length")?;
    expect(
        "the last one is told",
        (frame.kind, frame.bytes) == (0x0806, 42),
    )
}

/// An Ethernet frame of that type and size.
fn frame(kind: u16, size: u16) -> Vec<u8> {
    let mut frame = vec![0; size.into()];
    frame[12..14].copy_from_slice(&kind.to_be_bytes());
    frame
}

fn expect(what: &str, holds: bool) -> Result<(), Box<dyn Error>> {
    match holds {
        true => Ok(()),
        false => Err(format!("this does not hold: {what}").into()),
    }
}

#[allow(dead_code, reason = "tests include this file for its program")]
fn main() -> Result<(), Box<dyn Error>> {
    run()
}
