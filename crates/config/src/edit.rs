//! A configuration that is changed, and stays as it was written wherever it is not.
//!
//! What edits take are values in the form of the configuration itself, whether they come from JSON or from
//! arguments of a command: `{"name": "web", "port": 80, "target": "10.0.0.1:8080"}` is a proxy. Where a value may
//! be taken away, `null` does it. What comes of every edit is read as a file would be: one that would be wrong is
//! none, and everything stays as it was.
//!
//! ```
//! use bpfsmith_config::{edit::Document, json};
//!
//! let text = "# Our site.\nport = 80 # for all\ntarget = \"10.0.0.1:8080\"\n";
//! let mut document = Document::read(text)?;
//! document.add_target("proxy", &"10.0.0.2:8080".into())?;
//! document.update_proxy("proxy", &json::read("{\"port\": 8000}")?)?;
//! document.set("settings.timeouts.udp", &"1m".into())?;
//! assert_eq!(
//!     document.text(),
//!     "# Our site.\nport = 8000 # for all\ntargets = [\"10.0.0.1:8080\", \"10.0.0.2:8080\"]\n\n\
//!      [settings]\ntimeouts = { udp = \"1m\" }\n"
//! );
//! assert!(document.set("settings.timeouts.tcp", &"1m".into()).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Names of groups
//!
//! Targets that stand in the place of a group's name are a group that is called as its proxy, and those of a
//! route one that is called by the route's number: `web-route-2`. When a route goes, those behind it get other
//! numbers; when a proxy gets another name, so do its groups. Connections do not notice, because they know their
//! target and no group. What else goes by such names, like targets that are taken out, has to follow:
//! [`Effect::renamed`] tells. Named groups never change their names.

mod change;
mod error;
mod find;

pub use error::EditError;

use crate::desired::{Desired, Place, Source};
use crate::problem::Problems;
use crate::read::Read;
use crate::schema;
use crate::spot::{self, Holder, Step};
use crate::toml;
use crate::value::{At, Kind, Value};
use change::{
    answer, at, entries, groups_of, inline, place_of, refuse, route_of, taken, targets, unknown,
};
use find::{FoundGroup, FoundProxy};
use std::fmt;
use std::sync::Arc;
use toml_edit::Key;

/// A configuration that is right, with its text. Copies share all of it.
#[derive(Clone, PartialEq)]
pub struct Document {
    text: Arc<str>,
    value: Arc<Value>,
    desired: Arc<Desired>,
}

/// What came of an edit besides what was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// Named groups that somebody named before, and nobody does now. They stay.
    pub idle: Vec<String>,
    /// Groups without names of their own that are called otherwise now: how before, and how now.
    pub renamed: Vec<(String, String)>,
}

impl Document {
    /// A configuration from its text.
    ///
    /// # Errors
    /// When it is no TOML, or anything in it is wrong.
    pub fn read(text: &str) -> Result<Document, Problems> {
        let value = toml::read(text)?;
        let desired = Desired::read(&value)?;
        Ok(Document {
            text: text.into(),
            value: Arc::new(value),
            desired: Arc::new(desired),
        })
    }

    /// The text, with comments, and in the order in which it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it says.
    #[must_use]
    pub fn desired(&self) -> &Desired {
        &self.desired
    }

    /// The same, for who keeps it.
    #[must_use]
    pub fn wanted(&self) -> Arc<Desired> {
        Arc::clone(&self.desired)
    }

    /// The tree that the text is, to be shown as JSON.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// One more proxy, with its name. The short form becomes a list with this the second one.
    ///
    /// # Errors
    /// When there is one of that name, or the configuration would be wrong.
    pub fn add_proxy(&mut self, proxy: &Value) -> Result<Effect, EditError> {
        let name = proxy.get("name").map_or("", find::text);
        let all = find::proxies(&self.value);
        if all.iter().any(|it| it.name == name) {
            return Err(taken("proxy", name));
        }
        let is_short = all.iter().any(FoundProxy::is_short);
        entries(proxy)?;
        self.change(|root| {
            if is_short {
                spot::promote(root);
            }
            Holder::Headed(root).push("proxies", proxy)
        })
    }

    /// Other values for a proxy: those that are given; `null` takes one away, all others stay. One of `target`,
    /// `targets` and `group` takes the place of another.
    ///
    /// # Errors
    /// When there is no such proxy, its new name is taken, or the configuration would be wrong.
    pub fn update_proxy(&mut self, name: &str, fields: &Value) -> Result<Effect, EditError> {
        let found = self.proxy(name)?;
        let (path, is_short) = (found.path.clone(), found.is_short());
        let fields = entries(fields)?;
        if is_short {
            refuse(fields, |key| spot::TOP.contains(&key))?;
        }
        let new = fields.iter().find(|entry| entry.key == "name");
        let new = match new.map(|entry| &entry.value.kind) {
            // Without a name, the short form has the usual one.
            Some(Kind::Null) if is_short => "proxy",
            Some(Kind::Text(new)) => new,
            _ => name,
        };
        let is_taken = |it: &FoundProxy<'_>| it.name == new;
        if new != name && find::proxies(&self.value).iter().any(is_taken) {
            return Err(taken("proxy", new));
        }
        let old = groups_of(&self.value, name);
        let new = new.to_owned();
        let mut after = self.clone();
        let mut effect = after.change_at(&path, |it| answer(it, fields))?;
        if find::proxies(&after.value).iter().all(|it| it.name != new) {
            let what = format!("nothing would be left of proxy {name}: remove it instead");
            return Err(Problems::one(after.value.at, what).into());
        }
        *self = after;
        if new != name {
            for (before, now) in old {
                let now = now.map_or(new.clone(), |number| schema::route_group(&new, number));
                if find::groups(&self.value).iter().any(|it| it.name == now) {
                    effect.renamed.push((before, now));
                }
            }
        }
        Ok(effect)
    }

    /// Takes a proxy away, and targets that are its own. Groups that only it named stay; they are told.
    ///
    /// # Errors
    /// When there is no such proxy, or others name targets that are its own as their group.
    pub fn remove_proxy(&mut self, name: &str) -> Result<Effect, EditError> {
        let path = self.proxy(name)?.path.clone();
        let others = |user: &String| {
            *user != format!("proxy {name}") && !user.ends_with(&format!(" of proxy {name}"))
        };
        for (group, _) in groups_of(&self.value, name) {
            let by = find::users(&self.value, &group);
            let by: Vec<String> = by.into_iter().filter(others).collect();
            if !by.is_empty() {
                return Err(EditError::Used { group, by });
            }
        }
        self.change(|root| {
            match path.as_slice() {
                [list @ .., Step::Index(number)] if !list.is_empty() => {
                    Holder::Headed(root).pull("proxies", *number);
                }
                _ => root.retain(|key, _| spot::TOP.contains(&key)),
            }
            Ok(())
        })
    }

    /// One more route of a proxy.
    ///
    /// # Errors
    /// When there is no such proxy, one of the sources has a route, or the configuration would be wrong.
    pub fn add_route(&mut self, proxy: &str, route: &Value) -> Result<Effect, EditError> {
        let found = self.proxy(proxy)?;
        let path = found.path.clone();
        entries(route)?;
        let new = route.get("source").map_or(&[][..], Value::each);
        for source in new.iter().filter_map(Source::read) {
            if route_of(&found, &source).is_some() {
                return Err(taken("route", &source.to_string()));
            }
        }
        self.change_at(&path, |proxy| proxy.push("routes", route))
    }

    /// Takes the route of a source away; one of several sources goes alone, the last one with its route.
    ///
    /// # Errors
    /// When there is no such proxy or route, or somebody names a group that would go or get another name.
    pub fn remove_route(&mut self, proxy: &str, source: &str) -> Result<Effect, EditError> {
        let found = self.proxy(proxy)?;
        let place = source.parse().ok().and_then(|it| route_of(&found, &it));
        let Some((number, which)) = place else {
            let routes = found.routes().iter().filter_map(|it| it.get("source"));
            let known = routes.flat_map(Value::each).map(find::text);
            return Err(unknown("route", source, known));
        };
        let mut path = found.path.clone();
        let sources = found.routes()[number]
            .get("source")
            .map_or(&[][..], Value::each);
        if sources.len() > 1 {
            path.extend(["routes".into(), Step::Index(number)]);
            return self.change_at(&path, |route| {
                route.pull("source", which);
                Ok(())
            });
        }
        let mut renamed = Vec::new();
        for (group, other) in groups_of(&self.value, proxy) {
            let Some(other) = other.filter(|other| *other >= number) else {
                continue;
            };
            let by = find::users(&self.value, &group);
            if !by.is_empty() {
                return Err(EditError::Used { group, by });
            }
            if other > number {
                renamed.push((group, schema::route_group(proxy, other - 1)));
            }
        }
        let mut effect = self.change_at(&path, |proxy| {
            proxy.pull("routes", number);
            Ok(())
        })?;
        effect.renamed = renamed;
        Ok(effect)
    }

    /// A named group: another one, or all of one that is there.
    ///
    /// # Errors
    /// When that is what targets of a proxy are called, or the configuration would be wrong.
    pub fn put_group(&mut self, name: &str, group: &Value) -> Result<Effect, EditError> {
        entries(group)?;
        if let Ok(found) = self.group(name) {
            inline(&found)?;
        }
        self.change(|root| spot::group(root, name, group))
    }

    /// Other values for a group, as [`Document::update_proxy`] takes them: also for one that has no name of its own.
    ///
    /// # Errors
    /// When there is no such group, or the configuration would be wrong.
    pub fn update_group(&mut self, name: &str, fields: &Value) -> Result<Effect, EditError> {
        let found = self.group(name)?;
        let path = found.path.clone();
        let fields = entries(fields)?;
        if found.proxy.is_some() {
            refuse(fields, |key| !schema::GROUP.contains(&key))?;
        }
        let mut after = self.clone();
        let effect = after.change_at(&path, |it| answer(it, fields))?;
        after.group(name)?;
        *self = after;
        Ok(effect)
    }

    /// Takes a named group away that nobody names.
    ///
    /// # Errors
    /// When there is no such group, it has no name of its own, or somebody names it.
    pub fn remove_group(&mut self, name: &str) -> Result<Effect, EditError> {
        inline(&self.group(name)?)?;
        let by = find::users(&self.value, name);
        if !by.is_empty() {
            let group = name.to_owned();
            return Err(EditError::Used { group, by });
        }
        self.change(|root| {
            at(root, &["groups".into()], |groups| {
                groups.remove(name);
                Ok(())
            })
        })
    }

    /// One more target of a group: its place, or a table of that and its weight.
    ///
    /// # Errors
    /// When there is no such group, it has the target, or the configuration would be wrong.
    pub fn add_target(&mut self, group: &str, target: &Value) -> Result<Effect, EditError> {
        let found = self.group(group)?;
        let path = found.path.clone();
        let (key, all) = targets(&found);
        if let Some(place) = place_of(target)
            && all.iter().any(|it| place_of(it).as_ref() == Some(&place))
        {
            return Err(taken("target", &place.to_string()));
        }
        self.change_at(&path, |group| {
            group.push(key, target)?;
            group.rename("target", "targets");
            Ok(())
        })
    }

    /// Takes a target of a group away. The last one leaves a group that nobody answers.
    ///
    /// # Errors
    /// When there is no such group or target.
    pub fn remove_target(&mut self, group: &str, place: &str) -> Result<Effect, EditError> {
        let found = self.group(group)?;
        let path = found.path.clone();
        let (key, all) = targets(&found);
        let places = || all.iter().filter_map(place_of);
        let wanted: Option<Place> = place.parse().ok();
        let number = places().position(|it| Some(it) == wanted);
        let Some(number) = number else {
            let known: Vec<String> = places().map(|it| it.to_string()).collect();
            return Err(unknown("target", place, known));
        };
        let is_last = all.len() == 1;
        self.change_at(&path, |group| match is_last {
            true => {
                group.set(key, &Value::list([]))?;
                group.rename("target", "targets");
                Ok(())
            }
            false => {
                group.pull(key, number);
                Ok(())
            }
        })
    }

    /// Another value at a place that is named as in TOML: `settings.timeouts.established`, `groups.web.drain`,
    /// `proxies."a b".port`. `null` takes it away.
    ///
    /// # Errors
    /// When there is no such place, or the configuration would be wrong.
    pub fn set(&mut self, path: &str, value: &Value) -> Result<Effect, EditError> {
        let nowhere = || {
            unknown(
                "setting",
                path,
                [
                    "settings.…",
                    "groups.NAME.…",
                    "proxies.NAME.…",
                ],
            )
        };
        let keys = Key::parse(path).map_err(|_| nowhere())?;
        let keys: Vec<&str> = keys.iter().map(Key::get).collect();
        let one = |key: &str| Value::table([(key, value.clone())]);
        let (mut path, mut table, mut rest) = match keys.as_slice() {
            ["settings", ..] => (Vec::new(), &*self.value, keys.as_slice()),
            ["groups", name, key] => return self.update_group(name, &one(key)),
            ["proxies", name, key] => return self.update_proxy(name, &one(key)),
            ["groups", name, rest @ ..] if !rest.is_empty() => {
                let found = self.group(name)?;
                if found.proxy.is_some() {
                    refuse(entries(&one(rest[0]))?, |key| !schema::GROUP.contains(&key))?;
                }
                (found.path, found.value, rest)
            }
            ["proxies", name, rest @ ..] if !rest.is_empty() => {
                let found = self.proxy(name)?;
                if found.is_short() {
                    refuse(entries(&one(rest[0]))?, |key| spot::TOP.contains(&key))?;
                }
                (found.path, found.value, rest)
            }
            _ => return Err(nowhere()),
        };
        while let [key, inner, ..] = rest {
            match table.get(key) {
                None => break,
                Some(next) if matches!(next.kind, Kind::Table(_)) => table = next,
                Some(other) => {
                    let what = format!("{key} is {other}: there is no {inner} in it");
                    return Err(Problems::one(value.at, what).into());
                }
            }
            path.push(Step::from(*key));
            rest = &rest[1..];
        }
        let Some((key, inner)) = rest.split_first() else {
            return Err(nowhere());
        };
        if value.kind == Kind::Null && !inner.is_empty() {
            // It is in a table that there is not.
            return Ok(Effect::default());
        }
        let all = inner.iter().rev();
        let value = all.fold(value.clone(), |value, key| Value::table([(*key, value)]));
        self.change_at(&path, |table| table.set(key, &value))
    }

    fn proxy(&self, name: &str) -> Result<FoundProxy<'_>, EditError> {
        let all = find::proxies(&self.value);
        let known: Vec<&str> = all.iter().map(|it| it.name).collect();
        let error = unknown("proxy", name, known);
        all.into_iter().find(|it| it.name == name).ok_or(error)
    }

    fn group(&self, name: &str) -> Result<FoundGroup<'_>, EditError> {
        let all = find::groups(&self.value);
        let known: Vec<String> = all.iter().map(|it| it.name.clone()).collect();
        let error = unknown("group", name, known);
        all.into_iter().find(|it| it.name == name).ok_or(error)
    }
}

impl Default for Document {
    /// That of no text: nobody listens.
    fn default() -> Document {
        Document {
            text: "".into(),
            value: Arc::new(Value {
                at: At { line: 1, column: 1 },
                kind: Kind::Table(Vec::new()),
            }),
            desired: Arc::default(),
        }
    }
}

/// Its text.
impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests;
