//! One direction of a pair: how its bytes move, and when its stream has ended.

use crate::error::{Error, Result, Side};
use crate::splicer::Shared;
use bpfsmith_sys::socket::{TcpProgress, TcpState, tcp_progress, unacked, unread};
use bpfsmith_uapi::Errno;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::ops::Range;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Bytes that are copied at once.
const CHUNK: usize = 1 << 16;

const READ: &str = "read";

/// How many times that before others get their turn.
const TURNS: usize = 16;

/// After what time it is looked again at the soonest, where the kernel tells most of what happens.
const SOON: Duration = Duration::from_millis(20);

/// One end of a pair.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) stream: TcpStream,
    pub(crate) cookie: u64,
}

/// How a direction stands after it was looked after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stand {
    /// Something will come or become possible, and the kernel will tell.
    Quiet,
    /// It is to be looked after again, though nothing happens that the kernel tells.
    Later(Duration),
    /// The stream has ended, and the receiver has been told.
    Ended,
    /// The receiver took nothing for so long that bytes were dropped.
    Lost,
}

/// How bytes move.
#[derive(Debug)]
enum Mode {
    /// The kernel moves them.
    Spliced {
        /// What the receiver's socket had been given before, as the flow counts.
        base: u64,
        /// What user space had read of the stream before.
        consumed: u64,
        /// Bytes that the kernel left to user space and that have been written.
        taken: u64,
        /// Whether it is known that there are such bytes.
        behind: bool,
    },
    /// User space moves them.
    Copied {
        /// Whether the kernel will, once the queue of received bytes is empty.
        then_spliced: bool,
    },
    /// There are none any more.
    Ended,
}

/// One direction of a pair.
#[derive(Debug)]
pub(crate) struct Direction {
    from: Side,
    mode: Mode,
    /// Room for bytes on their way; made when it is needed first.
    buffer: Vec<u8>,
    /// Those in it that are read and not written.
    pending: Range<usize>,
    /// What user space has read of the stream.
    consumed: u64,
    /// Bytes that the kernel moved, as far as known.
    pub(crate) spliced: u64,
    /// Bytes that went through user space.
    pub(crate) copied: u64,
    /// How often it has been waited in vain for the kernel.
    waits: u32,
    /// How far the bytes were when they were seen to move last, and when that was.
    still: Option<(u64, Instant)>,
}

/// What a socket was given to send, since the connection stands.
///
/// Nobody writes to it meanwhile: acknowledgements alone move the two numbers, from one to the other.
fn given(socket: &TcpStream) -> Result<u64> {
    let acked = tcp_progress(socket.as_fd())?.acked;
    // In this order the sum is never too large: at most, what was acknowledged in between is missing.
    Ok(acked + u64::from(unacked(socket.as_fd())?))
}

/// The same, exactly.
fn given_exactly(socket: &TcpStream) -> Result<u64> {
    loop {
        let before = tcp_progress(socket.as_fd())?.acked;
        let rest = unacked(socket.as_fd())?;
        if tcp_progress(socket.as_fd())?.acked == before {
            return Ok(before + u64::from(rest));
        }
    }
}

/// What user space has read of a stream, and what waits to be read.
///
/// Only before the socket is in a map: then the kernel counts what programs left, and nothing else
/// (Linux 6.17).
pub(crate) fn consumed(socket: &TcpStream) -> Result<(u64, u32)> {
    loop {
        let before = tcp_progress(socket.as_fd())?.received;
        let rest = unread(socket.as_fd())?;
        if tcp_progress(socket.as_fd())?.received == before {
            return Ok((before.saturating_sub(u64::from(rest)), rest));
        }
    }
}

/// Whether the end of the stream has arrived. A connection that broke has an error besides.
fn has_ended(progress: &TcpProgress) -> bool {
    matches!(
        progress.state,
        TcpState::CLOSE_WAIT | TcpState::LAST_ACK | TcpState::CLOSING | TcpState::CLOSE
    )
}

impl Direction {
    pub(crate) fn copied(from: Side) -> Direction {
        Direction {
            from,
            mode: Mode::Copied {
                then_spliced: false,
            },
            buffer: Vec::new(),
            pending: 0..0,
            consumed: 0,
            spliced: 0,
            copied: 0,
            waits: 0,
            still: None,
        }
    }

    /// Bytes of which user space has read a part, as of the buffer that has the other part, are given to
    /// programs as a whole. So user space reads on until the queue is empty, and the kernel takes
    /// over there.
    pub(crate) fn start(
        from: Side,
        ends: &[End; 2],
        (read, unread): (u64, u32),
        shared: &Shared,
    ) -> Result<Direction> {
        let mut direction = Direction::copied(from);
        direction.consumed = read;
        match (read, unread) {
            (1.., 1..) => direction.mode = Mode::Copied { then_spliced: true },
            _ => direction.splice(ends, shared)?,
        }
        Ok(direction)
    }

    /// Hands the stream over to the kernel, unless it has ended.
    fn splice(&mut self, ends: &[End; 2], shared: &Shared) -> Result<()> {
        let (from, to) = self.ends(ends);
        let offered = shared.make_room(&from.stream, &to.stream)?;
        let base = given_exactly(&to.stream)?;
        match shared.start(self.from, from, base, offered) {
            Ok(()) => {
                self.mode = Mode::Spliced {
                    base,
                    consumed: self.consumed,
                    taken: 0,
                    behind: false,
                };
            }
            // Its end came in between. There is not much left.
            Err(error) if error.refusal().is_some() => {
                self.mode = Mode::Copied {
                    then_spliced: false,
                };
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn ends<'a>(&self, ends: &'a [End; 2]) -> (&'a End, &'a End) {
        (&ends[self.from.index()], &ends[self.from.other().index()])
    }

    /// The side that receives.
    pub(crate) const fn to(&self) -> Side {
        self.from.other()
    }

    /// The side whose socket a system call on behalf of this direction was about.
    pub(crate) fn side_of(&self, call: &str) -> Side {
        match call {
            READ => self.from,
            _ => self.from.other(),
        }
    }

    pub(crate) fn fell_behind(&mut self) {
        if let Mode::Spliced { behind, .. } = &mut self.mode {
            *behind = true;
        }
    }

    /// Whether user space has to know of bytes and room.
    pub(crate) fn is_copying(&self) -> bool {
        match self.mode {
            Mode::Spliced { behind, .. } => behind,
            Mode::Copied { .. } => true,
            Mode::Ended => false,
        }
    }

    /// Does what there is to do.
    pub(crate) fn advance(&mut self, ends: &[End; 2], shared: Option<&Shared>) -> Result<Stand> {
        match (&self.mode, shared) {
            (Mode::Ended, _) => Ok(Stand::Ended),
            (Mode::Spliced { .. }, Some(shared)) => self.advance_spliced(ends, shared),
            _ => self.advance_copied(ends, shared),
        }
    }

    fn advance_spliced(&mut self, ends: &[End; 2], shared: &Shared) -> Result<Stand> {
        let Mode::Spliced {
            base,
            consumed,
            taken,
            behind,
        } = self.mode
        else {
            return Ok(Stand::Ended);
        };
        let (from, to) = self.ends(ends);
        let progress = tcp_progress(from.stream.as_fd())?;
        let ended = has_ended(&progress);
        if !ended && !behind {
            return Ok(Stand::Quiet);
        }
        let flow = shared.flow(from.cookie)?;
        if flow.lost > 0 {
            return Ok(Stand::Lost);
        }
        self.spliced = flow.sent_on.saturating_sub(base);
        let mut now_taken = taken;
        if flow.left != taken {
            // All that was sent on before comes first.
            let there = given(&to.stream)?;
            if there < flow.sent_on + taken {
                return Ok(self.later(there));
            }
            let before = self.copied;
            self.pump(from, to)?;
            now_taken += self.copied - before;
            if now_taken != taken {
                self.waits = 0;
                shared.take(from.cookie, now_taken)?;
            }
        }
        let caught_up = flow.left == now_taken && self.pending.is_empty();
        self.mode = Mode::Spliced {
            base,
            consumed,
            taken: now_taken,
            behind: !caught_up,
        };
        if caught_up {
            self.buffer = Vec::new();
        } else {
            // Its sockets tell, but for a worker of the kernel that has not given it the bytes yet.
            let time = self.patience(flow.sent_on + now_taken);
            return Ok(Stand::Later(time.max(SOON)));
        }
        if !ended {
            return self.look_again(flow.left, from, shared);
        }
        // The end counts as a byte. It is missing where the connection broke just now, which whoever
        // asks for errors will learn.
        let arrived = progress.received.saturating_sub(consumed);
        let judged = self.spliced + flow.left;
        if judged + 1 != arrived {
            return Ok(self.later(judged));
        }
        let there = given(&to.stream)?;
        if there < flow.sent_on + now_taken {
            return Ok(self.later(there));
        }
        self.end(to)
    }

    /// Whether more was left while it was being caught up with: then nobody will tell.
    fn look_again(&mut self, left: u64, from: &End, shared: &Shared) -> Result<Stand> {
        if shared.flow(from.cookie)?.left == left {
            return Ok(Stand::Quiet);
        }
        self.fell_behind();
        Ok(Stand::Later(Duration::ZERO))
    }

    /// A worker of the kernel moves bytes to the receiver's socket, and does not tell when. It takes
    /// microseconds, or as long as the receiver has no room. `moved` is how far it is.
    fn later(&mut self, moved: u64) -> Stand {
        self.waits = self.waits.saturating_add(1);
        let patience = self.patience(moved);
        Stand::Later(match self.waits {
            0..8 => Duration::ZERO,
            _ => patience.max(Duration::from_millis(1)),
        })
    }

    /// The longer nothing has moved, the longer it may take to see that something has: receivers that
    /// have stopped reading, by the thousand, must not keep a thread busy.
    fn patience(&mut self, moved: u64) -> Duration {
        let since = match self.still {
            Some((there, since)) if there == moved => since,
            _ => self.still.insert((moved, Instant::now())).1,
        };
        (since.elapsed() / 4).min(Duration::from_millis(500))
    }

    fn end(&mut self, to: &End) -> Result<Stand> {
        self.mode = Mode::Ended;
        match to.stream.shutdown(Shutdown::Write) {
            Ok(()) => Ok(Stand::Ended),
            // It broke, and whoever asks for errors learns of it.
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(Stand::Ended),
            Err(error) => Err(Error::io("shutdown")(error)),
        }
    }

    fn advance_copied(&mut self, ends: &[End; 2], shared: Option<&Shared>) -> Result<Stand> {
        let (from, to) = self.ends(ends);
        match self.pump(from, to)? {
            Pumped::End => self.end(to),
            Pumped::More => Ok(Stand::Later(Duration::ZERO)),
            Pumped::Room => Ok(Stand::Quiet),
            Pumped::Memory => {
                let time = self.patience(self.copied);
                Ok(Stand::Later(time.max(SOON)))
            }
            Pumped::Empty => match (&self.mode, shared) {
                (Mode::Copied { then_spliced: true }, Some(shared)) => {
                    self.splice(ends, shared)?;
                    Ok(Stand::Later(Duration::ZERO))
                }
                _ => Ok(Stand::Quiet),
            },
        }
    }

    /// Copies as much as there is and fits.
    fn pump(&mut self, from: &End, to: &End) -> Result<Pumped> {
        self.buffer.resize(CHUNK, 0);
        for _ in 0..TURNS {
            if let Some(why) = self.flush(to)? {
                return Ok(why);
            }
            match (&from.stream).read(&mut self.buffer) {
                Ok(0) => return Ok(Pumped::End),
                Ok(bytes) => {
                    self.pending = 0..bytes;
                    self.consumed += u64::try_from(bytes).unwrap_or(u64::MAX);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Pumped::Empty),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io(READ)(error)),
            }
        }
        Ok(Pumped::More)
    }

    /// Writes what was read; says why not, if that is not all.
    fn flush(&mut self, to: &End) -> Result<Option<Pumped>> {
        while let Some(rest @ [_, ..]) = self.buffer.get(self.pending.clone()) {
            match (&to.stream).write(rest) {
                Ok(bytes) => {
                    self.pending.start += bytes;
                    self.copied += u64::try_from(bytes).unwrap_or(u64::MAX);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Ok(Some(Pumped::Room));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if Errno::of(&error) == Some(NO_MEMORY) => {
                    return Ok(Some(Pumped::Memory));
                }
                Err(error) => return Err(Error::io("write")(error)),
            }
        }
        Ok(None)
    }
}

/// What the kernel answers to a write, since Linux 6.0, when the memory that it has for all connections
/// runs short, and the socket holds bytes that a program left to it: it charges those without asking, the
/// socket is in debt then, and what it would take of the write is less than nothing. Nothing is
/// sent, and nothing is wrong with the connection; nor with the buffer, which is ours.
const NO_MEMORY: Errno = Errno::EFAULT;

/// Why copying paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pumped {
    /// Nothing to read for now.
    Empty,
    /// No room to write. The kernel tells when there is.
    Room,
    /// No memory for what was to be written. The kernel does not tell when there is; as the socket still
    /// sends something, there soon is.
    Memory,
    /// Others may want their turn.
    More,
    /// The stream has ended.
    End,
}
