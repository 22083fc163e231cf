//! Calls: helpers and kernel functions, in a program of one call.

use super::Support;
use super::prog_types::{simplest, type_id, without_btf};
use super::trial::{RETURN, Trial};
use crate::kernel;
use bpfsmith_asm::isa::Raw;
use bpfsmith_btf::{Btf, Kind};
use bpfsmith_uapi::flags::prog_load::BPF_F_SLEEPABLE;
use bpfsmith_uapi::{AttachType, Errno, Helper, ProgType};

/// How the verifier says that there is no such helper, or not for this program type.
const NO_HELPER: &[&str] = &[
    "unknown func",
    "invalid func",
    "program of this type cannot use helper",
    // Types with sleepable programs are asked with one.
    "might sleep in a non-sleepable",
];

/// How it says that of a kernel function.
const NO_KFUNC: &[&str] = &[
    "is not allowed",
    "is not a kernel function",
    "kernel function call is not supported",
    "not support calling kernel function",
    "must be sleepable",
    "uses reserved fields",
    "unknown opcode",
];

/// What it says, before it compares program types, of a kernel function that reads from a device.
/// Only XDP programs can be bound to one.
const BOUND: &str = "device-bound program";

/// Whether programs of this type may call the helper.
///
/// The program sets no arguments. A kernel that complains about these knows the helper. Types whose
/// helpers depend on where they attach are asked in several places, and one that may is enough. What
/// an extension may call depends on the program that it extends, so that is not known.
#[must_use]
pub fn helper(helper: &Helper, kind: ProgType) -> Support {
    match callers(kind) {
        Ok(trials) => calls_helper(&trials, helper),
        Err(support) => support,
    }
}

/// The programs of a type that calls are put into: at least one, unless the type cannot be loaded.
pub(super) fn callers(kind: ProgType) -> Result<Vec<Trial>, Support> {
    if kind == ProgType::EXT {
        return Err(Support::Unknown(Errno::EOPNOTSUPP));
    }
    let first = simplest(kind)?;
    let mut refused = None;
    let mut trials = Vec::new();
    for trial in elsewhere(&first) {
        match trial.load() {
            Ok(_) => trials.push(trial),
            Err(no) => refused = refused.or(Some(no)),
        }
    }
    match (trials.is_empty(), refused) {
        (true, Some(no)) => Err(no.support()),
        _ => Ok(trials),
    }
}

/// A program, and the same for other places where its type may call other functions.
fn elsewhere(first: &Trial) -> Vec<Trial> {
    use AttachType as A;
    let at = |place| first.clone().to(place);
    let function = |place, name| Some(at(place).typed(type_id(name, Kind::FUNC).ok()?));
    let sleepable = |trial: Trial| trial.flags(BPF_F_SLEEPABLE);
    let mut all = vec![first.clone()];
    match first.kind {
        ProgType::TRACING => {
            all.extend(function(A::TRACE_ITER, "bpf_iter_task"));
            all.extend(function(A::TRACE_ITER, "bpf_iter_task").map(sleepable));
            all.extend(function(A::TRACE_FEXIT, "bpf_fentry_test1"));
        }
        ProgType::LSM => {
            all.extend([
                at(A::LSM_CGROUP),
                sleepable(first.clone()),
            ]);
        }
        ProgType::KPROBE => all.push(sleepable(first.clone())),
        ProgType::CGROUP_SKB => all.push(at(A::CGROUP_INET_EGRESS)),
        ProgType::CGROUP_SOCK => all.push(at(A::CGROUP_INET4_POST_BIND)),
        ProgType::CGROUP_SOCKOPT => all.push(at(A::CGROUP_SETSOCKOPT)),
        ProgType::CGROUP_SOCK_ADDR => {
            all.extend(
                [
                    A::CGROUP_INET4_BIND,
                    A::CGROUP_UDP4_SENDMSG,
                ]
                .map(at),
            );
        }
        _ => {}
    }
    all
}

pub(super) fn calls_helper(trials: &[Trial], helper: &Helper) -> Support {
    let call = Raw::new(0x85, 0, 0, 0, helper.id.cast_signed());
    calls(trials, call, NO_HELPER)
}

/// Yes if one of the programs may.
fn calls(trials: &[Trial], call: Raw, never: &[&str]) -> Support {
    let mut answer = None;
    for trial in trials {
        match calls_in(trial, call, never) {
            Support::Yes => return Support::Yes,
            other => answer = answer.or(Some(other)),
        }
    }
    answer.unwrap_or(Support::Unknown(Errno::EINVAL))
}

fn calls_in(trial: &Trial, call: Raw, never: &[&str]) -> Support {
    let trial = Trial {
        insns: vec![call, RETURN[0], RETURN[1]],
        ..trial.clone()
    };
    match trial.load() {
        Ok(_) => Support::Yes,
        Err(no) if never.iter().any(|part| no.sentence.contains(part)) => Support::No(no.sentence),
        Err(no) if no.sentence.contains(BOUND) && trial.kind != ProgType::XDP => {
            Support::No(no.sentence)
        }
        Err(no) if no.sentence.is_empty() => no.support(),
        Err(_) => Support::Yes,
    }
}

/// The program types whose programs may call kernel functions.
const KFUNC_TYPES: &[ProgType] = &[
    ProgType::SYSCALL,
    ProgType::XDP,
    ProgType::SCHED_CLS,
    ProgType::TRACING,
    ProgType::STRUCT_OPS,
    ProgType::LSM,
    ProgType::KPROBE,
    ProgType::TRACEPOINT,
    ProgType::PERF_EVENT,
    ProgType::CGROUP_SKB,
    ProgType::SOCKET_FILTER,
    ProgType::LWT_XMIT,
    ProgType::NETFILTER,
];

/// Whether programs of any type may call this kernel function.
#[must_use]
pub fn kfunc(name: &str) -> Support {
    let mut answer = Support::No("the kernel has no such function".to_owned());
    for &kind in KFUNC_TYPES {
        match kfunc_in(name, kind) {
            Support::Yes => return Support::Yes,
            support @ Support::No(_) => answer = support,
            Support::Unknown(_) => {}
        }
    }
    answer
}

/// Whether programs of this type may call this kernel function.
#[must_use]
pub fn kfunc_in(name: &str, kind: ProgType) -> Support {
    kfuncs_of(kind, &[name])
        .pop()
        .unwrap_or(Support::Unknown(Errno::EINVAL))
}

/// The same for many functions, in their order.
#[must_use]
pub fn kfuncs_of(kind: ProgType, names: &[&str]) -> Vec<Support> {
    let all = |support: Support| names.iter().map(|_| support.clone()).collect();
    let btf = match kernel::btf() {
        Ok(btf) => btf,
        Err(error) => return all(without_btf(error)),
    };
    let trials = match callers(kind) {
        Ok(trials) => trials,
        Err(support) => return all(support),
    };
    names
        .iter()
        .map(|name| calls_kfunc(btf, &trials, name))
        .collect()
}

fn calls_kfunc(btf: &Btf<kernel::Bytes>, trials: &[Trial], name: &str) -> Support {
    match btf.find_func(name) {
        Some(id) => calls(
            trials,
            Raw::new(0x85, 0, 2, 0, id.0.cast_signed()),
            NO_KFUNC,
        ),
        None => Support::No(format!("the kernel's BTF has no function {name}")),
    }
}

/// The kernel functions that programs may call, in the order of their names. Empty on kernels whose
/// BTF does not mark them; [`kfunc`] works there too.
#[must_use]
pub fn kfunc_names() -> Vec<String> {
    let Ok(btf) = kernel::btf() else {
        return Vec::new();
    };
    let mut names: Vec<String> = btf
        .types()
        .filter(|ty| ty.kind() == Kind::DECL_TAG && ty.name().as_bytes() == b"bpf_kfunc")
        .filter_map(|tag| btf.get(tag.target()?))
        .map(|func| func.name().to_string())
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}
