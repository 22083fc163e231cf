//! Every reader of answers, fed with bytes that no kernel sends.

use crate::addr::Address;
use crate::ethtool::Features;
use crate::link::Link;
use crate::neigh::Neighbour;
use crate::route::Route;
use crate::tc::{Filter, Qdisc};
use crate::wire::{Frame, Message};
use proptest::collection::vec;
use proptest::prelude::*;

fn read_all(body: &[u8]) {
    let frame = Frame {
        kind: 16,
        flags: 2,
        seq: 1,
        port: 0,
        body,
    };
    let _ = Link::read(frame);
    let _ = Address::read(frame);
    let _ = Route::read(frame);
    let _ = Neighbour::read(frame);
    let _ = Qdisc::read(frame);
    let _ = Filter::read(frame);
    let _ = Features::read(frame);
    let _ = crate::socket::verdict(
        Frame {
            kind: 2,
            flags: 0x200,
            ..frame
        },
        body,
    );
    let _ = crate::socket::verdict(
        Frame {
            kind: 2,
            flags: 0x300,
            ..frame
        },
        body,
    );
    let _ = crate::socket::verdict(
        Frame {
            kind: 3,
            flags: 0x200,
            ..frame
        },
        body,
    );
}

/// Headers of every family, with families that exist, so that reading goes on behind them.
fn header() -> impl Strategy<Value = Vec<u8>> {
    let size = prop::sample::select(vec![4usize, 8, 12, 16, 20]);
    (size, prop::sample::select(vec![0u8, 2, 10])).prop_flat_map(|(size, family)| {
        vec(any::<u8>(), size).prop_map(move |mut bytes| {
            bytes[0] = family;
            bytes
        })
    })
}

/// Text as often as numbers, because some attributes are looked at by what they say.
fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..20),
        Just(b"bpf\0".to_vec()),
        Just(vec![0xff; 4]),
        vec(any::<u8>(), 4),
        vec(any::<u8>(), 16),
    ]
}

proptest! {
    #[test]
    fn any_bytes(body in vec(any::<u8>(), 0..300)) {
        read_all(&body);
    }

    #[test]
    fn attributes_of_any_size_and_number(
        header in header(),
        plain in vec((0u16..50, value()), 0..10),
        nested in vec((0u16..50, vec((0u16..12, value()), 0..6)), 0..4),
    ) {
        let message = Message::new(0, 0).fixed(&header);
        let message = plain.iter().fold(message, |m, (kind, value)| m.attr(*kind, value));
        let message = nested.iter().fold(message, |m, (kind, members)| {
            m.nest(*kind, |m| members.iter().fold(m, |m, (kind, value)| m.attr(*kind, value)))
        });
        read_all(&message.finish(0).unwrap()[16..]);
    }
}
