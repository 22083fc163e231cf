//! Backends that leave: what they have goes on for as long as their group says, and then it is over.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod rig;

use bpfsmith_gate::{deadline, needs};
use bpfsmith_net::Node;
use rig::support::people::Session;
use rig::support::world::{LIMIT, Plan, Vip, World};
use rig::{Daemon, asked, items, target};

const CONFIG: &str = r#"
[[proxies]]
name = "web"
port = 80
group = "all"

[groups.all]
targets = ["10.20.0.2:8080", "10.20.1.2:8080"]
algorithm = "turns"
drain = "1s"
"#;

/// A client and two backends. The proxy's machine has the address that clients ask for, and so tells them of what is
/// over.
fn world() -> World {
    Plan::new(1, 2).vip(Vip::Owned).build()
}

/// A session with each of two backends.
fn sessions(client: &Node) -> [Session; 2] {
    let mut found: [Option<Session>; 2] = [None, None];
    deadline(LIMIT, || {
        let session = Session::open(client, asked(80)).unwrap();
        let place = usize::from(session.server == "b1");
        found[place] = Some(session);
        found.iter().all(Option::is_some).then_some(())
    });
    found.map(Option::unwrap)
}

/// Those that leave, as the status has them.
fn leaving(daemon: &Daemon<'_>) -> usize {
    items(daemon.status().get("leaving").unwrap()).len()
}

/// Waits until one session does not go on; the other one does all the time.
fn ends(leaves: &mut Session, stays: &mut Session) {
    deadline(LIMIT, || {
        stays.echo(b"nothing happens here").unwrap();
        leaves.echo(b"still there").is_err().then_some(())
    });
}

#[test]
fn connections_of_a_drained_target_end_when_its_time_is_over() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = world();
    let _servers = world.serve(rig::SERVED);
    let daemon = Daemon::start(&world, CONFIG);
    let client = &world.client().node;
    let [mut stays, mut leaves] = sessions(client);
    // Taken back before its time is over, it is for nothing. An hour is long enough, however slow this machine is.
    daemon.ok(&["set", "groups.all.drain", "1h"]);
    daemon.ok(&["drain", &target(1)]);
    assert_eq!(leaving(&daemon), 1);
    daemon.ok(&["undrain", &target(1)]);
    assert_eq!(leaving(&daemon), 0);
    leaves.echo(b"all is as before").unwrap();
    // The file says a second.
    daemon.ok(&["reload"]);
    daemon.ok(&["drain", &target(1)]);
    ends(&mut leaves, &mut stays);
    deadline(LIMIT, || (leaving(&daemon) == 0).then_some(()));
    // And it may come back.
    daemon.ok(&["undrain", &target(1)]);
    let [mut one, mut other] = sessions(client);
    one.echo(b"new").unwrap();
    other.echo(b"new as well").unwrap();
    stays.echo(b"still nothing").unwrap();
}

#[test]
fn connections_of_a_removed_target_end_when_its_time_is_over() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = world();
    let _servers = world.serve(rig::SERVED);
    let mut daemon = Daemon::start(&world, CONFIG);
    let client = &world.client().node;
    let [mut stays, mut leaves] = sessions(client);
    daemon.ok(&["set", "groups.all.drain", "1h"]);
    daemon.ok(&[
        "target",
        "remove",
        "all",
        &target(1),
        "--save",
    ]);
    assert_eq!(leaving(&daemon), 1);
    leaves.echo(b"for an hour").unwrap();
    // Whoever comes next knows that it leaves, but not since when.
    daemon.kill9();
    daemon.restart();
    leaves.echo(b"for some time").unwrap();
    assert_eq!(leaving(&daemon), 1);
    ends(&mut leaves, &mut stays);
}
