//! XDP on a cable: packets prove which program ran, in which mode, and that it is gone.

mod net_bench;

use bpfsmith_asm::dsl::*;
use bpfsmith_gate::{bpffs, needs};
use bpfsmith_net::{IfIndex, XdpAttached, XdpState};
use bpfsmith_prog::target::Xdp;
use bpfsmith_prog::{Error, Link, Load, Maps, Prog, Way};
use bpfsmith_sys::info::Place;
use net_bench::{Bench, check_refused, hits, id, load_to, wait_hits, xdp};
use std::os::fd::{AsFd, AsRawFd};

fn loaded(index: u32, verdict: i32, maps: &mut Maps) -> Prog {
    let code = xdp(index, verdict);
    load_to(&Xdp::on(IfIndex(0)), ProgType::XDP, "count", code, maps)
}

#[test]
fn each_mode_drops_and_lets_go() {
    needs!(Root, NetNs, Veth, XdpLink);
    let mut maps = Maps::new();
    let drop_it = loaded(0, XDP_DROP, &mut maps);
    let mut bench = Bench::new();
    let on = Xdp::on(bench.index());
    for (target, way, attached) in [
        (on, Way::Link, XdpAttached::DRV),
        (on.native(), Way::Link, XdpAttached::DRV),
        (on.generic(), Way::Link, XdpAttached::SKB),
        (on.netlink(), Way::Attachment, XdpAttached::DRV),
        (on.native().netlink(), Way::Attachment, XdpAttached::DRV),
        (on.generic().netlink(), Way::Attachment, XdpAttached::SKB),
    ] {
        let link = bench.attach(&drop_it, &target).unwrap();
        assert_eq!(link.way(), way, "{target:?}");
        let state = bench.server_net().xdp(bench.index()).unwrap();
        assert_eq!(
            (state.attached, state.prog_id()),
            (attached, Some(id(&drop_it)))
        );
        bench.check_dropped(&maps, 0);
        link.detach().unwrap();
        let state = bench.server_net().xdp(bench.index()).unwrap();
        assert_eq!(state, XdpState::default());
        bench.check_arrives();
    }
    assert_eq!(hits(&maps, 0), 6);
}

#[test]
fn a_link_says_what_it_is() {
    needs!(Root, NetNs, Veth, XdpLink);
    let prog = loaded(0, XDP_DROP, &mut Maps::new());
    let bench = Bench::new();
    let link = bench.attach(&prog, &Xdp::on(bench.index())).unwrap();
    let info = link.info().unwrap();
    assert_eq!(info.prog, id(&prog));
    let ifindex = bench.index();
    assert_eq!(info.place, Place::Xdp { ifindex: ifindex.0 });
    let again = Link::open_id(info.id).unwrap();
    assert_eq!(again.info().unwrap(), info);
}

#[test]
fn a_busy_device_refuses_and_an_update_swaps() {
    needs!(Root, NetNs, Veth, XdpLink);
    let mut maps = Maps::new();
    let (first, second) = (
        loaded(0, XDP_DROP, &mut maps),
        loaded(1, XDP_PASS, &mut maps),
    );
    let mut bench = Bench::new();
    let on = Xdp::on(bench.index());
    let mut link = bench.attach(&first, &on).unwrap();
    check_refused(bench.attach(&second, &on), Errno::EBUSY, "bpfsmith links");
    check_refused(bench.attach(&second, &on.netlink()), Errno::EBUSY, "");
    check_refused(
        bench.attach(&second, &on.generic()),
        Errno::EEXIST,
        "same mode",
    );
    bench.check_dropped(&maps, 0);
    let refused = link.replace(&second, &second);
    check_refused(refused, Errno::EPERM, "another program is there");
    link.update(&second).unwrap();
    bench.check_arrives();
    assert_eq!((hits(&maps, 0), hits(&maps, 1)), (1, 1));
    link.replace(&second, &first).unwrap();
    bench.check_dropped(&maps, 0);
}

#[test]
fn netlink_replaces_only_what_it_was_told_to() {
    needs!(Root, NetNs, Veth, Bpf);
    let mut maps = Maps::new();
    let (first, second) = (
        loaded(0, XDP_DROP, &mut maps),
        loaded(1, XDP_PASS, &mut maps),
    );
    let mut bench = Bench::new();
    let on = Xdp::on(bench.index());
    let mut link = bench.attach(&first, &on.netlink()).unwrap();
    check_refused(bench.attach(&second, &on), Errno::EBUSY, "Xdp::replace");
    check_refused(bench.attach(&second, &on.netlink()), Errno::EBUSY, "");
    check_refused(
        bench.attach(&second, &on.replace(&second)),
        Errno::EEXIST,
        "",
    );
    for error in [
        link.info().unwrap_err(),
        link.pin("/").unwrap_err(),
        link.fd().unwrap_err(),
    ] {
        assert!(matches!(error, Error::Argument { .. }), "{error:?}");
    }
    bench.check_dropped(&maps, 0);
    link.update(&second).unwrap();
    bench.check_arrives();
    link.update(&first).unwrap();
    let newer = bench.attach(&second, &on.replace(&first)).unwrap();
    bench.check_arrives();
    assert_eq!(hits(&maps, 1), 2);
    // The older one finds another program in its place and leaves it there.
    check_refused(link.detach(), Errno::EEXIST, "");
    bench.check_arrives();
    assert_eq!(hits(&maps, 1), 3);
    newer.detach().unwrap();
    bench.check_arrives();
    assert_eq!(hits(&maps, 1), 3);
}

#[test]
fn refusals_are_explained() {
    needs!(Root, NetNs, Veth, XdpLink);
    let prog = loaded(0, XDP_PASS, &mut Maps::new());
    let bench = Bench::new();
    let lo = Xdp::on(IfIndex::LOOPBACK);
    let done = bench.attach(&prog, &lo.native());
    check_refused(done, Errno::EOPNOTSUPP, "Xdp::generic()");
    let done = bench.attach(&prog, &lo.offload());
    check_refused(done, Errno::EOPNOTSUPP, "Xdp::generic()");
    bench
        .attach(&prog, &lo.generic())
        .unwrap()
        .detach()
        .unwrap();
    let done = bench.attach(&prog, &Xdp::on(IfIndex(i32::MAX.cast_unsigned())));
    check_refused(done, Errno::EINVAL, "no such device");
    let done = bench.attach(&prog, &Xdp::on(IfIndex(u32::MAX)));
    check_refused(done, Errno::EINVAL, "no such device");
}

#[test]
fn large_frames_need_a_program_that_reads_fragments() {
    needs!(Root, NetNs, Veth, XdpLink, XdpFrags);
    let bench = Bench::new();
    bench.client_net().set_mtu(bench.far(), 9000).unwrap();
    let on = Xdp::on(bench.index()).native();
    let plain = loaded(0, XDP_PASS, &mut Maps::new());
    check_refused(bench.attach(&plain, &on), Errno::ERANGE, "Load::frags()");

    let mut maps = Maps::new();
    let program = Program::new(ProgType::XDP, "frags", xdp(0, XDP_DROP)).unwrap();
    maps.add(&program).unwrap();
    let ready = Load::new(&program).maps(&maps).to(&on).unwrap();
    let frags = ready.frags().load().unwrap();
    let _link = bench.attach(&frags, &on).unwrap();
    let mut bench = bench;
    bench.check_dropped(&maps, 0);
}

#[test]
fn programs_for_other_hooks_are_refused_before_the_kernel_is_asked() {
    needs!(Root, Bpf);
    let program = Program::new(ProgType::XDP, "entry", code![ret(XDP_PASS)]).unwrap();
    let ready = Load::new(&program).attach_type(AttachType::XDP_DEVMAP);
    let error = ready
        .load()
        .unwrap()
        .attach(&Xdp::on(IfIndex(1)))
        .unwrap_err();
    assert!(matches!(error, Error::WrongHook { .. }), "{error}");
    assert!(error.to_string().contains("BPF_XDP_DEVMAP"), "{error}");
}

#[test]
fn a_vanished_device_leaves_a_link_without_effect() {
    needs!(Root, NetNs, Veth, XdpLink);
    let prog = loaded(0, XDP_DROP, &mut Maps::new());
    let bench = Bench::new();
    let mut link = bench.attach(&prog, &Xdp::on(bench.index())).unwrap();
    bench.server_net().delete_link(bench.index()).unwrap();
    assert_eq!(link.info().unwrap().place, Place::Xdp { ifindex: 0 });
    check_refused(link.update(&prog), Errno::ENOLINK, "vanished");
    link.force_detach().unwrap();

    let bench = Bench::new();
    let held = bench.attach(&prog, &Xdp::on(bench.index()).netlink());
    let mut held = held.unwrap();
    bench.server_net().delete_link(bench.index()).unwrap();
    check_refused(held.update(&prog), Errno::ENODEV, "");
    check_refused(held.detach(), Errno::ENODEV, "");
}

#[test]
fn a_pin_keeps_the_program_and_force_detach_ends_it() {
    needs!(Root, NetNs, Veth, XdpLink, Bpffs, LinkDetach);
    let dir = bpffs();
    let mut maps = Maps::new();
    let prog = loaded(0, XDP_DROP, &mut maps);
    let mut bench = Bench::new();
    let link = bench.attach(&prog, &Xdp::on(bench.index())).unwrap();
    let path = dir.path().join("link");
    link.pin(&path).unwrap();
    check_refused(link.pin(&path), Errno::EEXIST, "");
    drop((link, prog));
    bench.check_dropped(&maps, 0);
    drop(Link::open_pin(&path).unwrap());
    bench.check_dropped(&maps, 0);
    Link::open_pin(&path).unwrap().force_detach().unwrap();
    bench.check_arrives();
    assert_eq!(hits(&maps, 0), 2);
    assert!(Link::open_pin(&path).is_ok());
    std::fs::remove_file(&path).unwrap();
    check_refused(Link::open_pin(&path), Errno::ENOENT, "");
}

/// Devices, each with the program that frames to it meet.
static DEVICES: MapDef<u32, [u32; 2]> = MapDef::new(MapType::DEVMAP, "devices", 1);

#[test]
fn the_program_of_a_map_element_decides_over_redirected_frames() {
    needs!(Root, NetNs, Veth, XdpLink, DevmapProg);
    let mut maps = Maps::new();
    let entry = code![
        load(R6, R1.get(xdp_md::egress_ifindex)),
        kit::map::count_at(&net_bench::HITS, 1, R6),
        ret(XDP_DROP),
    ];
    let program = Program::new(ProgType::XDP, "entry", entry).unwrap();
    maps.add(&program).unwrap();
    let ready = Load::new(&program).maps(&maps);
    let entry = ready.attach_type(AttachType::XDP_DEVMAP).load().unwrap();

    let to_map = code![
        load(R2, R1.get(xdp_md::data)),
        load(R3, R1.get(xdp_md::data_end)),
        sub(R3, R2),
        R3.eq(119).then(code![redirect_map(&DEVICES, 0, 0), exit()]),
        ret(XDP_PASS),
    ];
    let mut bench = Bench::new();
    let on = Xdp::on(bench.index()).generic();
    let prog = load_to(&on, ProgType::XDP, "to_map", to_map, &mut maps);
    let devices = maps.find(DEVICES.shape().name).unwrap();
    let mut element = bench.index().0.to_ne_bytes().to_vec();
    element.extend_from_slice(&entry.as_fd().as_raw_fd().to_ne_bytes());
    // The device's number is one of the namespace in which the element is written.
    bench
        .net
        .server
        .run(|| devices.raw().update(&[0; 4], &element, 0))
        .unwrap()
        .unwrap();
    let link = bench.attach(&prog, &on).unwrap();
    bench.send();
    wait_hits(&maps, 1, bench.index().0.into());
    drop(link);
    bench.check_arrives();
}

#[test]
fn no_packet_is_lost_while_programs_are_swapped() {
    needs!(Root, NetNs, Veth, XdpLink);
    const PACKETS: u64 = 2000;
    let mut maps = Maps::new();
    let (even, odd) = (
        loaded(0, XDP_PASS, &mut maps),
        loaded(1, XDP_PASS, &mut maps),
    );
    let mut bench = Bench::new();
    let mut link = bench.attach(&even, &Xdp::on(bench.index())).unwrap();
    for round in 0..PACKETS {
        if round % 4 == 0 {
            link.update(if round % 8 == 0 { &odd } else { &even })
                .unwrap();
        }
        bench.check_arrives();
    }
    assert_eq!((hits(&maps, 0), hits(&maps, 1)), (PACKETS / 2, PACKETS / 2));
}
