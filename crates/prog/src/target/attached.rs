//! What `PROG_ATTACH` puts on a cgroup or map, and how it is taken away again.

use crate::error::{Error, Result};
use crate::link::{Link, Undo};
use crate::prog::Prog;
use bpfsmith_sys::attach::{How, attach, detach, query};
use bpfsmith_sys::link::{Anchor, To};
use bpfsmith_sys::{Failed, info};
use bpfsmith_uapi::flags::attach::{BPF_F_ALLOW_MULTI, BPF_F_REPLACE};
use bpfsmith_uapi::{AttachType, Cmd, Errno};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A wish to attach without a link.
pub(super) struct Attach<'a> {
    pub(super) to: BorrowedFd<'a>,
    pub(super) attach_type: AttachType,
    pub(super) flags: u32,
    pub(super) replace: Option<&'a Prog>,
    pub(super) kind: &'static str,
    pub(super) object: String,
}

impl Attach<'_> {
    pub(super) fn run(self, prog: &Prog) -> Result<Link> {
        let (kind, object) = (self.kind, self.object);
        let attached = Attached {
            to: keep(self.to, kind, &object)?,
            prog: keep(prog.as_fd(), kind, &object)?,
            attach_type: self.attach_type,
            flags: self.flags,
            kind,
            object: object.clone(),
        };
        attached.put(prog.as_fd(), self.replace.map(AsFd::as_fd))?;
        Ok(Link::undo(attached, kind, object))
    }
}

struct Attached {
    to: OwnedFd,
    prog: OwnedFd,
    attach_type: AttachType,
    flags: u32,
    kind: &'static str,
    object: String,
}

impl Attached {
    fn put(&self, prog: BorrowedFd<'_>, old: Option<BorrowedFd<'_>>) -> Result<()> {
        let how = How {
            flags: self.flags | if old.is_some() { BPF_F_REPLACE } else { 0 },
            replace: old,
            anchor: Anchor::End,
            revision: 0,
        };
        attach(prog, To::Fd(self.to.as_fd()), self.attach_type, &how)
            .map_err(|failed| Error::call(failed, self.kind, self.object.clone()))
    }
}

impl Attached {
    /// Whether one program stands alone on the hook.
    fn is_alone(&self) -> bool {
        self.flags & BPF_F_ALLOW_MULTI == 0
    }

    /// Where one program stands alone on a cgroup's hook, the kernel takes away or replaces whatever
    /// is there by now: this refuses where it is not ours. For maps the kernel compares, and before
    /// Linux 5.17 it does not list what is on them.
    fn expect_ours(&self, cmd: Cmd) -> Result<()> {
        if !self.is_alone() || self.kind != "cgroup" {
            return Ok(());
        }
        let failed = |failed| Error::call(failed, self.kind, self.object.clone());
        let there = query(To::Fd(self.to.as_fd()), self.attach_type, 0).map_err(failed)?;
        let own = info::prog(self.prog.as_fd()).map_err(failed)?.id;
        if there.progs == [own] {
            return Ok(());
        }
        let errno = Errno::ENOENT;
        Err(failed(Failed { cmd, errno }))
    }
}

impl Undo for Attached {
    fn undo(&mut self) -> Result<()> {
        self.expect_ours(Cmd::PROG_DETACH)?;
        let to = To::Fd(self.to.as_fd());
        detach(Some(self.prog.as_fd()), to, self.attach_type, &How::PLAIN)
            .map_err(|failed| Error::call(failed, self.kind, self.object.clone()))
    }

    fn update(&mut self, new: &Prog) -> Option<Result<()>> {
        Some(self.swap(new))
    }
}

impl Attached {
    fn swap(&mut self, new: &Prog) -> Result<()> {
        let kept = keep(new.as_fd(), self.kind, &self.object)?;
        self.expect_ours(Cmd::PROG_ATTACH)?;
        // Where one program stands alone, the next one takes its place without being told to.
        let old = (!self.is_alone()).then(|| self.prog.as_fd());
        self.put(new.as_fd(), old)?;
        self.prog = kept;
        Ok(())
    }
}

/// An fd of one's own.
fn keep(fd: BorrowedFd<'_>, kind: &'static str, object: &str) -> Result<OwnedFd> {
    fd.try_clone_to_owned()
        .map_err(|error| Error::io("fcntl F_DUPFD_CLOEXEC", kind, object, &error))
}
