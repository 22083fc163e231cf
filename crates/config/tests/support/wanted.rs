//! Anything that a configuration may say.

use bpfsmith_config::At;
use bpfsmith_config::desired::*;
use proptest::option;
use proptest::prelude::*;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

fn vec<S: Strategy>(one: S, range: std::ops::Range<usize>) -> impl Strategy<Value = Vec<S::Value>> {
    prop::collection::vec(one, range)
}

fn word<T: Copy + std::fmt::Debug + 'static>(all: &'static [T]) -> impl Strategy<Value = T> {
    prop::sample::select(all)
}

fn time() -> impl Strategy<Value = Duration> {
    prop_oneof![
        any::<u64>().prop_map(Duration::from_millis),
        (0_u64..100_000).prop_map(Duration::from_secs),
        (0..=i64::MAX.unsigned_abs()).prop_map(Duration::from_secs),
    ]
}

fn lasting() -> impl Strategy<Value = Duration> {
    time().prop_filter("none", |time| !time.is_zero())
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z][a-z0-9-]{0,8}",
        "[\\PC&&[^\u{7f}-\u{9f}]]{1,6}"
    ]
    .prop_filter("a place in a path", |name| {
        !matches!(name.as_str(), "." | "..")
    })
}

fn host() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9]{0,5}(\\.[a-z]{2,4}){0,2}"
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        any::<(IpAddr, u16)>().prop_map(|it| Place::Address(SocketAddr::from(it))),
        (host(), any::<u16>()).prop_map(|(host, port)| Place::Host(host, port)),
    ]
}

fn source() -> impl Strategy<Value = Source> {
    let v4 = (any::<u32>(), 0..=32_u8).prop_map(|(ip, bits)| {
        let mask = u32::MAX.checked_shl(u32::from(32 - bits)).unwrap_or(0);
        Source::Prefix(IpAddr::from((ip & mask).to_be_bytes()), bits)
    });
    let v6 = (any::<u128>(), 0..=128_u8).prop_map(|(ip, bits)| {
        let mask = u128::MAX.checked_shl(u32::from(128 - bits)).unwrap_or(0);
        Source::Prefix(IpAddr::from((ip & mask).to_be_bytes()), bits)
    });
    prop_oneof![v4, v6, host().prop_map(Source::Host)]
}

fn target() -> impl Strategy<Value = Target> {
    let weight = prop_oneof![Just(1), any::<u32>()];
    (place(), weight).prop_map(|(place, weight)| Target {
        at: At::default(),
        place,
        weight,
    })
}

fn check() -> impl Strategy<Value = Check> {
    let expect = vec(any::<u16>(), 1..4);
    let http = ("[ -~]{0,8}", option::of(host()), expect);
    let http = http.prop_map(|(path, host, expect)| Check::Http { path, host, expect });
    prop_oneof![
        Just(Check::Tcp),
        Just(Check::http()),
        http
    ]
}

fn health() -> impl Strategy<Value = Health> {
    let interval = (10_u64..=86_400_000).prop_map(Duration::from_millis);
    let numbers = (0.0..=0.5_f64, 1..=u32::MAX, 1..=u32::MAX);
    let all = (check(), interval, lasting(), numbers, time());
    let said = all.prop_map(
        |(check, interval, timeout, (jitter, up, down), slow_start)| Health {
            check,
            interval,
            timeout,
            jitter,
            up,
            down,
            slow_start,
        },
    );
    prop_oneof![check().prop_map(Health::usual), said]
}

/// Without its name.
fn group() -> impl Strategy<Value = Group> {
    let words = (word(Algorithm::ALL), word(Nat::ALL));
    let drain = prop_oneof![Just(Group::DRAIN), time()];
    let all = (words, vec(target(), 0..4), option::of(health()), drain);
    all.prop_map(|((algorithm, nat), targets, health, drain)| Group {
        at: At::default(),
        name: String::new(),
        algorithm,
        nat,
        targets,
        health,
        drain,
    })
}

/// A proxy with the groups that are its own, by which all others are chosen with a number.
type Draft = (Proxy, Vec<(Option<Group>, usize)>);

fn proxy() -> impl Strategy<Value = Draft> {
    let devices = vec("[a-z]{1,4}[0-9]", 0..3);
    let addresses = vec(any::<IpAddr>(), 0..3);
    let protocols = vec(word(Protocol::ALL), 1..3);
    let limit = any::<(u32, Option<u32>, bool)>().prop_map(|(rate, burst, cookies)| Limit {
        rate,
        burst: burst.unwrap_or(rate),
        cookies,
    });
    let answers = vec((option::weighted(0.7, group()), any::<usize>()), 4..5);
    let routes = vec(vec(source(), 0..3), 0..4);
    let listen = (devices, addresses, 1..=u16::MAX, protocols);
    let all = (listen, option::of(limit), routes, answers);
    all.prop_map(
        |((devices, addresses, port, protocols), limit, routes, answers)| {
            let at = At::default();
            let group = String::new();
            let route = |sources| Route {
                at,
                sources,
                group: String::new(),
            };
            let proxy = Proxy {
                at,
                name: String::new(),
                devices,
                addresses,
                port,
                protocols,
                group,
                routes: routes.into_iter().map(route).collect(),
                limit,
            };
            (proxy, answers)
        },
    )
}

fn settings() -> impl Strategy<Value = Settings> {
    let path = || "/[ -~]{0,12}".prop_map(std::path::PathBuf::from);
    let ports = (1..=u16::MAX, 1..=u16::MAX).prop_map(|(a, b)| a.min(b)..=a.max(b));
    let times = option::of(lasting());
    let timeouts = vec(times, 5..6).prop_map(|it| Timeouts {
        unanswered: it[0],
        established: it[1],
        half_closed: it[2],
        closed: it[3],
        udp: it[4],
    });
    let room = option::of(1..=u32::MAX);
    let limit = (any::<(u32, u32)>(), 0..=32_u8, 0..=128_u8, room.clone());
    let limit = limit.prop_map(|((rate, burst), bits4, bits6, room)| SourceLimit {
        rate,
        burst,
        bits4,
        bits6,
        room,
    });
    let log = (
        path(),
        word(Format::ALL),
        0..=i64::MAX.unsigned_abs(),
        any::<u32>(),
    );
    let log = log.prop_map(|(path, format, bytes, files)| AccessLog {
        path,
        format,
        bytes,
        files,
    });
    let listen = || any::<(IpAddr, u16)>().prop_map(SocketAddr::from);
    let admin = (listen(), path()).prop_map(|(listen, token_file)| Admin { listen, token_file });
    let words = (
        option::of(word(Fragments::ALL)),
        option::of(word(MidStream::ALL)),
        any::<(Option<bool>, bool)>(),
    );
    let places = (path(), path(), option::of(listen()), option::of(admin));
    let lists = (vec("[a-z]{1,4}[0-9]", 0..3), vec(any::<IpAddr>(), 0..3));
    let numbers = (option::of(ports), room, timeouts, option::of(limit));
    let all = (lists, numbers, words, places, option::of(log));
    let said = all.prop_map(|(lists, numbers, words, places, access_log)| Settings {
        devices: lists.0,
        sources: lists.1,
        source_ports: numbers.0,
        flows: numbers.1,
        timeouts: numbers.2,
        source_limit: numbers.3,
        fragments: words.0,
        mid_stream: words.1,
        vlan: words.2.0,
        events: words.2.1,
        control: places.0,
        pins: places.1,
        metrics: places.2,
        admin: places.3,
        access_log,
    });
    prop_oneof![Just(Settings::default()), said]
}

/// Anything that a configuration may say.
pub(crate) fn wanted() -> impl Strategy<Value = Desired> {
    let proxies =
        prop::collection::btree_map(prop_oneof![Just("proxy".to_owned()), name()], proxy(), 0..4);
    let groups = prop::collection::btree_map(name(), group(), 0..3);
    (proxies, groups, settings()).prop_map(|(proxies, named, settings)| {
        let mut groups: Vec<Group> = Vec::new();
        for (name, group) in named {
            groups.push(Group { name, ..group });
        }
        let mut all = Vec::new();
        for (name, (mut proxy, answers)) in proxies {
            let mut answers = answers.into_iter();
            let mut answer = |own: String| {
                let (group, number) = answers.next().expect("enough of them");
                let is_free = groups.iter().all(|it| it.name != own);
                match group {
                    Some(group) if is_free => groups.push(Group {
                        name: own.clone(),
                        ..group
                    }),
                    _ if groups.is_empty() => groups.push(Group {
                        at: At::default(),
                        name: own.clone(),
                        algorithm: Algorithm::Maglev,
                        nat: Nat::Dnat,
                        targets: Vec::new(),
                        health: None,
                        drain: Group::DRAIN,
                    }),
                    _ => return groups[number % groups.len()].name.clone(),
                }
                own
            };
            proxy.group = answer(name.clone());
            for (number, route) in proxy.routes.iter_mut().enumerate() {
                route.group = answer(format!("{name}-route-{}", number + 1));
            }
            proxy.name = name;
            all.push(proxy);
        }
        Desired {
            proxies: all,
            groups,
            settings,
        }
    })
}
