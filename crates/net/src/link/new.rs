//! `Device`: a device to be made.

use super::{
    IFLA_ADDRESS, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINK, IFLA_LINKINFO, IFLA_MTU,
    IFLA_NET_NS_FD, IFLA_NUM_RX_QUEUES, IFLA_NUM_TX_QUEUES, Kind, RTM_NEWLINK, check_name, ifinfo,
};
use crate::error::{Error, Operation};
use crate::ns::NetNs;
use crate::types::Mac;
use crate::wire::{Message, NLM_F_CREATE, NLM_F_EXCL};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// A device to be made, or one end of a pair. What is not said, the kernel chooses.
///
/// ```
/// use bpfsmith_net::{Device, Kind, NetNs, Netlink};
/// # fn main() -> Result<(), bpfsmith_net::Error> {
/// # bpfsmith_gate::needs!(NetNs, Veth);
/// let (here, there) = (NetNs::new()?, NetNs::new()?);
/// let peer = Device::new("right").netns(&there).mtu(9000);
/// Netlink::open_in(&here)?.add_link(&Device::new("left").mtu(9000), &Kind::Veth(peer))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Device<'a> {
    pub(super) name: String,
    mac: Option<Mac>,
    mtu: Option<u32>,
    queues: Option<u32>,
    netns: Option<BorrowedFd<'a>>,
}

impl<'a> Device<'a> {
    /// A device of that name.
    #[must_use]
    pub fn new(name: &str) -> Device<'a> {
        Device {
            name: name.to_owned(),
            mac: None,
            mtu: None,
            queues: None,
            netns: None,
        }
    }

    /// With this Ethernet address.
    #[must_use]
    pub fn mac(self, mac: Mac) -> Device<'a> {
        Device {
            mac: Some(mac),
            ..self
        }
    }

    /// With packets up to this size.
    #[must_use]
    pub fn mtu(self, mtu: u32) -> Device<'a> {
        Device {
            mtu: Some(mtu),
            ..self
        }
    }

    /// With this many queues in each direction.
    #[must_use]
    pub fn queues(self, queues: u32) -> Device<'a> {
        Device {
            queues: Some(queues),
            ..self
        }
    }

    /// In this namespace instead of the socket's.
    #[must_use]
    pub fn netns(self, ns: &'a NetNs) -> Device<'a> {
        Device {
            netns: Some(ns.as_fd()),
            ..self
        }
    }

    pub(super) fn check(&self, object: &str) -> Result<(), Error> {
        check_name(Operation::NEW_LINK, &self.name).map_err(|error| Error {
            object: object.to_owned(),
            ..error
        })
    }

    /// Header and attributes, as a request and a peer want them.
    pub(super) fn describe(&self, message: Message) -> Message {
        message
            .fixed(&ifinfo(None, 0, 0))
            .str(IFLA_IFNAME, &self.name)
            .maybe(self.mac, |m, mac| m.attr(IFLA_ADDRESS, &mac.0))
            .maybe(self.mtu, |m, mtu| m.u32(IFLA_MTU, mtu))
            .maybe(self.queues, |m, queues| {
                m.u32(IFLA_NUM_TX_QUEUES, queues)
                    .u32(IFLA_NUM_RX_QUEUES, queues)
            })
            .maybe(self.netns, |m, ns| m.i32(IFLA_NET_NS_FD, ns.as_raw_fd()))
    }
}

pub(super) fn request(device: &Device<'_>, kind: &Kind<'_>) -> Message {
    device
        .describe(Message::new(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL))
        .maybe(kind.parent(), |m, parent| m.u32(IFLA_LINK, parent.0))
        .nest(IFLA_LINKINFO, |m| {
            m.str(IFLA_INFO_KIND, kind.name())
                .nest(IFLA_INFO_DATA, |m| kind.data(m))
        })
}
