//! Private mounts of the kernel's file systems.

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A file system that only the thread that made it sees, and what that thread starts later.
///
/// Unmounted on drop; if the process is killed, the mount goes with it.
#[derive(Debug)]
pub struct Mount {
    dir: PathBuf,
}

/// Mounts a BPF file system of its own, for pins.
///
/// The calling thread stays in a mount namespace of its own.
///
/// # Panics
///
/// If the kernel refuses; a test that needs it says `needs!(Bpffs)`.
#[must_use]
#[track_caller]
pub fn bpffs() -> Mount {
    Mount::new("bpf").unwrap_or_else(|e| panic!("mount a bpffs: {e}"))
}

/// Mounts the tracing file system, wherever the machine has it.
///
/// The calling thread stays in a mount namespace of its own.
///
/// # Panics
///
/// If the kernel refuses; a test that needs it says `needs!(Tracefs)`.
#[must_use]
#[track_caller]
pub fn tracefs() -> Mount {
    Mount::new("tracefs").unwrap_or_else(|e| panic!("mount a tracefs: {e}"))
}

impl Mount {
    pub(crate) fn new(kind: &str) -> io::Result<Mount> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let nothing = None::<&str>;
        unshare(CloneFlags::CLONE_NEWNS)?;
        // Else the new mount would be seen in the namespace that this one was copied from.
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(nothing, "/", nothing, private, nothing)?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("bs-gate-{kind}-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir(&dir)?;
        if let Err(errno) = mount(Some(kind), &dir, Some(kind), MsFlags::empty(), nothing) {
            std::fs::remove_dir(&dir)?;
            return Err(errno.into());
        }
        Ok(Mount { dir })
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
        let _ = std::fs::remove_dir(&self.dir);
    }
}

/// Runs in a thread of its own, so that a change of namespace stays there.
pub(crate) fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
