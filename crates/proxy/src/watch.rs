//! [`Watch`]: whether a file has other contents, however they got there.

use crate::error::{Error, Result};
use crate::file;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Watches a file: editors write it, or put another one in its place, and orchestrators change links that
/// lead to it.
#[derive(Debug)]
pub struct Watch {
    inotify: Inotify,
    path: PathBuf,
    /// The directory that the path names, as long as there is one.
    here: Option<(WatchDescriptor, Identity)>,
    /// The directory of the file itself, where links lead there.
    elsewhere: Option<(WatchDescriptor, PathBuf)>,
    /// What was in it when it was looked at last, if it could be read.
    contents: Option<Vec<u8>>,
    /// There is something that could not be read, which was told.
    is_unreadable: bool,
}

/// What tells directories apart, whatever they are called: device and inode.
type Identity = (u64, u64);

/// How a file looks since it was looked at last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen<'a> {
    /// As before; one that is not there is waited for.
    Same,
    /// It has these contents now.
    Other(&'a [u8]),
    /// Something is there that cannot be read, and that is new.
    Unreadable,
}

/// What happens to files that is of interest.
fn changes() -> AddWatchFlags {
    AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_ATTRIB
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
        let mut watch = Watch {
            inotify,
            path: path.to_owned(),
            here: None,
            elsewhere: None,
            contents: None,
            is_unreadable: false,
        };
        watch.follow().map_err(failed)?;
        if watch.here.is_none() {
            return Err(failed(nix::Error::ENOENT));
        }
        watch.contents = file::read(path).ok();
        Ok(watch)
    }

    /// Watches where the file itself is, which may be elsewhere, behind links, and elsewhere again when they change.
    fn follow(&mut self) -> nix::Result<()> {
        self.follow_directory()?;
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

    /// Watches the directory that has the name now; whether it is another one than before.
    fn follow_directory(&mut self) -> nix::Result<bool> {
        let about = fs::metadata(directory(&self.path)).ok();
        let now = about.map(|about| (about.dev(), about.ino()));
        if now == self.here.as_ref().map(|(_, it)| *it) {
            return Ok(false);
        }
        // The kernel gives up the watch of a directory that is gone by itself.
        if let Some((old, _)) = self.here.take() {
            let _ = self.inotify.rm_watch(old);
        }
        if let Some(identity) = now {
            match self.inotify.add_watch(directory(&self.path), changes()) {
                Ok(watch) => self.here = Some((watch, identity)),
                // It is gone already, and looked for again.
                Err(nix::Error::ENOENT | nix::Error::ENOTDIR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(self.here.is_some())
    }

    /// Whether the file is in another directory than before: nobody tells that one was put in the place of another, so
    /// this is asked now and then.
    ///
    /// # Errors
    /// When that one cannot be watched.
    pub fn has_moved(&mut self) -> Result<bool> {
        let moved = self.follow_directory();
        moved.map_err(|errno| unwatched(&self.path, errno))
    }

    /// Takes what the kernel has told; whether there was anything.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn take(&mut self) -> Result<bool> {
        match self.inotify.read_events() {
            Ok(events) => {
                self.follow()
                    .map_err(|errno| unwatched(&self.path, errno))?;
                Ok(!events.is_empty())
            }
            Err(nix::Error::EAGAIN) => Ok(false),
            Err(errno) => Err(unwatched(&self.path, errno)),
        }
    }

    /// How it looks since it was asked last.
    pub fn look(&mut self) -> Seen<'_> {
        let was_unreadable = std::mem::take(&mut self.is_unreadable);
        match file::read(&self.path) {
            Ok(contents) if self.contents.as_ref() == Some(&contents) => Seen::Same,
            Ok(contents) => Seen::Other(self.contents.insert(contents)),
            Err(error) if error.kind() == ErrorKind::NotFound => Seen::Same,
            Err(_) => {
                self.is_unreadable = true;
                match was_unreadable {
                    true => Seen::Same,
                    false => Seen::Unreadable,
                }
            }
        }
    }
}

fn unwatched(path: &Path, errno: nix::Error) -> Error {
    Error::File {
        path: path.to_owned(),
        error: errno.into(),
        hint: "it cannot be watched any more: send SIGHUP when it changes",
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}
