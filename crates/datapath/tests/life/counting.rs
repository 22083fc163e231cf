//! Backends count the flows that have not ended, and the fewest for its weight is chosen.

use crate::rig::{Flow, Rig, client, config, inside, listener};
use bpfsmith_datapath::config::*;
use bpfsmith_datapath::programs::Hook;
use bpfsmith_gate::needs;
use std::collections::BTreeMap;

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

fn tcp(rig: &Rig, family: Family, n: u32) -> Flow {
    rig.open(Protocol::Tcp, client(family, n), listener(family))
}

#[test]
fn a_flow_counts_from_the_handshake_until_both_have_closed() {
    needs!(Root, Bpf, NetNs, Veth, BpfLoop);
    for hook in [Hook::Xdp, Hook::Tcx] {
        inside(&config(Algorithm::Maglev, &[1]), hook, |rig| {
            for (backend, family) in (0..).zip(FAMILIES) {
                let to = listener(family);
                let half = rig.begin(Protocol::Tcp, client(family, 0), to).unwrap();
                assert_eq!(rig.flows_of(backend), 0, "nobody answered");
                rig.send(&half.answer("RA")).unwrap();
                assert_eq!(rig.flows_of(backend), 0, "a refusal is no answer");
                let flow = rig.begin(Protocol::Tcp, client(family, 1), to).unwrap();
                rig.send(&flow.answer("SA")).unwrap();
                assert_eq!(rig.flows_of(backend), 0, "nobody has seen the answer");
                rig.send(&flow.ask("A")).unwrap();
                assert_eq!(rig.flows_of(backend), 1);
                // An answer that comes twice.
                rig.send(&flow.answer("SA")).unwrap();
                rig.send(&flow.ask("A")).unwrap();
                rig.send(&flow.ask("FA")).unwrap();
                assert_eq!(rig.flows_of(backend), 1, "one side");
                for last in ["FA", "FA", "A"] {
                    rig.send(&flow.answer(last)).unwrap();
                    rig.send(&flow.ask("A")).unwrap();
                    assert_eq!(rig.flows_of(backend), 0);
                }
                // The same tuple again.
                tcp(rig, family, 1);
                assert_eq!(rig.flows_of(backend), 1);
            }
        });
    }
}

#[test]
fn a_reset_ends_a_flow_and_data_revives_it() {
    needs!(Root, Bpf, NetNs, Veth, BpfLoop);
    inside(&config(Algorithm::Maglev, &[1]), Hook::Xdp, |rig| {
        for (backend, family) in (0..).zip(FAMILIES) {
            let flow = tcp(rig, family, 1);
            for (reset, data) in [
                (flow.ask("R"), flow.ask("A")),
                (flow.answer("R"), flow.ask("A")),
                (flow.ask("R"), flow.answer("A")),
                (flow.answer("R"), flow.answer("PA")),
            ] {
                rig.send(&reset).unwrap();
                assert_eq!(rig.flows_of(backend), 0);
                rig.send(&reset).unwrap();
                assert_eq!(rig.flows_of(backend), 0);
                rig.send(&data).unwrap();
                assert_eq!(rig.flows_of(backend), 1);
                rig.send(&data).unwrap();
                assert_eq!(rig.flows_of(backend), 1);
            }
            // What both have closed stays closed, also after a reset.
            rig.send(&flow.ask("FA")).unwrap();
            rig.send(&flow.answer("FA")).unwrap();
            rig.send(&flow.ask("R")).unwrap();
            rig.send(&flow.ask("A")).unwrap();
            assert_eq!(rig.flows_of(backend), 0);
            // Somebody resets in the client's name before the answer comes: there is one all the same.
            let to = listener(family);
            let half = rig.begin(Protocol::Tcp, client(family, 2), to).unwrap();
            rig.send(&half.ask("R")).unwrap();
            rig.send(&half.answer("SA")).unwrap();
            rig.send(&half.ask("A")).unwrap();
            assert_eq!(rig.flows_of(backend), 1);
            rig.send(&half.ask("R")).unwrap();
            assert_eq!(rig.flows_of(backend), 0);
        }
    });
}

#[test]
fn who_answers_clients_directly_is_closed_by_them() {
    needs!(Root, Bpf, NetNs, Veth, BpfLoop);
    let mut config = config(Algorithm::Maglev, &[1]);
    for group in &mut config.groups {
        group.mode = Mode::DirectReturn;
    }
    inside(&config, Hook::Xdp, |rig| {
        for (backend, family) in (0..).zip(FAMILIES) {
            let to = listener(family);
            let flow = rig.begin(Protocol::Tcp, client(family, 1), to).unwrap();
            assert_eq!(rig.flows_of(backend), 0);
            rig.send(&flow.ask("A")).unwrap();
            assert_eq!(
                rig.flows_of(backend),
                1,
                "its second packet says that there was an answer"
            );
            rig.send(&flow.ask("FA")).unwrap();
            assert_eq!(rig.flows_of(backend), 0);
            rig.send(&flow.ask("A")).unwrap();
            assert_eq!(rig.flows_of(backend), 0);
        }
    });
}

/// Whom each of so many new flows goes to.
fn who(rig: &Rig, family: Family, flows: std::ops::Range<u32>) -> Vec<u32> {
    let mut each = BTreeMap::new();
    for n in flows {
        let flow = tcp(rig, family, n);
        *each.entry(flow.backend.ip()).or_insert(0) += 1;
    }
    each.into_values().collect()
}

#[test]
fn who_has_the_fewest_flows_gets_the_next() {
    needs!(Root, Bpf, NetNs, Veth, BpfLoop);
    for hook in [Hook::Xdp, Hook::Tcx] {
        let config = config(Algorithm::LeastConnections, &[1, 1, 1, 1]);
        inside(&config, hook, |rig| {
            for family in FAMILIES {
                let first = match family {
                    Family::V4 => 0,
                    Family::V6 => 4,
                };
                assert_eq!(who(rig, family, 0..40), [10, 10, 10, 10]);
                // Seven flows of one end: the next seven are that one's.
                let flows: Vec<Flow> = (0..40)
                    .map(|n| tcp(rig, family, 1000 + n))
                    .filter(|flow| flow.backend.ip() == crate::rig::backend(family, 2))
                    .collect();
                assert_eq!(flows.len(), 10);
                for flow in &flows[..7] {
                    rig.send(&flow.ask("FA")).unwrap();
                    rig.send(&flow.answer("FA")).unwrap();
                }
                assert_eq!(rig.flows_of(first + 2), 13);
                assert_eq!(who(rig, family, 2000..2007), [7]);
                assert_eq!(rig.flows_of(first + 2), 20);
                assert_eq!(who(rig, family, 3000..3004), [1, 1, 1, 1]);
            }
        });
    }
}

#[test]
fn flows_are_compared_by_weight_exactly() {
    needs!(Root, Bpf, NetNs, Veth, BpfLoop);
    let weights = [1, 5, 10, 0, 4_000_000_000];
    let heavy = [3, 1, 2];
    inside(
        &config(Algorithm::LeastConnections, &heavy),
        Hook::Xdp,
        |rig| {
            for family in FAMILIES {
                assert_eq!(who(rig, family, 0..600), [300, 100, 200]);
            }
        },
    );
    inside(
        &config(Algorithm::LeastConnections, &weights),
        Hook::Xdp,
        |rig| {
            // Each without flows comes first; then it is the giant's turn for long.
            assert_eq!(who(rig, Family::V4, 0..500), [1, 1, 1, 497]);
        },
    );
}

#[test]
fn members_come_and_go_and_counts_stay() {
    needs!(Root, Bpf, NetNs, Veth, BpfLoop);
    let all = config(Algorithm::LeastConnections, &[1, 1, 1]);
    inside(&all, Hook::Xdp, |rig| {
        assert_eq!(who(rig, Family::V4, 0..30), [10, 10, 10]);
        // One goes: its flows stay, and new ones are shared by the others.
        let mut less = all.clone();
        less.groups[0].members.remove(1);
        rig.go_on(&less);
        assert_eq!(who(rig, Family::V4, 100..120), [10, 10]);
        assert_eq!([0, 1, 2].map(|n| rig.flows_of(n)), [20, 10, 20]);
        // It comes back, and has fewest.
        rig.go_on(&all);
        assert_eq!(who(rig, Family::V4, 200..210), [10]);
        assert_eq!(who(rig, Family::V4, 300..330), [10, 10, 10]);
    });
}

#[test]
fn four_thousand_members_are_compared() {
    needs!(Root, Bpf, NetNs, Veth, BpfLoop);
    let config = config(Algorithm::LeastConnections, &[1; 4096]);
    inside(&config, Hook::Xdp, |rig| {
        let shares = who(rig, Family::V4, 0..8192);
        assert_eq!(shares.len(), 4096);
        assert!(shares.iter().all(|share| *share == 2), "{shares:?}");
        let flow = tcp(rig, Family::V4, 9000);
        let tcp3 = tcp(rig, Family::V4, 9001);
        assert_ne!(flow.backend, tcp3.backend, "in turn");
    });
}
