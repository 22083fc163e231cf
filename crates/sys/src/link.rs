//! Links: attachments that last as long as an fd or a pin.

use crate::attr::{
    self, Fd, LinkAnchor, LinkBtf, LinkIter, LinkKprobeMulti, LinkMore, LinkNetfilter, LinkTracing,
    LinkUprobeMulti, Ptr,
};
use crate::call::{Failed, Result, bpf, bpf_fd};
use bpfsmith_uapi::{AttachType, Cmd, Errno};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// What a program is attached to.
#[derive(Clone, Copy, Debug)]
pub enum To<'a> {
    /// Something that the program was loaded for.
    Nothing,
    /// A device, by its index.
    Device(u32),
    /// A cgroup, network namespace, map, perf event or program.
    Fd(BorrowedFd<'a>),
}

impl To<'_> {
    pub(crate) fn number(self) -> Option<i32> {
        match self {
            To::Nothing => Some(0),
            To::Device(index) => i32::try_from(index).ok(),
            To::Fd(fd) => Some(fd.as_raw_fd()),
        }
    }
}

/// The program or link next to which another is put.
#[derive(Clone, Copy, Debug)]
pub enum Anchor<'a> {
    /// First or last of all, by the flags.
    End,
    /// An open program, or an open link with `BPF_F_LINK`.
    Fd(BorrowedFd<'a>),
    /// An id, with `BPF_F_ID`.
    Id(u32),
}

impl Anchor<'_> {
    pub(crate) fn number(self) -> Option<i32> {
        match self {
            Anchor::End => Some(0),
            Anchor::Fd(fd) => Some(fd.as_raw_fd()),
            Anchor::Id(id) => i32::try_from(id).ok(),
        }
    }
}

/// What single kinds of links take besides.
#[derive(Clone, Copy, Debug)]
pub enum More<'a> {
    /// Nothing.
    Nothing,
    /// Typed tracing of another function than the one loaded for, with a cookie.
    Tracing {
        /// The function's BTF id in the target program, or 0.
        btf_id: u32,
        /// What the program reads back.
        cookie: u64,
    },
    /// The function of a program that is replaced.
    Function(u32),
    /// Parameters of an iterator, as `union bpf_iter_link_info`.
    Iterator(&'a [u8]),
    /// What the program reads back with `get_attach_cookie`.
    Cookie(u64),
    /// Kernel functions, by name or by address.
    Kprobes {
        /// `BPF_F_KPROBE_MULTI_RETURN` or 0.
        flags: u32,
        /// Names; empty when addresses are given.
        names: &'a [&'a CStr],
        /// Addresses; empty when names are given.
        addrs: &'a [u64],
        /// One for each function, or none at all.
        cookies: &'a [u64],
    },
    /// Places in a file.
    Uprobes {
        /// `BPF_F_UPROBE_MULTI_RETURN` or 0.
        flags: u32,
        /// The file.
        path: &'a CStr,
        /// Offsets in the file.
        offsets: &'a [u64],
        /// Offsets of semaphores, one for each place, or none at all.
        semaphores: &'a [u64],
        /// One for each place, or none at all.
        cookies: &'a [u64],
        /// Only this process, or 0.
        pid: u32,
    },
    /// A netfilter hook.
    Netfilter {
        /// `NFPROTO_…`: the address family.
        family: u32,
        /// `NF_INET_…`: the hook.
        hook: u32,
        /// Its place among others.
        priority: i32,
        /// `BPF_F_NETFILTER_IP_DEFRAG` or 0.
        flags: u32,
    },
    /// A place among other programs: TCX, netkit, cgroup.
    Place {
        /// Next to what.
        anchor: Anchor<'a>,
        /// Fail unless the hook's list has this revision; 0 for any.
        revision: u64,
    },
}

const CMD: Cmd = Cmd::LINK_CREATE;
const INVALID: Failed = Failed {
    cmd: CMD,
    errno: Errno::EINVAL,
};

/// Attaches a program, or a `STRUCT_OPS` map in its place, so that closing the fd detaches it. Linux 5.7.
///
/// # Errors
/// What the kernel answers; `EINVAL` also when lists that belong together differ in length.
pub fn create(
    object: BorrowedFd<'_>,
    to: To<'_>,
    attach_type: AttachType,
    flags: u32,
    more: &More<'_>,
) -> Result<OwnedFd> {
    let names: Vec<u64> = match more {
        More::Kprobes { names, .. } => {
            let addr = |name: &&CStr| name.as_ptr().expose_provenance() as u64;
            names.iter().map(addr).collect()
        }
        _ => Vec::new(),
    };
    let mut attr = attr::LinkCreate {
        prog_fd: Fd::of(object),
        target_fd: to.number().ok_or(INVALID)?,
        attach_type: attach_type.0,
        flags,
        _more: part(more, &names)?,
    };
    // SAFETY: lengths are those of the slices; names are zero-terminated and outlive the call.
    unsafe { bpf_fd(CMD, &mut attr) }
}

/// The part of the attributes that depends on the kind; `names` are the addresses of the names.
fn part<'a>(more: &More<'a>, names: &'a [u64]) -> Result<LinkMore<'a>> {
    let mut part = LinkMore { words: [0; 6] };
    match *more {
        More::Nothing => {}
        More::Tracing { btf_id, cookie } => {
            part.tracing = LinkTracing {
                target_btf_id: btf_id,
                _hole: 0,
                cookie,
            };
        }
        More::Function(target_btf_id) => part.btf_id = LinkBtf { target_btf_id },
        More::Iterator(info) => {
            part.iter = LinkIter {
                iter_info: Ptr::to_some(info),
                iter_info_len: length(info)?,
                _end: 0,
            };
        }
        More::Cookie(cookie) => part.cookie = cookie,
        More::Kprobes {
            flags,
            addrs,
            cookies,
            ..
        } => {
            let cnt = length(names)?.max(length(addrs)?);
            if !names.is_empty() && !addrs.is_empty() {
                return Err(INVALID);
            }
            same(cookies, cnt)?;
            part.kprobe_multi = LinkKprobeMulti {
                flags,
                cnt,
                syms: Ptr::to_some(names),
                addrs: Ptr::to_some(addrs),
                cookies: Ptr::to_some(cookies),
            };
        }
        More::Uprobes {
            flags,
            path,
            offsets,
            semaphores,
            cookies,
            pid,
        } => {
            let cnt = length(offsets)?;
            same(semaphores, cnt)?;
            same(cookies, cnt)?;
            part.uprobe_multi = LinkUprobeMulti {
                path: Ptr::to(path.to_bytes_with_nul()),
                offsets: Ptr::to_some(offsets),
                ref_ctr_offsets: Ptr::to_some(semaphores),
                cookies: Ptr::to_some(cookies),
                cnt,
                flags,
                pid,
                _end: 0,
            };
        }
        More::Netfilter {
            family,
            hook,
            priority,
            flags,
        } => {
            part.netfilter = LinkNetfilter {
                pf: family,
                hooknum: hook,
                priority,
                flags,
            };
        }
        More::Place { anchor, revision } => {
            part.anchor = LinkAnchor {
                relative_fd: anchor.number().ok_or(INVALID)?,
                _hole: 0,
                expected_revision: revision,
            };
        }
    }
    Ok(part)
}

fn length<T>(list: &[T]) -> Result<u32> {
    u32::try_from(list.len()).map_err(|_| INVALID)
}

/// A list beside another is as long or absent: the kernel reads as many as the other has.
fn same(list: &[u64], count: u32) -> Result<()> {
    if list.is_empty() || list.len() == count as usize {
        Ok(())
    } else {
        Err(INVALID)
    }
}

/// Puts another program (or `STRUCT_OPS` map) behind a link; with `old`, only if that one is behind
/// it now. Linux 5.7.
///
/// # Errors
/// `EPERM` when another program than `old` is behind it; `ENOLINK` when the link is detached.
pub fn update(
    link: BorrowedFd<'_>,
    new: BorrowedFd<'_>,
    old: Option<BorrowedFd<'_>>,
) -> Result<()> {
    const REPLACE: u32 = bpfsmith_uapi::flags::attach::BPF_F_REPLACE;
    let mut attr = attr::LinkUpdate {
        link_fd: Fd::of(link),
        new_prog_fd: Fd::of(new),
        flags: if old.is_some() { REPLACE } else { 0 },
        old_prog_fd: Fd::some(old),
    };
    // SAFETY: only fds are passed.
    unsafe { bpf(&mut attr).map(drop) }
}

/// Detaches a link although it stays open. Linux 5.9.
///
/// # Errors
/// `EOPNOTSUPP` for kinds that cannot.
pub fn detach(link: BorrowedFd<'_>) -> Result<()> {
    let mut attr = attr::LinkDetach {
        link_fd: Fd::of(link),
    };
    // SAFETY: only an fd is passed.
    unsafe { bpf(&mut attr).map(drop) }
}

/// Opens a readable fd over an iterator link. Linux 5.8.
///
/// # Errors
/// `EINVAL` when the link is not an iterator.
pub fn iterate(link: BorrowedFd<'_>) -> Result<OwnedFd> {
    let mut attr = attr::IterCreate {
        link_fd: Fd::of(link),
        flags: 0,
    };
    // SAFETY: only an fd is passed.
    unsafe { bpf_fd(Cmd::ITER_CREATE, &mut attr) }
}
