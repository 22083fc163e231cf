//! [`Btf`]: bytes, and where the types in them lie.

use crate::error::Error;
use crate::header::Header;
use crate::kind::{Kind, TypeId};
use crate::names::{Index, MOST_TYPES, Strings, until_zero};
use crate::shape::Type;
use bpfsmith_uapi::Order;
use core::fmt;
use std::sync::{Arc, OnceLock};

/// The part of a record that all kinds have.
pub(crate) const RECORD: usize = 12;

/// BTF in place: a view over bytes that it owns or borrows.
///
/// Opening checks the header and walks the records once; everything behind the records' headers is
/// checked when it is asked for. Names are indexed at the first lookup. Nothing ever changes
/// afterwards, so it can be shared between threads.
///
/// Split BTF, as of a kernel module, continues the numbers and names of its base, which holds bytes
/// of the same type.
pub struct Btf<B = Vec<u8>> {
    bytes: B,
    header: Header,
    /// Where each own type starts in the type section.
    offsets: Box<[u32]>,
    /// How many own types have a name.
    named: usize,
    /// The first own type; 1 without a base.
    first: u32,
    base: Option<Arc<Btf<B>>>,
    index: OnceLock<Index>,
}

/// What one pass over the records finds.
struct Scan {
    offsets: Vec<u32>,
    named: usize,
}

/// Bytes behind the header of a record, by kind: a fixed part, and a part for each element.
type Sizes = [Option<(u32, u32)>; 32];

fn sizes(layout: &[u8]) -> Sizes {
    let mut sizes: Sizes = [None; 32];
    for (kind, size) in (0..).zip(&mut sizes) {
        *size = Kind(kind).extra();
    }
    // A newer kernel says how to step over kinds that are not known here.
    for (size, entry) in sizes.iter_mut().zip(layout.chunks_exact(4)).skip(1) {
        if let (None, [fixed, each, ..]) = (&size, entry) {
            *size = Some((u32::from(*fixed), u32::from(*each)));
        }
    }
    sizes
}

fn scan(types: &[u8], order: Order, sizes: &Sizes, first: u32) -> Result<Scan, Error> {
    let mut offsets = Vec::with_capacity(types.len() / RECORD);
    let (mut at, mut named) = (0, 0);
    while at < types.len() {
        let id = || TypeId(first.saturating_add(u32::try_from(offsets.len()).unwrap_or(u32::MAX)));
        let truncated = || Error::TypeTruncated {
            id: id(),
            offset: at,
        };
        let record = types.get(at..).and_then(<[u8]>::first_chunk::<RECORD>);
        let [a, b, c, d, e, f, g, h, ..] = *record.ok_or_else(truncated)?;
        let (name, info) = (order.u32([a, b, c, d]), order.u32([e, f, g, h]));
        let kind = Kind(info >> 24 & 0x1f);
        let Some((fixed, each)) = sizes.get(kind.0 as usize).copied().flatten() else {
            return Err(Error::UnknownKind {
                id: id(),
                offset: at,
                kind,
            });
        };
        let behind = (fixed + each * (info & 0xffff)) as usize;
        if behind > types.len() - at - RECORD {
            return Err(truncated());
        }
        named += usize::from(name != 0);
        // The section is smaller than 4 GiB: its length is a 32-bit number.
        offsets.push(u32::try_from(at).unwrap_or(u32::MAX));
        at += RECORD + behind;
    }
    if offsets.len() > MOST_TYPES as usize {
        return Err(Error::TooManyTypes { limit: MOST_TYPES });
    }
    offsets.shrink_to_fit();
    Ok(Scan { offsets, named })
}

/// No name has as many bytes as this: otherwise a few bytes that all refer to one long name would
/// make reading slow. The kernel takes 512 bytes; lines of source are longer.
pub(crate) const LONG_NAME: usize = 1 << 14;

/// Whether there is a name that is too long. Only what fills half of that can be part of one.
fn has_long_name(strings: &[u8]) -> bool {
    const HALF: usize = LONG_NAME / 2;
    strings.chunks_exact(HALF).enumerate().any(|(at, half)| {
        if until_zero(half).len() < HALF {
            return false;
        }
        let (before, behind) = strings.split_at(at * HALF);
        let before = before.iter().rev().take_while(|byte| **byte != 0).count();
        before + until_zero(behind).len() >= LONG_NAME
    })
}

fn check_strings(strings: &[u8], is_split: bool) -> Result<(), Error> {
    match strings {
        // A module that adds no name has no strings of its own.
        [] if is_split => return Ok(()),
        [.., last] if *last != 0 => return Err(Error::Strings("does not end with a zero byte")),
        [0, ..] => {}
        [_, ..] if is_split => {}
        _ => return Err(Error::Strings("does not start with a zero byte")),
    }
    match has_long_name(strings) {
        false => Ok(()),
        true => Err(Error::Strings("holds a name of more than 16383 bytes")),
    }
}

impl<B: AsRef<[u8]>> Btf<B> {
    /// Reads BTF that stands alone, in either byte order.
    ///
    /// # Errors
    ///
    /// When the header, the strings or a record are not BTF. What the records refer to is checked
    /// when it is asked for.
    pub fn parse(bytes: B) -> Result<Btf<B>, Error> {
        Btf::open(bytes, None)
    }

    /// Reads BTF that continues a base, as that of a kernel module continues the kernel's.
    ///
    /// # Errors
    ///
    /// As [`parse`](Btf::parse); also when the base is itself split, or has another byte order.
    pub fn parse_split(bytes: B, base: Arc<Btf<B>>) -> Result<Btf<B>, Error> {
        if base.base.is_some() {
            return Err(Error::SplitBase);
        }
        Btf::open(bytes, Some(base))
    }

    fn open(bytes: B, base: Option<Arc<Btf<B>>>) -> Result<Btf<B>, Error> {
        let all = bytes.as_ref();
        let header = Header::read(all)?;
        let part = |range: &core::ops::Range<usize>| all.get(range.clone()).unwrap_or_default();
        if base
            .as_ref()
            .is_some_and(|base| base.header.order != header.order)
        {
            return Err(Error::SplitOrder);
        }
        check_strings(part(&header.strings), base.is_some())?;
        let first = base.as_ref().map_or(1, |base| base.end().0);
        let sizes = sizes(part(&header.layout));
        let scan = scan(part(&header.types), header.order, &sizes, first)?;
        Ok(Btf {
            header,
            offsets: scan.offsets.into_boxed_slice(),
            named: scan.named,
            first,
            base,
            index: OnceLock::new(),
            bytes,
        })
    }

    /// All its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// Its byte order.
    pub fn order(&self) -> Order {
        self.header.order
    }

    /// What it continues, if it is split.
    pub fn base(&self) -> Option<&Arc<Btf<B>>> {
        self.base.as_ref()
    }

    /// The number of own types, `void` and those of the base not counted.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Whether it has no types of its own.
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// The first id behind its types, where split BTF on top of it starts.
    pub fn end(&self) -> TypeId {
        let own = u32::try_from(self.offsets.len()).unwrap_or(u32::MAX);
        TypeId(self.first.saturating_add(own))
    }

    /// Bytes of names, those of the base included: where names of split BTF on top of it start.
    pub fn strings_len(&self) -> usize {
        let base = self.base.as_ref().map_or(0, |base| base.strings_len());
        base + self.header.strings.len()
    }

    /// Bytes of memory beside the BTF itself; more after the first lookup of a name.
    pub fn extra_bytes(&self) -> usize {
        size_of_val(&*self.offsets) + self.index.get().map_or(0, Index::bytes)
    }

    #[inline]
    fn own_strings(&self) -> &[u8] {
        let strings = self.bytes.as_ref().get(self.header.strings.clone());
        strings.unwrap_or_default()
    }

    #[inline]
    fn own_types(&self) -> &[u8] {
        let types = self.bytes.as_ref().get(self.header.types.clone());
        types.unwrap_or_default()
    }

    #[inline]
    fn strings(&self) -> Strings<'_> {
        Strings {
            base: self.base.as_ref().map_or(&[], |base| base.own_strings()),
            own: self.own_strings(),
        }
    }

    /// The name at an offset, as line information refers to it.
    pub fn name_at(&self, offset: u32) -> crate::Name<'_> {
        self.strings().name(offset)
    }

    /// The type of an id, in the base or here. Id 0 is `void`.
    #[inline]
    pub fn get(&self, id: TypeId) -> Option<Type<'_>> {
        if id.0 >= self.first {
            return self.own(id, self.own_types(), self.strings());
        }
        match &self.base {
            Some(base) => base.own_or_void(id),
            None => Some(self.void()),
        }
    }

    /// Kind and target of a type without the rest, for walks along chains.
    #[inline]
    pub(crate) fn head(&self, id: TypeId) -> Option<(Kind, TypeId)> {
        let holder = match &self.base {
            Some(base) if id.0 < self.first => base,
            _ => self,
        };
        if id == TypeId::VOID {
            return Some((Kind::UNKN, TypeId::VOID));
        }
        let at = id.0.checked_sub(holder.first)? as usize;
        let start = *holder.offsets.get(at)? as usize;
        let record = holder.own_types().get(start..)?.first_chunk::<RECORD>()?;
        let [_, _, _, _, e, f, g, h, i, j, k, l] = *record;
        let order = self.header.order;
        let kind = Kind(order.u32([e, f, g, h]) >> 24 & 0x1f);
        Some((kind, TypeId(order.u32([i, j, k, l]))))
    }

    /// The type of an id, or an error that names it.
    ///
    /// # Errors
    ///
    /// When there is no such type.
    #[inline]
    pub fn ty(&self, id: TypeId) -> Result<Type<'_>, Error> {
        self.get(id).ok_or(Error::NoType(id))
    }

    /// A base is not split, so this does not go on.
    fn own_or_void(&self, id: TypeId) -> Option<Type<'_>> {
        if id == TypeId::VOID {
            return Some(self.void());
        }
        self.own(id, self.own_types(), self.strings())
    }

    fn void(&self) -> Type<'_> {
        Type {
            id: TypeId::VOID,
            name: 0,
            info: 0,
            word: 0,
            tail: &[],
            strings: self.strings(),
            order: self.header.order,
        }
    }

    #[inline]
    fn own<'a>(&'a self, id: TypeId, types: &'a [u8], strings: Strings<'a>) -> Option<Type<'a>> {
        let at = id.0.checked_sub(self.first)? as usize;
        let start = *self.offsets.get(at)? as usize;
        let end = self
            .offsets
            .get(at + 1)
            .map_or(types.len(), |next| *next as usize);
        let (record, tail) = types.get(start..end)?.split_first_chunk::<RECORD>()?;
        let [a, b, c, d, e, f, g, h, i, j, k, l] = *record;
        let order = self.header.order;
        Some(Type {
            id,
            name: order.u32([a, b, c, d]),
            info: order.u32([e, f, g, h]),
            word: order.u32([i, j, k, l]),
            tail,
            strings,
            order,
        })
    }

    /// Its own types in order; [`base`](Btf::base) has the others.
    #[inline]
    pub fn types(&self) -> impl ExactSizeIterator<Item = Type<'_>> + DoubleEndedIterator {
        let (types, strings) = (self.own_types(), self.strings());
        (0..self.offsets.len()).map(move |at| {
            let id = TypeId(self.first + u32::try_from(at).unwrap_or(u32::MAX));
            self.own(id, types, strings).unwrap_or_else(|| self.void())
        })
    }

    fn index(&self) -> &Index {
        self.index.get_or_init(|| {
            let (types, strings) = (self.own_types(), self.strings());
            let count = u32::try_from(self.offsets.len()).unwrap_or(MOST_TYPES);
            Index::build(count, self.named, |number| {
                let start = *self.offsets.get(number.checked_sub(1)? as usize)?;
                let name = self.header.order.u32_at(types, start as usize)?;
                (name != 0).then(|| strings.tail(name))
            })
        })
    }

    /// Builds the name index now instead of at the first lookup.
    pub fn prepare(&self) {
        let _ = self.index();
        if let Some(base) = &self.base {
            base.prepare();
        }
    }

    /// Its own types of a name, whatever their kind, in order.
    #[inline]
    pub fn own_named(&self, name: &str) -> impl Iterator<Item = Type<'_>> {
        // The zero byte ends names, so none contains it.
        let name = Some(name).filter(|name| !name.is_empty() && !name.as_bytes().contains(&0));
        let (types, strings) = (self.own_types(), self.strings());
        name.into_iter().flat_map(move |name| {
            let numbers = self.index().candidates(name.as_bytes());
            numbers.filter_map(move |number| {
                let id = TypeId(self.first + (number - 1));
                let ty = self.own(id, types, strings)?;
                let found = strings.tail(ty.name).strip_prefix(name.as_bytes())?;
                matches!(found, [0, ..]).then_some(ty)
            })
        })
    }

    /// All types of a name, whatever their kind: its own, then those of the base.
    pub fn named(&self, name: &str) -> impl Iterator<Item = Type<'_>> {
        let base = self.base.as_deref();
        let base = base.into_iter().flat_map(move |base| base.own_named(name));
        self.own_named(name).chain(base)
    }

    /// The first type of this name and kind: its own, or else that of the base.
    #[inline]
    pub fn find(&self, name: &str, kind: Kind) -> Option<TypeId> {
        let of = |btf: &Btf<B>| {
            let found = btf.own_named(name).find(|ty| ty.kind() == kind);
            found.map(|ty| ty.id())
        };
        of(self).or_else(|| of(self.base.as_deref()?))
    }

    /// The first type of this name and kind, or an error that names it.
    ///
    /// # Errors
    ///
    /// When there is no such type.
    pub fn require(&self, name: &str, kind: Kind) -> Result<TypeId, Error> {
        self.find(name, kind).ok_or_else(|| Error::NoName {
            name: name.to_owned(),
            kind,
        })
    }

    /// A `struct` by name.
    pub fn find_struct(&self, name: &str) -> Option<TypeId> {
        self.find(name, Kind::STRUCT)
    }

    /// A function by name: kernel functions, kfuncs, `bpf_lsm_NAME` and `bpf_iter_NAME`.
    pub fn find_func(&self, name: &str) -> Option<TypeId> {
        self.find(name, Kind::FUNC)
    }

    /// A type definition by name: `btf_trace_NAME` is what tracepoint programs attach to.
    pub fn find_typedef(&self, name: &str) -> Option<TypeId> {
        self.find(name, Kind::TYPEDEF)
    }

    /// A variable by name.
    pub fn find_var(&self, name: &str) -> Option<TypeId> {
        self.find(name, Kind::VAR)
    }

    /// An `enum` by name, whatever its width.
    pub fn find_enum(&self, name: &str) -> Option<TypeId> {
        self.named(name)
            .find(|ty| matches!(ty.kind(), Kind::ENUM | Kind::ENUM64))
            .map(|ty| ty.id())
    }

    /// The value of an enumeration constant and the type that defines it. Constants are not indexed:
    /// this looks through all enumerations, its own first.
    pub fn find_constant(&self, name: &str) -> Option<(TypeId, i128)> {
        let of = |btf: &Btf<B>| {
            btf.types().find_map(|ty| {
                let value = ty.enumerators().find(|value| value.name == name)?;
                Some((ty.id(), value.value))
            })
        };
        of(self).or_else(|| of(self.base.as_deref()?))
    }
}

impl<B> fmt::Debug for Btf<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Btf")
            .field("order", &self.header.order)
            .field("first", &self.first)
            .field("types", &self.offsets.len())
            .finish_non_exhaustive()
    }
}
