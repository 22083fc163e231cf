//! What bpftool shows of a loaded program: its lines, its functions, its global variables.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use bpfsmith_asm::dsl::*;
use bpfsmith_gate::needs;
use bpfsmith_prog::{Load, Prog};
use bpfsmith_sys::info::{self, List};
use std::os::fd::AsFd;
use std::process::Command;

/// This file, as it was built.
const TEXT: &str = include_str!("bpftool.rs");

fn bpftool(args: &[&str]) -> String {
    let output = Command::new("bpftool").args(args).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

static LIMIT: Global<i32> = Global::rodata("limit", -7).described();
static TOTAL: Global<u64> = Global::bss("total");

fn code() -> Code {
    let fold = func("fold").body(code![
        ld_global(R2, &TOTAL),
        load(R0, R2.u64(0)),
        add(R0, R1), // fold it
        store(R2.u64(0), R0),
        exit(),
    ]);
    code![
        ld_global(R1, &LIMIT),
        load(R1, R1.u32(0)),
        call(&fold),
        ret(XDP_PASS),
    ]
}

fn load_it() -> (Program, Prog) {
    let program = Program::new(ProgType::XDP, "shown", code()).unwrap();
    let prog = Load::new(&program).load();
    let prog = prog.unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(prog.account().lines.path, 0, "{:?}", prog.account());
    (program, prog)
}

#[test]
fn bpftool_quotes_the_rust_lines() {
    needs!(Root, Bpf, Bpftool);
    let (program, prog) = load_it();
    let id = info::prog(prog.as_fd()).unwrap().id.to_string();
    let dump = bpftool(&[
        "prog", "dump", "xlated", "id", &id, "linum",
    ]);
    for (slot, line) in program.lines().iter().enumerate() {
        let (file, number, column) = (line.at.file(), line.at.line(), line.at.column());
        let source = TEXT.lines().nth(number as usize - 1).unwrap().trim();
        let path = program.path(slot);
        let expected =
            format!("; {source} // {path} [file:{file} line_num:{number} line_col:{column}]");
        assert!(dump.contains(&expected), "{expected}\n{dump}");
    }
    for func in ["int shown()", "int fold()"] {
        assert!(dump.contains(func), "{func}\n{dump}");
    }
}

#[test]
fn bpftool_prints_global_variables_by_name() {
    needs!(Root, Bpf, Bpftool);
    let (_, prog) = load_it();
    prog.run().data(&[0; 64]).go().unwrap();
    let ids = info::prog_list(prog.as_fd(), List::Maps).unwrap();
    let dump: String = ids
        .chunks_exact(4)
        .map(|id| u32::from_ne_bytes(id.try_into().unwrap()).to_string())
        .map(|id| bpftool(&["-j", "map", "dump", "id", &id]))
        .collect();
    // What a 32-bit load of -7 gives.
    let total = (-7_i32).cast_unsigned();
    for expected in [
        r#"".rodata":[{"limit":-7}]"#.to_owned(),
        format!(r#"".bss":[{{"total":{total}}}]"#),
    ] {
        assert!(dump.contains(&expected), "{expected}\n{dump}");
    }
}
