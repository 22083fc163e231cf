//! The programs of `bpfsmith_datapath` and the same algorithm in C make the same packets.

use bpfsmith_bench::datapath::{
    Clang, DNAT, FULL_NAT, Frame, Peer, Row, Transport, Work, World, client, once, rows,
};
use bpfsmith_datapath::programs::Hook;
use bpfsmith_datapath::reason::Reason;
use bpfsmith_prog::Prog;

/// Flows that there is room for.
const FLOWS: u32 = 1 << 10;

type Seen = (Vec<u8>, Vec<(Reason, u64)>);

/// What becomes of a row's packet, and what is counted.
fn see(world: &World, prog: &Prog, hook: Hook, row: &Row) -> Seen {
    let before = world.counters();
    let output = once(world, prog, hook, row);
    let after = world.counters();
    let moved = after
        .iter()
        .map(|(reason, n)| (*reason, n - before[reason]));
    (output, moved.filter(|(_, n)| *n > 0).collect())
}

#[test]
fn peers_agree_on_every_packet() {
    let clang = Clang::find().expect("clang-19, or the one that CLANG names");
    let world = World::new(FLOWS);
    let mut port = 30_000;
    for hook in [Hook::Xdp, Hook::Tcx] {
        let progs = Peer::ALL.map(|peer| peer.load(&world, &clang, hook, &Row::plain()));
        let rows = rows(&world);
        let same = |row: &&Row| row.is_exact && row.work == Work::Datapath;
        for row in rows.iter().filter(same) {
            let seen = progs.each_ref().map(|prog| see(&world, prog, hook, row));
            for one in &seen {
                assert_eq!(*one, seen[0], "{hook:?} {}", row.name);
            }
        }
        for (v4, to) in [
            (true, DNAT),
            (true, FULL_NAT),
            (false, DNAT),
            (false, FULL_NAT),
        ] {
            let opened = progs.each_ref().map(|prog| {
                port += 1;
                let to = world.listener(v4, to);
                let frame = Frame::new(client(v4, port), to, Transport::Tcp(0x02));
                let (_, counted) = see(&world, prog, hook, &Row::one(frame));
                counted
            });
            assert!(opened[0].contains(&(Reason::Opened, 1)), "{opened:?}");
            assert!(opened.iter().all(|one| *one == opened[0]), "{opened:?}");
        }
    }
}
