//! The tables of flows, as programs use them.
//!
//! A table is an array of buckets ([`Bucket4`](crate::layout::Bucket4)) with room for eight entries each. Its
//! key's hash gives an entry two buckets, a place in them where the search begins, and 20 bits that are
//! compared before the key is: so a packet of a known flow looks at two lines of the cache that lie side by
//! side, and at the one of its flow. The hash is a sum of products with numbers that nobody knows outside:
//! whoever chooses keys cannot choose buckets.
//!
//! There is no lock. An entry belongs to who turns its tag from 0 into one that is not
//! [used](Tag::USED) yet; it is written, and appears with the change of one word. Who enters a key looks at
//! all that was there once more after having taken a place: of two that enter one key at the same time,
//! one at least sees the other, and gives up.
//!
//! An entry whose flow is not established yet is *soft*: where both buckets are full, the oldest soft one makes room.

use super::FLOW;
use super::lane::{Lane, copy};
use super::search::{ERASE, FIND, KEEP};
use crate::config::Family;
use crate::layout::{BUCKET4, BUCKET6, BucketFields, Flow4, Flow6, Secret, Tag};
use crate::shape::{Path, SECRET, Shape};
use bpfsmith_asm::dsl::*;

/// Places of a bucket: so many tags there are in front of what follows them.
pub(super) const EACH: i32 = BUCKET4.ports.offset as i32 / 4;

/// The table of one family and protocol.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) path: Path,
    search: Func,
    enter: Func,
}

impl Table {
    pub(super) fn new(path: Path, shape: &Shape, made_room: Code) -> Table {
        let layout = Layout::of(path, shape);
        Table {
            path,
            search: layout.search(),
            enter: layout.enter(shape, made_room),
        }
    }
}

/// Where things are in a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    shape: MapShape,
    family: Family,
    fields: BucketFields,
}

impl Layout {
    pub(super) const fn of(path: Path, shape: &Shape) -> Layout {
        Layout {
            shape: path.flows(shape.room),
            family: path.family,
            fields: match path.family {
                Family::V4 => BUCKET4,
                Family::V6 => BUCKET6,
            },
        }
    }

    /// Bytes of both addresses of a key.
    pub(super) const fn both(&self) -> i32 {
        match self.family {
            Family::V4 => 8,
            Family::V6 => 32,
        }
    }

    /// Bytes of a flow.
    pub(super) const fn flow(&self) -> i32 {
        match self.family {
            Family::V4 => Flow4::word.offset as i32 + 4,
            Family::V6 => Flow6::word.offset as i32 + 4,
        }
    }

    /// Bytes of a key.
    pub(super) const fn key(&self) -> u32 {
        (self.both() + 4).unsigned_abs()
    }

    /// How many buckets there are.
    pub(super) const fn buckets(&self) -> u32 {
        self.shape.entries
    }

    /// Where the ports of a bucket's keys begin.
    pub(super) const fn ports(&self) -> i32 {
        self.fields.ports.offset as i32
    }

    /// Where the addresses of a bucket's keys begin.
    pub(super) const fn addresses(&self) -> i32 {
        self.fields.addresses.offset as i32
    }

    /// Where the flows of a bucket begin.
    pub(super) const fn flows(&self) -> i32 {
        self.fields.flows.offset as i32
    }

    /// `mixed` becomes the hash of the key, whose lower half gives the first bucket. Clobbers the others.
    ///
    /// Sums of products alone would not do: of keys that follow each other they are all the same distance
    /// apart, and with some secrets most would be in few buckets.
    pub(super) fn hash(&self, key: Place, sum: Reg, mixed: Reg, [secret, tmp]: [Reg; 2]) -> Code {
        let words = self.both() / 4 + 1;
        let number = |n: i32| secret.u64(8 * n);
        let last = i32::try_from(size_of::<Secret>()).unwrap_or_default() / 8 - 1;
        code![
            ld_map_value(secret, &SECRET, 0),
            load(sum, key.u32(0)),
            load(tmp, number(0)),
            mul(sum, tmp),
            (1..words).map(|n| [
                load(mixed, key.u32(4 * n)),
                load(tmp, number(n)),
                mul(mixed, tmp),
                add(sum, mixed),
            ]),
            mov(mixed, sum),
            rsh(mixed, 32),
            xor(mixed, sum),
            load(tmp, number(last)),
            mul(mixed, tmp),
        ]
    }

    /// A number of 32 bits becomes the number of a bucket.
    pub(super) fn share(&self, hash: Reg) -> [Insn; 2] {
        [
            mul(hash, self.shape.entries.cast_signed()),
            rsh(hash, 32),
        ]
    }

    /// The number of the first bucket becomes that of the second, which is another one. Clobbers tmp.
    pub(super) fn second(&self, bucket: Reg, mixed: Reg, tmp: Reg) -> Code {
        let buckets = self.shape.entries.cast_signed();
        code![
            mov(tmp, mixed),
            rsh(tmp, 9),
            mov(tmp.low(), tmp.low()),
            mul(tmp, buckets - 1),
            rsh(tmp, 32),
            add(bucket, 1),
            add(bucket, tmp),
            bucket.ge(buckets).then(sub(bucket, buckets)),
        ]
    }

    /// A bucket's number in a slot becomes its address in R0, or jumps to `none`, which does not happen.
    /// Clobbers R1 to R5.
    pub(super) fn bucket(&self, number: Slot, none: Label) -> Code {
        code![
            map_lookup_elem(&self.shape, number),
            jeq(R0, 0, none),
        ]
    }

    /// `to` becomes the address of what belongs to a place of a bucket; both are kept.
    pub(super) fn part(to: Reg, bucket: Reg, place: Reg, bytes: i32, first: i32) -> Code {
        code![
            mov(to, place),
            if bytes.count_ones() == 1 {
                lsh(to, bytes.ilog2().cast_signed())
            } else {
                mul(to, bytes)
            },
            add(to, bucket),
            (first != 0).then(|| add(to, first)),
        ]
    }

    /// Jumps to `other` unless the key at that place of the bucket is this one. `a` is the address of
    /// its tag. Clobbers a and b.
    pub(super) fn is_key(
        &self,
        key: Place,
        [bucket, place]: [Reg; 2],
        [a, b]: [Reg; 2],
        other: Label,
    ) -> Code {
        let both = self.both();
        code![
            load(a, a.u32(self.ports())),
            load(b, key.u32(both)),
            jne(a, b, other),
            (0..both / 8).map(|n| code![
                Self::part(a, bucket, place, both, 0),
                load(a, a.u64(self.addresses() + 8 * n)),
                load(b, key.u64(8 * n)),
                jne(a, b, other),
            ]),
        ]
    }

    /// The key at a place of a bucket is copied. Clobbers a and b.
    pub(super) fn read_key(&self, key: Slot, [bucket, place]: [Reg; 2], [a, b]: [Reg; 2]) -> Code {
        let both = self.both();
        code![
            Self::part(a, bucket, place, 4, 0),
            load(b, a.u32(self.ports())),
            store(key.u32(both), b),
            Self::part(a, bucket, place, both, 0),
            copy(key.at(0), a.at(self.addresses()), both, b),
        ]
    }

    /// A place of a bucket becomes the address of the flow there.
    pub(super) fn flow_at(&self, place: Reg, bucket: Reg) -> Code {
        Self::part(place, bucket, place, self.flow(), self.flows())
    }
}

/// Where the bits of the mixed hash begin that say where a search begins.
pub(super) const PLACE_SHIFT: i32 = 41;

/// The mixed hash becomes what a tag has above its lower bits.
pub(super) fn tag_of(mixed: Reg) -> [Insn; 2] {
    [
        rsh(mixed, 64 - Tag::HASH_BITS.cast_signed()),
        or(mixed, (1 << Tag::HASH_BITS) | 1),
    ]
}

impl Lane<'_> {
    /// FLOW becomes what there is to do with packets that arrive like this one; jumps to `miss` if there
    /// is no such flow. Most entries stand where the search begins: what is looked at first is in line,
    /// the rest is a call. Clobbers R0 to R5.
    pub(super) fn look(&self) -> Code {
        let layout = self.layout();
        let number = slot::<u32>("number");
        code![
            layout.hash(self.key.at(0), R4, FLOW, [R2, R3]),
            mov(R4.low(), FLOW.low()),
            layout.share(R4),
            store(number.u32(0), R4),
            layout.bucket(number, self.miss),
            mov(R2, FLOW),
            rsh(R2, PLACE_SHIFT),
            and(R2, 7),
            tag_of(FLOW),
            Layout::part(R3, R0, R2, 4, 0),
            load(R4, R3.u32(0)),
            rsh(R4.low(), Tag::HASH.cast_signed()),
            jne(R4, FLOW, self.elsewhere),
            layout.is_key(self.key.at(0), [R0, R2], [R3, R4], self.elsewhere),
            mov(FLOW, R2),
            bind(self.found),
            layout.flow_at(FLOW, R0),
        ]
    }

    /// Where [`look`](Lane::look) goes if another entry stands where the search begins.
    pub(super) fn look_elsewhere(&self) -> Code {
        let number = slot::<u32>("number");
        code![
            bind(self.elsewhere),
            addr(R1, self.key),
            mov(R2, FIND),
            call(&self.table().search),
            jeq(R0, 0, self.miss),
            sub(R0, 1),
            mov(FLOW, R0),
            and(FLOW, 7),
            rsh(R0, 3),
            store(number.u32(0), R0),
            self.layout().bucket(number, self.miss),
            ja(self.found),
        ]
    }

    /// R0 becomes what there is to do with packets that arrive so, or 0. Clobbers R1 to R5.
    pub(super) fn find(&self, key: Slot) -> Code {
        code![
            addr(R1, key),
            self.found_in(self.table())
        ]
    }

    /// The same for R1, the address of a key, and any table of this family.
    pub(super) fn found_in(&self, table: &Table) -> Code {
        self.sought_in(table, FIND)
    }

    /// The same, and `then` says what becomes of the entry.
    fn sought_in(&self, table: &Table, then: i32) -> Code {
        let layout = Layout::of(table.path, self.context.shape);
        let (number, place) = (slot::<u32>("number"), slot::<u64>("place"));
        let none = label("none");
        code![
            mov(R2, then),
            call(&table.search),
            jeq(R0, 0, none),
            sub(R0, 1),
            store(place.u64(0), R0),
            rsh(R0, 3),
            store(number.u32(0), R0),
            layout.bucket(number, none),
            load(R1, place.u64(0)),
            and(R1, 7),
            layout.flow_at(R1, R0),
            mov(R0, R1),
            bind(none),
        ]
    }

    /// What arrives so does not make room for others any more; R0 becomes what there is to do with it, or
    /// 0 if it made room just now. If that is not the flow that was looked at, the place of that one is
    /// another's by now: who changes more of a flow than what its packets count keeps it first. Clobbers
    /// R1 to R5.
    pub(super) fn keep(&self, key: Slot) -> Code {
        code![addr(R1, key), self.kept()]
    }

    /// The same for R1, the address of a key.
    pub(super) fn kept(&self) -> Code {
        self.sought_in(self.table(), KEEP)
    }

    /// There is no entry any more for what arrives so. Clobbers R0 to R5.
    pub(super) fn erase(&self, key: Slot) -> Code {
        code![
            addr(R1, key),
            mov(R2, ERASE),
            call(&self.table().search)
        ]
    }

    /// Enters what becomes of packets that arrive so; R0 becomes 0, [`THERE`](super::enter::THERE) or [`NO_ROOM`](super::enter::NO_ROOM). Clobbers R1
    /// to R5.
    pub(super) fn enter(&self, key: Slot, flow: Slot) -> Code {
        code![
            addr(R1, key),
            addr(R2, flow),
            call(&self.table().enter)
        ]
    }

    /// R0 becomes more than 0 if something becomes of packets that arrive as the key at R1 says. Clobbers
    /// R1 to R5.
    pub(super) fn is_there(&self) -> Code {
        code![
            mov(R2, FIND),
            call(&self.table().search)
        ]
    }

    pub(super) fn layout(&self) -> Layout {
        Layout::of(self.path, self.context.shape)
    }

    fn table(&self) -> &Table {
        self.context.table(self.path)
    }
}
