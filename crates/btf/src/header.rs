//! The header: byte order, and where types and strings lie.

use crate::error::{Error, Section};
use bpfsmith_uapi::Order;
use core::ops::Range;

pub(crate) const MAGIC: u16 = 0xeb9f;

/// Size of the header as we write it, and the least that we read.
pub(crate) const HEADER: usize = 24;

/// What the header says, checked against the bytes that are there.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub(crate) order: Order,
    pub(crate) types: Range<usize>,
    pub(crate) strings: Range<usize>,
    /// Sizes of the records of each kind, from kernels that send them along.
    pub(crate) layout: Range<usize>,
}

/// The first eight bytes, which `.BTF` and `.BTF.ext` share: byte order and length of the header.
pub(crate) fn start(bytes: &[u8], least: usize) -> Result<(Order, usize), Error> {
    let short = Error::TooShort {
        have: bytes.len(),
        need: least,
    };
    let Some(magic) = bytes.first_chunk::<2>() else {
        return Err(short);
    };
    let order = if u16::from_le_bytes(*magic) == MAGIC {
        Order::Little
    } else if u16::from_be_bytes(*magic) == MAGIC {
        Order::Big
    } else {
        return Err(Error::NotBtf { start: *magic });
    };
    let (Some(version), Some(length)) = (bytes.get(2), order.u32_at(bytes, 4)) else {
        return Err(short);
    };
    if *version != 1 {
        return Err(Error::Version(*version));
    }
    let length = length as usize;
    if length < least {
        return Err(Error::HeaderLength { length, least });
    }
    if length > bytes.len() {
        return Err(Error::TooShort {
            have: bytes.len(),
            need: length,
        });
    }
    Ok((order, length))
}

/// Reads an offset and a length and puts the range behind the header, if it is there.
pub(crate) fn section(
    bytes: &[u8],
    (order, header): (Order, usize),
    at: usize,
    section: Section,
) -> Result<Range<usize>, Error> {
    let word = |at| order.u32_at(bytes, at).map_or(0, |value| value as usize);
    let (offset, length) = (word(at), word(at + 4));
    let range = header
        .checked_add(offset)
        .and_then(|start| Some(start..start.checked_add(length)?));
    match range {
        Some(range) if range.end <= bytes.len() => Ok(range),
        _ => Err(Error::SectionOutside {
            section,
            offset,
            length,
            have: bytes.len().saturating_sub(header),
        }),
    }
}

impl Header {
    pub(crate) fn read(bytes: &[u8]) -> Result<Header, Error> {
        let (order, length) = start(bytes, HEADER)?;
        let header = (order, length);
        let layout = if length >= 32 {
            section(bytes, header, 24, Section::Layout)?
        } else {
            0..0
        };
        Ok(Header {
            order,
            types: section(bytes, header, 8, Section::Types)?,
            strings: section(bytes, header, 16, Section::Strings)?,
            layout,
        })
    }
}
