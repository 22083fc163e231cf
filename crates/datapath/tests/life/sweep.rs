//! Flows that nobody uses are forgotten by the kernel.

use crate::age::Time;
use crate::rig::{Flow, Rig, client, config, inside, listener};
use bpfsmith_datapath::config::*;
use bpfsmith_datapath::flows::Flows;
use bpfsmith_datapath::layout::{self, Bucket4, Bucket6};
use bpfsmith_datapath::programs::Hook;
use bpfsmith_datapath::reason::Reason;
use bpfsmith_datapath::shape::{Path, SECRET, SWEEPER};
use bpfsmith_gate::{deadline, needs};
use bpfsmith_maps::{Handle, Map, View};
use bpfsmith_prog::Maps;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// Entries of the table of flows.
fn kept(rig: &Rig, family: Family, protocol: Protocol) -> usize {
    entries(rig.generation.maps(), family, protocol)
}

fn entries(maps: &Maps, family: Family, protocol: Protocol) -> usize {
    let path = Path::new(family, protocol);
    match family {
        Family::V4 => Flows::<Bucket4>::read(maps, path).unwrap().iter().count(),
        Family::V6 => Flows::<Bucket6>::read(maps, path).unwrap().iter().count(),
    }
}

fn short() -> Config {
    let mut config = config(Algorithm::RoundRobin, &[1, 1]);
    let millis = Duration::from_millis;
    config.timeouts = Timeouts {
        unanswered: Duration::from_secs(600),
        established: millis(2000),
        half_closed: millis(2000),
        closed: millis(200),
        udp: millis(2000),
        round: millis(200),
    };
    config
}

const PATHS: [(Family, Protocol); 4] = [
    (Family::V4, Protocol::Tcp),
    (Family::V4, Protocol::Udp),
    (Family::V6, Protocol::Tcp),
    (Family::V6, Protocol::Udp),
];

#[test]
fn thousands_of_idle_flows_vanish_and_live_ones_stay() {
    needs!(Root, Bpf, NetNs, Veth, BpfLoop, Timer);
    let hour = Duration::from_secs(3600);
    let mut config = short();
    config.timeouts.udp = hour;
    config.timeouts.established = hour;
    inside(&config, Hook::Xdp, |rig| {
        let mut live = Vec::new();
        for (family, protocol) in PATHS {
            let open = |n| rig.open(protocol, client(family, n), listener(family));
            live.push(open(1_000_000));
            let dead: Vec<Flow> = (0..2000).map(open).collect();
            assert_eq!(dead.len(), 2000);
            assert_eq!(kept(rig, family, protocol), 4002);
        }
        let sum = || (0..4).map(|n| rig.flows_of(n)).sum::<u32>();
        let all = || PATHS.map(|(family, protocol)| kept(rig, family, protocol));
        assert_eq!(sum(), 8004);
        rig.generation.sweep().unwrap();
        let mut time = Time::new(rig, config.timeouts.round);
        // Packets of one direction alone keep a flow alive.
        for _ in 0..3 {
            time.goes_on(hour * 3 / 4);
            for flow in &live {
                rig.send(&flow.answer("A")).expect("it is alive");
            }
            time.is_swept(rig);
        }
        deadline(LIMIT, || (sum() == 4 && all() == [2; 4]).then_some(()));
        for flow in &live {
            rig.send(&flow.ask("A")).expect("it is alive");
        }
        // And without packets they go as well.
        time.goes_on(2 * hour);
        deadline(LIMIT, || (sum() == 0 && all() == [0; 4]).then_some(()));
        let swept = rig.generation.swept().unwrap();
        assert!(swept.removed >= 8004, "{swept:?}");
        assert!(swept.visited > swept.removed, "{swept:?}");
        eprintln!(
            "{} ticks, {} ns a flow, {} ns the longest",
            swept.ticks,
            swept.spent / swept.visited,
            swept.longest
        );
    });
}

#[test]
fn what_ended_goes_soon_and_what_began_anew_stays() {
    needs!(Root, Bpf, NetNs, Veth, BpfLoop, Timer);
    let mut config = short();
    config.timeouts.established = Duration::from_secs(600);
    config.timeouts.half_closed = Duration::from_secs(600);
    // Each has a proxy of its own: nobody sweeps before it is time.
    for (family, first) in [(Family::V4, 0), (Family::V6, 2)] {
        inside(&config, Hook::Tcx, |rig| {
            let count = || rig.flows_of(first) + rig.flows_of(first + 1);
            let now = || kept(rig, family, Protocol::Tcp);
            let open = |n| rig.open(Protocol::Tcp, client(family, n), listener(family));
            let flows: Vec<Flow> = (0..6).map(open).collect();
            for flow in &flows[..3] {
                rig.send(&flow.ask("FA")).unwrap();
            }
            for flow in &flows[1..3] {
                rig.send(&flow.answer("FA")).unwrap();
            }
            rig.send(&flows[3].answer("R")).unwrap();
            rig.send(&flows[4].answer("R")).unwrap();
            rig.send(&flows[4].answer("A")).unwrap();
            // The same tuple begins anew, again and again.
            for _ in 0..20 {
                let flow = open(2);
                rig.send(&flow.ask("R")).unwrap();
            }
            let again = open(2);
            assert_eq!(count(), 4);
            rig.generation.sweep().unwrap();
            let until = |entries: usize| deadline(LIMIT, || (now() == entries).then_some(()));
            // What lived for a moment goes when it is reset.
            until(8);
            assert_eq!(count(), 4);
            let alive = [flows[0], flows[4], flows[5], again];
            for flow in alive {
                rig.send(&flow.answer("A")).expect("it is alive");
            }
            for flow in alive {
                rig.send(&flow.ask("FA")).unwrap();
                rig.send(&flow.answer("FA")).unwrap();
            }
            until(0);
        });
    }
}

#[test]
fn a_flow_that_nobody_answered_is_no_flow_after_a_while() {
    needs!(Root, Bpf, NetNs, Veth, BpfLoop, Timer);
    let mut config = short();
    let long = Duration::from_secs(3600);
    config.timeouts.unanswered = long;
    config.timeouts.udp = 8 * long;
    config.timeouts.established = 8 * long;
    inside(&config, Hook::Xdp, |rig| {
        let mut time = Time::new(rig, config.timeouts.round);
        for (family, protocol) in PATHS {
            let begin = |n| {
                rig.begin(protocol, client(family, n), listener(family))
                    .unwrap()
            };
            let first = begin(1);
            assert_eq!(begin(1).backend, first.backend, "the same flow");
            // The backends take turns.
            time.goes_on(2 * long);
            let then = begin(1);
            assert_ne!(then.backend, first.backend, "another flow");
            assert!(
                rig.send(&first.answer("SA")).is_none(),
                "an answer to what is forgotten"
            );
            rig.send(&then.answer("SA")).unwrap();
            rig.send(&then.ask("A")).unwrap();
            let late = begin(2);
            time.goes_on(2 * long);
            assert!(rig.send(&late.answer("SA")).is_none(), "too late");
            assert!(rig.send(&then.ask("A")).is_some(), "it was answered");
        }
    });
}

#[test]
fn a_full_table_is_said_and_nothing_leaks() {
    needs!(Root, Bpf, NetNs, Veth, BpfLoop, Timer);
    let mut config = short();
    config.room.flows = 64;
    inside(&config, Hook::Xdp, |rig| {
        let mut open = 0;
        for n in 0..200 {
            let begun = rig.begin(Protocol::Tcp, client(Family::V6, n), listener(Family::V6));
            if let Some(flow) = begun
                && rig.send(&flow.answer("SA")).is_some()
            {
                rig.send(&flow.ask("A")).unwrap();
                open += 1;
            }
        }
        let full = rig.count(Reason::Full);
        assert!(full > 0, "{open} are open");
        assert!((64..200).contains(&open), "{open}");
        // A flow whose answers made room for it, or the other way round, is not among them.
        let whole = || {
            let path = Path::new(Family::V6, Protocol::Tcp);
            let table = Flows::<Bucket6>::read(rig.generation.maps(), path).unwrap();
            let whole = table
                .iter()
                .filter(|(_, flow)| !layout::Word(flow.word).is_half());
            u64::try_from(whole.count()).unwrap()
        };
        let flows = || u64::from(rig.flows_of(2) + rig.flows_of(3));
        assert_eq!((whole(), flows()), (2 * open, open));
        rig.generation.sweep().unwrap();
        deadline(LIMIT, || (whole() == 0).then_some(()));
        assert_eq!(flows(), 0);
        // And there is room again.
        rig.open(
            Protocol::Tcp,
            client(Family::V6, 1000),
            listener(Family::V6),
        );
        assert_eq!(rig.count(Reason::Full), full);
    });
}

#[test]
fn flows_that_nobody_answered_are_taken_out() {
    needs!(Root, Bpf, NetNs, Veth, BpfLoop, Timer);
    let mut config = short();
    config.timeouts.unanswered = Duration::from_millis(500);
    inside(&config, Hook::Tcx, |rig| {
        for (family, protocol) in PATHS {
            for n in 0..100 {
                rig.begin(protocol, client(family, n), listener(family))
                    .unwrap();
            }
            assert_eq!(kept(rig, family, protocol), 200);
        }
        rig.generation.sweep().unwrap();
        deadline(LIMIT, || {
            let all = PATHS.map(|(family, protocol)| kept(rig, family, protocol));
            (all == [0; 4]).then_some(())
        });
        assert_eq!((0..4).map(|n| rig.flows_of(n)).sum::<u32>(), 0);
    });
}

#[test]
fn the_kernel_goes_on_when_nobody_has_anything_open() {
    needs!(Root, Bpf, NetNs, Veth, BpfLoop, Timer, Bpffs);
    let dir = bpfsmith_gate::bpffs();
    let mut pins = Vec::new();
    let flows = inside(&short(), Hook::Xdp, |rig| {
        for n in 0..100 {
            rig.open(Protocol::Tcp, client(Family::V4, n), listener(Family::V4));
        }
        rig.generation.sweep().unwrap();
        let maps = rig.generation.maps();
        let flows = Path::new(Family::V4, Protocol::Tcp).flows(Room::default());
        [
            SWEEPER.shape().name,
            flows.name,
            SECRET.shape().name,
        ]
        .map(|name| maps.handle(name).unwrap())
    });
    let mut names = Vec::new();
    for map in flows {
        names.push(map.name().unwrap());
        let path = dir.path().join(names[names.len() - 1].as_str());
        map.pin(&path).unwrap();
        pins.push(path);
    }
    // All descriptors are closed now.
    let sweeper = &pins[0];
    let ticks = || {
        let map: Map<u32, layout::Sweeper> =
            View::view(Handle::open_pin(sweeper).unwrap()).unwrap();
        map.lookup(&0).unwrap().unwrap()
    };
    deadline(LIMIT, || (ticks().removed == 100).then_some(()));
    let mut maps = Maps::new();
    for (name, pin) in names.into_iter().zip(&pins) {
        maps.insert(name, Handle::open_pin(pin).unwrap());
    }
    assert_eq!(entries(&maps, Family::V4, Protocol::Tcp), 0);
    let before = ticks().ticks;
    deadline(LIMIT, || (ticks().ticks > before + 10).then_some(()));
}
