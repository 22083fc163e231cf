//! Global variables in the kernel: by name and type, with the values that a program left there.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use bpfsmith_asm::dsl::*;
use bpfsmith_asm::text;
use bpfsmith_btf::{Btf, TypeId};
use bpfsmith_gate::needs;
use bpfsmith_maps::Handle;
use bpfsmith_prog::{Lines, Load, Prog};
use bpfsmith_sys::info::{self, List};
use bpfsmith_sys::object;
use std::os::fd::AsFd;
use zerocopy::{FromBytes, Immutable, IntoBytes};

bpfsmith_uapi::record! {
    /// A structure whose member is called as a keyword.
    #[derive(Clone, Copy, IntoBytes, FromBytes, Immutable)]
    struct Pair {
        r#type: u32,
        port: i16,
        pad: [u8; 2],
    }
}

static LIMIT: Global<u64> = Global::rodata("limit", 100);
static PAIR: Global<Pair> = Global::data(
    "pair",
    Pair {
        r#type: 7,
        port: -2,
        pad: [0; 2],
    },
)
.described();
static LEVEL: Global<i32> = Global::data("level", -5).described();
static BYTES: Global<[u8; 3]> = Global::data("a.b", [1, 2, 3]);
static TOTAL: Global<u64> = Global::bss("total");

fn count() -> Code {
    code![
        ld_global(R1, &LIMIT),
        load(R2, R1.u64(0)),
        ld_global(R1, &TOTAL),
        store(R1.u64(0), R2),
        ld_global(R1, &PAIR),
        store(R1.get(Pair::port), -3),
        ld_global(R1, &LEVEL),
        ld_global(R1, &BYTES),
        ret(XDP_PASS),
    ]
}

fn loaded(lines: Lines) -> Prog {
    let program = Program::new(ProgType::XDP, "vars", count()).unwrap();
    let prog = Load::new(&program).lines(lines).load();
    prog.unwrap_or_else(|error| panic!("{error:#}"))
}

/// The maps of a program.
fn maps(prog: &Prog) -> Vec<Handle> {
    let ids = info::prog_list(prog.as_fd(), List::Maps).unwrap();
    let id = |id: &[u8]| u32::from_ne_bytes(id.try_into().unwrap());
    ids.chunks_exact(4)
        .map(|bytes| Handle::open_id(id(bytes)).unwrap())
        .collect()
}

/// What a map holds, printed by what the kernel knows of it.
fn printed(map: &Handle) -> String {
    let about = map.info().unwrap();
    assert_eq!(about.btf_key_type_id, 0);
    let fd = object::open_id(object::Kind::Btf, about.btf_id, 0, None).unwrap();
    let btf = Btf::parse(info::btf_bytes(fd.as_fd()).unwrap()).unwrap();
    let ty = btf.get(TypeId(about.btf_value_type_id)).unwrap();
    assert_eq!(btf.size_of(ty.id()).unwrap(), about.value_size);
    let mut bytes = vec![0; map.facts().stride];
    map.raw().lookup(&[0; 4], &mut bytes, 0).unwrap();
    format!("{} {}", ty.name(), btf.show(ty.id(), &bytes).unwrap())
}

#[test]
fn global_variables_have_names_types_and_values() {
    needs!(Root, Bpf);
    let prog = loaded(Lines::Told);
    assert_eq!(prog.account().lines_refused, None);
    let outcome = prog.run().data(&[0; 64]).go().unwrap();
    assert_eq!(outcome.xdp(), XdpAction::PASS);
    let mut sections: Vec<String> = maps(&prog).iter().map(printed).collect();
    sections.sort();
    assert_eq!(
        sections,
        [
            ".bss { .total = 100 }",
            ".data { .pair = { .type = 7, .port = -3, .pad = { 0, 0 } }, .level = -5, .a_b = { 1, 2, 3 } }",
            ".rodata { .limit = 100 }",
        ]
    );
    // What is mapped and what is told are the same bytes.
    assert_eq!(prog.read(&TOTAL).unwrap(), 100);
    assert_eq!(prog.read(&PAIR).unwrap().port, -3);
    prog.write(&LEVEL, &8).unwrap();
    let again = maps(&prog).iter().map(printed).collect::<String>();
    assert!(again.contains(".level = 8,"), "{again}");
}

#[test]
fn without_lines_nothing_is_told() {
    needs!(Root, Bpf);
    let prog = loaded(Lines::Kept);
    for map in maps(&prog) {
        assert_eq!(map.info().unwrap().btf_id, 0);
    }
    prog.run().data(&[0; 64]).go().unwrap();
    assert_eq!(prog.read(&TOTAL).unwrap(), 100);
}

/// Variables that text gives odd places: what can be told is told, and the rest left out.
#[test]
fn a_program_from_text_tells_its_variables() {
    needs!(Root, Bpf);
    let program = Program::new(ProgType::XDP, "vars", count()).unwrap();
    let text = program.to_string();
    let overlapping = text.replace(
        "var level .data",
        "var inside .data offset 0 size 2\nvar nothing .data offset 1 size 0\nvar level .data",
    );
    assert_ne!(text, overlapping);
    for text in [text, overlapping] {
        let program = text::program(&text).unwrap_or_else(|report| panic!("{report}\n{text}"));
        let prog = Load::new(&program).load();
        let prog = prog.unwrap_or_else(|error| panic!("{error:#}"));
        assert_eq!(prog.account().lines_refused, None);
        let all = maps(&prog).iter().map(printed).collect::<String>();
        assert!(all.contains(".a_b = { 1, 2, 3 }"), "{all}");
        assert!(!all.contains("nothing"), "{all}");
    }
}
