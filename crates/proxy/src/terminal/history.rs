//! Lines of earlier days, in a file that only its owner reads.

use super::error::{Error, Result};
use bpfsmith_uapi::Errno;
use nix::fcntl::OFlag;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// How many lines are kept.
pub const MOST_LINES: usize = 1000;

/// More of a file is not read: nobody's history is larger.
const MOST_BYTES: u64 = 8 * 1024 * 1024;

/// Lines, the oldest first, none twice.
#[derive(Debug, Default)]
pub struct History {
    lines: Vec<String>,
    path: Option<PathBuf>,
}

impl History {
    /// One that is forgotten with the process.
    #[must_use]
    pub fn new() -> History {
        History::default()
    }

    /// The history in a file. A file that is not there yet is an empty one.
    ///
    /// # Errors
    /// If the file is there but cannot be read, or is something else than a file of text.
    pub fn open(path: PathBuf) -> Result<History> {
        let lines = read(&path)?;
        let path = Some(path);
        Ok(History { lines, path })
    }

    /// The lines, the oldest first.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Adds a line, as the newest, and writes the file anew. Lines that other processes have added in the
    /// meantime are kept. Empty lines and such with control characters are not.
    ///
    /// # Errors
    /// If the file cannot be written; the line is kept in memory all the same.
    pub fn add(&mut self, line: &str) -> Result<()> {
        if !keeps(line) {
            return Ok(());
        }
        push(&mut self.lines, line);
        let Some(path) = &self.path else {
            return Ok(());
        };
        let mut lines = read(path)?;
        push(&mut lines, line);
        write(path, &lines)
    }
}

fn keeps(line: &str) -> bool {
    !line.trim().is_empty() && !line.chars().any(char::is_control)
}

fn push(lines: &mut Vec<String>, line: &str) {
    lines.retain(|other| other != line);
    lines.push(line.to_owned());
    lines.drain(..lines.len().saturating_sub(MOST_LINES));
}

fn failed(call: &'static str, path: &Path) -> impl Fn(io::Error) -> Error {
    let path = path.to_owned();
    move |error| Error::History {
        call,
        path: path.clone(),
        errno: Errno::of(&error).unwrap_or(Errno::EIO),
    }
}

fn read(path: &Path) -> Result<Vec<String>> {
    // A pipe with this name would let the process wait for ever.
    let mut options = OpenOptions::new();
    let opened = options
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("open", path)(error)),
    };
    let meta = file.metadata().map_err(failed("fstat", path))?;
    // Root who says /dev/null does not want a file to replace it.
    if !meta.is_file() {
        let path = path.to_owned();
        return Err(Error::HistoryKind { path });
    }
    let mut bytes = Vec::new();
    let mut start = file.take(MOST_BYTES);
    start
        .read_to_end(&mut bytes)
        .map_err(failed("read", path))?;
    Ok(parse(&bytes))
}

fn parse(bytes: &[u8]) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    let text = String::from_utf8_lossy(bytes);
    // From the newest on, so that of two equal lines the newer stays.
    let newest = text.lines().rev().filter(|line| keeps(line));
    let once = newest.filter(|line| seen.insert(*line));
    let mut lines: Vec<String> = once.take(MOST_LINES).map(str::to_owned).collect();
    lines.reverse();
    lines
}

/// Writes a file beside it, which takes its place when it is complete.
fn write(path: &Path, lines: &[String]) -> Result<()> {
    // A link stays one: what it points to is replaced.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = path.with_file_name(name);
    // Left behind by a process of the same number; whatever it is, it is not followed.
    let _ = fs::remove_file(&beside);
    let written = fill(&beside, lines)
        .and_then(|()| fs::rename(&beside, path).map_err(failed("rename", path)));
    if written.is_err() {
        // What failed is told; that this may fail too adds nothing.
        let _ = fs::remove_file(&beside);
    }
    written
}

fn fill(path: &Path, lines: &[String]) -> Result<()> {
    let mut options = OpenOptions::new();
    let created = options.write(true).create_new(true).mode(0o600).open(path);
    let mut file: File = created.map_err(failed("open", path))?;
    let mut text = lines.join("\n");
    text.push('\n');
    file.write_all(text.as_bytes())
        .map_err(failed("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let name = format!("bs-history-{name}-{}", std::process::id());
            let dir = std::env::temp_dir().join(name);
            fs::create_dir(&dir).unwrap();
            Scratch(dir)
        }

        fn file(&self) -> PathBuf {
            self.0.join("history")
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn lines_are_there_again() {
        let scratch = Scratch::new("again");
        let mut history = History::open(scratch.file()).unwrap();
        for line in [
            "status",
            "drain a",
            "status",
            "",
            "  ",
            "a\x1b[31m",
        ] {
            history.add(line).unwrap();
        }
        assert_eq!(history.lines(), ["drain a", "status"]);
        let again = History::open(scratch.file()).unwrap();
        assert_eq!(again.lines(), ["drain a", "status"]);
        let mode = fs::metadata(scratch.file()).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 1);
    }

    #[test]
    fn an_open_mode_is_closed_and_a_link_stays() {
        let scratch = Scratch::new("mode");
        let target = scratch.0.join("target");
        fs::write(&target, "old\n").unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o644)).unwrap();
        symlink(&target, scratch.file()).unwrap();
        let mut history = History::open(scratch.file()).unwrap();
        history.add("new").unwrap();
        assert!(fs::symlink_metadata(scratch.file()).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&target).unwrap(), "old\nnew\n");
        let mode = fs::metadata(&target).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
    }

    #[test]
    fn two_processes_keep_each_others_lines() {
        let scratch = Scratch::new("two");
        let mut first = History::open(scratch.file()).unwrap();
        let mut second = History::open(scratch.file()).unwrap();
        first.add("one").unwrap();
        second.add("two").unwrap();
        first.add("three").unwrap();
        let text = fs::read_to_string(scratch.file()).unwrap();
        assert_eq!(text, "one\ntwo\nthree\n");
        assert_eq!(first.lines(), ["one", "three"]);
    }

    #[test]
    fn a_thousand_lines_at_most() {
        let text: String = (0..1500).map(|n| format!("line {n}\nline {n}\n")).collect();
        let lines = parse(text.as_bytes());
        assert_eq!(lines.len(), MOST_LINES);
        assert_eq!(lines.first().map(String::as_str), Some("line 500"));
        let mut lines = lines;
        push(&mut lines, "one more");
        assert_eq!(lines.len(), MOST_LINES);
        assert_eq!(lines.last().map(String::as_str), Some("one more"));
    }

    #[test]
    fn what_is_not_text_is_left_out() {
        let lines = parse(b"good\n\x1b]0;bad\x07\nodd \xff\n\n\rx\n");
        assert_eq!(lines, ["good", "odd \u{fffd}"]);
    }

    #[test]
    fn only_files_are_replaced() {
        let scratch = Scratch::new("kind");
        let told = History::open(scratch.0.clone()).unwrap_err();
        assert!(matches!(told, Error::HistoryKind { .. }), "{told}");
        let told = History::open("/dev/null".into()).unwrap_err();
        assert!(matches!(told, Error::HistoryKind { .. }), "{told}");
        nix::unistd::mkfifo(&scratch.file(), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let told = History::open(scratch.file()).unwrap_err();
        assert!(matches!(told, Error::HistoryKind { .. }), "{told}");
    }

    #[test]
    fn a_missing_directory_is_told() {
        let scratch = Scratch::new("missing");
        let path = scratch.0.join("no").join("history");
        let mut history = History::open(path).unwrap();
        let told = history.add("status").unwrap_err();
        assert!(
            matches!(
                told,
                Error::History {
                    call: "open",
                    errno: Errno::ENOENT,
                    ..
                }
            ),
            "{told}"
        );
        assert_eq!(history.lines(), ["status"]);
    }
}
