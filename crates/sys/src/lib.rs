//! The kernel boundary: bpf(2), perf events and memory maps.
//!
//! This is the only crate of bpfsmith with `unsafe` in it. One function makes the system call
//! ([`call`]); a table of attribute structures says what each command reads ([`attr`]); around them
//! stand functions that are safe because they know or ask how many bytes the kernel will touch.
//! Nothing here knows types of keys, verifier logs or hooks: those are `bpfsmith-maps` and
//! `bpfsmith-prog`.
//!
//! | to … | see |
//! |---|---|
//! | make and use maps, as bytes | [`map`] |
//! | load, run and bind programs | [`prog`] |
//! | attach programs | [`link`](mod@link), [`attach`] |
//! | list and describe what is loaded | [`object`], [`info`] |
//! | load BTF, make tokens, count runs | [`misc`] |
//! | know what this process may | [`rights`] |

#![expect(
    unsafe_code,
    reason = "the one crate that talks to the kernel by address"
)]

pub mod attach;
pub mod attr;
pub mod call;
pub mod info;
pub mod link;
pub mod map;
pub mod misc;
pub mod object;
pub mod prog;
pub mod rights;

mod cpus;

pub use call::{Failed, Result};
pub use cpus::{PossibleCpus, possible_cpus};
