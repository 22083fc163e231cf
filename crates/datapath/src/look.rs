//! What a device is: all that decides where programs see its packets.

use crate::config::Family;
use crate::error::{Error, Result};
use bpfsmith_net::{
    Ethtool, Feature, IfIndex, Link, NetDev, NetNs, Netlink, Peer, RouteKind, XdpAttached,
    XdpFeatures,
};
use bpfsmith_prog::Prog;
use bpfsmith_prog::target::Tcx;
use bpfsmith_uapi::{AttachType, Errno};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A device of this thread's network namespace, as far as packets care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its number.
    pub index: IfIndex,
    /// Its name.
    pub name: String,
    /// What packets come through.
    pub medium: Medium,
    /// Whether frames have an Ethernet header.
    pub has_ethernet: bool,
    /// The longest packet.
    pub mtu: u32,
    /// What it can do for XDP; nothing if the kernel does not tell (before Linux 6.3).
    pub xdp: Option<XdpFeatures>,
    /// The XDP program that is on it already.
    pub xdp_program: Option<u32>,
    /// The programs that see what comes by it before one that is attached now, in their order.
    pub tcx_programs: Vec<Present>,
    /// The families that it forwards.
    pub forwards: BTreeSet<Family>,
    /// How strictly sources are checked: `rp_filter`, the larger one of the device's and of all.
    pub rp_filter: u8,
    /// Whether packets from outside get to 127.0.0.0/8: `route_localnet`, of the device or of all.
    pub routes_localnet: bool,
    /// Whether something besides the driver looks at what it sends: a queueing discipline or programs.
    pub watches_output: bool,
}

/// A program that somebody attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// Its number.
    pub program: u32,
    /// Its name; the kernel tells it to those who have `CAP_SYS_ADMIN`.
    pub name: Option<String>,
}

/// What packets of a device come through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Medium {
    /// They never leave the machine.
    Loopback,
    /// The kernel itself, by its word for the kind of device: `bridge`, `tun`, `macvlan`, …
    Virtual(String),
    /// A pair of virtual devices.
    Cable(Cable),
    /// A device of a hypervisor, whose neighbours may be on the same machine.
    Paravirtual(Driver),
    /// A network card.
    Card(Driver),
}

/// Who drives a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Driver {
    /// The bus that it is plugged into.
    pub bus: String,
    /// The driver, if `/sys` is mounted.
    pub name: Option<String>,
}

/// A pair of virtual devices, seen from its near end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cable {
    /// The kernel's word: `veth` or `netkit`.
    pub kind: String,
    /// The number of the far end, in its own namespace.
    pub far: Option<IfIndex>,
    /// Whether that is another namespace than this one.
    pub leaves_namespace: bool,
    /// What the far end is, if its namespace was found and could be entered.
    pub end: Option<FarEnd>,
}

/// The far end of a cable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FarEnd {
    /// Its name.
    pub name: String,
    /// Whether it leaves the checksums of what it sends to the device.
    pub leaves_sums: bool,
    /// Whether it receives what XDP programs redirect to the near end.
    pub takes_redirected: bool,
    /// Whether an XDP program looks at what it receives.
    pub has_program: bool,
    /// Whether it does so in the driver.
    pub has_native: bool,
}

/// Where packets to an address go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The address is this machine's.
    Here,
    /// They leave by a device.
    By(IfIndex),
    /// No route leads there.
    Nowhere,
}

/// Whether programs see what comes by a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Watched {
    /// They do.
    Yes,
    /// They do not.
    No {
        /// What the device is called.
        name: String,
    },
}

/// Looks at devices, in the namespace of the thread that made it.
#[derive(Debug)]
pub struct Look<'a> {
    net: Netlink,
    ethtool: Option<Ethtool>,
    devices: Option<NetDev>,
    known: Vec<&'a NetNs>,
}

/// What hypervisors plug their devices into.
const PARAVIRTUAL: &[&str] = &["virtio", "vmbus", "xen"];

impl<'a> Look<'a> {
    /// At the devices of this thread's namespace.
    ///
    /// # Errors
    /// When the kernel has no netlink, or refuses it.
    pub fn here() -> Result<Look<'a>> {
        Ok(Look {
            net: Netlink::open()?,
            ethtool: found(Ethtool::open())?,
            devices: found(NetDev::open())?,
            known: Vec::new(),
        })
    }

    /// With a namespace where far ends of cables may be. Those that have a name or a process are found
    /// without.
    #[must_use]
    pub fn with(mut self, ns: &'a NetNs) -> Look<'a> {
        self.known.push(ns);
        self
    }

    /// What a device is.
    ///
    /// # Errors
    /// When there is none of that number, or the kernel does not tell of it.
    pub fn at(&self, index: IfIndex) -> Result<Interface> {
        self.at_without(index, &BTreeSet::new())
    }

    /// What a device would be without these programs.
    pub(crate) fn at_without(&self, index: IfIndex, own: &BTreeSet<u32>) -> Result<Interface> {
        let link = self.net.link_at(index)?;
        let before = on(&Tcx::ingress(index))?;
        let before = before
            .into_iter()
            .take_while(|program| !own.contains(program));
        let xdp = match &self.devices {
            Some(devices) => Some(devices.xdp_features(index)?),
            None => None,
        };
        Ok(Interface {
            index,
            has_ethernet: link.mac.is_some(),
            mtu: link.mtu,
            xdp,
            xdp_program: link.xdp.prog_id().filter(|program| !own.contains(program)),
            tcx_programs: before.map(present).collect(),
            forwards: forwards(&link.name)?,
            rp_filter: largest(&link.name, "rp_filter")?,
            routes_localnet: largest(&link.name, "route_localnet")? > 0,
            watches_output: watches_output(&link, own)?,
            medium: self.medium(&link)?,
            name: link.name,
        })
    }

    /// The XDP program on a device.
    pub(crate) fn xdp_program(&self, index: IfIndex) -> Result<Option<u32>> {
        Ok(self.net.link_at(index)?.xdp.prog_id())
    }

    /// Whether an address is this machine's own.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn is_own(&self, address: IpAddr) -> Result<bool> {
        Ok(self.way_to(address)? == Way::Here)
    }

    /// Where the routes of this machine lead packets to an address, whoever they come from.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn way_to(&self, address: IpAddr) -> Result<Way> {
        match self.net.route_to(address) {
            Ok(route) if route.kind == RouteKind::LOCAL => Ok(Way::Here),
            Ok(route) => Ok(route.dev.map_or(Way::Nowhere, Way::By)),
            // It refuses to tell of routes that do not lead anywhere.
            Err(error) if error.errno().is_some() => Ok(Way::Nowhere),
            Err(error) => Err(error.into()),
        }
    }

    /// The name of a device, and whether a program on one of those sees what comes by it: on itself, on a
    /// port of it if it is a bridge or bond, or on the device below it.
    ///
    /// # Errors
    /// When there is none of that number, or the kernel does not tell of it.
    pub(crate) fn watched(&self, index: IfIndex, programs: &BTreeSet<IfIndex>) -> Result<Watched> {
        let link = self.net.link_at(index)?;
        // What comes by one end of a cable leaves by the other.
        let is_cable = matches!(link.kind.as_deref(), Some("veth" | "netkit"));
        let below = link.peer.filter(|it| it.nsid.is_none() && !is_cable);
        let mut seen =
            programs.contains(&index) || below.is_some_and(|below| programs.contains(&below.index));
        for port in programs {
            seen |= self.net.link_at(*port)?.master == Some(index);
        }
        Ok(match seen {
            true => Watched::Yes,
            false => Watched::No { name: link.name },
        })
    }

    fn medium(&self, link: &Link) -> Result<Medium> {
        if link.flags.is_loopback() {
            return Ok(Medium::Loopback);
        }
        if let Some(hardware) = &link.hardware {
            let driver = Driver {
                bus: hardware.bus.clone(),
                name: driver(&hardware.bus, &hardware.place),
            };
            return Ok(match PARAVIRTUAL.contains(&driver.bus.as_str()) {
                true => Medium::Paravirtual(driver),
                false => Medium::Card(driver),
            });
        }
        match link.kind.as_deref() {
            Some(kind @ ("veth" | "netkit")) => Ok(Medium::Cable(Cable {
                kind: kind.to_owned(),
                far: link.peer.map(|peer| peer.index),
                leaves_namespace: link.peer.is_some_and(|peer| peer.nsid.is_some()),
                end: match link.peer {
                    Some(peer) => self.far_end(peer)?,
                    None => None,
                },
            })),
            Some(kind) => Ok(Medium::Virtual(kind.to_owned())),
            // A kernel before Linux 5.14 does not tell of hardware.
            None => Ok(older(&link.name)),
        }
    }

    fn far_end(&self, peer: Peer) -> Result<Option<FarEnd>> {
        let Some(nsid) = peer.nsid else {
            return Ok(Some(end(&self.net, self.ethtool.as_ref(), peer.index)?));
        };
        let is_it = |ns: &NetNs| matches!(self.net.nsid(ns), Ok(Some(number)) if number == nsid);
        let look = |ns: &NetNs| -> Result<FarEnd> {
            let net = Netlink::open_in(ns)?;
            let ethtool = found(Ethtool::open_in(ns))?;
            end(&net, ethtool.as_ref(), peer.index)
        };
        if let Some(ns) = self.known.iter().find(|ns| is_it(ns)) {
            return look(ns).map(Some);
        }
        // There may be thousands: one at a time is open.
        for path in namespaces()? {
            match as_far_as_seen(NetNs::at(&path).map_err(Into::into))? {
                Some(ns) if is_it(&ns) => return as_far_as_seen(look(&ns)),
                _ => {}
            }
        }
        Ok(None)
    }
}

/// A family of generic netlink that older kernels do not have.
fn found<T>(opened: std::result::Result<T, bpfsmith_net::Error>) -> Result<Option<T>> {
    match opened {
        Ok(socket) => Ok(Some(socket)),
        Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn end(net: &Netlink, ethtool: Option<&Ethtool>, index: IfIndex) -> Result<FarEnd> {
    let link = net.link_at(index)?;
    let features = match ethtool {
        Some(ethtool) => ethtool.features(index)?,
        None => bpfsmith_net::Features::default(),
    };
    let is_native = link.xdp.driver.is_some()
        || matches!(link.xdp.attached, XdpAttached::DRV | XdpAttached::MULTI);
    Ok(FarEnd {
        name: link.name,
        leaves_sums: features.has(Feature::TX_CHECKSUM),
        takes_redirected: is_native || features.has(Feature::GRO),
        has_program: link.xdp.prog_id().is_some(),
        has_native: is_native,
    })
}

/// Devices whose output nobody looks at may be gone around.
fn watches_output(link: &Link, own: &BTreeSet<u32>) -> Result<bool> {
    if link.qdisc != "noqueue" {
        return Ok(true);
    }
    let programs = on(&Tcx::egress(link.index))?;
    Ok(programs.iter().any(|program| !own.contains(program)))
}

/// The programs on a hook.
fn on(hook: &Tcx<'_>) -> Result<Vec<u32>> {
    match hook.query() {
        Ok(attached) => Ok(attached.progs),
        // There is no such list.
        Err(bpfsmith_prog::Error::Kernel(kernel)) if kernel.errno == Errno::EINVAL => {
            Ok(Vec::new())
        }
        Err(error) => Err(error.into()),
    }
}

fn present(program: u32) -> Present {
    // It may be gone by now, or not be shown: its number says enough.
    let opened = Prog::open_id(program, AttachType::TCX_INGRESS);
    Present {
        program,
        name: opened.ok().map(|prog| prog.name().to_owned()),
    }
}

/// Who drives what is plugged in there. This part of `/sys` is the same in every namespace.
fn driver(bus: &str, place: &str) -> Option<String> {
    let link = Path::new("/sys/bus")
        .join(bus)
        .join("devices")
        .join(place)
        .join("driver");
    named(&link)
}

/// What a link leads to.
fn named(link: &Path) -> Option<String> {
    let target = std::fs::read_link(link).ok()?;
    Some(target.file_name()?.to_str()?.to_owned())
}

/// What `/sys` says of a device without a kind.
fn older(name: &str) -> Medium {
    let device = Path::new("/sys/class/net").join(name).join("device");
    match named(&device.join("subsystem")) {
        Some(bus) => {
            let driver = Driver {
                name: named(&device.join("driver")),
                bus,
            };
            match PARAVIRTUAL.contains(&driver.bus.as_str()) {
                true => Medium::Paravirtual(driver),
                false => Medium::Card(driver),
            }
        }
        None => Medium::Virtual("device without a driver".to_owned()),
    }
}

/// Of what is gone by now, or not this process's to see, there is nothing to tell; but a process that has no room to look
/// has not looked.
fn as_far_as_seen<T>(looked: Result<T>) -> Result<Option<T>> {
    let is_short = |error: &Error| {
        matches!(
            error.errno(),
            Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::EAGAIN)
        )
    };
    match looked {
        Err(error) if is_short(&error) => Err(error),
        looked => Ok(looked.ok()),
    }
}

/// A setting of the kernel's, if there is one of that name.
fn setting(name: &str) -> Result<Option<u8>> {
    let path = Path::new("/proc/sys/net").join(name);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::file("read", &path, &error)),
    };
    // Some take any number, of which only 0 is off.
    let number = text.trim().parse::<i32>().unwrap_or(0);
    Ok(Some(u8::try_from(number).unwrap_or(u8::MAX)))
}

/// The kernel reads the device's own settings of forwarding where programs ask it for routes.
fn forwards(name: &str) -> Result<BTreeSet<Family>> {
    let mut families = BTreeSet::new();
    for (family, part) in [
        (Family::V4, "ipv4"),
        (Family::V6, "ipv6"),
    ] {
        if setting(&format!("{part}/conf/{name}/forwarding"))?.is_some_and(|it| it > 0) {
            families.insert(family);
        }
    }
    Ok(families)
}

/// A setting of IPv4 of which the larger one of the device's and of all counts.
fn largest(name: &str, setting_name: &str) -> Result<u8> {
    let own = setting(&format!("ipv4/conf/{name}/{setting_name}"))?;
    let all = setting(&format!("ipv4/conf/all/{setting_name}"))?;
    Ok(own.max(all).unwrap_or(0))
}

/// Where namespaces are: those that have a name, and those of processes; each once.
fn namespaces() -> Result<Vec<PathBuf>> {
    let entries = |dir: &str| -> Result<Vec<PathBuf>> {
        let read = std::fs::read_dir(dir);
        let read = read.map_err(|error| Error::file("opendir", Path::new(dir), &error));
        let read = as_far_as_seen(read)?.into_iter().flatten();
        Ok(read.flatten().map(|entry| entry.path()).collect())
    };
    let processes = entries("/proc")?
        .into_iter()
        .filter(|path| path.file_name().is_some_and(is_number))
        .map(|path| path.join("ns/net"));
    let mut seen = BTreeSet::new();
    let named = entries("/run/netns")?.into_iter();
    Ok(named
        .chain(processes)
        .filter(|path| std::fs::metadata(path).is_ok_and(|it| seen.insert((it.dev(), it.ino()))))
        .collect())
}

fn is_number(name: &std::ffi::OsStr) -> bool {
    name.to_str()
        .is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::{as_far_as_seen, setting};
    use crate::error::Error;
    use bpfsmith_uapi::Errno;
    use std::path::Path;

    #[test]
    fn what_cannot_be_read_is_no_setting_of_zero() {
        assert!(matches!(
            setting("ipv4/conf/no such device/rp_filter"),
            Ok(None)
        ));
        assert!(matches!(setting("ipv4/conf/all/rp_filter"), Ok(Some(_))));
        let directory = setting("ipv4/conf/all").unwrap_err();
        assert_eq!(directory.errno(), Some(Errno::EISDIR));
    }

    #[test]
    fn who_has_no_room_to_look_has_not_looked() {
        let failed = |errno: Errno| {
            let error = std::io::Error::from_raw_os_error(errno.0);
            as_far_as_seen::<()>(Err(Error::file(
                "open",
                Path::new("/proc/1/ns/net"),
                &error,
            )))
        };
        for gone in [
            Errno::ENOENT,
            Errno::EACCES,
            Errno::EPERM,
            Errno::ESRCH,
        ] {
            assert!(matches!(failed(gone), Ok(None)), "{gone}");
        }
        for short in [
            Errno::EMFILE,
            Errno::EAGAIN,
            Errno::ENFILE,
            Errno::ENOMEM,
        ] {
            let told = failed(short).unwrap_err().to_string();
            assert!(told.contains("/proc/1/ns/net"), "{told}");
        }
        assert!(
            failed(Errno::EMFILE)
                .unwrap_err()
                .to_string()
                .contains("ulimit -n")
        );
    }
}
