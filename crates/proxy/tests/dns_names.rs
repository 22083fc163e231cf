//! Names that are kept fresh: what changes is told, and what was good stays while servers fail.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod dns_rig;

use bpfsmith_gate::deadline;
use bpfsmith_proxy::dns::{Error, Hosts, Known, Names, Resolver, Server as Place, Settings};
use dns_rig::Reply;
use dns_rig::server::{Asked, Packet, Server, Way};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const HOST: &str = "web.example";
const LIMIT: Duration = Duration::from_secs(60);
/// Nobody waits so long: who does has not been stopped.
const EVER: Duration = Duration::from_secs(3600);

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|it| (*it).to_owned()).collect()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// One address of IPv4.
fn one(ttl: u32, address: &'static str) -> impl FnMut(&Asked) -> Vec<Packet> + Send {
    move |asked| {
        let reply = Reply::to(&asked.question);
        vec![
            match asked.question.family.has(ip(address)) {
                true => reply.address(&asked.host, ttl, ip(address)).into(),
                false => reply.into(),
            },
        ]
    }
}

fn fails(asked: &Asked) -> Vec<Packet> {
    vec![Reply::to(&asked.question).code(2).into()]
}

fn silent(_: &Asked) -> Vec<Packet> {
    Vec::new()
}

/// Names of a server, and what tells of changes.
fn names(server: &Server, timeout: Duration) -> (Names, Receiver<()>) {
    let settings = Settings {
        servers: vec![Place::from(server.place)],
        timeout,
        ..Settings::default()
    };
    let (tell, told) = channel();
    let resolver = Resolver::of(settings, Hosts::parse("10.0.0.7 here\n"));
    let names = Names::start(resolver, move || {
        // Who has seen enough does not listen any more.
        let _ = tell.send(());
    });
    (names.unwrap(), told)
}

fn known(names: &Names, host: &str) -> Known {
    names.known()[host].clone()
}

fn has(names: &Names, host: &str, address: &str) -> bool {
    known(names, host).addresses == BTreeSet::from([ip(address)])
}

#[test]
fn an_answer_that_is_over_is_asked_for_again_and_a_change_is_told() {
    let server = Server::start(one(1, "10.0.0.1"));
    let (names, told) = names(&server, EVER);
    names.set(set(&[HOST]));
    told.recv_timeout(LIMIT).unwrap();
    assert!(has(&names, HOST, "10.0.0.1"));
    // Asked for again, and the same: nobody is told.
    let before = server.asked().len();
    deadline(LIMIT, || (server.asked().len() >= before + 4).then_some(()));
    assert!(told.try_recv().is_err());
    server.script(one(1, "10.0.0.2"));
    told.recv_timeout(LIMIT).unwrap();
    assert!(has(&names, HOST, "10.0.0.2"));
    let known = known(&names, HOST);
    assert_eq!(known.error, None);
    assert!(known.asked.is_some());
}

#[test]
fn the_last_good_answer_stays_while_servers_fail() {
    let server = Server::start(one(1, "10.0.0.1"));
    let (names, told) = names(&server, EVER);
    names.set(set(&[HOST]));
    told.recv_timeout(LIMIT).unwrap();
    server.script(fails);
    let error = deadline(LIMIT, || known(&names, HOST).error);
    assert!(error.to_string().contains("SERVFAIL"), "{error}");
    // Also after the second failure, and when the name is said not to be there at all.
    let before = server.asked().len();
    deadline(LIMIT, || (server.asked().len() > before).then_some(()));
    assert!(has(&names, HOST, "10.0.0.1"));
    server.script(|asked| vec![Reply::to(&asked.question).code(3).into()]);
    names.ask_now(HOST).unwrap();
    deadline(LIMIT, || {
        matches!(known(&names, HOST).error, Some(Error::NoName { .. })).then_some(())
    });
    assert!(has(&names, HOST, "10.0.0.1"));
    assert!(told.try_recv().is_err());
    server.script(one(1, "10.0.0.2"));
    told.recv_timeout(LIMIT).unwrap();
    assert!(has(&names, HOST, "10.0.0.2"));
    assert_eq!(known(&names, HOST).error, None);
}

#[test]
fn a_server_that_is_gone_is_a_failure_too() {
    let server = Server::start(one(1, "10.0.0.1"));
    // A question that it has not read goes with it, and nobody says so: it is asked for once more after that time.
    let (names, told) = names(&server, Duration::from_secs(5));
    names.set(set(&[HOST]));
    told.recv_timeout(LIMIT).unwrap();
    drop(server);
    let error = deadline(LIMIT, || known(&names, HOST).error);
    assert!(error.to_string().contains("ECONNREFUSED"), "{error}");
    assert!(has(&names, HOST, "10.0.0.1"));
}

#[test]
fn all_are_waited_for_and_each_has_its_outcome() {
    let mut good = one(3600, "10.0.0.1");
    let server = Server::start(move |asked| match &*asked.host {
        HOST => good(asked),
        "none.example" => vec![Reply::to(&asked.question).code(3).into()],
        _ => Vec::new(),
    });
    let (names, _) = names(&server, EVER);
    let all = set(&[HOST, "none.example", "here", "a..b"]);
    let outcomes = names.resolve_all(&all, EVER);
    assert_eq!(outcomes.keys().cloned().collect::<BTreeSet<_>>(), all);
    assert_eq!(outcomes[HOST], Ok(BTreeSet::from([ip("10.0.0.1")])));
    assert_eq!(outcomes["here"], Ok(BTreeSet::from([ip("10.0.0.7")])));
    assert!(matches!(
        outcomes["none.example"],
        Err(Error::NoName { .. })
    ));
    assert!(matches!(outcomes["a..b"], Err(Error::Name { .. })));
    // Those with an answer are not asked for again, and who is silent does not hold them up.
    let before = server.asked().iter().filter(|it| it.host == HOST).count();
    let outcomes = names.resolve_all(&set(&[HOST, "silent"]), Duration::from_millis(50));
    assert!(outcomes[HOST].is_ok());
    assert!(matches!(outcomes["silent"], Err(Error::Late { .. })));
    assert_eq!(
        server.asked().iter().filter(|it| it.host == HOST).count(),
        before
    );
}

#[test]
fn a_name_that_failed_is_asked_for_once_more() {
    let server = Server::start(fails);
    let (names, _) = names(&server, EVER);
    assert!(names.resolve_all(&set(&[HOST]), EVER)[HOST].is_err());
    server.script(one(3600, "10.0.0.1"));
    assert!(names.resolve_all(&set(&[HOST]), EVER)[HOST].is_ok());
}

#[test]
fn names_that_are_not_wanted_are_forgotten() {
    let server = Server::start(one(3600, "10.0.0.1"));
    let (names, _) = names(&server, EVER);
    names.resolve_all(&set(&["a.example", "b.example"]), EVER);
    names.set(set(&["b.example", "c.example"]));
    let kept: Vec<String> = names.known().into_keys().collect();
    assert_eq!(kept, ["b.example", "c.example"]);
    assert!(has(&names, "b.example", "10.0.0.1"));
    deadline(LIMIT, || has(&names, "c.example", "10.0.0.1").then_some(()));
    let host = "a.example".to_owned();
    assert_eq!(names.ask_now("a.example"), Err(Error::NotKept { host }));
}

#[test]
fn a_name_can_be_asked_for_before_its_time() {
    let server = Server::start(one(3600, "10.0.0.1"));
    let (names, told) = names(&server, EVER);
    names.set(set(&[HOST]));
    told.recv_timeout(LIMIT).unwrap();
    server.script(one(3600, "10.0.0.2"));
    names.ask_now(HOST).unwrap();
    told.recv_timeout(LIMIT).unwrap();
    assert!(has(&names, HOST, "10.0.0.2"));
}

#[test]
fn silent_servers_do_not_hold_up_other_names_or_the_end() {
    let mut good = one(3600, "10.0.0.1");
    let server = Server::start(move |asked| match &*asked.host {
        HOST => good(asked),
        _ => silent(asked),
    });
    let (names, _) = names(&server, EVER);
    names.set(set(&["s1.example", "s2.example", "s3.example"]));
    deadline(LIMIT, || (server.asked().len() >= 3).then_some(()));
    assert!(names.resolve_all(&set(&[HOST]), EVER)[HOST].is_ok());
    ends(names);
}

#[test]
fn a_silent_connection_does_not_hold_up_the_end() {
    let server = Server::start(|asked| match asked.way {
        Way::Datagram => vec![Reply::to(&asked.question).flag(dns_rig::CUT).into()],
        Way::Stream => Vec::new(),
    });
    let (names, _) = names(&server, EVER);
    names.set(set(&[HOST]));
    deadline(LIMIT, || {
        server
            .asked()
            .iter()
            .any(|it| it.way == Way::Stream)
            .then_some(())
    });
    ends(names);
}

/// Dropping ends, although the servers would be waited for much longer.
fn ends(names: Names) {
    let dropping = std::thread::spawn(move || drop(names));
    deadline(LIMIT, || dropping.is_finished().then_some(()));
    dropping.join().unwrap();
}
