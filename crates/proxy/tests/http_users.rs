//! Other users are not answered: neither let in by the file, nor by the server.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use bpfsmith_gate::needs;
use bpfsmith_proxy::http::{Client, Guard, Limits, Listener, Method, Peer, Response, Server};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

const SOCKET: &str = "BS_HTTP_SOCKET";
const NOBODY: u32 = 65534;

/// Not a test: what a process does that another test started.
#[test]
fn as_another_process() {
    let Some(path) = std::env::var_os(SOCKET) else {
        return;
    };
    match Client::unix(path).request(Method::GET, "/", b"") {
        Ok(reply) => println!("\nsaid {}", reply.status),
        Err(error) => println!("\nsaid {error}"),
    }
}

struct Dir(PathBuf);

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What this program hears as another user. It is a copy that everybody may run.
fn asks(program: &Path, socket: &Path, user: u32) -> String {
    let output = Command::new(program)
        .args([
            "--exact",
            "as_another_process",
            "--nocapture",
        ])
        .env(SOCKET, socket)
        .current_dir("/")
        .uid(user)
        .gid(user)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let said = text.lines().find_map(|line| line.strip_prefix("said "));
    said.unwrap_or_else(|| panic!("{text}")).to_owned()
}

#[test]
fn another_user_is_refused() {
    needs!(Root);
    let dir = std::env::temp_dir().join(format!("bs-http-users-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let dir = Dir(dir);
    std::fs::set_permissions(&dir.0, PermissionsExt::from_mode(0o755)).unwrap();
    let program = dir.0.join("program");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();

    let socket = dir.0.join("sock");
    let peers = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&peers);
    let _server = Server::start(
        Listener::unix(&socket).unwrap(),
        Limits::default(),
        Guard::owner(),
        Arc::new(move |_, peer| {
            seen.lock().unwrap().push(*peer);
            Response::text(200, "").into()
        }),
    )
    .unwrap();
    assert_eq!(asks(&program, &socket, 0), "200");
    let refused = asks(&program, &socket, NOBODY);
    assert!(refused.contains("EACCES (run as root"), "{refused}");

    // Even if somebody opens the file to all.
    std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o666)).unwrap();
    assert_eq!(asks(&program, &socket, NOBODY), "403");
    let peers = peers.lock().unwrap();
    assert!(
        matches!(peers.as_slice(), [Peer::Unix { uid: 0, gid: 0, pid }] if *pid > 0),
        "{peers:?}"
    );
}
