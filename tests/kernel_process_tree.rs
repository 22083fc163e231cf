//! The example that starts processes. It has a test program of its own: until a process that is started
//! becomes another program, it holds the descriptors of all threads, and what they close is not yet gone.

#[macro_use]
mod programs;

use bpfsmith_gate::needs;
use std::process::{Command, Stdio};

program!(process_tree, "../examples/process_tree.rs");

const GRANDCHILD: &str = "BPFSMITH_GRANDCHILD";

/// Itself again, with one test that starts one more process.
#[test]
fn process_tree() {
    if std::env::var_os(GRANDCHILD).is_some() {
        let mut grandchild = Command::new("/proc/self/exe");
        let status = grandchild.arg("--list").env_remove(GRANDCHILD).status();
        assert!(status.is_ok_and(|status| status.success()));
        return;
    }
    needs!(Root, TpBtf, MmapArray, RingBuf);
    process_tree::run().unwrap_or_else(|error| panic!("{error}"));

    let mut child = Command::new("/proc/self/exe");
    child.args(["--exact", "process_tree"]).env(GRANDCHILD, "1");
    match process_tree::watch(child.stdout(Stdio::null())) {
        Ok((id, status, told)) => {
            let below = |depth| move |event: &&process_tree::Event| event.depth == depth;
            let child: Vec<_> = told.iter().filter(below(1)).collect();
            let grandchild: Vec<_> = told.iter().filter(below(2)).collect();
            assert!(status.success() && grandchild.len() == 2, "{told:?}");
            assert!(child.iter().any(|event| event.pid == id), "{told:?}");
            assert!(grandchild.iter().all(|event| event.parent == id));
        }
        Err(error) => panic!("{error}"),
    }
}
