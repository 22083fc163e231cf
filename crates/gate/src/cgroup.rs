//! Control groups for tests.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A control group of version 2, below the root of the machine's hierarchy.
///
/// Removed on drop; processes that are still in it go back to the root first.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    root: PathBuf,
}

/// Makes an empty control group.
///
/// # Panics
///
/// If there is no hierarchy or it cannot be written; a test that needs it says `needs!(Cgroup2)`.
#[must_use]
#[track_caller]
pub fn cgroup(name: &str) -> Cgroup {
    Cgroup::new(name).unwrap_or_else(|e| panic!("make a control group {name}: {e}"))
}

impl Cgroup {
    pub(crate) fn new(name: &str) -> io::Result<Cgroup> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let root = root()?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = root.join(format!("bs-gate-{name}-{}-{number}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Cgroup { path, root })
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its directory, opened: what a program attaches to.
    ///
    /// # Errors
    ///
    /// Those of opening a directory.
    pub fn open(&self) -> io::Result<File> {
        File::open(&self.path)
    }

    /// Moves a process into it, with all its threads.
    ///
    /// # Errors
    ///
    /// Those of writing to `cgroup.procs`.
    pub fn enter(&self, pid: u32) -> io::Result<()> {
        fs::write(self.path.join("cgroup.procs"), pid.to_string())
    }

    /// The processes in it.
    ///
    /// # Errors
    ///
    /// Those of reading `cgroup.procs`.
    pub fn processes(&self) -> io::Result<Vec<u32>> {
        let text = fs::read_to_string(self.path.join("cgroup.procs"))?;
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for pid in self.processes().unwrap_or_default() {
            let _ = fs::write(self.root.join("cgroup.procs"), pid.to_string());
        }
        let _ = fs::remove_dir(&self.path);
    }
}

fn root() -> io::Result<PathBuf> {
    mounted(&fs::read_to_string("/proc/self/mounts")?)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no cgroup2 file system is mounted"))
}

/// The first cgroup2 in the kernel's list of mounts.
fn mounted(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (dir, kind) = (words.next()?, words.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(dir))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_version_2_among_version_1() {
        let mounts = "proc /proc proc rw 0 0\n\
            cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
            cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(
            mounted(mounts),
            Some(PathBuf::from("/sys/fs/cgroup/unified"))
        );
        assert_eq!(mounted("proc /proc proc rw 0 0\n\nhalf /a"), None);
    }
}
