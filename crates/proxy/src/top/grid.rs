//! Columns, each as wide as its widest cell.

use crate::terminal::{Row, Style, plain, width};

/// A head, and rows below it.
pub(super) struct Grid {
    head: Vec<String>,
    rows: Vec<(Style, Vec<String>)>,
}

/// No column is wider: what others wrote may be long.
const WIDEST: usize = 48;

impl Grid {
    pub(super) fn new(head: &[&str]) -> Grid {
        Grid {
            head: head.iter().map(|it| (*it).to_owned()).collect(),
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
            let cells = cells.iter().zip(&widths);
            cells.fold(Row::new(), |row, (cell, width)| {
                row.column(style, cell, *width).text("  ")
            })
        };
        let head = line(Style::PLAIN.bold(), &self.head);
        let rows = self.rows.iter().map(|(style, cells)| line(*style, cells));
        std::iter::once(head).chain(rows).collect()
    }
}
