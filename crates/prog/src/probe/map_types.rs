//! Map types: the smallest map of each.

use super::Support;
use super::features::{struct_ops, struct_ops_names};
use super::trial::{create, map};
use crate::kernel;
use bpfsmith_btf::{Builder, Number};
use bpfsmith_sys::map::{Create, Map};
use bpfsmith_sys::misc::load_btf;
use bpfsmith_sys::prog::Log;
use bpfsmith_uapi::flags::map_create::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use bpfsmith_uapi::{Errno, MapType};
use std::os::fd::AsFd;

/// Rings are whole pages, also where a page has 64 KiB.
const RING: u32 = 64 << 10;

/// Whether maps of this type can be made.
#[must_use]
pub fn map_type(kind: MapType) -> Support {
    if kind == MapType::STRUCT_OPS {
        let Some(first) = struct_ops_names().into_iter().next() else {
            return match kernel::btf() {
                Ok(_) => Support::No("the kernel's BTF has no such interface".to_owned()),
                Err(error) => super::prog_types::without_btf(error),
            };
        };
        return struct_ops(&first);
    }
    Support::unless(smallest(kind), &[])
}

/// The smallest map of a type.
pub(super) fn smallest(kind: MapType) -> Result<Map, Errno> {
    let (sizes, flags) = match kind {
        MapType::STACK_TRACE => ([4, 8, 1], 0),
        MapType::LPM_TRIE => ([8, 8, 1], BPF_F_NO_PREALLOC),
        // A cgroup's id and an attach type.
        MapType::CGROUP_STORAGE | MapType::PERCPU_CGROUP_STORAGE => ([16, 8, 0], 0),
        MapType::QUEUE | MapType::STACK | MapType::BLOOM_FILTER => ([0, 4, 1], 0),
        MapType::RINGBUF | MapType::USER_RINGBUF => ([0, 0, RING], 0),
        MapType::ARENA => ([0, 0, 1], BPF_F_MMAPABLE),
        MapType::ARRAY_OF_MAPS | MapType::HASH_OF_MAPS => return outer(kind),
        MapType::SK_STORAGE
        | MapType::INODE_STORAGE
        | MapType::TASK_STORAGE
        | MapType::CGRP_STORAGE => return storage(kind),
        _ => ([4, 4, 1], 0),
    };
    map(kind, sizes, flags)
}

fn outer(kind: MapType) -> Result<Map, Errno> {
    let inner = map(MapType::ARRAY, [4, 4, 1], 0)?;
    create(&Create {
        kind: kind.0,
        key: 4,
        value: 4,
        entries: 1,
        inner: Some(inner.as_fd()),
        ..Create::default()
    })
}

/// What belongs to sockets, tasks and the like must be described.
fn storage(kind: MapType) -> Result<Map, Errno> {
    let mut builder = Builder::new();
    let int = builder.number(Number::I32).0;
    let blob = builder.build().map_err(|_| Errno::EINVAL)?;
    let types = load_btf(&blob, &mut Log::default(), None).map_err(|failed| failed.errno)?;
    create(&Create {
        kind: kind.0,
        key: 4,
        value: 4,
        flags: BPF_F_NO_PREALLOC,
        btf: Some((types.as_fd(), int, int)),
        ..Create::default()
    })
}
