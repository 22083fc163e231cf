//! The reader of bytes under the parser: words, numbers, registers and what to say when one of
//! them is missing.

use crate::isa::{Reg, Size};

/// What is wrong, and at which byte.
#[derive(Debug)]
pub(super) struct Fail {
    pub(super) at: usize,
    pub(super) message: String,
}

pub(super) type Res<T> = Result<T, Box<Fail>>;

pub(super) fn fail<T>(at: usize, message: impl Into<String>) -> Res<T> {
    Err(Box::new(Fail {
        at,
        message: message.into(),
    }))
}

/// A number as it is written: sign and magnitude.
#[derive(Clone, Copy)]
pub(super) struct Number {
    pub(super) at: usize,
    pub(super) negative: bool,
    pub(super) magnitude: u64,
}

impl Number {
    /// The number, if it fits 64 bits with a sign.
    pub(super) fn signed(self) -> Option<i64> {
        if self.negative {
            0i64.checked_sub_unsigned(self.magnitude)
        } else {
            i64::try_from(self.magnitude).ok()
        }
    }

    pub(super) fn to_i32(self) -> Option<i32> {
        self.signed().and_then(|v| i32::try_from(v).ok())
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.negative { "-" } else { "" })?;
        self.magnitude.fmt(f)
    }
}

/// A register and the width that its letter says.
#[derive(Clone, Copy)]
pub(super) struct View {
    pub(super) at: usize,
    pub(super) half: bool,
    pub(super) reg: Reg,
}

impl std::fmt::Display for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}{}",
            if self.half { 'w' } else { 'r' },
            self.reg.number()
        )
    }
}

#[derive(Clone)]
pub(super) struct Scan<'a> {
    text: &'a str,
    bytes: &'a [u8],
    pub(super) at: usize,
}

const fn in_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'$' | b'@' | 0x80..)
}

impl<'a> Scan<'a> {
    pub(super) fn new(text: &'a str) -> Scan<'a> {
        Scan {
            text,
            bytes: text.as_bytes(),
            at: 0,
        }
    }

    /// The next byte; the text's end looks like a line's.
    #[inline]
    pub(super) fn peek(&self) -> u8 {
        self.peek_at(0)
    }

    #[inline]
    pub(super) fn peek_at(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(b'\n')
    }

    #[inline]
    pub(super) fn is_done(&self) -> bool {
        self.at >= self.bytes.len()
    }

    #[inline]
    pub(super) fn space(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\r') {
            self.at += 1;
        }
    }

    /// The bytes of the text between two places.
    pub(super) fn between(&self, from: usize, to: usize) -> &'a str {
        self.text.get(from..to).unwrap_or_default()
    }

    /// Takes the byte, if it is next after white space.
    #[inline]
    pub(super) fn eat(&mut self, b: u8) -> bool {
        self.space();
        let found = self.peek() == b;
        self.at += usize::from(found);
        found
    }

    #[inline]
    pub(super) fn expect(&mut self, b: u8) -> Res<()> {
        if self.eat(b) {
            Ok(())
        } else {
            self.expected(&format!("`{}`", char::from(b)))
        }
    }

    /// Takes the letters, if they are next after white space as a whole word.
    #[inline]
    pub(super) fn eat_word(&mut self, word: &str) -> bool {
        self.space();
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let found = rest.starts_with(word.as_bytes()) && !in_word(self.peek_at(word.len()));
        if found {
            self.at += word.len();
        }
        found
    }

    /// A name: letters, digits, `_`, `.`, `$`, `@`, not starting with a digit. Empty if none.
    #[inline]
    pub(super) fn word(&mut self) -> &'a str {
        self.space();
        let from = self.at;
        if !self.peek().is_ascii_digit() {
            while in_word(self.peek()) {
                self.at += 1;
            }
        }
        self.between(from, self.at)
    }

    /// Says what should be here, and what is.
    #[cold]
    pub(super) fn expected<T>(&self, what: &str) -> Res<T> {
        let mut ahead = self.clone();
        ahead.space();
        let at = ahead.at;
        while in_word(ahead.peek()) {
            ahead.at += 1;
        }
        if ahead.at == at && !ahead.is_at_end() {
            ahead.at += 1;
        }
        match self.between(at, ahead.at) {
            "" => fail(at, format!("expected {what}, found the end of the line")),
            found => fail(at, format!("expected {what}, found `{}`", shorten(found))),
        }
    }

    /// True at the line's end or at a comment that runs to it.
    #[inline]
    pub(super) fn is_at_end(&self) -> bool {
        match self.peek() {
            b'\n' | b';' => true,
            b'/' => self.peek_at(1) == b'/',
            _ => false,
        }
    }

    /// Goes to the end of the line.
    #[inline]
    pub(super) fn skip_line(&mut self) {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        self.at += rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len());
    }

    /// True if a number starts here.
    #[inline]
    pub(super) fn is_at_number(&self) -> bool {
        match self.peek() {
            b'0'..=b'9' => true,
            b'-' | b'+' => self.peek_at(1).is_ascii_digit(),
            _ => false,
        }
    }

    /// A number, decimal or `0x`, with or without a sign.
    #[inline]
    pub(super) fn number(&mut self, what: &str) -> Res<Number> {
        self.space();
        let at = self.at;
        let negative = self.peek() == b'-';
        if negative || self.peek() == b'+' {
            self.at += 1;
        }
        if !self.peek().is_ascii_digit() {
            self.at = at;
            return self.expected(what);
        }
        let magnitude = self.magnitude(at)?;
        Ok(Number {
            at,
            negative,
            magnitude,
        })
    }

    #[inline]
    fn magnitude(&mut self, start: usize) -> Res<u64> {
        let mut value: u64 = 0;
        let mut fits = true;
        if self.peek() == b'0' && matches!(self.peek_at(1), b'x' | b'X') {
            self.at += 2;
            let from = self.at;
            while let Some(digit) = hex_digit(self.peek()) {
                fits &= value >> 60 == 0;
                value = value << 4 | u64::from(digit);
                self.at += 1;
            }
            if from == self.at {
                return self.expected("hexadecimal digits after `0x`");
            }
        } else {
            while self.peek().is_ascii_digit() {
                let digit = u64::from(self.peek() - b'0');
                match value.checked_mul(10).and_then(|v| v.checked_add(digit)) {
                    Some(v) => value = v,
                    None => fits = false,
                }
                self.at += 1;
            }
        }
        if in_word(self.peek()) && self.peek() != b'@' {
            while in_word(self.peek()) {
                self.at += 1;
            }
            let found = shorten(self.between(start, self.at));
            return fail(
                start,
                format!("`{found}` is no number: write 12, -12 or 0x1f"),
            );
        }
        if !fits {
            let found = shorten(self.between(start, self.at));
            return fail(start, format!("{found} does not fit in 64 bits"));
        }
        Ok(value)
    }

    /// A number of 16 bits after `+` or `-`, which may stand apart: `+ 8`, `-8`, `+0x8`.
    #[inline]
    pub(super) fn offset(&mut self, what: &str) -> Res<i64> {
        self.space();
        let at = self.at;
        let negative = match self.peek() {
            b'+' => false,
            b'-' => true,
            _ => return self.expected(what),
        };
        self.at += 1;
        self.space();
        if !self.peek().is_ascii_digit() {
            return self.expected("a number after the sign");
        }
        let magnitude = self.magnitude(self.at)?;
        let number = Number {
            at,
            negative,
            magnitude,
        };
        match number.signed() {
            Some(v) => Ok(v),
            None => fail(at, format!("{number} does not fit in 64 bits")),
        }
    }

    /// True if a register starts here: `r` or `w` and a digit.
    #[inline]
    pub(super) fn is_at_register(&self) -> bool {
        matches!(self.peek(), b'r' | b'w') && self.peek_at(1).is_ascii_digit()
    }

    #[inline]
    pub(super) fn register(&mut self) -> Res<View> {
        self.space();
        if !self.is_at_register() {
            return self.expected("a register (r0 to r10)");
        }
        let at = self.at;
        let half = self.peek() == b'w';
        let mut number = self.peek_at(1) - b'0';
        self.at += 2;
        if self.peek().is_ascii_digit() {
            number = if number == 1 && self.peek() == b'0' {
                10
            } else {
                11
            };
            self.at += 1;
        }
        if number > 10 || in_word(self.peek()) {
            while in_word(self.peek()) {
                self.at += 1;
            }
            let found = shorten(self.between(at, self.at));
            return fail(at, format!("`{found}` is no register: BPF has r0 to r10"));
        }
        Ok(View {
            at,
            half,
            reg: Reg(number),
        })
    }

    /// The type in front of an address, from `(` on: `(u32 *)`; true for `s`.
    #[inline]
    pub(super) fn size(&mut self) -> Res<(Size, bool)> {
        self.expect(b'(')?;
        self.space();
        let from = self.at;
        let signed = match self.word() {
            "u8" => (Size::B, false),
            "u16" => (Size::H, false),
            "u32" => (Size::W, false),
            "u64" => (Size::DW, false),
            "s8" => (Size::B, true),
            "s16" => (Size::H, true),
            "s32" => (Size::W, true),
            _ => {
                self.at = from;
                return self.expected("a type: u8, u16, u32, u64, s8, s16 or s32");
            }
        };
        self.expect(b'*')?;
        self.expect(b')')?;
        Ok(signed)
    }
}

pub(super) fn hex_digit(b: u8) -> Option<u8> {
    match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        b'A'..=b'F' => Some(b - b'A' + 10),
        _ => None,
    }
}

/// The beginning of what was found, for a message.
pub(super) fn shorten(found: &str) -> &str {
    match found.char_indices().nth(40) {
        Some((end, _)) => &found[..end],
        None => found,
    }
}
