//! BPF programs from Rust values: a checked assembler, no clang, no libbpf.
//!
//! This crate defines nothing: it gathers the workspace's crates under one name.
//!
//! - [`dsl`] is what a file of programs imports.
//! - [`kit`] holds ready fragments: packet walks, checksums, counters, rate limits.
//! - [`asm`] builds, checks, prints and parses programs.
//! - [`uapi`] holds the kernel's facts: types, helpers, layouts.

pub use bpfsmith_asm as asm;
pub use bpfsmith_asm::{code, dsl, kit};
pub use bpfsmith_uapi as uapi;

/// Compiles and runs the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
