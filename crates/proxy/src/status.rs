//! How everything stands, for people and programs.

use crate::feed::Reading;
use bpfsmith_config::Value;
use bpfsmith_datapath::config::Protocol;
use bpfsmith_datapath::connections::Connection;
use bpfsmith_datapath::event::{Event, Kind, Traffic, What};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How everything stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// The version of this program.
    pub version: &'static str,
    /// The number of its process.
    pub pid: u32,
    /// How long it runs.
    pub uptime: Duration,
    /// How many generations of programs there have been.
    pub generation: u64,
    /// Devices that have programs.
    pub devices: Vec<Device>,
    /// What is not as it should be.
    pub notes: Vec<String>,
    /// Who listens.
    pub proxies: Vec<Listeners>,
    /// Who answers.
    pub groups: Vec<Group>,
    /// Backends that get no connections any more, and still have some.
    pub leaving: Vec<Leaving>,
    /// What became of packets, by name.
    pub counters: BTreeMap<&'static str, u64>,
    /// What was read of events.
    pub events: Reading,
}

/// A device that has programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Its programs, and why.
    pub choice: String,
}

/// A proxy, and where it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listeners {
    /// Its name.
    pub name: String,
    /// Addresses and what is spoken there.
    pub places: Vec<(SocketAddr, Protocol)>,
    /// The group that answers.
    pub group: String,
    /// Sources that other groups answer.
    pub routes: usize,
}

/// A group, and its targets.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// How one is chosen.
    pub algorithm: &'static str,
    /// How packets get there.
    pub nat: &'static str,
    /// All are down, and so all get connections.
    pub is_desperate: bool,
    /// Who they are.
    pub targets: Vec<Target>,
}

/// A target of a group.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Where it is.
    pub address: SocketAddr,
    /// Its weight, as it is wanted.
    pub weight: u32,
    /// What it gets of that, in percent.
    pub share: u8,
    /// How it stands: up, down, unknown, unchecked, drained or leaving.
    pub state: &'static str,
    /// What was heard of it last.
    pub last: Option<String>,
    /// Connections that it has, of all groups.
    pub connections: u32,
}

/// A backend that gets no connections any more, and still has some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// Where it is.
    pub address: SocketAddr,
    /// How many it has.
    pub connections: u32,
    /// How long they may go on; nothing if they are being ended.
    pub left: Option<Duration>,
}

/// A protocol in a word.
#[must_use]
pub const fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

/// Seconds, with their parts.
fn seconds(time: Duration) -> Value {
    Value::from((time.as_secs_f64() * 1000.0).round() / 1000.0)
}

impl Status {
    /// As a table.
    #[must_use]
    pub fn value(&self) -> Value {
        let counters = self.counters.iter();
        Value::table([
            ("version", self.version.into()),
            ("pid", self.pid.into()),
            ("uptime", seconds(self.uptime)),
            ("generation", self.generation.into()),
            (
                "devices",
                Value::list(self.devices.iter().map(Device::value)),
            ),
            (
                "notes",
                Value::list(self.notes.iter().map(|note| note.as_str().into())),
            ),
            (
                "proxies",
                Value::list(self.proxies.iter().map(Listeners::value)),
            ),
            ("groups", Value::list(self.groups.iter().map(Group::value))),
            (
                "leaving",
                Value::list(self.leaving.iter().map(Leaving::value)),
            ),
            (
                "counters",
                Value::table(counters.map(|(name, count)| (*name, (*count).into()))),
            ),
            (
                "events",
                Value::table([
                    ("read", self.events.events.into()),
                    ("malformed", self.events.malformed.into()),
                    ("dropped", Value::from(self.events.dropped)),
                ]),
            ),
        ])
    }
}

impl Device {
    fn value(&self) -> Value {
        Value::table([
            ("name", self.name.as_str().into()),
            ("programs", Value::from(self.choice.as_str())),
        ])
    }
}

impl Listeners {
    fn value(&self) -> Value {
        let places = self.places.iter().map(|(address, spoken)| {
            Value::table([
                ("address", Value::shown(address)),
                ("protocol", protocol(*spoken).into()),
            ])
        });
        Value::table([
            ("name", self.name.as_str().into()),
            ("listens", Value::list(places)),
            ("group", self.group.as_str().into()),
            ("routes", self.routes.into()),
        ])
    }
}

impl Group {
    fn value(&self) -> Value {
        Value::table([
            ("name", self.name.as_str().into()),
            ("algorithm", self.algorithm.into()),
            ("nat", self.nat.into()),
            ("all_down", self.is_desperate.into()),
            (
                "targets",
                Value::list(self.targets.iter().map(Target::value)),
            ),
        ])
    }
}

impl Leaving {
    fn value(&self) -> Value {
        Value::table([
            ("address", Value::shown(self.address)),
            ("connections", self.connections.into()),
            (
                "seconds_left",
                self.left.map_or(Value::from(0_u64), seconds),
            ),
        ])
    }
}

impl Target {
    fn value(&self) -> Value {
        Value::table([
            ("address", Value::shown(self.address)),
            ("weight", self.weight.into()),
            ("share", self.share.into()),
            ("state", self.state.into()),
            ("last", self.last.clone().into()),
            ("connections", self.connections.into()),
        ])
    }
}

pub(crate) fn traffic(traffic: Traffic) -> Value {
    Value::table([
        ("packets", traffic.packets.into()),
        ("bytes", Value::from(traffic.bytes)),
    ])
}

/// A connection as a table; `proxy` is the name of the one that it came to.
#[must_use]
pub fn connection(connection: &Connection, proxy: Option<&str>) -> Value {
    Value::table([
        ("proxy", proxy.into()),
        ("protocol", protocol(connection.protocol).into()),
        ("client", Value::shown(connection.client)),
        ("service", Value::shown(connection.service)),
        ("source", Value::shown(connection.source)),
        ("target", Value::shown(connection.target)),
        ("state", connection.state.name().into()),
        ("age", seconds(connection.age)),
        ("idle", seconds(connection.idle)),
        ("there", traffic(connection.there)),
        ("back", traffic(connection.back)),
    ])
}

/// An event as a table.
#[must_use]
pub fn event(read: SystemTime, proxy: Option<&str>, event: &Event) -> Value {
    let time = read.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut entries = vec![
        ("time", seconds(time)),
        ("event", kind_name(event.what.kind()).into()),
        ("proxy", proxy.into()),
        ("protocol", protocol(event.protocol).into()),
        ("client", Value::shown(event.client)),
        ("service", Value::shown(event.service)),
    ];
    let flow = match event.what {
        What::New(flow) | What::Periodic(flow) => Some(flow),
        What::Closed(flow, end) => {
            entries.push(("end", end_name(end).into()));
            Some(flow)
        }
        What::Refused(reason) => {
            entries.push(("reason", reason.name().into()));
            None
        }
    };
    if let Some(flow) = flow {
        entries.extend([
            ("source", Value::shown(flow.source)),
            ("target", Value::shown(flow.target)),
            ("age", seconds(flow.age)),
            ("idle", seconds(flow.idle)),
            ("there", traffic(flow.there)),
            ("back", traffic(flow.back)),
        ]);
    }
    Value::table(entries)
}

/// A kind of event in a word.
#[must_use]
pub const fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::New => "new",
        Kind::Closed => "closed",
        Kind::Periodic => "periodic",
        Kind::Refused => "refused",
    }
}

/// How a connection ended, in a word.
#[must_use]
pub const fn end_name(end: bpfsmith_datapath::event::End) -> &'static str {
    use bpfsmith_datapath::event::End;
    match end {
        End::Idle => "idle",
        End::Closed => "closed",
        End::Reset => "reset",
    }
}
