//! Many places of one file by one link.

use super::uprobe::{Spot, find, text};
use super::{Hook, Target};
use crate::elf::Elf;
use crate::error::{Error, Result};
use crate::link::Link;
use crate::prog::Prog;
use bpfsmith_sys::link::{More, To, create};
use bpfsmith_uapi::flags::uprobe_multi::BPF_F_UPROBE_MULTI_RETURN;
use bpfsmith_uapi::{AttachType, ProgType};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// Places in a program or library, for `KPROBE` programs. The context is the registers. Linux 6.6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UprobeMulti {
    file: PathBuf,
    which: Which,
    attach_type: AttachType,
    flags: u32,
    pid: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Which {
    Spots(Vec<Spot>),
    Pattern(String),
}

impl UprobeMulti {
    fn new(file: impl AsRef<Path>, which: Which) -> UprobeMulti {
        UprobeMulti {
            file: file.as_ref().to_owned(),
            which,
            attach_type: AttachType::TRACE_UPROBE_MULTI,
            flags: 0,
            pid: None,
        }
    }

    /// At these places in a file. A name without `/` is that of a library: `libc`, `libssl.so.3`.
    #[must_use]
    pub fn on<S: Into<Spot>>(
        file: impl AsRef<Path>,
        spots: impl IntoIterator<Item = S>,
    ) -> UprobeMulti {
        let spots = spots.into_iter().map(S::into).collect();
        UprobeMulti::new(file, Which::Spots(spots))
    }

    /// Where functions start whose names fit a pattern, in which `*` stands for any text.
    #[must_use]
    pub fn matching(file: impl AsRef<Path>, pattern: &str) -> UprobeMulti {
        UprobeMulti::new(file, Which::Pattern(pattern.to_owned()))
    }

    /// Where they return instead.
    #[must_use]
    pub fn returning(mut self) -> UprobeMulti {
        self.flags = BPF_F_UPROBE_MULTI_RETURN;
        self
    }

    /// Where they start and return: the program runs at the return only if it returned 0 at the
    /// start. Linux 6.13.
    #[must_use]
    pub fn session(mut self) -> UprobeMulti {
        self.attach_type = AttachType::TRACE_UPROBE_SESSION;
        self
    }

    /// Only in that process; otherwise in every one.
    #[must_use]
    pub fn pid(mut self, pid: u32) -> UprobeMulti {
        self.pid = Some(pid);
        self
    }

    /// The places, by offset.
    fn offsets(&self, path: &Path) -> Result<Vec<u64>> {
        match &self.which {
            Which::Spots(spots) => {
                let mut elf = None;
                let resolve = |spot: &Spot| spot.resolve(path, &mut elf);
                spots.iter().map(resolve).collect()
            }
            Which::Pattern(pattern) => {
                let elf = Elf::open(path)?;
                let found = elf.matching(pattern);
                let mut offsets: Vec<u64> = found.iter().map(|(_, symbol)| symbol.offset).collect();
                // One function may have several names.
                offsets.sort_unstable();
                offsets.dedup();
                if offsets.is_empty() {
                    return Err(Error::File {
                        path: path.to_owned(),
                        problem: format!("no function is like \"{pattern}\" (`nm` lists them)"),
                    });
                }
                Ok(offsets)
            }
        }
    }

    /// One number for each place, or none at all where all are zero.
    fn each(&self, number: fn(&Spot) -> u64) -> Vec<u64> {
        match &self.which {
            Which::Spots(spots) if spots.iter().any(|spot| number(spot) != 0) => {
                spots.iter().map(number).collect()
            }
            _ => Vec::new(),
        }
    }
}

impl Target for UprobeMulti {
    fn hook(&self) -> Result<Hook> {
        Ok(Hook::plain(self.attach_type))
    }

    fn attach(&self, prog: &Prog) -> Result<Link> {
        prog.expect(ProgType::KPROBE, self.attach_type)?;
        let path = find(&self.file, self.pid)?;
        let offsets = self.offsets(&path)?;
        let more = More::Uprobes {
            flags: self.flags,
            path: &text(&path)?,
            offsets: &offsets,
            semaphores: &self.each(|spot| spot.semaphore),
            cookies: &self.each(|spot| spot.cookie),
            pid: self.pid.unwrap_or(0),
        };
        let (count, file) = (offsets.len(), path.display());
        let object = format!("{} on {count} places of {file}", prog.quoted());
        create(prog.as_fd(), To::Nothing, self.attach_type, 0, &more)
            .map_err(|failed| Error::call(failed, "uprobe.multi", object.clone()))
            .map(|fd| Link::kernel(fd, "uprobe.multi", object))
    }
}
