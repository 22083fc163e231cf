//! Control groups of version 2: what programs of that kind attach to.

use crate::refused::{Answer, Refused};
use bpfsmith_uapi::Errno;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// A control group made here.
///
/// It is removed on drop; processes that entered through [`Cgroup::enter`] go back to where they came
/// from first, and others that are in it to the root.
#[derive(Debug)]
pub struct Cgroup {
    dir: File,
    path: PathBuf,
    homes: Mutex<Vec<(u32, PathBuf)>>,
}

impl Cgroup {
    /// Makes an empty control group of that name below the root.
    ///
    /// # Errors
    /// `ENOENT` when no cgroup2 file system is mounted, `EEXIST` when the name is taken, `EACCES`
    /// without the right.
    pub fn new(name: &str) -> Answer<Cgroup> {
        let path = root()?.join(name);
        fs::create_dir(&path).map_err(|error| Refused::of("mkdir cgroup", &error))?;
        let dir = File::open(&path).map_err(|error| {
            // Nobody knows of it yet, so nothing is in it that could keep it.
            let _ = fs::remove_dir(&path);
            Refused::of("open cgroup", &error)
        })?;
        Ok(Cgroup {
            dir,
            path,
            homes: Mutex::default(),
        })
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number by which helpers know it.
    ///
    /// # Errors
    /// What the file system answers.
    pub fn id(&self) -> Answer<u64> {
        let about = self.dir.metadata();
        about
            .map(|about| about.ino())
            .map_err(|error| Refused::of("fstat cgroup", &error))
    }

    /// Its directory, opened once more: for what takes files.
    ///
    /// # Errors
    /// `EMFILE` when the process has too many files open.
    pub fn open(&self) -> Answer<File> {
        let again = self.dir.try_clone();
        again.map_err(|error| Refused::of("dup cgroup", &error))
    }

    /// Moves a process into it, with all its threads, until the group is dropped.
    ///
    /// # Errors
    /// `ESRCH` when there is no such process, `EACCES` without the right.
    pub fn enter(&self, pid: u32) -> Answer<()> {
        let home = home(pid)?;
        fs::write(self.path.join("cgroup.procs"), pid.to_string())
            .map_err(|error| Refused::of("write cgroup.procs", &error))?;
        let mut homes = self.homes.lock().unwrap_or_else(PoisonError::into_inner);
        if home != self.path && !homes.iter().any(|known| known.0 == pid) {
            homes.push((pid, home));
        }
        Ok(())
    }

    /// The processes in it.
    ///
    /// # Errors
    /// What the file system answers.
    pub fn processes(&self) -> Answer<Vec<u32>> {
        let text = fs::read_to_string(self.path.join("cgroup.procs"))
            .map_err(|error| Refused::of("read cgroup.procs", &error))?;
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }
}

impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let homes = self.homes.get_mut().unwrap_or_else(PoisonError::into_inner);
        let homes = std::mem::take(homes);
        for pid in self.processes().unwrap_or_default() {
            let home = homes.iter().find(|known| known.0 == pid);
            let home = home.map(|known| known.1.clone()).or_else(|| root().ok());
            if let Some(home) = home {
                // A process that is gone meanwhile need not be moved.
                let _ = fs::write(home.join("cgroup.procs"), pid.to_string());
            }
        }
        // What cannot be removed stays visible; nobody is here to be told.
        let _ = fs::remove_dir(&self.path);
    }
}

/// Where the cgroup2 file system is mounted.
///
/// # Errors
/// `ENOENT` when it is not: `mount -t cgroup2 none DIR`.
pub fn root() -> Answer<PathBuf> {
    let mounts = read("/proc/thread-self/mounts")?;
    mounted(&mounts).ok_or(Refused::because("mount cgroup2", Errno::ENOENT))
}

/// The group that a process is in.
fn home(pid: u32) -> Answer<PathBuf> {
    let groups = read(&format!("/proc/{pid}/cgroup")).map_err(|refused| match refused.errno {
        Errno::ENOENT => Refused::because("open /proc/PID/cgroup", Errno::ESRCH),
        _ => refused,
    })?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"));
    Ok(root()?.join(own.unwrap_or_default()))
}

fn read(path: &str) -> Answer<String> {
    fs::read_to_string(path).map_err(|error: io::Error| Refused::of("open", &error))
}

/// The first cgroup2 in the kernel's list of mounts.
fn mounted(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (dir, kind) = (words.next()?, words.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(dir.replace("\\040", " ")))
    })
}

#[cfg(test)]
mod tests {
    use super::mounted;
    use std::path::PathBuf;

    #[test]
    fn version_2_is_found_among_version_1() {
        let mounts = "proc /proc proc rw 0 0\n\
            cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
            cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let found = PathBuf::from("/sys/fs/cgroup/unified");
        assert_eq!(mounted(mounts), Some(found));
        assert_eq!(mounted("proc /proc proc rw 0 0\n\nhalf /a"), None);
    }
}
