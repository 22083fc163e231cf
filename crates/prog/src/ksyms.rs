//! Names and addresses of everything in the kernel and its modules, also of what BTF does not
//! describe.

use crate::error::{Error, Kernel, Result};
use crate::near::Nearest;
use bpfsmith_uapi::Errno;
use std::collections::HashSet;

const PATH: &str = "/proc/kallsyms";

/// A line of the list: `address kind name [module]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Symbol<'a> {
    address: u64,
    kind: &'a str,
    name: &'a str,
    module: Option<&'a str>,
}

impl<'a> Symbol<'a> {
    fn parse(line: &'a str) -> Option<Symbol<'a>> {
        let mut words = line.split_whitespace();
        let address = u64::from_str_radix(words.next()?, 16).ok()?;
        let (kind, name) = (words.next()?, words.next()?);
        let module = words
            .next()
            .and_then(|word| word.strip_prefix('[')?.strip_suffix(']'));
        Some(Symbol {
            address,
            kind,
            name,
            module,
        })
    }

    fn is_code(&self) -> bool {
        matches!(self.kind, "t" | "T" | "w" | "W")
    }

    /// Whether it is meant by `name` or `module:name`.
    fn is(&self, wanted: &str) -> bool {
        match wanted.split_once(':') {
            Some((module, name)) => self.module.unwrap_or("vmlinux") == module && self.name == name,
            None => self.name == wanted,
        }
    }
}

fn symbols(text: &str) -> impl Iterator<Item = Symbol<'_>> {
    text.lines().filter_map(Symbol::parse)
}

/// An error for the first name that no kernel function has; none if all exist, or nobody knows.
/// Names are `name` or `module:name`.
pub(crate) fn missing<'a>(wanted: impl IntoIterator<Item = &'a str>) -> Option<Error> {
    let text = std::fs::read_to_string(PATH).ok();
    let text = text.filter(|text| !text.is_empty())?;
    let code = || symbols(&text).filter(Symbol::is_code);
    let known: HashSet<&str> = code().map(|symbol| symbol.name).collect();
    let missing = wanted.into_iter().find(|name| match name.contains(':') {
        true => !code().any(|symbol| symbol.is(name)),
        false => !known.contains(name),
    })?;
    let mut nearest = Nearest::to(missing.rsplit(':').next().unwrap_or(missing));
    known.iter().for_each(|name| nearest.see(name));
    Some(Error::Unknown {
        what: "function",
        name: missing.to_owned(),
        near: nearest.names(),
        hint: "`/proc/kallsyms` lists them; the compiler may have inlined it",
    })
}

/// The address of a kernel symbol, with types or without: `name`, or `module:name` for that
/// module's alone and `vmlinux:name` for the kernel's own.
///
/// A program reads what is there with `probe_read_kernel`. It is given the address as a constant,
/// by [`Load::set`](crate::Load::set); addresses are others after each boot.
///
/// # Errors
/// `EPERM` where the kernel hides its addresses from this user; [`Error::Unknown`] when there is no
/// such symbol; [`Error::Argument`] when several have the name.
pub fn address(name: &str) -> Result<u64> {
    let text = std::fs::read_to_string(PATH)
        .map_err(|error| Error::io("open", "kernel symbol", PATH, &error))?;
    address_in(&text, name)
}

fn address_in(text: &str, name: &str) -> Result<u64> {
    let mut found: Vec<Symbol<'_>> = symbols(text).filter(|symbol| symbol.is(name)).collect();
    found.sort_unstable_by_key(|symbol| symbol.address);
    found.dedup_by_key(|symbol| symbol.address);
    match found.as_slice() {
        // The first of the per-CPU variables really is at 0.
        [Symbol { address: 0, .. }] if symbols(text).all(|symbol| symbol.address == 0) => {
            Err(Error::Kernel(Kernel {
                call: format!("read {PATH}"),
                kind: "kernel symbol",
                object: format!("\"{name}\""),
                errno: Errno::EPERM,
            }))
        }
        [symbol] => Ok(symbol.address),
        [] => {
            let mut nearest = Nearest::to(name.rsplit(':').next().unwrap_or(name));
            symbols(text).for_each(|symbol| nearest.see(symbol.name));
            Err(Error::Unknown {
                what: "symbol",
                name: name.to_owned(),
                near: nearest.names(),
                hint: "`/proc/kallsyms` lists them; variables only with CONFIG_KALLSYMS_ALL",
            })
        }
        several => Err(Error::Argument {
            what: "symbol",
            problem: format!(
                "{} have the name \"{name}\"{}",
                several.len(),
                places(several)
            ),
        }),
    }
}

/// In which modules they are, if that makes a difference.
fn places(several: &[Symbol<'_>]) -> String {
    let mut modules: Vec<&str> = several
        .iter()
        .map(|symbol| symbol.module.unwrap_or("vmlinux"))
        .collect();
    modules.sort_unstable();
    modules.dedup();
    match modules.as_slice() {
        [_] => ", none of which can be told from the others".to_owned(),
        modules => format!(": write `module:name` with one of {}", modules.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::{Symbol, address_in};
    use crate::error::Error;
    use bpfsmith_uapi::Errno;

    const TEXT: &str = "\
ffffffff81000000 T vfs_read
ffffffff82000000 D jiffies
ffffffff82000000 D jiffies_64
ffffffff81000100 t init
ffffffffc0000000 t init\t[xfs]
ffffffffc0001000 t init\t[ext4]
ffffffffc0002000 t twice\t[xfs]
ffffffffc0003000 t twice\t[xfs]
";

    #[test]
    fn only_code_is_called() {
        for (line, code) in [
            ("0000000000000000 T vfs_read", Some(true)),
            ("0000000000000000 t xfs_read\t[xfs]", Some(true)),
            ("0000000000000000 D jiffies", Some(false)),
            ("nonsense", None),
            ("no address here", None),
            ("", None),
        ] {
            let is_code = Symbol::parse(line).map(|symbol| symbol.is_code());
            assert_eq!(is_code, code, "{line}");
        }
    }

    #[test]
    fn a_symbol_is_found_by_its_name_and_module() {
        for (name, address) in [
            ("jiffies", 0xffff_ffff_8200_0000),
            ("vmlinux:init", 0xffff_ffff_8100_0100),
            ("xfs:init", 0xffff_ffff_c000_0000),
            ("ext4:init", 0xffff_ffff_c000_1000),
        ] {
            assert_eq!(address_in(TEXT, name).unwrap(), address, "{name}");
        }
    }

    #[test]
    fn what_is_not_one_symbol_is_refused() {
        for (name, text) in [
            (
                "init",
                "symbol: 3 have the name \"init\": write `module:name` with one of ext4, vmlinux, xfs",
            ),
            (
                "twice",
                "symbol: 2 have the name \"twice\", none of which can be told from the others",
            ),
            (
                "jifies",
                "this kernel has no symbol \"jifies\" (near: jiffies; `/proc/kallsyms` lists them; \
                 variables only with CONFIG_KALLSYMS_ALL)",
            ),
            (
                "xfs:vfs_read",
                "this kernel has no symbol \"xfs:vfs_read\" (near: vfs_read; `/proc/kallsyms` lists \
                 them; variables only with CONFIG_KALLSYMS_ALL)",
            ),
        ] {
            assert_eq!(address_in(TEXT, name).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn hidden_addresses_are_said_to_be_hidden() {
        let hidden = "0000000000000000 T vfs_read\n0000000000000000 t vfs_read\t[x]\n";
        let error = address_in(hidden, "vfs_read").unwrap_err();
        assert!(matches!(&error, Error::Kernel(kernel) if kernel.errno == Errno::EPERM));
        assert_eq!(
            error.to_string(),
            "read /proc/kallsyms kernel symbol \"vfs_read\": EPERM (the kernel hides its addresses: \
             it shows them to CAP_SYSLOG, with sysctl kernel.kptr_restrict=1 or 0)"
        );
    }
}
