//! An interpreter for assembled programs, to see what fragments do without a kernel.
//!
//! It knows arithmetic, jumps, memory and helpers; addresses have 32 bits, so that contexts can hold
//! them. What it does not know it refuses, and so it does every access outside of its memory.

use bpfsmith_asm::decode::{decode, ops};
use bpfsmith_asm::isa::{Alu, AtomicOp, Bits, Callee, Jmp, Op, Order, Reg, Size, Src, Swap, Wide};
use bpfsmith_asm::program::{Program, Target};

const PACKET: u64 = 0x1000_0000;
const CTX: u64 = 0x2000_0000;
const STACK: u64 = 0x3000_0000;
/// What helpers hand out.
pub(crate) const HEAP: u64 = 0x4000_0000;
/// The map with that index in [`Program::maps`].
pub(crate) const MAPS: u64 = 0x5000_0000;

/// All that a program can reach.
pub(crate) struct Memory {
    pub(crate) packet: Vec<u8>,
    ctx: Vec<u8>,
    stack: Vec<u8>,
    pub(crate) heap: Vec<u8>,
}

impl Memory {
    /// A packet with the `xdp_md` around it.
    pub(crate) fn xdp(packet: &[u8]) -> Memory {
        let end = PACKET + packet.len() as u64;
        let words = [PACKET, end, 0, 7, 0, 0];
        let ctx = words
            .iter()
            .flat_map(|&word| u32::try_from(word).unwrap().to_ne_bytes());
        Memory {
            packet: packet.to_vec(),
            ctx: ctx.collect(),
            stack: vec![0xa5; 512],
            heap: Vec::new(),
        }
    }

    pub(crate) fn bytes(&mut self, at: u64, len: usize) -> Result<&mut [u8], String> {
        let (base, region) = match at & 0xf000_0000 {
            PACKET => (PACKET, &mut self.packet),
            CTX => (CTX, &mut self.ctx),
            STACK => (STACK, &mut self.stack),
            HEAP => (HEAP, &mut self.heap),
            _ => return Err(format!("{len} bytes at {at:#x}: no such memory")),
        };
        let from = usize::try_from(at - base).unwrap();
        let size = region.len();
        region
            .get_mut(from..from + len)
            .ok_or_else(|| format!("{len} bytes at {at:#x}: outside of {size}"))
    }

    pub(crate) fn load(&mut self, at: u64, size: Size) -> Result<u64, String> {
        let bytes = self.bytes(at, size.bytes().into())?;
        Ok(match size {
            Size::B => bytes[0].into(),
            Size::H => u16::from_ne_bytes(bytes.try_into().unwrap()).into(),
            Size::W => u32::from_ne_bytes(bytes.try_into().unwrap()).into(),
            Size::DW => u64::from_ne_bytes(bytes.try_into().unwrap()),
        })
    }

    pub(crate) fn store(&mut self, at: u64, size: Size, value: u64) -> Result<(), String> {
        let bytes = value.to_le_bytes();
        let mut low = bytes[..size.bytes().into()].to_vec();
        if Order::HOST == Order::Big {
            low.reverse();
        }
        self.bytes(at, low.len())?.copy_from_slice(&low);
        Ok(())
    }
}

/// Runs a program on its memory; `helper` answers calls: number, R1 to R5, memory. Returns R0.
pub(crate) fn run(
    program: &Program,
    memory: &mut Memory,
    mut helper: impl FnMut(i32, [u64; 5], &mut Memory) -> u64,
) -> Result<u64, String> {
    let raws = decode(&program.to_bytes(Order::HOST), Order::HOST).map_err(|e| e.to_string())?;
    let mut code = vec![None; raws.len()];
    for op in ops(&raws) {
        let (slot, op) = op.map_err(|e| e.to_string())?;
        code[slot] = Some(op);
    }
    let mut regs = [0xdead_dead_dead_dead_u64; 11];
    regs[1] = CTX;
    regs[10] = STACK + 512;
    let mut at = 0;
    for _ in 0..100_000 {
        let op = code.get(at).copied().flatten();
        let op = op.ok_or_else(|| format!("no instruction at {at}"))?;
        let mut next = at + op.slots();
        match op {
            Op::Ja(off) => next = jump(next, off.into()),
            Op::JaLong(off) => next = jump(next, off),
            Op::Jump(cond, bits, dst, src, off) => {
                if holds(cond, bits, value(&regs, Src::Reg(dst)), value(&regs, src)) {
                    next = jump(next, off.into());
                }
            }
            Op::Wide(dst, Wide::MapFd(_)) => {
                let reloc = program
                    .relocs()
                    .iter()
                    .find(|reloc| reloc.at as usize == at);
                let Some(Target::Map(name)) = reloc.map(|reloc| &reloc.target) else {
                    return Err("a map without a name".to_owned());
                };
                let index = program.maps().iter().position(|map| map.name == *name);
                regs[dst.number() as usize] = MAPS + index.unwrap() as u64;
            }
            Op::Call(Callee::Helper(id)) => {
                let args = [
                    regs[1], regs[2], regs[3], regs[4], regs[5],
                ];
                regs[0] = helper(id, args, memory);
                regs[1..=5].fill(0xdead_dead_dead_dead);
            }
            Op::Exit => return Ok(regs[0]),
            _ => step(op, &mut regs, memory).map_err(|why| format!("at {at}: {why}"))?,
        }
        at = next;
    }
    Err("the program does not end".to_owned())
}

fn jump(next: usize, off: i32) -> usize {
    usize::try_from(i64::try_from(next).unwrap() + i64::from(off)).unwrap()
}

fn value(regs: &[u64; 11], src: Src) -> u64 {
    match src {
        Src::Reg(reg) => regs[reg.number() as usize],
        Src::Imm(imm) => i64::from(imm).cast_unsigned(),
    }
}

/// Everything that does not jump.
fn step(op: Op, regs: &mut [u64; 11], memory: &mut Memory) -> Result<(), String> {
    let place = |regs: &[u64; 11], base: Reg, off: i16| {
        regs[base.number() as usize].wrapping_add_signed(off.into())
    };
    match op {
        Op::Alu(op, bits, dst, src) => {
            let (a, b) = (regs[dst.number() as usize], value(regs, src));
            regs[dst.number() as usize] = match bits {
                Bits::B64 => alu(op, a, b, 64)?,
                Bits::B32 => alu(op, a & 0xffff_ffff, b & 0xffff_ffff, 32)? & 0xffff_ffff,
            };
        }
        Op::Swap(how, width, dst) => {
            let reg = &mut regs[dst.number() as usize];
            let swapped = match (width, *reg & (u64::MAX >> (64 - width))) {
                (16, n) => n.swap_bytes() >> 48,
                (32, n) => n.swap_bytes() >> 32,
                (_, n) => n.swap_bytes(),
            };
            let little = Order::HOST == Order::Little;
            *reg = match how {
                Swap::Be if !little => *reg & (u64::MAX >> (64 - width)),
                Swap::Le if little => *reg & (u64::MAX >> (64 - width)),
                _ => swapped,
            };
        }
        Op::Load(size, dst, base, off) => {
            regs[dst.number() as usize] = memory.load(place(regs, base, off), size)?;
        }
        Op::Store(size, base, off, src) => {
            memory.store(place(regs, base, off), size, value(regs, src))?;
        }
        Op::Atomic(AtomicOp::Add, size, base, off, src) => {
            let at = place(regs, base, off);
            let sum = memory
                .load(at, size)?
                .wrapping_add(value(regs, Src::Reg(src)));
            memory.store(at, size, sum)?;
        }
        Op::Wide(dst, Wide::Imm(imm)) => regs[dst.number() as usize] = imm,
        _ => return Err(format!("{op:?} is not interpreted")),
    }
    Ok(())
}

fn alu(op: Alu, a: u64, b: u64, bits: u32) -> Result<u64, String> {
    let shift = u32::try_from(b % u64::from(bits)).unwrap();
    Ok(match op {
        Alu::Add => a.wrapping_add(b),
        Alu::Sub => a.wrapping_sub(b),
        Alu::Mul => a.wrapping_mul(b),
        Alu::Div => a.checked_div(b).unwrap_or(0),
        Alu::Mod => a.checked_rem(b).unwrap_or(a),
        Alu::Or => a | b,
        Alu::And => a & b,
        Alu::Xor => a ^ b,
        Alu::Lsh => a << shift,
        Alu::Rsh => a >> shift,
        Alu::Mov => b,
        _ => return Err(format!("{op:?} is not interpreted")),
    })
}

fn holds(cond: Jmp, bits: Bits, a: u64, b: u64) -> bool {
    let (a, b) = match bits {
        Bits::B64 => (a, b),
        Bits::B32 => (sign32(a), sign32(b)),
    };
    let (sa, sb) = (a.cast_signed(), b.cast_signed());
    match cond {
        Jmp::Eq => a == b,
        Jmp::Ne => a != b,
        Jmp::Gt => a > b,
        Jmp::Ge => a >= b,
        Jmp::Lt => a < b,
        Jmp::Le => a <= b,
        Jmp::Set => a & b != 0,
        Jmp::SGt => sa > sb,
        Jmp::SGe => sa >= sb,
        Jmp::SLt => sa < sb,
        Jmp::SLe => sa <= sb,
    }
}

/// The low half, its sign extended: comparisons of both kinds come out as with 32 bits.
fn sign32(n: u64) -> u64 {
    ((n << 32).cast_signed() >> 32).cast_unsigned()
}
