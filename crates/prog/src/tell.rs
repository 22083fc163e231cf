//! What the kernel is told of a program's functions and source lines.

use crate::load::Lines;
use crate::resolve::Resolved;
use bpfsmith_asm::decode::ops;
use bpfsmith_asm::isa::{Callee, Op, Wide};
use bpfsmith_asm::program::{Line, Program};
use bpfsmith_btf::{Builder, IntEncoding, Linkage, TypeId, identifier};
use bpfsmith_sys::misc::load_btf;
use bpfsmith_sys::prog::Log;
use bpfsmith_uapi::Errno;
use std::borrow::Cow;
use std::os::fd::BorrowedFd;

impl Resolved {
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
