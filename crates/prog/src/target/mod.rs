//! Hooks: one file for each kind of target.

use crate::error::{Error, Result};
use crate::link::Link;
use crate::prog::Prog;
use bpfsmith_uapi::{AttachType, ProgType};
use std::os::fd::OwnedFd;

mod attached;
mod cgroup;
mod event;
mod fentry;
mod freplace;
mod iter;
mod kprobe;
mod kprobe_multi;
mod lsm;
mod netfilter;
mod netkit;
mod netns;
mod on_socket;
mod perf_event;
mod place;
mod raw_tracepoint;
mod reuseport;
mod socket_filter;
mod sockmap;
mod tcx;
mod tp_btf;
mod tracepoint;
mod typed;
mod uprobe;
mod uprobe_multi;
mod xdp;

pub use cgroup::Cgroup;
pub use fentry::Fentry;
pub use freplace::Freplace;
pub use iter::{Iter, Pass};
pub use kprobe::Kprobe;
pub use kprobe_multi::KprobeMulti;
pub use lsm::Lsm;
pub use netfilter::{Netfilter, NfHook, NfProto};
pub use netkit::Netkit;
pub use netns::Netns;
pub use perf_event::PerfEvent;
pub use place::Beside;
pub use raw_tracepoint::RawTracepoint;
pub use reuseport::Reuseport;
pub use socket_filter::SocketFilter;
pub use sockmap::Sockmap;
pub use tcx::Tcx;
pub use tp_btf::TpBtf;
pub use tracepoint::Tracepoint;
pub use uprobe::{Spot, Uprobe};
pub use uprobe_multi::UprobeMulti;
pub use xdp::Xdp;

/// Something that a program can be attached to.
///
/// A new hook is a new implementation: nothing else knows the list of hooks.
pub trait Target {
    /// What the kernel must know of the hook before it verifies a program for it.
    ///
    /// # Errors
    /// When the hook does not exist on this kernel.
    fn hook(&self) -> Result<Hook>;

    /// Attaches a program.
    ///
    /// # Errors
    /// When the program was loaded for another hook, or the kernel refuses.
    fn attach(&self, prog: &Prog) -> Result<Link>;
}

/// What the kernel must know of a hook before it verifies a program for it.
#[derive(Debug)]
pub struct Hook {
    /// How the program will be attached.
    pub attach_type: AttachType,
    /// The function or structure in BTF that it attaches to, or 0.
    pub btf_id: u32,
    /// The program or module BTF that the id belongs to; the kernel's own without.
    pub object: Option<OwnedFd>,
    /// `BPF_F_…` that loading needs.
    pub flags: u32,
    /// Whose arguments the program gets, as [`args`](bpfsmith_asm::kernel::args) calls it; nothing
    /// where that is not known.
    pub args: Option<String>,
}

impl Hook {
    /// A hook that only has an attach type.
    #[must_use]
    pub const fn plain(attach_type: AttachType) -> Hook {
        Hook {
            attach_type,
            btf_id: 0,
            object: None,
            flags: 0,
            args: None,
        }
    }
}

impl Default for Hook {
    fn default() -> Hook {
        Hook::plain(AttachType(0))
    }
}

/// The attach type of program types that have only one, or one that is meant when none is named.
#[must_use]
pub(crate) const fn default_attach(kind: ProgType) -> AttachType {
    match kind {
        ProgType::XDP => AttachType::XDP,
        ProgType::SK_LOOKUP => AttachType::SK_LOOKUP,
        ProgType::SK_REUSEPORT => AttachType::SK_REUSEPORT_SELECT,
        ProgType::SK_MSG => AttachType::SK_MSG_VERDICT,
        ProgType::SK_SKB => AttachType::SK_SKB_VERDICT,
        ProgType::SOCK_OPS => AttachType::CGROUP_SOCK_OPS,
        ProgType::CGROUP_DEVICE => AttachType::CGROUP_DEVICE,
        ProgType::CGROUP_SYSCTL => AttachType::CGROUP_SYSCTL,
        ProgType::CGROUP_SOCK => AttachType::CGROUP_INET_SOCK_CREATE,
        ProgType::CGROUP_SOCK_ADDR => AttachType::CGROUP_INET4_CONNECT,
        ProgType::CGROUP_SOCKOPT => AttachType::CGROUP_GETSOCKOPT,
        ProgType::FLOW_DISSECTOR => AttachType::FLOW_DISSECTOR,
        ProgType::LIRC_MODE2 => AttachType::LIRC_MODE2,
        ProgType::LSM => AttachType::LSM_MAC,
        ProgType::NETFILTER => AttachType::NETFILTER,
        _ => AttachType(0),
    }
}

/// Refuses a program of another type, for hooks that programs are not loaded for.
fn expect_type(prog: &Prog, kind: ProgType, attach_type: AttachType) -> Result<()> {
    if prog.kind() == kind {
        return Ok(());
    }
    Err(Error::WrongHook {
        program: prog.name().to_owned(),
        is: (prog.kind(), prog.attach_type()),
        wanted: (kind, attach_type),
    })
}
