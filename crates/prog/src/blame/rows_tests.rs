//! Sentences of kernels of several ages, and the row that each must find.

use super::ROWS;
use crate::blame::Evidence;
use crate::blame::{errno, hint};
use bpfsmith_asm::program::Program;
use bpfsmith_uapi::{Errno, ProgType};
use std::collections::HashSet;

const SENTENCES: &[(&str, &str)] = &[
    ("null-check", "R0 invalid mem access 'map_value_or_null'"),
    ("null-check", "R6 invalid mem access 'mem_or_null'"),
    (
        "null-check",
        "R0 invalid mem access 'ptr_or_null_task_struct'",
    ),
    (
        "null-check",
        "R0 pointer arithmetic on map_value_or_null prohibited, null-check it first",
    ),
    (
        "null-check",
        "R1 type=sock_or_null expected=sock_common, sock, tcp_sock, xdp_sock, ptr_",
    ),
    ("null-check", "Possibly NULL pointer passed to trusted arg0"),
    (
        "kernel-symbol",
        "ldimm64 failed to find the address for kernel symbol 'runqueues'.",
    ),
    ("not-a-pointer", "R1 invalid mem access 'inv'"),
    ("not-a-pointer", "R1 invalid mem access 'scalar'"),
    ("wrong-pointer", "R2 invalid mem access 'pkt_end'"),
    ("kptr", "store to referenced kptr disallowed"),
    (
        "kptr",
        "invalid kptr access, R2 type=ptr_cgroup expected=ptr_task_struct",
    ),
    ("kptr", "kptr access size must be BPF_DW"),
    ("kptr", "kptr cannot be accessed indirectly by helper"),
    ("kptr", "BPF_ST imm must be 0 when storing to kptr at off=8"),
    (
        "own-list",
        "operation on bpf_list_head expects arg#1 bpf_list_node at offset=8 in struct Job, but arg \
         is at offset=0 in struct Job",
    ),
    (
        "opaque",
        "bpf_spin_lock cannot be accessed directly by load/store",
    ),
    ("opaque", "direct access to bpf_list_head is disallowed"),
    ("unset-register", "R0 !read_ok"),
    ("unset-stack", "invalid read from stack off -8+0 size 8"),
    ("unset-stack", "invalid read from stack R10 off -8+0 size 8"),
    (
        "unset-stack",
        "invalid indirect read from stack off -8+4 size 8",
    ),
    (
        "unset-stack",
        "invalid indirect read from stack R2 off -8+4 size 8",
    ),
    (
        "packet-bounds",
        "invalid access to packet, off=12 size=2, R2(id=0,off=12,r=0)",
    ),
    ("packet-bounds", "R2 offset is outside of the packet"),
    (
        "map-bounds",
        "invalid access to map value, value_size=8 off=8 size=8",
    ),
    (
        "memory-bounds",
        "invalid access to memory, mem_size=8 off=8 size=8",
    ),
    (
        "negative",
        "R4 min value is negative, either use unsigned or 'var &= const'",
    ),
    (
        "lower-bound",
        "R0 min value is outside of the allowed memory range",
    ),
    (
        "upper-bound",
        "R4 unbounded memory access, use 'var &= const' or 'if (var < const)'",
    ),
    (
        "upper-bound",
        "R0 max value is outside of the allowed memory range",
    ),
    (
        "unbounded-math",
        "math between pkt pointer and register with unbounded min value is not allowed",
    ),
    (
        "unbounded-math",
        "math between map_value pointer and 4294967295 is not allowed",
    ),
    (
        "unbounded-math",
        "value -2147483648 makes fp pointer be out of bounds",
    ),
    (
        "pointer-math",
        "R1 pointer arithmetic on map_ptr prohibited",
    ),
    (
        "pointer-math",
        "R1 pointer arithmetic with *= operator prohibited",
    ),
    ("pointer-math", "R1 32-bit pointer arithmetic prohibited"),
    ("pointer-math", "R1 pointer += pointer prohibited"),
    ("perfmon", "R5 pointer -= pointer prohibited"),
    ("perfmon", "R1 pointer arithmetic prohibited"),
    ("perfmon", "R1 partial copy of pointer"),
    (
        "pointer-math",
        "R2 subtraction from stack pointer prohibited",
    ),
    (
        "perfmon",
        "R1 tried to add from different maps, paths or scalars, pointer arithmetic with it prohibited for !root",
    ),
    (
        "perfmon",
        "R2 variable offset stack access prohibited for !root, var_off=(0x0; 0xff)",
    ),
    ("variable-stack", "variable-offset stack access prohibited"),
    (
        "variable-stack",
        "invalid unbounded variable-offset write to stack R2",
    ),
    ("stack-bounds", "invalid stack off=-520 size=8"),
    ("stack-bounds", "invalid write to stack R10 off=-520 size=8"),
    ("stack-bounds", "invalid read from stack R10 off=8 size=8"),
    ("stack-bounds", "invalid stack type R1 off=-8 access_size=0"),
    ("spill", "attempt to corrupt spilled pointer on stack"),
    ("spill", "corrupted spill memory"),
    ("frame-pointer", "frame pointer is read only"),
    (
        "stack-sum",
        "combined stack size of 2 calls is 544. Too large",
    ),
    ("stack-return", "cannot return stack pointer to the caller"),
    ("call-depth", "the call stack of 9 frames is too deep !"),
    ("leak", "Unreleased reference id=2 alloc_insn=5"),
    ("leak", "tail_call would lead to reference leak"),
    (
        "leak",
        "BPF_EXIT instruction in main prog would lead to reference leak",
    ),
    (
        "release",
        "R1 must be referenced when passed to release function",
    ),
    ("release", "arg 1 is an unacquired reference"),
    (
        "lock",
        "function calls are not allowed while holding a lock",
    ),
    ("lock", "bpf_spin_unlock is missing"),
    (
        "lock",
        "BPF_EXIT instruction in main prog cannot be used inside bpf_spin_lock-ed region",
    ),
    (
        "too-large",
        "BPF program is too large. Processed 1000001 insn",
    ),
    ("too-complex", "The sequence of 8193 jumps is too complex."),
    ("endless", "infinite loop detected at insn 7"),
    ("endless", "back-edge from insn 5 to 2"),
    ("unreachable", "unreachable insn 7"),
    ("jump-target", "jump out of range from insn 5 to 99"),
    ("falls-off", "last insn is not an exit or jmp"),
    (
        "exit-value",
        "At program exit the register R0 has value (0x7; 0x0) should have been in (0x0; 0x3)",
    ),
    (
        "exit-value",
        "At program exit the register R0 has smin=7 smax=7 should have been in [0, 1]",
    ),
    (
        "exit-value",
        "At program exit the register R0 has unknown scalar value should have been in [0, 3]",
    ),
    (
        "exit-value",
        "At program exit the register R0 is not a known value (ctx)",
    ),
    (
        "exit-value",
        "At callback return the register R0 has smin=5 smax=5 should have been in [0, 1]",
    ),
    (
        "helper-type",
        "program of this type cannot use helper bpf_sk_assign#124",
    ),
    ("helper-type", "unknown func bpf_sk_assign#124"),
    ("helper-id", "invalid func unknown#9999"),
    (
        "kfunc",
        "calling kernel function bpf_cpumask_create is not allowed",
    ),
    ("kfunc", "kernel btf_id 1 is not a function"),
    ("kfunc-module", "BPF_CALL uses reserved fields"),
    (
        "gpl",
        "cannot call GPL-restricted function from non-GPL compatible program",
    ),
    (
        "map-helper",
        "cannot pass map_type 3 into func bpf_map_lookup_elem#1",
    ),
    ("argument", "R1 type=ctx expected=map_ptr"),
    (
        "argument",
        "R2 type=inv expected=fp, pkt, pkt_meta, map_key, map_value",
    ),
    ("constant", "R2 is not a known constant'"),
    ("zero-size", "R4 invalid zero-sized read: u64=[0,7]"),
    ("zero-size", "R4 invalid zero-sized read"),
    (
        "sleep",
        "sleepable helper bpf_copy_from_user#148 in non-sleepable prog",
    ),
    ("sleep", "helper call might sleep in a non-sleepable prog"),
    ("dynptr", "Expected an initialized dynptr as arg #0"),
    ("dynptr", "expected an initialized iter_num as arg #0"),
    (
        "global-function",
        "Caller passes invalid args into func#1 ('bump')",
    ),
    (
        "global-function",
        "Global function bump() doesn't return scalar. Only those are supported.",
    ),
    (
        "kfunc-argument",
        "arg#0 expected pointer to ctx, but got fp",
    ),
    (
        "kfunc-argument",
        "R1 must have zero offset when passed to release func or trusted arg to kfunc",
    ),
    (
        "tail-call",
        "tail_calls are not allowed in non-JITed programs with bpf-to-bpf calls",
    ),
    (
        "context-changed",
        "dereference of modified ctx ptr R1 off=8 disallowed",
    ),
    (
        "context-changed",
        "variable ctx access var_off=(0x0; 0xff) disallowed",
    ),
    ("context-field", "invalid bpf_context access off=200 size=4"),
    (
        "read-only",
        "write into map forbidden, value_size=8 off=0 size=8",
    ),
    ("read-only", "cannot write into packet"),
    ("read-only", "BPF_ST stores into R1 ctx is not allowed"),
    (
        "stack-bounds",
        "invalid indirect access to stack R3 off=-8 size=16",
    ),
    ("read-only", "R1 cannot write into rdonly_mem"),
    ("read-only", "only read from bpf_array is supported"),
    ("pointer-leak", "leaking pointer from stack off -8"),
    ("perfmon", "R0 leaks addr as return value"),
    ("perfmon", "R2 leaks addr into map"),
    ("perfmon", "R1 pointer comparison prohibited"),
    (
        "perfmon",
        "R1 pointer arithmetic of map value goes out of range, prohibited for !root",
    ),
    (
        "bpf",
        "function calls to other bpf functions are allowed for CAP_BPF and CAP_SYS_ADMIN",
    ),
    ("atomic", "BPF_ATOMIC stores into R1 ctx is not allowed"),
    ("atomic", "BPF_XADD stores into R2 pkt is not allowed"),
    ("misaligned", "misaligned packet access off 0+2+14+0 size 4"),
    ("misaligned", "misaligned stack access off 0+0+-9 size 8"),
    (
        "mixed-pointers",
        "same insn cannot be used with different pointers",
    ),
    ("map-fd", "fd 3 is not pointing to valid bpf_map"),
    ("attach-target", "attach_btf_id 7 is not a function"),
    ("attach-target", "attach_btf_id is not a function"),
    ("attach-target", "Tracing programs must provide btf_id"),
    ("btf-info", "missing btf func_info"),
    (
        "btf-info",
        "func_info BTF section doesn't match subprog layout in BPF program",
    ),
    ("btf-info", "Invalid line_info[3].insn_off:9 (prog->len:7)"),
    ("malformed", "unknown opcode ff"),
    ("malformed", "BPF_LDX uses reserved fields"),
    ("malformed", "R12 is invalid"),
    ("constant-operand", "div by zero"),
    ("constant-operand", "invalid shift 64"),
    ("jit", "JIT does not support calling kernel function"),
    ("verifier-bug", "verifier bug: REG INVARIANTS VIOLATION"),
];

#[test]
fn each_sentence_has_its_row() {
    let program = Program::from_slots(ProgType::XDP, "test", Vec::new());
    for (name, sentence) in SENTENCES {
        let found = hint::find(&program, Errno::EACCES, Evidence::Whole, &[sentence]);
        let found = found.unwrap_or_else(|| panic!("{sentence} has no row"));
        assert_eq!(found.name, *name, "{sentence}");
        assert!(!found.text.contains(['{', '}', '?', '\n']), "{found:?}");
        assert!(
            !found.text.contains("  ") && !found.text.ends_with('.'),
            "{found:?}"
        );
    }
    let tried: HashSet<&str> = SENTENCES.iter().map(|(name, _)| *name).collect();
    for row in ROWS {
        assert!(tried.contains(row.name), "{} is not tried", row.name);
    }
}

#[test]
fn hints_fill_in_what_the_sentence_says() {
    let program = Program::from_slots(ProgType::XDP, "test", Vec::new());
    let text = |sentence| {
        let found = hint::find(&program, Errno::EACCES, Evidence::Whole, &[sentence]);
        found.expect("a row").text
    };
    let bounds = text("invalid access to packet, off=12 size=2, R2(id=0,off=12,r=0)");
    assert!(bounds.starts_with("the access needs 2 bytes at offset 12, and 0 bytes are checked"));
    let helper = text("program of this type cannot use helper bpf_redirect_peer#155");
    assert!(
        helper.starts_with(
            "redirect_peer cannot be called from a program of type XDP here: it is for SCHED_CLS"
        ),
        "{helper}"
    );
    let argument = text("R1 type=ctx expected=map_ptr");
    assert!(argument.starts_with("argument R1 is a ctx, but must be one of: map_ptr"));
}

#[test]
fn an_unknown_sentence_has_no_hint() {
    let program = Program::from_slots(ProgType::XDP, "test", Vec::new());
    let found = hint::find(
        &program,
        Errno::EACCES,
        Evidence::Whole,
        &["no such sentence"],
    );
    assert_eq!(found, None);
}

#[test]
fn error_numbers_without_a_sentence() {
    let check = |errno, evidence, name| {
        let found = errno::find(errno, evidence).map(|hint| hint.name);
        assert_eq!(found, name, "{errno} {evidence:?}");
    };
    for (errno, name, text) in errno::ROWS {
        check(*errno, Evidence::Nothing, Some(*name));
        check(*errno, Evidence::Whole, Some(*name));
        check(*errno, Evidence::Cut, Some("log-cut"));
        assert!(!text.ends_with('.') && !text.contains("  "), "{text}");
    }
    for errno in [
        Errno::EPERM,
        Errno::E2BIG,
        Errno::ENOTSUPP,
        Errno::EINVAL,
    ] {
        assert!(errno::find(errno, Evidence::Nothing).is_some(), "{errno}");
    }
    check(Errno(9999), Evidence::Nothing, None);
    let numbers: HashSet<_> = errno::ROWS.iter().map(|(errno, ..)| *errno).collect();
    assert_eq!(numbers.len(), errno::ROWS.len(), "an errno has one row");
}
