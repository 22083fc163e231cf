//! What programs tell of flows: the record in the ring, and what it says.

use crate::clock::Clock;
use crate::config::{BackendId, Family, Protocol};
use crate::reason::Reason;
use bpfsmith_uapi::record;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

macro_rules! kinds {
    ($($(#[$doc:meta])+ $name:ident = $number:literal,)+) => {
        /// What an event is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $($(#[$doc])+ $name,)+
        }

        impl Kind {
            /// All of them.
            pub const ALL: &'static [Kind] = &[$(Kind::$name),+];

            /// What stands for it in a record.
            #[must_use]
            pub const fn number(self) -> u8 {
                match self {
                    $(Kind::$name => $number,)+
                }
            }

            /// What stands for it in a record, if that is known.
            #[must_use]
            pub const fn from_number(number: u8) -> Option<Kind> {
                match number {
                    $($number => Some(Kind::$name),)+
                    _ => None,
                }
            }

            /// Its bit in [`Settings::events`](crate::layout::Settings).
            #[must_use]
            pub const fn bit(self) -> u32 {
                1 << self.number()
            }
        }
    };
}

kinds! {
    /// A flow is established.
    New = 0,
    /// A flow was taken out.
    Closed = 1,
    /// A flow lives.
    Periodic = 2,
    /// A packet began no flow.
    Refused = 3,
}

macro_rules! ends {
    ($($(#[$doc:meta])+ $name:ident = $number:literal,)+) => {
        /// Why a flow was taken out.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum End {
            $($(#[$doc])+ $name,)+
        }

        impl End {
            /// What stands for it in a record.
            #[must_use]
            pub const fn number(self) -> u8 {
                match self {
                    $(End::$name => $number,)+
                }
            }

            const fn from_number(number: u8) -> Option<End> {
                match number {
                    $($number => Some(End::$name),)+
                    _ => None,
                }
            }
        }
    };
}

ends! {
    /// Nothing came for too long.
    Idle = 0,
    /// Both sides closed it.
    Closed = 1,
    /// One side reset it.
    Reset = 2,
}

/// Nothing, where a record has a number of a listener or backend.
pub(crate) const NONE: u16 = 0xffff;

record! {
    /// An event as programs write it. All of them have this length; what does not apply is zero.
    #[derive(
        Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
    )]
    pub struct Record {
        /// A number of [`Kind`].
        pub kind: u8,
        /// Of a flow that was taken out, a number of [`End`]; of a refusal, one of [`Reason`].
        pub why: u8,
        /// 4 or 6.
        pub family: u8,
        /// As in IP headers.
        pub protocol: u8,
        /// The number of the listener, or all ones.
        pub listener: u16,
        /// The number of the backend, or all ones.
        pub backend: u16,
        /// When it was told, in nanoseconds of the monotonic clock.
        pub at: u64,
        /// How old the flow is, in the kernel's ticks.
        pub age: u32,
        /// How long ago its last packet came, of either direction, in ticks; zero of programs of before.
        pub idle: u32,
        /// Who began; of IPv4, four bytes, as of all.
        pub client: [u8; 16],
        /// Where to.
        pub service: [u8; 16],
        /// As whom the backend sees the client.
        pub source: [u8; 16],
        /// Where the backend is.
        pub target: [u8; 16],
        /// The ports of the client and the service, as in a packet.
        pub ports: [u8; 4],
        /// The ports of the source and the target.
        pub rewritten: [u8; 4],
        /// Packets to the backend.
        pub packets: u64,
        /// Their bytes, IP headers included.
        pub bytes: u64,
        /// Packets from the backend.
        pub answer_packets: u64,
        /// Their bytes.
        pub answer_bytes: u64,
    }
}

/// Packets and bytes of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Their bytes, IP headers included.
    pub bytes: u64,
}

/// What an event says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When it was told, by the monotonic clock; exact to a tick of the kernel.
    pub at: Duration,
    /// What the packets speak.
    pub protocol: Protocol,
    /// Who began.
    pub client: SocketAddr,
    /// Where to.
    pub service: SocketAddr,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A flow is established: by the first answer of UDP, by the client's acknowledgement of an answer of TCP,
    /// or, where answers do not come this way, by a later packet. It is told before that packet is counted: a
    /// flow of UDP has no packet back then, one of TCP has one.
    New(Flow),
    /// A flow was taken out.
    Closed(Flow, End),
    /// A flow lives.
    Periodic(Flow),
    /// A packet began no flow.
    Refused(Reason),
}

impl What {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            What::New(_) => Kind::New,
            What::Closed(..) => Kind::Closed,
            What::Periodic(_) => Kind::Periodic,
            What::Refused(_) => Kind::Refused,
        }
    }
}

/// A flow, as an event tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The listener. Nobody knows, if answers go to clients directly.
    pub listener: Option<u16>,
    /// The backend.
    pub backend: BackendId,
    /// As whom it sees the client.
    pub source: SocketAddr,
    /// Where it is.
    pub target: SocketAddr,
    /// How old the flow is. One that was taken out was kept for a while after its last packet.
    pub age: Duration,
    /// How long ago its last packet came, of either direction.
    pub idle: Duration,
    /// To the backend.
    pub there: Traffic,
    /// From the backend.
    pub back: Traffic,
}

impl Flow {
    /// From its first packet to its last.
    #[must_use]
    pub fn lasted(&self) -> Duration {
        self.age.saturating_sub(self.idle)
    }
}

/// Why bytes are no event.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// They have another length.
    #[error(
        "this event has {0} bytes and should have 128: another version of the proxy writes here"
    )]
    Length(usize),
    /// A number that stands for nothing.
    #[error(
        "an event with {what} {number}, which stands for nothing: another version of the proxy writes here"
    )]
    Number {
        /// What has it.
        what: &'static str,
        /// The number.
        number: u8,
    },
}

bpfsmith_uapi::debug_as_display!(Malformed);

impl Event {
    /// What bytes from the ring say. Whatever they are, this does not panic.
    ///
    /// # Errors
    /// If they are no event.
    pub fn read(bytes: &[u8], clock: Clock) -> Result<Event, Malformed> {
        let Ok(record) = Record::read_from_bytes(bytes) else {
            return Err(Malformed::Length(bytes.len()));
        };
        let unknown = |what, number| Malformed::Number { what, number };
        let family = match record.family {
            4 => Family::V4,
            6 => Family::V6,
            number => return Err(unknown("family", number)),
        };
        let protocol = match record.protocol {
            6 => Protocol::Tcp,
            17 => Protocol::Udp,
            number => return Err(unknown("protocol", number)),
        };
        let kind = Kind::from_number(record.kind).ok_or(unknown("kind", record.kind))?;
        let [client, service] = sockets(family, [record.client, record.service], record.ports);
        let flow = record.flow(family, clock);
        let what = match kind {
            Kind::New => What::New(flow),
            Kind::Periodic => What::Periodic(flow),
            Kind::Closed => {
                let end = End::from_number(record.why).ok_or(unknown("end", record.why))?;
                What::Closed(flow, end)
            }
            Kind::Refused => {
                let reason = Reason::ALL.get(usize::from(record.why));
                What::Refused(*reason.ok_or(unknown("reason", record.why))?)
            }
        };
        Ok(Event {
            at: Duration::from_nanos(record.at),
            protocol,
            client,
            service,
            what,
        })
    }
}

impl Record {
    fn flow(&self, family: Family, clock: Clock) -> Flow {
        let rewritten = [self.source, self.target];
        let [source, target] = sockets(family, rewritten, self.rewritten);
        Flow {
            listener: (self.listener != NONE).then_some(self.listener),
            backend: BackendId(self.backend),
            source,
            target,
            age: clock.time(self.age),
            idle: clock.time(self.idle),
            there: Traffic {
                packets: self.packets,
                bytes: self.bytes,
            },
            back: Traffic {
                packets: self.answer_packets,
                bytes: self.answer_bytes,
            },
        }
    }
}

/// Two addresses with their ports.
fn sockets(family: Family, addresses: [[u8; 16]; 2], ports: [u8; 4]) -> [SocketAddr; 2] {
    let [a, b, c, d] = ports;
    let ip = |bytes: [u8; 16]| match (family, bytes) {
        (Family::V4, [a, b, c, d, ..]) => IpAddr::from([a, b, c, d]),
        (Family::V6, bytes) => IpAddr::from(bytes),
    };
    let [first, second] = addresses.map(ip);
    [
        SocketAddr::new(first, u16::from_be_bytes([a, b])),
        SocketAddr::new(second, u16::from_be_bytes([c, d])),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    const CLOCK: Clock = Clock::new(250);

    fn record() -> Record {
        Record {
            kind: Kind::Closed.number(),
            why: End::Reset.number(),
            family: 4,
            protocol: 6,
            listener: 7,
            backend: 9,
            at: 5_000_000_000,
            age: 500,
            idle: 125,
            client: [[10, 0, 0, 1], [0; 4], [0; 4], [0; 4]]
                .concat()
                .try_into()
                .unwrap_or_default(),
            ports: [0x12, 0x34, 0, 80],
            packets: 3,
            answer_bytes: 4,
            ..Record::default()
        }
    }

    #[test]
    fn a_record_says_what_it_has() {
        assert_eq!(size_of::<Record>(), 128);
        let event = Event::read(record().as_bytes(), CLOCK).unwrap();
        assert_eq!(event.client.to_string(), "10.0.0.1:4660");
        assert_eq!(event.service.to_string(), "0.0.0.0:80");
        assert_eq!(event.at.as_secs(), 5);
        let What::Closed(flow, End::Reset) = event.what else {
            panic!("{event:?}");
        };
        assert_eq!((flow.listener, flow.backend), (Some(7), BackendId(9)));
        assert_eq!(flow.age.as_secs(), 2);
        assert_eq!(flow.lasted().as_millis(), 1500);
        assert_eq!((flow.there.packets, flow.back.bytes), (3, 4));
    }

    #[test]
    fn whatever_the_bytes_are_there_is_an_answer() {
        let bytes = record().as_bytes().to_vec();
        for length in 0..300 {
            let cut: Vec<u8> = bytes.iter().copied().cycle().take(length).collect();
            let read = Event::read(&cut, CLOCK);
            assert_eq!(read.is_ok(), length == 128, "{length}: {read:?}");
        }
        for place in 0..bytes.len() {
            for value in 0..=u8::MAX {
                let mut other = bytes.clone();
                other[place] = value;
                let read = Event::read(&other, CLOCK);
                let text =
                    read.map_or_else(|wrong| wrong.to_string(), |event| format!("{event:?}"));
                assert!(!text.is_empty());
            }
        }
        let all = [0xff; size_of::<Record>()];
        assert!(matches!(
            Event::read(&all, Clock::new(0)),
            Err(Malformed::Number { what: "family", .. })
        ));
    }
}
