//! Checksums at their edges.

use super::row::{Row, Step, check, row};
use super::stage::{At, Ground};
use super::talk::{LANES, Plan, Talk, name};
use crate::support::packet::Frame;
use bpfsmith_datapath::config::{Family, Mode, Protocol};
use bpfsmith_datapath::reason::Reason;
use bpfsmith_gate::needs;

/// The checksum that a packet has.
fn l4_sum(frame: &[u8], talk: &Talk) -> [u8; 2] {
    let ip = match talk.family() {
        Family::V4 => 20,
        Family::V6 => 40,
    };
    let field = match talk.protocol {
        Protocol::Tcp => 16,
        Protocol::Udp => 6,
    };
    let at = 14 + ip + field;
    [frame[at], frame[at + 1]]
}

/// Two bytes of payload with which the checksum of this packet is zero.
fn l4_zero(frame: &Frame, talk: &Talk) -> [u8; 2] {
    let plain = frame.clone().payload(&[0, 0]).build();
    let bytes = l4_sum(&plain, talk);
    let zero = l4_sum(&frame.clone().payload(&bytes).build(), talk);
    let wanted = match talk.protocol {
        Protocol::Tcp => [0, 0],
        Protocol::Udp => [0xff, 0xff],
    };
    assert_eq!(zero, wanted);
    bytes
}

/// The identification with which the checksum of this packet's IPv4 header is zero.
fn ip_zero(frame: &Frame) -> u32 {
    let sum_of = |frame: Frame| {
        let frame = frame.build();
        u32::from(u16::from_be_bytes([frame[24], frame[25]]))
    };
    let ident = sum_of(frame.clone().ident(0));
    assert_eq!(sum_of(frame.clone().ident(ident)), 0);
    ident
}

/// As a flow that opens, and as one that is known.
fn both(talk: Talk, title: &str, shape: impl Fn(Frame) -> Frame) -> Row {
    let opening = talk.there(|frame| shape(talk.flagged(frame, "S")));
    let answer = talk.back(|frame| shape(talk.flagged(frame, "SA")));
    row(
        title,
        [
            opening.counts(&[Reason::Opened, Reason::Forwarded]),
            answer.counts(&[Reason::Answered, Reason::Forwarded]),
            talk.there(&shape),
            talk.back(&shape),
        ],
    )
}

fn l4_rows(talk: Talk, title: &str) -> Vec<Row> {
    let arrives = l4_zero(&talk.asks(), &talk);
    let leaves = l4_zero(&talk.asked(), &talk);
    let answer = l4_zero(&talk.answers(), &talk);
    let answered = l4_zero(&talk.answered(), &talk);
    let zeros = [
        ("comes as zero", arrives),
        ("becomes zero", leaves),
        ("of an answer comes as zero", answer),
        ("of an answer becomes zero", answered),
    ];
    let mut rows: Vec<Row> = zeros
        .into_iter()
        .map(|(what, bytes)| {
            let mut steps = talk.established();
            steps.push(talk.there(|frame| frame.payload(&bytes)));
            steps.push(talk.back(|frame| frame.payload(&bytes)));
            row(format!("{title} checksum {what}"), steps)
        })
        .collect();
    if talk.protocol == Protocol::Tcp {
        // The other way to write zero, which is as right.
        let mut steps = talk.established();
        let shape = |frame: Frame| frame.payload(&arrives);
        let ask = shape(talk.asks()).l4_sum(0xffff);
        steps.push(Step::new(At::Front, &ask).becomes(&shape(talk.asked()).ttl(63)));
        rows.push(row(
            format!("{title} checksum comes as the other zero"),
            steps,
        ));
    }
    for by in [1, 0x8000, 0xfffe] {
        let mut steps = talk.established();
        let there = [talk.asks(), talk.asked()];
        let back = [talk.answers(), talk.answered()];
        steps.push(wrong_by(by, At::Front, there, &talk));
        steps.push(wrong_by(by, At::Back(0), back, &talk));
        rows.push(row(format!("{title} checksum wrong by {by}"), steps));
    }
    rows
}

/// A packet whose checksum is wrong stays wrong by as much.
fn wrong_by(by: u16, at: At, frames: [Frame; 2], talk: &Talk) -> Step {
    let [comes, leaves] = frames.map(|frame| {
        let frame = frame.bytes(3);
        let right = u16::from_be_bytes(l4_sum(&frame.build(), talk));
        let sum = u32::from(right) + u32::from(by);
        let folded = (sum & 0xffff) + (sum >> 16);
        frame.l4_sum(u16::try_from(folded).unwrap())
    });
    Step::new(at, &comes).becomes(&leaves.ttl(63))
}

fn unchecked_rows(talk: Talk, title: &str) -> Vec<Row> {
    vec![
        both(talk, &format!("{title} without a checksum"), |frame| {
            frame.bytes(8).unchecked()
        }),
        both(
            talk,
            &format!("{title} without a checksum or payload"),
            Frame::unchecked,
        ),
    ]
}

fn ip_rows(talk: Talk, title: &str) -> Vec<Row> {
    let zeros = [
        ("comes as zero", ip_zero(&talk.asks())),
        ("becomes zero", ip_zero(&talk.asked().ttl(63))),
        ("of an answer comes as zero", ip_zero(&talk.answers())),
        (
            "of an answer becomes zero",
            ip_zero(&talk.answered().ttl(63)),
        ),
    ];
    let mut rows: Vec<Row> = zeros
        .into_iter()
        .map(|(what, ident)| {
            let mut steps = talk.established();
            steps.push(talk.there(|frame| frame.ident(ident)));
            steps.push(talk.back(|frame| frame.ident(ident)));
            row(format!("{title} header's checksum {what}"), steps)
        })
        .collect();
    let ident = zeros[0].1;
    let mut steps = talk.established();
    let ask = talk.asks().ident(ident).ip_sum(0xffff);
    steps.push(Step::new(At::Front, &ask).becomes(&talk.asked().ident(ident).ttl(63)));
    rows.push(row(
        format!("{title} header's checksum comes as the other zero"),
        steps,
    ));
    rows
}

#[test]
fn sums_at_their_edges() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    for mode in [Mode::Dnat, Mode::FullNat] {
        let mut rows = Vec::new();
        for lane in LANES {
            let talk = Talk::new(lane, 1234).mode(mode);
            let title = name(lane);
            rows.extend(l4_rows(talk, &title));
            if lane.1 == Protocol::Udp {
                rows.extend(unchecked_rows(talk, &title));
            }
            if lane.0 == Family::V4 {
                rows.extend(ip_rows(talk, &title));
            }
        }
        check(&ground, &Plan::new(mode), &rows);
    }
}

/// Addresses and ports whose differences are zero, all ones, or carry.
#[test]
fn differences_at_their_edges() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let mut rows = Vec::new();
    for lane in LANES {
        let ip = |text4: &str, text6: &str| match lane.0 {
            Family::V4 => text4.parse().unwrap(),
            Family::V6 => text6.parse().unwrap(),
        };
        for (client, port) in [
            (
                ip("255.255.255.254", "3fff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"),
                65535,
            ),
            (ip("0.0.0.1", "1::1"), 1),
            (ip("10.99.0.2", "fd99::2"), 80),
            (
                ip("128.0.127.255", "8000:0:7fff:ffff:8000:0:7fff:ffff"),
                0x8000,
            ),
            (ip("1.0.255.255", "2001:0:ffff::"), 8080),
            (ip("172.16.0.0", "fd10::a"), 0),
        ] {
            let mut talk = Talk::new(lane, port);
            talk.client.set_ip(client);
            talk.seen = talk.client;
            rows.push(row(
                format!("{} from {}", name(lane), talk.client),
                [
                    talk.opens(),
                    talk.there(|frame| frame.bytes(4)),
                    talk.there(|frame| frame.payload(&l4_zero(&talk.asked(), &talk))),
                    talk.there(|frame| frame.payload(&l4_zero(&talk.asks(), &talk))),
                ],
            ));
        }
    }
    check(&ground, &Plan::new(Mode::Dnat), &rows);
}
