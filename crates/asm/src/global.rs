//! Global variables: symbolic references into `.data`, `.rodata`, `.bss` and `.private`.

use crate::code::{Code, Splice};
use crate::insn::{Extra, Insn};
use crate::isa::{Op, Reg, Wide};
use bpfsmith_uapi::Width;
use bpfsmith_uapi::record::{Described, Type};
use std::panic::Location;
use zerocopy::{FromZeros, Immutable, IntoBytes};

/// A variable that outlives the program's run and that user space sees: written `static` beside
/// the maps, reached with [`ld_global`].
///
/// ```
/// # use bpfsmith_asm::dsl::*;
/// static LIMIT: Global<u64> = Global::rodata("limit", 100);
/// let fragment = code![ld_global(R1, &LIMIT), load(R2, R1.u64(0))];
/// # let _ = fragment;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Global<T> {
    section: &'static str,
    name: &'static str,
    value: Option<T>,
    ty: Option<Type>,
}

impl<T: IntoBytes + Immutable> Global<T> {
    /// A variable that starts with this value and that both sides may change.
    #[must_use]
    pub const fn data(name: &'static str, value: T) -> Global<T> {
        Global {
            section: ".data",
            name,
            value: Some(value),
            ty: None,
        }
    }

    /// A constant: the loader may change it before it loads, then nobody; the verifier knows it.
    #[must_use]
    pub const fn rodata(name: &'static str, value: T) -> Global<T> {
        Global {
            section: ".rodata",
            name,
            value: Some(value),
            ty: None,
        }
    }
}

impl<T: FromZeros> Global<T> {
    /// A variable that starts as zero.
    #[must_use]
    pub const fn bss(name: &'static str) -> Global<T> {
        Global {
            section: ".bss",
            name,
            value: None,
            ty: None,
        }
    }
}

impl<T: FromZeros + Described> Global<T> {
    /// A variable that only programs reach, and that starts as zero: for what belongs to the kernel,
    /// as a lock and the list that it guards. All of one program lie side by side, so that one lock
    /// guards them. Linux 6.2.
    #[must_use]
    pub const fn private(name: &'static str) -> Global<T> {
        Global {
            section: ".private",
            name,
            value: None,
            ty: Some(T::TYPE),
        }
    }
}

impl<T> Global<T> {
    /// What it is called.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Where it lies: `.data`, `.rodata`, `.bss` or `.private`.
    #[must_use]
    pub const fn section(&self) -> &'static str {
        self.section
    }

    /// The same variable, with the members of its type told to the kernel, so that others can print
    /// them by name. Without this, one that looks like a number is told as one without a sign, and
    /// others as bytes.
    ///
    /// ```
    /// # use bpfsmith_asm::dsl::*;
    /// static LEVEL: Global<i32> = Global::data("level", -1).described();
    /// # let _ = &LEVEL;
    /// ```
    #[must_use]
    pub const fn described(mut self) -> Global<T>
    where
        T: Described,
    {
        self.ty = Some(T::TYPE);
        self
    }

    /// What the kernel is told of the bytes, if they are a number or described.
    const fn known_type(&self) -> Option<Type> {
        match (self.ty, size_of::<T>(), align_of::<T>()) {
            (Some(ty), ..) => Some(ty),
            (_, 1, 1) => Some(Type::Unsigned(Width::B)),
            (_, 2, 2) => Some(Type::Unsigned(Width::H)),
            (_, 4, 4) => Some(Type::Unsigned(Width::W)),
            (_, 8, 8) => Some(Type::Unsigned(Width::DW)),
            _ => None,
        }
    }
}

/// A variable as a program needs it.
#[derive(Clone, Debug)]
pub(crate) struct GlobalDef {
    pub(crate) section: &'static str,
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
    pub(crate) align: usize,
    pub(crate) ty: Option<Type>,
    pub(crate) at: &'static Location<'static>,
}

impl GlobalDef {
    /// True if both are one variable.
    pub(crate) fn same(&self, other: &GlobalDef) -> bool {
        (self.section, self.name, self.align) == (other.section, other.name, other.align)
            && self.bytes == other.bytes
    }
}

/// Loads the address of a global variable.
#[track_caller]
pub fn ld_global<T>(dst: Reg, global: &Global<T>) -> LdGlobal<'_, T> {
    let insn = Insn::op(Op::Wide(dst, Wide::MapValue(0, 0))).with(Extra::Global(global.name));
    LdGlobal { insn, global }
}

/// Made by [`ld_global`].
#[derive(Clone, Copy, Debug)]
#[must_use = "an instruction does nothing by itself: splice it with code![…]"]
pub struct LdGlobal<'a, T> {
    insn: Insn,
    global: &'a Global<T>,
}

impl<T: IntoBytes + Immutable> Splice for LdGlobal<'_, T> {
    fn splice(self, code: &mut Code) {
        let bytes = match &self.global.value {
            Some(value) => value.as_bytes().to_vec(),
            None => vec![0; size_of::<T>()],
        };
        code.global(GlobalDef {
            section: self.global.section,
            name: self.global.name,
            bytes,
            align: align_of::<T>(),
            ty: self.global.known_type(),
            at: self.insn.at,
        });
        code.push(self.insn);
    }
}
