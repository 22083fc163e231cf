//! Packet headers: bounds, and a cursor that walks from one header to the next.
//!
//! A [`Packet`] names the registers; `data` keeps the start of the frame, `cursor` stands on the
//! header that comes next. Fields are read through the cursor: `load(R2, P.cursor.get(udp::dport))`.
//! A header that is needed later is kept by copying the cursor before walking on.
//!
//! ```
//! use bpfsmith_asm::dsl::*;
//! use bpfsmith_asm::kit::packet::{self, Exits, Packet};
//!
//! const P: Packet = Packet { data: R6, end: R7, cursor: R8, scratch: R5 };
//! const PROTO: Reg = R4;
//!
//! let out = label("out");
//! let code = code![
//!     packet::xdp(P, R1),
//!     packet::ethernet(P, PROTO, out),
//!     packet::vlan(P, PROTO, out),
//!     jne(PROTO, be16(ETH_P_IP), out),
//!     packet::ipv4(P, PROTO, Exits::both(out)),
//!     jne(PROTO, IPPROTO_UDP, out),
//!     packet::udp(P, out),
//!     load(R2, P.cursor.get(udp::dport)),
//!     bind(out),
//!     ret(XDP_PASS),
//! ];
//! assert!(Program::new(ProgType::XDP, "walk", code).is_ok());
//! ```

use crate::dsl::*;

/// The registers of a walk over a packet, four different ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The first byte of the frame.
    pub data: Reg,
    /// The byte behind the packet.
    pub end: Reg,
    /// The header that comes next.
    pub cursor: Reg,
    /// Lost in every fragment.
    pub scratch: Reg,
}

/// Where a walk goes when it cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exits {
    /// The packet ends too early, or its header is wrong.
    pub short: Label,
    /// A fragment other than the first: what follows is no header.
    pub fragment: Label,
}

impl Exits {
    /// One place for both.
    #[must_use]
    pub const fn both(label: Label) -> Exits {
        Exits {
            short: label,
            fragment: label,
        }
    }
}

/// Starts a walk in an XDP program: the frame's bounds from the context in `ctx`, the cursor on the
/// frame's first byte. `ctx` may be `data` or `cursor`. Clobbers data, end and cursor.
pub fn xdp(p: Packet, ctx: Reg) -> Code {
    code![
        load(p.end, ctx.get(xdp_md::data_end)),
        load(p.data, ctx.get(xdp_md::data)),
        mov(p.cursor, p.data),
    ]
}

/// As [`xdp`], in a program whose context is an `__sk_buff`.
pub fn skb(p: Packet, ctx: Reg) -> Code {
    code![
        load(p.end, ctx.get(__sk_buff::data_end)),
        load(p.data, ctx.get(__sk_buff::data)),
        mov(p.cursor, p.data),
    ]
}

/// Jumps to `short` unless `bytes` bytes lie between `data` and `end`; behind it the verifier lets
/// them be read. Reads data and end; clobbers scratch.
pub fn need(data: Reg, end: Reg, bytes: i32, scratch: Reg, short: Label) -> Code {
    code![
        mov(scratch, data),
        add(scratch, bytes),
        jgt(scratch, end, short),
    ]
}

/// Jumps to `short` unless as many bytes as the register `len` says lie between `data` and `end`.
/// The verifier must know a bound of `len` below 64 KB. It learns nothing about the bytes from
/// `data` on, but scratch is then a pointer behind them. Reads data, end and len; clobbers scratch.
pub fn need_len(data: Reg, end: Reg, len: Reg, scratch: Reg, short: Label) -> Code {
    code![
        mov(scratch, data),
        add(scratch, len),
        jgt(scratch, end, short),
    ]
}

/// [`need`] at the cursor. Clobbers scratch.
fn here(p: Packet, bytes: i32, short: Label) -> Code {
    need(p.cursor, p.end, bytes, p.scratch, short)
}

/// Walks over the Ethernet header; `proto` becomes its type in network order (compare it with
/// [`be16`]). Clobbers proto and scratch.
pub fn ethernet(p: Packet, proto: Reg, short: Label) -> Code {
    code![
        here(p, eth::SIZE, short),
        load(proto, p.cursor.get(eth::proto)),
        add(p.cursor, eth::SIZE),
    ]
}

/// Walks over up to two VLAN tags, if there are any; `proto` is the type before them, and becomes
/// the one behind. Clobbers scratch.
pub fn vlan(p: Packet, proto: Reg, short: Label) -> Code {
    let done = label("untagged");
    code![
        (0..2).map(|_| vlan_tag(p, proto, short, done)),
        bind(done),
    ]
}

/// Walks over one VLAN tag; jumps to `none` if there is none.
fn vlan_tag(p: Packet, proto: Reg, short: Label, none: Label) -> Code {
    let tagged = label("tagged");
    code![
        jeq(proto, be16(ETH_P_8021Q), tagged),
        jne(proto, be16(ETH_P_8021AD), none),
        bind(tagged),
        here(p, vlan::SIZE, short),
        load(proto, p.cursor.get(vlan::proto)),
        add(p.cursor, vlan::SIZE),
    ]
}

/// Walks over the IPv4 header and its options; `proto` becomes what follows. A header with a wrong
/// version or length counts as short. Clobbers proto and scratch.
pub fn ipv4(p: Packet, proto: Reg, exits: Exits) -> Code {
    code![
        here(p, ipv4::SIZE, exits.short),
        load(p.scratch, p.cursor.get(ipv4::frag_off)),
        and(p.scratch, be16(IP_OFFSET)),
        jne(p.scratch, 0, exits.fragment),
        load(proto, p.cursor.get(ipv4::proto)),
        ipv4_len(p.scratch, p.cursor, exits.short),
        add(p.cursor, p.scratch),
        jgt(p.cursor, p.end, exits.short),
    ]
}

/// The bytes of the IPv4 header at `ip`, options included: 20 to 60, which the verifier knows. Jumps
/// to `wrong` if the version is not 4 or the length below 20. The header's first byte must have been
/// checked. Reads ip; clobbers len.
pub fn ipv4_len(len: Reg, ip: Reg, wrong: Label) -> Code {
    // With the version taken off, anything above 15 had another version.
    code![
        load(len, ip.get(ipv4::ver_ihl)),
        xor(len, 4 << 4),
        jlt(len, ipv4::SIZE / 4, wrong),
        jgt(len, 15, wrong),
        lsh(len, 2),
    ]
}

/// Walks over the IPv6 header and up to `most` extension headers (hop-by-hop, routing, fragment and
/// destination options); `proto` becomes what follows. More extension headers than that, or a wrong
/// version, count as short. Six are enough for every order that RFC 8200 recommends. A routing header
/// with stations still to come is not walked over: `proto` is `IPPROTO_ROUTING` then, for the packet is not yet
/// where it goes.
/// Clobbers proto and scratch.
pub fn ipv6(p: Packet, proto: Reg, most: usize, exits: Exits) -> Code {
    ipv6_with(p, proto, most, exits, || code![])
}

/// As [`ipv6()`], with `seen` wherever the cursor stands on a fragment header, whose eight bytes are
/// checked, before it is known which fragment it is: to note the number of the packet and the place
/// in it. `seen` may clobber proto and scratch.
pub fn ipv6_with(
    p: Packet,
    proto: Reg,
    most: usize,
    exits: Exits,
    seen: impl Fn() -> Code,
) -> Code {
    let done = label("no_extension");
    code![
        here(p, ipv6::SIZE, exits.short),
        load(p.scratch, p.cursor.u8(0)),
        rsh(p.scratch, 4),
        jne(p.scratch, 6, exits.short),
        load(proto, p.cursor.get(ipv6::next_header)),
        add(p.cursor, ipv6::SIZE),
        (0..most).map(|_| extension(p, proto, exits, &seen, done)),
        EXTENSIONS.map(|kind| jeq(proto, kind, exits.short)),
        bind(done),
    ]
}

/// The headers that [`ipv6`] walks over.
const EXTENSIONS: [i32; 4] = [
    IPPROTO_HOPOPTS,
    IPPROTO_ROUTING,
    IPPROTO_DSTOPTS,
    IPPROTO_FRAGMENT,
];

/// Walks over one extension header; jumps to `none` if there is none.
fn extension(p: Packet, proto: Reg, exits: Exits, seen: impl Fn() -> Code, none: Label) -> Code {
    // No extension header is shorter.
    const LEAST: i32 = 8;
    let (route, sized, step) = (label("route"), label("sized"), label("step"));
    code![
        jeq(proto, IPPROTO_HOPOPTS, sized),
        jeq(proto, IPPROTO_ROUTING, route),
        jeq(proto, IPPROTO_DSTOPTS, sized),
        jne(proto, IPPROTO_FRAGMENT, none),
        here(p, ipv6_frag::SIZE, exits.short),
        seen(),
        load(p.scratch, p.cursor.get(ipv6_frag::frag_off)),
        and(p.scratch, be16(IP6_OFFSET)),
        jne(p.scratch, 0, exits.fragment),
        // This header has no length: 0, but computed so that the verifier does not know it. What
        // follows then looks the same to it on both ways, and is followed once instead of twice
        // for each header: 2^6 times less for six. Linux 6.1 knows no bounds of such a result.
        load(p.scratch, p.cursor.get(ipv6_frag::reserved)),
        load(proto, p.cursor.get(ipv6_frag::reserved)),
        xor(p.scratch, proto),
        and(p.scratch, 0xff),
        ja(step),
        bind(route),
        here(p, LEAST, exits.short),
        load(p.scratch, p.cursor.get(ipv6_route::segments_left)),
        jne(p.scratch, 0, none),
        bind(sized),
        here(p, LEAST, exits.short),
        load(p.scratch, p.cursor.get(ipv6_ext::len)),
        bind(step),
        load(proto, p.cursor.get(ipv6_ext::next_header)),
        add(p.scratch, 1),
        lsh(p.scratch, 3),
        add(p.cursor, p.scratch),
        jgt(p.cursor, p.end, exits.short),
    ]
}

/// Jumps to `short` unless the cursor stands on a whole TCP header without its options. The cursor
/// stays. Clobbers scratch.
pub fn tcp(p: Packet, short: Label) -> Code {
    code![here(p, tcp::SIZE, short)]
}

/// Makes `payload` point behind the TCP header at the cursor, options included: it is at most the
/// packet's end. Jumps to `short` if the header is not whole or its length below 20. `payload` may
/// be the cursor. Clobbers payload and scratch.
pub fn tcp_payload(p: Packet, payload: Reg, short: Label) -> Code {
    code![
        here(p, tcp::SIZE, short),
        load(p.scratch, p.cursor.get(tcp::data_off)),
        rsh(p.scratch, 4),
        jlt(p.scratch, tcp::SIZE / 4, short),
        lsh(p.scratch, 2),
        (payload != p.cursor).then(|| mov(payload, p.cursor)),
        add(payload, p.scratch),
        jgt(payload, p.end, short),
    ]
}

/// Jumps to `short` unless the cursor stands on a whole UDP header; the payload is behind it, at
/// `cursor.at(udp::SIZE)`. The cursor stays. Clobbers scratch.
pub fn udp(p: Packet, short: Label) -> Code {
    code![here(p, udp::SIZE, short)]
}

/// Jumps to `short` unless the cursor stands on a whole ICMP header. The cursor stays. Clobbers
/// scratch.
pub fn icmp(p: Packet, short: Label) -> Code {
    code![here(p, icmp::SIZE, short)]
}

/// Jumps to `short` unless the cursor stands on a whole ICMPv6 header. The cursor stays. Clobbers
/// scratch.
pub fn icmpv6(p: Packet, short: Label) -> Code {
    code![here(p, icmpv6::SIZE, short)]
}
