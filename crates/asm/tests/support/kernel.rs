//! What programs of the kit call in the interpreter: maps, clocks, rings, routes and sums.

use crate::programs::case;
use crate::vm::{self, HEAP, MAPS, Memory};
use bpfsmith_asm::dsl::{MapType, Program, Size, flags};

/// The part of a kernel that the kit calls.
#[derive(Default)]
pub(crate) struct Kernel {
    /// Map, key, address of the value.
    pub(crate) entries: Vec<(usize, Vec<u8>, u64)>,
    /// No more entries, no more records.
    pub(crate) full: bool,
    /// Another CPU inserts just before this one does.
    pub(crate) raced: bool,
    pub(crate) now: u64,
    pub(crate) coarse: u64,
    pub(crate) submitted: Vec<u64>,
    pub(crate) question: Vec<u8>,
    pub(crate) answer: u64,
    pub(crate) heap: Vec<u8>,
}

impl Kernel {
    /// Runs a program; maps stay as they are from run to run.
    pub(crate) fn run(&mut self, name: &str, packet: &[u8]) -> u64 {
        let done = self.run_program(&case(name), packet);
        done.unwrap().0
    }

    /// The same with any program: its answer, and the packet as it left it.
    pub(crate) fn run_program(
        &mut self,
        program: &Program,
        packet: &[u8],
    ) -> Result<(u64, Vec<u8>), String> {
        let mut memory = Memory::xdp(packet);
        memory.heap = std::mem::take(&mut self.heap);
        let answer = vm::run(program, &mut memory, |id, args, memory| {
            self.call(program, id, args, memory)
        });
        self.heap = memory.heap;
        Ok((answer?, memory.packet))
    }

    fn call(&mut self, program: &Program, id: i32, args: [u64; 5], memory: &mut Memory) -> u64 {
        let map = usize::try_from(args[0].wrapping_sub(MAPS)).unwrap_or(usize::MAX);
        let shape = program.maps().get(map);
        let bytes = |memory: &mut Memory, at, len: u32| {
            memory.bytes(at, len.try_into().unwrap()).unwrap().to_vec()
        };
        match (id, shape) {
            (1, Some(shape)) => {
                let key = bytes(memory, args[1], shape.key);
                let array = matches!(shape.kind, MapType::ARRAY | MapType::PERCPU_ARRAY);
                match self.find(map, &key) {
                    None if array => self.insert(map, key, &vec![0; shape.value as usize], memory),
                    found => found.unwrap_or(0),
                }
            }
            (2, Some(shape)) => {
                let key = bytes(memory, args[1], shape.key);
                let mut value = bytes(memory, args[2], shape.value);
                assert_eq!(args[3], flags::map_elem::BPF_NOEXIST);
                assert_eq!(self.find(map, &key), None);
                if self.raced {
                    value[0] = 99;
                }
                if !self.full {
                    self.insert(map, key, &value, memory);
                }
                if self.raced || self.full {
                    (-17_i64).cast_unsigned()
                } else {
                    0
                }
            }
            (5, _) => self.now,
            (28, _) => csum_diff(args, memory),
            (160, _) => self.coarse,
            (69, _) => {
                self.question = bytes(memory, args[1], u32::try_from(args[2]).unwrap());
                memory.store(args[1] + 8, Size::W, 42).unwrap();
                self.answer
            }
            (131, Some(_)) if self.full => 0,
            (131, Some(_)) => {
                let at = HEAP + memory.heap.len() as u64;
                let size = memory.heap.len() + usize::try_from(args[1]).unwrap();
                memory.heap.resize(size, 0xa5);
                at
            }
            (132, _) => {
                self.submitted.push(args[0]);
                0
            }
            _ => panic!("helper {id}"),
        }
    }

    pub(crate) fn find(&self, map: usize, key: &[u8]) -> Option<u64> {
        let found = self
            .entries
            .iter()
            .find(|entry| entry.0 == map && entry.1 == key);
        found.map(|entry| entry.2)
    }

    fn insert(&mut self, map: usize, key: Vec<u8>, value: &[u8], memory: &mut Memory) -> u64 {
        let at = HEAP + memory.heap.len() as u64;
        memory.heap.extend(value);
        self.entries.push((map, key, at));
        at
    }

    pub(crate) fn value(&self, key: &[u8]) -> u64 {
        let at = usize::try_from(self.find(0, key).unwrap() - HEAP).unwrap();
        u64::from_ne_bytes(self.heap[at..at + 8].try_into().unwrap())
    }
}

/// As the kernel up to 6.12 answers: 32 bits that are not folded.
pub(crate) fn csum_diff(
    [from, from_size, to, to_size, seed]: [u64; 5],
    memory: &mut Memory,
) -> u64 {
    let mut words = |at, size: u64, flip: u64| -> u64 {
        let words = 0..usize::try_from(size).unwrap() / 4;
        words
            .map(|n| memory.load(at + n as u64 * 4, Size::W).unwrap() ^ flip)
            .sum()
    };
    let mut sum = seed + words(from, from_size, 0xffff_ffff) + words(to, to_size, 0);
    while sum > 0xffff_ffff {
        sum = (sum & 0xffff_ffff) + (sum >> 32);
    }
    sum
}
