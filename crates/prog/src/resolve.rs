//! Names become numbers: maps, global data, kernel functions and variables, source lines.

use crate::error::{Error, Result};
use crate::globals::{Data, Initial};
use crate::kernel;
use crate::load::{Lines, kernel_name};
use crate::maps::Maps;
use bpfsmith_asm::decode::ops;
use bpfsmith_asm::isa::{Callee, Op, Order, Wide};
use bpfsmith_asm::program::{Line, Program, Section, Target};
use bpfsmith_btf::{Builder, IntEncoding, Kind, Linkage, TypeId, identifier};
use bpfsmith_maps::Handle;
use bpfsmith_sys::misc::load_btf;
use bpfsmith_sys::prog::Log;
use bpfsmith_uapi::flags::map_create;
use bpfsmith_uapi::map::{MapShape, Name};
use bpfsmith_uapi::{Errno, MapType};
use std::borrow::Cow;
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

    /// Makes the records of functions, and those of lines if they are to be told. Where the kernel
    /// does not take them, the program goes without, and the account says so.
    ///
    /// With the name of the context's structure, the main function is a global one that takes it:
    /// only such a function can be replaced, or replace another. The kernel calls back only
    /// functions that it was told of.
    pub(crate) fn tell(
        &mut self,
        program: &Program,
        lines: Lines,
        context: Option<&str>,
        token: Option<BorrowedFd<'_>>,
    ) {
        let has_lines = lines == Lines::Told && !program.lines().is_empty();
        let has_callbacks = || {
            let mut ops = ops(program.insns());
            ops.any(|op| matches!(op, Ok((_, Op::Wide(_, Wide::Func(_))))))
        };
        if !has_lines && context.is_none() && !has_callbacks() {
            return;
        }
        let functions = functions(program);
        let mut builder = Builder::new();
        let int = builder.int("int", 4, IntEncoding::SIGNED);
        let proto = builder.func_proto(int, &[]);
        let main = context.map(|name| {
            // The kernel compares names only.
            let members: [(&str, TypeId, u32); 0] = [];
            let context = builder.structure(name, 0, members);
            let pointer = builder.pointer(context);
            builder.func_proto(int, &[("ctx", pointer)])
        });
        let funcs: Vec<_> = functions
            .iter()
            .map(|(at, name)| {
                let (proto, linkage) = match main {
                    Some(main) if *at == 0 => (main, Linkage::GLOBAL),
                    _ => (proto, Linkage::STATIC),
                };
                (*at, builder.func(&identifier(name), proto, linkage))
            })
            .collect();
        let funcs = builder.func_info(funcs);
        let mut lines = Vec::new();
        if has_lines {
            let texts: Vec<String> = paths(program);
            lines = builder.line_info(source_lines(program, &texts));
        }
        let Ok(blob) = builder.build() else {
            self.lines_refused = Some(Errno::E2BIG);
            return;
        };
        match load_btf(&blob, &mut Log::default(), token) {
            Ok(fd) => {
                self.btf = Some(fd);
                self.funcs = funcs;
                self.lines = lines;
            }
            Err(failed) => self.lines_refused = Some(failed.errno),
        }
    }
}

/// Where functions start, and what they are called. Bare slots do not say: there, what is called
/// and what is handed out as a callback is a function.
fn functions(program: &Program) -> Vec<(u32, Cow<'_, str>)> {
    let known = program.funcs().iter();
    let known: Vec<_> = known
        .map(|func| (func.at, func.name.as_str().into()))
        .collect();
    if !known.is_empty() {
        return known;
    }
    let target = |op: std::result::Result<(usize, Op), _>| match op {
        Ok((slot, Op::Call(Callee::Local(distance)) | Op::Wide(_, Wide::Func(distance)))) => {
            let next = i64::try_from(slot).ok()? + 1;
            u32::try_from(next + i64::from(distance)).ok()
        }
        _ => None,
    };
    let mut starts: Vec<u32> = ops(program.insns()).filter_map(target).collect();
    starts.push(0);
    starts.sort_unstable();
    starts.dedup();
    let name = |at: u32| match at {
        0 => program.name().into(),
        _ => format!("func_{at}").into(),
    };
    starts.into_iter().map(|at| (at, name(at))).collect()
}

/// The fragments around each frame, as text.
fn paths(program: &Program) -> Vec<String> {
    let mut texts = vec![String::new(); program.frames().len()];
    for (slot, line) in program.lines().iter().enumerate() {
        if let Some(text) = texts.get_mut(line.frame as usize)
            && text.is_empty()
        {
            *text = program.path(slot);
        }
    }
    texts
}

/// One line for each run of slots from the same place; each function starts with one.
fn source_lines<'a>(
    program: &'a Program,
    texts: &'a [String],
) -> impl Iterator<Item = bpfsmith_btf::Line<'a>> {
    let mut before: Option<&Line> = None;
    let mut is_second = false;
    let slots = program.insns().iter().zip(program.lines());
    slots.enumerate().filter_map(move |(slot, (raw, line))| {
        let skip = std::mem::replace(&mut is_second, raw.is_wide());
        let slot = u32::try_from(slot).ok()?;
        let is_start = program.funcs().iter().any(|func| func.at == slot);
        if skip || (before == Some(line) && !is_start) {
            return None;
        }
        before = Some(line);
        Some(bpfsmith_btf::Line {
            slot,
            file: line.at.file(),
            line: line.at.line(),
            column: line.at.column(),
            text: texts.get(line.frame as usize).map_or("", String::as_str),
        })
    })
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
