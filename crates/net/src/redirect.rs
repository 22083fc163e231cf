//! Whether frames that XDP programs redirect arrive: what a device takes, and what the far end of a
//! cable must have switched on.
//!
//! A veth has queues of its own for redirected frames only if its other end wants them. Otherwise
//! frames are dropped, and nobody is told but those who watch trace events.

use crate::error::{Error, Operation, Reason};
use crate::ethtool::{Ethtool, Feature};
use crate::genl::{family, request};
use crate::ns::NetNs;
use crate::socket::Netlink;
use crate::types::IfIndex;
use crate::wire::{Frame, Malformed};
use crate::xdp::XdpAttached;
use bpfsmith_uapi::Errno;
use std::fmt;

const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;

bpfsmith_uapi::uapi_flags! {
    /// What a device can do for XDP.
    pub mod xdp_act: u64 {
        /// Native programs, with all actions but redirection.
        NETDEV_XDP_ACT_BASIC = 1 << 0,
        /// Native programs redirect.
        NETDEV_XDP_ACT_REDIRECT = 1 << 1,
        /// It takes frames that others redirect to it.
        NETDEV_XDP_ACT_NDO_XMIT = 1 << 2,
        /// XDP sockets without copies.
        NETDEV_XDP_ACT_XSK_ZEROCOPY = 1 << 3,
        /// It runs programs itself.
        NETDEV_XDP_ACT_HW_OFFLOAD = 1 << 4,
        /// Packets of several buffers.
        NETDEV_XDP_ACT_RX_SG = 1 << 5,
        /// It takes redirected packets of several buffers.
        NETDEV_XDP_ACT_NDO_XMIT_SG = 1 << 6,
    }
}

/// What a device can do for XDP at present: `NETDEV_XDP_ACT_` bits, see [`xdp_act`]; printed by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XdpFeatures(pub u64);

impl XdpFeatures {
    /// Whether it takes frames that native programs redirect to it.
    #[must_use]
    pub const fn takes_redirected(self) -> bool {
        self.0 & xdp_act::NETDEV_XDP_ACT_NDO_XMIT != 0
    }

    /// Whether XDP sockets work without copies.
    #[must_use]
    pub const fn has_zero_copy(self) -> bool {
        self.0 & xdp_act::NETDEV_XDP_ACT_XSK_ZEROCOPY != 0
    }

    pub(crate) fn read(frame: Frame<'_>) -> Result<XdpFeatures, Malformed> {
        let (_, attrs) = frame.split::<4>()?;
        let bits = attrs.find_kind(NETDEV_A_DEV_XDP_FEATURES)?;
        let bits = bits.ok_or(Malformed {
            what: "a device has no XDP features",
            at: 0,
        })?;
        Ok(XdpFeatures(u64::from_ne_bytes(bits.array()?)))
    }
}

impl fmt::Display for XdpFeatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        xdp_act::names(self.0).fmt(f)
    }
}

/// A socket to the netdev family of generic netlink. Linux 6.3.
#[derive(Debug)]
pub struct NetDev {
    netlink: Netlink,
    family: u16,
}

impl NetDev {
    /// Opens the socket in the namespace of this thread.
    ///
    /// # Errors
    ///
    /// `ENOENT` when the kernel has no such family: it is older than Linux 6.3.
    pub fn open() -> Result<NetDev, Error> {
        let netlink = Netlink::open_generic()?;
        let family = family(&netlink, "netdev")?;
        Ok(NetDev { netlink, family })
    }

    /// Opens the socket in another namespace.
    ///
    /// # Errors
    ///
    /// As [`open`](NetDev::open).
    pub fn open_in(ns: &NetNs) -> Result<NetDev, Error> {
        ns.run(NetDev::open)?
    }

    /// What a device can do for XDP at present.
    ///
    /// # Errors
    ///
    /// `ENODEV` when there is no such device.
    pub fn xdp_features(&self, index: IfIndex) -> Result<XdpFeatures, Error> {
        let message = request(self.family, NETDEV_CMD_DEV_GET).u32(NETDEV_A_DEV_IFINDEX, index.0);
        let object = index.to_string();
        self.netlink.ask(
            Operation::READ_XDP_FEATURES,
            &object,
            message,
            XdpFeatures::read,
        )
    }

    /// Checks that a device takes frames that native XDP programs redirect to it. Behind the driver,
    /// generic programs redirect to every device.
    ///
    /// # Errors
    ///
    /// [`Reason::TakesNoFrames`], whose text says what to switch on; `ENODEV`.
    pub fn check_redirect_to(&self, index: IfIndex) -> Result<(), Error> {
        match self.xdp_features(index)?.takes_redirected() {
            true => Ok(()),
            false => Err(not(index, By::Redirect)),
        }
    }
}

/// How a native XDP program sends a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// `XDP_REDIRECT`, from whatever device.
    Redirect,
    /// `XDP_TX`, back over the same cable.
    Transmit,
}

impl By {
    const fn action(self) -> &'static str {
        match self {
            By::Redirect => "XDP_REDIRECT",
            By::Transmit => "XDP_TX",
        }
    }

    /// What to do when frames sent so do not arrive over a veth.
    const fn advice(self) -> &'static str {
        match self {
            By::Redirect => {
                "at the other end of a veth: ethtool -K PEER gro on (Ethtool::enable, Feature::GRO), \
                 or attach a native XDP program that passes"
            }
            By::Transmit => {
                "at the other end of a veth: attach a native XDP program that passes; GRO is not enough"
            }
        }
    }
}

fn not(index: IfIndex, by: By) -> Error {
    let reason = Reason::TakesNoFrames {
        action: by.action(),
        advice: by.advice(),
    };
    Error::new(Operation::CHECK_XDP, index, reason)
}

impl Netlink {
    /// Checks, at the far end of a veth, that it receives what native XDP programs send into the near
    /// end. `ethtool` is a socket in the same namespace. It works on any kernel with native XDP on veth.
    ///
    /// # Errors
    ///
    /// [`Reason::TakesNoFrames`], whose text says what to switch on; `ENODEV`.
    pub fn check_far_end(&self, ethtool: &Ethtool, far: IfIndex, by: By) -> Result<(), Error> {
        let state = self.xdp(far)?;
        let is_native = state.driver.is_some()
            || matches!(state.attached, XdpAttached::DRV | XdpAttached::MULTI);
        if is_native || by == By::Redirect && ethtool.features(far)?.has(Feature::GRO) {
            return Ok(());
        }
        Err(not(far, by))
    }
}

/// What the trace events `xdp_redirect_err` and `xdp_devmap_xmit` mean by an error number, and what
/// to do about it.
#[must_use]
pub fn redirect_advice(errno: Errno) -> Option<&'static str> {
    ADVICE.iter().find(|row| row.0 == errno).map(|row| row.1)
}

/// Errors of redirections.
const ADVICE: &[(Errno, &str)] = &[
    (Errno::EOPNOTSUPP, By::Redirect.advice()),
    (Errno::ENXIO, By::Redirect.advice()),
    (Errno::ENETDOWN, "the device is down: set it up"),
    (Errno::EMSGSIZE, "the frame is longer than the device's MTU"),
    (
        Errno::ENOSPC,
        "the queue of the CPU or device is full: a longer one, or slower senders; of an XDP socket: \
         the packet is longer than its frames have room, with larger ones or less headroom it fits",
    ),
    (
        Errno::EINVAL,
        "the map's entry is gone, or the XDP socket is on another queue than the frame came on",
    ),
    (
        Errno::ENOBUFS,
        "the XDP socket has no room: give it frames to receive into, and take received ones",
    ),
    (
        Errno::ENOMEM,
        "no memory; of an XDP socket: it was given no frames to receive into",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Message, frames};

    #[test]
    fn advice_is_one_line_and_found() {
        for (errno, say) in ADVICE {
            assert_eq!(redirect_advice(*errno), Some(*say));
            assert!(errno.name().is_some() && !say.contains('\n') && !say.ends_with('.'));
        }
        assert_eq!(redirect_advice(Errno::EPERM), None);
    }

    #[test]
    fn an_error_says_what_to_switch_on() {
        assert_eq!(
            not(IfIndex(4), By::Redirect).to_string(),
            "check XDP of ifindex 4: frames sent to it by XDP_REDIRECT are dropped (at the other end \
             of a veth: ethtool -K PEER gro on (Ethtool::enable, Feature::GRO), or attach a native XDP \
             program that passes)"
        );
    }

    #[test]
    fn features_are_read_and_named() {
        let bytes = request(20, 1)
            .u32(NETDEV_A_DEV_IFINDEX, 3)
            .attr(NETDEV_A_DEV_XDP_FEATURES, &0x85_u64.to_ne_bytes())
            .finish(1)
            .unwrap();
        let frame = frames(&bytes).next().unwrap().unwrap();
        let features = XdpFeatures::read(frame).unwrap();
        assert!(features.takes_redirected() && !features.has_zero_copy());
        assert_eq!(
            features.to_string(),
            "NETDEV_XDP_ACT_BASIC|NETDEV_XDP_ACT_NDO_XMIT|0x80"
        );
        for broken in [
            Message::new(20, 0).fixed(&[1, 1, 0, 0]),
            request(20, 1).u32(NETDEV_A_DEV_XDP_FEATURES, 1),
            Message::new(20, 0).fixed(&[1, 1]),
        ] {
            let bytes = broken.finish(1).unwrap();
            let frame = frames(&bytes).next().unwrap().unwrap();
            assert!(XdpFeatures::read(frame).is_err());
        }
    }
}
