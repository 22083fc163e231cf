//! Answers out of bytes.

use super::chunks::{Chunks, Read};
use super::error::Garbled;
use super::feed::{Broken, Feed};
use super::{fields, message};

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The number that says how it went.
    pub status: u16,
    /// What the body is; empty if that was not said.
    pub content_type: String,
    /// What was told.
    pub body: Vec<u8>,
}

impl Reply {
    /// True if what was asked for was done.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// A head may have so many bytes.
const HEAD: usize = 16 << 10;

/// Takes bytes in pieces of any size, gives one answer.
#[derive(Debug, Default)]
pub(super) struct Reader {
    feed: Feed,
    used: usize,
    head: Option<Head>,
    body: Option<Body>,
}

#[derive(Debug, Default)]
struct Head {
    status: u16,
    content_type: Option<String>,
    length: Option<usize>,
    chunked: bool,
}

#[derive(Debug)]
enum Body {
    Length(usize),
    Chunked(Chunks),
}

impl Reader {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.feed.push(bytes);
    }

    /// The head, as soon as it is complete: what is answered before the answer is left out.
    pub(super) fn head(&mut self) -> Result<Option<Reply>, Garbled> {
        while self.body.is_none() {
            let room = HEAD.saturating_sub(self.used);
            let line = match self.feed.line(room) {
                Ok(Some(line)) => line,
                Ok(None) => return Ok(None),
                Err(Broken::Ending | Broken::Long) => return Err(Garbled::Head),
            };
            self.used += line.len() + 2;
            match &mut self.head {
                None => self.head = Some(status_line(line).ok_or(Garbled::Head)?),
                Some(head) if !line.is_empty() => head.field(line).ok_or(Garbled::Head)?,
                Some(head) if head.status < 200 => {
                    self.head = None;
                    self.used = 0;
                }
                Some(head) => self.body = Some(head.body().ok_or(Garbled::Head)?),
            }
        }
        Ok(self.head.as_ref().map(|head| Reply {
            status: head.status,
            content_type: head.content_type.clone().unwrap_or_default(),
            body: Vec::new(),
        }))
    }

    /// What there is of the body; the head is complete.
    pub(super) fn body(&mut self, to: &mut Vec<u8>) -> Result<Read, Garbled> {
        match &mut self.body {
            None => Ok(Read::More),
            Some(Body::Chunked(chunks)) => chunks.read(&mut self.feed, to),
            Some(Body::Length(0)) => Ok(Read::Over),
            Some(Body::Length(left)) => {
                let bytes = self.feed.take(*left);
                *left -= bytes.len();
                to.extend_from_slice(bytes);
                Ok(if bytes.is_empty() {
                    Read::More
                } else {
                    Read::Some
                })
            }
        }
    }
}

fn status_line(line: &[u8]) -> Option<Head> {
    let rest = line.strip_prefix(b"HTTP/1.1 ")?;
    let (digits, after) = rest.split_first_chunk::<3>()?;
    if !digits.iter().all(u8::is_ascii_digit) || !matches!(after.first(), None | Some(b' ')) {
        return None;
    }
    let status = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (status >= 100).then(|| Head {
        status,
        ..Head::default()
    })
}

impl Head {
    fn field(&mut self, line: &[u8]) -> Option<()> {
        let (name, value) = fields::field(line)?;
        match name.as_str() {
            "content-type" if self.content_type.is_none() => self.content_type = Some(value),
            "content-length" if self.length.is_none() => {
                self.length = Some(fields::length(&value)??);
            }
            "transfer-encoding" if !self.chunked && value.eq_ignore_ascii_case("chunked") => {
                self.chunked = true;
            }
            "content-type" | "content-length" | "transfer-encoding" => return None,
            _ => {}
        }
        Some(())
    }

    /// An answer says how long it is: nobody can tell an end from a break otherwise.
    fn body(&self) -> Option<Body> {
        match (message::has_body(self.status), self.length, self.chunked) {
            (false, None | Some(0), false) => Some(Body::Length(0)),
            (true, Some(length), false) => Some(Body::Length(length)),
            (true, None, true) => Some(Body::Chunked(Chunks::default())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Option<Reply>, Garbled> {
        let mut reader = Reader::default();
        let mut body = Vec::new();
        for piece in pieces {
            reader.push(piece);
            let Some(head) = reader.head()? else { continue };
            loop {
                match reader.body(&mut body)? {
                    Read::Some => {}
                    Read::More => break,
                    Read::Over => return Ok(Some(Reply { body, ..head })),
                }
            }
        }
        Ok(None)
    }

    #[test]
    fn an_answer_says_how_long_it_is() {
        let ok = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: 2\r\n\r\nhi";
        let reply = read([ok.as_slice()].into_iter()).unwrap().unwrap();
        assert_eq!(
            (
                reply.status,
                reply.content_type.as_str(),
                reply.body.as_slice()
            ),
            (200, "a/b", b"hi".as_slice())
        );
        assert!(reply.is_success());
        let chunked =
            b"HTTP/1.1 404 \r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n1\r\n!\r\n0\r\n\r\n";
        let reply = read([chunked.as_slice()].into_iter()).unwrap().unwrap();
        assert_eq!(
            (reply.status, reply.body.as_slice()),
            (404, b"hi!".as_slice())
        );
        let empty = read([b"HTTP/1.1 204 No Content\r\n\r\n".as_slice()].into_iter());
        assert_eq!(empty.unwrap().unwrap().body, b"");
    }

    #[test]
    fn what_is_no_answer() {
        let rows = [
            "SSH-2.0\r\n",
            "HTTP/1.0 200 OK\r\n",
            "HTTP/1.1 20\r\n",
            "HTTP/1.1 2000\r\n",
            "HTTP/1.1 099 x\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "HTTP/1.1 204 OK\r\nContent-Length: 1\r\n\r\n",
            "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        ];
        for bad in rows {
            let answer = read([bad.as_bytes()].into_iter());
            assert_eq!(answer, Err(Garbled::Head), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_bytes_are_split(
            body: Vec<u8>, chunked: bool, at: prop::sample::Index, piece in 1_usize..60, noise: u8,
        ) {
            let mut bytes = b"HTTP/1.1 200 OK\r\nContent-Type: x\r\n".to_vec();
            if chunked {
                bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                for part in body.chunks(7) {
                    bytes.extend(super::super::chunks::chunk(part));
                }
                bytes.extend_from_slice(super::super::chunks::END);
            } else {
                bytes.extend(format!("Content-Length: {}\r\n\r\n", body.len()).into_bytes());
                bytes.extend_from_slice(&body);
            }
            let whole = read([bytes.as_slice()].into_iter());
            prop_assert_eq!(&whole.clone().unwrap().unwrap().body, &body);
            prop_assert_eq!(read(bytes.chunks(piece)), whole);
            let at = at.index(bytes.len());
            bytes[at] = noise;
            prop_assert_eq!(read(bytes.chunks(piece)), read([bytes.as_slice()].into_iter()));
        }
    }
}
