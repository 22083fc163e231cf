//! ICMP errors and fragments between real machines: paths that become narrow, ports that nobody has,
//! packets that come too far, and datagrams in pieces.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

mod support;

use bpfsmith_datapath::config::Mode;
use bpfsmith_datapath::reason::Reason;
use bpfsmith_gate::{deadline, needs};
use bpfsmith_net::{Device, Kind, Node, Prefix, Route};
use nix::cmsg_space;
use nix::libc::sock_extended_err;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;
use support::people::{Server, Session, ask, datagrams};
use support::serving::{SERVED, Wanted, Way, Work, asked};
use support::world::{Host, LIMIT, Port, Proxy, World, forward, settle, wait_ready};

const BYTES: u64 = 2_000_000;
const NARROW: u32 = 1400;

/// Opens connections over wide paths, makes the paths narrow, and sends until somebody is told for this
/// reason, and then a lot.
#[track_caller]
fn over_what_becomes_narrow(work: &Work<'_>, told: Reason, narrow: impl FnOnce()) {
    let node = &work.world.client().node;
    let open = |to| Session::open(node, to).unwrap();
    let pairs = asked().map(|to| (open(to), open(to)));
    narrow();
    for (mut first, second) in pairs {
        let before = work.count(told);
        // What leads on is asked for about every second.
        deadline(LIMIT, || {
            first.echo(&[7; 20_000]).unwrap();
            (work.count(told) > before).then_some(())
        });
        second.bulk(BYTES, BYTES).unwrap();
    }
    assert_eq!(work.count(Reason::Untold), 0);
    work.assert_good_sums();
}

/// A client, a proxy and a server, however packets go through and whatever addresses change.
#[track_caller]
fn everywhere(body: impl Fn(&Work<'_>)) {
    for way in Way::ALL {
        for mode in [Mode::Dnat, Mode::FullNat] {
            eprintln!("{way:?} {mode:?}");
            let world = World::new(1, 1);
            let _servers = world.serve(SERVED);
            body(&Work::start(&world, &Wanted::of(&world).mode(mode), way));
        }
    }
}

/// So that no long packet fits any more between this device and the host behind it.
fn narrow(proxy: &Proxy, device: &Port, host: &Host) {
    proxy.node.net.set_mtu(device.index, NARROW).unwrap();
    host.node.net.set_mtu(host.port.index, NARROW).unwrap();
}

#[test]
fn the_way_to_backends_becomes_narrow() {
    needs!(NetNs, Veth, Clsact, XdpFrags);
    everywhere(|work| {
        let (proxy, host) = (&work.world.proxy, &work.world.backends[0]);
        over_what_becomes_narrow(work, Reason::TooBig, || {
            narrow(proxy, &proxy.backs[0], host);
        });
    });
}

#[test]
fn the_way_to_clients_becomes_narrow() {
    needs!(NetNs, Veth, Clsact, XdpFrags);
    everywhere(|work| {
        let (proxy, host) = (&work.world.proxy, work.world.client());
        over_what_becomes_narrow(work, Reason::TooBig, || narrow(proxy, &proxy.front, host));
    });
}

/// A machine behind the first backend, which is its router.
struct Behind {
    node: Node,
    addresses: [IpAddr; 2],
}

impl Behind {
    fn new(world: &World) -> Behind {
        let router = &world.backends[0];
        forward(&router.node);
        let node = Node::new().unwrap();
        let peer = Device::new("far").netns(&node.ns);
        let device = Device::new("near");
        let add = router.node.net.add_link(&device, &Kind::Veth(peer));
        add.unwrap();
        let sides: [(&Node, &str, [IpAddr; 2]); 2] = [
            (&router.node, "near", Behind::at(1)),
            (&node, "far", Behind::at(2)),
        ];
        let ends = sides.map(|(side, name, both)| {
            let index = side.net.link(name).unwrap().index;
            settle(side, index, 24, both);
            (side, index, both)
        });
        for (side, index, both) in ends {
            wait_ready(side, index, both);
        }
        for via in Behind::at(1) {
            node.net.add_route(&Route::default_via(via)).unwrap();
        }
        let addresses = Behind::at(2);
        for (ip, via) in addresses.into_iter().zip(router.port.addresses()) {
            let route = Route::to(Prefix::host(ip)).via(via);
            world.proxy.node.net.add_route(&route).unwrap();
        }
        Behind { node, addresses }
    }

    fn at(number: u8) -> [IpAddr; 2] {
        [
            Ipv4Addr::new(10, 40, 0, number).into(),
            Ipv6Addr::new(0xfd40, 0, 0, 0, 0, 0, 0, number.into()).into(),
        ]
    }
}

#[test]
fn the_way_behind_a_router_becomes_narrow() {
    needs!(NetNs, Veth, Clsact, XdpFrags);
    for way in Way::ALL {
        for mode in [Mode::Dnat, Mode::FullNat] {
            let world = World::new(1, 1);
            let behind = Behind::new(&world);
            let at = behind.addresses.map(|ip| SocketAddr::new(ip, SERVED));
            let _server = Server::start(&behind.node, "far", &at);
            let wanted = Wanted::to(vec![(behind.addresses, 1)]).mode(mode);
            let work = Work::start(&world, &wanted, way);
            over_what_becomes_narrow(&work, Reason::IcmpError, || {
                let router = &world.backends[0].node.net;
                router
                    .set_mtu(router.link("near").unwrap().index, NARROW)
                    .unwrap();
                let far = &behind.node.net;
                far.set_mtu(far.link("far").unwrap().index, NARROW).unwrap();
            });
            work.assert_good_sums();
        }
    }
}

#[test]
fn nobody_has_the_port() {
    needs!(NetNs, Veth, Clsact, XdpFrags);
    for way in Way::ALL {
        for mode in [Mode::Dnat, Mode::FullNat] {
            let world = World::new(1, 1);
            let work = Work::start(&world, &Wanted::of(&world).mode(mode), way);
            for to in asked() {
                let socket = datagrams(&world.client().node, to);
                socket.send(b"anybody?").unwrap();
                let error = deadline(LIMIT, || match socket.recv(&mut [0; 16]) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => None,
                    other => Some(other),
                });
                let error = error.expect_err("nobody answers");
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{way:?} {to}");
            }
            assert_eq!(work.count(Reason::IcmpError), 2);
        }
    }
}

/// Who says that a datagram on this socket went too far.
fn offender(socket: &UdpSocket) -> (sock_extended_err, Option<IpAddr>) {
    let mut space = cmsg_space!([u8; 512]);
    deadline(LIMIT, || {
        let flags = MsgFlags::MSG_ERRQUEUE;
        let message = recvmsg::<()>(socket.as_raw_fd(), &mut [], Some(&mut space), flags).ok()?;
        message.cmsgs().unwrap().find_map(|part| match part {
            ControlMessageOwned::Ipv4RecvErr(error, from) => {
                let ip = from.map(|it| Ipv4Addr::from(it.sin_addr.s_addr.to_ne_bytes()).into());
                Some((error, ip))
            }
            ControlMessageOwned::Ipv6RecvErr(error, from) => {
                let ip = from.map(|it| Ipv6Addr::from(it.sin6_addr.s6_addr).into());
                Some((error, ip))
            }
            _ => None,
        })
    })
}

/// Who traces the way to a service finds the proxy on it.
#[test]
fn the_proxy_is_a_hop() {
    needs!(NetNs, Veth, Clsact, XdpFrags);
    for way in Way::ALL {
        let world = World::new(1, 1);
        let _servers = world.serve(SERVED);
        let work = Work::start(&world, &Wanted::of(&world), way);
        for to in asked() {
            let socket = datagrams(&world.client().node, to);
            let kind = match to {
                SocketAddr::V4(_) => {
                    setsockopt(&socket, sockopt::Ipv4RecvErr, &true).unwrap();
                    setsockopt(&socket, sockopt::Ipv4Ttl, &1).unwrap();
                    11
                }
                SocketAddr::V6(_) => {
                    setsockopt(&socket, sockopt::Ipv6RecvErr, &true).unwrap();
                    setsockopt(&socket, sockopt::Ipv6Ttl, &1).unwrap();
                    3
                }
            };
            socket.send(b"how far?").unwrap();
            let (error, from) = offender(&socket);
            assert_eq!((error.ee_type, error.ee_code), (kind, 0), "{way:?} {to}");
            assert_eq!(from, Some(to.ip()), "{way:?}");
            // With more time to live, the same flow gets there.
            match to {
                SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4Ttl, &2).unwrap(),
                SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6Ttl, &2).unwrap(),
            }
            let _ = socket.take_error();
            assert_eq!(ask(&socket, b"and now?").unwrap(), "b0");
        }
        assert_eq!(work.count(Reason::Expired), 2);
    }
}

/// A datagram is answered with all its bytes. Pieces may be overtaken or lost, and then it is sent again.
#[track_caller]
fn comes_back(socket: &UdpSocket, question: &[u8]) {
    socket.set_nonblocking(false).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let mut bytes = vec![0; 1 << 16];
    let expected = [b"b0 ", question].concat();
    deadline(LIMIT, || {
        socket.send(question).unwrap();
        let mut heard = || socket.recv(&mut bytes).map(|len| bytes[..len] == expected);
        // What is said twice may be answered twice: answers to the question before.
        while let Ok(is_answer) = heard() {
            if is_answer {
                return Some(());
            }
        }
        None
    });
}

#[test]
fn datagrams_in_pieces() {
    needs!(NetNs, Veth, Clsact, XdpFrags);
    everywhere(|work| {
        for to in asked() {
            let socket = datagrams(&work.world.client().node, to);
            for len in [
                8192, 1473, 1472, 3000, 8000, 20_000, 60_000,
            ] {
                let mut question = vec![0; len];
                support::people::pattern(0, &mut question);
                comes_back(&socket, &question);
            }
        }
        work.assert_good_sums();
    });
}
