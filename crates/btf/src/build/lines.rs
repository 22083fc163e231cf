//! Function and line records: what makes the verifier quote the lines of a program.

use super::{BuildError, Builder};
use crate::btf::LONG_NAME;
use crate::kind::TypeId;

/// Bytes of one record of [`Builder::func_info`].
pub const FUNC_INFO_SIZE: u32 = 8;

/// Bytes of one record of [`Builder::line_info`].
pub const LINE_INFO_SIZE: u32 = 16;

/// Where an instruction comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Line<'a> {
    /// The slot of the instruction; it holds up to the next record.
    pub slot: u32,
    /// The source file.
    pub file: &'a str,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
    /// The text of the line.
    pub text: &'a str,
}

impl Builder {
    /// Which slot starts which function, as `PROG_LOAD` takes it. The kernel wants one record for
    /// each function of the program, the first at slot 0.
    pub fn func_info(&mut self, funcs: impl IntoIterator<Item = (u32, TypeId)>) -> Vec<u8> {
        let mut out = Vec::new();
        let mut before = None;
        for (slot, func) in funcs {
            self.ascending("function", &mut before, slot);
            out.extend(self.order.bytes(slot));
            out.extend(self.order.bytes(func.0));
        }
        out
    }

    /// Which slot comes from which line, as `PROG_LOAD` takes it. The kernel wants a record for the
    /// first slot of each function, and none for the second slot of a wide instruction.
    ///
    /// The texts become part of the BTF: call this before [`build`](Builder::build). Lines end at
    /// 4194303 and columns at 1023; what is behind counts as the last one. Texts end after 16383
    /// bytes.
    pub fn line_info<'a>(&mut self, lines: impl IntoIterator<Item = Line<'a>>) -> Vec<u8> {
        let lines = lines.into_iter();
        let mut out =
            Vec::with_capacity(lines.size_hint().1.unwrap_or(0) * LINE_INFO_SIZE as usize);
        let mut before = None;
        let (mut files, mut texts) = (Recent::new(), Recent::new());
        for line in lines {
            self.ascending("line", &mut before, line.slot);
            let (file, text) = (files.offset(self, line.file), texts.offset(self, line.text));
            let place = line.line.min((1 << 22) - 1) << 10 | line.column.min((1 << 10) - 1);
            let mut record = [0; LINE_INFO_SIZE as usize];
            let words = [line.slot, file, text, place];
            for (to, word) in record.chunks_exact_mut(4).zip(words) {
                to.copy_from_slice(&self.order.bytes(word));
            }
            out.extend_from_slice(&record);
        }
        out
    }

    fn ascending(&mut self, what: &'static str, before: &mut Option<u32>, slot: u32) {
        if let Some(before) = before.filter(|before| *before >= slot) {
            self.fail(BuildError::Order { what, slot, before });
        }
        *before = Some(slot);
    }
}

/// As much of a text as can be read.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(LONG_NAME - 1);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// Strings that were added before, by their place in memory: neighbouring lines share few, and those
/// who share one mostly hand over the same bytes.
struct Recent<'a> {
    slots: [(&'a str, u32); Recent::SLOTS],
}

impl<'a> Recent<'a> {
    const SLOTS: usize = 64;

    fn new() -> Recent<'a> {
        Recent {
            slots: [("", 0); Recent::SLOTS],
        }
    }

    fn offset(&mut self, builder: &mut Builder, text: &'a str) -> u32 {
        // Neighbours in memory are at least 16 bytes apart, if they are not small.
        let slot = &mut self.slots[text.as_ptr().addr() / 16 % Recent::SLOTS];
        if !std::ptr::eq(slot.0, text) || slot.1 == 0 {
            *slot = (text, builder.string(cut(text)));
        }
        slot.1
    }
}
