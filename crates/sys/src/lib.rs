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
//! | lend rights to a user namespace | [`delegate`] |
//! | make control groups, mount bpffs and tracefs | [`cgroup`], [`mount`] |
//! | know what this process may | [`rights`] |
//! | share memory with programs | [`mmap`] |
//! | read and write ring buffers | [`ring`], [`user_ring`] |
//! | open perf events, read their rings | [`perf`], [`perf_ring`] |
//! | put programs on sockets | [`socket`] |
//! | pass descriptors to another process | [`pass`] |
//! | receive and send frames past the network stack | [`xsk`] |
//! | wait for several of them | [`epoll`] |
//! | know how large a terminal is | [`terminal`] |

#![expect(
    unsafe_code,
    reason = "the one crate that talks to the kernel by address"
)]

pub mod attach;
pub mod attr;
pub mod call;
pub mod cgroup;
pub mod delegate;
pub mod epoll;
pub mod info;
pub mod link;
pub mod map;
pub mod misc;
pub mod mmap;
pub mod mount;
pub mod object;
pub mod pass;
pub mod perf;
pub mod perf_ring;
pub mod prog;
pub mod refused;
pub mod rights;
pub mod ring;
pub mod socket;
pub mod terminal;
pub mod user_ring;
pub mod xsk;

mod cpus;

pub use call::{Failed, Result};
pub use cpus::{PossibleCpus, online_cpus, possible_cpus};
pub use refused::{Answer, Refused};
