//! Telling of flows, beside the way of packets: when a flow is answered, refused or taken out, and by the
//! timer that looks after flows.

use super::lane::{Lane, copy};
use crate::config::Family;
use crate::event::{Kind, NONE, Record};
use crate::layout::{ANSWER, Settings};
use crate::reason::Reason;
use crate::shape::SETTINGS;
use bpfsmith_asm::dsl::flags::ringbuf::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use bpfsmith_asm::dsl::*;

/// The record, while it is filled.
const RECORD: Reg = R5;
/// Bytes of data in a ring, asked of `ringbuf_query`.
const AVAILABLE: i32 = 0;

/// What is told.
#[derive(Clone)]
pub(super) struct Told {
    pub(super) kind: Kind,
    /// Puts why into R1.
    pub(super) why: Code,
    /// How the packets of the direction to the backend arrive.
    pub(super) key: Slot,
    /// That direction, if there is a flow.
    pub(super) flow: Option<Place>,
    /// The answers, if there is a flow.
    pub(super) back: Back,
}

/// Where the answers of a flow are.
#[derive(Clone, Copy)]
pub(super) enum Back {
    /// There are none.
    None,
    /// This place on the stack has a pointer there, or zero.
    Kept(Slot),
}

impl Lane<'_> {
    /// Tells something, if it is wanted. Clobbers R0 to R5.
    pub(super) fn tell(&self, told: Told) -> Code {
        let Some(wanted) = self.context.shape.events else {
            return code![];
        };
        let ring = self.context.shape.event_ring();
        let (at, now) = (slot::<u64>("at"), slot::<u32>("now"));
        let (why, flags) = (slot::<u32>("why"), slot::<u32>("flags"));
        let (lost, unwanted) = (label("lost"), label("unwanted"));
        let half = wanted.bytes / 2;
        code![
            ld_map_value(R1, &SETTINGS, 0),
            load(R1, R1.get(Settings::events)),
            and(R1, told.kind.bit()),
            jeq(R1, 0, unwanted),
            told.why.clone(),
            store(why.u32(0), R1),
            ktime_get_coarse_ns(),
            store(at.u64(0), R0),
            jiffies64(),
            store(now.u32(0), R0),
            // Waking somebody costs more than telling: a reader asks by itself, unless much has come.
            ringbuf_query(&ring, AVAILABLE),
            mov(R1, number(BPF_RB_NO_WAKEUP)),
            R0.gt(half.cast_signed())
                .then(mov(R1, number(BPF_RB_FORCE_WAKEUP))),
            store(flags.u32(0), R1),
            ringbuf_reserve(&ring, i32::from(Record::answer_bytes.offset) + 8, 0),
            jeq(R0, 0, lost),
            mov(RECORD, R0),
            load(R1, why.u32(0)),
            store(RECORD.get(Record::why), R1),
            load(R1, at.u64(0)),
            store(RECORD.get(Record::at), R1),
            self.record(&told, now),
            load(R2, flags.u32(0)),
            mov(R1, RECORD),
            ringbuf_submit(R1, R2),
            ja(unwanted),
            bind(lost),
            self.context.exits.count(Reason::EventLost),
            bind(unwanted),
        ]
    }

    /// Fills the record. Clobbers R0 to R4.
    fn record(&self, told: &Told, now: Slot) -> Code {
        let family = match self.path.family {
            Family::V4 => 4,
            Family::V6 => 6,
        };
        let bytes = self.address();
        let member = |field: Field| RECORD.to(field);
        let address = |to: Field, from: Place| {
            code![
                copy(member(to), from, bytes, R1),
                (bytes == 4).then(|| code![
                    store(member(to).u32(4), 0),
                    store(member(to).u64(8), 0)
                ]),
            ]
        };
        code![
            store(RECORD.get(Record::kind), i32::from(told.kind.number())),
            store(RECORD.get(Record::family), family),
            store(RECORD.get(Record::protocol), self.ip_protocol()),
            store(RECORD.get(Record::listener), i32::from(NONE)),
            address(Record::client, told.key.at(0)),
            address(Record::service, told.key.at(bytes)),
            copy(member(Record::ports), told.key.at(2 * bytes), 4, R1),
            match told.flow {
                Some(flow) => code![
                    address(Record::source, flow.to(self.fields.saddr)),
                    address(Record::target, flow.to(self.fields.daddr)),
                    copy(member(Record::rewritten), flow.to(self.fields.ports), 4, R1),
                    copy_field(Record::backend, flow, self.fields.tag),
                    copy_field(Record::packets, flow, self.fields.packets),
                    copy_field(Record::bytes, flow, self.fields.bytes),
                    since(now, flow.get(self.fields.born)),
                    store(RECORD.get(Record::age), R1),
                    since(now, flow.get(self.fields.seen)),
                    store(RECORD.get(Record::idle), R1),
                ],
                None => code![
                    store(RECORD.get(Record::backend), i32::from(NONE)),
                    [Record::source, Record::target]
                        .map(|to| [0, 8].map(|at| store(member(to).u64(at), 0))),
                    store(member(Record::rewritten).u32(0), 0),
                    store(RECORD.get(Record::packets), 0),
                    store(RECORD.get(Record::bytes), 0),
                    store(RECORD.get(Record::age), 0),
                    store(RECORD.get(Record::idle), 0),
                ],
            },
            store(RECORD.get(Record::answer_packets), 0),
            store(RECORD.get(Record::answer_bytes), 0),
            match told.back {
                Back::None => code![],
                Back::Kept(kept) => code![
                    load(R4, kept.u64(0)),
                    R4.ne(0).then(self.answers(R4.at(0), now)),
                ],
            },
        ]
    }

    /// What the answers know. Clobbers R1 and R2.
    fn answers(&self, back: Place, now: Slot) -> Code {
        code![
            since(now, back.get(self.fields.seen)),
            load(R2, RECORD.get(Record::idle)),
            R1.lt(R2).then(store(RECORD.get(Record::idle), R1)),
            load(R1, back.get(self.fields.tag)),
            and(R1, i32::from(!ANSWER)),
            store(RECORD.get(Record::listener), R1),
            copy_field(Record::answer_packets, back, self.fields.packets),
            copy_field(Record::answer_bytes, back, self.fields.bytes),
        ]
    }

    /// The place that tells why the packet begins no flow, counts it and drops it.
    pub(super) fn declined(&self, reason: Reason) -> Label {
        if self.context.shape.events.is_none() {
            return self.context.exits.drop(reason);
        }
        let mut refusals = self.refusals.borrow_mut();
        match refusals.iter().find(|known| known.0 == reason) {
            Some((_, label)) => *label,
            None => {
                let at = label("refuse");
                refusals.push((reason, at));
                at
            }
        }
    }

    /// All that [`declined`](Lane::declined) leads to.
    pub(super) fn declines(&self) -> Code {
        let refusals = self.refusals.borrow().clone();
        code![
            refusals.into_iter().map(|(reason, at)| code![
                bind(at),
                self.tell(Told {
                    kind: Kind::Refused,
                    why: code![mov(R1, reason.number().cast_signed())],
                    key: self.key,
                    flow: None,
                    back: Back::None,
                }),
                ja(self.context.exits.drop(reason)),
            ])
        ]
    }
}

/// How long ago that was into R1; no time, if another processor wrote it since. Clobbers R2.
fn since(now: Slot, then: Mem) -> Code {
    code![
        load(R1, now.u32(0)),
        load(R2, then),
        sub(W1, W2),
        W1.slt(0).then(mov(R1, 0)),
    ]
}

/// Clobbers R1.
fn copy_field(to: Field, from: Place, field: Field) -> [Insn; 2] {
    [
        load(R1, from.get(field)),
        store(RECORD.get(to), R1),
    ]
}

#[expect(clippy::cast_possible_truncation, reason = "flags are small")]
const fn number(flag: u64) -> i32 {
    (flag as u32).cast_signed()
}
