//! What is said where something is not as it should be: at once, by name, with what to do.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

mod support;

use bpfsmith_datapath::IfIndex;
use bpfsmith_datapath::choice::{Note, Wish};
use bpfsmith_datapath::config::{Config, Events, Family, Mode, Protocol};
use bpfsmith_datapath::error::Error;
use bpfsmith_datapath::event::{self, Event, What};
use bpfsmith_datapath::events::Events as Reader;
use bpfsmith_datapath::generation::Generation;
use bpfsmith_datapath::programs::{Hook, Usual};
use bpfsmith_datapath::reason::Reason;
use bpfsmith_datapath::tables::Tables;
use bpfsmith_gate::{deadline, needs};
use bpfsmith_net::{Address, Device, Kind, Prefix, Route};
use bpfsmith_prog::Prog;
use bpfsmith_prog::target::Tcx;
use bpfsmith_sys::rights::{Caps, keep};
use bpfsmith_uapi::{AttachType, Errno};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::ControlFlow;
use support::people::{Server, who, who_udp};
use support::serving::{SERVED, Wanted, Way, Work, asked, attach};
use support::world::{LIMIT, World};

/// One that nobody looks for.
fn backend() -> [IpAddr; 2] {
    [
        [10, 1, 1, 1].into(),
        "fd00::1".parse().unwrap(),
    ]
}

#[test]
fn a_second_proxy_on_a_device_says_that_it_is_the_second() {
    needs!(NetNs, Veth, Tcx);
    let world = World::new(1, 1);
    let _servers = world.serve(SERVED);
    let wanted = Wanted::of(&world);
    let first = Work::start(&world, &wanted, Way::Device);
    let second = Work::start(&world, &wanted, Way::Device);
    for (first, second) in (first.attached.choices().iter()).zip(second.attached.choices()) {
        assert_eq!(first.notes, []);
        let [Note::Before(present)] = second.notes.as_slice() else {
            panic!("{second}")
        };
        assert_eq!(present.name.as_deref(), Some("proxy_tcx"));
        let said = format!(
            "another TCX program (id {}, name proxy_tcx) is before this one",
            present.program
        );
        assert!(second.to_string().contains(&said), "{second}");
    }
    // So it is.
    assert_eq!(who(&world.client().node, asked()[0]), "b0");
    assert!(first.count(Reason::Forwarded) > 0);
    assert_eq!(second.count(Reason::Forwarded), 0);
}

#[test]
fn a_device_that_is_listed_twice_is_refused_before_the_kernel_is_asked() {
    needs!(NetNs, Veth, Clsact);
    let world = World::new(1, 1);
    let generation = Generation::first(&Wanted::of(&world).config()).unwrap();
    let front = world.proxy.front.index;
    let devices = [(front, Wish::Best), (front, Wish::Tcx)];
    let error = attach(&world, &generation, &devices).unwrap_err();
    assert_eq!(
        error.to_string(),
        "front is listed twice: list each device once"
    );
    let none = [(IfIndex(0), Wish::Best)];
    let error = attach(&world, &generation, &none).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("(numbers of devices begin with 1: `ip link` shows them)"),
        "{error}"
    );
}

#[test]
fn a_table_that_the_kernel_has_no_room_for_names_the_setting() {
    needs!(Root, Btf);
    let mut config = Wanted::to(vec![(
        [
            [10, 1, 1, 1].into(),
            "fd00::1".parse().unwrap(),
        ],
        1,
    )])
    .config();
    config.room.flows = u32::MAX;
    let error = Generation::first(&config).unwrap_err();
    assert!(matches!(error, Error::NoRoom { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("make Config::room.flows smaller"), "{text}");
}

#[test]
fn as_nobody_it_is_said_what_is_needed() {
    needs!(Root, Btf);
    let both = Wanted::to(vec![(backend(), 1)]).config();
    let mut v4 = both.clone();
    v4.listeners.retain(|listener| listener.address.is_ipv4());
    for (config, said) in [
        (both, "CAP_NET_ADMIN"),
        (v4, "it takes CAP_BPF"),
    ] {
        let nobody = || {
            keep(Caps::empty()).unwrap();
            Generation::first(&config).unwrap_err()
        };
        let error = std::thread::scope(|scope| scope.spawn(nobody).join().unwrap());
        assert_eq!(error.errno(), Some(Errno::EPERM));
        let text = error.to_string();
        assert!(
            text.contains(said) && text.contains("run as root"),
            "{text}"
        );
    }
}

#[test]
fn sources_that_are_missing_are_asked_for() {
    let config = Config {
        sources: Vec::new(),
        ..Wanted::to(vec![(backend(), 1)])
            .mode(Mode::FullNat)
            .config()
    };
    let error = Tables::of(&config).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("add an address to Config::sources"),
        "{error}"
    );
}

/// A proxy on these of its devices, by their places: clients' first.
#[track_caller]
fn on<'a>(world: &'a World, wanted: &Wanted, ports: &[usize]) -> Work<'a> {
    let proxy = &world.proxy;
    let all: Vec<_> = [&proxy.front].into_iter().chain(&proxy.backs).collect();
    let devices: Vec<_> = ports
        .iter()
        .map(|at| (all[*at].index, Wish::Visible))
        .collect();
    let generation = Generation::first(&wanted.config()).unwrap();
    let attached = attach(world, &generation, &devices).unwrap();
    Work {
        world,
        generation,
        attached,
    }
}

/// A datagram of a client who takes answers from everybody.
fn send(world: &World, to: SocketAddr) -> UdpSocket {
    let open = || UdpSocket::bind((Family::of(to.ip()).any(), 0));
    let socket = world.client().node.run(open).unwrap().unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket.send_to(b"who?", to).unwrap();
    socket
}

fn told(work: &Work<'_>) -> Vec<String> {
    work.attached
        .notes()
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn backends_that_nothing_leads_to_are_told_until_something_does() {
    needs!(NetNs, Veth, Clsact);
    let world = World::new(1, 1);
    let servers = world.serve(SERVED);
    let far: [IpAddr; 2] = [
        [10, 200, 0, 1].into(),
        "fd20:ffff::1".parse().unwrap(),
    ];
    let mut work = Work::start(&world, &Wanted::to(vec![(far, 1)]), Way::Device);
    assert_eq!(
        told(&work),
        far.map(|ip| format!(
            "nothing leads to backend {ip}: packets to it end in this machine (give it a route)"
        ))
    );
    for (to, count) in asked().into_iter().zip(1..) {
        let _socket = send(&world, to);
        deadline(LIMIT, || {
            (work.count(Reason::ToOwnSocket) >= count).then_some(())
        });
    }

    // The backend has these addresses, too, and by now a route leads there.
    let host = &world.backends[0];
    for (ip, via) in far.into_iter().zip(host.port.addresses()) {
        let address = Address::new(host.port.index, Prefix::host(ip));
        host.node.net.add_address(&address).unwrap();
        let route = Route::to(Prefix::host(ip))
            .via(via)
            .dev(world.proxy.backs[0].index);
        world.proxy.node.net.add_route(&route).unwrap();
    }
    let second = Server::start(&host.node, "far", &far.map(|ip| (ip, SERVED).into()));
    work.change(&Wanted::to(vec![(far, 1)]));
    assert_eq!(told(&work), Vec::<String>::new());
    assert_eq!(who(&world.client().node, asked()[0]), second.name);
    assert_eq!(servers[0].accepted(), 0);
}

#[test]
fn backends_behind_devices_without_a_program_are_told() {
    needs!(NetNs, Veth, Clsact);
    let world = World::new(1, 2);
    let _servers = world.serve(SERVED);
    let second = world.backends[1].port.addresses();
    let work = on(&world, &Wanted::of(&world), &[0, 1]);
    assert_eq!(
        told(&work),
        second.map(|ip| format!(
            "backend {ip} is reached by back1, which has no program: answers bypass the proxy (list \
             back1, too)"
        ))
    );
    drop(work);
    let alone = Wanted::to(vec![(second, 1)]);
    let work = on(&world, &alone, &[0, 1]);
    for (to, ip) in asked().into_iter().zip(second) {
        let mut answer = [0; 64];
        let (_, from) = send(&world, to).recv_from(&mut answer).unwrap();
        assert_eq!(from, (ip, SERVED).into(), "not who was asked");
    }
    drop(work);
    let work = on(&world, &alone, &[0, 2]);
    assert_eq!(told(&work), Vec::<String>::new());
    assert_eq!(who(&world.client().node, asked()[0]), "b1");
}

/// Their answers need no program on the way back: those of the proxy's own host, and those that go to
/// clients directly.
#[test]
fn backends_that_answer_otherwise_are_not_told() {
    needs!(NetNs, Veth, Clsact);
    let world = World::new(1, 1);
    let own = world.proxy.backs[0].addresses();
    let work = on(&world, &Wanted::to(vec![(own, 1)]), &[0]);
    assert_eq!(told(&work), Vec::<String>::new());
    drop(work);
    let direct = Wanted::of(&world).mode(Mode::DirectReturn);
    let work = on(&world, &direct, &[0]);
    assert_eq!(told(&work), Vec::<String>::new());
}

#[test]
fn a_program_on_a_port_sees_what_comes_by_its_bridge() {
    needs!(NetNs, Veth, Clsact);
    let world = World::new(1, 1);
    let proxy = &world.proxy;
    let bridge = Device::new("bridge0");
    proxy.node.net.add_link(&bridge, &Kind::Bridge).unwrap();
    let bridge = proxy.node.net.link("bridge0").unwrap().index;
    proxy.node.net.set_up(bridge).unwrap();
    let far: [IpAddr; 2] = [
        [10, 200, 0, 1].into(),
        "fd20:ffff::1".parse().unwrap(),
    ];
    for (ip, len) in far.into_iter().zip([24, 64]) {
        let route = Route::to(Prefix::new(ip, len).unwrap().network()).dev(bridge);
        proxy.node.net.add_route(&route).unwrap();
    }
    let wanted = Wanted::to(vec![(far, 1)]);
    let work = on(&world, &wanted, &[0, 1]);
    let texts = told(&work);
    assert!(
        texts.len() == 2 && texts[0].contains("reached by bridge0"),
        "{texts:?}"
    );
    drop(work);
    let port = proxy.backs[0].index;
    proxy.node.net.set_master(port, bridge).unwrap();
    let work = on(&world, &wanted, &[0, 1]);
    assert_eq!(told(&work), Vec::<String>::new());
}

#[test]
fn what_is_attached_can_be_listed() {
    needs!(NetNs, Veth, Tcx);
    let world = World::new(1, 1);
    let work = Work::start(&world, &Wanted::of(&world), Way::Device);
    let front = world.proxy.front.index;
    let parts: Vec<_> = work.attached.on(front).collect();
    let [(hook, usual)] = parts.as_slice() else {
        panic!("{parts:?}")
    };
    assert_eq!((*hook, *usual), (Hook::Tcx, Usual::Device));
    let program = work.generation.program(*hook, *usual).unwrap();
    assert!(program.listing().to_string().lines().count() > program.insns().len() / 2);
    let attached = world
        .proxy
        .node
        .run(|| Tcx::ingress(front).query())
        .unwrap();
    let [id] = attached.unwrap().progs.try_into().unwrap();
    let there = Prog::open_id(id, AttachType::TCX_INGRESS).unwrap();
    assert_eq!(there.name(), program.name());
    assert_eq!(work.attached.on(IfIndex(9999)).count(), 0);
}

/// The packet that establishes a flow is not among those that its event counts.
#[test]
fn a_flow_is_told_before_the_packet_that_establishes_it_is_counted() {
    needs!(NetNs, Veth, Clsact);
    let world = World::new(1, 1);
    let _servers = world.serve(SERVED);
    let config = Config {
        events: Some(Events::default()),
        ..Wanted::of(&world).config()
    };
    let generation = Generation::first(&config).unwrap();
    generation.want(&[event::Kind::New]).unwrap();
    let mut events = Reader::open(&generation).unwrap();
    let devices = [
        &world.proxy.front,
        &world.proxy.backs[0],
    ]
    .map(|it| (it.index, Wish::Best));
    let _attached = attach(&world, &generation, &devices).unwrap();
    for to in asked() {
        assert_eq!(who_udp(&world.client().node, to), "b0");
        assert_eq!(who(&world.client().node, to), "b0");
    }
    let mut told = Vec::new();
    deadline(LIMIT, || {
        let keep = |event: Event| {
            if let What::New(flow) = event.what {
                told.push((event.protocol, flow.there.packets, flow.back.packets));
            }
            ControlFlow::Continue(())
        };
        events.read(keep).unwrap();
        (told.len() >= 4).then_some(())
    });
    told.sort_by_key(|it| it.0);
    let (tcp, udp) = ((Protocol::Tcp, 1, 1), (Protocol::Udp, 1, 0));
    assert_eq!(told, [tcp, tcp, udp, udp]);
}
