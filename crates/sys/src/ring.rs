//! The protocol of BPF ring buffers, from the reader's side.
//!
//! A ring is a page with the consumer's position, a page with the producer's, and the data, which are
//! mapped twice in a row so that no record is cut. Positions are
//! words of the kernel and only grow; a record starts with a header
//! of 8 bytes, of which the first 4 hold its length and two flags, and takes a multiple of 8 bytes.
//! Between the two positions nobody writes to a record that is not busy: these are the bytes that
//! this module lends as slices, until it moves the consumer's position. So that nobody else moves it,
//! a ring has one reader in a process.

use crate::info;
use crate::map::Map;
use crate::mmap::{From, Region, page_size};
use crate::refused::Refused;
use bpfsmith_uapi::{Errno, MapType};
use std::collections::BTreeSet;
use std::ops::{ControlFlow, Deref};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering, fence};
use std::sync::{Mutex, PoisonError};

/// The record is still being written.
pub(crate) const BUSY: u32 = 1 << 31;
/// The record is to be skipped.
pub(crate) const DISCARD: u32 = 1 << 30;
/// Bytes of a header.
pub(crate) const HEADER: usize = 8;

/// Loads a word that the other side stores. Memory that is mapped for reading alone may only be
/// reached by relaxed loads; the fence makes it an acquire.
#[inline]
pub(crate) fn load_of_theirs(word: &AtomicUsize) -> usize {
    let value = word.load(Ordering::Relaxed);
    fence(Ordering::Acquire);
    value
}

/// How many bytes a record takes in the ring.
#[inline]
pub(crate) const fn room(len: u32) -> usize {
    (len as usize + HEADER + 7) & !7
}

/// Why a ring could not be opened.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The kernel refused.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The kernel would not say which map it is.
    #[error(transparent)]
    Unknown(#[from] crate::Failed),
    /// The map is of another kind, or its size is no power of two.
    #[error("{0} is no such ring")]
    Kind(MapType),
    /// Another part of this process has it open.
    #[error("the ring is open in this process already")]
    Taken,
}

bpfsmith_uapi::debug_as_display!(OpenError);

/// A ring that contradicts itself. Its kernel is broken, or somebody wrote to its pages.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Corrupt {
    /// The record is longer than what the producer has written.
    #[error("the record at {position} has {len} bytes, but the producer wrote {ahead}")]
    Length {
        /// Where the record is.
        position: usize,
        /// What its header says.
        len: u32,
        /// How many bytes there are from there to the producer's position.
        ahead: usize,
    },
    /// The positions are farther apart than the ring is long, or not at a record.
    #[error("the positions {consumer} and {producer} make no sense in a ring of {size} bytes")]
    Positions {
        /// Where the reader is.
        consumer: usize,
        /// Where the writer is.
        producer: usize,
        /// How long the ring is.
        size: usize,
    },
}

bpfsmith_uapi::debug_as_display!(Corrupt);

/// The right to move one position of a map's ring.
#[derive(Debug)]
pub(crate) struct Claim(u32);

static CLAIMED: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

impl Claim {
    pub(crate) fn of(map: &Map) -> Result<Claim, OpenError> {
        let id = info::map(map.as_fd())?.id;
        let mut claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
        // A claim takes itself back when it is dropped: there must not be one that was not granted.
        if claimed.insert(id) {
            Ok(Claim(id))
        } else {
            Err(OpenError::Taken)
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
        claimed.remove(&self.0);
    }
}

/// The size of a ring's data as a map says it.
pub(crate) fn size_of_ring(map: &Map, kind: MapType) -> Result<usize, OpenError> {
    let facts = map.facts();
    let size = facts.entries as usize;
    if facts.kind == kind && size.is_power_of_two() && size.is_multiple_of(page_size()) {
        return Ok(size);
    }
    Err(OpenError::Kind(facts.kind))
}

/// How many bytes the page of the other side and the data, twice, take.
pub(crate) fn shared_len(size: usize) -> Result<usize, OpenError> {
    let data = size.checked_mul(2);
    let len = data.and_then(|data| data.checked_add(page_size()));
    len.ok_or(OpenError::Refused(Refused::because(
        "mmap",
        Errno::EOVERFLOW,
    )))
}

/// When the producer learns that records were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// After so many records at the latest; and always at the end. 0 counts as 1.
    pub commit_every: u32,
    /// The end comes after so many records at the latest.
    pub limit: u64,
}

impl Pace {
    /// All that is there, with room given back every 256 records.
    pub const ALL: Pace = Pace {
        commit_every: 256,
        limit: u64::MAX,
    };
}

impl Default for Pace {
    fn default() -> Pace {
        Pace::ALL
    }
}

/// Why reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Everything was read.
    Empty,
    /// The next record is still being written.
    Busy,
    /// The callback asked to stop, after a record that counts as read.
    Stopped,
    /// The limit was reached.
    Limit,
}

/// What was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// How many records were handed out.
    pub records: u64,
    /// How many were skipped because the program discarded them.
    pub discarded: u64,
    /// Why it ended.
    pub end: End,
}

/// What a callback returns: nothing, or whether to go on.
pub trait Verdict {
    /// Whether this was enough.
    fn is_enough(&self) -> bool;
}

impl Verdict for () {
    #[inline]
    fn is_enough(&self) -> bool {
        false
    }
}

impl Verdict for ControlFlow<()> {
    #[inline]
    fn is_enough(&self) -> bool {
        self.is_break()
    }
}

/// The positions of both sides at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Positions {
    /// How many bytes the reader has given back since the ring was made.
    pub consumer: usize,
    /// How many bytes the writers have reserved since then.
    pub producer: usize,
}

impl Positions {
    /// How many bytes are reserved and not given back.
    #[must_use]
    pub const fn used(&self) -> usize {
        self.producer.wrapping_sub(self.consumer)
    }
}

/// The reading end of a `RINGBUF` map. Linux 5.8.
///
/// A ring buffer has one reader. Within this process a second one is refused; that no other process
/// reads the same ring, through a pin or a number, is up to those who may open it: records would be
/// overwritten while they are looked at.
#[derive(Debug)]
pub struct Consumer {
    /// The consumer's page, writable.
    ours: Region,
    /// The producer's page and the data twice, read-only.
    theirs: Region,
    /// Bytes of data: a power of two, whole pages.
    size: usize,
    /// The producer's position as last seen by `next_record`.
    seen: usize,
    /// Whether a position was stored after the last full fence.
    unfenced: bool,
    _claim: Option<Claim>,
}

/// Stores the reader's position, also when a callback panics.
struct Commit<'a> {
    word: &'a AtomicUsize,
    position: usize,
}

impl Drop for Commit<'_> {
    #[inline]
    fn drop(&mut self) {
        self.word.store(self.position, Ordering::Release);
    }
}

/// What stands at a position.
enum Found {
    Record(u32),
    Discarded(u32),
    Busy,
}

impl Consumer {
    /// Maps the ring of a map.
    ///
    /// # Errors
    /// [`OpenError::Kind`] for another map, [`OpenError::Taken`] when this process reads it already.
    pub fn open(map: &Map) -> Result<Consumer, OpenError> {
        let size = size_of_ring(map, MapType::RINGBUF)?;
        let claim = Claim::of(map)?;
        let page = page_size();
        let fd = map.as_fd();
        let write = libc::PROT_READ | libc::PROT_WRITE;
        let ours = Region::map(&From::Fd(fd, 0), page, write)?;
        let behind = From::Fd(fd, page as u64);
        let theirs = Region::map(&behind, shared_len(size)?, libc::PROT_READ)?;
        Ok(Consumer {
            ours,
            theirs,
            size,
            seen: 0,
            unfenced: true,
            _claim: Some(claim),
        })
    }

    /// Bytes of data.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }

    #[inline]
    fn consumer(&self) -> &AtomicUsize {
        // SAFETY: the start of a page of ours, only reached by atomic operations.
        unsafe { self.ours.start().cast().as_ref() }
    }

    #[inline]
    fn producer(&self) -> &AtomicUsize {
        // SAFETY: the start of a page that stays mapped, only reached by atomic loads.
        unsafe { self.theirs.start().cast().as_ref() }
    }

    /// Both positions.
    #[must_use]
    pub fn positions(&self) -> Positions {
        // In this order the difference is never negative while this end does not move.
        let consumer = self.consumer().load(Ordering::Acquire);
        let producer = load_of_theirs(self.producer());
        Positions { consumer, producer }
    }

    /// Where this end is and how far the other one, if that makes sense.
    #[inline]
    fn span(&self, consumer: usize) -> Result<usize, Corrupt> {
        let producer = load_of_theirs(self.producer());
        if producer.wrapping_sub(consumer) <= self.size && (consumer | producer) & 7 == 0 {
            return Ok(producer);
        }
        Err(self.senseless(consumer, producer))
    }

    #[cold]
    fn senseless(&self, consumer: usize, producer: usize) -> Corrupt {
        Corrupt::Positions {
            consumer,
            producer,
            size: self.size,
        }
    }

    /// Looks at the header of a record.
    ///
    /// # Safety
    /// `position` is a multiple of 8, and at most the size of the ring before `producer`, which is a
    /// multiple of 8, larger, and was loaded with acquire.
    #[inline]
    unsafe fn look(
        &self,
        data: *const u8,
        position: usize,
        producer: usize,
    ) -> Result<Found, Corrupt> {
        let offset = position & (self.size - 1);
        // SAFETY: the offset is inside of the first copy of the data and a multiple of 8; the word is
        // only reached by atomic loads.
        let header = unsafe { &*data.add(offset).cast::<AtomicU32>() };
        let header = header.load(Ordering::Relaxed);
        // As in `load_of_theirs`.
        fence(Ordering::Acquire);
        if header & BUSY != 0 {
            return Ok(Found::Busy);
        }
        let len = header & !DISCARD;
        let ahead = producer.wrapping_sub(position);
        if room(len) > ahead {
            return Err(too_long(position, len, ahead));
        }
        if header & DISCARD != 0 {
            return Ok(Found::Discarded(len));
        }
        Ok(Found::Record(len))
    }

    /// The first copy of the data.
    #[inline]
    fn data(&self) -> *const u8 {
        // SAFETY: the region has that page and the data, twice, behind it.
        unsafe { self.theirs.start().as_ptr().add(page_size()) }
    }

    /// The bytes of a record.
    ///
    /// # Safety
    /// `look` found a record of that length, and the reader's position is not moved beyond it while
    /// the slice lives.
    #[inline]
    unsafe fn bytes<'a>(&self, data: *const u8, position: usize, len: u32) -> &'a [u8] {
        let offset = position & (self.size - 1);
        // SAFETY: header and bytes together are not longer than the ring, and start in the first of
        // two copies. Nobody writes to them: the record is not busy, and the kernel gives its room to
        // another one only when the position has moved.
        unsafe { std::slice::from_raw_parts(data.add(offset + HEADER), len as usize) }
    }

    /// Hands all records to a callback, in the order in which their room was reserved.
    ///
    /// The producer learns of the room that became free by one store for as many records as `pace`
    /// says. If the callback panics, its record stays in the ring, and those before it are read.
    /// When this returns with [`End::Empty`], a record that comes later wakes whoever polls the map.
    ///
    /// # Errors
    /// [`Corrupt`]; records before the fault are read.
    #[inline]
    pub fn drain<V: Verdict>(
        &mut self,
        pace: Pace,
        mut each: impl FnMut(&[u8]) -> V,
    ) -> Result<Drained, Corrupt> {
        let this = &*self;
        let (data, word) = (this.data(), this.consumer());
        let position = word.load(Ordering::Acquire);
        let mut commit = Commit { word, position };
        let mut drained = Drained {
            records: 0,
            discarded: 0,
            end: End::Empty,
        };
        let every = u64::from(pace.commit_every.max(1));
        loop {
            let start = commit.position;
            let producer = this.span(start)?;
            drained.end = End::Empty;
            'ring: while commit.position != producer {
                let mut left = every.min(pace.limit - drained.records);
                if left == 0 {
                    drained.end = End::Limit;
                    return Ok(drained);
                }
                while left != 0 && commit.position != producer {
                    let at = commit.position;
                    // SAFETY: `span` compared the positions, and `look` only accepts records that
                    // end at or before the producer's.
                    let found = unsafe { this.look(data, at, producer)? };
                    left -= 1;
                    let len = match found {
                        Found::Record(len) => len,
                        Found::Discarded(len) => {
                            commit.position = at.wrapping_add(room(len));
                            drained.discarded += 1;
                            continue;
                        }
                        Found::Busy => {
                            drained.end = End::Busy;
                            break 'ring;
                        }
                    };
                    // SAFETY: the position is stored after the callback has given the slice back.
                    let verdict = each(unsafe { this.bytes(data, at, len) });
                    commit.position = at.wrapping_add(room(len));
                    drained.records += 1;
                    if verdict.is_enough() {
                        drained.end = End::Stopped;
                        return Ok(drained);
                    }
                }
                word.store(commit.position, Ordering::Release);
            }
            if start == commit.position {
                return Ok(drained);
            }
            // The kernel wakes a sleeper only for a record at the reader's position. It stores the
            // record's header and loads the position; we store the position and load the header:
            // with full fences on both sides one of us sees the other.
            word.store(commit.position, Ordering::Release);
            fence(Ordering::SeqCst);
        }
    }

    /// Lends the next record. Its room is given back when it is dropped.
    ///
    /// `None` when the ring is empty or the next record is still being written; a record that comes
    /// later wakes whoever polls the map.
    ///
    /// # Errors
    /// [`Corrupt`].
    #[inline]
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>, Corrupt> {
        let mut position = self.consumer().load(Ordering::Relaxed);
        loop {
            // What was seen of the other side may be of any age, but not from before the ring was
            // opened, nor behind this end.
            let ahead = self.seen.wrapping_sub(position);
            if ahead == 0 || ahead > self.size || position & 7 != 0 {
                self.seen = self.span(position)?;
            }
            if self.seen != position {
                // SAFETY: `span` compared the positions now or earlier, and `seen` is still ahead.
                match unsafe { self.look(self.data(), position, self.seen)? } {
                    Found::Record(len) => {
                        return Ok(Some(Record {
                            consumer: self,
                            position,
                            len,
                        }));
                    }
                    Found::Discarded(len) => {
                        position = position.wrapping_add(room(len));
                        self.give_back(position);
                        continue;
                    }
                    Found::Busy => {}
                }
            }
            if !self.unfenced {
                return Ok(None);
            }
            // As at the end of `drain`: look once more.
            fence(Ordering::SeqCst);
            self.unfenced = false;
        }
    }

    #[inline]
    fn give_back(&mut self, position: usize) {
        self.consumer().store(position, Ordering::Release);
        self.unfenced = true;
    }
}

#[cold]
fn too_long(position: usize, len: u32, ahead: usize) -> Corrupt {
    Corrupt::Length {
        position,
        len,
        ahead,
    }
}

/// A record in the ring. Its room is given back when this is dropped.
#[derive(Debug)]
pub struct Record<'a> {
    consumer: &'a mut Consumer,
    position: usize,
    len: u32,
}

impl Record<'_> {
    /// Leaves it in the ring: it comes again.
    pub fn put_back(self) {
        std::mem::forget(self);
    }
}

impl Deref for Record<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        let consumer = &*self.consumer;
        // SAFETY: `next_record` found it there, and the consumer is borrowed until it is dropped,
        // which is what moves the position.
        unsafe { consumer.bytes(consumer.data(), self.position, self.len) }
    }
}

impl Drop for Record<'_> {
    #[inline]
    fn drop(&mut self) {
        let end = self.position.wrapping_add(room(self.len));
        self.consumer.give_back(end);
    }
}

#[cfg(test)]
mod tests {
    use super::{BUSY, Consumer, Corrupt, DISCARD, Drained, End, Pace, room};
    use crate::mmap::{From, Region, page_size};
    use std::ops::ControlFlow;

    /// A ring in memory of our own, whose other side is the test.
    struct Fake {
        consumer: Consumer,
    }

    impl Fake {
        fn new(position: usize) -> Fake {
            let page = page_size();
            let write = libc::PROT_READ | libc::PROT_WRITE;
            let ours = Region::map(&From::Zeroes, page, write).unwrap();
            let theirs = Region::map(&From::Zeroes, 3 * page, write).unwrap();
            let consumer = Consumer {
                ours,
                theirs,
                size: page,
                seen: 0,
                unfenced: true,
                _claim: None,
            };
            let mut fake = Fake { consumer };
            fake.consumer.give_back(position);
            fake.produce(position);
            fake
        }

        fn produce(&mut self, position: usize) {
            let at = self.consumer.theirs.start().cast::<usize>();
            // SAFETY: memory of the test, to which nobody holds a reference now.
            unsafe { at.write(position) };
        }

        /// Writes a header, and bytes that count up from `first`, in both copies of the data.
        fn record(&mut self, position: usize, header: u32, first: u8) -> usize {
            let len = header & !(BUSY | DISCARD);
            let size = self.consumer.size;
            let put = |offset: usize, byte: u8| {
                let offset = offset % size + page_size();
                for copy in [0, page_size()] {
                    let at = self.consumer.theirs.at(offset + copy, 1).unwrap();
                    // SAFETY: as above.
                    unsafe { at.write(byte) };
                }
            };
            for (index, byte) in (0..).zip(header.to_ne_bytes()) {
                put(position.wrapping_add(index), byte);
            }
            for byte in 0..u8::try_from(len.min(64)).unwrap() {
                let index = 8 + usize::from(byte);
                put(position.wrapping_add(index), first.wrapping_add(byte));
            }
            position.wrapping_add(room(len))
        }

        fn drain(&mut self, pace: Pace) -> (Result<Drained, Corrupt>, Vec<Vec<u8>>) {
            let mut records = Vec::new();
            let drained = self
                .consumer
                .drain(pace, |bytes| records.push(bytes.to_vec()));
            (drained, records)
        }
    }

    fn drained(records: u64, discarded: u64, end: End) -> Result<Drained, Corrupt> {
        Ok(Drained {
            records,
            discarded,
            end,
        })
    }

    #[test]
    fn records_discards_and_a_busy_one() {
        for start in [
            0,
            4096 - 16,
            4096 - 8,
            usize::MAX - 15,
            usize::MAX - 7,
        ] {
            let mut ring = Fake::new(start);
            let mut at = ring.record(start, 3, 1);
            at = ring.record(at, 5 | DISCARD, 9);
            at = ring.record(at, 0, 0);
            let busy = at;
            at = ring.record(at, 16 | BUSY, 7);
            ring.produce(at);
            let (answer, records) = ring.drain(Pace::ALL);
            assert_eq!(answer, drained(2, 1, End::Busy), "{start}");
            assert_eq!(records, [vec![1, 2, 3], vec![]]);
            assert_eq!(ring.consumer.positions().consumer, busy);
            assert!(ring.consumer.next_record().unwrap().is_none());
            ring.record(busy, 16, 7);
            let record = ring.consumer.next_record().unwrap().unwrap();
            assert_eq!((record.len(), record[15]), (16, 22));
            record.put_back();
            let (answer, records) = ring.drain(Pace::ALL);
            assert_eq!(answer, drained(1, 0, End::Empty));
            assert_eq!(records[0].len(), 16);
            assert_eq!(ring.consumer.positions().used(), 0);
        }
    }

    #[test]
    fn limits_and_stops() {
        let mut ring = Fake::new(0);
        let mut at = 0;
        for first in 0..10 {
            at = ring.record(at, 8, first);
        }
        ring.produce(at);
        let pace = Pace {
            commit_every: 2,
            limit: 3,
        };
        let (answer, records) = ring.drain(pace);
        assert_eq!((answer, records.len()), (drained(3, 0, End::Limit), 3));
        let none = Pace { limit: 0, ..pace };
        assert_eq!(ring.drain(none).0, drained(0, 0, End::Limit));
        let mut seen = 0;
        let answer = ring.consumer.drain(Pace::ALL, |bytes| {
            seen = bytes[0];
            if seen == 5 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        assert_eq!(answer, drained(3, 0, End::Stopped));
        assert_eq!(ring.consumer.next_record().unwrap().unwrap()[0], 6);
        assert_eq!(ring.drain(Pace::ALL).1[0][0], 7);
    }

    #[test]
    fn a_panic_loses_no_record() {
        let mut ring = Fake::new(0);
        let mut at = 0;
        for first in 0..4 {
            at = ring.record(at, 8, first);
        }
        ring.produce(at);
        let consumer = &mut ring.consumer;
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _ = consumer.drain(Pace::ALL, |bytes| assert!(bytes[0] != 2));
        }));
        assert!(caught.is_err());
        assert_eq!(
            ring.drain(Pace::ALL).1,
            [
                (2..10).collect::<Vec<u8>>(),
                (3..11).collect()
            ]
        );
    }

    #[test]
    fn contradictions_are_errors() {
        let size = page_size();
        // A record behind the producer, one longer than the ring, one of the greatest length.
        for len in [
            17,
            u32::try_from(size).unwrap(),
            !(BUSY | DISCARD),
        ] {
            for flag in [0, DISCARD] {
                let mut ring = Fake::new(8);
                let at = ring.record(8, 8, 1);
                ring.record(at, len | flag, 1);
                ring.produce(at + 24);
                let wrong = Corrupt::Length {
                    position: at,
                    len,
                    ahead: 24,
                };
                let (answer, records) = ring.drain(Pace::ALL);
                assert_eq!((answer, records.len()), (Err(wrong), 1));
                assert_eq!(ring.consumer.next_record().unwrap_err(), wrong);
                assert_eq!(ring.drain(Pace::ALL).0, Err(wrong));
            }
        }
        for (consumer, producer) in [
            (0, size + 8),
            (8, 0),
            (4, 12),
            (0, 12),
            (3, 3),
        ] {
            let mut ring = Fake::new(consumer);
            ring.produce(producer);
            let wrong = Corrupt::Positions {
                consumer,
                producer,
                size,
            };
            assert_eq!(ring.drain(Pace::ALL).0, Err(wrong));
            assert_eq!(ring.consumer.next_record().unwrap_err(), wrong);
        }
    }
}
