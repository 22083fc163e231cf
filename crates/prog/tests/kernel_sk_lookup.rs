//! Programmable socket lookup: which socket gets a packet that is for an address nobody bound.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

mod net_bench;
mod steering;

use bpfsmith_asm::dsl::flags::sk_lookup::BPF_SK_LOOKUP_F_REPLACE;
use bpfsmith_asm::dsl::*;
use bpfsmith_asm::kit::lookup::{self, End, Fallback};
use bpfsmith_gate::{bpffs, deadline, is_slow, needs};
use bpfsmith_maps::{Map, ObjectMap, View};
use bpfsmith_prog::target::Netns;
use bpfsmith_prog::{Link, Maps, Prog};
use bpfsmith_sys::socket::cookie;
use net_bench::{LIMIT, hit, hits, load_to};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use steering::{
    CLIENTS4, CLIENTS6, Key, PORT, SERVICE4, SERVICE6, SOCKETS, TENANTS, World, accepted,
    by_source, only, reply, udp_with_addresses,
};

#[test]
fn listeners_on_one_port_by_source() {
    needs!(Root, NetNs, Veth, SkLookup, Sockmap);
    let world = World::new();
    for (service, clients) in [
        (SERVICE4, CLIENTS4),
        (SERVICE6, CLIENTS6),
    ] {
        let (maps, prog) = world.load("by_source", by_source(IPPROTO_TCP, Fallback::Drop));
        let tenants: Map<Key, u32> = maps.open(&TENANTS).unwrap();
        let sockets: ObjectMap<u32, u64> = maps.open(&SOCKETS).unwrap();
        let listeners = world.homes(service).map(|home| world.listen(home));
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        assert_eq!(listeners.each_ref().map(port), [PORT; 2], "the same port");
        for (index, listener) in (0_u32..).zip(&listeners) {
            sockets.set(&index, listener).unwrap();
        }
        steering::place(&tenants, clients[0], 0);
        steering::place(&tenants, clients[1], 1);
        let to = SocketAddr::new(service, PORT);
        let refused = world.connect(clients[0], 0, to).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);

        let link = prog.attach(&Netns::lookup(world.server())).unwrap();
        for round in 0..4 {
            for (index, client) in clients.iter().take(2).enumerate() {
                let stream = world.connect(*client, 0, to).unwrap();
                let (who, accepted) = accepted(&listeners, &stream);
                assert_eq!(who, index, "{client}, round {round}");
                assert_eq!(accepted.local_addr().unwrap(), to);
                steering::check_carries(stream, accepted);
            }
        }
        // Whoever is in no prefix is refused, and has to come in once there is one.
        let stranger = clients[2];
        let refused = world.connect(stranger, 0, to).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        let all = match service {
            IpAddr::V4(_) => Key::mapped(Ipv4Addr::UNSPECIFIED.into(), 0),
            IpAddr::V6(_) => Key::mapped(stranger, 64),
        };
        tenants.update(&all, &1).unwrap();
        let stream = world.connect(stranger, 0, to).unwrap();
        assert_eq!(accepted(&listeners, &stream).0, 1);
        let stream = world.connect(clients[0], 0, to).unwrap();
        assert_eq!(accepted(&listeners, &stream).0, 0, "the longer prefix");
        link.detach().unwrap();
    }
}

#[test]
fn datagrams_by_source_are_answered_from_where_they_went() {
    needs!(Root, NetNs, Veth, SkLookup, Sockmap);
    let world = World::new();
    let (maps, prog) = world.load("by_source", by_source(IPPROTO_UDP, Fallback::Drop));
    let tenants: Map<Key, u32> = maps.open(&TENANTS).unwrap();
    let sockets: ObjectMap<u32, u64> = maps.open(&SOCKETS).unwrap();
    let _link = prog.attach(&Netns::lookup(world.server())).unwrap();
    for (service, clients) in [
        (SERVICE4, CLIENTS4),
        (SERVICE6, CLIENTS6),
    ] {
        let services = world
            .homes(service)
            .map(|home| udp_with_addresses(&world, home));
        for (index, socket) in (0_u32..).zip(&services) {
            sockets.set(&index, socket).unwrap();
        }
        steering::place(&tenants, clients[0], 0);
        steering::place(&tenants, clients[1], 1);
        let to = SocketAddr::new(service, PORT);
        for (index, client) in clients.iter().take(2).enumerate() {
            let socket = world.datagrams(*client);
            // A connected socket takes answers of its peer alone.
            socket.connect(to).unwrap();
            for word in [b"one", b"two"] {
                socket.send(word).unwrap();
                let from = reply(&services[index], word);
                assert_eq!(from, socket.local_addr().unwrap());
                let mut answer = [0; 9];
                let read = socket.recv(&mut answer).unwrap();
                assert_eq!(&answer[..read], word);
            }
            let other = services[1 - index].recv(&mut [0; 9]);
            assert_eq!(other.unwrap_err().kind(), ErrorKind::WouldBlock);
        }
        let stranger = world.datagrams(clients[2]);
        stranger.connect(to).unwrap();
        stranger.send(b"three").unwrap();
        let refused = stranger.recv(&mut [0; 9]).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }
}

#[test]
fn ranges_of_ports_at_either_end() {
    needs!(Root, NetNs, Veth, SkLookup, Sockmap);
    // 0x1234 and 0x3412: what would be taken for each other if the bytes were.
    const HERE: u16 = 0x1234;
    const TURNED: u16 = 0x3412;
    let world = World::new();
    let range = |end, ports| {
        let other = label("other");
        code![
            mov(R6, R1),
            lookup::protocol(R6, IPPROTO_TCP, R2, other),
            lookup::port(R6, end, ports, R2, other),
            only(R6, 0, Fallback::Drop),
            bind(other),
            ret(SK_PASS),
        ]
    };
    let from = CLIENTS4[0];
    let (maps, local) = world.load("local", range(End::Local, 0x1200..=HERE));
    let sockets: ObjectMap<u32, u64> = maps.open(&SOCKETS).unwrap();
    let listener = [world.listen(SocketAddr::new(world.homes(SERVICE4)[0].ip(), 1))];
    sockets.set(&0, &listener[0]).unwrap();
    let link = local.attach(&Netns::lookup(world.server())).unwrap();
    for port in [0x1200, 0x1201, HERE - 1, HERE] {
        let to = SocketAddr::new(SERVICE4, port);
        let stream = world.connect(from, 0, to).unwrap();
        let (_, accepted) = accepted(&listener, &stream);
        assert_eq!(accepted.local_addr().unwrap(), to);
    }
    for port in [0x11ff, HERE + 1, TURNED, 0x0012] {
        let done = world.connect(from, 0, SocketAddr::new(SERVICE4, port));
        assert_eq!(done.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
    link.detach().unwrap();

    let (maps, remote) = world.load("remote", range(End::Remote, HERE..=HERE + 1));
    let sockets: ObjectMap<u32, u64> = maps.open(&SOCKETS).unwrap();
    sockets.set(&0, &listener[0]).unwrap();
    let _link = remote.attach(&Netns::lookup(world.server())).unwrap();
    let to = SocketAddr::new(SERVICE4, 9);
    for port in [HERE, HERE + 1] {
        let stream = world.connect(from, port, to).unwrap();
        assert_eq!(stream.local_addr().unwrap().port(), port);
        accepted(&listener, &stream);
    }
    for port in [HERE - 1, HERE + 2, TURNED] {
        let done = world.connect(from, port, to);
        assert_eq!(done.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
}

/// A program that gives what is for the service to the socket at an index, and counts what the
/// kernel refused with `EEXIST`.
fn chooser(world: &World, maps: &mut Maps, index: u32, flags: u64) -> Prog {
    let (other, key) = (label("other"), slot::<u32>("key"));
    let code = code![
        mov(R6, R1),
        lookup::port(R6, End::Local, PORT..=PORT, R2, other),
        hit(index),
        store(key.u32(0), index),
        lookup::assign(R6, &SOCKETS, key, R7, flags, other),
        ret(SK_PASS),
        bind(other),
        R7.eq(-Errno::EEXIST.0).then(hit(8 + index)),
        ret(SK_PASS),
    ];
    let on = Netns::lookup(world.server());
    // Not every way to the end sets R7.
    let code = code![mov(R7, 0), code];
    load_to(&on, ProgType::SK_LOOKUP, "chooser", code, maps)
}

#[test]
fn programs_in_order() {
    needs!(Root, NetNs, Veth, SkLookup, Sockmap);
    let world = World::new();
    let on = Netns::lookup(world.server());
    let mut maps = Maps::new();
    let progs = [0, 1].map(|index| chooser(&world, &mut maps, index, 0));
    let insists = chooser(&world, &mut maps, 1, BPF_SK_LOOKUP_F_REPLACE);
    let mut simple = |name, code| load_to(&on, ProgType::SK_LOOKUP, name, code, &mut maps);
    let pass = simple("pass", code![ret(SK_PASS)]);
    let refuse = simple("refuse", code![ret(SK_DROP)]);
    let chosen = label("chosen");
    let modest = simple(
        "modest",
        code![
            mov(R6, R1),
            lookup::unchosen(R6, R2, chosen),
            hit(2),
            bind(chosen),
            ret(SK_PASS),
        ],
    );
    let sockets: ObjectMap<u32, u64> = maps.open(&SOCKETS).unwrap();
    let listeners = world.homes(SERVICE4).map(|home| world.listen(home));
    sockets.set(&0, &listeners[0]).unwrap();
    sockets.set(&1, &listeners[1]).unwrap();
    // Who accepts when these are attached, in this order.
    let who = |order: &[&Prog]| {
        let links: Vec<Link> = order.iter().map(|prog| prog.attach(&on).unwrap()).collect();
        let done = world.connect(CLIENTS4[0], 0, SocketAddr::new(SERVICE4, PORT));
        drop(links);
        match done {
            Ok(stream) => Some(accepted(&listeners, &stream).0),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
                None
            }
        }
    };
    assert_eq!(who(&[]), None);
    assert_eq!(who(&[&pass, &progs[0], &pass]), Some(0));
    assert_eq!(hits(&maps, 9), 0);
    assert_eq!(who(&[&progs[0], &progs[1]]), Some(0), "the first one");
    assert_eq!(hits(&maps, 9), 1, "the second one was told");
    assert_eq!(who(&[&progs[1], &progs[0]]), Some(1), "the order counts");
    assert_eq!(who(&[&progs[0], &insists]), Some(1), "unless one insists");
    assert_eq!(hits(&maps, 9), 1);
    assert_eq!(hits(&maps, 2), 0);
    assert_eq!(who(&[&progs[0], &modest]), Some(0));
    assert_eq!(hits(&maps, 2), 0, "a socket was chosen");
    assert_eq!(who(&[&modest, &progs[0]]), Some(0));
    assert_eq!(hits(&maps, 2), 1, "none was chosen yet");
    // A choice weighs more than a refusal, whichever is first; a refusal more than nothing.
    assert_eq!(who(&[&refuse, &progs[0]]), Some(0));
    assert_eq!(who(&[&progs[0], &refuse]), Some(0));
    // A listener that the kernel would find by itself.
    let found = world.listen(SocketAddr::new(SERVICE4, PORT));
    assert_eq!(who(&[&progs[0]]), Some(0), "the program is asked first");
    assert_eq!(who(&[&refuse, &pass]), None);
    let _link = pass.attach(&on).unwrap();
    let to = SocketAddr::new(SERVICE4, PORT);
    let stream = world.connect(CLIENTS4[0], 0, to).unwrap();
    accepted(&[found], &stream);
}

#[test]
fn a_closed_listener_leaves_no_black_hole() {
    needs!(Root, NetNs, Veth, SkLookup, Sockmap);
    let world = World::new();
    let on = Netns::lookup(world.server());
    let mut maps = Maps::new();
    let mut load = |name, index, fallback| {
        let code = code![mov(R6, R1), only(R6, index, fallback)];
        load_to(&on, ProgType::SK_LOOKUP, name, code, &mut maps)
    };
    let first = load("first", 0, Fallback::Pass);
    let second = load("second", 1, Fallback::Drop);
    let sockets: ObjectMap<u32, u64> = maps.open(&SOCKETS).unwrap();
    let [one, two] = world.homes(SERVICE4).map(|home| world.listen(home));
    sockets.set(&0, &one).unwrap();
    sockets.set(&1, &two).unwrap();
    let to = SocketAddr::new(SERVICE4, PORT);
    let _links = [&first, &second].map(|prog| prog.attach(&on).unwrap());
    let stream = world.connect(CLIENTS4[0], 0, to).unwrap();
    let listeners = [one, two];
    let (who, kept) = accepted(&listeners, &stream);
    assert_eq!(who, 0);
    let [one, two] = listeners;
    assert_eq!(sockets.cookie(&0).unwrap(), cookie(one.as_fd()).ok());

    drop(one);
    assert_eq!(sockets.cookie(&0).unwrap(), None, "it took itself out");
    let next = world.connect(CLIENTS4[0], 0, to).unwrap();
    let two = [two];
    accepted(&two, &next);
    drop(two);
    assert_eq!(sockets.cookie(&1).unwrap(), None);
    let done = world.connect(CLIENTS4[0], 0, to);
    assert_eq!(done.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    // What was accepted before stays.
    steering::check_carries(stream, kept);
    let again = [world.listen(world.homes(SERVICE4)[0])];
    sockets.set(&0, &again[0]).unwrap();
    let stream = world.connect(CLIENTS4[0], 0, to).unwrap();
    accepted(&again, &stream);
}

/// Tells threads to stop, also when the test fails: the scope waits for them.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Accepts until told to stop, and counts.
fn drain(listener: &TcpListener, count: &AtomicU32, stop: &AtomicBool) {
    listener.set_nonblocking(true).unwrap();
    while !stop.load(Ordering::Acquire) {
        match listener.accept() {
            Ok(_) => {
                count.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                std::thread::yield_now();
            }
        }
    }
}

#[test]
fn changes_under_running_connects_lose_none() {
    needs!(Root, NetNs, Veth, SkLookup, Sockmap);
    let connects = if is_slow() { 300 } else { 3000 };
    let world = World::new();
    let (maps, prog) = world.load("by_source", by_source(IPPROTO_TCP, Fallback::Drop));
    let tenants: Map<Key, u32> = maps.open(&TENANTS).unwrap();
    let sockets: ObjectMap<u32, u64> = maps.open(&SOCKETS).unwrap();
    for n in 0..9_000_u32 {
        let address = IpAddr::from((0x0b00_0000 + n * 0x100).to_be_bytes());
        tenants.update(&Key::mapped(address, 24), &7).unwrap();
    }
    let listeners = world.homes(SERVICE4).map(|home| world.listen(home));
    let client = CLIENTS4[0];
    steering::place(&tenants, client, 0);
    sockets.set(&0, &listeners[0]).unwrap();
    sockets.set(&1, &listeners[1]).unwrap();
    let _link = prog.attach(&Netns::lookup(world.server())).unwrap();
    let to = SocketAddr::new(SERVICE4, PORT);
    let (counts, stop) = (
        [AtomicU32::new(0), AtomicU32::new(0)],
        AtomicBool::new(false),
    );
    let mut changes = 0_u32;
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        for (listener, count) in listeners.iter().zip(&counts) {
            scope.spawn(|| drain(listener, count, &stop));
        }
        let connecting = scope.spawn(|| world.connect_often(client, to, connects));
        while !connecting.is_finished() {
            // The sockets change places, and so do the prefixes.
            let turn = changes % 2;
            sockets.set(&0, &listeners[usize::from(turn == 0)]).unwrap();
            sockets.set(&1, &listeners[usize::from(turn == 1)]).unwrap();
            steering::place(&tenants, client, changes / 2 % 2);
            changes += 1;
        }
        assert_eq!(connecting.join().unwrap(), Vec::<String>::new());
        let sum = || {
            counts
                .iter()
                .map(|count| count.load(Ordering::Relaxed))
                .sum::<u32>()
        };
        deadline(LIMIT, || (sum() >= connects).then_some(()));
        assert_eq!(sum(), connects);
    });
    assert_eq!(world.dropped(), 0);
    let counts = counts.map(AtomicU32::into_inner);
    assert!(
        changes > 100 && counts.iter().all(|count| *count > 0),
        "{changes}, {counts:?}"
    );
}

#[test]
fn pinned_it_goes_on_without_its_process() {
    needs!(Root, NetNs, Veth, SkLookup, Sockmap, Bpffs);
    let dir = bpffs();
    let at = |name: &str| dir.path().join(name);
    let world = World::new();
    let listeners = world.homes(SERVICE4).map(|home| world.listen(home));
    {
        let (maps, prog) = world.load("by_source", by_source(IPPROTO_TCP, Fallback::Drop));
        let tenants: Map<Key, u32> = maps.open(&TENANTS).unwrap();
        let sockets: ObjectMap<u32, u64> = maps.open(&SOCKETS).unwrap();
        steering::place(&tenants, CLIENTS4[0], 0);
        sockets.set(&0, &listeners[0]).unwrap();
        let link = prog.attach(&Netns::lookup(world.server())).unwrap();
        link.pin(at("link")).unwrap();
        tenants.pin(at("tenants")).unwrap();
        sockets.pin(at("sockets")).unwrap();
    }
    let to = SocketAddr::new(SERVICE4, PORT);
    let stream = world.connect(CLIENTS4[0], 0, to).unwrap();
    assert_eq!(accepted(&listeners, &stream).0, 0);

    // Whoever comes next changes what is pinned.
    let sockets = bpfsmith_maps::Handle::open_pin(at("sockets")).unwrap();
    let sockets = ObjectMap::<u32, u64>::view(sockets).unwrap();
    sockets.set(&0, &listeners[1]).unwrap();
    let stream = world.connect(CLIENTS4[0], 0, to).unwrap();
    assert_eq!(accepted(&listeners, &stream).0, 1);
    let tenants = bpfsmith_maps::Handle::open_pin(at("tenants")).unwrap();
    let tenants = Map::<Key, u32>::view(tenants).unwrap();
    steering::place(&tenants, CLIENTS4[1], 0);
    let stream = world.connect(CLIENTS4[1], 0, to).unwrap();
    assert_eq!(accepted(&listeners, &stream).0, 1);

    let mut link = Link::open_pin(at("link")).unwrap();
    let (_, other) = world.load("refuse", code![ret(SK_DROP)]);
    link.update(&other).unwrap();
    let done: std::io::Result<TcpStream> = world.connect(CLIENTS4[0], 0, to);
    assert_eq!(done.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    std::fs::remove_file(at("link")).unwrap();
    drop(link);
    let own = [world.listen(to)];
    let stream = world.connect(CLIENTS4[0], 0, to).unwrap();
    accepted(&own, &stream);
}
