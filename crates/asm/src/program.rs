//! A finished program: slots, what loading must fill in, and where each slot came from.

use crate::code::Param;
use crate::insn::Late;
use crate::isa::{Order, Raw};
use crate::kernel::Question;
use bpfsmith_uapi::ProgType;
use bpfsmith_uapi::map::{MapShape, Name};
use bpfsmith_uapi::record::{Record, Type};
use std::borrow::Cow;
use std::panic::Location;

/// A program that was built: its bytes are final but for what only a kernel can know.
///
/// Two programs are equal if they do the same: names of labels, source lines and fragments do not
/// count.
#[derive(Clone, Debug)]
pub struct Program {
    pub(crate) name: String,
    pub(crate) kind: ProgType,
    pub(crate) insns: Vec<Raw>,
    pub(crate) relocs: Vec<Reloc>,
    pub(crate) labels: Vec<(u32, Cow<'static, str>)>,
    pub(crate) funcs: Vec<Function>,
    pub(crate) maps: Vec<MapShape>,
    pub(crate) sections: Vec<Section>,
    /// The types of global variables, as far as they are known.
    pub(crate) types: Vec<(&'static str, Type)>,
    /// The structures whose numbers it loads.
    pub(crate) records: Vec<&'static Record>,
    /// One entry per slot, or none at all for a program without sources.
    pub(crate) lines: Vec<Line>,
    pub(crate) frames: Vec<Frame>,
    /// Slots whose constant is in network order: it differs between targets.
    pub(crate) net: Vec<(u32, Late)>,
    pub(crate) warnings: Vec<crate::report::Finding>,
}

/// Where a slot was written: the Rust line and the fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// The Rust source position of the instruction.
    pub at: &'static Location<'static>,
    /// Index into [`Program::frames`].
    pub frame: u32,
}

/// A fragment's place in the tree of fragments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The function that holds the `code!`, as `crate::module::function`.
    pub path: &'static str,
    /// The fragment it is spliced into; the root is its own parent.
    pub parent: u32,
}

/// A function of the program: the main one first, then those it calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// The slot it starts at.
    pub at: u32,
    /// Its name, as the kernel will show it.
    pub name: String,
    /// What it takes, if it is a [global](crate::code::FuncName::global) one.
    pub params: Option<Vec<Param>>,
}

/// What must be filled in before the kernel reads the slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloc {
    /// The slot.
    pub at: u32,
    /// What goes there.
    pub target: Target,
}

/// What a slot refers to by name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// The map's fd.
    Map(Name),
    /// The address inside the value of a one-element map, at this offset.
    MapValue(Name, u32),
    /// The address inside a global data section (`.data`, `.rodata`, `.bss`, `.private`), at this
    /// offset.
    Section(&'static str, u32),
    /// The kernel function of that name, `name` or `module:name`.
    Kfunc(String),
    /// The address of the kernel variable of that name, `name` or `module:name`.
    Ksym(String),
    /// What the running kernel answers, added to the offset of an access or to a constant.
    Kernel(Question),
}

/// Global data: becomes a one-element array map when the program is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// `.data`, `.rodata`, `.bss` or `.private`.
    pub name: &'static str,
    /// The initial bytes; all zero for `.bss` and `.private`.
    pub bytes: Vec<u8>,
    /// Name, offset and size of each variable, by offset.
    pub symbols: Vec<(String, u32, u32)>,
}

impl Program {
    /// A program of slots as they are: not checked, without sources, labels, maps or references by
    /// name. [`check`](crate::check::check) judges it.
    #[must_use]
    pub fn from_slots(kind: ProgType, name: &str, insns: Vec<Raw>) -> Program {
        Program {
            name: name.to_owned(),
            kind,
            insns,
            relocs: Vec::new(),
            labels: Vec::new(),
            funcs: Vec::new(),
            maps: Vec::new(),
            sections: Vec::new(),
            types: Vec::new(),
            records: Vec::new(),
            lines: Vec::new(),
            frames: Vec::new(),
            net: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// The name that the kernel will show.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The program type it was built and checked for.
    #[must_use]
    pub fn kind(&self) -> ProgType {
        self.kind
    }

    /// The instruction slots. References by name are zero until the program is loaded.
    #[must_use]
    pub fn insns(&self) -> &[Raw] {
        &self.insns
    }

    /// The bytes of all slots, as a machine of that order reads them.
    #[must_use]
    pub fn to_bytes(&self, order: Order) -> Vec<u8> {
        let slots = self.insns.iter();
        // The order is decided once, not in each slot: in the host's order this is a copy.
        let mut out: Vec<[u8; 8]> = match order {
            Order::Little => slots.map(|raw| raw.to_bytes(Order::Little)).collect(),
            Order::Big => slots.map(|raw| raw.to_bytes(Order::Big)).collect(),
        };
        for &(slot, net) in &self.net {
            let mut raw = self.insns[slot as usize];
            // From the host's form back to the number, then to the target's form.
            raw.imm = net.imm(net.imm(raw.imm, Order::HOST), order);
            out[slot as usize] = raw.to_bytes(order);
        }
        out.into_flattened()
    }

    /// What loading must fill in, in the order of the slots.
    #[must_use]
    pub fn relocs(&self) -> &[Reloc] {
        &self.relocs
    }

    /// The bound labels: slot and name, in the order of the slots.
    #[must_use]
    pub fn labels(&self) -> &[(u32, Cow<'static, str>)] {
        &self.labels
    }

    /// The functions, the main one first.
    #[must_use]
    pub fn funcs(&self) -> &[Function] {
        &self.funcs
    }

    /// The maps that it refers to, each once.
    #[must_use]
    pub fn maps(&self) -> &[MapShape] {
        &self.maps
    }

    /// The global data sections that it refers to.
    #[must_use]
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// What the bytes of a global variable mean, if the program knows.
    #[must_use]
    pub fn global_type(&self, name: &str) -> Option<Type> {
        let found = self.types.iter().find(|(known, _)| *known == name);
        found.map(|(_, ty)| *ty)
    }

    /// The structures of its own whose numbers it loads, each once.
    #[must_use]
    pub fn records(&self) -> &[&'static Record] {
        &self.records
    }

    /// What the checker found that a kernel may or may not refuse.
    #[must_use]
    pub fn warnings(&self) -> &[crate::report::Finding] {
        &self.warnings
    }

    /// The Rust line and fragment of each slot; empty for a program that was parsed from text.
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// The fragments, each with its parent.
    #[must_use]
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// The fragments around a slot, outermost first: `drop_echo > bump`.
    #[must_use]
    pub fn path(&self, slot: usize) -> String {
        self.lines
            .get(slot)
            .map_or_else(String::new, |line| frame_path(&self.frames, line.frame))
    }
}

impl PartialEq for Program {
    fn eq(&self, other: &Program) -> bool {
        self.name == other.name
            && self.kind == other.kind
            && self.insns == other.insns
            && self.relocs == other.relocs
            && self.funcs == other.funcs
            && self.maps == other.maps
            && self.sections == other.sections
    }
}

impl Eq for Program {}

/// `outer > inner` for a frame: the last part of each path, neighbours of one name told once.
pub(crate) fn frame_path(frames: &[Frame], mut index: u32) -> String {
    let mut names: Vec<&str> = Vec::new();
    while let Some(frame) = frames.get(index as usize) {
        let name = short(frame.path);
        if names.last() != Some(&name) {
            names.push(name);
        }
        if frame.parent >= index {
            break;
        }
        index = frame.parent;
    }
    names.reverse();
    names.join(" > ")
}

/// The function's own name out of `crate::module::function<T>`, closures left out.
pub(crate) fn short(path: &'static str) -> &'static str {
    let (mut depth, mut start, mut best) = (0_u32, 0, path);
    let mut take = |part: &'static str| {
        let name = part.split('<').next().unwrap_or(part);
        if !name.is_empty() && !name.starts_with('{') {
            best = name;
        }
    };
    for (i, c) in path.char_indices() {
        match c {
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            ':' if depth == 0 => {
                take(&path[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    take(&path[start..]);
    best
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn a_short_name_is_the_function_alone() {
        for (path, name) in [
            ("app::drop_echo", "drop_echo"),
            ("main", "main"),
            ("app::run::{{closure}}::{{closure}}", "run"),
            ("app::each<alloc::vec::Vec<u8>>", "each"),
            ("app::Table<alloc::string::String>::look_up", "look_up"),
            (
                "<app::Table as app::Walk<u8>>::walk<u16>::{{closure}}",
                "walk",
            ),
        ] {
            assert_eq!(short(path), name);
        }
    }
}
