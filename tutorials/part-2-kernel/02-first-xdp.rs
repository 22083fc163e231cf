//! # Part 2, chapter 2: the first XDP program
//!
//! Run it as root: `cargo build --example chapter_2_2`, then
//! `sudo target/debug/examples/chapter_2_2`.
//!
//! XDP is the first place where Linux lets a program see a packet: in the driver, before there is any
//! socket buffer. It is the cheapest place to drop, and the packet is bare: the context holds where
//! it starts and ends, and nothing has been parsed.
//!
//! The program below drops what comes from addresses on a list, and counts it there. The list is a
//! map: user space changes it while the program runs, without loading anything again.
//!
//! Three things happen to every program, in this order:
//!
//! 1. **Build.** [`Program::new`] lays it out and checks it. Pure Rust: no kernel, no root.
//! 2. **Load.** [`Load`] fills in the maps, and the kernel verifies. The result is a `Prog`.
//! 3. **Attach.** `prog.attach(&target)` puts it on a hook, and gives a `Link`. Dropping the link
//!    detaches; a program that should stay is pinned or leaked on purpose.
//!
//! To try it out we need a network to spoil. [`Pair`] makes two machines on one cable, in network
//! namespaces of their own. They are gone when it is dropped, and nothing else on this machine is
//! touched.

use bpfsmith::dsl::*;
use bpfsmith::kit::packet::{self, Exits, Packet};
use bpfsmith::maps::Map;
use bpfsmith::net::Pair;
use bpfsmith::prog::target::Xdp;
use bpfsmith::prog::{Load, Maps};
use std::error::Error;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

/// The registers of a walk over the packet: `cursor` stands on the header that comes next.
const P: Packet = Packet {
    data: R6,
    end: R7,
    cursor: R8,
    scratch: R5,
};
const PROTO: Reg = R4;

/// Where a copy of the cursor stays while the walk goes on, and over calls.
const IP: Reg = R9;

const PORT: u16 = 7782;

/// How many packets were dropped, by source address. The key is the address as the packet has it.
static BLOCKED: MapDef<[u8; 4], u64> = MapDef::hash("blocked", 1024);

/// Drops what comes from an address that is on the list, and counts it there.
///
/// The verifier lets nothing be read from a packet that was not compared with its end before. The
/// fragments of `kit::packet` do that, and jump to `pass` if the packet is too short.
fn filter() -> Code {
    let pass = label("pass");
    code![
        packet::xdp(P, R1),
        packet::ethernet(P, PROTO, pass),
        jne(PROTO, be16(ETH_P_IP), pass),
        mov(IP, P.cursor),
        packet::ipv4(P, PROTO, Exits::both(pass)),
        // The key is read where it is, in the packet. R0 becomes the address of the count, or null.
        addr(R2, IP.get(ipv4::saddr)),
        map_lookup_elem(&BLOCKED, R2),
        jeq(R0, 0, pass),
        mov(R1, 1),
        atomic_add(R0.u64(0), R1),
        ret(XDP_DROP),
        bind(pass),
        ret(XDP_PASS),
    ]
}

/// The program.
///
/// # Panics
/// If the program is wrong; the message names the line.
#[must_use]
pub fn program() -> Program {
    Program::new(ProgType::XDP, "filter", filter()).expect("the program is right")
}

/// Attaches the program, and changes the list while packets flow.
///
/// # Errors
/// When the kernel refuses a step, or a packet arrives that should not, or the other way round.
pub fn run() -> Result<(), Box<dyn Error>> {
    let net = Pair::new()?;
    let program = program();
    let maps = Maps::of(&program)?;
    let blocked: Map<[u8; 4], u64> = maps.open(&BLOCKED)?;

    // Devices have numbers of their own in each namespace: attach where the device is.
    let device = Xdp::on(net.server.port.index);
    let link = net.server.run(|| {
        let prog = Load::new(&program).maps(&maps).to(&device)?.load()?;
        prog.attach(&device)
    })??;
    println!("{link:?}");

    let to = (net.server.v4(), PORT);
    let inbox = net.server.run(|| UdpSocket::bind(to))??;
    let outbox = net.client.run(|| UdpSocket::bind((net.client.v4(), 0)))??;

    outbox.send_to(b"not listed", to)?;
    arrives(&inbox, b"not listed")?;

    let client = net.client.v4().octets();
    blocked.update(&client, &0)?;
    outbox.send_to(b"listed", to)?;
    // Sending is done when the packet is on its way, not when it was judged: wait for the count.
    wait_for(|| Ok(blocked.lookup(&client)? == Some(1)))?;
    nothing_arrives(&inbox)?;
    println!("{}: one packet dropped", net.client.v4());

    blocked.delete(&client)?;
    outbox.send_to(b"forgiven", to)?;
    arrives(&inbox, b"forgiven")?;

    blocked.update(&client, &0)?;
    link.detach()?;
    outbox.send_to(b"detached", to)?;
    arrives(&inbox, b"detached")
}

fn arrives(inbox: &UdpSocket, wanted: &[u8]) -> Result<(), Box<dyn Error>> {
    inbox.set_nonblocking(false)?;
    inbox.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut datagram = [0; 64];
    let length = inbox.recv(&mut datagram)?;
    let datagram = &datagram[..length];
    println!("{:?} arrives", String::from_utf8_lossy(datagram));
    match datagram == wanted {
        true => Ok(()),
        false => Err(format!("{wanted:?} should have arrived").into()),
    }
}

fn nothing_arrives(inbox: &UdpSocket) -> Result<(), Box<dyn Error>> {
    inbox.set_nonblocking(true)?;
    match inbox.recv(&mut [0; 64]) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        other => Err(format!("nothing should have arrived: {other:?}").into()),
    }
}

fn wait_for(mut holds: impl FnMut() -> Result<bool, Box<dyn Error>>) -> Result<(), Box<dyn Error>> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds()? {
        if Instant::now() > deadline {
            return Err("nothing was counted for 20 seconds".into());
        }
        std::thread::yield_now();
    }
    Ok(())
}

#[allow(dead_code, reason = "tests include this file for its program")]
fn main() -> Result<(), Box<dyn Error>> {
    run()
}
