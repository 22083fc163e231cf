//! Records as bytes.

use super::{BuildError, Builder, NewMember};
use crate::kind::{Kind, TypeId};
use crate::names::until_zero;
use crate::shape::Type;

impl Builder {
    /// The header of a record. `rest` is what belongs to the kind's word: count and flag.
    pub(super) fn record(&mut self, kind: Kind, name: &str, rest: u32, word: u32) -> TypeId {
        let name = self.string(name);
        for word in [name, kind.0 << 24 | rest, word] {
            self.word(word);
        }
        let id = TypeId(self.next);
        self.next = self.next.saturating_add(1);
        id
    }

    pub(super) fn word(&mut self, word: u32) {
        self.types.extend(self.order.bytes(word));
    }

    pub(super) fn count(&mut self, kind: Kind, name: &str, count: usize) -> u32 {
        u16::try_from(count).map_or_else(
            |_| {
                let name = name.to_owned();
                self.fail(BuildError::TooMany { kind, name, count });
                0
            },
            u32::from,
        )
    }

    pub(super) fn composite<'a, M>(
        &mut self,
        kind: Kind,
        name: &str,
        size: u32,
        members: M,
    ) -> TypeId
    where
        M: IntoIterator<Item: Into<NewMember<'a>>>,
    {
        let members: Vec<NewMember<'a>> = members.into_iter().map(Into::into).collect();
        let fields = members.iter().any(|member| member.bits.is_some());
        let count = self.count(kind, name, members.len());
        let id = self.record(kind, name, u32::from(fields) << 31 | count, size);
        for member in members {
            if fields && member.bit_offset > 0x00ff_ffff {
                self.fail(BuildError::Offset(member.name.to_owned()));
            }
            let name = self.string(member.name);
            let bits = u32::from(member.bits.unwrap_or(0));
            let place = member.bit_offset | if fields { bits << 24 } else { 0 };
            for word in [name, member.ty.0, place] {
                self.word(word);
            }
        }
        id
    }

    /// The value of an enumeration constant, in one word or two.
    pub(super) fn enumerator(&mut self, value: i128, size: u32, signed: bool) {
        let bits = size.clamp(1, 8) * 8;
        let (least, most) = if signed {
            (-(1_i128 << (bits - 1)), (1_i128 << (bits - 1)) - 1)
        } else {
            (0, (1_i128 << bits) - 1)
        };
        if value < least || value > most {
            let name = self.last_string();
            self.fail(BuildError::Value { name, value });
        }
        let [a, b, c, d, e, f, g, h, ..] = value.to_le_bytes();
        self.word(u32::from_le_bytes([a, b, c, d]));
        if size == 8 {
            self.word(u32::from_le_bytes([e, f, g, h]));
        }
    }

    fn last_string(&self) -> String {
        let at = self.types.len().saturating_sub(4);
        let offset = self.order.u32_at(&self.types, at).unwrap_or(0);
        let found = self.interned.iter().find(|(_, at)| **at == offset);
        found.map_or_else(String::new, |(name, _)| name.clone())
    }

    pub(super) fn copy_record(&mut self, ty: &Type<'_>) -> TypeId {
        let Some((_, each)) = ty.kind().extra() else {
            self.fail(BuildError::Kind(ty.kind()));
            return TypeId::VOID;
        };
        let name = self.copy_name(ty, ty.name);
        for word in [name, ty.info, ty.word] {
            self.word(word);
        }
        // Elements start with a name, but for the variables of a section.
        let names = each != 0 && ty.kind() != Kind::DATASEC;
        for (at, chunk) in ty.tail().chunks_exact(4).enumerate() {
            let word = ty.order.u32_at(chunk, 0).unwrap_or(0);
            let is_name = names && (at * 4).is_multiple_of(each as usize);
            let word = if is_name {
                self.copy_name(ty, word)
            } else {
                word
            };
            self.word(word);
        }
        let id = TypeId(self.next);
        self.next = self.next.saturating_add(1);
        id
    }

    fn copy_name(&mut self, ty: &Type<'_>, offset: u32) -> u32 {
        if let Some(known) = self.copied(ty, offset) {
            return known;
        }
        let name = ty.strings.name(offset);
        let Some(text) = name.to_str() else {
            self.fail(BuildError::Name(name.to_string()));
            return 0;
        };
        let new = self.string(text);
        self.copied.insert(offset, new);
        new
    }

    /// The string that was copied last from this offset, if it is this name: types of other BTF have
    /// other names there. Comparing is cheaper than hashing when many types share one long name.
    fn copied(&self, ty: &Type<'_>, offset: u32) -> Option<u32> {
        let known = *self.copied.get(&offset)?;
        let at = known.checked_sub(self.strings_start)? as usize;
        let text = until_zero(self.strings.get(at..)?);
        let rest = ty.strings.tail(offset).strip_prefix(text)?;
        (known != 0 && matches!(rest, [0, ..])).then_some(known)
    }
}
