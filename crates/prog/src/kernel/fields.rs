//! Fields of the kernel's structures: where they are, and how wide.

use super::answer::{Answer, Home, broken, homes_of, named_type, near_types, types_named};
use crate::error::{Error, Result};
use crate::near::Nearest;
use bpfsmith_asm::kernel::Ask;
use bpfsmith_btf::{Error as Wrong, Kind, Place, TypeId};

/// A field that was found.
pub(super) struct Field {
    home: Home,
    place: Place,
    /// Another structure of that name has it elsewhere, or otherwise.
    is_one_of_several: bool,
}

/// A field behind `struct.member`, or several of them behind `+`.
pub(super) fn field(path: &str) -> Result<Option<Field>> {
    let mut sum: Option<Field> = None;
    for part in path.split('+') {
        let Some(mut next) = one_field(part.trim())? else {
            return Ok(None);
        };
        if let Some(before) = sum {
            if before.place.bits.is_some() {
                return Err(Error::Argument {
                    what: "field",
                    problem: format!("{path}: nothing is reached through a field of bits"),
                });
            }
            next.is_one_of_several |= before.is_one_of_several;
            let total = before.place.bit_offset.checked_add(next.place.bit_offset);
            next.place.bit_offset =
                total.ok_or_else(|| broken(path, Wrong::TooLarge(next.place.ty)))?;
        }
        sum = Some(next);
    }
    Ok(sum)
}

fn one_field(path: &str) -> Result<Option<Field>> {
    let Some((root, members)) = path.split_once('.') else {
        return Err(Error::Argument {
            what: "field",
            problem: format!("\"{path}\" names no member: write `structure.member`"),
        });
    };
    let mut found: Option<Field> = None;
    for home in homes_of(root)? {
        // Several files of the kernel may have structures of one name.
        let types = types_named(home.btf(), root).map(|ty| ty.id());
        let mut places = Vec::new();
        for id in types {
            match home.btf().member(id, members) {
                Ok(place) => places.push(place),
                Err(Wrong::NoMember { .. } | Wrong::NotComposite { .. } | Wrong::Index { .. }) => {}
                Err(cause) => return Err(broken(path, cause)),
            }
        }
        let Some(&place) = places.first() else {
            continue;
        };
        let alike = |place: &Place| {
            let bytes = home.btf().size_of(place.ty).ok();
            (place.bit_offset, place.bits, bytes)
        };
        let is_one_of_several = places.iter().any(|other| alike(other) != alike(&place));
        match &mut found {
            // Two modules mean two structures.
            Some(found) => found.is_one_of_several = true,
            None => {
                found = Some(Field {
                    home,
                    place,
                    is_one_of_several,
                });
            }
        }
    }
    Ok(found)
}

pub(super) fn of_field(ask: Ask, path: &str, field: &Field) -> Result<Answer> {
    let place = field.place;
    let bytes = field.home.size(place.ty, path)?;
    let unfit = |problem: &str| {
        Err(Error::Argument {
            what: "field",
            problem: format!("{path} {problem}"),
        })
    };
    if field.is_one_of_several {
        return unfit(
            "is not one field: this kernel has several structures of that name, which differ \
             there; name one that holds the right one, or write the offset as a number",
        );
    }
    match ask {
        Ask::Size => Ok(bytes.into()),
        Ask::Bits | Ask::Left | Ask::Right => {
            let Some(holder) = Holder::of(&place, bytes) else {
                return unfit("is no number of at most 64 bits: take the address of its bytes");
            };
            Ok(match ask {
                Ask::Bits => Answer {
                    number: holder.offset.into(),
                    bytes: Some(holder.bytes),
                },
                Ask::Left => holder.left.into(),
                _ => holder.right.into(),
            })
        }
        _ if place.bits.is_some() || place.offset().is_none() => {
            unfit("is a field of bits: read it with load_bits; no access writes it alone")
        }
        Ask::Field if !matches!(bytes, 1 | 2 | 4 | 8) => unfit(&format!(
            "has {bytes} bytes, which no access moves at once: name a member of it, or \
             reach into it with `to`"
        )),
        Ask::Field => Ok(Answer {
            number: (place.bit_offset / 8).into(),
            bytes: Some(bytes),
        }),
        _ => Ok((place.bit_offset / 8).into()),
    }
}

/// The bytes that hold a number, for a field of bits aligned ones around a field of bits, and how it is cut out of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Holder {
    offset: u32,
    bytes: u32,
    left: u32,
    right: u32,
}

impl Holder {
    /// Of what is no field of bits, whatever its alignment.
    fn of_whole(place: &Place, size: u32) -> Option<Holder> {
        let shift = 64 - matches!(size, 1 | 2 | 4 | 8).then_some(size * 8)?;
        Some(Holder {
            offset: place.offset()?,
            bytes: size,
            left: shift,
            right: shift,
        })
    }

    fn of(place: &Place, size: u32) -> Option<Holder> {
        let Some(bits) = place.bits.map(u32::from) else {
            return Holder::of_whole(place, size);
        };
        let mut bytes = size;
        let (offset, from) = loop {
            if !matches!(bytes, 1 | 2 | 4 | 8) || !(1..=64).contains(&bits) {
                return None;
            }
            let offset = place.bit_offset / 8 / bytes * bytes;
            let from = place.bit_offset - offset * 8;
            if from + bits <= bytes * 8 {
                break (offset, from);
            }
            bytes *= 2;
        };
        let left = if cfg!(target_endian = "little") {
            64 - from - bits
        } else {
            64 - bytes * 8 + from
        };
        Some(Holder {
            offset,
            bytes,
            left,
            right: 64 - bits,
        })
    }
}

pub(super) fn no_field(path: &str) -> Error {
    const DIFFER: &str = "fields differ between kernels: offer alternatives behind `|`, or test with \
                          `kernel(…).exists()`";
    const POINTER: &str = "there is a pointer on the way: load it into a register, and go on from \
                           there in the structure that it points to";
    let last = path.rsplit('|').next().unwrap_or(path);
    let mut parts = last.split('+').map(str::trim);
    let missing = parts.find(|part| matches!(one_field(part), Ok(None)));
    let (root, members) = missing
        .and_then(|part| part.split_once('.'))
        .unwrap_or((last, ""));
    let (near, is_pointer) = match named_type(root) {
        Ok(Some(named)) => near_members(&named.home, named.id, root, members),
        _ => (near_types(root), false),
    };
    Error::Unknown {
        what: "field",
        name: path.to_owned(),
        near,
        hint: if is_pointer { POINTER } else { DIFFER },
    }
}

/// Members of the last part of a path that exists, which look like the next one; and whether that
/// part is a pointer, which has none.
fn near_members(home: &Home, root: TypeId, name: &str, members: &str) -> (Vec<String>, bool) {
    let (mut at, mut before) = (root, name.to_owned());
    let mut wanted = members;
    for part in members.split('.') {
        wanted = part;
        match home.btf().member(at, part) {
            Ok(place) => {
                at = place.ty;
                before = format!("{before}.{part}");
            }
            Err(_) => break,
        }
    }
    let mut nearest = Nearest::to(wanted);
    let mut open = vec![at];
    // Members without a name bring their own; nobody nests them deeper.
    for _ in 0..64 {
        let Some(ty) = open.pop().and_then(|id| home.btf().resolve(id).ok()) else {
            break;
        };
        for member in ty.members() {
            if member.name.is_empty() {
                open.push(member.ty);
            } else {
                nearest.see(&member.name.to_string());
            }
        }
    }
    let near = nearest.names();
    let near = near.iter().map(|near| format!("{before}.{near}"));
    let at = home.btf().resolve(at);
    (near.collect(), at.is_ok_and(|at| at.kind() == Kind::PTR))
}
