//! Follows a program's control flow before any kernel does.
//!
//! The rules are the verifier's, so that a program with an [`Error`](Severity::Error) is one that
//! every kernel refuses. What a kernel may accept, because it follows values and this checker does
//! not (a register that is written on some paths only, a mistake behind `if 0 != 0`), is a
//! [`Warning`](Severity::Warning).

use crate::certain;
use crate::decode::ops;
use crate::isa::{Alu, AtomicOp, Bits, Callee, Op, Reg, Size, Src, Wide};
use crate::program::Program;
use crate::report::{Finding, Kind, Place, Report, Severity};
use bpfsmith_uapi::{Helper, ProgType};

/// Everything that is wrong with a program, in the order of its instructions.
#[must_use]
pub fn check(program: &Program) -> Report {
    let mut found = findings(program);
    found.sort_by_key(|&(slot, _)| slot);
    let findings = found.into_iter().map(|(_, finding)| finding).collect();
    Report {
        program: program.name.clone(),
        findings,
    }
}

/// Everything that is wrong with a program, each with its slot.
pub(crate) fn findings(program: &Program) -> Vec<(usize, Finding)> {
    let mut checker = Checker::new(program);
    checker.decode();
    if checker.findings.is_empty() {
        checker.shape();
    }
    if checker.findings.is_empty() {
        checker.flow();
        checker.instructions();
        checker.doubt();
    }
    checker.findings
}

/// A set of registers, one bit each.
type Regs = u16;

const fn bit(reg: Reg) -> Regs {
    1 << reg.number()
}

const R0: Reg = Reg(0);
const R6: Reg = Reg(6);
const R10: Reg = Reg(10);
/// The registers that a call destroys.
const CALLER_SAVED: Regs = 0b11_1110;

/// What is known of the registers before an instruction.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct State {
    /// A path comes here.
    reached: bool,
    /// Written on some path.
    some: Regs,
    /// Written on every path.
    every: Regs,
    /// Destroyed by a call on some path and not written since.
    lost: Regs,
}

impl State {
    /// Adds another path; true if that changed anything.
    fn join(&mut self, other: State) -> bool {
        let before = *self;
        if self.reached {
            self.some |= other.some;
            self.every &= other.every;
            self.lost |= other.lost;
        } else {
            *self = other;
        }
        *self != before
    }
}

/// What an instruction does to the registers.
struct Effect {
    reads: Regs,
    writes: Regs,
    destroys: Regs,
}

struct Checker<'a> {
    program: &'a Program,
    /// The instruction at each slot; the second half of an `lddw` has none.
    ops: Vec<Option<Op>>,
    /// The first slot of each function, and the end of the program.
    bounds: Vec<usize>,
    states: Vec<State>,
    findings: Vec<(usize, Finding)>,
}

impl<'a> Checker<'a> {
    fn new(program: &'a Program) -> Checker<'a> {
        Checker {
            program,
            ops: vec![None; program.insns.len()],
            bounds: Vec::new(),
            states: vec![State::default(); program.insns.len()],
            findings: Vec::new(),
        }
    }

    fn find(&mut self, severity: Severity, kind: Kind, slot: usize, message: String) {
        let place = match self.program.lines.get(slot) {
            Some(line) => Place::Rust(line.at, self.program.path(slot)),
            None => Place::Slot(u32::try_from(slot).unwrap_or(u32::MAX)),
        };
        self.findings.push((
            slot,
            Finding {
                severity,
                kind,
                place,
                message,
            },
        ));
    }

    fn error(&mut self, kind: Kind, slot: usize, message: String) {
        self.find(Severity::Error, kind, slot, message);
    }

    fn decode(&mut self) {
        for op in ops(&self.program.insns) {
            match op {
                Ok((slot, op)) => self.ops[slot] = Some(op),
                Err(error) => self.error(Kind::Malformed, error.at, error.why.to_string()),
            }
        }
        if self.program.insns.is_empty() {
            let message = "the program is empty: end it with ret(…) or exit()".to_owned();
            self.error(Kind::FallsOff, 0, message);
        }
    }

    /// Functions and the targets of jumps.
    fn shape(&mut self) {
        let len = self.ops.len();
        let mut bounds = vec![0];
        bounds.extend(self.program.funcs.iter().map(|func| func.at as usize));
        for slot in 0..len {
            if let Some(Op::Call(Callee::Local(distance)) | Op::Wide(_, Wide::Func(distance))) =
                self.ops[slot]
            {
                match target(slot, i64::from(distance), 0, len) {
                    Some(to) if self.ops[to].is_some() => bounds.push(to),
                    _ => self.bad_target(slot, i64::from(distance), "function"),
                }
            }
        }
        bounds.push(len);
        bounds.sort_unstable();
        bounds.dedup();
        for pair in bounds.windows(2) {
            let [start, end] = [pair[0], pair[1]];
            for slot in start..end {
                let Some(distance) = self.ops[slot].and_then(jump) else {
                    continue;
                };
                match target(slot, distance, start, end) {
                    Some(to) if self.ops[to].is_some() => {}
                    _ => self.bad_target(slot, distance, "jump"),
                }
            }
            let last = (start..end).rev().find(|&slot| self.ops[slot].is_some());
            if let Some(slot) = last
                && !matches!(self.ops[slot], Some(Op::Exit | Op::Ja(_) | Op::JaLong(_)))
            {
                let mut funcs = self.program.funcs.iter().skip(1);
                let func = funcs.find(|func| func.at as usize == start);
                let name = func.map_or("the program".to_owned(), |func| {
                    format!("function `{}`", func.name)
                });
                let message = format!(
                    "{name} goes on behind its last instruction: end every path with ret(…), exit() \
                     or a jump"
                );
                self.error(Kind::FallsOff, slot, message);
            }
        }
        self.bounds = bounds;
    }

    fn bad_target(&mut self, slot: usize, distance: i64, what: &str) {
        let to = i64::try_from(slot).unwrap_or(i64::MAX) + 1 + distance;
        self.error(
            Kind::BadTarget,
            slot,
            format!(
                "the {what} goes to slot {to}, where no instruction of this {} starts",
                if what == "jump" {
                    "function"
                } else {
                    "program"
                }
            ),
        );
    }

    /// Which instructions are reached, and with which registers written.
    fn flow(&mut self) {
        let mut work: Vec<usize> = Vec::new();
        let starts: Vec<usize> = self.bounds[..self.bounds.len() - 1].to_vec();
        for &start in &starts {
            // A callback or function has up to five arguments, which its callers know.
            let regs = if start == 0 { 0b10 } else { CALLER_SAVED } | bit(R10);
            let entry = State {
                reached: true,
                some: regs,
                every: regs,
                lost: 0,
            };
            self.states[start] = entry;
            work.push(start);
        }
        while let Some(mut slot) = work.pop() {
            // Follow the straight line as far as it teaches anything new.
            while let Some(op) = self.ops[slot] {
                let after = step(self.states[slot], effect(op));
                if let Some(distance) = jump(op)
                    && let Some(to) = target(slot, distance, 0, self.ops.len())
                    && self.states[to].join(after)
                {
                    work.push(to);
                }
                let next = slot + op.slots();
                if ends(op) || !self.states[next].join(after) {
                    break;
                }
                slot = next;
            }
        }
    }

    /// The rules for each instruction.
    fn instructions(&mut self) {
        let mut dead = false;
        for slot in 0..self.ops.len() {
            let Some(op) = self.ops[slot] else { continue };
            let state = self.states[slot];
            if !state.reached {
                if !dead {
                    let message = "no path reaches this instruction: remove it, or bind a label \
                                   here that something jumps to";
                    self.error(Kind::Unreachable, slot, message.to_owned());
                }
                dead = true;
                continue;
            }
            dead = false;
            self.registers(slot, op, state);
            self.stack(slot, op);
            self.constant(slot, op);
            if let Op::Call(Callee::Helper(id)) = op {
                self.helper(slot, id);
            }
        }
    }

    /// Makes the errors warnings if a kernel may know that no path with one is ever taken.
    fn doubt(&mut self) {
        let mut wrong = vec![false; self.ops.len()];
        for (slot, finding) in &self.findings {
            match (finding.severity, finding.kind) {
                // This is refused before any path is followed.
                (Severity::Error, Kind::Unreachable) => return,
                (Severity::Error, _) => wrong[*slot] = true,
                (Severity::Warning, _) => {}
            }
        }
        if !wrong.contains(&true) || certain::is_refused(&self.ops, &wrong) {
            return;
        }
        for (_, finding) in &mut self.findings {
            finding.severity = Severity::Warning;
        }
    }

    fn registers(&mut self, slot: usize, op: Op, state: State) {
        let Effect {
            mut reads, writes, ..
        } = effect(op);
        if op == Op::Exit && !self.returns_value(slot) {
            reads = 0;
        }
        for n in (0..11).filter(|n| reads & !state.every & 1 << n != 0) {
            let reg = Reg(n);
            let lost = state.lost & bit(reg) != 0;
            let sure = state.some & bit(reg) == 0;
            let why = match (op, lost) {
                (Op::Exit, false) => "is the result, but is not set".to_owned(),
                (_, false) => "is read but was never written".to_owned(),
                (_, true) => match self.destroyer(slot, reg) {
                    Some(call) => format!("is read after {call} destroyed it"),
                    None => "is read after a call destroyed it".to_owned(),
                },
            };
            let remedy = if lost {
                "keep the value in r6 to r9"
            } else if op == Op::Exit {
                "set it with mov(R0, …) or end with ret(…)"
            } else {
                "write it first"
            };
            let (severity, paths) = if sure {
                (Severity::Error, "")
            } else {
                (Severity::Warning, " on some paths")
            };
            let kind = if lost {
                Kind::Clobbered
            } else {
                Kind::Uninitialised
            };
            self.find(
                severity,
                kind,
                slot,
                format!("{reg} {why}{paths}: {remedy}"),
            );
        }
        if writes & bit(R10) != 0 {
            self.error(
                Kind::FramePointer,
                slot,
                "r10 is the frame pointer and cannot be written: use another register".to_owned(),
            );
        }
    }

    /// The call before `slot`, on the way that comes to it in a straight line, that destroyed `reg`.
    fn destroyer(&self, slot: usize, reg: Reg) -> Option<String> {
        let call = (0..slot)
            .rev()
            .find(|&at| self.ops[at].is_some_and(|op| effect(op).destroys & bit(reg) != 0))?;
        let name = match self.ops[call]? {
            Op::Call(Callee::Helper(id)) => {
                let known = u32::try_from(id).ok().and_then(Helper::by_id);
                known.map_or_else(|| format!("helper {id}"), |helper| helper.name.to_owned())
            }
            Op::Call(_) => "a call".to_owned(),
            _ => "a packet access".to_owned(),
        };
        Some(match self.program.lines.get(call) {
            Some(line) => format!("{name} ({}:{})", line.at.file(), line.at.line()),
            None => format!("{name} (instruction {call})"),
        })
    }

    /// False if leaving the function here needs no result: in functions that are called, and in
    /// program types whose kernel function may return nothing.
    fn returns_value(&self, slot: usize) -> bool {
        let main_end = self.bounds.get(1).copied().unwrap_or(self.ops.len());
        let may_be_void = [
            ProgType::LSM,
            ProgType::STRUCT_OPS,
            ProgType::EXT,
        ];
        slot < main_end && !may_be_void.contains(&self.program.kind)
    }

    fn stack(&mut self, slot: usize, op: Op) {
        let (base, off, size) = match op {
            Op::Load(size, _, base, off)
            | Op::LoadSx(size, _, base, off)
            | Op::Store(size, base, off, _)
            | Op::Atomic(_, size, base, off, _)
            | Op::LoadAcquire(size, _, base, off)
            | Op::StoreRelease(size, base, off, _) => (base, off, size),
            _ => return,
        };
        if base != R10 {
            return;
        }
        let (off, size) = (i32::from(off), i32::from(Size::bytes(size)));
        if off < -512 || off + size > 0 {
            self.error(
                Kind::Stack,
                slot,
                format!(
                    "{size} bytes at r10{off:+} are outside the stack: it is the 512 bytes from \
                     r10-512 to r10-1"
                ),
            );
        } else if off % size != 0 {
            self.error(
                Kind::Stack,
                slot,
                format!(
                    "{size} bytes at r10{off:+} are misaligned: on the stack an offset is a \
                     multiple of the size"
                ),
            );
        }
    }

    /// Whether the kernel fills in the constant, which is not the one that stands there.
    fn is_late(&self, slot: usize) -> bool {
        let mut relocs = self.program.relocs().iter();
        relocs.any(|reloc| reloc.at as usize == slot)
    }

    /// The constants that a verifier refuses.
    fn constant(&mut self, slot: usize, op: Op) {
        let Op::Alu(op, bits, dst, Src::Imm(imm)) = op else {
            return;
        };
        let width = match bits {
            Bits::B32 => 32,
            Bits::B64 => 64,
        };
        match op {
            Alu::Lsh | Alu::Rsh | Alu::Arsh if !(0..width).contains(&imm) => {
                let message = format!(
                    "{dst} is shifted by {imm}: an operation of {width} bits takes 0 to {}",
                    width - 1
                );
                self.error(Kind::DoesNotFit, slot, message);
            }
            Alu::Div | Alu::SDiv | Alu::Mod | Alu::SMod if imm == 0 && !self.is_late(slot) => {
                let message = format!("{dst} is divided by the constant 0: no kernel takes that");
                self.error(Kind::DoesNotFit, slot, message);
            }
            _ => {}
        }
    }

    fn helper(&mut self, slot: usize, id: i32) {
        let kind = self.program.kind;
        match u32::try_from(id).ok().and_then(Helper::by_id) {
            Some(helper) if kind != ProgType::UNSPEC && !helper.allows(kind) => {
                let types: Vec<&str> = ProgType::ALL
                    .iter()
                    .filter(|&&kind| helper.allows(kind) && kind != ProgType::UNSPEC)
                    .filter_map(|kind| kind.name())
                    .collect();
                self.error(
                    Kind::Helper,
                    slot,
                    format!(
                        "helper {} may not be called from {kind}: it is for {}",
                        helper.name,
                        types.join(", ")
                    ),
                );
            }
            Some(_) => {}
            None => self.find(
                Severity::Warning,
                Kind::Helper,
                slot,
                format!("helper {id} is not known up to Linux 6.18: a newer kernel may have it"),
            ),
        }
    }
}

/// The distance of a jump inside the function.
pub(crate) fn jump(op: Op) -> Option<i64> {
    match op {
        Op::Ja(off) | Op::MayGoto(off) | Op::Jump(.., off) => Some(i64::from(off)),
        Op::JaLong(imm) => Some(i64::from(imm)),
        _ => None,
    }
}

/// The slot at a distance, if it is inside.
pub(crate) fn target(slot: usize, distance: i64, start: usize, end: usize) -> Option<usize> {
    let to = i64::try_from(slot).ok()? + 1 + distance;
    usize::try_from(to)
        .ok()
        .filter(|to| (start..end).contains(to))
}

pub(crate) fn ends(op: Op) -> bool {
    matches!(op, Op::Exit | Op::Ja(_) | Op::JaLong(_))
}

fn step(state: State, effect: Effect) -> State {
    let Effect {
        writes, destroys, ..
    } = effect;
    State {
        reached: true,
        some: state.some & !destroys | writes,
        every: state.every & !destroys | writes,
        lost: (state.lost | destroys) & !writes,
    }
}

fn effect(op: Op) -> Effect {
    let operand = |src| match src {
        Src::Reg(reg) => bit(reg),
        Src::Imm(_) => 0,
    };
    let (reads, writes, destroys) = match op {
        Op::Alu(op, _, dst, src) => {
            let old = if op.is_move() { 0 } else { bit(dst) };
            (old | operand(src), bit(dst), 0)
        }
        Op::Neg(_, dst) | Op::Swap(_, _, dst) => (bit(dst), bit(dst), 0),
        Op::Cast(dst, src, _) => (bit(src), bit(dst), 0),
        Op::Load(_, dst, base, _)
        | Op::LoadSx(_, dst, base, _)
        | Op::LoadAcquire(_, dst, base, _) => (bit(base), bit(dst), 0),
        Op::Store(_, base, _, src) => (bit(base) | operand(src), 0, 0),
        Op::StoreRelease(_, base, _, src) => (bit(base) | bit(src), 0, 0),
        Op::Atomic(op, _, base, _, src) => match op {
            AtomicOp::CmpXchg => (bit(base) | bit(src) | bit(R0), bit(R0), 0),
            _ if op.fetches() => (bit(base) | bit(src), bit(src), 0),
            _ => (bit(base) | bit(src), 0, 0),
        },
        Op::LoadAbs(..) => (bit(R6), bit(R0), CALLER_SAVED),
        Op::LoadInd(_, src, _) => (bit(R6) | bit(src), bit(R0), CALLER_SAVED),
        Op::Wide(dst, _) => (0, bit(dst), 0),
        Op::Ja(_) | Op::JaLong(_) | Op::MayGoto(_) => (0, 0, 0),
        Op::Jump(_, _, dst, src, _) => (bit(dst) | operand(src), 0, 0),
        Op::Call(Callee::Helper(id)) => {
            let known = u32::try_from(id).ok().and_then(Helper::by_id);
            // R1 to R5, as many as the helper has arguments.
            let count = known.map_or(0, |helper| helper.args.len());
            (((1 << count) - 1) << 1, bit(R0), CALLER_SAVED)
        }
        Op::Call(_) => (0, bit(R0), CALLER_SAVED),
        Op::Exit => (bit(R0), 0, 0),
    };
    Effect {
        reads,
        writes,
        destroys,
    }
}
