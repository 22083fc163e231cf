//! [`PerCpuMap`]: a value for every CPU.

use crate::error::Result;
use crate::map::unless;
use crate::plain::Plain;
use crate::view::view;
use crate::walk::Walk;
use bpfsmith_sys::PossibleCpus;
use bpfsmith_uapi::Errno;
use bpfsmith_uapi::flags::map_elem::{BPF_ANY, BPF_EXIST, BPF_NOEXIST};
use std::fmt;
use std::iter::Sum;
use std::marker::PhantomData;

view! {
    /// A map with a value for every CPU under each key: per-CPU hash, LRU hash, array, and cgroup
    /// storage.
    ///
    /// ```no_run
    /// use bpfsmith_maps::{PerCpu, PerCpuMap, Result};
    /// use bpfsmith_uapi::map::MapDef;
    ///
    /// static PACKETS: MapDef<u32, u64> = MapDef::percpu_array("packets", 4);
    ///
    /// fn total() -> Result<u64> {
    ///     let packets = PerCpuMap::create(&PACKETS)?;
    ///     let mut values = packets.values();
    ///     let is_there = packets.lookup_into(&0, &mut values)?;
    ///     Ok(if is_there { values.sum() } else { 0 })
    /// }
    /// ```
    PerCpuMap[K, V] "PerCpuMap" MapDef<K, V>
    where K: Plain, V: Plain
}

/// One value for each CPU that this kernel may ever run.
///
/// The kernel keeps them at distances of 8 bytes; this buffer does likewise, and is used again from
/// call to call.
#[derive(Clone, PartialEq, Eq)]
pub struct PerCpu<V> {
    bytes: Vec<u8>,
    types: PhantomData<fn() -> V>,
}

/// The distance of two values.
const fn stride<V>() -> usize {
    size_of::<V>().next_multiple_of(8)
}

impl<V: Plain> PerCpu<V> {
    /// Zeros for all CPUs.
    #[must_use]
    pub fn zeroed(cpus: PossibleCpus) -> PerCpu<V> {
        PerCpu {
            bytes: vec![0; stride::<V>() * cpus.count() as usize],
            types: PhantomData,
        }
    }

    /// How many CPUs there are values of.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len().checked_div(stride::<V>()).unwrap_or(0)
    }

    /// Never true but for values without bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The value of a CPU, if the machine may have that CPU.
    #[must_use]
    pub fn of(&self, cpu: usize) -> Option<V> {
        let start = cpu.checked_mul(stride::<V>())?;
        let bytes = self.bytes.get(start..start.checked_add(size_of::<V>())?)?;
        V::read_from_bytes(bytes).ok()
    }

    /// Changes the value of a CPU; false when the machine has no such CPU.
    pub fn set(&mut self, cpu: usize, value: &V) -> bool {
        let range = cpu
            .checked_mul(stride::<V>())
            .and_then(|start| Some(start..start.checked_add(size_of::<V>())?));
        let Some(bytes) = range.and_then(|range| self.bytes.get_mut(range)) else {
            return false;
        };
        bytes.copy_from_slice(value.as_bytes());
        true
    }

    /// Gives every CPU the same value.
    pub fn fill(&mut self, value: &V) {
        for bytes in self.bytes.chunks_exact_mut(stride::<V>().max(1)) {
            bytes[..size_of::<V>()].copy_from_slice(value.as_bytes());
        }
    }

    /// The values, in the order of the CPUs.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = V> + '_ {
        values(&self.bytes)
    }

    /// Their sum.
    #[must_use]
    pub fn sum(&self) -> V
    where
        V: Sum,
    {
        self.iter().sum()
    }

    /// Brings them together.
    pub fn fold<T>(&self, start: T, step: impl FnMut(T, V) -> T) -> T {
        self.iter().fold(start, step)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

/// The values in the bytes of one element.
#[inline]
pub(crate) fn values<V: Plain>(bytes: &[u8]) -> impl Iterator<Item = V> + '_ {
    bytes
        .chunks_exact(stride::<V>().max(1))
        .filter_map(|chunk| V::read_from_prefix(chunk).ok())
        .map(|(value, _)| value)
}

impl<V: Plain + fmt::Debug> fmt::Debug for PerCpu<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<K: Plain, V: Plain> PerCpuMap<K, V> {
    /// A buffer for the values of one key.
    #[must_use]
    pub fn values(&self) -> PerCpu<V> {
        PerCpu {
            bytes: vec![0; self.facts().stride],
            types: PhantomData,
        }
    }

    /// The values of a key.
    ///
    /// # Errors
    /// What the kernel answers, but for a key that is not there.
    pub fn lookup(&self, key: &K) -> Result<Option<PerCpu<V>>> {
        let mut values = self.values();
        Ok(self.lookup_into(key, &mut values)?.then_some(values))
    }

    /// Copies the values of a key without allocating, and says whether there are any.
    ///
    /// # Errors
    /// As for [`PerCpuMap::lookup`].
    #[inline]
    pub fn lookup_into(&self, key: &K, values: &mut PerCpu<V>) -> Result<bool> {
        let done = self
            .raw()
            .lookup(key.as_bytes(), values.bytes_mut(), BPF_ANY);
        unless(done, Errno::ENOENT).map_err(|failed| self.failed(failed))
    }

    /// Brings the values of a key together; `None` without such a key.
    ///
    /// # Errors
    /// As for [`PerCpuMap::lookup`].
    pub fn fold<T>(&self, key: &K, start: T, step: impl FnMut(T, V) -> T) -> Result<Option<T>> {
        let values = self.lookup(key)?;
        Ok(values.map(|values| values.fold(start, step)))
    }

    /// The sum of the values of a key; `None` without such a key.
    ///
    /// # Errors
    /// As for [`PerCpuMap::lookup`].
    pub fn sum(&self, key: &K) -> Result<Option<V>>
    where
        V: Sum,
    {
        Ok(self.lookup(key)?.map(|values| values.sum()))
    }

    /// Writes the values of a key, whether it is there or not.
    ///
    /// # Errors
    /// `E2BIG` when the map is full, or an index behind its end.
    #[inline]
    pub fn update(&self, key: &K, values: &PerCpu<V>) -> Result<()> {
        self.write(key, values, BPF_ANY)
            .map_err(|failed| self.failed(failed))
    }

    /// Writes the values of a new key; false when the key is there already.
    ///
    /// # Errors
    /// As for [`PerCpuMap::update`].
    #[inline]
    pub fn insert(&self, key: &K, values: &PerCpu<V>) -> Result<bool> {
        unless(self.write(key, values, BPF_NOEXIST), Errno::EEXIST)
            .map_err(|failed| self.failed(failed))
    }

    /// Writes the values of a key that is there; false when it is not.
    ///
    /// # Errors
    /// As for [`PerCpuMap::update`].
    #[inline]
    pub fn replace(&self, key: &K, values: &PerCpu<V>) -> Result<bool> {
        unless(self.write(key, values, BPF_EXIST), Errno::ENOENT)
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

    /// Removes a key and copies its values; false without such a key. Linux 5.14.
    ///
    /// # Errors
    /// `ENOTSUPP` where the kind cannot.
    pub fn take_into(&self, key: &K, values: &mut PerCpu<V>) -> Result<bool> {
        let done = self.raw().take(key.as_bytes(), values.bytes_mut(), BPF_ANY);
        unless(done, Errno::ENOENT).map_err(|failed| self.failed(failed))
    }

    /// Calls a function with each key and its values, which share one buffer. For deletions
    /// meanwhile see [`Entries`](crate::Entries); the result says how often the walk started over.
    ///
    /// # Errors
    /// As for [`PerCpuMap::lookup`], and [`Problem::Unsettled`](crate::Problem::Unsettled).
    pub fn for_each(&self, mut visit: impl FnMut(&K, &PerCpu<V>)) -> Result<u32> {
        let mut values = self.values();
        let mut walk = Walk::<K>::new(self);
        loop {
            let mut is_there = false;
            let step = walk.advance(|key| {
                is_there = self.lookup_into(key, &mut values)?;
                Ok(is_there)
            });
            match step {
                None => return Ok(walk.restarts()),
                Some(key) => {
                    let key = key?;
                    if is_there {
                        visit(&key, &values);
                    }
                }
            }
        }
    }

    #[inline]
    fn write(&self, key: &K, values: &PerCpu<V>, flags: u64) -> bpfsmith_sys::Result<()> {
        self.raw().update(key.as_bytes(), values.bytes(), flags)
    }
}

#[cfg(test)]
mod tests {
    use super::PerCpu;
    use std::marker::PhantomData;

    #[test]
    fn values_lie_eight_bytes_apart() {
        let mut bytes = vec![0; 16];
        bytes[..2].copy_from_slice(&7_u16.to_ne_bytes());
        bytes[8..10].copy_from_slice(&9_u16.to_ne_bytes());
        let mut values = PerCpu::<u16> {
            bytes,
            types: PhantomData,
        };
        assert_eq!(values.len(), 2);
        assert_eq!(values.sum(), 16);
        assert_eq!((values.of(1), values.of(2)), (Some(9), None));
        assert!(values.set(0, &1) && !values.set(2, &1));
        assert_eq!(values.iter().collect::<Vec<_>>(), [1, 9]);
        assert_eq!(values.of(usize::MAX), None);
        values.fill(&3);
        assert_eq!(values.fold(0, |sum, value| sum + value), 6);
    }
}
