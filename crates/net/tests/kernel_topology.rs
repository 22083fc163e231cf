//! Packets flow through the small networks, and addresses, routes and neighbours decide where.

#![expect(clippy::unwrap_used, reason = "a test says by a panic that it failed")]

mod support;

use bpfsmith_gate::needs;
use bpfsmith_net::addr::ifa;
use bpfsmith_net::{
    Address, Chain, Errno, Feature, IfIndex, Mac, Neighbour, NeighbourState, NetNs, Node, Pair,
    Prefix, Route, RouteKind, RouteTable,
};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

const PATIENCE: Option<Duration> = Some(Duration::from_secs(30));

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

/// Sends a megabyte there and back and compares.
fn echo(listener: &TcpListener, stream: &mut TcpStream) {
    let sent: Vec<u8> = (0..1u32 << 18).flat_map(u32::to_le_bytes).collect();
    let (mut accepted, from) = listener.accept().unwrap();
    assert_eq!(from, stream.local_addr().unwrap());
    let mut writer = stream.try_clone().unwrap();
    let (there, back) = std::thread::scope(|scope| {
        scope.spawn(|| {
            writer.write_all(&sent).unwrap();
            writer.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let server = scope.spawn(|| {
            let mut there = Vec::new();
            accepted.read_to_end(&mut there).unwrap();
            accepted.write_all(&there).unwrap();
            drop(accepted);
            there
        });
        let mut back = Vec::new();
        stream.read_to_end(&mut back).unwrap();
        (server.join().unwrap(), back)
    });
    assert!(there == sent && back == sent);
}

#[test]
fn tcp_flows_through_a_pair() {
    needs!(NetNs, Veth);
    let net = Pair::new().unwrap();
    for addr in [
        IpAddr::from(net.server.v4()),
        IpAddr::from(net.server.v6()),
    ] {
        let addr = SocketAddr::new(addr, 80);
        let listener = net.server.run(|| TcpListener::bind(addr)).unwrap().unwrap();
        let mut stream = net
            .client
            .run(|| TcpStream::connect(addr))
            .unwrap()
            .unwrap();
        echo(&listener, &mut stream);
    }
}

#[test]
fn tcp_flows_through_a_chain() {
    needs!(NetNs, Veth);
    let net = Chain::new().unwrap();
    for addr in [
        IpAddr::from(net.server.v4()),
        IpAddr::from(net.server.v6()),
    ] {
        let addr = SocketAddr::new(addr, 80);
        let listener = net.server.run(|| TcpListener::bind(addr)).unwrap().unwrap();
        let mut stream = net
            .client
            .run(|| TcpStream::connect(addr))
            .unwrap()
            .unwrap();
        echo(&listener, &mut stream);
    }
    // Without forwarding the proxy is no way, so the packets did go through it.
    let server = net
        .server
        .run(|| UdpSocket::bind("10.2.0.2:7"))
        .unwrap()
        .unwrap();
    server.set_read_timeout(PATIENCE).unwrap();
    let client = net
        .client
        .run(|| UdpSocket::bind("10.1.0.2:0"))
        .unwrap()
        .unwrap();
    client.connect("10.2.0.2:7").unwrap();
    net.proxy
        .node
        .ns
        .set_sysctl("ipv4/ip_forward", "0")
        .unwrap();
    client.send(b"lost").unwrap();
    net.proxy
        .node
        .ns
        .set_sysctl("ipv4/ip_forward", "1")
        .unwrap();
    client.send(b"found").unwrap();
    assert_eq!(receive(&server), b"found");
}

#[test]
fn a_chain_can_have_names() {
    needs!(NetNs, Veth);
    support::private_mounts();
    let named = |role: &str| {
        let name = format!("bs-net-{role}-{}", std::process::id());
        Node::of(NetNs::named(&name).unwrap()).unwrap()
    };
    let net = Chain::of(named("c"), named("p"), named("s")).unwrap();
    let path = net.proxy.node.ns.path().unwrap().to_owned();
    let inside = NetNs::at(&path).unwrap();
    assert_eq!(
        inside.run(|| NetNs::current().unwrap().id()).unwrap(),
        net.proxy.node.ns.id()
    );
    let ethtool = net.client.node.ethtool().unwrap();
    let without = ethtool
        .disable(net.client.port.index, Feature::TX_CHECKSUM)
        .unwrap();
    assert!(!without.has(Feature::TX_CHECKSUM));
    drop(net);
    assert!(!path.exists());
}

/// A server socket and a client socket that have exchanged a packet, so that both know each other.
fn udp(net: &Pair) -> (UdpSocket, UdpSocket) {
    let server = net
        .server
        .run(|| UdpSocket::bind("10.0.0.1:7"))
        .unwrap()
        .unwrap();
    let client = net
        .client
        .run(|| UdpSocket::bind("10.0.0.2:0"))
        .unwrap()
        .unwrap();
    client.connect("10.0.0.1:7").unwrap();
    server.set_read_timeout(PATIENCE).unwrap();
    client.send(b"first").unwrap();
    assert_eq!(receive(&server), b"first");
    (server, client)
}

fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 64];
    let len = socket.recv(&mut buffer).unwrap();
    buffer[..len].to_vec()
}

#[test]
fn a_neighbour_decides_who_gets_a_packet() {
    needs!(NetNs, Veth);
    let net = Pair::new().unwrap();
    let (server, client) = udp(&net);
    let (index, addr) = (net.client.port.index, IpAddr::from(net.server.v4()));
    let known = net.client.node.net.neighbours().unwrap();
    let learned = known.iter().find(|known| known.addr == addr).unwrap();
    assert_eq!(
        (learned.index, learned.mac),
        (index, Some(net.server.port.mac))
    );

    let wrong = Neighbour::permanent(index, addr, Mac([2, 9, 9, 9, 9, 9]));
    net.client.node.net.add_neighbour(&wrong).unwrap();
    client.send(b"to nobody").unwrap();
    let right = Neighbour::permanent(index, addr, net.server.port.mac);
    net.client.node.net.add_neighbour(&right).unwrap();
    client.send(b"to the server").unwrap();
    assert_eq!(
        receive(&server),
        b"to the server",
        "the cable keeps the order"
    );
    let known = net.client.node.net.neighbours().unwrap();
    assert!(known.contains(&right), "{known:?}");
    assert_eq!(right.state, NeighbourState::PERMANENT);

    net.client.node.net.delete_neighbour(index, addr).unwrap();
    client.send(b"asked again").unwrap();
    assert_eq!(receive(&server), b"asked again");
}

#[test]
fn a_local_route_takes_every_address_of_its_prefix() {
    needs!(NetNs, Veth);
    let net = Pair::new().unwrap();
    let any = prefix("10.77.0.0/16");
    let bind = || {
        net.server
            .run(|| TcpListener::bind("10.77.1.2:80"))
            .unwrap()
    };
    assert!(bind().is_err());
    net.server.node.net.add_route(&Route::local(any)).unwrap();
    let gateway = IpAddr::from(net.server.v4());
    net.client
        .node
        .net
        .add_route(&Route::to(any).via(gateway))
        .unwrap();

    let listener = bind().unwrap();
    let stream = net
        .client
        .run(|| TcpStream::connect("10.77.1.2:80"))
        .unwrap()
        .unwrap();
    assert_eq!(listener.accept().unwrap().1, stream.local_addr().unwrap());

    let taken = net
        .client
        .node
        .net
        .route_to("10.77.3.4".parse().unwrap())
        .unwrap();
    assert_eq!(
        (taken.via, taken.dev),
        (Some(gateway), Some(net.client.port.index))
    );
    let local = net
        .server
        .node
        .net
        .route_to("10.77.3.4".parse().unwrap())
        .unwrap();
    assert_eq!(
        (local.kind, local.dev),
        (RouteKind::LOCAL, Some(IfIndex::LOOPBACK))
    );
}

#[test]
fn routes_are_added_replaced_listed_and_deleted() {
    needs!(NetNs, Veth);
    let net = Pair::new().unwrap();
    let nl = &net.client.node.net;
    let target: IpAddr = "10.88.0.1".parse().unwrap();
    let none = nl.route_to(target).unwrap_err();
    assert_eq!(none.errno(), Some(Errno::ENETUNREACH));

    let route = Route::to(prefix("10.88.0.0/16")).via(net.server.v4().into());
    let route = Route {
        mtu: Some(1300),
        ..route
    };
    nl.add_route(&route).unwrap();
    let twice = nl.add_route(&route).unwrap_err();
    assert_eq!(twice.errno(), Some(Errno::EEXIST));
    assert!(
        twice
            .to_string()
            .starts_with("RTM_NEWROUTE 10.88.0.0/16: EEXIST"),
        "{twice}"
    );
    let listed = nl.routes().unwrap();
    assert!(
        listed.contains(&route.dev(net.client.port.index)),
        "{listed:?}"
    );

    let hole = Route {
        kind: RouteKind::BLACKHOLE,
        ..Route::to(route.to)
    };
    nl.replace_route(&hole).unwrap();
    let socket = net
        .client
        .run(|| UdpSocket::bind("0.0.0.0:0"))
        .unwrap()
        .unwrap();
    let refused = socket.connect((target, 9)).unwrap_err();
    assert_eq!(
        Errno::of(&refused),
        Some(Errno::EINVAL),
        "the blackhole's answer"
    );
    nl.delete_route(&hole).unwrap();
    assert_eq!(
        nl.delete_route(&hole).unwrap_err().errno(),
        Some(Errno::ESRCH)
    );

    let far = Route::to(prefix("10.89.0.0/16")).via("10.99.0.1".parse().unwrap());
    let unreachable = nl.add_route(&far).unwrap_err();
    assert_eq!(unreachable.errno(), Some(Errno::ENETUNREACH));
    assert!(
        unreachable.sentence().is_some() && unreachable.hint().is_some(),
        "{unreachable}"
    );

    let six = Route::to(prefix("fd77::/64")).via(net.server.v6().into());
    nl.add_route(&six).unwrap();
    let found = nl.route_to("fd77::1".parse().unwrap()).unwrap();
    assert_eq!((found.via, found.table), (six.via, RouteTable::MAIN));
    nl.delete_route(&six).unwrap();

    // The way to IPv4 may lead through an IPv6 gateway.
    let mixed = Route::to(prefix("10.90.0.0/16")).via(net.server.v6().into());
    let mixed = mixed.dev(net.client.port.index);
    nl.add_route(&mixed).unwrap();
    assert_eq!(
        nl.route_to("10.90.0.1".parse().unwrap()).unwrap().via,
        mixed.via
    );
}

#[test]
fn addresses_are_added_listed_and_deleted() {
    needs!(NetNs, Veth);
    let net = Pair::new().unwrap();
    let (nl, index) = (&net.client.node.net, net.client.port.index);
    for text in ["10.0.0.77/32", "fd00::77/128"] {
        let address = Address::new(index, prefix(text));
        nl.add_address(&address).unwrap();
        let listed = nl.addresses().unwrap();
        let found = listed
            .iter()
            .find(|found| found.prefix == address.prefix)
            .unwrap();
        assert_eq!(found.index, index);
        assert_eq!(found.flags & ifa::IFA_F_TENTATIVE, 0, "used at once");
        let bind = || {
            net.client
                .run(|| UdpSocket::bind((address.prefix.addr(), 0)))
                .unwrap()
        };
        bind().unwrap();
        let twice = nl.add_address(&address).unwrap_err();
        assert_eq!(twice.errno(), Some(Errno::EEXIST));
        assert!(twice.to_string().contains(text) && twice.to_string().contains("client0"));
        nl.delete_address(index, address.prefix).unwrap();
        bind().unwrap_err();
        let gone = nl.delete_address(index, address.prefix).unwrap_err();
        assert_eq!(gone.errno(), Some(Errno::EADDRNOTAVAIL));
    }
    net.client
        .node
        .ns
        .set_sysctl("ipv6/conf/client0/accept_dad", "1")
        .unwrap();
    // Asking for duplicates takes about a second each time; until then the address is on trial.
    net.client
        .node
        .ns
        .set_sysctl("ipv6/conf/client0/dad_transmits", "100")
        .unwrap();
    nl.add_address(&Address::new(index, prefix("fd00::78/128")).flags(0))
        .unwrap();
    let listed = nl.addresses().unwrap();
    let found = listed
        .iter()
        .find(|found| found.prefix == prefix("fd00::78/128"))
        .unwrap();
    assert_ne!(found.flags & ifa::IFA_F_TENTATIVE, 0);
}
