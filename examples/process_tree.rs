//! Runs a command, and then shows every program that was started under it: who started it, how long
//! it ran, how it ended. Needs root, and a kernel with BTF.
//!
//! ```text
//! process_tree make
//! ```
//!
//! Two trace events are watched: a process starts a program, and the last thread of a process ends.
//! Both come with the kernel's `task_struct`, from which the programs climb from parent to parent, to
//! see whether this process is an ancestor. (Who loses its parent is given another one, and is lost.)
//! Fields have names, so the same programs run on kernels that keep them elsewhere.
//!
//! Without a command it runs itself with `--help`, and checks what it is told.

use bpfsmith::dsl::*;
use bpfsmith::kit::event::event;
use bpfsmith::maps::RingBuf;
use bpfsmith::prog::target::TpBtf;
use bpfsmith::prog::{Link, Load, Maps, Prog};
use bpfsmith::record;
use std::error::Error;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;
use zerocopy::{FromBytes, Immutable, KnownLayout};

const TASK: Reg = R6;
const AT: Reg = R7;
const DEPTH: Reg = R8;
const RECORD: Reg = R9;

/// How many generations are looked through.
const DEEPEST: i32 = 16;

record! {
    /// A process that started a program, or ended.
    #[derive(Clone, Copy, Debug, FromBytes, KnownLayout, Immutable)]
    pub struct Event {
        /// How long the process has been there, in nanoseconds.
        pub age: u64,
        /// The process.
        pub pid: u32,
        /// The process that started it.
        pub parent: u32,
        /// How many generations it is below this one.
        pub depth: u32,
        /// Whether it ended.
        pub ended: u32,
        /// If so, how: as `wait` tells it.
        pub status: u32,
        unused: u32,
        /// Its name.
        pub comm: [u8; 16],
        /// The name of the one that started it.
        pub parent_comm: [u8; 16],
        /// The file that it started, if it did.
        pub file: [u8; 128],
    }
}

/// The process whose descendants are shown. Loading sets it.
static ROOT: Global<u32> = Global::rodata("root", 0);
static LOST: Global<u64> = Global::bss("lost");
static EVENTS: MapDef<(), ()> = MapDef::ringbuf("events", 1 << 18);

/// Climbs from the task to its ancestors and leaves in `DEPTH` how far below `ROOT` it is; goes to
/// `stranger` if it is not. Clobbers R1, R2, R3 and `AT`.
fn depth(stranger: Label) -> Code {
    let (found, tgid) = (label("found"), kernel("task_struct.tgid"));
    code![
        ld_global(R3, &ROOT),
        load(R3, R3.u32(0)),
        mov(AT, TASK),
        repeat(DEPTH, 0..DEEPEST).body(code![
            load(R1, AT.get(tgid)),
            jeq(R1, R3, found),
            load(AT, AT.get(kernel("task_struct.real_parent"))),
        ]),
        ja(stranger),
        bind(found),
        jeq(DEPTH, 0, stranger),
    ]
}

/// Copies the name of a task. Clobbers R1.
fn name(to: Field, task: Reg) -> Code {
    let from = task.to(kernel("task_struct.comm"));
    let to = RECORD.to(to);
    code![(0..2).map(|half| [
        load(R1, from.u64(8 * half)),
        store(to.u64(8 * half), R1),
    ])]
}

/// Tells about the task. Clobbers all but `TASK` and `RECORD`.
fn tell(more: Code) -> Code {
    let keep = |from: Mem, to: Field| {
        code![
            load(R1, from),
            store(RECORD.get(to), R1)
        ]
    };
    let lost = code![
        ld_global(R1, &LOST),
        mov(R2, 1),
        atomic_add(R1.u64(0), R2)
    ];
    let fill = code![
        store(RECORD.get(Event::depth), DEPTH),
        keep(TASK.get(kernel("task_struct.tgid")), Event::pid),
        name(Event::comm, TASK),
        load(AT, TASK.get(kernel("task_struct.real_parent"))),
        keep(AT.get(kernel("task_struct.tgid")), Event::parent),
        name(Event::parent_comm, AT),
        // Until 5.5 it had another name.
        ktime_get_boot_ns(),
        load(
            R1,
            TASK.get(kernel(
                "task_struct.start_boottime | task_struct.real_start_time"
            ))
        ),
        sub(R0, R1),
        store(RECORD.get(Event::age), R0),
        more,
    ];
    event::<Event>(&EVENTS, RECORD, fill, Some(lost))
}

/// A process starts a program.
///
/// # Panics
/// If the checker finds anything wrong with it.
#[must_use]
pub fn started() -> Program {
    let stranger = label("stranger");
    let (event, path) = (args("sched_process_exec"), slot::<u64>("path"));
    let file = RECORD.to(Event::file);
    let file = code![probe_read_kernel_str(
        file,
        i32::from(Event::file.size),
        path.u64(0)
    )];
    let code = code![
        load(TASK, event.get("p")),
        load(R2, event.get("bprm")),
        load(R2, R2.get(kernel("linux_binprm.filename"))),
        store(path.u64(0), R2),
        depth(stranger),
        tell(file),
        bind(stranger),
        ret(0),
    ];
    build("started", code)
}

/// A process ends: its last thread does.
///
/// # Panics
/// If the checker finds anything wrong with it.
#[must_use]
pub fn ended() -> Program {
    let stranger = label("stranger");
    let status = code![
        store(RECORD.get(Event::ended), 1),
        load(R1, TASK.get(kernel("task_struct.exit_code"))),
        store(RECORD.get(Event::status), R1),
    ];
    let code = code![
        load(TASK, args("sched_process_exit").get("p")),
        load(R1, TASK.get(kernel("task_struct.signal"))),
        load(R1, R1.get(kernel("signal_struct.live.counter"))),
        jne(R1, 0, stranger),
        depth(stranger),
        tell(status),
        bind(stranger),
        ret(0),
    ];
    build("ended", code)
}

fn build(name: &str, code: Code) -> Program {
    Program::new(ProgType::TRACING, name, code).unwrap_or_else(|report| panic!("{report}"))
}

/// Runs the command, prints what happens under it, and returns how it ended and what was told.
///
/// # Errors
/// When a step is refused, or the command is not there.
pub fn watch(command: &mut Command) -> Result<(u32, ExitStatus, Vec<Event>), Box<dyn Error>> {
    let (started, ended) = (started(), ended());
    let mut maps = Maps::of(&started)?;
    maps.add(&ended)?;
    let mut events: RingBuf = maps.open(&EVENTS)?;
    let attach = |program: &Program, event: &str| -> Result<(Prog, Link), Box<dyn Error>> {
        let target = TpBtf::named(event);
        let load = Load::new(program).maps(&maps).to(&target)?;
        let prog = load.set(&ROOT, &std::process::id())?.load()?;
        let link = prog.attach(&target)?;
        Ok((prog, link))
    };
    let watching = [
        attach(&started, "sched_process_exec")?,
        attach(&ended, "sched_process_exit")?,
    ];
    let program = command.get_program().to_string_lossy().into_owned();
    let spawned = command.spawn();
    let mut child = spawned.map_err(|error| format!("start {program}: {error}"))?;
    let (id, status) = (child.id(), child.wait()?);
    for (prog, link) in watching {
        link.detach()?;
        match prog.read(&LOST)? {
            0 => {}
            lost => println!("{lost} events were lost: the ring buffer is too small"),
        }
    }
    let mut told = Vec::new();
    events.for_each(|event: &Event| {
        print(event);
        told.push(*event);
    })?;
    Ok((id, status, told))
}

/// A name with zeros behind it.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0);
    String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned()
}

fn print(event: &Event) {
    let indent = "  ".repeat(event.depth as usize - 1);
    let (pid, comm) = (event.pid, text(&event.comm));
    match event.ended {
        0 => println!(
            "{indent}{comm}[{pid}] is {}, by {}[{}]",
            text(&event.file),
            text(&event.parent_comm),
            event.parent
        ),
        _ => println!(
            "{indent}{comm}[{pid}] ended after {:?}: {}",
            Duration::from_nanos(event.age),
            ExitStatus::from_raw(event.status.cast_signed())
        ),
    }
}

/// Runs this very file, and looks for it in what was told.
///
/// # Errors
/// When a step is refused, or something else was told than happened.
pub fn run() -> Result<(), Box<dyn Error>> {
    const SELF: &str = "/proc/self/exe";
    let mut command = Command::new(SELF);
    let (id, status, told) = watch(command.arg("--help").stdout(Stdio::null()))?;
    let own: Vec<&Event> = told.iter().filter(|event| event.pid == id).collect();
    let [start, end] = own[..] else {
        return Err(format!("{id} was told {} times", own.len()).into());
    };
    let comm = std::fs::read_to_string("/proc/thread-self/comm")?;
    let started = (start.ended, start.depth, text(&start.file)) == (0, 1, SELF.to_owned())
        && (start.parent, text(&start.parent_comm).as_str())
            == (std::process::id(), comm.trim_end());
    let ended = (end.ended, end.status) == (1, status.into_raw().cast_unsigned())
        && (start.age..).contains(&end.age);
    match started && ended {
        true => Ok(()),
        false => Err(format!("{id} with {status:?}: {own:?}").into()),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    match arguments.split_first() {
        None => run(),
        Some((help, _)) if help == "--help" => {
            println!("process_tree COMMAND [ARGUMENT …]");
            Ok(())
        }
        Some((command, arguments)) => watch(Command::new(command).args(arguments)).map(drop),
    }
}
