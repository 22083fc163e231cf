//! Names as the protocol has them: labels with their lengths.

use super::message::Garbled;
use std::fmt;
use std::str::FromStr;

/// How many bytes a name may have on the wire, with the lengths of its labels and the end.
const MOST: usize = 255;
/// How many bytes a label may have.
const MOST_LABEL: u8 = 63;
/// How often the reading of one name may jump: no honest name has more labels.
const MOST_JUMPS: u32 = 127;

/// The name of a host, in lower case and complete: nothing is added to it.
///
/// ```
/// use bpfsmith_proxy::dns::Name;
/// let name: Name = "Web.Example.".parse()?;
/// assert_eq!(name.to_string(), "web.example");
/// # Ok::<(), bpfsmith_proxy::dns::BadName>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Vec<u8>);

/// Why a text is no name of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadName {
    /// There is nothing, or nothing between two dots.
    Empty,
    /// More than 63 characters between two dots.
    LongLabel,
    /// More than 253 characters.
    Long,
    /// A character that is neither a letter, a digit, `-` nor `_`.
    Character(char),
}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadName::Empty => f.write_str("a part of the name is empty"),
            BadName::LongLabel => f.write_str("a part of the name has more than 63 characters"),
            BadName::Long => f.write_str("the name has more than 253 characters"),
            BadName::Character(it) => write!(f, "there is {it:?} in the name"),
        }
    }
}

impl std::error::Error for BadName {}

impl FromStr for Name {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Name, BadName> {
        let mut wire = Vec::with_capacity(text.len() + 2);
        for label in text.strip_suffix('.').unwrap_or(text).split('.') {
            let strange = |it: &char| !(it.is_ascii_alphanumeric() || matches!(it, '-' | '_'));
            if let Some(it) = label.chars().find(strange) {
                return Err(BadName::Character(it));
            }
            match u8::try_from(label.len()) {
                Ok(0) => return Err(BadName::Empty),
                Ok(length @ ..=MOST_LABEL) => wire.push(length),
                _ => return Err(BadName::LongLabel),
            }
            wire.extend(label.bytes().map(|it| it.to_ascii_lowercase()));
        }
        wire.push(0);
        match wire.len() <= MOST {
            true => Ok(Name(wire)),
            false => Err(BadName::Long),
        }
    }
}

impl fmt::Display for Name {
    /// Without the dot at the end; a byte that no name of a host has is escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, label) in self.labels().enumerate() {
            if n > 0 {
                f.write_str(".")?;
            }
            write!(f, "{}", label.escape_ascii())?;
        }
        Ok(())
    }
}

impl Name {
    /// Its bytes in a message, not compressed.
    #[must_use]
    pub fn wire(&self) -> &[u8] {
        &self.0
    }

    /// Its parts, from left to right.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.0.as_slice();
        std::iter::from_fn(move || {
            let (&length, after) = rest.split_first()?;
            let (label, after) = after.split_at_checked(length.into())?;
            rest = after;
            (length > 0).then_some(label)
        })
    }

    /// Whether the machine itself is meant: `localhost`, or a name that ends in `.localhost`.
    #[must_use]
    pub fn is_localhost(&self) -> bool {
        self.labels().last() == Some(b"localhost")
    }

    /// The name at a place of a message, and the place behind it.
    ///
    /// Every jump goes back, and there are not many: no message keeps the reader going round.
    pub(super) fn read(message: &[u8], at: usize) -> Result<(Name, usize), Garbled> {
        let mut wire = Vec::new();
        let (mut here, mut low, mut jumps) = (at, at, 0);
        let mut behind = None;
        loop {
            let length = *message.get(here).ok_or(Garbled::Short)?;
            match length {
                0 => {
                    wire.push(0);
                    return Ok((Name(wire), behind.unwrap_or(here + 1)));
                }
                1..=MOST_LABEL => {
                    let end = here + 1 + usize::from(length);
                    let label = message.get(here + 1..end).ok_or(Garbled::Short)?;
                    wire.push(length);
                    wire.extend(label.iter().map(u8::to_ascii_lowercase));
                    // The end needs one more.
                    if wire.len() >= MOST {
                        return Err(Garbled::Name);
                    }
                    here = end;
                }
                0xc0.. => {
                    let next = *message.get(here + 1).ok_or(Garbled::Short)?;
                    behind = behind.or(Some(here + 2));
                    here = usize::from(u16::from_be_bytes([length & 0x3f, next]));
                    jumps += 1;
                    if here >= low || jumps > MOST_JUMPS {
                        return Err(Garbled::Name);
                    }
                    low = here;
                }
                _ => return Err(Garbled::Name),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_names() {
        let name: Name = "A-b_c.Example.".parse().unwrap();
        assert_eq!(name.wire(), b"\x05a-b_c\x07example\x00");
        assert_eq!(name.to_string(), "a-b_c.example");
        for (text, why) in [
            ("", BadName::Empty),
            (".", BadName::Empty),
            ("a..b", BadName::Empty),
            ("a b", BadName::Character(' ')),
            ("b\u{fc}cher", BadName::Character('\u{fc}')),
            (&"a".repeat(64), BadName::LongLabel),
            (&"a".repeat(300), BadName::LongLabel),
            (&"abc.".repeat(64), BadName::Long),
        ] {
            assert_eq!(text.parse::<Name>(), Err(why), "{text:?}");
        }
        assert!(format!("{}b", "abc.".repeat(63)).parse::<Name>().is_ok());
    }

    #[test]
    fn the_machine_itself_has_a_name() {
        for (text, is) in [
            ("localhost", true),
            ("db.LocalHost.", true),
            ("localhost.example", false),
            ("notlocalhost", false),
        ] {
            assert_eq!(text.parse::<Name>().unwrap().is_localhost(), is, "{text}");
        }
    }

    #[test]
    fn compressed_names_are_read() {
        let message = b"\x03Com\x00\x07example\xc0\x00\x01a\xc0\x05rest";
        let (name, behind) = Name::read(message, 15).unwrap();
        assert_eq!(name.to_string(), "a.example.com");
        assert_eq!(&message[behind..], b"rest");
    }

    #[test]
    fn names_that_never_end_are_refused() {
        for (message, at, why) in [
            (b"\xc0\x00".as_slice(), 0, Garbled::Name),
            (b"\x01a\xc0\x00", 0, Garbled::Name),
            (b"\xc0\x02\xc0\x00", 2, Garbled::Name),
            (b"\x00\xc0\x01", 1, Garbled::Name),
            (b"\x40a\x00", 0, Garbled::Name),
            (b"\xc0", 0, Garbled::Short),
            (b"\x05ab", 0, Garbled::Short),
            (b"", 0, Garbled::Short),
            (b"\x00", 9, Garbled::Short),
        ] {
            assert_eq!(Name::read(message, at), Err(why), "{message:?}");
        }
        let long = b"\x3f".iter().chain(&[b'a'; 63]).copied().cycle();
        let long: Vec<u8> = long.take(64 * 5).collect();
        assert_eq!(Name::read(&long, 0), Err(Garbled::Name));
        // Each jump goes back, but to the next jump.
        let stairs: Vec<u8> = (0..200_u16)
            .flat_map(|it| (0xc000 | ((it.max(1) - 1) * 2)).to_be_bytes())
            .collect();
        assert_eq!(Name::read(&stairs, 398), Err(Garbled::Name));
    }
}
