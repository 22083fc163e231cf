//! One ring of an XDP socket: entries that one side writes and the other reads.
//!
//! Both positions are words of 32 bits that only grow. Our own position is kept in this process, and
//! that of the other side is compared with it before it is believed: whatever stands in the shared
//! pages, no entry outside of the ring is reached.

use super::error::{Corrupt, Which};
use crate::mmap::Region;
use bpfsmith_uapi::xsk::ring::XDP_RING_NEED_WAKEUP;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// Where things are in the pages of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) producer: usize,
    pub(super) consumer: usize,
    pub(super) entries: usize,
    pub(super) flags: usize,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) address: u64,
    pub(super) len: u32,
    pub(super) options: u32,
}

/// Bytes of an entry: an address, or a whole descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stride {
    Address = 8,
    Descriptor = 16,
}

/// A ring, and our position in it.
#[derive(Debug)]
pub(super) struct Ring {
    region: Region,
    places: Places,
    stride: Stride,
    which: Which,
    /// A power of two.
    len: u32,
    next: u32,
}

impl Ring {
    /// The ring in these pages; `None` if it does not fit in there.
    pub(super) fn of(
        region: Region,
        places: Places,
        (stride, which): (Stride, Which),
        len: u32,
    ) -> Option<Ring> {
        for (place, align) in [
            (places.producer, 4),
            (places.consumer, 4),
            (places.flags, 4),
            (places.entries, 8),
        ] {
            region.at(place, 4).filter(|_| place % align == 0)?;
        }
        let bytes = (len as usize).checked_mul(stride as usize)?;
        region.at(places.entries, bytes)?;
        len.is_power_of_two().then_some(Ring {
            region,
            places,
            stride,
            which,
            len,
            next: 0,
        })
    }

    /// How many entries there are.
    pub(super) const fn len(&self) -> u32 {
        self.len
    }

    #[inline]
    fn word(&self, place: usize) -> &AtomicU32 {
        // SAFETY: one of the three places that `of` found inside of the region and aligned; the word
        // is only reached by atomic operations.
        unsafe { self.region.start().add(place).cast().as_ref() }
    }

    /// Where the entry with this number starts.
    #[inline]
    fn entry(&self, number: u32) -> std::ptr::NonNull<u8> {
        let index = (number & (self.len - 1)) as usize;
        // SAFETY: the index is less than the length, and `of` found all entries inside.
        unsafe {
            self.region
                .start()
                .add(self.places.entries + index * self.stride as usize)
        }
    }

    #[inline]
    fn address(&self, number: u32) -> &AtomicU64 {
        // SAFETY: inside of the region and a multiple of 8; only reached by atomic operations.
        unsafe { self.entry(number).cast().as_ref() }
    }

    /// The two words behind the address.
    #[inline]
    fn rest(&self, number: u32) -> Option<&[AtomicU32; 2]> {
        match self.stride {
            Stride::Address => None,
            // SAFETY: as above; an entry of this kind has 16 bytes.
            Stride::Descriptor => Some(unsafe { self.entry(number).add(8).cast().as_ref() }),
        }
    }

    /// Whether the kernel wants to be called.
    #[inline]
    pub(super) fn wants_wakeup(&self) -> bool {
        // It says so, and then looks at our position once more: so ours must be seen before we look, or
        // each would miss the other.
        fence(Ordering::SeqCst);
        self.word(self.places.flags).load(Ordering::Relaxed) & XDP_RING_NEED_WAKEUP != 0
    }

    fn senseless(&self, theirs: u32) -> Corrupt {
        Corrupt::Positions {
            ring: self.which,
            ours: self.next,
            theirs,
            entries: self.len,
        }
    }

    /// How many entries we have written and the kernel has not read.
    #[inline]
    pub(super) fn pending(&self) -> Result<u32, Corrupt> {
        // What we write from now on must not come before the kernel has read what stood there.
        let theirs = self.word(self.places.consumer).load(Ordering::Acquire);
        let used = self.next.wrapping_sub(theirs);
        match used <= self.len {
            true => Ok(used),
            false => Err(self.senseless(theirs)),
        }
    }

    /// How many entries we may write.
    #[inline]
    pub(super) fn room(&self) -> Result<u32, Corrupt> {
        Ok(self.len - self.pending()?)
    }

    /// Writes the entry that is `ahead` of those that were published. There must be room.
    #[inline]
    pub(super) fn put(&self, ahead: u32, entry: Entry) {
        let number = self.next.wrapping_add(ahead);
        self.address(number).store(entry.address, Ordering::Relaxed);
        if let Some([len, options]) = self.rest(number) {
            len.store(entry.len, Ordering::Relaxed);
            options.store(entry.options, Ordering::Relaxed);
        }
    }

    /// Lets the kernel read so many entries more.
    #[inline]
    pub(super) fn publish(&mut self, count: u32) {
        self.next = self.next.wrapping_add(count);
        // Entries and frames first, then the position that shows them.
        self.word(self.places.producer)
            .store(self.next, Ordering::Release);
    }

    /// How many entries the kernel has written and we have not read.
    #[inline]
    pub(super) fn available(&self) -> Result<u32, Corrupt> {
        let theirs = self.word(self.places.producer).load(Ordering::Acquire);
        let ready = theirs.wrapping_sub(self.next);
        match ready <= self.len {
            true => Ok(ready),
            false => Err(self.senseless(theirs)),
        }
    }

    /// Reads the entry that is `ahead` of those that were released. It must be available.
    #[inline]
    pub(super) fn peek(&self, ahead: u32) -> Entry {
        let number = self.next.wrapping_add(ahead);
        let [len, options] = self.rest(number).map_or([0, 0], |words| {
            words.each_ref().map(|word| word.load(Ordering::Relaxed))
        });
        Entry {
            address: self.address(number).load(Ordering::Relaxed),
            len,
            options,
        }
    }

    /// Lets the kernel write over so many entries.
    #[inline]
    pub(super) fn release(&mut self, count: u32) {
        self.next = self.next.wrapping_add(count);
        // Our reads come before the kernel's next writes.
        self.word(self.places.consumer)
            .store(self.next, Ordering::Release);
    }

    /// What is wrong with an entry.
    pub(super) const fn bad(&self, entry: Entry) -> Corrupt {
        Corrupt::Frame {
            ring: self.which,
            address: entry.address,
            len: entry.len,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::mmap::From;

    pub(in crate::xsk) const PLACES: Places = Places {
        producer: 0,
        consumer: 64,
        flags: 128,
        entries: 192,
    };

    /// A ring in memory of our own, where tests play the kernel.
    pub(in crate::xsk) fn ring(stride: Stride, len: u32) -> Ring {
        let bytes = 192 + len as usize * stride as usize;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let region = Region::map(&From::Zeroes, bytes, access).unwrap();
        Ring::of(region, PLACES, (stride, Which::Receive), len).unwrap()
    }

    impl Ring {
        /// What the kernel does: writes an entry where its position stands, and moves that.
        pub(in crate::xsk) fn kernel_writes(&self, entry: Entry) {
            let at = self.word(self.places.producer).load(Ordering::Relaxed);
            self.address(at).store(entry.address, Ordering::Relaxed);
            if let Some([len, options]) = self.rest(at) {
                len.store(entry.len, Ordering::Relaxed);
                options.store(entry.options, Ordering::Relaxed);
            }
            self.set(PLACES.producer, at.wrapping_add(1));
        }

        /// Reads all that was written.
        pub(in crate::xsk) fn kernel_reads(&self) {
            let at = self.word(self.places.producer).load(Ordering::Relaxed);
            self.set(PLACES.consumer, at);
        }

        /// Takes back what it has written and we have not read.
        pub(in crate::xsk) fn kernel_goes_back(&self) {
            self.set(PLACES.producer, self.next);
        }

        pub(in crate::xsk) fn set(&self, place: usize, value: u32) {
            self.word(place).store(value, Ordering::Release);
        }

        pub(in crate::xsk) fn start_at(mut self, position: u32) -> Ring {
            self.next = position;
            self.set(PLACES.producer, position);
            self.set(PLACES.consumer, position);
            self
        }
    }

    fn entry(address: u64) -> Entry {
        Entry {
            address,
            len: 60,
            options: 0,
        }
    }

    #[test]
    fn positions_wrap_around_and_entries_keep_their_order() {
        for start in [0, u32::MAX - 5] {
            let mut ring = ring(Stride::Descriptor, 4).start_at(start);
            for round in 0..1000_u64 {
                ring.kernel_writes(entry(2 * round));
                ring.kernel_writes(entry(2 * round + 1));
                assert_eq!(ring.available(), Ok(2));
                assert_eq!(ring.peek(0), entry(2 * round));
                assert_eq!(ring.peek(1), entry(2 * round + 1));
                ring.release(2);
            }
            let mut ring = tests::ring(Stride::Address, 4).start_at(start);
            for round in 0..1000 {
                assert_eq!(ring.room(), Ok(4));
                for ahead in 0..3 {
                    ring.put(ahead, entry(u64::from(ahead)));
                }
                ring.publish(3);
                assert_eq!((ring.room(), ring.pending()), (Ok(1), Ok(3)), "{round}");
                ring.set(PLACES.consumer, ring.next);
            }
        }
    }

    #[test]
    fn senseless_positions_are_refused() {
        let ring = ring(Stride::Descriptor, 8).start_at(100);
        for theirs in [0, 99, 109, u32::MAX] {
            ring.set(PLACES.producer, theirs);
            let refused = ring.available().unwrap_err();
            assert!(refused.to_string().contains(&theirs.to_string()));
        }
        for theirs in [0, 91, 101, u32::MAX] {
            ring.set(PLACES.consumer, theirs);
            assert!(ring.pending().is_err() && ring.room().is_err(), "{theirs}");
        }
        for (producer, consumer) in [(108, 100), (100, 92)] {
            ring.set(PLACES.producer, producer);
            ring.set(PLACES.consumer, consumer);
            assert!(ring.available().is_ok() && ring.room().is_ok());
        }
    }

    #[test]
    fn a_ring_outside_of_its_pages_is_none() {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let refused = |places, len| {
            let region = Region::map(&From::Zeroes, 4096, access).unwrap();
            let kind = (Stride::Descriptor, Which::Receive);
            Ring::of(region, places, kind, len).is_none()
        };
        assert!(!refused(PLACES, 128));
        assert!(refused(PLACES, 256) && refused(PLACES, 3) && refused(PLACES, 0));
        for places in [
            Places {
                producer: 8192,
                ..PLACES
            },
            Places {
                consumer: 2,
                ..PLACES
            },
            Places {
                flags: usize::MAX - 3,
                ..PLACES
            },
            Places {
                entries: 4,
                ..PLACES
            },
        ] {
            assert!(refused(places, 8), "{places:?}");
        }
    }
}
