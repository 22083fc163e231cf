//! Passes output on, but not without end: the emulated serial line takes some 100 kB in a second.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

/// How much of a stream is passed on: its start as it comes, its end when it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Bytes at the start.
    pub start: usize,
    /// Bytes at the end.
    pub end: usize,
}

/// Passes a stream on until it ends. Says how much was left out in the middle, if anything was.
///
/// # Errors
///
/// If reading or writing fails.
pub fn relay(mut from: impl Read, mut to: impl Write, limit: Limit) -> io::Result<()> {
    let mut left = limit.start;
    let mut end = VecDeque::with_capacity(limit.end);
    let mut dropped = 0_usize;
    let mut buffer = [0; 4096];
    loop {
        let bytes = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => &buffer[..length],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let (first, rest) = bytes.split_at(left.min(bytes.len()));
        left -= first.len();
        to.write_all(first)?;
        to.flush()?;
        end.extend(rest);
        let over = end.len().saturating_sub(limit.end);
        end.drain(..over);
        dropped += over;
    }
    if dropped > 0 {
        write!(to, "\n[{dropped} bytes are left out]\n")?;
    }
    to.write_all(end.make_contiguous())?;
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(from: &[u8], expected: &str) {
        let mut to = Vec::new();
        let limit = Limit { start: 4, end: 3 };
        relay(from, &mut to, limit).unwrap();
        assert_eq!(String::from_utf8(to).unwrap(), expected);
    }

    #[test]
    fn short_streams_are_whole() {
        check(b"", "");
        check(b"1234", "1234");
        check(b"1234567", "1234567");
    }

    #[test]
    fn long_streams_lack_their_middle() {
        check(b"12345678", "1234\n[1 bytes are left out]\n678");
        let long = [b'a'; 10_000];
        check(&long, "aaaa\n[9993 bytes are left out]\naaa");
    }
}
