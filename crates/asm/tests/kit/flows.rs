//! What belongs to a flow has one hash, and so one CPU; flows have many.

use crate::kernel::Kernel;
use proptest::prelude::*;
use std::collections::HashSet;

const ERROR: u64 = u64::MAX;
const TCP: u8 = 6;
const UDP: u8 = 17;

type End = ([u8; 4], u16);

/// A packet with four bytes of payload behind the ports.
fn packet(proto: u8, from: End, to: End) -> Vec<u8> {
    let mut packet = vec![2; 12];
    packet.extend([
        0x08, 0x00, 0x45, 0, 0, 28, 0, 7, 0, 0, 64, proto, 0, 0,
    ]);
    packet.extend([from.0, to.0].concat());
    packet.extend([from.1.to_be_bytes(), to.1.to_be_bytes()].concat());
    packet.extend([1, 2, 3, 4]);
    packet
}

fn packet6(next: u8, from: End, to: End) -> Vec<u8> {
    let mut packet = vec![2; 12];
    packet.extend([
        0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, next, 64,
    ]);
    for end in [from, to] {
        packet.extend([
            0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0,
        ]);
        packet.extend(end.0);
    }
    packet.extend([from.1.to_be_bytes(), to.1.to_be_bytes()].concat());
    packet.extend([1, 2, 3, 4]);
    packet
}

fn hash(packet: &[u8]) -> u64 {
    Kernel::default().run("flow_hash", packet)
}

fn changed(packet: &[u8], at: usize, byte: u8) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet[at] = byte;
    packet
}

const A: End = ([10, 0, 0, 1], 1000);
const B: End = ([10, 0, 0, 2], 53);

#[test]
fn what_makes_a_flow() {
    let plain = packet(UDP, A, B);
    let expected = hash(&plain);
    // Time to live, payload, options and tags are no part of it.
    assert_eq!(hash(&changed(&plain, 22, 3)), expected);
    assert_eq!(hash(&changed(&plain, 41, 9)), expected);
    let mut options = changed(&plain, 14, 0x46);
    options.splice(34..34, [1, 1, 1, 0]);
    assert_eq!(hash(&options), expected);
    let mut tagged = plain.clone();
    tagged.splice(12..12, [0x81, 0, 0, 5]);
    assert_eq!(hash(&tagged), expected);
    // Ports, addresses and the protocol are.
    for other in [
        packet(TCP, A, B),
        packet(UDP, A, (B.0, 54)),
        packet(UDP, ([10, 0, 0, 3], A.1), B),
        packet(1, A, B),
        packet6(UDP, A, B),
    ] {
        assert_ne!(hash(&other), expected);
    }
}

#[test]
fn fragments_stay_together() {
    let plain = packet(UDP, A, B);
    let first = hash(&changed(&plain, 20, 0x20));
    assert_ne!(first, hash(&plain));
    // The last one has other bytes where ports are in the first.
    let last = changed(&changed(&plain, 21, 9), 35, 77);
    assert_eq!(hash(&last), first);
}

#[test]
fn what_is_no_flow() {
    let plain = packet(UDP, A, B);
    assert_eq!(hash(&changed(&plain, 13, 0x06)), ERROR, "ARP");
    assert_eq!(hash(&changed(&plain, 14, 0x44)), ERROR, "16 bytes");
    assert_eq!(hash(&plain[..33]), ERROR);
    assert_eq!(hash(&packet6(UDP, A, B)[..53]), ERROR);
    // Without room for ports there are none.
    assert_eq!(hash(&plain[..37]), hash(&plain[..34]));
}

#[test]
fn flows_spread() {
    let shares: HashSet<u64> = (0..64)
        .map(|port| (hash(&packet(UDP, (A.0, port), B)) * 8) >> 32)
        .collect();
    assert_eq!(shares.len(), 8);
    let shares: HashSet<u64> = (0..64)
        .map(|host| (hash(&packet6(UDP, ([9, 0, 0, host], 7), B)) * 8) >> 32)
        .collect();
    assert_eq!(shares.len(), 8);
}

#[test]
fn shares_are_below_their_number() {
    for (hash, share) in [
        (0, 0),
        (u32::MAX / 12, 0),
        (u32::MAX / 12 + 1, 1),
        (u32::MAX, 11),
    ] {
        let answer = Kernel::default().run("share", &hash.to_ne_bytes());
        assert_eq!(answer, share);
    }
}

proptest! {
    #[test]
    fn both_directions_have_one(from: End, to: End, proto: u8) {
        for build in [packet, packet6] {
            let (there, back) = (build(proto, from, to), build(proto, to, from));
            prop_assert_eq!(hash(&there), hash(&back));
        }
    }

    #[test]
    fn no_packet_stops_it(packet in proptest::collection::vec(any::<u8>(), 14..100), kind in 0..2_usize) {
        let mut packet = packet;
        packet[12..14].copy_from_slice([[0x08, 0x00], [0x86, 0xdd]][kind].as_slice());
        let hash = hash(&packet);
        prop_assert!(hash == ERROR || hash <= u64::from(u32::MAX));
    }
}
