//! Small networks for tests and examples: [`Pair`] and [`Chain`].
//!
//! Everything in them is gone when they are dropped.

use crate::addr::Address;
use crate::error::Error;
use crate::ethtool::Ethtool;
use crate::link::{Device, Kind};
use crate::ns::NetNs;
use crate::route::Route;
use crate::socket::Netlink;
use crate::types::{IfIndex, Mac, Prefix};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// How long a new cable may take until packets flow; it takes about a millisecond.
const UP: Duration = Duration::from_secs(10);

/// A machine: a namespace and a netlink socket in it.
///
/// The loopback device is up, and IPv6 addresses of devices made later are used at once, without
/// asking for duplicates.
#[derive(Debug)]
pub struct Node {
    /// The namespace.
    pub ns: NetNs,
    /// A socket in it.
    pub net: Netlink,
}

impl Node {
    /// A machine without a name.
    ///
    /// # Errors
    ///
    /// When the thread may not make namespaces.
    pub fn new() -> Result<Node, Error> {
        Node::of(NetNs::new()?)
    }

    /// The machine in a namespace.
    ///
    /// # Errors
    ///
    /// When the namespace cannot be entered or changed.
    pub fn of(ns: NetNs) -> Result<Node, Error> {
        let net = Netlink::open_in(&ns)?;
        net.set_up(IfIndex::LOOPBACK)?;
        // A router asks for neighbours from its link-local address, and while that is on trial, for
        // a second or two, it does not ask at all.
        ns.set_sysctl("ipv6/conf/default/accept_dad", "0")?;
        Ok(Node { ns, net })
    }

    /// Runs `body` inside, on a thread of its own; see [`NetNs::run`].
    ///
    /// # Errors
    ///
    /// When no thread can be started or the namespace cannot be entered.
    pub fn run<T: Send>(&self, body: impl FnOnce() -> T + Send) -> Result<T, Error> {
        self.ns.run(body)
    }

    /// A socket to switch offloads of its devices.
    ///
    /// # Errors
    ///
    /// `ENOENT` when the kernel has no such family.
    pub fn ethtool(&self) -> Result<Ethtool, Error> {
        Ethtool::open_in(&self.ns)
    }
}

/// One end of a cable, as it is in its machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The number of the device.
    pub index: IfIndex,
    /// The name of the device.
    pub name: &'static str,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
}

/// A machine with one port.
#[derive(Debug)]
pub struct Host {
    /// The machine.
    pub node: Node,
    /// Its port.
    pub port: Port,
}

impl Host {
    /// Runs `body` inside, on a thread of its own; see [`NetNs::run`].
    ///
    /// # Errors
    ///
    /// When no thread can be started or the namespace cannot be entered.
    pub fn run<T: Send>(&self, body: impl FnOnce() -> T + Send) -> Result<T, Error> {
        self.node.run(body)
    }

    /// Its IPv4 address.
    #[must_use]
    pub fn v4(&self) -> Ipv4Addr {
        self.port.v4
    }

    /// Its IPv6 address.
    #[must_use]
    pub fn v6(&self) -> Ipv6Addr {
        self.port.v6
    }
}

/// A machine with two ports that forwards between them.
#[derive(Debug)]
pub struct Router {
    /// The machine.
    pub node: Node,
    /// The port towards the client.
    pub left: Port,
    /// The port towards the server.
    pub right: Port,
}

impl Router {
    /// Runs `body` inside, on a thread of its own; see [`NetNs::run`].
    ///
    /// # Errors
    ///
    /// When no thread can be started or the namespace cannot be entered.
    pub fn run<T: Send>(&self, body: impl FnOnce() -> T + Send) -> Result<T, Error> {
        self.node.run(body)
    }
}

/// Two machines on one cable: client `10.0.0.2` and `fd00::2`, server `10.0.0.1` and `fd00::1`.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # bpfsmith_gate::needs!(NetNs, Veth);
/// use std::net::UdpSocket;
/// let net = bpfsmith_net::Pair::new()?;
/// let server = net.server.run(|| UdpSocket::bind("10.0.0.1:53"))??;
/// let client = net.client.run(|| UdpSocket::bind("10.0.0.2:0"))??;
/// client.send_to(b"hello", "10.0.0.1:53")?;
/// let mut buffer = [0; 5];
/// server.recv(&mut buffer)?;
/// assert_eq!(&buffer, b"hello");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Pair {
    /// The one that calls.
    pub client: Host,
    /// The one that answers.
    pub server: Host,
}

impl Pair {
    /// Makes the machines and waits until packets flow.
    ///
    /// # Errors
    ///
    /// When the thread may not make namespaces, or a step is refused.
    pub fn new() -> Result<Pair, Error> {
        Pair::of(Node::new()?, Node::new()?)
    }

    /// Joins two machines that exist.
    ///
    /// # Errors
    ///
    /// When a step is refused.
    pub fn of(client: Node, server: Node) -> Result<Pair, Error> {
        let (far, near) = cable(&client, "client0", &server, "server0", 0)?;
        Ok(Pair {
            client: Host {
                node: client,
                port: far,
            },
            server: Host {
                node: server,
                port: near,
            },
        })
    }
}

/// Three machines in a row; the one in the middle forwards.
///
/// Client `10.1.0.2` - proxy `10.1.0.1`, `10.2.0.1` - server `10.2.0.2`; the same in `fd00:1::/64`
/// and `fd00:2::/64`.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # bpfsmith_gate::needs!(NetNs, Veth);
/// use std::net::{TcpListener, TcpStream};
/// let net = bpfsmith_net::Chain::new()?;
/// let listener = net.server.run(|| TcpListener::bind("10.2.0.2:80"))??;
/// let stream = net.client.run(|| TcpStream::connect("10.2.0.2:80"))??;
/// assert_eq!(listener.accept()?.1, stream.local_addr()?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Chain {
    /// The one that calls.
    pub client: Host,
    /// The one in between.
    pub proxy: Router,
    /// The one that answers.
    pub server: Host,
}

impl Chain {
    /// Makes the machines and waits until packets flow.
    ///
    /// # Errors
    ///
    /// When the thread may not make namespaces, or a step is refused.
    pub fn new() -> Result<Chain, Error> {
        Chain::of(Node::new()?, Node::new()?, Node::new()?)
    }

    /// Joins three machines that exist.
    ///
    /// # Errors
    ///
    /// When a step is refused.
    pub fn of(client: Node, proxy: Node, server: Node) -> Result<Chain, Error> {
        proxy.ns.set_sysctl("ipv4/ip_forward", "1")?;
        proxy.ns.set_sysctl("ipv6/conf/all/forwarding", "1")?;
        let (near, left) = cable(&client, "client0", &proxy, "left0", 1)?;
        let (far, right) = cable(&server, "server0", &proxy, "right0", 2)?;
        for (host, gateway) in [(&client, &left), (&server, &right)] {
            host.net.add_route(&Route::default_via(gateway.v4.into()))?;
            host.net.add_route(&Route::default_via(gateway.v6.into()))?;
        }
        Ok(Chain {
            client: Host {
                node: client,
                port: near,
            },
            proxy: Router {
                node: proxy,
                left,
                right,
            },
            server: Host {
                node: server,
                port: far,
            },
        })
    }
}

/// Joins two machines; the second one has the first address of the network.
fn cable(
    outer: &Node,
    outer_name: &'static str,
    inner: &Node,
    inner_name: &'static str,
    network: u8,
) -> Result<(Port, Port), Error> {
    let (outer_mac, inner_mac) = (mac(network, 2), mac(network, 1));
    let peer = Device::new(inner_name).mac(inner_mac).netns(&inner.ns);
    outer
        .net
        .add_link(&Device::new(outer_name).mac(outer_mac), &Kind::Veth(peer))?;
    let far = port(outer, outer_name, outer_mac, network, 2)?;
    let near = port(inner, inner_name, inner_mac, network, 1)?;
    outer.net.wait_up(far.index, UP)?;
    inner.net.wait_up(near.index, UP)?;
    Ok((far, near))
}

fn port(node: &Node, name: &'static str, mac: Mac, network: u8, host: u8) -> Result<Port, Error> {
    let index = node.net.link(name)?.index;
    let v4 = Ipv4Addr::new(10, network, 0, host);
    let v6 = Ipv6Addr::new(0xfd00, network.into(), 0, 0, 0, 0, 0, host.into());
    node.net
        .add_address(&Address::new(index, prefix(v4.into(), 24)))?;
    node.net
        .add_address(&Address::new(index, prefix(v6.into(), 64)))?;
    node.net.set_up(index)?;
    Ok(Port {
        index,
        name,
        mac,
        v4,
        v6,
    })
}

const fn prefix(addr: IpAddr, len: u8) -> Prefix {
    match Prefix::new(addr, len) {
        Ok(prefix) => prefix,
        Err(_) => Prefix::host(addr),
    }
}

/// A locally administered address that says where it is.
const fn mac(network: u8, host: u8) -> Mac {
    Mac([2, 0, 0, 0, network, host])
}
