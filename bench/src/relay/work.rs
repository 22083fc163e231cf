//! What goes through a proxy, one row each.

use super::Suite;
use super::place::Place;
use std::fmt;

/// How bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The client sends, and the server says at the end that it has everything.
    Stream,
    /// A message goes to the server and comes back; then the next one.
    PingPong,
    /// A message goes to the server and comes back, and the server closes; then the next connection.
    Connect,
    /// A datagram goes to the server and comes back; then the next one.
    Datagram,
}

impl Shape {
    /// What is counted.
    #[must_use]
    pub const fn unit(self) -> Unit {
        match self {
            Shape::Stream => Unit::new("GB/s", 1e9, "ms/GB"),
            Shape::PingPong => Unit::new("1000 req/s", 1e3, "µs/req"),
            Shape::Connect => Unit::new("1000 conn/s", 1e3, "µs/conn"),
            Shape::Datagram => Unit::new("1000 pkt/s", 1e3, "µs/pkt"),
        }
    }
}

/// What is counted, and in which units it is told.
#[derive(Clone, Copy, Debug)]
pub struct Unit {
    /// What a rate is in.
    pub rate: &'static str,
    /// So many make one in the rate.
    pub per: f64,
    /// What the processors' time is in: thousandths of a second for each `per`.
    pub cpu: &'static str,
}

impl Unit {
    const fn new(rate: &'static str, per: f64, cpu: &'static str) -> Unit {
        Unit { rate, per, cpu }
    }
}

/// What clients do.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// How bytes go.
    pub shape: Shape,
    /// The size of a message, or of what a stream is written in.
    pub size: usize,
    /// How many clients do so at once.
    pub clients: usize,
    /// Where everybody works.
    pub place: Place,
    /// Where it belongs.
    pub suites: &'static [Suite],
}

const KB: usize = 1 << 10;
const MB: usize = 1 << 20;

/// Everything that there is to do.
pub const WORK: &[Work] = &[
    row(Shape::Stream, 64 * KB, 1, Place::Apart, Suite::BOTH),
    row(Shape::Stream, 64 * KB, 8, Place::Apart, Suite::BOTH),
    row(Shape::PingPong, KB, 1, Place::Together, Suite::BOTH),
    row(Shape::PingPong, KB, 32, Place::Apart, Suite::BOTH),
    row(Shape::PingPong, 16 * KB, 1, Place::Together, Suite::SOCKETS),
    row(Shape::PingPong, 64 * KB, 1, Place::Together, Suite::SOCKETS),
    row(Shape::PingPong, MB, 1, Place::Together, Suite::SOCKETS),
    row(Shape::PingPong, 64 * KB, 32, Place::Apart, Suite::SOCKETS),
    row(Shape::Connect, 64, 1, Place::Together, Suite::BOTH),
    row(Shape::Connect, 64, 16, Place::Apart, Suite::BOTH),
    row(Shape::Datagram, 64, 1, Place::Together, Suite::PACKETS),
    row(Shape::Datagram, 64, 32, Place::Apart, Suite::PACKETS),
    row(Shape::Datagram, 1400, 1, Place::Together, Suite::PACKETS),
    row(Shape::Datagram, 1400, 32, Place::Apart, Suite::PACKETS),
];

const fn row(
    shape: Shape,
    size: usize,
    clients: usize,
    place: Place,
    suites: &'static [Suite],
) -> Work {
    Work {
        shape,
        size,
        clients,
        place,
        suites,
    }
}

impl fmt::Display for Work {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.shape {
            Shape::Stream => "bulk",
            Shape::PingPong => "requests",
            Shape::Connect => "new connections",
            Shape::Datagram => "UDP",
        };
        let (size, unit) = match self.size {
            size if size >= MB => (size / MB, "MiB"),
            size if size >= KB && size % KB == 0 => (size / KB, "KiB"),
            size => (size, "B"),
        };
        let plural = if self.clients == 1 { "" } else { "s" };
        let (clients, place) = (self.clients, self.place.name());
        write!(
            out,
            "{what}, {size} {unit}, {clients} client{plural}; {place}"
        )
    }
}
