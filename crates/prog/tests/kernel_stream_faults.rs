//! Maps of sockets when something is wrong: what is told, and what becomes of the bytes.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

mod net_bench;
mod streams;

use bpfsmith_asm::dsl::*;
use bpfsmith_asm::kit::stream::{self, Direction, Otherwise, TupleKey};
use bpfsmith_gate::{Need, State, needs};
use bpfsmith_maps::{Error, Map, ObjectMap};
use bpfsmith_prog::target::Sockmap;
use bpfsmith_prog::{Load, Maps};
use bpfsmith_sys::socket::cookie;
use net_bench::{check_refused, hits, id};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use streams::{
    HASHED, Held, INDEXED, Judge, Pipe, Rig, V4, V6, check_carries, check_silent, connection,
    noise, send_on, take, until,
};

const JUDGES: [Judge; 4] = [
    Judge::Parsed,
    Judge::Stream,
    Judge::Any,
    Judge::Message,
];

/// An update that the kernel refuses, with advice.
#[track_caller]
fn check_not_set(done: Result<(), Error>, errno: Errno, advice: &str) {
    let error = done.unwrap_err();
    assert_eq!(error.errno(), Some(errno), "{error}");
    let text = error.to_string();
    assert!(text.contains(advice) && !text.contains('\n'), "{text}");
}

#[test]
fn a_full_map() {
    needs!(Root, NetNs, Sockmap);
    for (map, behind, advice) in [
        (&INDEXED, 4, "the index is behind the end"),
        (&HASHED, 9, "the map is full"),
    ] {
        let rig = Rig::new(map);
        let code = send_on(Judge::Stream, map, 1, Direction::Egress, Otherwise::Pass);
        let _links = rig.judge(Judge::Stream, Held::Link, code);
        let pipe = rig.splice(V4);
        let others = [2, 3].map(|key| {
            let ends = connection(&rig.node, V6);
            rig.sockets.set(&key, &ends.1).unwrap();
            ends
        });
        let (more, end) = connection(&rig.node, V4);
        check_not_set(rig.sockets.set(&behind, &end), Errno::E2BIG, advice);
        // Programs of one kind are for one place.
        let again = rig.sockets.set(&2, &pipe.a);
        check_not_set(again, Errno::EBUSY, "take it out there first");
        // Neither those in the map nor the one outside mind.
        check_carries(&more, &end, &noise(10_000, 1));
        check_carries(&end, &more, &noise(10_000, 2));
        check_carries(&pipe.left, &pipe.right, &noise(10_000, 3));
        // A place that is taken has room for another one.
        rig.sockets.set(&3, &end).unwrap();
        assert_eq!(
            rig.sockets.cookie(&3).unwrap(),
            Some(cookie(end.as_fd()).unwrap())
        );
        drop(others);
    }
}

/// The owner of the socket that bytes are for closes it: it leaves the map.
#[test]
fn a_socket_that_is_closed_leaves_and_bytes_go_where_they_would() {
    needs!(Root, NetNs, Sockmap);
    for (map, judge, direction) in [
        (&INDEXED, Judge::Parsed, Direction::Egress),
        (&HASHED, Judge::Stream, Direction::Egress),
        (&HASHED, Judge::Any, Direction::Ingress),
        (&INDEXED, Judge::Message, Direction::Egress),
        (&HASHED, Judge::Message, Direction::Ingress),
    ] {
        for otherwise in [Otherwise::Pass, Otherwise::Drop] {
            let rig = Rig::new(map);
            let _links = rig.judge(
                judge,
                Held::Link,
                send_on(judge, map, 1, direction, otherwise),
            );
            let Pipe {
                left,
                a,
                b,
                mut right,
            } = rig.splice(V6);
            drop(b);
            until(|| rig.sockets.cookie(&1).unwrap().is_none());
            assert_eq!(right.read(&mut [0; 9]).unwrap(), 0);
            let (from, to) = match judge {
                Judge::Message => (&a, &left),
                _ => (&left, &a),
            };
            match otherwise {
                Otherwise::Pass => check_carries(from, to, &noise(100_000, 4)),
                Otherwise::Drop => check_dropped(&rig, judge, from, to),
            }
            assert!(hits(&rig.maps, 0) >= 1);
        }
    }
}

/// What is written does not arrive, and a writer whose message was dropped is told, for good.
#[track_caller]
fn check_dropped(rig: &Rig, judge: Judge, mut from: &TcpStream, to: &TcpStream) {
    for _ in 0..3 {
        let done = from.write_all(b"lost").map_err(|error| error.kind());
        match judge {
            Judge::Message => assert_eq!(done, Err(ErrorKind::PermissionDenied)),
            _ => assert_eq!(done, Ok(())),
        }
    }
    if judge != Judge::Message {
        until(|| hits(&rig.maps, 0) >= 1);
    }
    check_silent(to);
}

/// A socket that listens is no place for bytes, though it may be in the map.
#[test]
fn a_listener_gets_no_bytes() {
    needs!(Root, NetNs, Sockmap);
    for judge in [Judge::Stream, Judge::Message] {
        let rig = Rig::new(&HASHED);
        let code = send_on(judge, &HASHED, 2, Direction::Egress, Otherwise::Pass);
        let _links = rig.judge(judge, Held::Link, code);
        let pipe = rig.splice(V4);
        let listener = rig
            .node
            .run(|| TcpListener::bind((V4, 0)))
            .unwrap()
            .unwrap();
        rig.sockets.set(&2, &listener).unwrap();
        check_carries(&pipe.left, &pipe.a, b"passed");
        check_carries(&pipe.a, &pipe.left, b"passed back");
        assert_eq!(hits(&rig.maps, 0), 1);
    }
}

/// The peer of the socket that bytes are sent through is gone.
#[test]
fn a_peer_that_dies_is_told_to_the_socket_between() {
    needs!(Root, NetNs, Sockmap);
    for judge in JUDGES {
        let rig = Rig::new(&INDEXED);
        let code = send_on(judge, &INDEXED, 1, Direction::Egress, Otherwise::Drop);
        let _links = rig.judge(judge, Held::Link, code);
        let Pipe { left, a, b, right } = rig.splice(V4);
        let mut from = if judge == Judge::Message { &a } else { &left };
        check_carries(from, &right, &noise(10_000, 4));
        drop(right);
        let mut told = None;
        until(|| {
            // A writer of messages is told itself; who sends through others is not.
            told = match from.write_all(b"more") {
                Err(error) => Some(error.kind()),
                Ok(()) => b.take_error().unwrap().map(|error| error.kind()),
            };
            told.is_some()
        });
        let told = told.unwrap();
        assert!(
            matches!(told, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset),
            "{judge:?}: {told:?}"
        );
        assert_eq!(a.take_error().unwrap().map(|error| error.kind()), None);
    }
}

/// The kernel keeps what a slow reader has not taken, and loses nothing of it.
#[test]
fn a_peer_that_does_not_read_gets_all_later() {
    needs!(Root, NetNs, Sockmap);
    const BYTES: usize = 8 << 20;
    let bytes = noise(BYTES, 11);
    for judge in JUDGES {
        let rig = Rig::new(&INDEXED);
        let code = send_on(judge, &INDEXED, 1, Direction::Egress, Otherwise::Drop);
        let _links = rig.judge(judge, Held::Link, code);
        let pipe = rig.splice(V4);
        let mut from = match judge {
            Judge::Message => &pipe.a,
            _ => &pipe.left,
        };
        let read = thread::scope(|scope| {
            let writer = scope.spawn(|| {
                from.write_all(&bytes).unwrap();
                from.shutdown(Shutdown::Write).unwrap();
            });
            if judge != Judge::Message {
                // All of it is taken from the writer before anything is read: nobody slows it down.
                writer.join().unwrap();
            }
            take(&pipe.right, BYTES)
        });
        assert!(read == bytes, "{judge:?}: {BYTES} bytes differ");
        check_silent(&pipe.right);
    }
}

#[test]
fn sockets_that_no_map_takes() {
    needs!(Root, NetNs, Sockmap);
    let rig = Rig::new(&HASHED);
    let new = |kind| socket(AddressFamily::Inet, kind, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let (client, server) = connection(&rig.node, V4);
    drop(client);
    // The end of the stream has to arrive.
    assert_eq!((&server).read(&mut [0; 9]).unwrap(), 0);
    let advice = "it takes listening TCP, established";
    let closed = OwnedFd::from(server);
    for socket in [new(SockType::Stream), closed] {
        check_not_set(rig.sockets.set(&0, &socket), Errno::EOPNOTSUPP, advice);
    }
    // Kernels up to 6.12 take it, though nobody can send it anything.
    let unbound = rig.sockets.set(&0, new(SockType::Datagram));
    if unbound.is_err() {
        check_not_set(unbound, Errno::EOPNOTSUPP, advice);
    }
    let file = File::open("/proc/self/status").unwrap();
    check_not_set(
        rig.sockets.set(&0, &file),
        Errno::ENOTSOCK,
        "that is no socket",
    );
    // A parser is for TCP alone, though not every kernel looks.
    let udp = rig.node.run(|| UdpSocket::bind((V4, 0))).unwrap().unwrap();
    let (unix, _other) = UnixStream::pair().unwrap();
    rig.sockets.set(&0, &udp).unwrap();
    rig.sockets.set(&1, &unix).unwrap();
    let rig = Rig::new(&HASHED);
    let _links = rig.judge(Judge::Parsed, Held::Link, code![ret(SK_PASS)]);
    for socket in [udp.as_fd(), unix.as_fd()] {
        let done = rig.sockets.set(&0, socket);
        if done.is_err() {
            check_not_set(done, Errno::EOPNOTSUPP, "and without a parser bound UDP");
        }
    }
}

#[test]
fn one_verdict_of_what_is_received() {
    needs!(Root, NetNs, Sockmap);
    let rig = Rig::new(&INDEXED);
    let code = || {
        send_on(
            Judge::Stream,
            &INDEXED,
            1,
            Direction::Egress,
            Otherwise::Drop,
        )
    };
    let (stream, any) = (
        Sockmap::stream_verdict(&rig.handle),
        Sockmap::verdict(&rig.handle),
    );
    let [first, second] = [0, 1].map(|_| rig.load_to(&stream, ProgType::SK_SKB, code()));
    let other = rig.load_to(&any, ProgType::SK_SKB, code![ret(SK_DROP)]);
    let link = first.attach(&stream).unwrap();
    let advice = "one kind of verdict";
    check_refused(other.attach(&any), Errno::EBUSY, advice);
    check_refused(other.attach(&any.attachment()), Errno::EBUSY, advice);
    if Need::SockmapLink.state() == State::Here {
        check_refused(second.attach(&stream), Errno::EBUSY, advice);
        check_refused(second.attach(&stream.attachment()), Errno::EBUSY, advice);
    }
    assert_eq!(stream.query().unwrap().progs, [id(&first)]);
    let pipe = rig.splice(V4);
    check_carries(&pipe.left, &pipe.right, &noise(10_000, 4));
    // Without a link, the newer one takes the place.
    link.detach().unwrap();
    let _first = first.attach(&stream.attachment()).unwrap();
    let _second = second.attach(&stream.attachment()).unwrap();
    assert_eq!(stream.query().unwrap().progs, [id(&second)]);
    check_refused(other.attach(&any.attachment()), Errno::EBUSY, advice);
}

/// A program that sends on by a map which is none of sockets, or not of that kind.
#[test]
fn maps_of_other_kinds() {
    needs!(Root, NetNs, Sockmap);
    static ARRAY: MapDef<u32, u64> = MapDef::array("array", 4);
    static WIDE: MapDef<u64, u64> = MapDef::new(MapType::SOCKMAP, "wide", 4);
    let key = || slot::<u32>("key");
    let through = |send: &dyn Fn(Slot) -> Code| {
        let key = key();
        code![
            mov(R6, R1),
            store(key.u32(0), 1),
            send(key),
            exit()
        ]
    };
    let pass = Otherwise::Pass;
    for (map, code) in [
        (
            "array",
            through(&|key| stream::redirect(R6, &ARRAY, key, Direction::Egress, pass)),
        ),
        (
            "hashed",
            through(&|_| code![sk_redirect_map(R6, &HASHED, 1, 0)]),
        ),
        (
            "indexed",
            through(&|key| code![sk_redirect_hash(R6, &INDEXED, key, 0)]),
        ),
    ] {
        let program = Program::new(ProgType::SK_SKB, "other", code).unwrap();
        let maps = Maps::of(&program).unwrap();
        let error = Load::new(&program).maps(&maps).load().unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("cannot pass map_type") && text.contains("redirect"),
            "{map}: {text}"
        );
    }
    let code = through(&|key| stream::redirect(R6, &WIDE, key, Direction::Egress, pass));
    let program = Program::new(ProgType::SK_SKB, "wide", code).unwrap();
    let error = Maps::of(&program).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EINVAL));
    assert!(
        error
            .to_string()
            .contains("a key of this kind is an index of 4 bytes"),
        "{error}"
    );
    let rig = Rig::new(&HASHED);
    static OTHER: MapDef<TupleKey, u64> = MapDef::new(MapType::SOCKHASH, "hashed", 4);
    let typed: Result<ObjectMap<TupleKey, u64>, _> = rig.maps.open(&OTHER);
    let text = typed.unwrap_err().to_string();
    assert!(
        text.contains("its keys have 4 bytes, the Rust type has 40"),
        "{text}"
    );

    let array: Map<u32, u64> = Map::create(&ARRAY).unwrap();
    let on = Sockmap::stream_verdict(&array);
    let prog = rig.load_to(&on, ProgType::SK_SKB, code![ret(SK_PASS)]);
    let advice = "SOCKMAP or SOCKHASH";
    let errno = match Need::SockmapLink.state() {
        State::Here => Errno::EINVAL,
        _ => Errno::EOPNOTSUPP,
    };
    check_refused(prog.attach(&on), errno, advice);
    check_refused(prog.attach(&on.attachment()), Errno::EOPNOTSUPP, advice);
    // The type of a program and its hook are checked before the kernel is asked.
    for hook in [
        Sockmap::parser(&rig.handle),
        Sockmap::message(&rig.handle),
    ] {
        let text = prog.attach(&hook).unwrap_err().to_string();
        assert!(text.contains("this hook wants"), "{text}");
    }
    let wrong = Program::new(
        ProgType::SK_MSG,
        "wrong",
        through(&|key| stream::redirect(R6, &INDEXED, key, Direction::Egress, pass)),
    );
    assert!(wrong.unwrap_err().to_string().contains("it is for SK_SKB"));
}
