//! Frames, and whether their checksums are right.

use bpfsmith_net::Mac;
use std::net::{IpAddr, SocketAddr};

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP, with these flags.
    Tcp(u8),
    /// UDP.
    Udp,
}

/// A frame of Ethernet, 64 bytes or as many as its headers need and ten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    bytes: Vec<u8>,
    transport: Transport,
}

const ETHERNET: usize = 14;
const PAYLOAD: u16 = 22;

impl Frame {
    /// A packet between two sockets of one family.
    #[must_use]
    pub fn new(from: SocketAddr, to: SocketAddr, transport: Transport) -> Frame {
        let l4 = l4(from.port(), to.port(), transport);
        let mut bytes = vec![0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2];
        let number = match transport {
            Transport::Tcp(_) => 6,
            Transport::Udp => 17,
        };
        let len = u16::try_from(l4.len()).expect("a short packet");
        match (from.ip(), to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                bytes.extend([0x08, 0x00, 0x45, 0]);
                bytes.extend((20 + len).to_be_bytes());
                bytes.extend([0x12, 0x34, 0x40, 0, 64, number, 0, 0]);
                bytes.extend(from.octets());
                bytes.extend(to.octets());
                let check = !sum(0, &bytes[ETHERNET..]);
                bytes[24..26].copy_from_slice(&check.to_be_bytes());
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                bytes.extend(len.to_be_bytes());
                bytes.extend([number, 64]);
                bytes.extend(from.octets());
                bytes.extend(to.octets());
            }
            _ => panic!("{from} and {to} are of two families"),
        }
        bytes.extend(l4);
        let mut frame = Frame { bytes, transport };
        let check = !frame.l4_sum();
        let at = usize::try_from(frame.check()).expect("a place");
        frame.bytes[at..at + 2].copy_from_slice(&check.to_be_bytes());
        frame
    }

    /// One that is neither IPv4 nor IPv6.
    #[must_use]
    pub fn arp() -> Frame {
        let from = SocketAddr::from(([10, 1, 0, 2], 1));
        let mut frame = Frame::new(from, from, Transport::Udp);
        frame.bytes[12..14].copy_from_slice(&[0x08, 0x06]);
        frame
    }

    /// The same between other Ethernet addresses.
    #[must_use]
    pub fn between(mut self, from: Mac, to: Mac) -> Frame {
        self.bytes[..6].copy_from_slice(&to.0);
        self.bytes[6..12].copy_from_slice(&from.0);
        self
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether it is IPv4.
    #[must_use]
    pub fn is_v4(&self) -> bool {
        self.bytes[12..14] != [0x86, 0xdd]
    }

    /// Where its TCP or UDP header is.
    #[must_use]
    pub fn l4(&self) -> i32 {
        if self.is_v4() { 34 } else { 54 }
    }

    /// Where the checksum of that header is.
    #[must_use]
    pub fn check(&self) -> i32 {
        self.l4()
            + if self.transport == Transport::Udp {
                6
            } else {
                16
            }
    }

    /// The frame that a program made of this one.
    #[must_use]
    pub fn after(&self, bytes: Vec<u8>) -> Frame {
        Frame {
            bytes,
            transport: self.transport,
        }
    }

    /// Whether both checksums are right.
    #[must_use]
    pub fn is_right(&self) -> bool {
        let header = !self.is_v4() || sum(0, &self.bytes[ETHERNET..34]) == 0xffff;
        header && self.l4_sum() == 0xffff
    }

    /// Of the pseudo header and all behind it.
    fn l4_sum(&self) -> u16 {
        let l4 = if self.is_v4() { 34 } else { 54 };
        let addresses = if self.is_v4() { 26 } else { 22 };
        let number: u32 = match self.transport {
            Transport::Tcp(_) => 6,
            Transport::Udp => 17,
        };
        let len = u32::try_from(self.bytes.len() - l4).expect("a short packet");
        sum(number + len, &self.bytes[addresses..])
    }
}

fn l4(from: u16, to: u16, transport: Transport) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(from.to_be_bytes());
    bytes.extend(to.to_be_bytes());
    match transport {
        Transport::Tcp(flags) => {
            bytes.extend([
                0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 0x20, 0, 0, 0, 0, 0,
            ]);
        }
        Transport::Udp => {
            bytes.extend((8 + PAYLOAD).to_be_bytes());
            bytes.extend([0, 0]);
        }
    }
    // 64 bytes of Ethernet and IPv4 altogether.
    while bytes.len() < 30 {
        bytes.push(b'a');
    }
    bytes
}

/// The sum of 16-bit numbers, folded.
fn sum(start: u32, bytes: &[u8]) -> u16 {
    let mut sum = start;
    for pair in bytes.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u32::from(u16::from_be_bytes([pair[0], low]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
