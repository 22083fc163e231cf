//! What was asked of a daemon that was killed, and is not in its file.

use crate::rig::support::people::who;
use crate::rig::support::world::World;
use crate::rig::{Daemon, SERVED, asked, names, target};
use bpfsmith_gate::needs;
use std::fs;

const CONFIG: &str = r#"# Written by people.
[[proxies]]
name = "web"
port = 80
group = "web"

[groups.web]
targets = ["10.20.0.2:8080", "10.20.1.2:8080"]
algorithm = "turns"
"#;

const UNSAVED: &str = "has changes that are not saved";

/// A drained target stays so, until it is not drained any more.
#[test]
fn who_is_drained_stays_so() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 2);
    let _servers = world.serve(SERVED);
    let mut daemon = Daemon::start(&world, CONFIG);
    let client = &world.client().node;
    daemon.ok(&["drain", &target(0)]);
    for _ in 0..2 {
        daemon.kill9();
        assert_eq!(names(client, asked(80), 6), ["b1"], "without a daemon");
        daemon.restart();
        assert_eq!(names(client, asked(80), 6), ["b1"], "with another one");
        let drained = daemon.target("web", &target(0)).unwrap();
        assert_eq!(crate::rig::text(&drained, &["state"]), "drained");
    }
    assert!(!daemon.ok(&["status"]).contains(UNSAVED));
    daemon.ok(&["undrain", &target(0)]);
    daemon.kill9();
    daemon.restart();
    assert_eq!(names(client, asked(80), 6), ["b0", "b1"]);
}

/// Changes that were not saved go on, until they are saved or taken back, and not longer.
#[test]
fn changes_go_on() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 2);
    let _servers = world.serve(SERVED);
    let mut daemon = Daemon::start(&world, CONFIG);
    let client = &world.client().node;
    let file = fs::read_to_string(daemon.config()).unwrap();
    daemon.ok(&[
        "add",
        "more",
        "--port",
        "81",
        "--target",
        &target(1),
    ]);
    assert!(daemon.ok(&["status"]).contains(UNSAVED));
    daemon.kill9();
    daemon.restart();
    assert_eq!(who(client, asked(81)), "b1");
    assert!(daemon.ok(&["status"]).contains(UNSAVED));
    assert!(daemon.log().contains(UNSAVED), "{}", daemon.log());
    assert_eq!(fs::read_to_string(daemon.config()).unwrap(), file);
    // One that is saved is in the file.
    daemon.ok(&["save"]);
    assert!(!daemon.ok(&["status"]).contains(UNSAVED));
    let saved = fs::read_to_string(daemon.config()).unwrap();
    assert!(
        saved.starts_with("# Written by people.") && saved.contains("more"),
        "{saved}"
    );
    daemon.ok(&["update", "more", "--port", "82"]);
    daemon.kill9();
    daemon.restart();
    assert_eq!(who(client, asked(82)), "b1");
    // One that is taken back is gone.
    daemon.ok(&["reload"]);
    daemon.kill9();
    daemon.restart();
    assert_eq!(who(client, asked(81)), "b1");
    assert!(!daemon.ok(&["status"]).contains(UNSAVED));
}

/// Whoever wrote the file while no daemon ran is right, and hears what became of the rest.
#[test]
fn a_file_that_was_written_meanwhile_counts() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 2);
    let _servers = world.serve(SERVED);
    let mut daemon = Daemon::start(&world, CONFIG);
    let client = &world.client().node;
    daemon.ok(&["drain", &target(0)]);
    daemon.ok(&[
        "add",
        "more",
        "--port",
        "81",
        "--target",
        &target(1),
    ]);
    daemon.kill9();
    let file = fs::read_to_string(daemon.config()).unwrap();
    fs::write(daemon.config(), file.replace("port = 80", "port = 83")).unwrap();
    daemon.restart();
    let status = daemon.ok(&["status"]);
    assert!(
        status.contains("given up: the configuration is another one"),
        "{status}"
    );
    assert!(crate::rig::support::people::try_who(client, asked(81)).is_err());
    // What is drained is not the file's to say.
    assert_eq!(names(client, asked(83), 6), ["b1"]);
    daemon.ok(&["reload"]);
    assert!(!daemon.ok(&["status"]).contains("given up"));
}
