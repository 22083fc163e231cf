//! What the threads of a proxy share, and the one that follows the world.

use crate::dns::Names;
use crate::error::Result;
use crate::feed::Feed;
use crate::health::{Checks, State};
use crate::keeper::{Keeper, Turn};
use crate::lock::locked;
use crate::memory::{Memory, Unsaved, mark};
use crate::plan::{self, Target, World};
use bpfsmith_config::desired::{Desired, Health};
use bpfsmith_config::edit::Document;
use bpfsmith_datapath::event::Kind;
use bpfsmith_datapath::pins::Pins;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How often somebody looks whether devices are where they were.
const LOOK: Duration = Duration::from_secs(1);

/// What failed is tried again after this time.
const AGAIN: Duration = Duration::from_secs(5);

/// Why everything is looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wake {
    /// A name or a target has changed.
    Changed,
    /// Something is due at another time.
    Due,
    /// Nothing is to be looked at any more.
    Over,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) kept: Mutex<Kept>,
    /// Who changes the configuration, one at a time: taken before the other.
    pub(super) changing: Mutex<()>,
    pub(super) names: Names,
    pub(super) checks: Checks,
    pub(super) feed: Feed,
    pub(super) begun: Instant,
    /// Events that had found no room before.
    pub(super) lost: u64,
}

/// What one thread changes at a time.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) document: Document,
    /// The mark of the configuration that was given or saved last.
    pub(super) given: u64,
    pub(super) keeper: Keeper,
    pub(super) drained: BTreeSet<Target>,
    /// Where the next process finds what this one was asked for.
    pub(super) pins: Option<Pins>,
    /// What it finds there.
    pub(super) remembered: Memory,
    /// What became of what an earlier process was asked for, if that is not done.
    pub(super) note: Option<String>,
    /// Why what was asked for would not outlive this process, if that is so.
    pub(super) forgetful: Option<String>,
    /// Why names or checks could not be followed, if that is so.
    pub(super) failure: Option<String>,
}

impl Kept {
    /// Groups are called otherwise from now on.
    pub(super) fn rename(&mut self, renamed: &[(String, String)]) {
        let drained = std::mem::take(&mut self.drained).into_iter();
        let drained = drained.map(|target| {
            let now = renamed.iter().find(|(before, _)| *before == target.group);
            match now {
                Some((_, group)) => Target {
                    group: group.clone(),
                    ..target
                },
                None => target,
            }
        });
        self.drained = drained.collect();
    }

    /// Whether it has been changed since it was given or saved.
    pub(super) fn is_unsaved(&self) -> bool {
        mark(self.document.text()) != self.given
    }

    /// The next process goes on with what this one was asked for.
    pub(super) fn remember(&mut self) {
        let Some(pins) = &self.pins else { return };
        let memory = Memory {
            drained: self.drained.clone(),
            unsaved: self.is_unsaved().then(|| Unsaved {
                of: self.given,
                text: self.document.text().to_owned(),
            }),
        };
        if memory == self.remembered {
            return;
        }
        // What was asked for is done: that somebody else would not know of it is told, and no failure.
        self.forgetful = match pins.remember(memory.text().as_bytes()) {
            Ok(()) => {
                self.remembered = memory;
                None
            }
            Err(error) => Some(format!(
                "a proxy that is started anew will not know what is drained, and of changes that are not saved: {error}"
            )),
        };
    }
}

pub(super) fn changed(wake: &Mutex<Sender<Wake>>) {
    let wake = locked(wake);
    // Nobody listens any more when the proxy ends.
    let _ = wake.send(Wake::Changed);
}

/// The events that a configuration wants: all, or those that are counted, or those that are written down.
pub(super) const fn told(desired: &Desired) -> &'static [Kind] {
    let settings = &desired.settings;
    match (settings.events, settings.metrics, &settings.access_log) {
        (true, ..) => Kind::ALL,
        (false, Some(_), _) => &[Kind::New, Kind::Closed, Kind::Refused],
        (false, None, Some(_)) => &[Kind::Closed],
        (false, None, None) => &[],
    }
}

/// The addresses that names have.
pub(super) fn hosts(names: &Names) -> BTreeMap<String, BTreeSet<IpAddr>> {
    let known = names.known().into_iter();
    known.map(|(name, known)| (name, known.addresses)).collect()
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Kept> {
        // Each change of it is one step: who panicked left it whole.
        locked(&self.kept)
    }

    pub(super) fn world(&self, kept: &Kept, desired: &Desired) -> World {
        let hosts = hosts(&self.names);
        // Who is not to be checked any more has a standing until it is so.
        let checked = checked(desired, &hosts);
        let standings = self.checks.standings().into_iter();
        let standings = standings.filter(|(target, _)| checked.contains_key(target));
        let shares = standings.map(|(target, view)| {
            let share = match view.state {
                State::Down => 0,
                State::Unknown | State::Up => view.share,
            };
            (target, share)
        });
        let is_there = |target: &&Target| desired.group(&target.group).is_some();
        World {
            shares: shares.collect(),
            hosts,
            drained: kept.drained.iter().filter(is_there).cloned().collect(),
            ..World::default()
        }
    }

    /// Looks at the world again.
    pub(super) fn turn(&self, kept: &mut Kept) -> Result<Turn> {
        let desired = Arc::clone(kept.keeper.desired());
        let world = self.world(kept, &desired);
        kept.keeper.turn(desired, world)
    }

    /// Names and targets are followed as the present configuration has them.
    pub(super) fn follow(&self, kept: &Kept) {
        let desired = kept.keeper.desired();
        self.names.set(plan::hosts(desired));
        self.checks.set(checked(desired, &hosts(&self.names)));
        self.feed.name(&kept.keeper.plan().listeners);
    }

    /// Follows names, checks and devices, and ends what backends that leave still have, until it is over.
    pub(super) fn refresh_when(&self, woken: &Receiver<Wake>) {
        let mut again: Option<Instant> = None;
        loop {
            let due = self.lock().keeper.due();
            let now = Instant::now();
            let due = due.map_or(LOOK, |due| due.saturating_duration_since(now));
            let first = woken.recv_timeout(due.min(LOOK));
            // One look is for all that has changed until now.
            let wakes: Vec<Wake> = first.into_iter().chain(woken.try_iter()).collect();
            if wakes.contains(&Wake::Over) || first == Err(RecvTimeoutError::Disconnected) {
                return;
            }
            let mut kept = self.lock();
            let done = kept.keeper.end_leaving();
            let is_again = again.is_some_and(|again| again <= Instant::now());
            let has_moved = match again {
                None => kept.keeper.has_moved(),
                Some(_) => Ok(is_again),
            };
            let done = done.and(has_moved).and_then(|has_moved| {
                let is_other = has_moved || wakes.contains(&Wake::Changed);
                if is_other {
                    let turned = self.turn(&mut kept);
                    let desired = kept.keeper.desired();
                    self.checks.set(checked(desired, &hosts(&self.names)));
                    self.feed.name(&kept.keeper.plan().listeners);
                    turned?;
                }
                Ok(is_other)
            });
            match done {
                Ok(true) => (kept.failure, again) = (None, None),
                Ok(false) => {}
                Err(error) => {
                    kept.failure = Some(error.to_string());
                    again = Some(Instant::now() + AGAIN);
                }
            }
        }
    }
}

/// The targets that are asked whether they live, and how.
fn checked(
    desired: &Desired,
    hosts: &BTreeMap<String, BTreeSet<IpAddr>>,
) -> BTreeMap<Target, Health> {
    let groups = desired.groups.iter();
    let groups = groups.filter_map(|group| group.health.as_ref().map(|health| (group, health)));
    let targets = groups.flat_map(|(group, health)| {
        plan::targets(group, hosts).into_keys().map(|address| {
            let group = group.name.clone();
            (Target { group, address }, health.clone())
        })
    });
    targets.collect()
}
