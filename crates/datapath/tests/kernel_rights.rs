//! Which capabilities the proxy needs: those that its documentation names, and no other.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

mod support;

use bpfsmith_datapath::attach::Attached;
use bpfsmith_datapath::choice::Wish;
use bpfsmith_datapath::error::Result;
use bpfsmith_datapath::generation::Generation;
use bpfsmith_datapath::look::Look;
use bpfsmith_datapath::reason::Reason;
use bpfsmith_gate::needs;
use bpfsmith_sys::rights::{Caps, keep};
use support::people::who;
use support::serving::{ASKED, SERVED, Wanted};
use support::world::{VIP4, World};

/// Starts a proxy as a thread of its machine that has these capabilities alone, and changes its
/// configuration once.
fn start(world: &World, caps: Caps) -> Result<(Generation, Attached)> {
    let config = Wanted::of(world).config();
    let proxy = &world.proxy;
    let devices = [&proxy.front].into_iter().chain(&proxy.backs);
    let devices: Vec<_> = devices.map(|port| (port.index, Wish::Best)).collect();
    let run = || {
        keep(caps).unwrap();
        let first = Generation::first(&config)?;
        let mut attached = Attached::new(&Look::here()?, &first, &devices)?;
        let next = first.next(&config)?;
        assert_eq!(attached.replace(&next)?, []);
        Ok((next, attached))
    };
    world.proxy.node.run(run).unwrap()
}

#[test]
fn three_capabilities_are_enough_and_each_is_missed() {
    needs!(Root, NetNs, Veth, Clsact);
    let world = World::new(1, 1);
    let servers = world.serve(SERVED);
    let enough = Caps::BPF | Caps::NET_ADMIN | Caps::PERFMON;
    let (generation, attached) = start(&world, enough).unwrap_or_else(|error| panic!("{error:#}"));
    let name = who(&world.client().node, (VIP4, ASKED).into());
    assert_eq!(name, servers[0].name);
    assert!(generation.counters().unwrap()[&Reason::Forwarded] > 0);
    drop(attached);

    for (missing, name) in [
        (Caps::BPF, "CAP_BPF"),
        (Caps::NET_ADMIN, "CAP_NET_ADMIN"),
        (Caps::PERFMON, "CAP_PERFMON"),
    ] {
        let error = start(&world, enough - missing).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains(name), "{text}");
    }
}
