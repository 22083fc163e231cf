//! Memory that may not be accessed, or not like this.

use super::{Case, FIXED, FLOWS, HITS, case, guilty, value_of};
use bpfsmith_asm::dsl::*;
use std::cell::Cell;

const XDP: ProgType = ProgType::XDP;
const TC: ProgType = ProgType::SCHED_CLS;
const EACCES: Errno = Errno::EACCES;

pub(super) const CASES: &[Case] = &[
    case(
        "null_value",
        XDP,
        null_value,
        EACCES,
        "R0 invalid mem access 'map_value_or_null'",
        "null-check",
    ),
    case(
        "null_math",
        XDP,
        null_math,
        EACCES,
        "null-check it first",
        "null-check",
    ),
    case(
        "number",
        XDP,
        number,
        EACCES,
        "R1 invalid mem access 'scalar'",
        "not-a-pointer",
    ),
    case(
        "map_itself",
        XDP,
        map_itself,
        EACCES,
        "only read from bpf_array is supported",
        "read-only",
    ),
    case(
        "end_pointer",
        XDP,
        end_pointer,
        EACCES,
        "R2 invalid mem access 'pkt_end'",
        "wrong-pointer",
    ),
    case(
        "packet",
        XDP,
        packet,
        EACCES,
        "invalid access to packet, off=12 size=2, R2(id=0,off=12,r=0)",
        "packet-bounds",
    ),
    case(
        "packet_moved",
        XDP,
        packet_moved,
        EACCES,
        "R7 invalid mem access 'scalar'",
        "not-a-pointer",
    ),
    case(
        "packet_short",
        TC,
        packet_short,
        EACCES,
        "invalid access to packet, off=14 size=4, R7(id=0,off=14,r=14)",
        "packet-bounds",
    ),
    case(
        "value_end",
        XDP,
        value_end,
        EACCES,
        "invalid access to map value, value_size=8 off=8 size=8",
        "map-bounds",
    ),
    case(
        "value_front",
        XDP,
        value_front,
        EACCES,
        "invalid access to map value, value_size=8 off=-8 size=8",
        "map-bounds",
    ),
    case(
        "value_index",
        XDP,
        value_index,
        EACCES,
        "R0 unbounded memory access",
        "upper-bound",
    ),
    case(
        "value_masked",
        XDP,
        value_masked,
        EACCES,
        "invalid access to map value, value_size=8",
        "map-bounds",
    ),
    case(
        "value_signed",
        XDP,
        value_signed,
        EACCES,
        "R0 min value is negative",
        "negative",
    ),
    case(
        "value_fixed",
        XDP,
        value_fixed,
        EACCES,
        "write into map forbidden",
        "read-only",
    ),
    case(
        "stack_below",
        XDP,
        stack_below,
        EACCES,
        "invalid write to stack R10 off=-520 size=8",
        "stack-bounds",
    ),
    case(
        "stack_above",
        XDP,
        stack_above,
        EACCES,
        "invalid read from stack R10 off=8 size=8",
        "stack-bounds",
    ),
    case(
        "stack_index",
        XDP,
        stack_index,
        EACCES,
        "invalid unbounded variable-offset write to stack R2",
        "variable-stack",
    ),
    case(
        "stack_odd",
        XDP,
        stack_odd,
        EACCES,
        "misaligned stack access",
        "misaligned",
    ),
    case(
        "context_moved",
        XDP,
        context_moved,
        EACCES,
        "dereference of modified ctx ptr R1 off=8 disallowed",
        "context-changed",
    ),
    case(
        "context_far",
        XDP,
        context_far,
        EACCES,
        "invalid bpf_context access off=200 size=4",
        "context-field",
    ),
    case(
        "context_write",
        XDP,
        context_write,
        EACCES,
        "invalid bpf_context access off=0 size=4",
        "context-field",
    ),
    case(
        "atomic_packet",
        XDP,
        atomic_packet,
        EACCES,
        "is not allowed",
        "atomic",
    ),
    case(
        "atomic_context",
        XDP,
        atomic_context,
        EACCES,
        "BPF_ATOMIC stores into R1 ctx is not allowed",
        "atomic",
    ),
    case(
        "two_kinds",
        XDP,
        two_kinds,
        Errno::EINVAL,
        "same insn cannot be used with different pointers",
        "mixed-pointers",
    ),
];

fn null_value(line: &Cell<u32>) -> Code {
    let key = slot::<u32>("key");
    code![
        store(key.u32(0), 0),
        map_lookup_elem(&FLOWS, key),
        guilty!(line, load(R1, R0.u64(0))),
        ret(XDP_PASS),
    ]
}

fn null_math(line: &Cell<u32>) -> Code {
    let key = slot::<u32>("key");
    code![
        store(key.u32(0), 0),
        map_lookup_elem(&FLOWS, key),
        guilty!(line, add(R0, 4)),
        ret(XDP_PASS),
    ]
}

fn number(line: &Cell<u32>) -> Code {
    code![
        mov(R1, 4096),
        guilty!(line, load(R2, R1.u8(0))),
        ret(XDP_PASS),
    ]
}

fn map_itself(line: &Cell<u32>) -> Code {
    code![
        ld_map(R1, &HITS),
        guilty!(line, store(R1.u64(0), 0)),
        ret(XDP_PASS),
    ]
}

fn end_pointer(line: &Cell<u32>) -> Code {
    code![
        load(R2, R1.get(xdp_md::data_end)),
        guilty!(line, load(R0, R2.u8(0))),
        ret(XDP_PASS),
    ]
}

fn packet(line: &Cell<u32>) -> Code {
    code![
        load(R2, R1.get(xdp_md::data)),
        guilty!(line, load(R0, R2.get(eth::proto))),
        ret(XDP_PASS),
    ]
}

fn packet_moved(line: &Cell<u32>) -> Code {
    let short = label("short");
    code![
        load(R7, R1.get(xdp_md::data)),
        load(R8, R1.get(xdp_md::data_end)),
        kit::packet::need(R7, R8, 14, R0, short),
        xdp_adjust_head(R1, 0),
        guilty!(line, load(R0, R7.u8(0))),
        bind(short),
        ret(XDP_PASS),
    ]
}

fn packet_short(line: &Cell<u32>) -> Code {
    let short = label("short");
    code![
        load(R7, R1.get(__sk_buff::data)),
        load(R8, R1.get(__sk_buff::data_end)),
        kit::packet::need(R7, R8, 14, R0, short),
        guilty!(line, load(R0, R7.u32(14))),
        bind(short),
        ret(TC_ACT_OK),
    ]
}

fn value_end(line: &Cell<u32>) -> Code {
    let out = label("out");
    code![
        value_of(&HITS, out),
        guilty!(line, load(R1, R0.u64(8))),
        bind(out),
        ret(XDP_PASS),
    ]
}

fn value_front(line: &Cell<u32>) -> Code {
    let out = label("out");
    code![
        value_of(&HITS, out),
        guilty!(line, load(R1, R0.u64(-8))),
        bind(out),
        ret(XDP_PASS),
    ]
}

fn value_index(line: &Cell<u32>) -> Code {
    let out = label("out");
    code![
        load(R6, R1.get(xdp_md::rx_queue_index)),
        value_of(&HITS, out),
        add(R0, R6),
        guilty!(line, load(R1, R0.u8(0))),
        bind(out),
        ret(XDP_PASS),
    ]
}

fn value_masked(line: &Cell<u32>) -> Code {
    let out = label("out");
    code![
        load(R6, R1.get(xdp_md::rx_queue_index)),
        and(R6, 15),
        value_of(&HITS, out),
        add(R0, R6),
        guilty!(line, load(R1, R0.u8(0))),
        bind(out),
        ret(XDP_PASS),
    ]
}

fn value_signed(line: &Cell<u32>) -> Code {
    let out = label("out");
    code![
        load(R6, R1.get(xdp_md::rx_queue_index)),
        and(R6, 7),
        sub(R6, 4),
        value_of(&HITS, out),
        add(R0, R6),
        guilty!(line, load(R1, R0.u8(0))),
        bind(out),
        ret(XDP_PASS),
    ]
}

fn value_fixed(line: &Cell<u32>) -> Code {
    let out = label("out");
    code![
        value_of(&FIXED, out),
        guilty!(line, store(R0.u64(0), 1)),
        bind(out),
        ret(XDP_PASS),
    ]
}

fn stack_below(line: &Cell<u32>) -> Code {
    code![
        guilty!(line, store(R10.u64(-520), 0)),
        ret(XDP_PASS),
    ]
}

fn stack_above(line: &Cell<u32>) -> Code {
    code![
        guilty!(line, load(R0, R10.u64(8))),
        ret(XDP_PASS),
    ]
}

fn stack_index(line: &Cell<u32>) -> Code {
    code![
        load(R3, R1.get(xdp_md::rx_queue_index)),
        mov(R2, R10),
        add(R2, R3),
        guilty!(line, store(R2.u8(0), 1)),
        ret(XDP_PASS),
    ]
}

fn stack_odd(line: &Cell<u32>) -> Code {
    code![
        guilty!(line, store(R10.u64(-9), 0)),
        ret(XDP_PASS),
    ]
}

fn context_moved(line: &Cell<u32>) -> Code {
    code![
        add(R1, 8),
        guilty!(line, load(R0, R1.u32(0))),
        ret(XDP_PASS),
    ]
}

fn context_far(line: &Cell<u32>) -> Code {
    code![
        guilty!(line, load(R0, R1.u32(200))),
        ret(XDP_PASS),
    ]
}

fn context_write(line: &Cell<u32>) -> Code {
    code![
        guilty!(line, store(R1.get(xdp_md::data), 0)),
        ret(XDP_PASS),
    ]
}

fn atomic_packet(line: &Cell<u32>) -> Code {
    code![
        load(R2, R1.get(xdp_md::data)),
        mov(R3, 1),
        guilty!(line, atomic_add(R2.u64(0), R3)),
        ret(XDP_PASS),
    ]
}

fn atomic_context(line: &Cell<u32>) -> Code {
    code![
        mov(R3, 1),
        guilty!(line, atomic_add(R1.u64(0), R3)),
        ret(XDP_PASS),
    ]
}

fn two_kinds(line: &Cell<u32>) -> Code {
    let read = label("read");
    code![
        load(R3, R1.get(xdp_md::rx_queue_index)),
        store(R10.u32(-8), 0),
        mov(R2, R1),
        jeq(R3, 0, read),
        mov(R2, R10),
        add(R2, -8),
        bind(read),
        guilty!(line, load(R0, R2.u32(0))),
        ret(XDP_PASS),
    ]
}
