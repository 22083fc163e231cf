//! Which program is where, and how that becomes what is wanted, without a gap.

use crate::error::{Error, Result};
use crate::look::Look;
use crate::pins::{Pins, is_gone, list, name, unlink};
use crate::programs::{Hook, Usual};
use bpfsmith_net::IfIndex;
use bpfsmith_prog::target::{Tcx, Xdp};
use bpfsmith_prog::{Link, Prog, Way};
use bpfsmith_sys::info::Place;
use bpfsmith_uapi::{AttachType, Errno};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A place for a program on a device, in the order in which they are attached: first what answers, last what begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Slot {
    /// What answers of backends on this machine pass on their way out.
    Out,
    Tcx,
    Native,
    Generic,
}

impl Slot {
    const ALL: [Slot; 4] = [
        Slot::Out,
        Slot::Tcx,
        Slot::Native,
        Slot::Generic,
    ];

    pub(crate) const fn hook(self) -> Hook {
        match self {
            Slot::Out => Hook::TcxEgress,
            Slot::Tcx => Hook::Tcx,
            Slot::Native | Slot::Generic => Hook::Xdp,
        }
    }

    /// As a part of the names of links.
    const fn name(self) -> &'static str {
        match self {
            Slot::Out => "out",
            Slot::Tcx => "tcx",
            Slot::Native => "native",
            Slot::Generic => "generic",
        }
    }

    const fn attach_type(self) -> AttachType {
        match self {
            Slot::Out => AttachType::TCX_EGRESS,
            Slot::Tcx => AttachType::TCX_INGRESS,
            Slot::Native | Slot::Generic => AttachType::XDP,
        }
    }

    fn attach(self, device: IfIndex, prog: &Prog) -> Result<Link> {
        Ok(match self {
            Slot::Out => prog.attach(&Tcx::egress(device))?,
            Slot::Tcx => prog.attach(&Tcx::ingress(device))?,
            Slot::Native => prog.attach(&Xdp::on(device).native())?,
            Slot::Generic => prog.attach(&Xdp::on(device).generic())?,
        })
    }
}

/// A program that is to be on a device.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) device: IfIndex,
    pub(crate) slot: Slot,
    pub(crate) usual: Usual,
    /// None: the one that an earlier process left there, which cannot be opened.
    pub(crate) prog: Option<Arc<Prog>>,
}

/// A program on a device.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) wanted: Wanted,
    link: Link,
}

impl Held {
    fn is_at(&self, wanted: &Wanted) -> bool {
        (self.wanted.device, self.wanted.slot) == (wanted.device, wanted.slot)
    }

    /// The number of its program; none if its device is gone, or the kernel has no link for it.
    fn program(&self) -> Result<Option<u32>> {
        if self.link.way() == Way::Attachment {
            return Ok(None);
        }
        let info = self.link.info()?;
        Ok((info.place.device() != Some(0)).then_some(info.prog))
    }

    /// Whether its device is gone, also if another one has got its number.
    fn is_dead(&self) -> Result<bool> {
        Ok(self.link.way() == Way::Link && self.program()?.is_none())
    }

    /// Puts a program in the place of its own.
    fn put(&mut self, wanted: &Wanted) -> Result<()> {
        match (&self.wanted.prog, &wanted.prog) {
            (Some(old), Some(new)) if Arc::ptr_eq(old, new) => {}
            (None, None) => {}
            (_, Some(new)) => self.link.update(new)?,
            (Some(_), None) => {
                let device = wanted.device;
                return Err(Error::NoWayBack { device });
            }
        }
        self.wanted = wanted.clone();
        Ok(())
    }
}

/// A place of a link that a device has.
trait Device {
    fn device(&self) -> Option<u32>;
}

impl Device for Place {
    fn device(&self) -> Option<u32> {
        match self {
            Place::Xdp { ifindex } | Place::Device { ifindex, .. } => Some(*ifindex),
            _ => None,
        }
    }
}

/// All programs on devices, in the order of [`Slot`].
#[derive(Debug, Default)]
pub(crate) struct Links {
    held: Vec<Held>,
    pins: Option<Pins>,
}

impl Links {
    /// Those that an earlier process left. Links of devices that are gone lose their names.
    pub(crate) fn adopt(pins: &Pins, look: &Look<'_>) -> Result<Links> {
        let mut links = Links {
            held: Vec::new(),
            pins: Some(pins.clone()),
        };
        for path in list(&pins.links())? {
            if let Some(held) = adopt(path, look)? {
                links.held.push(held);
            }
        }
        links.sort();
        Ok(links)
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Wanted> {
        self.held.iter().map(|held| &held.wanted)
    }

    /// The same, to come back to.
    pub(crate) fn state(&self) -> Vec<Wanted> {
        self.iter().cloned().collect()
    }

    /// The numbers of their programs.
    pub(crate) fn programs(&self) -> Result<BTreeSet<u32>> {
        let programs = self.held.iter().map(Held::program);
        programs.filter_map(Result::transpose).collect()
    }

    /// The devices that went away under them.
    pub(crate) fn dead(&self) -> Result<BTreeSet<IfIndex>> {
        let mut dead = BTreeSet::new();
        for held in &self.held {
            if held.is_dead()? {
                dead.insert(held.wanted.device);
            }
        }
        Ok(dead)
    }

    /// Makes them what is wanted, which is in the order of [`Slot`]: new places are taken, then programs change where
    /// there are some, then places are given up. Devices that are found to be gone are noted, and left alone.
    ///
    /// After an error, some are as they are to be, and some as they were.
    pub(crate) fn settle(&mut self, wanted: &[Wanted], gone: &mut BTreeSet<IfIndex>) -> Result<()> {
        let mut later = Vec::new();
        for it in wanted.iter().filter(|it| !gone.contains(&it.device)) {
            let is_hook = |held: &&Held| {
                held.wanted.device == it.device && held.wanted.slot.hook() == it.slot.hook()
            };
            match self.held.iter().find(is_hook) {
                None => self.attach(it)?,
                Some(held) if held.is_at(it) => {}
                // A device runs XDP programs in one way at a time.
                Some(_) => later.push(it),
            }
        }
        for held in &mut self.held {
            let Some(it) = wanted.iter().find(|it| held.is_at(it)) else {
                continue;
            };
            if gone.contains(&it.device) {
                continue;
            }
            match held.put(it) {
                Err(error) if is_gone(error.errno()) => {
                    gone.insert(it.device);
                }
                put => put?,
            }
        }
        let is_wanted = |held: &Held| wanted.iter().any(|it| held.is_at(it));
        self.remove(|held| !is_wanted(held))?;
        for it in later {
            self.attach(it)?;
        }
        self.sort();
        Ok(())
    }

    /// Gives up devices, what begins first.
    pub(crate) fn give_up(&mut self, devices: &BTreeSet<IfIndex>) -> Result<()> {
        self.remove(|held| devices.contains(&held.wanted.device))
    }

    /// Takes all programs from their devices, whoever else holds them.
    pub(crate) fn detach(&mut self) -> Result<()> {
        self.remove(|_| true)
    }

    /// Lets go of all, what begins first. What has a name stays.
    pub(crate) fn drop_all(&mut self) {
        while self.held.pop().is_some() {}
    }

    fn sort(&mut self) {
        self.held.sort_by_key(|held| held.wanted.slot);
    }

    fn attach(&mut self, wanted: &Wanted) -> Result<()> {
        let device = wanted.device;
        let prog = wanted.prog.as_ref().ok_or(Error::NoWayBack { device })?;
        let link = wanted.slot.attach(device, prog)?;
        if let Some(path) = self.path(wanted) {
            // Of a device that is gone, whose number this one has got.
            unlink(&path)?;
            link.pin(&path)?;
        }
        let wanted = wanted.clone();
        self.held.push(Held { wanted, link });
        Ok(())
    }

    fn remove(&mut self, goes: impl Fn(&Held) -> bool) -> Result<()> {
        for at in (0..self.held.len()).rev() {
            if goes(&self.held[at]) {
                if let Some(path) = self.path(&self.held[at].wanted) {
                    unlink(&path)?;
                }
                let link = self.held.remove(at).link;
                // A name that is taken away may hold it for a moment, as others may.
                let detached = match link.way() {
                    Way::Link => link.force_detach(),
                    Way::Attachment => link.detach(),
                };
                match detached {
                    Err(error) if is_gone(error.errno()) => {}
                    detached => detached?,
                }
            }
        }
        Ok(())
    }

    fn path(&self, wanted: &Wanted) -> Option<PathBuf> {
        let name = format!("{}-{}", wanted.device.0, wanted.slot.name());
        Some(self.pins.as_ref()?.links().join(name))
    }
}

/// A link by its name, if its device is still there.
fn adopt(path: PathBuf, look: &Look<'_>) -> Result<Option<Held>> {
    let link = match Link::open_pin(&path) {
        Err(error) if error.errno() == Some(Errno::EINVAL) => return Err(Error::Foreign { path }),
        link => link?,
    };
    let info = link.info()?;
    let (device, slot) = match (info.place.device(), place(&path)) {
        (Some(0), Some(_)) => {
            unlink(&path)?;
            return Ok(None);
        }
        (Some(found), Some((device, slot)))
            if found == device.0 && attach_type(&info.place) == slot.attach_type() =>
        {
            (device, slot)
        }
        _ => return Err(Error::Foreign { path }),
    };
    // Devices of other namespaces may have the same number.
    let is_here = match slot {
        Slot::Out => Tcx::egress(device).query().map(|it| it.links),
        Slot::Tcx => Tcx::ingress(device).query().map(|it| it.links),
        Slot::Native | Slot::Generic => Ok(Vec::new()),
    };
    let is_here = match (is_here, slot) {
        (Ok(_), Slot::Native | Slot::Generic) => {
            look.xdp_program(device).map(|it| it == Some(info.prog))
        }
        (Ok(links), _) => Ok(links.contains(&info.id)),
        (Err(error), _) => Err(error.into()),
    };
    match is_here {
        Ok(true) => {}
        Ok(false) => return Err(Error::Elsewhere { path }),
        Err(error) if is_gone(error.errno()) => return Err(Error::Elsewhere { path }),
        Err(error) => return Err(error),
    }
    let prog = match Prog::open_id(info.prog, slot.attach_type()) {
        Ok(prog) => Some(Arc::new(prog)),
        // Without it there is no way back, which is said if one is needed.
        Err(error) if error.errno() == Some(Errno::EPERM) => None,
        Err(error) => return Err(error.into()),
    };
    let wanted = Wanted {
        device,
        slot,
        usual: Usual::Device,
        prog,
    };
    Ok(Some(Held { wanted, link }))
}

/// What a link's name says.
fn place(path: &Path) -> Option<(IfIndex, Slot)> {
    let (device, slot) = name(path)?.split_once('-')?;
    let slot = Slot::ALL.into_iter().find(|it| it.name() == slot)?;
    Some((IfIndex(device.parse().ok()?), slot))
}

fn attach_type(place: &Place) -> AttachType {
    match place {
        Place::Device { attach, .. } => *attach,
        _ => AttachType::XDP,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_links_say_where_they_are() {
        for slot in Slot::ALL {
            let path = format!("/x/7-{}", slot.name());
            assert_eq!(place(Path::new(&path)), Some((IfIndex(7), slot)));
        }
        for other in [
            "7", "7-", "-tcx", "x-tcx", "7-tcx-", "7-all",
        ] {
            assert_eq!(place(Path::new(other)), None, "{other}");
        }
    }

    /// What answers comes first.
    #[test]
    fn slots_are_in_the_order_in_which_they_are_taken() {
        assert!(Slot::ALL.is_sorted());
        assert_eq!(Slot::ALL[0].hook(), Hook::TcxEgress);
    }
}
