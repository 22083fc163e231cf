//! Slots to text that gives the same slots again.

use bpfsmith_asm::decode::{DecodeError, ops};
use bpfsmith_asm::isa::{Callee, Op, Raw, Wide};
use bpfsmith_asm::text::{Symbol, write_op_named};

/// The instructions as text, one to a line: helpers by name, and a label `L7:` in front of slot 7
/// if something jumps there or calls it.
///
/// Jumps to a place where no instruction starts keep their distance, so that nothing is lost.
///
/// # Errors
/// The first slot that is no instruction.
pub fn text(insns: &[Raw]) -> Result<String, DecodeError> {
    let ops = ops(insns).collect::<Result<Vec<_>, _>>()?;
    let mut is_start = vec![false; insns.len()];
    for &(slot, _) in &ops {
        is_start[slot] = true;
    }
    let label = |slot, op| target(slot, op).filter(|&to| is_start.get(to) == Some(&true));
    let mut is_target = vec![false; insns.len()];
    for &(slot, op) in &ops {
        if let Some(to) = label(slot, op) {
            is_target[to] = true;
        }
    }
    let mut out = String::with_capacity(ops.len() * 32);
    for &(slot, op) in &ops {
        if is_target[slot] {
            out.push_str(&format!("L{slot}:\n"));
        }
        out.push_str("  ");
        let name = label(slot, op).map(|to| format!("L{to}"));
        write_op_named(&mut out, op, name.as_deref().map(Symbol::Label));
        out.push('\n');
    }
    Ok(out)
}

/// The slot that an instruction jumps to, calls or takes the address of.
fn target(slot: usize, op: Op) -> Option<usize> {
    let distance = match op {
        Op::Ja(off) | Op::MayGoto(off) | Op::Jump(.., off) => i64::from(off),
        Op::JaLong(imm) | Op::Call(Callee::Local(imm)) | Op::Wide(_, Wide::Func(imm)) => {
            i64::from(imm)
        }
        _ => return None,
    };
    usize::try_from(i64::try_from(slot).ok()? + 1 + distance).ok()
}
