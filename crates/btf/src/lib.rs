//! BTF by hand: reader, index and builder. Pure: bytes in, types out.
//!
//! BTF is how the kernel and programs describe C types, functions and variables to each other.
//! [`Btf`] reads it in place from anything that holds bytes (a slice, a vector, a memory map);
//! opening is one pass over the headers of the types, and names are indexed at the first lookup.
//! [`Builder`] writes it.
//!
//! No input panics: every access is checked, and walks through types that refer to each other are
//! bounded.
//!
//! ```
//! use bpfsmith_btf::{Btf, Builder, IntEncoding, Kind};
//!
//! let mut builder = Builder::new();
//! let int = builder.int("int", 4, IntEncoding::SIGNED);
//! builder.structure("point", 8, [("x", int, 0), ("y", int, 4)]);
//! let btf = Btf::parse(builder.build()?)?;
//!
//! let point = btf.find("point", Kind::STRUCT).expect("we made it");
//! let y = btf.member(point, "y")?;
//! assert_eq!((y.offset(), y.ty), (Some(4), int));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod btf;
mod build;
mod error;
mod ext;
mod graph;
mod header;
mod kind;
mod names;
mod path;
mod print;
mod records;
mod shape;

pub use bpfsmith_uapi::Order;
pub use btf::Btf;
pub use build::{
    BuildError, Builder, FUNC_INFO_SIZE, LINE_INFO_SIZE, Line, NewMember, Number, identifier,
};
pub use error::{Error, Section};
pub use ext::{CoreRelo, Ext, FuncInfo, LineInfo};
pub use kind::{FwdKind, IntEncoding, Kind, Linkage, TypeId};
pub use names::Name;
pub use path::Place;
pub use print::Header;
pub use shape::{
    Array, Enumerator, Enumerators, Int, Member, Members, Param, Params, Shape, Type, Variable,
    Variables,
};
