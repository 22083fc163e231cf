//! Flows that are not established yet.
//!
//! An answer establishes a flow of UDP. A connection of TCP is established when its client says that it
//! has seen the answer: who only pretends to be a client has not, and what it began makes room for others.

use super::event::{Back, Told};
use super::lane::Lane;
use super::tuple::{is_partner, partner};
use super::{FLOW, L4};
use crate::config::Mode;
use crate::event::Kind;
use crate::layout::{ANSWER, Word};
use crate::reason::Reason;
use bpfsmith_asm::dsl::*;

impl Lane<'_> {
    /// A packet of the flow at FLOW, which is not established: maybe this makes it so. Ends with jumps.
    pub(super) fn half(&self) -> Code {
        let (answers, alone) = (label("answers"), label("alone"));
        let direct = self.context.shape.modes.contains(&Mode::DirectReturn);
        code![
            bind(self.half),
            load(R1, FLOW.get(self.fields.tag)),
            jset(R1, i32::from(ANSWER), answers),
            match self.is_tcp() {
                true => self.is_late(FLOW, self.reopen),
                // Clients of UDP ask on and on, also where nobody is.
                false => self.is_old(self.reopen),
            },
            self.client_waits(),
            self.is_whole(),
            self.is_tcp().then(|| self.confirm()),
            match direct {
                true => self.unanswered(alone),
                false => code![ja(self.goes)],
            },
            bind(answers),
            self.backend_answers(),
            self.answered(),
            direct.then(|| code![bind(alone), self.promote_alone(),]),
        ]
    }

    /// An answer to the flow whose answers FLOW is about. Ends with jumps. Clobbers R0 to R5.
    pub(super) fn answered(&self) -> Code {
        match self.is_tcp() {
            true => self.note_answer(),
            false => self.promote(),
        }
    }

    /// Goes on if the packet does not begin the flow, or both halves of it are there and nobody refused it.
    /// The other one may have made room for another: answers would never be known, so the flow begins anew,
    /// as one that was refused does: another backend may take it. Clobbers R0 to R5.
    fn is_whole(&self) -> Code {
        let whole = label("whole");
        code![
            self.is_tcp().then(|| [
                load(R1, L4.get(tcp::flags)),
                and(R1, TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN),
                jne(R1, TCP_SYN, whole),
                load(R1, FLOW.get(self.fields.word)),
                and(R1, Word::RESET | Word::ANSWERED),
                jeq(R1, Word::RESET, self.reopen),
            ]),
            self.has_answers(),
            bind(whole),
        ]
    }

    /// Goes on if the half for answers is there; else the flow begins anew. Clobbers R0 to R5.
    pub(super) fn has_answers(&self) -> Code {
        let other = self.context.other;
        code![
            partner(self, other, FLOW.at(0)),
            self.find(other),
            jeq(R0, 0, self.reopen),
            is_partner(self, R0, self.key, self.reopen),
        ]
    }

    /// Jumps to `alone` for a later packet of a flow whose answers do not come this way, else to where
    /// packets go on. Clobbers R1, R2.
    fn unanswered(&self, alone: Label) -> Code {
        let address = self.address();
        let new = FLOW.to(self.fields.daddr);
        code![
            self.is_tcp().then(|| [
                load(R1, L4.get(tcp::flags)),
                jset(R1, TCP_SYN | TCP_RST, self.goes),
            ]),
            (0..address / 4).map(|n| [
                load(R1, new.u32(4 * n)),
                load(R2, self.key.u32(address + 4 * n)),
                jne(R1, R2, self.goes),
            ]),
            ja(alone),
        ]
    }

    /// The flow whose answers FLOW is about has been answered. Ends with jumps. Clobbers R0 to R5.
    fn note_answer(&self) -> Code {
        let (forward, gone, refused) = (slot::<u64>("forward"), label("gone"), label("refused"));
        code![
            self.client(forward, gone, gone),
            load(R2, forward.u64(0)),
            load(R1, L4.get(tcp::flags)),
            jset(R1, TCP_RST, refused),
            mov(R1, Word::ANSWERED),
            fetch_or(R2.get(self.fields.word), R1),
            jset(R1, Word::ANSWERED, self.goes),
            self.context.exits.count(Reason::Answered),
            ja(self.goes),
            // It establishes nothing.
            bind(refused),
            mov(R1, Word::RESET),
            atomic_or(R2.get(self.fields.word), R1),
            ja(self.goes),
            // If its other half made room for another, a connection cannot go on: the client shall try
            // again.
            bind(gone),
            load(R1, L4.get(tcp::flags)),
            jset(R1, TCP_RST, self.goes),
            ja(self.context.exits.pass(Reason::NotOurs)),
        ]
    }

    /// The direction to the backend of the flow whose answers FLOW is about is in `forward`, and `other`
    /// is how its packets arrive. Jumps to `none` if it is not there, and to `gone` if that is another
    /// flow's or nothing came for long. Clobbers R0 to R5.
    fn client(&self, forward: Slot, none: Label, gone: Label) -> Code {
        let key = self.context.other;
        code![
            partner(self, key, FLOW.at(0)),
            self.find(key),
            jeq(R0, 0, none),
            is_partner(self, R0, self.key, gone),
            store(forward.u64(0), R0),
            self.is_late(R0, gone),
        ]
    }

    /// If the packet says that the client has seen the answer, the flow at FLOW becomes an established one.
    /// Clobbers R0 to R5.
    fn confirm(&self) -> Code {
        let (other, back) = (self.context.other, slot::<u64>("back"));
        let not_yet = label("not_yet");
        let leaving = self.context.exits.drop(Reason::Leaving);
        code![
            load(R1, L4.get(tcp::flags)),
            and(R1, TCP_SYN | TCP_ACK | TCP_RST),
            jne(R1, TCP_ACK, not_yet),
            load(R1, FLOW.get(self.fields.word)),
            and(R1, Word::ANSWERED),
            jeq(R1, 0, not_yet),
            partner(self, other, FLOW.at(0)),
            self.find(other),
            jeq(R0, 0, self.reopen),
            is_partner(self, R0, self.key, self.reopen),
            store(back.u64(0), R0),
            self.keep(other),
            load(R1, back.u64(0)),
            jne(R0, R1, leaving),
            self.keep(self.key),
            jne(R0, FLOW, leaving),
            self.is_used(),
            load(R2, back.u64(0)),
            load(R1, L4.get(tcp::flags)),
            R1.has(TCP_FIN).then([
                mov(R1, Word::FIN),
                atomic_or(FLOW.get(self.fields.word), R1),
                atomic_or(R2.get(self.fields.word), R1),
            ]),
            // Answers first: those of an established flow are never half.
            mov(W1, !Word::HALF),
            atomic_and(R2.get(self.fields.word), R1),
            self.settles(self.key, Back::Kept(back)),
            ja(self.goes),
            bind(not_yet),
        ]
    }

    /// With the answer at hand, the flow whose answers FLOW is about becomes an established one. Ends
    /// with jumps. Clobbers R0 to R5.
    pub(super) fn promote(&self) -> Code {
        let key = self.context.other;
        let (forward, back) = (slot::<u64>("forward"), slot::<u64>("back"));
        let gone = label("gone");
        let leaving = self.context.exits.drop(Reason::Leaving);
        code![
            // If its other half made room for another, a datagram may get there all the same.
            self.client(forward, self.goes, gone),
            self.keep(key),
            load(R1, forward.u64(0)),
            jne(R0, R1, leaving),
            self.keep(self.key),
            jne(R0, FLOW, leaving),
            self.is_used(),
            mov(W1, !Word::HALF),
            atomic_and(FLOW.get(self.fields.word), R1),
            store(back.u64(0), FLOW),
            load(FLOW, forward.u64(0)),
            self.context.exits.count(Reason::Answered),
            self.settles(key, Back::Kept(back)),
            load(FLOW, back.u64(0)),
            ja(self.goes),
            bind(gone),
            ja(self.context.exits.pass(Reason::NotOurs)),
        ]
    }

    /// The flow at FLOW, which has no answers, becomes an established one. Ends with jumps. Clobbers R0 to
    /// R5.
    fn promote_alone(&self) -> Code {
        code![
            self.keep(self.key),
            jne(R0, FLOW, self.context.exits.drop(Reason::Leaving)),
            self.is_used(),
            self.context.exits.count(Reason::Answered),
            self.settles(self.key, Back::None),
            ja(self.goes),
        ]
    }

    /// The flow whose direction to the backend is at FLOW, with that key, is established now: unless
    /// somebody else saw it first, it counts, and that is told. If it is being taken out, the packet is dropped.
    /// Clobbers R0 to R5.
    fn settles(&self, key: Slot, back: Back) -> Code {
        let (ended, settled) = (label("ended"), label("settled"));
        code![
            mov(W1, !Word::HALF),
            fetch_and(FLOW.get(self.fields.word), R1),
            jset(R1, Word::OUTSIDE, self.context.exits.drop(Reason::Leaving)),
            mov(R2, R1),
            and(R2, Word::HALF),
            jeq(R2, 0, settled),
            // Its answers are established already, and one of them may have reset it.
            jset(R1, Word::UNCOUNTED, ended),
            self.count_in(FLOW.at(0)),
            bind(ended),
            self.tell(Told {
                kind: Kind::New,
                why: code![mov(R1, 0)],
                key,
                flow: Some(FLOW.at(0)),
                back,
            }),
            bind(settled),
        ]
    }

    /// Jumps to `late` if the flow, which nobody answered, was seen last too long ago. Clobbers R0 to R5,
    /// but not `flow` if that is none of them.
    pub(super) fn is_late(&self, flow: Reg, late: Label) -> Code {
        let shape = self.context.shape;
        self.is_older(flow, shape.clock.ticks(shape.timeouts.unanswered), late)
    }

    /// Jumps to `old` if the flow at FLOW, which nobody answered, began too long ago, however often its client has
    /// asked since. Clobbers R0, R1.
    fn is_old(&self, old: Label) -> Code {
        let shape = self.context.shape;
        code![
            jiffies64(),
            load(R1, FLOW.get(self.fields.born)),
            sub(W0, W1),
            jsgt(W0, shape.clock.ticks(shape.timeouts.unanswered), old),
        ]
    }

    /// Jumps to `older` if the flow was seen last more than so many of the kernel's ticks ago. Clobbers R0 to
    /// R5, but not `flow` if that is none of them.
    pub(super) fn is_older(&self, flow: Reg, ticks: i32, older: Label) -> Code {
        code![self.age(flow), jsgt(W0, ticks, older)]
    }

    /// W0 becomes how many of the kernel's ticks ago the flow was seen last: below zero if another CPU reads
    /// the clock later than this one. Clobbers R0 to R5, but not `flow` if that is none of them.
    pub(super) fn age(&self, flow: Reg) -> Code {
        let seen = slot::<u32>("seen");
        code![
            load(R1, flow.get(self.fields.seen)),
            store(seen.u32(0), R1),
            jiffies64(),
            load(R1, seen.u32(0)),
            sub(W0, W1),
        ]
    }
}
