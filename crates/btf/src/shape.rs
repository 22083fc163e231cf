//! One type, and what belongs to it.

use crate::kind::{FwdKind, IntEncoding, Kind, Linkage, TypeId};
use crate::names::{Name, Strings};
use crate::records;
use bpfsmith_uapi::Order;
use core::fmt;

/// One type. It borrows from its BTF and is cheap to copy.
#[derive(Clone, Copy)]
pub struct Type<'a> {
    pub(crate) id: TypeId,
    pub(crate) name: u32,
    pub(crate) info: u32,
    /// Its size, or the type that it refers to.
    pub(crate) word: u32,
    /// All that follows the header of the record, the records of other types included.
    pub(crate) behind: &'a [u8],
    pub(crate) strings: Strings<'a>,
    pub(crate) order: Order,
}

/// A number, `char` or `bool`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Int {
    /// Bytes it occupies.
    pub size: u32,
    /// How its bits are meant.
    pub encoding: IntEncoding,
    /// Where the value starts in these bytes; 0 but for bit fields of old compilers.
    pub bit_offset: u8,
    /// Bits of the value.
    pub bits: u8,
}

impl Int {
    /// Whether it has a sign.
    #[must_use]
    pub const fn is_signed(self) -> bool {
        self.encoding.contains(IntEncoding::SIGNED)
    }
}

/// An array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Array {
    /// The type of an element.
    pub element: TypeId,
    /// The type of an index.
    pub index: TypeId,
    /// The number of elements.
    pub len: u32,
}

/// What a type is, with all that belongs to it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Shape<'a> {
    /// `void`.
    Void,
    /// A number, `char` or `bool`.
    Int(Int),
    /// A pointer.
    Ptr(TypeId),
    /// An array.
    Array(Array),
    /// A `struct` of this size.
    Struct(u32, Members<'a>),
    /// A `union` of this size.
    Union(u32, Members<'a>),
    /// An `enum` of this size, of either kind.
    Enum(u32, Enumerators<'a>),
    /// A declaration without members.
    Fwd(FwdKind),
    /// Another name of a type.
    Typedef(TypeId),
    /// `volatile`.
    Volatile(TypeId),
    /// `const`.
    Const(TypeId),
    /// `restrict`.
    Restrict(TypeId),
    /// A function with its prototype.
    Func(TypeId, Linkage),
    /// A prototype with its result.
    FuncProto(TypeId, Params<'a>),
    /// A variable.
    Var(TypeId, Linkage),
    /// A section of this size.
    DataSec(u32, Variables<'a>),
    /// A floating point number of this size.
    Float(u32),
    /// A remark on a type, or on its member or argument of that number.
    DeclTag(TypeId, Option<u32>),
    /// A remark on a type, as part of that type.
    TypeTag(TypeId),
    /// A kind of a newer kernel.
    Unknown(Kind),
}

impl<'a> Type<'a> {
    /// Its number.
    #[inline]
    #[must_use]
    pub const fn id(&self) -> TypeId {
        self.id
    }

    /// What it is.
    #[inline]
    #[must_use]
    pub const fn kind(&self) -> Kind {
        records::kind(self.info)
    }

    /// Its name; empty when it has none.
    #[inline]
    #[must_use]
    pub fn name(&self) -> Name<'a> {
        self.strings.name(self.name)
    }

    /// Whether this is its name, without a look at more of the name than that.
    pub(crate) fn is_named(&self, name: &str) -> bool {
        let rest = self.strings.tail(self.name).strip_prefix(name.as_bytes());
        self.name != 0 && matches!(rest, Some([] | [0, ..]))
    }

    /// The number of members, values or parameters.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> u32 {
        records::elements(self.info)
    }

    /// Whether it has no members, values or parameters.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The flag whose meaning depends on the kind: bit fields, signed values, `union`.
    #[inline]
    #[must_use]
    pub const fn flag(&self) -> bool {
        self.info >> 31 != 0
    }

    /// The type that it refers to: target, result, prototype.
    #[inline]
    #[must_use]
    pub fn target(&self) -> Option<TypeId> {
        match self.kind() {
            Kind::PTR
            | Kind::TYPEDEF
            | Kind::VOLATILE
            | Kind::CONST
            | Kind::RESTRICT
            | Kind::FUNC
            | Kind::FUNC_PROTO
            | Kind::VAR
            | Kind::DECL_TAG
            | Kind::TYPE_TAG => Some(TypeId(self.word)),
            _ => None,
        }
    }

    /// The size in its own record; see [`Btf::size_of`](crate::Btf::size_of) for all types.
    #[inline]
    #[must_use]
    pub fn own_size(&self) -> Option<u32> {
        match self.kind() {
            Kind::INT
            | Kind::STRUCT
            | Kind::UNION
            | Kind::ENUM
            | Kind::ENUM64
            | Kind::FLOAT
            | Kind::DATASEC => Some(self.word),
            _ => None,
        }
    }

    /// Members of a `struct` or `union`; of other types none.
    #[inline]
    #[must_use]
    pub fn members(&self) -> Members<'a> {
        let wanted = matches!(self.kind(), Kind::STRUCT | Kind::UNION);
        Members(self.elements(wanted, 12))
    }

    /// Values of an `enum` of either kind; of other types none.
    #[inline]
    #[must_use]
    pub fn enumerators(&self) -> Enumerators<'a> {
        let wanted = matches!(self.kind(), Kind::ENUM | Kind::ENUM64);
        let width = if self.kind() == Kind::ENUM64 { 12 } else { 8 };
        Enumerators(self.elements(wanted, width))
    }

    /// Parameters of a prototype; of other types none.
    #[inline]
    #[must_use]
    pub fn params(&self) -> Params<'a> {
        Params(self.elements(self.kind() == Kind::FUNC_PROTO, 8))
    }

    /// Variables of a section; of other types none.
    #[must_use]
    pub fn variables(&self) -> Variables<'a> {
        Variables(self.elements(self.kind() == Kind::DATASEC, 12))
    }

    /// What it is, with all that belongs to it.
    #[must_use]
    pub fn shape(&self) -> Shape<'a> {
        let target = TypeId(self.word);
        match self.kind() {
            Kind::UNKN => Shape::Void,
            Kind::INT => Shape::Int(self.int()),
            Kind::PTR => Shape::Ptr(target),
            Kind::ARRAY => Shape::Array(Array {
                element: TypeId(self.extra(0)),
                index: TypeId(self.extra(4)),
                len: self.extra(8),
            }),
            Kind::STRUCT => Shape::Struct(self.word, self.members()),
            Kind::UNION => Shape::Union(self.word, self.members()),
            Kind::ENUM | Kind::ENUM64 => Shape::Enum(self.word, self.enumerators()),
            Kind::FWD if self.flag() => Shape::Fwd(FwdKind::Union),
            Kind::FWD => Shape::Fwd(FwdKind::Struct),
            Kind::TYPEDEF => Shape::Typedef(target),
            Kind::VOLATILE => Shape::Volatile(target),
            Kind::CONST => Shape::Const(target),
            Kind::RESTRICT => Shape::Restrict(target),
            Kind::FUNC => Shape::Func(target, Linkage(self.len())),
            Kind::FUNC_PROTO => Shape::FuncProto(target, self.params()),
            Kind::VAR => Shape::Var(target, Linkage(self.extra(0))),
            Kind::DATASEC => Shape::DataSec(self.word, self.variables()),
            Kind::FLOAT => Shape::Float(self.word),
            Kind::DECL_TAG => {
                let index = self.extra(0);
                Shape::DeclTag(target, (index != u32::MAX).then_some(index))
            }
            Kind::TYPE_TAG => Shape::TypeTag(target),
            kind => Shape::Unknown(kind),
        }
    }

    fn int(&self) -> Int {
        let [bits, _, bit_offset, encoding] = self.extra(0).to_le_bytes();
        Int {
            size: self.word,
            encoding: IntEncoding(u32::from(encoding) & 0xf),
            bit_offset,
            bits,
        }
    }

    #[inline]
    fn extra(&self, at: usize) -> u32 {
        self.order.u32_at(self.behind, at).unwrap_or(0)
    }

    /// What follows the header of the record.
    pub(crate) fn tail(&self) -> &'a [u8] {
        let (fixed, each) = self.kind().extra().unwrap_or_default();
        let len = (u32::from(fixed) + u32::from(each) * self.len()) as usize;
        self.behind.get(..len).unwrap_or_default()
    }

    /// That many bytes for each element, if it is of a kind that has them.
    #[inline]
    fn elements(&self, wanted: bool, width: usize) -> Elements<'a> {
        let len = if wanted {
            self.len() as usize * width
        } else {
            0
        };
        Elements {
            rest: self.behind.get(..len).unwrap_or_default(),
            strings: self.strings,
            order: self.order,
            wide: self.kind() == Kind::ENUM64,
            flag: self.flag(),
        }
    }
}

impl fmt::Debug for Type<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {:?}", self.id, self.kind(), self.name())
    }
}

/// The records behind a type that are not read yet.
#[derive(Clone, Copy)]
struct Elements<'a> {
    rest: &'a [u8],
    strings: Strings<'a>,
    order: Order,
    wide: bool,
    flag: bool,
}

impl<'a> Elements<'a> {
    #[inline]
    fn three(&mut self) -> Option<(Name<'a>, u32, u32)> {
        let (chunk, rest) = self.rest.split_first_chunk::<12>()?;
        self.rest = rest;
        let [a, b, c, d, e, f, g, h, i, j, k, l] = *chunk;
        let name = self.strings.name(self.order.u32([a, b, c, d]));
        let words = (self.order.u32([e, f, g, h]), self.order.u32([i, j, k, l]));
        Some((name, words.0, words.1))
    }

    #[inline]
    fn two(&mut self) -> Option<(Name<'a>, u32)> {
        let (chunk, rest) = self.rest.split_first_chunk::<8>()?;
        self.rest = rest;
        let [a, b, c, d, e, f, g, h] = *chunk;
        let name = self.strings.name(self.order.u32([a, b, c, d]));
        Some((name, self.order.u32([e, f, g, h])))
    }
}

/// A member of a `struct` or `union`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// Its name; empty when its own members are reached directly.
    pub name: Name<'a>,
    /// Its type.
    pub ty: TypeId,
    /// Where it starts.
    pub bit_offset: u32,
    /// Its width, if it is a bit field.
    pub bits: Option<u8>,
}

impl Member<'_> {
    /// Where it starts in bytes, unless it is a bit field between bytes.
    #[must_use]
    pub fn offset(&self) -> Option<u32> {
        self.bit_offset
            .is_multiple_of(8)
            .then_some(self.bit_offset / 8)
    }
}

/// A value of an `enum`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enumerator<'a> {
    /// Its name.
    pub name: Name<'a>,
    /// The number, which is an `i64` or `u64`.
    pub value: i128,
}

/// A parameter of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param<'a> {
    /// Its name; often empty.
    pub name: Name<'a>,
    /// Its type. A last parameter of type `void` stands for `...`.
    pub ty: TypeId,
}

/// A variable in a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable {
    /// The [`Kind::VAR`].
    pub ty: TypeId,
    /// Where it starts.
    pub offset: u32,
    /// Its bytes.
    pub size: u32,
}

macro_rules! iterator {
    ($(#[$meta:meta])* $name:ident, $item:ty, $width:literal, $next:expr) => {
        $(#[$meta])*
        #[derive(Clone, Copy)]
        pub struct $name<'a>(Elements<'a>);

        impl<'a> Iterator for $name<'a> {
            type Item = $item;

            #[inline]
            fn next(&mut self) -> Option<$item> {
                let next: fn(&mut Elements<'a>) -> Option<$item> = $next;
                next(&mut self.0)
            }

            fn size_hint(&self) -> (usize, Option<usize>) {
                let width = if self.0.wide { 12 } else { $width };
                let len = self.0.rest.len() / width;
                (len, Some(len))
            }
        }

        impl ExactSizeIterator for $name<'_> {}

        impl fmt::Debug for $name<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_list().entries(*self).finish()
            }
        }
    };
}

iterator! {
    /// Members in the order of their declaration.
    Members, Member<'a>, 12, |elements| {
        let flag = elements.flag;
        let (name, ty, place) = elements.three()?;
        let width = place.to_le_bytes()[3];
        let (bit_offset, bits) = match (flag, width) {
            (false, _) => (place, None),
            (true, 0) => (place, None),
            (true, bits) => (place & 0x00ff_ffff, Some(bits)),
        };
        Some(Member { name, ty: TypeId(ty), bit_offset, bits })
    }
}

iterator! {
    /// Values in the order of their declaration.
    Enumerators, Enumerator<'a>, 8, |elements| {
        let flag = elements.flag;
        let (name, value) = if elements.wide {
            let (name, low, high) = elements.three()?;
            let value = u64::from(high) << 32 | u64::from(low);
            (name, if flag { i128::from(value.cast_signed()) } else { i128::from(value) })
        } else {
            let (name, value) = elements.two()?;
            (name, if flag { i128::from(value.cast_signed()) } else { i128::from(value) })
        };
        Some(Enumerator { name, value })
    }
}

iterator! {
    /// Parameters in the order of the call.
    Params, Param<'a>, 8, |elements| {
        let (name, ty) = elements.two()?;
        Some(Param { name, ty: TypeId(ty) })
    }
}

/// Variables in the order of their places.
#[derive(Clone, Copy)]
pub struct Variables<'a>(Elements<'a>);

impl Iterator for Variables<'_> {
    type Item = Variable;

    fn next(&mut self) -> Option<Variable> {
        let (chunk, rest) = self.0.rest.split_first_chunk::<12>()?;
        self.0.rest = rest;
        let word = |at| self.0.order.u32_at(chunk, at);
        Some(Variable {
            ty: TypeId(word(0)?),
            offset: word(4)?,
            size: word(8)?,
        })
    }
}

impl fmt::Debug for Variables<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(*self).finish()
    }
}
