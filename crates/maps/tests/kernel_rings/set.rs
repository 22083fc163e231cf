//! Several rings behind one place to wait.

use crate::fill::{How, Producer};
use bpfsmith_gate::needs;
use bpfsmith_maps::{Pace, RingBuf, RingSet};
use bpfsmith_uapi::flags::ringbuf::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use bpfsmith_uapi::map::MapDef;
use std::ops::ControlFlow;
use std::time::Duration;

static FIRST: MapDef<(), ()> = MapDef::ringbuf("bs_rings_first", 4096);
static SECOND: MapDef<(), ()> = MapDef::ringbuf("bs_rings_second", 4096);

const SOON: Option<Duration> = Some(Duration::from_secs(30));

fn two() -> (RingSet, [Producer; 2]) {
    let first = RingBuf::create(&FIRST).unwrap();
    let second = RingBuf::create(&SECOND).unwrap();
    let producers = [
        Producer::new(&FIRST, &first, How::Reserve),
        Producer::new(&SECOND, &second, How::Reserve),
    ];
    let mut set = RingSet::new(first).unwrap();
    assert_eq!(set.add(second).unwrap(), 1);
    (set, producers)
}

/// The numbers of ring and record, and how many rings were ready.
fn poll(set: &mut RingSet, time: Option<Duration>) -> (usize, Vec<(usize, u64)>) {
    let mut seen = Vec::new();
    let polled = set.poll(time, |ring, record| {
        seen.push((ring, u64::from_ne_bytes(*record.first_chunk().unwrap())));
    });
    (polled.unwrap().rings, seen)
}

#[test]
fn the_callback_learns_which_ring_it_was() {
    needs!(Root, RingBuf);
    let (mut set, producers) = two();
    assert_eq!(poll(&mut set, Some(Duration::ZERO)), (0, vec![]));
    producers[1].run(2);
    assert_eq!(poll(&mut set, SOON), (1, vec![(1, 0), (1, 1)]));
    producers[0].run(1);
    assert_eq!(poll(&mut set, SOON), (1, vec![(0, 0)]));
    producers[0].run(3);
    producers[1].run(3);
    let mut seen = Vec::new();
    let stopped = set.consume(|ring, _| {
        seen.push(ring);
        if seen.len() == 4 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    assert_eq!((stopped.unwrap(), seen), (4, vec![0, 0, 0, 1]));
    assert_eq!(set.rings()[1].positions().used(), 2 * 56);
}

#[test]
fn programs_decide_who_is_woken() {
    needs!(Root, RingBuf);
    let (mut set, producers) = two();
    producers[0].flags(BPF_RB_NO_WAKEUP);
    producers[1].flags(BPF_RB_FORCE_WAKEUP);
    // A wakeup of the first ring would have come before that of the second.
    for round in 0..100 {
        producers[0].run(5);
        producers[1].run(1);
        assert_eq!(poll(&mut set, SOON), (1, vec![(1, round)]));
    }
    set.rings_mut()[0].set_pace(Pace {
        limit: 1,
        ..Pace::ALL
    });
    producers[0].run(1);
    producers[0].flags(BPF_RB_FORCE_WAKEUP);
    // The ring is full: nothing comes, and nobody is woken.
    let used = set.rings()[0].positions().used();
    assert_eq!(used, 73 * 56);
    assert_eq!(set.consume(|_, _| ()).unwrap(), 1);
    producers[0].run(1);
    // As long as records are left, the ring stays ready.
    for number in 1..=73 {
        assert_eq!(poll(&mut set, SOON), (1, vec![(0, number)]));
    }
    assert_eq!(poll(&mut set, Some(Duration::ZERO)), (0, vec![]));
}

#[test]
fn only_a_record_at_the_readers_place_wakes_by_itself() {
    needs!(Root, RingBuf);
    let (mut set, producers) = two();
    producers[0].flags(BPF_RB_NO_WAKEUP);
    producers[0].run(1);
    producers[0].flags(0);
    // Behind one that is unread: no wakeup, as the second ring's proves.
    producers[0].run(1);
    producers[1].run(1);
    assert_eq!(poll(&mut set, SOON), (1, vec![(1, 0)]));
    assert_eq!(set.rings_mut()[0].consume(|_| ()).unwrap().records, 2);
    // Everything is read: the next one wakes. 10,000 times, so that no wakeup is lost.
    for number in 2..10_002 {
        producers[0].run(1);
        assert_eq!(poll(&mut set, SOON), (1, vec![(0, number)]));
    }
}
