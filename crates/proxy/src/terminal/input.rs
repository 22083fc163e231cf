//! Keys as they are pressed.

use super::error::{Error, Result, refused};
use super::keys::{Decoder, Key};
use super::raw::Raw;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long after an Escape the rest of its sequence may come. People are slower, connections are not.
const ESCAPE_WAIT: Duration = Duration::from_millis(50);

/// What there was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pressed {
    /// A key.
    Key(Key),
    /// The window may look different now.
    Woken,
    /// Nothing, for as long as was to be waited.
    Nothing,
}

/// Keys that were read and not asked for yet.
#[derive(Debug, Default)]
pub(crate) struct Keyboard {
    decoder: Decoder,
    keys: VecDeque<Key>,
}

/// What poll found.
struct Ready {
    has_keys: bool,
    is_woken: bool,
}

impl Keyboard {
    /// The next key, waiting for so long; `None` waits for ever.
    pub(crate) fn next(&mut self, raw: &Raw, wait: Option<Duration>) -> Result<Pressed> {
        // A time that no clock can add up is for ever.
        let end = wait.and_then(|wait| Instant::now().checked_add(wait));
        loop {
            if let Some(key) = self.keys.pop_front() {
                return Ok(Pressed::Key(key));
            }
            let mut left = end.map(|end| end.saturating_duration_since(Instant::now()));
            let is_over = left.is_some_and(|left| left.is_zero());
            if self.decoder.is_waiting() {
                left = Some(ESCAPE_WAIT);
            }
            let ready = ready(raw, left)?;
            if ready.has_keys {
                self.read(raw)?;
            } else if ready.is_woken && raw.was_woken() {
                return Ok(Pressed::Woken);
            } else if self.decoder.is_waiting() {
                self.keys.extend(self.decoder.flush());
            } else if is_over {
                return Ok(Pressed::Nothing);
            }
        }
    }

    /// Whether more keys are known already, so that what this one did need not be shown yet.
    pub(crate) fn has_more(&self) -> bool {
        !self.keys.is_empty()
    }

    fn read(&mut self, raw: &Raw) -> Result<()> {
        let mut bytes = [0; 4096];
        match nix::unistd::read(raw.input(), &mut bytes) {
            Ok(0) | Err(Errno::EIO) => Err(Error::Closed),
            Ok(count) => {
                let bytes = bytes.get(..count).unwrap_or_default();
                self.keys.extend(self.decoder.push(bytes));
                Ok(())
            }
            Err(Errno::EINTR | Errno::EAGAIN) => Ok(()),
            Err(errno) => Err(refused("read")(errno)),
        }
    }
}

fn ready(raw: &Raw, left: Option<Duration>) -> Result<Ready> {
    let mut fds = [
        PollFd::new(raw.input(), PollFlags::POLLIN),
        PollFd::new(raw.wake(), PollFlags::POLLIN),
    ];
    match poll(&mut fds, timeout(left)) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(refused("poll")(errno)),
    }
    let any = |place: usize| {
        let fd: Option<&PollFd<'_>> = fds.get(place);
        fd.and_then(PollFd::any).unwrap_or_default()
    };
    Ok(Ready {
        has_keys: any(0),
        is_woken: any(1),
    })
}

/// In milliseconds, rounded up.
fn timeout(left: Option<Duration>) -> PollTimeout {
    let Some(left) = left else {
        return PollTimeout::NONE;
    };
    let millis = left.as_nanos().div_ceil(1_000_000);
    let millis = i32::try_from(millis).unwrap_or(i32::MAX);
    PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
}
