//! What an operator wants of a proxy.

use crate::read::Read;
use crate::value::{At, Kind, Value};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// All of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Desired {
    /// Who listens.
    pub proxies: Vec<Proxy>,
    /// Who answers.
    pub groups: Vec<Group>,
    /// All else.
    pub settings: Settings,
}

impl Desired {
    /// The group of that name.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.name == name)
    }

    /// The proxy of that name.
    #[must_use]
    pub fn proxy(&self, name: &str) -> Option<&Proxy> {
        self.proxies.iter().find(|proxy| proxy.name == name)
    }
}

/// Where clients go.
#[derive(Clone, Debug, PartialEq)]
pub struct Proxy {
    /// Where it is written.
    pub at: At,
    /// What it is called.
    pub name: String,
    /// The devices by which clients come; none stands for all that have programs.
    pub devices: Vec<String>,
    /// The addresses that clients go to; none stands for all.
    pub addresses: Vec<IpAddr>,
    /// The port.
    pub port: u16,
    /// What they speak.
    pub protocols: Vec<Protocol>,
    /// The group that answers.
    pub group: String,
    /// Sources that another group answers.
    pub routes: Vec<Route>,
    /// How many connections may begin.
    pub limit: Option<Limit>,
}

/// Sources that a group of their own answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Where it is written.
    pub at: At,
    /// Who comes.
    pub sources: Vec<Source>,
    /// The group that answers.
    pub group: String,
}

/// Who comes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Addresses that begin so; all bits of one stand for it alone.
    Prefix(IpAddr, u8),
    /// All addresses of a host.
    Host(String),
}

/// Targets that share connections.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Where it is written.
    pub at: At,
    /// What it is called.
    pub name: String,
    /// How one is chosen.
    pub algorithm: Algorithm,
    /// How packets get there.
    pub nat: Nat,
    /// Who they are.
    pub targets: Vec<Target>,
    /// How it is found out who lives.
    pub health: Option<Health>,
    /// How long connections may go on at a target that is taken out.
    pub drain: Duration,
}

/// Who answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Where it is written.
    pub at: At,
    /// The machine and its port.
    pub place: Place,
    /// Its share of new connections.
    pub weight: u32,
}

/// A machine and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// By address.
    Address(SocketAddr),
    /// By name: all of its addresses.
    Host(String, u16),
}

/// How many connections may begin in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// So many.
    pub rate: u32,
    /// So many at once.
    pub burst: u32,
    /// Whether more of them may come by cookie.
    pub cookies: bool,
}

/// How it is found out whether a target lives.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// What is asked.
    pub check: Check,
    /// How often.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// How much of the interval chance adds or takes away.
    pub jitter: f64,
    /// So many good answers in turn bring a target back.
    pub up: u32,
    /// So many bad ones take it out.
    pub down: u32,
    /// How long it takes until one that came back has its whole share.
    pub slow_start: Duration,
}

impl Group {
    /// How long connections may go on at a target that is taken out, where nobody says.
    pub const DRAIN: Duration = Duration::from_secs(30);
}

impl Health {
    /// What a check is where nobody says.
    #[must_use]
    pub const fn usual(check: Check) -> Health {
        Health {
            check,
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(3),
            jitter: 0.1,
            up: 2,
            down: 3,
            slow_start: Duration::ZERO,
        }
    }
}

/// What is asked of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// That it accepts a connection.
    Tcp,
    /// That it answers a request.
    Http {
        /// For what.
        path: String,
        /// Of which host.
        host: Option<String>,
        /// With which status.
        expect: Vec<u16>,
    },
}

impl Check {
    /// What is asked by HTTP where nobody says.
    #[must_use]
    pub fn http() -> Check {
        Check::Http {
            path: "/".to_owned(),
            host: None,
            expect: vec![200, 201, 202, 204],
        }
    }
}

/// What is the whole proxy's.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Devices that have programs, besides those that are named by proxies.
    pub devices: Vec<String>,
    /// The proxy's own addresses for full NAT.
    pub sources: Vec<IpAddr>,
    /// The ports at them, if others than usual.
    pub source_ports: Option<RangeInclusive<u16>>,
    /// Flows of each family and protocol that there is room for, if others than usual.
    pub flows: Option<u32>,
    /// How long flows are remembered.
    pub timeouts: Timeouts,
    /// How many connections each network of sources may begin.
    pub source_limit: Option<SourceLimit>,
    /// What becomes of fragments, if not what usually does.
    pub fragments: Option<Fragments>,
    /// What becomes of TCP in the middle of a connection that nobody knows, if not what usually does.
    pub mid_stream: Option<MidStream>,
    /// Whether frames may have VLAN tags.
    pub vlan: Option<bool>,
    /// Whether connections are told of.
    pub events: bool,
    /// Where commands come in.
    pub control: PathBuf,
    /// Where maps and programs outlive the process.
    pub pins: PathBuf,
    /// Where counters are read.
    pub metrics: Option<SocketAddr>,
    /// Where commands come in by TCP.
    pub admin: Option<Admin>,
    /// Where connections are written down.
    pub access_log: Option<AccessLog>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            devices: Vec::new(),
            sources: Vec::new(),
            source_ports: None,
            flows: None,
            timeouts: Timeouts::default(),
            source_limit: None,
            fragments: None,
            mid_stream: None,
            vlan: None,
            events: false,
            control: "/run/bpfsmith-proxy.sock".into(),
            pins: "/sys/fs/bpf/bpfsmith-proxy".into(),
            metrics: None,
            admin: None,
            access_log: None,
        }
    }
}

/// How long flows are remembered without a packet, where it is not as long as usual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// Those that nobody answered.
    pub unanswered: Option<Duration>,
    /// Connections.
    pub established: Option<Duration>,
    /// Those that one side closed, or that were reset.
    pub half_closed: Option<Duration>,
    /// Those that both sides closed.
    pub closed: Option<Duration>,
    /// Flows of UDP.
    pub udp: Option<Duration>,
}

/// How many connections each network of sources may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceLimit {
    /// So many in a second.
    pub rate: u32,
    /// So many at once.
    pub burst: u32,
    /// Bits that addresses of one network of IPv4 have in common.
    pub bits4: u8,
    /// The same for IPv6.
    pub bits6: u8,
    /// Networks that are remembered, of each family, if others than usual.
    pub room: Option<u32>,
}

impl SourceLimit {
    /// Bits of IPv4 where nobody says: each address is one source.
    pub const BITS4: u8 = 32;
    /// The same for IPv6, where one host has as many addresses as it likes of 64 bits.
    pub const BITS6: u8 = 64;
}

/// Where commands come in by TCP, for those who know a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// The address and port.
    pub listen: SocketAddr,
    /// The file that the secret is in: configurations are shown, and have none.
    pub token_file: PathBuf,
}

/// Where connections are written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// The file.
    pub path: PathBuf,
    /// In which form.
    pub format: Format,
    /// How large it gets before another one is begun.
    pub bytes: u64,
    /// How many are kept.
    pub files: u32,
}

impl AccessLog {
    /// How large a file gets where nobody says.
    pub const BYTES: u64 = 100 << 20;
    /// How many are kept where nobody says.
    pub const FILES: u32 = 10;
}

crate::words! {
    /// What clients speak.
    Protocol {
        /// TCP.
        Tcp = "tcp",
        /// UDP.
        Udp = "udp",
    }
    /// How a group chooses.
    Algorithm {
        /// By addresses and ports, so that few connections move when a target comes or goes.
        Maglev = "maglev",
        /// By the client's address alone.
        Source = "source",
        /// In turn, by weight.
        Turns = "turns",
        /// Who has the fewest connections for its weight.
        Fewest = "fewest",
    }
    /// How packets get to targets.
    Nat {
        /// Targets see the client's address, and answer by way of the proxy.
        Dnat = "dnat",
        /// Targets see the proxy's.
        Full = "full",
        /// Targets get packets as they are, and answer clients themselves.
        Direct = "direct",
    }
    /// What becomes of fragments of packets.
    Fragments {
        /// They follow the first one of their packet; those that come before it go to this machine's own stack.
        Follow = "follow",
        /// The same, but those that come before it are dropped.
        FollowOrDrop = "follow-or-drop",
        /// All go to this machine's own stack.
        Pass = "pass",
    }
    /// What becomes of TCP in the middle of a connection that nobody knows.
    MidStream {
        /// It goes to this machine's own stack, which resets it.
        Pass = "pass",
        /// It is dropped.
        Drop = "drop",
        /// It opens a flow.
        Adopt = "adopt",
    }
    /// How connections are written down.
    Format {
        /// A table of JSON on each line.
        Json = "json",
        /// The common log format.
        Common = "common",
    }
}

macro_rules! read_as_words {
    ($($name:ident)+) => {$(
        impl Read for $name {
            fn allowed() -> String {
                let words: Vec<String> = $name::WORDS.iter().map(|word| format!("{word:?}")).collect();
                format!("it is {}", either(&words))
            }

            fn read(value: &Value) -> Option<$name> {
                match &value.kind {
                    Kind::Text(it) => $name::of(it),
                    _ => None,
                }
            }
        }
    )+};
}

read_as_words! { Protocol Algorithm Nat Fragments MidStream Format }

/// `a, b or c`
fn either(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [word] => word.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Place, ()> {
        if let Ok(address) = text.parse() {
            return Ok(Place::Address(address));
        }
        let (host, port) = text.rsplit_once(':').ok_or(())?;
        let port = port.parse().map_err(|_| ())?;
        match is_host(host) {
            true => Ok(Place::Host(host.to_owned(), port)),
            false => Err(()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Address(it) => write!(f, "{it}"),
            Place::Host(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

impl FromStr for Source {
    type Err = ();

    fn from_str(text: &str) -> Result<Source, ()> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let Ok(address) = address.parse::<IpAddr>() else {
            return match bits.is_none() && is_host(text) {
                true => Ok(Source::Host(text.to_owned())),
                false => Err(()),
            };
        };
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) => bits.parse().map_err(|_| ())?,
        };
        match bits <= most && is_begin(address, bits) {
            true => Ok(Source::Prefix(address, bits)),
            false => Err(()),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Prefix(address, bits) => write!(f, "{address}/{bits}"),
            Source::Host(host) => f.write_str(host),
        }
    }
}

/// Whether nothing is set behind so many bits.
fn is_begin(address: IpAddr, bits: u8) -> bool {
    let (value, width) = match address {
        IpAddr::V4(it) => (u128::from(it.to_bits()) << 96, 32),
        IpAddr::V6(it) => (it.to_bits(), 128),
    };
    bits <= width && value.checked_shl(bits.into()).unwrap_or_default() == 0
}

/// Whether this may be the name of a host: it is none that looks like an address, which would be a mistaken one.
fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|it| it.is_ascii_alphanumeric() || it == b'-' || it == b'_')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= 253
        && name.split('.').all(is_label)
        && !last.bytes().all(|it| it.is_ascii_digit())
}
