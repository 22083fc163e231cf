//! The directory of a bpffs that holds the state, and the lock that writers take.

use crate::error::{Error, HomeProblem, Result};
use crate::layout::{LAYOUT, MAGIC, Meta};
use bpfsmith_maps::Map;
use bpfsmith_uapi::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The names in the directory. The last one is made last: where it is, all are.
pub(crate) const PINS: [&str; 9] = [
    "meta", "rules", "levels", "groups", "sockets", "tallies", "services", "program", "link",
];

/// Where the state is, or nowhere but in this process.
#[derive(Debug)]
pub(crate) enum Home {
    Private,
    Dir(PathBuf),
}

/// Held while state is read or changed.
#[derive(Debug)]
pub(crate) struct Lock {
    _held: Option<Flock<File>>,
}

/// For what a lock is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum For {
    Reading,
    Writing,
}

impl Home {
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Home::Private => None,
            Home::Dir(dir) => Some(dir),
        }
    }

    /// Waits until nobody else is at it. The kernel lets go when the process dies.
    pub(crate) fn lock(&self, what: For) -> Result<Lock> {
        let Home::Dir(dir) = self else {
            return Ok(Lock { _held: None });
        };
        let file = File::open(dir).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => self.problem(HomeProblem::Missing),
            _ => Error::file("open", dir, &error),
        })?;
        let how = match what {
            For::Reading => FlockArg::LockShared,
            For::Writing => FlockArg::LockExclusive,
        };
        let held = Flock::lock(file, how).map_err(|(_, errno)| Error::File {
            call: "flock",
            path: dir.clone(),
            errno: Errno(errno as i32),
        })?;
        Ok(Lock { _held: Some(held) })
    }

    pub(crate) fn problem(&self, problem: HomeProblem) -> Error {
        Error::Home {
            dir: self.path().unwrap_or(Path::new("")).to_owned(),
            problem,
        }
    }

    /// Opens what is pinned under a name.
    pub(crate) fn open<T, E: Into<Error>>(
        &self,
        pin: &'static str,
        open: impl FnOnce(PathBuf) -> std::result::Result<T, E>,
    ) -> Result<T> {
        let path = self.path().unwrap_or(Path::new("")).join(pin);
        open(path)
            .map_err(Into::into)
            .map_err(|error| match error.errno() {
                Some(Errno::ENOENT) => self.problem(HomeProblem::Incomplete { pin }),
                _ => error,
            })
    }

    /// Refuses what another version made, before anything else is opened.
    pub(crate) fn known(&self, meta: &Map<u32, Meta>) -> Result<Meta> {
        let meta = meta.lookup(&0)?.unwrap_or_default();
        match (meta.magic, meta.layout) {
            (MAGIC, LAYOUT) => Ok(meta),
            (MAGIC, found) => Err(self.problem(HomeProblem::Layout {
                found,
                ours: LAYOUT,
            })),
            _ => Err(self.problem(HomeProblem::Foreign)),
        }
    }

    /// Takes all names away, and the directory.
    pub(crate) fn clear(dir: &Path) -> Result<()> {
        for pin in PINS.iter().rev() {
            let path = dir.join(pin);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::file("unlink", path, &error));
                }
                _ => {}
            }
        }
        fs::remove_dir(dir).map_err(|error| Error::file("rmdir", dir, &error))
    }

    /// Makes the directory.
    pub(crate) fn make(dir: &Path) -> Result<Home> {
        let home = Home::Dir(dir.to_owned());
        match fs::create_dir(dir) {
            Ok(()) => Ok(home),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(home.problem(HomeProblem::Exists))
            }
            Err(error) => Err(Error::file("mkdir", dir, &error)),
        }
    }
}
