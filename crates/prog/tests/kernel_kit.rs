//! The kit on the running kernel: every fragment loads, once and again in one program, and does to
//! packets and maps what the interpreter of the assembler's tests does.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

#[allow(dead_code, reason = "the assembler's tests use all of it")]
#[path = "../../asm/tests/support/kernel.rs"]
mod kernel;
#[path = "../../asm/tests/kit/programs.rs"]
mod programs;
#[path = "../../asm/tests/support/vm.rs"]
mod vm;

use bpfsmith_asm::dsl::*;
use bpfsmith_asm::kit::rate::{self, Bucket, Clock, Rate};
use bpfsmith_gate::{deadline, needs};
use bpfsmith_maps::{Handle, RingBuf};
use bpfsmith_net::{IfIndex, Neighbour, Pair};
use bpfsmith_prog::{Load, Maps, Prog};
use kernel::Kernel;
use programs::CASES;
use std::time::Duration;
use vm::HEAP;

const TIMES: [usize; 3] = [1, 2, 3];

/// What the kernel's clock, routes, maps of CPUs and types decide: they have tests of their own.
const OF_THE_WORLD: [&str; 6] = [
    "token_bucket",
    "bucket_coarse",
    "fib_",
    "redirect_",
    "tcp_",
    "cubic_",
];

fn is_of_the_world(name: &str) -> bool {
    OF_THE_WORLD.iter().any(|start| name.starts_with(start))
}

fn load(program: &Program, maps: &Maps) -> Prog {
    let load = Load::new(program).maps(maps).load();
    load.unwrap_or_else(|error| panic!("{error:#}"))
}

/// Numbers that look random and are the same in each run.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap()
    }

    fn byte(&mut self) -> u8 {
        [0, 0xff, 0x45, 1]
            .get(self.next() % 12)
            .copied()
            .unwrap_or(self.next().to_le_bytes()[0])
    }
}

fn ipv4_packet(proto: u8, options: u8, rest: usize) -> Vec<u8> {
    let mut out = vec![
        0x45 + options,
        0,
        0,
        60,
        0,
        1,
        0x40,
        0,
        64,
        proto,
        0x12,
        0x34,
    ];
    out.extend([10, 0, 0, 1, 10, 0, 0, 2]);
    out.resize(20 + usize::from(options) * 4, 1);
    // A TCP header of 6 words reads so; so does a UDP header.
    out.extend([
        0x1f, 0x90, 0, 80, 0, 24, 0x55, 0xaa, 0, 0, 0, 9, 0x60, 0x18,
    ]);
    out.resize(out.len() + rest, 7);
    out
}

fn ipv6_packet(extensions: &[(u8, u8)], last: u8, rest: usize) -> Vec<u8> {
    let mut kinds: Vec<u8> = extensions.iter().map(|extension| extension.0).collect();
    kinds.push(last);
    let mut out = vec![0x60, 0, 0, 0, 0, 60, kinds[0], 64];
    out.resize(40, 0xfd);
    for (&(kind, words), next) in extensions.iter().zip(&kinds[1..]) {
        let start = out.len();
        out.extend([*next, words, 0, 1]);
        let words = if kind == 44 { 0 } else { usize::from(words) };
        out.resize(start + 8 + words * 8, 0);
    }
    out.resize(out.len() + rest, 0x80);
    out
}

fn frame(ether_type: &[u8], packet: &[u8]) -> Vec<u8> {
    [&[0x11; 12][..], ether_type, packet].concat()
}

/// Frames, and bare headers, which the fragments that rewrite take; each also cut and changed.
fn packets() -> Vec<Vec<u8>> {
    let mut all = vec![
        frame(&[0x08, 0x00], &ipv4_packet(6, 0, 20)),
        frame(&[0x08, 0x00], &ipv4_packet(17, 3, 4)),
        frame(&[0x08, 0x00], &ipv4_packet(1, 10, 0)),
        frame(&[0x81, 0, 0x20, 0x64, 0x08, 0x00], &ipv4_packet(6, 0, 20)),
        frame(
            &[
                0x88, 0xa8, 0, 1, 0x81, 0, 0, 2, 0x86, 0xdd,
            ],
            &ipv6_packet(&[], 17, 9),
        ),
        frame(&[0x86, 0xdd], &ipv6_packet(&[], 6, 40)),
        frame(&[0x86, 0xdd], &ipv6_packet(&[(0, 1), (60, 0)], 17, 20)),
        frame(
            &[0x86, 0xdd],
            &ipv6_packet(&[(43, 2), (44, 9), (60, 0)], 58, 20),
        ),
        frame(
            &[0x86, 0xdd],
            &ipv6_packet(&[(44, 0), (0, 0), (60, 1), (43, 0)], 6, 60),
        ),
        ipv4_packet(6, 0, 40),
        ipv4_packet(17, 0, 40),
        ipv4_packet(17, 10, 60),
        ipv6_packet(&[], 17, 60),
        vec![0; 60],
        vec![0xff; 60],
    ];
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for length in [14, 18, 20, 40, 64, 90] {
        all.push((0..length).map(|_| dice.byte()).collect());
    }
    for index in 0..all.len() {
        let cut = 14 + dice.next() % (all[index].len() - 13);
        let shorter = all[index][..cut.min(all[index].len())].to_vec();
        all.push(shorter);
        for _ in 0..2 {
            let mut changed = all[index].clone();
            let at = dice.next() % changed.len();
            changed[at] = dice.byte();
            all.push(changed);
        }
    }
    all
}

/// A value that the kernel holds; of a map with one for each CPU, their sum.
fn value(map: &Handle, key: &[u8]) -> Option<Vec<u8>> {
    let facts = map.facts();
    let kind = facts.kind;
    let mut all = vec![0; facts.stride];
    map.raw().lookup(key, &mut all, 0).ok()?;
    if !matches!(kind, MapType::PERCPU_ARRAY | MapType::PERCPU_HASH) {
        return Some(all[..facts.value as usize].to_vec());
    }
    let counts = all
        .chunks(8)
        .map(|bytes| u64::from_ne_bytes(bytes.try_into().unwrap()));
    Some(counts.sum::<u64>().to_ne_bytes().to_vec())
}

/// Compares all maps and rings with those of the interpreter.
fn compare_maps(program: &Program, maps: &Maps, model: &mut Kernel, what: &str) {
    for (index, shape) in program.maps().iter().enumerate() {
        let map = maps.handle(shape.name).unwrap();
        if shape.kind == MapType::RINGBUF {
            let mut ring = RingBuf::new(map).unwrap();
            let mut records = Vec::new();
            ring.consume(|bytes: &[u8]| records.push(bytes.to_vec()))
                .unwrap();
            let expected: Vec<_> = model.submitted.drain(..).collect();
            assert_eq!(records.len(), expected.len(), "{what}");
            for (record, at) in records.iter().zip(expected) {
                let at = usize::try_from(at - HEAP).unwrap();
                assert_eq!(record[..], model.heap[at..at + record.len()], "{what}");
            }
            continue;
        }
        for (_, key, at) in model.entries.iter().filter(|entry| entry.0 == index) {
            let at = usize::try_from(at - HEAP).unwrap();
            let expected = &model.heap[at..at + shape.value as usize];
            assert_eq!(
                value(&map, key).as_deref(),
                Some(expected),
                "{what}, key {key:?}"
            );
        }
    }
}

#[test]
fn every_fragment_does_what_the_interpreter_does() {
    needs!(Root, Bpf, RingBuf);
    let packets = packets();
    let mut runs = 0;
    for case in CASES.into_iter().flatten() {
        for times in TIMES {
            let program = case.program(times);
            if program.kind() != ProgType::XDP || is_of_the_world(case.name) {
                continue;
            }
            // The smallest map has 16 entries; each of 8 packets has one key.
            for packets in packets.chunks(8) {
                let maps = Maps::of(&program).unwrap();
                let prog = load(&program, &maps);
                let mut model = Kernel::default();
                for packet in packets {
                    let what = format!("{} {times} times on {packet:02x?}", case.name);
                    let expected = model.run_program(&program, packet);
                    let (answer, after) = expected.unwrap_or_else(|why| panic!("{what}: {why}"));
                    let ran = prog.run().data(packet).go().unwrap();
                    assert_eq!(u64::from(ran.retval), answer & 0xffff_ffff, "{what}");
                    assert_eq!(ran.data, after, "{what}");
                    compare_maps(&program, &maps, &mut model, &what);
                    runs += 1;
                }
            }
        }
    }
    assert!(runs > 8000, "{runs}");
}

/// Those that the interpreter cannot run, because sockets' buffers, clocks and routes are not in it.
#[test]
fn every_fragment_loads() {
    needs!(Root, Bpf, Btf, RingBuf);
    let mut loaded = 0;
    for case in CASES.into_iter().flatten() {
        for times in TIMES {
            let program = case.program(times);
            load(&program, &Maps::of(&program).unwrap());
            loaded += 1;
        }
    }
    assert!(loaded >= 3 * 45, "{loaded}");
}

/// The checksum after a change, computed anew from its definition (RFC 1624).
fn updated(check: u16, old: &[u8], new: &[u8]) -> u16 {
    let words = |bytes: &[u8]| -> Vec<u16> {
        let pairs = bytes.chunks_exact(2);
        pairs
            .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
            .collect()
    };
    let mut sum = u64::from(!check);
    sum += words(old)
        .into_iter()
        .map(|word| u64::from(!word))
        .sum::<u64>();
    sum += words(new).into_iter().map(u64::from).sum::<u64>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

fn check_at(packet: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([packet[at], packet[at + 1]])
}

#[test]
fn helpers_replace_checksums_as_the_definition_says() {
    needs!(Root, Bpf);
    let (old, new) = (1_u32.to_ne_bytes(), 2_u32.to_ne_bytes());
    for times in TIMES {
        for (name, at, changes) in [
            ("l3_replace", 14 + 10, &[4][..]),
            // An address and a port.
            ("l4_replace", 14 + 20 + 6, &[4, 2]),
        ] {
            let case = CASES
                .into_iter()
                .flatten()
                .find(|case| case.name == name)
                .unwrap();
            let program = case.program(times);
            let prog = load(&program, &Maps::new());
            for check in [0x55aa_u16, 1, 0xfffe, 0xffff, 0] {
                let mut packet = frame(&[0x08, 0x00], &ipv4_packet(17, 0, 20));
                packet[at..at + 2].copy_from_slice(&check.to_be_bytes());
                let mut expected = check;
                for _ in 0..times {
                    for (index, &bytes) in changes.iter().enumerate() {
                        // The first change of a UDP checksum: none stays none, and zero is no sum.
                        let is_udp = name == "l4_replace" && index == 0;
                        if is_udp && expected == 0 {
                            continue;
                        }
                        expected = updated(expected, &old[..bytes], &new[..bytes]);
                        if is_udp && expected == 0 {
                            expected = 0xffff;
                        }
                    }
                }
                let ran = prog.run().data(&packet).go().unwrap();
                assert_eq!(ran.tc(), TcAction(TC_ACT_OK), "{name}");
                let found = check_at(&ran.data, at);
                assert_eq!(found, expected, "{name} {times} times from {check:#06x}");
            }
        }
    }
}

static BUCKETS: MapDef<u32, Bucket> = MapDef::array("bs_buckets", 1);

/// How many of six packets that come at once are let through.
fn six(rate: Rate, clock: Clock) -> Code {
    let key = slot::<u32>("key");
    let one = |_| {
        let over = label("over");
        code![
            rate::token_bucket(R8, rate, clock, over),
            add(R7, 1),
            bind(over)
        ]
    };
    code![
        store(key.u32(0), 0),
        map_lookup_elem(&BUCKETS, key),
        R0.eq(0).then(ret(-1)),
        mov(R8, R0),
        mov(R7, 0),
        (0..6).map(one),
        mov(R0, R7),
        exit(),
    ]
}

#[test]
fn a_bucket_empties_and_fills_by_the_kernels_clock() {
    needs!(Root, Bpf);
    for clock in [Clock::Exact, Clock::Coarse] {
        let started = |per_second| {
            let rate = Rate {
                per_second,
                burst: 4,
            };
            let program = Program::new(ProgType::XDP, "six", six(rate, clock)).unwrap();
            let maps = Maps::of(&program).unwrap();
            load(&program, &maps)
        };
        let passed = |prog: &Prog| prog.run().data(&[0; 64]).go().unwrap().retval;
        let slow = started(1);
        assert_eq!(passed(&slow), 4, "{clock:?}");
        let quick = started(100);
        // A token comes back in 10 ms, for which a busy machine may stop the program.
        assert!(passed(&quick) >= 4, "{clock:?}");
        let limit = Duration::from_secs(20);
        deadline(limit, || (passed(&quick) > 0).then_some(()));
    }
}

/// An XDP context that says the packet came from that device.
fn came_from(index: IfIndex, length: usize) -> Vec<u8> {
    let mut ctx = vec![0; usize::try_from(xdp_md::SIZE).unwrap()];
    let mut put = |field: Field, value: u32| {
        let at = usize::from(field.offset);
        ctx[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    };
    put(xdp_md::data_end, u32::try_from(length).unwrap());
    put(xdp_md::ingress_ifindex, index.0);
    ctx
}

#[test]
fn routes_are_those_of_the_namespace() {
    needs!(Root, Bpf, NetNs, Veth);
    let net = Pair::new().unwrap();
    let (server, client) = (&net.server, &net.client);
    let ns = &server.node.ns;
    ns.set_sysctl("ipv4/ip_forward", "1").unwrap();
    ns.set_sysctl("ipv6/conf/all/forwarding", "1").unwrap();
    let index = server.port.index;
    let ask = |name: &str, packet: &[u8]| {
        let program = programs::case(name);
        let prog = load(&program, &Maps::new());
        let ctx = came_from(index, packet.len());
        let ran = server.run(|| prog.run().data(packet).ctx(ctx).go());
        ran.unwrap().unwrap().retval
    };
    let v4 = |to: [u8; 4]| {
        let mut packet = ipv4_packet(17, 0, 40);
        packet[12..16].copy_from_slice(&client.v4().octets());
        packet[16..20].copy_from_slice(&to);
        packet
    };
    let v6 = |to: [u8; 16]| {
        let mut packet = ipv6_packet(&[], 17, 40);
        packet[8..24].copy_from_slice(&client.v6().octets());
        packet[24..40].copy_from_slice(&to);
        packet
    };
    for addr in [client.v4().into(), client.v6().into()] {
        let known = Neighbour::permanent(index, addr, client.port.mac);
        server.node.net.add_neighbour(&known).unwrap();
    }
    // To the client; to the server itself; to nobody.
    assert_eq!(ask("fib_ipv4", &v4(client.v4().octets())), index.0);
    assert_eq!(ask("fib_ipv4", &v4(server.v4().octets())), u32::MAX);
    assert_eq!(ask("fib_ipv4", &v4([192, 0, 2, 1])), u32::MAX);
    assert_eq!(ask("fib_ipv6", &v6(client.v6().octets())), index.0);
    assert_eq!(ask("fib_ipv6", &v6(server.v6().octets())), u32::MAX);
    assert_eq!(ask("fib_ipv6", &v6([0x20; 16])), u32::MAX);
}
