//! Instructions as text: the kernel's own syntax, as the verifier's log, bpftool and LLVM have it.

mod grammar;
mod jumps;
mod parse;
mod print;
mod scan;
mod whole;
mod words;

pub use parse::{Text, TextError, parse};
pub use print::{Symbol, write_op, write_op_named};
pub use whole::program;
