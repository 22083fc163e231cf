//! Every type of the running kernel, and one of each kind of ours, as bpftool reads them.

#[path = "support/seeds.rs"]
mod seeds;

use bpfsmith_btf::{Btf, Order};
use bpfsmith_gate::needs;
use std::io::Write as _;
use std::process::Command;

/// True if bpftool is here. Says so past the capture of the test's output if not, and fails the test
/// if `BPFSMITH_STRICT` is set.
fn has_bpftool(test: &str) -> bool {
    if Command::new("bpftool").arg("version").output().is_ok() {
        return true;
    }
    let line = format!("SKIP {test}: bpftool is not installed (Debian: apt-get install bpftool)\n");
    assert!(
        std::env::var("BPFSMITH_STRICT").as_deref() != Ok("1"),
        "{line}"
    );
    if let Ok(mut to) = std::fs::OpenOptions::new().append(true).open("/dev/stderr") {
        let _ = to.write_all(line.as_bytes());
    }
    false
}

fn bpftool(path: &str) -> String {
    let run = Command::new("bpftool")
        .args(["btf", "dump", "file", path])
        .output();
    let output = run.expect("bpftool runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text")
}

/// Every line: names, numbers, places, widths of bit fields, signs, variables of sections.
fn compare(btf: &Btf, theirs: &str) {
    let ours: Vec<String> = btf
        .types()
        .map(|ty| btf.raw(ty.id()).expect("text"))
        .collect();
    let ours = ours.join("\n");
    let mut lines = ours.lines();
    for theirs in theirs.lines() {
        assert_eq!(lines.next(), Some(theirs));
    }
    assert_eq!(lines.next(), None);
}

#[test]
fn the_kernel_reads_the_same() {
    needs!(Btf);
    if !has_bpftool("bpftool::the_kernel_reads_the_same") {
        return;
    }
    let path = "/sys/kernel/btf/vmlinux";
    let btf = Btf::parse(std::fs::read(path).expect("bytes")).expect("BTF");
    compare(&btf, &bpftool(path));
}

#[test]
fn what_we_build_reads_the_same() {
    if !has_bpftool("bpftool::what_we_build_reads_the_same") {
        return;
    }
    for order in [Order::Little, Order::Big] {
        let bytes = seeds::every_kind(order);
        let name = format!("bpfsmith-btf-{}-{order:?}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, &bytes).expect("a file");
        let text = bpftool(path.to_str().expect("text"));
        std::fs::remove_file(&path).expect("the file");
        compare(&Btf::parse(bytes).expect("BTF"), &text);
    }
}
