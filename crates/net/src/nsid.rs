//! The numbers that namespaces have in each other; a device in another one is named by them.

use crate::error::{Error, Operation};
use crate::ns::NetNs;
use crate::socket::Netlink;
use crate::wire::{Malformed, Message};
use std::os::fd::{AsFd, AsRawFd};

const RTM_NEWNSID: u16 = 88;
const RTM_GETNSID: u16 = 90;
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;

/// As a number: none has been given.
const UNASSIGNED: i32 = -1;

impl Netlink {
    /// The number that the other namespace has in this one, if it has one.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn nsid(&self, other: &NetNs) -> Result<Option<i32>, Error> {
        let message = Message::new(RTM_GETNSID, 0)
            .fixed(&[0])
            .i32(NETNSA_FD, other.as_fd().as_raw_fd());
        let nsid = self.ask(Operation::READ_NSID, "", message, |frame| {
            let (_, attrs) = frame.split::<1>()?;
            let id = attrs.find_kind(NETNSA_NSID)?;
            id.ok_or(Malformed {
                what: "a namespace has no number",
                at: 0,
            })?
            .i32()
        })?;
        Ok((nsid != UNASSIGNED).then_some(nsid))
    }

    /// Gives the other namespace a number in this one, of the kernel's choice.
    ///
    /// # Errors
    ///
    /// `EEXIST` when it has one.
    pub fn assign_nsid(&self, other: &NetNs) -> Result<(), Error> {
        let message = Message::new(RTM_NEWNSID, 0)
            .fixed(&[0])
            .i32(NETNSA_NSID, UNASSIGNED)
            .i32(NETNSA_FD, other.as_fd().as_raw_fd());
        self.ack(Operation::NEW_NSID, "", message)
    }
}
