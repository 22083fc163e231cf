//! Files, logs and settings that are not as they should be, while the daemon runs.

use crate::rig::support::people::{try_who, who};
use crate::rig::support::world::{LIMIT, World};
use crate::rig::{Daemon, PROGRAM, SERVED, asked, target};
use bpfsmith_gate::{deadline, needs};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

fn on(port: u16) -> String {
    format!("port = {port}\ntarget = \"{}\"\n", target(0))
}

/// Waits until somebody answers at the port.
#[track_caller]
fn wait(world: &World, port: u16) {
    deadline(LIMIT, || try_who(&world.client().node, asked(port)).ok());
}

/// What is no file in the place of the file is told, once; the daemon neither waits for it nor forgets what it does,
/// and follows the file when there is one again.
#[test]
fn what_is_no_file_is_told() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 1);
    let _servers = world.serve(SERVED);
    let mut daemon = Daemon::start(&world, &on(80));
    let path = daemon.config();
    let new = path.with_extension("new");
    let mut told = 0;
    let right = |number: usize| {
        let text = format!("# {number}\n{}", daemon.complete(&on(80)));
        fs::write(&new, text).unwrap();
        fs::rename(&new, &path).unwrap();
        daemon.wait_log("reloaded: nothing", number);
    };
    let mut unreadable = |daemon: &Daemon<'_>, why: &str| {
        told += 1;
        daemon.wait_log("not reloaded", told);
        let log = daemon.log();
        let last = log.trim_end().rsplit('\n').next().unwrap();
        assert!(last.contains(why), "{why}: {last}");
        // It answers.
        daemon.fails(1, &["reload"]);
        assert_eq!(who(&world.client().node, asked(80)), "b0");
    };
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    unreadable(&daemon, "it is no file");
    fs::remove_dir(&path).unwrap();
    right(1);
    // Whoever opens a pipe waits for its other end.
    nix::unistd::mkfifo(&new, Mode::S_IRWXU).unwrap();
    fs::rename(&new, &path).unwrap();
    unreadable(&daemon, "it is no file");
    right(2);
    // The daemon may not read what is others'.
    fs::write(&new, daemon.complete(&on(81))).unwrap();
    std::os::unix::fs::chown(&new, Some(65534), Some(65534)).unwrap();
    fs::set_permissions(&new, Permissions::from_mode(0o600)).unwrap();
    fs::rename(&new, &path).unwrap();
    unreadable(&daemon, "Permission denied");
    // That it may now is a change.
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    wait(&world, 81);
    fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
    daemon.signal(Signal::SIGHUP);
    assert!(daemon.end().success());
}

/// Another directory with the name of the file's is followed, too.
#[test]
fn directories_are_followed() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 1);
    let _servers = world.serve(SERVED);
    let mut daemon = Daemon::prepare(&world, &on(80));
    let dir = daemon.dir().join("etc");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("proxy.toml"), daemon.complete(&on(80))).unwrap();
    // The command gets it as another file.
    daemon.run_as(|command| {
        *command = {
            let mut other = Command::new(PROGRAM);
            other.arg("run").arg(dir.join("proxy.toml"));
            other
        };
        command
    });
    daemon.wait_ready();
    for port in [81, 82] {
        fs::rename(&dir, daemon.dir().join(format!("old{port}"))).unwrap();
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("proxy.toml"), daemon.complete(&on(port))).unwrap();
        wait(&world, port);
    }
}

/// A log that cannot be opened refuses the whole change.
#[test]
fn a_log_that_cannot_be_opened_changes_nothing() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 1);
    let _servers = world.serve(SERVED);
    let daemon = Daemon::start(&world, &on(80));
    let (generation, config) = (daemon.generation(), daemon.ok(&["config"]));
    let bad = format!(
        "{}[settings]\naccess_log = {{ path = \"/nowhere/at/all\" }}\n",
        on(81)
    );
    fs::write(daemon.config(), daemon.complete(&bad)).unwrap();
    daemon.wait_log("not reloaded", 1);
    assert!(daemon.log().contains("access_log.path"), "{}", daemon.log());
    let said = daemon.fails(1, &["reload"]);
    assert!(said.contains("/nowhere/at/all"), "{said}");
    let json = "{\"path\": \"/nowhere/at/all\"}";
    daemon.fails(1, &["set", "settings.access_log", json]);
    assert_eq!(daemon.generation(), generation);
    assert_eq!(daemon.ok(&["config"]), config);
    let client = &world.client().node;
    assert_eq!(who(client, asked(80)), "b0");
    assert!(try_who(client, asked(81)).is_err());
    // The next one is not in its way.
    let good = bad.replace(
        "/nowhere/at/all",
        daemon.dir().join("log.json").to_str().unwrap(),
    );
    fs::write(daemon.config(), daemon.complete(&good)).unwrap();
    wait(&world, 81);
}

/// What only another process follows is told: to who changes it, in the log, and in the status.
#[test]
fn settings_of_the_process_are_told() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 1);
    let daemon = Daemon::start(&world, &on(80));
    let note = "note: settings.metrics is not followed yet";
    let said = daemon.ok(&[
        "set",
        "settings.metrics",
        "127.0.0.1:9100",
    ]);
    assert!(said.contains(note), "{said}");
    assert!(daemon.ok(&["status"]).contains(note));
    // Another change says so, too, until it is taken back.
    let said = daemon.ok(&["set", "settings.vlan", "true"]);
    assert!(said.contains(note), "{said}");
    let said = daemon.ok(&["reload"]);
    assert!(!said.contains("note"), "{said}");
    assert!(!daemon.ok(&["status"]).contains(note));
    for (name, value) in [
        ("metrics", "\"127.0.0.1:9100\""),
        ("control", "\"/run/elsewhere\""),
        ("pins", "\"/sys/fs/bpf/elsewhere\""),
        (
            "admin",
            "{ listen = \"127.0.0.1:9200\", token_file = \"/nowhere\" }",
        ),
    ] {
        let old = daemon.complete(&on(80));
        let kept = old
            .lines()
            .filter(|line| !line.starts_with(&format!("{name} =")));
        let kept: Vec<&str> = kept.collect();
        let text = format!("{}\n{name} = {value}\n", kept.join("\n"));
        fs::write(daemon.config(), text).unwrap();
        daemon.wait_log(&format!("note: settings.{name} is not followed yet"), 1);
    }
}

/// A file system with room for one page, in the mounts of this thread.
struct Small(PathBuf);

impl Small {
    #[track_caller]
    fn mount(path: PathBuf) -> Small {
        fs::create_dir(&path).unwrap();
        let mut command = Command::new("mount");
        command
            .args(["-t", "tmpfs", "-o", "size=4k", "none"])
            .arg(&path);
        assert!(command.status().unwrap().success());
        Small(path)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // The directory stays where it does not end.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// A disk that is full is told; what is lost is counted, and the log goes on when there is room.
#[test]
fn full_disks_are_told() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 1);
    let _servers = world.serve(SERVED);
    let mut daemon = Daemon::prepare(&world, &on(80));
    let small = Small::mount(daemon.dir().join("small"));
    let (log, filler) = (small.path().join("access.log"), small.path().join("filler"));
    fs::write(&filler, [0; 4096]).unwrap();
    let config = format!(
        "{}[settings]\naccess_log = {{ path = \"{}\" }}\ntimeouts = {{ closed = \"1s\" }}\n",
        on(80),
        log.display()
    );
    fs::write(daemon.config(), daemon.complete(&config)).unwrap();
    daemon.restart();
    let client = &world.client().node;
    who(client, asked(80));
    let status = deadline(LIMIT, || {
        Some(daemon.ok(&["status"])).filter(|it| it.contains("access.log"))
    });
    assert!(status.contains("No space left"), "{status}");
    assert_eq!(who(client, asked(80)), "b0");
    fs::remove_file(&filler).unwrap();
    // Both lines waited in memory.
    let lines = deadline(LIMIT, || {
        let text = fs::read_to_string(&log).unwrap();
        (text.lines().count() == 2).then_some(text)
    });
    assert!(lines.ends_with('\n'));
    deadline(LIMIT, || {
        (!daemon.ok(&["status"]).contains("access.log")).then_some(())
    });
}
