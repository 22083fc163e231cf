//! XDP sends frames to devices: a hub that floods, programs that see what leaves, and devices that
//! drop what they are sent until something is switched on.

mod hub_bench;
mod net_bench;

use bpfsmith_asm::dsl::*;
use bpfsmith_asm::kit::redirect::{self, Ingress, Otherwise};
use bpfsmith_gate::{deadline, needs};
use bpfsmith_maps::{Map, Problem, Target, TargetMap};
use bpfsmith_net::{By, Feature, IfIndex, NetDev, NetNs, Reason};
use bpfsmith_prog::{Asked, Error, Load, Maps, Ports};
use hub_bench::*;
use net_bench::{LIMIT, value};

/// The ports of the hub: by their number, and by any number.
static ARRAY: MapDef<u32, Target> = MapDef::new(MapType::DEVMAP, "ports", 8);
static HASH: MapDef<u32, Target> = MapDef::new(MapType::DEVMAP_HASH, "ports", 8);

#[test]
fn a_hub_floods_to_all_but_the_sender() {
    needs!(Root, NetNs, Veth, XdpLink, DevmapProg, DevmapHash);
    for (map, first) in [(&ARRAY, 0), (&HASH, 0xdead_0000)] {
        for native in [Way::Native, Way::Generic] {
            let flood = redirect::broadcast(map, Ingress::Excluded);
            let hub = Hub::new(4, native, flood);
            hub.count_at_hosts();
            let ports: TargetMap<Target> = hub.maps.open(map).unwrap();
            for (key, port) in (first..).zip(&hub.ports) {
                let asked = hub.ports_of(&ports).set(key, *port).unwrap();
                assert_eq!(asked == Asked::Any, native == Way::Generic);
            }
            for _ in 0..20 {
                hub.send(0);
            }
            hub.wait([0, 20, 20, 20]);
            // What the second sends comes to the first, who has therefore got nothing of its own back.
            hub.send(1);
            hub.wait([1, 20, 21, 21]);
            assert!(ports.delete(first + 2).unwrap());
            hub.send(3);
            hub.wait([2, 21, 21, 21]);
        }
    }
}

#[test]
fn the_sender_gets_its_own_back_if_that_is_wanted() {
    needs!(Root, NetNs, Veth, XdpLink, DevmapProg);
    let hub = Hub::new(
        3,
        Way::Native,
        redirect::broadcast(&ARRAY, Ingress::Included),
    );
    hub.count_at_hosts();
    let ports: TargetMap<Target> = hub.maps.open(&ARRAY).unwrap();
    for (key, port) in (0..).zip(&hub.ports) {
        hub.ports_of(&ports).set(key, *port).unwrap();
    }
    for _ in 0..10 {
        hub.send(2);
    }
    hub.wait([10, 10, 10]);
}

#[test]
fn datagrams_reach_sockets_once_the_far_ends_take_frames() {
    needs!(Root, NetNs, Veth, XdpLink, DevmapProg);
    let hub = Hub::new(
        3,
        Way::Native,
        redirect::broadcast(&ARRAY, Ingress::Excluded),
    );
    let ports: TargetMap<Target> = hub.maps.open(&ARRAY).unwrap();
    let known = NetDev::open().is_ok();
    for (key, port) in (0..).zip(&hub.ports) {
        match hub.ports_of(&ports).set(key, *port) {
            Err(error) => {
                assert!(known, "{error}");
                check_takes_no_frames(&error, *port);
                assert_eq!(ports.lookup(key).unwrap(), None);
            }
            Ok(asked) => assert_eq!((asked, known), (Asked::Untold, false)),
        }
    }
    let far = &hub.hosts[1];
    let ethtool = far.node.ethtool().unwrap();
    let check = |by| far.node.net.check_far_end(&ethtool, far.index, by);
    check_takes_no_frames(&check(By::Redirect).unwrap_err().into(), far.index);
    // All in spite of that: the frames are gone.
    for (key, port) in (0..).zip(&hub.ports) {
        hub.server.run(|| ports.set(key, port.0)).unwrap().unwrap();
    }
    hub.send(0);
    hub.wait_seen(1);
    // What the advice says.
    for host in &hub.hosts {
        let ethtool = host.node.ethtool().unwrap();
        ethtool.enable(host.index, Feature::GRO).unwrap();
    }
    check(By::Redirect).unwrap();
    let text = check(By::Transmit).unwrap_err().to_string();
    assert!(text.contains("GRO is not enough"), "{text}");
    for (key, port) in (0..).zip(&hub.ports) {
        let asked = hub.ports_of(&ports).set(key, *port).unwrap();
        assert_eq!(asked == Asked::Takes, known);
    }
    for _ in 0..5 {
        hub.send(0);
    }
    for host in &hub.hosts[1..] {
        for number in 2..7 {
            assert_eq!(host.receive(), number, "the first did not arrive");
        }
    }
    // The program that passes does it as well, and is all that XDP_TX is content with.
    hub.count_at_hosts();
    check(By::Transmit).unwrap();
}

#[track_caller]
fn check_takes_no_frames(error: &Error, index: IfIndex) {
    let Error::Net(cause) = error else {
        panic!("{error}")
    };
    assert!(
        matches!(cause.reason, Reason::TakesNoFrames { .. }),
        "{error}"
    );
    let text = error.to_string();
    let start = format!("check XDP of {index}: frames sent to it by XDP_REDIRECT are dropped");
    assert!(text.starts_with(&start), "{text}");
    for what in [
        "ethtool -K PEER gro on",
        "native XDP program",
    ] {
        assert!(text.contains(what) && !text.contains('\n'), "{text}");
    }
}

#[test]
fn what_a_plain_far_end_loses_is_told_by_trace_events() {
    needs!(Root, NetNs, Veth, XdpLink, DevmapProg, TpBtf);
    let hub = Hub::new(2, Way::Native, redirect::to_map(&ARRAY, 1, Otherwise::Pass));
    let ports: TargetMap<Target> = hub.maps.open(&ARRAY).unwrap();
    let told = Told::of(&ports, &hub.device_name(1));
    hub.server
        .run(|| ports.set(1, hub.ports[1].0))
        .unwrap()
        .unwrap();
    for _ in 0..10 {
        hub.send(0);
    }
    // Since Linux 6.3 the redirection fails, before that the sending of what was redirected.
    let (errno, lost) = deadline(LIMIT, || {
        let all = told.errors();
        (all.values().sum::<u64>() == 10).then(|| all.into_iter().next().unwrap())
    });
    assert_eq!(lost, 10);
    let advice = bpfsmith_net::redirect_advice(errno).unwrap();
    assert!(advice.contains("gro on"), "{errno}: {advice}");
    assert_eq!(told.sent(), 0);
    hub.count_at_hosts();
    for _ in 0..10 {
        hub.send(0);
    }
    hub.wait([0, 10]);
    deadline(LIMIT, || (told.sent() == 10).then_some(()));
    assert_eq!(told.errors().values().sum::<u64>(), 10, "none more");
}

#[test]
fn each_port_has_a_program_that_sees_where_frames_leave() {
    needs!(Root, NetNs, Veth, XdpLink, DevmapProg);
    let hub = Hub::new(
        3,
        Way::Native,
        redirect::broadcast(&ARRAY, Ingress::Excluded),
    );
    hub.count_at_hosts();
    let ports: TargetMap<Target> = hub.maps.open(&ARRAY).unwrap();
    let ports_of = hub.ports_of(&ports);
    let (marks, drops) = (hub.egress(XDP_PASS), hub.egress(XDP_DROP));
    ports_of.set(0, hub.ports[0]).unwrap();
    ports_of.set_with(1, hub.ports[1], &marks).unwrap();
    ports_of.set_with(2, hub.ports[2], &drops).unwrap();
    let entry = ports.lookup(1).unwrap().unwrap();
    let (number, prog) = (hub.ports[1].0, net_bench::id(&marks));
    assert_eq!(entry, Target { number, prog });
    for _ in 0..10 {
        hub.send(0);
    }
    hub.wait([0, 10, 0]);
    // Both programs saw the port's own number, and the first one changed what it let go.
    let egress: Map<u32, u64> = hub.maps.open(&EGRESS).unwrap();
    let seen = |port: usize| {
        let seen = egress.lookup(&hub.ports[port].0).unwrap();
        seen.unwrap_or(0)
    };
    deadline(LIMIT, || (seen(1) == 10 && seen(2) == 10).then_some(()));
    assert_eq!(seen(0), 0);
    assert_eq!(value(hub.hosts_maps(), &MARKED, 1), 10);
    // A port whose program is taken away sends as it is.
    ports_of.set(2, hub.ports[2]).unwrap();
    hub.send(0);
    hub.wait([0, 11, 1]);
    assert_eq!(value(hub.hosts_maps(), &MARKED, 2), 0);
}

#[test]
fn what_cannot_be_a_port_is_refused() {
    needs!(Root, NetNs, Veth, XdpLink, DevmapProg);
    let hub = Hub::new(
        2,
        Way::Generic,
        redirect::broadcast(&ARRAY, Ingress::Excluded),
    );
    let ports: TargetMap<Target> = hub.maps.open(&ARRAY).unwrap();
    let of_hub = hub.ports_of(&ports);
    let error = of_hub.set(0, IfIndex(0xffff)).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EINVAL), "{error}");
    assert!(error.to_string().contains("no such device"), "{error}");
    let error = Ports::native(&ports, &hub.server.ns).set(0, IfIndex(0xffff));
    let errno = error.unwrap_err().errno();
    assert!(
        matches!(errno, Some(Errno::ENODEV | Errno::EINVAL)),
        "{errno:?}"
    );
    // A program for another hook is not sent to the kernel.
    let program = Program::new(ProgType::XDP, "plain", code![ret(XDP_PASS)]).unwrap();
    let plain = Load::new(&program).load().unwrap();
    let error = of_hub.set_with(0, hub.ports[0], &plain).unwrap_err();
    assert!(matches!(error, Error::WrongHook { .. }), "{error}");
    let error = of_hub.set(8, hub.ports[0]).unwrap_err();
    assert!(error.to_string().contains("behind the end"), "{error}");
    let error = ports.set(0, 0).unwrap_err();
    assert_eq!(error.problem(), &Problem::Nowhere);
    // A port that is deleted leaves the map.
    of_hub.set(1, hub.ports[1]).unwrap();
    hub.server.net.delete_link(hub.ports[1]).unwrap();
    deadline(LIMIT, || ports.lookup(1).unwrap().is_none().then_some(()));
}

/// The same number is another device in another namespace.
#[test]
fn an_entry_is_of_the_namespace_that_was_named() {
    needs!(Root, NetNs, Veth, XdpLink, DevmapProg);
    let hub = Hub::new(
        2,
        Way::Native,
        redirect::broadcast(&ARRAY, Ingress::Excluded),
    );
    hub.count_at_hosts();
    let ports: TargetMap<Target> = hub.maps.open(&ARRAY).unwrap();
    // No device there has such a number; the kernel would take one that had.
    let elsewhere = NetNs::new().unwrap();
    let number = hub.ports[1].0;
    let unknown = elsewhere.run(|| ports.set(0, number)).unwrap();
    assert_eq!(unknown.unwrap_err().errno(), Some(Errno::EINVAL));
    // Called from anywhere, the entry is the hub's device.
    let (of_hub, port) = (hub.ports_of(&ports), hub.ports[1]);
    elsewhere.run(|| of_hub.set(1, port)).unwrap().unwrap();
    hub.send(0);
    hub.wait([0, 1]);
}

#[test]
fn a_map_without_entries_drops_what_is_for_all() {
    needs!(Root, Bpf, DevmapHash);
    static NONE: MapDef<u32, u32> = MapDef::new(MapType::DEVMAP, "none", 2);
    let code = code![
        redirect::broadcast(&NONE, Ingress::Excluded),
        exit()
    ];
    let program = Program::new(ProgType::XDP, "flood", code).unwrap();
    let maps = Maps::of(&program).unwrap();
    let prog = Load::new(&program).maps(&maps).load().unwrap();
    let outcome = prog.run().data(&[0; 60]).go().unwrap();
    assert_eq!(outcome.xdp(), XdpAction::REDIRECT);
}
