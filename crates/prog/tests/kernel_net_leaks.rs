//! Thousands of attachments leave neither descriptors nor programs. One test, because the
//! descriptors of a process are counted.

mod net_bench;

use bpfsmith_asm::dsl::*;
use bpfsmith_gate::{cgroup, deadline, needs, open_fds, rounds};
use bpfsmith_prog::target::{Cgroup, Netns, SocketFilter, Target, Tcx, Xdp};
use bpfsmith_prog::{Error, Load, Prog};
use bpfsmith_sys::object::{Kind, open_id};
use net_bench::{Bench, LIMIT, id};

/// Loads, attaches in the server's namespace, detaches: one of each ten by force, one by dropping
/// the program first.
fn cycle(
    bench: &Bench,
    program: &Program,
    target: &(impl Target + Sync),
    count: usize,
) -> Vec<u32> {
    let once = |round: usize| -> Result<u32, Error> {
        let prog: Prog = Load::new(program).to(target)?.load()?;
        let number = id(&prog);
        let link = prog.attach(target)?;
        match round % 10 {
            0 => drop((prog, link)),
            1 if link.fd().is_ok() => link.force_detach()?,
            _ => link.detach()?,
        }
        Ok(number)
    };
    let all = bench
        .net
        .server
        .run(|| (0..count).map(once).collect::<Result<Vec<_>, _>>());
    let all = all.unwrap_or_else(|error| panic!("{error}"));
    all.unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn thousands_of_cycles_leave_nothing() {
    needs!(Root, NetNs, Veth, Clsact, SkLookup, Cgroup2, CgroupBpf);
    let program = |kind, verdict: i32| Program::new(kind, "cycle", code![ret(verdict)]).unwrap();
    let (xdp, tc) = (
        program(ProgType::XDP, XDP_PASS),
        program(ProgType::SCHED_CLS, TCX_NEXT),
    );
    let (skb, lookup, filter) = (
        program(ProgType::CGROUP_SKB, 1),
        program(ProgType::SK_LOOKUP, SK_PASS),
        program(ProgType::SOCKET_FILTER, -1),
    );
    let bench = Bench::new();
    let group = cgroup("leaks");
    let dir = group.open().unwrap();
    let on = bench.index();
    let round = |count: usize| {
        let mut ids = Vec::new();
        let few = count.div_ceil(20);
        ids.extend(cycle(&bench, &xdp, &Xdp::on(on).generic(), few));
        ids.extend(cycle(&bench, &xdp, &Xdp::on(on).netlink(), few));
        ids.extend(cycle(&bench, &tc, &Tcx::ingress(on), count));
        ids.extend(cycle(&bench, &tc, &Tcx::egress(on).clsact(), few));
        ids.extend(cycle(&bench, &skb, &Cgroup::egress(&dir), count));
        ids.extend(cycle(&bench, &skb, &Cgroup::egress(&dir).multi(), count));
        let ns = &bench.net.server.node.ns;
        ids.extend(cycle(&bench, &lookup, &Netns::lookup(ns), count));
        ids.extend(cycle(
            &bench,
            &filter,
            &SocketFilter::on(&bench.server),
            count,
        ));
        ids
    };
    // What is opened once and kept, like the kernel's types, is open after the first round.
    drop(round(1));
    let before = open_fds();
    let count = usize::try_from(rounds(370)).unwrap();
    let ids = round(count);
    assert!(ids.len() > 5 * count, "{}", ids.len());
    let left = open_fds().opened_since(&before);
    assert!(left.is_empty(), "{left}");
    // The kernel frees programs when no CPU can be running them any more.
    let mut left = ids;
    deadline(LIMIT, || {
        left.retain(|&id| open_id(Kind::Prog, id, 0, None).is_ok());
        left.is_empty().then_some(())
    });
}
