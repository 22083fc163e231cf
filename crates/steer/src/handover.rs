//! Listening sockets that go to another process, with the labels of their services.
//!
//! The sockets themselves go: what clients began stays in their queues, whoever accepts it, and no
//! connection is refused on the way. [`send`] comes back when the other end has all of them; from then on
//! the sender may close its own.
//!
//! ```no_run
//! use bpfsmith_steer::handover::{self, Offer};
//! use bpfsmith_steer::Label;
//! use std::net::TcpListener;
//! use std::os::unix::net::UnixStream;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (old, new) = UnixStream::pair()?;
//! # let listener = TcpListener::bind("127.0.0.1:0")?;
//! // The old process:
//! handover::send(&old, &[Offer::new(Label::new("web")?, &listener)])?;
//! drop(listener);
//!
//! // The new one:
//! for arrival in handover::receive(&new)?.take()? {
//!     println!("{} at {}", arrival.label, arrival.address);
//! }
//! # Ok(())
//! # }
//! ```

use crate::binding::{Label, Protocol};
use crate::error::{Error, HandoverProblem, Result};
use crate::sockets::steerable;
use bpfsmith_sys::{Refused, pass};
use bpfsmith_uapi::Errno;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// What the first bytes are.
const MAGIC: [u8; 4] = *b"bsho";
const VERSION: u16 = 1;
/// The head of a hand-over: magic, version, how many sockets.
const HEAD: usize = 8;
/// How many sockets go at once.
const MOST: u16 = 1024;
/// The answer of who takes nothing.
const REFUSED: [u8; 2] = [0xff; 2];

/// A socket of a service, to be handed over.
#[derive(Clone, Debug)]
pub struct Offer<'a> {
    label: Label,
    socket: BorrowedFd<'a>,
}

impl<'a> Offer<'a> {
    /// A socket of a service.
    #[must_use]
    pub fn new(label: Label, socket: &'a impl AsFd) -> Offer<'a> {
        Offer {
            label,
            socket: socket.as_fd(),
        }
    }
}

/// A socket that arrived.
#[derive(Debug)]
pub struct Arrival {
    /// Of which service it is.
    pub label: Label,
    /// Where it listens, or is bound.
    pub address: SocketAddr,
    /// The socket.
    pub socket: Handed,
}

/// A socket, by its protocol.
#[derive(Debug)]
pub enum Handed {
    /// It listens.
    Tcp(TcpListener),
    /// It takes datagrams.
    Udp(UdpSocket),
}

impl AsFd for Handed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Handed::Tcp(socket) => socket.as_fd(),
            Handed::Udp(socket) => socket.as_fd(),
        }
    }
}

/// Sockets that arrived, and that the sender still waits for somebody to take.
#[derive(Debug)]
#[must_use = "the sender waits until they are taken"]
pub struct Delivery<'a> {
    stream: &'a UnixStream,
    arrivals: Vec<Arrival>,
}

/// Hands sockets over, and waits until the other end has taken them. They stay open here. It waits as
/// long as the stream does: `set_read_timeout` and `set_write_timeout` say how long.
///
/// # Errors
/// [`Error::Socket`] when nothing could be steered to a socket: then nothing is sent.
/// [`HandoverProblem`] says what else went wrong. The sockets go on as before, but the stream is not to be
/// used again.
pub fn send(stream: &UnixStream, offers: &[Offer<'_>]) -> Result<()> {
    let count = u16::try_from(offers.len()).unwrap_or(u16::MAX);
    if count > MOST {
        return Err(Error::Handover(HandoverProblem::TooMany {
            sockets: offers.len(),
            most: MOST.into(),
        }));
    }
    for offer in offers {
        steerable(offer.socket).map_err(|wrong| wrong.at(&offer.label))?;
    }
    let mut head = Vec::from(MAGIC);
    head.extend(VERSION.to_be_bytes());
    head.extend(count.to_be_bytes());
    write(stream, &head)?;
    for offer in offers {
        // The length alone carries the descriptor: one byte is never split.
        let text = offer.label.as_str().as_bytes();
        let length = [u8::try_from(text.len()).unwrap_or(0)];
        pass::send(stream.as_fd(), &length, &[offer.socket]).map_err(lost)?;
        write(stream, text)?;
    }
    let mut took = [0; 2];
    read(stream, &mut took)?;
    let took = u16::from_be_bytes(took);
    if took == count {
        return Ok(());
    }
    Err(Error::Handover(HandoverProblem::Refused {
        took: took.into(),
        sent: count.into(),
    }))
}

/// Receives what [`send`] sends, as long as the stream waits. Let only those connect to it whose sockets
/// you would serve.
///
/// # Errors
/// [`Error::Socket`] when nothing can be steered to what came; [`HandoverProblem`] says what else went
/// wrong. What came is closed again, here, and the stream is not to be used again.
pub fn receive(stream: &UnixStream) -> Result<Delivery<'_>> {
    match deliver(stream) {
        Err(error) => {
            // The sender would wait for an answer. If it is gone, the error says so already.
            let _ = write(stream, &REFUSED);
            Err(error)
        }
        delivered => delivered,
    }
}

fn deliver(stream: &UnixStream) -> Result<Delivery<'_>> {
    let mut head = [0; HEAD];
    read(stream, &mut head)?;
    let [a, b, c, d, v, w, n, m] = head;
    if [a, b, c, d] != MAGIC {
        return Err(Error::Handover(HandoverProblem::Garbled));
    }
    let found = u16::from_be_bytes([v, w]);
    if found != VERSION {
        return Err(Error::Handover(HandoverProblem::Version {
            found,
            ours: VERSION,
        }));
    }
    let count = u16::from_be_bytes([n, m]);
    if count > MOST {
        return Err(Error::Handover(HandoverProblem::TooMany {
            sockets: count.into(),
            most: MOST.into(),
        }));
    }
    let arrivals = (0..count).map(|_| arrival(stream));
    let arrivals = arrivals.collect::<Result<_>>()?;
    Ok(Delivery { stream, arrivals })
}

fn arrival(stream: &UnixStream) -> Result<Arrival> {
    let garbled = || Error::Handover(HandoverProblem::Garbled);
    let mut length = [0];
    let (read_now, fds) = pass::receive(stream.as_fd(), &mut length).map_err(lost)?;
    if read_now == 0 {
        return Err(Error::Handover(HandoverProblem::Closed));
    }
    let [fd] = <[OwnedFd; 1]>::try_from(fds).map_err(|_| garbled())?;
    let mut text = vec![0; length[0].into()];
    read(stream, &mut text)?;
    let text = str::from_utf8(&text).map_err(|_| garbled())?;
    let label = Label::new(text)?;
    let (protocol, address) = steerable(fd.as_fd()).map_err(|wrong| wrong.at(&label))?;
    let socket = match protocol {
        Protocol::Tcp => Handed::Tcp(fd.into()),
        Protocol::Udp => Handed::Udp(fd.into()),
    };
    Ok(Arrival {
        label,
        address,
        socket,
    })
}

impl Delivery<'_> {
    /// What arrived.
    #[must_use]
    pub fn arrivals(&self) -> &[Arrival] {
        &self.arrivals
    }

    /// Takes all of it, and tells the sender.
    ///
    /// # Errors
    /// When the sender is gone: the sockets are closed then.
    pub fn take(self) -> Result<Vec<Arrival>> {
        let count = u16::try_from(self.arrivals.len()).unwrap_or(u16::MAX);
        write(self.stream, &count.to_be_bytes())?;
        Ok(self.arrivals)
    }

    /// Takes nothing, closes what arrived, and tells the sender, who goes on with its own.
    ///
    /// # Errors
    /// When the sender is gone.
    pub fn refuse(self) -> Result<()> {
        write(self.stream, &REFUSED)
    }
}

fn write(mut stream: &UnixStream, bytes: &[u8]) -> Result<()> {
    stream
        .write_all(bytes)
        .map_err(|error| failed("write", &error))
}

fn read(mut stream: &UnixStream, bytes: &mut [u8]) -> Result<()> {
    stream
        .read_exact(bytes)
        .map_err(|error| failed("read", &error))
}

fn lost(refused: Refused) -> Error {
    match refused.errno {
        Errno::EPIPE | Errno::ECONNRESET => Error::Handover(HandoverProblem::Closed),
        Errno::EAGAIN => Error::Handover(HandoverProblem::TimedOut),
        _ => refused.into(),
    }
}

fn failed(call: &'static str, error: &std::io::Error) -> Error {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof, WouldBlock};
    match error.kind() {
        UnexpectedEof | BrokenPipe | ConnectionReset => Error::Handover(HandoverProblem::Closed),
        WouldBlock => Error::Handover(HandoverProblem::TimedOut),
        _ => Error::file(call, "the stream of a hand-over", error),
    }
}

#[cfg(test)]
mod tests {
    use super::{Handed, Offer, receive, send};
    use crate::binding::Label;
    use crate::error::{Error, HandoverProblem};
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    fn problem<T: std::fmt::Debug>(done: Result<T, Error>) -> HandoverProblem {
        match done.unwrap_err() {
            Error::Handover(problem) => problem,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn sockets_arrive_with_their_labels_and_queues() {
        let (old, new) = UnixStream::pair().unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = tcp.local_addr().unwrap();
        let early = TcpStream::connect(at).unwrap();
        let web = Label::new("web").unwrap();
        let dns = Label::new("dns").unwrap();
        let arrivals = std::thread::scope(|scope| {
            let receiver = scope.spawn(|| receive(&new).unwrap().take().unwrap());
            let offers = [
                Offer::new(web.clone(), &tcp),
                Offer::new(dns.clone(), &udp),
            ];
            send(&old, &offers).unwrap();
            receiver.join().unwrap()
        });
        drop(tcp);
        assert_eq!(arrivals.len(), 2);
        assert_eq!((&arrivals[0].label, arrivals[0].address), (&web, at));
        assert_eq!(arrivals[1].label, dns);
        let Handed::Tcp(listener) = &arrivals[0].socket else {
            panic!("{:?}", arrivals[0]);
        };
        let (_, from) = listener.accept().unwrap();
        assert_eq!(from, early.local_addr().unwrap(), "what waited is there");
        assert!(matches!(arrivals[1].socket, Handed::Udp(_)));
    }

    #[test]
    fn what_goes_wrong_is_told_to_both() {
        let (old, new) = UnixStream::pair().unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let web = Label::new("web").unwrap();
        let sent = std::thread::scope(|scope| {
            let sender = scope.spawn(|| send(&old, &[Offer::new(web.clone(), &tcp)]));
            receive(&new).unwrap().refuse().unwrap();
            sender.join().unwrap()
        });
        let refused = HandoverProblem::Refused {
            took: 0xffff,
            sent: 1,
        };
        assert_eq!(problem(sent), refused);

        (&old).write_all(b"GET / HTTP/1.1").unwrap();
        assert_eq!(problem(receive(&new)), HandoverProblem::Garbled);
        let mut told = [0; 2];
        (&old).read_exact(&mut told).unwrap();
        assert_eq!(told, [0xff; 2], "nobody waits in vain");
        let (old, new) = UnixStream::pair().unwrap();
        (&old).write_all(b"bsho\x00\x07\x00\x01").unwrap();
        let version = HandoverProblem::Version { found: 7, ours: 1 };
        assert_eq!(problem(receive(&new)), version);
        (&old).write_all(b"bsho\x00\x01\x00\x01").unwrap();
        drop(old);
        assert_eq!(problem(receive(&new)), HandoverProblem::Closed);
        let (old, new) = UnixStream::pair().unwrap();
        (&old).write_all(b"bsho\x00\x01\x00\x01\x03web").unwrap();
        let no_socket = problem(receive(&new));
        assert_eq!(
            no_socket,
            HandoverProblem::Garbled,
            "a label without a socket"
        );
    }

    #[test]
    fn what_listens_to_nothing_is_not_handed_over() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
        let web = Label::new("web").unwrap();
        let (old, new) = UnixStream::pair().unwrap();
        let both = [
            Offer::new(web.clone(), &tcp),
            Offer::new(web, &client),
        ];
        let text = send(&old, &both).unwrap_err().to_string();
        assert_eq!(
            text,
            "a socket for web: it does not listen (call listen first)"
        );
        // One who asks nobody, sends it all the same.
        let file = std::fs::File::open("/dev/null").unwrap();
        for (fd, what) in [
            (client.as_fd(), "it does not listen"),
            (file.as_fd(), "it is no socket"),
        ] {
            let (old, new) = UnixStream::pair().unwrap();
            (&old).write_all(b"bsho\x00\x01\x00\x01").unwrap();
            bpfsmith_sys::pass::send(old.as_fd(), b"\x03", &[fd]).unwrap();
            (&old).write_all(b"web").unwrap();
            let text = receive(&new).unwrap_err().to_string();
            assert!(text.contains(what), "{text}");
        }
        // Nothing of it was sent.
        new.set_nonblocking(true).unwrap();
        assert_eq!(problem(receive(&new)), HandoverProblem::TimedOut);
    }
}
