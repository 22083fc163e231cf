//! [`Watch`]: whether a file has other contents, however they got there.

use crate::error::{Error, Result};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// Watches a file: editors write it, or put another one in its place, and orchestrators change links that
/// lead to it.
#[derive(Debug)]
pub struct Watch {
    inotify: Inotify,
    path: PathBuf,
    /// The directory of the file itself, where links lead there.
    elsewhere: Option<(WatchDescriptor, PathBuf)>,
    /// What was in it when it was looked at last, if it could be read.
    contents: Option<Vec<u8>>,
}

/// What happens to files that is of interest.
fn changes() -> AddWatchFlags {
    AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(directory) if directory != Path::new("") => directory,
        _ => Path::new("."),
    }
}

impl Watch {
    /// Watches the file from now on, by the directory that it is in.
    ///
    /// # Errors
    /// When the directory is not there, or the kernel has no more watches.
    pub fn of(path: &Path) -> Result<Watch> {
        let failed = |errno: nix::Error| Error::File {
            path: path.to_owned(),
            error: errno.into(),
            hint: "it cannot be watched: see fs.inotify.max_user_instances and max_user_watches",
        };
        let inotify =
            Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(failed)?;
        inotify
            .add_watch(directory(path), changes())
            .map_err(failed)?;
        let mut watch = Watch {
            inotify,
            path: path.to_owned(),
            elsewhere: None,
            contents: None,
        };
        watch.follow().map_err(failed)?;
        watch.contents = fs::read(path).ok();
        Ok(watch)
    }

    /// Watches where the file itself is, which may be elsewhere, behind links, and elsewhere again when they change.
    fn follow(&mut self) -> nix::Result<()> {
        let Ok(target) = fs::canonicalize(&self.path) else {
            return Ok(());
        };
        let there = target.parent().map(Path::to_owned);
        if there.as_deref() == self.elsewhere.as_ref().map(|(_, it)| it.as_path()) {
            return Ok(());
        }
        let is_here = fs::canonicalize(directory(&self.path)).ok() == there;
        // The kernel gives up the watch of a directory that is gone by itself.
        if let Some((old, _)) = self.elsewhere.take() {
            let _ = self.inotify.rm_watch(old);
        }
        if let Some(there) = there
            && !is_here
        {
            let watch = self.inotify.add_watch(&there, changes())?;
            self.elsewhere = Some((watch, there));
        }
        Ok(())
    }

    /// Takes what the kernel has told; whether there was anything.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn take(&mut self) -> Result<bool> {
        let failed = |path: &Path, errno: nix::Error| Error::File {
            path: path.to_owned(),
            error: errno.into(),
            hint: "it cannot be watched any more: send SIGHUP when it changes",
        };
        match self.inotify.read_events() {
            Ok(events) => {
                self.follow().map_err(|errno| failed(&self.path, errno))?;
                Ok(!events.is_empty())
            }
            Err(nix::Error::EAGAIN) => Ok(false),
            Err(errno) => Err(failed(&self.path, errno)),
        }
    }

    /// Its contents, if they are others than when it was asked last. A file that is not there is waited for.
    pub fn changed(&mut self) -> Option<&[u8]> {
        let contents = fs::read(&self.path).ok();
        if contents.is_none() || contents == self.contents {
            return None;
        }
        self.contents = contents;
        self.contents.as_deref()
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}
