//! A whole program as text, in two forms.
//!
//! The *stable* form (`Display`, [`Program::listing`]) is for snapshots and for reading: names, no
//! numbers of slots, no source lines, so that one more instruction is one more line. It is also a
//! way to write programs: [`text::program`](crate::text::program) reads it back.
//!
//! ```text
//! program drop_echo XDP
//! map hits ARRAY key 4 value 8 entries 1
//! section .rodata 6400000000000000
//! var limit .rodata offset 0 size 8
//!
//! func drop_echo
//!   ; drop_echo
//!   r7 = *(u32 *)(r1 + 0)
//!   if r2 != 8 goto pass
//!   ; drop_echo > bump
//!   r1 = map[hits]
//!   call map_lookup_elem#1
//! pass:
//!   r0 = 2
//!   exit
//! ```
//!
//! A map line may end in `flags 0x1`, and a line of a global function in what it takes, pointers by
//! their bytes: `func find takes 12 number`. A `; …` line tells which fragment the lines below it come
//! from. What the running kernel answers stands behind an instruction, which has the rest:
//! `r1 = *(u64 *)(r6 + 0) @field[tcp_sock.snd_cwnd]`, `r1 = 0 @has_field[tcp_sock.snd_cwnd]`. Only labels that something jumps to are shown; a second label of one name is `pass_2`.
//!
//! The *annotated* form ([`Program::annotated`]) has slot numbers, opcodes, bytes and Rust lines, for
//! errors and the command line.

use crate::code::Param;
use crate::isa::{Callee, Op, Order, Raw, Wide};
use crate::kernel::Question;
use crate::program::{Program, Target, frame_path};
use crate::text::{Symbol, write_op_named};
use std::collections::{HashMap, HashSet};
use std::fmt::{self, Write};

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.listing())
    }
}

impl Program {
    /// The stable form: names only, one line more for one instruction more.
    #[must_use]
    pub fn listing(&self) -> String {
        let mut out = String::with_capacity(self.insns.len() * 32 + 256);
        self.header(&mut out);
        let names = Names::new(self);
        let mut shown = u32::MAX;
        for (slot, op) in self.typed() {
            if let Some(func) = names.funcs.get(&slot) {
                push(
                    &mut out,
                    format_args!("\nfunc {func}{}\n", takes(self, slot)),
                );
                shown = u32::MAX;
            }
            if let Some(name) = names.labels.get(&slot) {
                push(&mut out, format_args!("{name}:\n"));
            }
            if let Some(line) = self.lines.get(slot)
                && line.frame != shown
            {
                push(
                    &mut out,
                    format_args!("  ; {}\n", frame_path(&self.frames, line.frame)),
                );
                shown = line.frame;
            }
            out.push_str("  ");
            self.op(&mut out, slot, op, &names);
            out.push('\n');
        }
        out
    }

    /// The annotated form: slot, opcode and instruction, then bytes, Rust line and fragment.
    #[must_use]
    pub fn annotated(&self) -> String {
        let mut out = String::with_capacity(self.insns.len() * 96);
        let names = Names::new(self);
        for (slot, op) in self.typed() {
            if let Some(func) = names.funcs.get(&slot) {
                push(&mut out, format_args!("func {func}{}\n", takes(self, slot)));
            }
            if let Some(name) = names.labels.get(&slot) {
                push(&mut out, format_args!("{name}:\n"));
            }
            self.annotate(&mut out, slot, op, &names);
            out.push('\n');
        }
        out
    }

    /// The lines of [`Program::annotated`] around one slot, which is marked.
    #[must_use]
    pub fn around(&self, slot: usize, lines: usize) -> String {
        let names = Names::new(self);
        let ops: Vec<(usize, Op)> = self.typed().collect();
        let index = ops.partition_point(|&(at, _)| at < slot);
        let from = index.saturating_sub(lines);
        let mut out = String::new();
        for &(at, op) in ops.iter().skip(from).take(lines * 2 + 1) {
            out.push_str(if at == slot { "> " } else { "  " });
            self.annotate(&mut out, at, op, &names);
            out.push('\n');
        }
        out
    }

    fn annotate(&self, out: &mut String, slot: usize, op: Op, names: &Names) {
        let raw = self.insns[slot];
        push(out, format_args!("{slot:4}: ({:02x}) ", raw.code));
        let start = out.len();
        self.op(out, slot, op, names);
        let pad = 40_usize.saturating_sub(out.len() - start);
        push(out, format_args!("{:pad$} ; ", ""));
        for n in slot..slot + op.slots() {
            for b in self
                .insns
                .get(n)
                .map_or([0; 8], |raw| Raw::to_bytes(*raw, Order::HOST))
            {
                push(out, format_args!("{b:02x}"));
            }
        }
        if let Some(line) = self.lines.get(slot) {
            let (file, number) = (line.at.file(), line.at.line());
            push(
                out,
                format_args!(" {file}:{number} {}", frame_path(&self.frames, line.frame)),
            );
        }
    }

    fn header(&self, out: &mut String) {
        let kind = self
            .kind
            .name()
            .map_or_else(|| self.kind.0.to_string(), str::to_owned);
        push(out, format_args!("program {} {kind}\n", self.name));
        for map in &self.maps {
            let kind = map
                .kind
                .name()
                .map_or_else(|| map.kind.0.to_string(), str::to_owned);
            push(
                out,
                format_args!(
                    "map {} {kind} key {} value {} entries {}",
                    map.name, map.key, map.value, map.entries
                ),
            );
            if map.flags != 0 {
                push(out, format_args!(" flags {:#x}", map.flags));
            }
            out.push('\n');
        }
        for section in &self.sections {
            push(out, format_args!("section {} ", section.name));
            for b in &section.bytes {
                push(out, format_args!("{b:02x}"));
            }
            out.push('\n');
            for (name, offset, size) in &section.symbols {
                push(
                    out,
                    format_args!("var {name} {} offset {offset} size {size}\n", section.name),
                );
            }
        }
    }

    /// The instructions with their slots; a program holds nothing that does not decode.
    fn typed(&self) -> impl Iterator<Item = (usize, Op)> {
        crate::decode::ops(&self.insns).filter_map(Result::ok)
    }

    fn op(&self, out: &mut String, slot: usize, op: Op, names: &Names) {
        let reloc = names
            .relocs
            .get(&slot)
            .map(|&index| &self.relocs[index].target);
        let (reloc, question) = match reloc {
            Some(Target::Kernel(question)) => (None, Some(question)),
            reloc => (reloc, None),
        };
        let symbol = match (reloc, op) {
            (Some(Target::Map(name)), _) => Some(Symbol::Map(name.as_str())),
            (Some(Target::MapValue(name, off)), _) => Some(Symbol::MapValue(name.as_str(), *off)),
            (Some(Target::Section(name, off)), _) => Some(Symbol::Section(name, *off)),
            (Some(Target::Kfunc(name)), _) => Some(Symbol::Kfunc(name)),
            (Some(Target::Ksym(name)), _) => Some(Symbol::Ksym(name)),
            (Some(Target::Kernel(_)), _) => None,
            (None, Op::Call(Callee::Local(distance)) | Op::Wide(_, Wide::Func(distance))) => {
                let to = i64::from(distance) + 1 + i64::try_from(slot).unwrap_or(i64::MAX);
                let func = usize::try_from(to).ok().and_then(|to| names.funcs.get(&to));
                func.map(|func| Symbol::Label(func))
            }
            (None, op) => target(slot, op)
                .and_then(|to| names.labels.get(&to))
                .map(|name| Symbol::Label(name)),
        };
        write_op_named(out, op, symbol);
        if let Some(Question { ask, path }) = question {
            push(out, format_args!(" @{}[{path}]", ask.word()));
        }
    }
}

/// What the function at a slot takes, if it is a global one.
fn takes(program: &Program, slot: usize) -> String {
    let func = program.funcs.iter().find(|func| func.at as usize == slot);
    let params = func.and_then(|func| func.params.as_ref());
    params.map_or_else(String::new, |params| {
        let each = params.iter().map(|param| match param {
            Param::Number => " number".to_owned(),
            Param::Bytes(bytes) => format!(" {bytes}"),
        });
        format!(" takes{}", each.collect::<String>())
    })
}

/// What a listing calls things by.
struct Names {
    labels: HashMap<usize, String>,
    relocs: HashMap<usize, usize>,
    funcs: HashMap<usize, String>,
}

impl Names {
    fn new(program: &Program) -> Names {
        let mut targets: Vec<usize> = program
            .typed()
            .filter_map(|(slot, op)| target(slot, op))
            .collect();
        targets.retain(|&to| to < program.insns.len());
        targets.sort_unstable();
        targets.dedup();
        let mut given: HashMap<usize, &str> = HashMap::new();
        // Of several labels at one place the last one is the outermost block's.
        for (slot, name) in &program.labels {
            given.insert(*slot as usize, name);
        }
        let mut used: HashSet<String> =
            program.funcs.iter().map(|func| func.name.clone()).collect();
        // Where to go on counting, for names that many labels have.
        let mut counts: HashMap<&str, u32> = HashMap::new();
        let mut labels = HashMap::new();
        for to in targets {
            let name = given.get(&to).copied().unwrap_or("L");
            let count = counts.entry(name).or_insert(1);
            let name = word(name);
            let mut unique = name.clone();
            while !used.insert(unique.clone()) {
                *count += 1;
                unique = format!("{name}_{count}");
            }
            labels.insert(to, unique);
        }
        let relocs = (0..)
            .zip(&program.relocs)
            .map(|(i, reloc)| (reloc.at as usize, i))
            .collect();
        let funcs = (program.funcs.iter())
            .map(|func| (func.at as usize, func.name.clone()))
            .collect();
        Names {
            labels,
            relocs,
            funcs,
        }
    }
}

/// A label's name as the parser reads it: other characters become `_`.
fn word(name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let mut out: String = name
        .chars()
        .map(|c| if fits(c) { c } else { '_' })
        .collect();
    if !out.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        out.insert(0, '_');
    }
    out
}

/// The slot that an instruction jumps to.
fn target(slot: usize, op: Op) -> Option<usize> {
    let distance = match op {
        Op::Ja(off) | Op::MayGoto(off) | Op::Jump(.., off) => i64::from(off),
        Op::JaLong(imm) => i64::from(imm),
        _ => return None,
    };
    usize::try_from(i64::try_from(slot).ok()? + 1 + distance).ok()
}

/// Appends formatted text; writing to a string cannot fail.
fn push(out: &mut String, text: fmt::Arguments<'_>) {
    let _infallible = out.write_fmt(text);
}
