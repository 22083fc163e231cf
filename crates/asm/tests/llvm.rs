//! Our text and bytes against LLVM's assembler and disassembler, for every form of every
//! instruction.
//!
//! What LLVM 19 does not know, or means differently, is in [`LLVM_CANNOT`] with its reason. The
//! tests fail as well if an entry of that table is no longer needed.

mod support;

use bpfsmith_asm::isa::{Callee, Op, Order, Raw, Wide};
use bpfsmith_asm::text::{parse, write_op};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{all_ops, encode};

const TOOLS: [&str; 3] = [
    "llvm-mc-19",
    "llvm-objcopy-19",
    "llvm-objdump-19",
];

/// Which direction does not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Our text into llvm-mc.
    Assemble,
    /// Our bytes into llvm-objdump, whose text comes back to us.
    Disassemble,
    /// Neither.
    Both,
}

type Row = (&'static str, Way, fn(Op) -> bool);

/// Name and reason, the direction, and the instructions.
const LLVM_CANNOT: &[Row] = &[
    (
        "load_acquire and store_release came with LLVM 21",
        Way::Both,
        |op| matches!(op, Op::LoadAcquire(..) | Op::StoreRelease(..)),
    ),
    (
        "the offset of an indirect packet access is not in LLVM's syntax",
        Way::Both,
        |op| matches!(op, Op::LoadInd(_, _, imm) if imm != 0),
    ),
    (
        "references to maps, variables and functions are relocations in LLVM",
        Way::Both,
        |op| matches!(op, Op::Wide(_, wide) if !matches!(wide, Wide::Imm(_))),
    ),
    (
        "LLVM writes calls of functions and kernel functions as it writes calls of helpers",
        Way::Both,
        |op| matches!(op, Op::Call(Callee::Local(_) | Callee::Kfunc(..))),
    ),
    (
        "llvm-mc takes longer distances as labels only",
        Way::Assemble,
        |op| matches!(op, Op::JaLong(v) if i16::try_from(v).is_err()),
    ),
];

fn way(op: Op, way: Way) -> Option<&'static Row> {
    LLVM_CANNOT
        .iter()
        .find(|row| (row.1 == way || row.1 == Way::Both) && row.2(op))
}

/// A directory for one test's files, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(test: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("bpfsmith-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        Scratch(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// True if the tools are here. Says so past the capture of the test's output if not, and fails the
/// test if `BPFSMITH_STRICT` is set.
fn has_llvm(test: &str) -> bool {
    let missing = |tool: &&&str| Command::new(tool).arg("--version").output().is_err();
    let Some(tool) = TOOLS.iter().find(missing) else {
        return true;
    };
    let line = format!("SKIP {test}: {tool} is not installed (Debian: apt-get install llvm-19)\n");
    assert!(
        std::env::var("BPFSMITH_STRICT").as_deref() != Ok("1"),
        "{line}"
    );
    if let Ok(mut to) = std::fs::OpenOptions::new().append(true).open("/dev/stderr") {
        let _ = to.write_all(line.as_bytes());
    }
    false
}

fn print(ops: &[Op]) -> String {
    let mut out = String::new();
    for op in ops {
        write_op(&mut out, *op);
        out.push('\n');
    }
    out
}

fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().expect("the tool runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr))
    }
}

/// The bytes that llvm-mc makes of a text.
fn assemble(scratch: &Scratch, source: &str, triple: &str) -> Result<Vec<u8>, String> {
    let (text, object) = (scratch.file("in.s"), scratch.file("in.o"));
    std::fs::write(&text, source).expect("a file");
    run(Command::new("llvm-mc-19")
        .args([
            "-mcpu=v4",
            "-filetype=obj",
            "-triple",
            triple,
            "-o",
        ])
        .args([&object, &text]))?;
    let bytes = scratch.file("in.bin");
    run(Command::new("llvm-objcopy-19")
        .args(["-O", "binary", "--only-section=.text"])
        .args([&object, &bytes]))?;
    Ok(std::fs::read(&bytes).expect("the section"))
}

/// The text that llvm-objdump makes of bytes.
fn disassemble(scratch: &Scratch, bytes: &[u8], triple: &str) -> Result<String, String> {
    let (text, object) = (scratch.file("out.s"), scratch.file("out.o"));
    let list: Vec<String> = bytes.iter().map(ToString::to_string).collect();
    std::fs::write(&text, format!(".byte {}\n", list.join(","))).expect("a file");
    run(Command::new("llvm-mc-19")
        .args([
            "-mcpu=v4",
            "-filetype=obj",
            "-triple",
            triple,
            "-o",
        ])
        .args([&object, &text]))?;
    objdump(&object)
}

fn objdump(object: &Path) -> Result<String, String> {
    let dump = run(Command::new("llvm-objdump-19")
        .args(["-d", "--mcpu=v4"])
        .arg(object))?;
    // What comes before the first instruction names the file and the section.
    let start = dump.find("<.text>:").map_or(0, |at| at + 8);
    Ok(dump[start..].to_owned())
}

fn to_bytes(raws: &[Raw], order: Order) -> Vec<u8> {
    raws.iter().flat_map(|raw| raw.to_bytes(order)).collect()
}

const TARGETS: [(&str, Order); 2] = [
    ("bpfel", Order::Little),
    ("bpfeb", Order::Big),
];

#[test]
fn llvm_assembles_our_text_to_our_bytes() {
    if !has_llvm("llvm_assembles_our_text_to_our_bytes") {
        return;
    }
    let scratch = Scratch::new("assemble");
    let ops: Vec<Op> = all_ops()
        .into_iter()
        .filter(|op| way(*op, Way::Assemble).is_none())
        .collect();
    assert!(ops.len() > 3000, "{}", ops.len());
    for (triple, order) in TARGETS {
        let bytes = assemble(&scratch, &print(&ops), triple).unwrap_or_else(|e| panic!("{e}"));
        let mut slots = bytes.chunks(8);
        for op in &ops {
            for raw in encode(&[*op]) {
                let expected = raw.to_bytes(order);
                assert_eq!(slots.next(), Some(&expected[..]), "{triple}: {op}");
            }
        }
        assert_eq!(slots.next(), None);
    }
}

#[test]
fn our_bytes_come_back_through_llvms_text() {
    if !has_llvm("our_bytes_come_back_through_llvms_text") {
        return;
    }
    let scratch = Scratch::new("disassemble");
    let ops: Vec<Op> = all_ops()
        .into_iter()
        .filter(|op| way(*op, Way::Disassemble).is_none())
        .collect();
    assert!(ops.len() > 3000, "{}", ops.len());
    for (triple, order) in TARGETS {
        let raws = encode(&ops);
        let dump = disassemble(&scratch, &to_bytes(&raws, order), triple).unwrap();
        let text = parse(&dump).unwrap_or_else(|errors| {
            let lines: Vec<&str> = dump.lines().collect();
            let show = |e: &bpfsmith_asm::text::TextError| {
                format!("{e}\n  {}", lines[e.line as usize - 1])
            };
            panic!("{}", errors.iter().map(show).collect::<Vec<_>>().join("\n"))
        });
        let mut slot = 0;
        for op in &ops {
            for raw in encode(&[*op]) {
                assert_eq!(text.insns.get(slot), Some(&raw), "{triple}: {op}");
                slot += 1;
            }
        }
        assert_eq!(text.insns.len(), slot);
    }
}

/// Each row of the table is exact: no instruction that it names goes through.
#[test]
fn what_llvm_cannot_is_what_llvm_cannot() {
    if !has_llvm("what_llvm_cannot_is_what_llvm_cannot") {
        return;
    }
    let scratch = Scratch::new("cannot");
    for row in LLVM_CANNOT {
        let (reason, way, holds) = *row;
        let named: Vec<Op> = all_ops().into_iter().filter(|op| holds(*op)).collect();
        assert!(!named.is_empty(), "no instruction for: {reason}");
        if way != Way::Disassemble {
            let anyway = print(&assembled_anyway(&scratch, &named));
            assert_eq!(anyway, "", "assembles to our bytes, but: {reason}");
        }
        if way != Way::Assemble {
            let anyway = print(&disassembled_anyway(&scratch, &named));
            assert_eq!(anyway, "", "comes back through LLVM's text, but: {reason}");
        }
    }
}

/// Those of the instructions that llvm-mc does not refuse, and makes our bytes of.
fn assembled_anyway(scratch: &Scratch, ops: &[Op]) -> Vec<Op> {
    let mut taken = ops.to_vec();
    if let Err(errors) = assemble(scratch, &print(ops), "bpfel") {
        // `…/in.s:12:5: error: …`
        let refused: Vec<usize> = errors
            .lines()
            .filter(|line| line.contains(": error: "))
            .filter_map(|line| line.split(':').nth(1)?.parse().ok())
            .collect();
        assert!(!refused.is_empty(), "{errors}");
        let mut line = 0;
        taken.retain(|_| {
            line += 1;
            !refused.contains(&line)
        });
    }
    // One at a time: what LLVM makes of it may have another length.
    taken.retain(|op| {
        let ours = to_bytes(&encode(&[*op]), Order::Little);
        assemble(scratch, &print(&[*op]), "bpfel").as_ref() == Ok(&ours)
    });
    taken
}

/// Those of the instructions whose bytes llvm-objdump turns into text that means the same to us.
fn disassembled_anyway(scratch: &Scratch, ops: &[Op]) -> Vec<Op> {
    let bytes = to_bytes(&encode(ops), Order::Little);
    let dump = disassemble(scratch, &bytes, "bpfel").expect("a dump");
    let line_of = |slot: usize| {
        let number = format!("{slot}:");
        dump.lines()
            .find(|line| line.trim_start().starts_with(&number))
            .unwrap_or_else(|| panic!("no line {number} in\n{dump}"))
    };
    let mut slot = 0;
    let mut anyway = Vec::new();
    for op in ops {
        if parse(line_of(slot)).is_ok_and(|text| text.insns == encode(&[*op])) {
            anyway.push(*op);
        }
        slot += op.slots();
    }
    anyway
}
