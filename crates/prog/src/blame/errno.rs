//! What to do about a refusal without a sentence: a table of error numbers.

use super::Evidence;
use super::hint::Hint;
use bpfsmith_uapi::Errno;

/// Error number, name of the hint, what to do.
pub(super) const ROWS: &[(Errno, &str, &str)] = &[
    (
        Errno::EPERM,
        "privilege",
        "loading needs CAP_BPF, for network programs CAP_NET_ADMIN, for tracing and for programs that \
         subtract pointers CAP_PERFMON (run as root, or give the process these), or a BPF token; if \
         they are there, this kernel forbids the program type or its attach target (lockdown, LSM, build)",
    ),
    (
        Errno::EACCES,
        "log",
        "the verifier refused, but no log was asked for: load again with a log level of 1",
    ),
    (
        Errno::EINVAL,
        "arguments",
        "the kernel does not know the program type, attach type, a flag, or a field of the command, \
         or an instruction is malformed: probe which types it has, and load with a log; or a map of \
         programs, devices or CPUs has others in it or in use, of another type or all with \
         Load::frags() or all without",
    ),
    (
        Errno::E2BIG,
        "size",
        "the program is empty or has more slots than this user may load (4096, a million with \
         CAP_BPF), or the kernel is older than the command's fields",
    ),
    (
        Errno::ENOTSUPP,
        "not-supported",
        "the program passed the verifier, but this kernel cannot run it: its JIT or the hook lacks \
         a feature the program uses",
    ),
    (
        Errno::EOPNOTSUPP,
        "not-supported",
        "this kernel, its JIT or the device lacks what the program type needs",
    ),
    (
        Errno::ENOSPC,
        "log-size",
        "the log did not fit its buffer: load again with a larger one (log_true_size tells how \
         large, Linux 6.4)",
    ),
    (
        Errno::ENOMEM,
        "memory",
        "the kernel has no memory for the program, or before Linux 5.11 RLIMIT_MEMLOCK is used up: \
         raise it",
    ),
    (
        Errno::EFAULT,
        "fault",
        "a buffer of the command lies outside the process, or the verifier met a fault of its own: \
         the kernel log has more",
    ),
    (
        Errno::EBADF,
        "closed",
        "a map, BTF, token or target fd is not open, or is of another kind: keep it open until the \
         program is loaded",
    ),
    (
        Errno::ENOENT,
        "missing",
        "a BTF id, attach target or kernel function does not exist on this kernel",
    ),
    (
        Errno::ESRCH,
        "missing",
        "a type, function or struct_ops member of that name is not in this kernel's BTF",
    ),
    (
        Errno::EAGAIN,
        "interrupted",
        "a signal interrupted the verifier: load again",
    ),
    (
        Errno::EINTR,
        "interrupted",
        "a signal interrupted the load: load again",
    ),
    (
        Errno::ENODEV,
        "device",
        "the device that the program is bound to is gone or takes no programs",
    ),
    (
        Errno::EBUSY,
        "busy",
        "a map or target of the program is in use by another: detach that first",
    ),
    (
        Errno::EEXIST,
        "exists",
        "the target has such a program already",
    ),
    (
        Errno::EMFILE,
        "files",
        "the process has too many open files: close some, or raise RLIMIT_NOFILE",
    ),
    (Errno::ENFILE, "files", "the system has too many open files"),
    (
        Errno::ENOSYS,
        "no-bpf",
        "this kernel was built without bpf(2) (CONFIG_BPF_SYSCALL), or a filter hides it",
    ),
];

/// The hint for the error number alone.
pub(super) fn find(errno: Errno, evidence: Evidence) -> Option<Hint> {
    if evidence == Evidence::Cut {
        let text = "the log stops before the refusal: load again with a larger buffer";
        return Some(Hint {
            name: "log-cut",
            text: text.to_owned(),
        });
    }
    let row = ROWS.iter().find(|(known, ..)| *known == errno)?;
    Some(Hint {
        name: row.1,
        text: row.2.to_owned(),
    })
}
