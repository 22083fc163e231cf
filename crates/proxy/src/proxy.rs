//! [`Proxy`]: the whole of it, as a library.

mod report;
mod shared;

use crate::commands::words::By;
use crate::dns::{Names, Resolver};
use crate::error::{Error, Result};
use crate::feed::{Feed, Sink, Subscription, Told};
pub use crate::filter::{Filter, Key, Named};
use crate::health::Checks;
use crate::keeper::{Keeper, Turn};
use crate::listing::{self, Sum};
use crate::lock::locked;
use crate::memory::{Memory, mark};
use crate::plan::{self, Target, World};
use crate::powerless;
use crate::status::Status;
use bpfsmith_config::desired::Desired;
use bpfsmith_config::edit::{Document, EditError, Effect};
use bpfsmith_datapath::connections;
use bpfsmith_datapath::event::Kind;
use bpfsmith_datapath::events::Events;
use bpfsmith_datapath::pins::Pins;
use shared::{Kept, Shared, Wake, changed, hosts, told};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a name may take to be resolved when a configuration is applied.
const RESOLVE: Duration = Duration::from_secs(10);

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

impl Proxy {
    /// Begins to do what a configuration says.
    ///
    /// # Errors
    /// When it is not possible, or the kernel refuses; nothing is done then.
    pub fn open(document: Document, life: Life) -> Result<Proxy> {
        Proxy::open_with(document, life, |_| Ok(Vec::new()))
    }

    /// The same, and these, for what is wanted, get all events, also those that nobody has read who was there before.
    /// What is wanted may be more than the configuration that is given: see [`change`](Proxy::change).
    ///
    /// # Errors
    /// As for [`open`](Proxy::open), and as sinks are made.
    pub fn open_with(
        document: Document,
        life: Life,
        sinks: impl FnOnce(&Desired) -> Result<Vec<Box<dyn Sink>>>,
    ) -> Result<Proxy> {
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
        let sinks = sinks(&desired)?;
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
        let lost = report::lost(&keeper.generation().counters()?);
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
            changing: Mutex::new(()),
            names,
            checks,
            feed,
            begun: Instant::now(),
            lost,
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
        // Names may take long: whoever only asks, and what is due, does not wait for them.
        let _one = locked(&self.shared.changing);
        let mut document = self.document();
        let effect = edit(&mut document)?;
        let desired = document.wanted();
        let prepared = prepare(&desired)?;
        self.shared
            .names
            .resolve_all(&plan::hosts(&desired), RESOLVE);
        let mut kept = self.shared.lock();
        let hosts_before = plan::hosts(kept.keeper.desired());
        let told_before = told(kept.keeper.desired());
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
