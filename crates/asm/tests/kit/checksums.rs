//! Checksums against a full computation that knows nothing of the kit.

use crate::kernel::csum_diff;
use crate::programs::case;
use crate::vm::{self, Memory};
use bpfsmith_asm::program::Program;
use proptest::prelude::*;

/// The sum of 16-bit words in network order, folded.
fn sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u64;
    for pair in bytes.chunks(2) {
        sum += u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

/// The packet after the program, and its answer.
fn run(name: &str, packet: &[u8]) -> (Vec<u8>, u64) {
    run_program(&case(name), packet)
}

fn run_program(program: &Program, packet: &[u8]) -> (Vec<u8>, u64) {
    let mut memory = Memory::xdp(packet);
    let answer = vm::run(program, &mut memory, |id, args, memory| {
        assert_eq!(id, 28, "only csum_diff");
        csum_diff(args, memory)
    });
    (memory.packet, answer.unwrap())
}

/// Writes the checksum of all of `bytes` at `at`.
fn seal(bytes: &mut [u8], at: usize) {
    bytes[at..at + 2].fill(0);
    let check = !sum(bytes);
    bytes[at..at + 2].copy_from_slice(&check.to_be_bytes());
}

/// Words that are often at the edges.
fn word() -> impl Strategy<Value = [u8; 4]> {
    let byte = prop_oneof![Just(0_u8), Just(0xff), any::<u8>()];
    prop_oneof![
        any::<[u8; 4]>(),
        proptest::array::uniform4(byte)
    ]
}

/// Runs an update program on a packet of check, new and old value, `rest` being what else the
/// checksum covers; returns the checksums that the program and the full computation give.
fn update(name: &str, old: &[u8], new: &[u8], rest: [u8; 4], udp: bool) -> (u16, u16) {
    let full = |value: &[u8]| {
        let mut covered = [value, &rest].concat();
        // As in every header: something that is not zero.
        covered.extend([0, 17]);
        match !sum(&covered) {
            0 if udp => 0xffff,
            check => check,
        }
    };
    let width = old.len();
    let mut packet = vec![0; 18];
    packet[..2].copy_from_slice(&full(old).to_be_bytes());
    let (first, second) = match width {
        8 => (old, new),
        _ => (new, old),
    };
    let step = if width == 8 { 8 } else { 4 };
    packet[2..2 + width].copy_from_slice(first);
    packet[2 + step..2 + step + width].copy_from_slice(second);
    let (after, _) = run(name, &packet);
    assert_eq!(after[2..], packet[2..]);
    (u16::from_be_bytes([after[0], after[1]]), full(new))
}

proptest! {
    #[test]
    fn updates_are_full_computations(old in word(), new in word(), rest in word()) {
        for (name, udp) in [("update16", false), ("update16_udp", true)] {
            let (updated, full) = update(name, &old[..2], &new[..2], rest, udp);
            prop_assert_eq!(updated, full, "{}", name);
        }
        for (name, udp) in [("update32", false), ("update32_udp", true)] {
            let (updated, full) = update(name, &old, &new, rest, udp);
            prop_assert_eq!(updated, full, "{}", name);
        }
    }

    #[test]
    fn differences_are_full_computations(old in [word(), word()], new in [word(), word()], rest in word()) {
        for (name, udp) in [("update_by_diff", false), ("update_by_diff_udp", true)] {
            let (updated, full) = update(name, &old.concat(), &new.concat(), rest, udp);
            prop_assert_eq!(updated, full, "{}", name);
        }
    }

    #[test]
    fn headers(mut packet in proptest::collection::vec(any::<u8>(), 20..80), words in 5..16_u8) {
        packet[0] = 0x45;
        let mut sealed = packet.clone();
        seal(&mut sealed[..20], 10);
        let (written, _) = run("ipv4_header", &packet);
        prop_assert_eq!(&written, &sealed);
        prop_assert_eq!(run("ipv4_verify", &sealed).1, 0);
        sealed[3] ^= 1;
        prop_assert_eq!(run("ipv4_verify", &sealed).1, u64::MAX);

        packet[0] = 0x40 | words;
        let size = usize::from(words) * 4;
        let (written, answer) = run("ipv4_options", &packet);
        if packet.len() < size {
            prop_assert_eq!(answer, u64::MAX);
        } else {
            seal(&mut packet[..size], 10);
            prop_assert_eq!(&written, &packet);
        }
    }

    #[test]
    fn rewrites(ip in proptest::array::uniform20(any::<u8>()), l4 in proptest::array::uniform20(any::<u8>()), new in word()) {
        for (name, at, l4_check) in [
            ("set_saddr", 12, None),
            ("set_daddr_tcp", 16, Some(16)),
            ("set_saddr_udp", 12, Some(6)),
        ] {
            let mut packet = [&ip[..], &l4, &new].concat();
            packet[0] = 0x45;
            seal_v4(&mut packet, l4_check);
            let (written, _) = run(name, &packet);
            packet[at..at + 4].copy_from_slice(&new);
            seal_v4(&mut packet, l4_check);
            prop_assert_eq!(&written, &packet, "{}", name);
        }
        let mut packet = [&ip[..], &l4, &new].concat();
        seal_v4(&mut packet, Some(16));
        let (written, _) = run("set_port", &packet);
        packet[22..24].copy_from_slice(&new[..2]);
        seal_v4(&mut packet, Some(16));
        prop_assert_eq!(&written, &packet, "set_port");
    }

    #[test]
    fn time_to_live(mut packet in proptest::array::uniform20(any::<u8>())) {
        packet[0] = 0x45;
        seal(&mut packet, 10);
        let (written, answer) = run("decrement_ttl", &packet);
        if packet[8] <= 1 {
            prop_assert_eq!(answer, u64::MAX);
        } else {
            packet[8] -= 1;
            seal(&mut packet, 10);
        }
        prop_assert_eq!(&written[..], &packet[..]);
    }

    #[test]
    fn ipv6_addresses(mut packet in proptest::collection::vec(any::<u8>(), 64)) {
        seal_v6(&mut packet);
        let (written, _) = run("set_daddr6", &packet);
        packet.copy_within(48..64, 24);
        seal_v6(&mut packet);
        prop_assert_eq!(written, packet);
    }
}

/// Writes the checksums of an IPv4 header of 20 bytes and of the 20 bytes behind it. UDP has its
/// checksum at 6, and no 0.
fn seal_v4(packet: &mut [u8], l4: Option<usize>) {
    seal(&mut packet[..20], 10);
    let Some(at) = l4 else { return };
    packet[20 + at..22 + at].fill(0);
    let mut pseudo = packet[12..20].to_vec();
    pseudo.extend([0, if at == 6 { 17 } else { 6 }, 0, 20]);
    pseudo.extend(&packet[20..40]);
    let check = match !sum(&pseudo) {
        0 if at == 6 => 0xffff,
        check => check,
    };
    packet[20 + at..22 + at].copy_from_slice(&check.to_be_bytes());
}

/// The UDP checksum of 8 bytes behind an IPv6 header.
fn seal_v6(packet: &mut [u8]) {
    packet[46..48].fill(0);
    let mut pseudo = packet[8..40].to_vec();
    pseudo.extend([0, 0, 0, 8, 0, 0, 0, 17]);
    pseudo.extend(&packet[40..48]);
    let check = match !sum(&pseudo) {
        0 => 0xffff,
        check => check,
    };
    packet[46..48].copy_from_slice(&check.to_be_bytes());
}

/// No UDP checksum stays none.
#[test]
fn udp_without_a_checksum() {
    for name in [
        "update16_udp",
        "update32_udp",
        "update_by_diff_udp",
    ] {
        let mut packet = [0x5a; 18];
        packet[..2].fill(0);
        assert_eq!(run(name, &packet).0, packet, "{name}");
    }
}

/// A sum that comes out as 0 is written as 0xffff for UDP, and as 0 for the others; both lead back.
#[test]
fn sums_of_zero() {
    // 0x1234 + 0xedba + 17 is 0xffff.
    let (zero, rest) = ([0x12, 0x34], [0xed, 0xba, 0, 0]);
    for other in 0..=0xff {
        let other = [other; 2];
        for (name, udp, check) in [
            ("update16_udp", true, 0xffff),
            ("update16", false, 0),
        ] {
            assert_eq!(update(name, &other, &zero, rest, udp), (check, check));
            let (updated, full) = update(name, &zero, &other, rest, udp);
            assert_eq!(updated, full, "{name} {other:?}");
        }
    }
}

/// Carries that only a few of 65536 values make: all of them, where the sums are large.
#[test]
fn carries() {
    let programs = [
        "update16",
        "update32",
        "ipv4_header",
        "decrement_ttl",
    ]
    .map(case);
    let [narrow, wide, header, ttl] = &programs;
    // The checksum before covers an old value of zero and 0x8000, so that sums pass 0x1ffff.
    let check = |new: u32| {
        let mut sum = 0x8000 + (new >> 16) + (new & 0xffff);
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !u16::try_from(sum).unwrap()
    };
    for low in 0..=u16::MAX {
        let mut packet = [0; 10];
        packet[..2].copy_from_slice(&check(0).to_ne_bytes());
        packet[2..4].copy_from_slice(&low.to_ne_bytes());
        let (after, _) = run_program(narrow, &packet);
        assert_eq!(after[..2], check(low.into()).to_ne_bytes(), "{low:#x}");

        let new = 0x8000_0000 | u32::from(low);
        packet[2..6].copy_from_slice(&new.to_ne_bytes());
        let (after, _) = run_program(wide, &packet);
        assert_eq!(after[..2], check(new).to_ne_bytes(), "{new:#x}");

        let mut packet = [0xff; 20];
        packet[..2].copy_from_slice(&low.to_ne_bytes());
        let mut sealed = packet;
        seal(&mut sealed, 10);
        assert_eq!(run_program(header, &packet).0, sealed, "{low:#x}");

        let (after, _) = run_program(ttl, &sealed);
        sealed[8] -= 1;
        seal(&mut sealed, 10);
        assert_eq!(after, sealed, "{low:#x}");
    }
}

#[test]
fn hop_limits() {
    for (before, after, answer) in [
        (64, 63, 0),
        (2, 1, 0),
        (1, 1, u64::MAX),
        (0, 0, u64::MAX),
    ] {
        let mut packet = [0; 40];
        packet[7] = before;
        let (written, returned) = run("hop_limit", &packet);
        assert_eq!((written[7], returned), (after, answer));
    }
}

#[test]
fn macs() {
    let packet: Vec<u8> = (1..=20).collect();
    assert_eq!(
        run("swap_macs", &packet).0,
        [
            7, 8, 9, 10, 11, 12, 1, 2, 3, 4, 5, 6, 13, 14, 15, 16, 17, 18, 19, 20
        ]
    );
    assert_eq!(
        run("set_mac", &packet[..14]).0,
        [
            2, 0, 0, 0, 0, 1, 0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 13, 14
        ]
    );
    assert_eq!(
        run("copy_mac", &packet).0,
        [
            7, 8, 9, 10, 11, 12, 15, 16, 17, 18, 19, 20, 13, 14, 15, 16, 17, 18, 19, 20
        ]
    );
}
