//! A machine that takes whole networks for its own, and clients on it.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod process;

use bpfsmith_gate::deadline;
use bpfsmith_net::{Node, Prefix, Route};
use bpfsmith_steer::{Binding, Label, Protocol, Rule, Steering};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// What the machine takes for its own, though it has none of it.
const OURS: [&str; 4] = [
    "203.0.113.0/24",
    "198.18.0.0/15",
    "100.64.0.0/10",
    "2001:db8::/32",
];

pub(crate) fn world() -> Node {
    let node = Node::new().unwrap();
    for prefix in OURS {
        let prefix: Prefix = prefix.parse().unwrap();
        node.net.add_route(&Route::local(prefix)).unwrap();
    }
    // For IPv6, unlike IPv4, a local route is not enough to send from an address.
    node.ns.set_sysctl("ipv6/ip_nonlocal_bind", "1").unwrap();
    // Each datagram to nobody is to be answered by an error, however many there are.
    node.ns.set_sysctl("ipv4/icmp_ratelimit", "0").unwrap();
    node.ns.set_sysctl("ipv6/icmp/ratelimit", "0").unwrap();
    node
}

pub(crate) fn label(text: &str) -> Label {
    Label::new(text).unwrap()
}

pub(crate) fn binding(text: &str) -> Binding {
    text.parse().unwrap()
}

pub(crate) fn rule(text: &str, service: &str) -> Rule {
    Rule::new(binding(text), label(service))
}

pub(crate) fn to(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A listener where nobody looks for one.
#[track_caller]
pub(crate) fn listen(node: &Node, at: &str) -> TcpListener {
    let made = node.run(|| TcpListener::bind(at)).unwrap().unwrap();
    made.set_nonblocking(true).unwrap();
    // The library's 128 are soon full when nobody accepts for the time that a thread may wait for its
    // turn, and then the kernel drops what is to be counted.
    let backlog = nix::sys::socket::Backlog::new(4096).unwrap();
    nix::sys::socket::listen(&made, backlog).unwrap();
    made
}

#[track_caller]
pub(crate) fn datagrams(node: &Node, at: &str) -> UdpSocket {
    let made = node.run(|| UdpSocket::bind(at)).unwrap().unwrap();
    made.set_nonblocking(true).unwrap();
    made
}

pub(crate) fn connect(node: &Node, to: SocketAddr) -> io::Result<TcpStream> {
    node.run(|| TcpStream::connect(to)).unwrap()
}

/// Which of these accepted a connection to an address; `None` if it was refused.
#[track_caller]
pub(crate) fn came_to(node: &Node, to: SocketAddr, listeners: &[&TcpListener]) -> Option<usize> {
    let client = match connect(node, to) {
        Ok(client) => client,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{to}: {error}");
            return None;
        }
    };
    let (index, (end, from)) = deadline(LIMIT, || {
        let mut all = (0..).zip(listeners);
        all.find_map(|(index, listener)| Some((index, listener.accept().ok()?)))
    });
    assert_eq!(canonical(from), client.local_addr().unwrap());
    assert_eq!(
        canonical(end.local_addr().unwrap()),
        to,
        "it looks as if bound"
    );
    let rest = listeners
        .iter()
        .filter_map(|listener| listener.accept().ok());
    assert_eq!(rest.count(), 0, "nobody else");
    Some(index)
}

/// Which of these got a datagram to an address; `None` if an error came back.
#[track_caller]
pub(crate) fn sent_to(node: &Node, to: SocketAddr, sockets: &[&UdpSocket]) -> Option<usize> {
    let any = match to {
        SocketAddr::V4(_) => IpAddr::from([0; 4]),
        SocketAddr::V6(_) => IpAddr::from([0; 16]),
    };
    let client = node.run(|| UdpSocket::bind((any, 0))).unwrap().unwrap();
    client.set_nonblocking(true).unwrap();
    client.connect(to).unwrap();
    client.send(b"steered").unwrap();
    deadline(LIMIT, || {
        let mut bytes = [0; 16];
        for (index, socket) in sockets.iter().enumerate() {
            if let Ok((read, from)) = socket.recv_from(&mut bytes) {
                assert_eq!(&bytes[..read], b"steered");
                assert_eq!(canonical(from), client.local_addr().unwrap());
                return Some(Some(index));
            }
        }
        match client.recv(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Some(None),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            other => panic!("{other:?}"),
        }
    })
}

/// A socket for both families sees IPv4 addresses as IPv6 ones.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The socket's name in the kernel.
pub(crate) fn cookie(socket: &impl std::os::fd::AsFd) -> u64 {
    bpfsmith_sys::socket::cookie(socket.as_fd()).unwrap()
}

/// What was counted for a binding: hits, misses, errors.
#[track_caller]
pub(crate) fn counted(steering: &mut Steering, text: &str) -> [u64; 3] {
    let status = steering.status().unwrap();
    let binding = binding(text);
    let found = status
        .rules
        .iter()
        .find(|(rule, _)| rule.binding == binding);
    let counts = found.unwrap().1;
    [
        counts.hits,
        counts.misses,
        counts.errors,
    ]
}

/// A client's end, for questions to the program.
pub(crate) fn client(protocol: Protocol, to: SocketAddr, port: u16) -> (Protocol, SocketAddr) {
    let from = match to {
        SocketAddr::V4(_) => IpAddr::from([192, 0, 2, 1]),
        SocketAddr::V6(_) => "2001:db8:ffff::1".parse().unwrap(),
    };
    (protocol, SocketAddr::new(from, port))
}

/// Tells threads to stop, also when the test fails: the scope waits for them.
pub(crate) struct Stop<'a>(pub(crate) &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Accepts until told to stop, and counts.
pub(crate) fn drain(listener: &TcpListener, count: &AtomicU32, stop: &AtomicBool) {
    while !stop.load(Ordering::Acquire) {
        match listener.accept() {
            Ok(_) => {
                count.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                std::thread::yield_now();
            }
        }
    }
}

/// Connections one after the other, to the addresses in turn, until there are enough; what failed.
pub(crate) fn connect_until(
    node: &Node,
    to: &[SocketAddr],
    made: &AtomicU32,
    enough: &AtomicBool,
) -> Vec<String> {
    let all = || {
        let mut failed = Vec::new();
        for to in to.iter().cycle() {
            if enough.load(Ordering::Acquire) || failed.len() > 9 {
                break;
            }
            match TcpStream::connect(to) {
                Ok(_) => {
                    made.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => failed.push(error.to_string()),
            }
        }
        failed
    };
    node.run(all).unwrap()
}
