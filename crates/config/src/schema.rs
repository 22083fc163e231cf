//! From values to what is wanted.
//!
//! A proxy without a name, written at the top, is the short form of one in a list; `target` or `targets` in the
//! place of a group's name is a group without a name of its own, which has its proxy's.

mod settings;

use crate::desired::{
    Algorithm, Check, Desired, Group, Health, Limit, Nat, Place, Protocol, Proxy, Route, Settings,
    Target,
};
use crate::fields::Fields;
use crate::problem::Problems;
use crate::read::Port;
use crate::value::{At, Kind, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

impl Desired {
    /// What a configuration says.
    ///
    /// # Errors
    /// When anything in it is wrong, missing or unknown: all of it is told.
    pub fn read(value: &Value) -> Result<Desired, Problems> {
        let problems = Problems::new();
        let desired = Reader {
            groups: Vec::new(),
            problems: &problems,
        }
        .read(value);
        check(&desired, &problems);
        problems.end().map(|()| desired)
    }
}

/// Names of a proxy that may stand at the top.
const SHORT: [&str; 4] = ["port", "target", "targets", "group"];

/// Whether a proxy stands at the top.
pub(crate) fn is_short(value: &Value) -> bool {
    SHORT.iter().any(|name| value.get(name).is_some())
}

/// Names of a group, wherever its targets stand.
pub(crate) const GROUP: [&str; 6] = [
    "target",
    "targets",
    "algorithm",
    "nat",
    "health",
    "drain",
];

/// What targets of a route are called, whose number begins with 0.
pub(crate) fn route_group(proxy: &str, number: usize) -> String {
    format!("{proxy}-route-{}", number.saturating_add(1))
}

struct Reader<'a> {
    groups: Vec<Group>,
    problems: &'a Problems,
}

impl<'a> Reader<'a> {
    fn read(mut self, value: &'a Value) -> Desired {
        let mut top = value.fields(self.problems);
        let mut proxies = Vec::new();
        if is_short(value) {
            proxies.extend(self.proxy(&mut top, Some("proxy")));
        }
        for (name, fields) in top.named("groups") {
            self.group(name, fields);
        }
        for mut fields in top.tables("proxies") {
            proxies.extend(self.proxy(&mut fields, None));
            fields.end();
        }
        let settings = match top.value("settings") {
            Some(value) => settings::read(value.fields(self.problems)),
            None => Settings::default(),
        };
        top.end();
        Desired {
            proxies,
            groups: self.groups,
            settings,
        }
    }

    fn proxy(&mut self, fields: &mut Fields<'a>, usual: Option<&str>) -> Option<Proxy> {
        let given = match usual {
            Some(usual) => Some(fields.get_or("name", usual.to_owned())),
            None => fields.need("name"),
        };
        // Without a name all else is read too, so that it is told what is wrong with it.
        let known = self.groups.len();
        let is_named = given.is_some();
        let name = given.unwrap_or_default();
        let group = self.answers(fields, &name);
        let mut protocols = fields.all("protocol");
        if protocols.is_empty() {
            protocols.push(Protocol::Tcp);
        }
        let mut routes = Vec::new();
        for (number, mut route) in fields.tables("routes").into_iter().enumerate() {
            let group = self.answers(&mut route, &route_group(&name, number));
            let sources = route.all("source");
            if sources.is_empty() && !route.has("source") {
                route.wrong("source is missing: it says whose packets take this route");
            }
            let at = route.at();
            route.end();
            routes.extend(group.map(|group| Route { at, sources, group }));
        }
        let limit = fields.table("limit").map(|mut limit| {
            let rate = limit.need("rate").unwrap_or(1);
            let read = Limit {
                rate,
                burst: limit.get_or("burst", rate),
                cookies: limit.get_or("cookies", false),
            };
            limit.end();
            read
        });
        let read = Proxy {
            at: fields.at(),
            name,
            devices: fields.all("devices"),
            addresses: fields.all("address"),
            port: fields.need("port").map_or(0, |Port(port)| port),
            protocols,
            group: group.unwrap_or_default(),
            routes,
            limit,
        };
        if !is_named {
            self.groups.truncate(known);
            return None;
        }
        Some(read)
    }

    /// The name of the group that answers: one that is named, or one of these targets.
    fn answers(&mut self, fields: &mut Fields<'a>, name: &str) -> Option<String> {
        let named: Option<String> = fields.get("group");
        let is_inline = fields.has("target") || fields.has("targets");
        match (named, is_inline) {
            (Some(_), true) => {
                fields.wrong_at("group", "a group or targets: both are here");
                fields.value("target");
                fields.value("targets");
                None
            }
            (Some(group), false) => Some(group),
            (None, true) => {
                self.targets(name, fields);
                Some(name.to_owned())
            }
            (None, false) => {
                fields.value("target");
                fields.value("targets");
                if !fields.has("group") {
                    fields.wrong("nobody answers: name a target, targets or a group");
                }
                None
            }
        }
    }

    fn group(&mut self, name: &str, mut fields: Fields<'a>) {
        self.targets(name, &mut fields);
        fields.end();
    }

    /// The group that this table describes.
    fn targets(&mut self, name: &str, fields: &mut Fields<'a>) {
        let one = fields.value("target");
        let many = fields.value("targets");
        if one.is_some() && many.is_some() {
            fields.wrong_at("target", "a target or targets: both are here");
        }
        let each = one.or(many).map_or(&[][..], Value::each);
        let targets = each.iter().filter_map(|value| self.target(value));
        let group = Group {
            at: fields.at(),
            name: name.to_owned(),
            targets: targets.collect(),
            algorithm: fields.get_or("algorithm", Algorithm::Maglev),
            nat: fields.get_or("nat", Nat::Dnat),
            health: fields.value("health").and_then(|value| self.health(value)),
            drain: fields.get_or("drain", Group::DRAIN),
        };
        self.groups.push(group);
    }

    /// A place, or a table of one with its weight.
    fn target(&self, value: &'a Value) -> Option<Target> {
        let at = value.at;
        if !matches!(value.kind, Kind::Table(_)) {
            let place: Place = value.read_as("target", self.problems)?;
            return Some(Target {
                at,
                place,
                weight: 1,
            });
        }
        let mut fields = value.fields(self.problems);
        let place = fields.need("address");
        let weight = fields.get_or("weight", 1);
        fields.end();
        place.map(|place| Target { at, place, weight })
    }

    /// Nothing for "none", a name of a check, or a table of one.
    fn health(&self, value: &'a Value) -> Option<Health> {
        let problems = self.problems;
        match &value.kind {
            Kind::Text(it) if it == "none" => return None,
            Kind::Text(it) if it == "tcp" => return Some(Health::usual(Check::Tcp)),
            Kind::Text(it) if it == "http" => return Some(Health::usual(Check::http())),
            Kind::Table(_) => {}
            _ => {
                let allowed = "it is \"none\", \"tcp\", \"http\", or a table with a kind";
                problems.add(value.at, format!("health is {value}: {allowed}"));
                return None;
            }
        }
        let mut fields = value.fields(problems);
        let kind: String = fields.need("kind").unwrap_or_default();
        let check = match (kind.as_str(), Check::http()) {
            ("http", Check::Http { path, expect, .. }) => {
                let all = fields.all("expect");
                Check::Http {
                    path: fields.get_or("path", path),
                    host: fields.get("host"),
                    expect: if all.is_empty() { expect } else { all },
                }
            }
            ("tcp", _) => Check::Tcp,
            (other, _) => {
                if fields.has("kind") {
                    fields.wrong_at(
                        "kind",
                        format!("kind is {other:?}: it is \"tcp\" or \"http\""),
                    );
                }
                Check::Tcp
            }
        };
        let usual = Health::usual(check);
        let read = Health {
            interval: fields.get_or("interval", usual.interval),
            timeout: fields.get_or("timeout", usual.timeout),
            jitter: fields.get_or("jitter", usual.jitter),
            up: fields.get_or("up", usual.up),
            down: fields.get_or("down", usual.down),
            slow_start: fields.get_or("slow_start", usual.slow_start),
            check: usual.check,
        };
        for (name, allowed) in wrong(&read) {
            fields.wrong_at(name, format!("{name}: {allowed}"));
        }
        fields.end();
        Some(read)
    }
}

/// What goes beyond one table: names that are there, and only once.
pub(crate) fn check(desired: &Desired, problems: &Problems) {
    let groups: BTreeSet<&str> = desired.groups.iter().map(|it| it.name.as_str()).collect();
    let mut lines = BTreeMap::new();
    for group in &desired.groups {
        let (at, name) = (group.at, &group.name);
        named(at, "group", name, problems);
        if let Some(line) = lines.insert(name, at.line) {
            let what = format!("there are two groups {name}: the other one is on line {line}");
            problems.add(at, what);
        }
    }
    let mut names = BTreeMap::new();
    for proxy in &desired.proxies {
        named(proxy.at, "proxy", &proxy.name, problems);
        if let Some(line) = names.insert(&proxy.name, proxy.at.line) {
            let name = &proxy.name;
            let what = format!("there are two proxies {name}: the other one is on line {line}");
            problems.add(proxy.at, what);
        }
        let routes = proxy.routes.iter().map(|route| (route.at, &route.group));
        for (at, group) in [(proxy.at, &proxy.group)].into_iter().chain(routes) {
            if group.is_empty() || groups.contains(group.as_str()) {
                continue;
            }
            let known: Vec<&str> = groups.iter().copied().collect();
            let known = match known.as_slice() {
                [] => "there are none".to_owned(),
                some => format!("there are {}", some.join(", ")),
            };
            problems.add(at, format!("{} names group {group}: {known}", proxy.name));
        }
    }
}

/// That a name can be seen and written down.
fn named(at: At, what: &str, name: &str, problems: &Problems) {
    if name.is_empty() || name.chars().any(char::is_control) {
        let allowed = "it has a character at least, and only such as can be seen";
        problems.add(at, format!("the name of a {what} is {name:?}: {allowed}"));
    }
    if matches!(name, "." | "..") {
        // Commands name it in paths, where these mean something else.
        let allowed = "it is neither \".\" nor \"..\"";
        problems.add(at, format!("the name of a {what} is {name:?}: {allowed}"));
    }
}

/// What a check of health may not be, by the names of its fields.
pub(crate) fn wrong(health: &Health) -> impl Iterator<Item = (&'static str, &'static str)> {
    const OFTEN: Duration = Duration::from_millis(10);
    const SELDOM: Duration = Duration::from_secs(24 * 3600);
    let rules = [
        (
            "interval",
            (OFTEN..=SELDOM).contains(&health.interval),
            "it is from \"10ms\" to \"1d\"",
        ),
        (
            "timeout",
            !health.timeout.is_zero(),
            "it is more than nothing",
        ),
        (
            "jitter",
            (0.0..=0.5).contains(&health.jitter),
            "it is from 0 to 0.5",
        ),
        ("up", health.up > 0, "it is 1 or more"),
        ("down", health.down > 0, "it is 1 or more"),
    ];
    let wrong = rules.into_iter().filter(|(_, is_right, _)| !is_right);
    wrong.map(|(name, _, allowed)| (name, allowed))
}
