//! [`Ports`]: devices of one network namespace as entries of a device map.

use crate::error::{Error, Result};
use crate::prog::Prog;
use bpfsmith_maps::{Plain, Target, TargetMap};
use bpfsmith_net::{IfIndex, NetDev, NetNs};
use bpfsmith_uapi::{AttachType, Errno, ProgType};

/// The devices of a namespace that a device map (`DEVMAP`, `DEVMAP_HASH`) is to send frames to.
///
/// The kernel looks for the device of an entry in the namespace of the thread that writes it, and takes
/// another device of the same number without a word. So entries are written here from inside the
/// namespace. And it takes devices that drop whatever is redirected to them; so they are asked first.
#[derive(Debug)]
pub struct Ports<'a, V: Plain> {
    map: &'a TargetMap<V>,
    ns: &'a NetNs,
    from: From,
}

/// Which programs redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Native,
    Generic,
}

/// Whether a device was asked before it became an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It takes redirected frames.
    Takes,
    /// It was not asked, because every device takes what generic programs redirect.
    Any,
    /// This kernel does not tell (before Linux 6.3). See
    /// [`Netlink::check_far_end`](bpfsmith_net::Netlink::check_far_end).
    Untold,
}

impl<'a, V: Plain> Ports<'a, V> {
    /// For native programs: only devices that take redirected frames become entries.
    #[must_use]
    pub const fn native(map: &'a TargetMap<V>, ns: &'a NetNs) -> Ports<'a, V> {
        let from = From::Native;
        Ports { map, ns, from }
    }

    /// For generic programs: any device becomes an entry.
    #[must_use]
    pub const fn generic(map: &'a TargetMap<V>, ns: &'a NetNs) -> Ports<'a, V> {
        let from = From::Generic;
        Ports { map, ns, from }
    }

    /// In the namespace: asks the device, then writes the entry.
    fn put(
        &self,
        device: IfIndex,
        write: impl FnOnce() -> bpfsmith_maps::Result<()> + Send,
    ) -> Result<Asked> {
        let ask_and_write = || {
            let asked = match self.from {
                From::Generic => Asked::Any,
                From::Native => ask(device)?,
            };
            write().map_err(Error::Map)?;
            Ok(asked)
        };
        self.ns.run(ask_and_write)?
    }
}

fn ask(device: IfIndex) -> Result<Asked> {
    match NetDev::open() {
        Ok(devices) => {
            devices.check_redirect_to(device)?;
            Ok(Asked::Takes)
        }
        Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(Asked::Untold),
        Err(error) => Err(error.into()),
    }
}

impl Ports<'_, u32> {
    /// Sends what goes to `key` to the device.
    ///
    /// # Errors
    /// [`Reason::TakesNoFrames`](bpfsmith_net::Reason::TakesNoFrames), whose text says what to switch on;
    /// `ENODEV` or `EINVAL` without such a device in the namespace; what the map refuses.
    pub fn set(&self, key: u32, device: IfIndex) -> Result<Asked> {
        self.put(device, || self.map.set(key, device.0))
    }
}

impl Ports<'_, Target> {
    /// Sends what goes to `key` to the device.
    ///
    /// # Errors
    /// As [`Ports::<u32>::set`].
    pub fn set(&self, key: u32, device: IfIndex) -> Result<Asked> {
        self.put(device, || self.map.set(key, device.0))
    }

    /// The same, and the program sees each frame before the device sends it; it was loaded for that with
    /// [`Load::attach_type`](crate::Load::attach_type) `XDP_DEVMAP`. Linux 5.8.
    ///
    /// # Errors
    /// As [`Ports::<u32>::set`]; [`Error::WrongHook`].
    pub fn set_with(&self, key: u32, device: IfIndex, prog: &Prog) -> Result<Asked> {
        prog.expect(ProgType::XDP, AttachType::XDP_DEVMAP)?;
        self.put(device, || self.map.set_with(key, device.0, prog))
    }
}
