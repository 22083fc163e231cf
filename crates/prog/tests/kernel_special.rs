//! Members that belong to the kernel: pointers, work for later, locks.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use bpfsmith_asm::dsl::*;
use bpfsmith_gate::{cgroup, deadline, needs};
use bpfsmith_maps::member::Untrusted;
use bpfsmith_maps::{Kptr, Map, ResilientLock, SpinLock, TaskWork, WorkQueue, kernel_structs};
use bpfsmith_prog::blame::Refusal;
use bpfsmith_prog::{Error, Load, Maps, Prog, kernel as running};
use std::os::unix::fs::MetadataExt;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use zerocopy::{FromBytes, Immutable, IntoBytes};

const LIMIT: Duration = Duration::from_secs(20);
const PACKET: [u8; 64] = [0; 64];

fn build(kind: ProgType, name: &str, code: Code) -> Program {
    Program::new(kind, name, code).unwrap_or_else(|report| panic!("{report}"))
}

#[track_caller]
fn loaded(maps: &mut Maps, name: &str, code: Code) -> Prog {
    let program = build(ProgType::SCHED_CLS, name, code);
    maps.add(&program)
        .unwrap_or_else(|error| panic!("{error:#}"));
    let load = Load::new(&program).maps(maps).load();
    load.unwrap_or_else(|error| panic!("{error:#}"))
}

#[track_caller]
fn refusal(code: Code) -> Box<Refusal> {
    let program = build(ProgType::SCHED_CLS, "refused", code);
    let maps = Maps::of(&program).unwrap();
    match Load::new(&program).maps(&maps).load() {
        Err(Error::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn answer(prog: &Prog) -> u32 {
    prog.run().data(&PACKET).go().unwrap().retval
}

/// R6 becomes the value under the key 0 of a map.
fn value<V>(map: &MapDef<u32, V>) -> Code {
    let key = slot::<u32>("key");
    code![
        store(key.u32(0), 0),
        map_lookup_elem(map, key),
        R0.eq(0).then(ret(u32::MAX.cast_signed())),
        mov(R6, R0),
    ]
}

fn global(reg: Reg, global: &Global<u64>) -> Code {
    code![
        ld_global(reg, global),
        load(reg, reg.u64(0))
    ]
}

// Pointers.

/// A thread that waits for its end.
struct Task {
    pid: u32,
    thread: JoinHandle<()>,
    end: Sender<()>,
}

impl Task {
    fn new() -> Task {
        let (end, ending) = channel::<()>();
        let (tell, told) = channel();
        let thread = std::thread::spawn(move || {
            // `PID/task/TID`.
            let own = std::fs::read_link("/proc/thread-self").unwrap();
            let name = own.file_name().unwrap().to_str().unwrap().to_owned();
            tell.send(name.parse().unwrap()).unwrap();
            assert!(ending.recv().is_err(), "nothing is sent");
        });
        let pid = told.recv().unwrap();
        Task { pid, thread, end }
    }

    /// Ends it, and says what its number was.
    fn end(self) -> u32 {
        drop(self.end);
        self.thread.join().unwrap();
        self.pid
    }
}

kernel_structs! {
    /// A task.
    TaskStruct = "task_struct";
    /// A control group.
    Group = "cgroup";
}
bpfsmith_uapi::record! {
    /// A task that is held.
    #[derive(Clone, Copy, Debug, Default, PartialEq, FromBytes, IntoBytes, Immutable)]
    struct Held {
        times: u64,
        task: Kptr<TaskStruct>,
    }
}
bpfsmith_uapi::record! {
    /// A control group that is held.
    #[derive(Clone, Copy, Debug, Default, PartialEq, FromBytes, IntoBytes, Immutable)]
    struct HeldGroup {
        group: Kptr<Group>,
    }
}
bpfsmith_uapi::record! {
    /// A task that may be gone.
    #[derive(Clone, Copy, Debug, Default, PartialEq, FromBytes, IntoBytes, Immutable)]
    struct Seen {
        task: Kptr<TaskStruct, Untrusted>,
    }
}

bpfsmith_uapi::record! {
    /// A lock alone.
    #[derive(Clone, Copy, Debug, Default, PartialEq, FromBytes, IntoBytes, Immutable)]
    struct Locked {
        lock: SpinLock,
        count: u32,
    }
}

static HELD_LOCKED: MapDef<u32, Locked> = MapDef::array("bs_locked", 1).described();
static HELD: MapDef<u32, Held> = MapDef::array("bs_held", 1).described();
static GROUPS: MapDef<u32, HeldGroup> = MapDef::hash("bs_groups", 4).described();
static SEEN: MapDef<u32, Seen> = MapDef::array("bs_seen", 1).described();
static WANTED: Global<u64> = Global::data("wanted", 0);

fn release() -> Code {
    code![
        mov(R1, R0),
        call_kfunc("bpf_task_release")
    ]
}

/// Holds the task of the wanted number. Returns 0, 1 if there was another, 2 if there is no such task.
fn hold() -> Code {
    code![
        value(&HELD),
        global(R1, &WANTED),
        call_kfunc("bpf_task_from_pid"),
        R0.eq(0).then(ret(2)),
        kptr_xchg(R6.at(Held::task.offset.into()), R0),
        R0.ne(0).then(code![release(), ret(1)]),
        ret(0),
    ]
}

/// The number of the task that is held, which stays.
fn peek() -> Code {
    code![
        value(&HELD),
        load(R7, R6.get(Held::task)),
        R7.eq(0).then(ret(0)),
        mov(R1, R7),
        call_kfunc("bpf_task_acquire"),
        R0.eq(0).then(ret(0)),
        load(R7, R0.get(kernel("task_struct.pid"))),
        release(),
        mov(R0, R7),
        exit(),
    ]
}

/// Takes the task out, and returns its number.
fn take() -> Code {
    code![
        value(&HELD),
        kptr_xchg(R6.at(Held::task.offset.into()), Null),
        R0.eq(0).then(ret(0)),
        load(R7, R0.get(kernel("task_struct.pid"))),
        release(),
        mov(R0, R7),
        exit(),
    ]
}

#[test]
fn a_task_is_held_by_a_map() {
    needs!(Root, Bpf, Btf, CountedKptr);
    let mut maps = Maps::new();
    let hold = loaded(&mut maps, "hold", hold());
    let peek = loaded(&mut maps, "peek", peek());
    let take = loaded(&mut maps, "take", take());
    let wants = |pid: u32| hold.write(&WANTED, &pid.into()).unwrap();

    wants(std::process::id());
    assert_eq!((answer(&peek), answer(&take)), (0, 0));
    assert_eq!(answer(&hold), 0);
    assert_eq!(answer(&hold), 1, "the one before was released");
    assert_eq!(answer(&peek), std::process::id());
    // User space sees the rest of the value, and changes it: the task goes.
    let held: Map<u32, Held> = maps.open(&HELD).unwrap();
    assert_eq!(held.lookup(&0).unwrap(), Some(Held::default()));
    held.update(
        &0,
        &Held {
            times: 3,
            ..Held::default()
        },
    )
    .unwrap();
    assert_eq!(held.lookup(&0).unwrap().unwrap().times, 3);
    assert_eq!(answer(&peek), 0);

    // A task that ended is still there for who holds it.
    let task = Task::new();
    wants(task.pid);
    assert_eq!(answer(&hold), 0);
    let pid = task.end();
    assert_eq!(answer(&take), pid);
    assert_eq!(answer(&take), 0);
    deadline(LIMIT, || (answer(&hold) == 2).then_some(()));
}

/// Holds the control group of the wanted number.
fn hold_group() -> Code {
    code![
        value(&GROUPS),
        global(R1, &WANTED),
        call_kfunc("bpf_cgroup_from_id"),
        R0.eq(0).then(ret(2)),
        kptr_xchg(R6.at(HeldGroup::group.offset.into()), R0),
        R0.ne(0).then(code![
            mov(R1, R0),
            call_kfunc("bpf_cgroup_release")
        ]),
        ret(0),
    ]
}

#[test]
fn what_a_value_holds_goes_with_it() {
    needs!(Root, Bpf, Btf, CountedKptr, Cgroup2);
    let outer = cgroup("held");
    let inner = outer.path().join("inner");
    let dying = || {
        let stat = std::fs::read_to_string(outer.path().join("cgroup.stat")).unwrap();
        let line = stat
            .lines()
            .find_map(|l| l.strip_prefix("nr_dying_descendants "));
        line.unwrap().parse::<u32>().unwrap()
    };
    let mut maps = Maps::new();
    let prog = loaded(&mut maps, "hold_group", hold_group());
    let groups: Map<u32, HeldGroup> = maps.open(&GROUPS).unwrap();
    // By deleting the element, then by closing the map.
    let mut open = Some((prog, maps, groups));
    for whole_map in [false, true] {
        std::fs::create_dir(&inner).unwrap();
        let (prog, maps, groups) = open.take().unwrap();
        let id = std::fs::metadata(&inner).unwrap().ino();
        prog.write(&WANTED, &id).unwrap();
        groups.update(&0, &HeldGroup::default()).unwrap();
        assert_eq!(answer(&prog), 0);
        std::fs::remove_dir(&inner).unwrap();
        assert_eq!(dying(), 1, "it is held");
        if whole_map {
            drop((prog, maps, groups));
        } else {
            groups.delete(&0).unwrap();
            open = Some((prog, maps, groups));
        }
        deadline(LIMIT, || (dying() == 0).then_some(()));
    }
}

#[test]
fn a_task_that_was_taken_out_must_be_released() {
    needs!(Root, Bpf, Btf, CountedKptr);
    let refusal = refusal(code![
        value(&HELD),
        kptr_xchg(R6.at(Held::task.offset.into()), Null),
        ret(0),
    ]);
    assert!(
        refusal.sentence.contains("Unreleased reference"),
        "{refusal:#}"
    );
    let text = format!("{refusal:#}");
    assert!(text.contains("(bpf_task_release, …)"), "{text}");
}

#[test]
fn a_pointer_is_neither_a_number_nor_another_pointer() {
    needs!(Root, Bpf, Btf, CountedKptr);
    let number = refusal(code![
        value(&HELD),
        mov(R1, 5),
        store(R6.get(Held::task), R1),
        ret(0),
    ]);
    assert_eq!(hint(&number), Some("kptr"), "{number:#}");
    let group = refusal(code![
        value(&HELD),
        mov(R1, 1),
        call_kfunc("bpf_cgroup_from_id"),
        R0.eq(0).then(ret(0)),
        kptr_xchg(R6.at(Held::task.offset.into()), R0),
        ret(0),
    ]);
    assert_eq!(hint(&group), Some("kptr"), "{group:#}");
    // The kernel takes an unknown structure for one of the program's own.
    let strange = refusal(code![
        value(&STRANGERS),
        mov(R1, 1),
        call_kfunc("bpf_task_from_pid"),
        R0.eq(0).then(ret(0)),
        kptr_xchg(R6, R0),
        ret(0),
    ]);
    assert_eq!(hint(&strange), Some("kptr"), "{strange:#}");
    let text = format!("{strange:#}");
    assert!(text.contains("task_strukt"), "{text}");
    let opaque = refusal(code![
        value(&HELD_LOCKED),
        load(R0, R6.u32(0)),
        exit()
    ]);
    assert_eq!(hint(&opaque), Some("opaque"), "{opaque:#}");
}

fn hint(refusal: &Refusal) -> Option<&str> {
    refusal.hint.as_ref().map(|hint| hint.name)
}

kernel_structs! {
    /// What kernels before 6.4 have for such tests.
    Tested = "prog_test_ref_kfunc";
    /// What no kernel has.
    Strange = "task_strukt";
}
bpfsmith_uapi::record! {
    /// A test's object that is held.
    #[derive(Clone, Copy, Debug, Default, PartialEq, FromBytes, IntoBytes, Immutable)]
    struct HeldTest {
        object: Kptr<Tested>,
    }
}
bpfsmith_uapi::record! {
    /// What cannot be held.
    #[derive(Clone, Copy, Debug, Default, PartialEq, FromBytes, IntoBytes, Immutable)]
    struct HeldStrange {
        object: Kptr<Strange>,
    }
}

static TESTS: MapDef<u32, HeldTest> = MapDef::array("bs_tests", 1).described();
static STRANGERS: MapDef<u32, HeldStrange> = MapDef::array("bs_strangers", 1).described();

/// Takes the test's object out, returns its first number, and puts in another.
fn exchange() -> Code {
    let (number, old) = (slot::<u64>("number"), slot::<u64>("old"));
    let release = || {
        code![
            mov(R1, R0),
            call_kfunc("bpf_kfunc_call_test_release")
        ]
    };
    code![
        value(&TESTS),
        store(number.u64(0), 0),
        store(old.u64(0), 0),
        kptr_xchg(R6, Null),
        R0.ne(0).then(code![
            load(R1, R0.u32(0)),
            store(old.u64(0), R1),
            release(),
        ]),
        addr(R1, number),
        call_kfunc("bpf_kfunc_call_test_acquire"),
        R0.eq(0).then(ret(1)),
        kptr_xchg(R6, R0),
        R0.ne(0).then(release()),
        load(R0, old.u64(0)),
        exit(),
    ]
}

#[test]
fn a_pointer_counts_under_the_word_that_the_kernel_has() {
    needs!(Root, Bpf, Btf, Kptr);
    let mut maps = Maps::new();
    // Before 6.4, this kernel function is no module's; tasks could not be held then.
    if running::btf()
        .unwrap()
        .find_func("bpf_kfunc_call_test_acquire")
        .is_some()
    {
        let prog = loaded(&mut maps, "exchange", exchange());
        assert_eq!([0; 3].map(|_| answer(&prog)), [0, 42, 42]);
    } else {
        let (put, take) = (hold(), take());
        let put = loaded(&mut maps, "hold", put);
        let take = loaded(&mut maps, "take", take);
        put.write(&WANTED, &std::process::id().into()).unwrap();
        assert_eq!((answer(&put), answer(&take)), (0, std::process::id()));
    }
}

#[test]
fn a_task_that_may_be_gone_is_remembered() {
    needs!(Root, Bpf, Btf, Kptr);
    let see = code![
        value(&SEEN),
        get_current_task_btf(),
        store(R6.get(Seen::task), R0),
        ret(0),
    ];
    let say = code![
        value(&SEEN),
        load(R7, R6.get(Seen::task)),
        R7.eq(0).then(ret(0)),
        load(R0, R7.get(kernel("task_struct.tgid"))),
        exit(),
    ];
    let mut maps = Maps::new();
    let progs = [("see", see), ("say", say)].map(|(name, code)| {
        let program = build(ProgType::RAW_TRACEPOINT, name, code);
        maps.add(&program)
            .unwrap_or_else(|error| panic!("{error:#}"));
        let load = Load::new(&program).maps(&maps).load();
        load.unwrap_or_else(|error| panic!("{error:#}"))
    });
    let ask = |index: usize| progs[index].run().go().unwrap().retval;
    assert_eq!(ask(1), 0);
    assert_eq!(ask(0), 0);
    assert_eq!(ask(1), std::process::id());
}

// Work.

bpfsmith_uapi::record! {
    /// Work, and how often it was done.
    #[derive(Clone, Copy, Debug, Default, PartialEq, FromBytes, IntoBytes, Immutable)]
    struct Work {
        work: WorkQueue,
        done: u64,
        last: u64,
    }
}

static WORK: MapDef<u32, Work> = MapDef::array("bs_work", 1).described();

/// Counts in the background as often as the value says.
fn working() -> Code {
    let again = func("again").body(code![
        mov(R6, R3),
        load(R1, R6.get(Work::done)),
        add(R1, 1),
        store(R6.get(Work::done), R1),
        load(R2, R6.get(Work::last)),
        R1.lt(R2).then(code![
            mov(R1, R6),
            mov(R2, 0),
            call_kfunc("bpf_wq_start"),
        ]),
        ret(0),
    ]);
    code![
        value(&WORK),
        mov(R1, R6),
        ld_map(R2, &WORK),
        mov(R3, 0),
        call_kfunc("bpf_wq_init"),
        mov(R7, R0),
        mov(R1, R6),
        ld_func(R2, &again),
        mov(R3, 0),
        call_kfunc("bpf_wq_set_callback_impl"),
        mov(R1, R6),
        mov(R2, 0),
        call_kfunc("bpf_wq_start"),
        mov(R0, R7),
        exit(),
    ]
}

#[test]
fn work_is_done_later() {
    needs!(Root, Bpf, Btf, WorkQueue);
    let mut maps = Maps::new();
    let prog = loaded(&mut maps, "working", working());
    let work: Map<u32, Work> = maps.open(&WORK).unwrap();
    let start = Work {
        last: 5,
        ..Work::default()
    };
    work.update(&0, &start).unwrap();
    assert_eq!(answer(&prog), 0);
    let now = || work.lookup(&0).unwrap().unwrap();
    deadline(LIMIT, || (now().done == 5).then_some(()));
    assert_eq!(now().work, WorkQueue::default());
    assert_eq!(answer(&prog).cast_signed(), -Errno::EBUSY.0, "it is there");
    deadline(LIMIT, || (now().done == 6).then_some(()));
}

bpfsmith_uapi::record! {
    /// Work for a task, and who did it.
    #[derive(Clone, Copy, Debug, Default, PartialEq, FromBytes, IntoBytes, Immutable)]
    struct Errand {
        work: TaskWork,
        by: u64,
    }
}

static ERRANDS: MapDef<u32, Errand> = MapDef::array("bs_errands", 1).described();

/// Sends the task of the wanted number on an errand.
fn sending() -> Code {
    let go = func("go").body(code![
        mov(R6, R3),
        get_current_pid_tgid(),
        store(R6.get(Errand::by), R0),
        ret(0),
    ]);
    code![
        value(&ERRANDS),
        global(R1, &WANTED),
        call_kfunc("bpf_task_from_pid"),
        R0.eq(0).then(ret(2)),
        mov(R7, R0),
        mov(R1, R7),
        mov(R2, R6),
        ld_map(R3, &ERRANDS),
        ld_func(R4, &go),
        call_kfunc("bpf_task_work_schedule_signal_impl"),
        mov(R6, R0),
        mov(R1, R7),
        call_kfunc("bpf_task_release"),
        mov(R0, R6),
        exit(),
    ]
}

#[test]
fn a_task_works_for_a_program() {
    needs!(Root, Bpf, Btf, TaskWork);
    let mut maps = Maps::new();
    let prog = loaded(&mut maps, "sending", sending());
    let errands: Map<u32, Errand> = maps.open(&ERRANDS).unwrap();
    let task = Task::new();
    prog.write(&WANTED, &task.pid.into()).unwrap();
    assert_eq!(answer(&prog), 0);
    let by = || errands.lookup(&0).unwrap().unwrap().by;
    deadline(LIMIT, || (by() != 0).then_some(()));
    let (process, thread) = (std::process::id(), task.end());
    assert_eq!(by(), u64::from(process) << 32 | u64::from(thread));
}

// Locks.

bpfsmith_uapi::record! {
    /// A counter with a lock that may be refused.
    #[derive(Clone, Copy, Debug, Default, PartialEq, FromBytes, IntoBytes, Immutable)]
    struct Guarded {
        lock: ResilientLock,
        count: u32,
    }
}

static GUARDED: MapDef<u32, Guarded> = MapDef::array("bs_resilient", 1).described();

#[test]
fn a_resilient_lock_keeps_programs_apart() {
    needs!(Root, Bpf, Btf, ResilientLock);
    const RUNS: u32 = 50_000;
    let mut maps = Maps::new();
    let count = code![
        value(&GUARDED),
        mov(R1, R6),
        call_kfunc("bpf_res_spin_lock"),
        R0.ne(0).then(ret(1)),
        load(R1, R6.get(Guarded::count)),
        add(R1, 1),
        store(R6.get(Guarded::count), R1),
        mov(R1, R6),
        call_kfunc("bpf_res_spin_unlock"),
        ret(0),
    ];
    let prog = loaded(&mut maps, "counting", count);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| prog.run().data(&PACKET).repeat(RUNS).go().unwrap());
        }
    });
    let guarded: Map<u32, Guarded> = maps.open(&GUARDED).unwrap();
    assert_eq!(guarded.lookup(&0).unwrap().unwrap().count, 2 * RUNS);
}
