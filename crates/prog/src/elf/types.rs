//! The types that a file brings along.

use crate::error::{Error, Result};
use object::{Object, ObjectSection};
use std::path::Path;

/// The BTF in a file: of a program that clang compiled, of a kernel or module, or the file is BTF and
/// nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Types {
    /// The types: what [`Btf::parse`](bpfsmith_btf::Btf::parse) takes.
    pub types: Vec<u8>,
    /// What a module brings along of the kernel's types, so that it fits other builds too.
    pub base: Option<Vec<u8>>,
    /// Functions, lines and relocations of a program that clang compiled: what
    /// [`Ext::parse`](bpfsmith_btf::Ext::parse) takes.
    pub records: Option<Vec<u8>>,
}

impl Types {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, or is an ELF file that is damaged or has no types.
    pub fn open(path: impl AsRef<Path>) -> Result<Types> {
        let path = path.as_ref();
        let bytes = std::fs::read(path)
            .map_err(|error| Error::io("read", "file", path.display().to_string(), &error))?;
        let wrong = |problem: String| Error::File {
            path: path.to_owned(),
            problem,
        };
        if !bytes.starts_with(b"\x7fELF") {
            return Ok(Types {
                types: bytes,
                base: None,
                records: None,
            });
        }
        let broken =
            |error: object::Error| wrong(format!("no whole ELF file ({error}): was it cut off?"));
        let elf = object::File::parse(&*bytes).map_err(broken)?;
        let section = |name| {
            let found = elf.section_by_name(name);
            let bytes = found.map(|section| section.data().map(<[u8]>::to_vec));
            bytes.transpose().map_err(broken)
        };
        let Some(types) = section(".BTF")? else {
            return Err(wrong(
                "no section .BTF: compile with -g for the target bpf, or add types with pahole -J"
                    .to_owned(),
            ));
        };
        Ok(Types {
            types,
            base: section(".BTF.base")?,
            records: section(".BTF.ext")?,
        })
    }
}
