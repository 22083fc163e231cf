//! Which modules the tests need, and in which order they are loaded.
//!
//! The package holds no list of dependencies: that is made when it is installed. Each module names
//! its own.

use crate::error::output;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What tests use and the kernel would load on demand, if there were something to load it. A name
/// that the kernel has built in, or does not have, is passed over.
pub(super) const WANTED: &[&str] = &[
    // Its users ask for the checksum by another name.
    "crc32c_generic",
    "af_packet",
    "unix_diag",
    "veth",
    "bridge",
    "vxlan",
    "macvlan",
    "dummy",
    "ifb",
    "tun",
    "sch_ingress",
    "sch_tbf",
    "cls_bpf",
    "act_bpf",
    "nf_tables",
    "nft_ct",
    "nft_chain_nat",
    "nft_nat",
    "nf_defrag_ipv4",
    "nf_defrag_ipv6",
    "nf_conntrack",
    "vsock_loopback",
];

/// A module: its name, its bytes, the names of those it needs.
struct Module {
    name: String,
    bytes: Vec<u8>,
    needs: Vec<String>,
}

/// Finds the wanted modules below a directory, with all they need, and writes them unpacked into
/// another, named so that the order of the names is the order of loading.
pub(super) fn unpack(from: &Path, to: &Path) -> Result<()> {
    let mut files = BTreeMap::new();
    index(from, &mut files)?;
    let mut loaded: Vec<Module> = Vec::new();
    for name in WANTED {
        load(name, &files, &mut loaded)?;
    }
    for (number, module) in loaded.iter().enumerate() {
        let path = to.join(format!("{number:03}-{}.ko", module.name));
        fs::write(&path, &module.bytes).map_err(Error::file(&path))?;
    }
    Ok(())
}

/// Reads a module behind those that it needs. The kernel's modules have no circles.
fn load(name: &str, files: &BTreeMap<String, PathBuf>, loaded: &mut Vec<Module>) -> Result<()> {
    let known = loaded.iter().any(|module| module.name == name);
    let Some(path) = files.get(name).filter(|_| !known) else {
        return Ok(());
    };
    let bytes = read(path)?;
    let needs = needs(&bytes);
    for need in &needs {
        load(need, files, loaded)?;
    }
    let name = name.to_owned();
    loaded.push(Module { name, bytes, needs });
    debug_assert!(sorted(loaded), "a circle of modules");
    Ok(())
}

/// True if each module stands behind those that it needs, as far as they are modules.
fn sorted(modules: &[Module]) -> bool {
    let later = |at: usize, need: &String| modules[at..].iter().any(|module| module.name == *need);
    (0..modules.len()).all(|at| !modules[at].needs.iter().any(|need| later(at, need)))
}

/// The files of modules by the modules' names, which have no dashes.
fn index(dir: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::file(dir))? {
        let path = entry.map_err(Error::file(dir))?.path();
        if path.is_dir() {
            index(&path, files)?;
        } else if let Some(name) = name(&path) {
            files.insert(name, path);
        }
    }
    Ok(())
}

fn name(path: &Path) -> Option<String> {
    let (name, kind) = path.file_name()?.to_str()?.split_once('.')?;
    matches!(kind, "ko" | "ko.xz").then(|| name.replace('-', "_"))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_some_and(|kind| kind == "xz") {
        return Ok(output(Command::new("xz").arg("-dc").arg(path))?.stdout);
    }
    fs::read(path).map_err(Error::file(path))
}

/// The names behind `depends=` among a module's facts, which are strings that end with a zero.
fn needs(bytes: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = bytes.windows(KEY.len()).position(|bytes| bytes == KEY) else {
        return Vec::new();
    };
    let value = &bytes[at + KEY.len()..];
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(0);
    String::from_utf8_lossy(&value[..end])
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_names_what_it_needs() {
        let check = |bytes: &[u8], expected: &[&str]| assert_eq!(needs(bytes), expected);
        check(
            b"\x7fELF\0license=GPL\0depends=nfnetlink,lib-crc32c\0name=nf_tables\0",
            &["nfnetlink", "lib_crc32c"],
        );
        check(b"license=GPL\0depends=\0name=veth\0", &[]);
        check(b"no such fact", &[]);
        check(b"\0depends=cut off", &[]);
    }

    #[test]
    fn a_file_is_a_module_by_its_ending() {
        let check = |path: &str, expected: Option<&str>| {
            assert_eq!(name(Path::new(path)).as_deref(), expected, "{path}");
        };
        check("kernel/net/sched/cls_bpf.ko", Some("cls_bpf"));
        check("kernel/drivers/net/ip-gre.ko.xz", Some("ip_gre"));
        check("modules.builtin", None);
        check("kernel", None);
    }

    #[test]
    fn modules_come_behind_what_they_need() {
        let dir = std::env::temp_dir().join(format!("bs-vm-modules-{}", std::process::id()));
        let (from, to) = (dir.join("from/kernel"), dir.join("to"));
        fs::create_dir_all(&from).unwrap();
        fs::create_dir_all(&to).unwrap();
        let module = |name: &str, needs: &str| {
            let facts = format!("x\0depends={needs}\0");
            fs::write(from.join(format!("{name}.ko")), facts).unwrap();
        };
        module("bridge", "stp,llc");
        module("stp", "llc");
        module("llc", "");
        module("unwanted", "");
        module("vxlan", "udp-tunnel,built_in");
        module("udp-tunnel", "");
        unpack(&dir.join("from"), &to).unwrap();
        let mut names: Vec<String> = fs::read_dir(&to)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        fs::remove_dir_all(&dir).unwrap();
        names.sort();
        assert_eq!(
            names,
            [
                "000-llc.ko",
                "001-stp.ko",
                "002-bridge.ko",
                "003-udp_tunnel.ko",
                "004-vxlan.ko",
            ]
        );
    }
}
