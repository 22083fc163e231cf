//! An end of a TCP connection that is not a kernel's: it sends the segments that a test wants.

use bpfsmith_gate::deadline;
use bpfsmith_net::{IfIndex, Node, Route};
use nix::sys::socket::sockopt::RcvBufForce;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, setsockopt,
    socket,
};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Its address, which no kernel has: nobody else answers there.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 9);
const PORT: u16 = 1234;

const FIN: u8 = 1;
const SYN: u8 = 2;
const ACK: u8 = 16;

/// Of a handshake: segments may be as large as packets, windows have a scale, and what came twice is told.
const OPTIONS: [u8; 12] = [2, 4, 0xff, 0xd7, 1, 3, 3, 7, 1, 1, 4, 2];

/// What a segment has besides bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Nothing.
    Open,
    /// The end of the stream.
    Fin,
}

/// A connected end.
pub struct Peer {
    raw: OwnedFd,
    tap: OwnedFd,
    to: SocketAddrV4,
    /// The number of the first byte that it sends.
    first: u32,
    /// The number of the next byte that it wants.
    wants: u32,
}

impl Peer {
    /// Connects on the loopback device of the node; its first byte has that number.
    pub fn connect(node: &Node, to: SocketAddrV4, first: u32) -> Peer {
        let way = Route::to(ADDRESS.to_string().parse().unwrap()).dev(IfIndex::LOOPBACK);
        node.net.add_route(&way).unwrap();
        let open = || {
            let (raw, none) = (SockType::Raw, SockFlag::empty());
            let raw = socket(AddressFamily::Inet, raw, none, SockProtocol::Raw).unwrap();
            let tap = socket(
                AddressFamily::Packet,
                SockType::Datagram,
                SockFlag::SOCK_NONBLOCK,
                SockProtocol::EthIp,
            )
            .unwrap();
            // What it sends itself comes there too.
            setsockopt(&tap, RcvBufForce, &(1 << 24)).unwrap();
            (raw, tap)
        };
        let (raw, tap) = node.run(open).unwrap();
        let mut peer = Peer {
            raw,
            tap,
            to,
            first,
            wants: 0,
        };
        peer.segment(first.wrapping_sub(1), SYN, &OPTIONS, &[]);
        peer.wants = peer.answer(0).wrapping_add(1);
        peer.segment(first, ACK, &[], &[]);
        peer
    }

    /// Sends bytes, the first of which is that far in the stream.
    pub fn send(&self, at: usize, bytes: &[u8], end: End) {
        let flags = match end {
            End::Open => ACK,
            End::Fin => ACK | FIN,
        };
        self.segment(self.number(at), flags, &[], bytes);
    }

    /// Waits until the other end has acknowledged all before that place, and no more.
    pub fn acknowledged(&self, at: usize) {
        self.answer(at);
    }

    fn number(&self, at: usize) -> u32 {
        self.first.wrapping_add(u32::try_from(at).unwrap())
    }

    /// Waits for a packet that acknowledges all before that place; says its number.
    fn answer(&self, at: usize) -> u32 {
        let wanted = self.number(at);
        let mut packet = vec![0; 1 << 17];
        deadline(LIMIT, || {
            loop {
                let len = nix::unistd::read(&self.tap, &mut packet).ok()?;
                // What another address sent is our own.
                let (Some(ip), Some(tcp)) = (packet.get(..20), packet.get(20..len)) else {
                    continue;
                };
                if ip[12..16] != self.to.ip().octets() || tcp[2..4] != PORT.to_be_bytes() {
                    continue;
                }
                let word = |at: usize| u32::from_be_bytes(tcp[at..at + 4].try_into().unwrap());
                if word(8) == wanted {
                    return Some(word(4));
                }
            }
        })
    }

    fn segment(&self, number: u32, flags: u8, options: &[u8], bytes: &[u8]) {
        let words = u8::try_from(5 + options.len() / 4).unwrap();
        let head = |sum: u16| {
            [
                &PORT.to_be_bytes()[..],
                &self.to.port().to_be_bytes(),
                &number.to_be_bytes(),
                &self.wants.to_be_bytes(),
                &[words << 4, flags, 0xff, 0xff],
                &sum.to_be_bytes(),
                &[0, 0],
                options,
            ]
            .concat()
        };
        let len = u16::try_from(usize::from(words) * 4 + bytes.len()).unwrap();
        let pseudo = [
            &ADDRESS.octets()[..],
            &self.to.ip().octets(),
            &[0, 6],
            &len.to_be_bytes(),
        ];
        let sum = !sum(&[pseudo.concat(), head(0), bytes.to_vec()].concat());
        // The kernel fills in the length, the identity and the sum.
        let mut ip = vec![
            0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0,
        ];
        ip.extend(ADDRESS.octets());
        ip.extend(self.to.ip().octets());
        let packet = [ip, head(sum), bytes.to_vec()].concat();
        let to = SockaddrIn::from(SocketAddrV4::new(*self.to.ip(), 0));
        let sent = sendto(self.raw.as_raw_fd(), &packet, &to, MsgFlags::empty());
        assert_eq!(sent, Ok(packet.len()));
    }
}

/// The sum of all 16-bit words in one's complement.
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| {
        let low = pair.get(1).copied().unwrap_or(0);
        u64::from(u16::from_be_bytes([pair[0], low]))
    });
    let mut sum = words.sum::<u64>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}
