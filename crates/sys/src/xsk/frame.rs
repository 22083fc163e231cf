//! A frame that user code has.

use super::umem::{Memory, Owner};
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// A frame that the kernel does not have: its bytes may be read and changed. It is sent or
/// given back by value; dropped, it goes into the pool of its memory.
///
/// It dereferences to the packet in it.
#[derive(Debug)]
pub struct Frame {
    memory: Arc<Memory>,
    index: u32,
    /// Where the packet starts in the frame.
    start: u32,
    /// `start + len` is at most the size of the frame.
    len: u32,
}

/// The packet would have more bytes than there is room.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{needed} bytes needed, the frame has room for {room}")]
pub struct NoRoom {
    /// Bytes needed.
    pub needed: usize,
    /// Bytes that there are.
    pub room: u32,
}

bpfsmith_uapi::debug_as_display!(NoRoom);

impl Frame {
    /// The caller made [`Owner::Value`] of the owner.
    #[inline]
    pub(super) fn empty(memory: Arc<Memory>, index: u32) -> Frame {
        Frame {
            index,
            start: memory.headroom(),
            len: 0,
            memory,
        }
    }

    /// A received packet. The caller made [`Owner::Value`] of the owner.
    #[inline]
    pub(super) fn holding(memory: Arc<Memory>, index: u32, start: u32, len: u32) -> Option<Frame> {
        // Made first, so that it goes back into the pool if it is wrong.
        let mut frame = Frame::empty(memory, index);
        let end = start.checked_add(len)?;
        if end > frame.memory.size() {
            return None;
        }
        frame.start = start;
        frame.len = len;
        Some(frame)
    }

    /// How many bytes may stand from the packet's first on.
    #[must_use]
    pub fn room(&self) -> u32 {
        self.memory.size() - self.start
    }

    /// Which frame of its memory it is.
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// Makes the packet shorter or longer at its end. What it gains is what stood there before.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub fn resize(&mut self, len: usize) -> Result<(), NoRoom> {
        let room = self.room();
        match u32::try_from(len) {
            Ok(len) if len <= room => {
                self.len = len;
                Ok(())
            }
            _ => Err(NoRoom { needed: len, room }),
        }
    }

    /// Makes these bytes the packet.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub fn write(&mut self, packet: &[u8]) -> Result<(), NoRoom> {
        self.resize(packet.len())?;
        self.copy_from_slice(packet);
        Ok(())
    }

    /// Puts so many bytes in front of the packet, such as a header; they are what stood there before.
    ///
    /// # Errors
    /// [`NoRoom`]: a received packet has the headroom and 256 bytes in front of it, an empty one the
    /// headroom.
    pub fn prepend(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let room = self.start;
        let more = u32::try_from(bytes).ok().filter(|&more| more <= room);
        let more = more.ok_or(NoRoom {
            needed: bytes,
            room,
        })?;
        self.start -= more;
        self.len += more;
        Ok(())
    }

    /// Takes so many bytes away from the front; all of them, if there are not more.
    pub fn trim_front(&mut self, bytes: usize) {
        let less = u32::try_from(bytes).map_or(self.len, |bytes| bytes.min(self.len));
        self.start += less;
        self.len -= less;
    }

    /// Whether it is of this memory.
    #[inline]
    pub(super) fn is_of(&self, memory: &Arc<Memory>) -> bool {
        Arc::ptr_eq(&self.memory, memory)
    }

    /// Gives the frame away: its number, and where the packet starts.
    #[inline]
    pub(super) fn give(self, to: Owner) -> (u32, u32) {
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is not used or dropped afterwards; the memory is taken out of it once.
        let memory = unsafe { std::ptr::read(&this.memory) };
        memory.change(this.index, Owner::Value, to);
        (this.index, this.start)
    }

    #[inline]
    fn bytes(&self) -> *mut u8 {
        let at = self.memory.base(self.index) + self.start as usize;
        // SAFETY: the index is of a frame, which is inside of the region, and the start inside of it.
        unsafe { self.memory.region().start().as_ptr().add(at) }
    }
}

impl Deref for Frame {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: inside of the frame, whose memory the kernel initialised; the owner of the frame is
        // this value, and neither the kernel nor another value has it until that is changed.
        unsafe { std::slice::from_raw_parts(self.bytes(), self.len as usize) }
    }
}

impl DerefMut for Frame {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and this value is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.bytes(), self.len as usize) }
    }
}

impl Drop for Frame {
    #[inline]
    fn drop(&mut self) {
        let mut pool = self.memory.pool();
        if self.memory.change(self.index, Owner::Value, Owner::Pool) {
            pool.push(self.index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Layout, Umem};
    use super::*;

    #[test]
    fn a_packet_grows_and_shrinks_at_both_ends() {
        let umem = Umem::new(Layout::new(2).size(2048).headroom(100)).unwrap();
        let mut frame = umem.frame().unwrap();
        assert_eq!((frame.room(), frame.len()), (1948, 0));
        frame.write(b"payload").unwrap();
        frame.prepend(4).unwrap();
        frame[..4].copy_from_slice(b"head");
        assert_eq!(&*frame, b"headpayload");
        frame.trim_front(6);
        assert_eq!(&*frame, b"yload");
        frame.resize(2).unwrap();
        assert_eq!(&*frame, b"yl");
        let room = frame.room();
        let needed = room as usize + 1;
        assert_eq!(frame.resize(needed), Err(NoRoom { needed, room }));
        assert_eq!(frame.resize(room as usize), Ok(()));
        assert!(frame.write(&[0; 2049]).is_err());
        assert!(frame.prepend(103).is_err() && frame.prepend(102).is_ok());
        assert_eq!(frame.len(), 2048);
        frame.trim_front(usize::MAX);
        assert!(frame.is_empty());
    }

    #[test]
    fn frames_do_not_overlap() {
        let umem = Umem::new(Layout::new(4).size(2048)).unwrap();
        let mut frames: Vec<_> = std::iter::from_fn(|| umem.frame()).collect();
        for (mark, frame) in (1..).zip(&mut frames) {
            frame.resize(2048).unwrap();
            frame.fill(mark);
        }
        for (mark, frame) in (1..).zip(&frames) {
            assert!(frame.iter().all(|&byte| byte == mark));
        }
    }

    #[test]
    fn a_packet_that_reaches_out_of_its_frame_is_none() {
        let umem = Umem::new(Layout::new(1).size(2048)).unwrap();
        for (start, len) in [(2048, 1), (0, 2049), (1, u32::MAX)] {
            let index = umem.0.pool().pop().unwrap();
            assert!(umem.0.change(index, Owner::Pool, Owner::Value));
            let held = Frame::holding(Arc::clone(&umem.0), index, start, len);
            assert!(held.is_none());
            assert_eq!(umem.census().free, 1, "it went back");
        }
    }
}
