//! Changes of the configuration, as requests ask for them.

use crate::api::body;
use crate::error::Result;
use crate::http::{Method, Request};
use bpfsmith_config::edit::{Document, EditError, Effect};
use bpfsmith_config::{Value, json};

/// A change of a document: what is changed, and what it becomes.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// One more proxy.
    AddProxy(Value),
    /// Some fields of a proxy.
    UpdateProxy(String, Value),
    /// A proxy goes.
    RemoveProxy(String),
    /// One more route of a proxy.
    AddRoute(String, Value),
    /// The route of that source goes.
    RemoveRoute(String, String),
    /// A group, in the place of the one of that name if there is one.
    PutGroup(String, Value),
    /// Some fields of a group.
    UpdateGroup(String, Value),
    /// A group goes.
    RemoveGroup(String),
    /// One more target of a group.
    AddTarget(String, Value),
    /// The target at that address goes.
    RemoveTarget(String, String),
    /// A value, at a place that is named as in TOML.
    Set(String, Value),
}

impl Change {
    /// The change that a request of that method asks for, whose path is that behind its version; none if it asks
    /// for something else.
    ///
    /// # Errors
    /// When its body is no JSON.
    pub fn of(method: Method, path: &[&str], request: &Request) -> Result<Option<Change>> {
        use Method::{DELETE, PATCH, POST, PUT};
        let owned = |name: &str| name.to_owned();
        let change = match (method, path) {
            (POST, ["proxies"]) => Change::AddProxy(body(request)?),
            (PATCH, ["proxies", name]) => Change::UpdateProxy(owned(name), body(request)?),
            (DELETE, ["proxies", name]) => Change::RemoveProxy(owned(name)),
            (POST, ["proxies", name, "routes"]) => Change::AddRoute(owned(name), body(request)?),
            (DELETE, ["proxies", name, "routes", source]) => {
                Change::RemoveRoute(owned(name), owned(source))
            }
            (PUT, ["groups", name]) => Change::PutGroup(owned(name), body(request)?),
            (PATCH, ["groups", name]) => Change::UpdateGroup(owned(name), body(request)?),
            (DELETE, ["groups", name]) => Change::RemoveGroup(owned(name)),
            (POST, ["groups", name, "targets"]) => Change::AddTarget(owned(name), body(request)?),
            (DELETE, ["groups", name, "targets", place]) => {
                Change::RemoveTarget(owned(name), owned(place))
            }
            (PUT, ["values", path @ ..]) if !path.is_empty() => {
                Change::Set(place_of(path), body(request)?)
            }
            _ => return Ok(None),
        };
        Ok(Some(change))
    }

    /// Makes it, or leaves the document as it is.
    ///
    /// # Errors
    /// When what it names is not there, or it would make the configuration wrong.
    pub fn make(&self, document: &mut Document) -> std::result::Result<Effect, EditError> {
        match self {
            Change::AddProxy(proxy) => document.add_proxy(proxy),
            Change::UpdateProxy(name, fields) => document.update_proxy(name, fields),
            Change::RemoveProxy(name) => document.remove_proxy(name),
            Change::AddRoute(proxy, route) => document.add_route(proxy, route),
            Change::RemoveRoute(proxy, source) => document.remove_route(proxy, source),
            Change::PutGroup(name, group) => document.put_group(name, group),
            Change::UpdateGroup(name, fields) => document.update_group(name, fields),
            Change::RemoveGroup(name) => document.remove_group(name),
            Change::AddTarget(group, target) => document.add_target(group, target),
            Change::RemoveTarget(group, place) => document.remove_target(group, place),
            Change::Set(path, value) => document.set(path, value),
        }
    }
}

/// The place that these names lead to, as TOML has it: names that are no bare ones are quoted.
fn place_of(path: &[&str]) -> String {
    let is_bare = |it: char| it.is_ascii_alphanumeric() || matches!(it, '-' | '_');
    let names = path
        .iter()
        .map(|name| match !name.is_empty() && name.chars().all(is_bare) {
            true => (*name).to_owned(),
            false => json::write(&Value::from(*name)),
        });
    names.collect::<Vec<_>>().join(".")
}
