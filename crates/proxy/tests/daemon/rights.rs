//! What the daemon still may, and who may talk to it.

use crate::rig::support::people::who;
use crate::rig::support::world::World;
use crate::rig::{Daemon, SERVED, asked, target};
use bpfsmith_gate::needs;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

/// `CAP_NET_ADMIN`, `CAP_PERFMON` and `CAP_BPF`.
const KEPT: u64 = 1 << 12 | 1 << 38 | 1 << 39;

/// Capabilities of each thread by its name: those in effect with those that it could have.
#[track_caller]
fn capabilities(pid: u32) -> Vec<(String, u64)> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let threads = threads.filter_map(|thread| {
        // One may end meanwhile.
        let status = fs::read_to_string(thread.unwrap().path().join("status")).ok()?;
        let fields: BTreeMap<&str, &str> = status
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name, value.trim()))
            .collect();
        assert_eq!(fields["NoNewPrivs"], "1", "{}", fields["Name"]);
        let caps = ["CapEff", "CapPrm", "CapInh", "CapAmb"]
            .map(|it| u64::from_str_radix(fields[it], 16).unwrap());
        Some((
            fields["Name"].to_owned(),
            caps.iter().fold(0, |all, it| all | it),
        ))
    });
    threads.collect()
}

/// No thread may more than what programs need, and those that talk to strangers may nothing.
#[test]
fn rights_are_given_up() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 2);
    let _servers = world.serve(SERVED);
    let mut daemon = Daemon::prepare(&world, "port = 80\ntarget = \"10.20.0.2:8080\"\n");
    let config = format!(
        r#"port = 80
targets = ["10.20.0.2:8080"]
health = "tcp"
[settings]
events = true
metrics = "127.0.0.1:9100"
access_log = {{ path = "{}" }}
"#,
        daemon.dir().join("access.log").display()
    );
    fs::write(daemon.config(), daemon.complete(&config)).unwrap();
    daemon.restart();
    let check = |daemon: &Daemon<'_>| {
        let all = capabilities(daemon.pid());
        let mut powerless = 0;
        for (name, caps) in &all {
            assert_eq!(caps & !KEPT, 0, "{name}: {caps:x} of {all:?}");
            let is_powerless = [
                "names-",
                "checks",
                "health",
                "events",
                "access log",
            ]
            .iter()
            .any(|it| name.starts_with(it));
            if is_powerless {
                assert_eq!(*caps, 0, "{name}: {caps:x}");
                powerless += 1;
            }
        }
        assert!(powerless >= 10, "{all:?}");
    };
    check(&daemon);
    // It can still do all that it has to, and so can the next one, which adopts.
    daemon.ok(&["target", "add", "proxy", &target(1)]);
    daemon.ok(&[
        "set",
        "settings.access_log.format",
        "common",
    ]);
    check(&daemon);
    who(&world.client().node, asked(80));
    daemon.kill9();
    daemon.restart();
    check(&daemon);
    daemon.ok(&[
        "target",
        "remove",
        "proxy",
        &target(1),
        "--save",
    ]);
    who(&world.client().node, asked(80));
}

/// Nobody else may use the socket.
#[test]
fn the_socket_is_its_owners() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 1);
    let daemon = Daemon::start(&world, "port = 80\ntarget = \"10.20.0.2:8080\"\n");
    let mode = |daemon: &Daemon<'_>| {
        let about = fs::symlink_metadata(daemon.socket()).unwrap();
        about.permissions().mode() & 0o7777
    };
    assert_eq!(mode(&daemon), 0o600);
    let ask = |daemon: &Daemon<'_>| {
        let mut command = daemon.command();
        command.arg("status").uid(65534).gid(65534);
        command.output().unwrap()
    };
    let output = ask(&daemon);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("EACCES"), "{said}");
    // Not even where the file lets everybody in.
    fs::set_permissions(daemon.socket(), fs::Permissions::from_mode(0o666)).unwrap();
    let output = ask(&daemon);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code().is_some_and(|code| code != 0), "{said}");
    assert!(output.stdout.is_empty(), "{output:?}");
    daemon.ok(&["status"]);
}
