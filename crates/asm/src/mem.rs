//! Places in memory: a base, an offset and, for an access, a width.

use crate::code::next_id;
use crate::insn::Extra;
use crate::isa::{Reg, Size};
use crate::kernel::{KernelField, Known};
use bpfsmith_uapi::{Field, Width};

/// What an offset counts from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Base {
    Reg(Reg),
    Slot(Slot),
}

/// A piece of the stack, placed when the program is built.
///
/// It lives as long as the smallest fragment that holds all its uses; fragments side by side share
/// the 512 bytes. A slot whose address is taken into a register with [`addr`](crate::code::addr)
/// lives as long as its function.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    id: u32,
    size: u16,
    align: u8,
    name: &'static str,
}

/// A stack slot of the size and alignment of `T`.
///
/// # Panics
/// If `T` is larger than the stack, 512 bytes: this is known when the Rust code compiles.
#[must_use]
pub fn slot<T>(name: &'static str) -> Slot {
    const {
        assert!(size_of::<T>() <= 512, "a stack slot is at most 512 bytes");
        assert!(
            align_of::<T>() <= 8,
            "a stack slot is aligned to at most 8 bytes"
        );
    }
    bytes(name, size_of::<T>(), align_of::<T>())
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "sizes are at most 512, alignments 8"
)]
fn bytes(name: &'static str, size: usize, align: usize) -> Slot {
    Slot {
        id: next_id(),
        size: size as u16,
        align: align as u8,
        name,
    }
}

impl Slot {
    #[inline]
    pub(crate) fn arg(self) -> Extra {
        Extra::Slot {
            align: self.align,
            size: self.size,
            id: self.id,
            name: self.name,
        }
    }

    /// How many bytes it has.
    #[must_use]
    pub const fn size(self) -> i32 {
        self.size as i32
    }
}

/// A place in memory, without a width.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub(crate) base: Base,
    pub(crate) off: i32,
    pub(crate) kernel: Option<Known>,
}

/// A place in memory with the width of an access.
#[derive(Clone, Copy, Debug)]
pub struct Mem {
    pub(crate) base: Base,
    pub(crate) off: i32,
    pub(crate) size: Size,
    pub(crate) signed: bool,
    /// What of the kernel the offset and perhaps the width depend on.
    pub(crate) kernel: Option<Known>,
}

impl Mem {
    /// The same place, sign-extended when it is loaded. Linux 6.6.
    #[must_use]
    pub const fn signed(self) -> Mem {
        Mem {
            signed: true,
            ..self
        }
    }

    /// How many bytes the access moves; of a field of the kernel, this is known when the program is
    /// loaded.
    #[must_use]
    pub const fn size(self) -> Size {
        self.size
    }

    /// Whether the width is the kernel's to say, and not the program's.
    pub(crate) fn has_late_width(self) -> bool {
        self.kernel.is_some_and(Known::has_width)
    }
}

const fn access(place: Place, size: Size) -> Mem {
    Mem {
        base: place.base,
        off: place.off,
        size,
        signed: false,
        kernel: place.kernel,
    }
}

/// What names a part of a structure: a [`Field`] whose offset is known, or a [`KernelField`].
pub trait Part: sealed::Sealed {
    /// The part, in the structure that starts at the place.
    fn of(self, place: Place) -> Mem;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for bpfsmith_uapi::Field {}
    impl Sealed for crate::kernel::KernelField {}
}

impl Part for Field {
    #[inline]
    fn of(self, place: Place) -> Mem {
        let size = match self.width {
            Width::B => Size::B,
            Width::H => Size::H,
            Width::W => Size::W,
            Width::DW => Size::DW,
        };
        let off = place.off + i32::from(self.offset);
        access(Place { off, ..place }, size)
    }
}

impl Part for KernelField {
    fn of(self, place: Place) -> Mem {
        let kernel = Some(self.access(place.kernel));
        Mem {
            kernel,
            ..access(place, Size::DW)
        }
    }
}

macro_rules! places {
    ($t:ty, |$self:ident| $place:expr) => {
        impl $t {
            /// The place `off` bytes further on.
            #[must_use]
            pub const fn at($self, off: i32) -> Place {
                let place = $place;
                Place { off: place.off + off, ..place }
            }

            /// One byte, `off` bytes further on.
            #[must_use]
            pub const fn u8($self, off: i32) -> Mem {
                access($self.at(off), Size::B)
            }

            /// Two bytes, `off` bytes further on.
            #[must_use]
            pub const fn u16($self, off: i32) -> Mem {
                access($self.at(off), Size::H)
            }

            /// Four bytes, `off` bytes further on.
            #[must_use]
            pub const fn u32($self, off: i32) -> Mem {
                access($self.at(off), Size::W)
            }

            /// Eight bytes, `off` bytes further on.
            #[must_use]
            pub const fn u64($self, off: i32) -> Mem {
                access($self.at(off), Size::DW)
            }

            /// A field of the struct that starts here: of a packet, a context or one's own, whose
            /// offset is known, or one of the kernel's, found when the program is loaded:
            /// `R6.get(kernel("tcp_sock.snd_cwnd"))`.
            #[must_use]
            #[inline]
            pub fn get($self, name: impl Part) -> Mem {
                name.of($self.at(0))
            }

            /// Where such a field starts, for what lies in it: `R6.to(kernel("task_struct.comm")).u64(8)`.
            #[must_use]
            #[inline]
            pub fn to($self, name: impl Part) -> Place {
                Place::from($self.get(name))
            }
        }
    };
}

const fn start(base: Base) -> Place {
    Place {
        base,
        off: 0,
        kernel: None,
    }
}

places!(Reg, |self| start(Base::Reg(self)));
places!(Slot, |self| start(Base::Slot(self)));
places!(Place, |self| self);

impl Place {
    /// How many bytes it is behind its base, not counting what a field of the kernel adds.
    #[must_use]
    pub const fn offset(self) -> i32 {
        self.off
    }
}

/// Where an access starts: `R7.get(eth::src)` as a place.
impl From<Mem> for Place {
    fn from(mem: Mem) -> Place {
        Place {
            base: mem.base,
            off: mem.off,
            kernel: mem.kernel.map(Known::offset_only),
        }
    }
}
