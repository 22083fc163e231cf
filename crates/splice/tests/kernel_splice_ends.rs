//! How streams begin and end: each way on its own, with bytes that were there before, and by a break.
#![expect(clippy::unwrap_used, reason = "a test says by a panic that it failed")]

use bpfsmith_gate::{deadline, needs};
use bpfsmith_net::Node;
use bpfsmith_splice::{Joined, Next, Outcome, Proxy, Settings, Side, Splicer, Stopper, Way, Why};
use bpfsmith_sys::epoll::Epoll;
use bpfsmith_sys::socket::{reset_on_close, tcp_progress, unread};
use bpfsmith_uapi::Errno;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);

const FAMILIES: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

/// Two connections, and what is to be joined of each.
struct World {
    splicer: Splicer,
    left: TcpStream,
    left_proxy: TcpStream,
    right_proxy: TcpStream,
    right: TcpStream,
}

fn connection(node: &Node, address: IpAddr) -> (TcpStream, TcpStream) {
    let any = SocketAddr::new(address, 0);
    let listener = node.run(|| TcpListener::bind(any)).unwrap().unwrap();
    let to = listener.local_addr().unwrap();
    let client = node.run(|| TcpStream::connect(to)).unwrap().unwrap();
    let (server, _) = listener.accept().unwrap();
    for socket in [&client, &server] {
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        socket.set_write_timeout(Some(LIMIT)).unwrap();
        socket.set_nodelay(true).unwrap();
    }
    (client, server)
}

fn world(node: &Node, address: IpAddr, settings: Settings) -> World {
    let (left, left_proxy) = connection(node, address);
    // The proxy connects to the right.
    let (right_proxy, right) = connection(node, address);
    World {
        splicer: Splicer::new(settings).unwrap_or_else(|error| panic!("{error:#}")),
        left,
        left_proxy,
        right_proxy,
        right,
    }
}

/// A joined pair, looked after on a thread of its own.
struct Driven {
    thread: std::thread::JoinHandle<(Outcome, [u64; 2], Splicer)>,
}

/// Joins and looks after the pair until it is over.
fn drive(mut splicer: Splicer, mut joined: Joined) -> Driven {
    let thread = std::thread::spawn(move || {
        let epoll = Epoll::new().unwrap();
        epoll
            .add(splicer.as_fd(), bpfsmith_sys::epoll::Interest::Read, 2)
            .unwrap();
        let end = Instant::now() + LIMIT;
        loop {
            assert!(Instant::now() < end, "{joined:?}");
            let time = match joined.advance().unwrap() {
                Next::Wait => Duration::from_secs(1),
                Next::Within(time) => time,
                Next::Over(outcome) => {
                    let moved = joined.moved();
                    drop(joined);
                    return (outcome, moved, splicer);
                }
            };
            joined.watch(&epoll, [0, 1]).unwrap();
            epoll.wait(Some(time), |_| {}).unwrap();
            let mut cookies = Vec::new();
            splicer.behind(|cookie| cookies.push(cookie)).unwrap();
            cookies
                .iter()
                .for_each(|cookie| joined.fell_behind(*cookie));
        }
    });
    Driven { thread }
}

impl Driven {
    /// Waits for the end; nothing is left in the maps.
    #[track_caller]
    fn over(self) -> (Outcome, [u64; 2]) {
        let (outcome, moved, splicer) = self.thread.join().unwrap();
        assert_eq!(splicer.entries().unwrap(), [0; 4]);
        (outcome, moved)
    }
}

#[track_caller]
fn send(mut socket: &TcpStream, bytes: &[u8]) {
    socket.write_all(bytes).unwrap();
}

#[track_caller]
fn receive(mut socket: &TcpStream, expected: &[u8]) {
    let mut bytes = vec![0; expected.len()];
    socket.read_exact(&mut bytes).unwrap();
    assert!(bytes == expected, "other bytes");
}

#[track_caller]
fn receive_end(mut socket: &TcpStream) {
    assert_eq!(socket.read(&mut [0; 8]).unwrap(), 0);
}

#[track_caller]
fn is_reset(mut socket: &TcpStream) {
    let mut buffer = vec![0; 1 << 16];
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => panic!("ended as if that was all"),
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                break;
            }
        }
    }
}

fn bytes(seed: u32, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[1]
    };
    (0..len).map(|_| next()).collect()
}

/// Waits until that much has arrived at a socket of the proxy.
#[track_caller]
fn arrived(socket: &TcpStream, bytes: u64) {
    deadline(LIMIT, || {
        (tcp_progress(socket.as_fd()).unwrap().received >= bytes).then_some(())
    });
}

#[test]
fn each_way_ends_on_its_own() {
    needs!(Root, NetNs, Loopback, Sockmap, RingBuf, Btf);
    let node = Node::new().unwrap();
    for address in FAMILIES {
        for first in Side::ALL {
            let world = world(&node, address, Settings::default());
            let joined = world
                .splicer
                .join(world.left_proxy, world.right_proxy)
                .unwrap();
            assert_eq!(joined.way(), Way::Spliced);
            let driven = drive(world.splicer, joined);
            let (one, other) = match first {
                Side::First => (world.left, world.right),
                Side::Second => (world.right, world.left),
            };
            let there = bytes(1, 300_000);
            send(&one, &there);
            one.shutdown(Shutdown::Write).unwrap();
            receive(&other, &there);
            receive_end(&other);
            // The other way goes on, and ends when it wants to.
            for round in 0..20 {
                let back = bytes(round, 50_000);
                send(&other, &back);
                receive(&one, &back);
            }
            other.shutdown(Shutdown::Write).unwrap();
            receive_end(&one);
            let (outcome, moved) = driven.over();
            assert_eq!(outcome, Outcome::Ended);
            assert_eq!(moved, [1_300_000, 0]);
        }
    }
}

#[test]
fn empty_streams_end() {
    needs!(Root, NetNs, Loopback, Sockmap, RingBuf, Btf);
    let node = Node::new().unwrap();
    for address in FAMILIES {
        let world = world(&node, address, Settings::default());
        let joined = world
            .splicer
            .join(world.left_proxy, world.right_proxy)
            .unwrap();
        let driven = drive(world.splicer, joined);
        world.right.shutdown(Shutdown::Write).unwrap();
        receive_end(&world.left);
        world.left.shutdown(Shutdown::Write).unwrap();
        receive_end(&world.right);
        assert_eq!(driven.over(), (Outcome::Ended, [0, 0]));
    }
}

/// What had come before goes first, whether or not something comes after it.
#[test]
fn early_bytes_arrive_in_order_and_once() {
    needs!(Root, NetNs, Loopback, Sockmap, RingBuf, Btf);
    let node = Node::new().unwrap();
    for address in FAMILIES {
        for len in [1, 1000, 40_000] {
            for later in [false, true] {
                let world = world(&node, address, Settings::default());
                let (up, down) = (bytes(3, len), bytes(4, len / 2 + 1));
                send(&world.left, &up);
                send(&world.right, &down);
                arrived(&world.left_proxy, u64::try_from(up.len()).unwrap());
                arrived(&world.right_proxy, u64::try_from(down.len()).unwrap());
                let joined = world
                    .splicer
                    .join(world.left_proxy, world.right_proxy)
                    .unwrap();
                let driven = drive(world.splicer, joined);
                if later {
                    send(&world.left, b"and more");
                    send(&world.right, b"and back");
                }
                receive(&world.right, &up);
                receive(&world.left, &down);
                if later {
                    receive(&world.right, b"and more");
                    receive(&world.left, b"and back");
                }
                world.left.shutdown(Shutdown::Write).unwrap();
                receive_end(&world.right);
                world.right.shutdown(Shutdown::Write).unwrap();
                receive_end(&world.left);
                let (outcome, [_, copied]) = driven.over();
                assert_eq!((outcome, copied), (Outcome::Ended, 0));
            }
        }
    }
}

/// A proxy that read a part of the first segment: the kernel would give all of it to the program.
#[test]
fn what_user_space_has_read_does_not_come_again() {
    needs!(Root, NetNs, Loopback, Sockmap, RingBuf, Btf);
    let node = Node::new().unwrap();
    for address in FAMILIES {
        let world = world(&node, address, Settings::default());
        send(&world.left, b"PROXY first line\nand the rest");
        arrived(&world.left_proxy, 29);
        receive(&world.left_proxy, b"PROXY first line\n");
        send(&world.right_proxy, b"hello ");
        let joined = world
            .splicer
            .join(world.left_proxy, world.right_proxy)
            .unwrap();
        assert_eq!(joined.way(), Way::Copied);
        let driven = drive(world.splicer, joined);
        receive(&world.right, b"hello and the rest");
        // The kernel takes over when the queue is empty, which it is between these, if the proxy gets time
        // to see it: on one processor, writing may wake up who sends the next ones at once.
        for round in 0..200 {
            let more = bytes(round, 1000);
            send(&world.left, &more);
            receive(&world.right, &more);
            std::thread::sleep(Duration::from_millis(1));
        }
        world.left.shutdown(Shutdown::Write).unwrap();
        receive_end(&world.right);
        world.right.shutdown(Shutdown::Write).unwrap();
        receive_end(&world.left);
        let (outcome, [spliced, copied]) = driven.over();
        assert_eq!((outcome, spliced + copied), (Outcome::Ended, 200_012));
        assert!(spliced > 0, "nothing but copies");
    }
}

/// The kernel takes established connections only: the error says so, and copying is the way.
#[test]
fn a_stream_that_has_ended_before_is_copied() {
    needs!(Root, NetNs, Loopback, Sockmap, RingBuf, Btf);
    let node = Node::new().unwrap();
    for address in FAMILIES {
        for side in Side::ALL {
            let world = world(&node, address, Settings::default());
            let (early, proxy) = match side {
                Side::First => (&world.left, &world.left_proxy),
                Side::Second => (&world.right, &world.right_proxy),
            };
            send(early, b"all of it");
            early.shutdown(Shutdown::Write).unwrap();
            arrived(proxy, 10);
            let not = world
                .splicer
                .join(world.left_proxy, world.right_proxy)
                .unwrap_err();
            let refusal = *not.error.refusal().unwrap();
            assert_eq!((refusal.why(), refusal.side), (Why::NotEstablished, side));
            assert!(not.to_string().contains("copy this pair"), "{not}");
            assert_eq!(world.splicer.entries().unwrap(), [0; 4]);
            let [first, second] = not.streams;
            let driven = drive(world.splicer, Joined::copying(first, second).unwrap());
            let (early, other) = match side {
                Side::First => (&world.left, &world.right),
                Side::Second => (&world.right, &world.left),
            };
            receive(other, b"all of it");
            receive_end(other);
            send(other, b"an answer");
            receive(early, b"an answer");
            other.shutdown(Shutdown::Write).unwrap();
            receive_end(early);
            assert_eq!(driven.over(), (Outcome::Ended, [0, 18]));
        }
    }
}

/// How a peer breaks off.
#[derive(Clone, Copy, Debug)]
enum Break {
    /// It says so.
    Reset,
    /// It closes its socket and has not read all.
    Unread,
}

#[test]
fn a_break_in_mid_transfer_is_a_break_for_the_other() {
    needs!(Root, NetNs, Loopback, Sockmap, RingBuf, Btf);
    let node = Node::new().unwrap();
    for address in FAMILIES {
        for side in Side::ALL {
            for how in [Break::Reset, Break::Unread] {
                let world = world(&node, address, Settings::default());
                let joined = world
                    .splicer
                    .join(world.left_proxy, world.right_proxy)
                    .unwrap();
                let driven = drive(world.splicer, joined);
                let (one, other) = match side {
                    Side::First => (world.left, world.right),
                    Side::Second => (world.right, world.left),
                };
                let some = bytes(6, 100_000);
                send(&one, &some);
                send(&other, &some);
                receive(&other, &some[..50_000]);
                match how {
                    Break::Reset => reset_on_close(one.as_fd()).unwrap(),
                    Break::Unread => {
                        deadline(LIMIT, || (unread(one.as_fd()).unwrap() > 0).then_some(()))
                    }
                }
                drop(one);
                is_reset(&other);
                let (outcome, _) = driven.over();
                // A worker of the kernel that had bytes for it may be the first to notice.
                let errnos = [Errno::ECONNRESET, Errno::EPIPE];
                let broken = errnos.map(|errno| Outcome::Broken { side, errno });
                assert!(broken.contains(&outcome), "{outcome:?}, not {side:?}");
            }
        }
    }
}

/// Urgent bytes are bytes of the stream like others, wherever they stand when the pair is joined.
#[test]
fn urgent_bytes_keep_their_place() {
    needs!(Root, NetNs, Loopback, Sockmap, RingBuf, Btf);
    let node = Node::new().unwrap();
    let urgent = |socket: &TcpStream| {
        let flags = nix::sys::socket::MsgFlags::MSG_OOB;
        let sent = nix::sys::socket::send(socket.as_raw_fd(), b"!", flags);
        assert_eq!(sent, Ok(1));
    };
    for address in FAMILIES {
        for (before, after) in [(0, 0), (5, 0), (0, 5), (1000, 1000)] {
            for expect in [false, true] {
                let world = world(&node, address, Settings::default());
                let (head, tail) = (bytes(1, before), bytes(2, after));
                send(&world.left, &head);
                urgent(&world.left);
                send(&world.left, &tail);
                let len = before + 1 + after;
                arrived(&world.left_proxy, u64::try_from(len).unwrap());
                let joined = if expect {
                    let expected = world.splicer.expect(&world.left_proxy, &world.right_proxy);
                    expected.unwrap().join(world.left_proxy, world.right_proxy)
                } else {
                    world.splicer.join(world.left_proxy, world.right_proxy)
                };
                let driven = drive(world.splicer, joined.unwrap());
                let all = [&head[..], b"!", &tail[..]].concat();
                receive(&world.right, &all);
                urgent(&world.left);
                receive(&world.right, b"!");
                world.left.shutdown(Shutdown::Write).unwrap();
                receive_end(&world.right);
                world.right.shutdown(Shutdown::Write).unwrap();
                let moved = u64::try_from(len + 1).unwrap();
                assert_eq!(driven.over(), (Outcome::Ended, [moved, 0]));
            }
        }
    }
}

/// A write that fails is about the socket that was written to.
#[test]
fn the_side_that_broke_is_named() {
    needs!(Root, NetNs, Loopback);
    let node = Node::new().unwrap();
    for side in Side::ALL {
        let (left, left_proxy) = connection(&node, FAMILIES[0]);
        let (right_proxy, right) = connection(&node, FAMILIES[0]);
        let (sender, sink) = match side {
            Side::First => (&right, &left_proxy),
            Side::Second => (&left, &right_proxy),
        };
        sink.shutdown(Shutdown::Write).unwrap();
        send(sender, b"nowhere to go");
        let mut joined = Joined::copying(left_proxy, right_proxy).unwrap();
        let outcome = deadline(LIMIT, || match joined.advance().unwrap() {
            Next::Over(outcome) => Some(outcome),
            _ => None,
        });
        let errno = Errno::EPIPE;
        assert_eq!(outcome, Outcome::Broken { side, errno });
    }
}

/// Dropping a pair before its end must not look like an end.
#[test]
fn a_pair_that_is_dropped_is_reset() {
    needs!(Root, NetNs, Loopback, Sockmap, RingBuf, Btf);
    let node = Node::new().unwrap();
    let world = world(&node, FAMILIES[0], Settings::default());
    let joined = world
        .splicer
        .join(world.left_proxy, world.right_proxy)
        .unwrap();
    send(&world.left, b"some");
    receive(&world.right, b"some");
    drop(joined);
    is_reset(&world.left);
    is_reset(&world.right);
    assert_eq!(world.splicer.entries().unwrap(), [0; 4]);
}

/// A receiver that does not read: its sender has to wait, and nothing is lost.
#[test]
fn a_slow_receiver_slows_its_sender() {
    needs!(Root, NetNs, Loopback, Sockmap, RingBuf, Btf);
    let node = Node::new().unwrap();
    for address in FAMILIES {
        let settings = Settings {
            ahead: 1 << 20,
            ..Settings::default()
        };
        let world = world(&node, address, settings);
        let joined = world
            .splicer
            .join(world.left_proxy, world.right_proxy)
            .unwrap();
        let driven = drive(world.splicer, joined);
        let all = bytes(7, 48 << 20);
        world.left.set_nonblocking(true).unwrap();
        let (mut sent, mut last) = (0, Instant::now());
        // Until nothing has found room for a while: what fills up are the buffers of the kernel.
        while last.elapsed() < Duration::from_secs(2) {
            match (&world.left).write(&all[sent..]) {
                Ok(0) => panic!(
                    "all {} bytes went into a receiver that reads none",
                    all.len()
                ),
                Ok(bytes) => (sent, last) = (sent + bytes, Instant::now()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => panic!("{error}"),
            }
        }
        println!("{sent} bytes until the sender had to wait");
        // The other way is not stopped by that.
        send(&world.right, b"still there");
        world.left.set_nonblocking(false).unwrap();
        receive(&world.left, b"still there");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let left = &world.left;
                send(left, &all[sent..]);
                left.shutdown(Shutdown::Write).unwrap();
            });
            receive(&world.right, &all);
            receive_end(&world.right);
            world.right.shutdown(Shutdown::Write).unwrap();
        });
        receive_end(&world.left);
        let (outcome, [spliced, copied]) = driven.over();
        assert_eq!(outcome, Outcome::Ended);
        assert_eq!(spliced + copied, u64::try_from(all.len()).unwrap() + 11);
        println!("{spliced} spliced, {copied} copied");
    }
}

/// Stops a proxy also when the test fails: its thread is waited for.
struct Stopping(Stopper);

impl Drop for Stopping {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Nobody listens at the target: the client is told by a reset, not by an empty answer.
#[test]
fn a_target_that_is_not_there_resets_its_clients() {
    needs!(Root, NetNs, Loopback, Sockmap, RingBuf, Btf);
    let node = Node::new().unwrap();
    for address in FAMILIES {
        let any = SocketAddr::new(address, 0);
        let bind = || node.run(|| TcpListener::bind(any)).unwrap().unwrap();
        let (front, gone) = (bind(), bind().local_addr().unwrap());
        let near = front.local_addr().unwrap();
        let splicer = Splicer::new(Settings::default()).unwrap();
        let mut proxy = Proxy::splicing(front, gone, splicer).unwrap();
        let (stopper, counters) = (proxy.stopper(), proxy.counters());
        std::thread::scope(|scope| {
            let running = scope.spawn(|| node.run(|| proxy.run()).unwrap());
            let stopping = Stopping(stopper);
            match node.run(|| TcpStream::connect(near)).unwrap() {
                Ok(client) => {
                    client.set_read_timeout(Some(LIMIT)).unwrap();
                    is_reset(&client);
                }
                // The reset may come before `connect` is done with waiting.
                Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
            }
            deadline(LIMIT, || (counters.tally().open == 0).then_some(()));
            drop(stopping);
            running.join().unwrap().unwrap();
        });
        let tally = counters.tally();
        assert_eq!((tally.accepted, tally.unreachable), (1, 1));
        assert_eq!(proxy.splicer().unwrap().entries().unwrap(), [0; 4]);
    }
}

/// Who stops a proxy, breaks its connections off.
#[test]
fn a_proxy_that_is_stopped_resets_what_is_open() {
    needs!(Root, NetNs, Loopback, Sockmap, RingBuf, Btf);
    let node = Node::new().unwrap();
    let any = SocketAddr::new(FAMILIES[0], 0);
    let bind = || node.run(|| TcpListener::bind(any)).unwrap().unwrap();
    let (front, target) = (bind(), bind());
    let near = front.local_addr().unwrap();
    let splicer = Splicer::new(Settings::default()).unwrap();
    let mut proxy = Proxy::splicing(front, target.local_addr().unwrap(), splicer).unwrap();
    let stopping = Stopping(proxy.stopper());
    std::thread::scope(|scope| {
        let running = scope.spawn(|| node.run(|| proxy.run()).unwrap());
        let stopping = stopping;
        let client = node.run(|| TcpStream::connect(near)).unwrap().unwrap();
        let (server, _) = target.accept().unwrap();
        for socket in [&client, &server] {
            socket.set_read_timeout(Some(LIMIT)).unwrap();
        }
        send(&client, b"half of it");
        receive(&server, b"half of it");
        drop(stopping);
        running.join().unwrap().unwrap();
        is_reset(&client);
        is_reset(&server);
    });
    assert_eq!(proxy.splicer().unwrap().entries().unwrap(), [0; 4]);
}

/// An entered connection whose stream ends before the other one stands: its answer is still spliced.
#[test]
fn an_expected_connection_may_end_its_stream() {
    needs!(Root, NetNs, Loopback, Sockmap, RingBuf, Btf);
    let node = Node::new().unwrap();
    for address in FAMILIES {
        let world = world(&node, address, Settings::default());
        let expected = world
            .splicer
            .expect(&world.left_proxy, &world.right_proxy)
            .unwrap();
        send(&world.left, b"all of it");
        world.left.shutdown(Shutdown::Write).unwrap();
        arrived(&world.left_proxy, 10);
        let joined = expected.join(world.left_proxy, world.right_proxy).unwrap();
        assert_eq!(joined.way(), Way::Copied);
        let driven = drive(world.splicer, joined);
        receive(&world.right, b"all of it");
        receive_end(&world.right);
        let answer = bytes(9, 1_000_000);
        send(&world.right, &answer);
        receive(&world.left, &answer);
        world.right.shutdown(Shutdown::Write).unwrap();
        receive_end(&world.left);
        assert_eq!(driven.over(), (Outcome::Ended, [1_000_000, 9]));
    }
    // Others than were entered.
    let world = world(&node, FAMILIES[0], Settings::default());
    let expected = world.splicer.expect(&world.left_proxy, &world.right_proxy);
    let not = expected.unwrap().join(world.left, world.right).unwrap_err();
    assert!(not.to_string().contains("EINVAL"), "{not}");
    assert_eq!(world.splicer.entries().unwrap(), [0; 4]);
}
