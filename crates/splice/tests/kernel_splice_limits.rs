//! Receivers that do not read, a proxy that is slow, and a kernel that has no more memory: senders have to
//! wait, memory is bounded, and nobody who keeps to the rules is broken off.
#![expect(clippy::unwrap_used, reason = "a test says by a panic that it failed")]

#[expect(
    unreachable_pub,
    dead_code,
    reason = "shared by test programs, of which each needs a part"
)]
mod rig;

use bpfsmith_gate::{deadline, is_slow, needs};
use bpfsmith_net::Node;
use bpfsmith_splice::{Joined, Next, Outcome, Settings, Side, Splicer};
use bpfsmith_sys::socket::reset_on_close;
use bpfsmith_uapi::Errno;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{RcvBuf, SndBuf};
use rig::{By, LIMIT, Running, Stream};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long nothing has to move until it is taken for held back.
const STILL: Duration = Duration::from_secs(2);

/// How long nothing has to move until it is taken for stopped: TCP may wait for 2 minutes before it sends
/// again what was dropped.
const STOPPED: Duration = Duration::from_secs(300);

/// How long a slow proxy takes for each look at a pair.
const SLOW: Duration = Duration::from_millis(4);

/// What one way of a pair may take: two buffers of the proxy's sockets of `ahead` bytes, with what
/// the kernel adds, those of the two ends, and what comes while the kernel's worker has no processor.
const MOST: u64 = 100 << 20;

/// More than that.
const LEN: u64 = 108 << 20;

/// An end of a pair that sends a stream and wants another.
struct Peer {
    socket: TcpStream,
    sends: Stream,
    wants: Stream,
    is_over: bool,
}

impl Peer {
    fn new(socket: TcpStream, sends: Stream, wants: Stream) -> Peer {
        socket.set_nonblocking(true).unwrap();
        Peer {
            socket,
            sends,
            wants,
            is_over: false,
        }
    }

    /// Writes what there is room for.
    fn send(&mut self) {
        while !self.sends.is_done() {
            match self.socket.write(self.sends.next()) {
                Ok(bytes) => self.sends.advance(bytes),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("{:?}: {error}", self.sends),
            }
            if self.sends.is_done() {
                self.socket.shutdown(Shutdown::Write).unwrap();
            }
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) {
        while !self.is_over {
            match self.socket.read(buffer) {
                Ok(0) => {
                    assert!(self.wants.is_done(), "cut off: {:?}", self.wants);
                    self.is_over = true;
                }
                Ok(bytes) => self.wants.check(&buffer[..bytes]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("{:?}: {error}", self.wants),
            }
        }
    }
}

/// Sends until nothing finds room any more, or nothing is left; says how much the largest part was that
/// went in.
fn fill(peers: &mut [Peer]) -> u64 {
    let sent = |peers: &[Peer]| peers.iter().map(|peer| peer.sends.done).sum::<u64>();
    let (mut before, mut moved) = (sent(peers), Instant::now());
    while moved.elapsed() < STILL {
        peers.iter_mut().for_each(Peer::send);
        let now = sent(peers);
        if now > before {
            (before, moved) = (now, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let most = peers.iter().map(|peer| peer.sends.done).max().unwrap();
    println!(
        "{most} bytes went into one way while nobody read; {}",
        memory()
    );
    most
}

/// How much memory the kernel's TCP uses, and from where on it runs short.
fn memory() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap();
    let uses = read("/proc/self/net/sockstat");
    let uses = uses.lines().find_map(|line| line.strip_prefix("TCP:"));
    let pages = uses.and_then(|it| it.split_whitespace().last()).unwrap();
    let limits = read("/proc/sys/net/ipv4/tcp_mem");
    let limits: Vec<&str> = limits.split_whitespace().collect();
    let [_, short, none] = limits[..] else {
        panic!("{limits:?}");
    };
    format!("TCP has {pages} pages: {short} are many, {none} are all")
}

/// Sends the rest, and receives everything, each byte compared. That may take as long as it likes, but
/// not stop.
fn exchange(peers: &mut [Peer]) {
    // Few at a time: readers fall behind again and again.
    let mut buffer = vec![0; 1 << 16];
    let done = |peer: &Peer| peer.sends.done + peer.wants.done + u64::from(peer.is_over);
    let (mut before, mut moved) = (0, Instant::now());
    while peers.iter().any(|peer| !peer.is_over) {
        for peer in peers.iter_mut() {
            peer.send();
            peer.receive(&mut buffer);
        }
        let now = peers.iter().map(done).sum::<u64>();
        if now > before {
            (before, moved) = (now, Instant::now());
        }
        assert!(moved.elapsed() < STOPPED, "it stopped: {}", memory());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Connected sockets.
fn connection(node: &Node) -> (TcpStream, TcpStream) {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = node.run(|| TcpListener::bind(any)).unwrap().unwrap();
    let to = listener.local_addr().unwrap();
    let client = node.run(|| TcpStream::connect(to)).unwrap().unwrap();
    let (server, _) = listener.accept().unwrap();
    (client, server)
}

/// How pairs came to their ends, each with how many bytes the kernel and user space moved.
type Ends = Vec<(Outcome, [u64; 2])>;

/// Waits for them.
fn ends(driven: JoinHandle<Ends>) -> Ends {
    deadline(LIMIT, || driven.is_finished().then_some(()));
    driven.join().unwrap()
}

/// Looks after pairs on one thread, with a pause before each look.
fn drive_slowly(mut splicer: Splicer, mut pairs: Vec<Joined>) -> JoinHandle<Ends> {
    std::thread::spawn(move || {
        let mut over = Vec::new();
        while !pairs.is_empty() {
            let mut cookies = Vec::new();
            splicer.behind(|cookie| cookies.push(cookie)).unwrap();
            for cookie in cookies {
                pairs.iter_mut().for_each(|pair| pair.fell_behind(cookie));
            }
            pairs.retain_mut(|pair| {
                std::thread::sleep(SLOW);
                match pair.advance().unwrap() {
                    Next::Over(outcome) => {
                        over.push((outcome, pair.moved()));
                        false
                    }
                    _ => true,
                }
            });
        }
        assert_eq!(splicer.entries().unwrap(), [0; 4]);
        over
    })
}

/// What the streams of pairs are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ways {
    One,
    Both,
}

/// Lets all ends send while none reads, then all read what there is, with a slow proxy all the time. Says
/// how much went into one way at most.
fn check(count: u64, len: u64, ways: Ways) -> u64 {
    let node = Node::new().unwrap();
    let splicer = Splicer::new(Settings::default()).unwrap_or_else(|error| panic!("{error:#}"));
    let (mut pairs, mut peers) = (Vec::new(), Vec::new());
    for seed in 0..count {
        let up = Stream::new(seed * 2, len);
        let down = match ways {
            Ways::One => Stream::new(0, 0),
            Ways::Both => Stream::new(seed * 2 + 1, len),
        };
        let (left, left_proxy) = connection(&node);
        let (right_proxy, right) = connection(&node);
        pairs.push(splicer.join(left_proxy, right_proxy).unwrap());
        peers.push(Peer::new(left, up, down));
        peers.push(Peer::new(right, down, up));
    }
    if ways == Ways::One {
        let silent = peers.iter().filter(|peer| peer.sends.is_done());
        silent.for_each(|peer| peer.socket.shutdown(Shutdown::Write).unwrap());
    }
    let driven = drive_slowly(splicer, pairs);
    let most = fill(&mut peers);
    exchange(&mut peers);
    let each = if ways == Ways::One { len } else { 2 * len };
    for (outcome, [spliced, copied]) in ends(driven) {
        println!("{outcome:?}: {spliced} spliced, {copied} copied");
        assert_eq!((outcome, spliced + copied), (Outcome::Ended, each));
    }
    most
}

#[test]
fn streams_one_way_wait_for_a_slow_proxy() {
    needs!(Root, NetNs, Loopback, Sockmap, RingBuf, Btf);
    let count = if is_slow() { 2 } else { 16 };
    let most = check(count, LEN, Ways::One);
    assert!(most < MOST, "{most} of {LEN}");
}

#[test]
fn streams_both_ways_wait_for_a_slow_proxy() {
    needs!(Root, NetNs, Loopback, Sockmap, RingBuf, Btf);
    let count = if is_slow() { 1 } else { 8 };
    let most = check(count, LEN, Ways::Both);
    assert!(most < MOST, "{most} of {LEN}");
}

/// Pairs whose ends do not read, more of them than the kernel has memory for where it has 1 GiB: then it
/// drops what comes, and refuses what is written, for a while. Where it has more, they have what they
/// want. Either way each stream arrives, if later. The other tests keep below that where they are slow.
#[test]
fn streams_share_what_memory_there_is() {
    needs!(
        Root,
        NetNs,
        Loopback,
        Sockmap,
        SockmapShortage,
        RingBuf,
        Btf
    );
    check(4, LEN / 8, Ways::Both);
}

/// Both ends send, and neither reads: both have to wait, for as long as they like. When they read at
/// last, all of it is there.
#[test]
fn two_that_only_send_do_not_fill_the_memory() {
    needs!(Root, NetNs, Loopback, Sockmap, RingBuf, Btf);
    let node = Node::new().unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = node.run(|| TcpListener::bind(any)).unwrap().unwrap();
    let target = listener.local_addr().unwrap();
    let running = Running::new(&node, any, target, By::Kernel(Settings::default()));
    let client = node.run(|| TcpStream::connect(running.address));
    let client = client.unwrap().unwrap();
    let (server, _) = listener.accept().unwrap();
    deadline(LIMIT, || (running.tally().spliced > 0).then_some(()));
    let (up, down) = (Stream::new(1, LEN), Stream::new(2, LEN));
    let mut peers = [
        Peer::new(client, up, down),
        Peer::new(server, down, up),
    ];
    let most = fill(&mut peers);
    assert!(most < MOST, "{most} of {LEN}");
    exchange(&mut peers);
    let tally = running.idle();
    assert_eq!((tally.ended, tally.broken), (1, 0), "{tally:#?}");
}

/// What was sent on waits in the queue of a socket that has no room to send, and what is left behind it
/// counts for nobody. That does not happen to sockets with the buffers that they get when they are
/// joined. These lose them: then there is a limit for bytes, and one for packets, which cost the kernel
/// more than their bytes; and both ends learn that the pair is broken.
#[test]
fn a_pair_without_buffers_is_broken_before_it_fills_the_memory() {
    needs!(Root, NetNs, Loopback, Sockmap, RingBuf, Btf);
    let node = Node::new().unwrap();
    for size in [1 << 16, 1] {
        let (left, left_proxy) = connection(&node);
        let (right_proxy, right) = connection(&node);
        let settings = Settings {
            ahead: 1 << 16,
            ..Settings::default()
        };
        let splicer = Splicer::new(settings).unwrap();
        let joined = splicer.join(left_proxy, right_proxy).unwrap();
        for side in Side::ALL {
            setsockopt(joined.stream(side), SndBuf, &1).unwrap();
        }
        let driven = drive_slowly(splicer, vec![joined]);
        let sockets = [&left, &right];
        for socket in sockets {
            socket.set_nonblocking(true).unwrap();
            socket.set_nodelay(true).unwrap();
            // Else they hold millions of tiny packets themselves.
            setsockopt(socket, RcvBuf, &(1 << 16)).unwrap();
            setsockopt(socket, SndBuf, &(1 << 16)).unwrap();
        }
        let packet = vec![b'x'; size];
        let (mut sent, mut moved) = ([0_u64; 2], Instant::now());
        while !driven.is_finished() && moved.elapsed() < STILL {
            for (mut socket, sent) in sockets.into_iter().zip(&mut sent) {
                if let Ok(bytes) = socket.write(&packet) {
                    *sent += u64::try_from(bytes).unwrap();
                    moved = Instant::now();
                }
            }
        }
        println!("{sent:?} bytes went in, in packets of {size}");
        if !driven.is_finished() {
            // All that was sent on found room after all, and both have to wait.
            assert!(sent.iter().all(|it| *it < MOST), "{sent:?}");
            for socket in sockets {
                reset_on_close(socket.as_fd()).unwrap();
            }
            drop((left, right));
            ends(driven);
            continue;
        }
        let over = ends(driven);
        let errno = Errno::ENOBUFS;
        assert!(
            matches!(over[..], [(Outcome::Broken { errno: why, .. }, _)] if why == errno),
            "{over:?}"
        );
        for mut socket in sockets {
            deadline(LIMIT, || match socket.write(b"x") {
                Err(error) if error.kind() == ErrorKind::WouldBlock => None,
                Err(error) => Some(error),
                Ok(_) => None,
            });
        }
    }
}
