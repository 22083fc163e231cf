//! One ring.

use crate::fill::{How, Producer, words};
use bpfsmith_gate::{deadline, needs};
use bpfsmith_maps::{End, Handle, Pace, Problem, RingBuf, RingProblem};
use bpfsmith_uapi::map::MapDef;
use bpfsmith_uapi::{Errno, MapType};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use zerocopy::IntoBytes;

static SMALL: MapDef<(), ()> = MapDef::ringbuf("bs_rings_small", 4096);
static LARGE: MapDef<(), ()> = MapDef::ringbuf("bs_rings_large", 1 << 16);

const FLAT_OUT: Pace = Pace::ALL;

fn pair(def: &'static MapDef<(), ()>, how: How) -> (RingBuf, Producer) {
    let ring = RingBuf::create(def).unwrap();
    let producer = Producer::new(def, &ring, how);
    (ring, producer)
}

#[test]
fn all_bytes_arrive_in_order_while_the_ring_wraps() {
    needs!(Root, RingBuf);
    let (mut ring, producer) = pair(&SMALL, How::Output);
    let mut number = 0;
    // 64 lengths, 4096 bytes, some 11 records each time: the seams lie at every place.
    for round in 0..2000_u32 {
        producer.run(round % 40 + 1);
        ring.consume(|record| {
            let expected: [u64; 8] = std::array::from_fn(|index| {
                number + index as u64 * u64::from(crate::fill::STEP.unsigned_abs())
            });
            let len = usize::try_from(number % 64 + 1).unwrap();
            assert_eq!(record, &expected.as_bytes()[..len], "record {number}");
            number += 1;
        })
        .unwrap();
    }
    assert_eq!(number, producer.state().next);
    assert_eq!(producer.drops.lookup(&0).unwrap().unwrap().sum(), 0);
    let positions = ring.positions();
    assert!(positions.consumer > 300 * ring.size() && positions.used() == 0);
}

#[test]
fn the_three_ways_of_reading_agree() {
    needs!(Root, RingBuf);
    let (mut ring, producer) = pair(&LARGE, How::Reserve);
    let mut expected = 0;
    for _ in 0..100 {
        producer.run(30);
        for _ in 0..10 {
            let record = ring.next_record().unwrap().unwrap();
            assert_eq!(&*record, words(expected).as_bytes());
            expected += 1;
        }
        let record = ring.next_record().unwrap().unwrap();
        record.put_back();
        ring.set_pace(Pace {
            limit: 10,
            ..FLAT_OUT
        });
        let drained = ring.consume(|record| {
            assert_eq!(record, words(expected).as_bytes());
            expected += 1;
        });
        let drained = drained.unwrap();
        assert_eq!((drained.records, drained.end), (10, End::Limit));
        ring.set_pace(FLAT_OUT);
        let typed = ring.for_each(|value: &[u64; 6]| {
            assert_eq!(value, &words(expected));
            expected += 1;
            if expected % 30 == 25 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        assert_eq!(typed.unwrap().end, End::Stopped);
        let mut wrong = 0;
        let typed = ring.for_each(|_: &[u64; 5]| wrong += 1).unwrap();
        assert_eq!(wrong, 0);
        assert_eq!(
            (typed.values, typed.misfits, typed.first_misfit),
            (0, 5, Some(48))
        );
        assert_eq!(typed.end, End::Empty);
        expected += 5;
        assert!(ring.next_record().unwrap().is_none());
    }
    assert_eq!(expected, producer.state().next);
}

#[test]
fn what_programs_discard_is_skipped() {
    needs!(Root, RingBuf);
    let (mut ring, producer) = pair(&SMALL, How::Discard);
    let (mut seen, mut discarded) = (Vec::new(), 0);
    for round in 0..90 {
        producer.run(60);
        if round % 2 == 0 {
            let drained = ring
                .for_each(|value: &[u64; 6]| seen.push(value[0]))
                .unwrap();
            discarded += drained.discarded;
        } else {
            while let Some(record) = ring.next_record().unwrap() {
                seen.push(u64::from_ne_bytes(*record.first_chunk().unwrap()));
            }
            discarded += 20;
        }
    }
    let kept: Vec<u64> = (0..90 * 60).filter(|number| number % 3 != 0).collect();
    assert_eq!((seen, discarded), (kept, 30 * 60));
}

#[test]
fn a_full_ring_counts_what_it_drops() {
    needs!(Root, RingBuf);
    let (ring, producer) = pair(&SMALL, How::Reserve);
    let mut ring = ring.with_drops(&producer.drops).unwrap();
    assert_eq!(ring.stats().unwrap().drops, Some(0));
    producer.run(1000);
    // The kernel keeps one byte free: (4096 - 1) / 56.
    let stats = ring.stats().unwrap();
    assert_eq!(
        (stats.used, stats.read, stats.drops),
        (73 * 56, 0, Some(927))
    );
    ring.set_pace(Pace {
        limit: 3,
        commit_every: 1,
    });
    assert_eq!(ring.consume(|_| ()).unwrap().records, 3);
    producer.run(5);
    let stats = ring.stats().unwrap();
    assert_eq!(
        (stats.used, stats.read, stats.drops),
        (73 * 56, 3 * 56, Some(929))
    );
    let hash = Handle::create(MapDef::<u32, u64>::hash("bs_rings_hash", 1).shape()).unwrap();
    let error = ring.with_drops(&hash).unwrap_err();
    assert_eq!(error.problem(), &Problem::Ring(RingProblem::NotACounter));
}

#[test]
fn a_ring_has_one_reader() {
    needs!(Root, RingBuf);
    let ring = RingBuf::create(&SMALL).unwrap();
    let handle = ring.try_clone().unwrap();
    let second = RingBuf::of(&handle).unwrap_err();
    assert_eq!(second.problem(), &Problem::Ring(RingProblem::Taken));
    assert!(
        second.to_string().contains("open in this process already"),
        "{second}"
    );
    drop(ring);
    RingBuf::new(handle).unwrap();
    let array = Handle::create(MapDef::<u32, u64>::array("bs_rings_array", 1).shape()).unwrap();
    let wrong = RingBuf::new(array).unwrap_err();
    assert_eq!(wrong.problem(), &Problem::Kind { view: "Map" });
    let odd: MapDef<(), ()> = MapDef::ringbuf("bs_rings_odd", 5000);
    assert_eq!(
        RingBuf::create(&odd).unwrap_err().errno(),
        Some(Errno::EINVAL)
    );
    let user: MapDef<(), ()> = MapDef::new(MapType::USER_RINGBUF, "bs_rings_user", 4096);
    let wrong = RingBuf::create(&user).unwrap_err();
    assert_eq!(wrong.problem(), &Problem::Kind { view: "UserRing" });
}

#[test]
fn a_record_that_is_not_submitted_stops_the_reader() {
    needs!(Root, RingBuf, BpfLoop, TwoCpus);
    let mut ring = RingBuf::create(&SMALL).unwrap();
    let producer = Arc::new(crate::fill::Producer::of(
        slow::body(&SMALL),
        &[("bs_rings_small", &ring)],
    ));
    // Nobody says when the reader's thread gets a CPU, so it may come too late: then once more.
    deadline(Duration::from_secs(60), || {
        let started = Arc::new(AtomicBool::new(false));
        let (theirs, flag) = (Arc::clone(&producer), Arc::clone(&started));
        let before = producer.state().next;
        let thread = std::thread::spawn(move || {
            flag.store(true, Ordering::Release);
            theirs.run(1);
        });
        while ring.positions().used() == 0 {
            std::hint::spin_loop();
        }
        let busy = ring.consume(|_| ()).unwrap();
        let lent = ring.next_record().unwrap().is_some();
        // Tell the program to submit.
        producer.flags(1);
        thread.join().unwrap();
        let after = ring
            .for_each(|value: &u64| assert_eq!(*value, before))
            .unwrap();
        producer.set(crate::fill::State {
            next: before + 1,
            flags: 0,
        });
        assert_eq!(busy.records + u64::from(lent) + after.values, 1);
        (busy.end == End::Busy && !lent && after.values == 1).then_some(())
    });
}

mod slow {
    use bpfsmith_asm::dsl::*;

    /// Reserves a record, waits until the state's flags are not 0, for some 50 ms, and submits it.
    pub(super) fn body(ring: &MapDef<(), ()>) -> Code {
        let ctx = slot::<u64>("ctx");
        let look = func("look").body(code![
            load(R1, R2.u64(0)),
            load(R1, R1.u64(8)),
            mov(R0, 0),
            R1.ne(0).then(mov(R0, 1)),
            exit(),
        ]);
        code![
            ringbuf_reserve(ring, 8, 0),
            R0.eq(0).then(ret(0)),
            mov(R8, R0),
            store(R8.u64(0), R7),
            store(ctx.u64(0), R6),
            mov(R9, R8),
            r#loop(1 << 23, &look, ctx, 0),
            ringbuf_submit(R9, 0),
        ]
    }
}

#[test]
fn a_million_records_cross_threads_without_loss() {
    needs!(Root, RingBuf);
    const COUNT: u64 = 1_000_000;
    let (mut ring, producer) = pair(&LARGE, How::Reserve);
    let writer = std::thread::spawn(move || {
        // A record that found no room is tried again: the number only grows with success.
        for _ in 0..1_000_000 {
            let left = COUNT - producer.state().next;
            if left == 0 {
                return producer;
            }
            producer.run(u32::try_from(left.min(500)).unwrap());
        }
        panic!(
            "{} records found room in a million runs",
            producer.state().next
        );
    });
    let mut expected = 0;
    deadline(Duration::from_secs(120), || {
        while !ring
            .for_each(|value: &[u64; 6]| {
                assert_eq!(value, &words(expected));
                expected += 1;
            })
            .is_ok_and(|typed| typed.values == 0)
        {}
        (expected == COUNT).then_some(())
    });
    let producer = writer.join().unwrap();
    assert_eq!(producer.state().next, COUNT);
    assert_eq!(ring.positions().used(), 0);
}
