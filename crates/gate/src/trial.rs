//! Trials with `bpf(2)`: the smallest map, program and link that a need stands for.

use crate::mount::apart;
use crate::probe::Found;
use bpfsmith_sys::link::{self, More, To};
use bpfsmith_sys::map::{Create, Map};
use bpfsmith_sys::prog::{self, Load, Log};
use bpfsmith_sys::{Failed, Result};
use bpfsmith_uapi::{AttachType, Errno, MapType, ProgType};
use nix::sched::{CloneFlags, unshare};
use std::os::fd::{AsFd, OwnedFd};

/// `r0 = 0; exit`
const RETURN: [u8; 16] = [
    0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0,
];

/// The first device of a network namespace.
pub(crate) const LOOPBACK: To<'static> = To::Device(1);

/// A map of that kind, with sizes of key and value, number of entries, and flags.
pub(crate) fn map(kind: MapType, sizes: [u32; 3], flags: u32) -> Result<Map> {
    let [key, value, entries] = sizes;
    Map::create(&Create {
        kind: kind.0,
        key,
        value,
        entries,
        flags,
        ..Create::default()
    })
}

/// A program that returns 0, for a place and perhaps a kernel type.
pub(crate) fn program(kind: ProgType, to: AttachType, flags: u32, type_id: u32) -> Result<OwnedFd> {
    load(kind, to, flags, type_id, &RETURN)
}

fn load(kind: ProgType, to: AttachType, flags: u32, type_id: u32, insns: &[u8]) -> Result<OwnedFd> {
    let load = Load {
        kind: kind.0,
        insns,
        license: c"GPL",
        name: *b"bs_gate\0\0\0\0\0\0\0\0\0",
        flags,
        ifindex: 0,
        attach_type: to.0,
        btf: None,
        funcs: prog::Records::default(),
        lines: prog::Records::default(),
        attach_btf_id: type_id,
        attach_to: None,
        fd_array: &[],
        is_fd_array_counted: prog::IsCounted::No,
        token: None,
        signature: None,
    };
    prog::load(&load, &mut Log::default())
}

/// A program that returns 0, attached.
pub(crate) fn attached(
    kind: ProgType,
    place: (AttachType, To<'_>),
    flags: u32,
    more: &More<'_>,
) -> Result<OwnedFd> {
    let program = program(kind, place.0, 0, 0)?;
    link::create(program.as_fd(), place.1, place.0, flags, more)
}

/// True if the kernel knows the helper: then it finds fault with the arguments, which are not set,
/// not with the number.
pub(crate) fn helper(kind: ProgType, number: u8) -> Found {
    let mut insns = [0_u8; 16];
    insns[0] = 0x85;
    insns[4] = number;
    insns[8] = 0x95;
    match load(kind, AttachType(0), 0, 0, &insns) {
        Err(failed) if failed.errno == Errno::EACCES => Ok(()),
        Err(failed) => Err(format!("call of helper {number}: {failed}")),
        Ok(_) => Err(format!("call of helper {number}: loaded without arguments")),
    }
}

/// Tries in a network namespace of its own.
pub(crate) fn in_namespace<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Found {
    apart(|| {
        unshare(CloneFlags::CLONE_NEWNET)
            .map_err(|errno| format!("unshare CLONE_NEWNET: {errno:?}"))?;
        found(work())
    })
}

/// Whether it worked, or what the kernel said.
pub(crate) fn found<T>(result: std::result::Result<T, Failed>) -> Found {
    result.map(drop).map_err(|failed| failed.to_string())
}
