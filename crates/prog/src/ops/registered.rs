//! A structure of functions that is registered without a link.

use super::kind::Kind;
use crate::error::{Error, Result};
use bpfsmith_sys::{Failed, info, map::Map, object};
use bpfsmith_uapi::flags::map_create;
use bpfsmith_uapi::{MapType, OpsState};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// A structure of functions that the kernel may call. Dropping it unregisters; who uses it already
/// keeps it until done.
#[must_use = "dropping it unregisters"]
pub struct Registered {
    map: Map,
    /// Where its state is in the value.
    state: usize,
    label: String,
    /// Dropping it leaves it registered.
    is_kept: bool,
}

impl AsFd for Registered {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }
}

impl Registered {
    pub(super) fn new(kind: &Kind, map: Map, label: String) -> Registered {
        Registered {
            map,
            state: kind.state as usize,
            label,
            is_kept: false,
        }
    }

    /// Takes over one that a process left behind, by the number of its map.
    ///
    /// # Errors
    /// `ENOENT` when it is gone; `EPERM` without `CAP_SYS_ADMIN`; when it is another map, or that of a
    /// link.
    pub fn open_id(id: u32) -> Result<Registered> {
        let label = format!("map {id}");
        let fd = object::open_id(object::Kind::Map, id, 0, None)
            .map_err(|failed| Error::call(failed, "struct_ops", label.as_str()))?;
        Registered::found(fd, label)
    }

    /// Takes over one by its name in bpffs.
    ///
    /// # Errors
    /// `ENOENT` without such a name; when it is the name of something else.
    pub fn open_pin(path: impl AsRef<Path>) -> Result<Registered> {
        let label = path.as_ref().display().to_string();
        let fd = object::open_pin(object::From::Here, path.as_ref(), 0)
            .map_err(|failed| Error::call(failed, "struct_ops", label.as_str()))?;
        Registered::found(fd, label)
    }

    fn found(fd: OwnedFd, label: String) -> Result<Registered> {
        let failed = |failed: Failed| Error::call(failed, "struct_ops", label.as_str());
        let map = Map::from_fd(fd).map_err(failed)?;
        if map.facts().kind != MapType::STRUCT_OPS {
            return Err(Error::Argument {
                what: "struct_ops",
                problem: format!(
                    "{label} is a map of type {}: name one of type {}",
                    map.facts().kind,
                    MapType::STRUCT_OPS
                ),
            });
        }
        let about = info::map(map.as_fd()).map_err(failed)?;
        if about.map_flags & map_create::BPF_F_LINK != 0 {
            return Err(Error::Argument {
                what: "struct_ops",
                problem: format!(
                    "{label} belongs to a link, which alone unregisters it: open that with \
                     Link::open_id or Link::open_pin"
                ),
            });
        }
        // What the kernel tells of its value is the same for all kinds.
        let all = super::kind::all()?;
        let kinds = all.iter().filter_map(|name| Kind::find(name).ok());
        let kind = kinds
            .into_iter()
            .find(|kind| kind.value.0 == about.btf_vmlinux_value_type_id);
        let Some(kind) = kind else {
            return Err(Error::Btf {
                wanted: label,
                cause: bpfsmith_btf::Error::NoType(bpfsmith_btf::TypeId(
                    about.btf_vmlinux_value_type_id,
                )),
            });
        };
        Ok(Registered::new(&kind, map, label))
    }

    /// How it stands.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn state(&self) -> Result<OpsState> {
        state(&self.map, self.state).map_err(|failed| self.failed(failed))
    }

    /// The number of its map.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn id(&self) -> Result<u32> {
        info::map(self.as_fd())
            .map(|about| about.id)
            .map_err(|failed| self.failed(failed))
    }

    /// Gives it a name in bpffs, by which another process can take it over.
    ///
    /// # Errors
    /// `EPERM` when the directory is not in a bpffs; `EEXIST` when the name is taken.
    pub fn pin(&self, path: impl AsRef<Path>) -> Result<()> {
        object::pin(self.as_fd(), object::From::Here, path.as_ref())
            .map_err(|failed| self.failed(failed))
    }

    /// Leaves it registered when this process ends.
    pub fn leak(mut self) {
        self.is_kept = true;
    }

    /// Unregisters it now, and says whether that went well. Dropping does the same in silence.
    ///
    /// # Errors
    /// `EINPROGRESS` when that was done already, and it is still in use.
    pub fn unregister(mut self) -> Result<()> {
        self.is_kept = true;
        self.map
            .delete(&[0; 4])
            .map_err(|failed| self.failed(failed))
    }

    fn failed(&self, failed: Failed) -> Error {
        Error::call(failed, "struct_ops", self.label.clone())
    }
}

/// How a structure stands, by its map.
fn state(map: &Map, at: usize) -> std::result::Result<OpsState, Failed> {
    let mut value = vec![0; map.facts().stride];
    map.lookup(&[0; 4], &mut value, 0)?;
    let bytes = value
        .get(at..at + 4)
        .and_then(|bytes| bytes.try_into().ok());
    Ok(OpsState(bytes.map_or(u32::MAX, u32::from_ne_bytes)))
}

impl Drop for Registered {
    fn drop(&mut self) {
        if !self.is_kept {
            // Nobody is there to hear of a failure; `unregister` tells it.
            let _ = self.map.delete(&[0; 4]);
        }
    }
}

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registered({})", self.label)
    }
}
