//! The packets that programs are tested with are what they say: compared with bytes from elsewhere.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

mod support;

use support::judge::{L4, Net, Place, Wrong, good, judge, wrong};
use support::packet::{DESTINATION, FRAGMENT, Frame, HOP_BY_HOP, ROUTING, TCP, UDP};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

/// The example of a header that books use for its checksum, b861.
#[test]
fn a_header_from_a_book() {
    let packet = Frame::v4("192.168.0.1", "192.168.0.199")
        .ident(0)
        .df()
        .raw(UDP, &[0; 95])
        .packet();
    let expected = "4500 0073 0000 4000 4011 b861 c0a8 0001 c0a8 00c7";
    assert_eq!(packet[..20], hex(expected));
}

#[test]
fn datagrams_by_hand() {
    let frame = Frame::v4("10.0.0.1", "10.0.0.2")
        .udp(4096, 53)
        .payload(b"hi!");
    // 0a00 0001 0a00 0002 0011 000b 1000 0035 000b 6869 2100
    // = 0a00+0a00+1000+6869+2100 = ad69; 1+2+11+b+35+b = 5f; adc8; inverted 5237.
    let expected = "1000 0035 000b 5237 6869 21";
    assert_eq!(frame.packet()[20..], hex(expected));
    let frame = Frame::v6("fd00::1", "fd00::2")
        .udp(4096, 53)
        .payload(b"hi!");
    // fd00 0001 fd00 0002 0000 000b 0000 0011 1000 0035 000b 6869 2100
    // = fd00+fd00+1000+6869+2100 = 29369; + 5f = 293c8; 2+93c8 = 93ca; inverted 6c35.
    let expected = "1000 0035 000b 6c35 6869 21";
    assert_eq!(frame.packet()[40..], hex(expected));
}

#[test]
fn echo_by_hand() {
    // 0800 + 0001 + 0002 + 6162 = 6965; inverted 969a.
    let frame = Frame::v4("10.0.0.1", "10.0.0.2").ping(1, 2).payload(b"ab");
    assert_eq!(frame.packet()[20..], hex("0800 969a 0001 0002 6162"));
    // fd00+fd00 = 1fa00; +8000 = 27a00; +6162 = 2db62; 1+2+a+3a+1+2 = 4a; 2dbac; dbae; inverted 2451.
    let frame = Frame::v6("fd00::1", "fd00::2").ping(1, 2).payload(b"ab");
    assert_eq!(frame.packet()[40..], hex("8000 2451 0001 0002 6162"));
}

#[test]
fn a_segment_by_hand() {
    let frame = Frame::v4("10.0.0.1", "10.0.0.2")
        .vlan(7)
        .vlan(9)
        .tos(0xb8)
        .ttl(3)
        .ident(0xabcd)
        .tcp(1234, 80)
        .flags("SEC")
        .seq(1)
        .ack(2)
        .window(3)
        .tcp_options(&[2, 4, 5, 0xb4])
        .payload(b"x");
    // IP: 45b8 + 2d + abcd + 306 + a00 + 1 + a00 + 2 = 108bb; 8bc; inverted f743.
    // TCP: 4d2 + 50 + 1 + 2 + 60c2 + 3 + 204 + 5b4 + 7800 = e5a2; with a00 + 1 + a00 + 2 + 6 + 19 in
    // front f9c4; inverted 63b.
    let expected = "020000000002 020000000001 88a8 0007 8100 0009 0800
        45b8 002d abcd 0000 0306 f743 0a00 0001 0a00 0002
        04d2 0050 00000001 00000002 60c2 0003 063b 0000 0204 05b4 78";
    assert_eq!(frame.build(), hex(expected));
    let view = good(&frame.build());
    assert_eq!(view.vlans, [7, 9]);
    assert_eq!(view.macs, frame.macs);
    assert_eq!(view.payload, b"x");
    let L4::Tcp {
        flags,
        seq,
        ack,
        window,
        options,
        ..
    } = view.l4
    else {
        panic!("{:?}", view.l4);
    };
    assert_eq!((flags.as_str(), seq, ack, window), ("SEC", 1, 2, 3));
    assert_eq!(options, [2, 4, 5, 0xb4]);
}

#[test]
fn whatever_is_built_is_right() {
    for (src, dst) in [
        ("10.0.0.1", "192.0.2.7"),
        ("fd00::1", "2001:db8::9"),
    ] {
        let base = Frame::ip(src, dst);
        let quoted = base.clone().tcp(1, 2).seq(77).bytes(100);
        for len in [0, 1, 2, 3, 64, 1_399] {
            let frames = [
                base.clone().tcp(9, 8).flags("PA").bytes(len),
                base.clone().udp(9, 8).bytes(len),
                base.clone().ping(5, 6).bytes(len),
                base.clone().pong(5, 6).bytes(len),
                base.clone().port_unreachable().quote(&quoted, len),
                base.clone().too_big(1_400).quote(&quoted, len),
                base.clone().time_exceeded().quote(&quoted, len),
                base.clone().raw(132, b"xyz").trailer(len),
            ];
            for frame in frames {
                let view = good(&frame.build());
                assert_eq!(view.src(), frame.src);
                assert_eq!(view.dst(), frame.dst);
                assert_eq!(view.ttl(), 64);
            }
        }
    }
}

#[test]
fn extension_headers() {
    let frame = Frame::v6("fd00::1", "fd00::2")
        .flow(0xabcde)
        .tos(0x5a)
        .extension(HOP_BY_HOP, 1)
        .extension(ROUTING, 2)
        .extension(DESTINATION, 40)
        .udp(1, 2)
        .payload(b"deep");
    let view = good(&frame.build());
    assert_eq!(
        (view.ports(), view.payload.as_slice()),
        (Some((1, 2)), b"deep".as_slice())
    );
    let Net::V6 {
        tos,
        flow,
        extensions,
        fragment,
        ..
    } = view.net
    else {
        panic!("{:?}", view.net);
    };
    assert_eq!((tos, flow, fragment), (0x5a, 0xabcde, None));
    let kinds: Vec<_> = extensions
        .iter()
        .map(|(kind, it)| (*kind, it.len() + 1))
        .collect();
    assert_eq!(
        kinds,
        [
            (HOP_BY_HOP, 8),
            (ROUTING, 16),
            (DESTINATION, 320)
        ]
    );
}

#[test]
fn fragments_are_the_packet() {
    for (src, dst) in [
        ("10.0.0.1", "192.0.2.7"),
        ("fd00::1", "2001:db8::9"),
    ] {
        let whole = Frame::ip(src, dst).udp(7, 9).bytes(100);
        let parts = whole.fragments(48);
        assert_eq!(parts.len(), 3);
        let mut bytes = Vec::new();
        for (number, part) in parts.iter().enumerate() {
            let view = good(part);
            let (Net::V4 { fragment, .. } | Net::V6 { fragment, .. }) = view.net else {
                panic!("{:?}", view.net);
            };
            let units = u16::try_from(number).unwrap() * 6;
            assert_eq!(
                fragment,
                Some(Place {
                    units,
                    more: number < 2
                })
            );
            if let L4::Part { src, dst, .. } = view.l4 {
                assert_eq!(number, 0, "only the first has ports");
                bytes.extend([src.to_be_bytes(), dst.to_be_bytes()].concat());
            }
            bytes.extend(view.payload);
        }
        let packet = whole.packet();
        assert_eq!(packet[packet.len() - 108..], bytes);
    }
    let atomic = Frame::v6("fd00::1", "fd00::2")
        .fragment(0, 0)
        .udp(1, 2)
        .bytes(9);
    assert_eq!(good(&atomic.build()).ports(), Some((1, 2)));
    let kinds = Frame::v6("fd00::1", "fd00::2").fragment(0, 0).build();
    assert_eq!(kinds[20], FRAGMENT);
}

#[test]
fn errors_have_the_packet_inside() {
    let inner = Frame::v4("10.9.9.9", "10.8.8.8")
        .ttl(1)
        .tcp(1234, 80)
        .seq(0x01020304)
        .bytes(50);
    let error = Frame::v4("10.0.0.1", "10.9.9.9").time_exceeded();
    let view = good(&error.clone().quote(&inner, 8).build());
    let inside = view.inner.unwrap();
    assert_eq!(inside.ports(), Some((1234, 80)));
    assert_eq!((&inside.payload[..], inside.ttl()), (&[1, 2, 3, 4][..], 1));
    let view = good(&error.clone().quote(&inner, usize::MAX).build());
    let inside = view.inner.unwrap();
    assert!(matches!(
        inside.l4,
        L4::Tcp {
            seq: 0x01020304,
            ..
        }
    ));
    assert_eq!(inside.payload.len(), 50);

    let bad = error.clone().quote(&inner.clone().ip_sum(1), 8).build();
    let [Wrong::Inner(it)] = &wrong(&bad)[..] else {
        panic!("{:?}", wrong(&bad));
    };
    assert!(matches!(**it, Wrong::IpSum { found: 1, .. }));
    let bad = error
        .clone()
        .quote(&inner.clone().l4_sum_off_by(1), 70)
        .build();
    let [Wrong::Inner(it)] = &wrong(&bad)[..] else {
        panic!("{:?}", wrong(&bad));
    };
    assert!(matches!(**it, Wrong::L4Sum { .. }));
    let unseen = error.quote(&inner.l4_sum_off_by(1), 69).build();
    assert_eq!(wrong(&unseen), [], "a byte is missing, so nobody can say");
}

/// Each lie is told, and nothing else.
#[test]
fn lies_are_found() {
    let v4 = || Frame::v4("10.0.0.1", "10.0.0.2");
    let v6 = || Frame::v6("fd00::1", "fd00::2");
    let l4_sum = |it: &[Wrong]| matches!(it, [Wrong::L4Sum { .. }]);
    for frame in [
        v4().tcp(1, 2).l4_sum(7),
        v4().udp(1, 2).l4_sum_off_by(1),
        v4().ping(1, 2).l4_sum_off_by(0x100),
        v6().tcp(1, 2).partial(),
        v6().udp(1, 2).partial(),
        v6().ping(1, 2).l4_sum(0),
    ] {
        let wrong = wrong(&frame.build());
        assert!(l4_sum(&wrong), "{frame:?}: {wrong:?}");
    }
    let rows = [
        (v4().tcp(1, 2).total(41), Wrong::Length("IP packet")),
        (v4().udp(1, 2).udp_len(9), Wrong::Length("UDP")),
        (v6().tcp(1, 2).data_offset(4), Wrong::Length("TCP header")),
        (v4().tcp(1, 2).data_offset(6), Wrong::Length("TCP header")),
        (v4().tcp(1, 2).words(4), Wrong::Length("IPv4 header")),
        (v4().tcp(1, 2).version(5), Wrong::Version(5)),
        (v6().tcp(1, 2).version(4), Wrong::Version(4)),
        (v6().udp(1, 2).unchecked(), Wrong::NoSum),
        (v6().raw(TCP, &[0; 19]), Wrong::Short("L4 header")),
        (
            v6().raw(HOP_BY_HOP, &[6, 1, 0, 0, 0, 0, 0, 0]),
            Wrong::Short("IPv6 extension header"),
        ),
    ];
    for (frame, what) in rows {
        let found = wrong(&frame.clone().build());
        assert!(found.contains(&what), "{what:?}: {found:?} {frame:?}");
    }
    assert_eq!(wrong(&v4().udp(1, 2).unchecked().build()), []);
    let found = wrong(&v4().tcp(1, 2).ip_sum(0x1234).build());
    assert!(
        matches!(found[..], [Wrong::IpSum { found: 0x1234, .. }]),
        "{found:?}"
    );
}

/// A datagram whose checksum comes to nothing says all ones.
#[test]
fn nothing_is_all_ones_for_datagrams() {
    let base = Frame::v4("10.0.0.1", "10.0.0.2").udp(1, 2);
    let packet = base.clone().payload(&[0, 0]).packet();
    let rest = [packet[26], packet[27]];
    let frame = base.payload(&rest);
    assert_eq!(frame.packet()[26..28], [0xff, 0xff]);
    good(&frame.build());
    assert!(!wrong(&frame.l4_sum(1).build()).is_empty());
}

/// Any cut of any frame is judged, and never accepted as whole.
#[test]
fn cut_frames() {
    for frame in [
        Frame::v4("10.0.0.1", "10.0.0.2")
            .vlan(3)
            .tcp(1, 2)
            .tcp_options(&[1; 7])
            .bytes(5),
        Frame::v6("fd00::1", "fd00::2")
            .extension(ROUTING, 2)
            .udp(1, 2)
            .bytes(5),
        Frame::v6("fd00::1", "fd00::2").too_big(1280).bytes(60),
    ] {
        let whole = frame.build();
        for len in 0..whole.len() {
            let (_, wrong) = judge(&frame.clone().cut(len).build());
            assert!(!wrong.is_empty(), "{len}");
        }
    }
}
