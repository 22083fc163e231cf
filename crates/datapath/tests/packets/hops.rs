//! Where packets go next: other devices, nowhere, not yet known, this machine itself.

use super::row::{Step, all, check, is, row, story};
use super::stage::{At, Ground};
use super::talk::{CLIENT, FRONT, LANES, Plan, Talk, host, name};
use crate::support::packet::Frame;
use crate::support::world;
use bpfsmith_datapath::config::{Family, Mode};
use bpfsmith_datapath::generation::Generation;
use bpfsmith_datapath::programs::{Hook, Usual};
use bpfsmith_datapath::reason::Reason;
use bpfsmith_datapath::shape::Path;
use bpfsmith_gate::{deadline, needs};
use bpfsmith_net::{Address, IfIndex, Mac, Neighbour, Prefix, Route, RouteKind};
use bpfsmith_prog::target::Tcx;
use std::net::{IpAddr, SocketAddr, UdpSocket};

fn ip(family: Family, four: &str, six: &str) -> IpAddr {
    match family {
        Family::V4 => four.parse().unwrap(),
        Family::V6 => six.parse().unwrap(),
    }
}

/// The first backend of each family is elsewhere.
fn at(plan: Plan, four: &str, six: &str) -> Plan {
    let mut plan = plan;
    for (number, text) in [(0, four), (3, six)] {
        plan.0.backends[number].address = SocketAddr::new(text.parse().unwrap(), 8080);
    }
    plan
}

#[test]
fn each_host_has_its_device() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    for mode in [Mode::Dnat, Mode::FullNat] {
        for number in 0..3 {
            let plan = Plan::with(
                mode,
                bpfsmith_datapath::config::Algorithm::Maglev,
                &[number],
            );
            let rows = LANES.map(|lane| {
                let talk = Talk::new(lane, 1234).mode(mode);
                let talk = talk.on(u8::try_from(number).unwrap());
                row(format!("{} host {number}", name(lane)), talk.established())
            });
            check(&ground, &plan, &rows);
        }
    }
    for number in 0..3 {
        let mode = Mode::DirectReturn;
        let plan = Plan::with(
            mode,
            bpfsmith_datapath::config::Algorithm::Maglev,
            &[number],
        );
        let rows = LANES.map(|lane| {
            let talk = Talk::new(lane, 1234).mode(mode);
            let talk = talk.on(u8::try_from(number).unwrap());
            row(
                format!("{} host {number} direct", name(lane)),
                [talk.opens()],
            )
        });
        check(&ground, &plan, &rows);
    }
}

/// A backend behind a gateway.
#[test]
fn a_gateway_is_the_next_hop() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let proxy = &ground.world.proxy;
    for (prefix, family) in [
        ("192.0.2.0/24", Family::V4),
        ("2001:db8:2::/48", Family::V6),
    ] {
        let prefix: Prefix = prefix.parse().unwrap();
        let route = Route {
            via: Some(host(family, 1)),
            dev: Some(proxy.backs[1].index),
            ..Route::to(prefix)
        };
        proxy.node.net.add_route(&route).unwrap();
    }
    let rows = LANES.map(|lane| {
        let mut talk = Talk::new(lane, 1234).on(1);
        talk.backend
            .set_ip(ip(lane.0, "192.0.2.9", "2001:db8:2::9"));
        row(name(lane), talk.established())
    });
    let plan = at(Plan::new(Mode::Dnat), "192.0.2.9", "2001:db8:2::9");
    check(&ground, &plan, &rows);
}

#[test]
fn no_way_leads_there() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let node = &ground.world.proxy.node;
    for (kind, four, six) in [
        (RouteKind::UNREACHABLE, "192.0.2.0/26", "2001:db8:1::/48"),
        (RouteKind::BLACKHOLE, "192.0.2.64/26", "2001:db8:2::/48"),
        (RouteKind::PROHIBIT, "192.0.2.128/26", "2001:db8:3::/48"),
    ] {
        for prefix in [four, six] {
            let route = Route {
                kind,
                ..Route::to(prefix.parse().unwrap())
            };
            node.net.add_route(&route).unwrap();
        }
    }
    for (four, six) in [
        ("192.0.2.1", "2001:db8:1::1"),
        ("192.0.2.65", "2001:db8:2::1"),
        ("192.0.2.129", "2001:db8:3::1"),
    ] {
        let rows = LANES.map(|lane| {
            let path = Path::new(lane.0, lane.1);
            story(
                format!("{} to {}", name(lane), ip(lane.0, four, six)),
                move |stage| {
                    let talk = Talk::new(lane, 1234);
                    all(stage, &[talk.opens().drops(Reason::NoRoute)])?;
                    is("entries", stage.entries(path), [0, 0])
                },
            )
        });
        check(&ground, &at(Plan::new(Mode::Dnat), four, six), &rows);
    }
}

#[test]
fn neighbours_that_nobody_knows_yet() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let plan = at(Plan::new(Mode::Dnat), "10.20.0.77", "fd20:0::77");
    let unknown = |lane: (Family, _)| {
        let mut talk = Talk::new(lane, 1234);
        talk.backend.set_ip(ip(lane.0, "10.20.0.77", "fd20:0::77"));
        talk
    };
    // The kernel writes the Ethernet addresses, when it knows them.
    let there = move |lane, counts: &[Reason]| {
        let talk = unknown(lane);
        let flags = move |frame: Frame| talk.flagged(frame, "S");
        let asked = flags(talk.asked()).macs([0; 6], [0; 6]).ttl(63);
        let step = Step::new(At::Front, &flags(talk.asks()));
        let step = step.becomes(&asked).counts(counts);
        step.but_xdp_passes(&[Reason::NoNeighbour])
    };
    let opens = [Reason::Opened, Reason::Forwarded];
    let rows = LANES.map(|lane| {
        let path = Path::new(lane.0, lane.1);
        story(name(lane), move |stage| {
            let is_xdp = stage.hook == Hook::Xdp;
            all(
                stage,
                &[
                    there(lane, &opens),
                    there(lane, &[Reason::Forwarded]),
                ],
            )?;
            is(
                "entries",
                stage.entries(path),
                [0, if is_xdp { 0 } else { 2 }],
            )?;
            // Now somebody does.
            let device = stage.ground.world.proxy.backs[0].index;
            let mac = Mac([2, 0x20, 0, 0, 0, 0x77]);
            let address = ip(lane.0, "10.20.0.77", "fd20:0::77");
            let net = &stage.ground.world.proxy.node.net;
            net.add_neighbour(&Neighbour::permanent(device, address, mac))
                .unwrap();
            let talk = unknown(lane);
            let asks = talk.flagged(talk.asks(), "S");
            let asked = talk
                .flagged(talk.asked(), "S")
                .macs(super::talk::back(0), mac.0);
            let step = Step::new(At::Front, &asks);
            let step = step.becomes(&asked.ttl(63));
            let known = step.counts(if is_xdp { &opens } else { &[Reason::Forwarded] });
            let said = all(stage, &[known]);
            net.delete_neighbour(device, address).unwrap();
            said
        })
    });
    check(&ground, &plan, &rows);
}

/// A backend on the proxy's own host gets its packets from its own stack.
#[test]
fn a_backend_on_this_machine() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let plan = at(Plan::new(Mode::Dnat), "10.10.0.1", "fd10::1");
    let rows = LANES.map(|lane| {
        let mut talk = Talk::new(lane, 1234);
        talk.backend.set_ip(ip(lane.0, "10.10.0.1", "fd10::1"));
        // Behind XDP there is the other hook's program, which has to see the packet as it is.
        let up = |flags: &str, counts: &[Reason]| {
            let asks = talk.flagged(talk.asks(), flags);
            let asked = talk.flagged(talk.asked(), flags);
            let asked = asked.macs(CLIENT, FRONT).ttl(63);
            let but: Vec<Reason> = counts
                .iter()
                .copied()
                .filter(|reason| *reason != Reason::Forwarded)
                .collect();
            Step::new(At::Front, &asks)
                .comes_up(&asked, counts)
                .but_xdp_passes(&but)
        };
        let again = [Reason::Forwarded, Reason::ToOwnSocket];
        let opens = [
            Reason::Opened,
            Reason::Forwarded,
            Reason::ToOwnSocket,
        ];
        row(
            name(lane),
            [
                up("S", &opens),
                up("S", &again),
                up("A", &again),
            ],
        )
    });
    check(&ground, &plan, &rows);
}

/// The kernel does not tell a destination that no route knows from one of this machine's own: its own
/// stack has the packet then, and says that it is unreachable.
#[test]
fn what_no_route_knows_comes_up() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let (four, six) = ("198.51.100.1", "2001:db8:9::1");
    let rows = LANES.map(|lane| {
        let mut talk = Talk::new(lane, 1234);
        talk.backend.set_ip(ip(lane.0, four, six));
        let asks = talk.flagged(talk.asks(), "S");
        let asked = talk.flagged(talk.asked(), "S");
        let asked = asked.macs(CLIENT, FRONT).ttl(63);
        let counts = [
            Reason::Opened,
            Reason::Forwarded,
            Reason::ToOwnSocket,
        ];
        let step = Step::new(At::Front, &asks)
            .comes_up(&asked, &counts)
            .but_xdp_passes(&[Reason::Opened, Reason::ToOwnSocket]);
        row(name(lane), [step])
    });
    check(&ground, &at(Plan::new(Mode::Dnat), four, six), &rows);
}

/// Packets that keep their addresses reach a backend whose Ethernet address nobody knew.
#[test]
fn direct_return_finds_its_neighbour() {
    needs!(Root, NetNs, Veth, Tcx);
    let plan = world::Plan::new(1, 1).neighbours(world::Neighbours::Dynamic);
    let world = plan.build();
    let generation = Generation::first(&super::talk::Plan::new(Mode::DirectReturn).0).unwrap();
    let prog = generation.load(Hook::Tcx, Usual::Device).unwrap();
    let front = Tcx::ingress(world.proxy.front.index);
    let proxy = &world.proxy.node;
    let _link = proxy.run(|| prog.attach(&front).unwrap()).unwrap();
    let backend = &world.backends[0].node;
    for vip in [
        IpAddr::from(world::VIP4),
        world::VIP6.into(),
    ] {
        let address = Address::new(IfIndex::LOOPBACK, Prefix::host(vip));
        backend.net.add_address(&address).unwrap();
        let at = SocketAddr::new(vip, 80);
        let socket = backend.run(|| UdpSocket::bind(at)).unwrap().unwrap();
        let client = world.client().node.run(|| {
            let any = Family::of(vip).any();
            UdpSocket::bind(SocketAddr::new(any, 0))
        });
        let client = client.unwrap().unwrap();
        socket.set_nonblocking(true).unwrap();
        deadline(world::LIMIT, || {
            client.send_to(b"there", at).unwrap();
            let mut bytes = [0; 8];
            let (count, from) = socket.recv_from(&mut bytes).ok()?;
            assert_eq!(&bytes[..count], b"there");
            assert!(world.client().port.addresses().contains(&from.ip()));
            Some(())
        });
    }
}
