//! Where it happens: three machines, and the server on the last one.

use super::peers::PEERS;
use super::process::Process;
use super::work::Work;
use super::{SERVER, server};
use bpfsmith_net::{Address, Chain, Error, Feature, Host, Prefix};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

/// The cables between machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cables {
    /// As they come: packets may be as long as 64 KiB, and their checksums stay open.
    Whole,
    /// Like those of cards: frames of 1500 bytes with their checksums. Programs in drivers need this.
    Framed,
}

impl Cables {
    /// All of them.
    pub const ALL: [Cables; 2] = [Cables::Whole, Cables::Framed];
}

/// An address of the proxy's that only its programs send from.
pub const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 3);

/// Client, proxy and server.
#[derive(Debug)]
pub struct Stage {
    /// The machines.
    pub net: Chain,
    server: Process,
}

impl Stage {
    /// Makes it.
    ///
    /// # Panics
    /// If the kernel has no namespaces or cables, or this is not root.
    #[must_use]
    pub fn new(cables: Cables) -> Stage {
        let net = machines(cables).expect("root, and a kernel with namespaces and veth");
        let ports = PEERS.iter().filter(|peer| peer.cables == cables);
        let all: Vec<String> = ports
            .map(|peer| SocketAddr::from((net.server.v4(), peer.port())).to_string())
            .collect();
        let last = all.last().map(|it| it.parse().expect("an address"));
        let role = format!("{SERVER} {}", all.join(" "));
        let start = || Process::start(&role, last.expect("a peer"));
        let server = net.server.run(start).expect("a namespace");
        Stage {
            server: server.expect("a server"),
            net,
        }
    }

    /// Where the server answers.
    #[must_use]
    pub fn server_address(&self, port: u16) -> SocketAddr {
        SocketAddr::from((self.net.server.v4(), port))
    }

    /// Prepares the server for this.
    pub fn prepare(&self, work: &Work) {
        self.server.keep(&work.place.server());
    }
}

fn machines(cables: Cables) -> Result<Chain, Error> {
    let net = Chain::new()?;
    for node in [
        &net.client.node,
        &net.proxy.node,
        &net.server.node,
    ] {
        // Others measure the way, which is not what is measured here.
        node.ns.set_sysctl("ipv4/tcp_congestion_control", "reno")?;
        // Nobody waits longer than some seconds for a connection.
        node.ns.set_sysctl("ipv4/tcp_syn_retries", "2")?;
    }
    let proxy = &net.proxy;
    let source = Address::new(proxy.right.index, Prefix::host(SOURCE.into()));
    proxy.node.net.add_address(&source)?;
    if cables == Cables::Framed {
        for Host { node, port } in [&net.client, &net.server] {
            let ethtool = node.ethtool()?;
            ethtool.disable(port.index, Feature::TX_CHECKSUM)?;
            ethtool.enable(port.index, Feature::GRO)?;
        }
    }
    Ok(net)
}

/// Is the server at these addresses.
///
/// # Errors
/// When one of them is not free.
pub fn serve(addresses: impl Iterator<Item = SocketAddr>) -> io::Result<()> {
    for address in addresses {
        server::answer(address)?;
    }
    super::process::wait_for_the_end();
    Ok(())
}
