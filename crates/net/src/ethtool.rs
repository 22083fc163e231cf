//! Offloads of devices: what a device does for the kernel, switched on and off.

use crate::error::{Error, Operation, Reason};
use crate::genl::{family, request};
use crate::ns::NetNs;
use crate::socket::Netlink;
use crate::types::IfIndex;
use crate::wire::{Attr, Frame, Malformed, Message};
use std::collections::BTreeSet;

const ETHTOOL_MSG_FEATURES_GET: u8 = 11;
const ETHTOOL_MSG_FEATURES_SET: u8 = 12;
const ETHTOOL_A_FEATURES_HEADER: u16 = 1;
const ETHTOOL_A_FEATURES_HW: u16 = 2;
const ETHTOOL_A_FEATURES_WANTED: u16 = 3;
const ETHTOOL_A_FEATURES_ACTIVE: u16 = 4;
const ETHTOOL_A_HEADER_DEV_INDEX: u16 = 1;
const ETHTOOL_A_BITSET_NOMASK: u16 = 1;
const ETHTOOL_A_BITSET_BITS: u16 = 3;
const ETHTOOL_A_BITSET_BITS_BIT: u16 = 1;
const ETHTOOL_A_BITSET_BIT_NAME: u16 = 2;
const ETHTOOL_A_BITSET_BIT_VALUE: u16 = 3;

/// An offload: the kernel's names of what is switched together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Feature(pub &'static [&'static str]);

impl Feature {
    /// The device computes checksums of what it sends. A native XDP program that redirects wants
    /// this off at the sender.
    pub const TX_CHECKSUM: Feature = Feature(&[
        "tx-checksum-ipv4",
        "tx-checksum-ip-generic",
        "tx-checksum-ipv6",
        "tx-checksum-fcoe-crc",
        "tx-checksum-sctp",
    ]);

    /// The device cuts TCP data into packets.
    pub const TSO: Feature = Feature(&[
        "tx-tcp-segmentation",
        "tx-tcp-ecn-segmentation",
        "tx-tcp-mangleid-segmentation",
        "tx-tcp6-segmentation",
    ]);

    /// The kernel cuts data into packets as late as it can.
    pub const GSO: Feature = Feature(&["tx-generic-segmentation"]);

    /// The kernel joins received packets. A veth that native XDP redirects to wants this on.
    pub const GRO: Feature = Feature(&["rx-gro"]);
}

/// The features of a device, by the kernel's names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Those that are on.
    pub active: BTreeSet<String>,
    /// Those that can be switched.
    pub changeable: BTreeSet<String>,
}

impl Features {
    /// Whether any part of the feature is on.
    #[must_use]
    pub fn has(&self, feature: Feature) -> bool {
        feature.0.iter().any(|name| self.active.contains(*name))
    }

    pub(crate) fn read(frame: Frame<'_>) -> Result<Features, Malformed> {
        let (_, attrs) = frame.split::<4>()?;
        let mut features = Features::default();
        for attr in attrs {
            let attr = attr?;
            match attr.kind {
                ETHTOOL_A_FEATURES_HW => features.changeable = bitset(attr)?,
                ETHTOOL_A_FEATURES_ACTIVE => features.active = bitset(attr)?,
                _ => {}
            }
        }
        Ok(features)
    }
}

/// The names of the bits that are set. Without a mask every bit in the list is set.
fn bitset(attr: Attr<'_>) -> Result<BTreeSet<String>, Malformed> {
    let plain = attr.attrs().find_kind(ETHTOOL_A_BITSET_NOMASK)?.is_some();
    let mut names = BTreeSet::new();
    let Some(bits) = attr.attrs().find_kind(ETHTOOL_A_BITSET_BITS)? else {
        return Ok(names);
    };
    for bit in bits.attrs() {
        let bit = bit?;
        let set = plain || bit.attrs().find_kind(ETHTOOL_A_BITSET_BIT_VALUE)?.is_some();
        if let Some(name) = bit
            .attrs()
            .find_kind(ETHTOOL_A_BITSET_BIT_NAME)?
            .filter(|_| set)
        {
            names.insert(name.str()?.to_owned());
        }
    }
    Ok(names)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Switch {
    On,
    Off,
}

/// A socket to the ethtool family of generic netlink. Linux 5.8.
#[derive(Debug)]
pub struct Ethtool {
    netlink: Netlink,
    family: u16,
}

impl Ethtool {
    /// Opens the socket in the namespace of this thread.
    ///
    /// # Errors
    ///
    /// `ENOENT` when the kernel has no such family.
    pub fn open() -> Result<Ethtool, Error> {
        let netlink = Netlink::open_generic()?;
        let family = family(&netlink, "ethtool")?;
        Ok(Ethtool { netlink, family })
    }

    /// Opens the socket in another namespace.
    ///
    /// # Errors
    ///
    /// As [`open`](Ethtool::open).
    pub fn open_in(ns: &NetNs) -> Result<Ethtool, Error> {
        ns.run(Ethtool::open)?
    }

    /// The features of a device.
    ///
    /// # Errors
    ///
    /// `ENODEV` when there is no such device.
    pub fn features(&self, index: IfIndex) -> Result<Features, Error> {
        let message = request(self.family, ETHTOOL_MSG_FEATURES_GET)
            .nest(ETHTOOL_A_FEATURES_HEADER, |m| {
                m.u32(ETHTOOL_A_HEADER_DEV_INDEX, index.0)
            });
        let object = index.to_string();
        self.netlink
            .ask(Operation::READ_FEATURES, &object, message, Features::read)
    }

    /// Switches a feature on, as far as the device has it.
    ///
    /// # Errors
    ///
    /// [`Reason::Fixed`] when the device has none of it afterwards.
    pub fn enable(&self, index: IfIndex, feature: Feature) -> Result<Features, Error> {
        self.switch(index, feature, Switch::On)
    }

    /// Switches a feature off, and with it those that need it.
    ///
    /// # Errors
    ///
    /// [`Reason::Fixed`] when the device still has some of it afterwards.
    pub fn disable(&self, index: IfIndex, feature: Feature) -> Result<Features, Error> {
        self.switch(index, feature, Switch::Off)
    }

    /// Switches, and looks afterwards: the kernel acknowledges what a device then ignores.
    fn switch(&self, index: IfIndex, feature: Feature, to: Switch) -> Result<Features, Error> {
        let before = self.features(index)?;
        let names = feature
            .0
            .iter()
            .filter(|name| before.changeable.contains(**name));
        let message = request(self.family, ETHTOOL_MSG_FEATURES_SET)
            .nest(ETHTOOL_A_FEATURES_HEADER, |m| {
                m.u32(ETHTOOL_A_HEADER_DEV_INDEX, index.0)
            })
            .nest(ETHTOOL_A_FEATURES_WANTED, |m| {
                m.nest(ETHTOOL_A_BITSET_BITS, |m| {
                    names.fold(m, |m, name| bit(m, name, to))
                })
            });
        let object = index.to_string();
        self.netlink
            .ack(Operation::SET_FEATURES, &object, message)?;
        let after = self.features(index)?;
        if after.has(feature) == (to == Switch::On) {
            return Ok(after);
        }
        let active = |name: &&&str| after.active.contains(**name) != (to == Switch::On);
        let feature = feature
            .0
            .iter()
            .find(active)
            .map_or_else(String::new, |s| (*s).to_owned());
        Err(Error::new(
            Operation::SET_FEATURES,
            object,
            Reason::Fixed { feature },
        ))
    }
}

fn bit(message: Message, name: &str, to: Switch) -> Message {
    message.nest(ETHTOOL_A_BITSET_BITS_BIT, |m| {
        let m = m.str(ETHTOOL_A_BITSET_BIT_NAME, name);
        match to {
            Switch::On => m.mark(ETHTOOL_A_BITSET_BIT_VALUE),
            Switch::Off => m,
        }
    })
}
