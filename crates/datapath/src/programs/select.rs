//! Which place in the ring a flow gets.

use super::FLOW;
use super::lane::Lane;
use crate::config::Algorithm;
use crate::layout::Group;
use bpfsmith_asm::dsl::*;
use bpfsmith_asm::kit::hash::jhash_3words;

/// The group that chooses.
pub(super) const GROUP: Reg = FLOW;

impl Lane<'_> {
    /// `place` becomes a place of the ring that is the group's at GROUP. Clobbers R0 to R5.
    pub(super) fn choose(&self, place: Slot) -> Code {
        let algorithms = &self.context.shape.algorithms;
        let done = label("chosen");
        let mut left = algorithms.len();
        let ways = algorithms.iter().map(|algorithm| {
            left -= 1;
            let other = label("other");
            // The last one needs no question.
            code![
                (left > 0).then(|| code![
                    load(R1, GROUP.get(Group::algorithm)),
                    jne(R1, i32::from(algorithm.number()), other),
                ]),
                self.draw(*algorithm),
                (left > 0).then(|| code![ja(done), bind(other)]),
            ]
        });
        code![
            ways,
            bind(done),
            load(R2, GROUP.get(Group::first)),
            add(R1, R2),
            store(place.u32(0), R1),
        ]
    }

    /// R1 becomes a number below the group's places. Clobbers R0 to R5.
    fn draw(&self, algorithm: Algorithm) -> Code {
        match algorithm {
            Algorithm::Maglev => code![self.hash(self.key.at(0), R1), share()],
            Algorithm::SourceAffinity => code![self.source_hash(R1), share()],
            Algorithm::RoundRobin => code![turn(), rem(R1.low(), R2.low())],
            Algorithm::LeastConnections => self.fewest(),
        }
    }

    /// `to` becomes a number of 32 bits that is the key's. Clobbers R1 to R5.
    pub(super) fn hash(&self, key: Place, to: Reg) -> Code {
        let address = self.address();
        code![
            self.mixed(key, R1),
            self.mixed(key.at(address), R2),
            load(R3, key.u32(2 * address)),
            jhash_3words([R1, R2, R3], 0, R4),
            mov(to.low(), W3),
        ]
    }

    /// `to` becomes a number of 32 bits that is the client's. Clobbers R1 to R5.
    fn source_hash(&self, to: Reg) -> Code {
        code![
            self.mixed(self.key.at(0), R1),
            mov(R2, 0),
            mov(R3, 0),
            jhash_3words([R1, R2, R3], 0, R4),
            mov(to.low(), W3),
        ]
    }

    /// `to` becomes a number made of the address at that place. Clobbers R5.
    fn mixed(&self, address: Place, to: Reg) -> Code {
        /// An odd number whose bits look like chance.
        const MIX: i32 = 0x2c1b_3c6d;
        let words = self.address() / 4;
        code![
            load(to, address.u32(0)),
            (1..words).map(|n| [
                mul(to.low(), MIX),
                load(R5, address.u32(4 * n)),
                add(to.low(), W5),
            ]),
        ]
    }
}

/// R1 becomes a number that is one more each time, and R2 the group's places.
pub(super) fn turn() -> [Insn; 3] {
    [
        mov(R1, 1),
        fetch_add(GROUP.get(Group::turn), R1),
        load(R2, GROUP.get(Group::places)),
    ]
}

/// R1, any number of 32 bits, becomes one below the group's places. Clobbers R2.
fn share() -> [Insn; 3] {
    [
        load(R2, GROUP.get(Group::places)),
        mul(R1, R2),
        rsh(R1, 32),
    ]
}
