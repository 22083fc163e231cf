//! Another process with other programs comes in the place of one that ends.

use super::model::{self, FILE, Model};
use super::{Chance, count, under_load, v6};
use crate::rig::support::people::who;
use crate::rig::support::world::World;
use crate::rig::{Daemon, SERVED, at, number};
use bpfsmith_gate::needs;
use std::fs;

/// What makes other programs: tables of IPv6, tags, limits, fragments and what becomes of strangers.
const VARIANTS: [&str; 5] = [
    "",
    "vlan = true\nevents = true\n",
    "fragments = \"pass\"\nsource_limit = { rate = 1000000, burst = 1000000 }\n",
    "mid_stream = \"drop\"\nevents = true\ntimeouts = { udp = \"70s\", closed = \"5s\" }\n",
    "vlan = true\nfragments = \"follow-or-drop\"\nsource_limit = { rate = 2000000, burst = 2000000 }\n",
];

/// The proxy for IPv6 is not in all of them.
fn file(variant: u32) -> String {
    let settings = VARIANTS[variant as usize % VARIANTS.len()];
    let mut file = FILE.to_owned() + settings;
    if variant.is_multiple_of(2) {
        let from = file.find("[[proxies]]\nname = \"six\"").unwrap();
        let to = file.find("[groups.web]").unwrap();
        file.replace_range(from..to, "");
        let from = file.find("[groups.six]").unwrap();
        let to = file.find("[settings]").unwrap();
        file.replace_range(from..to, "");
    }
    file
}

/// The sum of what was counted of packets.
fn counted(daemon: &Daemon<'_>) -> i64 {
    number(at(&daemon.status(), &["counters"]), &["opened"])
}

#[test]
fn upgrades_under_load() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(2, model::BACKENDS);
    let servers = world.serve(SERVED);
    let mut daemon = Daemon::start(&world, &file(0));
    let mut chance = Chance::new("upgrades_under_load");
    let upgrades = count(20, 4);
    let client = &world.clients[0].node;
    under_load(&world, Model::default().allowed4(), &mut chance, |load| {
        let mut before = 0;
        for upgrade in 1..=upgrades {
            assert!(daemon.end().success());
            // While nobody is there, everything goes on.
            load.goes_on();
            fs::write(daemon.config(), daemon.complete(&file(upgrade))).unwrap();
            daemon.restart();
            load.goes_on();
            load.all_are_known(&daemon);
            let now = counted(&daemon);
            assert!(now > before, "{now} were counted after {before}");
            before = now;
            if upgrade % 2 == 1 {
                let name = who(client, v6(80));
                assert!(["b0", "b1"].contains(&name.as_str()), "{name}");
            }
        }
    });
    let failed: Vec<String> = servers.iter().flat_map(|it| it.failed()).collect();
    assert!(failed.is_empty(), "{failed:?}");
    println!("{upgrades} upgrades");
}
