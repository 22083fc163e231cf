//! Another configuration takes over while flows live.

use super::row::{Row, all, check, is, opened, story};
use super::stage::{Ground, Stage};
use super::talk::{LANES, Plan, Talk, name};
use bpfsmith_datapath::config::{Algorithm, Family, Mode, Protocol};
use bpfsmith_datapath::flows::Flows;
use bpfsmith_datapath::layout::{Bucket4, Bucket6, Flow4, Flow6};
use bpfsmith_datapath::reason::Reason;
use bpfsmith_datapath::shape::Path;
use bpfsmith_gate::{is_slow, needs};

/// The next packet of every flow asks for its next hop again.
fn age(stage: &Stage<'_>, lane: (Family, Protocol)) {
    let path = Path::new(lane.0, lane.1);
    let older = |word: u32| word & !0xffff | word.wrapping_sub(9) & 0xffff;
    match lane.0 {
        Family::V4 => stage.flows(path, |flows: &mut Flows<Bucket4>| {
            let all: Vec<_> = flows.iter().collect();
            for (key, flow) in all {
                let word = older(flow.word);
                flows.change(&key, &Flow4 { word, ..flow });
            }
        }),
        Family::V6 => stage.flows(path, |flows: &mut Flows<Bucket6>| {
            let all: Vec<_> = flows.iter().collect();
            for (key, flow) in all {
                let word = older(flow.word);
                flows.change(&key, &Flow6 { word, ..flow });
            }
        }),
    }
}

/// A flow lives through a change, and its next hop is found again.
fn lives(
    title: &str,
    mode: Mode,
    lane: (Family, Protocol),
    next: impl Fn() -> Plan + Send + Sync + 'static,
) -> Row {
    story(format!("{} {mode:?}: {title}", name(lane)), move |stage| {
        let talk = opened(stage, Talk::new(lane, 1234).mode(mode))?;
        let there = |flags| talk.there_with(flags);
        if mode == Mode::DirectReturn {
            let settles = [Reason::Answered, Reason::Forwarded];
            all(stage, &[there("A").counts(&settles)])?;
        } else {
            all(stage, &[talk.accepts(), there("A")])?;
        }
        stage.change(&next().0);
        for _ in 0..2 {
            all(stage, &[there("PA"), there("PA")])?;
            if mode != Mode::DirectReturn {
                all(
                    stage,
                    &[
                        talk.back_with("PA"),
                        talk.back_with("PA"),
                    ],
                )?;
            }
            age(stage, lane);
        }
        Ok(())
    })
}

/// Two lanes that have nothing in common.
const APART: [(Family, Protocol); 2] = [
    (Family::V4, Protocol::Tcp),
    (Family::V6, Protocol::Udp),
];

/// Only those two are taken.
fn apart(mut plan: Plan) -> Plan {
    plan.0.listeners.retain(|listener| {
        let lane = (Family::of(listener.address.ip()), listener.protocol);
        APART.contains(&lane)
    });
    plan
}

#[test]
fn flows_outlive_what_they_came_from() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let modes = [
        Mode::Dnat,
        Mode::FullNat,
        Mode::DirectReturn,
    ];
    // Each row loads four programs.
    let some = if is_slow() { 1 } else { 3 };
    for mode in modes.into_iter().take(some) {
        for lane in APART {
            let other = match mode {
                Mode::Dnat => Mode::FullNat,
                _ => Mode::Dnat,
            };
            let with = move |listeners: fn(&mut Plan, (Family, Protocol))| {
                move || {
                    let mut plan = apart(Plan::new(mode));
                    listeners(&mut plan, lane);
                    plan
                }
            };
            // Each change needs a first configuration of its own.
            let rows = [
                lives("other backends", mode, lane, move || {
                    apart(Plan::with(mode, Algorithm::Maglev, &[1, 2]))
                }),
                lives("another mode", mode, lane, move || apart(Plan::new(other))),
                lives(
                    "another port",
                    mode,
                    lane,
                    with(|plan, _| {
                        for listener in &mut plan.0.listeners {
                            listener.address.set_port(81);
                        }
                    }),
                ),
                lives(
                    "its listener is gone",
                    mode,
                    lane,
                    with(|plan, lane| plan.0.listeners.retain(|it| it.protocol != lane.1)),
                ),
                lives("nothing is left", mode, lane, Plan::empty),
            ];
            for row in rows {
                check(&ground, &apart(Plan::new(mode)), &[row]);
            }
        }
    }
}

#[test]
fn what_is_new_counts_for_new_flows() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    for lane in LANES {
        let rows = [
            story(format!("{} a new backend", name(lane)), move |stage| {
                let old = opened(stage, Talk::new(lane, 1234))?;
                all(stage, &[old.accepts()])?;
                stage.change(&Plan::with(Mode::Dnat, Algorithm::Maglev, &[2]).0);
                let new = opened(stage, Talk::new(lane, 1235))?;
                is("hosts", (old.host, new.host), (0, 2))?;
                all(
                    stage,
                    &[
                        new.accepts(),
                        old.back_with("PA"),
                        new.back_with("PA"),
                    ],
                )
            }),
            story(format!("{} a removed listener", name(lane)), move |stage| {
                let talk = Talk::new(lane, 1234);
                let mut plan = Plan::new(Mode::Dnat);
                plan.0.listeners.retain(|it| it.protocol != lane.1);
                stage.change(&plan.0);
                let step = talk.opens();
                // What no listener wants is not looked at, unless flows may be left.
                let frame = talk.flagged(talk.asks(), "S").build();
                let out = stage.send(super::stage::At::Front, &frame);
                is("verdict", out.verdict, super::stage::Verdict::Passed)?;
                is("frame", out.frame, frame)?;
                stage.change(&Plan::new(Mode::Dnat).0);
                all(
                    stage,
                    &[
                        step,
                        talk.accepts(),
                        talk.there_with("A"),
                    ],
                )
            }),
        ];
        for row in rows {
            check(&ground, &Plan::new(Mode::Dnat), &[row]);
        }
    }
}

/// A backend that is removed between the question and its answer.
#[test]
fn answers_come_after_the_change() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    for mode in [Mode::Dnat, Mode::FullNat] {
        for lane in APART {
            let row = story(format!("{} {mode:?}", name(lane)), move |stage| {
                let talk = opened(stage, Talk::new(lane, 1234).mode(mode))?;
                let mut plan = apart(Plan::with(mode, Algorithm::Maglev, &[1]));
                for backend in &mut plan.0.backends {
                    backend.address.set_port(9090);
                }
                plan.0
                    .backends
                    .retain(|backend| !matches!(backend.id.0, 0 | 3));
                stage.change(&plan.0);
                all(
                    stage,
                    &[
                        talk.accepts(),
                        talk.there_with("A"),
                        talk.back_with("PA"),
                    ],
                )
            });
            check(&ground, &apart(Plan::new(mode)), &[row]);
        }
    }
}
