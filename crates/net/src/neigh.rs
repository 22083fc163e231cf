//! Neighbours: which Ethernet address an IP address on the link has.

use crate::error::{Error, Operation};
use crate::socket::Netlink;
use crate::types::{AF_INET, AF_INET6, AF_UNSPEC, IfIndex, Mac, address, family, octets};
use crate::wire::{Frame, Malformed, Message, NLM_F_CREATE, NLM_F_REPLACE};
use bpfsmith_uapi::uapi_enum;
use std::net::IpAddr;

const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const RTM_GETNEIGH: u16 = 30;

const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;

uapi_enum! {
    /// What the kernel thinks of a neighbour.
    pub NeighbourState: u16, "NUD_" {
        /// Nothing yet.
        NONE = 0x00,
        /// It was asked for and has not answered yet.
        INCOMPLETE = 0x01,
        /// It answered a short while ago.
        REACHABLE = 0x02,
        /// It answered long ago.
        STALE = 0x04,
        /// It will be asked again soon.
        DELAY = 0x08,
        /// It is asked again.
        PROBE = 0x10,
        /// It did not answer.
        FAILED = 0x20,
        /// The link needs no asking.
        NOARP = 0x40,
        /// Somebody has said so, and it stays.
        PERMANENT = 0x80,
    }
}

/// A neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The device it is behind.
    pub index: IfIndex,
    /// Its address.
    pub addr: IpAddr,
    /// Its Ethernet address, if it is known.
    pub mac: Option<Mac>,
    /// What the kernel thinks of it.
    pub state: NeighbourState,
}

impl Neighbour {
    /// A neighbour that is never asked.
    #[must_use]
    pub const fn permanent(index: IfIndex, addr: IpAddr, mac: Mac) -> Neighbour {
        Neighbour {
            index,
            addr,
            mac: Some(mac),
            state: NeighbourState::PERMANENT,
        }
    }

    pub(crate) fn read(frame: Frame<'_>) -> Result<Option<Neighbour>, Malformed> {
        let (
            &[
                family,
                _,
                _,
                _,
                i0,
                i1,
                i2,
                i3,
                s0,
                s1,
                _,
                _,
            ],
            attrs,
        ) = frame.split::<12>()?;
        if !matches!(family, AF_INET | AF_INET6) {
            return Ok(None);
        }
        let (mut addr, mut mac) = (None, None);
        for attr in attrs {
            let attr = attr?;
            match attr.kind {
                NDA_DST => addr = Some(address(attr.value)?),
                NDA_LLADDR => mac = attr.array().ok().map(Mac),
                _ => {}
            }
        }
        let addr = addr.ok_or(Malformed {
            what: "a neighbour has no address",
            at: 0,
        })?;
        let index = IfIndex(u32::from_ne_bytes([i0, i1, i2, i3]));
        let state = NeighbourState(u16::from_ne_bytes([s0, s1]));
        Ok(Some(Neighbour {
            index,
            addr,
            mac,
            state,
        }))
    }
}

fn request(kind: u16, flags: u16, index: IfIndex, addr: IpAddr, state: u16) -> Message {
    let mut header = [0; 12];
    header[0] = family(addr);
    header[4..8].copy_from_slice(&index.0.to_ne_bytes());
    header[8..10].copy_from_slice(&state.to_ne_bytes());
    Message::new(kind, flags)
        .fixed(&header)
        .attr(NDA_DST, &octets(&addr))
}

impl Netlink {
    /// Every neighbour.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to list them or the list never holds still.
    pub fn neighbours(&self) -> Result<Vec<Neighbour>, Error> {
        let mut header = [0; 12];
        header[0] = AF_UNSPEC;
        let message = Message::new(RTM_GETNEIGH, 0).fixed(&header);
        self.dump(Operation::READ_NEIGH, "", &message, Neighbour::read)
    }

    /// Adds a neighbour, or replaces what is known of it.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn add_neighbour(&self, neighbour: &Neighbour) -> Result<(), Error> {
        let Neighbour {
            index,
            addr,
            mac,
            state,
        } = *neighbour;
        let message = request(
            RTM_NEWNEIGH,
            NLM_F_CREATE | NLM_F_REPLACE,
            index,
            addr,
            state.0,
        )
        .maybe(mac, |m, mac| m.attr(NDA_LLADDR, &mac.0));
        self.ack_on(Operation::NEW_NEIGH, index, &addr.to_string(), message)
    }

    /// Forgets a neighbour.
    ///
    /// # Errors
    ///
    /// `ENOENT` when it is not known.
    pub fn delete_neighbour(&self, index: IfIndex, addr: IpAddr) -> Result<(), Error> {
        let message = request(RTM_DELNEIGH, 0, index, addr, 0);
        self.ack_on(Operation::DEL_NEIGH, index, &addr.to_string(), message)
    }
}
