//! Lists the tasks of this machine with an iterator: the kernel calls the program for each of them,
//! and what the program writes is read like a file. Needs root, and a kernel with BTF.
//!
//! The members of the kernel's `task_struct` lie elsewhere in every kernel. Where they lie in the
//! running one, its BTF says; the program is built with these offsets. This process has to be in the
//! list exactly once, with the name that `/proc` tells.

use bpfsmith::dsl::*;
use bpfsmith::prog::target::Iter;
use bpfsmith::prog::{Load, kernel};
use bpfsmith::record;
use std::error::Error;
use std::io::Read;
use zerocopy::{FromBytes, Immutable, KnownLayout};

const CTX: Reg = R6;
const TASK: Reg = R7;

record! {
    /// A task, as the program writes it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, KnownLayout, Immutable)]
    pub struct Task {
        /// The number of the thread.
        pid: u32,
        /// The number of its process.
        tgid: u32,
        /// Its name, padded with zeros.
        comm: [u8; 16],
    }
}

/// Where the members of `task_struct` lie.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    /// The number of the thread.
    pub pid: i32,
    /// The number of the process.
    pub tgid: i32,
    /// The name.
    pub comm: i32,
}

impl Places {
    /// In the running kernel.
    ///
    /// # Errors
    /// When it tells no types, or they have no such members.
    pub fn here() -> Result<Places, Box<dyn Error>> {
        let btf = kernel::btf()?;
        let task = btf.find_struct("task_struct").ok_or("no task_struct")?;
        let place = |path| -> Result<i32, Box<dyn Error>> {
            let offset = btf.member(task, path)?.offset();
            Ok(offset.ok_or("a bit field")?.try_into()?)
        };
        Ok(Places {
            pid: place("pid")?,
            tgid: place("tgid")?,
            comm: place("comm")?,
        })
    }
}

/// Writes a record for the task in the context. After the last one the kernel calls without a task.
fn write_task(places: Places) -> Code {
    let (last, record) = (label("last"), slot::<Task>("record"));
    code![
        mov(CTX, R1),
        load(TASK, CTX.u64(8)),
        jeq(TASK, 0, last),
        load(R1, TASK.u32(places.pid)),
        store(record.get(Task::pid), R1),
        load(R1, TASK.u32(places.tgid)),
        store(record.get(Task::tgid), R1),
        (0..2).map(|half| {
            let to = record.at(i32::from(Task::comm.offset));
            [
                load(R1, TASK.at(places.comm).u64(8 * half)),
                store(to.u64(8 * half), R1),
            ]
        }),
        // The context begins with a pointer to the reader's state, and that with the file.
        load(R1, CTX.u64(0)),
        load(R1, R1.u64(0)),
        seq_write(R1, record, record.size()),
        bind(last),
        ret(0),
    ]
}

/// The program for a kernel whose tasks look like this.
///
/// # Panics
/// If the checker finds anything wrong with it.
#[must_use]
pub fn program_for(places: Places) -> Program {
    Program::new(ProgType::TRACING, "write_task", write_task(places))
        .unwrap_or_else(|report| panic!("{report}"))
}

/// The program for some kernel, to look at.
#[must_use]
pub fn program() -> Program {
    program_for(Places {
        pid: 1000,
        tgid: 1004,
        comm: 2000,
    })
}

/// Lists all tasks, and looks for this process among them.
///
/// # Errors
/// When a step is refused, or this process is not in the list, or twice.
pub fn run() -> Result<(), Box<dyn Error>> {
    let program = program_for(Places::here()?);
    let tasks = Iter::of("task");
    let prog = Load::new(&program).to(&tasks)?.load()?;

    // Reading calls the program. Another `read` would be another pass.
    let mut bytes = Vec::new();
    tasks.read(&prog)?.read_to_end(&mut bytes)?;
    let list: Result<Vec<Task>, _> = bytes
        .chunks(size_of::<Task>())
        .map(Task::read_from_bytes)
        .collect();
    let list = list.map_err(|_| "the last record is cut off")?;

    let own = std::process::id();
    println!("  pid    tgid  name ({} threads in all)", list.len());
    let processes = list.iter().filter(|task| task.pid == task.tgid);
    for task in processes.clone().take(5) {
        print(task);
    }
    println!("  …");
    let found: Vec<&Task> = list.iter().filter(|task| task.pid == own).collect();
    for task in &found {
        print(task);
    }
    let comm = std::fs::read_to_string("/proc/self/comm")?;
    match found[..] {
        [task] if task.tgid == own && name(task) == comm.trim_end() => Ok(()),
        _ => Err(format!("{own} {} was found as {found:?}", comm.trim_end()).into()),
    }
}

fn name(task: &Task) -> String {
    let end = task.comm.iter().position(|&byte| byte == 0);
    String::from_utf8_lossy(&task.comm[..end.unwrap_or(task.comm.len())]).into_owned()
}

fn print(task: &Task) {
    println!("{:>5}   {:>5}  {}", task.pid, task.tgid, name(task));
}

fn main() -> Result<(), Box<dyn Error>> {
    run()
}
