//! Commands of bpf(2) and the types of maps, programs, attachments and links.

use crate::uapi_enum;

uapi_enum! {
    /// A command of the bpf(2) system call.
    pub Cmd: u32, "BPF_" {
        /// Make a map and return its fd.
        MAP_CREATE = 0,
        /// Copy the value of a key out of a map.
        MAP_LOOKUP_ELEM = 1,
        /// Write the value of a key.
        MAP_UPDATE_ELEM = 2,
        /// Remove a key.
        MAP_DELETE_ELEM = 3,
        /// Walk the keys: the key that follows a given one.
        MAP_GET_NEXT_KEY = 4,
        /// Verify a program and return its fd.
        PROG_LOAD = 5,
        /// Give an object a name in bpffs. Linux 4.4.
        OBJ_PIN = 6,
        /// Open an object by its name in bpffs. Linux 4.4.
        OBJ_GET = 7,
        /// Attach a program to a cgroup, sockmap or similar hook. Linux 4.10.
        PROG_ATTACH = 8,
        /// Undo `PROG_ATTACH`. Linux 4.10.
        PROG_DETACH = 9,
        /// Run a program on given input, without any hook. Linux 4.12.
        PROG_TEST_RUN = 10,
        /// Walk the ids of all programs. Linux 4.13.
        PROG_GET_NEXT_ID = 11,
        /// Walk the ids of all maps. Linux 4.13.
        MAP_GET_NEXT_ID = 12,
        /// Open a program by id. Linux 4.13.
        PROG_GET_FD_BY_ID = 13,
        /// Open a map by id. Linux 4.13.
        MAP_GET_FD_BY_ID = 14,
        /// Describe the object behind an fd. Linux 4.13.
        OBJ_GET_INFO_BY_FD = 15,
        /// List the programs on a hook. Linux 4.15.
        PROG_QUERY = 16,
        /// Attach a program to a raw tracepoint. Linux 4.17.
        RAW_TRACEPOINT_OPEN = 17,
        /// Check a BTF blob and return its fd. Linux 4.18.
        BTF_LOAD = 18,
        /// Open a BTF object by id. Linux 4.18.
        BTF_GET_FD_BY_ID = 19,
        /// Say which program hangs on a perf event fd of a task. Linux 4.18.
        TASK_FD_QUERY = 20,
        /// Take a value out of a map, or pop a queue. Linux 4.20.
        MAP_LOOKUP_AND_DELETE_ELEM = 21,
        /// Forbid further writes from user space. Linux 5.2.
        MAP_FREEZE = 22,
        /// Walk the ids of all BTF objects. Linux 5.4.
        BTF_GET_NEXT_ID = 23,
        /// Read many elements at once. Linux 5.6.
        MAP_LOOKUP_BATCH = 24,
        /// Read and remove many elements at once. Linux 5.6.
        MAP_LOOKUP_AND_DELETE_BATCH = 25,
        /// Write many elements at once. Linux 5.6.
        MAP_UPDATE_BATCH = 26,
        /// Remove many elements at once. Linux 5.6.
        MAP_DELETE_BATCH = 27,
        /// Attach a program so that closing the returned fd detaches it. Linux 5.7.
        LINK_CREATE = 28,
        /// Put another program behind a link. Linux 5.7.
        LINK_UPDATE = 29,
        /// Open a link by id. Linux 5.8.
        LINK_GET_FD_BY_ID = 30,
        /// Walk the ids of all links. Linux 5.8.
        LINK_GET_NEXT_ID = 31,
        /// Count runs and time of every program while the fd is open. Linux 5.8.
        ENABLE_STATS = 32,
        /// Open a readable fd over an iterator link. Linux 5.8.
        ITER_CREATE = 33,
        /// Detach a link although it stays open. Linux 5.9.
        LINK_DETACH = 34,
        /// Tie the lifetime of a map to a program that does not mention it. Linux 5.10.
        PROG_BIND_MAP = 35,
        /// Make a token that lends BPF rights to a user namespace. Linux 6.9.
        TOKEN_CREATE = 36,
        /// Read what a program printed to its own output streams. Linux 6.17.
        PROG_STREAM_READ_BY_FD = 37,
    }
    aliases {
        /// The name of `PROG_TEST_RUN` since Linux 5.12.
        PROG_RUN = PROG_TEST_RUN,
    }
}

uapi_enum! {
    /// What a map stores and how it is searched.
    pub MapType: u32, "BPF_MAP_TYPE_" {
        /// No type; never a real map.
        UNSPEC = 0,
        /// Any key, any order.
        HASH = 1,
        /// Index 0 to `max_entries` - 1; every element exists from the start.
        ARRAY = 2,
        /// Programs to tail-call, by index. Linux 4.2.
        PROG_ARRAY = 3,
        /// Perf event fds, by index; the perf buffer when there is one per CPU. Linux 4.3.
        PERF_EVENT_ARRAY = 4,
        /// A hash whose value exists once per CPU. Linux 4.6.
        PERCPU_HASH = 5,
        /// An array whose elements exist once per CPU. Linux 4.6.
        PERCPU_ARRAY = 6,
        /// Stack traces by id, filled by `get_stackid`. Linux 4.6.
        STACK_TRACE = 7,
        /// Cgroups by index, for membership tests. Linux 4.8.
        CGROUP_ARRAY = 8,
        /// A hash that evicts what was used least recently. Linux 4.10.
        LRU_HASH = 9,
        /// `LRU_HASH` with one value per CPU. Linux 4.10.
        LRU_PERCPU_HASH = 10,
        /// Longest matching prefix wins; keys start with a prefix length. Linux 4.11.
        LPM_TRIE = 11,
        /// An array of maps. Linux 4.12.
        ARRAY_OF_MAPS = 12,
        /// A hash of maps. Linux 4.12.
        HASH_OF_MAPS = 13,
        /// Network devices by index, targets of an XDP redirect. Linux 4.14.
        DEVMAP = 14,
        /// Sockets by index, targets of a socket redirect. Linux 4.14.
        SOCKMAP = 15,
        /// CPUs that continue the work on a redirected XDP frame. Linux 4.15.
        CPUMAP = 16,
        /// `AF_XDP` sockets by index, usually the receive queue. Linux 4.18.
        XSKMAP = 17,
        /// Sockets by any key. Linux 4.18.
        SOCKHASH = 18,
        /// Memory per cgroup and attached program; `CGRP_STORAGE` is its successor. Linux 4.19.
        CGROUP_STORAGE = 19,
        /// Listening or UDP sockets of a reuseport group, by index. Linux 4.19.
        REUSEPORT_SOCKARRAY = 20,
        /// `CGROUP_STORAGE` with one value per CPU. Linux 4.20.
        PERCPU_CGROUP_STORAGE = 21,
        /// First in, first out; no keys. Linux 4.20.
        QUEUE = 22,
        /// Last in, first out; no keys. Linux 4.20.
        STACK = 23,
        /// Memory that lives and dies with a socket. Linux 5.2.
        SK_STORAGE = 24,
        /// `DEVMAP` with any ifindex as key. Linux 5.4.
        DEVMAP_HASH = 25,
        /// A table of functions that a kernel subsystem calls. Linux 5.6.
        STRUCT_OPS = 26,
        /// One ring of records, shared by all CPUs, towards user space. Linux 5.8.
        RINGBUF = 27,
        /// Memory that lives and dies with an inode. Linux 5.10.
        INODE_STORAGE = 28,
        /// Memory that lives and dies with a task. Linux 5.11.
        TASK_STORAGE = 29,
        /// A set that may answer yes wrongly and no never. Linux 5.16.
        BLOOM_FILTER = 30,
        /// A ring of records from user space to programs. Linux 6.1.
        USER_RINGBUF = 31,
        /// Memory that lives and dies with a cgroup. Linux 6.2.
        CGRP_STORAGE = 32,
        /// Sparse memory shared by programs and user space, with pointers in it. Linux 6.9.
        ARENA = 33,
    }
    aliases {
        /// The header's newer name of `CGROUP_STORAGE`.
        CGROUP_STORAGE_DEPRECATED = CGROUP_STORAGE,
        /// The header's newer name of `PERCPU_CGROUP_STORAGE`.
        PERCPU_CGROUP_STORAGE_DEPRECATED = PERCPU_CGROUP_STORAGE,
    }
}

uapi_enum! {
    /// What a program is for: decides its context, its helpers and its return values.
    pub ProgType: u32, "BPF_PROG_TYPE_" {
        /// No type; never a real program.
        UNSPEC = 0,
        /// Decides how much of a packet a socket receives.
        SOCKET_FILTER = 1,
        /// Runs at (almost) any kernel or user instruction. Linux 4.1.
        KPROBE = 2,
        /// Classifies and edits packets at tc, tcx and netkit. Linux 4.1.
        SCHED_CLS = 3,
        /// The same as an action behind another classifier. Linux 4.1.
        SCHED_ACT = 4,
        /// Runs at a static tracepoint, with its stable fields. Linux 4.7.
        TRACEPOINT = 5,
        /// Sees a frame before the network stack does. Linux 4.8.
        XDP = 6,
        /// Runs when a perf event overflows. Linux 4.9.
        PERF_EVENT = 7,
        /// Lets packets of a cgroup pass or not. Linux 4.10.
        CGROUP_SKB = 8,
        /// Sees sockets of a cgroup being made, bound and released. Linux 4.10.
        CGROUP_SOCK = 9,
        /// Packets that arrive over a lightweight tunnel route. Linux 4.10.
        LWT_IN = 10,
        /// Packets that leave over a lightweight tunnel route. Linux 4.10.
        LWT_OUT = 11,
        /// Like `LWT_OUT`, just before transmission and free to edit. Linux 4.10.
        LWT_XMIT = 12,
        /// Follows TCP connections and sets their parameters. Linux 4.13.
        SOCK_OPS = 13,
        /// Parses a stream on a socket and redirects its messages. Linux 4.14.
        SK_SKB = 14,
        /// Allows a cgroup to use a device node or not. Linux 4.15.
        CGROUP_DEVICE = 15,
        /// Judges and redirects what a socket is about to send. Linux 4.17.
        SK_MSG = 16,
        /// Runs at a static tracepoint, with its raw arguments. Linux 4.17.
        RAW_TRACEPOINT = 17,
        /// Rewrites addresses in bind, connect, sendmsg and the like. Linux 4.17.
        CGROUP_SOCK_ADDR = 18,
        /// A custom action of an IPv6 segment routing node. Linux 4.18.
        LWT_SEG6LOCAL = 19,
        /// Decodes infrared pulses. Linux 4.18.
        LIRC_MODE2 = 20,
        /// Picks the socket of a reuseport group. Linux 4.19.
        SK_REUSEPORT = 21,
        /// Replaces the kernel's header parser for a network namespace. Linux 4.20.
        FLOW_DISSECTOR = 22,
        /// Judges reads and writes of sysctl files. Linux 5.2.
        CGROUP_SYSCTL = 23,
        /// `RAW_TRACEPOINT` that may write to a buffer of the tracepoint. Linux 5.2.
        RAW_TRACEPOINT_WRITABLE = 24,
        /// Judges getsockopt and setsockopt. Linux 5.3.
        CGROUP_SOCKOPT = 25,
        /// Entry and exit of kernel functions, typed tracepoints, iterators. Linux 5.5.
        TRACING = 26,
        /// One function of a `STRUCT_OPS` map. Linux 5.6.
        STRUCT_OPS = 27,
        /// Replaces a global function of another program. Linux 5.6.
        EXT = 28,
        /// Decides at a hook of the Linux security modules. Linux 5.7.
        LSM = 29,
        /// Picks the socket for an incoming packet or connection. Linux 5.9.
        SK_LOOKUP = 30,
        /// Runs only on request and may issue system calls. Linux 5.14.
        SYSCALL = 31,
        /// Decides at a netfilter hook. Linux 6.4.
        NETFILTER = 32,
    }
    /// A set of program types.
    set ProgSet;
}

impl ProgSet {
    /// Packets at tc, tcx and netkit.
    pub const TC: ProgSet = ProgSet::SCHED_CLS.or(ProgSet::SCHED_ACT);

    /// Programs of lightweight tunnel routes.
    pub const LWT: ProgSet = ProgSet::LWT_IN
        .or(ProgSet::LWT_OUT)
        .or(ProgSet::LWT_XMIT)
        .or(ProgSet::LWT_SEG6LOCAL);

    /// Programs whose arguments have kernel types, and those that run on request. What they may
    /// call depends on where they attach, so the helper table treats them alike.
    pub const TYPED: ProgSet = ProgSet::TRACING
        .or(ProgSet::LSM)
        .or(ProgSet::STRUCT_OPS)
        .or(ProgSet::SYSCALL);

    /// Programs that observe the kernel.
    pub const TRACE: ProgSet = ProgSet::TYPED
        .or(ProgSet::KPROBE)
        .or(ProgSet::TRACEPOINT)
        .or(ProgSet::PERF_EVENT)
        .or(ProgSet::RAW_TRACEPOINT)
        .or(ProgSet::RAW_TRACEPOINT_WRITABLE);

    /// Programs that attach to a cgroup.
    pub const CGROUP: ProgSet = ProgSet::CGROUP_SKB
        .or(ProgSet::CGROUP_SOCK)
        .or(ProgSet::CGROUP_DEVICE)
        .or(ProgSet::CGROUP_SOCK_ADDR)
        .or(ProgSet::CGROUP_SYSCTL)
        .or(ProgSet::CGROUP_SOCKOPT)
        .or(ProgSet::SOCK_OPS)
        .or(ProgSet::LSM);

    /// Network programs that may turn a socket into its kernel type.
    pub const SOCKET_CAST: ProgSet = ProgSet::TC
        .or(ProgSet::LWT)
        .or(ProgSet::TYPED)
        .or(ProgSet::SOCKET_FILTER)
        .or(ProgSet::XDP)
        .or(ProgSet::CGROUP_SKB)
        .or(ProgSet::CGROUP_SOCK_ADDR)
        .or(ProgSet::SOCK_OPS)
        .or(ProgSet::SK_SKB)
        .or(ProgSet::SK_MSG)
        .or(ProgSet::SK_LOOKUP)
        .or(ProgSet::FLOW_DISSECTOR);
}

uapi_enum! {
    /// Where a program is attached.
    pub AttachType: u32, "BPF_" {
        /// Packets that come in to a cgroup.
        CGROUP_INET_INGRESS = 0,
        /// Packets that leave a cgroup.
        CGROUP_INET_EGRESS = 1,
        /// A socket is made in a cgroup.
        CGROUP_INET_SOCK_CREATE = 2,
        /// TCP events of a cgroup.
        CGROUP_SOCK_OPS = 3,
        /// Finds message ends in a stream.
        SK_SKB_STREAM_PARSER = 4,
        /// Decides on the messages that a parser found.
        SK_SKB_STREAM_VERDICT = 5,
        /// Access to a device node.
        CGROUP_DEVICE = 6,
        /// Data that a socket is about to send.
        SK_MSG_VERDICT = 7,
        /// bind on IPv4.
        CGROUP_INET4_BIND = 8,
        /// bind on IPv6.
        CGROUP_INET6_BIND = 9,
        /// connect on IPv4.
        CGROUP_INET4_CONNECT = 10,
        /// connect on IPv6.
        CGROUP_INET6_CONNECT = 11,
        /// After a successful bind on IPv4.
        CGROUP_INET4_POST_BIND = 12,
        /// After a successful bind on IPv6.
        CGROUP_INET6_POST_BIND = 13,
        /// Unconnected UDP send on IPv4.
        CGROUP_UDP4_SENDMSG = 14,
        /// Unconnected UDP send on IPv6.
        CGROUP_UDP6_SENDMSG = 15,
        /// An infrared receiver.
        LIRC_MODE2 = 16,
        /// The header parser of a network namespace.
        FLOW_DISSECTOR = 17,
        /// Sysctl files.
        CGROUP_SYSCTL = 18,
        /// UDP receive on IPv4.
        CGROUP_UDP4_RECVMSG = 19,
        /// UDP receive on IPv6.
        CGROUP_UDP6_RECVMSG = 20,
        /// getsockopt, after the kernel's own answer.
        CGROUP_GETSOCKOPT = 21,
        /// setsockopt, before the kernel acts.
        CGROUP_SETSOCKOPT = 22,
        /// A tracepoint with typed arguments.
        TRACE_RAW_TP = 23,
        /// Entry of a kernel function.
        TRACE_FENTRY = 24,
        /// Exit of a kernel function.
        TRACE_FEXIT = 25,
        /// A kernel function whose result may be replaced.
        MODIFY_RETURN = 26,
        /// A security hook.
        LSM_MAC = 27,
        /// An iterator over kernel objects.
        TRACE_ITER = 28,
        /// getpeername on IPv4.
        CGROUP_INET4_GETPEERNAME = 29,
        /// getpeername on IPv6.
        CGROUP_INET6_GETPEERNAME = 30,
        /// getsockname on IPv4.
        CGROUP_INET4_GETSOCKNAME = 31,
        /// getsockname on IPv6.
        CGROUP_INET6_GETSOCKNAME = 32,
        /// An XDP program that runs from a device map entry.
        XDP_DEVMAP = 33,
        /// A socket of a cgroup is closed.
        CGROUP_INET_SOCK_RELEASE = 34,
        /// An XDP program that runs from a CPU map entry.
        XDP_CPUMAP = 35,
        /// Socket lookup of a network namespace.
        SK_LOOKUP = 36,
        /// A network device, first thing on receive.
        XDP = 37,
        /// Decides on what a socket received, without a parser.
        SK_SKB_VERDICT = 38,
        /// A reuseport group picks a socket.
        SK_REUSEPORT_SELECT = 39,
        /// The same, and again when a listening socket goes away.
        SK_REUSEPORT_SELECT_OR_MIGRATE = 40,
        /// A perf event.
        PERF_EVENT = 41,
        /// Entry or return of many kernel functions.
        TRACE_KPROBE_MULTI = 42,
        /// A security hook, for one cgroup.
        LSM_CGROUP = 43,
        /// A `STRUCT_OPS` map.
        STRUCT_OPS = 44,
        /// A netfilter hook.
        NETFILTER = 45,
        /// Packets that come in to a device.
        TCX_INGRESS = 46,
        /// Packets that leave through a device.
        TCX_EGRESS = 47,
        /// Entry or return of many user functions.
        TRACE_UPROBE_MULTI = 48,
        /// connect on a Unix socket.
        CGROUP_UNIX_CONNECT = 49,
        /// Send on a Unix datagram socket.
        CGROUP_UNIX_SENDMSG = 50,
        /// Receive on a Unix datagram socket.
        CGROUP_UNIX_RECVMSG = 51,
        /// getpeername on a Unix socket.
        CGROUP_UNIX_GETPEERNAME = 52,
        /// getsockname on a Unix socket.
        CGROUP_UNIX_GETSOCKNAME = 53,
        /// The host's end of a netkit pair.
        NETKIT_PRIMARY = 54,
        /// The container's end of a netkit pair.
        NETKIT_PEER = 55,
        /// Entry and return of kernel functions, as one session.
        TRACE_KPROBE_SESSION = 56,
        /// Entry and return of user functions, as one session.
        TRACE_UPROBE_SESSION = 57,
    }
}

uapi_enum! {
    /// What a link holds together.
    pub LinkType: u32, "BPF_LINK_TYPE_" {
        /// No type.
        UNSPEC = 0,
        /// A raw tracepoint.
        RAW_TRACEPOINT = 1,
        /// A trampoline: fentry, fexit, LSM and program extensions.
        TRACING = 2,
        /// A cgroup hook.
        CGROUP = 3,
        /// An iterator.
        ITER = 4,
        /// A hook of a network namespace.
        NETNS = 5,
        /// A network device, XDP.
        XDP = 6,
        /// A perf event: kprobe, uprobe, tracepoint or counter.
        PERF_EVENT = 7,
        /// Many kernel functions.
        KPROBE_MULTI = 8,
        /// A `STRUCT_OPS` map.
        STRUCT_OPS = 9,
        /// A netfilter hook.
        NETFILTER = 10,
        /// A network device, tcx.
        TCX = 11,
        /// Many user functions.
        UPROBE_MULTI = 12,
        /// A netkit device.
        NETKIT = 13,
        /// A socket map.
        SOCKMAP = 14,
    }
}

uapi_enum! {
    /// What `ENABLE_STATS` counts.
    pub StatsType: u32, "BPF_STATS_" {
        /// Runs and nanoseconds of every program.
        RUN_TIME = 0,
    }
}

uapi_enum! {
    /// What `TASK_FD_QUERY` found behind a perf event fd.
    pub TaskFdType: u32, "BPF_FD_TYPE_" {
        /// A raw tracepoint.
        RAW_TRACEPOINT = 0,
        /// A tracepoint.
        TRACEPOINT = 1,
        /// A kprobe at a kernel instruction.
        KPROBE = 2,
        /// The return of a kernel function.
        KRETPROBE = 3,
        /// A uprobe at a user instruction.
        UPROBE = 4,
        /// The return of a user function.
        URETPROBE = 5,
    }
}

uapi_enum! {
    /// What kind of perf event a `PERF_EVENT` link sits on, as its info tells.
    pub PerfEventType: u32, "BPF_PERF_EVENT_" {
        /// Unknown.
        UNSPEC = 0,
        /// A user instruction.
        UPROBE = 1,
        /// The return of a user function.
        URETPROBE = 2,
        /// A kernel instruction.
        KPROBE = 3,
        /// The return of a kernel function.
        KRETPROBE = 4,
        /// A tracepoint.
        TRACEPOINT = 5,
        /// A hardware or software counter.
        EVENT = 6,
    }
}

uapi_enum! {
    /// In which order a cgroup iterator walks.
    pub CgroupIterOrder: u32, "BPF_CGROUP_ITER_" {
        /// Not chosen.
        ORDER_UNSPEC = 0,
        /// Only the given cgroup.
        SELF_ONLY = 1,
        /// The tree below, parents first.
        DESCENDANTS_PRE = 2,
        /// The tree below, children first.
        DESCENDANTS_POST = 3,
        /// The way up to the root.
        ANCESTORS_UP = 4,
    }
}

uapi_enum! {
    /// What a `bpf_stack_build_id` record holds.
    pub StackBuildIdStatus: i32, "BPF_STACK_BUILD_ID_" {
        /// Nothing.
        EMPTY = 0,
        /// A build id and a file offset.
        VALID = 1,
        /// An address, because no build id was found.
        IP = 2,
    }
}

uapi_enum! {
    /// How a structure of functions stands.
    pub OpsState: u32, "BPF_STRUCT_OPS_STATE_" {
        /// It has no value yet.
        INIT = 0,
        /// It is registered.
        INUSE = 1,
        /// It was unregistered, and is still in use.
        TOBEFREE = 2,
        /// It can be, or is, registered through a link.
        READY = 3,
    }
}

uapi_enum! {
    /// The output streams of a program.
    pub StreamId: u32, "BPF_" {
        /// What the program prints.
        STDOUT = 1,
        /// What the kernel reports about it.
        STDERR = 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn prog_sets_know_their_members() {
        assert!(ProgSet::TC.contains(ProgType::SCHED_CLS));
        assert!(!ProgSet::TC.contains(ProgType::XDP));
        assert!(!ProgSet::TRACE.contains(ProgType(99)));
        assert_eq!(ProgSet::TC.iter().count(), 2);
        assert_eq!(
            format!("{:?}", ProgSet::TC),
            "{BPF_PROG_TYPE_SCHED_CLS, BPF_PROG_TYPE_SCHED_ACT}"
        );
    }

    macro_rules! check_tables {
        ($($ty:ident)*) => {
            $(
                let values: HashSet<_> = $ty::ALL.iter().collect();
                assert_eq!(values.len(), $ty::ALL.len(), stringify!($ty));
                for value in $ty::ALL {
                    assert_eq!($ty::from_name(&value.to_string()), Some(*value));
                    assert_eq!($ty::from_name(value.name().expect("a row")), Some(*value));
                }
            )*
        };
    }

    #[test]
    fn rows_are_unique_and_names_lead_back() {
        check_tables! {
            Cmd MapType ProgType AttachType LinkType StatsType TaskFdType PerfEventType
            CgroupIterOrder StackBuildIdStatus StreamId OpsState
        }
        assert_eq!(Cmd::from_name("BPF_PROG_RUN"), Some(Cmd::PROG_TEST_RUN));
        assert_eq!(MapType(99).to_string(), "BPF_MAP_TYPE_99");
    }
}
