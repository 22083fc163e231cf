//! netkit: a pair of devices made for programs.

use super::place::{Place, placed};
use super::{Hook, Target, expect_type};
use crate::error::{Error, Result};
use crate::link::Link;
use crate::prog::Prog;
use bpfsmith_net::IfIndex;
use bpfsmith_sys::attach::{Attached, query};
use bpfsmith_sys::link::{To, create};
use bpfsmith_uapi::{AttachType, Errno, ProgType};
use std::os::fd::AsFd;

/// One side of a netkit device, for `SCHED_CLS` programs on what that side sends. Linux 6.7.
///
/// Both sides are reached by the index of the primary device, so that whoever owns the peer cannot
/// take the program away.
#[derive(Clone, Copy, Debug)]
pub struct Netkit<'a> {
    device: IfIndex,
    attach_type: AttachType,
    place: Place<'a>,
}

placed!(Netkit);

impl<'a> Netkit<'a> {
    /// What the primary device with that index sends.
    #[must_use]
    pub fn primary(device: IfIndex) -> Netkit<'a> {
        Netkit::of(device, AttachType::NETKIT_PRIMARY)
    }

    /// What the peer of the primary device with that index sends.
    #[must_use]
    pub fn peer(device: IfIndex) -> Netkit<'a> {
        Netkit::of(device, AttachType::NETKIT_PEER)
    }

    fn of(device: IfIndex, attach_type: AttachType) -> Netkit<'a> {
        Netkit {
            device,
            attach_type,
            place: Place::default(),
        }
    }

    /// What is on the hook, in the order in which it runs.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn query(&self) -> Result<Attached> {
        query(To::Device(self.device.0), self.attach_type, 0)
            .map_err(|failed| Error::call(failed, "netkit", self.hook_name()))
    }

    fn hook_name(&self) -> String {
        format!("{} of {}", self.attach_type, self.device)
    }

    /// Whether the kernel has netkit at all: one that has says that the loopback device is none.
    fn is_here(&self) -> bool {
        let loopback = To::Device(bpfsmith_net::IfIndex::LOOPBACK.0);
        !matches!(
            query(loopback, self.attach_type, 0),
            Err(failed) if failed.errno == Errno::EINVAL
        )
    }
}

impl Target for Netkit<'_> {
    fn hook(&self) -> Result<Hook> {
        Ok(Hook::default())
    }

    fn attach(&self, prog: &Prog) -> Result<Link> {
        expect_type(prog, ProgType::SCHED_CLS, self.attach_type)?;
        let (flags, more) = self.place.parts()?;
        let to = To::Device(self.device.0);
        let object = format!("{} at {}", prog.quoted(), self.hook_name());
        match create(prog.as_fd(), to, self.attach_type, flags, &more) {
            Ok(fd) => Ok(Link::kernel(fd, "netkit", object)),
            Err(failed) if failed.errno == Errno::EINVAL && !self.is_here() => {
                Err(Error::Unknown {
                    what: "hook",
                    name: self.attach_type.to_string(),
                    near: Vec::new(),
                    hint: "it came with Linux 6.7 and needs CONFIG_NETKIT",
                })
            }
            Err(failed) => Err(Error::call(failed, "netkit", object)),
        }
    }
}
