//! Structures of functions at their edges: odd names and numbers, several threads, other links, and
//! what is left after many rounds.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use bpfsmith_asm::dsl::*;
use bpfsmith_gate::{needs, rounds};
use bpfsmith_prog::ops::{LoadedOps, Registered, StructOps};
use bpfsmith_prog::{Error, Load, Maps, target};
use bpfsmith_sys::info;
use bpfsmith_uapi::Errno;
use std::sync::Barrier;

fn build(name: &str, code: Code) -> Program {
    let built = Program::new(ProgType::STRUCT_OPS, name, code);
    built.unwrap_or_else(|report| panic!("{report}"))
}

fn constant(number: i32) -> Program {
    build("constant", code![mov(R0, number), exit()])
}

fn tcp<'a>() -> StructOps<'a> {
    StructOps::new("tcp_congestion_ops").unwrap()
}

/// An algorithm that does nothing well.
fn loaded(name: &str) -> LoadedOps {
    let two = constant(2);
    let ops = tcp().func("ssthresh", &two).unwrap();
    let ops = ops.func("undo_cwnd", &two).unwrap();
    let ops = ops.func("cong_avoid", &two).unwrap();
    let ops = ops.text("name", name).unwrap();
    let loaded = ops.load(&Maps::new());
    loaded.unwrap_or_else(|error| panic!("{error:#}"))
}

fn is_available(name: &str) -> bool {
    let all = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control");
    all.unwrap().split_whitespace().any(|known| known == name)
}

#[test]
fn what_is_common_to_all_kinds_is_none() {
    needs!(Root, Bpf, Btf, StructOps);
    for name in [
        "",
        "value",
        "common_value",
        "map",
        "link",
        "desc",
        "arg_info",
        "state",
        "tcp_congestion_ops\0",
        "bpf_struct_ops_tcp_congestion_ops",
        "struct tcp_congestion_ops",
    ] {
        match StructOps::new(name) {
            Ok(ops) => panic!("{ops:?}"),
            Err(error) => assert!(matches!(error, Error::NoOps { .. }), "{name}: {error}"),
        }
    }
}

#[test]
fn odd_members_and_numbers_are_refused() {
    needs!(Root, Bpf, Btf, StructOps);
    let two = constant(2);
    for member in [
        "",
        ".",
        "..",
        "name.",
        ".name",
        "name[16]",
        "name[99999999999]",
        "name[-1]",
        "name[0",
        "flags.x",
        "ssthresh[0]",
        "sstresh",
        "flags\0",
        "flags ",
        "é",
    ] {
        assert!(tcp().func(member, &two).is_err(), "{member:?}");
        assert!(tcp().number(member, 1).is_err(), "{member:?}");
        assert!(tcp().text(member, "x").is_err(), "{member:?}");
    }
    for number in [
        -1,
        1 << 32,
        i128::MAX,
        i128::MIN,
        i128::from(i64::MIN),
    ] {
        let error = tcp().number("flags", number).unwrap_err().to_string();
        assert!(error.contains("it takes 0 to 4294967295"), "{error}");
    }
    assert!(tcp().number("flags", u32::MAX).is_ok());
    assert!(tcp().number("name[0]", 65).is_ok());
    for text in ["sixteen bytes ok", "nul\0", "\0"] {
        assert!(tcp().text("name", text).is_err(), "{text:?}");
    }
    assert!(tcp().text("name", "fifteen bytes o").is_ok());
    // The last binding of a member counts.
    let ops = tcp().func("ssthresh", &two).unwrap();
    let three = constant(3);
    let ops = ops.func("ssthresh", &three).unwrap();
    assert_eq!(ops.load(&Maps::new()).unwrap().progs().count(), 1);
}

#[test]
fn a_register_that_got_something_else_is_no_context_any_more() {
    needs!(Root, Bpf, Btf, StructOps);
    let cell = slot::<u64>("cell");
    for get in [
        code![load_acquire(R1, cell.u64(0))],
        code![xchg(cell.u64(0), R1)],
        code![fetch_add(cell.u64(0), R1)],
    ] {
        let program = build(
            "other",
            code![
                mov(R2, R10),
                store(cell.u64(0), R2),
                get,
                load(R0, R1.u64(80)),
                mov(R0, 2),
                exit(),
            ],
        );
        if let Err(error) = tcp().func("ssthresh", &program) {
            panic!("{error}");
        }
    }
}

#[test]
fn states_of_every_size_are_safe() {
    needs!(Root, Bpf, Btf, StructOps, DummyOps);
    let program = build(
        "state",
        code![
            load(R6, args("bpf_dummy_ops.test_1").get("state")),
            mov(R0, -1),
            R6.ne(0).then(code![
                load(R0, R6.get(kernel("bpf_dummy_ops_state.val"))),
                mov(R1, -1),
                store(R6.get(kernel("bpf_dummy_ops_state.val")), R1),
            ]),
            exit(),
        ],
    );
    let ops = StructOps::new("bpf_dummy_ops").unwrap();
    let ops = ops
        .func("test_1", &program)
        .unwrap()
        .load(&Maps::new())
        .unwrap();
    for size in [0, 1, 2, 3, 4, 5, 8, 4095, 4096] {
        let mut state = vec![0x11; size];
        let wanted = (0..4).fold(0, |sum, n| {
            sum | u32::from(if n < size { 0x11 } else { 0_u8 }) << (8 * n)
        });
        assert_eq!(
            ops.call("test_1", Some(&mut state), &[]).unwrap(),
            wanted.to_le(),
            "{size}"
        );
        let changed = state.iter().take_while(|&&byte| byte == 0xff).count();
        assert_eq!(changed, size.min(4));
        assert!(state[changed..].iter().all(|&byte| byte == 0x11));
    }
    let error = ops
        .call("test_1", Some(&mut vec![0; 4097]), &[])
        .unwrap_err();
    assert_eq!(error.errno(), Some(Errno::E2BIG), "{error}");
    for rest in [
        vec![1],
        vec![u64::MAX; 13],
        vec![u64::MAX; 1 << 16],
    ] {
        let error = ops.call("test_1", None, &rest).unwrap_err();
        assert!(error.errno().is_some(), "{error}");
    }
}

#[test]
fn what_a_link_registered_is_not_taken_over_without_it() {
    needs!(Root, Bpf, Btf, StructOpsLink);
    let ops = loaded("bs_edge_link");
    let link = ops.attach().unwrap();
    let info::Place::StructOps { map } = link.info().unwrap().place else {
        panic!("{:?}", link.info())
    };
    let error = Registered::open_id(map).unwrap_err().to_string();
    assert!(error.contains("belongs to a link"), "{error}");
    assert!(is_available("bs_edge_link"));
}

#[test]
fn only_a_link_of_its_kind_is_replaced() {
    needs!(Root, Bpf, Btf, StructOpsLink);
    let ops = loaded("bs_edge_other");
    let trace = Program::new(ProgType::RAW_TRACEPOINT, "trace", code![ret(0)]).unwrap();
    let trace = Load::new(&trace).load().unwrap();
    let mut link = trace
        .attach(&target::RawTracepoint::named("sys_enter"))
        .unwrap();
    let error = ops.replace(&mut link).unwrap_err().to_string();
    assert!(error.contains("is no link of struct_ops"), "{error}");
    assert!(!is_available("bs_edge_other"));
}

#[test]
fn of_many_threads_one_registers() {
    needs!(Root, Bpf, Btf, StructOps);
    let ops = loaded("bs_edge_race");
    for _ in 0..rounds(20) {
        let (start, end) = (Barrier::new(8), Barrier::new(8));
        let won: usize = std::thread::scope(|scope| {
            let one = || {
                start.wait();
                let registered = ops.register();
                // Whoever has it keeps it until all have tried.
                end.wait();
                match registered {
                    Ok(registered) => {
                        registered.unregister().unwrap();
                        1
                    }
                    Err(error) => {
                        assert_eq!(error.errno(), Some(Errno::EEXIST), "{error}");
                        0
                    }
                }
            };
            let all: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
            all.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(won, 1);
        assert!(!is_available("bs_edge_race"));
    }
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4
}

/// Alone in its process, because others open files as well.
#[test]
fn many_rounds_leave_no_file_open_and_no_memory() {
    needs!(Root, Bpf, Btf, StructOpsLink);
    if std::env::var_os("BS_EDGE_ALONE").is_none() {
        let me = std::env::current_exe().unwrap();
        let name = "many_rounds_leave_no_file_open_and_no_memory";
        let done = std::process::Command::new(me)
            .args(["--exact", name, "--nocapture"])
            .env("BS_EDGE_ALONE", "1")
            .status();
        assert!(done.unwrap().success());
        return;
    }
    let round = || {
        let (one, two) = (loaded("bs_edge_round"), loaded("bs_edge_round"));
        let mut link = one.attach().unwrap();
        drop(one);
        two.replace(&mut link).unwrap();
        // The name is taken: what failed leaves nothing, either.
        assert!(two.attach().is_err() && two.register().is_err());
        drop(two);
        link.force_detach().unwrap();
        let plain = loaded("bs_edge_plain");
        plain.register().unwrap().unregister().unwrap();
    };
    (0..20).for_each(|_| round());
    let (files, memory) = (open_files(), resident());
    (0..rounds(300)).for_each(|_| round());
    assert_eq!(open_files(), files);
    let grown = resident().saturating_sub(memory);
    eprintln!("{files} files, {memory} kB, grown by {grown} kB");
    assert!(grown < 1024, "{grown} kB more than {memory} kB");
}
