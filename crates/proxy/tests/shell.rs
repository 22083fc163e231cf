//! Commands one after the other: as a script, and as somebody types them.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

mod canned;
#[expect(dead_code, reason = "other tests use the rest")]
mod terminal_support;

use bpfsmith_gate::needs;
use canned::{Canned, PROGRAM};
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use terminal_support::Window;

/// What a script prints, complains, and ends with.
fn script(socket: &str, args: &[&str], lines: &str) -> (String, String, Option<i32>) {
    let mut child = Command::new(PROGRAM)
        .args(["--socket", socket])
        .args(args)
        .arg("shell")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    // It may end before it has read everything.
    let _ = input.write_all(lines.as_bytes());
    drop(input);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        text(output.stdout),
        text(output.stderr),
        output.status.code(),
    )
}

#[test]
fn a_script_stops_at_the_first_that_fails() {
    let daemon = Canned::new("script");
    let socket = daemon.socket();
    let (out, err, code) = script(
        &socket,
        &[],
        "# all of it\n\nstatus\nversion\nexit\nstatus\n",
    );
    assert_eq!((err.as_str(), code), ("", Some(0)));
    assert_eq!(out.matches("10.0.0.2:8080").count(), 1, "{out}");
    assert!(
        out.ends_with(concat!("bpfsmith-proxy ", env!("CARGO_PKG_VERSION"), "\n")),
        "{out}"
    );

    let (out, err, code) = script(&socket, &[], "version\nremove nope\nversion\n");
    assert_eq!((out.lines().count(), code), (1, Some(1)), "{out}{err}");
    assert!(
        err.contains("there is no such proxy") && err.contains("line 2 failed"),
        "{err}"
    );

    for (line, told) in [
        ("statsu", "status"),
        ("remove 'a", "second '"),
        ("run", "outside of this shell"),
        ("shell", "this is the shell already"),
    ] {
        let (_, err, code) = script(&socket, &[], &format!("{line}\nversion\n"));
        assert_eq!(code, Some(2), "{line}: {err}");
        assert!(err.contains(told), "{line}: {err}");
    }
    let (_, _, code) = script("/nonexistent-bpfsmith/sock", &[], "status");
    assert_eq!(code, Some(3));
}

#[test]
fn what_the_shell_was_told_counts_for_all_lines() {
    let daemon = Canned::new("json");
    let (out, err, code) = script(&daemon.socket(), &["--json"], "status\n");
    assert_eq!((err.as_str(), code), ("", Some(0)));
    assert!(out.starts_with("{\"version\":\"9.9.9\""), "{out}");
}

#[test]
fn lines_are_typed_completed_and_kept() {
    needs!(Tmux);
    let daemon = Canned::new("typed");
    let state = daemon.dir.join("state");
    let window = Window::open("shell", 100, 24);
    let start = format!(
        "XDG_STATE_HOME={} {PROGRAM} --socket {} shell",
        state.display(),
        daemon.socket()
    );
    window.types(&start);
    window.keys(&["Enter"]);
    window.sees_line("bpfsmith-proxy>");
    window.types("drain 10");
    window.keys(&["Tab"]);
    window.sees_line("bpfsmith-proxy> drain 10.0.0.2:8080");
    assert!(
        daemon.looks.load(Ordering::SeqCst) > 0,
        "names are the daemon's"
    );
    window.keys(&["Enter"]);
    // An error does not end it.
    window.sees("there is no such proxy");
    window.types("vers");
    window.keys(&["Tab", "Enter"]);
    window.sees(concat!("bpfsmith-proxy ", env!("CARGO_PKG_VERSION")));
    window.keys(&["C-d"]);
    window.sees_line("$");
    let text = std::fs::read_to_string(state.join("bpfsmith-proxy/history")).unwrap();
    assert_eq!(
        text.lines().map(str::trim_end).collect::<Vec<_>>(),
        ["drain 10.0.0.2:8080", "version"]
    );
}

#[test]
fn an_interrupt_ends_events_and_not_the_shell() {
    needs!(Tmux);
    let daemon = Canned::new("interrupt");
    let window = Window::open("interrupt", 100, 24);
    window.types(&format!(
        "HOME= XDG_STATE_HOME= {PROGRAM} --socket {} shell",
        daemon.socket()
    ));
    window.keys(&["Enter"]);
    window.sees_line("bpfsmith-proxy>");
    // Twice: what was interrupted once can be again.
    for _ in 0..2 {
        window.types("events --follow");
        window.keys(&["Enter"]);
        window.sees("198.51.100.7:4000");
        window.keys(&["C-c"]);
        window.types("version");
        window.keys(&["Enter"]);
        window.sees(concat!("bpfsmith-proxy ", env!("CARGO_PKG_VERSION")));
        window.sees_line("bpfsmith-proxy>");
        window.keys(&["C-l"]);
        window.sees_line("bpfsmith-proxy>");
    }
    window.types("exit");
    window.keys(&["Enter"]);
    window.sees_line("$");
}
