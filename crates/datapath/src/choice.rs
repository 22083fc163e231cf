//! Which programs a device gets, and why. Decided without a kernel, by what devices are.

mod why;

pub use why::{Note, Obstacle, Why};

use crate::config::Family;
use crate::look::{Cable, FarEnd, Interface, Medium};
use crate::programs::Usual;
use bpfsmith_net::{IfIndex, XdpFeatures, xdp_act};
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

/// What somebody wants on a device, whatever it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Wish {
    /// What suits it best.
    #[default]
    Best,
    /// A program behind the driver.
    Tcx,
    /// The same, and what leaves by the device can be watched there: it never goes straight into the far
    /// end.
    Visible,
    /// A program in the driver, and one behind it.
    Native,
    /// An XDP program behind the driver, and another behind that: for tests, where the driver has no XDP.
    Generic,
}

/// Where the XDP program of a device runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Xdp {
    /// In the driver.
    Native,
    /// Behind the driver.
    Generic,
}

/// What a device gets. A TCX program is always there: an XDP program leaves to it packets whose next
/// hop the kernel has to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The device.
    pub device: IfIndex,
    /// Its name.
    pub name: String,
    /// Its XDP program.
    pub xdp: Option<Xdp>,
    /// How most packets that its TCX program receives go out again.
    pub usual: Usual,
    /// The same of its XDP program.
    pub xdp_usual: Usual,
    /// Whether packets may go straight into the far end of it.
    pub goes_to_peer: bool,
    /// Why it has an XDP program, or none.
    pub why: Why,
    /// What could not be seen, or may surprise.
    pub notes: Vec<Note>,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hooks = match self.xdp {
            Some(Xdp::Native) => "native XDP, TCX",
            Some(Xdp::Generic) => "generic XDP, TCX",
            None => "TCX",
        };
        write!(f, "{}: {hooks}: {}", self.name, self.why)?;
        for note in &self.notes {
            write!(f, "; {note}")?;
        }
        Ok(())
    }
}

/// The longest packet that every driver with XDP has room for in one piece: a page, without what the
/// kernel needs of it.
pub const LONGEST: u32 = 3498;

/// What is asked for on some devices.
#[derive(Clone, Debug, Default)]
pub struct Need {
    /// The families of packets.
    pub families: BTreeSet<Family>,
    /// Backends that are on this machine.
    pub own_backends: Vec<OwnBackend>,
}

/// A backend that is on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnBackend {
    /// Its address.
    pub address: IpAddr,
    /// Whether some packets get there with a source of the proxy's own.
    pub has_own_source: bool,
}

/// What devices get, in their order. Packets may go from each to each.
///
/// # Errors
/// When a device cannot have what is wished for it, or cannot be used at all.
pub fn choose(devices: &[(Interface, Wish)], need: &Need) -> Result<Vec<Choice>, Obstacle> {
    let mut seen = BTreeSet::new();
    if let Some((twice, _)) = devices.iter().find(|(it, _)| !seen.insert(it.index)) {
        return Err(Obstacle::Twice {
            name: twice.name.clone(),
        });
    }
    devices
        .iter()
        .map(|(device, wish)| {
            usable(device, need)?;
            let (xdp, why, mut notes) = xdp(device, *wish, devices)?;
            if !need.own_backends.is_empty() && device.rp_filter == 1 {
                notes.push(Note::StrictSources);
            }
            notes.extend(device.tcx_programs.iter().cloned().map(Note::Before));
            Ok(Choice {
                device: device.index,
                name: device.name.clone(),
                xdp,
                usual: usual(device, devices),
                xdp_usual: match devices.len() {
                    1 if transmits(device, xdp) => Usual::Back,
                    _ => Usual::Device,
                },
                goes_to_peer: goes_to_peer(device, *wish),
                why,
                notes,
            })
        })
        .collect()
}

/// Whether a device can be used at all.
pub(crate) fn usable(device: &Interface, need: &Need) -> Result<(), Obstacle> {
    let name = || device.name.clone();
    if !device.has_ethernet {
        return Err(Obstacle::NoEthernet { name: name() });
    }
    if let Some(&family) = need.families.difference(&device.forwards).next() {
        return Err(Obstacle::NotForwarding {
            name: name(),
            family,
        });
    }
    for backend in &need.own_backends {
        let address = backend.address;
        match address {
            _ if backend.has_own_source => return Err(Obstacle::OwnSource { address }),
            IpAddr::V4(ip) if ip.is_loopback() && !device.routes_localnet => {
                return Err(Obstacle::NotRoutingLocalnet {
                    name: name(),
                    address,
                });
            }
            IpAddr::V6(ip) if ip.is_loopback() => return Err(Obstacle::Loopback { address }),
            _ => {}
        }
    }
    Ok(())
}

type Decision = (Option<Xdp>, Why, Vec<Note>);

fn xdp(
    device: &Interface,
    wish: Wish,
    devices: &[(Interface, Wish)],
) -> Result<Decision, Obstacle> {
    let none = |why| Ok((None, why, Vec::new()));
    match wish {
        Wish::Tcx | Wish::Visible => none(Why::Wished),
        Wish::Generic => {
            let notes = unspoilt(device)?;
            Ok((Some(Xdp::Generic), Why::Wished, notes))
        }
        Wish::Native => {
            let notes = native(device, devices)?;
            Ok((Some(Xdp::Native), Why::Wished, notes))
        }
        Wish::Best => {
            let driver = match &device.medium {
                Medium::Loopback => return none(Why::Loopback),
                Medium::Virtual(kind) => return none(Why::Virtual { kind: kind.clone() }),
                Medium::Cable(Cable { kind, .. }) => {
                    return none(Why::Virtual { kind: kind.clone() });
                }
                Medium::Paravirtual(driver) => {
                    let driver = driver.name.clone().unwrap_or_else(|| driver.bus.clone());
                    return none(Why::Paravirtual { driver });
                }
                Medium::Card(driver) => driver.name.clone().unwrap_or_else(|| driver.bus.clone()),
            };
            if device.xdp.is_none() {
                return none(Why::Untold);
            }
            match native(device, devices) {
                Ok(notes) => Ok((Some(Xdp::Native), Why::Driver { driver }, notes)),
                Err(obstacle) => none(match obstacle {
                    Obstacle::Long { mtu, .. } => Why::Long { mtu },
                    Obstacle::Target { target: name, .. } => Why::Target { name },
                    Obstacle::Occupied { program, .. } => Why::Occupied { program },
                    _ => Why::NoNative { driver },
                }),
            }
        }
    }
}

/// What speaks against XDP programs on a device, wherever they run: other programs, and checksums that
/// they would take for finished ones.
fn unspoilt(device: &Interface) -> Result<Vec<Note>, Obstacle> {
    let name = || device.name.clone();
    if let Some(program) = device.xdp_program {
        return Err(Obstacle::Occupied {
            name: name(),
            program,
        });
    }
    match &device.medium {
        Medium::Cable(Cable { end: None, .. }) => Ok(vec![Note::FarEndUnseen]),
        Medium::Cable(Cable { end: Some(end), .. }) if end.leaves_sums => {
            Err(Obstacle::PartialSums {
                name: name(),
                far: end.name.clone(),
            })
        }
        _ => Ok(Vec::new()),
    }
}

/// What speaks against a program in the driver of `device`, which may send to all of `devices`.
fn native(device: &Interface, devices: &[(Interface, Wish)]) -> Result<Vec<Note>, Obstacle> {
    let name = || device.name.clone();
    let mut notes = unspoilt(device)?;
    let can = match (device.xdp, &device.medium) {
        (Some(features), _) => runs_programs(features),
        (None, Medium::Cable(cable)) => cable.kind == "veth",
        (None, Medium::Card(_) | Medium::Paravirtual(_)) => true,
        (None, Medium::Virtual(kind)) => kind == "tun",
        (None, Medium::Loopback) => false,
    };
    if !can {
        return Err(Obstacle::NoNative { name: name() });
    }
    for (target, wish) in devices {
        notes.extend(takes(device, target, *wish)?);
    }
    let long = |bit: u64, device: &Interface| {
        device.mtu > LONGEST && device.xdp.is_some_and(|features| features.0 & bit == 0)
    };
    if long(xdp_act::NETDEV_XDP_ACT_RX_SG, device)
        || device.mtu > LONGEST
            && devices
                .iter()
                .any(|(target, _)| long(xdp_act::NETDEV_XDP_ACT_NDO_XMIT_SG, target))
    {
        return Err(Obstacle::Long {
            name: name(),
            mtu: device.mtu,
        });
    }
    Ok(notes)
}

const fn runs_programs(features: XdpFeatures) -> bool {
    const NEEDED: u64 = xdp_act::NETDEV_XDP_ACT_BASIC | xdp_act::NETDEV_XDP_ACT_REDIRECT;
    features.0 & NEEDED == NEEDED
}

/// Whether `target` takes what a program on `device` redirects to it.
fn takes(device: &Interface, target: &Interface, wish: Wish) -> Result<Option<Note>, Obstacle> {
    let refuse = |hint: String| {
        Err(Obstacle::Target {
            name: device.name.clone(),
            target: target.name.clone(),
            hint,
        })
    };
    let far = match &target.medium {
        Medium::Cable(Cable { end: Some(end), .. }) => Some(end),
        _ => None,
    };
    // Some drivers of cards take frames only after they got a program.
    let gets_one = matches!(target.medium, Medium::Card(_) | Medium::Paravirtual(_))
        && matches!(
            (wish, &target.medium),
            (Wish::Native, _) | (Wish::Best, Medium::Card(_))
        );
    match (target.xdp, far) {
        (Some(features), _) if features.takes_redirected() => Ok(None),
        (Some(features), _) if gets_one && runs_programs(features) => Ok(None),
        (
            None,
            Some(FarEnd {
                takes_redirected, ..
            }),
        ) if *takes_redirected => Ok(None),
        (_, Some(FarEnd { name, .. })) => refuse(format!(
            "in the namespace of {name}: ethtool -K {name} gro on"
        )),
        (Some(_), None) => match &target.medium {
            Medium::Cable(_) => refuse("at its far end: ethtool -K NAME gro on".to_owned()),
            _ if target.index == device.index => {
                refuse("its driver does not send what XDP programs redirect".to_owned())
            }
            _ => refuse("wish for TCX".to_owned()),
        },
        (None, None) => Ok(Some(Note::TargetUntold {
            name: target.name.clone(),
        })),
    }
}

/// Packets may go straight into the far end if that is in another namespace, and nobody wanted to see
/// them before.
fn goes_to_peer(device: &Interface, wish: Wish) -> bool {
    match &device.medium {
        Medium::Cable(cable) if wish != Wish::Visible => {
            cable.leaves_namespace
                && !device.watches_output
                && !cable.end.as_ref().is_some_and(|end| end.has_program)
        }
        _ => false,
    }
}

/// Whether what a program sends back by the device arrives: at the far end of a cable only another
/// program receives it.
fn transmits(device: &Interface, xdp: Option<Xdp>) -> bool {
    match &device.medium {
        Medium::Cable(cable) => {
            xdp == Some(Xdp::Generic) || cable.end.as_ref().is_some_and(|end| end.has_native)
        }
        _ => true,
    }
}

/// Packets that come by a device leave by the others, or else by the same.
fn usual(device: &Interface, devices: &[(Interface, Wish)]) -> Usual {
    let is_other = |it: &&(Interface, Wish)| it.0.index != device.index || devices.len() == 1;
    let all = devices.iter().filter(is_other);
    let peers = all.clone().filter(|it| goes_to_peer(&it.0, it.1)).count();
    match 2 * peers >= all.count().max(1) {
        true => Usual::Peer,
        false => Usual::Device,
    }
}

#[cfg(test)]
mod tests;
