//! `Message`: a netlink request, built front to back.

use super::{ALIGN, ATTR_HEADER, HEADER, NLA_F_NESTED, aligned};

/// A request did not fit: an attribute holds at most 65,531 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("attribute {attribute} would take {len} bytes, and an attribute holds at most 65531")]
pub struct TooLong {
    /// The number of the attribute, as its family counts.
    pub attribute: u16,
    /// The bytes it would hold.
    pub len: usize,
}

/// A netlink request that is being built.
///
/// Lengths are checked when the message is finished, so that the calls chain.
///
/// ```
/// use bpfsmith_net::wire::{Message, frames, attrs};
/// let bytes = Message::new(16, 0)
///     .fixed(&[0; 16])
///     .str(3, "veth0")
///     .nest(18, |info| info.str(1, "veth"))
///     .finish(7)?;
/// let frame = frames(&bytes).next().unwrap()?;
/// assert_eq!(frame.seq, 7);
/// let name = attrs(&frame.body[16..]).next().unwrap()?;
/// assert_eq!(name.str()?, "veth0");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Message {
    bytes: Vec<u8>,
    fault: Option<TooLong>,
}

impl Message {
    /// Starts a message of this type; `NLM_F_REQUEST` is added to the flags.
    pub fn new(kind: u16, flags: u16) -> Message {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | super::NLM_F_REQUEST).to_ne_bytes());
        Message { bytes, fault: None }
    }

    /// Adds flags to the header.
    pub(crate) fn flags(mut self, more: u16) -> Message {
        let flags = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]) | more;
        self.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        self
    }

    /// Appends the fixed header of a family, or any raw bytes, and pads.
    pub fn fixed(mut self, bytes: &[u8]) -> Message {
        self.bytes.extend_from_slice(bytes);
        self.pad();
        self
    }

    /// Appends an attribute.
    pub fn attr(mut self, kind: u16, value: &[u8]) -> Message {
        let start = self.open(kind);
        self.bytes.extend_from_slice(value);
        self.close(start, kind);
        self
    }

    /// Appends an attribute if there is a value.
    pub fn maybe<T>(self, value: Option<T>, add: impl FnOnce(Message, T) -> Message) -> Message {
        match value {
            Some(value) => add(self, value),
            None => self,
        }
    }

    /// Appends an attribute without a value.
    pub fn mark(self, kind: u16) -> Message {
        self.attr(kind, &[])
    }

    /// Appends one byte.
    pub fn u8(self, kind: u16, value: u8) -> Message {
        self.attr(kind, &[value])
    }

    /// Appends two bytes in the machine's order.
    pub fn u16(self, kind: u16, value: u16) -> Message {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// Appends four bytes in the machine's order.
    pub fn u32(self, kind: u16, value: u32) -> Message {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// Appends four bytes in the machine's order, signed; file descriptors are.
    pub fn i32(self, kind: u16, value: i32) -> Message {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// Appends text and the zero byte that ends it.
    pub fn str(mut self, kind: u16, text: &str) -> Message {
        let start = self.open(kind);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
        self.close(start, kind);
        self
    }

    /// Appends an attribute that holds what `fill` appends.
    pub fn nest(mut self, kind: u16, fill: impl FnOnce(Message) -> Message) -> Message {
        let start = self.open(kind | NLA_F_NESTED);
        let mut filled = fill(self);
        filled.close(start, kind | NLA_F_NESTED);
        filled
    }

    /// The bytes to send, or the first attribute that did not fit.
    ///
    /// # Errors
    ///
    /// [`TooLong`] when an attribute holds more than its 16 bit length can say, or the message more
    /// than its 32 bits.
    pub fn finish(mut self, seq: u32) -> Result<Vec<u8>, TooLong> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let too_long = TooLong {
            attribute: 0,
            len: self.bytes.len(),
        };
        let len = u32::try_from(self.bytes.len()).map_err(|_| too_long)?;
        self.bytes[0..4].copy_from_slice(&len.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&seq.to_ne_bytes());
        Ok(self.bytes)
    }

    fn open(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        start
    }

    fn close(&mut self, start: usize, kind: u16) {
        let len = self.bytes.len() - start;
        match u16::try_from(len) {
            Ok(len) => self.bytes[start..start + 2].copy_from_slice(&len.to_ne_bytes()),
            Err(_) => {
                let fault = TooLong {
                    attribute: kind & !NLA_F_NESTED,
                    len: len - ATTR_HEADER,
                };
                self.fault.get_or_insert(fault);
            }
        }
        self.pad();
    }

    fn pad(&mut self) {
        const { assert!(ALIGN == 4) };
        self.bytes.resize(aligned(self.bytes.len()), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_is_padded_but_its_length_is_not() {
        let bytes = Message::new(1, 0).str(3, "lo").u8(4, 9).finish(5).unwrap();
        assert_eq!(bytes.len(), 32);
        assert_eq!(bytes[0..4], 32u32.to_ne_bytes());
        assert_eq!(bytes[16..18], 7u16.to_ne_bytes());
        assert_eq!(bytes[20..24], *b"lo\0\0");
        assert_eq!(bytes[24..26], 5u16.to_ne_bytes());
        assert_eq!(bytes[28..32], [9, 0, 0, 0]);
    }

    #[test]
    fn a_nest_counts_its_padded_members() {
        let bytes = Message::new(1, 0)
            .nest(2, |m| m.u8(1, 1).u8(2, 2))
            .finish(0)
            .unwrap();
        assert_eq!(bytes[16..18], 20u16.to_ne_bytes());
        assert_eq!(bytes[18..20], (2 | NLA_F_NESTED).to_ne_bytes());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let full = Message::new(1, 0).attr(7, &[0; 65_531]).finish(0);
        assert_eq!(full.unwrap().len(), 16 + 65_536);
        let over = Message::new(1, 0).attr(7, &[0; 65_532]).finish(0);
        assert_eq!(
            over,
            Err(TooLong {
                attribute: 7,
                len: 65_532
            })
        );
        let nest = |m: Message| m.attr(1, &[0; 40_000]).attr(2, &[0; 40_000]);
        let over = Message::new(1, 0).nest(9, nest).finish(0);
        assert_eq!(
            over,
            Err(TooLong {
                attribute: 9,
                len: 80_008
            })
        );
    }
}
