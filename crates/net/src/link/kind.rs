//! `Kind`: what sort of device to make.

use super::Device;
use crate::types::IfIndex;
use crate::wire::Message;
use bpfsmith_uapi::uapi_enum;
use std::net::IpAddr;

const VETH_INFO_PEER: u16 = 1;
const IFLA_NETKIT_PEER_INFO: u16 = 1;
const IFLA_MACVLAN_MODE: u16 = 1;
const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_GROUP: u16 = 2;
const IFLA_VXLAN_LINK: u16 = 3;
const IFLA_VXLAN_LOCAL: u16 = 4;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_VXLAN_GROUP6: u16 = 16;
const IFLA_VXLAN_LOCAL6: u16 = 17;

uapi_enum! {
    /// Whom a macvlan device talks to.
    pub MacvlanMode: u32, "MACVLAN_MODE_" {
        /// Not the other devices on the same parent.
        PRIVATE = 1,
        /// The others by way of the switch outside.
        VEPA = 2,
        /// The others directly.
        BRIDGE = 4,
        /// It takes the whole parent.
        PASSTHRU = 8,
        /// Only listed sources.
        SOURCE = 16,
    }
}

/// A tunnel of Ethernet frames over UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vxlan {
    /// The number of the network, 24 bits.
    pub id: u32,
    /// Where frames go.
    pub remote: Option<IpAddr>,
    /// Where frames come from.
    pub local: Option<IpAddr>,
    /// The UDP port; 4789 is the registered one.
    pub port: u16,
    /// The device to send through.
    pub parent: Option<IfIndex>,
}

/// What sort of device to make.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Kind<'a> {
    /// One end of a cable; the peer is the other.
    Veth(Device<'a>),
    /// A cable whose ends are meant for BPF programs. Linux 6.7.
    Netkit(Device<'a>),
    /// A switch.
    Bridge,
    /// A further Ethernet address on a device.
    Macvlan {
        /// The device.
        parent: IfIndex,
        /// Whom it talks to.
        mode: MacvlanMode,
    },
    /// A tunnel.
    Vxlan(Vxlan),
    /// A device that drops what it sends.
    Dummy,
    /// A device that queues what others receive.
    Ifb,
}

impl<'a> Kind<'a> {
    /// The kernel's word.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Kind::Veth(_) => "veth",
            Kind::Netkit(_) => "netkit",
            Kind::Bridge => "bridge",
            Kind::Macvlan { .. } => "macvlan",
            Kind::Vxlan(_) => "vxlan",
            Kind::Dummy => "dummy",
            Kind::Ifb => "ifb",
        }
    }

    /// The other end, if this kind has two.
    #[must_use]
    pub const fn peer(&self) -> Option<&Device<'a>> {
        match self {
            Kind::Veth(peer) | Kind::Netkit(peer) => Some(peer),
            _ => None,
        }
    }

    /// The device that this kind stands on.
    pub(super) fn parent(&self) -> Option<IfIndex> {
        match self {
            Kind::Macvlan { parent, .. } => Some(*parent),
            _ => None,
        }
    }

    pub(super) fn data(&self, message: Message) -> Message {
        match self {
            Kind::Veth(peer) => message.nest(VETH_INFO_PEER, |m| peer.describe(m)),
            Kind::Netkit(peer) => message.nest(IFLA_NETKIT_PEER_INFO, |m| peer.describe(m)),
            Kind::Macvlan { mode, .. } => message.u32(IFLA_MACVLAN_MODE, mode.0),
            Kind::Vxlan(vxlan) => vxlan.describe(message),
            Kind::Bridge | Kind::Dummy | Kind::Ifb => message,
        }
    }
}

impl Vxlan {
    fn describe(&self, message: Message) -> Message {
        let address = |v4: u16, v6: u16| {
            move |message: Message, addr: IpAddr| match addr {
                IpAddr::V4(addr) => message.attr(v4, &addr.octets()),
                IpAddr::V6(addr) => message.attr(v6, &addr.octets()),
            }
        };
        message
            .u32(IFLA_VXLAN_ID, self.id)
            .attr(IFLA_VXLAN_PORT, &self.port.to_be_bytes())
            .maybe(self.remote, address(IFLA_VXLAN_GROUP, IFLA_VXLAN_GROUP6))
            .maybe(self.local, address(IFLA_VXLAN_LOCAL, IFLA_VXLAN_LOCAL6))
            .maybe(self.parent, |m, parent| m.u32(IFLA_VXLAN_LINK, parent.0))
    }
}
