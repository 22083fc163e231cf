//! Clients, a proxy and backends: machines with cables between them.
//!
//! | who | IPv4 | IPv6 |
//! |---|---|---|
//! | client `i` | `10.10.0.(10 + i)/16` | `fd10::(a + i)/64` |
//! | the proxy towards clients | `10.10.0.1/16` | `fd10::1/64` |
//! | the proxy towards backend `j` | `10.20.j.1/24` | `fd20:j::1/64` |
//! | backend `j` | `10.20.j.2/24` | `fd20:j::2/64` |
//! | what clients ask for | [`VIP4`] | [`VIP6`] |
//!
//! Everybody's default route leads to the proxy, which forwards. Several clients share the proxy's one
//! device by way of a switch.

use super::people::Server;
use bpfsmith_gate::deadline;
use bpfsmith_net::{
    Address, Device, Feature, Features, IfIndex, Kind, Mac, Neighbour, Node, Prefix, Route,
    RouteKind,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) const VIP4: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
pub(crate) const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 1);

/// How machines learn each other's Ethernet addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Neighbours {
    /// They are told beforehand, for good.
    Static,
    /// They ask.
    Dynamic,
}

/// Whose the address is that clients ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vip {
    /// Nobody's: it is only routed to the proxy.
    Routed,
    /// The proxy's host has it.
    Owned,
}

/// What world there shall be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) clients: u8,
    pub(crate) backends: u8,
    pub(crate) neighbours: Neighbours,
    pub(crate) vip: Vip,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) clients: Vec<Host>,
    pub(crate) proxy: Proxy,
    pub(crate) backends: Vec<Host>,
    switch: Option<Node>,
}

/// A machine with one port.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) node: Node,
    pub(crate) port: Port,
}

/// The machine in between.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) node: Node,
    /// Towards clients.
    pub(crate) front: Port,
    /// Towards each backend.
    pub(crate) backs: Vec<Port>,
}

/// A device with addresses.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) index: IfIndex,
    pub(crate) mac: Mac,
    pub(crate) v4: Ipv4Addr,
    pub(crate) v6: Ipv6Addr,
}

impl Plan {
    /// Neighbours are static, the VIP is routed.
    pub(crate) fn new(clients: u8, backends: u8) -> Plan {
        Plan {
            clients,
            backends,
            neighbours: Neighbours::Static,
            vip: Vip::Routed,
        }
    }

    pub(crate) fn neighbours(mut self, neighbours: Neighbours) -> Plan {
        self.neighbours = neighbours;
        self
    }

    pub(crate) fn vip(mut self, vip: Vip) -> Plan {
        self.vip = vip;
        self
    }

    /// Makes it, and waits until all devices run.
    #[track_caller]
    pub(crate) fn build(self) -> World {
        assert!((1..200).contains(&self.clients) && self.backends < 250);
        let node = machine();
        forward(&node);
        let front = Place::front();
        let (clients, front, switch) = match self.clients {
            1 => {
                let client = machine();
                let (port, front) = cable(&client, &Place::client(0), &node, &front);
                (vec![Host { node: client, port }], front, None)
            }
            many => self.switched(many, &node, &front),
        };
        let mut backs = Vec::new();
        let mut backends = Vec::new();
        for number in 0..self.backends {
            let backend = machine();
            let places = (Place::backend(number), Place::back(number));
            let (port, back) = cable(&backend, &places.0, &node, &places.1);
            let host = Host {
                node: backend,
                port,
            };
            self.introduce(&host, &node, &back);
            backends.push(host);
            backs.push(back);
        }
        for client in &clients {
            self.introduce(client, &node, &front);
        }
        if self.vip == Vip::Owned {
            for vip in [IpAddr::from(VIP4), VIP6.into()] {
                let address = Address::new(IfIndex::LOOPBACK, Prefix::host(vip));
                node.net.add_address(&address).unwrap();
            }
        }
        let proxy = Proxy { node, front, backs };
        World {
            clients,
            proxy,
            backends,
            switch,
        }
    }
    /// Clients at a switch.
    fn switched(self, many: u8, proxy: &Node, front: &Place) -> (Vec<Host>, Port, Option<Node>) {
        let switch = Node::new().unwrap();
        let bridge = Device::new("bridge");
        switch.net.add_link(&bridge, &Kind::Bridge).unwrap();
        let bridge = switch.net.link("bridge").unwrap().index;
        switch.net.set_up(bridge).unwrap();
        let plug = |name: &str, node: &Node, place: &Place| {
            let peer = Device::new(&place.name).mac(place.mac).netns(&node.ns);
            switch
                .net
                .add_link(&Device::new(name), &Kind::Veth(peer))
                .unwrap();
            let index = switch.net.link(name).unwrap().index;
            switch.net.set_master(index, bridge).unwrap();
            switch.net.set_up(index).unwrap();
            let port = place.port(node);
            switch.net.wait_up(index, LIMIT).unwrap();
            wait_ready(node, port.index, port.addresses());
            port
        };
        let front = plug("uplink", proxy, front);
        let client = |number| {
            let node = machine();
            let port = plug(&format!("plug{number}"), &node, &Place::client(number));
            Host { node, port }
        };
        let clients = (0..many).map(client).collect();
        (clients, front, Some(switch))
    }

    /// A host and the proxy get to know each other.
    fn introduce(self, host: &Host, proxy: &Node, gateway: &Port) {
        for (own, via) in host.port.addresses().into_iter().zip(gateway.addresses()) {
            host.node.net.add_route(&Route::default_via(via)).unwrap();
            if self.neighbours == Neighbours::Static {
                let there = Neighbour::permanent(gateway.index, own, host.port.mac);
                proxy.net.add_neighbour(&there).unwrap();
                let here = Neighbour::permanent(host.port.index, via, gateway.mac);
                host.node.net.add_neighbour(&here).unwrap();
            }
        }
    }
}

impl World {
    /// As [`Plan::new`] says.
    #[track_caller]
    pub(crate) fn new(clients: u8, backends: u8) -> World {
        Plan::new(clients, backends).build()
    }

    /// What clients are plugged into, if there are several.
    pub(crate) fn switch(&self) -> Option<&Node> {
        self.switch.as_ref()
    }

    pub(crate) fn client(&self) -> &Host {
        &self.clients[0]
    }

    /// Starts the servers of all backends, on both of their addresses: the first is called `b0`.
    #[track_caller]
    pub(crate) fn serve(&self, port: u16) -> Vec<Server> {
        let start = |(number, host): (usize, &Host)| {
            let at = host.port.addresses().map(|ip| SocketAddr::new(ip, port));
            Server::start(&host.node, &format!("b{number}"), &at)
        };
        self.backends.iter().enumerate().map(start).collect()
    }

    /// Every device at the end of a cable, with its machine: clients, the proxy's, backends.
    pub(crate) fn ports(&self) -> Vec<(&Node, &Port)> {
        fn own(host: &Host) -> (&Node, &Port) {
            (&host.node, &host.port)
        }
        let proxy = [&self.proxy.front].into_iter().chain(&self.proxy.backs);
        let proxy = proxy.map(|port| (&self.proxy.node, port));
        let clients = self.clients.iter().map(own);
        let backends = self.backends.iter().map(own);
        clients.chain(proxy).chain(backends).collect()
    }

    /// Switches an offload on everywhere.
    #[track_caller]
    pub(crate) fn enable(&self, feature: Feature) {
        for (node, port) in self.ports() {
            port.enable(node, feature);
        }
    }

    /// Switches an offload off everywhere.
    #[track_caller]
    pub(crate) fn disable(&self, feature: Feature) {
        for (node, port) in self.ports() {
            port.disable(node, feature);
        }
    }
}

impl Port {
    /// IPv4, then IPv6.
    pub(crate) fn addresses(&self) -> [IpAddr; 2] {
        [self.v4.into(), self.v6.into()]
    }

    #[track_caller]
    pub(crate) fn enable(&self, node: &Node, feature: Feature) -> Features {
        node.ethtool().unwrap().enable(self.index, feature).unwrap()
    }

    #[track_caller]
    pub(crate) fn disable(&self, node: &Node, feature: Feature) -> Features {
        let ethtool = node.ethtool().unwrap();
        ethtool.disable(self.index, feature).unwrap()
    }

    #[track_caller]
    pub(crate) fn features(&self, node: &Node) -> Features {
        node.ethtool().unwrap().features(self.index).unwrap()
    }
}

/// Where a device will be.
struct Place {
    name: String,
    mac: Mac,
    v4: (Ipv4Addr, u8),
    v6: Ipv6Addr,
}

impl Place {
    fn client(number: u8) -> Place {
        Place {
            name: format!("client{number}"),
            mac: Mac([2, 0x10, 0, 0, number, 2]),
            v4: (Ipv4Addr::new(10, 10, 0, 10 + number), 16),
            v6: Ipv6Addr::new(0xfd10, 0, 0, 0, 0, 0, 0, 10 + u16::from(number)),
        }
    }

    fn front() -> Place {
        Place {
            name: "front".to_owned(),
            mac: Mac([2, 0x10, 0, 0, 0, 1]),
            v4: (Ipv4Addr::new(10, 10, 0, 1), 16),
            v6: Ipv6Addr::new(0xfd10, 0, 0, 0, 0, 0, 0, 1),
        }
    }

    fn back(number: u8) -> Place {
        Place {
            name: format!("back{number}"),
            mac: Mac([2, 0x20, 0, 0, number, 1]),
            v4: (Ipv4Addr::new(10, 20, number, 1), 24),
            v6: Ipv6Addr::new(0xfd20, number.into(), 0, 0, 0, 0, 0, 1),
        }
    }

    fn backend(number: u8) -> Place {
        Place {
            name: format!("backend{number}"),
            mac: Mac([2, 0x20, 0, 0, number, 2]),
            v4: (Ipv4Addr::new(10, 20, number, 2), 24),
            v6: Ipv6Addr::new(0xfd20, number.into(), 0, 0, 0, 0, 0, 2),
        }
    }

    /// Gives the device its addresses and switches it on.
    fn port(&self, node: &Node) -> Port {
        let index = node.net.link(&self.name).unwrap().index;
        settle(node, index, self.v4.1, [self.v4.0.into(), self.v6.into()]);
        Port {
            name: self.name.clone(),
            index,
            mac: self.mac,
            v4: self.v4.0,
            v6: self.v6,
        }
    }
}

/// Gives a device an address of each family, IPv4's in a network of so many bits, and switches it on.
#[track_caller]
pub(crate) fn settle(node: &Node, device: IfIndex, bits: u8, both: [IpAddr; 2]) {
    for (ip, bits) in both.into_iter().zip([bits, 64]) {
        let prefix = Prefix::new(ip, bits).unwrap();
        node.net.add_address(&Address::new(device, prefix)).unwrap();
    }
    node.net.set_up(device).unwrap();
}

/// Waits until a device runs, and until packets to its addresses are for this machine: to those of IPv6
/// they are a while later.
#[track_caller]
pub(crate) fn wait_ready(node: &Node, device: IfIndex, both: [IpAddr; 2]) {
    node.net.wait_up(device, LIMIT).unwrap();
    for ip in both {
        deadline(LIMIT, || {
            let route = node.net.route_to(ip);
            route
                .is_ok_and(|it| it.kind == RouteKind::LOCAL)
                .then_some(())
        });
    }
}

/// Makes a router of a machine.
#[track_caller]
pub(crate) fn forward(node: &Node) {
    node.ns.set_sysctl("ipv4/ip_forward", "1").unwrap();
    node.ns.set_sysctl("ipv6/conf/all/forwarding", "1").unwrap();
}

/// Joins two machines.
fn cable(outer: &Node, there: &Place, inner: &Node, here: &Place) -> (Port, Port) {
    let peer = Device::new(&here.name).mac(here.mac).netns(&inner.ns);
    let device = Device::new(&there.name).mac(there.mac);
    outer.net.add_link(&device, &Kind::Veth(peer)).unwrap();
    let (far, near) = (there.port(outer), here.port(inner));
    wait_ready(outer, far.index, far.addresses());
    wait_ready(inner, near.index, near.addresses());
    (far, near)
}

/// A machine whose settings are known, whatever those of this one are.
fn machine() -> Node {
    let node = Node::new().unwrap();
    for (name, value) in [
        ("ipv4/tcp_congestion_control", "reno"),
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
        // Errors are counted, so none may be left out.
        ("ipv4/icmp_ratelimit", "0"),
        ("ipv6/icmp/ratelimit", "0"),
    ] {
        node.ns.set_sysctl(name, value).unwrap();
    }
    node
}
