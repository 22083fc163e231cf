//! Two connections whose middle sockets are in a map, and the programs of that map.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![expect(clippy::unwrap_used, reason = "it is part of tests")]

use crate::net_bench::{LIMIT, hit, load_to};
use bpfsmith_asm::dsl::*;
use bpfsmith_asm::kit::stream::{self, Direction, Otherwise};
use bpfsmith_gate::{Need, State, deadline};
use bpfsmith_maps::{Handle, ObjectMap};
use bpfsmith_net::Node;
use bpfsmith_prog::target::Sockmap;
use bpfsmith_prog::{Error, Link, Maps, Prog, Way};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

pub(crate) static INDEXED: MapDef<u32, u64> = MapDef::new(MapType::SOCKMAP, "indexed", 4);
pub(crate) static HASHED: MapDef<u32, u64> = MapDef::new(MapType::SOCKHASH, "hashed", 4);

pub(crate) const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub(crate) const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// A client and the server's side of its connection.
pub(crate) fn connection(node: &Node, host: IpAddr) -> (TcpStream, TcpStream) {
    let listener = node.run(|| TcpListener::bind((host, 0))).unwrap().unwrap();
    let to = listener.local_addr().unwrap();
    connection_to(node, &listener, to)
}

pub(crate) fn connection_to(
    node: &Node,
    listener: &TcpListener,
    to: SocketAddr,
) -> (TcpStream, TcpStream) {
    let client = node.run(|| TcpStream::connect(to)).unwrap().unwrap();
    let (server, _) = listener.accept().unwrap();
    for socket in [&client, &server] {
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        socket.set_write_timeout(Some(LIMIT)).unwrap();
        socket.set_nodelay(true).unwrap();
    }
    (client, server)
}

/// Bytes that differ wherever one looks.
pub(crate) fn noise(count: usize, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_ne_bytes()[1]
    };
    (0..count).map(|_| next()).collect()
}

/// Reads into all of `bytes`. A socket with a verdict that is woken by bytes on their way to somebody
/// answers that there is nothing, although it may wait: it is asked again.
fn read_all(mut from: &TcpStream, mut bytes: &mut [u8]) -> io::Result<()> {
    let end = Instant::now() + LIMIT;
    while !bytes.is_empty() {
        match from.read(bytes) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => bytes = &mut bytes[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < end => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads that many bytes.
#[track_caller]
pub(crate) fn take(from: &TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    let done = read_all(from, &mut bytes).map_err(|error| error.kind());
    assert_eq!(done, Ok(()), "{count} bytes of {from:?}");
    bytes
}

/// What is written to one socket is read from another, all of it and nothing else.
#[track_caller]
pub(crate) fn check_carries(mut from: &TcpStream, to: &TcpStream, bytes: &[u8]) {
    let mut read = vec![0; bytes.len()];
    let (written, got) = thread::scope(|scope| {
        let writer = scope.spawn(move || from.write_all(bytes));
        let got = read_all(to, &mut read);
        (writer.join().unwrap(), got)
    });
    let kind = |done: io::Result<()>| done.map_err(|error| error.kind());
    assert_eq!(
        (kind(written), kind(got)),
        (Ok(()), Ok(())),
        "{} bytes from {from:?} to {to:?}",
        bytes.len()
    );
    assert!(read == bytes, "{} bytes differ", bytes.len());
    check_silent(to);
}

/// Nothing is there to read.
#[track_caller]
pub(crate) fn check_silent(mut socket: &TcpStream) {
    socket.set_nonblocking(true).unwrap();
    let done = socket.read(&mut [0; 16]).map_err(|error| error.kind());
    socket.set_nonblocking(false).unwrap();
    assert_eq!(done, Err(ErrorKind::WouldBlock), "{socket:?}");
}

/// How programs are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    Link,
    Map,
}

impl Held {
    pub(crate) fn way(self) -> Way {
        match (self, Need::SockmapLink.state()) {
            (Held::Link, State::Here) => Way::Link,
            _ => Way::Attachment,
        }
    }
}

/// What judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judge {
    /// A parser and the verdict of messages.
    Parsed,
    /// That verdict alone.
    Stream,
    /// The verdict of any received data.
    Any,
    /// The verdict of what is written.
    Message,
}

/// Sends what the program sees to the socket under a key that a slot has, and counts it.
pub(crate) fn send_on(
    judge: Judge,
    map: &MapDef<u32, u64>,
    to: u32,
    direction: Direction,
    otherwise: Otherwise,
) -> Code {
    let key = slot::<u32>("key");
    code![
        mov(R6, R1),
        hit(0),
        store(key.u32(0), to),
        match judge {
            Judge::Message => stream::redirect_message(R6, map, key, direction, otherwise),
            _ => stream::redirect(R6, map, key, direction, otherwise),
        },
        exit(),
    ]
}

/// A map of sockets with its programs, in a network of its own.
pub(crate) struct Rig {
    pub(crate) node: Node,
    pub(crate) maps: Maps,
    pub(crate) handle: Handle,
    pub(crate) sockets: ObjectMap<u32, u64>,
}

impl Rig {
    #[track_caller]
    pub(crate) fn new(map: &MapDef<u32, u64>) -> Rig {
        let names = send_on(Judge::Any, map, 0, Direction::Egress, Otherwise::Pass);
        let names = Program::new(ProgType::SK_SKB, "names", names).unwrap();
        let maps = Maps::of(&names).unwrap();
        let handle = maps.handle(map.shape().name).unwrap();
        Rig {
            node: Node::new().unwrap(),
            sockets: maps.open(map).unwrap(),
            handle,
            maps,
        }
    }

    /// The hooks that a judge takes, the one that decides last.
    pub(crate) fn hooks(&self, judge: Judge) -> Vec<Sockmap<'_>> {
        let map = &self.handle;
        match judge {
            Judge::Parsed => vec![
                Sockmap::parser(map),
                Sockmap::stream_verdict(map),
            ],
            Judge::Stream => vec![Sockmap::stream_verdict(map)],
            Judge::Any => vec![Sockmap::verdict(map)],
            Judge::Message => vec![Sockmap::message(map)],
        }
    }

    /// Loads a judge's programs, of which the last has this code.
    #[track_caller]
    pub(crate) fn load(&self, judge: Judge, code: Code) -> Vec<Prog> {
        let mut maps = Maps::new();
        let hooks = self.hooks(judge);
        let (last, parser) = hooks.split_last().unwrap();
        let kind = match judge {
            Judge::Message => ProgType::SK_MSG,
            _ => ProgType::SK_SKB,
        };
        let whole = || code![mov(R6, R1), stream::parser_whole(R6)];
        let mut progs: Vec<Prog> = parser
            .iter()
            .map(|hook| load_to(hook, ProgType::SK_SKB, "parser", whole(), &mut maps))
            .collect();
        progs.push(self.load_to(last, kind, code));
        progs
    }

    /// Loads a program with the rig's maps.
    #[track_caller]
    pub(crate) fn load_to(&self, hook: &Sockmap<'_>, kind: ProgType, code: Code) -> Prog {
        let program = Program::new(kind, "judge", code).unwrap_or_else(|report| panic!("{report}"));
        let load = bpfsmith_prog::Load::new(&program).maps(&self.maps);
        let prog = load.to(hook).unwrap().load();
        prog.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Loads and attaches.
    #[track_caller]
    pub(crate) fn judge(&self, judge: Judge, held: Held, code: Code) -> Vec<Link> {
        let progs = self.load(judge, code);
        let attach = |(prog, hook): (&Prog, Sockmap<'_>)| {
            let hook = match held {
                Held::Link => hook,
                Held::Map => hook.attachment(),
            };
            let link = prog.attach(&hook)?;
            assert_eq!(link.way(), held.way());
            Ok(link)
        };
        let links: Result<Vec<Link>, Error> =
            progs.iter().zip(self.hooks(judge)).map(attach).collect();
        links.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Two connections, with their middle sockets under 0 and 1.
    #[track_caller]
    pub(crate) fn splice(&self, host: IpAddr) -> Pipe {
        let splice = Pipe::new(&self.node, host);
        self.sockets.set(&0, &splice.a).unwrap();
        self.sockets.set(&1, &splice.b).unwrap();
        splice
    }
}

/// Two connections through somebody in the middle: left to `a`, and `b` to right.
pub(crate) struct Pipe {
    pub(crate) left: TcpStream,
    pub(crate) a: TcpStream,
    pub(crate) b: TcpStream,
    pub(crate) right: TcpStream,
}

impl Pipe {
    pub(crate) fn new(node: &Node, host: IpAddr) -> Pipe {
        let (left, a) = connection(node, host);
        let (right, b) = connection(node, host);
        Pipe { left, a, b, right }
    }
}

/// Bytes and packets that the loopback device of a network has carried.
pub(crate) fn carried(node: &Node) -> (u64, u64) {
    let text = node.run(|| std::fs::read_to_string("/proc/thread-self/net/dev"));
    let text = text.unwrap().unwrap();
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("lo:"));
    let mut numbers = line
        .unwrap()
        .split_whitespace()
        .map(|word| word.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// Waits until something holds.
#[track_caller]
pub(crate) fn until(mut holds: impl FnMut() -> bool) {
    deadline(LIMIT, || holds().then_some(()));
}
