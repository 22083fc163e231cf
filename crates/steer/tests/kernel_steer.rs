//! What is bound comes to the sockets of its service, on a machine that nobody bound those addresses on.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

mod support;

use bpfsmith_gate::needs;
use bpfsmith_steer::{Answer, Changes, Error, Fallback, Protocol, Rule, SocketProblem, Steering};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use support::{
    binding, came_to, client, cookie, counted, datagrams, label, listen, rule, sent_to, to, world,
};

#[test]
fn two_listeners_on_one_port_of_different_addresses() {
    needs!(Root, NetNs, Loopback, SkLookup, Sockmap);
    let node = world();
    let (one, two) = (listen(&node, "127.0.0.1:80"), listen(&node, "127.0.0.2:80"));
    let both = [&one, &two];
    let mut steering = Steering::new(&node.ns).unwrap();
    assert_eq!(came_to(&node, to("203.0.113.1:80"), &both), None);
    steering
        .bind(binding("tcp 203.0.113.1 80"), &label("one"))
        .unwrap();
    steering
        .bind(binding("tcp 203.0.113.2 80"), &label("two"))
        .unwrap();
    assert_eq!(
        came_to(&node, to("203.0.113.1:80"), &both),
        None,
        "no socket yet"
    );
    steering.register(&label("one"), &one).unwrap();
    steering.register(&label("two"), &two).unwrap();
    assert_eq!(came_to(&node, to("203.0.113.1:80"), &both), Some(0));
    assert_eq!(came_to(&node, to("203.0.113.2:80"), &both), Some(1));
    assert_eq!(came_to(&node, to("203.0.113.3:80"), &both), None);
    assert_eq!(came_to(&node, to("203.0.113.1:81"), &both), None);
    assert_eq!(counted(&mut steering, "tcp 203.0.113.1 80"), [1, 1, 0]);
    // It moves, and keeps its count.
    let former = steering
        .bind(binding("tcp 203.0.113.1 80"), &label("two"))
        .unwrap();
    assert_eq!(former, Some(label("one")));
    assert_eq!(came_to(&node, to("203.0.113.1:80"), &both), Some(1));
    assert_eq!(counted(&mut steering, "tcp 203.0.113.1 80"), [2, 1, 0]);
    assert_eq!(
        steering.unbind(&binding("tcp 203.0.113.1 80")).unwrap(),
        Some(label("two"))
    );
    assert_eq!(
        steering.unbind(&binding("tcp 203.0.113.1 80")).unwrap(),
        None
    );
    assert_eq!(came_to(&node, to("203.0.113.1:80"), &both), None);
    drop(steering);
    assert_eq!(came_to(&node, to("203.0.113.2:80"), &both), None);
}

#[test]
fn both_protocols_and_both_families() {
    needs!(Root, NetNs, Loopback, SkLookup, Sockmap);
    let node = world();
    let mut steering = Steering::new(&node.ns).unwrap();
    let tcp = [
        listen(&node, "127.0.0.1:0"),
        listen(&node, "[::1]:0"),
    ];
    let udp = [
        datagrams(&node, "0.0.0.0:0"),
        datagrams(&node, "[::1]:0"),
    ];
    for service in [&label("four"), &label("six")] {
        for (protocol, prefix) in [
            ("tcp", "203.0.113.0/24"),
            ("udp", "203.0.113.0/24"),
        ] {
            if service.as_str() == "four" {
                steering
                    .bind(binding(&format!("{protocol} {prefix} 53")), service)
                    .unwrap();
            } else {
                steering
                    .bind(binding(&format!("{protocol} 2001:db8:71::/48 53")), service)
                    .unwrap();
            }
        }
    }
    for (n, service) in ["four", "six"].iter().enumerate() {
        steering.register(&label(service), &tcp[n]).unwrap();
        steering.register(&label(service), &udp[n]).unwrap();
    }
    let (tcp, udp) = ([&tcp[0], &tcp[1]], [&udp[0], &udp[1]]);
    for (address, who) in [
        ("203.0.113.7:53", Some(0)),
        ("203.0.113.255:53", Some(0)),
        ("[2001:db8:71::7]:53", Some(1)),
        ("[2001:db8:71:ffff::]:53", Some(1)),
        ("[2001:db8:72::7]:53", None),
        ("203.0.113.7:54", None),
    ] {
        if !address.starts_with("203.0.113.255") {
            assert_eq!(came_to(&node, to(address), &tcp), who, "{address}");
        }
        assert_eq!(sent_to(&node, to(address), &udp), who, "{address}");
    }
    // One socket for both families has both, unless it says otherwise.
    let any = listen(&node, "[::]:0");
    let there = steering.register(&label("four"), &any).unwrap();
    assert_eq!(there.places.len(), 2);
    assert!(steering.unregister(&label("four"), cookie(tcp[0])).unwrap());
    assert!(!steering.unregister(&label("four"), cookie(tcp[0])).unwrap());
    assert_eq!(came_to(&node, to("203.0.113.7:53"), &[&any]), Some(0));
    assert_eq!(steering.sockets(&label("four")).unwrap().len(), 3);
}

#[test]
fn whole_ranges_of_ports_and_what_goes_before_what() {
    needs!(Root, NetNs, Loopback, SkLookup, Sockmap);
    let node = world();
    let mut steering = Steering::new(&node.ns).unwrap();
    let names = [
        "all", "range", "narrow", "later", "one", "host",
    ];
    let listeners = names.map(|_| listen(&node, "127.0.0.1:0"));
    for (name, listener) in names.iter().zip(&listeners) {
        steering.register(&label(name), listener).unwrap();
    }
    let rules = [
        ("tcp 203.0.113.0/24 *", "all"),
        ("tcp 203.0.113.0/24 1024-65535", "range"),
        ("tcp 203.0.113.0/24 8000-8999", "narrow"),
        ("tcp 203.0.113.0/24 8500-9499", "later"),
        ("tcp 203.0.113.0/24 8080", "one"),
        ("tcp 203.0.113.9 *", "host"),
    ];
    let packets = [
        ("203.0.113.1:1", "all"),
        ("203.0.113.1:1023", "all"),
        ("203.0.113.1:1024", "range"),
        ("203.0.113.1:65535", "range"),
        ("203.0.113.1:8000", "narrow"),
        ("203.0.113.1:8080", "one"),
        ("203.0.113.1:8081", "narrow"),
        ("203.0.113.1:8499", "narrow"),
        ("203.0.113.1:8500", "later"),
        ("203.0.113.1:8999", "later"),
        ("203.0.113.1:9499", "later"),
        ("203.0.113.1:9500", "range"),
        ("203.0.113.9:8080", "host"),
        ("203.0.113.9:1", "host"),
    ];
    let listeners: [&TcpListener; 6] = std::array::from_fn(|n| &listeners[n]);
    let check = |steering: &mut Steering| {
        for (address, who) in packets {
            let found = came_to(&node, to(address), &listeners).map(|n| names[n]);
            assert_eq!(found, Some(who), "{address}");
            let rule = steering.find(Protocol::Tcp, to(address)).unwrap();
            assert_eq!(rule.unwrap().service, label(who), "{address}");
        }
    };
    for (text, name) in rules {
        steering.bind(binding(text), &label(name)).unwrap();
    }
    check(&mut steering);
    // In whatever order, and all at once.
    steering.replace(None).unwrap();
    assert_eq!(came_to(&node, to("203.0.113.1:80"), &listeners), None);
    for (text, name) in rules.iter().rev() {
        steering.bind(binding(text), &label(name)).unwrap();
    }
    check(&mut steering);
    steering.replace(None).unwrap();
    steering
        .replace(rules.map(|(text, name)| rule(text, name)))
        .unwrap();
    check(&mut steering);
    // What stood behind comes forward.
    for (gone, address, who) in [
        ("tcp 203.0.113.0/24 8080", "203.0.113.1:8080", "narrow"),
        ("tcp 203.0.113.0/24 8000-8999", "203.0.113.1:8080", "range"),
        ("tcp 203.0.113.0/24 1024-65535", "203.0.113.1:8080", "all"),
        ("tcp 203.0.113.9 *", "203.0.113.9:8080", "all"),
    ] {
        steering.unbind(&binding(gone)).unwrap();
        let found = came_to(&node, to(address), &listeners).map(|n| names[n]);
        assert_eq!(found, Some(who), "without {gone}");
    }
}

#[test]
fn ten_thousand_prefixes() {
    needs!(Root, NetNs, Loopback, SkLookup, Sockmap);
    const SERVICES: u32 = 7;
    let node = world();
    let mut steering = Steering::new(&node.ns).unwrap();
    let listeners: Vec<TcpListener> = (0..SERVICES)
        .map(|_| listen(&node, "127.0.0.1:0"))
        .collect();
    let name = |n: u32| label(&format!("service{}", n % SERVICES));
    for (n, listener) in (0..).zip(&listeners) {
        steering.register(&name(n), listener).unwrap();
    }
    // 10,000 networks of 64 addresses, on changing ports.
    let address = |n: u32, host: u32| Ipv4Addr::from_bits(0x6440_0000 + (n << 6) + host);
    let ports = |n: u32| ["80", "*", "8000-8999"][n as usize % 3];
    let rules = (0..10_000).map(|n| {
        let text = format!("tcp {}/26 {}", address(n, 0), ports(n));
        Rule::new(binding(&text), name(n))
    });
    let changes = steering.replace(rules).unwrap();
    assert_eq!(changes.added, 10_000);
    for n in 0..10_000 {
        for (host, port) in [(0, 80), (63, 8500)] {
            let at = SocketAddr::new(IpAddr::V4(address(n, host)), port);
            let is_there = matches!((n % 3, port), (0, 80) | (1, _) | (2, 8500));
            let right = match is_there {
                true => Answer::Socket(cookie(&listeners[(n % SERVICES) as usize])),
                false => Answer::Pass,
            };
            let (protocol, from) = client(Protocol::Tcp, at, 1);
            assert_eq!(steering.ask(protocol, from, at).unwrap(), right, "{at}");
        }
    }
    let listeners: Vec<&TcpListener> = listeners.iter().collect();
    for n in (0..10_000).step_by(97) {
        let port = if n % 3 == 0 { 80 } else { 8500 };
        let at = SocketAddr::new(IpAddr::V4(address(n, n % 64)), port);
        let who = (n % SERVICES) as usize;
        assert_eq!(came_to(&node, at, &listeners), Some(who), "{at}");
    }
    // One more, and one less.
    steering
        .bind(binding("tcp 100.64.0.1 80"), &name(5))
        .unwrap();
    assert_eq!(came_to(&node, to("100.64.0.1:80"), &listeners), Some(5));
    steering.unbind(&binding("tcp 100.64.0.1 80")).unwrap();
    assert_eq!(came_to(&node, to("100.64.0.1:80"), &listeners), Some(0));
    assert_eq!(steering.rules().unwrap().len(), 10_000);
}

#[test]
fn a_listener_that_dies_leaves_no_black_hole() {
    needs!(Root, NetNs, Loopback, SkLookup, Sockmap);
    let node = world();
    let mut steering = Steering::new(&node.ns).unwrap();
    let web = label("web");
    steering
        .bind(binding("tcp 203.0.113.0/24 *"), &web)
        .unwrap();
    let mut listeners: Vec<TcpListener> = (0..4).map(|_| listen(&node, "127.0.0.1:0")).collect();
    for listener in &listeners {
        steering.register(&web, listener).unwrap();
    }
    // Nobody tells the program; the others have all of it.
    while let Some(dead) = listeners.pop() {
        drop(dead);
        assert_eq!(steering.sockets(&web).unwrap().len(), listeners.len());
        let living: Vec<&TcpListener> = listeners.iter().collect();
        for port in 1..40 {
            let found = came_to(
                &node,
                SocketAddr::new([203, 0, 113, 1].into(), port),
                &living,
            );
            assert_eq!(
                found.is_some(),
                !living.is_empty(),
                "{port}, {} left",
                living.len()
            );
        }
    }
    // None is left. Who is bound there gets it only if the service says so.
    let bound = listen(&node, "203.0.113.1:80");
    assert_eq!(came_to(&node, to("203.0.113.1:80"), &[&bound]), None);
    steering.set_fallback(&web, Fallback::Pass).unwrap();
    assert_eq!(came_to(&node, to("203.0.113.1:80"), &[&bound]), Some(0));
    assert_eq!(came_to(&node, to("203.0.113.1:81"), &[&bound]), None);
    steering.set_fallback(&web, Fallback::Drop).unwrap();
    assert_eq!(came_to(&node, to("203.0.113.1:80"), &[&bound]), None);
    let [hits, misses, errors] = counted(&mut steering, "tcp 203.0.113.0/24 *");
    assert_eq!([hits, misses, errors], [3 * 39, 39 + 4, 0]);
    // A new one takes the first slot again.
    let again = listen(&node, "127.0.0.1:0");
    let there = steering.register(&web, &again).unwrap();
    assert_eq!(there.places[0].slot, 0);
    assert_eq!(
        came_to(&node, to("203.0.113.1:80"), &[&again, &bound]),
        Some(0)
    );
}

#[test]
fn sockets_share_flows_and_keep_them() {
    needs!(Root, NetNs, Loopback, SkLookup, Sockmap);
    let node = world();
    let mut steering = Steering::new(&node.ns).unwrap();
    let dns = label("dns");
    steering
        .bind(binding("udp 203.0.113.0/24 53"), &dns)
        .unwrap();
    steering
        .bind(binding("udp 2001:db8:71::/48 53"), &dns)
        .unwrap();
    let sockets: Vec<UdpSocket> = (0..8).map(|_| datagrams(&node, "[::]:0")).collect();
    for socket in &sockets {
        steering.register(&dns, socket).unwrap();
    }
    let all = |steering: &Steering, at: SocketAddr| -> Vec<u64> {
        let ports = 1..=2000;
        let found = ports.map(|port| {
            let (protocol, from) = client(Protocol::Udp, at, port);
            match steering.ask(protocol, from, at).unwrap() {
                Answer::Socket(cookie) => cookie,
                other => panic!("{other:?}"),
            }
        });
        found.collect()
    };
    for at in [
        to("203.0.113.1:53"),
        to("[2001:db8:71::1]:53"),
    ] {
        let before = all(&steering, at);
        assert_eq!(before, all(&steering, at), "a flow has one socket");
        for socket in &sockets {
            let own = before.iter().filter(|c| **c == cookie(socket)).count();
            assert!(
                (150..=350).contains(&own),
                "{own} of 2000, where 250 is even"
            );
        }
        // One goes: its flows alone move, and to all others.
        steering.unregister(&dns, cookie(&sockets[3])).unwrap();
        let without = all(&steering, at);
        let pairs = || before.iter().zip(&without);
        assert!(pairs().all(|(a, b)| a == b || *a == cookie(&sockets[3])));
        for socket in sockets.iter().filter(|s| cookie(*s) != cookie(&sockets[3])) {
            let won = pairs()
                .filter(|(a, b)| a != b && **b == cookie(socket))
                .count();
            assert!(won > 10, "{won}");
        }
        // It comes back: so do they.
        steering.register(&dns, &sockets[3]).unwrap();
        assert_eq!(all(&steering, at), before);
    }
}

#[test]
fn a_group_of_reuseport_sockets_is_no_service() {
    needs!(Root, NetNs, Loopback, SkLookup, Sockmap);
    use nix::sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen, setsockopt, socket,
        sockopt,
    };
    let node = world();
    let make = || {
        let family = AddressFamily::Inet;
        let made = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        setsockopt(&made, sockopt::ReusePort, &true).unwrap();
        let at = SockaddrIn::new(127, 0, 0, 1, 9000);
        bind(std::os::fd::AsRawFd::as_raw_fd(&made), &at).unwrap();
        listen(&made, Backlog::new(4096).unwrap()).unwrap();
        let made = TcpListener::from(made);
        made.set_nonblocking(true).unwrap();
        made
    };
    let group = node.run(|| [make(), make(), make()]).unwrap();
    let group: [&TcpListener; 3] = std::array::from_fn(|n| &group[n]);
    let mut steering = Steering::new(&node.ns).unwrap();
    let web = label("web");
    steering
        .bind(binding("tcp 203.0.113.0/24 80"), &web)
        .unwrap();
    steering.register(&web, group[1]).unwrap();
    for _ in 0..30 {
        assert_eq!(came_to(&node, to("203.0.113.1:80"), &group), Some(1));
    }
    for socket in group {
        steering.register(&web, socket).unwrap();
    }
    let mut counts = [0; 3];
    for _ in 0..90 {
        counts[came_to(&node, to("203.0.113.1:80"), &group).unwrap()] += 1;
    }
    assert!(counts.iter().all(|count| *count > 5), "{counts:?}");
}

#[test]
fn wrong_sockets_are_told_so() {
    needs!(Root, NetNs, Loopback, SkLookup, Sockmap);
    let node = world();
    let mut steering = Steering::new(&node.ns).unwrap();
    let web = label("web");
    let mut refused =
        |socket: &dyn Fn(&mut Steering) -> Result<(), Error>| match socket(&mut steering)
            .unwrap_err()
        {
            Error::Socket { label, problem } => {
                assert_eq!(label.as_str(), "web");
                problem
            }
            other => panic!("{other}"),
        };
    let file = std::fs::File::open("/proc/self/stat").unwrap();
    let unix = std::os::unix::net::UnixDatagram::unbound().unwrap();
    let here = listen(&node, "203.0.113.1:80");
    let stream = node
        .run(|| TcpStream::connect("203.0.113.1:80"))
        .unwrap()
        .unwrap();
    let connected = datagrams(&node, "127.0.0.1:0");
    connected.connect(connected.local_addr().unwrap()).unwrap();
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let sctp_like = unix;
    let unbound = node
        .run(|| {
            use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
            socket(
                AddressFamily::Inet,
                SockType::Datagram,
                SockFlag::SOCK_CLOEXEC,
                None,
            )
        })
        .unwrap()
        .unwrap();
    let icmp = node
        .run(|| {
            use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
            let flags = SockFlag::SOCK_CLOEXEC;
            socket(
                AddressFamily::Inet,
                SockType::Raw,
                flags,
                SockProtocol::Icmp,
            )
        })
        .unwrap()
        .unwrap();
    let web = &web;
    macro_rules! problem {
        ($socket:expr) => {
            refused(&|steering: &mut Steering| steering.register(web, &$socket).map(drop))
        };
    }
    assert_eq!(problem!(file), SocketProblem::NoSocket);
    assert_eq!(problem!(sctp_like), SocketProblem::Family(1));
    assert_eq!(problem!(icmp), SocketProblem::Protocol(1));
    assert_eq!(problem!(stream), SocketProblem::NotListening);
    assert_eq!(problem!(connected), SocketProblem::Connected);
    assert_eq!(problem!(unbound), SocketProblem::Unbound);
    assert_eq!(problem!(elsewhere), SocketProblem::Namespace);
    // Nothing came of it, and of two where one is wrong, none is taken.
    let switched = steering.switch(
        web,
        [
            std::os::fd::AsFd::as_fd(&here),
            std::os::fd::AsFd::as_fd(&stream),
        ],
    );
    assert!(matches!(switched, Err(Error::Socket { .. })));
    assert_eq!(steering.services().unwrap(), []);
    let unknown = steering.sockets(web).unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "there is no service web; there are: none (a binding or a socket makes it)"
    );
}

#[test]
fn services_are_made_and_forgotten() {
    needs!(Root, NetNs, Loopback, SkLookup, Sockmap);
    let node = world();
    let mut steering = Steering::new(&node.ns).unwrap();
    let (web, api) = (label("web"), label("api"));
    let at = binding("tcp 203.0.113.0/24 80");
    steering.bind(at, &web).unwrap();
    let held = steering.forget(&web).unwrap_err();
    assert!(matches!(held, Error::Bound { .. }), "{held}");
    let listener = listen(&node, "127.0.0.1:0");
    steering.register(&web, &listener).unwrap();
    steering.unbind(&at).unwrap();
    steering.forget(&web).unwrap();
    // Another one gets its number, and none of its sockets.
    steering.bind(at, &api).unwrap();
    assert_eq!(steering.sockets(&api).unwrap(), []);
    assert_eq!(came_to(&node, to("203.0.113.1:80"), &[&listener]), None);
    let twice = steering.replace([
        rule("tcp 203.0.113.0/24 80", "a"),
        rule("tcp 203.0.113.0/24 80", "b"),
    ]);
    assert_eq!(
        twice.unwrap_err().to_string(),
        "tcp 203.0.113.0/24 80: two rules, for a and for b (a binding has one service)"
    );
    let changes = steering
        .edit(|rules| {
            rules.insert(binding("tcp 203.0.113.0/24 81"), web.clone());
        })
        .unwrap();
    let right = Changes {
        added: 1,
        kept: 1,
        ..Changes::default()
    };
    assert_eq!(changes, right);
}
