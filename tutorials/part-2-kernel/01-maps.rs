//! # Part 2, chapter 1: maps
//!
//! Run it as root: `cargo build --example chapter_2_1`, then
//! `sudo target/debug/examples/chapter_2_1`.
//!
//! A program keeps nothing from one run to the next but what it writes into *maps*: memory in the
//! kernel that programs and processes share. A [`MapDef<K, V>`](MapDef) is a definition: a name, a
//! kind, the types of keys and values, and how many entries there may be. It is a constant of your
//! program, and both sides are typed by it. An open map is looked at through a *view*:
//!
//! | kind | view | good for |
//! |---|---|---|
//! | `hash`, `lru_hash` | `Map<K, V>` | anything that is looked up by key |
//! | `array` | `Map<u32, V>` | a fixed number of slots that are always there |
//! | `percpu_hash`, `percpu_array` | `PerCpuMap<K, V>` | counters: each CPU has its own, nobody waits |
//! | `lpm_trie` | `Map<LpmKey<…>, V>` | routes: the longest prefix wins |
//! | `ringbuf` | `RingBuf` | events, in order: chapter 3 |
//!
//! Keys and values are plain bytes to the kernel. Here they are Rust types all of whose bytes mean
//! something: `zerocopy`'s derives say so, and a struct with hidden padding does not compile. (Your crate
//! needs `zerocopy` with its feature `derive`.)
//!
//! Large maps are read many elements at a time: `read_all` takes a `Batch` and fills it, `batches` walks.

use bpfsmith::dsl::*;
use bpfsmith::kit::map::lookup_or_zero;
use bpfsmith::kit::packet::{self, Packet};
use bpfsmith::maps::Map;
use bpfsmith::prog::{Load, Maps};
use bpfsmith::record;
use std::error::Error;
use zerocopy::{FromBytes, Immutable, IntoBytes};

const P: Packet = Packet {
    data: R6,
    end: R7,
    cursor: R8,
    scratch: R5,
};
const PROTO: Reg = R4;
const SIZE: Reg = R9;

record! {
    /// What is counted for one protocol. `record!` makes the struct, and for each of its fields a
    /// constant that programs use: `R0.get(Traffic::packets)` is the place of `packets` behind R0.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
    pub struct Traffic {
        /// How many packets.
        pub packets: u64,
        /// All their bytes.
        pub bytes: u64,
    }
}

/// Two protocols find room; `described` lets `bpftool map dump` print the fields by name.
static TRAFFIC: MapDef<u32, Traffic> = MapDef::hash("traffic", 2).described();

/// Counts packets and bytes under the type of what the frame carries (IPv4, IPv6, ARP, …).
///
/// `lookup_or_zero` is a fragment: it looks the key up, inserts zeros if it is not there, and leaves
/// the value's address in R0. The kernel may run the program on all CPUs at once, so both sums are
/// atomic. If the map is full the packet passes uncounted.
fn count() -> Code {
    let (pass, key) = (label("pass"), slot::<u32>("key"));
    code![
        packet::xdp(P, R1),
        mov(SIZE, P.end),
        sub(SIZE, P.data),
        packet::ethernet(P, PROTO, pass),
        to_be16(PROTO),
        store(key.u32(0), PROTO),
        lookup_or_zero(&TRAFFIC, key, pass),
        mov(R1, 1),
        atomic_add(R0.get(Traffic::packets), R1),
        atomic_add(R0.get(Traffic::bytes), SIZE),
        bind(pass),
        ret(XDP_PASS),
    ]
}

/// The program. It knows its map by name only; which map that is, loading decides.
///
/// # Panics
/// If the program is wrong; the message names the line.
#[must_use]
pub fn program() -> Program {
    Program::new(ProgType::XDP, "count", count()).expect("the program is right")
}

/// A map without any program: what a process can do with it.
fn by_hand() -> Result<(), Box<dyn Error>> {
    let map = Map::create(&TRAFFIC)?;
    let one = Traffic {
        packets: 1,
        bytes: 60,
    };

    // `update` writes in any case, `insert` only a new key, `replace` only one that is there.
    map.update(&0x0800, &one)?;
    expect("a key is inserted once", !map.insert(&0x0800, &one)?)?;
    expect(
        "a missing key is not replaced",
        !map.replace(&0x86dd, &one)?,
    )?;
    expect("a key is found", map.lookup(&0x0800)? == Some(one))?;
    expect("a missing key is none", map.lookup(&0x86dd)?.is_none())?;

    // What means "not so" is a value, as above; what is wrong is an error that says what to do.
    map.update(&0x86dd, &one)?;
    match map.update(&0x0806, &one) {
        Err(error) => println!("a third key: {error}"),
        Ok(()) => return Err("three keys fit into a map for two".into()),
    }

    expect("a key is deleted", map.delete(&0x86dd)?)?;
    let left: Vec<(u32, Traffic)> = map.iter().collect::<Result<_, _>>()?;
    expect("one key is left", left == [(0x0800, one)])
}

/// Loads the program with a map of its own, runs it on frames, and reads what it counted.
///
/// `Maps::of` makes every map that the program mentions. `open` gives the view of one of them, typed
/// by its definition. The program runs on what `data` gives it, without any network: chapter 5 is
/// about that.
fn together() -> Result<(), Box<dyn Error>> {
    let program = program();
    let maps = Maps::of(&program)?;
    let prog = Load::new(&program).maps(&maps).load()?;
    let traffic: Map<u32, Traffic> = maps.open(&TRAFFIC)?;

    // The third kind of frame finds no room.
    for (kind, size) in [
        (0x0800, 60),
        (0x0806, 42),
        (0x0800, 1514),
        (0x86dd, 90),
    ] {
        prog.run().data(&frame(kind, size)).go()?;
    }
    println!("type    packets  bytes");
    for entry in traffic.iter() {
        let (kind, Traffic { packets, bytes }) = entry?;
        println!("{kind:#06x}  {packets:>7}  {bytes:>5}");
    }
    let counted = |packets, bytes| Some(Traffic { packets, bytes });
    expect("IPv4", traffic.lookup(&0x0800)? == counted(2, 1574))?;
    expect("ARP", traffic.lookup(&0x0806)? == counted(1, 42))?;
    expect("IPv6", traffic.lookup(&0x86dd)?.is_none())?;

    // Both sides write. From now on IPv6 finds room.
    expect("ARP is deleted", traffic.delete(&0x0806)?)?;
    prog.run().data(&frame(0x86dd, 90)).go()?;
    expect("IPv6 has room", traffic.lookup(&0x86dd)? == counted(1, 90))
}

/// An Ethernet frame of that type and size.
fn frame(kind: u16, size: usize) -> Vec<u8> {
    let mut frame = vec![0; size];
    frame[12..14].copy_from_slice(&kind.to_be_bytes());
    frame
}

fn expect(what: &str, holds: bool) -> Result<(), Box<dyn Error>> {
    match holds {
        true => Ok(()),
        false => Err(format!("this does not hold: {what}").into()),
    }
}

/// Both halves.
///
/// # Errors
/// When the kernel refuses a step, or a map holds something else than it should.
pub fn run() -> Result<(), Box<dyn Error>> {
    by_hand()?;
    together()
}

#[allow(dead_code, reason = "tests include this file for its program")]
fn main() -> Result<(), Box<dyn Error>> {
    run()
}
