//! BPF programs from Rust values: a checked assembler and a loader, no clang, no libbpf.
//!
//! This crate defines nothing: it gathers the workspace's crates under one name.
//!
//! - [`dsl`] is what a file of programs imports.
//! - [`kit`] holds ready fragments: packet walks, checksums, counters, rate limits, socket lookup,
//!   redirection of frames and of bytes between sockets, congestion control.
//! - [`asm`] builds, checks, prints and parses programs.
//! - [`maps`] makes and uses maps; [`prog`] loads, explains, attaches, runs and lists programs.
//! - [`datapath`] takes TCP and UDP flows to backends, packet by packet, in XDP and TCX.
//! - [`splice`] joins TCP connections in the kernel, and is a proxy that does.
//! - [`net`] makes network namespaces, devices, addresses and routes.
//! - [`steer`] gives prefixes and ports to sockets, changed while it runs.
//! - [`btf`] reads and builds BTF; [`sys`] is the kernel boundary itself, with XDP sockets
//!   ([`sys::xsk`]).
//! - [`uapi`] holds the kernel's facts: types, helpers, layouts.

pub use bpfsmith_asm as asm;
pub use bpfsmith_asm::{code, dsl, kit};
pub use bpfsmith_btf as btf;
pub use bpfsmith_datapath as datapath;
pub use bpfsmith_maps as maps;
pub use bpfsmith_net as net;
pub use bpfsmith_prog as prog;
pub use bpfsmith_splice as splice;
pub use bpfsmith_steer as steer;
pub use bpfsmith_sys as sys;
pub use bpfsmith_uapi as uapi;
pub use bpfsmith_uapi::record;

/// Compiles the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
