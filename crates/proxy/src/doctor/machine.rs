//! Memory, limits and settings of the whole machine.

use super::{Report, said};
use crate::foresee::Foreseen;
use crate::show::bytes;
use bpfsmith_config::desired::Desired;
use bpfsmith_datapath::config::{Family, Fragments, Mode};
use bpfsmith_datapath::shape::{BACKEND_FLOWS, BACKEND_TABLE, Shape};
use bpfsmith_uapi::map::MapShape;
use nix::sys::resource::{Resource, getrlimit};
use std::ops::RangeInclusive;

/// Files that the daemon has open besides checks and clients: maps, programs, links and sockets.
const OWN_FILES: u64 = 192;

/// Checks and clients that are there at once, at most.
const AT_ONCE: u64 = 256;

pub(super) fn look(report: &mut Report, desired: &Desired, foreseen: &Foreseen) {
    let needed = tables(&foreseen.shape);
    match said("/proc/meminfo") {
        Ok(info) => memory(report, needed, &info),
        Err(error) => report.note("memory", format!("it is not known: {error}")),
    }
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, _)) => files(report, soft),
        Err(errno) => report.note("limits", format!("getrlimit: {errno}")),
    }
    let has_sources = !desired.settings.sources.is_empty();
    if has_sources || foreseen.shape.modes.contains(&Mode::FullNat) {
        match said("/proc/sys/net/ipv4/ip_local_port_range") {
            Ok(range) => ports(report, &foreseen.shape.source_ports, &range),
            Err(error) => report.note("ports", format!("they are not known: {error}")),
        }
    }
    let hz = foreseen.shape.clock.hz().max(1);
    report.right(
        "clock",
        format!(
            "the kernel ticks {hz} times a second: timeouts are true to {} ms",
            1000_u32.div_ceil(hz)
        ),
    );
}

fn size(shape: &MapShape) -> u64 {
    // Hashes have links and a head for each entry; arrays round up.
    let each =
        u64::from(shape.key.next_multiple_of(8)) + u64::from(shape.value.next_multiple_of(8));
    u64::from(shape.entries).saturating_mul(each)
}

/// Bytes that tables of that shape take at least, whether they are used or not.
fn tables(shape: &Shape) -> u64 {
    let mut all: Vec<MapShape> = shape
        .paths
        .iter()
        .map(|path| path.flows(shape.room))
        .collect();
    for family in [Family::V4, Family::V6] {
        if !shape.has(family) {
            continue;
        }
        all.push(shape.listeners(family));
        if shape.limits.sources.is_some() {
            all.push(shape.buckets(family));
        }
        if shape.shifted.contains(&family) {
            all.push(shape.shifts(family));
        }
        if shape.fragments != Fragments::Pass {
            all.push(shape.fragments(family));
        }
    }
    all.extend([
        *shape.groups().shape(),
        *shape.ring().shape(),
        *BACKEND_TABLE.shape(),
        *BACKEND_FLOWS.shape(),
    ]);
    let ring = shape.events.map_or(0, |events| u64::from(events.bytes));
    all.iter().map(size).fold(ring, u64::saturating_add)
}

fn memory(report: &mut Report, needed: u64, info: &str) {
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let there = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let Some(there) = there.map(|kilobytes| kilobytes.saturating_mul(1024)) else {
        return report.note("memory", format!("tables take {}", bytes(needed)));
    };
    let what = format!(
        "tables take {} of {} that are free",
        bytes(needed),
        bytes(there)
    );
    let hint = "fewer flows: settings.flows";
    match needed {
        _ if needed > there => report.wrong("memory", what, hint),
        _ if needed > there / 2 => report.note_to("memory", what, hint),
        _ => report.right("memory", what),
    }
}

fn files(report: &mut Report, soft: u64) {
    let needed = OWN_FILES + 2 * AT_ONCE;
    let what = format!("{soft} files may be open, {needed} may be needed");
    match soft < needed {
        true => report.wrong(
            "limits",
            what,
            format!(
                "ulimit -n {}; for systemd: LimitNOFILE=",
                needed.next_power_of_two()
            ),
        ),
        false => report.right("limits", what),
    }
}

/// Connections of the machine's own must not have ports that the proxy gives away.
fn ports(report: &mut Report, ours: &RangeInclusive<u16>, range: &str) {
    let mut words = range.split_whitespace().map(str::parse::<u16>);
    let (Some(Ok(first)), Some(Ok(last))) = (words.next(), words.next()) else {
        return report.note("ports", format!("ip_local_port_range is odd: {range}"));
    };
    let what = format!(
        "the proxy gives away {} to {}, the kernel {first} to {last}",
        ours.start(),
        ours.end()
    );
    match *ours.start() <= last && first <= *ours.end() {
        true => report.wrong(
            "ports",
            what,
            format!(
                "other ports in settings.source_ports, or sysctl -w net.ipv4.ip_local_port_range=\"{} 60999\"",
                u32::from(*ours.end()) + 1
            ),
        ),
        false => report.right("ports", what),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Grade;
    use super::*;
    use bpfsmith_datapath::clock::Clock;
    use bpfsmith_datapath::config::{Config, GroupId, Listener, Protocol};

    fn grade(look: impl FnOnce(&mut Report)) -> Grade {
        let mut report = Report::default();
        look(&mut report);
        assert_eq!(report.findings.len(), 1);
        report.findings.remove(0).grade
    }

    #[test]
    fn memory_that_is_there() {
        let info = "MemTotal: 9 kB\nMemAvailable:     100 kB\n";
        assert_eq!(grade(|it| memory(it, 10 * 1024, info)), Grade::Right);
        assert_eq!(grade(|it| memory(it, 60 * 1024, info)), Grade::Note);
        assert_eq!(grade(|it| memory(it, 101 * 1024, info)), Grade::Wrong);
        assert_eq!(grade(|it| memory(it, 1, "odd")), Grade::Note);
    }

    #[test]
    fn tables_are_as_large_as_is_said() {
        let config = Config {
            listeners: vec![Listener {
                number: 0,
                devices: Vec::new(),
                address: "192.0.2.1:80".parse().unwrap(),
                protocol: Protocol::Tcp,
                routes: Vec::new(),
                group: GroupId(0),
            }],
            ..Config::default()
        };
        // What is said at the room for flows, and some for the others.
        let bytes = tables(&Shape::of(&config, 1, Clock::new(1000)));
        assert!((69_900_000..76_000_000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn ports_of_both() {
        assert_eq!(
            grade(|it| ports(it, &(1024..=32767), "32768\t60999")),
            Grade::Right
        );
        assert_eq!(
            grade(|it| ports(it, &(1024..=32768), "32768\t60999")),
            Grade::Wrong
        );
        assert_eq!(
            grade(|it| ports(it, &(61000..=65535), "32768\t60999")),
            Grade::Right
        );
        assert_eq!(grade(|it| ports(it, &(1024..=65535), "odd")), Grade::Note);
    }

    #[test]
    fn limits_of_files() {
        assert_eq!(grade(|it| files(it, 1024)), Grade::Right);
        assert_eq!(grade(|it| files(it, 256)), Grade::Wrong);
    }
}
