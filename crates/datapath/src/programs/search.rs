//! Looking for a key in a table of flows.

use super::table::{EACH, Layout, tag_of};
use crate::layout::Tag;
use bpfsmith_asm::dsl::*;

/// What a search does with the entry that it finds: nothing.
pub(super) const FIND: i32 = 0;
/// It does not make room for others any more.
pub(super) const KEEP: i32 = 1;
/// It is gone.
pub(super) const ERASE: i32 = 2;

impl Layout {
    /// A function: the place of the key that it is given, more by one, or 0. The lower three bits are the
    /// place in its bucket, those above it the bucket. Its second argument says what becomes of the entry.
    pub(super) fn search(&self) -> Func {
        const KEY: Reg = R6;
        const MIXED: Reg = R7;
        const BUCKET: Reg = R8;
        const TAG: Reg = R9;
        let none = label("none");
        let (number, then) = (slot::<u32>("number"), slot::<u32>("then"));
        let found = label("found");
        let look = || {
            code![
                store(number.u32(0), BUCKET),
                self.bucket(number, none),
                (0..EACH).map(|place| {
                    code![
                        load(R5, R0.u32(4 * place)),
                        rsh(R5.low(), Tag::HASH.cast_signed()),
                        R5.eq(TAG).then(self.is_key_at(KEY.at(0), R0, place, found)),
                    ]
                }),
            ]
        };
        let params = [Param::Bytes(self.key()), Param::Number];
        func("search").global(params).body(code![
            jeq(R1, 0, none),
            store(then.u32(0), R2),
            mov(KEY, R1),
            self.hash(KEY.at(0), BUCKET, MIXED, [R2, R3]),
            mov(BUCKET.low(), MIXED.low()),
            self.share(BUCKET),
            mov(TAG, MIXED),
            tag_of(TAG),
            look(),
            self.second(BUCKET, MIXED, R2),
            look(),
            bind(none),
            ret(0),
            bind(found),
            self.found(then, none),
        ])
    }

    /// The search ends at the place R3 of the bucket R0. Clobbers everything.
    fn found(&self, then: Slot, none: Label) -> Code {
        let (bucket, place, tag) = (R8, R3, R4);
        let (done, erase, change) = (label("done"), label("erase"), label("change"));
        code![
            load(R2, then.u32(0)),
            jeq(R2, FIND, done),
            Self::part(tag, R0, place, 4, 0),
            load(R0, tag.u32(0)),
            // It is still the one that was compared, and what is changed is what was looked at.
            mov(R5, R0),
            rsh(R5.low(), Tag::HASH.cast_signed()),
            jne(R5, R9, none),
            mov(R5, R0),
            jeq(R2, ERASE, erase),
            and(R5.low(), !Tag::SOFT),
            ja(change),
            bind(erase),
            mov(R5, 0),
            bind(change),
            mov(R1, R0),
            cmpxchg(tag.u32(0), R5),
            jne(R0, R1, none),
            bind(done),
            mov(R0, bucket),
            lsh(R0, 3),
            or(R0, place),
            add(R0, 1),
            exit(),
        ]
    }

    /// Jumps to `found` with the place in R3 if the key at that place of a bucket is this one. Clobbers
    /// R4 and R5.
    fn is_key_at(&self, key: Place, bucket: Reg, place: i32, found: Label) -> Code {
        let both = self.both();
        let other = label("other");
        code![
            load(R4, bucket.u32(self.ports() + 4 * place)),
            load(R5, key.u32(both)),
            jne(R4, R5, other),
            (0..both / 8).map(|n| code![
                load(R4, bucket.u64(self.addresses() + both * place + 8 * n)),
                load(R5, key.u64(8 * n)),
                jne(R4, R5, other),
            ]),
            mov(R3, place),
            ja(found),
            bind(other),
        ]
    }
}
