//! TC: packets between devices and the network stack.

use super::place::{Place, placed};
use super::{Hook, Target, expect_type};
use crate::error::{Error, Kernel, Result};
use crate::link::{Link, Undo};
use crate::prog::Prog;
use bpfsmith_net::{FilterId, IfIndex, Netlink, TcParent};
use bpfsmith_sys::attach::{Attached, query};
use bpfsmith_sys::link::{To, create};
use bpfsmith_uapi::{AttachType, Errno, ProgType};
use std::os::fd::AsFd;

/// A network device, for `SCHED_CLS` programs: an ordered list for what it receives, another for
/// what it sends. Linux 6.6.
///
/// A program returns `TCX_NEXT` to let the next one decide. Where the kernel has no such lists, and
/// no place in them was asked for, the program becomes a filter of the device's `clsact` qdisc, and
/// [`Link::way`] says so.
#[derive(Clone, Copy, Debug)]
pub struct Tcx<'a> {
    device: IfIndex,
    attach_type: AttachType,
    by: By,
    place: Place<'a>,
}

/// What holds the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// A link, where the kernel has such.
    Link,
    /// A filter.
    Filter,
}

placed!(Tcx);

impl<'a> Tcx<'a> {
    /// What the device with that index in the thread's network namespace receives.
    #[must_use]
    pub fn ingress(device: IfIndex) -> Tcx<'a> {
        Tcx::of(device, AttachType::TCX_INGRESS)
    }

    /// What it sends.
    #[must_use]
    pub fn egress(device: IfIndex) -> Tcx<'a> {
        Tcx::of(device, AttachType::TCX_EGRESS)
    }

    fn of(device: IfIndex, attach_type: AttachType) -> Tcx<'a> {
        Tcx {
            device,
            attach_type,
            by: By::Link,
            place: Place::default(),
        }
    }

    /// As a filter of the `clsact` qdisc, which the device gets if it has none. The qdisc stays when
    /// the program is detached, because others may use it by then. Linux 4.5.
    #[must_use]
    pub const fn clsact(mut self) -> Tcx<'a> {
        self.by = By::Filter;
        self
    }

    /// What is on the hook, in the order in which it runs.
    ///
    /// # Errors
    /// What the kernel answers; filters of `clsact` are not seen.
    pub fn query(&self) -> Result<Attached> {
        query(To::Device(self.device.0), self.attach_type, 0)
            .map_err(|failed| Error::call(failed, "tcx", self.hook_name()))
    }

    fn hook_name(&self) -> String {
        format!("{} of {}", self.attach_type, self.device)
    }

    fn by_filter(&self, prog: &Prog) -> Result<Link> {
        if !self.place.is_any() {
            return Err(Error::Unknown {
                what: "hook",
                name: self.attach_type.to_string(),
                near: Vec::new(),
                hint: "only TCX, of Linux 6.6, has places: leave out first, last, before, after \
                       and revision",
            });
        }
        let index = self.device;
        let net = Netlink::open()?;
        match net.add_clsact(index) {
            Err(error) if error.errno() != Some(Errno::EEXIST) => return Err(error.into()),
            _ => {}
        }
        let hook = match self.attach_type {
            AttachType::TCX_INGRESS => TcParent::INGRESS,
            _ => TcParent::EGRESS,
        };
        let id = FilterId {
            index,
            hook,
            priority: 0,
            handle: 0,
        };
        let filter = net.add_filter(id, prog.name(), prog.as_fd())?;
        let object = format!("{} at {}", prog.quoted(), self.hook_name());
        Ok(Link::undo(Filter { net, filter }, "clsact", object))
    }
}

/// Whether the kernel has TCX: one that has can list what is on the loopback device.
fn is_here() -> bool {
    let loopback = To::Device(IfIndex::LOOPBACK.0);
    !matches!(
        query(loopback, AttachType::TCX_INGRESS, 0),
        Err(failed) if failed.errno == Errno::EINVAL
    )
}

impl Target for Tcx<'_> {
    fn hook(&self) -> Result<Hook> {
        // The kernel does not verify differently for one direction.
        Ok(Hook::default())
    }

    fn attach(&self, prog: &Prog) -> Result<Link> {
        expect_type(prog, ProgType::SCHED_CLS, self.attach_type)?;
        if self.by == By::Filter {
            return self.by_filter(prog);
        }
        let (flags, more) = self.place.parts()?;
        let to = To::Device(self.device.0);
        match create(prog.as_fd(), to, self.attach_type, flags, &more) {
            Ok(fd) => {
                let object = format!("{} at {}", prog.quoted(), self.hook_name());
                Ok(Link::kernel(fd, "tcx", object))
            }
            Err(failed) if failed.errno == Errno::EINVAL && !is_here() => self.by_filter(prog),
            Err(failed) => {
                let object = format!("{} at {}", prog.quoted(), self.hook_name());
                Err(Error::call(failed, "tcx", object))
            }
        }
    }
}

/// A program that is a filter.
struct Filter {
    net: Netlink,
    filter: bpfsmith_net::Filter,
}

impl Filter {
    /// Refuses when the number belongs to another program's filter by now: the kernel would delete or
    /// replace that. Says whether there is a filter of that number.
    fn expect_ours(&self, call: &str) -> Result<bool> {
        let id = self.filter.id;
        let there = self.net.filters(id.index, id.hook)?;
        match there.iter().find(|filter| filter.id == id) {
            Some(filter) if filter.prog_id != self.filter.prog_id => Err(self.gone(call)),
            found => Ok(found.is_some()),
        }
    }

    fn gone(&self, call: &str) -> Error {
        let id = self.filter.id;
        Error::Kernel(Kernel {
            call: call.to_owned(),
            kind: "clsact",
            object: format!(
                "{} of {} priority {} handle {}",
                id.hook, id.index, id.priority, id.handle
            ),
            errno: Errno::ENOENT,
        })
    }

    fn swap(&mut self, new: &Prog) -> Result<()> {
        const CALL: &str = "RTM_NEWTFILTER";
        // Where there is none, the kernel would add one.
        if !self.expect_ours(CALL)? {
            return Err(self.gone(CALL));
        }
        let id = self.filter.id;
        self.filter = self.net.replace_filter(id, new.name(), new.as_fd())?;
        Ok(())
    }
}

impl Undo for Filter {
    fn undo(&mut self) -> Result<()> {
        // Where there is none, the kernel says whether the device is gone too.
        self.expect_ours("RTM_DELTFILTER")?;
        Ok(self.net.delete_filter(self.filter.id)?)
    }

    fn update(&mut self, new: &Prog) -> Option<Result<()>> {
        Some(self.swap(new))
    }
}
