//! [`Stage`]: where the demo is shown, and where it hears that it is to end.

use super::error::{Error, Result};
use crate::commands::parse::{Colors, Form};
use crate::terminal::{Colour, Colours, Row, Style};
use bpfsmith_sys::terminal::window_size;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io::{ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Signals that end it, in good order.
const SIGNALS: [Signal; 4] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
];

/// How wide what it prints is.
pub(super) const WIDTH: usize = 78;

/// Text in several styles, for a terminal or for a file.
#[derive(Clone, Debug, Default)]
pub(super) struct Line(Vec<(Style, String)>);

impl Line {
    pub(super) fn new(text: impl Into<String>) -> Line {
        Line::default().text(text)
    }

    #[must_use]
    pub(super) fn text(self, text: impl Into<String>) -> Line {
        self.styled(Style::PLAIN, text)
    }

    #[must_use]
    pub(super) fn styled(mut self, style: Style, text: impl Into<String>) -> Line {
        self.0.push((style, text.into()));
        self
    }

    fn row(&self) -> Row {
        let spans = self.0.iter();
        spans.fold(Row::new(), |row, (style, text)| {
            row.styled(*style, text.as_str())
        })
    }

    pub(super) fn plain(&self) -> String {
        let text: String = self.0.iter().map(|(_, text)| text.as_str()).collect();
        crate::terminal::plain(text.trim_end()).into_owned()
    }
}

/// How it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// At a terminal: what changes is drawn again in its place.
    Live(Colours),
    /// Line after line.
    Lines,
    /// Not at all: only what came of it is told.
    Silent,
}

/// Whether something was as it should be.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub(super) act: &'static str,
    pub(super) holds: bool,
    pub(super) text: String,
}

/// Where the demo is shown.
pub(super) struct Stage<'a> {
    out: &'a mut dyn Write,
    signals: SignalFd,
    look: Look,
    /// Lines at the end that are drawn again.
    live: usize,
    act: &'static str,
    acts: u32,
    findings: Vec<Finding>,
    /// When it began.
    pub(super) begun: Instant,
    /// Whether a signal has been heard: cleaning up is not ended by another one.
    is_ended: bool,
}

impl<'a> Stage<'a> {
    /// From now on signals wait until they are heard here: in all threads that are started.
    pub(super) fn new(
        out: &'a mut dyn Write,
        form: Form,
        colors: Colors,
        is_plain: bool,
    ) -> Result<Stage<'a>> {
        let mut set = SigSet::empty();
        SIGNALS.iter().for_each(|signal| set.add(*signal));
        let failed = |call| move |errno: nix::Error| Error::machine(call)(errno.into());
        set.thread_block().map_err(failed("pthread_sigmask"))?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&set, flags).map_err(failed("signalfd"))?;
        let term = std::env::var("TERM").unwrap_or_default();
        let is_terminal = std::io::stdout().is_terminal() && !matches!(term.as_str(), "" | "dumb");
        let look = match (form, colors) {
            (Form::Json, _) => Look::Silent,
            _ if is_plain || !is_terminal => Look::Lines,
            (Form::Text, Colors::Terminal) => Look::Live(Colours::of_environment()),
            (Form::Text, Colors::Never) => Look::Live(Colours::Hidden),
        };
        Ok(Stage {
            out,
            signals,
            look,
            live: 0,
            act: "before",
            acts: 0,
            findings: Vec::new(),
            begun: Instant::now(),
            is_ended: false,
        })
    }

    /// What was found until now.
    pub(super) fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// An act begins; what it does in one line.
    pub(super) fn act(&mut self, name: &'static str, what: &str) -> Result<()> {
        self.act = name;
        self.acts += 1;
        let seconds = self.begun.elapsed().as_secs_f64();
        let title = format!("{}. {name} ", self.acts);
        let time = format!(" {seconds:.1} s");
        let room = WIDTH.saturating_sub(title.chars().count() + time.chars().count());
        let rule = "-".repeat(room);
        let bold = Style::PLAIN.bold().colour(Colour::Cyan);
        let dim = Style::PLAIN.dim();
        self.say("")?;
        self.line(
            &Line::default()
                .styled(bold, title)
                .styled(dim, rule + &time),
        )?;
        self.say(what)
    }

    /// A line that stays.
    pub(super) fn line(&mut self, line: &Line) -> Result<()> {
        let text = match self.look {
            Look::Silent => return Ok(()),
            Look::Lines => line.plain() + "\n",
            // A terminal breaks what is too long; it is told once and not drawn again.
            Look::Live(colours) => self.erase() + &line.row().write(4096, colours).0 + "\n",
        };
        self.write(&text)
    }

    pub(super) fn say(&mut self, text: &str) -> Result<()> {
        self.line(&Line::new(text))
    }

    /// The command that somebody would type.
    pub(super) fn command(&mut self, text: &str) -> Result<()> {
        let line = Line::default().styled(Style::PLAIN.bold(), format!("  $ {text}"));
        self.line(&line)
    }

    /// Something was found: what it should be, or what it should not.
    pub(super) fn judge(&mut self, finding: std::result::Result<String, String>) -> Result<()> {
        let (holds, text) = match finding {
            Ok(text) => (true, text),
            Err(text) => (false, text),
        };
        let good = Style::PLAIN.bold().colour(Colour::Green);
        let bad = Style::PLAIN.bold().colour(Colour::Red);
        let line = match holds {
            true => Line::default().styled(good, "  ok  "),
            false => Line::default().styled(bad, "  NOT AS IT SHOULD BE: "),
        };
        self.line(&line.text(text.as_str()))?;
        let act = self.act;
        self.findings.push(Finding { act, holds, text });
        Ok(())
    }

    /// Lines that are drawn again and again, at a terminal; nothing elsewhere.
    pub(super) fn live(&mut self, lines: &[Line]) -> Result<()> {
        let Look::Live(colours) = self.look else {
            return Ok(());
        };
        let size = window_size(std::io::stdout().as_fd()).unwrap_or_default();
        let columns = match usize::from(size.columns) {
            0 => 80,
            columns => columns,
        };
        // What would not fit could not be erased again.
        let most = match usize::from(size.rows) {
            0 => 20,
            rows => rows.saturating_sub(1),
        };
        let mut text = self.erase();
        for line in lines.iter().take(most) {
            // The last column stays free: a full line may or may not move the cursor.
            text += &line.row().write(columns.saturating_sub(1), colours).0;
            text.push('\n');
        }
        self.write(&text)?;
        self.live = lines.len().min(most);
        Ok(())
    }

    /// What takes the live lines away.
    fn erase(&mut self) -> String {
        match std::mem::take(&mut self.live) {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\x1b[J"),
        }
    }

    fn write(&mut self, text: &str) -> Result<()> {
        let written = self.out.write_all(text.as_bytes());
        match written.and_then(|()| self.out.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Error::Unread),
            Err(error) => Err(Error::Machine {
                call: "write",
                error,
            }),
            Ok(()) => Ok(()),
        }
    }

    /// Waits, unless it is to end.
    pub(super) fn wait(&mut self, time: Duration) -> Result<()> {
        if self.is_ended {
            std::thread::sleep(time);
            return Ok(());
        }
        let mut ready = [PollFd::new(
            self.signals.as_fd(),
            PollFlags::POLLIN,
        )];
        let time = PollTimeout::try_from(time).unwrap_or(PollTimeout::ZERO);
        match poll(&mut ready, time) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(errno) => return Err(Error::machine("poll")(errno.into())),
        }
        let Ok(Some(signal)) = self.signals.read_signal() else {
            return Ok(());
        };
        self.is_ended = true;
        let signal = i32::try_from(signal.ssi_signo).map(Signal::try_from);
        Err(Error::Ended(match signal {
            Ok(Ok(signal)) => signal,
            _ => Signal::SIGTERM,
        }))
    }

    /// From now on no signal ends it: it cleans up.
    pub(super) fn close(&mut self) {
        self.is_ended = true;
        self.act = "The end";
    }

    /// What came of it, for programs.
    pub(super) fn told(&mut self, text: &str) -> Result<()> {
        match self.look {
            Look::Silent => self.write(text),
            _ => Ok(()),
        }
    }
}
