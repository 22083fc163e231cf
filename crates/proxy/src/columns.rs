//! [`Table`]: a list in columns, as text.

use crate::terminal::{plain, width};

/// A list in columns, each as wide as its widest cell.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    /// Columns whose cells end below each other.
    right: Vec<usize>,
}

impl Table {
    /// A name that begins with `>` is that of a column of numbers: they end below each other.
    pub(crate) fn new(head: &[&str]) -> Table {
        let names = head.iter().map(|it| it.trim_start_matches('>').to_owned());
        let right = head.iter().enumerate();
        let right = right.filter(|(_, it)| it.starts_with('>'));
        Table {
            rows: vec![names.collect()],
            right: right.map(|(column, _)| column).collect(),
        }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        // What others wrote must not speak to the terminal.
        let cells = cells.into_iter().map(|cell| plain(&cell).into_owned());
        self.rows.push(cells.collect());
    }

    /// Whether there is a row below the head.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.len() < 2
    }

    pub(crate) fn text(&self) -> String {
        self.text_within(usize::MAX)
    }

    /// The same; what stands in the last column goes on below where a line would be longer.
    pub(crate) fn text_within(&self, most: usize) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                cells.map(|cell| width(cell)).max().unwrap_or(0)
            })
            .collect();
        let before: usize = widths.iter().rev().skip(1).map(|it| it + 2).sum();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let blanks = " ".repeat(widths[column] - width(cell));
                line += &match (self.right.contains(&column), column + 1 == columns) {
                    (true, _) => format!("{blanks}{cell}  "),
                    (false, false) => format!("{cell}{blanks}  "),
                    (false, true) => wrapped(cell, before, most),
                };
            }
            text += line.trim_end();
            text.push('\n');
        }
        text
    }
}

/// The text, whose lines stand behind so many columns and are no longer than that, if words allow it.
pub(crate) fn wrapped(text: &str, before: usize, most: usize) -> String {
    let mut out = String::new();
    let mut at = before;
    for word in text.split(' ') {
        let wide = width(word);
        if at > before && at + 1 + wide > most {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', before));
            at = before;
        } else if at > before {
            out.push(' ');
            at += 1;
        }
        out += word;
        at += wide;
    }
    out
}

/// So many of something, which is called otherwise if it is one.
pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        number => format!("{number} {many}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let mut table = Table::new(&["NAME", ">COUNT", "WHY"]);
        table.row([
            "web".into(),
            "7".into(),
            "one two three".into(),
        ]);
        table.row([
            "\u{202e}日本".into(),
            "1234567".into(),
            String::new(),
        ]);
        assert_eq!(
            table.text(),
            "NAME     COUNT  WHY\nweb          7  one two three\n\u{fffd}日本  1234567\n"
        );
        assert_eq!(
            table.text_within(24),
            "NAME     COUNT  WHY\nweb          7  one two\n                three\n\u{fffd}日本  1234567\n"
        );
        assert!(!table.is_empty() && Table::new(&["A"]).is_empty());
    }

    #[test]
    fn a_word_that_is_too_long_stays_whole() {
        assert_eq!(wrapped("abc defghij k", 2, 6), "abc\n  defghij\n  k");
        assert_eq!(wrapped("", 2, 6), "");
    }

    #[test]
    fn one_is_called_otherwise() {
        let proxies = |number| count(number, "proxy", "proxies");
        assert_eq!(
            [0, 1, 2].map(proxies),
            ["0 proxies", "1 proxy", "2 proxies"]
        );
    }
}
