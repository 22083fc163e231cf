//! The bytes of a structure of functions: numbers and texts where its members are.

use super::kind::Kind;
use crate::error::{Error, Result};
use bpfsmith_btf::{Place, Shape};

/// What a member is given that is no function.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Number(i128),
    Text(String),
}

/// Writes a member. The structure is zero before.
pub(super) fn write(kind: &Kind, out: &mut [u8], member: &str, value: &Value) -> Result<()> {
    let place = kind.member(member)?;
    let bytes = match value {
        Value::Number(number) => of_number(kind, member, &place, *number)?,
        Value::Text(text) => of_text(kind, member, &place, text)?,
    };
    put(kind, out, member, &place, &bytes)
}

/// Writes the bytes of a member.
pub(super) fn put(
    kind: &Kind,
    out: &mut [u8],
    member: &str,
    place: &Place,
    bytes: &[u8],
) -> Result<()> {
    let Some(offset) = place.offset().filter(|_| place.bits.is_none()) else {
        return Err(kind.about(member, "it is a field of bits, which cannot be set"));
    };
    let at = (kind.data + offset) as usize;
    match out.get_mut(at..at + bytes.len()) {
        Some(to) => to.copy_from_slice(bytes),
        None => return Err(kind.about(member, "it lies outside of the kernel's structure")),
    }
    Ok(())
}

fn of_number(kind: &Kind, member: &str, place: &Place, number: i128) -> Result<Vec<u8>> {
    let btf = kind.btf()?;
    let broken = |cause| Error::Btf {
        wanted: format!("{}.{member}", kind.name),
        cause,
    };
    let ty = btf.resolve(place.ty).map_err(broken)?;
    let (size, is_signed) = match ty.shape() {
        Shape::Int(int) => (btf.size_of(ty.id()).map_err(broken)?, int.is_signed()),
        Shape::Enum(size, _) => (size, true),
        Shape::Ptr(_) => {
            return Err(kind.about(
                member,
                "it is a pointer: bind a program if it is one to a function, or else leave it out",
            ));
        }
        _ => {
            return Err(kind.about(
                member,
                "it is no number: name a member of it, or set a text",
            ));
        }
    };
    let bits = size.saturating_mul(8).min(64);
    let (least, most) = match is_signed {
        // An enumeration may be of either sign.
        true if matches!(ty.shape(), Shape::Int(_)) => {
            (-(1_i128 << (bits - 1)), (1_i128 << (bits - 1)) - 1)
        }
        true => (-(1_i128 << (bits - 1)), (1_i128 << bits) - 1),
        false => (0, (1_i128 << bits) - 1),
    };
    if !(least..=most).contains(&number) {
        return Err(kind.about(
            member,
            format!("{number} does not fit: it takes {least} to {most}"),
        ));
    }
    let bytes = number.to_ne_bytes();
    let size = (size as usize).min(bytes.len());
    Ok(if cfg!(target_endian = "little") {
        bytes[..size].to_vec()
    } else {
        bytes[bytes.len() - size..].to_vec()
    })
}

fn of_text(kind: &Kind, member: &str, place: &Place, text: &str) -> Result<Vec<u8>> {
    let btf = kind.btf()?;
    let room = btf.resolve(place.ty).ok().and_then(|ty| match ty.shape() {
        Shape::Array(array) if btf.size_of(array.element) == Ok(1) => Some(array.len as usize),
        _ => None,
    });
    let Some(room) = room else {
        return Err(kind.about(member, "it holds no text: set a number, or bind a program"));
    };
    if text.len() >= room || text.bytes().any(|byte| byte == 0) {
        return Err(kind.about(
            member,
            format!(
                "{text:?} does not fit: it takes {} bytes, none of them zero",
                room.saturating_sub(1)
            ),
        ));
    }
    Ok(text.as_bytes().to_vec())
}
