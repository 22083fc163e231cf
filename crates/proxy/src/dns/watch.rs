//! Many names, kept fresh.

use super::ask::Stop;
use super::entry::{Change, Entry, Known};
use super::error::Error;
use super::random;
use super::resolver::Resolver;
use crate::lock::locked;
use bpfsmith_uapi::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// How many names are asked for at once: one whose servers are silent does not hold up the others.
const THREADS: usize = 8;

/// Keeps names fresh: each is asked for again when its answer is over, and the last good answer is kept.
///
/// A name that fails is asked for again after a second, and then after twice as long each time, up to 30 seconds.
/// Threads of its own do that, in the network namespace of the thread that started them. They end when it is
/// dropped, also while they wait for a server.
pub struct Names {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    resolver: Resolver,
    stop: Stop,
    state: Mutex<State>,
    /// Something in the state has changed.
    moved: Condvar,
    tell: Mutex<Box<dyn Fn() + Send>>,
}

#[derive(Default)]
struct State {
    names: BTreeMap<String, Entry>,
    /// How many entries there have been.
    serial: u64,
    is_over: bool,
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.known()).finish()
    }
}

impl Names {
    /// Starts with no name.
    ///
    /// `tell` is called when the addresses of a name have changed, after [`Names::known`] has them, by one thread
    /// at a time. It should do little, must not panic, and must not wait for somebody who drops the names.
    ///
    /// # Errors
    ///
    /// When no thread can be started.
    pub fn start(resolver: Resolver, tell: impl Fn() + Send + 'static) -> Result<Names, Error> {
        let shared = Arc::new(Shared {
            resolver,
            stop: Stop::new()?,
            state: Mutex::default(),
            moved: Condvar::new(),
            tell: Mutex::new(Box::new(tell)),
        });
        let mut names = Names {
            shared,
            threads: Vec::new(),
        };
        for number in 0..THREADS {
            let shared = Arc::clone(&names.shared);
            let thread = std::thread::Builder::new()
                .name(format!("names-{number}"))
                .spawn(move || shared.work());
            // Those that were started end with the names.
            names.threads.push(thread.map_err(|error| Error::Start {
                call: "clone",
                errno: Errno::of(&error).unwrap_or(Errno::EAGAIN),
            })?);
        }
        Ok(names)
    }

    /// Keeps these names, and no others: new ones are asked for at once, and the others are forgotten.
    pub fn set(&self, names: BTreeSet<String>) {
        let mut state = self.shared.lock();
        state.names.retain(|name, _| names.contains(name));
        let now = Instant::now();
        for name in names {
            state.keep(name, now);
        }
        drop(state);
        self.shared.moved.notify_all();
    }

    /// Keeps these names too, and waits until each has had an answer or a failure.
    ///
    /// A name that has addresses is not waited for. One that had none until now is asked for once more.
    ///
    /// Those that are not wanted after all are forgotten by the next [`Names::set`].
    pub fn resolve_all(
        &self,
        names: &BTreeSet<String>,
        within: Duration,
    ) -> BTreeMap<String, Result<BTreeSet<IpAddr>, Error>> {
        let now = Instant::now();
        let mut state = self.shared.lock();
        let mut rounds = BTreeMap::new();
        for name in names {
            let entry = state.keep(name.clone(), now);
            if entry.addresses.is_empty() && !entry.is_asked {
                entry.again = entry.again.min(now);
            }
            rounds.insert(name, entry.rounds);
        }
        self.shared.moved.notify_all();
        let is_open = |state: &mut State| {
            !rounds
                .iter()
                .all(|(name, before)| match state.names.get(*name) {
                    Some(entry) => !entry.addresses.is_empty() || entry.rounds > *before,
                    None => true,
                })
        };
        let waited = self.shared.moved.wait_timeout_while(state, within, is_open);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let outcome = |name: &String| match state.names.get(name) {
            None => Err(Error::NotKept { host: name.clone() }),
            Some(entry) if !entry.addresses.is_empty() => Ok(entry.addresses.clone()),
            Some(entry) => Err(match &entry.error {
                Some(error) if rounds.get(name).is_some_and(|it| entry.rounds > *it) => {
                    error.clone()
                }
                _ => Error::Late {
                    host: name.clone(),
                    within,
                },
            }),
        };
        names
            .iter()
            .map(|name| (name.clone(), outcome(name)))
            .collect()
    }

    /// What is known of each name.
    #[must_use]
    pub fn known(&self) -> BTreeMap<String, Known> {
        let state = self.shared.lock();
        let clock = (Instant::now(), SystemTime::now());
        let names = state.names.iter();
        names
            .map(|(name, entry)| (name.clone(), entry.known(clock)))
            .collect()
    }

    /// Asks for a name without waiting until its time is over. If it is being asked for just now, it is asked for
    /// once more after that.
    ///
    /// # Errors
    ///
    /// When it is not kept.
    pub fn ask_now(&self, host: &str) -> Result<(), Error> {
        let mut state = self.shared.lock();
        let entry = state.names.get_mut(host).ok_or_else(|| Error::NotKept {
            host: host.to_owned(),
        })?;
        entry.hurry(Instant::now());
        drop(state);
        self.shared.moved.notify_all();
        Ok(())
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.shared.lock().is_over = true;
        self.shared.stop.raise();
        self.shared.moved.notify_all();
        for thread in self.threads.drain(..) {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl State {
    fn keep(&mut self, name: String, now: Instant) -> &mut Entry {
        let serial = &mut self.serial;
        self.names.entry(name).or_insert_with(|| {
            *serial += 1;
            Entry::new(*serial, now)
        })
    }

    /// The name that has to be asked for first, among those that nobody asks for.
    fn first(&mut self) -> Option<(&String, &mut Entry)> {
        let idle = self.names.iter_mut().filter(|(_, it)| !it.is_asked);
        idle.min_by_key(|(_, it)| it.again)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// What each thread does.
    fn work(&self) {
        while let Some((name, serial)) = self.next() {
            let outcome = self.resolver.resolve_until(&name, &self.stop);
            // Without chance the pauses are only a little less good.
            let chance = random::number().unwrap_or_default();
            let clock = (Instant::now(), SystemTime::now());
            let mut state = self.lock();
            let entry = state.names.get_mut(&name);
            let change = entry
                .filter(|it| it.serial == serial)
                .map(|it| it.take(outcome, clock, chance));
            let is_over = state.is_over;
            drop(state);
            self.moved.notify_all();
            if change == Some(Change::Others) && !is_over {
                let tell = locked(&self.tell);
                tell();
            }
        }
    }

    /// Waits for a name that is due; none when all is over.
    fn next(&self) -> Option<(String, u64)> {
        let mut state = self.lock();
        loop {
            if state.is_over {
                return None;
            }
            let now = Instant::now();
            let wait = match state.first() {
                Some((name, entry)) if entry.again <= now => {
                    entry.is_asked = true;
                    return Some((name.clone(), entry.serial));
                }
                Some((_, entry)) => entry.again - now,
                None => Duration::MAX,
            };
            state = match wait {
                Duration::MAX => {
                    let waited = self.moved.wait(state);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
                wait => {
                    let waited = self.moved.wait_timeout(state, wait);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}
