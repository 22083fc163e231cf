//! What a test needs of the kernel, and visible skips where it is missing.
//!
//! A kernel test opens with one line:
//!
//! ```
//! # use bpfsmith_gate::needs;
//! # fn main() {
//! needs!(Root, Loopback);
//! // … the test itself
//! # }
//! ```
//!
//! If something is missing, the test ends there and says so past libtest's capture:
//! `SKIP kernel_links::fentry: Fentry: built without CONFIG_… (what to do about it)`.
//!
//! Under `BPFSMITH_STRICT=1` a skip is a failure, except where the reason lies in the running
//! kernel: it is older than the feature, it was built without it, or a row of the table of known
//! effects explains it. Such a skip is shown all the same.
//!
//! Under `BPFSMITH_SLOW=1`, which virtual machines set, a test that proves something by repetition
//! repeats it less: see [`rounds`]. Under `BPFSMITH_LONG=1`, which somebody sets who has the time, one that does
//! a part of what it can does all of it: see [`part`].
//!
//! Each [`Need`] is a row of one table, in `need.rs`. `cargo run -p bpfsmith-gate --example needs`
//! prints what this machine has. Needs are found out by trying, with the smallest map, program or link
//! that stands for them.
//!
//! The crate also holds what kernel tests make and must leave no trace of: a [`cgroup`], a private
//! [`bpffs`] or [`tracefs`], the [`deadline`] of something that takes a moment, and the list of
//! [`open_fds`].

mod cgroup;
mod effect;
mod effort;
mod fds;
mod kernel;
mod mount;
mod need;
mod probe;
mod skip;
mod trial;
mod types;
mod wait;

pub use bpfsmith_sys::cgroup::Cgroup;
pub use bpfsmith_sys::mount::Mount;
pub use cgroup::cgroup;
pub use effort::{is_long, is_slow, part, rounds};
pub use fds::{Fd, Fds, open_fds};
pub use kernel::{Version, built_without, release, version};
pub use mount::{bpffs, tracefs};
pub use need::{Need, State};
pub use skip::{Skipped, allows, function};
pub use wait::deadline;
