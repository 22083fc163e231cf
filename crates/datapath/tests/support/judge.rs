//! What is in a frame, and what is wrong with it, read by the standards and not by the crate.

use super::packet::{DESTINATION, FRAGMENT, HOP_BY_HOP, ICMP, ICMP6, ROUTING, TCP, UDP};
use super::sum::{pseudo, sum};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A packet as it reads. Lengths and checksums are not in it: they are right or [`Wrong`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    /// Sender and receiver; zeros inside an ICMP error.
    pub(crate) macs: ([u8; 6], [u8; 6]),
    pub(crate) vlans: Vec<u16>,
    pub(crate) net: Net,
    pub(crate) l4: L4,
    /// What L4 carries; nothing if it is `inner`.
    pub(crate) payload: Vec<u8>,
    /// The packet that an ICMP error is about.
    pub(crate) inner: Option<Box<View>>,
    /// Bytes after the packet.
    pub(crate) trailer: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Net {
    V4 {
        src: Ipv4Addr,
        dst: Ipv4Addr,
        ttl: u8,
        tos: u8,
        ident: u16,
        df: bool,
        fragment: Option<Place>,
        options: Vec<u8>,
    },
    V6 {
        src: Ipv6Addr,
        dst: Ipv6Addr,
        ttl: u8,
        tos: u8,
        flow: u32,
        /// Kind and whole header.
        extensions: Vec<(u8, Vec<u8>)>,
        fragment: Option<Place>,
    },
    /// Another type of Ethernet frame, or not even a header.
    Other(u16),
}

/// Where a fragment belongs, in units of 8 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) units: u16,
    pub(crate) more: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum L4 {
    Tcp {
        src: u16,
        dst: u16,
        seq: u32,
        ack: u32,
        /// Letters of `FSRPAUEC`.
        flags: String,
        window: u16,
        urgent: u16,
        options: Vec<u8>,
    },
    Udp {
        src: u16,
        dst: u16,
        checked: bool,
    },
    Icmp {
        kind: u8,
        code: u8,
        rest: [u8; 4],
    },
    /// The first bytes of an L4 packet that is cut off: in an ICMP error, or the first fragment. What
    /// follows the ports is in the payload, also the checksum, which nobody can judge.
    Part {
        protocol: u8,
        src: u16,
        dst: u16,
    },
    /// Anything else is payload: later fragments, other protocols.
    Raw(u8),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// The frame ends before this is complete.
    Short(&'static str),
    /// This length cannot be.
    Length(&'static str),
    Version(u8),
    IpSum {
        found: u16,
        right: u16,
    },
    L4Sum {
        found: u16,
        right: u16,
    },
    /// UDP without a checksum, in IPv6.
    NoSum,
    /// The same in the packet that an ICMP error is about.
    Inner(Box<Wrong>),
}

/// Reads a frame.
pub(crate) fn judge(frame: &[u8]) -> (View, Vec<Wrong>) {
    let mut wrong = Vec::new();
    let mac = |at| {
        frame
            .get(at..at + 6)
            .map_or([0; 6], |it| it.try_into().unwrap())
    };
    let (macs, mut vlans, mut at) = ((mac(6), mac(0)), Vec::new(), 12);
    let mut kind = word(frame, at);
    while let Some(0x8100 | 0x88a8) = kind {
        vlans.extend(word(frame, at + 2).map(|tag| tag & 0xfff));
        at += 4;
        kind = word(frame, at);
    }
    let Some(kind) = kind else {
        wrong.push(Wrong::Short("Ethernet"));
        return (
            View {
                macs,
                vlans,
                ..nothing(0, frame)
            },
            wrong,
        );
    };
    let rest = &frame[at + 2..];
    let view = match kind {
        0x0800 => v4(rest, Whole::Must, &mut wrong),
        0x86dd => v6(rest, Whole::Must, &mut wrong),
        _ => nothing(kind, rest),
    };
    (
        View {
            macs,
            vlans,
            ..view
        },
        wrong,
    )
}

/// Reads a frame that has to be right.
#[track_caller]
pub(crate) fn good(frame: &[u8]) -> View {
    let (view, wrong) = judge(frame);
    assert_eq!(wrong, [], "{view:#?}");
    view
}

/// What is wrong with a frame.
pub(crate) fn wrong(frame: &[u8]) -> Vec<Wrong> {
    judge(frame).1
}

impl View {
    pub(crate) fn src(&self) -> IpAddr {
        match self.net {
            Net::V4 { src, .. } => src.into(),
            Net::V6 { src, .. } => src.into(),
            Net::Other(kind) => panic!("no address in {kind:#x}"),
        }
    }

    pub(crate) fn dst(&self) -> IpAddr {
        match self.net {
            Net::V4 { dst, .. } => dst.into(),
            Net::V6 { dst, .. } => dst.into(),
            Net::Other(kind) => panic!("no address in {kind:#x}"),
        }
    }

    pub(crate) fn ttl(&self) -> u8 {
        match self.net {
            Net::V4 { ttl, .. } | Net::V6 { ttl, .. } => ttl,
            Net::Other(kind) => panic!("no time to live in {kind:#x}"),
        }
    }

    /// Ports of sender and receiver, if there are.
    pub(crate) fn ports(&self) -> Option<(u16, u16)> {
        match self.l4 {
            L4::Tcp { src, dst, .. } | L4::Udp { src, dst, .. } | L4::Part { src, dst, .. } => {
                Some((src, dst))
            }
            L4::Icmp { .. } | L4::Raw(_) => None,
        }
    }
}

/// Whether all of a packet has to be there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whole {
    Must,
    /// Inside an ICMP error.
    May,
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes([pair[0], pair[1]]))
}

fn long(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn nothing(kind: u16, payload: &[u8]) -> View {
    View {
        macs: ([0; 6], [0; 6]),
        vlans: Vec::new(),
        net: Net::Other(kind),
        l4: L4::Raw(0),
        payload: payload.to_vec(),
        inner: None,
        trailer: 0,
    }
}

fn v4(bytes: &[u8], whole: Whole, wrong: &mut Vec<Wrong>) -> View {
    if bytes.len() < 20 {
        wrong.push(Wrong::Short("IPv4"));
        return nothing(0x0800, bytes);
    }
    if bytes[0] >> 4 != 4 {
        wrong.push(Wrong::Version(bytes[0] >> 4));
        return nothing(0x0800, bytes);
    }
    let header = usize::from(bytes[0] & 15) * 4;
    let total = usize::from(word(bytes, 2).unwrap());
    if header < 20 || total < header || bytes.len() < header {
        wrong.push(Wrong::Length("IPv4 header"));
        return nothing(0x0800, bytes);
    }
    let right = {
        let mut copy = bytes[..header].to_vec();
        copy[10..12].fill(0);
        !sum(&[&copy])
    };
    let found = word(bytes, 10).unwrap();
    if found != right {
        wrong.push(Wrong::IpSum { found, right });
    }
    let place = word(bytes, 6).unwrap();
    let (units, more) = (place & 0x1fff, place & 0x2000 != 0);
    let fragment = (units > 0 || more).then_some(Place { units, more });
    let four = |at: usize| -> [u8; 4] { bytes[at..at + 4].try_into().unwrap() };
    let net = Net::V4 {
        src: four(12).into(),
        dst: four(16).into(),
        ttl: bytes[8],
        tos: bytes[1],
        ident: word(bytes, 4).unwrap(),
        df: place & 0x4000 != 0,
        fragment,
        options: bytes[20..header].to_vec(),
    };
    let end = end(bytes.len(), total, whole, wrong);
    let content = Content {
        protocol: bytes[9],
        src: &bytes[12..16],
        dst: &bytes[16..20],
        bytes: &bytes[header..end],
        is_whole: bytes.len() >= total && fragment.is_none(),
        is_later: units > 0,
    };
    View {
        trailer: bytes.len() - end,
        ..content.view(net, whole, wrong)
    }
}

fn v6(bytes: &[u8], whole: Whole, wrong: &mut Vec<Wrong>) -> View {
    if bytes.len() < 40 {
        wrong.push(Wrong::Short("IPv6"));
        return nothing(0x86dd, bytes);
    }
    if bytes[0] >> 4 != 6 {
        wrong.push(Wrong::Version(bytes[0] >> 4));
        return nothing(0x86dd, bytes);
    }
    let total = 40 + usize::from(word(bytes, 4).unwrap());
    let end = end(bytes.len(), total, whole, wrong);
    let (mut next, mut at) = (bytes[6], 40);
    let (mut extensions, mut fragment) = (Vec::new(), None);
    while let HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION = next {
        let len = match (next, bytes[..end].get(at + 1)) {
            (_, None) => usize::MAX,
            (FRAGMENT, _) => 8,
            (_, Some(units)) => usize::from(*units) * 8 + 8,
        };
        if len > end - at {
            if whole == Whole::Must {
                wrong.push(Wrong::Short("IPv6 extension header"));
            }
            break;
        }
        if next == FRAGMENT {
            let place = word(bytes, at + 2).unwrap();
            let (units, more) = (place >> 3, place & 1 != 0);
            fragment = Some(Place { units, more });
        }
        extensions.push((next, bytes[at + 1..at + len].to_vec()));
        next = bytes[at];
        at += len;
        if fragment.is_some_and(|it| it.units > 0) {
            break;
        }
    }
    let sixteen = |at: usize| -> [u8; 16] { bytes[at..at + 16].try_into().unwrap() };
    let front = long(bytes, 0);
    let net = Net::V6 {
        src: sixteen(8).into(),
        dst: sixteen(24).into(),
        ttl: bytes[7],
        tos: bytes[0] << 4 | bytes[1] >> 4,
        flow: front & 0xf_ffff,
        extensions,
        fragment,
    };
    let is_part = |it: Place| it.units > 0 || it.more;
    let content = Content {
        protocol: next,
        src: &bytes[8..24],
        dst: &bytes[24..40],
        bytes: &bytes[at..end],
        is_whole: bytes.len() >= total && !fragment.is_some_and(is_part),
        is_later: fragment.is_some_and(|it| it.units > 0),
    };
    View {
        trailer: bytes.len() - end,
        ..content.view(net, whole, wrong)
    }
}

/// Where a packet of a length ends in the bytes that are there.
fn end(there: usize, total: usize, whole: Whole, wrong: &mut Vec<Wrong>) -> usize {
    if there < total && whole == Whole::Must {
        wrong.push(Wrong::Length("IP packet"));
    }
    there.min(total)
}

/// What an IP packet carries.
struct Content<'a> {
    protocol: u8,
    src: &'a [u8],
    dst: &'a [u8],
    bytes: &'a [u8],
    /// All of it is there, so that checksums can be judged.
    is_whole: bool,
    /// A fragment, and not the first.
    is_later: bool,
}

impl Content<'_> {
    fn view(&self, net: Net, whole: Whole, wrong: &mut Vec<Wrong>) -> View {
        let least = match self.protocol {
            TCP => 20,
            UDP | ICMP | ICMP6 => 8,
            _ => 0,
        };
        let (l4, header) = if self.is_later {
            (L4::Raw(self.protocol), 0)
        } else if self.is_whole && self.bytes.len() >= least {
            self.l4(wrong)
        } else {
            if whole == Whole::Must && self.bytes.len() < least {
                wrong.push(Wrong::Short("L4 header"));
            }
            self.part()
        };
        let payload = &self.bytes[header..];
        let inner = self.inner(&l4, payload, wrong);
        View {
            net,
            l4,
            payload: match inner {
                Some(_) => Vec::new(),
                None => payload.to_vec(),
            },
            inner: inner.map(Box::new),
            ..nothing(0, &[])
        }
    }

    fn part(&self) -> (L4, usize) {
        let ports = word(self.bytes, 0).zip(word(self.bytes, 2));
        match (self.protocol, ports) {
            (protocol @ (TCP | UDP), Some((src, dst))) => (L4::Part { protocol, src, dst }, 4),
            (protocol, _) => (L4::Raw(protocol), 0),
        }
    }

    fn l4(&self, wrong: &mut Vec<Wrong>) -> (L4, usize) {
        let bytes = self.bytes;
        let at = |at| word(bytes, at).unwrap();
        match self.protocol {
            TCP => {
                let header = usize::from(bytes[12] >> 4) * 4;
                if header < 20 || header > bytes.len() {
                    wrong.push(Wrong::Length("TCP header"));
                    return (L4::Raw(TCP), 0);
                }
                self.judge_sum(16, wrong);
                let letters = "FSRPAUEC".char_indices();
                let set = letters.filter(|(bit, _)| bytes[13] & 1 << bit != 0);
                let tcp = L4::Tcp {
                    src: at(0),
                    dst: at(2),
                    seq: long(bytes, 4),
                    ack: long(bytes, 8),
                    flags: set.map(|(_, letter)| letter).collect(),
                    window: at(14),
                    urgent: at(18),
                    options: bytes[20..header].to_vec(),
                };
                (tcp, header)
            }
            UDP => {
                if usize::from(at(4)) != bytes.len() {
                    wrong.push(Wrong::Length("UDP"));
                }
                let checked = at(6) != 0;
                match (checked, self.src.len()) {
                    (true, _) => self.judge_sum(6, wrong),
                    (false, 4) => {}
                    (false, _) => wrong.push(Wrong::NoSum),
                }
                let (src, dst) = (at(0), at(2));
                (L4::Udp { src, dst, checked }, 8)
            }
            ICMP | ICMP6 => {
                self.judge_sum(2, wrong);
                let icmp = L4::Icmp {
                    kind: bytes[0],
                    code: bytes[1],
                    rest: bytes[4..8].try_into().unwrap(),
                };
                (icmp, 8)
            }
            other => (L4::Raw(other), 0),
        }
    }

    fn judge_sum(&self, at: usize, wrong: &mut Vec<Wrong>) {
        let front = match self.protocol {
            ICMP => Vec::new(),
            protocol => pseudo(self.src, self.dst, protocol, self.bytes.len()),
        };
        let found = word(self.bytes, at).unwrap();
        let mut copy = self.bytes.to_vec();
        copy[at..at + 2].fill(0);
        let right = match (self.protocol, !sum(&[&front, &copy])) {
            (UDP, 0) => 0xffff,
            (_, right) => right,
        };
        // Both are zero, and only UDP minds which one.
        let is_same = self.protocol != UDP && found ^ right == 0xffff && found.min(right) == 0;
        if found != right && !is_same {
            wrong.push(Wrong::L4Sum { found, right });
        }
    }

    fn inner(&self, l4: &L4, payload: &[u8], wrong: &mut Vec<Wrong>) -> Option<View> {
        let mut inside = Vec::new();
        let view = match (l4, self.protocol) {
            (
                L4::Icmp {
                    kind: 3 | 4 | 5 | 11 | 12,
                    ..
                },
                ICMP,
            ) => v4(payload, Whole::May, &mut inside),
            (L4::Icmp { kind: 1..=4, .. }, ICMP6) => v6(payload, Whole::May, &mut inside),
            _ => return None,
        };
        wrong.extend(inside.into_iter().map(|it| Wrong::Inner(Box::new(it))));
        Some(view)
    }
}
