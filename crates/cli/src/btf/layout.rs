//! Members of structures as a flat list.

use super::source::Bytes;
use bpfsmith_btf::{Btf, Error, Kind, Name, Type, TypeId};

/// How much one walk may look at, so that structures that repeat each other end it.
const STEPS: u32 = 1 << 18;

/// How many structures a walk goes into.
const DEPTH: u32 = 32;

/// A member, from the start of the outermost structure.
#[derive(Clone, Debug)]
pub(super) struct Field {
    /// Its name, behind those of the members that it is part of.
    pub(super) path: String,
    pub(super) bit_offset: u32,
    /// Its width, if it is a bit field.
    pub(super) bits: Option<u8>,
    pub(super) ty: TypeId,
}

/// What a walk does with a member that has a name.
pub(super) enum Step {
    /// It is one of the list.
    Take,
    /// Its own members may be.
    Enter,
    /// It and what it consists of are not.
    Skip,
}

/// Goes through the members of a structure or union. Those of members without a name belong to it;
/// `step` decides about the others, by how many members they are part of.
pub(super) fn walk(
    btf: &Btf<Bytes>,
    root: &Type<'_>,
    step: impl Fn(usize, Name<'_>, TypeId) -> Step,
) -> Result<Vec<Field>, Error> {
    let mut walk = Walk {
        btf,
        step,
        steps: STEPS,
        found: Vec::new(),
    };
    let start = At {
        prefix: String::new(),
        level: 0,
        bit_offset: 0,
        depth: DEPTH,
    };
    walk.members(root, &start)?;
    Ok(walk.found)
}

/// Whether a type is a structure or union without a name.
pub(super) fn is_nameless(btf: &Btf<Bytes>, id: TypeId) -> bool {
    let ty = btf.unqualified(id);
    ty.is_ok_and(|ty| matches!(ty.kind(), Kind::STRUCT | Kind::UNION) && ty.name().is_empty())
}

struct Walk<'b, F> {
    btf: &'b Btf<Bytes>,
    step: F,
    steps: u32,
    found: Vec<Field>,
}

struct At {
    prefix: String,
    level: usize,
    bit_offset: u32,
    depth: u32,
}

impl<F: Fn(usize, Name<'_>, TypeId) -> Step> Walk<'_, F> {
    fn members(&mut self, ty: &Type<'_>, at: &At) -> Result<(), Error> {
        let spent = || Error::TooDeep(ty.id());
        let depth = at.depth.checked_sub(1).ok_or_else(spent)?;
        for member in ty.members() {
            self.steps = self.steps.checked_sub(1).ok_or_else(spent)?;
            let bit_offset = at.bit_offset.saturating_add(member.bit_offset);
            if member.name.is_empty() {
                let inner = self.btf.resolve(member.ty)?;
                let at = At {
                    prefix: at.prefix.clone(),
                    level: at.level,
                    bit_offset,
                    depth,
                };
                self.members(&inner, &at)?;
                continue;
            }
            let path = format!("{}{}", at.prefix, member.name);
            match (self.step)(at.level, member.name, member.ty) {
                Step::Skip => {}
                Step::Take => self.found.push(Field {
                    path,
                    bit_offset,
                    bits: member.bits,
                    ty: member.ty,
                }),
                Step::Enter => {
                    let inner = self.btf.resolve(member.ty)?;
                    let at = At {
                        prefix: path + ".",
                        level: at.level + 1,
                        bit_offset,
                        depth,
                    };
                    self.members(&inner, &at)?;
                }
            }
        }
        Ok(())
    }
}

/// A place in bytes, and in bits where it is not at the start of a byte or a bit field.
pub(super) fn place(bit_offset: u32, bits: Option<u8>) -> String {
    match (bits, bit_offset % 8) {
        (None, 0) => (bit_offset / 8).to_string(),
        (_, bit) => format!("{}:{bit}", bit_offset / 8),
    }
}
