//! Bytes as pairs of hexadecimal digits.

use bpfsmith_asm::isa::{Order, Raw};

/// What is wrong with hexadecimal digits, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HexError {
    /// The line, from 1.
    pub line: u32,
    /// The character of the line, from 1.
    pub column: u32,
    /// What is wrong, and what to do.
    pub message: String,
}

/// The bytes in a text, and where each group of eight starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Line and column of bytes 0, 8, 16 and so on, from 1.
    pub positions: Vec<(u32, u32)>,
}

/// Reads pairs of digits; white space may stand between pairs.
///
/// # Errors
/// The first character that is no digit, or a digit without its other half.
pub fn read(text: &str) -> Result<Bytes, HexError> {
    let mut out = Bytes::default();
    let (mut line, mut column) = (1, 0);
    let mut half: Option<(u32, (u32, u32))> = None;
    let lone = |(digit, (line, column)): (u32, (u32, u32))| HexError {
        line,
        column,
        message: format!("`{digit:x}` stands alone: a byte is two hexadecimal digits"),
    };
    for c in text.chars() {
        column += 1;
        let Some(digit) = c.to_digit(16) else {
            if let Some(half) = half {
                return Err(lone(half));
            }
            if c == '\n' {
                (line, column) = (line + 1, 0);
            } else if !c.is_whitespace() {
                return Err(HexError {
                    line,
                    column,
                    message: format!("`{c}` is no hexadecimal digit: write bytes as `b7 00`"),
                });
            }
            continue;
        };
        let Some((high, start)) = half.take() else {
            half = Some((digit, (line, column)));
            continue;
        };
        if out.bytes.len().is_multiple_of(8) {
            out.positions.push(start);
        }
        out.bytes
            .push(u8::try_from(high << 4 | digit).unwrap_or_default());
    }
    match half {
        Some(half) => Err(lone(half)),
        None => Ok(out),
    }
}

/// Prints the slots as a little-endian machine reads them, one to a line.
#[must_use]
pub fn write(insns: &[Raw]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(insns.len() * 24);
    for raw in insns {
        for (i, b) in raw.to_bytes(Order::Little).into_iter().enumerate() {
            if i > 0 {
                out.push(' ');
            }
            out.push(char::from(DIGITS[usize::from(b >> 4)]));
            out.push(char::from(DIGITS[usize::from(b & 15)]));
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refuses(text: &str, line: u32, column: u32, message: &str) {
        let error = HexError {
            line,
            column,
            message: message.to_owned(),
        };
        assert_eq!(read(text), Err(error), "{text:?}");
    }

    #[test]
    fn pairs_in_either_case_with_any_white_space_between() {
        let bytes = read("B7b7\t00\r\n  0a\u{a0}FF\n").expect("pairs");
        assert_eq!(bytes.bytes, [0xb7, 0xb7, 0, 0x0a, 0xff]);
        assert_eq!(bytes.positions, [(1, 1)]);
        assert_eq!(read(""), Ok(Bytes::default()));
        assert_eq!(read(" \n\n"), Ok(Bytes::default()));
    }

    #[test]
    fn every_eighth_byte_has_its_place() {
        let bytes = read("0011223344556677\n 8899aabbccddeeff 00").expect("pairs");
        assert_eq!(bytes.bytes.len(), 17);
        assert_eq!(bytes.positions, [(1, 1), (2, 2), (2, 19)]);
    }

    #[test]
    fn what_is_no_pair_is_refused_where_it_is() {
        refuses(
            "b",
            1,
            1,
            "`b` stands alone: a byte is two hexadecimal digits",
        );
        refuses(
            "b7 0 00",
            1,
            4,
            "`0` stands alone: a byte is two hexadecimal digits",
        );
        refuses(
            "b7\n 5\n",
            2,
            2,
            "`5` stands alone: a byte is two hexadecimal digits",
        );
        refuses(
            "0x",
            1,
            1,
            "`0` stands alone: a byte is two hexadecimal digits",
        );
        refuses(
            "b7\n, 00",
            2,
            1,
            "`,` is no hexadecimal digit: write bytes as `b7 00`",
        );
        refuses(
            "é",
            1,
            1,
            "`é` is no hexadecimal digit: write bytes as `b7 00`",
        );
        refuses(
            "00\0",
            1,
            3,
            "`\0` is no hexadecimal digit: write bytes as `b7 00`",
        );
    }
}
