//! Counters of the kernel and the processor: programs that run with each sample.

use super::event::{self, Manner};
use super::{Hook, Target};
use crate::error::{Error, Kernel, Result};
use crate::link::{Link, Way};
use crate::prog::Prog;
use bpfsmith_sys::perf::{Event, Every, Hardware, Open, Scope, Software};
use bpfsmith_uapi::{AttachType, ProgType};

/// A counter that takes samples, for `PERF_EVENT` programs, which run with each. Linux 4.9.
#[derive(Clone, Copy, Debug)]
pub struct PerfEvent {
    event: Event<'static>,
    scope: Scope,
    every: Every,
    manner: Manner,
}

impl PerfEvent {
    /// Any event, for this process, without samples: [`hertz`](PerfEvent::hertz) or
    /// [`period`](PerfEvent::period) says how often the program runs.
    #[must_use]
    pub const fn of(event: Event<'static>) -> PerfEvent {
        PerfEvent {
            event,
            scope: Scope::Own,
            every: Every::Never,
            manner: Manner {
                cookie: 0,
                way: None,
            },
        }
    }

    /// A counter of the kernel.
    #[must_use]
    pub const fn software(counter: Software) -> PerfEvent {
        PerfEvent::of(Event::Software(counter))
    }

    /// A counter of the processor. Virtual machines often have none.
    #[must_use]
    pub const fn hardware(counter: Hardware) -> PerfEvent {
        PerfEvent::of(Event::Hardware(counter))
    }

    /// The program runs so many times in a second.
    #[must_use]
    pub const fn hertz(mut self, rate: u64) -> PerfEvent {
        self.every = Every::Hertz(rate);
        self
    }

    /// The program runs after every so many events.
    #[must_use]
    pub const fn period(mut self, events: u64) -> PerfEvent {
        self.every = Every::Events(events);
        self
    }

    /// Whatever runs on that CPU.
    #[must_use]
    pub const fn cpu(mut self, cpu: u32) -> PerfEvent {
        self.scope = Scope::Cpu(cpu);
        self
    }

    /// That process or thread, wherever it runs.
    #[must_use]
    pub const fn task(mut self, task: u32) -> PerfEvent {
        self.scope = Scope::Task(task);
        self
    }

    /// The same event for each CPU that is online: an event belongs to one CPU, and so does its
    /// link.
    ///
    /// # Errors
    /// When the kernel does not say which CPUs are online.
    pub fn each_cpu(self) -> Result<Vec<PerfEvent>> {
        let cpus = bpfsmith_sys::online_cpus().map_err(|errno| {
            Error::Kernel(Kernel {
                call: "open".to_owned(),
                kind: "file",
                object: "/sys/devices/system/cpu/online".to_owned(),
                errno,
            })
        })?;
        Ok(cpus.into_iter().map(|cpu| self.cpu(cpu)).collect())
    }

    /// With a number that the program reads with `get_attach_cookie`. Linux 5.15.
    #[must_use]
    pub const fn cookie(mut self, cookie: u64) -> PerfEvent {
        self.manner.cookie = cookie;
        self
    }

    /// Only in this way. Otherwise by a link, and before Linux 5.15 without one.
    #[must_use]
    pub const fn way(mut self, way: Way) -> PerfEvent {
        self.manner.way = Some(way);
        self
    }
}

impl Target for PerfEvent {
    fn hook(&self) -> Result<Hook> {
        Ok(Hook::default())
    }

    fn attach(&self, prog: &Prog) -> Result<Link> {
        prog.expect(ProgType::PERF_EVENT, AttachType(0))?;
        if self.every == Every::Never {
            return Err(Error::Argument {
                what: "perf event",
                problem: "the program would never run: say how often with PerfEvent::hertz or \
                          PerfEvent::period"
                    .to_owned(),
            });
        }
        let open = Open {
            every: self.every,
            ..Open::new(self.event, self.scope)
        };
        let object = format!("{} on {:?} of {:?}", prog.quoted(), self.event, self.scope);
        event::attach(prog, &open, self.manner, "perf_event", object)
    }
}
