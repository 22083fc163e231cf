//! Probes in files that processes run.

use super::event::{self, Manner};
use super::{Hook, Target};
use crate::elf::{Elf, library, library_of};
use crate::error::{Error, Result};
use crate::link::{Link, Way};
use crate::prog::Prog;
use bpfsmith_sys::perf::{Event, Open, Scope, Side};
use bpfsmith_uapi::{AttachType, ProgType};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A place in a program or library: a function by name, or an offset in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    at: At,
    pub(super) cookie: u64,
    pub(super) semaphore: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum At {
    Symbol(String, u64),
    Offset(u64),
}

impl Spot {
    /// A function, by its name in the file.
    #[must_use]
    pub fn symbol(name: impl Into<String>) -> Spot {
        Spot::inside(name, 0)
    }

    /// An instruction so many bytes into a function.
    #[must_use]
    pub fn inside(name: impl Into<String>, offset: u64) -> Spot {
        Spot::new(At::Symbol(name.into(), offset))
    }

    /// An instruction by its offset in the file: needs no symbols, and no look into the file.
    #[must_use]
    pub const fn offset(offset: u64) -> Spot {
        Spot::new(At::Offset(offset))
    }

    const fn new(at: At) -> Spot {
        Spot {
            at,
            cookie: 0,
            semaphore: 0,
        }
    }

    /// With a number that the program reads with `get_attach_cookie`. Linux 5.15.
    #[must_use]
    pub fn cookie(mut self, cookie: u64) -> Spot {
        self.cookie = cookie;
        self
    }

    /// With a counter at that offset in the file, which the kernel raises while the probe is there,
    /// so that the process takes the trouble. Linux 4.20.
    #[must_use]
    pub fn semaphore(mut self, offset: u64) -> Spot {
        self.semaphore = offset;
        self
    }

    /// The offset in the file, which is read at most once.
    pub(super) fn resolve(&self, path: &Path, elf: &mut Option<Elf>) -> Result<u64> {
        let (name, inside) = match &self.at {
            At::Offset(offset) => return Ok(*offset),
            At::Symbol(name, inside) => (name, *inside),
        };
        let elf = match elf {
            Some(elf) => elf,
            None => elf.insert(Elf::open(path)?),
        };
        let symbol = elf.find(name)?;
        if inside != 0 && inside >= symbol.size {
            return Err(Error::File {
                path: path.to_owned(),
                problem: format!(
                    "function \"{name}\" has {} bytes, so there is nothing at {inside} (a place \
                     outside of functions is given by Spot::offset)",
                    symbol.size
                ),
            });
        }
        Ok(symbol.offset.saturating_add(inside))
    }
}

impl std::fmt::Display for Spot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.at {
            At::Symbol(name, 0) => f.write_str(name),
            At::Symbol(name, offset) => write!(f, "{name}+{offset:#x}"),
            At::Offset(offset) => write!(f, "{offset:#x}"),
        }
    }
}

impl From<&str> for Spot {
    fn from(name: &str) -> Spot {
        Spot::symbol(name)
    }
}

impl From<String> for Spot {
    fn from(name: String) -> Spot {
        Spot::symbol(name)
    }
}

impl From<u64> for Spot {
    fn from(offset: u64) -> Spot {
        Spot::offset(offset)
    }
}

/// A place in a program or library, for `KPROBE` programs. The context is the registers. Linux 4.17.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uprobe {
    file: PathBuf,
    spot: Spot,
    side: Side,
    pid: Option<u32>,
    manner: Manner,
}

impl Uprobe {
    fn new(file: impl AsRef<Path>, spot: impl Into<Spot>, side: Side) -> Uprobe {
        Uprobe {
            file: file.as_ref().to_owned(),
            spot: spot.into(),
            side,
            pid: None,
            manner: Manner::default(),
        }
    }

    /// At that place in a file. A name without `/` is that of a library: `libc`, `libssl.so.3`.
    #[must_use]
    pub fn entry(file: impl AsRef<Path>, spot: impl Into<Spot>) -> Uprobe {
        Uprobe::new(file, spot, Side::Entry)
    }

    /// Where that function returns: a uretprobe.
    #[must_use]
    pub fn exit(file: impl AsRef<Path>, spot: impl Into<Spot>) -> Uprobe {
        Uprobe::new(file, spot, Side::Return)
    }

    /// Only in that process; otherwise in every one.
    #[must_use]
    pub fn pid(mut self, pid: u32) -> Uprobe {
        self.pid = Some(pid);
        self
    }

    /// Only in this way. Otherwise by a link, and before Linux 5.15 without one.
    #[must_use]
    pub fn way(mut self, way: Way) -> Uprobe {
        self.manner.way = Some(way);
        self
    }
}

impl Target for Uprobe {
    fn hook(&self) -> Result<Hook> {
        Ok(Hook::default())
    }

    fn attach(&self, prog: &Prog) -> Result<Link> {
        prog.expect(ProgType::KPROBE, AttachType(0))?;
        let path = find(&self.file, self.pid)?;
        let offset = self.spot.resolve(&path, &mut None)?;
        let semaphore = self.spot.semaphore;
        let event = Event::Uprobe {
            path: &text(&path)?,
            offset,
            side: self.side,
            ref_counter: u32::try_from(semaphore).map_err(|_| Error::Argument {
                what: "semaphore",
                problem: format!("{semaphore:#x} is behind the first 4 GB of the file"),
            })?,
        };
        let scope = self.pid.map_or(Scope::Cpu(0), Scope::Task);
        let manner = Manner {
            cookie: self.spot.cookie,
            ..self.manner
        };
        let object = format!("{} on {}:{}", prog.quoted(), path.display(), self.spot);
        event::attach(prog, &Open::new(event, scope), manner, "uprobe", object)
    }
}

/// The file itself, or the library of that name.
pub(super) fn find(file: &Path, pid: Option<u32>) -> Result<PathBuf> {
    match file.to_str() {
        Some(name) if !name.contains('/') => match pid {
            Some(pid) => library_of(pid, name),
            None => library(name),
        },
        _ => Ok(file.to_owned()),
    }
}

/// A path as the kernel takes it.
pub(super) fn text(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::Argument {
        what: "file",
        problem: format!("{path:?} holds a zero byte"),
    })
}
