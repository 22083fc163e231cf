//! One question to one server, by UDP and, where the answer does not fit, by TCP.

use super::error::{Error, Failure};
use super::message::{Outcome, Question, Reply, Unread};
use bpfsmith_uapi::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, socket};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

/// The longest that any wait can be.
const LONGEST: Duration = Duration::from_secs(3600);

/// Ends all waits that look at it, for good.
#[derive(Debug)]
pub(super) struct Stop(EventFd);

impl Stop {
    pub(super) fn new() -> Result<Stop, Error> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let made = EventFd::from_value_and_flags(0, flags);
        made.map(Stop).map_err(|errno| Error::Start {
            call: "eventfd",
            errno: Errno(errno as i32),
        })
    }

    /// Ends them. Nobody reads the counter, so it stays above zero.
    pub(super) fn raise(&self) {
        // It can only fail when the counter is at its end: then it is above zero.
        let _ = self.0.write(1);
    }
}

/// How long to wait, and for what besides.
struct Patience<'a> {
    until: Instant,
    stop: &'a Stop,
    /// How many packets came that are no answers.
    foreign: u32,
}

impl<'a> Patience<'a> {
    fn new(limit: Duration, stop: &'a Stop) -> Patience<'a> {
        Patience {
            until: Instant::now() + limit.min(LONGEST),
            stop,
            foreign: 0,
        }
    }

    /// Waits until a socket is ready.
    fn wait(&self, socket: &impl AsFd, events: PollFlags) -> Result<(), Failure> {
        loop {
            let left = self.until.saturating_duration_since(Instant::now());
            // Rounded up, so that the last millisecond is no busy loop.
            let left = PollTimeout::try_from(left + Duration::from_micros(999));
            let mut fds = [
                PollFd::new(self.stop.0.as_fd(), PollFlags::POLLIN),
                PollFd::new(socket.as_fd(), events),
            ];
            match poll(&mut fds, left.unwrap_or(PollTimeout::MAX)) {
                Ok(0) if Instant::now() >= self.until => {
                    return Err(Failure::Silent {
                        foreign: self.foreign,
                    });
                }
                Ok(0) | Err(nix::errno::Errno::EINTR) => {}
                Ok(_) if fds[0].any().unwrap_or(true) => return Err(Failure::Stopped),
                Ok(_) => return Ok(()),
                Err(errno) => return Err(refused("poll", errno)),
            }
        }
    }

    /// Does something with a socket when it is ready.
    fn ready<T>(
        &self,
        socket: &impl AsFd,
        events: PollFlags,
        call: &'static str,
        mut body: impl FnMut() -> std::io::Result<T>,
    ) -> Result<T, Failure> {
        loop {
            self.wait(socket, events)?;
            match body() {
                Ok(it) => return Ok(it),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(Failure::call(call, &error)),
            }
        }
    }

    /// What a message says, or nothing if it belongs to something else.
    fn read(&mut self, question: &Question, message: &[u8]) -> Result<Option<Reply>, Failure> {
        match question.read(message) {
            Ok(reply) => Ok(Some(reply)),
            Err(Unread::Garbled(what)) => Err(Failure::Garbled(what)),
            Err(Unread::Foreign) => {
                self.foreign = self.foreign.saturating_add(1);
                // Somebody who sends all the time does not hold anybody up for ever.
                match Instant::now() >= self.until {
                    true => Err(Failure::Silent {
                        foreign: self.foreign,
                    }),
                    false => Ok(None),
                }
            }
        }
    }
}

fn refused(call: &'static str, errno: nix::errno::Errno) -> Failure {
    Failure::Call {
        call,
        errno: Errno(errno as i32),
    }
}

/// Asks a server, and waits for its answer for so long, or for twice as long if TCP is needed.
pub(super) fn ask(
    server: SocketAddr,
    question: &Question,
    limit: Duration,
    stop: &Stop,
) -> Result<Outcome, Failure> {
    let mut reply = by_datagram(server, question, Patience::new(limit, stop))?;
    if reply == Reply::Truncated {
        reply = by_stream(server, question, Patience::new(limit, stop))?;
    }
    match reply {
        Reply::Answer(outcome) => Ok(outcome),
        Reply::Truncated => Err(Failure::Cut),
        Reply::Said(code) => Err(Failure::Said(code)),
        Reply::Referral => Err(Failure::Referral),
    }
}

/// From a socket of its own: the kernel chooses its port by chance, and takes packets from the server alone.
fn by_datagram(
    server: SocketAddr,
    question: &Question,
    mut patience: Patience<'_>,
) -> Result<Reply, Failure> {
    let own: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let call = |call| move |error| Failure::call(call, &error);
    let socket = UdpSocket::bind(own).map_err(call("bind"))?;
    socket.set_nonblocking(true).map_err(call("fcntl"))?;
    socket.connect(server).map_err(call("connect"))?;
    let bytes = question.to_bytes();
    patience.ready(&socket, PollFlags::POLLOUT, "send", || socket.send(&bytes))?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = patience.ready(&socket, PollFlags::POLLIN, "recv", || {
            socket.recv(&mut buffer)
        })?;
        let message = buffer.get(..length).unwrap_or_default();
        if let Some(reply) = patience.read(question, message)? {
            return Ok(reply);
        }
    }
}

fn by_stream(
    server: SocketAddr,
    question: &Question,
    mut patience: Patience<'_>,
) -> Result<Reply, Failure> {
    let stream = connected(server, &patience)?;
    let message = question.to_bytes();
    // A name has 255 bytes at most.
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    let bytes = [
        length.to_be_bytes().as_slice(),
        &message,
    ]
    .concat();
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let sent = patience.ready(&stream, PollFlags::POLLOUT, "send", || {
            (&stream).write(rest)
        })?;
        rest = rest.get(sent..).unwrap_or_default();
    }
    loop {
        let mut length = [0; 2];
        fill(&stream, &mut length, &patience)?;
        let mut message = vec![0; u16::from_be_bytes(length).into()];
        fill(&stream, &mut message, &patience)?;
        if let Some(reply) = patience.read(question, &message)? {
            return Ok(reply);
        }
    }
}

/// A connection that is made without blocking, so that whoever waits can be stopped.
fn connected(server: SocketAddr, patience: &Patience<'_>) -> Result<TcpStream, Failure> {
    let family = match server {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(family, SockType::Stream, flags, None).map_err(|it| refused("socket", it))?;
    match connect(fd.as_raw_fd(), &SockaddrStorage::from(server)) {
        Ok(()) | Err(nix::errno::Errno::EINPROGRESS) => {}
        Err(errno) => return Err(refused("connect", errno)),
    }
    let stream = TcpStream::from(fd);
    patience.wait(&stream, PollFlags::POLLOUT)?;
    let outcome = stream.take_error();
    match outcome.map_err(|error| Failure::call("getsockopt", &error))? {
        None => Ok(stream),
        Some(error) => Err(Failure::call("connect", &error)),
    }
}

fn fill(stream: &TcpStream, mut buffer: &mut [u8], patience: &Patience<'_>) -> Result<(), Failure> {
    while !buffer.is_empty() {
        let mut reader = stream;
        let got = patience.ready(stream, PollFlags::POLLIN, "recv", || reader.read(buffer))?;
        if got == 0 {
            return Err(Failure::Closed);
        }
        buffer = buffer.get_mut(got..).unwrap_or_default();
    }
    Ok(())
}
