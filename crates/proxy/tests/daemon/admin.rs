//! HTTP from strangers, and from friends who do not behave.

use crate::rig::support::people::who;
use crate::rig::support::world::{LIMIT, World};
use crate::rig::{Daemon, PROGRAM, SERVED, asked, target};
use bpfsmith_gate::{deadline, needs};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};

const TOKEN: &str = "Zm9yIG5vYm9keSBidXQgbWU=";

/// What comes back for these bytes, until the other end closes: the status of the first answer, and all of it.
#[track_caller]
fn answer(mut stream: impl Read + Write, bytes: &[u8]) -> (u16, String) {
    // It may be refused before everything is sent.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    // What was answered before a reset counts.
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split_whitespace().nth(1).unwrap_or("0");
    (status.parse().unwrap(), answer)
}

#[track_caller]
fn tcp(daemon: &Daemon<'_>, port: u16) -> TcpStream {
    let stream = daemon.at_home(|| TcpStream::connect(("127.0.0.1", port)).unwrap());
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

#[track_caller]
fn unix(daemon: &Daemon<'_>) -> UnixStream {
    let stream = UnixStream::connect(daemon.socket()).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

fn request(line: &str, fields: &str, body: &str) -> Vec<u8> {
    format!(
        "{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n{fields}\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn config(daemon: &Daemon<'_>, more: &str) -> String {
    daemon.complete(&format!(
        "port = 80\ntarget = \"{}\"\n[settings]\nevents = true\nmetrics = \"127.0.0.1:9100\"\n{more}",
        target(0)
    ))
}

fn admin(daemon: &Daemon<'_>) -> String {
    let token = daemon.dir().join("token");
    format!(
        "admin = {{ listen = \"127.0.0.1:9200\", token_file = \"{}\" }}\n",
        token.display()
    )
}

/// Over TCP, who has the token may everything, and who has not may nothing.
#[test]
fn over_tcp_it_takes_the_token() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 1);
    let _servers = world.serve(SERVED);
    let mut daemon = Daemon::prepare(&world, "port = 80\ntarget = \"10.20.0.2:8080\"\n");
    fs::write(daemon.config(), config(&daemon, &admin(&daemon))).unwrap();
    fs::write(daemon.dir().join("token"), format!("{TOKEN}\n")).unwrap();
    daemon.restart();
    let proxy = format!(
        "{{\"name\": \"more\", \"port\": 81, \"target\": \"{}\"}}",
        target(0)
    );
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let (other, shorter) = (TOKEN.replace('Z', "z"), &TOKEN[1..]);
    let (longer, long) = (format!("{TOKEN}="), "x".repeat(15_000));
    for fields in [
        String::new(),
        bearer(""),
        bearer(&other),
        bearer(shorter),
        bearer(&longer),
        bearer(&long),
        format!("Authorization: Basic {TOKEN}\r\n"),
        format!("Cookie: {TOKEN}\r\n"),
    ] {
        for line in [
            "GET /v1/status",
            "GET /v1/config",
            "GET /metrics",
            "POST /v1/proxies",
        ] {
            let (status, said) = answer(tcp(&daemon, 9200), &request(line, &fields, &proxy));
            assert_eq!(status, 401, "{line} {fields:.40}: {said}");
            assert!(
                !said.contains("10.20.0.2") && !said.contains(TOKEN),
                "{said}"
            );
        }
    }
    let twice = bearer(TOKEN) + &bearer("x");
    assert_eq!(
        answer(tcp(&daemon, 9200), &request("GET /v1/status", &twice, "")).0,
        400
    );
    let (status, said) = answer(
        tcp(&daemon, 9200),
        &request("POST /v1/proxies", &bearer(TOKEN), &proxy),
    );
    assert_eq!(status, 200, "{said}");
    assert_eq!(who(&world.client().node, asked(81)), "b0");
    let (status, said) = answer(
        tcp(&daemon, 9200),
        &request("GET /v1/config", &bearer(TOKEN), ""),
    );
    assert!(status == 200 && said.contains("more"), "{said}");
    for page in [
        said,
        daemon.ok(&["status"]),
        daemon.log(),
    ] {
        assert!(!page.contains(TOKEN), "{page}");
    }
    // The token opens nothing where there is none.
    let counters = request("GET /v1/status", &bearer(TOKEN), "");
    assert_eq!(answer(tcp(&daemon, 9100), &counters).0, 403);
}

/// A token that is none, or could be guessed, is told before anything is done.
#[test]
fn bad_tokens_are_told_at_the_beginning() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 1);
    let daemon = Daemon::prepare(&world, "port = 80\ntarget = \"10.20.0.2:8080\"\n");
    fs::write(daemon.config(), config(&daemon, &admin(&daemon))).unwrap();
    let path = daemon.config();
    for (token, why) in [
        (None, "No such file"),
        (Some(""), "less than 16"),
        (Some("short"), "less than 16"),
        (Some("two words are no token"), "letters, digits"),
    ] {
        if let Some(token) = token {
            fs::write(daemon.dir().join("token"), token).unwrap();
        }
        let said = daemon.fails(1, &["run", path.to_str().unwrap()]);
        assert!(said.contains(why) && said.contains("token_file"), "{said}");
        assert!(!daemon.pins().exists(), "{token:?}: something is done");
    }
}

/// A place for commands or counters that cannot be had is told before anything is done.
#[test]
fn bad_places_are_told_at_the_beginning() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 1);
    let daemon = Daemon::prepare(&world, "port = 80\ntarget = \"10.20.0.2:8080\"\n");
    let text = config(&daemon, "");
    fs::write(daemon.dir().join("file"), "precious").unwrap();
    let _served = UnixListener::bind(daemon.dir().join("served")).unwrap();
    let control = |name: &str| {
        let path = daemon.dir().join(name);
        text.replace(daemon.socket().to_str().unwrap(), path.to_str().unwrap())
    };
    let pid = format!("process {} serves", std::process::id());
    for (text, why) in [
        (control("nowhere/socket"), "ENOENT"),
        (control("file"), "no socket"),
        (control("served"), &*pid),
        (
            text.replace("127.0.0.1:9100", "10.77.7.7:9100"),
            "EADDRNOTAVAIL",
        ),
    ] {
        fs::write(daemon.config(), text).unwrap();
        // Commands of the rig name the socket.
        let mut command = Command::new(PROGRAM);
        command.arg("run").arg(daemon.config()).stdin(Stdio::null());
        let output = daemon.at_home(|| command.output()).unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(why), "{said}");
        assert!(!daemon.pins().exists(), "{why}: something is done");
    }
    assert_eq!(fs::read(daemon.dir().join("file")).unwrap(), b"precious");
    assert!(!daemon.socket().exists());
}

/// A port below 1024 takes a right that the daemon gives up as soon as it has the port.
#[test]
fn low_ports_are_taken() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 1);
    let mut daemon = Daemon::prepare(&world, "port = 80\ntarget = \"10.20.0.2:8080\"\n");
    let text = config(&daemon, "").replace(":9100", ":99");
    fs::write(daemon.config(), text).unwrap();
    daemon.restart();
    let (status, said) = answer(tcp(&daemon, 99), &request("GET /metrics", "", ""));
    assert!(
        status == 200 && said.contains("bpfsmith_proxy_packets_total"),
        "{said}"
    );
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = u64::from_str_radix(effective.unwrap().trim(), 16).unwrap();
    assert_eq!(effective & (1 << 10), 0, "{effective:x}");
    // Who has it is told.
    let path = daemon.config();
    let said = daemon.fails(1, &["run", path.to_str().unwrap()]);
    assert!(
        said.contains("127.0.0.1:99") && said.contains("EADDRINUSE"),
        "{said}"
    );
}

/// What is too large, too deep or no request at all is refused in words; several requests at once are answered in
/// their order; all of that leaves the daemon as it was.
#[test]
fn bad_requests_are_refused() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 1);
    let _servers = world.serve(SERVED);
    let daemon = Daemon::start(&world, "port = 80\ntarget = \"10.20.0.2:8080\"\n");
    let generation = daemon.generation();
    let deep = "[".repeat(200_000);
    let deep_toml = format!("a = {deep}");
    let huge = b"PUT /v1/config HTTP/1.1\r\nHost: x\r\nContent-Length: 16777217\r\n\r\n";
    let long = format!(
        "GET /v1/status HTTP/1.1\r\nHost: x\r\nX: {}",
        "x".repeat(20_000)
    );
    let path = format!("GET /{} HTTP/1.1\r\n", "x".repeat(9_000));
    for (bytes, wanted) in [
        (huge.to_vec(), 413),
        (long.into_bytes(), 431),
        (path.into_bytes(), 414),
        (request("PUT /v1/values/settings/events", "", &deep), 400),
        (request("PUT /v1/config", "", &deep_toml), 400),
        (request("PUT /v1/config", "Content-Length: 5\r\n", "x"), 400),
        (
            request("PUT /v1/config", "Transfer-Encoding: chunked\r\n", ""),
            400,
        ),
        (request("BREW /v1/status", "", ""), 405),
        (request("GET /v1/../status", "", ""), 400),
        (request("GET /v1/nothing", "", ""), 404),
        (
            request("POST /v1/proxies", "", "{\"name\": \"..\", \"port\": 0}"),
            400,
        ),
        (b"GET /v1/status HTTP/1.0\r\n\r\n".to_vec(), 505),
        (b"\x16\x03\x01\n\r\n".to_vec(), 400),
    ] {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        let (status, said) = answer(unix(&daemon), &bytes);
        assert_eq!(status, wanted, "{shown}: {said:.300}");
        assert!(said.contains("{\"error\":\""), "{shown}: {said:.300}");
    }
    let one = b"GET /v1/config HTTP/1.1\r\nHost: x\r\n\r\n".repeat(3);
    let all = [one, request("GET /v1/nothing", "", "")].concat();
    let (_, said) = answer(unix(&daemon), &all);
    let answers: Vec<&str> = said.split("HTTP/1.1 ").skip(1).collect();
    let statuses: Vec<&str> = answers.iter().map(|it| &it[..3]).collect();
    assert_eq!(statuses, ["200", "200", "200", "404"], "{said}");
    assert_eq!(daemon.generation(), generation);
    assert_eq!(who(&world.client().node, asked(80)), "b0");
}

/// Who only connects takes no place from commands, for those come in elsewhere; who follows events and is gone gives
/// the place back.
#[test]
fn places_are_given_back() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 1);
    let mut daemon = Daemon::prepare(&world, "port = 80\ntarget = \"10.20.0.2:8080\"\n");
    fs::write(daemon.config(), config(&daemon, "")).unwrap();
    daemon.restart();
    let counters = request("GET /metrics", "", "");
    let idle: Vec<TcpStream> = (0..64).map(|_| tcp(&daemon, 9100)).collect();
    deadline(LIMIT, || {
        (answer(tcp(&daemon, 9100), &counters).0 == 503).then_some(())
    });
    daemon.ok(&["status"]);
    drop(idle);
    deadline(LIMIT, || {
        (answer(tcp(&daemon, 9100), &counters).0 == 200).then_some(())
    });
    // A half request, and nobody there any more.
    for _ in 0..100 {
        let mut stream = tcp(&daemon, 9100);
        stream.write_all(b"GET /metr").unwrap();
    }
    deadline(LIMIT, || {
        (answer(tcp(&daemon, 9100), &counters).0 == 200).then_some(())
    });
    let follow = || {
        let mut stream = unix(&daemon);
        stream
            .write_all(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        let mut begin = [0; 12];
        stream.read_exact(&mut begin).unwrap();
        (String::from_utf8_lossy(&begin).into_owned(), stream)
    };
    let mut followers = Vec::new();
    for _ in 0..48 {
        let (begin, stream) = follow();
        assert_eq!(begin, "HTTP/1.1 200");
        followers.push(stream);
    }
    // One more may not follow, but everybody may ask.
    let said = daemon.fails(1, &["events", "--follow"]);
    assert!(said.contains("too many follow"), "{said}");
    daemon.ok(&["status"]);
    let waiting: Vec<UnixStream> = (0..16).map(|_| unix(&daemon)).collect();
    let said = daemon.fails(1, &["status"]);
    assert!(said.contains("too many connections"), "{said}");
    drop((waiting, followers));
    deadline(LIMIT, || {
        daemon.cli(&["status"]).status.success().then_some(())
    });
    deadline(LIMIT, || (follow().0 == "HTTP/1.1 200").then_some(()));
}

/// Events as people read them, as they come.
#[test]
fn events_are_followed_in_words() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let world = World::new(1, 1);
    let _servers = world.serve(SERVED);
    let mut daemon = Daemon::prepare(&world, "port = 80\ntarget = \"10.20.0.2:8080\"\n");
    fs::write(daemon.config(), config(&daemon, "")).unwrap();
    daemon.restart();
    let mut command = daemon.command();
    command.args(["events", "--follow", "--kind", "closed"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let output = child.stdout.take().unwrap();
    let (send, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let lines = std::io::BufRead::lines(std::io::BufReader::new(output));
        // Nobody hears it when the test is over.
        let _ = lines.map_while(Result::ok).try_for_each(|it| send.send(it));
    });
    let line = deadline(LIMIT, || {
        who(&world.client().node, asked(80));
        lines.recv_timeout(std::time::Duration::from_secs(1)).ok()
    });
    child.kill().unwrap();
    child.wait().unwrap();
    for part in [
        "closed   tcp 10.10.0.10:",
        "-> 10.99.0.1:80 at 10.20.0.2:8080, of proxy",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(!line.contains('{'), "{line}");
}
