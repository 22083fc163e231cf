//! [`Mapped`] and [`Arena`]: maps as memory.

use crate::error::{Operation, Problem, Result};
use crate::handle::Handle;
use crate::map::Map;
use crate::plain::Plain;
use crate::view::view;
use bpfsmith_sys::mmap::{Access, Read, Shared, Write};
use bpfsmith_sys::refused::Refused;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// The values of an array in the memory of this process. Linux 5.5.
///
/// Programs change them at any time: an aligned word is read and written as one, a larger value is
/// not. The memory stays after the map's handle is dropped.
#[derive(Debug)]
pub struct Mapped<V, A = Write> {
    memory: Shared<A>,
    stride: usize,
    entries: usize,
    types: PhantomData<fn() -> V>,
}

fn refuse(handle: &Handle, refused: Refused) -> crate::Error {
    handle.refused(Operation::Call(refused.call), refused.errno)
}

impl<V: Plain> Map<u32, V> {
    /// Maps the values of an array for reading and writing. The definition has the flag
    /// `BPF_F_MMAPABLE`.
    ///
    /// # Errors
    /// `EINVAL` without the flag; `EPERM` when the map is frozen; `EINVAL` for other kinds.
    pub fn mapped(&self) -> Result<Mapped<V>> {
        Mapped::new(self)
    }

    /// Maps the values of an array for reading alone.
    ///
    /// # Errors
    /// As for [`Map::mapped`]; a frozen map can be mapped.
    pub fn mapped_to_read(&self) -> Result<Mapped<V, Read>> {
        Mapped::new(self)
    }
}

impl<V: Plain, A: Access> Mapped<V, A> {
    fn new(handle: &Handle) -> Result<Mapped<V, A>> {
        let memory = Shared::map_of(handle.raw(), 0).map_err(|refused| refuse(handle, refused))?;
        Ok(Mapped {
            memory,
            stride: size_of::<V>().next_multiple_of(8),
            entries: handle.facts().entries as usize,
            types: PhantomData,
        })
    }

    /// How many values there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries
    }

    /// Never true: an array has at least one element.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries == 0
    }

    #[inline]
    fn offset(&self, index: usize) -> Option<usize> {
        (index < self.entries).then(|| index * self.stride)
    }

    /// Copies a value out; `None` behind the end.
    #[inline]
    #[must_use]
    pub fn load(&self, index: usize) -> Option<V> {
        let mut value = V::new_zeroed();
        let offset = self.offset(index)?;
        self.memory.copy_out(offset, value.as_mut_bytes())?;
        Some(value)
    }
}

impl<V: Plain> Mapped<V, Write> {
    /// Copies a value in; `None` behind the end.
    #[inline]
    pub fn store(&self, index: usize, value: &V) -> Option<()> {
        self.memory.copy_in(self.offset(index)?, value.as_bytes())
    }
}

impl Mapped<u64, Write> {
    /// A counter that programs change as well; `None` behind the end.
    #[inline]
    #[must_use]
    pub fn at(&self, index: usize) -> Option<&AtomicU64> {
        self.memory.u64(self.offset(index)?)
    }
}

impl Mapped<u32, Write> {
    /// A counter that programs change as well; `None` behind the end.
    #[inline]
    #[must_use]
    pub fn at(&self, index: usize) -> Option<&AtomicU32> {
        self.memory.u32(self.offset(index)?)
    }
}

view! {
    /// Sparse memory that programs and user space share, with pointers in it. Linux 6.9.
    ///
    /// The definition says how many pages, has the flag `BPF_F_MMAPABLE`, and may name the address
    /// with [`extra`](bpfsmith_uapi::map::MapDef::extra).
    Arena[] "Arena" MapDef<(), ()>
}

impl Arena {
    /// Maps the arena into the memory of this process, at the address that the definition names.
    /// Pages appear when they are touched.
    ///
    /// # Errors
    /// `EBUSY` when it is mapped at another address already.
    pub fn mapped(&self) -> Result<Shared<Write>> {
        let Ok(at) = usize::try_from(self.info()?.map_extra) else {
            let (given, needed) = (usize::BITS as usize, 64);
            return Err(self.problem(Operation::Call("mmap"), Problem::Length { given, needed }));
        };
        Shared::map_of(self.raw(), at).map_err(|refused| refuse(self, refused))
    }
}
