//! Asking a server on a Unix socket.

use super::chunks::Read as Came;
use super::error::{Error, Garbled, Result, number};
use super::message::Method;
use super::reply::{Reader, Reply};
use super::socket_file::{Patience, open};
use super::target::is_target;
use bpfsmith_uapi::Errno;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Asks on one socket. Each request has a connection of its own.
#[derive(Clone, Debug)]
pub struct Client {
    path: PathBuf,
    time: Duration,
    longest: usize,
}

impl Client {
    /// For the socket at the path. Nothing happens yet.
    pub fn unix(path: impl AsRef<Path>) -> Client {
        Client {
            path: path.as_ref().to_owned(),
            time: Duration::from_secs(30),
            longest: 64 << 20,
        }
    }

    /// So long may an answer take, with all that goes before; for a stream, until it begins. 30
    /// seconds if nothing is said.
    #[must_use]
    pub fn with_time(mut self, time: Duration) -> Client {
        self.time = time;
        self
    }

    /// So many bytes may an answer have. 64 MiB if nothing is said.
    #[must_use]
    pub fn with_longest(mut self, bytes: usize) -> Client {
        self.longest = bytes;
        self
    }

    /// Asks, and waits for the answer, whatever its status is. The target is one of
    /// [`target`](super::target()); the body is JSON.
    ///
    /// # Errors
    /// When nobody serves there or may be asked, when it takes too long, and when what comes is no
    /// answer.
    pub fn request(&self, method: Method, target: &str, body: &[u8]) -> Result<Reply> {
        let mut exchange = self.ask(method, target, body)?;
        let mut reply = exchange.head()?;
        loop {
            let came = exchange.reader.body(&mut reply.body);
            let came = came.map_err(|garbled| exchange.garbled(garbled))?;
            if reply.body.len() > self.longest {
                return Err(exchange.garbled(Garbled::Long));
            }
            match came {
                Came::Over => return Ok(reply),
                Came::Some => {}
                Came::More => exchange.fill()?,
            }
        }
    }

    /// Asks for a stream, and gives its lines as they come, however long that takes.
    ///
    /// # Errors
    /// As for a request, and when the status is not 200.
    pub fn stream(&self, target: &str) -> Result<Lines> {
        let mut exchange = self.ask(Method::GET, target, b"")?;
        let reply = exchange.head()?;
        if reply.status != 200 {
            let mut body = Vec::new();
            // What it says is told as far as it comes.
            while body.len() < 4096 {
                match exchange.reader.body(&mut body) {
                    Ok(Came::Some) => {}
                    Ok(Came::More) if exchange.fill().is_ok() => {}
                    _ => break,
                }
            }
            return Err(Error::Status {
                target: target.to_owned(),
                status: reply.status,
                body,
            });
        }
        exchange.until = None;
        Ok(Lines {
            exchange,
            body: Vec::new(),
            lines: VecDeque::new(),
            over: false,
        })
    }

    fn ask(&self, method: Method, target: &str, body: &[u8]) -> Result<Exchange> {
        if !is_target(target) {
            return Err(Error::Target {
                text: target.to_owned(),
            });
        }
        let until = Instant::now() + self.time;
        let stream = open(&self.path, Patience::Time(self.time))
            .map_err(|errno| Error::file("connect", &self.path, errno))?;
        let mut head = format!(
            "{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n",
            body.len()
        );
        if !body.is_empty() {
            head.push_str("Content-Type: application/json\r\n");
        }
        head.push_str("\r\n");
        let mut exchange = Exchange {
            stream,
            reader: Reader::default(),
            until: Some(until),
            path: self.path.clone(),
            seconds: self.time.as_secs(),
        };
        exchange.write(head.as_bytes())?;
        exchange.write(body)?;
        Ok(exchange)
    }
}

/// One request and its answer.
#[derive(Debug)]
struct Exchange {
    stream: UnixStream,
    reader: Reader,
    until: Option<Instant>,
    path: PathBuf,
    seconds: u64,
}

impl Exchange {
    fn garbled(&self, garbled: Garbled) -> Error {
        Error::Garbled {
            path: self.path.clone(),
            garbled,
        }
    }

    fn failed(&self, call: &'static str, error: &std::io::Error) -> Error {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => self.late(),
            _ => Error::file(call, &self.path, number(error)),
        }
    }

    fn late(&self) -> Error {
        Error::Late {
            path: self.path.clone(),
            seconds: self.seconds,
        }
    }

    fn left(&self) -> Result<Option<Duration>> {
        let Some(until) = self.until else {
            return Ok(None);
        };
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.late());
        }
        Ok(Some(left))
    }

    /// A server that does not read to the end has answered already.
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let mut left = bytes;
        while !left.is_empty() {
            let time = self.left()?;
            let set = self.stream.set_write_timeout(time);
            set.map_err(|error| self.failed("setsockopt", &error))?;
            match self.stream.write(left) {
                Ok(count) => left = left.get(count..).unwrap_or_default(),
                Err(error) => match (error.kind(), number(&error)) {
                    (ErrorKind::Interrupted, _) => {}
                    (_, Errno::EPIPE | Errno::ECONNRESET) => return Ok(()),
                    _ => return Err(self.failed("write", &error)),
                },
            }
        }
        Ok(())
    }

    /// Waits for more; the end is an error.
    fn fill(&mut self) -> Result<()> {
        let mut bytes = vec![0; 16 << 10];
        loop {
            let time = self.left()?;
            let set = self.stream.set_read_timeout(time);
            set.map_err(|error| self.failed("setsockopt", &error))?;
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(self.garbled(Garbled::Cut)),
                Ok(count) => {
                    self.reader.push(bytes.get(..count).unwrap_or_default());
                    return Ok(());
                }
                Err(error) => match (error.kind(), number(&error)) {
                    (ErrorKind::Interrupted, _) => {}
                    (_, Errno::ECONNRESET) => return Err(self.garbled(Garbled::Cut)),
                    _ => return Err(self.failed("read", &error)),
                },
            }
        }
    }

    fn head(&mut self) -> Result<Reply> {
        loop {
            match self.reader.head() {
                Ok(Some(reply)) => return Ok(reply),
                Ok(None) => self.fill()?,
                Err(garbled) => return Err(self.garbled(garbled)),
            }
        }
    }
}

/// A line may have so many bytes.
const LINE: usize = 1 << 20;

/// The lines of a stream, without their line feeds. It ends when the server says so; if the server
/// goes without a word, the last item is an error. Dropping it ends the stream.
#[derive(Debug)]
pub struct Lines {
    exchange: Exchange,
    /// What is no complete line yet.
    body: Vec<u8>,
    lines: VecDeque<Vec<u8>>,
    over: bool,
}

impl Lines {
    /// What another thread can end it with.
    ///
    /// # Errors
    /// When the process has too many open files.
    pub fn hangup(&self) -> Result<Hangup> {
        let stream = self.exchange.stream.try_clone();
        let stream = stream.map_err(|error| self.exchange.failed("dup", &error))?;
        Ok(Hangup { stream })
    }

    fn advance(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Ok(Some(line));
            }
            if self.over {
                return Ok(None);
            }
            let before = self.body.len();
            let came = self.exchange.reader.body(&mut self.body);
            match came.map_err(|garbled| self.exchange.garbled(garbled))? {
                Came::Some => self.split(before)?,
                Came::More => self.exchange.fill()?,
                Came::Over => {
                    self.over = true;
                    if !self.body.is_empty() {
                        return Ok(Some(std::mem::take(&mut self.body)));
                    }
                }
            }
        }
    }

    /// Takes out what became lines; before `from` there is no line feed.
    fn split(&mut self, mut from: usize) -> Result<()> {
        while let Some(at) = self.body[from..].iter().position(|&b| b == b'\n') {
            let rest = self.body.split_off(from + at + 1);
            let mut line = std::mem::replace(&mut self.body, rest);
            line.pop();
            self.lines.push_back(line);
            from = 0;
        }
        if self.body.len() > LINE {
            return Err(self.exchange.garbled(Garbled::Line));
        }
        Ok(())
    }
}

impl Iterator for Lines {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Result<String>> {
        let line = self.advance().and_then(|line| {
            let text = line.map(String::from_utf8).transpose();
            text.map_err(|_| self.exchange.garbled(Garbled::Line))
        });
        if line.is_err() {
            // There is nothing after an error.
            self.over = true;
            self.lines.clear();
            self.body.clear();
        }
        line.transpose()
    }
}

/// Ends a stream from another thread, which then gets the error of an answer that was cut.
#[derive(Debug)]
pub struct Hangup {
    stream: UnixStream,
}

impl Hangup {
    /// Ends it. A stream that ended before is no error.
    pub fn hang_up(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}
