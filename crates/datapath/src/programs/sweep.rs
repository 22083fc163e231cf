//! Flows that nobody uses any more are forgotten, by the kernel alone.
//!
//! A timer looks at a small part of each table at a time, so that after a round it has looked at all of
//! them, and takes out flows that were idle for too long in both directions. What one time costs is bounded,
//! an empty bucket costs next to nothing, and user space has no part in it.
//!
//! Who takes a flow out says so first ([`Word::OUTSIDE`]): a packet and the timer never take out the
//! same one.

use super::close::APART;
use super::event::{Back, Told};
use super::lane::Lane;
use super::table::{EACH, Layout};
use super::tuple::{is_partner, partner};
use super::{Context, FLOW, Hook, Usual};
use crate::clock::LONGEST;
use crate::config::Protocol;
use crate::event::{End, Kind};
use crate::layout::{ANSWER, Backend, ENDED, SWEEP_PARTS, Sweeper, Word};
use crate::shape::{BACKEND_TABLE, SWEEPER, SWEPT, Shape};
use bpfsmith_asm::dsl::*;
use bpfsmith_asm::report::Report;
use bpfsmith_uapi::{Errno, record};
use std::time::Duration;

record! {
    /// What one time of the timer knows and counts.
    #[derive(Clone, Copy, Debug, Default)]
    struct Tally {
        /// When it began, in nanoseconds.
        began: u64,
        /// Flows looked at.
        visited: u64,
        /// Flows taken out.
        removed: u64,
        /// Which part of the tables it looks at.
        part: u64,
        /// The first bucket of that.
        first: u64,
        /// When these buckets were looked at before, in the kernel's ticks.
        before: u64,
    }
}

/// `CLOCK_MONOTONIC`
const MONOTONIC: i32 = 1;

/// The program that starts the timer, when it is run once, on whatever packet: returns 0 or what the kernel answers
/// where it refuses. If the timer runs already, it does from now on what this program says.
///
/// # Errors
/// If the checker finds anything wrong with it.
pub fn sweep(shape: &Shape) -> Result<Program, Report> {
    let context = Context::new(Hook::Xdp, Usual::Device, shape);
    let (key, made, refused) = (slot::<u32>("key"), label("made"), label("refused"));
    let tick = tick(&context);
    // It was the generation before that made it.
    let is_there = Errno::EBUSY.0.wrapping_neg();
    let code = code![
        store(key.u32(0), 0),
        map_lookup_elem(&SWEEPER, key),
        R0.eq(0).then(ret(1)),
        mov(R6, R0),
        timer_init(R6, &SWEEPER, MONOTONIC),
        jeq(R0, 0, made),
        jne(R0, is_there, refused),
        bind(made),
        timer_set_callback(R6, &tick),
        jne(R0, 0, refused),
        timer_start(R6, 0, 0),
        bind(refused),
        exit(),
    ];
    Program::new(ProgType::XDP, "proxy_sweep", code)
}

/// How long the timer sleeps: as long as a part has of a round, but no less than a millisecond.
fn pause(round: Duration) -> Duration {
    (round / SWEEP_PARTS).clamp(Duration::from_millis(1), Duration::from_millis(100))
}

/// How many parts are looked at in one time.
fn parts(round: Duration) -> u32 {
    let all = pause(round).as_nanos() * u128::from(SWEEP_PARTS);
    let parts = all.div_ceil(round.as_nanos().max(1));
    u32::try_from(parts)
        .unwrap_or(SWEEP_PARTS)
        .clamp(1, SWEEP_PARTS)
}

/// What the timer does.
fn tick(context: &Context<'_>) -> Func {
    let round = context.shape.timeouts.round;
    let nanos = i32::try_from(pause(round).as_nanos()).unwrap_or(i32::MAX);
    let parts = parts(round).cast_signed();
    let last = SWEEP_PARTS.cast_signed();
    let tally = slot::<Tally>("tally");
    let more = |field: Field, by: Mem| {
        [
            load(R1, R6.get(field)),
            load(R2, by),
            add(R1, R2),
            store(R6.get(field), R1),
        ]
    };
    let tables = context.shape.paths.iter();
    let tables = tables.map(|path| looks(&Lane::new(context, *path), tally, parts));
    func("tick").body(code![
        mov(R6, R3),
        ktime_get_ns(),
        store(tally.get(Tally::began), R0),
        store(tally.get(Tally::visited), 0),
        store(tally.get(Tally::removed), 0),
        load(R1, R6.get(Sweeper::part)),
        R1.ge(last).then(mov(R1, 0)),
        store(tally.get(Tally::part), R1),
        tables,
        load(R1, tally.get(Tally::part)),
        add(R1, parts),
        store(R6.get(Sweeper::part), R1),
        load(R1, R6.get(Sweeper::ticks)),
        add(R1, 1),
        store(R6.get(Sweeper::ticks), R1),
        more(Sweeper::visited, tally.get(Tally::visited)),
        more(Sweeper::removed, tally.get(Tally::removed)),
        ktime_get_ns(),
        load(R1, tally.get(Tally::began)),
        sub(R0, R1),
        load(R1, R6.get(Sweeper::spent)),
        add(R1, R0),
        store(R6.get(Sweeper::spent), R1),
        load(R1, R6.get(Sweeper::longest)),
        R0.gt(R1).then(store(R6.get(Sweeper::longest), R0)),
        timer_start(R6, nanos, 0),
        ret(0),
    ])
}

/// Looks at as many parts of a table, from the tally's on. Clobbers R0 to R5, R7.
fn looks(lane: &Lane<'_>, tally: Slot, parts: i32) -> Code {
    let index = slot::<u32>("index");
    let (unknown, last) = (label("unknown"), SWEEP_PARTS.cast_signed());
    let buckets = lane.layout().buckets().cast_signed();
    // The first bucket of a part.
    let first = |part: Reg| {
        code![
            mul(part, buckets),
            rsh(part, SWEEP_PARTS.ilog2().cast_signed())
        ]
    };
    code![
        load(R7, tally.get(Tally::part)),
        mov(R1, R7),
        add(R1, lane.path.number().cast_signed() * last),
        store(index.u32(0), R1),
        jiffies64(),
        store(tally.get(Tally::before), R0),
        map_lookup_elem(&SWEPT, index),
        jeq(R0, 0, unknown),
        load(R2, tally.get(Tally::before)),
        load(R1, R0.u32(0)),
        store(R0.u32(0), R2),
        R1.ne(0).then(store(tally.get(Tally::before), R1)),
        bind(unknown),
        mov(R1, R7),
        add(R1, parts),
        R1.gt(last).then(mov(R1, last)),
        first(R1),
        first(R7),
        store(tally.get(Tally::first), R7),
        sub(R1, R7),
        mul(R1, EACH),
        R1.gt(0).then(r#loop(R1, &visit(lane), tally, 0)),
    ]
}

/// Looks at a place of the tally's buckets. The verifier does not know which of a bucket it is, and so looks
/// at all of this once.
fn visit(lane: &Lane<'_>) -> Func {
    const TALLY: Reg = R6;
    const BUCKET: Reg = R7;
    const PLACE: Reg = R8;
    let layout = lane.layout();
    let (number, seen) = (slot::<u32>("number"), slot::<u64>("tag"));
    let (none, look) = (label("none"), label("look"));
    // Goes on if the entry is still the one that was looked at.
    let still = code![
        Layout::part(R1, BUCKET, PLACE, 4, 0),
        load(R1, R1.u32(0)),
        load(R2, seen.u64(0)),
        jne(R1, R2, none),
    ];
    func("visit").body(code![
        mov(TALLY, R2),
        mov(PLACE, R1),
        and(PLACE, EACH - 1),
        rsh(R1, EACH.ilog2().cast_signed()),
        load(R2, TALLY.get(Tally::first)),
        add(R1, R2),
        store(number.u32(0), R1),
        layout.bucket(number, none),
        mov(BUCKET, R0),
        Layout::part(R1, BUCKET, PLACE, 4, 0),
        load(R1, R1.u32(0)),
        store(seen.u64(0), R1),
        jslt(W1, 0, look),
        ret(0),
        bind(look),
        mov(FLOW, PLACE),
        layout.flow_at(FLOW, BUCKET),
        layout.read_key(lane.key, [BUCKET, PLACE], [R1, R2]),
        lane.look_after(&still, none),
        bind(none),
        ret(0),
    ])
}

/// R1 becomes why a flow with these bits is taken out. Clobbers R2.
pub(super) fn why(word: Reg) -> Code {
    let both = Word::FIN | Word::FIN_ANSWER;
    code![
        mov(R1, i32::from(End::Idle.number())),
        mov(R2, word),
        and(R2, both),
        R2.eq(both).then(mov(R1, i32::from(End::Closed.number()))),
        word.has(Word::RESET)
            .then(mov(R1, i32::from(End::Reset.number()))),
    ]
}

impl Lane<'_> {
    /// Looks after the entry at FLOW, whose packets arrive as `key` says; `still` jumps away if it is gone.
    /// Jumps to `next` or falls through when there is no more to do. R6 is the tally. Clobbers R0 to R5.
    fn look_after(&self, still: &Code, next: Label) -> Code {
        let (back, other) = (slot::<u64>("back"), self.context.other);
        let state = slot::<u32>("state");
        let (answers, idle, alive, both, lone) = (
            label("answers"),
            label("idle"),
            label("alive"),
            label("both"),
            label("lone"),
        );
        code![
            // Before any stamp: packets that change it say before that they came.
            load(R1, FLOW.get(self.fields.word)),
            store(state.u32(0), R1),
            load(R1, FLOW.get(self.fields.tag)),
            jset(R1, i32::from(ANSWER), answers),
            one_more(Tally::visited),
            self.is_idle(FLOW, state, idle),
            self.is_deserted(other, back, both),
            bind(alive),
            self.lives(other, back),
            ja(next),
            bind(idle),
            self.back(other, back),
            jeq(R0, 0, both),
            self.is_idle(R0, state, both),
            self.ages(),
            ja(alive),
            bind(both),
            self.take_away(other, back, next),
            ja(next),
            // Answers go with their flow, unless that is gone.
            bind(answers),
            self.is_idle(FLOW, state, lone),
            ja(next),
            bind(lone),
            self.ages(),
            self.take_orphan(still, other, next),
        ]
    }

    /// Jumps to `gone` if the flow at FLOW is over although packets come: somebody has ended those of its backend. Or
    /// its client asks on and on, but its backend, which is in no group any more, answers no more: only of UDP, where that
    /// tells nobody. R0 and `back` are then its answers or 0. Clobbers R0 to R5.
    fn is_deserted(&self, other: Slot, back: Slot, gone: Label) -> Code {
        let (backend, stays) = (slot::<u32>("backend"), label("stays"));
        let shape = self.context.shape;
        code![
            load(R1, FLOW.get(self.fields.tag)),
            store(backend.u32(0), R1),
            map_lookup_elem(&BACKEND_TABLE, backend),
            jeq(R0, 0, stays),
            load(R1, R0.get(Backend::is_gone)),
            jeq(R1, 0, stays),
            R1.eq(i32::from(ENDED))
                .then(code![self.back(other, back), ja(gone)]),
            (self.path.protocol == Protocol::Udp).then(|| code![
                load(R1, FLOW.get(self.fields.word)),
                jset(R1, Word::HALF, stays),
                self.back(other, back),
                jeq(R0, 0, gone),
                self.is_older(R0, shape.clock.ticks(shape.timeouts.unanswered), gone),
            ]),
            bind(stays),
        ]
    }

    /// Takes the flow at FLOW out, with its answers in `back`. Clobbers R0 to R5.
    fn take_away(&self, other: Slot, back: Slot, next: Label) -> Code {
        let (ours, counted) = (label("ours"), label("counted"));
        let word = FLOW.get(self.fields.word);
        code![
            self.keep(self.key),
            jne(R0, FLOW, next),
            mov(R1, Word::OUTSIDE),
            fetch_or(word, R1),
            // A packet takes it out just now, unless it was so a round ago.
            R1.has(Word::OUTSIDE).then(code![
                mov(R2, Word::LEFT),
                fetch_or(word, R2),
                and(R2, Word::LEFT),
                jeq(R2, 0, next),
                ja(ours),
            ]),
            jset(R1, APART, counted),
            self.count_out(FLOW.at(0)),
            bind(counted),
            addr(R1, self.key),
            self.is_its(next),
            bind(ours),
            one_more(Tally::removed),
            self.tell_end(self.key, back),
            // Answers first: as long as one direction is there, nobody gets its tuple.
            load(R1, back.u64(0)),
            R1.ne(0).then(self.erase(other)),
            self.erase(self.key),
        ]
    }

    /// Takes answers out whose flow is gone, or never had any. Clobbers R0 to R5.
    fn take_orphan(&self, still: &Code, other: Slot, next: Label) -> Code {
        let orphan = label("orphan");
        let word = self.fields.word;
        code![
            partner(self, other, FLOW.at(0)),
            self.find(other),
            jeq(R0, 0, orphan),
            is_partner(self, R0, self.key, orphan),
            load(R1, R0.get(word)),
            jset(R1, Word::HALF, next),
            load(R1, FLOW.get(word)),
            and(R1, Word::HALF),
            jeq(R1, 0, next),
            bind(orphan),
            still.clone(),
            self.erase(self.key),
        ]
    }

    /// R0 and `back` become the answers of the flow at FLOW, or 0; `other` how they arrive. Clobbers R1 to
    /// R5.
    fn back(&self, other: Slot, back: Slot) -> Code {
        let (foreign, known) = (label("foreign"), label("known"));
        code![
            partner(self, other, FLOW.at(0)),
            self.find(other),
            jeq(R0, 0, known),
            is_partner(self, R0, self.key, foreign),
            ja(known),
            bind(foreign),
            mov(R0, 0),
            bind(known),
            store(back.u64(0), R0),
        ]
    }

    /// Jumps to `idle` if the last packet of the direction at `flow` came longer ago than `state`, which was read before,
    /// allows the flow at FLOW. Clobbers R0 to R5.
    fn is_idle(&self, flow: Reg, state: Slot, idle: Label) -> Code {
        let timeouts = self.context.shape.timeouts;
        let ticks = |time| self.context.shape.clock.ticks(time);
        let both = Word::FIN | Word::FIN_ANSWER;
        code![
            self.age(flow),
            load(R1, state.u32(0)),
            match self.path.protocol {
                Protocol::Udp => code![mov(R2, ticks(timeouts.udp))],
                Protocol::Tcp => code![
                    mov(R2, ticks(timeouts.established)),
                    R1.has(both).then(mov(R2, ticks(timeouts.half_closed))),
                    // A reset may be anybody's: what lived long is remembered as long again.
                    R1.has(Word::RESET).then(code![
                        load(R2, FLOW.get(self.fields.seen)),
                        load(R3, FLOW.get(self.fields.born)),
                        sub(W2, W3),
                        R2.lt(ticks(timeouts.closed))
                            .then(mov(R2, ticks(timeouts.closed))),
                        R2.gt(ticks(timeouts.half_closed))
                            .then(mov(R2, ticks(timeouts.half_closed))),
                    ]),
                    mov(R3, R1),
                    and(R3, both),
                    R3.eq(both).then(mov(R2, ticks(timeouts.closed))),
                ],
            },
            R1.has(Word::HALF).then(mov(R2, ticks(timeouts.unanswered))),
            jsgt(W0, W2, idle),
        ]
    }

    /// A direction that is silent while the other one is not gets no older than any timeout: its stamp, of so many bits,
    /// would come from the future some day, and the flow not end with the other direction. FLOW is that one.
    /// Clobbers R0 to R3.
    fn ages(&self) -> Code {
        let (seen, young) = (FLOW.get(self.fields.seen), label("young"));
        code![
            jiffies64(),
            mov(R1, R0),
            sub(R1, LONGEST + 1),
            load(R0, seen),
            mov(R2, R1),
            sub(W2, W0),
            jsle(W2, 0, young),
            // A packet may come just now.
            cmpxchg(seen, R1),
            bind(young),
        ]
    }

    /// Tells that the flow at FLOW lives, if a whole number of times has passed since it began that it was
    /// not looked at. Clobbers R0 to R5.
    fn lives(&self, other: Slot, back: Slot) -> Code {
        let Some(events) = self.context.shape.events else {
            return code![];
        };
        let every = self.context.shape.clock.ticks(events.every);
        let early = label("early");
        code![
            load(R1, FLOW.get(self.fields.word)),
            jset(R1, Word::HALF, early),
            jiffies64(),
            load(R1, FLOW.get(self.fields.born)),
            load(R2, R6.get(Tally::before)),
            sub(W0, W1),
            sub(W2, W1),
            jslt(W0, 0, early),
            W2.slt(0).then(mov(R2, 0)),
            div(W0, every),
            div(W2, every),
            jeq(R0, R2, early),
            self.back(other, back),
            self.tell(Told {
                kind: Kind::Periodic,
                why: code![mov(R1, 0)],
                key: self.key,
                flow: Some(FLOW.at(0)),
                back: Back::Kept(back),
            }),
            bind(early),
        ]
    }
}

/// The tally at R6 has one more. Clobbers R1.
fn one_more(field: Field) -> [Insn; 3] {
    [
        load(R1, R6.get(field)),
        add(R1, 1),
        store(R6.get(field), R1),
    ]
}

#[cfg(test)]
mod tests {
    use super::{SWEEP_PARTS, parts, pause};
    use std::time::Duration;

    #[test]
    fn all_parts_are_looked_at_in_a_round() {
        for millis in [0, 1, 200, 1000, 8000, 3_600_000] {
            let round = Duration::from_millis(millis);
            let times = SWEEP_PARTS.div_ceil(parts(round));
            let takes = pause(round) * times;
            let longest = round.max(Duration::from_millis(1)).mul_f64(1.1);
            assert!(
                takes <= longest || parts(round) == 1,
                "{round:?}: {takes:?}"
            );
            assert!(parts(round) <= SWEEP_PARTS);
        }
    }
}
