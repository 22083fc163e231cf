//! A packet whose flow is known: rewritten and sent.

use super::lane::{Lane, copy};
use super::{CTX, FLOW, IP, L4, Usual};
use crate::layout::{Word, way};
use crate::reason::Reason;
use bpfsmith_asm::dsl::*;

/// TCP flags that open or close a connection.
pub(super) const TURNING: i32 = TCP_FIN | TCP_SYN | TCP_RST;

/// What of a packet there is to rewrite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it, or the first fragment.
    Whole,
    /// A fragment without ports.
    Later,
}

impl Lane<'_> {
    /// Sends a packet of the flow at FLOW on, if nothing is special about either.
    pub(super) fn established(&self) -> Code {
        let usual = self.context.usual;
        let word = usual.way() << Word::WAY;
        code![
            self.is_tcp().then(|| [
                load(R1, L4.get(tcp::flags)),
                jset(R1, TURNING, self.turning),
            ]),
            bind(self.plain),
            jiffies64(),
            mov(R2, R0),
            self.tick(R0),
            (word != 0).then(|| or(R0, word)),
            load(R1, FLOW.get(self.fields.word)),
            // When it was seen before may be what is special.
            jne(R1, R0, self.special),
            store(FLOW.get(self.fields.seen), R2),
            self.rewrite(Part::Whole),
            self.context.exits.count(Reason::Forwarded),
            match usual {
                Usual::Device => code![redirect(
                    FLOW.get(self.fields.ifindex),
                    0
                )],
                Usual::Peer => code![redirect_peer(
                    FLOW.get(self.fields.ifindex),
                    0
                )],
                Usual::Back => code![mov(R0, XDP_TX)],
            },
            exit(),
        ]
    }

    /// The flow at FLOW was used now: whoever gives it another state says so first, as its new time may be shorter than
    /// it was silent for. R0 becomes the kernel's ticks. Clobbers R1 to R5.
    pub(super) fn is_used(&self) -> Code {
        code![
            jiffies64(),
            store(FLOW.get(self.fields.seen), R0),
        ]
    }

    /// The flow was used now. R0 becomes the present tick. Clobbers R1 to R5.
    pub(super) fn touch(&self) -> Code {
        code![self.is_used(), self.tick(R0)]
    }

    /// Ticks of the kernel become ours.
    pub(super) fn tick(&self, jiffies: Reg) -> [Insn; 2] {
        [
            rsh(jiffies, self.context.shape.clock.shift()),
            and(jiffies, 0xffff),
        ]
    }

    /// `len` becomes the length of the packet from its IP header on, without what fills a short frame. Clobbers
    /// len.
    pub(super) fn length(&self, len: Reg) -> Code {
        // Packets too large for their headers to say it say 0, and get here in TCX only.
        let none = if self.is_v4() { 0 } else { ipv6::SIZE };
        code![
            self.stated_length(len),
            (!self.is_xdp()).then(|| len.eq(none).then([
                load(len, CTX.get(__sk_buff::len)),
                sub(len, eth::SIZE),
            ])),
        ]
    }

    /// The same, as the IP header says. Clobbers len.
    pub(super) fn stated_length(&self, len: Reg) -> Code {
        if self.is_v4() {
            code![
                load(len, IP.get(ipv4::tot_len)),
                to_be16(len)
            ]
        } else {
            code![
                load(len, IP.get(ipv6::payload_len)),
                to_be16(len),
                add(len, ipv6::SIZE),
            ]
        }
    }

    /// The packet becomes what its flow says, and counts. Leaves before anything is changed if it
    /// cannot be sent. Clobbers R0 to R5, and in TCX L4 and what is known of packet pointers.
    pub(super) fn rewrite(&self, part: Part) -> Code {
        let fields = self.fields;
        let is_whole = part == Part::Whole;
        let (_, expired) = self.refusals(part);
        let (fits, big, over) = (label("fits"), label("big"), label("rewritten"));
        let (beside, by_kernel) = (label("beside"), label("by_kernel"));
        let in_place = is_whole && !self.is_xdp();
        let ttl = if self.is_v4() {
            IP.get(ipv4::ttl)
        } else {
            IP.get(ipv6::hop_limit)
        };
        let more = |field: Field, by: Code| {
            code![
                load(R4, FLOW.get(field)),
                by,
                store(FLOW.get(field), R4)
            ]
        };
        code![
            self.length(R2),
            load(R1, FLOW.get(fields.mtu)),
            jgt(R2, R1, big),
            bind(fits),
            load(R3, ttl),
            jle(R3, 1, expired),
            sub(R3, 1),
            more(fields.packets, code![add(R4, 1)]),
            more(fields.bytes, code![add(R4, R2)]),
            store(ttl, R3),
            self.is_v4().then(|| self.ip_check()),
            (is_whole && self.is_xdp()).then(|| self.l4_check()),
            copy(
                self.addresses(),
                FLOW.to(fields.saddr),
                2 * self.address(),
                R1
            ),
            is_whole.then(|| copy(L4.at(0), FLOW.to(fields.ports), 4, R1)),
            self.address_frame(),
            in_place.then(|| self.l4_check_in_place(beside, by_kernel)),
            ja(over),
            in_place.then(|| self.l4_check_beside(beside, by_kernel, over)),
            self.too_long(part, big, fits),
            bind(over),
        ]
    }

    /// The frame goes to the flow's next hop. Clobbers R1, R2.
    pub(super) fn address_frame(&self) -> Code {
        let (load, frame) = self.context.frame(R2);
        code![
            load,
            copy(frame, FLOW.to(self.fields.dmac), 12, R1)
        ]
    }

    /// Where packets go that are too big, and those whose time to live is over. Errors are about whole
    /// packets and first fragments only.
    fn refusals(&self, part: Part) -> (Label, Label) {
        let exits = &self.context.exits;
        match part {
            Part::Whole => (self.too_big, self.expired),
            Part::Later => (exits.drop(Reason::TooBig), exits.drop(Reason::Expired)),
        }
    }

    /// Where a long packet goes: on, if the kernel will cut it in shorter ones.
    fn too_long(&self, part: Part, big: Label, fits: Label) -> Code {
        let (too_big, _) = self.refusals(part);
        let may_be_cut = part == Part::Whole && !self.is_xdp();
        code![
            bind(big),
            may_be_cut.then(|| code![
                load(R3, CTX.get(__sk_buff::gso_size)),
                jeq(R3, 0, too_big),
                // Headers are in front of each piece, TCP's with all of its options.
                mov(R4, L4),
                sub(R4, IP),
                add(R3, R4),
                match self.is_tcp() {
                    true => code![
                        load(R4, L4.get(tcp::data_off)),
                        rsh(R4, 4),
                        lsh(R4, 2),
                    ],
                    false => code![mov(R4, udp::SIZE)],
                },
                add(R3, R4),
                jgt(R3, R1, too_big),
                ja(fits),
            ]),
            (!may_be_cut).then(|| ja(too_big)),
        ]
    }

    /// A packet about which something is special: bits of its flow's state are set, its next hop was
    /// not asked for since a while, or it goes another way than most. R1 is the flow's word.
    pub(super) fn special(&self) -> Code {
        code![
            self.is_tcp().then(|| self.turns()),
            bind(self.special),
            load(R1, FLOW.get(self.fields.word)),
            jset(R1, Word::HALF, self.half),
            self.is_tcp().then(|| self.revive()),
            bind(self.goes),
            self.touch(),
            self.fresh_next_hop(),
            self.accepts_for_client(),
            bind(self.send),
            self.goes_somewhere(),
            self.measure_shift(),
            self.rewrite(Part::Whole),
            self.shift(),
            self.context.exits.count(Reason::Forwarded),
            self.leave(),
            self.half(),
            self.refuse(),
        ]
    }

    /// The flow's next hop is asked for unless that was done in the present tick, which is in R0. Clobbers
    /// R0 to R5.
    pub(super) fn fresh_next_hop(&self) -> Code {
        let fresh = label("fresh");
        code![
            load(R1, FLOW.get(self.fields.word)),
            and(R1, 0xffff),
            jeq(R1, R0, fresh),
            self.next_hop(),
            bind(fresh),
        ]
    }

    /// Ends the packet's way if the flow has none, before anything is changed. Clobbers R1.
    pub(super) fn goes_somewhere(&self) -> Code {
        code![
            load(R1, FLOW.get(self.fields.word)),
            rsh(R1, Word::WAY.cast_signed()),
            jeq(
                R1,
                way::NOWHERE.cast_signed(),
                self.context.exits.drop(Reason::NoRoute)
            ),
            // The program behind this one has them as they are.
            self.is_xdp().then(|| [
                jeq(
                    R1,
                    way::NEIGHBOUR.cast_signed(),
                    self.context.exits.pass(Reason::NoNeighbour)
                ),
                jeq(
                    R1,
                    way::LOCAL.cast_signed(),
                    self.context.exits.pass(Reason::ToOwnSocket)
                ),
            ]),
        ]
    }

    /// Sends the rewritten packet by the flow's way.
    pub(super) fn leave(&self) -> Code {
        let fields = self.fields;
        let is = |way: u32| R1.eq(way.cast_signed());
        code![
            load(R1, FLOW.get(fields.word)),
            rsh(R1, Word::WAY.cast_signed()),
            (!self.is_xdp()).then(|| code![
                is(way::LOCAL).then(code![ja(self
                    .context
                    .exits
                    .pass(Reason::ToOwnSocket))]),
                is(way::PEER).then(code![
                    redirect_peer(FLOW.get(fields.ifindex), 0),
                    exit()
                ]),
                is(way::NEIGHBOUR).then(code![
                    self.to_stranger(),
                    redirect_neigh(FLOW.get(fields.ifindex), Null, 0, 0),
                    exit()
                ]),
            ]),
            redirect(FLOW.get(fields.ifindex), 0),
            exit(),
        ]
    }
}
