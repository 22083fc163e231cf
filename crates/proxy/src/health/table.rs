//! What is known of all targets, and what is to be done for them when.

use super::agenda::Agenda;
use super::chance::Chance;
use super::error::Error;
use super::failure::Failure;
use super::standing::{Forced, Standing, State};
use super::watch::{Target, View};
use bpfsmith_config::desired::Health;
use bpfsmith_sys::Refused;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A new target is asked within that time.
const SOON: Duration = Duration::from_secs(1);

/// What lies between the beginnings of two checks of a target at least.
const LEAST: Duration = Duration::from_millis(10);

/// As good as never, and no clock has trouble with it.
const FAR: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// All targets.
#[derive(Debug)]
pub(super) struct Table {
    names: BTreeMap<Target, u64>,
    /// By a number that is never used twice: a target that begins anew gets another one, and
    /// answers to what was asked before find nobody.
    entries: HashMap<u64, Entry>,
    next_number: u64,
    /// When to check which one.
    checks: Agenda,
    /// When the share of which one rises.
    steps: Agenda,
    chance: Chance,
    /// Whether something is to be told.
    news: News,
    /// Whether the thread is to end.
    pub(super) end: End,
}

/// Whether anybody has to be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum News {
    #[default]
    None,
    Some,
}

/// Whether there are checks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum End {
    #[default]
    No,
    /// They are to end.
    Wanted,
    /// They have ended by themselves.
    Because(Refused),
}

#[derive(Debug)]
struct Entry {
    address: SocketAddr,
    health: Arc<Health>,
    standing: Standing,
    last: Option<Result<Duration, Failure>>,
    checks: u64,
    failures: u64,
    asking: Asking,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asking {
    /// It is in the agenda.
    No,
    /// It is asked, or waits for a place.
    Yes,
    /// The same, and is to be asked again after that.
    Again,
}

/// What of an entry others hear about.
type Facts = (State, u8, Option<Forced>);

impl Entry {
    fn facts(&self, now: Instant) -> Facts {
        let standing = &self.standing;
        (standing.state(), standing.share(now), standing.forced())
    }

    fn view(&self, now: Instant) -> View {
        let standing = &self.standing;
        View {
            state: standing.state(),
            share: standing.share(now),
            since: standing.since(),
            forced: standing.forced(),
            last: self.last,
            checks: self.checks,
            failures: self.failures,
        }
    }
}

/// What is needed to check a target.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) address: SocketAddr,
    pub(super) health: Arc<Health>,
}

impl Table {
    pub(super) fn new(chance: Chance) -> Table {
        Table {
            names: BTreeMap::new(),
            entries: HashMap::new(),
            next_number: 0,
            checks: Agenda::default(),
            steps: Agenda::default(),
            chance,
            news: News::None,
            end: End::No,
        }
    }

    /// Has these checked and no others.
    pub(super) fn set(&mut self, wanted: BTreeMap<Target, Health>, now: Instant) {
        let gone = self
            .names
            .iter()
            .filter(|(name, _)| !wanted.contains_key(name));
        let gone: Vec<_> = gone.map(|(name, number)| (name.clone(), *number)).collect();
        for (name, number) in gone {
            self.names.remove(&name);
            self.forget(number);
        }
        for (name, health) in wanted {
            let number = self.names.get(&name).copied();
            match number.and_then(|number| Some((number, self.entries.get(&number)?))) {
                None => self.begin(name, health, None, now),
                Some((_, entry)) if *entry.health == health => {}
                Some((number, entry)) if entry.health.check == health.check => {
                    self.adapt(number, health, now);
                }
                Some((number, entry)) => {
                    let before = entry.facts(now);
                    let forced = entry.standing.forced();
                    self.forget(number);
                    self.begin(name.clone(), health, forced, now);
                    if let Some(number) = self.names.get(&name) {
                        self.told(*number, before, now);
                    }
                }
            }
        }
    }

    fn forget(&mut self, number: u64) {
        self.entries.remove(&number);
        self.checks.remove(number);
        self.steps.remove(number);
    }

    fn begin(&mut self, name: Target, health: Health, forced: Option<Forced>, now: Instant) {
        let number = self.next_number;
        self.next_number += 1;
        let first = self.chance.within(health.interval.min(SOON));
        self.checks.set(number, now + first);
        let mut standing = Standing::new(&health, now);
        standing.force(forced, now);
        let entry = Entry {
            address: name.address,
            health: Arc::new(health),
            standing,
            last: None,
            checks: 0,
            failures: 0,
            asking: Asking::No,
        };
        self.entries.insert(number, entry);
        self.names.insert(name, number);
    }

    fn adapt(&mut self, number: u64, health: Health, now: Instant) {
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        let before = entry.facts(now);
        entry.standing.adapt(&health, now);
        // It shall not wait for the end of a long interval that counts no more.
        let next = now + pause(&mut self.chance, &health);
        if self.checks.at(number).is_some_and(|at| next < at) {
            self.checks.set(number, next);
        }
        entry.health = Arc::new(health);
        self.told(number, before, now);
    }

    /// Looks whether what others hear about has changed, and when it will by itself.
    fn told(&mut self, number: u64, before: Facts, now: Instant) {
        let Some(entry) = self.entries.get(&number) else {
            return;
        };
        if entry.facts(now) != before {
            self.news = News::Some;
        }
        match entry.standing.next_step(now) {
            Some(next) => self.steps.set(number, now + next.min(FAR)),
            None => self.steps.remove(number),
        }
    }

    fn number(&self, target: &Target) -> Result<u64, Error> {
        let number = self.names.get(target).copied();
        number.ok_or_else(|| Error::Stranger(target.clone()))
    }

    /// Has an operator's word go before.
    pub(super) fn force(
        &mut self,
        target: &Target,
        forced: Option<Forced>,
        now: Instant,
    ) -> Result<(), Error> {
        let number = self.number(target)?;
        if let Some(entry) = self.entries.get_mut(&number) {
            let before = entry.facts(now);
            entry.standing.force(forced, now);
            self.told(number, before, now);
        }
        Ok(())
    }

    /// Has a target checked at once.
    pub(super) fn check_now(&mut self, target: &Target, now: Instant) -> Result<(), Error> {
        let number = self.number(target)?;
        match self.entries.get_mut(&number) {
            Some(entry) if entry.asking != Asking::No => entry.asking = Asking::Again,
            _ => self.checks.set(number, now),
        }
        Ok(())
    }

    /// The next target whose time has come. It is left alone until there is an answer.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<u64> {
        let number = self.checks.pop(now)?;
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.asking = Asking::Yes;
        }
        Some(number)
    }

    /// What is to be asked, if the target is still there.
    pub(super) fn order(&self, number: u64) -> Option<Order> {
        let entry = self.entries.get(&number)?;
        Some(Order {
            address: entry.address,
            health: Arc::clone(&entry.health),
        })
    }

    /// Whether there is such a target.
    pub(super) fn has(&self, number: u64) -> bool {
        self.entries.contains_key(&number)
    }

    /// What came of a check that began then.
    pub(super) fn record(
        &mut self,
        number: u64,
        begun: Instant,
        answer: Result<Duration, Failure>,
        now: Instant,
    ) {
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        let before = entry.facts(now);
        entry.last = Some(answer);
        match answer {
            Ok(_) => {
                entry.checks += 1;
                entry.standing.answered(now);
            }
            Err(failure) if failure.counts() => {
                entry.checks += 1;
                entry.failures += 1;
                entry.standing.failed(now);
            }
            Err(_) => {}
        }
        let pause = pause(&mut self.chance, &entry.health);
        let next = match entry.asking {
            Asking::Again => now,
            Asking::No | Asking::Yes => now.max(begun + pause),
        };
        entry.asking = Asking::No;
        self.checks.set(number, next);
        self.told(number, before, now);
    }

    /// Looks after shares that rise by themselves.
    pub(super) fn pass_steps(&mut self, now: Instant) {
        while let Some(number) = self.steps.pop(now) {
            self.news = News::Some;
            let next = self.entries.get(&number);
            if let Some(next) = next.and_then(|entry| entry.standing.next_step(now)) {
                self.steps.set(number, now + next.min(FAR));
            }
        }
    }

    /// When there is something to do again.
    pub(super) fn next(&self) -> Option<Instant> {
        [self.checks.next(), self.steps.next()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether there is something to tell. Asking answers for it.
    pub(super) fn take_news(&mut self) -> News {
        std::mem::take(&mut self.news)
    }

    /// Has somebody told, whatever is the case.
    pub(super) fn ended(&mut self, because: Refused) {
        self.end = End::Because(because);
    }

    pub(super) fn views(&self, now: Instant) -> BTreeMap<Target, View> {
        let view = |(name, number): (&Target, &u64)| {
            let entry = self.entries.get(number)?;
            Some((name.clone(), entry.view(now)))
        };
        self.names.iter().filter_map(view).collect()
    }
}

/// What lies between the beginnings of two checks.
fn pause(chance: &mut Chance, health: &Health) -> Duration {
    let around = chance.around(health.interval.min(FAR), health.jitter);
    around.clamp(LEAST, FAR)
}

#[cfg(test)]
mod tests;
