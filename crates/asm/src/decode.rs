//! Bytes to instruction slots, and slots to typed instructions.
//!
//! Most slots are judged by one table look-up: an opcode says which of the 64 bits must be zero.
//! `lddw`, byte swaps and atomics, whose fields depend on each other, have short cuts of their own;
//! the rest (variants that live in `off`, calls other than of a helper, and all that is refused)
//! goes through [`Op::decode`].

use crate::isa::{Alu, AtomicOp, Jmp, Op, Order, Raw, Refused, Size, class};
use std::fmt;

/// The first slot that is no instruction, and why.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DecodeError {
    /// The slot's number, from 0.
    pub at: usize,
    /// What is wrong with it.
    pub why: Refused,
}

bpfsmith_uapi::debug_as_display!(DecodeError);

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "instruction {}: {}", self.at, self.why)
    }
}

impl std::error::Error for DecodeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.why)
    }
}

const DST: u64 = 0x0f00;
const SRC: u64 = 0xf000;
const OFF: u64 = 0xffff_0000;
const IMM: u64 = 0xffff_ffff_0000_0000;
/// Sends an opcode to the slow path, see [`is_plain`].
const SLOW: u64 = 0xff;
/// An opcode that the fast path knows: `r1 += 5`.
const FAST_CODE: u64 = 0x07;

/// For each opcode the bits that a slot may not have if the table alone is to accept it.
const FORBIDDEN: [u64; 256] = forbidden();

const fn forbidden() -> [u64; 256] {
    let mut table = [SLOW; 256];
    let mut i = 0;
    while i < Alu::ALL.len() {
        // The variants that `off` selects share their opcodes with those of off 0.
        if let (bits, 0) = Alu::ALL[i].bits() {
            table[(class::ALU | bits) as usize] = SRC | OFF;
            table[(class::ALU64 | bits) as usize] = SRC | OFF;
            table[(class::ALU | class::X | bits) as usize] = OFF | IMM;
            table[(class::ALU64 | class::X | bits) as usize] = OFF | IMM;
        }
        i += 1;
    }
    table[(class::ALU | class::NEG) as usize] = SRC | OFF | IMM;
    table[(class::ALU64 | class::NEG) as usize] = SRC | OFF | IMM;
    i = 0;
    while i < Jmp::ALL.len() {
        let bits = Jmp::ALL[i].bits();
        table[(class::JMP | bits) as usize] = SRC;
        table[(class::JMP32 | bits) as usize] = SRC;
        table[(class::JMP | class::X | bits) as usize] = IMM;
        table[(class::JMP32 | class::X | bits) as usize] = IMM;
        i += 1;
    }
    table[class::JA as usize] = DST | SRC | IMM;
    table[class::MAY_GOTO as usize] = DST | SRC | IMM;
    table[class::JA32 as usize] = DST | SRC | OFF;
    table[class::CALL as usize] = DST | SRC | OFF;
    table[class::EXIT as usize] = DST | SRC | OFF | IMM;
    i = 0;
    while i < Size::ALL.len() {
        let size = Size::ALL[i].bits();
        table[(class::LDX | class::MEM | size) as usize] = IMM;
        table[(class::ST | class::MEM | size) as usize] = SRC;
        table[(class::STX | class::MEM | size) as usize] = IMM;
        if Size::ALL[i].bytes() < 8 {
            table[(class::LDX | class::MEMSX | size) as usize] = IMM;
            table[(class::LD | class::ABS | size) as usize] = DST | SRC | OFF;
            table[(class::LD | class::IND | size) as usize] = DST | OFF;
        }
        i += 1;
    }
    table
}

/// True if the slot alone is a valid instruction, as far as one look-up tells.
#[inline]
fn is_plain(raw: Raw) -> bool {
    let bits = raw.to_word();
    // Only an opcode that is not in the table has its own byte forbidden, and it is not FAST_CODE.
    let forbidden = (bits ^ FAST_CODE) & FORBIDDEN[raw.code as usize];
    forbidden | high_registers(raw) == 0
}

/// Not zero if a register is above r10: adding 5 carries out of its nibble.
#[inline]
fn high_registers(raw: Raw) -> u64 {
    let regs = u64::from(raw.regs);
    (((regs & 0x0f) | ((regs & 0xf0) << 4)) + 0x0505) & 0x1010
}

/// The instruction slots in `bytes`, each of which is a valid instruction or half of one.
///
/// What the instructions do is not judged: jumps may leave the program.
///
/// # Errors
/// Left-over bytes, or else the first slot that is no instruction.
pub fn decode(bytes: &[u8], order: Order) -> Result<Vec<Raw>, DecodeError> {
    let (slots, rest) = bytes.as_chunks();
    if !rest.is_empty() {
        let why = Refused::Length(rest.len());
        return Err(DecodeError {
            at: slots.len(),
            why,
        });
    }
    let raws: Vec<Raw> = match order {
        Order::Little => slots
            .iter()
            .map(|&b| Raw::from_bytes(b, Order::Little))
            .collect(),
        Order::Big => slots
            .iter()
            .map(|&b| Raw::from_bytes(b, Order::Big))
            .collect(),
    };
    validate(&raws)?;
    Ok(raws)
}

/// Checks that every slot is a valid instruction or half of one.
///
/// # Errors
/// The first slot that is not.
pub fn validate(raws: &[Raw]) -> Result<(), DecodeError> {
    let mut at = 0;
    while let Some(&raw) = raws.get(at) {
        if is_plain(raw) {
            at += 1;
        } else if is_wide_number(&raws[at..]) {
            at += 2;
        } else if is_swap(raw) || is_atomic(raw) {
            at += 1;
        } else {
            at += slow(raws, at)?.slots();
        }
    }
    Ok(())
}

/// True for a whole and valid `r1 = 0x1122334455667788 ll` or `r1 = map[fd:5]`, which are too
/// frequent for the slow path.
#[inline]
fn is_wide_number(raws: &[Raw]) -> bool {
    let [first, second, ..] = raws else {
        return false;
    };
    first.code == class::LDDW
        && first.off == 0
        && first.dst() <= 10
        && (first.src() == 0 || first.src() == 1 && second.imm == 0)
        && second.to_word() << 32 == 0
}

/// True for a valid byte swap.
#[inline]
fn is_swap(raw: Raw) -> bool {
    const LE: u8 = class::ALU | class::END;
    const BE: u8 = LE | class::X;
    const ALWAYS: u8 = class::ALU64 | class::END;
    matches!(raw.code, LE | BE | ALWAYS)
        && matches!(raw.imm, 16 | 32 | 64)
        && raw.regs <= 10
        && raw.off == 0
}

/// True for a valid atomic operation but the loads and stores.
#[inline]
fn is_atomic(raw: Raw) -> bool {
    const W: u8 = class::STX | class::ATOMIC | Size::W.bits();
    const DW: u8 = class::STX | class::ATOMIC | Size::DW.bits();
    matches!(raw.code, W | DW) && AtomicOp::from_imm(raw.imm).is_some() && high_registers(raw) == 0
}

#[inline(never)]
fn slow(raws: &[Raw], at: usize) -> Result<Op, DecodeError> {
    Op::decode(raws[at], raws.get(at + 1).copied()).map_err(|why| DecodeError { at, why })
}

/// The instructions in `raws`, each with the number of its (first) slot.
///
/// A slot that is no instruction gives an error, and the next slot is looked at.
#[must_use]
pub fn ops(raws: &[Raw]) -> Ops<'_> {
    Ops { raws, at: 0 }
}

/// The iterator of [`ops`].
#[derive(Clone, Debug)]
pub struct Ops<'a> {
    raws: &'a [Raw],
    at: usize,
}

impl Iterator for Ops<'_> {
    type Item = Result<(usize, Op), DecodeError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at;
        let first = *self.raws.get(at)?;
        match Op::decode(first, self.raws.get(at + 1).copied()) {
            Ok(op) => {
                self.at += op.slots();
                Some(Ok((at, op)))
            }
            Err(why) => {
                self.at += 1;
                Some(Err(DecodeError { at, why }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every opcode with every pattern of zero, small, large and odd fields.
    #[test]
    fn the_table_accepts_nothing_that_decoding_refuses() {
        let mut plain = 0;
        for code in 0..=255 {
            for regs in 0..=255u8 {
                for off in [0, 1, 2, 8, 16, 32, -1, i16::MIN] {
                    for imm in [
                        0,
                        1,
                        16,
                        32,
                        64,
                        0x100,
                        0x110,
                        0xe1,
                        -1,
                        i32::MIN,
                    ] {
                        let raw = Raw {
                            code,
                            regs,
                            off,
                            imm,
                        };
                        if is_plain(raw) || is_swap(raw) || is_atomic(raw) {
                            plain += 1;
                            let op = Op::decode(raw, None).map(Op::slots);
                            assert_eq!(op, Ok(1), "{raw:?}");
                        }
                    }
                }
            }
        }
        assert!(plain > 50_000, "{plain}");
    }

    /// What the table sends to the slow path is what it was built for, and no plain instruction.
    #[test]
    fn the_table_misses_only_what_depends_on_two_fields() {
        for code in 0..=255u8 {
            for regs in 0..=255u8 {
                for off in [0, 7, -1] {
                    for imm in [0, 5, -1] {
                        let raw = Raw {
                            code,
                            regs,
                            off,
                            imm,
                        };
                        let slow = match Op::decode(raw, None) {
                            Err(_) => true,
                            Ok(op) => matches!(
                                op,
                                Op::Wide(..)
                                    | Op::Swap(..)
                                    | Op::Cast(..)
                                    | Op::Atomic(..)
                                    | Op::LoadAcquire(..)
                                    | Op::StoreRelease(..)
                                    | Op::Call(crate::isa::Callee::Local(_))
                                    | Op::Call(crate::isa::Callee::Kfunc(..))
                            ),
                        };
                        assert_eq!(is_plain(raw), !slow, "{raw:?}");
                    }
                }
            }
        }
    }

    /// The other short cut: two slots that one look decides.
    #[test]
    fn no_wide_number_is_accepted_that_decoding_refuses() {
        let mut wide = 0;
        for code in [0x18, 0x10, 0x00, 0x07] {
            for regs in 0..=255u8 {
                for (off, tail) in [(0, 0), (1, 0), (0, 1)] {
                    for imm in [0, 1, -1] {
                        let first = Raw {
                            code,
                            regs,
                            off,
                            imm: 7,
                        };
                        for second in [
                            Raw::new(0, 0, 0, 0, imm),
                            Raw::new(tail, 0, 0, 0, imm),
                            Raw::new(0, tail, 0, 0, imm),
                            Raw::new(0, 0, tail, 0, imm),
                            Raw::new(0, 0, 0, i16::from(tail), imm),
                        ] {
                            if is_wide_number(&[first, second]) {
                                wide += 1;
                                let op = Op::decode(first, Some(second)).map(Op::slots);
                                assert_eq!(op, Ok(2), "{first:?} {second:?}");
                            }
                        }
                    }
                }
            }
        }
        assert!(wide > 200, "{wide}");
    }
}
