//! Internet checksums: whole, changed by a field, and through the kernel's helpers.
//!
//! The sum is one's complement, so it does not mind byte order as long as all its numbers have the
//! same: fields are loaded as they stand in the packet and go in unswapped.

use crate::dsl::flags::csum_replace::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR};
use crate::dsl::*;
use crate::kit::packet::{ipv4_len, need};

/// A checksum in a packet, and what zero means in it.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    place: Mem,
    zero_is_none: bool,
}

impl Check {
    /// A UDP checksum: 0 says that there is none, so 0 stays, and a sum that comes out as 0 is
    /// written as 0xffff.
    #[must_use]
    pub const fn udp(place: Mem) -> Check {
        Check {
            place,
            zero_is_none: true,
        }
    }

    /// Where it is.
    #[must_use]
    pub const fn place(&self) -> Mem {
        self.place
    }
}

/// A checksum in which zero is a number like any other: IPv4, TCP, ICMP.
impl From<Mem> for Check {
    fn from(place: Mem) -> Check {
        Check {
            place,
            zero_is_none: false,
        }
    }
}

/// Corrects a checksum for two bytes that change from `old` to `new` (RFC 1624, equation 3). Both
/// come as they stand in the packet, with nothing above their 16 bits. Reads new; clobbers old and
/// scratch.
pub fn update16(check: impl Into<Check>, old: Reg, new: Reg, scratch: Reg) -> Code {
    update(check.into(), old, new, scratch, 16)
}

/// As [`update16`], for four bytes.
pub fn update32(check: impl Into<Check>, old: Reg, new: Reg, scratch: Reg) -> Code {
    update(check.into(), old, new, scratch, 32)
}

fn update(check: Check, old: Reg, new: Reg, sum: Reg, bits: i32) -> Code {
    let none = label("no_checksum");
    let invert = match bits {
        16 => xor(old, 0xffff),
        _ => xor(old.low(), -1),
    };
    code![
        load(sum, check.place),
        check.zero_is_none.then(|| jeq(sum, 0, none)),
        xor(sum, 0xffff),
        invert,
        add(sum, old),
        add(sum, new),
        // 3 * 0xffff is folded in two rounds; two times 32 bits and 16 take three.
        fold(sum, old, if bits == 16 { 2 } else { 3 }),
        finish(check, sum),
        bind(none),
    ]
}

/// Adds what is above the low 16 bits of `sum` to them, `rounds` times. One round leaves 35 bits
/// below 20, two leave at most 0x10007, three 16 bits. Clobbers scratch.
pub fn fold(sum: Reg, scratch: Reg, rounds: usize) -> Code {
    code![(0..rounds).map(|_| {
        [
            mov(scratch, sum),
            rsh(scratch, 16),
            and(sum, 0xffff),
            add(sum, scratch),
        ]
    })]
}

/// Stores the complement of a folded sum as the checksum. Clobbers sum.
fn finish(check: Check, sum: Reg) -> Code {
    code![
        xor(sum, 0xffff),
        check.zero_is_none.then(|| sum.eq(0).then(mov(sum, 0xffff))),
        store(check.place, sum),
    ]
}

/// Computes and stores the checksum of the IPv4 header at `ip`, which has no options. Its 20 bytes
/// must have been checked. Reads ip; clobbers sum and scratch.
pub fn ipv4_header(ip: Reg, sum: Reg, scratch: Reg) -> Code {
    code![
        store(ip.get(ipv4::check), 0),
        ipv4_words(ip, sum, scratch),
        fold(sum, scratch, 3),
        finish(ip.get(ipv4::check).into(), sum),
    ]
}

/// Jumps to `wrong` unless the checksum of the IPv4 header at `ip`, which has no options, is right.
/// Its 20 bytes must have been checked. Reads ip; clobbers sum and scratch.
pub fn ipv4_verify(ip: Reg, sum: Reg, scratch: Reg, wrong: Label) -> Code {
    code![
        ipv4_words(ip, sum, scratch),
        fold(sum, scratch, 3),
        jne(sum, 0xffff, wrong),
    ]
}

/// Sums the five words of an IPv4 header without options. Clobbers sum and scratch.
fn ipv4_words(ip: Reg, sum: Reg, scratch: Reg) -> Code {
    code![
        load(sum, ip.u32(0)),
        (1..ipv4::SIZE / 4).map(|n| [
            load(scratch, ip.u32(n * 4)),
            add(sum, scratch)
        ]),
    ]
}

/// Computes and stores the checksum of the IPv4 header at `ip`, whatever its length. Jumps to
/// `short` if it does not end before `end`, or is no IPv4 header. Reads ip and end; clobbers len, sum
/// and scratch.
pub fn ipv4_header_with_options(
    [ip, end]: [Reg; 2],
    [len, sum, scratch]: [Reg; 3],
    short: Label,
) -> Code {
    let whole = label("summed");
    code![
        need(ip, end, ipv4::SIZE, scratch, short),
        ipv4_len(len, ip, short),
        store(ip.get(ipv4::check), 0),
        ipv4_words(ip, sum, scratch),
        (ipv4::SIZE / 4..15).map(|n| {
            code![
                jle(len, n * 4, whole),
                need(ip, end, n * 4 + 4, scratch, short),
                load(scratch, ip.u32(n * 4)),
                add(sum, scratch),
            ]
        }),
        bind(whole),
        fold(sum, scratch, 3),
        finish(ip.get(ipv4::check).into(), sum),
    ]
}

/// Corrects a checksum for `words` times four bytes that change from those at `from` to those at
/// `to`, with `csum_diff`. The base of the checksum's place must be one of R6 to R9; `from` and `to`
/// together have at most 512 bytes. Clobbers R0 to R5. Linux 4.6.
pub fn update_by_diff(
    check: impl Into<Check>,
    from: impl Into<Place>,
    to: impl Into<Place>,
    words: i32,
) -> Code {
    let (check, none) = (check.into(), label("no_checksum"));
    code![
        load(R5, check.place),
        check.zero_is_none.then(|| jeq(R5, 0, none)),
        xor(R5, 0xffff),
        csum_diff(from.into(), words * 4, to.into(), words * 4, R5),
        // The sum has 32 bits, and before Linux 6.13 all of them may be used.
        mov(W0, W0),
        fold(R0, R1, 2),
        finish(check, R0),
        bind(none),
    ]
}

/// Flags of [`l4_replace`] for a changed port: two bytes.
pub const PORT: u64 = 2;
/// Flags of [`l4_replace`] for a changed IPv4 address: four bytes that the pseudo-header has too.
pub const ADDRESS: u64 = 4 | BPF_F_PSEUDO_HDR;
/// Goes with [`PORT`] or [`ADDRESS`] for UDP: 0 stays 0, and a sum of 0 becomes 0xffff.
pub const UDP: u64 = BPF_F_MARK_MANGLED_0;

/// Corrects the IPv4 header checksum `offset` bytes into the packet for a field of `size` bytes (two
/// or four) that changes from `old` to `new`; jumps to `failed` if the kernel refuses. For
/// `__sk_buff` contexts. Clobbers R0 to R5 and what the verifier knows of packet pointers: load and
/// check them again.
pub fn l3_replace(skb: Reg, offset: i32, [old, new]: [Reg; 2], size: Size, failed: Label) -> Code {
    code![
        l3_csum_replace(skb, offset, old, new, i32::from(size.bytes())),
        jslt(R0, 0, failed),
    ]
}

/// Corrects the TCP, UDP or ICMP checksum `offset` bytes into the packet for a field that changes
/// from `old` to `new`; `flags` is [`PORT`] or [`ADDRESS`], with [`UDP`] for UDP. Jumps to `failed` if
/// the kernel refuses. For `__sk_buff` contexts. Clobbers R0 to R5 and what the verifier knows of
/// packet pointers: load and check them again.
pub fn l4_replace(skb: Reg, offset: i32, [old, new]: [Reg; 2], flags: u64, failed: Label) -> Code {
    code![
        l4_csum_replace(skb, offset, old, new, flags),
        jslt(R0, 0, failed),
    ]
}
