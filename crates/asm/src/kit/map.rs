//! Map entries: find or make one, and count in one.

use crate::dsl::flags::map_elem::BPF_NOEXIST;
use crate::dsl::*;
use crate::kit::event::zero;

/// Makes R0 point to the value under the key, which is inserted with the value at `initial` if it is
/// not there. If another CPU inserts it meanwhile, R0 is the other's. Jumps to `full` if there is no
/// room. Key and value are on the stack, or behind one of R6 to R9. Clobbers R0 to R5.
pub fn lookup_or_init<K, V>(
    map: &MapDef<K, V>,
    key: impl Into<Place>,
    initial: impl Into<Place>,
    full: Label,
) -> Code {
    let key = key.into();
    code![
        map_lookup_elem(map, key),
        R0.eq(0).then(code![
            map_update_elem(map, key, initial.into(), BPF_NOEXIST),
            map_lookup_elem(map, key),
            jeq(R0, 0, full),
        ]),
    ]
}

/// As [`lookup_or_init`], with all bytes of a new value zero.
pub fn lookup_or_zero<K, V>(map: &MapDef<K, V>, key: impl Into<Place>, full: Label) -> Code {
    let (key, initial) = (key.into(), slot::<V>("initial"));
    code![
        map_lookup_elem(map, key),
        R0.eq(0).then(code![
            zero::<V>(initial),
            map_update_elem(map, key, initial, BPF_NOEXIST),
            map_lookup_elem(map, key),
            jeq(R0, 0, full),
        ]),
    ]
}

/// Adds `by` to the value under the key, if it is there, at once for all CPUs. `by` is a number, or
/// one of R6 to R9. Clobbers R0 to R5.
pub fn count<K>(map: &MapDef<K, u64>, key: impl Into<Place>, by: impl Operand<Reg>) -> Code {
    code![
        map_lookup_elem(map, key.into()),
        R0.ne(0).then([mov(R1, by), atomic_add(R0.u64(0), R1)]),
    ]
}

/// As [`count`], at an index of an array.
pub fn count_at(map: &MapDef<u32, u64>, index: u32, by: impl Operand<Reg>) -> Code {
    let key = slot::<u32>("index");
    code![
        store(key.u32(0), index),
        count(map, key, by)
    ]
}

/// Adds `by` to this CPU's value under the key, if it is there. For per-CPU maps: elsewhere two CPUs
/// may overwrite each other's sum. `by` is a number, or one of R6 to R9. Clobbers R0 to R5.
pub fn count_percpu<K>(map: &MapDef<K, u64>, key: impl Into<Place>, by: impl Operand<Reg>) -> Code {
    code![
        map_lookup_elem(map, key.into()),
        R0.ne(0).then([
            load(R1, R0.u64(0)),
            add(R1, by),
            store(R0.u64(0), R1),
        ]),
    ]
}

/// As [`count_percpu`], at an index of a per-CPU array.
pub fn count_percpu_at(map: &MapDef<u32, u64>, index: u32, by: impl Operand<Reg>) -> Code {
    let key = slot::<u32>("index");
    code![
        store(key.u32(0), index),
        count_percpu(map, key, by),
    ]
}
