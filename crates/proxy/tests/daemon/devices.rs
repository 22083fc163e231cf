//! Devices that go, come back, and get other names.

use crate::rig::support::people::{Session, try_who, who};
use crate::rig::support::world::{LIMIT, Port, World, settle, wait_ready};
use crate::rig::{Daemon, SERVED, asked, at, items, names, target, text};
use bpfsmith_config::value::Kind;
use bpfsmith_gate::{deadline, needs};
use bpfsmith_net::{Device, Kind as Link, Neighbour, Node, Route};

/// Waits until a note of the status says this.
#[track_caller]
fn wait_note(daemon: &Daemon<'_>, what: &str) {
    deadline(LIMIT, || notes(daemon).contains(what).then_some(()));
}

fn notes(daemon: &Daemon<'_>) -> String {
    let status = daemon.status();
    let notes = items(at(&status, &["notes"])).iter();
    let notes = notes.map(|note| match &note.kind {
        Kind::Text(note) => note.as_str(),
        other => panic!("{other:?}"),
    });
    notes.collect::<Vec<_>>().join("\n")
}

/// The names of devices that have programs, in the order of letters.
fn devices(daemon: &Daemon<'_>) -> Vec<String> {
    let status = daemon.status();
    let devices = items(at(&status, &["devices"])).iter();
    let names = devices.map(|device| text(device, &["name"]).to_owned());
    let names: std::collections::BTreeSet<String> = names.collect();
    names.into_iter().collect()
}

/// Takes a device away, and its other end with it.
#[track_caller]
fn pull(node: &Node, name: &str) {
    let index = node.net.link(name).unwrap().index;
    node.net.delete_link(index).unwrap();
}

/// A new cable between two machines, with the names, addresses and neighbours of one that is gone.
#[track_caller]
fn plug(one: (&Node, &Port), other: (&Node, &Port), bits: u8) {
    let far = Device::new(&other.1.name)
        .mac(other.1.mac)
        .netns(&other.0.ns);
    let near = Device::new(&one.1.name).mac(one.1.mac);
    one.0.net.add_link(&near, &Link::Veth(far)).unwrap();
    let ends = [(one, other), (other, one)];
    for ((node, port), _) in ends {
        let index = node.net.link(&port.name).unwrap().index;
        settle(node, index, bits, port.addresses());
    }
    for ((node, port), (_, far)) in ends {
        let index = node.net.link(&port.name).unwrap().index;
        wait_ready(node, index, port.addresses());
        for address in far.addresses() {
            let there = Neighbour::permanent(index, address, far.mac);
            node.net.add_neighbour(&there).unwrap();
        }
    }
    for via in one.1.addresses() {
        other.0.net.add_route(&Route::default_via(via)).unwrap();
    }
}

/// While a device is gone, what is seen and what is wanted of the others comes true all the same; a device that is back
/// gets its programs without a command.
#[test]
fn devices_go_and_come_back() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 3);
    let _servers = world.serve(SERVED);
    let config = format!(
        "port = 80\ntargets = [\"{}\", \"{}\"]\nalgorithm = \"turns\"\n\
         health = {{ kind = \"tcp\", interval = \"100ms\", timeout = \"300ms\", down = 2, up = 1 }}\n",
        target(0),
        target(1)
    );
    let daemon = Daemon::start(&world, &config);
    let (client, proxy) = (&world.client().node, &world.proxy.node);
    let both = ["b0", "b1"];
    deadline(LIMIT, || {
        (names(client, asked(80), 8) == both).then_some(())
    });
    pull(proxy, "back1");
    wait_note(&daemon, "back1 is gone");
    // Its target is taken out, which is a change of what the kernel does.
    deadline(LIMIT, || {
        let all: Vec<_> = (0..4).map(|_| try_who(client, asked(80)).ok()).collect();
        all.iter()
            .all(|it| it.as_deref() == Some("b0"))
            .then_some(())
    });
    assert!(!devices(&daemon).contains(&"back1".to_owned()));
    // So do commands, and a file that names the same devices.
    daemon.ok(&["target", "add", "proxy", &target(2)]);
    deadline(LIMIT, || {
        (names(client, asked(80), 8) == ["b0", "b2"]).then_some(())
    });
    daemon.ok(&["reload"]);
    // One that was never here is still a mistake.
    let said = daemon.fails(
        4,
        &[
            "set",
            "settings.devices",
            "[\"front\", \"back7\"]",
        ],
    );
    assert!(
        said.contains("no device back7") && !said.contains("line 0"),
        "{said}"
    );
    let back = (&world.backends[1].node, &world.backends[1].port);
    plug((proxy, &world.proxy.backs[1]), back, 24);
    deadline(LIMIT, || {
        devices(&daemon).contains(&"back1".to_owned()).then_some(())
    });
    deadline(LIMIT, || {
        (names(client, asked(80), 8) == both).then_some(())
    });
    assert!(!notes(&daemon).contains("back1"), "{}", notes(&daemon));
    // That by which clients come is no exception.
    pull(proxy, "front");
    wait_note(&daemon, "front is gone");
    let host = (client, &world.client().port);
    plug((proxy, &world.proxy.front), host, 16);
    deadline(LIMIT, || try_who(client, asked(80)).ok());
    assert_eq!(devices(&daemon), ["back0", "back1", "back2", "front"]);
}

/// A proxy that listens on one device alone listens nowhere while that one is gone, and not on all others.
#[test]
fn a_proxy_without_its_device_listens_nowhere() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 2);
    let _servers = world.serve(SERVED);
    let config = format!(
        "[[proxies]]\nname = \"here\"\nport = 80\ntarget = \"{}\"\n\
         [[proxies]]\nname = \"there\"\nport = 81\ndevices = [\"back1\"]\ntarget = \"{}\"\n",
        target(0),
        target(0)
    );
    let daemon = Daemon::start(&world, &config);
    let client = &world.client().node;
    assert!(try_who(client, asked(81)).is_err());
    pull(&world.proxy.node, "back1");
    wait_note(&daemon, "back1 is gone");
    assert_eq!(who(client, asked(80)), "b0");
    assert!(try_who(client, asked(81)).is_err());
    let status = daemon.status();
    assert_eq!(items(at(&status, &["proxies", "1", "listens"])).len(), 0);
}

/// A device with another name keeps its programs and connections; commands go on, and the new name may be configured.
#[test]
fn devices_get_other_names() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 2);
    let _servers = world.serve(SERVED);
    let daemon = Daemon::start(&world, &format!("port = 80\ntarget = \"{}\"\n", target(0)));
    let (client, proxy) = (&world.client().node, &world.proxy.node);
    let mut session = Session::open(client, asked(80)).unwrap();
    let rename = |from: &str, to: &str| {
        let index = proxy.net.link(from).unwrap().index;
        proxy.net.rename(index, to).unwrap();
    };
    // The kernel renames devices that are at work since Linux 6.2.
    rename("back0", "inner");
    wait_note(&daemon, "back0 is called inner now");
    session.echo(b"under the new name").unwrap();
    daemon.ok(&["target", "add", "proxy", &target(1)]);
    assert_eq!(who(client, asked(80)).len(), 2);
    session.echo(b"and after a change").unwrap();
    daemon.ok(&[
        "set",
        "settings.devices",
        "[\"front\", \"inner\", \"back1\"]",
    ]);
    deadline(LIMIT, || (!notes(&daemon).contains("back0")).then_some(()));
    assert_eq!(devices(&daemon), ["back1", "front", "inner"]);
    session.echo(b"and when it is configured").unwrap();
}
