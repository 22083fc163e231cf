//! Walking over keys while others change the map.
//!
//! The kernel finds the next key by the last one, and starts over when that one is gone. A naive
//! walk that meets a deletion never ends, or sees keys twice without knowing. This one reads ahead
//! by one key, so that whoever walks may delete what was handed out, and makes sure that a key was
//! still there after its successor was asked for.

use crate::error::{Problem, Result};
use crate::handle::Handle;
use crate::map::{Map, unless};
use crate::plain::Plain;
use bpfsmith_uapi::{Cmd, Errno, MapType};
use zerocopy::IntoBytes;

/// How often a walk starts over before it gives up.
const RESTARTS: u32 = 8;
/// How many keys in a row may vanish before they are handed out.
const LOSSES: u32 = 1024;

/// The position of a walk.
pub(crate) struct Walk<'m, K> {
    handle: &'m Handle,
    place: Place<K>,
    /// The key handed out last.
    last: Option<K>,
    visited: u64,
    restarts: u32,
}

enum Place<K> {
    Start,
    Before(K),
    End,
}

/// How a walk learns that a key was there when its successor was found.
enum Proof {
    /// Keys never vanish.
    Needless,
    /// What is read with the key tells.
    Value,
    /// A lookup may find another key's value, or nothing may be looked up at all. A walk that starts
    /// over meets the first key again.
    First,
}

fn proof(kind: MapType) -> Proof {
    match kind {
        MapType::HASH
        | MapType::LRU_HASH
        | MapType::PERCPU_HASH
        | MapType::LRU_PERCPU_HASH
        | MapType::HASH_OF_MAPS
        | MapType::DEVMAP_HASH
        | MapType::CGROUP_STORAGE
        | MapType::PERCPU_CGROUP_STORAGE => Proof::Value,
        MapType::LPM_TRIE | MapType::SOCKHASH => Proof::First,
        _ => Proof::Needless,
    }
}

impl<'m, K: Plain> Walk<'m, K> {
    pub(crate) fn new(handle: &'m Handle) -> Walk<'m, K> {
        Walk {
            handle,
            place: Place::Start,
            last: None,
            visited: 0,
            restarts: 0,
        }
    }

    pub(crate) fn restarts(&self) -> u32 {
        self.restarts
    }

    fn after(&self, key: Option<&K>) -> Result<Option<K>> {
        let mut next = K::new_zeroed();
        let done = self
            .handle
            .raw()
            .next_key(key.map(IntoBytes::as_bytes), next.as_mut_bytes());
        match unless(done, Errno::ENOENT) {
            Ok(is_there) => Ok(is_there.then_some(next)),
            Err(failed) => Err(self.handle.failed(failed)),
        }
    }

    /// Whether `next` was found from `key` itself. `read` fetches what belongs to the key, and says
    /// whether it is there.
    fn is_proven(
        &self,
        next: Option<&K>,
        key: &K,
        read: &mut impl FnMut(&K) -> Result<bool>,
    ) -> Result<bool> {
        let is_there = read(key)?;
        match (proof(self.handle.facts().kind), next) {
            (Proof::Needless, _) | (Proof::First, None) => Ok(true),
            (Proof::Value, _) => Ok(is_there),
            (Proof::First, Some(next)) => {
                let first = self.after(None)?;
                Ok(first.is_none_or(|first| first.as_bytes() != next.as_bytes()))
            }
        }
    }

    /// The next key, for which `read` found something.
    pub(crate) fn advance(
        &mut self,
        mut read: impl FnMut(&K) -> Result<bool>,
    ) -> Option<Result<K>> {
        let step = self.step(&mut read).transpose();
        if !matches!(step, Some(Ok(_))) {
            self.place = Place::End;
        }
        step
    }

    fn step(&mut self, read: &mut impl FnMut(&K) -> Result<bool>) -> Result<Option<K>> {
        let mut lost = 0;
        loop {
            let key = match std::mem::replace(&mut self.place, Place::End) {
                Place::Start => match self.after(None)? {
                    Some(key) => key,
                    None => return Ok(None),
                },
                Place::Before(key) => key,
                Place::End => return Ok(None),
            };
            let next = self.after(Some(&key))?;
            if self.is_proven(next.as_ref(), &key, read)? {
                self.place = next.map_or(Place::End, Place::Before);
                self.visited += 1;
                self.last = Some(copy(&key));
                return Ok(Some(key));
            }
            lost += 1;
            self.find_way(read)?;
            if self.restarts > RESTARTS || lost > LOSSES {
                let visited = self.visited;
                let problem = Problem::Unsettled { visited };
                return Err(self.handle.problem(Cmd::MAP_GET_NEXT_KEY, problem));
            }
        }
    }

    /// Goes on behind the key handed out last, or starts over when that one is gone too.
    fn find_way(&mut self, read: &mut impl FnMut(&K) -> Result<bool>) -> Result<()> {
        if let Some(last) = self.last.take() {
            let next = self.after(Some(&last))?;
            if self.is_proven(next.as_ref(), &last, read)? {
                self.place = next.map_or(Place::End, Place::Before);
                self.last = Some(last);
                return Ok(());
            }
        }
        self.restarts += 1;
        self.place = Place::Start;
        Ok(())
    }
}

fn copy<K: Plain>(key: &K) -> K {
    let mut copy = K::new_zeroed();
    copy.as_mut_bytes().copy_from_slice(key.as_bytes());
    copy
}

/// The walk over [`Map::iter`]: keys with their values.
///
/// Each step makes two calls. Whoever walks may delete every key that was handed out. While others
/// delete, no key is handed out that is gone already, and the walk goes on behind the last key; only
/// when that one is gone as well it starts over. Then keys may come twice, and
/// [`restarts`](Entries::restarts) counts it; after 8 times the walk ends with
/// [`Problem::Unsettled`](crate::Problem::Unsettled). A key that stays all the time is never left
/// out, one that comes meanwhile may be.
pub struct Entries<'m, K, V> {
    map: &'m Map<K, V>,
    walk: Walk<'m, K>,
}

impl<'m, K: Plain, V: Plain> Entries<'m, K, V> {
    pub(crate) fn new(map: &'m Map<K, V>) -> Entries<'m, K, V> {
        Entries {
            map,
            walk: Walk::new(map),
        }
    }

    /// How often the walk had to start over until now.
    #[must_use]
    pub fn restarts(&self) -> u32 {
        self.walk.restarts()
    }
}

impl<K: Plain, V: Plain> Iterator for Entries<'_, K, V> {
    type Item = Result<(K, V)>;

    fn next(&mut self) -> Option<Result<(K, V)>> {
        loop {
            let mut value = V::new_zeroed();
            let mut is_there = false;
            let map = self.map;
            let key = self.walk.advance(|key| {
                is_there = map.lookup_into(key, &mut value)?;
                Ok(is_there)
            })?;
            match key {
                // Some elements of an array hold nothing, as those of a map of maps.
                Ok(_) if !is_there => {}
                Ok(key) => return Some(Ok((key, value))),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// The walk over [`Map::keys`]; like [`Entries`], whose values it drops.
pub struct Keys<'m, K, V>(Entries<'m, K, V>);

impl<'m, K: Plain, V: Plain> Keys<'m, K, V> {
    pub(crate) fn new(entries: Entries<'m, K, V>) -> Keys<'m, K, V> {
        Keys(entries)
    }

    /// How often the walk had to start over until now.
    #[must_use]
    pub fn restarts(&self) -> u32 {
        self.0.restarts()
    }
}

impl<K: Plain, V: Plain> Iterator for Keys<'_, K, V> {
    type Item = Result<K>;

    fn next(&mut self) -> Option<Result<K>> {
        Some(self.0.next()?.map(|(key, _)| key))
    }
}
