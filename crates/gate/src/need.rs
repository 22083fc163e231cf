//! The table of needs.

use crate::probe::{self, Found};
use crate::{Version, built_without, effect, version};
use std::fmt;
use std::sync::OnceLock;

/// What was found out about a need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It works here.
    Here,
    /// The running kernel cannot have it, for this reason: strict mode allows the skip.
    Explained(String),
    /// It does not work, and nobody knows why it should not: strict mode fails the test.
    Missing(String),
}

/// A row of the table.
pub(crate) struct Row {
    need: Need,
    name: &'static str,
    since: &'static str,
    /// What the kernel must be built with, without `CONFIG_`.
    pub(crate) options: &'static [&'static str],
    probe: fn(&Row) -> Found,
    hint: &'static str,
}

impl Row {
    pub(crate) fn since(&self) -> Version {
        Version::parse(self.since).unwrap_or(Version { major: 0, minor: 0 })
    }
}

macro_rules! needs_table {
    ($(
        $(#[$doc:meta])+
        $name:ident, $since:literal, [$($option:ident),*], $probe:ident, $hint:expr;
    )+) => {
        /// Something that a test needs of the machine.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Need {
            $($(#[$doc])+ $name,)+
        }

        impl Need {
            /// Each, in the order of the table.
            pub const ALL: &[Need] = &[$(Need::$name),+];
        }

        const ROWS: &[Row] = &[$(Row {
            need: Need::$name,
            name: stringify!($name),
            since: stringify!($since),
            options: &[$(stringify!($option)),*],
            probe: probe::$probe,
            hint: $hint,
        }),+];
    };
}

const NEWER: &str = "a newer kernel has it: cargo xtask vm --kernel 6.12";
const BUILT: &str = "Debian's kernels have it: cargo xtask vm --kernel 6.12";
const ROOT: &str = "run the tests as root";

needs_table! {
    /// The rights of root.
    Root, 0.0, [], root, ROOT;
    /// Two CPUs, so that user space can watch a program that runs for long.
    TwoCpus, 2.0, [SMP], two_cpus, "cargo xtask vm --cpus 2";
    /// `bpf(2)`.
    Bpf, 3.18, [BPF_SYSCALL], array, ROOT;
    /// The kernel's own types, in `/sys/kernel/btf/vmlinux`.
    Btf, 5.4, [DEBUG_INFO_BTF], btf, BUILT;
    /// New network namespaces.
    NetNs, 3.8, [NET_NS], net_namespace, ROOT;
    /// A network namespace of one's own, whose `lo` carries packets.
    Loopback, 3.8, [NET_NS], net_namespace, ROOT;
    /// Pairs of virtual Ethernet devices.
    Veth, 2.6, [VETH], facts, "modprobe veth";
    /// XDP by `BPF_LINK_CREATE`.
    XdpLink, 5.9, [], xdp_link, NEWER;
    /// XDP on packets of several buffers.
    XdpFrags, 5.18, [], xdp_frags, NEWER;
    /// SYN cookies that programs make and check.
    SynCookies, 6.0, [SYN_COOKIES], facts, NEWER;
    /// XDP programs that read the device's metadata by kfuncs.
    XdpMetadata, 6.3, [], facts, NEWER;
    /// TC programs without a qdisc, in an ordered list.
    Tcx, 6.6, [NET_XGRESS], tcx, NEWER;
    /// TC programs in a `clsact` qdisc.
    Clsact, 4.5, [NET_CLS_BPF, NET_SCH_INGRESS], facts, "modprobe sch_ingress cls_bpf";
    /// Devices that send as a token bucket allows.
    Tbf, 2.6, [NET_SCH_TBF], facts, "modprobe sch_tbf";
    /// The netkit device and its programs.
    Netkit, 6.7, [NETKIT], facts, BUILT;
    /// Tracing programs on kernel functions: fentry, fexit, fmod_ret.
    Fentry, 5.5, [DYNAMIC_FTRACE_WITH_DIRECT_CALLS], fentry, BUILT;
    /// Programs that change results or sleep, on functions that the kernel opened for that and not
    /// for the injection of errors.
    FmodRet, 6.2, [DYNAMIC_FTRACE_WITH_DIRECT_CALLS], facts, NEWER;
    /// Security modules written in BPF.
    Lsm, 5.7, [BPF_LSM], lsm, "boot with lsm=…,bpf";
    /// Security modules written in BPF, for one control group.
    LsmCgroup, 6.0, [BPF_LSM, CGROUP_BPF], lsm_cgroup, "boot with lsm=…,bpf";
    /// Programs that replace functions of other programs.
    Freplace, 5.6, [DYNAMIC_FTRACE_WITH_DIRECT_CALLS], fentry, BUILT;
    /// Programs at kernel functions by a perf event.
    Kprobe, 4.17, [KPROBE_EVENTS], kprobe_pmu, BUILT;
    /// One link for programs at many kernel functions.
    KprobeMulti, 5.18, [FPROBE], kprobe_multi, BUILT;
    /// A kprobe.multi link whose entry decides about its return.
    KprobeSession, 6.10, [FPROBE], kprobe_session, BUILT;
    /// Programs at functions of a user's file by a perf event.
    Uprobe, 4.17, [UPROBE_EVENTS], uprobe_pmu, BUILT;
    /// One link for programs at many places of a user's file.
    UprobeMulti, 6.6, [UPROBES], uprobe_multi, NEWER;
    /// A uprobe.multi link whose entry decides about its return.
    UprobeSession, 6.13, [UPROBES], facts, NEWER;
    /// Programs at the kernel's trace events, those of system calls among them.
    Tracepoint, 4.7, [BPF_EVENTS, FTRACE_SYSCALLS], syscall_events, BUILT;
    /// Programs at trace events with the event's raw arguments.
    RawTracepoint, 4.17, [BPF_EVENTS], raw_tracepoint, BUILT;
    /// Programs at trace events with typed arguments.
    TpBtf, 5.5, [BPF_EVENTS, DEBUG_INFO_BTF], typed_tracepoint, BUILT;
    /// Congestion control and other kernel interfaces implemented by BPF.
    StructOps, 5.6, [BPF_JIT, DEBUG_INFO_BTF], struct_ops, BUILT;
    /// Such interfaces, registered by a link.
    StructOpsLink, 6.4, [BPF_JIT, DEBUG_INFO_BTF], struct_ops, NEWER;
    /// The interface that exists to test such implementations.
    DummyOps, 5.16, [BPF_JIT, DEBUG_INFO_BTF, NET], dummy_ops, BUILT;
    /// Programs that choose the socket of a new connection.
    SkLookup, 5.9, [INET], sk_lookup, NEWER;
    /// Maps of sockets, with parser and verdict programs.
    Sockmap, 4.18, [BPF_STREAM_PARSER], sockmap, BUILT;
    /// Programs of a sockmap attached by a link.
    SockmapLink, 6.10, [BPF_STREAM_PARSER], sockmap, NEWER;
    /// Workers of a sockmap that stay sound where the memory for TCP runs short: between 6.0 and 6.5 they
    /// queue fragments of negative length.
    SockmapShortage, 6.5, [BPF_STREAM_PARSER], facts, NEWER;
    /// Programs that choose a socket of a reuseport group.
    Reuseport, 4.19, [INET], reuseport, NEWER;
    /// Sockets that exchange frames with XDP programs.
    Xsk, 4.18, [XDP_SOCKETS], xsk, BUILT;
    /// A hierarchy of control groups of version 2 that may be written.
    Cgroup2, 4.5, [CGROUPS], cgroup2, "mount -t cgroup2 none DIR";
    /// Programs on control groups.
    CgroupBpf, 4.10, [CGROUP_BPF], cgroup_program, BUILT;
    /// Programs on the Unix sockets of control groups.
    CgroupUnix, 6.7, [CGROUP_BPF], facts, NEWER;
    /// Places among the programs of a control group.
    CgroupOrder, 6.16, [CGROUP_BPF], facts, NEWER;
    /// Storage for each control group.
    CgroupStorage, 6.2, [CGROUP_BPF], cgroup_storage, NEWER;
    /// The file system of pins.
    Bpffs, 4.4, [BPF_SYSCALL], bpffs, ROOT;
    /// The tracing file system.
    Tracefs, 4.1, [TRACING], tracefs, BUILT;
    /// Memory shared by a program and its user, with pointers that mean the same to both.
    Arena, 6.9, [MMU], arena, NEWER;
    /// Ring buffers from user space to programs.
    UserRingbuf, 6.1, [], user_ring, NEWER;
    /// Ring buffers from programs to user space.
    RingBuf, 5.8, [], ring, NEWER;
    /// Many map elements by one call.
    Batch, 5.6, [], batch, NEWER;
    /// Maps of one array that user space maps into its memory.
    MmapArray, 5.5, [], mmap_array, NEWER;
    /// Maps that answer "certainly not" or "perhaps".
    Bloom, 5.16, [], bloom, NEWER;
    /// Storage for each task.
    TaskStorage, 5.11, [], task_storage, NEWER;
    /// Rights to use BPF, handed to a user namespace.
    Token, 6.9, [USER_NS], token, NEWER;
    /// Programs at netfilter's hooks.
    Netfilter, 6.4, [NETFILTER_BPF_LINK], netfilter, BUILT;
    /// Programs at netfilter's hooks that see whole packets, not their fragments.
    NetfilterDefrag, 6.6, [NETFILTER_BPF_LINK, NF_DEFRAG_IPV4], facts, BUILT;
    /// Programs that walk over kernel objects.
    Iterators, 5.8, [DEBUG_INFO_BTF], iterator, NEWER;
    /// Such programs for one process, thread or control group.
    IteratorsOfOne, 6.1, [DEBUG_INFO_BTF], facts, NEWER;
    /// Software events of perf, such as the clock of a CPU.
    PerfEvents, 4.9, [PERF_EVENTS], software_pmu, BUILT;
    /// Device maps with keys of any value.
    DevmapHash, 5.4, [], devmap_hash, NEWER;
    /// Programs in the elements of a device map.
    DevmapProg, 5.8, [], devmap_program, NEWER;
    /// Programs in the elements of a CPU map.
    CpumapProg, 5.9, [], cpumap_program, NEWER;
    /// Timers in map values.
    Timer, 5.15, [], timer, NEWER;
    /// Pointers into the kernel in map values.
    Kptr, 5.19, [DEBUG_INFO_BTF], facts, NEWER;
    /// Such pointers that count and are read where they are, to tasks and control groups.
    CountedKptr, 6.4, [DEBUG_INFO_BTF, CGROUPS], facts, NEWER;
    /// Lists and trees of structures that programs allocate and that several may hold.
    ObjectLists, 6.6, [DEBUG_INFO_BTF], facts, NEWER;
    /// Work for later in map values.
    WorkQueue, 6.10, [DEBUG_INFO_BTF], facts, NEWER;
    /// Locks in map values that are refused instead of waited for without end.
    ResilientLock, 6.15, [DEBUG_INFO_BTF], facts, NEWER;
    /// Work in map values that a task does for a program.
    TaskWork, 6.18, [DEBUG_INFO_BTF], facts, NEWER;
    /// The helper that calls a function many times.
    BpfLoop, 5.17, [], bpf_loop, NEWER;
    /// The helper that calls a function for each element of a map.
    ForEachElem, 5.13, [], for_each, NEWER;
    /// Variables of the kernel, found by name.
    DataSymbols, 5.10, [KALLSYMS_ALL, DEBUG_INFO_BTF], facts, BUILT;
    /// Modules whose types the kernel knows. Connection tracking is one, and lets programs make
    /// entries.
    Modules, 6.1, [MODULES, DEBUG_INFO_BTF_MODULES, NF_CONNTRACK], conntrack_module, "modprobe \
        nf_conntrack, or cargo xtask vm --kernel 6.12";
    /// Sockets between virtual machines, also within one, by modules with trace events.
    VsockModule, 5.11, [MODULES, DEBUG_INFO_BTF_MODULES, VSOCKETS_LOOPBACK], vsock_module, "modprobe \
        vsock_loopback, or cargo xtask vm --kernel 6.12";
    /// Kernel functions that find tasks, for programs of network hooks.
    TaskKfuncs, 6.2, [DEBUG_INFO_BTF], facts, NEWER;
    /// The kernel function that shows a program the kernel's own structure behind its context.
    CastKfuncs, 6.2, [DEBUG_INFO_BTF], facts, NEWER;
    /// Kernel functions that count for a program.
    NumberIterators, 6.4, [DEBUG_INFO_BTF], facts, NEWER;
    /// The kernel function that ends a program from anywhere.
    Exceptions, 6.7, [DEBUG_INFO_BTF], facts, NEWER;
    /// The jump whose rounds the kernel counts.
    MayGoto, 6.9, [BPF_JIT], facts, NEWER;
    /// Test runs that send their packets out.
    LiveFrames, 5.18, [], live_frames, NEWER;
    /// Counters of runs and time, switched on by a descriptor.
    RunStats, 5.8, [], stats, NEWER;
    /// Links that are detached while their descriptor stays.
    LinkDetach, 5.9, [], link_detach, NEWER;
    /// Text that programs write to their own streams.
    ProgStream, 6.17, [], stream, NEWER;
    /// The kernel's own tool, to compare with.
    Bpftool, 0.0, [], bpftool, "apt-get install bpftool";
    /// A C compiler, to compare with.
    Gcc, 0.0, [], gcc, "apt-get install gcc";
    /// LLVM's compiler for BPF and its tool for sections, to compare with.
    Llvm, 0.0, [], llvm, "apt-get install llvm-19";
    /// A terminal without a person in front of it.
    Tmux, 0.0, [], tmux, "apt-get install tmux";
    /// A shell, to complete lines in.
    Bash, 0.0, [], bash, "apt-get install bash";
    /// A shell that few machines have, to complete lines in.
    Zsh, 0.0, [], zsh, "apt-get install zsh";
    /// Another one.
    Fish, 0.0, [], fish, "apt-get install fish";
    /// What sets manual pages.
    Groff, 0.0, [], groff, "apt-get install groff";
    /// What reads units of systemd.
    SystemdAnalyze, 0.0, [], systemd_analyze, "apt-get install systemd";
    /// Nothing has it: for tests of the gate.
    Nothing, 999.0, [], never, "there is no way";
}

impl Need {
    fn row(self) -> &'static Row {
        // The enum and the rows come from one table, in one order.
        &ROWS[self as usize]
    }

    /// Its name, as written in `needs!`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The version of Linux that brought it.
    #[must_use]
    pub fn since(self) -> Version {
        self.row().since()
    }

    /// Whether it is a program of user space. No kernel brought it, and none explains that it is missing.
    #[must_use]
    pub fn is_a_tool(self) -> bool {
        self.since().major == 0
    }

    /// What can be done where it is missing.
    #[must_use]
    pub fn hint(self) -> &'static str {
        self.row().hint
    }

    /// Whether this machine has it. Found out once in a process.
    #[must_use]
    pub fn state(self) -> State {
        static STATES: [OnceLock<State>; ROWS.len()] = [const { OnceLock::new() }; ROWS.len()];
        STATES[self as usize]
            .get_or_init(|| find_out(self.row()))
            .clone()
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

fn find_out(row: &Row) -> State {
    let Err(why) = (row.probe)(row) else {
        return State::Here;
    };
    let (since, running) = (row.since(), version());
    if running < since {
        return State::Explained(format!("came with Linux {since}, this is {running}"));
    }
    if let Some(option) = row.options.iter().find(|option| built_without(option)) {
        return State::Explained(format!("this kernel was built without CONFIG_{option}"));
    }
    match effect::explains(row.need) {
        Some(say) => State::Explained(say.to_owned()),
        None => State::Missing(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_complete() {
        assert_eq!(ROWS.len(), Need::ALL.len());
        for (row, need) in ROWS.iter().zip(Need::ALL) {
            assert_eq!(row.need, *need);
            assert_eq!(need.name(), format!("{need:?}"));
            assert!(!row.hint.is_empty(), "{need}");
            assert_eq!(row.since().to_string(), row.since, "{need}");
            for option in row.options {
                assert!(!option.starts_with("CONFIG_"), "{need}");
            }
        }
    }

    #[test]
    fn what_no_kernel_has_is_explained_by_its_version() {
        let State::Explained(why) = Need::Nothing.state() else {
            panic!("{:?}", Need::Nothing.state());
        };
        assert!(why.starts_with("came with Linux 999.0, this is "), "{why}");
    }

    #[test]
    fn a_failing_probe_without_excuse_is_missing() {
        let row = Row {
            need: Need::Root,
            name: "Root",
            since: "0.0",
            options: &[],
            probe: probe::never,
            hint: "",
        };
        assert_eq!(
            find_out(&row),
            State::Missing("no kernel has it".to_owned())
        );
    }

    #[test]
    fn tens_are_not_ones() {
        // `6.10` would be 6.1 if the table's versions were numbers.
        assert_eq!(
            Need::SockmapLink.since(),
            Version {
                major: 6,
                minor: 10
            }
        );
    }
}
