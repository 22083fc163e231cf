//! Telling the kernel the types of keys and values.

use crate::error::{Error, Object, Problem, Result};
use bpfsmith_btf::{Builder, Number, TypeId, identifier};
use bpfsmith_sys::misc;
use bpfsmith_sys::prog::Log;
use bpfsmith_uapi::map::MapShape;
use bpfsmith_uapi::record::{Record, Type};
use bpfsmith_uapi::{Cmd, MapType, Width};
use std::os::fd::{BorrowedFd, OwnedFd};

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
    pub(crate) fd: OwnedFd,
    pub(crate) key: u32,
    pub(crate) value: u32,
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
    let value = add(&mut builder, value);
    let key = if shape.key == 0 {
        TypeId::VOID
    } else {
        add(&mut builder, key)
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
    Ok(Some(Loaded {
        fd,
        key: key.0,
        value: value.0,
    }))
}

fn add(builder: &mut Builder, ty: &Type) -> TypeId {
    match ty {
        Type::Unsigned(width) => builder.number(match width {
            Width::B => Number::U8,
            Width::H => Number::U16,
            Width::W => Number::U32,
            Width::DW => Number::U64,
        }),
        Type::Signed(width) => builder.number(match width {
            Width::B => Number::I8,
            Width::H => Number::I16,
            Width::W => Number::I32,
            Width::DW => Number::I64,
        }),
        Type::Network(width) => builder.number(match width {
            Width::B => Number::U8,
            Width::H => Number::Be16,
            Width::W => Number::Be32,
            Width::DW => Number::Be64,
        }),
        Type::Array(element, len) => {
            let element = add(builder, element);
            builder.list(element, *len)
        }
        Type::Struct(record) => structure(builder, record),
    }
}

fn structure(builder: &mut Builder, record: &Record) -> TypeId {
    let fields = record.layout.fields.iter().zip(record.types);
    let members: Vec<(&str, TypeId, u32)> = fields
        .map(|(field, ty)| (field.name, add(builder, ty), u32::from(field.offset)))
        .collect();
    let size = u32::try_from(record.layout.size).unwrap_or(u32::MAX);
    builder.structure(&identifier(record.layout.name), size, members)
}
