//! Devices, and what lies between them.

use super::{Grade, Report};
use crate::error::Result;
use crate::foresee::{Device, Foreseen};
use crate::show::{cell, list};
use bpfsmith_config::Value;
use bpfsmith_datapath::choice::{Choice, Note};
use bpfsmith_datapath::config::Family;
use bpfsmith_datapath::look::{Cable, Interface, Medium};
use bpfsmith_net::{Ethtool, Feature, Features, IfIndex, Link, Netlink};
use std::collections::BTreeMap;

/// What the proxy's own program is called.
const PROXY: &str = "proxy_tcx";

pub(super) fn look(report: &mut Report, foreseen: &Foreseen, daemon: Option<&Value>) -> Result<()> {
    let net = Netlink::open()?;
    let ethtool = Ethtool::open().ok();
    let links: BTreeMap<IfIndex, Link> = net
        .links()?
        .into_iter()
        .map(|link| (link.index, link))
        .collect();
    let here: Vec<&str> = links.values().map(|link| link.name.as_str()).collect();
    let mut mtus = Vec::new();
    for device in &foreseen.devices {
        let Some(link) = device.index.and_then(|index| links.get(&index)) else {
            report.wrong(
                &device.name,
                format!("it is not on this machine: there are {}", here.join(", ")),
                "name one of those in settings.devices, or in devices of the proxy",
            );
            continue;
        };
        mtus.push((link.mtu, device.name.as_str()));
        state(report, link);
        place(report, link, &links);
        let features = ethtool.as_ref().and_then(|it| it.features(link.index).ok());
        inside(report, device, features.as_ref());
        if let Some(interface) = &device.interface {
            settings(report, interface, foreseen);
        }
        if let Some(choice) = &device.choice {
            chosen(report, choice, daemon);
        }
    }
    lengths(report, &mtus);
    let Some(obstacle) = &foreseen.obstacle else {
        return Ok(());
    };
    let wrong = report.findings.iter().filter(|it| it.grade == Grade::Wrong);
    let mut hints = wrong.filter_map(|it| it.hint.as_deref());
    // What is told already is not told twice.
    if !hints.any(|hint| obstacle.contains(hint)) {
        let hint = "the proxy does not begin before that is otherwise";
        report.wrong("programs", obstacle, hint);
    }
    Ok(())
}

fn state(report: &mut Report, link: &Link) {
    let name = &link.name;
    match (link.flags.is_up(), link.flags.has_carrier()) {
        (false, _) => report.wrong(name, "it is switched off", format!("ip link set {name} up")),
        (true, false) => report.wrong(
            name,
            "nothing is at its other end",
            format!("plug in the cable, or see the other end of it: ip -d link show {name}"),
        ),
        (true, true) => report.right(
            name,
            format!("it is up, with packets of {} bytes", link.mtu),
        ),
    }
}

/// Whether it is a part of another device, or made of others.
fn place(report: &mut Report, link: &Link, links: &BTreeMap<IfIndex, Link>) {
    let name = &link.name;
    if let Some(master) = link.master.and_then(|index| links.get(&index)) {
        let kind = master.kind.as_deref().unwrap_or("device");
        report.note(
            name,
            format!(
                "it is a port of {kind} {}: programs see its packets before {} does; list all ports by which \
                 packets may come, or {} alone",
                master.name, master.name, master.name
            ),
        );
    }
    match link.kind.as_deref() {
        Some("vlan") => report.note(
            name,
            "it is a VLAN: programs see only packets with its tag, without the tag",
        ),
        Some(kind @ ("bond" | "team")) => report.note(
            name,
            format!("it is a {kind}: programs run behind it, once for all of its ports"),
        ),
        Some("bridge") => report.note(
            name,
            "it is a bridge: programs see what goes to this machine, not what goes from port to port",
        ),
        _ => {}
    }
}

/// Its driver, offloads and XDP.
fn inside(report: &mut Report, device: &Device, features: Option<&Features>) {
    let Some(interface) = &device.interface else {
        report.note_to(&device.name, &device.why, "sudo bpfsmith-proxy doctor");
        return;
    };
    let medium = match &interface.medium {
        Medium::Loopback => "the loopback device".to_owned(),
        Medium::Virtual(kind) => format!("{kind}, virtual"),
        Medium::Cable(Cable { kind, end, .. }) => match end {
            Some(end) => format!("{kind}, whose far end is {}", end.name),
            None => format!("{kind}, whose far end is not seen"),
        },
        Medium::Paravirtual(driver) | Medium::Card(driver) => {
            let name = driver.name.as_deref().unwrap_or("no known driver");
            format!("{name} on {}", driver.bus)
        }
    };
    let xdp = match interface.xdp {
        Some(features) if features.0 == 0 => "no XDP".to_owned(),
        Some(features) => format!("XDP: {}", short(&features.to_string(), "NETDEV_XDP_ACT_")),
        None => "XDP is not told".to_owned(),
    };
    let offloads = features.map_or_else(String::new, |features| {
        let all = [
            ("checksums", Feature::TX_CHECKSUM),
            ("TSO", Feature::TSO),
            ("GSO", Feature::GSO),
            ("GRO", Feature::GRO),
        ];
        let all = all.map(|(name, feature)| match features.has(feature) {
            true => format!("{name} on"),
            false => format!("{name} off"),
        });
        format!("; {}", all.join(", "))
    });
    report.right(&device.name, format!("{medium}; {xdp}{offloads}"));
}

/// The kernel's names for bits, as they are said.
pub(super) fn short(names: &str, prefix: &str) -> String {
    names.replace(prefix, "").replace('|', ", ").to_lowercase()
}

fn settings(report: &mut Report, interface: &Interface, foreseen: &Foreseen) {
    let name = &interface.name;
    // A dot in the name of a device is a slash in that of a setting.
    let part = name.replace('.', "/");
    for (family, word, sysctl) in [
        (Family::V4, "IPv4", "ipv4"),
        (Family::V6, "IPv6", "ipv6"),
    ] {
        if !foreseen.shape.has(family) {
            continue;
        }
        match interface.forwards.contains(&family) {
            true => report.right(name, format!("it forwards {word}")),
            false => report.wrong(
                name,
                format!("it does not forward {word}"),
                format!("sysctl -w net.{sysctl}.conf.{part}.forwarding=1"),
            ),
        }
    }
    if foreseen.shape.has(Family::V4) && interface.rp_filter == 1 {
        report.note_to(
            name,
            "rp_filter is 1: what the proxy leaves to the kernel is dropped if answers would leave by another \
             device",
            format!("sysctl -w net.ipv4.conf.{part}.rp_filter=2"),
        );
    }
}

/// What it gets, and what may surprise of that.
fn chosen(report: &mut Report, choice: &Choice, daemon: Option<&Value>) {
    report.right(&choice.name, choice_alone(choice));
    let runs = daemon.is_some_and(|status| {
        let devices = list(status, "devices").iter();
        devices
            .into_iter()
            .any(|it| cell(it, "name") == choice.name)
    });
    for note in &choice.notes {
        match note {
            // It is the daemon's.
            Note::Before(present) if runs && present.name.as_deref() == Some(PROXY) => {}
            note => report.note(&choice.name, note.to_string()),
        }
    }
}

fn choice_alone(choice: &Choice) -> String {
    let bare = Choice {
        notes: Vec::new(),
        ..choice.clone()
    };
    let text = bare.to_string();
    let name = format!("{}: ", choice.name);
    let text = text.strip_prefix(&name).unwrap_or(&text);
    format!("it would get {text}")
}

/// Packets that are too long for the next device are sent back.
fn lengths(report: &mut Report, mtus: &[(u32, &str)]) {
    let (Some(least), Some(most)) = (mtus.iter().min(), mtus.iter().max()) else {
        return;
    };
    if least.0 == most.0 {
        if mtus.len() > 1 {
            report.right(
                "MTU",
                format!("all devices take packets of {} bytes", most.0),
            );
        }
        return;
    }
    report.note_to(
        "MTU",
        format!(
            "{} takes {} bytes, {} only {}: who sends longer ones is told so by ICMP, which nobody may filter",
            most.1, most.0, least.1, least.0
        ),
        format!("ip link set {} mtu {}", most.1, least.0),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_that_differ() {
        let mut report = Report::default();
        lengths(&mut report, &[]);
        lengths(&mut report, &[(1500, "eth0")]);
        assert_eq!(report, Report::default());
        lengths(&mut report, &[(1500, "eth0"), (1500, "eth1")]);
        lengths(&mut report, &[(1500, "eth0"), (9000, "eth1")]);
        let grades: Vec<Grade> = report.findings.iter().map(|it| it.grade).collect();
        assert_eq!(grades, [Grade::Right, Grade::Note]);
        let hint = report.findings[1].hint.as_deref();
        assert_eq!(hint, Some("ip link set eth1 mtu 1500"));
    }
}
