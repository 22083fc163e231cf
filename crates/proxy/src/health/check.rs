//! [`Attempt`]: one check of one target.

use super::connect::{self, Connected};
use super::failure::Failure;
use super::status::{Question, Status, status};
use bpfsmith_config::desired::Check;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// What may come before a status is known: answers that only announce another one.
const HEARD: usize = 8192;

/// What is read for the sake of a good end after the answer is known.
const PARTING: usize = 64 << 10;

/// How long.
const PARTING_TIME: Duration = Duration::from_secs(1);

/// How much is read at once.
const CHUNK: usize = 4096;

/// One check of one target: a socket that never blocks, and how far it has come.
///
/// Whoever holds it waits for its socket with [`Interest::Changes`](bpfsmith_sys::epoll::Interest), calls
/// [`advance`](Attempt::advance) whenever something has changed there until it says
/// [`Waiting`](Step::Waiting) or [`Over`](Step::Over), and at [`until`](Attempt::until) asks whether it is
/// [`late`](Attempt::late), and drops it.
///
/// - A check of TCP is good as soon as the connection stands. Nothing is sent.
/// - A check of HTTP sends `GET PATH HTTP/1.1` and reads up to the status, no header and no body. Status lines of
///   100 to 199 but 101 are passed over with their headers. After 8 KiB without a status it has failed.
///   Without a host, the request names the target's address; a path without a slash in front gets one; what would
///   end a word of the request is sent as `%XX`.
///
/// When its answer is known, it reads on for up to a second and 64 KiB, until the target has ended the
/// connection too: else the kernel would reset it. The answer does not wait for that.
#[derive(Debug)]
pub struct Attempt {
    stream: TcpStream,
    /// Nothing for TCP.
    question: Option<Question>,
    phase: Phase,
    begun: Instant,
    timeout: Duration,
    until: Option<Instant>,
    heard: Vec<u8>,
    /// Why the request could not be sent, unless an answer had come before.
    unsent: Option<Failure>,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Connecting,
    /// So many bytes of the request are sent.
    Asking(usize),
    Listening,
    /// So many bytes may still be read.
    Parting(usize),
    Over,
}

/// What an attempt came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It waits for its socket.
    Waiting,
    /// The answer is known, once: how long it took, or why there is none.
    Known(Result<Duration, Failure>),
    /// There is nothing left to do: drop it.
    Over,
}

impl AsFd for Attempt {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Attempt {
    /// Begins to connect.
    ///
    /// # Errors
    /// What the kernel says at once, such as that there is no way.
    pub fn begin(
        address: SocketAddr,
        check: &Check,
        timeout: Duration,
        now: Instant,
    ) -> Result<Attempt, Failure> {
        Ok(Attempt {
            stream: connect::start(address)?,
            question: Question::of(check, address),
            phase: Phase::Connecting,
            begun: now,
            timeout,
            until: now.checked_add(timeout),
            heard: Vec::new(),
            unsent: None,
        })
    }

    /// When to ask whether it is late; never, if no clock gets there.
    #[must_use]
    pub const fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Why it failed now that its time is over, unless its answer was known before.
    #[must_use]
    pub const fn late(&self) -> Option<Failure> {
        match self.phase {
            Phase::Connecting => Some(Failure::NoConnection(self.timeout)),
            Phase::Asking(_) | Phase::Listening => Some(Failure::NoAnswer(self.timeout)),
            Phase::Parting(_) | Phase::Over => None,
        }
    }

    /// Goes on as far as it can without waiting.
    pub fn advance(&mut self, now: Instant) -> Step {
        loop {
            let step = match self.phase {
                Phase::Connecting => self.connect(now),
                Phase::Asking(sent) => self.ask(sent),
                Phase::Listening => self.listen(now),
                Phase::Parting(left) => Some(self.part(left)),
                Phase::Over => Some(Step::Over),
            };
            if let Some(step) = step {
                return step;
            }
        }
    }

    fn connect(&mut self, now: Instant) -> Option<Step> {
        match connect::look(&self.stream) {
            Ok(Connected::NotYet) => Some(Step::Waiting),
            Err(failure) => Some(self.broken(failure)),
            Ok(Connected::Yes) if self.question.is_some() => {
                self.phase = Phase::Asking(0);
                None
            }
            Ok(Connected::Yes) => {
                // It fails when the target has broken off meanwhile. It had accepted all the same.
                let _ = self.stream.shutdown(Shutdown::Write);
                Some(self.known(Ok(()), now))
            }
        }
    }

    fn ask(&mut self, sent: usize) -> Option<Step> {
        let bytes = self.question.as_ref().map(|question| &question.bytes[..]);
        let rest = bytes.and_then(|bytes| bytes.get(sent..)).unwrap_or(&[]);
        if rest.is_empty() {
            self.phase = Phase::Listening;
            return None;
        }
        match self.stream.write(rest) {
            Ok(count) => self.phase = Phase::Asking(sent + count),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(Step::Waiting),
            Err(error) => {
                // It may have answered without listening, as one that is full does.
                self.unsent = Some(Failure::of("write", &error));
                self.phase = Phase::Listening;
            }
        }
        None
    }

    fn listen(&mut self, now: Instant) -> Option<Step> {
        let mut chunk = [0; CHUNK];
        match self.stream.read(&mut chunk) {
            Ok(0) => {
                let failure = self.unsent.unwrap_or(Failure::Closed);
                return Some(self.broken(failure));
            }
            Ok(count) => self.heard.extend(chunk.iter().take(count)),
            Err(error) if error.kind() == ErrorKind::Interrupted => return None,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(Step::Waiting),
            Err(error) => return Some(self.broken(Failure::of("read", &error))),
        }
        let answer = match status(&self.heard) {
            Status::More if self.heard.len() < HEARD => return None,
            Status::More => Err(Failure::Endless(HEARD)),
            Status::Not => Err(Failure::NotHttp),
            Status::Code(code) => match &self.question {
                Some(question) if question.is_expected(code) => Ok(()),
                _ => Err(Failure::Status(code)),
            },
        };
        Some(self.known(answer, now))
    }

    /// The answer is known, and the connection still stands.
    fn known(&mut self, answer: Result<(), Failure>, now: Instant) -> Step {
        self.phase = Phase::Parting(PARTING);
        self.until = now.checked_add(PARTING_TIME);
        self.heard = Vec::new();
        Step::Known(answer.map(|()| now.saturating_duration_since(self.begun)))
    }

    /// There is no connection any more.
    fn broken(&mut self, failure: Failure) -> Step {
        self.phase = Phase::Over;
        Step::Known(Err(failure))
    }

    fn part(&mut self, mut left: usize) -> Step {
        let mut chunk = [0; CHUNK];
        while left > 0 {
            match self.stream.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => left = left.saturating_sub(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.phase = Phase::Parting(left);
                    return Step::Waiting;
                }
                // The answer is known; how the connection ends changes nothing.
                Err(_) => break,
            }
        }
        self.phase = Phase::Over;
        Step::Over
    }
}
