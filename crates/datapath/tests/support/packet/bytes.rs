//! How a packet is written down.

use super::super::sum::{pseudo, sum};
use super::{FRAGMENT, Frame, ICMP, ICMP6, L4, Sum, TCP, Tcp, UDP};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

impl Frame {
    /// The Ethernet frame.
    pub(crate) fn build(&self) -> Vec<u8> {
        let mut frame = [self.macs.1, self.macs.0].concat();
        for (kind, tag) in &self.tags {
            frame.extend([kind.to_be_bytes(), tag.to_be_bytes()].concat());
        }
        let kind = if self.src.is_ipv4() { 0x0800 } else { 0x86dd };
        frame.extend(self.lies.kind.unwrap_or(kind).to_be_bytes());
        frame.extend(self.packet());
        frame.truncate(self.lies.cut.unwrap_or(usize::MAX));
        frame
    }

    /// Without Ethernet.
    pub(crate) fn packet(&self) -> Vec<u8> {
        let l4 = self.l4_bytes();
        let headers = match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => self.header4(src, dst, l4.len()),
            (IpAddr::V6(src), IpAddr::V6(dst)) => self.header6(src, dst, l4.len()),
            both => panic!("{both:?}"),
        };
        [headers, l4, self.lies.trailer.clone()].concat()
    }

    /// The packet in fragments that have at most so many bytes of L4 each.
    pub(crate) fn fragments(&self, most: u16) -> Vec<Vec<u8>> {
        assert!(most > 0 && most.is_multiple_of(8));
        let (l4, protocol) = (self.l4_bytes(), self.protocol());
        let all = l4
            .chunks(usize::from(most))
            .zip((0..).step_by(usize::from(most / 8)));
        let last = l4.len().div_ceil(usize::from(most)) - 1;
        all.enumerate()
            .map(|(number, (part, units))| {
                let frame = self.clone().raw(protocol, part);
                let frame = match (self.src, number < last) {
                    (IpAddr::V4(_), true) => frame.offset(units).more(),
                    (IpAddr::V4(_), false) => frame.offset(units),
                    (IpAddr::V6(_), more) => frame.fragment(units, more.into()),
                };
                frame.build()
            })
            .collect()
    }

    pub(crate) fn protocol(&self) -> u8 {
        match &self.l4 {
            L4::Tcp(_) => TCP,
            L4::Udp { .. } => UDP,
            L4::Icmp { .. } if self.src.is_ipv4() => ICMP,
            L4::Icmp { .. } => ICMP6,
            L4::Raw(protocol) => *protocol,
        }
    }

    fn header4(&self, src: Ipv4Addr, dst: Ipv4Addr, l4: usize) -> Vec<u8> {
        let len = 20 + self.options.len();
        let words = u8::try_from(len / 4).unwrap();
        let version = self.lies.version.unwrap_or(4);
        let total = u16::try_from(len + l4).unwrap();
        let ident = self.ident.to_be_bytes();
        let place = u16::from(self.df) << 14 | u16::from(self.more) << 13 | self.offset;
        let mut header = vec![
            version << 4 | self.lies.words.unwrap_or(words),
            self.tos,
        ];
        header.extend(self.lies.total.unwrap_or(total).to_be_bytes());
        header.extend([ident[2], ident[3]]);
        header.extend(place.to_be_bytes());
        header.extend([self.ttl, self.protocol(), 0, 0]);
        header.extend(src.octets());
        header.extend(dst.octets());
        header.extend(&self.options);
        let right = !sum(&[&header]);
        let found = self.lies.ip_sum.unwrap_or(right);
        header[10..12].copy_from_slice(&found.to_be_bytes());
        header
    }

    fn header6(&self, src: Ipv6Addr, dst: Ipv6Addr, l4: usize) -> Vec<u8> {
        let mut after = Vec::new();
        let kinds = self.extensions.iter().map(|(kind, _)| *kind);
        let mut next = kinds.chain([self.protocol()]);
        let first = next.next().unwrap();
        for (kind, content) in &self.extensions {
            let units = match *kind {
                FRAGMENT => 0,
                _ => (content.len() + 2) / 8 - 1,
            };
            after.extend([
                next.next().unwrap(),
                u8::try_from(units).unwrap(),
            ]);
            after.extend(content);
        }
        let version = u32::from(self.lies.version.unwrap_or(6));
        let total = u16::try_from(after.len() + l4).unwrap();
        let word = version << 28 | u32::from(self.tos) << 20 | self.flow;
        let mut header = word.to_be_bytes().to_vec();
        header.extend(self.lies.total.unwrap_or(total).to_be_bytes());
        header.extend([first, self.ttl]);
        header.extend(src.octets());
        header.extend(dst.octets());
        header.extend(after);
        header
    }

    pub(super) fn l4_bytes(&self) -> Vec<u8> {
        let mut bytes = match &self.l4 {
            L4::Tcp(tcp) => tcp.header(self.lies.data_offset),
            L4::Udp { src, dst, .. } => {
                let len = u16::try_from(8 + self.payload.len()).unwrap();
                let len = self.lies.udp_len.unwrap_or(len);
                [*src, *dst, len, 0].map(u16::to_be_bytes).concat()
            }
            L4::Icmp { kind, code, rest } => [[*kind, *code, 0, 0], *rest].concat(),
            L4::Raw(_) => return self.payload.clone(),
        };
        bytes.extend(&self.payload);
        let at = match &self.l4 {
            L4::Tcp(_) => 16,
            L4::Udp { .. } => 6,
            _ => 2,
        };
        let sum = self.l4_sum_of(&bytes);
        bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    fn l4_sum_of(&self, bytes: &[u8]) -> u16 {
        let front = match (self.src, self.dst, self.protocol()) {
            (_, _, ICMP) => Vec::new(),
            (IpAddr::V4(src), IpAddr::V4(dst), protocol) => {
                pseudo(&src.octets(), &dst.octets(), protocol, bytes.len())
            }
            (IpAddr::V6(src), IpAddr::V6(dst), protocol) => {
                pseudo(&src.octets(), &dst.octets(), protocol, bytes.len())
            }
            both => panic!("{both:?}"),
        };
        let right = match (&self.l4, !sum(&[&front, bytes])) {
            (L4::Udp { checked: false, .. }, _) => 0,
            (L4::Udp { .. }, 0) => 0xffff,
            (_, right) => right,
        };
        match self.lies.l4_sum {
            None => right,
            Some(Sum::Is(sum)) => sum,
            Some(Sum::Off(by)) => right.wrapping_add(by),
            Some(Sum::Partial) => sum(&[&front]),
        }
    }
}

impl Tcp {
    fn header(&self, words: Option<u8>) -> Vec<u8> {
        let right = u8::try_from(5 + self.options.len() / 4).unwrap();
        let mut header = [
            self.src.to_be_bytes(),
            self.dst.to_be_bytes(),
        ]
        .concat();
        header.extend(self.seq.to_be_bytes());
        header.extend(self.ack.to_be_bytes());
        header.extend([words.unwrap_or(right) << 4, self.flags]);
        header.extend(self.window.to_be_bytes());
        header.extend([0, 0]);
        header.extend(self.urgent.to_be_bytes());
        header.extend(&self.options);
        header
    }
}
