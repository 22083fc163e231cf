//! Names become numbers: maps, global data, kernel functions and variables.

use crate::error::{Error, Result};
use crate::globals::{Data, Initial};
use crate::kernel;
use crate::load::kernel_name;
use crate::maps::Maps;
use bpfsmith_asm::isa::Order;
use bpfsmith_asm::program::{Program, Section, Target};
use bpfsmith_btf::Kind;
use bpfsmith_maps::Handle;
use bpfsmith_uapi::flags::map_create;
use bpfsmith_uapi::map::{MapShape, Name};
use bpfsmith_uapi::{Errno, MapType};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// A program whose names are filled in, and what must stay open for it.
pub(crate) struct Resolved {
    /// All slots, in this machine's order.
    pub(crate) insns: Vec<u8>,
    pub(crate) data: Vec<Data>,
    pub(crate) btf: Option<OwnedFd>,
    pub(crate) funcs: Vec<u8>,
    pub(crate) lines: Vec<u8>,
    pub(crate) lines_refused: Option<Errno>,
}

impl Resolved {
    pub(crate) fn new(
        program: &Program,
        maps: &Maps,
        initial: &Initial,
        token: Option<BorrowedFd<'_>>,
    ) -> Result<Resolved> {
        let mut resolved = Resolved {
            insns: program.to_bytes(Order::HOST),
            data: Vec::new(),
            btf: None,
            funcs: Vec::new(),
            lines: Vec::new(),
            lines_refused: None,
        };
        for section in program.sections() {
            let bytes = initial.bytes(section);
            let map = make_section(program, section, &bytes, token)?;
            resolved.data.push(Data::new(section, map));
        }
        for reloc in program.relocs() {
            let number = resolved.number(program, maps, &reloc.target)?;
            // The last four bytes of a slot are its constant.
            let at = reloc.at as usize * 8 + 4;
            resolved.insns[at..at + 4].copy_from_slice(&number.to_ne_bytes());
        }
        Ok(resolved)
    }

    /// What stands in the program for something that it names.
    fn number(&self, program: &Program, maps: &Maps, target: &Target) -> Result<i32> {
        match target {
            Target::Map(name) | Target::MapValue(name, _) => match maps.find(*name) {
                Some(map) => Ok(map.as_fd().as_raw_fd()),
                None => Err(Error::MissingMap {
                    program: Some(program.name().to_owned()),
                    map: *name,
                }),
            },
            Target::Section(section, _) => {
                match self.data.iter().find(|data| data.section == *section) {
                    Some(data) => Ok(data.map.as_fd().as_raw_fd()),
                    None => Err(Error::Argument {
                        what: "program",
                        problem: format!("it refers to {section}, which it does not have"),
                    }),
                }
            }
            Target::Kfunc(name) => kernel::find(
                "kernel function",
                name,
                Kind::FUNC,
                "`bpfsmith probe` lists what it has; newer kernels have more",
            )
            .map(|id| id.0.cast_signed()),
            Target::Ksym(name) => kernel::find(
                "typed variable",
                name,
                Kind::VAR,
                "only per-CPU variables and those in the kernel's BTF can be named",
            )
            .map(|id| id.0.cast_signed()),
            _ => Err(Error::Argument {
                what: "reference",
                problem: format!("{target:?} is newer than this loader: update bpfsmith-prog"),
            }),
        }
    }
}

/// Makes the one-element map that holds a section, and writes its first bytes.
fn make_section(
    program: &Program,
    section: &Section,
    bytes: &[u8],
    token: Option<BorrowedFd<'_>>,
) -> Result<Handle> {
    let is_constant = section.name == ".rodata";
    let name = section_name(program.name(), section.name)?;
    let value = u32::try_from(bytes.len()).map_err(|_| Error::Argument {
        what: section.name,
        problem: "a section of global data is at most 4 GB".to_owned(),
    })?;
    let shape = MapShape {
        flags: map_create::BPF_F_MMAPABLE
            | if is_constant {
                map_create::BPF_F_RDONLY_PROG
            } else {
                0
            },
        ..MapShape::new(MapType::ARRAY, name, 4, value, 1)
    };
    let options = bpfsmith_maps::Options {
        token,
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
