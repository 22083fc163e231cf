//! [`Map`]: keys and values.

use crate::error::Result;
use crate::plain::Plain;
use crate::view::view;
use crate::walk::{Entries, Keys};
use bpfsmith_sys::Failed;
use bpfsmith_uapi::Errno;
use bpfsmith_uapi::flags::map_elem::{BPF_ANY, BPF_EXIST, BPF_F_LOCK, BPF_NOEXIST};

view! {
    /// A map of keys and values: hash, LRU hash, array, LPM trie, stack trace, cgroup storage.
    ///
    /// What one kind cannot do, the kernel refuses with an error that says so: keys of an array are
    /// never deleted, stack traces are written by programs alone.
    ///
    /// ```no_run
    /// use bpfsmith_maps::{Map, Result};
    /// use bpfsmith_uapi::map::MapDef;
    ///
    /// static HITS: MapDef<u32, u64> = MapDef::hash("hits", 1024);
    ///
    /// fn count() -> Result<()> {
    ///     let hits = Map::create(&HITS)?;
    ///     hits.update(&7, &1)?;
    ///     assert_eq!(hits.lookup(&7)?, Some(1));
    ///     for entry in hits.iter() {
    ///         let (key, value) = entry?;
    ///         println!("{key}: {value}");
    ///     }
    ///     Ok(())
    /// }
    /// ```
    Map[K, V] "Map" MapDef<K, V>
    where K: Plain, V: Plain
}

/// What a command says about a key: `Ok(false)` for the error that only means "not so".
#[inline]
pub(crate) fn unless(
    done: std::result::Result<(), Failed>,
    errno: Errno,
) -> std::result::Result<bool, Failed> {
    match done {
        Ok(()) => Ok(true),
        Err(failed) if failed.errno == errno => Ok(false),
        Err(failed) => Err(failed),
    }
}

impl<K: Plain, V: Plain> Map<K, V> {
    /// The value of a key. In an LPM trie, that of the longest prefix that covers it.
    ///
    /// # Errors
    /// What the kernel answers, but for a key that is not there.
    #[inline]
    pub fn lookup(&self, key: &K) -> Result<Option<V>> {
        let mut value = V::new_zeroed();
        Ok(self.lookup_into(key, &mut value)?.then_some(value))
    }

    /// Copies the value of a key, and says whether there is one. `value` stays as it is if not.
    ///
    /// # Errors
    /// As for [`Map::lookup`].
    #[inline]
    pub fn lookup_into(&self, key: &K, value: &mut V) -> Result<bool> {
        self.read(key, value, BPF_ANY)
    }

    /// Writes the value of a key, whether it is there or not.
    ///
    /// # Errors
    /// `E2BIG` when the map is full, or an index behind its end.
    #[inline]
    pub fn update(&self, key: &K, value: &V) -> Result<()> {
        self.write(key, value, BPF_ANY)
            .map_err(|failed| self.failed(failed))
    }

    /// Writes the value of a new key; false when the key is there already.
    ///
    /// # Errors
    /// As for [`Map::update`].
    #[inline]
    pub fn insert(&self, key: &K, value: &V) -> Result<bool> {
        unless(self.write(key, value, BPF_NOEXIST), Errno::EEXIST)
            .map_err(|failed| self.failed(failed))
    }

    /// Writes the value of a key that is there; false when it is not.
    ///
    /// # Errors
    /// As for [`Map::update`].
    #[inline]
    pub fn replace(&self, key: &K, value: &V) -> Result<bool> {
        unless(self.write(key, value, BPF_EXIST), Errno::ENOENT)
            .map_err(|failed| self.failed(failed))
    }

    /// Removes a key, and says whether it was there.
    ///
    /// # Errors
    /// `EINVAL` for an array, whose elements stay.
    #[inline]
    pub fn delete(&self, key: &K) -> Result<bool> {
        unless(self.raw().delete(key.as_bytes()), Errno::ENOENT)
            .map_err(|failed| self.failed(failed))
    }

    /// Removes a key and returns its value. Linux 5.14.
    ///
    /// # Errors
    /// `ENOTSUPP` where the kind cannot.
    #[inline]
    pub fn take(&self, key: &K) -> Result<Option<V>> {
        let mut value = V::new_zeroed();
        let done = self
            .raw()
            .take(key.as_bytes(), value.as_mut_bytes(), BPF_ANY);
        match unless(done, Errno::ENOENT) {
            Ok(is_there) => Ok(is_there.then_some(value)),
            Err(failed) => Err(self.failed(failed)),
        }
    }

    /// The same operations under the spin lock of each value. Linux 5.1.
    ///
    /// The value holds a [`SpinLock`](crate::SpinLock), and the definition is
    /// [`described`](bpfsmith_uapi::map::MapDef::described), so that the kernel knows where it is.
    #[inline]
    #[must_use]
    pub fn locked(&self) -> Locked<'_, K, V> {
        Locked(self)
    }

    /// The keys, one after the other. See [`Keys`] for what happens while others delete.
    #[must_use]
    pub fn keys(&self) -> Keys<'_, K, V> {
        Keys::new(self.iter())
    }

    /// Keys and values, one after the other. See [`Entries`] for what happens while others delete.
    #[must_use]
    pub fn iter(&self) -> Entries<'_, K, V> {
        Entries::new(self)
    }

    /// Removes all keys, and says how many there were. What others insert meanwhile may stay.
    ///
    /// # Errors
    /// As for [`Map::delete`].
    pub fn clear(&self) -> Result<u64> {
        let mut removed = 0;
        for key in self.keys() {
            removed += u64::from(self.delete(&key?)?);
        }
        Ok(removed)
    }

    #[inline]
    fn read(&self, key: &K, value: &mut V, flags: u64) -> Result<bool> {
        let done = self
            .raw()
            .lookup(key.as_bytes(), value.as_mut_bytes(), flags);
        unless(done, Errno::ENOENT).map_err(|failed| self.failed(failed))
    }

    #[inline]
    fn write(&self, key: &K, value: &V, flags: u64) -> bpfsmith_sys::Result<()> {
        self.raw().update(key.as_bytes(), value.as_bytes(), flags)
    }
}

/// Operations that hold the spin lock of the value while they copy; by [`Map::locked`].
///
/// The lock itself reads as zero.
pub struct Locked<'m, K, V>(&'m Map<K, V>);

impl<K: Plain, V: Plain> Locked<'_, K, V> {
    /// As [`Map::lookup`].
    ///
    /// # Errors
    /// `EINVAL` when the map's values have no lock that the kernel knows of.
    #[inline]
    pub fn lookup(&self, key: &K) -> Result<Option<V>> {
        let mut value = V::new_zeroed();
        let is_there = self.0.read(key, &mut value, BPF_F_LOCK)?;
        Ok(is_there.then_some(value))
    }

    /// As [`Map::update`].
    ///
    /// # Errors
    /// As for [`Locked::lookup`].
    #[inline]
    pub fn update(&self, key: &K, value: &V) -> Result<()> {
        self.0
            .write(key, value, BPF_F_LOCK)
            .map_err(|failed| self.0.failed(failed))
    }

    /// As [`Map::insert`].
    ///
    /// # Errors
    /// As for [`Locked::lookup`].
    #[inline]
    pub fn insert(&self, key: &K, value: &V) -> Result<bool> {
        let done = self.0.write(key, value, BPF_F_LOCK | BPF_NOEXIST);
        unless(done, Errno::EEXIST).map_err(|failed| self.0.failed(failed))
    }

    /// As [`Map::replace`].
    ///
    /// # Errors
    /// As for [`Locked::lookup`].
    #[inline]
    pub fn replace(&self, key: &K, value: &V) -> Result<bool> {
        let done = self.0.write(key, value, BPF_F_LOCK | BPF_EXIST);
        unless(done, Errno::ENOENT).map_err(|failed| self.0.failed(failed))
    }
}
