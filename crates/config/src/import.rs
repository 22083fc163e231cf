//! Configurations of clj-ebpf's proxies, which are EDN.

use crate::desired::{
    Algorithm, Check, Desired, Group, Health, Nat, Place, Protocol, Proxy, Route, Settings, Source,
    Target,
};
use crate::fields::Fields;
use crate::problem::Problems;
use crate::read::Read;
use crate::schema;
use crate::value::{Kind, Value};
use std::net::IpAddr;
use std::time::Duration;

impl Desired {
    /// What a configuration in the names of clj-ebpf's proxies says.
    ///
    /// # Errors
    /// When anything in it is wrong, missing, unknown, or has no counterpart here: all of it is told.
    pub fn import(value: &Value) -> Result<Desired, Problems> {
        let problems = Problems::new();
        let mut importer = Importer {
            desired: Desired::default(),
            usual: Usual::default(),
            problems: &problems,
        };
        importer.read(value);
        let desired = importer.desired;
        schema::check(&desired, &problems);
        problems.end().map(|()| desired)
    }
}

/// What groups have where they do not say.
struct Usual {
    algorithm: Algorithm,
    health: bool,
    drain: Duration,
}

impl Default for Usual {
    fn default() -> Usual {
        Usual {
            algorithm: Algorithm::Maglev,
            health: true,
            drain: Group::DRAIN,
        }
    }
}

struct Importer<'a> {
    desired: Desired,
    usual: Usual,
    problems: &'a Problems,
}

impl<'a> Importer<'a> {
    fn read(&mut self, value: &'a Value) {
        let mut top = value.fields(self.problems);
        if let Some(settings) = top.table("settings") {
            self.settings(settings);
        }
        if top.has("listen-port") {
            let devices = top.all("listen-interfaces");
            let port = top.need("listen-port").unwrap_or(0);
            self.proxy(&mut top, "proxy".to_owned(), devices, port);
        }
        for mut proxy in top.tables("proxies") {
            let Some(name) = proxy.need("name") else {
                continue;
            };
            let Some(mut listen) = proxy.table("listen") else {
                proxy.wrong("listen is missing: it has interfaces and a port");
                continue;
            };
            let devices = listen.all("interfaces");
            let port = listen.need("port").unwrap_or(0);
            listen.end();
            self.proxy(&mut proxy, name, devices, port);
            proxy.end();
        }
        top.end();
    }

    fn proxy(&mut self, fields: &mut Fields<'a>, name: String, devices: Vec<String>, port: u16) {
        if port == 0 {
            fields.wrong("a port is from 1 to 65535");
        }
        let health = fields.value("health-check");
        let keeps = fields.get_or("session-persistence", false);
        let Some(targets) = fields.value("default-target") else {
            fields.wrong("default-target is missing: nobody answers");
            return;
        };
        let group = self.group(&name, targets, health, keeps);
        let mut routes = Vec::new();
        for (number, mut route) in fields.tables("source-routes").into_iter().enumerate() {
            let sources: Vec<Source> = route.all("source");
            let keeps = route.get_or("session-persistence", keeps);
            let one = route.value("target");
            match one.or(route.value("targets")) {
                Some(targets) => {
                    let name = schema::route_group(&name, number);
                    let group = self.group(&name, targets, health, keeps);
                    let at = route.at();
                    routes.push(Route { at, sources, group });
                }
                None => route.wrong("target is missing: nobody answers"),
            }
            route.end();
        }
        self.desired.proxies.push(Proxy {
            at: fields.at(),
            name,
            devices,
            addresses: Vec::new(),
            port,
            protocols: vec![Protocol::Tcp, Protocol::Udp],
            group,
            routes,
            limit: None,
        });
    }

    fn group(
        &mut self,
        name: &str,
        value: &'a Value,
        health: Option<&'a Value>,
        keeps: bool,
    ) -> String {
        let mut checks = health;
        let mut targets = Vec::new();
        for value in value.each() {
            let mut fields = value.fields(self.problems);
            checks = fields.value("health-check").or(checks);
            let weight = fields.get_or("weight", 1);
            let place = place(&mut fields);
            let at = fields.at();
            fields.end();
            targets.extend(place.map(|place| Target { at, place, weight }));
        }
        self.desired.groups.push(Group {
            at: value.at,
            name: name.to_owned(),
            algorithm: if keeps {
                Algorithm::Source
            } else {
                self.usual.algorithm
            },
            nat: Nat::Dnat,
            targets,
            health: checks.and_then(|value| self.health(value)),
            drain: self.usual.drain,
        });
        name.to_owned()
    }

    fn health(&self, value: &'a Value) -> Option<Health> {
        let mut fields = value.fields(self.problems);
        let millis = |it: u32| Duration::from_millis(it.into());
        let kind: String = fields.need("type").unwrap_or_default();
        let path = fields.get_or("path", "/".to_owned());
        let expect: Vec<u16> = fields.all("expected-codes");
        let check = match kind.as_str() {
            "none" => None,
            "tcp" => Some(Check::Tcp),
            "http" => Some(Check::Http {
                path,
                host: None,
                expect: if expect.is_empty() {
                    vec![200, 201, 202, 204]
                } else {
                    expect
                },
            }),
            other => {
                let what = format!("type is {other:?}: here it is :tcp, :http or :none");
                fields.wrong_at("type", what);
                None
            }
        };
        let read = check.map(|check| Health {
            check,
            interval: millis(fields.get_or("interval-ms", 10_000)),
            timeout: millis(fields.get_or("timeout-ms", 3000)),
            jitter: 0.1,
            up: fields.get_or("healthy-threshold", 2),
            down: fields.get_or("unhealthy-threshold", 3),
            slow_start: Duration::ZERO,
        });
        for (name, allowed) in read.iter().flat_map(schema::wrong) {
            let name = match name {
                "interval" => "interval-ms",
                "timeout" => "timeout-ms",
                "up" => "healthy-threshold",
                "down" => "unhealthy-threshold",
                other => other,
            };
            fields.wrong_at(name, format!("{name}: {allowed}"));
        }
        if read.is_some() {
            fields.end();
        }
        read.filter(|_| self.usual.health)
    }

    fn settings(&mut self, mut fields: Fields<'a>) {
        let usual = Settings::default();
        let settings = &mut self.desired.settings;
        settings.events = fields.get_or("stats-enabled", usual.events);
        settings.flows = fields.get("max-connections");
        if settings.flows == Some(0) {
            fields.wrong_at("max-connections", "max-connections is 0: it is 1 or more");
        }
        if let Some(seconds) = fields.get::<u32>("connection-timeout-sec") {
            if seconds == 0 {
                let what = "connection-timeout-sec is 0: flows would be forgotten at once";
                fields.wrong_at("connection-timeout-sec", what);
            }
            // There it is one time for all.
            let time = Duration::from_secs(seconds.into());
            settings.timeouts.established = Some(time);
            settings.timeouts.udp = Some(time);
        }
        let millis = fields.get_or("default-drain-timeout-ms", 30_000_u32);
        self.usual.drain = Duration::from_millis(millis.into());
        self.usual.health = fields.get_or("health-check-enabled", true);
        if let Some(mut balancing) = fields.table("load-balancing") {
            let algorithm: Option<String> = balancing.get("algorithm");
            match algorithm.as_deref() {
                None | Some("weighted-random") => {}
                Some("least-connections") => self.usual.algorithm = Algorithm::Fewest,
                Some(other) => {
                    let what = format!("algorithm is {other:?}, which has no counterpart");
                    balancing.wrong_at("algorithm", what);
                }
            }
        }
        fields.end();
    }
}

/// A machine and a port, in two names.
fn place(fields: &mut Fields<'_>) -> Option<Place> {
    let port: u16 = fields.need("port")?;
    let name = if fields.has("ip") { "ip" } else { "host" };
    let host: String = fields.need(name)?;
    let place = match host.parse::<IpAddr>() {
        Ok(address) => Place::Address((address, port).into()),
        Err(_) => {
            let value = Value::new(Kind::Text(format!("{host}:{port}")));
            let Some(place) = Place::read(&value) else {
                fields.wrong_at(name, format!("{host:?} is neither an address nor a host"));
                return None;
            };
            place
        }
    };
    Some(place)
}
