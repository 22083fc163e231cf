//! TCP packets that open, close or reset, and which flows their backends count.
//!
//! A flow counts among its backend's exactly as long as its direction to the backend has none of
//! [`Word::UNCOUNTED`], [`Word::OUTSIDE`] and [`Word::HALF`]: who changes these bits sees what was there
//! before, and changes the count if that makes a difference.

use super::event::{Back, Told};
use super::lane::Lane;
use super::sweep::why;
use super::tuple::{is_partner, partner};
use super::{FLOW, L4};
use crate::config::Mode;
use crate::event::Kind;
use crate::layout::{ANSWER, Word};
use crate::reason::Reason;
use crate::shape::BACKEND_FLOWS;
use bpfsmith_asm::dsl::*;

/// Both sides closed.
pub(super) const CLOSED: u32 = Word::FIN | Word::FIN_ANSWER;
/// The flow does not count.
pub(super) const APART: u32 = Word::UNCOUNTED | Word::OUTSIDE | Word::HALF;

impl Lane<'_> {
    /// A packet of a known flow with SYN, FIN or RST: both directions learn of it. R1 has its flags.
    pub(super) fn turns(&self) -> Code {
        let (closes, resets, marked) = (label("closes"), label("resets"), label("marked"));
        code![
            bind(self.turning),
            load(R2, FLOW.get(self.fields.word)),
            jset(R2, Word::HALF, self.special),
            jset(R1, TCP_RST, resets),
            jset(R1, TCP_FIN, closes),
            // SYN. One that comes without ACK to a flow that has ended begins another.
            jset(R1, TCP_ACK, self.plain),
            load(R1, FLOW.get(self.fields.word)),
            jset(R1, Word::RESET, self.reopen),
            and(R1, CLOSED),
            jeq(R1, CLOSED, self.reopen),
            ja(self.plain),
            bind(resets),
            mov(R1, Word::RESET),
            ja(marked),
            bind(closes),
            mov(R1, Word::FIN),
            load(R2, FLOW.get(self.fields.tag)),
            R2.has(i32::from(ANSWER)).then(mov(R1, Word::FIN_ANSWER)),
            bind(marked),
            self.mark(),
        ]
    }

    /// Both directions have the bits in R1. Clobbers R0 to R5.
    fn mark(&self) -> Code {
        let (other, bits) = (self.context.other, slot::<u64>("bits"));
        let direct = self.context.shape.modes.contains(&Mode::DirectReturn);
        let (alone, done) = (label("alone"), label("done"));
        code![
            store(bits.u64(0), R1),
            self.is_used(),
            load(R1, bits.u64(0)),
            atomic_or(FLOW.get(self.fields.word), R1),
            partner(self, other, FLOW.at(0)),
            self.find(other),
            jeq(R0, 0, alone),
            load(R1, bits.u64(0)),
            atomic_or(R0.get(self.fields.word), R1),
            bind(alone),
            self.forward(done),
            // Nobody sees the other side close.
            direct.then(|| code![
                load(R1, bits.u64(0)),
                R1.has(Word::FIN).then(self.closes_alone(other)),
            ]),
            self.settle(),
            bind(done),
        ]
    }

    /// Of FLOW and the other direction in R0, which may be none, the one to the backend is in R0; jumps
    /// to `none` if that is not there. Clobbers R1.
    fn forward(&self, none: Label) -> Code {
        code![
            load(R1, FLOW.get(self.fields.tag)),
            R1.has(i32::from(ANSWER))
                .then(code![jeq(R0, 0, none)])
                .or_else(mov(R0, FLOW)),
        ]
    }

    /// The flow at FLOW, which the client closed, is closed if it has no answers. R0 becomes FLOW.
    /// Clobbers R0 to R5.
    fn closes_alone(&self, other: Slot) -> Code {
        let none = label("none");
        code![
            self.find(other),
            jeq(R0, 0, none),
            load(R1, R0.get(self.fields.word)),
            R1.has(Word::HALF).then(code![
                bind(none),
                mov(R1, Word::FIN_ANSWER),
                atomic_or(FLOW.get(self.fields.word), R1),
            ]),
            mov(R0, FLOW),
        ]
    }

    /// Counts the flow whose direction to the backend is at R0 if it has not ended, and does not count
    /// it if it has. Clobbers R0 to R5.
    fn settle(&self) -> Code {
        let word = R0.get(self.fields.word);
        let (ended, done) = (label("ended"), label("settled"));
        code![
            load(R1, word),
            jset(R1, Word::RESET, ended),
            mov(R2, R1),
            and(R2, CLOSED),
            jeq(R2, CLOSED, ended),
            // Most have not, and count.
            jset(R1, Word::OUTSIDE | Word::HALF, done),
            R1.has(Word::UNCOUNTED).then(code![
                mov(W1, !Word::UNCOUNTED),
                fetch_and(word, R1),
                jset(R1, Word::OUTSIDE | Word::HALF, done),
                R1.has(Word::UNCOUNTED).then(self.count_in(R0.at(0))),
            ]),
            ja(done),
            bind(ended),
            mov(R1, Word::UNCOUNTED),
            fetch_or(word, R1),
            jset(R1, APART, done),
            self.count_out(R0.at(0)),
            bind(done),
        ]
    }

    /// A reset ends a flow only if nothing follows: one that was sent in somebody's name does not.
    pub(super) fn revive(&self) -> Code {
        let other = self.context.other;
        let (stays, alone) = (label("stays"), label("alone"));
        code![
            load(R1, FLOW.get(self.fields.word)),
            R1.has(Word::RESET | Word::UNCOUNTED).then(code![
                load(R1, L4.get(tcp::flags)),
                jset(R1, TCP_RST | TCP_SYN, stays),
                self.is_used(),
                mov(W1, !Word::RESET),
                atomic_and(FLOW.get(self.fields.word), R1),
                partner(self, other, FLOW.at(0)),
                self.find(other),
                jeq(R0, 0, alone),
                mov(W1, !Word::RESET),
                atomic_and(R0.get(self.fields.word), R1),
                bind(alone),
                self.forward(stays),
                self.settle(),
            ]),
            bind(stays),
        ]
    }

    /// Forgets the flow that has ended, and goes where packets without a flow go.
    pub(super) fn forget(&self) -> Code {
        let other = self.context.other;
        let (answers, both, last) = (label("answers"), label("both"), label("last"));
        let (foreign, known) = (label("foreign"), label("known"));
        let (side, back) = (slot::<u64>("side"), slot::<u64>("back"));
        let leaving = self.context.exits.drop(Reason::Leaving);
        code![
            bind(self.reopen),
            partner(self, other, FLOW.at(0)),
            self.find(other),
            jeq(R0, 0, foreign),
            is_partner(self, R0, self.key, foreign),
            ja(known),
            bind(foreign),
            mov(R0, 0),
            bind(known),
            load(R1, FLOW.get(self.fields.tag)),
            and(R1, i32::from(ANSWER)),
            store(side.u64(0), R1),
            store(back.u64(0), R0),
            jne(R1, 0, answers),
            ja(both),
            bind(answers),
            jeq(R0, 0, last),
            store(back.u64(0), FLOW),
            mov(FLOW, R0),
            bind(both),
            addr(R1, self.key),
            load(R2, side.u64(0)),
            R2.ne(0).then(addr(R1, other)),
            self.kept(),
            jne(R0, FLOW, leaving),
            self.take_out(),
            addr(R1, self.key),
            load(R2, side.u64(0)),
            R2.ne(0).then(addr(R1, other)),
            self.is_its(leaving),
            load(R1, side.u64(0)),
            R1.eq(0)
                .then(self.tell_end(self.key, back))
                .or_else(self.tell_end(other, back)),
            // Answers first: as long as one direction is there, nobody gets its tuple.
            load(R1, side.u64(0)),
            load(R2, back.u64(0)),
            R1.eq(0).then(code![R2.ne(0).then(self.erase(other))]),
            bind(last),
            self.erase(self.key),
            load(R1, side.u64(0)),
            load(R2, back.u64(0)),
            R1.ne(0).then(code![R2.ne(0).then(self.erase(other))]),
        ]
    }

    /// Tells that the flow at FLOW has ended, if anybody was told that it began. Clobbers R0 to R5.
    pub(super) fn tell_end(&self, key: Slot, back: Slot) -> Code {
        let untold = label("untold");
        let events = self.context.shape.events.is_some();
        let told = || {
            code![
                load(R1, FLOW.get(self.fields.word)),
                jset(R1, Word::HALF, untold),
                self.tell(Told {
                    kind: Kind::Closed,
                    why: code![
                        load(R3, FLOW.get(self.fields.word)),
                        why(R3)
                    ],
                    key,
                    flow: Some(FLOW.at(0)),
                    back: Back::Kept(back),
                }),
                bind(untold),
            ]
        };
        code![events.then(told)]
    }

    /// The flow whose direction to the backend is at FLOW is this packet's to take out, and does not
    /// count any more; if somebody else takes it out just now, the packet is dropped, and comes again.
    /// Clobbers R0 to R5.
    fn take_out(&self) -> Code {
        let uncounted = label("uncounted");
        code![
            mov(R1, Word::OUTSIDE),
            fetch_or(FLOW.get(self.fields.word), R1),
            jset(R1, Word::OUTSIDE, self.context.exits.drop(Reason::Leaving)),
            jset(R1, APART, uncounted),
            self.count_out(FLOW.at(0)),
            bind(uncounted),
        ]
    }

    /// The flow at FLOW has just become this one's to take out, and should have the key at R1: goes on if it has.
    /// Somebody else may have taken that one out since it was looked at, and its place be another's by now, which
    /// is given back: jumps to `other`. Clobbers R0 to R5.
    ///
    /// The entry is kept once more: one that makes no room any more has a tag that nobody but its owner changes, so
    /// that it can be erased for certain.
    pub(super) fn is_its(&self, other: Label) -> Code {
        let its = label("its");
        code![
            self.kept(),
            jeq(R0, FLOW, its),
            mov(W1, !Word::OUTSIDE),
            fetch_and(FLOW.get(self.fields.word), R1),
            mov(R2, R1),
            and(R2, APART),
            R2.eq(Word::OUTSIDE).then(self.count_in(FLOW.at(0))),
            ja(other),
            bind(its),
        ]
    }

    /// The backend of the forward flow has one more. Clobbers R0 to R5.
    pub(super) fn count_in(&self, flow: Place) -> Code {
        self.count_flows(flow, 1)
    }

    /// The backend of the forward flow has one less. Clobbers R0 to R5.
    pub(super) fn count_out(&self, flow: Place) -> Code {
        self.count_flows(flow, -1)
    }

    fn count_flows(&self, flow: Place, by: i32) -> Code {
        let number = slot::<u32>("backend");
        code![
            load(R1, flow.get(self.fields.tag)),
            store(number.u32(0), R1),
            map_lookup_elem(&BACKEND_FLOWS, number),
            R0.ne(0).then([mov(R1, by), atomic_add(R0.u32(0), R1),]),
        ]
    }
}
