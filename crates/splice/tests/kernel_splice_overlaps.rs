//! Segments of which a part has come before, as senders repeat them when something was lost: each byte
//! arrives once.
#![expect(clippy::unwrap_used, reason = "a test says by a panic that it failed")]

#[expect(unreachable_pub, reason = "shared by test programs")]
mod peer;
#[expect(
    unreachable_pub,
    dead_code,
    reason = "shared by test programs, of which each needs a part"
)]
mod rig;

use bpfsmith_gate::{deadline, needs};
use bpfsmith_net::Node;
use bpfsmith_splice::{Joined, Next, Outcome, Settings, Splicer};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBuf;
use peer::{End, Peer};
use rig::{LIMIT, Stream};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::ops::Range;

/// The bytes of a stream of which a peer sends parts.
fn part(range: &Range<usize>) -> &'static [u8] {
    let at = |place: usize| u64::try_from(place).unwrap();
    let stream = Stream {
        done: at(range.start),
        ..Stream::new(7, at(range.end))
    };
    let bytes = stream.next();
    assert_eq!(bytes.len(), range.len());
    bytes
}

/// A peer whose segments the test makes, a proxy, and a server.
struct World {
    node: Node,
    splicer: Splicer,
    peer: Peer,
    left: TcpStream,
    right: TcpStream,
    server: TcpStream,
    wants: Stream,
}

impl World {
    /// The first byte of the peer has that number.
    fn new(first: u32, settings: Settings) -> World {
        let node = Node::new().unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = node.run(|| TcpListener::bind(any)).unwrap().unwrap();
        let to = listener.local_addr().unwrap();
        let SocketAddr::V4(address) = to else {
            panic!("{to}");
        };
        let (peer, left) = World::meet(&node, address, &listener, first);
        let right = node.run(|| TcpStream::connect(to)).unwrap().unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        World {
            node,
            splicer: Splicer::new(settings).unwrap_or_else(|error| panic!("{error:#}")),
            peer,
            left,
            right,
            server,
            wants: Stream::new(7, 0),
        }
    }

    fn meet(
        node: &Node,
        to: SocketAddrV4,
        listener: &TcpListener,
        first: u32,
    ) -> (Peer, TcpStream) {
        let peer = Peer::connect(node, to, first);
        let (left, _) = listener.accept().unwrap();
        (peer, left)
    }

    fn join(self) -> Pair {
        let joined = self.splicer.join(self.left, self.right).unwrap();
        Pair {
            node: self.node,
            splicer: self.splicer,
            peer: self.peer,
            server: self.server,
            wants: self.wants,
            joined,
        }
    }
}

/// The same, joined.
struct Pair {
    node: Node,
    splicer: Splicer,
    peer: Peer,
    server: TcpStream,
    wants: Stream,
    joined: Joined,
}

impl Pair {
    /// Looks after the pair once.
    fn look(&mut self) -> Option<Outcome> {
        let joined = &mut self.joined;
        let each = |cookie| joined.fell_behind(cookie);
        self.splicer.behind(each).unwrap();
        match self.joined.advance().unwrap() {
            Next::Over(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// Has the server receive the stream up to there.
    #[track_caller]
    fn receive(&mut self, end: usize) {
        self.wants.len = u64::try_from(end).unwrap();
        let mut buffer = vec![0; 1 << 16];
        deadline(LIMIT, || {
            assert_eq!(self.look(), None);
            match self.server.read(&mut buffer) {
                Ok(0) => panic!("cut off: {:?}", self.wants),
                Ok(bytes) => self.wants.check(&buffer[..bytes]),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
            }
            self.wants.is_done().then_some(())
        });
    }

    /// Has the server see the end, and end its own stream. Says how many bytes the kernel moved, and user
    /// space.
    #[track_caller]
    fn end(mut self) -> [u64; 2] {
        self.server.shutdown(Shutdown::Write).unwrap();
        let outcome = deadline(LIMIT, || self.look());
        assert_eq!(outcome, Outcome::Ended);
        let rest = deadline(LIMIT, || match self.server.read(&mut [0; 8]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            rest => Some(rest.unwrap()),
        });
        assert_eq!(rest, 0, "more bytes than there are");
        self.joined.moved()
    }
}

/// How many segments the kernels of a node have told their senders to have had before, in part or whole.
fn told_twice(node: &Node) -> u64 {
    let read = || std::fs::read_to_string("/proc/thread-self/net/netstat").unwrap();
    let text = node.run(read).unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, numbers) = (lines.next().unwrap(), lines.next().unwrap());
    let both = names.split(' ').zip(numbers.split(' '));
    let old = both.filter(|(name, _)| *name == "TCPDSACKOldSent");
    old.map(|(_, number)| number.parse::<u64>().unwrap()).sum()
}

/// Segments in the order in which they come, some of which begin before the one before has ended.
struct Case {
    name: &'static str,
    /// The number of the first byte.
    first: u32,
    segments: &'static [Range<usize>],
    /// How many bytes the segment has, all old, with which the stream ends.
    last: usize,
}

const fn case(name: &'static str, segments: &'static [Range<usize>]) -> Case {
    Case {
        name,
        first: 1000,
        segments,
        last: 0,
    }
}

const CASES: [Case; 10] = [
    case("half of it", &[0..100, 50..150]),
    case(
        "again and again",
        &[0..100, 0..101, 0..102, 1..103, 102..104],
    ),
    Case {
        first: 0_u32.wrapping_sub(75),
        ..case("numbers wrap in what is old", &[0..100, 50..150])
    },
    Case {
        first: 0_u32.wrapping_sub(100),
        ..case("numbers wrap behind it", &[0..100, 50..150])
    },
    Case {
        first: (1 << 31) - 75,
        ..case("numbers become negative", &[0..100, 50..150])
    },
    case(
        "as much as goes at once",
        &[0..4095, 0..4096, 0..4097, 1..8192],
    ),
    case(
        "as large as packets get",
        &[0..65_000, 0..65_483, 60_000..120_000],
    ),
    case("first what is behind a gap", &[0..10, 100..200, 10..150]),
    Case {
        last: 50,
        ..case("an end behind old bytes", &[0..50, 50..100])
    },
    Case {
        last: 20_000,
        ..case("an end behind many old bytes", &[0..65_000, 0..65_001])
    },
];

/// How far all is there, segment after segment.
fn reached(segments: &[Range<usize>]) -> Vec<usize> {
    let mut ends = Vec::new();
    let (mut end, mut early) = (0, 0);
    for segment in segments {
        match segment.start <= end {
            true => end = segment.end.max(early),
            false => early = segment.end,
        }
        ends.push(end);
    }
    ends
}

/// How many segments share bytes with those before.
fn again(segments: &[Range<usize>]) -> u64 {
    let mut most = 0;
    let mut count = 0;
    for segment in segments {
        count += u64::from(segment.start < most);
        most = segment.end.max(most);
    }
    count
}

#[test]
fn what_comes_twice_is_sent_on_once() {
    needs!(Root, NetNs, Loopback, Sockmap, RingBuf, Btf);
    for case in &CASES {
        println!("{}", case.name);
        let mut pair = World::new(case.first, Settings::default()).join();
        let ends = reached(case.segments);
        for (segment, end) in case.segments.iter().zip(&ends) {
            pair.peer.send(segment.start, part(segment), End::Open);
            pair.peer.acknowledged(*end);
            pair.receive(*end);
        }
        let len = *ends.last().unwrap();
        let last = len - case.last..len;
        pair.peer.send(last.start, part(&last), End::Fin);
        pair.peer.acknowledged(len + 1);
        let twice = told_twice(&pair.node);
        let moved = pair.end();
        assert_eq!(moved, [u64::try_from(len).unwrap(), 0]);
        // Else the kernel has not seen what this is about.
        let again = again(case.segments) + u64::from(case.last > 0);
        assert!(twice >= again, "{twice} of {again}");
    }
}

/// User space has read what comes again with the first packet that the program sees; or nothing, and
/// both wait in the queue.
#[test]
fn what_was_there_before_is_not_sent_on_again() {
    needs!(Root, NetNs, Loopback, Sockmap, RingBuf, Btf);
    for reads in [true, false] {
        let mut world = World::new(0_u32.wrapping_sub(75), Settings::default());
        let (first, second) = (0..10_000, 3000..20_000);
        world.peer.send(first.start, part(&first), End::Open);
        world.peer.acknowledged(first.end);
        let mut pair = if reads {
            let mut head = vec![0; first.len()];
            world.left.read_exact(&mut head).unwrap();
            assert!(head == part(&first), "other bytes");
            world.right.write_all(&head).unwrap();
            let pair = world.join();
            pair.peer.send(second.start, part(&second), End::Open);
            pair
        } else {
            world.peer.send(second.start, part(&second), End::Open);
            world.peer.acknowledged(second.end);
            world.join()
        };
        pair.receive(second.end);
        pair.peer.send(second.end, &[], End::Fin);
        pair.peer.acknowledged(second.end + 1);
        assert!(told_twice(&pair.node) >= 1);
        let spliced = if reads { 10_000 } else { 20_000 };
        assert_eq!(pair.end(), [spliced, 0]);
    }
}

/// The server does not read until packets are left to user space; all but the first begin with old bytes.
#[test]
fn what_comes_twice_is_left_once() {
    needs!(Root, NetNs, Loopback, Sockmap, RingBuf, Btf);
    const OLD: usize = 5000;
    const NEW: usize = 16_000;
    let settings = Settings {
        ahead: 1 << 16,
        ..Settings::default()
    };
    let mut pair = World::new(1000, settings).join();
    setsockopt(&pair.server, RcvBuf, &(1 << 16)).unwrap();
    let mut cookies = Vec::new();
    let mut end = 0;
    let (mut segments, mut more) = (0, 8);
    while more > 0 {
        let segment = end - OLD.min(end)..end + NEW;
        pair.peer.send(segment.start, part(&segment), End::Open);
        (end, segments) = (segment.end, segments + 1);
        pair.peer.acknowledged(end);
        // User space only learns of it, and does nothing.
        pair.splicer.behind(|cookie| cookies.push(cookie)).unwrap();
        more -= usize::from(!cookies.is_empty());
        assert!(end < 50 << 20, "nothing is left");
    }
    assert!(told_twice(&pair.node) >= segments - 1);
    for cookie in cookies {
        pair.joined.fell_behind(cookie);
    }
    pair.receive(end);
    pair.peer.send(end - OLD, part(&(end - OLD..end)), End::Fin);
    pair.peer.acknowledged(end + 1);
    let [spliced, copied] = pair.end();
    assert_eq!(spliced + copied, u64::try_from(end).unwrap());
    assert_eq!(copied, 8 * u64::try_from(NEW).unwrap());
}
