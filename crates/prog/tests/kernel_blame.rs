//! The running kernel refuses every case, and the blame names the line that is guilty.
//!
//! `BPFSMITH_RECORD=dir` also writes the logs there, one file a case.

mod blame_cases;

use blame_cases::{Case, Types, cases};
use bpfsmith_asm::dsl::*;
use bpfsmith_asm::program::Target;
use bpfsmith_btf::{Builder, FUNC_INFO_SIZE, IntEncoding, LINE_INFO_SIZE, Line, Linkage};
use bpfsmith_gate::{Version, is_slow, needs, version};
use bpfsmith_prog::blame::{Evidence, Refusal, Stats};
use bpfsmith_prog::{Error, Maps};
use bpfsmith_sys::map::{Create, Map};
use bpfsmith_sys::misc::load_btf;
use bpfsmith_sys::prog::{self, Load, Log, Records};
use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

/// What the kernel answered, and what it wrote.
struct Answer {
    result: Result<OwnedFd, Errno>,
    log: Vec<u8>,
}

/// Function and line records, and the BTF they refer to.
struct Info {
    btf: OwnedFd,
    funcs: Vec<u8>,
    lines: Vec<u8>,
}

fn name(text: &str) -> [u8; 16] {
    let mut name = [0; 16];
    let bytes = &text.as_bytes()[..text.len().min(15)];
    name[..bytes.len()].copy_from_slice(bytes);
    name
}

fn maps(program: &Program) -> HashMap<String, Map> {
    let map = |shape: &MapShape| {
        let create = Create {
            kind: shape.kind.0,
            key: shape.key,
            value: shape.value,
            entries: shape.entries,
            flags: shape.flags,
            name: name(shape.name.as_str()),
            ..Create::default()
        };
        let map = Map::create(&create).expect("a map");
        (shape.name.to_string(), map)
    };
    program.maps().iter().map(map).collect()
}

fn info(program: &Program) -> Info {
    let mut builder = Builder::new();
    let int = builder.int("int", 4, IntEncoding::SIGNED);
    let long = builder.int("long", 8, IntEncoding::SIGNED);
    let context = builder.pointer(bpfsmith_btf::TypeId(0));
    let proto = builder.func_proto(int, &[("context", context)]);
    let inner = builder.func_proto(int, &[("a", long)]);
    let funcs: Vec<_> = (program.funcs().iter())
        .map(|func| {
            let proto = if func.at == 0 { proto } else { inner };
            (func.at, builder.func(&func.name, proto, Linkage::STATIC))
        })
        .collect();
    let func_info = builder.func_info(funcs);
    let slots = bpfsmith_asm::decode::ops(program.insns()).filter_map(Result::ok);
    let lines: Vec<Line<'_>> = slots
        .map(|(slot, _)| Line {
            slot: u32::try_from(slot).expect("a small program"),
            file: program.lines()[slot].at.file(),
            line: program.lines()[slot].at.line(),
            column: program.lines()[slot].at.column(),
            text: "processed 7 insns in R1=2; Verification failed:",
        })
        .collect();
    let line_info = builder.line_info(lines);
    let blob = builder.build().expect("types");
    let btf = load_btf(&blob, &mut Log::default(), None).expect("BTF");
    Info {
        btf,
        funcs: func_info,
        lines: line_info,
    }
}

/// Loads a program with a log of that level and at most that many bytes.
fn load(case: &Case, program: &Program, info: Option<&Info>, level: u32, size: usize) -> Answer {
    let maps = maps(program);
    let mut bytes = program.to_bytes(Order::HOST);
    for reloc in program.relocs() {
        let Target::Map(name) = &reloc.target else {
            panic!("{}: only maps are filled in here", case.name);
        };
        let at = reloc.at as usize * 8 + 4;
        let fd = maps[name.as_str()].as_fd().as_raw_fd();
        bytes[at..at + 4].copy_from_slice(&fd.to_ne_bytes());
    }
    let license = CString::new(case.license).expect("a license");
    let records = |bytes, size| Records { bytes, size };
    let load = Load {
        kind: case.kind.0,
        insns: &bytes,
        license: &license,
        name: name(case.name),
        flags: 0,
        ifindex: 0,
        attach_type: 0,
        btf: info.map(|info| info.btf.as_fd()),
        funcs: info.map_or(records(&[], 0), |info| records(&info.funcs, FUNC_INFO_SIZE)),
        lines: info.map_or(records(&[], 0), |info| records(&info.lines, LINE_INFO_SIZE)),
        attach_btf_id: 0,
        attach_to: None,
        fd_array: &[],
        is_fd_array_counted: prog::IsCounted::No,
        token: None,
        signature: None,
    };
    let mut buffer = vec![0; size];
    let mut log = Log {
        level,
        buffer: &mut buffer,
        true_size: 0,
    };
    let result = prog::load(&load, &mut log).map_err(|failed| failed.errno);
    let end = buffer.iter().position(|b| *b == 0).unwrap_or(size);
    buffer.truncate(end);
    Answer {
        result,
        log: buffer,
    }
}

/// Log levels: the path, every path, only the end.
const PATH: u32 = 1;
const ALL: u32 = 2;
const END: u32 = 4;
const LARGE: usize = 64 << 20;

/// Sentences and error numbers of the cases are those of this version and later ones.
fn is_current() -> bool {
    version()
        >= Version {
            major: 6,
            minor: 18,
        }
}

/// The blame of a case, with what every blame must have.
#[track_caller]
fn blame(case: &Case, program: &Program, answer: &Answer) -> Refusal {
    let errno = *answer.result.as_ref().expect_err(case.name);
    let refusal = Refusal::new(program, errno, &answer.log);
    let hint = refusal.hint.as_ref().map(|hint| hint.name);
    let end = || end_of(&answer.log);
    if is_current() {
        assert_eq!(hint, Some(case.hint), "{refusal:#}\n{}", end());
        let is_said = refusal.sentence.contains(case.sentence);
        assert!(is_said, "{refusal:#}\n{}", end());
    }
    assert_eq!(refusal.evidence, Evidence::Whole, "{refusal:#}\n{}", end());
    let processed = refusal.stats.processed;
    assert!(processed.is_some(), "{refusal:#}\n{}", end());
    refusal
}

/// What a failed test shows of a log, which may have megabytes.
fn end_of(log: &[u8]) -> String {
    let start = log.len().saturating_sub(16 << 10);
    String::from_utf8_lossy(&log[start..]).into_owned()
}

/// All, but for those that keep an emulated machine busy for minutes.
fn quick_cases() -> impl Iterator<Item = &'static Case> {
    cases().filter(|case| !is_slow() || !is_endless(case))
}

/// The verifier looks at a million instructions of theirs, and their logs have up to hundreds of
/// megabytes, which say the same a million times over.
fn is_endless(case: &Case) -> bool {
    case.name.starts_with("too_")
}

#[track_caller]
fn is_guilty(refusal: &Refusal, line: Option<u32>) {
    let blamed = refusal.at.map(|at| at.line());
    assert_eq!(blamed, line, "{refusal:#}");
}

#[test]
fn every_refusal_names_its_line() {
    needs!(Root, Bpf);
    let record = std::env::var_os("BPFSMITH_RECORD");
    let mut count = 0;
    for case in quick_cases() {
        let (program, line) = case.program();
        let info = (case.types != Types::Missing).then(|| info(&program));
        let loads = [
            (case.types != Types::Needed).then_some(None),
            info.as_ref().map(Some),
        ];
        for info in loads.into_iter().flatten() {
            let answer = load(case, &program, info, PATH, LARGE);
            let refusal = blame(case, &program, &answer);
            // A log that did not fit replaces the verifier's answer.
            if is_current() && answer.log.len() + 1 < LARGE {
                assert_eq!(refusal.errno, case.errno, "{refusal:#}");
            }
            is_guilty(&refusal, line);
            let is_first = info.is_none() || case.types == Types::Needed;
            let is_short = answer.log.len() < 64 << 10;
            if let (Some(dir), true) = (&record, is_first && is_short) {
                let file = std::path::Path::new(dir).join(format!("{}.log", case.name));
                std::fs::write(file, &answer.log).expect("a log is written");
            }
        }
        count += 1;
    }
    assert!(count >= 60, "{count} cases");
}

/// Loaded as everybody loads: the line is quoted in our error and, before the sentence, in the
/// kernel's own log; where the source is not at hand, the kernel's log has the fragments.
#[test]
fn every_refusal_quotes_its_line_twice() {
    needs!(Root, Bpf);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut count = 0;
    for case in cases().filter(|case| !is_endless(case) && case.types != Types::Missing) {
        let (program, line) = case.program();
        let maps = Maps::of(&program).expect(case.name);
        let load = bpfsmith_prog::Load::new(&program).maps(&maps);
        let load = load.license(case.license).expect("a license");
        let refusal = match load.load() {
            Err(Error::Refused(refusal)) => refusal,
            // The loader itself refuses what is for no function or event.
            Err(Error::Argument { .. }) if case.name == "no_target" => continue,
            other => panic!("{}: {other:?}", case.name),
        };
        is_guilty(&refusal, line);
        let Some(at) = refusal.at else { continue };
        let text = std::fs::read_to_string(root.join(at.file())).ok();
        let index = at.line() as usize - 1;
        let text = text.map(|text| text.lines().nth(index).expect("a line").to_owned());
        assert_eq!(refusal.source, text, "{refusal:#}");
        let (all, path) = (format!("{refusal:#}"), &refusal.path);
        let shown = match &text {
            Some(text) => {
                let quote = format!("\n{} | {}\n", at.line(), text.trim());
                assert!(all.contains(&quote), "{all}");
                format!("; {} // {path}", text.trim())
            }
            None => format!("; {path}"),
        };
        // The kernel quotes only what it follows, and a line once, also where it then drops the path
        // on which it did so.
        if refusal.stats.processed == Some(0) || case.name == "exit_pointer" {
            continue;
        }
        assert!(refusal.log.contains(&shown), "{shown}\n{}", refusal.log);
        count += 1;
    }
    assert!(count >= 50, "{count} cases");
}

#[test]
fn a_log_of_every_path_names_the_same_line() {
    needs!(Root, Bpf);
    for case in cases().filter(|case| !is_endless(case)) {
        let (program, line) = case.program();
        let info = (case.types != Types::Missing).then(|| info(&program));
        let answer = load(case, &program, info.as_ref(), ALL, LARGE);
        is_guilty(&blame(case, &program, &answer), line);
    }
}

#[test]
fn the_end_alone_has_the_sentence() {
    needs!(Root, Bpf);
    for case in quick_cases() {
        let (program, _) = case.program();
        let info = (case.types != Types::Missing).then(|| info(&program));
        let answer = load(case, &program, info.as_ref(), END, LARGE);
        let refusal = blame(case, &program, &answer);
        assert!(refusal.steps.is_empty(), "{refusal:#}");
        assert_eq!(refusal.state, []);
    }
}

#[test]
fn a_buffer_that_is_too_small_keeps_the_end() {
    needs!(Root, Bpf);
    // Linux 6.4 keeps the end of the log; before, the front.
    let keeps_end = version() >= Version { major: 6, minor: 4 };
    let (case, program, line) = cases()
        .find(|case| case.name == "in_inner_function")
        .map(|case| {
            let (program, line) = case.program();
            (case, program, line)
        })
        .expect("a case");
    let answer = load(case, &program, None, PATH, 400);
    let errno = answer.result.expect_err("refused");
    let refusal = Refusal::new(&program, errno, &answer.log);
    assert_eq!(answer.log.len(), 399);
    if keeps_end {
        is_guilty(&refusal, line);
        assert_eq!(refusal.evidence, Evidence::Whole);
    } else {
        assert_eq!(refusal.evidence, Evidence::Cut, "{refusal:#}");
        assert_eq!(refusal.slot, None);
    }
}

#[test]
fn refusals_without_a_log() {
    needs!(Root, Bpf);
    let case = cases().next().expect("a case");
    let (program, _) = case.program();
    let answer = load(case, &program, None, 0, 0);
    let errno = answer.result.expect_err("refused");
    let refusal = Refusal::new(&program, errno, &answer.log);
    assert_eq!(refusal.evidence, Evidence::Nothing);
    assert_eq!(refusal.hint.map(|hint| hint.name), Some("log"));

    let odd = Case {
        kind: ProgType(999),
        ..*case
    };
    let answer = load(&odd, &program, None, PATH, 4096);
    let refusal = Refusal::new(&program, answer.result.expect_err("refused"), &answer.log);
    assert_eq!(refusal.evidence, Evidence::Nothing);
    assert_eq!(refusal.hint.map(|hint| hint.name), Some("arguments"));
}

#[test]
fn statistics_of_a_program_that_is_accepted() {
    needs!(Root, Bpf);
    let case = Case {
        name: "fine",
        code: |_| {
            let leaf = func("leaf").body(code![store(R10.u64(-8), 0), ret(0)]);
            code![call(&leaf), ret(XDP_PASS)]
        },
        ..*cases().next().expect("a case")
    };
    let (program, _) = case.program();
    let answer = load(&case, &program, None, END, 4096);
    answer.result.expect("it is fine");
    let stats = Stats::parse(&answer.log);
    assert_eq!(stats.processed, Some(6));
    assert_eq!(stats.limit, Some(1_000_000));
    assert_eq!(stats.stack, [0, 8]);
    assert!(stats.micros.is_some());
    assert!(stats.total_states.is_some() && stats.peak_states.is_some());
    assert!(stats.max_states_per_insn.is_some() && stats.mark_read.is_some());
}
