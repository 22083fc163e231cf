//! A configuration in the kernel: its maps, and programs for them.

use crate::adopt::{MODES, Past, bit};
use crate::clock::Clock;
use crate::config::{BackendId, Config, Family, Fragments, Mode};
use crate::error::{Error, Result};
use crate::event::Kind;
use crate::layout;
use crate::mss::Mss;
use crate::pins::{Entries, Pins};
use crate::programs::{self, Hook, Usual, program};
use crate::reason::Reason;
use crate::shape::{
    BACKEND_FLOWS, BACKEND_TABLE, COUNTERS, DEVICES, PORTS, Path, SECRET, SETTINGS, SOURCES,
    SWEEPER, SWEPT, Shape, Sums6,
};
use crate::tables::Tables;
use bpfsmith_asm::program::Program;
use bpfsmith_maps::{Handle, Map, PerCpuMap, View};
use bpfsmith_prog::{Load, Maps, Prog, with_room_for_timers};
use bpfsmith_uapi::map::{MapDef, MapShape, Name};
use bpfsmith_uapi::{AttachType, Errno, MapType};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A configuration in the kernel.
///
/// Its programs know its own maps of listeners, routes and groups, which nobody changes any more, and
/// share with the generations before and after it what outlives a change: flows, their counts and counters.
/// To change the configuration is to load programs of the next generation and to put them in the place
/// of these, link by link: every packet is decided by one generation.
#[derive(Debug)]
pub struct Generation {
    shape: Shape,
    maps: Maps,
    backends: BTreeMap<IpAddr, BTreeSet<Mode>>,
    /// All that numbers of backends mean: flows outlive the backends of a configuration.
    numbers: BTreeMap<u16, layout::Backend>,
    /// The maps that it shares with those before and after, in the order in which they get names.
    shared: Vec<Name>,
    /// Where it outlives its process, if it does.
    pins: Option<Pins>,
}

impl Generation {
    /// The first one: no flow is known.
    ///
    /// # Errors
    /// When the configuration contradicts itself, or the kernel refuses a map.
    pub fn first(config: &Config) -> Result<Generation> {
        Generation::new(config, None, None)
    }

    /// One that outlives its process, and those made from it with [`next`](Generation::next): as soon as it is
    /// attached. It goes on with what is there, which an earlier process left, and is the first one if that is nothing.
    /// Tables that are there keep their size.
    ///
    /// Numbers of backends and listeners must mean what they meant: [`Pins::adopted`].
    ///
    /// # Errors
    /// [`Error::OtherShape`] and [`Error::OtherLayout`] when what is there is of another version; and as for
    /// [`first`](Generation::first).
    pub fn kept(pins: &Pins, config: &Config) -> Result<Generation> {
        Generation::new(config, None, Some(pins))
    }

    /// The one after this: it shares flows and counters, and knows the backends of both.
    ///
    /// # Errors
    /// When the configuration contradicts itself, or the kernel refuses a map.
    pub fn next(&self, config: &Config) -> Result<Generation> {
        Generation::new(config, Some(self), self.pins.as_ref())
    }

    fn new(
        config: &Config,
        before: Option<&Generation>,
        pins: Option<&Pins>,
    ) -> Result<Generation> {
        let tables = Tables::of(config)?;
        let clock = Clock::of_kernel().map_err(|errno| Error::Clock(Errno(errno as i32)))?;
        let places = u32::try_from(tables.ring.len()).unwrap_or(u32::MAX);
        let mut shape = Shape::of(config, places, clock);
        let past = match (before, pins) {
            (Some(before), _) => Past::of(before),
            (None, Some(pins)) => pins.past()?,
            (None, None) => Past::default(),
        };
        shape.go_on(&past);
        if shape.has(Family::V6) {
            shape.sums6 = Sums6::of_kernel()?;
        }
        shape.mss = Mss::of_kernel(&shape.cookies)?;
        let mut made = Generation {
            shape,
            maps: Maps::new(),
            backends: by_address(config),
            numbers: past.numbers,
            shared: Vec::new(),
            pins: pins.cloned(),
        };
        let are_over = |(number, backend): (&u16, &layout::Backend)| {
            (backend.is_gone == layout::ENDED).then_some(*number)
        };
        let over: BTreeSet<u16> = made.numbers.iter().filter_map(are_over).collect();
        made.numbers.extend(&tables.backends);
        let members = || config.groups.iter().flat_map(|group| &group.members);
        let all: BTreeSet<BackendId> = members().map(|member| member.backend).collect();
        let begun: BTreeSet<BackendId> = members()
            .filter(|member| member.weight > 0)
            .map(|member| member.backend)
            .collect();
        for (number, backend) in &mut made.numbers {
            let id = BackendId(*number);
            backend.is_gone = match (all.contains(&id), over.contains(number)) {
                // Flows are over until new ones may begin.
                (_, true) if !begun.contains(&id) => layout::ENDED,
                (true, _) => 0,
                (false, _) => layout::GONE,
            };
        }
        made.share(before)?;
        made.fill(&tables)?;
        Ok(made)
    }

    /// What its programs contain.
    #[must_use]
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Where its backends are, and how packets get there.
    #[must_use]
    pub fn backends(&self) -> &BTreeMap<IpAddr, BTreeSet<Mode>> {
        &self.backends
    }

    /// Where it outlives its process, if it does.
    #[must_use]
    pub fn pins(&self) -> Option<&Pins> {
        self.pins.as_ref()
    }

    /// What numbers of backends mean.
    pub(crate) fn numbers(&self) -> &BTreeMap<u16, layout::Backend> {
        &self.numbers
    }

    /// The maps that it shares with those before and after.
    pub(crate) fn shared(&self) -> &[Name] {
        &self.shared
    }

    /// Its own maps that say what numbers mean.
    pub(crate) fn numbering(&self) -> Vec<Name> {
        let shape = &self.shape;
        let mut names = vec![
            BACKEND_TABLE.shape().name,
            MODES.shape().name,
        ];
        let families = [Family::V4, Family::V6].into_iter();
        names.extend(
            families
                .filter(|family| shape.has(*family))
                .map(|family| shape.listeners(family).name),
        );
        names
    }

    /// Its maps.
    #[must_use]
    pub fn maps(&self) -> &Maps {
        &self.maps
    }

    /// The program for a hook, as [`load`](Generation::load) gives it to the kernel: to be listed, for example.
    ///
    /// # Errors
    /// When the checker refuses it, which is a mistake of this crate's.
    pub fn program(&self, hook: Hook, usual: Usual) -> Result<Program> {
        Ok(program(hook, usual, &self.shape)?)
    }

    /// Loads the program for a hook.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn load(&self, hook: Hook, usual: Usual) -> Result<Prog> {
        if hook == Hook::TcxEgress && !self.shape.cookies.is_empty() {
            return Err(Error::CookiesToOwnHost);
        }
        let program = self.program(hook, usual)?;
        let load = Load::new(&program).maps(&self.maps);
        let load = match hook {
            Hook::Xdp => load.attach_type(AttachType::XDP).frags(),
            Hook::Tcx => load.attach_type(AttachType::TCX_INGRESS),
            Hook::TcxEgress => load.attach_type(AttachType::TCX_EGRESS),
        };
        Ok(load.load()?)
    }

    /// From now on programs tell of these kinds, and of no others.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn want(&self, kinds: &[Kind]) -> Result<()> {
        let map: Map<u32, layout::Settings> = self.maps.open(&SETTINGS)?;
        let settings = map.lookup(&0)?.unwrap_or_default();
        let events = kinds.iter().fold(0, |bits, kind| bits | kind.bit());
        map.update(&0, &layout::Settings { events, ..settings })?;
        Ok(())
    }

    /// Lets the kernel forget flows that are idle for as long as [`Config::timeouts`](Config) says, from
    /// now on and in place of what the generation before said.
    ///
    /// The kernel goes on as long as the map [`SWEEPER`] is open somewhere, or pinned: it need not be this
    /// process that holds it. Linux 5.17.
    ///
    /// # Errors
    /// When the kernel refuses the program, or the timer.
    pub fn sweep(&self) -> Result<()> {
        start(&self.load_sweep()?)
    }

    /// The program that [`start`]s it.
    pub(crate) fn load_sweep(&self) -> Result<Prog> {
        let program = programs::sweep(&self.shape)?;
        let load = Load::new(&program).maps(&self.maps);
        Ok(load.attach_type(AttachType::XDP).load()?)
    }

    /// What the kernel did to forget flows, since the first generation.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn swept(&self) -> Result<layout::Sweeper> {
        let sweeper: Map<u32, layout::Sweeper> = self.maps.open(&SWEEPER)?;
        Ok(sweeper.lookup(&0)?.unwrap_or_default())
    }

    /// What became of packets since the first generation.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn counters(&self) -> Result<BTreeMap<Reason, u64>> {
        let counters: PerCpuMap<u32, u64> = self.maps.open(&COUNTERS)?;
        let mut sums = BTreeMap::new();
        for reason in Reason::ALL {
            let each = counters.lookup(&reason.number())?;
            sums.insert(*reason, each.map_or(0, |each| each.sum()));
        }
        Ok(sums)
    }

    /// How many flows of a backend have been answered and have not ended.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn flows_of(&self, backend: BackendId) -> Result<u32> {
        let flows: Map<u32, u32> = self.maps.open(&BACKEND_FLOWS)?;
        Ok(flows.lookup(&backend.0.into())?.unwrap_or_default())
    }

    /// The flows of these backends are over: the kernel forgets them within a [round](crate::config::Timeouts::round),
    /// whoever still sends. It stays so in the generations after this one, until a group gives the backend flows again.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn end_flows_of(&mut self, backends: &BTreeSet<BackendId>) -> Result<()> {
        let map: Map<u32, layout::Backend> = self.maps.open(&BACKEND_TABLE)?;
        for id in backends {
            if let Some(backend) = self.numbers.get_mut(&id.0) {
                let ended = layout::Backend {
                    is_gone: layout::ENDED,
                    ..*backend
                };
                map.update(&id.0.into(), &ended)?;
                *backend = ended;
            }
        }
        Ok(())
    }

    /// The maps that outlive a generation.
    fn share(&mut self, before: Option<&Generation>) -> Result<()> {
        let exactly = |shape: &MapShape| (*shape, Entries::Defined);
        let mut shapes = vec![
            // Without it nothing is found in tables: it has a name before they have.
            *SECRET.shape(),
            *BACKEND_FLOWS.shape(),
            *SWEPT.shape(),
            *SWEEPER.shape(),
            *COUNTERS.shape(),
            *SETTINGS.shape(),
            *DEVICES.shape(),
        ];
        // Flows that no listener leads to any more are forgotten like others.
        let paths = self.shape.paths.iter();
        shapes.extend(paths.map(|path| path.flows(self.shape.room)));
        let mut shapes: Vec<_> = shapes.iter().map(exactly).collect();
        let mut as_found = |shape: MapShape| shapes.push((shape, Entries::Found));
        for family in [Family::V4, Family::V6] {
            if !self.shape.has(family) {
                continue;
            }
            if self.shape.limits.sources.is_some() {
                as_found(self.shape.buckets(family));
            }
            if self.shape.shifted.contains(&family) {
                as_found(self.shape.shifts(family));
            }
            if self.shape.fragments != Fragments::Pass {
                as_found(self.shape.fragments(family));
            }
        }
        if self.shape.events.is_some() {
            as_found(*self.shape.event_ring().shape());
        }
        for (shape, entries) in shapes {
            let old = before.and_then(|before| before.maps.find(shape.name));
            let map = match (old, &self.pins) {
                (Some(map), _) => map.try_clone()?,
                // A generation long ago may have had one.
                (None, Some(pins)) => match pins.map(&shape, entries)? {
                    Some(map) => {
                        if let (Some(events), MapType::RINGBUF) =
                            (&mut self.shape.events, shape.kind)
                        {
                            events.bytes = map.facts().entries;
                        }
                        map
                    }
                    None => self.create(&shape)?,
                },
                (None, None) => self.create(&shape)?,
            };
            self.maps.insert(shape.name, map);
            self.shared.push(shape.name);
        }
        Ok(())
    }

    fn create(&self, shape: &MapShape) -> Result<Handle> {
        let made = Handle::create(shape).map_err(|cause| {
            let room = self.shape.room;
            let flows = Path::ALL.map(|path| path.flows(room).name);
            match cause.errno() {
                Some(Errno::ENOMEM | Errno::E2BIG) if flows.contains(&shape.name) => {
                    Error::NoRoom {
                        cause,
                        flows: room.flows,
                        bytes: u64::from(shape.entries) * u64::from(shape.value),
                    }
                }
                _ => Error::from(cause),
            }
        })?;
        if shape.name == SECRET.shape().name {
            let secrets: Map<u32, layout::Secret> = Map::view(made.try_clone()?)?;
            secrets.update(&0, &secret()?)?;
        }
        Ok(made)
    }

    /// The maps that are this generation's.
    fn fill(&mut self, tables: &Tables) -> Result<()> {
        let shape = self.shape.clone();
        if shape.has(Family::V4) {
            self.enter(&shape.listeners(Family::V4), &tables.listeners4)?;
        }
        if shape.has(Family::V6) {
            self.enter(&shape.listeners(Family::V6), &tables.listeners6)?;
        }
        if shape.routes.contains(&Family::V4) {
            self.enter(&shape.routes(Family::V4), &tables.routes4)?;
        }
        if shape.routes.contains(&Family::V6) {
            self.enter(&shape.routes(Family::V6), &tables.routes6)?;
        }
        if !tables.limits.is_empty() {
            self.enter(shape.limit_table().shape(), &tables.limits)?;
        }
        let groups = self.make::<u32, layout::Group>(shape.groups().shape())?;
        write(&groups, &tables.groups)?;
        let ring = self.make::<u32, u32>(shape.ring().shape())?;
        write(&ring, &tables.ring)?;
        let ports = self.make::<u32, layout::PortSet>(PORTS.shape())?;
        ports.update(&0, &tables.port_set())?;
        let modes = shape.modes.iter().fold(0, |bits, mode| bits | bit(*mode));
        self.enter(MODES.shape(), &[(0, modes)])?;
        let sources = self.make::<u32, [u8; 16]>(SOURCES.shape())?;
        write(&sources, &tables.sources)?;
        let numbers = self.numbers.iter();
        let backends: Vec<_> = numbers
            .map(|(number, it)| (u32::from(*number), *it))
            .collect();
        self.enter(BACKEND_TABLE.shape(), &backends)
    }

    /// A map of this generation's, with these entries.
    fn enter<K, V>(&mut self, shape: &MapShape, entries: &[(K, V)]) -> Result<()>
    where
        K: Copy + IntoBytes + FromBytes + Immutable,
        V: Copy + IntoBytes + FromBytes + Immutable,
        Map<K, V>: View<MapDef<K, V>>,
    {
        let map = self.make::<K, V>(shape)?;
        if entries.is_empty() {
            return Ok(());
        }
        let (keys, values): (Vec<K>, Vec<V>) = entries.iter().copied().unzip();
        map.update_many(&keys, &values)?;
        Ok(())
    }

    fn make<K, V>(&mut self, shape: &MapShape) -> Result<Map<K, V>>
    where
        Map<K, V>: View<MapDef<K, V>>,
    {
        let map = Handle::create(shape)?;
        let view = Map::view(map.try_clone()?)?;
        let name: Name = shape.name;
        self.maps.insert(name, map);
        Ok(view)
    }
}

/// Lets the kernel look after flows as this program does, from now on.
pub(crate) fn start(sweep: &Prog) -> Result<()> {
    let outcome = with_room_for_timers(|| sweep.run().data(&[0; 64]).go())?;
    match outcome.retval.cast_signed() {
        0 => Ok(()),
        errno => Err(Error::Timer(Errno(errno.wrapping_neg()))),
    }
}

/// Numbers that nobody knows.
fn secret() -> Result<layout::Secret> {
    let mut secret = layout::Secret::default();
    let mut source = File::open(RANDOM).map_err(Error::Random)?;
    source
        .read_exact(secret.as_mut_bytes())
        .map_err(Error::Random)?;
    // Of what even numbers multiply, the lowest bits are lost.
    Ok(secret.map(|number| number | 1))
}

/// Where they come from.
const RANDOM: &str = "/dev/urandom";

/// The addresses of backends, and how packets of the groups that they are in get there.
fn by_address(config: &Config) -> BTreeMap<IpAddr, BTreeSet<Mode>> {
    let backends = config.backends.iter();
    let backends: BTreeMap<BackendId, IpAddr> =
        backends.map(|it| (it.id, it.address.ip())).collect();
    let mut places: BTreeMap<IpAddr, BTreeSet<Mode>> = BTreeMap::new();
    for group in &config.groups {
        for member in &group.members {
            if let Some(ip) = backends.get(&member.backend) {
                places.entry(*ip).or_default().insert(group.mode);
            }
        }
    }
    places
}

/// Writes values by index.
fn write<V>(map: &Map<u32, V>, values: &[V]) -> Result<()>
where
    V: IntoBytes + FromBytes + Immutable,
{
    let keys: Vec<u32> = (0..u32::try_from(values.len()).unwrap_or(u32::MAX)).collect();
    if keys.is_empty() {
        return Ok(());
    }
    map.update_many(&keys, values)?;
    Ok(())
}
