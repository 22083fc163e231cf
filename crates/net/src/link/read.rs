//! `Link`: what the kernel says about a device.

use super::{
    IFF_UP, IFLA_ADDRESS, IFLA_IFNAME, IFLA_INFO_KIND, IFLA_LINK, IFLA_LINK_NETNSID, IFLA_LINKINFO,
    IFLA_MASTER, IFLA_MTU, IFLA_NUM_RX_QUEUES, IFLA_NUM_TX_QUEUES, IFLA_OPERSTATE,
    IFLA_PARENT_DEV_BUS_NAME, IFLA_PARENT_DEV_NAME, IFLA_QDISC, IFLA_XDP,
};
use crate::types::{IfIndex, Mac};
use crate::wire::{Frame, Malformed};
use crate::xdp::XdpState;
use bpfsmith_uapi::{uapi_enum, uapi_flags};
use std::fmt;

uapi_enum! {
    /// Whether packets can flow through a device.
    pub OperState: u8, "IF_OPER_" {
        /// The driver does not say.
        UNKNOWN = 0,
        /// The hardware is missing.
        NOTPRESENT = 1,
        /// They cannot.
        DOWN = 2,
        /// A device below this one is down.
        LOWERLAYERDOWN = 3,
        /// It tests itself.
        TESTING = 4,
        /// Something outside has to happen first.
        DORMANT = 5,
        /// They can.
        UP = 6,
    }
}

uapi_flags! {
    mod iff: u32 {
        IFF_UP = 1 << 0,
        IFF_BROADCAST = 1 << 1,
        IFF_DEBUG = 1 << 2,
        IFF_LOOPBACK = 1 << 3,
        IFF_POINTOPOINT = 1 << 4,
        IFF_NOTRAILERS = 1 << 5,
        IFF_RUNNING = 1 << 6,
        IFF_NOARP = 1 << 7,
        IFF_PROMISC = 1 << 8,
        IFF_ALLMULTI = 1 << 9,
        IFF_MASTER = 1 << 10,
        IFF_SLAVE = 1 << 11,
        IFF_MULTICAST = 1 << 12,
        IFF_PORTSEL = 1 << 13,
        IFF_AUTOMEDIA = 1 << 14,
        IFF_DYNAMIC = 1 << 15,
        IFF_LOWER_UP = 1 << 16,
        IFF_DORMANT = 1 << 17,
        IFF_ECHO = 1 << 18,
    }
}

/// The `IFF_` bits of a device; printed by name.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LinkFlags(pub u32);

impl LinkFlags {
    /// Whether it is switched on.
    #[must_use]
    pub const fn is_up(self) -> bool {
        self.0 & IFF_UP != 0
    }

    /// Whether it is the loopback device.
    #[must_use]
    pub const fn is_loopback(self) -> bool {
        self.0 & iff::IFF_LOOPBACK != 0
    }

    /// Whether the driver sees something at the other end.
    #[must_use]
    pub const fn has_carrier(self) -> bool {
        self.0 & iff::IFF_LOWER_UP != 0
    }

    /// Whether it takes every packet, whoever it is for.
    #[must_use]
    pub const fn is_promiscuous(self) -> bool {
        self.0 & iff::IFF_PROMISC != 0
    }
}

impl fmt::Display for LinkFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        iff::names(self.0).fmt(f)
    }
}

impl fmt::Debug for LinkFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkFlags({self})")
    }
}

/// The other end of a pair, or the device below this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its number, in its own namespace.
    pub index: IfIndex,
    /// The number of its namespace as seen from here; nothing when it is this one. Negative when
    /// the namespace has no number here. See [`Netlink::nsid`](crate::Netlink::nsid).
    pub nsid: Option<i32>,
}

/// What a device that is not the kernel's own invention is plugged into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hardware {
    /// The kernel's word for the bus: `pci`, `virtio`, `usb`, …
    pub bus: String,
    /// Its place there.
    pub place: String,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number in this namespace.
    pub index: IfIndex,
    /// Its name.
    pub name: String,
    /// Its Ethernet address, if it has one.
    pub mac: Option<Mac>,
    /// The size of the largest packet.
    pub mtu: u32,
    /// The `IFF_` bits.
    pub flags: LinkFlags,
    /// Whether packets can flow.
    pub state: OperState,
    /// The kernel's word for its kind, like `veth`. Loopback and real hardware have none.
    pub kind: Option<String>,
    /// What it is plugged into, if the kernel did not make it up. Linux 5.14.
    pub hardware: Option<Hardware>,
    /// The bridge or bond it is a port of.
    pub master: Option<IfIndex>,
    /// The other end of a pair, or the device below this one.
    pub peer: Option<Peer>,
    /// The XDP programs attached.
    pub xdp: XdpState,
    /// How many queues it may send on; fewer can be in use.
    pub tx_queues: u32,
    /// How many queues it may receive on; fewer can be in use, as with a veth made without a number.
    pub rx_queues: u32,
    /// The queueing discipline at its root.
    pub qdisc: String,
}

impl Link {
    /// Whether packets can flow.
    ///
    /// Some kinds never say more than that they are switched on, loopback among them. Those that do
    /// say it a moment later, and drop packets until then.
    #[must_use]
    pub fn is_running(&self) -> bool {
        let says = matches!(
            self.kind.as_deref(),
            Some("veth" | "netkit" | "bridge" | "macvlan")
        );
        match self.state {
            OperState::UP => self.flags.is_up(),
            OperState::UNKNOWN => !says && self.flags.is_up() && self.flags.has_carrier(),
            _ => false,
        }
    }

    pub(crate) fn read(frame: Frame<'_>) -> Result<Link, Malformed> {
        let (header, attrs) = frame.split::<16>()?;
        let [
            _,
            _,
            _,
            _,
            i0,
            i1,
            i2,
            i3,
            f0,
            f1,
            f2,
            f3,
            ..,
        ] = *header;
        let mut link = Link {
            index: IfIndex(u32::from_ne_bytes([i0, i1, i2, i3])),
            name: String::new(),
            mac: None,
            mtu: 0,
            flags: LinkFlags(u32::from_ne_bytes([f0, f1, f2, f3])),
            state: OperState::UNKNOWN,
            kind: None,
            hardware: None,
            master: None,
            peer: None,
            xdp: XdpState::default(),
            tx_queues: 0,
            rx_queues: 0,
            qdisc: String::new(),
        };
        let mut below = None;
        let mut nsid = None;
        let (mut bus, mut place) = (None, None);
        for attr in attrs {
            let attr = attr?;
            match attr.kind {
                IFLA_IFNAME => link.name = attr.str()?.to_owned(),
                IFLA_ADDRESS => link.mac = attr.array().ok().map(Mac),
                IFLA_MTU => link.mtu = attr.u32()?,
                IFLA_OPERSTATE => link.state = OperState(attr.u8()?),
                IFLA_MASTER => link.master = Some(IfIndex(attr.u32()?)),
                IFLA_LINK => below = Some(IfIndex(attr.u32()?)),
                IFLA_LINK_NETNSID => nsid = Some(attr.i32()?),
                IFLA_NUM_TX_QUEUES => link.tx_queues = attr.u32()?,
                IFLA_NUM_RX_QUEUES => link.rx_queues = attr.u32()?,
                IFLA_QDISC => link.qdisc = attr.str()?.to_owned(),
                IFLA_PARENT_DEV_BUS_NAME => bus = Some(attr.str()?.to_owned()),
                IFLA_PARENT_DEV_NAME => place = Some(attr.str()?.to_owned()),
                IFLA_XDP => link.xdp = XdpState::read(attr.attrs())?,
                IFLA_LINKINFO => {
                    let kind = attr.attrs().find_kind(IFLA_INFO_KIND)?;
                    link.kind = kind.map(|kind| kind.str().map(str::to_owned)).transpose()?;
                }
                _ => {}
            }
        }
        link.peer = below
            .filter(|index| index.0 != 0)
            .map(|index| Peer { index, nsid });
        link.hardware = bus.zip(place).map(|(bus, place)| Hardware { bus, place });
        Ok(link)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_print_by_name() {
        assert_eq!(
            LinkFlags(0x49).to_string(),
            "IFF_UP|IFF_LOOPBACK|IFF_RUNNING"
        );
        assert!(LinkFlags(0x49).is_up() && LinkFlags(0x49).is_loopback());
        assert!(LinkFlags(0x1_0000).has_carrier() && !LinkFlags(0x49).has_carrier());
        assert_eq!(OperState(9).to_string(), "IF_OPER_9");
    }
}
