//! Why a device gets the programs that it gets, and what it cannot have.

use super::LONGEST;
use crate::config::Family;
use crate::look::Present;
use std::fmt;
use std::net::IpAddr;

/// Why a device has an XDP program, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Somebody wants it so.
    Wished,
    /// It is the loopback device.
    Loopback,
    /// It is a virtual one.
    Virtual {
        /// The kernel's word for its kind.
        kind: String,
    },
    /// It is a hypervisor's.
    Paravirtual {
        /// Its driver, or else its bus.
        driver: String,
    },
    /// It is a network card whose driver runs such programs.
    Driver {
        /// The driver, or else the bus.
        driver: String,
    },
    /// Its driver runs no such programs.
    NoNative {
        /// The driver, or else the bus.
        driver: String,
    },
    /// The kernel does not tell what its driver can do.
    Untold,
    /// Its packets are longer than its driver has room for.
    Long {
        /// How long.
        mtu: u32,
    },
    /// A device that packets may go to does not take them from XDP programs.
    Target {
        /// That device.
        name: String,
    },
    /// Another XDP program is there.
    Occupied {
        /// Its number.
        program: u32,
    },
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Wished => f.write_str("as wished"),
            Why::Loopback => f.write_str("packets of the loopback device are the kernel's own"),
            Why::Virtual { kind } => write!(
                f,
                "{kind} is virtual: packets come joined and without checksums, and stay so"
            ),
            Why::Paravirtual { driver } => write!(
                f,
                "{driver} is a hypervisor's: packets come joined and without checksums, and stay so"
            ),
            Why::Driver { driver } => write!(f, "driver {driver} runs XDP programs"),
            Why::NoNative { driver } => write!(f, "driver {driver} runs no XDP programs"),
            Why::Untold => f.write_str(
                "this kernel does not tell whether the driver runs XDP programs (Linux 6.3 does)",
            ),
            Why::Long { mtu } => write!(
                f,
                "packets of {mtu} bytes are longer than XDP programs on all devices in use can pass on"
            ),
            Why::Target { name } => {
                write!(f, "{name} does not take packets from XDP programs")
            }
            Why::Occupied { program } => write!(f, "XDP program {program} is there already"),
        }
    }
}

/// What the proxy's own TCX program is called.
pub(super) const PROXY: &str = "proxy_tcx";

/// What could not be seen, or may surprise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The far end is where nobody can look.
    FarEndUnseen,
    /// The kernel does not tell whether a device takes packets from XDP programs.
    TargetUntold {
        /// That device.
        name: String,
    },
    /// Packets whose source is reached by another device are dropped before sockets see them.
    StrictSources,
    /// Another TCX program was there before. If it is a proxy too, this one sees what that one leaves.
    Before(Present),
    /// The kernel has no route to a backend. For programs that is the same as if it were this machine: its
    /// stack gets the packets.
    NoWay {
        /// The backend.
        backend: IpAddr,
    },
    /// A backend is behind a device that has no program.
    Bypass {
        /// The backend.
        backend: IpAddr,
        /// The device that the route to it leads to.
        device: String,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::FarEndUnseen => f.write_str(
                "its far end was not seen: there, ethtool must have tx off and gro on",
            ),
            Note::TargetUntold { name } => write!(
                f,
                "this kernel does not tell whether {name} takes packets from XDP programs"
            ),
            Note::StrictSources => f.write_str(
                "rp_filter is 1: clients whose answers leave by another device do not reach backends \
                 of this machine",
            ),
            Note::NoWay { backend } => write!(
                f,
                "nothing leads to backend {backend}: packets to it end in this machine (give it a route)"
            ),
            Note::Bypass { backend, device } => write!(
                f,
                "backend {backend} is reached by {device}, which has no program: answers bypass the proxy \
                 (list {device}, too)"
            ),
            Note::Before(Present { program, name }) => {
                write!(f, "another TCX program (id {program}")?;
                if let Some(name) = name {
                    write!(f, ", name {name}")?;
                }
                f.write_str(") is before this one: what it takes never comes here")?;
                match name.as_deref() {
                    Some(PROXY) => f.write_str(" (it is of a proxy, too: end one of the two)"),
                    _ => Ok(()),
                }
            }
        }
    }
}

/// Why a device cannot have what it should: one line, with what to do next.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Obstacle {
    /// The same device was named before.
    #[error("{name} is listed twice: list each device once")]
    Twice {
        /// The device.
        name: String,
    },
    /// Frames have no Ethernet header.
    #[error("{name} has no Ethernet addresses: only devices that have are supported")]
    NoEthernet {
        /// The device.
        name: String,
    },
    /// The kernel gives no routes for what comes by the device.
    #[error("{name} does not forward {}: sysctl -w net.{}.conf.{}.forwarding=1",
        family_name(*family), sysctl_part(*family), name.replace('.', "/"))]
    NotForwarding {
        /// The device.
        name: String,
        /// The family.
        family: Family,
    },
    /// Packets from outside do not get to addresses of the loopback network.
    #[error("backend {address} is not reached from {name}: sysctl -w net.ipv4.conf.{}.route_localnet=1, or another address",
        name.replace('.', "/"))]
    NotRoutingLocalnet {
        /// The device.
        name: String,
        /// The backend.
        address: IpAddr,
    },
    /// Packets from outside never get there.
    #[error(
        "backend {address} is never reached from outside: give it another address of this machine"
    )]
    Loopback {
        /// The backend.
        address: IpAddr,
    },
    /// Answers would go to this machine itself.
    #[error(
        "backend {address} is on this machine, and its group gives packets a source of this machine's: \
         answers would not leave (put it into a group with Mode::Dnat)"
    )]
    OwnSource {
        /// The backend.
        address: IpAddr,
    },
    /// XDP is wanted where the driver has none.
    #[error("native XDP on {name}: its driver runs no XDP programs (wish for TCX)")]
    NoNative {
        /// The device.
        name: String,
    },
    /// Frames come with unfinished checksums, and nobody knows any more after a redirection.
    #[error(
        "XDP on {name}: its far end {far} leaves checksums to the device, and packets would \
         arrive without (in the namespace of {far}: ethtool -K {far} tx off)"
    )]
    PartialSums {
        /// The device.
        name: String,
        /// Its far end.
        far: String,
    },
    /// A device that packets may go to drops what XDP programs send.
    #[error("XDP on {name}: packets to {target} would be dropped ({hint})")]
    Target {
        /// The device with the program.
        name: String,
        /// The device that packets may go to.
        target: String,
        /// What to do.
        hint: String,
    },
    /// Packets are longer than can be passed on.
    #[error(
        "native XDP on {name}: packets of {mtu} bytes do not fit (at most {LONGEST}: ip link set {name} mtu)"
    )]
    Long {
        /// The device.
        name: String,
        /// Its MTU.
        mtu: u32,
    },
    /// Another XDP program is there.
    #[error("XDP on {name}: program {program} is there already (ip link set {name} xdp off)")]
    Occupied {
        /// The device.
        name: String,
        /// The other program.
        program: u32,
    },
}

bpfsmith_uapi::debug_as_display!(Obstacle);

const fn family_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

const fn sysctl_part(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}
