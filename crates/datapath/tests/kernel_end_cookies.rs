//! Connections by cookie, from sockets to sockets: every byte arrives, and a flood leaves no trace.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

mod support;

use bpfsmith_datapath::config::{Above, Config, Family, ListenerLimit, Mode, Protocol, Rate};
use bpfsmith_datapath::flows::Flows;
use bpfsmith_datapath::layout::{Bucket4, Bucket6};
use bpfsmith_datapath::reason::Reason;
use bpfsmith_datapath::shape::Path;
use bpfsmith_gate::{deadline, is_slow, needs};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use support::people::{Server, Session, bulk, who};
use support::raw::Raw;
use support::serving::{SERVED, Wanted, Way, Work, asked};
use support::world::{LIMIT, World};

/// So many connections begin without a cookie at each listener.
fn limited(mut config: Config, burst: u32) -> Config {
    let limit = ListenerLimit {
        rate: Rate {
            per_second: 0,
            burst,
        },
        above: Above::Cookies,
    };
    for listener in &config.listeners {
        if listener.protocol == Protocol::Tcp {
            config.limits.listeners.insert(listener.number, limit);
        }
    }
    config
}

fn start<'a>(world: &'a World, wanted: &Wanted, way: Way, burst: u32) -> Work<'a> {
    Work::configured(world, &limited(wanted.config(), burst), way)
}

/// Each connection is by cookie, and carries a megabyte each way.
#[test]
fn every_byte_arrives() {
    needs!(NetNs, Veth, Clsact, XdpFrags, SynCookies);
    for mode in [Mode::Dnat, Mode::FullNat] {
        for way in Way::ALL {
            let world = World::new(1, 2);
            let servers = world.serve(SERVED);
            let wanted = Wanted::of(&world).mode(mode);
            for sums in way.sums() {
                world.compute(*sums);
                let work = start(&world, &wanted, way, 0);
                let node = &world.client().node;
                for to in asked() {
                    for _ in 0..3 {
                        let name = who(node, to);
                        assert!(servers.iter().any(|it| it.name == name), "{name}");
                    }
                    bulk(node, to, 1 << 20);
                }
                for server in &servers {
                    assert_eq!(server.failed(), Vec::<String>::new());
                }
                let what = format!("{mode:?} {way:?} {sums:?}");
                assert!(work.count(Reason::CookieSent) >= 8, "{what}");
                assert_eq!(work.count(Reason::Opened), 8, "{what}");
                assert!(work.count(Reason::CookieAnswered) >= 8, "{what}");
                assert_eq!(work.count(Reason::CookieLost), 0, "{what}");
                assert_eq!(work.count(Reason::MidStream), 0, "{what}");
                work.assert_good_sums();
            }
        }
    }
}

/// Clients that speak first do so before their backend knows of them: they say it again.
#[test]
fn clients_may_speak_first() {
    needs!(NetNs, Veth, Clsact, XdpFrags, SynCookies);
    for way in Way::ALL {
        let world = World::new(1, 1);
        let _servers = world.serve(SERVED);
        let work = start(&world, &Wanted::of(&world), way, 0);
        for to in asked() {
            let connect = || TcpStream::connect_timeout(&to, LIMIT);
            let mut stream = world.client().node.run(connect).unwrap().unwrap();
            stream.set_nodelay(true).unwrap();
            // In pieces, of which later ones must not be taken for the first.
            for byte in b"echo\nhello" {
                stream.write_all(&[*byte]).unwrap();
            }
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            let mut heard = [0; 8];
            stream.read_exact(&mut heard).unwrap();
            assert_eq!(&heard, b"b0\nhello", "{way:?} {to}");
        }
        assert_eq!(work.count(Reason::CookieLost), 0);
        work.assert_good_sums();
    }
}

/// Nobody listens where the listener leads: the client learns so by a reset.
#[test]
fn refusals_arrive() {
    needs!(NetNs, Veth, Clsact, XdpFrags, SynCookies);
    for way in Way::ALL {
        let world = World::new(1, 1);
        let _work = start(&world, &Wanted::of(&world), way, 0);
        for to in asked() {
            let connect = || TcpStream::connect_timeout(&to, LIMIT);
            // The client is accepted by the proxy, and refused by the backend, maybe before it looks.
            let stream = world.client().node.run(connect).unwrap();
            let refused = stream.and_then(|mut stream| {
                stream.set_read_timeout(Some(LIMIT))?;
                stream.read(&mut [0])
            });
            let refused = refused.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionReset, "{way:?} {to}");
        }
    }
}

/// While somebody floods with many times what the listeners take, clients connect, all by cookie; and there
/// are no more flows than theirs.
#[test]
fn clients_connect_in_a_flood() {
    needs!(NetNs, Veth, Clsact, XdpFrags, SynCookies);
    const BURST: u32 = 50;
    let many = if is_slow() { 10 } else { 100 };
    for way in Way::ALL {
        let world = World::new(2, 2);
        let servers = world.serve(SERVED);
        let work = start(&world, &Wanted::of(&world), way, BURST);
        // Nothing is left of what may begin without a cookie.
        let (raw, families) = (Raw::new(&world.clients[1].node), [Family::V4, Family::V6]);
        raw.syns(&families, 0..4 * BURST);
        let limits = 2 * u64::from(BURST);
        deadline(LIMIT, || {
            (work.count(Reason::Opened) == limits).then_some(())
        });
        let before = work.count(Reason::CookieSent);
        let stop = AtomicBool::new(false);
        let begun = Instant::now();
        let sent = std::thread::scope(|scope| {
            let flood = scope.spawn(|| {
                let mut sent = 4 * BURST;
                // Enough for what is asked below, also if the connections are through before.
                let is_wanted = |sent| sent < 40 * BURST || !stop.load(Ordering::Acquire);
                while is_wanted(sent) && begun.elapsed() < 2 * LIMIT {
                    raw.syns(&families, sent..sent + 1000);
                    sent += 1000;
                }
                sent
            });
            let node = &world.client().node;
            let mut sessions: Vec<Session> = (0..many)
                .map(|n| Session::open(node, asked()[n % 2]).unwrap())
                .collect();
            for session in &mut sessions {
                session.echo(b"during").unwrap();
            }
            stop.store(true, Ordering::Release);
            let sent = flood.join().unwrap();
            for session in &mut sessions {
                session.echo(b"afterwards").unwrap();
            }
            sent
        });
        let clients = u64::try_from(many).unwrap();
        let answered = work.count(Reason::CookieSent) - before;
        eprintln!("{way:?}: {sent} SYN, {answered} cookies");
        assert!(answered > 10 * limits, "{way:?}: {answered}");
        assert_eq!(work.count(Reason::Opened), limits + clients, "{way:?}");
        assert!(entries(&work) <= 2 * (limits + clients), "{way:?}");
        let accepted: u64 = servers.iter().map(Server::accepted).sum();
        assert_eq!(accepted, clients);
        assert_eq!(work.count(Reason::CookieLost), 0);
        work.assert_good_sums();
    }
}

/// Entries in the tables of flows.
fn entries(work: &Work<'_>) -> u64 {
    let maps = work.generation.maps();
    let path = |family| Path::new(family, Protocol::Tcp);
    let v4 = Flows::<Bucket4>::read(maps, path(Family::V4)).unwrap();
    let v6 = Flows::<Bucket6>::read(maps, path(Family::V6)).unwrap();
    u64::try_from(v4.iter().count() + v6.iter().count()).unwrap()
}
