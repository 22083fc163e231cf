//! From a SYN that is too much to a connection: what each packet becomes.

use super::row::{Row, Step, all, check, is, row, story};
use super::stage::{At, Ground, Out, Verdict};
use super::taken::{
    FAMILIES, OPTIONS, Taken, by_cookie, check_families, established, mss_option, sends, syn, talk,
};
use super::talk::{CLIENT, FRONT, Plan, Talk, back, backend, vip};
use crate::support::judge::{L4, View, good};
use crate::support::packet::Frame;
use bpfsmith_datapath::config::{Algorithm, Events, Family, MidStream, Mode, Protocol};
use bpfsmith_datapath::reason::Reason;
use bpfsmith_datapath::shape::Path;
use bpfsmith_gate::{deadline, needs};
use std::net::SocketAddr;
use std::time::Duration;

type Shape = fn(Frame) -> Frame;

/// How a backend sees the client in the proxy's mode: a port of its own may be any.
fn seen_as(out: &Out, mut talk: Talk) -> Talk {
    let view: View = good(&out.frame);
    talk.seen = SocketAddr::new(view.src(), view.ports().unwrap().0);
    talk
}

#[test]
fn a_handshake_is_answered_without_a_trace() {
    needs!(Root, NetNs, Veth, XdpLink, SynCookies);
    let ground = Ground::new();
    let rows: Vec<Row> = FAMILIES
        .into_iter()
        .flat_map(|family| {
            let talk = talk(family, 1234);
            let shapes: [(&str, Frame); 9] = [
                ("no options", talk.asks()),
                ("all options", talk.asks().tcp_options(&OPTIONS)),
                ("options to the brim", talk.asks().tcp_options(&[1; 40])),
                (
                    "just as long as the answer",
                    talk.asks().tcp_options(&[2, 4, 5, 0xb4]),
                ),
                ("data", talk.asks().tcp_options(&OPTIONS).bytes(1000)),
                ("trailer", talk.asks().trailer(6)),
                ("last hop", talk.asks().ttl(1)),
                ("class of service", talk.asks().tos(0xb8)),
                ("wants ECN", talk.asks()),
            ];
            shapes.map(|(name, frame)| {
                let letters = if name == "wants ECN" { "SEC" } else { "S" };
                story(format!("{family:?} {name}"), move |stage| {
                    for isn in [0, 1, 0x7fff_ffff, u32::MAX] {
                        let frame = frame.clone().flags(letters).seq(isn);
                        sends(stage, talk, &frame, isn)?;
                    }
                    let path = Path::new(family, Protocol::Tcp);
                    is("flows", stage.entries(path), [0, 0])
                })
            })
        })
        .collect();
    check(&ground, &by_cookie(Plan::new(Mode::Dnat)), &rows);
}

/// What is no plain SYN gets no cookie.
#[test]
fn others_get_no_cookie() {
    needs!(Root, NetNs, Veth, XdpLink, SynCookies);
    let ground = Ground::new();
    let mut rows = Vec::new();
    for family in FAMILIES {
        let talk = talk(family, 1234);
        let syn = || talk.asks().flags("S");
        let limited = |frame: &Frame| Step::new(At::Front, frame).drops(Reason::ListenerLimit);
        rows.push(row(
            format!("{family:?}"),
            [
                limited(&syn().data_offset(4)),
                limited(&syn().data_offset(9)),
            ],
        ));
        for letters in [
            "SA", "SR", "SF", "R", "F", "FA", "", "P",
        ] {
            let frame = talk.asks().flags(letters);
            let step = Step::new(At::Front, &frame).passes(Reason::MidStream);
            rows.push(row(format!("{family:?} {letters}"), [step]));
        }
    }
    let v4 = talk(Family::V4, 1234).asks().flags("S").options(&[1; 4]);
    let v6 = talk(Family::V6, 1234)
        .asks()
        .flags("S")
        .extension(crate::support::packet::DESTINATION, 1);
    for frame in [v4, v6] {
        rows.push(row(
            "headers in between",
            [Step::new(At::Front, &frame).drops(Reason::ListenerLimit)],
        ));
    }
    check(&ground, &by_cookie(Plan::new(Mode::Dnat)), &rows);
}

#[test]
fn a_cookie_that_comes_back_begins_a_connection() {
    needs!(Root, NetNs, Veth, XdpLink, SynCookies);
    let ground = Ground::new();
    let rows: Vec<Row> = FAMILIES
        .into_iter()
        .flat_map(|family| {
            let talk = talk(family, 1234);
            let shapes: [(&str, Shape); 6] = [
                ("nothing else", |frame| frame),
                ("data", |frame| frame.flags("PA").bytes(999)),
                ("options", |frame| frame.tcp_options(&[1; 12])),
                ("as long as the SYN", |frame| frame.bytes(4)),
                ("trailer", |frame| frame.trailer(6)),
                ("urgent", |frame| frame.flags("UPA").bytes(3)),
            ];
            shapes.map(|(name, shape)| {
                story(format!("{family:?} {name}"), move |stage| {
                    let isn = u32::MAX;
                    let mut taken = sends(stage, talk, &syn(&talk, isn), isn)?;
                    taken.own = 77;
                    let path = Path::new(family, Protocol::Tcp);
                    let data = taken.acks().flags("PA").bytes(9);
                    all(stage, &[taken.brings(&shape(taken.acks()))])?;
                    stage.stay_young();
                    all(
                        stage,
                        &[
                            Step::new(At::Front, &data).drops(Reason::CookieEarly),
                            Step::new(At::Front, &taken.acks()).drops(Reason::CookieEarly),
                            taken.accepts(&[Reason::Answered, Reason::CookieAnswered]),
                            taken.asks(0, 0, |frame| frame.flags("PA").bytes(9)),
                        ],
                    )?;
                    is("established", stage.entries(path)[0], 2)
                })
            })
        })
        .collect();
    check(&ground, &by_cookie(Plan::new(Mode::Dnat)), &rows);
}

/// What is said about segments gets through, as far as a cookie remembers it.
#[test]
fn cookies_remember_the_largest_segment() {
    needs!(Root, NetNs, Veth, XdpLink, SynCookies);
    let ground = Ground::new();
    check_families(
        &ground,
        &by_cookie(Plan::new(Mode::Dnat).room(64)),
        |stage, family| {
            let sizes = [
                100, 536, 537, 1219, 1220, 1299, 1300, 1301, 1419, 1420, 1439, 1440, 1459, 1460,
                8939, 8940, 65_535,
            ];
            let mut found = std::collections::BTreeSet::new();
            for (port, size) in (2000..).zip(sizes) {
                let talk = talk(family, port);
                let frame = talk.asks().flags("S").seq(9).tcp_options(&mss_option(size));
                let taken = sends(stage, talk, &frame, 9)?;
                if taken.mss > size && taken.mss > 1220 {
                    return Err(format!("{size} became {}", taken.mss));
                }
                found.insert(taken.mss);
                all(stage, &[taken.brings(&taken.acks())])?;
            }
            is("sizes", found.len(), 4)
        },
    );
}

#[test]
fn forged_cookies_are_nothing_known() {
    needs!(Root, NetNs, Veth, XdpLink, SynCookies);
    let ground = Ground::new();
    for (mid_stream, passes) in [
        (MidStream::Pass, true),
        (MidStream::Drop, false),
    ] {
        let plan = by_cookie(Plan::new(Mode::Dnat)).mid_stream(mid_stream);
        check_families(&ground, &plan, move |stage, family| {
            let (talk, other) = (talk(family, 1234), talk(family, 1235));
            let taken = sends(stage, talk, &syn(&talk, 500), 500)?;
            let mut stolen = taken;
            stolen.talk = other;
            let near = [1, 2, 3, 4, 65_535, 4 << 16];
            let near = near.map(|by: i32| [-by, by]).concat();
            let numbers = near.iter().flat_map(|by| {
                let acks = taken.acks();
                let (seq, ack) = (taken.isn + 1, taken.cookie.wrapping_add(1));
                [
                    // What comes later brings the same cookie, but does not begin.
                    acks.clone().seq(seq.wrapping_add_signed(*by)),
                    acks.ack(ack.wrapping_add_signed(*by)),
                ]
            });
            let others = [
                taken.acks().flags("FA"),
                taken.acks().flags("RA"),
                stolen.acks(),
            ];
            for frame in numbers.chain(others) {
                let step = Step::new(At::Front, &frame);
                let step = match passes {
                    true => step.passes(Reason::MidStream),
                    false => step.drops(Reason::MidStream),
                };
                all(stage, &[step])?;
            }
            let path = Path::new(family, Protocol::Tcp);
            is("flows", stage.entries(path), [0, 0])?;
            all(stage, &[taken.brings(&taken.acks())])
        });
    }
}

/// A SYN, or its answer, got lost: what the client sends asks again.
#[test]
fn a_backend_is_asked_again() {
    needs!(Root, NetNs, Veth, XdpLink, SynCookies);
    let ground = Ground::new();
    check_families(
        &ground,
        &by_cookie(Plan::new(Mode::Dnat)),
        |stage, family| {
            let talk = talk(family, 1234);
            let mut taken = sends(stage, talk, &syn(&talk, 7), 7)?;
            taken.own = 1 << 31;
            all(stage, &[taken.brings(&taken.acks())])?;
            let frame = taken.acks().flags("PA").bytes(50);
            let again = deadline(Duration::from_secs(20), || {
                let out = stage.send(At::Front, &frame.build());
                (out.verdict != Verdict::Dropped).then_some(out)
            });
            let counts = [Reason::CookieTaken, Reason::Forwarded];
            let asked = taken.brings(&frame).counts(&counts);
            asked.check(stage.hook, &again)?;
            all(
                stage,
                &[
                    // A SYN gets a cookie, and the flow stays.
                    taken.accepts(&[Reason::Answered, Reason::CookieAnswered]),
                    // The acknowledgement got lost.
                    taken.accepts(&[Reason::CookieAnswered]),
                    taken.asks(0, 0, |frame| frame.flags("PA").bytes(50)),
                    taken.answers(0, 50, |frame| frame.flags("PA").bytes(50)),
                ],
            )
        },
    );
}

/// A client that begins anew meanwhile is answered as if nothing had been.
#[test]
fn a_client_may_begin_anew_before_its_backend_answers() {
    needs!(Root, NetNs, Veth, XdpLink, SynCookies);
    let ground = Ground::new();
    check_families(
        &ground,
        &by_cookie(Plan::new(Mode::Dnat)),
        |stage, family| {
            let talk = talk(family, 1234);
            let taken = sends(stage, talk, &syn(&talk, 7), 7)?;
            all(stage, &[taken.brings(&taken.acks())])?;
            sends(stage, talk, &syn(&talk, 70_000), 70_000)?;
            Ok(())
        },
    );
}

#[test]
fn full_nat_and_events_and_tags() {
    needs!(Root, NetNs, Veth, XdpLink, SynCookies);
    let ground = Ground::new();
    let mut plan = by_cookie(Plan::with(Mode::FullNat, Algorithm::RoundRobin, &[0]));
    plan.0.events = Some(Events::default());
    check_families(&ground, &plan, |stage, family| {
        let begin = talk(family, 1234).mode(Mode::FullNat);
        let mut taken = sends(stage, begin, &syn(&begin, 3), 3)?;
        stage.is_summed = false;
        let out = stage.send(At::Front, &taken.acks().build());
        taken.talk = seen_as(&out, begin);
        taken.own = 0xdead_beef;
        taken.brings(&taken.acks()).check(stage.hook, &out)?;
        all(
            stage,
            &[
                taken.accepts(&[Reason::Answered, Reason::CookieAnswered]),
                taken.asks(0, 0, |frame| frame.flags("PA").bytes(5)),
                taken.answers(0, 5, |frame| frame.flags("PA").bytes(5)),
            ],
        )
    });
    let mut plan = by_cookie(Plan::new(Mode::Dnat));
    plan.0.has_vlan = true;
    check_families(&ground, &plan, |stage, family| {
        let begin = talk(family, 1234);
        if stage.hook != bpfsmith_datapath::programs::Hook::Xdp {
            return established(stage, begin, 8).map(drop);
        }
        let tag = |frame: Frame| frame.vlan(100).vlan(101);
        let out = stage.send(At::Front, &tag(syn(&begin, 3)).build());
        let view = good(&out.frame);
        is("tags", view.vlans.clone(), vec![100, 101])?;
        is("macs", view.macs, (FRONT, CLIENT))?;
        is("from", view.src(), vip(family))?;
        let L4::Tcp { seq, .. } = view.l4 else {
            return Err(format!("{view:?}"));
        };
        let taken = Taken {
            talk: begin,
            isn: 3,
            cookie: seq,
            own: 99,
            mss: 1460,
        };
        let out = stage.send(At::Front, &tag(taken.acks().bytes(100)).build());
        let view = good(&out.frame);
        is("tags", view.vlans.clone(), vec![100, 101])?;
        is("to", view.dst(), begin.backend.ip())?;
        let answer = begin.answers().flags("SA").seq(99).ack(4);
        let out = stage.send(At::Back(0), &tag(answer).build());
        let view = good(&out.frame);
        is("tags", view.vlans.clone(), vec![100, 101])?;
        is("macs", view.macs, (back(0), backend(0)))?;
        for [from, to] in [
            taken.there(0, 0, |frame| tag(frame.bytes(9))),
            taken.back(0, 9, |frame| tag(frame.bytes(9))),
        ] {
            let at = if from.macs.0 == CLIENT {
                At::Front
            } else {
                At::Back(0)
            };
            all(stage, &[Step::new(at, &from).becomes(&to)])?;
        }
        Ok(())
    });
}
