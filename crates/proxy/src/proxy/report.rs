//! How a proxy stands.

use super::shared::{Kept, Shared};
use crate::error::Result;
use crate::health::{Failure, State};
use crate::keeper::Keeper;
use crate::status::{self, Status};
use bpfsmith_datapath::reason::Reason;
use std::collections::BTreeMap;
use std::time::Duration;

impl Shared {
    pub(super) fn status(&self) -> Result<Status> {
        let kept = self.lock();
        let keeper = &kept.keeper;
        let attached = keeper.attached();
        let devices = attached.choices().iter().map(|choice| status::Device {
            name: choice.name.clone(),
            choice: choice.to_string(),
        });
        let notes = attached.notes().iter().map(ToString::to_string);
        let unsaved = kept.is_unsaved().then(|| {
            "the configuration has changes that are not saved: save keeps them, reload takes them back".to_owned()
        });
        let told = [
            &kept.note,
            &kept.forgetful,
            &kept.failure,
        ];
        let told = told.into_iter().flatten().cloned();
        let failures = unsaved.into_iter().chain(told);
        let failures = failures.chain(self.feed.failure());
        let counters = keeper.generation().counters()?;
        Ok(Status {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            uptime: self.begun.elapsed(),
            generation: keeper.turns(),
            devices: devices.collect(),
            notes: notes
                .chain(moved(keeper))
                .chain(failures)
                .chain(self.unanswered())
                .chain(room(keeper))
                .chain(self.untold(&counters))
                .collect(),
            leaving: leaving(keeper)?,
            proxies: proxies(keeper),
            groups: self.groups(&kept)?,
            counters: counters
                .into_iter()
                .map(|(reason, count)| (reason.name(), count))
                .collect(),
            events: self.feed.reading(),
        })
    }

    /// Names whose addresses are of before.
    fn unanswered(&self) -> impl Iterator<Item = String> {
        let known = self.names.known().into_iter();
        known.filter_map(|(name, known)| known.error.map(|error| format!("{name}: {error}")))
    }

    /// That there were more events than this process could read, if that is so.
    fn untold(&self, counters: &BTreeMap<Reason, u64>) -> Option<String> {
        let lost = lost(counters).saturating_sub(self.lost);
        (lost > 0).then(|| {
            format!("{lost} events found no room, as they come faster than they are read: the access log, metrics of connections and who follows lack these; set settings.events false ends that")
        })
    }

    fn groups(&self, kept: &Kept) -> Result<Vec<status::Group>> {
        let keeper = &kept.keeper;
        let standings = self.checks.standings();
        let mut groups = Vec::new();
        for group in &keeper.desired().groups {
            let mut targets = Vec::new();
            for (target, aim) in &keeper.plan().targets {
                if target.group != group.name {
                    continue;
                }
                let view = standings.get(target);
                let state = match view.map(|view| view.state) {
                    _ if kept.drained.contains(target) => "drained",
                    None => "unchecked",
                    Some(State::Unknown) => "unknown",
                    Some(State::Up) => "up",
                    Some(State::Down) => "down",
                };
                targets.push(status::Target {
                    address: target.address,
                    weight: aim.weight,
                    share: aim.share,
                    state,
                    last: view.and_then(|view| view.last.as_ref()).map(heard),
                    connections: keeper.generation().flows_of(aim.backend)?,
                });
            }
            groups.push(status::Group {
                name: group.name.clone(),
                algorithm: group.algorithm.word(),
                nat: group.nat.word(),
                is_desperate: keeper.plan().desperate.contains(&group.name),
                targets,
            });
        }
        Ok(groups)
    }
}

/// Events that found no room.
pub(super) fn lost(counters: &BTreeMap<Reason, u64>) -> u64 {
    counters
        .get(&Reason::EventLost)
        .copied()
        .unwrap_or_default()
}

fn proxies(keeper: &Keeper) -> Vec<status::Listeners> {
    let mut places: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for listening in keeper.plan().listeners.values() {
        let place = (listening.address, listening.protocol);
        places.entry(&listening.proxy).or_default().push(place);
    }
    let proxies = keeper.desired().proxies.iter();
    let proxies = proxies.map(|proxy| status::Listeners {
        name: proxy.name.clone(),
        places: places.remove(proxy.name.as_str()).unwrap_or_default(),
        group: proxy.group.clone(),
        routes: proxy.routes.iter().map(|route| route.sources.len()).sum(),
    });
    proxies.collect()
}

/// Devices that are not where they were.
fn moved(keeper: &Keeper) -> impl Iterator<Item = String> + '_ {
    let gone = keeper.plan().absent.iter();
    let gone = gone.map(|name| format!("{name} is gone: it gets programs when it is back"));
    let renamed = keeper.world().renamed.iter();
    gone.chain(renamed.map(|(name, now)| {
        format!(
            "{name} is called {now} now, and keeps its programs: name it so in the configuration"
        )
    }))
}

/// That there is another room for flows than is wanted, if that is so: it is as large as it was made.
fn room(keeper: &Keeper) -> Option<String> {
    let (wanted, there) = (
        keeper.plan().config.room.flows,
        keeper.generation().shape().room.flows,
    );
    (wanted != there).then(|| {
        format!("there is room for {there} flows, not for {wanted}: that changes when the proxy is detached and run again")
    })
}

/// What was heard of a target.
fn heard(last: &std::result::Result<Duration, Failure>) -> String {
    match last {
        Ok(time) => format!("answered in {:.1} ms", time.as_secs_f64() * 1000.0),
        Err(failure) => failure.to_string(),
    }
}

/// Backends that get no connections any more, and still have some.
fn leaving(keeper: &Keeper) -> Result<Vec<status::Leaving>> {
    let mut all = Vec::new();
    for (backend, left) in keeper.leaving() {
        let connections = keeper.generation().flows_of(backend)?;
        let Some(address) = keeper.address(backend).filter(|_| connections > 0) else {
            continue;
        };
        all.push(status::Leaving {
            address,
            connections,
            left,
        });
    }
    Ok(all)
}
