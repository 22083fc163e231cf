//! [`World`]: a client, a proxy and three backends, each a machine in a namespace.

use super::error::Result;
use bpfsmith_net::{Address, Device, IfIndex, Kind, Node, Prefix, Route};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

/// Where clients connect to: an address that no machine has.
pub(super) const SERVICE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 80), 80);
/// The client.
pub(super) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
/// Its other address, for which there is a route of its own.
pub(super) const GUEST: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 3);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);

/// The names of the backends.
pub(super) const TREES: [&str; 3] = ["oak", "elm", "fir"];
/// The backend that the other address of the client gets.
pub(super) const GUESTS: usize = 2;

/// The proxy's devices.
pub(super) const DEVICES: [&str; 4] = ["front", "to-oak", "to-elm", "to-fir"];

/// How long a cable may take until packets flow.
const UP: Duration = Duration::from_secs(10);

/// The machines. They are gone when it is dropped.
#[derive(Debug)]
pub(super) struct World {
    pub(super) client: Arc<Node>,
    pub(super) proxy: Arc<Node>,
    pub(super) trees: Vec<Arc<Node>>,
}

/// The picture of it.
pub(super) const PICTURE: &str =
    "  +-----------+           +------------------+           +--------------------+
  |  client   |           |      proxy       |---to-oak--| oak  10.2.1.2:8080 |
  | 10.1.0.2  |---front---|                  |           +--------------------+
  | 10.1.0.3  |           |  192.0.2.80:80   |---to-elm--| elm  10.2.2.2:8080 |
  +-----------+           |  has no socket:  |           +--------------------+
                          |  programs do it  |---to-fir--| fir  10.2.3.2:8080 |
                          +------------------+           +--------------------+";

/// Where a backend listens.
pub(super) fn place(tree: usize) -> SocketAddrV4 {
    SocketAddrV4::new(end(tree, 2), 8080)
}

/// An address on the cable between the proxy and a backend.
fn end(tree: usize, host: u8) -> Ipv4Addr {
    let cable = u8::try_from(tree.saturating_add(1)).unwrap_or(u8::MAX);
    Ipv4Addr::new(10, 2, cable, host)
}

impl World {
    pub(super) fn build() -> Result<World> {
        let (client, proxy) = (machine()?, machine()?);
        proxy.ns.set_sysctl("ipv4/ip_forward", "1")?;
        let [front, backs @ ..] = DEVICES;
        cable(&client, &[CLIENT, GUEST], &proxy, (front, GATEWAY))?;
        let mut trees = Vec::new();
        for (tree, device) in backs.into_iter().enumerate() {
            let node = machine()?;
            cable(&node, &[end(tree, 2)], &proxy, (device, end(tree, 1)))?;
            trees.push(Arc::new(node));
        }
        Ok(World {
            client: Arc::new(client),
            proxy: Arc::new(proxy),
            trees,
        })
    }

    /// How many machines there are.
    pub(super) fn machines(&self) -> usize {
        2 + self.trees.len()
    }
}

/// A machine that takes packets wherever they come from.
fn machine() -> Result<Node> {
    let node = Node::new()?;
    for name in [
        "ipv4/conf/all/rp_filter",
        "ipv4/conf/default/rp_filter",
    ] {
        node.ns.set_sysctl(name, "0")?;
    }
    Ok(node)
}

/// Joins a machine and the proxy, to which its packets go.
fn cable(
    node: &Node,
    addresses: &[Ipv4Addr],
    proxy: &Node,
    (device, gateway): (&str, Ipv4Addr),
) -> Result<()> {
    let peer = Device::new(device).netns(&proxy.ns);
    node.net.add_link(&Device::new("eth0"), &Kind::Veth(peer))?;
    let far = node.net.link("eth0")?.index;
    let near = proxy.net.link(device)?.index;
    for address in addresses {
        settle(node, far, *address)?;
    }
    settle(proxy, near, gateway)?;
    node.net.set_up(far)?;
    proxy.net.set_up(near)?;
    node.net.wait_up(far, UP)?;
    proxy.net.wait_up(near, UP)?;
    node.net.add_route(&Route::default_via(gateway.into()))?;
    Ok(())
}

fn settle(node: &Node, device: IfIndex, address: Ipv4Addr) -> Result<()> {
    let address = IpAddr::from(address);
    let prefix = Prefix::new(address, 24).unwrap_or(Prefix::host(address));
    Ok(node.net.add_address(&Address::new(device, prefix))?)
}
