//! Connections, as the tables of flows have them: both directions in one.

use crate::config::{BackendId, Family, Protocol};
use crate::error::{Error, Result};
use crate::event::Traffic;
use crate::flows::{Bucket, Flows, Live};
use crate::layout::{ANSWER, Bucket4, Bucket6, Flow4, Flow6, Key4, Key6, Word};
use crate::shape::{Path, Shape};
use bpfsmith_maps::{Map, View};
use bpfsmith_prog::Maps;
use bpfsmith_uapi::Errno;
use bpfsmith_uapi::map::MapDef;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A connection of TCP, or what clients and backends say to each other by UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// What they speak.
    pub protocol: Protocol,
    /// Who began.
    pub client: SocketAddr,
    /// Where to.
    pub service: SocketAddr,
    /// As whom the backend sees the client.
    pub source: SocketAddr,
    /// Where the backend is.
    pub target: SocketAddr,
    /// The number of the backend.
    pub backend: BackendId,
    /// The number of the listener. Nobody knows, if answers go to clients directly.
    pub listener: Option<u16>,
    /// How it stands.
    pub state: State,
    /// How long ago it began.
    pub age: Duration,
    /// How long ago the last packet came, in either direction.
    pub idle: Duration,
    /// To the backend.
    pub there: Traffic,
    /// From the backend.
    pub back: Traffic,
}

/// How a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// It has not been answered yet, or the answer not been acknowledged.
    Opening,
    /// Packets go both ways, as far as the proxy sees them.
    Established,
    /// One side has closed it.
    Closing,
    /// Both sides have.
    Closed,
    /// One side has reset it, or somebody has in its name.
    Reset,
}

impl State {
    /// In a word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            State::Opening => "opening",
            State::Established => "established",
            State::Closing => "closing",
            State::Closed => "closed",
            State::Reset => "reset",
        }
    }

    /// Whether more is to come.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, State::Opening | State::Established | State::Closing)
    }

    const fn of(word: Word) -> State {
        if word.is_half() {
            State::Opening
        } else if word.0 & Word::RESET != 0 {
            State::Reset
        } else if word.is_closed() {
            State::Closed
        } else if word.0 & (Word::FIN | Word::FIN_ANSWER) != 0 {
            State::Closing
        } else {
            State::Established
        }
    }
}

/// All connections that the tables of programs of that shape have now. They change while they are read.
///
/// # Errors
/// When a table is not among the maps, or cannot be read.
pub fn all(maps: &Maps, shape: &Shape) -> Result<Vec<Connection>> {
    let mut found = Vec::new();
    for path in &shape.paths {
        match path.family {
            Family::V4 => {
                let table = Flows::<Bucket4>::read(maps, *path)?;
                found.extend(Reader::now(shape, *path)?.connections(&table));
            }
            Family::V6 => {
                let table = Flows::<Bucket6>::read(maps, *path)?;
                found.extend(Reader::now(shape, *path)?.connections(&table));
            }
        }
    }
    Ok(found)
}

/// One connection, if it is there: only its entries are looked at, however many there are.
///
/// # Errors
/// When its table is not among the maps, or cannot be read.
pub fn find(
    maps: &Maps,
    shape: &Shape,
    protocol: Protocol,
    [client, service]: [SocketAddr; 2],
) -> Result<Option<Connection>> {
    let mut paths = shape.paths.iter();
    let family = match client {
        SocketAddr::V4(_) => Family::V4,
        SocketAddr::V6(_) => Family::V6,
    };
    let path = paths.find(|path| path.protocol == protocol && path.family == family);
    let Some(path) = path.filter(|_| client.is_ipv4() == service.is_ipv4()) else {
        return Ok(None);
    };
    let ports = ports(client.port(), service.port());
    match (client.ip(), service.ip()) {
        (IpAddr::V4(client), IpAddr::V4(service)) => {
            let key = Key4 {
                saddr: client.octets(),
                daddr: service.octets(),
                ports,
            };
            let table = Live::<Bucket4>::open(maps, *path)?;
            Ok(Reader::now(shape, *path)?.one(&table, &key))
        }
        (IpAddr::V6(client), IpAddr::V6(service)) => {
            let key = Key6 {
                saddr: client.octets(),
                daddr: service.octets(),
                ports,
            };
            let table = Live::<Bucket6>::open(maps, *path)?;
            Ok(Reader::now(shape, *path)?.one(&table, &key))
        }
        _ => Ok(None),
    }
}

/// As a packet has them.
const fn ports(from: u16, to: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (from.to_be_bytes(), to.to_be_bytes());
    [a, b, c, d]
}

/// What a flow of either family says.
struct Side {
    key: [SocketAddr; 2],
    becomes: [SocketAddr; 2],
    traffic: Traffic,
    seen: u32,
    born: u32,
    tag: u16,
    word: Word,
}

/// Keys and flows of one family, in words that both have.
trait Entry: Bucket {
    fn side(key: &Self::Key, flow: &Self::Flow) -> Side;
    fn answer(flow: &Self::Flow) -> Self::Key;
}

macro_rules! entries {
    ($($bucket:ident, $key:ident, $flow:ident;)+) => {$(
        impl Entry for $bucket {
            fn side(key: &$key, flow: &$flow) -> Side {
                Side {
                    key: pair(key.saddr.into(), key.daddr.into(), key.ports),
                    becomes: pair(flow.saddr.into(), flow.daddr.into(), flow.ports),
                    traffic: Traffic { packets: flow.packets, bytes: flow.bytes },
                    seen: flow.seen,
                    born: flow.born,
                    tag: flow.tag,
                    word: Word(flow.word),
                }
            }

            fn answer(flow: &$flow) -> $key {
                let [a, b, c, d] = flow.ports;
                $key {
                    saddr: flow.daddr,
                    daddr: flow.saddr,
                    ports: [c, d, a, b],
                }
            }
        }
    )+};
}

entries! {
    Bucket4, Key4, Flow4;
    Bucket6, Key6, Flow6;
}

/// Two addresses with the ports of a packet.
fn pair(from: IpAddr, to: IpAddr, [a, b, c, d]: [u8; 4]) -> [SocketAddr; 2] {
    [
        SocketAddr::new(from, u16::from_be_bytes([a, b])),
        SocketAddr::new(to, u16::from_be_bytes([c, d])),
    ]
}

struct Reader<'a> {
    shape: &'a Shape,
    path: Path,
    /// The kernel's ticks, at about the time when the table was read.
    now: u32,
}

impl<'a> Reader<'a> {
    /// For a table that has been read.
    fn now(shape: &'a Shape, path: Path) -> Result<Reader<'a>> {
        let now = shape.clock.now();
        let now = now.map_err(|errno| Error::Clock(Errno(errno as i32)))?;
        Ok(Reader { shape, path, now })
    }

    fn connections<B: Entry>(&self, table: &Flows<B>) -> Vec<Connection> {
        let all = table.iter();
        let all = all.filter_map(|(key, flow)| self.both::<B>(&key, &flow, |key| table.find(key)));
        all.collect()
    }

    fn one<B: Entry>(&self, table: &Live<B>, key: &B::Key) -> Option<Connection>
    where
        Map<u32, B>: View<MapDef<u32, B>>,
    {
        self.both::<B>(key, &table.find(key)?, |key| table.find(key))
    }

    /// The connection of a flow, if it is not one of answers.
    fn both<B: Entry>(
        &self,
        key: &B::Key,
        flow: &B::Flow,
        find: impl Fn(&B::Key) -> Option<B::Flow>,
    ) -> Option<Connection> {
        let there = B::side(key, flow);
        if there.tag & ANSWER != 0 {
            return None;
        }
        let back = B::answer(flow);
        let back = find(&back).map(|flow| B::side(&back, &flow));
        Some(self.connection(&there, back.filter(|it| it.tag & ANSWER != 0)))
    }

    fn connection(&self, there: &Side, back: Option<Side>) -> Connection {
        let [client, service] = there.key;
        let [source, target] = there.becomes;
        let since = |ticks: u32| {
            // What was written while the table was read came later.
            let past = self.now.wrapping_sub(ticks).cast_signed().max(0);
            self.shape.clock.time(past.unsigned_abs())
        };
        let idle = since(there.seen);
        Connection {
            protocol: self.path.protocol,
            client,
            service,
            source,
            target,
            backend: BackendId(there.tag),
            listener: back.as_ref().map(|back| back.tag & !ANSWER),
            state: State::of(there.word),
            age: since(there.born),
            idle: back
                .as_ref()
                .map_or(idle, |back| idle.min(since(back.seen))),
            there: there.traffic,
            back: back.map_or_else(Traffic::default, |back| back.traffic),
        }
    }
}
