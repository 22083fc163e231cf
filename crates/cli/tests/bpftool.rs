//! Types and values of the kernel, as bpftool shows them.

#[path = "support/json.rs"]
mod json;
#[path = "support/rich.rs"]
mod rich;

use bpfsmith_cli::{DONE, run};
use bpfsmith_gate::needs;
use json::Value;
use std::process::Command;

#[track_caller]
fn good(args: &[&str]) -> String {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let args = args.iter().map(Into::into).collect();
    let status = run(args, &mut std::io::empty(), &mut stdout, &mut stderr);
    assert_eq!(status, DONE, "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).expect("text")
}

fn bpftool(args: &[&str]) -> String {
    let output = Command::new("bpftool").args(args).output();
    let output = output.expect("bpftool runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {errors}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn records_are_those_that_bpftool_shows() {
    needs!(Btf, Bpftool);
    let ours = good(&["btf", "dump", "--raw"]);
    assert!(ours.starts_with("[1] "), "{}", &ours[..80]);
    let args = [
        "btf",
        "dump",
        "file",
        "/sys/kernel/btf/vmlinux",
    ];
    let theirs = bpftool(&args);
    for (ours, theirs) in ours.lines().zip(theirs.lines()) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(ours.lines().count(), theirs.lines().count());
}

/// The numbers and words of a text in C or JSON, without names and punctuation.
fn leaves(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(_, value)| leaves(value, out)),
        Value::List(items) => items.iter().for_each(|value| leaves(value, out)),
        Value::Number(number) => out.push(number.to_string()),
        Value::Text(text) => out.push(text.clone()),
        Value::Bool(is) => out.push(is.to_string()),
        Value::Null => out.push("null".to_owned()),
    }
}

#[test]
#[cfg(target_endian = "little")]
fn values_are_those_that_bpftool_shows() {
    needs!(Root, Bpf, Btf, Bpftool);
    let (_map, id) = rich::map();
    let args = ["-j", "map", "dump", "id", &id];
    let theirs = bpftool(&args);
    let theirs = json::parse(theirs.trim()).expect("JSON");
    let mut words = Vec::new();
    leaves(theirs.list()[0].at("formatted").at("value"), &mut words);
    // It shows bit fields as bits, and wide numbers in hex: 0x3fd is -3 in ten bits.
    let expected = "0x10000000000000004 -7 -8 1 2 8589934593 sh 0 11 22 33 44 55 true RED FAR 0x5 \
                    0x3fd 0x1234567 0x1 77 -9223372036854775808 9 0";
    assert_eq!(words.join(" "), expected);
}
