//! A text of TOML in parts that can be read alone: each proxy and each group with a header of its own, and the rest.
//!
//! What a large configuration takes of time and memory is the tree of its text. Part by part there is only a small
//! one at a time, and whoever changes a part reads nothing else. A text in which something is written in pieces, or
//! otherwise than with such headers, has no parts: it is read as a whole.

use std::ops::Range;
use toml_edit::Key;

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// The bytes: from the comments above its first header to the end of its last line.
    pub(crate) bytes: Range<usize>,
    /// How many lines there are before it.
    pub(crate) lines: u32,
    /// What it is.
    pub(crate) kind: PartKind,
}

/// What a part is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PartKind {
    /// What stands before all headers.
    Top,
    /// One of `[[proxies]]`, with all that is below it.
    Proxy,
    /// The group of that name, `[groups.NAME]`, with all that is below it.
    Group(String),
    /// All below one name at the top.
    Other(String),
}

impl PartKind {
    /// Whether a header begins another part than this one.
    fn ends_at(&self, header: &Header) -> bool {
        match (self, &header.keys[..]) {
            (PartKind::Proxy, [first, ..]) => first != "proxies" || header.is_proxy(),
            (PartKind::Group(name), [first, second, ..]) => first != "groups" || name != second,
            (PartKind::Other(name), [first, ..]) => name != first,
            _ => true,
        }
    }
}

/// The header of a table: its names, and whether it is one of many.
struct Header {
    keys: Vec<String>,
    is_one_of_many: bool,
}

impl Header {
    fn is_proxy(&self) -> bool {
        self.is_one_of_many && self.keys.len() == 1
    }

    /// What a part is that begins so, if it is one.
    fn begins(&self) -> Option<PartKind> {
        match &self.keys[..] {
            [first, ..] if first == "proxies" => self.is_proxy().then_some(PartKind::Proxy),
            [first, rest @ ..] if first == "groups" => match rest {
                [name] if !self.is_one_of_many => Some(PartKind::Group(name.clone())),
                _ => None,
            },
            [first, ..] => Some(PartKind::Other(first.clone())),
            [] => None,
        }
    }
}

/// The parts of a text, in its order; nothing if it has none that can be read alone.
///
/// A text whose parts are all right may still say something twice: that is seen when they come together.
pub(crate) fn split(text: &str) -> Option<Vec<Part>> {
    let mut parts = vec![Part {
        bytes: 0..0,
        lines: 0,
        kind: PartKind::Top,
    }];
    let mut scan = Scan {
        text: text.as_bytes(),
        byte: 0,
    };
    let mut depth = 0_usize;
    let (mut lines, mut is_line_new) = (0_u32, true);
    // Behind the last line that has more than a comment: comments belong to what comes below them.
    let (mut end, mut lines_at_end) = (0, 0_u32);
    while let Some(byte) = scan.peek() {
        match byte {
            b'\n' => {
                lines = lines.checked_add(1)?;
                scan.byte += 1;
                if !is_line_new {
                    (end, lines_at_end) = (scan.byte, lines);
                }
                is_line_new = true;
                continue;
            }
            b' ' | b'\t' | b'\r' => {
                scan.byte += 1;
                continue;
            }
            b'#' => {
                scan.skip_comment();
                continue;
            }
            b'"' | b'\'' => lines = lines.checked_add(scan.string()?)?,
            b'[' if is_line_new && depth == 0 => {
                let header = scan.header(text)?;
                let last = parts.last_mut()?;
                if last.kind.ends_at(&header) {
                    let kind = header.begins()?;
                    last.bytes.end = end;
                    parts.push(Part {
                        bytes: end..end,
                        lines: lines_at_end,
                        kind,
                    });
                }
            }
            b'[' | b'{' => {
                depth += 1;
                scan.byte += 1;
            }
            b']' | b'}' => {
                depth = depth.checked_sub(1)?;
                scan.byte += 1;
            }
            _ => scan.byte += 1,
        }
        is_line_new = false;
    }
    parts.last_mut()?.bytes.end = text.len();
    (depth == 0).then_some(parts)
}

struct Scan<'a> {
    text: &'a [u8],
    byte: usize,
}

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.byte).copied()
    }

    fn skip_comment(&mut self) {
        let rest = &self.text[self.byte..];
        let length = rest.iter().position(|it| *it == b'\n');
        self.byte += length.unwrap_or(rest.len());
    }

    /// Behind a string, if it ends; how many lines end in it.
    fn string(&mut self) -> Option<u32> {
        let quote = self.peek()?;
        let long = [quote; 3];
        let is_long = self.text[self.byte..].starts_with(&long);
        self.byte += if is_long { 3 } else { 1 };
        let mut lines = 0;
        loop {
            match self.peek()? {
                b'\\' if quote == b'"' => {
                    self.byte += 1;
                    // What is behind it may be the end of a line, which counts.
                    match self.peek()? {
                        b'\n' => {}
                        _ => self.byte += 1,
                    }
                }
                b'\n' if !is_long => return None,
                b'\n' => {
                    lines += 1;
                    self.byte += 1;
                }
                it if it == quote && !is_long => {
                    self.byte += 1;
                    return Some(lines);
                }
                it if it == quote && self.text[self.byte..].starts_with(&long) => {
                    self.byte += 3;
                    // Two of them may stand before the end.
                    let more = self.text[self.byte..].iter().take(2);
                    self.byte += more.take_while(|it| **it == quote).count();
                    return Some(lines);
                }
                _ => self.byte += 1,
            }
        }
    }

    /// Behind a header; what it says.
    fn header(&mut self, text: &str) -> Option<Header> {
        let is_one_of_many = self.text[self.byte..].starts_with(b"[[");
        self.byte += if is_one_of_many { 2 } else { 1 };
        let begin = self.byte;
        loop {
            match self.peek()? {
                b'"' | b'\'' => match self.string()? {
                    0 => {}
                    _ => return None,
                },
                b'\n' => return None,
                b']' => break,
                _ => self.byte += 1,
            }
        }
        let keys = text.get(begin..self.byte)?;
        self.byte += if is_one_of_many { 2 } else { 1 };
        let is_bare = |it: u8| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_');
        let are_bare = keys
            .split('.')
            .all(|key| !key.is_empty() && key.bytes().all(is_bare));
        let keys = match are_bare {
            true => keys.split('.').map(str::to_owned).collect(),
            false => {
                let keys = Key::parse(keys).ok()?;
                keys.iter().map(|key| key.get().to_owned()).collect()
            }
        };
        Some(Header {
            keys,
            is_one_of_many,
        })
    }
}

#[cfg(test)]
mod tests;
