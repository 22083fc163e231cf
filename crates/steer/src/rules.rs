//! Rules: what is bound to which service, and how that changes while packets come.

use crate::binding::{Binding, Label, Protocol, Rule};
use crate::error::{Error, Result};
use crate::home::{For, Lock};
use crate::layout::{COUNTERS, ENTRIES, Entry, RuleKey, TABLE, Tally};
use crate::services::Services;
use crate::steering::{Agree, Steering};
use crate::table::{Owner, Table};
use bpfsmith_maps::{Map, PerCpu};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;

/// Bindings with their services: what [`Steering::edit`] changes.
pub type RuleSet = BTreeMap<Binding, Label>;

/// What a change of many rules did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Bindings that are new.
    pub added: usize,
    /// Bindings that are gone.
    pub removed: usize,
    /// Bindings that have another service now.
    pub moved: usize,
    /// Bindings that are as they were.
    pub kept: usize,
}

impl Steering {
    /// Binds packets to a service, which need not have sockets yet. What the binding was bound to before,
    /// if it was. A packet goes by the old rules or by the new ones.
    ///
    /// # Errors
    /// [`Error::Full`], and what the kernel refuses.
    pub fn bind(&mut self, binding: Binding, service: &Label) -> Result<Option<Label>> {
        let lock = self.writing()?;
        let id = self.service_made(service)?.id;
        let former = self.known.table.owner(&binding);
        if former.is_some_and(|owner| owner.service == id) {
            return Ok(Some(service.clone()));
        }
        let counter = match former {
            Some(owner) => owner.counter,
            None => self.counters(1)?,
        };
        let owner = Owner {
            service: id,
            counter,
        };
        self.change(&lock, &binding, |table| {
            table.insert(&binding, owner);
        })?;
        match former {
            Some(owner) => Services::read(self)?.label(owner.service).map(Some),
            None => Ok(None),
        }
    }

    /// Takes a binding away; the service that it was bound to, if it was there.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn unbind(&mut self, binding: &Binding) -> Result<Option<Label>> {
        let lock = self.writing()?;
        let Some(former) = self.known.table.owner(binding) else {
            return Ok(None);
        };
        let services = Services::read(self)?;
        self.change(&lock, binding, |table| {
            table.remove(binding);
        })?;
        self.tallies.delete(&former.counter)?;
        Ok(Some(services.label(former.service)?))
    }

    /// Puts these rules in the place of all others, in one step: each packet goes by the old ones or by
    /// the new ones. Bindings that stay keep their counts.
    ///
    /// # Errors
    /// [`Error::Contradiction`] when a binding has two services. Then nothing changed.
    pub fn replace(&mut self, rules: impl IntoIterator<Item = Rule>) -> Result<Changes> {
        let mut all = RuleSet::new();
        for Rule { binding, service } in rules {
            match all.get(&binding) {
                Some(other) if *other != service => {
                    return Err(Error::Contradiction {
                        binding,
                        services: [other.clone(), service],
                    });
                }
                _ => all.insert(binding, service),
            };
        }
        self.edit(|rules| *rules = all)
    }

    /// Changes rules as a function says, in one step, while no other process changes any.
    ///
    /// # Errors
    /// [`Error::Full`], and what the kernel refuses.
    pub fn edit(&mut self, edit: impl FnOnce(&mut RuleSet)) -> Result<Changes> {
        let lock = self.writing()?;
        let mut services = Services::read(self)?;
        let mut rules = self.rule_set(&services)?;
        edit(&mut rules);
        let mut changes = Changes::default();
        let (mut table, mut fresh) = (Table::default(), Vec::new());
        for (binding, label) in &rules {
            let service = services.named(self, label)?.id;
            match self.known.table.owner(binding) {
                Some(owner) => {
                    let is_same = owner.service == service;
                    changes.kept += usize::from(is_same);
                    changes.moved += usize::from(!is_same);
                    table.insert(binding, Owner { service, ..owner });
                }
                None => fresh.push((*binding, service)),
            }
        }
        changes.added = fresh.len();
        let mut counter = self.counters(fresh.len())?;
        for (binding, service) in fresh {
            table.insert(&binding, Owner { service, counter });
            counter = counter.wrapping_add(1);
        }
        let former = self.known.table.iter();
        changes.removed = former.filter(|(b, _)| table.owner(b).is_none()).count();
        self.publish(&lock, table)?;
        self.forget_counts()?;
        Ok(changes)
    }

    /// The rules, by protocol, prefix and ports.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn rules(&mut self) -> Result<Vec<Rule>> {
        let _lock = self.reading()?;
        let services = Services::read(self)?;
        let rules = self.rule_set(&services)?.into_iter();
        Ok(rules
            .map(|(binding, label)| Rule::new(binding, label))
            .collect())
    }

    /// The rule that packets to an address come to; an IPv4 address in either form. Programs that come earlier on the hook may have
    /// decided already.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn find(&mut self, protocol: Protocol, to: SocketAddr) -> Result<Option<Rule>> {
        let _lock = self.reading()?;
        let found = self.known.table.find(protocol, to.ip(), to.port());
        let Some((binding, owner)) = found else {
            return Ok(None);
        };
        let service = Services::read(self)?.label(owner.service)?;
        Ok(Some(Rule::new(binding, service)))
    }

    fn rule_set(&self, services: &Services) -> Result<RuleSet> {
        let all = self.known.table.iter();
        all.map(|(binding, owner)| Ok((binding, services.label(owner.service)?)))
            .collect()
    }

    /// Locks, and knows the rules as they are. Mends what a process left that died at it.
    pub(crate) fn writing(&mut self) -> Result<Lock> {
        let lock = self.home.lock(For::Writing)?;
        if self.sync(&lock)? == Agree::No {
            self.publish(&lock, self.known.table.clone())?;
            self.forget_counts()?;
        }
        Ok(lock)
    }

    pub(crate) fn reading(&mut self) -> Result<Lock> {
        let lock = self.home.lock(For::Reading)?;
        self.sync(&lock)?;
        Ok(lock)
    }

    /// Numbers for so many new bindings, with room to count: the first one.
    fn counters(&mut self, many: usize) -> Result<u32> {
        let mut meta = self.home.known(&self.meta)?;
        // Numbers come round after four thousand million bindings.
        let number = |n: u64| u32::try_from(n & u64::from(u32::MAX)).unwrap_or(0);
        let first = number(meta.counter);
        meta.counter = meta.counter.wrapping_add(many as u64);
        self.meta.update(&0, &meta)?;
        let mut zeros: PerCpu<Tally> = self.tallies.values();
        zeros.fill(&Tally::default());
        let mut counter = first;
        for _ in 0..many {
            let made = self.tallies.update(&counter, &zeros);
            made.map_err(|error| Error::room("bindings", COUNTERS, error))?;
            counter = counter.wrapping_add(1);
        }
        Ok(first)
    }

    /// Forgets what was counted for bindings that are gone, also those of a process that died before it
    /// could.
    fn forget_counts(&self) -> Result<()> {
        let all = self.known.table.iter();
        let held: HashSet<u32> = all.map(|(_, owner)| owner.counter).collect();
        let mut gone = Vec::new();
        self.tallies.for_each(|counter, _| {
            if !held.contains(counter) {
                gone.push(*counter);
            }
        })?;
        for counter in gone {
            self.tallies.delete(&counter)?;
        }
        Ok(())
    }

    /// Others read the rules again before they go by them.
    fn next_generation(&mut self) -> Result<u64> {
        let mut meta = self.home.known(&self.meta)?;
        // 0 is what nobody has read yet.
        meta.generation = meta.generation.wrapping_add(1).max(1);
        self.meta.update(&0, &meta)?;
        Ok(meta.generation)
    }

    /// Changes one binding where it is. Each packet is decided by one entry of the binding's prefix, and
    /// each entry is written at once.
    fn change(
        &mut self,
        _lock: &Lock,
        binding: &Binding,
        change: impl FnOnce(&mut Table),
    ) -> Result<()> {
        // First, so that nobody trusts what they know if this process dies.
        let generation = self.next_generation()?;
        let before = self.known.table.entries_of(binding);
        change(&mut self.known.table);
        self.known.generation = 0;
        let after = self.known.table.entries_of(binding);
        // Sizes that are in use before or after.
        let levels = self.known.table.levels();
        let former = self.known.levels.iter();
        self.write_levels(levels.iter().zip(former).map(|(a, b)| a | b).collect())?;
        if let Err(error) = self.write_entries(&before, &after) {
            // What is half done goes back. Where that fails too, the next writer mends it.
            for key in after.keys().filter(|key| !before.contains_key(key)) {
                self.known.entries.delete(key)?;
            }
            for (key, entry) in &before {
                self.known.entries.update(key, entry)?;
            }
            return Err(error);
        }
        self.write_levels(levels)?;
        self.known.generation = generation;
        Ok(())
    }

    /// Has these entries in the place of those.
    fn write_entries(
        &self,
        before: &BTreeMap<RuleKey, Entry>,
        after: &BTreeMap<RuleKey, Entry>,
    ) -> Result<()> {
        for (key, entry) in after {
            if before.get(key) != Some(entry) {
                self.known.entries.update(key, entry).map_err(no_room)?;
            }
        }
        for key in before.keys().filter(|key| !after.contains_key(key)) {
            self.known.entries.delete(key)?;
        }
        Ok(())
    }

    /// Puts a table in the place of the one in force.
    fn publish(&mut self, _lock: &Lock, table: Table) -> Result<()> {
        let entries = Map::create(&TABLE)?;
        for (key, entry) in table.entries() {
            entries.update(&key, &entry).map_err(no_room)?;
        }
        let levels = table.levels();
        let former = self.known.levels.iter();
        let both = levels.iter().zip(former).map(|(a, b)| a | b).collect();
        let generation = self.next_generation()?;
        self.known.generation = 0;
        self.write_levels(both)?;
        // The kernel comes back from this when no program reads the former one any more.
        self.rules.set(&0, &entries)?;
        self.write_levels(levels)?;
        self.known.table = table;
        self.known.entries = entries;
        self.known.generation = generation;
        Ok(())
    }

    /// Sizes of blocks may be in use that have no entries, but never the other way round.
    fn write_levels(&mut self, levels: Vec<u32>) -> Result<()> {
        for ((index, level), former) in (0_u32..).zip(&levels).zip(&self.known.levels) {
            if level != former {
                self.levels.update(&index, level)?;
            }
        }
        self.known.levels = levels;
        Ok(())
    }
}

fn no_room(error: bpfsmith_maps::Error) -> Error {
    Error::room("blocks of ports", ENTRIES, error)
}

/// The rules that stand in a table, and whether its other entries are theirs.
pub(crate) fn read(entries: &Map<RuleKey, Entry>) -> Result<(Table, Agree)> {
    let foreign = |_| Error::Foreign { map: "steer_table" };
    let (mut table, mut all) = (Table::default(), HashMap::new());
    for element in entries.iter() {
        let (key, entry) = element?;
        if let Some(binding) = key.to_binding().map_err(foreign)? {
            let owner = Owner {
                service: entry.service,
                counter: entry.counter,
            };
            table.insert(&binding, owner);
        }
        all.insert(key, entry);
    }
    let right: HashMap<RuleKey, Entry> = table.entries().collect();
    let agree = if right == all { Agree::Yes } else { Agree::No };
    Ok((table, agree))
}
