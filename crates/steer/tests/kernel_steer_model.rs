//! Random rules and packets: the kernel says what a few lines of Rust say.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

mod support;

use bpfsmith_gate::{needs, rounds};
use bpfsmith_net::Prefix;
use bpfsmith_steer::{Answer, Binding, Label, Ports, Protocol, Rule, Steering};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use support::{client, cookie, datagrams, label, listen, world};

const SERVICES: usize = 4;

type Model = BTreeMap<Binding, usize>;

/// The longest prefix, then the fewest ports, then the highest first port.
fn right(model: &Model, protocol: Protocol, to: SocketAddr) -> Option<usize> {
    let covers = |(binding, _): &(&Binding, &usize)| {
        binding.protocol() == protocol && binding.covers(to.ip(), to.port())
    };
    let order = |(binding, _): &(&Binding, &usize)| {
        let ports = binding.ports();
        (
            binding.prefix().len(),
            Reverse(ports.count()),
            ports.first(),
        )
    };
    let best = model.iter().filter(covers).max_by_key(order);
    best.map(|(_, service)| *service)
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)]
}

/// Few, so that rules and packets meet.
fn address() -> impl Strategy<Value = IpAddr> {
    let four = prop_oneof![
        (0_u32..8).prop_map(|n| 0xcb00_7100 | n),
        (0_u32..32).prop_map(|n| 0xcb00_7100 ^ (1 << n)),
        any::<u32>(),
    ];
    let base = 0x2001_0db8_0071_u128 << 80;
    let six = prop_oneof![
        (0_u128..8).prop_map(move |n| base | n),
        (0_u32..128).prop_map(move |n| base ^ (1 << n)),
        // The form in which IPv4 addresses stand in IPv6: another address, for whoever sends to it.
        (0_u128..8).prop_map(|n| 0xcb00_7100 | n),
    ];
    prop_oneof![
        four.prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
        six.prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
    ]
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![
        0_u16..20,
        250_u16..260,
        0x7ffc_u16..0x8004,
        65_530_u16..=65_535,
        any::<u16>(),
    ]
}

fn ports() -> impl Strategy<Value = Ports> {
    prop_oneof![
        3 => port().prop_map(Ports::from),
        3 => (port(), port()).prop_map(|(a, b)| Ports::new(a.min(b)..=a.max(b)).unwrap()),
        1 => Just(Ports::ALL),
    ]
}

fn bound() -> impl Strategy<Value = (Binding, usize)> {
    let prefix = (address(), 0_u8..=128).prop_filter_map("too long", |(address, bits)| {
        let most = if address.is_ipv4() { 32 } else { 128 };
        Prefix::new(address, bits % (most + 1)).ok()
    });
    (protocol(), prefix, ports(), 0..SERVICES).prop_map(|(protocol, prefix, ports, service)| {
        (Binding::new(protocol, prefix, ports).unwrap(), service)
    })
}

/// What is done to rules, one by one.
#[derive(Clone, Debug)]
enum Step {
    Bind(Binding, usize),
    Unbind(prop::sample::Index),
    Move(prop::sample::Index, usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => bound().prop_map(|(binding, service)| Step::Bind(binding, service)),
        2 => any::<prop::sample::Index>().prop_map(Step::Unbind),
        1 => (any::<prop::sample::Index>(), 0..SERVICES).prop_map(|(n, to)| Step::Move(n, to)),
    ]
}

struct World {
    steering: Steering,
    labels: Vec<Label>,
    tcp: Vec<TcpListener>,
    udp: Vec<UdpSocket>,
}

impl World {
    fn check(
        &self,
        model: &Model,
        packets: &[(Protocol, IpAddr, u16)],
    ) -> Result<(), TestCaseError> {
        let corners = model.keys().flat_map(|binding| {
            let ports = binding.ports();
            let near = [
                ports.first(),
                ports.last(),
                ports.first().wrapping_sub(1),
                ports.last().wrapping_add(1),
            ];
            near.map(|port| (binding.protocol(), binding.prefix().addr(), port))
        });
        for (protocol, address, port) in packets.iter().copied().chain(corners) {
            let to = SocketAddr::new(address, port);
            let right = match (right(model, protocol, to), protocol) {
                (None, _) => Answer::Pass,
                (Some(n), Protocol::Tcp) => Answer::Socket(cookie(&self.tcp[n])),
                (Some(n), Protocol::Udp) => Answer::Socket(cookie(&self.udp[n])),
            };
            let (protocol, from) = client(protocol, to, 4242);
            let said = self.steering.ask(protocol, from, to).unwrap();
            prop_assert_eq!(said, right, "{} {}", protocol, to);
        }
        Ok(())
    }

    fn replace(&mut self, model: &Model) {
        let rules = model.iter();
        let rules = rules.map(|(binding, n)| Rule::new(*binding, self.labels[*n].clone()));
        let rules: Vec<Rule> = rules.collect();
        self.steering.replace(rules).unwrap();
    }

    fn step(&mut self, model: &mut Model, step: &Step) {
        let nth = |model: &Model, n: &prop::sample::Index| {
            let keys: Vec<Binding> = model.keys().copied().collect();
            (!keys.is_empty()).then(|| *n.get(&keys))
        };
        let (binding, service) = match step {
            Step::Bind(binding, service) => (Some(*binding), Some(*service)),
            Step::Move(n, service) => (nth(model, n), Some(*service)),
            Step::Unbind(n) => (nth(model, n), None),
        };
        let Some(binding) = binding else { return };
        let former = match service {
            Some(service) => {
                let label = self.labels[service].clone();
                let former = self.steering.bind(binding, &label).unwrap();
                (model.insert(binding, service), former)
            }
            None => {
                let former = self.steering.unbind(&binding).unwrap();
                (model.remove(&binding), former)
            }
        };
        assert_eq!(former.0.map(|n| self.labels[n].clone()), former.1);
    }
}

#[test]
fn the_kernel_and_the_model_agree() {
    needs!(Root, NetNs, Loopback, SkLookup, Sockmap);
    let node = world();
    let labels: Vec<Label> = (0..SERVICES).map(|n| label(&format!("s{n}"))).collect();
    let mut world = World {
        steering: Steering::new(&node.ns).unwrap(),
        tcp: (0..SERVICES).map(|_| listen(&node, "[::]:0")).collect(),
        udp: (0..SERVICES).map(|_| datagrams(&node, "[::]:0")).collect(),
        labels,
    };
    for n in 0..SERVICES {
        let label = world.labels[n].clone();
        world.steering.register(&label, &world.tcp[n]).unwrap();
        world.steering.register(&label, &world.udp[n]).unwrap();
    }
    let (rules, steps) = (
        prop::collection::vec(bound(), 0..40),
        prop::collection::vec(step(), 0..12),
    );
    let packets = prop::collection::vec((protocol(), address(), port()), 60);
    let config = Config {
        cases: rounds(256),
        failure_persistence: None,
        ..Config::default()
    };
    let world = std::cell::RefCell::new(world);
    let run = |(rules, steps, packets): (Vec<_>, Vec<Step>, Vec<_>)| {
        let mut world = world.borrow_mut();
        let mut model: Model = rules.into_iter().collect();
        world.replace(&model);
        world.check(&model, &packets)?;
        for step in &steps {
            world.step(&mut model, step);
        }
        world.check(&model, &packets)?;
        // What one by one came to is what all at once is.
        let told = world.steering.rules().unwrap();
        prop_assert_eq!(told.len(), model.len());
        for rule in told {
            let right = model.get(&rule.binding).map(|n| &world.labels[*n]);
            prop_assert_eq!(Some(&rule.service), right);
        }
        Ok(())
    };
    let done = TestRunner::new(config).run(&(rules, steps, packets), run);
    done.unwrap_or_else(|error| panic!("{error}"));
}
