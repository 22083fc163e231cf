//! Checks of targets that live, do not, or do something else.

mod health_bench;

use bpfsmith_gate::{deadline, needs};
use bpfsmith_net::NetNs;
use bpfsmith_proxy::health::{Failure, Forced, State};
use bpfsmith_sys::socket::reset_on_close;
use bpfsmith_uapi::Errno;
use health_bench::{
    LIMIT, RARELY, Server, checked, http, inside, request, start, target, tcp, view,
};
use nix::sys::socket::{Backlog, listen};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[test]
fn a_dead_port_is_down_after_so_many_checks_and_comes_back_after_so_many() {
    needs!(NetNs);
    inside(|| {
        let web = target("127.0.0.1:81".parse().unwrap());
        let mut health = tcp(RARELY);
        health.slow_start = Duration::from_millis(900);
        let (checks, told) = start([(web.clone(), health)].into());
        assert_eq!(view(&checks, &web).share, 100, "nobody has asked it yet");
        for (times, state, share) in [
            (1, State::Unknown, 100),
            (2, State::Unknown, 100),
            (3, State::Down, 0),
        ] {
            // The first check comes by itself.
            let view = checked(&checks, &web, times);
            assert_eq!((view.checks, view.failures), (times, times));
            assert_eq!((view.state, view.share), (state, share));
            assert_eq!(view.last, Some(Err(Failure::Refused)));
            checks.check_now(&web).unwrap();
        }
        checked(&checks, &web, 4);
        deadline(LIMIT, || (told.load(Ordering::SeqCst) == 1).then_some(()));

        let server = Server::new("127.0.0.1:81", drop);
        checks.check_now(&web).unwrap();
        assert_eq!(checked(&checks, &web, 5).state, State::Down);
        checks.check_now(&web).unwrap();
        let mut last = 0;
        let shares = deadline(LIMIT, || {
            let view = view(&checks, &web);
            assert_eq!(view.share > 0, view.state == State::Up);
            assert!(
                view.share >= last && view.share.is_multiple_of(10),
                "{last} {view:?}"
            );
            last = view.share;
            (last == 100).then_some(last)
        });
        let view = view(&checks, &web);
        assert_eq!((shares, view.checks, view.failures), (100, 6, 4));
        assert!(matches!(view.last, Some(Ok(_))));
        assert_eq!(server.accepted(), 2);
        // One for the way back, and one at least for the rise.
        deadline(LIMIT, || (told.load(Ordering::SeqCst) >= 3).then_some(()));
    });
}

#[test]
fn a_status_that_is_not_expected_takes_a_target_out() {
    needs!(NetNs);
    inside(|| {
        let status = Arc::new(AtomicU16::new(200));
        let now = Arc::clone(&status);
        let server = Server::new("127.0.0.1:81", move |mut stream| {
            let asked = request(&mut stream).unwrap();
            assert_eq!(
                asked,
                "GET /alive HTTP/1.1\r\nHost: 127.0.0.1:81\r\nUser-Agent: bpfsmith-proxy\r\n\
                 Accept: */*\r\nConnection: close\r\n\r\n"
            );
            let status = now.load(Ordering::SeqCst);
            write!(stream, "HTTP/1.1 {status} So\r\nContent-Length: 0\r\n\r\n").unwrap();
        });
        let web = target(server.address);
        let (checks, _told) = start([(web.clone(), http(RARELY))].into());
        assert_eq!(checked(&checks, &web, 1).state, State::Up);
        let turns = [
            (500, State::Up),
            (500, State::Up),
            (200, State::Up),
            (500, State::Up),
            (500, State::Up),
            (500, State::Down),
            (200, State::Down),
            (500, State::Down),
            (200, State::Down),
            (200, State::Up),
        ];
        for (turn, (code, state)) in (2..).zip(turns) {
            status.store(code, Ordering::SeqCst);
            checks.check_now(&web).unwrap();
            let view = checked(&checks, &web, turn);
            assert_eq!(
                (view.state, view.checks, server.accepted()),
                (state, turn, turn)
            );
            match code {
                200 => assert!(matches!(view.last, Some(Ok(_)))),
                code => assert_eq!(view.last, Some(Err(Failure::Status(code)))),
            }
        }
    });
}

/// What a server does with a connection whose request it has read.
type Serve = fn(&mut TcpStream) -> io::Result<()>;

/// Sends that until nobody takes it any more.
fn endless(stream: &mut TcpStream, begin: &str, text: &str) -> io::Result<()> {
    stream.write_all(begin.as_bytes())?;
    loop {
        stream.write_all(text.as_bytes())?;
    }
}

const SERVERS: &[(Serve, Result<(), Failure>)] = &[
    (|it| it.write_all(b"HTTP/1.0 200\r\n\r\n"), Ok(())),
    (
        |it| it.write_all(b"HTTP/1.1 404 No\r\n\r\n"),
        Err(Failure::Status(404)),
    ),
    (
        |it| it.write_all(b"HTTP/1.1 103 Soon\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"),
        Ok(()),
    ),
    (
        |it| {
            it.set_nodelay(true)?;
            for byte in b"HTTP/1.1 200 OK\r\n\r\n" {
                it.write_all(&[*byte])?;
            }
            Ok(())
        },
        Ok(()),
    ),
    (
        |it| it.write_all(b"\x15\x03\x01\x00\x02\x02\x46"),
        Err(Failure::NotHttp),
    ),
    (
        |it| endless(it, "", "SSH-2.0 \0\u{1F600}"),
        Err(Failure::NotHttp),
    ),
    (|it| endless(it, "HTTP/1.1 200 OK", "KKKKKKKK"), Ok(())),
    (|it| endless(it, "HTTP/1.1 200 OK\r\n", "A: b\r\n"), Ok(())),
    (
        |it| endless(it, "HTTP/1.1 102 Wait\r\n", "A: b\r\n"),
        Err(Failure::Endless(8192)),
    ),
    (
        |it| endless(it, "", "HTTP/1.1 102 Wait\r\n\r\n"),
        Err(Failure::Endless(8192)),
    ),
    (|it| it.write_all(b"HTTP/1.1 200"), Err(Failure::Closed)),
    (|_| Ok(()), Err(Failure::Closed)),
    (
        |it| reset_on_close(it.as_fd()).map_err(|refused| refused.errno.into()),
        Err(Failure::Reset),
    ),
];

#[test]
fn whatever_a_server_says_is_an_answer() {
    needs!(NetNs);
    inside(|| {
        let servers = SERVERS.iter().map(|(serve, wanted)| {
            let server = Server::new("127.0.0.1:0", move |mut stream| {
                // What comes of it is what the check says.
                let _ = request(&mut stream).and_then(|_| serve(&mut stream));
            });
            (server, *wanted)
        });
        let servers: Vec<_> = servers.collect();
        let health = http(Duration::from_millis(50));
        let targets = servers
            .iter()
            .map(|(server, _)| (target(server.address), health.clone()));
        let (checks, _told) = start(targets.collect());
        for (row, (server, wanted)) in servers.iter().enumerate() {
            let view = checked(&checks, &target(server.address), 6);
            let last = view.last.map(|last| last.map(drop));
            assert_eq!(last, Some(*wanted), "server {row}");
            let (state, failures) = match wanted {
                Ok(()) => (State::Up, 0),
                Err(_) => (State::Down, view.checks),
            };
            assert_eq!(
                (view.state, view.failures),
                (state, failures),
                "server {row}"
            );
        }
    });
}

#[test]
fn one_that_says_nothing_is_late() {
    needs!(NetNs);
    inside(|| {
        let (server, kept) = Server::silent("127.0.0.1:81");
        let web = target(server.address);
        let mut health = http(RARELY);
        health.timeout = Duration::from_millis(300);
        let (checks, _told) = start([(web.clone(), health)].into());
        let view = checked(&checks, &web, 1);
        assert_eq!(
            view.last,
            Some(Err(Failure::NoAnswer(Duration::from_millis(300))))
        );
        let mut stream = deadline(LIMIT, || kept.lock().unwrap().pop());
        assert!(request(&mut stream).unwrap().starts_with("GET /alive"));
        assert_eq!(
            stream.read(&mut [0]).unwrap(),
            0,
            "it is closed, and not reset"
        );
    });
}

#[test]
fn one_that_does_not_accept_is_late_too() {
    needs!(NetNs);
    inside(|| {
        let listener = TcpListener::bind("127.0.0.1:81").unwrap();
        listen(&listener, Backlog::new(0).unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let short = Duration::from_millis(300);
        let mut kept = Vec::new();
        deadline(LIMIT, || {
            match TcpStream::connect_timeout(&address, short) {
                Ok(stream) => {
                    kept.push(stream);
                    None
                }
                Err(error) => {
                    Some(error.kind()).inspect(|kind| assert_eq!(*kind, ErrorKind::TimedOut))
                }
            }
        });
        let mut health = tcp(RARELY);
        health.timeout = short;
        let web = target(address);
        let (checks, _told) = start([(web.clone(), health)].into());
        let view = checked(&checks, &web, 1);
        assert_eq!(view.last, Some(Err(Failure::NoConnection(short))));
    });
}

#[test]
fn one_without_a_way_is_unreachable() {
    needs!(NetNs);
    inside(|| {
        let web = target("192.0.2.1:80".parse().unwrap());
        let (checks, _told) = start([(web.clone(), tcp(RARELY))].into());
        let view = checked(&checks, &web, 1);
        let failure = Failure::Unreachable(Errno::ENETUNREACH);
        assert_eq!((view.last, view.failures), (Some(Err(failure)), 1));
    });
}

/// Greets when the other side has ended its stream already.
fn late_banner(stream: &mut TcpStream) -> io::Result<usize> {
    let end = stream.read(&mut [0])?;
    stream.write_all(b"SSH-2.0-x\r\n")?;
    stream.shutdown(Shutdown::Write)?;
    stream.take_error()?.map_or(Ok(end), Err)
}

/// Sends in many pieces what nobody needs.
fn long_page(stream: &mut TcpStream) -> io::Result<usize> {
    request(stream)?;
    stream.set_nodelay(true)?;
    stream.write_all(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n")?;
    for _ in 0..50 {
        stream.write_all(&[b'x'; 1000])?;
    }
    stream.shutdown(Shutdown::Write)?;
    let end = stream.read(&mut [0])?;
    stream.take_error()?.map_or(Ok(end), Err)
}

/// How long a check waits for the target's end once its answer is known.
const PARTING: Duration = Duration::from_secs(1);

/// Targets see an end of the connection, whatever they send before and however late.
#[test]
fn nothing_is_reset() {
    needs!(NetNs);
    inside(|| {
        let (tell, ends) = channel();
        let banner = tell.clone();
        let ssh = Server::new("127.0.0.1:22", move |mut stream| {
            banner.send(late_banner(&mut stream)).unwrap();
        });
        let web = Server::new("127.0.0.1:80", move |mut stream| {
            tell.send(long_page(&mut stream)).unwrap();
        });
        let all = [
            (target(ssh.address), tcp(RARELY)),
            (target(web.address), http(RARELY)),
        ];
        let mut begun = Instant::now();
        let (checks, _told) = start(all.clone().into());
        let mut good = 0;
        // The first checks come by themselves, the others when both servers are through with the ones before.
        deadline(LIMIT, || {
            for _ in &all {
                match ends.recv_timeout(LIMIT).unwrap() {
                    Ok(end) => {
                        assert_eq!(end, 0);
                        good += 1;
                    }
                    // It took longer than it is waited for.
                    Err(error) => assert!(begun.elapsed() >= PARTING, "{error}"),
                }
            }
            if good >= 40 {
                return Some(());
            }
            begun = Instant::now();
            for (target, _) in &all {
                checks.check_now(target).unwrap();
            }
            None
        });
        for (_, view) in checks.standings() {
            assert_eq!((view.state, view.failures), (State::Up, 0));
        }
    });
}

#[test]
fn what_is_set_is_checked_and_nothing_else() {
    needs!(NetNs);
    inside(|| {
        let (hung, kept) = Server::silent("127.0.0.1:81");
        let gone = Server::new("127.0.0.1:82", drop);
        let stays = Server::new("[::1]:83", drop);
        let often = Duration::from_millis(20);
        let all = [
            (target(hung.address), http(often)),
            (target(gone.address), tcp(often)),
            (target(stays.address), tcp(often)),
        ];
        let (checks, _told) = start(all.clone().into());
        checked(&checks, &target(gone.address), 3);
        let mut stream = deadline(LIMIT, || kept.lock().unwrap().pop());
        request(&mut stream).unwrap();

        checks.set([all[2].clone()].into());
        let left: Vec<_> = checks.standings().into_keys().collect();
        assert_eq!(left, [target(stays.address)]);
        assert_eq!(
            stream.read(&mut [0]).unwrap(),
            0,
            "the check under way is closed"
        );
        // Whoever was accepted before the thread heard of it has been counted a few rounds later.
        let counts = || [hung.accepted(), gone.accepted()];
        let more = |times| checked(&checks, &target(stays.address), stays.accepted() + times);
        more(5);
        let before = counts();
        more(20);
        assert_eq!(counts(), before);
        assert!(checks.check_now(&target(gone.address)).is_err());
        checks.set(all.into());
        checked(&checks, &target(gone.address), 2);
        deadline(LIMIT, || (hung.accepted() > before[0]).then_some(()));
    });
}

#[test]
fn an_operators_word_is_told_and_checks_go_on() {
    needs!(NetNs);
    inside(|| {
        let server = Server::new("127.0.0.1:81", drop);
        let web = target(server.address);
        let (checks, told) = start([(web.clone(), tcp(Duration::from_millis(20)))].into());
        let tells = |count| {
            deadline(LIMIT, || {
                (told.load(Ordering::SeqCst) == count).then_some(())
            })
        };
        assert_eq!(checked(&checks, &web, 1).state, State::Up);
        tells(1);
        checks.force(&web, Some(Forced::Down)).unwrap();
        let view = view(&checks, &web);
        assert_eq!(
            (view.share, view.state, view.forced),
            (0, State::Up, Some(Forced::Down))
        );
        tells(2);
        checked(&checks, &web, view.checks + 5);
        checks.force(&web, None).unwrap();
        tells(3);
        let view = checked(&checks, &web, view.checks + 10);
        assert_eq!((view.share, view.forced), (100, None));
        // Many answers, and nothing else to tell.
        assert_eq!(told.load(Ordering::SeqCst), 3);
    });
}

/// At a port of this host where nobody listens, a socket can connect to itself. Sooner or later that would
/// be the port that the kernel gives it.
#[test]
fn nobody_is_not_found_alive_by_itself() {
    needs!(NetNs);
    inside(|| {
        let here = NetNs::current().unwrap();
        let range = here.set_sysctl("ipv4/ip_local_port_range", "40000 40001");
        range.unwrap();
        let web = target("127.0.0.1:40000".parse().unwrap());
        let (checks, _told) = start([(web.clone(), tcp(Duration::from_millis(10)))].into());
        let view = checked(&checks, &web, 50);
        assert_eq!((view.state, view.failures), (State::Down, view.checks));
        assert_eq!(view.last, Some(Err(Failure::Refused)));
    });
}

#[test]
fn told_from_within_and_dropped_from_anywhere() {
    needs!(NetNs);
    inside(|| {
        let server = Server::new("127.0.0.1:81", drop);
        let web = target(server.address);
        let checks = Arc::new(Mutex::new(None));
        let (tell, told) = channel();
        let own = Arc::clone(&checks);
        let started = bpfsmith_proxy::health::Checks::start(move || {
            // The last one is dropped by its own thread.
            let taken: Option<bpfsmith_proxy::health::Checks> = own.lock().unwrap().take();
            let views = taken.as_ref().map(|checks| checks.standings().len());
            drop(taken);
            tell.send(views).unwrap();
        });
        let started = started.unwrap();
        let mut place = checks.lock().unwrap();
        started.set(BTreeMap::from([(web, tcp(Duration::from_millis(20)))]));
        *place = Some(started);
        drop(place);
        assert_eq!(told.recv_timeout(LIMIT).unwrap(), Some(1));
        // The thread has ended, and what it called is gone.
        assert!(told.recv_timeout(LIMIT).is_err());
    });
}
