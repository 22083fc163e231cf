//! Single instructions: what starts with a register, stores and atomics without a result.

use super::parse::{Parsed, Parser};
use super::scan::{Number, Res, View, fail, shorten};
use crate::isa::{Alu, AtomicOp, Bits, Op, Reg, Size, Src, Wide, class};

impl<'a> Parser<'a> {
    pub(super) fn instruction(&mut self) -> Res<Parsed<'a>> {
        if self.scan.is_at_register() {
            return self.assignment();
        }
        if self.scan.peek() == b'*' {
            return self.store().map(Parsed::Op);
        }
        let start = self.scan.at;
        match self.scan.word() {
            "if" => self.conditional(),
            "goto" => self.jump(Op::Ja),
            "may_goto" => self.jump(Op::MayGoto),
            "gotol" => self.long_jump(),
            "call" => self.call(),
            "exit" => Ok(Parsed::Op(Op::Exit)),
            "lock" => self.locked().map(Parsed::Op),
            "store_release" => self.store_release().map(Parsed::Op),
            "callx" => fail(
                start,
                "the kernel has no indirect calls: call a label or a helper",
            ),
            "" => {
                self.scan.at = start;
                self.scan.expected("an instruction or a label")
            }
            word => {
                let word = shorten(word);
                fail(
                    start,
                    format!(
                        "`{word}` starts no instruction: expected r0 to r10, w0 to w10, `*(`, if, \
                         goto, gotol, may_goto, call, exit, lock, store_release or a label and `:`"
                    ),
                )
            }
        }
    }

    /// What starts with a register.
    pub(super) fn assignment(&mut self) -> Res<Parsed<'a>> {
        let dst = self.scan.register()?;
        self.scan.space();
        let alu = self.operator()?;
        if alu != Alu::Mov {
            return self.arithmetic(alu, dst).map(Parsed::Op);
        }
        self.scan.space();
        match self.scan.peek() {
            b'r' | b'w' if self.scan.is_at_register() => self.arithmetic(alu, dst).map(Parsed::Op),
            b'-' if matches!(self.scan.peek_at(1), b'r' | b'w' | b' ') => self.negation(dst),
            b'0'..=b'9' | b'-' | b'+' => self.constant(dst),
            b'(' => self.extension(dst),
            b'*' => self.load(dst),
            _ => self.function(dst),
        }
    }

    /// The symbol of an operation up to its `=`.
    #[inline]
    pub(super) fn operator(&mut self) -> Res<Alu> {
        let from = self.scan.at;
        let mut length = 0;
        while length < 4 && !matches!(self.scan.peek_at(length), b'=' | b'\n') {
            length += 1;
        }
        let symbol = self.scan.between(from, from + length + 1);
        // The casts have symbols of more than four bytes.
        match Alu::ALL.iter().find(|alu| alu.symbol() == symbol) {
            Some(&alu) => {
                self.scan.at = from + length + 1;
                Ok(alu)
            }
            None => self.scan.expected(
                "one of = += -= *= /= s/= |= &= <<= >>= s>>= %= s%= ^= behind the register",
            ),
        }
    }

    #[inline]
    pub(super) fn arithmetic(&mut self, alu: Alu, dst: View) -> Res<Op> {
        let bits = width(dst);
        let src = self.operand(dst)?;
        Ok(Op::Alu(alu, bits, dst.reg, src))
    }

    /// A register of the width of `dst`, or a constant.
    #[inline]
    pub(super) fn operand(&mut self, dst: View) -> Res<Src> {
        self.scan.space();
        if self.scan.is_at_register() {
            let src = self.scan.register()?;
            same_width(dst, src)?;
            return Ok(Src::Reg(src.reg));
        }
        let number = self.scan.number("a register or a number")?;
        let bits = width(dst);
        self.imm(number, bits == Bits::B32).map(Src::Imm)
    }

    /// A constant of 32 bits; `any_sign` if there is no sign extension to mistake it for.
    #[inline]
    pub(super) fn imm(&self, number: Number, any_sign: bool) -> Res<i32> {
        if let Some(v) = number.to_i32() {
            return Ok(v);
        }
        let unsigned = u32::try_from(number.magnitude)
            .ok()
            .filter(|_| !number.negative);
        match unsigned {
            // The kernel prints the constants of its jumps without sign, whatever the width.
            Some(v) if any_sign || self.logged.is_some() => Ok(v.cast_signed()),
            Some(v) => fail(
                number.at,
                format!(
                    "{v} would be sign-extended to {}: load it into a register first, `r1 = \
                     {v:#x} ll`",
                    i64::from(v.cast_signed())
                ),
            ),
            None => fail(
                number.at,
                format!(
                    "{number} does not fit in 32 bits: load it into a register first, `r1 = \
                     {number} ll`"
                ),
            ),
        }
    }

    /// `r1 = -r1`
    pub(super) fn negation(&mut self, dst: View) -> Res<Parsed<'a>> {
        self.scan.at += 1;
        let src = self.scan.register()?;
        same_register(dst, src)?;
        Ok(Parsed::Op(Op::Neg(width(dst), dst.reg)))
    }

    /// `r1 = 5`, `r1 = 5 ll`
    pub(super) fn constant(&mut self, dst: View) -> Res<Parsed<'a>> {
        let number = self.scan.number("a number")?;
        let is_wide = self.scan.eat_word("ll") || self.logged == Some(class::LDDW);
        if !is_wide {
            if let (None, false) = (number.to_i32(), dst.half) {
                return self.too_large(dst, number);
            }
            let imm = self.imm(number, dst.half)?;
            return Ok(Parsed::Op(Op::Alu(
                Alu::Mov,
                width(dst),
                dst.reg,
                Src::Imm(imm),
            )));
        }
        whole(dst)?;
        let value = match (number.negative, number.signed()) {
            (false, _) => number.magnitude,
            (true, Some(v)) => v.cast_unsigned(),
            (true, None) => return fail(number.at, format!("{number} does not fit in 64 bits")),
        };
        Ok(Parsed::Op(Op::Wide(dst.reg, Wide::Imm(value))))
    }

    #[cold]
    pub(super) fn too_large<T>(&self, dst: View, number: Number) -> Res<T> {
        fail(
            number.at,
            format!(
                "{number} does not fit in the 32 bits that are sign-extended: append ll, `{dst} = \
                 {number} ll`"
            ),
        )
    }

    /// `r1 = (s8)r2`
    pub(super) fn extension(&mut self, dst: View) -> Res<Parsed<'a>> {
        self.scan.at += 1;
        self.scan.space();
        let at = self.scan.at;
        let alu = match self.scan.word() {
            "s8" => Alu::MovSx8,
            "s16" => Alu::MovSx16,
            "s32" => Alu::MovSx32,
            _ => {
                self.scan.at = at;
                return self.scan.expected("s8, s16 or s32");
            }
        };
        self.scan.expect(b')')?;
        let src = self.scan.register()?;
        same_width(dst, src)?;
        if !alu.has(width(dst)) {
            let n = src.reg;
            return fail(
                at,
                format!("a w register has 32 bits already: write `{dst} = w{}`", n.0),
            );
        }
        Ok(Parsed::Op(Op::Alu(
            alu,
            width(dst),
            dst.reg,
            Src::Reg(src.reg),
        )))
    }

    /// `r1 = *(u32 *)(r2 + 4)`, `r0 = *(u16 *)skb[12]`
    pub(super) fn load(&mut self, dst: View) -> Res<Parsed<'a>> {
        self.scan.at += 1;
        let at = self.scan.at;
        let (size, signed) = self.scan.size()?;
        if self.scan.eat_word("skb") {
            return self.packet(at, dst, size, signed).map(Parsed::Op);
        }
        let (base, off) = self.address_of()?;
        Ok(Parsed::Op(if signed {
            whole(dst)?;
            Op::LoadSx(size, dst.reg, base, off)
        } else {
            view_of(dst, size)?;
            Op::Load(size, dst.reg, base, off)
        }))
    }

    pub(super) fn packet(&mut self, at: usize, dst: View, size: Size, signed: bool) -> Res<Op> {
        if signed || size == Size::DW {
            return fail(at, "packet access is of u8, u16 or u32");
        }
        if dst.reg != Reg(0) {
            return fail(dst.at, format!("packet access goes to r0, not to {dst}"));
        }
        self.scan.expect(b'[')?;
        self.scan.space();
        let op = if self.scan.is_at_register() {
            let src = self.scan.register()?;
            whole(src)?;
            self.scan.space();
            let at = self.scan.at;
            let offset = if self.scan.peek() == b']' {
                0
            } else {
                self.scan.offset("+, - or ]")?
            };
            let imm = i32::try_from(offset);
            let Ok(imm) = imm else {
                return fail(at, format!("offset {offset} does not fit in 32 bits"));
            };
            Op::LoadInd(size, src.reg, imm)
        } else {
            let number = self.scan.number("a register or a number")?;
            Op::LoadAbs(size, self.imm(number, true)?)
        };
        self.scan.expect(b']')?;
        Ok(op)
    }

    /// `(r2 + 4)`
    #[inline]
    pub(super) fn address_of(&mut self) -> Res<(Reg, i16)> {
        self.scan.expect(b'(')?;
        let place = self.place()?;
        self.scan.expect(b')')?;
        Ok(place)
    }

    /// `r2 + 4`
    #[inline]
    pub(super) fn place(&mut self) -> Res<(Reg, i16)> {
        let base = self.scan.register()?;
        whole(base)?;
        self.scan.space();
        let at = self.scan.at;
        let offset = self.scan.offset("+ or - and an offset")?;
        match i16::try_from(offset) {
            Ok(off) => Ok((base.reg, off)),
            Err(_) => fail(
                at,
                format!(
                    "offset {offset} is not within -32768 to 32767: add it to a register first"
                ),
            ),
        }
    }

    /// `*(u32 *)(r1 + 4) = r2`
    pub(super) fn store(&mut self) -> Res<Op> {
        self.scan.at += 1;
        let at = self.scan.at;
        let (size, signed) = self.scan.size()?;
        if signed {
            return fail(at, "stores have no sign: use u8, u16 or u32");
        }
        let (base, off) = self.address_of()?;
        self.scan.expect(b'=')?;
        self.scan.space();
        let src = if self.scan.is_at_register() {
            let src = self.scan.register()?;
            view_of(src, size)?;
            Src::Reg(src.reg)
        } else {
            let number = self.scan.number("a register or a number")?;
            Src::Imm(self.imm(number, size != Size::DW)?)
        };
        Ok(Op::Store(size, base, off, src))
    }

    /// `lock *(u64 *)(r1 + 0) += r2`
    pub(super) fn locked(&mut self) -> Res<Op> {
        self.scan.expect(b'*')?;
        let size = self.atomic_size()?;
        let (base, off) = self.address_of()?;
        self.scan.space();
        let from = self.scan.at;
        let symbol = self.scan.between(from, from + 2);
        let Some(&op) = AtomicOp::ALL
            .iter()
            .find(|op| !op.fetches() && op.text() == symbol)
        else {
            return self.scan.expected("+=, |=, &= or ^=");
        };
        self.scan.at += 2;
        let src = self.scan.register()?;
        view_of(src, size)?;
        Ok(Op::Atomic(op, size, base, off, src.reg))
    }

    /// The type of an atomic operation.
    pub(super) fn atomic_size(&mut self) -> Res<Size> {
        self.scan.space();
        let at = self.scan.at;
        match self.scan.size()? {
            (size @ (Size::W | Size::DW), false) => Ok(size),
            _ => fail(at, "atomic operations are of u32 or u64"),
        }
    }

    /// `store_release((u64 *)(r1 + 0), r2)`
    pub(super) fn store_release(&mut self) -> Res<Op> {
        self.scan.expect(b'(')?;
        let size = self.unsigned_size()?;
        let (base, off) = self.address_of()?;
        self.scan.expect(b',')?;
        let src = self.scan.register()?;
        view_of(src, size)?;
        self.scan.expect(b')')?;
        Ok(Op::StoreRelease(size, base, off, src.reg))
    }

    pub(super) fn unsigned_size(&mut self) -> Res<Size> {
        self.scan.space();
        let at = self.scan.at;
        match self.scan.size()? {
            (size, false) => Ok(size),
            (_, true) => fail(at, "this access has no sign: use u8, u16, u32 or u64"),
        }
    }
}

pub(super) const fn width(view: View) -> Bits {
    if view.half { Bits::B32 } else { Bits::B64 }
}

#[inline]
pub(super) fn same_width(dst: View, src: View) -> Res<()> {
    if dst.half == src.half {
        return Ok(());
    }
    let letter = if dst.half { 'w' } else { 'r' };
    fail(
        src.at,
        format!(
            "{src} does not go with {dst}: write {letter}{}",
            src.reg.number()
        ),
    )
}

#[inline]
pub(super) fn same_register(dst: View, src: View) -> Res<()> {
    same_width(dst, src)?;
    if dst.reg == src.reg {
        return Ok(());
    }
    fail(
        src.at,
        format!("this works on one register: write {dst} on both sides, not {src}"),
    )
}

/// Only an r register will do.
#[inline]
pub(super) fn whole(view: View) -> Res<()> {
    if !view.half {
        return Ok(());
    }
    fail(
        view.at,
        format!(
            "{view} has 32 bits, 64 are needed: write r{}",
            view.reg.number()
        ),
    )
}

/// A w register stands for up to four bytes.
#[inline]
pub(super) fn view_of(view: View, size: Size) -> Res<()> {
    if size == Size::DW {
        whole(view)
    } else {
        Ok(())
    }
}
