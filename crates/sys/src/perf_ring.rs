//! The ring of a perf event, from the reader's side.
//!
//! One page says how far the kernel has written and we have read; data follows, once, so that a
//! record may run over the end and start again at the front. A ring that is written forward keeps
//! what is between the two positions. One that is written backward keeps nothing: its bytes are
//! copied by atomic operations, and what the kernel wrote meanwhile is thrown away.

use crate::mmap::{From, Region, page_size};
use crate::perf::{Claim, Direction, PerfEvent};
use crate::refused::{Answer, Refused};
use bpfsmith_uapi::Errno;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// `data_head` and `data_tail` in the first page.
const HEAD: usize = 1024;
const TAIL: usize = 1032;

/// Bytes of a record's header.
const HEADER: u64 = 8;

/// The ring of a perf event.
#[derive(Debug)]
pub struct PerfRing {
    region: Region,
    size: usize,
    direction: Direction,
    /// A record that runs over the end is put together here.
    scratch: Vec<u8>,
    /// Given back after the pages.
    _claim: Claim,
}

/// The ring contradicts itself: somebody wrote to its pages.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the record at {position} has {len} bytes, but {ahead} were written")]
pub struct Corrupt {
    /// Where the record is.
    pub position: u64,
    /// What its header says.
    pub len: u64,
    /// How many bytes the kernel wrote behind it.
    pub ahead: u64,
}

bpfsmith_uapi::debug_as_display!(Corrupt);

/// A record as it stands in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw<'a> {
    /// `PERF_RECORD_…`.
    pub kind: u32,
    /// What follows the header.
    pub body: &'a [u8],
}

/// `PERF_RECORD_LOST`.
pub const RECORD_LOST: u32 = 2;
/// `PERF_RECORD_SAMPLE`.
pub const RECORD_SAMPLE: u32 = 9;

impl PerfRing {
    /// Maps the ring of an event that was opened with this direction. It has `pages` pages of data,
    /// a power of two.
    ///
    /// # Errors
    /// `EINVAL` for a number that is no power of two; `EBUSY` while the event has another ring, whose
    /// reader would move the same position; `EPERM` for more than
    /// `perf_event_mlock_kb` without `CAP_IPC_LOCK`.
    pub fn map(event: &PerfEvent, pages: usize, direction: Direction) -> Answer<PerfRing> {
        let invalid = Refused::because("mmap", Errno::EINVAL);
        if !pages.is_power_of_two() {
            return Err(invalid);
        }
        let size = pages.checked_mul(page_size()).ok_or(invalid)?;
        let len = size.checked_add(page_size()).ok_or(invalid)?;
        // The kernel respects our position only if we may write it.
        let protection = match direction {
            Direction::Forward => libc::PROT_READ | libc::PROT_WRITE,
            Direction::Backward => libc::PROT_READ,
        };
        let claim = event
            .claim_ring()
            .ok_or(Refused::because("mmap", Errno::EBUSY))?;
        Ok(PerfRing {
            region: Region::map(&From::Fd(event.as_fd(), 0), len, protection)?,
            size,
            direction,
            scratch: Vec::new(),
            _claim: claim,
        })
    }

    /// Bytes of data.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }

    #[inline]
    fn position(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: both are aligned words in the first page, only reached by atomic operations; the
        // tail is only written if the mapping is writable.
        unsafe { self.region.start().add(offset).cast().as_ref() }
    }

    /// The kernel's position. The page may be mapped for reading alone, which only relaxed loads may
    /// reach; the fence makes it an acquire.
    #[inline]
    fn head(&self) -> u64 {
        let head = self.position(HEAD).load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        head
    }

    /// How many bytes are unread; 0 for a ring that is written backward.
    #[must_use]
    pub fn unread(&self) -> u64 {
        match self.direction {
            Direction::Backward => 0,
            Direction::Forward => {
                let tail = self.position(TAIL).load(Ordering::Relaxed);
                self.head().wrapping_sub(tail)
            }
        }
    }

    /// Where in the data a position is.
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the rest of a division by the size is less"
    )]
    const fn offset(&self, position: u64) -> usize {
        (position & (self.size as u64 - 1)) as usize
    }

    /// The word at a position, read at once.
    #[inline]
    fn word(&self, position: u64) -> u64 {
        let offset = page_size() + (self.offset(position) & !7);
        // SAFETY: an aligned word inside of the data, only reached by an atomic load.
        let word: &AtomicU64 = unsafe { self.region.start().add(offset).cast().as_ref() };
        word.load(Ordering::Relaxed)
    }

    /// Reads the records of a ring that is written forward. The kernel learns of the room that became
    /// free by one store at the end; if the callback panics, its record stays. The callback says
    /// whether it wants more.
    ///
    /// # Errors
    /// [`Corrupt`]; records before the fault are read.
    #[inline]
    pub fn drain(&mut self, mut each: impl FnMut(Raw<'_>) -> bool) -> Result<(), Corrupt> {
        if self.direction == Direction::Backward {
            return Ok(());
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let answer = {
            let tail = self.position(TAIL);
            let mut commit = Commit {
                word: tail,
                position: tail.load(Ordering::Relaxed),
            };
            self.walk(&mut commit.position, &mut scratch, &mut each)
        };
        self.scratch = scratch;
        answer
    }

    #[inline]
    fn walk(
        &self,
        position: &mut u64,
        scratch: &mut Vec<u8>,
        each: &mut impl FnMut(Raw<'_>) -> bool,
    ) -> Result<(), Corrupt> {
        let head = self.head();
        while *position != head {
            let at = *position;
            let ahead = head.wrapping_sub(at);
            let (kind, size) = split(self.word(at));
            let len = u64::from(size);
            let is_record = len >= HEADER && (len | at) & 7 == 0;
            if !is_record || len > ahead || ahead > self.size as u64 {
                return Err(Corrupt {
                    position: at,
                    len,
                    ahead,
                });
            }
            // SAFETY: the record is between the positions, as compared.
            let body = unsafe { self.body(at, usize::from(size) - 8, scratch) };
            let more = each(Raw { kind, body });
            *position = at.wrapping_add(len);
            if !more {
                break;
            }
        }
        Ok(())
    }

    /// The `len` bytes behind a header, in place unless they run over the end.
    ///
    /// # Safety
    /// The record lies between our position and the kernel's, in a ring that is written forward.
    #[inline]
    unsafe fn body<'a>(&'a self, at: u64, len: usize, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        let start = self.offset(at.wrapping_add(HEADER));
        let size = self.size;
        // SAFETY: the data starts behind the first page.
        let data = unsafe { self.region.start().as_ptr().add(page_size()) };
        let first = len.min(size - start);
        // SAFETY: inside of the data; the kernel does not write there before our position moves, and
        // the claim says that no other ring of this event moves it.
        let front = unsafe { std::slice::from_raw_parts(data.add(start), first) };
        if first == len {
            return front;
        }
        // SAFETY: as above; a record is at most as long as the ring.
        let back = unsafe { std::slice::from_raw_parts(data, len - first) };
        scratch.clear();
        scratch.extend_from_slice(front);
        scratch.extend_from_slice(back);
        scratch
    }

    /// Copies what a ring that is written backward holds, and hands out its records, the newest
    /// first. Pause the event before: what was overwritten while it was copied is left out.
    /// The callback says whether it wants more.
    pub fn newest(&mut self, mut each: impl FnMut(Raw<'_>) -> bool) {
        if self.direction == Direction::Forward {
            return;
        }
        let mut copy = std::mem::take(&mut self.scratch);
        copy.clear();
        // Head starts at 0 and goes down.
        let head = self.head();
        for offset in (0..self.size as u64).step_by(8) {
            copy.extend_from_slice(&self.word(head.wrapping_add(offset)).to_ne_bytes());
        }
        // The copy comes before the second look at the head.
        fence(Ordering::Acquire);
        let later = self.head();
        // As much as the kernel has written since then is gone at the far end; what was never
        // written is zero.
        let limit = |bytes: u64| usize::try_from(bytes).map_or(self.size, |b| b.min(self.size));
        let gone = limit(head.wrapping_sub(later));
        let written = limit(0_u64.wrapping_sub(head));
        let valid = written.min(self.size - gone);
        let mut rest = copy.get(..valid).unwrap_or_default();
        while let Some((header, behind)) = rest.split_first_chunk::<8>() {
            let (kind, len) = split(u64::from_ne_bytes(*header));
            let body = usize::from(len).checked_sub(8);
            // The oldest record is usually cut.
            let Some(body) = body.filter(|&len| len <= behind.len()) else {
                break;
            };
            let (body, next) = behind.split_at(body);
            rest = next;
            if !each(Raw { kind, body }) {
                break;
            }
        }
        self.scratch = copy;
    }
}

/// Type and length of a header.
#[inline]
fn split(header: u64) -> (u32, u16) {
    let [a, b, c, d, _, _, e, f] = header.to_ne_bytes();
    (u32::from_ne_bytes([a, b, c, d]), u16::from_ne_bytes([e, f]))
}

/// Stores the reader's position, also when a callback panics.
struct Commit<'a> {
    word: &'a AtomicU64,
    position: u64,
}

impl Drop for Commit<'_> {
    #[inline]
    fn drop(&mut self) {
        self.word.store(self.position, Ordering::Release);
    }
}
