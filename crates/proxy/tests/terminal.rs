//! Lines and screens on a terminal, with keys that are pressed and what can be seen then.

mod terminal_support;

use bpfsmith_gate::needs;
use std::os::unix::fs::PermissionsExt;
use terminal_support::{Scratch, Window, demo, run};

#[test]
fn a_line_is_typed_and_edited() {
    needs!(Tmux);
    let window = Window::open("edit", 80, 24);
    let before = window.start("lines");
    window.sees("ready");
    window.sees_line("demo>");
    window.types("stXatus");
    window.keys(&[
        "Left", "Left", "Left", "Left", "BSpace", "Left",
    ]);
    window.sees_line("demo> status");
    window.has_cursor_at(7);
    window.keys(&["C-e"]);
    window.has_cursor_at(12);
    window.types(" żółw 日本");
    window.has_cursor_at(22);
    window.keys(&["C-w", "C-a", "C-y", "Enter"]);
    window.sees_line("line [日本status żółw ]");
    window.types("one two");
    window.keys(&["M-b", "C-k", "C-c"]);
    window.sees_line("demo> one ^C");
    window.sees("interrupted");
    window.keys(&["C-d"]);
    window.sees_line("end");
    window.is_as_before(&before);
}

#[test]
fn a_long_line_scrolls_and_follows_the_window() {
    needs!(Tmux);
    let window = Window::open("long", 40, 10);
    window.start("lines");
    window.sees_line("demo>");
    window.types(&"0123456789".repeat(5));
    window.sees_line("<34567890123456789");
    window.keys(&["Home"]);
    window.sees_line("demo> 01234567890123456789012345678901>");
    window.resize(80, 10);
    window.sees_line(&format!("demo> {}", "0123456789".repeat(5)));
    window.keys(&["Enter"]);
    window.sees_line(&format!("line [{}]", "0123456789".repeat(5)));
}

#[test]
fn tabulators_complete_and_list() {
    needs!(Tmux);
    let window = Window::open("complete", 80, 24);
    window.start("lines");
    window.sees_line("demo>");
    window.types("dr");
    window.keys(&["Tab"]);
    window.has_cursor_at(12);
    window.types("a");
    window.keys(&["Tab"]);
    window.sees_line("demo> drain app-");
    window.keys(&["Tab", "Tab"]);
    window.sees_line("app-1  app-2");
    window.sees_line("demo> drain app-");
    window.types("2");
    window.keys(&["Tab", "Enter"]);
    window.sees_line("line [drain app-2 ]");
}

#[test]
fn older_lines_are_there_in_the_next_process() {
    needs!(Tmux);
    let scratch = Scratch::new("older");
    let file = scratch.path("history");
    let window = Window::open("older", 80, 24);
    let before = window.start(&format!("lines {file}"));
    window.sees_line("demo>");
    for line in [
        "drain app-1",
        "status",
        "drain app-2",
        "quit",
    ] {
        window.types(line);
        window.keys(&["Enter"]);
    }
    window.is_as_before(&before);
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text, "drain app-1\nstatus\ndrain app-2\nquit\n");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    window.clear();
    window.start(&format!("lines {file}"));
    window.sees_line("demo>");
    window.types("dr");
    window.keys(&["Up", "Up"]);
    window.sees_line("demo> drain app-1");
    window.keys(&["Down", "Down"]);
    window.sees_line("demo> dr");
    window.keys(&["C-u", "C-r"]);
    window.types("tat");
    window.sees_line("(search \"tat\") status");
    window.keys(&["Enter"]);
    window.sees_line("line [status]");
}

#[test]
fn a_history_that_cannot_be_kept_is_told_once() {
    needs!(Tmux);
    let window = Window::open("nowhere", 120, 24);
    window.start("lines /nonexistent-bpfsmith/history");
    window.sees_line("demo>");
    for line in ["one", "two"] {
        window.types(line);
        window.keys(&["Enter"]);
        window.sees_line(&format!("line [{line}]"));
    }
    assert_eq!(window.shown().matches("warning: history").count(), 1);
    window.sees("ENOENT");
}

#[test]
fn control_z_stops_a_line_and_it_goes_on() {
    needs!(Tmux);
    let window = Window::open("stop", 80, 24);
    let before = window.start("lines");
    window.sees_line("demo>");
    window.types("sta");
    window.keys(&["C-z"]);
    window.is_as_before(&before);
    window.clear();
    window.types("fg");
    window.keys(&["Enter"]);
    window.sees_line("demo> sta");
    window.types("tus");
    window.keys(&["Enter"]);
    window.sees_line("line [status]");
    window.keys(&["C-d"]);
    window.is_as_before(&before);
}

#[test]
fn a_screen_is_drawn_and_what_was_there_comes_back() {
    needs!(Tmux);
    let window = Window::open("screen", 100, 12);
    let before = window.start("screen");
    window.sees_line("size 100x12");
    window.sees_line("日本語  up");
    window.sees_line("hostile ^[[31m^[]0;title^G^M^Jname");
    window.sees_line(&format!("{}|", "=".repeat(99)));
    assert!(window.is_alternate());
    for (key, shown) in [
        ("Up", "Up"),
        ("x", "Char('x')"),
        ("Escape", "Escape"),
        ("NPage", "PageDown"),
    ] {
        window.keys(&[key]);
        window.sees_line(&format!("key {shown}"));
    }
    window.resize(80, 9);
    window.sees_line("size 80x9");
    window.sees_line(&format!("{}|", "=".repeat(79)));
    window.keys(&["2"]);
    window.sees("key take the terminal");
    window.keys(&["C-c"]);
    window.is_as_before(&before);
    window.sees("terminal_demo");
    assert!(!window.is_alternate());
    assert!(!window.shown().contains("size"));
}

#[test]
fn colours_are_left_out_if_nobody_wants_them() {
    needs!(Tmux);
    let window = Window::open("colour", 60, 12);
    let before = window.start("screen");
    window.sees_line("日本語  up");
    assert!(window.shown_with_styles().contains("\x1b[32mup"));
    window.keys(&["q"]);
    window.is_as_before(&before);
    window.start_with("NO_COLOR=1", "screen");
    window.sees_line("日本語  up");
    let shown = window.shown_with_styles();
    assert!(!shown.contains("\x1b[32m"), "{shown:?}");
    assert!(shown.contains("\x1b[1;7mdemo"), "{shown:?}");
}

#[test]
fn signals_end_a_screen_and_the_terminal_is_as_before() {
    needs!(Tmux);
    let window = Window::open("signals", 60, 12);
    for (mode, signal) in [
        ("screen", "TERM"),
        ("busy", "INT"),
        ("busy", "HUP"),
        ("lines", "TERM"),
    ] {
        let before = window.start(mode);
        window.sees(match mode {
            "screen" => "key none",
            "busy" => "busy",
            _ => "demo>",
        });
        window.signal(signal);
        window.is_as_before(&before);
        // It died of the signal, and did not end by itself.
        if signal == "TERM" {
            window.sees("Terminated");
        }
        assert!(!window.is_alternate(), "{mode} {signal}");
        window.clear();
    }
}

#[test]
fn a_stopped_screen_goes_on() {
    needs!(Tmux);
    let window = Window::open("stopped", 60, 12);
    let before = window.start("screen");
    window.sees_line("key none");
    for how in ["C-z", "TSTP"] {
        match how {
            "C-z" => window.keys(&["C-z"]),
            signal => window.signal(signal),
        }
        window.is_as_before(&before);
        assert!(!window.is_alternate());
        window.types("fg");
        window.keys(&["Enter"]);
        window.sees_line("key none");
        assert!(window.is_alternate());
    }
    window.keys(&["x"]);
    window.sees_line("key Char('x')");
    window.keys(&["q"]);
    window.is_as_before(&before);
}

#[test]
fn a_panic_can_be_read() {
    needs!(Tmux);
    let window = Window::open("panic", 80, 24);
    let before = window.start("screen");
    window.sees_line("key none");
    window.keys(&["t"]);
    window.sees_line("key after true");
    window.keys(&["p"]);
    window.is_as_before(&before);
    window.sees("a panic that can be read");
    window.sees("a panic elsewhere");
    assert!(!window.is_alternate());
}

#[test]
fn a_dumb_terminal_has_no_screen_but_lines() {
    needs!(Tmux);
    let window = Window::open("dumb", 120, 12);
    window.start_with("TERM=dumb", "screen");
    window.sees("--once");
    window.start_with("TERM=dumb", "lines");
    window.sees_line("demo>");
    window.types("status");
    window.keys(&["Enter"]);
    window.sees_line("line [status]");
}

#[test]
fn a_script_has_no_prompt() {
    let scratch = Scratch::new("script");
    let file = scratch.path("history");
    let (out, _, good) = run(&["lines", &file], b"status\r\n\ndrain \x1b[31m\nlast");
    assert_eq!(
        out,
        "line [status]\nline []\nline [drain \\u{1b}[31m]\nline [last]\nend\n"
    );
    assert!(good);
    assert!(!std::path::Path::new(&file).exists());
    let (out, told, good) = run(&["lines"], b"good\n\xff\n");
    assert_eq!((out.as_str(), good), ("line [good]\n", false));
    assert_eq!(
        told,
        "error: read line 2: it is not UTF-8: save the script as UTF-8\n"
    );
    let (_, told, good) = run(&["lines"], &vec![b'x'; 200_000]);
    assert!(
        !good && told.starts_with("error: read line 1: it is longer"),
        "{told}"
    );
}

#[test]
fn a_pipe_is_no_screen() {
    let (_, told, good) = run(&["screen"], b"");
    assert!(!good);
    let expected = "error: draw a screen: standard output is no terminal: use --once or --json\n";
    assert_eq!(told, expected, "{}", demo().display());
}
