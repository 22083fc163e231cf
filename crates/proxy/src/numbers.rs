//! Numbers that listeners and backends have in the kernel, and keep.

use bpfsmith_datapath::IfIndex;
use bpfsmith_datapath::config::Protocol;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// Where somebody listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The first of its devices; none stands for all.
    pub device: Option<IfIndex>,
    /// The address; an unspecified one stands for all.
    pub address: SocketAddr,
    /// What is spoken there.
    pub protocol: Protocol,
}

/// Numbers end here: flows have 15 bits for one.
const END: u16 = 1 << 15;

/// Which numbers mean what. A number means the same as long as a flow may carry it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    listeners: Given<Place>,
    backends: Given<SocketAddr>,
}

impl Numbers {
    /// Those that were given out before, by another process.
    #[must_use]
    pub fn of(
        listeners: impl IntoIterator<Item = (Place, u16)>,
        backends: impl IntoIterator<Item = (SocketAddr, u16)>,
    ) -> Numbers {
        Numbers {
            listeners: listeners.into_iter().collect(),
            backends: backends.into_iter().collect(),
        }
    }

    /// The number of a listener; none if there are none left.
    pub fn listener(&mut self, place: Place) -> Option<u16> {
        self.listeners.to(place)
    }

    /// The number of a backend; none if there are none left.
    pub fn backend(&mut self, address: SocketAddr) -> Option<u16> {
        self.backends.to(address)
    }

    /// All backends that have numbers.
    pub fn backends(&self) -> impl Iterator<Item = (SocketAddr, u16)> + '_ {
        let numbers = self.backends.numbers.iter();
        numbers.map(|(address, number)| (*address, *number))
    }

    /// No flow carries these numbers of backends any more: they may be given out again.
    pub fn forget_backends(&mut self, are_gone: &BTreeSet<u16>) {
        self.backends.forget(are_gone);
    }
}

/// Numbers of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Given<K> {
    numbers: BTreeMap<K, u16>,
    taken: BTreeSet<u16>,
}

impl<K> Default for Given<K> {
    fn default() -> Given<K> {
        Given {
            numbers: BTreeMap::new(),
            taken: BTreeSet::new(),
        }
    }
}

impl<K: Ord> FromIterator<(K, u16)> for Given<K> {
    fn from_iter<I: IntoIterator<Item = (K, u16)>>(from: I) -> Given<K> {
        let numbers: BTreeMap<K, u16> = from.into_iter().collect();
        Given {
            taken: numbers.values().copied().collect(),
            numbers,
        }
    }
}

impl<K: Ord> Given<K> {
    /// The number that somebody has, or the first one behind the last, or a free one.
    fn to(&mut self, whom: K) -> Option<u16> {
        if let Some(number) = self.numbers.get(&whom) {
            return Some(*number);
        }
        let next = self.taken.last().map_or(0, |last| last + 1);
        let number = match next < END {
            true => next,
            false => (0..END).find(|number| !self.taken.contains(number))?,
        };
        self.taken.insert(number);
        self.numbers.insert(whom, number);
        Some(number)
    }

    fn forget(&mut self, are_gone: &BTreeSet<u16>) {
        self.numbers.retain(|_, number| !are_gone.contains(number));
        self.taken.retain(|number| !are_gone.contains(number));
    }
}
