//! Proxies between a client and a server, processes or rules in the kernel, and what both ends see of them.

mod client;
mod peers;
mod place;
mod process;
mod proxies;
mod rules;
mod server;
mod stage;
mod table;
mod work;

pub use client::Load;
pub use peers::{PEERS, Peer, ROUTING, Running, Way};
pub use place::{Idle, Place, processors};
pub use stage::{Cables, Stage};
pub use table::{Figures, Row, print};
pub use work::{Shape, WORK, Work};

use std::env;
use std::net::SocketAddr;

/// What peers and workloads belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// What changes packets, beside routing and what carries bytes.
    Packets,
    /// What carries bytes, in several ways.
    Sockets,
}

impl Suite {
    const PACKETS: &'static [Suite] = &[Suite::Packets];
    const SOCKETS: &'static [Suite] = &[Suite::Sockets];
    const BOTH: &'static [Suite] = &[Suite::Packets, Suite::Sockets];

    /// The one of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Suite> {
        match name {
            "packets" => Some(Suite::Packets),
            "sockets" => Some(Suite::Sockets),
            _ => None,
        }
    }
}

/// What the environment variable is called that gives a process a role: a name, and addresses.
const ROLE: &str = "BPFSMITH_BENCH_RELAY";

/// The role of the server. All others are called like peers.
const SERVER: &str = "server";

/// Whether this process has a role; then it was in it until its standard input ended.
///
/// # Panics
/// If it cannot be what it is to be.
#[must_use]
pub fn play() -> bool {
    let Ok(role) = env::var(ROLE) else {
        return false;
    };
    let mut words = role.split(' ');
    let name = words.next().unwrap_or_default();
    let mut addresses = words.map(|word| -> SocketAddr { word.parse().expect("an address") });
    let result = match Peer::named(name).map(|peer| peer.way) {
        Some(Way::Process(carrier)) => {
            let mut next = || {
                addresses
                    .next()
                    .expect("where to listen, and where to connect")
            };
            carrier.serve(next(), next())
        }
        _ => stage::serve(addresses),
    };
    if let Err(error) = result {
        eprintln!("{name}: {error}");
        std::process::exit(1);
    }
    true
}
