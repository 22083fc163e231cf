//! The proxies, one row each.

use super::Suite;
use super::process::Process;
use super::proxies::Carrier;
use super::rules::{Nat, Rules};
use super::stage::{Cables, SOURCE, Stage};
use super::work::{Shape, Work};
use bpfsmith_datapath::choice::Wish;
use bpfsmith_datapath::config::Mode;
use std::net::SocketAddr;

/// A proxy to measure.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// What it is called.
    pub name: &'static str,
    /// How packets or bytes get through.
    pub way: Way,
    /// The cables that it is put between.
    pub cables: Cables,
    /// Where it belongs.
    pub suites: &'static [Suite],
}

/// How packets or bytes get through the machine in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It forwards packets as they are.
    Nobody,
    /// A process carries bytes.
    Process(Carrier),
    /// nftables changes packets.
    Nft(Nat),
    /// `bpfsmith_datapath` changes packets: programs on both devices.
    Packets(Mode, Wish),
}

/// The one that all are compared with.
pub const ROUTING: &str = "routing";

/// All of them.
pub const PEERS: &[Peer] = &[
    row(ROUTING, Way::Nobody, Suite::BOTH),
    row("copy", Way::Process(Carrier::Copy), Suite::SOCKETS),
    row("splice(2)", Way::Process(Carrier::Pipe), Suite::SOCKETS),
    row("haproxy", Way::Process(Carrier::Haproxy), Suite::BOTH),
    row(
        "haproxy-splice",
        Way::Process(Carrier::HaproxySplice),
        Suite::SOCKETS,
    ),
    row("nginx", Way::Process(Carrier::Nginx), Suite::BOTH),
    row("bpfsmith", Way::Process(Carrier::Smith), Suite::SOCKETS),
    row(
        "bpfsmith-copy",
        Way::Process(Carrier::SmithCopy),
        Suite::SOCKETS,
    ),
    row("nft-dnat", Way::Nft(Nat::Dnat), Suite::PACKETS),
    row("nft-masquerade", Way::Nft(Nat::Masquerade), Suite::PACKETS),
    row(
        "dnat-peer",
        Way::Packets(Mode::Dnat, Wish::Tcx),
        Suite::PACKETS,
    ),
    row(
        "dnat-device",
        Way::Packets(Mode::Dnat, Wish::Visible),
        Suite::PACKETS,
    ),
    row(
        "nat-peer",
        Way::Packets(Mode::FullNat, Wish::Tcx),
        Suite::PACKETS,
    ),
    row(
        "nat-device",
        Way::Packets(Mode::FullNat, Wish::Visible),
        Suite::PACKETS,
    ),
    framed("routing-frames", Way::Nobody),
    framed("dnat-xdp", Way::Packets(Mode::Dnat, Wish::Native)),
    framed("nat-xdp", Way::Packets(Mode::FullNat, Wish::Native)),
];

const fn row(name: &'static str, way: Way, suites: &'static [Suite]) -> Peer {
    Peer {
        name,
        way,
        cables: Cables::Whole,
        suites,
    }
}

const fn framed(name: &'static str, way: Way) -> Peer {
    Peer {
        cables: Cables::Framed,
        ..row(name, way, Suite::PACKETS)
    }
}

impl Peer {
    /// The one of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Peer> {
        PEERS.iter().find(|peer| peer.name == name)
    }

    /// A port of its own, at which both it and the server behind it listen: what is left of the
    /// connections of one peer cannot be in the way of another's.
    #[must_use]
    pub fn port(&self) -> u16 {
        let place = PEERS.iter().position(|peer| peer.name == self.name);
        7001 + u16::try_from(place.unwrap_or_default()).unwrap_or_default()
    }

    /// Whether it can do that.
    #[must_use]
    pub fn can(&self, work: &Work) -> bool {
        match self.way {
            Way::Process(carrier) => work.shape != Shape::Datagram || carrier == Carrier::Nginx,
            Way::Nobody | Way::Nft(_) | Way::Packets(..) => true,
        }
    }

    /// Starts it on the machine in the middle.
    ///
    /// # Errors
    /// Why it is not here.
    pub fn start(&'static self, stage: &Stage) -> Result<Running, String> {
        let server = stage.server_address(self.port());
        let at = SocketAddr::from((stage.net.proxy.left.v4, self.port()));
        let router = &stage.net.proxy;
        let (to, middle) = match self.way {
            Way::Nobody => (server, Middle::Nobody),
            Way::Process(_) => {
                let role = format!("{} {at} {server}", self.name);
                let process = router.run(|| Process::start(&role, at));
                let process = process.expect("a namespace").map_err(|it| it.to_string())?;
                (at, Middle::Process(process))
            }
            Way::Nft(nat) => (at, Middle::Rules(Rules::nft(nat, at, server))),
            Way::Packets(mode, wish) => {
                let rules = Rules::packets(mode, wish, at, server, SOURCE)?;
                (at, Middle::Rules(rules))
            }
        };
        if let Middle::Rules(rules) = &middle {
            for line in rules.description(router)? {
                println!("{}: {line}", self.name);
            }
        }
        Ok(Running {
            peer: self,
            to,
            middle,
        })
    }
}

/// A proxy that runs, and ends when this is dropped.
#[derive(Debug)]
pub struct Running {
    /// What it is.
    pub peer: &'static Peer,
    /// Where clients find it.
    pub to: SocketAddr,
    middle: Middle,
}

/// What is on the machine in the middle.
#[derive(Debug)]
enum Middle {
    Nobody,
    /// It runs all the time.
    Process(Process),
    /// They are there while they are used.
    Rules(Rules),
}

impl Running {
    /// Prepares it for this.
    pub fn prepare(&self, work: &Work) {
        if let Middle::Process(process) = &self.middle {
            process.keep(&work.place.proxy());
        }
    }

    /// Runs `body` while it is there.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn during<T>(&self, stage: &Stage, body: impl FnOnce() -> T) -> Result<T, String> {
        match &self.middle {
            Middle::Rules(rules) => rules.during(&stage.net.proxy, body),
            Middle::Nobody | Middle::Process(_) => Ok(body()),
        }
    }
}
