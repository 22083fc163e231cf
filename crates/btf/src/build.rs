//! [`Builder`]: types to bytes.

use crate::btf::{Btf, LONG_NAME};
use crate::header::HEADER;
use crate::kind::{FwdKind, IntEncoding, Kind, Linkage, TypeId};
use crate::shape::{Type, Variable};
use bpfsmith_uapi::Order;
use bpfsmith_uapi::record::Record;
use std::collections::HashMap;

mod lines;
mod records;
mod values;

pub use lines::{FUNC_INFO_SIZE, LINE_INFO_SIZE, Line};
pub use values::Number;

/// Why types do not make BTF.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A zero byte ends names.
    #[error("build BTF: the name {0:?} contains a zero byte")]
    Name(String),
    /// A name that [`Btf`] would refuse to read.
    #[error("build BTF: the name {start:?}... has {len} bytes, and {} are the most", LONG_NAME - 1)]
    LongName {
        /// How it starts.
        start: String,
        /// How long it is.
        len: usize,
    },
    /// The count in a record has 16 bits.
    #[error("build BTF: {kind} {name:?} has {count} members, and the format ends at 65535")]
    TooMany {
        /// What was to be built.
        kind: Kind,
        /// Its name.
        name: String,
        /// How many there are.
        count: usize,
    },
    /// With bit fields around, an offset has 24 bits.
    #[error("build BTF: member {0:?} starts too far behind for a structure with bit fields")]
    Offset(String),
    /// A value of an enumeration that needs more bits than it has.
    #[error("build BTF: value {value} of {name:?} does not fit in the enumeration")]
    Value {
        /// Its name.
        name: String,
        /// The value.
        value: i128,
    },
    /// An enumeration of another size than 1, 2, 4 or 8.
    #[error("build BTF: enumeration {name:?} of {size} bytes")]
    EnumSize {
        /// Its name.
        name: String,
        /// Its size.
        size: u32,
    },
    /// A copied type is of a kind whose records are not known here.
    #[error("build BTF: copy of the unknown kind {}", .0.0)]
    Kind(Kind),
    /// Function or line records that do not ascend.
    #[error("build BTF: {what} for slot {slot} comes after that for slot {before}")]
    Order {
        /// Which records.
        what: &'static str,
        /// The slot.
        slot: u32,
        /// The slot before.
        before: u32,
    },
    /// More bytes than offsets can count.
    #[error("build BTF: more than 4 GiB")]
    TooLarge,
}

bpfsmith_uapi::debug_as_display!(BuildError);

/// A member to be; also made from a name, a type and a byte offset.
#[derive(Clone, Copy, Debug)]
pub struct NewMember<'a> {
    /// Its name; empty when its own members are reached directly.
    pub name: &'a str,
    /// Its type.
    pub ty: TypeId,
    /// Where it starts.
    pub bit_offset: u32,
    /// Its width, if it is a bit field.
    pub bits: Option<u8>,
}

impl<'a> From<(&'a str, TypeId, u32)> for NewMember<'a> {
    fn from((name, ty, offset): (&'a str, TypeId, u32)) -> NewMember<'a> {
        NewMember {
            name,
            ty,
            bit_offset: offset.saturating_mul(8),
            bits: None,
        }
    }
}

/// Writes BTF.
///
/// Every method that adds a type returns its id at once; ids count up from 1, so that a type may
/// refer to one that follows (see [`next_id`](Builder::next_id)). What cannot be written is reported
/// by [`build`](Builder::build).
///
/// The kernel takes only C identifiers as names of structures, members, functions and variables:
/// [`identifier`] makes one of a Rust path.
#[derive(Clone, Debug)]
pub struct Builder {
    order: Order,
    types: Vec<u8>,
    strings: Vec<u8>,
    interned: HashMap<String, u32>,
    /// Where strings are that were copied, by the offset that they had.
    copied: HashMap<u32, u32>,
    /// Where the own strings start: behind those of the base.
    strings_start: u32,
    next: u32,
    numbers: HashMap<Number, TypeId>,
    records: HashMap<Record, TypeId>,
    has_old_tags: bool,
    problem: Option<BuildError>,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder::new()
    }
}

impl Builder {
    /// Starts BTF in the byte order of this machine.
    #[must_use]
    pub fn new() -> Builder {
        Builder::with_order(Order::HOST)
    }

    /// Starts BTF in the given byte order.
    #[must_use]
    pub fn with_order(order: Order) -> Builder {
        Builder {
            order,
            types: Vec::new(),
            strings: vec![0],
            interned: HashMap::new(),
            copied: HashMap::new(),
            strings_start: 0,
            next: 1,
            numbers: HashMap::new(),
            records: HashMap::new(),
            has_old_tags: false,
            problem: None,
        }
    }

    /// Starts split BTF: its types may refer to those of the base, and continue their ids.
    #[must_use]
    pub fn on<B: AsRef<[u8]>>(base: &Btf<B>) -> Builder {
        let mut builder = Builder::with_order(base.order());
        builder.strings.clear();
        builder.next = base.end().0;
        match u32::try_from(base.strings_len()) {
            Ok(start) => builder.strings_start = start,
            Err(_) => builder.fail(BuildError::TooLarge),
        }
        builder
    }

    /// The id that the next type will have.
    #[must_use]
    pub fn next_id(&self) -> TypeId {
        TypeId(self.next)
    }

    /// The offset of a string, which is added unless it is there already.
    pub fn string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        if let Some(offset) = self.interned.get(text) {
            return *offset;
        }
        if text.contains('\0') {
            self.fail(BuildError::Name(text.to_owned()));
            return 0;
        }
        if text.len() >= LONG_NAME {
            let start = text.chars().take(16).collect();
            let len = text.len();
            self.fail(BuildError::LongName { start, len });
            return 0;
        }
        let offset = u32::try_from(self.strings.len())
            .ok()
            .and_then(|own| own.checked_add(self.strings_start));
        let Some(offset) = offset else {
            self.fail(BuildError::TooLarge);
            return 0;
        };
        self.strings.extend_from_slice(text.as_bytes());
        self.strings.push(0);
        self.interned.insert(text.to_owned(), offset);
        offset
    }

    /// An integer, `char` or `bool` of some bytes.
    pub fn int(&mut self, name: &str, size: u32, encoding: IntEncoding) -> TypeId {
        let id = self.record(Kind::INT, name, 0, size);
        self.word((encoding.0 & 0xf) << 24 | size.saturating_mul(8).min(255));
        id
    }

    /// A floating point number.
    pub fn float(&mut self, name: &str, size: u32) -> TypeId {
        self.record(Kind::FLOAT, name, 0, size)
    }

    /// A pointer.
    pub fn pointer(&mut self, target: TypeId) -> TypeId {
        self.record(Kind::PTR, "", 0, target.0)
    }

    /// An array; the kernel wants an integer type for the index.
    pub fn array(&mut self, element: TypeId, index: TypeId, len: u32) -> TypeId {
        let id = self.record(Kind::ARRAY, "", 0, 0);
        for word in [element.0, index.0, len] {
            self.word(word);
        }
        id
    }

    /// A structure; the kernel wants its members in the order of their offsets.
    pub fn structure<'a, M>(&mut self, name: &str, size: u32, members: M) -> TypeId
    where
        M: IntoIterator<Item: Into<NewMember<'a>>>,
    {
        self.composite(Kind::STRUCT, name, size, members)
    }

    /// A union.
    pub fn union<'a, M>(&mut self, name: &str, size: u32, members: M) -> TypeId
    where
        M: IntoIterator<Item: Into<NewMember<'a>>>,
    {
        self.composite(Kind::UNION, name, size, members)
    }

    /// An enumeration; one of eight bytes needs Linux 6.0.
    pub fn enumeration(&mut self, name: &str, size: u32, values: &[(&str, i128)]) -> TypeId {
        let kind = match size {
            1 | 2 | 4 => Kind::ENUM,
            8 => Kind::ENUM64,
            _ => {
                let name = name.to_owned();
                self.fail(BuildError::EnumSize { name, size });
                Kind::ENUM
            }
        };
        let signed = values.iter().any(|(_, value)| *value < 0);
        let flag = u32::from(signed) << 31;
        let count = self.count(kind, name, values.len());
        let id = self.record(kind, name, flag | count, size);
        for (name, value) in values {
            let name = self.string(name);
            self.word(name);
            self.enumerator(*value, size, signed);
        }
        id
    }

    /// A declaration of a structure or union that is defined elsewhere.
    pub fn forward(&mut self, name: &str, kind: FwdKind) -> TypeId {
        self.record(Kind::FWD, name, u32::from(kind == FwdKind::Union) << 31, 0)
    }

    /// Another name of a type.
    pub fn typedef(&mut self, name: &str, target: TypeId) -> TypeId {
        self.record(Kind::TYPEDEF, name, 0, target.0)
    }

    /// A `volatile` type.
    pub fn volatile(&mut self, target: TypeId) -> TypeId {
        self.record(Kind::VOLATILE, "", 0, target.0)
    }

    /// A `const` type.
    pub fn constant(&mut self, target: TypeId) -> TypeId {
        self.record(Kind::CONST, "", 0, target.0)
    }

    /// A `restrict` type.
    pub fn restrict(&mut self, target: TypeId) -> TypeId {
        self.record(Kind::RESTRICT, "", 0, target.0)
    }

    /// A function.
    pub fn func(&mut self, name: &str, proto: TypeId, linkage: Linkage) -> TypeId {
        self.record(Kind::FUNC, name, linkage.0 & 0xffff, proto.0)
    }

    /// A prototype. A last parameter without name and of type `void` stands for `...`.
    pub fn func_proto(&mut self, result: TypeId, params: &[(&str, TypeId)]) -> TypeId {
        let count = self.count(Kind::FUNC_PROTO, "", params.len());
        let id = self.record(Kind::FUNC_PROTO, "", count, result.0);
        for (name, ty) in params {
            let name = self.string(name);
            self.word(name);
            self.word(ty.0);
        }
        id
    }

    /// A variable.
    pub fn var(&mut self, name: &str, ty: TypeId, linkage: Linkage) -> TypeId {
        let id = self.record(Kind::VAR, name, 0, ty.0);
        self.word(linkage.0);
        id
    }

    /// A section of variables, in the order of their offsets.
    pub fn data_sec(&mut self, name: &str, size: u32, variables: &[Variable]) -> TypeId {
        let count = self.count(Kind::DATASEC, name, variables.len());
        let id = self.record(Kind::DATASEC, name, count, size);
        for variable in variables {
            for word in [
                variable.ty.0,
                variable.offset,
                variable.size,
            ] {
                self.word(word);
            }
        }
        id
    }

    /// A remark on a type, or on its member or parameter of that number.
    pub fn decl_tag(&mut self, tag: &str, target: TypeId, part: Option<u32>) -> TypeId {
        let id = self.record(Kind::DECL_TAG, tag, 0, target.0);
        self.word(part.unwrap_or(u32::MAX));
        id
    }

    /// A type with a remark, as the target of a pointer.
    pub fn type_tag(&mut self, tag: &str, target: TypeId) -> TypeId {
        self.record(Kind::TYPE_TAG, tag, 0, target.0)
    }

    /// An attribute of a declaration, in a compiler's words; the other tags are those of BPF's own
    /// attributes. Linux 6.15.
    pub fn decl_attribute(&mut self, text: &str, target: TypeId, part: Option<u32>) -> TypeId {
        let id = self.record(Kind::DECL_TAG, text, 1 << 31, target.0);
        self.word(part.unwrap_or(u32::MAX));
        id
    }

    /// A type with an attribute in a compiler's words, such as `address_space(1)`. Linux 6.15.
    pub fn type_attribute(&mut self, text: &str, target: TypeId) -> TypeId {
        self.record(Kind::TYPE_TAG, text, 1 << 31, target.0)
    }

    /// A copy of a type from any BTF. What it refers to keeps its number, so the caller sees to it
    /// that these numbers mean the same here.
    pub fn copy(&mut self, ty: &Type<'_>) -> TypeId {
        self.copy_record(ty)
    }

    /// The bytes.
    ///
    /// # Errors
    ///
    /// The first thing that could not be written.
    pub fn build(&self) -> Result<Vec<u8>, BuildError> {
        if let Some(problem) = &self.problem {
            return Err(problem.clone());
        }
        let size = |part: &[u8]| u32::try_from(part.len()).map_err(|_| BuildError::TooLarge);
        let (types, strings) = (size(&self.types)?, size(&self.strings)?);
        let mut out = Vec::with_capacity(HEADER + self.types.len() + self.strings.len());
        out.extend(self.order.bytes16(crate::header::MAGIC));
        out.extend([1, 0]);
        for word in [24, 0, types, types, strings] {
            out.extend(self.order.bytes(word));
        }
        out.extend(&self.types);
        out.extend(&self.strings);
        Ok(out)
    }

    /// Keeps the first problem only.
    fn fail(&mut self, problem: BuildError) {
        self.problem.get_or_insert(problem);
    }
}

/// A C identifier that resembles the text: what may not stand in one becomes `_`.
///
/// ```
/// assert_eq!(bpfsmith_btf::identifier("proxy::balance"), "proxy__balance");
/// assert_eq!(bpfsmith_btf::identifier("3rd"), "_3rd");
/// ```
#[must_use]
pub fn identifier(text: &str) -> String {
    let mut name = String::with_capacity(text.len() + 1);
    if !text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') {
        name.push('_');
    }
    let valid = |byte: char| byte.is_ascii_alphanumeric() || byte == '_';
    // The kernel reads 128 bytes of a name at most.
    let fits = 127 - name.len();
    name.extend(
        text.chars()
            .take(fits)
            .map(|char| if valid(char) { char } else { '_' }),
    );
    name
}
