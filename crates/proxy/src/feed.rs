//! [`Feed`]: events of the kernel, for all who want them.

use crate::error::{Error, Result};
use crate::lock::locked;
use crate::plan::Listening;
use bpfsmith_datapath::event::{Event, What};
use bpfsmith_datapath::events::{Events, PAUSE};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

/// So many events are remembered.
pub const REMEMBERED: usize = 1000;

/// An event, and who it is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// When it was read; it happened up to a tenth of a second before.
    pub read: SystemTime,
    /// The name of the proxy, if its listener is there still.
    pub proxy: Option<Arc<str>>,
    /// Where the listener is; an unspecified address stands for all.
    pub listener: Option<SocketAddr>,
    /// What happened.
    pub event: Event,
}

/// Somebody who looks at each event as it comes, on the reader's thread: it must not wait.
pub trait Sink: Send {
    /// An event came; or this one wants no more.
    fn take(&mut self, told: &Told) -> ControlFlow<()>;
}

/// What the reader has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Events.
    pub events: u64,
    /// Records that are none.
    pub malformed: u64,
    /// Events that subscribers were too slow for, all together.
    pub dropped: u64,
}

/// Reads events on a thread of its own, and hands them to sinks and subscribers.
#[derive(Debug)]
pub struct Feed {
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    subscribers: Mutex<Vec<Weak<Queue>>>,
    sinks: Mutex<Vec<Box<dyn Sink>>>,
    names: RwLock<BTreeMap<u16, (Arc<str>, SocketAddr)>>,
    past: Mutex<VecDeque<Told>>,
    is_over: AtomicBool,
    events: AtomicU64,
    malformed: AtomicU64,
    dropped: AtomicU64,
    failure: Mutex<Option<String>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Feed {
    /// Reads these events from now on. The first of them may have waited for somebody to read them: they are of these
    /// listeners, and these sinks get them.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(
        events: Events,
        listeners: &BTreeMap<u16, Listening>,
        sinks: Vec<Box<dyn Sink>>,
    ) -> Result<Feed> {
        let shared = Arc::new(Shared::default());
        *locked(&shared.sinks) = sinks;
        let mut feed = Feed {
            shared: Arc::clone(&shared),
            reader: None,
        };
        feed.name(listeners);
        let reader = std::thread::Builder::new().name("events".to_owned());
        let reader = reader.spawn(move || shared.read(events));
        let reader = reader.map_err(|error| Error::Machine {
            call: "start a thread for events",
            error,
            hint: "the limit of processes is reached: see ulimit -u",
        })?;
        feed.reader = Some(reader);
        Ok(feed)
    }

    /// Numbers of listeners stand for these from now on.
    pub fn name(&self, listeners: &BTreeMap<u16, Listening>) {
        let names = listeners.iter();
        let names = names.map(|(number, it)| (*number, (Arc::from(it.proxy.as_str()), it.address)));
        let lock = self.shared.names.write();
        *lock.unwrap_or_else(PoisonError::into_inner) = names.collect();
    }

    /// Events from now on. Who does not take them loses the oldest ones, beyond `room`.
    #[must_use]
    pub fn subscribe(&self, room: usize) -> Subscription {
        let queue = Arc::new(Queue {
            room: room.max(1),
            inner: Mutex::default(),
            came: Condvar::new(),
        });
        locked(&self.shared.subscribers).push(Arc::downgrade(&queue));
        Subscription { queue }
    }

    /// The last events, the oldest first: [`REMEMBERED`] at most.
    #[must_use]
    pub fn past(&self) -> Vec<Told> {
        locked(&self.shared.past).iter().cloned().collect()
    }

    /// Hands events to this one too, from now on.
    pub fn add(&self, sink: impl Sink + 'static) {
        locked(&self.shared.sinks).push(Box::new(sink));
    }

    /// What has been read.
    #[must_use]
    pub fn reading(&self) -> Reading {
        Reading {
            events: self.shared.events.load(Ordering::Relaxed),
            malformed: self.shared.malformed.load(Ordering::Relaxed),
            dropped: self.shared.dropped.load(Ordering::Relaxed),
        }
    }

    /// Why nothing is read any more, if that is so.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        locked(&self.shared.failure).clone()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Release);
        if let Some(reader) = self.reader.take() {
            reader.thread().unpark();
            // It has told of its failure where that can be asked for.
            let _ = reader.join();
        }
        self.shared.end();
    }
}

impl Shared {
    fn read(&self, mut events: Events) {
        loop {
            // What has come before the end is read.
            let is_over = self.is_over.load(Ordering::Acquire);
            let mut all = Vec::new();
            let read = events.read(|event| {
                all.push(event);
                ControlFlow::Continue(())
            });
            match read {
                Ok(read) => {
                    self.events.fetch_add(read.events, Ordering::Relaxed);
                    self.malformed.fetch_add(read.malformed, Ordering::Relaxed);
                }
                Err(error) => {
                    *locked(&self.failure) = Some(error.to_string());
                    self.end();
                    return;
                }
            }
            self.hand_out(&all);
            if is_over {
                return;
            }
            std::thread::park_timeout(PAUSE);
        }
    }

    fn hand_out(&self, events: &[Event]) {
        if events.is_empty() {
            return;
        }
        let read = SystemTime::now();
        let told: Vec<Told> = {
            let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
            let told = events.iter().map(|event| {
                let place = listener(event).and_then(|number| names.get(&number).cloned());
                let (proxy, listener) = place.unzip();
                Told {
                    read,
                    proxy,
                    listener,
                    event: *event,
                }
            });
            told.collect()
        };
        {
            let mut past = locked(&self.past);
            past.extend(told.iter().cloned());
            let above = past.len().saturating_sub(REMEMBERED);
            past.drain(..above);
        }
        locked(&self.sinks)
            .retain_mut(|sink| told.iter().try_for_each(|it| sink.take(it)).is_continue());
        locked(&self.subscribers).retain(|queue| {
            let Some(queue) = queue.upgrade() else {
                return false;
            };
            self.dropped.fetch_add(queue.put(&told), Ordering::Relaxed);
            true
        });
    }

    /// Nothing comes any more.
    fn end(&self) {
        for queue in locked(&self.subscribers).drain(..) {
            if let Some(queue) = queue.upgrade() {
                queue.end();
            }
        }
    }
}

/// The number of the listener that an event is about.
const fn listener(event: &Event) -> Option<u16> {
    match event.what {
        What::New(flow) | What::Closed(flow, _) | What::Periodic(flow) => flow.listener,
        What::Refused(_) => None,
    }
}

#[derive(Debug)]
struct Queue {
    room: usize,
    inner: Mutex<Inner>,
    came: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    events: VecDeque<Told>,
    dropped: u64,
    waker: Option<Waker>,
    is_over: bool,
}

impl Queue {
    /// How many were dropped for it.
    fn put(&self, told: &[Told]) -> u64 {
        let mut inner = locked(&self.inner);
        inner.events.extend(told.iter().cloned());
        let above = inner.events.len().saturating_sub(self.room);
        inner.events.drain(..above);
        let dropped = u64::try_from(above).unwrap_or(u64::MAX);
        inner.dropped += dropped;
        self.tell(inner);
        dropped
    }

    fn end(&self) {
        let mut inner = locked(&self.inner);
        inner.is_over = true;
        self.tell(inner);
    }

    fn tell(&self, mut inner: MutexGuard<'_, Inner>) {
        let waker = inner.waker.take();
        drop(inner);
        self.came.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Events since it was made: as an iterator that waits, and as a stream.
///
/// It ends when the proxy does.
#[derive(Debug)]
pub struct Subscription {
    queue: Arc<Queue>,
}

impl Subscription {
    /// The next event, if one comes in that time.
    pub fn next_within(&mut self, time: Duration) -> Option<Told> {
        let inner = locked(&self.queue.inner);
        let waits = |inner: &mut Inner| inner.events.is_empty() && !inner.is_over;
        let waited = self.queue.came.wait_timeout_while(inner, time, waits);
        let (mut inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
        inner.events.pop_front()
    }

    /// Whether nothing will come any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let inner = locked(&self.queue.inner);
        inner.is_over && inner.events.is_empty()
    }

    /// How many events were dropped because they were not taken.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        locked(&self.queue.inner).dropped
    }

    /// What `Stream::poll_next` of async runtimes asks for:
    /// `std::future::poll_fn(|cx| events.poll_next(cx)).await` is the next event.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Told>> {
        let mut inner = locked(&self.queue.inner);
        match inner.events.pop_front() {
            Some(told) => Poll::Ready(Some(told)),
            None if inner.is_over => Poll::Ready(None),
            None => {
                inner.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Iterator for Subscription {
    type Item = Told;

    /// Waits for the next event.
    fn next(&mut self) -> Option<Told> {
        let inner = locked(&self.queue.inner);
        let waits = |inner: &mut Inner| inner.events.is_empty() && !inner.is_over;
        let waited = self.queue.came.wait_while(inner, waits);
        let mut inner = waited.unwrap_or_else(PoisonError::into_inner);
        inner.events.pop_front()
    }
}
