//! A process whose system calls are seen before the kernel carries them out, by `ptrace(2)`.

use nix::errno::Errno;
use nix::libc::c_long;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

/// A system call that begins.
#[derive(Debug)]
pub(crate) struct Call<'m> {
    pub(crate) number: c_long,
    pub(crate) args: [u64; 6],
    pub(crate) memory: &'m Memory,
}

/// What a process has in its memory.
#[derive(Debug)]
pub(crate) struct Memory(File);

impl Memory {
    fn of(pid: u32) -> Memory {
        let path = format!("/proc/{pid}/mem");
        let file = OpenOptions::new().read(true).write(true).open(path);
        Memory(file.unwrap())
    }

    pub(crate) fn read<const N: usize>(&self, at: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.read_exact_at(&mut bytes, at).unwrap();
        bytes
    }

    pub(crate) fn write(&self, at: u64, bytes: &[u8]) {
        self.0.write_all_at(bytes, at).unwrap();
    }
}

/// Ends the tracing when whoever wanted it has ended, also by a panic.
struct Over<'t>(&'t AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Shows each system call of each thread of a process to `begins`, before the kernel sees it, while `body` runs.
///
/// The process is not stopped by it, nor is it any different when it is over: the kernel lets go of all that a
/// thread traces when the thread ends.
#[track_caller]
pub(crate) fn traced<T>(
    pid: u32,
    begins: impl FnMut(&Call<'_>) + Send,
    body: impl FnOnce() -> T,
) -> T {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let over = Over(&is_over);
        let (ready, is_ready) = channel();
        let is_over = &is_over;
        scope.spawn(move || {
            seize(pid);
            ready.send(()).unwrap();
            follow(pid, is_over, begins);
        });
        is_ready
            .recv()
            .expect("the process cannot be traced: it takes CAP_SYS_PTRACE");
        let result = body();
        drop(over);
        result
    })
}

/// All threads that there are; those that they start come by themselves.
fn seize(pid: u32) {
    let mut seized = BTreeSet::new();
    loop {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let threads = threads.map(|it| it.unwrap().file_name().into_string().unwrap());
        let threads: BTreeSet<i32> = threads.map(|it| it.parse().unwrap()).collect();
        let new: Vec<i32> = threads.difference(&seized).copied().collect();
        if new.is_empty() {
            return;
        }
        for thread in new {
            let tid = Pid::from_raw(thread);
            seized.insert(thread);
            let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE;
            match ptrace::seize(tid, options).and_then(|()| ptrace::interrupt(tid)) {
                // It has ended, or comes by the one that started it.
                Ok(()) | Err(Errno::ESRCH) | Err(Errno::EPERM) if seized.len() > 1 => {}
                done => done.unwrap(),
            }
        }
    }
}

fn follow(pid: u32, is_over: &AtomicBool, mut begins: impl FnMut(&Call<'_>)) {
    let memory = Memory::of(pid);
    let mut inside = BTreeSet::new();
    // Children of other threads are none of this one's business.
    let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD | WaitPidFlag::WNOHANG;
    let go_on = |tid: Pid, signal: Option<Signal>| match ptrace::syscall(tid, signal) {
        // Somebody killed it meanwhile.
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(errno) => panic!("{tid} does not go on: {errno}"),
    };
    while !is_over.load(Ordering::Acquire) {
        match waitpid(None, Some(flags)).expect("nobody is left who is traced") {
            WaitStatus::StillAlive => std::thread::sleep(Duration::from_micros(100)),
            WaitStatus::PtraceSyscall(tid) => {
                // A call is seen twice: where it begins, and where it ends.
                if !inside.remove(&tid)
                    && inside.insert(tid)
                    && let Some((number, args)) = call(pid, tid)
                {
                    let memory = &memory;
                    begins(&Call {
                        number,
                        args,
                        memory,
                    });
                }
                go_on(tid, None);
            }
            WaitStatus::PtraceEvent(tid, ..) => go_on(tid, None),
            WaitStatus::Stopped(tid, signal) => go_on(tid, Some(signal)),
            // A thread has ended, in the call that ends it.
            over => drop(over.pid().map(|tid| inside.remove(&tid))),
        }
    }
}

/// The call that a thread stands before: its number and arguments.
fn call(pid: u32, tid: Pid) -> Option<(c_long, [u64; 6])> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall")).unwrap();
    let mut words = text.split_whitespace();
    let number = words.next()?.parse().ok()?;
    let mut args = [0; 6];
    for arg in &mut args {
        *arg = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
    }
    Some((number, args))
}
