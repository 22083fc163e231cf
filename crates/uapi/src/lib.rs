//! The BPF facts of the Linux kernel, as tables.
//!
//! Everything here is data: numbers and names of commands, types, flags and helpers, and the layouts
//! of contexts, helper arguments and packet headers, as of Linux 6.18. Nothing is generated, nothing
//! is unsafe, and every kernel enumeration is an open newtype that also holds values of newer kernels.

mod enums;
mod helper;
mod helper_table;
mod types;

pub use helper::*;
pub use types::*;
