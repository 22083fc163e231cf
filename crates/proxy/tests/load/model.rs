//! A configuration that changes by chance, and whom it lets answer.

use super::{Allowed, Api, Chance, Truth, v4, v6};
use crate::rig::{Daemon, at, items, text};
use bpfsmith_config::desired;
use bpfsmith_config::edit::Document;
use bpfsmith_config::{Value, json};
use bpfsmith_proxy::http::{Error, Method, Reply};
use std::collections::{BTreeMap, BTreeSet};

/// Backends that there are.
pub(crate) const BACKENDS: u8 = 4;

/// The client that gets routes of its own; the other one never does.
const ROUTED: usize = 1;

/// The file: one proxy that changes all the time, one that translates sources too, and one for IPv6.
pub(crate) const FILE: &str = r#"
[[proxies]]
name = "web"
address = "10.99.0.1"
port = 80
group = "web"

[[proxies]]
name = "full"
address = "10.99.0.1"
port = 90
group = "full"

[[proxies]]
name = "six"
address = "fd99::1"
port = 80
group = "six"

[groups.web]
targets = ["10.20.0.2:8080", "10.20.1.2:8080"]

[groups.full]
targets = ["10.20.0.2:8080", "10.20.1.2:8080", "10.20.2.2:8080", "10.20.3.2:8080"]
nat = "full"

[groups.six]
targets = ["[fd20:0::2]:8080", "[fd20:1::2]:8080"]

[settings]
sources = ["10.98.0.1", "10.98.0.2"]
"#;

/// What is wanted, as far as it changes.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    /// Of the group of `web`, with their weights.
    targets: BTreeMap<u8, u32>,
    drained: BTreeSet<u8>,
    /// Where one client is led.
    route: Option<u8>,
    /// More proxies: their ports, and their targets.
    extra: BTreeMap<u16, u8>,
    /// What is in the file of it.
    saved: Option<Box<Model>>,
}

/// A change.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) method: Method,
    pub(crate) path: Vec<String>,
    pub(crate) body: Option<String>,
}

fn change(method: Method, path: &[&str], body: Option<String>) -> Change {
    let path = path.iter().map(|it| (*it).to_owned()).collect();
    Change { method, path, body }
}

fn target(number: u8) -> String {
    format!("10.20.{number}.2:8080")
}

fn names(numbers: impl IntoIterator<Item = u8>) -> BTreeSet<String> {
    numbers.into_iter().map(|it| format!("b{it}")).collect()
}

impl Change {
    pub(crate) fn ask(&self, api: &Api) -> Result<Reply, Error> {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        api.ask(self.method, &path, self.body.as_deref())
    }

    /// It has to succeed.
    #[track_caller]
    pub(crate) fn make(&self, api: &Api) -> Value {
        let reply = self.ask(api);
        let reply = reply.unwrap_or_else(|error| panic!("{self:?}: {error}"));
        let said = String::from_utf8_lossy(&reply.body);
        assert!(reply.is_success(), "{self:?}: {said}");
        json::read(said.trim()).unwrap()
    }
}

impl Default for Model {
    /// What [`FILE`] says.
    fn default() -> Model {
        Model {
            targets: [(0, 1), (1, 1)].into(),
            drained: BTreeSet::new(),
            route: None,
            extra: BTreeMap::new(),
            saved: None,
        }
    }
}

impl Model {
    /// Who may answer clients.
    pub(crate) fn allowed(&self) -> Allowed {
        let mut allowed = Allowed::new();
        for client in [0, ROUTED] {
            let web = match self.route {
                Some(number) if client == ROUTED => names([number]),
                _ => names(self.answering()),
            };
            allowed.insert((client, v4(80)), web);
            allowed.insert((client, v4(90)), names(0..BACKENDS));
            allowed.insert((client, v6(80)), names(0..2));
        }
        allowed
    }

    /// The same without IPv6.
    pub(crate) fn allowed4(&self) -> Allowed {
        let all = self.allowed().into_iter();
        all.filter(|((_, to), _)| to.is_ipv4()).collect()
    }

    fn seen(&self) -> Seen {
        let drained = self.drained.iter().copied();
        (
            self.targets.clone(),
            drained.filter(|it| self.targets.contains_key(it)).collect(),
            self.route,
            self.extra.clone(),
        )
    }

    fn answering(&self) -> impl Iterator<Item = u8> + '_ {
        let weighty = self.targets.iter().filter(|(_, weight)| **weight > 0);
        let numbers = weighty.map(|(number, _)| *number);
        numbers.filter(|it| !self.drained.contains(it))
    }

    /// More proxies, by their ports, and who answers there.
    pub(crate) fn extra(&self) -> &BTreeMap<u16, u8> {
        &self.extra
    }

    /// Changes something by chance, so that somebody answers still; what that is.
    pub(crate) fn next(&mut self, chance: &mut Chance) -> Change {
        loop {
            let mut next = self.clone();
            if let Some(change) = next.try_next(chance)
                && next.answering().next().is_some()
            {
                *self = next;
                return change;
            }
        }
    }

    fn try_next(&mut self, chance: &mut Chance) -> Option<Change> {
        use Method::{DELETE, PATCH, POST, PUT};
        let number = u8::try_from(chance.below(BACKENDS.into())).unwrap();
        let address = target(number);
        let has_it = self.targets.contains_key(&number);
        Some(match chance.below(15) {
            0 => {
                let port = 100 + u16::try_from(chance.below(500)).unwrap();
                self.extra.insert(port, number).is_none().then_some(())?;
                let table =
                    format!(r#"{{"name": "more{port}", "port": {port}, "target": "{address}"}}"#);
                change(POST, &["v1", "proxies"], Some(table))
            }
            1 => {
                let (port, _) = self.extra.pop_first()?;
                change(DELETE, &["v1", "proxies", &format!("more{port}")], None)
            }
            2 | 3 => {
                for weight in self.targets.values_mut() {
                    *weight = u32::try_from(chance.below(6)).unwrap();
                }
                let tables = self.targets.iter().map(|(number, weight)| {
                    format!(
                        r#"{{"address": "{}", "weight": {weight}}}"#,
                        target(*number)
                    )
                });
                let tables: Vec<String> = tables.collect();
                let body = format!(r#"{{"targets": [{}]}}"#, tables.join(", "));
                change(PATCH, &["v1", "groups", "web"], Some(body))
            }
            4 | 5 if !has_it => {
                let weight = u32::try_from(chance.below(5)).unwrap() + 1;
                self.targets.insert(number, weight);
                let body = format!(r#"{{"address": "{address}", "weight": {weight}}}"#);
                change(POST, &["v1", "groups", "web", "targets"], Some(body))
            }
            6 if has_it => {
                self.targets.remove(&number);
                change(
                    DELETE,
                    &[
                        "v1", "groups", "web", "targets", &address,
                    ],
                    None,
                )
            }
            7 if has_it && self.drained.insert(number) => self.drain("drain", number),
            8 if has_it && self.drained.remove(&number) => self.drain("undrain", number),
            9 if self.route.is_none() => {
                self.route = Some(number);
                let body = format!(r#"{{"source": "10.10.0.11", "target": "{address}"}}"#);
                change(POST, &["v1", "proxies", "web", "routes"], Some(body))
            }
            10 => {
                self.route.take()?;
                let path = [
                    "v1",
                    "proxies",
                    "web",
                    "routes",
                    "10.10.0.11/32",
                ];
                change(DELETE, &path, None)
            }
            11 => {
                let saved = self.saved.take().map_or_else(Model::default, |it| *it);
                let drained = std::mem::take(&mut self.drained);
                *self = Model {
                    saved: Some(Box::new(saved.clone())),
                    drained,
                    ..saved
                };
                change(POST, &["v1", "reload"], None)
            }
            12 => {
                self.saved = None;
                self.saved = Some(Box::new(self.clone()));
                change(POST, &["v1", "save"], None)
            }
            13 => {
                let words = ["maglev", "source", "turns", "fewest"];
                let word = words[usize::try_from(chance.below(4)).unwrap()];
                let body = format!(r#"{{"algorithm": "{word}"}}"#);
                change(PATCH, &["v1", "groups", "web"], Some(body))
            }
            14 => {
                let settings: [(&[&str], &str); 7] = [
                    (&["timeouts", "udp"], r#""50s""#),
                    (&["timeouts", "udp"], "null"),
                    (&["vlan"], "true"),
                    (&["vlan"], "false"),
                    (&["fragments"], r#""pass""#),
                    (&["fragments"], r#""follow""#),
                    (&["source_limit"], r#"{"rate": 1000000, "burst": 1000000}"#),
                ];
                let (path, value) = settings[usize::try_from(chance.below(7)).unwrap()];
                let path = [&["v1", "values", "settings"], path].concat();
                change(PUT, &path, Some(value.to_owned()))
            }
            _ => return None,
        })
    }

    fn drain(&self, word: &str, number: u8) -> Change {
        let body = format!(r#"{{"target": "{}", "group": "web"}}"#, target(number));
        change(Method::POST, &["v1", word], Some(body))
    }
}

/// What can be seen of a model: the targets of `web` with their weights, which of them are drained, where the one client
/// is led, and more proxies.
type Seen = (
    BTreeMap<u8, u32>,
    BTreeSet<u8>,
    Option<u8>,
    BTreeMap<u16, u8>,
);

/// What a daemon says that it does.
fn look(daemon: &Daemon<'_>) -> Seen {
    let document = Document::read(&daemon.ok(&["config"])).unwrap();
    let desired = document.desired();
    let targets = |group: &str| -> BTreeMap<u8, u32> {
        let targets = desired.group(group).unwrap().targets.iter();
        let target = |it: &desired::Target| (number_of(&it.place.to_string()), it.weight);
        targets.map(target).collect()
    };
    let first = |group: &str| *targets(group).first_key_value().unwrap().0;
    let proxy = |name: &str| desired.proxies.iter().find(|it| it.name == name);
    let route = proxy("web").unwrap().routes.first();
    let more = desired.proxies.iter();
    let more = more.filter(|it| it.name.starts_with("more"));
    let status = daemon.status();
    let groups = items(at(&status, &["groups"])).iter();
    let web = groups.filter(|it| text(it, &["name"]) == "web");
    let states = web.flat_map(|it| items(at(it, &["targets"])));
    let drained = states.filter(|it| text(it, &["state"]) == "drained");
    (
        targets("web"),
        drained
            .map(|it| number_of(text(it, &["address"])))
            .collect(),
        route.map(|it| first(&it.group)),
        more.map(|it| (it.port, first(&it.group))).collect(),
    )
}

/// Of which target this is the address: the other way round than [`target`].
fn number_of(address: &str) -> u8 {
    let numbers = 0..BACKENDS;
    let mut numbers = numbers.filter(|number| target(*number) == address);
    numbers.next().unwrap_or_else(|| panic!("{address}"))
}

/// Which of these a daemon does.
#[track_caller]
pub(crate) fn done(daemon: &Daemon<'_>, either: [Model; 2]) -> Model {
    let seen = look(daemon);
    let found = either.iter().find(|model| model.seen() == seen);
    let found = found.unwrap_or_else(|| panic!("{seen:?} is neither of {either:#?}"));
    found.clone()
}

/// A change is made, and nothing of what was before is true then.
#[track_caller]
pub(crate) fn make(api: &Api, truth: &Truth, model: &mut Model, chance: &mut Chance) -> Change {
    let change = model.next(chance);
    truth.may_become(&model.allowed());
    change.make(api);
    truth.is(model.allowed());
    change
}
