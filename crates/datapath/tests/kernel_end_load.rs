//! Many connections through the proxy: who gets how many, and what happens to them while the
//! configuration changes or somebody floods.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

mod support;

use bpfsmith_datapath::config::{Algorithm, Family, Mode, Room};
use bpfsmith_datapath::reason::Reason;
use bpfsmith_gate::{deadline, is_slow, needs};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use support::people::{Server, Session, try_who, who};
use support::raw::Raw;
use support::serving::{SERVED, Wanted, Way, Work, asked};
use support::world::{LIMIT, World};

/// How many connections of `count` each server got.
fn shares(world: &World, servers: &[Server], count: u32) -> BTreeMap<String, u64> {
    let before: Vec<u64> = servers.iter().map(Server::accepted).collect();
    for turn in 0..count {
        let client = &world.clients[turn as usize % world.clients.len()];
        who(&client.node, asked()[turn as usize % 2]);
    }
    let names = servers.iter().map(|it| it.name.clone());
    let after = servers.iter().map(Server::accepted);
    let each = after.zip(before).map(|(after, before)| after - before);
    names.zip(each).collect()
}

/// Of ten thousand connections each backend gets its share.
#[test]
fn backends_get_their_shares() {
    needs!(NetNs, Veth, Clsact);
    let count = if is_slow() { 2_000 } else { 10_000 };
    let weights = [1, 2, 5];
    let world = World::new(3, 3);
    let servers = world.serve(SERVED);
    let mut wanted = Wanted::of(&world);
    for (backend, weight) in wanted.backends.iter_mut().zip(weights) {
        backend.1 = weight;
    }
    let mut work = Work::start(&world, &wanted, Way::Peer);
    let total: u32 = weights.iter().sum();
    for algorithm in [Algorithm::Maglev, Algorithm::RoundRobin] {
        wanted.algorithm = algorithm;
        work.change(&wanted);
        let shares = shares(&world, &servers, count);
        assert_eq!(shares.values().sum::<u64>(), u64::from(count));
        for (server, weight) in servers.iter().zip(weights) {
            let got = shares[&server.name] as f64 / f64::from(count);
            let fair = f64::from(weight) / f64::from(total);
            let most = match is_slow() {
                true => 0.05,
                false => 0.02,
            };
            assert!((got - fair).abs() < most, "{algorithm:?}: {shares:?}");
        }
    }
    assert_eq!(work.count(Reason::NoBackend), 0);
}

/// No connection fails while one configuration after the other takes over.
#[test]
fn configurations_change_under_load() {
    needs!(NetNs, Veth, Clsact, XdpFrags);
    for way in Way::ALL {
        let world = World::new(2, 4);
        let servers = world.serve(SERVED);
        let all = Wanted::of(&world);
        let mut work = Work::start(&world, &all, way);
        let mut lasting: Vec<Session> = asked()
            .into_iter()
            .map(|to| Session::open(&world.client().node, to).unwrap())
            .collect();
        let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let (stop, done) = (&stop, &done);
            let load = |client: usize, to: SocketAddr| {
                let node = &world.clients[client].node;
                move || -> Vec<String> {
                    let mut failed = Vec::new();
                    while !stop.load(Ordering::Acquire) {
                        if let Err(error) = try_who(node, to) {
                            failed.push(format!("{to}: {error}"));
                        }
                        done.fetch_add(1, Ordering::Release);
                    }
                    failed
                }
            };
            let clients = if is_slow() { 1 } else { 2 };
            let threads: Vec<_> = (0..clients)
                .flat_map(|client| asked().map(|to| scope.spawn(load(client, to))))
                .collect();
            // Programs are loaded beside the load: a slow machine takes half a minute.
            let changes = if is_slow() { 2 } else { 20 };
            for change in 0..changes {
                let mut next = all.clone();
                next.backends.rotate_left(change % 4);
                for (place, backend) in next.backends.iter_mut().enumerate() {
                    backend.1 = u32::try_from((place + change) % 3).unwrap();
                }
                next.algorithm = [Algorithm::Maglev, Algorithm::RoundRobin][change % 2];
                // Numbers stay those of the same backends.
                next.backends.sort_by_key(|it| it.0);
                work.change(&next);
                for session in &mut lasting {
                    session.echo(b"from the first configuration").unwrap();
                }
                let sofar = done.load(Ordering::Acquire);
                deadline(LIMIT, || {
                    (done.load(Ordering::Acquire) >= sofar + 4).then_some(())
                });
            }
            stop.store(true, Ordering::Release);
            for thread in threads {
                let failed = thread.join().unwrap();
                assert!(failed.is_empty(), "{way:?}: {failed:?}, {:?}", work.seen());
            }
        });
        drop(lasting);
        for server in &servers {
            assert_eq!(server.failed(), Vec::<String>::new());
        }
        for reason in [
            Reason::NoBackend,
            Reason::NoPort,
            Reason::NoRoute,
        ] {
            assert_eq!(work.count(reason), 0, "{way:?} {reason:?}");
        }
        work.assert_good_sums();
    }
}

/// A flood of twice what the table of flows holds ends no connection, idle or busy.
#[test]
fn a_flood_ends_nobody() {
    needs!(NetNs, Veth, Clsact, XdpFrags);
    let many = if is_slow() { 20 } else { 200 };
    for (way, mode) in [
        (Way::Peer, Mode::Dnat),
        (Way::Xdp, Mode::Dnat),
        (Way::Peer, Mode::FullNat),
    ] {
        let world = World::new(2, 2);
        let _servers = world.serve(SERVED);
        let mut wanted = Wanted::of(&world).mode(mode);
        wanted.room = Room {
            flows: 1 << 13,
            ..wanted.room
        };
        let work = Work::start(&world, &wanted, way);
        let node = &world.client().node;
        let open = |n: usize| Session::open(node, asked()[n % 2]).unwrap();
        let mut idle: Vec<Session> = (0..many).map(open).collect();
        let mut busy: Vec<Session> = (0..many).map(open).collect();
        for session in idle.iter_mut().chain(&mut busy) {
            session.echo(b"before").unwrap();
        }
        let flood = 2 * wanted.room.flows;
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let echo = || {
                let mut rounds = 0_u32;
                while !stop.load(Ordering::Acquire) || rounds < 2 {
                    for session in &mut busy {
                        session.echo(b"during").unwrap();
                    }
                    rounds += 1;
                }
            };
            let echoes = scope.spawn(echo);
            Raw::new(&world.clients[1].node).syns(&[Family::V4], 0..flood);
            stop.store(true, Ordering::Release);
            echoes.join().unwrap();
        });
        let opened = work.count(Reason::Opened);
        let known = u64::try_from(2 * many).unwrap();
        assert!(opened >= known + u64::from(flood) / 2, "{way:?}: {opened}");
        for session in idle.iter_mut().chain(&mut busy) {
            session.echo(b"afterwards").unwrap();
        }
        // And the proxy is not closed to others.
        for to in asked() {
            who(&world.clients[1].node, to);
        }
    }
}
