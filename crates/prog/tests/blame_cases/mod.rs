//! Programs that the verifier refuses, one for each thing that can be wrong: what it says, whose
//! line is guilty, and which hint belongs to it.

#![allow(dead_code, reason = "each test file uses a part")]

mod calls;
mod flow;
mod memory;
mod values;

use bpfsmith_asm::dsl::*;
use std::cell::Cell;

/// A program that is refused.
#[derive(Debug)]
pub(crate) struct Case {
    /// The name of the case, and of the program.
    pub(crate) name: &'static str,
    pub(crate) kind: ProgType,
    /// Makes the program; the cell takes the guilty line, 0 for none.
    pub(crate) code: fn(&Cell<u32>) -> Code,
    pub(crate) errno: Errno,
    /// A part of the verifier's sentence on Linux 6.18.
    pub(crate) sentence: &'static str,
    pub(crate) hint: &'static str,
    pub(crate) license: &'static str,
    pub(crate) types: Types,
}

/// Whether it is loaded with BTF for its functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Types {
    /// With and without: the refusal is the same.
    Either,
    /// Only with it.
    Needed,
    /// Only without: that is what is wrong.
    Missing,
}

pub(crate) const fn case(
    name: &'static str,
    kind: ProgType,
    code: fn(&Cell<u32>) -> Code,
    errno: Errno,
    sentence: &'static str,
    hint: &'static str,
) -> Case {
    Case {
        name,
        kind,
        code,
        errno,
        sentence,
        hint,
        license: "GPL",
        types: Types::Either,
    }
}

/// Notes the line on which the guilty instruction stands.
macro_rules! guilty {
    ($line:expr, $insn:expr) => {{
        $line.set(line!());
        $insn
    }};
}
pub(crate) use guilty;

pub(crate) static HITS: MapDef<u32, u64> = MapDef::array("hits", 1);
pub(crate) static FLOWS: MapDef<u32, u64> = MapDef::hash("flows", 8);
pub(crate) static FIXED: MapDef<u32, u64> = MapDef::array("fixed", 1).flags(RDONLY_PROG);
pub(crate) static EVENTS: MapDef<(), ()> = MapDef::ringbuf("events", 4096);
pub(crate) static NEXT: MapDef<u32, u32> = MapDef::prog_array("next", 1);

/// `BPF_F_RDONLY_PROG`: programs cannot write the map.
const RDONLY_PROG: u32 = 1 << 7;

/// All of them.
pub(crate) fn cases() -> impl Iterator<Item = &'static Case> {
    [
        memory::CASES,
        values::CASES,
        calls::CASES,
        flow::CASES,
    ]
    .into_iter()
    .flatten()
}

impl Case {
    /// The program and its guilty line. The checker would refuse most of these: it is not asked.
    pub(crate) fn program(&self) -> (Program, Option<u32>) {
        let line = Cell::new(0);
        let code = (self.code)(&line);
        let program = Program::assemble(Isa::V4, self.kind, self.name, code)
            .unwrap_or_else(|report| panic!("{}: {report}", self.name));
        let line = line.get();
        (program, (line != 0).then_some(line))
    }
}

/// R0 becomes the address of `map[0]`, which is not null; leaves otherwise.
pub(crate) fn value_of(map: &MapDef<u32, u64>, out: Label) -> Code {
    let key = slot::<u32>("key");
    code![
        store(key.u32(0), 0),
        map_lookup_elem(map, key),
        jeq(R0, 0, out),
    ]
}
