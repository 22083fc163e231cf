//! What an earlier process left: the numbers that its flows have, and how large its tables are.

use crate::config::{Family, Mode, Protocol, Room};
use crate::error::{Error, Result};
use crate::generation::Generation;
use crate::layout::{self, ListenerKey4, ListenerKey6};
use crate::pins::{Entries, Pins, list, map, name};
use crate::shape::{BACKEND_TABLE, Path, SECRET, Shape};
use bpfsmith_maps::{Batch, Handle, Map, Plain, View};
use bpfsmith_net::IfIndex;
use bpfsmith_uapi::map::{MapDef, MapShape};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// The ways in which packets get to backends, of this generation and of all before it: a bit for each. Programs do not
/// know it.
pub(crate) static MODES: MapDef<u32, u32> = MapDef::array("modes", 1);

/// What numbers mean in flows that an earlier process left: whoever adopts them gives these numbers to nobody else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// Backends, also those that are in no group any more.
    pub backends: BTreeMap<u16, SocketAddr>,
    /// Listeners of the last configuration, by number: one that listens on several devices stands here once for each.
    pub listeners: Vec<AdoptedListener>,
}

/// A listener of an earlier process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdoptedListener {
    /// Its number.
    pub number: u16,
    /// The device that it listens on; none stands for all.
    pub device: Option<IfIndex>,
    /// The address and port that packets go to.
    pub address: SocketAddr,
    /// What they speak.
    pub protocol: Protocol,
}

/// Everything before a generation that it goes on with.
#[derive(Debug, Default)]
pub(crate) struct Past {
    pub(crate) flows: Option<u32>,
    pub(crate) fragments: Option<u32>,
    pub(crate) ring: Option<u32>,
    pub(crate) paths: BTreeSet<Path>,
    pub(crate) modes: BTreeSet<Mode>,
    pub(crate) shifted: BTreeSet<Family>,
    pub(crate) numbers: BTreeMap<u16, layout::Backend>,
    /// By where they listen: the later one counts.
    listeners: BTreeMap<(Option<IfIndex>, SocketAddr, Protocol), AdoptedListener>,
}

impl Shape {
    /// Flows outlive the listeners and groups that they came from, and stay in tables of the size that they have.
    pub(crate) fn go_on(&mut self, past: &Past) {
        if let Some(flows) = past.flows {
            let before = Room { flows, ..self.room };
            if Path::buckets(before) != Path::buckets(self.room) {
                self.room = before;
            }
        }
        if let Some(fragments) = past.fragments {
            self.room.fragments = fragments;
        }
        if let (Some(events), Some(bytes)) = (&mut self.events, past.ring) {
            events.bytes = bytes;
        }
        self.paths.extend(&past.paths);
        self.modes.extend(&past.modes);
        self.shifted.extend(&past.shifted);
    }
}

impl Pins {
    /// What numbers mean in flows that are here. Nothing, if there are none.
    ///
    /// # Errors
    /// When what is here is not of this version of the crate.
    pub fn adopted(&self) -> Result<Adopted> {
        let past = self.past()?;
        let mut adopted = Adopted {
            listeners: past.listeners.into_values().collect(),
            ..Adopted::default()
        };
        adopted.listeners.sort_by_key(|it| (it.number, it.device));
        for (number, backend) in past.numbers {
            if let Some(address) = backend.at() {
                adopted.backends.insert(number, address);
            }
        }
        Ok(adopted)
    }
}

impl Past {
    /// What is in the kernel by names.
    pub(crate) fn read(pins: &Pins) -> Result<Past> {
        let mut past = Past::default();
        for path in Path::ALL {
            let found = pins.map(&path.flows(Room::default()), Entries::Found)?;
            if let Some(table) = found {
                let flows = Path::room(table.facts().entries);
                past.flows.get_or_insert(flows);
                past.paths.insert(path);
            }
        }
        if !past.paths.is_empty() && pins.map(SECRET.shape(), Entries::Defined)?.is_none() {
            let path = pins.maps().join(SECRET.shape().name.as_str());
            return Err(Error::Incomplete { path });
        }
        let shape = Shape::of(&Default::default(), 0, crate::clock::Clock::new(1));
        for family in [Family::V4, Family::V6] {
            if let Some(map) = pins.map(&shape.fragments(family), Entries::Found)? {
                past.fragments.get_or_insert(map.facts().entries);
            }
            if pins.map(&shape.shifts(family), Entries::Found)?.is_some() {
                past.shifted.insert(family);
            }
        }
        if let Some(ring) = pins.map(shape.event_ring().shape(), Entries::Found)? {
            past.ring = Some(ring.facts().entries);
        }
        for (_, dir) in pins.generations()? {
            past.add(&dir, &shape)?;
        }
        Ok(past)
    }

    /// What a generation goes on with of the one before.
    pub(crate) fn of(before: &Generation) -> Past {
        let shape = before.shape();
        Past {
            flows: Some(shape.room.flows),
            fragments: Some(shape.room.fragments),
            ring: shape.events.map(|events| events.bytes),
            paths: shape.paths.clone(),
            modes: shape.modes.clone(),
            shifted: shape.shifted.clone(),
            numbers: before.numbers().clone(),
            listeners: BTreeMap::new(),
        }
    }

    /// The numbers of another generation, which was made after those before. It may be there in part.
    fn add(&mut self, dir: &std::path::Path, shape: &Shape) -> Result<()> {
        for path in list(dir)? {
            let open = |shape: &MapShape, entries| -> Result<Handle> {
                let found = map(&path, shape, entries)?;
                found.ok_or_else(|| Error::Incomplete { path: path.clone() })
            };
            match name(&path) {
                Some("backends") => {
                    let map = open(BACKEND_TABLE.shape(), Entries::Defined)?;
                    for (number, backend) in entries::<u32, layout::Backend>(map)? {
                        if let (Ok(number), Some(_)) = (u16::try_from(number), backend.at()) {
                            self.numbers.insert(number, backend);
                        }
                    }
                }
                Some("listeners4") => {
                    let map = open(&shape.listeners(Family::V4), Entries::Found)?;
                    for (key, it) in entries::<ListenerKey4, layout::Listener>(map)? {
                        let at = (IpAddr::from(key.address), key.port);
                        self.listen(&path, key.device, at, key.protocol, it.number)?;
                    }
                }
                Some("listeners6") => {
                    let map = open(&shape.listeners(Family::V6), Entries::Found)?;
                    for (key, it) in entries::<ListenerKey6, layout::Listener>(map)? {
                        let at = (IpAddr::from(key.address), key.port);
                        self.listen(&path, key.device, at, key.protocol, it.number)?;
                    }
                }
                Some("modes") => {
                    let map = open(MODES.shape(), Entries::Defined)?;
                    for (_, bits) in entries::<u32, u32>(map)? {
                        let is_set = |mode: &&Mode| bits & bit(**mode) != 0;
                        self.modes.extend(Mode::ALL.iter().filter(is_set));
                    }
                }
                _ => return Err(Error::Foreign { path }),
            }
        }
        Ok(())
    }

    fn listen(
        &mut self,
        path: &std::path::Path,
        device: u32,
        (ip, port): (IpAddr, [u8; 2]),
        protocol: u16,
        number: u32,
    ) -> Result<()> {
        let foreign = || Error::Foreign {
            path: path.to_owned(),
        };
        let all = [Protocol::Tcp, Protocol::Udp];
        let protocol = all.into_iter().find(|it| it.number() == protocol);
        let listener = AdoptedListener {
            number: u16::try_from(number).map_err(|_| foreign())?,
            device: (device != 0).then_some(IfIndex(device)),
            address: SocketAddr::new(ip, u16::from_be_bytes(port)),
            protocol: protocol.ok_or_else(foreign)?,
        };
        let place = (listener.device, listener.address, listener.protocol);
        self.listeners.insert(place, listener);
        Ok(())
    }
}

/// A mode among [`MODES`].
pub(crate) fn bit(mode: Mode) -> u32 {
    1 << mode.number()
}

/// All that a map has.
fn entries<K: Plain + Copy, V: Plain + Copy>(map: Handle) -> Result<Vec<(K, V)>>
where
    Map<K, V>: View<MapDef<K, V>>,
{
    let map = Map::<K, V>::view(map)?;
    let mut batch = Batch::new();
    map.read_any_way(&mut batch)?;
    Ok(batch.iter().map(|(key, value)| (*key, *value)).collect())
}
