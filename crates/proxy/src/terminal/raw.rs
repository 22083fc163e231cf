//! The terminal as a stream of keys, and always given back as it was.
//!
//! While a [`Raw`] lives, keys arrive as bytes, Ctrl-C among them. It is given back when it is dropped, when a
//! thread panics (before the message is written), and when a signal ends or stops the process: a thread of
//! its own takes these signals, so that it happens whatever the other threads do. After a stop the
//! terminal is taken again.
//!
//! Only the thread that takes the terminal, and those that it starts later, leave the signals to that thread:
//! a process that starts threads earlier blocks the signals in them.

use super::error::{Error, Result, io, refused};
use crate::lock::locked;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{self, InputFlags, LocalFlags, SetArg, SpecialCharacterIndices, Termios};
use nix::unistd::Pid;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, TryLockError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What is written when the terminal is taken and given back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dress {
    pub(crate) enter: &'static [u8],
    pub(crate) leave: &'static [u8],
}

impl Dress {
    /// For a line in the midst of other output.
    pub(crate) const LINE: Dress = Dress {
        enter: b"",
        leave: b"",
    };

    /// For a whole screen: the other screen, no cursor, no line that wraps.
    pub(crate) const SCREEN: Dress = Dress {
        enter: b"\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J",
        leave: b"\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l",
    };
}

/// Signals that end or stop a process, let it go on, or tell that the window has another size.
const SIGNALS: [Signal; 7] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGTSTP,
    Signal::SIGCONT,
    Signal::SIGWINCH,
];

/// How long the thread that takes signals waits for others that write.
const PATIENCE: Duration = Duration::from_millis(500);

/// What is known about a terminal that was taken.
#[derive(Debug)]
struct Terminal {
    input: OwnedFd,
    output: OwnedFd,
    dress: Dress,
    /// Wakes who waits for keys.
    wake: EventFd,
    /// Ends the thread that takes signals.
    stop: EventFd,
    /// Whether the terminal is taken right now. Who writes holds it.
    state: Mutex<State>,
    /// How many times it was taken.
    times: AtomicU64,
}

/// The settings before and while it is taken.
#[derive(Debug)]
struct State {
    saved: Termios,
    raw: Termios,
    is_taken: bool,
}

/// The terminal that this process has taken.
static HELD: Mutex<Option<Arc<Terminal>>> = Mutex::new(None);

fn held() -> MutexGuard<'static, Option<Arc<Terminal>>> {
    locked(&HELD)
}

impl Terminal {
    fn lock(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// For who must not wait for ever: a thread may be stuck writing to a terminal that takes nothing.
    fn lock_soon(&self) -> Option<MutexGuard<'_, State>> {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.state.try_lock() {
                Ok(state) => return Some(state),
                Err(TryLockError::Poisoned(state)) => return Some(state.into_inner()),
                Err(TryLockError::WouldBlock) if Instant::now() > end => return None,
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    fn take(&self, state: &mut State) -> Result<()> {
        if state.is_taken {
            return Ok(());
        }
        termios::tcsetattr(&self.input, SetArg::TCSANOW, &state.raw)
            .map_err(refused("tcsetattr"))?;
        state.is_taken = true;
        self.times.fetch_add(1, Ordering::Relaxed);
        write_all(self.output.as_fd(), self.dress.enter)
    }

    /// Whoever let the process run again may have given the terminal other settings and drawn on it.
    fn went_on(&self) {
        let Some(state) = self.lock_soon() else {
            return;
        };
        if state.is_taken {
            let _ = termios::tcsetattr(&self.input, SetArg::TCSANOW, &state.raw);
            self.times.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Gives it back as it was. A terminal that is gone refuses that, and then it does not matter.
    fn give_back(&self, state: &mut State) {
        if !state.is_taken {
            return;
        }
        state.is_taken = false;
        let _ = termios::tcsetattr(&self.input, SetArg::TCSANOW, &state.saved);
        let timeout = PollTimeout::from(500_u16);
        let mut fds = [PollFd::new(
            self.output.as_fd(),
            PollFlags::POLLOUT,
        )];
        // A terminal that takes nothing would keep the process from ending.
        if matches!(poll(&mut fds, timeout), Ok(1)) {
            let _ = write_all(self.output.as_fd(), self.dress.leave);
        }
    }
}

/// Writes everything.
fn write_all(output: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<()> {
    use nix::errno::Errno;
    while !bytes.is_empty() {
        match nix::unistd::write(output, bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            // Somebody has opened the same terminal for a loop of events.
            Err(Errno::EAGAIN) => {
                let mut fds = [PollFd::new(output, PollFlags::POLLOUT)];
                match poll(&mut fds, PollTimeout::NONE) {
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(errno) => return Err(refused("poll")(errno)),
                }
            }
            Err(errno) => return Err(refused("write")(errno)),
        }
    }
    Ok(())
}

/// The settings under which each key arrives as it is pressed. Output is still cooked, so that a newline is
/// one for whoever else writes.
fn raw(saved: &Termios) -> Termios {
    let mut raw = saved.clone();
    raw.input_flags.remove(
        InputFlags::BRKINT
            | InputFlags::ICRNL
            | InputFlags::IGNCR
            | InputFlags::INLCR
            | InputFlags::INPCK
            | InputFlags::ISTRIP
            | InputFlags::IXON
            | InputFlags::PARMRK,
    );
    raw.local_flags.remove(
        LocalFlags::ECHO
            | LocalFlags::ECHONL
            | LocalFlags::ICANON
            | LocalFlags::IEXTEN
            | LocalFlags::ISIG,
    );
    for (place, value) in [
        (SpecialCharacterIndices::VMIN, 1),
        (SpecialCharacterIndices::VTIME, 0),
    ] {
        if let Some(char) = raw.control_chars.get_mut(place as usize) {
            *char = value;
        }
    }
    raw
}

/// The terminal, taken. One in a process at a time.
#[derive(Debug)]
pub(crate) struct Raw {
    terminal: Arc<Terminal>,
    mask: SigSet,
    watcher: Option<JoinHandle<()>>,
    /// The signals are blocked in this thread.
    here: PhantomData<*const ()>,
}

impl Raw {
    /// Takes the terminal that is standard input and output.
    pub(crate) fn take(dress: Dress) -> Result<Raw> {
        let copy = |fd: BorrowedFd<'_>| fd.try_clone_to_owned();
        let mut held = held();
        if held.is_some() {
            return Err(Error::Taken);
        }
        let input = copy(std::io::stdin().as_fd()).map_err(io("dup"))?;
        let output = copy(std::io::stdout().as_fd()).map_err(io("dup"))?;
        let saved = termios::tcgetattr(&input).map_err(refused("tcgetattr"))?;
        let copy_of_saved = saved.clone();
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let event = || EventFd::from_flags(flags).map_err(refused("eventfd2"));
        let terminal = Arc::new(Terminal {
            input,
            output,
            dress,
            wake: event()?,
            stop: event()?,
            state: Mutex::new(State {
                raw: raw(&saved),
                saved,
                is_taken: false,
            }),
            times: AtomicU64::new(0),
        });
        let signals = SigSet::from_iter(SIGNALS);
        let fd = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map_err(refused("signalfd4"))?;
        give_back_on_panic();
        let mask = signals
            .thread_swap_mask(SigmaskHow::SIG_BLOCK)
            .map_err(refused("pthread_sigmask"))?;
        // From here on its drop undoes what has been done.
        let mut raw = Raw {
            terminal: Arc::clone(&terminal),
            mask,
            watcher: None,
            here: PhantomData,
        };
        *held = Some(Arc::clone(&terminal));
        drop(held);
        let thread = std::thread::Builder::new().name("terminal".to_owned());
        let watcher = thread.spawn(move || watch(&terminal, &copy_of_saved, &fd));
        raw.watcher = Some(watcher.map_err(io("clone"))?);
        let mut state = raw.terminal.lock();
        raw.terminal.take(&mut state)?;
        drop(state);
        Ok(raw)
    }

    /// Writes, after taking the terminal again if it was given back in the meantime.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<()> {
        let mut state = self.terminal.lock();
        self.terminal.take(&mut state)?;
        write_all(self.terminal.output.as_fd(), bytes)
    }

    /// Takes the terminal again if it was given back, and says how many times it was taken until now. If that
    /// is more than before, nothing is left of what was drawn.
    pub(crate) fn times(&self) -> Result<u64> {
        self.write(b"")?;
        Ok(self.terminal.times.load(Ordering::Relaxed))
    }

    pub(crate) fn input(&self) -> BorrowedFd<'_> {
        self.terminal.input.as_fd()
    }

    pub(crate) fn output(&self) -> BorrowedFd<'_> {
        self.terminal.output.as_fd()
    }

    /// Readable when the window may have another size or the terminal was taken again.
    pub(crate) fn wake(&self) -> BorrowedFd<'_> {
        self.terminal.wake.as_fd()
    }

    /// Whether something happened that [`wake`](Raw::wake) tells, since this was asked last.
    pub(crate) fn was_woken(&self) -> bool {
        self.terminal.wake.read().is_ok()
    }

    /// Stops the processes of the job, as a terminal does for Ctrl-Z that is not raw.
    pub(crate) fn stop_job(&self) -> Result<()> {
        kill(Pid::from_raw(0), Signal::SIGTSTP).map_err(refused("kill"))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // First the thread, so that it does not take the terminal again.
        if let Some(watcher) = self.watcher.take() {
            let _ = self.terminal.stop.write(1);
            let _ = watcher.join();
        }
        self.terminal.give_back(&mut self.terminal.lock());
        *held() = None;
        // Signals that came last do now what they do.
        let _ = self.mask.thread_set_mask();
    }
}

/// Before the message of a panic is written, so that it can be read.
fn give_back_on_panic() {
    static ONCE: Once = Once::new();
    if std::thread::panicking() {
        return;
    }
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            // Nothing panics while it has one of these locks.
            let terminal = HELD.try_lock().ok().and_then(|held| held.clone());
            if let Some(terminal) = terminal
                && let Some(mut state) = terminal.lock_soon()
            {
                terminal.give_back(&mut state);
            }
            before(info);
        }));
    });
}

/// Takes signals until the terminal is given back.
fn watch(terminal: &Terminal, saved: &Termios, signals: &SignalFd) {
    loop {
        let mut fds = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(terminal.stop.as_fd(), PollFlags::POLLIN),
        ];
        // Only interruptions make this fail, and these are blocked.
        let _ = poll(&mut fds, PollTimeout::NONE);
        if terminal.stop.read().is_ok() {
            return;
        }
        while let Ok(Some(info)) = signals.read_signal() {
            let number = i32::try_from(info.ssi_signo).unwrap_or_default();
            if let Ok(signal) = Signal::try_from(number) {
                obey(terminal, saved, signal);
            }
            let _ = terminal.wake.write(1);
        }
    }
}

fn obey(terminal: &Terminal, saved: &Termios, signal: Signal) {
    match signal {
        Signal::SIGWINCH => {}
        Signal::SIGCONT => terminal.went_on(),
        _ => match terminal.lock_soon() {
            Some(mut state) => {
                terminal.give_back(&mut state);
                let_it(signal);
                // Still here: it was stopped and goes on, or the program does something else for this signal.
                // If the terminal is gone, the next key says so.
                let _ = terminal.take(&mut state);
            }
            None => {
                let _ = termios::tcsetattr(&terminal.input, SetArg::TCSANOW, saved);
                let_it(signal);
                terminal.went_on();
            }
        },
    }
}

/// Does in this thread, and so to the process, what a signal does without this module.
fn let_it(signal: Signal) {
    let mut only = SigSet::empty();
    only.add(signal);
    // Neither is refused for signals that exist.
    let _ = only.thread_unblock();
    let _ = raise(signal);
    let _ = only.thread_block();
}
