//! `record!`: one definition of a structure for programs, for user space and for the kernel's BTF.

use crate::layout::{Field, Layout, Width};

/// What the bytes of a key, a value or an event mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// An unsigned number.
    Unsigned(Width),
    /// A signed number.
    Signed(Width),
    /// A number in network byte order.
    Network(Width),
    /// Elements in a row.
    Array(&'static Type, u32),
    /// A structure.
    Struct(&'static Record),
    /// A pointer of the kernel's, which programs put in and take out.
    Pointer(Pointer),
    /// The head of a list or the root of a tree.
    Root(Root),
}

/// A pointer of the kernel's as a member: a "kptr".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pointer {
    /// How it holds what it points to.
    pub hold: Hold,
    /// What it points to.
    pub to: Pointee,
}

/// What a pointer of the kernel's points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pointee {
    /// The structure that the kernel, or one of its modules, has under this name.
    Kernel(&'static str),
    /// A structure that programs allocate.
    Allocated(&'static Record),
}

macro_rules! holds {
    ($($(#[$doc:meta])* $name:ident = $tag:literal $(or $old:literal)?;)+) => {
        /// How a pointer of the kernel's holds what it points to.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Hold {
            $($(#[$doc])* $name,)+
        }

        impl Hold {
            /// All of them.
            pub const ALL: &'static [Hold] = &[$(Hold::$name),+];

            /// The tag by which the kernel knows it.
            #[must_use]
            pub const fn tag(self) -> &'static str {
                match self {
                    $(Hold::$name => $tag,)+
                }
            }

            /// The tag by which kernels before 6.4 knew it. They spelled two of them so that today's
            /// word for one was the other.
            #[must_use]
            #[expect(unused_assignments, unused_mut, reason = "most have kept their tag")]
            pub const fn old_tag(self) -> &'static str {
                match self {
                    $(Hold::$name => {
                        let mut tag = $tag;
                        $(tag = $old;)?
                        tag
                    })+
                }
            }
        }
    };
}
holds! {
    /// It counts: what it points to stays, and who takes it out must release it.
    Counted = "kptr" or "kptr_ref";
    /// It does not: what it points to may be gone, and is read like foreign memory.
    Untrusted = "kptr_untrusted" or "kptr";
    /// It counts, and points to an allocated structure that each CPU has its own of.
    PerCpu = "percpu_kptr";
}

/// The head of a list or the root of a tree, of structures that programs allocate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Root {
    /// The kernel's structure for it.
    pub record: &'static Record,
    /// What it holds.
    pub of: &'static Record,
    /// The member by which that hangs in the list or tree.
    pub by: &'static str,
}

/// A structure of Rust, with the type of each member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// Names and places.
    pub layout: Layout,
    /// The type of each member, in the order of the layout.
    pub types: &'static [Type],
}

impl Record {
    /// The name of its first member that is the kernel's structure of this name.
    #[must_use]
    pub const fn member_of(&self, kernel: &str) -> Option<&'static str> {
        let mut i = 0;
        while i < self.types.len() {
            if let Type::Struct(record) = &self.types[i]
                && same(record.layout.name, kernel)
            {
                return Some(self.layout.fields[i].name);
            }
            i += 1;
        }
        None
    }
}

/// Comparing texts while compiling.
const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut i = 0;
    while i < a.len() && i < b.len() && a[i] == b[i] {
        i += 1;
    }
    i == a.len() && i == b.len()
}

/// A Rust type whose bytes can be described.
pub trait Described {
    /// What its bytes mean.
    const TYPE: Type;
}

macro_rules! numbers {
    ($($ty:ty => $kind:ident($width:ident),)+) => {$(
        impl Described for $ty {
            const TYPE: Type = Type::$kind(Width::$width);
        }
    )+};
}

numbers! {
    u8 => Unsigned(B),
    u16 => Unsigned(H),
    u32 => Unsigned(W),
    u64 => Unsigned(DW),
    i8 => Signed(B),
    i16 => Signed(H),
    i32 => Signed(W),
    i64 => Signed(DW),
}

impl<T: Described, const N: usize> Described for [T; N] {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the length is compared with u32::MAX first"
    )]
    const TYPE: Type = {
        assert!(N <= u32::MAX as usize, "an array is longer than 4 GB");
        Type::Array(&T::TYPE, N as u32)
    };
}

impl Type {
    /// The width in which a program reads it, or reads one element.
    #[must_use]
    pub const fn width(&self) -> Width {
        match self {
            Type::Unsigned(width) | Type::Signed(width) | Type::Network(width) => *width,
            Type::Array(element, _) => element.width(),
            Type::Pointer(_) => Width::DW,
            Type::Struct(_) | Type::Root(_) => Width::B,
        }
    }

    /// The list or tree that it is, or that each of its elements is.
    #[must_use]
    pub const fn root(&self) -> Option<&Root> {
        match self {
            Type::Root(root) => Some(root),
            Type::Array(element, _) => element.root(),
            _ => None,
        }
    }
}

/// A member at its place. What does not fit in 64 kB has no place in a program.
#[doc(hidden)]
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "both are compared with u16::MAX first"
)]
pub const fn member(name: &'static str, offset: usize, size: usize, ty: &Type) -> Field {
    assert!(
        offset <= u16::MAX as usize && size <= u16::MAX as usize,
        "a record is at most 64 kB"
    );
    Field {
        name,
        kernel: "",
        offset: offset as u16,
        size: size as u16,
        width: ty.width(),
        big_endian: matches!(ty, Type::Network(_)),
    }
}

/// Defines a structure that programs, user space and `bpftool` read alike.
///
/// The macro adds `#[repr(C)]`, one [`Field`] constant per member
/// for programs, and the description from which a map's BTF is made. Derive what else the structure
/// is to have; maps ask for zerocopy's `FromBytes`, `IntoBytes` and `Immutable`, which refuse hidden
/// padding, and ring buffers for `FromBytes`, `KnownLayout` and `Immutable`. Your crate needs
/// `zerocopy` with its feature `derive` for that.
///
/// ```
/// bpfsmith_uapi::record! {
///     /// One connection.
///     #[derive(Clone, Copy)]
///     pub struct Conn {
///         /// Who opened it.
///         pub pid: u32,
///         /// Its ports.
///         pub ports: [u16; 2],
///     }
/// }
/// assert_eq!(Conn::ports.offset, 4);
/// assert_eq!(Conn::ports.at(1).offset, 6);
/// ```
#[macro_export]
macro_rules! record {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $ty:ty),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        #[repr(C)]
        $vis struct $name {
            $($(#[$field_meta])* $field_vis $field: $ty,)+
        }

        #[allow(
            non_upper_case_globals,
            dead_code,
            reason = "a field constant is spelled like its field, and not every program reads it"
        )]
        impl $name {
            $(
                $(#[$field_meta])*
                $field_vis const $field: $crate::Field = $crate::record::member(
                    stringify!($field),
                    ::core::mem::offset_of!($name, $field),
                    ::core::mem::size_of::<$ty>(),
                    &<$ty as $crate::record::Described>::TYPE,
                );
            )+
        }

        impl $crate::record::Described for $name {
            const TYPE: $crate::record::Type =
                $crate::record::Type::Struct(&$crate::record::Record {
                    layout: $crate::Layout {
                        name: stringify!($name),
                        kernel: "",
                        size: ::core::mem::size_of::<$name>(),
                        fields: &[$($name::$field),+],
                    },
                    types: &[$(<$ty as $crate::record::Described>::TYPE),+],
                });
        }
    };
}

#[cfg(test)]
mod tests {
    use super::{Described, Type};
    use crate::layout::Width;

    record! {
        /// Inside.
        struct Inner { a: u8, b: i64 }
    }
    record! {
        /// Outside.
        struct Outer {
            name: [u8; 3],
            inner: [Inner; 2],
        }
    }

    #[test]
    fn places_are_those_of_the_compiler() {
        assert_eq!((Inner::a.offset, Inner::b.offset), (0, 8));
        assert_eq!((Outer::name.size, Outer::name.width), (3, Width::B));
        assert_eq!((Outer::inner.offset, Outer::inner.size), (8, 32));
    }

    #[test]
    fn a_description_nests() {
        let Type::Struct(outer) = Outer::TYPE else {
            panic!("not a structure")
        };
        assert_eq!(outer.layout.size, 40);
        let Type::Array(Type::Struct(inner), 2) = outer.types[1] else {
            panic!("not an array of structures")
        };
        assert_eq!(inner.layout.name, "Inner");
        assert_eq!(inner.types[1], Type::Signed(Width::DW));
    }
}
