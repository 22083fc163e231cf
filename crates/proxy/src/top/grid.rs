//! Columns, each as wide as its widest cell.

use crate::terminal::{Row, Style, plain, width};

/// A head, and rows below it.
pub(super) struct Grid {
    head: Vec<String>,
    /// Columns whose cells end below each other.
    right: Vec<bool>,
    rows: Vec<(Style, Vec<String>)>,
}

/// No column is wider: what others wrote may be long.
const WIDEST: usize = 48;

impl Grid {
    /// A name that begins with `>` is that of a column of numbers: they end below each other.
    pub(super) fn new(head: &[&str]) -> Grid {
        let names = head.iter().map(|it| it.trim_start_matches('>').to_owned());
        Grid {
            head: names.collect(),
            right: head.iter().map(|it| it.starts_with('>')).collect(),
            rows: Vec::new(),
        }
    }

    pub(super) fn row(&mut self, style: Style, cells: impl IntoIterator<Item = String>) {
        let cells = cells.into_iter().map(|cell| plain(&cell).into_owned());
        self.rows.push((style, cells.collect()));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn rows(&self) -> Vec<Row> {
        let all = || std::iter::once(&self.head).chain(self.rows.iter().map(|(_, cells)| cells));
        let widths: Vec<usize> = (0..self.head.len())
            .map(|column| {
                let cells = all().filter_map(|row| row.get(column));
                cells.map(|cell| width(cell)).max().unwrap_or(0).min(WIDEST)
            })
            .collect();
        let line = |style: Style, cells: &[String]| {
            let cells = cells.iter().zip(&widths).zip(&self.right);
            cells.fold(Row::new(), |row, ((cell, columns), is_right)| {
                let blanks = if *is_right {
                    columns.saturating_sub(width(cell))
                } else {
                    0
                };
                let row = row.text(" ".repeat(blanks));
                row.column(style, cell, columns - blanks).text("  ")
            })
        };
        let head = line(Style::PLAIN.bold(), &self.head);
        let rows = self.rows.iter().map(|(style, cells)| line(*style, cells));
        std::iter::once(head).chain(rows).collect()
    }
}
