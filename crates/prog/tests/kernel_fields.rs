//! Fields, constants and arguments of the running kernel by name: what programs read there.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use bpfsmith_asm::dsl::*;
use bpfsmith_asm::isa::Op;
use bpfsmith_gate::needs;
use bpfsmith_prog::target::TpBtf;
use bpfsmith_prog::{Error, Load, Prog, kernel as running, list};
use bpfsmith_uapi::record;
use zerocopy::{FromBytes, Immutable, IntoBytes};

record! {
    /// What a program writes down for the test.
    #[derive(Clone, Copy, FromBytes, Immutable, IntoBytes)]
    struct Seen {
        a: u64,
        b: u64,
        c: u64,
        d: u64,
    }
}

static SEEN: Global<Seen> = Global::bss("seen");

const TASK: Reg = R6;
const OUT: Reg = R7;

#[track_caller]
fn build(kind: ProgType, name: &str, code: Code) -> Program {
    Program::new(kind, name, code).unwrap_or_else(|report| panic!("{report}"))
}

/// A program that looks at the task that runs it.
#[track_caller]
fn at_task(name: &str, body: Code) -> Program {
    build(
        ProgType::RAW_TRACEPOINT,
        name,
        code![
            get_current_task_btf(),
            mov(TASK, R0),
            ld_global(OUT, &SEEN),
            body,
            ret(0),
        ],
    )
}

#[track_caller]
fn run(program: &Program) -> Seen {
    let prog = Load::new(program).load();
    let prog = prog.unwrap_or_else(|error| panic!("{error:#}"));
    run_loaded(&prog)
}

fn run_loaded(prog: &Prog) -> Seen {
    prog.run().go().unwrap();
    prog.read(&SEEN).unwrap()
}

#[test]
fn fields_are_where_the_kernel_has_them() {
    needs!(Root, Bpf, MmapArray, Btf);
    let pid = |from: Mem, to: Field| code![load(R1, from), store(OUT.get(to), R1),];
    let seen = run(&at_task(
        "pids",
        code![
            pid(TASK.get(kernel("task_struct.tgid")), Seen::a),
            // Through a pointer, a member of an array, and a structure inside.
            load(R2, TASK.get(kernel("task_struct.group_leader"))),
            pid(R2.get(kernel("task_struct.pid")), Seen::b),
            pid(TASK.get(kernel("task_struct.comm[0]")), Seen::c),
            pid(TASK.to(kernel("task_struct.comm")).u8(1), Seen::d),
        ],
    ));
    let me = u64::from(std::process::id());
    let name = std::fs::read("/proc/thread-self/comm").unwrap();
    let (first, second) = (u64::from(name[0]), u64::from(name[1]));
    assert_eq!((seen.a, seen.b, seen.c, seen.d), (me, me, first, second));
}

#[test]
fn the_first_alternative_that_exists_is_taken() {
    needs!(Root, Bpf, MmapArray, Btf);
    let seen = run(&at_task(
        "either",
        code![
            load(
                R1,
                TASK.get(kernel(
                    "task_struct.nothing | nothing.at_all | task_struct.tgid"
                ))
            ),
            store(OUT.get(Seen::a), R1),
            load(
                R1,
                TASK.get(kernel("task_struct.__state | task_struct.state"))
            ),
            store(OUT.get(Seen::b), R1),
        ],
    ));
    // It runs: its state is 0.
    assert_eq!((seen.a, seen.b), (u64::from(std::process::id()), 0));
}

#[test]
fn what_is_missing_is_refused_or_left_out() {
    needs!(Root, Bpf, MmapArray, Btf);
    // Nothing is tested: the loader refuses, before the kernel is asked.
    let wrong = TASK.get(kernel("task_struct.tgidd"));
    let line = line!() + 1;
    let blind = at_task("blind", code![load(R1, wrong)]);
    let error = Load::new(&blind).load().unwrap_err();
    let text = error.to_string();
    let place = format!("load blind: at insn 4, crates/prog/tests/kernel_fields.rs:{line}, in ");
    assert!(text.starts_with(&place), "{text}");
    let reason = "this kernel has no field \"task_struct.tgidd\" (near: task_struct.tgid; fields \
                  differ between kernels: offer alternatives behind `|`, or test with \
                  `kernel(…).exists()`)";
    assert!(text.ends_with(reason), "{text}");
    // Tested: the branch that is not taken costs nothing.
    let path = kernel("task_struct.tgidd");
    let tested = at_task(
        "tested",
        code![
            mov(R1, path.exists()),
            R1.ne(0)
                .then(code![
                    load(R2, TASK.get(path)),
                    store(OUT.get(Seen::a), R2),
                ])
                .or_else(code![store(OUT.get(Seen::a), 7),]),
            mov(R1, kernel("task_struct.tgid").exists()),
            store(OUT.get(Seen::b), R1),
            mov(R1, kernel_type("struct task_struct").exists()),
            store(OUT.get(Seen::c), R1),
            mov(R1, kfunc("no_such_function").exists()),
            R1.ne(0).then(call_kfunc("no_such_function")),
            mov(R1, ksym("no_such_variable").exists()),
            R1.ne(0).then(code![
                ld_ksym(R1, "no_such_variable"),
                store(OUT.get(Seen::d), R1),
            ]),
        ],
    );
    let seen = run(&tested);
    assert_eq!((seen.a, seen.b, seen.c, seen.d), (7, 1, 1, 0));
    // Also where nothing but a comparison with it leads on.
    let lost = kernel_const("TCP_CA_Lost");
    let compared = |test: KernelConst| {
        code![
            mov(R1, test.exists()),
            load(R2, TASK.get(kernel("task_struct.tgid"))),
            R1.ne(0).then(R2.eq(lost).then(store(OUT.get(Seen::a), 7))),
            store(OUT.get(Seen::b), 8),
        ]
    };
    let prog = Load::new(&at_task("compared", compared(lost))).load();
    let prog = prog.unwrap_or_else(|error| panic!("{error:#}"));
    let seen = run_loaded(&prog);
    assert_eq!((seen.a, seen.b), (0, 8));
    let lacking = &prog.account().lacking;
    assert!(
        lacking.len() == 1 && lacking[0].contains("\"TCP_CA_Lost\""),
        "{lacking:?}"
    );
    let wrongly = at_task("wrongly", compared(kernel_const("TCP_CA_Loss")));
    let error = Load::new(&wrongly).load().unwrap_err().to_string();
    assert!(
        error.contains("this kernel has no constant \"TCP_CA_Lost\""),
        "{error}"
    );
    // Tested, but used all the same: the verifier comes there, and the reason is the name.
    let careless = at_task(
        "careless",
        code![
            mov(R1, path.exists()),
            store(OUT.get(Seen::a), R1),
            load(R2, TASK.get(path)),
        ],
    );
    let error = Load::new(&careless).load().unwrap_err();
    let Error::Refused(refusal) = &error else {
        panic!("{error}")
    };
    let line = careless.lines()[refusal.slot.unwrap()].at.line();
    assert_eq!(refusal.at.unwrap().line(), line);
    assert!(
        error
            .to_string()
            .contains("this kernel has no field \"task_struct.tgidd\""),
        "{error}"
    );
}

#[test]
fn sizes_offsets_and_constants_are_the_kernels() {
    needs!(Root, Bpf, MmapArray, Btf);
    let seen = run(&at_task(
        "facts",
        code![
            mov(R1, kernel_type("struct task_struct").size()),
            store(OUT.get(Seen::a), R1),
            mov(W1, kernel("task_struct.comm").size()),
            store(OUT.get(Seen::b), R1),
            mov(R1, kernel_const("TCP_CA_Loss")),
            mov(R2, kernel_const("tcp_ca_state.TCP_CA_Recovery")),
            lsh(R2, 8),
            or(R1, R2),
            mov(R2, kernel_const("NO_SUCH_THING").exists()),
            lsh(R2, 16),
            or(R1, R2),
            store(OUT.get(Seen::c), R1),
            // The same address on two ways.
            mov(R1, TASK),
            add(R1, kernel("task_struct.comm").offset()),
            addr(R2, TASK.get(kernel("task_struct.comm"))),
            sub(R1, R2),
            store(OUT.get(Seen::d), R1),
        ],
    ));
    let btf = running::btf().unwrap();
    let task = btf.find_struct("task_struct").unwrap();
    let size = btf.size_of(task).unwrap();
    assert_eq!((seen.a, seen.b), (u64::from(size), 16));
    assert_eq!((seen.c, seen.d), (0x0304, 0));
    // A jump compares with what the kernel says, too.
    let seen = run(&at_task(
        "compare",
        code![
            mov(R1, 4),
            R1.eq(kernel_const("TCP_CA_Loss"))
                .then(store(OUT.get(Seen::a), 1)),
            W1.ne(kernel_const("TCP_CA_Loss"))
                .then(store(OUT.get(Seen::b), 1)),
        ],
    ));
    assert_eq!((seen.a, seen.b), (1, 0));
}

#[test]
fn fields_of_bits_are_cut_out() {
    needs!(Root, Bpf, MmapArray, CastKfuncs);
    let skb = R8;
    let program = build(
        ProgType::SCHED_CLS,
        "bits",
        code![
            ld_global(OUT, &SEEN),
            mov(R6, R1),
            load(R2, R6.get(__sk_buff::pkt_type)),
            store(OUT.get(Seen::a), R2),
            mov(R2, 0x1234),
            set_hash(R6, R2),
            mov(R1, R6),
            call_kfunc("bpf_cast_to_kern_ctx"),
            mov(skb, R0),
            load_bits(R1, skb, kernel("sk_buff.pkt_type")),
            store(OUT.get(Seen::b), R1),
            load_bits(R1, skb, kernel("sk_buff.sw_hash")),
            load_bits(R2, skb, kernel("sk_buff.l4_hash")),
            lsh(R2, 1),
            or(R1, R2),
            store(OUT.get(Seen::c), R1),
            // A whole field is bits as well.
            load_bits(R1, skb, kernel("sk_buff.hash")),
            store(OUT.get(Seen::d), R1),
            ret(TC_ACT_OK),
        ],
    );
    let prog = Load::new(&program).load();
    let prog = prog.unwrap_or_else(|error| panic!("{error:#}"));
    let mut frame = [0_u8; 64];
    frame[..6].copy_from_slice(&[0xff; 6]);
    prog.run().data(&frame).go().unwrap();
    let seen = prog.read(&SEEN).unwrap();
    // PACKET_BROADCAST is not set by a test run, whatever the address: the program's view counts.
    assert_eq!(seen.a, seen.b);
    // `bpf_set_hash` sets both.
    assert_eq!((seen.c, seen.d), (3, 0x1234));
    let whole = build(
        ProgType::SCHED_CLS,
        "whole",
        code![
            call_kfunc("bpf_cast_to_kern_ctx"),
            load(R1, R0.get(kernel("sk_buff.pkt_type"))),
            ret(TC_ACT_OK),
        ],
    );
    let error = Load::new(&whole).load().unwrap_err().to_string();
    assert!(
        error.ends_with(": field: sk_buff.pkt_type is a field of bits: read it with load_bits; no access writes it \
             alone"),
        "{error}"
    );
}

#[test]
fn names_that_are_nearly_right_are_told() {
    needs!(Root, Bpf, Btf);
    for (code, wanted) in [
        (
            code![load(
                R1,
                TASK.get(kernel("task_struct"))
            )],
            "field: \"task_struct\" names no member: write `structure.member`",
        ),
        (
            code![load(
                R1,
                TASK.get(kernel("task_strukt.pid"))
            )],
            "this kernel has no field \"task_strukt.pid\" (near: task_struct",
        ),
        (
            code![load(
                R1,
                TASK.get(kernel("task_struct.se.vruntim"))
            )],
            "this kernel has no field \"task_struct.se.vruntim\" (near: task_struct.se.vruntime",
        ),
        (
            code![load(
                R1,
                TASK.get(kernel("task_struct.comm"))
            )],
            "field: task_struct.comm has 16 bytes, which no access moves at once: name a member of \
             it, or reach into it with `to`",
        ),
        (
            code![mov(R1, kernel_const("TCP_CA_Lost"))],
            "this kernel has no constant \"TCP_CA_Lost\" (near: TCP_CA_Loss",
        ),
        (
            code![mov(
                R1,
                kernel_type("struct task_strukt").size()
            )],
            "this kernel has no type \"struct task_strukt\" (near: task_struct",
        ),
        (
            code![load(
                R1,
                args("tcp_congestion_ops.cong_avoid")
                    .from(R10)
                    .get("acknowledged")
            )],
            "this kernel has no argument \"tcp_congestion_ops.cong_avoid.acknowledged\" (near: sk, \
             ack, acked; these are its arguments; `0`, `1`, … name them by number)",
        ),
    ] {
        let program = Program::assemble(
            Isa::V4,
            ProgType::RAW_TRACEPOINT,
            "wrong",
            code![mov(TASK, R1), code, ret(0)],
        )
        .unwrap();
        let error = Load::new(&program).load().unwrap_err().to_string();
        let (place, error) = error
            .split_once(", in names_that_are_nearly_right_are_told: ")
            .unwrap();
        assert!(
            place.starts_with("load wrong: at insn 1, crates/prog"),
            "{place}"
        );
        assert!(error.starts_with(wanted), "{error}\nwanted: {wanted}");
    }
}

/// Where the arguments of functions, members and tracepoints are, by name and by number.
#[test]
fn arguments_are_counted_in_places() {
    needs!(Root, Bpf, MmapArray, Btf);
    let slot = |mem: Mem| {
        let program = Program::assemble(
            Isa::V4,
            ProgType::RAW_TRACEPOINT,
            "place",
            code![load(R2, mem), ret(0)],
        )
        .unwrap();
        let prog = Load::new(&program).load();
        let prog = prog.unwrap_or_else(|error| panic!("{error:#}"));
        Op::decode(list::xlated(&prog).unwrap()[0], None).unwrap()
    };
    for (of, name, size, wanted) in [
        ("tcp_congestion_ops.ssthresh", "sk", Size::DW, 0),
        ("tcp_congestion_ops.cong_avoid", "sk", Size::DW, 0),
        ("tcp_congestion_ops.cong_avoid", "ack", Size::W, 8),
        ("tcp_congestion_ops.cong_avoid", "acked", Size::W, 16),
        ("tcp_congestion_ops.cong_avoid", "2", Size::W, 16),
        ("bpf_dummy_ops.test_2", "a2", Size::H, 16),
        ("bpf_dummy_ops.test_2", "a3", Size::B, 24),
        ("bpf_dummy_ops.test_2", "a4", Size::DW, 32),
        ("sched_switch", "preempt", Size::B, 0),
        ("tcp_sendmsg", "size", Size::DW, 16),
        ("sched_switch", "prev", Size::DW, 8),
        ("sched_switch", "1", Size::DW, 8),
        // One event of several that share a form, and one whose function for BPF older kernels hide.
        ("sched_wakeup_new", "p", Size::DW, 0),
        ("sched_process_exec", "bprm", Size::DW, 16),
    ] {
        assert_eq!(
            slot(args(of).get(name)),
            Op::Load(size, R2, R1, wanted),
            "{of}.{name}"
        );
        // With a width of its own.
        let byte = Place::from(args(of).get(name)).u8(1);
        let wanted = Op::Load(Size::B, R2, R1, wanted + 1);
        assert_eq!(slot(byte), wanted, "{of}.{name}");
    }
}

/// A program that is loaded for one event reads no other's arguments.
#[test]
fn arguments_are_those_of_the_hook() {
    needs!(Root, Bpf, Btf, TpBtf);
    let of = |event| {
        Program::new(
            ProgType::TRACING,
            "other",
            code![load(R1, args(event).get("p")), ret(0)],
        )
        .unwrap()
    };
    let target = TpBtf::named("sched_switch");
    let other = of("sched_process_exec");
    let error = Load::new(&other).to(&target).unwrap().load().unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("load other: at insn 0, crates/prog"),
        "{text}"
    );
    let problem = "args: these are arguments of sched_process_exec, and the program is loaded for \
                   sched_switch: ask for args(\"sched_switch\")";
    assert!(text.ends_with(problem), "{text}");
    let target = TpBtf::named("sched_process_exec");
    Load::new(&other).to(&target).unwrap().load().unwrap();
    // Nobody said for which.
    let error = Load::new(&other).load().unwrap_err().to_string();
    assert_eq!(
        error,
        "program: other is of type BPF_PROG_TYPE_TRACING: it is loaded for one function or event: \
         pass that to Load::to"
    );
    let member = Program::new(ProgType::STRUCT_OPS, "member", code![ret(0)]).unwrap();
    let error = Load::new(&member).load().unwrap_err().to_string();
    assert!(
        error.ends_with("bind it with ops::StructOps, which loads it"),
        "{error}"
    );
}

/// What the verifier says of an access by name comes with the name.
#[test]
fn a_refused_access_is_told_with_its_field() {
    needs!(Root, Bpf, Btf);
    let program = at_task(
        "forbidden",
        code![store(
            TASK.get(kernel("task_struct.tgid")),
            7
        )],
    );
    let Err(Error::Refused(refusal)) = Load::new(&program).load() else {
        panic!("a task can be written to")
    };
    let hint = refusal.hint.map(|hint| hint.text).unwrap_or_default();
    assert!(hint.contains("reaches for task_struct.tgid"), "{hint}");
}
