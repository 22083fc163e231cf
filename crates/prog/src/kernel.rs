//! The running kernel's own BTF, read once.

use crate::error::{Error, Result};
use crate::near::Nearest;
use bpfsmith_btf::{Btf, Kind, TypeId};
use std::sync::OnceLock;

/// Where the kernel shows it. Linux 5.4.
pub const PATH: &str = "/sys/kernel/btf/vmlinux";

/// The BTF of the running kernel.
///
/// # Errors
/// When the kernel was built without `CONFIG_DEBUG_INFO_BTF`, or `/sys` is not mounted.
pub fn btf() -> Result<&'static Btf> {
    static BTF: OnceLock<Btf> = OnceLock::new();
    if let Some(btf) = BTF.get() {
        return Ok(btf);
    }
    let bytes =
        std::fs::read(PATH).map_err(|error| Error::io("open", "kernel BTF", PATH, &error))?;
    let btf = Btf::parse(bytes).map_err(|cause| Error::Btf {
        wanted: PATH.to_owned(),
        cause,
    })?;
    Ok(BTF.get_or_init(|| btf))
}

/// The id of a type that has to exist.
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

/// Names of the kernel's types of this kind that look like it.
fn near(name: &str, kind: Kind) -> Vec<String> {
    let mut nearest = Nearest::to(name);
    if let Ok(btf) = btf() {
        let types = btf.types().filter(|ty| ty.kind() == kind);
        types.for_each(|ty| nearest.see(&ty.name().to_string()));
    }
    nearest.names()
}
