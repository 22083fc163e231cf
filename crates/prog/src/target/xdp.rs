//! XDP: frames as they come from the driver.

use super::{Hook, Target};
use crate::error::{Error, Result};
use crate::link::{Link, Undo};
use crate::prog::Prog;
use bpfsmith_net::{IfIndex, Netlink, XdpExpect};
use bpfsmith_sys::Failed;
use bpfsmith_sys::link::{More, To, create};
use bpfsmith_uapi::flags::xdp;
use bpfsmith_uapi::{AttachType, Errno, ProgType};
use std::os::fd::{AsFd, OwnedFd};

/// A network device, for XDP programs.
///
/// The program is held by a link. A kernel that has none for XDP (before Linux 5.9) is asked by
/// netlink instead, and [`Link::way`] says so.
///
/// Programs in the elements of device and CPU maps are no targets: load them with
/// [`Load::attach_type`](crate::Load::attach_type) `XDP_DEVMAP` or `XDP_CPUMAP`, and write their fd
/// into the element.
#[derive(Clone, Copy, Debug)]
pub struct Xdp<'a> {
    device: IfIndex,
    mode: u32,
    by: By<'a>,
}

/// How the program is held.
#[derive(Clone, Copy, Debug)]
enum By<'a> {
    /// By a link, where the kernel has such.
    Link,
    /// By netlink; in place of another program, if one is given.
    Netlink(Option<&'a Prog>),
}

impl<'a> Xdp<'a> {
    /// The device with that index in the thread's network namespace; native where the driver can,
    /// generic elsewhere.
    #[must_use]
    pub const fn on(device: IfIndex) -> Xdp<'a> {
        Xdp {
            device,
            mode: 0,
            by: By::Link,
        }
    }

    /// In the driver, or not at all.
    #[must_use]
    pub const fn native(mut self) -> Xdp<'a> {
        self.mode = xdp::XDP_FLAGS_DRV_MODE;
        self
    }

    /// Behind the driver, on any device.
    #[must_use]
    pub const fn generic(mut self) -> Xdp<'a> {
        self.mode = xdp::XDP_FLAGS_SKB_MODE;
        self
    }

    /// In the device itself.
    #[must_use]
    pub const fn offload(mut self) -> Xdp<'a> {
        self.mode = xdp::XDP_FLAGS_HW_MODE;
        self
    }

    /// By netlink, without a link: the program stays attached when this process is killed. What is
    /// attached already is not replaced.
    #[must_use]
    pub const fn netlink(mut self) -> Xdp<'a> {
        self.by = By::Netlink(None);
        self
    }

    /// By netlink, in place of this program. Links are replaced with [`Link::replace`].
    #[must_use]
    pub const fn replace(mut self, old: &'a Prog) -> Xdp<'a> {
        self.by = By::Netlink(Some(old));
        self
    }

    fn object(&self, prog: &Prog) -> String {
        format!("{} on {}", prog.quoted(), self.device)
    }

    fn by_link(&self, prog: &Prog) -> std::result::Result<OwnedFd, Failed> {
        let to = To::Device(self.device.0);
        create(prog.as_fd(), to, AttachType::XDP, self.mode, &More::Nothing)
    }

    fn by_netlink(&self, prog: &Prog, old: Option<&Prog>) -> Result<Link> {
        let object = self.object(prog);
        let held = Held {
            net: Netlink::open()?,
            index: self.device,
            mode: self.mode,
            prog: prog
                .as_fd()
                .try_clone_to_owned()
                .map_err(|error| Error::io(DUP, "xdp", object.clone(), &error))?,
        };
        let (expect, flags) = match old {
            Some(old) => (XdpExpect::Program(old.as_fd()), self.mode),
            None => (
                XdpExpect::Anything,
                self.mode | xdp::XDP_FLAGS_UPDATE_IF_NOEXIST,
            ),
        };
        held.net
            .attach_xdp(held.index, prog.as_fd(), expect, flags)?;
        Ok(Link::undo(held, "xdp", object))
    }
}

const DUP: &str = "fcntl F_DUPFD_CLOEXEC";

/// Whether the kernel has links for XDP. The loopback device, which each namespace has, is asked for
/// what it cannot do: only a kernel with such links gets as far as to say so.
fn has_links(prog: &Prog) -> bool {
    let impossible = Xdp::on(IfIndex::LOOPBACK).offload();
    !matches!(impossible.by_link(prog), Err(failed) if failed.errno == Errno::EINVAL)
}

impl Target for Xdp<'_> {
    fn hook(&self) -> Result<Hook> {
        Ok(Hook::plain(AttachType::XDP))
    }

    fn attach(&self, prog: &Prog) -> Result<Link> {
        prog.expect(ProgType::XDP, AttachType::XDP)?;
        if let By::Netlink(old) = self.by {
            return self.by_netlink(prog, old);
        }
        match self.by_link(prog) {
            Ok(fd) => Ok(Link::kernel(fd, "xdp", self.object(prog))),
            Err(failed) if failed.errno == Errno::EINVAL && !has_links(prog) => {
                self.by_netlink(prog, None)
            }
            Err(failed) => Err(Error::call(failed, "xdp", self.object(prog))),
        }
    }
}

/// A program that netlink attached.
struct Held {
    net: Netlink,
    index: IfIndex,
    mode: u32,
    prog: OwnedFd,
}

impl Undo for Held {
    fn undo(&mut self) -> Result<()> {
        let own = XdpExpect::Program(self.prog.as_fd());
        Ok(self.net.detach_xdp(self.index, own, self.mode)?)
    }

    fn update(&mut self, new: &Prog) -> Option<Result<()>> {
        Some(self.put(new))
    }
}

impl Held {
    fn put(&mut self, new: &Prog) -> Result<()> {
        let kept = new
            .as_fd()
            .try_clone_to_owned()
            .map_err(|error| Error::io(DUP, "xdp", new.quoted(), &error))?;
        let own = XdpExpect::Program(self.prog.as_fd());
        self.net
            .attach_xdp(self.index, new.as_fd(), own, self.mode)?;
        self.prog = kept;
        Ok(())
    }
}
