//! The types of the modules that are loaded.

use super::{Bytes, base};
use crate::error::{Error, Result};
use bpfsmith_btf::Btf;
use bpfsmith_sys::object::{Kind, next_id, open_id};
use bpfsmith_sys::{Failed, info};
use bpfsmith_uapi::Errno;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

/// A module that is loaded, with its types. They continue the kernel's own.
#[derive(Debug)]
pub struct Module {
    id: u32,
    name: String,
    btf: Btf<Bytes>,
}

impl Module {
    /// The number of its BTF. A module that is loaded again has another.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Its name: `nf_conntrack`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its types. What it shares with the kernel is in the base.
    #[must_use]
    pub fn btf(&self) -> &Btf<Bytes> {
        &self.btf
    }

    /// An fd of its BTF, by which loading refers to the module.
    pub(crate) fn open(&self) -> Result<OwnedFd> {
        open_id(Kind::Btf, self.id, 0, None)
            .map_err(|failed| Error::call(failed, "module", format!("\"{}\"", self.name)))
    }
}

/// Whether the modules are not shown to this process, or by this kernel.
pub(super) fn is_unseen(error: &Error) -> bool {
    matches!(error.errno(), Some(Errno::EPERM | Errno::EINVAL))
}

/// The modules. Who may not see them works with the kernel alone.
pub(crate) fn visible() -> Result<Vec<Arc<Module>>> {
    match modules() {
        Err(error) if is_unseen(&error) => Ok(Vec::new()),
        modules => modules,
    }
}

/// What is behind a number of BTF: once known, it need not be asked again, because numbers are not
/// used twice.
#[derive(Clone, Debug)]
enum Known {
    Module(Arc<Module>),
    /// The kernel's own, or a program's.
    Other,
}

/// The modules that are loaded and have types, in the order in which they were loaded. What was
/// read is kept as long as the module stays. Linux 5.11.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`; as for [`btf`](super::btf); when a module's types cannot be
/// read.
pub fn modules() -> Result<Vec<Arc<Module>>> {
    static KNOWN: Mutex<BTreeMap<u32, Known>> = Mutex::new(BTreeMap::new());
    let failed = |failed: Failed| Error::call(failed, "list", "modules");
    // Behind the lock is a whole map at any time: it is exchanged at the end.
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut loaded = BTreeMap::new();
    let mut id = 0;
    loop {
        id = match next_id(Kind::Btf, id) {
            Ok(next) => next,
            Err(end) if end.errno == Errno::ENOENT => break,
            Err(other) => return Err(failed(other)),
        };
        let entry = match known.get(&id) {
            Some(entry) => entry.clone(),
            None => match read(id)? {
                Some(entry) => entry,
                None => continue,
            },
        };
        loaded.insert(id, entry);
    }
    known.clone_from(&loaded);
    let modules = loaded.into_values().filter_map(|entry| match entry {
        Known::Module(module) => Some(module),
        Known::Other => None,
    });
    Ok(modules.collect())
}

/// What is behind a number; nothing if it is gone.
fn read(id: u32) -> Result<Option<Known>> {
    let failed = |failed: Failed| Error::call(failed, "BTF", format!("id {id}"));
    let fd = match open_id(Kind::Btf, id, 0, None) {
        Ok(fd) => fd,
        Err(gone) if gone.errno == Errno::ENOENT => return Ok(None),
        Err(other) => return Err(failed(other)),
    };
    let (about, name) = info::btf(fd.as_fd()).map_err(failed)?;
    if about.kernel_btf == 0 || name == "vmlinux" {
        return Ok(Some(Known::Other));
    }
    let bytes = Bytes::Module(info::btf_bytes(fd.as_fd()).map_err(failed)?);
    let btf = Btf::parse_split(bytes, base()?).map_err(|cause| Error::Btf {
        wanted: format!("types of module {name}"),
        cause,
    })?;
    Ok(Some(Known::Module(Arc::new(Module { id, name, btf }))))
}
