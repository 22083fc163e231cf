//! A proxy at work in a world.

use super::counters::{BadSums, bad_sums};
use super::world::{VIP4, VIP6, World};
use bpfsmith_datapath::attach::Attached;
use bpfsmith_datapath::choice::Wish;
use bpfsmith_datapath::config::*;
use bpfsmith_datapath::error::Result;
use bpfsmith_datapath::generation::Generation;
use bpfsmith_datapath::look::Look;
use bpfsmith_datapath::reason::Reason;
use bpfsmith_net::{Feature, IfIndex};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// How packets go through the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Behind the driver, and out by devices.
    Device,
    /// Behind the driver, and straight into the far ends.
    Peer,
    /// In the driver.
    Xdp,
}

impl Way {
    pub(crate) const ALL: [Way; 3] = [Way::Device, Way::Peer, Way::Xdp];

    const fn wish(self) -> Wish {
        match self {
            Way::Device => Wish::Visible,
            Way::Peer => Wish::Best,
            Way::Xdp => Wish::Native,
        }
    }

    /// Where checksums may be computed: native XDP asks for one of these places.
    pub(crate) const fn sums(self) -> &'static [Sums] {
        match self {
            Way::Xdp => &[Sums::AtHosts],
            _ => &[
                Sums::Nowhere,
                Sums::AtProxy,
                Sums::AtHosts,
            ],
        }
    }
}

/// Whose checksums are computed where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sums {
    /// Nowhere: packets stay without, as veth likes it.
    Nowhere,
    /// Where they leave the proxy.
    AtProxy,
    /// Where they begin.
    AtHosts,
}

/// What clients ask for is on this port.
pub(crate) const ASKED: u16 = 80;
/// Backends are on this one.
pub(crate) const SERVED: u16 = 8080;

/// A configuration: one listener for each family and protocol, one group for each family.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) mode: Mode,
    pub(crate) algorithm: Algorithm,
    /// Backends, with their weights.
    pub(crate) backends: Vec<([IpAddr; 2], u32)>,
    pub(crate) port: u16,
    pub(crate) sources: Vec<IpAddr>,
    pub(crate) room: Room,
}

impl Wanted {
    /// All backends of a world, each with the same weight.
    pub(crate) fn of(world: &World) -> Wanted {
        let addresses = world.backends.iter().map(|it| (it.port.addresses(), 1));
        Wanted::to(addresses.collect())
    }

    /// These backends.
    pub(crate) fn to(backends: Vec<([IpAddr; 2], u32)>) -> Wanted {
        Wanted {
            mode: Mode::Dnat,
            algorithm: Algorithm::Maglev,
            backends,
            port: SERVED,
            sources: Vec::new(),
            room: Room {
                flows: 1 << 14,
                ..Room::default()
            },
        }
    }

    pub(crate) fn mode(mut self, mode: Mode) -> Wanted {
        self.mode = mode;
        if mode == Mode::FullNat && self.sources.is_empty() {
            self.sources = sources();
        }
        self
    }

    pub(crate) fn config(&self) -> Config {
        let mut config = Config {
            sources: self.sources.clone(),
            room: self.room,
            ..Config::default()
        };
        for (family, vip) in vips().into_iter().enumerate() {
            let mut members = Vec::new();
            for (addresses, weight) in &self.backends {
                let id = BackendId(u16::try_from(config.backends.len()).unwrap());
                config.backends.push(Backend {
                    id,
                    address: SocketAddr::new(addresses[family], self.port),
                });
                members.push(Member {
                    backend: id,
                    weight: *weight,
                });
            }
            let group = GroupId(u32::try_from(family).unwrap());
            config.groups.push(Group {
                algorithm: self.algorithm,
                mode: self.mode,
                members,
            });
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                config.listeners.push(Listener {
                    number: u16::try_from(config.listeners.len()).unwrap(),
                    devices: vec![],
                    address: SocketAddr::new(vip, ASKED),
                    protocol,
                    routes: vec![],
                    group,
                });
            }
        }
        config
    }
}

/// What clients ask for.
pub(crate) fn vips() -> [IpAddr; 2] {
    [VIP4.into(), VIP6.into()]
}

/// The same, with the port.
pub(crate) fn asked() -> [SocketAddr; 2] {
    vips().map(|vip| SocketAddr::new(vip, ASKED))
}

/// Addresses that are routed to the proxy, several of each family.
pub(crate) fn sources() -> Vec<IpAddr> {
    (1..=3)
        .flat_map(|n| {
            [
                IpAddr::from(Ipv4Addr::new(10, 88, 0, n)),
                IpAddr::from(Ipv6Addr::new(0xfd88, 0, 0, 0, 0, 0, 0, n.into())),
            ]
        })
        .collect()
}

/// A proxy at work.
pub(crate) struct Work<'a> {
    pub(crate) world: &'a World,
    pub(crate) generation: Generation,
    pub(crate) attached: Attached,
}

impl<'a> Work<'a> {
    /// On all of the proxy's devices.
    #[track_caller]
    pub(crate) fn start(world: &'a World, wanted: &Wanted, way: Way) -> Work<'a> {
        Work::configured(world, &wanted.config(), way)
    }

    /// With a configuration that is special.
    #[track_caller]
    pub(crate) fn configured(world: &'a World, config: &Config, way: Way) -> Work<'a> {
        if way == Way::Xdp {
            world.suit_xdp();
        }
        let ports = 1 + world.proxy.backs.len();
        Work::start_as(world, config, &vec![way.wish(); ports])
    }

    /// With a wish for each of the proxy's devices: clients' first.
    #[track_caller]
    pub(crate) fn start_as(world: &'a World, config: &Config, wishes: &[Wish]) -> Work<'a> {
        let generation = Generation::first(config).unwrap();
        let proxy = &world.proxy;
        let ports = [&proxy.front].into_iter().chain(&proxy.backs);
        let devices: Vec<_> = ports
            .zip(wishes)
            .map(|(port, wish)| (port.index, *wish))
            .collect();
        let attached = attach(world, &generation, &devices).unwrap_or_else(|error| {
            panic!("{error}");
        });
        Work {
            world,
            generation,
            attached,
        }
    }

    /// The next configuration, without a gap.
    #[track_caller]
    pub(crate) fn change(&mut self, wanted: &Wanted) {
        let next = self.generation.next(&wanted.config()).unwrap();
        assert_eq!(self.attached.replace(&next).unwrap(), []);
        self.generation = next;
    }

    pub(crate) fn count(&self, reason: Reason) -> u64 {
        self.generation.counters().unwrap()[&reason]
    }

    /// What became of packets, as far as anything did.
    pub(crate) fn seen(&self) -> Vec<(Reason, u64)> {
        let counters = self.generation.counters().unwrap();
        counters.into_iter().filter(|it| it.1 > 0).collect()
    }

    /// No packet had a wrong checksum anywhere.
    #[track_caller]
    pub(crate) fn assert_good_sums(&self) {
        for (node, port) in self.world.ports() {
            assert_eq!(bad_sums(node), BadSums::default(), "{}", port.name);
        }
    }
}

/// Attaches a generation to devices of the proxy.
pub(crate) fn attach(
    world: &World,
    generation: &Generation,
    devices: &[(IfIndex, Wish)],
) -> Result<Attached> {
    let run = || {
        let hosts = world.ports().into_iter().map(|(node, _)| &node.ns);
        let look = hosts
            .chain(world.switch().map(|node| &node.ns))
            .fold(Look::here()?, Look::with);
        Attached::new(&look, generation, devices)
    };
    world.proxy.node.run(run).unwrap()
}

impl World {
    /// Offloads as native XDP on the proxy's devices needs them.
    #[track_caller]
    pub(crate) fn suit_xdp(&self) {
        self.enable(Feature::GRO);
        self.disable(Feature::TX_CHECKSUM);
        if let Some(switch) = self.switch() {
            for link in switch.net.links().unwrap() {
                if link.kind.as_deref() == Some("veth") {
                    let ethtool = switch.ethtool().unwrap();
                    ethtool.enable(link.index, Feature::GRO).unwrap();
                    ethtool.disable(link.index, Feature::TX_CHECKSUM).unwrap();
                }
            }
        }
    }

    /// Where checksums are computed.
    #[track_caller]
    pub(crate) fn compute(&self, sums: Sums) {
        self.enable(Feature::TX_CHECKSUM);
        let proxy = &self.proxy;
        match sums {
            Sums::Nowhere => {}
            Sums::AtProxy => {
                for port in [&proxy.front].into_iter().chain(&proxy.backs) {
                    port.disable(&proxy.node, Feature::TX_CHECKSUM);
                }
            }
            Sums::AtHosts => {
                for host in self.clients.iter().chain(&self.backends) {
                    host.port.disable(&host.node, Feature::TX_CHECKSUM);
                }
            }
        }
    }
}
