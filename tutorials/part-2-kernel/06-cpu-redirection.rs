//! # Part 2, chapter 6: CPU redirection
//!
//! Run it as root: `cargo build --example chapter_2_6`, then
//! `sudo target/debug/examples/chapter_2_6`.
//!
//! Making a socket buffer, walking the firewall, finding the socket: that is most of the work on a
//! packet, and by default all of it is done on the CPU that received it. One CPU that is busy with
//! it loses packets while others have nothing to do.
//!
//! **Receive side scaling** is the card's answer: it has several queues, hashes addresses and ports
//! of each packet, and interrupts another CPU for each queue. The hash is the card's. Tunnels
//! defeat it, since all their packets look alike from outside; so do cards with one queue, and
//! virtual ones.
//!
//! **A CPU map** is the answer of XDP. The program on the receiving CPU looks into the packet as
//! deep as it likes, and names a CPU; the frame goes into that CPU's queue, and a thread of the
//! kernel there does the rest. The receiving CPU has little left to do per packet, so one can feed
//! many.
//!
//! | | the card | a CPU map |
//! |---|---|---|
//! | who chooses | a hash in hardware | a program |
//! | changed by | `ethtool -X`, a few hash functions | writing to a map, at any time |
//! | costs | nothing | one more queue: frames travel between caches |
//! | where | cards with queues | every device with XDP |
//!
//! An entry of the map is the length of the queue, and a **second program** if you like: it runs on
//! the CPU that was chosen, before the socket buffer is made. There is the place for what is
//! expensive, since it scales: decide cheaply first where a packet goes, and thoroughly later what
//! becomes of it.
//!
//! Two rules:
//!
//! * **A flow stays on its CPU.** Two packets of one connection on two CPUs may overtake each
//!   other, and TCP takes that for loss. So choose by a hash of the flow. [`redirect::flow_hash`]
//!   gives both directions the same.
//! * **No offload comes along.** A frame on its way to another CPU is bytes and nothing else.
//!   Between real machines that is all there ever is; but a virtual device saves the sender the
//!   checksum, and says so beside the packet. That is lost, and the receiver finds the checksum
//!   wrong. You will see it below.
//!
//! **The same helper sends elsewhere, too.** What it does depends on the kind of map:
//!
//! | map | an entry is | the frame goes | example |
//! |---|---|---|---|
//! | `CPUMAP` | a queue's length, a program | to the network stack on that CPU | `xdp_cpumap_lb` |
//! | `DEVMAP`, `DEVMAP_HASH` | a device, a program | out of that device, or of all: [`redirect::broadcast`] | `xdp_broadcast` |
//! | `XSKMAP` | an XDP socket | into memory of a process: [`bpfsmith::sys::xsk`] | `xsk_receive` |
//!
//! Devices have a trap of their own: a virtual cable drops redirected frames, without a word, until
//! its far end has GRO on or a native XDP program. [`Ports`](bpfsmith::prog::Ports) asks
//! the device before it becomes an entry. And an XDP socket takes only frames of the queue that it is
//! bound to: have one for each. What it takes, the network stack never sees: pass ARP, or nobody finds
//! the machine any more.

use bpfsmith::dsl::*;
use bpfsmith::kit::map::lookup_or_zero;
use bpfsmith::kit::packet::{self, Exits, Packet};
use bpfsmith::kit::redirect::{self, Otherwise};
use bpfsmith::maps::{Map, Target, TargetMap};
use bpfsmith::net::{Feature, Pair};
use bpfsmith::prog::target::Xdp;
use bpfsmith::prog::{Load, Maps};
use std::collections::BTreeSet;
use std::error::Error;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

const P: Packet = Packet {
    data: R6,
    end: R7,
    cursor: R8,
    scratch: R5,
};
const PROTO: Reg = R4;

const PORT: u16 = 7784;

/// More CPUs are not used.
const MOST: u32 = 16;

/// Under the number of a CPU: how many frames may wait there, and the program that runs there.
static CPUS: MapDef<u32, Target> = MapDef::new(MapType::CPUMAP, "cpus", MOST);

/// How many packets came, by the port of the sender (as it is in the packet) and the CPU.
static SEEN: MapDef<[u32; 2], u64> = MapDef::hash("seen", 256);

/// Goes to `other` unless it is UDP to our port. All else is left to the CPU that received it.
fn is_ours(other: Label) -> Code {
    code![
        packet::xdp(P, R1),
        packet::ethernet(P, PROTO, other),
        jne(PROTO, be16(ETH_P_IP), other),
        packet::ipv4(P, PROTO, Exits::both(other)),
        jne(PROTO, IPPROTO_UDP, other),
        packet::udp(P, other),
        load(R2, P.cursor.get(udp::dport)),
        jne(R2, be16(PORT), other),
    ]
}

/// The first program, on the receiving CPU: it only chooses.
///
/// Of a hash of 32 bits, [`redirect::share`] makes a number below `cpus` with one multiplication.
/// [`redirect::to_map`] leaves `XDP_REDIRECT` in R0, or `XDP_PASS` where the map has no entry:
/// a CPU that user space took out of the map loses no packet.
///
/// # Panics
/// If the program is wrong; the message names the line.
#[must_use]
pub fn program(cpus: u32) -> Program {
    let pass = label("pass");
    let code = code![
        is_ours(pass),
        // The hash walks the packet again, from its first byte.
        mov(P.cursor, P.data),
        redirect::flow_hash(P, pass),
        redirect::share(R0, cpus),
        redirect::to_map(&CPUS, R0, Otherwise::Pass),
        exit(),
        bind(pass),
        ret(XDP_PASS),
    ];
    Program::new(ProgType::XDP, "choose", code).expect("the program is right")
}

/// The second program, on the chosen CPU: it counts, and asks the kernel which CPU that is.
///
/// # Panics
/// If the program is wrong; the message names the line.
#[must_use]
pub fn there() -> Program {
    let (pass, key) = (label("pass"), slot::<[u32; 2]>("key"));
    let code = code![
        is_ours(pass),
        // Calls lose R0 to R5, but not R9.
        load(R9, P.cursor.get(udp::sport)),
        store(key.u32(0), R9),
        get_smp_processor_id(),
        store(key.u32(4), R0),
        lookup_or_zero(&SEEN, key, pass),
        mov(R1, 1),
        atomic_add(R0.u64(0), R1),
        bind(pass),
        ret(XDP_PASS),
    ];
    Program::new(ProgType::XDP, "there", code).expect("the program is right")
}

/// Sends packets to other CPUs, with and without checksums, and sees where they were.
///
/// # Errors
/// When the kernel refuses a step, or a packet is where it should not be.
pub fn run() -> Result<(), Box<dyn Error>> {
    let net = Pair::new()?;
    let cpus = u32::try_from(std::thread::available_parallelism()?.get())?.min(MOST);
    let (choose, there) = (program(cpus), there());
    let mut maps = Maps::of(&choose)?;
    maps.add(&there)?;
    let seen: Map<[u32; 2], u64> = maps.open(&SEEN)?;

    // The second program is attached nowhere: it is part of entries, and loaded for that.
    let load = Load::new(&there).maps(&maps);
    let there = load.attach_type(AttachType::XDP_CPUMAP).load()?;
    let queues: TargetMap<Target> = maps.open(&CPUS)?;
    for cpu in 0..cpus {
        queues.set_with(cpu, 2048, &there)?;
    }
    // What the kernel does not take, it says; the hints are ours. A length of 0 is refused before it is
    // asked: it would take the entry out. In what is printed, `key` and `value` are sizes.
    for (cpu, length) in [(0, 20_000), (0, 0), (MOST, 1)] {
        if let Err(error) = queues.set(cpu, length) {
            println!("{error}");
        }
    }

    let device = Xdp::on(net.server.port.index).native();
    let link = net.server.run(|| {
        let load = Load::new(&choose).maps(&maps).to(&device)?;
        load.load()?.attach(&device)
    })??;

    let to = (net.server.v4(), PORT);
    let inbox = net.server.run(|| UdpSocket::bind(to))??;
    let outbox = net.client.run(|| UdpSocket::bind((net.client.v4(), 0)))??;

    // The client leaves its checksums to a device that is none. The packet reaches the CPU and no
    // socket.
    outbox.send_to(b"unfinished", to)?;
    wait_for(|| total(&seen), 1)?;
    let ethtool = net.client.node.ethtool()?;
    ethtool.disable(net.client.port.index, Feature::TX_CHECKSUM)?;
    outbox.send_to(b"complete", to)?;
    arrives(&inbox, b"complete")?;
    println!("without a checksum: seen on its CPU, dropped by the network stack");

    // Many flows, each of several packets: each flow has one CPU.
    for n in 0..16 {
        let from = (net.client.v4(), 20_000 + n);
        let outbox = net.client.run(|| UdpSocket::bind(from))??;
        for _ in 0..5 {
            outbox.send_to(b"flow", to)?;
            arrives(&inbox, b"flow")?;
        }
    }
    flows(&seen)?;

    // Without entries packets stay where they are, and arrive all the same.
    for cpu in 0..cpus {
        queues.delete(cpu)?;
    }
    let before = total(&seen)?;
    outbox.send_to(b"here", to)?;
    arrives(&inbox, b"here")?;
    link.detach()?;
    match total(&seen)? == before {
        true => Ok(()),
        false => Err("a packet went to a CPU that is not in the map".into()),
    }
}

/// How many packets were seen by the second program.
fn total(seen: &Map<[u32; 2], u64>) -> Result<u64, Box<dyn Error>> {
    let mut sum = 0;
    for entry in seen.iter() {
        sum += entry?.1;
    }
    Ok(sum)
}

/// Prints where each flow was, which is one CPU.
fn flows(seen: &Map<[u32; 2], u64>) -> Result<(), Box<dyn Error>> {
    let mut ports = BTreeSet::new();
    for entry in seen.iter() {
        let ([port, cpu], count) = entry?;
        let host = u16::from_be(u16::try_from(port)?);
        println!("from port {host}: {count} packets on CPU {cpu}");
        if !ports.insert(port) {
            return Err(format!("port {host} was on two CPUs").into());
        }
    }
    Ok(())
}

/// What arrives next is this: what was sent before, on the same way, is lost.
fn arrives(inbox: &UdpSocket, wanted: &[u8]) -> Result<(), Box<dyn Error>> {
    inbox.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut datagram = [0; 64];
    let length = inbox.recv(&mut datagram)?;
    match &datagram[..length] == wanted {
        true => Ok(()),
        false => Err(format!("{wanted:?} should have arrived").into()),
    }
}

fn wait_for(
    count: impl Fn() -> Result<u64, Box<dyn Error>>,
    wanted: u64,
) -> Result<(), Box<dyn Error>> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while count()? < wanted {
        if Instant::now() > deadline {
            return Err("nothing was counted for 20 seconds".into());
        }
        std::thread::yield_now();
    }
    Ok(())
}

#[allow(dead_code, reason = "tests include this file for its programs")]
fn main() -> Result<(), Box<dyn Error>> {
    run()
}
