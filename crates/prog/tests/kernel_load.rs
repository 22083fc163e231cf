//! Loading: what is filled in, what is told to the kernel, what a refusal says.

use bpfsmith_asm::dsl::*;
use bpfsmith_gate::needs;
use bpfsmith_maps::Handle;
use bpfsmith_prog::{Error, Link, Load, Maps, Prog, kernel};
use bpfsmith_sys::info;
use bpfsmith_uapi::AttachType;
use std::os::fd::{AsFd, BorrowedFd};

static HITS: MapDef<u32, u64> = MapDef::array("hits", 1);

fn bump(map: &MapDef<u32, u64>) -> Code {
    let key = slot::<u32>("key");
    code![
        store(key.u32(0), 0),
        map_lookup_elem(map, key),
        R0.ne(0).then(code![
            load(R1, R0.u64(0)),
            add(R1, 1),
            store(R0.u64(0), R1),
        ]),
    ]
}

fn count() -> Code {
    code![bump(&HITS), ret(XDP_PASS)]
}

#[test]
fn maps_are_filled_in_and_lines_are_told() {
    needs!(Root, Bpf);
    let program = Program::new(ProgType::XDP, "count", count()).unwrap();
    let maps = Maps::of(&program).unwrap();
    let prog = Load::new(&program).maps(&maps).load().unwrap();
    assert_eq!(prog.account().tries, 1);
    assert_eq!(prog.account().lines_refused, None);

    let about = info::prog(prog.as_fd()).unwrap();
    assert_eq!((about.nr_map_ids, about.nr_func_info), (1, 1));
    assert!(about.nr_line_info >= 5, "{about:?}");
}

#[test]
fn a_missing_map_is_named() {
    needs!(Root, Bpf);
    let program = Program::new(ProgType::XDP, "count", count()).unwrap();
    let error = Load::new(&program).load().unwrap_err();
    assert_eq!(
        error.to_string(),
        "load count: the set of maps has no \"hits\" (add it with Maps::insert, or make what is \
         missing with Maps::add)"
    );
}

/// The first map would serve the second program, which was written for another one.
#[test]
fn one_name_is_one_map() {
    needs!(Root, Bpf);
    static OTHER: MapDef<u32, u64> = MapDef::array("hits", 2);
    static WIDE: MapDef<u32, [u64; 2]> = MapDef::array("hits", 1);
    let first = Program::new(ProgType::XDP, "count", count()).unwrap();
    let reads = |map: Code| code![map, ret(XDP_PASS)];
    let other = Program::new(ProgType::XDP, "other", reads(bump(&OTHER))).unwrap();
    let key = slot::<u32>("key");
    let wide = code![
        store(key.u32(0), 0),
        map_lookup_elem(&WIDE, key)
    ];
    let wide = Program::new(ProgType::XDP, "wide", reads(wide)).unwrap();
    let mut maps = Maps::of(&first).unwrap();
    maps.add(&first).unwrap();
    let advice = "(give the maps different names, or each program a set of its own)";
    for (program, text) in [
        (
            &other,
            "load other: the number of entries of \"hits\" in the set of maps is 1, this program defines 2",
        ),
        (
            &wide,
            "load wide: the size of a value of \"hits\" in the set of maps is 8, this program defines 16",
        ),
    ] {
        for error in [
            maps.add(program).unwrap_err(),
            Load::new(program).maps(&maps).load().unwrap_err(),
        ] {
            assert_eq!(error.to_string(), format!("{text} {advice}"));
        }
    }
    // A map that is put in may be larger, but not of other values.
    maps.insert(HITS.shape().name, Handle::create(OTHER.shape()).unwrap());
    Load::new(&first).maps(&maps).load().unwrap();
    maps.insert(HITS.shape().name, Handle::create(WIDE.shape()).unwrap());
    let error = Load::new(&first).maps(&maps).load().unwrap_err();
    assert!(error.to_string().contains("the size of a value"), "{error}");
}

#[test]
fn a_refusal_names_the_rust_line() {
    needs!(Root, Bpf);
    let (line, unchecked) = (line!(), load(R0, R2.u32(0)));
    let wrong = code![
        load(R2, R1.get(xdp_md::data)),
        unchecked,
        exit()
    ];
    let program = Program::new(ProgType::XDP, "wrong", wrong).unwrap();
    let Error::Refused(refusal) = Load::new(&program).load().unwrap_err() else {
        panic!("not a refusal")
    };
    assert_eq!(refusal.at.map(std::panic::Location::line), Some(line));
    assert!(
        refusal.sentence.contains("invalid access to packet"),
        "{refusal:#}"
    );
}

#[test]
fn the_kernels_types_are_mapped_where_it_can() {
    needs!(Btf);
    let btf = kernel::btf().unwrap();
    let task = btf.find_struct("task_struct").unwrap();
    assert!(btf.member(task, "pid").unwrap().offset().is_some());
    // Linux 6.16 maps them; a reason is told where they were copied.
    let copied = kernel::copied().unwrap();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    assert_eq!(
        copied.is_none(),
        maps.contains("/sys/kernel/btf/vmlinux"),
        "{copied:?}"
    );
}

/// The kernel's descriptions can be read as each other's.
#[test]
fn what_is_opened_is_what_it_is_taken_for() {
    needs!(Root, Bpf);
    let program = Program::new(ProgType::XDP, "pass", code![ret(XDP_PASS)]).unwrap();
    let prog = Load::new(&program).load().unwrap();
    let map = Handle::create(HITS.shape()).unwrap();
    let copy = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().unwrap();
    let call = "BPF_OBJ_GET_INFO_BY_FD";
    for (text, is) in [
        (
            Prog::from_fd(copy(map.as_fd()), AttachType(0))
                .unwrap_err()
                .to_string(),
            "program behind an fd: EINVAL (it is no program)",
        ),
        (
            Link::from_fd(copy(prog.as_fd())).unwrap_err().to_string(),
            "link behind an fd: EINVAL (it is no link)",
        ),
        (
            Handle::from_fd(copy(prog.as_fd())).unwrap_err().to_string(),
            "map behind an fd: EINVAL (it is no map)",
        ),
    ] {
        assert_eq!(text, format!("{call} {is}"));
    }
    let again = Prog::from_fd(copy(prog.as_fd()), AttachType::XDP).unwrap();
    assert_eq!((again.name(), again.kind()), ("pass", ProgType::XDP));
    let lost = prog.bind(&prog).unwrap_err().to_string();
    assert!(
        lost.ends_with("EINVAL (what was given is no map)"),
        "{lost}"
    );
}
