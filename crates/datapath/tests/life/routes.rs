//! Many sources with groups of their own.

use crate::rig::{backend, config, inside, listener};
use bpfsmith_datapath::config::*;
use bpfsmith_datapath::programs::Hook;
use bpfsmith_gate::{needs, rounds};
use bpfsmith_net::Prefix;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

/// Where the prefix with that number begins, and how long it is.
fn prefix(family: Family, number: u32) -> (IpAddr, u8) {
    match family {
        Family::V4 => (Ipv4Addr::from_bits((64 << 24) + (number << 6)).into(), 26),
        Family::V6 => {
            let bits = (0x3fff_u128 << 112) | (u128::from(number) << 80);
            (Ipv6Addr::from_bits(bits).into(), 48)
        }
    }
}

/// A source within that prefix, not its first one.
fn source(family: Family, number: u32) -> SocketAddr {
    let ip = match prefix(family, number).0 {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() + number % 63 + 1).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() + u128::from(number) + 1).into(),
    };
    SocketAddr::new(ip, 40_000)
}

/// A million prefixes of each family, of which every third has a group of its own; the others say the
/// default one.
#[test]
fn a_million_prefixes() {
    needs!(Root, Bpf, NetNs, Veth, BpfLoop);
    let prefixes = rounds(1_000_000);
    let mut config = config(Algorithm::Maglev, &[1]);
    for (number, family) in (0..).zip([Family::V4, Family::V6]) {
        let id = BackendId(2 + number);
        config.backends.push(Backend {
            id,
            address: SocketAddr::new(backend(family, 1), 8080),
        });
        let own = GroupId(config.groups.len().try_into().unwrap());
        config.groups.push(Group {
            algorithm: Algorithm::Maglev,
            mode: Mode::Dnat,
            members: vec![Member {
                backend: id,
                weight: 1,
            }],
        });
        let listens = config.listeners.iter_mut();
        let mut listens = listens.filter(|it| Family::of(it.address.ip()) == family);
        let listener = listens.find(|it| it.protocol == Protocol::Tcp).unwrap();
        let default = listener.group;
        listener.routes = (0..prefixes)
            .map(|number| {
                let (ip, bits) = prefix(family, number);
                let group = if number % 3 == 0 { own } else { default };
                (Prefix::new(ip, bits).unwrap(), group)
            })
            .collect();
    }
    let begun = Instant::now();
    inside(&config, Hook::Xdp, |rig| {
        eprintln!("2 times {prefixes} prefixes after {:?}", begun.elapsed());
        for family in [Family::V4, Family::V6] {
            for number in (0..prefixes).step_by(997).chain([prefixes - 1]) {
                let client = source(family, number);
                let flow = rig.begin(Protocol::Tcp, client, listener(family));
                let flow = flow.unwrap_or_else(|| panic!("{client}: {:?}", rig.counts()));
                let wanted = backend(family, u16::from(number % 3 == 0));
                assert_eq!(flow.backend.ip(), wanted, "prefix {number}");
            }
        }
    });
}
