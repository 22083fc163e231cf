//! A request of HTTP, and the status of its answer.

use bpfsmith_config::desired::Check;
use std::fmt::Write;
use std::net::SocketAddr;

/// What is sent, and what is hoped for.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) bytes: Vec<u8>,
    expect: Vec<u16>,
}

impl Question {
    /// Nothing for a check that says nothing.
    pub(super) fn of(check: &Check, address: SocketAddr) -> Option<Question> {
        let Check::Http { path, host, expect } = check else {
            return None;
        };
        let host = match host {
            Some(host) => quoted(host),
            // Made anew, as a scope means nothing to others.
            None => SocketAddr::new(address.ip(), address.port()).to_string(),
        };
        let slash = if path.starts_with('/') { "" } else { "/" };
        let path = quoted(path);
        let text = format!(
            "GET {slash}{path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bpfsmith-proxy\r\n\
             Accept: */*\r\nConnection: close\r\n\r\n"
        );
        Some(Question {
            bytes: text.into_bytes(),
            expect: expect.clone(),
        })
    }

    /// Whether that is what was hoped for.
    pub(super) fn is_expected(&self, status: u16) -> bool {
        match self.expect.is_empty() {
            true => (200..300).contains(&status),
            false => self.expect.contains(&status),
        }
    }
}

/// A text without what would end a line of a request, or a word in it.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            0x21..=0x7e => quoted.push(char::from(byte)),
            // Writing to a string does not fail.
            _ => drop(write!(quoted, "%{byte:02X}")),
        }
    }
    quoted
}

/// What an answer begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// More has to come until one knows.
    More,
    /// That is its status.
    Code(u16),
    /// Something else than HTTP/1.
    Not,
}

/// `#` is a digit, `_` the end of a word.
const LINE: &[u8] = b"HTTP/1.# ###_";

/// The status of an answer that begins so. Answers that only announce another one are passed over.
pub(super) fn status(bytes: &[u8]) -> Status {
    let mut rest = bytes;
    loop {
        let code = match first_line(rest) {
            Status::Code(code) => code,
            other => return other,
        };
        // With 101 the target goes over to something else, and nothing follows.
        if !(100..200).contains(&code) || code == 101 {
            return Status::Code(code);
        }
        match after_head(rest) {
            Some(after) => rest = after,
            None => return Status::More,
        }
    }
}

fn first_line(bytes: &[u8]) -> Status {
    let mut code = 0;
    for (place, want) in LINE.iter().enumerate() {
        let Some(&byte) = bytes.get(place) else {
            return Status::More;
        };
        let is_right = match want {
            b'#' => byte.is_ascii_digit(),
            b'_' => matches!(byte, b' ' | b'\r' | b'\n'),
            want => byte == *want,
        };
        if !is_right {
            return Status::Not;
        }
        if *want == b'#' && place > 8 {
            code = code * 10 + u16::from(byte - b'0');
        }
    }
    match code {
        100.. => Status::Code(code),
        _ => Status::Not,
    }
}

/// What stands behind the first empty line.
fn after_head(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes;
    loop {
        let end = rest.iter().position(|&byte| byte == b'\n')?;
        rest = rest.get(end + 1..)?;
        for empty in [&b"\r\n"[..], b"\n"] {
            if let Some(after) = rest.strip_prefix(empty) {
                return Some(after);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ROWS: &[(&str, Status)] = &[
        ("", Status::More),
        ("HTTP/1.1 200", Status::More),
        ("HTTP/1.1 200 OK\r\n", Status::Code(200)),
        ("HTTP/1.0 503\r\n", Status::Code(503)),
        ("HTTP/1.1 204\n", Status::Code(204)),
        ("HTTP/1.1 999 ?", Status::Code(999)),
        ("HTTP/1.1 099 ?", Status::Not),
        ("HTTP/1.1 2000 ", Status::Not),
        ("HTTP/1.1 -20 ", Status::Not),
        ("HTTP/1.1  20 ", Status::Not),
        ("HTTP/2 200 ", Status::Not),
        ("http/1.1 200 ", Status::Not),
        ("SSH-2.0", Status::Not),
        ("\r\nHTTP/1.1 200 ", Status::Not),
        ("HTTP/1.1 101 Other\r\n", Status::Code(101)),
        ("HTTP/1.1 103 Early\r\nLink: a\r\n", Status::More),
        ("HTTP/1.1 100\r\n\r\n", Status::More),
        (
            "HTTP/1.1 100\r\n\r\nHTTP/1.1 103 E\nLink: b\n\nHTTP/1.1 404 ",
            Status::Code(404),
        ),
        ("HTTP/1.1 100\r\n\r\nHTTX", Status::Not),
    ];

    #[test]
    fn the_status_of_answers() {
        for &(answer, wanted) in ROWS {
            assert_eq!(status(answer.as_bytes()), wanted, "{answer:?}");
        }
    }

    #[test]
    fn an_answer_that_comes_in_pieces_says_the_same() {
        for &(answer, wanted) in ROWS {
            let known = (0..=answer.len()).map(|len| status(&answer.as_bytes()[..len]));
            let first = known.into_iter().find(|status| *status != Status::More);
            assert_eq!(first.unwrap_or(Status::More), wanted, "{answer:?}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(bytes: Vec<u8>, code in 0_u16..1000) {
            status(&bytes);
            let begin = format!("HTTP/1.1 {code:03} \r\n\r\n");
            status(&[begin.as_bytes(), &bytes].concat());
        }
    }

    fn http(path: &str, host: Option<&str>, expect: &[u16]) -> Check {
        Check::Http {
            path: path.to_owned(),
            host: host.map(str::to_owned),
            expect: expect.to_vec(),
        }
    }

    #[test]
    fn a_request() {
        let address = "[fe80::1%3]:8080".parse().unwrap();
        let question = Question::of(&http("/alive?a=b", None, &[]), address).unwrap();
        assert_eq!(
            String::from_utf8(question.bytes).unwrap(),
            "GET /alive?a=b HTTP/1.1\r\nHost: [fe80::1]:8080\r\nUser-Agent: bpfsmith-proxy\r\n\
             Accept: */*\r\nConnection: close\r\n\r\n"
        );
        assert!(Question::of(&Check::Tcp, address).is_none());
    }

    #[test]
    fn nothing_gets_out_of_its_line() {
        let address = "10.0.0.1:80".parse().unwrap();
        let check = http("a b\r\nX: y", Some("h\r\nZ: ö"), &[]);
        let text = String::from_utf8(Question::of(&check, address).unwrap().bytes).unwrap();
        assert!(
            text.starts_with("GET /a%20b%0D%0AX:%20y HTTP/1.1\r\nHost: h%0D%0AZ:%20%C3%B6\r\n")
        );
        assert_eq!(text.lines().count(), 6);
    }

    #[test]
    fn what_is_expected() {
        let address = "10.0.0.1:80".parse().unwrap();
        let some = Question::of(&http("/", None, &[204, 401]), address).unwrap();
        assert!(some.is_expected(401) && !some.is_expected(200));
        let none = Question::of(&http("/", None, &[]), address).unwrap();
        assert!(none.is_expected(200) && none.is_expected(299) && !none.is_expected(300));
    }
}
