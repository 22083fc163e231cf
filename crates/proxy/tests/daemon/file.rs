//! The file of configuration, however it changes.

use crate::rig::support::people::{Session, who};
use crate::rig::support::world::{LIMIT, World};
use crate::rig::{Daemon, SERVED, asked, target};
use bpfsmith_gate::{deadline, needs};
use nix::sys::signal::Signal;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

fn to(number: u8) -> String {
    format!("port = 80\ntargets = [\"{}\"]\n", target(number))
}

/// Waits until a server of that number answers new connections.
#[track_caller]
fn wait(world: &World, number: u8) {
    let name = format!("b{number}");
    deadline(LIMIT, || {
        (who(&world.client().node, asked(80)) == name).then_some(())
    });
}

/// Puts a file in the place of another, as editors do.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("swp");
    fs::write(&new, text).unwrap();
    fs::rename(&new, path).unwrap();
}

/// A file that is replaced, one that is written, one that is taken away and made again; an old connection notices
/// none of it.
#[test]
fn the_file_is_followed() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 3);
    let _servers = world.serve(SERVED);
    let daemon = Daemon::start(&world, &to(0));
    let path = daemon.config();
    let mut old = Session::open(&world.client().node, asked(80)).unwrap();
    replace(&path, &daemon.complete(&to(1)));
    wait(&world, 1);
    fs::write(&path, daemon.complete(&to(2))).unwrap();
    wait(&world, 2);
    fs::remove_file(&path).unwrap();
    fs::write(&path, daemon.complete(&to(1))).unwrap();
    wait(&world, 1);
    replace(&path, &daemon.complete(&to(2)));
    wait(&world, 2);
    old.echo(b"since the first file").unwrap();
    assert_eq!(old.server, "b0");
}

/// A broken file is told with line and column, and changes nothing; the next right one does. `SIGHUP` reads it
/// again, too.
#[test]
fn a_broken_file_changes_nothing() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 2);
    let _servers = world.serve(SERVED);
    let daemon = Daemon::start(&world, &to(0));
    let path = daemon.config();
    let generation = daemon.generation();
    let right = daemon.complete(&to(1));
    for (number, (broken, told)) in [
        (
            right.replace("10.20.1.2:8080", "10.20.1.2"),
            "line 2, column 12",
        ),
        (right.replace("port = 80", "port = "), "line 1"),
        (right.replace("\"front\"", "\"frnt\""), "frnt"),
        (right.replace("port = 80\n", ""), "port is missing"),
    ]
    .into_iter()
    .enumerate()
    {
        assert_ne!(broken, right);
        replace(&path, &broken);
        daemon.wait_log("not reloaded", number + 1);
        let log = daemon.log();
        let last = log.rsplit("not reloaded").next().unwrap();
        assert!(last.contains(told), "{told}: {last}");
        assert_eq!(who(&world.client().node, asked(80)), "b0");
        assert_eq!(daemon.generation(), generation);
    }
    daemon.fails(4, &["reload"]);
    daemon.signal(Signal::SIGHUP);
    daemon.wait_log("not reloaded", 5);
    assert_eq!(daemon.generation(), generation);
    replace(&path, &right);
    wait(&world, 1);
    // There is nothing new, which is said.
    let already = daemon.log().matches("reloaded").count();
    daemon.signal(Signal::SIGHUP);
    daemon.wait_log("reloaded", already + 1);
    assert!(
        daemon
            .log()
            .trim_end()
            .ends_with("nothing that the kernel does has changed")
    );
}

/// Another version of the file comes to the link's other end.
#[track_caller]
fn version(daemon: &Daemon<'_>, number: u8) {
    let dir = daemon.dir();
    let there = dir.join(format!("..version{number}"));
    fs::create_dir(&there).unwrap();
    fs::write(there.join("proxy.toml"), daemon.complete(&to(number))).unwrap();
    let link = dir.join("..data_tmp");
    symlink(format!("..version{number}"), &link).unwrap();
    fs::rename(&link, dir.join("..data")).unwrap();
}

/// A link to a directory of another version, as orchestrators switch it, again and again.
#[test]
fn links_are_followed() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 3);
    let _servers = world.serve(SERVED);
    let mut daemon = Daemon::prepare(&world, &to(0));
    let dir = daemon.dir().to_owned();
    version(&daemon, 0);
    fs::remove_file(daemon.config()).unwrap();
    symlink("..data/proxy.toml", daemon.config()).unwrap();
    daemon.run();
    daemon.wait_ready();
    wait(&world, 0);
    for number in [1, 2] {
        version(&daemon, number);
        fs::remove_dir_all(dir.join(format!("..version{}", number - 1))).unwrap();
        wait(&world, number);
    }
    // What the link leads to now is written where it is.
    let there = dir.join("..data/proxy.toml");
    fs::write(there, daemon.complete(&to(1))).unwrap();
    wait(&world, 1);
    // What is saved goes there, too.
    daemon.ok(&[
        "target",
        "add",
        "proxy",
        &target(2),
        "--save",
    ]);
    let saved = fs::read_to_string(dir.join("..version2/proxy.toml")).unwrap();
    assert!(saved.contains(&target(2)), "{saved}");
    assert!(daemon.config().is_symlink());
}
