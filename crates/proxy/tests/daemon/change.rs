//! Each command that changes something, by what it does to connections.

use crate::rig::support::people::{Session, try_who, who, who_udp};
use crate::rig::support::world::{LIMIT, World};
use crate::rig::{Daemon, SERVED, asked, at, items, names, target, text};
use bpfsmith_gate::{deadline, needs};
use std::fs;

/// Two groups, of which clients know one.
const CONFIG: &str = r#"# Written by people.
[[proxies]]
name = "web"  # the shop
port = 80
group = "web"

[groups.web]
targets = ["10.20.0.2:8080"]
algorithm = "turns"

[groups.spare]
targets = ["10.20.2.2:8080"]
"#;

/// Proxies are added, changed and removed while others go on.
#[test]
fn proxies_come_and_go() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 3);
    let _servers = world.serve(SERVED);
    let daemon = Daemon::start(&world, CONFIG);
    let client = &world.client().node;
    let mut session = Session::open(client, asked(80)).unwrap();
    assert!(try_who(client, asked(81)).is_err());
    daemon.ok(&[
        "add",
        "more",
        "--port",
        "81",
        "--protocol",
        "tcp",
        "--protocol",
        "udp",
        "--target",
        &target(1),
    ]);
    assert_eq!(who(client, asked(81)), "b1");
    assert_eq!(who_udp(client, asked(81)), "b1");
    daemon.ok(&["update", "more", "--port", "82"]);
    assert_eq!(who(client, asked(82)), "b1");
    assert!(try_who(client, asked(81)).is_err());
    daemon.ok(&["update", "more", "--group", "spare"]);
    assert_eq!(who(client, asked(82)), "b2");
    daemon.ok(&["remove", "more"]);
    assert!(try_who(client, asked(82)).is_err());
    let table = daemon.dir().join("table.json");
    let json = format!(
        r#"{{"name": "filed", "port": 83, "target": "{}"}}"#,
        target(2)
    );
    fs::write(&table, json).unwrap();
    daemon.ok(&["add", "--file", table.to_str().unwrap()]);
    assert_eq!(who(client, asked(83)), "b2");
    session.echo(b"all the time").unwrap();
    assert_eq!(session.server, "b0");
}

/// A route leads one client elsewhere, by a group or by targets of its own, and no other client.
#[test]
fn routes_lead_elsewhere() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(2, 3);
    let _servers = world.serve(SERVED);
    let daemon = Daemon::start(&world, CONFIG);
    let both = || [0, 1].map(|it| who(&world.clients[it].node, asked(80)));
    let mut old = Session::open(&world.clients[1].node, asked(80)).unwrap();
    assert_eq!(both(), ["b0", "b0"]);
    for (answer, there) in [
        (["--target", &target(1)], "b1"),
        (["--group", "spare"], "b2"),
    ] {
        let [option, value] = answer;
        daemon.ok(&[
            "route",
            "add",
            "web",
            "10.10.0.11",
            option,
            value,
        ]);
        assert_eq!(both(), ["b0", there]);
        daemon.ok(&["route", "remove", "web", "10.10.0.11"]);
        assert_eq!(both(), ["b0", "b0"]);
    }
    daemon.ok(&[
        "route",
        "add",
        "web",
        "10.10.0.0/28",
        "--group",
        "spare",
    ]);
    assert_eq!(both(), ["b2", "b2"]);
    daemon.ok(&["route", "remove", "web", "10.10.0.0/28"]);
    assert_eq!(both(), ["b0", "b0"]);
    old.echo(b"never led elsewhere").unwrap();
}

/// Targets join and leave; who leaves keeps the connections that it has.
#[test]
fn targets_join_and_leave() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 3);
    let _servers = world.serve(SERVED);
    let daemon = Daemon::start(&world, CONFIG);
    let client = &world.client().node;
    let mut old = Session::open(client, asked(80)).unwrap();
    assert_eq!(old.server, "b0");
    daemon.ok(&[
        "target",
        "add",
        "web",
        &target(1),
        "--weight",
        "3",
    ]);
    assert_eq!(names(client, asked(80), 64), ["b0", "b1"]);
    daemon.ok(&["target", "remove", "web", &target(0)]);
    assert_eq!(names(client, asked(80), 16), ["b1"]);
    old.echo(b"its target has left").unwrap();
}

/// A drained target gets nothing new, keeps what it has, and comes back when it is told so.
#[test]
fn a_drained_target_keeps_what_it_has() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 3);
    let _servers = world.serve(SERVED);
    let daemon = Daemon::start(&world, CONFIG);
    let client = &world.client().node;
    let mut old = Session::open(client, asked(80)).unwrap();
    daemon.ok(&["target", "add", "web", &target(1)]);
    daemon.ok(&["drain", &target(0)]);
    assert_eq!(names(client, asked(80), 16), ["b1"]);
    old.echo(b"while it is drained").unwrap();
    let drained = daemon.target("web", &target(0)).unwrap();
    assert_eq!(text(&drained, &["state"]), "drained");
    // Another change does not bring it back, nor does the file when it is read again.
    daemon.ok(&["set", "settings.timeouts.udp", "45s"]);
    assert_eq!(names(client, asked(80), 16), ["b1"]);
    daemon.ok(&["undrain", &target(0), "--group", "web"]);
    assert_eq!(names(client, asked(80), 16), ["b0", "b1"]);
    old.echo(b"and after").unwrap();
    let error = daemon.fails(1, &["drain", "10.20.9.2:1"]);
    assert!(error.contains(&target(0)), "{error}");
}

/// Values of settings, groups and proxies are set, and null takes them out.
#[test]
fn values_are_set() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 3);
    let _servers = world.serve(SERVED);
    let daemon = Daemon::start(&world, CONFIG);
    let client = &world.client().node;
    // A connection that is silent for hours is remembered; until it is to be for a second.
    let _silent = Session::open(client, asked(80)).unwrap();
    assert_eq!(daemon.conns(&["--state", "established"]).len(), 1);
    daemon.ok(&[
        "set",
        "settings.timeouts.established",
        "1s",
    ]);
    deadline(LIMIT, || {
        daemon
            .conns(&["--state", "established"])
            .is_empty()
            .then_some(())
    });
    daemon.ok(&[
        "set",
        "settings.timeouts.established",
        "null",
    ]);
    // Each client has its target.
    daemon.ok(&["target", "add", "web", &target(1)]);
    assert_eq!(names(client, asked(80), 16), ["b0", "b1"]);
    daemon.ok(&["set", "groups.web.algorithm", "source"]);
    assert_eq!(names(client, asked(80), 16).len(), 1);
    daemon.ok(&["set", "proxies.web.port", "8088"]);
    assert_eq!(names(client, asked(8088), 1).len(), 1);
    assert!(try_who(client, asked(80)).is_err());
    let config = daemon.json(&["config"]);
    assert_eq!(
        text(&config, &["groups", "web", "algorithm"]),
        "source",
        "{config:?}"
    );
    // Tables are as large as they were made, which is said.
    let notes = || daemon.ok(&["status"]).contains("room for");
    assert!(!notes());
    daemon.ok(&["set", "settings.flows", "1024"]);
    assert!(notes());
    let error = daemon.fails(4, &["set", "settings.timeouts.udp", "soon"]);
    assert!(error.contains("soon"), "{error}");
}

/// What was changed is lost when the file is read again, and kept if it was saved: with all that people wrote
/// around it. Saving is no reason to read the file.
#[test]
fn changes_are_saved() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 3);
    let _servers = world.serve(SERVED);
    let mut daemon = Daemon::start(&world, CONFIG);
    let client = &world.client().node;
    let add = [
        "add",
        "more",
        "--port",
        "81",
        "--target",
        &target(1),
    ];
    daemon.ok(&add);
    assert_eq!(who(client, asked(81)), "b1");
    daemon.ok(&["reload"]);
    assert!(try_who(client, asked(81)).is_err());
    let saved = [&add[..], &["--save"]].concat();
    let before = fs::read_to_string(daemon.config()).unwrap();
    let answer = daemon.json(&saved);
    assert_eq!(text(&answer, &["saved"]), daemon.config().to_str().unwrap());
    let file = fs::read_to_string(daemon.config()).unwrap();
    for line in before.lines() {
        assert!(file.contains(line), "{line}: {file}");
    }
    assert_eq!(file, daemon.ok(&["config"]));
    daemon.ok(&["target", "add", "spare", &target(0)]);
    assert!(daemon.ok(&["save"]).contains("proxy.toml"));
    let file = fs::read_to_string(daemon.config()).unwrap();
    assert!(file.contains("# the shop") && file.contains("# Written by people."));
    let generation = daemon.generation();
    // Whatever the daemon thought of the file has come before what it says of this.
    daemon.signal(nix::sys::signal::Signal::SIGUSR1);
    daemon.wait_log("opened the access log again", 1);
    assert_eq!(daemon.generation(), generation, "{}", daemon.log());
    assert!(!daemon.log().contains("generation"), "{}", daemon.log());
    daemon.kill9();
    daemon.restart();
    assert_eq!(who(client, asked(81)), "b1");
    let config = daemon.json(&["config"]);
    assert_eq!(items(at(&config, &["groups", "spare", "targets"])).len(), 2);
}
