//! [`Checks`]: all targets, checked by one thread.

use super::chance::Chance;
use super::engine::Engine;
use super::error::Error;
use super::failure::Failure;
use super::standing::{Forced, State};
use super::table::{End, Table};
use crate::lock::locked;
use bpfsmith_config::desired::Health;
use bpfsmith_sys::Refused;
use bpfsmith_uapi::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How many connections are open at once. Targets whose time has come wait until there is a place; a connection
/// whose answer is known, and that is open only for a good end, gives its place up.
pub const MOST: usize = 256;

/// Who is checked. The same address in two groups is checked twice, each time as its group wants.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// The name of its group.
    pub group: String,
    /// Where it is.
    pub address: SocketAddr,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "target {} of group {}", self.address, self.group)
    }
}

/// How a target stands at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// What checks say.
    pub state: State,
    /// How much of its weight counts, in percent; 0 if it gets no new connections. An operator's word is in it.
    pub share: u8,
    /// Since when checks say that.
    pub since: Instant,
    /// What an operator says.
    pub forced: Option<Forced>,
    /// How long the last answer took, or why there was none.
    pub last: Option<Result<Duration, Failure>>,
    /// How many checks said something about the target, since it is checked for what it is checked for now.
    pub checks: u64,
    /// How many of them were bad.
    pub failures: u64,
}

/// What the thread and its owner have in common.
#[derive(Debug)]
pub(super) struct Shared {
    table: Mutex<Table>,
    pub(super) wake: EventFd,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing in there panics halfway through.
        locked(&self.table)
    }

    fn wake(&self) {
        // It fails only when it was written to so often that it is readable anyway.
        let _ = self.wake.write(1);
    }
}

/// Checks of targets, by a thread of their own. Dropping it ends the thread and closes all of its sockets,
/// before it returns.
///
/// The first check of a target comes at some time within the first second (or within its interval, if that is
/// less), the next ones an interval after the beginning of the one before, with some more or less by
/// [`jitter`](Health::jitter); at once, if the one before took longer than that, and never less than
/// 10 ms after it began. At most [`MOST`] connections are open at once, others wait: so checks come later than
/// they should where more than that many targets do not answer.
///
/// What runs out on this side, such as descriptors, says nothing about targets: such checks leave their standing as
/// it is, and are seen in [`View::last`].
#[derive(Debug)]
pub struct Checks {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Checks {
    /// Starts the thread, with nobody to check. It has the network namespace, the capabilities and the signal mask
    /// of the calling thread.
    ///
    /// The thread calls `tell` whenever the state of a target that is checked, its share or an operator's word
    /// about it has changed, once for several changes that come together, and not for each answer. Targets that
    /// come and go by [`set`](Checks::set) are no reason. It should only wake somebody up, as checks stand still
    /// meanwhile; and it must not panic, as that ends them.
    ///
    /// # Errors
    /// When there can be no thread, or no descriptors for it.
    pub fn start(tell: impl Fn() + Send + 'static) -> Result<Checks, Error> {
        let chance = Chance::new().map_err(Error::Begin)?;
        let refused = |call, errno: Option<Errno>| {
            let errno = errno.unwrap_or(Errno::EIO);
            Error::Begin(Refused { call, errno })
        };
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
        let wake = wake.map_err(|errno| refused("eventfd", Some(Errno(errno as i32))))?;
        let table = Mutex::new(Table::new(chance));
        let shared = Arc::new(Shared { table, wake });
        let engine = Engine::new(Arc::clone(&shared), tell).map_err(Error::Begin)?;
        let thread = std::thread::Builder::new().name("health".to_owned());
        let thread = thread.spawn(move || engine.run());
        let thread = thread.map_err(|error| refused("clone", Errno::of(&error)))?;
        Ok(Checks {
            shared,
            thread: Some(thread),
        })
    }

    /// Has these targets checked, and no others. New ones begin, and those that are gone are dropped, with
    /// what an operator said of them and with a check that is under way.
    ///
    /// Of one that stays, another interval, timeout, threshold and so on keeps its standing. What
    /// is [asked](Health::check) is another matter: it begins anew as an unknown one, which counts as up. What an
    /// operator said stays.
    pub fn set(&self, targets: BTreeMap<Target, Health>) {
        self.shared.lock().set(targets, Instant::now());
        self.shared.wake();
    }

    /// How all targets stand.
    #[must_use]
    pub fn standings(&self) -> BTreeMap<Target, View> {
        self.shared.lock().views(Instant::now())
    }

    /// Has a target checked at once, whenever it was to be checked. If a check is under way, there is another one
    /// right after it. It counts like any other.
    ///
    /// # Errors
    /// [`Error::Stranger`] when the target is not among those that are checked.
    pub fn check_now(&self, target: &Target) -> Result<(), Error> {
        self.shared.lock().check_now(target, Instant::now())?;
        self.shared.wake();
        Ok(())
    }

    /// Has an operator's word about a target go before what checks say; `None` takes it back.
    ///
    /// # Errors
    /// [`Error::Stranger`] when the target is not among those that are checked.
    pub fn force(&self, target: &Target, forced: Option<Forced>) -> Result<(), Error> {
        self.shared.lock().force(target, forced, Instant::now())?;
        self.shared.wake();
        Ok(())
    }

    /// Whether there are checks. Without, standings stay what they were.
    ///
    /// # Errors
    /// [`Error::Ended`] when the thread cannot wait any more, which no kernel is known to refuse; `tell` is called
    /// then. [`Error::Panicked`] when `tell` did.
    pub fn works(&self) -> Result<(), Error> {
        if let End::Because(refused) = self.shared.lock().end {
            return Err(Error::Ended(refused));
        }
        match self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
            true => Err(Error::Panicked),
            false => Ok(()),
        }
    }
}

impl Drop for Checks {
    fn drop(&mut self) {
        self.shared.lock().end = End::Wanted;
        self.shared.wake();
        let Some(thread) = self.thread.take() else {
            return;
        };
        // `tell` may hold the last copy of what holds this. A thread does not wait for itself.
        if thread.thread().id() != std::thread::current().id() {
            // A panic of `tell` was told when it happened.
            let _ = thread.join();
        }
    }
}
