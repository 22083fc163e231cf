//! An attachment, whatever keeps it up.

use crate::error::{Error, Result};
use crate::prog::Prog;
use bpfsmith_sys::{info, link as sys, object};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// A program on a hook. Dropping it detaches; [`Link::leak`] and [`Link::pin`] are the two ways to
/// let it outlive the process.
#[must_use = "dropping a link detaches the program"]
pub struct Link {
    held: Option<Held>,
    kind: &'static str,
    object: String,
}

/// What keeps a program attached.
enum Held {
    /// A link of the kernel: the last fd detaches.
    Kernel(OwnedFd),
    /// Something that lasts until it is undone.
    Undo(Box<dyn Undo>),
}

/// An attachment that the kernel does not tie to an fd: it is undone by another request.
pub(crate) trait Undo: Send + Sync {
    /// Detaches. Called once.
    fn undo(&mut self) -> Result<()>;

    /// Puts another program in place of this one.
    fn update(&mut self, _new: &Prog) -> Option<Result<()>> {
        None
    }
}

/// How a program is kept attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By a link of the kernel, which can be pinned.
    Link,
    /// By an older interface: it is undone when this process drops it, but stays when the process
    /// is killed.
    Attachment,
}

impl Link {
    pub(crate) fn kernel(fd: OwnedFd, kind: &'static str, object: String) -> Link {
        Link {
            held: Some(Held::Kernel(fd)),
            kind,
            object,
        }
    }

    pub(crate) fn undo(undo: impl Undo + 'static, kind: &'static str, object: String) -> Link {
        Link {
            held: Some(Held::Undo(Box::new(undo))),
            kind,
            object,
        }
    }

    /// Takes over the fd of a link.
    ///
    /// # Errors
    /// When it is no link.
    pub fn from_fd(fd: OwnedFd) -> Result<Link> {
        Link::found(fd, "behind an fd")
    }

    fn found(fd: OwnedFd, place: &str) -> Result<Link> {
        let info = object::expect(object::Kind::Link, fd.as_fd())
            .and_then(|()| info::link(fd.as_fd()))
            .map_err(|failed| Error::call(failed, "link", place))?;
        Ok(Link::kernel(fd, "link", format!("id {}", info.id)))
    }

    /// Opens a link by its number.
    ///
    /// # Errors
    /// `ENOENT` when it is gone; `EPERM` without `CAP_SYS_ADMIN`.
    pub fn open_id(id: u32) -> Result<Link> {
        let place = format!("id {id}");
        let fd = object::open_id(object::Kind::Link, id, 0, None)
            .map_err(|failed| Error::call(failed, "link", place.as_str()))?;
        Link::found(fd, &place)
    }

    /// Opens a link by its name in bpffs.
    ///
    /// # Errors
    /// `ENOENT` without such a name; `EINVAL` when it is the name of something else.
    pub fn open_pin(path: impl AsRef<Path>) -> Result<Link> {
        let place = path.as_ref().display().to_string();
        let fd = object::open_pin(object::From::Here, path.as_ref(), 0)
            .map_err(|failed| Error::call(failed, "link", place.as_str()))?;
        Link::found(fd, &place)
    }

    /// How the program is kept attached.
    #[must_use]
    pub fn way(&self) -> Way {
        match self.held {
            Some(Held::Kernel(_)) => Way::Link,
            _ => Way::Attachment,
        }
    }

    /// The fd of the kernel's link.
    ///
    /// # Errors
    /// When the program is attached by an older interface, which has none.
    pub fn fd(&self) -> Result<BorrowedFd<'_>> {
        let fd = match &self.held {
            Some(Held::Kernel(fd)) => Some(fd.as_fd()),
            Some(Held::Undo(_)) | None => None,
        };
        fd.ok_or_else(|| Error::Argument {
            what: "link",
            problem: format!(
                "{} {} is not held by a link of the kernel, which this needs (it was attached by \
                 an older interface)",
                self.kind, self.object
            ),
        })
    }

    /// Puts another program in its place, without a gap.
    ///
    /// # Errors
    /// When the kernel cannot replace programs on such a hook.
    pub fn update(&mut self, new: &Prog) -> Result<()> {
        if let Some(Held::Undo(undo)) = &mut self.held
            && let Some(done) = undo.update(new)
        {
            return done;
        }
        sys::update(self.fd()?, new.as_fd(), None).map_err(|failed| self.failed(failed))
    }

    /// Puts another program in its place if `old` is there now.
    ///
    /// # Errors
    /// `EPERM` when another one is there.
    pub fn replace(&mut self, old: &Prog, new: &Prog) -> Result<()> {
        sys::update(self.fd()?, new.as_fd(), Some(old.as_fd()))
            .map_err(|failed| self.failed(failed))
    }

    /// Gives it a name in bpffs, which keeps the program attached.
    ///
    /// # Errors
    /// `EPERM` when the directory is not in a bpffs; `EEXIST` when the name is taken; when an older
    /// interface holds the program.
    pub fn pin(&self, path: impl AsRef<Path>) -> Result<()> {
        object::pin(self.fd()?, object::From::Here, path.as_ref())
            .map_err(|failed| self.failed(failed))
    }

    /// What the kernel says about it.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn info(&self) -> Result<info::LinkInfo> {
        info::link(self.fd()?).map_err(|failed| self.failed(failed))
    }

    /// Detaches now, and says whether that went well. Dropping does the same in silence.
    ///
    /// A process that another thread starts has all descriptors of this one until it becomes another
    /// program: the kernel's link lasts until then. [`Link::force_detach`] waits for nobody.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn detach(mut self) -> Result<()> {
        match self.held.take() {
            Some(Held::Undo(mut undo)) => undo.undo(),
            held => {
                drop(held);
                Ok(())
            }
        }
    }

    /// Detaches although others hold the link too. Linux 5.9.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for kinds of links that cannot.
    pub fn force_detach(self) -> Result<()> {
        sys::detach(self.fd()?).map_err(|failed| self.failed(failed))
    }

    /// Lets the program stay attached until the process ends, or, where an older interface holds
    /// it, until somebody undoes it.
    pub fn leak(mut self) {
        if let Some(Held::Kernel(fd)) = self.held.take() {
            std::mem::forget(fd);
        }
    }

    fn failed(&self, failed: bpfsmith_sys::Failed) -> Error {
        Error::call(failed, self.kind, self.object.clone())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(Held::Undo(mut undo)) = self.held.take() {
            // Nobody is there to hear of a failure; `detach` tells it. What is gone is detached.
            let _ = undo.undo();
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({} {}, {:?})", self.kind, self.object, self.way())
    }
}
