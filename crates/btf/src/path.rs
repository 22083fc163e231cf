//! Members by path: `a.b[3].c`, through anonymous structures and unions.

use crate::btf::Btf;
use crate::error::Error;
use crate::graph::{DEPTH, STEPS};
use crate::kind::{Kind, TypeId};
use crate::shape::{Member, Shape, Type};

/// Where a path of members leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Where it starts, from the start of the outermost type.
    pub bit_offset: u32,
    /// Its type.
    pub ty: TypeId,
    /// Its width, if it is a bit field.
    pub bits: Option<u8>,
    /// The number of the outermost member that the path goes through, among its siblings.
    pub first: u32,
}

impl Place {
    /// Where it starts in bytes, unless it is a bit field between bytes.
    #[must_use]
    pub fn offset(&self) -> Option<u32> {
        self.bit_offset
            .is_multiple_of(8)
            .then_some(self.bit_offset / 8)
    }
}

/// What is found in one structure.
struct Hit {
    bit_offset: u32,
    ty: TypeId,
    bits: Option<u8>,
    number: u32,
}

/// One part of a path: a name, and the indices behind it.
struct Part<'p> {
    name: &'p str,
    indices: Vec<u32>,
}

fn part(text: &str) -> Option<Part<'_>> {
    let (name, rest) = text.split_at(text.find('[').unwrap_or(text.len()));
    let mut indices = Vec::new();
    let mut rest = rest;
    while !rest.is_empty() {
        let (index, behind) = rest.strip_prefix('[')?.split_once(']')?;
        indices.push(index.parse().ok()?);
        rest = behind;
    }
    (!name.is_empty()).then_some(Part { name, indices })
}

impl<B: AsRef<[u8]>> Btf<B> {
    /// Where a member lies in a structure or union, which may be behind qualifiers and type
    /// definitions. The path has the form `a.b[3].c`; members of anonymous structures and unions are
    /// reached directly.
    ///
    /// # Errors
    ///
    /// When the path is malformed, a part of it is not there, an index is outside of its array, or
    /// the types on the way are broken.
    pub fn member(&self, root: TypeId, path: &str) -> Result<Place, Error> {
        let mut place = Place {
            bit_offset: 0,
            ty: root,
            bits: None,
            first: 0,
        };
        let mut before = "";
        for (number, text) in path.split('.').enumerate() {
            let part = part(text).ok_or_else(|| Error::Path { path: path.into() })?;
            let ty = self.resolve(place.ty)?;
            if !matches!(ty.kind(), Kind::STRUCT | Kind::UNION) {
                let part = if number == 0 { "the type" } else { before };
                return Err(Error::NotComposite {
                    path: path.into(),
                    part: part.into(),
                });
            }
            let hit = self
                .member_of(&ty, part.name, DEPTH, &mut STEPS.clone())?
                .ok_or_else(|| Error::NoMember {
                    path: path.into(),
                    part: part.name.into(),
                    parent: describe(&ty),
                })?;
            if number == 0 {
                place.first = hit.number;
            }
            place.bit_offset = add(place.bit_offset, hit.bit_offset, root)?;
            (place.ty, place.bits) = (hit.ty, hit.bits);
            for index in part.indices {
                self.element(&mut place, index, path, root)?;
            }
            before = text;
        }
        Ok(place)
    }

    /// Goes from an array to one of its elements. An array of length 0 ends a structure of unknown
    /// length, so it has any.
    fn element(&self, at: &mut Place, index: u32, path: &str, root: TypeId) -> Result<(), Error> {
        let Shape::Array(array) = self.resolve(at.ty)?.shape() else {
            return Err(Error::NotComposite {
                path: path.into(),
                part: format!("[{index}]"),
            });
        };
        if index >= array.len && array.len != 0 {
            return Err(Error::Index {
                path: path.into(),
                index,
                len: array.len,
            });
        }
        let bits = u64::from(self.size_of(array.element)?) * 8 * u64::from(index);
        let bits = u32::try_from(bits).map_err(|_| Error::TooLarge(root))?;
        at.bit_offset = add(at.bit_offset, bits, root)?;
        at.ty = array.element;
        Ok(())
    }

    /// A member by name: direct ones first, then those of anonymous members.
    fn member_of(
        &self,
        ty: &Type<'_>,
        name: &str,
        depth: u32,
        steps: &mut u32,
    ) -> Result<Option<Hit>, Error> {
        let broken = || Error::TooDeep(ty.id());
        let depth = depth.checked_sub(1).ok_or_else(broken)?;
        *steps = steps.checked_sub(ty.len()).ok_or_else(broken)?;
        let hit = |member: Member<'_>, number| Hit {
            bit_offset: member.bit_offset,
            ty: member.ty,
            bits: member.bits,
            number,
        };
        let mut members = ty.members().zip(0..);
        if let Some((member, number)) = members.find(|(member, _)| member.name == name) {
            return Ok(Some(hit(member, number)));
        }
        for (member, number) in ty.members().zip(0..) {
            if !member.name.is_empty() {
                continue;
            }
            let inner = self.resolve(member.ty)?;
            if let Some(found) = self.member_of(&inner, name, depth, steps)? {
                return Ok(Some(Hit {
                    bit_offset: add(found.bit_offset, member.bit_offset, ty.id())?,
                    number,
                    ..found
                }));
            }
        }
        Ok(None)
    }
}

fn add(a: u32, b: u32, root: TypeId) -> Result<u32, Error> {
    a.checked_add(b).ok_or(Error::TooLarge(root))
}

fn describe(ty: &Type<'_>) -> String {
    let word = if ty.kind() == Kind::UNION {
        "union"
    } else {
        "struct"
    };
    match ty.name() {
        name if name.is_empty() => format!("anonymous {word} {}", ty.id()),
        name => format!("{word} {name}"),
    }
}
