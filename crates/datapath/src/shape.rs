//! What a configuration asks of the programs: whatever it does not, they do not contain.

use crate::clock::Clock;
use crate::config::{
    Algorithm, Config, Events, Family, Fragments, Limits, MidStream, Mode, Protocol, Room, Timeouts,
};
use crate::layout::{
    Backend, Bucket4, Bucket6, FragmentKey4, FragmentKey6, Group, Key4, Key6, Limit, Listener,
    ListenerKey4, ListenerKey6, PortSet, RouteKey4, RouteKey6, SWEEP_PARTS, Secret, Settings,
    Shift, Sweeper, Transport,
};
use crate::mss::Mss;
use crate::reason::Reason;
use bpfsmith_asm::kit::rate::Bucket;
use bpfsmith_uapi::flags::map_create::BPF_F_MMAPABLE;
use bpfsmith_uapi::map::{MapDef, MapShape};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

/// Family and protocol of packets that a program handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path {
    /// The family.
    pub family: Family,
    /// The protocol.
    pub protocol: Protocol,
}

impl Path {
    /// All there are.
    pub const ALL: [Path; 4] = [
        Path::new(Family::V4, Protocol::Tcp),
        Path::new(Family::V4, Protocol::Udp),
        Path::new(Family::V6, Protocol::Tcp),
        Path::new(Family::V6, Protocol::Udp),
    ];

    /// That of a family and a protocol.
    #[must_use]
    pub const fn new(family: Family, protocol: Protocol) -> Path {
        Path { family, protocol }
    }

    /// Its place among all, and the name of its table.
    const fn row(self) -> (u32, &'static str) {
        match (self.family, self.protocol) {
            (Family::V4, Protocol::Tcp) => (0, "flows4_tcp"),
            (Family::V4, Protocol::Udp) => (1, "flows4_udp"),
            (Family::V6, Protocol::Tcp) => (2, "flows6_tcp"),
            (Family::V6, Protocol::Udp) => (3, "flows6_udp"),
        }
    }

    /// Its place among all.
    pub(crate) const fn number(self) -> u32 {
        self.row().0
    }

    /// The table of flows: an entry for each direction.
    #[must_use]
    pub const fn flows(self, room: Room) -> MapShape {
        let (_, name) = self.row();
        let buckets = Path::buckets(room);
        match self.family {
            Family::V4 => *MapDef::<u32, Bucket4>::array(name, buckets)
                .flags(BPF_F_MMAPABLE)
                .described()
                .shape(),
            Family::V6 => *MapDef::<u32, Bucket6>::array(name, buckets)
                .flags(BPF_F_MMAPABLE)
                .described()
                .shape(),
        }
    }

    /// The flows that a table of so many buckets has room for.
    pub(crate) const fn room(buckets: u32) -> u32 {
        (buckets / 5).saturating_sub(1).saturating_mul(12)
    }

    /// Buckets of a table: when it has what it promises room for, six of ten places are taken, and one of
    /// tens of thousands of entries finds both of its buckets full.
    pub(crate) const fn buckets(room: Room) -> u32 {
        let buckets = (room.flows / 12 + 1).saturating_mul(5);
        if buckets > i32::MAX as u32 {
            i32::MAX as u32
        } else {
            buckets
        }
    }
}

/// What a key of a listener names, beside port and protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Form {
    /// Any device, or the one that the packet came by: the narrower form is looked up first.
    pub any_device: bool,
    /// Any address, or the one that the packet goes to.
    pub any_address: bool,
}

/// How programs behind the driver change the checksum of a packet of IPv6, where the kernel may keep a
/// sum over the whole packet besides. IPv6 has no checksum in its header: new addresses and what they
/// change in the transport's checksum cancel each other out, and that sum stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Sums6 {
    /// The kernel is told by a flag. Linux 6.16.
    #[default]
    Flag,
    /// The kernel changes its sum, as for IPv4, and the program changes it back.
    Undone,
}

/// What programs contain, and how large their tables are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// What they handle.
    pub paths: BTreeSet<Path>,
    /// How listeners are found, for each family.
    pub forms: BTreeSet<(Family, Form)>,
    /// The families in which sources have groups of their own.
    pub routes: BTreeSet<Family>,
    /// How groups choose.
    pub algorithms: BTreeSet<Algorithm>,
    /// How packets get to backends.
    pub modes: BTreeSet<Mode>,
    /// The families in which flows that go back to the machine that they come from get a source of the
    /// proxy's own.
    pub hairpins: BTreeSet<Family>,
    /// What becomes of TCP without a flow.
    pub mid_stream: MidStream,
    /// What becomes of fragments.
    pub fragments: Fragments,
    /// Room in the tables of flows.
    pub room: Room,
    /// When flows are forgotten.
    pub timeouts: Timeouts,
    /// How many flows may begin.
    pub limits: Limits,
    /// How programs tell of flows, if they do.
    pub events: Option<Events>,
    /// Entries of the tables of listeners.
    pub listeners: u32,
    /// Entries of the tables of routes.
    pub prefixes: u32,
    /// Groups.
    pub groups: u32,
    /// Places in the ring.
    pub places: u32,
    /// How fast the kernel's ticks go.
    pub clock: Clock,
    /// The ports that flows may get where the proxy speaks for itself: none that this machine gives to
    /// connections of its own.
    pub source_ports: RangeInclusive<u16>,
    /// How the kernel is told that the sums of IPv6 change.
    pub sums6: Sums6,
    /// Frames may have VLAN tags before their IP header.
    pub has_vlan: bool,
    /// The families in which listeners send cookies.
    pub cookies: BTreeSet<Family>,
    /// The families in which flows may have come by cookie, now or before.
    pub shifted: BTreeSet<Family>,
    /// The largest segments that cookies remember.
    pub mss: Mss,
}

/// Backends that a table has room for, whatever the configuration: flows carry their numbers.
pub(crate) const BACKENDS: u32 = 1 << 15;

impl Shape {
    /// What a configuration asks for, with that many places in its ring.
    #[must_use]
    pub fn of(config: &Config, places: u32, clock: Clock) -> Shape {
        let mut shape = Shape {
            paths: BTreeSet::new(),
            forms: BTreeSet::new(),
            routes: BTreeSet::new(),
            algorithms: config.groups.iter().map(|group| group.algorithm).collect(),
            modes: config.groups.iter().map(|group| group.mode).collect(),
            hairpins: hairpins(config),
            mid_stream: config.mid_stream,
            fragments: config.fragments,
            room: config.room,
            timeouts: config.timeouts,
            limits: config.limits.clone(),
            events: config.events,
            listeners: 0,
            prefixes: 0,
            groups: count(config.groups.len()),
            places,
            clock,
            source_ports: config.source_ports.clone(),
            sums6: Sums6::default(),
            has_vlan: config.has_vlan,
            cookies: BTreeSet::new(),
            shifted: BTreeSet::new(),
            mss: Mss::default(),
        };
        for listener in &config.listeners {
            let address = listener.address.ip();
            let family = Family::of(address);
            shape.paths.insert(Path::new(family, listener.protocol));
            let form = Form {
                any_device: listener.devices.is_empty(),
                any_address: address.is_unspecified(),
            };
            shape.forms.insert((family, form));
            if config.sends_cookies(listener) {
                shape.cookies.insert(family);
                shape.shifted.insert(family);
            }
            if !listener.routes.is_empty() {
                shape.routes.insert(family);
            }
            shape.listeners += count(listener.devices.len()).max(1);
            shape.prefixes += count(listener.routes.len());
        }
        shape
    }

    /// Whether packets of a family are handled at all.
    #[must_use]
    pub fn has(&self, family: Family) -> bool {
        self.paths.iter().any(|path| path.family == family)
    }

    /// The table of listeners of a family.
    #[must_use]
    pub fn listeners(&self, family: Family) -> MapShape {
        let entries = self.listeners.max(1);
        match family {
            Family::V4 => *MapDef::<ListenerKey4, Listener>::hash("listeners4", entries)
                .described()
                .shape(),
            Family::V6 => *MapDef::<ListenerKey6, Listener>::hash("listeners6", entries)
                .described()
                .shape(),
        }
    }

    /// The table of sources that have groups of their own.
    #[must_use]
    pub fn routes(&self, family: Family) -> MapShape {
        // Room is taken as it is used.
        let entries = self.prefixes.max(1 << 20);
        match family {
            Family::V4 => *MapDef::<RouteKey4, u32>::lpm_trie("routes4", entries)
                .described()
                .shape(),
            Family::V6 => *MapDef::<RouteKey6, u32>::lpm_trie("routes6", entries)
                .described()
                .shape(),
        }
    }

    /// The table of packets that come in fragments.
    #[must_use]
    pub fn fragments(&self, family: Family) -> MapShape {
        let entries = self.room.fragments.max(1);
        match family {
            Family::V4 => *MapDef::<FragmentKey4, Transport>::lru_hash("fragments4", entries)
                .described()
                .shape(),
            Family::V6 => *MapDef::<FragmentKey6, Transport>::lru_hash("fragments6", entries)
                .described()
                .shape(),
        }
    }

    /// By what the numbers of connections by cookie are shifted. Each flow has one entry, and has looked for
    /// it with its last packet: what makes room belongs to flows that are gone.
    #[must_use]
    pub fn shifts(&self, family: Family) -> MapShape {
        let entries = self.room.flows.max(1);
        match family {
            Family::V4 => *MapDef::<Key4, Shift>::lru_hash("shifts4", entries)
                .described()
                .shape(),
            Family::V6 => *MapDef::<Key6, Shift>::lru_hash("shifts6", entries)
                .described()
                .shape(),
        }
    }

    /// How many flows each source may begin yet.
    #[must_use]
    pub fn buckets(&self, family: Family) -> MapShape {
        let entries = self.limits.sources.map_or(1, |limit| limit.room.max(1));
        match family {
            Family::V4 => *MapDef::<[u32; 1], Bucket>::lru_hash("buckets4", entries).shape(),
            Family::V6 => *MapDef::<[u32; 4], Bucket>::lru_hash("buckets6", entries).shape(),
        }
    }

    /// How many flows may begin at each listener yet.
    #[must_use]
    pub fn limit_table(&self) -> MapDef<u32, Limit> {
        MapDef::hash("limits", count(self.limits.listeners.len()).max(1)).described()
    }

    /// The ring by which programs tell of flows.
    #[must_use]
    pub const fn event_ring(&self) -> MapDef<(), ()> {
        let bytes = match self.events {
            Some(events) => events.bytes,
            None => 4096,
        };
        MapDef::ringbuf("events", bytes)
    }

    /// The table of groups.
    #[must_use]
    pub const fn groups(&self) -> MapDef<u32, Group> {
        let entries = if self.groups == 0 { 1 } else { self.groups };
        MapDef::array("groups", entries).described()
    }

    /// The numbers of backends, by place: each group has its part.
    #[must_use]
    pub const fn ring(&self) -> MapDef<u32, u32> {
        let entries = if self.places == 0 { 1 } else { self.places };
        MapDef::array("ring", entries).described()
    }
}

/// The backends, by number.
pub static BACKEND_TABLE: MapDef<u32, Backend> = MapDef::array("backends", BACKENDS).described();
/// How many flows each backend has. A table of its own: a backend that is written anew keeps its count.
pub static BACKEND_FLOWS: MapDef<u32, u32> = MapDef::array("backend_flows", BACKENDS).described();
/// The ports that listeners have.
pub static PORTS: MapDef<u32, PortSet> = MapDef::array("ports", 1);
/// The proxy's own addresses; of IPv4, four bytes.
pub static SOURCES: MapDef<u32, [u8; 16]> = MapDef::array("sources", 256);
/// Devices that lead straight to another namespace, and how their packets go out.
pub static DEVICES: MapDef<u32, u32> = MapDef::hash("devices", 1024).described();
/// Packets by what became of them: the numbers of [`Reason`]. There is room for more, so that a version with more of them
/// goes on with the counters of one before.
pub static COUNTERS: MapDef<u32, u64> = MapDef::percpu_array("counters", 128).described();
const _: () = assert!(Reason::COUNT <= 128, "a reason has no counter");
/// What the tables of flows hash by.
pub static SECRET: MapDef<u32, Secret> = MapDef::array("secret", 1);
/// When each part of each table was looked at last, in the kernel's ticks.
pub static SWEPT: MapDef<u32, u32> = MapDef::array("swept", SWEEP_PARTS * 4);
/// What looks after flows.
pub static SWEEPER: MapDef<u32, Sweeper> = MapDef::array("sweeper", 1).described();
/// What is switched while programs run.
pub static SETTINGS: MapDef<u32, Settings> = MapDef::array("settings", 1).described();

/// Where packets keep the client's address, though there are sources that they could have.
fn hairpins(config: &Config) -> BTreeSet<Family> {
    let keeps = |group: &crate::config::Group| group.mode == Mode::Dnat;
    let sources = config.sources.iter().copied().map(Family::of);
    match config.groups.iter().any(keeps) {
        true => sources.collect(),
        false => BTreeSet::new(),
    }
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
