//! Telling the kernel the types of keys and values.

use crate::error::{Error, Object, Problem, Result};
use crate::handle::Types;
use bpfsmith_btf::{Builder, Number, TypeId};
use bpfsmith_sys::map::{Create, Map};
use bpfsmith_sys::misc;
use bpfsmith_sys::prog::Log;
use bpfsmith_uapi::flags::map_create;
use bpfsmith_uapi::map::MapShape;
use bpfsmith_uapi::record::{Hold, Type};
use bpfsmith_uapi::{Cmd, Errno, MapType};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

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
    spell(&mut builder, value);
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

/// Has pointers into the kernel tagged with the words of the running kernel: those before 6.4 took
/// today's word for a pointer that counts for one that does not.
#[doc(hidden)]
pub fn spell(builder: &mut Builder, ty: &Type) {
    if has_pointer(ty) && has_old_tags() {
        builder.spell_old_tags();
    }
}

fn has_pointer(ty: &Type) -> bool {
    match ty {
        Type::Pointer(_) => true,
        Type::Array(element, _) => has_pointer(element),
        Type::Struct(record) => record.types.iter().any(has_pointer),
        Type::Root(root) => root.of.types.iter().any(has_pointer),
        Type::Unsigned(_) | Type::Signed(_) | Type::Network(_) => false,
    }
}

/// Whether the kernel does not know today's word for a pointer that does not count, but the old one.
fn has_old_tags() -> bool {
    static OLD: OnceLock<bool> = OnceLock::new();
    *OLD.get_or_init(|| !knows(Hold::Untrusted.tag()) && knows(Hold::Untrusted.old_tag()))
}

/// Whether the kernel takes a pointer with this tag for one into itself. Old kernels make maps with
/// tags that they do not know, and forget them; none makes one with such a pointer that programs may
/// only read, and that is how they say that they know it.
fn knows(tag: &str) -> bool {
    let mut builder = Builder::new();
    let none: [(&str, TypeId, u32); 0] = [];
    let task = builder.structure("task_struct", 0, none);
    let tagged = builder.type_tag(tag, task);
    let pointer = builder.pointer(tagged);
    let value = builder.structure("value", 8, [("task", pointer, 0)]);
    let key = builder.number(Number::U32);
    // A builder with names as short as these cannot fail.
    let blob = builder.build().unwrap_or_default();
    let Ok(btf) = misc::load_btf(&blob, &mut Log::default(), None) else {
        return false;
    };
    let create = Create {
        kind: MapType::ARRAY.0,
        key: 4,
        value: 8,
        entries: 1,
        flags: map_create::BPF_F_RDONLY_PROG,
        btf: Some((btf.as_fd(), key.0, value.0)),
        ..Create::default()
    };
    matches!(Map::create(&create), Err(failed) if failed.errno == Errno::EACCES)
}
