//! Rules as plain Rust: what a packet comes to, and which entries make the kernel find the same.

use crate::binding::{Binding, Ports, Protocol};
use crate::layout::{Block, Entry, Kind, RuleKey, blocks, rank};
use crate::levels::Levels;
use bpfsmith_net::Prefix;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Whose a binding's packets are, and where they are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) service: u32,
    pub(crate) counter: u32,
}

/// What a group of bindings has in common whose entries may be the same.
type Place = (Kind, Prefix);

/// All bindings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    places: BTreeMap<Place, BTreeMap<Ports, Owner>>,
    levels: Levels,
}

fn place(binding: &Binding) -> Place {
    (Kind::of(binding), binding.prefix())
}

impl Table {
    /// All of them, by kind, prefix and ports.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Binding, Owner)> + '_ {
        self.places.iter().flat_map(|((kind, prefix), at)| {
            at.iter().filter_map(|(ports, owner)| {
                let binding = Binding::new(kind.protocol(), *prefix, *ports).ok()?;
                Some((binding, *owner))
            })
        })
    }

    pub(crate) fn owner(&self, binding: &Binding) -> Option<Owner> {
        self.places
            .get(&place(binding))?
            .get(&binding.ports())
            .copied()
    }

    /// Adds a binding or gives it another owner; the former one.
    pub(crate) fn insert(&mut self, binding: &Binding, owner: Owner) -> Option<Owner> {
        let at = self.places.entry(place(binding)).or_default();
        let former = at.insert(binding.ports(), owner);
        if former.is_none() {
            self.levels.add(Kind::of(binding), binding.ports());
        }
        former
    }

    pub(crate) fn remove(&mut self, binding: &Binding) -> Option<Owner> {
        let at = self.places.get_mut(&place(binding))?;
        let former = at.remove(&binding.ports())?;
        if at.is_empty() {
            self.places.remove(&place(binding));
        }
        self.levels.remove(Kind::of(binding), binding.ports());
        Some(former)
    }

    /// The binding that a packet comes to. This is what the entries and the program must agree with.
    pub(crate) fn find(
        &self,
        protocol: Protocol,
        address: IpAddr,
        port: u16,
    ) -> Option<(Binding, Owner)> {
        let is_meant = |(binding, _): &(Binding, Owner)| {
            binding.protocol() == protocol && binding.covers(address, port)
        };
        self.iter()
            .filter(is_meant)
            .max_by_key(|(binding, _)| rank(binding))
    }

    /// The entries that a binding has or would have: its own one and those of its blocks, whoever holds
    /// them.
    pub(crate) fn entries_of(&self, binding: &Binding) -> BTreeMap<RuleKey, Entry> {
        let (own, wanted) = (binding.ports(), blocks(binding.ports()).collect());
        let Some(at) = self.places.get(&place(binding)) else {
            return BTreeMap::new();
        };
        // Those that begin behind it or end before it have none of its blocks.
        let near = at
            .range(..=Ports::last_from(own.last()))
            .filter(|(ports, _)| ports.last() >= own.first());
        let mut all = entries(place(binding), near, Some(&wanted));
        let key = RuleKey::binding(binding);
        all.retain(|other, _| *other == key || other.is_block());
        all
    }

    /// All entries.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (RuleKey, Entry)> + '_ {
        self.places
            .iter()
            .flat_map(|(place, at)| entries(*place, at.iter(), None))
    }

    /// For each kind and each 256 ports, the sizes of blocks in use.
    pub(crate) fn levels(&self) -> Vec<u32> {
        self.levels.bits().to_vec()
    }
}

/// Where several bindings have a block of the same ports, the one with the highest rank has it.
fn entries<'a>(
    (kind, prefix): Place,
    at: impl Iterator<Item = (&'a Ports, &'a Owner)>,
    only: Option<&BTreeSet<Block>>,
) -> BTreeMap<RuleKey, Entry> {
    let mut all: BTreeMap<RuleKey, Entry> = BTreeMap::new();
    for (ports, owner) in at {
        let Ok(binding) = Binding::new(kind.protocol(), prefix, *ports) else {
            continue;
        };
        let entry = Entry {
            rank: rank(&binding),
            service: owner.service,
            counter: owner.counter,
        };
        all.insert(RuleKey::binding(&binding), entry);
        let is_wanted = |block: &Block| only.is_none_or(|only| only.contains(block));
        for block in blocks(*ports).filter(is_wanted) {
            let held = all.entry(RuleKey::block(&binding, block)).or_insert(entry);
            if held.rank < entry.rank {
                *held = entry;
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::{Owner, Table};
    use crate::binding::{Binding, Ports, Protocol};
    use crate::layout::{Kind, RuleKey};
    use bpfsmith_net::Prefix;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::net::{IpAddr, Ipv4Addr};

    fn owner(n: u32) -> Owner {
        Owner {
            service: n,
            counter: n,
        }
    }

    fn bindings() -> impl Strategy<Value = Vec<Binding>> {
        let address = prop_oneof![
            Just(0x0a00_0000_u32),
            Just(0x0a00_0080),
            any::<u32>()
        ];
        let ports = (0_u16..70, 0_u16..70).prop_map(|(a, b)| (a.min(b), a.max(b)));
        let one = (any::<bool>(), address, 0_u8..=32, ports);
        prop::collection::vec(one, 0..40).prop_map(|all| {
            let made = all.into_iter().map(|(udp, address, bits, (first, last))| {
                let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
                let address = IpAddr::V4(Ipv4Addr::from_bits(address));
                let prefix = Prefix::new(address, bits).unwrap();
                Binding::new(protocol, prefix, Ports::new(first..=last).unwrap()).unwrap()
            });
            made.collect()
        })
    }

    /// What the program does: a longest prefix for each size of blocks in use, the best of them.
    fn as_the_program(
        table: &Table,
        protocol: Protocol,
        address: IpAddr,
        port: u16,
    ) -> Option<u32> {
        let entries: HashMap<_, _> = table.entries().collect();
        let levels = table.levels();
        let kind = Kind::new(protocol, address);
        let at = kind.number() as usize * 256 + usize::from(port >> 8);
        let found = (0..=16_u32).filter(|level| levels[at] >> level & 1 == 1);
        let found = found.filter_map(|level| {
            let first = u16::try_from((u32::from(port) >> level) << level).unwrap();
            (0..=32).rev().find_map(|bits| {
                let prefix = Prefix::new(address, bits).unwrap();
                let binding = Binding::new(protocol, prefix, 0).unwrap();
                let block = crate::layout::Block {
                    level: u8::try_from(level).unwrap(),
                    first,
                };
                entries.get(&RuleKey::block(&binding, block))
            })
        });
        found
            .max_by_key(|entry| entry.rank)
            .map(|entry| entry.counter)
    }

    proptest! {
        #[test]
        fn entries_say_what_rules_say(
            all in bindings(),
            gone in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
            packets in prop::collection::vec((any::<bool>(), 0_u16..80, 0_u8..=255), 20),
        ) {
            let mut table = Table::default();
            for (n, binding) in (0..).zip(&all) {
                table.insert(binding, owner(n));
            }
            for index in gone {
                if !all.is_empty() {
                    table.remove(index.get(&all));
                }
            }
            for (udp, port, last) in packets {
                let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
                let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
                let right = table.find(protocol, address, port).map(|(_, owner)| owner.counter);
                prop_assert_eq!(as_the_program(&table, protocol, address, port), right);
            }
        }

        #[test]
        fn a_change_touches_its_blocks_alone(all in bindings(), one in any::<prop::sample::Index>()) {
            prop_assume!(!all.is_empty());
            let mut table = Table::default();
            for (n, binding) in (0..).zip(&all) {
                table.insert(binding, owner(n));
            }
            let one = one.get(&all);
            let mut entries: HashMap<_, _> = table.entries().collect();
            for key in table.entries_of(one).keys() {
                entries.remove(key);
            }
            table.remove(one);
            entries.extend(table.entries_of(one));
            prop_assert_eq!(entries, table.entries().collect());
        }
    }

    #[test]
    fn a_change_looks_at_its_own_entries_however_many_there_are() {
        let mut table = Table::default();
        let at = |ports: &str| -> Binding { format!("tcp 10.0.0.0/8 {ports}").parse().unwrap() };
        for (n, port) in (0..).zip(1..1000) {
            table.insert(&at(&port.to_string()), owner(n));
        }
        assert_eq!(table.entries_of(&at("80")).len(), 2, "itself and its block");
        assert_eq!(table.entries_of(&at("2000")).len(), 0);
        table.insert(&at("0-1023"), owner(2000));
        assert_eq!(table.entries_of(&at("80")).len(), 2);
        let block = table.entries_of(&at("0-1023"));
        assert!(block.values().all(|entry| entry.service == 2000));
    }
}
