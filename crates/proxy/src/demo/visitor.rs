//! Those who ask: [`Session`], [`Crowd`], [`Download`]. All are at the client's machine.

use super::backend::byte;
use super::error::{Error, Result};
use super::world::{SERVICE, TREES};
use crate::lock::locked;
use bpfsmith_net::Node;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// An answer that takes longer does not come.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether more requests follow on the same connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    More,
    Close,
}

/// A connection through the proxy.
#[derive(Debug)]
pub(super) struct Session {
    reader: BufReader<TcpStream>,
}

impl Session {
    /// Connects from that address. It belongs to the machine of the calling thread.
    pub(super) fn open(source: Ipv4Addr) -> io::Result<Session> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
        // It also says how long connecting may take.
        let time = TimeVal::milliseconds(i64::try_from(PATIENCE.as_millis()).unwrap_or(5000));
        setsockopt(&socket, sockopt::SendTimeout, &time)?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &time)?;
        // So the kernel takes one port after the other when it connects, as it does for most clients.
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
        let own = SockaddrIn::from(SocketAddrV4::new(source, 0));
        bind(socket.as_raw_fd(), &own)?;
        connect(socket.as_raw_fd(), &SockaddrIn::from(SERVICE))?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        Ok(Session {
            reader: BufReader::new(stream),
        })
    }

    /// Asks, and reads the head of the answer: who answers, and how many bytes follow.
    fn ask(&mut self, path: &str, then: Then) -> io::Result<(usize, u64)> {
        let connection = match then {
            Then::More => "keep-alive",
            Then::Close => "close",
        };
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {SERVICE}\r\nConnection: {connection}\r\n\r\n");
        self.reader.get_mut().write_all(request.as_bytes())?;
        let (mut name, mut bytes) = (None, None);
        let status = self.row()?;
        if status != "HTTP/1.1 200 OK" {
            return Err(strange(&status));
        }
        loop {
            let row = self.row()?;
            match row.split_once(": ") {
                Some(("Server", server)) => {
                    name = TREES.iter().position(|tree| *tree == server);
                }
                Some(("Content-Length", length)) => bytes = length.parse().ok(),
                _ if row.is_empty() => break,
                _ => {}
            }
        }
        match (name, bytes) {
            (Some(name), Some(bytes)) => Ok((name, bytes)),
            _ => Err(strange("an answer of somebody else")),
        }
    }

    fn row(&mut self) -> io::Result<String> {
        let mut row = String::new();
        if self.reader.read_line(&mut row)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(row.trim_end().to_owned())
    }

    /// Who answers.
    pub(super) fn name(&mut self, then: Then) -> io::Result<usize> {
        let (name, bytes) = self.ask("/", then)?;
        let mut body = vec![0; usize::try_from(bytes.min(4096)).unwrap_or(0)];
        self.reader.read_exact(&mut body)?;
        let said = String::from_utf8_lossy(&body);
        match TREES.get(name) {
            Some(tree) if said.trim() == *tree => Ok(name),
            _ => Err(strange(&said)),
        }
    }
}

fn strange(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("answered {what:?}"))
}

/// What came of a request.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) begun: Instant,
    pub(super) took: Duration,
    /// Who answered, or why nobody did.
    pub(super) by: std::result::Result<usize, String>,
}

impl Asked {
    fn now(source: Ipv4Addr) -> Asked {
        let begun = Instant::now();
        let by = Session::open(source).and_then(|mut session| session.name(Then::Close));
        Asked {
            begun,
            took: begun.elapsed(),
            by: by.map_err(|error| error.to_string()),
        }
    }
}

/// Requests one after the other, in a thread of their own: each on a connection of its own.
#[derive(Debug)]
pub(super) struct Crowd {
    asked: Arc<Mutex<Vec<Asked>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
    count: u32,
}

impl Crowd {
    /// So many requests, or as many as fit until it is stopped; with a pause after each.
    pub(super) fn start(
        client: &Arc<Node>,
        source: Ipv4Addr,
        count: Option<u32>,
        pause: Duration,
    ) -> Result<Crowd> {
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let stop: Arc<AtomicBool> = Arc::default();
        let client = Arc::clone(client);
        let (list, end) = (Arc::clone(&asked), Arc::clone(&stop));
        let body = move || {
            let mut number = 0;
            while count.is_none_or(|count| number < count) && !end.load(Ordering::Relaxed) {
                let one = Asked::now(source);
                locked(&list).push(one);
                number = number.saturating_add(1);
                thread::sleep(pause);
            }
        };
        let thread = thread::Builder::new().name("crowd".to_owned());
        let thread = thread.spawn(move || Ok(client.run(body)?));
        Ok(Crowd {
            asked,
            stop,
            thread: Some(thread.map_err(Error::machine("clone"))?),
            count: count.unwrap_or(0),
        })
    }

    /// So long may all of them take, on a machine that is very busy.
    pub(super) fn time(&self) -> Duration {
        Duration::from_millis(50) * self.count
    }

    /// What came of them until now.
    pub(super) fn asked(&self) -> Vec<Asked> {
        locked(&self.asked).clone()
    }

    /// Whether all are through.
    pub(super) fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends it, after the request that is on its way.
    pub(super) fn end(mut self) -> Result<Vec<Asked>> {
        self.stop.store(true, Ordering::Relaxed);
        joined(self.thread.take())?;
        Ok(self.asked())
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // It is dropped where something else has failed.
        let _ = joined(self.thread.take());
    }
}

fn joined<T: Default>(thread: Option<JoinHandle<Result<T>>>) -> Result<T> {
    match thread.map(JoinHandle::join) {
        None => Ok(T::default()),
        Some(Ok(done)) => done,
        Some(Err(panic)) if std::thread::panicking() => {
            drop(panic);
            Ok(T::default())
        }
        Some(Err(panic)) => std::panic::resume_unwind(panic),
    }
}

/// A long answer, which is read in a thread of its own.
#[derive(Debug)]
pub(super) struct Download {
    /// Who sends it.
    pub(super) by: usize,
    /// How many bytes it has.
    pub(super) bytes: u64,
    came: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<u64>>>,
}

impl Download {
    pub(super) fn start(client: &Arc<Node>, source: Ipv4Addr, bytes: u64) -> Result<Download> {
        let path = format!("/download/{bytes}");
        let begin = || {
            let mut session = Session::open(source)?;
            let (by, bytes) = session.ask(&path, Then::Close)?;
            Ok((session, by, bytes))
        };
        let (session, by, bytes) = client
            .run(begin)?
            .map_err(Error::machine("GET /download"))?;
        let came: Arc<AtomicU64> = Arc::default();
        let stop: Arc<AtomicBool> = Arc::default();
        let (count, end) = (Arc::clone(&came), Arc::clone(&stop));
        let thread = thread::Builder::new().name("download".to_owned());
        let thread = thread.spawn(move || {
            let read = read(session, bytes, &count, &end);
            read.map_err(Error::machine("read the download"))
        });
        Ok(Download {
            by,
            bytes,
            came,
            stop,
            thread: Some(thread.map_err(Error::machine("clone"))?),
        })
    }

    /// How many bytes have come.
    pub(super) fn came(&self) -> u64 {
        self.came.load(Ordering::Relaxed)
    }

    pub(super) fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// How many bytes came that were not those that were sent. Waits for the end.
    pub(super) fn end(mut self) -> Result<u64> {
        joined(self.thread.take())
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // It is dropped where something else has failed.
        let _ = joined(self.thread.take());
    }
}

/// Reads so many bytes; how many of them are wrong.
fn read(mut session: Session, bytes: u64, came: &AtomicU64, stop: &AtomicBool) -> io::Result<u64> {
    let (mut at, mut wrong) = (0, 0);
    let mut piece = vec![0; 64 << 10];
    while at < bytes && !stop.load(Ordering::Relaxed) {
        let count = session.reader.read(&mut piece)?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        for found in piece.iter().take(count) {
            wrong += u64::from(*found != byte(at));
            at += 1;
        }
        came.store(at, Ordering::Relaxed);
    }
    Ok(wrong)
}
