//! Instructions to text, without formatting machinery: a listing of a million lines is printed in
//! the time that a page of `write!` takes.

use crate::isa::{Alu, AtomicOp, Bits, Callee, Op, Reg, Size, Src, Swap, Wide};
use bpfsmith_uapi::Helper;
use std::fmt;

/// What the one name in an instruction stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Symbol<'a> {
    /// A place in the program: `goto name`, `call name`, `r1 = func[name]`.
    Label(&'a str),
    /// A map: `r1 = map[name]`.
    Map(&'a str),
    /// The value of a map, at an offset: `r1 = map[name] + 8`.
    MapValue(&'a str, u32),
    /// A section, at an offset: `r1 = section[.rodata] + 8`.
    Section(&'a str, u32),
    /// A kernel function: `call kfunc[name]`.
    Kfunc(&'a str),
    /// A kernel variable: `r1 = ksym[name]`.
    Ksym(&'a str),
}

/// Appends the instruction in a form that depends on its bytes alone: helpers by number, jumps by
/// distance.
pub fn write_op(out: &mut String, op: Op) {
    match op {
        Op::Alu(alu, bits, dst, src) => write_alu(out, alu, bits, dst, src),
        Op::Neg(bits, dst) => {
            view(out, bits, dst);
            out.push_str(" = -");
            view(out, bits, dst);
        }
        Op::Swap(how, width, dst) => {
            reg(out, dst);
            out.push_str(match how {
                Swap::Le => " = le",
                Swap::Be => " = be",
                Swap::Always => " = bswap",
            });
            decimal(out, u32::from(width));
            out.push(' ');
            reg(out, dst);
        }
        Op::Cast(dst, src, spaces) => {
            reg(out, dst);
            out.push_str(" = addr_space_cast(");
            reg(out, src);
            out.push_str(", ");
            decimal(out, spaces.cast_unsigned() >> 16);
            out.push_str(", ");
            decimal(out, spaces.cast_unsigned() & 0xffff);
            out.push(')');
        }
        Op::Load(size, dst, base, off) => {
            reg(out, dst);
            out.push_str(" = ");
            memory(out, unsigned(size), base, off);
        }
        Op::LoadSx(size, dst, base, off) => {
            reg(out, dst);
            out.push_str(" = ");
            memory(out, signed_size(size), base, off);
        }
        Op::Store(size, base, off, src) => {
            memory(out, unsigned(size), base, off);
            out.push_str(" = ");
            match src {
                Src::Reg(r) => reg(out, r),
                Src::Imm(v) => signed(out, v),
            }
        }
        Op::Atomic(atomic, size, base, off, src) => write_atomic(out, atomic, size, base, off, src),
        Op::LoadAcquire(size, dst, base, off) => {
            reg(out, dst);
            out.push_str(" = load_acquire(");
            inner_memory(out, size, base, off);
            out.push(')');
        }
        Op::StoreRelease(size, base, off, src) => {
            out.push_str("store_release(");
            inner_memory(out, size, base, off);
            out.push_str(", ");
            reg(out, src);
            out.push(')');
        }
        Op::LoadAbs(size, imm) => {
            out.push_str("r0 = ");
            out.push_str(unsigned(size));
            out.push_str("skb[");
            signed(out, imm);
            out.push(']');
        }
        Op::LoadInd(size, src, imm) => {
            out.push_str("r0 = ");
            out.push_str(unsigned(size));
            out.push_str("skb[");
            reg(out, src);
            if imm != 0 {
                spaced(out, imm);
            }
            out.push(']');
        }
        Op::Wide(dst, wide) => write_wide(out, dst, wide),
        Op::Ja(off) => {
            out.push_str("goto ");
            relative(out, i32::from(off));
        }
        Op::JaLong(off) => {
            out.push_str("gotol ");
            relative(out, off);
        }
        Op::MayGoto(off) => {
            out.push_str("may_goto ");
            relative(out, i32::from(off));
        }
        Op::Jump(.., off) => {
            write_condition(out, op);
            relative(out, i32::from(off));
        }
        Op::Call(Callee::Helper(id)) => {
            out.push_str("call ");
            signed(out, id);
        }
        Op::Call(Callee::Local(distance)) => {
            out.push_str("call pc");
            relative(out, distance);
        }
        Op::Call(Callee::Kfunc(id, module)) => {
            out.push_str("call kfunc ");
            signed(out, id);
            if module != 0 {
                out.push('@');
                signed(out, i32::from(module));
            }
        }
        Op::Exit => out.push_str("exit"),
    }
}

/// Appends the instruction as a listing has it: helpers by name and number, and `symbol` in the
/// place of the field that it stands for. A symbol that the instruction has no place for is left
/// out.
pub fn write_op_named(out: &mut String, op: Op, symbol: Option<Symbol<'_>>) {
    match (op, symbol) {
        (Op::Call(Callee::Helper(id)), _) => match helper_name(id) {
            Some(name) => {
                out.push_str("call ");
                out.push_str(name);
                out.push('#');
                signed(out, id);
            }
            None => write_op(out, op),
        },
        (Op::Ja(_), Some(Symbol::Label(name))) => words(out, "goto ", name),
        (Op::JaLong(_), Some(Symbol::Label(name))) => words(out, "gotol ", name),
        (Op::MayGoto(_), Some(Symbol::Label(name))) => words(out, "may_goto ", name),
        (Op::Call(Callee::Local(_)), Some(Symbol::Label(name))) => words(out, "call ", name),
        (Op::Jump(..), Some(Symbol::Label(name))) => {
            write_condition(out, op);
            out.push_str(name);
        }
        (Op::Call(Callee::Kfunc(..)), Some(Symbol::Kfunc(name))) => {
            words(out, "call kfunc[", name);
            out.push(']');
        }
        (Op::Wide(dst, _), Some(symbol)) => {
            let (kind, name, offset) = match symbol {
                Symbol::Label(name) => (" = func[", name, None),
                Symbol::Map(name) => (" = map[", name, None),
                Symbol::MapValue(name, offset) => (" = map[", name, Some(offset)),
                Symbol::Section(name, offset) => (" = section[", name, Some(offset)),
                Symbol::Ksym(name) => (" = ksym[", name, None),
                Symbol::Kfunc(_) => return write_op(out, op),
            };
            reg(out, dst);
            words(out, kind, name);
            out.push(']');
            if let Some(offset) = offset {
                out.push_str(" + ");
                decimal(out, offset);
            }
        }
        _ => write_op(out, op),
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(48);
        write_op(&mut text, *self);
        f.pad(&text)
    }
}

/// The kernel's name of a helper, without `bpf_`.
fn helper_name(id: i32) -> Option<&'static str> {
    Helper::by_id(u32::try_from(id).ok()?).map(|helper| helper.name)
}

fn words(out: &mut String, first: &str, second: &str) {
    out.push_str(first);
    out.push_str(second);
}

fn write_alu(out: &mut String, alu: Alu, bits: Bits, dst: Reg, src: Src) {
    view(out, bits, dst);
    out.push(' ');
    out.push_str(alu.symbol());
    // A symbol that ends in a cast, `= (s8)`, is followed by its register at once.
    if alu.takes_imm() {
        out.push(' ');
    }
    operand(out, bits, src);
}

/// `if r1 == 5 goto `, without the target.
fn write_condition(out: &mut String, op: Op) {
    let Op::Jump(jmp, bits, dst, src, _) = op else {
        return;
    };
    out.push_str("if ");
    view(out, bits, dst);
    out.push(' ');
    out.push_str(jmp.symbol());
    out.push(' ');
    operand(out, bits, src);
    out.push_str(" goto ");
}

fn write_atomic(out: &mut String, atomic: AtomicOp, size: Size, base: Reg, off: i16, src: Reg) {
    let bits = if size == Size::DW {
        Bits::B64
    } else {
        Bits::B32
    };
    match atomic {
        AtomicOp::Xchg => {
            view(out, bits, src);
            out.push_str(if bits == Bits::B64 {
                " = xchg_64("
            } else {
                " = xchg32_32("
            });
            reg(out, base);
            spaced(out, i32::from(off));
        }
        AtomicOp::CmpXchg => {
            view(out, bits, Reg(0));
            out.push_str(if bits == Bits::B64 {
                " = cmpxchg_64("
            } else {
                " = cmpxchg32_32("
            });
            reg(out, base);
            spaced(out, i32::from(off));
            out.push_str(", ");
            view(out, bits, Reg(0));
        }
        _ if atomic.fetches() => {
            view(out, bits, src);
            words(out, " = atomic_", atomic.text());
            out.push('(');
            inner_memory(out, size, base, off);
        }
        _ => {
            out.push_str("lock ");
            memory(out, unsigned(size), base, off);
            out.push(' ');
            out.push_str(atomic.text());
            out.push(' ');
            return view(out, bits, src);
        }
    }
    out.push_str(", ");
    view(out, bits, src);
    out.push(')');
}

fn write_wide(out: &mut String, dst: Reg, wide: Wide) {
    reg(out, dst);
    match wide {
        Wide::Imm(v) => {
            out.push_str(" = ");
            hex(out, v);
            out.push_str(" ll");
        }
        Wide::MapFd(fd) | Wide::MapValue(fd, _) => {
            out.push_str(" = map[fd:");
            signed(out, fd);
            out.push(']');
        }
        Wide::MapIdx(index) | Wide::MapIdxValue(index, _) => {
            out.push_str(" = map[idx:");
            signed(out, index);
            out.push(']');
        }
        Wide::BtfId(id, fd) => {
            out.push_str(" = btf_id[");
            signed(out, id);
            if fd != 0 {
                out.push(':');
                signed(out, fd);
            }
            out.push(']');
        }
        Wide::Func(distance) => {
            out.push_str(" = func[pc");
            relative(out, distance);
            out.push(']');
        }
    }
    if let Wide::MapValue(_, offset) | Wide::MapIdxValue(_, offset) = wide {
        spaced(out, offset);
    }
}

const R: [&str; 16] = [
    "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15",
];
const W: [&str; 16] = [
    "w0", "w1", "w2", "w3", "w4", "w5", "w6", "w7", "w8", "w9", "w10", "w11", "w12", "w13", "w14",
    "w15",
];

#[inline]
fn reg(out: &mut String, r: Reg) {
    out.push_str(R[usize::from(r.0 & 15)]);
}

#[inline]
fn view(out: &mut String, bits: Bits, r: Reg) {
    let names = if bits == Bits::B64 { &R } else { &W };
    out.push_str(names[usize::from(r.0 & 15)]);
}

#[inline]
fn operand(out: &mut String, bits: Bits, src: Src) {
    match src {
        Src::Reg(r) => view(out, bits, r),
        Src::Imm(v) => signed(out, v),
    }
}

#[inline]
const fn unsigned(size: Size) -> &'static str {
    match size {
        Size::B => "*(u8 *)",
        Size::H => "*(u16 *)",
        Size::W => "*(u32 *)",
        Size::DW => "*(u64 *)",
    }
}

#[inline]
const fn signed_size(size: Size) -> &'static str {
    match size {
        Size::B => "*(s8 *)",
        Size::H => "*(s16 *)",
        Size::W => "*(s32 *)",
        Size::DW => "*(s64 *)",
    }
}

/// `*(u32 *)(r1 + 4)`
#[inline]
fn memory(out: &mut String, size: &str, base: Reg, off: i16) {
    out.push_str(size);
    out.push('(');
    reg(out, base);
    spaced(out, i32::from(off));
    out.push(')');
}

/// `(u32 *)(r1 + 4)`
fn inner_memory(out: &mut String, size: Size, base: Reg, off: i16) {
    memory(out, &unsigned(size)[1..], base, off);
}

/// `5`, `-5`
#[inline]
fn signed(out: &mut String, v: i32) {
    if v < 0 {
        out.push('-');
    }
    decimal(out, v.unsigned_abs());
}

/// `+5`, `-5`
#[inline]
fn relative(out: &mut String, v: i32) {
    out.push(if v < 0 { '-' } else { '+' });
    decimal(out, v.unsigned_abs());
}

/// ` + 5`, ` - 5`
#[inline]
fn spaced(out: &mut String, v: i32) {
    out.push_str(if v < 0 { " - " } else { " + " });
    decimal(out, v.unsigned_abs());
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

#[inline]
fn decimal(out: &mut String, mut v: u32) {
    if v < 10 {
        return out.push(char::from(DIGITS[v as usize]));
    }
    let mut digits = [b'0'; 10];
    let mut start = digits.len();
    while v != 0 {
        start -= 1;
        digits[start] = DIGITS[(v % 10) as usize];
        v /= 10;
    }
    out.push_str(std::str::from_utf8(&digits[start..]).unwrap_or_default());
}

fn hex(out: &mut String, v: u64) {
    out.push_str("0x");
    let bytes = v.to_be_bytes();
    let skip = (v.leading_zeros() / 8).min(7) as usize;
    for (i, b) in bytes.iter().enumerate().skip(skip) {
        if i > skip || *b > 15 {
            out.push(char::from(DIGITS[usize::from(b >> 4)]));
        }
        out.push(char::from(DIGITS[usize::from(b & 15)]));
    }
}
