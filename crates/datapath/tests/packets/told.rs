//! What senders are told about packets that do not go on.

use super::row::{Row, Step, check, row};
use super::stage::{At, Ground};
use super::talk::{LANES, Plan, Talk, name};
use crate::support::packet::Frame;
use bpfsmith_datapath::config::{Family, Mode};
use bpfsmith_datapath::reason::Reason;
use bpfsmith_gate::needs;

/// What is said about a packet that is longer, with so many bytes of it.
fn told(frame: &Frame, kind: impl Fn(Frame) -> Frame, quote: usize) -> Frame {
    let packet = frame.packet();
    let quote = &packet[..quote];
    kind(Frame::ip(frame.dst, frame.src))
        .macs(frame.macs.1, frame.macs.0)
        .ident(0)
        .payload(quote)
}

/// The longest quotation.
fn most(family: Family) -> usize {
    match family {
        Family::V4 => 68,
        Family::V6 => 128,
    }
}

#[test]
fn what_is_too_big() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    for mode in [Mode::Dnat, Mode::FullNat] {
        let mut rows: Vec<Row> = Vec::new();
        for lane in LANES {
            let talk = Talk::new(lane, 1234).mode(mode);
            let headers = talk.asks().packet().len();
            let fits = 1500 - headers;
            let mut steps = talk.established();
            steps.push(talk.there(|frame| frame.df().bytes(fits)));
            steps.push(talk.back(|frame| frame.df().bytes(fits)));
            for len in [fits + 1, fits + 2, fits + 100, 3000] {
                for (at, frame) in [
                    (At::Front, talk.asks().df().bytes(len)),
                    (At::Back(0), talk.answers().bytes(len)),
                ] {
                    let error = told(&frame, |error| error.too_big(1500), most(lane.0));
                    steps.push(
                        Step::new(at, &frame)
                            .becomes(&error)
                            .counts(&[Reason::TooBig])
                            .cut(),
                    );
                }
            }
            // Nothing was forgotten over it.
            steps.push(talk.there_with("A"));
            steps.push(talk.back_with("A"));
            rows.push(row(name(lane), steps));
        }
        check(&ground, &Plan::new(mode), &rows);
    }
}

#[test]
fn what_has_come_too_far() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let mut rows: Vec<Row> = Vec::new();
    for lane in LANES {
        let talk = Talk::new(lane, 1234);
        let sizes = match lane.0 {
            Family::V4 => [68, 40, 28],
            Family::V6 => [128, 60, 48],
        };
        let over = |at: At, frame: Frame| {
            let len = frame.packet().len();
            let quote = sizes.into_iter().find(|size| *size <= len).unwrap();
            let error = told(&frame, Frame::time_exceeded, quote);
            match quote < len {
                true => Step::new(at, &frame).cut(),
                false => Step::new(at, &frame),
            }
            .becomes(&error)
            .counts(&[Reason::Expired])
        };
        let mut steps = vec![
            over(At::Front, talk.flagged(talk.asks(), "S").ttl(1))
                .counts(&[Reason::Opened, Reason::Expired]),
            talk.there_with("S"),
            talk.accepts(),
        ];
        for len in [
            0, 1, 2, 3, 11, 12, 13, 20, 47, 48, 49, 68, 69, 200, 1000,
        ] {
            for ttl in [0, 1] {
                steps.push(over(At::Front, talk.asks().ttl(ttl).bytes(len)));
                steps.push(over(At::Back(0), talk.answers().ttl(ttl).bytes(len)));
            }
        }
        if lane.0 == Family::V4 {
            let options = talk.asks().ttl(1).options(&[1; 40]);
            steps.push(over(At::Front, options.clone().bytes(8)));
        } else {
            let extension = talk.asks().ttl(1).extension(60, 4);
            steps.push(over(At::Front, extension.bytes(200)));
        }
        rows.push(row(name(lane), steps));
    }
    check(&ground, &Plan::new(Mode::Dnat), &rows);
}
