//! Instructions as text: the kernel's own syntax, as the verifier's log, bpftool and LLVM have it.

mod parse;
mod print;
mod scan;

pub use parse::{Text, TextError, parse};
pub use print::{Symbol, write_op, write_op_named};
