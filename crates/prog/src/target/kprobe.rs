//! Kernel probes: programs at almost any place of the kernel's code.

use super::event::{self, Manner};
use super::{Hook, Target};
use crate::error::{Error, Result};
use crate::ksyms;
use crate::link::{Link, Way};
use crate::prog::Prog;
use bpfsmith_sys::perf::{Event, Open, Place, Scope, Side};
use bpfsmith_uapi::{AttachType, Errno, ProgType};
use std::ffi::CString;

/// A place in the kernel, for `KPROBE` programs. The context is the registers. Linux 4.17.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kprobe {
    place: Spot,
    side: Side,
    manner: Manner,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Spot {
    Symbol(String, u64),
    Address(u64),
}

impl Kprobe {
    fn new(place: Spot, side: Side) -> Kprobe {
        Kprobe {
            place,
            side,
            manner: Manner::default(),
        }
    }

    /// Where a function starts.
    #[must_use]
    pub fn entry(function: &str) -> Kprobe {
        Kprobe::new(Spot::Symbol(function.to_owned(), 0), Side::Entry)
    }

    /// Where a function returns: a kretprobe.
    #[must_use]
    pub fn exit(function: &str) -> Kprobe {
        Kprobe::new(Spot::Symbol(function.to_owned(), 0), Side::Return)
    }

    /// At an instruction so many bytes into a function.
    #[must_use]
    pub fn inside(function: &str, offset: u64) -> Kprobe {
        Kprobe::new(Spot::Symbol(function.to_owned(), offset), Side::Entry)
    }

    /// At the instruction at an address.
    #[must_use]
    pub fn address(address: u64) -> Kprobe {
        Kprobe::new(Spot::Address(address), Side::Entry)
    }

    /// With a number that the program reads with `get_attach_cookie`. Linux 5.15.
    #[must_use]
    pub fn cookie(mut self, cookie: u64) -> Kprobe {
        self.manner.cookie = cookie;
        self
    }

    /// Only in this way. Otherwise by a link, and before Linux 5.15 without one.
    #[must_use]
    pub fn way(mut self, way: Way) -> Kprobe {
        self.manner.way = Some(way);
        self
    }
}

impl Target for Kprobe {
    fn hook(&self) -> Result<Hook> {
        Ok(Hook::default())
    }

    fn attach(&self, prog: &Prog) -> Result<Link> {
        prog.expect(ProgType::KPROBE, AttachType(0))?;
        let (name, shown) = match &self.place {
            Spot::Symbol(name, 0) => (name.as_str(), name.clone()),
            Spot::Symbol(name, offset) => (name.as_str(), format!("{name}+{offset:#x}")),
            Spot::Address(address) => ("", format!("{address:#x}")),
        };
        let symbol = CString::new(name).map_err(|_| Error::Argument {
            what: "function",
            problem: format!("{name:?} holds a zero byte"),
        })?;
        let place = match self.place {
            Spot::Symbol(_, offset) => Place::Symbol(&symbol, offset),
            Spot::Address(address) => Place::Address(address),
        };
        let open = Open::new(Event::Kprobe(place, self.side), Scope::Cpu(0));
        let object = format!("{} on {shown}", prog.quoted());
        event::attach(prog, &open, self.manner, "kprobe", object).map_err(|error| match &error {
            Error::Kernel(kernel)
                if kernel.call == "perf_event_open"
                    && !name.is_empty()
                    && matches!(kernel.errno, Errno::ENOENT | Errno::EINVAL) =>
            {
                ksyms::missing([name]).unwrap_or(error)
            }
            _ => error,
        })
    }
}
