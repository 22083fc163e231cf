//! Metrics and the access log.

use crate::rig::support::people::{Session, who};
use crate::rig::support::world::{LIMIT, World};
use crate::rig::{Daemon, SERVED, asked, at, number, target, text};
use bpfsmith_config::json;
use bpfsmith_gate::{deadline, needs};
use bpfsmith_proxy::http::{Client, Method};
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::path::Path;

/// What is answered over TCP at a path: the status, and the rest.
#[track_caller]
fn page(daemon: &Daemon<'_>, method: &str, path: &str) -> (u16, String) {
    let ask = || {
        let mut stream = TcpStream::connect("127.0.0.1:9100").unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let answer = daemon.at_home(ask);
    let status = answer.split_whitespace().nth(1).unwrap().parse().unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    (status, body.to_owned())
}

/// Counters of a page by name and labels, after a look at its form: each sample is of a family that has said what
/// it is and of which kind, each family is there once, and no sample twice.
#[track_caller]
fn counters(page: &str) -> BTreeMap<String, f64> {
    let (mut helped, mut kinds) = (BTreeMap::new(), BTreeMap::new());
    let (mut seen, mut counters) = (BTreeMap::new(), BTreeMap::new());
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').unwrap();
            assert!(helped.insert(name, text).is_none(), "{line}");
            continue;
        }
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(helped.contains_key(name) && kinds.insert(name, kind).is_none());
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
        assert!(seen.insert(sample, value).is_none(), "{line}");
        let name = sample.split('{').next().unwrap();
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .filter_map(|end| name.strip_suffix(end))
            .find(|it| kinds.contains_key(it))
            .unwrap_or(name);
        let kind = kinds.get(family).unwrap_or_else(|| panic!("{line}"));
        if name != sample {
            let labels = sample.strip_prefix(name).unwrap();
            assert!(labels.starts_with('{') && labels.ends_with("\"}"), "{line}");
        }
        match *kind {
            "counter" => assert!(family.ends_with("_total"), "{line}"),
            "histogram" => {}
            "gauge" => continue,
            other => panic!("{other}"),
        }
        counters.insert(sample.to_owned(), value);
    }
    counters
}

/// Counters never go back: neither with traffic, nor with a change.
#[test]
fn metrics_are_read_over_tcp() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 2);
    let _servers = world.serve(SERVED);
    let config = format!(
        "port = 80\ntargets = [\"{}\"]\n[settings]\nevents = true\nmetrics = \"127.0.0.1:9100\"\n\
         timeouts = {{ closed = \"1s\" }}\n",
        target(0)
    );
    let daemon = Daemon::start(&world, &config);
    let client = &world.client().node;
    let read = || {
        let (status, body) = page(&daemon, "GET", "/metrics");
        assert_eq!(status, 200, "{body}");
        counters(&body)
    };
    let mut before = read();
    let opened = "bpfsmith_proxy_proxy_connections_opened_total{proxy=\"proxy\"}";
    let ended = "bpfsmith_proxy_proxy_connections_ended_total{proxy=\"proxy\",end=\"closed\"}";
    for round in 1..=3_u8 {
        for _ in 0..5 {
            who(client, asked(80));
        }
        let after = deadline(LIMIT, || {
            let after = read();
            for (name, value) in &before {
                let later = after.get(name);
                assert!(later >= Some(value), "{name}: {value}, then {later:?}");
            }
            let all = f64::from(round) * 5.0;
            (after.get(opened) == Some(&all) && after.get(ended) == Some(&all)).then_some(after)
        });
        before = after;
        // Another generation counts on.
        daemon.ok(&[
            "target",
            "add",
            "proxy",
            &format!("10.20.1.2:{round}"),
        ]);
        daemon.ok(&[
            "target",
            "remove",
            "proxy",
            &format!("10.20.1.2:{round}"),
        ]);
    }
    let count = "bpfsmith_proxy_proxy_connection_duration_seconds_count{proxy=\"proxy\"}";
    let below =
        "bpfsmith_proxy_proxy_connection_duration_seconds_bucket{proxy=\"proxy\",le=\"+Inf\"}";
    assert_eq!((before[count], before[below]), (15.0, 15.0));
    assert!(
        before["bpfsmith_proxy_packets_total{reason=\"forwarded\"}"] > 15.0,
        "{before:?}"
    );
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/v1/status"),
        ("GET", "/v1/config"),
        ("GET", "/metrics/more"),
        ("POST", "/v1/reload"),
        ("POST", "/v1/drain"),
        ("GET", "/v1/metrics"),
    ] {
        let (status, body) = page(&daemon, method, path);
        assert!(
            (400..500).contains(&status),
            "{method} {path}: {status} {body}"
        );
        assert!(!body.contains("10.20.0.2"), "{body}");
    }
}

/// The lines of a log, when there are so many.
#[track_caller]
fn lines(path: &Path, count: usize) -> Vec<String> {
    deadline(LIMIT, || {
        let text = fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        (lines.len() >= count).then_some(lines)
    })
}

fn logged(path: &Path, more: &str) -> String {
    format!(
        "port = 80\ntargets = [\"{}\"]\n[settings.timeouts]\nclosed = \"1s\"\n\
         [settings.access_log]\npath = \"{}\"\n{more}\n",
        target(0),
        path.display()
    )
}

/// Each connection that ended is a line, in one form and then in the other, and in another file when the file was
/// moved away.
#[test]
fn connections_are_written_down() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 1);
    let _servers = world.serve(SERVED);
    let mut daemon = Daemon::prepare(&world, "port = 80\ntarget = \"10.20.0.2:8080\"\n");
    let path = daemon.dir().join("access.log");
    fs::write(daemon.config(), daemon.complete(&logged(&path, ""))).unwrap();
    daemon.restart();
    let client = &world.client().node;
    let session = Session::open(client, asked(80)).unwrap();
    let local = session.local();
    session.bulk(10_000, 20_000).unwrap();
    let line = &lines(&path, 1)[0];
    let value = json::read(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    assert_eq!(text(&value, &["client"]), local.to_string());
    assert_eq!(text(&value, &["target"]), target(0));
    assert_eq!(text(&value, &["proxy"]), "proxy");
    assert_eq!(text(&value, &["end"]), "closed");
    assert!(crate::rig::number(&value, &["back", "bytes"]) > 20_000);
    // Moved away, and made again when the daemon is told.
    let moved = daemon.dir().join("moved.log");
    fs::rename(&path, &moved).unwrap();
    daemon.signal(Signal::SIGUSR1);
    deadline(LIMIT, || path.exists().then_some(()));
    who(client, asked(80));
    assert_eq!(lines(&path, 1).len(), 1);
    assert_eq!(lines(&moved, 1).len(), 1);
    // In the other form from now on.
    daemon.ok(&[
        "set",
        "settings.access_log.format",
        "common",
    ]);
    who(client, asked(80));
    let line = lines(&path, 2).remove(1);
    let (from, rest) = line.split_once(" - - [").unwrap();
    assert_eq!(from, local.ip().to_string());
    let expected = format!("] \"TCP {} proxy {}\" closed ", asked(80), target(0));
    let (time, bytes) = rest
        .split_once(&expected)
        .unwrap_or_else(|| panic!("{line}"));
    assert!(time.ends_with(" +0000"), "{line}");
    assert!(bytes.parse::<u64>().unwrap() > 100, "{line}");
    // All that came is written when it ends.
    who(client, asked(80));
    deadline(LIMIT, || daemon.conns(&[]).is_empty().then_some(()));
    assert_eq!(daemon.end().code(), Some(0));
    assert_eq!(lines(&path, 3).len(), 3);
    // And what comes while there is none, when there is one again, as it was wanted last.
    who(client, asked(80));
    daemon.restart();
    let line = lines(&path, 4).remove(3);
    assert!(line.contains(&expected), "{line}");
    // The file says the other form.
    daemon.ok(&["reload"]);
    who(client, asked(80));
    let line = lines(&path, 5).remove(4);
    let value = json::read(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
    assert_eq!(text(&value, &["proxy"]), "proxy");
    assert_eq!(text(&value, &["end"]), "closed");
}

/// Events that come while nobody reads them are kept as long as there is room; how many are not is told, and those that come
/// later are read.
#[test]
fn more_events_than_there_is_room_for_are_counted() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    const ASKED: u16 = 10_000;
    let world = World::new(1, 1);
    let _servers = world.serve(SERVED);
    let daemon = Daemon::start(
        &world,
        "port = 80\nprotocol = \"udp\"\ntarget = \"10.20.0.2:8080\"\n[settings]\nevents = true\n",
    );
    // Those of a long life would come later.
    let client = Client::unix(daemon.socket());
    let wanted = client.request(Method::PUT, "/v1/events", br#"{"kinds": ["new"]}"#);
    assert!(wanted.unwrap().is_success());
    let ask = |port: u16| {
        let socket = UdpSocket::bind(("0.0.0.0", port)).unwrap();
        socket.connect(asked(80)).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        socket.send(b"who").unwrap();
        let mut answer = [0; 16];
        let length = socket.recv(&mut answer).unwrap();
        assert_eq!(&answer[..length], b"b0 who");
    };
    let client = &world.client().node;
    daemon.signal(Signal::SIGSTOP);
    client
        .run(|| (0..ASKED).for_each(|n| ask(20_000 + n)))
        .unwrap();
    daemon.signal(Signal::SIGCONT);
    let told = || {
        let status = daemon.status();
        let lost = number(&status, &["counters", "event lost"]);
        let read = number(&status, &["events", "read"]);
        (read, lost, status)
    };
    let (read, lost, status) = deadline(LIMIT, || {
        let (read, lost, status) = told();
        (read + lost == ASKED.into()).then_some((read, lost, status))
    });
    assert!(read > 4000 && lost > 100, "{read} read, {lost} lost");
    let notes = format!("{:?}", at(&status, &["notes"]));
    let note = format!("{lost} events found no room");
    assert!(notes.contains(&note), "{notes}");
    client.run(|| ask(19_999)).unwrap();
    deadline(LIMIT, || {
        let (now, still, _) = told();
        (now == read + 1 && still == lost).then_some(())
    });
}

/// A log that is full is moved on, and only so many are kept; no line is lost that is kept.
#[test]
fn logs_are_moved_on() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 1);
    let _servers = world.serve(SERVED);
    let mut daemon = Daemon::prepare(&world, "port = 80\ntarget = \"10.20.0.2:8080\"\n");
    let path = daemon.dir().join("access.log");
    let config = logged(&path, "format = \"common\"\nbytes = 4096\nfiles = 2");
    fs::write(daemon.config(), daemon.complete(&config)).unwrap();
    daemon.restart();
    let numbered = |number: u8| daemon.dir().join(format!("access.log.{number}"));
    let client = &world.client().node;
    // Each line has about 90 bytes: one file is full, and then another, and then one goes.
    deadline(LIMIT, || {
        for _ in 0..10 {
            who(client, asked(80));
        }
        (numbered(2).exists()).then_some(())
    });
    let oldest = fs::read_to_string(numbered(2)).unwrap();
    deadline(LIMIT, || {
        for _ in 0..10 {
            who(client, asked(80));
        }
        (fs::read_to_string(numbered(2)).unwrap() != oldest).then_some(())
    });
    assert!(!numbered(3).exists());
    for path in [numbered(1), numbered(2)] {
        // While files are moved on, the first is away.
        let text = deadline(LIMIT, || fs::read_to_string(&path).ok());
        assert!(text.len() <= 4096 && text.len() > 3000, "{}", text.len());
        assert!(text.ends_with('\n'));
        for line in text.lines() {
            assert!(line.contains("\"TCP 10.99.0.1:80 proxy "), "{line}");
        }
    }
}
