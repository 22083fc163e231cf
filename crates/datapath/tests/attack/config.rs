//! Configurations that mean nothing are refused before the kernel sees them.

use crate::rig::config;
use bpfsmith_datapath::config::*;
use bpfsmith_datapath::tables::Tables;
use bpfsmith_net::IfIndex;
use std::ops::RangeInclusive;
use std::time::Duration;

fn base() -> Config {
    config(Algorithm::Maglev, &[1, 1])
}

/// Each change makes nonsense of a configuration.
#[test]
fn nonsense_is_refused() {
    type Change = fn(&mut Config);
    let changes: [(&str, Change); 17] = [
        ("no ports for sources", |c| {
            c.source_ports = RangeInclusive::new(5, 4)
        }),
        ("ports the wrong way round", |c| {
            c.source_ports = RangeInclusive::new(40_000, 30_000)
        }),
        ("port 0 for sources", |c| c.source_ports = 0..=10),
        ("a listener at port 0", |c| {
            c.listeners[0].address.set_port(0)
        }),
        ("a listener at a multicast address", |c| {
            c.listeners[0].address.set_ip("224.0.0.5".parse().unwrap());
        }),
        ("a listener at the broadcast address", |c| {
            c.listeners[0]
                .address
                .set_ip("255.255.255.255".parse().unwrap());
        }),
        ("a listener at a mapped address", |c| {
            c.listeners[2]
                .address
                .set_ip("::ffff:10.99.0.1".parse().unwrap());
        }),
        ("a listener on device 0", |c| {
            c.listeners[0].devices = vec![IfIndex(0)]
        }),
        ("a backend without an address", |c| {
            c.backends[0].address.set_ip("0.0.0.0".parse().unwrap());
        }),
        ("a backend at a multicast address", |c| {
            c.backends[0].address.set_ip("239.1.1.1".parse().unwrap());
        }),
        ("a backend at the broadcast address", |c| {
            c.backends[0]
                .address
                .set_ip("255.255.255.255".parse().unwrap());
        }),
        ("a backend at a mapped address", |c| {
            c.backends[2]
                .address
                .set_ip("::ffff:10.2.0.1".parse().unwrap());
        }),
        ("no address as a source", |c| {
            c.sources = vec!["0.0.0.0".parse().unwrap()]
        }),
        ("a group as a source", |c| {
            c.sources = vec!["ff02::1".parse().unwrap()]
        }),
        ("one prefix with two groups", |c| {
            let prefix = "10.0.0.0/8".parse().unwrap();
            c.listeners[0].routes = vec![
                (prefix, GroupId(0)),
                (prefix, GroupId(0)),
            ];
            c.groups.push(c.groups[0].clone());
            c.listeners[0].routes[1].1 = GroupId(2);
        }),
        ("two listeners that differ in their scope", |c| {
            let mut other = c.listeners[2].clone();
            other.number = 77;
            let std::net::SocketAddr::V6(address) = &mut other.address else {
                panic!()
            };
            address.set_scope_id(3);
            c.listeners.push(other);
        }),
        ("one backend twice in a group", |c| {
            let member = c.groups[0].members[0];
            c.groups[0].members.push(member);
        }),
    ];
    let mut taken = Vec::new();
    Tables::of(&base()).unwrap();
    for (name, change) in changes {
        let mut config = base();
        change(&mut config);
        match Tables::of(&config) {
            Ok(_) => taken.push(name),
            Err(error) => eprintln!("{name}: {error}"),
        }
    }
    assert_eq!(taken, Vec::<&str>::new());
}

/// Numbers and times with which nothing works are named.
#[test]
fn settings_of_no_use_are_named() {
    type Change = fn(&mut Config);
    const LIMIT: Rate = Rate {
        per_second: 1,
        burst: 1,
    };
    const SOURCES: SourceLimit = SourceLimit {
        rate: LIMIT,
        bits4: 32,
        bits6: 64,
        room: 1,
    };
    let changes: [(&str, Change); 10] = [
        ("timeouts.unanswered is 0ns", |c| {
            c.timeouts.unanswered = Duration::ZERO
        }),
        ("timeouts.established is 0ns", |c| {
            c.timeouts.established = Duration::ZERO
        }),
        ("timeouts.udp is 0ns", |c| c.timeouts.udp = Duration::ZERO),
        ("timeouts.round is 0ns", |c| {
            c.timeouts.round = Duration::ZERO
        }),
        ("room.fragments is 0", |c| c.room.fragments = 0),
        ("limits.listeners[0].rate.burst is 0", |c| {
            let rate = Rate { burst: 0, ..LIMIT };
            c.limits.listeners.insert(0, rate.into());
        }),
        ("limits.sources.rate.burst is 0", |c| {
            let rate = Rate { burst: 0, ..LIMIT };
            c.limits.sources = Some(SourceLimit { rate, ..SOURCES });
        }),
        ("limits.sources.bits4 is 33", |c| {
            c.limits.sources = Some(SourceLimit {
                bits4: 33,
                ..SOURCES
            });
        }),
        ("limits.sources.bits6 is 129", |c| {
            c.limits.sources = Some(SourceLimit {
                bits6: 129,
                ..SOURCES
            });
        }),
        ("limits.sources.room is 0", |c| {
            c.limits.sources = Some(SourceLimit { room: 0, ..SOURCES });
        }),
    ];
    for (told, change) in changes {
        let mut config = base();
        change(&mut config);
        let error = Tables::of(&config).expect_err(told).to_string();
        assert!(error.starts_with(&format!("Config::{told}, ")), "{error}");
    }
}
