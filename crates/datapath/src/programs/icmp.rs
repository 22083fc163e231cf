//! ICMP errors about packets of flows.
//!
//! An error quotes the packet that it is about as it was where it failed. Read the other way round, that is a
//! packet of the flow's other direction, and the error goes where such a packet would: what becomes of its
//! addresses and ports becomes of those in the quotation, too, with sender and receiver swapped.

use super::check::LESS_TTL;
use super::lane::{Lane, copy};
use super::parse::END;
use super::tuple::swap_ports;
use super::{CTX, FLOW, IP, L4};
use crate::config::{Family, Protocol};
use crate::reason::Reason;
use crate::shape::Path;
use bpfsmith_asm::dsl::*;
use bpfsmith_asm::kit::checksum::fold;
use bpfsmith_asm::kit::packet::{ipv4_len, need};

/// Enough of an error: Ethernet, IPv6, ICMPv6, and of the quotation IPv6, a fragment header and TCP.
const ERROR: i32 = eth::SIZE + ipv6::SIZE + icmpv6::SIZE + ipv6::SIZE + ipv6_frag::SIZE + tcp::SIZE;

/// What the addresses change.
const ADDRESSES: Reg = R0;
/// What the addresses of the outer header change.
const OUTER: Reg = R5;
/// What is changed in the quotation.
const QUOTED: Reg = R4;

impl Lane<'_> {
    /// Bytes of an IP header without options.
    pub(super) const fn ip_header(&self) -> i32 {
        match self.path.family {
            Family::V4 => ipv4::SIZE,
            Family::V6 => ipv6::SIZE,
        }
    }

    /// Where the quoted packet begins.
    const fn quote(&self) -> i32 {
        self.ip_header() + icmp::SIZE
    }

    /// An ICMP packet, to its end. The IP header is at IP, the message at L4.
    pub(super) fn error(&self) -> Code {
        let proto = slot::<u32>("protocol");
        let exits = &self.context.exits;
        code![
            self.is_error(),
            self.join_error(),
            self.quoted(proto),
            load(R4, proto.u32(0)),
            self.find_any(R4, exits.pass(Reason::NotOurs)),
            // An error is no sign of life: the flow is not touched.
            jiffies64(),
            self.tick(R0),
            self.fresh_next_hop(),
            self.goes_somewhere(),
            self.carry(proto),
            self.shift_quoted(),
            exits.count(Reason::IcmpError),
            self.leave(),
        ]
    }

    /// Goes on if it is an error, directly behind an IP header without options. Clobbers R4, R5.
    fn is_error(&self) -> Code {
        let exits = &self.context.exits;
        let other = exits.pass(Reason::OtherTransport);
        let error = label("error");
        let kind = match self.path.family {
            Family::V4 => code![
                [
                    ICMP_DEST_UNREACH,
                    ICMP_TIME_EXCEEDED,
                    ICMP_PARAMETERPROB
                ]
                .map(|kind| jeq(R4, kind, error)),
                ja(other),
                bind(error),
            ],
            Family::V6 => code![
                jlt(R4, ICMPV6_DEST_UNREACH, other),
                jgt(R4, ICMPV6_PARAMPROB, other),
            ],
        };
        code![
            need(L4, END, icmp::SIZE, R5, exits.pass(Reason::Malformed)),
            load(R4, L4.get(icmp::kind)),
            kind,
            mov(R5, L4),
            sub(R5, IP),
            jne(R5, self.ip_header(), exits.pass(Reason::OddError)),
        ]
    }

    /// The kernel may have only the message in one piece, and not what it quotes. Clobbers R0 to R5.
    fn join_error(&self) -> Code {
        if self.is_xdp() {
            return code![];
        }
        let hook = self.context.hook;
        code![
            load(R2, CTX.get(__sk_buff::len)),
            R2.gt(ERROR).then(mov(R2, ERROR)),
            skb_pull_data(CTX, R2),
            load(END, CTX.get(hook.data_end())),
            load(IP, CTX.get(hook.data())),
            add(IP, eth::SIZE),
        ]
    }

    /// The key becomes that of an answer to the quoted packet, `proto` its protocol, and L4 its transport
    /// header, of which eight bytes are there. Clobbers R0 to R5.
    fn quoted(&self, proto: Slot) -> Code {
        let exits = &self.context.exits;
        let (odd, short) = (exits.pass(Reason::OddError), exits.pass(Reason::Malformed));
        let address = self.address();
        let (inner, outer) = (self.addresses().at(self.quote()), self.addresses());
        code![
            need(IP, END, self.quote() + self.ip_header(), R4, short),
            mov(L4, IP),
            add(L4, self.quote()),
            match self.path.family {
                Family::V4 => quoted4(odd),
                Family::V6 => quoted6(odd, short),
            },
            store(proto.u32(0), R4),
            need(L4, END, 8, R5, short),
            copy(self.key.at(0), inner.at(address), address, R1),
            copy(self.key.at(address), inner, address, R1),
            swap_ports(self.key.at(2 * address), L4.at(0)),
            // It is told to who sent the packet.
            (0..address / 4).map(|n| [
                load(R1, outer.u32(address + 4 * n)),
                load(R2, self.key.u32(address + 4 * n)),
                jne(R1, R2, odd),
            ]),
        ]
    }

    /// The error becomes one about the packet as its sender knows it. `proto` is the quoted protocol.
    /// Leaves before anything is changed if it cannot be sent. Clobbers R0 to R5.
    fn carry(&self, proto: Slot) -> Code {
        let (exits, fields) = (&self.context.exits, self.fields);
        let address = self.address();
        let (inner, outer) = (self.addresses().at(self.quote()), self.addresses());
        let ttl = match self.path.family {
            Family::V4 => IP.get(ipv4::ttl),
            Family::V6 => IP.get(ipv6::hop_limit),
        };
        code![
            self.length(R2),
            load(R1, FLOW.get(fields.mtu)),
            // There are no errors about errors.
            jgt(R2, R1, exits.drop(Reason::TooBig)),
            load(R1, ttl),
            jle(R1, 1, exits.drop(Reason::Expired)),
            sub(R1, 1),
            store(ttl, R1),
            load(END, CTX.get(self.context.hook.data_end())),
            load(ADDRESSES, FLOW.get(fields.ip_sum)),
            add(ADDRESSES, be16(!LESS_TTL)),
            fold(ADDRESSES, R1, 1),
            self.outer_source(),
            self.is_v4().then(|| code![
                adjust(IP.get(ipv4::check), OUTER, Some(LESS_TTL)),
                adjust(IP.to(ipv4::check).at(self.quote()).u16(0), ADDRESSES, None),
            ]),
            self.quoted_check(proto),
            (!self.is_v4()).then(|| add(QUOTED, OUTER)),
            adjust(IP.u16(self.ip_header() + 2), QUOTED, None),
            copy(inner, FLOW.to(fields.daddr), address, R1),
            copy(inner.at(address), FLOW.to(fields.saddr), address, R1),
            swap_ports(L4.at(0), FLOW.to(fields.ports)),
            copy(outer.at(address), FLOW.to(fields.daddr), address, R1),
            self.address_frame(),
            (!self.is_v4() && !self.is_xdp()).then(|| self.less_hops()),
        ]
    }

    /// An error that the flow's other end sends comes from where its packets come from; a router's keeps
    /// the router's address. OUTER becomes what the outer addresses change. Clobbers R1, R2.
    fn outer_source(&self) -> Code {
        let fields = self.fields;
        let address = self.address();
        let outer = self.addresses();
        let (router, done) = (label("router"), label("outer"));
        let words = address / 4;
        code![
            (0..words).map(|n| [
                load(R1, outer.u32(4 * n)),
                load(R2, self.key.u32(4 * n)),
                jne(R1, R2, router),
            ]),
            copy(outer, FLOW.to(fields.saddr), address, R1),
            mov(OUTER, ADDRESSES),
            ja(done),
            bind(router),
            mov(OUTER, 0),
            (0..words).map(|n| code![
                load(R1, FLOW.to(fields.daddr).u32(4 * n)),
                add(OUTER, R1),
                load(R1, self.key.u32(address + 4 * n)),
                xor(W1, -1),
                add(OUTER, R1),
            ]),
            fold(OUTER, R1, 3),
            bind(done),
        ]
    }

    /// Corrects the transport's checksum if that was quoted. QUOTED becomes what is changed in the
    /// quotation. Clobbers R1, R2.
    fn quoted_check(&self, proto: Slot) -> Code {
        let fields = self.fields;
        let (udp, absent, done) = (label("udp"), label("absent"), label("done"));
        let has = |protocol| {
            let path = Path::new(self.path.family, protocol);
            self.context.shape.paths.contains(&path)
        };
        code![
            load(QUOTED, FLOW.get(fields.l4_sum)),
            has(Protocol::Udp).then(|| code![
                has(Protocol::Tcp).then(|| code![
                    load(R1, proto.u32(0)),
                    jne(R1, IPPROTO_UDP, udp),
                ]),
                load(R1, L4.get(udp::check)),
                jeq(R1, 0, absent),
                sum(QUOTED, R2),
                R1.eq(0).then(mov(R1, 0xffff)),
                store(L4.get(udp::check), R1),
                has(Protocol::Tcp).then(|| code![ja(done), bind(udp)]),
            ]),
            has(Protocol::Tcp).then(|| code![
                need(L4, END, i32::from(tcp::check.offset) + 2, R1, absent),
                // Behind the packet, there is only what fills the frame.
                sub(R1, IP),
                self.stated_length(R2),
                jgt(R1, R2, absent),
                load(R1, L4.get(tcp::check)),
                sum(QUOTED, R2),
                store(L4.get(tcp::check), R1),
            ]),
            bind(done),
            // The checksum makes up for what ports and addresses change.
            mov(QUOTED, 0),
            bind(absent),
            // But there is one of the addresses alone, too, in the header of IPv4.
            self.is_v4().then(|| [
                mov(R1, ADDRESSES),
                xor(R1, 0xffff),
                add(QUOTED, R1),
            ]),
        ]
    }
}

/// The quotation at L4 is a packet of IPv4, not a later fragment: L4 becomes its transport header and R4 its
/// protocol. Clobbers R5.
fn quoted4(odd: Label) -> Code {
    code![
        ipv4_len(R5, L4, odd),
        load(R4, L4.get(ipv4::frag_off)),
        jset(R4, be16(IP_OFFSET), odd),
        load(R4, L4.get(ipv4::proto)),
        add(L4, R5),
    ]
}

/// The same of IPv6; there may be a fragment header in between.
fn quoted6(odd: Label, short: Label) -> Code {
    code![
        load(R4, L4.u8(0)),
        rsh(R4, 4),
        jne(R4, 6, odd),
        load(R4, L4.get(ipv6::next_header)),
        add(L4, ipv6::SIZE),
        R4.eq(IPPROTO_FRAGMENT).then(code![
            need(L4, END, ipv6_frag::SIZE, R5, short),
            load(R5, L4.get(ipv6_frag::frag_off)),
            jset(R5, be16(IP6_OFFSET), odd),
            load(R4, L4.get(ipv6_frag::next_header)),
            add(L4, ipv6_frag::SIZE),
        ]),
    ]
}

/// Corrects a checksum for what `by` says, and for a number. Clobbers R1, R2.
fn adjust(check: Mem, by: Reg, more: Option<u16>) -> Code {
    code![
        load(R1, check),
        xor(R1, 0xffff),
        add(R1, by),
        more.map(|more| add(R1, be16(more))),
        fold(R1, R2, 2),
        xor(R1, 0xffff),
        store(check, R1),
    ]
}

/// The checksum in R1 is corrected by what `by` says. Clobbers scratch.
fn sum(by: Reg, scratch: Reg) -> Code {
    code![
        xor(R1, 0xffff),
        add(R1, by),
        fold(R1, scratch, 2),
        xor(R1, 0xffff),
    ]
}
