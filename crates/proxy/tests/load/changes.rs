//! The configuration changes all the time, and nobody who has begun or begins notices.

use super::model::{self, FILE, Model};
use super::{Api, Chance, count, under_load, v4};
use crate::rig::support::people::{try_who, who};
use crate::rig::support::world::World;
use crate::rig::{Daemon, SERVED};
use bpfsmith_gate::needs;
use bpfsmith_proxy::http::Method;
use std::time::Instant;

/// Proxies, routes, targets, weights and settings come and go; targets are drained; the file is saved and read again.
#[test]
fn changes_under_load() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(2, model::BACKENDS);
    let servers = world.serve(SERVED);
    let daemon = Daemon::start(&world, FILE);
    let api = Api::of(&daemon);
    let mut chance = Chance::new("changes_under_load");
    let mut other = chance.another();
    let mut model = Model::default();
    let changes = count(1000, 60);
    let client = &world.clients[0].node;
    let mut times = Vec::new();
    under_load(&world, model.allowed(), &mut chance, |load| {
        for number in 1..=changes {
            let extra = model.extra().clone();
            let begun = Instant::now();
            let change = model::make(&api, &load.truth, &mut model, &mut other);
            times.push(begun.elapsed());
            // What has come is there now, and what has gone is not.
            for (port, number) in model.extra() {
                if extra.get(port) != Some(number) {
                    assert_eq!(who(client, v4(*port)), format!("b{number}"), "{change:?}");
                }
            }
            for port in extra.keys().filter(|it| !model.extra().contains_key(it)) {
                assert!(try_who(client, v4(*port)).is_err(), "{change:?}: {port}");
            }
            load.nothing_failed();
            if number % 100 == 0 {
                println!("{number} changes: {}", load.so_far());
            }
        }
        load.goes_on();
        load.all_are_known(&daemon);
    });
    times.sort();
    println!(
        "{changes} changes, {} generations: the middle one took {:?}, the longest {:?}",
        daemon.generation(),
        times[times.len() / 2],
        times[times.len() - 1]
    );
    let failed: Vec<String> = servers.iter().flat_map(|it| it.failed()).collect();
    assert!(failed.is_empty(), "{failed:?}");
    // The daemon is as it was, too.
    api.ok(Method::GET, &["v1", "status"], None);
}
