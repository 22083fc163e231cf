//! Wrong use is refused with one message per mistake, which names the Rust line and says what to
//! do. Each test asserts the whole report.

use bpfsmith_asm::dsl::*;
use bpfsmith_asm::isa::{Jmp, Op, Src};
use bpfsmith_asm::report::{Kind, Report, Severity};

fn xdp(code: Code) -> Result<Program, Report> {
    Program::new(ProgType::XDP, "test", code)
}

/// Asserts the report: a line number, the fragments around it and the message of each finding.
#[track_caller]
fn refused(result: Result<Program, Report>, kind: Kind, expect: &[(u32, &str, &str)]) {
    let report = result.expect_err("must be refused");
    let mut text = match expect.len() {
        1 => "test: 1 finding".to_owned(),
        n => format!("test: {n} findings"),
    };
    for (line, path, message) in expect {
        text += &format!("\n  {}:{line}, in {path}: {message}", file!());
    }
    assert_eq!(report.to_string(), text);
    assert!(report.has_errors());
    assert!(
        report.findings.iter().any(|finding| finding.kind == kind),
        "{report:?}"
    );
}

#[test]
fn register_above_r10() {
    let line = line!() + 1;
    let code = code![mov(Reg::n(11), 1), ret(0)];
    refused(
        xdp(code),
        Kind::Register,
        &[(
            line,
            "register_above_r10",
            "error: r11 is out of place: BPF has r0 to r9 and the frame pointer r10",
        )],
    );
}

#[test]
fn register_above_r15() {
    let line = line!() + 1;
    let code = code![mov(R1, Reg::n(77)), ret(0)];
    refused(
        xdp(code),
        Kind::Register,
        &[(
            line,
            "register_above_r15",
            "error: a register above r14 is out of place: BPF has r0 to r9 and the frame pointer r10",
        )],
    );
}

#[test]
fn constant_of_a_64_bit_operation() {
    let line = line!() + 1;
    let code = code![mov(R1, u32::MAX), ret(0)];
    refused(
        xdp(code),
        Kind::DoesNotFit,
        &[(
            line,
            "constant_of_a_64_bit_operation",
            "error: the constant 0xffffffff does not fit: 32 bits, sign-extended, are stored; load \
             it into a register with lddw, or work on 32 bits (W0 to W9)",
        )],
    );
}

#[test]
fn constant_of_a_32_bit_operation() {
    let line = line!() + 1;
    let code = code![mov(W1, 1_u64 << 40), ret(0)];
    refused(
        xdp(code),
        Kind::DoesNotFit,
        &[(
            line,
            "constant_of_a_32_bit_operation",
            "error: the constant 0x10000000000 does not fit the 32 bits that this operation works on",
        )],
    );
}

#[test]
fn negative_constant() {
    let line = line!() + 1;
    let code = code![mov(R1, -(1_i64 << 40)), ret(0)];
    refused(
        xdp(code),
        Kind::DoesNotFit,
        &[(
            line,
            "negative_constant",
            "error: the constant 0xffffff0000000000 does not fit: 32 bits, sign-extended, are stored; \
             load it into a register with lddw, or work on 32 bits (W0 to W9)",
        )],
    );
}

#[test]
fn network_order_constant_of_two_bytes() {
    let line = line!() + 1;
    let code = code![store(R10.u16(-2), be16(70_000)), ret(0)];
    refused(
        xdp(code),
        Kind::DoesNotFit,
        &[(
            line,
            "network_order_constant_of_two_bytes",
            "error: the number 70000 does not fit: be16(…) takes 0 to 65535, be32(…) 0 to 4294967295",
        )],
    );
}

#[test]
fn network_order_constant_in_a_condition() {
    let line = line!() + 1;
    let code = code![W2.eq(be32(-1)).then(ret(1)), ret(0)];
    refused(
        xdp(code),
        Kind::DoesNotFit,
        &[(
            line,
            "network_order_constant_in_a_condition",
            "error: the number -1 does not fit: be16(…) takes 0 to 65535, be32(…) 0 to 4294967295",
        )],
    );
}

#[test]
fn constant_of_a_store() {
    let line = line!() + 1;
    let code = code![store(R10.u64(-8), 1_u64 << 32), ret(0)];
    refused(
        xdp(code),
        Kind::DoesNotFit,
        &[(
            line,
            "constant_of_a_store",
            "error: the constant 0x100000000 does not fit: 32 bits, sign-extended, are stored; load \
             it into a register with lddw, or work on 32 bits (W0 to W9)",
        )],
    );
}

#[test]
fn constant_of_a_store_is_wider_than_the_place() {
    let line = line!() + 2;
    let code = code![
        store(R10.u8(-1), 256),
        store(R10.u16(-4), 0x1_0000),
        store(R10.u8(-5), -128),
        store(R10.u16(-8), 0xffff),
        store(R10.u32(-12), u32::MAX),
        ret(0)
    ];
    refused(
        xdp(code),
        Kind::DoesNotFit,
        &[
            (
                line,
                "constant_of_a_store_is_wider_than_the_place",
                "error: the constant 0x100 does not fit the one byte that is stored",
            ),
            (
                line + 1,
                "constant_of_a_store_is_wider_than_the_place",
                "error: the constant 0x10000 does not fit the two bytes that are stored",
            ),
        ],
    );
}

#[test]
fn offset() {
    let line = line!() + 1;
    let code = code![load(R2, R1.u64(40_000)), ret(0)];
    refused(
        xdp(code),
        Kind::DoesNotFit,
        &[(
            line,
            "offset",
            "error: the offset 40000 does not fit: a memory access reaches -32768 to 32767 bytes; \
             add the rest to the register first",
        )],
    );
}

#[test]
fn label_bound_twice() {
    let here = label("here");
    let line = line!() + 2;
    let code = code![
        bind(here),
        mov(R0, 0),
        bind(here),
        exit()
    ];
    refused(
        xdp(code),
        Kind::BoundTwice,
        &[(
            line + 2,
            "label_bound_twice",
            &format!(
                "error: label `here` is bound a second time, first at {}:{line}: a label has one \
                 place, so call label() once for each",
                file!()
            ),
        )],
    );
}

#[test]
fn label_never_bound() {
    let out = label("out");
    let line = line!() + 1;
    let code = code![ja(out)];
    refused(
        xdp(code),
        Kind::NeverBound,
        &[(
            line,
            "label_never_bound",
            "error: label `out` is never bound: put bind(out) where the jump should go",
        )],
    );
}

#[test]
fn label_of_another_function() {
    let out = label("out");
    let line = line!() + 1;
    let callee = func("callee").body(code![jeq(R1, 0, out), ret(0)]);
    let code = code![call(&callee), bind(out), ret(0)];
    refused(
        xdp(code),
        Kind::NeverBound,
        &[(
            line,
            "label_of_another_function",
            &format!(
                "error: label `out` is bound in another function, at {}:{}: a jump stays in its \
                 function, use call()",
                file!(),
                line + 1
            ),
        )],
    );
}

#[test]
fn label_at_the_end() {
    let end = label("end");
    let line = line!() + 1;
    let code = code![jeq(R1, 0, end), ret(0), bind(end)];
    refused(
        xdp(code),
        Kind::BadTarget,
        &[(
            line,
            "label_at_the_end",
            "error: label `end` is bound behind the last instruction of its function: end \
             with ret(…) or exit() there",
        )],
    );
}

#[test]
fn unreachable_code() {
    let line = line!() + 1;
    let code = code![ret(0), mov(R0, 1), exit()];
    refused(
        xdp(code),
        Kind::Unreachable,
        &[(
            line,
            "unreachable_code",
            "error: no path reaches this instruction: remove it, or bind a label here that \
             something jumps to",
        )],
    );
}

#[test]
fn uninitialised_register() {
    let line = line!() + 1;
    let code = code![add(R6, 1), ret(0)];
    refused(
        xdp(code),
        Kind::Uninitialised,
        &[(
            line,
            "uninitialised_register",
            "error: r6 is read but was never written: write it first",
        )],
    );
}

#[test]
fn result_not_set() {
    let line = line!() + 1;
    let code = code![mov(R1, 0), exit()];
    refused(
        xdp(code),
        Kind::Uninitialised,
        &[(
            line,
            "result_not_set",
            "error: r0 is the result, but is not set: set it with mov(R0, …) or end with ret(…)",
        )],
    );
}

#[test]
fn clobbered_register() {
    let line = line!() + 1;
    let code = code![ktime_get_ns(), mov(R0, R1), exit()];
    refused(
        xdp(code),
        Kind::Clobbered,
        &[(
            line,
            "clobbered_register",
            &format!(
                "error: r1 is read after ktime_get_ns ({}:{line}) destroyed it: keep the value in \
                 r6 to r9",
                file!()
            ),
        )],
    );
}

#[test]
fn frame_pointer() {
    let line = line!() + 1;
    let code = code![add(R10, 8), ret(0)];
    refused(
        xdp(code),
        Kind::FramePointer,
        &[(
            line,
            "frame_pointer",
            "error: r10 is the frame pointer and cannot be written: use another register",
        )],
    );
}

#[test]
fn stack_outside_its_512_bytes() {
    let line = line!() + 2;
    let code = code![
        store(R10.u64(-520), 0),
        store(R10.u32(0), 0),
        store(R10.u64(-4), 0),
        ret(0)
    ];
    let outside = |bytes, off| {
        format!(
            "error: {bytes} bytes at r10{off} are outside the stack: it is the 512 bytes from \
             r10-512 to r10-1"
        )
    };
    refused(
        xdp(code),
        Kind::Stack,
        &[
            (line, "stack_outside_its_512_bytes", &outside(8, "-520")),
            (line + 1, "stack_outside_its_512_bytes", &outside(4, "+0")),
            (line + 2, "stack_outside_its_512_bytes", &outside(8, "-4")),
        ],
    );
}

#[test]
fn slots_too_large_in_total() {
    let a = slot::<[u64; 40]>("a");
    let b = slot::<[u64; 30]>("b");
    let line = line!() + 2;
    let code = code![
        store(a.u64(0), 0),
        store(b.u64(0), 0),
        ret(0)
    ];
    refused(
        xdp(code),
        Kind::Stack,
        &[(
            line + 1,
            "slots_too_large_in_total",
            "error: stack slot `b` of 240 bytes does not fit: it would end 560 bytes below the frame \
             pointer, and a function has 512; put large data in a per-CPU array",
        )],
    );
}

#[test]
fn outside_of_a_slot() {
    let key = slot::<u32>("key");
    let line = line!() + 2;
    let code = code![
        store(key.u32(4), 0),
        store(key.u64(0), 0),
        store(key.u8(-1), 0),
        ret(0)
    ];
    let outside = |bytes, off| {
        format!(
            "error: {bytes} at offset {off} of stack slot `key` would be outside: it has 4 bytes"
        )
    };
    refused(
        xdp(code),
        Kind::Stack,
        &[
            (line, "outside_of_a_slot", &outside("4 bytes", 4)),
            (line + 1, "outside_of_a_slot", &outside("8 bytes", 0)),
            (
                line + 2,
                "outside_of_a_slot",
                "error: 1 byte at offset -1 of stack slot `key` would be outside: it has 4 bytes",
            ),
        ],
    );
}

#[test]
fn misaligned_stack() {
    let line = line!() + 1;
    let code = code![store(R10.u32(-7), 0), ret(0)];
    refused(
        xdp(code),
        Kind::Stack,
        &[(
            line,
            "misaligned_stack",
            "error: 4 bytes at r10-7 are misaligned: on the stack an offset is a multiple of the size",
        )],
    );
}

#[test]
fn falls_off_the_end() {
    let line = line!() + 1;
    let code = code![mov(R0, 0)];
    refused(
        xdp(code),
        Kind::FallsOff,
        &[(
            line,
            "falls_off_the_end",
            "error: the program goes on behind its last instruction: end every path with ret(…), \
             exit() or a jump",
        )],
    );
}

#[test]
fn function_falls_off_its_end() {
    let line = line!() + 1;
    let callee = func("callee").body(code![mov(R0, 0)]);
    refused(
        xdp(code![call(&callee), exit()]),
        Kind::FallsOff,
        &[(
            line,
            "function_falls_off_its_end",
            "error: function `callee` goes on behind its last instruction: end every path with \
             ret(…), exit() or a jump",
        )],
    );
}

#[test]
fn helper_of_another_program_type() {
    let line = line!() + 1;
    let code = code![xdp_adjust_head(R1, 0), ret(0)];
    refused(
        Program::new(ProgType::SCHED_CLS, "test", code),
        Kind::Helper,
        &[(
            line,
            "helper_of_another_program_type",
            "error: helper xdp_adjust_head may not be called from BPF_PROG_TYPE_SCHED_CLS: it is \
             for XDP, EXT",
        )],
    );
}

#[test]
fn atomic_of_wrong_width() {
    let line = line!() + 1;
    let code = code![atomic_add(R10.u16(-2), R1), ret(0)];
    refused(
        xdp(code),
        Kind::DoesNotFit,
        &[(
            line,
            "atomic_of_wrong_width",
            "error: an access of 2 bytes does not exist here: atomic operations take 4 or 8 bytes, \
             sign-extending loads 1, 2 or 4",
        )],
    );
}

#[test]
fn two_maps_of_one_name() {
    let one: MapDef<u32, u64> = MapDef::array("counts", 1);
    let two: MapDef<u32, u32> = MapDef::hash("counts", 8);
    let line = line!() + 2;
    let code = code![
        ld_map(R1, &one),
        ld_map(R1, &two),
        ret(0)
    ];
    refused(
        xdp(code),
        Kind::Conflict,
        &[(
            line + 1,
            "two_maps_of_one_name",
            "error: map `counts` is BPF_MAP_TYPE_HASH key 4 value 4 entries 8 here but \
             BPF_MAP_TYPE_ARRAY key 4 value 8 entries 1 elsewhere in the program: give one of them another name",
        )],
    );
}

#[test]
fn two_maps_that_differ_in_flags() {
    let one: MapDef<u32, u64> = MapDef::hash("counts", 1);
    let two = one.flags(1);
    let line = line!() + 3;
    let code = code![
        ld_map(R1, &one),
        ld_map(R1, &two),
        ret(0)
    ];
    refused(
        xdp(code),
        Kind::Conflict,
        &[(
            line,
            "two_maps_that_differ_in_flags",
            "error: map `counts` is BPF_MAP_TYPE_HASH key 4 value 8 entries 1 flags 0x1 here but \
             BPF_MAP_TYPE_HASH key 4 value 8 entries 1 elsewhere in the program: give one of them another name",
        )],
    );
}

#[test]
fn two_globals_of_one_name() {
    let one = Global::data("limit", 1_u64);
    let two = Global::data("limit", 2_u64);
    let line = line!() + 2;
    let code = code![
        ld_global(R1, &one),
        ld_global(R1, &two),
        ret(0)
    ];
    refused(
        xdp(code),
        Kind::Conflict,
        &[(
            line + 1,
            "two_globals_of_one_name",
            "error: global variable `limit` is defined differently elsewhere in the program: give one \
             of them another name",
        )],
    );
}

#[test]
fn empty_program() {
    let report = xdp(code![]).unwrap_err();
    assert_eq!(
        report.to_string(),
        "test: 1 finding\n  instruction 0: error: the program is empty: end it with ret(…) or exit()"
    );
}

#[test]
fn empty_function() {
    let callee = func("nothing").body(code![]);
    let line = line!() + 1;
    let code = code![call(&callee), ret(0)];
    refused(
        xdp(code),
        Kind::FallsOff,
        &[(
            line,
            "empty_function",
            "error: function `nothing` is empty: end it with ret(…) or exit()",
        )],
    );
}

#[test]
fn numeric_jump_out_of_the_function() {
    let line = line!() + 2;
    let code = code![
        Insn::op(Op::Jump(
            Jmp::Eq,
            bpfsmith_asm::isa::Bits::B64,
            R1,
            Src::Imm(0),
            9
        )),
        ret(0)
    ];
    refused(
        xdp(code),
        Kind::BadTarget,
        &[(
            line,
            "numeric_jump_out_of_the_function",
            "error: the jump goes to slot 10, where no instruction of this function starts",
        )],
    );
}

#[test]
fn jump_into_lddw() {
    let line = line!() + 1;
    let code = code![Insn::op(Op::Ja(1)), lddw(R1, 5), ret(0)];
    refused(
        xdp(code),
        Kind::BadTarget,
        &[(
            line,
            "jump_into_lddw",
            "error: the jump goes to slot 2, where no instruction of this function starts",
        )],
    );
}

#[test]
fn everything_at_once_before_the_flow() {
    let (out, twice) = (label("out"), label("twice"));
    let name = "everything_at_once_before_the_flow";
    let line = line!() + 2;
    let code = code![
        mov(Reg::n(12), 1),
        mov(R1, 1_u64 << 33),
        bind(twice),
        load(R2, R1.u8(-40_000)),
        bind(twice),
        ja(out),
        ret(0),
    ];
    refused(
        xdp(code),
        Kind::NeverBound,
        &[
            (
                line,
                name,
                "error: r12 is out of place: BPF has r0 to r9 and the frame pointer r10",
            ),
            (
                line + 1,
                name,
                "error: the constant 0x200000000 does not fit: 32 bits, sign-extended, are stored; \
                 load it into a register with lddw, or work on 32 bits (W0 to W9)",
            ),
            (
                line + 3,
                name,
                "error: the offset -40000 does not fit: a memory access reaches -32768 to 32767 \
                 bytes; add the rest to the register first",
            ),
            (
                line + 4,
                name,
                &format!(
                    "error: label `twice` is bound a second time, first at {}:{}: a label has one \
                     place, so call label() once for each",
                    file!(),
                    line + 2
                ),
            ),
            (
                line + 5,
                name,
                "error: label `out` is never bound: put bind(out) where the jump should go",
            ),
        ],
    );
}

#[test]
fn everything_at_once_in_the_flow() {
    let name = "everything_at_once_in_the_flow";
    let line = line!() + 2;
    let code = code![
        mov(R6, R9),
        mov(R10, 1),
        store(R10.u64(-600), 0),
        skb_change_proto(R1, 0, 0),
        add(R2, 1),
        ret(0),
        ret(1),
    ];
    let report = xdp(code).unwrap_err();
    let lines: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    let starts = [
        (line, "r9 is read but was never written"),
        (line + 1, "r10 is the frame pointer"),
        (line + 2, "8 bytes at r10-600 are outside the stack"),
        (
            line + 3,
            "helper skb_change_proto may not be called from BPF_PROG_TYPE_XDP",
        ),
        (line + 4, "r2 is read after skb_change_proto"),
        (line + 6, "no path reaches this instruction"),
    ];
    assert_eq!(lines.len(), starts.len(), "{report}");
    for (got, (line, start)) in lines.iter().zip(starts) {
        let start = format!("{}:{line}, in {name}: error: {start}", file!());
        assert!(got.starts_with(&start), "{got}\n{start}");
    }
}

fn inner() -> Code {
    code![mov(R0, R7)]
}

#[test]
fn the_fragments_are_named() {
    let report = xdp(code![inner(), exit()]).unwrap_err();
    assert!(
        report.to_string().contains(
            "in the_fragments_are_named > inner: error: r7 is read but was never written"
        ),
        "{report}"
    );
}

#[test]
fn a_register_written_on_some_paths_is_a_warning() {
    let line = line!() + 4;
    let code = code![
        load(R2, R1.u32(0)),
        R2.eq(0).then(mov(R6, 1)),
        mov(R0, R6),
        exit()
    ];
    let program = xdp(code).unwrap();
    let [warning] = program.warnings() else {
        panic!("{:?}", program.warnings())
    };
    assert_eq!(warning.severity, Severity::Warning);
    assert_eq!(
        warning.to_string(),
        format!(
            "{}:{line}, in a_register_written_on_some_paths_is_a_warning: warning: r6 is read but was \
             never written on some paths: write it first",
            file!()
        )
    );
}

#[test]
fn shift_and_division_by_a_constant() {
    let name = "shift_and_division_by_a_constant";
    let line = line!() + 3;
    let code = code![
        mov(R0, 1),
        lsh(R0, 64),
        rsh(W0, 32),
        rem(R0, 0),
        arsh(R0, 63),
        exit()
    ];
    refused(
        xdp(code),
        Kind::DoesNotFit,
        &[
            (
                line,
                name,
                "error: r0 is shifted by 64: an operation of 64 bits takes 0 to 63",
            ),
            (
                line + 1,
                name,
                "error: r0 is shifted by 32: an operation of 32 bits takes 0 to 31",
            ),
            (
                line + 2,
                name,
                "error: r0 is divided by the constant 0: no kernel takes that",
            ),
        ],
    );
}

/// What the checker says of a program: `None` if nothing, else whether it is refused.
fn verdict(code: Code) -> Option<bool> {
    match xdp(code) {
        Err(_) => Some(true),
        Ok(program) => (!program.warnings().is_empty()).then_some(false),
    }
}

fn mistake() -> Code {
    code![mov(R0, R9)]
}

#[test]
fn a_mistake_behind_known_values_is_a_warning() {
    let dead = [
        code![
            mov(R6, 0),
            R6.ne(0).then(mistake()),
            ret(0)
        ],
        code![
            mov(R6, R1),
            R6.eq(0).then(mistake()),
            ret(0)
        ],
        code![
            load(R6, R1.u32(0)),
            and(R6, 7),
            R6.gt(8).then(mistake()),
            ret(0)
        ],
        code![
            load(R2, R1.u32(12)),
            R2.eq(1).then(code![R2.eq(2).then(mistake())]),
            ret(0)
        ],
    ];
    for code in dead {
        assert_eq!(verdict(code), Some(false));
    }
}

#[test]
fn a_mistake_that_every_verifier_meets_is_an_error() {
    let out = label("out");
    let live = [
        // Behind a branch that is known, and behind a loop.
        code![
            mov(R6, 0),
            R6.ne(0).then(mov(R6, 1)),
            mistake(),
            exit()
        ],
        code![
            repeat(R6, 0..4).body(mov(R7, R6)),
            mistake(),
            exit()
        ],
        // Behind a packet's bounds check, twice, and a protocol.
        code![
            load(R7, R1.u32(0)),
            load(R8, R1.u32(4)),
            mov(R2, R7),
            add(R2, 14),
            jgt(R2, R8, out),
            load(R3, R7.u16(12)),
            jne(R3, be16(0x800), out),
            mov(R2, R7),
            add(R2, 34),
            jgt(R2, R8, out),
            mistake(),
            exit(),
            bind(out),
            ret(0),
        ],
        // Behind a look-up.
        code![
            mov(R1, 0),
            ktime_get_ns(),
            R0.ne(0).then(mistake()),
            ret(0)
        ],
    ];
    for code in live {
        assert_eq!(verdict(code), Some(true));
    }
}
