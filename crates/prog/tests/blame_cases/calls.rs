//! Calls of helpers, functions and callbacks that are not allowed, or not like this.

use super::{Case, EVENTS, FLOWS, HITS, NEXT, Types, case, guilty};
use bpfsmith_asm::dsl::*;
use bpfsmith_asm::isa::{Callee, Op};
use std::cell::Cell;

const XDP: ProgType = ProgType::XDP;
const TC: ProgType = ProgType::SCHED_CLS;
const EACCES: Errno = Errno::EACCES;
const EINVAL: Errno = Errno::EINVAL;

pub(super) const CASES: &[Case] = &[
    case(
        "wrong_type",
        XDP,
        wrong_type,
        EINVAL,
        "program of this type cannot use helper bpf_redirect_peer#155",
        "helper-type",
    ),
    case(
        "no_helper",
        XDP,
        no_helper,
        EINVAL,
        "invalid func unknown#9999",
        "helper-id",
    ),
    case(
        "no_kfunc",
        XDP,
        no_kfunc,
        EINVAL,
        "kernel btf_id 1 is not a function",
        "kfunc",
    ),
    case(
        "no_map",
        XDP,
        no_map,
        EACCES,
        "R1 type=ctx expected=map_ptr",
        "argument",
    ),
    case(
        "no_key",
        XDP,
        no_key,
        EACCES,
        "R2 type=ctx expected=fp",
        "argument",
    ),
    case(
        "no_context",
        XDP,
        no_context,
        EACCES,
        "R1 type=fp expected=ctx",
        "argument",
    ),
    case(
        "wrong_map",
        XDP,
        wrong_map,
        EINVAL,
        "cannot pass map_type 3 into func bpf_map_lookup_elem#1",
        "map-helper",
    ),
    case(
        "size_unknown",
        XDP,
        size_unknown,
        EACCES,
        "R2 is not a known constant",
        "constant",
    ),
    Case {
        license: "MIT",
        ..case(
            "not_gpl",
            XDP,
            not_gpl,
            EINVAL,
            "cannot call GPL-restricted function from non-GPL compatible program",
            "gpl",
        )
    },
    case(
        "record_kept",
        XDP,
        record_kept,
        EINVAL,
        "Unreleased reference id=2 alloc_insn=4",
        "leak",
    ),
    case(
        "record_lost",
        XDP,
        record_lost,
        EINVAL,
        "Unreleased reference",
        "leak",
    ),
    case(
        "socket_kept",
        TC,
        socket_kept,
        EINVAL,
        "Unreleased reference",
        "leak",
    ),
    case(
        "tail_with_record",
        XDP,
        tail_with_record,
        EINVAL,
        "Unreleased reference",
        "leak",
    ),
    case(
        "record_twice",
        XDP,
        record_twice,
        EACCES,
        "R1 type=scalar expected=ringbuf_mem",
        "argument",
    ),
    case(
        "record_half",
        XDP,
        record_half,
        EINVAL,
        "R1 must have zero offset when passed to release func",
        "kfunc-argument",
    ),
    case(
        "in_function",
        XDP,
        in_function,
        EACCES,
        "R0 invalid mem access 'map_value_or_null'",
        "null-check",
    ),
    case(
        "in_inner_function",
        XDP,
        in_inner_function,
        EACCES,
        "R1 invalid mem access 'scalar'",
        "not-a-pointer",
    ),
    Case {
        types: Types::Missing,
        ..case(
            "callback",
            XDP,
            callback,
            EINVAL,
            "missing btf func_info",
            "btf-info",
        )
    },
    Case {
        types: Types::Needed,
        ..case(
            "in_callback",
            XDP,
            in_callback,
            EACCES,
            "R2 invalid mem access 'scalar'",
            "not-a-pointer",
        )
    },
    Case {
        types: Types::Needed,
        ..case(
            "callback_value",
            XDP,
            callback_value,
            EINVAL,
            "At callback return the register R0 has",
            "exit-value",
        )
    },
    case(
        "function_pointer",
        XDP,
        function_pointer,
        EINVAL,
        "cannot return stack pointer to the caller",
        "stack-return",
    ),
    case(
        "stack_sum",
        XDP,
        stack_sum,
        EACCES,
        "combined stack size of 2 calls is",
        "stack-sum",
    ),
    case(
        "deep",
        XDP,
        deep,
        Errno::E2BIG,
        "the call stack of 9 frames is too deep",
        "call-depth",
    ),
    case(
        "no_dynptr",
        XDP,
        no_dynptr,
        EINVAL,
        "initialized dynptr",
        "dynptr",
    ),
];

fn wrong_type(line: &Cell<u32>) -> Code {
    code![
        mov(R1, 1),
        mov(R2, 0),
        guilty!(line, call_helper(155)),
        ret(XDP_PASS),
    ]
}

fn no_helper(line: &Cell<u32>) -> Code {
    code![
        guilty!(line, call_helper(9999)),
        ret(XDP_PASS),
    ]
}

fn no_kfunc(line: &Cell<u32>) -> Code {
    code![
        mov(R6, R1),
        guilty!(line, Insn::op(Op::Call(Callee::Kfunc(1, 0)))),
        ret(XDP_PASS),
    ]
}

fn no_map(line: &Cell<u32>) -> Code {
    code![
        mov(R2, R10),
        guilty!(line, call_helper(1)),
        ret(XDP_PASS),
    ]
}

fn no_key(line: &Cell<u32>) -> Code {
    code![
        mov(R2, R1),
        ld_map(R1, &HITS),
        guilty!(line, call_helper(1)),
        ret(XDP_PASS),
    ]
}

fn no_context(line: &Cell<u32>) -> Code {
    code![
        mov(R1, R10),
        mov(R2, 0),
        guilty!(line, call_helper(44)),
        ret(XDP_PASS),
    ]
}

fn wrong_map(line: &Cell<u32>) -> Code {
    code![
        store(R10.u64(-8), 0),
        mov(R2, R10),
        add(R2, -8),
        ld_map(R1, &NEXT),
        guilty!(line, call_helper(1)),
        ret(XDP_PASS),
    ]
}

fn size_unknown(line: &Cell<u32>) -> Code {
    code![
        load(R2, R1.get(xdp_md::rx_queue_index)),
        ld_map(R1, &EVENTS),
        mov(R3, 0),
        guilty!(line, call_helper(131)),
        ret(XDP_PASS),
    ]
}

fn not_gpl(line: &Cell<u32>) -> Code {
    code![
        store(R10.u64(-8), 0),
        mov(R1, R10),
        add(R1, -8),
        mov(R2, 8),
        guilty!(line, call_helper(6)),
        ret(XDP_PASS),
    ]
}

fn record_kept(line: &Cell<u32>) -> Code {
    code![
        ringbuf_reserve(&EVENTS, 8, 0),
        R0.ne(0).then(store(R0.u64(0), 1)),
        mov(R0, XDP_PASS),
        guilty!(line, exit()),
    ]
}

fn record_lost(line: &Cell<u32>) -> Code {
    let out = label("out");
    code![
        load(R7, R1.get(xdp_md::rx_queue_index)),
        ringbuf_reserve(&EVENTS, 8, 0),
        jeq(R0, 0, out),
        store(R0.u64(0), 1),
        jeq(R7, 3, out),
        ringbuf_submit(R0, 0),
        bind(out),
        mov(R0, XDP_PASS),
        guilty!(line, exit()),
    ]
}

fn socket_kept(line: &Cell<u32>) -> Code {
    code![
        store(R10.u64(-8), 0),
        store(R10.u64(-16), 0),
        mov(R2, R10),
        add(R2, -16),
        mov(R3, 12),
        mov(R4, -1),
        mov(R5, 0),
        call_helper(84),
        mov(R0, TC_ACT_OK),
        guilty!(line, exit()),
    ]
}

fn tail_with_record(line: &Cell<u32>) -> Code {
    let out = label("out");
    code![
        mov(R6, R1),
        ringbuf_reserve(&EVENTS, 8, 0),
        jeq(R0, 0, out),
        mov(R1, R6),
        ld_map(R2, &NEXT),
        mov(R3, 0),
        guilty!(line, call_helper(12)),
        bind(out),
        ret(XDP_PASS),
    ]
}

fn record_twice(line: &Cell<u32>) -> Code {
    let out = label("out");
    code![
        ringbuf_reserve(&EVENTS, 8, 0),
        jeq(R0, 0, out),
        mov(R6, R0),
        ringbuf_submit(R6, 0),
        mov(R1, R6),
        mov(R2, 0),
        guilty!(line, call_helper(132)),
        bind(out),
        ret(XDP_PASS),
    ]
}

fn record_half(line: &Cell<u32>) -> Code {
    let out = label("out");
    code![
        ringbuf_reserve(&EVENTS, 16, 0),
        jeq(R0, 0, out),
        mov(R1, R0),
        add(R1, 8),
        mov(R2, 0),
        guilty!(line, call_helper(132)),
        bind(out),
        ret(XDP_PASS),
    ]
}

fn in_function(line: &Cell<u32>) -> Code {
    fn count(line: &Cell<u32>) -> Code {
        let key = slot::<u32>("key");
        code![
            store(key.u32(0), 0),
            map_lookup_elem(&FLOWS, key),
            guilty!(line, load(R0, R0.u64(0))),
            exit(),
        ]
    }
    let count = func("count").body(count(line));
    code![call(&count), ret(XDP_PASS),]
}

fn in_inner_function(line: &Cell<u32>) -> Code {
    fn outer(inner: &Func) -> Code {
        let skip = label("skip");
        code![
            mov(R6, R1),
            jeq(R6, 0, skip),
            mov(R1, 7),
            call(inner),
            bind(skip),
            ret(0),
        ]
    }
    let inner = func("inner").body(code![
        guilty!(line, load(R0, R1.u32(0))),
        exit(),
    ]);
    let other = func("other").body(code![ret(1)]);
    let outer = func("outer").body(outer(&inner));
    code![
        load(R7, R1.get(xdp_md::rx_queue_index)),
        call(&other),
        mov(R1, R7),
        call(&outer),
        ret(XDP_PASS),
    ]
}

fn callback(line: &Cell<u32>) -> Code {
    let each = func("each").body(code![ret(0)]);
    code![
        mov(R1, 4),
        guilty!(line, ld_func(R2, &each)),
        mov(R3, 0),
        mov(R4, 0),
        call_helper(181),
        ret(XDP_PASS),
    ]
}

fn in_callback(line: &Cell<u32>) -> Code {
    let each = func("each").body(code![
        mov(R2, R1),
        guilty!(line, load(R0, R2.u32(0))),
        ret(0),
    ]);
    code![
        mov(R1, 4),
        ld_func(R2, &each),
        mov(R3, 0),
        mov(R4, 0),
        call_helper(181),
        ret(XDP_PASS),
    ]
}

fn callback_value(line: &Cell<u32>) -> Code {
    let each = func("each").body(code![mov(R0, 5), guilty!(line, exit()),]);
    code![
        mov(R1, 4),
        ld_func(R2, &each),
        mov(R3, 0),
        mov(R4, 0),
        call_helper(181),
        ret(XDP_PASS),
    ]
}

fn function_pointer(line: &Cell<u32>) -> Code {
    let own = func("own").body(code![mov(R0, R10), guilty!(line, exit()),]);
    code![call(&own), ret(XDP_PASS)]
}

fn stack_sum(_: &Cell<u32>) -> Code {
    let inner = func("inner").body(code![store(R10.u64(-400), 0), ret(0),]);
    code![
        store(R10.u64(-400), 0),
        call(&inner),
        ret(XDP_PASS),
    ]
}

fn deep(line: &Cell<u32>) -> Code {
    let mut inner = func("leaf").body(code![ret(0)]);
    for _ in 0..8 {
        inner = func("level").body(code![guilty!(line, call(&inner)), exit(),]);
    }
    code![call(&inner), ret(XDP_PASS)]
}

fn no_dynptr(line: &Cell<u32>) -> Code {
    code![
        store(R10.u64(-16), 0),
        store(R10.u64(-8), 0),
        mov(R1, R10),
        add(R1, -16),
        mov(R2, 0),
        mov(R3, 8),
        guilty!(line, call_helper(203)),
        ret(XDP_PASS),
    ]
}
