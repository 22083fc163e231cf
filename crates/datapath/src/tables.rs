//! Maps, made and filled: what a configuration becomes.

use crate::config::{
    Above, Algorithm, Backend, BackendId, Config, Family, Group, GroupId, Mode, Protocol,
};
use crate::error::{Error, Result};
use crate::layout::{self, ListenerKey4, ListenerKey6, PortSet, RouteKey4, RouteKey6};
use crate::ring::{Share, maglev, size_for, turns};
use crate::sense;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// Contents of the maps that a configuration becomes. Made without a kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Listeners for IPv4.
    pub listeners4: Vec<(ListenerKey4, layout::Listener)>,
    /// Listeners for IPv6.
    pub listeners6: Vec<(ListenerKey6, layout::Listener)>,
    /// Sources with groups of their own, IPv4.
    pub routes4: Vec<(RouteKey4, u32)>,
    /// Sources with groups of their own, IPv6.
    pub routes6: Vec<(RouteKey6, u32)>,
    /// The groups.
    pub groups: Vec<layout::Group>,
    /// The numbers of backends, each group's part behind the other's. Where flows are compared, each
    /// number has its weight behind it.
    pub ring: Vec<u32>,
    /// The backends, by number, but for the flows that they have.
    pub backends: BTreeMap<u16, layout::Backend>,
    /// The proxy's own addresses: IPv4 first.
    pub sources: Vec<[u8; 16]>,
    /// How many flows may begin at listeners.
    pub limits: Vec<(u32, layout::Limit)>,
    /// The ports that listeners have.
    pub ports: BTreeSet<u16>,
}

/// Numbers of listeners and backends go up to here.
const LAST_NUMBER: u16 = 0x7fff;

/// Addresses for full NAT go up to here.
const MOST_SOURCES: usize = 255;

impl Tables {
    /// What a configuration becomes.
    ///
    /// # Errors
    /// When the configuration contradicts itself.
    pub fn of(config: &Config) -> Result<Tables> {
        sense::check(config)?;
        let mut tables = Tables::default();
        let sources = Sources::of(config)?;
        tables.sources = sources.addresses();
        for backend in &config.backends {
            tables.add_backend(backend)?;
        }
        let backends = config.backends.iter();
        let backends: BTreeMap<BackendId, &Backend> = backends.map(|it| (it.id, it)).collect();
        let leads = leads(config);
        for (place, group) in config.groups.iter().enumerate() {
            let members = tables.add_group(place, group, &backends, &sources)?;
            let listens = leads.get(&GroupId(to_u32(place)));
            check_families(&members, listens.into_iter().flatten())?;
        }
        tables.add_listeners(config)?;
        let listeners = config.listeners.iter();
        let listeners: BTreeMap<u16, _> = listeners.rev().map(|it| (it.number, it)).collect();
        for (number, limit) in &config.limits.listeners {
            let Some(listener) = listeners.get(number) else {
                return Err(Error::NoListener(*number));
            };
            check_cookies(config, listener)?;
            tables.limits.push(((*number).into(), limit.rate.into()));
        }
        Ok(tables)
    }

    /// The set of ports as programs read it.
    #[must_use]
    pub fn port_set(&self) -> PortSet {
        let mut set = [0; 8192];
        for port in &self.ports {
            // As two bytes of a packet read at once.
            let number = usize::from(u16::from_ne_bytes(port.to_be_bytes()));
            set[number / 8] |= 1 << (number % 8);
        }
        set
    }

    fn add_backend(&mut self, backend: &Backend) -> Result<()> {
        let number = numbered("backend", backend.id.0)?;
        let entry = layout::Backend {
            address: bytes(backend.address.ip()),
            port: backend.address.port().to_be_bytes(),
            family: match backend.address {
                SocketAddr::V4(_) => 4,
                SocketAddr::V6(_) => 6,
            },
            ..layout::Backend::default()
        };
        if self.backends.insert(number, entry).is_some() {
            let what = "backend";
            return Err(Error::SameNumber { what, number });
        }
        Ok(())
    }

    /// The families of its members besides, and the first member that is of each.
    fn add_group(
        &mut self,
        place: usize,
        group: &Group,
        backends: &BTreeMap<BackendId, &Backend>,
        sources: &Sources,
    ) -> Result<BTreeMap<Family, IpAddr>> {
        let mut families = BTreeMap::new();
        let mut shares = Vec::new();
        let mut numbers = Vec::new();
        for member in &group.members {
            let Some(backend) = backends.get(&member.backend) else {
                return Err(Error::NoBackend {
                    group: place,
                    backend: member.backend,
                });
            };
            let ip = backend.address.ip();
            families.entry(Family::of(ip)).or_insert(ip);
            if member.weight > 0 {
                shares.push(share(backend, member.weight));
                numbers.push(u32::from(backend.id.0));
            }
        }
        let first = to_u32(self.ring.len());
        self.ring.extend(places(group.algorithm, &shares, &numbers));
        let (first_source, count) = match (group.mode, families.keys().next()) {
            // Of the others, those that come back to the client's own machine need one.
            (Mode::FullNat | Mode::Dnat, Some(&family)) => sources.range(family),
            _ => (0, 0),
        };
        if group.mode == Mode::FullNat && count == 0 && !families.is_empty() {
            let family = match families.keys().next() {
                Some(Family::V6) => "IPv6",
                _ => "IPv4",
            };
            return Err(Error::NoSource {
                group: place,
                family,
            });
        }
        self.groups.push(layout::Group {
            first,
            places: to_u32(self.ring.len()) - first,
            turn: 0,
            algorithm: group.algorithm.number(),
            mode: group.mode.number(),
            first_source,
            sources: count,
        });
        Ok(families)
    }

    fn add_listeners(&mut self, config: &Config) -> Result<()> {
        let groups = config.groups.len();
        let mut numbers = BTreeSet::new();
        let mut keys = BTreeMap::new();
        for listener in &config.listeners {
            let number = numbered("listener", listener.number)?;
            if !numbers.insert(number) {
                let what = "listener";
                return Err(Error::SameNumber { what, number });
            }
            let known = |user: &dyn Fn() -> String, group: GroupId| match group.0 as usize >= groups
            {
                false => Ok(()),
                true => Err(Error::NoGroup {
                    user: user(),
                    group,
                    groups,
                }),
            };
            known(&|| format!("listener {number}"), listener.group)?;
            for (prefix, group) in &listener.routes {
                known(&|| format!("route {prefix} of listener {number}"), *group)?;
            }
            self.ports.insert(listener.address.port());
            let has_cookies = config.sends_cookies(listener);
            self.add_listener(listener, has_cookies, &mut keys)?;
        }
        Ok(())
    }

    fn add_listener(
        &mut self,
        listener: &crate::config::Listener,
        has_cookies: bool,
        keys: &mut BTreeMap<(u32, IpAddr, u16, u16), u16>,
    ) -> Result<()> {
        let entry = layout::Listener {
            number: listener.number.into(),
            group: listener.group.0,
            has_routes: u32::from(!listener.routes.is_empty()),
            has_cookies: u32::from(has_cookies),
        };
        let address = listener.address;
        let (port, protocol) = (address.port().to_be_bytes(), listener.protocol.number());
        let devices: Vec<u32> = match listener.devices.as_slice() {
            [] => vec![0],
            some => some.iter().map(|device| device.0).collect(),
        };
        for device in devices {
            if let Some(other) = keys.insert(
                (device, address.ip(), address.port(), protocol),
                listener.number,
            ) {
                return Err(Error::SameListener {
                    numbers: [other, listener.number],
                    address,
                });
            }
            match address.ip() {
                IpAddr::V4(ip) => self.listeners4.push((
                    ListenerKey4 {
                        device,
                        address: ip.octets(),
                        port,
                        protocol,
                    },
                    entry,
                )),
                IpAddr::V6(ip) => self.listeners6.push((
                    ListenerKey6 {
                        device,
                        address: ip.octets(),
                        port,
                        protocol,
                    },
                    entry,
                )),
            }
        }
        self.add_routes(listener)
    }

    fn add_routes(&mut self, listener: &crate::config::Listener) -> Result<()> {
        let number = u32::from(listener.number);
        for (prefix, group) in &listener.routes {
            let bits = 32 + u32::from(prefix.len());
            match (prefix.addr(), listener.address.ip()) {
                (IpAddr::V4(ip), IpAddr::V4(_)) => self.routes4.push((
                    RouteKey4 {
                        bits,
                        listener: number,
                        address: ip.octets(),
                    },
                    group.0,
                )),
                (IpAddr::V6(ip), IpAddr::V6(_)) => self.routes6.push((
                    RouteKey6 {
                        bits,
                        listener: number,
                        address: ip.octets(),
                    },
                    group.0,
                )),
                (address, _) => {
                    return Err(Error::Family {
                        what: "route",
                        address,
                    });
                }
            }
        }
        Ok(())
    }
}

/// The families of the listeners that lead to each group.
fn leads(config: &Config) -> BTreeMap<GroupId, BTreeSet<Family>> {
    let mut leads: BTreeMap<GroupId, BTreeSet<Family>> = BTreeMap::new();
    for listener in &config.listeners {
        let family = Family::of(listener.address.ip());
        let routes = listener.routes.iter().map(|(_, group)| *group);
        for group in routes.chain([listener.group]) {
            leads.entry(group).or_default().insert(family);
        }
    }
    leads
}

/// Members are of the family of all listeners that lead to them.
fn check_families<'f>(
    members: &BTreeMap<Family, IpAddr>,
    listens: impl Iterator<Item = &'f Family>,
) -> Result<()> {
    for family in listens {
        if let Some((_, address)) = members.iter().find(|(member, _)| *member != family) {
            return Err(Error::Family {
                what: "backend",
                address: *address,
            });
        }
    }
    Ok(())
}

/// The proxy's own addresses, IPv4 first.
struct Sources {
    v4: Vec<IpAddr>,
    v6: Vec<IpAddr>,
}

impl Sources {
    fn of(config: &Config) -> Result<Sources> {
        let count = config.sources.len();
        if count > MOST_SOURCES {
            return Err(Error::TooMany {
                what: "sources",
                count,
                most: MOST_SOURCES,
            });
        }
        let (v4, v6) = config.sources.iter().partition(|source| source.is_ipv4());
        Ok(Sources { v4, v6 })
    }

    fn addresses(&self) -> Vec<[u8; 16]> {
        self.v4.iter().chain(&self.v6).copied().map(bytes).collect()
    }

    /// Where those of a family begin, and how many they are.
    fn range(&self, family: Family) -> (u8, u8) {
        let len = |list: &[IpAddr]| u8::try_from(list.len()).unwrap_or(u8::MAX);
        match family {
            Family::V4 => (0, len(&self.v4)),
            Family::V6 => (len(&self.v4), len(&self.v6)),
        }
    }
}

/// The places of a group's part of the ring, as numbers of backends.
fn places(algorithm: Algorithm, shares: &[Share], numbers: &[u32]) -> Vec<u32> {
    let mut ring = match algorithm {
        Algorithm::Maglev | Algorithm::SourceAffinity => {
            let mut slots = vec![0; size_for(shares.len()) as usize];
            match maglev(shares, &mut slots) {
                Ok(()) => slots,
                Err(_) => Vec::new(),
            }
        }
        Algorithm::RoundRobin => turns(shares),
        // A place for each, and its weight, which is this group's matter, in the next one.
        Algorithm::LeastConnections => {
            let places = shares.iter().zip(numbers);
            return places
                .flat_map(|(share, number)| [*number, share.weight])
                .collect();
        }
    };
    for place in &mut ring {
        *place = numbers[*place as usize];
    }
    ring
}

/// A backend is known by its address and port: rings of two proxies are the same.
fn share(backend: &Backend, weight: u32) -> Share {
    let address = bytes(backend.address.ip());
    let [a, b] = [0, 8].map(|at| {
        let mut half = [0; 8];
        half.copy_from_slice(&address[at..at + 8]);
        u64::from_be_bytes(half)
    });
    let key = a.rotate_left(17) ^ b ^ (u64::from(backend.address.port()) << 40);
    Share { key, weight }
}

/// An address as maps have it: of IPv4, four bytes first.
fn bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&address.octets());
            bytes
        }
        IpAddr::V6(address) => address.octets(),
    }
}

/// Cookies are for TCP whose answers come by way of the proxy.
fn check_cookies(config: &Config, listener: &crate::config::Listener) -> Result<()> {
    let limit = config.limits.listeners.get(&listener.number);
    if limit.is_none_or(|limit| limit.above != Above::Cookies) {
        return Ok(());
    }
    let number = listener.number;
    if listener.protocol != Protocol::Tcp {
        return Err(Error::CookiesOfDatagrams(number));
    }
    let routes = listener.routes.iter().map(|(_, group)| *group);
    let mut groups = routes.chain([listener.group]);
    let is_direct = |group: &GroupId| {
        let group = config.groups.get(group.0 as usize);
        group.is_some_and(|group| group.mode == Mode::DirectReturn)
    };
    match groups.find(is_direct) {
        None => Ok(()),
        Some(group) => Err(Error::CookiesWithoutAnswers {
            listener: number,
            group,
        }),
    }
}

fn numbered(what: &'static str, number: u16) -> Result<u16> {
    match number <= LAST_NUMBER {
        true => Ok(number),
        false => Err(Error::Number { what, number }),
    }
}

fn to_u32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
