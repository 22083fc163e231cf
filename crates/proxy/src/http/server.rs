//! A server: a thread that accepts, and one for each connection.

use super::connection::{serve, turn_away};
use super::error::{Error, Result, number};
use super::guard::Guard;
use super::listener::{Listener, Socket};
use super::message::Request;
use super::parse::{Sizes, Stage};
use super::peer::Peer;
use super::socket_file::SocketFile;
use super::stream::Answer;
use super::wire::{Stop, Waited};
use crate::lock::locked;
use bpfsmith_uapi::Errno;
use nix::poll::PollFlags;
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// What answers requests. It runs on the thread of the connection, so that it may take its time.
pub type Handler = Arc<dyn Fn(&Request, &Peer) -> Answer + Send + Sync>;

/// What a server puts up with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How large requests may be.
    pub sizes: Sizes,
    /// So many connections are served at once; whoever comes besides is told so, with 503.
    pub connections: usize,
    /// So many of them may be streams, which end when their reader likes: followers leave room for questions.
    pub streams: usize,
    /// A head may take so long, from its first byte, or from the beginning of the connection.
    pub head_time: Duration,
    /// A body may take so long.
    pub body_time: Duration,
    /// A client may take so long to read an answer, or one piece of a stream.
    pub write_time: Duration,
    /// A connection may wait so long for its next request.
    pub idle_time: Duration,
    /// Handlers that run may take so long when the server stops.
    pub stop_time: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            sizes: Sizes::default(),
            connections: 64,
            streams: 48,
            head_time: Duration::from_secs(10),
            body_time: Duration::from_secs(60),
            write_time: Duration::from_secs(30),
            idle_time: Duration::from_secs(30),
            stop_time: Duration::from_secs(2),
        }
    }
}

impl Limits {
    pub(super) fn time(&self, stage: Stage) -> Duration {
        match stage {
            Stage::Between => self.idle_time,
            Stage::Head => self.head_time,
            Stage::Body => self.body_time,
        }
    }
}

/// How a server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Connections now, without those that are being turned away.
    pub open: usize,
    /// Connections that were served or are.
    pub served: u64,
    /// Connections that there was no room for.
    pub turned_away: u64,
    /// Connections that could not be accepted, or got no thread.
    pub failed: u64,
    /// Why the last one of these was.
    pub last_failure: Option<Errno>,
}

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Connections whose handler still runs; they end when it does.
    pub running: usize,
}

/// What all connections share.
pub(super) struct Shared {
    pub(super) limits: Limits,
    pub(super) guard: Guard,
    pub(super) handler: Handler,
    pub(super) stop: Stop,
    /// Streams that are being written.
    pub(super) streams: AtomicUsize,
    places: Mutex<Places>,
    freed: Condvar,
    served: AtomicU64,
    turned_away: AtomicU64,
}

#[derive(Default)]
struct Places {
    serving: usize,
    turning_away: usize,
    stopping: bool,
    failed: u64,
    last_failure: Option<Errno>,
}

impl Places {
    fn all(&self) -> usize {
        self.serving + self.turning_away
    }
}

/// So many more connections are told that there is no room for them; the others wait for that.
const TURNED_AWAY: usize = 16;

/// Serves until it is dropped. A handler that drops it waits for itself: [`Limits::stop_time`].
pub struct Server {
    shared: Arc<Shared>,
    socket: Arc<Socket>,
    file: Option<SocketFile>,
    address: Option<SocketAddr>,
    accepting: Option<JoinHandle<()>>,
}

impl Server {
    /// Answers from now on.
    ///
    /// # Errors
    /// When the process has too many open files or threads.
    pub fn start(
        listener: Listener,
        limits: Limits,
        guard: Guard,
        handler: Handler,
    ) -> Result<Server> {
        let stop = Stop::new().map_err(|errno| Error::Call {
            call: "eventfd",
            errno,
        })?;
        let shared = Arc::new(Shared {
            limits,
            guard,
            handler,
            stop,
            streams: AtomicUsize::new(0),
            places: Mutex::default(),
            freed: Condvar::new(),
            served: AtomicU64::new(0),
            turned_away: AtomicU64::new(0),
        });
        let Listener {
            file,
            socket,
            address,
        } = listener;
        let socket = Arc::new(socket);
        // Dropped before the socket, should there be no thread.
        let file = file;
        let (accepting_shared, accepting_socket) = (Arc::clone(&shared), Arc::clone(&socket));
        let accepting = Builder::new()
            .name("http".to_owned())
            .spawn(move || accept_all(&accepting_shared, &accepting_socket))
            .map_err(|error| Error::Call {
                call: "clone",
                errno: number(&error),
            })?;
        Ok(Server {
            shared,
            socket,
            file,
            address,
            accepting: Some(accepting),
        })
    }

    /// Where it listens, if that is TCP.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Where it listens, if that is a file.
    pub fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(SocketFile::path)
    }

    /// How it does.
    pub fn status(&self) -> Status {
        let places = self.shared.places();
        Status {
            open: places.serving,
            served: self.shared.served.load(Ordering::Relaxed),
            turned_away: self.shared.turned_away.load(Ordering::Relaxed),
            failed: places.failed,
            last_failure: places.last_failure,
        }
    }

    /// Ends it, as dropping it does, and says what is left.
    pub fn stop(mut self) -> Stopped {
        self.end()
    }

    /// No handler is waited for longer than [`Limits::stop_time`], all else ends at once.
    fn end(&mut self) -> Stopped {
        self.shared.places().stopping = true;
        self.shared.stop.tell();
        self.shared.freed.notify_all();
        // Before the socket is closed, so that the inode is nobody else's.
        self.file = None;
        if let Some(accepting) = self.accepting.take() {
            // It does not panic; if it did, that was told.
            let _ = accepting.join();
        }
        let until = Instant::now() + self.shared.limits.stop_time;
        let mut places = self.shared.places();
        while places.all() > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.shared.freed.wait_timeout(places, left);
            places = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Stopped {
            running: places.all(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.accepting.is_some() {
            self.end();
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("path", &self.path())
            .field("address", &self.address)
            .field("listener", &self.socket.as_fd())
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

/// After a failure that would only repeat itself, as when there are too many open files.
const PAUSE: Duration = Duration::from_millis(100);

fn accept_all(shared: &Arc<Shared>, socket: &Socket) {
    while let Some(place) = Place::take(shared) {
        let accepted = loop {
            match shared
                .stop
                .wait(Some(socket.as_fd()), PollFlags::POLLIN, None)
            {
                Waited::Stopped => return,
                Waited::Ready | Waited::Late => {}
                Waited::Failed(errno) => break Err(errno),
            }
            match socket.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => break Ok(accepted),
                Err(errno) => break Err(errno),
            }
        };
        let started = accepted.and_then(|(socket, peer)| place.serve(socket, peer));
        if let Err(errno) = started {
            let mut places = shared.places();
            places.failed += 1;
            places.last_failure = Some(errno);
            drop(places);
            shared.stop.sleep(PAUSE);
        }
    }
}

impl Shared {
    fn places(&self) -> MutexGuard<'_, Places> {
        // A count is right even if somebody panicked.
        locked(&self.places)
    }
}

/// One of so many connections.
struct Place {
    shared: Arc<Shared>,
}

impl Place {
    /// Waits for one that may be counted; `None` when the server stops.
    fn take(shared: &Arc<Shared>) -> Option<Place> {
        let most = shared.limits.connections.saturating_add(TURNED_AWAY);
        let mut places = shared.places();
        while places.all() >= most && !places.stopping {
            let waited = shared.freed.wait(places);
            places = waited.unwrap_or_else(PoisonError::into_inner);
        }
        (!places.stopping).then(|| Place {
            shared: Arc::clone(shared),
        })
    }

    fn serve(self, socket: OwnedFd, peer: Peer) -> std::result::Result<(), Errno> {
        let taken = Taken::new(self.shared);
        let thread = Builder::new().name("http connection".to_owned());
        let spawned = thread.spawn(move || {
            let shared = &taken.shared;
            if taken.has_room {
                shared.served.fetch_add(1, Ordering::Relaxed);
                serve(shared, &socket, &peer);
            } else {
                shared.turned_away.fetch_add(1, Ordering::Relaxed);
                turn_away(shared, &socket);
            }
            // Whoever is told that the place is free finds the connection closed.
            drop(socket);
            drop(taken);
        });
        spawned.map(drop).map_err(|error| number(&error))
    }
}

/// A place with somebody on it.
struct Taken {
    shared: Arc<Shared>,
    has_room: bool,
}

impl Taken {
    fn new(shared: Arc<Shared>) -> Taken {
        let mut places = shared.places();
        let has_room = places.serving < shared.limits.connections;
        if has_room {
            places.serving += 1;
        } else {
            places.turning_away += 1;
        }
        drop(places);
        Taken { shared, has_room }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut places = self.shared.places();
        if self.has_room {
            places.serving -= 1;
        } else {
            places.turning_away -= 1;
        }
        drop(places);
        self.shared.freed.notify_all();
    }
}
