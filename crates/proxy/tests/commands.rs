//! Command lines: what they ask for, and what is said of those that are wrong.

use bpfsmith_config::desired::{Algorithm, Desired, Nat, Protocol, Settings};
use bpfsmith_config::{Value, json};
use bpfsmith_datapath::connections::State;
use bpfsmith_datapath::event::Kind as EventKind;
use bpfsmith_proxy::commands::parse::{
    Adding, Colors, Command, Conns, Form, Input, Offer, Output, Peer, Prefix, Text, Topic,
};
use bpfsmith_proxy::commands::table;
use bpfsmith_proxy::commands::words::{By, Format, Sort};
use bpfsmith_proxy::commands::{Parsed, Surroundings, UsageError, parse};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn asked(line: &str) -> Result<Parsed, UsageError> {
    parsed(line.split_whitespace())
}

fn parsed<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Parsed, UsageError> {
    let args = words.into_iter().map(OsString::from).collect();
    parse(args, &Surroundings::default())
}

fn command(line: &str) -> Command {
    asked(line)
        .unwrap_or_else(|error| panic!("{line}: {error}"))
        .command
}

/// What is in the command, if it is that one.
macro_rules! only {
    ($name:ident in $line:expr) => {
        match command($line) {
            Command::$name(it) => it,
            other => panic!("{other:?}"),
        }
    };
}

#[test]
fn usual_places_are_those_of_the_configuration() {
    let usual = Settings::default();
    assert_eq!(usual.control, Path::new(table::SOCKET));
    assert_eq!(usual.pins, Path::new(table::PINS));
}

#[test]
fn options_of_all_commands_stand_anywhere() {
    let before = asked("--socket /run/x --json --no-color status").unwrap();
    let behind = asked("status --no-color --json --socket=/run/x").unwrap();
    assert_eq!(before, behind);
    assert_eq!(before.globals.socket_path(), Path::new("/run/x"));
    assert_eq!(before.globals.form, Form::Json);
    assert_eq!(before.globals.colors, Colors::Never);
    let between = asked("route --json add web 10.0.0.0/8 --group g").unwrap();
    assert_eq!(between.globals.form, Form::Json);
    let plain = asked("status").unwrap().globals;
    assert_eq!(plain.socket, None);
    assert_eq!(plain.socket_path(), Path::new(table::SOCKET));
}

#[test]
fn the_command_line_counts_more_than_the_environment() {
    let read = |surroundings: &Surroundings, words: &[&str]| {
        let args = words.iter().map(OsString::from).collect();
        parse(args, surroundings).unwrap().globals
    };
    let full = Surroundings {
        socket: Some("/run/env".into()),
        no_color: Some("1".into()),
    };
    assert_eq!(
        read(&full, &["status"]).socket_path(),
        Path::new("/run/env")
    );
    assert_eq!(read(&full, &["status"]).colors, Colors::Never);
    let said = read(&full, &["status", "--socket", "x"]);
    assert_eq!(said.socket_path(), Path::new("x"));
    let empty = Surroundings {
        socket: Some("".into()),
        no_color: Some("".into()),
    };
    assert_eq!(read(&empty, &["status"]).socket, None);
    assert_eq!(read(&empty, &["status"]).colors, Colors::Terminal);
}

#[test]
fn help_is_there_wherever_one_asks() {
    let topic = |line: &str| only!(Help in line).name();
    assert_eq!(topic("--help"), None);
    assert_eq!(topic("help"), None);
    assert_eq!(topic("-h --json"), None);
    assert_eq!(topic("add -h"), Some("add"));
    assert_eq!(topic("add --prot 80 --help"), Some("add"));
    assert_eq!(topic("--help add"), Some("add"));
    assert_eq!(topic("help route"), Some("route"));
    assert_eq!(topic("route --help"), Some("route"));
    assert_eq!(topic("route add --help"), Some("route add"));
    assert_eq!(topic("help route add"), Some("route add"));
    assert_eq!(topic("help help"), Some("help"));
    assert_ne!(Command::Help(Topic::Overview), command("help add"));
    // Behind two dashes it is a file of that name.
    let check = only!(Check in "check --format toml -- --help");
    assert_eq!(check.texts[0].input, Input::File("--help".into()));
}

#[test]
fn versions() {
    for line in [
        "version",
        "--version",
        "-V",
        "--json -V",
    ] {
        assert_eq!(command(line), Command::Version, "{line}");
    }
}

#[test]
fn configurations_have_a_usual_place() {
    let run = only!(Run in "run");
    assert_eq!(run.config, Path::new("/etc/bpfsmith-proxy.toml"));
    assert_eq!(command("run x.toml"), command("run --config x.toml"));
    assert_eq!(command("run x.toml"), command("run -c x.toml"));
    assert_eq!(only!(Doctor in "doctor").config, None);
}

#[test]
fn files_say_what_they_are_written_in() {
    let text = |input, format| Text { input, format };
    let file = |path: &str| Input::File(PathBuf::from(path));
    let wanted = [
        text(file("a.toml"), Format::Toml),
        text(file("b.json"), Format::Json),
        text(file("c.edn"), Format::Edn),
        text(Input::Stdin, Format::Toml),
    ];
    assert_eq!(only!(Check in "check a.toml b.json c.edn -").texts, wanted);
    let wanted = [
        text(file("a"), Format::Json),
        text(Input::Stdin, Format::Json),
    ];
    assert_eq!(only!(Check in "check --format json a -").texts, wanted);
    let import = only!(Import in "import lb.edn --output -");
    assert_eq!(
        (import.input, import.output),
        (file("lb.edn"), Output::Stdout)
    );
    // A path need not be text.
    let args = vec![
        "import".into(),
        OsString::from_vec(vec![0xff]),
    ];
    assert!(parse(args, &Surroundings::default()).is_ok());
}

#[test]
fn connections_are_chosen() {
    let line = "conns --client 10.0.0.0/8 --target [fd00::1]:80 --proxy web --state closing \
                --sort bytes --by target -n 10";
    let wanted = Conns {
        client: Some(Prefix {
            address: "10.0.0.0".parse().unwrap(),
            bits: 8,
        }),
        target: Some(Peer {
            address: "fd00::1".parse().unwrap(),
            port: Some(80),
        }),
        proxy: Some("web".to_owned()),
        state: Some(State::Closing),
        sort: Some(Sort::Bytes),
        by: Some(By::Target),
        limit: Some(10),
        ..Conns::default()
    };
    assert_eq!(command(line), Command::Conns(wanted));
    let conns = only!(Conns in "conns --client fd00::1 --target 10.0.0.1");
    assert_eq!(conns.client.map(|it| it.bits), Some(128));
    assert_eq!(conns.target.map(|it| it.port), Some(None));
    assert_eq!((conns.client_port, conns.is_open), (None, false));
    let one = "conns --open --protocol tcp --client [fd00::1]:7 --service 10.0.0.1:80";
    let one = only!(Conns in one);
    assert_eq!(one.client.map(|it| it.bits), Some(128));
    assert_eq!((one.client_port, one.is_open), (Some(7), true));
    assert_eq!(one.service.map(|it| it.port), Some(Some(80)));
    assert_eq!(one.protocol, Some(Protocol::Tcp));
}

#[test]
fn kinds_of_events_come_in_lists_and_again() {
    let kinds = [
        EventKind::New,
        EventKind::Closed,
        EventKind::Refused,
    ];
    for line in [
        "events --kind refused,new -k closed",
        "events -k closed,new,new,refused",
    ] {
        assert_eq!(only!(Events in line).kinds, kinds, "{line}");
    }
}

#[test]
fn times_are_those_of_configurations() {
    for (text, time) in [
        ("2", Duration::from_secs(2)),
        ("500ms", Duration::from_millis(500)),
        ("1m", Duration::from_secs(60)),
    ] {
        let top = only!(Top in &format!("top --interval {text} --once"));
        assert_eq!((top.interval, top.is_once), (time, true));
    }
    for wrong in [
        "0",
        "0s",
        "-1",
        "1.5",
        "s",
        "1y",
        "99999999999999999999",
    ] {
        assert!(
            asked(&format!("top --interval={wrong}")).is_err(),
            "{wrong}"
        );
    }
}

#[test]
fn proxies_are_what_the_configuration_calls_so() {
    let line = "add web -p 80 -a 192.0.2.1 -a 2001:db8::1 -d eth0 --protocol tcp --protocol udp \
                -t 10.0.0.1:8080*3 -t app.example:80 -t [fd00::1]:80*1 --algorithm fewest \
                --nat full --save";
    let add = only!(Add in line);
    assert!(add.is_saved);
    let Adding::Offer(name, offer) = add.what else {
        panic!()
    };
    let value = offer.value(Some(&name));
    insta::assert_snapshot!(json::write(&value));
    // The configuration reads it, and there is nothing in it that it does not know.
    let desired = Desired::read(&Value::table([("proxies", Value::list([value]))])).unwrap();
    let proxy = &desired.proxies[0];
    assert_eq!((proxy.port, proxy.addresses.len()), (80, 2));
    let group = &desired.groups[0];
    let weights: Vec<_> = group.targets.iter().map(|it| it.weight).collect();
    assert_eq!(weights, [3, 1, 1]);
    assert_eq!((group.algorithm, group.nat), (Algorithm::Fewest, Nat::Full));
}

#[test]
fn updates_say_only_what_changes() {
    let update = only!(Update in "update web --group blue");
    let group = Value::table([("group", Value::from("blue"))]);
    assert_eq!(update.offer.value(None), group);
    let update = only!(Update in "update web --port 81 --nat direct");
    let value = json::write(&update.offer.value(None));
    assert_eq!(value, r#"{"port":81,"nat":"direct"}"#);
    assert_eq!(Offer::default().value(None), Value::table::<&str>([]));
}

#[test]
fn routes_are_what_the_configuration_calls_so() {
    for answer in [
        "--group g",
        "-t 10.0.0.1:80*2 --algorithm turns",
    ] {
        let route = only!(RouteAdd in &format!("route add web 10.1.0.0/16 {answer}"));
        let proxy = Value::table([
            ("name", Value::from(route.proxy.as_str())),
            ("port", 80_u16.into()),
            ("target", Value::from("10.0.0.9:80")),
            ("routes", Value::list([route.value()])),
        ]);
        let targets = Value::list([Value::from("10.0.0.3:80")]);
        let groups = Value::table([("g", Value::table([("targets", targets)]))]);
        let all = Value::table([
            ("proxies", Value::list([proxy])),
            ("groups", groups),
        ]);
        let desired = Desired::read(&all).unwrap();
        assert_eq!(desired.proxies[0].routes[0].sources, [route.source]);
    }
    let target = only!(TargetAdd in "target add g 10.0.0.1:80 -w 0");
    let value = json::write(&target.value());
    assert_eq!(value, r#"{"address":"10.0.0.1:80","weight":0}"#);
}

#[test]
fn values_are_set_as_what_they_look_like() {
    for (given, read) in [
        ("true", "true"),
        ("-5", "-5"),
        ("2.5", "2.5"),
        ("45s", "\"45s\""),
        ("007", "\"007\""),
        ("\"7\"", "\"7\""),
        ("[\"a\"]", "[\"a\"]"),
        ("{\"rate\": 5}", "{\"rate\":5}"),
        ("null", "null"),
        ("", "\"\""),
        ("10.0.0.1:80", "\"10.0.0.1:80\""),
    ] {
        let Command::Set(set) = parsed(["set", "a.b.c", given]).unwrap().command else {
            panic!()
        };
        assert_eq!(set.path, ["a", "b", "c"]);
        assert_eq!(json::write(&set.value), read, "{given}");
    }
}

#[test]
fn what_is_wrong_is_said_in_a_line() {
    let mut told = String::new();
    for line in include_str!("commands_wrong.txt").lines() {
        let error = asked(line).expect_err(line);
        let shown = error.to_string();
        assert!(!shown.contains('\n'));
        told += &format!("$ {line}\n{shown}\n");
    }
    insta::assert_snapshot!(told);
}

#[test]
fn odd_arguments_stay_one_line() {
    for odd in [
        "a\nb",
        "\u{1b}[31m",
        "",
        "a b",
        &"x".repeat(5000),
    ] {
        let shown = parsed([odd]).unwrap_err().to_string();
        assert!(
            shown.len() < 300 && !shown.contains(['\n', '\u{1b}']),
            "{shown}"
        );
    }
}
