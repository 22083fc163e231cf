//! Text to instructions.

use super::scan::{Fail, Res, Scan, fail, hex_digit, shorten};
use crate::isa::{Callee, Op, Raw, class};
use crate::kernel::{Ask, Question};
use crate::program::{Function, Reloc, Section, Target};
use bpfsmith_uapi::map::MapShape;
use bpfsmith_uapi::{Helper, ProgType};
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
    /// The program's name and type, of a `program` line.
    pub program: Option<(String, ProgType)>,
    /// The functions, of `func` lines.
    pub funcs: Vec<Function>,
    /// The maps, of `map` lines.
    pub maps: Vec<MapShape>,
    /// Global data, of `section` and `var` lines.
    pub sections: Vec<Section>,
}

/// What is wrong with a text, and where.
#[derive(Clone, PartialEq, Eq)]
pub struct TextError {
    /// The line, from 1.
    pub line: u32,
    /// The character of the line, from 1.
    pub column: u32,
    /// What is wrong, and what to do.
    pub message: String,
}

bpfsmith_uapi::debug_as_display!(TextError);

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

pub(super) struct Parser<'a> {
    pub(super) scan: Scan<'a>,
    pub(super) text: Text,
    labels: HashMap<&'a str, (usize, u32)>,
    fixups: Vec<Fixup<'a>>,
    errors: Vec<TextError>,
    line: u32,
    line_start: usize,
    /// The opcode that a kernel log puts in front of the instruction: `(85)`.
    pub(super) logged: Option<u8>,
}

/// An instruction, and the name in it that stands for something.
pub(super) enum Parsed<'a> {
    Op(Op),
    Jump(Op, usize, &'a str),
    Call(usize, &'a str),
    Reloc(Op, Target),
}

/// What jumps go to.
pub(super) enum To<'a> {
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
        if self.directive()? {
            return self.end();
        }
        let parsed = self.instruction()?;
        self.scan.space();
        if self.scan.peek() == b'@' {
            return self.asking(parsed, start);
        }
        self.end()?;
        self.push(parsed, start)
    }

    /// An instruction with a question behind it.
    #[cold]
    fn asking(&mut self, parsed: Parsed<'a>, start: usize) -> Res<()> {
        let from = self.scan.at;
        let question = self.question()?;
        self.end()?;
        let op = match &parsed {
            Parsed::Op(op) | Parsed::Jump(op, ..) if question.ask.fits(*op) => *op,
            _ => {
                let word = question.ask.word();
                return fail(
                    from,
                    format!("this instruction has no place for `@{word}`: remove it"),
                );
            }
        };
        if let Some(problem) = question.ask.contradicts(op) {
            return fail(start, problem);
        }
        let at = u32::try_from(self.text.insns.len()).unwrap_or(u32::MAX);
        self.push(parsed, start)?;
        let target = Target::Kernel(question);
        self.text.relocs.push(Reloc { at, target });
        Ok(())
    }

    #[inline]
    fn end(&mut self) -> Res<()> {
        self.scan.space();
        if self.scan.is_at_end() {
            return Ok(());
        }
        self.scan.expected("the end of the line or a comment (`;`)")
    }

    /// `@field[tcp_sock.snd_cwnd]`
    fn question(&mut self) -> Res<Question> {
        let from = self.scan.at;
        self.scan.expect(b'@')?;
        let Some(ask) = Ask::from_word(self.scan.word()) else {
            let words: Vec<_> = Ask::ALL.iter().map(|ask| ask.word()).collect();
            return fail(from, format!("expected one of @{}", words.join(", @")));
        };
        self.scan.expect(b'[')?;
        let start = self.scan.at;
        // Names hold brackets of their own: `task_struct.comm[0]`.
        let mut open = 1_u32;
        loop {
            match self.scan.peek() {
                b'[' => open += 1,
                b']' => open -= 1,
                b'\n' => break,
                _ => {}
            }
            if open == 0 {
                break;
            }
            self.scan.at += 1;
        }
        let path = self.scan.between(start, self.scan.at).trim();
        if open > 0 && !path.is_empty() {
            return self.scan.expected("`]` behind the name");
        }
        let path = path.to_owned().into();
        let question = Question { ask, path };
        if !question.is_written() {
            return fail(
                start,
                "expected a name of the kernel, as in `@field[tcp_sock.snd_cwnd]`",
            );
        }
        self.scan.expect(b']')?;
        Ok(question)
    }

    fn push(&mut self, parsed: Parsed<'a>, start: usize) -> Res<()> {
        let slot = self.text.insns.len();
        let at = u32::try_from(slot).unwrap_or(u32::MAX);
        let op = match &parsed {
            Parsed::Op(op) | Parsed::Jump(op, ..) | Parsed::Reloc(op, _) => *op,
            Parsed::Call(..) => Op::Call(Callee::Local(0)),
        };
        // Before anything refers to the slot, which a refused line does not have.
        let slots = op.encode();
        if let Some(logged) = self.logged.filter(|&code| code != slots.first.code) {
            let code = slots.first.code;
            return fail(
                start,
                format!("this is opcode {code:02x}, but the line says ({logged:02x})"),
            );
        }
        match parsed {
            Parsed::Op(_) => {}
            Parsed::Jump(_, at, name) => {
                let column = self.column(at);
                self.fixups.push(Fixup {
                    slot,
                    name,
                    line: self.line,
                    column,
                    is_call: false,
                });
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
            }
            Parsed::Reloc(_, target) => {
                self.text.relocs.push(Reloc { at, target });
            }
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
        let slot = self.place_name(at, name)?;
        self.text.labels.push((slot, name.to_owned()));
        Ok(())
    }

    /// Makes a name stand for the next instruction.
    pub(super) fn place_name(&mut self, at: usize, name: &'a str) -> Res<u32> {
        let slot = self.text.insns.len();
        if let Some((_, line)) = self.labels.get(name) {
            let name = shorten(name);
            return fail(
                at,
                format!("label `{name}` is already bound in line {line}: rename one"),
            );
        }
        self.labels.insert(name, (slot, self.line));
        Ok(u32::try_from(slot).unwrap_or(u32::MAX))
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
}
