//! Faults: what must leave nothing behind. One test, because it counts the process's descriptors.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use bpfsmith_gate::{needs, open_fds};
use bpfsmith_maps::{Map, PerCpuMap};
use bpfsmith_uapi::map::MapDef;
use bpfsmith_uapi::{Errno, MapType};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Tells the child what to do.
const ROLE: &str = "BS_MAPS_ROLE";

static HASH: MapDef<u32, u64> = MapDef::hash("bs_maps_fault", 4);

#[test]
fn nothing_is_left_behind() {
    match std::env::var(ROLE).as_deref() {
        Ok("unprivileged") => return child_without_rights(),
        Ok("inherits") => return child_inherits_nothing(),
        _ => {}
    }
    needs!(Root);
    ten_thousand_maps();
    refusals();
    let map = Map::create(&HASH).unwrap();
    map.update(&1, &1).unwrap();
    // A fork and exec between open and use: the fd is closed there and works on here.
    assert!(again("inherits", None));
    assert_eq!(map.lookup(&1).unwrap(), Some(1));
    assert!(again("unprivileged", Some(65534)));
}

fn ten_thousand_maps() {
    let before = open_fds();
    for _ in 0..10_000 {
        let map = Map::create(&HASH).unwrap();
        map.update(&1, &1).unwrap();
    }
    let left = open_fds().opened_since(&before);
    assert!(left.is_empty(), "{left}");
}

fn refusals() {
    let before = open_fds();
    static WRONG: MapDef<[u8; 3], u64> = MapDef::new(MapType::ARRAY, "bs_maps_wrong", 1);
    static NESTED: MapDef<u32, u32> =
        MapDef::new(MapType::ARRAY_OF_MAPS, "bs_maps_nested", 0).inner(HASH.shape());
    static TYPED: MapDef<u32, u64> = MapDef::new(MapType::ARRAY, "bs_maps_typed", 0).described();
    for _ in 0..100 {
        assert!(Map::create(&WRONG).is_err());
        assert!(bpfsmith_maps::ObjectMap::create(&NESTED).is_err());
        assert!(Map::create(&TYPED).is_err());
        assert!(PerCpuMap::create(&HASH).is_err());
        let map = Map::create(&HASH).unwrap();
        let id = map.info().unwrap().id;
        assert!(Map::<u64, u64>::open_id(id).is_err());
        assert!(Map::<u64, u64>::from_handle(map.into()).is_err());
    }
    let left = open_fds().opened_since(&before);
    assert!(left.is_empty(), "{left}");
}

/// Runs this test again in a role, and says whether it passed.
fn again(role: &str, uid: Option<u32>) -> bool {
    let mut command = Command::new("/proc/self/exe");
    command.args([
        "--exact",
        "nothing_is_left_behind",
        "--nocapture",
    ]);
    command.env(ROLE, role).env("BPFSMITH_STRICT", "1");
    if let Some(uid) = uid {
        command.uid(uid).gid(uid);
    }
    command.status().unwrap().success()
}

fn child_inherits_nothing() {
    let maps = open_fds().to("bpf-map");
    assert!(maps.is_empty(), "{maps}");
}

fn child_without_rights() {
    let refused = Map::create(&HASH).unwrap_err();
    assert_eq!(refused.errno(), Some(Errno::EPERM));
    assert!(refused.to_string().contains("CAP_BPF"), "{refused}");
    let refused = bpfsmith_maps::list::ids().next().unwrap().unwrap_err();
    assert_eq!(refused.errno(), Some(Errno::EPERM));
}
