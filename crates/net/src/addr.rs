//! Addresses of devices.

use crate::error::{Error, Operation};
use crate::socket::Netlink;
use crate::types::{AF_INET, AF_INET6, AF_UNSPEC, IfIndex, Prefix, address, family, octets};
use crate::wire::{Frame, Malformed, Message, NLM_F_CREATE, NLM_F_EXCL};

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;

bpfsmith_uapi::uapi_flags! {
    /// Flags of an address.
    pub mod ifa: u32 {
        /// A further address in the network of another one.
        IFA_F_SECONDARY = 1 << 0,
        /// Used at once, without asking whether somebody else has it. IPv6.
        IFA_F_NODAD = 1 << 1,
        /// Used while it is asked whether somebody else has it. IPv6.
        IFA_F_OPTIMISTIC = 1 << 2,
        /// Somebody else has it. IPv6.
        IFA_F_DADFAILED = 1 << 3,
        /// A home address of mobile IPv6.
        IFA_F_HOMEADDRESS = 1 << 4,
        /// Not used for new connections.
        IFA_F_DEPRECATED = 1 << 5,
        /// It is not known yet whether somebody else has it. IPv6.
        IFA_F_TENTATIVE = 1 << 6,
        /// It does not expire.
        IFA_F_PERMANENT = 1 << 7,
        /// The kernel makes temporary addresses from it. IPv6.
        IFA_F_MANAGETEMPADDR = 1 << 8,
        /// No route to its network is made.
        IFA_F_NOPREFIXROUTE = 1 << 9,
    }
}

/// An address of a device, together with the length of its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The device.
    pub index: IfIndex,
    /// The address and the length of its network.
    pub prefix: Prefix,
    /// [`ifa`] bits.
    pub flags: u32,
}

impl Address {
    /// An address that is used at once: IPv6 does not first ask for duplicates.
    #[must_use]
    pub const fn new(index: IfIndex, prefix: Prefix) -> Address {
        let flags = match prefix.addr() {
            std::net::IpAddr::V4(_) => 0,
            std::net::IpAddr::V6(_) => ifa::IFA_F_NODAD,
        };
        Address {
            index,
            prefix,
            flags,
        }
    }

    /// The same with exactly these [`ifa`] bits.
    #[must_use]
    pub const fn flags(self, flags: u32) -> Address {
        Address { flags, ..self }
    }

    pub(crate) fn read(frame: Frame<'_>) -> Result<Option<Address>, Malformed> {
        let (&[family, len, flags, _, i0, i1, i2, i3], attrs) = frame.split::<8>()?;
        if !matches!(family, AF_INET | AF_INET6) {
            return Ok(None);
        }
        let (mut local, mut far, mut flags) = (None, None, u32::from(flags));
        for attr in attrs {
            let attr = attr?;
            match attr.kind {
                IFA_LOCAL => local = Some(address(attr.value)?),
                IFA_ADDRESS => far = Some(address(attr.value)?),
                IFA_FLAGS => flags = attr.u32()?,
                _ => {}
            }
        }
        let addr = local.or(far).ok_or(Malformed {
            what: "an address is missing",
            at: 0,
        })?;
        let what = "an address has a length that it cannot have";
        let prefix = Prefix::new(addr, len).map_err(|_| Malformed { what, at: 1 })?;
        let index = IfIndex(u32::from_ne_bytes([i0, i1, i2, i3]));
        Ok(Some(Address {
            index,
            prefix,
            flags,
        }))
    }

    fn request(&self, kind: u16, flags: u16) -> Message {
        let addr = self.prefix.addr();
        let mut header = [
            family(addr),
            self.prefix.len(),
            0,
            0,
            0,
            0,
            0,
            0,
        ];
        header[4..8].copy_from_slice(&self.index.0.to_ne_bytes());
        Message::new(kind, flags)
            .fixed(&header)
            .attr(IFA_LOCAL, &octets(&addr))
            .attr(IFA_ADDRESS, &octets(&addr))
            .u32(IFA_FLAGS, self.flags)
    }
}

impl Netlink {
    /// Every address of every device.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to list them or the list never holds still.
    pub fn addresses(&self) -> Result<Vec<Address>, Error> {
        let message = Message::new(RTM_GETADDR, 0).fixed(&[AF_UNSPEC, 0, 0, 0, 0, 0, 0, 0]);
        self.dump(Operation::READ_ADDR, "", &message, Address::read)
    }

    /// Gives a device an address.
    ///
    /// # Errors
    ///
    /// `EEXIST` when it has it already.
    pub fn add_address(&self, address: &Address) -> Result<(), Error> {
        let message = address.request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL);
        self.ack_on(
            Operation::NEW_ADDR,
            address.index,
            &address.prefix.to_string(),
            message,
        )
    }

    /// Takes an address from a device.
    ///
    /// # Errors
    ///
    /// `EADDRNOTAVAIL` when it has no such address.
    pub fn delete_address(&self, index: IfIndex, prefix: Prefix) -> Result<(), Error> {
        let message = Address {
            index,
            prefix,
            flags: 0,
        }
        .request(RTM_DELADDR, 0);
        self.ack_on(Operation::DEL_ADDR, index, &prefix.to_string(), message)
    }
}
