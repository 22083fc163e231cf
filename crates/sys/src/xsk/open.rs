//! How an XDP socket is made: the plan, and the calls in their order.

use super::error::{
    BIND, COMPLETION_RING, Error, FILL_RING, MMAP, OFFSETS, PLAN, Queue, RECEIVE_RING, REG,
    SEND_RING, SOCKET, Which,
};
use super::ring::{Places, Ring, Stride};
use super::socket::Socket;
use super::umem::{Memory, Umem};
use crate::mmap::{From, Region};
use crate::refused::{Answer, Refused};
use bpfsmith_uapi::Errno;
use bpfsmith_uapi::xsk::option::{
    XDP_MMAP_OFFSETS, XDP_RX_RING, XDP_TX_RING, XDP_UMEM_COMPLETION_RING, XDP_UMEM_FILL_RING,
    XDP_UMEM_REG,
};
use bpfsmith_uapi::xsk::page::{
    XDP_PGOFF_RX_RING, XDP_PGOFF_TX_RING, XDP_UMEM_PGOFF_COMPLETION_RING, XDP_UMEM_PGOFF_FILL_RING,
};
use bpfsmith_uapi::xsk::{AF_XDP, SOL_XDP, bind as flag};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;

/// How packets come from the driver into frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Without copies if the driver can, else with; [`Socket::copies`] says which it is.
    Any,
    /// They are copied. Every device can.
    Copy,
    /// The driver works in the frames, or opening fails.
    ZeroCopy,
}

/// How the kernel learns of work in the rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wakeup {
    /// It says when it sleeps, and is called then. Linux 5.4.
    Asked,
    /// It is called each time.
    Always,
}

/// Which queue, with how long rings, in which mode.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    on: Queue,
    receive: u32,
    send: u32,
    fill: u32,
    completion: u32,
    mode: Mode,
    wakeup: Wakeup,
    beside: Option<&'a Socket>,
}

/// Entries of a ring unless told.
const ENTRIES: u32 = 2048;

/// No device has queues as long as this, and each entry takes memory of the kernel that nobody else gets.
const LONGEST: u32 = 1 << 20;

impl<'a> Plan<'a> {
    /// A socket that receives and sends on a queue, with rings of 2048 entries.
    ///
    /// The device is one of the network namespace of the thread that opens the socket.
    #[must_use]
    pub const fn new(device: u32, queue: u32) -> Plan<'a> {
        Plan {
            on: Queue { device, queue },
            receive: ENTRIES,
            send: ENTRIES,
            fill: ENTRIES,
            completion: ENTRIES,
            mode: Mode::Any,
            wakeup: Wakeup::Asked,
            beside: None,
        }
    }

    /// So many received frames may wait; a power of two, or 0 for a socket that only sends.
    #[must_use]
    pub const fn receive(mut self, entries: u32) -> Plan<'a> {
        self.receive = entries;
        self
    }

    /// So many frames may wait to be sent; a power of two, or 0 for a socket that only receives.
    #[must_use]
    pub const fn send(mut self, entries: u32) -> Plan<'a> {
        self.send = entries;
        self
    }

    /// So many frames may be with the kernel to be received into; a power of two.
    #[must_use]
    pub const fn fill(mut self, entries: u32) -> Plan<'a> {
        self.fill = entries;
        self
    }

    /// So many frames may wait to be taken back after they were sent; a power of two.
    #[must_use]
    pub const fn completion(mut self, entries: u32) -> Plan<'a> {
        self.completion = entries;
        self
    }

    /// With or without copies.
    #[must_use]
    pub const fn mode(mut self, mode: Mode) -> Plan<'a> {
        self.mode = mode;
        self
    }

    /// When the kernel is called.
    #[must_use]
    pub const fn wakeup(mut self, wakeup: Wakeup) -> Plan<'a> {
        self.wakeup = wakeup;
        self
    }

    /// The kernel's registration of the memory is that of another socket, which was opened on the
    /// same memory, for another queue. Mode and wakeup are those of the other one. Linux 5.10.
    ///
    /// Several sockets may also be opened on the same memory without this: frames go from
    /// one to the other all the same. The kernel then locks the memory for each of them.
    #[must_use]
    pub const fn beside(mut self, other: &'a Socket) -> Plan<'a> {
        self.beside = Some(other);
        self
    }

    /// Opens the socket. The kernel takes no packets before it is in an `XSKMAP` and a program
    /// redirects to that, nor before it was given frames with [`Socket::fill`].
    ///
    /// # Errors
    /// See [`Problem`](super::Problem).
    pub fn open(&self, umem: &Umem) -> Result<Socket, Error> {
        let memory = Arc::clone(&umem.0);
        self.check(&memory)?;
        let at = |refused| Error::of(refused, Some(self.on));
        let fd = socket().map_err(at)?;
        if self.beside.is_none() {
            register(&fd, &memory).map_err(at)?;
        }
        for (option, call, len) in [
            (XDP_UMEM_FILL_RING, FILL_RING, self.fill),
            (XDP_UMEM_COMPLETION_RING, COMPLETION_RING, self.completion),
            (XDP_RX_RING, RECEIVE_RING, self.receive),
            (XDP_TX_RING, SEND_RING, self.send),
        ] {
            if len > 0 {
                set(call, &fd, option, &len.to_ne_bytes()).map_err(at)?;
            }
        }
        let offsets = offsets(&fd).map_err(at)?;
        let ring = |which, len| match len {
            0 => Ok(None),
            len => map(&fd, &offsets, which, len).map(Some).map_err(at),
        };
        let missing = || Error::new(PLAN, Some(self.on), Errno::EINVAL);
        let rings = Rings {
            receive: ring(Which::Receive, self.receive)?,
            send: ring(Which::Send, self.send)?,
            fill: ring(Which::Fill, self.fill)?.ok_or_else(missing)?,
            completion: ring(Which::Completion, self.completion)?.ok_or_else(missing)?,
        };
        let bound = bind(&fd, self.on, self.flags(), self.beside);
        bound.map_err(|refused| match (self.beside, refused.errno) {
            // On one queue, the rings of frames would be shared too: ours are one too many. The same
            // numbers may also mean a device of another namespace.
            (Some(other), Errno::EINVAL) if other.on() == self.on => {
                Error::new(BIND, Some(self.on), Errno::EBUSY)
            }
            _ => at(refused),
        })?;
        let wakeup = self.beside.map_or(self.wakeup, Socket::wakeup);
        Ok(Socket::of(fd, self.on, wakeup, memory, rings))
    }

    fn check(&self, memory: &Arc<Memory>) -> Result<(), Error> {
        let rings = [
            self.receive,
            self.send,
            self.fill,
            self.completion,
        ];
        let may_be = |len: &u32| *len == 0 || (len.is_power_of_two() && *len <= LONGEST);
        let is_plan = rings.iter().all(may_be)
            && self.receive | self.send != 0
            && self.fill > 0
            && self.completion > 0;
        if !is_plan {
            return Err(Error::new(PLAN, Some(self.on), Errno::EINVAL));
        }
        match self.beside {
            Some(other) if !other.is_on(memory) => {
                Err(Error::new(PLAN, Some(self.on), Errno::EXDEV))
            }
            _ => Ok(()),
        }
    }

    const fn flags(&self) -> u16 {
        if self.beside.is_some() {
            return flag::XDP_SHARED_UMEM;
        }
        let mode = match self.mode {
            Mode::Any => 0,
            Mode::Copy => flag::XDP_COPY,
            Mode::ZeroCopy => flag::XDP_ZEROCOPY,
        };
        let wakeup = match self.wakeup {
            Wakeup::Asked => flag::XDP_USE_NEED_WAKEUP,
            Wakeup::Always => 0,
        };
        mode | wakeup
    }
}

/// The rings of a socket.
#[derive(Debug)]
pub(super) struct Rings {
    pub(super) receive: Option<Ring>,
    pub(super) send: Option<Ring>,
    pub(super) fill: Ring,
    pub(super) completion: Ring,
}

fn socket() -> Answer<OwnedFd> {
    // SAFETY: the call has no preconditions.
    let fd = unsafe { libc::socket(AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(Refused::last(SOCKET));
    }
    // SAFETY: a new fd that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn set(call: &'static str, fd: &OwnedFd, option: i32, value: &[u8]) -> Answer<()> {
    let len = libc::socklen_t::try_from(value.len())
        .map_err(|_| Refused::because(call, Errno::EINVAL))?;
    // SAFETY: the kernel reads `len` bytes at most, which `value` has.
    let answer =
        unsafe { libc::setsockopt(fd.as_raw_fd(), SOL_XDP, option, value.as_ptr().cast(), len) };
    match answer {
        0 => Ok(()),
        _ => Err(Refused::last(call)),
    }
}

/// Reads an option; how many bytes of `into` the kernel wrote.
pub(super) fn read(
    call: &'static str,
    fd: BorrowedFd<'_>,
    option: i32,
    into: &mut [u8],
) -> Answer<usize> {
    let refused = |_| Refused::because(call, Errno::EINVAL);
    let mut len = libc::socklen_t::try_from(into.len()).map_err(refused)?;
    // SAFETY: the kernel writes at most `len` bytes, which `into` has.
    let answer = unsafe {
        let into = into.as_mut_ptr().cast();
        libc::getsockopt(fd.as_raw_fd(), SOL_XDP, option, into, &mut len)
    };
    match (answer, usize::try_from(len)) {
        (0, Ok(len)) if len <= into.len() => Ok(len),
        (0, _) => Err(Refused::because(call, Errno::EBADMSG)),
        _ => Err(Refused::last(call)),
    }
}

/// `struct xdp_umem_reg`.
fn register(fd: &OwnedFd, memory: &Memory) -> Answer<()> {
    let mut reg = Vec::with_capacity(32);
    let region = memory.region();
    reg.extend((region.start().addr().get() as u64).to_ne_bytes());
    reg.extend((region.len() as u64).to_ne_bytes());
    for word in [
        memory.size(),
        memory.headroom(),
        memory.flags(),
        0,
    ] {
        reg.extend(word.to_ne_bytes());
    }
    // The kernel locks the pages and reads and writes the frames that it is given: `Owner` says
    // which these are.
    set(REG, fd, XDP_UMEM_REG, &reg)
}

/// `struct xdp_mmap_offsets`: producer, consumer, entries and flags of four rings.
fn offsets(fd: &OwnedFd) -> Answer<[Places; 4]> {
    use std::os::fd::AsFd;
    let mut bytes = [0; 128];
    let len = read(OFFSETS, fd.as_fd(), XDP_MMAP_OFFSETS, &mut bytes)?;
    let refused = Refused::because(OFFSETS, Errno::EBADMSG);
    if len != bytes.len() {
        return Err(refused);
    }
    let (words, _) = bytes.as_chunks::<8>();
    let mut words = words.iter().map(|word| u64::from_ne_bytes(*word));
    let mut next = || {
        let word = words.next().and_then(|word| usize::try_from(word).ok());
        word.ok_or(refused)
    };
    let mut places = || -> Answer<Places> {
        Ok(Places {
            producer: next()?,
            consumer: next()?,
            entries: next()?,
            flags: next()?,
        })
    };
    Ok([
        places()?,
        places()?,
        places()?,
        places()?,
    ])
}

fn map(fd: &OwnedFd, offsets: &[Places; 4], which: Which, len: u32) -> Answer<Ring> {
    use std::os::fd::AsFd;
    let [receive, send, fill, completion] = *offsets;
    let (places, page, stride) = match which {
        Which::Receive => (receive, XDP_PGOFF_RX_RING, Stride::Descriptor),
        Which::Send => (send, XDP_PGOFF_TX_RING, Stride::Descriptor),
        Which::Fill => (fill, XDP_UMEM_PGOFF_FILL_RING, Stride::Address),
        Which::Completion => (completion, XDP_UMEM_PGOFF_COMPLETION_RING, Stride::Address),
    };
    let senseless = Refused::because(MMAP, Errno::EOVERFLOW);
    let entries = (len as usize).checked_mul(stride as usize);
    let bytes = entries.and_then(|entries| entries.checked_add(places.entries));
    let bytes = bytes.ok_or(senseless)?;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let region = Region::map(&From::Fd(fd.as_fd(), page), bytes, access)?;
    // Positions that a child moves, if only as it drops its socket, are not ours any more.
    region.keep_from_children()?;
    Ring::of(region, places, (stride, which), len).ok_or(senseless)
}

/// The family, as an address says it.
const FAMILY: u16 = 44;

/// `struct sockaddr_xdp`.
fn bind(fd: &OwnedFd, on: Queue, flags: u16, beside: Option<&Socket>) -> Answer<()> {
    use std::os::fd::AsFd;
    let other = beside.map_or(0, |other| other.as_fd().as_raw_fd().cast_unsigned());
    let mut address = Vec::with_capacity(16);
    address.extend(FAMILY.to_ne_bytes());
    address.extend(flags.to_ne_bytes());
    for word in [on.device, on.queue, other] {
        address.extend(word.to_ne_bytes());
    }
    // SAFETY: the kernel reads 16 bytes, which there are.
    let answer = unsafe { libc::bind(fd.as_raw_fd(), address.as_ptr().cast(), 16) };
    match answer {
        0 => Ok(()),
        _ => Err(Refused::last(BIND)),
    }
}
