//! Types of map keys and values: numbers, arrays and structures as Rust describes them.

use super::{Builder, identifier};
use crate::kind::{IntEncoding, TypeId};
use bpfsmith_uapi::record::{Pointee, Pointer, Record, Root, Type};
use bpfsmith_uapi::{Field, Layout, Width};

/// A type of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Number {
    /// One byte.
    U8,
    /// Two bytes.
    U16,
    /// Four bytes.
    U32,
    /// Eight bytes.
    U64,
    /// One byte with a sign.
    I8,
    /// Two bytes with a sign.
    I16,
    /// Four bytes with a sign.
    I32,
    /// Eight bytes with a sign.
    I64,
    /// One byte of text: an array of these prints as text.
    Char,
    /// `bool`.
    Bool,
    /// Two bytes in network order.
    Be16,
    /// Four bytes in network order.
    Be32,
    /// Eight bytes in network order.
    Be64,
}

impl Number {
    /// The number without a sign that has this width and byte order.
    #[must_use]
    pub const fn of(field: &Field) -> Number {
        match (field.width, field.big_endian) {
            (Width::B, _) => Number::U8,
            (Width::H, false) => Number::U16,
            (Width::W, false) => Number::U32,
            (Width::DW, false) => Number::U64,
            (Width::H, true) => Number::Be16,
            (Width::W, true) => Number::Be32,
            (Width::DW, true) => Number::Be64,
        }
    }
}

/// What the kernel calls a member. A keyword of Rust that names one loses its mark.
fn member_name(name: &str) -> String {
    identifier(name.strip_prefix("r#").unwrap_or(name))
}

impl Builder {
    /// A number. Asking twice gives the same type.
    pub fn number(&mut self, number: Number) -> TypeId {
        if let Some(id) = self.numbers.get(&number) {
            return *id;
        }
        let plain = IntEncoding::UNSIGNED;
        let signed = IntEncoding::SIGNED;
        let id = match number {
            Number::U8 => self.int("u8", 1, plain),
            Number::U16 => self.int("u16", 2, plain),
            Number::U32 => self.int("u32", 4, plain),
            Number::U64 => self.int("u64", 8, plain),
            Number::I8 => self.int("i8", 1, signed),
            Number::I16 => self.int("i16", 2, signed),
            Number::I32 => self.int("i32", 4, signed),
            Number::I64 => self.int("i64", 8, signed),
            Number::Char => self.int("char", 1, IntEncoding::CHAR),
            Number::Bool => self.int("bool", 1, IntEncoding::BOOL),
            Number::Be16 => self.network("__be16", Number::U16),
            Number::Be32 => self.network("__be32", Number::U32),
            Number::Be64 => self.network("__be64", Number::U64),
        };
        self.numbers.insert(number, id);
        id
    }

    fn network(&mut self, name: &str, number: Number) -> TypeId {
        let number = self.number(number);
        self.typedef(name, number)
    }

    /// A type as Rust describes it.
    pub fn described(&mut self, ty: &Type) -> TypeId {
        match ty {
            Type::Unsigned(width) => self.number(match width {
                Width::B => Number::U8,
                Width::H => Number::U16,
                Width::W => Number::U32,
                Width::DW => Number::U64,
            }),
            Type::Signed(width) => self.number(match width {
                Width::B => Number::I8,
                Width::H => Number::I16,
                Width::W => Number::I32,
                Width::DW => Number::I64,
            }),
            Type::Network(width) => self.number(match width {
                Width::B => Number::U8,
                Width::H => Number::Be16,
                Width::W => Number::Be32,
                Width::DW => Number::Be64,
            }),
            Type::Array(element, len) => {
                let element = self.described(element);
                self.list(element, *len)
            }
            Type::Struct(record) => self.described_record(record),
            Type::Pointer(pointer) => self.described_pointer(pointer),
            Type::Root(root) => self.described_record(root.record),
        }
    }

    /// Writes the tags of pointers into the kernel as Linux did before 6.4: `kptr_ref` for those that
    /// count, `kptr` for those that do not.
    pub fn spell_old_tags(&mut self) {
        self.has_old_tags = true;
    }

    /// A structure as Rust describes it. Asking twice gives the same type: the kernel finds what a
    /// list holds by name, and takes the first.
    pub fn described_record(&mut self, record: &Record) -> TypeId {
        if let Some(id) = self.records.get(record) {
            return *id;
        }
        let id = self.described_structure(record);
        self.records.insert(*record, id);
        for (part, ty) in (0..).zip(record.types) {
            if let Some(root) = ty.root() {
                self.contains(root, id, Some(part));
            }
        }
        id
    }

    /// Says what a list or tree holds: that of a variable, or of a structure's member.
    pub fn contains(&mut self, root: &Root, target: TypeId, part: Option<u32>) {
        self.described_record(root.of);
        let (of, by) = (identifier(root.of.layout.name), member_name(root.by));
        self.decl_tag(&format!("contains:{of}:{by}"), target, part);
    }

    fn described_pointer(&mut self, pointer: &Pointer) -> TypeId {
        let to = match pointer.to {
            Pointee::Allocated(record) => self.described_record(record),
            Pointee::Kernel(name) => {
                // The kernel compares kind and name, and has the members itself.
                let members: [(&str, TypeId, u32); 0] = [];
                self.structure(name, 0, members)
            }
        };
        let tag = match self.has_old_tags {
            true => pointer.hold.old_tag(),
            false => pointer.hold.tag(),
        };
        let tagged = self.type_tag(tag, to);
        self.pointer(tagged)
    }

    fn described_structure(&mut self, record: &Record) -> TypeId {
        let fields = record.layout.fields.iter().zip(record.types);
        let members: Vec<(String, TypeId, u32)> = fields
            .map(|(field, ty)| {
                let name = member_name(field.name);
                (name, self.described(ty), field.offset.into())
            })
            .collect();
        let members = members.iter();
        let members: Vec<(&str, TypeId, u32)> = members
            .map(|(name, ty, offset)| (name.as_str(), *ty, *offset))
            .collect();
        let size = u32::try_from(record.layout.size).unwrap_or(u32::MAX);
        self.structure(&identifier(record.layout.name), size, members)
    }

    /// An array with the usual index type.
    pub fn list(&mut self, element: TypeId, len: u32) -> TypeId {
        let index = self.number(Number::U32);
        self.array(element, index, len)
    }

    /// A structure from the places of its fields. The kernel compares its size with the key or value
    /// size of a map.
    pub fn fields<'f>(
        &mut self,
        name: &str,
        size: u32,
        fields: impl IntoIterator<Item = &'f Field>,
    ) -> TypeId {
        let mut fields: Vec<&Field> = fields.into_iter().collect();
        fields.sort_by_key(|field| field.offset);
        let mut members = Vec::with_capacity(fields.len());
        for field in fields {
            let mut ty = self.number(Number::of(field));
            if field.len() != 1 {
                ty = self.list(ty, field.len().into());
            }
            members.push((field.name, ty, u32::from(field.offset)));
        }
        self.structure(name, size, members)
    }

    /// A structure of the kernel's interface, under its own name.
    pub fn layout(&mut self, layout: &Layout) -> TypeId {
        let size = u32::try_from(layout.size).unwrap_or(u32::MAX);
        self.fields(layout.kernel, size, layout.fields)
    }
}
