//! Two processes of one machine talk over TCP, and their bytes pass no network: how much sooner they are
//! there. Needs root, and a cgroup2 file system that is mounted somewhere.
//!
//! Neither of the two knows of it. A program of their control group puts every connection of one port
//! into a map of sockets, both ends of it, as soon as it stands. A program of the map sees what either
//! writes, and gives it to the other one to read. Connections of another port go the usual way, over the
//! loopback device, which counts its packets: with the shortcut there is none.
//!
//! The two exchange messages of several sizes, in turns with and without the shortcut, so that what
//! else the machine does hits both alike. The example compares all bytes, and prints how long the
//! median of the exchanges took, there and back.

use bpfsmith::dsl::*;
use bpfsmith::kit::stream::{
    self, Connections, Context, Direction, Otherwise, Side, TALLIES, TupleKey,
};
use bpfsmith::maps::{Map, ObjectMap};
use bpfsmith::net::Node;
use bpfsmith::prog::target::{Cgroup, Sockmap};
use bpfsmith::prog::{Load, Maps};
use bpfsmith::sys::cgroup::Cgroup as Group;
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// Connections of this port have a shortcut.
const SHORT: u16 = 7001;
/// Those of this one have none.
const PLAIN: u16 = 7002;

const SIZES: [usize; 6] = [64, 256, 1024, 4096, 16384, 65536];
const ROUNDS: u8 = 50;
const EXCHANGES: u8 = 10;

const CTX: Reg = R6;

/// Both ends of every connection, each under its own name.
static SOCKETS: MapDef<TupleKey, u64> = MapDef::new(MapType::SOCKHASH, "local", 1024);
/// How many sockets came in, found no room, or were refused.
static TALLY: MapDef<u32, u64> = MapDef::array("tally", TALLIES);

/// Collects the connections.
///
/// # Panics
/// If the checker finds anything wrong with it.
#[must_use]
pub fn collect() -> Program {
    let code = code![
        mov(CTX, R1),
        stream::fill(CTX, &SOCKETS, Connections::Service(SHORT..=SHORT), &TALLY),
        ret(1),
    ];
    Program::new(ProgType::SOCK_OPS, "collect", code).unwrap_or_else(|report| panic!("{report}"))
}

/// Gives what one writes to the other one, if that is on this machine.
///
/// # Panics
/// If the checker finds anything wrong with it.
#[must_use]
pub fn program() -> Program {
    let key = slot::<TupleKey>("peer");
    let code = code![
        mov(CTX, R1),
        stream::tuple_key(Context::Message(CTX), Side::Peer, key, R2),
        stream::redirect_message(CTX, &SOCKETS, key, Direction::Ingress, Otherwise::Pass),
        exit(),
    ];
    Program::new(ProgType::SK_MSG, "bypass", code).unwrap_or_else(|report| panic!("{report}"))
}

/// Packets that the loopback device of the network has carried.
fn packets(node: &Node) -> Result<u64, Box<dyn Error>> {
    let text = node.run(|| std::fs::read_to_string("/proc/thread-self/net/dev"))??;
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("lo:"));
    let count = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(count.ok_or("no loopback device")?.parse()?)
}

/// One who asks, and another one, a thread, who sends everything back.
struct Pair {
    client: TcpStream,
    server: thread::JoinHandle<io::Result<()>>,
}

impl Pair {
    fn new(node: &Node, port: u16) -> Result<Pair, Box<dyn Error>> {
        let to = (Ipv4Addr::LOCALHOST, port);
        let listener = node.run(|| TcpListener::bind(to))??;
        let client = node.run(|| TcpStream::connect(to))??;
        let (mut server, _) = listener.accept()?;
        for socket in [&client, &server] {
            socket.set_nodelay(true)?;
            socket.set_read_timeout(Some(Duration::from_secs(20)))?;
        }
        let server = thread::spawn(move || {
            let mut bytes = vec![0; 65536];
            loop {
                let count = server.read(&mut bytes)?;
                if count == 0 {
                    return Ok(());
                }
                server.write_all(&bytes[..count])?;
            }
        });
        Ok(Pair { client, server })
    }

    /// Sends a message, waits until it is back, and says how long that took.
    fn exchange(&mut self, message: &[u8], back: &mut [u8]) -> io::Result<Duration> {
        let start = Instant::now();
        self.client.write_all(message)?;
        self.client.read_exact(back)?;
        let took = start.elapsed();
        if message != back {
            return Err(io::Error::other("other bytes came back"));
        }
        Ok(took)
    }

    /// So many messages of one size, each of them different.
    fn exchanges(&mut self, size: usize, took: &mut Vec<Duration>) -> io::Result<()> {
        let mut back = vec![0; size];
        for number in 0..EXCHANGES {
            let message: Vec<u8> = (number..=u8::MAX).cycle().take(size).collect();
            took.push(self.exchange(&message, &mut back)?);
        }
        Ok(())
    }

    fn end(self) -> Result<(), Box<dyn Error>> {
        drop(self.client);
        let done = self.server.join().map_err(|_| "a server died")?;
        Ok(done?)
    }
}

/// The one in the middle, in microseconds.
fn median(took: &mut [Duration]) -> f64 {
    took.sort_unstable();
    let middle = took.get(took.len() / 2).copied().unwrap_or_default();
    middle.as_secs_f64() * 1e6
}

/// Measures both ways in turns, and checks that the shortcut is one.
fn compare(node: &Node, short: &mut Pair, plain: &mut Pair) -> Result<(), Box<dyn Error>> {
    println!("     bytes     plain  shortcut   (microseconds there and back, median)");
    for size in SIZES {
        let (mut with, mut without) = (Vec::new(), Vec::new());
        let mut carried = [0; 2];
        for _ in 0..ROUNDS {
            let before = packets(node)?;
            plain.exchanges(size, &mut without)?;
            let between = packets(node)?;
            short.exchanges(size, &mut with)?;
            carried[0] += between - before;
            carried[1] += packets(node)? - between;
        }
        let (with, without) = (median(&mut with), median(&mut without));
        println!(
            "{size:>10} {without:>9.1} {with:>9.1}   {:.2} times as fast; {} packets, {} with the shortcut",
            without / with,
            carried[0],
            carried[1]
        );
        // The exchange is over, but perhaps not the acknowledgement of the last packet of the plain one.
        if carried[0] < u64::from(ROUNDS) * u64::from(EXCHANGES) * 2 {
            return Err("the plain connection sent no packets".into());
        }
        if carried[1] > u64::from(ROUNDS) * 2 {
            return Err("there were packets in spite of the shortcut".into());
        }
    }
    Ok(())
}

/// Attaches both programs, and lets two pairs exchange messages.
///
/// # Errors
/// When a step is refused, or bytes went wrong.
pub fn run() -> Result<(), Box<dyn Error>> {
    let (collect, bypass) = (collect(), program());
    let mut maps = Maps::of(&collect)?;
    maps.add(&bypass)?;
    let group = Group::new(&format!("bs-bypass-{}", std::process::id()))?;
    group.enter(std::process::id())?;
    let dir = group.open()?;
    let (events, map) = (Cgroup::sock_ops(&dir), maps.handle(SOCKETS.shape().name)?);
    let written = Sockmap::message(&map);
    let collect = Load::new(&collect).maps(&maps).to(&events)?.load()?;
    let bypass = Load::new(&bypass).maps(&maps).to(&written)?.load()?;
    // First the program of the map: sockets keep those that they met.
    let _bypass = bypass.attach(&written)?;
    let _collect = collect.attach(&events)?;

    let node = Node::new()?;
    let (mut short, mut plain) = (Pair::new(&node, SHORT)?, Pair::new(&node, PLAIN)?);
    let tally: Map<u32, u64> = maps.open(&TALLY)?;
    let came = tally.lookup(&stream::ADDED)?;
    let sockets: ObjectMap<TupleKey, u64> = maps.open(&SOCKETS)?;
    println!("both ends of one connection of two came into the map by themselves: {came:?}");
    if came != Some(2) || sockets.keys().count() != 2 {
        return Err("other connections are in the map".into());
    }
    compare(&node, &mut short, &mut plain)?;
    short.end()?;
    plain.end()
}

fn main() -> Result<(), Box<dyn Error>> {
    run()
}
