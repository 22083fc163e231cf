//! Messages in streams: where they end, where they go, and what those look like that are refused.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

mod net_bench;
mod streams;

use bpfsmith_asm::dsl::*;
use bpfsmith_asm::kit::map::count_at;
use bpfsmith_asm::kit::stream::{self, Counts, Direction, Length, Otherwise, Prefix};
use bpfsmith_gate::needs;
use bpfsmith_prog::Link;
use bpfsmith_prog::target::Sockmap;
use net_bench::{HITS, hit, hits};
use std::io::Write;
use streams::{
    Held, INDEXED, Judge, Pipe, Rig, V4, V6, check_carries, check_silent, noise, send_on, take,
    until,
};

/// A rig with a parser and a verdict that sends each message on, and counts it.
fn parsed(parser: Code) -> (Rig, [Link; 2]) {
    let rig = Rig::new(&INDEXED);
    let links = {
        let (on, hook) = (
            Sockmap::parser(&rig.handle),
            Sockmap::stream_verdict(&rig.handle),
        );
        let parser = code![mov(R6, R1), parser];
        let parser = rig.load_to(&on, ProgType::SK_SKB, parser);
        let verdict = send_on(
            Judge::Parsed,
            &INDEXED,
            1,
            Direction::Egress,
            Otherwise::Drop,
        );
        let verdict = rig.load_to(&hook, ProgType::SK_SKB, verdict);
        [
            parser.attach(&on).unwrap(),
            verdict.attach(&hook).unwrap(),
        ]
    };
    (rig, links)
}

fn prefix(length: Length, counts: Counts) -> Prefix {
    Prefix {
        at: 1,
        length,
        counts,
        most: 600,
    }
}

/// A message with that many bytes behind its length, of which the first says what kind it is.
fn message(prefix: Prefix, bytes: u16) -> Vec<u8> {
    let size = match prefix.length {
        Length::U8 => 1,
        Length::Be16 | Length::Le16 => 2,
        Length::Be32 | Length::Le32 => 4,
    };
    let number = match prefix.counts {
        Counts::Rest => bytes,
        Counts::Whole => bytes + size + u16::from(prefix.at),
    };
    let length = match prefix.length {
        Length::U8 => vec![u8::try_from(number).unwrap()],
        Length::Be16 => number.to_be_bytes().to_vec(),
        Length::Le16 => number.to_le_bytes().to_vec(),
        Length::Be32 => u32::from(number).to_be_bytes().to_vec(),
        Length::Le32 => u32::from(number).to_le_bytes().to_vec(),
    };
    let mut message = vec![b'#'];
    message.extend(length);
    message.extend(noise(bytes.into(), u32::from(bytes) + 1));
    message
}

#[test]
fn messages_with_a_length_are_judged_one_by_one() {
    needs!(Root, NetNs, Sockmap, CastKfuncs);
    for length in [
        Length::U8,
        Length::Be16,
        Length::Le16,
        Length::Be32,
        Length::Le32,
    ] {
        for counts in [Counts::Rest, Counts::Whole] {
            let prefix = prefix(length, counts);
            let (rig, _links) = parsed(stream::parser_length_prefixed(R6, prefix));
            let pipe = rig.splice(V4);
            // Many in one segment, none at all behind a length, and the start of one more.
            let mut bytes: Vec<u8> = [3, 0, 1, 200, 17]
                .into_iter()
                .flat_map(|size| message(prefix, size))
                .collect();
            let all = bytes.len();
            let last = message(prefix, 100);
            bytes.extend(&last[..2]);
            (&pipe.left).write_all(&bytes).unwrap();
            assert_eq!(take(&pipe.right, all), bytes[..all]);
            assert_eq!(hits(&rig.maps, 0), 5, "{prefix:?}");
            check_silent(&pipe.right);
            // Byte by byte: the length comes in pieces as well.
            let again = message(prefix, 20);
            for byte in last[2..].iter().chain(&again) {
                (&pipe.left).write_all(&[*byte]).unwrap();
            }
            assert_eq!(take(&pipe.right, last.len()), last);
            assert_eq!(take(&pipe.right, again.len()), again);
            assert_eq!(hits(&rig.maps, 0), 7);
            check_silent(&pipe.a);
        }
    }
}

/// Each message goes where its own first byte says, whatever else came in the same segment.
#[test]
fn a_verdict_finds_the_message_that_it_judges() {
    needs!(Root, NetNs, Sockmap, CastKfuncs);
    let prefix = prefix(Length::Be16, Counts::Rest);
    let rig = Rig::new(&INDEXED);
    let (kind, key) = (slot::<u8>("kind"), slot::<u32>("key"));
    let code = code![
        mov(R6, R1),
        stream::message(R6, R7, R8),
        count_at(&HITS, 1, R8),
        store(kind.u8(0), 0),
        add(R7, 3),
        skb_load_bytes(R6, R7, kind, 1),
        load(R1, kind.u8(0)),
        R1.ne(i32::from(b'r')).then(ret(SK_PASS)),
        store(key.u32(0), 1),
        stream::redirect(R6, &INDEXED, key, Direction::Egress, Otherwise::Drop),
        exit(),
    ];
    let (on, hook) = (
        Sockmap::parser(&rig.handle),
        Sockmap::stream_verdict(&rig.handle),
    );
    let parser = code![
        mov(R6, R1),
        stream::parser_length_prefixed(R6, prefix)
    ];
    let parser = rig.load_to(&on, ProgType::SK_SKB, parser);
    let verdict = rig.load_to(&hook, ProgType::SK_SKB, code);
    let _links = [
        parser.attach(&on).unwrap(),
        verdict.attach(&hook).unwrap(),
    ];
    let pipe = rig.splice(V6);
    let message = |first: u8, bytes: u16| {
        let mut message = message(prefix, bytes);
        message[3] = first;
        message
    };
    let (mut to_right, mut to_a) = (Vec::new(), Vec::new());
    let mut all = Vec::new();
    for (first, bytes) in [
        (b'r', 3),
        (b'a', 100),
        (b'a', 1),
        (b'r', 200),
        (b'r', 1),
        (b'a', 7),
    ] {
        let message = message(first, bytes);
        all.extend(&message);
        match first {
            b'r' => to_right.extend(&message),
            _ => to_a.extend(&message),
        }
    }
    // In one segment, then in pieces that end within messages.
    for pieces in [all.len(), 5] {
        for piece in all.chunks(pieces) {
            (&pipe.left).write_all(piece).unwrap();
        }
        assert_eq!(take(&pipe.right, to_right.len()), to_right);
        assert_eq!(take(&pipe.a, to_a.len()), to_a);
    }
    check_silent(&pipe.right);
    check_silent(&pipe.a);
    assert_eq!(hits(&rig.maps, 1), 2 * u64::try_from(all.len()).unwrap());
}

#[test]
fn messages_with_a_bad_length_are_refused() {
    needs!(Root, NetNs, Sockmap, CastKfuncs);
    for (counts, bad, errno) in [
        // The longest that may be, and one byte more.
        (Counts::Rest, &[2, 86][..], Errno::EMSGSIZE),
        (Counts::Rest, &[0xff, 0xff], Errno::EMSGSIZE),
        (Counts::Whole, &[2, 89], Errno::EMSGSIZE),
        (Counts::Whole, &[0, 2], Errno::EBADMSG),
        (Counts::Whole, &[0, 0], Errno::EBADMSG),
    ] {
        let prefix = prefix(Length::Be16, counts);
        let (rig, _links) = parsed(stream::parser_length_prefixed(R6, prefix));
        let pipe = rig.splice(V4);
        let mut bytes = message(prefix, 5);
        bytes.extend(message(prefix, 600 - 3));
        let good = bytes.len();
        bytes.push(b'#');
        bytes.extend(bad);
        (&pipe.left).write_all(&bytes).unwrap();
        assert_eq!(take(&pipe.right, good), bytes[..good]);
        let mut found = None;
        until(|| {
            found = pipe.a.take_error().unwrap();
            found.is_some()
        });
        assert_eq!(found.unwrap().raw_os_error(), Some(errno.0), "{bad:?}");
        assert_eq!(hits(&rig.maps, 0), 2);
        check_silent(&pipe.right);
    }
}

/// What was not read before the socket entered the map is a part of a segment.
#[test]
fn a_parser_of_all_goes_on_in_the_middle_of_a_segment() {
    needs!(Root, NetNs, Sockmap, CastKfuncs);
    let (rig, _links) = parsed(stream::parser_whole(R6));
    let pipe = Pipe::new(&rig.node, V4);
    (&pipe.left).write_all(b"0123456789").unwrap();
    assert_eq!(take(&pipe.a, 3), b"012");
    rig.sockets.set(&0, &pipe.a).unwrap();
    rig.sockets.set(&1, &pipe.b).unwrap();
    (&pipe.left).write_all(b"a").unwrap();
    assert_eq!(take(&pipe.right, 8), b"3456789a");
    check_carries(&pipe.left, &pipe.right, &noise(100_000, 2));
}

#[test]
fn what_is_written_is_gathered_and_read() {
    needs!(Root, NetNs, Sockmap);
    let rig = Rig::new(&INDEXED);
    let (key, short) = (slot::<u32>("key"), label("short"));
    // Eight bytes at a time, of which the last says where they go.
    let code = code![
        mov(R6, R1),
        stream::gather(R6, 8),
        hit(0),
        stream::readable(R6, 8, R7, short),
        load(R8, R7.u8(7)),
        msg_apply_bytes(R6, 8),
        store(key.u32(0), 1),
        R8.eq(i32::from(b'1')).then(code![
            stream::redirect_message(R6, &INDEXED, key, Direction::Ingress, Otherwise::Drop),
            exit(),
        ]),
        ret(SK_PASS),
        bind(short),
        ret(SK_DROP),
    ];
    let _links = rig.judge(Judge::Message, Held::Link, code);
    let pipe = rig.splice(V4);
    let mut writer = &pipe.a;
    for byte in b"to left0" {
        writer.write_all(&[*byte]).unwrap();
    }
    assert_eq!(take(&pipe.left, 8), b"to left0");
    for part in [&b"to"[..], b" b ", b"  1"] {
        check_silent(&pipe.b);
        writer.write_all(part).unwrap();
    }
    assert_eq!(take(&pipe.b, 8), b"to b   1");
    // Several parts of one write, each judged by itself. Once a part was sent to another socket, what
    // the rest of the write passes goes there too: the kernel keeps the choice.
    writer.write_all(b"left...0left...0b......1").unwrap();
    assert_eq!(take(&pipe.left, 16), b"left...0left...0");
    assert_eq!(take(&pipe.b, 8), b"b......1");
    check_silent(&pipe.right);
    assert_eq!(hits(&rig.maps, 0), 5);
}
