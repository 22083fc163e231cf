//! [`Keeper`]: what is wanted, and what the kernel does for it.

use crate::error::Result;
use crate::leaving::Leaving;
use crate::numbers::{Numbers, Place};
use crate::plan::{Aim, Plan, Target, World};
use bpfsmith_config::desired::{Desired, Group};
use bpfsmith_datapath::IfIndex;
use bpfsmith_datapath::attach::Attached;
use bpfsmith_datapath::choice::{Choice, Wish};
use bpfsmith_datapath::config::BackendId;
use bpfsmith_datapath::event::Kind;
use bpfsmith_datapath::generation::Generation;
use bpfsmith_datapath::look::Look;
use bpfsmith_datapath::pins::Pins;
use bpfsmith_net::Netlink;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The one who changes what the kernel does: whatever is wanted goes this way.
///
/// It belongs to the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Keeper {
    net: Netlink,
    desired: Arc<Desired>,
    world: World,
    plan: Plan,
    numbers: Numbers,
    generation: Generation,
    attached: Attached,
    leaving: Leaving,
    turns: u64,
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The number of the generation that decides packets now.
    pub generation: u64,
    /// Whether it is another one than before: the datapath may not care for a change.
    pub is_new: bool,
    /// Devices that were gone and are given up.
    pub lost: Vec<Choice>,
    /// How long it took.
    pub took: Duration,
}

/// The devices of this namespace, but for the loopback device.
fn devices(net: &Netlink) -> Result<BTreeMap<String, IfIndex>> {
    let links = net.links()?.into_iter();
    let links = links.filter(|link| link.index != IfIndex::LOOPBACK);
    Ok(links.map(|link| (link.name, link.index)).collect())
}

fn wishes(plan: &Plan) -> Vec<(IfIndex, Wish)> {
    // A device may have two names, where it got another one.
    let mut seen = BTreeSet::new();
    let devices = plan.devices.values();
    let devices = devices.filter(|device| seen.insert(**device));
    devices.map(|device| (*device, Wish::Best)).collect()
}

impl Keeper {
    /// Has the kernel do what is wanted. The world's devices are looked at here. With pins, it goes on with what an
    /// earlier process left there, and is left there in its turn.
    ///
    /// # Errors
    /// When what is wanted is not possible, or the kernel refuses; it does what it did before then.
    pub fn open(desired: Arc<Desired>, mut world: World, pins: Option<&Pins>) -> Result<Keeper> {
        let net = Netlink::open()?;
        world.devices = devices(&net)?;
        let mut numbers = match pins {
            Some(pins) => adopted(pins)?,
            None => Numbers::default(),
        };
        let plan = Plan::new(&desired, &world, &mut numbers)?;
        let generation = match pins {
            Some(pins) => Generation::kept(pins, &plan.config)?,
            None => Generation::first(&plan.config)?,
        };
        let attached = Attached::new(&Look::here()?, &generation, &wishes(&plan))?;
        let mut keeper = Keeper {
            net,
            desired,
            world,
            plan,
            numbers,
            generation,
            attached,
            leaving: Leaving::default(),
            turns: 1,
        };
        keeper.leave(&Desired::default(), &Plan::default());
        Ok(keeper)
    }

    /// Has the kernel do what is wanted now, at once or not at all.
    ///
    /// # Errors
    /// When it is not possible, or the kernel refuses: it does what it did before then.
    pub fn turn(&mut self, desired: Arc<Desired>, mut world: World) -> Result<Turn> {
        let begun = Instant::now();
        self.look(&mut world)?;
        let mut numbers = self.numbers.clone();
        let plan = Plan::new(&desired, &world, &mut numbers)?;
        let is_new = plan.config != self.plan.config || plan.devices != self.plan.devices;
        let mut lost = Vec::new();
        if is_new {
            let next = self.generation.next(&plan.config)?;
            lost = match plan.devices == self.plan.devices {
                true => self.attached.replace(&next)?,
                false => self
                    .attached
                    .replace_on(&Look::here()?, &next, &wishes(&plan))?,
            };
            self.generation = next;
            self.turns += 1;
        }
        let before = (
            std::mem::replace(&mut self.desired, desired),
            std::mem::replace(&mut self.plan, plan),
        );
        (self.world, self.numbers) = (world, numbers);
        self.leave(&before.0, &before.1);
        Ok(Turn {
            generation: self.turns,
            is_new,
            lost,
            took: begun.elapsed(),
        })
    }

    /// The devices that are here now, and what became of those that were.
    fn look(&self, world: &mut World) -> Result<()> {
        world.devices = devices(&self.net)?;
        for (name, index) in &self.plan.devices {
            if world.devices.contains_key(name) {
                continue;
            }
            let mut others = world.devices.iter();
            let other = others
                .find(|(_, it)| *it == index)
                .map(|(other, _)| other.clone());
            match other {
                Some(other) => {
                    world.devices.insert(name.clone(), *index);
                    world.renamed.insert(name.clone(), other);
                }
                None => drop(world.absent.insert(name.clone())),
            }
        }
        let absent = self.plan.absent.iter();
        let absent = absent.filter(|name| !world.devices.contains_key(*name));
        world.absent.extend(absent.cloned());
        Ok(())
    }

    /// Whether devices have gone, come back, or got other names since they were looked at.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn has_moved(&self) -> Result<bool> {
        let mut now = World::default();
        self.look(&mut now)?;
        let is_there = |name: &String| now.devices.contains_key(name);
        let other = |(name, index): (&String, &IfIndex)| now.devices.get(name) != Some(index);
        Ok(self.plan.absent.iter().any(is_there)
            || self.plan.devices.iter().any(other)
            || self.world.renamed != now.renamed)
    }

    /// Backends that get no connections any more begin to leave: those that somebody drained, and those that are not
    /// wanted any more. Those that are down stay, and what they have.
    fn leave(&mut self, desired: &Desired, plan: &Plan) {
        let stays = |(target, _): &(&Target, &Aim)| !self.world.drained.contains(target);
        let staying = self.plan.targets.iter().filter(stays);
        let staying: BTreeSet<BackendId> = staying.map(|(_, aim)| aim.backend).collect();
        let time = |group: &str| {
            let group = self.desired.group(group).or_else(|| desired.group(group));
            group.map_or(Group::DRAIN, |group| group.drain)
        };
        let mut times: BTreeMap<BackendId, Duration> = BTreeMap::new();
        for (_, number) in self.numbers.backends() {
            times.insert(BackendId(number), Group::DRAIN);
        }
        for (target, aim) in plan.targets.iter().chain(&self.plan.targets) {
            times.insert(aim.backend, time(&target.group));
        }
        times.retain(|backend, _| !staying.contains(backend));
        self.leaving.set(&times, Instant::now());
    }

    /// When [`end_leaving`](Keeper::end_leaving) has something to do next.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.leaving.due()
    }

    /// Ends what is left of connections at backends whose time is over.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn end_leaving(&mut self) -> Result<()> {
        let round = self.plan.config.timeouts.round;
        let (over, forgotten) = self.leaving.step(Instant::now(), round);
        self.generation.end_flows_of(&over)?;
        self.numbers.forget_backends(&forgotten);
        Ok(())
    }

    /// Backends that leave, and how long they have: nothing for those whose connections are being ended.
    pub fn leaving(&self) -> impl Iterator<Item = (BackendId, Option<Duration>)> + '_ {
        let now = Instant::now();
        self.leaving.backends(now)
    }

    /// Where the backend of that number is.
    #[must_use]
    pub fn address(&self, backend: BackendId) -> Option<SocketAddr> {
        let mut all = self.numbers.backends();
        all.find(|(_, number)| *number == backend.0)
            .map(|(address, _)| address)
    }

    /// The kernel does nothing of it any more: programs, maps and flows are gone, also those that would have stayed.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn detach(self) -> Result<()> {
        // Maps are held by what made them.
        drop(self.generation);
        Ok(self.attached.detach()?)
    }

    /// From now on programs tell of these kinds, and of no others.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn want(&self, kinds: &[Kind]) -> Result<()> {
        Ok(self.generation.want(kinds)?)
    }

    /// What is wanted.
    #[must_use]
    pub fn desired(&self) -> &Arc<Desired> {
        &self.desired
    }

    /// What was known of the world when the present generation was made.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// What is done.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The generation that decides packets.
    #[must_use]
    pub fn generation(&self) -> &Generation {
        &self.generation
    }

    /// Its programs on devices.
    #[must_use]
    pub fn attached(&self) -> &Attached {
        &self.attached
    }

    /// How many generations there have been.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.turns
    }
}

/// The numbers that flows of an earlier process have.
fn adopted(pins: &Pins) -> Result<Numbers> {
    let adopted = pins.adopted()?;
    let mut listeners = BTreeMap::new();
    for listener in adopted.listeners {
        let place = Place {
            device: listener.device,
            address: listener.address,
            protocol: listener.protocol,
        };
        // One that listens on several devices is known by the first.
        let known = listeners.entry(listener.number).or_insert(place);
        if place.device < known.device {
            *known = place;
        }
    }
    let listeners = listeners.into_iter().map(|(number, place)| (place, number));
    let backends = adopted.backends.into_iter();
    Ok(Numbers::of(
        listeners,
        backends.map(|(number, address)| (address, number)),
    ))
}
