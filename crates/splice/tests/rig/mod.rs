//! Clients and servers that send and check many streams at once, and a proxy between them.

use bpfsmith_net::Node;
use bpfsmith_splice::{Counters, Proxy, Settings, Splicer, Stopper, Tally};
use bpfsmith_sys::epoll::{Epoll, Interest};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, LazyLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long anything may take.
pub const LIMIT: Duration = Duration::from_secs(120);

/// A length that no buffer has, so that misplaced bytes are seen.
const PERIOD: usize = 65_521;

/// Bytes without pattern, twice, so that any window of one period is a slice.
static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let once: Vec<u8> = (0..PERIOD)
        .map(|_| random.next().to_le_bytes()[3])
        .collect();
    [once.clone(), once].concat()
});

/// Numbers that are the same in each run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// A stream of bytes that are known from its seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    pub seed: u64,
    pub len: u64,
    pub done: u64,
}

impl Stream {
    pub fn new(seed: u64, len: u64) -> Stream {
        Stream { seed, len, done: 0 }
    }

    /// What comes next: at most a period, nothing at the end.
    pub fn next(&self) -> &'static [u8] {
        let start = usize::try_from((self.seed % 65_521 + self.done) % 65_521).unwrap();
        let rest = usize::try_from(self.len - self.done).unwrap();
        &NOISE[start..start + rest.min(PERIOD)]
    }

    pub fn advance(&mut self, bytes: usize) {
        self.done += u64::try_from(bytes).unwrap();
    }

    pub fn is_done(&self) -> bool {
        self.done == self.len
    }

    /// Compares received bytes with what comes next.
    #[track_caller]
    pub fn check(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let next = self.next();
            assert!(!next.is_empty(), "{} bytes too many: {self:?}", bytes.len());
            let len = next.len().min(bytes.len());
            assert!(next[..len] == bytes[..len], "other bytes: {self:?}");
            self.advance(len);
            bytes = &bytes[len..];
        }
    }
}

/// The first bytes of a client's stream tell the server what comes and what it has to send.
const HEADER: usize = 32;

/// What a client sends and wants.
#[derive(Clone, Copy, Debug)]
pub struct Talk {
    pub up: Stream,
    pub down: Stream,
    /// When the client ends its stream.
    pub ends: Ends,
}

/// When a client ends its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// As soon as it has sent all of it.
    AtOnce,
    /// When it has received the first byte of an answer that is not empty.
    Answered,
    /// When it has received the whole answer, and its end.
    Last,
}

impl Talk {
    fn header(&self) -> Vec<u8> {
        let words = [
            self.up.seed,
            self.up.len,
            self.down.seed,
            self.down.len,
        ];
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn of(header: &[u8]) -> Talk {
        let word = |n: usize| u64::from_le_bytes(header[n * 8..][..8].try_into().unwrap());
        Talk {
            up: Stream::new(word(0), word(1)),
            down: Stream::new(word(2), word(3)),
            ends: Ends::AtOnce,
        }
    }
}

/// An end of a connection.
struct Peer {
    stream: TcpStream,
    /// Bytes to send before the stream.
    head: Vec<u8>,
    sends: Stream,
    wants: Stream,
    /// The header, for servers, as far as it has come.
    header: Option<Vec<u8>>,
    ends: Ends,
    has_shut: bool,
    has_end: bool,
}

impl Peer {
    fn client(stream: TcpStream, talk: &Talk) -> Peer {
        Peer {
            stream,
            head: talk.header(),
            sends: talk.up,
            wants: talk.down,
            header: None,
            ends: talk.ends,
            has_shut: false,
            has_end: false,
        }
    }

    fn server(stream: TcpStream) -> Peer {
        Peer {
            stream,
            head: Vec::new(),
            sends: Stream::new(0, 0),
            wants: Stream::new(0, 0),
            header: Some(Vec::new()),
            ends: Ends::AtOnce,
            has_shut: false,
            has_end: false,
        }
    }

    fn is_over(&self) -> bool {
        self.has_shut && self.has_end
    }

    fn advance(&mut self, buffer: &mut [u8]) {
        self.receive(buffer);
        if self.header.is_none() {
            self.send();
        }
    }

    fn send(&mut self) {
        while !self.has_shut {
            let next = if self.head.is_empty() {
                self.sends.next()
            } else {
                &self.head
            };
            if next.is_empty() {
                match self.ends {
                    Ends::Answered if self.wants.done == 0 && self.wants.len > 0 => break,
                    Ends::Last if !self.has_end => break,
                    _ => {}
                }
                self.stream.shutdown(Shutdown::Write).unwrap();
                self.has_shut = true;
                break;
            }
            match self.stream.write(next) {
                Ok(bytes) if self.head.is_empty() => self.sends.advance(bytes),
                Ok(bytes) => drop(self.head.drain(..bytes)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("send {:?} of {:?}: {error}", self.sends, self.wants),
            }
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) {
        while !self.has_end {
            match self.stream.read(buffer) {
                Ok(0) => {
                    assert!(
                        self.wants.is_done() && self.header.is_none(),
                        "cut off: {:?}",
                        self.wants
                    );
                    self.has_end = true;
                }
                Ok(bytes) => self.take(&buffer[..bytes]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("receive {:?}, sent {:?}: {error}", self.wants, self.sends),
            }
        }
    }

    fn take(&mut self, mut bytes: &[u8]) {
        if let Some(header) = &mut self.header {
            let len = bytes.len().min(HEADER - header.len());
            header.extend_from_slice(&bytes[..len]);
            bytes = &bytes[len..];
            if header.len() < HEADER {
                return;
            }
            let talk = Talk::of(header);
            (self.wants, self.sends, self.header) = (talk.up, talk.down, None);
        }
        self.wants.check(bytes);
    }
}

/// Holds all talks, at most so many at a time, each over a connection of its own, and compares each
/// byte at both ends. `connect` is called in the client's namespace.
pub fn converse(
    listener: &TcpListener,
    talks: &[Talk],
    at_once: usize,
    mut connect: impl FnMut() -> TcpStream,
) {
    const LISTENER: u64 = u64::MAX;
    listener.set_nonblocking(true).unwrap();
    nix::sys::socket::listen(listener, nix::sys::socket::Backlog::new(4096).unwrap()).unwrap();
    let epoll = Epoll::new().unwrap();
    epoll
        .add(listener.as_fd(), Interest::Read, LISTENER)
        .unwrap();
    let mut peers: Vec<Option<Peer>> = Vec::new();
    let mut buffer = vec![0; 1 << 18];
    let (mut next, mut open, mut clients_over, mut servers_over) = (0, 0, 0, 0);
    let end = Instant::now() + LIMIT;
    while clients_over < talks.len() || servers_over < talks.len() {
        while open < at_once && next < talks.len() {
            let stream = connect();
            stream.set_nonblocking(true).unwrap();
            stream.set_nodelay(true).unwrap();
            let token = u64::try_from(peers.len()).unwrap();
            epoll.add(stream.as_fd(), Interest::Changes, token).unwrap();
            peers.push(Some(Peer::client(stream, &talks[next])));
            (next, open) = (next + 1, open + 1);
        }
        assert!(
            Instant::now() < end,
            "{clients_over} clients and {servers_over} servers of {} are done, {open} open: {:?}",
            talks.len(),
            peers
                .iter()
                .flatten()
                .map(|peer| (peer.header.is_some(), peer.sends, peer.wants, peer.has_end))
                .take(6)
                .collect::<Vec<_>>()
        );
        let mut ready = Vec::new();
        epoll
            .wait(Some(Duration::from_millis(200)), |token| ready.push(token))
            .unwrap();
        for token in ready {
            if token == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true).unwrap();
                    stream.set_nodelay(true).unwrap();
                    let token = u64::try_from(peers.len()).unwrap();
                    epoll.add(stream.as_fd(), Interest::Changes, token).unwrap();
                    peers.push(Some(Peer::server(stream)));
                }
                continue;
            }
            let place = &mut peers[usize::try_from(token).unwrap()];
            let Some(peer) = place else { continue };
            peer.advance(&mut buffer);
            if peer.is_over() {
                if peer.head.is_empty() && peer.header.is_none() && !is_client(peer, listener) {
                    servers_over += 1;
                } else {
                    (clients_over, open) = (clients_over + 1, open - 1);
                }
                *place = None;
            }
        }
    }
}

/// A server's socket has the port of its listener.
fn is_client(peer: &Peer, listener: &TcpListener) -> bool {
    peer.stream.local_addr().unwrap().port() != listener.local_addr().unwrap().port()
}

/// A proxy at work, on a thread of its own in the namespace of a node.
pub struct Running {
    pub counters: Arc<Counters>,
    pub address: SocketAddr,
    stopper: Stopper,
    thread: Option<JoinHandle<Proxy>>,
}

/// How a proxy moves bytes.
#[derive(Clone, Copy, Debug)]
pub enum By {
    Kernel(Settings),
    User,
}

impl Running {
    pub fn new(node: &Node, listen: SocketAddr, target: SocketAddr, by: By) -> Running {
        let listener = node.run(|| TcpListener::bind(listen)).unwrap().unwrap();
        let address = listener.local_addr().unwrap();
        let mut proxy = match by {
            By::Kernel(settings) => {
                let splicer = Splicer::new(settings).unwrap_or_else(|error| panic!("{error:#}"));
                Proxy::splicing(listener, target, splicer)
            }
            By::User => Proxy::copying(listener, target),
        }
        .unwrap();
        let (counters, stopper) = (proxy.counters(), proxy.stopper());
        let ns = node.ns.as_fd().try_clone_to_owned().unwrap();
        let thread = std::thread::spawn(move || {
            let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&ns));
            let ns = bpfsmith_net::NetNs::at(std::path::Path::new(&path)).unwrap();
            ns.run(|| proxy.run().unwrap()).unwrap();
            proxy
        });
        Running {
            counters,
            address,
            stopper,
            thread: Some(thread),
        }
    }

    pub fn tally(&self) -> Tally {
        self.counters.tally()
    }

    /// Waits until no connection is open, and says what was counted.
    #[track_caller]
    pub fn idle(&self) -> Tally {
        bpfsmith_gate::deadline(LIMIT, || {
            let tally = self.tally();
            (tally.open == 0).then_some(tally)
        })
    }

    pub fn stop(mut self) -> Proxy {
        self.stopper.stop();
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "{:#?}\n{:?} {:?} {:?}",
                self.tally(),
                self.counters.last_refusal(),
                self.counters.last_broken(),
                self.counters.last_error()
            );
        }
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// TCP sockets of the calling thread's network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sockets {
    /// Those with an owner, of both families.
    pub in_use: u64,
    /// Those that were closed and still send.
    pub orphans: u64,
    /// Those that wait for late packets.
    pub time_wait: u64,
}

/// Counts them.
pub fn sockets() -> Sockets {
    let read =
        |name: &str| std::fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap();
    let number = |text: &str, line: &str, word: &str| -> u64 {
        let line = text.lines().find(|it| it.starts_with(line)).unwrap();
        let mut words = line.split_whitespace().skip_while(|it| *it != word);
        words.nth(1).unwrap().parse().unwrap()
    };
    let (four, six) = (read("sockstat"), read("sockstat6"));
    Sockets {
        in_use: number(&four, "TCP:", "inuse") + number(&six, "TCP6:", "inuse"),
        orphans: number(&four, "TCP:", "orphan"),
        time_wait: number(&four, "TCP:", "tw"),
    }
}
