//! Memory maps.
//!
//! The kernel and its programs write to such memory while we look at it, so there are no references
//! to plain data in here: words are read and written by atomic operations, bytes are copied. Where a
//! protocol says that nobody writes, as between the two positions of a ring buffer, the module of
//! that protocol hands out slices ([`ring`](crate::ring), [`perf_ring`](crate::perf_ring)).

use crate::map::Map;
use crate::refused::{Answer, Refused};
use bpfsmith_uapi::{Errno, MapType};
use std::fs::File;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, Range};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence};

/// Bytes of a page.
#[must_use]
pub fn page_size() -> usize {
    static SIZE: OnceLock<usize> = OnceLock::new();
    *SIZE.get_or_init(|| {
        // SAFETY: the call has no preconditions.
        let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        // POSIX systems always know; 4096 is the smallest page that Linux has.
        usize::try_from(size).unwrap_or(4096)
    })
}

/// Pages of this process, given back on drop. What may be done with them is up to the owner.
#[derive(Debug)]
pub(crate) struct Region {
    at: NonNull<u8>,
    len: usize,
}

// SAFETY: a region is an address and a length; those who read or write through it say how they
// keep threads apart.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

/// What a region is mapped from.
pub(crate) enum From<'a> {
    /// An object, from this offset on.
    Fd(BorrowedFd<'a>, u64),
    /// The same, at this address, unless something is there.
    FdAt(BorrowedFd<'a>, usize),
    /// An object, of which nobody else is to see our writes.
    Private(BorrowedFd<'a>),
    /// Nothing: zeroes.
    Zeroes,
    /// The same, in pages of 2 MB.
    HugeZeroes,
}

impl Region {
    pub(crate) fn map(from: &From<'_>, len: usize, protection: i32) -> Answer<Region> {
        let refused = |errno| Refused::because("mmap", errno);
        if len == 0 || isize::try_from(len).is_err() {
            return Err(refused(Errno::EINVAL));
        }
        let (address, flags, fd, offset) = match from {
            From::Fd(fd, offset) => (0, libc::MAP_SHARED, fd.as_raw_fd(), *offset),
            From::FdAt(fd, address) => {
                let flags = libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE;
                (*address, flags, fd.as_raw_fd(), 0)
            }
            From::Private(fd) => (0, libc::MAP_PRIVATE, fd.as_raw_fd(), 0),
            From::Zeroes => (0, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0),
            From::HugeZeroes => {
                let huge = libc::MAP_HUGETLB | libc::MAP_HUGE_2MB;
                (0, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | huge, -1, 0)
            }
        };
        let offset = offset.try_into().map_err(|_| refused(Errno::EOVERFLOW))?;
        let hint = std::ptr::without_provenance_mut(address);
        // SAFETY: the kernel chooses an address that is free, or takes ours only if it is.
        let at = unsafe { libc::mmap(hint, len, protection, flags, fd, offset) };
        if at == libc::MAP_FAILED {
            return Err(Refused::last("mmap"));
        }
        let Some(at) = NonNull::new(at.cast()) else {
            return Err(refused(Errno::ENOMEM));
        };
        let region = Region { at, len };
        if address != 0 && at.addr().get() != address {
            // Before Linux 4.17 the flag is only a hint.
            return Err(refused(Errno::EEXIST));
        }
        Ok(region)
    }

    /// Child processes do not get it: what is done here has no second half in them.
    pub(crate) fn keep_from_children(&self) -> Answer<()> {
        // SAFETY: the pages are of this region, and this process keeps them as they are.
        match unsafe { libc::madvise(self.at.as_ptr().cast(), self.len, libc::MADV_DONTFORK) } {
            0 => Ok(()),
            _ => Err(Refused::last("madvise")),
        }
    }

    #[inline]
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) const fn start(&self) -> NonNull<u8> {
        self.at
    }

    /// The bytes from `offset` on, if `count` of them are inside.
    #[inline]
    pub(crate) fn at(&self, offset: usize, count: usize) -> Option<NonNull<u8>> {
        let end = offset.checked_add(count)?;
        // SAFETY: the offset is inside of the region.
        (end <= self.len).then(|| unsafe { self.at.add(offset) })
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the region was mapped by `map`, and whoever borrowed from it borrowed `self`.
        // The call can only fail for a wrong address.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.len) };
    }
}

/// Whether a mapping may be written, as a type.
pub trait Access {
    /// `PROT_…`
    const PROTECTION: i32;
}

/// It may be read.
#[derive(Clone, Copy, Debug)]
pub struct Read;

/// It may be read and written.
#[derive(Clone, Copy, Debug)]
pub struct Write;

impl Access for Read {
    const PROTECTION: i32 = libc::PROT_READ;
}

impl Access for Write {
    const PROTECTION: i32 = libc::PROT_READ | libc::PROT_WRITE;
}

/// Memory shared with the kernel and its programs.
///
/// Only maps whose bytes nobody lends out as slices can be mapped so: the pages of rings are left to
/// their protocols. An access behind the end of the underlying file, where that was made shorter, ends the process by
/// a signal; maps and rings never become shorter.
#[derive(Debug)]
pub struct Shared<A> {
    region: Region,
    access: PhantomData<A>,
}

impl<A: Access> Shared<A> {
    /// Maps the values of an array that was made with `BPF_F_MMAPABLE` (Linux 5.5), or an arena
    /// (Linux 6.9). Values of an array lie [`stride`](crate::map::Facts::stride) bytes, rounded up to
    /// a multiple of 8, apart. `at` is the address for an arena that demands one, or 0.
    ///
    /// # Errors
    /// `EPERM` without the flag, or for writing when the map is frozen; `EINVAL` for other kinds;
    /// `EBUSY` for an arena at another address than its others.
    pub fn map_of(map: &Map, at: usize) -> Answer<Shared<A>> {
        let facts = map.facts();
        let entries = facts.entries as usize;
        let len = match facts.kind {
            MapType::ARRAY => entries.checked_mul(facts.stride.next_multiple_of(8)),
            MapType::ARENA => entries.checked_mul(page_size()),
            _ => None,
        };
        let len = len.and_then(|len| len.checked_next_multiple_of(page_size()));
        let len = len.ok_or(Refused::because("mmap", Errno::EINVAL))?;
        let from = match at {
            0 => From::Fd(map.as_fd(), 0),
            at => From::FdAt(map.as_fd(), at),
        };
        Shared::of(&from, len)
    }

    fn of(from: &From<'_>, len: usize) -> Answer<Shared<A>> {
        Ok(Shared {
            region: Region::map(from, len, A::PROTECTION)?,
            access: PhantomData,
        })
    }

    /// How many bytes there are.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.region.len()
    }

    /// Never true: a mapping has at least one byte.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.region.len() == 0
    }

    /// Where it lies in this process: for pointers in arenas.
    #[must_use]
    pub fn address(&self) -> usize {
        self.region.start().addr().get()
    }

    /// Reads 8 bytes at once; `None` outside, or where they are not aligned.
    #[inline]
    #[must_use]
    pub fn load_u64(&self, offset: usize) -> Option<u64> {
        let word = self.word64(offset)?.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        Some(word)
    }

    /// Reads 4 bytes at once; `None` outside, or where they are not aligned.
    #[inline]
    #[must_use]
    pub fn load_u32(&self, offset: usize) -> Option<u32> {
        let word = self.word32(offset)?.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        Some(word)
    }

    #[inline]
    fn word64(&self, offset: usize) -> Option<&AtomicU64> {
        let at = self.region.at(offset, 8)?.cast::<AtomicU64>();
        if at.is_aligned() {
            // SAFETY: inside of the region, aligned as checked, and only reached by atomic
            // operations. Read-only memory is only reached by relaxed loads, which are allowed there,
            // and the shared reference is only given away for writable mappings.
            Some(unsafe { at.as_ref() })
        } else {
            None
        }
    }

    #[inline]
    fn word32(&self, offset: usize) -> Option<&AtomicU32> {
        let at = self.region.at(offset, 4)?.cast::<AtomicU32>();
        if at.is_aligned() {
            // SAFETY: as above.
            Some(unsafe { at.as_ref() })
        } else {
            None
        }
    }

    #[inline]
    fn byte(&self, offset: usize) -> Option<&AtomicU8> {
        let at = self.region.at(offset, 1)?.cast::<AtomicU8>();
        // SAFETY: as above.
        Some(unsafe { at.as_ref() })
    }

    /// Copies bytes out: words that lie aligned at once, so that none of them is torn. `None` if
    /// they are not all inside.
    #[must_use]
    pub fn copy_out(&self, offset: usize, into: &mut [u8]) -> Option<()> {
        self.region.at(offset, into.len())?;
        let head = into.len().min(offset.next_multiple_of(8) - offset);
        let (first, rest) = into.split_at_mut(head);
        for (index, byte) in first.iter_mut().enumerate() {
            *byte = self.byte(offset + index)?.load(Ordering::Relaxed);
        }
        let (words, last) = rest.as_chunks_mut::<8>();
        let mut at = offset + head;
        for word in words {
            *word = self.word64(at)?.load(Ordering::Relaxed).to_ne_bytes();
            at += 8;
        }
        for (index, byte) in last.iter_mut().enumerate() {
            *byte = self.byte(at + index)?.load(Ordering::Relaxed);
        }
        Some(())
    }
}

impl Shared<Write> {
    /// A word that both sides may change; `None` outside, or where it is not aligned.
    #[inline]
    #[must_use]
    pub fn u64(&self, offset: usize) -> Option<&AtomicU64> {
        self.word64(offset)
    }

    /// A word that both sides may change; `None` outside, or where it is not aligned.
    #[inline]
    #[must_use]
    pub fn u32(&self, offset: usize) -> Option<&AtomicU32> {
        self.word32(offset)
    }

    /// Words in a row; `None` unless they are all inside and aligned.
    #[must_use]
    pub fn u64s(&self, range: Range<usize>) -> Option<&[AtomicU64]> {
        let len = range.end.checked_sub(range.start)?;
        let at = self.region.at(range.start, len)?.cast::<AtomicU64>();
        let fits = at.is_aligned() && len.is_multiple_of(8);
        // SAFETY: inside of the region, aligned, only reached by atomic operations, and writable.
        fits.then(|| unsafe { std::slice::from_raw_parts(at.as_ptr(), len / 8) })
    }

    /// Words in a row; `None` unless they are all inside and aligned.
    #[must_use]
    pub fn u32s(&self, range: Range<usize>) -> Option<&[AtomicU32]> {
        let len = range.end.checked_sub(range.start)?;
        let at = self.region.at(range.start, len)?.cast::<AtomicU32>();
        let fits = at.is_aligned() && len.is_multiple_of(4);
        // SAFETY: as above.
        fits.then(|| unsafe { std::slice::from_raw_parts(at.as_ptr(), len / 4) })
    }

    /// Copies bytes in: words that lie aligned at once. `None` if they do not all fit.
    #[must_use]
    pub fn copy_in(&self, offset: usize, from: &[u8]) -> Option<()> {
        self.region.at(offset, from.len())?;
        let head = from.len().min(offset.next_multiple_of(8) - offset);
        let (first, rest) = from.split_at(head);
        for (index, byte) in first.iter().enumerate() {
            self.byte(offset + index)?.store(*byte, Ordering::Relaxed);
        }
        let (words, last) = rest.as_chunks::<8>();
        let mut at = offset + head;
        for word in words {
            let word = u64::from_ne_bytes(*word);
            self.word64(at)?.store(word, Ordering::Relaxed);
            at += 8;
        }
        for (index, byte) in last.iter().enumerate() {
            self.byte(at + index)?.store(*byte, Ordering::Relaxed);
        }
        Some(())
    }
}

/// Memory of this process alone, zeroed, on page borders: for what the kernel is to be lent. A page
/// that nobody may touch follows it, so that running over the end does not go unnoticed.
#[derive(Debug)]
pub struct Anonymous {
    region: Region,
    len: usize,
}

impl Anonymous {
    /// Maps `len` bytes.
    ///
    /// # Errors
    /// `ENOMEM`; `EINVAL` for no bytes or too many.
    pub fn new(len: usize) -> Answer<Anonymous> {
        let invalid = Refused::because("mmap", Errno::EINVAL);
        let page = page_size();
        let pages = len.checked_next_multiple_of(page).filter(|&len| len > 0);
        let pages = pages.ok_or(invalid)?;
        let whole = pages.checked_add(page).ok_or(invalid)?;
        let region = Region::map(&From::Zeroes, whole, Write::PROTECTION)?;
        let guard = region.at(pages, page).ok_or(invalid)?;
        // SAFETY: the last page of the region, to which nobody has a reference.
        if unsafe { libc::mprotect(guard.as_ptr().cast(), page, libc::PROT_NONE) } != 0 {
            return Err(Refused::last("mprotect"));
        }
        Ok(Anonymous { region, len })
    }
}

impl Deref for Anonymous {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: initialised memory that only this value refers to, in front of the guard.
        unsafe { std::slice::from_raw_parts(self.region.start().as_ptr(), self.len) }
    }
}

impl DerefMut for Anonymous {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.region.start().as_ptr(), self.len) }
    }
}

/// The types of the kernel or of one of its modules, as bytes that stay in the kernel's memory.
/// Linux 6.16; read the file where it cannot be mapped.
#[derive(Debug)]
pub struct KernelBtf {
    region: Region,
    len: usize,
}

impl KernelBtf {
    /// Maps `/sys/kernel/btf/NAME`; the kernel itself is called `vmlinux`.
    ///
    /// # Errors
    /// `ENOENT` without such a file; `ENODEV` or `EIO` where the kernel does not map it; `EINVAL`
    /// for a name that is none, and where `/sys` is not the kernel's.
    pub fn open(name: &str) -> Answer<KernelBtf> {
        let invalid = Refused::because("open", Errno::EINVAL);
        if name.contains('/') || name == ".." {
            return Err(invalid);
        }
        let path = format!("/sys/kernel/btf/{name}");
        let file = File::open(path).map_err(|error| Refused::of("open", &error))?;
        // Only what the kernel shows there never changes; a file that someone mounted in its place
        // could.
        match nix::sys::statfs::fstatfs(&file) {
            Ok(stat) if stat.filesystem_type() == nix::sys::statfs::SYSFS_MAGIC => {}
            Ok(_) => return Err(invalid),
            Err(errno) => return Err(Refused::because("fstatfs", Errno(errno as i32))),
        }
        let status = file
            .metadata()
            .map_err(|error| Refused::of("stat", &error))?;
        let len = usize::try_from(status.len()).map_err(|_| invalid)?;
        // The kernel refuses to share these pages, even for reading.
        let region = Region::map(&From::Private(file.as_fd()), len, Read::PROTECTION)?;
        Ok(KernelBtf { region, len })
    }
}

impl Deref for KernelBtf {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: the mapping has that many bytes of a kernel object that never changes: it came
        // from sysfs, and the kernel refuses writable mappings. The mapping keeps it alive.
        unsafe { std::slice::from_raw_parts(self.region.start().as_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Anonymous, From, Read, Shared, Write, page_size};
    use bpfsmith_uapi::Errno;
    use std::os::fd::AsFd;
    use std::sync::atomic::Ordering;

    fn memory(len: u64) -> std::fs::File {
        // SAFETY: a name that is zero-terminated.
        let fd = unsafe { libc::memfd_create(c"bs-rings".as_ptr(), libc::MFD_CLOEXEC) };
        assert!(fd >= 0);
        // SAFETY: a new fd that nobody else owns.
        let file: std::fs::File = unsafe { std::os::fd::FromRawFd::from_raw_fd(fd) };
        file.set_len(len).unwrap();
        file
    }

    #[test]
    fn both_views_see_one_memory() {
        let page = page_size();
        let file = memory(page as u64);
        let ours = Shared::<Write>::of(&From::Fd(file.as_fd(), 0), page).unwrap();
        let theirs = Shared::<Read>::of(&From::Fd(file.as_fd(), 0), page).unwrap();
        ours.u64(8).unwrap().store(7, Ordering::Release);
        assert_eq!(theirs.load_u64(8), Some(7));
        for (offset, len) in [
            (0, 0),
            (0, 1),
            (3, 4),
            (5, 40),
            (7, 1),
            (16, 33),
            (page - 9, 9),
        ] {
            let bytes: Vec<u8> = (0..len)
                .map(|byte| u8::try_from(byte + 1).unwrap())
                .collect();
            let mut back = vec![0; bytes.len()];
            ours.copy_in(offset, &bytes).unwrap();
            theirs.copy_out(offset, &mut back).unwrap();
            assert_eq!(back, bytes, "{offset} {len}");
        }
    }

    #[test]
    fn nothing_outside_is_reached() {
        let page = page_size();
        let file = memory(page as u64);
        let memory = Shared::<Write>::of(&From::Fd(file.as_fd(), 0), page).unwrap();
        assert!(memory.u64(page - 4).is_none() && memory.u64(4).is_none());
        assert!(memory.u32(page).is_none() && memory.u32(2).is_none());
        assert!(memory.load_u64(usize::MAX - 3).is_none());
        assert!(memory.copy_out(page - 3, &mut [0; 4]).is_none());
        assert!(memory.copy_in(page, &[0]).is_none());
        assert!(
            memory
                .u64s(8..page)
                .is_some_and(|words| words.len() == page / 8 - 1)
        );
        assert!(memory.u64s(4..12).is_none() && memory.u64s(0..7).is_none());
        #[expect(clippy::reversed_empty_ranges, reason = "it must be refused")]
        let reversed = memory.u32s(8..4);
        assert!(reversed.is_none());
        let none = Shared::<Read>::of(&From::Fd(file.as_fd(), 0), 0).unwrap_err();
        assert_eq!((none.call, none.errno), ("mmap", Errno::EINVAL));
    }

    #[test]
    fn a_guard_follows_anonymous_memory() {
        let mut ours = Anonymous::new(page_size() + 1).unwrap();
        assert!(ours.iter().all(|&byte| byte == 0));
        ours[page_size()] = 1;
        let start = ours.as_ptr().addr();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let guard = format!(
            "{:x}-{:x} ---p",
            start + 2 * page_size(),
            start + 3 * page_size()
        );
        assert!(maps.contains(&guard), "{guard}\n{maps}");
        assert_eq!(Anonymous::new(0).unwrap_err().errno, Errno::EINVAL);
        assert_eq!(Anonymous::new(usize::MAX).unwrap_err().errno, Errno::EINVAL);
    }
}
