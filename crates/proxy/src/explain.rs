//! What programs a configuration makes, without loading any.

use crate::columns::{Table, wrapped};
use crate::commands::words::Hook as Word;
use crate::error::{Error, Result};
use crate::foresee::Foreseen;
use crate::terminal::plain;
use bpfsmith_config::Value;
use bpfsmith_config::desired::Desired;
use bpfsmith_datapath::config::{Above, Algorithm, Family, Fragments, MidStream, Mode, Protocol};
use bpfsmith_datapath::programs::{Hook, Usual, program};
use bpfsmith_datapath::shape::{Form, Path, Shape};
use std::collections::{BTreeMap, BTreeSet};

/// No line of a summary is longer, if words allow it.
const WIDTH: usize = 80;

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
                plain(&devices),
                it.instructions,
                usual_word(it.usual),
                it.listing,
            );
        }
        text
    }

    fn summary(&self) -> String {
        let mut devices = Table::new(&["DEVICE", "HOOK", ">INSTRUCTIONS", "WHY"]);
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
        let (devices, parts) = (devices.text_within(WIDTH), table.text_within(WIDTH));
        let mut text = format!("{devices}\n{parts}");
        let notes = &self.foreseen.notes;
        if let Some(obstacle) = &self.foreseen.obstacle {
            let obstacle = format!("it would not begin: {}", plain(obstacle));
            text += &format!("\n{}\n", wrapped(&obstacle, 0, WIDTH));
        }
        if !notes.is_empty() {
            text.push('\n');
        }
        for note in notes {
            text += &format!("note: {}\n", wrapped(&plain(note), 6, WIDTH));
        }
        text
    }
}
