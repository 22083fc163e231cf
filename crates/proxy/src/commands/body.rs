//! What options say, as tables in the form of a configuration.

use super::parse::{Answer, Offer, RouteAdd, TargetAdd};
use bpfsmith_config::Value;

impl Offer {
    /// The proxy as a configuration has it: only what was said, so that it is a whole proxy for `add` and what
    /// changes for `update`.
    #[must_use]
    pub fn value(&self, name: Option<&str>) -> Value {
        let mut entries: Vec<(&str, Value)> = Vec::new();
        entries.extend(name.map(|it| ("name", it.into())));
        entries.extend(self.port.map(|it| ("port", it.into())));
        entries.extend(list("address", self.addresses.iter().map(Value::shown)));
        let devices = self.devices.iter().map(|it| it.as_str().into());
        entries.extend(list("devices", devices));
        let protocols = self.protocols.iter().map(|it| it.word().into());
        entries.extend(list("protocol", protocols));
        entries.extend(self.answer.entries());
        Value::table(entries)
    }
}

impl Answer {
    /// Entries of a table that something answers.
    fn entries(&self) -> Vec<(&'static str, Value)> {
        let mut entries: Vec<(&str, Value)> = Vec::new();
        entries.extend(self.group.as_deref().map(|it| ("group", it.into())));
        let targets = self.targets.iter().map(|(place, weight)| match weight {
            1 => Value::shown(place),
            weight => target(place, *weight),
        });
        entries.extend(list("targets", targets));
        entries.extend(self.algorithm.map(|it| ("algorithm", it.word().into())));
        entries.extend(self.nat.map(|it| ("nat", it.word().into())));
        entries
    }
}

impl RouteAdd {
    /// The route as a configuration has it.
    #[must_use]
    pub fn value(&self) -> Value {
        let source = ("source", Value::shown(&self.source));
        Value::table([source].into_iter().chain(self.answer.entries()))
    }
}

impl TargetAdd {
    /// The target as a configuration has it.
    #[must_use]
    pub fn value(&self) -> Value {
        target(&self.place, self.weight)
    }
}

fn target(place: &bpfsmith_config::desired::Place, weight: u32) -> Value {
    Value::table([
        ("address", Value::shown(place)),
        ("weight", weight.into()),
    ])
}

/// An entry of that name, if there is anything in the list.
fn list(name: &'static str, values: impl Iterator<Item = Value>) -> Option<(&'static str, Value)> {
    let values: Vec<Value> = values.collect();
    (!values.is_empty()).then(|| (name, Value::list(values)))
}
