//! Commands one after the other, as somebody types them or a script has them.

use crate::act::act_with;
use crate::commands::complete::{self, Names};
use crate::commands::parse::{Colors, Form, Globals};
use crate::commands::{Command, Exit, Parsed, Surroundings, parse, words};
use crate::error::{Error, Result};
use crate::http::{Client, Hangup, Method};
use crate::lock::locked;
use crate::show;
use crate::terminal::{Completions, Line, Reader};
use bpfsmith_config::json;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::ffi::OsString;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What stands before each line.
const PROMPT: &str = "bpfsmith-proxy> ";

/// How long a completion may wait for names.
const NAMES_TIME: Duration = Duration::from_secs(1);

/// Why a line is no words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfinished {
    /// A quotation mark has no other.
    #[error("there is no second {0}: quote words like 'this one'")]
    Quote(char),
    /// Nothing follows a backslash.
    #[error("nothing follows the last \\: write \\\\ for one")]
    Backslash,
}

/// The words of a line, as shells of POSIX take it apart: blanks separate words, `'…'` and `"…"` keep them together, `\`
/// takes the next character as it is, and what follows `#` at the beginning of a word is a remark.
///
/// # Errors
/// When a quotation does not end.
pub fn split(line: &str) -> std::result::Result<Vec<String>, Unfinished> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(next) = chars.next() {
        match next {
            ' ' | '\t' => words.extend(word.take()),
            '#' if word.is_none() => break,
            '\'' | '"' => quoted(&mut chars, next, word.get_or_insert_default())?,
            '\\' => {
                let taken = chars.next().ok_or(Unfinished::Backslash)?;
                word.get_or_insert_default().push(taken);
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Up to the second mark.
fn quoted(
    chars: &mut std::str::Chars<'_>,
    mark: char,
    word: &mut String,
) -> std::result::Result<(), Unfinished> {
    loop {
        match chars.next().ok_or(Unfinished::Quote(mark))? {
            it if it == mark => return Ok(()),
            '\\' if mark == '"' => {
                let next = chars.next().ok_or(Unfinished::Quote(mark))?;
                if !matches!(next, '"' | '\\' | '$' | '`') {
                    word.push('\\');
                }
                word.push(next);
            }
            other => word.push(other),
        }
    }
}

/// What a line asks for.
#[derive(Debug)]
enum Asked {
    Nothing,
    End,
    Command(Box<Parsed>),
    /// It is refused, for this reason.
    Refused(String),
}

fn asked(line: &str, globals: &Globals) -> Asked {
    let words = match split(line) {
        Ok(words) => words,
        Err(error) => return Asked::Refused(error.to_string()),
    };
    match words.first().map(String::as_str) {
        None => return Asked::Nothing,
        Some("exit" | "quit") if words.len() == 1 => return Asked::End,
        Some(_) => {}
    }
    let surroundings = Surroundings {
        socket: globals.socket.clone().map(PathBuf::into_os_string),
        no_color: (globals.colors == Colors::Never).then(|| OsString::from("1")),
    };
    let words = words.into_iter().map(OsString::from).collect();
    let mut parsed = match parse(words, &surroundings) {
        Ok(parsed) => parsed,
        Err(error) => return Asked::Refused(error.to_string()),
    };
    if globals.form == Form::Json {
        parsed.globals.form = Form::Json;
    }
    let hint = match parsed.command {
        Command::Run(_) => "run is a process of its own: start it outside of this shell",
        Command::Demo(_) => "demo is a process of its own: start it outside of this shell",
        Command::Shell => "this is the shell already: exit or Ctrl-D end it",
        _ => return Asked::Command(Box::new(parsed)),
    };
    Asked::Refused(hint.to_owned())
}

/// Reads lines and carries them out, until there are no more. Of a script, the first that fails is the last.
///
/// # Errors
/// When lines cannot be read, or nothing can be printed.
pub fn shell(globals: &Globals, out: &mut dyn Write, err: &mut dyn Write) -> Result<Exit> {
    let mut reader = Reader::open(history());
    let is_terminal = reader.is_terminal();
    if is_terminal {
        let hint = "commands as on the command line; help lists them, exit or Ctrl-D ends";
        say(out, hint)?;
    }
    let socket = globals.socket_path().to_owned();
    let known = Known { socket: &socket };
    let completer = |line: &str, cursor: usize| complete(line, cursor, &known);
    let mut number = 0_u64;
    loop {
        let line = match reader.read(PROMPT, &completer)? {
            Line::Text(line) => line,
            Line::Interrupted => continue,
            Line::End => return Ok(Exit::Done),
        };
        number += 1;
        let exit = match asked(&line, globals) {
            Asked::Nothing => continue,
            Asked::End => return Ok(Exit::Done),
            Asked::Refused(why) => {
                say(err, &format!("bpfsmith-proxy: {why}"))?;
                Exit::Usage
            }
            Asked::Command(parsed)
                if is_terminal && matches!(parsed.command, Command::Events(_)) =>
            {
                until_interrupted(&parsed, out, err)?
            }
            Asked::Command(parsed) => act_with(&parsed, out, err, &|_| ()),
        };
        // What is printed belongs before the next prompt.
        out.flush().map_err(printed)?;
        if exit != Exit::Done && !is_terminal {
            say(
                err,
                &format!("bpfsmith-proxy: line {number} failed: the rest is not done"),
            )?;
            return Ok(exit);
        }
    }
}

fn printed(error: std::io::Error) -> Error {
    Error::Machine {
        call: "write",
        error,
        hint: "what reads this is gone, or there is no room",
    }
}

fn say(to: &mut dyn Write, text: &str) -> Result<()> {
    writeln!(to, "{text}").map_err(printed)
}

/// Carries out a command that goes on for ever: Ctrl-C ends it, and nothing else.
fn until_interrupted(parsed: &Parsed, out: &mut dyn Write, err: &mut dyn Write) -> Result<Exit> {
    let failed = |call| {
        move |errno: nix::Error| Error::Machine {
            call,
            error: errno.into(),
            hint: "the limit of open files is reached: see ulimit -n",
        }
    };
    let interrupt = SigSet::from_iter([Signal::SIGINT]);
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let signals = SignalFd::with_flags(&interrupt, flags).map_err(failed("signalfd"))?;
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    let over = EventFd::from_flags(flags).map_err(failed("eventfd"))?;
    let mask = interrupt
        .thread_swap_mask(SigmaskHow::SIG_BLOCK)
        .map_err(failed("pthread_sigmask"))?;
    let interrupted = AtomicBool::new(false);
    let stream: Mutex<Option<Hangup>> = Mutex::new(None);
    let end = || {
        let stream = locked(&stream);
        if let (true, Some(stream)) = (interrupted.load(Ordering::SeqCst), stream.as_ref()) {
            stream.hang_up();
        }
    };
    let mut told = Vec::new();
    let exit = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut waits = [
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(over.as_fd(), PollFlags::POLLIN),
            ];
            // It fails only for interruptions, which are blocked.
            let _ = poll(&mut waits, PollTimeout::NONE);
            if matches!(signals.read_signal(), Ok(Some(_))) {
                interrupted.store(true, Ordering::SeqCst);
                end();
            }
        });
        let exit = act_with(parsed, out, &mut told, &|hangup| {
            *locked(&stream) = Some(hangup);
            end();
        });
        // A full counter is readable too.
        let _ = over.write(1);
        exit
    });
    mask.thread_set_mask().map_err(failed("pthread_sigmask"))?;
    if interrupted.load(Ordering::SeqCst) {
        say(out, "")?;
        return Ok(Exit::Done);
    }
    err.write_all(&told).map_err(printed)?;
    Ok(exit)
}

/// The file of lines of before, where programs of this user keep such things.
fn history() -> Option<PathBuf> {
    let place = |name: &str| {
        std::env::var_os(name)
            .filter(|it| !it.is_empty())
            .map(PathBuf::from)
    };
    let state = place("XDG_STATE_HOME").filter(|it| it.is_absolute());
    let state = state.or_else(|| Some(place("HOME")?.join(".local/state")))?;
    let dir = state.join("bpfsmith-proxy");
    // If there is none, keeping a line fails, and that is told.
    let _ = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir);
    Some(dir.join("history"))
}

/// The daemon, which knows names.
struct Known<'a> {
    socket: &'a Path,
}

impl Names for Known<'_> {
    /// Nothing, if it does not answer soon.
    fn names(&self, kind: words::Names) -> Vec<String> {
        let client = Client::unix(self.socket).with_time(NAMES_TIME);
        let reply = client.request(Method::GET, "/v1/status", b"").ok();
        let reply = reply.filter(crate::http::Reply::is_success);
        let text = reply.map(|it| String::from_utf8_lossy(&it.body).into_owned());
        let status = text.and_then(|text| json::read(text.trim()).ok());
        status.map_or_else(Vec::new, |it| show::names(&it, kind))
    }
}

/// What may stand where the cursor is, as on the command line, with the words that only this shell has.
fn complete(line: &str, cursor: usize, names: &dyn Names) -> Completions {
    let (start, mut candidates) = complete::complete(line, cursor, names);
    let (before, typed) = line.get(..cursor).unwrap_or(line).split_at(start);
    if before.trim().is_empty() && "exit".starts_with(typed) {
        candidates.push("exit".to_owned());
        candidates.sort();
    }
    for candidate in &mut candidates {
        candidate.push(' ');
    }
    Completions { start, candidates }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn globals() -> Globals {
        Globals {
            socket: Some("/run/x.sock".into()),
            form: Form::Text,
            colors: Colors::Never,
        }
    }

    #[test]
    fn words_of_lines() {
        for (line, words) in [
            ("", &[][..]),
            ("  \t ", &[]),
            ("# a remark", &[]),
            ("status # a remark", &["status"]),
            ("a#b", &["a#b"]),
            (" drain  10.0.0.2:80\t", &["drain", "10.0.0.2:80"]),
            ("set 'a b' \"c d\"", &["set", "a b", "c d"]),
            ("a''b \"\" ''", &["ab", "", ""]),
            (
                r#"'a\b' "a\"b\\c\d" a\ b \'"#,
                &[r"a\b", r#"a"b\c\d"#, "a b", "'"],
            ),
            ("'it'\"'\"'s'", &["it's"]),
            ("żółw 日本", &["żółw", "日本"]),
        ] {
            assert_eq!(split(line).unwrap(), words, "{line:?}");
        }
        for (line, why) in [
            ("'a", Unfinished::Quote('\'')),
            ("a \"b", Unfinished::Quote('"')),
            ("\"a\\", Unfinished::Quote('"')),
            ("a\\", Unfinished::Backslash),
        ] {
            assert_eq!(split(line), Err(why), "{line:?}");
        }
    }

    struct Canned;

    impl Names for Canned {
        fn names(&self, kind: words::Names) -> Vec<String> {
            let name = match kind {
                words::Names::Targets => "10.0.0.2:80",
                _ => "web",
            };
            vec![name.to_owned()]
        }
    }

    proptest! {
        #[test]
        fn quoted_words_come_back(words in prop::collection::vec("\\PC*", 0..5)) {
            let quote = |word: &String| format!("'{}'", word.replace('\'', "'\\''"));
            let line: Vec<String> = words.iter().map(quote).collect();
            prop_assert_eq!(split(&line.join(" ")), Ok(words));
        }

        #[test]
        fn no_line_panics(line in ".*", cursor in 0_usize..40) {
            let _ = asked(&line, &globals());
            let _ = complete(&line, cursor, &Canned);
        }
    }

    #[test]
    fn lines_become_commands() {
        let text = |line: &str| match asked(line, &globals()) {
            Asked::Nothing => "nothing".to_owned(),
            Asked::End => "end".to_owned(),
            Asked::Command(parsed) => {
                assert_eq!(parsed.globals.socket, globals().socket);
                format!("{:?}", parsed.command)
            }
            Asked::Refused(why) => why,
        };
        assert_eq!(text(""), "nothing");
        assert_eq!(text("exit"), "end");
        assert_eq!(text("status"), "Status");
        assert!(
            text("shell").contains("this is the shell"),
            "{}",
            text("shell")
        );
        assert!(text("run").contains("outside"), "{}", text("run"));
        assert!(text("demo").contains("outside"), "{}", text("demo"));
        assert!(
            text("remove 'a").contains("second '"),
            "{}",
            text("remove 'a")
        );
        assert!(text("statsu").contains("status"), "{}", text("statsu"));
        let json = Globals {
            form: Form::Json,
            ..globals()
        };
        assert!(
            matches!(asked("status", &json), Asked::Command(it) if it.globals.form == Form::Json)
        );
    }

    #[test]
    fn words_are_completed() {
        let of = |line: &str| complete(line, line.len(), &Canned).candidates;
        assert_eq!(of("stat"), ["status "]);
        assert_eq!(of("exi"), ["exit "]);
        assert_eq!(of("route "), ["add ", "remove "]);
        assert_eq!(of("remove w"), ["web "]);
        // What is no target is not offered where one stands.
        assert_eq!(of("drain "), ["10.0.0.2:80 "]);
        assert_eq!(of("conns --state es"), ["established "]);
        assert_eq!(of("ex"), ["exit ", "explain "]);
        assert_eq!(of("top --o"), ["--once "]);
        assert_eq!(of("odd w"), <[&str; 0]>::default());
    }
}
