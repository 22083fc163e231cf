//! The hints of errors: each row of the table is provoked.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use bpfsmith_gate::{bpffs, cgroup, needs, version};
use bpfsmith_maps::{
    Handle, Map, ObjectMap, Options, PerCpuMap, Problem, Target, TargetMap, hints, list,
};
use bpfsmith_uapi::MapType;
use bpfsmith_uapi::map::MapDef;
use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

const NO_PREALLOC: u32 = 1;

/// Notes the hint of a refusal.
struct Provoked(BTreeSet<&'static str>, Vec<String>);

impl Provoked {
    #[track_caller]
    fn by<T>(&mut self, done: bpfsmith_maps::Result<T>) {
        let line = std::panic::Location::caller().line();
        let error = match done {
            Ok(_) => return self.1.push(format!("line {line}: not refused")),
            Err(error) => error,
        };
        let Some(hint) = error.hint() else {
            return self.1.push(format!("line {line}: no hint: {error}"));
        };
        assert!(error.to_string().ends_with(&format!("({hint})")), "{error}");
        self.0.insert(hint);
    }
}

fn create<K, V>(kind: MapType, entries: u32, flags: u32) -> bpfsmith_maps::Result<Handle> {
    Handle::create(
        MapDef::<K, V>::new(kind, "bs_maps_hint", entries)
            .flags(flags)
            .shape(),
    )
}

#[test]
fn the_text_names_command_kind_name_sizes_errno_and_hint() {
    needs!(Root);
    let def = MapDef::<[u8; 3], u64>::new(MapType::ARRAY, "hits", 1);
    assert_eq!(
        Map::create(&def).unwrap_err().to_string(),
        "BPF_MAP_CREATE BPF_MAP_TYPE_ARRAY \"hits\" key 3 value 8: EINVAL (an array key is 4 bytes)"
    );
}

#[test]
fn each_row_is_provoked() {
    needs!(Root, Bpffs, Cgroup2, PerfEvents, Sockmap, Reuseport, Xsk);
    let mut seen = Provoked(BTreeSet::new(), Vec::new());
    creations(&mut seen);
    elements(&mut seen);
    objects(&mut seen);
    targets(&mut seen);
    names(&mut seen);
    assert!(seen.1.is_empty(), "{:#?}", seen.1);
    let missing: Vec<_> = hints()
        .into_iter()
        .filter(|hint| !seen.0.contains(hint))
        // Needs a process without rights: see kernel_faults.
        .filter(|hint| !hint.starts_with("it takes CAP_BPF"))
        // Needs programs: see kernel_stream_faults of the loader.
        .filter(|hint| !hint.starts_with("the socket is in a map with programs"))
        // Linux 6.1 says that with EBUSY, as for a map that is mapped.
        .filter(|hint| {
            version().major > 6 || version().minor > 1 || !hint.contains("reading alone")
        })
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

fn creations(seen: &mut Provoked) {
    seen.by(create::<u64, u64>(MapType::ARRAY, 1, 0));
    seen.by(create::<u64, u32>(MapType::DEVMAP, 1, 0));
    seen.by(create::<u32, u32>(MapType::QUEUE, 1, 0));
    seen.by(create::<u32, u32>(MapType::RINGBUF, 4096, 0));
    seen.by(create::<(), ()>(MapType::RINGBUF, 5000, 0));
    seen.by(create::<u64, u32>(MapType::SK_STORAGE, 0, NO_PREALLOC));
    seen.by(create::<i32, u32>(MapType::SK_STORAGE, 1, NO_PREALLOC));
    seen.by(create::<i32, u32>(MapType::TASK_STORAGE, 0, 0));
    seen.by(create::<i32, u32>(MapType::CGRP_STORAGE, 0, NO_PREALLOC));
    seen.by(create::<(), ()>(MapType::ARENA, 1, 0));
    seen.by(create::<u64, u64>(MapType::CGROUP_STORAGE, 1, 0));
    seen.by(create::<u32, u64>(MapType::HASH, 0, 0));
    seen.by(create::<u32, u64>(MapType::HASH, u32::MAX, 0));
    seen.by(create::<u32, [u8; 1 << 20]>(MapType::ARRAY, u32::MAX, 0));
    seen.by(create::<[u8; 8], u64>(MapType::LPM_TRIE, 1, 0));
    seen.by(create::<u32, u64>(MapType::LPM_TRIE, 1, NO_PREALLOC));
    seen.by(create::<u32, u64>(MapType::PROG_ARRAY, 1, 0));
    let alone = create::<u32, u32>(MapType::HASH_OF_MAPS, 1, 0).unwrap_err();
    assert_eq!(*alone.problem(), Problem::NoInner, "{alone}");
    seen.by(create::<u32, [u8; 40000]>(MapType::PERCPU_HASH, 1, 0));
    seen.by(create::<(), u32>(MapType::HASH, 1, 0));
    seen.by(create::<u32, ()>(MapType::HASH, 1, 0));
}

fn elements(seen: &mut Provoked) {
    static ARRAY: MapDef<u32, u64> = MapDef::array("bs_maps_array", 1);
    let array = Map::create(&ARRAY).unwrap();
    seen.by(array.locked().lookup(&0));
    seen.by(array.update(&1, &0));
    seen.by(array.delete(&0));
    seen.by(array.take(&0));
    static HASH: MapDef<u32, u64> = MapDef::hash("bs_maps_hash", 1);
    let hash = Map::create(&HASH).unwrap();
    hash.update(&1, &1).unwrap();
    seen.by(hash.update(&2, &2));
    static TRIE: MapDef<[u8; 8], u64> = MapDef::lpm_trie("bs_maps_trie", 1);
    let trie = Map::create(&TRIE).unwrap();
    let key = |last| {
        [8_u32.to_ne_bytes(), [last, 0, 0, 0]]
            .as_flattened()
            .try_into()
            .unwrap()
    };
    trie.update(&key(1), &1).unwrap();
    seen.by(trie.update(&key(2), &1));
    seen.by(trie.update(&[33; 8], &1));
    hash.freeze().unwrap();
    seen.by(hash.update(&1, &1));
    seen.by(hash.freeze());
    static MAPPED: MapDef<u32, u64> = MapDef::array("bs_maps_mapped", 1).flags(1 << 10);
    let mapped = Map::create(&MAPPED).unwrap();
    let memory = mapped.mapped().unwrap();
    seen.by(mapped.freeze());
    drop(memory);
    static MUTE: MapDef<u32, u64> = MapDef::hash("bs_maps_mute", 1).flags(1 << 4);
    seen.by(Map::create(&MUTE).unwrap().lookup(&1));
    static TRACES: MapDef<u32, [u64; 8]> = MapDef::new(MapType::STACK_TRACE, "bs_maps_traces", 4);
    seen.by(Map::create(&TRACES).unwrap().update(&1, &[0; 8]));
    static LRU: MapDef<u32, u64> = MapDef::new(MapType::LRU_PERCPU_HASH, "bs_maps_lru", 0);
    seen.by(PerCpuMap::create_with(&LRU, &Options::default()));
}

fn objects(seen: &mut Provoked) {
    let file = std::fs::File::open("/proc/self/maps").unwrap();
    static EVENTS: MapDef<u32, u32> = MapDef::new(MapType::PERF_EVENT_ARRAY, "bs_maps_events", 1);
    let events = ObjectMap::create(&EVENTS).unwrap();
    seen.by(events.id(&0));
    seen.by(events.set(&0, &file));
    static GROUPS: MapDef<u32, u32> = MapDef::new(MapType::CGROUP_ARRAY, "bs_maps_groups", 1);
    let groups = ObjectMap::create(&GROUPS).unwrap();
    groups.set(&0, cgroup("hints").open().unwrap()).unwrap();
    seen.by(groups.id(&0));
    static PROGS: MapDef<u32, u32> = MapDef::prog_array("bs_maps_progs", 1);
    let progs = ObjectMap::create(&PROGS).unwrap();
    seen.by(progs.set(&0, &progs));
    static INNER: MapDef<u32, u64> = MapDef::array("bs_maps_inner", 1);
    static OUTER: MapDef<u32, u32> =
        MapDef::new(MapType::HASH_OF_MAPS, "bs_maps_outer", 1).inner(INNER.shape());
    let outer = ObjectMap::create(&OUTER).unwrap();
    seen.by(outer.set(&0, &progs));
    static XSKS: MapDef<u32, u32> = MapDef::new(MapType::XSKMAP, "bs_maps_xsks", 1);
    let xsks = ObjectMap::create(&XSKS).unwrap();
    seen.by(xsks.id(&0));
    static SOCKS: MapDef<u32, u32> = MapDef::new(MapType::SOCKMAP, "bs_maps_socks", 1);
    let socks = ObjectMap::create(&SOCKS).unwrap();
    seen.by(socks.id(&0));
    let unconnected = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Inet,
        nix::sys::socket::SockType::Stream,
        nix::sys::socket::SockFlag::empty(),
        None,
    );
    let unconnected = unconnected.unwrap();
    seen.by(xsks.set(&0, &unconnected));
    seen.by(socks.set(&0, unconnected));
    seen.by(socks.set(&0, std::fs::File::open("/proc/self/maps").unwrap()));
    static REUSE: MapDef<u32, u32> = MapDef::new(MapType::REUSEPORT_SOCKARRAY, "bs_maps_reuse", 1);
    seen.by(ObjectMap::create(&REUSE).unwrap().id(&0));
}

fn targets(seen: &mut Provoked) {
    static DEVICES: MapDef<u32, Target> = MapDef::new(MapType::DEVMAP, "bs_maps_devs", 1);
    let devices = TargetMap::create(&DEVICES).unwrap();
    seen.by(devices.set(0, 0x00ff_ffff));
    static CPUS: MapDef<u32, Target> = MapDef::new(MapType::CPUMAP, "bs_maps_cpus", 64);
    let cpus = TargetMap::create(&CPUS).unwrap();
    seen.by(cpus.set(63, 1));
    seen.by(cpus.set(0, 20000));
    seen.by(cpus.set_with(0, 1, &cpus));
}

fn names(seen: &mut Provoked) {
    let mount = bpffs();
    let path = mount.path().join("pin");
    static HASH: MapDef<u32, u64> = MapDef::hash("bs_maps_pin", 1);
    let hash = Map::create(&HASH).unwrap();
    seen.by(Map::<u32, u64>::open_pin(&path));
    hash.pin(&path).unwrap();
    seen.by(hash.pin(&path));
    let outside = std::env::temp_dir().join(format!("bs-maps-pin-{}", std::process::id()));
    seen.by(hash.pin(&outside));
    seen.by(Handle::open_pin("/proc/self/maps"));
    let last = list::ids().last().unwrap().unwrap();
    seen.by(Handle::open_id(last + 100_000));
    let file = std::fs::File::open("/proc/self/maps").unwrap();
    seen.by(Handle::from_fd(OwnedFd::from(file)));
}
