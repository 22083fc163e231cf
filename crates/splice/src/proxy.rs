//! [`Proxy`]: accepts, connects, joins.

use crate::error::{Error, Result, Side};
use crate::joined::{Joined, Next, Way};
use crate::splicer::{Expected, Splicer};
use bpfsmith_sys::epoll::{Epoll, Interest};
use bpfsmith_sys::socket::reset_on_close;
use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

mod connect;
mod counters;
mod timers;

pub use counters::{Counters, Tally};
use timers::Timers;

const LISTENER: u64 = u64::MAX;
const STOP: u64 = u64::MAX - 1;
const BEHIND: u64 = u64::MAX - 2;

/// How many connections are accepted before others get their turn.
const ACCEPTS: usize = 64;

/// How long nobody is accepted when descriptors or memory ran out, unless a connection ends before.
const PAUSE: Duration = Duration::from_millis(100);

/// A TCP proxy: one thread, one epoll set, any number of connections.
///
/// Whoever connects to the listener is joined with a connection to the target. Bytes are moved by
/// the kernel; a pair that the kernel does not take is copied in user space, and counted. A
/// connection whose other side breaks or cannot be reached is reset.
#[derive(Debug)]
pub struct Proxy {
    listener: TcpListener,
    target: SocketAddr,
    splicer: Option<Splicer>,
    epoll: Epoll,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    /// Which slot has the socket with a cookie.
    cookies: HashMap<u64, usize>,
    timers: Timers,
    accepting: Accepting,
    /// It was accepted, and there was no descriptor for the connection to its target.
    waiting: Option<TcpStream>,
    counters: Arc<Counters>,
    /// In the set, and readable when the other one is shut down.
    _stop: UnixStream,
    stopper: Arc<UnixStream>,
}

/// A pair in the making, or made.
#[derive(Debug)]
enum Slot {
    /// The connection to the target is under way.
    Connecting(Connecting),
    /// Both are there.
    Joined(Box<Joined>),
}

/// A client whose target is not reached yet.
#[derive(Debug)]
struct Connecting {
    client: TcpStream,
    target: TcpStream,
    /// The client is entered already, if the kernel takes it.
    expected: Option<Expected>,
}

/// Whether the listener is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepting {
    On,
    Paused,
}

/// Ends a [`Proxy`] from anywhere.
#[derive(Clone, Debug)]
pub struct Stopper(Arc<UnixStream>);

impl Stopper {
    /// Has [`Proxy::run`] return. Connections that are open then are reset.
    pub fn stop(&self) {
        // It fails only if it was done before.
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }
}

impl Proxy {
    /// A proxy whose bytes are moved by the kernel.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn splicing(listener: TcpListener, target: SocketAddr, splicer: Splicer) -> Result<Proxy> {
        Proxy::new(listener, target, Some(splicer))
    }

    /// A proxy that copies all bytes in user space.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn copying(listener: TcpListener, target: SocketAddr) -> Result<Proxy> {
        Proxy::new(listener, target, None)
    }

    fn new(listener: TcpListener, target: SocketAddr, splicer: Option<Splicer>) -> Result<Proxy> {
        let nonblocking = listener.set_nonblocking(true);
        nonblocking.map_err(Error::io("ioctl FIONBIO"))?;
        connect::lengthen_queue(&listener).map_err(Error::io("listen"))?;
        let (stopper, stop) = UnixStream::pair().map_err(Error::io("socketpair"))?;
        let epoll = Epoll::new()?;
        epoll.add(listener.as_fd(), Interest::Read, LISTENER)?;
        epoll.add(stop.as_fd(), Interest::Read, STOP)?;
        if let Some(splicer) = &splicer {
            epoll.add(splicer.as_fd(), Interest::Read, BEHIND)?;
        }
        Ok(Proxy {
            listener,
            target,
            splicer,
            epoll,
            slots: Vec::new(),
            free: Vec::new(),
            cookies: HashMap::new(),
            timers: Timers::default(),
            accepting: Accepting::On,
            waiting: None,
            counters: Arc::default(),
            _stop: stop,
            stopper: Arc::new(stopper),
        })
    }

    /// What ends it.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.stopper))
    }

    /// What it counts, also while it runs.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// The program and its maps, unless it copies.
    #[must_use]
    pub fn splicer(&self) -> Option<&Splicer> {
        self.splicer.as_ref()
    }

    /// Works until it is stopped. Sockets to the target belong to the network namespace of the
    /// calling thread.
    ///
    /// # Errors
    /// When waiting fails; what concerns one connection is counted, and ends that one alone.
    pub fn run(&mut self) -> Result<()> {
        let mut ready = Vec::new();
        loop {
            let time = self.next_time();
            self.epoll.wait(time, |token| ready.push(token))?;
            for token in ready.drain(..) {
                match token {
                    STOP => {
                        self.close_all();
                        return Ok(());
                    }
                    LISTENER => self.accept()?,
                    BEHIND => self.behind()?,
                    token => {
                        if let Ok(slot) = usize::try_from(token / 2) {
                            self.advance(slot);
                        }
                    }
                }
            }
            self.pass_time()?;
        }
    }

    fn next_time(&self) -> Option<Duration> {
        let next = self.timers.next(Instant::now());
        match self.accepting {
            Accepting::On => next,
            Accepting::Paused => Some(next.unwrap_or(PAUSE).min(PAUSE)),
        }
    }

    /// Looks after those whose time is over.
    fn pass_time(&mut self) -> Result<()> {
        for slot in self.timers.pass(Instant::now()) {
            self.advance(slot);
        }
        if self.accepting == Accepting::Paused {
            self.accepting = Accepting::On;
            self.epoll
                .add(self.listener.as_fd(), Interest::Read, LISTENER)?;
            if let Some(client) = self.waiting.take() {
                self.connect(client)?;
            }
        }
        Ok(())
    }

    fn pause(&mut self, error: std::io::Error) -> Result<()> {
        self.counters.paused(error);
        self.epoll.remove(self.listener.as_fd())?;
        self.accepting = Accepting::Paused;
        Ok(())
    }

    fn accept(&mut self) -> Result<()> {
        for _ in 0..ACCEPTS {
            if self.accepting == Accepting::Paused {
                break;
            }
            match self.listener.accept() {
                Ok((client, _)) => {
                    Counters::add(&self.counters.accepted, 1);
                    self.connect(client)?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // It gave up before it was accepted.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => self.pause(error)?,
            }
        }
        Ok(())
    }

    fn connect(&mut self, client: TcpStream) -> Result<()> {
        let target = match connect::start(self.target) {
            Ok(target) => target,
            Err(error) if connect::is_shortage(&error) => {
                self.waiting = Some(client);
                return self.pause(error);
            }
            Err(error) => {
                self.counters.unreachable(error);
                // The client learns by a reset; closing does that or as good as it gets.
                let _ = reset_on_close(client.as_fd());
                return Ok(());
            }
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        let token = token(slot, Side::Second);
        if let Err(error) = self.epoll.add(target.as_fd(), Interest::Changes, token) {
            self.counters.failed(&error.into());
            let _ = reset_on_close(client.as_fd());
            self.free.push(slot);
            return Ok(());
        }
        // If that is refused, so will be the pair: it is counted there.
        let expected = self
            .splicer
            .as_ref()
            .and_then(|splicer| splicer.expect(&client, &target).ok());
        let connecting = Connecting {
            client,
            target,
            expected,
        };
        self.put(slot, Slot::Connecting(connecting));
        Counters::add(&self.counters.open, 1);
        Ok(())
    }

    fn put(&mut self, slot: usize, content: Slot) {
        if let Some(place) = self.slots.get_mut(slot) {
            *place = Some(content);
        }
    }

    fn advance(&mut self, slot: usize) {
        match self.slots.get_mut(slot).and_then(Option::take) {
            None => {}
            Some(Slot::Connecting(connecting)) => self.connected(slot, connecting),
            Some(Slot::Joined(joined)) => self.look_after(slot, joined),
        }
    }

    fn connected(&mut self, slot: usize, connecting: Connecting) {
        match connect::is_done(&connecting.target) {
            Ok(true) => match self.epoll.remove(connecting.target.as_fd()) {
                Ok(()) => return self.join(slot, connecting),
                Err(error) => self.counters.failed(&error.into()),
            },
            Ok(false) => return self.put(slot, Slot::Connecting(connecting)),
            Err(error) => self.counters.unreachable(error),
        }
        // As above.
        let _ = reset_on_close(connecting.client.as_fd());
        self.release(slot);
    }

    fn join(&mut self, slot: usize, connecting: Connecting) {
        let Connecting {
            client,
            target,
            expected,
        } = connecting;
        for stream in [&client, &target] {
            // A broken connection refuses, which it will say again.
            let _ = stream.set_nodelay(true);
        }
        let joined = match (&self.splicer, expected) {
            (None, _) => Joined::copying(client, target),
            (Some(splicer), expected) => match expected {
                Some(expected) => expected.join(client, target),
                None => splicer.join(client, target),
            }
            .or_else(|not| {
                self.counters.refused(&not.error);
                let [client, target] = not.streams;
                Joined::copying(client, target)
            }),
        };
        match joined {
            Ok(joined) => {
                match joined.way() {
                    Way::Spliced => Counters::add(&self.counters.spliced, 1),
                    Way::Copied => Counters::add(&self.counters.copied, 1),
                }
                for cookie in joined.cookies() {
                    self.cookies.insert(cookie, slot);
                }
                self.look_after(slot, Box::new(joined))
            }
            Err(not) => {
                self.counters.failed(&not.error);
                self.release(slot);
            }
        }
    }

    fn look_after(&mut self, slot: usize, mut joined: Box<Joined>) {
        match joined.advance() {
            Ok(Next::Over(outcome)) => {
                self.counters.over(outcome);
                self.close(slot, &joined);
            }
            Ok(next) => {
                let tokens = Side::ALL.map(|side| token(slot, side));
                if let Err(error) = joined.watch(&self.epoll, tokens) {
                    self.counters.failed(&error);
                    self.close(slot, &joined);
                    return;
                }
                match next {
                    Next::Within(time) => self.timers.set(slot, Instant::now() + time),
                    _ => self.timers.clear(slot),
                }
                self.put(slot, Slot::Joined(joined));
            }
            Err(error) => {
                self.counters.failed(&error);
                self.close(slot, &joined);
            }
        }
    }

    fn close(&mut self, slot: usize, joined: &Joined) {
        let [spliced, copied] = joined.moved();
        Counters::add(&self.counters.bytes_spliced, spliced);
        Counters::add(&self.counters.bytes_copied, copied);
        for cookie in joined.cookies() {
            self.cookies.remove(&cookie);
        }
        self.release(slot);
    }

    fn release(&mut self, slot: usize) {
        self.timers.clear(slot);
        self.free.push(slot);
        Counters::sub(&self.counters.open, 1);
    }

    fn close_all(&mut self) {
        if let Some(client) = self.waiting.take() {
            // As above.
            let _ = reset_on_close(client.as_fd());
        }
        for slot in 0..self.slots.len() {
            match self.slots.get_mut(slot).and_then(Option::take) {
                None => {}
                Some(Slot::Connecting(Connecting { client, .. })) => {
                    // As above.
                    let _ = reset_on_close(client.as_fd());
                    self.release(slot);
                }
                Some(Slot::Joined(joined)) => self.close(slot, &joined),
            }
        }
    }

    fn behind(&mut self) -> Result<()> {
        let mut cookies = Vec::new();
        if let Some(splicer) = &mut self.splicer {
            splicer.behind(|cookie| cookies.push(cookie))?;
        }
        for cookie in cookies {
            let Some(&slot) = self.cookies.get(&cookie) else {
                continue;
            };
            if let Some(Some(Slot::Joined(joined))) = self.slots.get_mut(slot) {
                Counters::add(&self.counters.behind, 1);
                joined.fell_behind(cookie);
            }
            self.advance(slot);
        }
        Ok(())
    }
}

fn token(slot: usize, side: Side) -> u64 {
    // There are fewer slots than descriptors.
    u64::try_from(slot * 2 + side.index()).unwrap_or(BEHIND)
}
