//! The tables of flows, as user space sees them.
//!
//! [`Flows`] is a copy of a table, with the same rules for where an entry stands as the programs have: to
//! list what there is, to look one flow up, and to put a table back that nobody uses meanwhile.

use crate::config::Room;
use crate::error::Result;
use crate::layout::{Bucket4, Bucket6, Flow4, Flow6, Key4, Key6, PLACES, Secret, Tag};
use crate::shape::{Path, SECRET};
use bpfsmith_maps::{Map, Mapped, View};
use bpfsmith_prog::Maps;
use bpfsmith_sys::mmap::Read;
use bpfsmith_uapi::map::MapDef;
use std::fmt::Debug;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A bucket of one family.
pub trait Bucket:
    Copy + Default + Debug + FromBytes + IntoBytes + Immutable + Send + 'static
{
    /// How packets arrive.
    type Key: Copy + Eq + Debug + Default + FromBytes + IntoBytes + Immutable;
    /// What becomes of them.
    type Flow: Copy + Debug + Default + FromBytes + IntoBytes + Immutable;

    /// What is known of each entry.
    fn tags(&self) -> &[u32; PLACES];
    /// The same, to be changed.
    fn tags_mut(&mut self) -> &mut [u32; PLACES];
    /// The entry at a place, whether there is one or not.
    fn entry(&self, place: usize) -> (Self::Key, Self::Flow);
    /// Writes the entry at a place.
    fn write(&mut self, place: usize, key: &Self::Key, flow: &Self::Flow);
}

macro_rules! buckets {
    ($($bucket:ident, $key:ident, $flow:ident, $bytes:literal;)+) => {$(
        impl Bucket for $bucket {
            type Key = $key;
            type Flow = $flow;

            fn tags(&self) -> &[u32; PLACES] {
                &self.tags
            }

            fn tags_mut(&mut self) -> &mut [u32; PLACES] {
                &mut self.tags
            }

            fn entry(&self, place: usize) -> ($key, $flow) {
                let mut key = $key {
                    ports: self.ports[place],
                    ..$key::default()
                };
                let (saddr, daddr) = self.addresses[place].split_at($bytes);
                key.saddr.copy_from_slice(saddr);
                key.daddr.copy_from_slice(daddr);
                (key, self.flows[place])
            }

            fn write(&mut self, place: usize, key: &$key, flow: &$flow) {
                self.ports[place] = key.ports;
                let (saddr, daddr) = self.addresses[place].split_at_mut($bytes);
                saddr.copy_from_slice(&key.saddr);
                daddr.copy_from_slice(&key.daddr);
                self.flows[place] = *flow;
            }
        }
    )+};
}

buckets! {
    Bucket4, Key4, Flow4, 4;
    Bucket6, Key6, Flow6, 16;
}

/// Where a key may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hash {
    buckets: [usize; 2],
    /// Where in a bucket the search begins.
    begin: usize,
    /// What its tag has above the lower bits.
    tag: u32,
}

/// A copy of a table of flows.
#[derive(Clone, Debug)]
pub struct Flows<B> {
    secret: Secret,
    buckets: Vec<B>,
}

impl<B: Bucket> Flows<B> {
    /// An empty table of so many buckets, at least one, which hashes by those numbers.
    #[must_use]
    pub fn new(buckets: usize, secret: Secret) -> Flows<B> {
        Flows {
            secret,
            buckets: vec![B::default(); buckets.max(1)],
        }
    }

    /// A copy of the table that packets of that path use now. Entries change while it is made: each is as
    /// it was at some time, or half of two times.
    ///
    /// # Errors
    /// When a map is not among these, or cannot be read.
    pub fn read(maps: &Maps, path: Path) -> Result<Flows<B>>
    where
        Map<u32, B>: View<MapDef<u32, B>>,
    {
        let Live { secret, table } = Live::open(maps, path)?;
        Ok(Flows {
            secret,
            buckets: (0..table.len()).filter_map(|at| table.load(at)).collect(),
        })
    }

    fn map(maps: &Maps, path: Path) -> Result<Map<u32, B>>
    where
        Map<u32, B>: View<MapDef<u32, B>>,
    {
        let table = path.flows(Room::default());
        Ok(Map::view(maps.handle(table.name)?)?)
    }

    /// Puts the copy in the table's place. No program may use the table meanwhile.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn write(&self, maps: &Maps, path: Path) -> Result<()>
    where
        Map<u32, B>: View<MapDef<u32, B>>,
    {
        let keys: Vec<u32> = (0..).take(self.buckets.len()).collect();
        Flows::<B>::map(maps, path)?.update_many(&keys, &self.buckets)?;
        Ok(())
    }

    /// What is known of the entry of that key before it is looked at, where it is and makes no room for others.
    #[must_use]
    pub fn tag(&self, key: &B::Key) -> Tag {
        Tag(self.hash(key).tag << Tag::HASH)
    }

    /// All entries: how packets arrive, what becomes of them.
    pub fn iter(&self) -> impl Iterator<Item = (B::Key, B::Flow)> + '_ {
        self.buckets.iter().flat_map(|bucket| {
            let tags = bucket.tags().iter().enumerate();
            tags.filter(|(_, tag)| Tag(**tag).is_used())
                .map(|(place, _)| bucket.entry(place))
        })
    }

    /// What becomes of packets that arrive so.
    #[must_use]
    pub fn find(&self, key: &B::Key) -> Option<B::Flow> {
        let (bucket, place) = self.place(key)?;
        Some(self.buckets[bucket].entry(place).1)
    }

    /// From now on that becomes of packets that arrive so, if anything did.
    pub fn change(&mut self, key: &B::Key, flow: &B::Flow) -> bool {
        let place = self.place(key);
        if let Some((bucket, place)) = place {
            self.buckets[bucket].write(place, key, flow);
        }
        place.is_some()
    }

    /// Enters a key that does not make room for others; false if there is no room for it, or it is there.
    pub fn enter(&mut self, key: &B::Key, flow: &B::Flow) -> bool {
        if self.place(key).is_some() {
            return false;
        }
        let hash = self.hash(key);
        let nearest = hash.buckets.into_iter().filter_map(|number| {
            let tags = self.buckets[number].tags();
            let mut far = places(hash.begin).enumerate();
            let (far, place) = far.find(|(_, place)| tags[*place] == 0)?;
            Some((far, number, place))
        });
        let Some((_, number, place)) = nearest.min_by_key(|(far, ..)| *far) else {
            return false;
        };
        let bucket = &mut self.buckets[number];
        bucket.tags_mut()[place] = hash.tag << Tag::HASH;
        bucket.write(place, key, flow);
        true
    }

    /// Nothing becomes any more of packets that arrive so; false if nothing did.
    pub fn erase(&mut self, key: &B::Key) -> bool {
        let place = self.place(key);
        if let Some((bucket, place)) = place {
            self.buckets[bucket].tags_mut()[place] = 0;
        }
        place.is_some()
    }

    /// Nothing becomes any more of any packet.
    pub fn clear(&mut self) {
        self.buckets.fill(B::default());
    }

    fn place(&self, key: &B::Key) -> Option<(usize, usize)> {
        let hash = self.hash(key);
        let mut buckets = hash.buckets.into_iter();
        buckets.find_map(|number| Some((number, hash.place(&self.buckets[number], key)?)))
    }

    fn hash(&self, key: &B::Key) -> Hash {
        Hash::of(key, self.buckets.len(), &self.secret)
    }
}

/// A table of flows where it is: for few of its entries.
#[derive(Debug)]
pub struct Live<B> {
    secret: Secret,
    table: Mapped<B, Read>,
}

impl<B: Bucket> Live<B>
where
    Map<u32, B>: View<MapDef<u32, B>>,
{
    /// The table that packets of that path use now.
    ///
    /// # Errors
    /// When a map is not among these, or cannot be read.
    pub fn open(maps: &Maps, path: Path) -> Result<Live<B>> {
        let secrets: Map<u32, Secret> = maps.open(&SECRET)?;
        Ok(Live {
            secret: secrets.lookup(&0)?.unwrap_or_default(),
            table: Flows::<B>::map(maps, path)?.mapped_to_read()?,
        })
    }

    /// What becomes now of packets that arrive so.
    #[must_use]
    pub fn find(&self, key: &B::Key) -> Option<B::Flow> {
        let hash = Hash::of(key, self.table.len(), &self.secret);
        hash.buckets.into_iter().find_map(|number| {
            let bucket: B = self.table.load(number)?;
            Some(bucket.entry(hash.place(&bucket, key)?).1)
        })
    }
}

impl Hash {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "what is above is not looked at"
    )]
    fn of<K: IntoBytes + Immutable>(key: &K, count: usize, secret: &Secret) -> Hash {
        let words = key.as_bytes().chunks_exact(4);
        let words = words.map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
        let sum = words.zip(*secret).fold(0_u64, |sum, (word, number)| {
            sum.wrapping_add(u64::from(word).wrapping_mul(number))
        });
        let [.., last] = *secret;
        let mixed = (sum ^ (sum >> 32)).wrapping_mul(last);
        let share = |hash: u32, count: usize| ((u64::from(hash) * count as u64) >> 32) as usize;
        let first = share(mixed as u32, count);
        let second = first + 1 + share((mixed >> 9) as u32, count - 1);
        Hash {
            buckets: [first, second % count],
            begin: (mixed >> 41) as usize,
            tag: (mixed >> (64 - Tag::HASH_BITS)) as u32 | 1 << Tag::HASH_BITS | 1,
        }
    }

    /// Where that key is in a bucket.
    fn place<B: Bucket>(&self, bucket: &B, key: &B::Key) -> Option<usize> {
        places(self.begin).find(|place| {
            bucket.tags()[*place] >> Tag::HASH == self.tag && bucket.entry(*place).0 == *key
        })
    }
}

/// The places of a bucket, from one on.
fn places(begin: usize) -> impl Iterator<Item = usize> {
    (0..PLACES).map(move |step| begin.wrapping_add(step) % PLACES)
}
