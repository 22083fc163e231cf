//! Keys and checksums that follow from what a packet becomes.

use super::check::LESS_TTL;
use super::lane::{Lane, copy};
use bpfsmith_asm::dsl::*;
use bpfsmith_asm::kit::checksum::fold;

/// `key` becomes that of the other direction of the flow at `flow`: answers to its packets. Clobbers
/// R1.
pub(super) fn partner(lane: &Lane<'_>, key: impl Into<Place>, flow: Place) -> Code {
    let key = key.into();
    let fields = lane.fields;
    let address = lane.address();
    code![
        copy(key.at(0), flow.to(fields.daddr), address, R1),
        copy(key.at(address), flow.to(fields.saddr), address, R1),
        swap_ports(key.at(2 * address), flow.to(fields.ports)),
    ]
}

/// Jumps to `other` unless the flow at `flow` is the other direction of the one whose packets arrive as
/// `key` says. Clobbers R1, R2, which `flow` must not be.
pub(super) fn is_partner(lane: &Lane<'_>, flow: Reg, key: Slot, other: Label) -> Code {
    let fields = lane.fields;
    let address = lane.address();
    let same = |place: Mem, at: Mem| {
        [
            load(R1, place),
            load(R2, at),
            jne(R1, R2, other),
        ]
    };
    let words = |field: Field, to: i32| {
        code![(0..address / 4).map(|n| same(flow.to(field).u32(4 * n), key.u32(to + 4 * n)))]
    };
    let ports = flow.to(fields.ports);
    code![
        words(fields.daddr, 0),
        words(fields.saddr, address),
        same(ports.u16(0), key.u16(2 * address + 2)),
        same(ports.u16(2), key.u16(2 * address)),
    ]
}

/// Four bytes of ports, the two in the other order. `to` may be `from`. Clobbers R1, R2.
pub(super) fn swap_ports(to: Place, from: Place) -> [Insn; 4] {
    [
        load(R1, from.u16(0)),
        load(R2, from.u16(2)),
        store(to.u16(0), R2),
        store(to.u16(2), R1),
    ]
}

/// The sums of both directions, from the packet's key and the forward flow's addresses and ports.
/// Clobbers R1 to R4.
pub(super) fn sums(lane: &Lane<'_>, key: Slot, flow: Slot, answer: Slot) -> Code {
    const SUM: Reg = R1;
    const WORD: Reg = R2;
    const PORTS: Reg = R3;
    let fields = lane.fields;
    let words = lane.address() / 2;
    let ports = 2 * lane.address();
    let new = flow.to(fields.saddr);
    code![
        mov(SUM, 0),
        (0..words).map(|n| code![
            load(WORD, new.u32(4 * n)),
            add(SUM, WORD),
            load(WORD, key.u32(4 * n)),
            xor(WORD.low(), -1),
            add(SUM, WORD),
        ]),
        fold(SUM, WORD, 3),
        load(PORTS, flow.to(fields.ports).u32(0)),
        load(WORD, key.u32(ports)),
        xor(WORD.low(), -1),
        add(PORTS, WORD),
        add(PORTS, SUM),
        fold(PORTS, WORD, 3),
        store(flow.get(fields.l4_sum), PORTS),
        xor(PORTS, 0xffff),
        store(answer.get(fields.l4_sum), PORTS),
        less_ttl(flow.get(fields.ip_sum)),
        xor(SUM, 0xffff),
        less_ttl(answer.get(fields.ip_sum)),
    ]
}

/// The sum in R1, with what one hop takes. Clobbers R2 and R4.
fn less_ttl(to: Mem) -> Code {
    code![
        mov(R2, R1),
        add(R2, be16(LESS_TTL)),
        fold(R2, R4, 1),
        store(to, R2),
    ]
}
