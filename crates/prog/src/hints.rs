//! What to do next, for errors that the kernel explains with a number alone.

use bpfsmith_uapi::Errno;

/// Kind of object or hook (empty for any), call (empty for any), error number, advice.
type Row = (&'static str, &'static str, Errno, &'static str);

/// Every row is provoked by a kernel test or belongs to a kernel that the tests cannot boot.
pub(crate) const ROWS: &[Row] = &[
    (
        "cgroup",
        "BPF_PROG_ATTACH",
        Errno::EINVAL,
        "the program is on this hook already, where each can be only once: load it again",
    ),
    (
        "file",
        "read",
        Errno::ENOENT,
        "name a file of BTF, or an ELF file with some",
    ),
    (
        "kernel symbol",
        "read /proc/kallsyms",
        Errno::EPERM,
        "the kernel hides its addresses: it shows them to CAP_SYSLOG, with sysctl \
         kernel.kptr_restrict=1 or 0",
    ),
    (
        "struct_ops",
        "",
        Errno::EEXIST,
        "one of that name is registered: choose another name, or unregister the first",
    ),
    (
        "struct_ops",
        "BPF_MAP_CREATE",
        Errno::EINVAL,
        "registering by a link needs Linux 6.4: register without one",
    ),
    (
        "struct_ops",
        "BPF_MAP_UPDATE_ELEM",
        Errno::EINVAL,
        "the kernel wants a member that is missing, or one to be zero that is not",
    ),
    (
        "struct_ops",
        "BPF_MAP_UPDATE_ELEM",
        Errno::EOPNOTSUPP,
        "this kind exists for tests: its functions are called with LoadedOps::call",
    ),
    (
        "struct_ops",
        "BPF_LINK_UPDATE",
        Errno::EINVAL,
        "the two differ in what must not change, such as an algorithm's name, or the kind cannot be \
         replaced",
    ),
    (
        "struct_ops",
        "BPF_MAP_DELETE_ELEM",
        Errno::EINPROGRESS,
        "it was unregistered already, and somebody still uses it",
    ),
    (
        "struct_ops",
        "BPF_PROG_TEST_RUN",
        Errno::EINVAL,
        "the function takes another number of arguments, or its state must not be null",
    ),
    (
        "struct_ops",
        "BPF_PROG_TEST_RUN",
        Errno::EOPNOTSUPP,
        "only functions of bpf_dummy_ops can be called from here",
    ),
    (
        "program",
        "BPF_PROG_BIND_MAP",
        Errno::EINVAL,
        "what was given is no map",
    ),
    (
        "run",
        "BPF_PROG_TEST_RUN",
        Errno::ENXIO,
        "that CPU is offline or does not exist",
    ),
    (
        "run",
        "BPF_PROG_TEST_RUN",
        Errno::E2BIG,
        "a batch of live frames is too large: 256 at most",
    ),
    (
        "run",
        "BPF_PROG_TEST_RUN",
        Errno::ENOMEM,
        "the packet is larger than the kernel can build: shorten it",
    ),
    (
        "",
        "BPF_OBJ_PIN",
        Errno::EPERM,
        "the directory is not in a bpffs: mount -t bpf none DIR",
    ),
    ("", "BPF_OBJ_PIN", Errno::EEXIST, "the name is taken"),
    (
        "",
        "BPF_OBJ_PIN",
        Errno::ENOENT,
        "that directory does not exist",
    ),
    ("", "BPF_OBJ_GET", Errno::ENOENT, "nothing has that name"),
    (
        "",
        "BPF_OBJ_GET",
        Errno::EACCES,
        "the file is not in a bpffs",
    ),
    (
        "",
        "BPF_PROG_GET_FD_BY_ID",
        Errno::ENOENT,
        "no program has that number any more: `bpfsmith progs` lists them",
    ),
    (
        "",
        "BPF_LINK_GET_FD_BY_ID",
        Errno::ENOENT,
        "no link has that number any more: `bpfsmith links` lists them",
    ),
    (
        "program",
        "BPF_OBJ_GET_INFO_BY_FD",
        Errno::EINVAL,
        "it is no program",
    ),
    (
        "link",
        "BPF_OBJ_GET_INFO_BY_FD",
        Errno::EINVAL,
        "it is no link",
    ),
    (
        "",
        "BPF_LINK_UPDATE",
        Errno::EINVAL,
        "the new program must be of the same type, and loaded for the same hook",
    ),
    (
        "",
        "BPF_LINK_DETACH",
        Errno::EOPNOTSUPP,
        "links of this kind last until they are closed: drop every handle and pin",
    ),
    (
        "",
        "BPF_LINK_UPDATE",
        Errno::ENOLINK,
        "what the program was attached to has vanished: drop the link and attach anew",
    ),
    (
        "",
        "BPF_LINK_UPDATE",
        Errno::EPERM,
        "another program is there than the one to be replaced: Link::info names it",
    ),
    (
        "xdp",
        "BPF_LINK_CREATE",
        Errno::EBUSY,
        "another program is attached already: `bpfsmith links` shows links, a program set by netlink \
         is replaced with Xdp::replace",
    ),
    (
        "xdp",
        "BPF_LINK_CREATE",
        Errno::EOPNOTSUPP,
        "the device's driver has no native XDP: use Xdp::generic()",
    ),
    (
        "xdp",
        "BPF_LINK_CREATE",
        Errno::ERANGE,
        "the MTU is too large for a program that cannot handle fragments: lower it, or load with \
         Load::frags()",
    ),
    (
        "xdp",
        "BPF_LINK_CREATE",
        Errno::EEXIST,
        "a program is attached in another mode, driver or generic: use the same mode, or detach it",
    ),
    (
        "xdp",
        "BPF_LINK_CREATE",
        Errno::EINVAL,
        "no such device in this network namespace, or the program is tied to another device",
    ),
    (
        "tcx",
        "BPF_LINK_CREATE",
        Errno::ESTALE,
        "the list changed since its revision was read: ask again with Tcx::query",
    ),
    (
        "tcx",
        "BPF_LINK_CREATE",
        Errno::EEXIST,
        "the program is on this hook already, where each can be only once: load it again",
    ),
    (
        "tcx",
        "BPF_LINK_CREATE",
        Errno::ENOENT,
        "the program or link next to which it should be is not on this hook",
    ),
    (
        "tcx",
        "",
        Errno::ENODEV,
        "no such device in this network namespace",
    ),
    (
        "clsact",
        "",
        Errno::ENOENT,
        "the filter was deleted, or another program's took its number: there is nothing to detach",
    ),
    (
        "netkit",
        "BPF_LINK_CREATE",
        Errno::EEXIST,
        "the program is on this hook already, where each can be only once: load it again",
    ),
    (
        "netkit",
        "",
        Errno::ENXIO,
        "no netkit device: give the index of the primary side",
    ),
    (
        "netkit",
        "",
        Errno::ENODEV,
        "no such device in this network namespace",
    ),
    (
        "netkit",
        "",
        Errno::EACCES,
        "that is the peer: give the index of the primary side, with Netkit::peer",
    ),
    (
        "cgroup",
        "",
        Errno::EPERM,
        "a program stands alone here or further out, or this one would stand alone beside others: \
         links and Cgroup::multi share, Cgroup::alone and Cgroup::overridable do not; it also needs \
         CAP_NET_ADMIN",
    ),
    (
        "cgroup",
        "",
        Errno::ENOENT,
        "the program that is to go or be replaced is not on the hook: it was detached, or another one \
         took its place",
    ),
    (
        "cgroup",
        "",
        Errno::EBADF,
        "that is no directory of cgroup 2",
    ),
    (
        "cgroup",
        "BPF_LINK_CREATE",
        Errno::ESTALE,
        "the list changed since its revision was read: ask again with Cgroup::query",
    ),
    (
        "netfilter",
        "BPF_LINK_CREATE",
        Errno::EBUSY,
        "a program has this priority at this hook: choose another priority",
    ),
    (
        "netfilter",
        "BPF_LINK_CREATE",
        Errno::ERANGE,
        "the smallest and the largest priority are the kernel's; with defrag it must be above -400",
    ),
    (
        "netfilter",
        "BPF_LINK_CREATE",
        Errno::EPROTO,
        "there is no such hook: take one of NfHook",
    ),
    (
        "netfilter",
        "BPF_LINK_CREATE",
        Errno::EAFNOSUPPORT,
        "there is no such family: take one of NfProto",
    ),
    (
        "netfilter",
        "BPF_LINK_UPDATE",
        Errno::EOPNOTSUPP,
        "the kernel cannot replace programs here: attach the new one at another priority, then drop \
         the old link",
    ),
    (
        "netns",
        "BPF_LINK_CREATE",
        Errno::EINVAL,
        "that is no network namespace",
    ),
    (
        "netns",
        "BPF_LINK_CREATE",
        Errno::E2BIG,
        "the hook is full: there is one program for the flow dissector and 64 for lookups",
    ),
    ("socket filter", "", Errno::ENOTSOCK, "that is no socket"),
    ("reuseport", "", Errno::ENOTSOCK, "that is no socket"),
    (
        "reuseport",
        "",
        Errno::EINVAL,
        "the socket has no SO_REUSEPORT, or is not bound yet",
    ),
    (
        "sockmap",
        "BPF_LINK_CREATE",
        Errno::EINVAL,
        "no map of sockets: the programs go to a SOCKMAP or SOCKHASH",
    ),
    (
        "sockmap",
        "BPF_PROG_ATTACH",
        Errno::EOPNOTSUPP,
        "no map of sockets: the programs go to a SOCKMAP or SOCKHASH",
    ),
    (
        "sockmap",
        "",
        Errno::EBUSY,
        "a map has one program of a kind and one kind of verdict: update the link that is there, or \
         use another map",
    ),
    (
        "run",
        "BPF_PROG_TEST_RUN",
        Errno::ENOSPC,
        "the packet grew beyond the room for it: give more with Run::room; or the context is shorter \
         than the type's",
    ),
    (
        "run",
        "BPF_PROG_TEST_RUN",
        Errno::ENOTSUPP,
        "programs of this type cannot be run on request: attach it and cause the event",
    ),
    (
        "run",
        "BPF_PROG_TEST_RUN",
        Errno::EINVAL,
        "a packet has at least 14 bytes and none for tracing types; a context must suit the type, \
         and its reserved members be 0",
    ),
    (
        "tracefs",
        "open",
        Errno::ENOENT,
        "it is not mounted: `mount -t tracefs tracefs /sys/kernel/tracing`, or give its place with \
         Tracepoint::tracefs",
    ),
    (
        "tracefs",
        "open",
        Errno::EACCES,
        "only root may look into tracefs, unless it was mounted with another mode",
    ),
    (
        "kprobe",
        "read /sys/bus/event_source/devices",
        Errno::ENOENT,
        "the kernel was built without CONFIG_KPROBE_EVENTS: use TpBtf, RawTracepoint or Fentry",
    ),
    (
        "kprobe",
        "perf_event_open",
        Errno::EILSEQ,
        "no instruction starts at that offset",
    ),
    (
        "kprobe.multi",
        "BPF_LINK_CREATE",
        Errno::EOPNOTSUPP,
        "the kernel was built without CONFIG_FPROBE: use Kprobe, Fentry or TpBtf",
    ),
    (
        "kprobe.multi",
        "BPF_LINK_CREATE",
        Errno::EINVAL,
        "such links came with Linux 5.18, sessions with 6.10",
    ),
    (
        "uprobe",
        "read /sys/bus/event_source/devices",
        Errno::ENOENT,
        "the kernel was built without CONFIG_UPROBE_EVENTS: use UprobeMulti",
    ),
    (
        "uprobe",
        "perf_event_open",
        Errno::ESRCH,
        "there is no process of that number",
    ),
    (
        "uprobe.multi",
        "BPF_LINK_CREATE",
        Errno::ESRCH,
        "there is no process of that number",
    ),
    (
        "uprobe.multi",
        "BPF_LINK_CREATE",
        Errno::EINVAL,
        "such links came with Linux 6.6, sessions with 6.13; an instruction must start at each \
         offset",
    ),
    (
        "uprobe.multi",
        "BPF_LINK_CREATE",
        Errno::EBADF,
        "it must be a regular file with its whole path",
    ),
    (
        "perf_event",
        "perf_event_open",
        Errno::ENOENT,
        "nothing counts that here: virtual machines often have no hardware counters, \
         Software::CpuClock is everywhere",
    ),
    (
        "perf_event",
        "perf_event_open",
        Errno::ENODEV,
        "that CPU is offline",
    ),
    (
        "perf_event",
        "perf_event_open",
        Errno::EINVAL,
        "a rate above kernel.perf_event_max_sample_rate, or a CPU that cannot exist",
    ),
    (
        "fentry",
        "BPF_LINK_CREATE",
        Errno::EINVAL,
        "cookies came with Linux 6.0",
    ),
    (
        "fentry",
        "BPF_RAW_TRACEPOINT_OPEN",
        Errno::EBUSY,
        "something else changes that function already",
    ),
    (
        "freplace",
        "BPF_LINK_CREATE",
        Errno::EINVAL,
        "the function of another target must have the same type as the one loaded for",
    ),
    (
        "iter",
        "BPF_LINK_CREATE",
        Errno::EBADF,
        "bpf_map_elem needs a map: Iter::map",
    ),
    (
        "iter",
        "BPF_LINK_CREATE",
        Errno::EINVAL,
        "this kind of iterator, or this kernel, takes no such parameter",
    ),
    (
        "iter",
        "BPF_ITER_CREATE",
        Errno::EINVAL,
        "the link is none of an iterator",
    ),
];

/// The advice for an error.
pub(crate) fn find(kind: &str, call: &str, errno: Errno) -> Option<&'static str> {
    ROWS.iter()
        .find(|row| {
            (row.0.is_empty() || row.0 == kind)
                && (row.1.is_empty() || row.1 == call)
                && row.2 == errno
        })
        .map(|row| row.3)
        .or(match errno {
            Errno::EPERM => Some(
                "needs CAP_BPF and, for network hooks, CAP_NET_ADMIN, for tracing and for programs that \
                 subtract pointers CAP_PERFMON: run as root, or give the process these; lockdown may \
                 forbid it too",
            ),
            Errno::EMFILE => Some("too many open files: raise `ulimit -n` or drop handles"),
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use super::{ROWS, find};

    #[test]
    fn no_row_hides_another() {
        let or_any = |name: &'static str| if name.is_empty() { "any" } else { name };
        for row in ROWS {
            let found = find(or_any(row.0), or_any(row.1), row.2);
            assert_eq!(found, Some(row.3), "{row:?}");
        }
    }
}
