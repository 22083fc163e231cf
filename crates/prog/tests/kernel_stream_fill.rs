//! A program of a control group puts connections into a map, and another one makes them shortcuts.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

mod net_bench;
mod streams;

use bpfsmith_asm::dsl::*;
use bpfsmith_asm::kit::stream::{
    self, ADDED, Connections, Context, Direction, FULL, Otherwise, REFUSED, Side, TALLIES, TupleKey,
};
use bpfsmith_gate::{Cgroup as Group, cgroup, needs};
use bpfsmith_maps::{Map, ObjectMap};
use bpfsmith_net::Node;
use bpfsmith_prog::target::{Cgroup, Sockmap};
use bpfsmith_prog::{Link, Load, Maps};
use bpfsmith_sys::socket::cookie;
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use streams::{V4, V6, carried, check_carries, connection, connection_to, noise, until};

static SOCKETS: MapDef<TupleKey, u64> = MapDef::new(MapType::SOCKHASH, "sockets", 64);
static FEW: MapDef<TupleKey, u64> = MapDef::new(MapType::SOCKHASH, "few", 3);
static TALLY: MapDef<u32, u64> = MapDef::array("tally", TALLIES);

/// A control group with this process in it, and a network: one test at a time has it.
struct Inside {
    group: Group,
    node: Node,
    _turn: MutexGuard<'static, ()>,
}

impl Inside {
    fn new() -> Inside {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let group = cgroup("stream");
        group.enter(std::process::id()).unwrap();
        Inside {
            group,
            node: Node::new().unwrap(),
            _turn: turn,
        }
    }
}

/// What fills a map, and what it counted.
struct Filled {
    sockets: ObjectMap<TupleKey, u64>,
    tally: Map<u32, u64>,
    maps: Maps,
    link: Link,
}

impl Filled {
    fn new(inside: &Inside, map: &MapDef<TupleKey, u64>, which: Connections) -> Filled {
        let code = code![
            mov(R6, R1),
            stream::fill(R6, map, which, &TALLY),
            ret(1),
        ];
        let program = Program::new(ProgType::SOCK_OPS, "fill", code).unwrap();
        let maps = Maps::of(&program).unwrap();
        let dir = inside.group.open().unwrap();
        let hook = Cgroup::sock_ops(&dir);
        let load = Load::new(&program).maps(&maps).to(&hook).unwrap();
        let prog = load.load().unwrap_or_else(|error| panic!("{error:#}"));
        Filled {
            sockets: maps.open(map).unwrap(),
            tally: maps.open(&TALLY).unwrap(),
            link: prog.attach(&hook).unwrap(),
            maps,
        }
    }

    /// Sockets that came in, found no room, and were refused.
    fn counted(&self) -> [u64; 3] {
        [ADDED, FULL, REFUSED].map(|index| self.tally.lookup(&index).unwrap().unwrap())
    }

    /// Whether exactly this socket is there under its own name.
    #[track_caller]
    fn check_has(&self, socket: &TcpStream, has: bool) {
        let found = self.sockets.cookie(&key_of(socket)).unwrap();
        let own = has.then(|| cookie(socket.as_fd()).unwrap());
        assert_eq!(found, own, "{socket:?}");
    }
}

fn key_of(socket: &TcpStream) -> TupleKey {
    TupleKey::of(socket.local_addr().unwrap(), socket.peer_addr().unwrap())
}

/// The verdict that makes connections whose both ends are in the map shortcuts.
fn shortcut(maps: &Maps, map: &MapDef<TupleKey, u64>) -> Link {
    let key = slot::<TupleKey>("key");
    let code = code![
        mov(R6, R1),
        stream::tuple_key(Context::Message(R6), Side::Peer, key, R2),
        stream::redirect_message(R6, map, key, Direction::Ingress, Otherwise::Pass),
        exit(),
    ];
    let program = Program::new(ProgType::SK_MSG, "shortcut", code).unwrap();
    let handle = maps.handle(map.shape().name).unwrap();
    let hook = Sockmap::message(&handle);
    let prog = Load::new(&program).maps(maps).to(&hook).unwrap().load();
    let prog = prog.unwrap_or_else(|error| panic!("{error:#}"));
    prog.attach(&hook).unwrap()
}

#[test]
fn connections_come_in_by_themselves_and_are_shortcuts() {
    needs!(Root, NetNs, Cgroup2, CgroupBpf, Sockmap);
    let inside = Inside::new();
    let node = &inside.node;
    let filled = Filled::new(&inside, &SOCKETS, Connections::All);
    let _shortcut = shortcut(&filled.maps, &SOCKETS);
    let mut added = 0;
    for host in [V4, V6] {
        let (client, server) = connection(node, host);
        added += 2;
        assert_eq!(filled.counted(), [added, 0, 0]);
        for socket in [&client, &server] {
            filled.check_has(socket, true);
        }
        let before = carried(node);
        check_carries(&client, &server, b"a short word");
        check_carries(&client, &server, &noise(1 << 20, 1));
        check_carries(&server, &client, &noise(1 << 20, 2));
        assert_eq!(
            carried(node),
            before,
            "packets although there is a shortcut"
        );
        let keys = [key_of(&client), key_of(&server)];
        drop((client, server));
        until(|| keys.map(|key| filled.sockets.cookie(&key).unwrap()) == [None; 2]);
    }
    // A server for both families whose client has one.
    let listener = node.run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)));
    let listener = listener.unwrap().unwrap();
    let to = (V4, listener.local_addr().unwrap().port()).into();
    let (client, server) = connection_to(node, &listener, to);
    for socket in [&client, &server] {
        filled.check_has(socket, true);
    }
    let before = carried(node);
    check_carries(&client, &server, &noise(100_000, 3));
    check_carries(&server, &client, &noise(100_000, 4));
    assert_eq!(carried(node), before);
    assert_eq!(filled.sockets.keys().count(), 2);
    // Whoever listens is no connection.
    drop((client, server));
    until(|| filled.sockets.keys().count() == 0);
    filled.link.detach().unwrap();
    let (client, server) = connection(node, V4);
    assert_eq!(filled.sockets.keys().count(), 0);
    check_carries(&client, &server, b"by packets");
}

#[test]
fn only_connections_of_some_ports() {
    needs!(Root, NetNs, Cgroup2, CgroupBpf, Sockmap);
    // 0x1234 and 0x3412: what would be taken for each other if the bytes were.
    const PORT: u16 = 0x1234;
    const TURNED: u16 = 0x3412;
    for (which, client_in, server_in) in [
        (Connections::Local(PORT..=PORT), false, true),
        (Connections::Remote(PORT..=PORT), true, false),
        (Connections::Service(PORT..=PORT), true, true),
        (Connections::Service(0x1200..=0x12ff), true, true),
        (Connections::Service(80..=81), false, false),
    ] {
        let inside = Inside::new();
        let node = &inside.node;
        let filled = Filled::new(&inside, &SOCKETS, which.clone());
        for (port, counts) in [(PORT, true), (TURNED, false)] {
            let listener = node.run(|| TcpListener::bind((V6, port))).unwrap().unwrap();
            let to = listener.local_addr().unwrap();
            let (client, server) = connection_to(node, &listener, to);
            filled.check_has(&client, client_in && counts);
            filled.check_has(&server, server_in && counts);
        }
        let added = u64::from(client_in) + u64::from(server_in);
        assert_eq!(filled.counted(), [added, 0, 0], "{which:?}");
    }
}

#[test]
fn a_full_map_is_counted_and_harms_nobody() {
    needs!(Root, NetNs, Cgroup2, CgroupBpf, Sockmap);
    let inside = Inside::new();
    let node = &inside.node;
    let filled = Filled::new(&inside, &FEW, Connections::All);
    let _shortcut = shortcut(&filled.maps, &FEW);
    let pairs: Vec<_> = [V4, V6, V4, V6]
        .into_iter()
        .map(|host| connection(node, host))
        .collect();
    assert_eq!(filled.counted(), [3, 5, 0]);
    // Both ends, one end, and none: the bytes arrive.
    for (client, server) in &pairs {
        check_carries(client, server, &noise(100_000, 1));
        check_carries(server, client, &noise(100_000, 2));
    }
    assert_eq!(filled.sockets.keys().count(), 3);
    drop(pairs);
    until(|| filled.sockets.keys().count() == 0);
    let (client, server) = connection(node, V4);
    assert_eq!(filled.counted(), [5, 5, 0]);
    let before = carried(node);
    check_carries(&client, &server, b"a shortcut");
    assert_eq!(carried(node), before);
}

/// The same name in another network is another connection, and does not get the place of the first.
#[test]
fn a_name_that_is_taken_is_counted() {
    needs!(Root, NetNs, Cgroup2, CgroupBpf, Sockmap);
    const PORT: u16 = 77;
    let inside = Inside::new();
    let filled = Filled::new(&inside, &SOCKETS, Connections::Local(PORT..=PORT));
    let other = Node::new().unwrap();
    let pairs = [&inside.node, &other].map(|node| {
        let listener = node.run(|| TcpListener::bind((V4, PORT))).unwrap().unwrap();
        let bound = node.run(|| from_port(78, PORT)).unwrap();
        let (server, _) = listener.accept().unwrap();
        (bound, server)
    });
    let [(_, first), (client, second)] = &pairs;
    assert_eq!(key_of(first), key_of(second));
    assert_eq!(filled.counted(), [1, 0, 1]);
    filled.check_has(first, true);
    check_carries(client, second, b"unharmed");
}

/// Connects to a port of this machine, from one.
fn from_port(from: u16, to: u16) -> TcpStream {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
    use std::os::fd::AsRawFd;
    let client = socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    );
    let client = client.unwrap();
    bind(client.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, from)).unwrap();
    connect(client.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, to)).unwrap();
    TcpStream::from(client)
}

/// A program of one's own, with cookies for keys.
#[test]
fn cookies_of_events() {
    needs!(Root, NetNs, Cgroup2, CgroupBpf, Sockmap);
    static COOKIES: MapDef<u64, u64> = MapDef::new(MapType::SOCKHASH, "cookies", 8);
    let inside = Inside::new();
    let (key, other) = (slot::<u64>("key"), label("other"));
    let code = code![
        mov(R6, R1),
        load(R1, R6.get(bpf_sock_ops::op)),
        jne(R1, SockOp::PASSIVE_ESTABLISHED_CB.0.cast_signed(), other),
        stream::cookie_key(R6, key),
        sock_hash_update(R6, &COOKIES, key, 0),
        bind(other),
        ret(1),
    ];
    let program = Program::new(ProgType::SOCK_OPS, "cookies", code).unwrap();
    let maps = Maps::of(&program).unwrap();
    let dir = inside.group.open().unwrap();
    let hook = Cgroup::sock_ops(&dir);
    let prog = Load::new(&program).maps(&maps).to(&hook).unwrap().load();
    let _link = prog.unwrap().attach(&hook).unwrap();
    let sockets: ObjectMap<u64, u64> = maps.open(&COOKIES).unwrap();
    let (client, server) = connection(&inside.node, V6);
    let [client, server] = [&client, &server].map(|socket| cookie(socket.as_fd()).unwrap());
    assert_eq!(sockets.cookie(&server).unwrap(), Some(server));
    assert_eq!(sockets.cookie(&client).unwrap(), None);
}
