//! What outlives a process: a directory in a BPF file system.
//!
//! | in the directory | |
//! |---|---|
//! | `v1/maps/NAME` | maps that all generations share: flows, their secret, counters, settings, the ring of events |
//! | `v1/generations/N/` | what numbers of backends and listeners mean, of the present generation and of one on its way |
//! | `v1/links/DEVICE-HOOK` | programs on devices |
//! | `v1/memory` | what a process wants the next one to know: [`Pins::remember`] |
//!
//! `v1` is the layout of the shared maps: a version of this crate with another one does not touch them.
//!
//! A process may be killed at any time. So what a program needs has its name before the program comes to a device, and
//! loses it when no program is left that does; the numbers of all generations that are there are respected. What was
//! begun and not finished is found and used by the next process.

use crate::adopt::Past;
pub use crate::adopt::{Adopted, AdoptedListener};
use crate::error::{Error, Result};
use crate::generation::Generation;
use bpfsmith_maps::{Handle, Problem};
use bpfsmith_net::IfIndex;
use bpfsmith_prog::Link;
use bpfsmith_prog::target::Tcx;
use bpfsmith_sys::info::{LinkInfo, Place};
use bpfsmith_uapi::map::MapShape;
use bpfsmith_uapi::{AttachType, Errno};
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::stat::{major, minor};
use nix::sys::statfs::{BPF_FS_MAGIC, fstatfs};
use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The layout of shared maps: their names, what their bytes mean, and where they are. Who changes that counts on.
pub(crate) const LAYOUT: &str = "v1";

/// A directory in a BPF file system where everything has a name that is to outlive this process.
///
/// One process at a time has it, until all clones are dropped and everything that was made with them.
///
/// ```no_run
/// # fn main() -> Result<(), bpfsmith_datapath::error::Error> {
/// use bpfsmith_datapath::attach::Attached;
/// use bpfsmith_datapath::choice::Wish;
/// use bpfsmith_datapath::config::Config;
/// use bpfsmith_datapath::generation::Generation;
/// use bpfsmith_datapath::look::Look;
/// use bpfsmith_datapath::pins::Pins;
/// use bpfsmith_net::IfIndex;
///
/// let pins = Pins::open("/sys/fs/bpf/proxy")?;
/// for (number, address) in pins.adopted()?.backends {
///     println!("flows may be at {address}, whose number {number} is");
/// }
/// let config = Config::default(); // with those numbers
/// let generation = Generation::kept(&pins, &config)?;
/// let devices = [(IfIndex(2), Wish::Best)];
/// let attached = Attached::new(&Look::here()?, &generation, &devices)?;
/// drop(attached); // it goes on, also when this process is killed
/// pins.detach()?; // now it ends
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Pins(Arc<Dir>);

#[derive(Debug)]
struct Dir {
    path: PathBuf,
    /// Held as long as this process is the one. The kernel lets go when it dies.
    _lock: Flock<File>,
}

/// What was taken away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Programs on devices.
    pub links: u32,
    /// Names of maps.
    pub maps: u32,
}

/// Whether a map has as many entries as its definition says, or as many as it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entries {
    Defined,
    Found,
}

/// Names that were given for a generation that is on its way.
#[derive(Debug)]
#[must_use]
pub(crate) struct Coming {
    pins: Pins,
    /// The directory of its numbers.
    own: PathBuf,
    made: Vec<PathBuf>,
}

impl Pins {
    /// Takes a directory, and makes it if it is not there.
    ///
    /// # Errors
    /// [`Error::NotBpffs`]; [`Error::Busy`] while another process has it; [`Error::OldKernel`] before Linux 6.6,
    /// where programs are not on devices by what can have a name.
    pub fn open(dir: impl AsRef<Path>) -> Result<Pins> {
        let dir = dir.as_ref();
        expect_links()?;
        make(dir)?;
        loop {
            let file = open(dir)?;
            expect_bpffs(&file, dir)?;
            let about = file
                .metadata()
                .map_err(|error| Error::file("fstat", dir, &error))?;
            if about.uid() != nix::unistd::geteuid().as_raw() || about.mode() & 0o022 != 0 {
                let path = dir.to_owned();
                return Err(Error::Unsafe { path });
            }
            let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => lock,
                Err((_, nix::Error::EWOULDBLOCK)) => {
                    return Err(Error::Busy {
                        dir: dir.to_owned(),
                        process: owner(about.dev(), about.ino()),
                    });
                }
                Err((_, errno)) => {
                    return Err(Error::File {
                        call: "flock",
                        path: dir.to_owned(),
                        errno: Errno(errno as i32),
                    });
                }
            };
            // Who had it before may have taken it away.
            make(dir)?;
            let now = fs::metadata(dir).map_err(|error| Error::file("stat", dir, &error))?;
            if (now.dev(), now.ino()) == (about.dev(), about.ino()) {
                return Ok(Pins(Arc::new(Dir {
                    path: dir.to_owned(),
                    _lock: lock,
                })));
            }
        }
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Takes away all that has a name here, and the directory: programs from their devices, then maps and with them
    /// all flows. What another version of this crate left here goes, too. Nothing else on the devices is touched.
    ///
    /// # Errors
    /// When something cannot be removed: what the directory has besides, for example.
    pub fn detach(&self) -> Result<Removed> {
        let mut removed = Removed::default();
        let versions = self.versions()?;
        let mut links = Vec::new();
        for version in &versions {
            for path in list(&version.join("links"))? {
                let link = Link::open_pin(&path)?;
                links.push((first(&link.info()?), path, link));
            }
        }
        // What begins first.
        links.sort_by_key(|(rank, ..)| *rank);
        for (_, path, link) in links {
            unlink(&path)?;
            match link.force_detach() {
                Err(error) if !is_gone(error.errno()) => return Err(error.into()),
                _ => removed.links += 1,
            }
        }
        for version in &versions {
            removed.maps += clear(version)?;
        }
        match rmdir(self.path()) {
            // The file system itself is mounted there.
            Err(error) if error.errno() == Some(Errno::EBUSY) => {}
            gone => gone?,
        }
        Ok(removed)
    }

    /// The directories of all layouts.
    fn versions(&self) -> Result<Vec<PathBuf>> {
        let mut versions = list(self.path())?;
        versions.retain(|path| version(path).is_some());
        Ok(versions)
    }

    /// Refuses what has another layout.
    pub(crate) fn expect_layout(&self) -> Result<()> {
        let versions = self.versions()?;
        let mut versions = versions.iter().filter_map(|path| version(path));
        match versions.find(|version| *version != LAYOUT) {
            None => Ok(()),
            Some(found) => Err(Error::OtherLayout {
                dir: self.path().to_owned(),
                found: found.to_owned(),
            }),
        }
    }

    /// The directory of this layout.
    pub(crate) fn layout(&self) -> PathBuf {
        self.path().join(LAYOUT)
    }

    pub(crate) fn maps(&self) -> PathBuf {
        self.layout().join("maps")
    }

    pub(crate) fn links(&self) -> PathBuf {
        self.layout().join("links")
    }

    fn numbered(&self) -> PathBuf {
        self.layout().join("generations")
    }

    /// The directories of generations, in the order in which they were made.
    pub(crate) fn generations(&self) -> Result<Vec<(u64, PathBuf)>> {
        let mut generations = Vec::new();
        for path in list(&self.numbered())? {
            let number = name(&path).and_then(|name| name.parse().ok());
            let number = number.ok_or_else(|| Error::Foreign { path: path.clone() })?;
            generations.push((number, path));
        }
        generations.sort();
        Ok(generations)
    }

    /// The shared map of that name, if it is there.
    pub(crate) fn map(&self, shape: &MapShape, entries: Entries) -> Result<Option<Handle>> {
        map(&self.maps().join(shape.name.as_str()), shape, entries)
    }

    /// Gives names to all that the programs of a generation share with those before and after, and to what its numbers
    /// mean. After an error, nothing has one that had none before.
    pub(crate) fn announce(&self, generation: &Generation) -> Result<Coming> {
        for dir in [
            self.maps(),
            self.links(),
            self.numbered(),
        ] {
            make_all(self.path(), &dir)?;
        }
        let number = self.generations()?.last().map_or(1, |(last, _)| last + 1);
        let own = self.numbered().join(number.to_string());
        let mut coming = Coming {
            pins: self.clone(),
            own,
            made: Vec::new(),
        };
        match coming.give(generation) {
            Ok(()) => Ok(coming),
            Err(error) => Err(coming.undo(error)),
        }
    }

    /// What an earlier process left.
    pub(crate) fn past(&self) -> Result<Past> {
        self.expect_layout()?;
        Past::read(self)
    }
}

impl Coming {
    fn give(&mut self, generation: &Generation) -> Result<()> {
        for &name in generation.shared() {
            let path = self.pins.maps().join(name.as_str());
            let map = generation.maps().handle(name)?;
            match map.pin(&path) {
                Ok(()) => self.made.push(path),
                Err(error) if error.errno() == Some(Errno::EEXIST) => {
                    // Else packets would be of two proxies.
                    if Handle::open_pin(&path)?.info()?.id != map.info()?.id {
                        return Err(Error::Stranger);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        make(&self.own)?;
        for name in generation.numbering() {
            let map = generation.maps().handle(name)?;
            map.pin(self.own.join(name.as_str()))?;
        }
        Ok(())
    }

    /// Its programs are where they belong: nobody needs the numbers of those before.
    pub(crate) fn arrived(self) {
        let others = self.pins.generations().unwrap_or_default();
        for (_, dir) in others.iter().filter(|(_, dir)| *dir != self.own) {
            // What stays is respected, and goes with the next change.
            let _ = clear(dir);
        }
    }

    /// It does not come, because of an error: no program of it is anywhere.
    #[must_use]
    pub(crate) fn undo(self, cause: Error) -> Error {
        let mut undone = match fs::exists(&self.own) {
            Ok(true) => clear(&self.own).map(drop),
            _ => Ok(()),
        };
        for path in self.made.iter().rev() {
            undone = undone.and_then(|()| unlink(path));
        }
        cause.unless_undone(undone)
    }
}

/// Opens a map of that shape, if there is one of that name.
pub(crate) fn map(path: &Path, shape: &MapShape, entries: Entries) -> Result<Option<Handle>> {
    let other = |cause: bpfsmith_maps::Error| Error::OtherShape {
        path: path.to_owned(),
        cause,
    };
    let found = match Handle::open_pin(path) {
        Ok(found) => found,
        Err(error) => {
            return match error.errno() {
                Some(Errno::ENOENT) => Ok(None),
                // It is a name of something else.
                Some(Errno::EINVAL) => Err(other(error)),
                _ => Err(error.into()),
            };
        }
    };
    let mut shape = *shape;
    if entries == Entries::Found {
        shape.entries = found.facts().entries;
    }
    match found.expect_shape(&shape) {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.problem(), Problem::Shape { .. }) => Err(other(error)),
        Err(error) => Err(error.into()),
    }
}

/// Links for TCX came with Linux 6.6. What is there instead cannot have names.
fn expect_links() -> Result<()> {
    match Tcx::ingress(IfIndex::LOOPBACK).query() {
        Ok(_) => Ok(()),
        Err(error) if error.errno() == Some(Errno::EINVAL) => Err(Error::OldKernel),
        Err(error) => Err(error.into()),
    }
}

/// The order in which links are taken away.
fn first(link: &LinkInfo) -> u8 {
    match link.place {
        Place::Xdp { .. } => 0,
        Place::Device {
            attach: AttachType::TCX_INGRESS,
            ..
        } => 1,
        _ => 2,
    }
}

fn version(path: &Path) -> Option<&str> {
    let version = name(path)?;
    let number = version.strip_prefix('v')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some(version)
}

/// The last part of a path.
pub(crate) fn name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

/// Whether a device, link or filter is not there any more.
pub(crate) fn is_gone(errno: Option<Errno>) -> bool {
    matches!(errno, Some(Errno::ENODEV | Errno::ENOLINK | Errno::ENOENT))
}

/// Makes a directory in a bpffs, unless it is there.
fn make(dir: &Path) -> Result<()> {
    if fs::exists(dir).map_err(|error| Error::file("stat", dir, &error))? {
        return Ok(());
    }
    let parent = dir.parent().unwrap_or(Path::new("/"));
    let parent = match parent.as_os_str().is_empty() {
        true => Path::new("."),
        false => parent,
    };
    expect_bpffs(&open(parent)?, parent)?;
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(Error::file("mkdir", dir, &error))
        }
        _ => Ok(()),
    }
}

/// Makes a directory below another one, and those between.
pub(crate) fn make_all(above: &Path, dir: &Path) -> Result<()> {
    let mut between: Vec<&Path> = dir.ancestors().take_while(|it| *it != above).collect();
    between.reverse();
    between.into_iter().try_for_each(make)
}

fn open(dir: &Path) -> Result<File> {
    // Nothing else: opening a pipe would wait for its other end.
    let flags = OFlag::O_DIRECTORY.bits();
    let opened = File::options().read(true).custom_flags(flags).open(dir);
    opened.map_err(|error| Error::file("open", dir, &error))
}

fn expect_bpffs(file: &File, dir: &Path) -> Result<()> {
    let about = fstatfs(file).map_err(|errno| Error::File {
        call: "fstatfs",
        path: dir.to_owned(),
        errno: Errno(errno as i32),
    })?;
    match about.filesystem_type() == BPF_FS_MAGIC {
        true => Ok(()),
        false => Err(Error::NotBpffs {
            dir: dir.to_owned(),
        }),
    }
}

/// The process that has the lock of a file, if the kernel shows it.
fn owner(device: u64, inode: u64) -> Option<u32> {
    let file = format!("{:02x}:{:02x}:{inode}", major(device), minor(device));
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [_, "FLOCK", _, "WRITE", process, at, ..] if *at == file => process.parse().ok(),
            _ => None,
        }
    })
}

/// What a directory has; nothing, if it is not there.
pub(crate) fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error: std::io::Error| Error::file("readdir", dir, &error);
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(failed)?.path());
    }
    paths.sort();
    Ok(paths)
}

/// Takes a directory away with all that is in it; how many names that were.
fn clear(dir: &Path) -> Result<u32> {
    let mut names = 0;
    for path in list(dir)? {
        let about = fs::symlink_metadata(&path);
        if about.is_ok_and(|about| about.is_dir()) {
            names += clear(&path)?;
        } else {
            unlink(&path)?;
            names += 1;
        }
    }
    rmdir(dir)?;
    Ok(names)
}

pub(crate) fn unlink(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Error::file("unlink", path, &error))
        }
        _ => Ok(()),
    }
}

fn rmdir(dir: &Path) -> Result<()> {
    fs::remove_dir(dir).map_err(|error| Error::file("rmdir", dir, &error))
}

#[cfg(test)]
mod tests;
