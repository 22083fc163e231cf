//! A definition for each kind of map.

use bpfsmith_maps::LpmKey;
use bpfsmith_uapi::MapType;
use bpfsmith_uapi::map::{MapDef, MapShape};
use bpfsmith_uapi::record::Described;

/// The maps inside of maps.
pub(crate) static INNER: MapDef<u32, u64> = MapDef::array("bs_maps_inner", 2);

/// A small map of that kind that the kernel can make, with types where those are allowed.
pub(crate) fn shape(kind: MapType) -> MapShape {
    const NO_PREALLOC: u32 = 1;
    const MMAPABLE: u32 = 1 << 10;
    let keyless = || {
        let mut shape = *MapDef::<(), u32>::new(kind, "bs_maps_kind", 4).shape();
        (shape.key_type, shape.value_type) = (Some(u32::TYPE), Some(u32::TYPE));
        shape
    };
    let bare = |entries, flags| {
        let mut shape = *MapDef::<(), ()>::new(kind, "bs_maps_kind", entries)
            .flags(flags)
            .shape();
        (shape.key_type, shape.value_type) = (Some(u32::TYPE), Some(u32::TYPE));
        shape
    };
    match kind {
        MapType::LPM_TRIE => *MapDef::<LpmKey<[u8; 4]>, u32>::lpm_trie("bs_maps_kind", 4)
            .described()
            .shape(),
        MapType::QUEUE | MapType::STACK | MapType::BLOOM_FILTER => keyless(),
        MapType::STACK_TRACE => *MapDef::<u32, [u64; 8]>::new(kind, "bs_maps_kind", 4)
            .described()
            .shape(),
        MapType::RINGBUF | MapType::USER_RINGBUF => bare(4096, 0),
        MapType::ARENA => bare(1, MMAPABLE),
        MapType::SK_STORAGE
        | MapType::TASK_STORAGE
        | MapType::INODE_STORAGE
        | MapType::CGRP_STORAGE => *MapDef::<i32, u64>::new(kind, "bs_maps_kind", 0)
            .flags(NO_PREALLOC)
            .described()
            .shape(),
        MapType::CGROUP_STORAGE | MapType::PERCPU_CGROUP_STORAGE => {
            *MapDef::<u64, u64>::new(kind, "bs_maps_kind", 0)
                .described()
                .shape()
        }
        MapType::ARRAY_OF_MAPS | MapType::HASH_OF_MAPS => {
            *MapDef::<u32, u32>::new(kind, "bs_maps_kind", 4)
                .inner(INNER.shape())
                .described()
                .shape()
        }
        _ => *MapDef::<u32, u32>::new(kind, "bs_maps_kind", 4)
            .described()
            .shape(),
    }
}
