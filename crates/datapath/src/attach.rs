//! Programs on devices.

use crate::choice::{Choice, Need, Note, Obstacle, OwnBackend, Wish, Xdp, choose, usable};
use crate::config::{Family, Mode};
use crate::error::{Error, Result};
use crate::generation::{Generation, start};
use crate::layout::way;
use crate::links::{Links, Slot, Wanted};
use crate::look::Look;
use crate::pins::{Coming, Pins, is_gone};
use crate::programs::{Hook, Usual};
use crate::reach;
use crate::shape::{DEVICES, SWEEPER};
use bpfsmith_maps::{Handle, Map};
use bpfsmith_net::{IfIndex, NetNs};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The programs of a generation on devices. Dropping it detaches them.
///
/// ```no_run
/// # fn main() -> Result<(), bpfsmith_datapath::error::Error> {
/// use bpfsmith_net::IfIndex;
/// use bpfsmith_datapath::attach::Attached;
/// use bpfsmith_datapath::choice::Wish;
/// use bpfsmith_datapath::config::Config;
/// use bpfsmith_datapath::generation::Generation;
/// use bpfsmith_datapath::look::Look;
///
/// let first = Generation::first(&Config::default())?;
/// let devices = [(IfIndex(2), Wish::Best), (IfIndex(3), Wish::Best)];
/// let mut attached = Attached::new(&Look::here()?, &first, &devices)?;
/// for choice in attached.choices() {
///     println!("{choice}");
/// }
/// for note in attached.notes() {
///     println!("{note}");
/// }
/// for (hook, usual) in attached.on(IfIndex(2)) {
///     println!("{}", first.program(hook, usual)?.listing());
/// }
/// let next = first.next(&Config::default())?;
/// for lost in attached.replace(&next)? {
///     println!("{} is gone", lost.name);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Attached {
    /// The namespace of the devices.
    ns: NetNs,
    choices: Vec<Choice>,
    notes: Vec<Note>,
    links: Links,
    /// Devices whose packets may go straight into their far ends.
    peers: Map<u32, u32>,
    /// Those of them that this wrote there.
    met: BTreeSet<u32>,
    /// What forgets idle flows, as long as somebody holds it.
    sweeper: Handle,
    /// Where programs have names, if they outlive this.
    pins: Option<Pins>,
}

/// What devices are to get.
struct Plan {
    choices: Vec<Choice>,
    chosen: Chosen,
    need: Need,
    /// Devices that are not there any more.
    gone: BTreeSet<IfIndex>,
}

/// Whether what devices get was chosen now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chosen {
    Now,
    Before,
}

impl Attached {
    /// Attaches the programs of a generation to the devices that packets come by: those of clients and
    /// those of backends. Other devices are not needed, unless they are on the way between the two.
    /// It is called in the namespace where `look` looks. From then on the kernel forgets idle flows.
    ///
    /// A generation that is [kept](Generation::kept) outlives this and its process. If an earlier process left programs
    /// on devices, they become those of this generation as in [`replace_on`](Attached::replace_on): no packet is lost.
    ///
    /// # Errors
    /// When there is an [`Obstacle`], or the kernel refuses; then no program stays but those that were there. To bring
    /// back those of an earlier process takes `CAP_SYS_ADMIN`: [`Error::NoWayBack`].
    pub fn new(
        look: &Look<'_>,
        generation: &Generation,
        devices: &[(IfIndex, Wish)],
    ) -> Result<Attached> {
        let pins = generation.pins().cloned();
        let links = match &pins {
            Some(pins) => Links::adopt(pins, look)?,
            None => Links::default(),
        };
        let mut attached = Attached {
            ns: NetNs::current()?,
            choices: Vec::new(),
            notes: Vec::new(),
            links,
            peers: generation.maps().open(&DEVICES)?,
            met: BTreeSet::new(),
            sweeper: generation.maps().handle(SWEEPER.shape().name)?,
            pins,
        };
        let plan = attached.plan(look, generation, devices)?;
        attached.change(look, generation, plan)?;
        Ok(attached)
    }

    /// What each device got, and why.
    #[must_use]
    pub fn choices(&self) -> &[Choice] {
        &self.choices
    }

    /// What is wrong with the ways to backends, as routes were when the present generation came.
    #[must_use]
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// The programs on a device. [`Generation::program`] has their instructions, if it is asked of the
    /// generation that is attached.
    pub fn on(&self, device: IfIndex) -> impl Iterator<Item = (Hook, Usual)> + '_ {
        let held = self.links.iter().rev();
        let held = held.filter(move |held| held.device == device);
        held.map(|held| (held.slot.hook(), held.usual))
    }

    /// Puts the programs of another generation in the place of these, on the same devices. A packet is decided by one
    /// of the two: programs of both share the flows. Devices that are gone since then are given up, and
    /// returned.
    ///
    /// # Errors
    /// When there is an [`Obstacle`], or the generation shares no flows with these, and nothing has changed then.
    /// When the kernel refuses a program: then those that were replaced before come back.
    pub fn replace(&mut self, generation: &Generation) -> Result<Vec<Choice>> {
        self.expect_kin(generation)?;
        let ns = std::mem::replace(&mut self.ns, NetNs::current()?);
        let result = ns.run(|| {
            let look = Look::here()?;
            let plan = self.plan_again(&look, generation)?;
            self.change(&look, generation, plan)
        });
        self.ns = ns;
        result?
    }

    /// The same, on other devices: those that are new get programs first, then programs of the others change, and at last
    /// those that are not listed any more lose theirs. What each device gets is chosen anew. It is called where
    /// [`new`](Attached::new) was called. With the present generation, only devices change.
    ///
    /// # Errors
    /// As for [`replace`](Attached::replace); programs are then where they were before.
    pub fn replace_on(
        &mut self,
        look: &Look<'_>,
        generation: &Generation,
        devices: &[(IfIndex, Wish)],
    ) -> Result<Vec<Choice>> {
        self.expect_kin(generation)?;
        if self.ns.id()? != NetNs::current()?.id()? {
            return Err(Error::OtherNamespace);
        }
        let plan = self.plan(look, generation, devices)?;
        self.change(look, generation, plan)
    }

    /// Takes the programs from their devices, and if they were to outlive this, all names: [`Pins::detach`]. Then no
    /// flow is known any more, as soon as the generation is dropped.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn detach(mut self) -> Result<()> {
        self.links.detach()?;
        match &self.pins {
            Some(pins) => pins.detach().map(drop),
            None => Ok(()),
        }
    }

    fn expect_kin(&self, generation: &Generation) -> Result<()> {
        let sweeper = generation.maps().handle(SWEEPER.shape().name)?;
        match sweeper.info()?.id == self.sweeper.info()?.id {
            true => Ok(()),
            false => Err(Error::Stranger),
        }
    }

    /// What these devices are to get.
    fn plan(
        &mut self,
        look: &Look<'_>,
        generation: &Generation,
        devices: &[(IfIndex, Wish)],
    ) -> Result<Plan> {
        // Others may have got their numbers.
        let dead = self.links.dead()?;
        self.links.give_up(&dead)?;
        self.choices.retain(|choice| !dead.contains(&choice.device));
        let own = self.links.programs()?;
        let mut seen = Vec::new();
        for (device, wish) in devices {
            seen.push((look.at_without(*device, &own)?, *wish));
        }
        let need = need(look, generation)?;
        Ok(Plan {
            choices: choose(&seen, &need)?,
            chosen: Chosen::Now,
            need,
            gone: BTreeSet::new(),
        })
    }

    /// The same devices get what they have, but those that are gone.
    fn plan_again(&self, look: &Look<'_>, generation: &Generation) -> Result<Plan> {
        let need = need(look, generation)?;
        let mut gone = self.links.dead()?;
        for choice in &self.choices {
            match look.at(choice.device) {
                Ok(_) if gone.contains(&choice.device) => {}
                Ok(device) => usable(&device, &need)?,
                Err(error) if is_gone(error.errno()) => {
                    gone.insert(choice.device);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Plan {
            choices: self.choices.clone(),
            chosen: Chosen::Before,
            need,
            gone,
        })
    }

    /// Makes it so, or leaves it as it was. Returns the devices that are gone.
    fn change(
        &mut self,
        look: &Look<'_>,
        generation: &Generation,
        mut plan: Plan,
    ) -> Result<Vec<Choice>> {
        // Flows of backends that were this machine's may still live.
        let has_out = self.links.iter().any(|held| held.slot == Slot::Out);
        let wanted = places(&plan.choices, has_out || !plan.need.own_backends.is_empty());
        let wanted = load(generation, wanted)?;
        let sweep = generation.load_sweep()?;
        let stay = plan.choices.iter().map(|it| it.device);
        let stay = stay.filter(|device| !plan.gone.contains(device)).collect();
        let notes = reach::notes(look, generation, &stay)?;
        let before = (self.links.state(), self.met()?);
        let coming = match &self.pins {
            Some(pins) => Some(pins.announce(generation)?),
            None => None,
        };
        let result = self
            .meet(&plan.choices)
            .and_then(|()| self.links.settle(&wanted, &mut plan.gone))
            .and_then(|()| self.verify(look, &plan))
            // What was forgotten by other rules would not come back: this is last.
            .and_then(|()| start(&sweep));
        if let Err(error) = result {
            return Err(self.undo(error, &before, &mut plan.gone, coming));
        }
        self.notes = notes;
        self.choices = plan.choices;
        self.links.give_up(&plan.gone)?;
        let is_gone = |choice: &mut Choice| plan.gone.contains(&choice.device);
        let lost: Vec<Choice> = self.choices.extract_if(.., is_gone).collect();
        self.forget(&peers(&self.choices))?;
        if let Some(coming) = coming {
            coming.arrived();
        }
        Ok(lost)
    }

    /// Everything is as it was before; the error, and what else went wrong.
    fn undo(
        &mut self,
        cause: Error,
        (links, peers): &(Vec<Wanted>, BTreeSet<u32>),
        gone: &mut BTreeSet<IfIndex>,
        coming: Option<Coming>,
    ) -> Error {
        let undone = self.links.settle(links, gone);
        let undone = undone.and_then(|()| self.forget(peers));
        match (undone, coming) {
            (Ok(()), Some(coming)) => coming.undo(cause),
            // Programs may still need what has a name now.
            (undone, _) => cause.unless_undone(undone),
        }
    }

    /// Packets may go into the far ends of these devices.
    fn meet(&mut self, choices: &[Choice]) -> Result<()> {
        for device in peers(choices) {
            self.peers.update(&device, &way::PEER)?;
            self.met.insert(device);
        }
        Ok(())
    }

    /// Packets do not go into the far ends of other devices any more: others may get their numbers.
    fn forget(&mut self, but: &BTreeSet<u32>) -> Result<()> {
        for device in self.met()?.difference(but) {
            self.peers.delete(device)?;
        }
        self.met.clone_from(but);
        Ok(())
    }

    /// The devices into whose far ends packets may go: of this, or if it is kept, of whoever had it.
    fn met(&self) -> Result<BTreeSet<u32>> {
        if self.pins.is_none() {
            return Ok(self.met.clone());
        }
        let all: bpfsmith_maps::Result<BTreeSet<u32>> = self.peers.keys().collect();
        Ok(all?)
    }

    /// Some drivers say only now whether they take what XDP programs redirect.
    fn verify(&self, look: &Look<'_>, plan: &Plan) -> Result<()> {
        let native =
            |choice: &&Choice| choice.xdp == Some(Xdp::Native) && plan.chosen == Chosen::Now;
        let Some(from) = plan.choices.iter().find(native) else {
            return Ok(());
        };
        let targets = plan.choices.iter();
        for target in targets.filter(|it| !plan.gone.contains(&it.device)) {
            let features = look.at(target.device)?.xdp;
            if features.is_some_and(|features| !features.takes_redirected()) {
                return Err(Error::Obstacle(Obstacle::Target {
                    name: from.name.clone(),
                    target: target.name.clone(),
                    hint: "wish for TCX".to_owned(),
                }));
            }
        }
        Ok(())
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.links.drop_all();
        if self.pins.is_none() {
            // There is nobody to tell of a failure.
            let _ = self.forget(&BTreeSet::new());
        }
    }
}

fn need(look: &Look<'_>, generation: &Generation) -> Result<Need> {
    let families = [Family::V4, Family::V6];
    let shape = generation.shape();
    let mut own_backends = Vec::new();
    for (address, modes) in generation.backends() {
        if look.is_own(*address)? {
            own_backends.push(OwnBackend {
                address: *address,
                has_own_source: modes.contains(&Mode::FullNat),
            });
        }
    }
    Ok(Need {
        families: families.into_iter().filter(|it| shape.has(*it)).collect(),
        own_backends,
    })
}

/// Devices into whose far ends packets may go.
fn peers(choices: &[Choice]) -> BTreeSet<u32> {
    let peers = choices.iter().filter(|it| it.goes_to_peer);
    peers.map(|it| it.device.0).collect()
}

/// The places of programs on devices, in the order in which they are taken.
fn places(choices: &[Choice], has_own_backends: bool) -> Vec<(IfIndex, Slot, Usual)> {
    let mut places = Vec::new();
    if has_own_backends {
        places.extend(
            choices
                .iter()
                .map(|it| (it.device, Slot::Out, Usual::Device)),
        );
    }
    places.extend(choices.iter().map(|it| (it.device, Slot::Tcx, it.usual)));
    places.extend(choices.iter().filter_map(|it| {
        let slot = match it.xdp? {
            Xdp::Native => Slot::Native,
            Xdp::Generic => Slot::Generic,
        };
        Some((it.device, slot, it.xdp_usual))
    }));
    places
}

/// Programs of a generation for places, each loaded once.
fn load(generation: &Generation, places: Vec<(IfIndex, Slot, Usual)>) -> Result<Vec<Wanted>> {
    let mut programs = BTreeMap::new();
    let mut wanted = Vec::new();
    for (device, slot, usual) in places {
        let prog = match programs.entry((slot.hook(), usual)) {
            Entry::Occupied(loaded) => Arc::clone(loaded.get()),
            Entry::Vacant(place) => {
                let loaded = Arc::new(generation.load(slot.hook(), usual)?);
                Arc::clone(place.insert(loaded))
            }
        };
        wanted.push(Wanted {
            device,
            slot,
            usual,
            prog: Some(prog),
        });
    }
    Ok(wanted)
}
