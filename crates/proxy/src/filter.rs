//! [`Filter`]: which connections are meant.

use crate::plan::Plan;
use bpfsmith_datapath::Prefix;
use bpfsmith_datapath::config::Protocol;
use bpfsmith_datapath::connections::{Connection, State};
use std::net::{IpAddr, SocketAddr};

/// Which connections are meant; all of it has to be true.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Those of this protocol.
    pub protocol: Option<Protocol>,
    /// Those from these clients.
    pub client: Option<Prefix>,
    /// Those from this port.
    pub client_port: Option<u16>,
    /// Those to this address that clients ask for, at any port if none is named.
    pub service: Option<(IpAddr, Option<u16>)>,
    /// Those to a target at this address, at any port if none is named.
    pub target: Option<(IpAddr, Option<u16>)>,
    /// Those to this proxy.
    pub proxy: Option<String>,
    /// Those that stand so.
    pub state: Option<State>,
    /// Those that are not over: closed and reset ones are remembered for a while.
    pub is_open: bool,
}

/// What no two connections have in common at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// What they speak.
    pub protocol: Protocol,
    /// Who began.
    pub client: SocketAddr,
    /// Where to.
    pub service: SocketAddr,
}

/// A connection, and what it came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// The proxy, if its listener is there still.
    pub proxy: Option<String>,
    /// Where the listener is; an unspecified address stands for all.
    pub listener: Option<SocketAddr>,
    /// The connection.
    pub connection: Connection,
}

impl From<Key> for Filter {
    fn from(key: Key) -> Filter {
        Filter {
            protocol: Some(key.protocol),
            client: Some(Prefix::host(key.client.ip())),
            client_port: Some(key.client.port()),
            service: Some((key.service.ip(), Some(key.service.port()))),
            ..Filter::default()
        }
    }
}

impl Named {
    pub(crate) fn new(plan: &Plan, connection: Connection) -> Named {
        let number = connection.listener;
        let listening = number.and_then(|number| plan.listening(number));
        Named {
            proxy: listening.map(|it| it.proxy.clone()),
            listener: listening.map(|it| it.address),
            connection,
        }
    }
}

impl Filter {
    /// The connection that is meant, if it can be but one.
    pub(crate) fn key(&self) -> Option<Key> {
        let (service, service_port) = self.service?;
        let client = self.client?;
        let one = Prefix::host(client.addr());
        (client == one).then_some(Key {
            protocol: self.protocol?,
            client: SocketAddr::new(client.addr(), self.client_port?),
            service: SocketAddr::new(service, service_port?),
        })
    }

    pub(crate) fn has(&self, named: &Named) -> bool {
        let it = &named.connection;
        let is = |wanted: Option<bool>| wanted.unwrap_or(true);
        let at = |place: SocketAddr, (ip, port): (IpAddr, Option<u16>)| {
            place.ip() == ip && port.is_none_or(|port| place.port() == port)
        };
        is(self.protocol.map(|protocol| it.protocol == protocol))
            && is(self.client.map(|prefix| prefix.contains(it.client.ip())))
            && is(self.client_port.map(|port| it.client.port() == port))
            && is(self.service.map(|place| at(it.service, place)))
            && is(self.target.map(|place| at(it.target, place)))
            && (!self.is_open || it.state.is_open())
            && is(self
                .proxy
                .as_ref()
                .map(|proxy| named.proxy.as_ref() == Some(proxy)))
            && is(self.state.map(|state| it.state == state))
    }
}
