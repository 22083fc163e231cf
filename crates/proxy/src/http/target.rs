//! What a request is about: segments of a path and parameters.

use std::fmt::Write as _;

/// What is left of a target: segments, and names with values.
pub(super) type Parts = (Vec<String>, Vec<(String, String)>);

/// Takes a target apart. `None` when it is none, or one that another reader might understand in
/// another way: with dots to go up by, control characters, or bytes that are no text.
pub(super) fn parts(text: &[u8]) -> Option<Parts> {
    let visible = |&b: &u8| (b'!'..=b'~').contains(&b) && b != b'#';
    if text.first() != Some(&b'/') || !text.iter().all(visible) {
        return None;
    }
    let (path, query) = match text.iter().position(|&b| b == b'?') {
        Some(at) => (&text[1..at], &text[at + 1..]),
        None => (&text[1..], [].as_slice()),
    };
    let mut segments = Vec::new();
    if !path.is_empty() {
        for segment in path.split(|&b| b == b'/') {
            let segment = decoded(segment, Plus::Itself)?;
            if segment == "." || segment == ".." {
                return None;
            }
            segments.push(segment);
        }
    }
    let mut parameters = Vec::new();
    for pair in query.split(|&b| b == b'&').filter(|pair| !pair.is_empty()) {
        let (name, value) = match pair.iter().position(|&b| b == b'=') {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, [].as_slice()),
        };
        parameters.push((decoded(name, Plus::Space)?, decoded(value, Plus::Space)?));
    }
    Some((segments, parameters))
}

/// What a plus sign stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plus {
    /// In a path.
    Itself,
    /// In a query, as forms write it.
    Space,
}

fn decoded(text: &[u8], plus: Plus) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        bytes.push(match first {
            b'%' => {
                let (&[high, low], after) = rest.split_first_chunk()?;
                rest = after;
                digit(high)? << 4 | digit(low)?
            }
            b'+' if plus == Plus::Space => b' ',
            other => other,
        });
    }
    let text = String::from_utf8(bytes).ok()?;
    (!text.chars().any(char::is_control)).then_some(text)
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

fn encode(text: &str, to: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            to.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(to, "%{byte:02X}");
        }
    }
}

/// Makes a target: a path of segments, and parameters. What would mean something else is written
/// with percent signs.
///
/// ```
/// # use bpfsmith_proxy::http::target;
/// let route = target(&["routes", "10.0.0.0/8"], &[("json", ""), ("why", "a test")]);
/// assert_eq!(route, "/routes/10.0.0.0%2F8?json=&why=a%20test");
/// ```
pub fn target(segments: &[&str], parameters: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for segment in segments {
        text.push('/');
        encode(segment, &mut text);
    }
    if text.is_empty() {
        text.push('/');
    }
    for (at, (name, value)) in parameters.iter().enumerate() {
        text.push(if at == 0 { '?' } else { '&' });
        encode(name, &mut text);
        text.push('=');
        encode(value, &mut text);
    }
    text
}

/// True for what may stand in a request line.
pub(super) fn is_target(text: &str) -> bool {
    parts(text.as_bytes()).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn segments(text: &str) -> Option<Vec<String>> {
        parts(text.as_bytes()).map(|(segments, _)| segments)
    }

    #[test]
    fn segments_are_decoded_each() {
        assert_eq!(segments("/").unwrap(), [""; 0]);
        assert_eq!(segments("/a/b%2Fc").unwrap(), ["a", "b/c"]);
        assert_eq!(segments("/a+b%C3%A4").unwrap(), ["a+b\u{e4}"]);
        assert_eq!(segments("//a/").unwrap(), ["", "a", ""]);
    }

    #[test]
    fn parameters_keep_their_order() {
        let (_, query) = parts(b"/?b=1&a=x+y%26&&b=2&c&=d").unwrap();
        let expected = [
            ("b", "1"),
            ("a", "x y&"),
            ("b", "2"),
            ("c", ""),
            ("", "d"),
        ];
        assert_eq!(query, expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
    }

    #[test]
    fn what_is_no_target() {
        for bad in [
            "",
            "*",
            "a",
            "http://x/",
            "/a#b",
            "/a b",
            "/%",
            "/%2",
            "/%zz",
            "/%+1",
            "/%ff",
            "/%00",
            "/a/../b",
            "/%2e%2E",
            "/.",
            "/a\u{e4}",
            "/?a=%0d%0a",
        ] {
            assert_eq!(segments(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_made_is_understood(
            path in prop::collection::vec("[^\\p{Cc}]{1,9}", 1..4),
            query in prop::collection::vec(("[^\\p{Cc}]{1,9}", "[^\\p{Cc}]{0,9}"), 0..4),
        ) {
            prop_assume!(path.iter().all(|segment| segment != "." && segment != ".."));
            let segments: Vec<&str> = path.iter().map(String::as_str).collect();
            let pairs: Vec<(&str, &str)> =
                query.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            let text = target(&segments, &pairs);
            prop_assert_eq!(parts(text.as_bytes()), Some((path, query)));
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = parts(&bytes);
        }
    }
}
