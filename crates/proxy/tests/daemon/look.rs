//! Commands that look: at connections, events, configurations, and files.

use crate::rig::support::people::{Session, datagrams, who};
use crate::rig::support::world::{LIMIT, World};
use crate::rig::{Daemon, PROGRAM, SERVED, asked, at, items, number, target, text};
use bpfsmith_config::json;
use bpfsmith_gate::{deadline, needs};
use bpfsmith_proxy::http::{Client, Method};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

const CONFIG: &str = r#"
[[proxies]]
name = "web"
port = 80
protocol = ["tcp", "udp"]
targets = ["10.20.0.2:8080"]

[[proxies]]
name = "other"
port = 81
targets = ["10.20.1.2:8080"]

[settings]
events = true
"#;

/// Connections are found by client, target, proxy and state, put together, and in order; the tables agree with what
/// went through.
#[test]
fn connections_are_found() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(2, 2);
    let _servers = world.serve(SERVED);
    let daemon = Daemon::start(&world, CONFIG);
    let node = |number: usize| &world.clients[number].node;
    let mut first = Session::open(node(0), asked(80)).unwrap();
    // Ages are as exact as the kernel's ticks.
    std::thread::sleep(std::time::Duration::from_millis(100));
    let _second = Session::open(node(1), asked(80)).unwrap();
    let _third = Session::open(node(1), asked(81)).unwrap();
    first.echo(&[7; 5000]).unwrap();
    let all = daemon.conns(&[]);
    assert_eq!(all.len(), 3, "{all:?}");
    let one = |args: &[&str]| -> String {
        let found = daemon.conns(args);
        let [one] = found.as_slice() else {
            panic!("{args:?}: {found:?}");
        };
        text(one, &["client"]).to_owned()
    };
    let local = first.local().to_string();
    assert_eq!(one(&["--client", "10.10.0.10"]), local);
    assert_eq!(one(&["--sort", "bytes", "--limit", "1"]), local);
    let other = one(&["--proxy", "other"]);
    assert!(other.starts_with("10.10.0.11:"), "{other}");
    assert_eq!(one(&["--target", &target(1)]), other);
    let found = &daemon.conns(&["--client", "10.10.0.10"])[0];
    assert_eq!(text(found, &["service"]), asked(80).to_string());
    assert_eq!(text(found, &["target"]), target(0));
    assert_eq!(text(found, &["state"]), "established");
    assert_eq!(text(found, &["proxy"]), "web");
    assert!(number(found, &["there", "bytes"]) > 5000);
    assert!(number(found, &["back", "bytes"]) > 5000);
    // The oldest is the first, where nobody says otherwise.
    let oldest = text(&all[0], &["client"]);
    assert_eq!(oldest, local);
    // One alone, by its addresses: as a command, and as a request.
    let service = asked(80).to_string();
    let this = [
        "--protocol",
        "tcp",
        "--client",
        &local,
        "--service",
        &service,
    ];
    assert_eq!(one(&this), local);
    let there = number(found, &["there", "bytes"]);
    let client = Client::unix(daemon.socket());
    let of = |service: &str| {
        let path = format!("/v1/connections/tcp/{local}/{service}");
        let reply = client.request(Method::GET, &path, b"").unwrap();
        let body = String::from_utf8(reply.body.clone()).unwrap();
        (reply.status, json::read(body.trim()).unwrap())
    };
    let (status, answer) = of(&service);
    assert_eq!(status, 200, "{answer:?}");
    assert_eq!(text(&answer, &["client"]), local);
    assert_eq!(number(&answer, &["there", "bytes"]), there);
    let (status, answer) = of("10.99.0.1:82");
    assert_eq!(status, 404, "{answer:?}");
    assert!(text(&answer, &["error"]).contains(&local), "{answer:?}");
    assert_eq!(of("10.99.0.1").0, 400);
    assert_eq!(daemon.conns(&["--service", "10.99.0.1"]).len(), 3);
    assert_eq!(daemon.conns(&["--protocol", "udp"]).len(), 0);
    let listeners = daemon.json(&["conns", "--by", "listener"]);
    let sums = items(at(&listeners, &["sums"]));
    let sums = sums
        .iter()
        .map(|it| (text(it, &["name"]), number(it, &["connections"])));
    let sums: Vec<_> = sums.collect();
    assert_eq!(
        sums,
        [
            ("0.0.0.0:80/tcp", 2),
            ("0.0.0.0:81/tcp", 1)
        ]
    );
    let sources = daemon.json(&["conns", "--by", "source"]);
    assert_eq!(items(at(&sources, &["sums"])).len(), 2, "{sources:?}");
    assert_eq!(daemon.conns(&["--state", "closed"]).len(), 0);
    for args in [
        &["conns"][..],
        &["conns", "--by", "target"],
        &["status"],
    ] {
        let text = daemon.ok(args);
        assert!(text.contains(&target(1)), "{args:?}: {text}");
    }
    let shown = daemon.target("web", &target(0)).unwrap();
    assert_eq!(number(&shown, &["connections"]), 2);
    // What is over is remembered, but not open.
    first.end().unwrap();
    deadline(LIMIT, || {
        (daemon.conns(&["--open"]).len() == 2).then_some(())
    });
    assert_eq!(daemon.conns(&[]).len(), 3);
    let said = daemon.ok(&["conns"]);
    assert!(said.ends_with("\n3 connections, 2 open\n"), "{said}");
}

/// Events come as they happen, as JSON and as text, and those alone that are asked for.
#[test]
fn events_are_told() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 2);
    let _servers = world.serve(SERVED);
    let daemon = Daemon::start(&world, CONFIG);
    let client = &world.client().node;
    let all = daemon.follow(&[]);
    let ends = daemon.follow(&["--kind", "closed", "--proxy", "other"]);
    let mut command = daemon.command();
    command.args(["events", "--follow"]).stdout(Stdio::piped());
    // It begins to listen some time after it was started: until then events are made again.
    let is_new = |it: &bpfsmith_config::Value| text(it, &["event"]) == "new";
    let mut sessions = Vec::new();
    deadline(LIMIT, || {
        sessions.push(Session::open(client, asked(80)).unwrap());
        all.next_within_a_second().filter(is_new)
    });
    let session = Session::open(client, asked(80)).unwrap();
    let local = session.local().to_string();
    let is_mine = |it: &bpfsmith_config::Value| text(it, &["client"]) == local;
    let new = all.find(is_mine);
    assert_eq!(text(&new, &["event"]), "new");
    assert_eq!(text(&new, &["proxy"]), "web");
    assert_eq!(text(&new, &["target"]), target(0));
    session.end().unwrap();
    let closed = all.find(|it| is_mine(it) && !is_new(it));
    assert_eq!(text(&closed, &["event"]), "closed");
    assert_eq!(text(&closed, &["end"]), "closed");
    assert!(number(&closed, &["there", "bytes"]) > 0);
    // What is not asked for does not come in between.
    let heard = deadline(LIMIT, || {
        who(client, asked(80));
        who(client, asked(81));
        ends.next_within_a_second()
    });
    assert_eq!(text(&heard, &["proxy"]), "other");
    assert_eq!(text(&heard, &["event"]), "closed");
    let read = number(&daemon.status(), &["events", "read"]);
    assert!(read > 4, "{read}");
    let _ = datagrams(client, asked(80)).send(b"one more");
}

/// The configuration is printed as it was written, and as JSON.
#[test]
fn the_configuration_is_printed() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 2);
    let daemon = Daemon::start(&world, CONFIG);
    let file = fs::read_to_string(daemon.config()).unwrap();
    assert_eq!(daemon.ok(&["config"]), file);
    let config = daemon.json(&["config"]);
    assert_eq!(text(&config, &["proxies", "1", "name"]), "other");
    let status = daemon.status();
    assert_eq!(items(at(&status, &["devices"])).len(), 3);
    assert_eq!(number(&status, &["pid"]), i64::from(daemon.pid()));
    assert!(
        daemon
            .ok(&["--version"])
            .contains(env!("CARGO_PKG_VERSION"))
    );
}

/// Each exit code is given, with a reason.
#[test]
fn exit_codes_say_what_happened() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 2);
    let daemon = Daemon::start(&world, CONFIG);
    let right = daemon.dir().join("right.toml");
    fs::write(&right, "port = 80\ntarget = \"10.0.0.1:80\"\n").unwrap();
    let said = daemon.ok(&["check", right.to_str().unwrap()]);
    assert!(said.contains("right.toml"), "{said}");
    let wrong = daemon.dir().join("wrong.toml");
    fs::write(&wrong, "port = 80\ntarget = \"10.0.0.1:80\"\nprt = 1\n").unwrap();
    let said = daemon.fails(4, &["check", wrong.to_str().unwrap()]);
    assert!(
        said.contains("wrong.toml") && said.contains("line 3, column 1") && said.contains("prt"),
        "{said}"
    );
    let said = daemon.fails(1, &["check", "/nowhere/at/all.toml"]);
    assert!(said.contains("/nowhere/at/all.toml"), "{said}");
    let said = daemon.fails(2, &["conns", "--limit", "many"]);
    assert!(said.contains("whole number"), "{said}");
    let said = daemon.fails(2, &["chek"]);
    assert!(said.contains("check"), "{said}");
    let mut command = Command::new(PROGRAM);
    let output = command
        .args(["--socket", "/nowhere/at/all", "status"])
        .output();
    let output = output.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("/nowhere/at/all"), "{said}");
    daemon.fails(1, &["drain", "10.1.1.1:1"]);
}

/// A second daemon with the same names in the kernel is refused, and the first goes on.
#[test]
fn there_is_one_daemon() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 2);
    let _servers = world.serve(SERVED);
    let daemon = Daemon::start(&world, CONFIG);
    let run = |socket: PathBuf| {
        let mut command = Command::new(PROGRAM);
        command.arg("--socket").arg(socket).arg("run");
        command.arg(daemon.config()).stdin(Stdio::null());
        let output = daemon.at_home(|| command.output()).unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&daemon.pid().to_string()), "{said}");
        said
    };
    let said = run(daemon.socket());
    assert!(said.contains("serves there"), "{said}");
    let said = run(daemon.dir().join("another"));
    assert!(said.contains("is another proxy's"), "{said}");
    assert_eq!(who(&world.client().node, asked(80)), "b0");
    let said = daemon.fails(
        1,
        &[
            "detach",
            "--pins",
            daemon.pins().to_str().unwrap(),
        ],
    );
    assert!(said.contains(&daemon.pid().to_string()), "{said}");
    assert_eq!(who(&world.client().node, asked(80)), "b0");
    assert!(json::read(&daemon.ok(&["status", "--json"])).is_ok());
}
