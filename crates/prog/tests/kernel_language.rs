//! Locks, atomics, loops, kernel functions and variables: what they do when a program runs.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use bpfsmith_asm::dsl::*;
use bpfsmith_gate::needs;
use bpfsmith_maps::{Map, RingBuf, SpinLock};
use bpfsmith_prog::list::prog_info;
use bpfsmith_prog::{Error, Load, Maps, Prog, kernel};
use zerocopy::{FromBytes, Immutable, IntoBytes};

const PACKET: [u8; 64] = [0; 64];

fn build(kind: ProgType, name: &str, code: Code) -> Program {
    Program::new(kind, name, code).unwrap_or_else(|report| panic!("{report}"))
}

#[track_caller]
fn load_xdp(name: &str, code: Code) -> Prog {
    let load = Load::new(&build(ProgType::XDP, name, code)).load();
    load.unwrap_or_else(|error| panic!("{error:#}"))
}

#[track_caller]
fn answer(prog: &Prog) -> u32 {
    prog.run().data(&PACKET).go().unwrap().retval
}

static CELL: Global<u64> = Global::bss("cell");
static OPERAND: Global<u64> = Global::bss("operand");
static EXPECTED: Global<u64> = Global::bss("expected");
static SOURCE_AFTER: Global<u64> = Global::bss("source_after");
static R0_AFTER: Global<u64> = Global::bss("r0_after");

fn global(reg: Reg, global: &Global<u64>) -> Code {
    code![
        ld_global(reg, global),
        load(reg, reg.u64(0))
    ]
}

/// An atomic operation on the cell, with what is left in the operand's register and in R0.
fn atomic(op: fn(Mem, Reg) -> Insn, width: fn(Reg, i32) -> Mem) -> Code {
    code![
        ld_global(R6, &CELL),
        global(R7, &OPERAND),
        global(R0, &EXPECTED),
        op(width(R6, 0), R7),
        ld_global(R1, &SOURCE_AFTER),
        store(R1.u64(0), R7),
        ld_global(R1, &R0_AFTER),
        store(R1.u64(0), R0),
        ret(XDP_PASS),
    ]
}

/// The constructor, what becomes of the cell, and whether the register receives what was there.
type Atomic = (fn(Mem, Reg) -> Insn, fn(u64, u64) -> u64, bool);

const ATOMICS: [Atomic; 9] = [
    (atomic_add, u64::wrapping_add, false),
    (atomic_or, |a, b| a | b, false),
    (atomic_and, |a, b| a & b, false),
    (atomic_xor, |a, b| a ^ b, false),
    (fetch_add, u64::wrapping_add, true),
    (fetch_or, |a, b| a | b, true),
    (fetch_and, |a, b| a & b, true),
    (fetch_xor, |a, b| a ^ b, true),
    (xchg, |_, b| b, true),
];

const CELL_BEFORE: u64 = 0xffff_fff0_8000_0011;
const OPERAND_BEFORE: u64 = 0x1234_5678_9abc_def5;
const LOW: u64 = 0xffff_ffff;

/// Runs it; returns cell, register and R0.
fn run_atomic(prog: &Prog, expected: u64) -> [u64; 3] {
    prog.write(&CELL, &CELL_BEFORE).unwrap();
    prog.write(&OPERAND, &OPERAND_BEFORE).unwrap();
    prog.write(&EXPECTED, &expected).unwrap();
    answer(prog);
    [&CELL, &SOURCE_AFTER, &R0_AFTER].map(|global| prog.read(global).unwrap())
}

#[test]
fn atomics_change_memory_and_registers() {
    needs!(Root, Bpf, MmapArray);
    for (index, (op, model, fetches)) in ATOMICS.into_iter().enumerate() {
        let prog = load_xdp("atomic64", atomic(op, Reg::u64));
        let source = if fetches { CELL_BEFORE } else { OPERAND_BEFORE };
        let after = [
            model(CELL_BEFORE, OPERAND_BEFORE),
            source,
            9,
        ];
        assert_eq!(run_atomic(&prog, 9), after, "row {index}, 64 bits");

        let prog = load_xdp("atomic32", atomic(op, Reg::u32));
        // On a little-endian machine the low half is the one at the address.
        let low = model(CELL_BEFORE & LOW, OPERAND_BEFORE & LOW) & LOW;
        let source = if fetches {
            CELL_BEFORE & LOW
        } else {
            OPERAND_BEFORE
        };
        let after = [CELL_BEFORE & !LOW | low, source, 9];
        assert_eq!(run_atomic(&prog, 9), after, "row {index}, 32 bits");
    }
}

#[test]
fn compare_and_exchange_tells_what_was_there() {
    needs!(Root, Bpf, MmapArray);
    let prog = load_xdp("cmpxchg", atomic(cmpxchg, Reg::u64));
    let swapped = [
        OPERAND_BEFORE,
        OPERAND_BEFORE,
        CELL_BEFORE,
    ];
    assert_eq!(run_atomic(&prog, CELL_BEFORE), swapped);
    let kept = [CELL_BEFORE, OPERAND_BEFORE, CELL_BEFORE];
    assert_eq!(run_atomic(&prog, 9), kept);
}

bpfsmith_uapi::record! {
    /// A counter with its lock.
    #[derive(Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, Immutable)]
    struct Guarded {
        lock: SpinLock,
        count: u32,
    }
}

static GUARDED: MapDef<u32, Guarded> = MapDef::array("bs_guarded", 1).described();

/// Adds one by a load and a store, under the lock.
fn guarded() -> Code {
    let key = slot::<u32>("key");
    code![
        store(key.u32(0), 0),
        map_lookup_elem(&GUARDED, key),
        R0.eq(0).then(ret(1)),
        mov(R6, R0),
        spin_lock(R6),
        load(R1, R6.u32(4)),
        add(R1, 1),
        store(R6.u32(4), R1),
        spin_unlock(R6),
        ret(0),
    ]
}

#[test]
fn a_lock_keeps_programs_and_user_space_apart() {
    needs!(Root, Bpf, Btf);
    const RUNS: u32 = 50_000;
    let program = build(ProgType::XDP, "guarded", guarded());
    let maps = Maps::of(&program).unwrap();
    let prog = Load::new(&program).maps(&maps).load().unwrap();
    let map: Map<u32, Guarded> = maps.open(&GUARDED).unwrap();
    let start = Guarded {
        lock: SpinLock::default(),
        count: 7,
    };
    map.locked().update(&0, &start).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| prog.run().data(&PACKET).repeat(RUNS).go().unwrap());
        }
    });
    let end = map.locked().lookup(&0).unwrap().unwrap();
    assert_eq!(end.count, 7 + 2 * RUNS);
}

#[test]
fn a_lock_that_is_kept_is_refused() {
    needs!(Root, Bpf, Btf);
    let key = slot::<u32>("key");
    let code = code![
        store(key.u32(0), 0),
        map_lookup_elem(&GUARDED, key),
        R0.eq(0).then(ret(1)),
        spin_lock(R0),
        ret(0),
    ];
    let program = build(ProgType::XDP, "kept", code);
    let maps = Maps::of(&program).unwrap();
    let error = Load::new(&program).maps(&maps).load().unwrap_err();
    let Error::Refused(refusal) = error else {
        panic!("{error}")
    };
    assert!(
        refusal.sentence.contains("bpf_spin_unlock is missing")
            || refusal.sentence.contains("bpf_spin_lock-ed region"),
        "{refusal:#}"
    );
}

#[test]
fn loops_that_the_kernel_bounds() {
    needs!(Root, Bpf, MmapArray, MayGoto);
    let code = code![
        global(R7, &OPERAND),
        mov(R6, 0),
        may_while(R6.lt(R7)).body(add(R6, 1)),
        mov(R0, R6),
        exit(),
    ];
    let prog = load_xdp("counting", code);
    prog.write(&OPERAND, &100_000).unwrap();
    assert_eq!(answer(&prog), 100_000);
    // One without an end is left all the same, long before it comes to that number.
    prog.write(&OPERAND, &u64::MAX).unwrap();
    let rounds = answer(&prog);
    assert!(rounds > 1 << 20, "{rounds}");
}

/// The sum of `from..to` by the kernel's iterator of numbers.
fn iterated(from: i32, to: i32) -> Code {
    let (numbers, again, end) = (slot::<u64>("numbers"), label("again"), label("end"));
    code![
        mov(R6, 0),
        addr(R1, numbers),
        mov(R2, from),
        mov(R3, to),
        call_kfunc("bpf_iter_num_new"),
        bind(again),
        addr(R1, numbers),
        call_kfunc("bpf_iter_num_next"),
        jeq(R0, 0, end),
        load(R1, R0.u32(0)),
        add(R6, R1),
        ja(again),
        bind(end),
        addr(R1, numbers),
        call_kfunc("bpf_iter_num_destroy"),
        mov(R0, R6),
        exit(),
    ]
}

#[test]
fn the_kernel_counts_for_a_program() {
    needs!(Root, Bpf, NumberIterators);
    assert_eq!(
        answer(&load_xdp("numbers", iterated(3, 8))),
        3 + 4 + 5 + 6 + 7
    );
    assert_eq!(
        answer(&load_xdp("many", iterated(0, 50_000))),
        1_249_975_000
    );
    assert_eq!(answer(&load_xdp("none", iterated(5, 5))), 0);
}

/// The offset of a member of a kernel structure.
fn member(structure: &str, path: &str) -> i32 {
    let btf = kernel::btf().unwrap();
    let id = btf.find_struct(structure).unwrap();
    let offset = btf.member(id, path).unwrap().offset().unwrap();
    offset.try_into().unwrap()
}

/// The name of the task of that number, its first four bytes; 0 if there is none.
fn name_of(pid: u32) -> Code {
    code![
        mov(R1, pid.cast_signed()),
        call_kfunc("bpf_task_from_pid"),
        R0.eq(0).then(ret(0)),
        load(R6, R0.u32(member("task_struct", "comm"))),
        mov(R1, R0),
        call_kfunc("bpf_task_release"),
        mov(R0, R6),
        exit(),
    ]
}

#[test]
fn kernel_functions_are_called_by_name() {
    needs!(Root, Bpf, Btf, TaskKfuncs);
    let ask = |pid| {
        let program = build(ProgType::SCHED_CLS, "name_of", name_of(pid));
        let prog = Load::new(&program).load();
        answer(&prog.unwrap_or_else(|error| panic!("{error:#}")))
    };
    let name = std::fs::read("/proc/self/comm").unwrap();
    assert_eq!(ask(std::process::id()).to_ne_bytes(), name[..4]);
    assert_eq!(ask(i32::MAX.cast_unsigned()), 0);
}

#[test]
fn what_a_kernel_function_gave_must_be_given_back() {
    needs!(Root, Bpf, Btf, TaskKfuncs);
    let code = code![
        mov(R1, 1),
        call_kfunc("bpf_task_from_pid"),
        ret(0)
    ];
    let program = build(ProgType::SCHED_CLS, "kept", code);
    let error = Load::new(&program).load().unwrap_err();
    let Error::Refused(refusal) = error else {
        panic!("{error}")
    };
    assert!(
        refusal.sentence.contains("Unreleased reference"),
        "{refusal:#}"
    );
}

#[test]
fn a_kernel_function_that_is_not_there_has_neighbours() {
    needs!(Root, Bpf, Btf, TaskKfuncs);
    let code = code![call_kfunc("bpf_task_from_pit"), ret(0)];
    let program = build(ProgType::XDP, "unknown", code);
    let error = Load::new(&program).load().unwrap_err();
    let Error::Name { cause, .. } = &error else {
        panic!("{error}")
    };
    let Error::Unknown {
        what, name, near, ..
    } = cause.as_ref()
    else {
        panic!("{error}")
    };
    assert_eq!(
        (*what, name.as_str()),
        ("kernel function", "bpf_task_from_pit")
    );
    assert!(
        near.iter().any(|name| name == "bpf_task_from_pid"),
        "{error}"
    );
}

#[test]
fn variables_of_the_kernel_are_read_by_name() {
    needs!(Root, Bpf, DataSymbols);
    let code = code![
        get_smp_processor_id(),
        mov(R6, R0),
        ld_ksym(R1, "runqueues"),
        this_cpu_ptr(R1),
        load(R1, R0.u32(member("rq", "cpu"))),
        add(R6, 1),
        R1.gt(1000).then(ret(0)),
        mov(R0, R6),
        sub(R0, R1),
        exit(),
    ];
    assert_eq!(answer(&load_xdp("same_cpu", code)), 1);
}

#[test]
fn a_variable_without_an_address_is_explained() {
    needs!(Root, Bpf, Btf);
    let program = build(
        ProgType::XDP,
        "no_address",
        code![ld_ksym(R1, "runqueues"), ret(0)],
    );
    match Load::new(&program).load() {
        Ok(prog) => assert_eq!(answer(&prog), 0),
        Err(error) => {
            let text = error.to_string();
            assert!(text.starts_with("load no_address: ENOENT"), "{text}");
            assert!(
                format!("{error:#}").contains("CONFIG_KALLSYMS_ALL"),
                "{error:#}"
            );
        }
    }
}

#[test]
fn a_variable_that_is_not_there_has_neighbours() {
    needs!(Root, Bpf, Btf);
    let code = code![ld_ksym(R1, "run_queues"), ret(0)];
    let error = Load::new(&build(ProgType::XDP, "unknown", code))
        .load()
        .unwrap_err();
    assert!(error.to_string().contains("near: runqueues"), "{error}");
}

static EVENTS: MapDef<(), ()> = MapDef::ringbuf("bs_dyn_events", 4096);
static LENGTH: Global<u64> = Global::data("length", 0);

/// A record of any length, with a mark at its start and at its end.
fn dynamic() -> Code {
    let (record, value) = (slot::<[u64; 2]>("record"), slot::<u64>("value"));
    code![
        global(R6, &LENGTH),
        ringbuf_reserve_dynptr(&EVENTS, R6, 0, record),
        mov(R7, R0),
        store(value.u64(0), 0x1122_3344),
        dynptr_write(record, 0, value, 8, 0),
        sub(R6, 8),
        dynptr_write(record, R6, value, 8, 0),
        mov(R8, R0),
        R7.eq(0)
            .then(ringbuf_submit_dynptr(record, 0))
            .or_else(ringbuf_discard_dynptr(record, 0)),
        mov(R0, R8),
        exit(),
    ]
}

#[test]
fn records_of_any_length() {
    needs!(Root, Bpf, RingBuf, BpfLoop);
    let program = build(ProgType::XDP, "dynamic", dynamic());
    let maps = Maps::of(&program).unwrap();
    let prog = Load::new(&program).maps(&maps).load();
    let prog = prog.unwrap_or_else(|error| panic!("{error:#}"));
    let mut ring: RingBuf = maps.open(&EVENTS).unwrap();
    let mut records = Vec::new();
    for length in [16_u64, 100, 1000] {
        prog.write(&LENGTH, &length).unwrap();
        assert_eq!(answer(&prog), 0, "{length}");
    }
    // Longer than the ring: nothing is reserved, and nothing to be written to.
    prog.write(&LENGTH, &8192).unwrap();
    assert_eq!(answer(&prog).cast_signed(), -Errno::EINVAL.0);
    ring.consume(|bytes: &[u8]| records.push(bytes.to_vec()))
        .unwrap();
    let lengths: Vec<_> = records.iter().map(Vec::len).collect();
    assert_eq!(lengths, [16, 100, 1000]);
    for record in &records {
        let mark = 0x1122_3344_u64.to_ne_bytes();
        assert!(
            record.starts_with(&mark) && record.ends_with(&mark),
            "{record:?}"
        );
    }
}

#[test]
fn a_program_may_throw() {
    needs!(Root, Bpf, Exceptions);
    let inner = func("inner").body(code![
        R1.gt(5).then(code![mov(R1, 77), call_kfunc("bpf_throw")]),
        ret(1),
    ]);
    let code = code![
        global(R1, &OPERAND),
        call(&inner),
        add(R0, 1),
        exit()
    ];
    let prog = load_xdp("throws", code);
    assert_eq!(answer(&prog), 2);
    prog.write(&OPERAND, &6).unwrap();
    assert_eq!(answer(&prog), 77);
}

/// The sum of a number and of what a pointer leads to, which takes the verifier a few hundred
/// instructions to look at.
fn slow_sum(name: FuncName) -> Func {
    name.body(code![
        mov(R0, 0),
        R1.ne(0).then([load(R0, R1.u64(0))]),
        repeat(R3, 0..100).body(code![add(R0, R2)]),
        exit(),
    ])
}

/// A program that asks it so often, each time with a number that differs.
fn asks(sum: &Func, calls: i32) -> Prog {
    let number = slot::<u64>("number");
    load_xdp(
        "asks",
        code![
            mov(R6, 0),
            (0..calls).map(|n| code![
                store(number.u64(0), n),
                addr(R1, number),
                mov(R2, 1),
                call(sum),
                add(R6, R0),
            ]),
            mov(R0, R6),
            exit(),
        ],
    )
}

#[test]
fn a_global_function_is_verified_once() {
    needs!(Root, Bpf, Btf);
    let verified = |sum: &Func, calls| -> u64 {
        let prog = asks(sum, calls);
        let expected: i32 = (0..calls).map(|n| n + 100).sum();
        assert_eq!(answer(&prog), expected.cast_unsigned());
        prog_info(&prog).unwrap().verified.into()
    };
    let global = slow_sum(func("sum").global([Param::Bytes(8), Param::Number]));
    let each = slow_sum(func("sum"));
    // A call takes a few instructions more, but those of a function that is not global as well.
    let (once, again) = (verified(&global, 1), verified(&global, 11));
    assert!(again < once + 100, "{once}, {again}");
    let (once, again) = (verified(&each, 1), verified(&each, 11));
    assert!(again > once + 2000, "{once}, {again}");
}

#[test]
fn what_a_global_function_takes_is_checked_at_calls() {
    needs!(Root, Bpf, Btf);
    let sum = slow_sum(func("sum").global([Param::Bytes(16), Param::Number]));
    let number = slot::<u64>("number");
    let code = code![
        store(number.u64(0), 1),
        addr(R1, number),
        mov(R2, 1),
        call(&sum),
        exit(),
    ];
    let load = Load::new(&build(ProgType::XDP, "short", code)).load();
    let error = load.expect_err("eight bytes are not sixteen");
    assert!(error.to_string().contains("call"), "{error:#}");
}
