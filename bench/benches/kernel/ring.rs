//! Ring buffers, each with a reader of its own.

use crate::aya_data;
use aya::maps as aya_maps;
use bpfsmith_asm::dsl::*;
use bpfsmith_bench::peers::LibbpfRing;
use bpfsmith_bench::rounds::{Peer, measure};
use bpfsmith_maps::{Handle, RingBuf};
use bpfsmith_prog::{Load, Maps, Prog};
use bpfsmith_uapi::flags::ringbuf::BPF_RB_NO_WAKEUP;
use std::os::fd::{AsFd, AsRawFd};

const EVENTS: u32 = 100_000;
static RING: MapDef<(), ()> = MapDef::ringbuf("ring", 8 << 20);

/// Writes that many records of 48 bytes, the first word counting.
fn fill() -> Code {
    let one = func("one").body(code![
        store(R10.u64(-8), R1),
        ringbuf_reserve(&RING, 48, 0),
        R0.eq(0).then(ret(1)),
        load(R2, R10.u64(-8)),
        store(R0.u64(0), R2),
        store(R0.u64(8), 1),
        store(R0.u64(16), 2),
        store(R0.u64(24), 3),
        store(R0.u64(32), 4),
        store(R0.u64(40), R2),
        ringbuf_submit(R0, BPF_RB_NO_WAKEUP),
        ret(0),
    ]);
    code![
        store(R10.u64(-8), 0),
        r#loop(EVENTS.cast_signed(), &one, R10.at(-8), 0),
        exit()
    ]
}

fn filler() -> (Prog, Handle) {
    let program = Program::new(ProgType::SYSCALL, "fill", fill()).unwrap_or_else(|r| panic!("{r}"));
    let maps = Maps::of(&program).expect("needs root");
    let load = Load::new(&program).maps(&maps);
    let load = load.flags(bpfsmith_uapi::flags::prog_load::BPF_F_SLEEPABLE);
    let prog = load.load().unwrap_or_else(|error| panic!("{error:#}"));
    let ring = maps.handle(RING.shape().name).expect("it was made");
    (prog, ring)
}

pub(crate) fn drain(rounds: usize) {
    let expected = u64::from(EVENTS) * u64::from(EVENTS - 1);
    let check = |(count, words): (u64, u64)| {
        assert_eq!(
            (count, words),
            (u64::from(EVENTS), expected),
            "a peer read something else"
        );
    };
    let run = |prog: &Prog| {
        let done = prog.run().go().expect("it runs");
        assert_eq!(done.retval, EVENTS);
    };
    let ours = filler();
    let mut our_ring = RingBuf::of(&ours.1).expect("it is mapped");
    let typed = filler();
    let mut typed_ring = RingBuf::of(&typed.1).expect("it is mapped");
    let libbpf = filler();
    let mut libbpf_ring = LibbpfRing::new(libbpf.1.as_fd().as_raw_fd());
    let aya = filler();
    let data = aya_maps::Map::RingBuf(aya_data(&aya.1));
    let mut aya_ring = aya_maps::RingBuf::try_from(data).expect("it is mapped");
    let word = |bytes: &[u8], at: usize| {
        let bytes = bytes[at..at + 8].try_into().expect("8 bytes");
        u64::from_ne_bytes(bytes)
    };
    let peers = vec![
        Peer::with(
            "libbpf ring_buffer__consume",
            || run(&libbpf.0),
            |()| {
                check(libbpf_ring.drain());
            },
        ),
        Peer::with(
            "bpfsmith consume",
            || run(&ours.0),
            |()| {
                let (mut count, mut words) = (0, 0_u64);
                let done = our_ring.consume(|record: &[u8]| {
                    if record.len() == 48 {
                        count += 1;
                        words = words
                            .wrapping_add(word(record, 0))
                            .wrapping_add(word(record, 40));
                    }
                });
                done.expect("no error");
                check((count, words));
            },
        ),
        Peer::with(
            "bpfsmith for_each, typed",
            || run(&typed.0),
            |()| {
                let (mut count, mut words) = (0, 0_u64);
                let done = typed_ring.for_each(|record: &[u64; 6]| {
                    count += 1;
                    words = words.wrapping_add(record[0]).wrapping_add(record[5]);
                });
                done.expect("no error");
                check((count, words));
            },
        ),
        Peer::with(
            "aya RingBuf::next",
            || run(&aya.0),
            |()| {
                let (mut count, mut words) = (0, 0_u64);
                while let Some(record) = aya_ring.next() {
                    if record.len() == 48 {
                        count += 1;
                        words = words
                            .wrapping_add(word(&record, 0))
                            .wrapping_add(word(&record, 40));
                    }
                }
                check((count, words));
            },
        ),
    ];
    let unit = (EVENTS as usize, "record");
    measure(
        "ring buffer drain",
        unit,
        rounds,
        10 * EVENTS as usize,
        "libbpf ring_buffer__consume",
        peers,
    );
}
