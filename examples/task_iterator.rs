//! Lists the tasks of this machine with an iterator: the kernel calls the program for each of them,
//! and what the program writes is read like a file. Needs root, and a kernel with BTF.
//!
//! The members of the kernel's `task_struct` lie elsewhere in every kernel. The program names them, and
//! loading finds out where they lie in the running one. This process has to be in the list exactly
//! once, with the name that `/proc` tells.

use bpfsmith::dsl::*;
use bpfsmith::prog::Load;
use bpfsmith::prog::target::Iter;
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

/// Writes a record for the task in the context. After the last one the kernel calls without a task.
fn write_task() -> Code {
    let (last, record) = (label("last"), slot::<Task>("record"));
    let comm = TASK.to(kernel("task_struct.comm"));
    code![
        mov(CTX, R1),
        load(TASK, CTX.u64(8)),
        jeq(TASK, 0, last),
        load(R1, TASK.get(kernel("task_struct.pid"))),
        store(record.get(Task::pid), R1),
        load(R1, TASK.get(kernel("task_struct.tgid"))),
        store(record.get(Task::tgid), R1),
        (0..2).map(|half| [
            load(R1, comm.u64(8 * half)),
            store(record.to(Task::comm).u64(8 * half), R1),
        ]),
        // The context begins with a pointer to the reader's state, and that with the file.
        load(R1, CTX.u64(0)),
        load(R1, R1.u64(0)),
        seq_write(R1, record, record.size()),
        bind(last),
        ret(0),
    ]
}

/// The program.
///
/// # Panics
/// If the checker finds anything wrong with it.
#[must_use]
pub fn program() -> Program {
    Program::new(ProgType::TRACING, "write_task", write_task())
        .unwrap_or_else(|report| panic!("{report}"))
}

/// Lists all tasks, and looks for this process among them.
///
/// # Errors
/// When a step is refused, or this process is not in the list, or twice.
pub fn run() -> Result<(), Box<dyn Error>> {
    let program = program();
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
