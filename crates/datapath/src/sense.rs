//! Configurations that mean something to a packet. Others would make programs that silently do nothing, or
//! send packets that nobody takes.

use crate::config::{Above, Config, Group, Limits, Listener, ListenerLimit, Rate, Room, Timeouts};
use crate::error::{Error, Result};
use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};

/// Whether a configuration means anything.
pub(crate) fn check(config: &Config) -> Result<()> {
    for listener in &config.listeners {
        check_listener(listener)?;
    }
    for backend in &config.backends {
        let who = || format!("backend {}", backend.id.0);
        is_somewhere(who, backend.address)?;
    }
    for source in &config.sources {
        is_somewhere(|| "a source".to_owned(), SocketAddr::new(*source, 0))?;
    }
    for (place, group) in config.groups.iter().enumerate() {
        check_group(place, group)?;
    }
    let (first, last) = (*config.source_ports.start(), *config.source_ports.end());
    if first == 0 || first > last {
        return Err(Error::SourcePorts { first, last });
    }
    check_times(&config.timeouts)?;
    check_room(config.room)?;
    check_limits(&config.limits)
}

fn check_times(timeouts: &Timeouts) -> Result<()> {
    let forgets = "with which every flow is forgotten at once: make it longer";
    let times = [
        ("timeouts.unanswered", timeouts.unanswered, forgets),
        ("timeouts.established", timeouts.established, forgets),
        ("timeouts.half_closed", timeouts.half_closed, forgets),
        ("timeouts.closed", timeouts.closed, forgets),
        ("timeouts.udp", timeouts.udp, forgets),
        (
            "timeouts.round",
            timeouts.round,
            "in which nothing can be looked at: make it longer",
        ),
    ];
    match times.into_iter().find(|(_, time, _)| time.is_zero()) {
        Some((name, time, why)) => Err(setting(name, format!("{time:?}"), why)),
        None => Ok(()),
    }
}

/// A table of flows has room for some dozens whatever is asked for.
fn check_room(room: Room) -> Result<()> {
    match room.fragments {
        0 => Err(setting(
            "room.fragments",
            0,
            "but a table has room for one at least",
        )),
        _ => Ok(()),
    }
}

fn check_limits(limits: &Limits) -> Result<()> {
    let begins = |name: &str, rate: Rate| match rate.burst {
        0 => Err(setting(
            &format!("limits.{name}.rate.burst"),
            0,
            "so nothing ever begins: make it 1 at least",
        )),
        _ => Ok(()),
    };
    // Without a burst, all connections come by cookie.
    let drops = |limit: &ListenerLimit| limit.above == Above::Drop;
    for (number, limit) in limits.listeners.iter().filter(|(_, it)| drops(it)) {
        begins(&format!("listeners[{number}]"), limit.rate)?;
    }
    let Some(sources) = limits.sources else {
        return Ok(());
    };
    begins("sources", sources.rate)?;
    let widths = [
        (
            "limits.sources.bits4",
            sources.bits4,
            32,
            "but an address has 32 bits",
        ),
        (
            "limits.sources.bits6",
            sources.bits6,
            128,
            "but an address has 128 bits",
        ),
    ];
    for (name, bits, most, why) in widths {
        if bits > most {
            return Err(setting(name, bits, why));
        }
    }
    match sources.room {
        0 => Err(setting(
            "limits.sources.room",
            0,
            "but a table has room for one at least",
        )),
        _ => Ok(()),
    }
}

fn setting(name: &str, value: impl Display, why: &'static str) -> Error {
    Error::Setting {
        name: name.to_owned(),
        value: value.to_string(),
        why,
    }
}

fn check_listener(listener: &Listener) -> Result<()> {
    let address = listener.address;
    let who = || format!("listener {}", listener.number);
    is_one(who, address)?;
    if address.port() == 0 {
        let why = "and no packet goes to port 0: name a port";
        return Err(wrong(who(), address, why));
    }
    if listener.devices.iter().any(|device| device.0 == 0) {
        let why = "on device 0, which is none: leave Listener::devices empty for all";
        return Err(wrong(who(), address, why));
    }
    let mut prefixes = BTreeSet::new();
    for (prefix, _) in &listener.routes {
        if !prefixes.insert((prefix.addr(), prefix.len())) {
            let what = format!("listener {} has route {prefix}", listener.number);
            return Err(Error::Twice { what });
        }
    }
    Ok(())
}

fn check_group(place: usize, group: &Group) -> Result<()> {
    let mut members = BTreeSet::new();
    for member in &group.members {
        if !members.insert(member.backend) {
            let what = format!("group {place} has backend {}", member.backend.0);
            return Err(Error::Twice { what });
        }
    }
    Ok(())
}

/// Packets can go there, and come from there.
fn is_somewhere(who: impl Fn() -> String, address: SocketAddr) -> Result<()> {
    if address.ip().is_unspecified() {
        return Err(wrong(who(), address, "which is nowhere: name an address"));
    }
    is_one(who, address)
}

/// It is not an address of many, nor one that is never in a packet.
fn is_one(who: impl Fn() -> String, address: SocketAddr) -> Result<()> {
    match address.ip() {
        ip if ip.is_multicast() => {
            let why = "an address of many: name one of a single machine";
            Err(wrong(who(), address, why))
        }
        IpAddr::V4(ip) if ip.is_broadcast() => {
            let why = "an address of all: name one of a single machine";
            Err(wrong(who(), address, why))
        }
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => {
            let why = "which is never in a packet: name the address of IPv4";
            Err(wrong(who(), address, why))
        }
        _ => Ok(()),
    }
}

const fn wrong(what: String, address: SocketAddr, why: &'static str) -> Error {
    Error::Address { what, address, why }
}
