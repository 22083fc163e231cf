//! Bytes for people, and what changed in them.

/// Bytes to a line.
const LINE: usize = 16;

/// Bytes as pairs of digits with blanks between them.
#[must_use]
pub fn pairs(bytes: &[u8]) -> String {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    pairs.join(" ")
}

/// How many bytes differ, where both have some.
#[must_use]
pub fn changed(before: &[u8], after: &[u8]) -> usize {
    let both = before.iter().zip(after);
    both.filter(|(before, after)| before != after).count()
}

/// In a word, what became of bytes: `64 bytes, 3 changed, 8 more`.
#[must_use]
pub fn summary(before: &[u8], after: &[u8]) -> String {
    let mut text = match after.len() {
        1 => "1 byte".to_owned(),
        count => format!("{count} bytes"),
    };
    match changed(before, after) {
        0 => {}
        count => text.push_str(&format!(", {count} changed")),
    }
    let (more, fewer) = (
        after.len().saturating_sub(before.len()),
        before.len().saturating_sub(after.len()),
    );
    if more > 0 {
        text.push_str(&format!(", {more} more"));
    }
    if fewer > 0 {
        text.push_str(&format!(", {fewer} fewer"));
    }
    text
}

/// The bytes afterwards, 16 to a line; below a line with changes, what stood there before: old
/// bytes, or `++` where there was none.
#[must_use]
pub fn picture(before: &[u8], after: &[u8]) -> String {
    let mut out = String::new();
    for (index, line) in after.chunks(LINE).enumerate() {
        let at = index * LINE;
        out.push_str(&format!("  {at:04x}"));
        let mut marks = String::from("   was");
        for (column, byte) in line.iter().enumerate() {
            let gap = if column % 8 == 0 && column > 0 {
                "  "
            } else {
                " "
            };
            let gap = if column == 0 { "  " } else { gap };
            out.push_str(&format!("{gap}{byte:02x}"));
            marks.push_str(gap);
            match before.get(at + column) {
                Some(old) if old == byte => marks.push_str("  "),
                Some(old) => marks.push_str(&format!("{old:02x}")),
                None => marks.push_str("++"),
            }
        }
        out.push('\n');
        if marks.trim_end() != "   was" {
            out.push_str(marks.trim_end());
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_marked_below() {
        let before: Vec<u8> = (0..34).collect();
        let mut after = before.clone();
        (after[1], after[8], after[15]) = (0xff, 0, 0x0e);
        after.extend([9, 9]);
        let expected = "  \
  0000  00 ff 02 03 04 05 06 07  00 09 0a 0b 0c 0d 0e 0e
   was     01                    08                   0f
  0010  10 11 12 13 14 15 16 17  18 19 1a 1b 1c 1d 1e 1f
  0020  20 21 09 09
   was        ++ ++
";
        assert_eq!(picture(&before, &after), expected);
        assert_eq!(summary(&before, &after), "36 bytes, 3 changed, 2 more");
        assert_eq!(summary(&after, &before), "34 bytes, 3 changed, 2 fewer");
        assert_eq!(
            (summary(&[], &[]), summary(&[1], &[1])),
            ("0 bytes".into(), "1 byte".into())
        );
        assert_eq!(picture(&[], &[]), "");
        assert_eq!(pairs(&[0, 0xab]), "00 ab");
    }
}
