//! Connections through the proxy, from sockets to sockets: the right one answers, and every byte arrives.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

mod support;

use bpfsmith_datapath::choice::Wish;
use bpfsmith_datapath::config::Mode;
use bpfsmith_datapath::reason::Reason;
use bpfsmith_gate::{is_slow, needs};
use bpfsmith_net::Feature;
use support::counters::protocols;
use support::people::{Server, bulk, who, who_udp};
use support::serving::{SERVED, Wanted, Way, Work, asked, sources};
use support::world::{Neighbours, Plan, Vip, World};

/// What is sent in each direction.
fn much() -> u64 {
    if is_slow() { 10_000_000 } else { 100_000_000 }
}

/// Both families and protocols, with every byte, from one client.
fn works(work: &Work<'_>, servers: &[Server]) {
    let node = &work.world.client().node;
    for to in asked() {
        for name in [who(node, to), who_udp(node, to)] {
            assert!(servers.iter().any(|it| it.name == name), "{name}");
        }
        bulk(node, to, much());
    }
    for server in servers {
        assert_eq!(server.failed(), Vec::<String>::new());
    }
    work.assert_good_sums();
    assert_eq!(work.count(Reason::Malformed), 0);
}

fn through(mode: Mode, way: Way) {
    let world = World::new(1, 2);
    let servers = world.serve(SERVED);
    let wanted = Wanted::of(&world).mode(mode);
    for sums in way.sums() {
        world.compute(*sums);
        let work = Work::start(&world, &wanted, way);
        works(&work, &servers);
        let peers: Vec<_> = servers.iter().flat_map(Server::peers).collect();
        for peer in peers {
            let clients = world.client().port.addresses();
            match mode {
                Mode::FullNat => assert!(sources().contains(&peer.ip()), "{peer}"),
                _ => assert!(clients.contains(&peer.ip()), "{peer}"),
            }
        }
    }
}

#[test]
fn destinations_change_and_packets_leave_by_devices() {
    needs!(NetNs, Veth, Clsact);
    through(Mode::Dnat, Way::Device);
}

#[test]
fn destinations_change_and_packets_go_to_far_ends() {
    needs!(NetNs, Veth, Clsact);
    through(Mode::Dnat, Way::Peer);
}

#[test]
fn destinations_change_in_the_driver() {
    needs!(NetNs, Veth, Clsact, XdpFrags);
    through(Mode::Dnat, Way::Xdp);
}

#[test]
fn sources_change_too_and_packets_leave_by_devices() {
    needs!(NetNs, Veth, Clsact);
    through(Mode::FullNat, Way::Device);
}

#[test]
fn sources_change_too_and_packets_go_to_far_ends() {
    needs!(NetNs, Veth, Clsact);
    through(Mode::FullNat, Way::Peer);
}

#[test]
fn sources_change_too_in_the_driver() {
    needs!(NetNs, Veth, Clsact, XdpFrags);
    through(Mode::FullNat, Way::Xdp);
}

/// What programs do with most packets is counted: they did go through them.
#[test]
fn packets_go_through_the_program_and_not_around_it() {
    needs!(NetNs, Veth, Clsact, XdpFrags);
    for way in Way::ALL {
        let world = World::new(1, 1);
        let _servers = world.serve(SERVED);
        let work = Work::start(&world, &Wanted::of(&world), way);
        let [v4, _] = asked();
        assert_eq!(who(&world.client().node, v4), "b0");
        assert_eq!(work.count(Reason::Opened), 1);
        assert_eq!(work.count(Reason::Answered), 1);
        assert!(work.count(Reason::Forwarded) >= 6);
        let choices = work.attached.choices();
        let texts: Vec<_> = choices.iter().map(ToString::to_string).collect();
        match way {
            Way::Device => assert_eq!(texts[0], "front: TCX: as wished"),
            Way::Peer => assert_eq!(
                texts[0],
                "front: TCX: veth is virtual: packets come joined and without checksums, and stay so"
            ),
            Way::Xdp => assert_eq!(texts[1], "back0: native XDP, TCX: as wished"),
        }
        assert!(
            choices
                .iter()
                .all(|it| it.goes_to_peer == (way != Way::Device))
        );
    }
}

/// Each device has a program of its own kind, and packets go from each to each.
#[test]
fn kinds_of_programs_mix() {
    needs!(NetNs, Veth, Clsact, XdpFrags);
    for wishes in [
        [Wish::Native, Wish::Best],
        [Wish::Best, Wish::Native],
        [Wish::Generic, Wish::Generic],
        [Wish::Generic, Wish::Best],
    ] {
        let world = World::new(1, 1);
        let servers = world.serve(SERVED);
        world.suit_xdp();
        let native = wishes.contains(&Wish::Native);
        if native && wishes[0] == Wish::Best {
            world
                .client()
                .port
                .enable(&world.client().node, Feature::TX_CHECKSUM);
        }
        let work = Work::start_as(&world, &Wanted::of(&world).config(), &wishes);
        works(&work, &servers);
    }
}

/// The proxy's host has the address that clients ask for, and the one that backends answer.
#[test]
fn addresses_may_be_the_proxys_own() {
    needs!(NetNs, Veth, Clsact, XdpFrags);
    for way in Way::ALL {
        let world = Plan::new(1, 1)
            .vip(Vip::Owned)
            .neighbours(Neighbours::Dynamic)
            .build();
        let servers = world.serve(SERVED);
        let mut wanted = Wanted::of(&world);
        wanted.sources = world.proxy.backs[0].addresses().into();
        let work = Work::start(&world, &wanted.clone().mode(Mode::FullNat), way);
        works(&work, &servers);
        let peers = servers[0].peers();
        assert!(peers.iter().all(|it| wanted.sources.contains(&it.ip())));
    }
}

/// The first packet to a machine whose Ethernet address nobody knows yet is not lost.
#[test]
fn strangers_get_the_first_packet() {
    needs!(NetNs, Veth, Clsact, XdpFrags);
    for way in Way::ALL {
        for mode in [Mode::Dnat, Mode::FullNat] {
            let world = Plan::new(1, 1).neighbours(Neighbours::Dynamic).build();
            let servers = world.serve(SERVED);
            let work = Work::start(&world, &Wanted::of(&world).mode(mode), way);
            for to in asked() {
                forget(&world);
                assert_eq!(who_udp(&world.client().node, to), "b0", "{way:?} {mode:?}");
                forget(&world);
                assert_eq!(who(&world.client().node, to), "b0", "{way:?} {mode:?}");
            }
            assert_eq!(servers[0].datagrams(), 2);
            for (node, _) in world.ports() {
                let all = protocols(node);
                assert_eq!(all["TcpExt.TCPSynRetrans"], 0, "{way:?} {mode:?}");
                assert_eq!(all["Tcp.RetransSegs"], 0, "{way:?} {mode:?}");
            }
            work.assert_good_sums();
        }
    }
}

/// The proxy knows nobody's Ethernet address any more.
fn forget(world: &World) {
    let net = &world.proxy.node.net;
    for neighbour in net.neighbours().unwrap() {
        let hosts = world.clients.iter().chain(&world.backends);
        if hosts
            .flat_map(|it| it.port.addresses())
            .any(|it| it == neighbour.addr)
        {
            net.delete_neighbour(neighbour.index, neighbour.addr)
                .unwrap();
        }
    }
}
