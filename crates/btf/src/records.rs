//! The records of the type section: found in one pass, then read by number.

use crate::error::Error;
use crate::kind::{Kind, TypeId};
use crate::names::{MOST_TYPES, Strings};
use crate::shape::Type;
use bpfsmith_uapi::Order;
use core::ops::Range;

/// The part of a record that all kinds have.
pub(crate) const RECORD: usize = HEAD as usize;
const HEAD: u16 = 12;

/// How long the records of a kind are.
#[derive(Clone, Copy)]
struct Size {
    /// Bytes of a record without elements; 0 for unknown kinds.
    fixed: u16,
    /// Bytes of an element.
    each: u16,
}

impl Size {
    const UNKNOWN: Size = Size { fixed: 0, each: 0 };

    const fn of(kind: Kind) -> Size {
        match kind.extra() {
            Some((fixed, each)) => Size::new(fixed, each),
            None => Size::UNKNOWN,
        }
    }

    const fn new(fixed: u8, each: u8) -> Size {
        Size {
            fixed: HEAD + fixed as u16,
            each: each as u16,
        }
    }

    /// Bytes of a record with that many elements, fewer than 2^24: less than 4 GiB.
    #[inline]
    const fn with(self, elements: u32) -> usize {
        (self.fixed as u32 + self.each as u32 * elements) as usize
    }
}

/// The sizes of all kinds that there can be.
#[derive(Clone, Copy)]
pub(crate) struct Sizes([Size; 128]);

impl Sizes {
    /// Those that are known here.
    const KNOWN: Sizes = {
        let mut sizes = [Size::UNKNOWN; 128];
        let mut kind = 0;
        while kind < Kind::ALL.len() {
            sizes[Kind::ALL[kind].0 as usize] = Size::of(Kind::ALL[kind]);
            kind += 1;
        }
        Sizes(sizes)
    };

    /// Those, and what layout sections say about others: newer kernels tell how to step over kinds
    /// that are not known here. What the first section says counts.
    pub(crate) fn with_layouts(layouts: [&[u8]; 2]) -> Sizes {
        let mut sizes = Sizes::KNOWN;
        for layout in layouts {
            let (entries, _) = layout.as_chunks::<4>();
            // There are no records of kind 0.
            for (size, [fixed, each, ..]) in sizes.0.iter_mut().zip(entries).skip(1) {
                if size.fixed == 0 {
                    *size = Size::new(*fixed, *each);
                }
            }
        }
        sizes
    }

    #[inline]
    fn of(&self, kind: Kind) -> Size {
        self.0
            .get(kind.0 as usize)
            .copied()
            .unwrap_or(Size::UNKNOWN)
    }
}

/// What one pass over the records finds.
pub(crate) struct Scan {
    /// Where each starts, from the start of the header.
    pub(crate) offsets: Box<[u32]>,
    /// How many have a name.
    pub(crate) named: usize,
}

/// Finds the records in a section. The first one has the number `first`.
pub(crate) fn scan(
    bytes: &[u8],
    section: &Range<usize>,
    (order, sizes, first): (Order, &Sizes, u32),
) -> Result<Scan, Error> {
    let types = bytes.get(section.clone()).unwrap_or_default();
    let mut offsets = Vec::with_capacity(types.len() / RECORD);
    let (mut rest, mut named) = (types, 0);
    while let Some([a, b, c, d, e, f, g, h, ..]) = rest.first_chunk::<RECORD>() {
        let (name, info) = (order.u32([*a, *b, *c, *d]), order.u32([*e, *f, *g, *h]));
        let size = sizes.of(kind(info));
        let behind = rest.get(size.with(elements(info))..);
        let (Some(behind), 1..) = (behind, size.fixed) else {
            break;
        };
        named += usize::from(name != 0);
        // What begins beyond 4 GiB cannot be told apart.
        let Ok(offset) = u32::try_from(section.end - rest.len()) else {
            return Err(Error::TooManyTypes { limit: MOST_TYPES });
        };
        offsets.push(offset);
        rest = behind;
    }
    if offsets.len() > MOST_TYPES as usize {
        return Err(Error::TooManyTypes { limit: MOST_TYPES });
    }
    if !rest.is_empty() {
        let found = u32::try_from(offsets.len()).unwrap_or(u32::MAX);
        let id = TypeId(first.saturating_add(found));
        return Err(broken(rest, types.len() - rest.len(), id, order, sizes));
    }
    offsets.shrink_to_fit();
    Ok(Scan {
        offsets: offsets.into_boxed_slice(),
        named,
    })
}

/// What is wrong with the first of these records.
fn broken(rest: &[u8], offset: usize, id: TypeId, order: Order, sizes: &Sizes) -> Error {
    let kind = order.u32_at(rest, 4).map(kind);
    match kind.filter(|kind| rest.len() >= RECORD && sizes.of(*kind).fixed == 0) {
        Some(kind) => Error::UnknownKind { id, offset, kind },
        None => Error::TypeTruncated { id, offset },
    }
}

/// The kind in the second word of a record. It once had five bits, and two zeroes above them.
#[inline]
pub(crate) const fn kind(info: u32) -> Kind {
    Kind(info >> 24 & 0x7f)
}

/// The number of elements in the second word of a record. It once had 16 bits, and eight zeroes above
/// them.
#[inline]
pub(crate) const fn elements(info: u32) -> u32 {
    info & 0x00ff_ffff
}

/// The records of one BTF, ready to be read.
#[derive(Clone, Copy)]
pub(crate) struct Records<'a> {
    /// All of the BTF.
    pub(crate) bytes: &'a [u8],
    pub(crate) offsets: &'a [u32],
    /// The number of the first one.
    pub(crate) first: u32,
    pub(crate) strings: Strings<'a>,
    pub(crate) order: Order,
}

impl<'a> Records<'a> {
    /// Inlined always, so that nothing is read that nobody looks at.
    #[inline(always)]
    pub(crate) fn get(self, id: TypeId) -> Option<Type<'a>> {
        let at = id.0.checked_sub(self.first)? as usize;
        let start = *self.offsets.get(at)? as usize;
        let (record, behind) = self.bytes.get(start..)?.split_first_chunk::<RECORD>()?;
        let [a, b, c, d, e, f, g, h, i, j, k, l] = *record;
        Some(Type {
            id,
            name: self.order.u32([a, b, c, d]),
            info: self.order.u32([e, f, g, h]),
            word: self.order.u32([i, j, k, l]),
            behind,
            strings: self.strings,
            order: self.order,
        })
    }

    #[inline]
    pub(crate) const fn void(self) -> Type<'a> {
        Type {
            id: TypeId::VOID,
            name: 0,
            info: 0,
            word: 0,
            behind: &[],
            strings: self.strings,
            order: self.order,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Btf, Error, Kind, Order, Shape, TypeId};
    use std::sync::Arc;

    const NEW: u32 = 100;

    fn words(order: Order, words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| order.bytes(*word)).collect()
    }

    /// A number, a type of a new kind with two elements, and a structure with more members than 16
    /// bits can count. The header has eight bytes that nobody knows, and the layout lies between the
    /// types and the names.
    fn newer(order: Order, layout: &[u8], name: u32) -> Vec<u8> {
        let mut types = words(order, &[name, 1 << 24, 4, 32]);
        types.extend(words(order, &[0, NEW << 24 | 2, 7, 9, 1, 2, 3, 4]));
        types.extend(words(order, &[name + 2, 4 << 24 | 70_000, 4]));
        types.extend(words(order, &[name, 1, 0]).repeat(70_000));
        let strings = b"\0a\0b\0";
        let (len, gap) = (types.len(), layout.len());
        let lens = [len, len + gap, strings.len(), len, gap];
        let [
            types_len,
            at,
            strings_len,
            layout_at,
            layout_len,
        ] = lens.map(|len| u32::try_from(len).expect("small"));
        let mut bytes = order.bytes16(crate::header::MAGIC).to_vec();
        bytes.extend([1, 0]);
        let header = [
            40,
            0,
            types_len,
            at,
            strings_len,
            layout_at,
            layout_len,
            0x1234_5678,
            1,
        ];
        bytes.extend(words(order, &header));
        bytes.extend([types.as_slice(), layout, strings].concat());
        bytes
    }

    /// A fixed part of four bytes, and eight for each element.
    fn layout() -> Vec<u8> {
        let mut layout = [0xff, 0xff, 0, 0].repeat(NEW as usize);
        layout.extend([4, 8, 1, 0]);
        layout
    }

    #[test]
    fn kinds_of_newer_kernels_are_stepped_over() {
        for order in [Order::Little, Order::Big] {
            let btf = Btf::parse(newer(order, &layout(), 1)).expect("BTF");
            assert_eq!(btf.len(), 3);
            let new = btf.ty(TypeId(2)).expect("a type");
            assert!(matches!(new.shape(), Shape::Unknown(Kind(NEW))));
            assert_eq!((new.len(), new.target(), new.own_size()), (2, None, None));
            let wide = btf.find_struct("b").expect("a structure");
            let members = btf.ty(wide).expect("a type").members();
            assert_eq!((wide, members.len()), (TypeId(3), 70_000));
            assert!(members.into_iter().all(|member| member.name == "a"));
        }
    }

    #[test]
    fn without_a_layout_the_new_kind_is_named() {
        let error = Btf::parse(newer(Order::Little, &[], 1)).expect_err("an unknown kind");
        let wanted = Error::UnknownKind {
            id: TypeId(2),
            offset: 16,
            kind: Kind(NEW),
        };
        assert_eq!(error, wanted);
    }

    #[test]
    fn split_types_share_the_layout_of_their_base() {
        let base = Arc::new(Btf::parse(newer(Order::Little, &layout(), 1)).expect("BTF"));
        let names = u32::try_from(base.strings_len()).expect("small");
        let bytes = newer(Order::Little, &[], names + 1);
        let split = Btf::parse_split(bytes, base).expect("BTF");
        assert_eq!((split.len(), split.find_struct("b")), (3, Some(TypeId(6))));
    }

    #[test]
    fn a_layout_does_not_change_what_is_known() {
        // It says that numbers have 255 bytes more.
        let layout = layout();
        let btf = Btf::parse(newer(Order::Little, &layout, 1)).expect("BTF");
        assert_eq!(btf.size_of(TypeId(1)), Ok(4));
    }
}
