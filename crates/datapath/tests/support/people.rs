//! Servers that say who they are, and clients that ask.

use super::world::LIMIT;
use bpfsmith_gate::deadline;
use bpfsmith_net::Node;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often threads look whether they shall stop.
const GLANCE: Duration = Duration::from_millis(20);

/// How much is sent or received at a time.
const CHUNK: usize = 1 << 16;

/// Servers on several addresses, TCP and UDP. They stop when this is dropped.
///
/// Over TCP a server first says its name in a line. Then it reads a line: after `echo` it says again what
/// it hears; after `bulk UP DOWN` it hears so many bytes of the [`pattern`], and says so many.
/// Over UDP it answers with its name, a space, and what it heard.
pub(crate) struct Server {
    pub(crate) name: String,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    name: String,
    stop: AtomicBool,
    accepted: AtomicU64,
    datagrams: AtomicU64,
    /// Where clients were seen.
    peers: Mutex<Vec<SocketAddr>>,
    /// What went wrong in conversations.
    failed: Mutex<Vec<String>>,
}

impl Server {
    #[track_caller]
    pub(crate) fn start(node: &Node, name: &str, at: &[SocketAddr]) -> Server {
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            ..Shared::default()
        });
        let mut server = Server {
            name: name.to_owned(),
            shared,
            threads: Vec::new(),
        };
        for at in at {
            let bind = || io::Result::Ok((TcpListener::bind(at)?, UdpSocket::bind(at)?));
            let (listener, socket) = node.run(bind).unwrap().unwrap();
            let backlog = nix::sys::socket::Backlog::new(4096).unwrap();
            nix::sys::socket::listen(&listener, backlog).unwrap();
            listener.set_nonblocking(true).unwrap();
            socket.set_read_timeout(Some(GLANCE)).unwrap();
            let (tcp, udp) = (server.shared.clone(), server.shared.clone());
            let accept = std::thread::spawn(move || tcp.accept(&listener));
            let answer = std::thread::spawn(move || udp.answer(&socket));
            server.threads.extend([accept, answer]);
        }
        server
    }

    /// How many connections it has accepted.
    pub(crate) fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Acquire)
    }

    /// How many datagrams it has heard.
    pub(crate) fn datagrams(&self) -> u64 {
        self.shared.datagrams.load(Ordering::Acquire)
    }

    /// Where its clients were, as it saw them.
    pub(crate) fn peers(&self) -> Vec<SocketAddr> {
        self.shared.peers.lock().unwrap().clone()
    }

    /// Conversations that did not end well.
    pub(crate) fn failed(&self) -> Vec<String> {
        self.shared.failed.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    fn accept(self: Arc<Shared>, listener: &TcpListener) {
        let mut threads = Vec::new();
        while !self.is_over() {
            let Ok((stream, peer)) = listener.accept() else {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            self.peers.lock().unwrap().push(peer);
            self.accepted.fetch_add(1, Ordering::Release);
            let shared = self.clone();
            // The stack of a thread stays as long as somebody may join it.
            threads.retain(|it: &JoinHandle<()>| !it.is_finished());
            threads.push(std::thread::spawn(move || {
                if let Err(error) = shared.converse(stream) {
                    shared.failed.lock().unwrap().push(error.to_string());
                }
            }));
        }
        for thread in threads {
            let _ = thread.join();
        }
    }

    fn converse(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(GLANCE))?;
        stream.set_write_timeout(Some(GLANCE))?;
        let mut stream = Patient {
            stream: &stream,
            stop: Some(&self.stop),
        };
        stream.write_all(format!("{}\n", self.name).as_bytes())?;
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\n") {
            if stream.read(&mut byte)? == 0 {
                return Ok(());
            }
            line.push(byte[0]);
        }
        let line = String::from_utf8_lossy(&line);
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["echo"] => {
                let mut bytes = vec![0; CHUNK];
                loop {
                    match stream.read(&mut bytes)? {
                        0 => return Ok(()),
                        len => stream.write_all(&bytes[..len])?,
                    }
                }
            }
            ["bulk", up, down] => {
                hear(&mut stream, up.parse().map_err(io::Error::other)?)?;
                say(&mut stream, down.parse().map_err(io::Error::other)?)
            }
            _ => Err(io::Error::other(format!("what is {line:?}?"))),
        }
    }

    fn answer(&self, socket: &UdpSocket) {
        let mut bytes = vec![0; CHUNK];
        while !self.is_over() {
            if let Ok((len, peer)) = socket.recv_from(&mut bytes) {
                self.peers.lock().unwrap().push(peer);
                self.datagrams.fetch_add(1, Ordering::Release);
                let answer = [
                    self.name.as_bytes(),
                    b" ",
                    &bytes[..len],
                ]
                .concat();
                if let Err(error) = socket.send_to(&answer, peer) {
                    self.failed.lock().unwrap().push(error.to_string());
                }
            }
        }
    }
}

/// A stream that waits, but not for ever, and not after it was told to stop.
struct Patient<'a> {
    stream: &'a TcpStream,
    stop: Option<&'a AtomicBool>,
}

impl Patient<'_> {
    fn wait<T>(&self, mut once: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        let start = Instant::now();
        loop {
            match once() {
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    if self.stop.is_some_and(|it| it.load(Ordering::Acquire)) {
                        return Err(error);
                    }
                    if start.elapsed() > LIMIT {
                        return Err(io::Error::new(ErrorKind::TimedOut, "nothing moves"));
                    }
                }
                other => return other,
            }
        }
    }
}

impl Read for Patient<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut stream = self.stream;
        self.wait(|| stream.read(bytes))
    }
}

impl Write for Patient<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut stream = self.stream;
        self.wait(|| stream.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes of a stream from a place on: another eight at each place that is a multiple of eight.
pub(crate) fn pattern(from: u64, bytes: &mut [u8]) {
    assert!(from.is_multiple_of(8));
    for (word, eight) in (from / 8..).zip(bytes.chunks_mut(8)) {
        let mut mixed = word.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 32)).to_le_bytes();
        eight.copy_from_slice(&mixed[..eight.len()]);
    }
}

/// Sends so many bytes of the pattern.
fn say(stream: &mut impl Write, len: u64) -> io::Result<()> {
    each_chunk(len, |expected| stream.write_all(expected))
}

/// Receives so many bytes, each as in the pattern.
fn hear(stream: &mut impl Read, len: u64) -> io::Result<()> {
    let (mut bytes, mut at) = (vec![0; CHUNK], 0_u64);
    each_chunk(len, |expected| {
        let bytes = &mut bytes[..expected.len()];
        stream.read_exact(bytes)?;
        if let Some(other) = bytes.iter().zip(expected).position(|(a, b)| a != b) {
            return Err(io::Error::other(format!("other bytes at {at} + {other}")));
        }
        at += 1 << 16;
        Ok(())
    })
}

fn each_chunk(len: u64, mut with: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let (mut chunk, mut at) = (vec![0; CHUNK], 0);
    while at < len {
        let size = usize::try_from(len - at).unwrap_or(CHUNK).min(CHUNK);
        pattern(at, &mut chunk[..size]);
        with(&chunk[..size])?;
        at += u64::try_from(size).unwrap_or_default();
    }
    Ok(())
}

/// A connection whose server has said its name.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) server: String,
    stream: TcpStream,
    is_echo: bool,
}

impl Session {
    /// Connects from a machine, and hears the server's name.
    pub(crate) fn open(node: &Node, to: SocketAddr) -> io::Result<Session> {
        let connect = || TcpStream::connect_timeout(&to, LIMIT);
        Session::on(node.run(connect).unwrap()?)
    }

    /// Over a connection that was made otherwise.
    pub(crate) fn on(stream: TcpStream) -> io::Result<Session> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(GLANCE))?;
        stream.set_write_timeout(Some(GLANCE))?;
        let mut session = Session {
            server: String::new(),
            stream,
            is_echo: false,
        };
        let mut line = String::new();
        BufReader::with_capacity(1, session.patient()).read_line(&mut line)?;
        match line.strip_suffix('\n') {
            Some(name) => session.server = name.to_owned(),
            None => return Err(ErrorKind::UnexpectedEof.into()),
        }
        Ok(session)
    }

    fn patient(&self) -> Patient<'_> {
        Patient {
            stream: &self.stream,
            stop: None,
        }
    }

    pub(crate) fn local(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    /// Says something, and hears it again.
    pub(crate) fn echo(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut patient = self.patient();
        if !self.is_echo {
            patient.write_all(b"echo\n")?;
        }
        patient.write_all(bytes)?;
        let mut heard = vec![0; bytes.len()];
        patient.read_exact(&mut heard)?;
        self.is_echo = true;
        match heard == bytes {
            true => Ok(()),
            false => Err(io::Error::other("the echo is different")),
        }
    }

    /// Sends and receives so many bytes, one after the other, all of which both ends compare; then the
    /// server's end of the stream.
    pub(crate) fn bulk(self, up: u64, down: u64) -> io::Result<()> {
        let mut patient = self.patient();
        patient.write_all(format!("bulk {up} {down}\n").as_bytes())?;
        say(&mut patient, up)?;
        hear(&mut patient, down)?;
        self.end()
    }

    /// Ends the stream, and hears that the server does, too.
    pub(crate) fn end(self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)?;
        match self.patient().read(&mut [0])? {
            0 => Ok(()),
            _ => Err(io::Error::other("more than the server had to say")),
        }
    }
}

/// Who answers a connection; an error if nobody does.
pub(crate) fn try_who(node: &Node, to: SocketAddr) -> io::Result<String> {
    let session = Session::open(node, to)?;
    let name = session.server.clone();
    session.end()?;
    Ok(name)
}

/// Who answers a connection.
#[track_caller]
pub(crate) fn who(node: &Node, to: SocketAddr) -> String {
    try_who(node, to).unwrap_or_else(|error| panic!("{to}: {error}"))
}

/// Sends and receives so many bytes; who did so at the other end.
#[track_caller]
pub(crate) fn bulk(node: &Node, to: SocketAddr, bytes: u64) -> String {
    let result = Session::open(node, to).and_then(|session| {
        let name = session.server.clone();
        session.bulk(bytes, bytes)?;
        Ok(name)
    });
    result.unwrap_or_else(|error| panic!("{to}: {error}"))
}

/// A client's end for datagrams, connected, so that errors and only the right answers come.
#[track_caller]
pub(crate) fn datagrams(node: &Node, to: SocketAddr) -> UdpSocket {
    let any = match to {
        SocketAddr::V4(_) => IpAddr::from([0; 4]),
        SocketAddr::V6(_) => IpAddr::from([0; 16]),
    };
    let socket = node.run(|| UdpSocket::bind((any, 0))).unwrap().unwrap();
    socket.connect(to).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// Who answers a datagram on this socket. It is sent once.
pub(crate) fn ask(socket: &UdpSocket, question: &[u8]) -> io::Result<String> {
    socket.send(question)?;
    let mut bytes = vec![0; CHUNK];
    let len = deadline(LIMIT, || match socket.recv(&mut bytes) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        other => Some(other),
    })?;
    let answer = &bytes[..len];
    let name = answer
        .strip_suffix(question)
        .and_then(|it| it.strip_suffix(b" "));
    match name {
        Some(name) => Ok(String::from_utf8_lossy(name).into_owned()),
        None => Err(io::Error::other(format!("{answer:?}"))),
    }
}

/// Who answers a datagram, from a socket of its own.
#[track_caller]
pub(crate) fn who_udp(node: &Node, to: SocketAddr) -> String {
    let answer = ask(&datagrams(node, to), b"who?");
    answer.unwrap_or_else(|error| panic!("{to}: {error}"))
}
