//! What nobody configured is not in the programs. Needs no kernel.

use bpfsmith_asm::program::Program;
use bpfsmith_datapath::clock::Clock;
use bpfsmith_datapath::config::{
    Above, Algorithm, Backend, BackendId, Config, Fragments, Group, GroupId, Listener,
    ListenerLimit, Member, Mode, Protocol, Rate,
};
use bpfsmith_datapath::programs::{Hook, Usual, program};
use bpfsmith_datapath::shape::Shape;
use bpfsmith_net::{IfIndex, Prefix};
use std::collections::BTreeSet;

/// One listener on an address, one group of one backend.
fn config(listen: &str, backend: &str, protocol: Protocol) -> Config {
    Config {
        listeners: vec![Listener {
            number: 1,
            devices: Vec::new(),
            address: listen.parse().expect("an address"),
            protocol,
            routes: Vec::new(),
            group: GroupId(0),
        }],
        groups: vec![Group {
            algorithm: Algorithm::Maglev,
            mode: Mode::Dnat,
            members: vec![Member {
                backend: BackendId(1),
                weight: 1,
            }],
        }],
        backends: vec![Backend {
            id: BackendId(1),
            address: backend.parse().expect("an address"),
        }],
        ..Config::default()
    }
}

fn v4() -> Config {
    config("192.0.2.1:80", "10.0.0.1:8080", Protocol::Tcp)
}

fn build(config: &Config, hook: Hook) -> Program {
    let shape = Shape::of(config, 251, Clock::new(250));
    program(hook, Usual::Device, &shape).unwrap_or_else(|report| panic!("{report}"))
}

fn maps(program: &Program) -> BTreeSet<String> {
    let names = program.maps().iter().map(|map| map.name.to_string());
    names.collect()
}

/// What the second program has more than the first: maps, and whether it is longer.
#[track_caller]
fn more(less: &Config, more: &Config, hook: Hook) -> Vec<String> {
    let (less, more) = (build(less, hook), build(more, hook));
    assert!(
        less.insns().len() < more.insns().len(),
        "{} instructions, and {} with more to do",
        less.insns().len(),
        more.insns().len()
    );
    maps(&more).difference(&maps(&less)).cloned().collect()
}

#[test]
fn a_family_or_protocol_that_nobody_listens_to_is_left_out() {
    for hook in [Hook::Xdp, Hook::Tcx] {
        let mut both = v4();
        let udp = config("192.0.2.1:53", "10.0.0.1:53", Protocol::Udp);
        both.listeners.push(Listener {
            number: 2,
            ..udp.listeners[0].clone()
        });
        assert_eq!(more(&v4(), &both, hook), ["flows4_udp"]);
        let mut families = v4();
        let v6 = config("[2001:db8::1]:80", "[fd00::1]:80", Protocol::Tcp);
        families.listeners.push(Listener {
            number: 2,
            group: GroupId(1),
            ..v6.listeners[0].clone()
        });
        families.groups.push(v6.groups[0].clone());
        assert_eq!(
            more(&v4(), &families, hook),
            ["flows6_tcp", "fragments6", "listeners6",]
        );
    }
}

#[test]
fn cookies_are_made_where_that_is_wanted() {
    let limit = |above| {
        let rate = Rate {
            per_second: 1,
            burst: 1,
        };
        let mut config = v4();
        config
            .limits
            .listeners
            .insert(1, ListenerLimit { rate, above });
        config
    };
    let (drops, cookies) = (limit(Above::Drop), limit(Above::Cookies));
    for hook in [Hook::Xdp, Hook::Tcx] {
        assert_eq!(more(&drops, &cookies, hook), ["shifts4"]);
    }
}

#[test]
fn fragments_and_tags_are_looked_into_where_that_is_wanted() {
    let pass = Config {
        fragments: Fragments::Pass,
        ..v4()
    };
    for hook in [Hook::Xdp, Hook::Tcx] {
        assert_eq!(more(&pass, &v4(), hook), ["fragments4"]);
    }
    let tags = Config {
        has_vlan: true,
        ..v4()
    };
    assert!(more(&v4(), &tags, Hook::Xdp).is_empty());
    let [without, with] = [&v4(), &tags].map(|config| build(config, Hook::Tcx).insns().len());
    assert_eq!(without, with);
}

#[test]
fn routes_are_looked_up_where_some_listener_has_them() {
    let mut routed = v4();
    let prefix: Prefix = "198.51.100.0/24".parse().unwrap();
    routed.listeners[0].routes.push((prefix, GroupId(0)));
    assert_eq!(more(&v4(), &routed, Hook::Xdp), ["routes4"]);
}

#[test]
fn sources_are_chosen_where_some_group_needs_them() {
    let mut full = v4();
    full.groups[0].mode = Mode::FullNat;
    full.sources.push("192.0.2.9".parse().unwrap());
    assert_eq!(more(&v4(), &full, Hook::Xdp), ["sources"]);
}

#[test]
fn each_form_of_a_listener_is_one_lookup() {
    let mut narrow = v4();
    narrow.listeners.push(Listener {
        number: 2,
        devices: vec![IfIndex(7)],
        ..v4().listeners[0].clone()
    });
    assert!(more(&v4(), &narrow, Hook::Xdp).is_empty());
    let mut any = v4();
    any.listeners.push(Listener {
        number: 2,
        address: "0.0.0.0:81".parse().unwrap(),
        ..v4().listeners[0].clone()
    });
    assert!(more(&v4(), &any, Hook::Xdp).is_empty());
}

#[test]
fn a_group_that_chooses_another_way_costs_what_that_way_costs() {
    for algorithm in [
        Algorithm::SourceAffinity,
        Algorithm::RoundRobin,
        Algorithm::LeastConnections,
    ] {
        let mut two = v4();
        two.groups.push(Group {
            algorithm,
            ..v4().groups[0].clone()
        });
        assert!(more(&v4(), &two, Hook::Tcx).is_empty(), "{algorithm:?}");
    }
}

/// A proxy with one device sends frames back by it, without a call.
#[test]
fn back_is_for_xdp_and_the_far_end_for_tcx() {
    let shape = Shape::of(&v4(), 251, Clock::new(250));
    let build = |hook, usual| program(hook, usual, &shape).unwrap();
    let text = |hook, usual| build(hook, usual).listing().to_string();
    let device = |hook| text(hook, Usual::Device);
    assert!(text(Hook::Xdp, Usual::Back).contains("r0 = 3\n  exit"));
    assert!(!device(Hook::Xdp).contains("r0 = 3\n  exit"));
    assert_eq!(text(Hook::Xdp, Usual::Peer), device(Hook::Xdp));
    let peers = |text: String| text.matches("call redirect_peer").count();
    assert_eq!(
        peers(text(Hook::Tcx, Usual::Peer)),
        1 + peers(device(Hook::Tcx))
    );
    assert_eq!(text(Hook::Tcx, Usual::Back), device(Hook::Tcx));
}
