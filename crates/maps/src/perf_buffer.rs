//! [`PerfBuffer`]: a ring for each CPU, for kernels and programs from before ring buffers.

use crate::error::{Operation, Problem, Result};
use crate::handle::Handle;
use crate::ring::{RingProblem, Verdict};
use bpfsmith_sys::epoll::{Epoll, Interest};
use bpfsmith_sys::perf::{self, Event, FORMAT_LOST, Open, PerfEvent, SAMPLE_RAW, Scope, Software};
use bpfsmith_sys::perf_ring::{PerfRing, RECORD_LOST, RECORD_SAMPLE, Raw};
use bpfsmith_sys::{Refused, online_cpus, possible_cpus};
use bpfsmith_uapi::{Errno, MapType};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

pub use bpfsmith_sys::perf::{Direction, Wakeup};

/// How a perf buffer is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerfOptions {
    /// Pages of data for each CPU: a power of two.
    pub pages: usize,
    /// When the reader is woken.
    pub wakeup: Wakeup,
    /// Whether a full ring loses what is new, and counts it, or what is old.
    pub direction: Direction,
}

impl Default for PerfOptions {
    /// 64 pages, woken by each sample, written forward.
    fn default() -> PerfOptions {
        PerfOptions {
            pages: 64,
            wakeup: Wakeup::Samples(1),
            direction: Direction::Forward,
        }
    }
}

/// Why a CPU has no ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// It does not run. What programs write there later is refused.
    Offline,
    /// The map has no element for it.
    BeyondMap,
}

/// What a program wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample<'a> {
    /// The CPU that it ran on.
    pub cpu: u32,
    /// The bytes, and up to 7 zeros or older bytes behind them: the kernel rounds up so that they
    /// and a length of 4 bytes end at a multiple of 8. They start at a multiple of 4 only.
    pub bytes: &'a [u8],
}

/// Samples of a CPU that are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The CPU.
    pub cpu: u32,
    /// How many the kernel told of between the samples that were read. It tells with the next sample
    /// that finds room.
    pub told: u64,
    /// How many there were up to now. Linux 6.0.
    pub counted: Option<u64>,
}

#[derive(Debug)]
struct Cpu {
    number: u32,
    ring: PerfRing,
    event: PerfEvent,
    told: u64,
}

/// The reading end of the perf events in a `PERF_EVENT_ARRAY`, one for each CPU that is online.
#[derive(Debug)]
pub struct PerfBuffer {
    handle: Handle,
    cpus: Vec<Cpu>,
    skipped: Vec<(u32, Skip)>,
    epoll: Epoll,
    ready: Vec<usize>,
    /// Records that are neither samples nor losses.
    others: u64,
}

impl AsFd for PerfBuffer {
    /// Ready to be read when one of the CPUs has woken the reader.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

fn open_event(number: u32, options: &PerfOptions) -> std::result::Result<PerfEvent, Refused> {
    let mut open = Open::new(Event::Software(Software::BpfOutput), Scope::Cpu(number));
    open.every = perf::Every::Events(1);
    open.sample = SAMPLE_RAW;
    open.read = FORMAT_LOST;
    open.wakeup = options.wakeup;
    open.direction = options.direction;
    match open.open() {
        // Before Linux 6.0 nothing is counted: `Lost::counted` says so.
        Err(refused) if refused.errno == Errno::EINVAL => {
            open.read = 0;
            open.open()
        }
        answer => answer,
    }
}

impl PerfBuffer {
    /// Opens an event for each CPU and puts it into the array.
    ///
    /// # Errors
    /// When the map is of another kind, or what the kernel answers. A CPU that goes offline meanwhile
    /// is no error.
    pub fn new(handle: Handle, options: &PerfOptions) -> Result<PerfBuffer> {
        let kind = handle.facts().kind;
        if kind != MapType::PERF_EVENT_ARRAY {
            let view = crate::view_of(kind);
            return Err(handle.problem(Operation::View("PerfBuffer"), Problem::Kind { view }));
        }
        let cpu_list = Operation::Call("read /sys/devices/system/cpu");
        let possible = possible_cpus().map_err(|errno| handle.refused(cpu_list, errno))?;
        let online = online_cpus().map_err(|errno| handle.refused(cpu_list, errno))?;
        let epoll = Epoll::new().map_err(|error| handle.refused(error, error.errno))?;
        let mut buffer = PerfBuffer {
            handle,
            cpus: Vec::new(),
            skipped: Vec::new(),
            epoll,
            ready: Vec::new(),
            others: 0,
        };
        let last = online.last().map_or(0, |last| last.saturating_add(1));
        for number in 0..possible.count().max(last) {
            let skip = if number >= buffer.handle.facts().entries {
                Some(Skip::BeyondMap)
            } else if online.contains(&number) {
                buffer.open_cpu(number, options)?
            } else {
                Some(Skip::Offline)
            };
            buffer.skipped.extend(skip.map(|skip| (number, skip)));
        }
        Ok(buffer)
    }

    fn open_cpu(&mut self, number: u32, options: &PerfOptions) -> Result<Option<Skip>> {
        let handle = &self.handle;
        let fail = |error: Refused| handle.refused(error, error.errno);
        let event = match open_event(number, options) {
            Err(refused) if refused.errno == Errno::ENODEV => return Ok(Some(Skip::Offline)),
            answer => answer.map_err(fail)?,
        };
        let ring = PerfRing::map(&event, options.pages, options.direction).map_err(fail)?;
        let token = self.cpus.len() as u64;
        self.epoll
            .add(event.as_fd(), Interest::Read, token)
            .map_err(fail)?;
        let fd = event.as_fd().as_raw_fd().cast_unsigned().to_ne_bytes();
        let put = handle.raw().update(&number.to_ne_bytes(), &fd, 0);
        put.map_err(|failed| handle.failed(failed))?;
        self.cpus.push(Cpu {
            number,
            ring,
            event,
            told: 0,
        });
        Ok(None)
    }

    /// CPUs without a ring, and why.
    #[must_use]
    pub fn skipped(&self) -> &[(u32, Skip)] {
        &self.skipped
    }

    /// CPUs with a ring.
    pub fn cpus(&self) -> impl Iterator<Item = u32> {
        self.cpus.iter().map(|cpu| cpu.number)
    }

    /// Records that were neither samples nor losses, and were skipped.
    #[must_use]
    pub const fn others(&self) -> u64 {
        self.others
    }

    /// Samples that are lost, for each CPU.
    ///
    /// # Errors
    /// When an event cannot be read.
    pub fn lost(&self) -> Result<Vec<Lost>> {
        let lost = self.cpus.iter().map(|cpu| {
            let count = cpu.event.count();
            let count = count.map_err(|error| self.handle.refused(error, error.errno))?;
            Ok(Lost {
                cpu: cpu.number,
                told: cpu.told,
                counted: count.lost,
            })
        });
        lost.collect()
    }

    /// Waits until a CPU wakes the reader or the time is over; `None` waits for ever. Hands the
    /// samples of each CPU that did to the callback, and returns how many there were. For rings
    /// that are written forward.
    ///
    /// # Errors
    /// [`RingProblem::CorruptPerf`], or what the kernel answers.
    pub fn poll<V: Verdict>(
        &mut self,
        time: Option<Duration>,
        mut each: impl FnMut(Sample<'_>) -> V,
    ) -> Result<u64> {
        let ready = &mut self.ready;
        ready.clear();
        let waited = self
            .epoll
            .wait(time, |token| ready.extend(usize::try_from(token)));
        waited.map_err(|error| self.handle.refused(error, error.errno))?;
        let mut samples = 0;
        for index in 0..self.ready.len() {
            let cpu = self.ready[index];
            if self.read(cpu, &mut samples, &mut each)? {
                break;
            }
        }
        Ok(samples)
    }

    /// Hands the samples of all CPUs to the callback, without waiting. For rings that are written
    /// forward.
    ///
    /// # Errors
    /// [`RingProblem::CorruptPerf`].
    pub fn consume<V: Verdict>(&mut self, mut each: impl FnMut(Sample<'_>) -> V) -> Result<u64> {
        let mut samples = 0;
        for cpu in 0..self.cpus.len() {
            if self.read(cpu, &mut samples, &mut each)? {
                break;
            }
        }
        Ok(samples)
    }

    /// Reads one ring, and says whether the callback has enough.
    fn read<V: Verdict>(
        &mut self,
        cpu: usize,
        samples: &mut u64,
        each: &mut impl FnMut(Sample<'_>) -> V,
    ) -> Result<bool> {
        let Some(cpu) = self.cpus.get_mut(cpu) else {
            return Ok(false);
        };
        let (number, told, others) = (cpu.number, &mut cpu.told, &mut self.others);
        let mut is_enough = false;
        let drained = cpu.ring.drain(|record| {
            match What::of(&record) {
                What::Sample(bytes) => {
                    *samples += 1;
                    is_enough = each(Sample { cpu: number, bytes }).is_enough();
                }
                What::Lost(count) => *told = told.saturating_add(count),
                What::Unknown => *others += 1,
            }
            !is_enough
        });
        match drained {
            Ok(()) => Ok(is_enough),
            Err(corrupt) => {
                let problem = Problem::Ring(RingProblem::CorruptPerf(corrupt));
                Err(self.handle.problem(Operation::Call("read ring"), problem))
            }
        }
    }

    /// Stops writing, on all CPUs. Linux 4.7.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn pause(&self) -> Result<()> {
        self.every(PerfEvent::pause)
    }

    /// Writes again, on all CPUs.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn resume(&self) -> Result<()> {
        self.every(PerfEvent::resume)
    }

    fn every(&self, action: fn(&PerfEvent) -> bpfsmith_sys::Answer<()>) -> Result<()> {
        self.cpus.iter().try_for_each(|cpu| {
            action(&cpu.event).map_err(|error| self.handle.refused(error, error.errno))
        })
    }

    /// Hands what rings that are written backward hold to the callback, for each CPU the newest
    /// sample first, and returns how many samples there were. [`pause`](PerfBuffer::pause) first.
    pub fn newest<V: Verdict>(&mut self, mut each: impl FnMut(Sample<'_>) -> V) -> u64 {
        let mut samples = 0;
        let mut is_enough = false;
        for cpu in &mut self.cpus {
            let (number, others) = (cpu.number, &mut self.others);
            cpu.ring.newest(|record| {
                match What::of(&record) {
                    What::Sample(bytes) => {
                        samples += 1;
                        is_enough = each(Sample { cpu: number, bytes }).is_enough();
                    }
                    What::Lost(_) | What::Unknown => *others += 1,
                }
                !is_enough
            });
            if is_enough {
                break;
            }
        }
        samples
    }

    /// Takes the events out of the array, and gives the map back.
    ///
    /// # Errors
    /// The first refusal of the kernel; all events are closed in any case.
    pub fn close(mut self) -> Result<Handle> {
        self.take_out()?;
        self.handle.try_clone()
    }

    fn take_out(&mut self) -> Result<()> {
        let mut answer = Ok(());
        for cpu in self.cpus.drain(..) {
            let deleted = self.handle.raw().delete(&cpu.number.to_ne_bytes());
            match deleted {
                // Somebody else took it out.
                Err(failed) if failed.errno == Errno::ENOENT => {}
                deleted => {
                    let deleted = deleted.map_err(|failed| self.handle.failed(failed));
                    answer = answer.and(deleted);
                }
            }
        }
        answer
    }
}

impl Drop for PerfBuffer {
    fn drop(&mut self) {
        // An event lives as long as the array holds it. Who wants to know calls `close`.
        let _ = self.take_out();
    }
}

/// What a record is.
enum What<'a> {
    Sample(&'a [u8]),
    Lost(u64),
    Unknown,
}

impl<'a> What<'a> {
    fn of(record: &Raw<'a>) -> What<'a> {
        let body = record.body;
        let what = match record.kind {
            RECORD_SAMPLE => body.split_first_chunk::<4>().and_then(|(len, bytes)| {
                let len = usize::try_from(u32::from_ne_bytes(*len)).ok()?;
                bytes.get(..len).map(What::Sample)
            }),
            // The event's number comes first.
            RECORD_LOST => body
                .get(8..)
                .and_then(|rest| rest.first_chunk::<8>())
                .map(|count| What::Lost(u64::from_ne_bytes(*count))),
            _ => None,
        };
        what.unwrap_or(What::Unknown)
    }
}
