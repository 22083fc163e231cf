//! [`Queue`] and [`Bloom`]: values without keys.

use crate::error::Result;
use crate::map::unless;
use crate::plain::Plain;
use crate::view::view;
use bpfsmith_uapi::Errno;
use bpfsmith_uapi::flags::map_elem::{BPF_ANY, BPF_EXIST};

view! {
    /// Values in a row: `QUEUE` hands out the oldest, `STACK` the youngest. Linux 4.20.
    Queue[V] "Queue" MapDef<(), V>
    where V: Plain
}

impl<V: Plain> Queue<V> {
    /// Adds a value; false when it is full.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn push(&self, value: &V) -> Result<bool> {
        unless(
            self.raw().update(&[], value.as_bytes(), BPF_ANY),
            Errno::E2BIG,
        )
        .map_err(|failed| self.failed(failed))
    }

    /// Adds a value, and drops the one that would come out next if it is full.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn push_over(&self, value: &V) -> Result<()> {
        self.raw()
            .update(&[], value.as_bytes(), BPF_EXIST)
            .map_err(|failed| self.failed(failed))
    }

    /// Takes the next value out.
    ///
    /// # Errors
    /// What the kernel answers, but for an empty queue.
    pub fn pop(&self) -> Result<Option<V>> {
        let mut value = V::new_zeroed();
        let done = self.raw().take(&[], value.as_mut_bytes(), BPF_ANY);
        match unless(done, Errno::ENOENT) {
            Ok(is_there) => Ok(is_there.then_some(value)),
            Err(failed) => Err(self.failed(failed)),
        }
    }

    /// The next value, which stays.
    ///
    /// # Errors
    /// As for [`Queue::pop`].
    pub fn peek(&self) -> Result<Option<V>> {
        let mut value = V::new_zeroed();
        let done = self.raw().lookup(&[], value.as_mut_bytes(), BPF_ANY);
        match unless(done, Errno::ENOENT) {
            Ok(is_there) => Ok(is_there.then_some(value)),
            Err(failed) => Err(self.failed(failed)),
        }
    }
}

view! {
    /// A set of values that says "certainly not" or "perhaps". Linux 5.16.
    Bloom[V] "Bloom" MapDef<(), V>
    where V: Plain
}

impl<V: Plain> Bloom<V> {
    /// Adds a value; none is ever taken out.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn add(&self, value: &V) -> Result<()> {
        self.raw()
            .update(&[], value.as_bytes(), BPF_ANY)
            .map_err(|failed| self.failed(failed))
    }

    /// False when the value was certainly never added.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn may_contain(&self, value: &V) -> Result<bool> {
        unless(self.raw().contains(value.as_bytes()), Errno::ENOENT)
            .map_err(|failed| self.failed(failed))
    }
}
