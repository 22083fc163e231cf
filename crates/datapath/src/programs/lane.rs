//! Packets of one family and protocol.

use super::cookie::Cookies;
use super::{Context, FLOW, Hook, IP, L4};
use crate::config::{Family, Protocol};
use crate::layout::{FLOW4, FLOW6, Fields};
use crate::reason::Reason;
use crate::shape::Path;
use bpfsmith_asm::dsl::*;
use std::cell::RefCell;

/// What the fragments for packets of one family and protocol share.
#[derive(Debug)]
pub(super) struct Lane<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) path: Path,
    /// Members of a flow.
    pub(super) fields: Fields,
    /// The packet as it arrived.
    pub(super) key: Slot,
    /// Another entry stands where the search for FLOW begins.
    pub(super) elsewhere: Label,
    /// FLOW is the place of the flow in the bucket at R0.
    pub(super) found: Label,
    /// FLOW is an established flow, and the packet a plain one of it.
    pub(super) plain: Label,
    /// FLOW is an established flow, and the packet opens, closes or resets it.
    pub(super) turning: Label,
    /// FLOW is a flow that has ended, and the packet begins another.
    pub(super) reopen: Label,
    /// FLOW is a flow, and something about it or the packet is special.
    pub(super) special: Label,
    /// FLOW is a flow that nobody answered yet.
    pub(super) half: Label,
    /// FLOW is a flow that is as it should be: its next hop may have to be asked for.
    pub(super) goes: Label,
    /// FLOW is a flow whose next hop is known: what is left to do is to send.
    pub(super) send: Label,
    /// There is no flow.
    pub(super) miss: Label,
    /// Ends that tell why a packet begins no flow.
    pub(super) refusals: RefCell<Vec<(Reason, Label)>>,
    /// The next hop does not take a packet of this length.
    pub(super) too_big: Label,
    /// The time to live is over.
    pub(super) expired: Label,
    /// Of connections by cookie.
    pub(super) cookies: Cookies,
}

impl<'a> Lane<'a> {
    pub(super) fn new(context: &'a Context<'a>, path: Path) -> Lane<'a> {
        Lane {
            context,
            path,
            fields: match path.family {
                Family::V4 => FLOW4,
                Family::V6 => FLOW6,
            },
            key: context.key,
            elsewhere: label("elsewhere"),
            found: label("found"),
            plain: label("plain"),
            turning: label("turning"),
            reopen: label("reopen"),
            special: label("special"),
            half: label("half"),
            goes: label("goes"),
            send: label("send"),
            miss: label("miss"),
            refusals: RefCell::default(),
            too_big: label("too_big"),
            expired: label("expired"),
            cookies: Cookies::new(),
        }
    }

    /// For packets of a family whose protocol is not known, or does not matter.
    pub(super) fn any(context: &'a Context<'a>, family: Family) -> Lane<'a> {
        Lane::new(context, Path::new(family, Protocol::Udp))
    }

    /// Goes on with FLOW at what becomes of packets with `key` and the protocol in `proto`, answered or
    /// not; jumps to `none` if there is no such flow. Clobbers R0 to R5.
    pub(super) fn find_any(&self, proto: Reg, none: Label) -> Code {
        let found = label("found");
        let paths = self.context.shape.paths.iter();
        let paths = paths.filter(|path| path.family == self.path.family);
        code![
            paths.map(|path| {
                let other = label("other");
                code![
                    jne(proto, i32::from(path.protocol.number()), other),
                    addr(R1, self.key),
                    self.found_in(self.context.table(*path)),
                    jne(R0, 0, found),
                    ja(none),
                    bind(other),
                ]
            }),
            ja(none),
            bind(found),
            mov(FLOW, R0),
        ]
    }

    pub(super) const fn is_tcp(&self) -> bool {
        matches!(self.path.protocol, Protocol::Tcp)
    }

    pub(super) const fn is_v4(&self) -> bool {
        matches!(self.path.family, Family::V4)
    }

    pub(super) fn is_xdp(&self) -> bool {
        self.context.hook == Hook::Xdp
    }

    /// Bytes of an address.
    pub(super) const fn address(&self) -> i32 {
        match self.path.family {
            Family::V4 => 4,
            Family::V6 => 16,
        }
    }

    /// The addresses of the packet, source first.
    pub(super) fn addresses(&self) -> Place {
        match self.path.family {
            Family::V4 => IP.to(ipv4::saddr),
            Family::V6 => IP.to(ipv6::saddr),
        }
    }

    /// The checksum of the packet's TCP or UDP header.
    pub(super) fn check(&self) -> Mem {
        match self.path.protocol {
            Protocol::Tcp => L4.get(tcp::check),
            Protocol::Udp => L4.get(udp::check),
        }
    }

    /// Bytes of a TCP header without options, or a UDP header.
    pub(super) const fn header(&self) -> i32 {
        match self.path.protocol {
            Protocol::Tcp => tcp::SIZE,
            Protocol::Udp => udp::SIZE,
        }
    }

    pub(super) const fn ip_protocol(&self) -> i32 {
        match self.path.protocol {
            Protocol::Tcp => IPPROTO_TCP,
            Protocol::Udp => IPPROTO_UDP,
        }
    }

    /// `key` becomes what the packet says. Clobbers scratch.
    pub(super) fn read_key(&self, scratch: Reg) -> Code {
        let both = 2 * self.address();
        code![
            copy(self.key.at(0), self.addresses(), both, scratch),
            copy(self.key.at(both), L4.at(0), 4, scratch),
        ]
    }
}

/// Copies bytes, in pieces as large as they come. Places on the stack must be aligned to them.
/// Clobbers scratch.
pub(super) fn copy(to: Place, from: Place, bytes: i32, scratch: Reg) -> Code {
    let piece = |at: i32| -> (fn(Place, i32) -> Mem, i32) {
        match bytes - at {
            8.. => (|place, at| place.u64(at), 8),
            4.. => (|place, at| place.u32(at), 4),
            _ => (|place, at| place.u16(at), 2),
        }
    };
    let starts = std::iter::successors(Some(0), |&at| {
        let next = at + piece(at).1;
        (next < bytes).then_some(next)
    });
    let pieces = starts.map(|at| {
        let (access, _) = piece(at);
        [
            load(scratch, access(from, at)),
            store(access(to, at), scratch),
        ]
    });
    code![pieces]
}
