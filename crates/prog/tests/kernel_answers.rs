//! All fields of the running kernel, read by name out of random bytes and compared with what Rust reads
//! there; and names that have no answer, or more than one.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use bpfsmith_asm::dsl::*;
use bpfsmith_btf::{Btf, Kind, TypeId};
use bpfsmith_gate::needs;
use bpfsmith_maps::Map;
use bpfsmith_prog::kernel::Bytes;
use bpfsmith_prog::{Error, Load, Maps, kernel as running};
use std::collections::HashSet;

/// Larger than the structures that are looked into.
const ROOM: usize = 4096;
/// How many fields a program reads.
const BATCH: usize = 500;

static MEMORY: MapDef<u32, [u8; ROOM]> = MapDef::array("memory", 1);
static FOUND: MapDef<u32, [u64; BATCH]> = MapDef::array("found", 1);

/// A field by its name, and the bits that it has.
struct Bits {
    path: &'static str,
    from: usize,
    count: usize,
    is_field_of_bits: bool,
}

/// Members by name, with those of members without one.
fn members(btf: &Btf<Bytes>, id: TypeId, before: u32, root: &str, all: &mut Vec<Bits>) {
    let ty = btf.resolve(id).unwrap();
    for member in ty.members() {
        let from = before + member.bit_offset;
        if member.name.is_empty() {
            members(btf, member.ty, from, root, all);
            continue;
        }
        let Ok(size) = btf.size_of(member.ty) else {
            continue;
        };
        let count = member.bits.map_or(size * 8, u32::from);
        if !matches!(size, 1 | 2 | 4 | 8) || (from + 64) as usize > ROOM * 8 {
            continue;
        }
        all.push(Bits {
            path: format!("{root}.{}", member.name).leak(),
            from: from as usize,
            count: count as usize,
            is_field_of_bits: member.bits.is_some(),
        });
    }
}

/// Every field of the kernel's structures, but of those whose names are not theirs alone.
fn fields() -> Vec<Bits> {
    let btf = running::btf().unwrap();
    let mut names = HashSet::new();
    let mut twice = HashSet::new();
    let structs = || {
        let all = btf.types();
        all.filter(|ty| matches!(ty.kind(), Kind::STRUCT | Kind::UNION) && !ty.name().is_empty())
    };
    for ty in structs() {
        if !names.insert(ty.name().to_string()) {
            twice.insert(ty.name().to_string());
        }
    }
    let mut all = Vec::new();
    for ty in structs() {
        let name = ty.name().to_string();
        let word = if ty.kind() == Kind::UNION {
            "union"
        } else {
            "struct"
        };
        if !twice.contains(&name) {
            members(btf, ty.id(), 0, &format!("{word} {name}"), &mut all);
        }
    }
    all
}

/// What stands in those bits, counted one by one from the least of the first byte.
fn expected(bytes: &[u8], field: &Bits) -> u64 {
    let bit = |number: usize| u64::from(bytes[number / 8] >> (number % 8) & 1);
    (0..field.count).fold(0, |sum, n| sum | bit(field.from + n) << n)
}

fn noise() -> [u8; ROOM] {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::array::from_fn(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
}

/// Reads them all out of the same bytes, and tells those that come out otherwise.
fn compare(fields: &[&Bits], read: impl Fn(&'static str) -> Code) {
    let bytes = noise();
    let key = slot::<u32>("key");
    let mut wrong = Vec::new();
    for batch in fields.chunks(BATCH) {
        let code = code![
            store(key.u32(0), 0),
            map_lookup_elem(&MEMORY, key),
            mov(R6, R0),
            R6.eq(0).then(ret(1)),
            map_lookup_elem(&FOUND, key),
            mov(R7, R0),
            R7.eq(0).then(ret(1)),
            batch.iter().zip(0..).map(|(field, n)| code![
                read(field.path),
                store(R7.u64(n * 8), R1),
            ]),
            ret(0),
        ];
        let program = Program::new(ProgType::SOCKET_FILTER, "fields", code);
        let program = program.unwrap_or_else(|report| panic!("{report}"));
        let mut maps = Maps::new();
        maps.add(&program).unwrap();
        let memory: Map<u32, [u8; ROOM]> = maps.open(&MEMORY).unwrap();
        memory.update(&0, &bytes).unwrap();
        let prog = Load::new(&program).maps(&maps).load();
        let prog = prog.unwrap_or_else(|error| panic!("{error:#}"));
        assert_eq!(prog.run().data(&[0; 64]).go().unwrap().retval, 0);
        let found: Map<u32, [u64; BATCH]> = maps.open(&FOUND).unwrap();
        let found = found.lookup(&0).unwrap().unwrap();
        for (field, found) in batch.iter().zip(found) {
            let expected = expected(&bytes, field);
            if found != expected {
                wrong.push(format!("{}: {found:#x}, not {expected:#x}", field.path));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}: {wrong:#?}",
        wrong.len(),
        fields.len()
    );
}

#[test]
fn every_field_of_bits_is_cut_out_right() {
    needs!(Root, Bpf, Btf);
    let all = fields();
    let bits: Vec<_> = all.iter().filter(|field| field.is_field_of_bits).collect();
    assert!(bits.len() > 1000, "{}", bits.len());
    compare(&bits, |path| code![load_bits(R1, R6, kernel(path))]);
    // What is no field of bits is read in the same way.
    let whole = all.iter().filter(|field| !field.is_field_of_bits);
    let some: Vec<_> = whole.step_by(31).collect();
    compare(&some, |path| code![load_bits(R1, R6, kernel(path))]);
}

#[test]
fn every_field_is_where_its_bytes_are() {
    needs!(Root, Bpf, Btf);
    let all = fields();
    let whole: Vec<_> = all.iter().filter(|field| !field.is_field_of_bits).collect();
    assert!(whole.len() > 10_000, "{}", whole.len());
    let some: Vec<_> = whole.iter().step_by(7).copied().collect();
    compare(&some, |path| code![load(R1, R6.get(kernel(path)))]);
}

#[track_caller]
fn refused(code: Code, wanted: &str) {
    let program = Program::new(ProgType::SOCKET_FILTER, "refused", code![code, ret(0)]);
    let program = program.unwrap_or_else(|report| panic!("{report}"));
    match Load::new(&program).load() {
        Ok(_) => panic!("loaded: {}", program.listing()),
        Err(error) => {
            let error = error.to_string();
            assert!(error.contains(wanted), "{error}\nwanted: {wanted}");
        }
    }
}

#[track_caller]
fn answer(code: Code) -> u32 {
    let program = Program::new(ProgType::SOCKET_FILTER, "answer", code![code, exit()]);
    let program = program.unwrap_or_else(|report| panic!("{report}"));
    let prog = Load::new(&program).load();
    let prog = prog.unwrap_or_else(|error| panic!("{error:#}"));
    prog.run().data(&[0; 64]).go().unwrap().retval
}

/// A constant that two enumerations have with different values, if the kernel has one.
fn two_values() -> Option<&'static str> {
    let btf = running::btf().unwrap();
    let mut known = std::collections::HashMap::new();
    for value in btf.types().flat_map(|ty| ty.enumerators()) {
        let name = value.name.to_string();
        if *known.entry(name.clone()).or_insert(value.value) != value.value {
            return Some(name.leak());
        }
    }
    None
}

#[test]
fn a_constant_with_two_values_is_not_chosen_at_random() {
    needs!(Root, Bpf, Btf);
    let Some(name) = two_values() else { return };
    refused(
        code![mov(R0, kernel_const(name))],
        "has several values in this kernel",
    );
    assert_eq!(answer(code![mov(R0, kernel_const(name).exists())]), 1);
}

/// A member that two structures of one name have in different places.
fn two_places() -> Option<&'static str> {
    let btf = running::btf().unwrap();
    let mut known = std::collections::HashMap::new();
    for ty in btf
        .types()
        .filter(|ty| ty.kind() == Kind::STRUCT && !ty.name().is_empty())
    {
        for member in ty.members().filter(|member| !member.name.is_empty()) {
            let path = format!("{}.{}", ty.name(), member.name);
            if *known.entry(path.clone()).or_insert(member.bit_offset) != member.bit_offset {
                return Some(path.leak());
            }
        }
    }
    None
}

#[test]
fn a_field_with_two_places_is_not_chosen_at_random() {
    needs!(Root, Bpf, Btf);
    let Some(name) = two_places() else { return };
    refused(
        code![mov(R0, kernel(name).offset())],
        "has several structures of that name",
    );
    assert_eq!(answer(code![mov(R0, kernel(name).exists())]), 1);
}

#[test]
fn what_has_no_name_is_not_found_by_none() {
    needs!(Root, Bpf, Btf);
    for name in ["struct", "union ", "enum"] {
        assert_eq!(
            answer(code![mov(R0, kernel_type(name).exists())]),
            0,
            "{name}"
        );
    }
    for name in [
        "struct .pid",
        ".pid",
        "task_struct.",
        "task_struct..pid",
        "task_struct.pid.",
        "task_struct[0].pid",
    ] {
        let program = Program::new(
            ProgType::SOCKET_FILTER,
            "odd",
            code![mov(R0, kernel(name).exists()), exit()],
        );
        match Load::new(&program.unwrap()).load() {
            Ok(prog) => assert_eq!(prog.run().data(&[0; 64]).go().unwrap().retval, 0, "{name}"),
            Err(error) => assert!(!matches!(error, Error::Refused(_)), "{name}: {error}"),
        }
    }
    assert_eq!(
        answer(code![mov(
            R0,
            kernel_const(".TCP_CA_Loss").exists()
        )]),
        0
    );
}

#[test]
fn alternatives_may_be_given_for_whatever_is_asked() {
    needs!(Root, Bpf, Btf);
    assert_eq!(
        answer(code![mov(
            R0,
            kfunc("no_such_one | tcp_reno_ssthresh").exists()
        )]),
        1
    );
    assert_eq!(
        answer(code![mov(
            R0,
            ksym("no_such_one | runqueues").exists()
        )]),
        1
    );
    assert_eq!(
        answer(code![mov(
            R0,
            kernel_const("NO_SUCH_ONE | TCP_CA_Loss")
        )]),
        4
    );
    assert_eq!(
        answer(code![mov(
            R0,
            kernel_type("no_such_one | struct list_head").size()
        )]),
        16
    );
    // What is behind another field comes from the first of each that exists.
    let through = R1.to(kernel("task_struct.no_such | task_struct.se"));
    let through = through.get(kernel("sched_entity.no_such | sched_entity.exec_start"));
    let btf = running::btf().unwrap();
    let task = btf.find_struct("task_struct").unwrap();
    let place = btf.member(task, "se.exec_start").unwrap();
    let sum = code![mov(R1, 0), addr(R0, through)];
    assert_eq!(answer(sum), place.bit_offset / 8);
}

#[test]
fn what_is_missing_on_the_way_is_told() {
    needs!(Root, Bpf, Btf);
    for name in [
        "task_struct.mm.pgd",
        "task_struct.mm.pgd + list_head.next",
    ] {
        refused(
            code![mov(R0, kernel(name).offset())],
            "there is a pointer on the way: load it",
        );
    }
    refused(
        code![mov(
            R0,
            kernel("task_struct.taskz + list_head.next").offset()
        )],
        "near: task_struct.tasks;",
    );
    refused(
        code![mov(
            R0,
            kernel("sk_buff.pkt_type + list_head.next").offset()
        )],
        "nothing is reached through a field of bits",
    );
}

#[test]
fn an_address_that_is_missing_is_never_null_instead() {
    needs!(Root, Bpf, Btf);
    // Something else is tested: the name is used all the same.
    let code = code![
        mov(R0, kernel("task_struct.pid").exists()),
        ld_ksym(R1, "no_such_variable"),
        mov(R0, R1),
    ];
    refused(
        code,
        "this kernel has no typed variable \"no_such_variable\"",
    );
}

#[test]
fn a_branch_on_what_is_missing_has_two_ends() {
    needs!(Root, Bpf, Btf);
    let missing = kernel_const("NO_SUCH_CONSTANT");
    let code = |compare: Code| {
        code![
            mov(R6, R1),
            mov(R0, 7),
            mov(R1, missing.exists()),
            R1.ne(0).then(code![load(R2, R6.u32(0)), compare]),
        ]
    };
    // Both ends stay, although nobody comes there.
    let jump = R2.eq(missing).then(mov(R0, 1)).or_else(mov(R0, 2));
    assert_eq!(answer(code(code![jump])), 7);
    // Whoever comes there is refused, with the reason.
    let used = R2.eq(missing).then(mov(R0, 1)).or_else(mov(R0, 2));
    refused(
        code![
            mov(R6, R1),
            mov(R0, missing.exists()),
            load(R2, R6.u32(0)),
            used,
        ],
        "no constant \"NO_SUCH_CONSTANT\"",
    );
    // Without another branch, nothing hangs.
    assert_eq!(answer(code(code![R2.eq(missing).then(mov(R0, 1))])), 7);
}

/// What a test asks for costs as much where it is missing: no names nearby are looked for.
#[test]
fn a_thousand_functions_that_are_missing_are_missed_quickly() {
    needs!(Root, Bpf, Btf);
    let names = (0..1000).map(|n| &*format!("bpf_no_such_function_{n}").leak());
    let code: Vec<_> = names
        .map(|name| {
            code![
                mov(R1, kfunc(name).exists()),
                add(R0, R1)
            ]
        })
        .collect();
    assert_eq!(answer(code![mov(R0, 5), code]), 5);
}

#[test]
fn a_thousand_constants_are_found() {
    needs!(Root, Bpf, Btf);
    let btf = running::btf().unwrap();
    let mut seen = std::collections::HashMap::<String, HashSet<i128>>::new();
    for value in btf.types().flat_map(|ty| ty.enumerators()) {
        seen.entry(value.name.to_string())
            .or_default()
            .insert(value.value);
    }
    let mut names: Vec<_> = seen
        .into_iter()
        .filter(|(_, values)| values.len() == 1 && values.iter().all(|&v| i32::try_from(v).is_ok()))
        .map(|(name, values)| (&*name.leak(), values.into_iter().next().unwrap()))
        .collect();
    names.sort_unstable();
    let names: Vec<_> = names.into_iter().step_by(13).take(1000).collect();
    let mut sum = 0_u32;
    let code: Vec<_> = names
        .iter()
        .map(|(name, _)| code![mov(R1, kernel_const(name)), add(R0, R1),])
        .collect();
    for (_, value) in &names {
        sum = sum.wrapping_add(i32::try_from(*value).unwrap().cast_unsigned());
    }
    let program = Program::new(
        ProgType::SOCKET_FILTER,
        "many",
        code![mov(R0, 0), code, exit()],
    )
    .unwrap();
    let prog = Load::new(&program).load().unwrap();
    assert_eq!(prog.run().data(&[0; 64]).go().unwrap().retval, sum);
}
