//! Packets, one after the other, at both hooks: what the proxy makes of them.
//!
//! Each row of the tables is a few packets, what is to become of each, and which counters rise. What is
//! expected is built by hand, and read by a judge who computes every checksum anew.

#![allow(clippy::unwrap_used, reason = "a test")]

mod packets {
    pub(crate) mod row;
    pub(crate) mod stage;
    pub(crate) mod talk;

    mod changes;
    mod endings;
    mod forward;
    mod halves;
    mod hops;
    mod identity;
    mod listen;
    mod malformed;
    mod nat;
    mod room;
    mod sums;
}
mod support;
