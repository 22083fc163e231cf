//! Programs that choose sockets and filter for them: which socket got what.

mod net_bench;

use bpfsmith_asm::dsl::flags::sk_lookup::BPF_SK_LOOKUP_F_REPLACE;
use bpfsmith_asm::dsl::*;
use bpfsmith_gate::{bpffs, needs};
use bpfsmith_net::Node;
use bpfsmith_prog::target::{Netns, Reuseport, SocketFilter, Tcx};
use bpfsmith_prog::{Error, Link, Maps, Prog, Way};
use bpfsmith_sys::info::Place;
use net_bench::{Bench, LIMIT, check_refused, hit, hits, id, load_to};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket, sockopt,
};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};

static SOCKS: MapDef<u32, u64> = MapDef::new(MapType::SOCKMAP, "socks", 4);
static GROUP: MapDef<u32, u64> = MapDef::new(MapType::REUSEPORT_SOCKARRAY, "group", 4);

/// Puts a socket into a map.
#[track_caller]
fn put(maps: &Maps, map: &MapDef<u32, u64>, index: u32, socket: &impl AsFd) {
    let fd = u64::try_from(socket.as_fd().as_raw_fd()).unwrap_or_else(|e| panic!("{e}"));
    let map = maps.find(map.shape().name);
    map.map(|map| map.raw().update(&index.to_ne_bytes(), &fd.to_ne_bytes(), 0))
        .unwrap_or_else(|| panic!("no such map"))
        .unwrap_or_else(|e| panic!("{e}"));
}

/// Gives connections to port 7000 to the socket at an index.
fn steer(index: u32, flags: u64, maps: &mut Maps, node: &Node) -> Prog {
    let key = slot::<u32>("key");
    let code = code![
        mov(R6, R1),
        kit::lookup::load_port(R2, R1, kit::lookup::End::Local),
        R2.eq(7000).then(code![
            store(key.u32(0), index),
            map_lookup_elem(&SOCKS, key),
            R0.ne(0).then(code![
                mov(R7, R0),
                sk_assign(R6, R7, flags),
                sk_release(R7),
            ]),
        ]),
        ret(SK_PASS),
    ];
    load_to(
        &Netns::lookup(&node.ns),
        ProgType::SK_LOOKUP,
        "steer",
        code,
        maps,
    )
}

/// The listener that gets a connection to port 7000.
#[track_caller]
fn who<'a>(node: &Node, listeners: &'a [TcpListener]) -> Option<&'a TcpListener> {
    let client = match node.run(|| TcpStream::connect("127.0.0.1:7000")) {
        Ok(Ok(client)) => client,
        Ok(Err(error)) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    let own = client.local_addr().ok();
    listeners.iter().find(|listener| {
        listener.set_nonblocking(true).is_ok()
            && listener.accept().is_ok_and(|(_, from)| Some(from) == own)
    })
}

fn port(listener: Option<&TcpListener>) -> Option<u16> {
    listener.and_then(|listener| Some(listener.local_addr().ok()?.port()))
}

#[test]
fn the_first_to_choose_wins_unless_a_later_one_insists() {
    needs!(Root, NetNs, SkLookup, Sockmap, Bpffs);
    let dir = bpffs();
    let node = Node::new().unwrap();
    let mut maps = Maps::new();
    let progs: Vec<Prog> = (0..2).map(|n| steer(n, 0, &mut maps, &node)).collect();
    let listen = |port| node.run(|| TcpListener::bind(("127.0.0.1", port)));
    let listeners = [7001, 7002].map(|port| listen(port).unwrap().unwrap());
    put(&maps, &SOCKS, 0, &listeners[0]);
    put(&maps, &SOCKS, 1, &listeners[1]);
    let on = Netns::lookup(&node.ns);
    assert_eq!(port(who(&node, &listeners)), None);

    let mut first = progs[0].attach(&on).unwrap();
    assert_eq!(port(who(&node, &listeners)), Some(7001));
    let second = progs[1].attach(&on).unwrap();
    assert_eq!(port(who(&node, &listeners)), Some(7001));
    let insists = steer(1, BPF_SK_LOOKUP_F_REPLACE, &mut maps, &node);
    let third = insists.attach(&on).unwrap();
    assert_eq!(port(who(&node, &listeners)), Some(7002));
    let ids = [
        id(&progs[0]),
        id(&progs[1]),
        id(&insists),
    ];
    assert_eq!(on.query().unwrap().progs, ids);
    drop((second, third));
    assert_eq!(port(who(&node, &listeners)), Some(7001));
    first.update(&progs[1]).unwrap();
    assert_eq!(port(who(&node, &listeners)), Some(7002));
    first.replace(&progs[1], &progs[0]).unwrap();
    check_refused(
        first.replace(&progs[1], &progs[0]),
        Errno::EPERM,
        "Link::info",
    );

    let place = first.info().unwrap().place;
    let own = std::fs::read_link(format!("/proc/self/fd/{}", node.ns.as_fd().as_raw_fd()));
    let Place::Netns { inode, attach } = place else {
        panic!("{place:?}")
    };
    assert_eq!(own.unwrap().to_string_lossy(), format!("net:[{inode}]"));
    assert_eq!(attach, AttachType::SK_LOOKUP);
    first.pin(dir.path().join("first")).unwrap();
    drop(first);
    assert_eq!(port(who(&node, &listeners)), Some(7001));
    let first = Link::open_pin(dir.path().join("first")).unwrap();
    first.force_detach().unwrap();
    assert_eq!(port(who(&node, &listeners)), None);
}

#[test]
fn a_namespace_that_is_gone_leaves_a_link_without_effect() {
    needs!(Root, NetNs, SkLookup);
    let node = Node::new().unwrap();
    let prog = steer(0, 0, &mut Maps::new(), &node);
    let mut link = prog.attach(&Netns::lookup(&node.ns)).unwrap();
    drop(node);
    bpfsmith_gate::deadline(LIMIT, || match link.info().unwrap().place {
        Place::Netns { inode: 0, .. } => Some(()),
        _ => None,
    });
    check_refused(link.update(&prog), Errno::ENOLINK, "vanished");
    let file = std::fs::File::open("/").unwrap();
    let done = prog.attach(&Netns::lookup(&file));
    check_refused(done, Errno::EINVAL, "no network namespace");
}

#[test]
fn a_dissector_reads_the_headers_of_its_namespace() {
    needs!(Root, NetNs, Veth, SkLookup, Clsact);
    let mut maps = Maps::new();
    let mut bench = Bench::new();
    let ns = bench
        .net
        .server
        .node
        .ns
        .as_fd()
        .try_clone_to_owned()
        .unwrap();
    let on = Netns::dissector(&ns);
    let code = code![hit(0), ret(BPF_OK)];
    let dissect = load_to(&on, ProgType::FLOW_DISSECTOR, "dissect", code, &mut maps);
    // Asks for the hash of packets, for which headers are read.
    let hash = code![
        mov(R6, R1),
        load(R2, R1.get(__sk_buff::len)),
        R2.eq(119).then(code![
            set_hash_invalid(R6),
            get_hash_recalc(R6),
            hit(1),
        ]),
        ret(TCX_NEXT),
    ];
    let ingress = Tcx::ingress(bench.index());
    let hash = load_to(&ingress, ProgType::SCHED_CLS, "hash", hash, &mut maps);
    let _hash = bench.attach(&hash, &ingress).unwrap();
    bench.check_arrives();
    assert_eq!((hits(&maps, 0), hits(&maps, 1)), (0, 1));
    let link = dissect.attach(&on).unwrap();
    bench.check_arrives();
    let seen = hits(&maps, 0);
    assert!(seen > 0);
    check_refused(dissect.attach(&on), Errno::E2BIG, "one program");
    drop(link);
    bench.check_arrives();
    assert_eq!((hits(&maps, 0), hits(&maps, 1)), (seen, 3));
}

#[test]
fn a_filter_drops_cuts_and_lets_go() {
    needs!(Root, NetNs, Veth, Bpf);
    let mut maps = Maps::new();
    let mut bench = Bench::new();
    let filter = |index: u32, keep: i32, maps: &mut Maps| {
        let on = SocketFilter::on(&bench.server);
        let code = code![hit(index), ret(keep)];
        load_to(&on, ProgType::SOCKET_FILTER, "filter", code, maps)
    };
    // The filter of a UDP socket sees the UDP header too.
    let (none, four) = (filter(0, 0, &mut maps), filter(1, 8 + 4, &mut maps));
    let mut link = none.attach(&SocketFilter::on(&bench.server)).unwrap();
    assert_eq!(link.way(), Way::Attachment);
    bench.check_dropped(&maps, 0);
    link.update(&four).unwrap();
    bench.send();
    assert_eq!(bench.server.recv(&mut [0; 99]).unwrap(), 4);
    assert!(matches!(link.info(), Err(Error::Argument { .. })));
    link.detach().unwrap();
    bench.check_arrives();
    assert_eq!((hits(&maps, 0), hits(&maps, 1)), (1, 1));

    let file = std::fs::File::open("/dev/null").unwrap();
    let done = four.attach(&SocketFilter::on(&file));
    check_refused(done, Errno::ENOTSOCK, "no socket");
    // Detached behind its back.
    let link = four.attach(&SocketFilter::on(&bench.server)).unwrap();
    four.attach(&SocketFilter::on(&bench.server))
        .unwrap()
        .detach()
        .unwrap();
    check_refused(link.detach(), Errno::ENOENT, "");
}

/// Two UDP sockets on one address.
#[expect(clippy::unwrap_used, reason = "a test says by a panic that it failed")]
fn twins(node: &Node) -> [UdpSocket; 2] {
    [(), ()].map(|()| {
        let made = node.run(|| {
            let family = AddressFamily::Inet;
            socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        });
        let made = made.unwrap().unwrap();
        setsockopt(&made, sockopt::ReusePort, &true).unwrap();
        bind(made.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 7000)).unwrap();
        let made = UdpSocket::from(made);
        made.set_read_timeout(Some(LIMIT)).unwrap();
        made
    })
}

/// Sends from many ports: all packets arrive at that socket.
#[track_caller]
fn check_all_at(node: &Node, socket: &UdpSocket) {
    for _ in 0..16 {
        let client = node.run(|| UdpSocket::bind("127.0.0.1:0"));
        let client = client.ok().and_then(Result::ok);
        let client = client.unwrap_or_else(|| panic!("no client"));
        let to = SocketAddr::from(([127, 0, 0, 1], 7000));
        let sent = client.send_to(b"hello", to);
        assert_eq!(sent.ok(), Some(5));
        let from = socket.recv_from(&mut [0; 5]).map(|(_, from)| from);
        assert_eq!(from.ok(), client.local_addr().ok());
    }
}

#[test]
fn a_program_chooses_among_sockets_on_one_address() {
    needs!(Root, NetNs, Reuseport);
    let node = Node::new().unwrap();
    let sockets = twins(&node);
    let mut maps = Maps::new();
    let on = Reuseport::of(&sockets[0]);
    let progs = [0, 1].map(|index: u32| {
        let key = slot::<u32>("key");
        let code = code![
            mov(R6, R1),
            hit(index),
            store(key.u32(0), index),
            sk_select_reuseport(R6, &GROUP, key, 0),
            ret(SK_PASS),
        ];
        load_to(&on, ProgType::SK_REUSEPORT, "choose", code, &mut maps)
    });
    put(&maps, &GROUP, 0, &sockets[0]);
    put(&maps, &GROUP, 1, &sockets[1]);
    let mut link = progs[1].attach(&on).unwrap();
    assert_eq!(link.way(), Way::Attachment);
    check_all_at(&node, &sockets[1]);
    link.update(&progs[0]).unwrap();
    check_all_at(&node, &sockets[0]);
    assert_eq!((hits(&maps, 0), hits(&maps, 1)), (16, 16));
    link.detach().unwrap();
    let client = node.run(|| UdpSocket::bind("127.0.0.1:0"));
    client
        .unwrap()
        .unwrap()
        .send_to(b"x", "127.0.0.1:7000")
        .unwrap();
    assert_eq!((hits(&maps, 0), hits(&maps, 1)), (16, 16));
}

#[test]
fn a_socket_filter_chooses_by_number() {
    needs!(Root, NetNs, Reuseport);
    let node = Node::new().unwrap();
    let sockets = twins(&node);
    for (number, socket) in [0, 1].into_iter().zip(&sockets) {
        let on = SocketFilter::on(socket);
        let kind = ProgType::SOCKET_FILTER;
        let prog = load_to(&on, kind, "number", code![ret(number)], &mut Maps::new());
        let link = prog.attach(&Reuseport::of(&sockets[0])).unwrap();
        check_all_at(&node, socket);
        link.detach().unwrap();
    }
    let lone = node
        .run(|| UdpSocket::bind("127.0.0.1:0"))
        .unwrap()
        .unwrap();
    let on = SocketFilter::on(&lone);
    let prog = load_to(
        &on,
        ProgType::SOCKET_FILTER,
        "n",
        code![ret(0)],
        &mut Maps::new(),
    );
    let done = prog.attach(&Reuseport::of(&lone));
    check_refused(done, Errno::EINVAL, "SO_REUSEPORT");
    let file = std::fs::File::open("/dev/null").unwrap();
    let done = prog.attach(&Reuseport::of(&file));
    check_refused(done, Errno::ENOTSOCK, "no socket");
    let pass = code![ret(XDP_PASS)];
    let xdp = load_to(
        &bpfsmith_prog::target::Xdp::on(bpfsmith_net::IfIndex(0)),
        ProgType::XDP,
        "x",
        pass,
        &mut Maps::new(),
    );
    let error = xdp.attach(&on).unwrap_err();
    assert!(matches!(error, Error::WrongHook { .. }), "{error}");
    let error = xdp.attach(&Reuseport::of(&lone)).unwrap_err();
    assert!(matches!(error, Error::WrongHook { .. }), "{error}");
}
