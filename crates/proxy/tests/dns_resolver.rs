//! Names, asked for at servers that answer well, badly, or not at all.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod dns_rig;

use bpfsmith_gate::deadline;
use bpfsmith_proxy::dns::message::{Code, Family, Question};
use bpfsmith_proxy::dns::{
    Error, Failure, Hosts, MOST, OF_HOSTS, Resolver, Server as Place, Settings,
};
use bpfsmith_uapi::Errno;
use dns_rig::server::{Asked, Packet, Server, Way};
use dns_rig::{CUT, Reply};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const HOST: &str = "web.example";
/// Far longer than any answer takes: who waits for it fails.
const LONG: Duration = Duration::from_secs(60);
/// How long the silent are waited for, where they are.
const SHORT: Duration = Duration::from_millis(200);

fn settings(servers: &[SocketAddr]) -> Settings {
    Settings {
        servers: servers.iter().copied().map(Place::from).collect(),
        timeout: LONG,
        ..Settings::default()
    }
}

/// One that does not wait long for the silent.
fn hasty(servers: &[SocketAddr]) -> Settings {
    Settings {
        timeout: SHORT,
        attempts: 1,
        ..settings(servers)
    }
}

fn resolver(settings: Settings) -> Resolver {
    Resolver::of(settings, Hosts::default())
}

fn asking(server: &Server) -> Resolver {
    resolver(settings(&[server.place]))
}

fn texts(addresses: &BTreeSet<IpAddr>) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}

/// The addresses of the family that is asked for.
fn reply(question: &Question, ttl: u32, addresses: &[&str]) -> Reply {
    let addresses = addresses.iter().map(|it| it.parse::<IpAddr>().unwrap());
    let host = question.name.to_string();
    addresses
        .filter(|it| question.family.has(*it))
        .fold(Reply::to(question), |it, address| {
            it.address(&host, ttl, address)
        })
}

fn always(addresses: &'static [&str], ttl: u32) -> impl FnMut(&Asked) -> Vec<Packet> + Send {
    move |asked| vec![reply(&asked.question, ttl, addresses).into()]
}

fn silent(_: &Asked) -> Vec<Packet> {
    Vec::new()
}

fn says(code: u16) -> impl FnMut(&Asked) -> Vec<Packet> + Send {
    move |asked| vec![Reply::to(&asked.question).code(code).into()]
}

/// A port at which nobody is: a socket holds it, but takes packets from elsewhere only.
fn nobody() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect("127.0.0.1:9").unwrap();
    let place = socket.local_addr().unwrap();
    (socket, place)
}

#[test]
fn both_families_are_asked_for() {
    let server = Server::start(|asked| {
        let ttl = if asked.question.family == Family::V4 {
            300
        } else {
            200
        };
        vec![reply(&asked.question, ttl, &["10.0.0.1", "10.0.0.2", "fd00::1"]).into()]
    });
    let answer = asking(&server).resolve("Web.Example.").unwrap();
    assert_eq!(
        texts(&answer.addresses),
        ["10.0.0.1", "10.0.0.2", "fd00::1"]
    );
    assert_eq!(answer.lasts, Duration::from_secs(200));
    assert_eq!(answer.partial, None);
    let asked = server.asked();
    assert_eq!(asked.len(), 2);
    assert!(
        asked
            .iter()
            .all(|it| it.host == HOST && it.way == Way::Datagram)
    );
}

#[test]
fn one_family_is_enough() {
    for only in ["10.0.0.1", "fd00::1"] {
        let server = Server::start(move |asked| vec![reply(&asked.question, 60, &[only]).into()]);
        let answer = asking(&server).resolve(HOST).unwrap();
        assert_eq!(texts(&answer.addresses), [only]);
        assert_eq!(answer.partial, None);
    }
}

#[test]
fn numbers_and_ports_are_not_the_same_each_time() {
    let server = Server::start(always(&["10.0.0.1"], 60));
    let resolver = asking(&server);
    for _ in 0..16 {
        resolver.resolve(HOST).unwrap();
    }
    let asked = server.asked();
    let ids: BTreeSet<u16> = asked.iter().map(|it| it.question.id).collect();
    let ports: BTreeSet<u16> = asked.iter().map(|it| it.from.port()).collect();
    assert_eq!(asked.len(), 32);
    assert!(ids.len() > 16 && ports.len() > 16, "{ids:?} {ports:?}");
}

#[test]
fn times_are_neither_too_short_nor_too_long() {
    for (ttl, seconds) in [
        (0, 1),
        (1, 1),
        (3600, 3600),
        (86_400, 3600),
    ] {
        let server = Server::start(always(&["10.0.0.1"], ttl));
        let answer = asking(&server).resolve(HOST).unwrap();
        assert_eq!(answer.lasts, Duration::from_secs(seconds));
    }
}

#[test]
fn absence_is_told() {
    let holds = Some(Duration::from_secs(60));
    let server = Server::start(|asked| {
        vec![
            Reply::to(&asked.question)
                .code(3)
                .zone("example", 900, 60)
                .into(),
        ]
    });
    let host = HOST.to_owned();
    let error = asking(&server).resolve(HOST).unwrap_err();
    assert_eq!(error, Error::NoName { host, holds });
    // Of a name that is not there, the other family is not asked for.
    assert_eq!(server.asked().len(), 1);
    server.script(|asked| vec![Reply::to(&asked.question).zone("example", 900, 60).into()]);
    let host = HOST.to_owned();
    let error = asking(&server).resolve(HOST).unwrap_err();
    assert_eq!(error, Error::NoAddress { host, holds });
}

#[test]
fn names_lead_to_names() {
    let server = Server::start(|asked| {
        let reply = Reply::to(&asked.question)
            .alias(HOST, 50, "b.example")
            .alias("b.example", 40, "c.example");
        vec![match asked.question.family {
            Family::V4 => reply
                .address("c.example", 90, "10.0.0.1".parse().unwrap())
                .into(),
            Family::V6 => reply.into(),
        }]
    });
    let answer = asking(&server).resolve(HOST).unwrap();
    assert_eq!(texts(&answer.addresses), ["10.0.0.1"]);
    assert_eq!(answer.lasts, Duration::from_secs(40));
}

#[test]
fn what_does_not_fit_is_asked_for_by_tcp() {
    let server = Server::start(|asked| {
        let reply = Reply::to(&asked.question);
        vec![match asked.way {
            Way::Datagram => reply.flag(CUT).into(),
            Way::Stream => (0..300_u32)
                .filter(|_| asked.question.family == Family::V4)
                .fold(reply, |it, n| {
                    it.address(HOST, 60, IpAddr::from((0x0a00_0000 + n).to_be_bytes()))
                })
                .into(),
        }]
    });
    let answer = asking(&server).resolve(HOST).unwrap();
    assert_eq!(answer.addresses.len(), 300);
    let ways: Vec<Way> = server.asked().iter().map(|it| it.way).collect();
    assert_eq!(
        ways,
        [
            Way::Datagram,
            Way::Stream,
            Way::Datagram,
            Way::Stream
        ]
    );
}

#[test]
fn a_server_that_cuts_or_closes_by_tcp_fails() {
    let server = Server::start(|asked| vec![Reply::to(&asked.question).flag(CUT).into()]);
    let failure = |server: &Server| {
        let once = Settings {
            attempts: 1,
            ..settings(&[server.place])
        };
        match resolver(once).resolve(HOST) {
            Err(Error::Servers { failures, .. }) => failures[0].1.clone(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(failure(&server), Failure::Cut);
    server.script(|asked| match asked.way {
        Way::Datagram => vec![Reply::to(&asked.question).flag(CUT).into()],
        Way::Stream => vec![Packet::Close],
    });
    assert_eq!(failure(&server), Failure::Closed);
}

/// Packets that claim to be the answer and are not.
fn made_up(question: &Question) -> Vec<Packet> {
    let evil = &["10.6.6.6", "fd66::6"];
    let other = |question| reply(&question, 60, evil);
    let id = question.id ^ 1;
    let name = dns_rig::name("other.example");
    let family = match question.family {
        Family::V4 => Family::V6,
        Family::V6 => Family::V4,
    };
    vec![
        other(Question {
            id,
            ..question.clone()
        })
        .into(),
        other(Question {
            name,
            ..question.clone()
        })
        .into(),
        other(Question {
            family,
            ..question.clone()
        })
        .into(),
        reply(question, 60, evil).flag(0x8000).into(),
        Packet::Own(question.id.to_be_bytes().to_vec()),
        Packet::Own(Vec::new()),
    ]
}

#[test]
fn what_is_no_answer_is_not_taken_for_one() {
    let server = Server::start(|asked| {
        let mut packets = vec![Packet::Elsewhere(
            reply(&asked.question, 60, &["10.6.6.6", "fd66::6"]).bytes(),
        )];
        packets.extend(made_up(&asked.question));
        packets.push(reply(&asked.question, 60, &["10.0.0.1", "fd00::1"]).into());
        packets
    });
    let answer = asking(&server).resolve(HOST).unwrap();
    assert_eq!(texts(&answer.addresses), ["10.0.0.1", "fd00::1"]);
    // Nothing else comes: those that did are told.
    server.script(|asked| made_up(&asked.question));
    let failure = deadline(LONG, || {
        let failure = match resolver(hasty(&[server.place])).resolve(HOST) {
            Err(Error::Servers { failures, .. }) => failures[0].1.clone(),
            other => panic!("{other:?}"),
        };
        // Its time may be over before all of them have come.
        let is_early = matches!(failure, Failure::Silent { foreign } if foreign < 6);
        (!is_early).then_some(failure)
    });
    assert_eq!(failure, Failure::Silent { foreign: 6 });
}

#[test]
fn the_next_server_is_asked_and_stays_the_first() {
    let bad = Server::start(says(2));
    let good = Server::start(always(&["10.0.0.1"], 60));
    let (_held, none) = nobody();
    let resolver = resolver(settings(&[none, bad.place, good.place]));
    resolver.resolve(HOST).unwrap();
    assert_eq!((bad.asked().len(), good.asked().len()), (1, 2));
    resolver.resolve(HOST).unwrap();
    assert_eq!((bad.asked().len(), good.asked().len()), (1, 4));
}

#[test]
fn a_silent_server_is_followed_by_the_next() {
    let quiet = Server::start(silent);
    let good = Server::start(always(&["10.0.0.1"], 60));
    let mut settings = settings(&[quiet.place, good.place]);
    settings.timeout = SHORT;
    // The good one may be late on a busy machine.
    settings.attempts = 5;
    let answer = resolver(settings).resolve(HOST).unwrap();
    assert_eq!(texts(&answer.addresses), ["10.0.0.1"]);
    assert!(!quiet.asked().is_empty());
}

#[test]
fn each_server_has_its_failure() {
    let of_family = |server: &Server, family: Family| {
        server
            .asked()
            .iter()
            .filter(|it| it.question.family == family)
            .count()
    };
    let (_held, none) = nobody();
    let (bad, quiet, error) = deadline(LONG, || {
        let (bad, quiet) = (Server::start(says(5)), Server::start(silent));
        let mut settings = hasty(&[bad.place, none, quiet.place]);
        settings.attempts = 2;
        let begun = Instant::now();
        let error = resolver(settings).resolve(HOST).unwrap_err();
        let took = begun.elapsed();
        let Error::Servers { failures, .. } = &error else {
            panic!("{error}");
        };
        // A server that has no processor for so long is silent too, and is asked again: that says nothing. The quiet
        // one is waited for twice for each family, whatever the others do.
        let is_late = match failures[0].1 {
            Failure::Silent { .. } => true,
            _ => of_family(&bad, Family::V4) > 1 && took > 4 * SHORT + Duration::from_millis(150),
        };
        (!is_late).then_some((bad, quiet, error))
    });
    let Error::Servers {
        family, failures, ..
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!(*family, Family::V4);
    assert_eq!(
        failures[0],
        (bad.place.into(), Failure::Said(Code::REFUSED))
    );
    let refused = Failure::Call {
        call: "recv",
        errno: Errno::ECONNREFUSED,
    };
    assert_eq!(failures[1], (none.into(), refused));
    assert_eq!(
        failures[2],
        (quiet.place.into(), Failure::Silent { foreign: 0 })
    );
    // Who refuses is not asked a second time; who is silent is.
    assert_eq!(of_family(&bad, Family::V4), 1);
    // It may read the last question when nobody waits for an answer any more.
    deadline(LONG, || (of_family(&quiet, Family::V6) == 2).then_some(()));
    assert_eq!(of_family(&quiet, Family::V4), 2);
}

#[test]
fn a_family_that_fails_is_told_with_the_other() {
    let server = Server::start(|asked| match asked.question.family {
        Family::V4 => vec![reply(&asked.question, 600, &["10.0.0.1"]).into()],
        Family::V6 => vec![Reply::to(&asked.question).code(2).into()],
    });
    let answer = asking(&server).resolve(HOST).unwrap();
    assert_eq!(texts(&answer.addresses), ["10.0.0.1"]);
    assert_eq!(answer.lasts, Duration::from_secs(30));
    assert_eq!(answer.partial.unwrap().family, Family::V6);
}

#[test]
fn short_names_are_searched_for() {
    let server = Server::start(|asked| {
        vec![match &*asked.host {
            "web.b.example" => reply(&asked.question, 60, &["10.0.0.1"]).into(),
            _ => Reply::to(&asked.question).code(3).into(),
        }]
    });
    let mut settings = settings(&[server.place]);
    settings.search = vec![
        dns_rig::name("a.example"),
        dns_rig::name("b.example"),
    ];
    let searching = resolver(settings.clone());
    assert_eq!(
        texts(&searching.resolve("web").unwrap().addresses),
        ["10.0.0.1"]
    );
    let hosts: Vec<String> = server.asked().into_iter().map(|it| it.host).collect();
    assert_eq!(
        hosts,
        [
            "web.a.example",
            "web.b.example",
            "web.b.example"
        ]
    );
    assert!(matches!(
        searching.resolve("web."),
        Err(Error::NoName { .. })
    ));
    // While nobody tells of the first, the second is not taken.
    server.script(|asked| {
        vec![match &*asked.host {
            "web.b.example" => reply(&asked.question, 60, &["10.0.0.1"]).into(),
            _ => Reply::to(&asked.question).code(2).into(),
        }]
    });
    assert!(matches!(
        searching.resolve("web"),
        Err(Error::Servers { .. })
    ));
}

#[test]
fn some_names_need_no_server() {
    let hosts = Hosts::parse("10.0.0.7 here here.example\nfd00::7 here");
    let resolver = Resolver::with(Vec::new(), hosts);
    let addresses = |host: &str| resolver.resolve(host).map(|it| texts(&it.addresses));
    assert_eq!(addresses("HERE").unwrap(), ["10.0.0.7", "fd00::7"]);
    assert_eq!(resolver.resolve("here.example").unwrap().lasts, OF_HOSTS);
    assert_eq!(addresses("localhost").unwrap(), ["127.0.0.1", "::1"]);
    assert_eq!(addresses("db.localhost").unwrap(), ["127.0.0.1", "::1"]);
    assert_eq!(addresses("fd00::9").unwrap(), ["fd00::9"]);
    assert_eq!(resolver.resolve("10.0.0.9").unwrap().lasts, MOST);
    assert!(matches!(addresses(HOST), Err(Error::NoServers { .. })));
    assert!(matches!(addresses("a..b"), Err(Error::Name { .. })));
}

/// A directory that is gone afterwards.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("bs-dns-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn files_are_read_again_when_they_have_changed() {
    let directory = Directory::new("files");
    let [resolv_conf, hosts] = ["resolv.conf", "hosts"].map(|it| directory.0.join(it));
    // Neither is there.
    let resolver = Resolver::of_files(&resolv_conf, &hosts).unwrap();
    std::fs::write(&hosts, "10.0.0.1 here\n").unwrap();
    assert_eq!(
        texts(&resolver.resolve("here").unwrap().addresses),
        ["10.0.0.1"]
    );
    // As editors do: another file of the same length takes the place.
    let other = directory.0.join("other");
    std::fs::write(&other, "10.0.0.2 here\n").unwrap();
    std::fs::rename(&other, &hosts).unwrap();
    assert_eq!(
        texts(&resolver.resolve("here").unwrap().addresses),
        ["10.0.0.2"]
    );
    std::fs::remove_file(&hosts).unwrap();
    std::fs::create_dir(&hosts).unwrap();
    match resolver.resolve("here") {
        Err(Error::File { call, path, errno }) => {
            assert_eq!((call, path, errno), ("read", hosts, Errno::EISDIR));
        }
        other => panic!("{other:?}"),
    }
}
