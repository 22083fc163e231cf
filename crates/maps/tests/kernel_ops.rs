//! Single operations: what each does, seen from its effect.

use bpfsmith_gate::{bpffs, needs};
use bpfsmith_maps::{Handle, Map, Options, Origin, PerCpuMap, Problem, list};
use bpfsmith_sys::possible_cpus;
use bpfsmith_uapi::map::MapDef;
use bpfsmith_uapi::{Errno, MapType};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use zerocopy::{FromBytes, Immutable, IntoBytes};

static HASH: MapDef<u32, u64> = MapDef::hash("bs_maps_hash", 1000);
static ARRAY: MapDef<u32, u64> = MapDef::array("bs_maps_array", 4);

#[test]
fn a_hash_keeps_what_it_was_given() {
    needs!(Root);
    let map = Map::create(&HASH).unwrap();
    assert_eq!(map.lookup(&1).unwrap(), None);
    let mut value = 77;
    assert!(!map.lookup_into(&1, &mut value).unwrap());
    assert_eq!(value, 77, "a key that is not there leaves the buffer alone");
    assert!(!map.replace(&1, &10).unwrap());
    assert!(map.insert(&1, &11).unwrap());
    assert!(!map.insert(&1, &12).unwrap());
    assert_eq!(map.lookup(&1).unwrap(), Some(11));
    assert!(map.replace(&1, &13).unwrap());
    map.update(&2, &20).unwrap();
    assert_eq!(map.take(&1).unwrap(), Some(13));
    assert_eq!(map.take(&1).unwrap(), None);
    assert!(map.delete(&2).unwrap());
    assert!(!map.delete(&2).unwrap());
    for key in 0..100 {
        map.update(&key, &u64::from(key * 2)).unwrap();
    }
    let entries: BTreeSet<_> = map.iter().map(Result::unwrap).collect();
    assert_eq!(
        entries,
        (0..100).map(|key| (key, u64::from(key) * 2)).collect()
    );
    assert_eq!(map.clear().unwrap(), 100);
    assert_eq!(map.keys().count(), 0);
}

#[test]
fn an_array_has_all_its_elements_from_the_start() {
    needs!(Root);
    let map = Map::create(&ARRAY).unwrap();
    map.update(&3, &9).unwrap();
    let entries: Vec<_> = map.iter().map(Result::unwrap).collect();
    assert_eq!(entries, [(0, 0), (1, 0), (2, 0), (3, 9)]);
    assert_eq!(map.lookup(&4).unwrap(), None);
    assert!(!map.insert(&3, &1).unwrap());
    assert_eq!(map.delete(&3).unwrap_err().errno(), Some(Errno::EINVAL));
    assert_eq!(map.update(&4, &1).unwrap_err().errno(), Some(Errno::E2BIG));
}

#[test]
fn a_full_hash_says_so_and_an_lru_hash_makes_room() {
    needs!(Root);
    static FULL: MapDef<u32, u64> = MapDef::hash("bs_maps_full", 2);
    let map = Map::create(&FULL).unwrap();
    map.update(&1, &1).unwrap();
    map.update(&2, &2).unwrap();
    let full = map.update(&3, &3).unwrap_err();
    assert_eq!(
        full.to_string(),
        "BPF_MAP_UPDATE_ELEM BPF_MAP_TYPE_HASH \"bs_maps_full\" key 4 value 8: E2BIG (the map is full)"
    );
    static LRU: MapDef<u32, u64> = MapDef::lru_hash("bs_maps_lru", 64);
    let map = Map::create(&LRU).unwrap();
    for key in 0..1000 {
        map.update(&key, &1).unwrap();
    }
    let left = map.keys().count();
    assert!((1..=64).contains(&left), "{left}");
    assert_eq!(map.lookup(&999).unwrap(), Some(1));
}

#[test]
fn who_walks_may_delete_what_comes() {
    needs!(Root);
    let map = Map::create(&HASH).unwrap();
    for key in 0..1000 {
        map.update(&key, &1).unwrap();
    }
    let mut seen = BTreeSet::new();
    let mut keys = map.keys();
    for key in keys.by_ref() {
        let key = key.unwrap();
        assert!(seen.insert(key), "{key} came twice");
        assert!(map.delete(&key).unwrap());
    }
    assert_eq!((seen.len(), keys.restarts()), (1000, 0));
}

#[test]
fn a_walk_whose_next_key_is_deleted_goes_on_behind_the_last() {
    needs!(Root);
    let map = Map::create(&HASH).unwrap();
    for key in 0..1000 {
        map.update(&key, &1).unwrap();
    }
    let order: Vec<u32> = map.keys().map(Result::unwrap).collect();
    let mut keys = map.keys();
    let first = keys.next().unwrap().unwrap();
    assert_eq!(first, order[0]);
    for gone in &order[1..500] {
        map.delete(gone).unwrap();
    }
    let rest: Vec<u32> = keys.by_ref().map(Result::unwrap).collect();
    assert_eq!(rest, order[500..]);
    assert_eq!(keys.restarts(), 0);
}

#[test]
fn a_walk_that_lost_its_way_starts_over_and_counts_it() {
    needs!(Root);
    let map = Map::create(&HASH).unwrap();
    for key in 0..1000 {
        map.update(&key, &1).unwrap();
    }
    let order: Vec<u32> = map.keys().map(Result::unwrap).collect();
    let mut keys = map.keys();
    assert_eq!(keys.next().unwrap().unwrap(), order[0]);
    assert_eq!(keys.next().unwrap().unwrap(), order[1]);
    // Both the key that came and the one that would come are gone.
    for gone in &order[1..=2] {
        map.delete(gone).unwrap();
    }
    let rest: Vec<u32> = keys.by_ref().map(Result::unwrap).collect();
    assert_eq!(keys.restarts(), 1);
    assert_eq!(rest[0], order[0], "keys may come twice then");
    assert_eq!(rest[1..], order[3..]);
}

#[test]
fn a_walk_ends_while_another_thread_deletes_and_inserts() {
    needs!(Root);
    let map = Map::create(&HASH).unwrap();
    for key in 0..500 {
        map.update(&key, &1).unwrap();
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut key = 0;
            while !stop.load(Ordering::Relaxed) {
                // Even keys come and go, odd keys stay.
                map.delete(&((key % 500) & !1)).unwrap();
                map.update(&(((key + 250) % 500) & !1), &1).unwrap();
                key += 2;
            }
        });
        for _ in 0..20 {
            let mut keys = map.keys();
            let mut seen = BTreeSet::new();
            let mut is_whole = true;
            for key in keys.by_ref() {
                match key {
                    Ok(key) => drop(seen.insert(key)),
                    Err(error) => {
                        assert!(
                            matches!(error.problem(), Problem::Unsettled { .. }),
                            "{error}"
                        );
                        is_whole = false;
                    }
                }
            }
            let stayed = seen.iter().filter(|key| *key % 2 == 1).count();
            assert!(!is_whole || stayed == 250, "{stayed} of 250 keys that stay");
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn every_cpu_has_a_value() {
    needs!(Root);
    let cpus = possible_cpus().unwrap().count();
    static HASH: MapDef<u32, [u8; 3]> = MapDef::percpu_hash("bs_maps_pchash", 4);
    let map = PerCpuMap::create(&HASH).unwrap();
    let mut values = map.values();
    assert!(!map.lookup_into(&1, &mut values).unwrap());
    for cpu in 0..values.len() {
        assert!(values.set(cpu, &[u8::try_from(cpu).unwrap(), 8, 9]));
    }
    assert!(map.insert(&1, &values).unwrap());
    assert!(!map.insert(&1, &values).unwrap());
    let back = map.lookup(&1).unwrap().unwrap();
    assert_eq!(back.len(), cpus as usize);
    assert_eq!(back.of(0), Some([0, 8, 9]));
    assert_eq!(
        back.iter().collect::<Vec<_>>(),
        values.iter().collect::<Vec<_>>()
    );
    let eights = map
        .fold(&1, 0, |sum, value| sum + u32::from(value[1]))
        .unwrap();
    assert_eq!(eights, Some(8 * cpus));
    let mut seen = Vec::new();
    assert_eq!(
        map.for_each(|key, values| seen.push((*key, values.len())))
            .unwrap(),
        0
    );
    assert_eq!(seen, [(1, cpus as usize)]);
    assert!(map.take_into(&1, &mut values).unwrap());
    assert!(!map.delete(&1).unwrap());

    static ARRAY: MapDef<u32, u64> = MapDef::percpu_array("bs_maps_pcarray", 2);
    let map = PerCpuMap::create(&ARRAY).unwrap();
    let mut values = map.values();
    values.fill(&5);
    map.update(&1, &values).unwrap();
    assert_eq!(map.sum(&1).unwrap(), Some(5 * u64::from(cpus)));
    assert_eq!(map.sum(&2).unwrap(), None);

    static LRU: MapDef<u32, u64> = MapDef::new(MapType::LRU_PERCPU_HASH, "bs_maps_pclru", 8);
    let map = PerCpuMap::create(&LRU).unwrap();
    assert!(!map.replace(&1, &values).unwrap());
    map.update(&1, &values).unwrap();
    assert!(map.delete(&1).unwrap());
}

#[test]
fn another_type_does_not_fit() {
    needs!(Root);
    let map = Map::create(&HASH).unwrap();
    let id = map.info().unwrap().id;
    let wrong = Map::<u64, u64>::open_id(id).unwrap_err();
    assert_eq!(*wrong.problem(), Problem::Key { ours: 8 });
    assert_eq!(
        wrong.to_string(),
        "use as Map BPF_MAP_TYPE_HASH \"bs_maps_hash\" key 4 value 8: its keys have 4 bytes, the Rust type has 8"
    );
    let wrong = Map::<u32, u32>::open_id(id).unwrap_err();
    assert_eq!(*wrong.problem(), Problem::Value { ours: 4 });
    let wrong = PerCpuMap::<u32, u64>::open_id(id).unwrap_err();
    assert_eq!(*wrong.problem(), Problem::Kind { view: "Map" });
    let wrong = PerCpuMap::create(&HASH).unwrap_err();
    assert_eq!(
        wrong.to_string(),
        "use as PerCpuMap BPF_MAP_TYPE_HASH \"bs_maps_hash\" key 4 value 8: the view of this kind is Map"
    );
    let same = Map::<u32, u64>::open_id(id).unwrap();
    same.update(&5, &6).unwrap();
    assert_eq!(map.lookup(&5).unwrap(), Some(6));
    assert_eq!(map.try_clone().unwrap().lookup(&5).unwrap(), Some(6));
    assert_eq!(same.name().unwrap().as_str(), "bs_maps_hash");
}

#[test]
fn a_pin_outlives_its_maker() {
    needs!(Root, Bpffs);
    let mount = bpffs();
    let path = mount.path().join("hash");
    let (map, origin) = Map::open_or_create(&HASH, &path).unwrap();
    assert_eq!(origin, Origin::Created);
    map.update(&1, &2).unwrap();
    drop(map);
    let (map, origin) = Map::open_or_create(&HASH, &path).unwrap();
    assert_eq!((origin, map.lookup(&1).unwrap()), (Origin::Opened, Some(2)));
    static LARGER: MapDef<u32, u64> = MapDef::hash("bs_maps_hash", 2000);
    let other = Map::open_or_create(&LARGER, &path).unwrap_err();
    assert!(
        other
            .to_string()
            .ends_with("the number of entries is 1000, the definition says 2000"),
        "{other}"
    );
    assert_eq!(
        Map::<u32, u64>::open_pin(&path)
            .unwrap()
            .lookup(&1)
            .unwrap(),
        Some(2)
    );
    map.unpin(&path).unwrap();
    let gone = Handle::open_pin(&path).unwrap_err();
    assert_eq!(gone.errno(), Some(Errno::ENOENT));
    assert_eq!(map.lookup(&1).unwrap(), Some(2), "the handle is still open");
}

#[test]
fn a_frozen_map_is_read_only() {
    needs!(Root);
    let map = Map::create(&ARRAY).unwrap();
    map.update(&0, &1).unwrap();
    map.freeze().unwrap();
    assert_eq!(map.update(&0, &2).unwrap_err().errno(), Some(Errno::EPERM));
    assert_eq!(map.lookup(&0).unwrap(), Some(1));
}

#[test]
fn options_change_what_is_made() {
    needs!(Root);
    let options = Options {
        entries: Some(7),
        numa_node: Some(0),
        ..Options::default()
    };
    let map = Map::create_with(&HASH, &options).unwrap();
    let info = map.info().unwrap();
    assert_eq!((info.max_entries, info.map_flags), (7, 1 << 2));
}

#[test]
fn an_exclusive_map_says_so() {
    needs!(Root);
    let options = Options {
        exclusive: &[7; 32],
        ..Options::default()
    };
    match Map::create_with(&HASH, &options) {
        Ok(map) => {
            map.update(&1, &1).unwrap();
            assert_eq!(map.lookup(&1).unwrap(), Some(1));
        }
        // Kernels before 6.18 do not know of it.
        Err(error) => assert!(
            matches!(error.errno(), Some(Errno::E2BIG | Errno::EINVAL)),
            "{error}"
        ),
    }
}

#[test]
fn the_system_lists_our_map() {
    needs!(Root);
    static LISTED: MapDef<u32, u64> = MapDef::hash("bs_maps_listed", 1);
    let map = Map::create(&LISTED).unwrap();
    let id = map.info().unwrap().id;
    assert!(list::ids().any(|found| found.unwrap() == id));
    let listed = list::all()
        .map(Result::unwrap)
        .find(|(found, _)| *found == id);
    let (_, handle) = listed.unwrap();
    assert_eq!(handle.object(), map.object());
}

#[test]
fn an_array_can_be_mapped_into_memory() {
    needs!(Root, MmapArray);
    static COUNTERS: MapDef<u32, u64> = MapDef::array("bs_maps_mmap", 600).flags(1 << 10);
    let map = Map::create(&COUNTERS).unwrap();
    let memory = map.mapped().unwrap();
    memory.at(599).unwrap().fetch_add(4, Ordering::Relaxed);
    assert_eq!(map.lookup(&599).unwrap(), Some(4));
    map.update(&598, &7).unwrap();
    assert_eq!((memory.load(598), memory.load(600)), (Some(7), None));
    assert!(memory.at(600).is_none() && memory.store(600, &1).is_none());
    memory.store(0, &3).unwrap();
    assert_eq!(map.freeze().unwrap_err().errno(), Some(Errno::EBUSY));
    drop(memory);
    map.freeze().unwrap();
    assert_eq!(map.mapped().unwrap_err().errno(), Some(Errno::EPERM));
    let memory = map.mapped_to_read().unwrap();
    drop(map);
    assert_eq!(memory.load(0), Some(3), "the memory stays");
    assert_eq!(memory.len(), 600);

    let plain = Map::create(&ARRAY).unwrap();
    let refused = plain.mapped().unwrap_err();
    assert!(refused.to_string().contains("BPF_F_MMAPABLE"), "{refused}");
}

#[test]
fn structures_are_values() {
    needs!(Root);
    #[derive(Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, Immutable)]
    #[repr(C)]
    struct Pair {
        a: u16,
        b: [u8; 6],
    }
    static PAIRS: MapDef<Pair, Pair> = MapDef::hash("bs_maps_pairs", 4);
    let map = Map::create(&PAIRS).unwrap();
    let pair = Pair { a: 1, b: [2; 6] };
    map.update(&pair, &pair).unwrap();
    assert_eq!(map.lookup(&pair).unwrap(), Some(pair));
}
