//! The test binaries, which are those of `cargo test`, and what they take to run where there is nothing else.

use crate::error::{line, output, start};
use crate::vm::Request;
use crate::{Error, Result};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// A test binary.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Binary {
    /// `package/target`.
    pub(super) name: String,
    pub(super) path: PathBuf,
}

/// The tests that are asked for, ordered by name.
pub(super) fn tests(request: &Request, root: &Path) -> Result<Vec<Binary>> {
    let mut command = cargo(root);
    // Packages alone would be built again: what others switch on in what they share is missing.
    command.args([
        "test",
        "--no-run",
        "--workspace",
        "--test",
    ]);
    command.arg(&request.tests);
    let mut binaries = built(&mut command)?;
    binaries.retain(|binary| request.wants(&binary.name));
    binaries.sort_by(|a, b| a.name.cmp(&b.name));
    match binaries.is_empty() {
        true => Err(Error::NoTests {
            pattern: request.tests.clone(),
        }),
        false => Ok(binaries),
    }
}

/// The machine's first process, with the C library linked in.
pub(super) fn first(root: &Path, target: &Path) -> Result<PathBuf> {
    let mut command = cargo(root);
    command
        .env("CARGO_TARGET_DIR", target)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    command.args([
        "build",
        "--release",
        "--package",
        "xtask",
        "--bin",
        "vm-init",
        "--target",
        TARGET,
    ]);
    let built = built(&mut command)?;
    built
        .into_iter()
        .next()
        .map(|binary| binary.path)
        .ok_or_else(|| Error::NoTests {
            pattern: "vm-init".to_owned(),
        })
}

/// The libraries that the tests are linked with, and what loads them: a machine has them at the same places.
pub(super) fn libraries(tests: &[Binary]) -> Result<BTreeSet<PathBuf>> {
    let mut command = Command::new("ldd");
    command.args(tests.iter().map(|test| &test.path));
    let said = output(&mut command)?.stdout;
    let said = String::from_utf8_lossy(&said);
    Ok(said
        .lines()
        .filter_map(library)
        .map(PathBuf::from)
        .collect())
}

/// `name => /path (address)` or `/path (address)`, behind a tab; other lines are of the binaries themselves, and of what
/// the kernel brings along.
fn library(line: &str) -> Option<&str> {
    let mut words = line.strip_prefix('\t')?.split(' ');
    words.find(|word| word.starts_with('/'))
}

fn cargo(root: &Path) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.current_dir(root);
    command
}

/// Runs cargo, whose complaints go to the terminal, and reads what it made.
fn built(command: &mut Command) -> Result<Vec<Binary>> {
    command.args([
        "--quiet",
        "--message-format=json-render-diagnostics",
    ]);
    command.stderr(Stdio::inherit());
    let output = command.output().map_err(|why| start(command, why))?;
    if !output.status.success() {
        return Err(Error::Failed {
            command: line(command),
            said: "see above".to_owned(),
        });
    }
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(lines.lines().filter_map(binary).collect())
}

/// The binary that a line of cargo's report names, unless it is a by-product of another.
fn binary(line: &str) -> Option<Binary> {
    let wanted = line.contains(r#""kind":["test"]"#) || line.contains(r#""name":"vm-init""#);
    if !wanted || text(line, "reason")? != "compiler-artifact" {
        return None;
    }
    let path = PathBuf::from(text(line, "executable")?);
    let package = package(&text(line, "package_id")?)?;
    let name = format!("{package}/{}", target(line)?);
    Some(Binary { name, path })
}

/// The name of what was built, which stands in an object of its own.
fn target(line: &str) -> Option<String> {
    text(line.split_once(r#""target":{"#)?.1, "name")
}

/// `path+file:///dir#name@0.1.0`, or `path+file:///dir/name#0.1.0` if the directory has the name.
fn package(id: &str) -> Option<String> {
    let (dir, name) = id.split_once('#')?;
    let name = match name.split_once('@') {
        Some((name, _)) => name,
        None => dir.rsplit_once('/')?.1,
    };
    Some(name.to_owned())
}

/// The first string under a key.
fn text(json: &str, key: &str) -> Option<String> {
    let (_, rest) = json.split_once(&format!("\"{key}\":\""))?;
    let mut value = String::new();
    let mut chars = rest.chars();
    loop {
        match chars.next()? {
            '"' => return Some(value),
            // Paths have no other escapes.
            '\\' => match chars.next()? {
                c @ ('"' | '\\' | '/') => value.push(c),
                _ => return None,
            },
            c => value.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact(kind: &str, executable: &str) -> String {
        format!(
            r#"{{"reason":"compiler-artifact","package_id":"path+file:///p/crates/gate#bpfsmith-gate@0.1.0","manifest_path":"/p/Cargo.toml","target":{{"kind":["{kind}"],"crate_types":["bin"],"name":"kernel_gate","src_path":"/p/t.rs"}},"profile":{{"test":true}},"filenames":[],"executable":{executable},"fresh":true}}"#
        )
    }

    #[test]
    fn a_test_is_named_by_package_and_target() {
        assert_eq!(
            binary(&artifact("test", r#""/p/a \"b\"/kernel_gate-12""#)),
            Some(Binary {
                name: "bpfsmith-gate/kernel_gate".to_owned(),
                path: PathBuf::from("/p/a \"b\"/kernel_gate-12"),
            })
        );
    }

    #[test]
    fn libraries_programs_and_cut_lines_are_no_tests() {
        let line = artifact("test", r#""/p/kernel_gate-12""#);
        assert_eq!(binary(&artifact("lib", "null")), None);
        assert_eq!(binary(&artifact("bin", r#""/p/cli""#)), None);
        assert_eq!(binary(&artifact("test", "null")), None);
        assert_eq!(
            binary(r#"{"reason":"build-finished","success":true}"#),
            None
        );
        for end in 0..line.rfind("\",\"fresh").unwrap() {
            assert_eq!(binary(&line[..end]), None, "{end}");
        }
    }

    #[test]
    fn libraries_are_at_their_places() {
        let check = |line: &str, path| assert_eq!(library(line), path);
        check(
            "\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)",
            Some("/lib/x86_64-linux-gnu/libc.so.6"),
        );
        check(
            "\t/lib64/ld-linux-x86-64.so.2 (0x00007f)",
            Some("/lib64/ld-linux-x86-64.so.2"),
        );
        check("\tlinux-vdso.so.1 (0x00007f)", None);
        check("/target/debug/deps/kernel_maps-12:", None);
    }

    #[test]
    fn a_package_is_named_in_two_ways() {
        let check = |id: &str, name: &str| assert_eq!(package(id).as_deref(), Some(name));
        check(
            "path+file:///p/crates/net#bpfsmith-net@0.1.0",
            "bpfsmith-net",
        );
        check("path+file:///p/xtask#0.0.0", "xtask");
    }
}
