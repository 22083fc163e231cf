//! Servers on real sockets: who is answered what, and when it ends.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use bpfsmith_gate::deadline;
use bpfsmith_proxy::http::{
    Answer, Client, Error, Garbled, Guard, Handler, Limits, Listener, Method, Next, Response,
    Server, Stream, Token, target,
};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(30);

/// A directory of this test's own.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Dir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("bs-http-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Dir(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("control.sock")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Tells what it was asked.
fn echo() -> Handler {
    Arc::new(|request, _| {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let path = request.path.join("|");
        Response::text(200, format!("{} {path} {body}", request.method)).into()
    })
}

fn unix(dir: &Dir, limits: Limits, handler: Handler) -> Server {
    Server::start(
        Listener::unix(&dir.socket()).unwrap(),
        limits,
        Guard::owner(),
        handler,
    )
    .unwrap()
}

fn tcp(guard: Guard, handler: Handler) -> (Server, SocketAddr) {
    let any = "127.0.0.1:0".parse().unwrap();
    let server = Server::start(
        Listener::tcp(any).unwrap(),
        Limits::default(),
        guard,
        handler,
    )
    .unwrap();
    let address = server.address().unwrap();
    (server, address)
}

fn connect(dir: &Dir) -> UnixStream {
    let stream = UnixStream::connect(dir.socket()).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

/// Says something, and reads until the other end has enough.
fn say(stream: &mut (impl Read + Write), text: &str) -> String {
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The same with a server that may have answered and closed before it was asked.
fn say_late(stream: &mut (impl Read + Write), text: &str) -> String {
    let _ = stream.write_all(text.as_bytes());
    let mut answer = Vec::new();
    // What was answered before a reset counts.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads one answer, whose body ends in this.
fn until(stream: &mut impl Read, end: &str) -> String {
    let mut answer = Vec::new();
    while !answer.ends_with(end.as_bytes()) {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    String::from_utf8(answer).unwrap()
}

fn bodies(answers: &str) -> Vec<&str> {
    answers.split("\r\n\r\n").skip(1).collect()
}

#[test]
fn a_client_asks_and_a_server_answers() {
    let dir = Dir::new();
    let server = unix(&dir, Limits::default(), echo());
    let mode = dir.socket().metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let client = Client::unix(server.path().unwrap());
    let large = "x".repeat(1 << 20);
    let route = target(&["routes", "10.0.0.0/8"], &[]);
    let reply = client
        .request(Method::PUT, &route, large.as_bytes())
        .unwrap();
    assert_eq!((reply.status, reply.is_success()), (200, true));
    assert_eq!(reply.content_type, "text/plain; charset=utf-8");
    assert_eq!(
        reply.body,
        format!("PUT routes|10.0.0.0/8 {large}").into_bytes()
    );
    let refused = client.request(Method::GET, "/a b", b"");
    assert!(matches!(refused, Err(Error::Target { .. })));
    // Nothing but the socket was left beside it, and in the end not even that.
    assert_eq!(std::fs::read_dir(&dir.0).unwrap().count(), 1);
    drop(server);
    assert_eq!(std::fs::read_dir(&dir.0).unwrap().count(), 0);
}

#[test]
fn requests_on_one_connection_are_answered_in_their_order() {
    let dir = Dir::new();
    let _server = unix(&dir, Limits::default(), echo());
    let mut stream = connect(&dir);
    let answers = say(
        &mut stream,
        "PUT /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\naGET /2 HTTP/1.1\r\nHost: x\r\n\r\n\
         GET /3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET /4 HTTP/1.1\r\nHost: x\r\n\r\n",
    );
    assert_eq!(
        answers.matches("HTTP/1.1 200 OK\r\n").count(),
        3,
        "{answers}"
    );
    let order: Vec<usize> = ["PUT 1 a", "GET 2 ", "GET 3 "]
        .map(|body| answers.find(body).unwrap())
        .to_vec();
    assert!(order.is_sorted(), "{answers}");
    assert!(!answers.contains("GET 4"), "{answers}");
    // And one after the other.
    let mut stream = connect(&dir);
    for word in ["one", "two"] {
        write!(stream, "GET /{word} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        until(&mut stream, &format!("GET {word} "));
    }
}

#[test]
fn what_is_ambiguous_ends_the_connection() {
    let dir = Dir::new();
    let _server = unix(&dir, Limits::default(), echo());
    let rows = [
        ("Content-Length: 1\r\nTransfer-Encoding: chunked", "400"),
        ("Transfer-Encoding: chunked", "411"),
        ("Content-Length: 1\r\nContent-Length: 1", "400"),
        ("Content-Length: 99999999", "413"),
    ];
    for (fields, status) in rows {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
        );
        let answer = say(&mut connect(&dir), &request);
        let expected = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&expected), "{fields}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    }
    let answer = say(&mut connect(&dir), "HEAD / HTTP/1.1\r\n");
    assert!(
        answer.contains("Allow: GET, POST, PUT, PATCH, DELETE\r\n"),
        "{answer}"
    );
}

#[test]
fn who_expects_to_be_told_is_told() {
    let dir = Dir::new();
    let _server = unix(&dir, Limits::default(), echo());
    let mut stream = connect(&dir);
    stream
        .write_all(
            b"PUT /a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
        )
        .unwrap();
    assert_eq!(
        until(&mut stream, "\r\n\r\n"),
        "HTTP/1.1 100 Continue\r\n\r\n"
    );
    stream.write_all(b"ok").unwrap();
    until(&mut stream, "PUT a ok");
}

#[test]
fn a_token_opens_tcp_and_nobody_else_is_read() {
    let guard = Guard::token(Token::new("0123456789abcdef").unwrap())
        .public(|request| request.segments() == ["health"]);
    let (_server, address) = tcp(guard, echo());
    let ask = |path: &str, fields: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n");
        say(&mut stream, &request)
    };
    let good = ask("/a", "Authorization: Bearer 0123456789abcdef\r\n");
    assert_eq!(bodies(&good), ["GET a "]);
    assert!(!good.to_lowercase().contains("access-control"), "{good}");
    assert_eq!(bodies(&ask("/health", "")), ["GET health "]);
    for fields in [
        "",
        "Authorization: Bearer 0123456789abcdee\r\n",
    ] {
        let answer = ask("/a", fields);
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        assert!(
            answer.contains("\r\nWWW-Authenticate: Bearer\r\n"),
            "{answer}"
        );
        assert!(!answer.contains("0123456789"), "{answer}");
    }
    // The answer comes before the body does.
    let answer = ask("/a", "Content-Length: 1000\r\n");
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    let (_closed, address) = tcp(Guard::owner(), echo());
    let mut stream = TcpStream::connect(address).unwrap();
    let answer = say(&mut stream, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}

#[test]
fn a_dead_socket_is_replaced_and_a_living_one_is_not() {
    let dir = Dir::new();
    let client = Client::unix(dir.socket());
    let nobody = client.request(Method::GET, "/", b"").unwrap_err();
    assert!(
        nobody.to_string().contains("is the daemon running?"),
        "{nobody}"
    );
    drop(UnixListener::bind(dir.socket()).unwrap());
    let dead = client.request(Method::GET, "/", b"").unwrap_err();
    assert!(dead.to_string().contains("is gone"), "{dead}");

    let first = unix(&dir, Limits::default(), echo());
    let second = Listener::unix(&dir.socket());
    let own = i32::try_from(std::process::id()).unwrap();
    assert!(matches!(second, Err(Error::Served { pid, .. }) if pid == own));
    assert_eq!(client.request(Method::GET, "/", b"").unwrap().status, 200);

    // What somebody else put in its place is not removed.
    std::fs::remove_file(dir.socket()).unwrap();
    let other = UnixListener::bind(dir.socket()).unwrap();
    drop(first);
    assert!(dir.socket().exists());
    drop(other);
    std::fs::remove_file(dir.socket()).unwrap();
    std::fs::write(dir.socket(), "precious").unwrap();
    let file = Listener::unix(&dir.socket());
    assert!(matches!(file, Err(Error::NoSocket { .. })));
    assert_eq!(std::fs::read(dir.socket()).unwrap(), b"precious");
}

#[test]
fn of_servers_that_start_at_once_one_wins() {
    let dir = Dir::new();
    drop(UnixListener::bind(dir.socket()).unwrap());
    let started: Vec<_> = std::thread::scope(|scope| {
        let start = || {
            let listener = Listener::unix(&dir.socket())?;
            Server::start(listener, Limits::default(), Guard::owner(), echo())
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let served = |server: &&Result<Server, Error>| matches!(server, Err(Error::Served { .. }));
    assert_eq!(
        started.iter().filter(|server| server.is_ok()).count(),
        1,
        "{started:?}"
    );
    assert_eq!(started.iter().filter(served).count(), 7, "{started:?}");
    let client = Client::unix(dir.socket());
    assert_eq!(client.request(Method::GET, "/", b"").unwrap().status, 200);
}

/// A server that waits 300 ms for something has had it by then, whatever it does besides.
const SOON: Duration = Duration::from_millis(100);

/// A connection over which this was said soon. Whoever had no processor for too long tries again.
fn soon(dir: &Dir, text: &str) -> UnixStream {
    deadline(LIMIT, || {
        let begun = Instant::now();
        let mut stream = connect(dir);
        let said = stream.write_all(text.as_bytes());
        (begun.elapsed() < SOON).then(|| {
            said.unwrap();
            stream
        })
    })
}

#[test]
fn who_says_nothing_is_let_go_and_keeps_nobody_waiting() {
    let dir = Dir::new();
    let limits = Limits {
        head_time: Duration::from_millis(300),
        body_time: Duration::from_millis(300),
        ..Limits::default()
    };
    let _server = unix(&dir, limits, echo());
    let mut slow = soon(&dir, "GET / HT");
    let mut body = soon(
        &dir,
        "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na",
    );
    let client = Client::unix(dir.socket());
    let reply = deadline(LIMIT, || {
        let begun = Instant::now();
        match client.request(Method::GET, "/", b"") {
            // It was let go as well, before it had asked.
            Err(_) if begun.elapsed() >= SOON => None,
            reply => Some(reply.unwrap()),
        }
    });
    assert_eq!(reply.status, 200);
    for stream in [&mut slow, &mut body] {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }
    // Nothing at all has no answer either.
    let mut answer = String::new();
    connect(&dir).read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "");
}

#[test]
fn no_more_connections_than_there_are_places() {
    let dir = Dir::new();
    let server = unix(&dir, Limits::default(), echo());
    let mut held: Vec<UnixStream> = (0..64).map(|_| connect(&dir)).collect();
    deadline(LIMIT, || (server.status().open == 64).then_some(()));
    let client = Client::unix(dir.socket());
    let reply = client.request(Method::GET, "/", b"").unwrap();
    assert_eq!(reply.status, 503);
    // Those that have a place are served.
    held[63]
        .write_all(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    until(&mut held[63], "GET a ");
    held.pop();
    deadline(LIMIT, || {
        let reply = client.request(Method::GET, "/", b"").unwrap();
        (reply.status == 200).then_some(())
    });
    assert!(server.status().turned_away >= 1);
    // More than are told so at once: each gets its answer.
    let many: Vec<UnixStream> = (0..100).map(|_| connect(&dir)).collect();
    for mut stream in many.into_iter().skip(1) {
        let answer = say_late(
            &mut stream,
            "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        );
        assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
    }
}

/// Says when it is dropped.
struct Tell(Arc<AtomicBool>);

impl Drop for Tell {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A stream that begins with a line and has nothing more to tell.
fn quiet(gone: &Arc<AtomicBool>) -> Handler {
    let gone = Arc::clone(gone);
    Arc::new(move |_, _| {
        let tell = Tell(Arc::clone(&gone));
        let mut first = Some(b"hello\n".to_vec());
        Answer::Stream(Stream::new("text/plain", move |_| {
            let _held = &tell;
            first.take().map_or(Next::Nothing, Next::Piece)
        }))
    })
}

fn is_gone(gone: &AtomicBool) {
    deadline(LIMIT, || gone.load(Ordering::SeqCst).then_some(()));
}

#[test]
fn lines_come_as_they_are_told() {
    let dir = Dir::new();
    let (tell, told) = mpsc::channel();
    let told = Mutex::new(Some(told));
    let handler: Handler = Arc::new(move |_, _| match told.lock().unwrap().take() {
        Some(told) => Answer::Stream(Stream::channel("application/x-ndjson", told)),
        None => Response::error(409, "once").into(),
    });
    let _server = unix(&dir, Limits::default(), handler);
    let client = Client::unix(dir.socket());
    let mut lines = client.stream("/events?follow=1").unwrap();
    for (piece, expected) in [
        ("on", None),
        ("e\ntwo\n", Some("one")),
        ("", Some("two")),
    ] {
        tell.send(piece.as_bytes().to_vec()).unwrap();
        if let Some(expected) = expected {
            assert_eq!(lines.next().unwrap().unwrap(), expected);
        }
    }
    tell.send(b"last".to_vec()).unwrap();
    drop(tell);
    assert_eq!(lines.next().unwrap().unwrap(), "last");
    assert!(lines.next().is_none());
    let refused = client.stream("/events").unwrap_err();
    assert!(
        refused.to_string().contains("409 {\"error\":\"once\"}"),
        "{refused}"
    );
}

#[test]
fn a_source_is_dropped_when_its_client_hangs_up() {
    let dir = Dir::new();
    let gone = Arc::new(AtomicBool::new(false));
    let _server = unix(&dir, Limits::default(), quiet(&gone));
    let client = Client::unix(dir.socket());
    let mut lines = client.stream("/events").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "hello");
    assert!(!gone.load(Ordering::SeqCst));
    drop(lines);
    is_gone(&gone);

    gone.store(false, Ordering::SeqCst);
    let mut lines = client.stream("/events").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "hello");
    let hangup = lines.hangup().unwrap();
    let reading = std::thread::spawn(move || lines.next());
    hangup.hang_up();
    assert!(reading.join().unwrap().unwrap().is_err());
    is_gone(&gone);

    let gone = Arc::new(AtomicBool::new(false));
    let everybody = Guard::closed().public(|_| true);
    let (_server, address) = tcp(everybody, quiet(&gone));
    let mut stream = TcpStream::connect(address).unwrap();
    // What it sends besides does not hide its end.
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    until(&mut stream, "hello\n");
    stream.shutdown(Shutdown::Write).unwrap();
    is_gone(&gone);
}

#[test]
fn who_follows_leaves_room_for_questions() {
    let dir = Dir::new();
    let quiet = quiet(&Arc::default());
    let handler: Handler = Arc::new(move |request, peer| match request.segments().as_slice() {
        ["events"] => quiet(request, peer),
        _ => Response::empty().into(),
    });
    let _server = unix(&dir, Limits::default(), handler);
    let client = Client::unix(dir.socket());
    let follow = || client.stream("/events");
    let mut all: Vec<_> = (0..Limits::default().streams)
        .map(|_| {
            let mut lines = follow().unwrap();
            assert_eq!(lines.next().unwrap().unwrap(), "hello");
            lines
        })
        .collect();
    for _ in 0..20 {
        let refused = follow().unwrap_err().to_string();
        assert!(
            refused.contains("503") && refused.contains("too many follow"),
            "{refused}"
        );
        assert_eq!(client.request(Method::GET, "/", b"").unwrap().status, 204);
    }
    drop(all.pop());
    all.push(deadline(LIMIT, || follow().ok()));
}

#[test]
fn a_server_that_ends_leaves_nobody_waiting() {
    let dir = Dir::new();
    let gone = Arc::new(AtomicBool::new(false));
    // Nobody runs so long: all are through long before.
    let limits = Limits {
        stop_time: LIMIT,
        ..Limits::default()
    };
    let server = unix(&dir, limits, quiet(&gone));
    let mut lines = Client::unix(dir.socket()).stream("/").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "hello");
    let mut idle = connect(&dir);
    let mut half = connect(&dir);
    half.write_all(b"GET / HT").unwrap();
    deadline(LIMIT, || (server.status().open == 3).then_some(()));
    assert_eq!(server.stop().running, 0);
    assert!(gone.load(Ordering::SeqCst));
    let cut = lines.next().unwrap();
    assert!(
        matches!(
            cut,
            Err(Error::Garbled {
                garbled: Garbled::Cut,
                ..
            })
        ),
        "{cut:?}"
    );
    assert!(lines.next().is_none());
    for stream in [&mut idle, &mut half] {
        let mut rest = Vec::new();
        // Bytes that nobody read make it a reset.
        let _ = stream.read_to_end(&mut rest);
        assert_eq!(rest, b"");
    }
    assert!(!dir.socket().exists());
}

#[test]
fn a_handler_that_does_not_end_does_not_hold_the_server() {
    let dir = Dir::new();
    let (let_go, waits) = mpsc::channel::<()>();
    let waits = Mutex::new(waits);
    let handler: Handler = Arc::new(move |_, _| {
        let _ = waits.lock().unwrap().recv();
        Response::empty().into()
    });
    let limits = Limits {
        stop_time: Duration::from_millis(50),
        ..Limits::default()
    };
    let server = unix(&dir, limits, handler);
    let mut stream = connect(&dir);
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    deadline(LIMIT, || (server.status().open == 1).then_some(()));
    let client = Client::unix(dir.socket()).with_time(Duration::from_millis(50));
    let late = client.request(Method::GET, "/", b"");
    assert!(matches!(late, Err(Error::Late { .. })), "{late:?}");
    assert!(server.stop().running >= 1);
    drop(let_go);
    // Whoever was asked before is answered.
    let answer = until(&mut stream, "\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
}

#[test]
fn a_handler_that_breaks_is_answered_for() {
    let dir = Dir::new();
    let handler: Handler = Arc::new(|request, _| match request.segments().as_slice() {
        ["break"] => panic!("as the test wants it"),
        _ => Response::text(200, "fine").into(),
    });
    let server = unix(&dir, Limits::default(), handler);
    let client = Client::unix(dir.socket());
    assert_eq!(
        client.request(Method::GET, "/break", b"").unwrap().status,
        500
    );
    assert_eq!(client.request(Method::GET, "/", b"").unwrap().status, 200);
    deadline(LIMIT, || (server.status().open == 0).then_some(()));
}
