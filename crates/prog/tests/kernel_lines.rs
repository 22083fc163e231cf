//! Source lines in the kernel: in the verifier's log, in a loaded program, in its machine code.
//!
//! The text of this file is at hand where it was built, and nowhere else: both are proven, the one
//! here and the other in virtual machines.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use bpfsmith_asm::dsl::*;
use bpfsmith_asm::program::Line;
use bpfsmith_btf::Btf;
use bpfsmith_gate::{Version, needs, version};
use bpfsmith_prog::{Error, Lines, Load, Maps, NoSource, Prog};
use bpfsmith_sys::info::{self, List};
use bpfsmith_sys::object::{Kind, open_id};
use std::collections::HashMap;
use std::os::fd::AsFd;
use std::path::Path;

/// This file, as it was built.
const TEXT: &str = include_str!("kernel_lines.rs");

static HITS: MapDef<u32, u64> = MapDef::array("hits", 1);
static FLOWS: MapDef<u32, u64> = MapDef::hash("flows", 8);
static WIDE: Global<u64> = Global::bss("wide");

fn bump(map: &MapDef<u32, u64>) -> Code {
    let key = slot::<u32>("key");
    code![
        store(key.u32(0), 0),
        map_lookup_elem(map, key),
        R0.ne(0).then(code![
            load(R1, R0.u64(0)),
            add(R1, 1), // one more
            store(R0.u64(0), R1),
        ]),
    ]
}

/// Two functions, fragments in fragments, wide instructions, branches, a line with two instructions,
/// and one with the beginning of one.
#[rustfmt::skip]
fn count() -> Code {
    let fold = func("fold").body(code![
        ld_global(R2, &WIDE),
        load(R0, R2.u64(0)),
        rsh(R0, 8), add(R0, R1),
        exit(),
    ]);
    code![
        bump(&HITS),
        mov(R1, 5),
        call(&fold),
        R0.gt(100).then(bump(&HITS)),
        mov(
            R1,
            7,
        ),
        call(&fold),
        ret(XDP_PASS),
    ]
}

fn build(name: &str, code: Code) -> Program {
    Program::new(ProgType::XDP, name, code).unwrap_or_else(|report| panic!("{report}"))
}

fn loaded(program: &Program, lines: Lines) -> Prog {
    let maps = Maps::of(program).unwrap();
    let load = Load::new(program).maps(&maps).lines(lines).log_level(2);
    load.load().unwrap_or_else(|error| panic!("{error:#}"))
}

/// Whether the file is where it was built from.
fn has_source() -> bool {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.join("tests/kernel_lines.rs").exists()
}

/// What the kernel is to show for a slot.
fn text(program: &Program, slot: usize, lines: Lines) -> String {
    let path = program.path(slot);
    if lines == Lines::Paths || !has_source() {
        return path;
    }
    let line = program.lines()[slot].at.line() as usize;
    let source = TEXT.lines().nth(line - 1).unwrap();
    format!("{} // {path}", source.trim())
}

/// The slots at which another line begins.
fn starts(program: &Program) -> Vec<usize> {
    let lines = program.lines();
    let second = |slot: usize| slot > 0 && program.insns()[slot - 1].is_wide();
    let is_func = |slot: usize| program.funcs().iter().any(|func| func.at as usize == slot);
    let mut before: Option<&Line> = None;
    let is_start = |slot: &usize| {
        let is = !second(*slot) && (before != Some(&lines[*slot]) || is_func(*slot));
        before = Some(&lines[*slot]);
        is
    };
    (0..lines.len()).filter(is_start).collect()
}

#[test]
fn the_verifiers_log_quotes_the_line_of_each_instruction() {
    needs!(Root, Bpf);
    let program = build("count", count());
    for lines in [Lines::Told, Lines::Paths] {
        let prog = loaded(&program, lines);
        let log = &prog.account().log;
        let (mut shown, mut seen) = ("", vec![false; program.insns().len()]);
        for line in log.lines() {
            if let Some(text) = line.strip_prefix("; ") {
                shown = text;
            }
            let Some((slot, rest)) = line.split_once(": (") else {
                continue;
            };
            let Ok(slot) = slot.parse::<usize>() else {
                continue;
            };
            assert!(rest.as_bytes()[2] == b')', "{line}");
            let mut expected = text(&program, slot, lines);
            // Linux 6.9 adds the place; before, the text is all.
            if version() >= (Version { major: 6, minor: 9 }) {
                let number = program.lines()[slot].at.line();
                expected += &format!(" @ kernel_lines.rs:{number}");
            }
            assert_eq!(shown, expected, "slot {slot}\n{log}");
            seen[slot] = true;
        }
        for (slot, seen) in seen.iter().enumerate() {
            let is_second = slot > 0 && program.insns()[slot - 1].is_wide();
            assert!(seen | is_second, "slot {slot} is not in the log\n{log}");
        }
    }
}

#[test]
fn the_account_says_what_was_quoted() {
    needs!(Root, Bpf);
    let program = build("count", count());
    let starts = starts(&program);
    let told = loaded(&program, Lines::Told).account().lines;
    if has_source() {
        assert_eq!((told.source, told.path), (starts.len(), 0));
        assert_eq!(told.missing, None);
    } else {
        assert_eq!((told.source, told.path), (0, starts.len()));
        assert_eq!(told.missing, Some((file!(), NoSource::Absent)));
    }
    let paths = loaded(&program, Lines::Paths).account().lines;
    assert_eq!((paths.source, paths.path), (0, starts.len()));
    assert_eq!(paths.missing, None);
    let kept = loaded(&program, Lines::Kept).account().lines;
    assert_eq!((kept.source, kept.path), (0, 0));
}

fn words(bytes: &[u8]) -> Vec<u32> {
    let word = |word: &[u8]| u32::from_ne_bytes(word.try_into().unwrap());
    bytes.chunks_exact(4).map(word).collect()
}

fn addresses(bytes: &[u8]) -> Vec<u64> {
    let address = |word: &[u8]| u64::from_ne_bytes(word.try_into().unwrap());
    bytes.chunks_exact(8).map(address).collect()
}

/// The BTF that the kernel holds for a program.
fn types(prog: &Prog) -> Btf<Vec<u8>> {
    let about = info::prog(prog.as_fd()).unwrap();
    let fd = open_id(Kind::Btf, about.btf_id, 0, None).unwrap();
    Btf::parse(info::btf_bytes(fd.as_fd()).unwrap()).unwrap()
}

/// A list of a loaded program.
fn list(prog: &Prog, list: List) -> Vec<u8> {
    info::prog_list(prog.as_fd(), list).unwrap()
}

#[test]
fn a_loaded_program_tells_its_lines() {
    needs!(Root, Bpf);
    let program = build("count", count());
    let prog = loaded(&program, Lines::Told);
    let btf = types(&prog);
    let records = words(&list(&prog, List::Lines));
    let starts = starts(&program);
    assert_eq!(records.len(), starts.len() * 4);
    let string = |offset: u32| btf.name_at(offset).to_string();
    let mut slots = Vec::new();
    for (record, &slot) in records.chunks_exact(4).zip(&starts) {
        let at = program.lines()[slot].at;
        assert_eq!(string(record[1]), at.file());
        assert_eq!(string(record[2]), text(&program, slot, Lines::Told));
        assert_eq!(
            (record[3] >> 10, record[3] & 0x3ff),
            (at.line(), at.column())
        );
        slots.push(record[0]);
    }
    // The kernel rewrites calls and accesses, so numbers grow, but their order stays.
    assert!(slots.is_sorted_by(|a, b| a < b), "{slots:?}");
    assert_eq!(slots[0], 0);
}

#[test]
fn machine_code_has_an_address_for_each_line() {
    needs!(Root, Bpf);
    let program = build("count", count());
    let prog = loaded(&program, Lines::Told);
    let records = words(&list(&prog, List::Lines));
    let slots: Vec<u32> = records.chunks_exact(4).map(|record| record[0]).collect();
    let lines = addresses(&list(&prog, List::JitedLines));
    assert_eq!(lines.len(), slots.len());
    let symbols = addresses(&list(&prog, List::Symbols));
    let lengths = words(&list(&prog, List::Lengths));
    let funcs = words(&list(&prog, List::Funcs));
    let funcs: Vec<u32> = funcs.chunks_exact(2).map(|record| record[0]).collect();
    assert_eq!((symbols.len(), lengths.len(), funcs.len()), (2, 2, 2));
    let mut count = [0; 2];
    for (slot, line) in slots.iter().zip(&lines) {
        let func = usize::from(*slot >= funcs[1]);
        let range = symbols[func]..symbols[func] + u64::from(lengths[func]);
        assert!(
            range.contains(line),
            "slot {slot}: {line:x} is not in {range:x?}"
        );
        count[func] += 1;
    }
    assert!(count[0] > 10 && count[1] >= 4, "{count:?}");
    let within = |func: &[u64]| func.is_sorted();
    let (main, fold) = lines.split_at(count[0]);
    assert!(within(main) && within(fold), "{lines:x?}");

    // The names of the functions are the kernel's symbols.
    let all = std::fs::read_to_string("/proc/kallsyms").unwrap();
    let names: HashMap<u64, &str> = all
        .lines()
        .filter(|line| line.ends_with("[bpf]"))
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let address = u64::from_str_radix(words.next()?, 16).ok()?;
            Some((address, words.nth(1)?))
        })
        .collect();
    for (symbol, name) in symbols.iter().zip(["count", "fold"]) {
        assert!(names[symbol].ends_with(&format!("_{name}")), "{names:?}");
    }
}

/// Callbacks are functions too, and jumps that go far get slots of their own.
#[test]
fn lines_of_other_shapes_are_taken() {
    needs!(Root, Bpf, BpfLoop);
    let step = func("step").body(code![add(R1, 1), ret(0)]);
    let looping = code![
        mov(R1, 0),
        r#loop(10, &step, R1, 0),
        ret(XDP_PASS),
    ];
    let far = || {
        let end = label("end");
        let body = (0..33_000).map(|_| add(R0, 1));
        code![
            load(R0, R1.u32(0)),
            mov(R2, R0),
            jeq(R2, 1, end),
            each(body),
            bind(end),
            ret(XDP_PASS),
        ]
    };
    let build = |isa, name, code| {
        Program::assemble(isa, ProgType::XDP, name, code)
            .unwrap_or_else(|report| panic!("{report}"))
    };
    let newer = version() >= (Version { major: 6, minor: 6 });
    let programs = [
        Some(build(Isa::V3, "looping", looping)),
        Some(build(Isa::V3, "trampoline", far())),
        newer.then(|| build(Isa::V4, "long_jump", far())),
    ];
    for program in programs.into_iter().flatten() {
        let prog = Load::new(&program).load();
        let prog = prog.unwrap_or_else(|error| panic!("{error:#}"));
        assert_eq!(prog.account().lines_refused, None, "{}", program.name());
        let about = info::prog(prog.as_fd()).unwrap();
        let starts = starts(&program).len();
        assert_eq!(about.nr_line_info as usize, starts, "{}", program.name());
        assert_eq!(about.nr_func_info as usize, program.funcs().len());
    }
}

/// A line of the kernel's log has 1 kB at most, or the kernel warns of itself.
#[test]
fn long_texts_are_cut() {
    needs!(Root, Bpf);
    #[rustfmt::skip]
    fn a_fragment_whose_name_is_rather_long_so_that_some_of_them_make_a_long_path(n: u32) -> Code {
        match n {
            0 => code![mov(R0, 1), /* and a line that is longer than any that people write, or so one hopes: it goes on and on, says nothing, and does not come to an end before the margin of this file is far away, and all that for the sake of one test */ add(R0, 1)],
            _ => code![other_fragment_whose_name_is_rather_long_too_so_that_names_differ(n - 1)],
        }
    }
    fn other_fragment_whose_name_is_rather_long_too_so_that_names_differ(n: u32) -> Code {
        code![a_fragment_whose_name_is_rather_long_so_that_some_of_them_make_a_long_path(n)]
    }
    let deep = other_fragment_whose_name_is_rather_long_too_so_that_names_differ(9);
    let program = build("deep", code![deep, exit()]);
    assert!(program.path(0).len() > 1024);
    let prog = loaded(&program, Lines::Told);
    let log = &prog.account().log;
    let first = log.lines().find(|line| line.starts_with("; ")).unwrap();
    assert!(first.len() < 600, "{first}");
    let end = "a_fragment_whose_name_is_rather_long_so_that_some_of_them_make_a_long_path";
    assert!(first.contains(" > ") && first.contains(end), "{first}");
    assert_eq!(
        first.contains("mov(R0, 1), /* and"),
        has_source(),
        "{first}"
    );
}

#[test]
fn a_refusal_quotes_the_line_twice() {
    needs!(Root, Bpf);
    fn unchecked(map: &MapDef<u32, u64>) -> Code {
        let key = slot::<u32>("key");
        code![
            store(key.u32(0), 0),
            map_lookup_elem(map, key),
            load(R1, R0.u64(0)), // may be null
        ]
    }
    let program = build("wrong", code![unchecked(&FLOWS), ret(XDP_PASS)]);
    let maps = Maps::of(&program).unwrap();
    let Error::Refused(refusal) = Load::new(&program).maps(&maps).load().unwrap_err() else {
        panic!("not a refusal")
    };
    let line = refusal.at.unwrap().line();
    let column = refusal.at.unwrap().column();
    let (one, all) = (refusal.to_string(), format!("{refusal:#}"));
    assert!(!one.contains('\n'), "{one}");
    assert!(one.contains(&format!("{}:{line}", file!())), "{one}");
    // In the kernel's words, the place only since Linux 6.9.
    let in_log = match has_source() {
        true => {
            "; load(R1, R0.u64(0)), // may be null // a_refusal_quotes_the_line_twice > unchecked"
        }
        false => "; a_refusal_quotes_the_line_twice > unchecked",
    };
    assert!(refusal.log.contains(in_log), "{}", refusal.log);
    let source = has_source().then_some("            load(R1, R0.u64(0)), // may be null");
    assert_eq!(refusal.source.as_deref(), source);
    let number = line.to_string();
    let gap = " ".repeat(number.len());
    let quote = format!(
        "\n\n  --> {}:{line}:{column}\n{gap} |\n{number} | load(R1, R0.u64(0)), // may be null\n\
         {gap} | ^^^^\n",
        file!()
    );
    assert_eq!(all.contains(&quote), has_source(), "{all}");
    // Where the pointer comes from is quoted as well.
    let origin = refusal.origin.as_ref().unwrap();
    let text = "map_lookup_elem(map, key),";
    let quoted = origin
        .source
        .as_deref()
        .is_some_and(|source| source.trim() == text);
    assert_eq!(quoted, has_source(), "{origin:?}");
    let made = all.split("made at ").nth(1).unwrap();
    assert_eq!(
        made.contains("| map_lookup_elem(map, key),"),
        has_source(),
        "{all}"
    );
}
