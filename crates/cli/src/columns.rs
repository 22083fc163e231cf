//! Aligned columns.

/// On which side a column's texts stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table with a line of titles.
#[must_use]
pub fn table(columns: &[(&str, Side)], rows: &[Vec<String>]) -> String {
    let width = |index: usize, title: &str| {
        let cells = rows.iter().filter_map(|row| row.get(index));
        let widest = cells.map(|cell| cell.chars().count()).max();
        widest.unwrap_or(0).max(title.chars().count())
    };
    let widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(index, (title, _))| width(index, title))
        .collect();
    let titles: Vec<String> = columns
        .iter()
        .map(|(title, _)| (*title).to_owned())
        .collect();
    let mut out = String::new();
    for row in std::iter::once(&titles).chain(rows) {
        let mut line = String::new();
        for ((cell, (_, side)), &width) in row.iter().zip(columns).zip(&widths) {
            match side {
                Side::Left => line.push_str(&format!("{cell:<width$}  ")),
                Side::Right => line.push_str(&format!("{cell:>width$}  ")),
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Names and values below one another.
#[must_use]
pub fn fields(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut out = String::new();
    for (name, value) in fields {
        let line = format!("{name:width$}  {value}");
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_right_and_words_left() {
        let columns = [
            ("id", Side::Right),
            ("name", Side::Left),
            ("n", Side::Right),
        ];
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = [
            row(["7", "größe", "100"]),
            row(["1234", "a", ""]),
        ];
        let expected = "  id  name     n\n   7  größe  100\n1234  a\n";
        assert_eq!(table(&columns, &rows), expected);
        assert_eq!(table(&columns[..2], &[]), "id  name\n");
    }

    #[test]
    fn fields_stand_below_one_another() {
        let text = fields(&[
            ("id", "7".to_owned()),
            ("name", String::new()),
        ]);
        assert_eq!(text, "id    7\nname\n");
    }
}
