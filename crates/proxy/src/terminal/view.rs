//! A line that may be longer than the window, as the part of it around the cursor.

use super::text::Shape;

/// One line of a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// What to write. There is nothing in it that a terminal would obey.
    pub text: String,
    /// The column of the cursor, from 0.
    pub cursor: usize,
}

/// Whether it is drawn over the character before it.
pub(crate) fn is_mark(char: char) -> bool {
    Shape::of(char) == Shape::Same(0)
}

/// The part of prompt and line around the cursor, which is given in bytes of the line. The last column stays
/// free, because terminals treat it in different ways. `<` and `>` stand where there is more.
pub(crate) fn window(prompt: &str, line: &str, cursor: usize, columns: usize) -> View {
    let room = columns.saturating_sub(1).max(1);
    let before = line.get(..cursor).unwrap_or(line);
    let at = super::text::width(prompt) + super::text::width(before);
    let end = super::text::width(prompt) + super::text::width(line);
    let start = first(at, room);
    let limit = start + room;
    // Signs that there is more, where there is room for them beside the cursor.
    let (left, right) = (start > 0 && room > 2, end > limit && room > 2);
    let from = start + usize::from(left);
    let to = limit - usize::from(right);
    let mut text = String::new();
    let mut column = start;
    if left {
        text.push('<');
        column = from;
    }
    let mut place = 0;
    for char in prompt.chars().chain(line.chars()) {
        let shape = Shape::of(char);
        let next = place + shape.width();
        // A mark without its character would be drawn over another.
        let whole = place >= from && next <= to && (shape.width() > 0 || place > from);
        if whole {
            text.extend(std::iter::repeat_n(' ', place - column));
            shape.write(char, &mut text);
            column = next;
        }
        place = next;
    }
    if right {
        text.extend(std::iter::repeat_n(' ', to - column));
        text.push('>');
    }
    View {
        text,
        cursor: at - start,
    }
}

/// The first column that is shown. It moves by half a window, so that it mostly stays where it is.
fn first(cursor: usize, room: usize) -> usize {
    // The cursor may stand behind the end, and not on the sign that there is more.
    let last = room.saturating_sub(2).max(1);
    if cursor < last {
        return 0;
    }
    let step = (room / 2).max(1);
    // So that it is not on the left sign either.
    (cursor + 1 - last).div_ceil(step) * step
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::text::width;
    use proptest::prelude::*;

    fn view(text: &str, cursor: usize) -> View {
        View {
            text: text.to_owned(),
            cursor,
        }
    }

    #[test]
    fn short_lines_are_shown_whole() {
        assert_eq!(window("> ", "abc", 3, 80), view("> abc", 5));
        assert_eq!(window("> ", "日本", 3, 80), view("> 日本", 4));
        assert_eq!(window("> ", "a\x1b[m", 2, 80), view("> a^[[m", 5));
        assert_eq!(window("\x1b> ", "", 0, 80), view("^[> ", 4));
    }

    #[test]
    fn long_lines_scroll() {
        let line = "0123456789abcdefghij";
        assert_eq!(window("> ", line, 0, 11), view("> 0123456>", 2));
        assert_eq!(window("> ", line, 5, 11), view("> 0123456>", 7));
        assert_eq!(window("> ", line, 8, 11), view("<456789ab>", 5));
        assert_eq!(window("> ", line, 20, 11), view("<efghij", 7));
    }

    #[test]
    fn wide_characters_are_not_cut() {
        let line = "日本語日本語日本語";
        assert_eq!(window("", line, 0, 10), view("日本語日>", 0));
        let shown = window("", line, line.len(), 10);
        assert!(width(&shown.text) <= 9, "{shown:?}");
    }

    proptest! {
        #[test]
        fn the_cursor_is_in_the_window(
            prompt in ".{0,6}", line in any::<String>(), place in any::<prop::sample::Index>(), columns in 0_usize..30,
        ) {
            let places: Vec<usize> = line.char_indices().map(|(at, _)| at).chain([line.len()]).collect();
            let shown = window(&prompt, &line, *place.get(&places), columns);
            prop_assert!(shown.cursor < columns.max(2), "{shown:?}");
            prop_assert!(width(&shown.text) <= columns.saturating_sub(1).max(1), "{shown:?}");
            prop_assert!(!shown.text.chars().any(char::is_control));
        }
    }
}
