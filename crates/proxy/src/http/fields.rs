//! One line of a head: a name and a value.

/// True for what names of methods and fields are made of.
pub(super) fn is_token(bytes: &[u8]) -> bool {
    let allowed = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    !bytes.is_empty() && bytes.iter().all(allowed)
}

/// The name in small letters and the value without the spaces around it. `None` when the line is
/// no field, which includes one that continues the line before.
pub(super) fn field(line: &[u8]) -> Option<(String, String)> {
    let colon = line.iter().position(|&b| b == b':')?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if !is_token(name) {
        return None;
    }
    let printable = |&b: &u8| b == b'\t' || (b' '..=b'~').contains(&b);
    if !value.iter().all(printable) {
        return None;
    }
    let name = std::str::from_utf8(name).ok()?.to_ascii_lowercase();
    let value = std::str::from_utf8(value).ok()?.trim_matches([' ', '\t']);
    Some((name, value.to_owned()))
}

/// A number of nothing but digits. `Some(None)` when it is too large to write down.
pub(super) fn length(text: &str) -> Option<Option<usize>> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().ok())
}

/// True if the list has the word, in any case.
pub(super) fn lists(list: &str, word: &str) -> bool {
    let mut words = list.split(',');
    words.any(|one| one.trim_matches([' ', '\t']).eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_a_name_a_colon_and_a_value() {
        let rows = [
            ("Host: a", Some(("host", "a"))),
            ("x:\t b c \t", Some(("x", "b c"))),
            ("x:", Some(("x", ""))),
            ("x:a:b", Some(("x", "a:b"))),
            ("x : a", None),
            (" x: a", None),
            (":a", None),
            ("x", None),
            ("x: \u{1}", None),
            ("x: a\rb", None),
            ("x: \u{e4}", None),
            ("\u{e4}: a", None),
        ];
        for (line, expected) in rows {
            let expected = expected.map(|(n, v): (&str, &str)| (n.to_owned(), v.to_owned()));
            assert_eq!(field(line.as_bytes()), expected, "{line:?}");
        }
    }

    #[test]
    fn a_length_is_digits() {
        for bad in [
            "", "+1", "-1", "1 ", "0x1", "1,1", "1.0",
        ] {
            assert_eq!(length(bad), None, "{bad:?}");
        }
        assert_eq!(length("17"), Some(Some(17)));
        assert_eq!(length("99999999999999999999999"), Some(None));
    }

    #[test]
    fn words_of_a_list() {
        assert!(lists("a, Close", "close"));
        assert!(!lists("closed", "close"));
    }
}
