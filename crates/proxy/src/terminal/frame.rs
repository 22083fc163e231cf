//! What to write so that a screen shows something else than before.

use super::style::{Colours, Row};
use std::fmt::Write;

/// The size of a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Lines.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
}

/// What a screen shows now.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    size: Size,
    /// What was written for each line of the window.
    lines: Vec<String>,
}

impl Frame {
    /// What was drawn is gone.
    pub(crate) fn forget(&mut self) {
        *self = Frame::default();
    }

    /// What to write so that these rows are shown: the lines that changed, or after a change of the size all.
    /// Rows below the window are left out.
    pub(crate) fn paint(&mut self, rows: &[Row], size: Size, colours: Colours) -> String {
        let mut out = String::new();
        if self.size != size {
            self.size = size;
            self.lines = vec![String::new(); size.rows];
            out.push_str("\x1b[0m\x1b[2J");
        }
        let empty = Row::new();
        for (place, line) in self.lines.iter_mut().enumerate() {
            let row = rows.get(place).unwrap_or(&empty);
            let (text, width) = row.write(size.columns, colours);
            if *line == text {
                continue;
            }
            // Writing to a text does not fail.
            let _ = write!(out, "\x1b[{};1H{text}", place + 1);
            // Behind the last column some terminals would delete the last character.
            if width < size.columns {
                out.push_str("\x1b[K");
            }
            *line = text;
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size {
        rows: 3,
        columns: 5,
    };

    fn rows(texts: &[&str]) -> Vec<Row> {
        texts.iter().map(|text| Row::new().text(*text)).collect()
    }

    #[test]
    fn only_what_changed_is_written() {
        let mut frame = Frame::default();
        let shown = Colours::Shown;
        let first = frame.paint(&rows(&["a", "b"]), SIZE, shown);
        assert_eq!(first, "\x1b[0m\x1b[2J\x1b[1;1Ha\x1b[K\x1b[2;1Hb\x1b[K");
        assert_eq!(frame.paint(&rows(&["a", "b"]), SIZE, shown), "");
        assert_eq!(
            frame.paint(&rows(&["a", "c"]), SIZE, shown),
            "\x1b[2;1Hc\x1b[K"
        );
        assert_eq!(frame.paint(&rows(&["a"]), SIZE, shown), "\x1b[2;1H\x1b[K");
        // A full line has nothing behind it, and a row below the window is not shown.
        let long = frame.paint(&rows(&["a", "", "abcdefg", "no"]), SIZE, shown);
        assert_eq!(long, "\x1b[3;1Habcd…");
    }

    #[test]
    fn another_size_draws_all() {
        let mut frame = Frame::default();
        frame.paint(&rows(&["abcdefg"]), SIZE, Colours::Shown);
        let size = Size {
            rows: 1,
            columns: 9,
        };
        let again = frame.paint(&rows(&["abcdefg", "x"]), size, Colours::Shown);
        assert_eq!(again, "\x1b[0m\x1b[2J\x1b[1;1Habcdefg\x1b[K");
        frame.forget();
        assert_eq!(
            frame.paint(&rows(&["abcdefg"]), size, Colours::Shown),
            again
        );
        assert_eq!(
            frame.paint(&[], Size::default(), Colours::Shown),
            "\x1b[0m\x1b[2J"
        );
    }
}
