//! The netlink format: messages out, messages in.
//!
//! [`Message`] builds a request with nested attributes and checks every length. [`frames`] and
//! [`attrs`] take answers apart; whatever the bytes are, they return a value or a [`Malformed`].

mod build;
mod names;
mod parse;

pub use build::{Message, TooLong};
pub use names::*;
pub use parse::{Attr, Attrs, Frame, Frames, Malformed, attrs, frames};

/// Netlink aligns messages and attributes to this.
pub(crate) const ALIGN: usize = 4;

/// Bytes of a message header.
pub(crate) const HEADER: usize = 16;

/// Bytes of an attribute header.
pub(crate) const ATTR_HEADER: usize = 4;

/// Rounds up to the alignment of netlink.
pub(crate) const fn aligned(len: usize) -> usize {
    len.saturating_add(ALIGN - 1) & !(ALIGN - 1)
}
