//! Lists and sums of connections.

use crate::commands::words::{By, Sort};
use crate::error::Result;
use crate::feed::Told;
use crate::filter::{Filter, Named};
use crate::proxy::Proxy;
use crate::status;
use bpfsmith_config::Value;
use bpfsmith_datapath::config::Protocol;
use bpfsmith_datapath::event::{Traffic, What};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Which connections are asked for, and how.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Which ones.
    pub filter: Filter,
    /// In which order: the oldest first, or sums of most connections, where nobody says.
    pub sort: Option<Sort>,
    /// How many at most.
    pub limit: Option<usize>,
    /// Sums of them in place of each.
    pub by: Option<By>,
}

impl Query {
    /// What is asked for, as a table: how many there are, how many of them are open, and a list of them, or of sums.
    ///
    /// # Errors
    /// When the tables of connections cannot be read.
    pub fn answer(&self, proxy: &Proxy) -> Result<Value> {
        let mut found = proxy.connections(&self.filter)?;
        let most = self.limit.unwrap_or(usize::MAX);
        let open = found.iter().filter(|it| it.connection.state.is_open());
        let (count, open) = (found.len(), open.count());
        let list = match self.by {
            Some(by) => {
                let mut sums: Vec<(String, Sum)> = sums(&found, by).into_iter().collect();
                sums.sort_by_key(|(_, sum)| Reverse(sum.weight(self.sort)));
                let sums = sums.iter().take(most).map(|(name, sum)| sum.value(name));
                ("sums", Value::list(sums))
            }
            None => {
                sort(&mut found, self.sort.unwrap_or(Sort::Age));
                let list = found.iter().take(most);
                let list = list.map(|it| status::connection(&it.connection, it.proxy.as_deref()));
                ("list", Value::list(list))
            }
        };
        Ok(Value::table([
            ("connections", count.into()),
            ("open", open.into()),
            list,
        ]))
    }
}

/// Puts connections in order.
pub fn sort(connections: &mut [Named], order: Sort) {
    connections.sort_by_key(|it| Reverse(weight(it, order)));
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
    /// How many of them are not over.
    pub open: u64,
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

    const fn add(&mut self, is_open: bool, there: Traffic, back: Traffic) {
        self.connections += 1;
        self.open += is_open as u64;
        self.there.packets = self.there.packets.saturating_add(there.packets);
        self.there.bytes = self.there.bytes.saturating_add(there.bytes);
        self.back.packets = self.back.packets.saturating_add(back.packets);
        self.back.bytes = self.back.bytes.saturating_add(back.bytes);
    }

    fn value(&self, name: &str) -> Value {
        Value::table([
            ("name", name.into()),
            ("connections", self.connections.into()),
            ("open", self.open.into()),
            ("there", status::traffic(self.there)),
            ("back", status::traffic(self.back)),
        ])
    }
}

/// What connections of each source, target, proxy or listener add up to. Those of a listener that is not there any more
/// are at `-`.
#[must_use]
pub fn sums(connections: &[Named], by: By) -> BTreeMap<String, Sum> {
    let mut sums: BTreeMap<String, Sum> = BTreeMap::new();
    for named in connections {
        let it = &named.connection;
        let name = Whose {
            client: it.client.ip(),
            target: it.target,
            proxy: named.proxy.as_deref(),
            listener: named.listener,
            protocol: it.protocol,
        };
        let sum = sums.entry(name.of(by)).or_default();
        sum.add(it.state.is_open(), it.there, it.back);
    }
    sums
}

/// What connections add up to that ended, as events tell of them: exact, however short they were.
#[must_use]
pub fn ended<'a>(events: impl IntoIterator<Item = &'a Told>, by: By) -> BTreeMap<String, Sum> {
    let mut sums: BTreeMap<String, Sum> = BTreeMap::new();
    for told in events {
        let What::Closed(flow, _) = told.event.what else {
            continue;
        };
        let name = Whose {
            client: told.event.client.ip(),
            target: flow.target,
            proxy: told.proxy.as_deref(),
            listener: told.listener,
            protocol: told.event.protocol,
        };
        let sum = sums.entry(name.of(by)).or_default();
        sum.add(false, flow.there, flow.back);
    }
    sums
}

/// Whose a connection is.
struct Whose<'a> {
    client: IpAddr,
    target: SocketAddr,
    proxy: Option<&'a str>,
    listener: Option<SocketAddr>,
    protocol: Protocol,
}

impl Whose<'_> {
    fn of(&self, by: By) -> String {
        let gone = || "-".to_owned();
        match by {
            By::Source => self.client.to_string(),
            By::Target => self.target.to_string(),
            By::Proxy => self.proxy.map_or_else(gone, str::to_owned),
            By::Listener => self.listener.map_or_else(gone, |listener| {
                format!("{listener}/{}", status::protocol(self.protocol))
            }),
        }
    }
}
