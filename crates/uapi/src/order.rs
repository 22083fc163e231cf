//! `Order`: how a machine lays out numbers.

/// The order of the bytes in a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// Least significant byte first: x86-64, arm64, riscv64.
    Little,
    /// Most significant byte first: s390x.
    Big,
}

impl Order {
    /// The order of the machine that runs this code.
    pub const HOST: Order = if cfg!(target_endian = "big") {
        Order::Big
    } else {
        Order::Little
    };

    /// The number at a place, or nothing when the bytes end before.
    #[inline]
    #[must_use]
    pub fn u32_at(self, bytes: &[u8], at: usize) -> Option<u32> {
        let chunk = bytes.get(at..)?.first_chunk::<4>()?;
        Some(self.u32(*chunk))
    }

    /// The number in these bytes.
    #[inline]
    #[must_use]
    pub const fn u32(self, bytes: [u8; 4]) -> u32 {
        let value = u32::from_ne_bytes(bytes);
        match (self, Order::HOST) {
            (Order::Little, Order::Little) | (Order::Big, Order::Big) => value,
            _ => swapped(value),
        }
    }

    /// The bytes of a number.
    #[inline]
    #[must_use]
    pub const fn bytes(self, value: u32) -> [u8; 4] {
        match self {
            Order::Little => value.to_le_bytes(),
            Order::Big => value.to_be_bytes(),
        }
    }

    /// The bytes of a short number.
    #[inline]
    #[must_use]
    pub const fn bytes16(self, value: u16) -> [u8; 2] {
        match self {
            Order::Little => value.to_le_bytes(),
            Order::Big => value.to_be_bytes(),
        }
    }
}

/// Numbers of other machines are rare: reading those of this one is not to pay for them.
#[cold]
const fn swapped(value: u32) -> u32 {
    value.swap_bytes()
}
