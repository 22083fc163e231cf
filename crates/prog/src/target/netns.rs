//! Network namespaces: which socket gets a packet, and how headers are taken apart.

use super::{Hook, Target};
use crate::error::{Error, Result};
use crate::link::Link;
use crate::prog::Prog;
use bpfsmith_sys::attach::{Attached, query};
use bpfsmith_sys::link::{More, To, create};
use bpfsmith_uapi::{AttachType, ProgType};
use std::os::fd::{AsFd, BorrowedFd};

/// A network namespace, for programs of one of its two hooks.
#[derive(Clone, Copy, Debug)]
pub struct Netns<'a> {
    ns: BorrowedFd<'a>,
    attach_type: AttachType,
    kind: ProgType,
}

impl<'a> Netns<'a> {
    /// The choice of the socket for a new connection or a datagram. Several programs run in the
    /// order in which they came; the choice of an earlier one stands unless a later one replaces
    /// it with `BPF_SK_LOOKUP_F_REPLACE`. Linux 5.9.
    #[must_use]
    pub fn lookup(ns: &'a impl AsFd) -> Netns<'a> {
        Netns {
            ns: ns.as_fd(),
            attach_type: AttachType::SK_LOOKUP,
            kind: ProgType::SK_LOOKUP,
        }
    }

    /// The reading of packet headers, for one program in each namespace. Linux 5.8.
    #[must_use]
    pub fn dissector(ns: &'a impl AsFd) -> Netns<'a> {
        Netns {
            ns: ns.as_fd(),
            attach_type: AttachType::FLOW_DISSECTOR,
            kind: ProgType::FLOW_DISSECTOR,
        }
    }

    /// What is on the hook, in the order in which it runs.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn query(&self) -> Result<Attached> {
        query(To::Fd(self.ns), self.attach_type, 0)
            .map_err(|failed| Error::call(failed, "netns", self.attach_type.to_string()))
    }
}

impl Target for Netns<'_> {
    fn hook(&self) -> Result<Hook> {
        Ok(Hook::plain(self.attach_type))
    }

    fn attach(&self, prog: &Prog) -> Result<Link> {
        prog.expect(self.kind, self.attach_type)?;
        let object = format!("{} at {}", prog.quoted(), self.attach_type);
        let to = To::Fd(self.ns);
        create(prog.as_fd(), to, self.attach_type, 0, &More::Nothing)
            .map_err(|failed| Error::call(failed, "netns", object.clone()))
            .map(|fd| Link::kernel(fd, "netns", object))
    }
}
