//! Fragments for maps of sockets: who receives the bytes, and that they are the same bytes.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

mod net_bench;
mod streams;

use bpfsmith_asm::dsl::*;
use bpfsmith_asm::kit::stream::{self, Context, Direction, Otherwise, Side, TupleKey};
use bpfsmith_gate::needs;
use bpfsmith_maps::ObjectMap;
use bpfsmith_net::Node;
use bpfsmith_prog::target::Sockmap;
use bpfsmith_prog::{Link, Load, Maps};
use bpfsmith_sys::info;
use bpfsmith_sys::map::{self as raw, Create};
use bpfsmith_sys::socket::cookie;
use net_bench::{hit, hits};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use streams::{
    HASHED, Held, INDEXED, Judge, Rig, V4, V6, carried, check_carries, check_silent, connection,
    connection_to, noise, send_on, until,
};

const JUDGES: [Judge; 4] = [
    Judge::Parsed,
    Judge::Stream,
    Judge::Any,
    Judge::Message,
];
const DIRECTIONS: [Direction; 2] = [Direction::Egress, Direction::Ingress];

/// Every kind of map, of hold, of program and direction.
#[test]
fn bytes_arrive_at_the_other_socket() {
    needs!(Root, NetNs, Sockmap);
    for (map, host) in [(&INDEXED, V4), (&HASHED, V6)] {
        for held in [Held::Link, Held::Map] {
            for judge in JUDGES {
                for direction in DIRECTIONS {
                    let rig = Rig::new(map);
                    let code = send_on(judge, map, 1, direction, Otherwise::Drop);
                    let links = rig.judge(judge, held, code);
                    let pipe = rig.splice(host);
                    let (from, near) = match judge {
                        Judge::Message => (&pipe.a, &pipe.left),
                        _ => (&pipe.left, &pipe.a),
                    };
                    let (to, beyond) = match direction {
                        Direction::Egress => (&pipe.right, &pipe.b),
                        Direction::Ingress => (&pipe.b, &pipe.right),
                    };
                    check_carries(from, to, b"short");
                    check_carries(from, to, &noise(200_000, 7));
                    check_silent(near);
                    check_silent(beyond);
                    assert!(hits(&rig.maps, 0) >= 2, "{judge:?} was not asked");
                    drop(links);
                }
            }
        }
    }
}

/// A map whose keys are connections, and a program of it.
fn by_tuple(kind: ProgType, code: Code) -> (Maps, ObjectMap<TupleKey, u64>, Link) {
    let program = Program::new(kind, "by_tuple", code).unwrap_or_else(|report| panic!("{report}"));
    let maps = Maps::of(&program).unwrap();
    let handle = maps.handle(SOCKETS.shape().name).unwrap();
    let hook = match kind {
        ProgType::SK_MSG => Sockmap::message(&handle),
        _ => Sockmap::stream_verdict(&handle),
    };
    let load = Load::new(&program).maps(&maps).to(&hook).unwrap();
    let prog = load.load().unwrap_or_else(|error| panic!("{error:#}"));
    let link = prog.attach(&hook).unwrap();
    let sockets = maps.open(&SOCKETS).unwrap();
    (maps, sockets, link)
}

static SOCKETS: MapDef<TupleKey, u64> = MapDef::new(MapType::SOCKHASH, "sockets", 8);

/// The name of a socket as this program would write it down.
fn key_of(socket: &TcpStream) -> TupleKey {
    TupleKey::of(socket.local_addr().unwrap(), socket.peer_addr().unwrap())
}

/// Connections of all families: to a port whose bytes are not the same in either order.
fn families(node: &Node) -> Vec<(TcpStream, TcpStream)> {
    const PORT: u16 = 0x1234;
    let any6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT));
    let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
    [
        (SocketAddr::from((V4, PORT)), SocketAddr::from((V4, PORT))),
        (any6, SocketAddr::from((V6, PORT))),
        // A server for both families and a client of the old one, and both of the new one.
        (any6, SocketAddr::from((V4, PORT))),
        (any6, SocketAddr::from((mapped, PORT))),
    ]
    .into_iter()
    .map(|(bound, to)| {
        let listener = node.run(|| TcpListener::bind(bound)).unwrap().unwrap();
        connection_to(node, &listener, to)
    })
    .collect()
}

/// The key that a program makes finds what user space put under the key that it made.
#[test]
fn keys_are_the_same_on_both_sides() {
    needs!(Root, NetNs, Sockmap);
    let node = Node::new().unwrap();
    let key = || slot::<TupleKey>("key");
    for (client, server) in families(&node) {
        assert_eq!(key_of(&client).peer(), key_of(&server), "{client:?}");

        // Back to whom it came from, by the server's own key.
        let own = key();
        let echo = code![
            mov(R6, R1),
            stream::tuple_key(Context::Buffer(R6), Side::Own, own, R2),
            stream::redirect(R6, &SOCKETS, own, Direction::Egress, Otherwise::Drop),
            exit(),
        ];
        let (_maps, sockets, link) = by_tuple(ProgType::SK_SKB, echo);
        assert!(sockets.insert(&key_of(&server), &server).unwrap());
        check_carries(&client, &client, &noise(10_000, 3));
        check_silent(&server);
        assert!(sockets.delete(&key_of(&server)).unwrap());
        link.detach().unwrap();

        // Into what the peer receives, by its key.
        let peer = key();
        let shortcut = code![
            mov(R6, R1),
            stream::tuple_key(Context::Message(R6), Side::Peer, peer, R2),
            stream::redirect_message(R6, &SOCKETS, peer, Direction::Ingress, Otherwise::Drop),
            exit(),
        ];
        let (_maps, sockets, _link) = by_tuple(ProgType::SK_MSG, shortcut);
        for socket in [&client, &server] {
            assert!(sockets.insert(&key_of(socket), socket).unwrap());
        }
        let before = carried(&node);
        check_carries(&client, &server, &noise(10_000, 5));
        check_carries(&server, &client, &noise(10_000, 6));
        assert_eq!(
            carried(&node),
            before,
            "packets although there is a shortcut"
        );
        // Whoever left the map, is reached by packets again, whatever the other one does.
        assert!(sockets.delete(&key_of(&client)).unwrap());
        check_carries(&client, &server, b"by packets");
        assert!(carried(&node) > before);
    }
}

#[test]
fn cookies_are_keys() {
    needs!(Root, NetNs, Sockmap);
    static COOKIES: MapDef<u64, u64> = MapDef::new(MapType::SOCKHASH, "cookies", 8);
    let key = slot::<u64>("key");
    let code = code![
        mov(R6, R1),
        stream::cookie_key(R6, key),
        stream::redirect(R6, &COOKIES, key, Direction::Egress, Otherwise::Drop),
        exit(),
    ];
    let program = Program::new(ProgType::SK_SKB, "by_cookie", code).unwrap();
    let maps = Maps::of(&program).unwrap();
    let handle = maps.handle(COOKIES.shape().name).unwrap();
    let hook = Sockmap::stream_verdict(&handle);
    let prog = Load::new(&program).maps(&maps).to(&hook).unwrap().load();
    let _link = prog.unwrap().attach(&hook).unwrap();
    let sockets: ObjectMap<u64, u64> = maps.open(&COOKIES).unwrap();
    let node = Node::new().unwrap();
    for host in [V4, V6] {
        let (client, server) = connection(&node, host);
        let cookie = cookie(server.as_fd()).unwrap();
        assert!(sockets.insert(&cookie, &server).unwrap());
        assert_eq!(sockets.cookie(&cookie).unwrap(), Some(cookie));
        check_carries(&client, &client, &noise(10_000, 9));
    }
}

/// What a verdict sends on is written by the other socket, and judged as such.
#[test]
fn both_kinds_of_verdict_on_one_map() {
    needs!(Root, NetNs, Sockmap);
    for map in [&INDEXED, &HASHED] {
        let rig = Rig::new(map);
        let received = send_on(Judge::Stream, map, 1, Direction::Egress, Otherwise::Drop);
        let _received = rig.judge(Judge::Stream, Held::Link, received);
        let key = slot::<u32>("key");
        // Of what is written, the first goes back to whom it came from.
        let code = code![
            mov(R6, R1),
            hit(1),
            store(key.u32(0), 0),
            stream::redirect_message(R6, map, key, Direction::Ingress, Otherwise::Drop),
            exit(),
        ];
        let _written = rig.judge(Judge::Message, Held::Link, code);
        let pipe = rig.splice(V4);
        check_carries(&pipe.b, &pipe.a, b"written");
        assert_eq!((hits(&rig.maps, 0), hits(&rig.maps, 1)), (0, 1));
        check_carries(&pipe.left, &pipe.a, b"received, then written");
        assert_eq!((hits(&rig.maps, 0), hits(&rig.maps, 1)), (1, 2));
        check_silent(&pipe.right);
    }
}

/// A map, a program, the program on the map, a socket in the map.
#[test]
fn from_a_map_to_a_socket_in_it() {
    needs!(Root, NetNs, Sockmap);
    let node = Node::new().unwrap();
    for kind in [MapType::SOCKMAP, MapType::SOCKHASH] {
        for (key, value, made) in [
            (4, 4, true),
            (4, 8, true),
            (8, 8, kind == MapType::SOCKHASH),
            (4, 2, false),
        ] {
            let shape = Create {
                kind: kind.0,
                key,
                value,
                entries: 10,
                ..Create::default()
            };
            let done = raw::Map::create(&shape).map(drop);
            let errno = done.map_err(|failed| failed.errno);
            let expected = if made { Ok(()) } else { Err(Errno::EINVAL) };
            assert_eq!(errno, expected, "{kind} key {key} value {value}");
        }
    }
    let dummy = Program::new(ProgType::SK_SKB, "dummy", code![ret(SK_PASS)]).unwrap();
    for map in [&INDEXED, &HASHED] {
        let sockets: ObjectMap<u32, u64> = ObjectMap::create(map).unwrap();
        let hook = Sockmap::stream_verdict(&sockets);
        let prog = Load::new(&dummy).to(&hook).unwrap().load().unwrap();
        let _link = prog.attach(&hook).unwrap();
        let id = info::prog(prog.as_fd()).unwrap().id;
        assert_eq!(hook.query().unwrap().progs, [id]);
        let listener = node.run(|| TcpListener::bind((V4, 0))).unwrap().unwrap();
        sockets.set(&1, &listener).unwrap();
        let own = cookie(listener.as_fd()).unwrap();
        assert_eq!(sockets.cookie(&1).unwrap(), Some(own));
        drop(listener);
        until(|| sockets.cookie(&1).unwrap().is_none());
    }
}
