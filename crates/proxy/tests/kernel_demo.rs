//! The demo, as a person runs it: the real binary, to its end and broken off.

#![expect(clippy::unwrap_used, reason = "a test says by a panic that it failed")]

use bpfsmith_config::json;
use bpfsmith_gate::{deadline, needs};
use bpfsmith_proxy::show::{cell, list};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

const BINARY: &str = env!("CARGO_BIN_EXE_bpfsmith-proxy");
const LIMIT: Duration = Duration::from_secs(120);

/// A directory for temporary files, which goes with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let name = format!("bs-demo-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Scratch(path)
    }

    fn entries(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.0).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn demo(args: &[&str], scratch: &Scratch) -> Command {
    let mut command = Command::new(BINARY);
    command.args(args).env("TMPDIR", &scratch.0);
    command.stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Devices and mounts of this machine, but for those that other tests make meanwhile.
fn traces() -> BTreeSet<String> {
    let devices = fs::read_dir("/sys/class/net").unwrap();
    let devices = devices.map(|it| it.unwrap().file_name().to_string_lossy().into_owned());
    let ours = [
        "front", "eth0", "to-oak", "to-elm", "to-fir",
    ];
    let devices = devices.filter(|name| ours.contains(&name.as_str()));
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mounts = mounts.lines().filter(|it| it.contains("bpfsmith-bpf-"));
    devices.chain(mounts.map(str::to_owned)).collect()
}

/// One that is broken off. It is killed if the test fails.
struct Begun {
    child: Child,
    out: BufReader<ChildStdout>,
    /// The daemon's process.
    daemon: u32,
}

impl Drop for Begun {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a demo, and waits until requests come.
fn begin(scratch: &Scratch) -> Begun {
    let mut child = demo(&["demo", "--plain"], scratch).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut daemon = None;
    loop {
        let mut row = String::new();
        assert!(out.read_line(&mut row).unwrap() > 0, "it ended");
        let words: Vec<&str> = row.split_whitespace().collect();
        if let ["process", number, "on", "Linux", ..] = words.as_slice() {
            daemon = number.parse().ok();
        }
        if row.starts_with("3. ") {
            break;
        }
    }
    let daemon = daemon.expect("the number of a process");
    assert!(is_daemon(daemon));
    Begun { child, out, daemon }
}

/// Whether that process is a daemon of a demo.
fn is_daemon(process: u32) -> bool {
    let path = Path::new("/proc").join(process.to_string()).join("cmdline");
    let line = fs::read_to_string(path).unwrap_or_default();
    line.contains("run") && line.contains("bpfsmith-demo-")
}

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    kill(pid, signal).unwrap();
}

#[track_caller]
fn text(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{text}\n{told}", output.status);
    text
}

#[test]
fn all_acts_find_what_they_should() {
    needs!(NetNs, Veth, Tcx, Bpffs, RingBuf);
    let scratch = Scratch::new("whole");
    let before = traces();
    let text = text(&demo(&["demo", "--plain"], &scratch).output().unwrap());
    let acts = [
        "1. The network ---",
        "2. Requests ---",
        "3. A source route ---",
        "4. A backend dies ---",
        "5. Draining ---",
        "6. Reload ---",
        "7. kill -9 ---",
        "8. The end ---",
    ];
    let heads = text.lines().filter(|row| row.contains(" ---"));
    let heads: Vec<&str> = heads.filter(|row| !row.contains('|')).collect();
    assert_eq!(heads.len(), acts.len(), "{text}");
    for (head, act) in heads.iter().zip(acts) {
        assert!(head.starts_with(act), "{head}");
    }
    for told in [
        "  ok  4 devices have programs",
        "  ok  200 answered, 0 failed, median ",
        "  ok  50 of 50 requests from 10.1.0.3 were answered by fir, 0 failed",
        "refused by the dead backend, 0 failed otherwise",
        "generations of programs by 2 daemons",
        "  ok  left on this machine: nothing",
        "  all 15 findings are as they should be",
    ] {
        assert!(text.contains(told), "{told}\n{text}");
    }
    assert!(!text.contains('\x1b'), "{text}");
    assert_eq!(scratch.entries(), Vec::<PathBuf>::new());
    assert_eq!(traces(), before);
}

#[test]
fn programs_can_read_what_came_of_it() {
    needs!(NetNs, Veth, Tcx, Bpffs, RingBuf);
    let scratch = Scratch::new("json");
    let args = ["--json", "demo", "--rounds", "24"];
    let text = text(&demo(&args, &scratch).output().unwrap());
    let told = json::read(text.trim()).unwrap();
    assert_eq!(cell(&told, "holds"), "yes", "{text}");
    assert_eq!(cell(&told, "failed"), "0", "{text}");
    assert_eq!(cell(&told, "daemons"), "2", "{text}");
    assert_eq!(list(&told, "findings").len(), 15, "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn ctrl_c_leaves_nothing() {
    needs!(NetNs, Veth, Tcx, Bpffs, RingBuf);
    let scratch = Scratch::new("ended");
    let before = traces();
    let mut begun = begin(&scratch);
    signal(&begun.child, Signal::SIGINT);
    let mut rest = String::new();
    begun.out.read_to_string(&mut rest).unwrap();
    let status = deadline(LIMIT, || begun.child.try_wait().unwrap());
    assert_eq!(status.code(), Some(1), "{rest}");
    assert!(rest.contains("SIGINT: cleaning up"), "{rest}");
    assert!(rest.contains("gone: 1 daemon, 4 programs on"), "{rest}");
    assert!(rest.contains("left on this machine: nothing"), "{rest}");
    assert!(!is_daemon(begun.daemon));
    assert_eq!(scratch.entries(), Vec::<PathBuf>::new());
    assert_eq!(traces(), before);
}

#[test]
fn a_demo_that_is_killed_takes_its_daemon_along() {
    needs!(NetNs, Veth, Tcx, Bpffs, RingBuf);
    let scratch = Scratch::new("killed");
    let before = traces();
    let begun = begin(&scratch);
    signal(&begun.child, Signal::SIGKILL);
    deadline(LIMIT, || (!is_daemon(begun.daemon)).then_some(()));
    assert_eq!(traces(), before);
    // Where the file system was there is an empty directory.
    let mount = scratch.entries().into_iter();
    let mount = mount.filter(|it| it.to_string_lossy().contains("bpfsmith-bpf-"));
    for mount in mount {
        assert_eq!(fs::read_dir(mount).unwrap().count(), 0);
    }
}

#[test]
fn nobody_has_to_read_to_the_end() {
    needs!(NetNs, Veth, Tcx, Bpffs, RingBuf);
    let scratch = Scratch::new("unread");
    let mut child = demo(&["demo", "--plain"], &scratch).spawn().unwrap();
    drop(child.stdout.take());
    let status = deadline(LIMIT, || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    assert_eq!(scratch.entries(), Vec::<PathBuf>::new());
}

#[test]
fn without_rights_it_says_who_has_them() {
    needs!(Root);
    let scratch = Scratch::new("nobody");
    // Others may not get to where it was built.
    let binary = scratch.0.join("bpfsmith-proxy");
    fs::copy(BINARY, &binary).unwrap();
    let mut command = Command::new(&binary);
    let output = command.arg("demo").uid(65534).gid(65534).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("unshare(CLONE_NEWNET): EPERM"), "{told}");
    assert!(told.contains("sudo bpfsmith-proxy demo"), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
    assert_eq!(output.stdout, b"");
}
