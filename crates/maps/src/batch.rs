//! Many elements with one call. Linux 5.6.

use crate::error::{Error, Problem, Result};
use crate::handle::Handle;
use crate::map::Map;
use crate::percpu::{self, PerCpuMap};
use crate::plain::Plain;
use crate::walk::Walk;
use bpfsmith_sys::Failed;
use bpfsmith_uapi::{Cmd, Errno};
use std::marker::PhantomData;
use zerocopy::IntoBytes;

/// Room for the first call when the caller reserved none.
const FIRST: usize = 256;
/// How many calls in a row may come back empty-handed.
const EMPTY: u32 = 16;

/// Keys and values of a [`Map`] that were read together. The buffers are used again.
#[derive(Clone, Debug)]
pub struct Batch<K, V> {
    keys: Vec<K>,
    values: Vec<V>,
    len: usize,
}

/// Keys and values of a [`PerCpuMap`] that were read together. The buffers are used again.
#[derive(Clone, Debug)]
pub struct PerCpuBatch<K, V> {
    keys: Vec<K>,
    values: Vec<u8>,
    /// Bytes of the values of one key; 0 until a map was read.
    stride: usize,
    len: usize,
    types: PhantomData<fn() -> V>,
}

/// How elements were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By batch commands.
    Batch,
    /// By walking over the keys, because the kernel has no batch command for this kind. The walk had
    /// to start over this often: see [`Entries`](crate::Entries).
    Walk {
        /// How often.
        restarts: u32,
    },
}

/// Buffers that a batch command fills.
pub(crate) trait Buffers {
    /// How many elements there is room for.
    fn room(&self) -> usize;
    /// Makes room for that many elements, of so many value bytes.
    fn reserve(&mut self, room: usize, stride: usize);
    /// The bytes behind that many elements.
    fn tail(&mut self, from: usize) -> (&mut [u8], &mut [u8]);
    /// Says how many elements count.
    fn set_len(&mut self, len: usize);
}

impl<K: Plain, V: Plain> Buffers for Batch<K, V> {
    fn room(&self) -> usize {
        self.keys.len()
    }

    fn reserve(&mut self, room: usize, _: usize) {
        self.keys.resize_with(room, K::new_zeroed);
        self.values.resize_with(room, V::new_zeroed);
    }

    fn tail(&mut self, from: usize) -> (&mut [u8], &mut [u8]) {
        (
            self.keys[from..].as_mut_bytes(),
            self.values[from..].as_mut_bytes(),
        )
    }

    fn set_len(&mut self, len: usize) {
        self.len = len;
    }
}

impl<K: Plain, V: Plain> Buffers for PerCpuBatch<K, V> {
    fn room(&self) -> usize {
        if self.stride == 0 { 0 } else { self.keys.len() }
    }

    fn reserve(&mut self, room: usize, stride: usize) {
        self.stride = stride;
        self.keys.resize_with(room, K::new_zeroed);
        self.values.resize(room * stride, 0);
    }

    fn tail(&mut self, from: usize) -> (&mut [u8], &mut [u8]) {
        (
            self.keys[from..].as_mut_bytes(),
            &mut self.values[from * self.stride..],
        )
    }

    fn set_len(&mut self, len: usize) {
        self.len = len;
    }
}

impl<K: Plain, V: Plain> Default for Batch<K, V> {
    fn default() -> Self {
        Batch::new()
    }
}

impl<K: Plain, V: Plain> Batch<K, V> {
    /// Without room; the first read makes some.
    #[must_use]
    pub const fn new() -> Batch<K, V> {
        Batch {
            keys: Vec::new(),
            values: Vec::new(),
            len: 0,
        }
    }

    /// With room for that many elements. Each read fills at most the room there is, and makes more
    /// only where the kernel cannot deliver less.
    #[must_use]
    pub fn with_room(elements: usize) -> Batch<K, V> {
        let mut batch = Batch::new();
        batch.reserve(elements, 0);
        batch
    }

    /// How many elements were read.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> &[K] {
        &self.keys[..self.len]
    }

    /// The values, in the order of the keys.
    #[must_use]
    pub fn values(&self) -> &[V] {
        &self.values[..self.len]
    }

    /// Keys with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.keys().iter().zip(self.values())
    }
}

impl<K: Plain, V: Plain> Default for PerCpuBatch<K, V> {
    fn default() -> Self {
        PerCpuBatch::new()
    }
}

impl<K: Plain, V: Plain> PerCpuBatch<K, V> {
    /// Without room; the first read makes some.
    #[must_use]
    pub const fn new() -> PerCpuBatch<K, V> {
        PerCpuBatch {
            keys: Vec::new(),
            values: Vec::new(),
            stride: 0,
            len: 0,
            types: PhantomData,
        }
    }

    /// How many elements were read.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> &[K] {
        &self.keys[..self.len]
    }

    /// Keys, each with its values in the order of the CPUs.
    pub fn iter(&self) -> impl Iterator<Item = (&K, impl Iterator<Item = V> + '_)> {
        let chunks = self.values.chunks_exact(self.stride.max(1));
        self.keys().iter().zip(chunks.map(percpu::values))
    }
}

/// Where the next batch starts.
pub(crate) struct Cursor<'m> {
    handle: &'m Handle,
    cmd: Cmd,
    /// The cursor, where it is small; else it is in `large`.
    small: [u8; 64],
    large: Vec<u8>,
    is_first: bool,
    is_end: bool,
}

/// What a batch command that failed means.
#[cold]
fn explain(handle: &Handle, failed: Failed) -> Error {
    match failed.errno {
        // The sizes are right and there are no flags: what is invalid is the command.
        Errno::ENOTSUPP | Errno::EOPNOTSUPP | Errno::EINVAL => {
            handle.problem(failed.cmd, Problem::NoBatch)
        }
        errno => handle.refused(failed.cmd, errno),
    }
}

impl<'m> Cursor<'m> {
    fn new(handle: &'m Handle, cmd: Cmd) -> Cursor<'m> {
        let (small, size) = ([0; 64], handle.raw().cursor_size());
        Cursor {
            handle,
            cmd,
            small,
            large: vec![0; if size > small.len() { size } else { 0 }],
            is_first: true,
            is_end: false,
        }
    }

    /// Reads once behind `from` elements that are there already; returns how many came.
    fn read(&mut self, from: usize, buffers: &mut impl Buffers) -> Result<usize> {
        let stride = self.handle.facts().stride;
        if buffers.room() <= from {
            buffers.reserve((from * 2).max(FIRST), stride);
        }
        let mut empty = 0;
        while !self.is_end {
            let (keys, values) = buffers.tail(from);
            let bytes = if self.large.is_empty() {
                self.small.as_mut_slice()
            } else {
                self.large.as_mut_slice()
            };
            let cursor = (bytes, self.is_first);
            let done = self
                .handle
                .raw()
                .read_batch(self.cmd, cursor, keys, values, 0);
            match done {
                Ok(batch) => {
                    self.is_first = false;
                    self.is_end = batch.is_end;
                    if batch.count > 0 {
                        return Ok(batch.count as usize);
                    }
                    empty += 1;
                }
                // One bucket of the hash has more elements than there is room for.
                Err(failed) if failed.errno == Errno::ENOSPC => {
                    buffers.reserve(buffers.room().saturating_mul(2), stride);
                }
                Err(failed) => return Err(explain(self.handle, failed)),
            }
            if empty > EMPTY {
                let problem = Problem::Unsettled { visited: 0 };
                return Err(self.handle.problem(self.cmd, problem));
            }
        }
        Ok(0)
    }

    /// Reads the next elements into the buffers; false at the end.
    fn next(&mut self, buffers: &mut impl Buffers) -> Result<bool> {
        buffers.set_len(0);
        let count = self.read(0, buffers)?;
        buffers.set_len(count);
        Ok(count > 0)
    }

    /// Reads all that is left into the buffers.
    fn rest(&mut self, buffers: &mut impl Buffers) -> Result<()> {
        buffers.set_len(0);
        let mut len = 0;
        loop {
            let count = self.read(len, buffers)?;
            if count == 0 {
                return Ok(());
            }
            len += count;
            buffers.set_len(len);
        }
    }
}

/// Reads all elements by walking over the keys.
fn walk<K: Plain>(handle: &Handle, buffers: &mut impl Buffers) -> Result<u32> {
    buffers.set_len(0);
    let (stride, mut len) = (handle.facts().stride, 0);
    let mut walk = Walk::<K>::new(handle);
    loop {
        if buffers.room() <= len {
            buffers.reserve((len * 2).max(FIRST), stride);
        }
        let mut is_there = false;
        let key = walk.advance(|key| {
            let (_, values) = buffers.tail(len);
            let done = handle
                .raw()
                .lookup(key.as_bytes(), &mut values[..stride], 0);
            is_there =
                crate::map::unless(done, Errno::ENOENT).map_err(|failed| handle.failed(failed))?;
            Ok(is_there)
        });
        let Some(key) = key else {
            return Ok(walk.restarts());
        };
        let key = key?;
        if is_there {
            let (keys, _) = buffers.tail(len);
            keys[..size_of::<K>()].copy_from_slice(key.as_bytes());
            len += 1;
            buffers.set_len(len);
        }
    }
}

/// Removes the keys that are there, and counts them.
fn delete<K: Plain>(handle: &Handle, keys: &[K]) -> Result<u64> {
    let (mut rest, mut removed) = (keys, 0);
    while !rest.is_empty() {
        match handle.raw().delete_batch(rest.as_bytes()) {
            Ok(count) => return Ok(removed + u64::from(count)),
            // The command stops at a key that is not there: leave it out.
            Err((done, failed)) if failed.errno == Errno::ENOENT => {
                removed += u64::from(done);
                rest = rest.get(done as usize + 1..).unwrap_or_default();
            }
            Err((0, failed)) => return Err(explain(handle, failed)),
            Err((done, failed)) => {
                let (done, errno) = (removed + u64::from(done), failed.errno);
                return Err(handle.problem(failed.cmd, Problem::Stopped { done, errno }));
            }
        }
    }
    Ok(removed)
}

/// Writes all elements.
fn update<K: Plain>(handle: &Handle, keys: &[K], values: &[u8]) -> Result<()> {
    if keys.is_empty() && values.is_empty() {
        return Ok(());
    }
    match handle.raw().update_batch(keys.as_bytes(), values, 0) {
        Ok(_) => Ok(()),
        Err((0, failed)) => Err(explain(handle, failed)),
        Err((done, failed)) => {
            let (done, errno) = (done.into(), failed.errno);
            Err(handle.problem(failed.cmd, Problem::Stopped { done, errno }))
        }
    }
}

/// Refuses slices of different lengths.
fn matches(handle: &Handle, given: usize, needed: usize) -> Result<()> {
    if given == needed {
        return Ok(());
    }
    Err(handle.problem(Cmd::MAP_UPDATE_BATCH, Problem::Length { given, needed }))
}

macro_rules! batches {
    ($map:ident, $batch:ident, $walk:ident) => {
        /// A walk in large steps: each [`read`](Self::read) fills the buffers anew.
        ///
        /// Unlike a walk over keys it never starts over, whatever is deleted meanwhile.
        pub struct $walk<'m, K, V> {
            cursor: Cursor<'m>,
            types: PhantomData<fn() -> (K, V)>,
        }

        impl<K: Plain, V: Plain> $walk<'_, K, V> {
            /// Reads the next elements; false when there are no more.
            ///
            /// # Errors
            /// [`Problem::NoBatch`] where the kernel has no such command for this kind.
            pub fn read(&mut self, batch: &mut $batch<K, V>) -> Result<bool> {
                self.cursor.next(batch)
            }
        }

        impl<K: Plain, V: Plain> $map<K, V> {
            /// Reads the elements in batches.
            #[must_use]
            pub fn batches(&self) -> $walk<'_, K, V> {
                $walk {
                    cursor: Cursor::new(self, Cmd::MAP_LOOKUP_BATCH),
                    types: PhantomData,
                }
            }

            /// Takes the elements out in batches.
            #[must_use]
            pub fn take_batches(&self) -> $walk<'_, K, V> {
                $walk {
                    cursor: Cursor::new(self, Cmd::MAP_LOOKUP_AND_DELETE_BATCH),
                    types: PhantomData,
                }
            }

            /// Reads all elements by batch commands.
            ///
            /// # Errors
            /// [`Problem::NoBatch`] where the kernel has no such command for this kind; what was
            /// read before an error is in the batch.
            pub fn read_all(&self, batch: &mut $batch<K, V>) -> Result<()> {
                Cursor::new(self, Cmd::MAP_LOOKUP_BATCH).rest(batch)
            }

            /// Takes all elements out by batch commands.
            ///
            /// # Errors
            /// As for [`read_all`](Self::read_all).
            pub fn take_all(&self, batch: &mut $batch<K, V>) -> Result<()> {
                Cursor::new(self, Cmd::MAP_LOOKUP_AND_DELETE_BATCH).rest(batch)
            }

            /// Reads all elements by walking over the keys, with two calls for each; returns how
            /// often the walk started over. See [`Entries`](crate::Entries).
            ///
            /// # Errors
            /// What the kernel answers, and [`Problem::Unsettled`].
            pub fn walk_all(&self, batch: &mut $batch<K, V>) -> Result<u32> {
                walk::<K>(self, batch)
            }

            /// Reads all elements by batch commands, or by walking over the keys where the kernel
            /// has none for this kind, and says which.
            ///
            /// # Errors
            /// As for [`walk_all`](Self::walk_all).
            pub fn read_any_way(&self, batch: &mut $batch<K, V>) -> Result<Way> {
                match self.read_all(batch) {
                    Ok(()) => Ok(Way::Batch),
                    Err(error) if *error.problem() == Problem::NoBatch => {
                        let restarts = self.walk_all(batch)?;
                        Ok(Way::Walk { restarts })
                    }
                    Err(error) => Err(error),
                }
            }

            /// Removes many keys, and says how many of them were there.
            ///
            /// # Errors
            /// [`Problem::NoBatch`] where the kernel has no such command for this kind;
            /// [`Problem::Stopped`] when it gave up on the way.
            pub fn delete_many(&self, keys: &[K]) -> Result<u64> {
                delete(self, keys)
            }
        }
    };
}

batches!(Map, Batch, Batches);
batches!(PerCpuMap, PerCpuBatch, PerCpuBatches);

impl<K: Plain, V: Plain> Map<K, V> {
    /// Writes many elements.
    ///
    /// # Errors
    /// [`Problem::NoBatch`] where the kernel has no such command for this kind;
    /// [`Problem::Stopped`] when it gave up on the way; [`Problem::Length`] when there are more keys
    /// than values, or fewer.
    pub fn update_many(&self, keys: &[K], values: &[V]) -> Result<()> {
        matches(self, values.len(), keys.len())?;
        update(self, keys, values.as_bytes())
    }
}

impl<K: Plain, V: Plain> PerCpuMap<K, V> {
    /// Writes many elements. The values are those of all CPUs under the first key, then those under
    /// the second, and so on; `buffer` is only used for the call.
    ///
    /// # Errors
    /// As for [`Map::update_many`].
    pub fn update_many(&self, keys: &[K], values: &[V], buffer: &mut Vec<u8>) -> Result<()> {
        let stride = self.facts().stride;
        let each = size_of::<V>().next_multiple_of(8);
        let cpus = stride.checked_div(each).unwrap_or(0);
        matches(self, values.len(), keys.len().saturating_mul(cpus))?;
        buffer.clear();
        buffer.resize(values.len() * each, 0);
        for (slot, value) in buffer.chunks_exact_mut(each.max(1)).zip(values) {
            slot[..size_of::<V>()].copy_from_slice(value.as_bytes());
        }
        update(self, keys, buffer)
    }
}
