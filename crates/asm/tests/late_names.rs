//! Names that the running kernel answers: how they are written, printed and read back.

use bpfsmith_asm::dsl::*;
use bpfsmith_asm::kernel::{Ask, Question};
use bpfsmith_asm::program::Target;
use bpfsmith_asm::text;

const SK: Reg = R6;

fn program() -> Program {
    let skip = label("skip");
    let private = SK.to(kernel("inet_connection_sock.icsk_ca_priv"));
    let code = code![
        load(SK, args("tcp_congestion_ops.cong_avoid").get("sk")),
        load(
            R7,
            args("tcp_congestion_ops.cong_avoid").from(R1).get("acked")
        ),
        load(R0, SK.get(kernel("tcp_sock.snd_cwnd | tcp_sock.cwnd"))),
        load(R2, SK.at(8).get(kernel("sock.sk_family")).signed()),
        store(SK.get(kernel("tcp_sock.snd_ssthresh")), R0),
        store(SK.get(kernel("tcp_sock.snd_ssthresh")), 7),
        load(R3, private.u32(4)),
        load(R3, private.get(kernel("hstate.x"))),
        addr(R4, private.at(4)),
        load_bits(R5, SK, kernel("tcp_sock.is_cwnd_limited")),
        mov(R1, kernel("tcp_sock.snd_cwnd").exists()),
        jeq(R1, 0, skip),
        jeq(R1, kernel_const("tcp_ca_state.TCP_CA_Loss"), skip),
        mov(W2, kernel_type("struct tcp_sock").size()),
        add(R2, kernel("tcp_sock.snd_cwnd").size()),
        mov(R3, kfunc("bpf_dynptr_slice").exists()),
        mov(R3, ksym("runqueues").exists()),
        bind(skip),
        ret(0),
    ];
    Program::new(ProgType::STRUCT_OPS, "names", code).unwrap_or_else(|report| panic!("{report}"))
}

#[test]
fn a_listing_says_what_is_asked_and_is_read_back() {
    let program = program();
    let listing = program.listing();
    insta::assert_snapshot!(listing);
    let again = text::program(&listing).unwrap();
    assert_eq!(again, program);
    assert_eq!(again.listing().lines().count(), listing.lines().count() - 1);
}

#[test]
fn alternatives_and_ways_are_part_of_the_path() {
    let paths: Vec<(Ask, String)> = program()
        .relocs()
        .iter()
        .filter_map(|reloc| match &reloc.target {
            Target::Kernel(Question { ask, path }) => Some((*ask, path.to_string())),
            _ => None,
        })
        .collect();
    for (ask, path) in [
        (Ask::Field, "tcp_sock.snd_cwnd | tcp_sock.cwnd"),
        (Ask::Arg, "tcp_congestion_ops.cong_avoid.acked"),
        (Ask::Offset, "inet_connection_sock.icsk_ca_priv"),
        (Ask::Field, "inet_connection_sock.icsk_ca_priv + hstate.x"),
        (Ask::Left, "tcp_sock.is_cwnd_limited"),
        (Ask::Const, "tcp_ca_state.TCP_CA_Loss"),
        (Ask::HasKsym, "runqueues"),
    ] {
        assert!(
            paths.contains(&(ask, path.to_owned())),
            "{ask:?} {path}: {paths:?}"
        );
    }
}

#[track_caller]
fn refused(line: &str, at: u32, message: &str) {
    let Err(errors) = text::parse(line) else {
        panic!("{line} is taken");
    };
    assert_eq!(
        (errors[0].column, errors[0].message.as_str()),
        (at, message),
        "{line}"
    );
}

#[test]
fn what_makes_no_sense_is_refused_where_it_stands() {
    refused(
        "exit @field[a.b]",
        6,
        "this instruction has no place for `@field`: remove it",
    );
    refused(
        "r1 = 5 @field[a.b]",
        8,
        "this instruction has no place for `@field`: remove it",
    );
    refused(
        "r1 = *(u64 *)(r2 + 0) @has_field[a.b]",
        23,
        "this instruction has no place for `@has_field`: remove it",
    );
    refused(
        "r1 = map[hits] @size[a.b]",
        16,
        "this instruction has no place for `@size`: remove it",
    );
    refused(
        "r1 = 5 @size[ ]",
        14,
        "expected a name of the kernel, as in `@field[tcp_sock.snd_cwnd]`",
    );
    let errors = text::parse("r1 = 5 @nothing[x]").unwrap_err();
    assert!(
        errors[0]
            .message
            .starts_with("expected one of @field, @offset")
    );
}

#[test]
fn a_name_in_network_order_has_no_width_to_fit() {
    let code = code![
        store(R6.get(kernel("sock.sk_family")), be16(2)),
        ret(0),
    ];
    let report = Program::new(ProgType::STRUCT_OPS, "net", code).unwrap_err();
    assert!(report.to_string().contains("network order"), "{report}");
}

#[test]
fn asking_twice_is_one_question() {
    let code = || {
        code![
            load(R0, R1.get(kernel("tcp_sock.snd_cwnd"))),
            exit(),
        ]
    };
    let one = Program::new(ProgType::STRUCT_OPS, "one", code()).unwrap();
    let two = std::thread::spawn(move || Program::new(ProgType::STRUCT_OPS, "one", code()))
        .join()
        .unwrap()
        .unwrap();
    assert_eq!(one, two);
}

#[track_caller]
fn paths(code: Code) -> Vec<String> {
    let program = Program::new(ProgType::STRUCT_OPS, "paths", code![code, ret(0)]);
    let program = program.unwrap_or_else(|report| panic!("{report}"));
    let again = text::program(&program.listing()).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(again.relocs(), program.relocs());
    let targets = program.relocs().iter().map(|reloc| &reloc.target);
    targets
        .map(|target| match target {
            Target::Kernel(question) => question.path.to_string(),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn elements_of_arrays_are_read_back() {
    let code = code![
        mov(R6, R1),
        load(R1, R6.get(kernel("task_struct.comm[3]"))),
        load(R1, R6.get(kernel(" a.b[1][2].c | d.e[0] "))),
    ];
    let known = paths(code);
    assert_eq!(
        known,
        [
            "task_struct.comm[3]",
            "a.b[1][2].c | d.e[0]"
        ]
    );
}

#[test]
fn each_alternative_goes_on_in_each_of_the_next() {
    let first = kernel("new.inner|old.inner");
    let through = R6.to(first).get(kernel("x.y | x.z"));
    let code = code![mov(R6, R1), load(R1, through)];
    assert_eq!(
        paths(code),
        ["new.inner + x.y | new.inner + x.z | old.inner + x.y | old.inner + x.z"]
    );
}

#[track_caller]
fn not_built(code: Code, wanted: &str) {
    let program = Program::new(ProgType::STRUCT_OPS, "not", code![code, ret(0)]);
    let report = match program {
        Ok(program) => panic!("{}", program.listing()),
        Err(report) => report.to_string(),
    };
    assert!(report.contains(wanted), "{report}");
}

#[test]
fn names_that_no_text_holds_are_refused() {
    for name in [
        "",
        " ",
        "a.b]",
        "a.b[",
        "]a.b[",
        "a.b\n",
        "a\n.b",
        "a\0.b",
        "a\u{1b}.b",
        "a.b |",
        "| a.b",
        "a.b + ",
        "a.b | | c.d",
    ] {
        // White space at the ends means nothing.
        if name.trim() == "a.b" {
            continue;
        }
        let access = code![load(R0, R1.get(kernel(name)))];
        not_built(access, "is no name of the kernel");
        not_built(
            code![mov(R0, kernel_type(name).exists())],
            "is no name of the kernel",
        );
    }
    for text in [
        "r1 = 5 @size[a]]",
        "r1 = 5 @size[a[]",
        "r1 = 5 @size[a\u{1b}]",
        "r1 = 5 @size[a\0]",
        "r1 = 5 @size[",
        "r1 = 5 @size",
        "r1 = 5 @",
    ] {
        assert!(text::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn a_width_that_was_written_stays() {
    let place = R1.to(kernel("sock.sk_family"));
    not_built(
        code![load(R0, place.u64(0).signed())],
        "sign-extending loads 1, 2 or 4",
    );
    not_built(
        code![load(
            R0,
            Place::from(args("tcp_connect").get("sk")).u64(0).signed()
        )],
        "sign-extending loads 1, 2 or 4",
    );
    // What has its width from the kernel may have a sign.
    let code = code![
        load(R0, args("tcp_connect").get("sk").signed()),
        exit(),
    ];
    let program = Program::new(ProgType::RAW_TRACEPOINT, "signed", code);
    let listing = program.map(|program| program.listing());
    assert!(listing.is_ok_and(|text| text.contains("*(s32 *)(r1 + 0) @arg[tcp_connect.sk]")));
}

#[test]
fn a_constant_in_network_order_is_not_stored_in_the_order_of_the_host() {
    let place = R1.to(kernel("sock.sk_family"));
    not_built(
        code![store(place.u16(0), be16(443))],
        "load it into a register first",
    );
    // What is known to be too large is refused without the kernel.
    not_built(code![store(place.u8(0), 256)], "the one byte");
}

#[test]
fn the_kernel_does_not_say_where_in_a_slot() {
    let copy = slot::<[u64; 2]>("copy");
    let field = kernel("sock.sk_family");
    for access in [
        load(R0, copy.get(field)),
        load(R0, copy.at(8).get(field)),
        store(copy.get(field), R1),
        store(copy.get(field), 1),
        atomic_add(copy.get(field), R1),
    ] {
        not_built(
            code![mov(R1, 0), access],
            "take the slot's address with addr(…)",
        );
    }
}

#[test]
fn what_the_kernel_fills_in_is_not_taken_for_zero() {
    let by = kernel_const("TCP_CA_Loss");
    let code = code![mov(R0, 9), div(R0, by), rem(W0, by)];
    assert_eq!(paths(code), ["TCP_CA_Loss"; 2]);
}

#[test]
fn jumps_that_go_far_keep_their_questions() {
    for isa in [Isa::V3, Isa::V4] {
        let end = label("end");
        let code = code![
            mov(R0, 0),
            mov(R6, R1),
            jeq(R0, kernel_const("FIRST"), end),
            jset(R0, kernel_const("SECOND"), end),
            (0..70_000).map(|_| add(R0, 1)),
            load(R0, R6.get(kernel("a.b"))),
            jeq(R0, kernel_const("THIRD"), end),
            mov(R1, kernel("a.b").exists()),
            bind(end),
            exit(),
        ];
        let program = Program::assemble(isa, ProgType::STRUCT_OPS, "far", code);
        let program = program.unwrap_or_else(|report| panic!("{report}"));
        let text = program.listing();
        for wanted in [
            "@const[FIRST]",
            "@const[SECOND]",
            "@const[THIRD]",
            "@field[a.b]",
            "@has_field[a.b]",
        ] {
            let line = text.lines().find(|line| line.contains(wanted)).unwrap();
            let ok = match wanted {
                "@field[a.b]" => line.contains("r0 = *(u64 *)(r6 + 0)"),
                "@has_field[a.b]" => line.contains("r1 = 0"),
                _ => line.contains("if r0 "),
            };
            assert!(ok, "{line}");
        }
        assert_eq!(text::program(&text).unwrap().relocs(), program.relocs());
    }
}

#[test]
fn a_text_does_not_say_what_the_kernel_says() {
    refused(
        "r1 = *(u8 *)(r2 + 0) @field[a.b]",
        1,
        "the kernel says how wide this is: write `*(u64 *)`, or `*(s32 *)` for a sign",
    );
    refused(
        "r1 = *(s8 *)(r2 + 0) @field[a.b]",
        1,
        "the kernel says how wide this is: write `*(s32 *)` for a sign",
    );
    refused(
        "r1 = 5 @const[a]",
        1,
        "the kernel says this number: write 0",
    );
    for fine in [
        "r1 = *(s32 *)(r2 + 0) @field[a.b]",
        "r1 = *(u64 *)(r2 + 8) @field[a.b]",
        "r1 = *(u8 *)(r2 + 8) @offset[a.b]",
        "r1 += 0 @offset[a.b]",
    ] {
        assert!(text::parse(fine).is_ok(), "{fine}");
    }
}
