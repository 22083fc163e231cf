//! What files hold: where their functions lie, which a uprobe must know, and the types that they bring.
//!
//! The kernel puts uprobes at offsets in a file, not at addresses or names.

use crate::error::{Error, Result};
use crate::near::Nearest;
use object::read::ReadCache;
use object::{Object, ObjectSegment, ObjectSymbol, SegmentFlags, SymbolKind};
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

mod types;

pub use types::Types;

/// The functions of a program or library.
#[derive(Debug)]
pub struct Elf {
    path: PathBuf,
    code: Vec<Segment>,
    symbols: HashMap<String, Symbol>,
}

/// A function, as a uprobe sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Where it starts in the file.
    pub offset: u64,
    /// Its address, as the file has it.
    pub address: u64,
    /// Its length in bytes, 0 if the file does not say.
    pub size: u64,
}

/// A part of the file that becomes executable memory.
#[derive(Clone, Copy, Debug)]
struct Segment {
    address: u64,
    offset: u64,
    size: u64,
}

impl Segment {
    fn offset_of(&self, address: u64) -> Option<u64> {
        let inside = address.checked_sub(self.address)?;
        (inside < self.size).then(|| self.offset.checked_add(inside))?
    }
}

const PF_X: u32 = 1;

impl Elf {
    /// Reads the symbols of a file.
    ///
    /// # Errors
    /// When it cannot be read, or is no ELF file.
    pub fn open(path: impl Into<PathBuf>) -> Result<Elf> {
        let path = path.into();
        let file = File::open(&path)
            .map_err(|error| Error::io("open", "file", path.display().to_string(), &error))?;
        let cache = ReadCache::new(file);
        let problem = |error: object::Error| Error::File {
            path: path.clone(),
            problem: format!("no ELF file: {error}"),
        };
        let parsed = object::File::parse(&cache).map_err(problem)?;
        let code: Vec<Segment> = parsed.segments().filter_map(|s| executable(&s)).collect();
        let mut symbols = HashMap::new();
        // What other files may call wins over a static function of the same name.
        for symbol in parsed.dynamic_symbols().chain(parsed.symbols()) {
            if symbol.kind() != SymbolKind::Text || !symbol.is_definition() {
                continue;
            }
            let (Ok(name), address) = (symbol.name(), symbol.address()) else {
                continue;
            };
            let Some(offset) = code.iter().find_map(|part| part.offset_of(address)) else {
                continue;
            };
            let found = Symbol {
                offset,
                address,
                size: symbol.size(),
            };
            if symbol.is_global() || !symbols.contains_key(name) {
                symbols.insert(name.to_owned(), found);
            }
        }
        Ok(Elf {
            path,
            code,
            symbols,
        })
    }

    /// Where it was read from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A function by its name in the file, which for C++ and Rust is the mangled one.
    ///
    /// # Errors
    /// When there is none, with the names that look like it.
    pub fn find(&self, name: &str) -> Result<Symbol> {
        self.symbols.get(name).copied().ok_or_else(|| {
            let mut nearest = Nearest::to(name);
            self.symbols.keys().for_each(|known| nearest.see(known));
            let near = match nearest.names() {
                names if names.is_empty() && self.symbols.is_empty() => {
                    "the file was stripped: give an offset".to_owned()
                }
                names if names.is_empty() => {
                    "`nm` and `nm -D` list the names that it has".to_owned()
                }
                names => format!("near: {}", names.join(", ")),
            };
            Error::File {
                path: self.path.clone(),
                problem: format!("no function \"{name}\" ({near})"),
            }
        })
    }

    /// All functions, in no order.
    pub fn symbols(&self) -> impl Iterator<Item = (&str, Symbol)> {
        self.symbols
            .iter()
            .map(|(name, symbol)| (name.as_str(), *symbol))
    }

    /// Functions whose name fits a pattern, in which `*` stands for any text, ordered by name.
    #[must_use]
    pub fn matching(&self, pattern: &str) -> Vec<(&str, Symbol)> {
        let mut found: Vec<_> = self
            .symbols()
            .filter(|(name, _)| fits(pattern, name))
            .collect();
        found.sort_unstable_by_key(|(name, _)| *name);
        found
    }

    /// The place in the file of an address, as the file has it.
    ///
    /// # Errors
    /// When it is not the address of code.
    pub fn offset(&self, address: u64) -> Result<u64> {
        let found = self.code.iter().find_map(|part| part.offset_of(address));
        found.ok_or_else(|| Error::File {
            path: self.path.clone(),
            problem: format!("has no code at address {address:#x}"),
        })
    }
}

fn executable<'data>(segment: &impl ObjectSegment<'data>) -> Option<Segment> {
    let (offset, size) = segment.file_range();
    match segment.flags() {
        SegmentFlags::Elf { p_flags } if p_flags & PF_X != 0 => Some(Segment {
            address: segment.address(),
            offset,
            size,
        }),
        _ => None,
    }
}

/// Whether a name fits a pattern, in which `*` stands for any text.
pub(crate) fn fits(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(mut name) = name.strip_prefix(head) else {
        return false;
    };
    let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*').filter(|part| !part.is_empty()) {
        match name.split_once(part) {
            Some((_, behind)) => name = behind,
            None => return false,
        }
    }
    name.ends_with(tail)
}

/// Where the loader of programs looks, after what the process has mapped.
const LIBRARIES: &[&str] = &[
    #[cfg(target_arch = "x86_64")]
    "/lib/x86_64-linux-gnu",
    #[cfg(target_arch = "x86_64")]
    "/usr/lib/x86_64-linux-gnu",
    #[cfg(target_arch = "aarch64")]
    "/lib/aarch64-linux-gnu",
    #[cfg(target_arch = "aarch64")]
    "/usr/lib/aarch64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
    "/usr/local/lib",
];

/// The file of a library: `libc`, `libc.so.6` or a path. Looks at what this process has mapped,
/// then at `LD_LIBRARY_PATH` and the usual directories.
///
/// # Errors
/// When there is no such file.
pub fn library(name: &str) -> Result<PathBuf> {
    library_of(std::process::id(), name)
}

/// The file of a library as another process sees it, if it has mapped it; else as [`library`].
///
/// # Errors
/// When there is no such file.
pub fn library_of(pid: u32, name: &str) -> Result<PathBuf> {
    if name.contains('/') {
        return Ok(PathBuf::from(name));
    }
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).map_err(|error| {
        let object = format!("/proc/{pid}/maps");
        Error::io("open", "file", object, &error)
    })?;
    if let Some(path) = maps.lines().filter_map(mapped).find(|path| is(path, name)) {
        // Another process may live in another root directory.
        let root = PathBuf::from(format!("/proc/{pid}/root"));
        return Ok(match pid == std::process::id() {
            true => path.to_owned(),
            false => root.join(path.strip_prefix("/").unwrap_or(path)),
        });
    }
    let given = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let given: Vec<PathBuf> = std::env::split_paths(&given).collect();
    let usual = LIBRARIES.iter().map(PathBuf::from);
    let found = given.into_iter().chain(usual).find_map(|dir| {
        let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
            .ok()?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| is(path, name))
            .collect();
        files.sort_unstable();
        files.into_iter().next()
    });
    found.ok_or_else(|| Error::File {
        path: PathBuf::from(name),
        problem: "no library of this name is mapped, or lies in LD_LIBRARY_PATH or the usual \
                  directories (give its path)"
            .to_owned(),
    })
}

/// The file behind a line of `/proc/PID/maps`.
fn mapped(line: &str) -> Option<&Path> {
    let start = line.find('/')?;
    let path = &line[start..];
    (!path.ends_with(" (deleted)")).then(|| Path::new(path))
}

/// Whether a file is the library: `libc` is `libc.so`, `libc.so.6` and `libc-2.31.so`.
fn is(path: &Path, name: &str) -> bool {
    let Some(file) = path.file_name().and_then(|file| file.to_str()) else {
        return false;
    };
    if file == name {
        return true;
    }
    match file.strip_prefix(name) {
        Some(rest) if name.contains(".so") => rest.starts_with('.'),
        Some(rest) => rest.starts_with(".so") || (rest.starts_with('-') && rest.ends_with(".so")),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{Elf, Segment, fits, is, mapped};
    use std::path::Path;

    #[test]
    fn patterns() {
        for (pattern, name, wanted) in [
            ("vfs_read", "vfs_read", true),
            ("vfs_read", "vfs_readv", false),
            ("vfs_*", "vfs_read", true),
            ("*read", "vfs_read", true),
            ("*", "", true),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "a1c2b", false),
            ("a*a", "a", false),
            ("*x*", "axb", true),
            ("a**b", "ab", true),
            ("a*bc*c", "abc", false),
        ] {
            assert_eq!(fits(pattern, name), wanted, "{pattern} {name}");
        }
    }

    #[test]
    fn libraries_have_many_names() {
        for (file, name, wanted) in [
            ("/lib/libc.so.6", "libc.so.6", true),
            ("/lib/libc.so.6", "libc", true),
            ("/lib/libc.so.6", "libc.so", true),
            ("/lib/libc-2.31.so", "libc", true),
            ("/lib/libcrypt.so.1", "libc", false),
            ("/lib/libc.so.60", "libc.so.6", false),
        ] {
            assert_eq!(is(Path::new(file), name), wanted, "{file} {name}");
        }
        let line = "7f00-7f01 r-xp 00026000 08:01 42    /usr/lib/a b.so";
        assert_eq!(mapped(line), Some(Path::new("/usr/lib/a b.so")));
        assert_eq!(mapped("7f00-7f01 rw-p 00000000 00:00 0"), None);
        assert_eq!(mapped("7f00-7f01 rw-p 0 00:01 1 /memfd:x (deleted)"), None);
    }

    #[test]
    fn addresses_behind_the_code_have_no_offset() {
        let part = Segment {
            address: 0x2000,
            offset: 0x1000,
            size: 0x10,
        };
        for (address, offset) in [
            (0x1fff, None),
            (0x2000, Some(0x1000)),
            (0x200f, Some(0x100f)),
            (0x2010, None),
            (u64::MAX, None),
        ] {
            assert_eq!(part.offset_of(address), offset, "{address:#x}");
        }
    }

    #[inline(never)]
    fn looked_for_by_the_test() -> u32 {
        std::hint::black_box(7)
    }

    #[test]
    fn our_own_function_is_found_and_a_wrong_name_has_neighbours() {
        assert_eq!(looked_for_by_the_test(), 7);
        let elf = Elf::open("/proc/self/exe").unwrap();
        let found = elf.matching("*looked_for_by_the_test*");
        let (name, symbol) = found[0];
        assert_eq!(elf.find(name).unwrap(), symbol);
        assert_eq!(elf.offset(symbol.address).unwrap(), symbol.offset);
        let wrong = format!("{name}x");
        let error = elf.find(&wrong).unwrap_err().to_string();
        assert!(error.contains(&format!("(near: {name}")), "{error}");
    }

    #[test]
    fn what_is_no_elf_file_is_said_to_be_none() {
        let error = Elf::open("/proc/self/status").unwrap_err().to_string();
        assert!(error.contains("no ELF file"), "{error}");
        let error = Elf::open("/nonexistent").unwrap_err().to_string();
        assert!(
            error.starts_with("open file /nonexistent: ENOENT"),
            "{error}"
        );
    }
}
