//! What is wrong is refused, and nothing has changed then.

use crate::rig::support::people::{Session, who};
use crate::rig::support::world::World;
use crate::rig::{Daemon, SERVED, asked, target};
use bpfsmith_gate::needs;
use std::fs;

const CONFIG: &str = r#"
[[proxies]]
name = "web"
port = 80
group = "web"

[groups.web]
targets = ["10.20.0.2:8080"]

[groups.empty]
targets = []
"#;

/// Changes that contradict themselves, the configuration or the world.
#[test]
fn wrong_changes_change_nothing() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 2);
    let _servers = world.serve(SERVED);
    let daemon = Daemon::start(&world, CONFIG);
    let client = &world.client().node;
    let mut session = Session::open(client, asked(80)).unwrap();
    let (generation, config) = (daemon.generation(), daemon.ok(&["config"]));
    let answers = target(1);
    let wrong: &[(&[&str], &str)] = &[
        (
            &[
                "route",
                "add",
                "web",
                "10.10.0.10",
                "--group",
                "nothing",
            ],
            "nothing",
        ),
        (
            &[
                "route",
                "add",
                "nobody",
                "10.10.0.10",
                "--group",
                "web",
            ],
            "nobody",
        ),
        (&["route", "remove", "web", "10.9.0.0/16"], "10.9.0.0/16"),
        (
            &[
                "add", "twin", "--port", "80", "--target", &answers,
            ],
            "twin",
        ),
        (
            &[
                "add", "web", "--port", "81", "--target", &answers,
            ],
            "web",
        ),
        (
            &[
                "add", "dev", "--port", "81", "--device", "nothing0", "--target", &answers,
            ],
            "nothing0",
        ),
        (
            &[
                "add",
                "six",
                "--port",
                "81",
                "--address",
                "fd99::1",
                "--target",
                &answers,
            ],
            "IPv6",
        ),
        (
            &[
                "add", "lost", "--port", "81", "--group", "nothing",
            ],
            "nothing",
        ),
        (&["remove", "nobody"], "nobody"),
        (&["update", "nobody", "--port", "81"], "nobody"),
        (&["update", "web", "--group", "nothing"], "nothing"),
        (&["target", "add", "nothing", &answers], "nothing"),
        (&["target", "remove", "web", &answers], &answers),
        (&["set", "settings.flows", "0"], "flows"),
        (&["set", "settings.flws", "1024"], "flws"),
        (
            &[
                "set",
                "settings.devices",
                "[\"nothing0\"]",
            ],
            "nothing0",
        ),
        (&["set", "groups.web.algorithm", "best"], "maglev"),
        (&["drain", &answers], &answers),
    ];
    for (args, word) in wrong {
        let output = daemon.cli(args);
        let said = String::from_utf8(output.stderr).unwrap();
        let code = output.status.code().unwrap();
        assert!(code == 1 || code == 4, "{args:?}: {code}: {said}");
        assert!(said.contains(word), "{args:?}: {said}");
        assert_eq!(daemon.generation(), generation, "{args:?}");
        assert_eq!(daemon.ok(&["config"]), config, "{args:?}");
        session.echo(b"as if nothing had been").unwrap();
        assert_eq!(who(client, asked(80)), "b0", "{args:?}");
    }
    assert_eq!(fs::read_to_string(daemon.config()).unwrap(), config);
}

/// A configuration that is wrong from the beginning is told with its place, and nothing is left behind.
#[test]
fn a_wrong_file_is_no_beginning() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 1);
    let daemon = Daemon::prepare(&world, CONFIG);
    let right = fs::read_to_string(daemon.config()).unwrap();
    for (from, to, told) in [
        ("port = 80", "port = 80000", "port is 80000"),
        ("group = \"web\"", "group = \"wbe\"", "wbe"),
        ("\"front\"", "\"frnt\"", "frnt"),
    ] {
        let wrong = right.replace(from, to);
        assert_ne!(wrong, right);
        fs::write(daemon.config(), wrong).unwrap();
        let said = daemon.fails(4, &["run", daemon.config().to_str().unwrap()]);
        assert!(said.contains(told), "{said}");
        if told.starts_with("port") {
            let line = fs::read_to_string(daemon.config()).unwrap();
            let line = line.lines().position(|it| it == to).unwrap() + 1;
            assert!(said.contains(&format!("line {line}, column 8")), "{said}");
        }
        // The directory may be there, and is empty then.
        let left = fs::read_dir(daemon.pins()).map_or(0, Iterator::count);
        assert_eq!(left, 0);
    }
}
