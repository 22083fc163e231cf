//! Perf events: what BPF programs hang on, and what they write samples to.

use crate::refused::{Answer, Refused};
use bpfsmith_uapi::Errno;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A counter that the kernel keeps itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Software {
    /// A clock of the CPU, in nanoseconds.
    CpuClock,
    /// A clock that runs while the task does.
    TaskClock,
    /// Faults.
    PageFaults,
    /// Changes of the running task.
    ContextSwitches,
    /// Moves to another CPU.
    CpuMigrations,
    /// Faults without I/O.
    PageFaultsMin,
    /// Faults with I/O.
    PageFaultsMaj,
    /// Accesses that the kernel repaired.
    AlignmentFaults,
    /// Instructions that the kernel emulated.
    EmulationFaults,
    /// Counts nothing.
    Dummy,
    /// What programs write with `perf_event_output`. Linux 4.4.
    BpfOutput,
    /// Changes of the running control group. Linux 5.13.
    CgroupSwitches,
}

/// A counter of the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hardware {
    /// Cycles.
    CpuCycles,
    /// Instructions that were finished.
    Instructions,
    /// Accesses to the last cache.
    CacheReferences,
    /// Those that it could not serve.
    CacheMisses,
    /// Branches.
    BranchInstructions,
    /// Branches that were guessed wrong.
    BranchMisses,
    /// Cycles of the bus.
    BusCycles,
    /// Stalls before issue.
    StalledCyclesFrontend,
    /// Stalls before retirement.
    StalledCyclesBackend,
    /// Cycles at a constant rate.
    RefCpuCycles,
}

/// Which side of a function a probe is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Where it starts.
    Entry,
    /// Where it returns.
    Return,
}

/// A place in the kernel.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// So many bytes into a function.
    Symbol(&'a CStr, u64),
    /// An address.
    Address(u64),
}

/// What a hardware breakpoint waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// Reads.
    Read,
    /// Writes.
    Write,
    /// Both.
    Access,
    /// Execution.
    Execute,
}

/// What is counted.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A counter of the kernel.
    Software(Software),
    /// A counter of the processor.
    Hardware(Hardware),
    /// A counter of a cache: `id | operation << 8 | result << 16`.
    Cache(u64),
    /// A trace event, by the number in its `id` file.
    Tracepoint(u64),
    /// A place in the kernel. Linux 4.17.
    Kprobe(Place<'a>, Side),
    /// A place in a file that processes run. Linux 4.17.
    Uprobe {
        /// The file.
        path: &'a CStr,
        /// Where in the file.
        offset: u64,
        /// Which side.
        side: Side,
        /// Where in the file a counter lies that says whether anybody listens, or 0. Linux 4.20.
        ref_counter: u32,
    },
    /// An address, and how many bytes: 1, 2, 4 or 8.
    Breakpoint(u64, u64, Watch),
    /// Any other, by the numbers of its driver.
    Raw {
        /// Which driver.
        kind: u32,
        /// What it counts.
        config: u64,
    },
}

/// Whom it is counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everybody on one CPU.
    Cpu(u32),
    /// This process, wherever it runs.
    Own,
    /// Another process or thread, wherever it runs.
    Task(u32),
    /// Another process or thread, on one CPU.
    TaskOn(u32, u32),
}

/// How often a sample is taken; programs on the event run then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Every {
    /// Never: it only counts.
    Never,
    /// After so many events.
    Events(u64),
    /// So many times in a second, by a period that the kernel adapts.
    Hertz(u64),
}

/// When a reader of the event's ring is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wakeup {
    /// After so many samples; 0 for never.
    Samples(u32),
    /// When so many bytes are unread.
    Bytes(u32),
}

/// In which direction a ring is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the start; when it is full, samples are lost and counted.
    Forward,
    /// From the end, over what is old. Linux 4.7.
    Backward,
}

/// An event to open.
#[derive(Clone, Copy, Debug)]
pub struct Open<'a> {
    /// What is counted.
    pub event: Event<'a>,
    /// For whom.
    pub scope: Scope,
    /// How often a sample is taken.
    pub every: Every,
    /// `PERF_SAMPLE_…`: what a sample holds.
    pub sample: u64,
    /// `PERF_FORMAT_…`: what reading tells.
    pub read: u64,
    /// When a reader is woken.
    pub wakeup: Wakeup,
    /// How the ring is written.
    pub direction: Direction,
    /// Whether it counts from the start, or waits for [`PerfEvent::enable`].
    pub start: Start,
}

/// Whether an event counts as soon as it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At once.
    Now,
    /// When it is enabled.
    Later,
}

/// `PERF_SAMPLE_RAW`: the bytes that a program wrote.
pub const SAMPLE_RAW: u64 = 1 << 10;
/// `PERF_FORMAT_LOST`: reading tells how many samples were lost. Linux 6.0.
pub const FORMAT_LOST: u64 = 1 << 4;

impl<'a> Open<'a> {
    /// An event that counts at once, takes no samples and has no ring.
    #[must_use]
    pub const fn new(event: Event<'a>, scope: Scope) -> Open<'a> {
        Open {
            event,
            scope,
            every: Every::Never,
            sample: 0,
            read: 0,
            wakeup: Wakeup::Samples(0),
            direction: Direction::Forward,
            start: Start::Now,
        }
    }
}

/// What the kernel reads; the size is that of Linux 4.8.
#[repr(C)]
#[derive(Default)]
struct Attr {
    kind: u32,
    size: u32,
    config: u64,
    period: u64,
    sample: u64,
    read: u64,
    flags: u64,
    wakeup: u32,
    breakpoint: u32,
    config1: u64,
    config2: u64,
    branch_sample: u64,
    regs_user: u64,
    stack_user: u32,
    clock: i32,
    regs_intr: u64,
    aux_watermark: u32,
    max_stack: u16,
    _end: u16,
}

const DISABLED: u64 = 1 << 0;
const FREQ: u64 = 1 << 10;
const WATERMARK: u64 = 1 << 14;
const WRITE_BACKWARD: u64 = 1 << 27;

const HARDWARE: u32 = 0;
const SOFTWARE: u32 = 1;
const TRACEPOINT: u32 = 2;
const HW_CACHE: u32 = 3;
const BREAKPOINT: u32 = 5;

impl Software {
    const fn config(self) -> u64 {
        match self {
            Software::CpuClock => 0,
            Software::TaskClock => 1,
            Software::PageFaults => 2,
            Software::ContextSwitches => 3,
            Software::CpuMigrations => 4,
            Software::PageFaultsMin => 5,
            Software::PageFaultsMaj => 6,
            Software::AlignmentFaults => 7,
            Software::EmulationFaults => 8,
            Software::Dummy => 9,
            Software::BpfOutput => 10,
            Software::CgroupSwitches => 11,
        }
    }
}

impl Hardware {
    const fn config(self) -> u64 {
        match self {
            Hardware::CpuCycles => 0,
            Hardware::Instructions => 1,
            Hardware::CacheReferences => 2,
            Hardware::CacheMisses => 3,
            Hardware::BranchInstructions => 4,
            Hardware::BranchMisses => 5,
            Hardware::BusCycles => 6,
            Hardware::StalledCyclesFrontend => 7,
            Hardware::StalledCyclesBackend => 8,
            Hardware::RefCpuCycles => 9,
        }
    }
}

/// Where a driver describes itself.
const DRIVERS: &str = "/sys/bus/event_source/devices";

fn driver_file(driver: &str, file: &str) -> Answer<String> {
    let path = format!("{DRIVERS}/{driver}/{file}");
    let text = std::fs::read_to_string(path);
    text.map_err(|error| Refused::of("read /sys/bus/event_source/devices", &error))
}

const UNREADABLE: Refused = Refused::because("read /sys/bus/event_source/devices", Errno::EBADMSG);

/// The number of an event driver, such as `kprobe` or `uprobe`.
///
/// # Errors
/// `ENOENT` when the kernel has no such driver.
pub fn driver(name: &str) -> Answer<u32> {
    if name.contains('/') || name.starts_with('.') {
        return Err(Refused::because(
            "read /sys/bus/event_source/devices",
            Errno::EINVAL,
        ));
    }
    let text = driver_file(name, "type")?;
    text.trim().parse().map_err(|_| UNREADABLE)
}

/// The bit of `config` that says that a probe is at the return.
fn return_bit(name: &str) -> Answer<u64> {
    let text = driver_file(name, "format/retprobe")?;
    let bit = text.trim().strip_prefix("config:").ok_or(UNREADABLE)?;
    let bit: u32 = bit.parse().map_err(|_| UNREADABLE)?;
    1_u64.checked_shl(bit).ok_or(UNREADABLE)
}

/// Reads `config:32-63` of the reference counter's place.
fn counter_shift(name: &str) -> Answer<u32> {
    let text = driver_file(name, "format/ref_ctr_offset")?;
    let bits = text.trim().strip_prefix("config:").ok_or(UNREADABLE)?;
    let (first, _) = bits.split_once('-').ok_or(UNREADABLE)?;
    let first = first.parse().map_err(|_| UNREADABLE)?;
    if first > 32 {
        Err(UNREADABLE)
    } else {
        Ok(first)
    }
}

fn probe(attr: &mut Attr, name: &str, side: Side) -> Answer<()> {
    attr.kind = driver(name)?;
    if side == Side::Return {
        attr.config |= return_bit(name)?;
    }
    Ok(())
}

/// An address as the kernel takes it; the event borrows what it points to until the call is over.
fn pointer(text: &CStr) -> u64 {
    text.as_ptr().expose_provenance() as u64
}

impl Event<'_> {
    fn describe(&self, attr: &mut Attr) -> Answer<()> {
        match *self {
            Event::Software(counter) => (attr.kind, attr.config) = (SOFTWARE, counter.config()),
            Event::Hardware(counter) => (attr.kind, attr.config) = (HARDWARE, counter.config()),
            Event::Cache(config) => (attr.kind, attr.config) = (HW_CACHE, config),
            Event::Tracepoint(id) => (attr.kind, attr.config) = (TRACEPOINT, id),
            Event::Raw { kind, config } => (attr.kind, attr.config) = (kind, config),
            Event::Kprobe(place, side) => {
                probe(attr, "kprobe", side)?;
                (attr.config1, attr.config2) = match place {
                    Place::Symbol(name, offset) => (pointer(name), offset),
                    Place::Address(address) => (0, address),
                };
            }
            Event::Uprobe {
                path,
                offset,
                side,
                ref_counter,
            } => {
                probe(attr, "uprobe", side)?;
                (attr.config1, attr.config2) = (pointer(path), offset);
                if ref_counter != 0 {
                    attr.config |= u64::from(ref_counter) << counter_shift("uprobe")?;
                }
            }
            Event::Breakpoint(address, len, watch) => {
                attr.kind = BREAKPOINT;
                (attr.config1, attr.config2) = (address, len);
                attr.breakpoint = match watch {
                    Watch::Read => 1,
                    Watch::Write => 2,
                    Watch::Access => 3,
                    Watch::Execute => 4,
                };
            }
        }
        Ok(())
    }
}

impl Open<'_> {
    fn attr(&self) -> Answer<Attr> {
        const {
            assert!(size_of::<Attr>() == 112);
        }
        let mut attr = Attr {
            size: 112,
            sample: self.sample,
            read: self.read,
            ..Attr::default()
        };
        self.event.describe(&mut attr)?;
        match self.every {
            Every::Never => {}
            Every::Events(count) => attr.period = count,
            Every::Hertz(rate) => {
                attr.period = rate;
                attr.flags |= FREQ;
            }
        }
        match self.wakeup {
            Wakeup::Samples(count) => attr.wakeup = count,
            Wakeup::Bytes(count) => {
                attr.wakeup = count;
                attr.flags |= WATERMARK;
            }
        }
        if self.direction == Direction::Backward {
            attr.flags |= WRITE_BACKWARD;
        }
        if self.start == Start::Later {
            attr.flags |= DISABLED;
        }
        Ok(attr)
    }

    /// Opens the event.
    ///
    /// # Errors
    /// What the kernel answers: `ENOENT` when nobody counts that, `ENODEV` for a CPU that is
    /// offline, `EACCES` or `EPERM` without `CAP_PERFMON`.
    pub fn open(&self) -> Answer<PerfEvent> {
        const CALL: &str = "perf_event_open";
        /// `PERF_FLAG_FD_CLOEXEC`. Linux 3.14.
        const FLAGS: u64 = 1 << 3;
        let invalid = Refused::because(CALL, Errno::EINVAL);
        let number = |number: u32| i32::try_from(number).map_err(|_| invalid);
        let (pid, cpu) = match self.scope {
            Scope::Cpu(cpu) => (-1, number(cpu)?),
            Scope::Own => (0, -1),
            Scope::Task(task) => (number(task)?, -1),
            Scope::TaskOn(task, cpu) => (number(task)?, number(cpu)?),
        };
        let mut attr = self.attr()?;
        // SAFETY: the kernel reads `size` bytes at `attr`, and the zero-terminated text that `event`
        // borrows. It may write the size that it knows to `attr`.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                std::ptr::from_mut(&mut attr),
                pid,
                cpu,
                -1,
                FLAGS,
            )
        };
        let fd = RawFd::try_from(fd).unwrap_or(-1);
        if fd < 0 {
            return Err(Refused::last(CALL));
        }
        Ok(PerfEvent {
            // SAFETY: a new fd that nobody else owns.
            fd: unsafe { OwnedFd::from_raw_fd(fd) },
            has_ring: Arc::default(),
        })
    }
}

/// An open perf event. A program on it stays there while it is open.
#[derive(Debug)]
pub struct PerfEvent {
    fd: OwnedFd,
    has_ring: Arc<AtomicBool>,
}

/// The right to move the reader's position in an event's ring.
#[derive(Debug)]
pub(crate) struct Claim(Arc<AtomicBool>);

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl AsFd for PerfEvent {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What reading an event tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// How many events there were.
    pub events: u64,
    /// How many samples found no room, if the event was opened with [`FORMAT_LOST`].
    pub lost: Option<u64>,
}

impl PerfEvent {
    /// The claim to the ring, if no ring has it.
    pub(crate) fn claim_ring(&self) -> Option<Claim> {
        let was_taken = self.has_ring.swap(true, Ordering::AcqRel);
        (!was_taken).then(|| Claim(Arc::clone(&self.has_ring)))
    }

    fn request(&self, call: &'static str, request: libc::Ioctl, value: u64) -> Answer<()> {
        // SAFETY: these requests take a number, not an address.
        match unsafe { libc::ioctl(self.fd.as_raw_fd(), request, value) } {
            -1 => Err(Refused::last(call)),
            _ => Ok(()),
        }
    }

    /// Counts from now on.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn enable(&self) -> Answer<()> {
        let request = nix::request_code_none!(b'$', 0);
        self.request("ioctl PERF_EVENT_IOC_ENABLE", request, 0)
    }

    /// Stops counting.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn disable(&self) -> Answer<()> {
        let request = nix::request_code_none!(b'$', 1);
        self.request("ioctl PERF_EVENT_IOC_DISABLE", request, 0)
    }

    /// Counts from zero.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn reset(&self) -> Answer<()> {
        let request = nix::request_code_none!(b'$', 3);
        self.request("ioctl PERF_EVENT_IOC_RESET", request, 0)
    }

    /// Runs a program with each sample. It cannot be taken away again: close the event.
    ///
    /// # Errors
    /// `EEXIST` when there is one; `EINVAL` for the wrong type of program.
    pub fn set_program(&self, program: BorrowedFd<'_>) -> Answer<()> {
        let request = nix::request_code_write!(b'$', 8, 4);
        let fd = program.as_raw_fd().unsigned_abs();
        self.request("ioctl PERF_EVENT_IOC_SET_BPF", request, u64::from(fd))
    }

    /// Writes nothing to the ring until [`resume`](PerfEvent::resume). Linux 4.7.
    ///
    /// # Errors
    /// `EINVAL` without a ring.
    pub fn pause(&self) -> Answer<()> {
        let request = nix::request_code_write!(b'$', 9, 4);
        self.request("ioctl PERF_EVENT_IOC_PAUSE_OUTPUT", request, 1)
    }

    /// Writes to the ring again.
    ///
    /// # Errors
    /// `EINVAL` without a ring.
    pub fn resume(&self) -> Answer<()> {
        let request = nix::request_code_write!(b'$', 9, 4);
        self.request("ioctl PERF_EVENT_IOC_PAUSE_OUTPUT", request, 0)
    }

    /// The number that the kernel gave it.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn id(&self) -> Answer<u64> {
        let request = nix::request_code_read!(b'$', 7, size_of::<usize>()) as libc::Ioctl;
        let mut id = 0_u64;
        // SAFETY: the kernel writes 8 bytes to `id`.
        match unsafe { libc::ioctl(self.fd.as_raw_fd(), request, std::ptr::from_mut(&mut id)) } {
            -1 => Err(Refused::last("ioctl PERF_EVENT_IOC_ID")),
            _ => Ok(id),
        }
    }

    /// Reads the counter of an event that was opened with `read` 0 or [`FORMAT_LOST`].
    ///
    /// # Errors
    /// What the kernel answers; `EBADMSG` when the event was opened with another format.
    pub fn count(&self) -> Answer<Count> {
        let mut words = [0_u64; 16];
        let room = size_of_val(&words);
        let fd = self.fd.as_raw_fd();
        // SAFETY: the kernel writes at most that many bytes.
        let read = unsafe { libc::read(fd, words.as_mut_ptr().cast(), room) };
        match read {
            8 => Ok(Count {
                events: words[0],
                lost: None,
            }),
            16 => Ok(Count {
                events: words[0],
                lost: Some(words[1]),
            }),
            -1 => Err(Refused::last("read")),
            _ => Err(Refused::because("read", Errno::EBADMSG)),
        }
    }
}
