//! A body in chunks: how one is written, and how it is read.

use super::error::Garbled;
use super::feed::Feed;

/// The end of such a body.
pub(super) const END: &[u8] = b"0\r\n\r\n";

/// One chunk. The bytes are not empty, which would be the end.
pub(super) fn chunk(bytes: &[u8]) -> Vec<u8> {
    let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
    chunk.extend_from_slice(bytes);
    chunk.extend_from_slice(b"\r\n");
    chunk
}

/// Reads chunks.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    state: State,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Size,
    Data(usize),
    DataEnd,
    Trailer,
    Over,
}

/// What reading led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// It takes more bytes.
    More,
    /// There was something.
    Some,
    /// The body is complete.
    Over,
}

/// A size line: eight digits and its ending.
const SIZE_LINE: usize = 10;

impl Chunks {
    /// Takes out of the feed what is there of one chunk.
    pub(super) fn read(&mut self, feed: &mut Feed, to: &mut Vec<u8>) -> Result<Read, Garbled> {
        loop {
            match self.state {
                State::Over => return Ok(Read::Over),
                State::Data(left) => {
                    let bytes = feed.take(left);
                    if bytes.is_empty() {
                        return Ok(Read::More);
                    }
                    to.extend_from_slice(bytes);
                    self.state = match left - bytes.len() {
                        0 => State::DataEnd,
                        left => State::Data(left),
                    };
                    return Ok(Read::Some);
                }
                State::Size | State::DataEnd | State::Trailer => {
                    let line = feed.line(SIZE_LINE).map_err(|_| Garbled::Chunk)?;
                    let Some(line) = line else {
                        return Ok(Read::More);
                    };
                    self.state = match (self.state, line) {
                        (State::DataEnd, b"") => State::Size,
                        (State::Trailer, b"") => State::Over,
                        (State::Size, line) => match size(line).ok_or(Garbled::Chunk)? {
                            0 => State::Trailer,
                            size => State::Data(size),
                        },
                        _ => return Err(Garbled::Chunk),
                    };
                }
            }
        }
    }
}

fn size(line: &[u8]) -> Option<usize> {
    if line.is_empty() || !line.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    usize::from_str_radix(std::str::from_utf8(line).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads what comes in pieces.
    fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Result<Read, Garbled>, Vec<u8>) {
        let (mut feed, mut chunks, mut to) = (Feed::default(), Chunks::default(), Vec::new());
        for piece in pieces {
            feed.push(piece);
            loop {
                match chunks.read(&mut feed, &mut to) {
                    Ok(Read::Some) => {}
                    Ok(Read::More) => break,
                    end => return (end, to),
                }
            }
        }
        (Ok(Read::More), to)
    }

    #[test]
    fn what_is_no_chunk() {
        for bad in [
            "\r\n",
            "g\r\n",
            "1;a\r\na\r\n",
            "1\na\n",
            "+1\r\n",
            "123456789\r\n",
            "1\r\nab\r\n",
            "0\r\na: b\r\n",
        ] {
            let (end, _) = read([bad.as_bytes()].into_iter());
            assert_eq!(end, Err(Garbled::Chunk), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
            piece in 1_usize..9,
        ) {
            let mut bytes: Vec<u8> = parts.iter().flat_map(|part| chunk(part)).collect();
            bytes.extend_from_slice(END);
            prop_assert_eq!(read(bytes.chunks(piece)), (Ok(Read::Over), parts.concat()));
        }

        #[test]
        fn it_does_not_matter_where_bytes_are_split(
            bytes in "[01a;\r\n]{0,30}", piece in 1_usize..5,
        ) {
            let bytes = bytes.as_bytes();
            prop_assert_eq!(read(bytes.chunks(piece)), read([bytes].into_iter()));
        }
    }
}
