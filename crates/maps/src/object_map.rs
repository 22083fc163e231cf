//! [`ObjectMap`]: keys that stand for kernel objects.

use crate::error::Result;
use crate::handle::Handle;
use crate::map::unless;
use crate::plain::Plain;
use crate::view::view;
use crate::walk::Walk;
use bpfsmith_uapi::Errno;
use bpfsmith_uapi::flags::map_elem::{BPF_ANY, BPF_EXIST, BPF_NOEXIST};
use std::os::fd::{AsFd, AsRawFd};

view! {
    /// A map of kernel objects: programs to tail-call, perf events, cgroups, maps, sockets.
    ///
    /// User space writes an fd and reads something else: the id of a program or map, the cookie of
    /// a socket where values are `u64`, nothing for the other kinds. The map keeps programs, maps,
    /// events and cgroups alive; a socket that is closed leaves it.
    ObjectMap[K, V = u32] "ObjectMap" MapDef<K, V>
    where K: Plain, V: Number
}

/// The values of an [`ObjectMap`]: `u32`, or `u64` for the cookies of sockets.
pub trait Number: Plain + sealed::Number {}

impl Number for u32 {}
impl Number for u64 {}

mod sealed {
    pub trait Number: Sized {
        /// An fd, which is never negative while it is borrowed.
        fn of(fd: u32) -> Self;
    }

    impl Number for u32 {
        fn of(fd: u32) -> u32 {
            fd
        }
    }

    impl Number for u64 {
        fn of(fd: u32) -> u64 {
            u64::from(fd)
        }
    }
}

impl<K: Plain, V: Number> ObjectMap<K, V> {
    /// Puts an object under a key, in place of another one.
    ///
    /// # Errors
    /// When the object is not of the kind that the map takes.
    pub fn set(&self, key: &K, object: impl AsFd) -> Result<()> {
        self.write(key, object, BPF_ANY)
            .map_err(|failed| self.failed(failed))
    }

    /// Puts an object under a key that is free; false when it is not. Arrays of programs, maps,
    /// events and cgroups know only [`set`](ObjectMap::set).
    ///
    /// # Errors
    /// As for [`ObjectMap::set`].
    pub fn insert(&self, key: &K, object: impl AsFd) -> Result<bool> {
        unless(self.write(key, object, BPF_NOEXIST), Errno::EEXIST)
            .map_err(|failed| self.failed(failed))
    }

    /// Puts an object in the place of another one; false when there is none. Arrays of programs,
    /// maps, events and cgroups know only [`set`](ObjectMap::set).
    ///
    /// # Errors
    /// As for [`ObjectMap::set`].
    pub fn replace(&self, key: &K, object: impl AsFd) -> Result<bool> {
        unless(self.write(key, object, BPF_EXIST), Errno::ENOENT)
            .map_err(|failed| self.failed(failed))
    }

    /// Takes the object out, and says whether there was one.
    ///
    /// # Errors
    /// `EINVAL` for an index behind the end.
    pub fn delete(&self, key: &K) -> Result<bool> {
        unless(self.raw().delete(key.as_bytes()), Errno::ENOENT)
            .map_err(|failed| self.failed(failed))
    }

    /// The keys, one after the other; of an array, also those without an object. For deletions
    /// meanwhile see [`Entries`](crate::Entries).
    pub fn keys(&self) -> impl Iterator<Item = Result<K>> + '_ {
        let mut walk = Walk::new(self);
        std::iter::from_fn(move || walk.advance(|key| self.is_there(key)))
    }

    /// Whether a key is there, for kinds whose keys vanish and whose values may be read.
    fn is_there(&self, key: &K) -> Result<bool> {
        if self.facts().kind != bpfsmith_uapi::MapType::HASH_OF_MAPS {
            return Ok(true);
        }
        Ok(self.number(key)?.is_some())
    }

    fn number(&self, key: &K) -> Result<Option<V>> {
        let mut value = V::new_zeroed();
        let done = self
            .raw()
            .lookup(key.as_bytes(), value.as_mut_bytes(), BPF_ANY);
        match unless(done, Errno::ENOENT) {
            Ok(is_there) => Ok(is_there.then_some(value)),
            Err(failed) => Err(self.failed(failed)),
        }
    }

    fn write(&self, key: &K, object: impl AsFd, flags: u64) -> bpfsmith_sys::Result<()> {
        let fd = object.as_fd().as_raw_fd().cast_unsigned();
        self.raw()
            .update(key.as_bytes(), V::of(fd).as_bytes(), flags)
    }
}

impl<K: Plain> ObjectMap<K, u32> {
    /// The id of the program or map under a key.
    ///
    /// # Errors
    /// `ENOTSUPP`, `EOPNOTSUPP` or `ENOSPC` for kinds whose objects have no id.
    pub fn id(&self, key: &K) -> Result<Option<u32>> {
        self.number(key)
    }

    /// Opens the map under a key, in a map of maps.
    ///
    /// # Errors
    /// As for [`ObjectMap::id`] and [`Handle::open_id`].
    pub fn inner(&self, key: &K) -> Result<Option<Handle>> {
        self.id(key)?.map(Handle::open_id).transpose()
    }
}

impl<K: Plain> ObjectMap<K, u64> {
    /// The cookie of the socket under a key: the number that `SO_COOKIE` tells.
    ///
    /// # Errors
    /// What the kernel answers, but for a key that is not there.
    pub fn cookie(&self, key: &K) -> Result<Option<u64>> {
        self.number(key)
    }
}
