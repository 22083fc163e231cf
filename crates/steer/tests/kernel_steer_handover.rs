//! Listening sockets go from one process to the next, and no client notices.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

mod support;

use bpfsmith_gate::{deadline, needs, rounds};
use bpfsmith_steer::Steering;
use bpfsmith_steer::handover::{self, Handed, Offer};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use support::process::{World, role, talk};
use support::{LIMIT, binding, came_to, label, to};

/// Not a test: what a process does that another test started.
#[test]
fn as_another_process() {
    let Some((role, dir, talk)) = role() else {
        return;
    };
    match role.as_str() {
        "old" => serve_until_succeeded(&dir, talk),
        "new" => succeed(&dir, talk),
        other => panic!("{other}"),
    }
}

/// Answers each connection with a word.
fn answer(listener: &TcpListener, word: &str) -> bool {
    match listener.accept() {
        Ok((mut stream, _)) => {
            stream.set_nonblocking(false).unwrap();
            // A client that does not wait for the answer is the test's, and fails there.
            let _ = stream.write_all(word.as_bytes());
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            std::thread::yield_now();
            false
        }
    }
}

fn serve_until_succeeded(dir: &Path, mut talk: UnixStream) {
    let mut steering = Steering::open(dir).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    steering.register(&label("web"), &listener).unwrap();
    let successors = UnixListener::bind(successor()).unwrap();
    successors.set_nonblocking(true).unwrap();
    writeln!(talk, "serving").unwrap();
    loop {
        answer(&listener, "old");
        if let Ok((stream, _)) = successors.accept() {
            stream.set_nonblocking(false).unwrap();
            handover::send(&stream, &[Offer::new(label("web"), &listener)]).unwrap();
            break;
        }
    }
    std::fs::remove_file(successor()).unwrap();
    writeln!(talk, "handed over").unwrap();
}

/// Where the old process waits for the new one.
fn successor() -> PathBuf {
    talk().with_extension("successor")
}

fn succeed(dir: &Path, mut talk: UnixStream) {
    let stream = UnixStream::connect(successor()).unwrap();
    let arrivals = handover::receive(&stream).unwrap().take().unwrap();
    let [arrival] = <[_; 1]>::try_from(arrivals).unwrap();
    assert_eq!(arrival.label, label("web"));
    let Handed::Tcp(listener) = arrival.socket else {
        panic!("{:?}", arrival.socket);
    };
    // It is registered already: it is the same socket.
    let mut steering = Steering::open(dir).unwrap();
    let before = steering.sockets(&label("web")).unwrap();
    steering.register(&label("web"), &listener).unwrap();
    assert_eq!(steering.sockets(&label("web")).unwrap(), before);
    talk.set_nonblocking(true).unwrap();
    writeln!(talk, "serving").unwrap();
    let mut talk = BufReader::new(talk);
    loop {
        answer(&listener, "new");
        if matches!(talk.read_line(&mut String::new()), Ok(5)) {
            break;
        }
    }
}

#[test]
fn a_new_process_takes_over_and_no_connection_fails() {
    needs!(Root, NetNs, Loopback, SkLookup, Sockmap, Bpffs);
    let world = World::new();
    let mut steering = Steering::create(world.dir(), &world.node.ns).unwrap();
    steering
        .bind(binding("tcp 203.0.113.0/24 *"), &label("web"))
        .unwrap();
    let mut old = world.start("old");
    old.hear("serving");
    let (asked, enough) = (AtomicU32::new(0), AtomicBool::new(false));
    let ask = |n: u32| {
        let port = u16::try_from(n % 60_000 + 1).unwrap();
        let mut stream = TcpStream::connect(("203.0.113.7", port))?;
        stream.set_read_timeout(Some(LIMIT))?;
        let mut word = String::new();
        stream.read_to_string(&mut word)?;
        asked.fetch_add(1, Ordering::Relaxed);
        std::io::Result::Ok(word)
    };
    let answers = std::thread::scope(|scope| {
        let _stop = support::Stop(&enough);
        let asking = scope.spawn(|| {
            let all = || {
                let mut answers = Vec::new();
                while !enough.load(Ordering::Acquire) {
                    let n = u32::try_from(answers.len()).unwrap();
                    answers.push(ask(n).unwrap_or_else(|error| error.to_string()));
                }
                answers
            };
            world.node.run(all).unwrap()
        });
        let some = |more: u32| {
            let goal = asked.load(Ordering::Relaxed) + more;
            deadline(LIMIT, || {
                (asked.load(Ordering::Relaxed) >= goal).then_some(())
            });
        };
        some(rounds(1000));
        let mut new = world.start("new");
        new.hear("serving");
        old.hear("handed over");
        old.ends();
        some(rounds(1000));
        enough.store(true, Ordering::Release);
        let answers = asking.join().unwrap();
        new.say("stop");
        new.ends();
        answers
    });
    let of = |word: &str| answers.iter().filter(|answer| *answer == word).count();
    let (old, new) = (of("old"), of("new"));
    let other = answers
        .iter()
        .find(|answer| !["old", "new"].contains(&answer.as_str()));
    assert_eq!(other, None);
    assert!(old > 0 && new > 0, "{old} old, {new} new");
    // The handed socket died with its last process.
    assert_eq!(steering.sockets(&label("web")).unwrap(), []);
    assert_eq!(came_to(&world.node, to("203.0.113.1:80"), &[]), None);
    let status = steering.status().unwrap();
    assert_eq!(
        (status.counts("web").misses, status.counts("web").errors),
        (1, 0)
    );
}
