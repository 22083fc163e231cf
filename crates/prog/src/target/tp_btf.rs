//! Typed tracepoints: a trace event whose arguments the verifier knows.

use super::raw_tracepoint::known;
use super::{Hook, Target, typed};
use crate::error::Result;
use crate::link::Link;
use crate::prog::Prog;
use bpfsmith_uapi::{AttachType, ProgType};

/// A trace event by its name alone (`sched_switch`), for `TRACING` programs: pointers among the
/// arguments can be followed. Linux 5.5.
///
/// It is the kernel's event of that name, or else that of the one loaded module that has it;
/// `module:name` means that module's. Linux 5.11 for those of modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TpBtf {
    name: String,
    cookie: u64,
}

impl TpBtf {
    /// The event of that name.
    #[must_use]
    pub fn named(name: &str) -> TpBtf {
        TpBtf {
            name: name.to_owned(),
            cookie: 0,
        }
    }

    /// With a number that the program reads with `get_attach_cookie`. Linux 6.10.
    #[must_use]
    pub fn cookie(mut self, cookie: u64) -> TpBtf {
        self.cookie = cookie;
        self
    }
}

impl Target for TpBtf {
    fn hook(&self) -> Result<Hook> {
        let event = known(&self.name)?;
        Ok(Hook {
            btf_id: event.id.0,
            object: event.open()?,
            args: Some(self.name.clone()),
            ..Hook::plain(AttachType::TRACE_RAW_TP)
        })
    }

    fn attach(&self, prog: &Prog) -> Result<Link> {
        let names = ("tp_btf", self.name.as_str());
        typed::attach(prog, ProgType::TRACING, &self.hook()?, self.cookie, names)
    }
}
