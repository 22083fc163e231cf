//! ICMP errors of the proxy's own: what a router would say about a packet that it cannot send on.
//!
//! They come from where the packet went to, as if its receiver had seen it and said so: the proxy needs no
//! address for that, and the sender must believe them, for they quote its own packet. Packets of IPv4 that may
//! be fragmented are not, but their senders are told the same: they send shorter ones from then on.

use super::lane::{Lane, copy};
use super::parse::END;
use super::{CTX, Context, FLOW, Hook, IP, L4};
use crate::config::{Family, Protocol};
use crate::reason::Reason;
use bpfsmith_asm::dsl::*;
use bpfsmith_asm::kit::checksum::{fold, ipv4_header};
use bpfsmith_asm::kit::packet::need;
use bpfsmith_asm::kit::rewrite::swap_macs;
use bpfsmith_uapi::record;

record! {
    /// What is to be told.
    #[derive(Clone, Copy, Debug, Default)]
    struct Note {
        /// The first word of the ICMP header, without its checksum.
        kind: u32,
        /// The second one.
        rest: u32,
        /// Bytes of the packet, from its IP header on; of the error, once there is one.
        length: u32,
        /// Where in the frame the checksum of the transport is.
        check: u32,
        /// That, before and after a change.
        sums: u32,
        /// How the quotation ends for the checksum: behind its IP header, because a device will make the
        /// rest nothing, or not.
        partial: u32,
    }
}

/// How senders are told, for a whole program.
#[derive(Debug)]
pub(super) struct Tell {
    v4: Label,
    v6: Label,
    note: Slot,
}

/// The time to live of what a router sends.
const TTL: i32 = 64;

/// Bytes of the packet in front of its IP header, in XDP.
const FRONT: Reg = R8;
/// The sum of what is quoted.
const SUM: Reg = R9;

impl Tell {
    pub(super) fn new() -> Tell {
        Tell {
            v4: label("tell4"),
            v6: label("tell6"),
            note: slot::<Note>("note"),
        }
    }

    /// All that jumps lead to.
    pub(super) fn code(&self, context: &Context<'_>) -> Code {
        let has = |family| context.shape.has(family);
        code![
            has(Family::V4).then(|| code![
                bind(self.v4),
                Teller {
                    context,
                    family: Family::V4
                }
                .tell(),
            ]),
            has(Family::V6).then(|| code![
                bind(self.v6),
                Teller {
                    context,
                    family: Family::V6
                }
                .tell(),
            ]),
        ]
    }
}

impl Lane<'_> {
    /// Where packets of this lane go that their sender is told about. Nothing of them is changed yet.
    pub(super) fn refuse(&self) -> Code {
        let tell = &self.context.tell;
        let note = tell.note;
        let (kinds, to) = match self.path.family {
            Family::V4 => (
                [
                    (ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED),
                    (ICMP_TIME_EXCEEDED, 0),
                ],
                tell.v4,
            ),
            Family::V6 => (
                [
                    (ICMPV6_PKT_TOOBIG, 0),
                    (ICMPV6_TIME_EXCEED, 0),
                ],
                tell.v6,
            ),
        };
        let [too_big, expired] = kinds;
        let told = label("told");
        let what = |(kind, code): (i32, i32)| {
            [
                store(note.u8(0), kind),
                store(note.u8(1), code),
                store(note.u16(2), 0),
                store(note.get(Note::rest), 0),
            ]
        };
        let check = match self.path.protocol {
            Protocol::Tcp => tcp::check,
            Protocol::Udp => udp::check,
        };
        code![
            bind(self.too_big),
            self.context.exits.count(Reason::TooBig),
            what(too_big),
            load(R1, FLOW.get(self.fields.mtu)),
            to_be16(R1),
            store(note.to(Note::rest).u16(2), R1),
            ja(told),
            bind(self.expired),
            self.context.exits.count(Reason::Expired),
            what(expired),
            bind(told),
            self.stated_length(R1),
            store(note.get(Note::length), R1),
            (!self.is_xdp()).then(|| code![
                mov(R1, L4),
                sub(R1, IP),
                add(R1, eth::SIZE + i32::from(check.offset)),
                store(note.get(Note::check), R1),
                load(R1, self.check()),
                store(note.to(Note::sums).u16(0), R1),
            ]),
            ja(to),
        ]
    }
}

/// The fragments for errors of one family.
#[derive(Clone, Copy)]
struct Teller<'a> {
    context: &'a Context<'a>,
    family: Family,
}

impl Teller<'_> {
    /// Makes an error of the packet whose IP header is at IP, and sends it back.
    fn tell(self) -> Code {
        let context = self.context;
        let (headers, untold) = (label("headers"), context.exits.drop(Reason::Untold));
        let is_xdp = context.hook == Hook::Xdp;
        code![
            is_xdp.then(|| self.front()),
            (!is_xdp).then(|| self.is_partial(untold)),
            self.sizes().map(|size| {
                let smaller = label("smaller");
                code![
                    load(R1, context.tell.note.get(Note::length)),
                    jlt(R1, size, smaller),
                    self.cut(size, untold),
                    ja(headers),
                    bind(smaller),
                ]
            }),
            ja(untold),
            bind(headers),
            self.headers(),
            (!is_xdp).then(|| code![
                csum_diff(Null, 0, IP.at(0), self.added(), 0),
                mov(R2, R0),
                csum_update(CTX, R2),
            ]),
            redirect(CTX.get(context.hook.device()), 0),
            exit(),
        ]
    }

    /// How much of a packet is quoted: the first of these that it has. The longest holds an IP header with
    /// all the options that there can be, and eight bytes; the others an IP header without any, and the
    /// shortest packet of TCP, or eight bytes.
    const fn sizes(self) -> [i32; 3] {
        match self.family {
            Family::V4 => [68, 40, 28],
            Family::V6 => [128, 60, 48],
        }
    }

    /// Bytes of an IP header without options.
    const fn ip_header(self) -> i32 {
        match self.family {
            Family::V4 => ipv4::SIZE,
            Family::V6 => ipv6::SIZE,
        }
    }

    /// Bytes in front of the quotation.
    const fn added(self) -> i32 {
        self.ip_header() + icmp::SIZE
    }

    /// XDP: FRONT becomes what is in front of the IP header.
    fn front(self) -> Code {
        match self.context.has_tags() {
            true => code![
                load(R1, self.context.front.u64(0)),
                mov(FRONT, IP),
                sub(FRONT, R1),
                and(FRONT, 31),
            ],
            false => code![mov(FRONT, eth::SIZE)],
        }
    }

    /// TCX: finds out whether the transport's checksum is left to the device, which then makes the sum of
    /// everything from the transport's header on nothing. The kernel does not say so, but leaves such
    /// checksums alone when others change. Clobbers R0 to R5, R8 and IP.
    fn is_partial(self, untold: Label) -> Code {
        let note = self.context.tell.note;
        let (before, after) = (note.to(Note::sums), note.to(Note::sums).at(2));
        let (whole, known) = (label("whole"), label("known"));
        code![
            load(R8, note.get(Note::check)),
            l4_csum_replace(CTX, R8, 0, 1, 0),
            jne(R0, 0, untold),
            skb_load_bytes(CTX, R8, after, 2),
            jne(R0, 0, untold),
            load(R1, before.u16(0)),
            load(R2, after.u16(0)),
            jne(R1, R2, whole),
            // Where it begins is known for headers without options.
            R8.ne(eth::SIZE + self.ip_header() + i32::from(udp::check.offset))
                .then(jne(
                    R8,
                    eth::SIZE + self.ip_header() + i32::from(tcp::check.offset),
                    untold
                )),
            store(note.get(Note::partial), 1),
            ja(known),
            bind(whole),
            store(note.get(Note::partial), 0),
            skb_store_bytes(CTX, R8, before, 2, 0),
            jne(R0, 0, untold),
            bind(known),
        ]
    }

    /// The packet becomes so many bytes with room for other headers in front of them, its Ethernet addresses
    /// change places, IP is where the new IP header goes, and SUM the sum of the quotation. Clobbers R0 to
    /// R5.
    fn cut(self, size: i32, untold: Label) -> Code {
        let context = self.context;
        let note = context.tell.note;
        let is_xdp = context.hook == Hook::Xdp;
        let summed = label("summed");
        code![
            is_xdp.then(|| self.resize_frame(size, untold)),
            (!is_xdp).then(|| self.resize_skb(size, untold)),
            need(IP, END, self.added() + size, R4, untold),
            (!is_xdp).then(|| code![
                load(R1, note.get(Note::partial)),
                R1.ne(0).then(code![
                    csum_diff(Null, 0, IP.at(self.added()), self.ip_header(), 0),
                    ja(summed),
                ]),
            ]),
            csum_diff(Null, 0, IP.at(self.added()), size, 0),
            bind(summed),
            mov(SUM.low(), W0),
            store(note.get(Note::length), self.added() + size),
        ]
    }

    fn resize_frame(self, size: i32, untold: Label) -> Code {
        let fits = label("fits");
        let has_tags = self.context.has_tags();
        // With tags, it is not known where the old frame ends: what is too much is overwritten.
        let (rest, most) = match has_tags {
            true => (10, eth::SIZE + 2 * vlan::SIZE),
            false => (2, eth::SIZE),
        };
        let old = IP.at(self.added());
        code![
            xdp_get_buff_len(CTX),
            mov(R2, FRONT),
            add(R2, size),
            sub(R2, R0),
            jsgt(R2, 0, untold),
            jeq(R2, 0, fits),
            xdp_adjust_tail(CTX, R2),
            jne(R0, 0, untold),
            bind(fits),
            xdp_adjust_head(CTX, -self.added()),
            jne(R0, 0, untold),
            load(END, CTX.get(xdp_md::data_end)),
            load(IP, CTX.get(xdp_md::data)),
            need(IP, END, most + self.added(), R4, untold),
            copy(IP.at(0), old.at(6), 6, R1),
            copy(IP.at(6), old, 6, R1),
            copy(IP.at(12), old.at(12), rest, R1),
            add(IP, FRONT),
        ]
    }

    fn resize_skb(self, size: i32, untold: Label) -> Code {
        code![
            skb_change_tail(CTX, eth::SIZE + size, 0),
            jne(R0, 0, untold),
            skb_adjust_room(CTX, self.added(), AdjRoomMode::MAC.0, 0),
            jne(R0, 0, untold),
            // What is new may not be in one piece with the rest.
            skb_pull_data(CTX, eth::SIZE + self.added() + size),
            load(END, CTX.get(__sk_buff::data_end)),
            load(IP, CTX.get(__sk_buff::data)),
            need(IP, END, eth::SIZE, R4, untold),
            swap_macs(IP, [R1, R2]),
            add(IP, eth::SIZE),
        ]
    }

    /// Writes the headers in front of the quotation. Clobbers R1, R2 and SUM.
    fn headers(self) -> Code {
        let note = self.context.tell.note;
        let message = match self.family {
            Family::V4 => self.header4(),
            Family::V6 => self.header6(),
        };
        let at = self.ip_header();
        code![
            message,
            load(R1, note.get(Note::kind)),
            store(IP.u32(at), R1),
            add(SUM, R1),
            load(R1, note.get(Note::rest)),
            store(IP.u32(at + 4), R1),
            add(SUM, R1),
            fold(SUM, R1, 3),
            xor(SUM, 0xffff),
            store(IP.u16(at + 2), SUM),
        ]
    }

    fn header4(self) -> Code {
        let quoted = IP.at(self.added());
        code![
            store(IP.u32(0), be32(0x4500_0000)),
            load(R1, self.context.tell.note.get(Note::length)),
            to_be16(R1),
            store(IP.get(ipv4::tot_len), R1),
            store(IP.get(ipv4::id), 0),
            store(IP.get(ipv4::frag_off), 0),
            store(IP.get(ipv4::ttl), TTL),
            store(IP.get(ipv4::proto), IPPROTO_ICMP),
            load(R1, quoted.get(ipv4::daddr)),
            store(IP.get(ipv4::saddr), R1),
            load(R1, quoted.get(ipv4::saddr)),
            store(IP.get(ipv4::daddr), R1),
            ipv4_header(IP, R1, R2),
        ]
    }

    fn header6(self) -> Code {
        let quoted = IP.at(self.added());
        code![
            store(IP.u32(0), be32(0x6000_0000)),
            load(R1, self.context.tell.note.get(Note::length)),
            sub(R1, ipv6::SIZE),
            to_be16(R1),
            store(IP.get(ipv6::payload_len), R1),
            add(SUM, R1),
            add(SUM, be16(58)),
            store(IP.get(ipv6::next_header), IPPROTO_ICMPV6),
            store(IP.get(ipv6::hop_limit), TTL),
            copy(IP.to(ipv6::saddr), quoted.to(ipv6::daddr), 16, R1),
            copy(IP.to(ipv6::daddr), quoted.to(ipv6::saddr), 16, R1),
            (0..8).map(|n| [
                load(R1, IP.to(ipv6::saddr).u32(4 * n)),
                add(SUM, R1),
            ]),
        ]
    }
}
