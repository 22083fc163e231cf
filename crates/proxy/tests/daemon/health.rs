//! Targets that die and come back.

use crate::rig::support::people::{Server, Session};
use crate::rig::support::world::{LIMIT, World};
use crate::rig::{Daemon, SERVED, asked, at, items, names, number, target, text};
use bpfsmith_config::value::Kind;
use bpfsmith_gate::{deadline, needs};
use std::net::SocketAddr;

/// Who asks: over TCP, or for a page that these servers do not have.
fn config(kind: &str, slow_start: &str) -> String {
    format!(
        r#"port = 80
targets = ["10.20.0.2:8080", "10.20.1.2:8080"]
algorithm = "turns"
[health]
kind = "{kind}"
interval = "100ms"
timeout = "2s"
up = 2
down = 3
slow_start = "{slow_start}"
"#
    )
}

fn serve(world: &World, number: u8) -> Server {
    let host = &world.backends[usize::from(number)];
    let at = host.port.addresses().map(|ip| SocketAddr::new(ip, SERVED));
    Server::start(&host.node, &format!("b{number}"), &at)
}

/// Waits until checks say so of a target, whatever it gets.
#[track_caller]
fn hear(daemon: &Daemon<'_>, of: u8, state: &str) {
    deadline(LIMIT, || {
        let it = daemon.target("proxy", &target(of)).unwrap();
        (text(&it, &["state"]) == state).then_some(())
    });
}

/// Waits until a target stands so, and gets connections or none accordingly.
///
/// Its state is what checks say at this moment; the kernel hears of it a little later. Its share is what the kernel has
/// heard.
#[track_caller]
fn wait(daemon: &Daemon<'_>, of: u8, state: &str) {
    deadline(LIMIT, || {
        let it = daemon.target("proxy", &target(of)).unwrap();
        let is_out = number(&it, &["share"]) == 0;
        (text(&it, &["state"]) == state && is_out == (state == "down")).then_some(())
    });
}

fn share(daemon: &Daemon<'_>, of: u8) -> i64 {
    let it = daemon.target("proxy", &target(of)).unwrap();
    number(&it, &["share"])
}

/// The dead are left out and come back slowly; those who live go on.
#[test]
fn the_dead_are_left_out_until_they_live() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 2);
    let (first, _second) = (serve(&world, 0), serve(&world, 1));
    let daemon = Daemon::start(&world, &config("tcp", "10s"));
    let client = &world.client().node;
    wait(&daemon, 0, "up");
    wait(&daemon, 1, "up");
    assert_eq!(names(client, asked(80), 16), ["b0", "b1"]);
    let mut lasting = deadline(LIMIT, || {
        Session::open(client, asked(80))
            .ok()
            .filter(|it| it.server == "b1")
    });
    drop(first);
    wait(&daemon, 0, "down");
    assert_eq!(names(client, asked(80), 32), ["b1"]);
    let why = daemon.target("proxy", &target(0)).unwrap();
    assert!(text(&why, &["last"]).len() > 5, "{why:?}");
    let status = daemon.status();
    assert_eq!(
        at(&status, &["groups", "0", "all_down"]).kind,
        Kind::Bool(false)
    );
    let _first = serve(&world, 0);
    wait(&daemon, 0, "up");
    let mut shares = vec![share(&daemon, 0)];
    deadline(LIMIT, || {
        let share = share(&daemon, 0);
        if Some(&share) != shares.last() {
            shares.push(share);
        }
        (share == 100).then_some(())
    });
    assert!(shares.is_sorted() && shares[0] > 0, "{shares:?}");
    assert!(shares.len() > 2, "its share rose in steps: {shares:?}");
    assert_eq!(names(client, asked(80), 32), ["b0", "b1"]);
    lasting.echo(b"all the time").unwrap();
}

/// Where all are down all get connections, and it is told; a group whose checks are switched off is as any other.
#[test]
fn all_down_is_as_good_as_all_up() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 2);
    let _servers = world.serve(SERVED);
    // They speak, but no HTTP.
    let daemon = Daemon::start(&world, &config("http", "0s"));
    let client = &world.client().node;
    hear(&daemon, 0, "down");
    hear(&daemon, 1, "down");
    deadline(LIMIT, || {
        let status = daemon.status();
        (at(&status, &["groups", "0", "all_down"]).kind == Kind::Bool(true)).then_some(())
    });
    assert_eq!(names(client, asked(80), 16), ["b0", "b1"]);
    assert!(daemon.ok(&["status"]).contains("down"));
    // A drained one gets nothing, not even then.
    daemon.ok(&["drain", &target(0)]);
    assert_eq!(names(client, asked(80), 16), ["b1"]);
    daemon.ok(&["undrain", &target(0)]);
    daemon.ok(&["set", "groups.proxy.health", "none"]);
    let status = daemon.status();
    assert_eq!(
        at(&status, &["groups", "0", "all_down"]).kind,
        Kind::Bool(false)
    );
    for it in items(at(&status, &["groups", "0", "targets"])) {
        assert_eq!(text(it, &["state"]), "unchecked");
    }
    assert_eq!(names(client, asked(80), 16), ["b0", "b1"]);
}

/// Checks go on after the daemon was killed, and a target that died in between is found.
#[test]
fn a_new_daemon_finds_the_dead() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 2);
    let (first, _second) = (serve(&world, 0), serve(&world, 1));
    let mut daemon = Daemon::start(&world, &config("tcp", "0s"));
    wait(&daemon, 0, "up");
    daemon.kill9();
    drop(first);
    daemon.restart();
    wait(&daemon, 0, "down");
    assert_eq!(names(&world.client().node, asked(80), 16), ["b1"]);
}
