//! The kernel's answer goes into the instruction that asked.

use crate::error::{Error, Result};
use crate::kernel::answer::Answer;
use bpfsmith_asm::isa::{Bits, Callee, Op, Raw, Size, Src};
use bpfsmith_asm::kernel::Question;

/// The instruction with the answer in it.
///
/// # Errors
/// When the answer does not fit.
pub(crate) fn answered(raw: Raw, question: &Question, answer: Answer) -> Result<Raw> {
    let path = question.path.as_ref();
    let unfit = |problem: String| {
        Err(Error::Argument {
            what: "kernel",
            problem: format!("@{}[{path}]: {problem}", question.ask.word()),
        })
    };
    let Ok(op) = Op::decode(raw, None) else {
        return unfit(format!("{raw:?} is no instruction that asks"));
    };
    if !question.ask.fits(op) {
        return unfit(format!("`{op}` has no place for the answer"));
    }
    let number = answer.number;
    let offset = |off: i16| i16::try_from(i128::from(off) + number);
    let size = |written: Size| match answer.bytes {
        Some(1) => Size::B,
        Some(2) => Size::H,
        Some(4) => Size::W,
        Some(8) => Size::DW,
        _ => written,
    };
    let constant = |imm: i32, bits: Bits| {
        let sum = i128::from(imm) + number;
        match (i32::try_from(sum), u32::try_from(sum), bits) {
            (Ok(imm), ..) => Some(Src::Imm(imm)),
            (_, Ok(imm), Bits::B32) => Some(Src::Imm(imm.cast_signed())),
            _ => None,
        }
    };
    let far = || {
        unfit(format!(
            "offset {number} is out of an access's reach: add kernel(…).offset() to a register"
        ))
    };
    let wide = || {
        unfit(format!(
            "{number} does not fit the 32 bits of a constant: compare 32-bit registers, or load \
             it from a global variable"
        ))
    };
    let op = match op {
        Op::Alu(alu, bits, dst, Src::Imm(imm)) => match constant(imm, bits) {
            Some(src) => Op::Alu(alu, bits, dst, src),
            None => return wide(),
        },
        Op::Jump(jmp, bits, dst, Src::Imm(imm), to) => match constant(imm, bits) {
            Some(src) => Op::Jump(jmp, bits, dst, src, to),
            None => return wide(),
        },
        Op::Load(written, dst, base, off) => match offset(off) {
            Ok(off) => Op::Load(size(written), dst, base, off),
            Err(_) => return far(),
        },
        Op::LoadSx(written, dst, base, off) => match (size(written), offset(off)) {
            // There is no sign to extend.
            (Size::DW, Ok(off)) => Op::Load(Size::DW, dst, base, off),
            (size, Ok(off)) => Op::LoadSx(size, dst, base, off),
            (_, Err(_)) => return far(),
        },
        Op::Store(written, base, off, src) => match (size(written), src, offset(off)) {
            (_, _, Err(_)) => return far(),
            (size, Src::Imm(imm), Ok(_)) if !holds(size, imm) => {
                return unfit(format!(
                    "the constant {imm} does not fit its {} bytes",
                    size.bytes()
                ));
            }
            (size, src, Ok(off)) => Op::Store(size, base, off, src),
        },
        Op::Atomic(atomic, written, base, off, src) => match offset(off) {
            Ok(off) => Op::Atomic(
                atomic,
                atomic_size(size(written), question)?,
                base,
                off,
                src,
            ),
            Err(_) => return far(),
        },
        Op::LoadAcquire(written, dst, base, off) => match offset(off) {
            Ok(off) => Op::LoadAcquire(size(written), dst, base, off),
            Err(_) => return far(),
        },
        Op::StoreRelease(written, base, off, src) => match offset(off) {
            Ok(off) => Op::StoreRelease(size(written), base, off, src),
            Err(_) => return far(),
        },
        other => other,
    };
    Ok(op.encode().first)
}

/// Atomic operations move 4 or 8 bytes.
fn atomic_size(size: Size, question: &Question) -> Result<Size> {
    match size {
        Size::W | Size::DW => Ok(size),
        Size::B | Size::H => Err(Error::Argument {
            what: "kernel",
            problem: format!(
                "@{}[{}]: atomic operations take 4 or 8 bytes, and it has {}",
                question.ask.word(),
                question.path,
                size.bytes()
            ),
        }),
    }
}

/// Whether that many bytes hold a constant, signed or not.
fn holds(size: Size, imm: i32) -> bool {
    match size {
        Size::B => (-0x80..0x100).contains(&imm),
        Size::H => (-0x8000..0x1_0000).contains(&imm),
        Size::W | Size::DW => true,
    }
}

/// What stands in place of an instruction that needs something this kernel lacks: a call that the
/// verifier refuses where it comes to it, and does not see where a test led it elsewhere.
pub(crate) fn poison(raw: Raw) -> Raw {
    match Op::decode(raw, None) {
        // What it leads to must stay in its reach: it compares a register that does not exist.
        Ok(Op::Jump(..)) => Raw {
            regs: raw.src() << 4 | NO_REGISTER,
            ..raw
        },
        _ => Op::Call(Callee::Helper(NO_HELPER)).encode().first,
    }
}

/// Whether this is how the verifier spells it.
pub(crate) fn is_poison(step: &str) -> bool {
    let number = step.strip_prefix("call unknown#");
    number.and_then(|number| number.parse().ok()) == Some(NO_HELPER)
}

/// A register that only the kernel itself uses.
const NO_REGISTER: u8 = 11;

/// The number that no helper has.
const NO_HELPER: i32 = 0x0bad_0ca1;

#[cfg(test)]
mod tests {
    use super::*;
    use bpfsmith_asm::isa::{Alu, AtomicOp, Jmp, Reg};
    use bpfsmith_asm::kernel::Ask;

    const R1: Reg = Reg::n(1);
    const R2: Reg = Reg::n(2);

    fn filled(op: Op, ask: Ask, number: i128, bytes: Option<u32>) -> Result<Op> {
        let question = Question {
            ask,
            path: "a.b".into(),
        };
        let raw = answered(op.encode().first, &question, Answer { number, bytes })?;
        Ok(Op::decode(raw, None).unwrap_or(Op::Exit))
    }

    #[track_caller]
    fn check(op: Op, ask: Ask, number: i128, bytes: Option<u32>, wanted: Op) {
        match filled(op, ask, number, bytes) {
            Ok(filled) => assert_eq!(filled, wanted),
            Err(error) => panic!("{error}"),
        }
    }

    #[track_caller]
    fn refused(op: Op, ask: Ask, number: i128, bytes: Option<u32>, message: &str) {
        match filled(op, ask, number, bytes) {
            Ok(filled) => panic!("{filled}"),
            Err(error) => assert_eq!(error.to_string(), message),
        }
    }

    #[test]
    fn accesses_get_offset_and_width() {
        let load = |size, off| Op::Load(size, R1, R2, off);
        check(
            load(Size::DW, 0),
            Ask::Field,
            12,
            Some(2),
            load(Size::H, 12),
        );
        check(load(Size::DW, 8), Ask::Field, -4, Some(1), load(Size::B, 4));
        check(
            load(Size::W, 4),
            Ask::Offset,
            1200,
            None,
            load(Size::W, 1204),
        );
        let signed = |size, off| Op::LoadSx(size, R1, R2, off);
        check(
            signed(Size::W, 0),
            Ask::Field,
            6,
            Some(2),
            signed(Size::H, 6),
        );
        check(
            signed(Size::W, 0),
            Ask::Field,
            8,
            Some(8),
            load(Size::DW, 8),
        );
        let store = |size, off, src| Op::Store(size, R1, off, src);
        check(
            store(Size::DW, 0, Src::Imm(255)),
            Ask::Field,
            3,
            Some(1),
            store(Size::B, 3, Src::Imm(255)),
        );
        let add = |size, off| Op::Atomic(AtomicOp::Add, size, R1, off, R2);
        check(add(Size::DW, 0), Ask::Field, 4, Some(4), add(Size::W, 4));
    }

    #[test]
    fn constants_are_added() {
        let add = |bits, imm| Op::Alu(Alu::Add, bits, R1, Src::Imm(imm));
        check(add(Bits::B64, 4), Ask::Offset, 16, None, add(Bits::B64, 20));
        check(
            add(Bits::B32, 0),
            Ask::Const,
            0xffff_fffe,
            None,
            add(Bits::B32, -2),
        );
        let jump = |imm| Op::Jump(Jmp::Eq, Bits::B64, R1, Src::Imm(imm), 7);
        check(jump(0), Ask::HasField, 1, None, jump(1));
    }

    #[test]
    fn what_does_not_fit_is_said() {
        refused(
            Op::Load(Size::DW, R1, R2, 0),
            Ask::Field,
            40_000,
            Some(4),
            "kernel: @field[a.b]: offset 40000 is out of an access's reach: add kernel(…).offset() \
             to a register",
        );
        refused(
            Op::Store(Size::DW, R1, 0, Src::Imm(256)),
            Ask::Field,
            0,
            Some(1),
            "kernel: @field[a.b]: the constant 256 does not fit its 1 bytes",
        );
        refused(
            Op::Atomic(AtomicOp::Add, Size::DW, R1, 0, R2),
            Ask::Field,
            0,
            Some(2),
            "kernel: @field[a.b]: atomic operations take 4 or 8 bytes, and it has 2",
        );
        refused(
            Op::Alu(Alu::Mov, Bits::B64, R1, Src::Imm(0)),
            Ask::Const,
            0xffff_ffff,
            None,
            "kernel: @const[a.b]: 4294967295 does not fit the 32 bits of a constant: compare 32-bit \
             registers, or load it from a global variable",
        );
        refused(
            Op::Exit,
            Ask::Const,
            1,
            None,
            "kernel: @const[a.b]: `exit` has no place for the answer",
        );
    }
}
