//! Control flow, size, and what the program refers to.

use super::{Case, case, guilty};
use bpfsmith_asm::dsl::*;
use bpfsmith_asm::isa::Op;
use std::cell::Cell;

const XDP: ProgType = ProgType::XDP;
const EINVAL: Errno = Errno::EINVAL;

pub(super) const CASES: &[Case] = &[
    case(
        "unreachable",
        XDP,
        unreachable,
        EINVAL,
        "unreachable insn 2",
        "unreachable",
    ),
    case(
        "jump_out",
        XDP,
        jump_out,
        EINVAL,
        "jump out of range from insn 1 to 51",
        "jump-target",
    ),
    case(
        "runs_on",
        XDP,
        runs_on,
        EINVAL,
        "last insn is not an exit or jmp",
        "falls-off",
    ),
    case(
        "function_runs_on",
        XDP,
        function_runs_on,
        EINVAL,
        "last insn is not an exit or jmp",
        "falls-off",
    ),
    case(
        "endless",
        XDP,
        endless,
        EINVAL,
        "infinite loop detected at insn",
        "endless",
    ),
    case(
        "too_long",
        XDP,
        too_long,
        Errno::E2BIG,
        "BPF program is too large. Processed 1000001 insn",
        "too-large",
    ),
    case(
        "too_wide",
        XDP,
        too_wide,
        Errno::EFAULT,
        "jumps is too complex",
        "too-complex",
    ),
    case(
        "no_fd",
        XDP,
        no_fd,
        Errno::EBADF,
        "fd 9999 is not pointing to valid bpf_map",
        "map-fd",
    ),
    case(
        "no_target",
        ProgType::TRACING,
        no_target,
        EINVAL,
        "Tracing programs must provide btf_id",
        "attach-target",
    ),
];

fn unreachable(line: &Cell<u32>) -> Code {
    code![
        ret(XDP_PASS),
        guilty!(line, mov(R0, 1)),
        exit(),
    ]
}

fn jump_out(line: &Cell<u32>) -> Code {
    code![
        mov(R0, XDP_PASS),
        guilty!(line, Insn::op(Op::Ja(49))),
        exit(),
    ]
}

fn runs_on(line: &Cell<u32>) -> Code {
    code![
        mov(R0, XDP_PASS),
        guilty!(line, mov(R1, 1)),
    ]
}

fn function_runs_on(line: &Cell<u32>) -> Code {
    let open = func("open").body(code![mov(R0, 1), guilty!(line, mov(R0, 2)),]);
    let other = func("other").body(code![ret(1)]);
    code![call(&open), call(&other), exit()]
}

fn endless(line: &Cell<u32>) -> Code {
    let again = label("again");
    code![
        mov(R0, XDP_PASS),
        bind(again),
        guilty!(line, mov(R1, 1)),
        jne(R1, 0, again),
        exit(),
    ]
}

fn too_long(line: &Cell<u32>) -> Code {
    let again = label("again");
    code![
        mov(R1, 0),
        bind(again),
        guilty!(line, add(R1, 1)),
        jlt(R1, 2_000_000, again),
        ret(XDP_PASS),
    ]
}

fn too_wide(line: &Cell<u32>) -> Code {
    let (again, out) = (label("again"), label("out"));
    code![
        mov(R6, R1),
        mov(R1, 0),
        bind(again),
        load(R2, R6.get(xdp_md::rx_queue_index)),
        add(R1, 1),
        guilty!(line, jset(R2, 1, out)),
        jlt(R1, 20_000, again),
        bind(out),
        ret(XDP_PASS),
    ]
}

fn no_fd(line: &Cell<u32>) -> Code {
    code![
        guilty!(line, ld_wide(R1, Wide::MapFd(9999))),
        ret(XDP_PASS),
    ]
}

fn no_target(_: &Cell<u32>) -> Code {
    code![ret(0)]
}
