//! Maps as values: a typed definition, and the shape that remains of it in a program.

use crate::MapType;
use crate::record::{Described, Type};
use std::fmt;
use std::marker::PhantomData;

/// The name of a kernel object: 1 to 15 bytes of `A-Za-z0-9_.`, as the kernel demands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name([u8; 16]);

impl Name {
    /// The name, or `None` if the kernel would refuse it.
    #[must_use]
    pub const fn new(name: &str) -> Option<Name> {
        let from = name.as_bytes();
        if from.is_empty() || from.len() > 15 {
            return None;
        }
        let mut to = [0; 16];
        let mut i = 0;
        while i < from.len() {
            let b = from[i];
            if !(b.is_ascii_alphanumeric() || b == b'_' || b == b'.') {
                return None;
            }
            to[i] = b;
            i += 1;
        }
        Some(Name(to))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let end = self.0.iter().position(|&b| b == 0).unwrap_or(16);
        std::str::from_utf8(&self.0[..end]).unwrap_or_default()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// What the kernel needs to know to create a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapShape {
    /// What it is called.
    pub name: Name,
    /// How it stores.
    pub kind: MapType,
    /// Bytes of a key.
    pub key: u32,
    /// Bytes of a value.
    pub value: u32,
    /// How many entries it holds at most.
    pub entries: u32,
    /// `BPF_F_…` creation flags.
    pub flags: u32,
    /// What single types take besides: the number of hashes of a bloom filter, the address of an
    /// arena. Linux 5.16.
    pub extra: u64,
    /// What the bytes of a key mean, where that is told to the kernel.
    pub key_type: Option<Type>,
    /// What the bytes of a value mean, where that is told to the kernel.
    pub value_type: Option<Type>,
    /// The shape of the maps inside, for maps of maps.
    pub inner: Option<&'static MapShape>,
}

impl MapShape {
    /// A shape without flags, descriptions or inner maps.
    #[must_use]
    pub const fn new(kind: MapType, name: Name, key: u32, value: u32, entries: u32) -> MapShape {
        MapShape {
            name,
            kind,
            key,
            value,
            entries,
            flags: 0,
            extra: 0,
            key_type: None,
            value_type: None,
            inner: None,
        }
    }
}

/// A map whose keys are `K` and whose values are `V`: the datapath refers to it, the control plane
/// opens it with the same types.
pub struct MapDef<K, V> {
    shape: MapShape,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Clone for MapDef<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for MapDef<K, V> {}

impl<K, V> fmt::Debug for MapDef<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shape.fmt(f)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the sizes are compared with u32::MAX first"
)]
const fn size<T>() -> u32 {
    assert!(
        size_of::<T>() <= u32::MAX as usize,
        "a map's key or value is larger than 4 GB"
    );
    size_of::<T>() as u32
}

impl<K, V> MapDef<K, V> {
    /// A map of any kind.
    ///
    /// # Panics
    /// If the name is not 1 to 15 bytes of `A-Za-z0-9_.`; a `static` does not compile then.
    #[must_use]
    pub const fn new(kind: MapType, name: &str, entries: u32) -> MapDef<K, V> {
        let Some(name) = Name::new(name) else {
            panic!("a map's name is 1 to 15 bytes of A-Za-z0-9_.");
        };
        let shape = MapShape::new(kind, name, size::<K>(), size::<V>(), entries);
        MapDef {
            shape,
            types: PhantomData,
        }
    }

    /// Any key, any order.
    #[must_use]
    pub const fn hash(name: &str, entries: u32) -> MapDef<K, V> {
        MapDef::new(MapType::HASH, name, entries)
    }

    /// Any key; the entry that was not used for the longest time makes room.
    #[must_use]
    pub const fn lru_hash(name: &str, entries: u32) -> MapDef<K, V> {
        MapDef::new(MapType::LRU_HASH, name, entries)
    }

    /// Any key; each CPU has a value of its own.
    #[must_use]
    pub const fn percpu_hash(name: &str, entries: u32) -> MapDef<K, V> {
        MapDef::new(MapType::PERCPU_HASH, name, entries)
    }

    /// The longest prefix that matches; `K` starts with its length in bits as a host-order `u32`.
    #[must_use]
    pub const fn lpm_trie(name: &str, entries: u32) -> MapDef<K, V> {
        /// `BPF_F_NO_PREALLOC`, which this type demands.
        const NO_PREALLOC: u32 = 1;
        MapDef::new(MapType::LPM_TRIE, name, entries).flags(NO_PREALLOC)
    }

    /// The same map with these creation flags.
    #[must_use]
    pub const fn flags(mut self, flags: u32) -> MapDef<K, V> {
        self.shape.flags = flags;
        self
    }

    /// The same map of maps, with the shape of those inside.
    #[must_use]
    pub const fn inner(mut self, shape: &'static MapShape) -> MapDef<K, V> {
        self.shape.inner = Some(shape);
        self
    }

    /// The same map with the number that its type takes besides: the hashes of a bloom filter, the
    /// address of an arena. Linux 5.16.
    #[must_use]
    pub const fn extra(mut self, extra: u64) -> MapDef<K, V> {
        self.shape.extra = extra;
        self
    }

    /// The same map, with the members of its keys and values told to the kernel as BTF, so that
    /// others can print them by name.
    #[must_use]
    pub const fn described(mut self) -> MapDef<K, V>
    where
        K: Described,
        V: Described,
    {
        self.shape.key_type = Some(K::TYPE);
        self.shape.value_type = Some(V::TYPE);
        self
    }

    /// What the kernel needs to create it.
    #[must_use]
    pub const fn shape(&self) -> &MapShape {
        &self.shape
    }
}

impl<V> MapDef<u32, V> {
    /// Values by index.
    #[must_use]
    pub const fn array(name: &str, entries: u32) -> MapDef<u32, V> {
        MapDef::new(MapType::ARRAY, name, entries)
    }

    /// Values by index; each CPU has its own.
    #[must_use]
    pub const fn percpu_array(name: &str, entries: u32) -> MapDef<u32, V> {
        MapDef::new(MapType::PERCPU_ARRAY, name, entries)
    }
}

impl MapDef<(), ()> {
    /// A ring buffer of that many bytes: a power of two, and whole pages.
    #[must_use]
    pub const fn ringbuf(name: &str, bytes: u32) -> MapDef<(), ()> {
        MapDef::new(MapType::RINGBUF, name, bytes)
    }
}

impl MapDef<u32, u32> {
    /// Programs to tail-call, by index.
    #[must_use]
    pub const fn prog_array(name: &str, entries: u32) -> MapDef<u32, u32> {
        MapDef::new(MapType::PROG_ARRAY, name, entries)
    }
}
