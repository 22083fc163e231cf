//! Values as C initialisers.

use super::Budget;
use crate::btf::Btf;
use crate::error::Error;
use crate::graph::DEPTH;
use crate::kind::{IntEncoding, Kind, TypeId};
use crate::names::Name;
use crate::shape::{Array, Enumerators, Int, Member, Members, Shape, Type};
use bpfsmith_uapi::Order;
use core::fmt::Write;

struct Printer<'b, B> {
    btf: &'b Btf<B>,
    budget: Budget,
    out: String,
}

impl<B: AsRef<[u8]>> Btf<B> {
    /// A value as C writes it: `{ .pid = 7, .comm = "sh" }`.
    ///
    /// Arrays of `char` are text up to the first zero byte; numbers of the types `__be16`, `__be32`
    /// and `__be64` are those that travel, not as this machine would read them; all members of a union
    /// are shown.
    ///
    /// # Errors
    ///
    /// When the bytes are fewer than the type has, or the type is broken, has no size or nests too
    /// deeply.
    pub fn show(&self, id: TypeId, bytes: &[u8]) -> Result<String, Error> {
        let mut printer = Printer {
            btf: self,
            budget: Budget::new(id),
            out: String::new(),
        };
        printer.value(id, bytes, DEPTH)?;
        Ok(printer.out)
    }
}

/// Up to 16 bytes as a number.
fn number(bytes: &[u8], order: Order) -> Option<u128> {
    let mut wide = [0; 16];
    let to = wide.get_mut(..bytes.len())?;
    to.copy_from_slice(bytes);
    if order == Order::Big {
        to.reverse();
    }
    Some(u128::from_le_bytes(wide))
}

/// The lowest `bits` of a number, as a number with a sign.
fn signed(value: u128, bits: u32) -> i128 {
    let unused = 128_u32.saturating_sub(bits).min(127);
    (value << unused).cast_signed() >> unused
}

impl<B: AsRef<[u8]>> Printer<'_, B> {
    fn take<'v>(&self, id: TypeId, bytes: &'v [u8], size: u32) -> Result<&'v [u8], Error> {
        bytes.get(..size as usize).ok_or(Error::ShortValue {
            id,
            need: size,
            have: bytes.len(),
        })
    }

    fn value(&mut self, id: TypeId, bytes: &[u8], depth: u32) -> Result<(), Error> {
        let depth = self.budget.step(depth)?;
        let order = self.network_order(id)?;
        let ty = self.btf.resolve(id)?;
        let no_size = Error::NoSize {
            id: ty.id(),
            kind: ty.kind(),
        };
        match ty.shape() {
            Shape::Int(int) => {
                let bytes = self.take(id, bytes, int.size)?;
                self.int(int, bytes, order)?;
            }
            Shape::Ptr(_) => {
                let value = number(self.take(id, bytes, 8)?, order).unwrap_or(0);
                let _ = write!(self.out, "{value:#x}");
            }
            Shape::Enum(size, values) => {
                let bytes = self.take(id, bytes, size)?;
                let value = number(bytes, order).unwrap_or(0);
                self.constant(&ty, values, value, size.min(16) * 8)?;
            }
            Shape::Float(size) => self.float(self.take(id, bytes, size)?, order)?,
            Shape::Array(array) => self.array(id, array, bytes, depth)?,
            Shape::Struct(size, members) | Shape::Union(size, members) => {
                let bytes = self.take(id, bytes, size)?;
                self.out.push('{');
                let mut comma = "";
                self.members(members, bytes, &mut comma, depth)?;
                self.out.push_str(if comma.is_empty() { "}" } else { " }" });
            }
            Shape::Var(target, _) => self.value(target, bytes, depth)?,
            Shape::DataSec(_, variables) => {
                self.out.push('{');
                let mut comma = "";
                for variable in variables {
                    let name = self.btf.ty(variable.ty)?.name();
                    self.designator(&mut comma, name)?;
                    let bytes = bytes.get(variable.offset as usize..).unwrap_or_default();
                    self.value(variable.ty, bytes, depth)?;
                }
                self.out.push_str(" }");
            }
            _ => return Err(no_size),
        }
        Ok(())
    }

    /// The byte order of a number: a type definition on the way says whether it is the network's.
    fn network_order(&self, id: TypeId) -> Result<Order, Error> {
        let mut ty = self.btf.ty(id)?;
        for _ in 0..DEPTH {
            match ty.kind() {
                Kind::TYPEDEF
                    if ["__be16", "__be32", "__be64"]
                        .iter()
                        .any(|be| ty.is_named(be)) =>
                {
                    return Ok(Order::Big);
                }
                Kind::TYPEDEF | Kind::CONST | Kind::VOLATILE | Kind::RESTRICT | Kind::TYPE_TAG => {
                    ty = self.btf.ty(TypeId(ty.word))?;
                }
                _ => break,
            }
        }
        Ok(self.btf.order())
    }

    fn int(&mut self, int: Int, bytes: &[u8], order: Order) -> Result<(), Error> {
        let Some(value) = number(bytes, order) else {
            // Wider than any number of C.
            return self.escaped(bytes);
        };
        self.bits(
            int,
            value >> u32::from(int.bit_offset).min(127),
            int.bits.into(),
        );
        Ok(())
    }

    /// Bytes that are no number. Many members may lie over the same ones.
    fn escaped(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.budget.text(bytes)?;
        let _ = write!(self.out, "\"{}\"", bytes.escape_ascii());
        Ok(())
    }

    /// The lowest bits of a number by the encoding of its type.
    fn bits(&mut self, int: Int, value: u128, bits: u32) {
        let mask = 1_u128.checked_shl(bits).map_or(u128::MAX, |bit| bit - 1);
        let value = value & mask;
        let _ = if int.encoding.contains(IntEncoding::BOOL) && value <= 1 {
            write!(self.out, "{}", value == 1)
        } else if int.is_signed() {
            write!(self.out, "{}", signed(value, bits))
        } else {
            write!(self.out, "{value}")
        };
    }

    fn constant(
        &mut self,
        ty: &Type<'_>,
        mut values: Enumerators<'_>,
        value: u128,
        bits: u32,
    ) -> Result<(), Error> {
        self.budget.spend(ty.len())?;
        let value = if ty.flag() {
            signed(value, bits)
        } else {
            value.cast_signed()
        };
        match values.find(|row| row.value == value) {
            Some(row) => self.name(row.name)?,
            None => {
                let _ = write!(self.out, "{value}");
            }
        }
        Ok(())
    }

    fn name(&mut self, name: Name<'_>) -> Result<(), Error> {
        self.budget.name(name)?;
        let _ = write!(self.out, "{name}");
        Ok(())
    }

    fn designator(&mut self, comma: &mut &'static str, name: Name<'_>) -> Result<(), Error> {
        let _ = write!(self.out, "{comma} .");
        self.name(name)?;
        self.out.push_str(" = ");
        *comma = ",";
        Ok(())
    }

    fn float(&mut self, bytes: &[u8], order: Order) -> Result<(), Error> {
        let value = number(bytes, order).unwrap_or(0).to_le_bytes();
        let [a, b, c, d, e, f, g, h, ..] = value;
        let _ = match bytes.len() {
            4 => write!(self.out, "{}", f32::from_le_bytes([a, b, c, d])),
            8 => write!(self.out, "{}", f64::from_le_bytes([a, b, c, d, e, f, g, h])),
            _ => return self.escaped(bytes),
        };
        Ok(())
    }

    fn array(&mut self, id: TypeId, array: Array, bytes: &[u8], depth: u32) -> Result<(), Error> {
        let size = self.btf.size_of(array.element)?;
        let all = size.checked_mul(array.len).ok_or(Error::TooLarge(id))?;
        let bytes = self.take(id, bytes, all)?;
        if self.is_text(array.element)? {
            let text = crate::names::until_zero(bytes);
            let Ok(text) = core::str::from_utf8(text) else {
                return self.escaped(text);
            };
            self.budget.text(text.as_bytes())?;
            let _ = write!(self.out, "{text:?}");
            return Ok(());
        }
        self.out.push('{');
        for index in 0..array.len {
            self.out.push_str(if index == 0 { " " } else { ", " });
            let at = (size * index) as usize;
            self.value(array.element, bytes.get(at..).unwrap_or_default(), depth)?;
        }
        self.out.push_str(if array.len == 0 { "}" } else { " }" });
        Ok(())
    }

    /// C has no type for text: what is called `char`, or encoded so, is.
    fn is_text(&self, element: TypeId) -> Result<bool, Error> {
        let ty = self.btf.resolve(element)?;
        Ok(match ty.shape() {
            Shape::Int(int) => {
                int.size == 1 && (ty.is_named("char") || int.encoding.contains(IntEncoding::CHAR))
            }
            _ => false,
        })
    }

    fn members(
        &mut self,
        members: Members<'_>,
        bytes: &[u8],
        comma: &mut &'static str,
        depth: u32,
    ) -> Result<(), Error> {
        for member in members {
            let depth = self.budget.step(depth)?;
            let from = bytes
                .get((member.bit_offset / 8) as usize..)
                .unwrap_or_default();
            let inner = self.btf.resolve(member.ty)?;
            if member.name.is_empty() && member.bits.is_none() {
                self.members(inner.members(), from, comma, depth)?;
                continue;
            }
            self.designator(comma, member.name)?;
            match member.bits {
                Some(bits) => self.field(&member, &inner, bits, bytes)?,
                None => self.value(member.ty, from, depth)?,
            }
        }
        Ok(())
    }

    /// A bit field: the bytes that it touches as a number, and of it the bits.
    fn field(
        &mut self,
        member: &Member<'_>,
        ty: &Type<'_>,
        bits: u8,
        bytes: &[u8],
    ) -> Result<(), Error> {
        let (first, skip) = (member.bit_offset / 8, member.bit_offset % 8);
        let size = (skip + u32::from(bits)).div_ceil(8);
        let from = bytes.get(first as usize..).unwrap_or_default();
        let order = self.btf.order();
        let value = number(self.take(member.ty, from, size.min(16))?, order).unwrap_or(0);
        let width = u32::from(bits);
        let value = match order {
            Order::Little => value >> skip,
            // There the first bit is the highest.
            Order::Big => value >> (size.min(16) * 8).saturating_sub(skip + width).min(127),
        };
        let mask = 1_u128.checked_shl(width).map_or(u128::MAX, |bit| bit - 1);
        match ty.shape() {
            Shape::Int(int) => self.bits(int, value, width),
            Shape::Enum(_, values) => self.constant(ty, values, value & mask, width)?,
            _ => {
                let _ = write!(self.out, "{}", value & mask);
            }
        }
        Ok(())
    }
}
