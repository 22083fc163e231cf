//! From a frame to the flow that it belongs to.

use super::fragment;
use super::lane::Lane;
use super::{CTX, Context, Hook, IP, L4};
use crate::config::{Family, Protocol};
use crate::reason::Reason;
use crate::shape::Path;
use bpfsmith_asm::dsl::*;
use bpfsmith_asm::kit::packet::{self, Packet, need};

/// The byte behind the packet, until the first call.
pub(super) const END: Reg = R3;

/// How many extension headers of IPv6 are walked over.
const EXTENSIONS: usize = 4;

/// Enough of a packet for Ethernet, IPv6, and TCP with all its options.
const HEADERS: i32 = eth::SIZE + ipv6::SIZE + 60;

/// Everything: each packet ends in here.
pub(super) fn packet(context: &Context<'_>) -> Code {
    let exits = &context.exits;
    let (v4, v6) = (label("v4"), label("v6"));
    let has_tags = context.has_tags();
    let has = |family| context.shape.has(family);
    code![
        bounds(context),
        need(
            IP,
            END,
            eth::SIZE + ipv4::SIZE,
            R4,
            exits.pass(Reason::Malformed)
        ),
        load(R5, IP.get(eth::proto)),
        has_tags.then(|| tags(context)),
        (!has_tags).then(|| add(IP, eth::SIZE)),
        has(Family::V4).then(|| jeq(R5, be16(ETH_P_IP), v4)),
        has(Family::V6).then(|| jeq(R5, be16(ETH_P_IPV6), v6)),
        ja(exits.pass(Reason::OtherProtocol)),
        has(Family::V4).then(|| code![bind(v4), ipv4(context)]),
        has(Family::V6).then(|| code![bind(v6), ipv6(context)]),
    ]
}

/// Goes on behind up to two VLAN tags: IP becomes the IP header, or what there is in its place, and R5
/// the type of the frame without tags. Clobbers R0 to R4, but not END.
fn tags(context: &Context<'_>) -> Code {
    const LEN: Reg = R0;
    let malformed = context.exits.pass(Reason::Malformed);
    let walk = Packet {
        data: IP,
        end: END,
        cursor: L4,
        scratch: R4,
    };
    code![
        store(context.front.u64(0), IP),
        mov(L4, IP),
        add(L4, eth::SIZE),
        packet::vlan(walk, R5, malformed),
        // The length, but so that the verifier does not know it: what follows is then the same to it
        // with and without tags, and is followed once.
        mov(LEN, L4),
        sub(LEN, IP),
        and(LEN, 31),
        add(IP, LEN),
        need(IP, END, ipv4::SIZE, R4, malformed),
    ]
}

/// IP becomes the first byte of the frame and END the one behind it.
fn bounds(context: &Context<'_>) -> Code {
    let hook = context.hook;
    let read = move || {
        [
            load(END, CTX.get(hook.data_end())),
            load(IP, CTX.get(hook.data())),
        ]
    };
    let (torn, whole) = (label("torn"), label("whole"));
    // The kernel may have only the first bytes of a packet in one piece.
    let join = (hook != Hook::Xdp).then(|| {
        code![
            need(IP, END, HEADERS, R4, torn),
            ja(whole),
            bind(torn),
            load(R2, CTX.get(__sk_buff::len)),
            mov(R4, END),
            sub(R4, IP),
            // It is short, and all there.
            jge(R4, R2, whole),
            R2.gt(HEADERS).then(mov(R2, HEADERS)),
            skb_pull_data(CTX, R2),
            read(),
            bind(whole),
        ]
    });
    code![read(), join]
}

fn ipv4(context: &Context<'_>) -> Code {
    let exits = &context.exits;
    let (options, ready, whole) = (label("options"), label("ready"), label("whole"));
    let follows = fragment::are_followed(context);
    let fragment = match follows {
        true => label("fragment"),
        false => exits.pass(Reason::Fragment),
    };
    code![
        load(R4, IP.get(ipv4::ver_ihl)),
        mov(L4, IP),
        add(L4, ipv4::SIZE),
        jne(R4, 0x45, options),
        bind(ready),
        load(R4, IP.get(ipv4::frag_off)),
        jset(R4, be16(IP_MF | IP_OFFSET), fragment),
        load(R4, IP.get(ipv4::proto)),
        bind(whole),
        transport(context, Family::V4, R4),
        follows.then(|| code![
            bind(fragment),
            fragment::ipv4(context, whole)
        ]),
        bind(options),
        packet::ipv4_len(R5, IP, exits.pass(Reason::Malformed)),
        mov(L4, IP),
        add(L4, R5),
        ja(ready),
    ]
}

fn ipv6(context: &Context<'_>) -> Code {
    let exits = &context.exits;
    let malformed = exits.pass(Reason::Malformed);
    let (ready, whole) = (label("ready"), label("whole"));
    let follows = fragment::are_followed(context);
    let (first, later) = match follows {
        true => (label("first"), label("later")),
        false => (exits.pass(Reason::Fragment), exits.pass(Reason::Fragment)),
    };
    let walk = Packet {
        data: IP,
        end: END,
        cursor: L4,
        scratch: R5,
    };
    let ends = packet::Exits {
        short: malformed,
        fragment: later,
    };
    // Which fragment it is, as in its header.
    let place = slot::<u64>("place");
    let note = || {
        code![
            load(R5, L4.get(ipv6_frag::frag_off)),
            store(place.u32(0), R5),
            load(R5, L4.get(ipv6_frag::id)),
            store(place.u32(4), R5),
        ]
    };
    code![
        need(IP, END, ipv6::SIZE, R4, malformed),
        load(R4, IP.u8(0)),
        rsh(R4, 4),
        jne(R4, 6, malformed),
        load(R4, IP.get(ipv6::next_header)),
        mov(L4, IP),
        add(L4, ipv6::SIZE),
        jeq(R4, IPPROTO_TCP, ready),
        jeq(R4, IPPROTO_UDP, ready),
        mov(L4, IP),
        // None, but so that the verifier does not know it: with and without a fragment header, what
        // follows is then the same to it.
        load(R5, IP.get(ipv6::hop_limit)),
        load(R4, IP.get(ipv6::hop_limit)),
        xor(R4, R5),
        store(place.u32(0), R4),
        store(place.u32(4), R4),
        packet::ipv6_with(walk, R4, EXTENSIONS, ends, note),
        load(R5, place.u32(0)),
        jset(R5, be16(IP6_MF), first),
        bind(ready),
        bind(whole),
        transport(context, Family::V6, R4),
        follows.then(|| code![
            bind(first),
            fragment::ipv6_first(context, place, whole),
            bind(later),
            fragment::ipv6_later(context, place),
        ]),
    ]
}

/// On to the lane of the protocol in `proto`.
fn transport(context: &Context<'_>, family: Family, proto: Reg) -> Code {
    let (tcp, udp) = (label("tcp"), label("udp"));
    let (tcp_path, udp_path) = (
        Path::new(family, Protocol::Tcp),
        Path::new(family, Protocol::Udp),
    );
    let has = |path| context.shape.paths.contains(&path);
    let (icmp, errors) = (label("icmp"), context.hook != Hook::TcxEgress);
    let icmp_number = match family {
        Family::V4 => IPPROTO_ICMP,
        Family::V6 => IPPROTO_ICMPV6,
    };
    code![
        has(tcp_path).then(|| jeq(proto, IPPROTO_TCP, tcp)),
        has(udp_path).then(|| jeq(proto, IPPROTO_UDP, udp)),
        errors.then(|| jeq(proto, icmp_number, icmp)),
        ja(context.exits.pass(Reason::OtherTransport)),
        errors.then(|| code![
            bind(icmp),
            Lane::any(context, family).error()
        ]),
        has(tcp_path).then(|| code![
            bind(tcp),
            lane(&Lane::new(context, tcp_path))
        ]),
        has(udp_path).then(|| code![
            bind(udp),
            lane(&Lane::new(context, udp_path))
        ]),
    ]
}

/// A packet of one family and protocol, to its end.
fn lane(lane: &Lane<'_>) -> Code {
    let malformed = lane.context.exits.pass(Reason::Malformed);
    let begin = code![
        need(L4, END, lane.header(), R4, malformed),
        lane.read_key(R1),
    ];
    if lane.context.hook == Hook::TcxEgress {
        return code![begin, lane.sent()];
    }
    code![
        begin,
        lane.look(),
        lane.established(),
        lane.special(),
        lane.look_elsewhere(),
        lane.forget(),
        bind(lane.miss),
        lane.open(),
        lane.by_cookie(),
        lane.declines(),
    ]
}
