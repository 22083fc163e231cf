//! Global variables: their places, types and first values, and the memory that a loaded program
//! shares.

use crate::error::{Error, Result};
use crate::load::kernel_name;
use crate::tell::Told;
use bpfsmith_asm::global::Global;
use bpfsmith_asm::program::{Program, Section};
use bpfsmith_btf::{Builder, Linkage, Number, TypeId, Variable, identifier};
use bpfsmith_maps::Handle;
use bpfsmith_sys::mmap::{Shared, Write};
use bpfsmith_uapi::MapType;
use bpfsmith_uapi::flags::map_create;
use bpfsmith_uapi::map::{MapShape, Name};
use bpfsmith_uapi::record::Type;
use std::os::fd::BorrowedFd;
use std::sync::OnceLock;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The section that only programs reach.
pub(crate) const PRIVATE: &str = ".private";

/// First values that differ from those in the program.
#[derive(Debug, Default)]
pub(crate) struct Initial {
    values: Vec<(&'static str, usize, Vec<u8>)>,
}

impl Initial {
    pub(crate) fn set<T: IntoBytes + Immutable>(
        &mut self,
        program: &Program,
        global: &Global<T>,
        value: &T,
    ) -> Result<()> {
        let section = program
            .sections()
            .iter()
            .find(|section| section.name == global.section());
        let symbols = section.map_or(&[][..], |section| &section.symbols);
        let offset = place(symbols, program.name(), global)?;
        let bytes = value.as_bytes().to_vec();
        self.values.push((global.section(), offset, bytes));
        Ok(())
    }

    /// The first bytes of a section.
    pub(crate) fn bytes(&self, section: &Section) -> Vec<u8> {
        let mut bytes = section.bytes.clone();
        for (name, offset, value) in &self.values {
            if *name == section.name {
                bytes[*offset..*offset + value.len()].copy_from_slice(value);
            }
        }
        bytes
    }
}

/// A section of a loaded program.
#[derive(Debug)]
pub(crate) struct Data {
    pub(crate) section: &'static str,
    pub(crate) map: Handle,
    symbols: Vec<(String, u32, u32)>,
    memory: OnceLock<Shared<Write>>,
}

impl Data {
    pub(crate) fn new(section: &Section, map: Handle) -> Data {
        Data {
            section: section.name,
            map,
            symbols: section.symbols.clone(),
            memory: OnceLock::new(),
        }
    }

    /// The memory that the program sees. It stays mapped as long as the handle lives.
    fn memory(&self) -> Result<&Shared<Write>> {
        if let Some(memory) = self.memory.get() {
            return Ok(memory);
        }
        let memory = Shared::map_of(self.map.raw(), 0).map_err(|refused| {
            Error::io("mmap", "global data", self.section, &refused.errno.into())
        })?;
        Ok(self.memory.get_or_init(|| memory))
    }
}

/// Tells the variables of each section by name and type.
pub(crate) fn describe(builder: &mut Builder, program: &Program) -> Vec<(&'static str, TypeId)> {
    let sections = program.sections().iter();
    sections
        .filter_map(|section| Some((section.name, describe_section(builder, program, section)?)))
        .collect()
}

/// One section; `None` if it has no variables that the kernel would take.
fn describe_section(builder: &mut Builder, program: &Program, section: &Section) -> Option<TypeId> {
    let mut symbols: Vec<_> = section.symbols.iter().collect();
    symbols.sort_by_key(|symbol| symbol.1);
    let mut variables = Vec::new();
    let mut end = 0;
    for (name, offset, size) in symbols {
        let (offset, size) = (*offset, *size);
        // Text may give two variables one place; the kernel takes the first.
        if size == 0 || offset < end {
            continue;
        }
        end = offset.saturating_add(size);
        let mut ty = if let Some(ty) = program.global_type(name) {
            bpfsmith_maps::spell(builder, &ty);
            builder.described(&ty)
        } else {
            let byte = builder.number(Number::U8);
            builder.list(byte, size)
        };
        if section.name == ".rodata" {
            ty = builder.constant(ty);
        }
        let ty = builder.var(&identifier(name), ty, Linkage::GLOBAL);
        let described = program.global_type(name);
        if let Some(root) = described.as_ref().and_then(Type::root) {
            builder.contains(root, ty, None);
        }
        variables.push(Variable { ty, offset, size });
    }
    let size = u32::try_from(section.bytes.len()).ok()?;
    (!variables.is_empty()).then(|| builder.data_sec(section.name, size, &variables))
}

/// Makes the one-element map that holds a section, and writes its first bytes.
pub(crate) fn make_section(
    program: &Program,
    section: &Section,
    bytes: &[u8],
    told: &Told,
    token: Option<BorrowedFd<'_>>,
) -> Result<Handle> {
    let is_constant = section.name == ".rodata";
    let name = section_name(program.name(), section.name)?;
    let value = u32::try_from(bytes.len()).map_err(|_| Error::Argument {
        what: section.name,
        problem: "a section of global data is at most 4 GB".to_owned(),
    })?;
    let shape = MapShape {
        flags: match section.name {
            ".rodata" => map_create::BPF_F_MMAPABLE | map_create::BPF_F_RDONLY_PROG,
            PRIVATE => 0,
            _ => map_create::BPF_F_MMAPABLE,
        },
        ..MapShape::new(MapType::ARRAY, name, 4, value, 1)
    };
    let options = bpfsmith_maps::Options {
        token,
        types: told.section(section.name),
        ..bpfsmith_maps::Options::default()
    };
    let map = Handle::create_with(&shape, &options)?;
    let failed = |failed| Error::call(failed, "map", format!("\"{name}\""));
    if bytes.iter().any(|&byte| byte != 0) {
        map.raw().update(&[0; 4], bytes, 0).map_err(failed)?;
    }
    if is_constant {
        map.freeze()?;
    }
    Ok(map)
}

/// `program.rodata`, the program's name cut so that the section's stays whole.
fn section_name(program: &str, section: &'static str) -> Result<Name> {
    let bytes = kernel_name(program);
    let length = bytes.iter().position(|&byte| byte == 0).unwrap_or(15);
    let kept = length.min(15_usize.saturating_sub(section.len()));
    let text: String = bytes[..kept].iter().map(|&byte| char::from(byte)).collect();
    Name::new(&(text + section)).ok_or(Error::Argument {
        what: section,
        problem: "is no name of a section".to_owned(),
    })
}

/// Where a variable lies in its section.
fn place<T>(symbols: &[(String, u32, u32)], program: &str, global: &Global<T>) -> Result<usize> {
    let found = symbols.iter().find(|symbol| {
        symbol.0 == global.name() && usize::try_from(symbol.2) == Ok(size_of::<T>())
    });
    match found {
        Some(&(_, offset, _)) => Ok(offset as usize),
        None => Err(Error::Argument {
            what: "global variable",
            problem: format!(
                "\"{program}\" has no {} variable \"{}\" of {} bytes (only variables that its code \
                 mentions are there)",
                global.section(),
                global.name(),
                size_of::<T>()
            ),
        }),
    }
}

/// The section of a variable, and its place in it.
fn find<'a, T>(data: &'a [Data], program: &str, global: &Global<T>) -> Result<(&'a Data, usize)> {
    let found = data.iter().find(|data| data.section == global.section());
    let symbols = found.map_or(&[][..], |data| &data.symbols);
    let offset = place(symbols, program, global)?;
    // A variable that has a place has a section.
    found.map(|data| (data, offset)).ok_or(Error::Argument {
        what: "global variable",
        problem: global.name().to_owned(),
    })
}

fn outside(name: &str) -> Error {
    Error::Argument {
        what: "global variable",
        problem: format!("\"{name}\" lies outside its section"),
    }
}

pub(crate) fn read<T: FromBytes>(data: &[Data], program: &str, global: &Global<T>) -> Result<T> {
    let (data, offset) = find(data, program, global)?;
    let mut bytes = vec![0; size_of::<T>()];
    if matches!(data.section, ".rodata" | PRIVATE) {
        // Frozen, or private to programs: it cannot be mapped for writing.
        let mut all = vec![0; data.map.facts().stride];
        let failed = |failed| Error::call(failed, "global data", data.section);
        data.map
            .raw()
            .lookup(&[0; 4], &mut all, 0)
            .map_err(failed)?;
        let part = all.get(offset..offset + bytes.len());
        bytes.copy_from_slice(part.ok_or_else(|| outside(global.name()))?);
    } else {
        data.memory()?
            .copy_out(offset, &mut bytes)
            .ok_or_else(|| outside(global.name()))?;
    }
    T::read_from_bytes(&bytes).map_err(|_| outside(global.name()))
}

pub(crate) fn write<T: IntoBytes + Immutable>(
    data: &[Data],
    program: &str,
    global: &Global<T>,
    value: &T,
) -> Result<()> {
    let (data, offset) = find(data, program, global)?;
    if data.section == ".rodata" {
        return Err(Error::Argument {
            what: "global variable",
            problem: format!(
                "\"{}\" is a constant: set it with Load::set before loading, or make it a .data \
                 variable",
                global.name()
            ),
        });
    }
    if data.section == PRIVATE {
        return Err(Error::Argument {
            what: "global variable",
            problem: format!("\"{}\" is private: only programs change it", global.name()),
        });
    }
    data.memory()?
        .copy_in(offset, value.as_bytes())
        .ok_or_else(|| outside(global.name()))
}
