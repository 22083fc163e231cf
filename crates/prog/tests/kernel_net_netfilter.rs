//! Programs at netfilter's hooks: packets that do not arrive, and the order of several.

mod net_bench;

use bpfsmith_asm::dsl::*;
use bpfsmith_gate::{bpffs, needs};
use bpfsmith_prog::target::{Netfilter, NfHook, NfProto};
use bpfsmith_prog::{Link, Maps, Prog, Way};
use bpfsmith_sys::info::Place;
use net_bench::{Bench, check_refused, hit, hits, id, load_to};

const LOCAL_IN: Netfilter = Netfilter::at(NfProto::IPV4, NfHook::LOCAL_IN);

fn judge(index: u32, verdict: i32, maps: &mut Maps) -> Prog {
    let code = code![hit(index), ret(verdict)];
    load_to(&LOCAL_IN, ProgType::NETFILTER, "judge", code, maps)
}

#[test]
fn a_hook_drops_and_lets_go() {
    needs!(Root, NetNs, Veth, Netfilter);
    let mut maps = Maps::new();
    let drop_it = judge(0, NF_DROP, &mut maps);
    let mut bench = Bench::new();
    let link = bench.attach(&drop_it, &LOCAL_IN.priority(-7)).unwrap();
    assert_eq!(link.way(), Way::Link);
    let info = link.info().unwrap();
    assert_eq!(info.prog, id(&drop_it));
    let place = Place::Netfilter {
        family: 2,
        hook: 1,
        priority: -7,
        flags: 0,
    };
    assert_eq!(info.place, place);
    // Nothing but these packets is addressed to the server by IPv4.
    bench.check_dropped(&maps, 0);
    drop(link);
    bench.check_arrives();
    assert_eq!(hits(&maps, 0), 1);
}

#[test]
fn smaller_priorities_run_first() {
    needs!(Root, NetNs, Veth, Netfilter);
    let mut maps = Maps::new();
    let (pass, drop_it) = (judge(0, NF_ACCEPT, &mut maps), judge(1, NF_DROP, &mut maps));
    let mut bench = Bench::new();
    let dropping = bench.attach(&drop_it, &LOCAL_IN.priority(5)).unwrap();
    let later = bench.attach(&pass, &LOCAL_IN.priority(6)).unwrap();
    bench.check_dropped(&maps, 1);
    assert_eq!(hits(&maps, 0), 0);
    drop(later);
    let _earlier = bench.attach(&pass, &LOCAL_IN.priority(4)).unwrap();
    bench.check_dropped(&maps, 1);
    assert_eq!(hits(&maps, 0), 1);
    drop(dropping);
    bench.check_arrives();
    assert_eq!((hits(&maps, 0), hits(&maps, 1)), (2, 2));
}

#[test]
fn refusals_are_explained() {
    needs!(Root, NetNs, Veth, Netfilter);
    let prog = judge(0, NF_ACCEPT, &mut Maps::new());
    let bench = Bench::new();
    let mut link = bench.attach(&prog, &LOCAL_IN).unwrap();
    check_refused(
        bench.attach(&prog, &LOCAL_IN),
        Errno::EBUSY,
        "another priority",
    );
    for priority in [i32::MIN, i32::MAX] {
        let done = bench.attach(&prog, &LOCAL_IN.priority(priority));
        check_refused(done, Errno::ERANGE, "smallest and the largest");
    }
    let done = bench.attach(&prog, &Netfilter::at(NfProto::IPV4, NfHook(9)));
    check_refused(done, Errno::EPROTO, "NfHook");
    let done = bench.attach(&prog, &Netfilter::at(NfProto(3), NfHook::LOCAL_IN));
    check_refused(done, Errno::EAFNOSUPPORT, "NfProto");
    check_refused(link.update(&prog), Errno::EOPNOTSUPP, "attach the new one");
}

#[test]
fn fragments_are_put_together_on_request() {
    needs!(Root, NetNs, Veth, Netfilter, NetfilterDefrag);
    let mut maps = Maps::new();
    let count = judge(0, NF_ACCEPT, &mut maps);
    let bench = Bench::new();
    let early = Netfilter::at(NfProto::IPV4, NfHook::PRE_ROUTING);
    let done = bench.attach(&count, &early.priority(-400).defrag());
    check_refused(done, Errno::ERANGE, "-400");
    // 4000 bytes are three fragments on this cable.
    let whole = [7; 4000];
    let mut buffer = [0; 4000];
    let link = bench.attach(&count, &early.priority(-500)).unwrap();
    bench.client.send(&whole).unwrap();
    assert_eq!(bench.server.recv(&mut buffer).unwrap(), 4000);
    assert_eq!(hits(&maps, 0), 3);
    drop(link);
    let _link = bench.attach(&count, &early.defrag()).unwrap();
    bench.client.send(&whole).unwrap();
    assert_eq!(bench.server.recv(&mut buffer).unwrap(), 4000);
    assert_eq!(hits(&maps, 0), 4);
}

#[test]
fn a_pin_lasts_until_force_detach() {
    needs!(Root, NetNs, Veth, Netfilter, Bpffs);
    let dir = bpffs();
    let mut maps = Maps::new();
    let drop_it = judge(0, NF_DROP, &mut maps);
    let mut bench = Bench::new();
    let link = bench.attach(&drop_it, &LOCAL_IN).unwrap();
    link.pin(dir.path().join("link")).unwrap();
    drop((link, drop_it));
    bench.check_dropped(&maps, 0);
    let link = Link::open_pin(dir.path().join("link")).unwrap();
    link.force_detach().unwrap();
    bench.check_arrives();
}
