//! Packets that are sent as they are, and floods of them.

use super::packet::Frame;
use super::serving::ASKED;
use super::world::{VIP4, VIP6};
use bpfsmith_datapath::config::Family;
use bpfsmith_net::Node;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6,
    SockaddrLike, sendto, socket,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};

/// Sockets by which a machine sends packets of either family; its kernel only routes them.
pub(crate) struct Raw {
    v4: OwnedFd,
    v6: OwnedFd,
}

impl Raw {
    #[track_caller]
    pub(crate) fn new(node: &Node) -> Raw {
        let open = |family| {
            let open = || socket(family, SockType::Raw, SockFlag::empty(), SockProtocol::Raw);
            node.run(open).unwrap().unwrap()
        };
        Raw {
            v4: open(AddressFamily::Inet),
            v6: open(AddressFamily::Inet6),
        }
    }

    /// How many bytes went, without Ethernet.
    pub(crate) fn send(&self, frame: &Frame) -> nix::Result<usize> {
        let packet = frame.packet();
        let send = |raw: &OwnedFd, to: &dyn SockaddrLike| {
            sendto(raw.as_raw_fd(), &packet, to, MsgFlags::empty())
        };
        match frame.dst {
            IpAddr::V4(ip) => send(&self.v4, &SockaddrIn::from(SocketAddrV4::new(ip, 0))),
            IpAddr::V6(ip) => {
                let to = SocketAddrV6::new(ip, 0, 0, 0);
                send(&self.v6, &SockaddrIn6::from(to))
            }
        }
    }

    /// Packets that begin connections, of these families by turns, each number's from another address and
    /// port, which nobody has.
    pub(crate) fn syns(&self, families: &[Family], numbers: Range<u32>) {
        for (n, family) in numbers.zip(families.iter().cycle()) {
            let [_, a, b, c] = n.to_be_bytes();
            let frame = match family {
                Family::V4 => Frame::v4(Ipv4Addr::new(10, 77 ^ a, b, c), VIP4),
                Family::V6 => {
                    let from = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, a.into(), b.into(), c.into());
                    Frame::v6(from, VIP6)
                }
            };
            let port = 1024 + u16::try_from(n % 60_000).unwrap();
            // A full queue is no failure of the flood.
            let _ = self.send(&frame.tcp(port, ASKED).flags("S"));
        }
    }
}
