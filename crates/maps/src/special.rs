//! Keys of their own form, and the values of stack traces.

use bpfsmith_uapi::record::{Described, Record, Type, member};
use bpfsmith_uapi::{Layout, Width};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use zerocopy::{FromBytes, Immutable, IntoBytes, Unaligned};

/// The key of an LPM trie: how many leading bits count, and an address in network order.
///
/// A program looks an address up with all its bits. The number stands first, in the machine's byte
/// order, and the address behind its four bytes:
///
/// ```
/// use bpfsmith_asm::dsl::*;
/// use bpfsmith_maps::LpmKey;
///
/// static ROUTES: MapDef<LpmKey<[u8; 4]>, u32> = MapDef::lpm_trie("routes", 1024);
///
/// /// R0 becomes the address of the value, or null. R9 is at the IPv4 header; clobbers R0 to R5.
/// fn route() -> Code {
///     let key = slot::<LpmKey<[u8; 4]>>("key");
///     code![
///         store(key.get(bpf_lpm_trie_key::prefixlen), 32),
///         load(R1, R9.get(ipv4::saddr)),
///         store(key.u32(bpf_lpm_trie_key::SIZE), R1),
///         map_lookup_elem(&ROUTES, key),
///     ]
/// }
/// # let _ = route();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, Unaligned)]
#[repr(C)]
pub struct LpmKey<A> {
    bits: [u8; 4],
    address: A,
}

impl<A> LpmKey<A> {
    /// A prefix of that many bits. The kernel refuses more bits than the address has.
    #[must_use]
    pub const fn new(address: A, bits: u32) -> LpmKey<A> {
        LpmKey {
            bits: bits.to_ne_bytes(),
            address,
        }
    }

    /// How many leading bits count.
    #[must_use]
    pub const fn bits(&self) -> u32 {
        u32::from_ne_bytes(self.bits)
    }

    /// The address; bits behind the prefix mean nothing.
    #[must_use]
    pub const fn address(&self) -> &A {
        &self.address
    }
}

impl LpmKey<[u8; 4]> {
    /// A prefix of IPv4 addresses.
    #[must_use]
    pub const fn v4(address: Ipv4Addr, bits: u32) -> LpmKey<[u8; 4]> {
        LpmKey::new(address.octets(), bits)
    }
}

impl LpmKey<[u8; 16]> {
    /// A prefix of IPv6 addresses.
    #[must_use]
    pub const fn v6(address: Ipv6Addr, bits: u32) -> LpmKey<[u8; 16]> {
        LpmKey::new(address.octets(), bits)
    }

    /// A prefix of either family, for one trie of both: of an IPv4 address, the prefix of the IPv6
    /// address `::ffff:a.b.c.d` that has 96 bits more. So `::/0` covers IPv4 addresses too, unless the
    /// trie has `0.0.0.0/0`.
    #[must_use]
    pub const fn mapped(address: IpAddr, bits: u32) -> LpmKey<[u8; 16]> {
        match address {
            IpAddr::V4(address) => LpmKey::v6(address.to_ipv6_mapped(), bits.saturating_add(96)),
            IpAddr::V6(address) => LpmKey::v6(address, bits),
        }
    }
}

/// A single address: the key to look up with.
impl From<Ipv4Addr> for LpmKey<[u8; 4]> {
    fn from(address: Ipv4Addr) -> LpmKey<[u8; 4]> {
        LpmKey::v4(address, 32)
    }
}

/// A single address: the key to look up with.
impl From<Ipv6Addr> for LpmKey<[u8; 16]> {
    fn from(address: Ipv6Addr) -> LpmKey<[u8; 16]> {
        LpmKey::v6(address, 128)
    }
}

impl<A: Described> Described for LpmKey<A> {
    const TYPE: Type = Type::Struct(&Record {
        layout: Layout {
            name: "lpm_key",
            kernel: "",
            size: size_of::<LpmKey<A>>(),
            fields: &[
                member("bits", 0, 4, &Type::Unsigned(Width::W)),
                member("address", 4, size_of::<A>(), &A::TYPE),
            ],
        },
        types: &[Type::Unsigned(Width::W), A::TYPE],
    });
}

/// The key of the older cgroup storage: a cgroup and where the program is attached to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct CgroupStorageKey {
    /// The inode of the cgroup's directory.
    pub inode: u64,
    /// The attach type, as a number.
    pub attach: u32,
    end: u32,
}

impl CgroupStorageKey {
    /// The storage of programs attached like this to the cgroup with that inode.
    #[must_use]
    pub const fn new(inode: u64, attach: bpfsmith_uapi::AttachType) -> CgroupStorageKey {
        CgroupStorageKey {
            inode,
            attach: attach.0,
            end: 0,
        }
    }
}

/// The addresses of a stack trace, from the innermost function on, without the zeros at the end.
#[must_use]
pub fn frames(trace: &[u64]) -> &[u64] {
    let end = trace.iter().position(|&address| address == 0);
    &trace[..end.unwrap_or(trace.len())]
}

#[cfg(test)]
mod tests {
    use super::{CgroupStorageKey, LpmKey, frames};
    use std::net::Ipv4Addr;
    use zerocopy::IntoBytes;

    #[test]
    fn a_prefix_is_its_length_and_its_bytes_in_network_order() {
        let key = LpmKey::v4(Ipv4Addr::new(10, 1, 2, 3), 24);
        let mut bytes = 24_u32.to_ne_bytes().to_vec();
        bytes.extend([10, 1, 2, 3]);
        assert_eq!(key.as_bytes(), bytes);
        assert_eq!((key.bits(), key.address()), (24, &[10, 1, 2, 3]));
        assert_eq!(LpmKey::from(Ipv4Addr::LOCALHOST).bits(), 32);
        assert_eq!(size_of::<CgroupStorageKey>(), 16);
    }

    #[test]
    fn a_trace_ends_at_the_first_zero() {
        assert_eq!(frames(&[1, 2, 0, 0]), [1, 2]);
        assert_eq!(frames(&[1]), [1]);
        assert!(frames(&[]).is_empty());
    }
}
