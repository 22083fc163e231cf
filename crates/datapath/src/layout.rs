//! What the bytes of the maps mean: what programs, user space and a later process agree on.

use crate::config::Rate;
use bpfsmith_maps::Timer;
use bpfsmith_uapi::{Field, record};
use std::net::{IpAddr, SocketAddr};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

record! {
    /// A packet of IPv4 as it arrives: the key of a flow's direction. Ports and addresses stand as in
    /// the packet.
    #[derive(
        Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord,
        FromBytes, IntoBytes, Immutable, KnownLayout,
    )]
    pub struct Key4 {
        /// Where it comes from.
        pub saddr: [u8; 4],
        /// Where it goes.
        pub daddr: [u8; 4],
        /// The port it comes from, then the one it goes to.
        pub ports: [u8; 4],
    }
}

record! {
    /// The same of IPv6.
    #[derive(
        Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord,
        FromBytes, IntoBytes, Immutable, KnownLayout,
    )]
    pub struct Key6 {
        /// Where it comes from.
        pub saddr: [u8; 16],
        /// Where it goes.
        pub daddr: [u8; 16],
        /// The port it comes from, then the one it goes to.
        pub ports: [u8; 4],
    }
}

macro_rules! flows {
    ($($(#[$doc:meta])+ $name:ident, $bytes:literal, $fields:ident;)+) => {$(
        record! {
            $(#[$doc])+
            #[derive(
                Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
            )]
            pub struct $name {
                /// Where its packets seem to come from afterwards.
                pub saddr: [u8; $bytes],
                /// Where they go.
                pub daddr: [u8; $bytes],
                /// Both ports, as in a packet.
                pub ports: [u8; 4],
                /// What an IPv4 header's checksum changes by, with one taken from the time to live.
                pub ip_sum: u16,
                /// What the transport's checksum changes by.
                pub l4_sum: u16,
                /// The next hop's Ethernet address.
                pub dmac: [u8; 6],
                /// The Ethernet address of the device that sends.
                pub smac: [u8; 6],
                /// The device that sends.
                pub ifindex: u32,
                /// Packets so far.
                pub packets: u64,
                /// Their bytes, IP headers included.
                pub bytes: u64,
                /// When the last one came, in the kernel's ticks.
                pub seen: u32,
                /// When the flow began, in the kernel's ticks.
                pub born: u32,
                /// Of packets to a backend, its number; of answers, [`ANSWER`] and the number of the
                /// listener.
                pub tag: u16,
                /// The longest packet that the next hop's device takes.
                pub mtu: u16,
                /// What a packet has to look at besides: [`Word`].
                pub word: u32,
            }
        }

        /// The members of a flow of that family.
        pub(crate) const $fields: Fields = Fields {
            saddr: $name::saddr,
            daddr: $name::daddr,
            ports: $name::ports,
            ip_sum: $name::ip_sum,
            l4_sum: $name::l4_sum,
            dmac: $name::dmac,
            ifindex: $name::ifindex,
            packets: $name::packets,
            bytes: $name::bytes,
            seen: $name::seen,
            born: $name::born,
            tag: $name::tag,
            mtu: $name::mtu,
            word: $name::word,
        };
    )+};
}

flows! {
    /// One direction of a flow of IPv4: what becomes of its packets.
    ///
    /// It fills a line of the cache.
    Flow4, 4, FLOW4;
    /// The same of IPv6.
    Flow6, 16, FLOW6;
}

/// The members of a flow, whatever its family.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields {
    pub(crate) saddr: Field,
    pub(crate) daddr: Field,
    pub(crate) ports: Field,
    pub(crate) ip_sum: Field,
    pub(crate) l4_sum: Field,
    pub(crate) dmac: Field,
    pub(crate) ifindex: Field,
    pub(crate) packets: Field,
    pub(crate) bytes: Field,
    pub(crate) seen: Field,
    pub(crate) born: Field,
    pub(crate) tag: Field,
    pub(crate) mtu: Field,
    pub(crate) word: Field,
}

/// In a flow's `tag`: its packets are answers.
pub const ANSWER: u16 = 0x8000;

/// A flow's `word`: all that could make a packet special, in one number, so that a packet of an
/// established flow compares once.
///
/// Its lower half is the [tick](crate::clock::Clock::tick) in which the next hop was asked for, above it are the
/// [state](Word::state) and the [way](Word::way).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Word(pub u32);

impl Word {
    /// Bits of the state: the client closed.
    pub const FIN: u32 = 1 << 16;
    /// The backend closed.
    pub const FIN_ANSWER: u32 = 1 << 17;
    /// One of them reset, or somebody did in its name.
    pub const RESET: u32 = 1 << 18;
    /// It does not count among its backend's flows: it has ended. Of the direction to the backend.
    pub const UNCOUNTED: u32 = 1 << 19;
    /// It is being taken out, and does not count either: by who set this bit, and nobody else.
    pub const OUTSIDE: u32 = 1 << 20;
    /// It is not established yet, and does not count either.
    pub const HALF: u32 = 1 << 21;
    /// It came by a cookie: sequence numbers are shifted between its two sides. Of both directions.
    pub const SHIFTED: u32 = 1 << 22;
    /// Somebody answered it. Of the direction to the backend, of TCP.
    pub const ANSWERED: u32 = 1 << 23;
    /// It was being taken out when the kernel looked at it last. Of the direction to the backend.
    pub const LEFT: u32 = 1 << 24;
    /// All bits of the state.
    pub const STATE: u32 = 0xfff << 16;
    /// Where the way begins.
    pub const WAY: u32 = 28;

    /// The bits of the state.
    #[must_use]
    pub const fn state(self) -> u32 {
        self.0 & Word::STATE
    }

    /// How its packets go out.
    #[must_use]
    pub const fn way(self) -> u32 {
        self.0 >> Word::WAY
    }

    /// Whether it is not established yet.
    #[must_use]
    pub const fn is_half(self) -> bool {
        self.0 & Word::HALF != 0
    }

    /// Whether both sides closed it, or it was reset.
    #[must_use]
    pub const fn is_closed(self) -> bool {
        let both = Word::FIN | Word::FIN_ANSWER;
        self.0 & Word::RESET != 0 || self.0 & both == both
    }
}

/// Places of a bucket.
pub const PLACES: usize = 8;

macro_rules! buckets {
    ($($(#[$doc:meta])+ $name:ident, $flow:ident, $both:literal, $fields:ident;)+) => {$(
        record! {
            $(#[$doc])+
            #[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
            pub struct $name {
                /// What is known of each entry before it is looked at: [`Tag`].
                pub tags: [u32; PLACES],
                /// The ports of their keys.
                pub ports: [[u8; 4]; PLACES],
                /// The addresses of their keys, source first.
                pub addresses: [[u8; $both]; PLACES],
                /// What becomes of their packets.
                pub flows: [$flow; PLACES],
            }
        }

        /// Where the parts of a bucket of that family begin.
        pub(crate) const $fields: BucketFields = BucketFields {
            ports: $name::ports,
            addresses: $name::addresses,
            flows: $name::flows,
        };
    )+};
}

buckets! {
    /// Entries of the table of flows of IPv4 that lie together: a packet whose flow is here looks at
    /// the first two lines of the cache and at the line of its flow.
    Bucket4, Flow4, 8, BUCKET4;
    /// The same of IPv6.
    Bucket6, Flow6, 32, BUCKET6;
}

/// Where the parts of a bucket begin, whatever its family.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BucketFields {
    pub(crate) ports: Field,
    pub(crate) addresses: Field,
    pub(crate) flows: Field,
}

/// What is known of an entry of a bucket before it is looked at; 0 if there is none.
///
/// The uppermost bit says that the entry is there: while somebody writes it, it is not yet, but all
/// others are set as they will be. Below it is a part of the key's hash, and whether and since when the
/// entry may make room for others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tag(pub u32);

impl Tag {
    /// There is an entry.
    pub const USED: u32 = 1 << 31;
    /// Where the hash begins.
    pub const HASH: u32 = 11;
    /// Bits of the hash. The lowest one is always set: so no entry that is being written looks like a free place.
    pub const HASH_BITS: u32 = 20;
    /// The entry may make room for another: its flow is not established yet.
    pub const SOFT: u32 = 1 << 10;
    /// When it began: sixteenths of a second or so, which wrap around after a minute.
    pub const TIME: u32 = 0x3ff;

    /// Whether there is an entry.
    #[must_use]
    pub const fn is_used(self) -> bool {
        self.0 & Tag::USED != 0
    }
}

/// Numbers of this table's own that make its hash unknown to others: one for each word of the longest
/// key, and one for what is made of those.
pub type Secret = [u64; 10];

/// How the packets of a flow go out.
pub mod way {
    /// By the device and with the Ethernet addresses that the flow has.
    pub const DEVICE: u32 = 0;
    /// Straight into the far end of that device, a virtual one.
    pub const PEER: u32 = 1;
    /// By a device whose next hop the kernel has to find yet.
    pub const NEIGHBOUR: u32 = 2;
    /// Up to this machine's own sockets.
    pub const LOCAL: u32 = 3;
    /// Nowhere: there is no route.
    pub const NOWHERE: u32 = 4;
    /// Back by the device that they came by, which is that of the flow.
    pub const BACK: u32 = 5;
}

record! {
    /// What a packet without a flow must match: the key of a listener for IPv4. What does not matter
    /// is zero.
    #[derive(
        Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
    )]
    pub struct ListenerKey4 {
        /// The device that it came by.
        pub device: u32,
        /// The address that it goes to.
        pub address: [u8; 4],
        /// The port that it goes to, as in the packet.
        pub port: [u8; 2],
        /// Its protocol.
        pub protocol: u16,
    }
}

record! {
    /// The same for IPv6.
    #[derive(
        Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
    )]
    pub struct ListenerKey6 {
        /// The device that it came by.
        pub device: u32,
        /// The address that it goes to.
        pub address: [u8; 16],
        /// The port that it goes to, as in the packet.
        pub port: [u8; 2],
        /// Its protocol.
        pub protocol: u16,
    }
}

record! {
    /// A listener.
    #[derive(
        Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
    )]
    pub struct Listener {
        /// Its number.
        pub number: u32,
        /// The group that its flows go to.
        pub group: u32,
        /// Whether some sources have groups of their own.
        pub has_routes: u32,
        /// Whether cookies are sent above its limit.
        pub has_cookies: u32,
    }
}

record! {
    /// A prefix of sources of one listener, for IPv4.
    #[derive(
        Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
    )]
    pub struct RouteKey4 {
        /// How many bits of the rest count.
        pub bits: u32,
        /// The number of the listener.
        pub listener: u32,
        /// The prefix.
        pub address: [u8; 4],
    }
}

record! {
    /// The same for IPv6.
    #[derive(
        Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
    )]
    pub struct RouteKey6 {
        /// How many bits of the rest count.
        pub bits: u32,
        /// The number of the listener.
        pub listener: u32,
        /// The prefix.
        pub address: [u8; 16],
    }
}

record! {
    /// A group of backends.
    #[derive(
        Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
    )]
    pub struct Group {
        /// Where its part of the ring begins: numbers of backends; where flows are compared, each
        /// with its weight behind it.
        pub first: u32,
        /// How many places that has; none if it has no backend.
        pub places: u32,
        /// Which of them has the next turn.
        pub turn: u32,
        /// How it chooses: a number of [`Algorithm`](crate::config::Algorithm).
        pub algorithm: u8,
        /// How packets get to its backends: a number of [`Mode`](crate::config::Mode).
        pub mode: u8,
        /// Where its addresses for [`Mode::FullNat`](crate::config::Mode::FullNat) begin.
        pub first_source: u8,
        /// How many of them there are.
        pub sources: u8,
    }
}

/// A backend is in no group any more: its flows live on as long as it answers.
pub const GONE: u16 = 1;

/// A backend's flows are over: they are forgotten, whoever still sends.
pub const ENDED: u16 = 2;

record! {
    /// A backend.
    #[derive(
        Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
    )]
    pub struct Backend {
        /// Its address; of IPv4, four bytes.
        pub address: [u8; 16],
        /// Its port, as in the packet; 0 keeps the one that the packet goes to.
        pub port: [u8; 2],
        /// [`GONE`], [`ENDED`], or 0 if it is neither.
        pub is_gone: u16,
        /// The family of its address, 4 or 6; of none, where there is no backend, 0. Programs do not read it.
        pub family: u16,
        /// Nothing.
        pub spare: [u8; 2],
    }
}

impl Backend {
    /// Where it is, if there is one.
    #[must_use]
    pub fn at(&self) -> Option<SocketAddr> {
        let [a, b, c, d, ..] = self.address;
        let ip = match self.family {
            4 => IpAddr::from([a, b, c, d]),
            6 => IpAddr::from(self.address),
            _ => return None,
        };
        Some(SocketAddr::new(ip, u16::from_be_bytes(self.port)))
    }
}

/// Parts of each table that are looked at one after the other.
pub const SWEEP_PARTS: u32 = 1024;

record! {
    /// The timer that looks after flows, and what it did.
    #[derive(
        Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable,
    )]
    pub struct Sweeper {
        /// The timer.
        pub timer: Timer,
        /// How often it went off.
        pub ticks: u64,
        /// Which part of the tables is next: [`SWEEP_PARTS`].
        pub part: u64,
        /// How many flows it looked at.
        pub visited: u64,
        /// How many it took out.
        pub removed: u64,
        /// Nanoseconds that it took.
        pub spent: u64,
        /// Nanoseconds of the longest time.
        pub longest: u64,
    }
}

record! {
    /// Which packet of IPv4 a fragment belongs to.
    #[derive(
        Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
    )]
    pub struct FragmentKey4 {
        /// Where it comes from.
        pub saddr: [u8; 4],
        /// Where it goes.
        pub daddr: [u8; 4],
        /// The number that its fragments share, as in the packet.
        pub id: [u8; 2],
        /// Its protocol.
        pub protocol: u16,
    }
}

record! {
    /// The same of IPv6.
    #[derive(
        Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
    )]
    pub struct FragmentKey6 {
        /// Where it comes from.
        pub saddr: [u8; 16],
        /// Where it goes.
        pub daddr: [u8; 16],
        /// The number that its fragments share, as in the packet.
        pub id: [u8; 4],
    }
}

record! {
    /// What only the first fragment of a packet says.
    #[derive(
        Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
    )]
    pub struct Transport {
        /// Both ports, as in the packet.
        pub ports: [u8; 4],
        /// Its protocol.
        pub protocol: u32,
    }
}

record! {
    /// How many flows may begin at a listener: a bucket of tokens, which are counted in billionths.
    #[derive(
        Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
    )]
    pub struct Limit {
        /// Tokens, when they were counted.
        pub tokens: u64,
        /// When that was, in nanoseconds.
        pub last: u64,
        /// Tokens that come back in a second.
        pub per_second: u64,
        /// A full bucket.
        pub full: u64,
        /// Nanoseconds after which any bucket is full.
        pub longest: u64,
    }
}

impl From<Rate> for Limit {
    fn from(rate: Rate) -> Limit {
        let per_second = u64::from(rate.per_second);
        let full = u64::from(rate.burst) * 1_000_000_000;
        Limit {
            tokens: full,
            last: 0,
            per_second,
            full,
            longest: full.div_ceil(per_second.max(1)),
        }
    }
}

record! {
    /// What a connection by cookie is known by besides, under the key of its packets to the backend.
    #[derive(
        Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
    )]
    pub struct Shift {
        /// The number that the client takes for the backend's first one.
        pub cookie: u32,
        /// How much the numbers that the client knows are above the backend's.
        pub by: u32,
        /// The client's window, as in its packet.
        pub window: u16,
        /// Whether the backend has answered, so that `by` is known.
        pub is_known: u16,
    }
}

record! {
    /// What is switched while programs run.
    #[derive(
        Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
    )]
    pub struct Settings {
        /// Which events are wanted.
        pub events: u32,
        /// Nothing.
        pub spare: u32,
    }
}

/// A bit for each port that a listener or a backend has, numbered as the port stands in a packet.
pub type PortSet = [u8; 8192];

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel aligns values of arrays that can be mapped to pages, and lays them side by side.
    #[test]
    fn buckets_fill_whole_lines() {
        assert_eq!(size_of::<Flow4>(), 64);
        assert_eq!(Flow4::word.offset, 60);
        assert_eq!(Bucket4::addresses.offset, 64);
        assert_eq!(Bucket4::flows.offset % 64, 0);
        assert_eq!(size_of::<Bucket4>(), 640);
        assert_eq!(size_of::<Bucket6>(), 1024);
    }
}
