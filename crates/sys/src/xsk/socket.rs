//! An open XDP socket: frames go to the kernel and come back.

use super::error::{BUSY_POLL, Corrupt, Error, Fault, POLL, Queue, RECV, SEND};
use super::frame::Frame;
use super::open::{Rings, Wakeup};
use super::ring::{Entry, Ring};
use super::umem::{Memory, Owner};
use crate::refused::{Answer, Refused};
use bpfsmith_uapi::Errno;
use bpfsmith_uapi::xsk::desc::XDP_PKT_CONTD;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// Bytes of an Ethernet header: a frame with less is none.
const HEADER: usize = 14;

/// A socket that exchanges whole Ethernet frames with one queue of a device. Linux 5.4.
///
/// Its descriptor becomes readable when frames were received and writable when there is room to
/// send. A duplicate of the descriptor keeps the kernel's part alive when this value is dropped.
#[derive(Debug)]
pub struct Socket {
    rings: Rings,
    memory: Arc<Memory>,
    wakeup: Wakeup,
    on: Queue,
    with_kernel: WithKernel,
    /// Whether calls do the driver's work.
    polls: bool,
    is_drained: bool,
    fd: OwnedFd,
}

/// Frames that a socket has given to the kernel and not got back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WithKernel {
    /// To receive into.
    pub receiving: u32,
    /// To send.
    pub sending: u32,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What became of frames to send when the kernel was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kicked {
    /// How many frames it has not taken yet: call again. It takes 32 at a call where it copies.
    pub pending: u32,
    /// Why it stopped, if it said so: `EAGAIN`, `EBUSY` or `ENOBUFS`. The last two mean that the device
    /// or the socket cannot hold more at present.
    pub stopped: Option<Errno>,
}

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// A received frame.
    Receive,
    /// Room to send.
    Send,
}

impl Socket {
    pub(super) fn of(
        fd: OwnedFd,
        on: Queue,
        wakeup: Wakeup,
        memory: Arc<Memory>,
        rings: Rings,
    ) -> Socket {
        Socket {
            rings,
            memory,
            wakeup,
            on,
            with_kernel: WithKernel::default(),
            polls: false,
            is_drained: false,
            fd,
        }
    }

    /// How many frames it has given to the kernel and not got back.
    #[must_use]
    pub const fn with_kernel(&self) -> WithKernel {
        self.with_kernel
    }

    /// Closes the socket, as dropping it does, and says how many frames stay with the kernel: it
    /// does not say when it is done with them, so the memory has that many fewer until it is dropped.
    pub fn close(mut self) -> WithKernel {
        self.drain();
        self.with_kernel
    }

    /// Puts into the pool what the kernel is certainly done with, once: what comes after that stays as it
    /// was told.
    pub(super) fn drain(&mut self) {
        if std::mem::replace(&mut self.is_drained, true) {
            return;
        }
        let mut received = Vec::new();
        // Rings that contradict themselves give nothing back, and nobody is left to be told.
        while matches!(self.receive(&mut received, 256), Ok(1..)) {
            received.clear();
        }
        let _ = self.reap();
    }

    /// Its queue.
    #[must_use]
    pub const fn on(&self) -> Queue {
        self.on
    }

    pub(super) const fn wakeup(&self) -> Wakeup {
        self.wakeup
    }

    pub(super) fn is_on(&self, memory: &Arc<Memory>) -> bool {
        Arc::ptr_eq(&self.memory, memory)
    }

    pub(super) const fn rings(&self) -> &Rings {
        &self.rings
    }

    pub(super) fn refused(&self, refused: Refused) -> Error {
        Error::of(refused, Some(self.on))
    }

    /// Gives the kernel frames from the pool to receive into, `limit` at most, and returns how many:
    /// fewer when the pool is empty or the ring full. Where others need frames of this memory too, the limit
    /// is what [`with_kernel`](Socket::with_kernel) has not yet.
    ///
    /// # Errors
    /// [`Fault::Corrupt`]; [`Fault::Refused`] when the kernel had to be woken and refused: the frames
    /// are in the ring all the same.
    pub fn fill(&mut self, limit: u32) -> Result<u32, Fault> {
        let room = self.rings.fill.room()?.min(limit);
        let mut given = 0;
        let mut pool = self.memory.pool();
        while given < room {
            let Some(index) = pool.pop() else {
                break;
            };
            self.memory.change(index, Owner::Pool, Owner::Receiving);
            self.rings.fill.put(given, self.to_fill(index));
            given += 1;
        }
        drop(pool);
        self.publish_fill(given)
    }

    /// Gives the kernel these frames to receive into, as far as there is room: they leave the
    /// list, the first ones first. What is in them is lost.
    ///
    /// # Errors
    /// As [`fill`](Socket::fill); [`Fault::Foreign`].
    pub fn give(&mut self, frames: &mut Vec<Frame>) -> Result<u32, Fault> {
        let room = self.rings.fill.room()? as usize;
        let (count, fault) = self.first(frames, room, |_, _| None);
        let mut given = 0;
        for frame in frames.drain(..count) {
            let (index, _) = frame.give(Owner::Receiving);
            self.rings.fill.put(given, self.to_fill(index));
            given += 1;
        }
        let given = self.publish_fill(given)?;
        fault.map_or(Ok(given), Err)
    }

    #[inline]
    fn to_fill(&self, index: u32) -> Entry {
        Entry {
            address: self.memory.base(index) as u64,
            len: 0,
            options: 0,
        }
    }

    /// Shows frames to the kernel, and wakes it if it waits for some.
    fn publish_fill(&mut self, given: u32) -> Result<u32, Fault> {
        self.rings.fill.publish(given);
        let receiving = &mut self.with_kernel.receiving;
        *receiving = receiving.saturating_add(given);
        // Also for those that it was given before: it may have gone to sleep just then.
        if self.rings.fill.wants_wakeup() && self.rings.fill.pending()? > 0 {
            match self.call(Wait::Receive) {
                Ok(()) => {}
                Err(refused) if refused.errno == Errno::EAGAIN => {}
                Err(refused) => return Err(self.refused(refused).into()),
            }
        }
        Ok(given)
    }

    /// How many of the first frames may be handed over, and what is wrong with the next.
    fn first(
        &self,
        frames: &[Frame],
        room: usize,
        wrong: impl Fn(usize, &Frame) -> Option<Fault>,
    ) -> (usize, Option<Fault>) {
        for (at, frame) in frames.iter().take(room).enumerate() {
            let fault = match frame.is_of(&self.memory) {
                true => wrong(at, frame),
                false => Some(Fault::Foreign { at }),
            };
            if fault.is_some() {
                return (at, fault);
            }
        }
        (frames.len().min(room), None)
    }

    /// Takes received frames, `limit` at most, in the order in which they came; returns how many.
    ///
    /// # Errors
    /// [`Fault::Corrupt`]: frames before the wrong one are in the list.
    pub fn receive(&mut self, into: &mut Vec<Frame>, limit: u32) -> Result<u32, Fault> {
        let Some(ring) = &mut self.rings.receive else {
            return Err(Error::new(RECV, Some(self.on), Errno::ENOBUFS).into());
        };
        let count = ring.available()?.min(limit);
        let mut taken = 0;
        let mut wrong = None;
        while taken < count && wrong.is_none() {
            let entry = ring.peek(taken);
            match received(&self.memory, entry) {
                Some(frame) => {
                    into.push(frame);
                    // One that comes back elsewhere than it was given is counted there.
                    let receiving = &mut self.with_kernel.receiving;
                    *receiving = receiving.saturating_sub(1);
                }
                None => wrong = Some(ring.bad(entry)),
            }
            taken += 1;
        }
        ring.release(taken);
        wrong.map_or(Ok(taken), |wrong| Err(wrong.into()))
    }

    /// Puts frames into the ring of those to send, as far as there is room: they leave the list, the
    /// first ones first; returns how many. [`kick`](Socket::kick) sends them.
    ///
    /// # Errors
    /// [`Fault::Foreign`], [`Fault::TooShort`]: frames before the wrong one are in the ring.
    /// [`Fault::Corrupt`].
    pub fn send(&mut self, frames: &mut Vec<Frame>) -> Result<u32, Fault> {
        let room = self.sender()?.room()? as usize;
        let (count, fault) = self.first(frames, room, |at, frame| {
            let len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
            (frame.len() < HEADER).then_some(Fault::TooShort { at, len })
        });
        let memory = Arc::clone(&self.memory);
        let ring = self.sender()?;
        let mut given = 0;
        for frame in frames.drain(..count) {
            let len = u32::try_from(frame.len()).unwrap_or(0);
            let (index, start) = frame.give(Owner::Sending);
            let entry = Entry {
                address: memory.address(index, start),
                len,
                options: 0,
            };
            ring.put(given, entry);
            given += 1;
        }
        ring.publish(given);
        let sending = &mut self.with_kernel.sending;
        *sending = sending.saturating_add(given);
        fault.map_or(Ok(given), Err)
    }

    fn sender(&mut self) -> Result<&mut Ring, Error> {
        let refused = Error::new(SEND, Some(self.on), Errno::ENOBUFS);
        self.rings.send.as_mut().ok_or(refused)
    }

    /// Has the kernel send what is in the ring, unless it does so by itself.
    ///
    /// # Errors
    /// `ENETDOWN` when the device is down, `ENXIO` when it has gone: frames stay in the ring.
    pub fn kick(&mut self) -> Result<Kicked, Fault> {
        let always = self.wakeup == Wakeup::Always;
        let ring = self.sender()?;
        let mut stopped = None;
        if ring.pending()? > 0 && (always || ring.wants_wakeup()) {
            match self.call(Wait::Send) {
                Ok(()) => {}
                Err(Refused {
                    errno: errno @ (Errno::EAGAIN | Errno::EBUSY | Errno::ENOBUFS),
                    ..
                }) => stopped = Some(errno),
                Err(refused) => return Err(self.refused(refused).into()),
            }
        }
        let pending = self.sender()?.pending()?;
        Ok(Kicked { pending, stopped })
    }

    /// Takes back frames that were sent, into the pool; returns how many. The kernel sends no more when
    /// none are taken back: call it now and then.
    ///
    /// # Errors
    /// [`Fault::Corrupt`]: frames before the wrong one are in the pool.
    pub fn reap(&mut self) -> Result<u32, Fault> {
        let ring = &mut self.rings.completion;
        let count = ring.available()?;
        let mut pool = self.memory.pool();
        let mut taken = 0;
        let mut wrong = None;
        while taken < count && wrong.is_none() {
            let entry = ring.peek(taken);
            let found = self.memory.find(entry.address).map(|(index, _)| index);
            match found.filter(|index| self.memory.change(*index, Owner::Sending, Owner::Pool)) {
                Some(index) => {
                    pool.push(index);
                    let sending = &mut self.with_kernel.sending;
                    *sending = sending.saturating_sub(1);
                }
                None => wrong = Some(ring.bad(entry)),
            }
            taken += 1;
        }
        ring.release(taken);
        wrong.map_or(Ok(taken), |wrong: Corrupt| Err(wrong.into()))
    }

    /// Has the kernel look at the rings of one direction.
    fn call(&self, way: Wait) -> Answer<()> {
        let (fd, flags) = (self.fd.as_raw_fd(), libc::MSG_DONTWAIT);
        let (nothing, nobody) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: without a buffer and an address, the kernel only looks at the rings.
        let (call, answer) = unsafe {
            match way {
                Wait::Receive => {
                    let answer =
                        libc::recvfrom(fd, nothing, 0, flags, nobody, std::ptr::null_mut());
                    (RECV, answer)
                }
                Wait::Send => (SEND, libc::sendto(fd, nothing, 0, flags, nobody, 0)),
            }
        };
        match answer {
            0.. => Ok(()),
            _ => Err(Refused::last(call)),
        }
    }

    /// Asks the kernel whether anything can still come, which also does the driver's work when
    /// [`busy_poll`](Socket::busy_poll) is on.
    fn ask(&self) -> Result<(), Error> {
        let way = match self.rings.receive {
            Some(_) => Wait::Receive,
            None => Wait::Send,
        };
        match self.call(way) {
            Err(refused) if matches!(refused.errno, Errno::ENXIO | Errno::ENETDOWN) => {
                Err(self.refused(refused))
            }
            _ => Ok(()),
        }
    }

    /// Waits until there is something, and says whether there is. It also wakes the kernel.
    ///
    /// # Errors
    /// `ENETDOWN` when there is nothing until the limit and the device is down, `ENXIO` when it has
    /// gone (some kernels say all the same that there is room to send); [`Problem::NoRing`](super::Problem::NoRing)
    /// without the ring; when the call fails for another reason than a signal.
    pub fn wait(&self, what: Wait, limit: Duration) -> Result<bool, Error> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let (ring, flags) = match what {
            Wait::Receive => (&self.rings.receive, PollFlags::POLLIN),
            Wait::Send => (&self.rings.send, PollFlags::POLLOUT),
        };
        if ring.is_none() {
            return Err(Error::new(POLL, Some(self.on), Errno::ENOBUFS));
        }
        if self.polls {
            self.ask()?;
        }
        let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(self.fd.as_fd(), flags)];
        match poll(&mut fds, limit) {
            Ok(_) => {
                let [polled] = &fds;
                let is_there = polled.revents().is_some_and(|came| came.contains(flags));
                // Of a device that has gone, the kernel says nothing here.
                if !is_there {
                    self.ask()?;
                }
                Ok(is_there)
            }
            Err(nix::errno::Errno::EINTR) => Ok(false),
            Err(errno) => Err(Error::new(POLL, Some(self.on), Errno(errno as i32))),
        }
    }

    /// [`wait`](Socket::wait), and [`kick`](Socket::kick) where it calls the kernel, do the driver's work
    /// for so many microseconds, `budget` packets at a time. Interrupts stay away meanwhile if the device's
    /// `napi_defer_hard_irqs` and `gro_flush_timeout` are set. Linux 5.11.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_ADMIN`; `ENOPROTOOPT` on older kernels.
    pub fn busy_poll(&mut self, microseconds: u16, budget: u16) -> Result<(), Error> {
        const SO_PREFER_BUSY_POLL: i32 = 69;
        const SO_BUSY_POLL_BUDGET: i32 = 70;
        for (option, value) in [
            (SO_PREFER_BUSY_POLL, 1),
            (libc::SO_BUSY_POLL, i32::from(microseconds)),
            (SO_BUSY_POLL_BUDGET, i32::from(budget)),
        ] {
            // SAFETY: the kernel reads 4 bytes at `value`.
            let answer = unsafe {
                let value = std::ptr::from_ref(&value).cast();
                libc::setsockopt(self.fd.as_raw_fd(), libc::SOL_SOCKET, option, value, 4)
            };
            if answer != 0 {
                return Err(self.refused(Refused::last(BUSY_POLL)));
            }
        }
        self.polls = true;
        Ok(())
    }
}

/// The frame of a descriptor, if the kernel had it.
#[inline]
fn received(memory: &Arc<Memory>, entry: Entry) -> Option<Frame> {
    let (index, start) = memory.find(entry.address)?;
    // The rest of the packet would be in other frames; the kernel was told that we take none such.
    let is_whole = entry.options & XDP_PKT_CONTD == 0;
    let is_ours = is_whole && memory.change(index, Owner::Receiving, Owner::Value);
    is_ours.then_some(())?;
    Frame::holding(Arc::clone(memory), index, start, entry.len)
}

impl Drop for Socket {
    /// What the kernel is certainly done with goes back into the pool.
    fn drop(&mut self) {
        self.drain();
    }
}
