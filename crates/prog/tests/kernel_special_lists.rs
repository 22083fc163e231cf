//! Lists and trees of structures that programs allocate.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use bpfsmith_asm::dsl::*;
use bpfsmith_gate::needs;
use bpfsmith_maps::{List, ListNode, RefCount, SpinLock, Tree, TreeNode};
use bpfsmith_prog::blame::Refusal;
use bpfsmith_prog::{Error, Lines, Load, Maps, Prog};
use zerocopy::{FromBytes, Immutable, IntoBytes};

const PACKET: [u8; 64] = [0; 64];

static WANTED: Global<u64> = Global::data("wanted", 0);

fn build(kind: ProgType, name: &str, code: Code) -> Program {
    Program::new(kind, name, code).unwrap_or_else(|report| panic!("{report}"))
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

/// R6 becomes the value under the key 0 of a map; with what is done if there is none.
fn value_or<V>(map: &MapDef<u32, V>, otherwise: impl Splice) -> Code {
    let key = slot::<u32>("key");
    code![
        store(key.u32(0), 0),
        map_lookup_elem(map, key),
        R0.eq(0).then(otherwise),
        mov(R6, R0),
    ]
}

fn global(reg: Reg, global: &Global<u64>) -> Code {
    code![
        ld_global(reg, global),
        load(reg, reg.u64(0))
    ]
}

bpfsmith_uapi::record! {
    /// A job in a queue.
    #[derive(Clone, Copy)]
    struct Job {
        number: u64,
        next: ListNode,
    }
}
bpfsmith_uapi::record! {
    /// A mark, in the order in which it came and in that of its number.
    #[derive(Clone, Copy)]
    struct Mark {
        number: u64,
        next: ListNode,
        sorted: TreeNode,
        count: RefCount,
    }
}

bpfsmith_uapi::record! {
    /// A list in a map of its own.
    #[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
    struct Queue {
        lock: SpinLock,
        end: u32,
        jobs: List<Job>,
    }
}

static LOCK: Global<SpinLock> = Global::private("lock");
static JOBS: Global<List<Job>> = Global::private("jobs");
static MARKS: Global<List<Mark>> = Global::private("marks");
static SORTED: Global<Tree<Mark>> = Global::private("sorted");
static APART: MapDef<u32, Queue> = MapDef::array("bs_apart", 1).described();
static WAY: Global<u64> = Global::data("way", 0);

const IN: u64 = 0;
const OUT: u64 = 1;
const LEAST: u64 = 2;
const NOTHING: u32 = u32::MAX;

/// A new object with the wanted number in R6, R7 at the lock.
fn object<T: bpfsmith_uapi::record::Described>(number: Field) -> Code {
    code![
        ld_type::<T>(R1),
        mov(R2, 0),
        call_kfunc("bpf_obj_new_impl"),
        R0.eq(0).then(ret(1)),
        mov(R6, R0),
        global(R1, &WANTED),
        store(R6.get(number), R1),
        ld_global(R7, &LOCK),
    ]
}

/// R1 becomes a list, R2 what hangs in it: R6, by this member.
fn push<T>(list: &Global<List<T>>, by: Field) -> Code {
    code![
        ld_global(R1, list),
        mov(R2, R6),
        add(R2, i32::from(by.offset)),
        mov(R3, 0),
        mov(R4, 0),
        call_kfunc("bpf_list_push_back_impl"),
    ]
}

/// Returns the number of the object whose member is at R0, and drops it.
fn number(number: Field, by: Field) -> Code {
    code![
        mov(R6, R0),
        spin_unlock(R7),
        R6.eq(0).then(ret(NOTHING.cast_signed())),
        sub(R6, i32::from(by.offset)),
        load(R7, R6.get(number)),
        mov(R1, R6),
        mov(R2, 0),
        call_kfunc("bpf_obj_drop_impl"),
        mov(R0, R7),
        exit(),
    ]
}

/// Puts a job in, or takes one out.
fn queue() -> Code {
    code![
        global(R1, &WAY),
        R1.eq(0).then(code![
            object::<Job>(Job::number),
            spin_lock(R7),
            push(&JOBS, Job::next),
            spin_unlock(R7),
            ret(0),
        ]),
        ld_global(R7, &LOCK),
        spin_lock(R7),
        ld_global(R1, &JOBS),
        call_kfunc("bpf_list_pop_front"),
        number(Job::number, Job::next),
    ]
}

/// What a program of the queue answers.
#[track_caller]
fn asked(prog: &Prog, way: u64, number: u64) -> u32 {
    prog.write(&WAY, &way).unwrap();
    prog.write(&WANTED, &number).unwrap();
    answer(prog)
}

#[test]
fn a_list_keeps_the_order() {
    needs!(Root, Bpf, Btf, ObjectLists);
    let program = build(ProgType::SCHED_CLS, "queue", queue());
    // The types belong to the program: they are told also when lines are not.
    for lines in [Lines::Told, Lines::Kept] {
        let load = Load::new(&program).lines(lines).load();
        let prog = load.unwrap_or_else(|error| panic!("{error:#}"));
        assert_eq!(asked(&prog, OUT, 0), NOTHING);
        for number in [7, 3, 5] {
            assert_eq!(asked(&prog, IN, number), 0);
        }
        assert_eq!([0; 3].map(|_| asked(&prog, OUT, 0)), [7, 3, 5]);
        assert_eq!(asked(&prog, OUT, 0), NOTHING);
        // What is left in goes with the program.
        assert_eq!(asked(&prog, IN, 9), 0);
        // User space may look, without finding anything.
        prog.read(&JOBS).unwrap();
        let error = prog.write(&LOCK, &SpinLock::default()).unwrap_err();
        assert!(error.to_string().contains("is private"), "{error}");
    }
}

/// Puts a mark into a list and a tree, or takes the first or the least one out.
fn marks() -> Code {
    let sorted = i32::from(Mark::sorted.offset);
    let less = func("less").body(code![
        sub(R1, sorted),
        sub(R2, sorted),
        load(R1, R1.get(Mark::number)),
        load(R2, R2.get(Mark::number)),
        mov(R0, 0),
        R1.lt(R2).then(mov(R0, 1)),
        exit(),
    ]);
    code![
        global(R8, &WAY),
        R8.eq(0).then(code![
            object::<Mark>(Mark::number),
            mov(R1, R6),
            mov(R2, 0),
            call_kfunc("bpf_refcount_acquire_impl"),
            mov(R8, R0),
            spin_lock(R7),
            ld_global(R1, &SORTED),
            mov(R2, R8),
            add(R2, sorted),
            ld_func(R3, &less),
            mov(R4, 0),
            mov(R5, 0),
            call_kfunc("bpf_rbtree_add_impl"),
            push(&MARKS, Mark::next),
            spin_unlock(R7),
            ret(0),
        ]),
        ld_global(R7, &LOCK),
        spin_lock(R7),
        R8.eq(1).then(code![
            ld_global(R1, &MARKS),
            call_kfunc("bpf_list_pop_front"),
            number(Mark::number, Mark::next),
        ]),
        ld_global(R1, &SORTED),
        call_kfunc("bpf_rbtree_first"),
        R0.eq(0).then(code![
            spin_unlock(R7),
            ret(NOTHING.cast_signed())
        ]),
        mov(R2, R0),
        ld_global(R1, &SORTED),
        call_kfunc("bpf_rbtree_remove"),
        number(Mark::number, Mark::sorted),
    ]
}

#[test]
fn what_hangs_in_a_list_and_a_tree_is_counted() {
    needs!(Root, Bpf, Btf, ObjectLists);
    let program = build(ProgType::SCHED_CLS, "marks", marks());
    let load = Load::new(&program).load();
    let prog = load.unwrap_or_else(|error| panic!("{error:#}"));
    for number in [30, 10, 20] {
        assert_eq!(asked(&prog, IN, number), 0);
    }
    assert_eq!(asked(&prog, OUT, 0), 30);
    assert_eq!(
        [0; 4].map(|_| asked(&prog, LEAST, 0)),
        [10, 20, 30, NOTHING]
    );
    assert_eq!([0; 3].map(|_| asked(&prog, OUT, 0)), [10, 20, NOTHING]);
}

#[test]
fn a_list_in_a_map_is_of_another_world() {
    needs!(Root, Bpf, Btf, ObjectLists);
    let refusal = refusal(code![
        object::<Job>(Job::number),
        mov(R8, R6),
        value_or(
            &APART,
            code![
                mov(R1, R8),
                mov(R2, 0),
                call_kfunc("bpf_obj_drop_impl"),
                ret(0)
            ]
        ),
        spin_lock(R6),
        mov(R1, R6),
        add(R1, i32::from(Queue::jobs.offset)),
        mov(R2, R8),
        add(R2, i32::from(Job::next.offset)),
        mov(R3, 0),
        mov(R4, 0),
        call_kfunc("bpf_list_push_back_impl"),
        spin_unlock(R6),
        ret(0),
    ]);
    let hint = refusal.hint.as_ref().map(|hint| hint.name);
    assert_eq!(hint, Some("own-list"), "{refusal:#}");
}

#[test]
fn a_program_from_text_does_not_bring_its_types() {
    needs!(Root, Bpf, Btf, ObjectLists);
    let program = build(ProgType::SCHED_CLS, "queue", queue());
    let text = program.listing();
    assert!(text.contains("r1 = 0 @own_type[Job]"), "{text}");
    let read = bpfsmith_asm::text::program(&text).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(read, program);
    let error = Load::new(&read).load().unwrap_err();
    assert!(
        error.to_string().contains("was not told of \"Job\""),
        "{error}"
    );
}
