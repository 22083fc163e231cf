//! Answers taken apart. Nothing here panics, whatever the bytes.

use super::{ATTR_HEADER, HEADER, NLA_F_NESTED, NLA_TYPE_MASK, aligned};

/// Bytes that are not netlink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub struct Malformed {
    /// What is wrong.
    pub what: &'static str,
    /// Where, counted from the start of the bytes that were looked at.
    pub at: usize,
}

/// One netlink message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The type of the message.
    pub kind: u16,
    /// `NLM_F_` bits.
    pub flags: u16,
    /// The sequence number of the request it answers.
    pub seq: u32,
    /// The port of the socket that asked.
    pub port: u32,
    /// What follows the header, without padding.
    pub body: &'a [u8],
}

/// The messages in a datagram; ends after the first broken one.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// Takes a datagram apart into messages.
#[must_use]
pub fn frames(bytes: &[u8]) -> Frames<'_> {
    Frames { bytes, at: 0 }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at;
        let rest = self.bytes.get(at..).filter(|rest| !rest.is_empty())?;
        let frame = frame(rest, at);
        self.at = match frame {
            Ok((_, len)) => at.saturating_add(aligned(len)),
            Err(_) => self.bytes.len(),
        };
        Some(frame.map(|(frame, _)| frame))
    }
}

fn frame(rest: &[u8], at: usize) -> Result<(Frame<'_>, usize), Malformed> {
    let broken = |what| Malformed { what, at };
    let Some((header, _)) = rest.split_first_chunk::<HEADER>() else {
        return Err(broken("a message header is cut short"));
    };
    let [
        l0,
        l1,
        l2,
        l3,
        k0,
        k1,
        f0,
        f1,
        s0,
        s1,
        s2,
        s3,
        p0,
        p1,
        p2,
        p3,
    ] = *header;
    let len = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3]))
        .map_err(|_| broken("a message is longer than memory"))?;
    let body = rest
        .get(HEADER..len)
        .ok_or_else(|| broken("the length of a message does not fit its datagram"))?;
    let frame = Frame {
        kind: u16::from_ne_bytes([k0, k1]),
        flags: u16::from_ne_bytes([f0, f1]),
        seq: u32::from_ne_bytes([s0, s1, s2, s3]),
        port: u32::from_ne_bytes([p0, p1, p2, p3]),
        body,
    };
    Ok((frame, len))
}

impl<'a> Frame<'a> {
    /// The fixed header of `N` bytes and the attributes behind it.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when the body is shorter than the header.
    pub fn split<const N: usize>(&self) -> Result<(&'a [u8; N], Attrs<'a>), Malformed> {
        let Some((header, _)) = self.body.split_first_chunk::<N>() else {
            return Err(Malformed {
                what: "the header of a family is cut short",
                at: HEADER,
            });
        };
        Ok((
            header,
            attrs(self.body.get(aligned(N)..).unwrap_or_default()),
        ))
    }
}

/// One attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr<'a> {
    /// Its number, without the nested and byte order marks.
    pub kind: u16,
    /// Whether it says that it holds attributes. Older families do not say so when they do.
    pub nested: bool,
    /// What it holds, without padding.
    pub value: &'a [u8],
}

/// The attributes in a message or attribute; ends after the first broken one.
#[derive(Clone, Debug)]
pub struct Attrs<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// Takes bytes apart into attributes.
#[must_use]
pub fn attrs(bytes: &[u8]) -> Attrs<'_> {
    Attrs { bytes, at: 0 }
}

impl<'a> Iterator for Attrs<'a> {
    type Item = Result<Attr<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at;
        let rest = self.bytes.get(at..).filter(|rest| !rest.is_empty())?;
        let attr = attr(rest, at);
        self.at = match attr {
            Ok((_, len)) => at.saturating_add(aligned(len)),
            Err(_) => self.bytes.len(),
        };
        Some(attr.map(|(attr, _)| attr))
    }
}

fn attr(rest: &[u8], at: usize) -> Result<(Attr<'_>, usize), Malformed> {
    let Some((&[l0, l1, k0, k1], _)) = rest.split_first_chunk::<ATTR_HEADER>() else {
        return Err(Malformed {
            what: "an attribute header is cut short",
            at,
        });
    };
    let len = usize::from(u16::from_ne_bytes([l0, l1]));
    let kind = u16::from_ne_bytes([k0, k1]);
    let Some(value) = rest.get(ATTR_HEADER..len) else {
        return Err(Malformed {
            what: "the length of an attribute does not fit",
            at,
        });
    };
    let nested = kind & NLA_F_NESTED != 0;
    Ok((
        Attr {
            kind: kind & NLA_TYPE_MASK,
            nested,
            value,
        },
        len,
    ))
}

impl<'a> Attrs<'a> {
    /// The first attribute of this number.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when an attribute before it is broken.
    pub fn find_kind(self, kind: u16) -> Result<Option<Attr<'a>>, Malformed> {
        for attr in self {
            let attr = attr?;
            if attr.kind == kind {
                return Ok(Some(attr));
            }
        }
        Ok(None)
    }
}

impl<'a> Attr<'a> {
    /// Exactly `N` bytes.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when there are more or fewer.
    pub fn array<const N: usize>(&self) -> Result<[u8; N], Malformed> {
        let what = "an attribute has the wrong size";
        self.value.try_into().map_err(|_| Malformed {
            what,
            at: self.kind.into(),
        })
    }

    /// One byte.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when there are more or fewer.
    pub fn u8(&self) -> Result<u8, Malformed> {
        self.array().map(u8::from_ne_bytes)
    }

    /// Two bytes in the machine's order.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when there are more or fewer.
    pub fn u16(&self) -> Result<u16, Malformed> {
        self.array().map(u16::from_ne_bytes)
    }

    /// Four bytes in the machine's order.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when there are more or fewer.
    pub fn u32(&self) -> Result<u32, Malformed> {
        self.array().map(u32::from_ne_bytes)
    }

    /// Four bytes in the machine's order, signed.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when there are more or fewer.
    pub fn i32(&self) -> Result<i32, Malformed> {
        self.array().map(i32::from_ne_bytes)
    }

    /// Text up to the first zero byte or the end.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when it is not UTF-8.
    pub fn str(&self) -> Result<&'a str, Malformed> {
        let end = self
            .value
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(self.value.len());
        let what = "an attribute is not text";
        str::from_utf8(&self.value[..end]).map_err(|error| Malformed {
            what,
            at: error.valid_up_to(),
        })
    }

    /// The attributes it holds.
    #[must_use]
    pub fn attrs(&self) -> Attrs<'a> {
        attrs(self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], what: &str) {
        let last = frames(bytes).last().unwrap();
        assert_eq!(last.unwrap_err().what, what);
        assert!(frames(bytes).count() <= 2);
    }

    #[test]
    fn broken_messages_end_the_walk() {
        check(&[0; 3], "a message header is cut short");
        check(
            &[0; 16],
            "the length of a message does not fit its datagram",
        );
        check(
            &[0xff; 32],
            "the length of a message does not fit its datagram",
        );
        let mut good = 16u32.to_ne_bytes().to_vec();
        good.resize(16, 0);
        good.push(1);
        check(&good, "a message header is cut short");
    }

    #[test]
    fn broken_attributes_end_the_walk() {
        let short = attrs(&[8, 0, 1, 0, 5]).next().unwrap().unwrap_err();
        assert_eq!(short.what, "the length of an attribute does not fit");
        let empty = attrs(&[0; 8]).collect::<Vec<_>>();
        assert_eq!(empty.len(), 1, "a length of 0 does not loop: {empty:?}");
    }

    #[test]
    fn values_have_exactly_their_size() {
        let attr = Attr {
            kind: 3,
            nested: false,
            value: &[1, 0],
        };
        assert_eq!(
            attr.u32().unwrap_err().to_string(),
            "an attribute has the wrong size at byte 3"
        );
        assert_eq!(attr.u16().unwrap(), u16::from_ne_bytes([1, 0]));
        assert_eq!(
            Attr {
                value: b"lo\0x",
                ..attr
            }
            .str()
            .unwrap(),
            "lo"
        );
        assert_eq!(
            Attr {
                value: b"lo",
                ..attr
            }
            .str()
            .unwrap(),
            "lo"
        );
        assert!(
            Attr {
                value: &[0xff],
                ..attr
            }
            .str()
            .is_err()
        );
    }
}
