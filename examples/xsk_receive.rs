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
use bpfsmith::sys::xsk::{Copies, Layout, Plan, Problem, Socket, Umem};
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
/// The device may have so many.
const QUEUES: u32 = 256;
/// So many frames wait to be received into on each queue, and as many are on other ways.
const FILLED: u32 = 64;
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

/// A socket on each queue that is in use, with frames to receive into; the device may have so many.
fn sockets(server: &Host, queues: u32, umem: &Umem) -> Done<Vec<Socket>> {
    let mut sockets = Vec::new();
    for queue in 0..queues {
        let plan = Plan::new(server.port.index.0, queue);
        // The device is one of the namespace of the thread that opens the socket.
        let mut socket = match server.run(|| plan.open(umem))? {
            Ok(socket) => socket,
            Err(error) if error.problem == Problem::NoQueue && queue > 0 => break,
            Err(error) => return Err(error.into()),
        };
        check(socket.fill(FILLED)? == FILLED, "there are too few frames")?;
        sockets.push(socket);
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
/// are flipped. False if it is none: what the network sends is not to be trusted, and one odd frame is
/// no reason to stop.
pub fn answer(frame: &mut [u8]) -> bool {
    let Some((headers, rest)) = frame.split_first_chunk_mut::<HEADERS>() else {
        return false;
    };
    // Options of IPv4 would move all that follows.
    let has_options = headers[14] != 0x45;
    let len = usize::from(u16::from_be_bytes([headers[38], headers[39]]));
    let payload = len.checked_sub(8).and_then(|len| rest.get_mut(..len));
    let (Some(payload), false) = (payload, has_options) else {
        return false;
    };
    headers[..12].rotate_left(6);
    headers[26..34].rotate_left(4);
    headers[34..38].rotate_left(2);
    // Without a checksum, which IPv4 allows: the sender left it to a device that does not exist.
    headers[40..42].fill(0);
    for byte in payload {
        *byte = !*byte;
    }
    true
}

fn check(holds: bool, what: &str) -> Done<()> {
    match holds {
        true => Ok(()),
        false => Err(what.into()),
    }
}

/// New frames in place of those that were used, and no more: the pool is for all queues.
fn refill(socket: &mut Socket) -> Done<()> {
    let waiting = socket.with_kernel().receiving;
    socket.fill(FILLED.saturating_sub(waiting))?;
    Ok(())
}

/// Answers what has come; returns how many packets. A server that has nothing else to do would
/// [`wait`](Socket::wait) when there are none.
fn serve(sockets: &mut [Socket]) -> Done<usize> {
    let mut served = 0;
    let mut frames = Vec::new();
    for socket in sockets {
        socket.receive(&mut frames, 64)?;
        // What is not answered goes back into the pool.
        frames.retain_mut(|frame| answer(frame));
        served += frames.len();
        while !frames.is_empty() {
            socket.send(&mut frames)?;
            socket.kick()?;
            socket.reap()?;
        }
        // Also for what is still in the ring.
        socket.kick()?;
        socket.reap()?;
        refill(socket)?;
    }
    Ok(served)
}

/// Sends questions and compares the answers, a burst at a time.
fn ask(client: &UdpSocket, sockets: &mut [Socket]) -> Done<usize> {
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

    let queues = server.node.net.link_at(server.port.index)?.rx_queues;
    check(queues <= QUEUES, "the map is too short for so many queues")?;
    let umem = Umem::new(Layout::new(2 * FILLED * queues).size(2048))?;
    let mut open = sockets(server, queues, &umem)?;
    let map: ObjectMap<u32> = maps.open(&SOCKETS)?;
    for (queue, socket) in (0..).zip(&open) {
        map.set(&queue, socket)?;
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
    check(
        served == PACKETS as usize && total == u64::from(PACKETS),
        "not all",
    )?;

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
    let all = census.free + census.receiving;
    check(all == umem.frames(), "frames are missing")?;
    let filled = open.iter().all(|it| it.with_kernel().receiving == FILLED);
    check(filled, "a queue took what others need")?;

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
