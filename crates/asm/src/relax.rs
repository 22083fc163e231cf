//! Makes every jump reach: over `gotol`, or over trampolines where a kernel lacks it.

use crate::isa::{Jmp, Raw, class};
use crate::link::Isa;
use crate::program::{Line, Program};
use crate::report::{Finding, Kind, Place, Severity};
use std::collections::BTreeMap;

/// A jump to a label.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Jump {
    /// The slot of the jump, before relaxation.
    pub(crate) slot: u32,
    pub(crate) id: u32,
    pub(crate) name: &'static str,
    pub(crate) unit: u32,
    /// The slot that it goes to, before relaxation.
    pub(crate) to: u32,
}

/// Writes the distance of every jump; where one does not fit, makes room and goes a longer way.
pub(crate) fn apply(
    isa: Isa,
    program: &mut Program,
    jumps: &[Jump],
    func_refs: &mut [(u32, u32)],
) -> Vec<(usize, Finding)> {
    let fits = |jump: &Jump| i16::try_from(distance(jump.slot, jump.to)).is_ok();
    if jumps
        .iter()
        .all(|jump| is_long(program, jump) || fits(jump))
    {
        for jump in jumps {
            patch(
                &mut program.insns[jump.slot as usize],
                distance(jump.slot, jump.to),
            );
        }
        return Vec::new();
    }
    let plan = match isa {
        Isa::V4 => with_gotol(program, jumps),
        Isa::V3 => with_trampolines(program, jumps),
    };
    Rewrite::new(program, jumps, plan).run(program, func_refs)
}

fn is_long(program: &Program, jump: &Jump) -> bool {
    program.insns[jump.slot as usize].code == class::JA32
}

/// From the slot behind the jump to its target.
fn distance(from: u32, to: u32) -> i64 {
    i64::from(to) - i64::from(from) - 1
}

/// Writes a distance that is known to fit.
fn patch(raw: &mut Raw, distance: i64) -> bool {
    if raw.code == class::JA32 {
        i32::try_from(distance).map(|imm| raw.imm = imm).is_ok()
    } else {
        i16::try_from(distance).map(|off| raw.off = off).is_ok()
    }
}

/// What becomes of the jumps that do not reach.
#[derive(Default)]
struct Plan {
    /// Jumps, by index, that go over a `gotol`.
    long: Vec<bool>,
    /// Jumps, by index, that go over trampolines: the slot before which the first one stands.
    hop: Vec<Option<u32>>,
    /// Before which slots trampolines stand: for which target, and the next one on the way.
    pads: BTreeMap<u32, Vec<Pad>>,
}

/// One trampoline.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Pad {
    to: u32,
    /// The slot before which the next trampoline for the same target stands.
    next: Option<u32>,
}

/// The slots that a far jump takes beside its own.
fn growth(raw: Raw) -> u32 {
    match raw.code {
        class::JA | class::JA32 => 0,
        class::MAY_GOTO => 2,
        code if Jmp::of_code(code).and_then(Jmp::inverse).is_some() => 1,
        _ => 2,
    }
}

/// Turns far jumps into long ones until all the others reach.
fn with_gotol(program: &Program, jumps: &[Jump]) -> Plan {
    let mut long = vec![false; jumps.len()];
    let mut by_slot: Vec<usize> = (0..jumps.len()).collect();
    by_slot.sort_unstable_by_key(|&i| jumps[i].slot);
    loop {
        // The slots added before each of the long jumps, in order.
        let mut grown = Vec::new();
        let mut sum = 0;
        for &i in by_slot.iter().filter(|&&i| long[i]) {
            sum += growth(program.insns[jumps[i].slot as usize]);
            grown.push((jumps[i].slot, sum));
        }
        let moved = |slot: u32| {
            let n = grown.partition_point(|&(at, _)| at < slot);
            slot + if n == 0 { 0 } else { grown[n - 1].1 }
        };
        let mut changed = false;
        for (i, jump) in jumps.iter().enumerate() {
            if !long[i] && !is_long(program, jump) {
                let distance = distance(moved(jump.slot), moved(jump.to));
                if i16::try_from(distance).is_err() {
                    long[i] = true;
                    changed = true;
                }
            }
        }
        if !changed {
            return Plan {
                hop: vec![None; jumps.len()],
                long,
                pads: BTreeMap::new(),
            };
        }
    }
}

/// How far apart trampolines may stand, and how far a jump goes without one, in slots before
/// relaxation. The rest of the 16-bit range is room for the trampolines themselves.
const STEP: u32 = 4096;
const HOP: u32 = 5 * STEP;

/// Leads far jumps over trampolines.
fn with_trampolines(program: &Program, jumps: &[Jump]) -> Plan {
    let mut plan = Plan {
        long: vec![false; jumps.len()],
        hop: vec![None; jumps.len()],
        pads: BTreeMap::new(),
    };
    for (i, jump) in jumps.iter().enumerate() {
        let mut hops = Vec::new();
        let mut at = jump.slot;
        while at.abs_diff(jump.to) > HOP {
            // Toward the target, at the last multiple of a step that is near enough.
            let next = if jump.to > at {
                (at + HOP) / STEP * STEP
            } else {
                (at - HOP).div_ceil(STEP) * STEP
            };
            hops.push(whole(program, next));
            at = next;
        }
        plan.hop[i] = hops.first().copied();
        for (n, &at) in hops.iter().enumerate() {
            let pad = Pad {
                to: jump.to,
                next: hops.get(n + 1).copied(),
            };
            let pads = plan.pads.entry(at).or_default();
            if !pads.contains(&pad) {
                pads.push(pad);
            }
        }
    }
    plan
}

/// The slot itself, or the one behind it if it is the second half of an `lddw`.
fn whole(program: &Program, slot: u32) -> u32 {
    let before = slot
        .checked_sub(1)
        .and_then(|n| program.insns.get(n as usize));
    let is_second = before.is_some_and(|raw| raw.is_wide())
        && program
            .insns
            .get(slot as usize)
            .is_some_and(|raw| raw.code == 0);
    slot + u32::from(is_second)
}

/// Copies a program slot by slot to its new places.
struct Rewrite<'a> {
    jumps: &'a [Jump],
    plan: Plan,
    /// For each old slot the index of its jump.
    jump_at: Vec<u32>,
    /// For each old slot (and the end) its new place.
    moved: Vec<u32>,
    /// For each trampoline its new place.
    pad_at: BTreeMap<(u32, u32), u32>,
    insns: Vec<Raw>,
    lines: Vec<Line>,
    /// New slots whose distance is still to be written, and where they go.
    open: Vec<(u32, To, u32)>,
}

#[derive(Clone, Copy)]
enum To {
    /// An old slot.
    Slot(u32),
    /// The trampoline before an old slot, for a target.
    Pad(u32, u32),
}

const NO_JUMP: u32 = u32::MAX;

impl<'a> Rewrite<'a> {
    fn new(program: &Program, jumps: &'a [Jump], plan: Plan) -> Rewrite<'a> {
        let mut jump_at = vec![NO_JUMP; program.insns.len()];
        for (i, jump) in (0..).zip(jumps) {
            jump_at[jump.slot as usize] = i;
        }
        Rewrite {
            jumps,
            plan,
            jump_at,
            moved: Vec::with_capacity(program.insns.len() + 1),
            pad_at: BTreeMap::new(),
            insns: Vec::with_capacity(program.insns.len()),
            lines: Vec::with_capacity(program.insns.len()),
            open: Vec::new(),
        }
    }

    fn here(&self) -> u32 {
        u32::try_from(self.insns.len()).unwrap_or(u32::MAX)
    }

    fn push(&mut self, raw: Raw, line: Line) {
        self.insns.push(raw);
        self.lines.push(line);
    }

    fn run(mut self, program: &mut Program, func_refs: &mut [(u32, u32)]) -> Vec<(usize, Finding)> {
        for old in 0..program.insns.len() {
            let (slot, line) = (old_slot(old), program.lines[old]);
            self.pads(program, slot);
            self.moved.push(self.here());
            let raw = program.insns[old];
            match self.jump_at[old] {
                NO_JUMP => self.other(program, old, raw, line),
                i => self.jump(i as usize, raw, line),
            }
        }
        self.moved.push(self.here());
        let findings = self.close();
        let moved = |slot: u32| self.moved[slot as usize];
        for reloc in &mut program.relocs {
            reloc.at = moved(reloc.at);
        }
        for (slot, _) in &mut program.labels {
            *slot = moved(*slot);
        }
        for func in &mut program.funcs {
            func.at = moved(func.at);
        }
        for (slot, _) in &mut program.net {
            *slot = moved(*slot);
        }
        for (slot, _) in func_refs {
            *slot = moved(*slot);
        }
        program.insns = self.insns;
        program.lines = self.lines;
        findings
    }

    /// An instruction that jumps to no label: a distance in it is kept pointing at the same place.
    fn other(&mut self, program: &Program, old: usize, raw: Raw, line: Line) {
        let to = match raw.code {
            class::JA32 => Some(i64::from(raw.imm)),
            class::CALL if raw.src() == class::CALL_LOCAL => Some(i64::from(raw.imm)),
            class::LDDW if raw.src() == 4 => Some(i64::from(raw.imm)),
            class::JA | class::MAY_GOTO => Some(i64::from(raw.off)),
            code if Jmp::of_code(code).is_some() => Some(i64::from(raw.off)),
            _ => None,
        };
        let target =
            to.and_then(|distance| u32::try_from(i64::from(old_slot(old)) + 1 + distance).ok());
        if let Some(target) = target.filter(|&to| (to as usize) < program.insns.len()) {
            self.open
                .push((self.here(), To::Slot(target), old_slot(old)));
        }
        self.push(raw, line);
    }

    fn jump(&mut self, i: usize, raw: Raw, line: Line) {
        let jump = self.jumps[i];
        let target = match self.plan.hop[i] {
            Some(pad) => To::Pad(pad, jump.to),
            None => To::Slot(jump.to),
        };
        if !self.plan.long[i] {
            self.open.push((self.here(), target, jump.slot));
            self.push(raw, line);
            return;
        }
        let inverse = Jmp::of_code(raw.code).and_then(Jmp::inverse);
        match (raw.code, inverse) {
            (class::JA, _) => {}
            (_, Some(inverse)) => {
                let code = raw.code & !0xf0 | inverse.bits();
                self.push(
                    Raw {
                        code,
                        off: 1,
                        ..raw
                    },
                    line,
                );
            }
            _ => {
                self.push(Raw { off: 1, ..raw }, line);
                self.push(
                    Raw {
                        code: class::JA,
                        off: 1,
                        ..Raw::default()
                    },
                    line,
                );
            }
        }
        self.open.push((self.here(), target, jump.slot));
        self.push(
            Raw {
                code: class::JA32,
                ..Raw::default()
            },
            line,
        );
    }

    /// The trampolines before an old slot, and a jump over them for who comes from above.
    fn pads(&mut self, program: &Program, slot: u32) {
        let Some(pads) = self.plan.pads.remove(&slot) else {
            return;
        };
        let line = program.lines[slot as usize];
        let above = self.insns.last().copied().unwrap_or_default();
        if !matches!(above.code, class::EXIT | class::JA | class::JA32) {
            self.open.push((self.here(), To::Slot(slot), slot));
            self.push(
                Raw {
                    code: class::JA,
                    ..Raw::default()
                },
                line,
            );
        }
        for pad in pads {
            self.pad_at.insert((slot, pad.to), self.here());
            let to = pad
                .next
                .map_or(To::Slot(pad.to), |next| To::Pad(next, pad.to));
            self.open.push((self.here(), to, slot));
            self.push(
                Raw {
                    code: class::JA,
                    ..Raw::default()
                },
                line,
            );
        }
    }

    /// Writes the distances.
    fn close(&mut self) -> Vec<(usize, Finding)> {
        let mut findings = Vec::new();
        for &(at, to, old) in &self.open {
            let target = match to {
                To::Slot(slot) => Some(self.moved[slot as usize]),
                To::Pad(slot, target) => self.pad_at.get(&(slot, target)).copied(),
            };
            let raw = &mut self.insns[at as usize];
            let written = target.is_some_and(|to| match raw.code {
                class::CALL | class::LDDW => i32::try_from(distance(at, to))
                    .map(|imm| raw.imm = imm)
                    .is_ok(),
                _ => patch(raw, distance(at, to)),
            });
            if !written {
                let finding = Finding {
                    severity: Severity::Error,
                    kind: Kind::OutOfReach,
                    place: Place::Rust(self.lines[at as usize].at, String::new()),
                    message: format!(
                        "the jump at slot {old} does not reach, not even over trampolines: too \
                         many far jumps cross this place; build for Isa::V4, or move code into \
                         functions"
                    ),
                };
                findings.push((at as usize, finding));
            }
        }
        findings
    }
}

fn old_slot(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
