//! The command line: one table of commands, and all that is made of it.
//!
//! [`table`] says which commands there are, what they take and what they are for. [`parse`](parse::parse) reads a
//! command line by it; [`help`], [`man`] and [`complete`] turn it into pages and completions. Nothing here asks
//! a daemon or a kernel.

pub mod body;
pub mod complete;
pub mod help;
pub mod man;
pub mod parse;
pub mod table;
pub mod words;
pub mod wrong;

pub use parse::{Command, Parsed, Surroundings, parse};
pub use words::Exit;
pub use wrong::{UsageError, Wrong};
