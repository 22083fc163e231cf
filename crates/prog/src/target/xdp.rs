//! XDP: frames as they come from the driver.

use super::{Hook, Target};
use crate::error::{Error, Result};
use crate::link::Link;
use crate::prog::Prog;
use bpfsmith_sys::link::{More, To, create};
use bpfsmith_uapi::flags::xdp;
use bpfsmith_uapi::{AttachType, ProgType};
use std::os::fd::AsFd;

/// A network device, for XDP programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Xdp {
    ifindex: u32,
    mode: u32,
    attach_type: AttachType,
}

impl Xdp {
    /// The device with that index in this network namespace; native where the driver can, generic
    /// elsewhere.
    #[must_use]
    pub const fn on(ifindex: u32) -> Xdp {
        Xdp {
            ifindex,
            mode: 0,
            attach_type: AttachType::XDP,
        }
    }

    /// In the driver, or not at all.
    #[must_use]
    pub const fn native(mut self) -> Xdp {
        self.mode = xdp::XDP_FLAGS_DRV_MODE;
        self
    }

    /// Behind the driver, on any device.
    #[must_use]
    pub const fn generic(mut self) -> Xdp {
        self.mode = xdp::XDP_FLAGS_SKB_MODE;
        self
    }

    /// In the device itself.
    #[must_use]
    pub const fn offload(mut self) -> Xdp {
        self.mode = xdp::XDP_FLAGS_HW_MODE;
        self
    }
}

impl Target for Xdp {
    fn hook(&self) -> Result<Hook> {
        Ok(Hook::plain(self.attach_type))
    }

    fn attach(&self, prog: &Prog) -> Result<Link> {
        prog.expect(ProgType::XDP, self.attach_type)?;
        let object = format!("{} on ifindex {}", prog.quoted(), self.ifindex);
        let to = To::Device(self.ifindex);
        create(
            prog.as_fd(),
            to,
            self.attach_type,
            self.mode,
            &More::Nothing,
        )
        .map_err(|failed| Error::call(failed, "xdp", object.clone()))
        .map(|fd| Link::kernel(fd, "xdp", object))
    }
}
