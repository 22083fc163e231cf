//! Every type of the running kernel, and one of each kind of ours, as bpftool reads them.

#[path = "support/seeds.rs"]
mod seeds;

use bpfsmith_btf::{Btf, Order};
use bpfsmith_gate::needs;
use std::process::Command;

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
    needs!(Btf, Bpftool);
    let path = "/sys/kernel/btf/vmlinux";
    let btf = Btf::parse(std::fs::read(path).expect("bytes")).expect("BTF");
    compare(&btf, &bpftool(path));
}

#[test]
fn what_we_build_reads_the_same() {
    needs!(Bpftool);
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
