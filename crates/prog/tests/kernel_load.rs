//! Loading: what is filled in, what is told to the kernel, what a refusal says.

use bpfsmith_asm::dsl::*;
use bpfsmith_gate::needs;
use bpfsmith_prog::{Error, Load, Maps, kernel};
use bpfsmith_sys::info;
use std::os::fd::AsFd;

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
