//! A second reading of a program's bytes, which shares nothing with the crate's decoder.
//!
//! It knows 64-bit moves, arithmetic and comparisons, jumps, calls and loads; memory holds a number
//! made from its address. That is enough to see where a program goes and with what in its registers.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(dead_code, reason = "each test file uses a part")]

pub(crate) struct Walk {
    code: Vec<[u8; 8]>,
    pub(crate) regs: [u64; 11],
    pub(crate) pc: usize,
    /// What `may_goto` does.
    pub(crate) may: bool,
    callers: Vec<(usize, [u64; 4])>,
}

/// Why a walk came to a stop.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    Exit,
    /// Before a call of that helper.
    Helper(i32),
    /// `r9 = n`, with n from 1000: a mark of the test.
    Mark(i32),
    Budget,
}

impl Walk {
    pub(crate) fn new(bytes: &[u8]) -> Walk {
        Walk {
            code: bytes.chunks(8).map(|b| b.try_into().unwrap()).collect(),
            regs: [0; 11],
            pc: 0,
            may: false,
            callers: Vec::new(),
        }
    }

    fn imm(&self, at: usize) -> i32 {
        i32::from_le_bytes(self.code[at][4..8].try_into().unwrap())
    }

    fn off(&self, at: usize) -> i64 {
        i16::from_le_bytes([self.code[at][2], self.code[at][3]]).into()
    }

    /// Where each mark stands.
    pub(crate) fn marks(&self) -> Vec<(i32, usize)> {
        let is_mark = |&at: &usize| self.code[at][..2] == [0xb7, 9] && self.imm(at) >= 1000;
        let marks = (0..self.code.len()).filter(is_mark);
        marks.map(|at| (self.imm(at), at)).collect()
    }

    fn go(&mut self, distance: i64) {
        let to = i64::try_from(self.pc).unwrap() + 1 + distance;
        self.pc = usize::try_from(to).expect("a jump stays inside");
    }

    pub(crate) fn memory(at: u64) -> u64 {
        at.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
    }

    /// Runs until something stops it; a mark at the very start does not.
    pub(crate) fn run(&mut self, budget: usize) -> Stop {
        let start = self.pc;
        for turn in 0..budget {
            let [code, regs, ..] = self.code[self.pc];
            let (dst, src) = (usize::from(regs & 15), usize::from(regs >> 4));
            let (imm, off) = (self.imm(self.pc), self.off(self.pc));
            let wide = i64::from(imm).cast_unsigned();
            let value = if code & 8 != 0 { self.regs[src] } else { wide };
            let a = self.regs[dst];
            match code {
                0x05 => self.go(off),
                0x06 => self.go(imm.into()),
                0xe5 => self.go(if self.may { off } else { 0 }),
                0x85 if src == 1 => {
                    let saved = self.regs[6..10].try_into().unwrap();
                    self.callers.push((self.pc + 1, saved));
                    self.go(imm.into());
                }
                0x85 => return Stop::Helper(imm),
                0x95 => match self.callers.pop() {
                    None => return Stop::Exit,
                    Some((pc, saved)) => {
                        self.pc = pc;
                        self.regs[6..10].copy_from_slice(&saved);
                    }
                },
                0x18 => {
                    assert_eq!(
                        self.code[self.pc + 1][..4],
                        [0; 4],
                        "a torn lddw at {}",
                        self.pc
                    );
                    let high = u64::from(self.imm(self.pc + 1).cast_unsigned());
                    self.regs[dst] = u64::from(imm.cast_unsigned()) | high << 32;
                    self.pc += 2;
                }
                0x61 | 0x69 | 0x71 | 0x79 => {
                    self.regs[dst] = Walk::memory(self.regs[src].wrapping_add_signed(off));
                    self.go(0);
                }
                0x62 | 0x6a | 0x72 | 0x7a | 0x63 | 0x6b | 0x73 | 0x7b => self.go(0),
                0xb7 if dst == 9 && imm >= 1000 && (self.pc != start || turn > 0) => {
                    return Stop::Mark(imm);
                }
                _ if code & 7 == 7 => {
                    self.regs[dst] = match code & 0xf0 {
                        0x00 => a.wrapping_add(value),
                        0x10 => a.wrapping_sub(value),
                        0x20 => a.wrapping_mul(value),
                        0x40 => a | value,
                        0x50 => a & value,
                        0xa0 => a ^ value,
                        0xb0 => value,
                        _ => panic!("opcode {code:#x} at {}", self.pc),
                    };
                    self.go(0);
                }
                0xb4 => {
                    self.regs[dst] = imm.cast_unsigned().into();
                    self.go(0);
                }
                _ if code & 7 == 5 || code & 7 == 6 => {
                    let holds = if code & 7 == 5 {
                        holds(code & 0xf0, a, value)
                    } else {
                        // Comparisons of the low halves, moved up: order and signs stay.
                        let (a, value) = (a << 32, value << 32);
                        holds(code & 0xf0, a, value)
                    };
                    self.go(if holds { off } else { 0 });
                }
                _ => panic!("opcode {code:#x} at {}", self.pc),
            }
        }
        Stop::Budget
    }
}

/// What a comparison means, by its opcode bits.
pub(crate) fn holds(bits: u8, a: u64, b: u64) -> bool {
    let (sa, sb) = (a.cast_signed(), b.cast_signed());
    match bits {
        0x10 => a == b,
        0x20 => a > b,
        0x30 => a >= b,
        0x40 => a & b != 0,
        0x50 => a != b,
        0x60 => sa > sb,
        0x70 => sa >= sb,
        0xa0 => a < b,
        0xb0 => a <= b,
        0xc0 => sa < sb,
        0xd0 => sa <= sb,
        _ => panic!("comparison {bits:#x}"),
    }
}
