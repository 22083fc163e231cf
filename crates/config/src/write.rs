//! From what is wanted to a configuration that says it.

use crate::desired::{
    AccessLog, Algorithm, Check, Desired, Format, Group, Health, Limit, Nat, Protocol, Proxy,
    Route, Settings, Source, SourceLimit, Target, Timeouts,
};
use crate::problem::Problems;
use crate::schema;
use crate::toml;
use crate::value::{At, Entry, Kind, Value};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

impl Desired {
    /// A configuration that says this, in as few words as say it: what is as usual is left out.
    ///
    /// Read again it is the same, but for its places, if it has only what a configuration may have, and paths of it
    /// are Unicode.
    #[must_use]
    pub fn value(&self) -> Value {
        let groups = |forms: &[Form]| {
            let mut forms = forms.iter().copied();
            forms.find(|form| form.order(self) == names(&self.groups))
        };
        let is_one = matches!(self.proxies.as_slice(), [one] if one.name == "proxy");
        let form = match is_one {
            true => groups(&[Form::Short, Form::Inline]),
            false => groups(&[Form::Inline]),
        };
        form.unwrap_or(Form::Named).write(self)
    }

    /// The same as a text of TOML.
    ///
    /// # Errors
    /// When it has something that no text may have.
    pub fn text(&self) -> Result<String, Problems> {
        toml::write(&self.value())
    }

    /// The same without its places, to be compared.
    #[must_use]
    pub fn bare(&self) -> Desired {
        let mut bare = self.clone();
        let at = At::default();
        for proxy in &mut bare.proxies {
            proxy.at = at;
            proxy.routes.iter_mut().for_each(|route| route.at = at);
        }
        for group in &mut bare.groups {
            group.at = at;
            group.targets.iter_mut().for_each(|target| target.at = at);
        }
        bare
    }
}

fn names(groups: &[Group]) -> Vec<&str> {
    groups.iter().map(|group| group.name.as_str()).collect()
}

/// Where groups are written.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    /// The only proxy stands at the top, with its groups.
    Short,
    /// Groups that are called as targets of a proxy are, and that only it names, are such.
    Inline,
    /// All groups have names.
    Named,
}

impl Form {
    /// The order in which groups are read.
    fn order(self, desired: &Desired) -> Vec<&str> {
        let all = names(&desired.groups);
        let named = all.iter().copied();
        let named = named.filter(|name| !self.is_inline(desired, name));
        let groups = desired.proxies.iter().flat_map(|proxy| {
            let routes = proxy.routes.iter().map(|route| route.group.as_str());
            [proxy.group.as_str()].into_iter().chain(routes)
        });
        let inline = groups.filter(|name| self.is_inline(desired, name));
        match self {
            Form::Short => inline.chain(named).collect(),
            Form::Inline | Form::Named => named.chain(inline).collect(),
        }
    }

    /// Whether a group needs no name.
    fn is_inline(self, desired: &Desired, name: &str) -> bool {
        if self == Form::Named || desired.group(name).is_none() {
            return false;
        }
        let mut right = 0;
        let mut all = 0;
        for proxy in &desired.proxies {
            all += usize::from(proxy.group == name);
            right += usize::from(proxy.group == name && proxy.name == name);
            for (number, route) in proxy.routes.iter().enumerate() {
                let own = schema::route_group(&proxy.name, number);
                all += usize::from(route.group == name);
                right += usize::from(route.group == name && own == name);
            }
        }
        (right, all) == (1, 1)
    }

    fn write(self, desired: &Desired) -> Value {
        let mut top = Fields::default();
        match (self, desired.proxies.as_slice()) {
            (Form::Short, [one]) => top.0.extend(self.proxy(desired, one).0),
            (_, []) => {}
            (_, all) => {
                let all = all.iter().map(|proxy| self.proxy(desired, proxy).end());
                top.put("proxies", Value::list(all));
            }
        }
        let mut groups = Fields::default();
        for group in &desired.groups {
            if !self.is_inline(desired, &group.name) {
                let mut fields = Fields::default();
                fields.group(group);
                groups.put(&group.name, fields.end());
            }
        }
        top.table("groups", groups);
        top.table("settings", settings(&desired.settings));
        top.end()
    }

    fn proxy(self, desired: &Desired, proxy: &Proxy) -> Fields {
        let mut fields = Fields::default();
        if self != Form::Short {
            fields.put("name", proxy.name.as_str());
        }
        fields.all("devices", proxy.devices.iter().map(|it| it.as_str().into()));
        fields.all("address", proxy.addresses.iter().map(Value::shown));
        fields.put("port", proxy.port);
        if proxy.protocols != [Protocol::Tcp] {
            fields.all("protocol", proxy.protocols.iter().map(Value::shown));
        }
        self.answers(desired, &proxy.group, &mut fields);
        if let Some(limit) = proxy.limit {
            fields.table("limit", self::limit(limit));
        }
        let routes = proxy.routes.iter().map(|route| self.route(desired, route));
        let routes: Vec<Value> = routes.collect();
        if !routes.is_empty() {
            fields.put("routes", Value::list(routes));
        }
        fields
    }

    fn route(self, desired: &Desired, route: &Route) -> Value {
        let mut fields = Fields::default();
        let sources = || route.sources.iter().map(source);
        match route.sources.is_empty() {
            true => fields.put("source", Value::list([])),
            false => fields.all("source", sources()),
        }
        self.answers(desired, &route.group, &mut fields);
        fields.end()
    }

    fn answers(self, desired: &Desired, name: &str, fields: &mut Fields) {
        match desired.group(name) {
            Some(group) if self.is_inline(desired, name) => fields.group(group),
            _ => fields.put("group", name),
        }
    }
}

/// A table that is being written.
#[derive(Default)]
struct Fields(Vec<Entry>);

impl Fields {
    fn put(&mut self, key: &str, value: impl Into<Value>) {
        self.0.push(Entry {
            at: At::default(),
            key: key.to_owned(),
            value: value.into(),
        });
    }

    /// What is not as usual.
    fn but<T: PartialEq + Into<Value>>(&mut self, key: &str, value: T, usual: &T) {
        if value != *usual {
            self.put(key, value);
        }
    }

    fn some(&mut self, key: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.put(key, value);
        }
    }

    /// One alone, or a list; nothing of none.
    fn all(&mut self, key: &str, values: impl Iterator<Item = Value>) {
        let mut values: Vec<Value> = values.collect();
        match values.len() {
            0 => {}
            1 => self.0.extend(values.pop().map(|value| Entry {
                at: At::default(),
                key: key.to_owned(),
                value,
            })),
            _ => self.put(key, Value::list(values)),
        }
    }

    /// A table, if it has anything.
    fn table(&mut self, key: &str, fields: Fields) {
        if !fields.0.is_empty() {
            self.put(key, fields.end());
        }
    }

    fn time(&mut self, key: &str, time: Duration, usual: Duration) {
        if time != usual {
            self.put(key, self::time(time));
        }
    }

    fn group(&mut self, group: &Group) {
        let targets: Vec<Value> = group.targets.iter().map(target).collect();
        match targets.as_slice() {
            [one] => self.put("target", one.clone()),
            _ => self.put("targets", Value::list(targets)),
        }
        if group.algorithm != Algorithm::Maglev {
            self.put("algorithm", group.algorithm.word());
        }
        if group.nat != Nat::Dnat {
            self.put("nat", group.nat.word());
        }
        self.some("health", group.health.as_ref().map(health));
        self.time("drain", group.drain, Group::DRAIN);
    }

    fn end(self) -> Value {
        Value::new(Kind::Table(self.0))
    }
}

fn target(target: &Target) -> Value {
    match target.weight {
        1 => Value::shown(&target.place),
        weight => Value::table([
            ("address", Value::shown(&target.place)),
            ("weight", weight.into()),
        ]),
    }
}

/// One address has no bits behind it.
fn source(source: &Source) -> Value {
    match source {
        Source::Prefix(ip @ IpAddr::V4(_), 32) | Source::Prefix(ip @ IpAddr::V6(_), 128) => {
            Value::shown(ip)
        }
        other => Value::shown(other),
    }
}

fn limit(limit: Limit) -> Fields {
    let mut fields = Fields::default();
    fields.put("rate", limit.rate);
    fields.but("burst", limit.burst, &limit.rate);
    fields.but("cookies", limit.cookies, &false);
    fields
}

/// A word, if nothing else needs to be said.
fn health(health: &Health) -> Value {
    let usual = Health::usual(health.check.clone());
    let mut fields = Fields::default();
    let kind = match &health.check {
        Check::Tcp => "tcp",
        Check::Http { .. } => "http",
    };
    fields.put("kind", kind);
    if let Check::Http { path, host, expect } = &health.check {
        if path != "/" {
            fields.put("path", path.as_str());
        }
        fields.some("host", host.as_deref());
        if !matches!(Check::http(), Check::Http { expect: usual, .. } if usual == *expect) {
            fields.all("expect", expect.iter().map(|it| (*it).into()));
        }
    }
    fields.time("interval", health.interval, usual.interval);
    fields.time("timeout", health.timeout, usual.timeout);
    fields.but("jitter", health.jitter, &usual.jitter);
    fields.but("up", health.up, &usual.up);
    fields.but("down", health.down, &usual.down);
    fields.time("slow_start", health.slow_start, usual.slow_start);
    match fields.0.len() {
        1 => kind.into(),
        _ => fields.end(),
    }
}

fn settings(settings: &Settings) -> Fields {
    let usual = Settings::default();
    let mut fields = Fields::default();
    let devices = settings.devices.iter();
    fields.all("devices", devices.map(|it| it.as_str().into()));
    fields.all("sources", settings.sources.iter().map(Value::shown));
    let ports = settings.source_ports.as_ref();
    let ports = ports.map(|it| format!("{}-{}", it.start(), it.end()));
    fields.some("source_ports", ports);
    fields.some("flows", settings.flows);
    fields.table("timeouts", timeouts(&settings.timeouts));
    if let Some(limit) = settings.source_limit {
        fields.table("source_limit", source_limit(limit));
    }
    fields.some("fragments", settings.fragments.map(|it| it.word()));
    fields.some("mid_stream", settings.mid_stream.map(|it| it.word()));
    fields.some("vlan", settings.vlan);
    fields.but("events", settings.events, &usual.events);
    for (key, path, usual) in [
        ("control", &settings.control, &usual.control),
        ("pins", &settings.pins, &usual.pins),
    ] {
        if path != usual {
            fields.put(key, self::path(path));
        }
    }
    fields.some("metrics", settings.metrics.map(Value::shown));
    if let Some(admin) = &settings.admin {
        fields.put(
            "admin",
            Value::table([
                ("listen", Value::shown(admin.listen)),
                ("token_file", path(&admin.token_file)),
            ]),
        );
    }
    if let Some(log) = &settings.access_log {
        fields.table("access_log", access_log(log));
    }
    fields
}

fn timeouts(timeouts: &Timeouts) -> Fields {
    let mut fields = Fields::default();
    for (key, time) in [
        ("unanswered", timeouts.unanswered),
        ("established", timeouts.established),
        ("half_closed", timeouts.half_closed),
        ("closed", timeouts.closed),
        ("udp", timeouts.udp),
    ] {
        fields.some(key, time.map(self::time));
    }
    fields
}

fn source_limit(limit: SourceLimit) -> Fields {
    let mut fields = Fields::default();
    fields.put("rate", limit.rate);
    fields.but("burst", limit.burst, &limit.rate);
    fields.but("bits4", limit.bits4, &SourceLimit::BITS4);
    fields.but("bits6", limit.bits6, &SourceLimit::BITS6);
    fields.some("room", limit.room);
    fields
}

fn access_log(log: &AccessLog) -> Fields {
    let mut fields = Fields::default();
    fields.put("path", path(&log.path));
    if log.format != Format::Json {
        fields.put("format", log.format.word());
    }
    fields.but("bytes", log.bytes, &AccessLog::BYTES);
    fields.but("files", log.files, &AccessLog::FILES);
    fields
}

fn path(path: &Path) -> Value {
    Value::shown(path.display())
}

/// In the largest unit that says it whole; times that have no unit are seconds.
fn time(time: Duration) -> Value {
    let Ok(millis) = u64::try_from(time.as_millis()) else {
        return time.as_secs().into();
    };
    let units = [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1000, "s"),
    ];
    let whole = |(size, _): &&(u64, &str)| millis >= *size && millis.is_multiple_of(*size);
    match (millis, units.iter().find(whole)) {
        (0, _) => "0s".into(),
        (_, Some((size, unit))) => format!("{}{unit}", millis / size).into(),
        (_, None) => format!("{millis}ms").into(),
    }
}
