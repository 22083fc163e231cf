//! A checked BPF assembler: Rust values in, bytecode out.
pub mod isa;
pub mod map;
pub mod program;
pub mod report;
