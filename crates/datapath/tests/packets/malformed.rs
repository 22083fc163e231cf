//! Packets that are none, or nothing that the proxy handles: they pass as they are.

use super::row::{Row, Step, check, row};
use super::stage::{At, Ground};
use super::talk::{CLIENT, FRONT, LANES, Plan, Talk, client, name, vip};
use crate::support::packet::{DESTINATION, Frame, HOP_BY_HOP};
use bpfsmith_datapath::config::{Family, Mode, Protocol};
use bpfsmith_datapath::reason::Reason;
use bpfsmith_gate::needs;

fn ip_len(family: Family) -> usize {
    match family {
        Family::V4 => 20,
        Family::V6 => 40,
    }
}

fn l4_len(protocol: Protocol) -> usize {
    match protocol {
        Protocol::Tcp => 20,
        Protocol::Udp => 8,
    }
}

/// Each of these lengths of a packet that would open a flow.
fn cut(title: String, frame: &Frame, lengths: std::ops::Range<usize>) -> Row {
    let least = 14 + ip_len(Family::of(frame.src));
    let steps = lengths.map(|len| {
        let whole = frame.clone();
        let step = Step::new(At::Front, &whole.cut(len));
        let step = step.passes(Reason::Malformed);
        match len < least {
            true => step.only_xdp(),
            false => step,
        }
    });
    row(title, steps)
}

#[test]
fn headers_that_end_too_early() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let mut rows = Vec::new();
    for lane in LANES {
        let talk = Talk::new(lane, 1234);
        let (ip, l4) = (14 + ip_len(lane.0), l4_len(lane.1));
        let frame = talk.flagged(talk.asks(), "S").bytes(20);
        rows.push(cut(
            format!("{} in the IP header", name(lane)),
            &frame,
            14..ip,
        ));
        rows.push(cut(
            format!("{} behind the IP header", name(lane)),
            &frame,
            ip..ip + l4,
        ));
        if lane.0 == Family::V4 {
            let frame = frame.clone().options(&[1; 40]);
            let end = ip + 40;
            rows.push(cut(format!("{} in options", name(lane)), &frame, ip..end));
            rows.push(cut(
                format!("{} behind options", name(lane)),
                &frame,
                end..end + l4,
            ));
        } else {
            let frame = frame.extension(HOP_BY_HOP, 1).extension(DESTINATION, 3);
            let end = ip + 32;
            rows.push(cut(
                format!("{} in extensions", name(lane)),
                &frame,
                ip..end,
            ));
            rows.push(cut(
                format!("{} behind extensions", name(lane)),
                &frame,
                end..end + l4,
            ));
        }
        // Also when the flow is known.
        let mut steps = talk.established();
        for len in ip..ip + l4 {
            let step = Step::new(At::Front, &talk.asks().bytes(20).cut(len));
            steps.push(step.passes(Reason::Malformed));
        }
        rows.push(row(format!("{} of a known flow", name(lane)), steps));
    }
    check(&ground, &Plan::new(Mode::Dnat), &rows);
}

#[test]
fn versions_and_lengths_of_headers() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let mut rows = Vec::new();
    for lane in LANES {
        let talk = Talk::new(lane, 1234);
        let frame = talk.flagged(talk.asks(), "S").bytes(20);
        let own = if lane.0 == Family::V4 { 4 } else { 6 };
        let wrong = |frame: Frame| Step::new(At::Front, &frame).passes(Reason::Malformed);
        let versions = (0..16).filter(|version| *version != own);
        rows.push(row(
            format!("{} other versions", name(lane)),
            versions.map(|version| wrong(frame.clone().version(version))),
        ));
        let mut steps = talk.established();
        steps.extend(
            (0..16)
                .filter(|version| *version != own)
                .map(|version| wrong(talk.asks().version(version))),
        );
        rows.push(row(
            format!("{} other versions in a known flow", name(lane)),
            steps,
        ));
        if lane.0 == Family::V4 {
            rows.push(row(
                format!("{} headers that are too short", name(lane)),
                (0..5).map(|words| wrong(frame.clone().words(words))),
            ));
            let short = talk.flagged(talk.asks(), "S");
            rows.push(row(
                format!("{} headers that are longer than the packet", name(lane)),
                (6..16).map(|words| wrong(short.clone().words(words))),
            ));
            rows.push(row(
                format!("{} with another family's type", name(lane)),
                [wrong(frame.clone().ether_type(0x86dd))],
            ));
        } else {
            rows.push(row(
                format!("{} with another family's type", name(lane)),
                [wrong(frame.clone().ether_type(0x0800))],
            ));
        }
    }
    check(&ground, &Plan::new(Mode::Dnat), &rows);
}

/// Lengths that headers claim are for the receiver to judge: the packet goes on, as untrue as it was.
#[test]
fn lengths_that_are_not_true() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let mut rows = Vec::new();
    for lane in LANES {
        let talk = Talk::new(lane, 1234);
        for total in [0, 7, 19, 20, 27, 39, 61, 1400] {
            let mut steps = talk.established();
            steps.push(talk.there(|frame| frame.bytes(20).total(total)));
            rows.push(row(
                format!("{} says that it has {total} bytes", name(lane)),
                steps,
            ));
        }
        let mut steps = talk.established();
        match lane.1 {
            Protocol::Tcp => {
                steps.extend((0..16).map(|words| talk.there(|frame| frame.data_offset(words))));
            }
            Protocol::Udp => {
                steps.extend([0, 7, 9, 65535].map(|len| talk.there(|frame| frame.udp_len(len))));
            }
        }
        rows.push(row(
            format!("{} lies about its own header", name(lane)),
            steps,
        ));
    }
    check(&ground, &Plan::new(Mode::Dnat), &rows);
}

#[test]
fn other_types_of_frames() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let other = |kind: u16, len: usize| {
        let mut frame = [FRONT, CLIENT].concat();
        frame.extend(kind.to_be_bytes());
        frame.extend((0..=255_u8).cycle().take(len));
        Step::bytes(At::Front, frame).passes(Reason::OtherProtocol)
    };
    let rows = [
        ("ARP", 0x0806),
        ("LLDP", 0x88cc),
        ("MPLS", 0x8847),
        ("PPP", 0x8864),
        ("EAPOL", 0x888e),
        ("802.3", 0x0026),
        ("zero", 0),
        ("ones", 0xffff),
        ("IPv4 the wrong way round", 0x0008),
        ("IPv6 the wrong way round", 0xdd86),
        ("IPv4's neighbour", 0x0801),
        ("IPv6's neighbour", 0x86dc),
    ]
    .map(|(name, kind)| row(name, [20, 28, 46, 1500].map(|len| other(kind, len))));
    check(&ground, &Plan::new(Mode::Dnat), &rows);
}

#[test]
fn other_protocols_over_ip() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let mut rows = Vec::new();
    for family in [Family::V4, Family::V6] {
        let to_vip = || Frame::ip(client(family), vip(family)).macs(CLIENT, FRONT);
        for (title, protocol) in [
            ("IGMP", 2),
            ("IPv4 in IP", 4),
            ("IPv6 in IP", 41),
            ("GRE", 47),
            ("ESP", 50),
            ("AH", 51),
            ("nothing", 59),
            ("OSPF", 89),
            ("SCTP", 132),
            ("UDP-Lite", 136),
            ("TCP's neighbour", 5),
            ("UDP's neighbour", 18),
            ("reserved", 255),
        ] {
            let ports = [
                0x04, 0xd2, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0,
            ];
            let steps = [0, 12].map(|len| {
                let frame = to_vip().raw(protocol, &ports[..len]);
                Step::new(At::Front, &frame).passes(Reason::OtherTransport)
            });
            rows.push(row(format!("{family:?} {title}"), steps));
        }
        rows.push(row(
            format!("{family:?} ping"),
            [
                to_vip().ping(1, 1),
                to_vip().pong(1, 1).bytes(56),
            ]
            .map(|frame| Step::new(At::Front, &frame).passes(Reason::OtherTransport)),
        ));
    }
    check(&ground, &Plan::new(Mode::Dnat), &rows);
}
