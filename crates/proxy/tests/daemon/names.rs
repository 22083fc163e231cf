//! Targets by name.

use crate::dns_rig::Reply;
use crate::dns_rig::server::Server;
use crate::rig::support::people::{Session, who};
use crate::rig::support::world::{LIMIT, World};
use crate::rig::{Daemon, SERVED, asked, at, items, target, text};
use bpfsmith_gate::{deadline, needs};
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

const CONFIG: &str = "port = 80\ntargets = [\"web.test:8080\"]\n";

/// Nobody ever says where it is.
const SILENT: &str = "silent.test";

/// A file in the place of another, for this thread's mount namespace alone: a [`Daemon`] has made it its own.
struct Placed(&'static str);

impl Placed {
    #[track_caller]
    fn new(file: &Path, there: &'static str) -> Placed {
        let bound = Command::new("mount")
            .arg("--bind")
            .arg(file)
            .arg(there)
            .output();
        let bound = bound.unwrap();
        assert!(bound.status.success(), "{bound:?}");
        Placed(there)
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

/// What the name server says.
#[derive(Clone, Copy)]
enum Say {
    Address(IpAddr),
    Nothing,
}

fn backend(number: u8) -> Say {
    Say::Address(Ipv4Addr::new(10, 20, number, 2).into())
}

/// A name server on the proxy's machine, which says how long an answer holds: a second.
#[track_caller]
fn serve(world: &World, says: &Arc<Mutex<Say>>) -> Server {
    let says = Arc::clone(says);
    let start = || {
        Server::at("127.0.0.1:53".parse().unwrap(), move |asked| {
            let reply = Reply::to(&asked.question);
            if asked.host == SILENT {
                return Vec::new();
            }
            let reply = match *says.lock().unwrap() {
                Say::Address(it) if asked.question.family.has(it) => {
                    reply.address(&asked.host, 1, it)
                }
                Say::Address(_) => reply,
                Say::Nothing => reply.code(2),
            };
            vec![reply.into()]
        })
    };
    world.proxy.node.run(start).unwrap()
}

/// When an address changes new connections go to the new one, and old ones go on; when nobody tells it any more
/// the last one is kept, and that is said.
#[test]
fn names_are_followed() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 2);
    let _servers = world.serve(SERVED);
    let mut daemon = Daemon::prepare(&world, CONFIG);
    let files = ["resolv.conf", "hosts"].map(|name| daemon.dir().join(name));
    fs::write(&files[0], "nameserver 127.0.0.1\n").unwrap();
    fs::write(&files[1], "").unwrap();
    let _placed = [
        Placed::new(&files[0], "/etc/resolv.conf"),
        Placed::new(&files[1], "/etc/hosts"),
    ];
    let says = Arc::new(Mutex::new(backend(0)));
    let server = serve(&world, &says);
    daemon.restart();
    let client = &world.client().node;
    let mut old = Session::open(client, asked(80)).unwrap();
    assert_eq!(old.server, "b0");
    *says.lock().unwrap() = backend(1);
    deadline(LIMIT, || (who(client, asked(80)) == "b1").then_some(()));
    old.echo(b"to the old address").unwrap();
    // Another change does not forget the name's address.
    daemon.ok(&["set", "settings.timeouts.udp", "45s"]);
    assert_eq!(who(client, asked(80)), "b1");
    *says.lock().unwrap() = Say::Nothing;
    let asked_before = server.asked().len();
    deadline(LIMIT, || {
        let status = daemon.status();
        let notes = items(at(&status, &["notes"])).iter();
        let mut notes = notes.map(|it| text(it, &[]).to_owned());
        (notes.any(|it| it.contains("web.test")) && server.asked().len() > asked_before)
            .then_some(())
    });
    assert_eq!(who(client, asked(80)), "b1");
    *says.lock().unwrap() = backend(0);
    deadline(LIMIT, || (who(client, asked(80)) == "b0").then_some(()));
    old.echo(b"at all times").unwrap();
    // A name that is nowhere is refused, and the others stay.
    *says.lock().unwrap() = Say::Nothing;
    let said = daemon.fails(
        4,
        &[
            "target",
            "add",
            "proxy",
            "lost.test:8080",
        ],
    );
    assert!(said.contains("lost.test"), "{said}");
    assert_eq!(who(client, asked(80)), "b0");
    assert!(daemon.target("proxy", &target(0)).is_some());
}

/// Whoever waits for a name keeps nobody else from asking, and from draining.
#[test]
fn nobody_waits_for_the_names_of_others() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 2);
    let _servers = world.serve(SERVED);
    let config = "port = 80\ntargets = [\"10.20.0.2:8080\", \"10.20.1.2:8080\"]\n";
    let mut daemon = Daemon::prepare(&world, config);
    let files = ["resolv.conf", "hosts"].map(|name| daemon.dir().join(name));
    fs::write(&files[0], "nameserver 127.0.0.1\n").unwrap();
    fs::write(&files[1], "").unwrap();
    let _placed = [
        Placed::new(&files[0], "/etc/resolv.conf"),
        Placed::new(&files[1], "/etc/hosts"),
    ];
    let server = serve(&world, &Arc::new(Mutex::new(backend(0))));
    daemon.restart();
    let place = format!("{SILENT}:8080");
    let mut command = daemon.command();
    command
        .args(["target", "add", "proxy", &place])
        .stderr(Stdio::piped());
    let mut waits = daemon.at_home(|| command.spawn()).unwrap();
    deadline(LIMIT, || {
        let is_asked = server.asked().iter().any(|it| it.host == SILENT);
        is_asked.then_some(())
    });
    daemon.ok(&["drain", &target(0)]);
    assert_eq!(who(&world.client().node, asked(80)), "b1");
    daemon.ok(&["status"]);
    assert!(waits.try_wait().unwrap().is_none(), "it waits no more");
    let output = waits.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains(SILENT), "{said}");
}
