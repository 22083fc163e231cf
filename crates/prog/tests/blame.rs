//! Logs as text: recorded from kernels, written after documentation, cut, and at random.

mod blame_cases;

use blame_cases::{Case, cases};
use bpfsmith_asm::isa::Raw;
use bpfsmith_asm::program::Program;
use bpfsmith_prog::blame::{Evidence, Refusal, Stats};
use bpfsmith_uapi::{Errno, ProgType};
use proptest::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};

fn logs(folder: &str) -> Vec<(String, String)> {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/logs")
        .join(folder);
    let mut logs: Vec<(String, String)> = fs::read_dir(&folder)
        .expect("a folder of logs")
        .map(|entry| entry.expect("an entry").path())
        .map(|path| {
            let name = path.file_stem().expect("a name").to_string_lossy();
            (name.into_owned(), fs::read_to_string(&path).expect("a log"))
        })
        .collect();
    logs.sort();
    logs
}

#[track_caller]
fn case(name: &str) -> &'static Case {
    let mut all = cases();
    all.find(|case| case.name == name)
        .unwrap_or_else(|| panic!("no case {name}"))
}

fn recorded(name: &str) -> Vec<u8> {
    let logs = logs("linux-6.18");
    let log = logs.into_iter().find(|(case, _)| case == name);
    log.expect("a recorded log").1.into_bytes()
}

#[test]
fn logs_of_linux_6_18_name_line_sentence_and_hint() {
    let logs = logs("linux-6.18");
    assert!(logs.len() >= 60);
    for (name, log) in &logs {
        let case = case(name);
        let (program, line) = case.program();
        let refusal = Refusal::new(&program, case.errno, log.as_bytes());
        assert_eq!(refusal.at.map(|at| at.line()), line, "{refusal:#}\n{log}");
        assert!(refusal.sentence.contains(case.sentence), "{refusal:#}");
        let hint = refusal.hint.as_ref().map(|hint| hint.name);
        assert_eq!(hint, Some(case.hint), "{refusal:#}");
        let one_line = refusal.to_string();
        assert!(!one_line.contains('\n'), "{one_line}");
        assert!(one_line.starts_with(&format!("load {name}: {}", case.errno)));
    }
}

#[test]
fn the_end_of_a_log_is_kept_from_the_start_of_a_line() {
    let case = case("null_value");
    let (program, _) = case.program();
    let kept = |log: &str| Refusal::new(&program, case.errno, log.as_bytes()).log;
    let short = String::from_utf8(recorded("null_value")).expect("text");
    assert_eq!(kept(&short), short.trim_end());
    // Lines of ten bytes, with letters of two, three and four.
    let long = "aß€𝄞\n".repeat(10_000) + &short;
    let end = kept(&long);
    assert!(end.len() > 16_000 && end.len() <= 16 << 10, "{}", end.len());
    assert!(end.starts_with("aß€𝄞\n") && end.ends_with(short.trim_end()));
    assert_eq!(kept(&"x".repeat(100_000)), "");
}

/// Logs of kernels whose sentences differ from those of 6.18: the line is the same, and so is the hint
/// but where it is listed.
#[track_caller]
fn older(folder: &str, hints: &[(&str, Option<&str>)]) {
    let logs = logs(folder);
    assert!(logs.len() >= 60, "{} logs", logs.len());
    let mut wrong = String::new();
    for (name, log) in &logs {
        let case = case(name);
        let (program, line) = case.program();
        let refusal = Refusal::new(&program, case.errno, log.as_bytes());
        let blamed = refusal.at.map(|at| at.line());
        let hint = refusal.hint.as_ref().map(|hint| hint.name);
        let other = hints.iter().find(|(case, _)| case == name);
        let expect = other.map_or(Some(case.hint), |(_, hint)| *hint);
        if blamed != line || hint != expect || refusal.sentence.is_empty() {
            wrong += &format!("{name}: {hint:?}, not {expect:?}: line {line:?}: {refusal}\n");
        }
    }
    assert_eq!(wrong, "");
}

#[test]
fn logs_of_linux_6_1() {
    // It refuses constants that are stored into the context before it looks at the field.
    older("linux-6.1", &[("context_write", Some("read-only"))]);
}

#[test]
fn logs_of_linux_6_12() {
    older("linux-6.12", &[]);
}

/// What a written log expects, as lines of key and value.
struct Expect<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Expect<'a> {
    fn new(header: &'a str) -> Expect<'a> {
        let lines = header.lines().filter(|line| !line.starts_with('#'));
        Expect(lines.filter_map(|line| line.split_once(' ')).collect())
    }

    fn value(&self, key: &str) -> Option<&'a str> {
        let found = self.0.iter().find(|(known, _)| *known == key);
        found.map(|(_, value)| *value)
    }

    fn numbers(&self, key: &str) -> Vec<usize> {
        let words = self.value(key).unwrap_or_default().split(' ');
        words.filter_map(|word| word.parse().ok()).collect()
    }
}

/// A program whose slots have the opcodes and destinations that the log shows.
fn fitted(expect: &Expect<'_>, log: &str) -> Program {
    let mut slots = vec![Raw::default(); 64];
    if let Some(codes) = expect.value("slots") {
        slots = codes
            .split(' ')
            .map(|code| u8::from_str_radix(code.trim_start_matches("0x"), 16).expect("hex"))
            .map(|code| Raw::new(code, 0, 0, 0, 0))
            .collect();
        return Program::from_slots(ProgType::XDP, "fitted", slots);
    }
    for line in log.lines() {
        let step = line.split_once(": (").and_then(|(slot, rest)| {
            let (code, text) = rest.split_once(") ")?;
            let code = u8::from_str_radix(code, 16).ok()?;
            Some((slot.parse::<usize>().ok()?, code, text))
        });
        if let Some((slot, code, text)) = step {
            let dst = text.get(1..2).and_then(|n| n.parse().ok()).unwrap_or(0);
            slots[slot] = Raw::new(code, dst, 0, 0, 0);
        }
    }
    Program::from_slots(ProgType::XDP, "fitted", slots)
}

#[test]
fn logs_written_after_documentation() {
    let logs = logs("written");
    assert!(logs.len() >= 13);
    for (name, text) in &logs {
        let (header, log) = text.split_once("---\n").expect("a header");
        let expect = Expect::new(header);
        let program = fitted(&expect, log);
        let errno = Errno::from_name(expect.value("errno").expect("an errno")).expect("known");
        let refusal = Refusal::new(&program, errno, log.as_bytes());
        let shown = format!("{name}: {refusal:#?}");
        let slot = expect.numbers("slot").first().copied();
        assert_eq!(refusal.slot, slot, "{shown}");
        let hint = refusal.hint.as_ref().map(|hint| hint.name);
        assert_eq!(hint, expect.value("hint"), "{shown}");
        assert_eq!(
            refusal.sentence,
            expect.value("sentence").unwrap_or_default(),
            "{shown}"
        );
        let origin = refusal.origin.as_ref().map(|point| point.slot);
        assert_eq!(origin, expect.numbers("origin").first().copied(), "{shown}");
        let calls: Vec<usize> = refusal.calls.iter().map(|point| point.slot).collect();
        assert_eq!(calls, expect.numbers("calls"), "{shown}");
        let state: Vec<String> = (refusal.state.iter())
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(
            state.join(" "),
            expect.value("state").unwrap_or_default(),
            "{shown}"
        );
        let report = refusal.report.as_ref();
        assert_eq!(
            report.map(|report| report.category.as_str()),
            expect.value("report")
        );
        let causes: Option<Vec<usize>> =
            report.map(|report| report.causes.iter().map(|(slot, _)| *slot).collect());
        assert_eq!(
            causes.unwrap_or_default(),
            expect.numbers("causes"),
            "{shown}"
        );
        if expect.value("steps").is_some() {
            let steps: Vec<usize> = refusal.steps.iter().map(|(point, _)| point.slot).collect();
            assert_eq!(steps, expect.numbers("steps"), "{shown}");
        }
        let evidence = format!("{:?}", refusal.evidence);
        assert_eq!(
            evidence,
            expect.value("evidence").unwrap_or("Whole"),
            "{shown}"
        );
    }
}

#[test]
fn no_log_at_all() {
    let (program, _) = case("null_value").program();
    for log in [&b""[..], b"\0\0\0", b"\n"] {
        let refusal = Refusal::new(&program, Errno::EPERM, log);
        assert_eq!(refusal.evidence, Evidence::Nothing);
        assert_eq!(refusal.slot, None);
        assert_eq!(
            refusal.hint.as_ref().map(|hint| hint.name),
            Some("privilege")
        );
        let line = refusal.to_string();
        assert!(
            line.starts_with("load null_value: EPERM, no log: loading needs CAP_BPF"),
            "{line}"
        );
    }
}

#[test]
fn passed_but_refused_all_the_same() {
    let (program, _) = case("null_value").program();
    let log = b"processed 9 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0\n";
    let refusal = Refusal::new(&program, Errno::ENOTSUPP, log);
    assert_eq!(refusal.evidence, Evidence::Whole);
    assert_eq!(refusal.slot, None);
    assert_eq!(refusal.hint.map(|hint| hint.name), Some("not-supported"));
}

/// The picture with line numbers left out: a line more in the cases is not a change of the picture.
fn picture(name: &str) -> String {
    let case = case(name);
    let (program, _) = case.program();
    let refusal = Refusal::new(&program, case.errno, &recorded(name));
    let mut out = String::new();
    for part in format!("{refusal}\n\n{refusal:#}").split_inclusive(".rs:") {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        if out.ends_with(".rs:") && rest.len() < part.len() {
            out.push_str("LINE");
        }
        out.push_str(rest);
    }
    out
}

#[test]
fn pictures() {
    for name in [
        "null_value",
        "packet_short",
        "record_lost",
        "in_inner_function",
        "in_callback",
        "wrong_type",
        "stack_sum",
        "exit_value",
        "endless",
        "no_fd",
    ] {
        insta::assert_snapshot!(name, picture(name));
    }
}

#[test]
fn picture_of_a_report() {
    let logs = logs("written");
    let text = logs.iter().find(|(name, _)| name == "linux-7.3-source");
    let (header, log) = text
        .expect("it is there")
        .1
        .split_once("---\n")
        .expect("two parts");
    let program = fitted(&Expect::new(header), log);
    let refusal = Refusal::new(&program, Errno::EACCES, log.as_bytes());
    insta::assert_snapshot!("linux_7_3", format!("{refusal:#}"));
}

#[test]
fn ten_megabytes() {
    let (program, line) = case("null_value").program();
    let log = String::from_utf8(recorded("null_value")).expect("text");
    let (head, tail) = log.split_at(log.find("6: (79)").expect("the refused one"));
    let noise = "mark_precise: frame0: regs=r2 stack= before 2: (bf) r3 = r10\n";
    let long = head.to_owned() + &noise.repeat(170_000) + tail;
    assert!(long.len() > 9 << 20);
    let refusal = Refusal::new(&program, Errno::EACCES, long.as_bytes());
    assert_eq!(refusal.at.map(|at| at.line()), line);
}

/// A recorded log with its case.
fn any_recorded() -> impl Strategy<Value = (&'static Case, String)> {
    let logs = logs("linux-6.18");
    (0..logs.len()).prop_map(move |index| {
        let (name, log) = &logs[index];
        (case(name), log.clone())
    })
}

/// Lines that look like a log's, in any order.
fn lines() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        Just("0: R1=ctx() R10=fp0".to_owned()),
        Just("caller:".to_owned()),
        Just("callee:".to_owned()),
        Just("to caller at 3:".to_owned()),
        Just("returning from callee:".to_owned()),
        Just("Verification failed: a: b".to_owned()),
        Just("At:".to_owned()),
        Just("  insn 3".to_owned()),
        Just("  >>> 9 | x".to_owned()),
        Just("Causal path:".to_owned()),
        (0..9_u8, 0..4_u8).prop_map(|(a, b)| format!("from {a} to {b}: frame{b}: R{a}=1")),
        (0..9_u8, 0..4_u8).prop_map(|(a, b)| format!("{a}: (85) call pc+1 ; frame{b}: R{a}_w=(")),
        (0..9_u8, any::<u8>()).prop_map(|(a, b)| format!("{a}: ({b:02x}) r{a} = 1")),
        (0..12_u8).prop_map(|a| format!("R{a} invalid mem access 'scalar'")),
        (0..99_u8).prop_map(|a| format!("Unreleased reference id=1 alloc_insn={a}")),
        (0..99_u8).prop_map(|a| format!("unreachable insn {a}")),
        any::<u64>().prop_map(|a| format!("processed {a} insns (limit {a}")),
        ".{0,20}",
    ];
    prop::collection::vec(line, 0..40).prop_map(|lines| lines.join("\n"))
}

fn survives(program: &Program, errno: i32, log: &[u8]) {
    let refusal = Refusal::new(program, Errno(errno), log);
    assert!(refusal.slot.is_none_or(|slot| slot < program.insns().len()));
    assert!(!refusal.to_string().contains('\n'));
    let _picture = format!("{refusal:#}");
}

proptest! {
    #[test]
    fn any_bytes(log in prop::collection::vec(any::<u8>(), 0..400), errno in any::<i32>()) {
        let (program, _) = case("in_inner_function").program();
        survives(&program, errno, &log);
        let _stats = Stats::parse(&log);
    }

    #[test]
    fn any_lines(log in lines(), errno in 0..600) {
        let (program, _) = case("in_inner_function").program();
        survives(&program, errno, log.as_bytes());
        survives(&Program::from_slots(ProgType(99), "", Vec::new()), errno, log.as_bytes());
    }

    #[test]
    fn cut_at_the_front((case, log) in any_recorded(), cut in any::<prop::sample::Index>()) {
        let (program, line) = case.program();
        let cut = cut.index(log.len());
        let rest = &log.as_bytes()[cut..];
        survives(&program, case.errno.0, rest);
        // The last step, its sentence and what is behind are there.
        let whole = Refusal::new(&program, case.errno, log.as_bytes());
        let step = whole.steps.last().and_then(|(point, _)| log.rfind(&format!("\n{}: (", point.slot)));
        if step.is_some_and(|step| cut <= step + 1) {
            let refusal = Refusal::new(&program, case.errno, rest);
            prop_assert_eq!(refusal.at.map(|at| at.line()), line);
            prop_assert_eq!(refusal.sentence, whole.sentence);
            prop_assert_eq!(refusal.hint, whole.hint);
        }
    }

    #[test]
    fn cut_at_the_end((case, log) in any_recorded(), cut in any::<prop::sample::Index>()) {
        let (program, _) = case.program();
        let rest = &log.as_bytes()[..cut.index(log.len())];
        survives(&program, case.errno.0, rest);
        // Linux before 6.4 says so with another number, which is no reason to blame the last line.
        if Stats::parse(rest).processed.is_none() {
            let refusal = Refusal::new(&program, Errno::ENOSPC, rest);
            prop_assert_eq!((refusal.slot, refusal.stats.processed), (None, None));
            prop_assert!(refusal.evidence != Evidence::Whole);
        }
    }
}
