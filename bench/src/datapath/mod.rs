//! The programs of `bpfsmith_datapath` beside the same algorithm in C: the same maps, the same packets.

mod clang;
mod packet;
mod restore;
mod rows;
mod timing;
mod world;

pub use clang::{Clang, Cpu};
pub use packet::{Frame, Transport};
pub use restore::{Client, Restore};
pub use rows::{Row, Work, rows};
pub use timing::{Facts, Timer, facts, load_average, once};
pub use world::{CLIENT, DNAT, FULL_NAT, World, client, flow_bytes};

use bpfsmith_datapath::programs::Hook;
use bpfsmith_prog::Prog;

/// Whose program it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The generated one.
    Smith,
    /// The one in C, for that instruction set.
    C(Cpu),
}

impl Peer {
    /// All of them.
    pub const ALL: [Peer; 3] = [
        Peer::Smith,
        Peer::C(Cpu::V3),
        Peer::C(Cpu::V4),
    ];

    /// What it is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Peer::Smith => "bpfsmith",
            Peer::C(Cpu::V3) => "clang v3",
            Peer::C(Cpu::V4) => "clang v4",
        }
    }

    /// Its program for a row.
    ///
    /// # Panics
    /// If it cannot be made or loaded.
    #[must_use]
    pub fn load(self, world: &World, clang: &Clang, hook: Hook, row: &Row) -> Prog {
        match self {
            Peer::Smith => world.load(hook, row),
            Peer::C(cpu) => clang.load(world, cpu, hook, row),
        }
    }
}
