//! Instructions to text and back, and what the parser says of text that is none.

mod support;

use bpfsmith_asm::isa::{Callee, Op};
use bpfsmith_asm::kernel::Ask;
use bpfsmith_asm::program::Target;
use bpfsmith_asm::text::{Symbol, Text, parse, program, write_op, write_op_named};
use proptest::prelude::*;
use support::{all_ops, any_op, encode};

fn print(list: &[Op]) -> String {
    let mut out = String::new();
    for op in list {
        write_op(&mut out, *op);
        out.push('\n');
    }
    out
}

#[track_caller]
fn parsed(source: &str) -> Text {
    match parse(source) {
        Ok(text) => text,
        Err(errors) => {
            let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
            panic!("{source}\n{}", errors.join("\n"))
        }
    }
}

/// Both texts mean the same.
#[track_caller]
fn same(source: &str, ours: &str) {
    let (theirs, canonical) = (parsed(source), parsed(ours));
    assert_eq!(theirs.insns, canonical.insns, "{source}");
    let printed: String = bpfsmith_asm::decode::ops(&theirs.insns)
        .map(|item| format!("{}\n", item.expect("valid").1))
        .collect();
    assert_eq!(printed.trim_end(), ours);
}

/// All errors of a text, one to a line.
#[track_caller]
fn refused(source: &str, messages: &str) {
    let errors = parse(source).map(|text| text.insns).expect_err(source);
    let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(errors.join("\n"), messages, "{source}");
}

#[test]
fn every_form_of_every_operation_comes_back() {
    for op in all_ops() {
        let text = op.to_string();
        assert_eq!(parsed(&text).insns, encode(&[op]), "{text}");
        let mut named = String::new();
        write_op_named(&mut named, op, None);
        assert_eq!(parsed(&named).insns, encode(&[op]), "{named}");
    }
}

/// A program with a label at each instruction, as its listing has it.
fn labelled(list: &[Op], names: &[String]) -> String {
    let mut slot = 0;
    let mut starts = Vec::new();
    for op in list {
        starts.push(slot);
        slot += op.slots();
    }
    let mut out = String::new();
    for ((op, start), name) in list.iter().zip(&starts).zip(names) {
        let distance = match *op {
            Op::Ja(off) | Op::MayGoto(off) | Op::Jump(.., off) => i64::from(off),
            Op::JaLong(imm) | Op::Call(Callee::Local(imm)) => i64::from(imm),
            _ => i64::MIN / 2,
        };
        let to = i64::try_from(start + 1).expect("a short program") + distance;
        let target = starts.iter().position(|&at| i64::try_from(at) == Ok(to));
        out.push_str(name);
        out.push_str(":\n  ");
        write_op_named(&mut out, *op, target.map(|i| Symbol::Label(&names[i])));
        out.push('\n');
    }
    out
}

/// Instructions whose jumps mostly stay inside.
fn local_program() -> impl Strategy<Value = Vec<Op>> {
    let near = -6..6i16;
    let op = (any_op(), near).prop_map(|(op, off)| match op {
        Op::Ja(_) => Op::Ja(off),
        Op::MayGoto(_) => Op::MayGoto(off),
        Op::JaLong(_) => Op::JaLong(off.into()),
        Op::Jump(jmp, bits, dst, src, _) => Op::Jump(jmp, bits, dst, src, off),
        Op::Call(Callee::Local(_)) => Op::Call(Callee::Local(off.into())),
        other => other,
    });
    prop::collection::vec(op, 1..20)
}

fn mutated() -> impl Strategy<Value = String> {
    let noise = prop_oneof![
        "[ -~\n]{0,3}",
        "\\PC{0,2}",
        prop::sample::select(
            &[
                "r",
                "0x",
                "ll",
                "*(",
                "goto",
                ":",
                "#",
                ";",
                "+",
                "-",
                "]",
                "99999999999"
            ][..]
        )
        .prop_map(str::to_owned),
    ];
    let edits = prop::collection::vec((any::<prop::sample::Index>(), 0..4usize, noise), 1..6);
    (prop::collection::vec(any_op(), 1..6), edits).prop_map(|(list, edits)| {
        let mut bytes = print(&list);
        for (place, cut, noise) in edits {
            let from = place.index(bytes.len() + 1);
            let from = (0..=from)
                .rev()
                .find(|&i| bytes.is_char_boundary(i))
                .unwrap_or(0);
            let to = (from + cut..=bytes.len()).find(|&i| bytes.is_char_boundary(i));
            bytes.replace_range(from..to.unwrap_or(bytes.len()), &noise);
        }
        bytes
    })
}

/// Whatever the parser says of a text, it points into the text and says something.
fn survives(source: &str) -> Result<(), TestCaseError> {
    match parse(source) {
        Ok(text) => {
            prop_assert_eq!(text.positions.len(), text.insns.len());
            prop_assert!(bpfsmith_asm::decode::validate(&text.insns).is_ok());
        }
        Err(errors) => {
            prop_assert!(!errors.is_empty() && errors.len() <= 100);
            prop_assert!(errors.is_sorted_by_key(|e| (e.line, e.column)));
            for e in errors {
                let line = source.split('\n').nth(e.line as usize - 1);
                let length = line.map(|line| line.chars().count());
                prop_assert!(length.is_some_and(|n| e.column as usize <= n + 1), "{e}");
                prop_assert!(!e.message.is_empty());
            }
        }
    }
    let _ = program(source);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn any_program_comes_back(list in prop::collection::vec(any_op(), 0..20)) {
        let source = print(&list);
        let text = parsed(&source);
        prop_assert_eq!(text.insns, encode(&list), "{}", source);
    }

    #[test]
    fn any_program_with_labels_comes_back(list in local_program()) {
        let names: Vec<String> = (0..list.len()).map(|n| format!("at_{n}")).collect();
        let source = labelled(&list, &names);
        let text = parsed(&source);
        prop_assert_eq!(&text.insns, &encode(&list), "{}", source);
        let again: Vec<String> = text.labels.iter().map(|(_, name)| name.clone()).collect();
        let ops: Result<Vec<Op>, _> =
            bpfsmith_asm::decode::ops(&text.insns).map(|item| item.map(|(_, op)| op)).collect();
        prop_assert_eq!(labelled(&ops?, &again), source);
    }

    #[test]
    fn any_question_comes_back(
        op in any_op(),
        ask in prop::sample::select(Ask::ALL),
        path in "[a-z .|+:\\]\\[0-9é;#]{0,24}",
    ) {
        let line = print(&[op]);
        let line = line.lines().last().unwrap_or_default().trim_end();
        let source = format!("{line} @{}[{path}]\n", ask.word());
        survives(&source)?;
        // A jump needs its target; everything that is taken says the same again.
        if let Ok(program) = program(&source) {
            let listing = program.listing();
            let again = bpfsmith_asm::text::program(&listing);
            prop_assert!(again.is_ok(), "{source} {listing}");
            let again = again.unwrap();
            prop_assert_eq!(again.relocs(), program.relocs(), "{} {}", source, listing);
        }
    }

    #[test]
    fn any_text_is_parsed_or_refused(source in "\\PC{0,60}") {
        survives(&source)?;
    }

    #[test]
    fn any_ascii_text_is_parsed_or_refused(source in "([ -~]{0,20}\n){0,4}") {
        survives(&source)?;
    }

    #[test]
    fn any_spoilt_listing_is_parsed_or_refused(source in mutated()) {
        survives(&source)?;
    }
}

#[test]
fn the_forms_of_llvm_objdump() {
    same(
        "       0:\t18 01 00 00 05 00 00 00 00 00 00 00 00 00 00 00\tr1 = 0x5 ll",
        "r1 = 0x5 ll",
    );
    same(
        "       2:\t7b 1a f8 ff 00 00 00 00\t*(u64 *)(r10 - 0x8) = r1",
        "*(u64 *)(r10 - 8) = r1",
    );
    same("if r1 == 0x5 goto +0x3 <foo+0x18>", "if r1 == 5 goto +3");
    same("w1 = *(u32 *)(r2 + 0x4)", "r1 = *(u32 *)(r2 + 4)");
    same("*(u8 *)(r2 + 0x0) = w1", "*(u8 *)(r2 + 0) = r1");
    same("call 0x1", "call 1");
    same("call -0x1 <foo>", "call -1");
    same("r1 = -0x80000000", "r1 = -2147483648");
    same(
        "0000000000000010 <foo>:\n       2:\tgotol -0x1 <foo>",
        "gotol -1",
    );
    let text = parsed("0000000000000000 <foo>:\n exit\n0000000000000008 <bar>:\n exit\n");
    assert_eq!(
        text.labels,
        [
            (0, "foo".to_owned()),
            (1, "bar".to_owned())
        ]
    );
}

#[test]
fn the_forms_of_the_verifiers_log_and_bpftool() {
    same("12: (79) r0 = *(u64 *)(r10 -8)", "r0 = *(u64 *)(r10 - 8)");
    same(
        "12: (63) *(u32 *)(r10 +4) = r1  ; R1=0",
        "*(u32 *)(r10 + 4) = r1",
    );
    same("12: (05) goto pc+5", "goto +5");
    same("12: (06) gotol pc-5", "gotol -5");
    same("12: (e5) may_goto pc+2", "may_goto +2");
    same("12: (85) call bpf_map_lookup_elem#1", "call 1");
    same("12: (85) call unknown#250", "call 250");
    same(
        "12: (85) call bpf_dynptr_from_xdp#71234",
        "call kfunc 71234",
    );
    same("12: (85) call pc+7#bpf_prog_0123_fold", "call pc+7");
    same("(18) r1 = 0xffff888104b0a800", "r1 = 0xffff888104b0a800 ll");
    same("12: (18) r1 = 5", "r1 = 0x5 ll");
    same("12: (b7) r1 = 5", "r1 = 5");
    same("(15) if r1 == 0xffffffff goto pc+1", "if r1 == -1 goto +1");
    same(
        "(bf) r1 = addr_space_cast(r2, 0, 1)",
        "r1 = addr_space_cast(r2, 0, 1)",
    );
    same(
        "(db) r2 = atomic64_fetch_add((u64 *)(r1 +0), r2)",
        "r2 = atomic_fetch_add((u64 *)(r1 + 0), r2)",
    );
    same(
        "(db) r2 = atomic64_xchg((u64 *)(r1 +0), r2)",
        "r2 = xchg_64(r1 + 0, r2)",
    );
    same(
        "(c3) r0 = atomic_cmpxchg((u32 *)(r1 +8), r0, r2)",
        "w0 = cmpxchg32_32(r1 + 8, w0, w2)",
    );
    same(
        "(c3) lock *(u32 *)(r1 +0) += r2",
        "lock *(u32 *)(r1 + 0) += w2",
    );
    same("(48) r0 = *(u16 *)skb[r2 + 0]", "r0 = *(u16 *)skb[r2]");
    same("(d4) r1 = le16 r1", "r1 = le16 r1");
}

#[test]
fn names_of_helpers() {
    same("call map_lookup_elem", "call 1");
    same("call bpf_map_lookup_elem", "call 1");
    same("call map_lookup_elem#1", "call 1");
    // A label of the same name is nearer.
    same("map_lookup_elem: call map_lookup_elem", "call pc-1");
    refused(
        "call map_lookup_elem#2",
        "1:6: helper 2 is map_update_elem, not map_lookup_elem: write `call map_update_elem#2`",
    );
    refused(
        "call map_lookup_elem#999",
        "1:6: map_lookup_elem is helper 1, not 999: write `call map_lookup_elem#1`",
    );
    refused(
        "call nothing",
        "1:6: `nothing` is neither a label nor a helper: write `call 1` for a helper by number, \
         `call kfunc[nothing]` for a kernel function",
    );
}

#[test]
fn space_comments_and_labels() {
    same("\t r1=5 // five", "r1 = 5");
    same("r1+=-5;", "r1 += -5");
    same("r1 =-r1", "r1 = -r1");
    same("r1 = - r1", "r1 = -r1");
    same("if r1==5 goto+3", "if r1 == 5 goto +3");
    same("if r1&7 goto -3", "if r1 & 7 goto -3");
    same("*(u32*)(r1+4)=r2", "*(u32 *)(r1 + 4) = r2");
    same("# one\n  # two\n\n; three\nexit\r\n", "exit");
    same(
        "a: b: goto a\nc:\n goto d\nd: exit",
        "goto -1\ngoto +0\nexit",
    );
    same("goto pc+3", "goto +3");
    same("pc: goto pc", "goto -1");
    same("r1 = func[f]\nexit\nf: exit", "r1 = func[pc+2]\nexit\nexit");
    same("w1 = 0xffffffff", "w1 = -1");
    same("if w1 == 4294967295 goto +1", "if w1 == -1 goto +1");
    same("*(u32 *)(r1 + 0) = 0xffffffff", "*(u32 *)(r1 + 0) = -1");
    same("r1 = -1 ll", "r1 = 0xffffffffffffffff ll");
}

#[test]
fn names_of_what_loading_fills_in() {
    let source = "r1 = map[hits]\nr2 = map[hits] + 8\nr3 = section[.rodata] + 16\nr4 = ksym[x]\n\
                  call kfunc[bpf_f]\n";
    let text = parsed(source);
    let targets: Vec<_> = text
        .relocs
        .iter()
        .map(|r| (r.at, r.target.clone()))
        .collect();
    let hits = bpfsmith_uapi::map::Name::new("hits").unwrap();
    assert_eq!(
        targets,
        [
            (0, Target::Map(hits)),
            (2, Target::MapValue(hits, 8)),
            (4, Target::Section(".rodata", 16)),
            (6, Target::Ksym("x".to_owned())),
            (8, Target::Kfunc("bpf_f".to_owned())),
        ]
    );
    let symbols = [
        Symbol::Map("hits"),
        Symbol::MapValue("hits", 8),
        Symbol::Section(".rodata", 16),
        Symbol::Ksym("x"),
        Symbol::Kfunc("bpf_f"),
    ];
    let mut again = String::new();
    for (item, symbol) in bpfsmith_asm::decode::ops(&text.insns).zip(symbols) {
        write_op_named(&mut again, item.unwrap().1, Some(symbol));
        again.push('\n');
    }
    assert_eq!(again, source);
}

#[test]
fn a_symbol_without_a_place_is_left_out() {
    let mut out = String::new();
    write_op_named(&mut out, Op::Exit, Some(Symbol::Label("x")));
    assert_eq!(out, "exit");
}

#[test]
fn positions_count_characters() {
    let text = parsed("naïve: r1 = 1 ll\n  exit\n");
    assert_eq!(text.positions, [(1, 8), (1, 8), (2, 3)]);
    refused(
        "naïve: r1 = é",
        "1:13: expected a register, a number, `*(`, `(s8)`, be16, le16, bswap16, addr_space_cast, load_acquire, atomic_fetch_add, xchg_64, cmpxchg_64, map[, section[, ksym[, func[ or btf_id[, found `é`",
    );
}

#[test]
fn all_errors_are_reported_up_to_a_hundred() {
    refused(
        "goto nowhere\nr11 = 1\nexit\nr1 =\n",
        "1:6: no label `nowhere`: write `nowhere:` in front of its target\n\
         2:1: `r11` is no register: BPF has r0 to r10\n\
         4:5: expected a register, a number, `*(`, `(s8)`, be16, le16, bswap16, addr_space_cast, \
         load_acquire, atomic_fetch_add, xchg_64, cmpxchg_64, map[, section[, ksym[, func[ or \
         btf_id[, found the end of the line",
    );
    assert_eq!(parse(&"what\n".repeat(500)).unwrap_err().len(), 100);
}

/// Each way to be wrong, and all that is said of it.
const REFUSED: &[(&str, &str)] = &[
    (
        "@foo",
        "1:1: `@foo` starts no instruction: expected r0 to r10, w0 to w10, `*(`, if, goto, gotol, may_goto, call, exit, lock, store_release or a label and `:`",
    ),
    (
        "wrong r1",
        "1:1: `wrong` starts no instruction: expected r0 to r10, w0 to w10, `*(`, if, goto, gotol, may_goto, call, exit, lock, store_release or a label and `:`",
    ),
    (
        "callx r3",
        "1:1: the kernel has no indirect calls: call a label or a helper",
    ),
    ("12", "1:1: expected an instruction or a label, found `12`"),
    (
        "12 exit",
        "1:1: expected an instruction or a label, found `12`",
    ),
    (
        "(8x) exit",
        "1:1: expected an instruction, a label or an opcode as in `(85)`, found `(`",
    ),
    (
        "(85) r1 = 5",
        "1:6: this is opcode b7, but the line says (85)",
    ),
    (
        "exit 5",
        "1:6: expected the end of the line or a comment (`;`), found `5`",
    ),
    (
        "a:\na: exit",
        "2:1: label `a` is already bound in line 1: rename one",
    ),
    (
        "r1",
        "1:3: expected one of = += -= *= /= s/= |= &= <<= >>= s>>= %= s%= ^= behind the register, found the end of the line",
    ),
    (
        "r1 5",
        "1:4: expected one of = += -= *= /= s/= |= &= <<= >>= s>>= %= s%= ^= behind the register, found `5`",
    ),
    (
        "r1 ** 5",
        "1:4: expected one of = += -= *= /= s/= |= &= <<= >>= s>>= %= s%= ^= behind the register, found `*`",
    ),
    ("r1 = r11", "1:6: `r11` is no register: BPF has r0 to r10"),
    ("r1 = r100", "1:6: `r100` is no register: BPF has r0 to r10"),
    ("r1 = r1x", "1:6: `r1x` is no register: BPF has r0 to r10"),
    ("r1 = 5x", "1:6: `5x` is no number: write 12, -12 or 0x1f"),
    (
        "r1 = 0x",
        "1:8: expected hexadecimal digits after `0x`, found the end of the line",
    ),
    (
        "r1 = 0xg",
        "1:8: expected hexadecimal digits after `0x`, found `g`",
    ),
    (
        "r1 = 99999999999999999999",
        "1:6: 99999999999999999999 does not fit in 64 bits",
    ),
    (
        "r1 = 0x10000000000000000 ll",
        "1:6: 0x10000000000000000 does not fit in 64 bits",
    ),
    (
        "r1 = 4294967295",
        "1:6: 4294967295 does not fit in the 32 bits that are sign-extended: append ll, `r1 = 4294967295 ll`",
    ),
    (
        "r1 = 99999999999",
        "1:6: 99999999999 does not fit in the 32 bits that are sign-extended: append ll, `r1 = 99999999999 ll`",
    ),
    (
        "w1 = 4294967296",
        "1:6: 4294967296 does not fit in 32 bits: load it into a register first, `r1 = 4294967296 ll`",
    ),
    (
        "w1 = -2147483649",
        "1:6: -2147483649 does not fit in 32 bits: load it into a register first, `r1 = -2147483649 ll`",
    ),
    (
        "r1 += 4294967295",
        "1:7: 4294967295 would be sign-extended to -1: load it into a register first, `r1 = 0xffffffff ll`",
    ),
    (
        "r1 += -2147483649",
        "1:7: -2147483649 does not fit in 32 bits: load it into a register first, `r1 = -2147483649 ll`",
    ),
    (
        "r1 = -9223372036854775809 ll",
        "1:6: -9223372036854775809 does not fit in 64 bits",
    ),
    ("w1 = 5 ll", "1:1: w1 has 32 bits, 64 are needed: write r1"),
    (
        "if r1 == 4294967295 goto +1",
        "1:10: 4294967295 would be sign-extended to -1: load it into a register first, `r1 = 0xffffffff ll`",
    ),
    (
        "if r1 = 5 goto +1",
        "1:7: expected one of == != > >= < <= s> s>= s< s<= & behind the register, found `=`",
    ),
    (
        "if r1 == 5",
        "1:11: expected goto, found the end of the line",
    ),
    (
        "if 5 == r1 goto +1",
        "1:4: expected a register (r0 to r10), found `5`",
    ),
    (
        "if r1 == 5 goto",
        "1:16: expected a label, +N or -N, found the end of the line",
    ),
    (
        "if r1 == w2 goto +1",
        "1:10: w2 does not go with r1: write r2",
    ),
    (
        "if r1 == 5 goto 3",
        "1:17: expected a label, +N or -N, found `3`",
    ),
    (
        "goto +40000",
        "1:6: distance 40000 is not within -32768 to 32767: use gotol",
    ),
    (
        "goto +",
        "1:7: expected a number after the sign, found the end of the line",
    ),
    (
        "goto x+1",
        "1:7: expected the end of the line or a comment (`;`), found `+`",
    ),
    (
        "gotol +3000000000",
        "1:7: distance 3000000000 does not fit in 32 bits",
    ),
    ("may_goto 5", "1:10: expected a label, +N or -N, found `5`"),
    ("r1 = w2", "1:6: w2 does not go with r1: write r2"),
    ("w1 = r2", "1:6: r2 does not go with w1: write w2"),
    (
        "r1 = -r2",
        "1:7: this works on one register: write r1 on both sides, not r2",
    ),
    ("r1 = (u8)r2", "1:7: expected s8, s16 or s32, found `u8`"),
    (
        "w1 = (s32)w2",
        "1:7: a w register has 32 bits already: write `w1 = w2`",
    ),
    ("r1 = (s8)w2", "1:10: w2 does not go with r1: write r2"),
    (
        "r1 = be24 r1",
        "1:6: a byte swap to 24 bits: use 16, 32 or 64",
    ),
    (
        "r1 = be16 r2",
        "1:11: this works on one register: write r1 on both sides, not r2",
    ),
    (
        "w1 = be16 w1",
        "1:1: w1 has 32 bits, 64 are needed: write r1",
    ),
    (
        "r1 = *(u24 *)(r2 + 0)",
        "1:8: expected a type: u8, u16, u32, u64, s8, s16 or s32, found `u24`",
    ),
    ("r1 = *(u32)(r2 + 0)", "1:11: expected `*`, found `)`"),
    ("r1 = *(u32 *)r2", "1:14: expected `(`, found `r2`"),
    (
        "r1 = *(u32 *)(r2)",
        "1:17: expected + or - and an offset, found `)`",
    ),
    (
        "r1 = *(u32 *)(r2 + x)",
        "1:20: expected a number after the sign, found `x`",
    ),
    (
        "r1 = *(u32 *)(r2 + 32768)",
        "1:18: offset 32768 is not within -32768 to 32767: add it to a register first",
    ),
    (
        "r1 = *(u32 *)(w2 + 0)",
        "1:15: w2 has 32 bits, 64 are needed: write r2",
    ),
    (
        "r1 = *(u32 *)(r2 + 99999999999999999999)",
        "1:20: 99999999999999999999 does not fit in 64 bits",
    ),
    (
        "w1 = *(u64 *)(r2 + 0)",
        "1:1: w1 has 32 bits, 64 are needed: write r1",
    ),
    (
        "w1 = *(s8 *)(r2 + 0)",
        "1:1: w1 has 32 bits, 64 are needed: write r1",
    ),
    (
        "*(s8 *)(r1 + 0) = r2",
        "1:2: stores have no sign: use u8, u16 or u32",
    ),
    (
        "*(u64 *)(r1 + 0) = w2",
        "1:20: w2 has 32 bits, 64 are needed: write r2",
    ),
    (
        "*(u64 *)(r1 + 0) = 4294967295",
        "1:20: 4294967295 would be sign-extended to -1: load it into a register first, `r1 = 0xffffffff ll`",
    ),
    (
        "*(u8 *)(r1 + 0) = x",
        "1:19: expected a register or a number, found `x`",
    ),
    (
        "*(u8 *)(r1 + 0)",
        "1:16: expected `=`, found the end of the line",
    ),
    ("lock r1 += r2", "1:6: expected `*`, found `r1`"),
    (
        "lock *(u8 *)(r1 + 0) += r2",
        "1:7: atomic operations are of u32 or u64",
    ),
    (
        "lock *(u64 *)(r1 + 0) -= r2",
        "1:23: expected +=, |=, &= or ^=, found `-`",
    ),
    (
        "lock *(u64 *)(r1 + 0) += w2",
        "1:26: w2 has 32 bits, 64 are needed: write r2",
    ),
    (
        "r2 = atomic_fetch_add((u64 *)(r1 + 0), r3)",
        "1:40: this works on one register: write r2 on both sides, not r3",
    ),
    (
        "r2 = atomic_fetch_sub((u64 *)(r1 + 0), r2)",
        "1:6: expected a register, a number, `*(`, `(s8)`, be16, le16, bswap16, addr_space_cast, load_acquire, atomic_fetch_add, xchg_64, cmpxchg_64, map[, section[, ksym[, func[ or btf_id[, found `atomic_fetch_sub`",
    ),
    (
        "r2 = atomic_fetch_add((u16 *)(r1 + 0), r2)",
        "1:23: atomic operations are of u32 or u64",
    ),
    (
        "r1 = cmpxchg_64(r1 + 0, r0, r2)",
        "1:1: cmpxchg compares with r0, not with r1",
    ),
    (
        "r0 = cmpxchg_64(r1 + 0, r1, r2)",
        "1:25: cmpxchg compares with r0, not with r1",
    ),
    (
        "r1 = load_acquire((s8 *)(r2 + 0))",
        "1:19: this access has no sign: use u8, u16, u32 or u64",
    ),
    (
        "store_release((u64 *)(r1 + 0), w2)",
        "1:32: w2 has 32 bits, 64 are needed: write r2",
    ),
    (
        "r1 = addr_space_cast(r2, 65536, 1)",
        "1:26: address space 65536 is not within 0 to 65535",
    ),
    (
        "r1 = addr_space_cast(r2, -1, 1)",
        "1:26: address space -1 is not within 0 to 65535",
    ),
    (
        "r1 = addr_space_cast(r2, 0)",
        "1:27: expected `,`, found `)`",
    ),
    (
        "r1 = *(u16 *)skb[12]",
        "1:1: packet access goes to r0, not to r1",
    ),
    (
        "r0 = *(u64 *)skb[12]",
        "1:7: packet access is of u8, u16 or u32",
    ),
    (
        "r0 = *(u16 *)skb[x]",
        "1:18: expected a register or a number, found `x`",
    ),
    (
        "r0 = *(u16 *)skb[r2 12]",
        "1:21: expected +, - or ], found `12`",
    ),
    (
        "r0 = *(u16 *)skb[r2 + 2147483648]",
        "1:21: offset 2147483648 does not fit in 32 bits",
    ),
    (
        "r0 = *(u16 *)skb[4294967296]",
        "1:18: 4294967296 does not fit in 32 bits: load it into a register first, `r1 = 4294967296 ll`",
    ),
    (
        "call",
        "1:5: expected a helper, a label, pc+N or kfunc, found the end of the line",
    ),
    ("call 4294967295", "1:6: 4294967295 does not fit in 32 bits"),
    (
        "call pc+2147483648",
        "1:6: distance 2147483648 does not fit in 32 bits",
    ),
    (
        "call kfunc 12@40000",
        "1:15: module index 40000 is not within -32768 to 32767",
    ),
    (
        "call kfunc[]",
        "1:12: expected the name of a kernel function, found `]`",
    ),
    (
        "r1 = map[]",
        "1:10: expected the name of a map, fd:N or idx:N, found `]`",
    ),
    (
        "r1 = map[id:5]",
        "1:10: instructions refer to maps by fd, index or name: write map[fd:5], map[idx:5] or map[name]",
    ),
    ("r1 = map[fd:x]", "1:13: expected an fd, found `x`"),
    (
        "r1 = map[a_name_that_is_too_long]",
        "1:10: `a_name_that_is_too_long` is no map's name: 1 to 15 of A-Za-z0-9_.",
    ),
    (
        "r1 = map[hits",
        "1:14: expected `]`, found the end of the line",
    ),
    (
        "r1 = map[hits] - 8",
        "1:16: offset -8 is not within 0 to 4294967295",
    ),
    (
        "r1 = map[fd:5] + 2147483648",
        "1:16: offset 2147483648 does not fit in 32 bits",
    ),
    (
        "r1 = section[.text] + 0",
        "1:14: expected .data, .rodata, .bss or .private, found `.text`",
    ),
    (
        "r1 = section[.data]",
        "1:6: a section needs an offset: write `section[.data] + 0`",
    ),
    (
        "r1 = section[.data] + 4294967296",
        "1:21: offset 4294967296 is not within 0 to 4294967295",
    ),
    (
        "r1 = ksym[]",
        "1:11: expected the name of a kernel variable, found `]`",
    ),
    (
        "r1 = ksym[x] + 8",
        "1:14: this reference takes no offset: leave it out",
    ),
    (
        "r1 = func[pc+2147483648]",
        "1:11: distance 2147483648 does not fit in 32 bits",
    ),
    ("r1 = func[]", "1:11: expected a label or pc+N, found `]`"),
    ("r1 = btf_id[x]", "1:13: expected a BTF id, found `x`"),
    (
        "r1 = btf_id[4294967295]",
        "1:13: 4294967295 does not fit in 32 bits",
    ),
    (
        "w1 = map[hits]",
        "1:1: w1 has 32 bits, 64 are needed: write r1",
    ),
    ("0000 <foo", "1:10: expected `>`, found the end of the line"),
    ("0000 <foo> exit", "1:12: expected `:`, found `exit`"),
    (
        "program",
        "1:8: expected the program's name, found the end of the line",
    ),
    (
        "program x",
        "1:10: expected the program's type, such as XDP, found the end of the line",
    ),
    (
        "program x NOTHING",
        "1:11: `NOTHING` is no program type: write one such as XDP",
    ),
    (
        "program x XDP\nprogram y XDP",
        "2:1: a text holds one program: remove this line",
    ),
    (
        "map",
        "1:4: expected the map's name, found the end of the line",
    ),
    (
        "map a_name_that_is_too_long HASH",
        "1:5: `a_name_that_is_too_long` is no map's name: 1 to 15 of A-Za-z0-9_.",
    ),
    (
        "map hits NOTHING key 4 value 8 entries 1",
        "1:10: `NOTHING` is no map type: write one such as HASH",
    ),
    (
        "map hits HASH value 4",
        "1:15: expected `key` and a number, found `value`",
    ),
    (
        "map hits HASH key 4 value 8 entries -1",
        "1:37: -1 is not within 0 to 4294967295",
    ),
    (
        "map hits HASH key 4 value 8 entries 1 more",
        "1:39: expected `flags` and a number, found `more`",
    ),
    (
        "map hits HASH key 4 value 8 entries 1\nmap hits HASH key 4 value 8 entries 1",
        "2:5: map `hits` is described twice: remove one",
    ),
    (
        "section .text 00",
        "1:9: expected .data, .rodata, .bss or .private, found `.text`",
    ),
    (
        "section .data 0",
        "1:15: expected bytes of two hexadecimal digits each, found `0`",
    ),
    (
        "section .data 00\nsection .data 00",
        "2:9: section .data is described twice: remove one",
    ),
    (
        "var x .data offset 0 size 4",
        "1:7: section .data is not described above: move its line up",
    ),
    (
        "section .data 00\nvar x .data offset 0 size 4",
        "2:7: section .data has 1 bytes, this ends at 4",
    ),
    (
        "section .data 00\nvar x .data size 4",
        "2:13: expected `offset` and a number, found `size`",
    ),
    (
        "func",
        "1:5: expected the function's name, found the end of the line",
    ),
    (
        "func f\nf: exit",
        "2:1: label `f` is already bound in line 1: rename one",
    ),
];

#[test]
fn every_refusal_says_what_to_do() {
    for (source, messages) in REFUSED {
        refused(source, messages);
    }
}

#[test]
fn labels_out_of_reach() {
    let gap = "r1 = 1\n".repeat(40_000);
    refused(
        &format!("goto far\n{gap}far: exit"),
        "1:6: label `far` is 40000 instructions away, out of a jump's reach: use gotol",
    );
    let long = parsed(&format!("gotol far\n{gap}far: exit"));
    assert_eq!(encode(&[Op::JaLong(40_000)]), long.insns[..1]);
}

mod listings {
    //! Whole programs, written in Rust and read back from their listings.

    use bpfsmith_asm::dsl::*;
    use bpfsmith_asm::program::Program;
    use bpfsmith_asm::text::{parse, program};

    static HITS: MapDef<u32, u64> = MapDef::array("hits", 1);
    static ROUTES: MapDef<u64, u32> = MapDef::lpm_trie("routes", 64);
    static LIMIT: Global<u64> = Global::rodata("limit", 100);
    static STEP: Global<u16> = Global::data("step", 3);
    static SEEN: Global<u64> = Global::bss("seen");

    fn everything() -> Code {
        let fold = func("fold").body(code![mov(R0, 7), exit()]);
        let each = func("each").body(code![mov(R0, 0), exit()]);
        let (done, far) = (label("done"), label("done"));
        code![
            mov(R6, R1),
            ld_global(R1, &LIMIT),
            load(R2, R1.u64(0)),
            ld_global(R1, &STEP),
            load(R3, R1.u16(0)),
            ld_global(R1, &SEEN),
            store(R1.u64(0), 1),
            ld_map_value(R1, &HITS, 4),
            ld_map(R1, &ROUTES),
            ld_ksym(R1, "bpf_prog_active"),
            ld_func(R2, &each),
            lddw(R3, 0x1122_3344_5566_7788),
            jeq(R2, 5, done),
            bind(far),
            call(&fold),
            call_kfunc("bpf_rcu_read_lock"),
            call_helper(5),
            jne(R0, 0, far),
            bind(done),
            mov(R0, 2),
            exit(),
        ]
    }

    #[test]
    fn a_listing_is_the_program() {
        let original = Program::new(ProgType::XDP, "all", everything()).unwrap();
        let listing = original.listing();
        let again = program(&listing).unwrap_or_else(|report| panic!("{listing}\n{report}"));
        assert_eq!(again, original, "{listing}");
        let without_fragments: String = listing
            .split_inclusive('\n')
            .filter(|line| !line.starts_with("  ;"))
            .collect();
        assert_eq!(again.listing(), without_fragments);
        // The annotated form describes no maps, but its instructions are whole.
        let annotated = parse(&original.annotated()).unwrap();
        assert_eq!(annotated.insns, original.insns());
        assert_eq!(annotated.relocs, original.relocs());
        assert!(listing.contains("done_2:"), "{listing}");
        assert!(listing.contains("flags 0x1"), "{listing}");
    }

    #[track_caller]
    fn refused(source: &str, message: &str) {
        let report = program(source).map(|p| p.listing()).expect_err(source);
        assert_eq!(report.to_string(), message);
    }

    #[test]
    fn what_a_listing_lacks() {
        refused(
            "exit",
            ": 1 finding\n  1:1: error: the program's name and type are missing: start with \
             `program NAME XDP`",
        );
        refused(
            "program x XDP\n r0 = 1\n exut",
            ": 1 finding\n  3:2: error: `exut` starts no instruction: expected r0 to r10, w0 to \
             w10, `*(`, if, goto, gotol, may_goto, call, exit, lock, store_release or a label and \
             `:`",
        );
        refused(
            "program x XDP\nr1 = map[hits]\nr1 = section[.bss] + 8\nr0 = 1\nexit",
            "x: 2 findings\n  2:1: error: map `hits` is not described: add `map hits ARRAY key 4 \
             value 8 entries 1`\n  3:1: error: section .bss is not described: add `section .bss` \
             and its bytes in hex",
        );
    }

    #[test]
    fn what_the_checker_finds_has_its_line() {
        let report = program("program x XDP\n\n  r0 = r5\n  exit").unwrap_err();
        assert_eq!(report.findings[0].place.to_string(), "3:3", "{report}");
    }

    #[test]
    fn a_text_without_functions_is_one_function() {
        let one = program("program x XDP\nr0 = 1\nexit").unwrap();
        assert_eq!(one.listing(), "program x XDP\n\nfunc x\n  r0 = 1\n  exit\n");
        assert_eq!(program(&one.listing()).unwrap(), one);
    }
}
