//! Drops UDP packets to one port as they come from the driver, and counts what it lets pass and what
//! it drops, on every CPU by itself. Needs root.
//!
//! Two machines in namespaces of their own are joined by a cable. The client sends to the blocked port
//! and to its neighbour; only what went to the neighbour arrives, and the counters say the same.

use bpfsmith::dsl::*;
use bpfsmith::kit::map::count_percpu_at;
use bpfsmith::kit::packet::{self, Exits, Packet};
use bpfsmith::maps::PerCpuMap;
use bpfsmith::net::Pair;
use bpfsmith::prog::target::Xdp;
use bpfsmith::prog::{Load, Maps};
use std::error::Error;
use std::net::UdpSocket;
use std::time::Duration;

const P: Packet = Packet {
    data: R6,
    end: R7,
    cursor: R8,
    scratch: R5,
};
const PROTO: Reg = R4;

const BLOCKED: u16 = 7777;
const OPEN: u16 = 7778;
const SENT: u64 = 20;

const PASSED: u32 = 0;
const DROPPED: u32 = 1;

static SEEN: MapDef<u32, u64> = MapDef::percpu_array("seen", 2);

/// Goes to `other` unless the packet is UDP to the blocked port.
fn is_blocked(other: Label) -> Code {
    code![
        packet::xdp(P, R1),
        packet::ethernet(P, PROTO, other),
        jne(PROTO, be16(ETH_P_IP), other),
        packet::ipv4(P, PROTO, Exits::both(other)),
        jne(PROTO, IPPROTO_UDP, other),
        packet::udp(P, other),
        load(R2, P.cursor.get(udp::dport)),
        jne(R2, be16(BLOCKED), other),
    ]
}

/// The program.
///
/// # Panics
/// If the checker finds anything wrong with it.
#[must_use]
pub fn program() -> Program {
    let other = label("other");
    let code = code![
        is_blocked(other),
        count_percpu_at(&SEEN, DROPPED, 1),
        ret(XDP_DROP),
        bind(other),
        count_percpu_at(&SEEN, PASSED, 1),
        ret(XDP_PASS),
    ];
    Program::new(ProgType::XDP, "drop_counter", code).unwrap_or_else(|report| panic!("{report}"))
}

/// Attaches the program, sends, and compares what arrived with what was counted.
///
/// # Errors
/// When a step is refused, or the counters are not what arrived.
pub fn run() -> Result<(), Box<dyn Error>> {
    let net = Pair::new()?;
    let program = program();
    let maps = Maps::of(&program)?;
    let seen: PerCpuMap<u32, u64> = maps.open(&SEEN)?;

    // Devices have numbers of their own in each namespace: attach where the device is.
    let device = Xdp::on(net.server.port.index);
    let link = net.server.run(|| {
        let prog = Load::new(&program).maps(&maps).to(&device)?.load()?;
        prog.attach(&device)
    })??;

    let server = (net.server.v4(), OPEN);
    let inbox = net.server.run(|| UdpSocket::bind(server))??;
    let blocked = net
        .server
        .run(|| UdpSocket::bind((net.server.v4(), BLOCKED)))??;
    let outbox = net.client.run(|| UdpSocket::bind((net.client.v4(), 0)))??;
    let passed_before = total(&seen, PASSED)?;
    for count in 0..SENT {
        outbox.send_to(&count.to_ne_bytes(), (net.server.v4(), BLOCKED))?;
        outbox.send_to(&count.to_ne_bytes(), server)?;
    }

    inbox.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut datagram = [0; 8];
    for count in 0..SENT {
        inbox.recv(&mut datagram)?;
        if u64::from_ne_bytes(datagram) != count {
            return Err(format!("datagram {count} came as {datagram:?}").into());
        }
    }
    // What was sent before the last datagram that arrived has been judged.
    blocked.set_nonblocking(true)?;
    if blocked.recv(&mut datagram).is_ok() {
        return Err("a datagram reached the blocked port".into());
    }

    let (passed, dropped) = (
        total(&seen, PASSED)? - passed_before,
        total(&seen, DROPPED)?,
    );
    println!("port   sent  arrived  counted");
    println!("{OPEN}   {SENT:>4}  {SENT:>7}  {passed:>7} passed (with other traffic)");
    println!("{BLOCKED}   {SENT:>4}  {:>7}  {dropped:>7} dropped", 0);
    if dropped != SENT || passed < SENT {
        return Err("the counters are not what was sent".into());
    }
    link.detach()?;
    outbox.send_to(b"detached", (net.server.v4(), BLOCKED))?;
    blocked.set_nonblocking(false)?;
    blocked.set_read_timeout(Some(Duration::from_secs(20)))?;
    let length = blocked.recv(&mut datagram)?;
    println!(
        "detached: {:?} arrives at {BLOCKED}",
        String::from_utf8_lossy(&datagram[..length])
    );
    Ok(())
}

fn total(seen: &PerCpuMap<u32, u64>, which: u32) -> Result<u64, Box<dyn Error>> {
    Ok(seen.sum(&which)?.unwrap_or(0))
}

fn main() -> Result<(), Box<dyn Error>> {
    run()
}
