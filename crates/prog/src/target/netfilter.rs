//! netfilter: packets at the hooks of the firewall.

use super::{Hook, Target};
use crate::error::{Error, Result};
use crate::link::Link;
use crate::prog::Prog;
use bpfsmith_sys::link::{More, To, create};
use bpfsmith_uapi::flags::netfilter::BPF_F_NETFILTER_IP_DEFRAG;
use bpfsmith_uapi::{AttachType, ProgType, uapi_enum};
use std::os::fd::AsFd;

uapi_enum! {
    /// What kind of packets a hook sees.
    pub NfProto: u32, "NFPROTO_" {
        /// IPv4.
        IPV4 = 2,
        /// IPv6.
        IPV6 = 10,
    }
}

uapi_enum! {
    /// Where on its way a packet is.
    pub NfHook: u32, "NF_INET_" {
        /// It has just arrived.
        PRE_ROUTING = 0,
        /// It is for this machine.
        LOCAL_IN = 1,
        /// It is for another machine.
        FORWARD = 2,
        /// It comes from this machine.
        LOCAL_OUT = 3,
        /// It leaves.
        POST_ROUTING = 4,
    }
}

/// A firewall hook of the thread's network namespace, for a `NETFILTER` program. Linux 6.4.
#[derive(Clone, Copy, Debug)]
pub struct Netfilter {
    family: NfProto,
    hook: NfHook,
    priority: i32,
    flags: u32,
}

impl Netfilter {
    /// That hook, at priority 0.
    #[must_use]
    pub const fn at(family: NfProto, hook: NfHook) -> Netfilter {
        Netfilter {
            family,
            hook,
            priority: 0,
            flags: 0,
        }
    }

    /// At this place: smaller numbers run first, and no two programs share one.
    #[must_use]
    pub const fn priority(mut self, priority: i32) -> Netfilter {
        self.priority = priority;
        self
    }

    /// After fragments were put together, which needs a priority above -400. Linux 6.6.
    #[must_use]
    pub const fn defrag(mut self) -> Netfilter {
        self.flags |= BPF_F_NETFILTER_IP_DEFRAG;
        self
    }
}

impl Target for Netfilter {
    fn hook(&self) -> Result<Hook> {
        Ok(Hook::plain(AttachType::NETFILTER))
    }

    fn attach(&self, prog: &Prog) -> Result<Link> {
        prog.expect(ProgType::NETFILTER, AttachType::NETFILTER)?;
        let more = More::Netfilter {
            family: self.family.0,
            hook: self.hook.0,
            priority: self.priority,
            flags: self.flags,
        };
        let object = format!(
            "{} at {} {} priority {}",
            prog.quoted(),
            self.family,
            self.hook,
            self.priority
        );
        create(prog.as_fd(), To::Nothing, AttachType::NETFILTER, 0, &more)
            .map_err(|failed| Error::call(failed, "netfilter", object.clone()))
            .map(|fd| Link::kernel(fd, "netfilter", object))
    }
}
