//! Text as a terminal shows it: how wide it is, and what must not get there.
//!
//! Names come from configurations and events from the network. A terminal takes some characters for
//! commands, and some others turn the order of a line around; neither kind is ever written.

use std::borrow::Cow;

/// What stands for a character that is not shown.
const HIDDEN: char = '\u{fffd}';

/// First and last character of the ranges that take two columns.
const WIDE: &[(u32, u32)] = &[
    (0x1100, 0x115f),
    (0x231a, 0x231b),
    (0x2e80, 0x303e),
    (0x3041, 0x4dbf),
    (0x4e00, 0xa4cf),
    (0xa960, 0xa97f),
    (0xac00, 0xd7a3),
    (0xf900, 0xfaff),
    (0xfe30, 0xfe6f),
    (0xff01, 0xff60),
    (0xffe0, 0xffe6),
    (0x1f300, 0x1f64f),
    (0x1f680, 0x1f6ff),
    (0x1f900, 0x1f9ff),
    (0x1fa70, 0x1faff),
    (0x20000, 0x3fffd),
];

/// First and last character of the ranges that are drawn over the character before them.
const JOINED: &[(u32, u32)] = &[
    (0x0300, 0x036f),
    (0x0483, 0x0489),
    (0x0591, 0x05bd),
    (0x0610, 0x061a),
    (0x064b, 0x065f),
    (0x0e31, 0x0e31),
    (0x0e34, 0x0e3a),
    (0x0e47, 0x0e4e),
    (0x1ab0, 0x1aff),
    (0x1dc0, 0x1dff),
    (0x20d0, 0x20ff),
    (0xfe00, 0xfe0f),
    (0xfe20, 0xfe2f),
    (0xe0100, 0xe01ef),
];

/// First and last character of the ranges that have no shape of their own but move or hide others.
const UNSEEN: &[(u32, u32)] = &[
    (0x00ad, 0x00ad),
    (0x061c, 0x061c),
    (0x115f, 0x1160),
    (0x180e, 0x180e),
    (0x200b, 0x200f),
    (0x2028, 0x202e),
    (0x2060, 0x206f),
    (0xfeff, 0xfeff),
    (0xfff9, 0xfffb),
    (0xe0000, 0xe007f),
];

fn within(ranges: &[(u32, u32)], char: char) -> bool {
    let code = u32::from(char);
    ranges
        .binary_search_by(|&(first, last)| {
            if last < code {
                std::cmp::Ordering::Less
            } else if first > code {
                std::cmp::Ordering::Greater
            } else {
                std::cmp::Ordering::Equal
            }
        })
        .is_ok()
}

/// What is written for one character, and the columns that takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Itself, in so many columns: 0, 1 or 2.
    Same(usize),
    /// `^` and this character.
    Caret(char),
    /// [`HIDDEN`].
    Hidden,
}

impl Shape {
    pub(crate) fn of(char: char) -> Shape {
        match char {
            ' '..='~' => Shape::Same(1),
            '\0'..='\x1f' | '\x7f' => Shape::Caret(caret(char)),
            _ if char.is_control() || within(UNSEEN, char) => Shape::Hidden,
            _ if within(JOINED, char) => Shape::Same(0),
            _ if within(WIDE, char) => Shape::Same(2),
            _ => Shape::Same(1),
        }
    }

    pub(crate) const fn width(self) -> usize {
        match self {
            Shape::Same(width) => width,
            Shape::Caret(_) => 2,
            Shape::Hidden => 1,
        }
    }

    pub(crate) fn write(self, char: char, out: &mut String) {
        match self {
            Shape::Same(_) => out.push(char),
            Shape::Caret(name) => out.extend(['^', name]),
            Shape::Hidden => out.push(HIDDEN),
        }
    }
}

/// The letter that names a control character: `C` for the one that Ctrl-C sends.
fn caret(char: char) -> char {
    char::from_u32(u32::from(char) ^ 0x40).unwrap_or('?')
}

/// The text with everything replaced that a terminal would obey or hide.
///
/// Control characters become `^X`; those that turn the direction of text or have no width become
/// U+FFFD. A terminal shows the result on one line as it is.
#[must_use]
pub fn plain(text: &str) -> Cow<'_, str> {
    let same = |char| matches!(Shape::of(char), Shape::Same(_));
    if text.chars().all(same) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for char in text.chars() {
        Shape::of(char).write(char, &mut out);
    }
    Cow::Owned(out)
}

/// How many columns [`plain`] text takes. Marks that are drawn over other characters take none, most of the
/// characters of East Asia two.
#[must_use]
pub fn width(text: &str) -> usize {
    text.chars().map(|char| Shape::of(char).width()).sum()
}

/// The beginning of a text that fits into so many columns, as [`plain`] text, and the columns that it takes.
pub(crate) fn clip(text: &str, columns: usize) -> (String, usize) {
    let (mut out, mut used) = (String::new(), 0_usize);
    for char in text.chars() {
        let shape = Shape::of(char);
        let next = used.saturating_add(shape.width());
        if next > columns {
            break;
        }
        shape.write(char, &mut out);
        used = next;
    }
    (out, used)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tables_are_in_order() {
        for table in [WIDE, JOINED, UNSEEN] {
            for pair in table.windows(2) {
                assert!(pair[0].1 < pair[1].0, "{pair:x?}");
            }
            for (first, last) in table {
                assert!(first <= last, "{first:x} {last:x}");
            }
        }
    }

    #[test]
    fn widths() {
        for (text, columns) in [
            ("", 0),
            ("plain", 5),
            ("żółw", 4),
            ("e\u{301}", 1),
            ("日本", 4),
            ("한글", 4),
            ("🦀", 2),
            ("\x1b[", 3),
            ("\u{202e}", 1),
        ] {
            assert_eq!(width(text), columns, "{text:?}");
        }
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        for (text, shown) in [
            ("app-1", "app-1"),
            ("\x1b]0;title\x07", "^[]0;title^G"),
            ("a\r\nb", "a^M^Jb"),
            ("\u{9b}31m", "\u{fffd}31m"),
            ("del\x7f", "del^?"),
            ("ab\u{202e}cd", "ab\u{fffd}cd"),
            ("zero\u{200b}width", "zero\u{fffd}width"),
        ] {
            assert_eq!(plain(text), shown, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn plain_text_is_plain_and_as_wide(text in any::<String>(), columns in 0_usize..20) {
            let shown = plain(&text);
            prop_assert!(!shown.chars().any(char::is_control));
            prop_assert_eq!(width(&shown), width(&text));
            prop_assert_eq!(plain(&shown), shown.clone());
            let (clipped, used) = clip(&text, columns);
            prop_assert!(used <= columns);
            prop_assert_eq!(width(&clipped), used);
            prop_assert!(shown.starts_with(&clipped));
        }
    }
}
