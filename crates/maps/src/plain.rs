//! What keys and values are made of.

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Types whose bytes are all there is to them: what zerocopy's `FromBytes`, `IntoBytes` and
/// `Immutable` say. A structure with hidden padding is none, and does not compile as a key.
pub trait Plain: FromBytes + IntoBytes + Immutable {}

impl<T: FromBytes + IntoBytes + Immutable> Plain for T {}
