//! Packets of flows, there and back.

use super::row::{Row, check, row};
use super::stage::Ground;
use super::talk::{LANES, Plan, Talk, name};
use crate::support::packet::{DESTINATION, Frame, HOP_BY_HOP, ROUTING};
use bpfsmith_datapath::config::{Family, Mode, Protocol};
use bpfsmith_datapath::reason::Reason;
use bpfsmith_gate::needs;

const MODES: [Mode; 2] = [Mode::Dnat, Mode::FullNat];

/// A flow that is opened, answered, and goes on with payloads of several lengths.
fn conversation(talk: Talk, title: String) -> Row {
    let mut steps = talk.established();
    for len in [0, 1, 2, 7, 536, 1400] {
        steps.push(talk.there(|frame| frame.bytes(len)));
        steps.push(talk.back(|frame| frame.bytes(len)));
    }
    row(title, steps)
}

#[test]
fn flows_go_there_and_back() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    for mode in MODES {
        let rows: Vec<Row> = LANES
            .into_iter()
            .flat_map(|lane| {
                let talk = Talk::new(lane, 1234).mode(mode);
                let high = Talk::new(lane, 32767).mode(mode);
                let low = Talk::new(lane, 1024).mode(mode);
                let title = name(lane);
                [
                    conversation(talk, format!("{title} conversation")),
                    conversation(high, format!("{title} highest port")),
                    conversation(low, format!("{title} lowest port")),
                    row(
                        format!("{title} several before the answer"),
                        [
                            talk.opens(),
                            talk.there_with("S"),
                            talk.there_with("S"),
                            talk.accepts(),
                            talk.back_with("SA"),
                            talk.there_with("PA"),
                        ],
                    ),
                    row(
                        format!("{title} class, identification and the rest stay"),
                        [
                            talk.opens(),
                            talk.accepts(),
                            talk.there(|frame| frame.tos(0xb9).ident(0xffff)),
                            talk.back(|frame| frame.tos(0x03).ident(0)),
                        ],
                    ),
                    row(
                        format!("{title} bytes after the packet"),
                        [
                            talk.there(|frame| talk.flagged(frame, "S").trailer(6))
                                .counts(&[Reason::Opened, Reason::Forwarded]),
                            talk.back(|frame| talk.flagged(frame, "SA").trailer(1))
                                .counts(&[Reason::Answered, Reason::Forwarded]),
                            talk.there(|frame| frame.bytes(3).trailer(11)),
                        ],
                    ),
                ]
            })
            .collect();
        check(&ground, &Plan::new(mode), &rows);
    }
}

#[test]
fn direct_return_changes_no_packet() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let settles = [Reason::Answered, Reason::Forwarded];
    let rows: Vec<Row> = LANES
        .into_iter()
        .flat_map(|lane| {
            let talk = Talk::new(lane, 1234).mode(Mode::DirectReturn);
            [
                row(
                    format!("{} one way", name(lane)),
                    [
                        talk.opens(),
                        talk.there_with("A").counts(&settles),
                        talk.there(|frame| frame.bytes(1000)),
                        talk.there_with("FA"),
                        talk.there_with("A"),
                    ],
                ),
                row(
                    format!("{} without checksum and to nobody else", name(lane)),
                    [
                        talk.opens(),
                        talk.there(|frame| frame.l4_sum_off_by(7)).counts(&settles),
                        Talk::new(lane, 1235)
                            .mode(Mode::DirectReturn)
                            .there_with("S")
                            .counts(&[Reason::Opened, Reason::Forwarded]),
                    ],
                ),
            ]
        })
        .collect();
    check(&ground, &Plan::new(Mode::DirectReturn), &rows);
}

#[test]
fn time_to_live() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let mut rows = Vec::new();
    for lane in LANES {
        let talk = Talk::new(lane, 1234);
        let over = |ttl: u8, opens: bool| {
            let flags = if opens { "S" } else { "A" };
            let step = talk.there(|frame| talk.flagged(frame, flags).ttl(ttl));
            match opens {
                true => step.comes_too_late(&[Reason::Opened, Reason::Expired]),
                false => step.comes_too_late(&[Reason::Expired]),
            }
        };
        for ttl in [0, 1] {
            rows.push(row(
                format!("{} ttl {ttl}", name(lane)),
                [
                    over(ttl, true),
                    over(ttl, false),
                    talk.accepts(),
                    over(ttl, false),
                    talk.back(|frame| frame.ttl(ttl))
                        .comes_too_late(&[Reason::Expired]),
                    talk.there_with("A"),
                ],
            ));
        }
        for ttl in [2, 3, 128, 255] {
            let mut steps = talk.established();
            steps.push(
                super::row::Step::new(super::stage::At::Front, &talk.asks().ttl(ttl))
                    .becomes(&talk.asked().ttl(ttl - 1)),
            );
            steps.push(
                super::row::Step::new(super::stage::At::Back(0), &talk.answers().ttl(ttl))
                    .becomes(&talk.answered().ttl(ttl - 1)),
            );
            rows.push(row(format!("{} ttl {ttl}", name(lane)), steps));
        }
    }
    check(&ground, &Plan::new(Mode::Dnat), &rows);
}

/// A whole flow, each packet of it with this.
fn dressed(title: String, talk: Talk, dress: impl Fn(Frame) -> Frame) -> Row {
    let with = |flags: &'static str| {
        let dress = &dress;
        move |frame: Frame| dress(talk.flagged(frame, flags))
    };
    row(
        title,
        [
            talk.there(with("S"))
                .counts(&[Reason::Opened, Reason::Forwarded]),
            talk.back(with("SA"))
                .counts(&[Reason::Answered, Reason::Forwarded]),
            talk.there(with("PA")),
            talk.back(with("PA")),
        ],
    )
}

#[test]
fn options_of_ipv4_and_tcp() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let mut rows = Vec::new();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let talk = Talk::new((Family::V4, protocol), 1234);
        for len in (4..=40).step_by(4) {
            let title = format!("{protocol:?} with an IP header of {} bytes", 20 + len);
            let options = vec![1; len];
            rows.push(dressed(title, talk, |frame| {
                frame.options(&options).bytes(9)
            }));
        }
    }
    for family in [Family::V4, Family::V6] {
        let talk = Talk::new((family, Protocol::Tcp), 1234);
        for len in (4..=40).step_by(4) {
            let title = format!("{family:?}, a TCP header of {} bytes", 20 + len);
            let options: Vec<u8> = (0..).take(len).collect();
            rows.push(dressed(title, talk, |frame| {
                frame.tcp_options(&options).bytes(1)
            }));
        }
    }
    let talk = Talk::new((Family::V4, Protocol::Tcp), 1234);
    rows.push(dressed("all options there are".into(), talk, |frame| {
        frame.options(&[7; 40]).tcp_options(&[2; 40]).bytes(77)
    }));
    check(&ground, &Plan::new(Mode::Dnat), &rows);
    check(
        &ground,
        &Plan::new(Mode::FullNat),
        &[dressed(
            "full NAT with all options there are".into(),
            talk.mode(Mode::FullNat),
            |frame| frame.options(&[7; 40]).tcp_options(&[2; 40]).bytes(77),
        )],
    );
}

#[test]
fn extension_headers_of_ipv6() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let chains: [&[(u8, u8)]; 9] = [
        &[(HOP_BY_HOP, 1)],
        &[(ROUTING, 1)],
        &[(DESTINATION, 1)],
        &[(HOP_BY_HOP, 2)],
        &[(DESTINATION, 32)],
        &[(DESTINATION, 150)],
        &[(HOP_BY_HOP, 1), (DESTINATION, 3)],
        &[
            (HOP_BY_HOP, 1),
            (ROUTING, 3),
            (DESTINATION, 1),
        ],
        &[
            (HOP_BY_HOP, 4),
            (DESTINATION, 1),
            (ROUTING, 1),
            (DESTINATION, 2),
        ],
    ];
    let with = |chain: &[(u8, u8)], frame: Frame| {
        chain
            .iter()
            .fold(frame, |frame, (kind, units)| frame.extension(*kind, *units))
    };
    let mut rows = Vec::new();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let talk = Talk::new((Family::V6, protocol), 1234);
        for chain in chains {
            let title = format!("{protocol:?} behind {chain:?}");
            rows.push(dressed(title, talk, |frame| with(chain, frame).bytes(5)));
        }
        let five = [(DESTINATION, 1); 5];
        rows.push(row(
            format!("{protocol:?} behind more than can be walked over"),
            [talk
                .there(|frame| with(&five, talk.flagged(frame, "S")))
                .passes(Reason::Malformed)],
        ));
    }
    check(&ground, &Plan::new(Mode::Dnat), &rows);
}
