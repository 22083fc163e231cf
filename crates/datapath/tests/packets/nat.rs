//! Full NAT: which address and port a flow gets.

use super::row::{all, check, is, opened, row, story};
use super::stage::Ground;
use super::talk::{LANES, Plan, Talk, name, source};
use bpfsmith_datapath::config::{Family, Mode};
use bpfsmith_datapath::reason::Reason;
use bpfsmith_datapath::shape::Path;
use bpfsmith_gate::needs;
use std::collections::BTreeSet;

fn sources(mut plan: Plan, count: u8) -> Plan {
    plan.0.sources.clear();
    for family in [Family::V6, Family::V4] {
        plan.0
            .sources
            .extend((1..=count).map(|number| source(family, number)));
    }
    plan
}

#[test]
fn ports_that_clients_keep() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let plan = Plan::new(Mode::FullNat).ports(2000..=2999);
    let mut rows = Vec::new();
    for lane in LANES {
        for port in [2000, 2001, 2500, 2999] {
            let talk = Talk::new(lane, port).mode(Mode::FullNat);
            rows.push(row(
                format!("{} keeps {port}", name(lane)),
                talk.established(),
            ));
        }
        for port in [0, 1, 1999, 3000, 65535] {
            let begin = Talk::new(lane, port).mode(Mode::FullNat);
            rows.push(story(
                format!("{} does not keep {port}", name(lane)),
                move |stage| {
                    let talk = opened(stage, begin)?;
                    let seen = talk.seen.port();
                    is("in range", (2000..=2999).contains(&seen), true)?;
                    let again = talk.there_with("S");
                    all(
                        stage,
                        &[
                            again,
                            talk.accepts(),
                            talk.there_with("PA"),
                            talk.back_with("PA"),
                        ],
                    )
                },
            ));
        }
    }
    check(&ground, &plan, &rows);
}

/// All tuples are used once, and then there are none.
#[test]
fn ports_run_out() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    for (count, ports) in [
        (1_u8, 5000..=5000),
        (1, 5000..=5007),
        (3, 5000..=5000),
        (2, 5000..=5003),
    ] {
        let all_tuples = usize::from(count) * ports.clone().count();
        let plan = sources(Plan::new(Mode::FullNat), count).ports(ports.clone());
        let rows = LANES.map(|lane| {
            story(
                format!("{} {count} sources, ports {ports:?}", name(lane)),
                move |stage| {
                    let begin = |number: usize| {
                        let port = 40000 + u16::try_from(number).unwrap();
                        Talk::new(lane, port).mode(Mode::FullNat)
                    };
                    let mut talks = Vec::new();
                    for number in 0..all_tuples {
                        let talk = opened(stage, begin(number));
                        talks.push(talk.map_err(|why| format!("flow {number}: {why}"))?);
                    }
                    let seen: BTreeSet<_> = talks.iter().map(|talk| talk.seen).collect();
                    is("different tuples", seen.len(), all_tuples)?;
                    let more = begin(all_tuples);
                    // Those that are not established in a second give way.
                    stage.stay_young();
                    all(stage, &[more.opens().drops(Reason::NoPort)])?;
                    let path = Path::new(lane.0, lane.1);
                    is("entries", stage.entries(path), [0, 2 * all_tuples])?;
                    for talk in &talks {
                        all(stage, &[talk.accepts(), talk.there_with("A")])?;
                    }
                    all(stage, &[more.opens().drops(Reason::NoPort)])?;
                    for talk in &talks {
                        all(
                            stage,
                            &[
                                talk.back_with("PA"),
                                talk.there_with("PA"),
                            ],
                        )?;
                    }
                    Ok(())
                },
            )
        });
        check(&ground, &plan, &rows);
    }
}

/// Many flows, and no two of them are one to the backend; each client gets its own answers.
#[test]
fn many_flows_have_tuples_of_their_own() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let plan = sources(Plan::new(Mode::FullNat), 2)
        .ports(1024..=1535)
        .room(512);
    let rows = LANES.map(|lane| {
        story(name(lane), move |stage| {
            let mut talks = Vec::new();
            for number in 0..400_u16 {
                // Half of them would keep the port of another.
                let mut talk = Talk::new(lane, 1024 + number / 2).mode(Mode::FullNat);
                if number % 2 == 1 {
                    talk.client.set_ip(super::talk::host(lane.0, 2));
                }
                let frame = talk.flagged(talk.asks(), "S").build();
                let out = stage.send(super::stage::At::Front, &frame);
                let view = crate::support::judge::good(&out.frame);
                let port = view.ports().unwrap().0;
                talk.seen = std::net::SocketAddr::new(view.src(), port);
                talk.opens().check(stage.hook, &out)?;
                talk.host = 0;
                talks.push(talk);
            }
            let seen: BTreeSet<_> = talks.iter().map(|talk| talk.seen).collect();
            is("different tuples", seen.len(), talks.len())?;
            for talk in talks
                .iter()
                .filter(|talk| talk.client.ip() == super::talk::client(lane.0))
            {
                all(stage, &[talk.accepts()])?;
            }
            Ok(())
        })
    });
    check(&ground, &plan, &rows);
}
