//! What a screen shows: rows of text in several styles.

use super::text;
use std::borrow::Cow;

/// One of the eight colours that every terminal has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Colour {
    /// Black.
    Black,
    /// Red.
    Red,
    /// Green.
    Green,
    /// Yellow.
    Yellow,
    /// Blue.
    Blue,
    /// Magenta.
    Magenta,
    /// Cyan.
    Cyan,
    /// White.
    White,
}

impl Colour {
    const fn code(self) -> &'static str {
        match self {
            Colour::Black => "30",
            Colour::Red => "31",
            Colour::Green => "32",
            Colour::Yellow => "33",
            Colour::Blue => "34",
            Colour::Magenta => "35",
            Colour::Cyan => "36",
            Colour::White => "37",
        }
    }
}

/// Whether colours are written. Bold, dim and reversed text is no colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    /// They are.
    Shown,
    /// They are left out.
    Hidden,
}

impl Colours {
    /// As `NO_COLOR` says: not if it is set to anything.
    #[must_use]
    pub fn of_environment() -> Colours {
        match std::env::var_os("NO_COLOR") {
            Some(value) if !value.is_empty() => Colours::Hidden,
            _ => Colours::Shown,
        }
    }
}

/// How text looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    bold: bool,
    dim: bool,
    reverse: bool,
    colour: Option<Colour>,
}

impl Style {
    /// As the terminal writes by itself.
    pub const PLAIN: Style = Style {
        bold: false,
        dim: false,
        reverse: false,
        colour: None,
    };

    /// Also bold.
    #[must_use]
    pub const fn bold(mut self) -> Style {
        self.bold = true;
        self
    }

    /// Also dim.
    #[must_use]
    pub const fn dim(mut self) -> Style {
        self.dim = true;
        self
    }

    /// With the colours of text and background exchanged.
    #[must_use]
    pub const fn reverse(mut self) -> Style {
        self.reverse = true;
        self
    }

    /// In a colour.
    #[must_use]
    pub const fn colour(mut self, colour: Colour) -> Style {
        self.colour = Some(colour);
        self
    }

    /// What switches it on.
    fn write(self, colours: Colours, out: &mut String) {
        let colour = self.colour.filter(|_| colours == Colours::Shown);
        for code in [
            self.bold.then_some("1"),
            self.dim.then_some("2"),
            self.reverse.then_some("7"),
            colour.map(Colour::code),
        ]
        .into_iter()
        .flatten()
        {
            out.push_str("\x1b[");
            out.push_str(code);
            out.push('m');
        }
    }
}

/// Text in one style. The text may come from anywhere: it is shown as [`plain`](super::plain) text.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    text: String,
    style: Style,
}

/// One line of a screen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    spans: Vec<Span>,
}

impl Row {
    /// An empty line.
    #[must_use]
    pub fn new() -> Row {
        Row::default()
    }

    /// The same line with text behind it.
    #[must_use]
    pub fn text(self, text: impl Into<String>) -> Row {
        self.styled(Style::PLAIN, text)
    }

    /// The same line with text in a style behind it.
    #[must_use]
    pub fn styled(mut self, style: Style, text: impl Into<String>) -> Row {
        let text = text.into();
        self.spans.push(Span { text, style });
        self
    }

    /// The same line with text behind it that takes so many columns: shorter text is followed by blanks, longer
    /// text ends with `…`.
    #[must_use]
    pub fn column(self, style: Style, text: &str, columns: usize) -> Row {
        let width = text::width(text);
        let text = if width <= columns {
            let mut text = text.to_owned();
            text.extend(std::iter::repeat_n(' ', columns - width));
            Cow::Owned(text)
        } else {
            let (mut text, used) = text::clip(text, columns.saturating_sub(1));
            if columns > 0 {
                text.push('…');
                text.extend(std::iter::repeat_n(' ', columns - 1 - used));
            }
            Cow::Owned(text)
        };
        self.styled(style, text)
    }

    /// It without styles, for who has no terminal.
    #[must_use]
    pub fn bare(&self) -> String {
        let spans = self.spans.iter();
        spans.map(|span| text::plain(&span.text)).collect()
    }

    /// How many columns it takes where there is room.
    #[must_use]
    pub fn width(&self) -> usize {
        self.spans.iter().map(|span| text::width(&span.text)).sum()
    }

    /// What is written for it in a window of so many columns, and how many of them that takes. What does not fit ends
    /// with `…`.
    pub(crate) fn write(&self, columns: usize, colours: Colours) -> (String, usize) {
        let (mut out, mut used) = (String::new(), 0);
        let is_cut = text::width(self.bare().trim_end()) > columns;
        let room = columns - usize::from(is_cut && columns > 0);
        for span in &self.spans {
            let (text, width) = text::clip(&span.text, room - used);
            let whole = width == text::width(&span.text);
            if !text.is_empty() {
                span.style.write(colours, &mut out);
                out.push_str(&text);
                if span.style != Style::PLAIN {
                    out.push_str("\x1b[0m");
                }
                used += width;
            }
            if !whole {
                break;
            }
        }
        if room < columns {
            out.push('…');
            used += 1;
        }
        (out, used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rows_are_clipped() {
        let row = Row::new().text("ab").text("日本語").text("x");
        assert_eq!(row.width(), 9);
        for (columns, shown) in [
            (0, ""),
            (1, "…"),
            (3, "ab…"),
            (4, "ab…"),
            (5, "ab日…"),
            (8, "ab日本…"),
            (9, "ab日本語x"),
        ] {
            assert_eq!(row.write(columns, Colours::Shown).0, shown, "{columns}");
        }
    }

    #[test]
    fn columns_stand_below_each_other() {
        for (text, columns, shown) in [
            ("app", 5, "app  "),
            ("app", 3, "app"),
            ("application", 5, "appl…"),
            ("日本語", 5, "日本…"),
            ("日本語", 4, "日… "),
            ("app", 1, "…"),
            ("app", 0, ""),
            ("a\x1b[m", 8, "a^[[m   "),
        ] {
            let row = Row::new().column(Style::PLAIN, text, columns);
            assert_eq!(row.write(80, Colours::Shown).0, shown, "{text:?}");
        }
    }

    #[test]
    fn styles_are_switched_on_and_off() {
        let style = Style::PLAIN.bold().dim().reverse().colour(Colour::Red);
        let row = Row::new().text("a").styled(style, "b").text("c");
        let (shown, width) = row.write(80, Colours::Shown);
        assert_eq!(shown, "a\x1b[1m\x1b[2m\x1b[7m\x1b[31mb\x1b[0mc");
        assert_eq!(width, 3);
        let (shown, _) = row.write(80, Colours::Hidden);
        assert_eq!(shown, "a\x1b[1m\x1b[2m\x1b[7mb\x1b[0mc");
    }

    proptest! {
        #[test]
        fn no_text_reaches_the_terminal_as_a_command(texts in prop::collection::vec(any::<String>(), 0..4), columns in 0_usize..60) {
            let row = texts.iter().fold(Row::new(), |row, text| row.text(text).column(Style::PLAIN, text, 9));
            let (shown, width) = row.write(columns, Colours::Shown);
            prop_assert!(!shown.chars().any(char::is_control), "{shown:?}");
            prop_assert!(width <= columns);
            prop_assert_eq!(text::width(&shown), width);
        }
    }
}
