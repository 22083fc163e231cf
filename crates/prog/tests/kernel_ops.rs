//! Structures of functions: what is refused, and what the kernel does with those it takes.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use bpfsmith_asm::dsl::*;
use bpfsmith_gate::needs;
use bpfsmith_prog::ops::StructOps;
use bpfsmith_prog::{Error, Maps};
use bpfsmith_uapi::Errno;

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

#[test]
fn an_algorithm_is_there_as_long_as_its_link() {
    needs!(Root, Bpf, Btf, StructOpsLink);
    let small = Small::new(1);
    let ops = small.ops("bs_linked").unwrap();
    let maps = ops.maps().unwrap();
    let ops = ops.load(&maps).unwrap_or_else(|error| panic!("{error:#}"));
    let link = ops.attach().unwrap();
    assert!(available().contains(&"bs_linked".to_owned()));
    drop(link);
    assert!(!available().contains(&"bs_linked".to_owned()));
}
