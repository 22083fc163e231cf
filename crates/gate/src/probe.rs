//! How a need is found out: by trying. Where a trial would be a test of its own, by facts.

use crate::cgroup;
use crate::effect;
use crate::kernel::{built_without, version};
use crate::mount::apart;
use crate::need::Row;
use crate::trial::{LOOPBACK, attached, found, helper, in_namespace, map, program};
use crate::types::{self, Kind};
use bpfsmith_sys::link::{self, More, To};
use bpfsmith_sys::mount::{FileSystem, Mount};
use bpfsmith_sys::{misc, prog};
use bpfsmith_uapi::flags::{map_create, prog_load, test_run};
use bpfsmith_uapi::{AttachType, Errno, MapType, ProgType, StatsType, StreamId};
use nix::sched::{CloneFlags, unshare};
use std::fmt;
use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;

/// What a probe finds: nothing, or why it does not work here.
pub(crate) type Found = Result<(), String>;

/// A function that kernels have for such trials.
const FUNCTION: &str = "bpf_fentry_test1";

/// Version and configuration allow it.
pub(crate) fn facts(row: &Row) -> Found {
    if version() < row.since() {
        return Err("the kernel is too old".to_owned());
    }
    match row.options.iter().find(|option| built_without(option)) {
        Some(option) => Err(format!("no CONFIG_{option}")),
        None => Ok(()),
    }
}

/// No machine has it.
pub(crate) fn never(_: &Row) -> Found {
    Err("no kernel has it".to_owned())
}

pub(crate) fn root(_: &Row) -> Found {
    let user = nix::unistd::Uid::effective();
    match user.is_root() {
        true => Ok(()),
        false => Err(format!("the effective user is {user}")),
    }
}

pub(crate) fn two_cpus(_: &Row) -> Found {
    match effect::one_cpu() {
        false => Ok(()),
        true => Err("this process may run on one CPU only".to_owned()),
    }
}

// Files and namespaces.

pub(crate) fn btf(_: &Row) -> Found {
    opens("/sys/kernel/btf/vmlinux")
}

pub(crate) fn conntrack_module(_: &Row) -> Found {
    opens("/sys/kernel/btf/nf_conntrack")
}

pub(crate) fn vsock_module(_: &Row) -> Found {
    opens("/sys/kernel/btf/vsock_loopback")?;
    opens("/sys/kernel/btf/vmw_vsock_virtio_transport_common")
}

pub(crate) fn net_namespace(_: &Row) -> Found {
    apart(|| unshare(CloneFlags::CLONE_NEWNET))
        .map_err(|errno| format!("unshare CLONE_NEWNET: {errno:?}"))
}

pub(crate) fn cgroup2(_: &Row) -> Found {
    cgroup::tried("probe").map(drop).map_err(|e| e.to_string())
}

pub(crate) fn bpffs(_: &Row) -> Found {
    mounts(FileSystem::BPF)
}

pub(crate) fn tracefs(_: &Row) -> Found {
    mounts(FileSystem::TRACE)
}

/// The kinds of perf events that the kernel offers by name.
pub(crate) fn kprobe_pmu(_: &Row) -> Found {
    opens("/sys/bus/event_source/devices/kprobe/type")
}

pub(crate) fn uprobe_pmu(_: &Row) -> Found {
    opens("/sys/bus/event_source/devices/uprobe/type")
}

pub(crate) fn software_pmu(_: &Row) -> Found {
    opens("/sys/bus/event_source/devices/software/type")
}

/// The events of system calls, which tests use because they can raise them.
pub(crate) fn syscall_events(_: &Row) -> Found {
    apart(|| {
        let tracefs = Mount::private(FileSystem::TRACE).map_err(|e| said("mount tracefs", &e))?;
        let event = "events/syscalls/sys_enter_getpid/id";
        let opened = File::open(tracefs.path().join(event)).map(drop);
        opened.map_err(|e| said(event, &e))
    })
}

fn opens(path: &str) -> Found {
    File::open(path).map(drop).map_err(|e| said(path, &e))
}

fn mounts(kind: FileSystem) -> Found {
    apart(|| Mount::private(kind).map(drop)).map_err(|e| said("mount", &e))
}

fn said(what: &str, error: &impl fmt::Display) -> String {
    format!("{what}: {error}")
}

// Maps.

pub(crate) fn array(_: &Row) -> Found {
    found(map(MapType::ARRAY, [4, 4, 1], 0))
}

pub(crate) fn mmap_array(_: &Row) -> Found {
    found(map(MapType::ARRAY, [4, 4, 1], map_create::BPF_F_MMAPABLE))
}

pub(crate) fn ring(_: &Row) -> Found {
    found(map(MapType::RINGBUF, [0, 0, 65536], 0))
}

pub(crate) fn user_ring(_: &Row) -> Found {
    found(map(MapType::USER_RINGBUF, [0, 0, 65536], 0))
}

pub(crate) fn arena(_: &Row) -> Found {
    found(map(MapType::ARENA, [0, 0, 1], map_create::BPF_F_MMAPABLE))
}

pub(crate) fn bloom(_: &Row) -> Found {
    found(map(MapType::BLOOM_FILTER, [0, 4, 1], 0))
}

pub(crate) fn xsk(_: &Row) -> Found {
    found(map(MapType::XSKMAP, [4, 4, 1], 0))
}

pub(crate) fn reuseport(_: &Row) -> Found {
    found(map(MapType::REUSEPORT_SOCKARRAY, [4, 4, 1], 0))
}

pub(crate) fn devmap_hash(_: &Row) -> Found {
    found(map(MapType::DEVMAP_HASH, [4, 4, 1], 0))
}

/// Values with room for a program beside the device.
pub(crate) fn devmap_program(_: &Row) -> Found {
    found(map(MapType::DEVMAP, [4, 8, 1], 0))
}

pub(crate) fn cpumap_program(_: &Row) -> Found {
    found(map(MapType::CPUMAP, [4, 8, 1], 0))
}

/// The map is there without the parser of streams, which only facts tell.
pub(crate) fn sockmap(row: &Row) -> Found {
    facts(row)?;
    found(map(MapType::SOCKMAP, [4, 4, 1], 0))
}

pub(crate) fn batch(_: &Row) -> Found {
    let map = map(MapType::HASH, [4, 4, 2], 0).map_err(|failed| failed.to_string())?;
    let done = map.update_batch(&[0, 0, 0, 0, 1, 1, 1, 1], &[0; 8], 0);
    found(done.map_err(|(_, failed)| failed))
}

// Programs and links.

pub(crate) fn xdp_link(_: &Row) -> Found {
    in_namespace(|| {
        attached(
            ProgType::XDP,
            (AttachType::XDP, LOOPBACK),
            0,
            &More::Nothing,
        )
    })
}

pub(crate) fn link_detach(_: &Row) -> Found {
    in_namespace(|| {
        let place = (AttachType::XDP, LOOPBACK);
        let link = attached(ProgType::XDP, place, 0, &More::Nothing)?;
        link::detach(link.as_fd())
    })
}

pub(crate) fn xdp_frags(_: &Row) -> Found {
    let flags = prog_load::BPF_F_XDP_HAS_FRAGS;
    found(program(ProgType::XDP, AttachType::XDP, flags, 0))
}

pub(crate) fn live_frames(_: &Row) -> Found {
    found((|| {
        let program = program(ProgType::XDP, AttachType::XDP, 0, 0)?;
        let mut run = prog::TestRun {
            data: &[0; 64],
            repeat: 1,
            flags: test_run::BPF_F_TEST_XDP_LIVE_FRAMES,
            ..prog::TestRun::default()
        };
        prog::test_run(program.as_fd(), &mut run).map_err(|(failed, _)| failed)
    })())
}

pub(crate) fn tcx(_: &Row) -> Found {
    in_namespace(|| {
        attached(
            ProgType::SCHED_CLS,
            (AttachType::TCX_INGRESS, LOOPBACK),
            0,
            &More::Nothing,
        )
    })
}

pub(crate) fn netfilter(_: &Row) -> Found {
    let more = More::Netfilter {
        family: 2, // NFPROTO_IPV4
        hook: 0,   // NF_INET_PRE_ROUTING
        priority: 1,
        flags: 0,
    };
    in_namespace(|| {
        attached(
            ProgType::NETFILTER,
            (AttachType::NETFILTER, To::Nothing),
            0,
            &more,
        )
    })
}

pub(crate) fn sk_lookup(_: &Row) -> Found {
    let namespace = apart(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        File::open("/proc/thread-self/ns/net")
    });
    let namespace = namespace.map_err(|e| said("a network namespace", &e))?;
    let place = (AttachType::SK_LOOKUP, To::Fd(namespace.as_fd()));
    found(attached(ProgType::SK_LOOKUP, place, 0, &More::Nothing))
}

pub(crate) fn cgroup_program(_: &Row) -> Found {
    let group = cgroup::tried("probe").map_err(|e| said("make a control group", &e))?;
    let dir = group
        .open()
        .map_err(|e| said("open the control group", &e))?;
    let place = (AttachType::CGROUP_INET_EGRESS, To::Fd(dir.as_fd()));
    found(attached(ProgType::CGROUP_SKB, place, 0, &More::Nothing))
}

pub(crate) fn stats(_: &Row) -> Found {
    found(misc::enable_stats(StatsType::RUN_TIME))
}

pub(crate) fn stream(_: &Row) -> Found {
    found((|| {
        let program = program(ProgType::XDP, AttachType::XDP, 0, 0)?;
        prog::read_stream(program.as_fd(), StreamId::STDOUT, &mut [0; 8])
    })())
}

/// The kernel that knows the command says that nothing was delegated.
pub(crate) fn token(_: &Row) -> Found {
    apart(|| {
        let bpffs = Mount::private(FileSystem::BPF).map_err(|e| said("mount a bpffs", &e))?;
        let dir = File::open(bpffs.path()).map_err(|e| said("open a bpffs", &e))?;
        match misc::create_token(dir.as_fd()) {
            Err(failed) if matches!(failed.errno, Errno::EOPNOTSUPP | Errno::ENOENT) => Ok(()),
            other => found(other),
        }
    })
}

// Helpers, by their numbers.

pub(crate) fn task_storage(_: &Row) -> Found {
    helper(ProgType::KPROBE, 156)
}

pub(crate) fn for_each(_: &Row) -> Found {
    helper(ProgType::XDP, 164)
}

pub(crate) fn timer(_: &Row) -> Found {
    helper(ProgType::XDP, 169)
}

pub(crate) fn bpf_loop(_: &Row) -> Found {
    helper(ProgType::XDP, 181)
}

pub(crate) fn cgroup_storage(_: &Row) -> Found {
    helper(ProgType::KPROBE, 210)
}

// Tracing.

pub(crate) fn raw_tracepoint(_: &Row) -> Found {
    found((|| {
        let program = program(ProgType::RAW_TRACEPOINT, AttachType(0), 0, 0)?;
        prog::open_raw_tracepoint(Some(c"sched_switch"), program.as_fd(), 0)
    })())
}

pub(crate) fn typed_tracepoint(_: &Row) -> Found {
    let id = types::id(Kind::Typedef, "btf_trace_sched_switch")?;
    found((|| {
        let program = program(ProgType::TRACING, AttachType::TRACE_RAW_TP, 0, id)?;
        prog::open_raw_tracepoint(None, program.as_fd(), 0)
    })())
}

pub(crate) fn iterator(_: &Row) -> Found {
    let id = types::id(Kind::Function, "bpf_iter_task")?;
    let to = AttachType::TRACE_ITER;
    found((|| {
        let program = program(ProgType::TRACING, to, 0, id)?;
        let link = link::create(program.as_fd(), To::Nothing, to, 0, &More::Nothing)?;
        link::iterate(link.as_fd())
    })())
}

pub(crate) fn kprobe_multi(_: &Row) -> Found {
    kprobes(AttachType::TRACE_KPROBE_MULTI)
}

pub(crate) fn kprobe_session(_: &Row) -> Found {
    kprobes(AttachType::TRACE_KPROBE_SESSION)
}

fn kprobes(to: AttachType) -> Found {
    let more = More::Kprobes {
        flags: 0,
        names: &[c"bpf_fentry_test1"],
        addrs: &[],
        cookies: &[],
    };
    found(attached(ProgType::KPROBE, (to, To::Nothing), 0, &more))
}

/// At the head of a file's first page, which nobody executes.
pub(crate) fn uprobe_multi(_: &Row) -> Found {
    let more = More::Uprobes {
        flags: 0,
        path: c"/proc/self/exe",
        offsets: &[0],
        semaphores: &[],
        cookies: &[],
        pid: 0,
    };
    let place = (AttachType::TRACE_UPROBE_MULTI, To::Nothing);
    found(attached(ProgType::KPROBE, place, 0, &more))
}

pub(crate) fn fentry(_: &Row) -> Found {
    let id = types::id(Kind::Function, FUNCTION)?;
    found((|| {
        let program = program(ProgType::TRACING, AttachType::TRACE_FENTRY, 0, id)?;
        prog::open_raw_tracepoint(None, program.as_fd(), 0)
    })())
}

pub(crate) fn lsm(_: &Row) -> Found {
    security(AttachType::LSM_MAC)
}

pub(crate) fn lsm_cgroup(_: &Row) -> Found {
    security(AttachType::LSM_CGROUP)
}

/// It loads also where the kernel does not ask such modules.
fn security(to: AttachType) -> Found {
    let id = types::id(Kind::Function, "bpf_lsm_socket_bind")?;
    found(program(ProgType::LSM, to, 0, id))?;
    let active = apart(|| {
        let securityfs =
            Mount::private(FileSystem::SECURITY).map_err(|e| said("mount securityfs", &e))?;
        std::fs::read_to_string(securityfs.path().join("lsm"))
            .map_err(|e| said("the list of security modules", &e))
    })?;
    match active.trim().split(',').any(|name| name == "bpf") {
        true => Ok(()),
        false => Err(format!("the active security modules are {}", active.trim())),
    }
}

/// Whether commands can be started.
fn commands(names: &[&str]) -> Found {
    let missing = |name: &&&str| Command::new(name).arg("--version").output().is_err();
    match names.iter().find(missing) {
        Some(name) => Err(format!("{name} is not installed")),
        None => Ok(()),
    }
}

pub(crate) fn bpftool(_: &Row) -> Found {
    commands(&["bpftool"])
}

pub(crate) fn gcc(_: &Row) -> Found {
    commands(&["gcc"])
}

pub(crate) fn llvm(_: &Row) -> Found {
    commands(&["llc-19", "llvm-objcopy-19"])
}

pub(crate) fn tmux(_: &Row) -> Found {
    commands(&["tmux"])
}

pub(crate) fn systemd_analyze(_: &Row) -> Found {
    commands(&["systemd-analyze"])
}

pub(crate) fn bash(_: &Row) -> Found {
    commands(&["bash"])
}

pub(crate) fn zsh(_: &Row) -> Found {
    commands(&["zsh"])
}

pub(crate) fn fish(_: &Row) -> Found {
    commands(&["fish"])
}

pub(crate) fn groff(_: &Row) -> Found {
    commands(&["groff"])
}

pub(crate) fn dummy_ops(row: &Row) -> Found {
    facts(row)?;
    types::id(Kind::Struct, "bpf_struct_ops_bpf_dummy_ops").map(drop)
}

pub(crate) fn struct_ops(row: &Row) -> Found {
    facts(row)?;
    types::id(Kind::Struct, "bpf_struct_ops_tcp_congestion_ops").map(drop)
}
