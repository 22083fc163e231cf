//! What devices and addresses are called by: `IfIndex`, `Mac`, `Prefix`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The number of a device inside one network namespace.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IfIndex(pub u32);

impl IfIndex {
    /// The loopback device; every namespace has it under this number.
    pub const LOOPBACK: IfIndex = IfIndex(1);
}

impl fmt::Display for IfIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ifindex {}", self.0)
    }
}

impl fmt::Debug for IfIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IfIndex({})", self.0)
    }
}

impl From<IfIndex> for u32 {
    fn from(index: IfIndex) -> u32 {
        index.0
    }
}

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mac({self})")
    }
}

/// A range of addresses: those that share the first `len` bits of `addr`.
///
/// As an interface address, `addr` keeps its host part: `10.1.0.2/24`.
///
/// ```
/// use bpfsmith_net::Prefix;
/// let prefix: Prefix = "10.1.0.0/24".parse()?;
/// assert!(prefix.contains("10.1.0.77".parse()?));
/// assert!("10.1.0.0/33".parse::<Prefix>().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    addr: IpAddr,
    len: u8,
}

/// Text or numbers that are no prefix.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPrefix {
    /// The part before the slash is no address.
    #[error("no address before the slash; write it like 10.1.0.0/24 or fd00::/64")]
    Address,
    /// The part behind the slash is no number.
    #[error("no length behind the slash; write it like 10.1.0.0/24 or fd00::/64")]
    Length,
    /// The length is more than the address has bits.
    #[error("a length of {len} where the address has {max} bits")]
    TooLong {
        /// The length.
        len: u8,
        /// The most it can be.
        max: u8,
    },
}

bpfsmith_uapi::debug_as_display!(BadPrefix);

impl Prefix {
    /// All of IPv4.
    pub const V4_ALL: Prefix = Prefix {
        addr: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        len: 0,
    };

    /// All of IPv6.
    pub const V6_ALL: Prefix = Prefix {
        addr: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        len: 0,
    };

    /// The addresses that share `len` bits with `addr`.
    ///
    /// # Errors
    ///
    /// [`BadPrefix::TooLong`] when the address has fewer bits.
    pub const fn new(addr: IpAddr, len: u8) -> Result<Prefix, BadPrefix> {
        let max = bits(addr);
        if len > max {
            Err(BadPrefix::TooLong { len, max })
        } else {
            Ok(Prefix { addr, len })
        }
    }

    /// One address alone.
    #[must_use]
    pub const fn host(addr: IpAddr) -> Prefix {
        Prefix {
            addr,
            len: bits(addr),
        }
    }

    /// The address, with its host part if it was given one.
    #[must_use]
    pub const fn addr(self) -> IpAddr {
        self.addr
    }

    /// How many leading bits count.
    #[must_use]
    #[expect(
        clippy::len_without_is_empty,
        reason = "a prefix length, not a count of members"
    )]
    pub const fn len(self) -> u8 {
        self.len
    }

    /// Whether this is every address of its family.
    #[must_use]
    pub const fn is_all(self) -> bool {
        self.len == 0
    }

    /// Whether the address shares the leading bits.
    #[must_use]
    pub fn contains(self, addr: IpAddr) -> bool {
        match (self.addr, addr) {
            (IpAddr::V4(mine), IpAddr::V4(other)) => {
                let shift = 32 - u32::from(self.len);
                let head = |addr: Ipv4Addr| addr.to_bits().checked_shr(shift);
                head(mine) == head(other)
            }
            (IpAddr::V6(mine), IpAddr::V6(other)) => {
                let shift = 128 - u32::from(self.len);
                let head = |addr: Ipv6Addr| addr.to_bits().checked_shr(shift);
                head(mine) == head(other)
            }
            _ => false,
        }
    }

    /// The same range with the host part cleared, as a route wants it.
    #[must_use]
    pub fn network(self) -> Prefix {
        let addr = match self.addr {
            IpAddr::V4(addr) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.len)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(addr.to_bits() & mask))
            }
            IpAddr::V6(addr) => {
                let mask = u128::MAX
                    .checked_shl(128 - u32::from(self.len))
                    .unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(addr.to_bits() & mask))
            }
        };
        Prefix {
            addr,
            len: self.len,
        }
    }
}

const fn bits(addr: IpAddr) -> u8 {
    match addr {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

impl FromStr for Prefix {
    type Err = BadPrefix;

    /// Reads `10.1.0.0/24`; without a length, it is one address alone.
    fn from_str(text: &str) -> Result<Prefix, BadPrefix> {
        let (addr, len) = match text.split_once('/') {
            Some((addr, len)) => (addr, Some(len.parse().map_err(|_| BadPrefix::Length)?)),
            None => (text, None),
        };
        let addr = addr.parse().map_err(|_| BadPrefix::Address)?;
        Prefix::new(addr, len.unwrap_or(bits(addr)))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prefix({self})")
    }
}

/// The number of the address family.
pub(crate) const fn family(addr: IpAddr) -> u8 {
    match addr {
        IpAddr::V4(_) => AF_INET,
        IpAddr::V6(_) => AF_INET6,
    }
}

pub(crate) const AF_UNSPEC: u8 = 0;
pub(crate) const AF_INET: u8 = 2;
pub(crate) const AF_INET6: u8 = 10;

/// The bytes of an address, in network order.
pub(crate) fn octets(addr: &IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(addr) => addr.octets().to_vec(),
        IpAddr::V6(addr) => addr.octets().to_vec(),
    }
}

/// An address out of 4 or 16 bytes.
pub(crate) fn address(bytes: &[u8]) -> Result<IpAddr, crate::wire::Malformed> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Ok(IpAddr::from(octets));
    }
    let what = "an address has neither 4 nor 16 bytes";
    <[u8; 16]>::try_from(bytes)
        .map(IpAddr::from)
        .map_err(|_| crate::wire::Malformed { what, at: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, network: &str, inside: &str, outside: &str) {
        let prefix: Prefix = text.parse().unwrap();
        assert_eq!(prefix.network().to_string(), network);
        assert!(prefix.contains(inside.parse().unwrap()));
        assert!(!prefix.contains(outside.parse().unwrap()));
        assert_eq!(prefix.to_string().parse(), Ok(prefix));
    }

    #[test]
    fn prefixes_hold_addresses() {
        check("10.1.2.3/24", "10.1.2.0/24", "10.1.2.255", "10.1.3.0");
        check("10.1.2.3", "10.1.2.3/32", "10.1.2.3", "10.1.2.2");
        check("0.0.0.0/0", "0.0.0.0/0", "255.1.1.1", "::1");
        check("10.0.0.0/1", "0.0.0.0/1", "127.0.0.1", "128.0.0.1");
        check("fd00::5/64", "fd00::/64", "fd00::ffff", "fd00:0:0:1::");
        check("::/0", "::/0", "ff::1", "10.0.0.1");
        check("fd00::5", "fd00::5/128", "fd00::5", "fd00::4");
    }

    #[test]
    fn bad_prefixes_say_what_is_wrong() {
        assert_eq!(
            "10.0.0.1/33".parse::<Prefix>(),
            Err(BadPrefix::TooLong { len: 33, max: 32 })
        );
        assert_eq!("10.0.0/24".parse::<Prefix>(), Err(BadPrefix::Address));
        assert_eq!("10.0.0.1/x".parse::<Prefix>(), Err(BadPrefix::Length));
        assert_eq!("10.0.0.1/".parse::<Prefix>(), Err(BadPrefix::Length));
    }

    #[test]
    fn names_print_as_people_write_them() {
        assert_eq!(Mac([2, 0, 0, 0, 1, 0xfe]).to_string(), "02:00:00:00:01:fe");
        assert_eq!(IfIndex(4).to_string(), "ifindex 4");
        assert_eq!(address(&[1, 2, 3, 4]), Ok("1.2.3.4".parse().unwrap()));
        assert!(address(&[1, 2, 3]).is_err());
    }
}
