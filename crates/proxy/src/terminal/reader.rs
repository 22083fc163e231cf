//! Lines that somebody types, or that a script holds.

use super::complete::Completions;
use super::error::{Error, Result};
use super::history::History;
use super::input::{Keyboard, Pressed};
use super::keys::Key;
use super::line::{Editor, LONGEST_LINE, Step};
use super::list;
use super::raw::{Dress, Raw};
use super::screen::{dumb, size};
use super::text::plain;
use super::view::View;
use std::io::{BufRead, IsTerminal, Read, Write};
use std::path::PathBuf;

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A line, without its end.
    Text(String),
    /// It was given up, by Ctrl-C.
    Interrupted,
    /// There are no more.
    End,
}

/// Where lines come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// A terminal on which lines can be edited.
    Terminal,
    /// A terminal that cannot place a cursor: the kernel edits.
    Dumb,
    /// A file or a pipe.
    Script,
}

/// Reads lines from standard input.
#[derive(Debug)]
pub struct Reader {
    source: Source,
    history: History,
    keyboard: Keyboard,
    /// How many lines were read without a terminal.
    count: u64,
    /// That the history is not kept was told.
    has_complained: bool,
}

impl Reader {
    /// Reads from standard input: with editing if that and standard output are a terminal, otherwise the plain
    /// lines of a script, without a prompt. The history is read from the file and kept in it; if that fails,
    /// it is told once on standard error, and lines are read all the same.
    #[must_use]
    pub fn open(history: Option<PathBuf>) -> Reader {
        let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        let mut reader = Reader {
            source: match is_terminal {
                false => Source::Script,
                true if dumb().is_some() => Source::Dumb,
                true => Source::Terminal,
            },
            history: History::new(),
            keyboard: Keyboard::default(),
            count: 0,
            has_complained: false,
        };
        // What a script says is no history.
        if let (Source::Terminal, Some(path)) = (reader.source, history) {
            match History::open(path) {
                Ok(history) => reader.history = history,
                Err(error) => reader.complain(&error),
            }
        }
        reader
    }

    /// Whether somebody types the lines: then it is time for a greeting.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.source != Source::Script
    }

    /// Reads the next line. The prompt is shown as [`plain`](super::plain()) text.
    ///
    /// The terminal is taken only while this waits; then Ctrl-C is [`Line::Interrupted`]. At other times it is
    /// the usual signal.
    ///
    /// # Errors
    /// If the terminal is taken already or refuses something; if a line of a script is no text or too long.
    pub fn read(
        &mut self,
        prompt: &str,
        completer: &dyn Fn(&str, usize) -> Completions,
    ) -> Result<Line> {
        match self.source {
            Source::Terminal => self.edit(prompt, completer),
            Source::Dumb => {
                print(&plain(prompt))?;
                self.script_line()
            }
            Source::Script => self.script_line(),
        }
    }

    fn edit(
        &mut self,
        prompt: &str,
        completer: &dyn Fn(&str, usize) -> Completions,
    ) -> Result<Line> {
        let raw = Raw::take(Dress::LINE)?;
        let mut editor = Editor::new();
        loop {
            if !self.keyboard.has_more() {
                self.show(&raw, &editor, prompt)?;
            }
            let key = match self.keyboard.next(&raw, None) {
                Ok(Pressed::Key(key)) => key,
                Ok(Pressed::Woken | Pressed::Nothing) => continue,
                Err(Error::Closed) => return Ok(Line::End),
                Err(error) => return Err(error),
            };
            // When it is given up, the editor forgets it.
            let given_up = match key {
                Key::Ctrl('c') => self.view(&raw, &editor, prompt)?.text,
                _ => String::new(),
            };
            match editor.press(key, self.history.lines(), completer) {
                Step::Shown => {}
                Step::Refused => raw.write(b"\x07")?,
                Step::Accepted(line) => {
                    raw.write(
                        format!("\r{}\x1b[K\r\n", plain_end(prompt, &line, &raw)?).as_bytes(),
                    )?;
                    drop(raw);
                    self.remember(&line);
                    return Ok(Line::Text(line));
                }
                Step::Interrupted => {
                    raw.write(format!("\r{given_up}^C\x1b[K\r\n").as_bytes())?;
                    return Ok(Line::Interrupted);
                }
                Step::End => {
                    raw.write(b"\r\n")?;
                    return Ok(Line::End);
                }
                Step::Listed(candidates) => {
                    let size = size(raw.output())?;
                    let lines = list::lines(&candidates, size);
                    let line = self.view(&raw, &editor, prompt)?.text;
                    raw.write(format!("\r{line}\x1b[K\r\n{lines}").as_bytes())?;
                }
                Step::Cleared => raw.write(b"\x1b[H\x1b[2J")?,
                Step::Stopped => {
                    raw.write(b"\r\n")?;
                    raw.stop_job()?;
                }
            }
        }
    }

    fn view(&self, raw: &Raw, editor: &Editor, prompt: &str) -> Result<View> {
        let columns = size(raw.output())?.columns;
        Ok(editor.view(prompt, self.history.lines(), columns))
    }

    fn show(&self, raw: &Raw, editor: &Editor, prompt: &str) -> Result<()> {
        let view = self.view(raw, editor, prompt)?;
        let mut out = format!("\r{}\x1b[K\r", view.text);
        if view.cursor > 0 {
            out.push_str(&format!("\x1b[{}C", view.cursor));
        }
        raw.write(out.as_bytes())
    }

    fn remember(&mut self, line: &str) {
        if let Err(error) = self.history.add(line) {
            self.complain(&error);
        }
    }

    fn complain(&mut self, error: &Error) {
        if !self.has_complained {
            self.has_complained = true;
            // Nothing is left to be told it to if that fails.
            let _ = writeln!(std::io::stderr(), "warning: {error}");
        }
    }

    fn script_line(&mut self) -> Result<Line> {
        let mut bytes = Vec::new();
        let most = u64::try_from(LONGEST_LINE).unwrap_or(u64::MAX);
        let mut input = std::io::stdin().lock().take(most.saturating_add(2));
        let read = input.read_until(b'\n', &mut bytes);
        read.map_err(super::error::io("read"))?;
        if bytes.is_empty() {
            return Ok(Line::End);
        }
        self.count += 1;
        let line = self.count;
        let end = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let bytes = end.strip_suffix(b"\r").unwrap_or(end);
        if bytes.len() > LONGEST_LINE {
            return Err(Error::TooLong { line });
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Line::Text(text.to_owned())),
            Err(_) => Err(Error::NotText { line }),
        }
    }
}

/// The line as it stays on the terminal: from its beginning.
fn plain_end(prompt: &str, line: &str, raw: &Raw) -> Result<String> {
    let columns = size(raw.output())?.columns;
    Ok(super::view::window(prompt, line, 0, columns).text)
}

fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(super::error::io("write"))
}
