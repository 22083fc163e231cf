//! Flows that are counted, told and kept wrongly.

use crate::age::Time;
use crate::packets::row::{all, check, is, story};
use crate::packets::stage::{At, Ground, Stage};
use crate::packets::talk::{LANES, Plan, Talk, name};
use crate::rig::{self, Flow, Rig, inside, listener};
use bpfsmith_datapath::config::*;
use bpfsmith_datapath::event::{Event, Kind, What};
use bpfsmith_datapath::events::Events as Reader;
use bpfsmith_datapath::flows::Flows;
use bpfsmith_datapath::layout::{Bucket4, Bucket6};
use bpfsmith_datapath::programs::Hook;
use bpfsmith_datapath::reason::Reason;
use bpfsmith_datapath::shape::Path;
use bpfsmith_gate::{deadline, needs};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// A client that goes on asking a backend which is gone, and never answered, gets another.
#[test]
fn nobody_asks_a_removed_backend_for_ever() {
    needs!(Root, Bpf, NetNs, Veth);
    let mut config = rig::config(Algorithm::Maglev, &[1, 1]);
    config.timeouts.unanswered = Duration::from_millis(300);
    for family in [Family::V4, Family::V6] {
        inside(&config, Hook::Tcx, |rig| {
            let to = listener(family);
            let client = rig::client(family, 1);
            let flow = rig.begin(Protocol::Udp, client, to).unwrap();
            let next = without(&config, flow.backend);
            rig.go_on(&next);
            // More often than a flow may stay unanswered.
            deadline(LIMIT, || {
                let now = rig.begin(Protocol::Udp, client, to).unwrap();
                (now.backend != flow.backend).then_some(())
            });
        });
    }
}

/// The same, but a backend is in no group any more.
fn without(config: &Config, address: SocketAddr) -> Config {
    let mut config = config.clone();
    let gone = config.backends.iter().find(|it| it.address == address);
    let gone = gone.unwrap().id;
    for group in &mut config.groups {
        group.members.retain(|member| member.backend != gone);
    }
    config
}

/// Nor does one whose backend is gone, and answered once.
#[test]
fn nobody_asks_a_removed_backend_that_is_silent() {
    needs!(Root, Bpf, NetNs, Veth, BpfLoop, Timer);
    let mut config = rig::config(Algorithm::Maglev, &[1, 1]);
    // However slow this machine is, only what is made older is silent for so long, and nothing for longer.
    config.timeouts.unanswered = Duration::from_secs(3600);
    config.timeouts.udp = Duration::from_secs(24 * 3600);
    config.timeouts.round = Duration::from_millis(50);
    for family in [Family::V4, Family::V6] {
        inside(&config, Hook::Tcx, |rig| {
            let to = listener(family);
            let open = |n| {
                let client = rig::client(family, n);
                (client, rig.open(Protocol::Udp, client, to))
            };
            let lost = open(1);
            Time::new(rig, config.timeouts.round).goes_on(2 * config.timeouts.unanswered);
            let kept = open(2);
            rig.go_on(&without(&config, lost.1.backend));
            rig.generation.sweep().unwrap();
            deadline(LIMIT, || {
                // One that answers keeps its client, removed or not.
                rig.send(&kept.1.answer("")).expect("a flow that lives");
                let now = rig.begin(Protocol::Udp, lost.0, to).unwrap();
                (now.backend != lost.1.backend).then_some(())
            });
            let now = rig.begin(Protocol::Udp, kept.0, to).unwrap();
            assert_eq!(now.backend, kept.1.backend);
            // What was counted out and in again is right.
            let sum: u32 = (0..4).map(|n| rig.flows_of(n)).sum();
            assert_eq!(sum, 1);
        });
    }
}

/// A reset in a silent client's name does not let the kernel forget the connection, as one that both have
/// closed is forgotten.
#[test]
fn a_reset_in_a_silent_clients_name() {
    needs!(Root, Bpf, NetNs, Veth, BpfLoop, Timer);
    let mut config = rig::config(Algorithm::Maglev, &[1]);
    config.timeouts.closed = Duration::from_millis(100);
    config.timeouts.round = Duration::from_millis(50);
    for family in [Family::V4, Family::V6] {
        inside(&config, Hook::Tcx, |rig| {
            let to = listener(family);
            let [reset, closed] =
                [1, 2].map(|n| rig.open(Protocol::Tcp, rig::client(family, n), to));
            // They began long ago.
            Time::new(rig, config.timeouts.round).goes_on(config.timeouts.established / 2);
            rig.generation.sweep().unwrap();
            rig.send(&reset.ask("R").seq(0xdead_0000)).unwrap();
            rig.send(&closed.ask("FA")).unwrap();
            rig.send(&closed.answer("FA")).unwrap();
            // Its answers go last.
            deadline(LIMIT, || {
                rig.generation.swept().unwrap().removed.gt(&0).then_some(())
            });
            assert!(rig.send(&closed.ask("A")).is_none());
            assert!(rig.send(&reset.answer("PA")).is_some());
            // But it is, in the end.
            let mut next = config.clone();
            next.timeouts.half_closed = Duration::from_millis(100);
            rig.go_on(&next);
            rig.send(&reset.ask("R")).unwrap();
            rig.generation.sweep().unwrap();
            deadline(LIMIT, || {
                rig.generation.swept().unwrap().removed.gt(&1).then_some(())
            });
            assert!(rig.send(&reset.answer("PA")).is_none());
        });
    }
}

/// What fills a short frame is no part of the packet, and does not count.
#[test]
fn padding_does_not_count() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let row = story("padding", |stage| {
        let talk = Talk::new((Family::V4, Protocol::Tcp), 1234);
        all(stage, &talk.established())?;
        all(stage, &[talk.there(|frame| frame.trailer(6))])?;
        let path = Path::new(Family::V4, Protocol::Tcp);
        let bytes = stage.flows(path, |flows: &mut Flows<Bucket4>| {
            flows.iter().map(|(_, flow)| flow.bytes).max().unwrap()
        });
        is("bytes", bytes, 3 * 40)
    });
    check(&ground, &Plan::new(Mode::Dnat), &[row]);
}

/// A packet for this machine itself passes both hooks, and counts once.
#[test]
fn a_packet_that_passes_both_hooks_counts_once() {
    needs!(Root, NetNs, Veth, Tcx, XdpLink);
    let ground = Ground::new();
    let mut plan = Plan::new(Mode::Dnat);
    for (number, text) in [(0, "10.10.0.1"), (3, "fd10::1")] {
        plan.0.backends[number].address = SocketAddr::new(text.parse().unwrap(), 8080);
    }
    ground
        .world
        .proxy
        .node
        .run(|| {
            let mut stage = Stage::new(&ground, Hook::Xdp, &plan.0);
            for lane in LANES {
                let talk = Talk::new(lane, 1234);
                let frame = talk.flagged(talk.asks(), "S").build();
                for _ in 0..3 {
                    stage.send(At::Front, &frame);
                    stage.swap(Hook::Tcx);
                    stage.is_summed = false;
                    stage.send(At::Front, &frame);
                    stage.swap(Hook::Xdp);
                }
                let path = Path::new(lane.0, lane.1);
                let counts = match lane.0 {
                    Family::V4 => stage.flows(path, |flows: &mut Flows<Bucket4>| {
                        flows
                            .iter()
                            .map(|(_, f)| (f.packets, f.bytes))
                            .max()
                            .unwrap()
                    }),
                    Family::V6 => stage.flows(path, |flows: &mut Flows<Bucket6>| {
                        flows
                            .iter()
                            .map(|(_, f)| (f.packets, f.bytes))
                            .max()
                            .unwrap()
                    }),
                };
                let bytes = frame.len() as u64 - 14;
                assert_eq!(counts, (3, 3 * bytes), "{}", name(lane));
            }
        })
        .unwrap();
}

/// A packet that the program in the driver leaves to the one behind it takes one token.
#[test]
fn a_flow_takes_one_token() {
    needs!(Root, NetNs, Veth, Tcx, XdpLink);
    let ground = Ground::new();
    let mut plan = Plan::new(Mode::Dnat);
    for (number, text) in [(0, "10.20.0.77"), (3, "fd20:0::77")] {
        plan.0.backends[number].address = SocketAddr::new(text.parse().unwrap(), 8080);
    }
    for source in [false, true] {
        let rate = Rate {
            per_second: 1,
            burst: 1,
        };
        let mut config = plan.0.clone();
        if source {
            config.limits.sources = Some(SourceLimit {
                rate,
                bits4: 32,
                bits6: 128,
                room: 100,
            });
        } else {
            for listener in &config.listeners {
                config.limits.listeners.insert(listener.number, rate.into());
            }
        }
        ground
            .world
            .proxy
            .node
            .run(|| {
                let mut stage = Stage::new(&ground, Hook::Xdp, &config);
                for lane in &LANES[..1] {
                    let talk = Talk::new(*lane, 1234);
                    let frame = talk.flagged(talk.asks(), "S").build();
                    let out = stage.send(At::Front, &frame);
                    assert!(out.counts.contains_key(&Reason::NoNeighbour), "{out:?}");
                    stage.swap(Hook::Tcx);
                    let out = stage.send(At::Front, &frame);
                    assert!(
                        out.counts.contains_key(&Reason::Opened),
                        "source {source}: {:?}",
                        out.counts
                    );
                    stage.swap(Hook::Xdp);
                }
            })
            .unwrap();
    }
}

/// Clients, backends and changes in no order: afterwards all is as if nothing had been.
#[test]
fn counts_return_to_zero() {
    needs!(Root, Bpf, NetNs, Veth, BpfLoop);
    let cases = [
        (Hook::Tcx, Mode::Dnat),
        (Hook::Tcx, Mode::FullNat),
        (Hook::Xdp, Mode::FullNat),
    ];
    for (seed, (hook, mode)) in (1..).zip(cases) {
        let mut config = rig::config(Algorithm::LeastConnections, &[1, 2, 3]);
        for group in &mut config.groups {
            group.mode = mode;
        }
        config.sources = ["10.98.0.1", "fd98::1"]
            .map(|it| it.parse().unwrap())
            .to_vec();
        config.source_ports = 2000..=2005;
        config.room.flows = 256;
        config.events = Some(Events::default());
        let millis = Duration::from_millis;
        config.timeouts = Timeouts {
            unanswered: millis(150),
            established: millis(400),
            half_closed: millis(300),
            closed: millis(100),
            udp: millis(300),
            round: millis(50),
        };
        inside(&config, hook, |rig| chaos(rig, &config, seed));
    }
}

fn chaos(rig: &mut Rig, config: &Config, seed: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut draw = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % below
    };
    rig.generation.want(&[Kind::New, Kind::Closed]).unwrap();
    rig.generation.sweep().unwrap();
    let mut reader = Reader::open(&rig.generation).unwrap();
    let mut known: Vec<Flow> = Vec::new();
    let mut events: Vec<Event> = Vec::new();
    let flags = [
        "S", "SA", "A", "A", "A", "PA", "FA", "FA", "R", "RA", "F", "SF", "SR", "",
    ];
    for step in 0..3000 {
        let protocol = if draw(3) == 0 {
            Protocol::Udp
        } else {
            Protocol::Tcp
        };
        let family = if draw(2) == 0 { Family::V4 } else { Family::V6 };
        let client = rig::client(family, u32::try_from(draw(6)).unwrap());
        let to = listener(family);
        match draw(10) {
            0..3 => {
                if let Some(flow) = rig.begin(protocol, client, to) {
                    known.retain(|old| (old.protocol, old.client) != (protocol, client));
                    known.push(flow);
                }
            }
            3..9 if !known.is_empty() => {
                let flow = known[usize::try_from(draw(known.len() as u64)).unwrap()];
                let flags = flags[usize::try_from(draw(flags.len() as u64)).unwrap()];
                if draw(2) == 0 {
                    rig.send(&flow.ask(flags));
                } else {
                    rig.send(&flow.answer(flags));
                }
            }
            _ => {
                if draw(40) == 0 {
                    let mut next = config.clone();
                    let gone = draw(4);
                    for group in &mut next.groups {
                        if gone < 3 {
                            group.members.remove(usize::try_from(gone).unwrap());
                        }
                    }
                    rig.go_on(&next);
                    rig.generation.sweep().unwrap();
                }
                if draw(30) == 0 {
                    std::thread::sleep(Duration::from_millis(draw(200)));
                }
            }
        }
        if step % 50 == 0 {
            reader
                .read(|event| {
                    events.push(event);
                    ControlFlow::Continue(())
                })
                .unwrap();
        }
    }
    // What is left when all have been idle for long enough.
    deadline(LIMIT, || {
        let mut backends = config.backends.iter();
        let counted = backends.any(|backend| rig.flows_of(backend.id.0) != 0);
        let is_over = !counted && left(rig) == 0;
        // What ended last is told by now.
        let read = reader.read(|event| {
            events.push(event);
            ControlFlow::Continue(())
        });
        read.unwrap();
        is_over.then_some(())
    });
    assert_eq!(rig.count(Reason::EventLost), 0);
    let count = |kind: fn(&What) -> bool| events.iter().filter(|it| kind(&it.what)).count();
    let new = count(|what| matches!(what, What::New(_)));
    let closed = count(|what| matches!(what, What::Closed(..)));
    assert_eq!(new, closed);
    assert!(new > 50, "{new} {:?}", rig.counts());
}

/// Entries of all tables.
fn left(rig: &Rig) -> usize {
    let (paths, maps) = (&rig.generation.shape().paths, rig.generation.maps());
    let each = paths.iter().map(|path| match path.family {
        Family::V4 => Flows::<Bucket4>::read(maps, *path).unwrap().iter().count(),
        Family::V6 => Flows::<Bucket6>::read(maps, *path).unwrap().iter().count(),
    });
    each.sum()
}
