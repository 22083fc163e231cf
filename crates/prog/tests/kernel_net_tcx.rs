//! TC on a cable: which programs ran in which order, by lists and by filters.

mod net_bench;

use bpfsmith_asm::dsl::*;
use bpfsmith_gate::{Need, State, bpffs, needs};
use bpfsmith_net::{IfIndex, TcParent};
use bpfsmith_prog::target::{Beside, Netkit, Tcx};
use bpfsmith_prog::{Error, Link, Maps, Prog, Way};
use bpfsmith_sys::info::Place;
use net_bench::{Bench, check_refused, hits, id, load_to, tc, value, wait_hits};
use std::os::fd::AsFd;

fn loaded(index: u32, verdict: i32, maps: &mut Maps) -> Prog {
    let code = tc(index, verdict);
    load_to(
        &Tcx::ingress(IfIndex(0)),
        ProgType::SCHED_CLS,
        "count",
        code,
        maps,
    )
}

/// The numbers of the programs that a packet met, as the digits of a number.
static TRAIL: MapDef<u32, u64> = MapDef::array("trail", 1);

/// A program that writes its number to the trail and lets the next one decide.
fn mark(number: i32, maps: &mut Maps) -> Prog {
    let key = slot::<u32>("key");
    let code = code![
        load(R2, R1.get(__sk_buff::len)),
        R2.eq(119).then(code![
            store(key.u32(0), 0),
            map_lookup_elem(&TRAIL, key),
            R0.ne(0).then(code![
                load(R1, R0.u64(0)),
                mul(R1, 10),
                add(R1, number),
                store(R0.u64(0), R1),
            ]),
        ]),
        ret(TCX_NEXT),
    ];
    load_to(
        &Tcx::ingress(IfIndex(0)),
        ProgType::SCHED_CLS,
        "mark",
        code,
        maps,
    )
}

#[test]
fn both_directions_drop_and_let_go() {
    needs!(Root, NetNs, Veth, Tcx);
    let mut maps = Maps::new();
    let prog = loaded(0, TCX_DROP, &mut maps);
    let mut bench = Bench::new();
    let link = bench.attach(&prog, &Tcx::ingress(bench.index())).unwrap();
    assert_eq!(link.way(), Way::Link);
    let info = link.info().unwrap();
    let (ifindex, attach) = (bench.index(), AttachType::TCX_INGRESS);
    assert_eq!(
        info.place,
        Place::Device {
            ifindex: ifindex.0,
            attach
        }
    );
    bench.check_dropped(&maps, 0);
    drop(link);
    bench.check_arrives();

    let far = Tcx::egress(bench.far());
    let client = &bench.net.client;
    let link = client.run(|| prog.attach(&far)).unwrap().unwrap();
    bench.check_dropped(&maps, 0);
    link.detach().unwrap();
    bench.check_arrives();
    assert_eq!(hits(&maps, 0), 2);
}

#[test]
fn places_decide_the_order() {
    needs!(Root, NetNs, Veth, Tcx);
    let mut maps = Maps::new();
    let progs: Vec<Prog> = (0..8).map(|n| mark(n, &mut maps)).collect();
    let mut bench = Bench::new();
    let on = Tcx::ingress(bench.index());
    let query = |bench: &Bench| bench.net.server.run(|| on.query()).unwrap().unwrap();

    let three = bench.attach(&progs[3], &on).unwrap();
    let one = bench.attach(&progs[1], &on.first()).unwrap();
    let five = bench.attach(&progs[5], &on.last()).unwrap();
    let two = bench.attach(&progs[2], &on.before(&progs[3])).unwrap();
    let four = bench.attach(&progs[4], &on.after(&three)).unwrap();
    let id_of = Beside::ProgId(id(&progs[5]));
    let six = bench.attach(&progs[6], &on.after(id_of)).unwrap();
    let last = Beside::LinkId(six.info().unwrap().id);
    let seven = bench.attach(&progs[7], &on.after(last)).unwrap();
    bench.check_arrives();
    assert_eq!(value(&maps, &TRAIL, 0), 1_234_567);

    let links = [
        &one, &two, &three, &four, &five, &six, &seven,
    ];
    let list = query(&bench);
    assert_eq!(list.progs, progs[1..].iter().map(id).collect::<Vec<_>>());
    let ids: Vec<u32> = links.iter().map(|link| link.info().unwrap().id).collect();
    assert_eq!(list.links, ids);

    let stale = on.revision(list.revision - 1);
    check_refused(bench.attach(&progs[0], &stale), Errno::ESTALE, "Tcx::query");
    let zero = bench.attach(&progs[0], &on.revision(list.revision));
    let zero = zero.unwrap();
    let newer = query(&bench);
    assert_eq!(newer.revision, list.revision + 1);
    assert_eq!(newer.progs.len(), 8);
    drop(zero);
    assert_eq!(query(&bench).progs, list.progs);
}

#[test]
fn refusals_are_explained() {
    needs!(Root, NetNs, Veth, Tcx);
    let mut maps = Maps::new();
    let (prog, other) = (mark(1, &mut maps), mark(2, &mut maps));
    let bench = Bench::new();
    let on = Tcx::ingress(bench.index());
    let done = bench.attach(&prog, &on.after(&other));
    check_refused(done, Errno::ENOENT, "is not on this hook");
    let mut link = bench.attach(&prog, &on).unwrap();
    check_refused(bench.attach(&prog, &on), Errno::EEXIST, "once");
    let missing = Tcx::ingress(IfIndex(i32::MAX.cast_unsigned()));
    check_refused(
        bench.attach(&other, &missing),
        Errno::ENODEV,
        "no such device",
    );
    let done = bench.net.server.run(|| missing.query()).unwrap();
    check_refused(done, Errno::ENODEV, "no such device");
    let done = bench.attach(&prog, &on.clsact().first());
    assert!(matches!(done, Err(Error::Unknown { .. })), "{done:?}");

    bench.server_net().delete_link(bench.index()).unwrap();
    check_refused(link.update(&other), Errno::ENOLINK, "vanished");
    let (ifindex, attach) = (IfIndex(0), AttachType::TCX_INGRESS);
    assert_eq!(
        link.info().unwrap().place,
        Place::Device {
            ifindex: ifindex.0,
            attach
        }
    );
    link.detach().unwrap();
}

#[test]
fn an_update_swaps_in_place_and_a_pin_lasts() {
    needs!(Root, NetNs, Veth, Tcx, Bpffs);
    let dir = bpffs();
    let mut maps = Maps::new();
    let progs: Vec<Prog> = (0..4).map(|n| mark(n, &mut maps)).collect();
    let mut bench = Bench::new();
    let on = Tcx::ingress(bench.index());
    let mut one = bench.attach(&progs[1], &on).unwrap();
    let two = bench.attach(&progs[2], &on).unwrap();
    one.update(&progs[3]).unwrap();
    one.pin(dir.path().join("one")).unwrap();
    drop(one);
    bench.check_arrives();
    assert_eq!(value(&maps, &TRAIL, 0), 32);
    let again = Link::open_pin(dir.path().join("one")).unwrap();
    assert_eq!(again.info().unwrap().prog, id(&progs[3]));
    again.force_detach().unwrap();
    bench.check_arrives();
    assert_eq!(value(&maps, &TRAIL, 0), 322);
    drop(two);
    bench.check_arrives();
    assert_eq!(value(&maps, &TRAIL, 0), 322);
}

#[test]
fn a_filter_of_clsact_drops_and_lets_go() {
    needs!(Root, NetNs, Veth, Clsact);
    let mut maps = Maps::new();
    let drop_it = loaded(0, TC_ACT_SHOT, &mut maps);
    let pass = loaded(1, TC_ACT_OK, &mut maps);
    let mut bench = Bench::new();
    let index = bench.index();
    let on = Tcx::ingress(bench.index()).clsact();
    let mut link = bench.attach(&drop_it, &on).unwrap();
    assert_eq!(link.way(), Way::Attachment);
    let error = link.info().unwrap_err();
    assert!(matches!(error, Error::Argument { .. }), "{error}");
    bench.check_dropped(&maps, 0);
    link.update(&pass).unwrap();
    bench.check_arrives();
    assert_eq!((hits(&maps, 0), hits(&maps, 1)), (1, 1));
    // The newer filter comes first and decides alone.
    let newer = bench.attach(&drop_it, &on).unwrap();
    bench.check_dropped(&maps, 0);
    drop(newer);
    bench.check_arrives();
    link.detach().unwrap();
    let left = bench
        .server_net()
        .filters(index, TcParent::INGRESS)
        .unwrap();
    assert_eq!(left, []);
    bench.check_arrives();
    assert_eq!((hits(&maps, 0), hits(&maps, 1)), (2, 2));

    let far = Tcx::egress(bench.far()).clsact();
    let client = &bench.net.client;
    let link = client.run(|| drop_it.attach(&far)).unwrap().unwrap();
    bench.check_dropped(&maps, 0);
    bench.client_net().delete_link(bench.far()).unwrap();
    check_refused(link.detach(), Errno::ENODEV, "");
}

/// Numbers of filters are used again.
#[test]
fn a_filter_of_somebody_else_is_left_alone() {
    needs!(Root, NetNs, Veth, Clsact);
    let mut maps = Maps::new();
    let [ours, theirs, new] = [0, 1, 2].map(|number| loaded(number, TC_ACT_OK, &mut maps));
    let bench = Bench::new();
    let index = bench.index();
    let on = Tcx::ingress(index).clsact();
    let mut link = bench.attach(&ours, &on).unwrap();
    let net = bench.server_net();
    let filters = || net.filters(index, TcParent::INGRESS).unwrap();
    let id = filters()[0].id;
    net.delete_filter(id).unwrap();
    check_refused(link.update(&new), Errno::ENOENT, "took its number");
    assert_eq!(filters(), []);
    let other = net.add_filter(id, "theirs", theirs.as_fd()).unwrap();
    assert_eq!(other.id, id);
    check_refused(link.update(&new), Errno::ENOENT, "took its number");
    check_refused(link.detach(), Errno::ENOENT, "took its number");
    assert_eq!(filters(), [other]);
}

#[test]
fn a_kernel_without_lists_gets_a_filter_and_says_so() {
    needs!(Root, NetNs, Veth, Clsact);
    let mut maps = Maps::new();
    let prog = loaded(0, TCX_DROP, &mut maps);
    let mut bench = Bench::new();
    let on = Tcx::ingress(bench.index());
    let link = bench.attach(&prog, &on).unwrap();
    let is_here = Need::Tcx.state() == State::Here;
    assert_eq!(link.way() == Way::Link, is_here);
    bench.check_dropped(&maps, 0);
    drop(link);
    bench.check_arrives();
    if !is_here {
        let done = bench.attach(&prog, &on.first());
        assert!(matches!(done, Err(Error::Unknown { .. })), "{done:?}");
    }
}

#[test]
fn no_packet_is_lost_while_programs_are_swapped() {
    needs!(Root, NetNs, Veth, Tcx);
    const PACKETS: u64 = 1000;
    let mut maps = Maps::new();
    let (even, odd) = (
        loaded(0, TCX_PASS, &mut maps),
        loaded(1, TCX_PASS, &mut maps),
    );
    let mut bench = Bench::new();
    let mut link = bench.attach(&even, &Tcx::ingress(bench.index())).unwrap();
    for round in 0..PACKETS {
        link.update(if round % 2 == 0 { &odd } else { &even })
            .unwrap();
        bench.check_arrives();
    }
    assert_eq!((hits(&maps, 0), hits(&maps, 1)), (PACKETS / 2, PACKETS / 2));
}

#[test]
fn netkit_is_refused_by_name_where_it_is_missing() {
    needs!(Root, NetNs, Veth, Bpf);
    let prog = loaded(0, TCX_DROP, &mut Maps::new());
    let bench = Bench::new();
    for target in [
        Netkit::primary(bench.index()),
        Netkit::peer(bench.index()),
    ] {
        let error = bench.attach(&prog, &target).unwrap_err();
        match Need::Netkit.state() {
            // A cable is no netkit device.
            State::Here => check_refused::<()>(Err(error), Errno::ENXIO, "no netkit device"),
            _ => {
                assert!(matches!(error, Error::Unknown { .. }), "{error:?}");
                assert!(error.to_string().contains("BPF_NETKIT_P"), "{error}");
            }
        }
    }
}

mod netkit {
    #![expect(clippy::unwrap_used, reason = "a test says by a panic that it failed")]

    use super::*;
    use bpfsmith_net::wire::Message;
    use bpfsmith_net::{Address, Node, Operation};
    use std::net::UdpSocket;

    const RTM_NEWLINK: u16 = 16;
    const NLM_F_CREATE: u16 = 0x400;
    const NLM_F_EXCL: u16 = 0x200;
    const IFLA_IFNAME: u16 = 3;
    const IFLA_LINKINFO: u16 = 18;
    const IFLA_INFO_KIND: u16 = 1;
    const IFLA_INFO_DATA: u16 = 2;
    const IFLA_NETKIT_PEER_INFO: u16 = 1;

    /// Two machines with a netkit device between them, and the indexes of its two sides.
    fn make() -> (Node, Node, [IfIndex; 2]) {
        let (near, far) = (Node::new().unwrap(), Node::new().unwrap());
        let message = Message::new(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL)
            .fixed(&[0; 16])
            .str(IFLA_IFNAME, "nk0")
            .nest(IFLA_LINKINFO, |m| {
                m.str(IFLA_INFO_KIND, "netkit").nest(IFLA_INFO_DATA, |m| {
                    m.nest(IFLA_NETKIT_PEER_INFO, |m| {
                        m.fixed(&[0; 16]).str(IFLA_IFNAME, "nk1")
                    })
                })
            });
        near.net.ack(Operation::NEW_LINK, "nk0", message).unwrap();
        let (primary, peer) = (near.net.link("nk0").unwrap(), near.net.link("nk1").unwrap());
        near.net.move_to(peer.index, &far.ns).unwrap();
        let peer = far.net.link("nk1").unwrap();
        for (node, index, address) in [
            (&near, primary.index, "10.0.0.2/24"),
            (&far, peer.index, "10.0.0.1/24"),
        ] {
            let address = Address::new(index, address.parse().unwrap());
            node.net.add_address(&address).unwrap();
            node.net.set_up(index).unwrap();
        }
        (near, far, [primary.index, peer.index])
    }

    #[test]
    fn both_sides_count_in_order_and_drop() {
        needs!(Root, NetNs, Netkit);
        let mut maps = Maps::new();
        // A netkit device has no Ethernet header of its own, but shows one.
        let (pass, drop_it) = (
            loaded(0, TCX_NEXT, &mut maps),
            loaded(1, TCX_DROP, &mut maps),
        );
        let (near, far, [index, _]) = make();
        let server = far.run(|| UdpSocket::bind("10.0.0.1:7")).unwrap().unwrap();
        let client = near.run(|| UdpSocket::bind("10.0.0.2:0")).unwrap().unwrap();
        server.set_read_timeout(Some(net_bench::LIMIT)).unwrap();
        client.connect("10.0.0.1:7").unwrap();

        let on = Netkit::primary(index);
        let last = near.run(|| drop_it.attach(&on)).unwrap().unwrap();
        let first = near.run(|| pass.attach(&on.before(&last))).unwrap();
        let first = first.unwrap();
        let list = near.run(|| on.query()).unwrap().unwrap();
        assert_eq!(list.progs, [id(&pass), id(&drop_it)]);
        client.send(&[1; 77]).unwrap();
        wait_hits(&maps, 1, 1);
        assert_eq!(hits(&maps, 0), 1);
        drop(last);
        client.send(&[2; 77]).unwrap();
        let mut packet = [0; 77];
        let (_, from) = server.recv_from(&mut packet).unwrap();
        assert_eq!(packet[0], 2);
        drop(first);

        let peer = near.run(|| drop_it.attach(&Netkit::peer(index)));
        let peer = peer.unwrap().unwrap();
        server.send_to(&[3; 77], from).unwrap();
        wait_hits(&maps, 1, 2);
        peer.detach().unwrap();
        server.send_to(&[4; 77], from).unwrap();
        client.set_read_timeout(Some(net_bench::LIMIT)).unwrap();
        client.recv(&mut packet).unwrap();
        assert_eq!(packet[0], 4);
    }

    #[test]
    fn sides_and_indexes_are_not_mistaken() {
        needs!(Root, NetNs, Netkit);
        let prog = loaded(0, TCX_NEXT, &mut Maps::new());
        let (near, far, [primary, peer]) = make();
        let done = far.run(|| prog.attach(&Netkit::primary(peer))).unwrap();
        check_refused(done, Errno::EACCES, "that is the peer");
        let missing = Netkit::primary(IfIndex(i32::MAX.cast_unsigned()));
        let done = near.run(|| prog.attach(&missing)).unwrap();
        check_refused(done, Errno::ENODEV, "no such device");
        let on = Netkit::peer(primary);
        let mut link = near.run(|| prog.attach(&on)).unwrap().unwrap();
        let done = near.run(|| prog.attach(&on)).unwrap();
        check_refused(done, Errno::EEXIST, "once");
        near.net.delete_link(primary).unwrap();
        check_refused(link.update(&prog), Errno::ENOLINK, "vanished");
    }
}
