//! Stamps have 32 bits: they wrap around, and half of that later the past looks like the future.

use crate::age::{APART, Time};
use crate::rig::{Flow, Rig, client, config, inside, listener};
use bpfsmith_datapath::config::*;
use bpfsmith_datapath::connections;
use bpfsmith_datapath::programs::Hook;
use bpfsmith_gate::needs;
use std::time::Duration;

/// Flows that are there.
fn kept(rig: &Rig) -> usize {
    let generation = &rig.generation;
    connections::all(generation.maps(), generation.shape())
        .unwrap()
        .len()
}

/// Of each family and protocol one that only the client uses, and one that only the backend does.
fn begin(rig: &Rig, n: u32) -> Vec<(Flow, bool)> {
    let mut flows = Vec::new();
    for family in [Family::V4, Family::V6] {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for (n, is_client) in [(n, true), (n + 1, false)] {
                let flow = rig.open(protocol, client(family, n), listener(family));
                flows.push((flow, is_client));
            }
        }
    }
    flows
}

/// As long as one side sends, a flow stays, and when that ends, it goes: also when the other side was silent for so
/// long that its stamp comes from the future.
#[test]
fn a_flow_that_one_side_uses_for_months_ends_in_time() {
    needs!(Root, Bpf, NetNs, Veth, BpfLoop, Timer);
    let hours = |count: u64| Duration::from_secs(3600 * count);
    let mut config = config(Algorithm::RoundRobin, &[1]);
    config.room.flows = 64;
    config.timeouts = Timeouts {
        unanswered: hours(1),
        established: hours(24),
        half_closed: hours(24),
        closed: hours(24),
        udp: hours(24),
        round: Duration::from_millis(1),
    };
    inside(&config, Hook::Xdp, |rig| {
        let mut time = Time::new(rig, config.timeouts.round);
        rig.generation.sweep().unwrap();
        let step = time.ticks(hours(20));
        // Silent for a quarter of all numbers, for a bit less and a bit more than half, and once around.
        let quarter = 1_u64 << 30;
        let silent = [
            quarter,
            2 * quarter - step,
            2 * quarter + step,
            3 * quarter,
            4 * quarter + step,
        ];
        for (n, silent) in (0..).zip(silent) {
            let flows = begin(rig, 2 * n);
            let since = time.now();
            while time.now() < since + silent {
                let then = time.now() + step;
                time.goes_on_until(then);
                time.is_swept(rig);
                for (flow, is_client) in &flows {
                    let frame = if *is_client {
                        flow.ask("A")
                    } else {
                        flow.answer("A")
                    };
                    assert!(
                        rig.send(&frame).is_some(),
                        "vanished before its time: {flow:?}"
                    );
                }
            }
            assert_eq!(kept(rig), flows.len());
            let last = time.now();
            // Another look: nothing has come for most of the time that it may be silent.
            time.goes_on_until(last + step);
            time.is_swept(rig);
            assert_eq!(kept(rig), flows.len(), "silent for {silent} ticks");
            time.goes_on_until(last + time.ticks(hours(24)) + 1 + APART);
            time.is_swept(rig);
            assert_eq!(kept(rig), 0, "silent for {silent} ticks");
            assert_eq!((0..2).map(|it| rig.flows_of(it)).sum::<u32>(), 0);
        }
    });
}
