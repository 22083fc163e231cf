//! Flows that nobody uses any more are forgotten as soon as programs are attached, without further ado.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

mod support;

use bpfsmith_datapath::config::{BackendId, Timeouts};
use bpfsmith_gate::needs;
use std::thread::sleep;
use std::time::{Duration, Instant};
use support::people::who_udp;
use support::serving::{SERVED, Wanted, Way, Work, asked};
use support::world::{LIMIT, World};

#[test]
fn an_attached_proxy_forgets_idle_flows() {
    needs!(NetNs, Veth, Clsact);
    let world = World::new(1, 1);
    let server = world.serve(SERVED);
    let mut config = Wanted::of(&world).config();
    config.timeouts = Timeouts {
        udp: Duration::from_secs(2),
        round: Duration::from_secs(1),
        ..Timeouts::default()
    };
    let work = Work::configured(&world, &config, Way::Device);
    for to in asked() {
        assert_eq!(who_udp(&world.client().node, to), server[0].name);
    }
    let flows = || -> u32 {
        let ids = config.backends.iter().map(|backend| backend.id);
        ids.map(|id: BackendId| work.generation.flows_of(id).unwrap())
            .sum()
    };
    let deadline = Instant::now() + LIMIT;
    while flows() > 0 {
        assert!(Instant::now() < deadline, "{} flows stay", flows());
        sleep(Duration::from_millis(50));
    }
}
