//! One small program around each fragment of the kit, which uses the fragment any number of times.

use bpfsmith_asm::dsl::*;
use bpfsmith_asm::kit::checksum::{self, Check};
use bpfsmith_asm::kit::packet::{self, Exits, Packet};
use bpfsmith_asm::kit::rate::{Bucket, Clock, Rate};
use bpfsmith_asm::kit::redirect::{self, Ingress, Otherwise};
use bpfsmith_asm::kit::{event, fib, hash, map, rate, rewrite};

#[path = "congestion.rs"]
pub(crate) mod congestion;

pub(crate) const P: Packet = Packet {
    data: R6,
    end: R7,
    cursor: R8,
    scratch: R5,
};
const PROTO: Reg = R4;

/// A value with padding.
#[repr(C)]
pub(crate) struct Seen {
    count: u64,
    port: u16,
}

/// An event without a `u64`.
#[repr(C)]
pub(crate) struct Small {
    address: u32,
    port: u16,
}

static HITS: MapDef<u32, u64> = MapDef::array("hits", 4);
static LOCAL: MapDef<u32, u64> = MapDef::percpu_array("local", 4);
static FLOWS: MapDef<u32, u64> = MapDef::hash("flows", 16);
static SEEN: MapDef<u32, Seen> = MapDef::lru_hash("seen", 16);
static FLOWS_LOCAL: MapDef<u32, u64> = MapDef::percpu_hash("flows_local", 16);
static BUCKETS: MapDef<u32, Bucket> = MapDef::hash("buckets", 16);
static SHARES: MapDef<u32, u32> = MapDef::array("shares", 8);
static CPUS: MapDef<u32, [u32; 2]> = MapDef::new(MapType::CPUMAP, "cpus", 2);
static DEVICES: MapDef<u32, u32> = MapDef::new(MapType::DEVMAP, "devices", 2);
static EVENTS: MapDef<(), ()> = MapDef::ringbuf("events", 4096);

/// A program around a fragment.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    kind: ProgType,
    code: fn(usize) -> Code,
}

impl Case {
    /// The program with the fragment so many times.
    pub(crate) fn program(&self, times: usize) -> Program {
        Program::new(self.kind, self.name, (self.code)(times))
            .unwrap_or_else(|report| panic!("{report}"))
    }
}

const fn xdp(name: &'static str, code: fn(usize) -> Code) -> Case {
    Case {
        name,
        kind: ProgType::XDP,
        code,
    }
}

const fn tc(name: &'static str, code: fn(usize) -> Code) -> Case {
    Case {
        name,
        kind: ProgType::SCHED_CLS,
        code,
    }
}

/// All of them.
pub(crate) const CASES: [&[Case]; 6] = [
    PACKETS,
    CHECKSUMS,
    REWRITES,
    REST,
    REDIRECTS,
    congestion::TCP,
];

/// The program of that name.
pub(crate) fn case(name: &str) -> Program {
    let found = CASES.into_iter().flatten().find(|case| case.name == name);
    found.unwrap().program(1)
}

/// A walk: returns the cursor's distance from the frame, and `PROTO` above 16 bits; or -1.
fn walk(times: usize, fragment: impl Fn(Label) -> Code) -> Code {
    let out = label("out");
    code![
        packet::xdp(P, R1),
        packet::ethernet(P, PROTO, out),
        (0..times).map(|_| fragment(out)),
        mov(R0, P.cursor),
        sub(R0, P.data),
        lsh(PROTO, 16),
        or(R0, PROTO),
        exit(),
        bind(out),
        ret(-1),
    ]
}

/// A fragment that works on `bytes` bytes of the packet from `P.data`, and returns R0.
fn on_bytes(bytes: i32, times: usize, fragment: impl Fn(Label) -> Code) -> Code {
    let out = label("out");
    code![
        mov(R9, R1),
        packet::xdp(P, R1),
        packet::need(P.data, P.end, bytes, P.scratch, out),
        mov(R0, 0),
        (0..times).map(|_| fragment(out)),
        exit(),
        bind(out),
        ret(-1),
    ]
}

const PACKETS: &[Case] = &[
    xdp("need", |n| {
        let out = label("out");
        code![
            packet::xdp(P, R1),
            (0..n).map(|_| packet::need(P.data, P.end, eth::SIZE, P.scratch, out)),
            load(R0, P.data.get(eth::proto)),
            exit(),
            bind(out),
            ret(-1),
        ]
    }),
    xdp("need_len", |n| {
        on_bytes(1, n, |out| {
            code![
                load(R3, P.data.u8(0)),
                packet::need_len(P.data, P.end, R3, P.scratch, out),
            ]
        })
    }),
    tc("skb", |n| {
        let out = label("out");
        code![
            (0..n).map(|_| packet::skb(P, R1)),
            packet::ethernet(P, PROTO, out),
            bind(out),
            ret(TC_ACT_OK),
        ]
    }),
    xdp("ethernet", |n| {
        walk(n - 1, |out| packet::ethernet(P, PROTO, out))
    }),
    xdp("vlan", |n| walk(n, |out| packet::vlan(P, PROTO, out))),
    xdp("ipv4", |n| {
        walk(n, |out| packet::ipv4(P, PROTO, Exits::both(out)))
    }),
    xdp("ipv6", |n| {
        walk(n, |out| packet::ipv6(P, PROTO, 6, Exits::both(out)))
    }),
    xdp("tcp", |n| {
        walk(n, |out| {
            code![
                packet::ipv4(P, PROTO, Exits::both(out)),
                packet::tcp(P, out),
                load(R2, P.cursor.get(tcp::dport)),
            ]
        })
    }),
    xdp("tcp_payload", |n| {
        walk(n, |out| {
            code![
                packet::ipv4(P, PROTO, Exits::both(out)),
                packet::tcp_payload(P, R9, out),
                packet::tcp_payload(P, P.cursor, out),
                packet::need(R9, P.end, 4, P.scratch, out),
                load(R2, R9.u32(0)),
            ]
        })
    }),
    xdp("udp", |n| {
        walk(n, |out| {
            code![
                packet::ipv6(P, PROTO, 4, Exits::both(out)),
                packet::udp(P, out),
                load(R2, P.cursor.get(udp::dport)),
            ]
        })
    }),
    xdp("icmp", |n| {
        walk(n, |out| {
            code![
                packet::ipv4(P, PROTO, Exits::both(out)),
                packet::icmp(P, out),
                load(R2, P.cursor.get(icmp::kind)),
            ]
        })
    }),
    xdp("icmpv6", |n| {
        walk(n, |out| {
            code![
                packet::ipv6(P, PROTO, 2, Exits::both(out)),
                packet::icmpv6(P, out),
                load(R2, P.cursor.get(icmpv6::kind)),
            ]
        })
    }),
];

const CHECKSUMS: &[Case] = &[
    // The packet: the checksum, the new value, the old value.
    xdp("update16", |n| {
        on_bytes(10, n, |_| {
            code![
                load(R2, P.data.u16(6)),
                load(R3, P.data.u16(2)),
                checksum::update16(P.data.u16(0), R2, R3, R4),
            ]
        })
    }),
    xdp("update32", |n| {
        on_bytes(10, n, |_| {
            code![
                load(R2, P.data.u32(6)),
                load(R3, P.data.u32(2)),
                checksum::update32(P.data.u16(0), R2, R3, R4),
            ]
        })
    }),
    xdp("update16_udp", |n| {
        on_bytes(10, n, |_| {
            code![
                load(R2, P.data.u16(6)),
                load(R3, P.data.u16(2)),
                checksum::update16(Check::udp(P.data.u16(0)), R2, R3, R4),
            ]
        })
    }),
    xdp("update32_udp", |n| {
        on_bytes(10, n, |_| {
            code![
                load(R2, P.data.u32(6)),
                load(R3, P.data.u32(2)),
                checksum::update32(Check::udp(P.data.u16(0)), R2, R3, R4),
            ]
        })
    }),
    xdp("ipv4_header", |n| {
        on_bytes(20, n, |_| checksum::ipv4_header(P.data, R2, R3))
    }),
    xdp("ipv4_verify", |n| {
        on_bytes(20, n, |out| checksum::ipv4_verify(P.data, R2, R3, out))
    }),
    xdp("ipv4_options", |n| {
        on_bytes(1, n, |out| {
            checksum::ipv4_header_with_options([P.data, P.end], [R2, R3, R4], out)
        })
    }),
    xdp("update_by_diff", |n| {
        on_bytes(18, n, |_| {
            let from = slot::<[u32; 2]>("from");
            code![
                (0..2).map(|i| [
                    load(R2, P.data.u32(2 + i * 4)),
                    store(from.u32(i * 4), R2)
                ]),
                checksum::update_by_diff(P.data.u16(0), from, P.data.at(10), 2),
                mov(R0, 0),
            ]
        })
    }),
    xdp("update_by_diff_udp", |n| {
        on_bytes(18, n, |_| {
            let check = Check::udp(P.data.u16(0));
            code![
                checksum::update_by_diff(check, P.data.at(2), P.data.at(10), 2),
                mov(R0, 0),
            ]
        })
    }),
    tc("l3_replace", |n| {
        let out = label("out");
        let check = eth::SIZE + i32::from(ipv4::check.offset);
        code![
            mov(R6, R1),
            (0..n).map(|_| [mov(R7, 1), mov(R8, 2)]),
            (0..n).map(|_| checksum::l3_replace(R6, check, [R7, R8], Size::W, out)),
            bind(out),
            ret(TC_ACT_OK),
        ]
    }),
    tc("l4_replace", |n| {
        let out = label("out");
        let check = eth::SIZE + ipv4::SIZE + i32::from(udp::check.offset);
        let flags = [
            checksum::ADDRESS | checksum::UDP,
            checksum::PORT,
        ];
        code![
            mov(R6, R1),
            mov(R7, 1),
            mov(R8, 2),
            (0..n).map(|_| {
                code![flags.map(|flags| checksum::l4_replace(R6, check, [R7, R8], flags, out))]
            }),
            bind(out),
            ret(TC_ACT_OK),
        ]
    }),
];

/// The IPv4 or IPv6 header at the start of the packet, and the TCP or UDP header behind it.
const L4: Place = P.data.at(ipv4::SIZE);
const L4_6: Place = P.data.at(ipv6::SIZE);

/// Rewrites get their new bytes behind the headers.
const NEW: i32 = ipv4::SIZE + tcp::SIZE;
const NEW_6: i32 = ipv6::SIZE + udp::SIZE;

fn set_address(field: Field, l4: Option<Check>) -> Code {
    code![
        load(R2, P.data.u32(NEW)),
        rewrite::set_ipv4_address(P.data, field, R2, l4, [R3, R4]),
    ]
}

const REWRITES: &[Case] = &[
    xdp("set_saddr", |n| {
        on_bytes(NEW + 4, n, |_| set_address(ipv4::saddr, None))
    }),
    xdp("set_daddr_tcp", |n| {
        let check = L4.get(tcp::check).into();
        on_bytes(NEW + 4, n, |_| set_address(ipv4::daddr, Some(check)))
    }),
    xdp("set_saddr_udp", |n| {
        let check = Check::udp(L4.get(udp::check));
        on_bytes(NEW + 4, n, |_| set_address(ipv4::saddr, Some(check)))
    }),
    xdp("set_daddr6", |n| {
        on_bytes(NEW_6 + 16, n, |_| {
            let check = Some(Check::udp(L4_6.get(udp::check)));
            let from = P.data.at(NEW_6);
            rewrite::set_ipv6_address(P.data, ipv6::daddr, from, check, [R2, R3, R4])
        })
    }),
    xdp("set_port", |n| {
        on_bytes(NEW + 4, n, |_| {
            let check = L4.get(tcp::check);
            code![
                load(R2, P.data.u16(NEW)),
                rewrite::set_port(L4.get(tcp::dport), R2, check, [R3, R4]),
            ]
        })
    }),
    xdp("decrement_ttl", |n| {
        on_bytes(20, n, |out| rewrite::decrement_ttl(P.data, R2, out))
    }),
    xdp("hop_limit", |n| {
        on_bytes(40, n, |out| rewrite::decrement_hop_limit(P.data, R2, out))
    }),
    xdp("swap_macs", |n| {
        on_bytes(14, n, |_| rewrite::swap_macs(P.data, [R2, R3]))
    }),
    xdp("set_mac", |n| {
        on_bytes(14, n, |_| {
            code![
                rewrite::set_mac(P.data, eth::dst, [2, 0, 0, 0, 0, 1]),
                rewrite::set_mac(P.data, eth::src, [0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54]),
            ]
        })
    }),
    xdp("copy_mac", |n| {
        on_bytes(20, n, |_| {
            code![
                rewrite::copy_mac(P.data, eth::dst, P.data.get(eth::src), R2),
                rewrite::copy_mac(P.data, eth::src, P.data.at(14), R2),
            ]
        })
    }),
];

/// A key from the packet's first bytes.
fn key() -> (Slot, [Insn; 2]) {
    let key = slot::<u32>("key");
    let fill = [
        load(R2, P.data.u32(0)),
        store(key.u32(0), R2),
    ];
    (key, fill)
}

fn fill_seen(record: Reg) -> Code {
    code![
        store(record.u64(0), 1),
        store(record.u16(8), 2)
    ]
}

fn event_cases(n: usize, dropped: fn() -> Option<Code>) -> Code {
    on_bytes(1, n, |_| {
        code![
            event::event::<Seen>(&EVENTS, R8, fill_seen(R8), dropped()),
            mov(R0, 0),
        ]
    })
}

fn bucket(n: usize, clock: Clock) -> Code {
    let rate = Rate {
        per_second: 3_000_000_000,
        burst: 4,
    };
    on_bytes(4, n, |out| {
        let (key, fill) = key();
        code![
            fill,
            map::lookup_or_zero(&BUCKETS, key, out),
            mov(R8, R0),
            rate::token_bucket(R8, rate, clock, out),
            mov(R0, 1),
        ]
    })
}

const REST: &[Case] = &[
    xdp("lookup_or_init", |n| {
        on_bytes(4, n, |out| {
            let ((key, fill), initial) = (key(), slot::<u64>("seven"));
            code![
                fill,
                store(initial.u64(0), 7),
                map::lookup_or_init(&FLOWS, key, initial, out),
                load(R0, R0.u64(0)),
            ]
        })
    }),
    xdp("lookup_or_zero", |n| {
        on_bytes(4, n, |out| {
            let (key, fill) = key();
            code![
                fill,
                map::lookup_or_zero(&SEEN, key, out),
                load(R0, R0.u64(0)),
            ]
        })
    }),
    xdp("count", |n| {
        on_bytes(4, n, |_| {
            let (key, fill) = key();
            code![
                fill,
                map::count(&FLOWS, key, 3),
                mov(R0, 0)
            ]
        })
    }),
    xdp("count_at", |n| {
        on_bytes(1, n, |_| {
            code![
                mov(R8, P.end),
                sub(R8, P.data),
                map::count_at(&HITS, 2, R8),
                mov(R0, 0),
            ]
        })
    }),
    xdp("count_percpu", |n| {
        on_bytes(4, n, |_| {
            let (key, fill) = key();
            code![
                fill,
                map::count_percpu(&FLOWS_LOCAL, key, 3),
                mov(R0, 0)
            ]
        })
    }),
    xdp("count_percpu_at", |n| {
        on_bytes(1, n, |_| {
            code![
                map::count_percpu_at(&LOCAL, 1, 1),
                mov(R0, 0)
            ]
        })
    }),
    xdp("event", |n| event_cases(n, || None)),
    xdp("event_or_count", |n| {
        event_cases(n, || Some(map::count_percpu_at(&LOCAL, 3, 1)))
    }),
    xdp("zero", |n| {
        on_bytes(1, n, |_| {
            let (seen, small) = (slot::<Seen>("seen"), slot::<Small>("small"));
            code![
                event::zero::<Small>(small),
                event::zero::<Seen>(seen),
                load(R0, seen.u64(8)),
                load(R2, small.u32(4)),
                or(R0, R2),
            ]
        })
    }),
    xdp("token_bucket", |n| bucket(n, Clock::Exact)),
    xdp("bucket_coarse", |n| bucket(n, Clock::Coarse)),
    xdp("jhash", |n| {
        on_bytes(12, n, |_| {
            code![
                load(R2, P.data.u32(0)),
                load(R3, P.data.u32(4)),
                load(R0, P.data.u32(8)),
                hash::jhash_3words([R2, R3, R0], 0x1234_5678, R4),
            ]
        })
    }),
    xdp("fnv1a", |n| {
        on_bytes(6, n, |_| hash::fnv1a(R0, P.data, 6, [R2, R3]))
    }),
    xdp("fnv1a_32", |n| {
        on_bytes(6, n, |_| hash::fnv1a_32(R0, P.data, 6, R2))
    }),
    xdp("fib_ipv4", |n| {
        on_bytes(20, n, |out| {
            let (params, from) = (fib::params(), R9.get(xdp_md::ingress_ifindex));
            code![
                fib::ipv4(R9, from, P.data, params, 0, out),
                load(R0, params.get(bpf_fib_lookup::ifindex)),
            ]
        })
    }),
    xdp("fib_ipv6", |n| {
        on_bytes(40, n, |out| {
            let (params, from) = (fib::params(), R9.get(xdp_md::ingress_ifindex));
            code![
                fib::ipv6(R9, from, P.data, params, 0, out),
                load(R0, params.get(bpf_fib_lookup::ifindex)),
            ]
        })
    }),
    tc("fib_tc", |n| {
        let out = label("out");
        let flags = flags::fib_lookup::BPF_FIB_LOOKUP_DIRECT;
        let ask = |_| {
            let (params, from) = (fib::params(), R9.get(__sk_buff::ingress_ifindex));
            fib::ipv4(R9, from, P.cursor, params, flags, out)
        };
        code![
            mov(R9, R1),
            packet::skb(P, R1),
            packet::ethernet(P, PROTO, out),
            packet::need(P.cursor, P.end, ipv4::SIZE, P.scratch, out),
            (0..n).map(ask),
            bind(out),
            ret(TC_ACT_OK),
        ]
    }),
];

const REDIRECTS: &[Case] = &[
    xdp("flow_hash", |n| {
        on_bytes(1, n, |out| {
            code![
                mov(P.cursor, P.data),
                redirect::flow_hash(P, out)
            ]
        })
    }),
    xdp("share", |n| {
        on_bytes(4, n, |_| {
            code![
                load(R0, P.data.u32(0)),
                redirect::share(R0, 12)
            ]
        })
    }),
    xdp("redirect_in_turn", |n| {
        on_bytes(1, n, |_| redirect::in_turn(&LOCAL, 3))
    }),
    xdp("redirect_by_table", |n| {
        on_bytes(4, n, |out| {
            code![
                load(R0, P.data.u32(0)),
                redirect::by_table(&SHARES, out)
            ]
        })
    }),
    xdp("redirect_broadcast", |n| {
        on_bytes(1, n, |_| redirect::broadcast(&DEVICES, Ingress::Excluded))
    }),
    xdp("redirect_to_map", |n| {
        on_bytes(4, n, |_| {
            code![
                load(R0, P.data.u32(0)),
                redirect::to_map(&CPUS, R0, Otherwise::Pass),
            ]
        })
    }),
];
