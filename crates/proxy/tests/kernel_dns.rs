//! Names are asked for in the network namespace of whoever starts, also at link-local addresses.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod dns_rig;

use bpfsmith_gate::{deadline, needs};
use bpfsmith_net::{Host, Pair};
use bpfsmith_proxy::dns::{Hosts, Names, Resolver, Settings};
use dns_rig::Reply;
use dns_rig::server::Server;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// The link-local address of a machine's only port.
fn link_local(host: &Host) -> Ipv6Addr {
    deadline(LIMIT, || {
        let table = host.run(|| std::fs::read_to_string("/proc/thread-self/net/if_inet6"));
        let table = table.unwrap().unwrap();
        let row = table.lines().find(|it| it.starts_with("fe80"))?;
        let address = row.split_whitespace().next()?;
        Some(Ipv6Addr::from(u128::from_str_radix(address, 16).ok()?))
    })
}

#[test]
fn names_are_asked_for_where_they_were_started() {
    needs!(NetNs, Veth);
    let net = Pair::new().unwrap();
    let address: IpAddr = "10.0.0.9".parse().unwrap();
    let place = "[::]:53".parse().unwrap();
    let server = net.server.run(|| {
        Server::at(place, move |asked| {
            let reply = Reply::to(&asked.question);
            vec![
                match asked.question.family.has(address) {
                    true => reply.address(&asked.host, 3600, address).into(),
                    false => reply.into(),
                },
            ]
        })
    });
    let server = server.unwrap();
    for text in [
        format!("nameserver {}", net.server.v4()),
        format!("nameserver {}", net.server.v6()),
        format!(
            "nameserver {}%{}",
            link_local(&net.server),
            net.client.port.name
        ),
    ] {
        let resolver = Resolver::of(Settings::parse(&text), Hosts::default());
        let names = net
            .client
            .run(|| Names::start(resolver, || ()))
            .unwrap()
            .unwrap();
        let wanted = BTreeSet::from(["web.example".to_owned()]);
        let outcomes = names.resolve_all(&wanted, LIMIT);
        assert_eq!(
            outcomes["web.example"],
            Ok(BTreeSet::from([address])),
            "{text}"
        );
    }
    let asked = server.asked();
    assert!(asked.len() >= 6, "{asked:?}");
    let last = asked.last().unwrap().from.ip();
    assert_eq!(last, IpAddr::from(link_local(&net.client)));
}
