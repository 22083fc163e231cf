//! Attachments without links: cgroups, sockmaps, flow dissectors, TCX. They last until undone.

use crate::attr::{self, Fd, PtrMut};
use crate::call::{Failed, Result, bpf, bpf_as};
use crate::link::{Anchor, To};
use bpfsmith_uapi::{AttachType, Cmd, Errno};
use std::os::fd::BorrowedFd;

/// How a program joins those that are there.
#[derive(Clone, Copy, Debug)]
pub struct How<'a> {
    /// `BPF_F_…` of [`attach`](bpfsmith_uapi::flags::attach).
    pub flags: u32,
    /// The program that is replaced, with `BPF_F_REPLACE`.
    pub replace: Option<BorrowedFd<'a>>,
    /// Next to what.
    pub anchor: Anchor<'a>,
    /// Fail unless the hook's list has this revision; 0 for any.
    pub revision: u64,
}

impl How<'_> {
    /// Alone, without flags.
    pub const PLAIN: How<'static> = How {
        flags: 0,
        replace: None,
        anchor: Anchor::End,
        revision: 0,
    };
}

/// Attaches a program to a hook.
///
/// # Errors
/// What the kernel answers.
pub fn attach(
    prog: BorrowedFd<'_>,
    to: To<'_>,
    attach_type: AttachType,
    how: &How<'_>,
) -> Result<()> {
    change(Cmd::PROG_ATTACH, Some(prog), to, attach_type, how)
}

/// Undoes [`attach`]. Without a program, whatever is attached alone.
///
/// # Errors
/// `ENOENT` when it is not attached there.
pub fn detach(
    prog: Option<BorrowedFd<'_>>,
    to: To<'_>,
    attach_type: AttachType,
    how: &How<'_>,
) -> Result<()> {
    change(Cmd::PROG_DETACH, prog, to, attach_type, how)
}

fn change(
    cmd: Cmd,
    prog: Option<BorrowedFd<'_>>,
    to: To<'_>,
    attach_type: AttachType,
    how: &How<'_>,
) -> Result<()> {
    let invalid = Failed {
        cmd,
        errno: Errno::EINVAL,
    };
    let mut attr = attr::ProgAttach {
        target_fd: to.number().ok_or(invalid)?,
        attach_bpf_fd: Fd::some(prog),
        attach_type: attach_type.0,
        attach_flags: how.flags,
        replace_bpf_fd: Fd::some(how.replace),
        relative_fd: how.anchor.number().ok_or(invalid)?,
        expected_revision: how.revision,
    };
    // SAFETY: only fds are passed.
    unsafe { bpf_as(cmd, &mut attr).map(drop) }
}

/// What is attached to a hook, in the order in which it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attached {
    /// Ids of the programs.
    pub progs: Vec<u32>,
    /// Ids of their links, 0 where there is none; empty where the kernel does not say.
    pub links: Vec<u32>,
    /// Flags of the hook's list.
    pub flags: u32,
    /// Changes with every change of the list; 0 where the kernel does not say.
    pub revision: u64,
}

/// Lists the programs on a hook. Linux 4.15; link ids and revisions 6.6, for TCX and netkit.
///
/// # Errors
/// What the kernel answers.
pub fn query(to: To<'_>, attach_type: AttachType, flags: u32) -> Result<Attached> {
    let invalid = Failed {
        cmd: Cmd::PROG_QUERY,
        errno: Errno::EINVAL,
    };
    // Only these hooks know links and refuse nothing that is asked; others refuse the question.
    let has_links = matches!(
        attach_type,
        AttachType::TCX_INGRESS
            | AttachType::TCX_EGRESS
            | AttachType::NETKIT_PRIMARY
            | AttachType::NETKIT_PEER
    );
    let target_fd = to.number().ok_or(invalid)?;
    let mut room = 64_u32;
    loop {
        let mut progs = vec![0_u32; room as usize];
        let mut links = vec![0_u32; if has_links { room as usize } else { 0 }];
        let mut attr = attr::ProgQuery {
            target_fd,
            attach_type: attach_type.0,
            query_flags: flags,
            attach_flags: 0,
            prog_ids: PtrMut::to(&mut progs),
            prog_cnt: room,
            _hole: 0,
            prog_attach_flags: PtrMut::NULL,
            link_ids: PtrMut::to_some(&mut links),
            link_attach_flags: PtrMut::NULL,
            revision: 0,
        };
        // SAFETY: the kernel writes at most `prog_cnt` ids to each list.
        let done = unsafe { bpf(&mut attr) };
        let (count, flags, revision) = (attr.prog_cnt, attr.attach_flags, attr.revision);
        match done {
            // The kernel says how many there are.
            Err(failed) if failed.errno == Errno::ENOSPC && count > room => room = count,
            Err(failed) => return Err(failed),
            Ok(_) => {
                progs.truncate(count as usize);
                links.truncate(count as usize);
                return Ok(Attached {
                    progs,
                    links,
                    flags,
                    revision,
                });
            }
        }
    }
}
