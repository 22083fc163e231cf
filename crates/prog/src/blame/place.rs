//! Which instruction a sentence is about.

use super::Evidence;
use super::pattern::matches;
use super::report::Report;
use super::walk::Walk;
use bpfsmith_asm::decode;
use bpfsmith_asm::isa::Raw;
use bpfsmith_asm::program::{Program, Target};

/// Sentences that name the instruction themselves: the first star is its number.
const NAMED: &[&str] = &[
    "unreachable insn *",
    "jump out of range from insn * to *",
    "back-edge from insn * to *",
    "infinite loop detected at insn *",
    "jump into the middle of ldimm64 insn *",
    "invalid insn idx * insn_cnt *",
];

/// Sentences of the checks before the walk, which name no instruction.
const UNNAMED: &[(&str, Finder)] = &[
    ("last insn is not an exit or jmp", falls_off),
    ("fd * is not pointing to valid bpf_map", map_fd),
    ("unknown opcode *", malformed),
    ("unknown insn class *", malformed),
    ("invalid BPF_*", malformed),
    ("BPF_* uses reserved fields", malformed),
    ("*reserved fields*", malformed),
    ("R* is invalid", malformed),
    ("invalid bpf_ld_imm64 insn", malformed),
    ("kernel btf_id * is not *", kfunc),
    ("calling *kernel function*", kfunc),
    ("JIT does not support calling kernel function*", kfunc),
    ("tail_calls are not allowed *", tail_call),
];

/// Finds an instruction by what the sentence's stars say.
type Finder = fn(&Program, &[&str]) -> Option<usize>;

/// The instruction that was refused.
pub(super) fn refused(
    program: &Program,
    walk: &Walk<'_>,
    report: Option<&Report>,
    evidence: Evidence,
) -> Option<usize> {
    if evidence != Evidence::Whole {
        return None;
    }
    let known = |slot: &usize| *slot < program.insns().len();
    for message in &walk.messages {
        for pattern in NAMED {
            let slot = matches(pattern, message).and_then(|stars| stars[0].parse().ok());
            if let Some(slot) = slot.filter(known) {
                return Some(slot);
            }
        }
    }
    if let Some(slot) = report.and_then(|report| report.slot).filter(known) {
        return Some(slot);
    }
    // Sentences about the program as a whole come when no instruction was looked at, or all were.
    if walk.messages.iter().any(|text| is_about_all(text)) {
        return None;
    }
    if let Some(step) = walk.steps.last() {
        return Some(step.slot);
    }
    for message in &walk.messages {
        for (pattern, finder) in UNNAMED {
            if let Some(stars) = matches(pattern, message) {
                return finder(program, &stars);
            }
        }
    }
    None
}

/// True for what is found out behind the walk.
fn is_about_all(message: &str) -> bool {
    message.starts_with("combined stack size of ") || message.starts_with("stack depth of ")
}

/// Where the reference was acquired, or the register got its value.
pub(super) fn origin(walk: &Walk<'_>, slot: Option<usize>) -> Option<usize> {
    for message in &walk.messages {
        if let Some(stars) = matches("*alloc_insn=*", message) {
            return super::line::number(stars[1]).map(|(slot, _)| slot);
        }
    }
    // The registers belong to the last step.
    if slot != walk.steps.last().map(|step| step.slot) {
        return None;
    }
    let mut registers = walk.messages.iter().filter_map(|message| named(message));
    registers.find_map(|n| walk.writer(n))
}

/// The first register that a sentence names, if something may have written it.
fn named(message: &str) -> Option<u32> {
    // Nothing wrote a register that cannot be read.
    if message.ends_with(" !read_ok") {
        return None;
    }
    message.match_indices('R').find_map(|(at, _)| {
        let (n, _) = super::line::number(&message[at + 1..])?;
        let is_word = at == 0 || message[..at].ends_with(' ');
        u32::try_from(n).ok().filter(|n| is_word && *n < 10)
    })
}

/// The function that holds the slot, in a program of several.
pub(super) fn func(program: &Program, slot: usize) -> Option<String> {
    let funcs = program.funcs();
    let held = funcs.iter().rfind(|func| func.at as usize <= slot)?;
    (funcs.len() > 1).then(|| held.name.clone())
}

/// The last slot of the first function that runs into the next.
fn falls_off(program: &Program, _: &[&str]) -> Option<usize> {
    const EXIT: u8 = 0x95;
    const JA: [u8; 2] = [0x05, 0x06];
    let insns = program.insns();
    let ends = (program.funcs().iter().skip(1))
        .map(|func| func.at as usize)
        .chain([insns.len()]);
    let mut last = ends.filter_map(|end| end.checked_sub(1));
    last.find(|&slot| {
        let code = insns.get(slot).map_or(EXIT, |raw| raw.code);
        code != EXIT && !JA.contains(&code)
    })
}

/// The load of that fd; the only map's if loading filled the fd in.
fn map_fd(program: &Program, stars: &[&str]) -> Option<usize> {
    let fd = stars.first()?.parse::<i32>().ok()?;
    let loads = |raw: &Raw| raw.is_wide() && raw.src() != 0 && raw.imm == fd;
    let mut maps = program.relocs().iter().filter(|reloc| {
        matches!(
            reloc.target,
            Target::Map(_) | Target::MapValue(..) | Target::Section(..)
        )
    });
    match (maps.next(), maps.next()) {
        (None, _) => program.insns().iter().position(loads),
        (Some(only), None) => Some(only.at as usize),
        _ => None,
    }
}

/// The first slot that is no instruction.
fn malformed(program: &Program, _: &[&str]) -> Option<usize> {
    let refused = decode::ops(program.insns()).find_map(Result::err);
    refused.map(|error| error.at)
}

/// The call of that kernel function; the first one if loading filled the id in.
fn kfunc(program: &Program, stars: &[&str]) -> Option<usize> {
    const KFUNC: u8 = 2;
    let id = stars.first().and_then(|id| id.parse::<i32>().ok());
    let insns = program.insns();
    let call = |raw: &Raw| raw.code == 0x85 && raw.src() == KFUNC;
    let named = |raw: &Raw| call(raw) && Some(raw.imm) == id;
    let found = insns.iter().position(named);
    found.or_else(|| insns.iter().position(call))
}

/// The first tail call.
fn tail_call(program: &Program, _: &[&str]) -> Option<usize> {
    const TAIL_CALL: i32 = 12;
    let call = |raw: &Raw| raw.code == 0x85 && raw.src() == 0 && raw.imm == TAIL_CALL;
    program.insns().iter().position(call)
}
