//! Packets that come out wrong.

use crate::packets::row::{Row, Step, all, check, is, row, story};
use crate::packets::stage::{At, Ground, Stage, Verdict};
use crate::packets::talk::{CLIENT, FRONT, LANES, Plan, Talk, back, backend, name};
use crate::support::packet::{self, Frame};
use bpfsmith_datapath::config::{Family, Mode, Protocol};
use bpfsmith_datapath::programs::Hook;
use bpfsmith_datapath::reason::Reason;
use bpfsmith_gate::needs;
use std::net::IpAddr;

/// The pieces of a large packet have its options, and fit where they go.
#[test]
fn pieces_of_large_packets_fit() {
    needs!(Root, NetNs, Veth, Tcx, XdpLink);
    let ground = Ground::new();
    let rows = [Family::V4, Family::V6].map(|family| {
        story(format!("{family:?}"), move |stage| {
            if stage.hook != Hook::Tcx {
                return Ok(());
            }
            let talk = Talk::new((family, Protocol::Tcp), 1234);
            all(stage, &talk.established())?;
            let ip = if family == Family::V4 { 20 } else { 40 };
            // Timestamps.
            let large = |options: &[u8]| {
                let frame = talk.asks().df().tcp_options(options).bytes(3000).build();
                move |stage: &mut Stage<'_>, piece| {
                    stage.is_summed = false;
                    let out = stage.send_cut(At::Front, &frame, piece);
                    out.counts.contains_key(&Reason::Forwarded)
                }
            };
            let none = large(&[]);
            let some = large(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
            is("without options", none(stage, 1500 - ip - 20), true)?;
            is(
                "without options, and too long",
                none(stage, 1500 - ip - 19),
                false,
            )?;
            is("with options", some(stage, 1500 - ip - 32), true)?;
            is(
                "with options, and too long",
                some(stage, 1500 - ip - 31),
                false,
            )
        })
    });
    check(&ground, &Plan::new(Mode::Dnat), &rows);
}

/// Who listens at all addresses does not listen at those of groups.
#[test]
fn packets_to_many_are_not_for_one() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let mut plan = Plan::with(
        Mode::Dnat,
        bpfsmith_datapath::config::Algorithm::Maglev,
        &[0],
    );
    for listener in &mut plan.0.listeners {
        let any = Family::of(listener.address.ip()).any();
        listener.address.set_ip(any);
    }
    let rows: Vec<Row> = [
        "224.0.0.251",
        "255.255.255.255",
        "ff02::fb",
    ]
    .map(|to| {
        let to: IpAddr = to.parse().unwrap();
        let mut talk = Talk::new((Family::of(to), Protocol::Udp), 1234);
        talk.service.set_ip(to);
        let step = Step::new(At::Front, &talk.asks());
        row(to.to_string(), [step.passes(Reason::NotOurs)])
    })
    .into();
    check(&ground, &plan, &rows);
}

/// A first fragment without a whole header is not one with the padding of its frame.
#[test]
fn padding_is_no_header() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let tcp = Talk::new((Family::V4, Protocol::Tcp), 1234);
    let packet = tcp.asks().packet();
    let l4 = packet[20..].to_vec();
    let rows = [8, 12, 16].map(|len: usize| {
        let l4 = l4.clone();
        story(format!("{len} bytes of TCP"), move |stage| {
            all(stage, &tcp.established())?;
            let frame = Frame::v4("10.10.0.10", "10.99.0.1")
                .macs(CLIENT, FRONT)
                .ident(9)
                .more()
                .raw(6, &l4[..len])
                .trailer(60 - 34 - len)
                .build();
            let out = stage.send(At::Front, &frame);
            is("verdict", out.verdict, Verdict::Passed)?;
            is("frame", out.frame, frame)
        })
    });
    check(&ground, &Plan::new(Mode::Dnat), &rows);
}

/// The backend, or a router on the way to it, tells of a packet with so much of it.
fn error(talk: &Talk, shape: fn(Frame) -> Frame, quoted: usize) -> Step {
    let router = match talk.family() {
        Family::V4 => "192.0.2.55",
        Family::V6 => "2001:db8::55",
    };
    let router: IpAddr = router.parse().unwrap();
    let (from, outer) = match quoted % 2 {
        0 => (talk.backend.ip(), talk.service.ip()),
        _ => (router, router),
    };
    let error = Frame::ip(from, talk.seen.ip())
        .macs(backend(0), back(0))
        .port_unreachable()
        .quote(&shape(talk.asked()), quoted);
    let wanted = Frame::ip(outer, talk.client.ip())
        .macs(FRONT, CLIENT)
        .ttl(63)
        .port_unreachable()
        .quote(&shape(talk.asks()), quoted);
    let step = Step::new(At::Back(0), &error).becomes(&wanted);
    step.counts(&[Reason::IcmpError])
}

/// Errors about packets whose headers are unusual, and which quote any number of their bytes.
#[test]
fn errors_about_unusual_packets() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let shapes: [fn(Frame) -> Frame; 3] = [
        |frame| frame.bytes(33),
        |frame| match frame.src.is_ipv4() {
            true => frame.options(&[1; 40]).bytes(7),
            false => frame.flow(7).bytes(7),
        },
        |frame| frame.ttl(1).tos(0xb8).bytes(1200),
    ];
    // With 17, half of TCP's checksum is there.
    let quoted = || (8..64).filter(|quoted| *quoted != 17);
    for mode in [Mode::Dnat, Mode::FullNat] {
        let rows = LANES.map(|lane| {
            let talk = Talk::new(lane, 1234).mode(mode);
            let mut steps = talk.established();
            for shape in shapes {
                steps.extend(quoted().map(|quoted| error(&talk, shape, quoted)));
            }
            row(name(lane), steps)
        });
        check(&ground, &Plan::new(mode), &rows);
    }
}

/// Packets that have stations to come yet, in a routing header, are not where they go.
#[test]
fn packets_on_their_way_elsewhere() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let rows = [Protocol::Tcp, Protocol::Udp].map(|protocol| {
        story(format!("{protocol:?}"), move |stage| {
            let talk = Talk::new((Family::V6, protocol), 1234);
            let asks = talk.flagged(talk.asks(), "S");
            let mut frame = asks.extension(packet::ROUTING, 3).build();
            let left = 14 + 40 + 3;
            frame[left] = 1;
            let out = stage.send(At::Front, &frame);
            is("verdict", out.verdict, Verdict::Passed)?;
            is(
                "counts",
                out.counts.keys().copied().collect(),
                vec![Reason::OtherTransport],
            )?;
            is("frame", out.frame, frame.clone())?;
            frame[left] = 0;
            let out = stage.send(At::Front, &frame);
            is("arrived", out.counts.contains_key(&Reason::Opened), true)
        })
    });
    check(&ground, &Plan::new(Mode::Dnat), &rows);
}
