//! `.BTF.ext`: which instruction of an ELF section belongs to which function and line, and which
//! ones hold offsets that are looked up at load.

use crate::error::{Error, Section};
use crate::header;
use crate::kind::TypeId;
use bpfsmith_uapi::Order;
use core::ops::Range;

/// The `.BTF.ext` section of an object file. Names and types are those of its `.BTF` section.
#[derive(Clone, Debug)]
pub struct Ext<B = Vec<u8>> {
    bytes: B,
    order: Order,
    funcs: Range<usize>,
    lines: Range<usize>,
    relos: Range<usize>,
}

/// The start of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FuncInfo {
    /// The ELF section, as an offset into the strings.
    pub section: u32,
    /// Where the function starts, in bytes from the start of the section.
    pub offset: u32,
    /// The [`Kind::FUNC`](crate::Kind::FUNC).
    pub func: TypeId,
}

/// The source line of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LineInfo {
    /// The ELF section, as an offset into the strings.
    pub section: u32,
    /// Where the instruction is, in bytes from the start of the section.
    pub offset: u32,
    /// The file, as an offset into the strings.
    pub file: u32,
    /// The text of the line, as an offset into the strings.
    pub text: u32,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
}

/// An instruction that holds a fact about a type of the running kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CoreRelo {
    /// The ELF section, as an offset into the strings.
    pub section: u32,
    /// Where the instruction is, in bytes from the start of the section.
    pub offset: u32,
    /// The type.
    pub ty: TypeId,
    /// The way to a member, as `0:1:2` in the strings.
    pub access: u32,
    /// Which fact is wanted: `enum bpf_core_relo_kind`.
    pub kind: u32,
}

impl<B: AsRef<[u8]>> Ext<B> {
    /// Reads the section, in either byte order.
    ///
    /// # Errors
    ///
    /// When the header is not one, or a part of it, or of a list in it, lies outside of the bytes.
    pub fn parse(bytes: B) -> Result<Ext<B>, Error> {
        let all = bytes.as_ref();
        let start = header::start(all, 24)?;
        let (order, length) = start;
        let relos = if length >= 32 {
            header::section(all, start, 24, Section::CoreRelo)?
        } else {
            0..0
        };
        let ext = Ext {
            order,
            funcs: header::section(all, start, 8, Section::FuncInfo)?,
            lines: header::section(all, start, 16, Section::LineInfo)?,
            relos,
            bytes,
        };
        for (section, range, least) in [
            (Section::FuncInfo, &ext.funcs, 8),
            (Section::LineInfo, &ext.lines, 16),
            (Section::CoreRelo, &ext.relos, 16),
        ] {
            let bytes = ext.bytes.as_ref().get(range.clone()).unwrap_or_default();
            check(bytes, order, least).ok_or(Error::Records(section))?;
        }
        Ok(ext)
    }

    /// Its byte order.
    pub fn order(&self) -> Order {
        self.order
    }

    /// Starts of functions.
    pub fn funcs(&self) -> impl Iterator<Item = FuncInfo> {
        self.records(&self.funcs).map(|record| FuncInfo {
            section: record.section,
            offset: record.word(0),
            func: TypeId(record.word(4)),
        })
    }

    /// Lines of instructions.
    pub fn lines(&self) -> impl Iterator<Item = LineInfo> {
        self.records(&self.lines).map(|record| LineInfo {
            section: record.section,
            offset: record.word(0),
            file: record.word(4),
            text: record.word(8),
            line: record.word(12) >> 10,
            column: record.word(12) & 0x3ff,
        })
    }

    /// Instructions to fix up at load.
    pub fn relos(&self) -> impl Iterator<Item = CoreRelo> {
        self.records(&self.relos).map(|record| CoreRelo {
            section: record.section,
            offset: record.word(0),
            ty: TypeId(record.word(4)),
            access: record.word(8),
            kind: record.word(12),
        })
    }

    fn records(&self, range: &Range<usize>) -> Records<'_> {
        let bytes = self.bytes.as_ref().get(range.clone()).unwrap_or_default();
        Records {
            size: self.order.u32_at(bytes, 0).unwrap_or(0) as usize,
            rest: bytes.get(4..).unwrap_or_default(),
            order: self.order,
            section: 0,
            left: 0,
        }
    }
}

/// The record size, then for each ELF section its name, a count and that many records.
fn check(bytes: &[u8], order: Order, least: usize) -> Option<()> {
    if bytes.is_empty() {
        return Some(());
    }
    let size = order.u32_at(bytes, 0)? as usize;
    if size < least {
        return None;
    }
    let mut rest = bytes.get(4..)?;
    while !rest.is_empty() {
        let count = order.u32_at(rest, 4)? as usize;
        rest = rest.get(8..)?.get(size.checked_mul(count)?..)?;
    }
    Some(())
}

struct Records<'a> {
    size: usize,
    rest: &'a [u8],
    order: Order,
    section: u32,
    left: u32,
}

struct Record<'a> {
    section: u32,
    bytes: &'a [u8],
    order: Order,
}

impl Record<'_> {
    fn word(&self, at: usize) -> u32 {
        self.order.u32_at(self.bytes, at).unwrap_or(0)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        while self.left == 0 {
            self.section = self.order.u32_at(self.rest, 0)?;
            self.left = self.order.u32_at(self.rest, 4)?;
            self.rest = self.rest.get(8..)?;
        }
        let (bytes, rest) = self.rest.split_at_checked(self.size)?;
        self.rest = rest;
        self.left -= 1;
        Some(Record {
            section: self.section,
            bytes,
            order: self.order,
        })
    }
}
