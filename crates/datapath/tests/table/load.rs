//! Programs that contain everything there is are taken by the kernel.

use crate::rig::{config, inside};
use bpfsmith_datapath::config::*;
use bpfsmith_datapath::programs::{Hook, Usual};
use bpfsmith_gate::needs;
use bpfsmith_net::IfIndex;
use std::net::{IpAddr, SocketAddr};

/// All that makes programs longer, or their stacks deeper.
fn everything() -> Config {
    let mut config = config(Algorithm::Maglev, &[1, 1]);
    let members = config.groups.iter().map(|group| group.members.clone());
    let members: Vec<_> = members.collect();
    for (family, members) in [Family::V4, Family::V6].into_iter().zip(members) {
        let first = u32::try_from(config.groups.len()).unwrap();
        for algorithm in Algorithm::ALL {
            for mode in Mode::ALL {
                config.groups.push(Group {
                    algorithm: *algorithm,
                    mode: *mode,
                    members: members.clone(),
                });
            }
        }
        let (prefix, own): (&str, [IpAddr; 2]) = match family {
            Family::V4 => ("10.64.0.0/10", [[10, 99, 0, 2].into(), family.any()]),
            Family::V6 => ("fd64::/16", ["fd99::2".parse().unwrap(), family.any()]),
        };
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for address in own {
                for devices in [vec![], vec![IfIndex(1)]] {
                    config.listeners.push(Listener {
                        number: u16::try_from(config.listeners.len()).unwrap(),
                        devices,
                        address: SocketAddr::new(address, 81),
                        protocol,
                        routes: vec![(prefix.parse().unwrap(), GroupId(first + 1))],
                        group: GroupId(first),
                    });
                }
            }
        }
    }
    config.sources = vec![
        "10.98.0.1".parse().unwrap(),
        "fd98::1".parse().unwrap(),
    ];
    config.fragments = Fragments::FollowOrDrop;
    config.has_vlan = true;
    config.events = Some(Events::default());
    let rate = Rate {
        per_second: 1000,
        burst: 1000,
    };
    config.limits = Limits {
        sources: Some(SourceLimit {
            rate,
            bits4: 32,
            bits6: 64,
            room: 1000,
        }),
        listeners: [(0, rate.into())].into(),
    };
    config
}

/// With each answer to packets of no flow, from the smallest room that there is.
#[test]
fn everything_at_once() {
    needs!(Root, Bpf, NetNs, Veth, BpfLoop, Timer, XdpFrags);
    let mut config = everything();
    for (mid_stream, flows) in [
        (MidStream::Pass, 0),
        (MidStream::Drop, 1),
        (MidStream::Adopt, 1 << 16),
    ] {
        config.mid_stream = mid_stream;
        config.room.flows = flows;
        inside(&config, Hook::Xdp, |rig| {
            for (hook, usual) in [
                (Hook::Xdp, Usual::Back),
                (Hook::Xdp, Usual::Device),
                (Hook::Tcx, Usual::Peer),
                (Hook::Tcx, Usual::Device),
                (Hook::TcxEgress, Usual::Device),
            ] {
                let loaded = rig.generation.load(hook, usual);
                loaded.unwrap_or_else(|error| panic!("{hook:?} {usual:?}: {error:#}"));
            }
            let swept = rig.generation.sweep();
            swept.unwrap_or_else(|error| panic!("{error:#}"));
        });
    }
}

/// More room than there is memory for is an error, and says of what.
#[test]
fn more_room_than_there_is() {
    needs!(Root, Bpf);
    let mut config = config(Algorithm::Maglev, &[1]);
    config.room.flows = u32::MAX;
    let error = bpfsmith_datapath::generation::Generation::first(&config).unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("flows"), "{text}");
    assert!(text.contains("ENOMEM") || text.contains("E2BIG"), "{text}");
}
