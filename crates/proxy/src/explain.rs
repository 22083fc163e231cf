//! What programs a configuration makes, without loading any.

use crate::commands::words::Hook as Word;
use crate::dns::Resolver;
use crate::error::{Error, Result};
use crate::numbers::Numbers;
use crate::plan::{self, Plan, World};
use crate::show::{Table, printable};
use bpfsmith_config::Value;
use bpfsmith_config::desired::Desired;
use bpfsmith_datapath::IfIndex;
use bpfsmith_datapath::choice::{Choice, Need, OwnBackend, Wish, Xdp, choose};
use bpfsmith_datapath::clock::Clock;
use bpfsmith_datapath::config::{
    Above, Algorithm, Config, Family, Fragments, MidStream, Mode, Protocol,
};
use bpfsmith_datapath::look::{Interface, Look};
use bpfsmith_datapath::mss::Mss;
use bpfsmith_datapath::programs::{Hook, Usual, program};
use bpfsmith_datapath::shape::{Form, Path, Shape, Sums6};
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

/// A part of programs: what a configuration put in, and what it left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it is about.
    pub name: &'static str,
    /// What programs contain.
    pub has: Vec<String>,
    /// What they do not.
    pub lacks: Vec<String>,
}

impl Part {
    fn of(name: &'static str, all: impl IntoIterator<Item = (String, bool)>) -> Part {
        let (has, lacks): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, is_in)| *is_in);
        let names = |these: Vec<(String, bool)>| these.into_iter().map(|(name, _)| name).collect();
        Part {
            name,
            has: names(has),
            lacks: names(lacks),
        }
    }

    fn value(&self) -> Value {
        let names = |these: &[String]| Value::list(these.iter().map(|it| it.as_str().into()));
        Value::table([
            ("part", self.name.into()),
            ("in", names(&self.has)),
            ("out", names(&self.lacks)),
        ])
    }
}

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

const fn family(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

const fn hook_word(hook: Hook) -> &'static str {
    match hook {
        Hook::Xdp => "xdp",
        Hook::Tcx => "tcx",
        Hook::TcxEgress => "out",
    }
}

const fn usual_word(usual: Usual) -> &'static str {
    match usual {
        Usual::Device => "by a device",
        Usual::Peer => "into the far end of a device",
        Usual::Back => "by the device that they came by",
    }
}

/// What programs of that shape contain, part by part.
#[must_use]
pub fn parts(shape: &Shape) -> Vec<Part> {
    let paths = Path::ALL.map(|path| {
        let spoken = match path.protocol {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
        };
        let name = format!("{spoken} over {}", family(path.family));
        (name, shape.paths.contains(&path))
    });
    let each = |has: &BTreeSet<Family>| {
        let has = has.clone();
        FAMILIES.map(|it| (family(it).to_owned(), has.contains(&it)))
    };
    let limits = &shape.limits;
    let drops = limits.listeners.values();
    let drops = drops.clone().any(|limit| limit.above == Above::Drop);
    vec![
        Part::of("packets", paths),
        Part::of("listeners", forms(shape)),
        Part::of("routes by source", each(&shape.routes)),
        Part::of(
            "algorithms",
            Algorithm::ALL.iter().map(|it| {
                let name = match it {
                    Algorithm::Maglev => "maglev",
                    Algorithm::SourceAffinity => "source",
                    Algorithm::RoundRobin => "turns",
                    Algorithm::LeastConnections => "fewest",
                };
                (name.to_owned(), shape.algorithms.contains(it))
            }),
        ),
        Part::of(
            "NAT",
            Mode::ALL.iter().map(|it| {
                let name = match it {
                    Mode::Dnat => "dnat",
                    Mode::FullNat => "full",
                    Mode::DirectReturn => "direct",
                };
                (name.to_owned(), shape.modes.contains(it))
            }),
        ),
        Part::of("back to where they came from", each(&shape.hairpins)),
        Part::of(
            "limits",
            [
                ("of sources".to_owned(), limits.sources.is_some()),
                ("of listeners".to_owned(), drops),
                ("by cookie".to_owned(), !shape.cookies.is_empty()),
            ],
        ),
        Part::of("events", [("told".to_owned(), shape.events.is_some())]),
        Part::of(
            "odd packets",
            [
                ("fragments".to_owned(), shape.fragments != Fragments::Pass),
                (
                    "TCP without a flow".to_owned(),
                    shape.mid_stream != MidStream::Pass,
                ),
                ("VLAN tags".to_owned(), shape.has_vlan),
            ],
        ),
    ]
}

/// The ways in which listeners are looked for.
fn forms(shape: &Shape) -> Vec<(String, bool)> {
    let mut forms = Vec::new();
    for it in FAMILIES {
        for (any_device, any_address, name) in [
            (false, false, "at a device and address"),
            (false, true, "at a device"),
            (true, false, "at an address"),
            (true, true, "everywhere"),
        ] {
            let form = Form {
                any_device,
                any_address,
            };
            let name = format!("{} {name}", family(it));
            forms.push((name, shape.forms.contains(&(it, form))));
        }
    }
    forms
}

/// Which programs are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Those that run there.
    pub hook: Option<Word>,
    /// Those of this device.
    pub device: Option<String>,
}

/// A program, and where it would run.
#[derive(Debug)]
pub struct Explained {
    /// Where it sees packets.
    pub hook: Hook,
    /// How most of them go out.
    pub usual: Usual,
    /// The devices that would have it; none if it is shown because somebody asked.
    pub devices: Vec<String>,
    /// Its instructions.
    pub instructions: usize,
    /// All of them, with their lines of Rust.
    pub listing: String,
}

/// Programs that a configuration makes.
#[derive(Debug)]
pub struct Explanation {
    /// What would be.
    pub foreseen: Foreseen,
    /// Those that were asked for.
    pub programs: Vec<Explained>,
}

impl Explanation {
    /// Makes them.
    ///
    /// # Errors
    /// As for [`Foreseen::new`]; when no such device has programs.
    pub fn new(desired: &Desired, asked: &Asked) -> Result<Explanation> {
        let mut foreseen = Foreseen::new(desired)?;
        if let Some(name) = &asked.device {
            let known: Vec<String> = foreseen.devices.iter().map(|it| it.name.clone()).collect();
            if !known.contains(name) {
                return Err(Error::Unknown {
                    what: "device with programs of this configuration",
                    name: name.clone(),
                    known,
                });
            }
            foreseen.devices.retain(|it| it.name == *name);
        }
        let wanted = asked.hook.map(|word| match word {
            Word::Tcx => Hook::Tcx,
            Word::Xdp => Hook::Xdp,
            Word::Out => Hook::TcxEgress,
        });
        let mut places: BTreeMap<(Hook, Usual), Vec<String>> = BTreeMap::new();
        for device in &foreseen.devices {
            for place in &device.programs {
                if wanted.is_none_or(|hook| hook == place.0) {
                    places.entry(*place).or_default().push(device.name.clone());
                }
            }
        }
        if let (Some(hook), true) = (wanted, places.is_empty()) {
            let word = hook_word(hook);
            let note = format!(
                "no device would have a program at {word}: what follows is what it would be"
            );
            foreseen.notes.push(note);
            places.insert((hook, Usual::Device), Vec::new());
        }
        let mut programs = Vec::new();
        for ((hook, usual), devices) in places {
            let program = program(hook, usual, &foreseen.shape)
                .map_err(bpfsmith_datapath::error::Error::from)?;
            programs.push(Explained {
                hook,
                usual,
                devices,
                instructions: program.insns().len(),
                listing: program.annotated(),
            });
        }
        Ok(Explanation { foreseen, programs })
    }

    fn instructions(&self, place: (Hook, Usual)) -> Option<usize> {
        let mut programs = self.programs.iter();
        let found = programs.find(|it| (it.hook, it.usual) == place)?;
        Some(found.instructions)
    }

    /// Without the instructions, for programs.
    #[must_use]
    pub fn value(&self) -> Value {
        let devices = self.foreseen.devices.iter().map(|device| {
            let programs = device.programs.iter().filter_map(|place| {
                Some(Value::table([
                    ("hook", hook_word(place.0).into()),
                    ("out", usual_word(place.1).into()),
                    ("instructions", self.instructions(*place)?.into()),
                ]))
            });
            Value::table([
                ("name", device.name.as_str().into()),
                ("here", device.index.is_some().into()),
                ("why", device.why.as_str().into()),
                ("programs", Value::list(programs)),
            ])
        });
        let texts = |texts: &[String]| Value::list(texts.iter().map(|it| it.as_str().into()));
        Value::table([
            ("devices", Value::list(devices)),
            (
                "parts",
                Value::list(parts(&self.foreseen.shape).iter().map(Part::value)),
            ),
            ("obstacle", self.foreseen.obstacle.clone().into()),
            ("notes", texts(&self.foreseen.notes)),
        ])
    }

    /// For people: what there is, and then all instructions.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = self.summary();
        for it in &self.programs {
            let devices = match it.devices.as_slice() {
                [] => "no device".to_owned(),
                some => some.join(", "),
            };
            text += &format!(
                "\n{} of {}: {} instructions; most packets go out {}\n\n{}",
                hook_word(it.hook),
                printable(&devices),
                it.instructions,
                usual_word(it.usual),
                it.listing,
            );
        }
        text
    }

    fn summary(&self) -> String {
        let mut devices = Table::new(&["DEVICE", "HOOK", "INSTRUCTIONS", "WHY"]);
        for device in &self.foreseen.devices {
            for place in &device.programs {
                let Some(instructions) = self.instructions(*place) else {
                    continue;
                };
                devices.row([
                    device.name.clone(),
                    hook_word(place.0).to_owned(),
                    instructions.to_string(),
                    device.why.clone(),
                ]);
            }
        }
        let mut table = Table::new(&["PART", "PUT IN", "LEFT OUT"]);
        for part in parts(&self.foreseen.shape) {
            let cell = |names: &[String]| match names {
                [] => "-".to_owned(),
                some => some.join(", "),
            };
            table.row([
                part.name.to_owned(),
                cell(&part.has),
                cell(&part.lacks),
            ]);
        }
        let mut text = format!("{}\n{}", devices.text(), table.text());
        let notes = &self.foreseen.notes;
        if let Some(obstacle) = &self.foreseen.obstacle {
            text += &format!("\nit would not begin: {}\n", printable(obstacle));
        }
        if !notes.is_empty() {
            text.push('\n');
        }
        for note in notes {
            text += &format!("note: {}\n", printable(note));
        }
        text
    }
}
