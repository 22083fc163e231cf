//! Packets from scratch. Nothing in here is the crate's own: it is what the crate is compared with.
//!
//! `Frame::v4("10.0.0.1", "10.0.0.2").tcp(1234, 80).flags("S").build()` is a whole Ethernet frame, with
//! all lengths and checksums right unless a method says otherwise.

mod bytes;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(crate) const HOP_BY_HOP: u8 = 0;
pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ROUTING: u8 = 43;
pub(crate) const FRAGMENT: u8 = 44;
pub(crate) const ICMP6: u8 = 58;
pub(crate) const DESTINATION: u8 = 60;

/// Anything that says which address.
pub(crate) trait At<T> {
    fn at(self) -> T;
}

impl At<Ipv4Addr> for Ipv4Addr {
    fn at(self) -> Ipv4Addr {
        self
    }
}

impl At<Ipv6Addr> for Ipv6Addr {
    fn at(self) -> Ipv6Addr {
        self
    }
}

impl At<IpAddr> for IpAddr {
    fn at(self) -> IpAddr {
        self
    }
}

impl<T: std::str::FromStr<Err: std::fmt::Debug>> At<T> for &str {
    fn at(self) -> T {
        self.parse().unwrap()
    }
}

/// A packet to be.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) macs: ([u8; 6], [u8; 6]),
    /// Type and tag.
    tags: Vec<(u16, u16)>,
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    ttl: u8,
    tos: u8,
    ident: u32,
    df: bool,
    more: bool,
    /// In units of 8 bytes.
    offset: u16,
    options: Vec<u8>,
    /// Kind and content after the first two bytes.
    extensions: Vec<(u8, Vec<u8>)>,
    flow: u32,
    l4: L4,
    payload: Vec<u8>,
    lies: Lies,
}

#[derive(Clone, Debug)]
enum L4 {
    Tcp(Tcp),
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
    /// Whatever the payload is.
    Raw(u8),
}

#[derive(Clone, Debug, Default)]
struct Tcp {
    src: u16,
    dst: u16,
    seq: u32,
    ack: u32,
    flags: u8,
    window: u16,
    urgent: u16,
    options: Vec<u8>,
}

/// What a packet says although it is not true.
#[derive(Clone, Debug, Default)]
struct Lies {
    ip_sum: Option<u16>,
    l4_sum: Option<Sum>,
    total: Option<u16>,
    words: Option<u8>,
    version: Option<u8>,
    udp_len: Option<u16>,
    data_offset: Option<u8>,
    kind: Option<u16>,
    trailer: Vec<u8>,
    cut: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
enum Sum {
    Is(u16),
    /// The right one, and this added.
    Off(u16),
    /// As a kernel leaves it to a device: of the pseudo header alone, not inverted.
    Partial,
}

impl Frame {
    pub(crate) fn v4(src: impl At<Ipv4Addr>, dst: impl At<Ipv4Addr>) -> Frame {
        Frame::new(src.at().into(), dst.at().into())
    }

    pub(crate) fn v6(src: impl At<Ipv6Addr>, dst: impl At<Ipv6Addr>) -> Frame {
        Frame::new(src.at().into(), dst.at().into())
    }

    /// Of either family, for tables that have both.
    pub(crate) fn ip(src: impl At<IpAddr>, dst: impl At<IpAddr>) -> Frame {
        Frame::new(src.at(), dst.at())
    }

    fn new(src: IpAddr, dst: IpAddr) -> Frame {
        assert_eq!(src.is_ipv4(), dst.is_ipv4(), "{src} {dst}");
        Frame {
            macs: ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]),
            tags: Vec::new(),
            src,
            dst,
            ttl: 64,
            tos: 0,
            ident: 0x1234,
            df: false,
            more: false,
            offset: 0,
            options: Vec::new(),
            extensions: Vec::new(),
            flow: 0,
            l4: L4::Raw(253),
            payload: Vec::new(),
            lies: Lies::default(),
        }
    }

    /// Ethernet addresses of sender and receiver.
    pub(crate) fn macs(mut self, src: [u8; 6], dst: [u8; 6]) -> Frame {
        self.macs = (src, dst);
        self
    }

    /// A further VLAN tag, inside those before it. The outer one of two is a service tag.
    pub(crate) fn vlan(mut self, id: u16) -> Frame {
        if let Some(outer) = self.tags.last_mut() {
            outer.0 = 0x88a8;
        }
        self.tags.push((0x8100, id));
        self
    }

    pub(crate) fn from(mut self, src: impl At<IpAddr>) -> Frame {
        self.src = src.at();
        self
    }

    pub(crate) fn to(mut self, dst: impl At<IpAddr>) -> Frame {
        self.dst = dst.at();
        self
    }

    /// Hop limit for IPv6.
    pub(crate) fn ttl(mut self, ttl: u8) -> Frame {
        self.ttl = ttl;
        self
    }

    /// Traffic class for IPv6.
    pub(crate) fn tos(mut self, tos: u8) -> Frame {
        self.tos = tos;
        self
    }

    pub(crate) fn ident(mut self, ident: u32) -> Frame {
        self.ident = ident;
        self
    }

    pub(crate) fn df(mut self) -> Frame {
        self.df = true;
        self
    }

    /// IPv4: more fragments follow. For a fragment of IPv6 use [`Frame::fragment`].
    pub(crate) fn more(mut self) -> Frame {
        self.more = true;
        self
    }

    /// IPv4: where this fragment belongs, in units of 8 bytes. Its payload is what is there, so use
    /// [`Frame::raw`], or [`Frame::fragments`] for all of them.
    pub(crate) fn offset(mut self, units: u16) -> Frame {
        self.offset = units;
        self
    }

    /// IPv4 options, filled up with ends of the list.
    pub(crate) fn options(mut self, options: &[u8]) -> Frame {
        assert!(self.src.is_ipv4() && options.len() <= 40);
        self.options = padded(options, 4);
        self
    }

    pub(crate) fn flow(mut self, label: u32) -> Frame {
        self.flow = label;
        self
    }

    /// An IPv6 extension header of `8 * units` bytes; hop-by-hop and destination options are padding, a
    /// routing header is of an unused type with no segments left.
    pub(crate) fn extension(mut self, kind: u8, units: u8) -> Frame {
        assert!(self.src.is_ipv6() && units > 0);
        let rest = usize::from(units) * 8 - 2;
        let content = match kind {
            ROUTING => [vec![253, 0], vec![0; rest - 2]].concat(),
            // One option of padding takes at most 257 bytes.
            _ => {
                let mut options = Vec::new();
                while options.len() < rest {
                    match rest - options.len() {
                        1 => options.push(0),
                        left => {
                            let pad = left.min(257) - 2;
                            options.extend([1, u8::try_from(pad).unwrap()]);
                            options.resize(options.len() + pad, 0);
                        }
                    }
                }
                options
            }
        };
        self.extensions.push((kind, content));
        self
    }

    /// An IPv6 fragment header. What is in the payload of all but the first is not L4, so use
    /// [`Frame::raw`] there, or [`Frame::fragments`] for all of them.
    pub(crate) fn fragment(mut self, units: u16, more: u8) -> Frame {
        assert!(self.src.is_ipv6());
        let place = (units << 3 | u16::from(more)).to_be_bytes();
        let content = [
            place.as_slice(),
            &self.ident.to_be_bytes(),
        ]
        .concat();
        self.extensions.push((FRAGMENT, content));
        self
    }

    pub(crate) fn tcp(mut self, src: u16, dst: u16) -> Frame {
        self.l4 = L4::Tcp(Tcp {
            src,
            dst,
            window: 64_240,
            ..Tcp::default()
        });
        self
    }

    fn tcp_mut(&mut self) -> &mut Tcp {
        match &mut self.l4 {
            L4::Tcp(tcp) => tcp,
            other => panic!("first say .tcp(), not {other:?}"),
        }
    }

    /// Letters of `FSRPAUEC`.
    pub(crate) fn flags(mut self, letters: &str) -> Frame {
        let bit = |letter| 1 << "FSRPAUEC".find(letter).unwrap();
        self.tcp_mut().flags = letters.chars().map(bit).fold(0, |a, b: u8| a | b);
        self
    }

    pub(crate) fn seq(mut self, seq: u32) -> Frame {
        self.tcp_mut().seq = seq;
        self
    }

    pub(crate) fn ack(mut self, ack: u32) -> Frame {
        self.tcp_mut().ack = ack;
        self
    }

    pub(crate) fn window(mut self, window: u16) -> Frame {
        self.tcp_mut().window = window;
        self
    }

    /// TCP options, filled up with ends of the list.
    pub(crate) fn tcp_options(mut self, options: &[u8]) -> Frame {
        assert!(options.len() <= 40);
        self.tcp_mut().options = padded(options, 4);
        self
    }

    pub(crate) fn udp(mut self, src: u16, dst: u16) -> Frame {
        self.l4 = L4::Udp {
            src,
            dst,
            checked: true,
        };
        self
    }

    /// UDP without a checksum.
    pub(crate) fn unchecked(mut self) -> Frame {
        match &mut self.l4 {
            L4::Udp { checked, .. } => *checked = false,
            other => panic!("first say .udp(), not {other:?}"),
        }
        self
    }

    /// Other ports, TCP or UDP.
    pub(crate) fn ports(mut self, from: u16, to: u16) -> Frame {
        match &mut self.l4 {
            L4::Tcp(Tcp { src, dst, .. }) | L4::Udp { src, dst, .. } => (*src, *dst) = (from, to),
            other => panic!("no ports: {other:?}"),
        }
        self
    }

    /// ICMP or ICMPv6, as the addresses are.
    pub(crate) fn icmp(mut self, kind: u8, code: u8, rest: [u8; 4]) -> Frame {
        self.l4 = L4::Icmp { kind, code, rest };
        self
    }

    pub(crate) fn ping(self, ident: u16, seq: u16) -> Frame {
        let kind = if self.src.is_ipv4() { 8 } else { 128 };
        self.echo(kind, ident, seq)
    }

    pub(crate) fn pong(self, ident: u16, seq: u16) -> Frame {
        let kind = if self.src.is_ipv4() { 0 } else { 129 };
        self.echo(kind, ident, seq)
    }

    fn echo(self, kind: u8, ident: u16, seq: u16) -> Frame {
        let ([a, b], [c, d]) = (ident.to_be_bytes(), seq.to_be_bytes());
        self.icmp(kind, 0, [a, b, c, d])
    }

    /// The port is closed.
    pub(crate) fn port_unreachable(self) -> Frame {
        let (kind, code) = if self.src.is_ipv4() { (3, 3) } else { (1, 4) };
        self.icmp(kind, code, [0; 4])
    }

    /// Fragmentation needed, or packet too big.
    pub(crate) fn too_big(self, mtu: u16) -> Frame {
        let (kind, code) = if self.src.is_ipv4() { (3, 4) } else { (2, 0) };
        let [high, low] = mtu.to_be_bytes();
        self.icmp(kind, code, [0, 0, high, low])
    }

    pub(crate) fn time_exceeded(self) -> Frame {
        let kind = if self.src.is_ipv4() { 11 } else { 3 };
        self.icmp(kind, 0, [0; 4])
    }

    /// The packet that an ICMP error is about: its IP headers, and so many bytes of what follows.
    pub(crate) fn quote(self, inner: &Frame, l4_bytes: usize) -> Frame {
        let packet = inner.packet();
        let headers = packet.len() - inner.lies.trailer.len() - inner.l4_bytes().len();
        let end = packet.len().min(headers.saturating_add(l4_bytes));
        self.payload(&packet[..end])
    }

    /// A packet of another protocol, or the middle of one.
    pub(crate) fn raw(mut self, protocol: u8, payload: &[u8]) -> Frame {
        self.l4 = L4::Raw(protocol);
        self.payload(payload)
    }

    pub(crate) fn payload(mut self, payload: &[u8]) -> Frame {
        self.payload = payload.to_vec();
        self
    }

    /// A payload of so many bytes of some pattern.
    pub(crate) fn bytes(self, len: usize) -> Frame {
        let pattern: Vec<u8> = (0..=250).cycle().take(len).collect();
        self.payload(&pattern)
    }

    // What follows is not true.

    pub(crate) fn ip_sum(mut self, sum: u16) -> Frame {
        self.lies.ip_sum = Some(sum);
        self
    }

    pub(crate) fn l4_sum(mut self, sum: u16) -> Frame {
        self.lies.l4_sum = Some(Sum::Is(sum));
        self
    }

    /// Another L4 checksum than the right one, by this much.
    pub(crate) fn l4_sum_off_by(mut self, by: u16) -> Frame {
        self.lies.l4_sum = Some(Sum::Off(by));
        self
    }

    /// The L4 checksum as a kernel leaves it to its device.
    pub(crate) fn partial(mut self) -> Frame {
        self.lies.l4_sum = Some(Sum::Partial);
        self
    }

    /// IPv4 total length, or IPv6 payload length.
    pub(crate) fn total(mut self, len: u16) -> Frame {
        self.lies.total = Some(len);
        self
    }

    /// The length of the IPv4 header in words.
    pub(crate) fn words(mut self, words: u8) -> Frame {
        self.lies.words = Some(words);
        self
    }

    pub(crate) fn version(mut self, version: u8) -> Frame {
        self.lies.version = Some(version);
        self
    }

    pub(crate) fn udp_len(mut self, len: u16) -> Frame {
        self.lies.udp_len = Some(len);
        self
    }

    /// The length of the TCP header in words.
    pub(crate) fn data_offset(mut self, words: u8) -> Frame {
        self.lies.data_offset = Some(words);
        self
    }

    pub(crate) fn ether_type(mut self, kind: u16) -> Frame {
        self.lies.kind = Some(kind);
        self
    }

    /// Bytes after the IP packet, as short Ethernet frames have.
    pub(crate) fn trailer(mut self, len: usize) -> Frame {
        self.lies.trailer = vec![0xee; len];
        self
    }

    /// Only so many bytes of the frame.
    pub(crate) fn cut(mut self, len: usize) -> Frame {
        self.lies.cut = Some(len);
        self
    }
}

fn padded(bytes: &[u8], unit: usize) -> Vec<u8> {
    let mut all = bytes.to_vec();
    all.resize(bytes.len().next_multiple_of(unit), 0);
    all
}
