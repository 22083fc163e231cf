//! Walks over real headers.

use crate::programs::case;
use crate::vm::{self, Memory};
use bpfsmith_asm::dsl::*;

const SHORT: u64 = u64::MAX;

/// What a walk program returns for a packet.
#[track_caller]
fn walk(name: &str, packet: &[u8]) -> u64 {
    let mut memory = Memory::xdp(packet);
    vm::run(&case(name), &mut memory, |_, _, _| 0).unwrap()
}

/// The answer of a walk that went on to `offset`, where `next` begins.
fn at(offset: usize, next: u32) -> u64 {
    u64::from(next) << 16 | offset as u64
}

/// An ether type as a program loads it.
fn ether_type(n: u16) -> u32 {
    u16::from_ne_bytes(n.to_be_bytes()).into()
}

/// The same, from the tables.
fn known(n: i32) -> u16 {
    n.try_into().unwrap()
}

fn frame(ether_type: u16, rest: &[u8]) -> Vec<u8> {
    let mut out = vec![0x11; 12];
    out.extend(ether_type.to_be_bytes());
    out.extend(rest);
    out
}

/// IPv4 with so many bytes of options.
fn v4(proto: u8, options: usize, rest: &[u8]) -> Vec<u8> {
    let words = u8::try_from(5 + options / 4).unwrap();
    let mut out = vec![
        0x40 | words,
        0,
        0,
        0,
        0,
        0,
        0x40,
        0,
        64,
        proto,
    ];
    out.resize(20 + options, 1);
    out.extend(rest);
    out
}

/// IPv6 with extension headers: kind, and bytes in all.
fn v6(extensions: &[(u8, usize)], last: u8, rest: &[u8]) -> Vec<u8> {
    let mut kinds: Vec<u8> = extensions.iter().map(|&(kind, _)| kind).collect();
    kinds.push(last);
    let mut out = vec![0x60, 0, 0, 0, 0, 0, kinds[0], 64];
    out.resize(40, 0xfd);
    for (&(kind, size), next) in extensions.iter().zip(&kinds[1..]) {
        let start = out.len();
        // The fragment header has no length, but a reserved byte, which may be anything.
        let len = if kind == 44 { 0x77 } else { size / 8 - 1 };
        // Of a routing header, the last byte says how many stations are to come.
        let last = u8::from(kind != 43);
        out.extend([
            *next,
            u8::try_from(len).unwrap(),
            0,
            last,
        ]);
        out.resize(start + size, 0);
    }
    out.extend(rest);
    out
}

#[test]
fn vlan_tags() {
    let ip = known(ETH_P_IP);
    let tag = |next: u16| [[0x20, 0x64], next.to_be_bytes()].concat();
    let none = frame(ip, &[]);
    let one = frame(0x8100, &tag(ip));
    let two = frame(0x88a8, &[tag(0x8100), tag(ip)].concat());
    let three = frame(0x88a8, &[tag(0x8100), tag(0x8100), tag(ip)].concat());
    assert_eq!(walk("ethernet", &none), at(14, ether_type(ip)));
    assert_eq!(walk("ethernet", &none[..13]), SHORT);
    assert_eq!(walk("vlan", &none), at(14, ether_type(ip)));
    assert_eq!(walk("vlan", &one), at(18, ether_type(ip)));
    assert_eq!(walk("vlan", &two), at(22, ether_type(ip)));
    assert_eq!(walk("vlan", &three), at(22, ether_type(0x8100)));
    assert_eq!(walk("vlan", &one[..17]), SHORT);
    assert_eq!(walk("vlan", &two[..21]), SHORT);
}

#[test]
fn ipv4_options() {
    for options in [0, 4, 12, 40] {
        let packet = frame(0x0800, &v4(17, options, &[]));
        assert_eq!(walk("ipv4", &packet), at(34 + options, 17));
        assert_eq!(walk("ipv4", &packet[..packet.len() - 1]), SHORT);
    }
}

#[test]
fn ipv4_headers_that_are_none() {
    for first in [0x44, 0x40, 0x65, 0x05, 0xf5, 0x54] {
        let mut packet = frame(0x0800, &v4(17, 0, &[0; 1000]));
        packet[14] = first;
        assert_eq!(walk("ipv4", &packet), SHORT, "{first:#x}");
    }
    // The first fragment has the header, later ones do not; the DF bit is no offset.
    for (frag_off, answer) in [
        (0x4000_u16, at(34, 17)),
        (0x2000, at(34, 17)),
        (0x2001, SHORT),
        (0x1fff, SHORT),
    ] {
        let mut packet = frame(0x0800, &v4(17, 0, &[]));
        packet[20..22].copy_from_slice(&frag_off.to_be_bytes());
        assert_eq!(walk("ipv4", &packet), answer, "{frag_off:#x}");
    }
}

#[test]
fn ipv6_extensions() {
    let lists: [&[(u8, usize)]; 8] = [
        &[],
        &[(0, 8)],
        &[(43, 24)],
        &[(44, 8)],
        &[(60, 2048)],
        &[
            (0, 16),
            (60, 8),
            (43, 24),
            (44, 8),
            (60, 32),
        ],
        &[(44, 8), (44, 8), (0, 8)],
        &[
            (0, 8),
            (60, 8),
            (43, 8),
            (44, 8),
            (60, 8),
            (60, 8),
        ],
    ];
    for list in lists {
        let packet = frame(0x86dd, &v6(list, 6, &[]));
        let bytes: usize = list.iter().map(|&(_, size)| size).sum();
        assert_eq!(walk("ipv6", &packet), at(54 + bytes, 6), "{list:?}");
        assert_eq!(walk("ipv6", &packet[..packet.len() - 1]), SHORT, "{list:?}");
    }
    let seven = [(60, 8); 7];
    assert_eq!(walk("ipv6", &frame(0x86dd, &v6(&seven, 6, &[]))), SHORT);
    let mut version = frame(0x86dd, &v6(&[], 6, &[]));
    version[14] = 0x45;
    assert_eq!(walk("ipv6", &version), SHORT);
}

#[test]
fn ipv6_routes_that_are_not_at_their_end() {
    let lists: [&[(u8, usize)]; 2] = [&[(43, 24)], &[(60, 8), (43, 24)]];
    for list in lists {
        let mut packet = frame(0x86dd, &v6(list, 6, &[]));
        let route = packet.len() - 24;
        packet[route + 3] = 2;
        assert_eq!(walk("ipv6", &packet), at(route, 43), "{list:?}");
    }
}

#[test]
fn ipv6_fragments() {
    for (frag_off, answer) in [
        (1_u16, at(62, 17)),
        (6, at(62, 17)),
        (8, SHORT),
        (0xfff9, SHORT),
    ] {
        let mut packet = frame(0x86dd, &v6(&[(44, 8)], 17, &[]));
        packet[56..58].copy_from_slice(&frag_off.to_be_bytes());
        assert_eq!(walk("ipv6", &packet), answer, "{frag_off:#x}");
    }
}

#[test]
fn tcp_payloads() {
    // The program moves the cursor behind the TCP header, and wants four bytes of payload.
    for options in [0, 4, 40] {
        let mut tcp = vec![0; 20 + options];
        tcp[12] = u8::try_from((5 + options / 4) << 4).unwrap() | 0xf;
        tcp.extend([1, 2, 3, 4]);
        let packet = frame(0x0800, &v4(6, 8, &tcp));
        assert_eq!(walk("tcp_payload", &packet), at(62 + options, 6));
        assert_eq!(walk("tcp_payload", &packet[..packet.len() - 1]), SHORT);
    }
    let mut tcp = vec![0; 60];
    tcp[12] = 0x40;
    assert_eq!(walk("tcp_payload", &frame(0x0800, &v4(6, 0, &tcp))), SHORT);
}

#[test]
fn transport_headers_are_whole_or_refused() {
    for (name, proto, size) in [("tcp", 6, 20), ("icmp", 1, 8)] {
        let packet = frame(0x0800, &v4(proto, 4, &vec![0; size]));
        assert_eq!(walk(name, &packet), at(38, proto.into()));
        assert_eq!(walk(name, &packet[..packet.len() - 1]), SHORT);
    }
    for (name, proto) in [("udp", 17), ("icmpv6", 58)] {
        let packet = frame(0x86dd, &v6(&[(0, 8), (60, 8)], proto, &[0; 8]));
        assert_eq!(walk(name, &packet), at(70, proto.into()));
        assert_eq!(walk(name, &packet[..packet.len() - 1]), SHORT);
    }
}

#[test]
fn lengths_in_registers() {
    assert_eq!(walk("need_len", &[4, 0, 0, 0]), 0);
    assert_eq!(walk("need_len", &[5, 0, 0, 0]), SHORT);
}
