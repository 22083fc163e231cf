//! The program that is asked which socket gets a packet.

use crate::layout::{
    Entry, GROUPS, Group, LEVELS, PACKET_BITS, RULES, RuleKey, SLOT_BITS, SLOTS, SOCKET_MAP,
    TALLIES, Tally,
};
use bpfsmith_asm::dsl::flags::sk_lookup::BPF_SK_LOOKUP_F_NO_REUSEPORT;
use bpfsmith_asm::dsl::*;
use bpfsmith_asm::kit::hash::jhash_3words;
use bpfsmith_asm::kit::lookup::{self, End};

const CTX: Reg = R6;
const ANSWER: Reg = R7;

/// There are blocks of 2^0 to 2^16 ports.
const LEVEL_COUNT: i32 = 17;

/// What the packet is, and what was found, from one fragment to the next.
#[derive(Clone, Copy)]
struct Frame {
    /// Protocol and family: a `Kind`.
    kind: Slot,
    /// The local port, as a number.
    port: Slot,
    /// The best entry so far.
    best: Slot,
    /// The group of its sockets.
    group: Slot,
    /// The flow, as a number.
    hash: Slot,
}

/// The program: which listening socket or unconnected UDP socket gets a packet.
///
/// It looks for rules, for the group of sockets of their service, and among these for the one that
/// the packet's flow has.
///
/// # Panics
/// If the checker finds anything wrong with it, which the tests of this crate would see.
#[must_use]
pub fn program() -> Program {
    let frame = Frame {
        kind: slot::<u32>("kind"),
        port: slot::<u32>("port"),
        best: slot::<Entry>("best"),
        group: slot::<u32>("group"),
        hash: slot::<u32>("hash"),
    };
    let pass = label("pass");
    let code = code![
        mov(CTX, R1),
        // What an earlier program chose stands.
        lookup::unchosen(CTX, R2, pass),
        kind_and_port(frame),
        rule(frame, pass),
        flow_hash(frame),
        socket(frame, pass),
        bind(pass),
        ret(SK_PASS),
    ];
    Program::new(ProgType::SK_LOOKUP, "steer", code).unwrap_or_else(|report| panic!("{report}"))
}

/// Clobbers R1, R2.
fn kind_and_port(frame: Frame) -> Code {
    code![
        mov(R1, 0),
        load(R2, CTX.get(bpf_sk_lookup::protocol)),
        R2.eq(IPPROTO_UDP).then(mov(R1, 1)),
        load(R2, CTX.get(bpf_sk_lookup::family)),
        R2.eq(AF_INET6).then(or(R1, 2)),
        store(frame.kind.u32(0), R1),
        lookup::load_port(R1, CTX, End::Local),
        store(frame.port.u32(0), R1),
    ]
}

/// The entry with the highest rank; jumps to `pass` without one. Clobbers all registers but R6.
fn rule(frame: Frame, pass: Label) -> Code {
    const LEVELS_HERE: Reg = R7;
    const TABLE: Reg = R8;
    const LEVEL: Reg = R9;
    let (index, key) = (slot::<u32>("index"), slot::<RuleKey>("key"));
    let best = frame.best;
    code![
        load(R1, frame.kind.u32(0)),
        lsh(R1, 8),
        load(R2, frame.port.u32(0)),
        rsh(R2, 8),
        add(R1, R2),
        store(index.u32(0), R1),
        map_lookup_elem(&LEVELS, index),
        jeq(R0, 0, pass),
        load(LEVELS_HERE, R0.u32(0)),
        jeq(LEVELS_HERE, 0, pass),
        store(index.u32(0), 0),
        // One look at the table in force: all of this packet is decided by one generation.
        map_lookup_elem(&RULES, index),
        jeq(R0, 0, pass),
        mov(TABLE, R0),
        packet_key(frame, key),
        store(best.get(Entry::rank), 0),
        repeat(LEVEL, 0..LEVEL_COUNT).body(code![
            mov(R1, LEVELS_HERE),
            rsh(R1, LEVEL),
            and(R1, 1),
            R1.ne(0).then(code![
                store(key.get(RuleKey::level), LEVEL),
                load(R1, frame.port.u32(0)),
                rsh(R1, LEVEL),
                lsh(R1, LEVEL),
                to_be16(R1),
                store(key.to(RuleKey::port).u16(0), R1),
                map_lookup_elem(TABLE, key),
                R0.ne(0).then(better(best)),
            ]),
        ]),
        load(R1, best.get(Entry::rank)),
        jeq(R1, 0, pass),
    ]
}

/// The entry at R0 is the best one if its rank is higher. Clobbers R1, R2.
fn better(best: Slot) -> Code {
    let copy = |field: Field| {
        [
            load(R1, R0.get(field)),
            store(best.get(field), R1),
        ]
    };
    code![
        load(R1, R0.get(Entry::rank)),
        load(R2, best.get(Entry::rank)),
        R1.gt(R2).then(code![
            store(best.get(Entry::rank), R1),
            copy(Entry::service),
            copy(Entry::counter),
        ]),
    ]
}

/// All of a packet's key but the size of the block and its port. Clobbers R1.
fn packet_key(frame: Frame, key: Slot) -> Code {
    let address = key.to(RuleKey::address);
    let word = |n: u16, from: Field| {
        [
            load(R1, CTX.get(from)),
            store(address.u32(4 * i32::from(n)), R1),
        ]
    };
    code![
        store(key.get(RuleKey::bits), PACKET_BITS),
        load(R1, frame.kind.u32(0)),
        store(key.get(RuleKey::kind), R1),
        // Behind the bits that count, but all of a key has to be there.
        store(key.to(RuleKey::last).u32(0), 0),
        R1.has(2)
            .then([0, 1, 2, 3].map(|n| word(n, bpf_sk_lookup::local_ip6.at(n))))
            .or_else(code![
                word(0, bpf_sk_lookup::local_ip4),
                [1, 2, 3].map(|n| store(address.u32(4 * n), 0)),
            ]),
    ]
}

/// One number for all packets of a flow. Clobbers R1 to R4.
fn flow_hash(frame: Frame) -> Code {
    /// An odd number whose bits look like chance.
    const MIX: i32 = 0x2c1b_3c6d;
    let fold = |to: Reg, words: [Field; 4]| {
        let [first, rest @ ..] = words;
        code![
            load(to, CTX.get(first)),
            rest.map(|word| code![
                mul(to.low(), MIX),
                load(R4, CTX.get(word)),
                add(to.low(), R4.low()),
            ]),
        ]
    };
    let remote6 = [0, 1, 2, 3].map(|n| bpf_sk_lookup::remote_ip6.at(n));
    let local6 = [0, 1, 2, 3].map(|n| bpf_sk_lookup::local_ip6.at(n));
    code![
        load(R1, frame.kind.u32(0)),
        R1.has(2)
            .then(code![fold(R1, remote6), fold(R2, local6)])
            .or_else(code![
                load(R1, CTX.get(bpf_sk_lookup::remote_ip4)),
                load(R2, CTX.get(bpf_sk_lookup::local_ip4)),
            ]),
        lookup::load_port(R3, CTX, End::Remote),
        lsh(R3, 16),
        load(R4, frame.port.u32(0)),
        or(R3, R4),
        jhash_3words([R1, R2, R3], 0, R4),
        store(frame.hash.u32(0), R3),
    ]
}

/// Gives the packet to a socket of the group, and ends; jumps to `pass` if there is no such group.
///
/// Each slot draws a lot for the flow, and the highest one has it: when a socket comes or goes, only
/// flows of its own move. Where that socket is gone and nobody told, the others are tried in turn, from
/// one that the flow chooses.
fn socket(frame: Frame, pass: Label) -> Code {
    const ROUND: Reg = R9;
    let (mask, count) = (slot::<u64>("mask"), slot::<u32>("count"));
    let (chosen, at, verdict) = (
        slot::<u32>("chosen"),
        slot::<u64>("socket"),
        slot::<u32>("verdict"),
    );
    let (wrong, next, none) = (slot::<u32>("wrong"), label("next"), label("none"));
    code![
        load(R1, frame.best.get(Entry::service)),
        lsh(R1, 2),
        load(R2, frame.kind.u32(0)),
        or(R1, R2),
        store(frame.group.u32(0), R1),
        map_lookup_elem(&GROUPS, frame.group),
        jeq(R0, 0, pass),
        load(R1, R0.get(Group::verdict)),
        store(verdict.u32(0), R1),
        load(R8, R0.get(Group::mask)),
        store(mask.u64(0), R8),
        load(R7, R0.get(Group::count)),
        store(count.u32(0), R7),
        store(wrong.u32(0), 0),
        jeq(R7, 0, none),
        draw(frame, chosen),
        mov(ANSWER, -Errno::ENOENT.0),
        repeat(ROUND, 0..SLOTS.cast_signed() + 1).body(code![
            load(R1, chosen.u32(0)),
            load(R2, mask.u64(0)),
            rsh(R2, R1),
            and(R2, 1),
            jeq(R2, 0, next),
            load(R2, frame.group.u32(0)),
            lsh(R2, SLOT_BITS),
            or(R2, R1),
            store(at.u64(0), R2),
            lookup::assign(
                CTX,
                &SOCKET_MAP,
                at,
                ANSWER,
                BPF_SK_LOOKUP_F_NO_REUSEPORT,
                next
            ),
            tally(frame, Tally::hits),
            ret(SK_PASS),
            bind(next),
            ANSWER.ne(-Errno::ENOENT.0).then(store(wrong.u32(0), 1)),
            load(R3, count.u32(0)),
            jge(ROUND, R3, none),
            load(R1, frame.hash.u32(0)),
            rsh(R1, 8),
            add(R1, ROUND),
            rem(R1, R3),
            store(chosen.u32(0), R1),
        ]),
        bind(none),
        load(R1, wrong.u32(0)),
        R1.ne(0)
            .then(tally(frame, Tally::errors))
            .or_else(tally(frame, Tally::misses)),
        load(R1, verdict.u32(0)),
        R1.eq(SK_DROP).then(ret(SK_DROP)),
    ]
}

/// `chosen` becomes the slot with the highest lot: of those in R8, which are below R7. Clobbers R0 to
/// R4 and R9.
fn draw(frame: Frame, chosen: Slot) -> Code {
    const SLOT: Reg = R0;
    const HIGHEST: Reg = R1;
    const BEST: Reg = R2;
    const LOT: Reg = R3;
    const HASH: Reg = R9;
    let done = label("done");
    let spread = |by: i32| {
        [
            mov(R4.low(), LOT.low()),
            rsh(R4.low(), by),
            xor(LOT.low(), R4.low()),
        ]
    };
    code![
        load(HASH, frame.hash.u32(0)),
        mov(HIGHEST, 0),
        mov(BEST, 0),
        repeat(SLOT, 0..SLOTS.cast_signed()).body(code![
            jge(SLOT, R7, done),
            mov(R4, R8),
            rsh(R4, SLOT),
            and(R4, 1),
            R4.ne(0).then(code![
                mov(LOT, SLOT),
                add(LOT, 1),
                mul(LOT.low(), 0x9e37_79b1_u32),
                xor(LOT.low(), HASH.low()),
                spread(16),
                mul(LOT.low(), 0x7feb_352d_u32),
                spread(15),
                mul(LOT.low(), 0x846c_a68b_u32),
                spread(16),
                // A slot with a socket has a lot.
                or(LOT.low(), 1),
                LOT.gt(HIGHEST).then([mov(HIGHEST, LOT), mov(BEST, SLOT)]),
            ]),
        ]),
        bind(done),
        store(chosen.u32(0), BEST),
    ]
}

/// One more of these for the binding. Clobbers R0 to R5.
fn tally(frame: Frame, what: Field) -> Code {
    code![
        map_lookup_elem(&TALLIES, frame.best.to(Entry::counter)),
        R0.ne(0).then([mov(R1, 1), atomic_add(R0.get(what), R1)]),
    ]
}
