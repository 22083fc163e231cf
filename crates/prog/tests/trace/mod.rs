//! What the tests of tracing hooks share: programs that count for one thread only.

#![allow(dead_code, reason = "each test binary uses another part of it")]
#![expect(clippy::unwrap_used, reason = "tests may panic, and so may this")]

use bpfsmith_asm::dsl::*;
use bpfsmith_prog::target::Target;
use bpfsmith_prog::{Link, Load, Maps, Prog};

/// How often the program ran for the thread.
pub(crate) static COUNT: Global<u64> = Global::bss("count");
/// The sum of what it saw.
pub(crate) static SUM: Global<u64> = Global::bss("sum");

/// The context, which helpers do not destroy.
pub(crate) const CTX: Reg = R6;

/// The first argument of a function, the second, and its result, in the registers of a probe.
#[cfg(target_arch = "x86_64")]
pub(crate) const ARGS: [Field; 3] = {
    use bpfsmith_uapi::arch::x86_64::pt_regs;
    [pt_regs::di, pt_regs::si, pt_regs::ax]
};

/// The number of the system call behind [`std::os::unix::process::parent_id`].
#[cfg(target_arch = "x86_64")]
pub(crate) const GETPPID: i32 = 110;

/// The number of the calling thread.
pub(crate) fn thread() -> i32 {
    let link = std::fs::read_link("/proc/thread-self").unwrap();
    link.file_name().unwrap().to_str().unwrap().parse().unwrap()
}

/// Runs `body` for the calling thread only, and returns 0.
pub(crate) fn for_this_thread(body: Code) -> Code {
    code![
        mov(CTX, R1),
        get_current_pid_tgid(),
        W0.eq(thread()).then(body),
        ret(0)
    ]
}

/// Adds one to [`COUNT`], and to [`SUM`] what is in R0. Clobbers R1 and R2.
pub(crate) fn tally() -> Code {
    code![
        ld_global(R1, &SUM),
        atomic_add(R1.u64(0), R0),
        ld_global(R1, &COUNT),
        mov(R2, 1),
        atomic_add(R1.u64(0), R2),
    ]
}

/// Counts only.
pub(crate) fn count() -> Code {
    code![mov(R0, 0), tally()]
}

/// Counts and adds up the cookies.
pub(crate) fn cookies() -> Code {
    code![get_attach_cookie(CTX), tally()]
}

/// Loads a program for a target.
pub(crate) fn load_for(kind: ProgType, code: Code, target: &impl Target) -> Prog {
    let program = Program::new(kind, "bs_hooktrace", code).unwrap();
    let maps = Maps::of(&program).unwrap();
    let load = Load::new(&program).maps(&maps).to(target).unwrap();
    load.load().unwrap_or_else(|error| panic!("{error:#}"))
}

/// Loads and attaches a program.
pub(crate) fn attach(kind: ProgType, code: Code, target: &impl Target) -> (Prog, Link) {
    let prog = load_for(kind, code, target);
    let link = prog
        .attach(target)
        .unwrap_or_else(|error| panic!("{error}"));
    (prog, link)
}

/// [`COUNT`] and [`SUM`] of a program that uses [`tally`].
pub(crate) fn counted(prog: &Prog) -> (u64, u64) {
    (prog.read(&COUNT).unwrap(), prog.read(&SUM).unwrap())
}

/// Makes the system call `getppid` so many times, and returns the sum of the answers.
pub(crate) fn getppid(times: u64) -> u64 {
    (0..times)
        .map(|_| u64::from(std::os::unix::process::parent_id()))
        .sum()
}
