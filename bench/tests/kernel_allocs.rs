//! Operations on maps do not allocate: exact numbers, on the running kernel. Needs root.

use bpfsmith_asm::dsl::MapDef;
use bpfsmith_bench::count::{Counting, allocations};
use bpfsmith_maps::{Batch, Map, PerCpuBatch, PerCpuMap};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static HASH: MapDef<u32, u64> = MapDef::hash("hash", 1000);
static PERCPU: MapDef<u32, u64> = MapDef::percpu_hash("percpu", 1000);

#[test]
fn single_operations() {
    let map = Map::create(&HASH).expect("needs root");
    let mut value = 0;
    let operations: [(&str, &mut dyn FnMut()); 6] = [
        ("update", &mut || map.update(&1, &2).expect("there is room")),
        ("lookup", &mut || {
            assert_eq!(map.lookup(&1).expect("no error"), Some(2))
        }),
        ("lookup_into", &mut || {
            assert!(map.lookup_into(&1, &mut value).expect("no error"))
        }),
        ("lookup of nothing", &mut || {
            assert_eq!(map.lookup(&9).expect("no error"), None)
        }),
        ("take", &mut || {
            assert_eq!(map.take(&1).expect("no error"), Some(2))
        }),
        ("delete of nothing", &mut || {
            assert!(!map.delete(&1).expect("no error"))
        }),
    ];
    for (what, operation) in operations {
        assert_eq!(allocations(operation), 0, "{what}");
    }
}

#[test]
fn values_of_every_cpu() {
    let map = PerCpuMap::create(&PERCPU).expect("needs root");
    let mut values = map.values();
    values.fill(&7);
    assert_eq!(
        allocations(|| map.update(&1, &values).expect("there is room")),
        0
    );
    let read = allocations(|| {
        assert!(map.lookup_into(&1, &mut values).expect("no error"));
        assert_eq!(values.sum(), 7 * values.len() as u64);
    });
    assert_eq!(read, 0);
}

#[test]
fn walks_and_batches() {
    let map = Map::create(&HASH).expect("needs root");
    let keys: Vec<u32> = (0..1000).collect();
    let values: Vec<u64> = keys.iter().copied().map(u64::from).collect();
    assert_eq!(
        allocations(|| map.update_many(&keys, &values).expect("there is room")),
        0
    );
    let walk = allocations(|| assert_eq!(map.iter().filter(Result::is_ok).count(), 1000));
    assert_eq!(walk, 0, "a walk");
    let mut batch = Batch::with_room(2000);
    let read = allocations(|| map.read_all(&mut batch).expect("no error"));
    assert_eq!((read, batch.keys().len()), (0, 1000));

    let percpu = PerCpuMap::create(&PERCPU).expect("needs root");
    let mut one = percpu.values();
    one.fill(&1);
    for key in &keys {
        percpu.update(key, &one).expect("there is room");
    }
    let mut batch = PerCpuBatch::default();
    percpu.read_all(&mut batch).expect("no error");
    let again = allocations(|| percpu.read_all(&mut batch).expect("no error"));
    assert_eq!((again, batch.keys().len()), (0, 1000));
}
