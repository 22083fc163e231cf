//! Fragments of packets of flows.

use super::row::{Row, Step, check, row};
use super::stage::{At, Ground};
use super::talk::{LANES, Plan, Talk, name};
use crate::support::packet::{DESTINATION, Frame};
use bpfsmith_datapath::config::{Family, Fragments, Mode, Protocol};
use bpfsmith_datapath::reason::Reason;
use bpfsmith_gate::needs;

/// The fragments of a packet, and those of what it becomes.
fn pieces(at: At, from: &Frame, to: &Frame, most: u16) -> Vec<Step> {
    let to = to.clone().ttl(63);
    let pairs = from.fragments(most).into_iter().zip(to.fragments(most));
    pairs
        .map(|(from, to)| Step::bytes(at, from).becomes_bytes(to))
        .collect()
}

fn there(talk: &Talk, most: u16, shape: impl Fn(Frame) -> Frame) -> Vec<Step> {
    pieces(At::Front, &shape(talk.asks()), &shape(talk.asked()), most)
}

fn back(talk: &Talk, most: u16, shape: impl Fn(Frame) -> Frame) -> Vec<Step> {
    let (from, to) = (shape(talk.answers()), shape(talk.answered()));
    pieces(At::Back(0), &from, &to, most)
}

#[test]
fn fragments_follow_the_first() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    for mode in [Mode::Dnat, Mode::FullNat] {
        let mut rows: Vec<Row> = Vec::new();
        for lane in LANES {
            let talk = Talk::new(lane, 1234).mode(mode);
            let mut steps = talk.established();
            for (number, len) in [60, 500, 1400, 2900].into_iter().enumerate() {
                let id = 100 + u32::try_from(number).unwrap();
                for most in [24, 256, 1400] {
                    let id = id + 1000 * u32::from(most);
                    steps.extend(there(&talk, most, |frame| frame.ident(id).bytes(len)));
                    steps.extend(back(&talk, most, |frame| frame.ident(id).bytes(len)));
                }
            }
            if lane.1 == Protocol::Udp && lane.0 == Family::V4 {
                let shape = |frame: Frame| frame.ident(7).unchecked().bytes(100);
                steps.extend(there(&talk, 64, shape));
            }
            if lane.0 == Family::V6 {
                let shape = |frame: Frame| frame.ident(8).extension(DESTINATION, 2).bytes(100);
                steps.extend(there(&talk, 64, shape));
            }
            // Later ones in any order.
            let mut mixed = there(&talk, 64, |frame| frame.ident(9).bytes(500));
            mixed[1..].reverse();
            steps.extend(mixed);
            rows.push(row(name(lane), steps));
        }
        check(&ground, &Plan::new(mode), &rows);
    }
}

#[test]
fn a_flow_may_begin_with_fragments() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let rows: Vec<Row> = LANES
        .into_iter()
        .filter(|lane| lane.1 == Protocol::Udp)
        .map(|lane| {
            let talk = Talk::new(lane, 1234);
            let mut asks = there(&talk, 512, |frame| frame.ident(5).bytes(2000));
            asks[0] = asks[0].clone().counts(&[Reason::Opened, Reason::Forwarded]);
            let mut answers = back(&talk, 512, |frame| frame.ident(5).bytes(2000));
            answers[0] = answers[0]
                .clone()
                .counts(&[Reason::Answered, Reason::Forwarded]);
            row(name(lane), asks.into_iter().chain(answers))
        })
        .collect();
    check(&ground, &Plan::new(Mode::Dnat), &rows);
}

/// Fragments before their first one, of unknown flows, and other protocols.
fn odd(fragments: Fragments) -> Vec<Row> {
    let mut rows = Vec::new();
    for lane in LANES {
        let talk = Talk::new(lane, 1234);
        let stranger = Talk::new(lane, 1235);
        let of = |talk: &Talk, id: u32| {
            let frame = talk.flagged(talk.asks(), "A").ident(id).bytes(300);
            frame.fragments(64)
        };
        let mut steps = talk.established();
        let lost = |frame: Vec<u8>| {
            let step = Step::bytes(At::Front, frame);
            match fragments {
                Fragments::Follow => step.passes(Reason::LostFragment),
                Fragments::FollowOrDrop => step.drops(Reason::LostFragment),
                Fragments::Pass => step.passes(Reason::Fragment),
            }
        };
        for frame in &of(&talk, 11)[1..] {
            steps.push(lost(frame.clone()));
        }
        // Another packet's number.
        if fragments == Fragments::Pass {
            for frame in of(&talk, 12) {
                steps.push(lost(frame));
            }
        } else {
            steps.extend(there(&talk, 64, |frame| frame.ident(12).bytes(300)));
            steps.push(lost(of(&talk, 13)[1].clone()));
            if lane.1 == Protocol::Tcp {
                for frame in of(&stranger, 14).into_iter().take(1) {
                    steps.push(Step::bytes(At::Front, frame).passes(Reason::MidStream));
                }
                steps.push(
                    Step::bytes(At::Front, of(&stranger, 14)[1].clone()).passes(Reason::NotOurs),
                );
            }
        }
        let ping = Frame::ip(talk.client.ip(), talk.service.ip())
            .ping(1, 2)
            .bytes(300);
        let first = ping.fragments(64)[0].clone();
        steps.push(Step::bytes(At::Front, first).passes(Reason::Fragment));
        rows.push(row(format!("{} {fragments:?}", name(lane)), steps));
    }
    rows
}

#[test]
fn fragments_without_a_first_are_what_the_configuration_says() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    for fragments in [
        Fragments::Follow,
        Fragments::FollowOrDrop,
        Fragments::Pass,
    ] {
        let mut plan = Plan::new(Mode::Dnat);
        plan.0.fragments = fragments;
        check(&ground, &plan, &odd(fragments));
    }
}

#[test]
fn a_packet_in_one_fragment_is_whole() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    for fragments in [Fragments::Follow, Fragments::Pass] {
        let mut plan = Plan::new(Mode::Dnat);
        plan.0.fragments = fragments;
        let rows: Vec<Row> = LANES
            .into_iter()
            .filter(|lane| lane.0 == Family::V6)
            .map(|lane| {
                let talk = Talk::new(lane, 1234);
                let mut steps = talk.established();
                steps.push(talk.there(|frame| frame.fragment(0, 0).bytes(50)));
                steps.push(talk.back(|frame| frame.fragment(0, 0).bytes(50)));
                row(name(lane), steps)
            })
            .collect();
        check(&ground, &plan, &rows);
    }
}

#[test]
fn late_fragments_that_cannot_go_on() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let rows: Vec<Row> = LANES
        .into_iter()
        .map(|lane| {
            let talk = Talk::new(lane, 1234);
            let mut steps = talk.established();
            let pieces = there(&talk, 1400, |frame| frame.ident(3).bytes(2900));
            let dying = talk.asks().ident(3).ttl(1).bytes(2900).fragments(1400);
            let long = talk.asks().ident(3).bytes(3200).fragments(1520);
            steps.push(pieces[0].clone());
            steps.push(Step::bytes(At::Front, dying[1].clone()).drops(Reason::Expired));
            steps.push(Step::bytes(At::Front, long[1].clone()).drops(Reason::TooBig));
            steps.push(pieces[1].clone());
            row(name(lane), steps)
        })
        .collect();
    check(&ground, &Plan::new(Mode::Dnat), &rows);
}
