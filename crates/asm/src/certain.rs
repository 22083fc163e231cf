//! Whether a verifier must come to a mistake, or may know that the path to it is never taken.
//!
//! A verifier follows values: after `r6 = 0` it does not look at what `if r6 != 0` jumps to, and a
//! mistake there is no reason to refuse. It looks at both sides of a comparison only if it cannot
//! know the outcome, which this module takes for granted in few cases: a number or packet pointer
//! fresh from memory, the result of a helper against zero, a packet pointer against the packet's end.
//! Of any other comparison it looks at one side, one does not know which. This runs only when there
//! is a mistake to judge.

use crate::check::{jump, target};
use crate::isa::{Alu, Bits, Callee, Jmp, Op, Reg, Size, Src, Wide};

/// True if every verifier that starts at slot 0 comes to a slot that is wrong, or never ends.
pub(crate) fn is_refused(ops: &[Option<Op>], wrong: &[bool]) -> bool {
    let open = undecided(ops);
    // Rounds of these loops may end by meeting a round before; all others end or are refused.
    let may_converge =
        |op: &Option<Op>| matches!(op, Some(Op::MayGoto(_) | Op::Call(Callee::Kfunc(..))));
    let mut refused = vec![!ops.iter().any(may_converge); ops.len() + 1];
    refused[ops.len()] = false;
    loop {
        let mut changed = false;
        for slot in (0..ops.len()).rev() {
            let Some(op) = ops[slot] else { continue };
            let there =
                |distance: i64| target(slot, distance, 0, ops.len()).is_some_and(|to| refused[to]);
            let next = refused[slot + op.slots()];
            let now = wrong[slot]
                || match op {
                    Op::Exit => false,
                    Op::Ja(off) => there(i64::from(off)),
                    Op::JaLong(imm) => there(i64::from(imm)),
                    Op::MayGoto(off) => there(i64::from(off)) || next,
                    Op::Jump(.., off) if open[slot] => there(i64::from(off)) || next,
                    Op::Jump(.., off) => there(i64::from(off)) && next,
                    Op::Call(Callee::Local(to)) | Op::Wide(_, Wide::Func(to)) => {
                        there(i64::from(to)) || next
                    }
                    _ => next,
                };
            changed |= now != refused[slot];
            refused[slot] = now;
        }
        if !changed {
            return refused[0];
        }
    }
}

/// What a verifier may know of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    /// Perhaps its value, and what memory it points to.
    Known,
    /// Perhaps something of its value, but not what memory it points to.
    Seen,
    /// It is the context.
    Context,
    /// Nothing: that many bits were loaded by the instruction at the slot.
    Loaded(u8, usize),
    /// It was 32 bits, and was compared with another register since.
    Compared(usize),
    /// It was 32 bits, and a small number was added since.
    Moved(usize),
    /// Nothing: a helper returned it, perhaps as null.
    Result(usize),
}

use Value::{Compared, Context, Known, Loaded, Moved, Result, Seen};

impl Value {
    fn join(self, other: Value) -> Value {
        match (self, other) {
            (a, b) if a == b => a,
            (Known, _) | (_, Known) => Known,
            _ => Seen,
        }
    }

    /// The instruction that made it and its copies.
    fn origin(self) -> Option<usize> {
        match self {
            Loaded(_, at) | Compared(at) | Moved(at) | Result(at) => Some(at),
            Known | Seen | Context => None,
        }
    }
}

type Values = [Value; 11];

/// The conditional jumps whose outcome no verifier knows in advance.
fn undecided(ops: &[Option<Op>]) -> Vec<bool> {
    let mut states: Vec<Option<Values>> = vec![None; ops.len() + 1];
    let mut entry = [Known; 11];
    // Functions have arguments that their callers know.
    for (slot, op) in ops.iter().enumerate() {
        if let Some(Op::Call(Callee::Local(to)) | Op::Wide(_, Wide::Func(to))) = op
            && let Some(to) = target(slot, i64::from(*to), 0, ops.len())
        {
            states[to] = Some(entry);
        }
    }
    entry[1] = Context;
    states[0] = Some(entry);
    let mut open = vec![false; ops.len()];
    let mut work: Vec<usize> = (0..ops.len())
        .filter(|&slot| states[slot].is_some())
        .collect();
    while let Some(slot) = work.pop() {
        let (Some(op), Some(mut values)) = (ops[slot], states[slot]) else {
            continue;
        };
        open[slot] = step(slot, op, &mut values);
        let to = jump(op).and_then(|distance| target(slot, distance, 0, ops.len()));
        let next = Some(slot + op.slots()).filter(|_| !crate::check::ends(op));
        for to in to.into_iter().chain(next) {
            let joined = states[to].map_or(values, |old| {
                std::array::from_fn(|n| old[n].join(values[n]))
            });
            if states[to] != Some(joined) {
                states[to] = Some(joined);
                work.push(to);
            }
        }
    }
    open
}

/// Follows an instruction; true if it is a jump whose outcome is not known.
fn step(slot: usize, op: Op, values: &mut Values) -> bool {
    let of = |reg: Reg| usize::from(reg.number());
    match op {
        Op::Jump(op, _, a, Src::Imm(imm), _) => {
            let value = values[of(a)];
            compared(values, value, |_| Seen);
            return match value {
                Loaded(bits, _) => splits(op, imm, bits),
                Result(_) => imm == 0 && matches!(op, Jmp::Eq | Jmp::Ne),
                _ => false,
            };
        }
        Op::Jump(_, _, a, Src::Reg(b), _) => {
            let (left, right) = (values[of(a)], values[of(b)]);
            return match (left, right) {
                (Moved(_), Loaded(32, at) | Compared(at)) => {
                    values[of(a)] = Seen;
                    compared(values, Compared(at), keeps_bound);
                    true
                }
                (Loaded(32, at) | Compared(at), Moved(_)) => {
                    values[of(b)] = Seen;
                    compared(values, Compared(at), keeps_bound);
                    true
                }
                _ => {
                    compared(values, left, |_| Seen);
                    compared(values, right, |_| Seen);
                    let is_wide = |v| matches!(v, Loaded(32, _) | Compared(_));
                    a != b && is_wide(left) && is_wide(right)
                }
            };
        }
        Op::Alu(Alu::Mov, Bits::B64, dst, Src::Reg(src)) => values[of(dst)] = values[of(src)],
        Op::Alu(op, bits, dst, src) => {
            let old = if op.is_move() { Seen } else { values[of(dst)] };
            let small = |imm: i32| imm.unsigned_abs() < 1 << 16;
            let new = match (old, op, bits, src) {
                (_, Alu::Mov, _, Src::Imm(_)) | (Known, ..) => Known,
                (_, _, _, Src::Reg(src)) if values[of(src)] == Known => Known,
                (Loaded(32, at) | Compared(at), Alu::Add | Alu::Sub, Bits::B64, Src::Imm(imm))
                    if small(imm) =>
                {
                    Moved(at)
                }
                _ => Seen,
            };
            values[of(dst)] = new;
        }
        Op::Neg(_, dst) | Op::Swap(_, _, dst) => {
            values[of(dst)] = values[of(dst)].join(Seen);
        }
        Op::Load(size, dst, base, _) | Op::LoadAcquire(size, dst, base, _) => {
            values[of(dst)] = match (values[of(base)], size) {
                (Known, _) => Known,
                // A pointer that is known not to be null, perhaps.
                (_, Size::DW) => Seen,
                _ => Loaded(size.bytes() * 8, slot),
            };
        }
        Op::LoadSx(_, dst, base, _) => values[of(dst)] = values[of(base)].join(Seen),
        Op::Atomic(_, _, _, _, src) => {
            values[of(src)] = Known;
            values[0] = Known;
        }
        Op::Cast(dst, ..) | Op::Wide(dst, _) => values[of(dst)] = Known,
        Op::Call(callee) => {
            values[..6].fill(Known);
            /// A number of the processor is never negative, and may be known to be zero.
            const GET_SMP_PROCESSOR_ID: i32 = 8;
            if let Callee::Helper(id) = callee
                && id != GET_SMP_PROCESSOR_ID
            {
                values[0] = Result(slot);
            }
        }
        Op::LoadAbs(..) | Op::LoadInd(..) => values[..6].fill(Known),
        _ => {}
    }
    false
}

fn keeps_bound(value: Value) -> Value {
    match value {
        Loaded(_, at) => Compared(at),
        other => other,
    }
}

/// Changes what is known of all copies of a value.
fn compared(values: &mut Values, value: Value, change: fn(Value) -> Value) {
    let Some(origin) = value.origin() else { return };
    for copy in values
        .iter_mut()
        .filter(|copy| copy.origin() == Some(origin))
    {
        *copy = change(*copy);
    }
}

/// True if among the numbers of so many bits, zero-extended, the comparison holds for some only.
fn splits(op: Jmp, imm: i32, bits: u8) -> bool {
    let largest = match bits {
        8 => 0xff,
        16 => 0xffff,
        _ => i32::MAX,
    };
    match imm {
        0 => matches!(op, Jmp::Eq | Jmp::Ne | Jmp::Gt | Jmp::Le),
        _ => (1..largest).contains(&imm),
    }
}
