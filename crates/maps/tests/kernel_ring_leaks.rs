//! Rings leave nothing behind. The only test of its binary: it counts all that the process has.

use bpfsmith_gate::{needs, open_fds, rounds};
use bpfsmith_maps::{Handle, PerfBuffer, PerfOptions, RingBuf, RingSet, UserRing};
use bpfsmith_uapi::MapType;
use bpfsmith_uapi::map::MapDef;

static RING: MapDef<(), ()> = MapDef::ringbuf("bs_rings_ring", 4096);
static USER: MapDef<(), ()> = MapDef::new(MapType::USER_RINGBUF, "bs_rings_user", 4096);
static PERF: MapDef<u32, u32> = MapDef::new(MapType::PERF_EVENT_ARRAY, "bs_rings_perf", 64);

fn mappings() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc is mounted");
    let is_ours = |line: &&str| line.contains("bpf-map") || line.contains("perf_event");
    maps.lines().filter(is_ours).count()
}

#[test]
fn nothing_is_left_of_ten_thousand_rings() {
    needs!(Root, RingBuf, UserRingbuf, PerfEvents);
    let before = open_fds();
    for _ in 0..rounds(5000) {
        let ring = RingBuf::create(&RING).unwrap();
        let user = UserRing::create(&USER).unwrap();
        drop((RingSet::new(ring).unwrap(), user));
    }
    // The two ends of one map, again and again.
    let handle = Handle::create(RING.shape()).unwrap();
    for _ in 0..rounds(5000) {
        RingBuf::of(&handle).unwrap();
    }
    drop(handle);
    for _ in 0..50 {
        let events = Handle::create(PERF.shape()).unwrap();
        let buffer = PerfBuffer::new(events, &PerfOptions::default()).unwrap();
        assert!(mappings() > 0);
        drop(buffer);
    }
    let after = open_fds();
    assert_eq!(after.opened_since(&before).to_string(), "");
    assert_eq!(mappings(), 0);
}
