//! What the kernel is told of a program: its functions, its lines, and its global variables.

use crate::globals::{self, PRIVATE};
use crate::load::Lines;
use crate::source::{self, NoSource, Source};
use bpfsmith_asm::code::Param;
use bpfsmith_asm::decode::ops;
use bpfsmith_asm::isa::{Callee, Op, Wide};
use bpfsmith_asm::program::{Line, Program};
use bpfsmith_btf::{Builder, IntEncoding, Linkage, Number, TypeId, identifier};
use bpfsmith_maps::Types;
use bpfsmith_sys::Failed;
use bpfsmith_sys::misc::load_btf;
use bpfsmith_sys::prog::Log;
use bpfsmith_uapi::{Cmd, Errno};
use std::borrow::Cow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// BTF that the kernel took, and the records that refer to it.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) btf: Option<OwnedFd>,
    pub(crate) funcs: Vec<u8>,
    pub(crate) lines: Vec<u8>,
    pub(crate) quoted: Quoted,
    pub(crate) refused: Option<Errno>,
    /// The sections of global data, with their types.
    sections: Vec<(&'static str, TypeId)>,
    /// The structures whose numbers the program loads.
    records: Vec<(&'static str, TypeId)>,
}

/// The lines that the kernel was told, by their texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Quoted {
    /// How many carry the text of the source and the fragments: `add(R1, 1), // count > bump`.
    pub source: usize,
    /// How many carry the fragments alone: `count > bump`.
    pub path: usize,
    /// The first source file that was looked for and not quoted, and why.
    pub missing: Option<(&'static str, NoSource)>,
}

impl Told {
    /// Tells functions, and if it is wanted lines and global variables. Where the kernel
    /// does not take them, the program goes without, and the account says so.
    ///
    /// With the name of the context's structure, the main function is a global one that takes it:
    /// only such a function can be replaced, or replace another. The kernel calls back only
    /// functions that it was told of.
    pub(crate) fn new(
        program: &Program,
        lines: Lines,
        context: Option<&str>,
        token: Option<BorrowedFd<'_>>,
    ) -> Told {
        let mut told = Told::default();
        let mut has_private = program.sections().iter().any(|s| s.name == PRIVATE);
        has_private |= !program.records().is_empty();
        let has_data = has_private || (lines != Lines::Kept && !program.sections().is_empty());
        let has_lines = lines != Lines::Kept && !program.lines().is_empty();
        let has_callbacks = || {
            let mut ops = ops(program.insns());
            ops.any(|op| matches!(op, Ok((_, Op::Wide(_, Wide::Func(_))))))
        };
        let has_global = program.funcs().iter().any(|func| func.params.is_some());
        let has_told = has_data || has_global || context.is_some();
        if !has_lines && !has_told && !has_callbacks() {
            return told;
        }
        let mut builder = Builder::new();
        let funcs = funcs(&mut builder, program, context);
        let mut records = Vec::new();
        let mut quoted = Quoted::default();
        if has_lines {
            (records, quoted) = line_records(&mut builder, program, lines);
        }
        let mut sections = Vec::new();
        if has_data {
            sections = globals::describe(&mut builder, program);
        }
        let told_records = program.records().iter();
        let records_told = told_records
            .map(|record| (record.layout.name, builder.described_record(record)))
            .collect();
        let Ok(blob) = builder.build() else {
            told.refused = Some(Errno::E2BIG);
            return told;
        };
        match load_btf(&blob, &mut Log::default(), token) {
            Ok(fd) => Told {
                btf: Some(fd),
                funcs,
                lines: records,
                quoted,
                refused: None,
                sections,
                records: records_told,
            },
            Err(failed) => Told {
                refused: Some(failed.errno),
                ..told
            },
        }
    }

    /// The number of a structure whose number the program loads.
    pub(crate) fn record(&self, name: &str) -> Option<TypeId> {
        let (_, id) = self.records.iter().find(|(known, _)| *known == name)?;
        Some(*id)
    }

    /// What the kernel knows of a section.
    pub(crate) fn section(&self, name: &str) -> Option<Types<'_>> {
        let (_, value) = self.sections.iter().find(|(known, _)| *known == name)?;
        Some(Types {
            btf: self.btf.as_ref()?.as_fd(),
            key: TypeId::VOID,
            value: *value,
        })
    }
}

/// The smallest BTF that the kernel takes, and the id of the number in it: for commands that want some.
pub(crate) fn smallest_types() -> Result<(OwnedFd, u32), Failed> {
    let mut builder = Builder::new();
    let id = builder.number(Number::U32).0;
    let blob = builder.build().map_err(|_| Failed {
        cmd: Cmd::BTF_LOAD,
        errno: Errno::EINVAL,
    })?;
    Ok((load_btf(&blob, &mut Log::default(), None)?, id))
}

/// One record for each function.
fn funcs(builder: &mut Builder, program: &Program, context: Option<&str>) -> Vec<u8> {
    let int = builder.int("int", 4, IntEncoding::SIGNED);
    let proto = builder.func_proto(int, &[]);
    let main = context.map(|name| {
        // The kernel compares names only.
        let members: [(&str, TypeId, u32); 0] = [];
        let context = builder.structure(name, 0, members);
        let pointer = builder.pointer(context);
        builder.func_proto(int, &[("ctx", pointer)])
    });
    let funcs: Vec<_> = functions(program)
        .iter()
        .map(|(at, name)| {
            let known = program.funcs().iter().find(|func| func.at == *at);
            let params = known.and_then(|func| func.params.as_deref());
            let (proto, linkage) = match (main, params) {
                (Some(main), _) if *at == 0 => (main, Linkage::GLOBAL),
                (_, Some(params)) => (global(builder, int, params), Linkage::GLOBAL),
                _ => (proto, Linkage::STATIC),
            };
            (*at, builder.func(&identifier(name), proto, linkage))
        })
        .collect();
    builder.func_info(funcs)
}

/// The type of a global function, by which the kernel checks it and its callers.
fn global(builder: &mut Builder, int: TypeId, params: &[Param]) -> TypeId {
    let params: Vec<_> = ["a", "b", "c", "d", "e"]
        .into_iter()
        .zip(params)
        .map(|(name, param)| match param {
            Param::Number => (name, builder.number(Number::U64)),
            Param::Bytes(bytes) => {
                let members: [(&str, TypeId, u32); 0] = [];
                let bytes = builder.structure("", *bytes, members);
                (name, builder.pointer(bytes))
            }
        })
        .collect();
    builder.func_proto(int, &params)
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

/// One record for each run of slots from the same place.
fn line_records(builder: &mut Builder, program: &Program, lines: Lines) -> (Vec<u8>, Quoted) {
    let paths = paths(program);
    let mut texts = Texts::new(&paths, lines);
    let runs: Vec<(u32, &Line, usize)> = runs(program)
        .map(|(slot, line)| (slot, line, texts.of(line)))
        .collect();
    let records = builder.line_info(runs.iter().map(|&(slot, line, text)| bpfsmith_btf::Line {
        slot,
        file: line.at.file(),
        line: line.at.line(),
        column: line.at.column(),
        text: &texts.all[text].text,
    }));
    (records, texts.quoted)
}

/// The first slot of each run from the same place; each function starts with one.
fn runs(program: &Program) -> impl Iterator<Item = (u32, &Line)> {
    let mut before: Option<&Line> = None;
    let mut is_second = false;
    let slots = program.insns().iter().zip(program.lines());
    slots.enumerate().filter_map(move |(slot, (raw, line))| {
        let skip = std::mem::replace(&mut is_second, raw.is_wide());
        let slot = u32::try_from(slot).ok()?;
        let is_start = || program.funcs().iter().any(|func| func.at == slot);
        if skip || (before.is_some_and(|before| is_same(before, line)) && !is_start()) {
            return None;
        }
        before = Some(line);
        Some((slot, line))
    })
}

/// Whether two slots are from the same place. Neighbours mostly differ in their line already.
fn is_same(one: &Line, other: &Line) -> bool {
    one.frame == other.frame
        && (std::ptr::eq(one.at, other.at)
            || (one.at.line() == other.at.line() && one.at == other.at))
}

/// The fragments around each frame, as text.
fn paths(program: &Program) -> Vec<String> {
    let mut texts = vec![String::new(); program.frames().len()];
    for (slot, line) in program.lines().iter().enumerate() {
        if let Some(text) = texts.get_mut(line.frame as usize)
            && text.is_empty()
        {
            *text = end_of(program.path(slot));
        }
    }
    texts
}

/// The kernel warns of its own log when a line of it has more than 1 kB: half of that are the source
/// and the fragments.
const MOST: usize = 240;

/// The texts of a program's lines.
struct Texts<'a> {
    paths: &'a [String],
    lines: Lines,
    all: Vec<Text<'a>>,
    /// Which text belongs to a place in memory: programs that are unrolled come back to few.
    recent: [usize; 64],
    /// The file that was looked into last.
    file: Option<(&'static str, Result<Arc<Source>, NoSource>)>,
    quoted: Quoted,
}

struct Text<'a> {
    line: Line,
    text: Cow<'a, str>,
}

impl<'a> Texts<'a> {
    fn new(paths: &'a [String], lines: Lines) -> Texts<'a> {
        Texts {
            paths,
            lines,
            all: Vec::new(),
            recent: [usize::MAX; 64],
            file: None,
            quoted: Quoted::default(),
        }
    }

    /// The number of a line's text.
    fn of(&mut self, line: &Line) -> usize {
        let place = std::ptr::from_ref(line.at).addr() / 8;
        let slot = place.wrapping_add(line.frame as usize) % self.recent.len();
        let number = match self.all.get(self.recent[slot]) {
            Some(text) if is_same(&text.line, line) => self.recent[slot],
            _ => {
                let text = self.make(line);
                self.all.push(Text { line: *line, text });
                self.all.len() - 1
            }
        };
        self.recent[slot] = number;
        match self.all[number].text {
            Cow::Owned(_) => self.quoted.source += 1,
            Cow::Borrowed(_) => self.quoted.path += 1,
        }
        number
    }

    /// The source and the fragments, or the fragments alone.
    fn make(&mut self, line: &Line) -> Cow<'a, str> {
        let path = self.paths.get(line.frame as usize);
        let path = path.map_or("", String::as_str);
        if self.lines == Lines::Paths {
            return Cow::Borrowed(path);
        }
        let file = line.at.file();
        if self.file.as_ref().is_none_or(|(known, _)| *known != file) {
            self.file = Some((file, source::find(file)));
        }
        let found = match &self.file {
            Some((_, Ok(source))) => source.line(line.at.line(), line.at.column()),
            Some((_, Err(why))) => Err(*why),
            None => Err(NoSource::Absent),
        };
        match found {
            Ok(source) => Cow::Owned(quote(source.trim(), path)),
            Err(why) => {
                self.quoted.missing.get_or_insert((file, why));
                Cow::Borrowed(path)
            }
        }
    }
}

/// `add(R1, 1), // count > bump`: one line, whatever the source holds.
fn quote(source: &str, path: &str) -> String {
    let mut text = String::with_capacity(source.len().min(MOST) + path.len() + 8);
    if source.len() <= MOST && !source.contains(char::is_control) {
        text.push_str(source);
    } else {
        let printed = source.chars().map(|c| if c.is_control() { ' ' } else { c });
        for c in printed {
            if text.len() + c.len_utf8() > MOST {
                text.push_str("...");
                break;
            }
            text.push(c);
        }
    }
    if !path.is_empty() {
        text.push_str(" // ");
        text.push_str(path);
    }
    text
}

/// The end of a path that is too long.
fn end_of(path: String) -> String {
    let Some(mut start) = path.len().checked_sub(MOST + 1).map(|start| start + 1) else {
        return path;
    };
    while !path.is_char_boundary(start) {
        start += 1;
    }
    let end = &path[start..];
    let end = end.find(" > ").map_or(end, |at| &end[at + 3..]);
    format!("... > {end}")
}

#[cfg(test)]
mod tests {
    use super::{MOST, end_of, quote};

    #[test]
    fn a_quote_is_one_line() {
        for (source, path, text) in [
            ("add(R1, 1),", "count > bump", "add(R1, 1), // count > bump"),
            ("add(R1, 1),", "", "add(R1, 1),"),
            ("a\tb\u{7}c\0d\u{85}", "f", "a b c d  // f"),
            ("mov(größe, 1)", "f", "mov(größe, 1) // f"),
        ] {
            assert_eq!(quote(source, path), text);
        }
    }

    #[test]
    fn long_texts_are_cut() {
        for unit in ["x", "ß", "€", "𝄞"] {
            let long = quote(&unit.repeat(5000), "f");
            assert!(long.len() <= MOST + 8, "{long}");
            assert!(long.ends_with("... // f"), "{long}");
            let path = end_of(unit.repeat(5000));
            assert!(path.len() <= MOST + 8, "{path}");
            let path = end_of(format!("{} > a > b", unit.repeat(5000)));
            assert_eq!(path, "... > a > b");
        }
        let path = "a > ".repeat(59) + "bump";
        assert_eq!(path.len(), MOST);
        assert_eq!(end_of(path.clone()), path);
        let path = "a > ".repeat(60) + "bump";
        assert_eq!(
            end_of(path),
            "... > ".to_owned() + &"a > ".repeat(58) + "bump"
        );
    }
}
