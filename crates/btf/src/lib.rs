//! BTF by hand: reader, index and builder. Pure: bytes in, types out.
