//! The tuple that a backend sees: no two flows have the same.

use super::FLOW;
use super::close::{APART, CLOSED};
use super::enter::NO_ROOM;
use super::lane::{Lane, copy};
use super::open::New;
use super::tuple::{partner, sums};
use crate::config::Mode;
use crate::layout::{ANSWER, Word};
use crate::reason::Reason;
use crate::shape::SOURCES;
use bpfsmith_asm::dsl::*;

/// How often another port is tried for a flow; and so often once more, when those of flows that have
/// ended will do.
const TRIES: i32 = 16;

/// What is known while a tuple with a source of the proxy's own is looked for.
struct Own {
    /// A number that is the flow's.
    draw: Slot,
    /// The group's mode; then where its sources begin, and how many there are.
    mode: Slot,
}

impl Own {
    /// How the packet arrived.
    const KEY: Reg = R6;
    /// What becomes of it.
    const FLOW: Reg = R7;
    /// How answers will arrive.
    const ANSWER: Reg = R8;
    /// Which try it is.
    const TRY: Reg = R9;
}

impl Lane<'_> {
    /// The tuple that the backend sees, which is no other flow's, and its answers. Enters what becomes
    /// of these. Clobbers R0 to R5 and CHOICE.
    pub(super) fn tuples(&self, new: New) -> Code {
        let modes = &self.context.shape.modes;
        let full = modes.contains(&Mode::FullNat);
        let hairpin = self.context.shape.hairpins.contains(&self.path.family);
        let others = modes.iter().any(|mode| *mode != Mode::FullNat);
        let (own, chosen) = (label("own_source"), label("chosen"));
        code![
            (full && others).then(|| code![
                load(R1, new.mode.u8(1)),
                jeq(R1, i32::from(Mode::FullNat.number()), own),
            ]),
            others.then(|| code![
                hairpin.then(|| self.returns(new, own)),
                self.answers_of(new),
                ja(chosen),
            ]),
            (full || hairpin).then(|| code![bind(own), self.own_tuple(new, chosen),]),
            bind(chosen),
            sums(self, self.key, new.flow, new.answer),
            self.enter_answers(new),
        ]
    }

    /// A tuple with one of the group's own sources that no other flow has, or if none of those that are
    /// tried is free, one that has ended. Jumps to `chosen`, or drops the packet. Clobbers R0 to R5.
    fn own_tuple(&self, new: New, chosen: Label) -> Code {
        code![
            addr(R1, self.key),
            addr(R2, new.flow),
            addr(R3, new.answer_key),
            load(R4, new.mode.u32(0)),
            call(&self.tuple_of_own()),
            jne(R0, 0, chosen),
            ja(self.declined(Reason::NoPort)),
        ]
    }

    /// A function, which looks for such a tuple: from the packet's key, the flow, and the mode, it makes
    /// the flow's source and the key of its answers. Answers whether it found one.
    fn tuple_of_own(&self) -> Func {
        let (next, half) = (label("next"), label("half"));
        let (none, found) = (label("none"), label("found"));
        let own = Own {
            draw: slot::<u32>("draw"),
            mode: slot::<u32>("mode"),
        };
        let layout = self.layout();
        let key = Param::Bytes(layout.key());
        let flow = Param::Bytes(layout.flow().unsigned_abs());
        func("own_tuple")
            .global([key, flow, key, Param::Number])
            .body(code![
                jeq(R1, 0, none),
                jeq(R2, 0, none),
                jeq(R3, 0, none),
                mov(Own::KEY, R1),
                mov(Own::FLOW, R2),
                mov(Own::ANSWER, R3),
                store(own.mode.u32(0), R4),
                self.hash(Own::KEY.at(0), R1),
                store(own.draw.u32(0), R1),
                repeat(Own::TRY, 0..2 * TRIES).body(code![
                    self.source(&own, none),
                    self.next_port(&own),
                    partner(self, Own::ANSWER, Own::FLOW.at(0)),
                    mov(R1, Own::ANSWER),
                    self.is_there(),
                    jeq(R0, 0, found),
                    jlt(Own::TRY, TRIES, next),
                    mov(R1, Own::ANSWER),
                    self.found_in(self.context.table(self.path)),
                    jeq(R0, 0, found),
                    load(R1, R0.get(self.fields.word)),
                    mov(R2, R1),
                    and(R2, Word::HALF),
                    jne(R2, 0, half),
                    self.has_ended(R1, found),
                    ja(next),
                    bind(half),
                    self.gives_way(R0, found),
                    bind(next),
                ]),
                bind(none),
                ret(0),
                bind(found),
                ret(1),
            ])
    }

    /// Jumps to `found` if the flow, which is not established, had about a second to be so: a flood would
    /// hold all tuples otherwise. Clobbers R0 to R5, but not `flow` if that is none of them.
    fn gives_way(&self, flow: Reg, found: Label) -> Code {
        self.is_older(flow, 1 << self.context.shape.clock.shift(), found)
    }

    /// Jumps to `ended` if a flow with this word was reset or closed by both sides. Clobbers word.
    fn has_ended(&self, word: Reg, ended: Label) -> [Insn; 3] {
        [
            jset(word, Word::RESET, ended),
            and(word, CLOSED),
            jeq(word, CLOSED, ended),
        ]
    }

    /// Jumps to `own` if the flow goes to the machine that it comes from, which would take packets
    /// from its own address for forged ones. Clobbers R1, R2.
    fn returns(&self, new: New, own: Label) -> Code {
        let fields = self.fields;
        let other = label("elsewhere");
        code![
            (0..self.address() / 4).map(|n| [
                load(R1, new.flow.to(fields.saddr).u32(4 * n)),
                load(R2, new.flow.to(fields.daddr).u32(4 * n)),
                jne(R1, R2, other),
            ]),
            ja(own),
            bind(other),
        ]
    }

    /// Enters the answers, if no other flow has their tuple, or one that is over; else drops the packet.
    /// Clobbers R0 to R5 and CHOICE.
    fn enter_answers(&self, new: New) -> Code {
        let done = label("entered");
        let no_port = self.declined(Reason::NoPort);
        let enter = || {
            code![
                self.enter(new.answer_key, new.answer),
                jeq(R0, 0, done),
                jeq(R0, NO_ROOM, self.declined(Reason::Full)),
            ]
        };
        code![
            enter(),
            self.take_over(new, no_port),
            enter(),
            ja(no_port),
            bind(done),
        ]
    }

    /// Takes out the flow whose answers have this tuple, if it has ended, was not established in about a
    /// second, or half of it made room for another; else jumps to `taken`. Clobbers R0 to R5 and CHOICE.
    fn take_over(&self, new: New, taken: Label) -> Code {
        let (other, back) = (self.context.other, slot::<u64>("back"));
        let (alone, half, ended, uncounted, free) = (
            label("alone"),
            label("half"),
            label("ended"),
            label("uncounted"),
            label("free"),
        );
        let word = FLOW.get(self.fields.word);
        // Packets of both become the same.
        let same = |field: Field, words: i32| {
            code![(0..words).map(|n| [
                load(R1, FLOW.to(field).u32(4 * n)),
                load(R2, new.flow.to(field).u32(4 * n)),
                jne(R1, R2, alone),
            ])]
        };
        code![
            self.find(new.answer_key),
            // Somebody enters it just now.
            jeq(R0, 0, taken),
            load(R1, R0.get(self.fields.tag)),
            and(R1, i32::from(ANSWER)),
            jeq(R1, 0, taken),
            store(back.u64(0), R0),
            partner(self, other, R0.at(0)),
            self.find(other),
            jeq(R0, 0, alone),
            mov(FLOW, R0),
            same(self.fields.saddr, self.address() / 2),
            same(self.fields.ports, 1),
            load(R1, word),
            jset(R1, Word::HALF, half),
            self.has_ended(R1, ended),
            ja(taken),
            bind(half),
            self.gives_way(FLOW, ended),
            ja(taken),
            bind(ended),
            self.keep(other),
            jne(R0, FLOW, taken),
            mov(R1, Word::OUTSIDE),
            fetch_or(word, R1),
            jset(R1, Word::OUTSIDE, taken),
            jset(R1, APART, uncounted),
            self.count_out(FLOW.at(0)),
            bind(uncounted),
            addr(R1, other),
            self.is_its(taken),
            self.tell_end(other, back),
            // As long as its answers are there, they are this packet's to take out.
            load(R2, back.u64(0)),
            mov(R1, Word::OUTSIDE),
            atomic_or(R2.get(self.fields.word), R1),
            self.erase(other),
            ja(free),
            bind(alone),
            self.is_fresh(back, taken),
            load(R2, back.u64(0)),
            mov(R1, Word::OUTSIDE),
            fetch_or(R2.get(self.fields.word), R1),
            jset(R1, Word::OUTSIDE, taken),
            bind(free),
            self.answers_of(new),
            self.erase(new.answer_key),
        ]
    }

    /// Jumps to `fresh` if the answers began just now: another CPU may be about to enter their flow.
    /// Clobbers R0 to R5.
    fn is_fresh(&self, answers: Slot, fresh: Label) -> Code {
        code![
            jiffies64(),
            load(R1, answers.u64(0)),
            load(R1, R1.get(self.fields.born)),
            sub(W0, W1),
            jslt(W0, 2, fresh),
        ]
    }

    /// How answers of the flow's tuple arrive. Clobbers R1, R2.
    pub(super) fn answers_of(&self, new: New) -> Code {
        partner(self, new.answer_key, new.flow.at(0))
    }

    /// The flow comes from one of the group's own sources, with each try from the next one. Clobbers
    /// R0 to R5.
    fn source(&self, own: &Own, none: Label) -> Code {
        let index = slot::<u32>("source");
        code![
            load(R1, own.draw.u32(0)),
            load(R2, own.mode.u8(3)),
            jeq(R2, 0, none),
            rem(R1.low(), R2.low()),
            add(R1, Own::TRY),
            rem(R1.low(), R2.low()),
            load(R2, own.mode.u8(2)),
            add(R1, R2),
            store(index.u32(0), R1),
            map_lookup_elem(&SOURCES, index),
            jeq(R0, 0, none),
            copy(
                Own::FLOW.to(self.fields.saddr),
                R0.at(0),
                self.address(),
                R1
            ),
        ]
    }

    /// The port for this try: the client's own first, if the kernel does not give such ports to
    /// others. Then any, or where they are few, each of them in turn. Clobbers R0 to R5.
    fn next_port(&self, own: &Own) -> Code {
        let port = Own::FLOW.to(self.fields.ports).u16(0);
        let ports = &self.context.shape.source_ports;
        let (first, last) = (i32::from(*ports.start()), i32::from(*ports.end()));
        let count = last - first + 1;
        let (draw, done) = (label("draw"), label("done"));
        code![
            jne(Own::TRY, 0, draw),
            load(R1, Own::KEY.u16(2 * self.address())),
            to_be16(R1),
            jlt(R1, first, draw),
            jle(R1, last, done),
            bind(draw),
            match count <= TRIES {
                true => code![
                    load(R2, own.mode.u8(3)),
                    mov(R1, Own::TRY),
                    div(R1.low(), R2.low()),
                ],
                false => code![get_prandom_u32(), mov(W1, W0)],
            },
            rem(R1.low(), count),
            add(R1, first),
            to_be16(R1),
            store(port, R1),
            bind(done),
        ]
    }
}
