//! Sets of maps as users of the facade meet them: one method opens every view.

#![expect(clippy::unwrap_used, reason = "tests may panic")]

use bpfsmith::dsl::*;
use bpfsmith::kit::map::{count_at, count_percpu_at};
use bpfsmith::maps::{Map, PerCpuMap, RingBuf};
use bpfsmith::prog::{Error, Load, Maps};
use bpfsmith_gate::needs;

static PLAIN: MapDef<u32, u64> = MapDef::array("plain", 1);
static SPLIT: MapDef<u32, u64> = MapDef::percpu_array("split", 1);
static RING: MapDef<(), ()> = MapDef::ringbuf("ring", 4096);
static ABSENT: MapDef<u32, u64> = MapDef::array("absent", 1);

fn program() -> Program {
    let code = code![
        count_at(&PLAIN, 0, 1),
        count_percpu_at(&SPLIT, 0, 2),
        ringbuf_query(&RING, 0),
        ret(XDP_PASS),
    ];
    Program::new(ProgType::XDP, "bs_sets", code).unwrap()
}

#[test]
fn every_view_is_opened_by_its_definition() {
    needs!(Root, Bpf, RingBuf);
    let program = program();
    let maps = Maps::of(&program).unwrap();
    let plain: Map<u32, u64> = maps.open(&PLAIN).unwrap();
    let split: PerCpuMap<_, _> = maps.open(&SPLIT).unwrap();
    let ring: RingBuf = maps.open(&RING).unwrap();
    let prog = Load::new(&program).maps(&maps).load().unwrap();
    prog.run().data(&[0; 64]).repeat(3).go().unwrap();
    assert_eq!(plain.lookup(&0).unwrap(), Some(3));
    assert_eq!(split.sum(&0).unwrap(), Some(6));
    assert_eq!(ring.size(), 4096);
}

#[test]
fn what_does_not_fit_is_refused() {
    needs!(Root, Bpf, RingBuf);
    let maps = Maps::of(&program()).unwrap();
    let wrong = maps.open::<Map<u32, u64>, _, _>(&SPLIT).unwrap_err();
    assert!(wrong.to_string().contains("PerCpuMap"), "{wrong}");
    let absent = maps.open::<Map<u32, u64>, _, _>(&ABSENT).unwrap_err();
    assert!(
        matches!(&absent, Error::MissingMap { map, .. } if map.as_str() == "absent"),
        "{absent}"
    );
    // Another definition may have the same name; the map is what it was made as.
    let other: MapDef<u64, u64> = MapDef::hash("plain", 1);
    let misfit = maps.open::<Map<u64, u64>, _, _>(&other).unwrap_err();
    assert!(misfit.to_string().contains("key"), "{misfit}");
    let first: RingBuf = maps.open(&RING).unwrap();
    let second = maps.open::<RingBuf, _, _>(&RING).unwrap_err();
    assert!(second.to_string().contains("already"), "{second}");
    drop(first);
    maps.open::<RingBuf, _, _>(&RING).unwrap();
}
