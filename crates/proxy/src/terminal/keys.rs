//! Keys, from the bytes that terminals send for them.

/// A key that was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// A character. Never a control character.
    Char(char),
    /// Control and a key, as the lower-case letter: `Ctrl('c')`. `Ctrl(' ')` is what sends a zero byte.
    Ctrl(char),
    /// Alt or Meta and a character.
    Alt(char),
    /// Return, also as a newline in what was typed ahead.
    Enter,
    /// The tabulator.
    Tab,
    /// Shift and the tabulator.
    BackTab,
    /// The key that deletes what is before the cursor.
    Backspace,
    /// Alt and that key.
    AltBackspace,
    /// The key that deletes what is under the cursor.
    Delete,
    /// Escape, alone.
    Escape,
    /// The arrow.
    Up,
    /// The arrow.
    Down,
    /// The arrow.
    Left,
    /// The arrow.
    Right,
    /// The arrow with Control or Alt: a word to the left.
    WordLeft,
    /// The arrow with Control or Alt: a word to the right.
    WordRight,
    /// To the beginning.
    Home,
    /// To the end.
    End,
    /// A page up.
    PageUp,
    /// A page down.
    PageDown,
}

const ESCAPE: u8 = 0x1b;

/// Longer sequences than this are nobody's: what comes then is read as keys again.
const LONGEST: usize = 64;
/// The same for the answers of terminals, which carry text.
const LONGEST_TEXT: usize = 4096;

/// Where in a sequence the decoder is.
#[derive(Clone, Debug, Default)]
enum At {
    /// Between keys.
    #[default]
    Key,
    /// In a character of several bytes, of which some are still to come.
    Utf8 {
        bytes: [u8; 4],
        have: usize,
        alt: Alt,
    },
    /// Behind an Escape.
    Escape,
    /// Behind Escape and `[` or `O`.
    Sequence { start: u8, bytes: Vec<u8> },
    /// Behind `ESC [ [`, as the Linux console begins its function keys.
    Console,
    /// In text that a terminal sends of its own accord, until a bell or `ESC \`.
    Text { start: u8, length: usize },
    /// At an Escape in such text.
    TextEscape,
}

/// Whether Alt was held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alt {
    Held,
    Not,
}

/// Makes keys of bytes. Bytes may come in any pieces; sequences of keys that are not in [`Key`] vanish.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    at: At,
}

impl Decoder {
    /// A decoder between keys.
    #[must_use]
    pub fn new() -> Decoder {
        Decoder::default()
    }

    /// Takes bytes and gives the keys that are complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Key> {
        let mut keys = Vec::new();
        for &byte in bytes {
            self.byte(byte, &mut keys);
        }
        keys
    }

    /// Whether a sequence has begun. If nothing follows for a moment, the key was [`Escape`](Key::Escape) or
    /// Alt with a character: [`flush`](Decoder::flush).
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !matches!(self.at, At::Key)
    }

    /// Ends what has begun, and gives the key that it was, if it was one.
    pub fn flush(&mut self) -> Option<Key> {
        match std::mem::take(&mut self.at) {
            At::Escape => Some(Key::Escape),
            At::Sequence { start, bytes } if bytes.is_empty() => Some(Key::Alt(start.into())),
            At::Text { start, length: 0 } => Some(Key::Alt(start.into())),
            _ => None,
        }
    }

    fn byte(&mut self, byte: u8, keys: &mut Vec<Key>) {
        match std::mem::take(&mut self.at) {
            At::Key => self.first(byte, keys),
            At::Utf8 { bytes, have, alt } => self.utf8(bytes, have, alt, byte, keys),
            At::Escape => self.escaped(byte, keys),
            At::Sequence { start, bytes } => self.sequence(start, bytes, byte, keys),
            At::Console => {}
            At::Text { start, length } => match byte {
                0x07 => {}
                ESCAPE => self.at = At::TextEscape,
                _ if length >= LONGEST_TEXT => {}
                _ => {
                    let length = length + 1;
                    self.at = At::Text { start, length };
                }
            },
            // The end of the text, or else a key that was pressed before there was an end.
            At::TextEscape if byte == b'\\' => {}
            At::TextEscape => self.escaped(byte, keys),
        }
    }

    fn first(&mut self, byte: u8, keys: &mut Vec<Key>) {
        match byte {
            ESCAPE => self.at = At::Escape,
            0x80.. => self.lead(byte, Alt::Not, keys),
            _ => keys.push(ascii(byte)),
        }
    }

    fn escaped(&mut self, byte: u8, keys: &mut Vec<Key>) {
        match byte {
            b'[' | b'O' => {
                self.at = At::Sequence {
                    start: byte,
                    bytes: Vec::new(),
                };
            }
            b']' | b'P' | b'X' | b'^' | b'_' => {
                self.at = At::Text {
                    start: byte,
                    length: 0,
                };
            }
            ESCAPE => {
                keys.push(Key::Escape);
                self.at = At::Escape;
            }
            0x08 | 0x7f => keys.push(Key::AltBackspace),
            b' '..=b'~' => keys.push(Key::Alt(byte.into())),
            0x80.. => self.lead(byte, Alt::Held, keys),
            _ => {
                keys.push(Key::Escape);
                keys.push(ascii(byte));
            }
        }
    }

    fn sequence(&mut self, start: u8, mut bytes: Vec<u8>, byte: u8, keys: &mut Vec<Key>) {
        match byte {
            b'[' if start == b'[' && bytes.is_empty() => self.at = At::Console,
            0x20..=0x3f if bytes.len() < LONGEST => {
                bytes.push(byte);
                self.at = At::Sequence { start, bytes };
            }
            0x40..=0x7e => keys.extend(named(start, &bytes, byte)),
            // Not a sequence any more: this byte is the next key.
            _ => self.first(byte, keys),
        }
    }

    /// The first byte of a character of several bytes.
    fn lead(&mut self, byte: u8, alt: Alt, keys: &mut Vec<Key>) {
        if length(byte) == 0 {
            keys.push(char_key(char::REPLACEMENT_CHARACTER, alt));
            return;
        }
        let bytes = [byte, 0, 0, 0];
        self.at = At::Utf8 {
            bytes,
            have: 1,
            alt,
        };
    }

    fn utf8(&mut self, mut bytes: [u8; 4], have: usize, alt: Alt, byte: u8, keys: &mut Vec<Key>) {
        if !(0x80..=0xbf).contains(&byte) {
            keys.push(char_key(char::REPLACEMENT_CHARACTER, alt));
            return self.first(byte, keys);
        }
        if let Some(place) = bytes.get_mut(have) {
            *place = byte;
        }
        let have = have + 1;
        if have < length(bytes[0]) {
            self.at = At::Utf8 { bytes, have, alt };
            return;
        }
        let text = bytes.get(..have).map(std::str::from_utf8);
        let char = match text {
            Some(Ok(text)) => text.chars().next(),
            _ => None,
        };
        match char.unwrap_or(char::REPLACEMENT_CHARACTER) {
            // Some terminals take these for the beginnings of commands; no keyboard has them.
            char if char.is_control() => {}
            char => keys.push(char_key(char, alt)),
        }
    }
}

fn char_key(char: char, alt: Alt) -> Key {
    match alt {
        Alt::Held => Key::Alt(char),
        Alt::Not => Key::Char(char),
    }
}

/// How many bytes a character has that begins with this one; 0 if none does.
const fn length(lead: u8) -> usize {
    match lead {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 0,
    }
}

/// The key of one byte below 0x80, other than Escape.
fn ascii(byte: u8) -> Key {
    match byte {
        b'\t' => Key::Tab,
        b'\r' | b'\n' => Key::Enter,
        0x08 | 0x7f => Key::Backspace,
        0 => Key::Ctrl(' '),
        0x01..=0x1a => Key::Ctrl(char::from(byte - 1 + b'a')),
        0x1b..=0x1f => Key::Ctrl(char::from(byte | 0x40)),
        _ => Key::Char(byte.into()),
    }
}

/// The key of a sequence: its parameters and its last byte.
fn named(start: u8, bytes: &[u8], last: u8) -> Option<Key> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut numbers = text.split(';').map(|part| match part {
        "" => Some(1),
        part => part.parse::<u16>().ok(),
    });
    let first = numbers.next().flatten()?;
    // Behind `O` the only number is the modifier.
    let modifier = match numbers.next() {
        Some(number) => number?,
        None if start == b'O' => first,
        None => 1,
    };
    // 1 for Shift, 2 for Alt, 4 for Control, of which the sum is sent plus one.
    let word = modifier.saturating_sub(1) & 6 != 0;
    let key = match last {
        b'A' => Key::Up,
        b'B' => Key::Down,
        b'C' if word => Key::WordRight,
        b'D' if word => Key::WordLeft,
        b'C' => Key::Right,
        b'D' => Key::Left,
        b'H' => Key::Home,
        b'F' => Key::End,
        b'Z' => Key::BackTab,
        b'M' if start == b'O' => Key::Enter,
        b'~' => match first {
            1 | 7 => Key::Home,
            4 | 8 => Key::End,
            3 => Key::Delete,
            5 => Key::PageUp,
            6 => Key::PageDown,
            _ => return None,
        },
        _ => return None,
    };
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(bytes: &[u8]) -> Vec<Key> {
        let mut decoder = Decoder::new();
        let mut keys = decoder.push(bytes);
        keys.extend(decoder.flush());
        keys
    }

    #[test]
    fn one_key_each() {
        for (bytes, key) in [
            (&b"a"[..], Key::Char('a')),
            ("ż".as_bytes(), Key::Char('ż')),
            ("日".as_bytes(), Key::Char('日')),
            ("🦀".as_bytes(), Key::Char('🦀')),
            (b"\x03", Key::Ctrl('c')),
            (b"\0", Key::Ctrl(' ')),
            (b"\x1f", Key::Ctrl('_')),
            (b"\x1c", Key::Ctrl('\\')),
            (b"\t", Key::Tab),
            (b"\r", Key::Enter),
            (b"\n", Key::Enter),
            (b"\x7f", Key::Backspace),
            (b"\x08", Key::Backspace),
            (b"\x1b", Key::Escape),
            (b"\x1bb", Key::Alt('b')),
            ("\x1bż".as_bytes(), Key::Alt('ż')),
            (b"\x1b\x7f", Key::AltBackspace),
            (b"\x1b[", Key::Alt('[')),
            (b"\x1bO", Key::Alt('O')),
            (b"\x1b]", Key::Alt(']')),
            (b"\x1b[A", Key::Up),
            (b"\x1bOA", Key::Up),
            (b"\x1b[B", Key::Down),
            (b"\x1b[C", Key::Right),
            (b"\x1b[D", Key::Left),
            (b"\x1b[1;2D", Key::Left),
            (b"\x1b[1;5D", Key::WordLeft),
            (b"\x1b[1;3C", Key::WordRight),
            (b"\x1bO5C", Key::WordRight),
            (b"\x1b[H", Key::Home),
            (b"\x1b[1~", Key::Home),
            (b"\x1bOF", Key::End),
            (b"\x1b[8~", Key::End),
            (b"\x1b[3~", Key::Delete),
            (b"\x1b[5~", Key::PageUp),
            (b"\x1b[6~", Key::PageDown),
            (b"\x1b[Z", Key::BackTab),
            (b"\x1bOM", Key::Enter),
            (b"\xff", Key::Char('\u{fffd}')),
        ] {
            assert_eq!(decode(bytes), [key], "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn what_is_unknown_vanishes_and_what_follows_is_kept() {
        for bytes in [
            &b"\x1b[15~"[..],
            b"\x1b[[A",
            b"\x1bOP",
            b"\x1b[?1;2c",
            b"\x1b[200~",
            b"\x1b[99999999;5~",
            b"\x1b[<0;1;1m",
            b"\x1b[97;5u",
            b"\x1b]11;rgb:0000/0000/0000\x07",
            b"\x1b]11;rgb:0000\x1b\\",
            b"\x1bP1+r\x1b\\",
            "\u{9b}".as_bytes(),
        ] {
            let mut all = bytes.to_vec();
            all.push(b'x');
            assert_eq!(decode(&all), [Key::Char('x')], "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn what_breaks_off_loses_nothing_that_follows() {
        use Key::{Char, Ctrl, Escape, Up};
        let odd = Char('\u{fffd}');
        for (bytes, keys) in [
            (&b"\x1b\x1b[A"[..], &[Escape, Up][..]),
            (b"\x1b[1\x03", &[Ctrl('c')]),
            (b"\x1b[1\x1b[A", &[Up]),
            (b"\xe6\x97a", &[odd, Char('a')]),
            (b"\xe6\x03", &[odd, Ctrl('c')]),
            (b"\xed\xa0\x80a", &[odd, Char('a')]),
            (b"\x1b\x01", &[Escape, Ctrl('a')]),
            (b"\x1b]0;x\x1b[A", &[Up]),
        ] {
            assert_eq!(decode(bytes), keys, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn no_sequence_holds_keys_back_for_ever() {
        let mut decoder = Decoder::new();
        decoder.push(b"\x1b]");
        decoder.push(&[b'x'; LONGEST_TEXT + 1]);
        assert_eq!(decoder.push(b"a"), [Key::Char('a')]);
        decoder.push(b"\x1b[");
        decoder.push(&[b'1'; LONGEST + 1]);
        assert_eq!(decoder.push(b"A").last(), Some(&Key::Char('A')));
    }

    /// Bytes among which sequences are likely.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let likely =
            prop::sample::select(b"\x1b[O]P;15~ABCZ\x07\\a\xe6\x97\xa5\xf0\x80\xc2".to_vec());
        prop::collection::vec(prop_oneof![3 => likely, 1 => any::<u8>()], 0..60)
    }

    proptest! {
        #[test]
        fn pieces_give_the_same_keys(bytes in bytes(), cuts in prop::collection::vec(0_usize..60, 0..6)) {
            let whole = decode(&bytes);
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| (*cut).min(bytes.len())).collect();
            cuts.sort_unstable();
            let (mut decoder, mut keys, mut from) = (Decoder::new(), Vec::new(), 0);
            for cut in cuts.into_iter().chain([bytes.len()]) {
                keys.extend(decoder.push(&bytes[from..cut]));
                from = cut;
            }
            keys.extend(decoder.flush());
            prop_assert!(!decoder.is_waiting());
            for key in &keys {
                let (Key::Char(char) | Key::Alt(char)) = key else { continue };
                prop_assert!(!char.is_control(), "{key:?}");
            }
            prop_assert_eq!(keys, whole);
        }
    }
}
