//! The directory of a bpffs that holds the state, and the lock that writers take.

use crate::error::{Error, HomeProblem, Result};
use crate::layout::{LAYOUT, MAGIC, Meta};
use bpfsmith_maps::{Handle, Map};
use bpfsmith_uapi::Errno;
use bpfsmith_uapi::map::MapDef;
use nix::fcntl::{Flock, FlockArg, OFlag};
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The names in the directory. The last one is made last: where it is, all are.
pub(crate) const PINS: [&str; 9] = [
    "meta", "rules", "levels", "groups", "sockets", "tallies", "services", "program", "link",
];

/// Where a new program is until it has the name of the old one.
pub(crate) const PROGRAM_NEXT: &str = "program_next";

/// Where the state is, or nowhere but in this process.
#[derive(Debug)]
pub(crate) enum Home {
    Private,
    Dir {
        path: PathBuf,
        /// Which directory it was: its device and inode. Another one may come to have its name.
        id: (u64, u64),
    },
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
            Home::Dir { path, .. } => Some(path),
        }
    }

    /// The directory that is there now.
    pub(crate) fn at(dir: &Path) -> Result<Home> {
        let (_, id) = directory(dir)?;
        let path = dir.to_owned();
        Ok(Home::Dir { path, id })
    }

    /// Waits until nobody else is at it. The kernel lets go when the process dies.
    pub(crate) fn lock(&self, what: For) -> Result<Lock> {
        let Home::Dir { path: dir, id } = self else {
            return Ok(Lock { _held: None });
        };
        let (file, found) = directory(dir)?;
        if found != *id {
            return Err(self.problem(HomeProblem::Replaced));
        }
        let how = match what {
            For::Reading => FlockArg::LockShared,
            For::Writing => FlockArg::LockExclusive,
        };
        let held = Flock::lock(file, how).map_err(|(_, errno)| Error::File {
            call: "flock",
            path: dir.clone(),
            errno: Errno(errno as i32),
        })?;
        let about = held.metadata();
        let about = about.map_err(|error| Error::file("fstat", dir, &error))?;
        // Somebody may have removed it while this one waited.
        if about.nlink() == 0 {
            return Err(self.problem(HomeProblem::Missing));
        }
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
                // It is the first one.
                Some(Errno::ENOENT) if pin == "meta" => self.problem(HomeProblem::Missing),
                Some(Errno::ENOENT) => self.problem(HomeProblem::Incomplete { pin }),
                _ => error,
            })
    }

    /// Opens the map that is pinned under a name, if it is as a definition says.
    pub(crate) fn map<K, V>(&self, pin: &'static str, def: &MapDef<K, V>) -> Result<Handle> {
        self.open(pin, |path| {
            Handle::open_pin(path)?.expect_shape(def.shape())
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
        for pin in PINS.iter().rev().chain([&PROGRAM_NEXT]) {
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
        match fs::create_dir(dir) {
            Ok(()) => Home::at(dir),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(Error::Home {
                dir: dir.to_owned(),
                problem: HomeProblem::Exists,
            }),
            Err(error) => Err(Error::file("mkdir", dir, &error)),
        }
    }
}

/// Opens a directory, and says which one it is.
fn directory(dir: &Path) -> Result<(File, (u64, u64))> {
    // Nothing else: opening a pipe would wait for its other end.
    let flags = OFlag::O_DIRECTORY.bits();
    let opened = File::options().read(true).custom_flags(flags).open(dir);
    let file = opened.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::Home {
            dir: dir.to_owned(),
            problem: HomeProblem::Missing,
        },
        _ => Error::file("open", dir, &error),
    })?;
    let about = file.metadata();
    let about = about.map_err(|error| Error::file("fstat", dir, &error))?;
    Ok((file, (about.dev(), about.ino())))
}
