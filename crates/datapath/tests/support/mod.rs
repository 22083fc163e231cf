//! Packets, networks, and who lives in them.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod counters;
pub(crate) mod judge;
pub(crate) mod kept;
pub(crate) mod packet;
pub(crate) mod people;
pub(crate) mod raw;
pub(crate) mod serving;
mod sum;
pub(crate) mod world;
