//! [`TargetMap`]: where XDP programs send packets to.

use crate::error::{Problem, Result};
use crate::map::unless;
use crate::plain::Plain;
use crate::view::view;
use crate::walk::Walk;
use bpfsmith_uapi::flags::map_elem::BPF_ANY;
use bpfsmith_uapi::{Cmd, Errno};
use std::os::fd::{AsFd, AsRawFd};
use zerocopy::{FromBytes, Immutable, IntoBytes};

view! {
    /// Devices or CPUs that XDP programs redirect to: `DEVMAP`, `DEVMAP_HASH`, `CPUMAP`.
    ///
    /// A value is a number alone (`u32`), or a number with a program that runs at the other end
    /// ([`Target`]): the index of the device, or how many packets wait for the CPU.
    ///
    /// The kernel looks for devices in the network namespace of the *calling thread*.
    TargetMap[V = Target] "TargetMap" MapDef<u32, V>
    where V: Plain
}

/// An entry of a [`TargetMap`], as it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Target {
    /// The index of the device, or the length of the CPU's queue.
    pub number: u32,
    /// The id of the program that runs there, or 0.
    pub prog: u32,
}

impl<V: Plain> TargetMap<V> {
    /// What is under a key.
    ///
    /// # Errors
    /// What the kernel answers, but for a key that is not there.
    pub fn lookup(&self, key: u32) -> Result<Option<V>> {
        let mut value = V::new_zeroed();
        let done = self
            .raw()
            .lookup(key.as_bytes(), value.as_mut_bytes(), BPF_ANY);
        match unless(done, Errno::ENOENT) {
            Ok(is_there) => Ok(is_there.then_some(value)),
            Err(failed) => Err(self.failed(failed)),
        }
    }

    /// Takes an entry out, and says whether there was one. Arrays always say so.
    ///
    /// # Errors
    /// `EINVAL` for an index behind the end.
    pub fn delete(&self, key: u32) -> Result<bool> {
        unless(self.raw().delete(key.as_bytes()), Errno::ENOENT)
            .map_err(|failed| self.failed(failed))
    }

    /// The keys with their entries. For deletions meanwhile see [`Entries`](crate::Entries).
    pub fn iter(&self) -> impl Iterator<Item = Result<(u32, V)>> + '_ {
        let mut walk = Walk::<u32>::new(self);
        std::iter::from_fn(move || {
            loop {
                let mut value = None;
                let key = walk.advance(|key| {
                    value = self.lookup(*key)?;
                    Ok(value.is_some())
                })?;
                match (key, value) {
                    (Err(error), _) => return Some(Err(error)),
                    (Ok(key), Some(value)) => return Some(Ok((key, value))),
                    (Ok(_), None) => {}
                }
            }
        })
    }

    /// Refuses 0, with which the kernel deletes without a word.
    fn write(&self, key: u32, number: u32, value: &[u8]) -> Result<()> {
        if number == 0 {
            return Err(self.problem(Cmd::MAP_UPDATE_ELEM, Problem::Nowhere));
        }
        self.raw()
            .update(key.as_bytes(), value, BPF_ANY)
            .map_err(|failed| self.failed(failed))
    }
}

impl TargetMap<u32> {
    /// Sends what goes to `key` to the device of this index, or to the CPU `key` with a queue of
    /// this length.
    ///
    /// # Errors
    /// [`Problem::Nowhere`] for the number 0. `EINVAL` without such a device, `ENODEV` without such a
    /// CPU; `EOVERFLOW` for a queue of more than 16384; `E2BIG` for an index behind the end.
    pub fn set(&self, key: u32, number: u32) -> Result<()> {
        self.write(key, number, number.as_bytes())
    }
}

impl TargetMap<Target> {
    /// As [`TargetMap::<u32>::set`], without a program at the other end.
    ///
    /// # Errors
    /// As there.
    pub fn set(&self, key: u32, number: u32) -> Result<()> {
        // Fd 0 is standard input, so "none" is spelled -1; the kernel takes any number below 1.
        self.put(key, number, u32::MAX)
    }

    /// The same with a program that runs at the other end: of attach type `XDP_DEVMAP` (Linux 5.8)
    /// or `XDP_CPUMAP` (Linux 5.9).
    ///
    /// # Errors
    /// For a program that was not loaded for this, `EINVAL` from a device map and `ENOMEM` from a CPU map.
    pub fn set_with(&self, key: u32, number: u32, prog: impl AsFd) -> Result<()> {
        let prog = prog.as_fd().as_raw_fd().cast_unsigned();
        self.put(key, number, prog)
    }

    fn put(&self, key: u32, number: u32, prog: u32) -> Result<()> {
        self.write(key, number, Target { number, prog }.as_bytes())
    }
}
