//! Changes of headers, with the checksums that cover them.
//!
//! All of them need the bytes they change to have been checked, and work where a program may write to
//! the packet directly: in XDP, and in TC programs.

use crate::dsl::*;
use crate::kit::checksum::{Check, update16, update32};

/// Replaces an address of the IPv4 header at `ip` (`field` is `ipv4::saddr` or `ipv4::daddr`) by
/// `new`, as it stands in the packet, and corrects the header's checksum and `l4`, that of the TCP or
/// UDP header behind it. Reads ip and new; clobbers scratch.
pub fn set_ipv4_address(
    ip: Reg,
    field: Field,
    new: Reg,
    l4: Option<Check>,
    [old, sum]: [Reg; 2],
) -> Code {
    code![
        load(old, ip.get(field)),
        update32(ip.get(ipv4::check), old, new, sum),
        l4.map(|check| code![
            load(old, ip.get(field)),
            update32(check, old, new, sum),
        ]),
        store(ip.get(field), new),
    ]
}

/// Replaces an address of the IPv6 header at `ip` (`field` is `ipv6::saddr` or `ipv6::daddr`) by the
/// 16 bytes at `from`, and corrects `l4`, the checksum of the header behind it, which for IPv6
/// includes ICMPv6. Reads ip; clobbers scratch.
pub fn set_ipv6_address(
    ip: Reg,
    field: Field,
    from: impl Into<Place>,
    l4: Option<Check>,
    [old, new, sum]: [Reg; 3],
) -> Code {
    let from = from.into();
    code![(0..4_u16).map(|n| {
        code![
            load(new, from.u32(i32::from(n) * 4)),
            l4.map(|check| code![
                load(old, ip.get(field.at(n))),
                update32(check, old, new, sum),
            ]),
            store(ip.get(field.at(n)), new),
        ]
    })]
}

/// Replaces a port, or any other two bytes at `port` that the checksum covers, by `new` as it stands
/// in the packet. Reads new; clobbers scratch.
pub fn set_port(port: Mem, new: Reg, check: impl Into<Check>, [old, sum]: [Reg; 2]) -> Code {
    code![
        load(old, port),
        update16(check, old, new, sum),
        store(port, new),
    ]
}

/// Takes one from the time to live of the IPv4 header at `ip` and corrects its checksum; jumps to
/// `expired`, with nothing changed, if it is 1 or 0. Reads ip; clobbers scratch.
pub fn decrement_ttl(ip: Reg, scratch: Reg, expired: Label) -> Code {
    // The field is the upper byte of its word: one less there is 0x100 more in the checksum.
    code![
        load(scratch, ip.get(ipv4::ttl)),
        jle(scratch, 1, expired),
        sub(scratch, 1),
        store(ip.get(ipv4::ttl), scratch),
        load(scratch, ip.get(ipv4::check)),
        add(scratch, be16(0x100)),
        scratch.ge(0xffff).then(add(scratch, 1)),
        store(ip.get(ipv4::check), scratch),
    ]
}

/// Takes one from the hop limit of the IPv6 header at `ip`; jumps to `expired`, with nothing changed,
/// if it is 1 or 0. Reads ip; clobbers scratch.
pub fn decrement_hop_limit(ip: Reg, scratch: Reg, expired: Label) -> Code {
    code![
        load(scratch, ip.get(ipv6::hop_limit)),
        jle(scratch, 1, expired),
        sub(scratch, 1),
        store(ip.get(ipv6::hop_limit), scratch),
    ]
}

/// Swaps source and destination of the Ethernet header at `frame`. Reads frame; clobbers scratch.
pub fn swap_macs(frame: Reg, [a, b]: [Reg; 2]) -> Code {
    let (dst, src) = (macs::DST, macs::SRC);
    code![
        load(a, frame.u32(dst)),
        load(b, frame.u32(src)),
        store(frame.u32(dst), b),
        store(frame.u32(src), a),
        load(a, frame.u16(dst + 4)),
        load(b, frame.u16(src + 4)),
        store(frame.u16(dst + 4), b),
        store(frame.u16(src + 4), a),
    ]
}

mod macs {
    use crate::dsl::eth;

    pub(super) const DST: i32 = eth::dst.offset as i32;
    pub(super) const SRC: i32 = eth::src.offset as i32;
}

/// Sets an address of the Ethernet header at `frame` (`field` is `eth::dst` or `eth::src`). Reads
/// frame; clobbers nothing.
pub fn set_mac(frame: Reg, field: Field, mac: [u8; 6]) -> Code {
    let [a, b, c, d, e, f] = mac;
    let at = i32::from(field.offset);
    code![
        store(frame.u32(at), be32(u32::from_be_bytes([a, b, c, d]))),
        store(frame.u16(at + 4), be16(u16::from_be_bytes([e, f]))),
    ]
}

/// Copies six bytes to an address of the Ethernet header at `frame`, from a routing answer's
/// `params.get(bpf_fib_lookup::dmac)` or another place that is aligned to two bytes. Reads frame;
/// clobbers scratch.
pub fn copy_mac(frame: Reg, field: Field, from: impl Into<Place>, scratch: Reg) -> Code {
    let (from, at) = (from.into(), i32::from(field.offset));
    code![(0..6).step_by(2).map(|n| {
        [
            load(scratch, from.u16(n)),
            store(frame.u16(at + n), scratch),
        ]
    })]
}
