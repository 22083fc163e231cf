//! What the proxy is to do: listeners, groups of backends, how packets get there.

use bpfsmith_net::{IfIndex, Prefix};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Whether packets are IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// That of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// The address that stands for all of them.
    #[must_use]
    pub const fn any(self) -> IpAddr {
        match self {
            Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }
    }
}

/// What a flow speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Its number in IP headers.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
        }
    }
}

/// Where new flows are taken, and who gets them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its number, below 32768, which events and answers name it by.
    pub number: u16,
    /// The devices that it listens on; none stands for all.
    pub devices: Vec<IfIndex>,
    /// The address and port that packets go to; an unspecified address stands for all of its family,
    /// but for those of groups and of everybody.
    pub address: SocketAddr,
    /// What they speak.
    pub protocol: Protocol,
    /// Sources that go to another group: the longest prefix counts.
    pub routes: Vec<(Prefix, GroupId)>,
    /// The group for all others.
    pub group: GroupId,
}

/// The number of a group: its place in [`Config::groups`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u32);

/// Backends that share flows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// How one is chosen.
    pub algorithm: Algorithm,
    /// How packets get there.
    pub mode: Mode,
    /// Those that may be chosen.
    pub members: Vec<Member>,
}

/// A backend in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which one: its [`Backend::id`], wherever it stands in [`Config::backends`].
    pub backend: BackendId,
    /// Its share; 0 gives it no new flows.
    pub weight: u32,
}

/// The number of a backend, below 32768. Flows carry it: it must mean the same backend as long as one
/// of them lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendId(pub u16);

/// A machine and port that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its number.
    pub id: BackendId,
    /// Where it is. Port 0 keeps the one that the client named.
    pub address: SocketAddr,
}

macro_rules! numbered {
    ($(#[$doc:meta])+ $name:ident { $($(#[$variant_doc:meta])+ $variant:ident = $number:literal,)+ }) => {
        $(#[$doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_doc])+ $variant,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// What stands for it in a map.
            #[must_use]
            pub const fn number(self) -> u8 {
                match self {
                    $($name::$variant => $number,)+
                }
            }
        }
    };
}

numbered! {
    /// How a group chooses.
    Algorithm {
        /// By addresses and ports, so that few flows move when a backend comes or goes.
        Maglev = 0,
        /// By the client's address alone.
        SourceAffinity = 1,
        /// In turn, by weight.
        RoundRobin = 2,
        /// Who has the fewest flows for its weight.
        LeastConnections = 3,
    }
}

numbered! {
    /// How packets get to the backends of a group.
    Mode {
        /// To the backend's address; the backend sees the client's, and answers by way of the proxy:
        /// so it must not have a shorter way to the client.
        Dnat = 0,
        /// And from an address of the proxy's own, so that answers come back whatever the backend's
        /// routes are.
        FullNat = 1,
        /// As they are, to the backend's Ethernet address; the backend answers the client itself.
        DirectReturn = 2,
    }
}

/// What becomes of a TCP packet in the middle of a connection that nobody knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MidStream {
    /// It goes to this machine's own stack, which knows no such connection either, and resets it.
    #[default]
    Pass,
    /// It is dropped.
    Drop,
    /// It opens a flow, as if the proxy had only just been put in its way.
    Adopt,
}

/// What becomes of fragments of packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Fragments {
    /// They follow the first fragment of their packet; those that come before it go to this machine's
    /// own stack.
    #[default]
    Follow,
    /// The same, but those that come before their first one are dropped, also those that are not the
    /// proxy's.
    FollowOrDrop,
    /// All go to this machine's own stack, also the first ones.
    Pass,
}

/// Everything that the datapath is made from.
///
/// The default listens nowhere. What it costs is said at [`Room`], when it forgets at [`Timeouts`]; nothing is
/// limited, and nothing told of flows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where flows are taken.
    pub listeners: Vec<Listener>,
    /// Who shares them.
    pub groups: Vec<Group>,
    /// Who answers.
    pub backends: Vec<Backend>,
    /// The proxy's own addresses for [`Mode::FullNat`], at most 255. With [`Mode::Dnat`] only packets
    /// that go back to the machine that they come from get one: it would take them for forged ones.
    pub sources: Vec<IpAddr>,
    /// The ports that flows may get at these addresses: 1024 to 32767 by default. The kernel's own
    /// connections must not have the same: see `net.ipv4.ip_local_port_range`, which begins with 32768
    /// unless somebody changed it.
    pub source_ports: RangeInclusive<u16>,
    /// Fragments: by default they follow the first one of their packet.
    pub fragments: Fragments,
    /// XDP: frames may have up to two VLAN tags, which they keep; by default none. In TCX, tags are no part
    /// of frames.
    pub has_vlan: bool,
    /// TCP without a flow: by default it goes to this machine's own stack.
    pub mid_stream: MidStream,
    /// Room in tables. Those of flows keep what they had first, as long as flows are kept.
    pub room: Room,
    /// When flows are forgotten.
    pub timeouts: Timeouts,
    /// How many flows may begin.
    pub limits: Limits,
    /// How programs tell of flows; none: they do not, and nothing of it is in them.
    pub events: Option<Events>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listeners: Vec::new(),
            groups: Vec::new(),
            backends: Vec::new(),
            sources: Vec::new(),
            fragments: Fragments::default(),
            has_vlan: false,
            source_ports: 1024..=32767,
            mid_stream: MidStream::default(),
            room: Room::default(),
            timeouts: Timeouts::default(),
            limits: Limits::default(),
            events: None,
        }
    }
}

impl Config {
    /// Whether new connections at a listener may come by cookie.
    #[must_use]
    pub(crate) fn sends_cookies(&self, listener: &Listener) -> bool {
        let limit = self.limits.listeners.get(&listener.number);
        listener.protocol == Protocol::Tcp
            && limit.is_some_and(|limit| limit.above == Above::Cookies)
    }
}

/// How much the tables hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Flows of each family and protocol: 262144 by default. Those that nobody answered yet make room for
    /// others.
    ///
    /// The kernel keeps whole tables from the beginning, one for each family and protocol that has a
    /// listener: with the default 69.9 MB for IPv4 and 111.9 MB for IPv6, and more or less in proportion.
    pub flows: u32,
    /// Packets of each family that come in fragments: 4096 by default; the oldest make room.
    pub fragments: u32,
}

impl Default for Room {
    fn default() -> Room {
        Room {
            flows: 1 << 18,
            fragments: 1 << 12,
        }
    }
}

pub use bpfsmith_asm::kit::rate::Rate;

/// How many flows may begin in a time: packets that would begin more are dropped. What has begun is not
/// touched.
///
/// CPUs that look at one limit at the very same time may let one flow too many begin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Of each source, at all listeners together.
    pub sources: Option<SourceLimit>,
    /// At listeners, by their numbers. A new configuration begins with full buckets.
    pub listeners: BTreeMap<u16, ListenerLimit>,
}

/// How many flows may begin at a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerLimit {
    /// So many. With [`Above::Cookies`] and a burst of 0, all connections come by cookie.
    pub rate: Rate,
    /// What becomes of the packets that would begin more.
    pub above: Above,
}

impl From<Rate> for ListenerLimit {
    fn from(rate: Rate) -> ListenerLimit {
        ListenerLimit {
            rate,
            above: Above::Drop,
        }
    }
}

/// What becomes of packets that would begin more flows than may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Above {
    /// They are dropped.
    #[default]
    Drop,
    /// TCP: the proxy answers a SYN itself, with a cookie for its sequence number, and remembers
    /// nothing. Only who sends the cookie back, and so is where its packets say, gets a flow.
    ///
    /// Such connections have no window scaling, no timestamps and no selective acknowledgements, and their
    /// sequence numbers are shifted in every packet. What a client sends before its backend answers is
    /// dropped, and comes again. Linux 6.0; not with [`Mode::DirectReturn`], nor where backends are on
    /// the proxy's own host.
    Cookies,
}

/// How many flows a source may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceLimit {
    /// So many.
    pub rate: Rate,
    /// Addresses of IPv4 that have so many bits in common are one source.
    pub bits4: u8,
    /// The same for IPv6.
    pub bits6: u8,
    /// Sources that are remembered, of each family: of more, those not seen for the longest time begin
    /// anew.
    pub room: u32,
}

/// How programs tell of flows. Nothing is told before it is wanted:
/// [`Generation::want`](crate::generation::Generation::want).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Events {
    /// Bytes of the ring: a power of two, and whole pages; 1048576 by default. It keeps the size that it had
    /// first.
    pub bytes: u32,
    /// How often it is told that a flow lives, where that is wanted: every 60 seconds by default.
    pub every: Duration,
}

impl Default for Events {
    fn default() -> Events {
        Events {
            bytes: 1 << 20,
            every: Duration::from_secs(60),
        }
    }
}

/// How long a flow is remembered without any packet, in either direction. The defaults are in seconds.
///
/// What is longer than the kernel's ticks can tell apart counts as that: 12 days where a second has 1000 of them, 49
/// where it has 250.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// A flow that nobody answered yet: 30. Older ones are not taken for flows any more: those of UDP also if
    /// their clients go on asking.
    pub unanswered: Duration,
    /// A TCP connection: 21600, which is 6 hours.
    pub established: Duration,
    /// One that one side has closed: 600. A reset may be anybody's: what was reset is remembered as long as it had
    /// lived, but no longer than this, and no shorter than `closed`.
    pub half_closed: Duration,
    /// One that both sides have closed: 10.
    pub closed: Duration,
    /// A flow of UDP: 180. If its backend is in no group any more and is silent for as long as `unanswered` says,
    /// the client's next packet goes to another one.
    pub udp: Duration,
    /// How long it takes to look at each flow once, and so how late one may be forgotten: 8.
    pub round: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        let seconds = Duration::from_secs;
        Timeouts {
            unanswered: seconds(30),
            established: seconds(6 * 3600),
            half_closed: seconds(10 * 60),
            closed: seconds(10),
            udp: seconds(3 * 60),
            round: seconds(8),
        }
    }
}
