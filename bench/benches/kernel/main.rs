//! Maps and ring buffers beside the peers: `cargo bench --bench kernel [-- maps|percpu|batch|ring]…`
//!
//! Needs root. All peers use the same map, but for the ring buffers, which have a reader of their own.

mod ring;

use aya::maps as aya_maps;
use bpfsmith_asm::dsl::*;
use bpfsmith_bench::arguments::{number, words};
use bpfsmith_bench::peers::*;
use bpfsmith_bench::rounds::{Peer, measure};
use bpfsmith_maps::{Batch, Handle, Map, PerCpuBatch, PerCpuMap};
use std::os::fd::{AsFd, AsRawFd};

const HASHED: u32 = 100_000;
const INDEXED: u32 = 10_000;

static HASH: MapDef<u32, u64> = MapDef::hash("hash", HASHED);
static ARRAY: MapDef<u32, u64> = MapDef::array("array", INDEXED);
static PERCPU_HASH: MapDef<u32, u64> = MapDef::percpu_hash("percpu_hash", INDEXED);
static PERCPU_ARRAY: MapDef<u32, u64> = MapDef::percpu_array("percpu_array", INDEXED);

fn main() {
    let chosen = words();
    let wants = |name: &str| chosen.is_empty() || chosen.iter().any(|arg| arg == name);
    let rounds = number("ROUNDS", 11);
    if wants("maps") {
        maps("hash", &HASH, HASHED, rounds);
        maps("array", &ARRAY, INDEXED, rounds);
        walk(rounds);
    }
    if wants("percpu") {
        percpu("per-CPU hash", &PERCPU_HASH, rounds);
        percpu("per-CPU array", &PERCPU_ARRAY, rounds);
    }
    if wants("batch") {
        batch(rounds);
        percpu_batch(rounds);
    }
    if wants("ring") {
        ring::drain(rounds);
    }
}

/// Every number below `count` once, in an order that no cache foresees.
fn shuffled(count: u32) -> Vec<u32> {
    let mut keys: Vec<u32> = (0..count).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for last in (1..keys.len()).rev() {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        keys.swap(last, (state >> 33) as usize % (last + 1));
    }
    keys
}

fn aya_data(map: &Handle) -> aya_maps::MapData {
    let id = map.info().expect("the map is there").id;
    aya_maps::MapData::from_id(id).expect("aya opens the map")
}

/// A sum over all keys: what each peer must agree on.
fn maps(what: &str, def: &MapDef<u32, u64>, count: u32, rounds: usize) {
    let map = Map::create(def).expect("needs root");
    let keys = shuffled(count);
    for &key in &keys {
        map.update(&key, &u64::from(key)).expect("there is room");
    }
    let fd = map.as_fd().as_raw_fd();
    let data = aya_data(&map);
    let is_hash = def.shape().kind == MapType::HASH;
    let expected: u64 = keys.iter().copied().map(u64::from).sum();
    let check = |sum: u64| assert_eq!(sum, expected, "a peer read something else");
    let unit = (keys.len(), "element");
    let least = keys.len();

    let aya_hash = is_hash.then(|| {
        aya_maps::HashMap::<_, u32, u64>::try_from(aya_maps::Map::HashMap(data)).expect("a hash")
    });
    let aya_array = (!is_hash).then(|| {
        let data = aya_data(&map);
        aya_maps::Array::<_, u64>::try_from(aya_maps::Map::Array(data)).expect("an array")
    });
    let peers = vec![
        Peer::new("raw system call", || {
            let mut sum = 0;
            for key in &keys {
                let mut value = 0_u64;
                assert_eq!(raw_elem(Cmd::MAP_LOOKUP_ELEM, fd, key, &mut value), 0);
                sum += value;
            }
            check(sum);
        }),
        Peer::new("bpfsmith lookup", || {
            let mut sum = 0;
            for key in &keys {
                sum += map.lookup(key).expect("no error").expect("it is there");
            }
            check(sum);
        }),
        Peer::new("bpfsmith lookup_into", || {
            let (mut sum, mut value) = (0, 0);
            for key in &keys {
                assert!(map.lookup_into(key, &mut value).expect("no error"));
                sum += value;
            }
            check(sum);
        }),
        Peer::new("libbpf", || {
            let mut sum = 0;
            for key in &keys {
                let mut value = 0_u64;
                assert_eq!(libbpf_lookup(fd, key, &mut value), 0);
                sum += value;
            }
            check(sum);
        }),
        Peer::new("aya", || {
            let mut sum = 0;
            for key in &keys {
                sum += match (&aya_hash, &aya_array) {
                    (Some(map), _) => map.get(key, 0).expect("it is there"),
                    (_, Some(map)) => map.get(key, 0).expect("it is there"),
                    _ => 0,
                };
            }
            check(sum);
        }),
    ];
    measure(
        &format!("{what} lookup"),
        unit,
        rounds,
        least,
        "raw system call",
        peers,
    );

    let mut aya_hash = aya_hash;
    let mut aya_array = aya_array;
    let peers = vec![
        Peer::new("raw system call", || {
            for key in &keys {
                let mut value = u64::from(*key);
                assert_eq!(raw_elem(Cmd::MAP_UPDATE_ELEM, fd, key, &mut value), 0);
            }
        }),
        Peer::new("bpfsmith update", || {
            for key in &keys {
                map.update(key, &u64::from(*key)).expect("no error");
            }
        }),
        Peer::new("libbpf", || {
            for key in &keys {
                assert_eq!(libbpf_update(fd, key, &u64::from(*key)), 0);
            }
        }),
        Peer::new("aya", || {
            for key in &keys {
                match (&mut aya_hash, &mut aya_array) {
                    (Some(map), _) => map.insert(key, u64::from(*key), 0).expect("no error"),
                    (_, Some(map)) => map.set(*key, u64::from(*key), 0).expect("no error"),
                    _ => {}
                }
            }
        }),
    ];
    measure(
        &format!("{what} update"),
        unit,
        rounds,
        least,
        "raw system call",
        peers,
    );
}

/// Walks over all elements, key by key.
fn walk(rounds: usize) {
    let map = Map::create(&HASH).expect("needs root");
    let keys = shuffled(HASHED);
    for &key in &keys {
        map.update(&key, &u64::from(key)).expect("there is room");
    }
    let fd = map.as_fd().as_raw_fd();
    let expected: u64 = keys.iter().copied().map(u64::from).sum();
    let check = |sum: u64| assert_eq!(sum, expected, "a peer read something else");
    let data = aya_maps::Map::HashMap(aya_data(&map));
    let aya = aya_maps::HashMap::<_, u32, u64>::try_from(data).expect("a hash");
    let peers = vec![
        Peer::new("raw next key and lookup", || {
            let (mut key, mut next, mut value, mut sum) = (u32::MAX, 0_u32, 0_u64, 0);
            // No element has the first key, so the walk starts at the beginning.
            while raw_elem(Cmd::MAP_GET_NEXT_KEY, fd, &key, &mut next) == 0 {
                key = next;
                assert_eq!(raw_elem(Cmd::MAP_LOOKUP_ELEM, fd, &key, &mut value), 0);
                sum += value;
            }
            check(sum);
        }),
        Peer::new("bpfsmith iter", || {
            check(map.iter().map(|entry| entry.expect("no error").1).sum());
        }),
        Peer::new("aya iter", || {
            check(aya.iter().map(|entry| entry.expect("no error").1).sum());
        }),
    ];
    let unit = (keys.len(), "element");
    let name = "raw next key and lookup";
    measure("hash walk", unit, rounds, keys.len(), name, peers);
}

fn percpu(what: &str, def: &MapDef<u32, u64>, rounds: usize) {
    let map = PerCpuMap::create(def).expect("needs root");
    let keys = shuffled(INDEXED);
    let mut values = map.values();
    for &key in &keys {
        values.fill(&u64::from(key));
        map.update(&key, &values).expect("there is room");
    }
    let fd = map.as_fd().as_raw_fd();
    let cpus = values.len();
    let expected: u64 = keys.iter().map(|&key| u64::from(key) * cpus as u64).sum();
    let check = |sum: u64| assert_eq!(sum, expected, "a peer read something else");
    let is_hash = def.shape().kind == MapType::PERCPU_HASH;
    let aya_hash = is_hash.then(|| {
        let data = aya_maps::Map::PerCpuHashMap(aya_data(&map));
        aya_maps::PerCpuHashMap::<_, u32, u64>::try_from(data).expect("a hash")
    });
    let aya_array = (!is_hash).then(|| {
        let data = aya_maps::Map::PerCpuArray(aya_data(&map));
        aya_maps::PerCpuArray::<_, u64>::try_from(data).expect("an array")
    });
    // All buffers lie on the heap: what costs most beside the system call is each further page that is
    // touched after it.
    let mut buffer = vec![0_u64; cpus];
    let mut other = vec![0_u64; cpus];
    let peers = vec![
        Peer::new("raw system call", || {
            let mut sum = 0;
            for key in &keys {
                assert_eq!(raw_elem(Cmd::MAP_LOOKUP_ELEM, fd, key, &mut buffer[0]), 0);
                sum += buffer.iter().sum::<u64>();
            }
            check(sum);
        }),
        Peer::new("bpfsmith lookup_into", || {
            let mut sum = 0;
            for key in &keys {
                assert!(map.lookup_into(key, &mut values).expect("no error"));
                sum += values.sum();
            }
            check(sum);
        }),
        Peer::new("libbpf", || {
            let mut sum = 0;
            for key in &keys {
                assert_eq!(libbpf_lookup(fd, key, &mut other[0]), 0);
                sum += other.iter().sum::<u64>();
            }
            check(sum);
        }),
        Peer::new("aya", || {
            let mut sum = 0;
            for key in &keys {
                let values = match (&aya_hash, &aya_array) {
                    (Some(map), _) => map.get(key, 0).expect("it is there"),
                    (_, Some(map)) => map.get(key, 0).expect("it is there"),
                    _ => continue,
                };
                sum += values.iter().sum::<u64>();
            }
            check(sum);
        }),
    ];
    let unit = (keys.len(), "element");
    let least = 4 * keys.len();
    measure(
        &format!("{what} lookup"),
        unit,
        rounds,
        least,
        "raw system call",
        peers,
    );

    let mut aya_hash = aya_hash;
    let mut aya_array = aya_array;
    let aya_values = || aya_maps::PerCpuValues::try_from(vec![7_u64; cpus]).expect("one each");
    values.fill(&7);
    let peers = vec![
        Peer::new("raw system call", || {
            for key in &keys {
                assert_eq!(raw_elem(Cmd::MAP_UPDATE_ELEM, fd, key, &mut buffer[0]), 0);
            }
        }),
        Peer::new("bpfsmith update", || {
            for key in &keys {
                map.update(key, &values).expect("no error");
            }
        }),
        Peer::new("libbpf", || {
            for key in &keys {
                assert_eq!(libbpf_update(fd, key, &other[0]), 0);
            }
        }),
        Peer::new("aya", || {
            for key in &keys {
                match (&mut aya_hash, &mut aya_array) {
                    (Some(map), _) => map.insert(key, aya_values(), 0).expect("no error"),
                    (_, Some(map)) => map.set(*key, aya_values(), 0).expect("no error"),
                    _ => {}
                }
            }
        }),
    ];
    let name = "raw system call";
    measure(&format!("{what} update"), unit, rounds, least, name, peers);
}

fn batch(rounds: usize) {
    let map = Map::create(&HASH).expect("needs root");
    let keys = shuffled(HASHED);
    let values: Vec<u64> = keys.iter().copied().map(u64::from).collect();
    map.update_many(&keys, &values).expect("there is room");
    let fd = map.as_fd().as_raw_fd();
    let unit = (keys.len(), "element");
    let (mut raw_keys, mut raw_values) = (vec![0; keys.len()], vec![0; keys.len()]);
    let (mut c_keys, mut c_values) = (vec![0; keys.len()], vec![0; keys.len()]);
    let data = aya_data(&map);
    let aya = aya_maps::HashMap::<_, u32, u64>::try_from(aya_maps::Map::HashMap(data));
    let aya = aya.expect("a hash");
    let mut all = Batch::with_room(keys.len());
    let mut part = Batch::with_room(8192);
    let peers = vec![
        Peer::new("raw, 8192 at once", || {
            assert_eq!(
                raw_batches(fd, &mut raw_keys, &mut raw_values, 8192),
                keys.len()
            );
        }),
        Peer::new("bpfsmith batches, 8192 at once", || {
            let mut count = 0;
            let mut batches = map.batches();
            while batches.read(&mut part).expect("no error") {
                count += part.keys().len();
            }
            assert_eq!(count, keys.len());
        }),
        Peer::new("bpfsmith read_all", || {
            map.read_all(&mut all).expect("no error");
            assert_eq!(all.keys().len(), keys.len());
        }),
        Peer::new("libbpf, 8192 at once", || {
            assert_eq!(
                libbpf_batches(fd, &mut c_keys, &mut c_values, 8192),
                keys.len()
            );
        }),
        Peer::new("aya iterator (it has no batches)", || {
            assert_eq!(aya.iter().filter(Result::is_ok).count(), keys.len());
        }),
    ];
    measure(
        "batch lookup",
        unit,
        rounds,
        keys.len(),
        "raw, 8192 at once",
        peers,
    );
    let peers = vec![
        Peer::new("raw", || {
            assert_eq!(raw_update_batch(fd, &keys, &values), 0)
        }),
        Peer::new("bpfsmith update_many", || {
            map.update_many(&keys, &values).expect("no error");
        }),
        Peer::new("libbpf", || {
            assert_eq!(libbpf_update_batch(fd, &keys, &values), 0)
        }),
    ];
    measure("batch update", unit, rounds, keys.len(), "raw", peers);
}

fn percpu_batch(rounds: usize) {
    let map = PerCpuMap::create(&PERCPU_HASH).expect("needs root");
    let keys = shuffled(INDEXED);
    let mut values = map.values();
    for &key in &keys {
        values.fill(&u64::from(key));
        map.update(&key, &values).expect("there is room");
    }
    let fd = map.as_fd().as_raw_fd();
    let cpus = values.len();
    let (mut raw_keys, mut raw_values) = (vec![0; keys.len()], vec![0; keys.len() * cpus]);
    let (mut c_keys, mut c_values) = (vec![0; keys.len()], vec![0; keys.len() * cpus]);
    let mut all = PerCpuBatch::default();
    let peers = vec![
        Peer::new("raw", || {
            let count = raw_batches(fd, &mut raw_keys, &mut raw_values, keys.len());
            assert_eq!(count, keys.len());
        }),
        Peer::new("bpfsmith read_all", || {
            map.read_all(&mut all).expect("no error");
            assert_eq!(all.keys().len(), keys.len());
        }),
        Peer::new("libbpf", || {
            let count = libbpf_batches(fd, &mut c_keys, &mut c_values, keys.len());
            assert_eq!(count, keys.len());
        }),
    ];
    let unit = (keys.len(), "element");
    measure(
        "per-CPU batch lookup",
        unit,
        rounds,
        10 * keys.len(),
        "raw",
        peers,
    );
}
