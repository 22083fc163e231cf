//! Connections by cookie, once they are there: numbers both ways, resets, errors, ends.

use super::row::{Row, Step, all, check, is, story};
use super::stage::{At, Ground};
use super::taken::{FAMILIES, by_cookie, check_families, established, sends, syn, talk};
use super::talk::{CLIENT, FRONT, Plan, back, backend};
use crate::support::packet::Frame;
use bpfsmith_datapath::config::{
    Algorithm, Config, Events, Family, MidStream, Mode, Protocol, Rate, SourceLimit,
};
use bpfsmith_datapath::error::Error;
use bpfsmith_datapath::generation::Generation;
use bpfsmith_datapath::programs::{Hook, Usual};
use bpfsmith_datapath::reason::Reason;
use bpfsmith_datapath::shape::Path;
use bpfsmith_gate::needs;

/// Backends' first numbers, around where they wrap.
const OWN: [u32; 5] = [
    0,
    1,
    0x7fff_fff8,
    0x8000_0000,
    u32::MAX - 3,
];

#[test]
fn numbers_are_shifted_both_ways() {
    needs!(Root, NetNs, Veth, XdpLink, SynCookies);
    let ground = Ground::new();
    let rows: Vec<Row> = FAMILIES
        .into_iter()
        .flat_map(|family| {
            OWN.map(|own| {
                story(format!("{family:?} {own:x}"), move |stage| {
                    let taken = established(stage, talk(family, 1234), own)?;
                    let mut steps = Vec::new();
                    for (sent, heard) in [
                        (0, 0),
                        (5, 7),
                        (1000, 70_000),
                        (1 << 31, 3),
                    ] {
                        for len in [0, 1, 2, 3, 1000] {
                            steps.push(taken.asks(sent, heard, |frame| frame.bytes(len)));
                            steps.push(taken.answers(sent, heard, |frame| frame.bytes(len)));
                        }
                    }
                    // Checksums that are wrong stay as wrong as they are.
                    steps.push(taken.asks(1, 1, |frame| frame.bytes(9).l4_sum_off_by(5)));
                    steps.push(taken.answers(1, 1, |frame| frame.bytes(9).l4_sum_off_by(5)));
                    // Options, also of IP.
                    steps.push(taken.answers(1, 1, |frame| frame.tcp_options(&[1; 12]).bytes(9)));
                    if family == Family::V4 {
                        steps.push(taken.asks(1, 1, |frame| frame.options(&[1; 8]).bytes(9)));
                        steps.push(taken.answers(1, 1, |frame| frame.options(&[1; 8]).bytes(9)));
                    }
                    all(stage, &steps)
                })
            })
        })
        .collect();
    check(&ground, &by_cookie(Plan::new(Mode::Dnat)), &rows);
}

/// Packets that the kernel will cut, whose checksums it computes then.
#[test]
fn long_packets_are_shifted() {
    needs!(Root, NetNs, Veth, XdpLink, SynCookies, Tcx);
    let ground = Ground::new();
    check_families(
        &ground,
        &by_cookie(Plan::new(Mode::Dnat)),
        |stage, family| {
            let taken = established(stage, talk(family, 1234), 5)?;
            if stage.hook != Hook::Tcx {
                return Ok(());
            }
            for ([from, to], at) in [
                (taken.there(0, 0, |frame| frame.bytes(3000)), At::Front),
                (taken.back(0, 0, |frame| frame.bytes(3000)), At::Back(0)),
            ] {
                let out = stage.send_cut(at, &from.build(), 1000);
                Step::new(at, &from).becomes(&to).check(stage.hook, &out)?;
            }
            Ok(())
        },
    );
}

/// A refusal reaches the client as a reset that it believes.
#[test]
fn a_backend_may_refuse() {
    needs!(Root, NetNs, Veth, XdpLink, SynCookies);
    let ground = Ground::new();
    check_families(
        &ground,
        &by_cookie(Plan::new(Mode::Dnat)),
        |stage, family| {
            let talk = talk(family, 1234);
            let taken = sends(stage, talk, &syn(&talk, 7), 7)?;
            let refusal = talk.answers().flags("RA").seq(0).ack(8).window(0);
            let told = talk
                .answered()
                .flags("RA")
                .seq(taken.cookie.wrapping_add(1))
                .ack(8)
                .window(0)
                .ttl(63);
            // It knows another connection of the client's.
            let odd = talk.answers().flags("A").seq(4).ack(6);
            let reset = talk
                .asked()
                .macs(back(0), backend(0))
                .ident(0)
                .df()
                .flags("R")
                .seq(6)
                .window(0)
                .tcp_options(&[1; 4]);
            all(
                stage,
                &[
                    taken.brings(&taken.acks()),
                    Step::new(At::Back(0), &odd)
                        .becomes(&reset)
                        .counts(&[Reason::CookieAnswered])
                        .cut(),
                    Step::new(At::Back(0), &refusal).becomes(&told),
                ],
            )?;
            let path = Path::new(family, Protocol::Tcp);
            is("established", stage.entries(path)[0], 0)
        },
    );
}

#[test]
fn ends_and_resets_have_the_right_numbers() {
    needs!(Root, NetNs, Veth, XdpLink, SynCookies);
    let ground = Ground::new();
    let rows: Vec<Row> = FAMILIES
        .into_iter()
        .flat_map(|family| {
            let begin = talk(family, 1234);
            [
                story(format!("{family:?} both close"), move |stage| {
                    let taken = established(stage, begin, 1)?;
                    all(
                        stage,
                        &[
                            taken.asks(0, 0, |frame| frame.flags("FA")),
                            taken.answers(0, 1, |frame| frame.flags("FA")),
                            taken.asks(1, 1, |frame| frame.flags("A")),
                        ],
                    )?;
                    // The tuple is free: for a cookie again.
                    let again = established(stage, begin, 99)?;
                    all(stage, &[again.asks(0, 0, |frame| frame.bytes(3))])
                }),
                story(format!("{family:?} the client resets"), move |stage| {
                    let taken = established(stage, begin, 2)?;
                    let bare = |frame: Frame| frame.flags("R").ack(0);
                    all(
                        stage,
                        &[
                            taken.asks(0, 0, |frame| frame.flags("RA")),
                            taken.asks(0, 0, bare),
                            // What follows brings it to life again, as ever.
                            taken.answers(0, 0, |frame| frame.bytes(8)),
                        ],
                    )
                }),
                story(format!("{family:?} the backend resets"), move |stage| {
                    let taken = established(stage, begin, 3)?;
                    all(
                        stage,
                        &[
                            taken.answers(0, 0, |frame| frame.flags("RA")),
                            taken.answers(0, 0, |frame| frame.flags("R").ack(0)),
                        ],
                    )?;
                    let again = established(stage, begin, 1 << 30)?;
                    all(stage, &[again.answers(0, 0, |frame| frame.bytes(3))])
                }),
            ]
        })
        .collect();
    check(&ground, &by_cookie(Plan::new(Mode::Dnat)), &rows);
}

/// An error about an answer quotes the number that the client knows: its backend must not doubt it.
#[test]
fn errors_quote_the_numbers_of_those_who_get_them() {
    needs!(Root, NetNs, Veth, XdpLink, SynCookies);
    let ground = Ground::new();
    let rows: Vec<Row> = FAMILIES
        .into_iter()
        .flat_map(|family| {
            [8, 19, 20, 400].map(|bytes| {
                story(format!("{family:?} {bytes}"), move |stage| {
                    let begin = talk(family, 1234);
                    let taken = established(stage, begin, 12_345)?;
                    let [answer, answered] = taken.back(7, 9, |frame| frame.bytes(1000).ttl(64));
                    let router = match family {
                        Family::V4 => "10.77.0.9",
                        Family::V6 => "fd77::9",
                    };
                    let comes = Frame::ip(router, begin.service.ip())
                        .macs(CLIENT, FRONT)
                        .too_big(1300)
                        .quote(&answered, bytes);
                    let goes = Frame::ip(router, begin.backend.ip())
                        .macs(back(0), backend(0))
                        .ttl(63)
                        .too_big(1300)
                        .quote(&answer, bytes);
                    // The client's own numbers are the same everywhere.
                    let [ask, asked] = taken.there(7, 9, |frame| frame.bytes(1000).ttl(64));
                    let about = Frame::ip(router, begin.seen.ip())
                        .macs(backend(0), back(0))
                        .too_big(1300)
                        .quote(&asked, 8);
                    let told = Frame::ip(router, begin.client.ip())
                        .macs(FRONT, CLIENT)
                        .ttl(63)
                        .too_big(1300)
                        .quote(&ask, 8);
                    let errors = [
                        Step::new(At::Front, &comes).becomes(&goes),
                        Step::new(At::Back(0), &about).becomes(&told),
                    ];
                    all(stage, &errors.map(|step| step.counts(&[Reason::IcmpError])))
                })
            })
        })
        .collect();
    check(&ground, &by_cookie(Plan::new(Mode::Dnat)), &rows);
}

/// Connections stay what they are when the configuration sends no cookies any more.
#[test]
fn connections_outlive_the_configuration() {
    needs!(Root, NetNs, Veth, XdpLink, SynCookies);
    let ground = Ground::new();
    check_families(
        &ground,
        &by_cookie(Plan::new(Mode::Dnat)),
        |stage, family| {
            let begin = talk(family, 1234);
            let taken = established(stage, begin, 12_345)?;
            let other = talk(family, 1235);
            let early = sends(stage, other, &syn(&other, 9), 9)?;
            all(stage, &[early.brings(&early.acks())])?;
            stage.change(&Plan::new(Mode::Dnat).0);
            let plain = talk(family, 1236);
            let mut early = early;
            early.own = 99;
            all(stage, &plain.established())?;
            all(
                stage,
                &[
                    taken.asks(0, 0, |frame| frame.bytes(3)),
                    taken.answers(0, 3, |frame| frame.bytes(3)),
                    Step::new(At::Front, &early.acks()).drops(Reason::CookieEarly),
                    early.accepts(&[Reason::Answered, Reason::CookieAnswered]),
                    early.asks(0, 0, |frame| frame.bytes(3)),
                    plain.there_with("PA"),
                    plain.back_with("PA"),
                ],
            )?;
            stage.change(&by_cookie(Plan::new(Mode::Dnat)).0);
            all(stage, &[taken.asks(3, 3, |frame| frame.bytes(3))])
        },
    );
}

/// What cannot be is said, before anything is loaded.
#[test]
fn cookies_that_cannot_be() {
    needs!(Root, NetNs, Veth, XdpLink, SynCookies);
    let direct = by_cookie(Plan::new(Mode::DirectReturn));
    let refused = Generation::first(&direct.0).unwrap_err();
    assert!(
        matches!(refused, Error::CookiesWithoutAnswers { listener: 0, .. }),
        "{refused}"
    );
    let mut datagrams = by_cookie(Plan::new(Mode::Dnat));
    let limit = datagrams.0.limits.listeners[&0];
    datagrams.0.limits.listeners.insert(1, limit);
    let refused = Generation::first(&datagrams.0).unwrap_err();
    assert!(matches!(refused, Error::CookiesOfDatagrams(1)), "{refused}");
    let ground = Ground::new();
    let own_host = || {
        let generation = Generation::first(&by_cookie(Plan::new(Mode::Dnat)).0).unwrap();
        generation.load(Hook::TcxEgress, Usual::Device).unwrap_err()
    };
    let refused = ground.world.proxy.node.run(own_host).unwrap();
    assert!(matches!(refused, Error::CookiesToOwnHost), "{refused}");
}

/// Each kind of program, with all that there is, and with no more than it takes.
#[test]
fn programs_load() {
    needs!(Root, NetNs, Veth, XdpLink, SynCookies, Tcx);
    let load = |config: &Config, hook, usual| {
        let generation = Generation::first(config).unwrap();
        generation
            .load(hook, usual)
            .unwrap_or_else(|error| panic!("{hook:?} {usual:?}: {error:#}"));
    };
    let all = [
        (Hook::Xdp, Usual::Device),
        (Hook::Xdp, Usual::Back),
        (Hook::Tcx, Usual::Device),
        (Hook::Tcx, Usual::Peer),
    ];
    for (hook, usual) in all {
        for family in FAMILIES {
            let mut plan = by_cookie(Plan::new(Mode::Dnat));
            let is_of = |address: std::net::SocketAddr| Family::of(address.ip()) == family;
            plan.0
                .listeners
                .retain(|listener| is_of(listener.address) && listener.protocol == Protocol::Tcp);
            let numbers: Vec<u16> = plan.0.listeners.iter().map(|it| it.number).collect();
            plan.0
                .limits
                .listeners
                .retain(|number, _| numbers.contains(number));
            load(&plan.0, hook, usual);
        }
        let mut plan = by_cookie(Plan::new(Mode::Dnat));
        plan = plan.mid_stream(MidStream::Adopt);
        for mode in Mode::ALL {
            for algorithm in Algorithm::ALL {
                plan = plan.group(*mode, *algorithm, &[0, 1]);
            }
        }
        plan.0.has_vlan = true;
        plan.0.events = Some(Events::default());
        plan.0.limits.sources = Some(SourceLimit {
            rate: Rate {
                per_second: 10,
                burst: 10,
            },
            bits4: 24,
            bits6: 64,
            room: 100,
        });
        load(&plan.0, hook, usual);
    }
}
