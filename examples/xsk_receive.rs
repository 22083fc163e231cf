//! Frames in user space: XDP hands UDP of one port to this process, past the network stack, which
//! reads it, answers in place and sends it back. Needs root.
//!
//! One XDP socket for each queue of the device, all on the same memory. A frame is a value: it comes
//! out of [`Socket::receive`], can be read and changed while this process has it, and goes with
//! [`Socket::send`] to whom it came from. What is dropped on the way goes back into the pool, so that at
//! the end all frames are accounted for.

use bpfsmith::dsl::*;
use bpfsmith::kit::map::count;
use bpfsmith::kit::packet::{self, Exits, Packet};
use bpfsmith::kit::redirect::{self, Otherwise};
use bpfsmith::maps::{Map, ObjectMap};
use bpfsmith::net::{Host, IfIndex, Pair};
use bpfsmith::prog::target::Xdp;
use bpfsmith::prog::{Link, Load, Maps};
use bpfsmith::sys::xsk::{Copies, Frame, Layout, Plan, Problem, Socket, Umem};
use std::error::Error;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

type Done<T> = Result<T, Box<dyn Error>>;

const P: Packet = Packet {
    data: R6,
    end: R7,
    cursor: R8,
    scratch: R5,
};
const PROTO: Reg = R4;
const QUEUE: Reg = R9;

const PORT: u16 = 7786;
const PACKETS: u32 = 2000;
/// As many are on their way at once.
const BURST: u32 = 16;
const QUEUES: u32 = 16;
/// Ethernet, IPv4 without options, UDP.
const HEADERS: usize = 14 + 20 + 8;

/// The socket of each queue.
static SOCKETS: MapDef<u32, u32> = MapDef::new(MapType::XSKMAP, "sockets", QUEUES);
/// How many packets to our port came, by queue.
static CAME: MapDef<u32, u64> = MapDef::array("came", QUEUES);

/// UDP to our port goes to the socket of the queue that it came on, and to the network stack
/// if there is none.
///
/// # Panics
/// If the checker finds anything wrong with it.
#[must_use]
pub fn program() -> Program {
    let (pass, key) = (label("pass"), slot::<u32>("queue"));
    let code = code![
        load(QUEUE, R1.get(xdp_md::rx_queue_index)),
        packet::xdp(P, R1),
        packet::ethernet(P, PROTO, pass),
        jne(PROTO, be16(ETH_P_IP), pass),
        packet::ipv4(P, PROTO, Exits::both(pass)),
        jne(PROTO, IPPROTO_UDP, pass),
        packet::udp(P, pass),
        load(R2, P.cursor.get(udp::dport)),
        jne(R2, be16(PORT), pass),
        store(key.u32(0), QUEUE),
        count(&CAME, key, 1),
        redirect::to_map(&SOCKETS, QUEUE, Otherwise::Pass),
        exit(),
        bind(pass),
        ret(XDP_PASS),
    ];
    Program::new(ProgType::XDP, "to_sockets", code).unwrap_or_else(|report| panic!("{report}"))
}

/// A socket on each queue that the device has.
fn sockets(server: &Host, umem: &Umem) -> Done<Vec<Socket>> {
    let mut sockets = Vec::new();
    for queue in 0..QUEUES {
        let plan = Plan::new(server.port.index.0, queue);
        // The device is one of the namespace of the thread that opens the socket.
        match server.run(|| plan.open(umem))? {
            Ok(socket) => sockets.push(socket),
            Err(error) if error.problem == Problem::NoQueue && queue > 0 => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(sockets)
}

/// The payload of a packet follows from its number.
fn content(number: u32) -> Vec<u8> {
    let len = 4 + number % 1000;
    let rest = (4..len).map(|at| (number.wrapping_mul(31).wrapping_add(at) & 0xff) as u8);
    number.to_ne_bytes().into_iter().chain(rest).collect()
}

/// Turns a question into its answer: sender and receiver change places, and the bits of the payload
/// are flipped.
fn answer(frame: &mut Frame) -> Done<()> {
    let len = match frame.get(38..40) {
        Some(&[high, low]) => usize::from(u16::from_be_bytes([high, low])),
        _ => return Err("the frame is too short".into()),
    };
    frame[..12].rotate_left(6);
    frame[26..34].rotate_left(4);
    frame[34..38].rotate_left(2);
    // Without a checksum, which IPv4 allows: the sender left it to a device that does not exist.
    frame[40..42].fill(0);
    let end = 34 + len;
    let payload = frame.get_mut(HEADERS..end).ok_or("the packet is longer")?;
    for byte in payload {
        *byte = !*byte;
    }
    Ok(())
}

fn check(holds: bool, what: &str) -> Done<()> {
    match holds {
        true => Ok(()),
        false => Err(what.into()),
    }
}

/// Answers what has come; returns how many packets.
fn serve(sockets: &mut [Socket]) -> Done<u32> {
    let mut served = 0;
    let mut frames = Vec::new();
    for socket in sockets {
        served += socket.receive(&mut frames, 64)?;
        for frame in &mut frames {
            answer(frame)?;
        }
        while !frames.is_empty() {
            socket.send(&mut frames)?;
            socket.kick()?;
            socket.reap()?;
        }
        // Also for what is still in the ring; and new frames in place of those that were used.
        socket.kick()?;
        socket.reap()?;
        socket.fill(64)?;
    }
    Ok(served)
}

/// Sends questions and compares the answers, a burst at a time.
fn ask(client: &UdpSocket, sockets: &mut [Socket]) -> Done<u32> {
    let mut served = 0;
    for first in (0..PACKETS).step_by(BURST as usize) {
        let numbers = first..PACKETS.min(first + BURST);
        for number in numbers.clone() {
            client.send(&content(number))?;
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        for number in numbers {
            let mut packet = [0; 2048];
            let len = loop {
                served += serve(sockets)?;
                match client.recv(&mut packet) {
                    Ok(len) => break len,
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.into()),
                }
                check(Instant::now() < deadline, "an answer is missing")?;
            };
            let question: Vec<u8> = packet[..len].iter().map(|byte| !byte).collect();
            check(question == content(number), "an answer is wrong")?;
        }
    }
    Ok(served)
}

fn attach(server: &Host, maps: &Maps, index: IfIndex) -> Done<Link> {
    let prog = Load::new(&program()).maps(maps).load()?;
    let on = Xdp::on(index).native();
    Ok(server.run(|| prog.attach(&on))??)
}

/// Answers packets in user space, and lets the network stack have them again.
///
/// # Errors
/// When a step is refused, or a packet is lost or wrong.
pub fn run() -> Done<()> {
    let net = Pair::new()?;
    let (server, to) = (&net.server, (net.server.v4(), PORT));
    let maps = Maps::of(&program())?;
    let _link = attach(server, &maps, server.port.index)?;

    let umem = Umem::new(Layout::new(256).size(2048))?;
    let mut open = sockets(server, &umem)?;
    let map: ObjectMap<u32> = maps.open(&SOCKETS)?;
    for (queue, socket) in (0..).zip(&mut open) {
        socket.fill(64)?;
        map.set(&queue, &*socket)?;
        let copies = match socket.copies()? {
            Copies::Each => "packets are copied",
            Copies::None => "the driver works in the frames",
        };
        println!("{}: {copies}", socket.on());
    }

    let client = net.client.run(|| UdpSocket::bind((net.client.v4(), 0)))??;
    client.connect(to)?;
    client.set_nonblocking(true)?;
    let served = ask(&client, &mut open)?;
    let came: Map<u32, u64> = maps.open(&CAME)?;
    let mut total = 0;
    for (queue, socket) in (0..).zip(&open) {
        let statistics = socket.statistics()?;
        let count = came.lookup(&queue)?.unwrap_or(0);
        println!(
            "queue {queue}: {count} came, {} dropped",
            statistics.dropped
        );
        check(statistics.dropped == 0, "frames were dropped")?;
        total += count;
    }
    println!("{served} packets were answered in user space");
    check(served == PACKETS && total == u64::from(PACKETS), "not all")?;

    // A frame is in the pool, or with the kernel for what comes next: none is lost.
    let deadline = Instant::now() + Duration::from_secs(20);
    while umem.census().sending > 0 {
        serve(&mut open)?;
        check(Instant::now() < deadline, "frames do not come back")?;
    }
    let census = umem.census();
    println!(
        "{} frames free, {} to receive into",
        census.free, census.receiving
    );
    check(census.free + census.receiving == 256, "frames are missing")?;

    // Closed sockets leave the map, and the packets go where they went before.
    drop(open);
    let inbox = server.run(|| UdpSocket::bind(to))??;
    inbox.set_read_timeout(Some(Duration::from_secs(20)))?;
    client.send(b"again")?;
    let mut packet = [0; 8];
    let len = inbox.recv(&mut packet)?;
    check(
        &packet[..len] == b"again",
        "the network stack got another packet",
    )?;
    println!("without sockets, the network stack has the port again");
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    run()
}
