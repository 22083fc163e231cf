//! Packets through the programs of a configuration, in a place of their own: programs and tables are loaded, and given up
//! afterwards. No device sees any of it.

use super::{Grade, Report};
use crate::foresee::{Device, Foreseen};
use crate::plan::Listening;
use bpfsmith_datapath::config::{Config, Protocol, Room};
use bpfsmith_datapath::connections::{self, Connection};
use bpfsmith_datapath::error::Result;
use bpfsmith_datapath::generation::Generation;
use bpfsmith_datapath::look::Look;
use bpfsmith_datapath::programs::{Hook, Usual};
use bpfsmith_datapath::reason::Reason;
use bpfsmith_net::{IfIndex, Netlink};
use bpfsmith_prog::Prog;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Flows of the trial.
const FLOWS: u32 = 1024;

/// So many listeners are tried.
const MOST: usize = 64;

/// Who seems to ask: nobody has these addresses.
const CLIENT4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);

/// The context of a program behind the driver, and where the number of the device is in it.
const CONTEXT: usize = 192;
const DEVICE: usize = 40;

/// What such programs answer.
const PASSED: i32 = -1;
const DROPPED: i32 = 2;

pub(super) fn run(report: &mut Report, foreseen: &Foreseen) {
    let here: Vec<&Device> = foreseen
        .devices
        .iter()
        .filter(|it| it.index.is_some())
        .collect();
    if here.is_empty() {
        return report.note("trial", "no packet was tried: none of the devices is here");
    }
    if let Err(error) = attempt(report, foreseen, &here) {
        match error.errno() {
            Some(bpfsmith_uapi::Errno::EPERM | bpfsmith_uapi::Errno::EACCES) => report.note_to(
                "trial",
                format!("no packet was tried: {error}"),
                "sudo bpfsmith-proxy doctor",
            ),
            _ => report.wrong(
                "trial",
                error.to_string(),
                "see what the kernel says of it: dmesg",
            ),
        }
    }
}

/// Little room is enough.
fn small(config: &Config) -> Config {
    Config {
        room: Room {
            flows: FLOWS,
            fragments: 64,
        },
        ..config.clone()
    }
}

fn attempt(report: &mut Report, foreseen: &Foreseen, here: &[&Device]) -> Result<()> {
    let generation = Generation::first(&small(&foreseen.plan.config))?;
    let programs: BTreeSet<(Hook, Usual)> = foreseen
        .devices
        .iter()
        .flat_map(|it| it.programs.iter().copied())
        .collect();
    let mut loaded = Vec::new();
    for (hook, usual) in &programs {
        loaded.push(generation.load(*hook, *usual)?.name().to_owned());
    }
    report.right("trial", format!("the kernel takes {}", loaded.join(", ")));
    let macs = macs();
    let tcx = generation.load(Hook::Tcx, Usual::Device)?;
    let listeners = foreseen.plan.listeners.iter();
    for (number, listening) in listeners.take(MOST) {
        let devices = foreseen.plan.config.listeners.iter();
        let devices = devices
            .filter(|it| it.number == *number)
            .flat_map(|it| &it.devices);
        let devices: BTreeSet<IfIndex> = devices.copied().collect();
        let by = |it: &&&Device| {
            devices.is_empty() || it.index.is_some_and(|index| devices.contains(&index))
        };
        let found = here.iter().find(by);
        let Some((device, index)) = found.and_then(|it| Some((it, it.index?))) else {
            report.note(
                "trial",
                format!("{}: its devices are not here", listening.proxy),
            );
            continue;
        };
        let mac = macs.get(&index).copied();
        let packet = Packet::to(listening, mac.unwrap_or_default());
        let outcome = packet.send(&tcx, &generation, index)?;
        let what = format!("{}: {} by {}", listening.proxy, packet.text(), device.name);
        let (grade, became, hint) = outcome.judge();
        report.add(
            "trial",
            grade,
            format!("{what} {became}"),
            hint.map(str::to_owned),
        );
    }
    let rest = foreseen.plan.listeners.len().saturating_sub(MOST);
    if rest > 0 {
        report.note("trial", format!("{rest} more listeners were not tried"));
    }
    Ok(())
}

/// The Ethernet addresses of devices.
fn macs() -> BTreeMap<IfIndex, [u8; 6]> {
    let links = Netlink::open()
        .and_then(|net| net.links())
        .unwrap_or_default();
    let links = links.into_iter();
    links
        .filter_map(|link| Some((link.index, link.mac?.0)))
        .collect()
}

/// What begins a flow.
struct Packet {
    client: SocketAddr,
    service: SocketAddr,
    protocol: Protocol,
    frame: Vec<u8>,
}

/// What became of it.
struct Outcome {
    answer: i32,
    connection: Option<Connection>,
    /// Whether its target is this machine.
    is_own: bool,
    /// Counters that rose.
    reasons: BTreeSet<Reason>,
}

impl Packet {
    fn to(listening: &Listening, mac: [u8; 6]) -> Packet {
        let address = listening.address;
        let (client, any): (IpAddr, IpAddr) = match address {
            SocketAddr::V4(_) => (CLIENT4.into(), Ipv4Addr::new(192, 0, 2, 1).into()),
            SocketAddr::V6(_) => (
                CLIENT6.into(),
                Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1).into(),
            ),
        };
        let ip = if address.ip().is_unspecified() {
            any
        } else {
            address.ip()
        };
        let service = SocketAddr::new(ip, address.port());
        let client = SocketAddr::new(client, 40000);
        Packet {
            frame: frame(client, service, listening.protocol, mac),
            client,
            service,
            protocol: listening.protocol,
        }
    }

    fn text(&self) -> String {
        let what = match self.protocol {
            Protocol::Tcp => "a SYN",
            Protocol::Udp => "a packet of UDP",
        };
        format!("{what} from {} to {}", self.client.ip(), self.service)
    }

    fn send(&self, tcx: &Prog, generation: &Generation, device: IfIndex) -> Result<Outcome> {
        let before = generation.counters()?;
        let mut context = vec![0; CONTEXT];
        context[DEVICE..DEVICE + 4].copy_from_slice(&device.0.to_ne_bytes());
        let answer = tcx.run().data(&self.frame).ctx(context).go()?;
        let rose = generation.counters()?.into_iter();
        let rose = rose.filter(|(reason, count)| before.get(reason) != Some(count));
        let all = connections::all(generation.maps(), generation.shape())?.into_iter();
        let mine = |it: &Connection| it.client == self.client && it.service == self.service;
        let connection = all.filter(mine).find(|it| it.protocol == self.protocol);
        let is_own = match connection {
            Some(it) => Look::here()?.is_own(it.target.ip())?,
            None => false,
        };
        Ok(Outcome {
            answer: answer.retval.cast_signed(),
            connection,
            is_own,
            reasons: rose.map(|(reason, _)| reason).collect(),
        })
    }
}

impl Outcome {
    /// How that is, what became of the packet, and what to do.
    fn judge(&self) -> (Grade, String, Option<&'static str>) {
        let has = |reason| self.reasons.contains(&reason);
        let names: Vec<&str> = self.reasons.iter().map(|it| it.name()).collect();
        let names = names.join(", ");
        if has(Reason::CookieSent) {
            return (Grade::Right, "is answered with a cookie".to_owned(), None);
        }
        let goes = self
            .connection
            .map(|it| format!("goes to {} as {}", it.target, it.source));
        match goes {
            // For programs, no way is the same as this machine.
            Some(goes) if has(Reason::ToOwnSocket) && !self.is_own => (
                Grade::Wrong,
                format!("{goes}, and ends in this machine: nothing leads there"),
                Some("give the target a route: ip route add TARGET via GATEWAY"),
            ),
            Some(goes) if has(Reason::ToOwnSocket) => (
                Grade::Right,
                format!("{goes}, a socket of this machine"),
                None,
            ),
            Some(goes) if has(Reason::NoNeighbour) => (
                Grade::Note,
                format!("{goes}; the kernel has to ask for the next hop first"),
                None,
            ),
            Some(goes) if self.answer != PASSED && self.answer != DROPPED => {
                (Grade::Right, goes, None)
            }
            _ if has(Reason::NoNeighbour) => (
                Grade::Note,
                "waits: the kernel has to ask for the next hop first".to_owned(),
                None,
            ),
            _ => (
                Grade::Wrong,
                format!("gets nowhere: {names}"),
                Some(self.hint()),
            ),
        }
    }

    fn hint(&self) -> &'static str {
        let hints = [
            (Reason::NoBackend, "give a target of its group a weight"),
            (
                Reason::NoRoute,
                "ip route get TARGET: give it a route, and see forwarding above",
            ),
            (Reason::NoPort, "more addresses in settings.sources"),
            (Reason::TooBig, "see the MTU above"),
            (
                Reason::SourceLimit,
                "a larger burst in settings.source_limit",
            ),
            (
                Reason::ListenerLimit,
                "a larger burst in limit of the proxy",
            ),
        ];
        let hint = hints
            .iter()
            .find(|(reason, _)| self.reasons.contains(reason));
        hint.map_or("see what is wrong above", |(_, hint)| hint)
    }
}

/// The sum that headers carry, of these bytes.
fn sum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for part in parts {
        for pair in part.chunks(2) {
            let low = pair.get(1).copied().unwrap_or(0);
            sum += u32::from(u16::from_be_bytes([pair[0], low]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = u16::try_from(sum).unwrap_or(u16::MAX);
    !sum
}

/// A SYN, or four bytes of UDP.
fn frame(client: SocketAddr, service: SocketAddr, protocol: Protocol, mac: [u8; 6]) -> Vec<u8> {
    let ports = [
        client.port().to_be_bytes(),
        service.port().to_be_bytes(),
    ]
    .concat();
    let (mut inner, at) = match protocol {
        // Sequence number 1, a header of 24 bytes, SYN, a window, and the largest segment.
        Protocol::Tcp => {
            let rest = [
                0, 0, 0, 1, 0, 0, 0, 0, 0x60, 0x02, 0xff, 0xff, 0, 0, 0, 0, 2, 4, 0x05, 0xb4,
            ];
            ([&ports[..], &rest].concat(), 16)
        }
        Protocol::Udp => ([&ports[..], &[0, 12, 0, 0], b"ping"].concat(), 6),
    };
    let (from, to) = (octets(client.ip()), octets(service.ip()));
    let length = u16::try_from(inner.len()).unwrap_or(u16::MAX);
    let number = u8::try_from(protocol.number()).unwrap_or(u8::MAX);
    let tail = [0, number];
    let checked = sum(&[
        &from,
        &to,
        &length.to_be_bytes(),
        &tail,
        &inner,
    ]);
    inner[at..at + 2].copy_from_slice(&checked.to_be_bytes());
    let [high, low] = length.to_be_bytes();
    let (kind, header) = match client {
        SocketAddr::V4(_) => {
            let [high, low] = (length + 20).to_be_bytes();
            let mut header = vec![
                0x45, 0, high, low, 0, 1, 0x40, 0, 64, number, 0, 0,
            ];
            header.extend(from.iter().chain(&to));
            let checked = sum(&[&header]).to_be_bytes();
            header[10..12].copy_from_slice(&checked);
            ([0x08, 0x00], header)
        }
        SocketAddr::V6(_) => {
            let mut header = vec![0x60, 0, 0, 0, high, low, number, 64];
            header.extend(from.iter().chain(&to));
            ([0x86, 0xdd], header)
        }
    };
    let sender = [0x02, 0, 0, 0, 0, 0x07];
    [
        &mac[..],
        &sender,
        &kind,
        &header,
        &inner,
    ]
    .concat()
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_right() {
        for (client, service) in [
            ("198.51.100.7:40000", "192.0.2.80:80"),
            ("[2001:db8::7]:40000", "[2001:db8::80]:80"),
        ] {
            let (client, service) = (client.parse().unwrap(), service.parse().unwrap());
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let frame = frame(client, service, protocol, [2; 6]);
                let header = if client.is_ipv4() { 20 } else { 40 };
                let (ip, inner) = frame[14..].split_at(header);
                if client.is_ipv4() {
                    assert_eq!(sum(&[ip]), 0);
                }
                let addresses = &ip[header - if client.is_ipv4() { 8 } else { 32 }..];
                let length = u16::try_from(inner.len()).unwrap().to_be_bytes();
                let number = [
                    0,
                    u8::try_from(protocol.number()).unwrap(),
                ];
                assert_eq!(
                    sum(&[addresses, &length, &number, inner]),
                    0,
                    "{protocol:?}"
                );
            }
        }
    }

    #[test]
    fn outcomes() {
        let connection = Connection {
            protocol: Protocol::Tcp,
            client: "198.51.100.7:40000".parse().unwrap(),
            service: "192.0.2.80:80".parse().unwrap(),
            source: "198.51.100.7:40000".parse().unwrap(),
            target: "10.0.0.2:8080".parse().unwrap(),
            backend: bpfsmith_datapath::config::BackendId(1),
            listener: Some(0),
            state: connections::State::Opening,
            age: std::time::Duration::ZERO,
            idle: std::time::Duration::ZERO,
            there: bpfsmith_datapath::event::Traffic::default(),
            back: bpfsmith_datapath::event::Traffic::default(),
        };
        for (answer, connection, reasons, grade) in [
            (7, Some(connection), vec![Reason::Opened], Grade::Right),
            (0, Some(connection), vec![Reason::ToOwnSocket], Grade::Right),
            (0, Some(connection), vec![Reason::ToOwnSocket], Grade::Wrong),
            (7, None, vec![Reason::CookieSent], Grade::Right),
            (-1, Some(connection), vec![Reason::NoNeighbour], Grade::Note),
            (-1, None, vec![Reason::NoNeighbour], Grade::Note),
            (2, None, vec![Reason::NoRoute], Grade::Wrong),
            (-1, None, vec![Reason::NotOurs], Grade::Wrong),
            (2, Some(connection), vec![Reason::Expired], Grade::Wrong),
        ] {
            let outcome = Outcome {
                answer,
                connection,
                is_own: grade == Grade::Right,
                reasons: reasons.into_iter().collect(),
            };
            assert_eq!(outcome.judge().0, grade, "{answer} {:?}", outcome.reasons);
        }
    }
}
