//! What fragments do with maps, ring buffers, clocks and routes; and hashes.

use crate::kernel::Kernel;
use crate::vm::HEAP;
use bpfsmith_asm::dsl::{Field, bpf_fib_lookup};
use proptest::prelude::*;

const ERROR: u64 = u64::MAX;

#[test]
fn entries_are_found_or_made() {
    for (name, first) in [
        ("lookup_or_init", 7),
        ("lookup_or_zero", 0),
    ] {
        let mut kernel = Kernel::default();
        assert_eq!(kernel.run(name, b"key1"), first);
        assert_eq!(kernel.run(name, b"key1"), first);
        assert_eq!(kernel.run(name, b"key2"), first);
        assert_eq!(kernel.entries.len(), 2);
        kernel.raced = true;
        assert_eq!(kernel.run(name, b"key3"), 99, "the other CPU's value");
        kernel.full = true;
        assert_eq!(kernel.run(name, b"key4"), ERROR);
        assert_eq!(kernel.run(name, b"key1"), first);
    }
}

#[test]
fn counters() {
    for name in ["count", "count_percpu"] {
        let mut kernel = Kernel::default();
        assert_eq!(kernel.run(name, b"none"), 0);
        kernel.entries.push((0, b"here".to_vec(), HEAP));
        kernel.heap = u64::MAX.to_ne_bytes().to_vec();
        kernel.run(name, b"here");
        kernel.run(name, b"here");
        assert_eq!(kernel.value(b"here"), 5);
    }
    let mut kernel = Kernel::default();
    kernel.run("count_at", &[0; 60]);
    kernel.run("count_at", &[0; 40]);
    assert_eq!(kernel.value(&2_u32.to_ne_bytes()), 100);
    let mut kernel = Kernel::default();
    kernel.run("count_percpu_at", &[0; 60]);
    kernel.run("count_percpu_at", &[0; 60]);
    assert_eq!(kernel.value(&1_u32.to_ne_bytes()), 2);
}

#[test]
fn events_are_clean_and_submitted() {
    let mut kernel = Kernel::default();
    assert_eq!(kernel.run("event_or_count", &[0]), 0);
    assert_eq!(kernel.submitted, [HEAP]);
    // A count, a port, and no byte of what was there before.
    let expected = [
        &1_u64.to_ne_bytes()[..],
        &2_u16.to_ne_bytes(),
        &[0; 6],
    ]
    .concat();
    assert_eq!(kernel.heap, expected);
    assert_eq!(kernel.entries, []);

    kernel.full = true;
    for name in ["event", "event_or_count"] {
        assert_eq!(kernel.run(name, &[0]), 0);
    }
    assert_eq!(kernel.submitted, [HEAP]);
    let [(map, key, _)] = &kernel.entries[..] else {
        panic!("one drop is counted");
    };
    assert_eq!((*map, &key[..]), (1, &3_u32.to_ne_bytes()[..]));
}

#[test]
fn zeroed_slots() {
    assert_eq!(Kernel::default().run("zero", &[0]), 0);
}

/// A token bucket with exact fractions: what the fragment promises.
struct Model {
    tokens: u128,
    last: u64,
}

impl Model {
    fn take(&mut self, now: u64, per_second: u128, burst: u128) -> bool {
        let elapsed = u128::from(now.saturating_sub(self.last));
        self.tokens = (self.tokens + elapsed * per_second).min(burst * 1_000_000_000);
        self.last = self.last.max(now);
        let enough = self.tokens >= 1_000_000_000;
        if enough {
            self.tokens -= 1_000_000_000;
        }
        enough
    }
}

proptest! {
    #[test]
    fn buckets(start in 1_000..u64::MAX / 4, steps in proptest::collection::vec(
        prop_oneof![-2..4_i64, -100..100_i64, 0..i64::MAX / 1024], 1..40
    )) {
        let mut kernel = Kernel { now: start, ..Kernel::default() };
        let mut model = Model { tokens: 0, last: 0 };
        for step in steps {
            kernel.now = kernel.now.saturating_add_signed(step);
            let taken = kernel.run("token_bucket", b"flow");
            let expected = model.take(kernel.now, 3_000_000_000, 4);
            prop_assert_eq!(taken, if expected { 1 } else { ERROR });
        }
    }

    #[test]
    fn jhash_is_the_kernels(words in any::<[u32; 3]>()) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let packet: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let expected = jhash(&bytes, 0x1234_5678);
        prop_assert_eq!(Kernel::default().run("jhash", &packet), u64::from(expected));
    }

    #[test]
    fn fnv1a_is_the_reference(bytes in any::<[u8; 6]>()) {
        prop_assert_eq!(Kernel::default().run("fnv1a", &bytes), fnv64(&bytes));
        prop_assert_eq!(Kernel::default().run("fnv1a_32", &bytes), u64::from(fnv32(&bytes)));
    }
}

#[test]
fn buckets_start_full_and_refill() {
    let mut kernel = Kernel {
        now: 50_000,
        coarse: 90_000,
        ..Kernel::default()
    };
    for name in ["token_bucket", "bucket_coarse"] {
        kernel.entries.clear();
        let taken: Vec<u64> = (0..6).map(|_| kernel.run(name, b"flow")).collect();
        assert_eq!(taken, [1, 1, 1, 1, ERROR, ERROR], "{name}");
        // Another key has a bucket of its own.
        assert_eq!(kernel.run(name, b"none"), 1);
    }
    // Three tokens a nanosecond.
    kernel.coarse += 1;
    let taken: Vec<u64> = (0..4)
        .map(|_| kernel.run("bucket_coarse", b"flow"))
        .collect();
    assert_eq!(taken, [1, 1, 1, ERROR]);
}

#[test]
fn fnv1a_vectors() {
    // From the authors' test suite.
    assert_eq!(fnv64(b""), 0xcbf2_9ce4_8422_2325);
    assert_eq!(fnv64(b"a"), 0xaf63_dc4c_8601_ec8c);
    assert_eq!(fnv64(b"foobar"), 0x8594_4171_f739_67e8);
    assert_eq!(fnv32(b"a"), 0xe40c_292c);
    assert_eq!(fnv32(b"foobar"), 0xbf9c_f968);
    assert_eq!(
        Kernel::default().run("fnv1a", b"foobar"),
        0x8594_4171_f739_67e8
    );
    assert_eq!(Kernel::default().run("fnv1a_32", b"foobar"), 0xbf9c_f968);
}

fn fnv64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

fn fnv32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

/// lookup3 of Bob Jenkins over bytes, which the kernel calls `jhash`; for 12 bytes it is
/// `jhash_3words`.
fn jhash(bytes: &[u8], initval: u32) -> u32 {
    let len = u32::try_from(bytes.len()).unwrap();
    let [mut a, mut b, mut c] = [0xdead_beef_u32.wrapping_add(len).wrapping_add(initval); 3];
    let mut rest = bytes;
    let word = |bytes: &[u8], at: usize| {
        let byte = |n: usize| u32::from(*bytes.get(at + n).unwrap_or(&0)) << (n * 8);
        byte(0) | byte(1) | byte(2) | byte(3)
    };
    loop {
        if rest.is_empty() {
            return c;
        }
        a = a.wrapping_add(word(rest, 0));
        b = b.wrapping_add(word(rest, 4));
        c = c.wrapping_add(word(rest, 8));
        if rest.len() <= 12 {
            break;
        }
        rest = &rest[12..];
        for by in [4, 6, 8, 16, 19, 4] {
            a = a.wrapping_sub(c) ^ c.rotate_left(by);
            c = c.wrapping_add(b);
            [a, b, c] = [b, c, a];
        }
    }
    for by in [14, 11, 25, 16, 4, 14, 24] {
        c = (c ^ b).wrapping_sub(b.rotate_left(by));
        [a, b, c] = [b, c, a];
    }
    // One more step than whole rounds: the last one written is b now.
    b
}

#[test]
fn jhash_vectors() {
    // From the self-test of lookup3.c.
    assert_eq!(jhash(b"", 0), 0xdead_beef);
    assert_eq!(jhash(b"Four score and seven years ago", 0), 0x1777_0551);
    assert_eq!(jhash(b"Four score and seven years ago", 1), 0xcd62_8161);
}

/// A field of a question.
fn asked(kernel: &Kernel, field: Field) -> &[u8] {
    &kernel.question[usize::from(field.offset)..usize::from(field.end())]
}

#[test]
fn routes_of_ipv4() {
    let packet: Vec<u8> = (0..20).map(|n| 0x45 + n).collect();
    let mut kernel = Kernel::default();
    assert_eq!(
        kernel.run("fib_ipv4", &packet),
        42,
        "the device of the answer"
    );
    assert_eq!(asked(&kernel, bpf_fib_lookup::family), [2]);
    assert_eq!(asked(&kernel, bpf_fib_lookup::ifindex), 7_u32.to_ne_bytes());
    assert_eq!(asked(&kernel, bpf_fib_lookup::tos), &packet[1..2]);
    assert_eq!(
        asked(&kernel, bpf_fib_lookup::tot_len),
        0x4748_u16.to_ne_bytes()
    );
    assert_eq!(asked(&kernel, bpf_fib_lookup::l4_protocol), &packet[9..10]);
    assert_eq!(asked(&kernel, bpf_fib_lookup::ipv4_src), &packet[12..16]);
    assert_eq!(asked(&kernel, bpf_fib_lookup::ipv4_dst), &packet[16..20]);
    assert_eq!(kernel.question[13..16], [0; 3]);
    assert_eq!(kernel.question[36..], [0; 28]);
    kernel.answer = 7;
    assert_eq!(kernel.run("fib_ipv4", &packet), ERROR, "no neighbour");
}

#[test]
fn routes_of_ipv6() {
    let mut packet: Vec<u8> = (0..40).map(|n| 0x6a + n).collect();
    for (payload, total) in [
        (1000_u16, 1040_u16),
        (65_495, 65_535),
        (65_500, 65_535),
    ] {
        packet[4..6].copy_from_slice(&payload.to_be_bytes());
        let mut kernel = Kernel::default();
        assert_eq!(kernel.run("fib_ipv6", &packet), 42);
        assert_eq!(asked(&kernel, bpf_fib_lookup::family), [10]);
        assert_eq!(asked(&kernel, bpf_fib_lookup::tot_len), total.to_ne_bytes());
        assert_eq!(asked(&kernel, bpf_fib_lookup::l4_protocol), &packet[6..7]);
        assert_eq!(
            asked(&kernel, bpf_fib_lookup::flowinfo),
            [0x0a, 0x6b, 0x6c, 0x6d]
        );
        assert_eq!(asked(&kernel, bpf_fib_lookup::ipv6_src), &packet[8..24]);
        assert_eq!(asked(&kernel, bpf_fib_lookup::ipv6_dst), &packet[24..40]);
        assert_eq!(kernel.question[48..], [0; 16]);
    }
}
