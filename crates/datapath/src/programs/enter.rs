//! Entering a key into a table of flows.

use super::lane::copy;
use super::table::{EACH, Layout, PLACE_SHIFT, tag_of};
use crate::layout::Tag;
use crate::shape::Shape;
use bpfsmith_asm::dsl::*;

/// A key that is there already, or is being entered by somebody else.
pub(super) const THERE: i32 = 1;
/// No place is left for a key.
pub(super) const NO_ROOM: i32 = 2;

/// The key that is entered.
const KEY: Reg = R6;
/// What its tag has above the lower bits.
const TAG: Reg = R7;
/// Its buckets.
const FIRST: Reg = R8;
const SECOND: Reg = R9;

impl Layout {
    /// A function: enters a key and its flow, as a soft entry. Answers 0, [`THERE`] or [`NO_ROOM`].
    pub(super) fn enter(&self, shape: &Shape, made_room: Code) -> Func {
        let work = Work::new();
        let (there, no_room) = (label("there"), label("no_room"));
        let (crowded, chosen) = (label("crowded"), label("chosen"));
        let number = slot::<u32>("number");
        func("enter")
            .global([
                Param::Bytes(self.key()),
                Param::Bytes(self.flow().unsigned_abs()),
            ])
            .body(code![
                jeq(R1, 0, no_room),
                jeq(R2, 0, no_room),
                mov(KEY, R1),
                store(work.flow.u64(0), R2),
                self.hash(KEY.at(0), FIRST, TAG, [R2, R3]),
                mov(FIRST.low(), TAG.low()),
                self.share(FIRST),
                store(number.u32(0), FIRST),
                mov(SECOND, FIRST),
                self.second(SECOND, TAG, R2),
                self.bucket(number, no_room),
                mov(FIRST, R0),
                store(number.u32(0), SECOND),
                self.bucket(number, no_room),
                mov(SECOND, R0),
                mov(R1, TAG),
                rsh(R1, PLACE_SHIFT),
                store(work.begin.u32(0), R1),
                tag_of(TAG),
                self.ask(&work),
                jiffies64(),
                // Sixteenths of what is called a tick elsewhere.
                rsh(R0, shape.clock.shift() - 4),
                and(R0, Tag::TIME.cast_signed()),
                store(work.now.u32(0), R0),
                self.near(&work, crowded, chosen),
                bind(crowded),
                self.choose(&work, there, no_room),
                bind(chosen),
                self.claim(&work, there),
                self.alone(&work, there),
                self.write(&work),
                load(R1, work.seen.u32(0)),
                R1.ne(0).then(made_room),
                ret(0),
                bind(there),
                ret(THERE),
                bind(no_room),
                ret(NO_ROOM),
            ])
    }

    /// Reads a word of each line that will most likely be read or written: where these are far, they are
    /// on their way all at once, and not one after the other. Clobbers R1 to R3.
    fn ask(&self, work: &Work) -> Code {
        let part = |bytes: i32, first: i32| {
            code![
                Self::part(R3, FIRST, R2, bytes, first),
                load(R1, R3.u32(0)),
            ]
        };
        code![
            load(R1, FIRST.u32(0)),
            load(R1, SECOND.u32(0)),
            load(R2, work.begin.u32(0)),
            and(R2, 7),
            part(self.both(), self.addresses()),
            part(self.flow(), self.flows()),
        ]
    }

    /// The body for each tag of both buckets, in R1, and its number: 0 to 7 are those of the first.
    fn tags(body: impl Fn(i32) -> Code) -> Code {
        code![(0..2 * EACH).map(|number| {
            let bucket = if number < EACH { FIRST } else { SECOND };
            code![
                load(R1, bucket.u32(4 * (number % EACH))),
                body(number),
            ]
        })]
    }

    /// Jumps to `chosen` if no entry may have the key, by its hash, and where a search begins a place is
    /// free, as most often; else to `crowded`.
    fn near(&self, work: &Work, crowded: Label, chosen: Label) -> Code {
        let place = |bucket: Reg, number: i32| {
            code![
                Self::part(R3, bucket, R2, 4, 0),
                load(R0, R3.u32(0)),
                mov(R1, R5),
                add(R1, 2 * EACH - 1 - number),
                store(work.best.u32(0), R1),
                jeq(R0, 0, chosen),
            ]
        };
        code![
            Self::tags(|_| code![
                rsh(R1.low(), Tag::HASH.cast_signed()),
                jeq(R1, TAG, crowded),
            ]),
            unknown_zero(R5, R4),
            load(R2, work.begin.u32(0)),
            and(R2, 7),
            place(FIRST, 0),
            place(SECOND, EACH),
        ]
    }

    /// The body for each place of both buckets, in the order of a search: with its bucket in R0, its
    /// number there in R2, the address of its tag in R3 and the tag in R4. It clobbers R3 to R5; R1 counts.
    fn each(&self, work: &Work, body: Code) -> Code {
        code![repeat(R1, 0..2 * EACH).body(code![
            self.place(work),
            load(R4, R3.u32(0)),
            body,
        ])]
    }

    /// The place that is number R1 in the order of a search: its bucket in R0, its number there in R2,
    /// the address of its tag in R3.
    fn place(&self, work: &Work) -> Code {
        code![
            mov(R0, FIRST),
            R1.ge(EACH).then(mov(R0, SECOND)),
            load(R2, work.begin.u32(0)),
            add(R2, R1),
            and(R2, 7),
            Self::part(R3, R0, R2, 4, 0),
        ]
    }

    /// `best` becomes the best place: the nearest that is free, or else the one of the oldest soft entry.
    ///
    /// What is compared is made without jumps, and of a number that the verifier does not know: it would
    /// follow each way on which some place may be the best so far.
    fn choose(&self, work: &Work, there: Label, no_room: Label) -> Code {
        /// Better than any age, wherever it is.
        const FREE: i32 = Tag::TIME.cast_signed() + 2;
        let soft = Tag::USED | Tag::SOFT;
        let (other, worth, next) = (label("other"), label("worth"), label("next"));
        code![
            unknown_zero(R5, R4),
            store(work.best.u32(0), R5),
            self.each(
                work,
                code![
                    mov(R5, R4),
                    rsh(R5.low(), Tag::HASH.cast_signed()),
                    jne(R5, TAG, other),
                    self.is_key(KEY.at(0), [R0, R2], [R3, R5], other),
                    ja(there),
                    bind(other),
                    // The nearer to where a search begins, the better; of equals, the first bucket.
                    mov(R5, FREE + 2 * EACH),
                    sub(R5, R1),
                    sub(R5, R1),
                    R1.ge(EACH).then(add(R5, 2 * EACH - 1)),
                    jeq(R4, 0, worth),
                    mov(R5, R4),
                    and(R5.low(), soft),
                    mov(W3, soft),
                    jne(R5, R3, next),
                    load(R5, work.now.u32(0)),
                    sub(R5, R4),
                    and(R5, Tag::TIME.cast_signed()),
                    add(R5, 1),
                    bind(worth),
                    // Of equals, the first.
                    lsh(R5, 4),
                    add(R5, 15),
                    sub(R5, R1),
                    load(R3, work.best.u32(0)),
                    greater(R3, R5, R4),
                    add(R3, R5),
                    store(work.best.u32(0), R3),
                    bind(next),
                ]
            ),
            load(R1, work.best.u32(0)),
            jlt(R1, 16, no_room),
        ]
    }

    /// The best place is this key's, unless somebody else was faster.
    fn claim(&self, work: &Work, there: Label) -> Code {
        let (soft, free) = (Tag::USED | Tag::SOFT, label("free"));
        code![
            self.best(work),
            load(R0, R3.u32(0)),
            store(work.seen.u32(0), R0),
            jeq(R0, 0, free),
            mov(R5, R0),
            and(R5.low(), soft),
            mov(W4, soft),
            jne(R5, R4, there),
            bind(free),
            mov(R4, TAG),
            lsh(R4, Tag::HASH.cast_signed()),
            and(R4.low(), !Tag::USED),
            or(R4, Tag::SOFT.cast_signed()),
            mov(R5, R0),
            cmpxchg(R3.u32(0), R4),
            jne(R0, R5, there),
        ]
    }

    /// The best place, as [`place`](Layout::place) has it. Clobbers R1.
    fn best(&self, work: &Work) -> Code {
        code![
            load(R2, work.best.u32(0)),
            and(R2, 15),
            mov(R1, 15),
            sub(R1, R2),
            self.place(work),
        ]
    }

    /// Goes on if nobody else has the key or is about to; else the place is free again.
    fn alone(&self, work: &Work, there: Label) -> Code {
        let (like, go_on, give_up) = (label("like"), label("go_on"), label("give_up"));
        code![
            self.only(work, like, go_on),
            bind(like),
            self.count_like(work, give_up),
            // This very place is one.
            load(R5, work.held.u32(0)),
            jle(R5, 1, go_on),
            bind(give_up),
            self.best(work),
            mov(R4, 0),
            xchg(R3.u32(0), R4),
            ja(there),
            bind(go_on),
        ]
    }

    /// Jumps to `only` if no other entry's hash is this one's; else to `like`.
    fn only(&self, work: &Work, like: Label, only: Label) -> Code {
        let own = R2;
        code![
            self.best(work),
            R0.eq(SECOND).then(add(own, EACH)),
            Self::tags(|number| code![
                rsh(R1.low(), Tag::HASH.cast_signed()),
                // One that is being written is like one that is there.
                or(R1, 1 << Tag::HASH_BITS),
                R1.eq(TAG).then(jne(own, number, like)),
            ]),
            ja(only),
        ]
    }

    /// Jumps to `there` if another entry has the key; counts those of this hash that are being written.
    fn count_like(&self, work: &Work, there: Label) -> Code {
        let next = label("next");
        code![
            unknown_zero(R5, R4),
            store(work.held.u32(0), R5),
            self.each(
                work,
                code![
                    mov(R5, R4),
                    rsh(R5.low(), Tag::HASH.cast_signed()),
                    R5.eq(TAG).then(code![
                        self.is_key(KEY.at(0), [R0, R2], [R3, R5], next),
                        ja(there),
                    ]),
                    // One that is being written has no key yet.
                    or(R5, 1 << Tag::HASH_BITS),
                    jne(R5, TAG, next),
                    load(R5, work.held.u32(0)),
                    add(R5, 1),
                    store(work.held.u32(0), R5),
                    bind(next),
                ]
            ),
        ]
    }

    /// Writes the entry, which is there when its tag is.
    fn write(&self, work: &Work) -> Code {
        let both = self.both();
        code![
            self.best(work),
            load(R5, KEY.u32(both)),
            store(R3.u32(self.ports()), R5),
            Self::part(R4, R0, R2, both, self.addresses()),
            copy(R4.at(0), KEY.at(0), both, R5),
            Self::part(R4, R0, R2, self.flow(), self.flows()),
            load(R1, work.flow.u64(0)),
            copy(R4.at(0), R1.at(0), self.flow(), R5),
            mov(R4, TAG),
            lsh(R4, Tag::HASH.cast_signed()),
            or(R4, Tag::SOFT.cast_signed()),
            load(R5, work.now.u32(0)),
            or(R4, R5),
            xchg(R3.u32(0), R4),
        ]
    }
}

/// `to` becomes 0, but so that the verifier does not know it. Clobbers tmp.
fn unknown_zero(to: Reg, tmp: Reg) -> [Insn; 3] {
    [
        load(to, KEY.u32(0)),
        load(tmp, KEY.u32(0)),
        xor(to, tmp),
    ]
}

/// `to` becomes the greater one of two numbers below 2^31, without a jump. Clobbers other and tmp.
fn greater(to: Reg, other: Reg, tmp: Reg) -> [Insn; 5] {
    // The difference, if it is below zero, is taken away again.
    [
        sub(to, other),
        mov(tmp, to),
        arsh(tmp, 63),
        xor(tmp, -1),
        and(to, tmp),
    ]
}

/// What is kept on the stack while an entry is made.
struct Work {
    /// The flow.
    flow: Slot,
    /// The place where the search begins.
    begin: Slot,
    /// The present time, as tags have it.
    now: Slot,
    /// The best place so far: how good it is, and below that 15 less its number.
    best: Slot,
    /// The tag that it had.
    seen: Slot,
    /// How many places are being written for keys of the same hash.
    held: Slot,
}

impl Work {
    fn new() -> Work {
        let word = slot::<u32>;
        Work {
            flow: slot::<u64>("value"),
            begin: word("begin"),
            now: word("now"),
            best: word("best"),
            seen: word("seen"),
            held: word("held"),
        }
    }
}
