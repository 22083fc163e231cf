//! One connection: requests in, answers out, in their order.

use super::message::{After, Request, Response, stream_head};
use super::parse::{Parser, Stage, Step};
use super::peer::Peer;
use super::server::Shared;
use super::stream::Answer;
use super::wire::{Gone, Wire};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

/// Serves until one of both ends has enough.
pub(super) fn serve(shared: &Shared, socket: &OwnedFd, peer: &Peer) {
    let wire = Wire {
        socket,
        stop: &shared.stop,
    };
    let connection = Connection {
        shared,
        wire: &wire,
        peer,
    };
    // Whoever is gone needs no words.
    if let Ok(()) = connection.requests() {
        wire.part();
    }
}

/// Tells somebody that there is no room.
pub(super) fn turn_away(shared: &Shared, socket: &OwnedFd) {
    let wire = Wire {
        socket,
        stop: &shared.stop,
    };
    let response = Response::error(503, "too many connections: try again")
        .with("Retry-After", "1")
        .bytes(After::Close);
    let until = Instant::now() + shared.limits.write_time;
    if let Ok(()) = wire.write(&response, until) {
        wire.part();
    }
}

struct Connection<'a> {
    shared: &'a Shared,
    wire: &'a Wire<'a>,
    peer: &'a Peer,
}

impl Connection<'_> {
    fn requests(&self) -> Result<(), Gone> {
        let limits = &self.shared.limits;
        let mut parser = Parser::new(limits.sizes);
        let mut bytes = vec![0; 16 << 10];
        // Nobody connects to wait: the first request begins sooner than another.
        let mut until = Instant::now() + limits.head_time;
        let mut stage = Stage::Between;
        loop {
            match parser.step() {
                Err(bad) => return self.refuse(&bad.response()),
                Ok(Step::Head) => {
                    let admitted = parser.head().map(|head| self.admit(head));
                    // Nobody passes who was not looked at.
                    if let Err(no) = admitted.unwrap_or_else(|| Err(Response::error(500, ""))) {
                        return self.refuse(&no);
                    }
                    if parser.waits_for_continue() {
                        self.write(b"HTTP/1.1 100 Continue\r\n\r\n")?;
                    }
                }
                Ok(Step::Whole(request)) => {
                    let answer = self.ask(&request);
                    let after = if request.keep {
                        After::Keep
                    } else {
                        After::Close
                    };
                    self.answer(answer, after)?;
                    if after == After::Close {
                        return Ok(());
                    }
                    stage = Stage::Between;
                    until = Instant::now() + limits.idle_time;
                }
                Ok(Step::More) => {
                    if parser.stage() != stage {
                        stage = parser.stage();
                        until = Instant::now() + limits.time(stage);
                    }
                    match self.wire.read(&mut bytes, until) {
                        Ok([]) => return Ok(()),
                        Ok(came) => parser.push(came),
                        Err(Gone::Late) if stage != Stage::Between => {
                            return self.refuse(&Response::error(408, "the request took too long"));
                        }
                        Err(gone) => return Err(gone),
                    }
                }
            }
        }
    }

    fn admit(&self, head: &Request) -> Result<(), Response> {
        self.shared.guard.admit(head, self.peer)
    }

    /// A handler that panics has said so on its own; the client is not left without an answer.
    fn ask(&self, request: &Request) -> Answer {
        let handler = &self.shared.handler;
        catch_unwind(AssertUnwindSafe(|| handler(request, self.peer)))
            .unwrap_or_else(|_| Response::error(500, "the request broke its handler").into())
    }

    fn answer(&self, answer: Answer, after: After) -> Result<(), Gone> {
        match answer {
            Answer::Whole(response) => self.write(&response.bytes(after)),
            Answer::Stream(stream) => match Following::begin(self.shared) {
                Some(_following) => {
                    self.write(&stream_head(stream.content_type(), after))?;
                    stream.run(self.wire, self.shared.limits.write_time)
                }
                None => {
                    let full = "too many follow what happens: end one of them first";
                    let response = Response::error(503, full).with("Retry-After", "1");
                    self.write(&response.bytes(after))
                }
            },
        }
    }

    /// An answer after which there is no other.
    fn refuse(&self, response: &Response) -> Result<(), Gone> {
        self.write(&response.bytes(After::Close))
    }

    fn write(&self, bytes: &[u8]) -> Result<(), Gone> {
        let until = Instant::now() + self.shared.limits.write_time;
        self.wire.write(bytes, until)
    }
}

/// One of so many streams.
struct Following<'a>(&'a AtomicUsize);

impl<'a> Following<'a> {
    fn begin(shared: &'a Shared) -> Option<Following<'a>> {
        let most = shared.limits.streams;
        let more = |count: usize| (count < most).then_some(count + 1);
        let count = shared.streams.fetch_update(Relaxed, Relaxed, more);
        count.is_ok().then(|| Following(&shared.streams))
    }
}

impl Drop for Following<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
