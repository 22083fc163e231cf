//! Lists and sums of connections.

use crate::commands::words::{By, Sort};
use crate::error::Result;
use crate::proxy::{Filter, Named, Proxy};
use crate::status;
use bpfsmith_config::Value;
use bpfsmith_datapath::event::Traffic;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Which connections are asked for, and how.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Which ones.
    pub filter: Filter,
    /// In which order.
    pub sort: Option<Sort>,
    /// How many at most.
    pub limit: Option<usize>,
    /// Sums of them in place of each.
    pub by: Option<By>,
}

impl Query {
    /// What is asked for, as a table: how many there are, and a list of them, or of sums.
    ///
    /// # Errors
    /// When the tables of connections cannot be read.
    pub fn answer(&self, proxy: &Proxy) -> Result<Value> {
        let mut found = proxy.connections(&self.filter)?;
        let count = found.len();
        let most = self.limit.unwrap_or(usize::MAX);
        if let Some(by) = self.by {
            let mut sums: Vec<(String, Sum)> = sums(&found, by).into_iter().collect();
            sums.sort_by_key(|(_, sum)| Reverse(sum.weight(self.sort)));
            let sums = sums.iter().take(most).map(|(name, sum)| sum.value(name));
            return Ok(Value::table([
                ("connections", count.into()),
                ("sums", Value::list(sums)),
            ]));
        }
        if let Some(order) = self.sort {
            found.sort_by_key(|it| Reverse(weight(it, order)));
        }
        let list = found.iter().take(most);
        let list = list.map(|it| status::connection(&it.connection, it.proxy.as_deref()));
        Ok(Value::table([
            ("connections", count.into()),
            ("list", Value::list(list)),
        ]))
    }
}

/// What an order looks at.
fn weight(named: &Named, order: Sort) -> u128 {
    let it = &named.connection;
    match order {
        Sort::Age => it.age.as_nanos(),
        Sort::Idle => it.idle.as_nanos(),
        Sort::Bytes => u128::from(it.there.bytes) + u128::from(it.back.bytes),
        Sort::Packets => u128::from(it.there.packets) + u128::from(it.back.packets),
    }
}

/// What connections add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many they are.
    pub connections: u64,
    /// What went to targets.
    pub there: Traffic,
    /// What came back.
    pub back: Traffic,
}

impl Sum {
    const fn weight(&self, order: Option<Sort>) -> u64 {
        match order {
            Some(Sort::Bytes) => self.there.bytes.saturating_add(self.back.bytes),
            Some(Sort::Packets) => self.there.packets.saturating_add(self.back.packets),
            _ => self.connections,
        }
    }

    fn value(&self, name: &str) -> Value {
        Value::table([
            ("name", name.into()),
            ("connections", self.connections.into()),
            ("there", status::traffic(self.there)),
            ("back", status::traffic(self.back)),
        ])
    }
}

/// What connections of each source, target or proxy add up to.
#[must_use]
pub fn sums(connections: &[Named], by: By) -> BTreeMap<String, Sum> {
    let mut sums: BTreeMap<String, Sum> = BTreeMap::new();
    for named in connections {
        let it = &named.connection;
        let name = match by {
            By::Source => it.client.ip().to_string(),
            By::Target => it.target.to_string(),
            By::Proxy => named.proxy.clone().unwrap_or_else(|| "-".to_owned()),
        };
        let sum = sums.entry(name).or_default();
        sum.connections += 1;
        for (sum, more) in [
            (&mut sum.there, it.there),
            (&mut sum.back, it.back),
        ] {
            sum.packets = sum.packets.saturating_add(more.packets);
            sum.bytes = sum.bytes.saturating_add(more.bytes);
        }
    }
    sums
}
