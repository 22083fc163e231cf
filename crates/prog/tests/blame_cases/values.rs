//! Values that are missing, unbounded, or computed from the wrong things.

use super::{Case, HITS, case, guilty, value_of};
use bpfsmith_asm::dsl::*;
use std::cell::Cell;

const XDP: ProgType = ProgType::XDP;
const TC: ProgType = ProgType::SCHED_CLS;
const EACCES: Errno = Errno::EACCES;
const EINVAL: Errno = Errno::EINVAL;

pub(super) const CASES: &[Case] = &[
    case("unset", XDP, unset, EACCES, "R5 !read_ok", "unset-register"),
    case(
        "unset_result",
        XDP,
        unset_result,
        EACCES,
        "R0 !read_ok",
        "unset-register",
    ),
    case(
        "clobbered",
        XDP,
        clobbered,
        EACCES,
        "R1 !read_ok",
        "unset-register",
    ),
    case(
        "frame_pointer",
        XDP,
        frame_pointer,
        EACCES,
        "frame pointer is read only",
        "frame-pointer",
    ),
    case(
        "packet_index",
        XDP,
        packet_index,
        EINVAL,
        "math between pkt pointer and register with unbounded min value",
        "unbounded-math",
    ),
    case(
        "pointer_times_two",
        XDP,
        pointer_times_two,
        EACCES,
        "R1 pointer arithmetic with *= operator prohibited",
        "pointer-math",
    ),
    case(
        "map_plus_one",
        XDP,
        map_plus_one,
        EACCES,
        "R1 pointer arithmetic on map_ptr prohibited",
        "pointer-math",
    ),
    case(
        "two_pointers",
        XDP,
        two_pointers,
        EACCES,
        "R1 pointer += pointer prohibited",
        "pointer-math",
    ),
    case(
        "half_pointer",
        XDP,
        half_pointer,
        EACCES,
        "32-bit pointer arithmetic prohibited",
        "pointer-math",
    ),
    case(
        "number_minus_pointer",
        XDP,
        number_minus_pointer,
        EACCES,
        "tried to subtract pointer from scalar",
        "pointer-math",
    ),
    case(
        "size_negative",
        TC,
        size_negative,
        EACCES,
        "R4 min value is negative",
        "negative",
    ),
    case(
        "size_unbounded",
        TC,
        size_unbounded,
        EACCES,
        "R4 unbounded memory access",
        "upper-bound",
    ),
    case(
        "size_zero",
        TC,
        size_zero,
        EACCES,
        "R4 invalid zero-sized read",
        "zero-size",
    ),
    case(
        "size_large",
        TC,
        size_large,
        EINVAL,
        "invalid write to stack R3 off=-8 size=16",
        "stack-bounds",
    ),
    case(
        "value_far",
        XDP,
        value_far,
        EINVAL,
        "math between map_value pointer and 1099511627776 is not allowed",
        "unbounded-math",
    ),
    case(
        "by_zero",
        XDP,
        by_zero,
        EINVAL,
        "div by zero",
        "constant-operand",
    ),
    case(
        "shift_far",
        XDP,
        shift_far,
        EINVAL,
        "invalid shift 64",
        "constant-operand",
    ),
    case(
        "exit_value",
        ProgType::CGROUP_SKB,
        exit_value,
        EINVAL,
        "should have been in",
        "exit-value",
    ),
    case(
        "exit_pointer",
        XDP,
        exit_pointer,
        EACCES,
        "R0 !read_ok",
        "unset-register",
    ),
];

fn unset(line: &Cell<u32>) -> Code {
    code![
        mov(R6, R1),
        guilty!(line, mov(R0, R5)),
        exit(),
    ]
}

fn unset_result(line: &Cell<u32>) -> Code {
    code![mov(R6, R1), guilty!(line, exit()),]
}

fn clobbered(line: &Cell<u32>) -> Code {
    code![
        ktime_get_ns(),
        guilty!(line, load(R0, R1.get(xdp_md::data))),
        ret(XDP_PASS),
    ]
}

fn frame_pointer(line: &Cell<u32>) -> Code {
    code![
        guilty!(line, mov(R10, R1)),
        ret(XDP_PASS),
    ]
}

fn packet_index(line: &Cell<u32>) -> Code {
    code![
        load(R6, R1.get(xdp_md::data)),
        ktime_get_ns(),
        guilty!(line, add(R6, R0)),
        ret(XDP_PASS),
    ]
}

fn pointer_times_two(line: &Cell<u32>) -> Code {
    code![guilty!(line, mul(R1, 2)), ret(XDP_PASS),]
}

fn map_plus_one(line: &Cell<u32>) -> Code {
    code![
        ld_map(R1, &HITS),
        guilty!(line, add(R1, 1)),
        ret(XDP_PASS),
    ]
}

fn two_pointers(line: &Cell<u32>) -> Code {
    code![
        guilty!(line, add(R1, R10)),
        ret(XDP_PASS),
    ]
}

fn half_pointer(line: &Cell<u32>) -> Code {
    code![guilty!(line, add(W1, 4)), ret(XDP_PASS),]
}

fn number_minus_pointer(line: &Cell<u32>) -> Code {
    code![
        mov(R2, 8),
        guilty!(line, sub(R2, R10)),
        ret(XDP_PASS),
    ]
}

fn size_negative(line: &Cell<u32>) -> Code {
    code![
        load(R4, R1.get(__sk_buff::mark)),
        lsh(R4, 32),
        arsh(R4, 32),
        mov(R3, R10),
        add(R3, -8),
        mov(R2, 0),
        guilty!(line, call_helper(26)),
        ret(TC_ACT_OK),
    ]
}

fn size_unbounded(line: &Cell<u32>) -> Code {
    code![
        load(R4, R1.get(__sk_buff::mark)),
        add(R4, 1),
        mov(R3, R10),
        add(R3, -8),
        mov(R2, 0),
        guilty!(line, call_helper(26)),
        ret(TC_ACT_OK),
    ]
}

fn size_zero(line: &Cell<u32>) -> Code {
    code![
        load(R4, R1.get(__sk_buff::mark)),
        and(R4, 7),
        mov(R3, R10),
        add(R3, -8),
        mov(R2, 0),
        guilty!(line, call_helper(26)),
        ret(TC_ACT_OK),
    ]
}

fn size_large(line: &Cell<u32>) -> Code {
    code![
        mov(R4, 16),
        mov(R3, R10),
        add(R3, -8),
        mov(R2, 0),
        guilty!(line, call_helper(26)),
        ret(TC_ACT_OK),
    ]
}

fn value_far(line: &Cell<u32>) -> Code {
    let out = label("out");
    code![
        value_of(&HITS, out),
        lddw(R1, 1 << 40),
        guilty!(line, add(R0, R1)),
        bind(out),
        ret(XDP_PASS),
    ]
}

fn by_zero(line: &Cell<u32>) -> Code {
    code![
        mov(R0, 1),
        guilty!(line, div(R0, 0)),
        exit(),
    ]
}

fn shift_far(line: &Cell<u32>) -> Code {
    code![
        mov(R0, 1),
        guilty!(line, lsh(R0, 64)),
        exit(),
    ]
}

fn exit_value(line: &Cell<u32>) -> Code {
    code![mov(R0, 7), guilty!(line, exit()),]
}

fn exit_pointer(line: &Cell<u32>) -> Code {
    let end = label("end");
    code![
        load(R2, R1.get(xdp_md::rx_queue_index)),
        jeq(R2, 3, end),
        mov(R0, XDP_PASS),
        bind(end),
        guilty!(line, exit()),
    ]
}
