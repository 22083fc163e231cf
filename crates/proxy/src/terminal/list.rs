//! Candidates below a line, in columns.

use super::frame::Size;
use super::text::{clip, plain, width};

/// As many lines as the window has room for, each with its end. What is left out is counted.
pub(crate) fn lines(candidates: &[String], size: Size) -> String {
    let names: Vec<_> = candidates
        .iter()
        .map(|name| plain(name.trim_end()))
        .collect();
    let room = size.columns.saturating_sub(1).max(1);
    let widest = names.iter().map(|name| width(name)).max().unwrap_or(0) + 2;
    let across = (room / widest).max(1);
    // The line itself and the count stay visible.
    let most = across.saturating_mul(size.rows.saturating_sub(2).max(1));
    let shown = names.get(..most).unwrap_or(&names);
    let mut out = String::new();
    for row in shown.chunks(across) {
        let mut line = String::new();
        for name in row {
            line.push_str(name);
            line.extend(std::iter::repeat_n(' ', widest - width(name)));
        }
        out.push_str(&clip(line.trim_end(), room).0);
        out.push_str("\r\n");
    }
    if names.len() > shown.len() {
        let count = names.len() - shown.len();
        out.push_str(&clip(&format!("… and {count} more"), room).0);
        out.push_str("\r\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(names: &[&str], rows: usize, columns: usize) -> String {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        lines(&names, Size { rows, columns })
    }

    #[test]
    fn candidates_stand_in_columns() {
        assert_eq!(listed(&["a ", "bcd "], 24, 80), "a    bcd\r\n");
        assert_eq!(listed(&["a", "bcd", "e"], 24, 11), "a    bcd\r\ne\r\n");
        assert_eq!(listed(&["abcdefgh", "b"], 24, 6), "abcde\r\nb\r\n");
        assert_eq!(listed(&["a", "b", "c", "d"], 3, 4), "a\r\n… a\r\n");
        assert_eq!(listed(&["\x1b[2J"], 24, 80), "^[[2J\r\n");
    }
}
