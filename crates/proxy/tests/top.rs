//! The live screen.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

mod canned;
#[expect(dead_code, reason = "other tests use the rest")]
mod terminal_support;

use bpfsmith_gate::{deadline, needs};
use canned::{Canned, PROGRAM};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;
use terminal_support::Window;

#[test]
fn one_screen_as_text() {
    let daemon = Canned::new("once");
    let output = Command::new(PROGRAM)
        .args([
            "--socket",
            &daemon.socket(),
            "top",
            "--once",
            "-i",
            "10ms",
        ])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(
        text.starts_with("bpfsmith-proxy 9.9.9  process 4711  up 1 min 1 s  generation 7"),
        "{text}"
    );
    assert!(text.contains("10.0.0.2:8080  up     100 %"), "{text}");
    assert!(text.contains("no route  dropped      1"), "{text}");
    assert!(
        !text.contains('\x1b') && !text.contains("packets -"),
        "{text}"
    );
    assert_eq!(daemon.looks.load(Ordering::SeqCst), 2);
}

#[test]
fn who_wants_json_is_told_where_it_is_and_who_is_alone_that_nobody_answers() {
    let daemon = Canned::new("json");
    let run = |args: &[&str]| {
        let output = Command::new(PROGRAM).args(args).output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, told) = run(&[
        "--socket",
        &daemon.socket(),
        "--json",
        "top",
    ]);
    assert_eq!(code, Some(1));
    assert!(told.contains("status --json"), "{told}");
    let (code, told) = run(&[
        "--socket",
        "/nonexistent-bpfsmith/sock",
        "top",
        "--once",
    ]);
    assert_eq!(code, Some(3), "{told}");
}

#[test]
fn the_screen_lives_and_obeys_keys() {
    needs!(Tmux);
    let daemon = Canned::new("live");
    let window = Window::open("top", 100, 12);
    window.types(&format!(
        "{PROGRAM} --socket {} top -i 100ms",
        daemon.socket()
    ));
    window.keys(&["Enter"]);
    window.sees("bpfsmith-proxy 9.9.9");
    window.sees("10.0.0.2:8080");
    assert!(window.is_alternate());
    // Rates are there with the second look.
    deadline(Duration::from_secs(60), || {
        let shown = window.shown();
        (shown.contains("packets") && !shown.contains("packets -  new")).then_some(())
    });
    window.types("p");
    window.sees("paused");
    window.types("s");
    window.sees("order: connections");
    window.types("?");
    window.sees("another order of targets");
    window.types("?");
    window.sees("PROXY");
    window.keys(&["End"]);
    window.sees("no route");
    window.keys(&["Home"]);
    window.sees("PROXY");
    window.types("p");
    // It asks again.
    let looks = daemon.looks.load(Ordering::SeqCst);
    deadline(Duration::from_secs(60), || {
        (daemon.looks.load(Ordering::SeqCst) > looks + 1).then_some(())
    });
    window.types("q");
    window.sees_line("$");
    assert!(!window.is_alternate());
}
