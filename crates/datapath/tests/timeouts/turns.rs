//! Packets that give their flows a shorter time come while the kernel looks at all flows.

use crate::age::{APART, Time};
use crate::rig::{Flow, Rig, client, config, inside, listener};
use crate::script::Side;
use bpfsmith_datapath::config::*;
use bpfsmith_datapath::connections::{self, State};
use bpfsmith_datapath::programs::Hook;
use bpfsmith_gate::{needs, part};
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use std::time::Duration;

/// Flows at a time.
const FLOWS: u32 = 256;

/// How long the flow may be silent from its packet on, and how long any other.
const SHORT: Duration = Duration::from_secs(600);
const LONG: Duration = Duration::from_secs(6 * 3600);

/// A packet that comes after a long time.
struct Turn {
    protocol: Protocol,
    /// What came since the client's first packet.
    before: &'static [(Side, &'static str)],
    /// It.
    packet: (Side, &'static str),
    /// What the flow is from then on.
    state: State,
}

impl Turn {
    /// Only what the flow becomes ends soon.
    fn timeouts(&self) -> Timeouts {
        let time = |states: &[State]| match states.contains(&self.state) {
            true => SHORT,
            false => LONG,
        };
        Timeouts {
            unanswered: LONG,
            established: time(&[State::Established]),
            half_closed: LONG,
            closed: time(&[State::Closed, State::Reset]),
            udp: time(&[State::Established]),
            round: Duration::from_millis(1),
        }
    }
}

const OPEN: (Side, &str) = (Side::Backend, "SA");
const SEEN: (Side, &str) = (Side::Client, "A");

const TURNS: [Turn; 6] = [
    Turn {
        protocol: Protocol::Tcp,
        before: &[OPEN, SEEN, (Side::Client, "FA")],
        packet: (Side::Backend, "FA"),
        state: State::Closed,
    },
    Turn {
        protocol: Protocol::Tcp,
        before: &[OPEN, SEEN, (Side::Backend, "FA")],
        packet: (Side::Client, "FA"),
        state: State::Closed,
    },
    Turn {
        protocol: Protocol::Tcp,
        before: &[OPEN, SEEN],
        packet: (Side::Backend, "R"),
        state: State::Reset,
    },
    Turn {
        protocol: Protocol::Tcp,
        before: &[OPEN],
        packet: (Side::Client, "A"),
        state: State::Established,
    },
    Turn {
        protocol: Protocol::Tcp,
        before: &[OPEN, SEEN, (Side::Backend, "R")],
        packet: (Side::Client, "A"),
        state: State::Established,
    },
    Turn {
        protocol: Protocol::Udp,
        before: &[],
        packet: (Side::Backend, ""),
        state: State::Established,
    },
];

/// What is there.
fn states(rig: &Rig) -> Vec<State> {
    let generation = &rig.generation;
    let all = connections::all(generation.maps(), generation.shape()).unwrap();
    all.into_iter().map(|it| it.state).collect()
}

fn send(rig: &Rig, flow: &Flow, (side, flags): (Side, &str)) {
    let frame = match side {
        Side::Client => flow.ask(flags),
        Side::Backend => flow.answer(flags),
    };
    assert!(rig.send(&frame).is_some(), "{flow:?} {side:?} {flags}");
}

/// This thread runs on that processor alone, if there are so many.
fn on(processor: usize) {
    let mut set = CpuSet::new();
    set.set(processor).unwrap();
    let result = sched_setaffinity(Pid::from_raw(0), &set);
    assert!(matches!(result, Ok(()) | Err(Errno::EINVAL)), "{result:?}");
}

/// A flow may be silent for longer than it may be after its next packet: that packet is the first of its new state, and
/// not one that comes too late.
#[test]
fn a_state_with_a_shorter_time_begins_with_its_packet() {
    needs!(Root, Bpf, NetNs, Veth, BpfLoop, Timer);
    for turn in TURNS {
        let mut config = config(Algorithm::RoundRobin, &[1]);
        config.room.flows = 2 * FLOWS;
        config.timeouts = turn.timeouts();
        inside(&config, Hook::Xdp, |rig| {
            let mut time = Time::new(rig, config.timeouts.round);
            // The kernel looks at flows where it has begun to, and there not while a packet is looked at.
            on(0);
            rig.generation.sweep().unwrap();
            on(1);
            let mut clients = 0;
            // Some of these moments are so short that it takes many of them to see what goes wrong.
            let rounds = usize::try_from(part(2000, 60)).unwrap();
            for family in [Family::V4, Family::V6].into_iter().cycle().take(rounds) {
                let flows: Vec<Flow> = (0..FLOWS)
                    .map(|_| {
                        clients += 1;
                        let from = client(family, clients);
                        let flow = rig.begin(turn.protocol, from, listener(family)).unwrap();
                        turn.before.iter().for_each(|it| send(rig, &flow, *it));
                        flow
                    })
                    .collect();
                time.goes_on(2 * SHORT);
                flows.iter().for_each(|flow| send(rig, flow, turn.packet));
                time.is_swept(rig);
                assert_eq!(states(rig), vec![turn.state; flows.len()]);
                time.goes_on_until(time.now() + time.ticks(LONG) + 1 + APART);
                time.is_swept(rig);
                assert_eq!(states(rig), Vec::new());
            }
        });
    }
}
