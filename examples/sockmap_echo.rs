//! An echo server whose process never sees a byte: the kernel sends back what comes in. Needs root.
//!
//! The process listens and accepts, and puts each connection into a map of sockets. Two programs belong
//! to the map. The parser says where messages end: there are none, so whatever arrives is one. The
//! verdict looks up the socket that the bytes came to, under the name of its own connection, and sends
//! them through it. Eight clients at once, over IPv4 and IPv6, get all back that they sent. What the
//! process reads from its sockets, meanwhile and at the end, is nothing.

use bpfsmith::dsl::*;
use bpfsmith::kit::map::count_at;
use bpfsmith::kit::stream::{self, Context, Direction, Otherwise, Side, TupleKey};
use bpfsmith::maps::{Map, ObjectMap};
use bpfsmith::net::Node;
use bpfsmith::prog::target::Sockmap;
use bpfsmith::prog::{Load, Maps};
use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

const CLIENTS: usize = 8;
const BYTES: usize = 1 << 20;
const LIMIT: Duration = Duration::from_secs(20);

const CTX: Reg = R6;

/// The server's sockets, by the names of their connections.
static SOCKETS: MapDef<TupleKey, u64> = MapDef::new(MapType::SOCKHASH, "echo", 64);

/// How many messages went back.
static SEEN: MapDef<u32, u64> = MapDef::array("seen", 1);

/// Where messages end.
///
/// # Panics
/// If the checker finds anything wrong with it.
#[must_use]
pub fn parser() -> Program {
    let code = code![mov(CTX, R1), stream::parser_whole(CTX)];
    Program::new(ProgType::SK_SKB, "whole", code).unwrap_or_else(|report| panic!("{report}"))
}

/// Where they go.
///
/// # Panics
/// If the checker finds anything wrong with it.
#[must_use]
pub fn program() -> Program {
    let key = slot::<TupleKey>("key");
    let code = code![
        mov(CTX, R1),
        count_at(&SEEN, 0, 1),
        stream::tuple_key(Context::Buffer(CTX), Side::Own, key, R2),
        // A connection that is not in the map is the process's to serve.
        stream::redirect(CTX, &SOCKETS, key, Direction::Egress, Otherwise::Pass),
        exit(),
    ];
    Program::new(ProgType::SK_SKB, "echo", code).unwrap_or_else(|report| panic!("{report}"))
}

/// Sends bytes of its own, and says how many of them came back.
fn talk(client: &TcpStream, seed: u8) -> io::Result<usize> {
    let sent: Vec<u8> = (0_u32..)
        .map(|n| n.to_ne_bytes()[0] ^ n.to_ne_bytes()[1] ^ seed)
        .take(BYTES)
        .collect();
    let mut back = vec![0; BYTES];
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut writer = client;
            writer.write_all(&sent)?;
            client.shutdown(std::net::Shutdown::Write)
        });
        let mut reader = client;
        reader.read_exact(&mut back)?;
        writer
            .join()
            .map_err(|_| io::Error::other("a writer died"))?
    })?;
    if sent != back {
        return Err(io::Error::other("other bytes came back"));
    }
    Ok(back.len())
}

/// The client's end and the server's end of a new connection.
fn connect(
    node: &Node,
    listener: &TcpListener,
    host: IpAddr,
) -> Result<(TcpStream, TcpStream), Box<dyn Error>> {
    let to = (host, listener.local_addr()?.port());
    let client = node.run(|| TcpStream::connect(to))??;
    let (server, _) = listener.accept()?;
    for socket in [&client, &server] {
        socket.set_read_timeout(Some(LIMIT))?;
        socket.set_write_timeout(Some(LIMIT))?;
    }
    Ok((client, server))
}

/// What the process finds in a socket whose client said that it is done: the end, and no byte.
fn read_to_end(mut server: &TcpStream) -> io::Result<usize> {
    let end = Instant::now() + LIMIT;
    let mut bytes = [0; 4096];
    let mut count = 0;
    loop {
        match server.read(&mut bytes) {
            Ok(0) => return Ok(count),
            Ok(more) => count += more,
            // Bytes came that are not for the process: there is nothing, and no end yet.
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < end => {}
            Err(error) => return Err(error),
        }
    }
}

/// Puts the programs on the map, lets the clients talk, and asks everybody what they got.
///
/// # Errors
/// When a step is refused, or bytes went wrong.
pub fn run() -> Result<(), Box<dyn Error>> {
    let (parser, verdict) = (parser(), program());
    let maps = Maps::of(&verdict)?;
    let map = maps.handle(SOCKETS.shape().name)?;
    let (ends, goes) = (Sockmap::parser(&map), Sockmap::stream_verdict(&map));
    let parser = Load::new(&parser).to(&ends)?.load()?;
    let verdict = Load::new(&verdict).maps(&maps).to(&goes)?.load()?;
    // Before any socket is there: sockets keep the programs that they met.
    let parser = parser.attach(&ends)?;
    let verdict = verdict.attach(&goes)?;
    println!(
        "parser and verdict are held by: {:?}, {:?}",
        parser.way(),
        verdict.way()
    );

    let node = Node::new()?;
    let listener = node.run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)))??;
    let sockets: ObjectMap<TupleKey, u64> = maps.open(&SOCKETS)?;
    let hosts = [
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ];
    let mut connections = Vec::new();
    for host in hosts.into_iter().cycle().take(CLIENTS) {
        let (client, server) = connect(&node, &listener, host)?;
        let key = TupleKey::of(server.local_addr()?, server.peer_addr()?);
        sockets.set(&key, &server)?;
        connections.push((client, server));
    }
    let done: Vec<io::Result<usize>> = thread::scope(|scope| {
        let talks: Vec<_> = (0_u8..)
            .zip(&connections)
            .map(|(seed, (client, _))| scope.spawn(move || talk(client, seed)))
            .collect();
        talks
            .into_iter()
            .map(|talk| talk.join().map_err(|_| io::Error::other("a client died"))?)
            .collect()
    });
    for ((client, server), back) in connections.iter().zip(done) {
        let (back, read) = (back?, read_to_end(server)?);
        println!(
            "{:<24} {back} bytes came back, the process read {read}",
            client.local_addr()?.to_string()
        );
        if (back, read) != (BYTES, 0) {
            return Err("bytes went another way".into());
        }
    }
    let seen: Map<u32, u64> = maps.open(&SEEN)?;
    let messages = seen.lookup(&0)?.unwrap_or_default();
    println!("the verdict was asked {messages} times");
    drop(connections);
    // A socket that is closed leaves the map by itself.
    let end = Instant::now() + LIMIT;
    while sockets.keys().count() > 0 {
        if Instant::now() > end {
            return Err("closed sockets are still in the map".into());
        }
        thread::yield_now();
    }
    println!("no socket is left in the map");
    if messages == 0 {
        return Err("the verdict was never asked".into());
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    run()
}
