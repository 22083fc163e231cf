//! Where types come from: the running kernel, its modules, its memory, files.

use crate::args::btf::{Origin, Place};
use crate::{Failure, kernel, visible};
use bpfsmith_btf::{Btf, Error};
use bpfsmith_prog::elf::Types;
use bpfsmith_prog::{kernel as running, list};
use std::path::Path;
use std::sync::Arc;

/// Bytes of BTF: those that the process has anyway, or a copy of its own.
pub(super) enum Bytes {
    Kernel(&'static [u8]),
    Own(Vec<u8>),
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        match self {
            Bytes::Kernel(bytes) => bytes,
            Bytes::Own(bytes) => bytes,
        }
    }
}

/// Types, and what to call the place that they come from.
pub(super) struct Source {
    pub(super) btf: Btf<Bytes>,
    pub(super) name: String,
    /// Why the kernel's types were copied instead of mapped, if they were.
    pub(super) copied: Option<String>,
}

const MODULES: &str = "/sys/kernel/btf";

impl Source {
    pub(super) fn open(origin: &Origin) -> Result<Source, Failure> {
        let name = name(&origin.place);
        let mut copied = None;
        let mut base = || -> Result<Arc<Btf<Bytes>>, Failure> {
            if let Some(path) = &origin.base {
                let name = visible(&path.to_string_lossy());
                let file = Types::open(path).map_err(|error| kernel(&error))?;
                return parse_base(file.types, &name);
            }
            let (btf, why) = own_kernel()?;
            copied = why;
            Ok(Arc::new(btf))
        };
        let btf = match &origin.place {
            Place::Kernel => {
                let (btf, why) = own_kernel()?;
                copied = why;
                btf
            }
            Place::Module(module) => {
                let bytes = std::fs::read(Path::new(MODULES).join(module))
                    .map_err(|error| no_module(module, &error))?;
                let btf = Btf::parse_split(Bytes::Own(bytes), base()?);
                btf.map_err(|error| unreadable(&name, &error))?
            }
            Place::Id(id) => {
                let btf = list::btf(*id).map_err(|error| no_id(&error))?;
                let btf = Btf::parse(Bytes::Own(btf.as_bytes().to_vec()));
                btf.map_err(|error| unreadable(&name, &error))?
            }
            Place::File(path) => {
                let file = Types::open(path).map_err(|error| kernel(&error))?;
                let base = match (file.base, &origin.base) {
                    (Some(_), Some(_)) => return Err(own_base(&name)),
                    (Some(own), None) => Some(parse_base(own, &name)?),
                    (None, Some(_)) => Some(base()?),
                    (None, None) => None,
                };
                let bytes = Bytes::Own(file.types);
                let btf = match base {
                    Some(base) => Btf::parse_split(bytes, base),
                    None => Btf::parse(bytes),
                };
                btf.map_err(|error| unreadable(&name, &error))?
            }
        };
        Ok(Source { btf, name, copied })
    }

    /// What has to be told about the way in which the types were come by.
    pub(super) fn note(&self) -> Option<String> {
        let why = self.copied.as_ref()?;
        Some(format!(
            "note: the kernel's types were copied, because it would not map them ({why}): Linux \
             6.16 does"
        ))
    }
}

/// What messages call a place.
fn name(place: &Place) -> String {
    match place {
        Place::Kernel => "the kernel".to_owned(),
        Place::Module(name) => format!("module {name}"),
        Place::Id(id) => format!("BTF {id}"),
        Place::File(path) => visible(&path.to_string_lossy()),
    }
}

fn own_kernel() -> Result<(Btf<Bytes>, Option<String>), Failure> {
    let btf = running::btf().map_err(|error| kernel(&error))?;
    let copied = running::copied().map_err(|error| kernel(&error))?;
    let btf = Btf::parse(Bytes::Kernel(btf.as_bytes()));
    let btf = btf.map_err(|error| unreadable(running::PATH, &error))?;
    Ok((btf, copied.map(|errno| errno.to_string())))
}

fn parse_base(bytes: Vec<u8>, name: &str) -> Result<Arc<Btf<Bytes>>, Failure> {
    let btf = Btf::parse(Bytes::Own(bytes));
    btf.map(Arc::new).map_err(|error| unreadable(name, &error))
}

fn own_base(name: &str) -> Failure {
    Failure::Failed(format!(
        "{name} brings the types that it continues, in .BTF.base: leave out --base"
    ))
}

fn no_id(error: &dyn std::fmt::Display) -> Failure {
    let error = visible(&error.to_string());
    Failure::Failed(format!(
        "{error}: `bpfsmith maps` and `bpfsmith progs` show the numbers of theirs, as root"
    ))
}

fn unreadable(name: &str, error: &Error) -> Failure {
    let hint = match error {
        Error::Strings(_) | Error::NoType(_) | Error::NameOutside { .. } => {
            "types of a module continue the kernel's: name these with --base"
        }
        Error::NotBtf { .. } | Error::TooShort { .. } => {
            "name a file of BTF, such as /sys/kernel/btf/vmlinux, or an ELF file with some"
        }
        other => other.hint().unwrap_or("the file is damaged: make it again"),
    };
    Failure::Failed(format!("{name}: {}: {hint}", visible(&error.to_string())))
}

fn no_module(module: &str, error: &std::io::Error) -> Failure {
    let listed = std::fs::read_dir(MODULES);
    let mut names: Vec<String> = listed
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name != "vmlinux")
        .collect();
    names.sort_unstable();
    let hint = match names.len() {
        0 => "no module with types is loaded; what is built in is part of the kernel's own".into(),
        _ => format!("loaded with types are {}", visible(&names.join(", "))),
    };
    Failure::Failed(format!("module {module}: {error}: {hint}"))
}
