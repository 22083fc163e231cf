//! Walks from type to type: qualifiers, sizes, alignments. All of them end.

use crate::btf::Btf;
use crate::error::Error;
use crate::kind::{Kind, TypeId};
use crate::shape::{Shape, Type};

/// How many types deep a walk goes; the kernel's own limit is 32.
pub(crate) const DEPTH: u32 = 64;

/// How many members all in all one question may look at.
pub(crate) const STEPS: u32 = 1 << 18;

impl<B: AsRef<[u8]>> Btf<B> {
    /// The type behind `const`, `volatile`, `restrict` and type tags.
    ///
    /// # Errors
    ///
    /// When a type does not exist, or the chain is longer than 64.
    #[inline]
    pub fn unqualified(&self, id: TypeId) -> Result<Type<'_>, Error> {
        self.follow(id, |kind| {
            matches!(
                kind,
                Kind::CONST | Kind::VOLATILE | Kind::RESTRICT | Kind::TYPE_TAG
            )
        })
    }

    /// The type behind qualifiers, type tags and type definitions.
    ///
    /// # Errors
    ///
    /// When a type does not exist, or the chain is longer than 64.
    #[inline]
    pub fn resolve(&self, id: TypeId) -> Result<Type<'_>, Error> {
        self.follow(id, |kind| {
            matches!(
                kind,
                Kind::CONST | Kind::VOLATILE | Kind::RESTRICT | Kind::TYPE_TAG | Kind::TYPEDEF
            )
        })
    }

    /// Most types are no part of a chain: that is found out in place, without a call.
    #[inline]
    fn follow(&self, id: TypeId, through: fn(Kind) -> bool) -> Result<Type<'_>, Error> {
        match self.ty(id)? {
            ty if through(ty.kind()) => self.follow_on(id, TypeId(ty.word), through),
            ty => Ok(ty),
        }
    }

    #[inline(never)]
    fn follow_on(
        &self,
        from: TypeId,
        mut at: TypeId,
        through: fn(Kind) -> bool,
    ) -> Result<Type<'_>, Error> {
        for _ in 1..DEPTH {
            let ty = self.ty(at)?;
            if !through(ty.kind()) {
                return Ok(ty);
            }
            at = TypeId(ty.word);
        }
        Err(Error::TooDeep(from))
    }

    /// The prototype of a function, a pointer to one, or of a type that leads there by qualifiers
    /// and type definitions.
    ///
    /// # Errors
    ///
    /// When a type does not exist or the chain is longer than 64; `Ok(None)` when it ends elsewhere.
    pub fn prototype(&self, id: TypeId) -> Result<Option<Type<'_>>, Error> {
        let mut ty = self.resolve(id)?;
        for _ in 0..2 {
            if matches!(ty.kind(), Kind::FUNC | Kind::PTR) {
                ty = self.resolve(TypeId(ty.word))?;
            }
        }
        Ok((ty.kind() == Kind::FUNC_PROTO).then_some(ty))
    }

    /// Bytes that a value occupies. Pointers have eight.
    ///
    /// # Errors
    ///
    /// When the type has no size (`void`, functions, declarations), is broken, or contains itself.
    pub fn size_of(&self, id: TypeId) -> Result<u32, Error> {
        let mut count = 1_u32;
        let mut at = id;
        for _ in 0..DEPTH {
            let ty = self.resolve(at)?;
            let size = match ty.shape() {
                Shape::Ptr(_) => 8,
                Shape::Array(array) => {
                    count = count.checked_mul(array.len).ok_or(Error::TooLarge(id))?;
                    at = array.element;
                    continue;
                }
                Shape::Var(target, _) => {
                    at = target;
                    continue;
                }
                Shape::Int(_)
                | Shape::Struct(..)
                | Shape::Union(..)
                | Shape::Enum(..)
                | Shape::Float(_)
                | Shape::DataSec(..) => ty.word,
                _ => {
                    return Err(Error::NoSize {
                        id: ty.id(),
                        kind: ty.kind(),
                    });
                }
            };
            return count.checked_mul(size).ok_or(Error::TooLarge(id));
        }
        Err(Error::TooDeep(id))
    }

    /// The alignment of a value, as a C compiler for BPF chooses it; 1 for a packed structure.
    ///
    /// # Errors
    ///
    /// When the type has no size (`void`, functions, declarations), is broken, or contains itself.
    pub fn align_of(&self, id: TypeId) -> Result<u32, Error> {
        self.align(id, DEPTH, &mut STEPS.clone())
    }

    fn align(&self, id: TypeId, depth: u32, steps: &mut u32) -> Result<u32, Error> {
        *steps = steps.checked_sub(1).ok_or(Error::TooDeep(id))?;
        let depth = depth.checked_sub(1).ok_or(Error::TooDeep(id))?;
        let ty = self.resolve(id)?;
        match ty.shape() {
            Shape::Ptr(_) => Ok(8),
            Shape::Int(_) | Shape::Enum(..) | Shape::Float(_) => Ok(scalar_align(ty.word)),
            Shape::Array(array) => self.align(array.element, depth, steps),
            Shape::Var(target, _) => self.align(target, depth, steps),
            Shape::Struct(size, members) | Shape::Union(size, members) => {
                let (mut most, mut packed) = (1, false);
                for member in members {
                    let align = self.align(member.ty, depth, steps)?;
                    packed |= member.bits.is_none() && member.bit_offset % (8 * align) != 0;
                    most = most.max(align);
                }
                let packed = packed || !size.is_multiple_of(most);
                Ok(if packed { 1 } else { most })
            }
            _ => Err(Error::NoSize {
                id: ty.id(),
                kind: ty.kind(),
            }),
        }
    }
}

/// A number is aligned to its size; those of 16 bytes too, and odd sizes to what divides them.
fn scalar_align(size: u32) -> u32 {
    match size {
        0 => 1,
        _ => 1 << size.trailing_zeros().min(4),
    }
}
