//! From what is wanted to what the datapath does: no kernel is asked.

pub use crate::health::Target;
use crate::numbers::{Numbers, Place};
use bpfsmith_config::desired::{Desired, Group, Nat, Place as Where, Proxy, Source};
use bpfsmith_config::{At, Problems, desired};
use bpfsmith_datapath::config::{
    Above, Algorithm, Backend, BackendId, Config, Events, Family, Fragments, GroupId, Limits,
    Listener, ListenerLimit, Member, MidStream, Mode, Protocol, Rate, Room, SourceLimit, Timeouts,
};
use bpfsmith_datapath::{IfIndex, Prefix};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// What has to be known of the world to make a plan.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// The devices that are here.
    pub devices: BTreeMap<String, IfIndex>,
    /// Devices that were here, and are not now: they get programs when they come back.
    pub absent: BTreeSet<String>,
    /// Devices that have another name now, which is the second, and go on as those that they were.
    pub renamed: BTreeMap<String, String>,
    /// The addresses of hosts.
    pub hosts: BTreeMap<String, BTreeSet<IpAddr>>,
    /// What share of its weight a target gets now, in percent; those that are not here get all of it.
    pub shares: BTreeMap<Target, u8>,
    /// Targets that somebody took out: they get nothing, whatever their share is.
    pub drained: BTreeSet<Target>,
}

/// What the datapath is to do, and what its numbers mean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// For the datapath.
    pub config: Config,
    /// The devices that get programs.
    pub devices: BTreeMap<String, IfIndex>,
    /// Those that would, if they were here.
    pub absent: BTreeSet<String>,
    /// What listeners are, by number.
    pub listeners: BTreeMap<u16, Listening>,
    /// The numbers of targets' backends.
    pub targets: BTreeMap<Target, Aim>,
    /// Groups all of whose targets are down: they get connections all the same.
    pub desperate: BTreeSet<String>,
}

/// A place where a proxy listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// The name of the proxy.
    pub proxy: String,
    /// Where it listens; an unspecified address stands for all.
    pub address: SocketAddr,
    /// What clients speak.
    pub protocol: Protocol,
}

/// What a target has in the datapath.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aim {
    /// The number of its backend.
    pub backend: BackendId,
    /// Its weight, as it is wanted.
    pub weight: u32,
    /// What it gets of that now, in percent.
    pub share: u8,
}

impl Plan {
    /// What is to be done for what is wanted. Numbers that were given out before are kept.
    ///
    /// # Errors
    /// When something of it is not in this world, or contradicts itself: all of it is told.
    pub fn new(desired: &Desired, world: &World, numbers: &mut Numbers) -> Result<Plan, Problems> {
        let problems = Problems::new();
        let mut planner = Planner {
            desired,
            world,
            numbers,
            problems: &problems,
            plan: Plan::default(),
            groups: BTreeMap::new(),
            backends: BTreeSet::new(),
        };
        planner.settings();
        for group in &desired.groups {
            planner.group(group);
        }
        for proxy in &desired.proxies {
            planner.proxy(proxy);
        }
        let has_devices = !planner.plan.devices.is_empty() || !planner.plan.absent.is_empty();
        if !has_devices && !desired.proxies.is_empty() {
            let at = desired.proxies[0].at;
            problems.add(
                at,
                "no device has programs: name some, as devices of a proxy or of the settings",
            );
        }
        let plan = planner.plan;
        problems.end().map(|()| plan)
    }

    /// The proxy and address that a number of a listener stands for.
    #[must_use]
    pub fn listening(&self, number: u16) -> Option<&Listening> {
        self.listeners.get(&number)
    }
}

/// The hosts that are named.
#[must_use]
pub fn hosts(desired: &Desired) -> BTreeSet<String> {
    let targets = desired.groups.iter().flat_map(|group| &group.targets);
    let targets = targets.filter_map(|target| match &target.place {
        Where::Host(host, _) => Some(host.clone()),
        Where::Address(_) => None,
    });
    let routes = desired.proxies.iter().flat_map(|proxy| &proxy.routes);
    let sources = routes.flat_map(|route| &route.sources);
    let sources = sources.filter_map(|source| match source {
        Source::Host(host) => Some(host.clone()),
        Source::Prefix(..) => None,
    });
    targets.chain(sources).collect()
}

/// The targets of a group by their addresses, with their weights. Two names of one machine are one target with
/// the weight of both.
#[must_use]
pub fn targets(
    group: &Group,
    hosts: &BTreeMap<String, BTreeSet<IpAddr>>,
) -> BTreeMap<SocketAddr, u32> {
    let mut targets = BTreeMap::new();
    for target in &group.targets {
        let addresses: Vec<SocketAddr> = match &target.place {
            Where::Address(address) => vec![*address],
            Where::Host(host, port) => {
                let addresses = hosts.get(host).into_iter().flatten();
                addresses.map(|ip| SocketAddr::new(*ip, *port)).collect()
            }
        };
        for address in addresses {
            let weight: &mut u32 = targets.entry(address).or_default();
            *weight = weight.saturating_add(target.weight);
        }
    }
    targets
}

struct Planner<'a> {
    desired: &'a Desired,
    world: &'a World,
    numbers: &'a mut Numbers,
    problems: &'a Problems,
    plan: Plan,
    /// Each group is one for each family in the datapath.
    groups: BTreeMap<(String, Family), GroupId>,
    /// Those that are in the plan.
    backends: BTreeSet<BackendId>,
}

impl Planner<'_> {
    fn settings(&mut self) {
        let settings = &self.desired.settings;
        let usual = (Room::default(), Timeouts::default());
        let config = &mut self.plan.config;
        config.sources.clone_from(&settings.sources);
        if let Some(ports) = &settings.source_ports {
            config.source_ports = ports.clone();
        }
        config.room = Room {
            flows: settings.flows.unwrap_or(usual.0.flows),
            ..usual.0
        };
        let times = settings.timeouts;
        config.timeouts = Timeouts {
            unanswered: times.unanswered.unwrap_or(usual.1.unanswered),
            established: times.established.unwrap_or(usual.1.established),
            half_closed: times.half_closed.unwrap_or(usual.1.half_closed),
            closed: times.closed.unwrap_or(usual.1.closed),
            udp: times.udp.unwrap_or(usual.1.udp),
            round: usual.1.round,
        };
        config.limits = Limits {
            sources: settings.source_limit.map(|limit| SourceLimit {
                rate: rate(limit.rate, limit.burst),
                bits4: limit.bits4,
                bits6: limit.bits6,
                room: limit.room.unwrap_or(SOURCES),
            }),
            listeners: BTreeMap::new(),
        };
        config.fragments = settings.fragments.map_or(config.fragments, fragments);
        config.mid_stream = settings.mid_stream.map_or(config.mid_stream, mid_stream);
        config.has_vlan = settings.vlan.unwrap_or(config.has_vlan);
        // Whoever asks for events later finds them in the programs.
        config.events = Some(Events::default());
        for name in &settings.devices {
            self.device(At::default(), name);
        }
    }

    /// The number of a device, which gets programs.
    fn device(&mut self, at: At, name: &str) -> Option<IfIndex> {
        let number = self.world.devices.get(name).copied();
        match number {
            Some(number) => {
                self.plan.devices.insert(name.to_owned(), number);
            }
            None if self.world.absent.contains(name) => {
                self.plan.absent.insert(name.to_owned());
            }
            None => {
                let here: Vec<&str> = self.world.devices.keys().map(String::as_str).collect();
                let here = here.join(", ");
                let what = format!("there is no device {name} here: there are {here}");
                self.problems.add(at, what);
            }
        }
        number
    }

    /// A group of the datapath for each family that its targets are of.
    fn group(&mut self, group: &Group) {
        for target in &group.targets {
            if let Where::Host(host, _) = &target.place
                && self.world.hosts.get(host).is_none_or(BTreeSet::is_empty)
            {
                let what = format!("{host} has no address: it is not found, or nobody answers");
                self.problems.add(target.at, what);
            }
        }
        let shares = self.shares(group);
        // Shares of weights are whole numbers.
        let is_whole = shares.iter().all(|(_, _, share)| matches!(share, 0 | 100));
        for (address, weight, share) in shares {
            let family = Family::of(address.ip());
            let Some(number) = self.numbers.backend(address) else {
                let what = "there are too many targets, of which some have gone only just now";
                self.problems.add(group.at, what);
                return;
            };
            let sources = &self.desired.settings.sources;
            if group.nat == Nat::Full && !sources.iter().any(|it| Family::of(*it) == family) {
                let what = format!(
                    "{} hides clients from {address} (nat = \"full\"), but settings.sources has no address of that family to do so: add one",
                    group.name
                );
                self.problems.add(group.at, what);
                return;
            }
            let id = self.group_of(group, family);
            let percent = u32::from(share);
            let given = match (is_whole, share) {
                (_, 0) => 0,
                (true, _) => weight,
                (false, _) => weight.saturating_mul(percent).max(1),
            };
            let backend = BackendId(number);
            self.plan.config.groups[id.0 as usize].members.push(Member {
                backend,
                weight: given,
            });
            if self.backends.insert(backend) {
                self.plan.config.backends.push(Backend {
                    id: backend,
                    address,
                });
            }
            let target = Target {
                group: group.name.clone(),
                address,
            };
            let aim = Aim {
                backend,
                weight,
                share,
            };
            self.plan.targets.insert(target, aim);
        }
    }

    /// The targets of a group, their weights, and what they get of them.
    fn shares(&mut self, group: &Group) -> Vec<(SocketAddr, u32, u8)> {
        let mut shares = Vec::new();
        let mut is_hopeless = true;
        for (address, weight) in targets(group, &self.world.hosts) {
            let target = Target {
                group: group.name.clone(),
                address,
            };
            let is_drained = self.world.drained.contains(&target);
            let share = self.world.shares.get(&target).copied().unwrap_or(100);
            is_hopeless &= share == 0 || is_drained;
            shares.push((address, weight, share, is_drained));
        }
        let is_desperate = is_hopeless && shares.iter().any(|(.., is_drained)| !is_drained);
        if is_desperate {
            self.plan.desperate.insert(group.name.clone());
        }
        let given = shares
            .into_iter()
            .map(|(address, weight, share, is_drained)| {
                let share = match (is_drained, is_desperate) {
                    (true, _) => 0,
                    (false, true) => 100,
                    (false, false) => share,
                };
                (address, weight, share)
            });
        given.collect()
    }

    fn group_of(&mut self, group: &Group, family: Family) -> GroupId {
        let groups = &mut self.plan.config.groups;
        let id = self.groups.entry((group.name.clone(), family));
        *id.or_insert_with(|| {
            groups.push(bpfsmith_datapath::config::Group {
                algorithm: algorithm(group.algorithm),
                mode: mode(group.nat),
                members: Vec::new(),
            });
            GroupId(u32::try_from(groups.len() - 1).unwrap_or(u32::MAX))
        })
    }

    fn proxy(&mut self, proxy: &Proxy) {
        let devices: Vec<IfIndex> = proxy
            .devices
            .iter()
            .filter_map(|name| self.device(proxy.at, name))
            .collect();
        // None at all would stand for all that have programs.
        if devices.is_empty() && !proxy.devices.is_empty() {
            return;
        }
        for address in self.addresses(proxy) {
            for protocol in &proxy.protocols {
                self.listener(proxy, &devices, address, protocol_of(*protocol));
            }
        }
    }

    /// Where a proxy listens: without addresses, at all of the families that answer.
    fn addresses(&self, proxy: &Proxy) -> Vec<IpAddr> {
        if !proxy.addresses.is_empty() {
            return proxy.addresses.clone();
        }
        let answers = |family: &Family| self.groups.contains_key(&(proxy.group.clone(), *family));
        let families = [Family::V4, Family::V6].into_iter().filter(answers);
        families.map(Family::any).collect()
    }

    fn listener(&mut self, proxy: &Proxy, devices: &[IfIndex], ip: IpAddr, protocol: Protocol) {
        let family = Family::of(ip);
        let address = SocketAddr::new(ip, proxy.port);
        let Some(group) = self.answers(proxy.at, &proxy.name, &proxy.group, family) else {
            return;
        };
        let mut routes = BTreeMap::new();
        for route in &proxy.routes {
            let Some(group) = self.route_group(proxy, route, family) else {
                continue;
            };
            for prefix in self.prefixes(route, family) {
                if routes
                    .insert((prefix.addr(), prefix.len()), (prefix, group))
                    .is_some()
                {
                    let what = format!("{} has two routes for {prefix}", proxy.name);
                    self.problems.add(route.at, what);
                }
            }
        }
        let place = Place {
            device: devices.iter().min().copied(),
            address,
            protocol,
        };
        let Some(number) = self.numbers.listener(place) else {
            self.problems.add(proxy.at, "there are too many listeners");
            return;
        };
        if let Some(other) = self.plan.listeners.get(&number) {
            let what = format!(
                "{} and {} both listen on {address}: give one of them another address, port or device",
                other.proxy, proxy.name
            );
            self.problems.add(proxy.at, what);
            return;
        }
        let limits = &mut self.plan.config.limits.listeners;
        limits.extend(proxy.limit.map(|limit| {
            let above = if limit.cookies && protocol == Protocol::Tcp {
                Above::Cookies
            } else {
                Above::Drop
            };
            let rate = rate(limit.rate, limit.burst);
            (number, ListenerLimit { rate, above })
        }));
        self.plan.config.listeners.push(Listener {
            number,
            devices: devices.to_vec(),
            address,
            protocol,
            routes: routes.into_values().collect(),
            group,
        });
        let listening = Listening {
            proxy: proxy.name.clone(),
            address,
            protocol,
        };
        self.plan.listeners.insert(number, listening);
    }

    /// The group of the datapath that answers there.
    fn answers(&mut self, at: At, who: &str, group: &str, family: Family) -> Option<GroupId> {
        let found = self.groups.get(&(group.to_owned(), family)).copied();
        let has_other = [Family::V4, Family::V6]
            .iter()
            .any(|other| self.groups.contains_key(&(group.to_owned(), *other)));
        if found.is_some() {
            return found;
        }
        let what = match (has_other, self.desired.group(group)) {
            (true, _) => format!(
                "{who} listens on {}, but no target of {group} has such an address: packets are not translated",
                match family {
                    Family::V4 => "IPv4",
                    Family::V6 => "IPv6",
                }
            ),
            // It has none at all: nobody answers until somebody is added.
            (false, Some(group)) => return Some(self.group_of(group, family)),
            (false, None) => format!("{who} names group {group}, which there is not"),
        };
        self.problems.add(at, what);
        None
    }

    /// The group of a route, if the route has anything to say about packets of that family.
    fn route_group(
        &mut self,
        proxy: &Proxy,
        route: &desired::Route,
        family: Family,
    ) -> Option<GroupId> {
        match self.prefixes(route, family).is_empty() {
            true => None,
            false => self.answers(route.at, &proxy.name, &route.group, family),
        }
    }

    /// Who comes by a route, of one family.
    fn prefixes(&self, route: &desired::Route, family: Family) -> Vec<Prefix> {
        let mut prefixes = Vec::new();
        for source in &route.sources {
            let all: Vec<(IpAddr, u8)> = match source {
                Source::Prefix(ip, bits) => vec![(*ip, *bits)],
                Source::Host(host) => {
                    let known = self.world.hosts.get(host).into_iter().flatten();
                    known.map(|ip| (*ip, bits(*ip))).collect()
                }
            };
            if let Source::Host(host) = source
                && all.is_empty()
            {
                let what = format!("{host} has no address: it is not found, or nobody answers");
                self.problems.add(route.at, what);
            }
            let all = all.into_iter().filter(|(ip, _)| Family::of(*ip) == family);
            prefixes.extend(all.filter_map(|(ip, bits)| Prefix::new(ip, bits).ok()));
        }
        prefixes
    }
}

/// Sources that are remembered for their limit.
const SOURCES: u32 = 1 << 16;

const fn bits(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

const fn rate(rate: u32, burst: u32) -> Rate {
    Rate {
        per_second: rate,
        burst,
    }
}

const fn protocol_of(protocol: desired::Protocol) -> Protocol {
    match protocol {
        desired::Protocol::Tcp => Protocol::Tcp,
        desired::Protocol::Udp => Protocol::Udp,
    }
}

const fn algorithm(algorithm: desired::Algorithm) -> Algorithm {
    match algorithm {
        desired::Algorithm::Maglev => Algorithm::Maglev,
        desired::Algorithm::Source => Algorithm::SourceAffinity,
        desired::Algorithm::Turns => Algorithm::RoundRobin,
        desired::Algorithm::Fewest => Algorithm::LeastConnections,
    }
}

const fn fragments(fragments: desired::Fragments) -> Fragments {
    match fragments {
        desired::Fragments::Follow => Fragments::Follow,
        desired::Fragments::FollowOrDrop => Fragments::FollowOrDrop,
        desired::Fragments::Pass => Fragments::Pass,
    }
}

const fn mid_stream(mid_stream: desired::MidStream) -> MidStream {
    match mid_stream {
        desired::MidStream::Pass => MidStream::Pass,
        desired::MidStream::Drop => MidStream::Drop,
        desired::MidStream::Adopt => MidStream::Adopt,
    }
}

const fn mode(nat: Nat) -> Mode {
    match nat {
        Nat::Dnat => Mode::Dnat,
        Nat::Full => Mode::FullNat,
        Nat::Direct => Mode::DirectReturn,
    }
}
