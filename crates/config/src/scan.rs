//! What the readers of JSON and EDN share: a text, and how far it is read.

use crate::problem::Problems;
use crate::value::{At, Entry, Kind};

/// So deep may lists and tables be in each other.
pub(crate) const DEEPEST: u32 = 64;

pub(crate) struct Scan<'a> {
    text: &'a str,
    pub(crate) byte: usize,
    at: At,
    depth: u32,
}

impl<'a> Scan<'a> {
    pub(crate) fn new(text: &'a str) -> Scan<'a> {
        Scan {
            text,
            byte: 0,
            at: At { line: 1, column: 1 },
            depth: 0,
        }
    }

    /// Where the next character is.
    pub(crate) const fn at(&self) -> At {
        self.at
    }

    pub(crate) fn rest(&self) -> &'a str {
        &self.text[self.byte..]
    }

    pub(crate) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(crate) fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.byte += next.len_utf8();
        if next == '\n' {
            self.at.line = self.at.line.saturating_add(1);
            self.at.column = 1;
        } else {
            self.at.column = self.at.column.saturating_add(1);
        }
        Some(next)
    }

    /// Whether the next character was this one, which is then read.
    pub(crate) fn took(&mut self, wanted: char) -> bool {
        let is_it = self.peek() == Some(wanted);
        if is_it {
            self.next();
        }
        is_it
    }

    /// All characters from here on that are like that.
    pub(crate) fn take_while(&mut self, like: impl Fn(char) -> bool) -> &'a str {
        let from = self.byte;
        while self.peek().is_some_and(&like) {
            self.next();
        }
        &self.text[from..self.byte]
    }

    /// One level deeper, as long as `body` reads.
    pub(crate) fn deeper<T>(
        &mut self,
        body: impl FnOnce(&mut Self) -> Result<T, Problems>,
    ) -> Result<T, Problems> {
        if self.depth == DEEPEST {
            return Err(self.wrong(format!("this is more than {DEEPEST} levels deep")));
        }
        self.depth += 1;
        let result = body(self);
        self.depth -= 1;
        result
    }

    pub(crate) fn wrong(&self, what: impl Into<String>) -> Problems {
        Problems::one(self.at, what)
    }

    /// What is here instead of what is wanted.
    pub(crate) fn not(&self, wanted: &str) -> Problems {
        match self.peek() {
            Some(found) => self.wrong(format!("{found:?} is here where {wanted} should be")),
            None => self.wrong(format!("the text ends where {wanted} should be")),
        }
    }

    /// Four hexadecimal digits.
    pub(crate) fn unit(&mut self) -> Result<u32, Problems> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|it| it.to_digit(16));
            let Some(digit) = digit else {
                return Err(self.not("a hexadecimal digit"));
            };
            unit = unit << 4 | digit;
            self.next();
        }
        Ok(unit)
    }
}

/// A table of these, if no name is there twice.
pub(crate) fn table(entries: Vec<Entry>) -> Result<Kind, Problems> {
    let mut sorted: Vec<&Entry> = entries.iter().collect();
    sorted.sort_by(|a, b| (&a.key, a.at).cmp(&(&b.key, b.at)));
    let twice = sorted.windows(2).filter(|pair| pair[0].key == pair[1].key);
    if let Some(pair) = twice.min_by_key(|pair| pair[1].at) {
        let (first, second) = (pair[0], pair[1]);
        let what = format!(
            "{} is here twice: first on line {}",
            second.key, first.at.line
        );
        return Err(Problems::one(second.at, what));
    }
    Ok(Kind::Table(entries))
}
