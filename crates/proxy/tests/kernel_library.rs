//! The proxy in a program of one's own: connections, sums and events of the library.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod rig;

use bpfsmith_config::edit::Document;
use bpfsmith_config::{Value, toml};
use bpfsmith_datapath::config::Protocol;
use bpfsmith_datapath::connections::State;
use bpfsmith_datapath::event::{End, Kind, Traffic, What};
use bpfsmith_gate::{deadline, needs};
use bpfsmith_proxy::commands::words::{By, Sort};
use bpfsmith_proxy::feed::Told;
use bpfsmith_proxy::listing::{self, Sum};
use bpfsmith_proxy::proxy::{Filter, Key, Life, Proxy};
use rig::support::people::{Session, ask, datagrams};
use rig::support::world::{LIMIT, World};
use rig::{SERVED, asked};
use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

const CONFIG: &str = r#"
[[proxies]]
name = "web"
port = 80
protocol = ["tcp", "udp"]
targets = ["10.20.0.2:8080"]

[[proxies.routes]]
source = "10.10.0.11"
target = "10.20.1.2:8080"
"#;

/// What is silent is forgotten soon.
const FORGETFUL: &str = r#"
[settings]
timeouts = { udp = "2s" }
"#;

/// What IP and UDP put before the bytes of a datagram.
const HEADERS: u64 = 28;

/// A proxy that lives as long as it, on the proxy's machine; its configuration has this besides.
#[track_caller]
fn open(world: &World, more: &str) -> Proxy {
    let ports = [&world.proxy.front].into_iter().chain(&world.proxy.backs);
    let names = Value::list(ports.map(|port| port.name.as_str().into()));
    let mut document = Document::read(&format!("{CONFIG}{more}")).unwrap();
    document.set("settings.devices", &names).unwrap();
    let opened = world
        .proxy
        .node
        .run(|| Proxy::open(document, Life::Process));
    opened.unwrap().unwrap_or_else(|error| panic!("{error}"))
}

/// Asks so often, with so many bytes each time; the server answers with its name and a blank before them.
#[track_caller]
fn talk(socket: &UdpSocket, times: u64, bytes: usize) -> (Traffic, Traffic) {
    for _ in 0..times {
        ask(socket, &vec![b'x'; bytes]).unwrap();
    }
    let of = |more: u64| Traffic {
        packets: times,
        bytes: times * (HEADERS + bytes as u64 + more),
    };
    (of(0), of("b0 ".len() as u64))
}

fn key(socket: &UdpSocket) -> Key {
    Key {
        protocol: Protocol::Udp,
        client: socket.local_addr().unwrap(),
        service: asked(80),
    }
}

/// Waits as a runtime does: until somebody wakes it.
fn wait<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match poll(&mut context) {
            Poll::Ready(it) => return it,
            Poll::Pending => thread::park(),
        }
    }
}

/// One connection and sums of many say who talked to whom, exact to the byte.
#[test]
fn connections_and_their_sums() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(2, 2);
    let _servers = world.serve(SERVED);
    let proxy = open(&world, "");
    let sockets = [0, 1].map(|it: usize| datagrams(&world.clients[it].node, asked(80)));
    let (there0, back0) = talk(&sockets[0], 3, 72);
    let (there1, back1) = talk(&sockets[1], 2, 100);

    let one = proxy.connection(key(&sockets[0])).unwrap().unwrap();
    assert_eq!(one.proxy.as_deref(), Some("web"));
    assert_eq!(one.listener.unwrap().to_string(), "0.0.0.0:80");
    assert_eq!(one.connection.client, sockets[0].local_addr().unwrap());
    assert_eq!(one.connection.target.to_string(), "10.20.0.2:8080");
    assert_eq!((one.connection.there, one.connection.back), (there0, back0));
    let other = proxy.connection(key(&sockets[1])).unwrap().unwrap();
    assert_eq!(other.connection.target.to_string(), "10.20.1.2:8080");
    assert_eq!(
        (other.connection.there, other.connection.back),
        (there1, back1)
    );
    // Nobody came from there, by this protocol or to that service.
    let client = key(&sockets[0]).client;
    for absent in [
        Key {
            protocol: Protocol::Tcp,
            ..key(&sockets[0])
        },
        Key {
            service: asked(81),
            ..key(&sockets[0])
        },
        Key {
            client: (client.ip(), client.port() ^ 1).into(),
            ..key(&sockets[0])
        },
        Key {
            client: "[fd00::1]:1".parse().unwrap(),
            ..key(&sockets[0])
        },
    ] {
        assert_eq!(proxy.connection(absent).unwrap(), None, "{absent:?}");
    }

    let first = Sum {
        connections: 1,
        open: 1,
        there: there0,
        back: back0,
    };
    let second = Sum {
        connections: 1,
        open: 1,
        there: there1,
        back: back1,
    };
    let both = Sum {
        connections: 2,
        open: 2,
        there: Traffic {
            packets: 5,
            bytes: there0.bytes + there1.bytes,
        },
        back: Traffic {
            packets: 5,
            bytes: back0.bytes + back1.bytes,
        },
    };
    let udp = Filter {
        protocol: Some(Protocol::Udp),
        ..Filter::default()
    };
    for (by, expected) in [
        (
            By::Source,
            vec![
                ("10.10.0.10", first),
                ("10.10.0.11", second),
            ],
        ),
        (
            By::Target,
            vec![
                ("10.20.0.2:8080", first),
                ("10.20.1.2:8080", second),
            ],
        ),
        (By::Proxy, vec![("web", both)]),
        (By::Listener, vec![("0.0.0.0:80/udp", both)]),
    ] {
        let expected = expected
            .into_iter()
            .map(|(name, sum)| (name.to_owned(), sum));
        let sums = proxy.sums(by, &udp).unwrap();
        assert_eq!(sums, expected.collect::<BTreeMap<_, _>>(), "{by}");
    }

    // Those that are over are remembered, and are not open.
    let session = Session::open(&world.clients[1].node, asked(80)).unwrap();
    // Ages are as exact as the kernel's ticks.
    thread::sleep(Duration::from_millis(100));
    let long = Session::open(&world.clients[0].node, asked(80)).unwrap();
    let local = session.local();
    session.end().unwrap();
    let tcp = Filter {
        protocol: Some(Protocol::Tcp),
        ..Filter::default()
    };
    let mut all = proxy.connections(&tcp).unwrap();
    listing::sort(&mut all, Sort::Age);
    let clients: Vec<_> = all.iter().map(|it| it.connection.client).collect();
    assert_eq!(clients, [local, long.local()]);
    let open = Filter {
        is_open: true,
        ..tcp
    };
    let open = proxy.connections(&open).unwrap();
    assert_eq!(open.len(), 1, "{open:?}");
    assert_eq!(open[0].connection.client, long.local());
    assert_eq!(open[0].connection.state, State::Established);
}

/// Events are silent until they are switched on, come to iterators and to streams alike, and are silent again; what
/// they say of connections that ended adds up to what was said.
#[test]
fn events_as_an_iterator_and_as_a_stream() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(2, 2);
    let _servers = world.serve(SERVED);
    let proxy = open(&world, FORGETFUL);
    let (mut iterator, mut stream) = (proxy.events(100), proxy.events(100));
    let silent = datagrams(&world.client().node, asked(80));
    talk(&silent, 1, 10);
    let told = iterator.next_within(Duration::from_millis(500));
    assert_eq!(told, None, "statistics are off");

    let switch = |to: bool| {
        let set = |it: &mut Document| it.set("settings.events", &Value::from(to));
        proxy.change(set).unwrap();
    };
    switch(true);
    // Whoever is silent for too long in between has two connections: then others talk.
    let (sockets, said) = deadline(LIMIT, || {
        let begun = Instant::now();
        let sockets = [0, 1].map(|it: usize| datagrams(&world.clients[it].node, asked(80)));
        let said = [
            talk(&sockets[0], 3, 72),
            talk(&sockets[1], 2, 100),
        ];
        (begun.elapsed() < Duration::from_millis(1500)).then_some((sockets, said))
    });
    let ours = |told: &Told| {
        let mut ours = sockets.iter();
        ours.any(|it| it.local_addr().unwrap() == told.event.client)
    };
    let of = |told: &Told| (told.event.client, told.event.what.kind());
    // Two that begin and two that end.
    let by_iterator: Vec<Told> = iterator.by_ref().filter(&ours).take(4).collect();
    let mut by_stream = Vec::new();
    while by_stream.len() < 4 {
        let told = wait(|context| stream.poll_next(context)).unwrap();
        by_stream.extend(Some(told).filter(&ours));
    }
    assert_eq!(by_iterator, by_stream);
    for (socket, kind) in sockets
        .iter()
        .flat_map(|it| [(it, Kind::New), (it, Kind::Closed)])
    {
        let it = (socket.local_addr().unwrap(), kind);
        assert!(
            by_stream.iter().any(|told| of(told) == it),
            "{it:?}: {by_stream:?}"
        );
    }
    for told in &by_stream {
        assert_eq!(told.proxy.as_deref(), Some("web"));
        assert_eq!(told.listener.unwrap().to_string(), "0.0.0.0:80");
        if let What::Closed(flow, end) = told.event.what {
            assert_eq!(end, End::Idle);
            // It was silent for two seconds before it was forgotten.
            assert!(flow.idle >= Duration::from_millis(1900), "{flow:?}");
            assert!(flow.lasted() + flow.idle == flow.age, "{flow:?}");
        }
    }
    let ended = listing::ended(&by_stream, By::Source);
    let expected = said.iter().zip(["10.10.0.10", "10.10.0.11"]);
    let expected = expected.map(|((there, back), client)| {
        let (there, back) = (*there, *back);
        (
            client.to_owned(),
            Sum {
                connections: 1,
                open: 0,
                there,
                back,
            },
        )
    });
    assert_eq!(ended, expected.collect());

    switch(false);
    while iterator.next_within(Duration::from_millis(500)).is_some() {}
    talk(&datagrams(&world.client().node, asked(80)), 1, 10);
    assert_eq!(iterator.next_within(Duration::from_millis(500)), None);

    // Nothing is told of a proxy that is gone, and nobody waits for it.
    let waits = thread::spawn(move || {
        wait(|context| {
            loop {
                match stream.poll_next(context) {
                    Poll::Ready(Some(_)) => {}
                    other => return other.map(|it| it.is_none()),
                }
            }
        })
    });
    drop(proxy);
    assert!(waits.join().unwrap());
    assert!(iterator.next().is_none() && iterator.is_over());
}

/// A proxy is added, changed and removed, a route too, and each time clients are answered by others; a change that is
/// refused changes nothing, and everything is gone with the proxy.
#[test]
fn changes_of_the_library() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(2, 2);
    let _servers = world.serve(SERVED);
    let proxy = open(&world, "");
    let who = |client: usize, port: u16| {
        let socket = datagrams(&world.clients[client].node, asked(port));
        ask(&socket, b"who?").unwrap()
    };
    let table = toml::read("name = 'api'\nport = 81\nprotocol = 'udp'\ntarget = '10.20.1.2:8080'");
    proxy.change(|it| it.add_proxy(&table.unwrap())).unwrap();
    assert_eq!((who(0, 80), who(0, 81)), ("b0".to_owned(), "b1".to_owned()));
    let other = toml::read("target = '10.20.0.2:8080'").unwrap();
    proxy.change(|it| it.update_proxy("api", &other)).unwrap();
    assert_eq!(who(0, 81), "b0");
    let route = toml::read("source = '10.10.0.10'\ntarget = '10.20.1.2:8080'").unwrap();
    proxy.change(|it| it.add_route("api", &route)).unwrap();
    assert_eq!((who(0, 81), who(1, 81)), ("b1".to_owned(), "b0".to_owned()));
    proxy
        .change(|it| it.remove_route("api", "10.10.0.10"))
        .unwrap();
    assert_eq!(who(0, 81), "b0");
    let before = proxy.document().text().to_owned();
    proxy
        .change(|it| it.remove_route("api", "10.10.0.10"))
        .unwrap_err();
    assert_eq!(proxy.document().text(), before);
    proxy.change(|it| it.remove_proxy("api")).unwrap();
    let socket = datagrams(&world.client().node, asked(81));
    socket.send(b"who?").unwrap();
    thread::sleep(Duration::from_millis(300));
    assert!(socket.recv(&mut [0; 16]).is_err(), "nobody is there");
    assert!(
        proxy
            .status()
            .unwrap()
            .proxies
            .iter()
            .all(|it| it.name != "api")
    );
    let mut events = proxy.events(1);
    drop(proxy);
    assert!(events.next_within(LIMIT).is_none());
    let socket = datagrams(&world.client().node, asked(80));
    // Where nobody forwards, it may be refused at once.
    let _ = socket.send(b"who?");
    thread::sleep(Duration::from_millis(300));
    assert!(socket.recv(&mut [0; 16]).is_err(), "the proxy is gone");
}
