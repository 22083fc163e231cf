//! The network that the proxy is tested in works without a proxy, so that what fails with one is its
//! fault.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

mod support;

use bpfsmith_gate::{deadline, needs};
use bpfsmith_net::Feature;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use support::counters::{BadSums, bad_sums, traffic};
use support::judge::{L4, View, judge};
use support::packet::Frame;
use support::people::{Server, Session, ask, bulk, datagrams, try_who, who, who_udp};
use support::raw::Raw;
use support::world::{LIMIT, Neighbours, Plan, VIP4, VIP6, Vip, World};

const OFFLOADS: [Feature; 4] = [
    Feature::TX_CHECKSUM,
    Feature::TSO,
    Feature::GSO,
    Feature::GRO,
];

/// Everybody reaches everybody, with every byte.
fn works(world: &World, servers: &[Server], port: u16, bytes: u64) {
    for client in &world.clients {
        for (backend, server) in world.backends.iter().zip(servers) {
            for ip in backend.port.addresses() {
                let to = SocketAddr::new(ip, port);
                assert_eq!(who(&client.node, to), server.name);
                assert_eq!(who_udp(&client.node, to), server.name);
                assert_eq!(bulk(&client.node, to, bytes), server.name);
                let mut session = Session::open(&client.node, to).unwrap();
                for word in ["one", "two"] {
                    session.echo(word.as_bytes()).unwrap();
                }
                assert!(server.peers().contains(&session.local()));
                session.end().unwrap();
            }
        }
    }
    for server in servers {
        let clients = u64::try_from(world.clients.len()).unwrap();
        assert_eq!(server.accepted(), 6 * clients);
        assert_eq!(server.datagrams(), 2 * clients);
        assert_eq!(server.failed(), Vec::<String>::new());
    }
    for (node, _) in world.ports() {
        assert_eq!(bad_sums(node), BadSums::default());
    }
}

#[test]
fn one_client_and_one_backend() {
    needs!(NetNs, Veth);
    let world = World::new(1, 1);
    works(&world, &world.serve(80), 80, 10_000_000);
    let sent = traffic(&world.client().node, "client0").sent;
    let received = traffic(&world.proxy.node, "front").received;
    assert!(sent.bytes > 20_000_000 && received.packets > 0, "{sent:?}");
    assert_eq!(received.errors, 0);
}

#[test]
fn many_who_ask_for_each_other() {
    needs!(NetNs, Veth);
    let plan = Plan::new(3, 3).neighbours(Neighbours::Dynamic);
    let world = plan.build();
    works(&world, &world.serve(8080), 8080, 100_001);
}

#[test]
fn without_offloads() {
    needs!(NetNs, Veth);
    let world = World::new(1, 1);
    for feature in OFFLOADS {
        world.disable(feature);
        for (node, port) in world.ports() {
            assert!(
                !port.features(node).has(feature),
                "{}: {feature:?}",
                port.name
            );
        }
    }
    works(&world, &world.serve(80), 80, 1_000_000);
    world.enable(Feature::GRO);
    for (node, port) in world.ports() {
        assert!(port.features(node).has(Feature::GRO));
    }
}

#[test]
fn the_vip_is_somebodys_or_nobodys() {
    needs!(NetNs, Veth);
    for vip in [Vip::Routed, Vip::Owned] {
        let world = Plan::new(1, 0).vip(vip).build();
        for ip in [IpAddr::from(VIP4), VIP6.into()] {
            let error = try_who(&world.client().node, SocketAddr::new(ip, 80)).unwrap_err();
            let refused = error.kind() == ErrorKind::ConnectionRefused;
            assert_eq!(refused, vip == Vip::Owned, "{ip} {vip:?}: {error}");
            let at = SocketAddr::new(ip, 81);
            if vip == Vip::Owned {
                let server = Server::start(&world.proxy.node, "proxy", &[at]);
                assert_eq!(who(&world.client().node, at), server.name);
            }
        }
    }
}

/// Sends a packet as it is.
fn send(raw: &Raw, frame: &Frame) {
    assert_eq!(raw.send(frame), Ok(frame.packet().len()));
}

/// A kernel takes what is built here, and refuses it when the checksum is off, and counts that.
#[test]
fn kernels_agree_with_built_packets() {
    needs!(NetNs, Veth);
    let world = World::new(1, 1);
    let servers = world.serve(80);
    let raw = Raw::new(&world.client().node);
    let (client, backend) = (&world.client().port, &world.backends[0]);
    for (src, dst) in client.addresses().into_iter().zip(backend.port.addresses()) {
        let base = Frame::ip(src, dst);
        let udp = base.clone().udp(5_000, 80).payload(b"hello");
        let before = servers[0].datagrams();
        send(&raw, &udp);
        deadline(LIMIT, || {
            (servers[0].datagrams() == before + 1).then_some(())
        });
        let mut expected = bad_sums(&backend.node);
        for frame in [
            udp,
            base.clone().tcp(5_001, 80).flags("S"),
            base.ping(1, 2).payload(b"x"),
        ] {
            send(&raw, &frame.clone().l4_sum_off_by(1));
            *match (frame.protocol(), src.is_ipv4()) {
                (6, _) => &mut expected.tcp,
                (17, true) => &mut expected.udp,
                (17, false) => &mut expected.udp6,
                (_, true) => &mut expected.icmp,
                (_, false) => &mut expected.icmp6,
            } += 1;
            deadline(LIMIT, || {
                (bad_sums(&backend.node) == expected).then_some(())
            });
        }
        assert_eq!(servers[0].datagrams(), before + 1);
    }
}

/// The judge finds nothing wrong with what kernels send.
#[test]
fn the_judge_agrees_with_kernels() {
    needs!(NetNs, Veth);
    let world = World::new(1, 1);
    for feature in OFFLOADS {
        world.disable(feature);
    }
    let (client, backend) = (&world.client().node, &world.backends[0]);
    let open = || {
        let protocol = SockProtocol::EthAll;
        socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_NONBLOCK,
            protocol,
        )
    };
    let tap: OwnedFd = world.proxy.node.run(open).unwrap().unwrap();
    let servers = world.serve(80);
    for ip in backend.port.addresses() {
        let to = SocketAddr::new(ip, 80);
        assert_eq!(who(client, to), "b0");
        assert_eq!(bulk(client, to, 3_001), "b0");
        assert_eq!(who_udp(client, to), "b0");
        let closed = datagrams(client, SocketAddr::new(ip, 81));
        let error = ask(&closed, b"anybody?").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }
    drop(servers);
    let mut bytes = vec![0; 1 << 17];
    let mut seen: Vec<View> = Vec::new();
    while let Ok(len) = nix::unistd::read(&tap, &mut bytes) {
        let (view, wrong) = judge(&bytes[..len]);
        assert_eq!(wrong, [], "{view:#?}");
        seen.push(view);
    }
    let count = |is: fn(&View) -> bool| seen.iter().filter(|view| is(view)).count();
    assert!(count(|it| matches!(it.l4, L4::Tcp { .. })) > 40);
    assert!(count(|it| matches!(it.l4, L4::Udp { .. })) >= 12);
    let inner = count(|it| it.inner.as_ref().is_some_and(|it| it.ports().is_some()));
    assert!(inner >= 4, "{inner} errors, in and out, of both families");
}

/// A failing test ends: servers stop although a client is still there.
#[test]
fn servers_do_not_outlive_a_failure() {
    needs!(NetNs, Veth);
    let world = World::new(1, 1);
    let to = SocketAddr::new(world.backends[0].port.v4.into(), 80);
    let mut session = None;
    let failing = std::panic::AssertUnwindSafe(|| {
        let servers = world.serve(80);
        let session = session.insert(Session::open(&world.client().node, to).unwrap());
        session.echo(b"still here").unwrap();
        assert!(servers.is_empty(), "as it has to");
    });
    assert!(std::panic::catch_unwind(failing).is_err());
    assert!(session.unwrap().echo(b"and now?").is_err());
}
