//! How a C compiler lays out types, to know what it must be told to arrive at the same.

use super::types::Printer;
use crate::error::Error;
use crate::kind::{Kind, TypeId};
use crate::shape::{Member, Shape, Type};
use std::collections::HashMap;

/// What a compiler must know of a structure or union.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    pub(super) align: u32,
    /// Its members do not lie where they would by themselves.
    pub(super) is_packed: bool,
}

impl Layout {
    /// The bit at which a compiler puts a member when `cursor` bits are taken.
    pub(super) fn next(self, cursor: u64, place: Place) -> u64 {
        let byte = cursor.next_multiple_of(8);
        match (self.is_packed, place.bits) {
            (true, Some(_)) => cursor,
            (true, None) => byte,
            (false, None) => byte.next_multiple_of(8 * u64::from(place.align.max(1))),
            (false, Some(_)) if place.straddles(cursor) => cursor.next_multiple_of(place.unit()),
            (false, Some(_)) => cursor,
        }
    }
}

/// What a member takes.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Bytes of its type.
    pub(super) size: u32,
    pub(super) align: u32,
    /// Its width, if it is a bit field.
    pub(super) bits: Option<u8>,
}

impl Place {
    /// Bits that it takes.
    pub(super) fn width(self) -> u64 {
        self.bits.map_or(8 * u64::from(self.size), u64::from)
    }

    fn unit(self) -> u64 {
        8 * u64::from(self.size.max(1))
    }

    /// Whether a bit field at this bit would lie in two words of its type.
    fn straddles(self, at: u64) -> bool {
        let last = at + self.width().saturating_sub(1);
        at / self.unit() != last / self.unit()
    }
}

/// Layouts that are known already.
#[derive(Default)]
pub(super) struct Layouts(HashMap<TypeId, Layout>);

impl<B: AsRef<[u8]>> Printer<'_, B> {
    /// The layout of a structure or union.
    pub(super) fn layout(&mut self, ty: &Type<'_>, depth: u32) -> Result<Layout, Error> {
        if let Some(known) = self.layouts.0.get(&ty.id()) {
            return Ok(*known);
        }
        let (mut align, mut is_packed) = (1, false);
        for member in ty.members() {
            let place = self.place(&member, depth)?;
            let start = u64::from(member.bit_offset);
            is_packed |= match place.bits {
                Some(_) => place.straddles(start),
                None => !start.is_multiple_of(8 * u64::from(place.align)),
            };
            align = align.max(place.align);
        }
        is_packed |= !ty.word.is_multiple_of(align);
        let layout = Layout {
            align: if is_packed { 1 } else { align },
            is_packed,
        };
        self.layouts.0.insert(ty.id(), layout);
        Ok(layout)
    }

    /// What a member takes; nothing if its type has no size.
    pub(super) fn place(&mut self, member: &Member<'_>, depth: u32) -> Result<Place, Error> {
        Ok(Place {
            size: self.btf.size_of(member.ty).unwrap_or(0),
            align: self.align(member.ty, depth)?,
            bits: member.bits,
        })
    }

    fn align(&mut self, id: TypeId, depth: u32) -> Result<u32, Error> {
        let depth = self.budget.step(depth)?;
        let ty = self.btf.resolve(id)?;
        Ok(match ty.shape() {
            Shape::Struct(..) | Shape::Union(..) => self.layout(&ty, depth)?.align,
            Shape::Array(array) => self.align(array.element, depth)?,
            _ => self.btf.align_of(ty.id()).unwrap_or(1),
        })
    }
}

/// A number as C writes a constant of an enumeration.
pub(super) fn literal(value: i128) -> String {
    match value {
        // The sign is an operator, and what it applies to must be a number itself.
        _ if value <= i64::MIN.into() => format!("({}LL - 1)", i64::MIN + 1),
        _ if value > i64::MAX.into() => format!("{value}ULL"),
        _ => value.to_string(),
    }
}

/// What a compiler must be told to give an enumeration its size.
pub(super) fn mode(ty: &Type<'_>) -> &'static str {
    let (mut least, mut most) = (0, 0);
    for value in ty.enumerators() {
        least = least.min(value.value);
        most = most.max(value.value);
    }
    let limit = if least < 0 {
        i32::MAX.into()
    } else {
        u32::MAX.into()
    };
    let is_narrow = least >= i32::MIN.into() && most <= limit;
    match (ty.own_size(), is_narrow) {
        (Some(1), _) => " __attribute__((mode(QI)))",
        (Some(2), _) => " __attribute__((mode(HI)))",
        (Some(8), true) => " __attribute__((mode(DI)))",
        _ => "",
    }
}

/// The word of C for a structure or union, also for one that is only declared.
pub(super) fn word(ty: &Type<'_>) -> &'static str {
    match ty.kind() {
        Kind::UNION => "union",
        Kind::FWD if ty.flag() => "union",
        _ => "struct",
    }
}
