//! Bytes as they come, taken out as lines or as runs.

/// Why there is no line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// It does not end in a carriage return and a line feed.
    Ending,
    /// It is longer than there is room for.
    Long,
}

/// Bytes that came and were not taken yet.
#[derive(Debug, Default)]
pub(super) struct Feed {
    bytes: Vec<u8>,
    /// Before it, all was taken.
    start: usize,
    /// From `start` to here there is no line feed.
    scanned: usize,
}

impl Feed {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.start);
        self.scanned -= self.start;
        self.start = 0;
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// The next line without its ending, which together may take `room` bytes. `None` when it is
    /// not complete. What is answered does not depend on how the bytes were split.
    pub(super) fn line(&mut self, room: usize) -> Result<Option<&[u8]>, Broken> {
        let found = self.bytes[self.scanned..].iter().position(|&b| b == b'\n');
        let Some(at) = found.map(|at| self.scanned + at) else {
            self.scanned = self.bytes.len();
            return if self.bytes.len() - self.start >= room {
                Err(Broken::Long)
            } else {
                Ok(None)
            };
        };
        let start = self.start;
        if at + 1 - start > room {
            return Err(Broken::Long);
        }
        let line = self.bytes[start..at].len();
        if line == 0 || self.bytes[at - 1] != b'\r' {
            return Err(Broken::Ending);
        }
        self.start = at + 1;
        self.scanned = at + 1;
        Ok(Some(&self.bytes[start..at - 1]))
    }

    /// The next bytes, at most so many.
    pub(super) fn take(&mut self, most: usize) -> &[u8] {
        let start = self.start;
        let end = start.saturating_add(most).min(self.bytes.len());
        self.start = end;
        self.scanned = self.scanned.max(end);
        &self.bytes[start..end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_runs_take_turns() {
        let mut feed = Feed::default();
        feed.push(b"one\r\ntw");
        assert_eq!(feed.line(10), Ok(Some(b"one".as_slice())));
        assert_eq!(feed.line(10), Ok(None));
        feed.push(b"o\r\n\nthree\r\n");
        assert_eq!(feed.line(10), Ok(Some(b"two".as_slice())));
        assert_eq!(feed.take(1), b"\n");
        assert_eq!(feed.line(6), Err(Broken::Long));
        assert_eq!(feed.line(7), Ok(Some(b"three".as_slice())));
        assert!(feed.is_empty());
        assert_eq!(feed.take(usize::MAX), b"");
    }

    #[test]
    fn a_line_ends_in_both_bytes() {
        for bytes in [b"\n".as_slice(), b"a\n", b"\rb\n"] {
            let mut feed = Feed::default();
            feed.push(bytes);
            assert_eq!(feed.line(10), Err(Broken::Ending));
        }
    }

    #[test]
    fn a_line_that_cannot_fit_is_refused_before_it_ends() {
        let mut feed = Feed::default();
        feed.push(b"abc");
        assert_eq!(feed.line(4), Ok(None));
        feed.push(b"d");
        assert_eq!(feed.line(4), Err(Broken::Long));
    }
}
