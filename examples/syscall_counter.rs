//! Counts the files that a thread tries to open, and tells their names as they come: a program on the
//! trace event of a system call, and a ring buffer. Needs root.
//!
//! The kernel numbers its trace events in tracefs, which is not mounted everywhere. Where it is not,
//! this example mounts it for itself alone: in a mount namespace that only one thread is in.

use bpfsmith::dsl::*;
use bpfsmith::kit::event::event;
use bpfsmith::maps::RingBuf;
use bpfsmith::prog::target::Tracepoint;
use bpfsmith::prog::{Link, Load, Maps, Prog};
use bpfsmith::record;
use bpfsmith::sys::mount::{FileSystem, Mount};
use std::error::Error;
use std::fs::File;
use std::path::Path;
use zerocopy::{FromBytes, Immutable, KnownLayout};

const CTX: Reg = R6;
const RECORD: Reg = R7;

const TRACEFS: &str = "/sys/kernel/tracing";

/// The record of `syscalls:sys_enter_openat`, as its `format` file in tracefs has it: eight bytes for
/// every event, the number of the call, and its arguments.
mod sys_enter {
    pub(super) const NAME: i32 = 16 + 8;
    pub(super) const FLAGS: i32 = 16 + 2 * 8;
}

const LENGTH: usize = 64;

record! {
    /// A file that was to be opened.
    #[derive(Clone, Copy, Debug, FromBytes, KnownLayout, Immutable)]
    pub struct Opened {
        /// `O_…`
        flags: u64,
        /// The name, with a zero behind it, or the start of a long one.
        name: [u8; 64],
    }
}

/// The thread that is looked at. Loading sets it, and the verifier takes it for a constant.
static THREAD: Global<u32> = Global::rodata("thread", 0);
static CALLS: Global<u64> = Global::bss("calls");
static LOST: Global<u64> = Global::bss("lost");
static OPENED: MapDef<(), ()> = MapDef::ringbuf("opened", 1 << 16);

/// Adds one to a variable, for all CPUs at once. Clobbers R1 and R2.
fn bump(variable: &Global<u64>) -> Code {
    code![
        ld_global(R1, variable),
        mov(R2, 1),
        atomic_add(R1.u64(0), R2),
    ]
}

/// The program.
///
/// # Panics
/// If the checker finds anything wrong with it.
#[must_use]
pub fn program() -> Program {
    let other = label("other");
    let fill = code![
        load(R1, CTX.u64(sys_enter::FLAGS)),
        store(RECORD.get(Opened::flags), R1),
        load(R3, CTX.u64(sys_enter::NAME)),
        probe_read_user_str(RECORD.at(i32::from(Opened::name.offset)), 64, R3),
    ];
    let code = code![
        mov(CTX, R1),
        get_current_pid_tgid(),
        ld_global(R1, &THREAD),
        load(R1, R1.u32(0)),
        jne(W0, W1, other),
        bump(&CALLS),
        event::<Opened>(&OPENED, RECORD, fill, Some(bump(&LOST))),
        bind(other),
        ret(0),
    ];
    Program::new(ProgType::TRACEPOINT, "opened_files", code)
        .unwrap_or_else(|report| panic!("{report}"))
}

/// Attaches the program, opens files, and compares what was told.
///
/// # Errors
/// When a step is refused, or another file was told than was opened.
pub fn run() -> Result<(), Box<dyn Error>> {
    let program = program();
    let maps = Maps::of(&program)?;
    let mut opened: RingBuf = maps.open(&OPENED)?;
    let load = Load::new(&program).maps(&maps).set(&THREAD, &thread()?)?;
    let prog = load.load()?;
    let link = attach(&prog)?;

    let names: Vec<String> = (0..5)
        .map(|n| format!("/nonexistent/bpfsmith-{n}"))
        .collect();
    for name in &names {
        if File::open(name).is_ok() {
            return Err(format!("{name} exists").into());
        }
    }
    link.detach()?;
    let _ = File::open("/nonexistent/detached");

    let mut told = Vec::new();
    opened.for_each(|opened: &Opened| {
        let end = opened.name.iter().position(|&byte| byte == 0);
        let name = String::from_utf8_lossy(&opened.name[..end.unwrap_or(LENGTH)]).into_owned();
        println!("openat {name} flags {:#o}", opened.flags);
        told.push(name);
    })?;
    let (calls, lost) = (prog.read(&CALLS)?, prog.read(&LOST)?);
    println!("{calls} calls, {lost} records lost");
    match told == names && calls == 5 && lost == 0 {
        true => Ok(()),
        false => Err(format!("{names:?} were opened").into()),
    }
}

/// Puts the program on the event, which is found by its name in tracefs.
fn attach(prog: &Prog) -> Result<Link, Box<dyn Error>> {
    let target = Tracepoint::named("syscalls", "sys_enter_openat");
    if Path::new(TRACEFS).join("events").is_dir() {
        return Ok(prog.attach(&target)?);
    }
    println!("tracefs is not mounted: one thread mounts it for itself");
    let link = std::thread::scope(|scope| {
        let apart = scope.spawn(|| -> Result<Link, String> {
            let _tracefs = Mount::private(FileSystem::TRACE).map_err(|e| e.to_string())?;
            prog.attach(&target).map_err(|error| error.to_string())
        });
        apart.join().map_err(|_| "the thread panicked")
    })?;
    Ok(link?)
}

/// The number of the calling thread.
fn thread() -> Result<u32, Box<dyn Error>> {
    let link = std::fs::read_link("/proc/thread-self")?;
    let number = link.file_name().and_then(|name| name.to_str());
    Ok(number.ok_or("no number")?.parse()?)
}

fn main() -> Result<(), Box<dyn Error>> {
    run()
}
