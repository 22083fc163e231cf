//! ICMP errors about packets of flows, both ways.

use super::row::{Row, Step, check, row};
use super::stage::{At, Ground};
use super::talk::{CLIENT, FRONT, LANES, Plan, Talk, back, backend, name};
use crate::support::packet::Frame;
use bpfsmith_datapath::config::{Family, Mode, Protocol};
use bpfsmith_datapath::reason::Reason;
use bpfsmith_gate::needs;
use std::net::IpAddr;

/// A kind of error.
type Kind = fn(Frame) -> Frame;

fn parameter(frame: Frame) -> Frame {
    match frame.src {
        IpAddr::V4(_) => frame.icmp(12, 0, [9, 0, 0, 0]),
        IpAddr::V6(_) => frame.icmp(4, 1, [0, 0, 0, 40]),
    }
}

const KINDS: [Kind; 4] = [
    Frame::port_unreachable,
    |frame| frame.too_big(1300),
    Frame::time_exceeded,
    parameter,
];

/// Somebody on the way.
fn router(family: Family) -> IpAddr {
    let text = match family {
        Family::V4 => "10.77.0.9",
        Family::V6 => "fd77::9",
    };
    text.parse().unwrap()
}

/// Who says that a packet failed.
#[derive(Clone, Copy, Debug)]
enum Who {
    /// Who should have got it.
    End,
    Router,
}

/// An error about the client's packet, and what becomes of it.
fn about_question(
    talk: &Talk,
    who: Who,
    kind: Kind,
    asks: &Frame,
    asked: &Frame,
    l4: usize,
) -> Step {
    let (from, then) = match who {
        Who::End => (talk.backend.ip(), talk.service.ip()),
        Who::Router => (router(talk.family()), router(talk.family())),
    };
    let error =
        |from: IpAddr, to: IpAddr, about: &Frame| kind(Frame::ip(from, to)).quote(about, l4);
    let comes = error(from, talk.seen.ip(), asked).macs(backend(talk.host), back(talk.host));
    let goes = error(then, talk.client.ip(), asks)
        .macs(FRONT, CLIENT)
        .ttl(63);
    Step::new(At::Back(talk.host), &comes)
        .becomes(&goes)
        .counts(&[Reason::IcmpError])
}

/// An error about the backend's packet, and what becomes of it.
fn about_answer(
    talk: &Talk,
    who: Who,
    kind: Kind,
    answers: &Frame,
    answered: &Frame,
    l4: usize,
) -> Step {
    let (from, then) = match who {
        Who::End => (talk.client.ip(), talk.seen.ip()),
        Who::Router => (router(talk.family()), router(talk.family())),
    };
    let error =
        |from: IpAddr, to: IpAddr, about: &Frame| kind(Frame::ip(from, to)).quote(about, l4);
    let comes = error(from, talk.service.ip(), answered).macs(CLIENT, FRONT);
    let goes = error(then, talk.backend.ip(), answers)
        .macs(back(talk.host), backend(talk.host))
        .ttl(63);
    Step::new(At::Front, &comes)
        .becomes(&goes)
        .counts(&[Reason::IcmpError])
}

/// Both, about packets of some shape.
fn both(talk: &Talk, who: Who, kind: Kind, shape: impl Fn(Frame) -> Frame, l4: usize) -> [Step; 2] {
    let [asks, asked, answers, answered] = [
        talk.asks(),
        talk.asked(),
        talk.answers(),
        talk.answered(),
    ]
    .map(&shape);
    [
        about_question(talk, who, kind, &asks, &asked, l4),
        about_answer(talk, who, kind, &answers, &answered, l4),
    ]
}

#[test]
fn errors_reach_who_sent_the_packet() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    for mode in [Mode::Dnat, Mode::FullNat] {
        let mut rows: Vec<Row> = Vec::new();
        for lane in LANES {
            let talk = Talk::new(lane, 1234).mode(mode);
            for who in [Who::End, Who::Router] {
                for (number, kind) in KINDS.into_iter().enumerate() {
                    let mut steps = talk.established();
                    for l4 in [8, 9, 16, 18, 19, 20, 28, 63, 200] {
                        let long = |frame: Frame| frame.bytes(500);
                        let short = |frame: Frame| frame.bytes(3);
                        steps.extend(both(&talk, who, kind, long, l4));
                        steps.extend(both(&talk, who, kind, short, l4));
                    }
                    let title = format!("{} {who:?} kind {number}", name(lane));
                    rows.push(row(title, steps));
                }
            }
        }
        check(&ground, &Plan::new(mode), &rows);
    }
}

#[test]
fn errors_about_flows_that_nobody_answered() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let rows: Vec<Row> = LANES
        .into_iter()
        .map(|lane| {
            let talk = Talk::new(lane, 1234);
            let [question, _] = both(&talk, Who::End, Frame::port_unreachable, |it| it, 64);
            row(
                name(lane),
                [
                    talk.opens(),
                    question,
                    // It is no answer.
                    talk.there_with("S"),
                    talk.accepts(),
                ],
            )
        })
        .collect();
    check(&ground, &Plan::new(Mode::Dnat), &rows);
}

#[test]
fn what_errors_quote_may_be_special() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let mut rows = Vec::new();
    for lane in LANES {
        let talk = Talk::new(lane, 1234);
        let mut steps = talk.established();
        let kind: Kind = |frame| frame.too_big(1300);
        let shapes: Vec<Box<dyn Fn(Frame) -> Frame>> = match lane {
            (Family::V4, protocol) => {
                let mut shapes: Vec<Box<dyn Fn(Frame) -> Frame>> = vec![
                    Box::new(|frame| frame.options(&[7, 3, 4]).bytes(100)),
                    Box::new(|frame| frame.options(&[1; 40]).bytes(100)),
                    Box::new(|frame| frame.df().tos(3).ttl(1).bytes(100)),
                    Box::new(|frame| frame.l4_sum_off_by(77).bytes(100)),
                ];
                if protocol == Protocol::Udp {
                    shapes.push(Box::new(|frame| frame.unchecked().bytes(100)));
                }
                shapes
            }
            (Family::V6, _) => vec![
                Box::new(|frame| frame.tos(3).flow(77).ttl(1).bytes(100)),
                Box::new(|frame| frame.l4_sum_off_by(77).bytes(100)),
                Box::new(|frame| frame.fragment(0, 1).bytes(100)),
            ],
        };
        for shape in shapes {
            for l4 in [8, 20, 120] {
                steps.extend(both(&talk, Who::End, kind, &shape, l4));
                steps.extend(both(&talk, Who::Router, kind, &shape, l4));
            }
        }
        rows.push(row(name(lane), steps));
    }
    check(&ground, &Plan::new(Mode::Dnat), &rows);
}

#[test]
fn errors_that_cannot_go_on() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let mut rows = Vec::new();
    for lane in LANES {
        let talk = Talk::new(lane, 1234);
        let error = |about: &Frame| {
            Frame::ip(talk.backend.ip(), talk.seen.ip())
                .macs(backend(0), back(0))
                .port_unreachable()
                .quote(about, 8)
        };
        let whole = error(&talk.asked());
        let at = At::Back(0);
        let mut steps = talk.established();
        let bytes = whole.build();
        // The kernel has no shorter ones.
        let least = if lane.0 == Family::V4 { 34 } else { 54 };
        for end in least..bytes.len() {
            steps.push(Step::bytes(at, bytes[..end].to_vec()).passes(Reason::Malformed));
        }
        let stranger = Talk::new(lane, 1235);
        let first = bytes.len()
            - 8
            - usize::from(whole.src.is_ipv4()) * 20
            - usize::from(whole.src.is_ipv6()) * 40;
        let poke = |at: usize, value: u8| {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            bytes
        };
        let (protocol, version) = match lane.0 {
            Family::V4 => (9, 0x55),
            Family::V6 => (6, 0x55),
        };
        steps.extend([
            Step::new(at, &error(&stranger.asked())).passes(Reason::NotOurs),
            Step::bytes(at, poke(first + protocol, 132)).passes(Reason::NotOurs),
            Step::bytes(at, poke(first, version)).passes(Reason::OddError),
            // To somebody else than who sent the packet.
            Step::new(at, &whole.clone().to(router(lane.0))).passes(Reason::OddError),
            Step::new(at, &whole.clone().ttl(1)).drops(Reason::Expired),
            Step::new(at, &whole.clone().quote(&talk.asked().bytes(3000), 1500))
                .drops(Reason::TooBig),
            Step::new(at, &whole.clone().ttl(255))
                .becomes(
                    &Frame::ip(talk.service.ip(), talk.client.ip())
                        .macs(FRONT, CLIENT)
                        .ttl(254)
                        .port_unreachable()
                        .quote(&talk.asks(), 8),
                )
                .counts(&[Reason::IcmpError]),
        ]);
        match lane.0 {
            Family::V4 => steps.extend([
                Step::bytes(at, poke(first + 7, 1)).passes(Reason::OddError),
                Step::bytes(at, poke(first, 0x44)).passes(Reason::OddError),
                Step::bytes(at, poke(first, 0x4f)).passes(Reason::Malformed),
                Step::new(at, &whole.clone().options(&[1; 4])).passes(Reason::OddError),
                Step::new(at, &whole.clone().icmp(5, 1, [10, 0, 0, 1]))
                    .passes(Reason::OtherTransport),
                Step::new(at, &whole.clone().ping(1, 2)).passes(Reason::OtherTransport),
                Step::new(at, &whole.clone().pong(1, 2)).passes(Reason::OtherTransport),
                Step::new(at, &whole.clone().more()).passes(Reason::Fragment),
            ]),
            Family::V6 => {
                let fragment = talk.asked().fragment(5, 1);
                steps.extend([
                    Step::new(at, &error(&fragment)).passes(Reason::OddError),
                    Step::new(at, &whole.clone().extension(60, 1)).passes(Reason::OddError),
                    Step::new(at, &whole.clone().icmp(135, 0, [0; 4]))
                        .passes(Reason::OtherTransport),
                    Step::new(at, &whole.clone().icmp(0, 0, [0; 4])).passes(Reason::OtherTransport),
                    Step::new(at, &whole.clone().icmp(5, 0, [0; 4])).passes(Reason::OtherTransport),
                    Step::new(at, &whole.clone().ping(1, 2)).passes(Reason::OtherTransport),
                    Step::new(at, &whole.clone().pong(1, 2)).passes(Reason::OtherTransport),
                ]);
            }
        }
        rows.push(row(name(lane), steps));
    }
    check(&ground, &Plan::new(Mode::Dnat), &rows);
}
