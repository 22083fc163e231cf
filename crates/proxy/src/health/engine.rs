//! The thread that checks.

use super::agenda::Agenda;
use super::check::{Attempt, Step};
use super::failure::Failure;
use super::table::{End, News, Table};
use super::watch::{MOST, Shared};
use bpfsmith_sys::Answer;
use bpfsmith_sys::epoll::{Epoll, Interest};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::AsFd;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

const WAKE: u64 = u64::MAX;

/// What the thread has to itself.
#[derive(Debug)]
pub(super) struct Engine<T> {
    shared: Arc<Shared>,
    epoll: Epoll,
    tell: T,
    /// By a number that is never used twice, so that what the kernel tells of a socket that was
    /// closed meanwhile finds nobody.
    open: BTreeMap<u64, Open>,
    next_token: u64,
    /// Those of them whose answer is known. They give way.
    parting: BTreeSet<u64>,
    /// When which of them is over.
    limits: Agenda,
    /// Targets whose time has come and that have no place yet.
    waiting: VecDeque<u64>,
}

#[derive(Debug)]
struct Open {
    /// The target's number in the table.
    number: u64,
    attempt: Attempt,
    begun: Instant,
}

impl<T: Fn()> Engine<T> {
    pub(super) fn new(shared: Arc<Shared>, tell: T) -> Answer<Engine<T>> {
        let epoll = Epoll::new()?;
        epoll.add(shared.wake.as_fd(), Interest::Read, WAKE)?;
        Ok(Engine {
            shared,
            epoll,
            tell,
            open: BTreeMap::new(),
            next_token: 0,
            parting: BTreeSet::new(),
            limits: Agenda::default(),
            waiting: VecDeque::new(),
        })
    }

    /// Works until it is to end.
    pub(super) fn run(mut self) {
        if let Err(refused) = self.work() {
            self.shared.lock().ended(refused);
            (self.tell)();
        }
    }

    fn work(&mut self) -> Answer<()> {
        let mut ready = Vec::new();
        loop {
            self.epoll.wait(self.time(), |token| ready.push(token))?;
            for token in ready.drain(..) {
                match token {
                    WAKE => self.woken(),
                    token => self.advance(token),
                }
            }
            if let End::Wanted = self.table().end {
                return Ok(());
            }
            self.pass_limits();
            self.begin_due();
            if self.table().take_news() == News::Some {
                (self.tell)();
            }
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.shared.lock()
    }

    fn time(&self) -> Option<Duration> {
        let next = self.table().next();
        let next = [next, self.limits.next()].into_iter().flatten().min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// Somebody has changed the table.
    fn woken(&mut self) {
        // It was readable; and if not, nothing is lost.
        let _ = self.shared.wake.read();
        let table = self.shared.lock();
        let gone = self.open.iter().filter(|(_, open)| !table.has(open.number));
        let gone: Vec<u64> = gone.map(|(token, _)| *token).collect();
        self.waiting.retain(|number| table.has(*number));
        drop(table);
        for token in gone {
            self.close(token);
        }
    }

    fn close(&mut self, token: u64) {
        self.open.remove(&token);
        self.parting.remove(&token);
        self.limits.remove(token);
    }

    fn record(&self, number: u64, begun: Instant, answer: Result<Duration, Failure>) {
        let mut table = self.table();
        table.record(number, begun, answer, Instant::now());
    }

    fn advance(&mut self, token: u64) {
        loop {
            let Some(open) = self.open.get_mut(&token) else {
                return;
            };
            match open.attempt.advance(Instant::now()) {
                Step::Waiting => return,
                Step::Known(answer) => {
                    let (number, begun) = (open.number, open.begun);
                    match open.attempt.until() {
                        Some(until) => self.limits.set(token, until),
                        None => self.limits.remove(token),
                    }
                    self.parting.insert(token);
                    self.record(number, begun, answer);
                }
                Step::Over => return self.close(token),
            }
        }
    }

    /// Ends those whose time is over.
    fn pass_limits(&mut self) {
        let now = Instant::now();
        while let Some(token) = self.limits.pop(now) {
            // What came while this thread had no processor came in time.
            self.advance(token);
            let Some(open) = self.open.get(&token) else {
                continue;
            };
            match open.attempt.until() {
                // Its answer is known by now, and it has got another limit.
                Some(until) if until > now => continue,
                _ => {}
            }
            let late = open
                .attempt
                .late()
                .map(|late| (open.number, open.begun, late));
            self.close(token);
            if let Some((number, begun, late)) = late {
                self.record(number, begun, Err(late));
            }
        }
    }

    /// Begins checks whose time has come, as far as there are places.
    fn begin_due(&mut self) {
        let now = Instant::now();
        let mut table = self.shared.lock();
        table.pass_steps(now);
        while let Some(number) = table.take_due(now) {
            self.waiting.push_back(number);
        }
        drop(table);
        while !self.waiting.is_empty() && self.make_room() {
            if let Some(number) = self.waiting.pop_front() {
                self.begin(number);
            }
        }
    }

    /// Whether there is a place.
    fn make_room(&mut self) -> bool {
        if self.open.len() >= MOST
            && let Some(token) = self.parting.first().copied()
        {
            self.close(token);
        }
        self.open.len() < MOST
    }

    fn begin(&mut self, number: u64) {
        let Some(order) = self.table().order(number) else {
            return;
        };
        let now = Instant::now();
        let (check, timeout) = (&order.health.check, order.health.timeout);
        let attempt = match Attempt::begin(order.address, check, timeout, now) {
            Ok(attempt) => attempt,
            Err(failure) => return self.record(number, now, Err(failure)),
        };
        let token = self.next_token;
        self.next_token += 1;
        if let Err(refused) = self.epoll.add(attempt.as_fd(), Interest::Changes, token) {
            return self.record(number, now, Err(Failure::NotAsked(refused)));
        }
        if let Some(until) = attempt.until() {
            self.limits.set(token, until);
        }
        let open = Open {
            number,
            attempt,
            begun: now,
        };
        self.open.insert(token, open);
    }
}
