//! A window of tmux with a shell in it, and the example that is run there.

#![expect(
    clippy::unwrap_used,
    reason = "what fails here fails the test that uses it"
)]

use bpfsmith_gate::deadline;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// The example `terminal_demo`, which cargo builds before it runs all tests of the crate.
pub(crate) fn demo() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let target = test.parent().and_then(|deps| deps.parent()).unwrap();
    let demo = target.join("examples").join("terminal_demo");
    assert!(
        demo.exists(),
        "build it first: cargo build -p bpfsmith-proxy --example terminal_demo"
    );
    demo
}

/// Runs the example without a terminal: what it writes, what it complains, and whether all was well.
pub(crate) fn run(args: &[&str], input: &[u8]) -> (String, String, bool) {
    let mut command = Command::new(demo());
    command.args(args).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut to = child.stdin.take().unwrap();
    // It may end before it has read everything.
    let _ = to.write_all(input);
    drop(to);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        text(&output.stdout),
        text(&output.stderr),
        output.status.success(),
    )
}

/// A directory that is removed at the end.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Scratch {
        let name = format!("bs-terminal-{name}-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir(&dir).unwrap();
        Scratch(dir)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A window, with a tmux of its own.
pub(crate) struct Window {
    scratch: Scratch,
}

impl Window {
    pub(crate) fn open(name: &str, columns: u16, rows: u16) -> Window {
        let window = Window {
            scratch: Scratch::new(&format!("window-{name}")),
        };
        let (columns, rows) = (columns.to_string(), rows.to_string());
        // A shell with job control, whose prompt is known and which remembers nothing.
        let shell = "env -u NO_COLOR -u RUST_BACKTRACE PS1='$ ' HISTFILE= sh -i";
        window.tmux(&[
            "new-session",
            "-d",
            "-x",
            &columns,
            "-y",
            &rows,
            shell,
        ]);
        window.sees_line("$");
        window
    }

    fn tmux(&self, args: &[&str]) -> String {
        // Characters are UTF-8 for tmux only where the locale says so.
        let output = Command::new("tmux")
            .env_remove("TMUX")
            .env("LC_ALL", "C.UTF-8")
            .args([
                "-u",
                "-S",
                &self.scratch.path("tmux"),
                "-f",
                "/dev/null",
            ])
            .args(args)
            .output()
            .unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What can be seen.
    pub(crate) fn shown(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    pub(crate) fn shown_with_styles(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-e"])
    }

    fn waits(&self, what: &str, mut is_so: impl FnMut(&str) -> bool) {
        let mut shown = String::new();
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            deadline(LIMIT, || {
                shown = self.shown();
                is_so(&shown).then_some(())
            });
        }));
        assert!(found.is_ok(), "no {what:?} in\n{shown}");
    }

    /// Waits until this can be seen.
    pub(crate) fn sees(&self, text: &str) {
        self.waits(text, |shown| shown.contains(text));
    }

    /// Waits until this is a line.
    pub(crate) fn sees_line(&self, line: &str) {
        self.waits(line, |shown| {
            shown.lines().any(|other| other.trim_end() == line)
        });
    }

    /// Waits until the cursor is in this column.
    pub(crate) fn has_cursor_at(&self, column: usize) {
        self.waits(&format!("cursor at {column}"), |_| {
            self.asks("#{cursor_x}") == column.to_string()
        });
    }

    fn asks(&self, format: &str) -> String {
        self.tmux(&["display-message", "-p", format])
            .trim()
            .to_owned()
    }

    /// Whether the screen of a program is shown, and not that of the shell.
    pub(crate) fn is_alternate(&self) -> bool {
        self.asks("#{alternate_on}") == "1"
    }

    pub(crate) fn types(&self, text: &str) {
        self.tmux(&["send-keys", "-l", "--", text]);
    }

    /// Presses keys by tmux's names.
    pub(crate) fn keys(&self, keys: &[&str]) {
        let mut args = vec!["send-keys"];
        args.extend(keys);
        self.tmux(&args);
    }

    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        self.tmux(&[
            "resize-window",
            "-x",
            &columns.to_string(),
            "-y",
            &rows.to_string(),
        ]);
    }

    /// Empties the shell's screen.
    pub(crate) fn clear(&self) {
        self.types("clear");
        self.keys(&["Enter"]);
        self.waits("an empty screen", |shown| shown.trim_end() == "$");
    }

    /// Runs the example with these arguments, and gives the settings of the terminal before that.
    pub(crate) fn start(&self, args: &str) -> String {
        self.start_with("", args)
    }

    /// The same with a variable.
    pub(crate) fn start_with(&self, variable: &str, args: &str) -> String {
        let settings = self.settings();
        let pid = self.scratch.path("pid");
        let _ = std::fs::remove_file(&pid);
        // The shell becomes the example, and keeps its number.
        let command = format!(
            "echo $$ >{pid}; exec env {variable} {} {args}",
            demo().display()
        );
        let script = self.scratch.path("start");
        std::fs::write(&script, command).unwrap();
        self.types(&format!(": terminal_demo; sh {script}"));
        self.keys(&["Enter"]);
        settings
    }

    /// Sends the example a signal.
    pub(crate) fn signal(&self, name: &str) {
        let pid = std::fs::read_to_string(self.scratch.path("pid")).unwrap();
        let status = Command::new("kill").args(["-s", name, pid.trim()]).status();
        assert!(status.unwrap().success());
    }

    /// What stty says about the terminal now.
    fn settings(&self) -> String {
        let device = self.asks("#{pane_tty}");
        let output = Command::new("stty")
            .args(["-a", "-F", &device])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        // The first line has the size of the window.
        text.lines().skip(1).collect::<Vec<_>>().join("\n")
    }

    /// Waits until the shell is back and the terminal has these settings.
    pub(crate) fn is_as_before(&self, settings: &str) {
        let mut now = String::new();
        self.waits("the shell", |shown| {
            now = self.settings();
            let last = shown.trim_end().lines().last().unwrap_or_default();
            last.trim_end() == "$" && now == settings && self.asks("#{cursor_flag}") == "1"
        });
        assert_eq!(now, settings);
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let mut command = Command::new("tmux");
        command.args([
            "-S",
            &self.scratch.path("tmux"),
            "kill-server",
        ]);
        let _ = command.output();
    }
}
