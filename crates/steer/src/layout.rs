//! The maps, and what their bytes mean: what programs and processes of one [`LAYOUT`] agree on.

use crate::binding::{Binding, LABEL, Label, Ports, Protocol};
use bpfsmith_net::Prefix;
use bpfsmith_uapi::MapType;
use bpfsmith_uapi::flags::map_create::BPF_F_NO_PREALLOC;
use bpfsmith_uapi::map::MapDef;
use bpfsmith_uapi::record;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The version of all that this file says. It grows with every change.
pub(crate) const LAYOUT: u32 = 1;

/// What a pinned map of ours begins with.
pub(crate) const MAGIC: u32 = 0x7374_6565;

/// How many services there may be.
pub(crate) const SERVICES: u32 = 4096;
/// How many sockets of one kind a service may have: the bits of [`Group::mask`].
pub(crate) const SLOTS: u32 = 64;
/// How many sockets there may be.
pub(crate) const SOCKETS: u32 = 16_384;
/// How many entries a table of rules may have. Room is taken as it is used.
pub(crate) const ENTRIES: u32 = 1 << 22;
/// How many bindings may be counted. Room is taken as it is used.
pub(crate) const COUNTERS: u32 = 1 << 20;

/// Protocol and family of a packet or socket, as a number below 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Kind(u8);

impl Kind {
    pub(crate) const ALL: [Kind; 4] = [Kind(0), Kind(1), Kind(2), Kind(3)];

    pub(crate) fn new(protocol: Protocol, address: IpAddr) -> Kind {
        let protocol = u8::from(protocol == Protocol::Udp);
        Kind(protocol | if address.is_ipv6() { 2 } else { 0 })
    }

    pub(crate) fn of(binding: &Binding) -> Kind {
        Kind::new(binding.protocol(), binding.prefix().addr())
    }

    pub(crate) const fn protocol(self) -> Protocol {
        match self.0 & 1 {
            0 => Protocol::Tcp,
            _ => Protocol::Udp,
        }
    }

    pub(crate) const fn is_v6(self) -> bool {
        self.0 & 2 != 0
    }

    pub(crate) const fn number(self) -> u32 {
        self.0 as u32
    }
}

record! {
    /// The key of a table of rules.
    ///
    /// A packet looks up one key for each size of blocks of ports in use: its kind, that size, the
    /// block that its port lies in, and its address. Entries for bindings themselves stand in the same
    /// table, so that both change at once; the highest bit of the kind tells them apart.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, FromBytes, IntoBytes, Immutable)]
    pub(crate) struct RuleKey {
        /// How many bits of the rest count.
        pub(crate) bits: u32,
        /// Protocol and family.
        pub(crate) kind: u8,
        /// The block has two to the power of that many ports.
        pub(crate) level: u8,
        /// The first port of the block, in network order.
        pub(crate) port: [u8; 2],
        /// The address; of IPv4, its four bytes first.
        pub(crate) address: [u8; 16],
        /// Of an entry for a binding, its last port in network order.
        pub(crate) last: [u8; 2],
        /// Of the same, the length of its prefix.
        pub(crate) length: u8,
        /// Nothing.
        pub(crate) end: u8,
    }
}

/// The bits of a key before the address, and with a whole address.
pub(crate) const HEAD_BITS: u32 = 32;
pub(crate) const PACKET_BITS: u32 = HEAD_BITS + 128;
const WHOLE_BITS: u32 = PACKET_BITS + 32;
const IS_BINDING: u8 = 0x80;

impl RuleKey {
    /// A block of ports of a binding.
    pub(crate) fn block(binding: &Binding, block: Block) -> RuleKey {
        let prefix = binding.prefix();
        RuleKey {
            bits: HEAD_BITS + u32::from(prefix.len()),
            kind: Kind::of(binding).0,
            level: block.level,
            port: block.first.to_be_bytes(),
            address: bytes(prefix.addr()),
            last: [0; 2],
            length: 0,
            end: 0,
        }
    }

    /// The binding itself.
    pub(crate) fn binding(binding: &Binding) -> RuleKey {
        let (prefix, ports) = (binding.prefix(), binding.ports());
        RuleKey {
            bits: WHOLE_BITS,
            kind: Kind::of(binding).0 | IS_BINDING,
            level: 0,
            port: ports.first().to_be_bytes(),
            address: bytes(prefix.addr()),
            last: ports.last().to_be_bytes(),
            length: prefix.len(),
            end: 0,
        }
    }

    /// Whether it stands for a block.
    pub(crate) const fn is_block(self) -> bool {
        self.kind & IS_BINDING == 0
    }

    /// The binding that it stands for: `None` for a block, an error for what nobody writes.
    pub(crate) fn to_binding(self) -> Result<Option<Binding>, Nonsense> {
        if self.is_block() {
            return Ok(None);
        }
        let kind = Kind(self.kind & 3);
        let [a, b, c, d, ..] = self.address;
        let address: IpAddr = match kind.is_v6() {
            true => Ipv6Addr::from(self.address).into(),
            false => Ipv4Addr::new(a, b, c, d).into(),
        };
        let (first, last) = (u16::from_be_bytes(self.port), u16::from_be_bytes(self.last));
        let prefix = Prefix::new(address, self.length).map_err(|_| Nonsense)?;
        let ports = Ports::new(first..=last).map_err(|_| Nonsense)?;
        let binding = Binding::new(kind.protocol(), prefix, ports).map_err(|_| Nonsense)?;
        Ok(Some(binding))
    }
}

/// Bytes in a map that this crate never writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nonsense;

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

/// A power of two of ports, beginning at a multiple of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Block {
    pub(crate) level: u8,
    pub(crate) first: u16,
}

/// The fewest blocks that are these ports, in order: at most 30.
pub(crate) fn blocks(ports: Ports) -> impl Iterator<Item = Block> {
    let end = u32::from(ports.last()) + 1;
    let mut next = u32::from(ports.first());
    std::iter::from_fn(move || {
        let first = u16::try_from(next).ok().filter(|_| next < end)?;
        let aligned = if next == 0 { 16 } else { next.trailing_zeros() };
        let level = aligned.min((end - next).ilog2());
        next += 1 << level;
        let level = u8::try_from(level).ok()?;
        Some(Block { level, first })
    })
}

/// What decides between bindings that cover a packet: the highest rank has it.
///
/// The longest prefix; then the fewest ports; then the highest first port. No two bindings of one kind
/// that cover a packet have the same.
pub(crate) fn rank(binding: &Binding) -> u64 {
    let ports = binding.ports();
    let few = u64::from(65_536 - ports.count());
    // Zero is for nothing.
    1 << 40 | u64::from(binding.prefix().len()) << 32 | few << 16 | u64::from(ports.first())
}

record! {
    /// What a table of rules says about a block, or a binding.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
    pub(crate) struct Entry {
        /// Of several blocks that a packet lies in, the highest counts.
        pub(crate) rank: u64,
        /// Whose it is.
        pub(crate) service: u32,
        /// Where it is counted.
        pub(crate) counter: u32,
    }
}

record! {
    /// The sockets of one kind of a service.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
    pub(crate) struct Group {
        /// In which slots there are, or were, sockets.
        pub(crate) mask: u64,
        /// Slots from here on are empty.
        pub(crate) count: u32,
        /// What the program returns if there is none.
        pub(crate) verdict: u32,
    }
}

record! {
    /// What a binding's packets came to.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
    pub(crate) struct Tally {
        /// A socket got them.
        pub(crate) hits: u64,
        /// There was no socket.
        pub(crate) misses: u64,
        /// The kernel refused the socket.
        pub(crate) errors: u64,
    }
}

record! {
    /// What is known about all of it.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
    pub(crate) struct Meta {
        /// [`MAGIC`].
        pub(crate) magic: u32,
        /// [`LAYOUT`].
        pub(crate) layout: u32,
        /// Grows with every change of rules.
        pub(crate) generation: u64,
        /// The cookie of the network namespace.
        pub(crate) netns: u64,
        /// The number of the next binding that is counted.
        pub(crate) counter: u64,
    }
}

record! {
    /// A service.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
    pub(crate) struct Service {
        /// Its number, below [`SERVICES`].
        pub(crate) id: u32,
        /// As [`Group::verdict`].
        pub(crate) verdict: u32,
    }
}

/// A label, filled up with zeros.
pub(crate) type LabelKey = [u8; LABEL + 1];

pub(crate) fn label_key(label: &Label) -> LabelKey {
    let mut key = [0; LABEL + 1];
    key[..label.as_str().len()].copy_from_slice(label.as_str().as_bytes());
    key
}

pub(crate) fn label_of(key: &LabelKey) -> Result<Label, Nonsense> {
    let end = key.iter().position(|&byte| byte == 0).ok_or(Nonsense)?;
    let text = str::from_utf8(&key[..end]).map_err(|_| Nonsense)?;
    Label::new(text).map_err(|_| Nonsense)
}

/// Where the sockets of a kind of a service are told.
pub(crate) const fn group(service: u32, kind: Kind) -> u32 {
    service << 2 | kind.number()
}

/// Where a socket of a group is.
pub(crate) const fn place(group: u32, slot: u32) -> u64 {
    (group as u64) << SLOT_BITS | slot as u64
}

/// The bits of a slot's number.
pub(crate) const SLOT_BITS: i32 = 6;

/// A table of rules: one generation.
pub(crate) static TABLE: MapDef<RuleKey, Entry> = MapDef::lpm_trie("steer_table", ENTRIES);

/// The table in force.
pub(crate) static RULES: MapDef<u32, u32> =
    MapDef::new(MapType::ARRAY_OF_MAPS, "steer_rules", 1).inner(TABLE.shape());

/// For each kind and each 256 ports, which sizes of blocks are in use there, as bits.
pub(crate) static LEVELS: MapDef<u32, u32> = MapDef::array("steer_levels", 4 * 256);

/// The groups of all services, at [`group`].
pub(crate) static GROUPS: MapDef<u32, Group> = MapDef::array("steer_groups", 4 * SERVICES);

/// The sockets, at [`place`].
pub(crate) static SOCKET_MAP: MapDef<u64, u64> =
    MapDef::new(MapType::SOCKHASH, "steer_sockets", SOCKETS);

/// What was counted, for each binding.
pub(crate) static TALLIES: MapDef<u32, Tally> =
    MapDef::percpu_hash("steer_tallies", COUNTERS).flags(BPF_F_NO_PREALLOC);

/// The services by label. Programs do not know it.
pub(crate) static LABELS: MapDef<LabelKey, Service> =
    MapDef::hash("steer_services", SERVICES).flags(BPF_F_NO_PREALLOC);

/// What is known about all of it. Programs do not know it.
pub(crate) static META: MapDef<u32, Meta> = MapDef::array("steer_meta", 1);

#[cfg(test)]
mod tests {
    use super::{Block, RuleKey, blocks, rank};
    use crate::binding::{Binding, Ports};

    fn all(ports: Ports) -> Vec<Block> {
        blocks(ports).collect()
    }

    #[test]
    fn blocks_are_the_range_and_few() {
        for (first, last) in [
            (0, 65535),
            (1, 65535),
            (0, 65534),
            (1, 65534),
            (80, 80),
            (1024, 65535),
            (8000, 8999),
            (65535, 65535),
            (0, 0),
        ] {
            let ports = Ports::new(first..=last).unwrap();
            let all = all(ports);
            assert!(all.len() <= 30, "{ports}: {}", all.len());
            let mut next = u32::from(first);
            for block in all {
                assert_eq!(u32::from(block.first), next);
                assert_eq!(next % (1 << block.level), 0);
                next += 1 << block.level;
            }
            assert_eq!(next, u32::from(last) + 1);
        }
        assert_eq!(all(Ports::ALL).len(), 1);
        assert_eq!(all(Ports::new(1..=65534).unwrap()).len(), 30);
    }

    #[test]
    fn ranks_are_in_the_order_that_is_promised() {
        let order = [
            "tcp 0.0.0.0/0 *",
            "tcp 10.0.0.0/8 *",
            "tcp 10.0.0.0/8 1024-65535",
            "tcp 10.0.0.0/8 8000-8999",
            "tcp 10.0.0.0/8 8080-9079",
            "tcp 10.0.0.0/8 8080",
            "tcp 10.0.0.0/9 *",
        ];
        let ranks = order.map(|text| rank(&text.parse::<Binding>().unwrap()));
        assert!(ranks.is_sorted(), "{ranks:x?}");
        assert!(ranks[0] > 0);
    }

    #[test]
    fn keys_tell_their_bindings() {
        for text in [
            "tcp 10.0.0.0/8 80",
            "udp 2001:db8::/33 7-65535",
            "tcp ::/0 *",
        ] {
            let binding: Binding = text.parse().unwrap();
            assert_eq!(
                RuleKey::binding(&binding).to_binding().unwrap(),
                Some(binding)
            );
            for block in blocks(binding.ports()) {
                let key = RuleKey::block(&binding, block);
                assert_eq!(key.to_binding().unwrap(), None);
            }
        }
        let odd = RuleKey {
            length: 77,
            ..RuleKey::binding(&"tcp 10.0.0.0/8 80".parse().unwrap())
        };
        assert!(odd.to_binding().is_err());
    }
}
