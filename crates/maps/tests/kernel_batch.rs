//! Batches: many elements with one call.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use bpfsmith_gate::needs;
use bpfsmith_maps::{Batch, LpmKey, Map, PerCpuBatch, PerCpuMap, Problem, Way};
use bpfsmith_sys::possible_cpus;
use bpfsmith_uapi::MapType;
use bpfsmith_uapi::map::MapDef;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

static HASH: MapDef<u32, u64> = MapDef::hash("bs_maps_bhash", 5000);

fn filled(count: u32) -> Map<u32, u64> {
    let map = Map::create(&HASH).unwrap();
    let keys: Vec<u32> = (0..count).collect();
    let values: Vec<u64> = keys.iter().map(|&key| u64::from(key) * 3).collect();
    map.update_many(&keys, &values).unwrap();
    map
}

#[test]
fn all_elements_come_whatever_room_there_is() {
    needs!(Root, Batch);
    let map = filled(5000);
    for mut batch in [
        Batch::new(),
        Batch::with_room(1),
        Batch::with_room(8192),
    ] {
        map.read_all(&mut batch).unwrap();
        let all: BTreeMap<u32, u64> = batch.iter().map(|(key, value)| (*key, *value)).collect();
        assert_eq!(all.len(), 5000);
        assert!(all.iter().all(|(key, value)| *value == u64::from(*key) * 3));
    }
    let (mut batch, mut total, mut calls) = (Batch::with_room(64), 0, 0);
    let mut batches = map.batches();
    while batches.read(&mut batch).unwrap() {
        assert!(!batch.is_empty());
        total += batch.len();
        calls += 1;
    }
    assert_eq!(total, 5000);
    assert!(calls > 10, "{calls}");
    assert!(!batches.read(&mut batch).unwrap(), "the end stays the end");
}

#[test]
fn an_empty_map_has_no_batch() {
    needs!(Root, Batch);
    let map = Map::create(&HASH).unwrap();
    let mut batch = Batch::with_room(4);
    assert!(!map.batches().read(&mut batch).unwrap());
    map.read_all(&mut batch).unwrap();
    assert!(batch.is_empty());
    map.update_many(&[], &[]).unwrap();
    assert_eq!(map.delete_many(&[]).unwrap(), 0);
}

#[test]
fn large_keys_come_in_batches_too() {
    needs!(Root, Batch);
    static TRIE: MapDef<LpmKey<[u8; 100]>, u32> = MapDef::lpm_trie("bs_maps_blarge", 8);
    let map = Map::create(&TRIE).unwrap();
    let keys: Vec<_> = (0..5).map(|last| LpmKey::new([last; 100], 800)).collect();
    map.update_many(&keys, &[7; 5]).unwrap();
    let (mut total, mut batch) = (0, Batch::with_room(2));
    let mut batches = map.batches();
    while batches.read(&mut batch).unwrap() {
        total += batch.values().iter().sum::<u32>();
    }
    assert_eq!(total, 35);
}

#[test]
fn taking_empties_the_map() {
    needs!(Root, Batch);
    let map = filled(1000);
    let mut batch = Batch::new();
    map.take_all(&mut batch).unwrap();
    assert_eq!((batch.len(), map.keys().count()), (1000, 0));
    let map = filled(1000);
    let (mut total, mut batch) = (0, Batch::with_room(100));
    let mut batches = map.take_batches();
    while batches.read(&mut batch).unwrap() {
        total += batch.len();
    }
    assert_eq!((total, map.keys().count()), (1000, 0));
}

#[test]
fn missing_keys_are_left_out_of_a_deletion() {
    needs!(Root, Batch);
    let map = filled(100);
    let keys: Vec<u32> = (50..150).chain([0, 0, 1]).collect();
    assert_eq!(map.delete_many(&keys).unwrap(), 52);
    assert_eq!(map.keys().count(), 48);
    assert_eq!(map.delete_many(&[7777]).unwrap(), 0);
}

#[test]
fn a_full_map_stops_a_batch_and_says_where() {
    needs!(Root, Batch);
    static SMALL: MapDef<u32, u64> = MapDef::hash("bs_maps_bsmall", 3);
    let map = Map::create(&SMALL).unwrap();
    let stopped = map.update_many(&[1, 2, 3, 4, 5], &[0; 5]).unwrap_err();
    assert!(
        matches!(stopped.problem(), Problem::Stopped { done: 3, .. }),
        "{stopped}"
    );
    assert!(
        stopped.to_string().ends_with("E2BIG after 3 elements"),
        "{stopped}"
    );
    let uneven = map.update_many(&[1, 2], &[1]).unwrap_err();
    assert_eq!(
        *uneven.problem(),
        Problem::Length {
            given: 1,
            needed: 2
        }
    );
}

#[test]
fn each_kind_says_whether_it_has_batches() {
    needs!(Root, Batch);
    static ARRAY: MapDef<u32, u64> = MapDef::array("bs_maps_barray", 300);
    let map = Map::create(&ARRAY).unwrap();
    let mut batch = Batch::new();
    map.update_many(&[7, 8], &[70, 80]).unwrap();
    assert_eq!(map.read_any_way(&mut batch).unwrap(), Way::Batch);
    assert_eq!((batch.len(), batch.values()[8]), (300, 80));
    for error in [
        map.take_all(&mut batch).unwrap_err(),
        map.delete_many(&[1]).unwrap_err(),
    ] {
        assert_eq!(*error.problem(), Problem::NoBatch);
    }
    static TRIE: MapDef<LpmKey<[u8; 4]>, u64> = MapDef::lpm_trie("bs_maps_btrie", 8);
    let map = Map::create(&TRIE).unwrap();
    let keys = [8, 16, 24].map(|bits| LpmKey::v4(Ipv4Addr::new(10, 1, 1, 0), bits));
    map.update_many(&keys, &[1, 2, 3]).unwrap();
    let mut batch = Batch::new();
    map.read_all(&mut batch).unwrap();
    assert_eq!(batch.len(), 3);
    assert_eq!(map.delete_many(&keys[..2]).unwrap(), 2);

    static TRACES: MapDef<u32, [u64; 4]> = MapDef::new(MapType::STACK_TRACE, "bs_maps_btrace", 4);
    let map = Map::create(&TRACES).unwrap();
    let mut batch = Batch::new();
    let refused = map.read_all(&mut batch).unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("BPF_MAP_LOOKUP_BATCH BPF_MAP_TYPE_STACK_TRACE \"bs_maps_btrace\""),
        "{refused}"
    );
    assert_eq!(
        map.read_any_way(&mut batch).unwrap(),
        Way::Walk { restarts: 0 }
    );
    assert!(batch.is_empty());
}

#[test]
fn a_walk_reads_what_batches_read() {
    needs!(Root, Batch);
    let map = filled(777);
    let mut batch = Batch::new();
    assert_eq!(map.walk_all(&mut batch).unwrap(), 0);
    let walked: BTreeMap<_, _> = batch.iter().map(|(key, value)| (*key, *value)).collect();
    map.read_all(&mut batch).unwrap();
    let read: BTreeMap<_, _> = batch.iter().map(|(key, value)| (*key, *value)).collect();
    assert_eq!(walked, read);
    assert_eq!(walked.len(), 777);
}

#[test]
fn values_of_all_cpus_come_in_batches() {
    needs!(Root, Batch);
    let cpus = possible_cpus().unwrap().count() as usize;
    for kind in [
        MapType::PERCPU_HASH,
        MapType::LRU_PERCPU_HASH,
        MapType::PERCPU_ARRAY,
    ] {
        let def = MapDef::<u32, u32>::new(kind, "bs_maps_bpercpu", 300);
        let map = PerCpuMap::create(&def).unwrap();
        let keys: Vec<u32> = (0..100).collect();
        let values: Vec<u32> = keys.iter().flat_map(|&key| vec![key + 1; cpus]).collect();
        let mut buffer = Vec::new();
        map.update_many(&keys, &values, &mut buffer).unwrap();
        let mut batch = PerCpuBatch::new();
        map.read_all(&mut batch).unwrap();
        let sums: BTreeMap<u32, u32> = batch
            .iter()
            .map(|(key, values)| (*key, values.sum()))
            .collect();
        let all = u32::try_from(cpus).unwrap();
        for key in 0..100 {
            assert_eq!(sums[&key], (key + 1) * all, "{kind} {key}");
        }
        assert_eq!(map.walk_all(&mut batch).unwrap(), 0);
        assert_eq!(
            batch.len(),
            if kind == MapType::PERCPU_ARRAY {
                300
            } else {
                100
            }
        );
        if kind != MapType::PERCPU_ARRAY {
            assert_eq!(map.delete_many(&keys[..40]).unwrap(), 40);
            map.take_all(&mut batch).unwrap();
            assert_eq!(batch.len(), 60, "{kind}");
        }
        let short = map
            .update_many(&keys, &values[1..], &mut buffer)
            .unwrap_err();
        assert!(matches!(short.problem(), Problem::Length { .. }));
    }
}
