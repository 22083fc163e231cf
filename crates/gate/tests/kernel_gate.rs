//! The gate against the running kernel: what it finds is so, and what it makes goes away.

use bpfsmith_gate::{Need, State, bpffs, built_without, cgroup, needs, open_fds, tracefs, version};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Here, or explained by the version or the build of the kernel: nothing is simply missing. Tools are no
/// part of the kernel.
///
/// With `--nocapture` it prints what this kernel lacks.
#[test]
fn every_need_is_here_or_explained() {
    needs!(Root);
    let mut missing = Vec::new();
    for need in Need::ALL.iter().filter(|need| !need.is_a_tool()) {
        match need.state() {
            State::Here => {}
            State::Explained(why) => println!("{need}: {why}"),
            State::Missing(why) => missing.push(format!("{need}: {why}")),
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// What came with a later kernel is not found here.
#[test]
fn no_need_is_older_than_its_kernel() {
    for need in Need::ALL {
        if need.state() == State::Here {
            assert!(need.since() <= version(), "{need} since {}", need.since());
        }
    }
}

#[test]
fn the_kernels_configuration_can_be_read() {
    assert!(!built_without("BPF_SYSCALL"));
    assert!(built_without("AN_OPTION_THAT_NO_KERNEL_HAS"));
}

#[test]
fn a_control_group_holds_a_process_and_goes_away() {
    needs!(Root, Cgroup2);
    let group = cgroup("holds");
    let path = group.path().to_owned();
    // It waits for the end of its input.
    let (reader, writer) = std::io::pipe().unwrap();
    let this = std::env::current_exe().unwrap();
    let mut child = Command::new(this)
        .args([
            "--exact",
            "waits_for_the_end_of_its_input",
        ])
        .env("BPFSMITH_GATE_WAIT", "1")
        .stdin(reader)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    group.enter(child.id()).unwrap();
    assert_eq!(group.processes().unwrap(), [child.id()]);
    let own = fs::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(own.contains(&format!("0::/{name}\n")), "{own}");

    drop(group);
    assert!(!path.exists());
    drop(writer);
    assert!(child.wait().unwrap().success());
}

/// Not a test of its own: the process that the test above puts into a control group.
#[test]
fn waits_for_the_end_of_its_input() {
    if std::env::var_os("BPFSMITH_GATE_WAIT").is_some() {
        std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
    }
}

#[test]
fn a_bpffs_is_private_and_goes_away() {
    needs!(Root, Bpffs);
    let mount = bpffs();
    let path = mount.path().to_owned();
    let line = format!("{} bpf ", path.display());
    let mounts = |who: &str| fs::read_to_string(format!("/proc/{who}/mounts")).unwrap();
    assert!(mounts("thread-self").contains(&line));
    assert!(
        !mounts(&std::os::unix::process::parent_id().to_string()).contains(&line),
        "seen from outside"
    );
    fs::create_dir(path.join("pins")).unwrap();

    drop(mount);
    assert!(!mounts("thread-self").contains(&line));
    assert!(!path.exists());
}

#[test]
fn a_tracefs_has_events() {
    needs!(Root, Tracefs);
    let mount = tracefs();
    assert!(mount.path().join("events").is_dir());
}

#[test]
fn an_open_file_is_listed_until_it_is_closed() {
    let path: PathBuf = std::env::current_exe().unwrap();
    let name = path.to_str().unwrap();
    let before = open_fds().to(name);
    let file = fs::File::open(&path).unwrap();
    let opened = open_fds().to(name).opened_since(&before);
    assert_eq!(opened.len(), 1, "{opened}");
    drop(file);
    assert!(open_fds().to(name).opened_since(&before).is_empty());
}
