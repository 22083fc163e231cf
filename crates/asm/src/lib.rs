//! A checked BPF assembler: Rust values in, bytecode out.

pub mod check;
pub mod code;
pub mod decode;
pub mod dsl;
pub mod flow;
pub mod global;
pub mod helper;
pub mod insn;
pub mod isa;
pub mod kit;
pub mod link;
pub mod listing;
pub mod map;
pub mod mem;
pub mod program;
pub mod report;
pub mod text;

mod certain;
mod relax;
mod stack;
