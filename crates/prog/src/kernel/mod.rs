//! What the running kernel and its modules have, by name: types, functions, variables, addresses.

use crate::error::{Error, Result};
use crate::near::Nearest;
use bpfsmith_btf::{Btf, Kind, TypeId};
use bpfsmith_sys::mmap::KernelBtf;
use bpfsmith_uapi::Errno;
use std::sync::{Arc, OnceLock};

pub(crate) mod answer;
mod arguments;
mod constants;
mod fields;
mod module;
mod named;

pub use crate::ksyms::address;
pub(crate) use module::visible;
pub use module::{Module, modules};
pub(crate) use named::Wanted;
pub use named::{Named, function, variable};

/// Where the kernel shows it. Linux 5.4.
pub const PATH: &str = "/sys/kernel/btf/vmlinux";

/// The bytes of the kernel's BTF, or of a module's.
#[derive(Debug)]
pub enum Bytes {
    /// They lie in the kernel's memory: it is mapped, which takes microseconds. Linux 6.16.
    Mapped(KernelBtf),
    /// They were copied, which takes milliseconds and as much memory, because the kernel would not
    /// map them for this reason.
    Copied(Vec<u8>, Errno),
    /// They are a module's, copied by its number: a file of its name could be that of another
    /// module by then, and cannot be mapped either.
    Module(Vec<u8>),
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        match self {
            Bytes::Mapped(mapped) => mapped,
            Bytes::Copied(copied, _) | Bytes::Module(copied) => copied,
        }
    }
}

/// The BTF of the running kernel, and how it was come by.
#[derive(Debug)]
struct Found {
    btf: Arc<Btf<Bytes>>,
    copied: Option<Errno>,
}

fn found() -> Result<&'static Found> {
    static FOUND: OnceLock<Found> = OnceLock::new();
    if let Some(found) = FOUND.get() {
        return Ok(found);
    }
    let (bytes, copied) = match KernelBtf::open("vmlinux") {
        Ok(mapped) => (Bytes::Mapped(mapped), None),
        Err(refused) => {
            let copied = std::fs::read(PATH)
                .map_err(|error| Error::io("open", "kernel BTF", PATH, &error))?;
            (Bytes::Copied(copied, refused.errno), Some(refused.errno))
        }
    };
    let btf = Btf::parse(bytes).map_err(|cause| Error::Btf {
        wanted: PATH.to_owned(),
        cause,
    })?;
    let btf = Arc::new(btf);
    Ok(FOUND.get_or_init(|| Found { btf, copied }))
}

/// The BTF of the running kernel.
///
/// # Errors
/// When the kernel was built without `CONFIG_DEBUG_INFO_BTF`, or `/sys` is not mounted.
pub fn btf() -> Result<&'static Btf<Bytes>> {
    found().map(|found| found.btf.as_ref())
}

/// The same, for what is built on top of it.
fn base() -> Result<Arc<Btf<Bytes>>> {
    found().map(|found| Arc::clone(&found.btf))
}

/// Why the kernel's BTF was copied instead of mapped, if it was.
///
/// # Errors
/// As for [`btf`].
pub fn copied() -> Result<Option<Errno>> {
    found().map(|found| found.copied)
}

/// The id of a type that has to exist in the kernel itself.
pub(crate) fn find(
    what: &'static str,
    name: &str,
    kind: Kind,
    hint: &'static str,
) -> Result<TypeId> {
    btf()?.find(name, kind).ok_or_else(|| Error::Unknown {
        what,
        name: name.to_owned(),
        near: near(name, kind),
        hint,
    })
}

/// The id of a hook, whose name has this prefix in the kernel's BTF, and in errors has not.
pub(crate) fn find_hook(
    what: &'static str,
    prefix: &str,
    name: &str,
    kind: Kind,
    hint: &'static str,
) -> Result<TypeId> {
    let found = find(what, &format!("{prefix}{name}"), kind, hint);
    found.map_err(|error| match error {
        Error::Unknown {
            what, near, hint, ..
        } => Error::Unknown {
            what,
            name: name.to_owned(),
            near: near
                .iter()
                .filter_map(|near| near.strip_prefix(prefix))
                .map(str::to_owned)
                .collect(),
            hint,
        },
        error => error,
    })
}

/// Names of the kernel's types of this kind that look like it.
fn near(name: &str, kind: Kind) -> Vec<String> {
    let mut nearest = Nearest::to(name);
    if let Ok(btf) = btf() {
        see(&mut nearest, btf, kind);
    }
    nearest.names()
}

/// Looks at all names of this kind.
fn see(nearest: &mut Nearest<'_>, btf: &Btf<Bytes>, kind: Kind) {
    let types = btf.types().filter(|ty| ty.kind() == kind);
    types.for_each(|ty| nearest.see(&ty.name().to_string()));
}
