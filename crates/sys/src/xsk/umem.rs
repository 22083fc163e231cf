//! The memory of frames, and who has each of them.

use super::error::{Error, MMAP, REG};
use super::frame::Frame;
use crate::mmap::{From, Region, page_size};
use bpfsmith_uapi::Errno;
use bpfsmith_uapi::xsk::umem::XDP_UMEM_UNALIGNED_CHUNK_FLAG;
use bpfsmith_uapi::xsk::{
    XDP_PACKET_HEADROOM, XDP_UMEM_MIN_CHUNK_SIZE, XSK_UNALIGNED_BUF_ADDR_MASK,
    XSK_UNALIGNED_BUF_OFFSET_SHIFT,
};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const HUGE: usize = 2 << 20;

/// How frames lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    frames: u32,
    size: u32,
    headroom: u32,
    flags: u32,
    block: Block,
}

/// What is certainly contiguous for the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    Page,
    Huge,
}

impl Layout {
    /// So many frames of 4096 bytes.
    #[must_use]
    pub const fn new(frames: u32) -> Layout {
        Layout {
            frames,
            size: 4096,
            headroom: 0,
            flags: 0,
            block: Block::Page,
        }
    }

    /// Frames of another size: 2048 or 4096.
    #[must_use]
    pub const fn size(mut self, bytes: u32) -> Layout {
        self.size = bytes;
        self
    }

    /// So many bytes are left free in front of received packets, beside the 256 that the kernel
    /// leaves to XDP programs.
    #[must_use]
    pub const fn headroom(mut self, bytes: u32) -> Layout {
        self.headroom = bytes;
        self
    }

    /// The size is any between 2048 and 4096. A frame does not cross the border of a page, so that
    /// this saves memory only with [`huge`](Layout::huge) ones. Linux 5.4.
    #[must_use]
    pub const fn unaligned(mut self) -> Layout {
        self.flags |= XDP_UMEM_UNALIGNED_CHUNK_FLAG;
        self
    }

    /// In pages of 2 MB, which the administrator has to set aside.
    #[must_use]
    pub const fn huge(mut self) -> Layout {
        self.block = Block::Huge;
        self
    }

    fn block(&self) -> usize {
        match self.block {
            Block::Page => page_size(),
            Block::Huge => HUGE,
        }
    }

    const fn is_unaligned(&self) -> bool {
        self.flags & XDP_UMEM_UNALIGNED_CHUNK_FLAG != 0
    }

    /// Bytes to map, if the kernel would take such frames.
    fn bytes(&self) -> Option<usize> {
        let is_size = (XDP_UMEM_MIN_CHUNK_SIZE..=4096).contains(&self.size)
            && (self.is_unaligned() || self.size.is_power_of_two());
        let is_room = self.headroom < self.size.saturating_sub(XDP_PACKET_HEADROOM);
        if !(is_size && is_room && self.frames > 0) {
            return None;
        }
        let blocks = (self.frames as usize).div_ceil(self.block() / self.size as usize);
        blocks.checked_mul(self.block())
    }
}

/// Who has a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Owner {
    /// The pool.
    Pool = 0,
    /// A [`Frame`] value.
    Value = 1,
    /// The kernel, to receive into.
    Receiving = 2,
    /// The kernel, to send.
    Sending = 3,
}

/// How many frames are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// In the pool.
    pub free: u32,
    /// In [`Frame`] values.
    pub held: u32,
    /// With the kernel, to receive into; also those that were received and not taken yet.
    pub receiving: u32,
    /// With the kernel, to send; also those that were sent and not taken back yet.
    pub sending: u32,
}

/// Memory that is cut into frames, for one or more XDP sockets.
///
/// Each frame is in one place at a time: in the pool of this memory, in a [`Frame`] value, or with
/// the kernel. A clone is the same memory. It is unmapped when the last clone, socket and
/// frame is gone. It is of this process alone: a forked child does not have it, nor the rings.
#[derive(Clone, Debug)]
pub struct Umem(pub(super) Arc<Memory>);

#[derive(Debug)]
pub(super) struct Memory {
    region: Region,
    layout: Layout,
    block: usize,
    per_block: usize,
    /// What each frame's [`Owner`] is. Only who changes it from another value has the frame.
    owners: Box<[AtomicU8]>,
    /// The frames whose owner is the pool; those given back last come first.
    free: Mutex<Vec<u32>>,
}

impl Umem {
    /// Maps memory for frames. The kernel locks it when a socket is opened on it.
    ///
    /// # Errors
    /// [`Problem::BadFrames`](super::Problem::BadFrames), [`Problem::NoMemory`](super::Problem::NoMemory).
    pub fn new(layout: Layout) -> Result<Umem, Error> {
        let bytes = layout.bytes();
        let bytes = bytes.ok_or(Error::new(REG, None, Errno::EINVAL))?;
        let from = match layout.block {
            Block::Page => From::Zeroes,
            Block::Huge => From::HugeZeroes,
        };
        let region = Region::map(&from, bytes, libc::PROT_READ | libc::PROT_WRITE);
        let region = region.map_err(|refused| Error::new(MMAP, None, refused.errno))?;
        // A child would have copies that no packet arrives in, made when it is forked: all of what is
        // locked, at once.
        let kept = region.keep_from_children();
        kept.map_err(|refused| Error::of(refused, None))?;
        let pool = || AtomicU8::new(Owner::Pool as u8);
        Ok(Umem(Arc::new(Memory {
            region,
            layout,
            block: layout.block(),
            per_block: layout.block() / layout.size as usize,
            owners: (0..layout.frames).map(|_| pool()).collect(),
            free: Mutex::new((0..layout.frames).rev().collect()),
        })))
    }

    /// A frame from the pool, without contents; `None` when the pool is empty.
    #[must_use]
    pub fn frame(&self) -> Option<Frame> {
        let index = self.0.pool().pop()?;
        self.0.change(index, Owner::Pool, Owner::Value);
        Some(Frame::empty(Arc::clone(&self.0), index))
    }

    /// How many frames there are.
    #[must_use]
    pub fn frames(&self) -> u32 {
        self.0.layout.frames
    }

    /// Bytes of a frame.
    #[must_use]
    pub fn frame_size(&self) -> u32 {
        self.0.layout.size
    }

    /// Counts all frames: together they are always as many as there are. While other threads work
    /// with them, one may be counted where it was or where it is.
    ///
    /// What a socket had given to the kernel when it was closed stays counted there: the kernel does
    /// not say when it is done; [`Socket::close`](super::Socket::close) tells how many these are. What it had told to be received or sent by then is back in the pool.
    #[must_use]
    pub fn census(&self) -> Census {
        let mut census = Census::default();
        for owner in &self.0.owners {
            let owner = owner.load(Ordering::Relaxed);
            *match owner {
                0 => &mut census.free,
                1 => &mut census.held,
                2 => &mut census.receiving,
                _ => &mut census.sending,
            } += 1;
        }
        census
    }
}

impl Memory {
    pub(super) fn pool(&self) -> MutexGuard<'_, Vec<u32>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a frame on; false if `from` does not have it.
    #[inline]
    pub(super) fn change(&self, index: u32, from: Owner, to: Owner) -> bool {
        let Some(owner) = self.owners.get(index as usize) else {
            return false;
        };
        let (from, to) = (from as u8, to as u8);
        owner
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Where a frame starts in the region.
    #[inline]
    pub(super) fn base(&self, index: u32) -> usize {
        let index = index as usize;
        let (block, slot) = (index / self.per_block, index % self.per_block);
        block * self.block + slot * self.layout.size as usize
    }

    /// What the kernel calls a byte of a frame.
    #[inline]
    pub(super) fn address(&self, index: u32, offset: u32) -> u64 {
        let base = self.base(index) as u64;
        match self.layout.is_unaligned() {
            true => base | u64::from(offset) << XSK_UNALIGNED_BUF_OFFSET_SHIFT,
            false => base + u64::from(offset),
        }
    }

    /// The frame that the kernel means, and the byte in it; `None` if there is no such frame.
    #[inline]
    pub(super) fn find(&self, address: u64) -> Option<(u32, u32)> {
        let at = match self.layout.is_unaligned() {
            true => {
                let offset = address >> XSK_UNALIGNED_BUF_OFFSET_SHIFT;
                (address & XSK_UNALIGNED_BUF_ADDR_MASK) + offset
            }
            false => address,
        };
        let at = usize::try_from(at).ok()?;
        let (block, within) = (at / self.block, at % self.block);
        let size = self.layout.size as usize;
        let (slot, offset) = (within / size, within % size);
        let index = block.checked_mul(self.per_block)?.checked_add(slot)?;
        let is_frame = slot < self.per_block && index < self.owners.len();
        let index = u32::try_from(index).ok().filter(|_| is_frame)?;
        Some((index, u32::try_from(offset).ok()?))
    }

    #[inline]
    pub(super) const fn region(&self) -> &Region {
        &self.region
    }

    pub(super) const fn size(&self) -> u32 {
        self.layout.size
    }

    pub(super) const fn headroom(&self) -> u32 {
        self.layout.headroom
    }

    pub(super) const fn flags(&self) -> u32 {
        self.layout.flags
    }
}

#[cfg(test)]
mod tests {
    use super::super::Problem;
    use super::*;

    #[test]
    fn frames_that_the_kernel_refuses_are_refused() {
        for layout in [
            Layout::new(0),
            Layout::new(1).size(1024),
            Layout::new(1).size(3000),
            Layout::new(1).size(8192),
            Layout::new(1).size(0),
            Layout::new(1).size(4097).unaligned(),
            Layout::new(1).size(2047).unaligned(),
            Layout::new(1).headroom(4096 - 256),
            Layout::new(1).headroom(u32::MAX),
        ] {
            let error = Umem::new(layout).unwrap_err();
            assert_eq!(error.problem, Problem::BadFrames, "{layout:?}");
        }
        Umem::new(Layout::new(1).headroom(4096 - 257)).unwrap();
    }

    #[test]
    fn a_forked_child_gets_neither_frames_nor_copies_of_them() {
        let umem = Umem::new(Layout::new(5)).unwrap();
        let at = umem.0.region().start().addr().get();
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let number = |text| usize::from_str_radix(text, 16).ok();
        // Which map each line is about.
        let mut range = 0..0;
        let flags = maps.lines().find_map(|line| {
            let ends = line.split(' ').next().and_then(|ends| ends.split_once('-'));
            if let Some((Some(start), Some(end))) = ends.map(|(a, b)| (number(a), number(b))) {
                range = start..end;
            }
            let flags = line.strip_prefix("VmFlags:");
            flags.filter(|_| range.contains(&at))
        });
        assert!(flags.unwrap().contains(" dc"), "{flags:?}");
    }

    /// Whether there are huge pages is up to the machine.
    #[test]
    fn huge_pages_are_whole_or_refused_with_advice() {
        match Umem::new(Layout::new(700).size(3000).unaligned().huge()) {
            Ok(umem) => assert_eq!(umem.0.region().len(), 2 * HUGE),
            Err(error) => {
                let problem = error.problem;
                assert!(matches!(problem, Problem::NoMemory | Problem::NoHugePages));
                assert!(
                    error.hint().is_some_and(|hint| hint.contains("huge")),
                    "{error}"
                );
            }
        }
    }

    #[test]
    fn each_byte_is_found_again() {
        for (layout, bytes) in [
            (Layout::new(5), 5 * 4096),
            (Layout::new(5).size(2048), 3 * 4096),
            (Layout::new(3).size(3000).unaligned(), 3 * 4096),
        ] {
            let umem = Umem::new(layout).unwrap();
            let memory = &umem.0;
            assert_eq!(memory.region().len(), bytes);
            for index in 0..umem.frames() {
                for offset in [0, 256, umem.frame_size() - 1] {
                    let address = memory.address(index, offset);
                    assert_eq!(memory.find(address), Some((index, offset)), "{layout:?}");
                }
            }
            // Behind the last frame, and where no number leads.
            for address in [
                3 * 4096 + 3000,
                5 * 4096,
                1 << 47,
                u64::MAX,
                !4095,
            ] {
                let found = memory.find(address);
                let is_inside = layout.size == 4096 && address < 5 * 4096;
                assert_eq!(found.is_some(), is_inside, "{layout:?} {address:#x}");
            }
        }
    }

    #[test]
    fn frames_go_out_and_come_back() {
        let umem = Umem::new(Layout::new(3).size(2048)).unwrap();
        let frames: Vec<_> = std::iter::from_fn(|| umem.frame()).collect();
        assert_eq!(frames.len(), 3);
        let held = Census {
            held: 3,
            ..Census::default()
        };
        assert_eq!(umem.census(), held);
        drop(frames);
        assert_eq!(umem.census().free, 3);
        let last = umem.frame().unwrap();
        drop(umem);
        assert!(last.is_empty());
    }
}
