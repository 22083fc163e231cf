//! Program types: a program that returns 0, with what each type must know before it loads.

use super::Support;
use super::trial::Trial;
use crate::kernel;
use bpfsmith_btf::Kind;
use bpfsmith_uapi::flags::prog_load;
use bpfsmith_uapi::{AttachType, Errno, ProgType};

/// Whether programs of this type can be loaded.
#[must_use]
pub fn prog_type(kind: ProgType) -> Support {
    let trial = match simplest(kind) {
        Ok(trial) => trial,
        Err(support) => return support,
    };
    match trial.load() {
        Ok(_) => Support::Yes,
        // It can only replace a function of another program. A kernel without the type does not
        // get as far as to say so.
        Err(no) if kind == ProgType::EXT && no.sentence.contains("replace kernel functions") => {
            Support::Yes
        }
        Err(no) => no.support(),
    }
}

/// A program of this type that every kernel with the type accepts.
///
/// An extension is none without a program to extend, so this one is refused, but by the verifier.
pub(super) fn simplest(kind: ProgType) -> Result<Trial, Support> {
    let trial = Trial::new(kind);
    Ok(match kind {
        ProgType::SYSCALL => trial.flags(prog_load::BPF_F_SLEEPABLE),
        ProgType::TRACING => trial
            .to(AttachType::TRACE_RAW_TP)
            .typed(type_id("btf_trace_task_rename", Kind::TYPEDEF)?),
        ProgType::LSM => trial.typed(type_id("bpf_lsm_socket_bind", Kind::FUNC)?),
        ProgType::EXT => trial.typed(1),
        ProgType::STRUCT_OPS => {
            let (id, member) = congestion_control()?;
            trial.to(AttachType(member)).typed(id)
        }
        _ => trial,
    })
}

/// The number of one of the kernel's types.
pub(super) fn type_id(name: &str, kind: Kind) -> Result<u32, Support> {
    let btf = kernel::btf().map_err(without_btf)?;
    btf.find(name, kind)
        .map(|id| id.0)
        .ok_or_else(|| Support::No(format!("the kernel's BTF has no {name}")))
}

pub(super) fn without_btf(error: crate::Error) -> Support {
    match error.errno() {
        Some(Errno::ENOENT) => Support::No("the kernel has no BTF of its own".to_owned()),
        Some(errno) => Support::Unknown(errno),
        None => Support::No(error.to_string()),
    }
}

/// The structure of the oldest interface that BPF can implement, and its function `undo_cwnd`,
/// which returns a number.
fn congestion_control() -> Result<(u32, u32), Support> {
    let id = type_id("tcp_congestion_ops", Kind::STRUCT)?;
    let btf = kernel::btf().map_err(without_btf)?;
    let found = btf.ty(bpfsmith_btf::TypeId(id)).ok().and_then(|ty| {
        ty.members()
            .position(|member| member.name.as_bytes() == b"undo_cwnd")
    });
    match found.and_then(|member| u32::try_from(member).ok()) {
        Some(member) => Ok((id, member)),
        None => Err(Support::No(
            "tcp_congestion_ops has no undo_cwnd".to_owned(),
        )),
    }
}
