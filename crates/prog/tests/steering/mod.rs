//! A server behind addresses that nobody bound, a client with several, and what steers between them.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use crate::net_bench::{LIMIT, load_to};
use bpfsmith_asm::dsl::*;
use bpfsmith_asm::kit::lookup::{self, End, Fallback};
use bpfsmith_maps::{LpmKey, Map};
use bpfsmith_net::{Address, IfIndex, NetNs, Pair, Prefix, Route};
use bpfsmith_prog::target::Netns;
use bpfsmith_prog::{Maps, Prog};
use nix::libc;
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType,
    SockaddrStorage, connect, listen, recvmsg, sendmsg, setsockopt, socket, sockopt,
};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;

/// An address of either family.
pub(crate) type Key = LpmKey<[u8; 16]>;

pub(crate) static TENANTS: MapDef<Key, u32> = MapDef::lpm_trie("tenants", 10_000);
pub(crate) static SOCKETS: MapDef<u32, u64> = MapDef::new(MapType::SOCKMAP, "sockets", 8);

pub(crate) const PORT: u16 = 80;

/// Where the services are: in prefixes that the server takes for its own, and nobody bound.
pub(crate) const SERVICE4: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));
pub(crate) const SERVICE6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x71, 0, 0, 0, 0, 9));

/// The client's addresses.
pub(crate) const CLIENTS4: [IpAddr; 3] = [v4(2), v4(3), v4(4)];
pub(crate) const CLIENTS6: [IpAddr; 3] = [v6(2), v6(3), v6(4)];

const fn v4(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
}

const fn v6(last: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last))
}

/// What makes a packet's source the index of a socket.
pub(crate) fn by_source(protocol: i32, fallback: Fallback) -> Code {
    let (other, found) = (label("other"), slot::<u32>("tenant"));
    let nobody = label("nobody");
    code![
        mov(R6, R1),
        lookup::protocol(R6, protocol, R2, other),
        lookup::port(R6, End::Local, PORT..=PORT, R2, other),
        lookup::find(R6, End::Remote, &TENANTS, found, nobody),
        lookup::assign_or(R6, &SOCKETS, found, R7, 0, fallback),
        bind(nobody),
        ret(SK_DROP),
        bind(other),
        ret(SK_PASS),
    ]
}

/// Everything goes to the socket at an index.
pub(crate) fn only(ctx: Reg, index: u32, fallback: Fallback) -> Code {
    let key = slot::<u32>("key");
    code![
        store(key.u32(0), index),
        lookup::assign_or(ctx, &SOCKETS, key, R7, 0, fallback),
    ]
}

#[track_caller]
pub(crate) fn place(tenants: &Map<Key, u32>, source: IpAddr, index: u32) {
    let bits = if source.is_ipv4() { 32 } else { 128 };
    let key = Key::mapped(source, bits);
    tenants.update(&key, &index).unwrap();
}

pub(crate) struct World {
    net: Pair,
}

impl World {
    pub(crate) fn new() -> World {
        let net = Pair::new().unwrap();
        let (client, server) = (&net.client, &net.server);
        for address in CLIENTS4[1..].iter().chain(&CLIENTS6[1..]) {
            let bits = if address.is_ipv4() { 24 } else { 64 };
            let prefix = Prefix::new(*address, bits).unwrap();
            let address = Address::new(client.port.index, prefix);
            client.node.net.add_address(&address).unwrap();
        }
        for (service, bits, via) in [
            (SERVICE4, 24, IpAddr::V4(server.v4())),
            (SERVICE6, 48, IpAddr::V6(server.v6())),
        ] {
            let prefix = Prefix::new(service, bits).unwrap().network();
            server.node.net.add_route(&Route::local(prefix)).unwrap();
            client
                .node
                .net
                .add_route(&Route::to(prefix).via(via))
                .unwrap();
        }
        // For IPv6, unlike IPv4, a local route is not enough to send from an address.
        server
            .node
            .ns
            .set_sysctl("ipv6/ip_nonlocal_bind", "1")
            .unwrap();
        let second = Address::new(IfIndex::LOOPBACK, Prefix::host(v6_home(2)));
        server.node.net.add_address(&second).unwrap();
        World { net }
    }

    /// Two places of one port where only the server itself comes by itself.
    pub(crate) fn homes(&self, service: IpAddr) -> [SocketAddr; 2] {
        let addresses = match service {
            IpAddr::V4(_) => [1, 2].map(|n| IpAddr::V4(Ipv4Addr::new(127, 0, 0, n))),
            IpAddr::V6(_) => [
                IpAddr::V6(Ipv6Addr::LOCALHOST),
                v6_home(2),
            ],
        };
        addresses.map(|address| SocketAddr::new(address, PORT))
    }

    pub(crate) fn server(&self) -> &NetNs {
        &self.net.server.node.ns
    }

    #[track_caller]
    pub(crate) fn load(&self, name: &str, code: Code) -> (Maps, Prog) {
        let mut maps = Maps::new();
        let on = Netns::lookup(self.server());
        let prog = load_to(&on, ProgType::SK_LOOKUP, name, code, &mut maps);
        (maps, prog)
    }

    #[track_caller]
    pub(crate) fn listen(&self, home: SocketAddr) -> TcpListener {
        let made = self.net.server.run(|| TcpListener::bind(home));
        let made = made.unwrap().unwrap();
        // The library's 128 are soon full when nobody accepts for the time that a thread may wait for
        // its turn, and then the kernel drops what is to be counted.
        listen(&made, Backlog::new(4096).unwrap()).unwrap();
        made
    }

    /// A connection from this address, and port unless it is 0.
    pub(crate) fn connect(&self, from: IpAddr, port: u16, to: SocketAddr) -> io::Result<TcpStream> {
        let from = SocketAddr::new(from, port);
        self.net.client.run(|| connected(from, to)).unwrap()
    }

    /// That many connections one after the other; what failed.
    pub(crate) fn connect_often(&self, from: IpAddr, to: SocketAddr, times: u32) -> Vec<String> {
        let from = SocketAddr::new(from, 0);
        let all = || (0..times).filter_map(|_| connected(from, to).err());
        let failed = self
            .net
            .client
            .run(|| all().map(|e| e.to_string()).collect());
        failed.unwrap()
    }

    /// How many requests for connections the server dropped: each costs its client a second.
    #[track_caller]
    pub(crate) fn dropped(&self) -> u64 {
        let read = || std::fs::read_to_string("/proc/thread-self/net/netstat");
        let text = self.net.server.run(read).unwrap().unwrap();
        let mut lines = text
            .lines()
            .filter_map(|line| line.strip_prefix("TcpExt: "));
        let (names, numbers) = (lines.next().unwrap(), lines.next().unwrap());
        let mut both = names.split(' ').zip(numbers.split(' '));
        let found = both.find(|(name, _)| *name == "ListenDrops");
        found.unwrap().1.parse().unwrap()
    }

    pub(crate) fn datagrams(&self, from: IpAddr) -> UdpSocket {
        let made = self.net.client.run(|| UdpSocket::bind((from, 0)));
        let made = made.unwrap().unwrap();
        made.set_read_timeout(Some(LIMIT)).unwrap();
        made
    }

    pub(crate) fn serve_datagrams(&self, home: SocketAddr) -> UdpSocket {
        let made = self.net.server.run(|| UdpSocket::bind(home));
        made.unwrap().unwrap()
    }
}

const fn v6_home(last: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 5, 0, 0, 0, last))
}

fn connected(from: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let family = match from {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let made = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&made, sockopt::ReuseAddr, &true)?;
    nix::sys::socket::bind(made.as_raw_fd(), &SockaddrStorage::from(from))?;
    connect(made.as_raw_fd(), &SockaddrStorage::from(to))?;
    Ok(TcpStream::from(made))
}

/// Which listener accepted it, with its end: exactly one of them did.
#[track_caller]
pub(crate) fn accepted(listeners: &[TcpListener], client: &TcpStream) -> (usize, TcpStream) {
    let all = bpfsmith_gate::deadline(LIMIT, || {
        // The last word of the handshake may still be on the cable.
        let all: Vec<_> = (0..).zip(listeners).filter_map(take).collect();
        (!all.is_empty()).then_some(all)
    });
    let own = client.local_addr().unwrap();
    let [(index, (stream, from))] = <[_; 1]>::try_from(all).unwrap();
    assert_eq!(from, own);
    (index, stream)
}

fn take((index, listener): (usize, &TcpListener)) -> Option<(usize, (TcpStream, SocketAddr))> {
    listener.set_nonblocking(true).ok()?;
    Some((index, listener.accept().ok()?))
}

/// Bytes there and back.
#[track_caller]
pub(crate) fn check_carries(mut client: TcpStream, mut server: TcpStream) {
    for (from, to) in [(0, 1), (1, 0)] {
        let ends = [&mut client, &mut server];
        ends[to].set_read_timeout(Some(LIMIT)).unwrap();
        ends[to].set_nonblocking(false).unwrap();
        ends[from].write_all(b"steered").unwrap();
        let mut bytes = [0; 7];
        ends[to].read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"steered");
    }
}

/// A socket that is told where datagrams went.
#[track_caller]
pub(crate) fn udp_with_addresses(world: &World, home: SocketAddr) -> UdpSocket {
    let socket = world.serve_datagrams(home);
    match home {
        SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true).unwrap(),
        SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true).unwrap(),
    }
    socket.set_nonblocking(true).unwrap();
    socket
}

/// Takes a datagram, and sends it back from the address that it was for; who sent it.
#[track_caller]
pub(crate) fn reply(socket: &UdpSocket, expected: &[u8]) -> SocketAddr {
    let mut bytes = [0; 64];
    let mut space = nix::cmsg_space!(libc::in6_pktinfo);
    let (read, from, controls) = bpfsmith_gate::deadline(LIMIT, || {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::empty();
        let done =
            recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags);
        let done = done.ok()?;
        let controls: Vec<ControlMessageOwned> = done.cmsgs().unwrap().collect();
        Some((done.bytes, done.address.unwrap(), controls))
    });
    assert_eq!(&bytes[..read], expected);
    let (mut four, mut six) = (None, None);
    for control in controls {
        match control {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                // The kernel tells the destination as `addr` and takes the source as `spec_dst`.
                four = Some(libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: info.ipi_addr,
                    ipi_addr: info.ipi_addr,
                });
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => six = Some(info),
            _ => {}
        }
    }
    let control = match (&four, &six) {
        (Some(info), _) => ControlMessage::Ipv4PacketInfo(info),
        (None, Some(info)) => ControlMessage::Ipv6PacketInfo(info),
        (None, None) => panic!("the kernel did not say where it went"),
    };
    let parts = [IoSlice::new(&bytes[..read])];
    let fd = socket.as_raw_fd();
    let sent = sendmsg(fd, &parts, &[control], MsgFlags::empty(), Some(&from)).unwrap();
    assert_eq!(sent, read);
    match (from.as_sockaddr_in(), from.as_sockaddr_in6()) {
        (Some(from), _) => SocketAddr::from(std::net::SocketAddrV4::from(*from)),
        (_, Some(from)) => SocketAddr::from(std::net::SocketAddrV6::from(*from)),
        _ => panic!("{from}"),
    }
}
