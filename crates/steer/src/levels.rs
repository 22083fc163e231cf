//! Which sizes of blocks of ports are in use: counted, so that what goes does not have all read again.

use crate::binding::Ports;
use crate::layout::{Kind, blocks};

/// The rows of the map: for each kind, each 256 ports.
const ROWS: usize = 4 * 256;
/// There are blocks of 2^0 to 2^16 ports.
pub(crate) const SIZES: usize = 17;

/// How many blocks of each size lie in each row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Levels {
    counts: Vec<[u32; SIZES]>,
    bits: Vec<u32>,
}

impl Default for Levels {
    fn default() -> Levels {
        Levels {
            counts: vec![[0; SIZES]; ROWS],
            bits: vec![0; ROWS],
        }
    }
}

impl Levels {
    /// For each row, the sizes in use as bits.
    pub(crate) fn bits(&self) -> &[u32] {
        &self.bits
    }

    pub(crate) fn add(&mut self, kind: Kind, ports: Ports) {
        self.each(kind, ports, |count| count + 1);
    }

    pub(crate) fn remove(&mut self, kind: Kind, ports: Ports) {
        self.each(kind, ports, |count| count - 1);
    }

    fn each(&mut self, kind: Kind, ports: Ports, change: impl Fn(u32) -> u32) {
        for block in blocks(ports) {
            let first = usize::from(block.first);
            let last = first + (1 << block.level) - 1;
            let row = kind.number() as usize * 256;
            for row in row + (first >> 8)..=row + (last >> 8) {
                let count = &mut self.counts[row][usize::from(block.level)];
                *count = change(*count);
                let bit = 1 << block.level;
                match *count {
                    0 => self.bits[row] &= !bit,
                    _ => self.bits[row] |= bit,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Levels;
    use crate::binding::{Binding, Ports};
    use crate::layout::Kind;

    #[test]
    fn a_size_is_in_use_until_its_last_block_goes() {
        let binding: Binding = "udp 10.0.0.0/8 256-1023".parse().unwrap();
        let kind = Kind::of(&binding);
        let mut levels = Levels::default();
        let rows = |levels: &Levels| levels.bits()[256..262].to_vec();
        levels.add(kind, binding.ports());
        assert_eq!(rows(&levels), [0, 1 << 8, 1 << 9, 1 << 9, 0, 0]);
        levels.add(kind, Ports::from(300));
        levels.add(kind, Ports::from(301));
        levels.remove(kind, Ports::from(300));
        assert_eq!(levels.bits()[257], 1 << 8 | 1);
        levels.remove(kind, Ports::from(301));
        assert_eq!(levels.bits()[257], 1 << 8);
        levels.add(kind, Ports::ALL);
        assert!(levels.bits()[256..512].iter().all(|bits| bits >> 16 == 1));
        levels.remove(kind, Ports::ALL);
        levels.remove(kind, binding.ports());
        assert_eq!(levels, Levels::default());
    }
}
