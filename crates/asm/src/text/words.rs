//! Instructions whose right side starts with a word: byte swaps, casts, atomics with a result, and
//! references to maps, sections, variables and functions.

use super::grammar::{same_register, view_of, whole};
use super::parse::{Parsed, Parser, To};
use super::scan::{Res, View, fail, shorten};
use crate::isa::{AtomicOp, Op, Reg, Size, Swap, Wide};
use crate::program::Target;
use bpfsmith_uapi::map::Name;

impl<'a> Parser<'a> {
    /// What starts with a word behind `=`.
    pub(super) fn function(&mut self, dst: View) -> Res<Parsed<'a>> {
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
    pub(super) fn swap(&mut self, at: usize, dst: View, how: Swap, digits: &str) -> Res<Op> {
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
    pub(super) fn cast(&mut self, dst: View) -> Res<Op> {
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
        Ok(Op::Cast(dst.reg, src.reg, spaces.cast_signed()))
    }

    pub(super) fn space_number(&mut self) -> Res<u16> {
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
    pub(super) fn fetching(&mut self, dst: View, word: &str, op: AtomicOp) -> Res<Op> {
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
    pub(super) fn reference(&mut self, start: usize, dst: View, word: &str) -> Res<Parsed<'a>> {
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
            _ => {
                let target = Target::Section(self.section_name()?, 0);
                Parsed::Reloc(Op::Wide(dst.reg, Wide::MapValue(0, 0)), target)
            }
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
    pub(super) fn map(&mut self, dst: Reg) -> Res<Parsed<'a>> {
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

    /// The name of a section that the loader knows.
    pub(super) fn section_name(&mut self) -> Res<&'static str> {
        self.scan.space();
        let at = self.scan.at;
        match self.scan.word() {
            ".data" => Ok(".data"),
            ".rodata" => Ok(".rodata"),
            ".bss" => Ok(".bss"),
            ".private" => Ok(".private"),
            _ => {
                self.scan.at = at;
                self.scan.expected(".data, .rodata, .bss or .private")
            }
        }
    }

    /// A name that may start with a digit.
    pub(super) fn name(&mut self, what: &str) -> Res<&'a str> {
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
    pub(super) fn field(&mut self, what: &str) -> Res<i32> {
        let number = self.scan.number(what)?;
        match number.to_i32() {
            Some(v) => Ok(v),
            None => fail(number.at, format!("{number} does not fit in 32 bits")),
        }
    }
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
        (Parsed::Reloc(Op::Wide(dst, _), Target::Section(name, _)), Some(v)) => {
            let v = unsigned(v)?;
            let op = Op::Wide(dst, Wide::MapValue(0, v.cast_signed()));
            Parsed::Reloc(op, Target::Section(name, v))
        }
        (Parsed::Reloc(Op::Wide(dst, _), Target::Map(name)), Some(v)) => {
            let v = unsigned(v)?;
            let op = Op::Wide(dst, Wide::MapValue(0, v.cast_signed()));
            Parsed::Reloc(op, Target::MapValue(name, v))
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
