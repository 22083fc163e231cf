//! BTF by hand: reader, index and builder. Pure: bytes in, types out.
//!
//! BTF is how the kernel and programs describe C types, functions and variables to each other.
//! [`Btf`] reads it in place from anything that holds bytes (a slice, a vector, a memory map);
//! opening is one pass over the headers of the types, and names are indexed at the first lookup.
//!
//! No input panics: every access is checked, and walks through types that refer to each other are
//! bounded.

mod btf;
mod error;
mod graph;
mod header;
mod kind;
mod names;
mod path;
mod shape;

pub use btf::Btf;
pub use error::{Error, Section};
pub use header::Order;
pub use kind::{FwdKind, IntEncoding, Kind, Linkage, TypeId};
pub use path::Place;
pub use shape::{
    Array, Enumerator, Enumerators, Int, Member, Members, Name, Param, Params, Shape, Type,
    Variable, Variables,
};
