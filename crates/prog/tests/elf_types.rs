//! The types in files: those that a compiler wrote, and what is no such file.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use bpfsmith_btf::{Btf, Ext};
use bpfsmith_gate::needs;
use bpfsmith_prog::elf::Types;
use std::path::PathBuf;
use std::process::Command;

/// A file that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, bytes: &[u8]) -> Scratch {
        let path = std::env::temp_dir().join(format!("bs-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_compiled_program_brings_types_and_records() {
    needs!(Llvm);
    let source = Scratch::new(
        "count.ll",
        include_bytes!("../../btf/tests/fixtures/count.ll"),
    );
    for arch in ["bpfel", "bpfeb"] {
        let object = Scratch::new(arch, b"");
        let status = Command::new("llc-19")
            .args([
                &format!("-march={arch}"),
                "-filetype=obj",
                "-o",
            ])
            .args([&object.0, &source.0])
            .status()
            .unwrap();
        assert!(status.success());
        let file = Types::open(&object.0).unwrap();
        assert_eq!(file.base, None);
        let btf = Btf::parse(file.types).unwrap();
        let records = Ext::parse(file.records.unwrap()).unwrap();
        assert_eq!(btf.order(), records.order());
        for func in records.funcs() {
            assert!(btf.get(func.func).is_some(), "{func:?}");
        }
        assert!(records.funcs().count() > 0 && records.lines().count() > 0);
    }
}

#[test]
fn bare_types_are_a_file_too() {
    needs!(Btf);
    let path = "/sys/kernel/btf/vmlinux";
    let file = Types::open(path).unwrap();
    assert_eq!(file.types, std::fs::read(path).unwrap());
    assert_eq!((file.base, file.records), (None, None));
}

#[test]
fn what_is_no_such_file_is_said() {
    let missing = Types::open("/nowhere/at/all").unwrap_err().to_string();
    assert!(
        missing.starts_with("read file /nowhere/at/all: ENOENT (name a file of BTF"),
        "{missing}"
    );
    let cut = Scratch::new("cut", b"\x7fELF\x02\x01\x01");
    let error = Types::open(&cut.0).unwrap_err().to_string();
    assert!(
        error.contains("no whole ELF file") && error.ends_with("was it cut off?"),
        "{error}"
    );
    let own = Types::open("/proc/self/exe").unwrap_err().to_string();
    assert!(own.contains("no section .BTF: compile with -g"), "{own}");
}
