//! What user space tells programs.

use crate::fill::Producer;
use bpfsmith_asm::dsl::*;
use bpfsmith_gate::needs;
use bpfsmith_maps::{Problem, RingProblem, UserRing};
use std::time::Duration;

static ORDERS: MapDef<(), ()> = MapDef::new(MapType::USER_RINGBUF, "bs_rings_orders", 4096);

/// Drains the ring, adds the first 8 bytes of each record to the state's number, and the number of
/// records to its flags.
fn drain() -> Code {
    let sum = slot::<u64>("sum");
    let word = slot::<u64>("word");
    let add_one = func("add_one").body(code![
        mov(R6, R2),
        store(word.u64(0), 0),
        dynptr_read(word, 8, R1, 0, 0),
        load(R1, word.u64(0)),
        load(R2, R6.u64(0)),
        add(R2, R1),
        store(R6.u64(0), R2),
        mov(R0, 0),
        exit(),
    ]);
    code![
        store(sum.u64(0), 0),
        user_ringbuf_drain(&ORDERS, &add_one, sum, 0),
        load(R1, R6.u64(8)),
        add(R1, R0),
        store(R6.u64(8), R1),
        load(R1, sum.u64(0)),
        add(R7, R1),
        store(R6.u64(0), R7),
    ]
}

fn pair() -> (UserRing, Producer) {
    let ring = UserRing::create(&ORDERS).unwrap();
    let program = Producer::of(drain(), &[("bs_rings_orders", &ring)]);
    (ring, program)
}

#[test]
fn a_program_adds_up_what_it_is_told() {
    needs!(Root, UserRingbuf);
    let (mut ring, program) = pair();
    let (mut sum, mut count) = (0, 0);
    for round in 0..2000_u64 {
        for number in 0..round % 17 {
            let len = u32::try_from(8 + (round + number) % 50).unwrap();
            let mut record = ring.reserve(len).unwrap();
            assert_eq!(record.len(), len as usize);
            record.fill(0xff);
            let value = round * 1000 + number;
            record[..8].copy_from_slice(&value.to_ne_bytes());
            if number % 5 == 4 {
                record.discard();
            } else if number % 5 == 3 {
                drop(record);
            } else {
                record.submit();
                sum += value;
                count += 1;
            }
        }
        program.run(1);
        assert_eq!(
            (program.state().next, program.state().flags),
            (sum, count),
            "{round}"
        );
        assert_eq!(ring.used(), 0);
    }
    assert!(count > 9000);
}

#[test]
fn a_full_ring_says_how_much_is_free() {
    needs!(Root, UserRingbuf);
    let (mut ring, program) = pair();
    let mut sum = 0;
    for number in 0..73_u64 {
        let mut record = ring.try_reserve(48).unwrap().unwrap();
        record[..8].copy_from_slice(&number.to_ne_bytes());
        record.submit();
        sum += number;
    }
    assert!(ring.try_reserve(48).unwrap().is_none());
    let full = ring.reserve(48).unwrap_err();
    let text = "56 bytes needed, 8 are free: the program has to read first";
    assert!(full.to_string().ends_with(text), "{full}");
    for len in [4089, u32::MAX, 1 << 30, 1 << 31] {
        let error = ring.try_reserve(len).unwrap_err();
        assert!(
            matches!(error.problem(), Problem::Ring(RingProblem::NoRoom(_))),
            "{error}"
        );
    }
    let late = ring.reserve_within(48, Some(Duration::ZERO));
    assert!(matches!(
        late.unwrap_err().problem(),
        Problem::Ring(RingProblem::NoRoom(_))
    ));
    program.run(1);
    assert_eq!((program.state().next, program.state().flags), (sum, 73));
    let whole = ring.reserve(4088).unwrap();
    assert_eq!(whole.len(), 4088);
}

#[test]
fn a_writer_waits_for_room() {
    needs!(Root, UserRingbuf);
    let (mut ring, program) = pair();
    let reader = std::thread::spawn(move || {
        while program.state().flags < 50_000 {
            program.run(1);
        }
        program
    });
    for number in 0..50_000_u64 {
        let mut record = ring
            .reserve_within(8, Some(Duration::from_secs(60)))
            .unwrap();
        record.copy_from_slice(&number.to_ne_bytes());
        record.submit();
    }
    let program = reader.join().unwrap();
    assert_eq!(program.state().next, 50_000 * 49_999 / 2);
}
