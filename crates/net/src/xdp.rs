//! XDP over netlink: for kernels without XDP links, and to see what is attached.

use crate::error::{Error, Operation};
use crate::link::{IFLA_XDP, RTM_SETLINK, ifinfo};
use crate::socket::Netlink;
use crate::types::IfIndex;
use crate::wire::{Attrs, Malformed, Message};
use bpfsmith_uapi::flags::xdp::{self, XDP_FLAGS_REPLACE};
use bpfsmith_uapi::uapi_enum;
use std::os::fd::{AsRawFd, BorrowedFd};

const IFLA_XDP_FD: u16 = 1;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_FLAGS: u16 = 3;
const IFLA_XDP_PROG_ID: u16 = 4;
const IFLA_XDP_DRV_PROG_ID: u16 = 5;
const IFLA_XDP_SKB_PROG_ID: u16 = 6;
const IFLA_XDP_HW_PROG_ID: u16 = 7;
const IFLA_XDP_EXPECTED_FD: u16 = 8;

uapi_enum! {
    /// Where the XDP program of a device runs.
    pub XdpAttached: u8, "XDP_ATTACHED_" {
        /// There is none.
        NONE = 0,
        /// In the driver.
        DRV = 1,
        /// Behind the driver.
        SKB = 2,
        /// In the device.
        HW = 3,
        /// There are several, in different places. Linux 4.18.
        MULTI = 4,
    }
}

/// The XDP programs of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XdpState {
    /// Where they run.
    pub attached: XdpAttached,
    /// The id of the program in the driver.
    pub driver: Option<u32>,
    /// The id of the program behind the driver.
    pub generic: Option<u32>,
    /// The id of the program in the device.
    pub hardware: Option<u32>,
}

impl Default for XdpState {
    fn default() -> XdpState {
        let attached = XdpAttached::NONE;
        XdpState {
            attached,
            driver: None,
            generic: None,
            hardware: None,
        }
    }
}

impl XdpState {
    /// The id of the program that a packet meets first.
    #[must_use]
    pub fn prog_id(&self) -> Option<u32> {
        self.hardware.or(self.driver).or(self.generic)
    }

    pub(crate) fn read(attrs: Attrs<'_>) -> Result<XdpState, Malformed> {
        let mut state = XdpState::default();
        let mut only = None;
        for attr in attrs {
            let attr = attr?;
            match attr.kind {
                IFLA_XDP_ATTACHED => state.attached = XdpAttached(attr.u8()?),
                IFLA_XDP_PROG_ID => only = Some(attr.u32()?),
                IFLA_XDP_DRV_PROG_ID => state.driver = Some(attr.u32()?),
                IFLA_XDP_SKB_PROG_ID => state.generic = Some(attr.u32()?),
                IFLA_XDP_HW_PROG_ID => state.hardware = Some(attr.u32()?),
                _ => {}
            }
        }
        // Before Linux 4.18 there is one id, and where it runs.
        match state.attached {
            XdpAttached::DRV => state.driver = state.driver.or(only),
            XdpAttached::SKB => state.generic = state.generic.or(only),
            XdpAttached::HW => state.hardware = state.hardware.or(only),
            _ => {}
        }
        Ok(state)
    }
}

/// What must be attached for a change to happen.
#[derive(Clone, Copy, Debug)]
pub enum XdpExpect<'a> {
    /// Whatever is there is replaced.
    Anything,
    /// Exactly this program. Linux 5.7.
    Program(BorrowedFd<'a>),
}

impl Netlink {
    /// The XDP programs of a device.
    ///
    /// # Errors
    ///
    /// `ENODEV` when there is no such device.
    pub fn xdp(&self, index: IfIndex) -> Result<XdpState, Error> {
        self.link_at(index).map(|link| link.xdp)
    }

    /// Attaches an XDP program; it stays until it is detached or the device goes.
    ///
    /// `flags` are those of [`bpfsmith_uapi::flags::xdp`]: without a mode the kernel chooses one;
    /// with `XDP_FLAGS_UPDATE_IF_NOEXIST` nothing is replaced.
    ///
    /// # Errors
    ///
    /// `EBUSY` when a link or an unexpected program is there; `EOPNOTSUPP` when the driver cannot.
    pub fn attach_xdp(
        &self,
        index: IfIndex,
        program: BorrowedFd<'_>,
        expect: XdpExpect<'_>,
        flags: u32,
    ) -> Result<(), Error> {
        let what = format!("flags {}", xdp::names(flags));
        let message = request(index, program.as_raw_fd(), expect, flags);
        self.ack_on(Operation::ATTACH_XDP, index, &what, message)
    }

    /// Detaches the XDP program of the mode in `flags`.
    ///
    /// # Errors
    ///
    /// `EBUSY` when a link holds the hook; `EEXIST` when another program than expected is there.
    pub fn detach_xdp(
        &self,
        index: IfIndex,
        expect: XdpExpect<'_>,
        flags: u32,
    ) -> Result<(), Error> {
        let what = format!("flags {}", xdp::names(flags));
        self.ack_on(
            Operation::DETACH_XDP,
            index,
            &what,
            request(index, -1, expect, flags),
        )
    }
}

fn request(index: IfIndex, fd: i32, expect: XdpExpect<'_>, flags: u32) -> Message {
    let (flags, expected) = match expect {
        XdpExpect::Anything => (flags, None),
        XdpExpect::Program(program) => (flags | XDP_FLAGS_REPLACE, Some(program.as_raw_fd())),
    };
    Message::new(RTM_SETLINK, 0)
        .fixed(&ifinfo(Some(index), 0, 0))
        .nest(IFLA_XDP, |m| {
            m.i32(IFLA_XDP_FD, fd)
                .u32(IFLA_XDP_FLAGS, flags)
                .maybe(expected, |m, fd| m.i32(IFLA_XDP_EXPECTED_FD, fd))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::attrs;

    #[track_caller]
    fn check(build: impl FnOnce(Message) -> Message, expected: XdpState) {
        let bytes = build(Message::new(0, 0)).finish(0).unwrap();
        assert_eq!(XdpState::read(attrs(&bytes[16..])), Ok(expected));
    }

    #[test]
    fn ids_are_read_in_the_old_and_the_new_form() {
        let none = XdpState::default();
        check(|m| m.u8(IFLA_XDP_ATTACHED, 0), none);
        let driver = XdpState {
            attached: XdpAttached::DRV,
            driver: Some(7),
            ..none
        };
        check(
            |m| m.u8(IFLA_XDP_ATTACHED, 1).u32(IFLA_XDP_PROG_ID, 7),
            driver,
        );
        let both = XdpState {
            attached: XdpAttached::MULTI,
            driver: Some(7),
            generic: Some(8),
            hardware: None,
        };
        check(
            |m| {
                m.u8(IFLA_XDP_ATTACHED, 4)
                    .u32(IFLA_XDP_DRV_PROG_ID, 7)
                    .u32(IFLA_XDP_SKB_PROG_ID, 8)
            },
            both,
        );
        assert_eq!(both.prog_id(), Some(7));
    }
}
