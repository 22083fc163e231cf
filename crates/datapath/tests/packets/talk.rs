//! Who talks to whom, as each side sees it, and what each of their packets becomes.

use super::row::Step;
use super::stage::At;
use crate::support::packet::Frame;
use crate::support::world::{VIP4, VIP6};
use bpfsmith_datapath::config::{
    Algorithm, Backend, BackendId, Config, Family, Group, GroupId, Listener, Member, MidStream,
    Mode, Protocol, Room,
};
use bpfsmith_datapath::reason::Reason;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub(crate) const CLIENT: [u8; 6] = [2, 0x10, 0, 0, 0, 2];
pub(crate) const FRONT: [u8; 6] = [2, 0x10, 0, 0, 0, 1];

/// The Ethernet address of the proxy's device towards a backend.
pub(crate) const fn back(number: u8) -> [u8; 6] {
    [2, 0x20, 0, 0, number, 1]
}

/// The Ethernet address of a backend.
pub(crate) const fn backend(number: u8) -> [u8; 6] {
    [2, 0x20, 0, 0, number, 2]
}

pub(crate) fn vip(family: Family) -> IpAddr {
    match family {
        Family::V4 => VIP4.into(),
        Family::V6 => VIP6.into(),
    }
}

pub(crate) fn client(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 10, 0, 10).into(),
        Family::V6 => Ipv6Addr::new(0xfd10, 0, 0, 0, 0, 0, 0, 10).into(),
    }
}

pub(crate) fn host(family: Family, number: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 20, number, 2).into(),
        Family::V6 => Ipv6Addr::new(0xfd20, number.into(), 0, 0, 0, 0, 0, 2).into(),
    }
}

/// The proxy's own address for full NAT: nobody's in this world.
pub(crate) fn source(family: Family, number: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 98, 0, number).into(),
        Family::V6 => Ipv6Addr::new(0xfd98, 0, 0, 0, 0, 0, 0, number.into()).into(),
    }
}

/// Both families with both protocols.
pub(crate) const LANES: [(Family, Protocol); 4] = [
    (Family::V4, Protocol::Tcp),
    (Family::V4, Protocol::Udp),
    (Family::V6, Protocol::Tcp),
    (Family::V6, Protocol::Udp),
];

pub(crate) fn name(lane: (Family, Protocol)) -> String {
    format!("{:?} {:?}", lane.0, lane.1)
}

/// A conversation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Talk {
    pub(crate) protocol: Protocol,
    pub(crate) client: SocketAddr,
    pub(crate) service: SocketAddr,
    /// The client as its backend sees it.
    pub(crate) seen: SocketAddr,
    pub(crate) backend: SocketAddr,
    /// Which of the hosts the backend is on.
    pub(crate) host: u8,
    /// Packets reach the backend as they are.
    pub(crate) is_direct: bool,
}

impl Talk {
    /// From the client's port to port 80 of the service, whose backend is the first host's port 8080,
    /// and sees the client.
    pub(crate) fn new(lane: (Family, Protocol), port: u16) -> Talk {
        let (family, protocol) = lane;
        let client = SocketAddr::new(client(family), port);
        Talk {
            protocol,
            client,
            service: SocketAddr::new(vip(family), 80),
            seen: client,
            backend: SocketAddr::new(host(family, 0), 8080),
            host: 0,
            is_direct: false,
        }
    }

    pub(crate) fn mode(mut self, mode: Mode) -> Talk {
        let family = self.family();
        match mode {
            Mode::Dnat => {}
            Mode::FullNat => self.seen.set_ip(source(family, 1)),
            Mode::DirectReturn => {
                self.backend = self.service;
                self.is_direct = true;
            }
        }
        self
    }

    /// With the backend on another host.
    pub(crate) fn on(mut self, host: u8) -> Talk {
        self.host = host;
        if !self.is_direct {
            self.backend.set_ip(self::host(self.family(), host));
        }
        self
    }

    pub(crate) fn family(&self) -> Family {
        Family::of(self.client.ip())
    }

    /// A packet between two of them.
    fn frame(&self, from: SocketAddr, to: SocketAddr) -> Frame {
        let frame = Frame::ip(from.ip(), to.ip());
        match self.protocol {
            Protocol::Tcp => frame.tcp(from.port(), to.port()).flags("A"),
            Protocol::Udp => frame.udp(from.port(), to.port()),
        }
    }

    /// A packet of the client's, as it comes.
    pub(crate) fn asks(&self) -> Frame {
        self.frame(self.client, self.service).macs(CLIENT, FRONT)
    }

    /// The same as the backend gets it, but for its time to live.
    pub(crate) fn asked(&self) -> Frame {
        let macs = (back(self.host), backend(self.host));
        self.frame(self.seen, self.backend).macs(macs.0, macs.1)
    }

    /// A packet of the backend's, as it comes.
    pub(crate) fn answers(&self) -> Frame {
        let macs = (backend(self.host), back(self.host));
        self.frame(self.backend, self.seen).macs(macs.0, macs.1)
    }

    /// The same as the client gets it, but for its time to live.
    pub(crate) fn answered(&self) -> Frame {
        self.frame(self.service, self.client).macs(FRONT, CLIENT)
    }

    /// A packet to the backend, which is to get there.
    pub(crate) fn there(&self, shape: impl Fn(Frame) -> Frame) -> Step {
        let (ask, asked) = (shape(self.asks()), shape(self.asked()).ttl(63));
        Step::new(At::Front, &ask).becomes(&asked)
    }

    /// A packet from the backend, which is to get to the client.
    pub(crate) fn back(&self, shape: impl Fn(Frame) -> Frame) -> Step {
        let (answer, answered) = (shape(self.answers()), shape(self.answered()).ttl(63));
        Step::new(At::Back(self.host), &answer).becomes(&answered)
    }

    /// With these flags, if it is TCP.
    pub(crate) fn there_with(&self, flags: &str) -> Step {
        self.there(|frame| self.flagged(frame, flags))
    }

    pub(crate) fn back_with(&self, flags: &str) -> Step {
        self.back(|frame| self.flagged(frame, flags))
    }

    pub(crate) fn flagged(&self, frame: Frame, flags: &str) -> Frame {
        match self.protocol {
            Protocol::Tcp => frame.flags(flags),
            Protocol::Udp => frame,
        }
    }

    /// What opens the flow.
    pub(crate) fn opens(&self) -> Step {
        let opening = self.there_with("S");
        opening.counts(&[Reason::Opened, Reason::Forwarded])
    }

    /// What establishes it.
    pub(crate) fn accepts(&self) -> Step {
        let answer = self.back_with("SA");
        answer.counts(&[Reason::Answered, Reason::Forwarded])
    }

    /// Both, and the client's next packet.
    pub(crate) fn established(&self) -> Vec<Step> {
        vec![
            self.opens(),
            self.accepts(),
            self.there_with("A"),
        ]
    }
}

/// What is configured, piece by piece.
#[derive(Clone, Debug)]
pub(crate) struct Plan(pub(crate) Config);

impl Plan {
    /// Backends on the three hosts, with numbers 0 to 2 for IPv4 and 3 to 5 for IPv6, on port 8080;
    /// no groups and no listeners.
    pub(crate) fn empty() -> Plan {
        let mut config = Config {
            room: Room {
                flows: 64,
                ..Room::default()
            },
            ..Config::default()
        };
        for (family, first) in [(Family::V4, 0), (Family::V6, 3)] {
            for number in 0..3 {
                config.backends.push(Backend {
                    id: BackendId(first + u16::from(number)),
                    address: SocketAddr::new(host(family, number), 8080),
                });
            }
            config.sources.push(source(family, 1));
        }
        Plan(config)
    }

    /// The service's port 80, all lanes, on the first host.
    pub(crate) fn new(mode: Mode) -> Plan {
        Plan::with(mode, Algorithm::Maglev, &[0])
    }

    /// The service's port 80, all lanes, on these hosts.
    pub(crate) fn with(mode: Mode, algorithm: Algorithm, hosts: &[u16]) -> Plan {
        let plan = Plan::empty();
        let six: Vec<u16> = hosts.iter().map(|host| host + 3).collect();
        let plan = plan
            .group(mode, algorithm, hosts)
            .group(mode, algorithm, &six);
        plan.service(80)
    }

    /// A group of these backends.
    pub(crate) fn group(mut self, mode: Mode, algorithm: Algorithm, backends: &[u16]) -> Plan {
        let members = backends.iter().map(|id| Member {
            backend: BackendId(*id),
            weight: 1,
        });
        self.0.groups.push(Group {
            algorithm,
            mode,
            members: members.collect(),
        });
        self
    }

    /// All lanes of a port of the service go to groups 0 for IPv4 and 1 for IPv6.
    pub(crate) fn service(mut self, port: u16) -> Plan {
        for (family, protocol) in LANES {
            let group = u32::from(family == Family::V6);
            let address = SocketAddr::new(vip(family), port);
            self = self.listen(protocol, address, group);
        }
        self
    }

    pub(crate) fn listen(self, protocol: Protocol, address: SocketAddr, group: u32) -> Plan {
        self.listener(|listener| Listener {
            address,
            protocol,
            group: GroupId(group),
            ..listener
        })
    }

    /// A listener with the next number.
    pub(crate) fn listener(mut self, shape: impl FnOnce(Listener) -> Listener) -> Plan {
        let number = u16::try_from(self.0.listeners.len()).unwrap();
        self.0.listeners.push(shape(Listener {
            number,
            devices: vec![],
            address: SocketAddr::new(VIP4.into(), 80),
            protocol: Protocol::Tcp,
            routes: vec![],
            group: GroupId(0),
        }));
        self
    }

    pub(crate) fn mid_stream(mut self, mid_stream: MidStream) -> Plan {
        self.0.mid_stream = mid_stream;
        self
    }

    pub(crate) fn room(mut self, flows: u32) -> Plan {
        self.0.room = Room {
            flows,
            ..Room::default()
        };
        self
    }

    pub(crate) fn ports(mut self, ports: std::ops::RangeInclusive<u16>) -> Plan {
        self.0.source_ports = ports;
        self
    }
}
