//! The kernel's own file systems, mounted for as long as they are needed: bpffs for pins, tracefs for
//! trace events.

use crate::refused::{Answer, Refused};
use bpfsmith_uapi::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A kind of file system, by the kernel's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileSystem(pub &'static str);

impl FileSystem {
    /// Names of maps, programs and links. Linux 4.4.
    pub const BPF: FileSystem = FileSystem("bpf");
    /// Trace events and their numbers. Linux 4.1.
    pub const TRACE: FileSystem = FileSystem("tracefs");
    /// What security modules tell.
    pub const SECURITY: FileSystem = FileSystem("securityfs");
}

/// A mounted file system. It is unmounted on drop.
#[derive(Debug)]
pub struct Mount {
    dir: PathBuf,
    is_own: bool,
}

impl Mount {
    /// Mounts on a directory that is there, for everybody in this mount namespace.
    ///
    /// # Errors
    /// `EPERM` without `CAP_SYS_ADMIN`, `ENOENT` without the directory, `ENODEV` where the kernel has
    /// no such file system.
    pub fn on(dir: impl Into<PathBuf>, kind: FileSystem) -> Answer<Mount> {
        let dir = dir.into();
        mount_at(&dir, kind)?;
        Ok(Mount { dir, is_own: false })
    }

    /// Mounts on a directory of its own, seen by the calling thread alone and what that starts later:
    /// the thread stays in a mount namespace of its own. If the process is killed, the mount goes with
    /// it, and an empty directory stays.
    ///
    /// # Errors
    /// `EPERM` without `CAP_SYS_ADMIN`, `ENODEV` where the kernel has no such file system.
    pub fn private(kind: FileSystem) -> Answer<Mount> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let nothing = None::<&str>;
        unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| refused("unshare", errno))?;
        // Else the new mount would be seen in the namespace that this one was copied from.
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(nothing, "/", nothing, private, nothing)
            .map_err(|errno| refused("mount --make-rprivate", errno))?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("bpfsmith-{}-{}-{number}", kind.0, std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir(&dir).map_err(|error| Refused::of("mkdir", &error))?;
        if let Err(error) = mount_at(&dir, kind) {
            // Nothing is in it.
            let _ = std::fs::remove_dir(&dir);
            return Err(error);
        }
        Ok(Mount { dir, is_own: true })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Fails if another thread drops it, in whose namespace there is only the directory.
        let _ = umount2(&self.dir, MntFlags::MNT_DETACH);
        if self.is_own {
            let _ = std::fs::remove_dir(&self.dir);
        }
    }
}

fn mount_at(dir: &Path, kind: FileSystem) -> Answer<()> {
    let name = Some(kind.0);
    mount(name, dir, name, MsFlags::empty(), None::<&str>).map_err(|errno| refused("mount", errno))
}

fn refused(call: &'static str, errno: nix::Error) -> Refused {
    Refused::because(call, Errno(errno as i32))
}
