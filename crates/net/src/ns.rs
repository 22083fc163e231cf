//! `NetNs`: a network namespace, held open.

use crate::error::{Error, Operation, Reason};
use bpfsmith_uapi::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::fstat;
use std::fs::{File, OpenOptions, Permissions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;

/// Where named namespaces have their files.
const NAMED: &str = "/run/netns";

/// The network namespace of the calling thread.
const OWN: &str = "/proc/thread-self/ns/net";

/// A network namespace.
///
/// It exists as long as this handle, a process, a socket or a name holds it. A new namespace holds
/// nothing but a loopback device that is down.
#[derive(Debug)]
pub struct NetNs {
    fd: OwnedFd,
    /// The file to remove with this handle.
    name: Option<Name>,
}

/// Tells one namespace from another; see [`NetNs::id`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NetNsId {
    device: u64,
    inode: u64,
}

impl NetNs {
    /// Makes a namespace without a name. When it is dropped, nothing is left.
    ///
    /// # Errors
    ///
    /// When the thread may not make namespaces.
    pub fn new() -> Result<NetNs, Error> {
        on_new_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|errno| Error::nix(Operation::UNSHARE, "", errno))?;
            NetNs::current()
        })?
    }

    /// Makes a namespace with a name, as `ip netns add` does: `ip netns exec` can enter it.
    ///
    /// When it is dropped, the name goes, unless [`keep`](NetNs::keep) is called. The first name
    /// after a reboot turns `/run/netns` into a mount that is shared, and that stays.
    ///
    /// # Errors
    ///
    /// When the name is taken or no file name, or the thread may not make or mount namespaces.
    pub fn named(name: &str) -> Result<NetNs, Error> {
        let name = Name::claim(name)?;
        on_new_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|errno| Error::nix(Operation::UNSHARE, name.path.display(), errno))?;
            let fd = open(Path::new(OWN))?;
            mount(
                Some(OWN),
                &name.path,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )
            .map_err(|errno| Error::nix(Operation::MOUNT, name.path.display(), errno))?;
            Ok(NetNs {
                fd,
                name: Some(name),
            })
        })?
    }

    /// Opens a namespace by its name.
    ///
    /// # Errors
    ///
    /// When there is none of that name.
    pub fn open(name: &str) -> Result<NetNs, Error> {
        NetNs::at(&path_of(name, Operation::OPEN)?)
    }

    /// Opens a namespace by a path like `/proc/77/ns/net`.
    ///
    /// # Errors
    ///
    /// When there is no such file, or it is no network namespace that may be entered.
    pub fn at(path: &Path) -> Result<NetNs, Error> {
        let ns = NetNs {
            fd: open(path)?,
            name: None,
        };
        ns.run(|| ()).map_err(|error| Error {
            object: path.display().to_string(),
            ..error
        })?;
        Ok(ns)
    }

    /// The namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// When `/proc` is not mounted.
    pub fn current() -> Result<NetNs, Error> {
        Ok(NetNs {
            fd: open(Path::new(OWN))?,
            name: None,
        })
    }

    /// Leaves the name in place when this handle is dropped.
    #[must_use]
    pub fn keep(mut self) -> NetNs {
        if let Some(name) = &mut self.name {
            name.kept = true;
        }
        self
    }

    /// The file that names it, if this handle made one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.name.as_ref().map(|name| name.path.as_path())
    }

    /// Removes the name now, and says if that fails; dropping cannot.
    ///
    /// # Errors
    ///
    /// When the file cannot be unmounted or removed.
    pub fn remove(mut self) -> Result<(), Error> {
        match self.name.take() {
            Some(mut name) => {
                name.kept = true;
                name.remove()
            }
            None => Ok(()),
        }
    }

    /// Tells this namespace from every other that exists.
    ///
    /// # Errors
    ///
    /// When the kernel does not say.
    pub fn id(&self) -> Result<NetNsId, Error> {
        let stat = fstat(&self.fd).map_err(|errno| Error::nix(Operation::OPEN, "", errno))?;
        Ok(NetNsId {
            device: stat.st_dev,
            inode: stat.st_ino,
        })
    }

    /// Runs `body` on a thread of its own inside this namespace and waits for it.
    ///
    /// The calling thread stays where it is. What `body` opens, like sockets, belongs to this
    /// namespace for good. A panic in `body` goes on in the caller.
    ///
    /// # Errors
    ///
    /// When no thread can be started or the namespace cannot be entered.
    pub fn run<T: Send>(&self, body: impl FnOnce() -> T + Send) -> Result<T, Error> {
        on_new_thread(|| {
            match setns(&self.fd, CloneFlags::CLONE_NEWNET) {
                Ok(()) => {}
                // Whoever is there already needs no right to enter it.
                Err(nix::errno::Errno::EPERM) if self.is_here()? => {}
                Err(errno) => return Err(Error::nix(Operation::SETNS, "", errno)),
            }
            Ok(body())
        })?
    }

    /// Whether the calling thread is in it.
    fn is_here(&self) -> Result<bool, Error> {
        Ok(NetNs::current()?.id()? == self.id()?)
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A file in [`NAMED`] that this process made.
#[derive(Debug)]
struct Name {
    path: PathBuf,
    kept: bool,
}

impl Name {
    /// Makes the file that a namespace will be mounted on.
    fn claim(name: &str) -> Result<Name, Error> {
        let path = path_of(name, Operation::CREATE)?;
        let dir = prepare()?;
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o444)
            .open(&path);
        drop(dir);
        made.map_err(|error| Error::io(Operation::CREATE, path.display(), &error))?;
        Ok(Name { path, kept: false })
    }

    fn remove(&self) -> Result<(), Error> {
        match umount2(&self.path, MntFlags::MNT_DETACH) {
            // Not mounted: the file was made, but the namespace was not.
            Ok(()) | Err(nix::errno::Errno::EINVAL) => {}
            Err(errno) => return Err(Error::nix(Operation::UMOUNT, self.path.display(), errno)),
        }
        std::fs::remove_file(&self.path)
            .map_err(|error| Error::io(Operation::UNLINK, self.path.display(), &error))
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        if !self.kept {
            // `NetNs::remove` is there for those who want to know.
            let _ = self.remove();
        }
    }
}

/// Makes [`NAMED`] a shared mount, so that names come and go in all mount namespaces, as iproute2
/// does. The lock that it returns keeps others from doing so at the same time.
fn prepare() -> Result<Flock<File>, Error> {
    let refused = |operation| move |errno| Error::nix(operation, NAMED, errno);
    let io = |error| Error::io(Operation::CREATE, NAMED, &error);
    if !Path::new(NAMED).is_dir() {
        std::fs::create_dir_all(NAMED).map_err(io)?;
        std::fs::set_permissions(NAMED, Permissions::from_mode(0o755)).map_err(io)?;
    }
    let dir = File::open(NAMED).map_err(|error| Error::io(Operation::OPEN, NAMED, &error))?;
    let lock = Flock::lock(dir, FlockArg::LockExclusive)
        .map_err(|(_, errno)| refused(Operation::LOCK)(errno))?;
    let share = || {
        let flags = MsFlags::MS_SHARED | MsFlags::MS_REC;
        mount(None::<&str>, NAMED, None::<&str>, flags, None::<&str>)
    };
    match share() {
        Ok(()) => Ok(lock),
        // No mount point yet.
        Err(nix::errno::Errno::EINVAL) => {
            let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
            mount(Some(NAMED), NAMED, None::<&str>, flags, None::<&str>)
                .and_then(|()| share())
                .map_err(refused(Operation::MOUNT))?;
            Ok(lock)
        }
        Err(errno) => Err(refused(Operation::MOUNT)(errno)),
    }
}

fn path_of(name: &str, operation: Operation) -> Result<PathBuf, Error> {
    let why = match name {
        "" | "." | ".." => "a namespace has a name that is a file name",
        _ if name.contains(['/', '\0']) => "the name of a namespace has no slash and no zero byte",
        _ if name.len() > 255 => "the name of a namespace has at most 255 bytes",
        _ => return Ok(Path::new(NAMED).join(name)),
    };
    Err(Error::new(
        operation,
        format_args!("{name:?}"),
        Reason::BadName { why },
    ))
}

fn open(path: &Path) -> Result<OwnedFd, Error> {
    match File::open(path) {
        Ok(file) => Ok(file.into()),
        Err(error) => Err(Error::io(Operation::OPEN, path.display(), &error)),
    }
}

/// Runs `body` on a thread that ends with it, so that whatever it does to its thread is gone.
fn on_new_thread<T: Send>(body: impl FnOnce() -> T + Send) -> Result<T, Error> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("bpfsmith-net".into())
            .spawn_scoped(scope, body)
            .map_err(|error| {
                let errno = Errno::of(&error).unwrap_or(Errno::EAGAIN);
                Error::plain(Operation::THREAD, "", errno)
            })?;
        thread
            .join()
            .or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str) {
        assert!(matches!(
            path_of(name, Operation::OPEN).unwrap_err().reason,
            Reason::BadName { .. }
        ));
    }

    #[test]
    fn names_stay_in_their_folder() {
        check("");
        check("..");
        check("../x");
        check("a\0b");
        check(&"x".repeat(256));
        assert_eq!(
            path_of("a", Operation::OPEN).unwrap(),
            Path::new("/run/netns/a")
        );
    }

    #[test]
    fn panics_come_back() {
        let caught = std::panic::catch_unwind(|| on_new_thread(|| panic!("inside")));
        assert_eq!(*caught.unwrap_err().downcast::<&str>().unwrap(), "inside");
    }
}
