//! The protocol of BPF ring buffers, from the writer's side in user space.
//!
//! The pages are those of [`ring`](crate::ring), with the roles changed: here the producer's page and
//! the data are writable. A program reads no record that is busy, so a reserved one belongs to its
//! writer alone.

use crate::map::Map;
use crate::mmap::{From, Region, page_size};
use crate::ring::{
    BUSY, Claim, DISCARD, HEADER, OpenError, Positions, load_of_theirs, room, shared_len,
    size_of_ring,
};
use bpfsmith_uapi::MapType;
use std::ops::{Deref, DerefMut};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// The writing end of a `USER_RINGBUF` map. Linux 6.1.
#[derive(Debug)]
pub struct Producer {
    /// The consumer's page, read-only.
    theirs: Region,
    /// The producer's page and the data twice, writable.
    ours: Region,
    size: usize,
    _claim: Claim,
}

/// Why there is no room for a record.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// Not now: the program has to read first.
    #[error("{needed} bytes needed, {free} are free: the program has to read first")]
    Full {
        /// Bytes with the header.
        needed: usize,
        /// Bytes that are free.
        free: usize,
    },
    /// Never: the record is longer than the ring.
    #[error("{needed} bytes needed, the ring has {size}")]
    TooLong {
        /// Bytes with the header.
        needed: usize,
        /// Bytes of the ring.
        size: usize,
    },
    /// The positions contradict each other: another process writes to the ring's pages.
    #[error("the positions {} and {} make no sense", .0.consumer, .0.producer)]
    Corrupt(Positions),
}

bpfsmith_uapi::debug_as_display!(NoRoom);

impl Producer {
    /// Maps the ring of a map.
    ///
    /// # Errors
    /// [`OpenError::Kind`] for another map, [`OpenError::Taken`] when this process writes it already.
    pub fn open(map: &Map) -> Result<Producer, OpenError> {
        let size = size_of_ring(map, MapType::USER_RINGBUF)?;
        let claim = Claim::of(map)?;
        let page = page_size();
        let fd = map.as_fd();
        let theirs = Region::map(&From::Fd(fd, 0), page, libc::PROT_READ)?;
        let write = libc::PROT_READ | libc::PROT_WRITE;
        let ours = Region::map(&From::Fd(fd, page as u64), shared_len(size)?, write)?;
        Ok(Producer {
            theirs,
            ours,
            size,
            _claim: claim,
        })
    }

    /// Bytes of data.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }

    #[inline]
    fn consumer(&self) -> &AtomicUsize {
        // SAFETY: the start of a page that stays mapped, only reached by atomic loads.
        unsafe { self.theirs.start().cast().as_ref() }
    }

    #[inline]
    fn producer(&self) -> &AtomicUsize {
        // SAFETY: the start of a page of ours, only reached by atomic operations.
        unsafe { self.ours.start().cast().as_ref() }
    }

    /// Both positions.
    #[must_use]
    pub fn positions(&self) -> Positions {
        let consumer = load_of_theirs(self.consumer());
        let producer = self.producer().load(Ordering::Acquire);
        Positions { consumer, producer }
    }

    /// Where a record of that length would start.
    #[inline]
    fn place(&self, len: u32) -> Result<usize, NoRoom> {
        let needed = room(len);
        // The two highest bits of a length are flags.
        if needed > self.size || len & (BUSY | DISCARD) != 0 {
            let size = self.size;
            return Err(NoRoom::TooLong { needed, size });
        }
        let positions = self.positions();
        let at = positions.producer;
        if positions.used() > self.size || at & 7 != 0 {
            return Err(NoRoom::Corrupt(positions));
        }
        let free = self.size - positions.used();
        if needed > free {
            return Err(NoRoom::Full { needed, free });
        }
        Ok(at)
    }

    /// Whether there is room for a record now.
    ///
    /// # Errors
    /// [`NoRoom`] when there never will be.
    pub fn has_room(&self, len: u32) -> Result<bool, NoRoom> {
        match self.place(len) {
            Ok(_) => Ok(true),
            Err(NoRoom::Full { .. }) => Ok(false),
            Err(no_room) => Err(no_room),
        }
    }

    /// Reserves room for a record. Its bytes are what stood there before: write all of them.
    ///
    /// # Errors
    /// [`NoRoom`].
    #[inline]
    pub fn reserve(&mut self, len: u32) -> Result<Reserved<'_>, NoRoom> {
        let at = self.place(len)?;
        let reserved = Reserved {
            offset: page_size() + (at & (self.size - 1)),
            len,
            submit: false,
            producer: self,
        };
        // The program stops at a busy header, which has to be there before the position.
        reserved.word(0).store(len | BUSY, Ordering::Relaxed);
        // The kernel keeps a page number here in its own rings.
        reserved.word(4).store(0, Ordering::Relaxed);
        let end = at.wrapping_add(room(len));
        reserved.producer.producer().store(end, Ordering::Release);
        Ok(reserved)
    }
}

/// Room for a record. Dropped without [`submit`](Reserved::submit), it is discarded: the program
/// skips it.
#[derive(Debug)]
pub struct Reserved<'a> {
    producer: &'a mut Producer,
    /// Of the header, in the writable region.
    offset: usize,
    len: u32,
    submit: bool,
}

impl Reserved<'_> {
    /// Lets the program read it.
    #[inline]
    pub fn submit(mut self) {
        self.submit = true;
    }

    /// Has the program skip it.
    #[inline]
    pub fn discard(self) {}

    #[inline]
    fn word(&self, offset: usize) -> &AtomicU32 {
        let at = self.producer.ours.start();
        // SAFETY: the header is inside of the first copy of the data and a multiple of 8; it is only
        // reached by atomic operations.
        unsafe { at.add(self.offset + offset).cast().as_ref() }
    }

    #[inline]
    fn start(&self) -> *mut u8 {
        let at = self.producer.ours.start().as_ptr();
        // SAFETY: the record was found to fit into the ring, and starts in the first of two copies.
        unsafe { at.add(self.offset + HEADER) }
    }
}

impl Deref for Reserved<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: inside of the region, initialised by the kernel or by earlier records; the program
        // does not read what is busy, and every program and its verifier leave it unwritten.
        unsafe { std::slice::from_raw_parts(self.start(), self.len as usize) }
    }
}

impl DerefMut for Reserved<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; the producer is borrowed exclusively, and the bytes of a record that was
        // forgotten stay reserved.
        unsafe { std::slice::from_raw_parts_mut(self.start(), self.len as usize) }
    }
}

impl Drop for Reserved<'_> {
    #[inline]
    fn drop(&mut self) {
        let flag = if self.submit { 0 } else { DISCARD };
        // Bytes first, then the header that shows them.
        self.word(0).store(self.len | flag, Ordering::Release);
    }
}
