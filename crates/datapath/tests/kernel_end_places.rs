//! Backends in unusual places: on the proxy's own host, behind its bridge, on the client's machine, in
//! the client's network; and such that answer clients themselves.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

mod support;

use bpfsmith_datapath::choice::Wish;
use bpfsmith_datapath::config::Mode;
use bpfsmith_datapath::generation::Generation;
use bpfsmith_datapath::reason::Reason;
use bpfsmith_gate::{is_slow, needs};
use bpfsmith_net::{Address, Device, Feature, IfIndex, Kind, Node, Prefix, Route};
use std::net::{IpAddr, SocketAddr};
use support::counters::{BadSums, bad_sums, traffic};
use support::people::{Server, Session, bulk, who, who_udp};
use support::serving::{ASKED, SERVED, Wanted, Way, Work, asked, attach, vips};
use support::world::{World, settle, wait_ready};

fn much() -> u64 {
    if is_slow() { 2_000_000 } else { 50_000_000 }
}

/// Both families and protocols, from one machine to one server.
#[track_caller]
fn works(node: &Node, server: &Server) {
    for to in asked() {
        assert_eq!(who(node, to), server.name);
        assert_eq!(who_udp(node, to), server.name);
        bulk(node, to, much());
    }
    assert_eq!(server.failed(), Vec::<String>::new());
    assert_eq!(bad_sums(node), BadSums::default());
}

fn at(addresses: [IpAddr; 2], port: u16) -> [SocketAddr; 2] {
    addresses.map(|ip| SocketAddr::new(ip, port))
}

/// Answers of a backend on the proxy's own host come from the address that clients asked.
#[test]
fn the_proxy_is_a_backend_too() {
    needs!(NetNs, Veth, Clsact, XdpFrags);
    for way in Way::ALL {
        let world = World::new(2, 1);
        let own = world.proxy.backs[0].addresses();
        let local = Server::start(&world.proxy.node, "local", &at(own, SERVED));
        let _far = world.serve(SERVED);
        for sums in way.sums() {
            world.compute(*sums);
            let wanted = Wanted::to(vec![(own, 1)]);
            let work = Work::start(&world, &wanted, way);
            for client in &world.clients {
                works(&client.node, &local);
                // Who asks the backend itself hears it, and no listener.
                for to in at(own, SERVED) {
                    assert_eq!(who(&client.node, to), "local");
                    assert_eq!(who_udp(&client.node, to), "local");
                }
            }
            work.assert_good_sums();
            assert!(work.count(Reason::ToOwnSocket) > 0);
            let clients: Vec<IpAddr> = world
                .clients
                .iter()
                .flat_map(|it| it.port.addresses())
                .collect();
            assert!(local.peers().iter().all(|it| clients.contains(&it.ip())));
        }
    }
}

/// A backend that is on the proxy's own host from the next generation on, and then no more.
#[test]
fn the_proxy_becomes_a_backend() {
    needs!(NetNs, Veth, Clsact);
    let world = World::new(1, 1);
    let own = world.proxy.backs[0].addresses();
    let _local = Server::start(&world.proxy.node, "local", &at(own, SERVED));
    let _far = world.serve(SERVED);
    let node = &world.client().node;
    let mut work = Work::start(&world, &Wanted::of(&world), Way::Peer);
    let [to, _] = asked();
    let mut first = Session::open(node, to).unwrap();
    work.change(&Wanted::to(vec![(own, 1)]));
    let mut second = Session::open(node, to).unwrap();
    work.change(&Wanted::of(&world));
    let mut third = Session::open(node, to).unwrap();
    let names = [&first, &second, &third].map(|it| it.server.clone());
    assert_eq!(names, ["b0", "local", "b0"]);
    for session in [&mut first, &mut second, &mut third] {
        session.echo(b"still there?").unwrap();
    }
}

/// A server that listens on 127.0.0.1 alone.
#[test]
fn a_backend_on_the_loopback_network() {
    needs!(NetNs, Veth, Clsact);
    let world = World::new(1, 0);
    let host = &world.proxy.node;
    let [_, v6] = world.proxy.front.addresses();
    let own = [[127, 0, 0, 1].into(), v6];
    let local = Server::start(host, "local", &at(own, SERVED));
    let wanted = Wanted::to(vec![(own, 1)]);
    let generation = Generation::first(&wanted.config()).unwrap();
    let devices = [(world.proxy.front.index, Wish::Best)];
    let refused = attach(&world, &generation, &devices).unwrap_err();
    let setting = "net.ipv4.conf.front.route_localnet=1";
    assert!(refused.to_string().contains(setting), "{refused}");
    host.ns
        .set_sysctl("ipv4/conf/front/route_localnet", "1")
        .unwrap();
    let work = Work::start(&world, &wanted, Way::Peer);
    works(&world.client().node, &local);
    work.assert_good_sums();
    let own = Wanted::to(vec![(world.proxy.front.addresses(), 1)]).mode(Mode::FullNat);
    let generation = Generation::first(&own.config()).unwrap();
    let refused = attach(&world, &generation, &devices).unwrap_err();
    assert!(
        refused.to_string().contains("is on this machine"),
        "{refused}"
    );
}

/// A container at a bridge of the proxy's host.
#[test]
fn containers_at_a_bridge() {
    needs!(NetNs, Veth, Clsact);
    let world = World::new(1, 0);
    let host = &world.proxy.node;
    host.net
        .add_link(&Device::new("bridge0"), &Kind::Bridge)
        .unwrap();
    let bridge = host.net.link("bridge0").unwrap().index;
    let [gateway, inside] = [1, 2].map(|n| -> [IpAddr; 2] {
        [
            [10, 30, 0, n].into(),
            [0xfd30, 0, 0, 0, 0, 0, 0, n.into()].into(),
        ]
    });
    settle(host, bridge, 24, gateway);
    let container = Node::new().unwrap();
    let eth0 = Device::new("eth0").netns(&container.ns);
    host.net
        .add_link(&Device::new("plug0"), &Kind::Veth(eth0))
        .unwrap();
    let plug = host.net.link("plug0").unwrap().index;
    host.net.set_master(plug, bridge).unwrap();
    host.net.set_up(plug).unwrap();
    let eth0 = container.net.link("eth0").unwrap().index;
    settle(&container, eth0, 24, inside);
    for via in gateway {
        container.net.add_route(&Route::default_via(via)).unwrap();
    }
    wait_ready(host, bridge, gateway);
    wait_ready(&container, eth0, inside);
    let server = Server::start(&container, "contained", &at(inside, SERVED));
    let generation = Generation::first(&Wanted::to(vec![(inside, 1)]).config()).unwrap();
    let front = world.proxy.front.index;
    let devices = [
        (front, Wish::Best),
        (bridge, Wish::Best),
    ];
    let attached = attach(&world, &generation, &devices).unwrap();
    assert_eq!(
        attached.choices()[1].to_string(),
        "bridge0: TCX: bridge is virtual: packets come joined and without checksums, and stay so"
    );
    works(&world.client().node, &server);
    assert_eq!(bad_sums(&container), BadSums::default());
}

/// A backend asks for what it serves itself.
#[test]
fn a_backend_is_its_own_client() {
    needs!(NetNs, Veth, Clsact, XdpFrags);
    for way in Way::ALL {
        let world = World::new(1, 1);
        let servers = world.serve(SERVED);
        let mut wanted = Wanted::of(&world);
        wanted.sources = support::serving::sources();
        let work = Work::start(&world, &wanted, way);
        works(&world.backends[0].node, &servers[0]);
        let peers = servers[0].peers();
        assert!(peers.iter().all(|it| wanted.sources.contains(&it.ip())));
        // Others are seen as they are.
        works(&world.client().node, &servers[0]);
        let clients = world.client().port.addresses();
        let rest = &servers[0].peers()[peers.len()..];
        assert!(rest.iter().all(|it| clients.contains(&it.ip())));
        work.assert_good_sums();
    }
}

/// Client and backend share a network: only with a source of the proxy's own come answers back to it.
#[test]
fn client_and_backend_are_neighbours() {
    needs!(NetNs, Veth, Clsact, XdpFrags);
    for way in Way::ALL {
        let world = World::new(2, 0);
        let [client, backend] = [&world.clients[0], &world.clients[1]];
        let server = Server::start(
            &backend.node,
            "neighbour",
            &at(backend.port.addresses(), SERVED),
        );
        let mut wanted = Wanted::to(vec![(backend.port.addresses(), 1)]);
        wanted.sources = world.proxy.front.addresses().into();
        let wanted = wanted.mode(Mode::FullNat);
        let work = Work::start(&world, &wanted, way);
        works(&client.node, &server);
        let peers = server.peers();
        assert!(peers.iter().all(|it| wanted.sources.contains(&it.ip())));
        work.assert_good_sums();
    }
}

/// Answers take the short way, and what clients send goes through the proxy as it is.
#[test]
fn backends_answer_clients_themselves() {
    needs!(NetNs, Veth, Clsact, XdpFrags);
    for way in Way::ALL {
        let world = World::new(2, 0);
        let [client, backend] = [&world.clients[0], &world.clients[1]];
        for vip in vips() {
            let address = Address::new(IfIndex::LOOPBACK, Prefix::host(vip));
            backend.node.net.add_address(&address).unwrap();
        }
        let server = Server::start(&backend.node, "direct", &at(vips(), ASKED));
        let wanted = Wanted::to(vec![(backend.port.addresses(), 1)]).mode(Mode::DirectReturn);
        let work = Work::start(&world, &wanted, way);
        let before = traffic(&world.proxy.node, "front");
        works(&client.node, &server);
        let after = traffic(&world.proxy.node, "front");
        let clients = client.port.addresses();
        assert!(server.peers().iter().all(|it| clients.contains(&it.ip())));
        // What the client sent, twice over the same cable; of the answers nothing.
        let received = after.received.bytes - before.received.bytes;
        assert!(received > 2 * much() && received < 3 * much(), "{received}");
        assert_eq!(work.count(Reason::Answered), 4);
        work.assert_good_sums();
    }
}

/// Checksums of frames that are redirected are found out before packets are lost.
#[test]
fn the_driver_is_refused_where_packets_would_be_lost() {
    needs!(NetNs, Veth, Clsact, XdpFrags);
    let world = World::new(1, 1);
    let _servers = world.serve(SERVED);
    let generation = Generation::first(&Wanted::of(&world).config()).unwrap();
    let (front, back) = (world.proxy.front.index, world.proxy.backs[0].index);
    let refused = |devices: &[(IfIndex, Wish)]| {
        attach(&world, &generation, devices)
            .unwrap_err()
            .to_string()
    };
    let native = [
        (front, Wish::Native),
        (back, Wish::Native),
    ];
    assert_eq!(
        refused(&native),
        "XDP on front: its far end client0 leaves checksums to the device, and packets would \
         arrive without (in the namespace of client0: ethtool -K client0 tx off)"
    );
    world.disable(Feature::TX_CHECKSUM);
    assert_eq!(
        refused(&native),
        "XDP on front: packets to front would be dropped (in the namespace of client0: ethtool -K \
         client0 gro on)"
    );
    world.enable(Feature::GRO);
    let host = &world.proxy.node;
    for (family, name) in [("ipv4", "IPv4"), ("ipv6", "IPv6")] {
        let setting = format!("{family}/conf/back0/forwarding");
        host.ns.set_sysctl(&setting, "0").unwrap();
        assert_eq!(
            refused(&native),
            format!(
                "back0 does not forward {name}: sysctl -w net.{family}.conf.back0.forwarding=1"
            )
        );
        host.ns.set_sysctl(&setting, "1").unwrap();
    }
    let attached = attach(&world, &generation, &native).unwrap();
    let again = refused(&native);
    assert!(again.contains("is there already"), "{again}");
    drop(attached);
    drop(attach(&world, &generation, &native).unwrap());
}

/// A backend's device goes away with its machine: the others stay, and get the next configuration.
#[test]
fn a_device_may_go_away() {
    needs!(NetNs, Veth, Clsact, XdpFrags);
    for way in Way::ALL {
        let world = World::new(1, 2);
        let servers = world.serve(SERVED);
        let mut wanted = Wanted::of(&world);
        let mut work = Work::start(&world, &wanted, way);
        let gone = world.proxy.backs[1].index;
        let mut session = wanting(&world, &mut work, &mut wanted);
        world.proxy.node.net.delete_link(gone).unwrap();
        wanted.backends[1].1 = 0;
        let next = work.generation.next(&wanted.config()).unwrap();
        let lost = work.attached.replace(&next).unwrap();
        assert_eq!(lost.iter().map(|it| it.device).collect::<Vec<_>>(), [gone]);
        assert_eq!(work.attached.choices().len(), 2);
        assert_eq!(work.attached.replace(&next).unwrap(), []);
        session.echo(b"still there?").unwrap();
        assert_eq!(who(&world.client().node, asked()[0]), servers[0].name);
    }
}

/// A session with the first backend.
fn wanting(world: &World, work: &mut Work<'_>, wanted: &mut Wanted) -> Session {
    wanted.backends[1].1 = 0;
    work.change(wanted);
    let session = Session::open(&world.client().node, asked()[0]).unwrap();
    wanted.backends[1].1 = 1;
    work.change(wanted);
    session
}
