//! From fragments to a program: labels, functions, stack slots and global data get their places.

use crate::code::{Code, Func, Item, Param, Parts};
use crate::global::GlobalDef;
use crate::insn::{Extra, Insn, Late, Misfit};
use crate::isa::{Order, Raw};
use crate::kernel::Question;
use crate::program::{Frame, Function, Line, Program, Reloc, Section, Target, frame_path};
use crate::relax::{self, Jump};
use crate::report::{Finding, Kind, Place, Report, Severity};
use crate::stack::{self, Stack};
use bpfsmith_uapi::ProgType;
use bpfsmith_uapi::map::MapShape;
use bpfsmith_uapi::record::Record;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::panic::Location;

/// What the kernels that the program is for understand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Isa {
    /// Up to version 3: no `gotol`, so far jumps go over trampolines.
    V3,
    /// Version 4, Linux 6.6: far jumps use `gotol`.
    #[default]
    V4,
}

impl Program {
    /// Builds and checks a program. Of its name the kernel takes the first 15 bytes.
    ///
    /// # Errors
    /// The [`Report`] holds everything that is wrong, each with the Rust line that made it.
    pub fn new(kind: ProgType, name: &str, code: Code) -> Result<Program, Report> {
        Program::new_for(Isa::default(), kind, name, code)
    }

    /// As [`Program::new`], for kernels with that instruction set.
    ///
    /// # Errors
    /// As [`Program::new`].
    pub fn new_for(isa: Isa, kind: ProgType, name: &str, code: Code) -> Result<Program, Report> {
        let (mut program, mut found) = link(isa, kind, name, &code);
        let mut checked = crate::check::findings(&program);
        if !found.is_empty() {
            let refused: HashSet<usize> = found.iter().map(|&(slot, _)| slot).collect();
            // What the linker refused need not be told twice, nor that a jump without a label goes
            // nowhere.
            checked.retain(|(slot, finding)| !refused.contains(slot) && !follows(finding.kind));
        }
        found.append(&mut checked);
        found.sort_by_key(|&(slot, _)| slot);
        let report = report(name, found);
        if report.has_errors() {
            return Err(report);
        }
        program.warnings = report.findings;
        Ok(program)
    }

    /// Builds a program without following its control flow: for generators that have checked the
    /// same program before. Labels, ranges and names are checked all the same.
    ///
    /// # Errors
    /// As [`Program::new`].
    pub fn assemble(isa: Isa, kind: ProgType, name: &str, code: Code) -> Result<Program, Report> {
        let (program, found) = link(isa, kind, name, &code);
        if found.is_empty() {
            Ok(program)
        } else {
            Err(report(name, found))
        }
    }
}

/// Lays a program out. What is wrong comes with its slot; the rest is as right as it can be.
fn link(isa: Isa, kind: ProgType, name: &str, code: &Code) -> (Program, Vec<(usize, Finding)>) {
    let mut linker = Linker::default();
    let size = code.view().map_or(0, |parts| parts.items.len());
    linker.insns.reserve(size + size / 8);
    linker.lines.reserve(size + size / 8);
    linker.unit(name, None, code);
    linker.name(name, code);
    let mut next = 0;
    while let Some(func) = linker.queue.get(next).copied() {
        linker.func(func);
        next += 1;
    }
    linker.finish(isa, kind, name)
}

/// True for findings that may only mean that a label or a register was wrong.
fn follows(kind: Kind) -> bool {
    use Kind::{BadTarget, FallsOff, Malformed, Unreachable};
    matches!(kind, BadTarget | FallsOff | Malformed | Unreachable)
}

fn report(program: &str, found: Vec<(usize, Finding)>) -> Report {
    let findings = found.into_iter().map(|(_, finding)| finding).collect();
    Report {
        program: program.to_owned(),
        findings,
    }
}

/// Hashes ids, which are already spread well enough, by one multiplication.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &b in bytes {
            self.write_u32(u32::from(b));
        }
    }

    #[inline]
    fn write_u32(&mut self, id: u32) {
        self.0 = (self.0 ^ u64::from(id))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(26);
    }
}

pub(crate) type IdMap<T> = HashMap<u32, T, BuildHasherDefault<IdHasher>>;

/// A label at its place.
#[derive(Clone, Copy)]
struct Bound {
    slot: u32,
    unit: u32,
    at: &'static Location<'static>,
}

/// The bound labels, by id. The ids of one program lie close together, so that an id is nearly
/// always an index; a label from elsewhere goes into a map.
#[derive(Default)]
struct Places {
    first: u32,
    near: Vec<Option<Bound>>,
    far: IdMap<Bound>,
}

impl Places {
    /// How many ids in a row may be something else than bound labels.
    const GAP: usize = 64;

    /// Where the id is in `near`. An id before the first one is out of reach, because it wraps.
    #[inline]
    fn index(&self, id: u32) -> usize {
        id.wrapping_sub(self.first) as usize
    }

    /// The place that the label had before, if any.
    #[inline]
    fn insert(&mut self, id: u32, bound: Bound) -> Option<Bound> {
        if self.near.is_empty() {
            self.first = id;
        }
        let index = self.index(id);
        if index > self.near.len() + Places::GAP {
            return self.far.insert(id, bound);
        }
        if index >= self.near.len() {
            self.near.resize(index + 1, None);
        }
        let before = self.near[index].replace(bound);
        before.or_else(|| self.far.get(&id).copied())
    }

    #[inline]
    fn get(&self, id: u32) -> Option<&Bound> {
        let near = self.near.get(self.index(id)).and_then(Option::as_ref);
        near.or_else(|| self.far.get(&id))
    }
}

#[derive(Default)]
struct Linker<'a> {
    insns: Vec<Raw>,
    lines: Vec<Line>,
    frames: Vec<Frame>,
    net: Vec<(u32, Late)>,
    relocs: Vec<Reloc>,
    bound: Places,
    labels: Vec<(u32, Cow<'static, str>)>,
    jumps: Vec<Jump>,
    /// Slots that refer to a function, by its id.
    func_refs: Vec<(u32, u32)>,
    /// Slots that refer to a global variable.
    global_refs: Vec<(u32, &'static str)>,
    funcs: Vec<Function>,
    /// The functions to lay out behind the main one, each once.
    queue: Vec<&'a Func>,
    maps: Vec<MapShape>,
    globals: Vec<&'a GlobalDef>,
    records: Vec<&'static Record>,
    /// What is wrong, with the slot that it is about.
    findings: Vec<(usize, Finding)>,
}

impl<'a> Linker<'a> {
    /// Lays out a function that others refer to.
    fn func(&mut self, func: &'a Func) {
        let body = func.inner();
        let named = |name: &str| self.funcs.iter().filter(|known| known.name == name).count();
        let mut name = body.name.to_owned();
        let mut n = named(&name);
        while named(&name) > 0 {
            name = format!("{}_{n}", body.name);
            n += 1;
        }
        self.unit(&name, body.params.clone(), &body.code);
        self.name(&name, &body.code);
    }

    /// Refuses names that neither the kernel nor a listing takes.
    fn name(&mut self, name: &str, code: &Code) {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'.';
        let starts = name
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        if !starts || !name.bytes().all(fits) {
            let message = format!(
                "`{name}` cannot name a program or function: take A-Za-z0-9_. and start with a \
                 letter"
            );
            let slot = self.funcs.last().map_or(0, |func| func.at as usize);
            match self.lines.get(slot).copied() {
                Some(line) => self.find_at(slot, Kind::Malformed, line, message),
                None => self.findings.push((
                    slot,
                    Finding {
                        severity: Severity::Error,
                        kind: Kind::Malformed,
                        place: Place::Rust(Location::caller(), code.path.to_owned()),
                        message,
                    },
                )),
            }
        }
    }

    /// Lays out one function.
    fn unit(&mut self, name: &str, params: Option<Vec<Param>>, code: &'a Code) {
        let unit = number(self.funcs.len());
        let path = code.path;
        static NOTHING: Parts = Parts::NONE;
        let parts = code.view().unwrap_or(&NOTHING);
        self.funcs.push(Function {
            at: self.here(),
            name: name.to_owned(),
            params,
        });
        let mut frame = number(self.frames.len());
        self.frames.push(Frame {
            path,
            parent: frame,
        });
        let mut stack = Stack::new(frame);
        for item in &parts.items {
            match *item {
                Item::Insn(ref insn) => self.insn(insn, frame, unit, &mut stack),
                Item::Bind { id, name, at } => self.bind(id, name, at, frame, unit),
                Item::Enter(path) => {
                    let parent = frame;
                    frame = number(self.frames.len());
                    self.frames.push(Frame { path, parent });
                }
                Item::Leave => frame = self.frames[frame as usize].parent,
            }
        }
        if let Err((slot, message)) = stack.place(&self.frames, &mut self.insns) {
            self.at_slot(Kind::Stack, slot, message);
        }
        for (shape, at) in &parts.maps {
            self.map(shape, at);
        }
        for def in &parts.globals {
            self.global(def);
        }
        for func in &parts.funcs {
            if !self.queue.iter().any(|known| known.id() == func.id()) {
                self.queue.push(func);
            }
        }
    }

    fn here(&self) -> u32 {
        number(self.insns.len())
    }

    #[inline]
    fn insn(&mut self, insn: &Insn, frame: u32, unit: u32, stack: &mut Stack) {
        let slot = self.here();
        let mut raw = insn.raw;
        let line = Line { at: insn.at, frame };
        if insn.late != Late::No {
            match insn.late {
                Late::Kernel(known) => self.question(slot, known.question(), line),
                late => {
                    raw.imm = late.imm(raw.imm, Order::HOST);
                    self.net.push((slot, late));
                }
            }
        }
        if raw.dst() > 10 || raw.src() > 10 {
            self.bad_register(raw, line);
        }
        self.insns.push(raw);
        self.lines.push(line);
        match insn.arg {
            Extra::None => {
                stack.number(raw);
                return;
            }
            Extra::Label { id, name } => self.jumps.push(Jump {
                slot,
                id,
                name,
                unit,
                to: 0,
            }),
            Extra::High(_) => {}
            Extra::Slot {
                align,
                size,
                id,
                name,
            } => {
                stack.uses(&self.frames, slot, raw, frame, id, name, size, align, false);
                self.inside_slot(slot, raw, name, size);
            }
            Extra::KeptSlot {
                align,
                size,
                id,
                name,
            } => {
                stack.uses(&self.frames, slot, raw, frame, id, name, size, align, true);
                self.inside_slot(slot, raw, name, size);
            }
            Extra::Map(name) => self.relocs.push(Reloc {
                at: slot,
                target: Target::Map(name),
            }),
            Extra::MapValue { off, name } => {
                self.relocs.push(Reloc {
                    at: slot,
                    target: Target::MapValue(name, off),
                });
            }
            Extra::Func(id) => self.func_refs.push((slot, id)),
            Extra::Global(name) => self.global_refs.push((slot, name)),
            Extra::Kfunc(name) => {
                self.relocs.push(Reloc {
                    at: slot,
                    target: Target::Kfunc(name.to_owned()),
                });
            }
            Extra::Ksym(name) => {
                self.relocs.push(Reloc {
                    at: slot,
                    target: Target::Ksym(name.to_owned()),
                });
            }
            Extra::Record(record) => self.record(record, line),
            Extra::Bad { what, value } => self.bad_value(what, value, slot),
        }
        if raw.is_wide() {
            let imm = match insn.arg {
                Extra::High(imm) => imm,
                Extra::MapValue { off, .. } => off.cast_signed(),
                _ => 0,
            };
            self.insns.push(Raw {
                imm,
                ..Raw::default()
            });
            self.lines.push(line);
        }
    }

    /// Reports an access, or an address, that is not inside its stack slot.
    #[inline]
    fn inside_slot(&mut self, at: u32, raw: Raw, name: &str, size: u16) {
        let (off, bytes) = stack::access(raw);
        let size = i32::from(size);
        if off >= 0 && off.saturating_add(bytes) <= size {
            return;
        }
        let what = match bytes {
            0 => "the address".to_owned(),
            1 => "1 byte".to_owned(),
            n => format!("{n} bytes"),
        };
        let message = format!(
            "{what} at offset {off} of stack slot `{name}` would be outside: it has {size} bytes"
        );
        self.at_slot(Kind::Stack, at, message);
    }

    fn bind(
        &mut self,
        id: u32,
        name: &'static str,
        at: &'static Location<'static>,
        frame: u32,
        unit: u32,
    ) {
        let slot = self.here();
        let bound = Bound { slot, unit, at };
        if let Some(first) = self.bound.insert(id, bound) {
            let message = format!(
                "label `{name}` is bound a second time, first at {}:{}: a label has one place, so \
                 call label() once for each",
                first.at.file(),
                first.at.line()
            );
            self.find(Kind::BoundTwice, Line { at, frame }, message);
        }
        self.labels.push((slot, Cow::Borrowed(name)));
    }

    fn map(&mut self, shape: &MapShape, at: &'static Location<'static>) {
        match self.maps.iter().find(|known| known.name == shape.name) {
            None => self.maps.push(*shape),
            Some(known) if known == shape => {}
            Some(known) => {
                let message = format!(
                    "map `{}` is {} here but {} elsewhere in the program: give one of them \
                     another name",
                    shape.name,
                    describe(shape),
                    describe(known)
                );
                self.find(Kind::Conflict, Line { at, frame: 0 }, message);
            }
        }
    }

    fn global(&mut self, def: &'a GlobalDef) {
        match self.globals.iter().find(|known| known.name == def.name) {
            None => self.globals.push(def),
            Some(known) if known.same(def) => {}
            Some(_) => {
                let message = format!(
                    "global variable `{}` is defined differently elsewhere in the program: give \
                     one of them another name",
                    def.name
                );
                self.find(
                    Kind::Conflict,
                    Line {
                        at: def.at,
                        frame: 0,
                    },
                    message,
                );
            }
        }
    }

    fn record(&mut self, record: &'static Record, line: Line) {
        let name = record.layout.name;
        match (self.records.iter()).find(|known| known.layout.name == name) {
            None => self.records.push(record),
            Some(known) if **known == *record => {}
            Some(_) => {
                let message = format!(
                    "structure `{name}` is defined differently elsewhere in the program: give one \
                     of them another name"
                );
                self.find(Kind::Conflict, line, message);
            }
        }
    }

    fn question(&mut self, slot: u32, question: Question, line: Line) {
        if !question.is_written() {
            let path = &question.path;
            let message = format!(
                "{path:?} is no name of the kernel: write one as in `tcp_sock.snd_cwnd`, with each \
                 `[` closed and nothing unprintable"
            );
            self.find(Kind::Malformed, line, message);
        }
        self.relocs.push(Reloc {
            at: slot,
            target: Target::Kernel(question),
        });
    }

    fn find(&mut self, kind: Kind, line: Line, message: String) {
        self.find_at(self.insns.len(), kind, line, message);
    }

    fn find_at(&mut self, slot: usize, kind: Kind, line: Line, message: String) {
        let place = Place::Rust(line.at, frame_path(&self.frames, line.frame));
        let finding = Finding {
            severity: Severity::Error,
            kind,
            place,
            message,
        };
        self.findings.push((slot, finding));
    }

    fn at_slot(&mut self, kind: Kind, slot: u32, message: String) {
        let slot = slot as usize;
        self.find_at(slot, kind, self.lines[slot], message);
    }

    #[cold]
    fn bad_register(&mut self, raw: Raw, line: Line) {
        let n = raw.dst().max(raw.src());
        let n = if n == 15 {
            "a register above r14".to_owned()
        } else {
            format!("r{n}")
        };
        self.find(
            Kind::Register,
            line,
            format!("{n} is out of place: BPF has r0 to r9 and the frame pointer r10"),
        );
    }

    #[cold]
    fn bad_value(&mut self, what: Misfit, value: i64, at: u32) {
        let message = match what {
            Misfit::Imm64 => format!(
                "the constant {value:#x} does not fit: 32 bits, sign-extended, are stored; load it \
                 into a register with lddw, or work on 32 bits (W0 to W9)"
            ),
            Misfit::Imm16 => {
                format!("the constant {value:#x} does not fit the two bytes that are stored")
            }
            Misfit::Imm8 => {
                format!("the constant {value:#x} does not fit the one byte that is stored")
            }
            Misfit::Net => format!(
                "the number {value} does not fit: be16(…) takes 0 to 65535, be32(…) 0 to 4294967295"
            ),
            Misfit::NetWidth => format!(
                "a number in network order cannot be stored as {value} bytes: be16(…) is stored as \
                 two, be32(…) as four"
            ),
            Misfit::KernelSlot => "a stack slot is placed before the kernel says where its fields are: \
                                   take the slot's address with addr(…), and go on from that register"
                .to_owned(),
            Misfit::NetKernel => {
                "a number in network order cannot be stored where the kernel says: \
                                  load it into a register first"
                    .to_owned()
            }
            Misfit::Imm32 => format!(
                "the constant {value:#x} does not fit the 32 bits that this operation works on"
            ),
            Misfit::Offset => format!(
                "the offset {value} does not fit: a memory access reaches -32768 to 32767 bytes; \
                 add the rest to the register first"
            ),
            Misfit::Width => format!(
                "an access of {value} bytes does not exist here: atomic operations take 4 or 8 \
                 bytes, sign-extending loads 1, 2 or 4"
            ),
        };
        self.at_slot(Kind::DoesNotFit, at, message);
    }

    fn finish(mut self, isa: Isa, kind: ProgType, name: &str) -> (Program, Vec<(usize, Finding)>) {
        self.resolve_labels();
        self.refuse_empty_functions();
        let sections = self.sections();
        let globals = self.globals.iter();
        let types = globals.filter_map(|def| Some((def.name, def.ty?)));
        let mut program = Program {
            name: name.to_owned(),
            kind,
            insns: self.insns,
            relocs: self.relocs,
            labels: self.labels,
            funcs: self.funcs,
            maps: self.maps,
            sections,
            types: types.collect(),
            records: self.records,
            lines: self.lines,
            frames: self.frames,
            net: self.net,
            warnings: Vec::new(),
        };
        let mut findings = self.findings;
        let mut far = relax::apply(isa, &mut program, &self.jumps, &mut self.func_refs);
        findings.append(&mut far);
        let starts: IdMap<u32> = (self.queue.iter().map(|func| func.id()))
            .zip(program.funcs.iter().skip(1).map(|func| func.at))
            .collect();
        for (slot, id) in self.func_refs {
            if let Some(&start) = starts.get(&id) {
                // It fits: a program has far fewer slots than 2^31.
                let distance = i64::from(start) - i64::from(slot) - 1;
                program.insns[slot as usize].imm = i32::try_from(distance).unwrap_or(i32::MAX);
            }
        }
        (program, findings)
    }

    /// Lays the global variables out, and points their users at them.
    fn sections(&mut self) -> Vec<Section> {
        let mut sections: Vec<Section> = Vec::new();
        let mut places = HashMap::new();
        for def in &self.globals {
            let known = sections
                .iter()
                .position(|section| section.name == def.section);
            let index = known.unwrap_or_else(|| {
                sections.push(Section {
                    name: def.section,
                    bytes: Vec::new(),
                    symbols: Vec::new(),
                });
                sections.len() - 1
            });
            let section = &mut sections[index];
            let at = section.bytes.len().next_multiple_of(def.align.max(1));
            section.bytes.resize(at, 0);
            section.bytes.extend_from_slice(&def.bytes);
            let (at, size) = (number(at), number(def.bytes.len()));
            section.symbols.push((def.name.to_owned(), at, size));
            places.insert(def.name, (def.section, at));
        }
        for &(slot, name) in &self.global_refs {
            if let Some(&(section, at)) = places.get(name) {
                self.insns[slot as usize + 1].imm = at.cast_signed();
                self.relocs.push(Reloc {
                    at: slot,
                    target: Target::Section(section, at),
                });
            }
        }
        if !self.global_refs.is_empty() {
            self.relocs.sort_by_key(|reloc| reloc.at);
        }
        sections
    }

    /// A call of a function without instructions would run what happens to stand behind it.
    fn refuse_empty_functions(&mut self) {
        let ends = self
            .funcs
            .iter()
            .skip(2)
            .map(|func| func.at)
            .chain([self.here()]);
        let starts = self.funcs.iter().skip(1);
        let empty: Vec<(u32, String)> = (self.queue.iter().zip(starts).zip(ends))
            .filter(|((_, start), end)| start.at == *end)
            .map(|((func, start), _)| (func.id(), start.name.clone()))
            .collect();
        for (id, name) in empty {
            if let Some(&(slot, _)) = self.func_refs.iter().find(|func_ref| func_ref.1 == id) {
                let message = format!("function `{name}` is empty: end it with ret(…) or exit()");
                self.at_slot(Kind::FallsOff, slot, message);
            }
        }
    }

    /// Finds the slot of each jump's label.
    fn resolve_labels(&mut self) {
        let mut jumps = std::mem::take(&mut self.jumps);
        for jump in &mut jumps {
            // Until a place is known it goes on behind itself.
            jump.to = jump.slot + 1;
            match self.bound.get(jump.id) {
                Some(bound) if bound.unit == jump.unit => {
                    jump.to = bound.slot;
                    let next = self.funcs.get(jump.unit as usize + 1).map(|func| func.at);
                    if bound.slot == next.unwrap_or(number(self.insns.len())) {
                        let message = format!(
                            "label `{}` is bound behind the last instruction of its function: end \
                             with ret(…) or exit() there",
                            jump.name
                        );
                        self.at_slot(Kind::BadTarget, jump.slot, message);
                    }
                }
                Some(bound) => {
                    let message = format!(
                        "label `{}` is bound in another function, at {}:{}: a jump stays in its \
                         function, use call()",
                        jump.name,
                        bound.at.file(),
                        bound.at.line()
                    );
                    self.at_slot(Kind::NeverBound, jump.slot, message);
                }
                None => {
                    let message = format!(
                        "label `{}` is never bound: put bind({}) where the jump should go",
                        jump.name, jump.name
                    );
                    self.at_slot(Kind::NeverBound, jump.slot, message);
                }
            }
        }
        self.jumps = jumps;
    }
}

/// A count of slots or bytes: none comes near 2^32, the memory would end before.
#[inline]
fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn describe(shape: &MapShape) -> String {
    let MapShape {
        kind,
        key,
        value,
        entries,
        flags,
        inner,
        ..
    } = shape;
    let mut text = format!("{kind} key {key} value {value} entries {entries}");
    if *flags != 0 {
        text += &format!(" flags {flags:#x}");
    }
    if let Some(inner) = inner {
        text += &format!(" of maps {} {}", inner.name, describe(inner));
    }
    text
}
