//! What programs tell of flows is what became of them.

use crate::age::Time;
use crate::rig::{Flow, Rig, backend, client, config, inside, listener};
use bpfsmith_datapath::config::*;
use bpfsmith_datapath::event::{End, Event, Kind, Traffic, What};
use bpfsmith_datapath::events::Events as Reader;
use bpfsmith_datapath::generation::Generation;
use bpfsmith_datapath::programs::{Hook, Usual};
use bpfsmith_datapath::reason::Reason;
use bpfsmith_gate::{deadline, needs};
use bpfsmith_net::Chain;
use bpfsmith_prog::target::Tcx;
use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);

/// Ticks of the coarsest clock.
const TICK: Duration = Duration::from_millis(20);

fn telling() -> Config {
    let mut config = config(Algorithm::Maglev, &[1]);
    let millis = Duration::from_millis;
    config.timeouts = Timeouts {
        udp: millis(800),
        closed: millis(100),
        established: Duration::from_secs(600),
        half_closed: Duration::from_secs(600),
        round: millis(100),
        ..Timeouts::default()
    };
    config.events = Some(Events::default());
    config
}

/// All that was told since the last time.
fn told(reader: &mut Reader) -> Vec<Event> {
    let mut events = Vec::new();
    let read = reader
        .read(|event| {
            events.push(event);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!((read.malformed, read.first_malformed), (0, None));
    events
}

/// Waits for so many.
fn wait(reader: &mut Reader, count: usize) -> Vec<Event> {
    let mut events = Vec::new();
    deadline(LIMIT, || {
        events.extend(told(reader));
        (events.len() >= count).then_some(())
    });
    assert_eq!(events.len(), count, "{events:#?}");
    events
}

/// Sends packets of that many bytes, IP headers included, both ways; returns what was sent in all, with
/// the packets that opened it.
fn talk(rig: &Rig, flow: &Flow, flags: &str) -> (Traffic, Traffic) {
    let mut both = [Traffic::default(); 2];
    let mut add = |side: usize, bytes: usize| {
        both[side].packets += 1;
        both[side].bytes += bytes as u64;
    };
    add(0, flow.ask("S").packet().len());
    add(1, flow.answer("SA").packet().len());
    if flow.protocol == Protocol::Tcp {
        add(0, flow.ask("A").packet().len());
    }
    for n in 0..10 {
        let ask = flow.ask(flags).bytes(n * 100);
        rig.send(&ask).unwrap();
        add(0, ask.packet().len());
        let answer = flow.answer(flags).bytes(n * 50 + 1);
        for _ in 0..3 {
            rig.send(&answer).unwrap();
            add(1, answer.packet().len());
        }
    }
    (both[0], both[1])
}

#[test]
fn each_flow_is_told_when_it_begins_and_ends_with_what_was_sent() {
    needs!(Root, Bpf, NetNs, Veth, BpfLoop, Timer);
    let mut config = telling();
    config.timeouts.udp = Duration::from_secs(600);
    for hook in [Hook::Xdp, Hook::Tcx] {
        inside(&config, hook, |rig| {
            let mut time = Time::new(rig, config.timeouts.round);
            let mut reader = Reader::open(&rig.generation).unwrap();
            rig.generation.want(&[Kind::New, Kind::Closed]).unwrap();
            rig.generation.sweep().unwrap();
            for (number, (family, protocol)) in [
                (Family::V4, Protocol::Tcp),
                (Family::V4, Protocol::Udp),
                (Family::V6, Protocol::Tcp),
                (Family::V6, Protocol::Udp),
            ]
            .into_iter()
            .enumerate()
            {
                let service = listener(family);
                let begun = Instant::now();
                let flow = rig.open(protocol, client(family, 5), service);
                let opening = begun.elapsed();
                let [new] = wait(&mut reader, 1).try_into().unwrap();
                assert_eq!((new.client, new.service), (flow.client, service));
                assert_eq!(new.protocol, protocol);
                let What::New(of) = new.what else {
                    panic!("{new:?}");
                };
                assert_eq!(of.listener.map(usize::from), Some(number));
                assert_eq!((of.source, of.target), (flow.source, flow.backend));
                assert_eq!(of.target.ip(), backend(family, 0));
                let (mut there, mut back) = talk(rig, &flow, "PA");
                let end = match protocol {
                    Protocol::Udp => End::Idle,
                    Protocol::Tcp => {
                        let last = flow.ask("FA");
                        rig.send(&last).unwrap();
                        there.packets += 1;
                        there.bytes += last.packet().len() as u64;
                        let last = flow.answer("FA");
                        rig.send(&last).unwrap();
                        back.packets += 1;
                        back.bytes += last.packet().len() as u64;
                        End::Closed
                    }
                };
                let talked = begun.elapsed();
                let added = match end {
                    End::Idle => 2 * config.timeouts.udp,
                    _ => Duration::ZERO,
                };
                time.goes_on(added);
                let [closed] = wait(&mut reader, 1).try_into().unwrap();
                assert_eq!((closed.client, closed.service), (flow.client, service));
                let What::Closed(of, why) = closed.what else {
                    panic!("{closed:?}");
                };
                // It was kept for a while, which does not count.
                assert!(of.lasted() < talked + TICK, "{talked:?}: {of:?}");
                assert!(of.age > of.lasted(), "{of:?}");
                assert_eq!((of.there, of.back), (there, back));
                assert_eq!(of.listener.map(usize::from), Some(number));
                assert_eq!((of.source, of.target), (flow.source, flow.backend));
                assert_eq!(why, end);
                let lived = closed.at.checked_sub(new.at).unwrap();
                // It began with its first packet, and was told of when it was established.
                let apart = (lived + added).abs_diff(of.age);
                assert!(
                    apart < opening + 2 * TICK,
                    "{opening:?} {lived:?} {:?}",
                    of.age
                );
            }
        });
    }
}

#[test]
fn a_flow_that_begins_anew_was_told_to_have_ended() {
    needs!(Root, Bpf, NetNs, Veth, BpfLoop);
    inside(&telling(), Hook::Xdp, |rig| {
        let mut reader = Reader::open(&rig.generation).unwrap();
        rig.generation.want(Kind::ALL).unwrap();
        for family in [Family::V4, Family::V6] {
            let flow = rig.open(Protocol::Tcp, client(family, 5), listener(family));
            rig.send(&flow.answer("RA")).unwrap();
            rig.open(Protocol::Tcp, client(family, 5), listener(family));
            let events = wait(&mut reader, 3);
            let What::Closed(of, End::Reset) = events[1].what else {
                panic!("{events:?}");
            };
            assert_eq!((of.there.packets, of.back.packets), (2, 2));
            assert!(matches!(events[0].what, What::New(_)));
            assert!(matches!(events[2].what, What::New(_)));
        }
    });
}

#[test]
fn what_lives_is_told_every_so_often_and_only_what_is_wanted() {
    needs!(Root, Bpf, NetNs, Veth, BpfLoop, Timer);
    let mut config = telling();
    config.events = Some(Events {
        every: Duration::from_millis(200),
        ..Events::default()
    });
    inside(&config, Hook::Xdp, |rig| {
        let mut reader = Reader::open(&rig.generation).unwrap();
        rig.generation.sweep().unwrap();
        let open = |n| {
            let client = client(Family::V4, n);
            rig.open(Protocol::Tcp, client, listener(Family::V4))
        };
        let flow = open(1);
        assert_eq!(told(&mut reader), [], "nothing is wanted");
        rig.generation.want(&[Kind::Periodic]).unwrap();
        let (there, back) = talk(rig, &flow, "A");
        // What was told before the last packet.
        told(&mut reader);
        let mut last = None;
        let mut times = 0;
        deadline(LIMIT, || {
            for event in told(&mut reader) {
                assert!(matches!(event.what, What::Periodic(_)), "{event:?}");
                last = Some(event);
                times += 1;
            }
            (times >= 3).then_some(())
        });
        let What::Periodic(of) = last.unwrap().what else {
            panic!("{last:?}");
        };
        assert_eq!((of.there, of.back), (there, back));
        rig.generation.want(&[]).unwrap();
        let swept = rig.generation.swept().unwrap().visited;
        // What was written before is read, and then there is nothing.
        deadline(LIMIT, || {
            let visited = rig.generation.swept().unwrap().visited;
            (visited > swept + 2).then_some(())
        });
        told(&mut reader);
        open(2);
        deadline(LIMIT, || {
            let visited = rig.generation.swept().unwrap().visited;
            (visited > swept + 50).then_some(())
        });
        assert_eq!(told(&mut reader), []);
    });
}

#[test]
fn who_is_refused_is_told_why() {
    needs!(Root, Bpf, NetNs, Veth, BpfLoop);
    let mut config = telling();
    config.groups[1].members.clear();
    inside(&config, Hook::Tcx, |rig| {
        let mut reader = Reader::open(&rig.generation).unwrap();
        rig.generation.want(&[Kind::Refused]).unwrap();
        let (from, to) = (client(Family::V6, 3), listener(Family::V6));
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            assert!(rig.begin(protocol, from, to).is_none());
            let [event] = wait(&mut reader, 1).try_into().unwrap();
            assert_eq!((event.client, event.service), (from, to));
            assert_eq!(event.protocol, protocol);
            assert_eq!(event.what, What::Refused(Reason::NoBackend));
        }
    });
}

#[test]
fn what_finds_no_room_is_counted() {
    needs!(Root, Bpf, NetNs, Veth, BpfLoop);
    let mut config = telling();
    config.events = Some(Events {
        bytes: 4096,
        ..Events::default()
    });
    inside(&config, Hook::Xdp, |rig| {
        let mut reader = Reader::open(&rig.generation).unwrap();
        rig.generation.want(&[Kind::New]).unwrap();
        for n in 0..100 {
            rig.open(Protocol::Udp, client(Family::V4, n), listener(Family::V4));
        }
        let read = told(&mut reader).len() as u64;
        assert!(read > 20, "{read}");
        assert_eq!(read + rig.count(Reason::EventLost), 100);
        rig.open(
            Protocol::Udp,
            client(Family::V4, 1000),
            listener(Family::V4),
        );
        assert_eq!(told(&mut reader).len(), 1, "there is room again");
    });
}

#[test]
fn sockets_and_events_count_the_same() {
    needs!(Root, Bpf, NetNs, Veth, Tcx, BpfLoop, Timer);
    let net = Chain::new().unwrap();
    let mut config = telling();
    config.backends[0].address = "10.2.0.2:8080".parse().unwrap();
    let generation = Generation::first(&config).unwrap();
    let prog = generation.load(Hook::Tcx, Usual::Device).unwrap();
    let devices = [
        net.proxy.left.index,
        net.proxy.right.index,
    ];
    let links = net
        .proxy
        .run(|| devices.map(|device| prog.attach(&Tcx::ingress(device)).unwrap()));
    let mut reader = Reader::open(&generation).unwrap();
    generation.want(&[Kind::Closed]).unwrap();
    let server = net
        .server
        .run(|| UdpSocket::bind("10.2.0.2:8080"))
        .unwrap()
        .unwrap();
    server.set_read_timeout(Some(LIMIT)).unwrap();
    let mut sent: BTreeMap<SocketAddr, (Traffic, Traffic)> = BTreeMap::new();
    let mut buffer = [0; 2000];
    for n in 0..8_usize {
        let client = net
            .client
            .run(|| UdpSocket::bind("10.1.0.2:0"))
            .unwrap()
            .unwrap();
        client.set_read_timeout(Some(LIMIT)).unwrap();
        let of = sent.entry(client.local_addr().unwrap()).or_default();
        for round in 0..=n {
            let ask = vec![1; 100 * round + n];
            client.send_to(&ask, listener(Family::V4)).unwrap();
            let (length, from) = server.recv_from(&mut buffer).unwrap();
            assert_eq!(buffer[..length], ask);
            of.0.packets += 1;
            of.0.bytes += 28 + ask.len() as u64;
            let answer = vec![2; 50 * round + 3];
            server.send_to(&answer, from).unwrap();
            assert_eq!(client.recv_from(&mut buffer).unwrap().0, answer.len());
            of.1.packets += 1;
            of.1.bytes += 28 + answer.len() as u64;
        }
    }
    generation.sweep().unwrap();
    // A slow machine may let some end in between: their parts add up.
    let mut got: BTreeMap<SocketAddr, (Traffic, Traffic)> = BTreeMap::new();
    deadline(LIMIT, || {
        for event in told(&mut reader) {
            let What::Closed(of, End::Idle) = event.what else {
                panic!("{event:?}");
            };
            let sum = got.entry(event.client).or_default();
            for (sum, part) in [
                (&mut sum.0, of.there),
                (&mut sum.1, of.back),
            ] {
                sum.packets += part.packets;
                sum.bytes += part.bytes;
            }
        }
        (got == sent).then_some(())
    });
    assert_eq!(generation.flows_of(BackendId(0)).unwrap(), 0);
    drop(links);
}
