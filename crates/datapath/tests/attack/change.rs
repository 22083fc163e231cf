//! Configurations in the place of others.

use crate::packets::talk::Plan;
use crate::rig::{self, inside, listener};
use crate::support::world::World;
use bpfsmith_datapath::attach::Attached;
use bpfsmith_datapath::choice::Wish;
use bpfsmith_datapath::config::*;
use bpfsmith_datapath::generation::Generation;
use bpfsmith_datapath::look::Look;
use bpfsmith_datapath::programs::Hook;
use bpfsmith_gate::needs;
use bpfsmith_net::IfIndex;

/// Another configuration means nothing until its programs are there.
#[test]
fn a_generation_that_nobody_runs_changes_nothing() {
    needs!(Root, Bpf, NetNs, Veth);
    let config = rig::config(Algorithm::Maglev, &[1]);
    inside(&config, Hook::Tcx, |rig| {
        let mut next = config.clone();
        next.backends[0].address = "10.2.77.77:9999".parse().unwrap();
        let made = rig.generation.next(&next);
        let flow = rig
            .begin(
                Protocol::Tcp,
                rig::client(Family::V4, 1),
                listener(Family::V4),
            )
            .unwrap();
        assert_eq!(flow.backend, config.backends[0].address, "{made:?}");
    });
}

/// What keeps a first generation from running keeps the next one, too.
#[test]
fn what_hinders_the_first_hinders_the_next() {
    needs!(Root, Bpf, NetNs, Veth, Tcx);
    let world = World::new(1, 1);
    let proxy = &world.proxy;
    proxy
        .node
        .ns
        .set_sysctl("ipv6/conf/all/forwarding", "0")
        .unwrap();
    let both = Plan::new(Mode::Dnat).0;
    let mut four = both.clone();
    four.listeners.retain(|it| it.address.is_ipv4());
    proxy
        .node
        .run(|| {
            let look = Look::here().unwrap();
            let devices: Vec<(IfIndex, Wish)> = vec![
                (proxy.front.index, Wish::Best),
                (proxy.backs[0].index, Wish::Best),
            ];
            let second = Generation::first(&both).unwrap();
            let refused = Attached::new(&look, &second, &devices);
            assert!(refused.is_err());
            let first = Generation::first(&four).unwrap();
            let mut attached = Attached::new(&look, &first, &devices).unwrap();
            let next = first.next(&both).unwrap();
            let replaced = attached.replace(&next);
            assert!(
                replaced.is_err(),
                "IPv6 is not forwarded here: {replaced:?}"
            );
        })
        .unwrap();
}

/// A generation of another proxy knows none of these flows.
#[test]
fn a_stranger_does_not_take_over() {
    needs!(Root, Bpf, NetNs, Veth, Tcx);
    let world = World::new(1, 1);
    let proxy = &world.proxy;
    let config = Plan::new(Mode::Dnat).0;
    proxy
        .node
        .run(|| {
            let look = Look::here().unwrap();
            let devices: Vec<(IfIndex, Wish)> = vec![
                (proxy.front.index, Wish::Best),
                (proxy.backs[0].index, Wish::Best),
            ];
            let first = Generation::first(&config).unwrap();
            let mut attached = Attached::new(&look, &first, &devices).unwrap();
            let stranger = Generation::first(&config).unwrap();
            let replaced = attached.replace(&stranger);
            assert!(replaced.is_err(), "{replaced:?}");
        })
        .unwrap();
}
