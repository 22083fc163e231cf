//! What becomes of entries that are in somebody's hands, or were.

use crate::races::{all_vanishes, patient, small};
use crate::rig::{Rig, client, inside, listener};
use crate::state::{table, wrongs};
use bpfsmith_datapath::config::{Config, Family, Protocol};
use bpfsmith_datapath::flows::Flows;
use bpfsmith_datapath::layout::{ANSWER, Bucket4, Flow4, Key4, Word};
use bpfsmith_datapath::programs::Hook;
use bpfsmith_datapath::reason::Reason;
use bpfsmith_datapath::shape::Path;
use bpfsmith_gate::needs;

const TCP: Path = Path::new(Family::V4, Protocol::Tcp);

/// Changes all entries of a table, or takes them out.
fn each(rig: &Rig, path: Path, change: impl Fn(&Key4, &mut Flow4) -> bool) {
    let maps = rig.generation.maps();
    let mut flows = Flows::<Bucket4>::read(maps, path).unwrap();
    let entries: Vec<_> = flows.iter().collect();
    for (key, mut flow) in entries {
        match change(&key, &mut flow) {
            true => assert!(flows.change(&key, &flow)),
            false => assert!(flows.erase(&key)),
        }
    }
    flows.write(maps, path).unwrap();
}

fn is_answer(flow: &Flow4) -> bool {
    flow.tag & ANSWER != 0
}

/// Who began to take a flow out may have meant another one that had its place before: the kernel takes
/// such flows out in the end.
#[test]
fn nothing_stays_half_taken_out() {
    needs!(Root, Bpf, NetNs, Veth, BpfLoop, Timer);
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let path = Path::new(Family::V4, protocol);
        let mut config = small(64);
        patient(&mut config);
        inside(&config, Hook::Xdp, |rig| {
            rig.open(protocol, client(Family::V4, 1), listener(Family::V4));
            rig.begin(protocol, client(Family::V4, 2), listener(Family::V4));
            each(rig, path, |_, flow| {
                flow.word |= Word::OUTSIDE;
                true
            });
            all_vanishes(rig, &config);
        });
    }
}

/// A client whose acknowledgement was lost may close with its next packet.
#[test]
fn the_packet_that_establishes_a_flow_may_close_it() {
    needs!(Root, Bpf, NetNs, Veth);
    inside(&small(64), Hook::Xdp, |rig| {
        let begun = rig.begin(Protocol::Tcp, client(Family::V4, 1), listener(Family::V4));
        let flow = begun.unwrap();
        rig.send(&flow.answer("SA")).unwrap();
        rig.send(&flow.ask("FA")).unwrap();
        let all = |rig: &Rig| (0..3).map(|n| rig.flows_of(n)).sum::<u32>();
        assert_eq!(all(rig), 1);
        rig.send(&flow.answer("FA")).unwrap();
        assert_eq!(all(rig), 0);
        assert!(table(rig, TCP).0.iter().all(|it| it.word.is_closed()));
        assert_eq!(wrongs(rig, &[TCP]), Vec::<String>::new());
    });
}

fn alone(config: &Config, age: u32, body: impl FnOnce(&Rig) + Send) {
    inside(config, Hook::Xdp, |rig| {
        let begun = rig.begin(Protocol::Tcp, client(Family::V4, 1), listener(Family::V4));
        begun.unwrap();
        each(rig, TCP, |_, flow| {
            flow.born = flow.born.wrapping_sub(age);
            is_answer(flow)
        });
        assert_eq!(table(rig, TCP).0.len(), 1);
        rig.begin(Protocol::Tcp, client(Family::V4, 1), listener(Family::V4));
        body(rig);
    });
}

/// Answers are entered first: those whose flow is not there may be about to get it, if they are new.
#[test]
fn new_answers_without_a_flow_are_somebodys() {
    needs!(Root, Bpf, NetNs, Veth);
    let mut config = small(64);
    config
        .backends
        .retain(|backend| backend.id.0 == 0 || backend.id.0 == 3);
    for group in &mut config.groups {
        group
            .members
            .retain(|it| it.backend.0 == 0 || it.backend.0 == 3);
    }
    alone(&config, 1000, |rig| {
        assert_eq!(table(rig, TCP).0.len(), 2);
        assert_eq!(rig.count(Reason::NoPort), 0);
    });
    // As if they were made by a CPU that was not there for long.
    alone(&config, 0_u32.wrapping_sub(10_000), |rig| {
        assert_eq!(table(rig, TCP).0.len(), 1);
        assert_eq!(rig.count(Reason::NoPort), 1);
    });
}
