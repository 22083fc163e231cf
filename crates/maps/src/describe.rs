//! Telling the kernel the types of keys and values.

use crate::error::{Error, Object, Problem, Result};
use crate::handle::Types;
use bpfsmith_btf::{Builder, TypeId};
use bpfsmith_sys::misc;
use bpfsmith_sys::prog::Log;
use bpfsmith_uapi::map::MapShape;
use bpfsmith_uapi::{Cmd, MapType};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Kinds whose creation the kernel refuses when types are given.
pub(crate) const REFUSED: &[MapType] = &[
    MapType::PERF_EVENT_ARRAY,
    MapType::STACK_TRACE,
    MapType::CGROUP_ARRAY,
    MapType::ARRAY_OF_MAPS,
    MapType::HASH_OF_MAPS,
    MapType::DEVMAP,
    MapType::DEVMAP_HASH,
    MapType::CPUMAP,
    MapType::XSKMAP,
    MapType::SOCKMAP,
    MapType::SOCKHASH,
    MapType::QUEUE,
    MapType::STACK,
    MapType::RINGBUF,
    MapType::USER_RINGBUF,
    MapType::ARENA,
];

/// A map's types as the kernel holds them.
pub(crate) struct Loaded {
    fd: OwnedFd,
    key: TypeId,
    value: TypeId,
}

impl Loaded {
    pub(crate) fn types(&self) -> Types<'_> {
        Types {
            btf: self.fd.as_fd(),
            key: self.key,
            value: self.value,
        }
    }
}

/// Has the kernel load the types of a definition; `None` when it describes none, or its kind takes
/// none.
pub(crate) fn load(shape: &MapShape, token: Option<BorrowedFd<'_>>) -> Result<Option<Loaded>> {
    let (Some(key), Some(value)) = (&shape.key_type, &shape.value_type) else {
        return Ok(None);
    };
    if REFUSED.contains(&shape.kind) {
        return Ok(None);
    }
    let object = Object::from(shape);
    let mut builder = Builder::new();
    let value = builder.described(value);
    let key = if shape.key == 0 {
        TypeId::VOID
    } else {
        builder.described(key)
    };
    let blob = builder
        .build()
        .map_err(|error| Error::new(Cmd::BTF_LOAD, object, Problem::Btf(error)))?;
    let mut log = Log {
        level: 0,
        buffer: &mut [],
        true_size: 0,
    };
    let fd = misc::load_btf(&blob, &mut log, token)
        .map_err(|failed| Error::kernel(failed.cmd, object, failed.errno))?;
    Ok(Some(Loaded { fd, key, value }))
}
