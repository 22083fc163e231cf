//! BPF maps with types.
//!
//! A [`MapDef<K, V>`](bpfsmith_uapi::map::MapDef) says what a map holds; a *view* of this crate is an
//! open map of that kind. Each kind of map belongs to one view:
//!
//! | view | kinds |
//! |---|---|

//!
//! All views are [`Handle`]s as well: they have a name, can be pinned, described and frozen.

mod error;
mod handle;
mod hint;

pub use error::{Error, Object, Operation, Problem, Result};
pub use handle::{Described, Handle, Options, Origin};
