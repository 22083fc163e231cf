//! What a configuration would be on this machine, without doing it.

use crate::dns::Resolver;
use crate::error::{Error, Result};
use crate::numbers::Numbers;
use crate::plan::{self, Plan, World};
use bpfsmith_config::desired::Desired;
use bpfsmith_datapath::IfIndex;
use bpfsmith_datapath::choice::{Choice, Need, OwnBackend, Wish, Xdp, choose};
use bpfsmith_datapath::clock::Clock;
use bpfsmith_datapath::config::{Config, Family, Mode};
use bpfsmith_datapath::look::{Interface, Look};
use bpfsmith_datapath::mss::Mss;
use bpfsmith_datapath::programs::{Hook, Usual};
use bpfsmith_datapath::shape::{Shape, Sums6};
use bpfsmith_datapath::tables::Tables;
use bpfsmith_net::Netlink;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

/// Devices that are not here get numbers from here on.
const NOT_HERE: u32 = 0x4000_0000;

/// Hosts that have no address get one from here on: 198.18.0.0/15 is nobody's.
const NOWHERE: u32 = 0xc612_0001;

/// What a configuration would be on this machine. Nothing is changed, and nothing loaded but what asks the kernel what
/// it can do.
#[derive(Debug)]
pub struct Foreseen {
    /// What would be done.
    pub plan: Plan,
    /// What programs would contain.
    pub shape: Shape,
    /// The devices that would have programs.
    pub devices: Vec<Device>,
    /// The addresses of hosts, or why there are none.
    pub hosts: BTreeMap<String, std::result::Result<BTreeSet<IpAddr>, String>>,
    /// Why the proxy would not begin with this.
    pub obstacle: Option<String>,
    /// What could not be found out.
    pub notes: Vec<String>,
}

/// A device that would have programs.
#[derive(Clone, Debug)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Its number, if it is here.
    pub index: Option<IfIndex>,
    /// What it is, as far as that could be found out.
    pub interface: Option<Interface>,
    /// What was chosen for it, if it could be.
    pub choice: Option<Choice>,
    /// Why.
    pub why: String,
    /// Its programs.
    pub programs: Vec<(Hook, Usual)>,
}

impl Foreseen {
    /// What this machine would do for it. Devices that are not here and hosts that have no address are made up, so that
    /// it can be seen anywhere.
    ///
    /// # Errors
    /// When the configuration contradicts itself, or the kernel does not tell of its devices.
    pub fn new(desired: &Desired) -> Result<Foreseen> {
        let mut notes = Vec::new();
        let net = Netlink::open()?;
        let links = net
            .links()?
            .into_iter()
            .filter(|link| !link.flags.is_loopback());
        let here: BTreeMap<String, IfIndex> = links.map(|link| (link.name, link.index)).collect();
        let hosts = resolve(&plan::hosts(desired))?;
        let mut world = World {
            devices: here.clone(),
            hosts: made_up(&hosts, &mut notes),
            ..World::default()
        };
        let named = desired.settings.devices.iter();
        let named = named.chain(desired.proxies.iter().flat_map(|proxy| &proxy.devices));
        for (name, number) in named.zip(NOT_HERE..) {
            world.devices.entry(name.clone()).or_insert(IfIndex(number));
        }
        let plan = Plan::new(desired, &world, &mut Numbers::default())?;
        let shape = shape(&plan.config, &mut notes)?;
        let mut foreseen = Foreseen {
            plan,
            shape,
            devices: Vec::new(),
            hosts,
            obstacle: None,
            notes,
        };
        foreseen.look(&here);
        Ok(foreseen)
    }

    /// What devices are and get.
    fn look(&mut self, here: &BTreeMap<String, IfIndex>) {
        let look = Look::here();
        if let Err(error) = &look {
            self.notes
                .push(format!("devices were not looked at: {error}"));
        }
        let look = look.ok();
        for name in self.plan.devices.keys() {
            let index = here.get(name).copied();
            let (interface, why) = match (index, &look) {
                (None, _) => (None, "it is not on this machine".to_owned()),
                (Some(_), None) => (None, "it was not looked at".to_owned()),
                (Some(index), Some(look)) => match look.at(index) {
                    Ok(interface) => (Some(interface), String::new()),
                    Err(error) => (None, format!("it was not looked at: {error}")),
                },
            };
            self.devices.push(Device {
                name: name.clone(),
                index,
                interface,
                choice: None,
                why,
                programs: vec![(Hook::Tcx, Usual::Device)],
            });
        }
        let need = self.need(look.as_ref());
        self.choose(&need);
        if !need.own_backends.is_empty() {
            for device in &mut self.devices {
                device.programs.push((Hook::TcxEgress, Usual::Device));
            }
        }
    }

    fn need(&mut self, look: Option<&Look<'_>>) -> Need {
        let families = [Family::V4, Family::V6].into_iter();
        let mut need = Need {
            families: families.filter(|it| self.shape.has(*it)).collect(),
            own_backends: Vec::new(),
        };
        let Some(look) = look else {
            return need;
        };
        for (address, modes) in backends(&self.plan.config) {
            match look.is_own(address) {
                Ok(true) => need.own_backends.push(OwnBackend {
                    address,
                    has_own_source: modes.contains(&Mode::FullNat),
                }),
                Ok(false) => {}
                Err(error) => self.notes.push(error.to_string()),
            }
        }
        need
    }

    fn choose(&mut self, need: &Need) {
        let seen: Vec<(Interface, Wish)> = self
            .devices
            .iter()
            .filter_map(|device| Some((device.interface.clone()?, Wish::Best)))
            .collect();
        let choices = match choose(&seen, need) {
            Ok(choices) => choices,
            Err(obstacle) => {
                self.obstacle = Some(obstacle.to_string());
                Vec::new()
            }
        };
        for device in &mut self.devices {
            let choice = choices.iter().find(|it| Some(it.device) == device.index);
            let Some(choice) = choice else {
                if device.why.is_empty() {
                    device.why = "the usual one, as nothing could be chosen".to_owned();
                }
                continue;
            };
            device.programs = vec![(Hook::Tcx, choice.usual)];
            if let Some(Xdp::Native | Xdp::Generic) = choice.xdp {
                device.programs.insert(0, (Hook::Xdp, choice.xdp_usual));
            }
            device.why = choice.why.to_string();
            device.choice = Some(choice.clone());
        }
    }
}

/// Where backends are, and how packets get there.
#[must_use]
pub fn backends(config: &Config) -> BTreeMap<IpAddr, BTreeSet<Mode>> {
    let mut places: BTreeMap<IpAddr, BTreeSet<Mode>> = BTreeMap::new();
    let addresses: BTreeMap<_, _> = config
        .backends
        .iter()
        .map(|backend| (backend.id, backend.address.ip()))
        .collect();
    for group in &config.groups {
        for member in &group.members {
            if let Some(address) = addresses.get(&member.backend) {
                places.entry(*address).or_default().insert(group.mode);
            }
        }
    }
    places
}

type Hosts = BTreeMap<String, std::result::Result<BTreeSet<IpAddr>, String>>;

/// All at once: those that nobody answers take their time.
fn resolve(hosts: &BTreeSet<String>) -> Result<Hosts> {
    if hosts.is_empty() {
        return Ok(Hosts::new());
    }
    let resolver = Resolver::of_system()?;
    let hosts: Vec<&String> = hosts.iter().collect();
    let mut found = Hosts::new();
    for some in hosts.chunks(32) {
        std::thread::scope(|scope| {
            let asked: Vec<_> = some
                .iter()
                .map(|host| (*host, scope.spawn(|| resolver.resolve(host))))
                .collect();
            for (host, asked) in asked {
                let answer = match asked.join() {
                    Ok(answer) => answer
                        .map(|answer| answer.addresses)
                        .map_err(|error| error.to_string()),
                    Err(_) => Err("asking for it went wrong".to_owned()),
                };
                found.insert(host.clone(), answer);
            }
        });
    }
    Ok(found)
}

/// The same with an address for each.
fn made_up(hosts: &Hosts, notes: &mut Vec<String>) -> BTreeMap<String, BTreeSet<IpAddr>> {
    let all = hosts.iter().zip(NOWHERE..);
    let all = all.map(|((host, found), number)| match found {
        Ok(addresses) if !addresses.is_empty() => (host.clone(), addresses.clone()),
        _ => {
            let why = found
                .as_ref()
                .err()
                .map_or("it has no address", String::as_str);
            let address = Ipv4Addr::from(number);
            notes.push(format!("{host}: {why}; {address} stands for it here"));
            (host.clone(), BTreeSet::from([address.into()]))
        }
    });
    all.collect()
}

/// What programs of a configuration contain, with what the running kernel says of itself if it does.
fn shape(config: &Config, notes: &mut Vec<String>) -> Result<Shape> {
    let places = u32::try_from(Tables::of(config)?.ring.len()).unwrap_or(u32::MAX);
    let clock = Clock::of_kernel().map_err(|errno| Error::Machine {
        call: "clock_getres",
        error: errno.into(),
        hint: "this kernel has no coarse clock",
    })?;
    let mut shape = Shape::of(config, places, clock);
    if shape.has(Family::V6) {
        match Sums6::of_kernel() {
            Ok(sums) => shape.sums6 = sums,
            Err(error) => notes.push(format!(
                "the kernel was not asked how it changes sums of IPv6, newest ways are taken: {error}"
            )),
        }
    }
    match Mss::of_kernel(&shape.cookies) {
        Ok(mss) => shape.mss = mss,
        Err(error) => notes.push(format!(
            "the kernel was not asked what its cookies remember: {error}"
        )),
    }
    Ok(shape)
}
