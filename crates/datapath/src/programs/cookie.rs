//! Connections by cookie: under pressure, the proxy answers clients itself, and remembers nothing.
//!
//! A SYN that is too much becomes the answer to itself. Its sequence number is a cookie, which the kernel makes of
//! addresses, ports and a secret. A packet without a flow that acknowledges a cookie comes from where it says:
//! now a flow is made as for a SYN, and the packet becomes that SYN, without what it carries. The
//! backend's answer becomes the acknowledgement of itself. The client knows other sequence numbers
//! than the backend, so all packets of such flows are shifted (`shift.rs`).
//!
//! What such packets become is noted, and made elsewhere (`made.rs`).

use super::lane::{Lane, copy};
use super::made::{Note, control};
use super::tuple::partner;
use super::{CTX, FLOW, Hook, IP, L4};
use crate::layout::{ANSWER, Listener, Shift, Word};
use crate::reason::Reason;
use bpfsmith_asm::dsl::*;
use bpfsmith_asm::kit::event::zero;
use std::time::Duration;

/// What the fragments of one lane share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cookies {
    /// The packet, a SYN, gets a cookie.
    sends: Label,
    /// FLOW waits for its backend, and the packet becomes what begins it there.
    begins: Label,
    /// The packet becomes the answer to itself.
    replies: Label,
    pub(super) note: Slot,
    /// What is to be known of the flow that begins.
    pub(super) entry: Slot,
    /// Whether the packet brought a cookie.
    brought: Slot,
    /// By how much a packet is shifted; in TCX, where its header is.
    by: Slot,
}

impl Cookies {
    pub(super) fn new() -> Cookies {
        Cookies {
            sends: label("sends_cookie"),
            begins: label("begins_by_cookie"),
            replies: label("replies"),
            note: slot::<Note>("note"),
            entry: slot::<[u64; 2]>("shift"),
            brought: slot::<u64>("brought"),
            by: slot::<u64>("by"),
        }
    }

    pub(super) const fn by(self) -> Slot {
        self.by
    }
}

/// An option for the largest segment: kind and length.
const MSS: i32 = 0x0204_0000;
/// Four options that say nothing.
const NOTHING: i32 = 0x0101_0101;
/// The place of the sequence number in a TCP header.
const SEQ: i32 = tcp::seq.offset as i32;
/// The kernel does not say for which size of segments a cookie was made. So each size has cookies of its own: those
/// for a header whose sequence number is so many bits, times the size's place, above the packet's. The client
/// cannot send as much in a window.
const APART: i32 = 16;
/// A flow waits for so long until a packet of its client's asks its backend again.
const PATIENCE: Duration = Duration::from_millis(100);
/// The flags that say what a packet is for.
const FLAGS: i32 = TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN;

impl Lane<'_> {
    /// Whether listeners of this lane send cookies.
    fn sends_cookies(&self) -> bool {
        let shape = self.context.shape;
        self.is_tcp()
            && self.context.hook != Hook::TcxEgress
            && shape.cookies.contains(&self.path.family)
    }

    /// Whether flows of this lane may have come by cookie.
    pub(super) fn has_shifted(&self) -> bool {
        self.is_tcp() && self.context.shape.shifted.contains(&self.path.family)
    }

    /// The packet at the listener in FLOW brings a cookie: on at `taken`. Clobbers R0 to R5.
    pub(super) fn takes_cookie(&self, taken: Label) -> Option<Code> {
        let (brought, other) = (self.cookies.brought, label("no_cookie"));
        self.sends_cookies().then(|| {
            code![
                store(brought.u64(0), 0),
                load(R1, FLOW.get(Listener::has_cookies)),
                jeq(R1, 0, other),
                self.check_cookie(other),
                store(brought.u64(0), 1),
                ja(taken),
                bind(other),
            ]
        })
    }

    /// Both directions of the flow on the stack say that it came by cookie, if it did. Clobbers R1.
    pub(super) fn marks_cookie(&self, flow: Slot, answer: Slot) -> Option<Code> {
        let mark = |flow: Slot| {
            let word = flow.get(self.fields.word);
            [
                load(R1, word),
                or(R1, Word::SHIFTED),
                store(word, R1),
            ]
        };
        self.sends_cookies().then(|| {
            code![
                load(R1, self.cookies.brought.u64(0)),
                R1.ne(0).then(code![mark(flow), mark(answer)]),
            ]
        })
    }

    /// The packet of the flow at FLOW, which was made for it, becomes a SYN if it brought a cookie.
    /// Clobbers R1.
    pub(super) fn begins_by_cookie(&self) -> Option<[Insn; 2]> {
        self.brought_cookie(self.cookies.begins)
    }

    /// Jumps to `brought` if the packet, which opens a flow, brought a cookie. Clobbers R1.
    pub(super) fn brought_cookie(&self, brought: Label) -> Option<[Insn; 2]> {
        self.sends_cookies().then(|| {
            [
                load(R1, self.cookies.brought.u64(0)),
                jne(R1, 0, brought),
            ]
        })
    }

    /// Where packets go that are too many for the listener at which `listener` points.
    pub(super) fn above_limit(&self, listener: Slot) -> Code {
        let refused = self.declined(Reason::ListenerLimit);
        code![
            self.sends_cookies().then(|| code![
                load(R1, listener.u64(0)),
                load(R1, R1.get(Listener::has_cookies)),
                jne(R1, 0, self.cookies.sends),
            ]),
            ja(refused),
        ]
    }

    /// What jumps of this lane lead to.
    pub(super) fn by_cookie(&self) -> Code {
        code![
            self.sends_cookies().then(|| code![
                bind(self.cookies.sends),
                self.make_cookie(),
                bind(self.cookies.begins),
                self.begin_there(),
            ]),
            self.has_shifted()
                .then(|| code![bind(self.cookies.replies), self.reply()]),
        ]
    }

    /// The note becomes an answer with a cookie to the SYN. Clobbers R0 to R5 and FLOW.
    fn make_cookie(&self) -> Code {
        const LEN: Reg = FLOW;
        let refused = self.declined(Reason::ListenerLimit);
        let note = self.cookies.note;
        let header = self.copied();
        let sizes = self.sizes().skip(1);
        code![
            load(R1, L4.get(tcp::flags)),
            and(R1, FLAGS),
            jne(R1, TCP_SYN, refused),
            self.is_plain(refused),
            load(LEN, L4.u8(12)),
            rsh(LEN, 4),
            lsh(LEN, 2),
            jlt(LEN, tcp::SIZE, refused),
            (0..8).map(|n| store(header.u64(8 * n), 0)),
            mov(R2, L4),
            load(R1, CTX.get(self.context.hook.data())),
            sub(R2, R1),
            match self.is_xdp() {
                true => code![xdp_load_bytes(CTX, R2, header, LEN)],
                false => code![skb_load_bytes(CTX, R2, header, LEN)],
            },
            jne(R0, 0, refused),
            self.generate(LEN),
            jslt(R0, 0, refused),
            rsh(R0, 32),
            mov(R2, 0),
            sizes.map(|(place, size)| R0.ge(size).then(mov(R2, place << APART))),
            to_be16(R0),
            store(note.get(Note::option), be32(MSS)),
            store(note.to(Note::option).u16(2), R0),
            load(R1, L4.get(tcp::seq)),
            to_be32(R1),
            add(R1, R2),
            to_be32(R1),
            store(header.u32(SEQ), R1),
            store(header.u8(12), (tcp::SIZE / 4) << 4),
            mov(LEN, tcp::SIZE),
            self.generate(LEN),
            jslt(R0, 0, refused),
            to_be32(R0),
            store(note.get(Note::seq), R0),
            seq_and(1),
            store(note.get(Note::ack), R1),
            store(note.get(Note::control), control(TCP_SYN | TCP_ACK, 0xffff)),
            self.context.exits.count(Reason::CookieSent),
            ja(self.cookies.replies),
        ]
    }

    /// Goes on if nothing is between the IP header and TCP's, and no fragments follow. Clobbers R1.
    fn is_plain(&self, other: Label) -> Code {
        code![
            mov(R1, L4),
            sub(R1, IP),
            jne(R1, self.ip_header(), other),
            self.is_v4().then(|| [
                load(R1, IP.get(ipv4::frag_off)),
                jset(R1, be16(IP_MF), other),
            ]),
        ]
    }

    /// Where the TCP header is copied to for the kernel: no flow is being made, so there is room for all that
    /// it may have.
    const fn copied(&self) -> Slot {
        self.context.answer
    }

    /// The sizes of segments that cookies remember, from the smallest one on, with their places.
    fn sizes(&self) -> impl DoubleEndedIterator<Item = (i32, i32)> + use<> {
        let sizes = self.context.shape.mss.of(self.path.family);
        let sizes: Vec<i32> = sizes.iter().map(|size| i32::from(*size)).collect();
        let last = i32::try_from(sizes.len()).unwrap_or_default();
        (0..last).zip(sizes)
    }

    /// R0 becomes a cookie for the copied header of that length. Clobbers R0 to R5.
    fn generate(&self, len: Reg) -> Code {
        let header = self.copied();
        match self.is_v4() {
            true => code![tcp_raw_gen_syncookie_ipv4(
                IP, header, len
            )],
            false => code![tcp_raw_gen_syncookie_ipv6(
                IP, header, len
            )],
        }
    }

    /// R0 becomes 0 if the copied header, with the sequence number in R1, acknowledges a cookie.
    /// Clobbers R0 to R5.
    fn is_cookie(&self) -> Code {
        let header = self.copied();
        code![
            to_be32(R1),
            store(header.u32(SEQ), R1),
            match self.is_v4() {
                true => code![tcp_raw_check_syncookie_ipv4(IP, header)],
                false => code![tcp_raw_check_syncookie_ipv6(IP, header)],
            },
        ]
    }

    /// Goes on if the packet acknowledges a cookie. The note becomes the SYN that the backend is to get, and the
    /// entry what is to be known of the flow. Clobbers R0 to R5.
    fn check_cookie(&self, other: Label) -> Code {
        let Cookies { note, entry, .. } = self.cookies;
        let (header, sized) = (self.copied(), label("sized"));
        let number = |from: Mem, by: i32| [load(R1, from), to_be32(R1), add(R1, by)];
        code![
            load(R1, L4.get(tcp::flags)),
            and(R1, FLAGS),
            jne(R1, TCP_ACK, other),
            self.is_plain(other),
            copy(header.at(0), L4.at(0), tcp::SIZE, R1),
            self.sizes().rev().map(|(place, size)| code![
                store(note.get(Note::option), be32(MSS | size)),
                number(L4.get(tcp::seq), place << APART),
                self.is_cookie(),
                jeq(R0, 0, sized),
            ]),
            ja(other),
            bind(sized),
            // The kernel takes a few numbers before the right one for it, too.
            number(header.u32(SEQ), 1),
            self.is_cookie(),
            jeq(R0, 0, other),
            zero::<[u64; 2]>(entry),
            number(L4.get(tcp::ack_seq), -1),
            store(entry.get(Shift::cookie), R1),
            load(R1, L4.get(tcp::window)),
            store(entry.get(Shift::window), R1),
            store(note.get(Note::control), control(TCP_SYN, 0)),
            store(note.to(Note::control).u16(2), R1),
            store(note.get(Note::ack), 0),
            seq_and(-1),
            store(note.get(Note::seq), R1),
        ]
    }

    /// A packet of the client's of the flow at FLOW, which nobody answered yet: goes on unless that came by
    /// cookie. Clobbers R0 to R5.
    pub(super) fn client_waits(&self) -> Option<Code> {
        self.has_shifted().then(|| {
            code![
                load(R1, FLOW.get(self.fields.word)),
                R1.has(Word::SHIFTED).then(self.client_is_early()),
            ]
        })
    }

    /// A packet of the backend's of the flow at FLOW, whose first answer it may be: goes on unless that came
    /// by cookie. Its client has confirmed such a connection already. Clobbers R0 to R5.
    pub(super) fn backend_answers(&self) -> Option<Code> {
        let other = label("not_by_cookie");
        self.has_shifted().then(|| {
            code![
                load(R1, FLOW.get(self.fields.word)),
                R1.has(Word::SHIFTED)
                    .then(code![self.learn(other), self.promote()]),
                bind(other),
            ]
        })
    }

    /// A packet of the client's before its backend has answered. The first ones come too early; later
    /// ones ask the backend again. Clobbers R0 to R5.
    fn client_is_early(&self) -> Code {
        let early = self.context.exits.drop(Reason::CookieEarly);
        if !self.sends_cookies() {
            return code![ja(early)];
        }
        let seen = FLOW.get(self.fields.seen);
        let patience = self.context.shape.clock.ticks(PATIENCE);
        code![
            // It does not know the proxy's answer, or begins anew.
            load(R1, L4.get(tcp::flags)),
            and(R1, FLAGS),
            jeq(R1, TCP_SYN, self.cookies.sends),
            jiffies64(),
            load(R1, seen),
            sub(W0, W1),
            jslt(W0, patience, early),
            self.check_cookie(early),
            self.has_answers(),
            // Also where the program behind this one has to ask: that is not too early either.
            jiffies64(),
            self.tick(R0),
            self.fresh_next_hop(),
            self.goes_somewhere(),
            jiffies64(),
            store(seen, R0),
            ja(self.cookies.begins),
        ]
    }

    /// The answer of a backend: by what it accepts, numbers will be shifted. Goes on with that, and at
    /// `other` with a refusal; anything else is about a connection that is over, and is reset. Clobbers R0 to
    /// R5.
    fn learn(&self, other: Label) -> Code {
        let (client, accepts) = (self.context.other, label("accepts"));
        let shifts = self.context.shape.shifts(self.path.family);
        let note = self.cookies.note;
        let early = self.context.exits.drop(Reason::CookieEarly);
        code![
            load(R1, L4.get(tcp::flags)),
            jset(R1, TCP_RST, other),
            mov(R2, R1),
            and(R2, TCP_SYN | TCP_ACK),
            jeq(R2, TCP_SYN | TCP_ACK, accepts),
            jne(R2, TCP_ACK, early),
            load(R1, L4.get(tcp::ack_seq)),
            store(note.get(Note::seq), R1),
            store(note.get(Note::ack), 0),
            store(note.get(Note::control), control(TCP_RST, 0)),
            store(note.get(Note::option), NOTHING),
            self.context.exits.count(Reason::CookieAnswered),
            ja(self.cookies.replies),
            bind(accepts),
            partner(self, client, FLOW.at(0)),
            map_lookup_elem(&shifts, client),
            jeq(R0, 0, self.lost()),
            load(R1, R0.get(Shift::cookie)),
            load(R2, L4.get(tcp::seq)),
            to_be32(R2),
            sub(W1, W2),
            store(R0.get(Shift::by), R1),
            store(R0.get(Shift::is_known), 1),
        ]
    }

    /// A backend that accepts a connection by cookie gets its acknowledgement from here: the client has
    /// sent it long ago. Goes on with all other packets of the flow at FLOW. Clobbers R0 to R5.
    pub(super) fn accepts_for_client(&self) -> Option<Code> {
        let (client, other) = (self.context.other, label("other"));
        let shifts = self.context.shape.shifts(self.path.family);
        let note = self.cookies.note;
        self.has_shifted().then(|| {
            code![
                load(R1, FLOW.get(self.fields.word)),
                R1.has(Word::SHIFTED).then(code![
                    load(R1, L4.get(tcp::flags)),
                    and(R1, FLAGS),
                    jne(R1, TCP_SYN | TCP_ACK, other),
                    load(R1, FLOW.get(self.fields.tag)),
                    R1.has(i32::from(ANSWER)).then(code![
                        partner(self, client, FLOW.at(0)),
                        map_lookup_elem(&shifts, client),
                        jeq(R0, 0, self.lost()),
                        store(note.get(Note::control), control(TCP_ACK, 0)),
                        load(R1, R0.get(Shift::window)),
                        store(note.to(Note::control).u16(2), R1),
                        load(R1, L4.get(tcp::ack_seq)),
                        store(note.get(Note::seq), R1),
                        seq_and(1),
                        store(note.get(Note::ack), R1),
                        store(note.get(Note::option), NOTHING),
                        self.context.exits.count(Reason::CookieAnswered),
                        ja(self.cookies.replies),
                    ]),
                ]),
                bind(other),
            ]
        })
    }
}

/// R1 becomes the packet's sequence number and so many more, as packets have it.
fn seq_and(more: i32) -> [Insn; 4] {
    [
        load(R1, L4.get(tcp::seq)),
        to_be32(R1),
        add(R1, more),
        to_be32(R1),
    ]
}
