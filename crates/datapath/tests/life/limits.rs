//! Too many new flows are refused, and nothing else.

use crate::rig::{Flow, Rig, client, config, inside, listener};
use bpfsmith_datapath::config::*;
use bpfsmith_datapath::event::{Kind, What};
use bpfsmith_datapath::events::Events as Reader;
use bpfsmith_datapath::programs::Hook;
use bpfsmith_datapath::reason::Reason;
use bpfsmith_gate::{deadline, needs};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// So many flows, and no more.
const fn burst(burst: u32) -> Rate {
    Rate {
        per_second: 0,
        burst,
    }
}

fn limited(sources: Option<Rate>, listeners: &[(u16, Rate)]) -> Config {
    let mut config = config(Algorithm::Maglev, &[1]);
    config.events = Some(Events::default());
    config.limits.sources = sources.map(|rate| SourceLimit {
        rate,
        bits4: 24,
        bits6: 64,
        room: 1000,
    });
    let limits = listeners
        .iter()
        .map(|(number, rate)| (*number, (*rate).into()));
    config.limits.listeners = limits.collect();
    config
}

/// Somebody in a network.
fn from(family: Family, network: u16, port: u16) -> SocketAddr {
    let [high, low] = network.to_be_bytes();
    let host = port.to_be_bytes()[1];
    match family {
        Family::V4 => SocketAddr::new([10, high, low, host].into(), port),
        Family::V6 => {
            let ip = [
                0xfd64,
                0,
                0,
                network,
                host.into(),
                0,
                0,
                port,
            ];
            SocketAddr::new(ip.into(), port)
        }
    }
}

#[test]
fn each_network_of_sources_begins_so_many_flows() {
    needs!(Root, Bpf, NetNs, Veth, BpfLoop);
    for hook in [Hook::Xdp, Hook::Tcx] {
        inside(&limited(Some(burst(10)), &[]), hook, |rig| {
            let mut reader = Reader::open(&rig.generation).unwrap();
            rig.generation.want(&[Kind::Refused]).unwrap();
            for family in FAMILIES {
                let begin = |network, n: u16| {
                    let protocol = if n.is_multiple_of(2) {
                        Protocol::Tcp
                    } else {
                        Protocol::Udp
                    };
                    rig.begin(protocol, from(family, network, 1000 + n), listener(family))
                };
                for network in [100, 101] {
                    let flows: Vec<Flow> = (0..30_u16).filter_map(|n| begin(network, n)).collect();
                    assert_eq!(flows.len(), 10);
                    for flow in flows {
                        // What has begun goes on, also with what began it.
                        rig.send(&flow.ask("S")).unwrap();
                        rig.send(&flow.answer("SA")).unwrap();
                        rig.send(&flow.ask("A")).unwrap();
                    }
                }
            }
            assert_eq!(rig.count(Reason::SourceLimit), 80);
            let mut refused = 0;
            reader
                .read(|event| {
                    assert_eq!(event.what, What::Refused(Reason::SourceLimit));
                    refused += 1;
                    ControlFlow::Continue(())
                })
                .unwrap();
            assert_eq!(refused, 80);
        });
    }
}

#[test]
fn each_listener_begins_so_many_flows() {
    needs!(Root, Bpf, NetNs, Veth, BpfLoop);
    // The first is that of TCP and IPv4, the last that of UDP and IPv6.
    let listeners = [(0, burst(7)), (3, burst(3))];
    let config = limited(None, &listeners);
    inside(&config, Hook::Xdp, |rig| {
        let opened = |rig: &Rig, family, protocol| {
            let open = |n| rig.begin(protocol, client(family, n), listener(family));
            (0..20).filter_map(open).count()
        };
        assert_eq!(opened(rig, Family::V4, Protocol::Tcp), 7);
        assert_eq!(opened(rig, Family::V4, Protocol::Udp), 20);
        assert_eq!(opened(rig, Family::V6, Protocol::Tcp), 20);
        assert_eq!(opened(rig, Family::V6, Protocol::Udp), 3);
        assert_eq!(rig.count(Reason::ListenerLimit), 13 + 17);
        // Those of a new configuration are full; what was opened stands.
        rig.go_on(&config);
        assert_eq!(opened(rig, Family::V4, Protocol::Tcp), 7 + 7);
    });
    let mut wrong = config;
    wrong.limits.listeners.insert(9, burst(1).into());
    let refused = bpfsmith_datapath::tables::Tables::of(&wrong).unwrap_err();
    assert!(refused.to_string().contains("listener 9"), "{refused}");
}

#[test]
fn what_is_left_comes_back_with_time() {
    needs!(Root, Bpf, NetNs, Veth, BpfLoop);
    let rate = Rate {
        per_second: 50,
        burst: 5,
    };
    for config in [
        limited(Some(rate), &[]),
        limited(None, &[(0, rate)]),
    ] {
        inside(&config, Hook::Xdp, |rig| {
            let mut n = 0;
            let mut begin = || {
                n += 1;
                let from = from(Family::V4, 100, 1000 + n);
                rig.begin(Protocol::Tcp, from, listener(Family::V4))
                    .is_some()
            };
            for _ in 0..5 {
                assert!(begin());
            }
            // As fast as it can: what comes back in a pause would be enough for the next.
            let start = Instant::now();
            while begin() {
                assert!(start.elapsed() < LIMIT, "nobody is refused");
            }
            deadline(LIMIT, || begin().then_some(()));
        });
    }
}

#[test]
fn programs_with_everything_load() {
    needs!(Root, Bpf, NetNs, Veth, BpfLoop, Timer);
    let mut all = limited(Some(burst(1000)), &[(0, burst(1000)), (2, burst(1000))]);
    all.sources = vec![
        "10.3.0.1".parse().unwrap(),
        "fd03::1".parse().unwrap(),
    ];
    all.mid_stream = MidStream::Adopt;
    let first = all.groups.clone();
    for mode in Mode::ALL {
        for algorithm in Algorithm::ALL {
            for group in &first {
                let mut group = group.clone();
                (group.mode, group.algorithm) = (*mode, *algorithm);
                all.groups.push(group);
            }
        }
    }
    for (group, listener) in [(0, 0), (1, 2)] {
        let prefix = match group {
            0 => "10.0.0.0/8",
            _ => "fd00::/8",
        };
        let route = (prefix.parse().unwrap(), GroupId(group));
        all.listeners[listener].routes.push(route);
    }
    for hook in [Hook::Xdp, Hook::Tcx] {
        inside(&all, hook, |rig| {
            for family in FAMILIES {
                for protocol in [Protocol::Tcp, Protocol::Udp] {
                    rig.open(protocol, client(family, 1), listener(family));
                }
            }
            rig.generation.sweep().unwrap();
        });
    }
}
