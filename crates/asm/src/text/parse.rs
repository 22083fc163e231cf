//! Text to instructions.

use super::scan::{Fail, Number, Res, Scan, View, fail, hex_digit, shorten};
use crate::isa::{Alu, AtomicOp, Bits, Callee, Jmp, Op, Raw, Reg, Size, Src, Swap, Wide, class};
use crate::map::Name;
use crate::program::{Reloc, Target};
use bpfsmith_uapi::Helper;
use std::collections::HashMap;
use std::fmt;

/// How many errors [`parse`] collects before it gives up.
const MAX_ERRORS: usize = 100;

/// The instructions of a text, and what its names stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Text {
    /// The slots. References by name are zero.
    pub insns: Vec<Raw>,
    /// The references by name, in the order of the slots.
    pub relocs: Vec<Reloc>,
    /// The labels: slot and name, in the order of the text.
    pub labels: Vec<(u32, String)>,
    /// For each slot the line and column that its instruction starts at, from 1.
    pub positions: Vec<(u32, u32)>,
}

/// What is wrong with a text, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextError {
    /// The line, from 1.
    pub line: u32,
    /// The character of the line, from 1.
    pub column: u32,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for TextError {}

/// The instructions in a text: what [`write_op`](super::write_op) prints, what llvm-objdump prints,
/// and the instruction lines of a verifier log or of `bpftool prog dump xlated`.
///
/// One instruction to a line. A line may start with labels (`name:`) and with what tools put there:
/// `12:`, raw bytes, `(85)`. `;` and `//` start a comment, and so does `#` at the start of a line.
///
/// # Errors
/// All errors of the text, in its order; at most 100.
pub fn parse(source: &str) -> Result<Text, Vec<TextError>> {
    let mut parser = Parser {
        scan: Scan::new(source),
        text: Text::default(),
        labels: HashMap::new(),
        fixups: Vec::new(),
        errors: Vec::new(),
        line: 1,
        line_start: 0,
        logged: None,
    };
    // Most lines have 12 to 40 bytes.
    parser.text.insns.reserve(source.len() / 24);
    parser.text.positions.reserve(source.len() / 24);
    parser.lines();
    parser.resolve();
    if parser.errors.is_empty() {
        return Ok(parser.text);
    }
    parser.errors.sort_by_key(|e| (e.line, e.column));
    parser.errors.truncate(MAX_ERRORS);
    Err(parser.errors)
}

/// A reference to a label, which may be bound further down.
struct Fixup<'a> {
    slot: usize,
    name: &'a str,
    line: u32,
    column: u32,
    /// The name may also be a helper's.
    is_call: bool,
}

struct Parser<'a> {
    scan: Scan<'a>,
    text: Text,
    labels: HashMap<&'a str, (usize, u32)>,
    fixups: Vec<Fixup<'a>>,
    errors: Vec<TextError>,
    line: u32,
    line_start: usize,
    /// The opcode that a kernel log puts in front of the instruction: `(85)`.
    logged: Option<u8>,
}

/// An instruction, and the name in it that stands for something.
enum Parsed<'a> {
    Op(Op),
    Jump(Op, usize, &'a str),
    Call(usize, &'a str),
    Reloc(Op, Target),
}

/// What jumps go to.
enum To<'a> {
    Distance(i64),
    Label(usize, &'a str),
}

impl<'a> Parser<'a> {
    fn lines(&mut self) {
        while !self.scan.is_done() && self.errors.len() < MAX_ERRORS {
            if let Err(fail) = self.statement() {
                self.report(*fail);
            }
            self.scan.skip_line();
            self.scan.at += 1;
            self.line += 1;
            self.line_start = self.scan.at;
        }
    }

    #[cold]
    fn report(&mut self, Fail { at, message }: Fail) {
        let column = self.column(at);
        self.errors.push(TextError {
            line: self.line,
            column,
            message,
        });
    }

    #[inline]
    fn column(&self, at: usize) -> u32 {
        let before = self.scan.between(self.line_start, at);
        u32::try_from(before.chars().count() + 1).unwrap_or(u32::MAX)
    }

    fn statement(&mut self) -> Res<()> {
        self.logged = None;
        self.scan.space();
        if self.scan.peek() == b'#' {
            return Ok(());
        }
        if self.scan.peek().is_ascii_digit() {
            self.address()?;
        }
        while self.label()? {}
        if self.scan.peek() == b'(' {
            self.logged = Some(self.opcode()?);
        }
        self.scan.space();
        if self.scan.is_at_end() {
            return Ok(());
        }
        let start = self.scan.at;
        let parsed = self.instruction()?;
        self.scan.space();
        if !self.scan.is_at_end() {
            return self.scan.expected("the end of the line or a comment (`;`)");
        }
        self.push(parsed, start)
    }

    fn push(&mut self, parsed: Parsed<'a>, start: usize) -> Res<()> {
        let slot = self.text.insns.len();
        let at = u32::try_from(slot).unwrap_or(u32::MAX);
        let op = match parsed {
            Parsed::Op(op) => op,
            Parsed::Jump(op, at, name) => {
                let column = self.column(at);
                self.fixups.push(Fixup {
                    slot,
                    name,
                    line: self.line,
                    column,
                    is_call: false,
                });
                op
            }
            Parsed::Call(at, name) => {
                let column = self.column(at);
                self.fixups.push(Fixup {
                    slot,
                    name,
                    line: self.line,
                    column,
                    is_call: true,
                });
                Op::Call(Callee::Local(0))
            }
            Parsed::Reloc(op, target) => {
                self.text.relocs.push(Reloc { at, target });
                op
            }
        };
        let slots = op.encode();
        if let Some(logged) = self.logged.filter(|&code| code != slots.first.code) {
            let code = slots.first.code;
            return fail(
                start,
                format!("this is opcode {code:02x}, but the line says ({logged:02x})"),
            );
        }
        let position = (self.line, self.column(start));
        self.text.insns.push(slots.first);
        self.text.positions.push(position);
        if let Some(second) = slots.second {
            self.text.insns.push(second);
            self.text.positions.push(position);
        }
        Ok(())
    }

    /// `12:`, `12:  b7 01 00 00 05 00 00 00`, or llvm-objdump's `0000000000000000 <name>:`.
    fn address(&mut self) -> Res<()> {
        let start = self.scan.at;
        while hex_digit(self.scan.peek()).is_some() {
            self.scan.at += 1;
        }
        if self.scan.eat(b'<') {
            let from = self.scan.at;
            while !matches!(self.scan.peek(), b'>' | b'\n') {
                self.scan.at += 1;
            }
            let name = self.scan.between(from, self.scan.at);
            self.scan.expect(b'>')?;
            self.scan.expect(b':')?;
            return self.bind(from, name);
        }
        if self.scan.peek() != b':' {
            self.scan.at = start;
            return self.scan.expected("an instruction or a label");
        }
        self.scan.at += 1;
        self.scan.space();
        let is_byte = |scan: &Scan<'_>| {
            hex_digit(scan.peek()).is_some()
                && hex_digit(scan.peek_at(1)).is_some()
                && matches!(scan.peek_at(2), b' ' | b'\t')
        };
        while is_byte(&self.scan) {
            self.scan.at += 2;
            self.scan.space();
        }
        Ok(())
    }

    /// `(85)`
    fn opcode(&mut self) -> Res<u8> {
        let code = (
            hex_digit(self.scan.peek_at(1)),
            hex_digit(self.scan.peek_at(2)),
        );
        match (code, self.scan.peek_at(3)) {
            ((Some(high), Some(low)), b')') => {
                self.scan.at += 4;
                Ok(high << 4 | low)
            }
            _ => self
                .scan
                .expected("an instruction, a label or an opcode as in `(85)`"),
        }
    }

    /// Takes `name:`, if there is one.
    #[inline]
    fn label(&mut self) -> Res<bool> {
        let at = self.scan.at;
        let name = self.scan.word();
        if name.is_empty() || self.scan.peek() != b':' {
            self.scan.at = at;
            return Ok(false);
        }
        self.scan.at += 1;
        self.bind(at, name)?;
        self.scan.space();
        Ok(true)
    }

    fn bind(&mut self, at: usize, name: &'a str) -> Res<()> {
        let slot = self.text.insns.len();
        if let Some((_, line)) = self.labels.get(name) {
            let name = shorten(name);
            return fail(
                at,
                format!("label `{name}` is already bound in line {line}: rename one"),
            );
        }
        self.labels.insert(name, (slot, self.line));
        self.text
            .labels
            .push((u32::try_from(slot).unwrap_or(u32::MAX), name.to_owned()));
        Ok(())
    }

    /// Fills in the distances to labels.
    fn resolve(&mut self) {
        for fixup in std::mem::take(&mut self.fixups) {
            if let Err(message) = self.fill(&fixup) {
                let (line, column) = (fixup.line, fixup.column);
                self.errors.push(TextError {
                    line,
                    column,
                    message,
                });
            }
        }
    }

    fn fill(&mut self, fixup: &Fixup<'a>) -> Result<(), String> {
        let name = shorten(fixup.name);
        let target = self.labels.get(fixup.name);
        let raw = &mut self.text.insns[fixup.slot];
        let Some(&(target, _)) = target else {
            if !fixup.is_call {
                return Err(format!(
                    "no label `{name}`: write `{name}:` in front of its target"
                ));
            }
            let Some(helper) = Helper::by_name(fixup.name) else {
                return Err(format!(
                    "`{name}` is neither a label nor a helper: write `call 1` for a helper by \
                     number, `call kfunc[{name}]` for a kernel function"
                ));
            };
            let id = i32::try_from(helper.id).unwrap_or_default();
            *raw = Op::Call(Callee::Helper(id)).encode().first;
            return Ok(());
        };
        let distance = i64::try_from(target).unwrap_or(i64::MAX)
            - i64::try_from(fixup.slot).unwrap_or_default()
            - 1;
        let too_far = || {
            format!(
                "label `{name}` is {distance} instructions away, out of a jump's reach: use gotol"
            )
        };
        if matches!(raw.code, class::JA32 | class::CALL | class::LDDW) {
            raw.imm = i32::try_from(distance).map_err(|_| too_far())?;
        } else {
            raw.off = i16::try_from(distance).map_err(|_| too_far())?;
        }
        Ok(())
    }

    fn instruction(&mut self) -> Res<Parsed<'a>> {
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
    fn assignment(&mut self) -> Res<Parsed<'a>> {
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
    fn operator(&mut self) -> Res<Alu> {
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
    fn arithmetic(&mut self, alu: Alu, dst: View) -> Res<Op> {
        let bits = width(dst);
        let src = self.operand(dst)?;
        Ok(Op::Alu(alu, bits, dst.reg, src))
    }

    /// A register of the width of `dst`, or a constant.
    #[inline]
    fn operand(&mut self, dst: View) -> Res<Src> {
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
    fn imm(&self, number: Number, any_sign: bool) -> Res<i32> {
        if let Some(v) = number.to_i32() {
            return Ok(v);
        }
        let unsigned = u32::try_from(number.magnitude)
            .ok()
            .filter(|_| !number.negative);
        match unsigned {
            // The kernel prints the constants of its jumps without sign, whatever the width.
            Some(v) if any_sign || self.logged.is_some() => Ok(same_bits(v)),
            Some(v) => fail(
                number.at,
                format!(
                    "{v} would be sign-extended to {}: load it into a register first, `r1 = \
                     {v:#x} ll`",
                    i64::from(same_bits(v))
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
    fn negation(&mut self, dst: View) -> Res<Parsed<'a>> {
        self.scan.at += 1;
        let src = self.scan.register()?;
        same_register(dst, src)?;
        Ok(Parsed::Op(Op::Neg(width(dst), dst.reg)))
    }

    /// `r1 = 5`, `r1 = 5 ll`
    fn constant(&mut self, dst: View) -> Res<Parsed<'a>> {
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
            (true, Some(v)) => u64::from_ne_bytes(v.to_ne_bytes()),
            (true, None) => return fail(number.at, format!("{number} does not fit in 64 bits")),
        };
        Ok(Parsed::Op(Op::Wide(dst.reg, Wide::Imm(value))))
    }

    #[cold]
    fn too_large<T>(&self, dst: View, number: Number) -> Res<T> {
        fail(
            number.at,
            format!(
                "{number} does not fit in the 32 bits that are sign-extended: append ll, `{dst} = \
                 {number} ll`"
            ),
        )
    }

    /// `r1 = (s8)r2`
    fn extension(&mut self, dst: View) -> Res<Parsed<'a>> {
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
    fn load(&mut self, dst: View) -> Res<Parsed<'a>> {
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

    fn packet(&mut self, at: usize, dst: View, size: Size, signed: bool) -> Res<Op> {
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
    fn address_of(&mut self) -> Res<(Reg, i16)> {
        self.scan.expect(b'(')?;
        let place = self.place()?;
        self.scan.expect(b')')?;
        Ok(place)
    }

    /// `r2 + 4`
    #[inline]
    fn place(&mut self) -> Res<(Reg, i16)> {
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
    fn store(&mut self) -> Res<Op> {
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
    fn locked(&mut self) -> Res<Op> {
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
    fn atomic_size(&mut self) -> Res<Size> {
        self.scan.space();
        let at = self.scan.at;
        match self.scan.size()? {
            (size @ (Size::W | Size::DW), false) => Ok(size),
            _ => fail(at, "atomic operations are of u32 or u64"),
        }
    }

    /// `store_release((u64 *)(r1 + 0), r2)`
    fn store_release(&mut self) -> Res<Op> {
        self.scan.expect(b'(')?;
        let size = self.unsigned_size()?;
        let (base, off) = self.address_of()?;
        self.scan.expect(b',')?;
        let src = self.scan.register()?;
        view_of(src, size)?;
        self.scan.expect(b')')?;
        Ok(Op::StoreRelease(size, base, off, src.reg))
    }

    fn unsigned_size(&mut self) -> Res<Size> {
        self.scan.space();
        let at = self.scan.at;
        match self.scan.size()? {
            (size, false) => Ok(size),
            (_, true) => fail(at, "this access has no sign: use u8, u16, u32 or u64"),
        }
    }

    /// What starts with a word behind `=`.
    fn function(&mut self, dst: View) -> Res<Parsed<'a>> {
        let start = self.scan.at;
        let word = self.scan.word();
        if let Some((how, digits)) = swap(word) {
            return self.swap(start, dst, how, digits).map(Parsed::Op);
        }
        if let Some(atomic) = atomic(word) {
            return self.fetching(dst, word, atomic).map(Parsed::Op);
        }
        match word {
            "addr_space_cast" => self.cast(dst).map(Parsed::Op),
            "load_acquire" => {
                self.scan.expect(b'(')?;
                let size = self.unsigned_size()?;
                let (base, off) = self.address_of()?;
                self.scan.expect(b')')?;
                view_of(dst, size)?;
                Ok(Parsed::Op(Op::LoadAcquire(size, dst.reg, base, off)))
            }
            "map" | "section" | "ksym" | "func" | "btf_id" => self.reference(start, dst, word),
            _ => {
                self.scan.at = start;
                self.scan.expected(
                    "a register, a number, `*(`, `(s8)`, be16, le16, bswap16, addr_space_cast, \
                     load_acquire, atomic_fetch_add, xchg_64, cmpxchg_64, map[, section[, ksym[, \
                     func[ or btf_id[",
                )
            }
        }
    }

    /// `r1 = be16 r1`
    fn swap(&mut self, at: usize, dst: View, how: Swap, digits: &str) -> Res<Op> {
        let width = match digits {
            "16" => 16,
            "32" => 32,
            "64" => 64,
            _ => {
                let digits = shorten(digits);
                return fail(
                    at,
                    format!("a byte swap to {digits} bits: use 16, 32 or 64"),
                );
            }
        };
        let src = self.scan.register()?;
        whole(dst)?;
        same_register(dst, src)?;
        Ok(Op::Swap(how, width, dst.reg))
    }

    /// `r1 = addr_space_cast(r2, 0, 1)`
    fn cast(&mut self, dst: View) -> Res<Op> {
        whole(dst)?;
        self.scan.expect(b'(')?;
        let src = self.scan.register()?;
        whole(src)?;
        self.scan.expect(b',')?;
        let high = self.space_number()?;
        self.scan.expect(b',')?;
        let low = self.space_number()?;
        self.scan.expect(b')')?;
        let spaces = u32::from(high) << 16 | u32::from(low);
        Ok(Op::Cast(dst.reg, src.reg, same_bits(spaces)))
    }

    fn space_number(&mut self) -> Res<u16> {
        let number = self.scan.number("the number of an address space")?;
        match u16::try_from(number.magnitude) {
            Ok(v) if !number.negative => Ok(v),
            _ => fail(
                number.at,
                format!("address space {number} is not within 0 to 65535"),
            ),
        }
    }

    /// `r2 = atomic_fetch_add((u64 *)(r1 + 0), r2)`, `r2 = xchg_64(r1 + 0, r2)`,
    /// `r0 = cmpxchg_64(r1 + 0, r0, r2)`
    fn fetching(&mut self, dst: View, word: &str, op: AtomicOp) -> Res<Op> {
        self.scan.expect(b'(')?;
        let size = match word {
            "xchg_64" | "cmpxchg_64" => Size::DW,
            "xchg32_32" | "cmpxchg32_32" => Size::W,
            _ => self.atomic_size()?,
        };
        let (base, off) = if word.starts_with("atomic") {
            self.address_of()?
        } else {
            self.place()?
        };
        self.scan.expect(b',')?;
        if op == AtomicOp::CmpXchg {
            let old = self.scan.register()?;
            view_of(old, size)?;
            for view in [dst, old] {
                if view.reg != Reg(0) {
                    return fail(
                        view.at,
                        format!("cmpxchg compares with r0, not with {view}"),
                    );
                }
            }
            self.scan.expect(b',')?;
        }
        let src = self.scan.register()?;
        view_of(src, size)?;
        view_of(dst, size)?;
        if op != AtomicOp::CmpXchg {
            same_register(dst, src)?;
        }
        self.scan.expect(b')')?;
        Ok(Op::Atomic(op, size, base, off, src.reg))
    }

    /// `r1 = map[name] + 8` and the like.
    fn reference(&mut self, start: usize, dst: View, word: &str) -> Res<Parsed<'a>> {
        whole(dst)?;
        self.scan.expect(b'[')?;
        self.scan.space();
        let at = self.scan.at;
        let inside = match word {
            "map" => self.map(dst.reg)?,
            "btf_id" => {
                let id = self.field("a BTF id")?;
                let fd = if self.scan.eat(b':') {
                    self.field("the fd of a BTF")?
                } else {
                    0
                };
                Parsed::Op(Op::Wide(dst.reg, Wide::BtfId(id, fd)))
            }
            "func" => match self.to("a label or pc+N")? {
                To::Label(at, name) => Parsed::Jump(Op::Wide(dst.reg, Wide::Func(0)), at, name),
                To::Distance(v) => match i32::try_from(v) {
                    Ok(v) => Parsed::Op(Op::Wide(dst.reg, Wide::Func(v))),
                    Err(_) => return fail(at, format!("distance {v} does not fit in 32 bits")),
                },
            },
            "ksym" => {
                let name = self.name("the name of a kernel variable")?.to_owned();
                Parsed::Reloc(Op::Wide(dst.reg, Wide::BtfId(0, 0)), Target::Ksym(name))
            }
            _ => match self.scan.word() {
                ".data" => section(dst.reg, ".data"),
                ".rodata" => section(dst.reg, ".rodata"),
                ".bss" => section(dst.reg, ".bss"),
                _ => {
                    self.scan.at = at;
                    return self.scan.expected(".data, .rodata or .bss");
                }
            },
        };
        self.scan.expect(b']')?;
        self.scan.space();
        let at = self.scan.at;
        let offset = match self.scan.peek() {
            b'+' | b'-' => Some(self.scan.offset("an offset")?),
            _ => None,
        };
        with_offset(inside, start, at, offset)
    }

    /// The inside of `map[…]`.
    fn map(&mut self, dst: Reg) -> Res<Parsed<'a>> {
        let at = self.scan.at;
        let name = self.scan.word();
        if self.scan.peek() == b':' {
            self.scan.at += 1;
            let wide = match name {
                "fd" => Wide::MapFd(self.field("an fd")?),
                "idx" => Wide::MapIdx(self.field("an index")?),
                _ => {
                    return fail(
                        at,
                        "instructions refer to maps by fd, index or name: write map[fd:5], \
                         map[idx:5] or map[name]",
                    );
                }
            };
            return Ok(Parsed::Op(Op::Wide(dst, wide)));
        }
        self.scan.at = at;
        let name = self.name("the name of a map, fd:N or idx:N")?;
        match Name::new(name) {
            Some(name) => Ok(Parsed::Reloc(
                Op::Wide(dst, Wide::MapFd(0)),
                Target::Map(name),
            )),
            None => fail(
                at,
                format!(
                    "`{}` is no map's name: 1 to 15 of A-Za-z0-9_.",
                    shorten(name)
                ),
            ),
        }
    }

    /// A name that may start with a digit.
    fn name(&mut self, what: &str) -> Res<&'a str> {
        let from = self.scan.at;
        while !matches!(self.scan.peek(), b']' | b'\n' | b' ' | b'\t') {
            self.scan.at += 1;
        }
        match self.scan.between(from, self.scan.at) {
            "" => self.scan.expected(what),
            name => Ok(name),
        }
    }

    /// A signed field of 32 bits.
    fn field(&mut self, what: &str) -> Res<i32> {
        let number = self.scan.number(what)?;
        match number.to_i32() {
            Some(v) => Ok(v),
            None => fail(number.at, format!("{number} does not fit in 32 bits")),
        }
    }

    /// `if r1 == 5 goto +3`
    fn conditional(&mut self) -> Res<Parsed<'a>> {
        let dst = self.scan.register()?;
        self.scan.space();
        let from = self.scan.at;
        let mut length = usize::from(self.scan.peek() == b's');
        while matches!(self.scan.peek_at(length), b'=' | b'!' | b'<' | b'>' | b'&') {
            length += 1;
        }
        let symbol = self.scan.between(from, from + length);
        let Some(&jmp) = Jmp::ALL.iter().find(|jmp| jmp.symbol() == symbol) else {
            return self
                .scan
                .expected("one of == != > >= < <= s> s>= s< s<= & behind the register");
        };
        self.scan.at += length;
        let src = self.operand(dst)?;
        if !self.scan.eat_word("goto") {
            return self.scan.expected("goto");
        }
        let bits = width(dst);
        self.jump(|off| Op::Jump(jmp, bits, dst.reg, src, off))
    }

    /// The target of a jump of 16 bits.
    #[inline]
    fn jump(&mut self, op: impl Fn(i16) -> Op) -> Res<Parsed<'a>> {
        self.scan.space();
        let at = self.scan.at;
        let parsed = match self.to("a label, +N or -N")? {
            To::Label(at, name) => Parsed::Jump(op(0), at, name),
            To::Distance(v) => match i16::try_from(v) {
                Ok(v) => Parsed::Op(op(v)),
                Err(_) => {
                    return fail(
                        at,
                        format!("distance {v} is not within -32768 to 32767: use gotol"),
                    );
                }
            },
        };
        self.comment();
        Ok(parsed)
    }

    fn long_jump(&mut self) -> Res<Parsed<'a>> {
        self.scan.space();
        let at = self.scan.at;
        let parsed = match self.to("a label, +N or -N")? {
            To::Label(at, name) => Parsed::Jump(Op::JaLong(0), at, name),
            To::Distance(v) => match i32::try_from(v) {
                Ok(v) => Parsed::Op(Op::JaLong(v)),
                Err(_) => return fail(at, format!("distance {v} does not fit in 32 bits")),
            },
        };
        self.comment();
        Ok(parsed)
    }

    /// llvm-objdump's ` <name+0x8>` behind a target.
    #[inline]
    fn comment(&mut self) {
        self.scan.space();
        if self.scan.peek() == b'<' {
            while !matches!(self.scan.peek(), b'>' | b'\n') {
                self.scan.at += 1;
            }
            self.scan.eat(b'>');
        }
    }

    /// `+5`, `pc+5`, `name`
    #[inline]
    fn to(&mut self, what: &str) -> Res<To<'a>> {
        self.scan.space();
        let at = self.scan.at;
        let name = self.scan.word();
        if name.is_empty() || name == "pc" && matches!(self.scan.peek(), b'+' | b'-') {
            return self.scan.offset(what).map(To::Distance);
        }
        Ok(To::Label(at, name))
    }

    /// `call 1`, `call map_lookup_elem#1`, `call pc+5`, `call kfunc 12@3`, `call kfunc[name]`,
    /// `call name`
    fn call(&mut self) -> Res<Parsed<'a>> {
        self.scan.space();
        let at = self.scan.at;
        if self.scan.is_at_number() {
            let id = self.field("a helper's number")?;
            self.comment();
            return Ok(Parsed::Op(Op::Call(Callee::Helper(id))));
        }
        let name = self.scan.word();
        if name == "kfunc" {
            self.scan.space();
            if self.scan.is_at_number() {
                return self.kfunc().map(Parsed::Op);
            }
            if self.scan.eat(b'[') {
                self.scan.space();
                let name = self.name("the name of a kernel function")?.to_owned();
                self.scan.expect(b']')?;
                let op = Op::Call(Callee::Kfunc(0, 0));
                return Ok(Parsed::Reloc(op, Target::Kfunc(name)));
            }
        }
        let distance = name == "pc" && matches!(self.scan.peek(), b'+' | b'-');
        if distance {
            let v = self.scan.offset("+ or -")?;
            // bpftool: `call pc+5#name`
            if self.scan.peek() == b'#' {
                self.scan.at += 1;
                self.scan.word();
            }
            return match i32::try_from(v) {
                Ok(v) => Ok(Parsed::Op(Op::Call(Callee::Local(v)))),
                Err(_) => fail(at, format!("distance {v} does not fit in 32 bits")),
            };
        }
        if name.is_empty() {
            return self.scan.expected("a helper, a label, pc+N or kfunc");
        }
        if self.scan.peek() == b'#' {
            self.scan.at += 1;
            let id = self.field("a helper's number")?;
            return numbered(at, name, id).map(Parsed::Op);
        }
        Ok(Parsed::Call(at, name))
    }

    /// `12`, `12@3`
    fn kfunc(&mut self) -> Res<Op> {
        let id = self.field("a BTF id")?;
        let module = if self.scan.peek() == b'@' {
            self.scan.at += 1;
            let number = self.scan.number("the index of a module's BTF")?;
            let module = number.signed().and_then(|v| i16::try_from(v).ok());
            match module {
                Some(module) => module,
                None => {
                    let message = format!("module index {number} is not within -32768 to 32767");
                    return fail(number.at, message);
                }
            }
        } else {
            0
        };
        Ok(Op::Call(Callee::Kfunc(id, module)))
    }
}

/// What `name#id` of a log calls: helpers have ids of the table, kernel functions have BTF ids.
fn numbered(at: usize, name: &str, id: i32) -> Res<Op> {
    let known = u32::try_from(id).ok().and_then(Helper::by_id);
    let short = name.strip_prefix("bpf_").unwrap_or(name);
    match known {
        Some(helper) if helper.name == short => Ok(Op::Call(Callee::Helper(id))),
        Some(helper) => {
            let (name, known) = (shorten(name), helper.name);
            fail(
                at,
                format!("helper {id} is {known}, not {name}: write `call {known}#{id}`"),
            )
        }
        None => match Helper::by_name(name) {
            Some(helper) => {
                let (name, known) = (shorten(name), helper.id);
                fail(
                    at,
                    format!("{name} is helper {known}, not {id}: write `call {name}#{known}`"),
                )
            }
            None if name == "unknown" => Ok(Op::Call(Callee::Helper(id))),
            None => Ok(Op::Call(Callee::Kfunc(id, 0))),
        },
    }
}

fn section<'a>(dst: Reg, name: &'static str) -> Parsed<'a> {
    Parsed::Reloc(
        Op::Wide(dst, Wide::MapValue(0, 0)),
        Target::Section(name, 0),
    )
}

/// The reference with the offset that is written behind its bracket.
fn with_offset(
    inside: Parsed<'_>,
    start: usize,
    at: usize,
    offset: Option<i64>,
) -> Res<Parsed<'_>> {
    let unsigned = |v: i64| match u32::try_from(v) {
        Ok(v) => Ok(v),
        Err(_) => fail(at, format!("offset {v} is not within 0 to 4294967295")),
    };
    let signed = |v: i64| match i32::try_from(v) {
        Ok(v) => Ok(v),
        Err(_) => fail(at, format!("offset {v} does not fit in 32 bits")),
    };
    Ok(match (inside, offset) {
        (Parsed::Reloc(_, Target::Section(..)), None) => {
            return fail(
                start,
                "a section needs an offset: write `section[.data] + 0`",
            );
        }
        (Parsed::Reloc(op, Target::Section(name, _)), Some(v)) => {
            Parsed::Reloc(op, Target::Section(name, unsigned(v)?))
        }
        (Parsed::Reloc(Op::Wide(dst, _), Target::Map(name)), Some(v)) => {
            let op = Op::Wide(dst, Wide::MapValue(0, 0));
            Parsed::Reloc(op, Target::MapValue(name, unsigned(v)?))
        }
        (Parsed::Op(Op::Wide(dst, Wide::MapFd(fd))), Some(v)) => {
            Parsed::Op(Op::Wide(dst, Wide::MapValue(fd, signed(v)?)))
        }
        (Parsed::Op(Op::Wide(dst, Wide::MapIdx(index))), Some(v)) => {
            Parsed::Op(Op::Wide(dst, Wide::MapIdxValue(index, signed(v)?)))
        }
        (_, Some(_)) => return fail(at, "this reference takes no offset: leave it out"),
        (other, None) => other,
    })
}

/// The field that has the bits of `v`.
const fn same_bits(v: u32) -> i32 {
    i32::from_ne_bytes(v.to_ne_bytes())
}

const fn width(view: View) -> Bits {
    if view.half { Bits::B32 } else { Bits::B64 }
}

#[inline]
fn same_width(dst: View, src: View) -> Res<()> {
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
fn same_register(dst: View, src: View) -> Res<()> {
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
fn whole(view: View) -> Res<()> {
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
fn view_of(view: View, size: Size) -> Res<()> {
    if size == Size::DW {
        whole(view)
    } else {
        Ok(())
    }
}

/// `be16` and the like: what, and the digits behind it.
fn swap(word: &str) -> Option<(Swap, &str)> {
    let (how, digits) = if let Some(digits) = word.strip_prefix("be") {
        (Swap::Be, digits)
    } else if let Some(digits) = word.strip_prefix("le") {
        (Swap::Le, digits)
    } else {
        (Swap::Always, word.strip_prefix("bswap")?)
    };
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    is_number.then_some((how, digits))
}

/// `atomic_fetch_add`, the kernel's `atomic64_fetch_add` and `atomic_xchg`, LLVM's `xchg_64`.
fn atomic(word: &str) -> Option<AtomicOp> {
    let name = match word {
        "xchg_64" | "xchg32_32" => return Some(AtomicOp::Xchg),
        "cmpxchg_64" | "cmpxchg32_32" => return Some(AtomicOp::CmpXchg),
        _ => word
            .strip_prefix("atomic_")
            .or_else(|| word.strip_prefix("atomic64_"))?,
    };
    AtomicOp::ALL
        .iter()
        .copied()
        .find(|op| op.fetches() && op.text() == name)
}
