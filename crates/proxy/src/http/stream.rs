//! What a handler answers, at once or as time goes by.

use super::chunks;
use super::message::Response;
use super::wire::{Gone, Stop, Wire};
use bpfsmith_sys::epoll::{Epoll, Interest};
use std::fmt;
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// What a handler answers.
#[derive(Debug)]
pub enum Answer {
    /// All at once.
    Whole(Response),
    /// Piece by piece, as long as there is something to tell and somebody who listens.
    Stream(Stream),
}

impl From<Response> for Answer {
    fn from(response: Response) -> Answer {
        Answer::Whole(response)
    }
}

/// What a source has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Bytes, which go out at once.
    Piece(Vec<u8>),
    /// Nothing for now.
    Nothing,
    /// No more.
    End,
}

/// An answer that goes on. Its source is asked again and again on the connection's thread; it may
/// wait for something to tell, at most as long as it is told. In between the server looks whether
/// the client is still there, and drops the source when it is gone. A client that only ends
/// its own direction counts as gone.
pub struct Stream {
    content_type: &'static str,
    source: Box<dyn FnMut(Duration) -> Next + Send>,
}

impl Stream {
    /// From a function that waits at most the time that it gets.
    pub fn new(
        content_type: &'static str,
        source: impl FnMut(Duration) -> Next + Send + 'static,
    ) -> Stream {
        Stream {
            content_type,
            source: Box::new(source),
        }
    }

    /// What comes through a channel, until its other end is dropped. That one learns from `send`
    /// that the client is gone.
    pub fn channel(content_type: &'static str, pieces: Receiver<Vec<u8>>) -> Stream {
        Stream::new(content_type, move |time| match pieces.recv_timeout(time) {
            Ok(piece) => Next::Piece(piece),
            Err(RecvTimeoutError::Timeout) => Next::Nothing,
            Err(RecvTimeoutError::Disconnected) => Next::End,
        })
    }

    pub(super) fn content_type(&self) -> &'static str {
        self.content_type
    }

    /// Sends all pieces, each within the time.
    pub(super) fn run(mut self, wire: &Wire<'_>, limit: Duration) -> Result<(), Gone> {
        let watch = Watch::new(wire.socket, wire.stop)?;
        loop {
            watch.look(Duration::ZERO)?;
            let asked = Instant::now();
            match (self.source)(TICK) {
                // No bytes would be the end.
                Next::Piece(piece) if piece.is_empty() => {}
                Next::Piece(piece) => wire.write(&chunks::chunk(&piece), asked + TICK + limit)?,
                Next::Nothing => watch.look(TICK.saturating_sub(asked.elapsed()))?,
                Next::End => return wire.write(chunks::END, Instant::now() + limit),
            }
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stream = &mut f.debug_struct("Stream");
        stream.field("content_type", &self.content_type);
        stream.finish_non_exhaustive()
    }
}

/// A source waits so long at a time: what an end of client or server may take to be seen.
const TICK: Duration = Duration::from_millis(100);

const CLIENT: u64 = 0;
const SERVER: u64 = 1;

/// Sees ends, whatever else the client sent that nobody reads.
struct Watch(Epoll);

impl Watch {
    fn new(socket: &impl AsFd, stop: &Stop) -> Result<Watch, Gone> {
        let make = || {
            let epoll = Epoll::new()?;
            epoll.add(socket.as_fd(), Interest::End, CLIENT)?;
            epoll.add(stop.as_fd(), Interest::Read, SERVER)?;
            Ok::<_, bpfsmith_sys::Refused>(epoll)
        };
        make().map(Watch).map_err(|_| Gone::Closed)
    }

    fn look(&self, time: Duration) -> Result<(), Gone> {
        let mut gone = None;
        let waited = self.0.wait(Some(time), |token| {
            gone = Some(match token {
                SERVER => Gone::Stopped,
                _ => Gone::Closed,
            });
        });
        match (waited, gone) {
            (Ok(_), None) => Ok(()),
            (Ok(_), Some(gone)) => Err(gone),
            (Err(_), _) => Err(Gone::Closed),
        }
    }
}
