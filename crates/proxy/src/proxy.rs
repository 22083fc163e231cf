//! [`Proxy`]: the whole of it, as a library.

use crate::commands::words::By;
use crate::dns::{Names, Resolver};
use crate::error::{Error, Result};
use crate::feed::{Feed, Sink, Subscription, Told};
pub use crate::filter::{Filter, Key, Named};
use crate::health::{Checks, Failure, State};
use crate::keeper::{Keeper, Turn};
use crate::listing::{self, Sum};
use crate::lock::locked;
use crate::memory::{Memory, Unsaved, mark};
use crate::plan::{self, Target, World};
use crate::powerless;
use crate::status::{self, Status};
use bpfsmith_config::desired::{Desired, Health};
use bpfsmith_config::edit::{Document, EditError, Effect};
use bpfsmith_datapath::connections;
use bpfsmith_datapath::event::Kind;
use bpfsmith_datapath::events::Events;
use bpfsmith_datapath::pins::Pins;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a name may take to be resolved when a configuration is applied.
const RESOLVE: Duration = Duration::from_secs(10);

/// How often somebody looks whether devices are where they were.
const LOOK: Duration = Duration::from_secs(1);

/// What failed is tried again after this time.
const AGAIN: Duration = Duration::from_secs(5);

/// A reverse proxy at work.
///
/// Everything goes through one lock: what a file, an API, checks, names and drains want becomes one configuration
/// of the datapath, and one generation of programs that comes into place at once.
///
/// It belongs to the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    wake: Sender<Wake>,
    refresher: Option<JoinHandle<()>>,
}

/// How long what the kernel does goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// As long as the [`Proxy`].
    Process,
    /// Until it is detached, or the machine ends: under the names of `settings.pins`, which the next [`Proxy`] goes on
    /// with. Linux 6.6.
    Kernel,
}

/// Why everything is looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wake {
    /// A name or a target has changed.
    Changed,
    /// Something is due at another time.
    Due,
    /// Nothing is to be looked at any more.
    Over,
}

#[derive(Debug)]
struct Shared {
    kept: Mutex<Kept>,
    names: Names,
    checks: Checks,
    feed: Feed,
    begun: Instant,
}

/// What one thread changes at a time.
#[derive(Debug)]
struct Kept {
    document: Document,
    /// The mark of the configuration that was given or saved last.
    given: u64,
    keeper: Keeper,
    drained: BTreeSet<Target>,
    /// Where the next process finds what this one was asked for.
    pins: Option<Pins>,
    /// What it finds there.
    remembered: Memory,
    /// What became of what an earlier process was asked for, if that is not done.
    note: Option<String>,
    /// Why what was asked for would not outlive this process, if that is so.
    forgetful: Option<String>,
    /// Why names or checks could not be followed, if that is so.
    failure: Option<String>,
}

impl Kept {
    /// Groups are called otherwise from now on.
    fn rename(&mut self, renamed: &[(String, String)]) {
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
    fn is_unsaved(&self) -> bool {
        mark(self.document.text()) != self.given
    }

    /// The next process goes on with what this one was asked for.
    fn remember(&mut self) {
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

impl Proxy {
    /// Begins to do what a configuration says.
    ///
    /// # Errors
    /// When it is not possible, or the kernel refuses; nothing is done then.
    pub fn open(document: Document, life: Life) -> Result<Proxy> {
        Proxy::open_with(document, life, Vec::new())
    }

    /// The same, and these get all events, also those that nobody has read who was there before.
    ///
    /// # Errors
    /// As for [`open`](Proxy::open).
    pub fn open_with(document: Document, life: Life, sinks: Vec<Box<dyn Sink>>) -> Result<Proxy> {
        let pins = match life {
            Life::Process => None,
            Life::Kernel => Some(Pins::open(&document.desired().settings.pins)?),
        };
        let remembered = match &pins {
            None => None,
            Some(pins) => pins.remembered()?,
        };
        let remembered = remembered.and_then(|text| Memory::read(&text));
        let remembered = remembered.unwrap_or_default();
        let begin = remembered.clone().begin(document);
        let desired = begin.document.wanted();
        let (wake, woken) = channel();
        let names = {
            let wake = Mutex::new(wake.clone());
            powerless::start(|| {
                let resolver = Resolver::of_system()?;
                Ok(Names::start(resolver, move || changed(&wake))?)
            })?
        };
        let checks = {
            let wake = Mutex::new(wake.clone());
            powerless::start(|| Ok(Checks::start(move || changed(&wake))?))?
        };
        names.resolve_all(&plan::hosts(&desired), RESOLVE);
        let world = World {
            hosts: hosts(&names),
            drained: begin.drained.clone(),
            ..World::default()
        };
        let keeper = Keeper::open(desired, world, pins.as_ref())?;
        let events = Events::open(keeper.generation())?;
        let feed = powerless::start(|| Feed::start(events, &keeper.plan().listeners, sinks))?;
        let shared = Arc::new(Shared {
            kept: Mutex::new(Kept {
                document: begin.document,
                given: begin.given,
                keeper,
                drained: begin.drained,
                pins,
                remembered,
                note: begin.note,
                forgetful: None,
                failure: None,
            }),
            names,
            checks,
            feed,
            begun: Instant::now(),
        });
        {
            let mut kept = shared.lock();
            // An earlier process may have wanted others.
            kept.keeper.want(told(kept.keeper.desired()))?;
            shared.follow(&kept);
            kept.remember();
        }
        let refresher = {
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new().name("refresh".to_owned());
            thread.spawn(move || shared.refresh_when(&woken))
        };
        let refresher = refresher.map_err(|error| Error::Machine {
            call: "start a thread that follows names and checks",
            error,
            hint: "the limit of processes is reached: see ulimit -u",
        })?;
        Ok(Proxy {
            shared,
            wake,
            refresher: Some(refresher),
        })
    }

    /// Does what this configuration says from now on, at once or not at all.
    ///
    /// # Errors
    /// When it is not possible, or the kernel refuses: everything is as before then.
    pub fn apply(&self, document: Document) -> Result<Turn> {
        let (turn, ()) = self.apply_prepared(document, |_| Ok(()))?;
        Ok(turn)
    }

    /// Changes the configuration, at once or not at all. With [`Life::Kernel`], the next proxy that is opened with the
    /// configuration that was given last goes on with the changes, until they are [saved](Proxy::saved).
    ///
    /// # Errors
    /// When the change is refused, or the configuration that it makes: everything is as before then.
    pub fn change(
        &self,
        edit: impl FnOnce(&mut Document) -> std::result::Result<Effect, EditError>,
    ) -> Result<Turn> {
        let (turn, ()) = self.change_prepared(edit, |_| Ok(()))?;
        Ok(turn)
    }

    /// The same, and something is prepared for what will be wanted: if that fails, nothing changes. What was prepared
    /// is returned if all went well, and dropped else.
    ///
    /// # Errors
    /// As for [`change`](Proxy::change), and as it is prepared.
    pub fn change_prepared<T>(
        &self,
        edit: impl FnOnce(&mut Document) -> std::result::Result<Effect, EditError>,
        prepare: impl FnOnce(&Desired) -> Result<T>,
    ) -> Result<(Turn, T)> {
        self.edit(None, edit, prepare)
    }

    /// As [`apply`](Proxy::apply) does, and something is prepared as by [`change_prepared`](Proxy::change_prepared).
    ///
    /// # Errors
    /// As for [`apply`](Proxy::apply), and as it is prepared.
    pub fn apply_prepared<T>(
        &self,
        document: Document,
        prepare: impl FnOnce(&Desired) -> Result<T>,
    ) -> Result<(Turn, T)> {
        let given = mark(document.text());
        let edit = |present: &mut Document| {
            *present = document;
            Ok(Effect::default())
        };
        self.edit(Some(given), edit, prepare)
    }

    /// A configuration that was given has its mark.
    fn edit<T>(
        &self,
        given: Option<u64>,
        edit: impl FnOnce(&mut Document) -> std::result::Result<Effect, EditError>,
        prepare: impl FnOnce(&Desired) -> Result<T>,
    ) -> Result<(Turn, T)> {
        let mut kept = self.shared.lock();
        let mut document = kept.document.clone();
        let effect = edit(&mut document)?;
        let desired = document.wanted();
        let prepared = prepare(&desired)?;
        let hosts_before = plan::hosts(kept.keeper.desired());
        let told_before = told(kept.keeper.desired());
        self.shared
            .names
            .resolve_all(&plan::hosts(&desired), RESOLVE);
        let drained_before = kept.drained.clone();
        kept.rename(&effect.renamed);
        let world = self.shared.world(&kept, &desired);
        let turn = kept.keeper.turn(desired, world).inspect_err(|_| {
            self.shared.names.set(hosts_before);
        });
        if turn.is_err() {
            kept.drained = drained_before;
        }
        let turn = turn?;
        kept.document = document;
        if let Some(given) = given {
            (kept.given, kept.note) = (given, None);
        }
        kept.remember();
        self.shared.follow(&kept);
        // What was asked for meanwhile is wanted until the configuration says something else.
        let told = told(kept.keeper.desired());
        if told != told_before {
            kept.keeper.want(told)?;
        }
        self.look_again();
        Ok((turn, prepared))
    }

    /// The configuration, as it is now.
    #[must_use]
    pub fn document(&self) -> Document {
        self.shared.lock().document.clone()
    }

    /// Whether the configuration has been changed since it was given or saved.
    #[must_use]
    pub fn is_unsaved(&self) -> bool {
        self.shared.lock().is_unsaved()
    }

    /// Somebody has saved the configuration, when this was its text: the next proxy will be given it.
    pub fn saved(&self, text: &str) {
        let mut kept = self.shared.lock();
        (kept.given, kept.note) = (mark(text), None);
        kept.remember();
    }

    /// A target gets no new connections any more; those that it has go on. Without a group, in all that it is in. With
    /// [`Life::Kernel`], the next proxy knows of it.
    ///
    /// # Errors
    /// When there is no such target, or the kernel refuses.
    pub fn drain(&self, address: SocketAddr, group: Option<&str>) -> Result<Turn> {
        self.set_drained(address, group, |drained, target| drained.insert(target))
    }

    /// It gets connections again.
    ///
    /// # Errors
    /// When there is no such target, or the kernel refuses.
    pub fn undrain(&self, address: SocketAddr, group: Option<&str>) -> Result<Turn> {
        self.set_drained(address, group, |drained, target| drained.remove(&target))
    }

    fn set_drained(
        &self,
        address: SocketAddr,
        group: Option<&str>,
        set: impl Fn(&mut BTreeSet<Target>, Target) -> bool,
    ) -> Result<Turn> {
        let mut kept = self.shared.lock();
        let targets = kept.keeper.plan().targets.keys();
        let is_meant =
            |it: &&Target| it.address == address && group.is_none_or(|group| it.group == group);
        let meant: Vec<Target> = targets.clone().filter(is_meant).cloned().collect();
        if meant.is_empty() {
            return Err(Error::Unknown {
                what: "target",
                name: address.to_string(),
                known: targets.map(|it| it.address.to_string()).collect(),
            });
        }
        let before = kept.drained.clone();
        for target in meant {
            set(&mut kept.drained, target);
        }
        let turn = self.shared.turn(&mut kept);
        match turn {
            Ok(_) => {
                kept.remember();
                self.look_again();
            }
            Err(_) => kept.drained = before,
        }
        turn
    }

    /// What is to be done at some time may be another by now.
    fn look_again(&self) {
        // It is gone if it panicked, which it told.
        let _ = self.wake.send(Wake::Due);
    }

    /// Events from now on. Who does not take them loses the oldest, beyond `room`.
    #[must_use]
    pub fn events(&self, room: usize) -> Subscription {
        self.shared.feed.subscribe(room)
    }

    /// The last events, the oldest first.
    #[must_use]
    pub fn past_events(&self) -> Vec<Told> {
        self.shared.feed.past()
    }

    /// Hands events to this one too, from now on.
    pub fn add_sink(&self, sink: impl Sink + 'static) {
        self.shared.feed.add(sink);
    }

    /// From now on the kernel tells of these kinds of events, and of no others.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn want(&self, kinds: &[Kind]) -> Result<()> {
        self.shared.lock().keeper.want(kinds)
    }

    /// The connections that there are, as far as they are asked for.
    ///
    /// # Errors
    /// When the tables cannot be read.
    pub fn connections(&self, filter: &Filter) -> Result<Vec<Named>> {
        let kept = self.shared.lock();
        let generation = kept.keeper.generation();
        let (maps, shape) = (generation.maps(), generation.shape());
        let all = match filter.key() {
            Some(key) => connections::find(maps, shape, key.protocol, [key.client, key.service])?
                .into_iter()
                .collect(),
            None => connections::all(maps, shape)?,
        };
        let plan = kept.keeper.plan();
        let named = all.into_iter().map(|it| Named::new(plan, it));
        Ok(named.filter(|it| filter.has(it)).collect())
    }

    /// One connection, if it is there: how it stands, and what went both ways.
    ///
    /// # Errors
    /// When its table cannot be read.
    pub fn connection(&self, key: Key) -> Result<Option<Named>> {
        Ok(self.connections(&Filter::from(key))?.pop())
    }

    /// What connections of each source, target, proxy or listener add up to, by their names.
    ///
    /// # Errors
    /// When the tables cannot be read.
    pub fn sums(&self, by: By, filter: &Filter) -> Result<BTreeMap<String, Sum>> {
        Ok(listing::sums(&self.connections(filter)?, by))
    }

    /// How everything stands.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn status(&self) -> Result<Status> {
        self.shared.status()
    }

    /// The generation that decides packets, for what is asked of it.
    pub fn with_keeper<T>(&self, ask: impl FnOnce(&Keeper) -> T) -> T {
        ask(&self.shared.lock().keeper)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It is gone if it panicked, which it told.
        let _ = self.wake.send(Wake::Over);
        if let Some(refresher) = self.refresher.take() {
            let _ = refresher.join();
        }
    }
}

fn changed(wake: &Mutex<Sender<Wake>>) {
    let wake = locked(wake);
    // Nobody listens any more when the proxy ends.
    let _ = wake.send(Wake::Changed);
}

/// The events that a configuration wants: all, or those that are counted, or those that are written down.
const fn told(desired: &Desired) -> &'static [Kind] {
    let settings = &desired.settings;
    match (settings.events, settings.metrics, &settings.access_log) {
        (true, ..) => Kind::ALL,
        (false, Some(_), _) => &[Kind::New, Kind::Closed, Kind::Refused],
        (false, None, Some(_)) => &[Kind::Closed],
        (false, None, None) => &[],
    }
}

/// The addresses that names have.
fn hosts(names: &Names) -> BTreeMap<String, BTreeSet<IpAddr>> {
    let known = names.known().into_iter();
    known.map(|(name, known)| (name, known.addresses)).collect()
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Each change of it is one step: who panicked left it whole.
        locked(&self.kept)
    }

    fn world(&self, kept: &Kept, desired: &Desired) -> World {
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
    fn turn(&self, kept: &mut Kept) -> Result<Turn> {
        let desired = Arc::clone(kept.keeper.desired());
        let world = self.world(kept, &desired);
        kept.keeper.turn(desired, world)
    }

    /// Names and targets are followed as the present configuration has them.
    fn follow(&self, kept: &Kept) {
        let desired = kept.keeper.desired();
        self.names.set(plan::hosts(desired));
        self.checks.set(checked(desired, &hosts(&self.names)));
        self.feed.name(&kept.keeper.plan().listeners);
    }

    /// Follows names, checks and devices, and ends what backends that leave still have, until it is over.
    fn refresh_when(&self, woken: &Receiver<Wake>) {
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

    fn status(&self) -> Result<Status> {
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
        let counters = keeper.generation().counters()?.into_iter();
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
                .collect(),
            leaving: leaving(keeper)?,
            proxies: proxies(keeper),
            groups: self.groups(&kept)?,
            counters: counters
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
