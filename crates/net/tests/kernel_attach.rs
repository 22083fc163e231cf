//! Programs attached by netlink: packets prove that they run and that they are gone.

#![expect(clippy::unwrap_used, reason = "a test says by a panic that it failed")]

use bpfsmith_gate::needs;
use bpfsmith_net::{
    Errno, FilterId, IfIndex, Netlink, Operation, Pair, Tbf, TcParent, XdpAttached, XdpExpect,
    XdpState,
};
use bpfsmith_sys::prog::{IsCounted, Load, Log, Records, load};
use bpfsmith_uapi::flags::xdp::{
    XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE, XDP_FLAGS_UPDATE_IF_NOEXIST,
};
use bpfsmith_uapi::{ProgType, TC_ACT_OK, TC_ACT_SHOT, XDP_DROP, XDP_PASS};
use std::fs::File;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

/// A program that returns a number.
fn program(kind: ProgType, verdict: i32) -> OwnedFd {
    let mut insns = vec![0xb7, 0, 0, 0];
    insns.extend_from_slice(&verdict.to_ne_bytes());
    insns.extend_from_slice(&[0x95, 0, 0, 0, 0, 0, 0, 0]);
    let request = Load {
        kind: kind.0,
        insns: &insns,
        license: c"GPL",
        name: [0; 16],
        flags: 0,
        ifindex: 0,
        attach_type: 0,
        btf: None,
        funcs: Records::default(),
        lines: Records::default(),
        attach_btf_id: 0,
        attach_to: None,
        fd_array: &[],
        is_fd_array_counted: IsCounted::No,
        token: None,
        signature: None,
    };
    load(&request, &mut Log::default()).unwrap()
}

fn xdp(verdict: i32) -> OwnedFd {
    program(ProgType::XDP, verdict)
}

fn prog_id(fd: &OwnedFd) -> Option<u32> {
    let path = format!("/proc/self/fdinfo/{}", fd.as_raw_fd());
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok())
}

/// A pair, a socket on each side, and the server's device.
struct Bench {
    net: Pair,
    server: UdpSocket,
    client: UdpSocket,
    sent: u32,
}

impl Bench {
    fn new() -> Bench {
        let net = Pair::new().unwrap();
        let server = net
            .server
            .run(|| UdpSocket::bind("10.0.0.1:7"))
            .unwrap()
            .unwrap();
        let client = net
            .client
            .run(|| UdpSocket::bind("10.0.0.2:0"))
            .unwrap()
            .unwrap();
        client.connect("10.0.0.1:7").unwrap();
        server
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let mut bench = Bench {
            net,
            server,
            client,
            sent: 0,
        };
        bench.check_arrives();
        bench
    }

    fn link(&self) -> (&Netlink, IfIndex) {
        (&self.net.server.node.net, self.net.server.port.index)
    }

    fn send(&mut self) {
        self.sent += 1;
        self.client.send(&self.sent.to_ne_bytes()).unwrap();
    }

    /// Sends a packet and asserts that it is the next to arrive: whatever was sent since the last
    /// one that arrived was dropped, because the cable keeps the order.
    #[track_caller]
    fn check_arrives(&mut self) {
        self.send();
        let mut buffer = [0; 4];
        assert_eq!(self.server.recv(&mut buffer).unwrap(), 4);
        assert_eq!(u32::from_ne_bytes(buffer), self.sent);
    }
}

#[test]
fn xdp_is_attached_replaced_and_detached() {
    needs!(NetNs, Veth, Bpf);
    for (mode, attached) in [
        (XDP_FLAGS_DRV_MODE, XdpAttached::DRV),
        (XDP_FLAGS_SKB_MODE, XdpAttached::SKB),
    ] {
        let mut bench = Bench::new();
        let (drop, pass) = (xdp(XDP_DROP), xdp(XDP_PASS));
        let (net, index) = bench.link();
        net.attach_xdp(index, drop.as_fd(), XdpExpect::Anything, mode)
            .unwrap();
        let state = net.xdp(index).unwrap();
        assert_eq!(
            (state.attached, state.prog_id()),
            (attached, prog_id(&drop))
        );
        bench.send();

        let (net, index) = bench.link();
        let only = mode | XDP_FLAGS_UPDATE_IF_NOEXIST;
        let busy = net
            .attach_xdp(index, pass.as_fd(), XdpExpect::Anything, only)
            .unwrap_err();
        assert_eq!(
            (busy.operation, busy.errno()),
            (Operation::ATTACH_XDP, Some(Errno::EBUSY))
        );
        let expect = XdpExpect::Program(pass.as_fd());
        let other = net
            .attach_xdp(index, pass.as_fd(), expect, mode)
            .unwrap_err();
        assert_eq!(other.errno(), Some(Errno::EEXIST), "{other}");
        assert!(other.to_string().contains("\"server0\""), "{other}");
        assert!(net.detach_xdp(index, expect, mode).is_err());
        bench.send();

        let (net, index) = bench.link();
        let expect = XdpExpect::Program(drop.as_fd());
        net.attach_xdp(index, pass.as_fd(), expect, mode).unwrap();
        assert_eq!(net.xdp(index).unwrap().prog_id(), prog_id(&pass));
        bench.check_arrives();

        let (net, index) = bench.link();
        net.attach_xdp(index, drop.as_fd(), XdpExpect::Anything, mode)
            .unwrap();
        bench.send();
        let (net, index) = bench.link();
        net.detach_xdp(index, XdpExpect::Program(drop.as_fd()), mode)
            .unwrap();
        assert_eq!(net.xdp(index).unwrap(), XdpState::default());
        bench.check_arrives();
    }
}

#[test]
fn wrong_programs_are_refused() {
    needs!(NetNs, Veth, Bpf);
    let bench = Bench::new();
    let (net, index) = bench.link();
    let file = File::open("/dev/null").unwrap();
    let error = net
        .attach_xdp(index, file.as_fd(), XdpExpect::Anything, 0)
        .unwrap_err();
    assert!(error.hint().is_some(), "{error}");
    let tc = program(ProgType::SCHED_CLS, TC_ACT_OK);
    let error = net
        .attach_xdp(index, tc.as_fd(), XdpExpect::Anything, 0)
        .unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EINVAL));
    let xdp = xdp(XDP_PASS);
    let both = XDP_FLAGS_SKB_MODE | XDP_FLAGS_DRV_MODE;
    let error = net
        .attach_xdp(index, xdp.as_fd(), XdpExpect::Anything, both)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("flags XDP_FLAGS_SKB_MODE|XDP_FLAGS_DRV_MODE: EINVAL"),
        "{error}"
    );
    let lo = net.attach_xdp(
        IfIndex::LOOPBACK,
        xdp.as_fd(),
        XdpExpect::Anything,
        XDP_FLAGS_DRV_MODE,
    );
    assert!(lo.unwrap_err().is_unsupported());
    assert_eq!(net.xdp(index).unwrap(), XdpState::default());
}

#[test]
fn filters_run_are_replaced_and_deleted() {
    needs!(NetNs, Veth, Clsact);
    let (shot, ok) = (
        program(ProgType::SCHED_CLS, TC_ACT_SHOT),
        program(ProgType::SCHED_CLS, TC_ACT_OK),
    );
    let mut bench = Bench::new();
    let (net, index) = bench.link();
    let chosen = FilterId {
        index,
        hook: TcParent::INGRESS,
        priority: 0,
        handle: 0,
    };
    let without = net.add_filter(chosen, "shot", shot.as_fd()).unwrap_err();
    assert_eq!(without.errno(), Some(Errno::EINVAL));
    assert!(
        without
            .to_string()
            .ends_with("(add the clsact qdisc first)"),
        "{without}"
    );

    net.add_clsact(index).unwrap();
    assert_eq!(
        net.add_clsact(index).unwrap_err().errno(),
        Some(Errno::EEXIST)
    );
    let qdiscs = net.qdiscs().unwrap();
    assert!(
        qdiscs
            .iter()
            .any(|q| q.kind == "clsact" && q.index == index),
        "{qdiscs:?}"
    );

    let added = net.add_filter(chosen, "shot", shot.as_fd()).unwrap();
    assert_eq!(
        (added.name.as_deref(), added.prog_id),
        (Some("shot"), prog_id(&shot))
    );
    assert!(added.direct_action && added.tag.is_some());
    assert!(added.id.priority != 0 && added.id.handle != 0);
    assert_eq!(
        net.filters(index, TcParent::INGRESS).unwrap(),
        std::slice::from_ref(&added)
    );
    assert_eq!(net.filters(index, TcParent::EGRESS).unwrap(), []);
    let taken = net.add_filter(added.id, "shot", ok.as_fd()).unwrap_err();
    assert_eq!(taken.errno(), Some(Errno::EEXIST));
    bench.send();

    let (net, index) = bench.link();
    let replaced = net.replace_filter(added.id, "ok", ok.as_fd()).unwrap();
    assert_eq!((replaced.id, replaced.prog_id), (added.id, prog_id(&ok)));
    bench.check_arrives();

    let (net, _) = bench.link();
    let last = FilterId {
        priority: replaced.id.priority + 1,
        handle: 1,
        ..replaced.id
    };
    net.add_filter(last, "last", shot.as_fd()).unwrap();
    let order: Vec<_> = net
        .filters(index, last.hook)
        .unwrap()
        .iter()
        .map(|f| f.id)
        .collect();
    assert_eq!(order, [replaced.id, last]);
    bench.check_arrives();

    let (net, index) = bench.link();
    net.delete_filter(replaced.id).unwrap();
    bench.send();
    let (net, _) = bench.link();
    net.delete_filter(last).unwrap();
    assert!(net.delete_filter(last).is_err());
    bench.check_arrives();

    let (net, _) = bench.link();
    net.delete_qdisc(index, TcParent::CLSACT).unwrap();
    assert!(!net.qdiscs().unwrap().iter().any(|q| q.kind == "clsact"));
}

#[test]
fn a_token_bucket_stops_what_is_too_much() {
    needs!(NetNs, Veth, Tbf);
    let mut bench = Bench::new();
    let index = bench.net.client.port.index;
    let set = |bench: &Bench, tbf| bench.net.client.node.net.set_tbf(index, tbf);
    // Our frames have 46 bytes: more than ever leave at once.
    let slow = Tbf {
        rate: 1000,
        burst: 40,
        limit: 10_000,
    };
    set(&bench, slow).unwrap();
    let qdiscs = bench.net.client.node.net.qdiscs().unwrap();
    assert!(
        qdiscs
            .iter()
            .any(|q| q.kind == "tbf" && q.index == index && q.parent == TcParent::ROOT),
        "{qdiscs:?}"
    );
    (0..5).for_each(|_| bench.send());
    // More than 32 bits of rate.
    let quick = Tbf {
        rate: 1 << 33,
        burst: 10_000,
        limit: 10_000,
    };
    set(&bench, quick).unwrap();
    (0..100).for_each(|_| bench.check_arrives());
    let none = Tbf { burst: 0, ..quick };
    let error = set(&bench, none).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EINVAL), "{error}");
    bench
        .net
        .client
        .node
        .net
        .delete_qdisc(index, TcParent::ROOT)
        .unwrap();
    bench.check_arrives();
}

#[test]
fn a_filter_on_egress_stops_what_is_sent() {
    needs!(NetNs, Veth, Clsact);
    let shot = program(ProgType::SCHED_CLS, TC_ACT_SHOT);
    let mut bench = Bench::new();
    let id = FilterId {
        index: bench.net.client.port.index,
        hook: TcParent::EGRESS,
        priority: 5,
        handle: 6,
    };
    bench.net.client.node.net.add_clsact(id.index).unwrap();
    let added = bench
        .net
        .client
        .node
        .net
        .add_filter(id, "shot", shot.as_fd())
        .unwrap();
    assert_eq!(added.id, id);
    bench.send();
    bench
        .net
        .client
        .node
        .net
        .delete_qdisc(id.index, TcParent::CLSACT)
        .unwrap();
    bench.check_arrives();
}
