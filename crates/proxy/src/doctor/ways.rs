//! Where packets come from and go to: addresses of listeners, routes, neighbours, and targets themselves.

use super::Report;
use super::devices::short;
use crate::error::Result;
use crate::foresee::{Foreseen, backends};
use crate::health::{Checks, Target, View};
use crate::plan;
use bpfsmith_config::desired::{Check, Desired, Health, Protocol};
use bpfsmith_datapath::IfIndex;
use bpfsmith_datapath::config::Mode;
use bpfsmith_net::{Link, Neighbour, NeighbourState, Netlink, Route, RouteKind};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// So many good findings of one kind are told one by one.
const MOST: usize = 16;

/// How long a target may take that has no checks of its own.
const PATIENCE: Duration = Duration::from_secs(2);

/// What checks take besides their own time: each ends by that, so this is waited for only where the machine is too
/// busy to do them.
const SLACK: Duration = Duration::from_secs(10);

/// The network, as the kernel has it.
struct Ground {
    net: Netlink,
    links: BTreeMap<IfIndex, Link>,
    neighbours: Vec<Neighbour>,
    /// Devices that would have programs.
    programs: BTreeSet<IfIndex>,
}

pub(super) fn look(report: &mut Report, desired: &Desired, foreseen: &Foreseen) -> Result<()> {
    let net = Netlink::open()?;
    let ground = Ground {
        links: net
            .links()?
            .into_iter()
            .map(|link| (link.index, link))
            .collect(),
        neighbours: net.neighbours()?,
        programs: foreseen.devices.iter().filter_map(|it| it.index).collect(),
        net,
    };
    let mut seen = BTreeSet::new();
    for listening in foreseen.plan.listeners.values() {
        let ip = listening.address.ip();
        if !ip.is_unspecified() && seen.insert(ip) {
            own(report, &ground, ip, &listening.proxy);
        }
    }
    for ip in &desired.settings.sources {
        if seen.insert(*ip) {
            own(report, &ground, *ip, "settings.sources");
        }
    }
    let made_up: BTreeSet<IpAddr> = made_up(foreseen);
    let mut ways = Report::default();
    for (ip, modes) in backends(&foreseen.plan.config) {
        if !made_up.contains(&ip) {
            way(&mut ways, &ground, ip, &modes);
        }
    }
    merge(
        report,
        ways,
        "ways",
        "targets are reached as they should be",
    );
    Ok(())
}

/// Addresses of targets that stand for hosts without one.
fn made_up(foreseen: &Foreseen) -> BTreeSet<IpAddr> {
    let real = foreseen.hosts.values().flatten().flatten();
    let real: BTreeSet<IpAddr> = real.copied().collect();
    let targets = foreseen
        .plan
        .targets
        .keys()
        .map(|target| target.address.ip());
    let is_nobodys = |ip: &IpAddr| matches!(ip, IpAddr::V4(ip) if ip.octets()[..2] == [198, 18]);
    match foreseen.hosts.values().any(std::result::Result::is_err) {
        true => targets
            .filter(|ip| is_nobodys(ip) && !real.contains(ip))
            .collect(),
        false => BTreeSet::new(),
    }
}

/// Good findings become one if they are many.
fn merge(report: &mut Report, all: Report, about: &str, good: &str) {
    let right = all.count(super::Grade::Right);
    let is_told = |it: &super::Finding| right <= MOST || it.grade != super::Grade::Right;
    report
        .findings
        .extend(all.findings.into_iter().filter(is_told));
    if right > MOST {
        report.right(about, format!("{right} {good}"));
    }
}

impl Ground {
    fn name(&self, index: IfIndex) -> String {
        let link = self.links.get(&index);
        link.map_or_else(|| index.to_string(), |link| link.name.clone())
    }

    /// Whether a program sees what comes by a device: on itself, on a port of it, or on the device below it.
    fn is_seen(&self, index: IfIndex) -> bool {
        let link = self.links.get(&index);
        let is_cable = |link: &Link| matches!(link.kind.as_deref(), Some("veth" | "netkit"));
        let below = link
            .filter(|link| !is_cable(link))
            .and_then(|link| link.peer)
            .filter(|peer| peer.nsid.is_none());
        self.programs.contains(&index)
            || below.is_some_and(|below| self.programs.contains(&below.index))
            || self.programs.iter().any(|port| {
                let port = self.links.get(port);
                port.is_some_and(|port| port.master == Some(index))
            })
    }
}

/// An address that packets must come to.
fn own(report: &mut Report, ground: &Ground, ip: IpAddr, whose: &str) {
    let length = if ip.is_ipv4() { 32 } else { 128 };
    match ground.net.route_to(ip) {
        Ok(route) if route.kind == RouteKind::LOCAL => {
            report.right("address", format!("{ip} of {whose} is this machine's"));
        }
        _ => report.note_to(
            "address",
            format!("{ip} of {whose} is not this machine's: others must have a route to it by way of this machine"),
            format!("ip address add {ip}/{length} dev lo, or at the router: ip route add {ip}/{length} via THIS"),
        ),
    }
}

/// The way to a target.
fn way(report: &mut Report, ground: &Ground, ip: IpAddr, modes: &BTreeSet<Mode>) {
    let nowhere = |report: &mut Report, why: &str| {
        report.wrong(
            "ways",
            format!("{ip}: {why}"),
            format!("ip route add {ip} via GATEWAY"),
        );
    };
    let route = match ground.net.route_to(ip) {
        Ok(route) => route,
        Err(error) => return nowhere(report, &format!("no route leads there: {error}")),
    };
    let device = match (route.kind, route.dev) {
        (RouteKind::LOCAL, _) => return report.right("ways", format!("{ip} is this machine's")),
        (RouteKind::UNICAST, Some(device)) => device,
        (kind, _) => return nowhere(report, &format!("the route there is of kind {kind:?}")),
    };
    let name = ground.name(device);
    let only_direct = modes.iter().all(|mode| *mode == Mode::DirectReturn);
    if !only_direct && !ground.is_seen(device) {
        report.wrong(
            "ways",
            format!("{ip} is reached by {name}, which has no program: answers bypass the proxy"),
            format!("add {name} to settings.devices"),
        );
    }
    if only_direct && route.via.is_some() {
        report.wrong(
            "ways",
            format!("{ip} is behind a gateway: packets as they are do not get there"),
            "another nat for its group, or a target on the same link",
        );
    }
    neighbour(report, ground, ip, &route, device);
}

fn neighbour(report: &mut Report, ground: &Ground, ip: IpAddr, route: &Route, device: IfIndex) {
    let hop = route.via.unwrap_or(ip);
    let name = ground.name(device);
    let way = match route.via {
        Some(via) => format!("{ip} by {name}, via {via}"),
        None => format!("{ip} by {name}"),
    };
    let known = ground.neighbours.iter();
    let known = known
        .clone()
        .find(|it| it.addr == hop && it.index == device);
    let ask = format!("ping -c 1 {hop}");
    match known {
        Some(it) if it.state == NeighbourState::FAILED => report.wrong(
            "ways",
            format!("{way}: {hop} does not say its Ethernet address"),
            format!("is it there, and on {name}? {ask}"),
        ),
        Some(it) if it.mac.is_some() => {
            let state = short(&format!("{:?}", it.state), "NUD_");
            report.right("ways", format!("{way}, whose Ethernet address is known ({state})"));
        },
        _ if ground.links.get(&device).is_some_and(|link| link.mac.is_none()) => {
            report.right("ways", way);
        }
        _ => report.note_to(
            "ways",
            format!("{way}: the Ethernet address of {hop} is not known yet; the first packet waits for it"),
            ask,
        ),
    }
}

/// Asks each target once.
pub(super) fn targets(report: &mut Report, desired: &Desired, foreseen: &Foreseen) {
    let mut asked: BTreeMap<Target, Health> = BTreeMap::new();
    let mut unchecked = BTreeSet::new();
    let hosts = foreseen.hosts.iter();
    let hosts = hosts.filter_map(|(host, it)| Some((host.clone(), it.clone().ok()?)));
    let hosts: BTreeMap<String, BTreeSet<IpAddr>> = hosts.collect();
    for group in &desired.groups {
        let health = match &group.health {
            Some(health) => health.clone(),
            None if speaks_tcp(desired, &group.name) => {
                unchecked.insert(group.name.clone());
                once()
            }
            None => continue,
        };
        for address in plan::targets(group, &hosts).into_keys() {
            let group = group.name.clone();
            asked.insert(Target { group, address }, health.clone());
        }
    }
    match ask(&asked) {
        Ok(views) => {
            let mut heard = Report::default();
            for (target, view) in views {
                tell(
                    &mut heard,
                    &target,
                    &view,
                    unchecked.contains(&target.group),
                );
            }
            merge(report, heard, "targets", "targets answer");
        }
        Err(error) => report.note("targets", format!("they were not asked: {error}")),
    }
}

/// Whether somebody asks this group by TCP.
fn speaks_tcp(desired: &Desired, group: &str) -> bool {
    desired.proxies.iter().any(|proxy| {
        let answers = proxy.group == group || proxy.routes.iter().any(|it| it.group == group);
        answers && proxy.protocols.contains(&Protocol::Tcp)
    })
}

/// What is asked of those that have no checks of their own.
const fn once() -> Health {
    Health {
        check: Check::Tcp,
        interval: Duration::from_secs(60),
        timeout: PATIENCE,
        jitter: 0.0,
        up: 1,
        down: 1,
        slow_start: Duration::ZERO,
    }
}

/// How all of them answered.
fn ask(
    asked: &BTreeMap<Target, Health>,
) -> std::result::Result<BTreeMap<Target, View>, crate::health::Error> {
    if asked.is_empty() {
        return Ok(BTreeMap::new());
    }
    let checks = Checks::start(|| {})?;
    checks.set(asked.clone());
    for target in asked.keys() {
        checks.check_now(target)?;
    }
    let longest = asked.values().map(|health| health.timeout).max();
    // Those that do not answer wait for each other.
    let rounds = u32::try_from(asked.len() / crate::health::MOST + 1).unwrap_or(u32::MAX);
    let limit = longest.unwrap_or_default().saturating_mul(rounds) + SLACK;
    let begun = Instant::now();
    loop {
        let views = checks.standings();
        let is_known = views.values().all(|view| view.last.is_some());
        if is_known || begun.elapsed() > limit {
            return Ok(views);
        }
        checks.works()?;
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn tell(report: &mut Report, target: &Target, view: &View, is_unchecked: bool) {
    let who = format!("{} of {}", target.address, target.group);
    match &view.last {
        Some(Ok(took)) => {
            report.right("targets", format!("{who} answers after {:.1} ms", took.as_secs_f64() * 1e3));
        }
        Some(Err(why)) if is_unchecked => report.note_to(
            "targets",
            format!("{who} takes no connection: {why}; its group has no checks, so it would get connections"),
            format!("a table health for the group {}", target.group),
        ),
        Some(Err(why)) => report.wrong(
            "targets",
            format!("{who} fails its check: {why}"),
            "see whether it runs, and whether this machine may ask it",
        ),
        None => report.note("targets", format!("{who} was not asked in time")),
    }
}
