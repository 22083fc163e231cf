//! Programs that choose sockets (`SK_LOOKUP`): whom a packet is for, and which socket gets it.
//!
//! The kernel hands the two ports over in different ways: the local one in the machine's order, the
//! remote one in network order. Here a port is the number that people write, whichever [`End`] it is
//! of, also in a register; addresses are Rust's. Nothing has to be turned round.
//!
//! Tests fall through if they hold, and jump to a label of yours if not. What stands at the label
//! decides: another test, `ret(SK_PASS)` for the kernel's own search, or `ret(SK_DROP)`.
//!
//! ```
//! use bpfsmith_asm::dsl::*;
//! use bpfsmith_asm::kit::lookup::{self, End, Fallback, Network};
//! use std::net::Ipv4Addr;
//!
//! static SOCKETS: MapDef<u32, u64> = MapDef::new(MapType::SOCKMAP, "sockets", 1);
//!
//! /// TCP to any port of 198.51.100.0/24 below 1024 goes to one listener.
//! fn steer() -> Code {
//!     let (other, key) = (label("other"), slot::<u32>("key"));
//!     let here = const { Network::v4(Ipv4Addr::new(198, 51, 100, 0), 24) };
//!     code![
//!         mov(R6, R1),
//!         lookup::protocol(R6, IPPROTO_TCP, R2, other),
//!         lookup::network(R6, End::Local, here, R2, other),
//!         lookup::port(R6, End::Local, 1..=1023, R2, other),
//!         store(key.u32(0), 0),
//!         lookup::assign_or(R6, &SOCKETS, key, R7, 0, Fallback::Drop),
//!         bind(other),
//!         ret(SK_PASS),
//!     ]
//! }
//! # Program::new(ProgType::SK_LOOKUP, "steer", steer()).unwrap();
//! ```
//!
//! For rules that change while the program runs, [`find`] looks an address up in an LPM trie, and
//! what it finds is the key of the socket:
//!
//! ```
//! # use bpfsmith_asm::dsl::*;
//! # use bpfsmith_asm::kit::lookup::{self, AddressKey, End, Fallback};
//! static TENANTS: MapDef<AddressKey, u32> = MapDef::lpm_trie("tenants", 10_000);
//! static SOCKETS: MapDef<u32, u64> = MapDef::new(MapType::SOCKMAP, "sockets", 64);
//!
//! /// The socket of whoever the packet comes from.
//! fn steer(nobody: Label) -> Code {
//!     let tenant = slot::<u32>("tenant");
//!     code![
//!         lookup::find(R6, End::Remote, &TENANTS, tenant, nobody),
//!         lookup::assign_or(R6, &SOCKETS, tenant, R7, 0, Fallback::Pass),
//!     ]
//! }
//! # let nobody = label("nobody");
//! # let code = code![mov(R6, R1), steer(nobody), bind(nobody), ret(SK_PASS)];
//! # Program::new(ProgType::SK_LOOKUP, "steer", code).unwrap();
//! ```

use crate::dsl::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

/// One of the two ends that a packet names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// Where the packet goes: this machine.
    Local,
    /// Where it comes from.
    Remote,
}

impl End {
    const fn v4(self) -> Field {
        match self {
            End::Local => bpf_sk_lookup::local_ip4,
            End::Remote => bpf_sk_lookup::remote_ip4,
        }
    }

    const fn v6(self, word: u16) -> Field {
        match self {
            End::Local => bpf_sk_lookup::local_ip6.at(word),
            End::Remote => bpf_sk_lookup::remote_ip6.at(word),
        }
    }
}

/// Addresses that share their leading bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// The addresses that share that many bits with this one, or nothing when it has fewer.
    #[must_use]
    pub const fn new(address: IpAddr, bits: u8) -> Option<Network> {
        let most = match address {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        if bits > most {
            return None;
        }
        Some(Network { address, bits })
    }

    /// The same for an IPv4 address that is known.
    ///
    /// # Panics
    /// If there are more than 32 bits. In a constant that is a compile error.
    #[must_use]
    pub const fn v4(address: Ipv4Addr, bits: u8) -> Network {
        assert!(bits <= 32, "an IPv4 address has 32 bits");
        let address = IpAddr::V4(address);
        Network { address, bits }
    }

    /// The same for an IPv6 address that is known.
    ///
    /// # Panics
    /// If there are more than 128 bits. In a constant that is a compile error.
    #[must_use]
    pub const fn v6(address: Ipv6Addr, bits: u8) -> Network {
        assert!(bits <= 128, "an IPv6 address has 128 bits");
        let address = IpAddr::V6(address);
        Network { address, bits }
    }
}

/// An address alone.
impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Network {
        match address {
            IpAddr::V4(address) => Network::v4(address, 32),
            IpAddr::V6(address) => Network::v6(address, 128),
        }
    }
}

/// What becomes of a packet that no socket was found for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fallback {
    /// The next program decides, and at last the kernel's own search.
    Pass,
    /// It is refused, as if nobody listened, unless another program chooses a socket.
    Drop,
}

impl Fallback {
    const fn verdict(self) -> i32 {
        match self {
            Fallback::Pass => SK_PASS,
            Fallback::Drop => SK_DROP,
        }
    }
}

/// The packet is of this family, `AF_INET` or `AF_INET6`; else jumps to `other`. Clobbers scratch.
pub fn family(ctx: Reg, family: i32, scratch: Reg, other: Label) -> Code {
    code![
        load(scratch, ctx.get(bpf_sk_lookup::family)),
        jne(scratch, family, other),
    ]
}

/// The packet is of this protocol, `IPPROTO_TCP` or `IPPROTO_UDP`; else jumps to `other`. Clobbers
/// scratch.
pub fn protocol(ctx: Reg, protocol: i32, scratch: Reg, other: Label) -> Code {
    code![
        load(scratch, ctx.get(bpf_sk_lookup::protocol)),
        jne(scratch, protocol, other),
    ]
}

/// `to` becomes the port of that end: the plain number, in the machine's order for both ends.
#[expect(deprecated, reason = "this is what to use instead of the fields")]
pub fn load_port(to: Reg, ctx: Reg, end: End) -> Code {
    match end {
        End::Local => code![load(
            to,
            ctx.get(bpf_sk_lookup::local_port)
        )],
        End::Remote => code![
            load(to, ctx.get(bpf_sk_lookup::remote_port)),
            to_be16(to),
        ],
    }
}

/// The port of that end is one of these; else jumps to `other`. An empty range has no ports. Clobbers
/// scratch.
pub fn port(ctx: Reg, end: End, ports: RangeInclusive<u16>, scratch: Reg, other: Label) -> Code {
    code![
        load_port(scratch, ctx, end),
        within(ports, scratch, other)
    ]
}

/// The plain number in `port` is one of these; else jumps to `other`.
pub(super) fn within(ports: RangeInclusive<u16>, port: Reg, other: Label) -> Vec<Insn> {
    let (first, last) = (*ports.start(), *ports.end());
    // There is always a jump, so that `other` is never a place without a way to it.
    match (first, last) {
        _ if first == last => vec![jne(port, i32::from(first), other)],
        (0, _) => vec![jgt(port, i32::from(last), other)],
        (_, u16::MAX) => vec![jlt(port, i32::from(first), other)],
        _ => vec![
            jlt(port, i32::from(first), other),
            jgt(port, i32::from(last), other),
        ],
    }
}

/// The packet is of the network's family, and the address of that end in the network; else jumps to
/// `other`. Clobbers scratch.
pub fn network(
    ctx: Reg,
    end: End,
    network: impl Into<Network>,
    scratch: Reg,
    other: Label,
) -> Code {
    let network = network.into();
    let bits = u32::from(network.bits);
    match network.address {
        IpAddr::V4(address) => code![
            family(ctx, AF_INET, scratch, other),
            word(ctx.get(end.v4()), address.to_bits(), bits, scratch, other),
        ],
        IpAddr::V6(address) => {
            let [a, b, c, d, e, f, g, h] = address.segments().map(u32::from);
            let words = [
                a << 16 | b,
                c << 16 | d,
                e << 16 | f,
                g << 16 | h,
            ];
            let parts = (0_u16..).zip(words).map(|(n, value)| {
                let left = bits.saturating_sub(u32::from(n) * 32).min(32);
                word(ctx.get(end.v6(n)), value, left, scratch, other)
            });
            code![
                family(ctx, AF_INET6, scratch, other),
                parts.collect::<Vec<Code>>(),
            ]
        }
    }
}

/// Four bytes of an address share that many bits with these. Clobbers scratch.
fn word(from: Mem, value: u32, bits: u32, scratch: Reg, other: Label) -> Code {
    let mask = match bits {
        0 => return code![],
        bits => u32::MAX << (32 - bits),
    };
    let scratch32 = scratch.low();
    code![
        load(scratch, from),
        (mask != u32::MAX).then(|| and(scratch32, be32(mask))),
        jne(scratch32, be32(value & mask), other),
    ]
}

/// No earlier program chose a socket; else jumps to `chosen`. Clobbers scratch.
pub fn unchosen(ctx: Reg, scratch: Reg, chosen: Label) -> Code {
    code![
        load(scratch, ctx.get(bpf_sk_lookup::sk)),
        jne(scratch, 0, chosen),
    ]
}

/// The key of an LPM trie of addresses of both families: how many bits count, and sixteen bytes.
///
/// An IPv4 address stands there as the IPv6 address that means the same, `::ffff:a.b.c.d`, and a
/// prefix of it has 96 bits more. User space writes these keys as `bpfsmith_maps::LpmKey<[u8; 16]>`,
/// with `LpmKey::mapped`.
pub type AddressKey = [u32; 5];

const BITS: u32 = 128;
const ADDRESS: i32 = 4;

/// Writes the whole address of that end to a slot of an [`AddressKey`]. Clobbers scratch.
pub fn address_key(ctx: Reg, end: End, key: Slot, scratch: Reg) -> Code {
    let copy = |to: i32, from: Field| {
        [
            load(scratch, ctx.get(from)),
            store(key.u32(ADDRESS + to), scratch),
        ]
    };
    let [a, b, c, d] = [0, 1, 2, 3].map(|n| end.v6(n));
    code![
        store(key.u32(0), BITS),
        load(scratch, ctx.get(bpf_sk_lookup::family)),
        scratch
            .eq(AF_INET)
            .then(code![
                store(key.u32(ADDRESS), 0),
                store(key.u32(ADDRESS + 4), 0),
                store(key.u32(ADDRESS + 8), be32(0xffff)),
                copy(12, end.v4()),
            ])
            .or_else(code![
                copy(0, a),
                copy(4, b),
                copy(8, c),
                copy(12, d),
            ]),
    ]
}

/// Looks the address of that end up in an LPM trie, whose keys are [`AddressKey`]s or as large, and
/// copies the value of the longest prefix to `found`; jumps to `other` if none covers the address.
/// Clobbers R0 to R5.
pub fn find<K>(ctx: Reg, end: End, table: &MapDef<K, u32>, found: Slot, other: Label) -> Code {
    const {
        assert!(
            size_of::<K>() == size_of::<AddressKey>(),
            "the keys of the trie are no addresses: AddressKey"
        );
    }
    let key = slot::<AddressKey>("address");
    code![
        address_key(ctx, end, key, R1),
        map_lookup_elem(table, key),
        jeq(R0, 0, other),
        load(R1, R0.u32(0)),
        store(found.u32(0), R1),
    ]
}

/// Gives the packet to the socket under a key of a `SOCKMAP` or `SOCKHASH`; jumps to `other` if no
/// socket is there or the kernel refuses it. `flags` are `BPF_SK_LOOKUP_F_` bits.
///
/// `answer`, one of R6 to R9, is 0 if it is done. At `other` it is `-ENOENT` for no socket, what it
/// also is when its owner closed it; `-EEXIST` if an earlier program chose one and the flags do not
/// replace it; `-EPROTOTYPE` or `-EAFNOSUPPORT` for one of another protocol or family;
/// `-ESOCKTNOSUPPORT` for an established connection. Clobbers R0 to R5.
pub fn assign<K>(
    ctx: Reg,
    sockets: &MapDef<K, u64>,
    key: impl Into<Place>,
    answer: Reg,
    flags: u64,
    other: Label,
) -> Code {
    code![
        mov(answer, -Errno::ENOENT.0),
        map_lookup_elem(sockets, key.into()),
        jeq(R0, 0, other),
        // What was found is held, and has to be let go on every way from here.
        mov(answer, R0),
        sk_assign(ctx, answer, flags),
        mov(R1, answer),
        mov(answer, R0),
        sk_release(R1),
        jne(answer, 0, other),
    ]
}

/// As [`assign`], and the last word of the program: a packet without a socket has the fallback.
pub fn assign_or<K>(
    ctx: Reg,
    sockets: &MapDef<K, u64>,
    key: impl Into<Place>,
    answer: Reg,
    flags: u64,
    fallback: Fallback,
) -> Code {
    let other = label("no_socket");
    code![
        assign(ctx, sockets, key, answer, flags, other),
        ret(SK_PASS),
        bind(other),
        ret(fallback.verdict()),
    ]
}
