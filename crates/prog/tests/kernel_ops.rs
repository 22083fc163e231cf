//! Structures of functions: what is refused, and what the kernel does with those it takes.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use bpfsmith_asm::dsl::*;
use bpfsmith_gate::{bpffs, deadline, needs, rounds};
use bpfsmith_maps::Handle;
use bpfsmith_prog::ops::{LoadedOps, Registered, StructOps};
use bpfsmith_prog::{Error, Link, Maps};
use bpfsmith_sys::info;
use bpfsmith_uapi::{Errno, OpsState};
use std::os::fd::AsFd;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);

#[track_caller]
fn build(name: &str, code: Code) -> Program {
    Program::new(ProgType::STRUCT_OPS, name, code).unwrap_or_else(|report| panic!("{report}"))
}

#[test]
fn a_function_gets_its_arguments_and_changes_the_state() {
    needs!(Root, Bpf, Btf, StructOps, DummyOps);
    let first = build(
        "first",
        code![
            load(R6, args("bpf_dummy_ops.test_1").get("state")),
            mov(R0, -1),
            // Newer kernels say that it may be null, and insist.
            R6.ne(0).then(code![
                load(R0, R6.get(kernel("bpf_dummy_ops_state.val"))),
                mov(R1, 0x5a),
                store(R6.get(kernel("bpf_dummy_ops_state.val")), R1),
            ]),
            exit(),
        ],
    );
    let second = build(
        "second",
        code![
            mov(R6, R1),
            load(R0, R6.u64(8)),
            load(R1, args("bpf_dummy_ops.test_2").from(R6).get("a2")),
            lsh(R0, 8),
            or(R0, R1),
            load(R1, args("bpf_dummy_ops.test_2").from(R6).get("a4")),
            lsh(R0, 8),
            or(R0, R1),
            exit(),
        ],
    );
    let ops = StructOps::new("bpf_dummy_ops").unwrap();
    let ops = ops.func("test_1", &first).unwrap();
    let ops = ops.func("test_2", &second).unwrap();
    let ops = ops
        .load(&Maps::new())
        .unwrap_or_else(|error| panic!("{error:#}"));
    let mut state = 0x1234_5678_u32.to_ne_bytes();
    assert_eq!(
        ops.call("test_1", Some(&mut state), &[]).unwrap(),
        0x1234_5678
    );
    assert_eq!(u32::from_ne_bytes(state), 0x5a);
    assert_eq!(ops.call("test_1", None, &[]).unwrap(), u32::MAX);
    let numbers = [1, 2, 3, 4];
    assert_eq!(
        ops.call("test_2", Some(&mut state), &numbers).unwrap(),
        0x01_02_04
    );
    // Wrong numbers of arguments, and a member without a program.
    let error = ops.call("test_2", Some(&mut state), &[1]).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EINVAL), "{error}");
    let error = ops.call("test_sleepable", None, &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "bpf_dummy_ops.test_sleepable: struct_ops: no program is bound to it"
    );
    // It is for tests: nobody can register it.
    let error = ops.register().unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EOPNOTSUPP), "{error}");
}

/// A small algorithm: the window halves on loss, and grows by one packet for each round trip.
struct Small {
    ssthresh: Program,
    undo: Program,
    avoid: Program,
}

static CALLS: MapDef<u32, u64> = MapDef::array("calls", 4);

impl Small {
    fn new(by: i32) -> Small {
        let window = |of, index, more: Code| {
            build(
                "small",
                code![
                    load(R6, args(of).get("sk")),
                    kit::map::count_at(&CALLS, index, 1),
                    load(R0, R6.get(kernel("tcp_sock.snd_cwnd"))),
                    more,
                    exit(),
                ],
            )
        };
        Small {
            ssthresh: window(
                "tcp_congestion_ops.ssthresh",
                0,
                code![rsh(R0, by), R0.lt(2).then(mov(R0, 2)),],
            ),
            undo: window("tcp_congestion_ops.undo_cwnd", 1, code![]),
            avoid: window(
                "tcp_congestion_ops.cong_avoid",
                2,
                code![
                    add(R0, 1),
                    store(R6.get(kernel("tcp_sock.snd_cwnd")), R0),
                ],
            ),
        }
    }

    fn ops(&self, name: &str) -> Result<StructOps<'_>, Error> {
        StructOps::new("tcp_congestion_ops")?
            .func("ssthresh", &self.ssthresh)?
            .func("undo_cwnd", &self.undo)?
            .func("cong_avoid", &self.avoid)?
            .text("name", name)
    }
}

fn available() -> Vec<String> {
    let all = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control");
    all.unwrap().split_whitespace().map(str::to_owned).collect()
}

fn is_available(name: &str) -> bool {
    available().iter().any(|known| known == name)
}

fn id_of(map: &impl AsFd) -> u32 {
    info::map(map.as_fd()).unwrap().id
}

/// The number of a map is free when nothing holds it any more.
#[track_caller]
fn gone(map: u32) {
    deadline(LIMIT, || {
        let opened = Handle::open_id(map);
        (opened.err()?.errno() == Some(Errno::ENOENT)).then_some(())
    });
}

#[track_caller]
fn loaded(ops: Result<StructOps<'_>, Error>) -> LoadedOps {
    let ops = ops.unwrap_or_else(|error| panic!("{error:#}"));
    let maps = ops.maps().unwrap();
    ops.load(&maps).unwrap_or_else(|error| panic!("{error:#}"))
}

#[test]
fn an_algorithm_is_there_as_long_as_its_link() {
    needs!(Root, Bpf, Bpffs, Btf, StructOpsLink);
    let small = Small::new(1);
    let ops = loaded(small.ops("bs_linked"));
    let link = ops.attach().unwrap();
    assert!(is_available("bs_linked"));
    let info::Place::StructOps { map } = link.info().unwrap().place else {
        panic!("{:?}", link.info())
    };
    // The name is taken, by a link and without one.
    for error in [
        ops.attach().unwrap_err(),
        ops.register().unwrap_err(),
    ] {
        assert_eq!(error.errno(), Some(Errno::EEXIST), "{error}");
        let text = error.to_string();
        assert!(
            text.contains("\"bs_linked\": EEXIST (one of that name is registered"),
            "{text}"
        );
    }
    // A pin keeps it, and the link that comes out of it ends it.
    let fs = bpffs();
    let path = fs.path().join("algorithm");
    link.pin(&path).unwrap();
    drop(link);
    assert!(is_available("bs_linked"));
    let link = Link::open_pin(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(is_available("bs_linked"));
    link.detach().unwrap();
    deadline(LIMIT, || (!is_available("bs_linked")).then_some(()));
    gone(map);
    // The same programs, once more.
    let link = ops.attach().unwrap();
    assert!(is_available("bs_linked"));
    link.force_detach().unwrap();
    assert!(!is_available("bs_linked"));
}

#[test]
fn a_link_goes_over_to_another_of_the_same_name() {
    needs!(Root, Bpf, Btf, StructOpsLink);
    let (first, second) = (Small::new(1), Small::new(2));
    let first = loaded(first.ops("bs_replaced"));
    let mut link = first.attach().unwrap();
    let place = |link: &Link| link.info().unwrap().place;
    let before = place(&link);
    let second = loaded(second.ops("bs_replaced"));
    second.replace(&mut link).unwrap();
    assert_ne!(place(&link), before);
    assert!(is_available("bs_replaced"));
    if let info::Place::StructOps { map } = before {
        gone(map);
    }
    let other = Small::new(1);
    let error = loaded(other.ops("bs_other"))
        .replace(&mut link)
        .unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EINVAL), "{error}");
    assert!(error.to_string().contains("must not change"), "{error}");
    assert!(is_available("bs_replaced") && !is_available("bs_other"));
}

#[test]
fn without_a_link_it_stays_until_it_is_unregistered() {
    needs!(Root, Bpf, Bpffs, Btf, StructOps);
    let small = Small::new(1);
    let ops = loaded(small.ops("bs_plain"));
    let registered = ops.register().unwrap();
    assert!(is_available("bs_plain"));
    assert_eq!(registered.state().unwrap(), OpsState::INUSE);
    let id = registered.id().unwrap();
    // The programs and the process may let go.
    registered.leak();
    drop(ops);
    assert!(is_available("bs_plain"));
    let found = Registered::open_id(id).unwrap();
    assert_eq!(found.state().unwrap(), OpsState::INUSE);
    let fs = bpffs();
    let path = fs.path().join("plain");
    found.pin(&path).unwrap();
    let pinned = Registered::open_pin(&path).unwrap();
    found.unregister().unwrap();
    assert!(!is_available("bs_plain"));
    assert_eq!(pinned.state().unwrap(), OpsState::TOBEFREE);
    let error = pinned.unregister().unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EINPROGRESS), "{error}");
    assert!(
        error.to_string().contains("unregistered already"),
        "{error}"
    );
    std::fs::remove_file(&path).unwrap();
    gone(id);
    // Dropping is unregistering.
    let ops = loaded(small.ops("bs_plain"));
    let registered = ops.register().unwrap();
    let id = id_of(&registered);
    drop(registered);
    assert!(!is_available("bs_plain"));
    gone(id);
}

#[test]
fn another_map_is_not_taken_over() {
    needs!(Root, Bpf, Btf, StructOps);
    let map = Handle::create(CALLS.shape()).unwrap();
    let error = Registered::open_id(id_of(&map)).unwrap_err().to_string();
    assert!(
        error.contains("is a map of type BPF_MAP_TYPE_ARRAY: name one of type"),
        "{error}"
    );
}

#[track_caller]
fn refused(done: Result<StructOps<'_>, Error>, wanted: &str) {
    let error = done.unwrap_err().to_string();
    assert!(error.starts_with(wanted), "{error}\nwanted: {wanted}");
}

#[test]
fn what_does_not_fit_is_refused_by_its_member() {
    needs!(Root, Bpf, Btf, StructOps);
    let small = Small::new(1);
    let empty = || StructOps::new("tcp_congestion_ops").unwrap();
    refused(
        StructOps::new("no_such_ops"),
        "this kernel has no struct_ops named \"no_such_ops\"; it has: bpf_dummy_ops, ",
    );
    refused(
        empty().func("ssthres", &small.ssthresh),
        "this kernel has no member of struct_ops \"tcp_congestion_ops.ssthres\" (near: ssthresh; ",
    );
    refused(
        empty().func("flags", &small.ssthresh),
        "tcp_congestion_ops.flags: struct_ops: it is no function: set a number or a text",
    );
    refused(
        empty().func("undo_cwnd", &small.ssthresh),
        "tcp_congestion_ops.undo_cwnd: struct_ops: small takes arguments of \
         tcp_congestion_ops.ssthresh at crates/prog/tests/kernel_ops.rs:",
    );
    let xdp = Program::new(ProgType::XDP, "xdp", code![ret(XDP_PASS)]).unwrap();
    refused(
        empty().func("ssthresh", &xdp),
        "tcp_congestion_ops.ssthresh: struct_ops: xdp was built as BPF_PROG_TYPE_XDP: give \
         Program::new the type STRUCT_OPS",
    );
    let greedy = build("greedy", code![load(R0, R1.u64(8)), exit()]);
    refused(
        empty().func("ssthresh", &greedy),
        "tcp_congestion_ops.ssthresh: struct_ops: greedy loads argument 1 at \
         crates/prog/tests/kernel_ops.rs:",
    );
    refused(
        empty().number("ssthresh", 5),
        "tcp_congestion_ops.ssthresh: struct_ops: it is a pointer: bind a program",
    );
    refused(
        empty().number("name", 5),
        "tcp_congestion_ops.name: struct_ops: it is no number",
    );
    refused(
        empty().number("flags", 1_i128 << 32),
        "tcp_congestion_ops.flags: struct_ops: 4294967296 does not fit: it takes 0 to 4294967295",
    );
    refused(
        empty().text("name", "sixteen_letters_"),
        "tcp_congestion_ops.name: struct_ops: \"sixteen_letters_\" does not fit: it takes 15 bytes",
    );
    refused(
        empty().text("flags", "x"),
        "tcp_congestion_ops.flags: struct_ops: it holds no text",
    );
}

#[test]
fn what_the_kernel_refuses_names_the_member_and_the_line() {
    needs!(Root, Bpf, Btf, StructOps);
    let line = line!() + 6;
    let faulty = build(
        "faulty",
        code![
            load(R6, args("tcp_congestion_ops.ssthresh").get("sk")),
            // The kernel lets nobody write there.
            store(R6.get(kernel("tcp_sock.srtt_us")), 1),
            ret(2),
        ],
    );
    let ops = StructOps::new("tcp_congestion_ops").unwrap();
    let ops = ops.func("ssthresh", &faulty).unwrap();
    let error = ops.load(&Maps::new()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("tcp_congestion_ops.ssthresh: load faulty: EACCES at insn "),
        "{text}"
    );
    assert!(
        text.contains(&format!("kernel_ops.rs:{line}")),
        "{text}, {line}"
    );
    // Nothing is wrong with the programs, but the kernel wants more of them.
    let small = Small::new(1);
    let few = StructOps::new("tcp_congestion_ops")
        .and_then(|ops| ops.func("ssthresh", &small.ssthresh))
        .and_then(|ops| ops.text("name", "bs_few"));
    let error = loaded(few).register().unwrap_err().to_string();
    assert_eq!(
        error,
        "BPF_MAP_UPDATE_ELEM struct_ops tcp_congestion_ops \"bs_few\" without undo_cwnd and \
         cong_avoid or cong_control: EINVAL (the kernel wants a member that is missing, or one to \
         be zero that is not)"
    );
}

#[test]
fn registering_again_and_again_leaves_nothing() {
    needs!(Root, Bpf, Btf, StructOps);
    let small = Small::new(1);
    let ops = loaded(small.ops("bs_again"));
    let mut maps = Vec::new();
    for _ in 0..rounds(200) {
        let registered = ops.register().unwrap();
        maps.push(id_of(&registered));
        registered.unregister().unwrap();
    }
    drop(ops);
    maps.into_iter().for_each(gone);
    assert!(!is_available("bs_again"));
}
