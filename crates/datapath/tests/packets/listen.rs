//! Whose packets are taken, and by which group.

use super::row::{Row, Step, check, row};
use super::stage::{At, Ground};
use super::talk::{LANES, Plan, Talk, client, host, name, vip};
use bpfsmith_datapath::config::{
    Algorithm, Backend, BackendId, Config, Family, GroupId, Listener, Mode, Protocol,
};
use bpfsmith_datapath::reason::Reason;
use bpfsmith_gate::needs;
use bpfsmith_net::IfIndex;
use std::net::{IpAddr, SocketAddr};

const OPENS: [Reason; 2] = [Reason::Opened, Reason::Forwarded];

/// An address that only listeners for all addresses have.
fn elsewhere(family: Family) -> IpAddr {
    let text = match family {
        Family::V4 => "10.99.0.7",
        Family::V6 => "fd99::7",
    };
    text.parse().unwrap()
}

/// Listeners by what they name, the narrowest first: device and address, device, address, nothing.
const FORMS: [(bool, bool); 4] = [
    (true, true),
    (true, false),
    (false, true),
    (false, false),
];

/// A port for each set of forms, of which the first form's listener leads to the backend's port 9000,
/// the second one's to 9001 and so on.
fn forms(family: Family, front: IfIndex) -> Config {
    let mut plan = Plan::empty();
    for form in 0..4 {
        plan.0.backends.push(Backend {
            id: BackendId(100 + form),
            address: SocketAddr::new(host(family, 0), 9000 + form),
        });
        plan = plan.group(Mode::Dnat, Algorithm::Maglev, &[100 + form]);
    }
    for set in 1_u16..16 {
        for (number, (device, address)) in FORMS.into_iter().enumerate() {
            if set & 1 << number == 0 {
                continue;
            }
            let ip = if address { vip(family) } else { family.any() };
            plan = plan.listener(|listener| Listener {
                devices: if device { vec![front] } else { vec![] },
                address: SocketAddr::new(ip, 1000 + set),
                group: GroupId(u32::try_from(number).unwrap()),
                ..listener
            });
        }
    }
    plan.0
}

#[test]
fn the_narrowest_listener_has_it() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    for family in [Family::V4, Family::V6] {
        let front = ground.device(At::Front);
        let plan = Plan(forms(family, front));
        let rows: Vec<Row> = (1_u16..16)
            .map(|set| {
                let steps = [
                    (At::Front, vip(family)),
                    (At::Front, elsewhere(family)),
                    (At::Back(1), vip(family)),
                    (At::Back(1), elsewhere(family)),
                ];
                let steps = steps.into_iter().enumerate().map(|(number, (at, to))| {
                    let port = 5000 + u16::try_from(number).unwrap();
                    let mut talk = Talk::new((family, Protocol::Tcp), port);
                    talk.service = SocketAddr::new(to, 1000 + set);
                    let has = |(number, (device, address)): (u16, (bool, bool))| {
                        set & 1 << number != 0
                            && (!device || at == At::Front)
                            && (!address || to == vip(family))
                    };
                    let wanted = (0..).zip(FORMS).find(|form| has(*form));
                    let step = Step::new(at, &talk.asks().flags("S"));
                    match wanted {
                        None => step.passes(Reason::NotOurs),
                        Some((number, _)) => {
                            talk.backend.set_port(9000 + number);
                            let asked = talk.asked().flags("S").ttl(63);
                            step.becomes(&asked).counts(&OPENS)
                        }
                    }
                });
                row(format!("{family:?} forms {set:04b}"), steps)
            })
            .collect();
        check(&ground, &plan, &rows);
    }
}

#[test]
fn only_its_own_packets_are_taken() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let mut rows = Vec::new();
    for lane in LANES {
        let (family, title) = (lane.0, name(lane));
        let to = |ip: IpAddr, port: u16| {
            let mut talk = Talk::new(lane, 1234);
            talk.service = SocketAddr::new(ip, port);
            let frame = talk.flagged(talk.asks(), "S");
            Step::new(At::Front, &frame).passes(Reason::NotOurs)
        };
        // Neighbours of 80 in the set of ports, and 80 the wrong way round.
        let ports = [
            0,
            1,
            79,
            81,
            72,
            88,
            80 + 256,
            80 + 2048,
            80 << 8,
            (80 << 8) + 1,
            65535,
        ];
        rows.push(row(
            format!("{title} other ports"),
            ports.map(|port| to(vip(family), port)),
        ));
        rows.push(row(
            format!("{title} other addresses"),
            [
                elsewhere(family),
                client(family),
                host(family, 0),
            ]
            .map(|ip| to(ip, 80)),
        ));
        rows.push(row(
            format!("{title} the backend's port at the listener's address"),
            [to(vip(family), 8080)],
        ));
        let mut stray = Talk::new(lane, 1234);
        let answer = stray.flagged(stray.answers(), "SA");
        let mut steps = vec![Step::new(At::Back(0), &answer)];
        stray.backend = SocketAddr::new(host(family, 1), 8080);
        steps.push(Step::new(At::Back(1), &stray.answers()));
        rows.push(row(format!("{title} answers that nobody asked for"), steps));
        let talk = Talk::new(lane, 1234);
        let mut near = talk;
        near.seen.set_port(1235);
        let mut steps = talk.established();
        steps.push(Step::new(At::Back(0), &near.answers()));
        near.seen = talk.seen;
        near.backend.set_port(8081);
        steps.push(Step::new(At::Back(0), &near.answers()));
        near.backend = SocketAddr::new(host(family, 1), 8080);
        steps.push(Step::new(At::Back(1), &near.answers()));
        rows.push(row(format!("{title} answers of another flow"), steps));
        // Who sends from the listener's port has not asked, but port 80 asks like any other.
        let eighty = Talk::new(lane, 80);
        rows.push(row(format!("{title} from port 80"), eighty.established()));
    }
    check(&ground, &Plan::new(Mode::Dnat), &rows);
}

#[test]
fn protocols_and_families_are_apart() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    for only in LANES {
        let group = u32::from(only.0 == Family::V6);
        let mut plan = Plan::with(Mode::Dnat, Algorithm::Maglev, &[0]);
        plan.0.listeners.clear();
        let plan = plan.listen(only.1, SocketAddr::new(vip(only.0), 80), group);
        let rows = LANES.map(|lane| {
            let talk = Talk::new(lane, 1234);
            let title = format!("{} where only {} is taken", name(lane), name(only));
            match () {
                () if lane == only => row(title, talk.established()),
                () if lane.0 == only.0 => row(title, [talk.opens().passes(Reason::OtherTransport)]),
                () => row(title, [talk.opens().passes(Reason::OtherProtocol)]),
            }
        });
        check(&ground, &plan, &rows);
    }
}

/// A listener for all addresses answers as who was asked.
#[test]
fn all_addresses() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let mut plan = Plan::with(Mode::Dnat, Algorithm::Maglev, &[0]);
    plan.0.listeners.clear();
    for (family, protocol) in LANES {
        let address = SocketAddr::new(family.any(), 80);
        plan = plan.listen(protocol, address, u32::from(family == Family::V6));
    }
    let rows = LANES.map(|lane| {
        let near = Talk::new(lane, 1234);
        let mut far = near;
        far.client.set_port(1235);
        far.seen = far.client;
        far.service.set_ip(elsewhere(lane.0));
        // Answers go to the listener's port.
        let mut eighty = Talk::new(lane, 80);
        eighty.service.set_ip(elsewhere(lane.0));
        let steps = [near, far, eighty].map(|talk| talk.established());
        row(name(lane), steps.concat())
    });
    check(&ground, &plan, &rows);
}

/// A backend without a port gets the one that was asked for.
#[test]
fn a_backend_may_keep_the_port() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    for mode in [Mode::Dnat, Mode::FullNat] {
        let mut plan = Plan::new(mode).service(443);
        for backend in &mut plan.0.backends {
            backend.address.set_port(0);
        }
        let rows = LANES.map(|lane| {
            let steps = [80, 443].map(|port| {
                let mut talk = Talk::new(lane, 1000 + 24 + port).mode(mode);
                talk.service.set_port(port);
                talk.backend.set_port(port);
                talk.established()
            });
            row(format!("{} {mode:?}", name(lane)), steps.concat())
        });
        check(&ground, &plan, &rows);
    }
}

#[test]
fn groups_without_backends() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let mut plan = Plan::empty();
    for algorithm in [
        Algorithm::Maglev,
        Algorithm::SourceAffinity,
        Algorithm::RoundRobin,
    ] {
        plan = plan.group(Mode::Dnat, algorithm, &[]);
    }
    plan = plan.group(Mode::Dnat, Algorithm::Maglev, &[0]);
    plan.0.groups[3].members[0].weight = 0;
    let mut rows = Vec::new();
    for (group, port) in (0..4).zip(80..) {
        let address = SocketAddr::new(vip(Family::V4), port);
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            plan = plan.listen(protocol, address, group);
            let mut talk = Talk::new((Family::V4, protocol), 1234);
            talk.service = address;
            rows.push(row(
                format!("{protocol:?} group {group}"),
                [talk.opens().drops(Reason::NoBackend)],
            ));
        }
    }
    check(&ground, &plan, &rows);
}

/// Sources in IPv4 and IPv6, and the host that the longest prefix leads to.
const SOURCES: [(&str, &str, u8); 8] = [
    ("172.16.0.1", "2001:db8::1", 0),
    ("10.0.0.0", "fd00::", 1),
    ("10.255.255.255", "fd00:ffff::", 1),
    ("11.0.0.0", "fe00::", 0),
    ("10.10.0.9", "fd10::9", 2),
    ("10.10.0.10", "fd10::a", 0),
    ("10.10.0.11", "fd10::b", 2),
    ("10.11.0.0", "fd11::", 1),
];

#[test]
fn the_longest_prefix_counts() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    for family in [Family::V4, Family::V6] {
        let base = if family == Family::V4 { 0 } else { 3 };
        let mut plan = Plan::empty();
        for number in 0..3 {
            plan = plan.group(Mode::Dnat, Algorithm::Maglev, &[base + number]);
        }
        plan = plan.group(Mode::Dnat, Algorithm::Maglev, &[]);
        let routes: [(&str, u32); 4] = match family {
            Family::V4 => [
                ("10.0.0.0/8", 1),
                ("10.10.0.0/24", 2),
                ("10.10.0.10/32", 0),
                ("192.0.2.0/24", 3),
            ],
            Family::V6 => [
                ("fd00::/8", 1),
                ("fd10::/64", 2),
                ("fd10::a/128", 0),
                ("2001:db8:2::/48", 3),
            ],
        };
        let routes = |protocol: Protocol, port: u16| {
            let routes = routes.map(|(prefix, group)| (prefix.parse().unwrap(), GroupId(group)));
            move |listener: Listener| Listener {
                address: SocketAddr::new(vip(family), port),
                protocol,
                routes: routes.to_vec(),
                ..listener
            }
        };
        let all = match family {
            Family::V4 => "0.0.0.0/0",
            Family::V6 => "::/0",
        };
        let plan = plan
            .listener(routes(Protocol::Tcp, 80))
            .listener(routes(Protocol::Udp, 80))
            .listen(Protocol::Tcp, SocketAddr::new(vip(family), 81), 2)
            .listener(|listener| Listener {
                address: SocketAddr::new(vip(family), 82),
                routes: vec![(all.parse().unwrap(), GroupId(1))],
                ..listener
            });
        let mut rows = Vec::new();
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for (four, six, wanted) in SOURCES {
                let mut talk = Talk::new((family, protocol), 1234).on(wanted);
                let text = if family == Family::V4 { four } else { six };
                talk.client.set_ip(text.parse().unwrap());
                talk.seen = talk.client;
                rows.push(row(format!("{protocol:?} from {text}"), [talk.opens()]));
            }
        }
        let from = |text4: &str, text6: &str, port: u16, wanted: u8| {
            let mut talk = Talk::new((family, Protocol::Tcp), 1234).on(wanted);
            let text = if family == Family::V4 { text4 } else { text6 };
            talk.client.set_ip(text.parse().unwrap());
            talk.seen = talk.client;
            talk.service.set_port(port);
            talk.opens()
        };
        rows.push(row(
            format!("{family:?} a prefix of nobody"),
            [from("192.0.2.9", "2001:db8:2::9", 80, 0).drops(Reason::NoBackend)],
        ));
        rows.push(row(
            format!("{family:?} prefixes of another listener"),
            [from("10.0.0.1", "fd00::1", 81, 2)],
        ));
        rows.push(row(
            format!("{family:?} the prefix of all"),
            [from("9.0.0.1", "2::1", 82, 1)],
        ));
        check(&ground, &plan, &rows);
    }
}
