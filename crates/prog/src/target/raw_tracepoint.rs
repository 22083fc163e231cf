//! Raw tracepoints: a trace event with the arguments as the kernel passes them.

use super::{Hook, Target};
use crate::error::{Error, Result};
use crate::kernel::{Named, Wanted};
use crate::link::Link;
use crate::prog::Prog;
use bpfsmith_btf::Kind;
use bpfsmith_sys::prog::open_raw_tracepoint;
use bpfsmith_uapi::{AttachType, Errno, ProgType};
use std::ffi::CString;
use std::os::fd::AsFd;

/// A trace event by its name alone (`sched_switch`), for `RAW_TRACEPOINT` programs and, where the
/// event takes an answer, `RAW_TRACEPOINT_WRITABLE` ones. The context is an array of arguments.
/// Linux 4.17.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawTracepoint {
    name: String,
    cookie: u64,
}

impl RawTracepoint {
    /// The event of that name.
    #[must_use]
    pub fn named(name: &str) -> RawTracepoint {
        RawTracepoint {
            name: name.to_owned(),
            cookie: 0,
        }
    }

    /// With a number that the program reads with `get_attach_cookie`. Linux 6.10.
    #[must_use]
    pub fn cookie(mut self, cookie: u64) -> RawTracepoint {
        self.cookie = cookie;
        self
    }
}

impl Target for RawTracepoint {
    fn hook(&self) -> Result<Hook> {
        Ok(Hook {
            args: Some(self.name.clone()),
            ..Hook::default()
        })
    }

    fn attach(&self, prog: &Prog) -> Result<Link> {
        if prog.kind() != ProgType::RAW_TRACEPOINT_WRITABLE {
            prog.expect(ProgType::RAW_TRACEPOINT, AttachType(0))?;
        }
        let object = format!("{} on {}", prog.quoted(), self.name);
        let Ok(name) = CString::new(self.name.as_str()) else {
            return Err(Error::Argument {
                what: "tracepoint",
                problem: format!("{:?} holds a zero byte", self.name),
            });
        };
        match open_raw_tracepoint(Some(&name), prog.as_fd(), self.cookie) {
            Ok(fd) => Ok(Link::kernel(fd, "raw_tracepoint", object)),
            Err(failed) if failed.errno == Errno::ENOENT => {
                known(&self.name)?;
                Err(Error::call(failed, "raw_tracepoint", object))
            }
            Err(failed) => Err(Error::call(failed, "raw_tracepoint", object)),
        }
    }
}

/// The typed form of an event's arguments, in the kernel or a module. Every event has one, so it
/// also tells which exist.
pub(super) fn known(name: &str) -> Result<Named> {
    Wanted {
        what: "tracepoint",
        prefix: "btf_trace_",
        kind: Kind::TYPEDEF,
        hint: "each is a type definition btf_trace_NAME in the BTF of the kernel or a loaded module",
    }
    .find(name)
}
