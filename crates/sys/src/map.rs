//! Maps as bytes: an fd that knows how large its keys and values are.
//!
//! The kernel copies as many bytes as the map's definition says, whatever the caller holds ready.
//! [`Map`] learned these sizes from the kernel or fixed them at creation; it refuses a buffer of
//! another size, so its operations are safe.

use crate::attr::{
    Fd, MapBatch, MapCreate, MapElem, MapLookup, MapNextKey, Ptr, PtrMut, token_flag,
};
use crate::call::{Failed, Result, bpf, bpf_as, bpf_fd};
use crate::cpus::possible_cpus;
use crate::{info, object};
use bpfsmith_uapi::{Cmd, Errno, MapType};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What a map is made of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Create<'a> {
    /// How it stores.
    pub kind: u32,
    /// Bytes of a key.
    pub key: u32,
    /// Bytes of a value.
    pub value: u32,
    /// How many entries at most.
    pub entries: u32,
    /// `BPF_F_…` of [`map_create`](bpfsmith_uapi::flags::map_create). `BPF_F_TOKEN_FD` and
    /// `BPF_F_VTYPE_BTF_OBJ_FD` are added where the fds are given.
    pub flags: u32,
    /// Its name, zero-terminated.
    pub name: [u8; 16],
    /// A map of the shape that those inside a map of maps must have.
    pub inner: Option<BorrowedFd<'a>>,
    /// The NUMA node, with `BPF_F_NUMA_NODE`.
    pub numa_node: u32,
    /// The device that it is offloaded to, or 0.
    pub ifindex: u32,
    /// The BTF that describes keys and values, and their types in it.
    pub btf: Option<(BorrowedFd<'a>, u32, u32)>,
    /// For `STRUCT_OPS`: the type of the value in the kernel's BTF, or 0.
    pub kernel_value_type: u32,
    /// For `STRUCT_OPS` of a module: its BTF.
    pub module_btf: Option<BorrowedFd<'a>>,
    /// What single types take besides. Linux 5.16.
    pub extra: u64,
    /// A token that lends the right. Linux 6.9.
    pub token: Option<BorrowedFd<'a>>,
    /// The SHA-256 of the only program that may use the map. Linux 6.18.
    pub exclusive: &'a [u8],
}

/// What the kernel says about a map's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// How it stores.
    pub kind: MapType,
    /// Bytes of a key; 0 where there are none.
    pub key: u32,
    /// Bytes of a value, for one CPU.
    pub value: u32,
    /// How many entries at most.
    pub entries: u32,
    /// Creation flags.
    pub flags: u32,
    /// Bytes that one element takes in a buffer: for per-CPU maps, one value of every CPU.
    pub stride: usize,
}

/// Whether each CPU has a value of its own.
#[must_use]
pub const fn is_per_cpu(kind: MapType) -> bool {
    matches!(
        kind,
        MapType::PERCPU_HASH
            | MapType::PERCPU_ARRAY
            | MapType::LRU_PERCPU_HASH
            | MapType::PERCPU_CGROUP_STORAGE
    )
}

/// Whether user space writes fds into it, and reads ids, of 4 bytes each.
const fn holds_fds(kind: MapType) -> bool {
    matches!(
        kind,
        MapType::PROG_ARRAY
            | MapType::PERF_EVENT_ARRAY
            | MapType::CGROUP_ARRAY
            | MapType::ARRAY_OF_MAPS
            | MapType::HASH_OF_MAPS
    )
}

impl Facts {
    fn new(
        kind: MapType,
        key: u32,
        value: u32,
        entries: u32,
        flags: u32,
    ) -> std::result::Result<Facts, Errno> {
        let stride = if is_per_cpu(kind) {
            let cpus = possible_cpus()?.count() as usize;
            (value as usize).next_multiple_of(8) * cpus
        } else if holds_fds(kind) {
            4
        } else {
            value as usize
        };
        Ok(Facts {
            kind,
            key,
            value,
            entries,
            flags,
            stride,
        })
    }
}

/// An open map.
///
/// Elements of kinds that are newer than this crate are refused with `EINVAL`.
#[derive(Debug)]
pub struct Map {
    fd: OwnedFd,
    facts: Facts,
    /// How many bytes of a value are copied: the stride, and more than anybody has for kinds that are
    /// newer than this table, because theirs cannot be known.
    copied: usize,
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What a batch command did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// How many elements were read or written.
    pub count: u32,
    /// Whether the end of the map was reached.
    pub is_end: bool,
}

impl Map {
    /// Makes a map.
    ///
    /// # Errors
    /// What the kernel answers; `EIO` or another error of reading `/sys` where the map is per-CPU
    /// and the number of CPUs cannot be known.
    pub fn create(create: &Create<'_>) -> Result<Map> {
        const MODULE: u32 = bpfsmith_uapi::flags::map_create::BPF_F_VTYPE_BTF_OBJ_FD;
        let cmd = Cmd::MAP_CREATE;
        let failed = |errno| Failed { cmd, errno };
        let kind = MapType(create.kind);
        let mut flags = create.flags;
        flags |= token_flag(create.token);
        flags |= if create.module_btf.is_some() {
            MODULE
        } else {
            0
        };
        let (btf, key_type, value_type) = match create.btf {
            Some((fd, key, value)) => (Some(fd), key, value),
            None => (None, 0, 0),
        };
        let mut attr = MapCreate {
            map_type: create.kind,
            key_size: create.key,
            value_size: create.value,
            max_entries: create.entries,
            map_flags: flags,
            inner_map_fd: Fd::some(create.inner),
            numa_node: create.numa_node,
            map_name: create.name,
            map_ifindex: create.ifindex,
            btf_fd: Fd::some(btf),
            btf_key_type_id: key_type,
            btf_value_type_id: value_type,
            btf_vmlinux_value_type_id: create.kernel_value_type,
            map_extra: create.extra,
            value_type_btf_obj_fd: Fd::some(create.module_btf),
            map_token_fd: Fd::some(create.token),
            excl_prog_hash: Ptr::to_some(create.exclusive),
            excl_prog_hash_size: u32::try_from(create.exclusive.len())
                .map_err(|_| failed(Errno::E2BIG))?,
            _end: 0,
        };
        // SAFETY: the kernel reads `excl_prog_hash_size` bytes at `excl_prog_hash` and nothing else.
        let fd = unsafe { bpf_fd(cmd, &mut attr)? };
        if create.entries == 0 || kind == MapType::STRUCT_OPS {
            // The kernel chose sizes itself.
            return Map::from_fd(fd);
        }
        let facts = Facts::new(kind, create.key, create.value, create.entries, flags);
        Ok(Map::new(fd, facts.map_err(failed)?))
    }

    /// Takes over an fd, and asks the kernel what map it is.
    ///
    /// # Errors
    /// When the fd is not a map, or may not be read.
    pub fn from_fd(fd: OwnedFd) -> Result<Map> {
        let cmd = Cmd::OBJ_GET_INFO_BY_FD;
        let info = info::map(fd.as_fd())?;
        object::expect(object::Kind::Map, fd.as_fd())?;
        let facts = Facts::new(
            MapType(info.kind),
            info.key_size,
            info.value_size,
            info.max_entries,
            info.map_flags,
        );
        let facts = facts.map_err(|errno| Failed { cmd, errno })?;
        Ok(Map::new(fd, facts))
    }

    fn new(fd: OwnedFd, facts: Facts) -> Map {
        let copied = match facts.kind.name() {
            Some(_) => facts.stride,
            None => usize::MAX,
        };
        Map { fd, facts, copied }
    }

    /// What it is made of.
    #[must_use]
    pub const fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Another handle of the same map.
    ///
    /// # Errors
    /// When the process has too many files open.
    pub fn try_clone(&self) -> std::io::Result<Map> {
        Ok(Map::new(self.fd.try_clone()?, self.facts))
    }

    /// The fd alone.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    #[inline]
    fn fits(&self, cmd: Cmd, key: &[u8], value: usize) -> Result<()> {
        if key.len() == self.facts.key as usize && value == self.copied {
            return Ok(());
        }
        Err(misfit(cmd))
    }

    /// Copies the value of a key; `key` is empty for a queue or stack, whose next value is copied.
    ///
    /// # Errors
    /// `ENOENT` without such a key; `EINVAL` also when a buffer has the wrong size.
    #[inline]
    pub fn lookup(&self, key: &[u8], value: &mut [u8], flags: u64) -> Result<()> {
        self.read(Cmd::MAP_LOOKUP_ELEM, key, value, flags)
    }

    /// Takes a value out: it is copied and its key removed. Linux 4.20; of a hash, 5.14.
    ///
    /// # Errors
    /// As for [`Map::lookup`], and `ENOTSUPP` where the type cannot.
    #[inline]
    pub fn take(&self, key: &[u8], value: &mut [u8], flags: u64) -> Result<()> {
        self.read(Cmd::MAP_LOOKUP_AND_DELETE_ELEM, key, value, flags)
    }

    #[inline]
    fn read(&self, cmd: Cmd, key: &[u8], value: &mut [u8], flags: u64) -> Result<()> {
        self.fits(cmd, key, value.len())?;
        let mut attr = MapLookup {
            map_fd: Fd::of(self.fd.as_fd()),
            _hole: 0,
            key: Ptr::to_some(key),
            value: PtrMut::to(value),
            flags,
        };
        // SAFETY: the kernel reads `key` bytes and writes `stride` bytes; both were compared.
        unsafe { bpf_as(cmd, &mut attr).map(drop) }
    }

    /// Asks a bloom filter whether it may hold the value. Linux 5.16.
    ///
    /// # Errors
    /// `ENOENT` when it certainly does not.
    pub fn contains(&self, value: &[u8]) -> Result<()> {
        let cmd = Cmd::MAP_LOOKUP_ELEM;
        if self.facts.kind != MapType::BLOOM_FILTER {
            return Err(misfit(cmd));
        }
        self.fits(cmd, &[], value.len())?;
        let mut attr = MapElem {
            map_fd: Fd::of(self.fd.as_fd()),
            _hole: 0,
            key: Ptr::NULL,
            value: Ptr::to(value),
            flags: 0,
        };
        // SAFETY: for a bloom filter the command only reads the value, whose size was compared.
        unsafe { bpf_as(cmd, &mut attr).map(drop) }
    }

    /// Writes the value of a key; `key` is empty for a queue, stack or bloom filter.
    ///
    /// # Errors
    /// `EEXIST`, `ENOENT` by the flags; `E2BIG` for a full map or an index behind the end.
    #[inline]
    pub fn update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<()> {
        self.fits(Cmd::MAP_UPDATE_ELEM, key, value.len())?;
        let mut attr = MapElem {
            map_fd: Fd::of(self.fd.as_fd()),
            _hole: 0,
            key: Ptr::to_some(key),
            value: Ptr::to(value),
            flags,
        };
        // SAFETY: the kernel reads `key` and `stride` bytes; both were compared.
        unsafe { bpf(&mut attr).map(drop) }
    }

    /// Removes a key.
    ///
    /// # Errors
    /// `ENOENT` without such a key; `EINVAL` for an array.
    #[inline]
    pub fn delete(&self, key: &[u8]) -> Result<()> {
        let cmd = Cmd::MAP_DELETE_ELEM;
        self.fits(cmd, key, self.copied)?;
        let mut attr = MapElem {
            map_fd: Fd::of(self.fd.as_fd()),
            _hole: 0,
            key: Ptr::to_some(key),
            value: Ptr::NULL,
            flags: 0,
        };
        // SAFETY: the kernel reads `key` bytes, which were compared.
        unsafe { bpf_as(cmd, &mut attr).map(drop) }
    }

    /// Copies the key that follows `key`, or the first one.
    ///
    /// # Errors
    /// `ENOENT` after the last key.
    #[inline]
    pub fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<()> {
        let cmd = Cmd::MAP_GET_NEXT_KEY;
        self.fits(cmd, next, self.copied)?;
        if let Some(key) = key {
            self.fits(cmd, key, self.copied)?;
        }
        let mut attr = MapNextKey {
            map_fd: Fd::of(self.fd.as_fd()),
            _hole: 0,
            key: key.map_or(Ptr::NULL, Ptr::to),
            next_key: PtrMut::to(next),
        };
        // SAFETY: the kernel reads and writes `key` bytes; both were compared.
        unsafe { bpf(&mut attr).map(drop) }
    }

    /// Forbids further writes from user space. Linux 5.2.
    ///
    /// # Errors
    /// `EBUSY` while the map is mapped for writing or frozen already.
    pub fn freeze(&self) -> Result<()> {
        let mut attr = MapElem {
            map_fd: Fd::of(self.fd.as_fd()),
            _hole: 0,
            key: Ptr::NULL,
            value: Ptr::NULL,
            flags: 0,
        };
        // SAFETY: the command reads nothing but the fd.
        unsafe { bpf_as(Cmd::MAP_FREEZE, &mut attr).map(drop) }
    }

    /// How many bytes of a cursor batch commands use.
    #[must_use]
    pub fn cursor_size(&self) -> usize {
        // Hashes use a bucket number, all others a key.
        (self.facts.key as usize).max(8)
    }

    /// Reads elements behind the cursor into the buffers, as many as these hold; `cursor` is moved.
    /// `is_first` starts at the beginning whatever the cursor says. With `MAP_LOOKUP_AND_DELETE_BATCH` they are removed as well. Linux 5.6.
    ///
    /// # Errors
    /// `ENOSPC` when the buffers are smaller than one bucket: grow them and repeat. `EINVAL` or
    /// `ENOTSUPP` where the kernel has no such command for the type.
    pub fn read_batch(
        &self,
        cmd: Cmd,
        cursor: (&mut [u8], bool),
        keys: &mut [u8],
        values: &mut [u8],
        elem_flags: u64,
    ) -> Result<Batch> {
        let is_read = matches!(
            cmd,
            Cmd::MAP_LOOKUP_BATCH | Cmd::MAP_LOOKUP_AND_DELETE_BATCH
        );
        let (cursor, is_first) = cursor;
        if !is_read || cursor.len() < self.cursor_size() {
            return Err(misfit(cmd));
        }
        let count = self.batch_count(cmd, keys.len(), Some(values.len()))?;
        let cursor = PtrMut::to(cursor);
        let mut attr = MapBatch {
            in_batch: if is_first { Ptr::NULL } else { cursor.read() },
            out_batch: cursor,
            keys: PtrMut::to(keys),
            values: PtrMut::to(values),
            count,
            map_fd: Fd::of(self.fd.as_fd()),
            elem_flags,
            flags: 0,
        };
        // SAFETY: the kernel writes `count` keys and values and one cursor, for which the buffers
        // have room.
        let done = unsafe { bpf_as(cmd, &mut attr) };
        let count = attr.count;
        match done {
            Ok(_) => Ok(Batch {
                count,
                is_end: false,
            }),
            Err(failed) if failed.errno == Errno::ENOENT => Ok(Batch {
                count,
                is_end: true,
            }),
            Err(failed) => Err(failed),
        }
    }

    /// Writes elements, and says how many were written; without an error that is all of them. Linux 5.6.
    ///
    /// # Errors
    /// As for [`Map::update`], together with the number of elements written before.
    pub fn update_batch(
        &self,
        keys: &[u8],
        values: &[u8],
        elem_flags: u64,
    ) -> std::result::Result<u32, (u32, Failed)> {
        self.write_batch(Cmd::MAP_UPDATE_BATCH, keys, Some(values), elem_flags)
    }

    /// Removes elements, and says how many were removed. Linux 5.6.
    ///
    /// # Errors
    /// As for [`Map::delete`], together with the number of elements removed before.
    pub fn delete_batch(&self, keys: &[u8]) -> std::result::Result<u32, (u32, Failed)> {
        self.write_batch(Cmd::MAP_DELETE_BATCH, keys, None, 0)
    }

    fn write_batch(
        &self,
        cmd: Cmd,
        keys: &[u8],
        values: Option<&[u8]>,
        elem_flags: u64,
    ) -> std::result::Result<u32, (u32, Failed)> {
        let count = self
            .batch_count(cmd, keys.len(), values.map(<[u8]>::len))
            .map_err(|failed| (0, failed))?;
        let mut attr = MapBatch {
            in_batch: Ptr::NULL,
            out_batch: PtrMut::NULL,
            keys: PtrMut::only_read(keys),
            values: values.map_or(PtrMut::NULL, PtrMut::only_read),
            count,
            map_fd: Fd::of(self.fd.as_fd()),
            elem_flags,
            flags: 0,
        };
        // SAFETY: updates and deletions only read `count` keys and values, which the buffers hold.
        let done = unsafe { bpf_as(cmd, &mut attr) };
        match done {
            Ok(_) => Ok(attr.count),
            // Where the kernel did not get as far as counting, the number asked for still stands.
            Err(failed) if attr.count >= count => Err((0, failed)),
            Err(failed) => Err((attr.count, failed)),
        }
    }

    /// How many elements the buffers hold, when both hold the same number.
    fn batch_count(&self, cmd: Cmd, keys: usize, values: Option<usize>) -> Result<u32> {
        let key = self.facts.key as usize;
        if key == 0 || !keys.is_multiple_of(key) {
            return Err(misfit(cmd));
        }
        let count = keys / key;
        let fits = values.is_none_or(|len| Some(len) == count.checked_mul(self.copied));
        match u32::try_from(count) {
            Ok(count) if fits => Ok(count),
            _ => Err(misfit(cmd)),
        }
    }
}

const fn misfit(cmd: Cmd) -> Failed {
    Failed {
        cmd,
        errno: Errno::EINVAL,
    }
}
