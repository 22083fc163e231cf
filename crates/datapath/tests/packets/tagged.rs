//! Frames with VLAN tags, which XDP sees.

use super::row::{Row, Step, check, row};
use super::stage::{At, Ground};
use super::talk::{CLIENT, FRONT, LANES, Plan, Talk, back, backend, name};
use crate::support::packet::Frame;
use bpfsmith_datapath::config::{Family, Mode};
use bpfsmith_datapath::reason::Reason;
use bpfsmith_gate::needs;

/// With so many tags.
fn tag(frame: Frame, tags: u16) -> Frame {
    (0..tags).fold(frame, |frame, number| frame.vlan(100 + number))
}

/// Everything that frames are rewritten by: flows, errors, fragments, and what is told.
fn everything(talk: Talk, tags: u16) -> Vec<Step> {
    let family = talk.family();
    let shaped = |frame: Frame| tag(frame, tags);
    let mut steps = vec![
        talk.there(|frame| shaped(talk.flagged(frame, "S")))
            .counts(&[Reason::Opened, Reason::Forwarded]),
        talk.back(|frame| shaped(talk.flagged(frame, "SA")))
            .counts(&[Reason::Answered, Reason::Forwarded]),
        talk.there(|frame| shaped(frame.bytes(500))),
        talk.back(|frame| shaped(frame.bytes(500))),
    ];
    let error = Frame::ip(talk.backend.ip(), talk.seen.ip())
        .macs(backend(0), back(0))
        .too_big(1300)
        .quote(&talk.asked(), 28);
    let carried = Frame::ip(talk.service.ip(), talk.client.ip())
        .macs(FRONT, CLIENT)
        .ttl(63)
        .too_big(1300)
        .quote(&talk.asks(), 28);
    steps.push(
        Step::new(At::Back(0), &shaped(error))
            .becomes(&shaped(carried))
            .counts(&[Reason::IcmpError]),
    );
    let (ask, asked) = (talk.asks().bytes(700), talk.asked().bytes(700).ttl(63));
    let pairs = shaped(ask)
        .fragments(512)
        .into_iter()
        .zip(shaped(asked).fragments(512));
    for (from, to) in pairs {
        steps.push(Step::bytes(At::Front, from).becomes_bytes(to));
    }
    let long = talk.asks().df().bytes(1600);
    let quote = match family {
        Family::V4 => 68,
        Family::V6 => 128,
    };
    let told = Frame::ip(long.dst, long.src)
        .macs(long.macs.1, long.macs.0)
        .ident(0)
        .too_big(1500)
        .payload(&long.packet()[..quote]);
    steps.push(
        Step::new(At::Front, &shaped(long))
            .becomes(&shaped(told))
            .counts(&[Reason::TooBig]),
    );
    // In TCX, tags are no part of the frame.
    steps.into_iter().map(Step::only_xdp).collect()
}

#[test]
fn tags_stay() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let mut plan = Plan::new(Mode::Dnat);
    plan.0.has_vlan = true;
    let mut rows: Vec<Row> = Vec::new();
    for lane in LANES {
        for tags in 0..3 {
            let steps = everything(Talk::new(lane, 1234), tags);
            rows.push(row(format!("{} {tags} tags", name(lane)), steps));
        }
        let frame = tag(Talk::new(lane, 1234).asks(), 3);
        let step = Step::new(At::Front, &frame)
            .passes(Reason::OtherProtocol)
            .only_xdp();
        rows.push(row(format!("{} 3 tags", name(lane)), [step]));
    }
    check(&ground, &plan, &rows);
}

#[test]
fn tags_that_nobody_wants_pass() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let rows: Vec<Row> = LANES
        .into_iter()
        .map(|lane| {
            let frame = tag(Talk::new(lane, 1234).asks(), 1);
            row(
                name(lane),
                [Step::new(At::Front, &frame)
                    .passes(Reason::OtherProtocol)
                    .only_xdp()],
            )
        })
        .collect();
    check(&ground, &Plan::new(Mode::Dnat), &rows);
}
