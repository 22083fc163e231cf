//! A whole screen that shows something live.

use super::error::{Error, Result, Stream};
use super::frame::{Frame, Size};
use super::input::{Keyboard, Pressed};
use super::keys::Key;
use super::raw::{Dress, Raw};
use super::style::{Colours, Row};
use bpfsmith_sys::terminal::window_size;
use std::io::IsTerminal;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// The terminal as a screen. What was on it before is there again when this is dropped, and also when the process
/// panics or a signal ends or stops it.
///
/// Open it before starting threads: a signal that arrives in a thread from before ends the process at once, and
/// the terminal stays as it is.
#[derive(Debug)]
pub struct Screen {
    raw: Raw,
    keyboard: Keyboard,
    frame: Frame,
    /// How many times the terminal had been taken when the frame was drawn.
    times: u64,
    colours: Colours,
}

/// The size of the window; 24 lines of 80 columns for a terminal that does not know.
pub(crate) fn size(terminal: BorrowedFd<'_>) -> Result<Size> {
    let size = window_size(terminal)?;
    let or = |told: u16, usual: usize| match told {
        0 => usual,
        told => usize::from(told),
    };
    Ok(Size {
        rows: or(size.rows, 24),
        columns: or(size.columns, 80),
    })
}

/// What `TERM` says, if that is a terminal that cannot place a cursor.
pub(crate) fn dumb() -> Option<String> {
    let term = std::env::var_os("TERM").unwrap_or_default();
    let term = term.to_string_lossy().into_owned();
    matches!(term.as_str(), "" | "dumb").then_some(term)
}

impl Screen {
    /// Takes the terminal that is standard input and output. Colours are shown unless `NO_COLOR` is set.
    ///
    /// # Errors
    /// If one of them is no terminal, or it is one that cannot place a cursor; the message says what to do
    /// instead. If a screen or a line has the terminal already.
    pub fn open() -> Result<Screen> {
        if !std::io::stdout().is_terminal() {
            return Err(Error::NoTerminal(Stream::Output));
        }
        if !std::io::stdin().is_terminal() {
            return Err(Error::NoTerminal(Stream::Input));
        }
        if let Some(term) = dumb() {
            return Err(Error::Dumb { term });
        }
        Ok(Screen {
            raw: Raw::take(Dress::SCREEN)?,
            keyboard: Keyboard::default(),
            frame: Frame::default(),
            times: 0,
            colours: Colours::of_environment(),
        })
    }

    /// How large the window is now.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub fn size(&self) -> Result<Size> {
        size(self.raw.output())
    }

    /// Shows these rows, from the top. What does not fit into the window is left out. Only lines that look
    /// different now are written.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub fn draw(&mut self, rows: &[Row]) -> Result<()> {
        let times = self.raw.times()?;
        if times != self.times {
            self.frame.forget();
            self.times = times;
        }
        let text = self.frame.paint(rows, self.size()?, self.colours);
        self.raw.write(text.as_bytes())
    }

    /// The next key, waiting for so long. `None` also comes early, when the window may have another size or the
    /// process was stopped and goes on: draw again then.
    ///
    /// Ctrl-C is a key like others, which should end the program; Ctrl-Z stops it without being seen here.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub fn next_key(&mut self, wait: Duration) -> Result<Option<Key>> {
        match self.keyboard.next(&self.raw, Some(wait))? {
            Pressed::Key(Key::Ctrl('z')) => {
                self.raw.stop_job()?;
                Ok(None)
            }
            Pressed::Key(key) => Ok(Some(key)),
            Pressed::Woken | Pressed::Nothing => Ok(None),
        }
    }
}
