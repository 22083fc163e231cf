//! [`Joined`]: a pair of connections, and what is left to do for it.

use crate::error::{Error, Result, Side};
use crate::flow::{Direction, End, Stand, consumed};
use crate::splicer::Shared;
use bpfsmith_sys::epoll::{Epoll, Interest};
use bpfsmith_sys::socket::{cookie, keep_urgent_in_line, reset_on_close};
use bpfsmith_uapi::Errno;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

/// Two joined connections.
///
/// Put its sockets into an epoll set with [`watch`](Joined::watch), and call
/// [`advance`](Joined::advance) whenever one of them is ready, and when the time is over that it
/// returned. While bytes flow, nothing of that happens: it is woken by the end of a stream and by
/// errors.
///
/// Dropped before its end, it resets both connections: whoever has got a part of a stream only must
/// not take it for the whole.
#[derive(Debug)]
pub struct Joined {
    ends: [End; 2],
    directions: [Direction; 2],
    shared: Option<Arc<Shared>>,
    watched: Option<Interest>,
    is_over: bool,
}

/// Who moves the bytes of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// The kernel, both ways.
    Spliced,
    /// User space, one way or both.
    Copied,
}

/// What to do next for a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Wait for its sockets.
    Wait,
    /// Wait for its sockets, and this long at most.
    Within(Duration),
    /// It is over: drop it.
    Over(Outcome),
}

/// How a pair came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Both streams ended, and each byte of them is with the other side's socket.
    Ended,
    /// A connection broke, and the other one was reset.
    Broken {
        /// The one that broke.
        side: Side,
        /// Why: `ECONNRESET`, `ETIMEDOUT`, …; `ENOBUFS` for one that does not read and whose
        /// buffer was full of scraps, or if the kernel had no memory to take away bytes that came
        /// twice; `EFAULT` if a worker of the kernel had no memory to
        /// send, or no known number on Linux 6.0 to 6.4.
        errno: Errno,
    },
}

/// Two sockets that could not be joined, for the caller to do something else with.
#[derive(thiserror::Error)]
#[error("{error}")]
pub struct NotJoined {
    /// The sockets, as they were given; they are non-blocking now.
    pub streams: [TcpStream; 2],
    /// Why.
    pub error: Error,
}

bpfsmith_uapi::debug_as_display!(NotJoined);

impl Joined {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        streams: [TcpStream; 2],
        entered: Option<(u64, u32)>,
    ) -> std::result::Result<Joined, NotJoined> {
        let ends = match prepare(streams) {
            Ok(ends) => ends,
            Err(failed) => return Err(*failed),
        };
        match Joined::enter(shared, &ends, entered) {
            Ok(directions) => Ok(Joined {
                ends,
                directions,
                shared: Some(Arc::clone(shared)),
                watched: None,
                is_over: false,
            }),
            Err(error) => {
                // What failed first is what the caller wants to know.
                let _ = ends
                    .iter()
                    .try_for_each(|end| shared.forget_source(end.cookie, &end.stream));
                Err(NotJoined {
                    streams: ends.map(|end| end.stream),
                    error,
                })
            }
        }
    }

    /// First both know where their bytes go, then bytes flow: none finds its way closed.
    /// The first one may have been entered before, when this much of its stream was read and unread.
    fn enter(
        shared: &Shared,
        ends: &[End; 2],
        entered: Option<(u64, u32)>,
    ) -> Result<[Direction; 2]> {
        let [first, second] = ends;
        let read = match entered {
            Some(read) => read,
            None => consumed(&first.stream)?,
        };
        let read = [read, consumed(&second.stream)?];
        shared.pair(Side::First, first.cookie, &second.stream)?;
        if entered.is_none() {
            shared.pair(Side::Second, second.cookie, &first.stream)?;
        }
        // The second one mostly answers the first: it must not have ended before it flows.
        let back = Direction::start(Side::Second, ends, read[1], shared)?;
        let there = Direction::start(Side::First, ends, read[0], shared)?;
        Ok([there, back])
    }

    /// A pair whose bytes are copied in user space: for what the kernel does not take. It is driven
    /// the same way.
    ///
    /// # Errors
    /// When a socket cannot be made non-blocking.
    pub fn copying(first: TcpStream, second: TcpStream) -> std::result::Result<Joined, NotJoined> {
        let ends = match prepare([first, second]) {
            Ok(ends) => ends,
            Err(failed) => return Err(*failed),
        };
        Ok(Joined {
            ends,
            directions: [
                Direction::copied(Side::First),
                Direction::copied(Side::Second),
            ],
            shared: None,
            watched: None,
            is_over: false,
        })
    }

    /// The cookies of both sockets.
    #[must_use]
    pub fn cookies(&self) -> [u64; 2] {
        [self.ends[0].cookie, self.ends[1].cookie]
    }

    /// The socket of a side.
    #[must_use]
    pub fn stream(&self, side: Side) -> &TcpStream {
        &self.ends[side.index()].stream
    }

    /// Who moves the bytes.
    #[must_use]
    pub fn way(&self) -> Way {
        match self.shared {
            Some(_) if self.directions.iter().all(|it| !it.is_copying()) => Way::Spliced,
            _ => Way::Copied,
        }
    }

    /// Bytes that the kernel moved, of streams that have ended; and bytes that user space copied.
    #[must_use]
    pub fn moved(&self) -> [u64; 2] {
        let [one, two] = &self.directions;
        [
            one.spliced + two.spliced,
            one.copied + two.copied,
        ]
    }

    /// The receiver of what this socket gets is too far behind, says [`Splicer::behind`]: from now on
    /// the sender waits, and user space copies what had been sent. Call
    /// [`advance`](Joined::advance) after it.
    ///
    /// [`Splicer::behind`]: crate::Splicer::behind
    pub fn fell_behind(&mut self, cookie: u64) {
        for (end, direction) in self.ends.iter().zip(&mut self.directions) {
            if end.cookie == cookie {
                direction.fell_behind();
            }
        }
    }

    /// Puts both sockets into the set, or has the set wait for what matters now: call it after each
    /// [`advance`](Joined::advance), with the same set and tokens.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn watch(&mut self, epoll: &Epoll, tokens: [u64; 2]) -> Result<()> {
        let copies = self.directions.iter().any(Direction::is_copying);
        let interest = if copies {
            Interest::Changes
        } else {
            Interest::End
        };
        if self.watched == Some(interest) {
            return Ok(());
        }
        for (end, token) in self.ends.iter().zip(tokens) {
            let socket = end.stream.as_fd();
            match self.watched {
                None => epoll.add(socket, interest, token)?,
                Some(_) => epoll.change(socket, interest, token)?,
            }
        }
        self.watched = Some(interest);
        Ok(())
    }

    /// Does what there is to do.
    ///
    /// # Errors
    /// When the kernel refuses what it never should. The pair is to be dropped then.
    pub fn advance(&mut self) -> Result<Next> {
        if let Some(next) = self.broken()? {
            return Ok(next);
        }
        let shared = self.shared.as_deref();
        let mut stands = [Stand::Quiet; 2];
        for (direction, stand) in self.directions.iter_mut().zip(&mut stands) {
            match direction.advance(&self.ends, shared) {
                Ok(Stand::Lost) => {
                    let side = direction.to();
                    return self.break_off(side, Errno::ENOBUFS);
                }
                Ok(done) => *stand = done,
                // The socket knows why, or it has been told to this very call.
                Err(Error::Io { call, error }) => {
                    let errno = Errno::of(&error).unwrap_or(Errno::EIO);
                    let side = direction.side_of(call);
                    let next = self.broken()?;
                    return match next {
                        Some(next) => Ok(next),
                        None => self.break_off(side, errno),
                    };
                }
                Err(error) => return Err(error),
            }
        }
        if stands == [Stand::Ended; 2] {
            self.is_over = true;
            return Ok(Next::Over(Outcome::Ended));
        }
        let times = stands.iter().filter_map(|stand| match stand {
            Stand::Later(time) => Some(*time),
            _ => None,
        });
        Ok(times.min().map_or(Next::Wait, Next::Within))
    }

    /// Ends the pair if one of its connections broke.
    fn broken(&mut self) -> Result<Option<Next>> {
        for side in Side::ALL {
            let error = self.stream(side).take_error();
            if let Some(error) = error.map_err(Error::io("getsockopt SO_ERROR"))? {
                let errno = Errno::of(&error).unwrap_or(Errno::EIO);
                return self.break_off(side, errno).map(Some);
            }
        }
        Ok(None)
    }

    fn break_off(&mut self, side: Side, errno: Errno) -> Result<Next> {
        self.reset()?;
        self.is_over = true;
        Ok(Next::Over(Outcome::Broken { side, errno }))
    }

    fn reset(&self) -> Result<()> {
        for end in &self.ends {
            reset_on_close(end.stream.as_fd())?;
        }
        Ok(())
    }
}

fn prepare(streams: [TcpStream; 2]) -> std::result::Result<[End; 2], Box<NotJoined>> {
    let cookies = || -> Result<[u64; 2]> {
        let mut cookies = [0; 2];
        for (stream, number) in streams.iter().zip(&mut cookies) {
            stream
                .set_nonblocking(true)
                .map_err(Error::io("ioctl FIONBIO"))?;
            keep_urgent_in_line(stream.as_fd())?;
            *number = cookie(stream.as_fd())?;
        }
        Ok(cookies)
    };
    match cookies() {
        Ok([one, two]) => {
            let [first, second] = streams;
            let end = |stream, cookie| End { stream, cookie };
            Ok([end(first, one), end(second, two)])
        }
        Err(error) => Err(Box::new(NotJoined { streams, error })),
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        if !self.is_over {
            // There is nobody to tell that the kernel refused; the sockets are closed in any case.
            let _ = self.reset();
        }
        if let Some(shared) = &self.shared {
            // An entry that stays would be of a cookie that no socket has again.
            let _ = self
                .ends
                .iter()
                .try_for_each(|end| shared.forget_source(end.cookie, &end.stream));
        }
    }
}
