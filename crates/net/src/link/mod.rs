//! Devices: list, find, change, delete.

mod kind;
mod new;
mod read;

pub use kind::{Kind, MacvlanMode, Vxlan};
pub use new::Device;
pub use read::{Hardware, Link, LinkFlags, OperState, Peer};

use crate::error::{Error, Operation, Reason};
use crate::ns::NetNs;
use crate::socket::Netlink;
use crate::types::{AF_UNSPEC, IfIndex, Mac};
use crate::wire::Message;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

pub(crate) const RTM_NEWLINK: u16 = 16;
pub(crate) const RTM_DELLINK: u16 = 17;
pub(crate) const RTM_GETLINK: u16 = 18;
pub(crate) const RTM_SETLINK: u16 = 19;

pub(crate) const IFLA_ADDRESS: u16 = 1;
pub(crate) const IFLA_IFNAME: u16 = 3;
pub(crate) const IFLA_MTU: u16 = 4;
pub(crate) const IFLA_LINK: u16 = 5;
pub(crate) const IFLA_QDISC: u16 = 6;
pub(crate) const IFLA_MASTER: u16 = 10;
pub(crate) const IFLA_OPERSTATE: u16 = 16;
pub(crate) const IFLA_LINKINFO: u16 = 18;
pub(crate) const IFLA_NET_NS_FD: u16 = 28;
pub(crate) const IFLA_NUM_TX_QUEUES: u16 = 31;
pub(crate) const IFLA_NUM_RX_QUEUES: u16 = 32;
pub(crate) const IFLA_LINK_NETNSID: u16 = 37;
pub(crate) const IFLA_XDP: u16 = 43;
pub(crate) const IFLA_PARENT_DEV_NAME: u16 = 56;
pub(crate) const IFLA_PARENT_DEV_BUS_NAME: u16 = 57;
pub(crate) const IFLA_INFO_KIND: u16 = 1;
pub(crate) const IFLA_INFO_DATA: u16 = 2;

pub(crate) const IFF_UP: u32 = 1;

/// `struct ifinfomsg`.
pub(crate) fn ifinfo(index: Option<IfIndex>, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[0] = AF_UNSPEC;
    header[4..8].copy_from_slice(&index.map_or(0, u32::from).to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

/// How long to look away between two looks at a device that is coming up.
const LOOK: Duration = Duration::from_millis(1);

impl Netlink {
    /// Every device.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to list them or the list never holds still.
    pub fn links(&self) -> Result<Vec<Link>, Error> {
        let message = Message::new(RTM_GETLINK, 0).fixed(&ifinfo(None, 0, 0));
        self.dump(Operation::READ_LINK, "", &message, |frame| {
            Link::read(frame).map(Some)
        })
    }

    /// The device of that name.
    ///
    /// # Errors
    ///
    /// `ENODEV` when there is none.
    pub fn link(&self, name: &str) -> Result<Link, Error> {
        check_name(Operation::READ_LINK, name)?;
        let message = Message::new(RTM_GETLINK, 0)
            .fixed(&ifinfo(None, 0, 0))
            .str(IFLA_IFNAME, name);
        self.ask(
            Operation::READ_LINK,
            &format!("{name:?}"),
            message,
            Link::read,
        )
    }

    /// The device of that number.
    ///
    /// # Errors
    ///
    /// `ENODEV` when there is none.
    pub fn link_at(&self, index: IfIndex) -> Result<Link, Error> {
        let message = Message::new(RTM_GETLINK, 0).fixed(&ifinfo(Some(index), 0, 0));
        self.ask(
            Operation::READ_LINK,
            &index.to_string(),
            message,
            Link::read,
        )
    }

    /// Makes a device; a kind with a peer makes both ends.
    ///
    /// # Errors
    ///
    /// `EEXIST` when the name is taken; [`Error::is_unsupported`] when the kernel is built without
    /// that kind.
    pub fn add_link(&self, device: &Device<'_>, kind: &Kind<'_>) -> Result<(), Error> {
        let object = format!("{} {:?}", kind.name(), device.name);
        device.check(&object)?;
        if let Some(peer) = kind.peer() {
            peer.check(&object)?;
        }
        self.ack(Operation::NEW_LINK, &object, new::request(device, kind))
    }

    /// Deletes a device, and its peer if it has one.
    ///
    /// # Errors
    ///
    /// `ENODEV` when there is none; `EOPNOTSUPP` for the loopback device and real hardware.
    pub fn delete_link(&self, index: IfIndex) -> Result<(), Error> {
        let message = Message::new(RTM_DELLINK, 0).fixed(&ifinfo(Some(index), 0, 0));
        self.ack_on(Operation::DEL_LINK, index, "", message)
    }

    /// Switches a device on.
    ///
    /// # Errors
    ///
    /// When the kernel or the driver refuses.
    pub fn set_up(&self, index: IfIndex) -> Result<(), Error> {
        let message = Message::new(RTM_SETLINK, 0).fixed(&ifinfo(Some(index), IFF_UP, IFF_UP));
        self.ack_on(Operation::SET_LINK, index, "up", message)
    }

    /// Switches a device off.
    ///
    /// # Errors
    ///
    /// When the kernel or the driver refuses.
    pub fn set_down(&self, index: IfIndex) -> Result<(), Error> {
        let message = Message::new(RTM_SETLINK, 0).fixed(&ifinfo(Some(index), 0, IFF_UP));
        self.ack_on(Operation::SET_LINK, index, "down", message)
    }

    /// Gives a device another name.
    ///
    /// # Errors
    ///
    /// `EEXIST` when the name is taken.
    pub fn rename(&self, index: IfIndex, name: &str) -> Result<(), Error> {
        check_name(Operation::SET_LINK, name)?;
        self.set(index, &format!("name {name:?}"), |m| {
            m.str(IFLA_IFNAME, name)
        })
    }

    /// Sets the size of the largest packet.
    ///
    /// # Errors
    ///
    /// `EINVAL` when the device cannot do that.
    pub fn set_mtu(&self, index: IfIndex, mtu: u32) -> Result<(), Error> {
        self.set(index, &format!("mtu {mtu}"), |m| m.u32(IFLA_MTU, mtu))
    }

    /// Sets the Ethernet address.
    ///
    /// # Errors
    ///
    /// `EADDRNOTAVAIL` when it is not the address of one device.
    pub fn set_mac(&self, index: IfIndex, mac: Mac) -> Result<(), Error> {
        self.set(index, &format!("address {mac}"), |m| {
            m.attr(IFLA_ADDRESS, &mac.0)
        })
    }

    /// Makes a device a port of a bridge or bond.
    ///
    /// # Errors
    ///
    /// When the master does not take it.
    pub fn set_master(&self, index: IfIndex, master: IfIndex) -> Result<(), Error> {
        self.set(index, &format!("master {master}"), |m| {
            m.u32(IFLA_MASTER, master.0)
        })
    }

    /// Takes a device out of its bridge or bond.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn clear_master(&self, index: IfIndex) -> Result<(), Error> {
        self.set(index, "no master", |m| m.u32(IFLA_MASTER, 0))
    }

    /// Moves a device into another namespace; it is down there and has lost its addresses.
    ///
    /// # Errors
    ///
    /// `EEXIST` when the name is taken there.
    pub fn move_to(&self, index: IfIndex, ns: &NetNs) -> Result<(), Error> {
        let fd = ns.as_fd().as_raw_fd();
        self.set(index, "into another namespace", |m| {
            m.i32(IFLA_NET_NS_FD, fd)
        })
    }

    /// Waits until packets can flow: the device is up, and what it is connected to as well.
    ///
    /// # Errors
    ///
    /// [`Reason::Deadline`] when that does not happen in time.
    pub fn wait_up(&self, index: IfIndex, limit: Duration) -> Result<Link, Error> {
        let start = Instant::now();
        loop {
            let link = self.link_at(index)?;
            if link.is_running() {
                return Ok(link);
            }
            if start.elapsed() >= limit {
                let object = format!("{:?}", link.name);
                let reason = Reason::Deadline { waited: limit };
                return Err(Error::new(Operation::WAIT_LINK, object, reason));
            }
            std::thread::sleep(LOOK);
        }
    }

    fn set(
        &self,
        index: IfIndex,
        what: &str,
        change: impl FnOnce(Message) -> Message,
    ) -> Result<(), Error> {
        let message = Message::new(RTM_SETLINK, 0).fixed(&ifinfo(Some(index), 0, 0));
        self.ack_on(Operation::SET_LINK, index, what, change(message))
    }

    /// As [`ack`](Netlink::ack); an error names the device if it still has a name.
    pub(crate) fn ack_on(
        &self,
        operation: Operation,
        index: IfIndex,
        what: &str,
        message: Message,
    ) -> Result<(), Error> {
        self.ack(operation, "", message).map_err(|error| {
            let object = match self.link_at(index) {
                Ok(link) => format!("{:?} ({index})", link.name),
                Err(_) => index.to_string(),
            };
            let object = if what.is_empty() {
                object
            } else {
                format!("{object} {what}")
            };
            Error { object, ..error }
        })
    }
}

pub(crate) fn check_name(operation: Operation, name: &str) -> Result<(), Error> {
    let why = match name {
        "" | "." | ".." => "a device has a name of 1 to 15 bytes that is a file name",
        _ if name.len() > 15 => "a device has a name of at most 15 bytes",
        _ if name.contains(|c: char| matches!(c, '/' | ':' | '\0') || c.is_ascii_whitespace()) => {
            "the name of a device has no slash, colon, space or zero byte"
        }
        _ => return Ok(()),
    };
    Err(Error::new(
        operation,
        format_args!("{name:?}"),
        Reason::BadName { why },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, why: &str) {
        let error = check_name(Operation::NEW_LINK, name).unwrap_err();
        assert!(error.to_string().ends_with(why), "{error}");
    }

    #[test]
    fn bad_names_are_refused_before_the_kernel_sees_them() {
        check("", "that is a file name");
        check("..", "that is a file name");
        check("a/b", "zero byte");
        check("a b", "zero byte");
        check("sixteen-bytes-xx", "at most 15 bytes");
        assert_eq!(check_name(Operation::NEW_LINK, "fifteen-bytes-x"), Ok(()));
    }
}
