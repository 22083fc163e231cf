//! Hashes: the kernel's jhash of three words, and FNV-1a.

use crate::dsl::*;

/// What `jhash` adds to its start value.
const JHASH_INITVAL: u32 = 0xdead_beef;

/// The kernel's `jhash_3words(a, b, c, initval)`: `c` becomes the hash. The words are the low 32 bits
/// of their registers. Clobbers a, b and scratch.
pub fn jhash_3words([a, b, c]: [Reg; 3], initval: u32, scratch: Reg) -> Code {
    let start = initval.wrapping_add(JHASH_INITVAL).wrapping_add(3 << 2);
    code![
        [a, b, c].map(|word| add(word.low(), start)),
        mix(c, b, 14, scratch),
        mix(a, c, 11, scratch),
        mix(b, a, 25, scratch),
        mix(c, b, 16, scratch),
        mix(a, c, 4, scratch),
        mix(b, a, 14, scratch),
        mix(c, b, 24, scratch),
    ]
}

/// `to = (to ^ from) - rotate_left(from, by)`, 32 bits. Clobbers scratch.
fn mix(to: Reg, from: Reg, by: i32, scratch: Reg) -> Code {
    let (to, from, part) = (to.low(), from.low(), scratch.low());
    // The halves of the rotation share no bit: taking them away one by one is taking away both.
    code![
        xor(to, from),
        mov(part, from),
        lsh(part, by),
        sub(to, part),
        mov(part, from),
        rsh(part, 32 - by),
        sub(to, part),
    ]
}

/// FNV-1a, 64 bits, over `bytes` bytes at a place: `hash` becomes the hash. Three instructions for
/// each byte. Clobbers hash and scratch.
pub fn fnv1a(hash: Reg, from: impl Into<Place>, bytes: i32, [prime, byte]: [Reg; 2]) -> Code {
    let from = from.into();
    code![
        lddw(hash, 0xcbf2_9ce4_8422_2325),
        lddw(prime, 0x100_0000_01b3),
        (0..bytes).map(|n| [
            load(byte, from.u8(n)),
            xor(hash, byte),
            mul(hash, prime),
        ]),
    ]
}

/// FNV-1a, 32 bits, over `bytes` bytes at a place: `hash` becomes the hash. Three instructions for
/// each byte. Clobbers hash and scratch.
pub fn fnv1a_32(hash: Reg, from: impl Into<Place>, bytes: i32, byte: Reg) -> Code {
    let (from, hash) = (from.into(), hash.low());
    code![
        mov(hash, 0x811c_9dc5_u32),
        (0..bytes).map(|n| [
            load(byte, from.u8(n)),
            xor(hash, byte.low()),
            mul(hash, 0x0100_0193),
        ]),
    ]
}
