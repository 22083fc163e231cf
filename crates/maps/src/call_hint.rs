//! What to do about a refusal of a system call that is not bpf(2): rows of a table.

use bpfsmith_uapi::Errno;

/// A row: the call, the error and what it says.
type Row = (&'static str, Errno, &'static str);

/// What the row says.
pub(crate) fn find(call: &str, errno: Errno) -> Option<&'static str> {
    let fits = |row: &&Row| row.0 == call && row.1 == errno;
    ROWS.iter().find(fits).map(|row| row.2)
}

const ROWS: &[Row] = &[
    (
        "mmap",
        Errno::EPERM,
        "the map was opened read-only, is frozen, or is not BPF_F_MMAPABLE; for a perf buffer, \
         fewer pages or CAP_IPC_LOCK",
    ),
    (
        "mmap",
        Errno::ENOMEM,
        "too many mappings or too little address space: see vm.max_map_count and ulimit -v",
    ),
    (
        "mmap",
        Errno::EINVAL,
        "a perf buffer has a power of two of pages",
    ),
    (
        "perf_event_open",
        Errno::EACCES,
        "it needs CAP_PERFMON, or kernel.perf_event_paranoid below 1",
    ),
    (
        "perf_event_open",
        Errno::EPERM,
        "it needs CAP_PERFMON, or kernel.perf_event_paranoid below 1",
    ),
    (
        "perf_event_open",
        Errno::EMFILE,
        "one descriptor for each CPU: raise ulimit -n",
    ),
    ("epoll_create1", Errno::EMFILE, "raise ulimit -n"),
    (
        "epoll_ctl EPOLL_CTL_ADD",
        Errno::ENOSPC,
        "raise fs.epoll.max_user_watches",
    ),
];

#[cfg(test)]
mod tests {
    use super::{ROWS, find};
    use bpfsmith_uapi::Errno;

    #[test]
    fn each_row_is_found() {
        for (call, errno, say) in ROWS {
            assert_eq!(
                find(call, *errno),
                Some(*say),
                "{call} {errno}: a row hides it"
            );
            assert!(
                errno.name().is_some() && !say.ends_with('.'),
                "{call} {errno}"
            );
        }
        assert_eq!(find("mmap", Errno::EXDEV), None);
        assert_eq!(find("open", Errno::EPERM), None);
    }
}
