//! Records of the kernel's ring, whatever their bytes are: events that can be printed, or refusals.

#[path = "support/event_exercise.rs"]
mod exercise;

use bpfsmith_datapath::event::Record;
use exercise::{SIZE, ask};
use proptest::prelude::*;
use std::path::Path;

/// Numbers at whose borders sums and times go wrong.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        Just(0),
        Just(u64::MAX),
        (0_u32..64).prop_map(|bit| 1 << bit),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..2 * SIZE)) {
        ask(&bytes);
    }

    #[test]
    fn almost_records(
        mut bytes in prop::collection::vec(any::<u8>(), SIZE),
        head in (0_u8..5, 0_u8..40, prop_oneof![Just(4_u8), Just(6), any::<u8>()]),
        protocol in prop_oneof![Just(6_u8), Just(17), any::<u8>()],
        numbers in [number(), number(), number(), number(), number()],
        name in ".{0,12}",
    ) {
        let (kind, why, family) = head;
        bytes[..4].copy_from_slice(&[kind, why, family, protocol]);
        let fields = [Record::at, Record::packets, Record::bytes, Record::answer_packets, Record::answer_bytes];
        for (field, number) in fields.into_iter().zip(numbers) {
            let at = usize::from(field.offset);
            bytes[at..at + 8].copy_from_slice(&number.to_ne_bytes());
        }
        bytes.extend_from_slice(name.as_bytes());
        let is_known = matches!(family, 4 | 6) && matches!(protocol, 6 | 17);
        let wanted = is_known && match kind {
            0 | 2 => true,
            1 => why < 3,
            3 => usize::from(why) < bpfsmith_datapath::reason::Reason::ALL.len(),
            _ => false,
        };
        prop_assert_eq!(ask(&bytes), wanted);
    }
}

/// A record from nowhere, with all that it can say at its most: sums of it must hold it, and times.
#[test]
fn the_greatest_numbers_are_printed() {
    for kind in 0..3 {
        for why in 0..3 {
            for (family, protocol) in [(4, 6), (6, 17)] {
                let mut bytes = [0xff; SIZE];
                bytes[..4].copy_from_slice(&[kind, why, family, protocol]);
                assert!(ask(&bytes));
            }
        }
    }
}

#[test]
fn inputs_of_the_fuzzer_are_survived() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/event_record");
    let (mut count, mut events) = (0, 0);
    for entry in std::fs::read_dir(corpus).expect("the corpus") {
        let input = std::fs::read(entry.expect("an input").path()).expect("an input");
        events += usize::from(ask(&input));
        count += 1;
    }
    assert!(events > 5, "{events} of {count} inputs are events");
}
