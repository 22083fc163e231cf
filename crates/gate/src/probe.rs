//! How a need is found out: by trying, or where that would take a whole test, by facts.

use crate::cgroup::Cgroup;
use crate::kernel::{built_without, version};
use crate::mount::{Mount, apart};
use crate::need::Row;
use nix::sched::{CloneFlags, unshare};
use std::fs::File;
use std::io;

/// What a probe finds: nothing, or why it does not work here.
pub(crate) type Found = Result<(), String>;

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

pub(crate) fn btf(_: &Row) -> Found {
    opens("/sys/kernel/btf/vmlinux")
}

pub(crate) fn net_namespace(_: &Row) -> Found {
    apart(|| unshare(CloneFlags::CLONE_NEWNET))
        .map_err(|errno| format!("unshare CLONE_NEWNET: {errno:?}"))
}

pub(crate) fn cgroup2(_: &Row) -> Found {
    Cgroup::new("probe").map(drop).map_err(|e| e.to_string())
}

pub(crate) fn bpffs(_: &Row) -> Found {
    mounts("bpf")
}

pub(crate) fn tracefs(_: &Row) -> Found {
    mounts("tracefs")
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
        let tracefs = Mount::new("tracefs").map_err(|e| said("mount tracefs", &e))?;
        let event = "events/syscalls/sys_enter_getpid/id";
        let opened = File::open(tracefs.path().join(event)).map(drop);
        opened.map_err(|e| said(event, &e))
    })
}

/// A trampoline can be put on a kernel function, as far as files tell.
pub(crate) fn trampoline(row: &Row) -> Found {
    facts(row)?;
    match crate::effect::list_of_functions_refused() {
        true => Err("EPERM".to_owned()),
        false => Ok(()),
    }
}

/// A security module written in BPF can be loaded, as far as files tell.
pub(crate) fn lsm(row: &Row) -> Found {
    trampoline(row)?;
    let active = apart(|| {
        let securityfs = Mount::new("securityfs")?;
        std::fs::read_to_string(securityfs.path().join("lsm"))
    })
    .map_err(|e| said("the list of security modules", &e))?;
    match active.trim().split(',').any(|name| name == "bpf") {
        true => Ok(()),
        false => Err(format!("the active security modules are {}", active.trim())),
    }
}

fn opens(path: &str) -> Found {
    File::open(path).map(drop).map_err(|e| said(path, &e))
}

fn mounts(kind: &str) -> Found {
    apart(|| Mount::new(kind).map(drop)).map_err(|e| said("mount", &e))
}

fn said(what: &str, error: &io::Error) -> String {
    format!("{what}: {error}")
}
