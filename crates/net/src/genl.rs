//! Generic netlink: families have names, and numbers that the kernel gives them when it starts.

use crate::error::{Error, Operation};
use crate::socket::Netlink;
use crate::wire::{Malformed, Message};

const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

/// A request with the header of generic netlink: a command and the version that all families have.
pub(crate) fn request(family: u16, command: u8) -> Message {
    Message::new(family, 0).fixed(&[command, 1, 0, 0])
}

/// The number of a family.
pub(crate) fn family(netlink: &Netlink, name: &str) -> Result<u16, Error> {
    let message = request(GENL_ID_CTRL, CTRL_CMD_GETFAMILY).str(CTRL_ATTR_FAMILY_NAME, name);
    let object = format!("\"{name}\"");
    netlink.ask(Operation::READ_FAMILY, &object, message, |frame| {
        let (_, attrs) = frame.split::<4>()?;
        let id = attrs.find_kind(CTRL_ATTR_FAMILY_ID)?;
        id.ok_or(Malformed {
            what: "a family has no number",
            at: 0,
        })?
        .u16()
    })
}
