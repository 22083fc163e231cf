//! Kinds of links: made, or refused for a reason that only a kernel with such links gives.

use super::Support;
use super::netns::alone;
use super::prog_types::{simplest, type_id};
use super::trial::Trial;
use crate::probe::features::struct_ops_link;
use bpfsmith_btf::Kind;
use bpfsmith_sys::link::{self as sys, More, To};
use bpfsmith_sys::prog::open_raw_tracepoint;
use bpfsmith_uapi::flags::xdp::XDP_FLAGS_SKB_MODE;
use bpfsmith_uapi::{AttachType, Errno, LinkType, ProgType};
use std::os::fd::{AsFd, OwnedFd};

/// A device, or a descriptor, that does not exist.
pub(super) const NOWHERE: To<'static> = To::Device(i32::MAX.cast_unsigned());

/// A function that kernels have for such trials.
const FUNCTION: &std::ffi::CStr = c"bpf_fentry_test1";

/// Whether links of this kind can be made.
#[must_use]
pub fn link(kind: LinkType) -> Support {
    use AttachType as A;
    let bad_fd = &[Errno::EBADF];
    let no_device = &[Errno::ENODEV];
    let plain = More::Nothing;
    match kind {
        LinkType::RAW_TRACEPOINT => raw_tracepoint(),
        LinkType::TRACING => tracing(),
        LinkType::CGROUP => made(ProgType::CGROUP_SKB, A::CGROUP_INET_EGRESS, &plain, bad_fd),
        LinkType::ITER => iterator(),
        LinkType::NETNS => made(ProgType::SK_LOOKUP, A::SK_LOOKUP, &plain, bad_fd),
        LinkType::XDP => xdp(),
        LinkType::PERF_EVENT => made(ProgType::TRACEPOINT, A::PERF_EVENT, &plain, bad_fd),
        LinkType::KPROBE_MULTI => kprobes(A::TRACE_KPROBE_MULTI),
        LinkType::STRUCT_OPS => struct_ops_link(),
        LinkType::NETFILTER => netfilter(),
        LinkType::TCX => made(ProgType::SCHED_CLS, A::TCX_INGRESS, &plain, no_device),
        LinkType::UPROBE_MULTI => uprobes(A::TRACE_UPROBE_MULTI),
        LinkType::NETKIT => netkit(A::NETKIT_PRIMARY),
        LinkType::SOCKMAP => made(ProgType::SK_MSG, A::SK_MSG_VERDICT, &plain, bad_fd),
        _ => Support::No("no question is known for it".to_owned()),
    }
}

/// Whether a program of this type can be linked; `understood` tells that only the target is missing.
fn made(kind: ProgType, place: AttachType, more: &More<'_>, understood: &[Errno]) -> Support {
    let mut trial = Trial::new(kind).to(place);
    trial.insns[0].imm = 1;
    match trial.load() {
        Ok(program) => {
            let done = sys::create(program.as_fd(), NOWHERE, place, 0, more);
            Support::unless(done.map_err(|failed| failed.errno), understood)
        }
        Err(no) => no.support(),
    }
}

/// Whether this link can really be made.
fn created(trial: &Trial, to: To<'_>, flags: u32, more: &More<'_>) -> Support {
    match trial.load() {
        Ok(program) => {
            let done = sys::create(program.as_fd(), to, trial.attach_type, flags, more);
            Support::unless(done.map_err(|failed| failed.errno), &[])
        }
        Err(no) => no.support(),
    }
}

/// To a tracepoint that no kernel has, so that nothing is traced.
fn raw_tracepoint() -> Support {
    opened(
        &Trial::new(ProgType::RAW_TRACEPOINT),
        |program| {
            open_raw_tracepoint(Some(c"bs_no_such_event"), program.as_fd(), 0)
                .map_err(|failed| failed.errno)
        },
        &[Errno::ENOENT],
    )
}

/// To a tracepoint that is rarely passed, for a moment.
fn tracing() -> Support {
    match simplest(ProgType::TRACING) {
        Ok(trial) => opened(
            &trial,
            |program| open_raw_tracepoint(None, program.as_fd(), 0).map_err(|failed| failed.errno),
            &[],
        ),
        Err(support) => support,
    }
}

fn opened(
    trial: &Trial,
    open: impl FnOnce(OwnedFd) -> Result<OwnedFd, Errno>,
    understood: &[Errno],
) -> Support {
    match trial.load() {
        Ok(program) => Support::unless(open(program), understood),
        Err(no) => no.support(),
    }
}

fn iterator() -> Support {
    match type_id("bpf_iter_task", Kind::FUNC) {
        Ok(id) => {
            let trial = Trial::new(ProgType::TRACING)
                .to(AttachType::TRACE_ITER)
                .typed(id);
            created(&trial, To::Nothing, 0, &More::Nothing)
        }
        Err(support) => support,
    }
}

/// A device that is missing and a kind that is missing get the same answer, so there is one.
fn xdp() -> Support {
    alone(|| {
        let trial = Trial::new(ProgType::XDP);
        created(&trial, To::Device(1), XDP_FLAGS_SKB_MODE, &More::Nothing)
    })
}

/// On an address family that netfilter does not have.
fn netfilter() -> Support {
    let more = More::Netfilter {
        family: 0xff,
        hook: 0,
        priority: 1,
        flags: 0,
    };
    made(
        ProgType::NETFILTER,
        AttachType::NETFILTER,
        &more,
        &[Errno::EAFNOSUPPORT],
    )
}

pub(super) fn netkit(place: AttachType) -> Support {
    made(ProgType::SCHED_CLS, place, &More::Nothing, &[Errno::ENODEV])
}

pub(super) fn kprobes(place: AttachType) -> Support {
    let more = More::Kprobes {
        flags: 0,
        names: &[FUNCTION],
        addrs: &[],
        cookies: &[],
    };
    let trial = Trial::new(ProgType::KPROBE).to(place);
    created(&trial, To::Nothing, 0, &more)
}

/// At the head of this program's file, which nobody executes.
pub(super) fn uprobes(place: AttachType) -> Support {
    let more = More::Uprobes {
        flags: 0,
        path: c"/proc/self/exe",
        offsets: &[0],
        semaphores: &[],
        cookies: &[],
        pid: 0,
    };
    let trial = Trial::new(ProgType::KPROBE).to(place);
    created(&trial, To::Nothing, 0, &more)
}
