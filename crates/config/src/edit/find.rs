//! Where proxies and groups are in a configuration, by their names.

use crate::schema;
use crate::spot::Step;
use crate::value::{Kind, Value};
use std::collections::BTreeSet;

/// A proxy, and where it is.
pub(super) struct FoundProxy<'a> {
    pub(super) name: &'a str,
    pub(super) path: Vec<Step>,
    pub(super) value: &'a Value,
}

impl<'a> FoundProxy<'a> {
    /// Whether it stands at the top, beside what is no proxy's.
    pub(super) fn is_short(&self) -> bool {
        self.path.is_empty()
    }

    pub(super) fn routes(&self) -> &'a [Value] {
        self.value.get("routes").map_or(&[], Value::each)
    }
}

/// A group, and where it is.
pub(super) struct FoundGroup<'a> {
    pub(super) name: String,
    pub(super) path: Vec<Step>,
    pub(super) value: &'a Value,
    /// The proxy whose targets it is, if it has no name of its own.
    pub(super) proxy: Option<&'a str>,
}

pub(super) fn proxies(value: &Value) -> Vec<FoundProxy<'_>> {
    let mut found = Vec::new();
    if schema::is_short(value) {
        found.push(FoundProxy {
            name: value.get("name").map_or("proxy", text),
            path: Vec::new(),
            value,
        });
    }
    let list = value.get("proxies").map_or(&[][..], Value::each);
    for (number, value) in list.iter().enumerate() {
        found.push(FoundProxy {
            name: value.get("name").map_or("", text),
            path: vec!["proxies".into(), Step::Index(number)],
            value,
        });
    }
    found
}

pub(super) fn groups(value: &Value) -> Vec<FoundGroup<'_>> {
    let mut found = Vec::new();
    if let Some(Kind::Table(entries)) = value.get("groups").map(|groups| &groups.kind) {
        for entry in entries {
            found.push(FoundGroup {
                name: entry.key.clone(),
                path: vec![
                    "groups".into(),
                    entry.key.as_str().into(),
                ],
                value: &entry.value,
                proxy: None,
            });
        }
    }
    for proxy in proxies(value) {
        if is_inline(proxy.value) {
            found.push(FoundGroup {
                name: proxy.name.to_owned(),
                path: proxy.path.clone(),
                value: proxy.value,
                proxy: Some(proxy.name),
            });
        }
        for (number, route) in proxy.routes().iter().enumerate() {
            if is_inline(route) {
                let mut path = proxy.path.clone();
                path.extend(["routes".into(), Step::Index(number)]);
                found.push(FoundGroup {
                    name: schema::route_group(proxy.name, number),
                    path,
                    value: route,
                    proxy: Some(proxy.name),
                });
            }
        }
    }
    found
}

/// The names of groups that have one of their own, in the order of the text.
pub(super) fn named(value: &Value) -> Vec<&str> {
    match value.get("groups").map(|groups| &groups.kind) {
        Some(Kind::Table(entries)) => entries.iter().map(|entry| entry.key.as_str()).collect(),
        _ => Vec::new(),
    }
}

/// Who names a group.
pub(super) fn users(value: &Value, group: &str) -> Vec<String> {
    let names = |value: &Value| value.get("group").is_some_and(|it| text(it) == group);
    let mut users = Vec::new();
    for proxy in proxies(value) {
        if names(proxy.value) {
            users.push(format!("proxy {}", proxy.name));
        }
        for (number, route) in proxy.routes().iter().enumerate() {
            if names(route) {
                users.push(format!("route {} of proxy {}", number + 1, proxy.name));
            }
        }
    }
    users
}

/// All groups that somebody names.
pub(super) fn used(value: &Value) -> BTreeSet<&str> {
    let mut used = BTreeSet::new();
    for proxy in proxies(value) {
        let all = [proxy.value].into_iter().chain(proxy.routes());
        used.extend(all.filter_map(|it| it.get("group")).map(text));
    }
    used
}

fn is_inline(value: &Value) -> bool {
    value.get("target").is_some() || value.get("targets").is_some()
}

pub(super) fn text(value: &Value) -> &str {
    match &value.kind {
        Kind::Text(it) => it,
        _ => "",
    }
}
