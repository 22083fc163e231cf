//! Other processes: this program again, with a role in their environment.

use super::{LIMIT, world};
use bpfsmith_gate::{Mount, bpffs, deadline};
use bpfsmith_net::Node;
use std::env;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

const ROLE: &str = "BS_STEER_ROLE";
const DIR: &str = "BS_STEER_DIR";
const TALK: &str = "BS_STEER_TALK";

/// A machine, a bpffs, and a place where other processes are talked to.
pub(crate) struct World {
    pub(crate) node: Node,
    pub(crate) mount: Mount,
    talk: UnixListener,
    pub(crate) path: PathBuf,
}

impl World {
    pub(crate) fn new() -> World {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("bs-steer-{}-{number}", std::process::id());
        let path = env::temp_dir().join(name);
        World {
            node: world(),
            mount: bpffs(),
            talk: UnixListener::bind(&path).unwrap(),
            path,
        }
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.mount.path().join("steer")
    }

    /// Starts a process on the machine, and waits until it says hello.
    #[track_caller]
    pub(crate) fn start(&self, role: &str) -> Process {
        let start = || {
            Command::new(env::current_exe().unwrap())
                .args([
                    "--exact",
                    "as_another_process",
                    "--nocapture",
                ])
                .env(ROLE, role)
                .env(DIR, self.dir())
                .env(TALK, &self.path)
                .stdout(Stdio::null())
                .spawn()
        };
        let child = self.node.run(start).unwrap().unwrap();
        let mut process = Process {
            child,
            talk: UnixStream::pair().unwrap().0,
        };
        self.talk.set_nonblocking(true).unwrap();
        process.talk = deadline(LIMIT, || {
            if let Some(status) = process.child.try_wait().unwrap() {
                panic!("{role} ended at once: {status}");
            }
            Some(self.talk.accept().ok()?.0)
        });
        process.talk.set_nonblocking(false).unwrap();
        process.talk.set_read_timeout(Some(LIMIT)).unwrap();
        process
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Another process. It does not outlive the test.
pub(crate) struct Process {
    child: Child,
    talk: UnixStream,
}

impl Process {
    #[track_caller]
    pub(crate) fn hear(&mut self, word: &str) {
        let mut line = String::new();
        let mut bytes = [0];
        while !line.ends_with('\n') {
            self.talk.read_exact(&mut bytes).unwrap();
            line.push(char::from(bytes[0]));
        }
        assert_eq!(line.trim_end(), word);
    }

    pub(crate) fn say(&mut self, word: &str) {
        writeln!(self.talk, "{word}").unwrap();
    }

    /// It ends with `SIGKILL`.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    #[track_caller]
    pub(crate) fn ends(&mut self) {
        let status = deadline(LIMIT, || self.child.try_wait().unwrap());
        assert!(status.success(), "{status}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The role of this process, where the state is pinned, and who started it.
pub(crate) fn role() -> Option<(String, PathBuf, UnixStream)> {
    let role = env::var(ROLE).ok()?;
    let dir = PathBuf::from(env::var_os(DIR)?);
    Some((role, dir, UnixStream::connect(talk()).unwrap()))
}

/// Where the one who started this process listens.
pub(crate) fn talk() -> PathBuf {
    PathBuf::from(env::var_os(TALK).unwrap())
}
