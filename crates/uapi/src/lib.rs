//! The BPF facts of the Linux kernel, as tables.
//!
//! Everything here is data: numbers and names of commands, types, flags and helpers, and the layouts
//! of contexts, helper arguments and packet headers, as of Linux 6.18. Nothing is generated, nothing
//! is unsafe, and every kernel enumeration is an open newtype that also holds values of newer kernels.

pub mod arch;
pub mod ctx;
pub mod flags;
pub mod layout;
pub mod map;
pub mod net;
pub mod ops;
pub mod record;
pub mod structs;
pub mod xsk;

mod actions;
mod codes;
mod debug;
mod enums;
mod errno;
mod helper;
mod helper_table;
mod order;
mod types;

pub use actions::*;
pub use codes::*;
pub use errno::Errno;
pub use helper::*;
pub use layout::{Field, Layout, Width};
pub use order::Order;
pub use types::*;
