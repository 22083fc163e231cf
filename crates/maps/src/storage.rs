//! [`Storage`]: values that live and die with sockets, tasks, inodes or cgroups.

use crate::error::Result;
use crate::map::unless;
use crate::plain::Plain;
use crate::view::view;
use bpfsmith_uapi::Errno;
use bpfsmith_uapi::flags::map_elem::{BPF_ANY, BPF_EXIST, BPF_NOEXIST};
use std::os::fd::{AsFd, AsRawFd};
use zerocopy::IntoBytes;

view! {
    /// Local storage: a value that belongs to a socket (`SK_STORAGE`, Linux 5.2), a task
    /// (`TASK_STORAGE`, 5.11), an inode (`INODE_STORAGE`, 5.10) or a cgroup (`CGRP_STORAGE`, 6.2).
    ///
    /// The key is an fd of the owner: a socket, a pidfd, any file, a directory of cgroup2. The
    /// kernel demands `BPF_F_NO_PREALLOC`, no number of entries, and described types; nobody can
    /// list the owners.
    Storage[V] "Storage" MapDef<i32, V>
    where V: Plain
}

impl<V: Plain> Storage<V> {
    /// The value of an owner.
    ///
    /// # Errors
    /// What the kernel answers, but for an owner without a value; `EBADF` or `EINVAL` for an fd of
    /// another kind.
    pub fn lookup(&self, owner: impl AsFd) -> Result<Option<V>> {
        let mut value = V::new_zeroed();
        let key = owner.as_fd().as_raw_fd();
        let done = self
            .raw()
            .lookup(key.as_bytes(), value.as_mut_bytes(), BPF_ANY);
        match unless(done, Errno::ENOENT) {
            Ok(is_there) => Ok(is_there.then_some(value)),
            Err(failed) => Err(self.failed(failed)),
        }
    }

    /// Gives an owner a value, whether it has one or not.
    ///
    /// # Errors
    /// As for [`Storage::lookup`].
    pub fn update(&self, owner: impl AsFd, value: &V) -> Result<()> {
        self.write(owner, value, BPF_ANY)
            .map_err(|failed| self.failed(failed))
    }

    /// Gives an owner its first value; false when it has one.
    ///
    /// # Errors
    /// As for [`Storage::lookup`].
    pub fn insert(&self, owner: impl AsFd, value: &V) -> Result<bool> {
        unless(self.write(owner, value, BPF_NOEXIST), Errno::EEXIST)
            .map_err(|failed| self.failed(failed))
    }

    /// Changes the value of an owner; false when it has none.
    ///
    /// # Errors
    /// As for [`Storage::lookup`].
    pub fn replace(&self, owner: impl AsFd, value: &V) -> Result<bool> {
        unless(self.write(owner, value, BPF_EXIST), Errno::ENOENT)
            .map_err(|failed| self.failed(failed))
    }

    /// Takes the value of an owner away, and says whether there was one.
    ///
    /// # Errors
    /// As for [`Storage::lookup`].
    pub fn delete(&self, owner: impl AsFd) -> Result<bool> {
        let key = owner.as_fd().as_raw_fd();
        unless(self.raw().delete(key.as_bytes()), Errno::ENOENT)
            .map_err(|failed| self.failed(failed))
    }

    fn write(&self, owner: impl AsFd, value: &V, flags: u64) -> bpfsmith_sys::Result<()> {
        let key = owner.as_fd().as_raw_fd();
        self.raw().update(key.as_bytes(), value.as_bytes(), flags)
    }
}
