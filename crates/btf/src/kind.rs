//! Numbers of the format: ids, kinds, linkages, encodings.

use bpfsmith_uapi::uapi_enum;
use core::fmt;

/// The number of a type in its BTF. Id 0 is `void`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TypeId(pub u32);

impl TypeId {
    /// `void`, which has no record.
    pub const VOID: TypeId = TypeId(0);
}

impl fmt::Display for TypeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl fmt::Debug for TypeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

uapi_enum! {
    /// What a type is.
    pub Kind: u32, "BTF_KIND_" {
        /// `void`; never a record.
        UNKN = 0,
        /// A number, `char` or `bool`.
        INT = 1,
        /// A pointer.
        PTR = 2,
        /// An array of a fixed length.
        ARRAY = 3,
        /// A `struct`.
        STRUCT = 4,
        /// A `union`.
        UNION = 5,
        /// An `enum` of at most 32 bits.
        ENUM = 6,
        /// A `struct` or `union` without members, declared elsewhere.
        FWD = 7,
        /// Another name of a type.
        TYPEDEF = 8,
        /// `volatile`.
        VOLATILE = 9,
        /// `const`.
        CONST = 10,
        /// `restrict`.
        RESTRICT = 11,
        /// A function; its type is a `FUNC_PROTO`.
        FUNC = 12,
        /// Arguments and result of a function.
        FUNC_PROTO = 13,
        /// A variable.
        VAR = 14,
        /// A section of variables.
        DATASEC = 15,
        /// A floating point number. Linux 5.13.
        FLOAT = 16,
        /// A remark on a declaration or one of its members. Linux 5.16.
        DECL_TAG = 17,
        /// A remark on a pointer's target. Linux 5.17.
        TYPE_TAG = 18,
        /// An `enum` of 64 bits. Linux 6.0.
        ENUM64 = 19,
    }
}

impl Kind {
    /// Bytes behind the header of a record: a fixed part, and a part for each element.
    pub(crate) const fn extra(self) -> Option<(u8, u8)> {
        Some(match self {
            Kind::INT | Kind::VAR | Kind::DECL_TAG => (4, 0),
            Kind::ARRAY => (12, 0),
            Kind::STRUCT | Kind::UNION | Kind::DATASEC | Kind::ENUM64 => (0, 12),
            Kind::ENUM | Kind::FUNC_PROTO => (0, 8),
            Kind::PTR
            | Kind::FWD
            | Kind::TYPEDEF
            | Kind::VOLATILE
            | Kind::CONST
            | Kind::RESTRICT
            | Kind::FUNC
            | Kind::FLOAT
            | Kind::TYPE_TAG => (0, 0),
            _ => return None,
        })
    }
}

uapi_enum! {
    /// Who can see a function or variable.
    pub Linkage: u32, "BTF_FUNC_" {
        /// Only its own file; the verifier checks it for each call.
        STATIC = 0,
        /// Every file; the verifier checks it once, by its prototype.
        GLOBAL = 1,
        /// Defined elsewhere, as in the kernel.
        EXTERN = 2,
    }
}

/// How the bits of a [`Kind::INT`] are meant; bits of one set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct IntEncoding(pub u32);

impl IntEncoding {
    /// A number without a sign.
    pub const UNSIGNED: IntEncoding = IntEncoding(0);
    /// A number in two's complement.
    pub const SIGNED: IntEncoding = IntEncoding(1);
    /// A character.
    pub const CHAR: IntEncoding = IntEncoding(2);
    /// `bool`.
    pub const BOOL: IntEncoding = IntEncoding(4);

    /// Whether all of these bits are set.
    #[must_use]
    pub const fn contains(self, other: IntEncoding) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What a forward declaration promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FwdKind {
    /// A `struct`.
    Struct,
    /// A `union`.
    Union,
}
