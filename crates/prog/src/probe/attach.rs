//! Attach types: by loading where the kernel compares them then, else by attaching to nothing.

use super::Support;
use super::links::{NOWHERE, kprobes, link, netkit, uprobes};
use super::prog_types::{simplest, type_id};
use super::trial::{RETURN, Trial, map};
use bpfsmith_btf::Kind;
use bpfsmith_sys::attach::{How, attach};
use bpfsmith_uapi::{AttachType, Errno, LinkType, MapType, ProgType};
use std::os::fd::AsFd;

/// Whether programs can be attached there.
#[must_use]
pub fn attach_type(place: AttachType) -> Support {
    use AttachType as A;
    match place {
        A::TRACE_RAW_TP => typed(place, "btf_trace_task_rename", Kind::TYPEDEF),
        A::TRACE_ITER => typed(place, "bpf_iter_task", Kind::FUNC),
        A::TRACE_FENTRY | A::TRACE_FEXIT => typed(place, "bpf_fentry_test1", Kind::FUNC),
        // Hooks of security modules may be replaced on every kernel, others where errors can be
        // injected.
        A::MODIFY_RETURN => typed(place, "security_bpf", Kind::FUNC),
        A::LSM_MAC | A::LSM_CGROUP => match simplest(ProgType::LSM) {
            Ok(trial) => trial.to(place).ask(),
            Err(support) => support,
        },
        A::XDP => link(LinkType::XDP),
        // Elements with room for a program beside the target.
        A::XDP_DEVMAP => Support::unless(map(MapType::DEVMAP, [4, 8, 1], 0), &[]),
        A::XDP_CPUMAP => Support::unless(map(MapType::CPUMAP, [4, 8, 1], 0), &[]),
        A::PERF_EVENT => link(LinkType::PERF_EVENT),
        A::STRUCT_OPS => link(LinkType::STRUCT_OPS),
        A::FLOW_DISSECTOR => Trial::new(ProgType::FLOW_DISSECTOR).ask(),
        A::TRACE_KPROBE_MULTI | A::TRACE_KPROBE_SESSION => kprobes(place),
        A::TRACE_UPROBE_MULTI | A::TRACE_UPROBE_SESSION => uprobes(place),
        A::NETKIT_PRIMARY | A::NETKIT_PEER => netkit(place),
        _ => match program_of(place) {
            Some(kind) => nowhere(kind, place),
            None => Support::No("no question is known for it".to_owned()),
        },
    }
}

/// The program type of places that an attachment names with a descriptor or device.
fn program_of(place: AttachType) -> Option<ProgType> {
    use AttachType as A;
    Some(match place {
        A::CGROUP_INET_INGRESS | A::CGROUP_INET_EGRESS => ProgType::CGROUP_SKB,
        A::CGROUP_INET_SOCK_CREATE
        | A::CGROUP_INET_SOCK_RELEASE
        | A::CGROUP_INET4_POST_BIND
        | A::CGROUP_INET6_POST_BIND => ProgType::CGROUP_SOCK,
        A::CGROUP_SOCK_OPS => ProgType::SOCK_OPS,
        A::CGROUP_DEVICE => ProgType::CGROUP_DEVICE,
        A::CGROUP_SYSCTL => ProgType::CGROUP_SYSCTL,
        A::CGROUP_GETSOCKOPT | A::CGROUP_SETSOCKOPT => ProgType::CGROUP_SOCKOPT,
        A::SK_SKB_STREAM_PARSER | A::SK_SKB_STREAM_VERDICT | A::SK_SKB_VERDICT => ProgType::SK_SKB,
        A::SK_MSG_VERDICT => ProgType::SK_MSG,
        A::LIRC_MODE2 => ProgType::LIRC_MODE2,
        A::SK_LOOKUP => ProgType::SK_LOOKUP,
        A::SK_REUSEPORT_SELECT | A::SK_REUSEPORT_SELECT_OR_MIGRATE => ProgType::SK_REUSEPORT,
        A::NETFILTER => ProgType::NETFILTER,
        A::TCX_INGRESS | A::TCX_EGRESS => ProgType::SCHED_CLS,
        _ if place.name().is_some_and(|name| name.starts_with("CGROUP_")) => {
            ProgType::CGROUP_SOCK_ADDR
        }
        _ => return None,
    })
}

fn typed(place: AttachType, name: &str, kind: Kind) -> Support {
    match type_id(name, kind) {
        Ok(id) => Trial::new(ProgType::TRACING).to(place).typed(id).ask(),
        Err(support) => support,
    }
}

/// Loads for the place, and attaches to a descriptor or device that does not exist. A kernel that
/// knows the place looks for it.
fn nowhere(kind: ProgType, place: AttachType) -> Support {
    // Some hooks allow only certain answers; 1 is one of them for all of these.
    let mut trial = Trial::new(kind).to(place);
    trial.insns = RETURN.to_vec();
    trial.insns[0].imm = 1;
    let program = match trial.load() {
        Ok(program) => program,
        Err(no) => return no.support(),
    };
    // These are attached to sockets, or by links alone; loading compared the place.
    if matches!(
        kind,
        ProgType::SK_LOOKUP | ProgType::SK_REUSEPORT | ProgType::NETFILTER
    ) {
        return Support::Yes;
    }
    let done = attach(program.as_fd(), NOWHERE, place, &How::PLAIN);
    Support::unless(
        done.map_err(|failed| failed.errno),
        &[Errno::EBADF, Errno::ENODEV],
    )
}
