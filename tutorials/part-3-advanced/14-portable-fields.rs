//! # Part 3, chapter 14: BTF and portable field access
//!
//! Run it as root: `cargo build --example chapter_3_14`, then
//! `sudo target/debug/examples/chapter_3_14`.
//!
//! Packets look the same on every machine. The kernel's own structures do not: the `task_struct` of
//! this kernel has its members elsewhere than that of the next version, or of the same version built
//! with another option. So the kernel carries a description of its types, functions and variables:
//! *BTF*, a few megabytes in `/sys/kernel/btf/vmlinux`.
//!
//! Programs say by name what they want of the kernel, and loading fills in the numbers:
//!
//! | in the program | what is filled in |
//! |---|---|
//! | `R6.get(kernel("task_struct.tgid"))` | offset and width of a field |
//! | `R6.to(kernel("task_struct.comm")).u64(8)` | the offset; the width is yours |
//! | `load_bits(R1, R6, kernel("sk_buff.sw_hash"))` | where the bits are, and both shifts |
//! | `args("sched_switch").get("prev")` | where an argument stands in the context |
//! | `kernel_const("CGROUP_SUBSYS_COUNT")` | the value of an enumeration's constant |
//! | `kernel("task_struct.comm").size()`, `.offset()` | a constant |
//! | `kernel_type("struct task_struct").size()` | a constant |
//! | `call_kfunc("bpf_cast_to_kern_ctx")`, `ld_ksym(R1, "runqueues")` | which function, which variable |
//! | `.exists()` of any of these | 1 or 0 |
//!
//! A name says where a field is, not what a register points to: that is for the program to know. The
//! verifier follows types too, but a field of another structure whose offset happens to fit is read.
//!
//! The program itself stays the same value on every kernel: build it once, look at its listing, keep
//! that as a snapshot. Loading asks once, and nothing is looked up when the program runs.

use bpfsmith::dsl::*;
use bpfsmith::prog::target::TpBtf;
use bpfsmith::prog::{Error, Load, kernel, list};
use bpfsmith::record;
use std::time::{Duration, Instant};
use zerocopy::{FromBytes, Immutable, IntoBytes};

type Checked = Result<(), Box<dyn std::error::Error>>;

const OUT: Reg = R6;
const TASK: Reg = R7;

record! {
    /// What a task knows of itself.
    #[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
    pub struct Me {
        /// The number of its process.
        tgid: u64,
        /// That of its parent.
        parent: u64,
        /// The number of its thread, in the outermost namespace.
        thread: u64,
        /// What it does: 0 is running.
        state: u64,
        /// Its name.
        comm: [u8; 16],
        /// How many bytes the kernel keeps about it.
        bytes: u64,
        /// How many kinds of control groups there are.
        controllers: u64,
        /// Whether the kernel lets BPF programs schedule tasks.
        has_slice: u64,
        /// If so, how long it may run.
        slice: u64,
    }
}

static ME: Global<Me> = Global::bss("me");

/// Only kernels whose tasks may be scheduled by BPF programs have it: Linux 6.12, by an option.
const SLICE: KernelField = kernel("task_struct.scx.slice");

/// Looks at the kernel's types from Rust: no program, and no root either.
fn look() -> Checked {
    let btf = kernel::btf()?;
    let task = btf.find_struct("task_struct").ok_or("no task_struct")?;
    let parent = btf.member(task, "real_parent")?;
    println!("{} types", btf.len());
    println!(
        "struct task_struct has {} bytes; {} is at {:?}\n",
        btf.size_of(task)?,
        btf.spell(parent.ty, "real_parent")?,
        parent.offset()
    );
    // C for the reader; `define_with_places` adds offsets. On the command line: `bpfsmith btf`.
    let upid = btf.find_struct("upid").ok_or("no upid")?;
    println!("{}", btf.define_with_places(upid)?);
    Ok(())
}

/// Writes down what the running task is like.
///
/// # Panics
/// If the program is wrong; the message names the line.
#[must_use]
pub fn me() -> Program {
    let keep = |field: Mem, to| code![load(R1, field), store(OUT.get(to), R1)];
    let constant = |value, to| code![mov(R1, value), store(OUT.get(to), R1)];
    let comm = TASK.to(kernel("task_struct.comm"));
    let body = code![
        ld_global(OUT, &ME),
        get_current_task_btf(),
        mov(TASK, R0),
        // The verifier knows that R0 points to a task: its fields are read like any memory. The width
        // of the load is that of the field.
        keep(TASK.get(kernel("task_struct.tgid")), Me::tgid),
        // A pointer in it leads to the next structure, and the verifier knows which.
        load(R2, TASK.get(kernel("task_struct.real_parent"))),
        keep(R2.get(kernel("task_struct.tgid")), Me::parent),
        // A path goes through what lies inside: structures, unions, arrays. Not through pointers.
        load(R2, TASK.get(kernel("task_struct.thread_pid"))),
        keep(R2.get(kernel("pid.numbers[0].nr")), Me::thread),
        // 5.14 renamed it and made it shorter. The first that exists is taken.
        keep(
            TASK.get(kernel("task_struct.__state | task_struct.state")),
            Me::state
        ),
        // 16 bytes are more than one access moves. The place is the kernel's, the widths are ours.
        (0..2).map(|half| [
            load(R1, comm.u64(8 * half)),
            store(OUT.to(Me::comm).u64(8 * half), R1),
        ]),
        constant(kernel_type("struct task_struct").size(), Me::bytes),
        constant(
            kernel_const("CGROUP_SUBSYS_COUNT").number(),
            Me::controllers
        ),
        // The answer is a constant, so the verifier follows one of the two ways only.
        mov(R1, SLICE.exists()),
        store(OUT.get(Me::has_slice), R1),
        R1.ne(0).then(keep(TASK.get(SLICE), Me::slice)),
        ret(0),
    ];
    build(ProgType::RAW_TRACEPOINT, "me", body)
}

fn build(kind: ProgType, name: &str, code: Code) -> Program {
    Program::new(kind, name, code).unwrap_or_else(|report| panic!("{report}"))
}

/// Runs it on this thread, and compares.
fn this_is_me() -> Checked {
    let program = me();
    let prog = Load::new(&program).load()?;
    prog.run().go()?;
    let me = prog.read(&ME)?;
    println!(
        "{}: thread {} of process {}, which {} started; {} bytes; {} controllers; scheduled by BPF: {}\n",
        String::from_utf8_lossy(&me.comm).trim_end_matches('\0'),
        me.thread,
        me.tgid,
        me.parent,
        me.bytes,
        me.controllers,
        me.has_slice == 1
    );

    let btf = kernel::btf()?;
    let task = btf.find_struct("task_struct").ok_or("no task_struct")?;
    let mut comm = std::fs::read("/proc/thread-self/comm")?;
    comm.pop();
    comm.resize(16, 0);
    let count = btf.find_constant("CGROUP_SUBSYS_COUNT");
    expect("tgid", me.tgid == std::process::id().into())?;
    expect(
        "parent",
        me.parent == std::os::unix::process::parent_id().into(),
    )?;
    expect("thread", me.thread == thread()?.into())?;
    expect("state", me.state == 0)?;
    expect("comm", me.comm[..] == comm)?;
    expect("bytes", me.bytes == btf.size_of(task)?.into())?;
    expect(
        "controllers",
        count.is_some_and(|(_, count)| count == me.controllers.into()),
    )?;
    let has_slice = btf.member(task, "scx.slice").is_ok();
    expect("slice", me.has_slice == u64::from(has_slice))
}

/// Asks for what no kernel has. The verifier does not come to the branch, so what stands there may
/// name fields, functions and variables that are not there; and the kernel throws it away.
///
/// # Panics
/// If the program is wrong; the message names the line.
#[must_use]
pub fn guarded() -> Program {
    let missing = kernel("task_struct.wings");
    let body = code![
        mov(R1, missing.exists()),
        R1.ne(0).then(code![
            get_current_task_btf(),
            load(R1, R0.get(missing)),
            call_kfunc("bpf_task_fly"),
        ]),
        ret(0),
    ];
    build(ProgType::RAW_TRACEPOINT, "guarded", body)
}

/// Three instructions are left: the constant that is not used any more, and the end.
fn dead_branches_cost_nothing() -> Checked {
    let program = guarded();
    let prog = Load::new(&program).load()?;
    println!("{}", program.listing());
    println!("what the kernel kept:\n{}", list::xlated_text(&prog)?);
    expect("three are left", list::xlated(&prog)?.len() == 3)
}

record! {
    /// How often a thread gave up its CPU.
    #[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
    pub struct Switches {
        /// How often we saw it.
        seen: u64,
        /// The kernel's own count, the first time.
        first: u64,
        /// The same, the last time.
        last: u64,
    }
}

static THREAD: Global<u32> = Global::rodata("thread", 0);
static SWITCHES: Global<Switches> = Global::bss("switches");

/// Runs when a CPU goes from one task to the next, and counts for one thread.
///
/// The arguments of a trace event stand in its context, which R1 holds when the program starts
/// (`args(…).from(R6)` if it was moved). This event has `preempt`, `prev` and `next`, and since 5.18
/// `prev_state`. The kernel tells the verifier what each is, so `prev` is followed like any task.
///
/// # Panics
/// If the program is wrong; the message names the line.
#[must_use]
pub fn program() -> Program {
    let other = label("other");
    let body = code![
        load(TASK, args("sched_switch").get("prev")),
        ld_global(R1, &THREAD),
        load(R1, R1.u32(0)),
        load(R2, TASK.get(kernel("task_struct.pid"))),
        jne(W1, W2, other),
        // It waited for something, or somebody else had to run.
        load(R1, TASK.get(kernel("task_struct.nvcsw"))),
        load(R2, TASK.get(kernel("task_struct.nivcsw"))),
        add(R1, R2),
        ld_global(OUT, &SWITCHES),
        load(R2, OUT.get(Switches::seen)),
        R2.eq(0).then(store(OUT.get(Switches::first), R1)),
        store(OUT.get(Switches::last), R1),
        // A thread gives up one CPU at a time: nobody else writes here.
        add(R2, 1),
        store(OUT.get(Switches::seen), R2),
        bind(other),
        ret(0),
    ];
    build(ProgType::TRACING, "switches", body)
}

/// Gives up the CPU until it was seen ten times. Our count has to be the kernel's.
fn switches_are_counted() -> Checked {
    let program = program();
    let event = TpBtf::named("sched_switch");
    let load = Load::new(&program).to(&event)?.set(&THREAD, &thread()?)?;
    let prog = load.load()?;
    let link = prog.attach(&event)?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while prog.read(&SWITCHES)?.seen < 10 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    link.detach()?;
    let switches = prog.read(&SWITCHES)?;
    println!("{switches:?}\n");
    expect("ten switches", switches.seen >= 10)?;
    expect(
        "the kernel counted as many",
        switches.seen == switches.last - switches.first + 1,
    )
}

/// What the next program returns where the kernel lacks what it needs.
const LACKING: i32 = 99;

/// Looks at a packet as the kernel has it, behind what it shows to programs.
///
/// `__sk_buff` is a view made for programs. A kernel function gives the `sk_buff` itself, on 6.2 and
/// newer. `sw_hash` is one bit of it: whether the hash was computed by software. Bits have no address;
/// `load_bits` loads the bytes around them and cuts them out.
///
/// # Panics
/// If the program is wrong; the message names the line.
#[must_use]
pub fn packet() -> Program {
    const CTX: Reg = R6;
    const SKB: Reg = R7;
    const BEFORE: Reg = R8;
    let lacking = label("lacking");
    let cast = kfunc("bpf_cast_to_kern_ctx");
    let sw_hash = kernel("sk_buff.sw_hash");
    let body = code![
        mov(CTX, R1),
        mov(R2, cast.exists()),
        jeq(R2, 0, lacking),
        call_kfunc(cast.name()),
        mov(SKB, R0),
        load_bits(BEFORE, SKB, sw_hash),
        mov(R2, 0x1234),
        set_hash(CTX, R2),
        load_bits(R0, SKB, sw_hash),
        lsh(R0, 1),
        or(R0, BEFORE),
        exit(),
        bind(lacking),
        ret(LACKING),
    ];
    build(ProgType::SCHED_CLS, "packet", body)
}

fn a_bit_is_set() -> Checked {
    let program = packet();
    let prog = Load::new(&program).load()?;
    match prog.run().data(&[0; 64]).go()?.retval.cast_signed() {
        LACKING => println!("this kernel has no bpf_cast_to_kern_ctx\n"),
        0b10 => println!("the bit was clear, then set\n"),
        bits => return Err(format!("the bit was read as {bits:#b}").into()),
    }
    Ok(())
}

/// Programs that name what is not there, or use it wrongly, and how they are told.
///
/// # Panics
/// If the checker finds anything wrong with them: it does not know the kernel.
#[must_use]
pub fn mistakes() -> [(Program, &'static str); 5] {
    let missing = kernel("task_struct.tgidd");
    [
        (
            code![load(R1, TASK.get(missing))],
            "near: task_struct.tgid;",
        ),
        (
            code![load(
                R1,
                TASK.get(kernel("task_struct.comm"))
            )],
            "reach into it with `to`",
        ),
        (
            code![mov(R1, kernel_const("TASK_RUNNING"))],
            "macros have none",
        ),
        (
            code![load(
                R1,
                args("sched_switch").from(TASK).get("previous")
            )],
            "near: preempt, prev, next",
        ),
        // Who tests, may name what is missing: it is refused only where the verifier comes to it.
        // This one does not look at the answer.
        (
            code![
                mov(R1, missing.exists()),
                load(R1, TASK.get(missing)),
            ],
            "no field \"task_struct.tgidd\"",
        ),
    ]
    .map(|(mistake, told)| {
        let body = code![
            get_current_task_btf(),
            mov(TASK, R0),
            mistake,
            ret(0)
        ];
        (build(ProgType::RAW_TRACEPOINT, "mistake", body), told)
    })
}

/// Loads them, and prints the errors.
fn mistakes_are_told() -> Checked {
    let mut last = None;
    for (program, told) in mistakes() {
        let error = match Load::new(&program).load() {
            Err(error) => error,
            Ok(_) => return Err(format!("the kernel took {}", program.listing()).into()),
        };
        println!("{error}\n");
        expect(told, error.to_string().contains(told))?;
        last = Some(error);
    }
    // The last one went as far as the verifier: so there is a line to show.
    match last {
        Some(error @ Error::Refused(_)) => println!("{error:#}"),
        other => return Err(format!("not the verifier's: {other:?}").into()),
    }
    Ok(())
}

/// The number of the calling thread.
fn thread() -> Result<u32, Box<dyn std::error::Error>> {
    let link = std::fs::read_link("/proc/thread-self")?;
    let number = link.file_name().and_then(|name| name.to_str());
    Ok(number.ok_or("no number")?.parse()?)
}

fn expect(what: &str, holds: bool) -> Checked {
    match holds {
        true => Ok(()),
        false => Err(format!("this does not hold: {what}").into()),
    }
}

/// All of it.
///
/// # Errors
/// When the kernel refuses a step, or shows something else than it should.
pub fn run() -> Checked {
    look()?;
    this_is_me()?;
    dead_branches_cost_nothing()?;
    switches_are_counted()?;
    a_bit_is_set()?;
    mistakes_are_told()
}

#[allow(dead_code, reason = "tests include this file for its program")]
fn main() -> Checked {
    run()
}
