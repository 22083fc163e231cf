//! Random instructions, and every instruction there is.
#![allow(dead_code, reason = "each test file uses a part")]

use bpfsmith_asm::isa::{Alu, AtomicOp, Bits, Callee, Jmp, Op, Raw, Reg, Size, Src, Swap, Wide};
use proptest::prelude::*;
use proptest::sample::select;

const BITS: [Bits; 2] = [Bits::B32, Bits::B64];
const EDGES: [i32; 8] = [0, 1, -1, 9, 10, 255, i32::MAX, i32::MIN];
const OFFSETS: [i16; 8] = [0, 1, -1, 8, -8, 255, i16::MAX, i16::MIN];

/// The slots of the instructions.
pub(crate) fn encode(ops: &[Op]) -> Vec<Raw> {
    let mut raws = Vec::new();
    for op in ops {
        let slots = op.encode();
        raws.push(slots.first);
        raws.extend(slots.second);
    }
    raws
}

/// A number whose edges come up as often as its middle.
fn imm() -> impl Strategy<Value = i32> {
    prop_oneof![
        select(&EDGES[..]),
        any::<i32>(),
        -300..300
    ]
}

fn off() -> impl Strategy<Value = i16> {
    prop_oneof![
        select(&OFFSETS[..]),
        any::<i16>(),
        -600..600i16
    ]
}

fn reg() -> impl Strategy<Value = Reg> {
    (0..=10u8).prop_map(Reg::n)
}

fn src() -> impl Strategy<Value = Src> {
    prop_oneof![
        reg().prop_map(Src::Reg),
        imm().prop_map(Src::Imm)
    ]
}

fn bits() -> impl Strategy<Value = Bits> {
    select(&BITS[..])
}

fn size() -> impl Strategy<Value = Size> {
    select(&Size::ALL[..])
}

fn small_size() -> impl Strategy<Value = Size> {
    select(&Size::ALL[..3])
}

fn wide() -> impl Strategy<Value = Wide> {
    prop_oneof![
        prop_oneof![
            any::<u64>(),
            select(
                &[
                    0,
                    1,
                    u64::MAX,
                    1 << 63,
                    1 << 32,
                    0xf_ffff
                ][..]
            )
        ]
        .prop_map(Wide::Imm),
        imm().prop_map(Wide::MapFd),
        (imm(), imm()).prop_map(|(fd, off)| Wide::MapValue(fd, off)),
        (imm(), imm()).prop_map(|(id, fd)| Wide::BtfId(id, fd)),
        imm().prop_map(Wide::Func),
        imm().prop_map(Wide::MapIdx),
        (imm(), imm()).prop_map(|(index, off)| Wide::MapIdxValue(index, off)),
    ]
}

/// Any valid instruction.
pub(crate) fn any_op() -> impl Strategy<Value = Op> {
    let swap = (
        select(&[Swap::Le, Swap::Be, Swap::Always][..]),
        select(&[16, 32, 64][..]),
        reg(),
    );
    let alu = (select(Alu::ALL), bits(), reg(), src())
        .prop_filter("exists", |&(op, bits, _, src)| exists(op, bits, src));
    prop_oneof![
        8 => alu.prop_map(|(op, bits, dst, src)| Op::Alu(op, bits, dst, src)),
        1 => (bits(), reg()).prop_map(|(bits, dst)| Op::Neg(bits, dst)),
        1 => swap.prop_map(|(how, width, dst)| Op::Swap(how, width, dst)),
        1 => (reg(), reg(), imm()).prop_map(|(dst, src, imm)| Op::Cast(dst, src, imm)),
        2 => (size(), reg(), reg(), off()).prop_map(|(s, d, b, o)| Op::Load(s, d, b, o)),
        2 => (small_size(), reg(), reg(), off()).prop_map(|(s, d, b, o)| Op::LoadSx(s, d, b, o)),
        2 => (size(), reg(), off(), src()).prop_map(|(s, b, o, v)| Op::Store(s, b, o, v)),
        4 => (select(AtomicOp::ALL), select(&Size::ALL[2..]), reg(), off(), reg())
            .prop_map(|(op, s, b, o, v)| Op::Atomic(op, s, b, o, v)),
        1 => (size(), reg(), reg(), off()).prop_map(|(s, d, b, o)| Op::LoadAcquire(s, d, b, o)),
        1 => (size(), reg(), off(), reg()).prop_map(|(s, b, o, v)| Op::StoreRelease(s, b, o, v)),
        1 => (small_size(), imm()).prop_map(|(s, v)| Op::LoadAbs(s, v)),
        1 => (small_size(), reg(), imm()).prop_map(|(s, r, v)| Op::LoadInd(s, r, v)),
        3 => (reg(), wide()).prop_map(|(dst, wide)| Op::Wide(dst, wide)),
        1 => off().prop_map(Op::Ja),
        1 => imm().prop_map(Op::JaLong),
        1 => off().prop_map(Op::MayGoto),
        4 => (select(Jmp::ALL), bits(), reg(), src(), off())
            .prop_map(|(op, bits, dst, src, off)| Op::Jump(op, bits, dst, src, off)),
        1 => imm().prop_map(|id| Op::Call(Callee::Helper(id))),
        1 => imm().prop_map(|distance| Op::Call(Callee::Local(distance))),
        1 => (imm(), off()).prop_map(|(id, module)| Op::Call(Callee::Kfunc(id, module))),
        1 => Just(Op::Exit),
    ]
}

/// True if the table has this form of the operation.
fn exists(op: Alu, bits: Bits, src: Src) -> bool {
    op.has(bits) && (op.takes_imm() || matches!(src, Src::Reg(_)))
}

/// Every form of every operation with different registers and edge values in each field.
pub(crate) fn all_ops() -> Vec<Op> {
    let mut out = Vec::new();
    // Registers and offsets go round, so that every one of them meets every form.
    let mut turn = 0u8;
    let mut next = || {
        turn = turn.wrapping_add(1);
        (Reg::n(turn % 11), Reg::n((turn / 3 + 4) % 11))
    };
    let sources: Vec<Src> = (0..=10)
        .map(|n| Src::Reg(Reg::n(n)))
        .chain(EDGES.iter().map(|&v| Src::Imm(v)))
        .collect();
    for bits in BITS {
        for &src in &sources {
            for &op in Alu::ALL.iter().filter(|op| exists(**op, bits, src)) {
                out.push(Op::Alu(op, bits, next().0, src));
            }
            for &op in Jmp::ALL {
                for off in OFFSETS {
                    out.push(Op::Jump(op, bits, next().0, src, off));
                }
            }
        }
        out.extend((0..=10).map(|n| Op::Neg(bits, Reg::n(n))));
    }
    for how in [Swap::Le, Swap::Be, Swap::Always] {
        for width in [16, 32, 64] {
            out.extend((0..=10).map(|n| Op::Swap(how, width, Reg::n(n))));
        }
    }
    for imm in [
        1,
        0x1_0000,
        0,
        0x7fff_ffff,
        -1,
        0x2_0003,
    ] {
        out.push(Op::Cast(next().0, next().1, imm));
    }
    for off in OFFSETS {
        for size in Size::ALL {
            for _ in 0..11 {
                let (a, b) = next();
                out.push(Op::Load(size, a, b, off));
                out.push(Op::Store(size, a, off, Src::Reg(b)));
                out.push(Op::LoadAcquire(size, a, b, off));
                out.push(Op::StoreRelease(size, a, off, b));
                if size != Size::DW {
                    out.push(Op::LoadSx(size, a, b, off));
                }
                if matches!(size, Size::W | Size::DW) {
                    out.extend(
                        AtomicOp::ALL
                            .iter()
                            .map(|&op| Op::Atomic(op, size, a, off, b)),
                    );
                }
            }
            for imm in EDGES {
                out.push(Op::Store(size, next().0, off, Src::Imm(imm)));
            }
        }
        out.push(Op::Ja(off));
        out.push(Op::MayGoto(off));
        out.push(Op::JaLong(i32::from(off)));
        out.push(Op::Call(Callee::Kfunc(7, off)));
    }
    for imm in EDGES {
        for size in &Size::ALL[..3] {
            out.push(Op::LoadAbs(*size, imm));
            out.extend((0..=10).map(|n| Op::LoadInd(*size, Reg::n(n), imm)));
        }
        out.push(Op::JaLong(imm));
        out.push(Op::Call(Callee::Helper(imm)));
        out.push(Op::Call(Callee::Local(imm)));
        out.push(Op::Call(Callee::Kfunc(imm, 0)));
        for wide in [
            Wide::MapFd(imm),
            Wide::MapValue(imm, 8),
            Wide::MapValue(3, imm),
            Wide::BtfId(imm, 0),
            Wide::BtfId(3, imm),
            Wide::Func(imm),
            Wide::MapIdx(imm),
            Wide::MapIdxValue(imm, 0),
            Wide::MapIdxValue(3, imm),
        ] {
            out.push(Op::Wide(next().0, wide));
        }
    }
    out.extend((1..=211).map(|id| Op::Call(Callee::Helper(id))));
    for value in [
        0,
        1,
        0x1122_3344_5566_7788,
        u64::MAX,
        1 << 63,
        1 << 32,
        0xffff_ffff,
        0x8000_0000,
    ] {
        out.extend((0..=10).map(|n| Op::Wide(Reg::n(n), Wide::Imm(value))));
    }
    out.push(Op::Exit);
    out
}
