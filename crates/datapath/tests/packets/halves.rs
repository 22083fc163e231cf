//! Flows that lost a half, and tuples that two flows want.

use super::row::{all, check, is, opened, row, story};
use super::stage::{Ground, Stage};
use super::talk::{LANES, Plan, Talk, name};
use bpfsmith_datapath::config::{Algorithm, Family, Mode, Protocol};
use bpfsmith_datapath::flows::{Bucket, Flows};
use bpfsmith_datapath::layout::{Bucket4, Bucket6, Key4, Key6};
use bpfsmith_datapath::reason::Reason;
use bpfsmith_datapath::shape::Path;
use bpfsmith_gate::needs;
use std::net::{IpAddr, SocketAddr};

fn ports(from: SocketAddr, to: SocketAddr) -> [u8; 4] {
    let ([a, b], [c, d]) = (from.port().to_be_bytes(), to.port().to_be_bytes());
    [a, b, c, d]
}

/// Ticks: what began so long ago, nobody is still about to enter.
const LONG: u32 = 100;

/// Forgets one entry; all began a while ago.
fn lose<B: Bucket>(
    flows: &mut Flows<B>,
    key: &B::Key,
    born: impl Fn(&mut B::Flow) -> &mut u32,
) -> bool {
    let entries: Vec<_> = flows.iter().collect();
    for (key, mut flow) in entries {
        let born = born(&mut flow);
        *born = born.wrapping_sub(LONG);
        flows.change(&key, &flow);
    }
    flows.erase(key)
}

/// Makes room for another: the entry of packets between these two is gone, a while after it began.
fn evict(
    stage: &Stage<'_>,
    protocol: Protocol,
    from: SocketAddr,
    to: SocketAddr,
) -> Result<(), String> {
    let ports = ports(from, to);
    let is_gone = match (from.ip(), to.ip()) {
        (IpAddr::V4(saddr), IpAddr::V4(daddr)) => {
            let (saddr, daddr) = (saddr.octets(), daddr.octets());
            let key = Key4 {
                saddr,
                daddr,
                ports,
            };
            let path = Path::new(Family::V4, protocol);
            stage.flows(path, |flows: &mut Flows<Bucket4>| {
                lose(flows, &key, |flow| &mut flow.born)
            })
        }
        (IpAddr::V6(saddr), IpAddr::V6(daddr)) => {
            let (saddr, daddr) = (saddr.octets(), daddr.octets());
            let key = Key6 {
                saddr,
                daddr,
                ports,
            };
            let path = Path::new(Family::V6, protocol);
            stage.flows(path, |flows: &mut Flows<Bucket6>| {
                lose(flows, &key, |flow| &mut flow.born)
            })
        }
        _ => false,
    };
    is("gone", is_gone, true)
}

/// A flow that was opened is answered, and used both ways.
fn goes_on(stage: &mut Stage<'_>, talk: &Talk) -> Result<(), String> {
    let steps = [
        talk.accepts(),
        talk.there_with("A"),
        talk.back_with("PA"),
    ];
    all(stage, &steps)
}

/// The client asks again, and gets an answer, whichever half is gone.
#[test]
fn a_half_that_made_room() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    for (mode, algorithm) in [
        (Mode::Dnat, Algorithm::Maglev),
        (Mode::Dnat, Algorithm::RoundRobin),
        (Mode::FullNat, Algorithm::Maglev),
        (Mode::FullNat, Algorithm::RoundRobin),
    ] {
        let mut rows = Vec::new();
        for lane in LANES {
            let begin = Talk::new(lane, 1234).mode(mode);
            rows.push(story(
                format!("{mode:?} {algorithm:?} {}, the answer's half", name(lane)),
                move |stage| {
                    let first = opened(stage, begin)?;
                    evict(stage, lane.1, first.backend, first.seen)?;
                    let frame = begin.flagged(begin.asks(), "S").build();
                    let out = stage.send(super::stage::At::Front, &frame);
                    let mut again = begin.on(out.frame[4]);
                    if mode == Mode::FullNat {
                        let view = crate::support::judge::good(&out.frame);
                        again.seen = SocketAddr::new(view.src(), view.ports().unwrap().0);
                    }
                    goes_on(stage, &again)
                },
            ));
            rows.push(story(
                format!("{mode:?} {algorithm:?} {}, the client's half", name(lane)),
                move |stage| {
                    let first = opened(stage, begin)?;
                    evict(stage, lane.1, first.client, first.service)?;
                    let second = opened(stage, begin)?;
                    goes_on(stage, &second)
                },
            ));
            rows.push(story(
                format!("{mode:?} {algorithm:?} {}, then the answer", name(lane)),
                move |stage| {
                    let first = opened(stage, begin)?;
                    evict(stage, lane.1, first.client, first.service)?;
                    // A connection that the client believes in would be reset with its next packet.
                    let answer = match lane.1 {
                        Protocol::Tcp => first.accepts().passes(Reason::NotOurs),
                        Protocol::Udp => first.back_with(""),
                    };
                    all(stage, &[answer])?;
                    let second = opened(stage, begin)?;
                    all(stage, &[second.accepts(), second.there_with("A")])
                },
            ));
            rows.push(story(
                format!("{mode:?} {algorithm:?} {}, both answer", name(lane)),
                move |stage| {
                    let first = opened(stage, begin)?;
                    evict(stage, lane.1, first.client, first.service)?;
                    let second = opened(stage, begin)?;
                    if first.backend == second.backend && first.seen == second.seen {
                        return Ok(());
                    }
                    // The first backend's answer is to a connection that is not the client's any more.
                    let answer = first.flagged(first.answers(), "SA").build();
                    let at = super::stage::At::Back(first.host);
                    let out = stage.send(at, &answer);
                    is(
                        "established by a stranger",
                        out.counts.get(&Reason::Answered),
                        None,
                    )?;
                    goes_on(stage, &second)
                },
            ));
        }
        check(&ground, &Plan::with(mode, algorithm, &[0, 1, 2]), &rows);
    }
}

/// Two listeners lead to one backend: two flows of one client's port would be one to it.
#[test]
fn no_two_flows_are_one_to_a_backend() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let mut rows = Vec::new();
    for lane in LANES {
        let first = Talk::new(lane, 1234);
        let mut second = first;
        second.service.set_port(81);
        rows.push(story(
            format!("{} while the first opens", name(lane)),
            move |stage| {
                all(stage, &[first.opens()])?;
                // If it is not established in a second it gives way.
                stage.stay_young();
                all(
                    stage,
                    &[
                        second.opens().drops(Reason::NoPort),
                        first.accepts(),
                        second.opens().drops(Reason::NoPort),
                        first.there_with("PA"),
                        first.back_with("PA"),
                    ],
                )
            },
        ));
        rows.push(story(
            format!("{} other ports do not mind", name(lane)),
            move |stage| {
                let mut other = second;
                other.client.set_port(1235);
                other.seen = other.client;
                let steps = [first.established(), other.established()].concat();
                all(stage, &steps)?;
                all(stage, &[second.opens().drops(Reason::NoPort)])?;
                all(
                    stage,
                    &[
                        first.back_with("PA"),
                        other.back_with("PA"),
                    ],
                )
            },
        ));
    }
    check(&ground, &Plan::new(Mode::Dnat).service(81), &rows);
    let rows = LANES.map(|lane| {
        story(format!("{} full NAT", name(lane)), move |stage| {
            let begin = Talk::new(lane, 1234).mode(Mode::FullNat);
            let first = opened(stage, begin)?;
            let mut other = begin;
            other.service.set_port(81);
            let second = opened(stage, other)?;
            is("the client's port", first.seen.port(), 1234)?;
            if second.seen == first.seen {
                return Err(format!("both are {}", first.seen));
            }
            all(stage, &[second.accepts(), first.accepts()])?;
            all(
                stage,
                &[
                    first.back_with("PA"),
                    second.back_with("PA"),
                ],
            )?;
            all(
                stage,
                &[
                    first.there_with("PA"),
                    second.there_with("PA"),
                ],
            )
        })
    });
    check(&ground, &Plan::new(Mode::FullNat).service(81), &rows);
}

#[test]
fn a_client_may_be_a_backend_too() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let mut rows = Vec::new();
    for lane in LANES {
        // From its own port: the packet that asks looks like an answer.
        let mut talk = Talk::new(lane, 8080);
        talk.client.set_ip(super::talk::host(lane.0, 1));
        talk.seen = talk.client;
        rows.push(row(
            format!("{} from another backend's port", name(lane)),
            [talk.opens()],
        ));
    }
    check(&ground, &Plan::new(Mode::Dnat), &rows);
}
