//! [`Btf`]: bytes, and where the types in them lie.

use crate::error::Error;
use crate::header::Header;
use crate::kind::{Kind, TypeId};
use crate::names::{Index, MOST_TYPES, Strings, until_zero};
use crate::records::{Records, Sizes, scan};
use crate::shape::Type;
use bpfsmith_uapi::Order;
use core::fmt;
use core::ops::Range;
use std::sync::{Arc, OnceLock};

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
    /// Where each own type starts.
    offsets: Box<[u32]>,
    /// How many own types have a name.
    named: usize,
    /// The first own type; 1 without a base.
    first: u32,
    base: Option<Arc<Btf<B>>>,
    index: OnceLock<Index>,
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
        let part = |range: &Range<usize>| all.get(range.clone()).unwrap_or_default();
        if base
            .as_ref()
            .is_some_and(|base| base.header.order != header.order)
        {
            return Err(Error::SplitOrder);
        }
        check_strings(part(&header.strings), base.is_some())?;
        let first = base.as_ref().map_or(1, |base| base.end().0);
        let of_base = base
            .as_ref()
            .map_or(&[][..], |base| base.own(&base.header.layout));
        let sizes = Sizes::with_layouts([part(&header.layout), of_base]);
        let scan = scan(all, &header.types, (header.order, &sizes, first))?;
        Ok(Btf {
            header,
            offsets: scan.offsets,
            named: scan.named,
            first,
            base,
            index: OnceLock::new(),
            bytes,
        })
    }

    /// All its bytes.
    #[inline]
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

    /// A section.
    #[inline]
    fn own(&self, section: &Range<usize>) -> &[u8] {
        let section = self.bytes.as_ref().get(section.clone());
        section.unwrap_or_default()
    }

    #[inline]
    fn strings(&self) -> Strings<'_> {
        let base = self.base.as_ref();
        Strings {
            base: base.map_or(&[], |base| base.own(&base.header.strings)),
            own: self.own(&self.header.strings),
        }
    }

    #[inline]
    pub(crate) fn records(&self) -> Records<'_> {
        Records {
            bytes: self.as_bytes(),
            offsets: &self.offsets,
            first: self.first,
            strings: self.strings(),
            order: self.header.order,
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
            return self.records().get(id);
        }
        self.before(id)
    }

    /// `void`, or a type of the base.
    #[inline(never)]
    fn before(&self, id: TypeId) -> Option<Type<'_>> {
        match &self.base {
            // A base is not split, so this does not go on.
            Some(base) if id != TypeId::VOID => base.records().get(id),
            _ => Some(self.records().void()),
        }
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

    /// Its own types in order; [`base`](Btf::base) has the others.
    #[inline]
    pub fn types(&self) -> impl ExactSizeIterator<Item = Type<'_>> + DoubleEndedIterator {
        let records = self.records();
        (0..records.offsets.len()).map(move |at| {
            let id = TypeId(records.first + u32::try_from(at).unwrap_or(u32::MAX));
            records.get(id).unwrap_or_else(|| records.void())
        })
    }

    fn index(&self) -> &Index {
        self.index.get_or_init(|| {
            let records = self.records();
            let count = u32::try_from(self.offsets.len()).unwrap_or(MOST_TYPES);
            Index::build(count, self.named, |number| {
                let ty = records.get(TypeId(records.first + (number - 1)))?;
                (ty.name != 0).then(|| records.strings.tail(ty.name))
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
        let records = self.records();
        name.into_iter().flat_map(move |name| {
            let numbers = self.index().candidates(name.as_bytes());
            numbers.filter_map(move |number| {
                let ty = records.get(TypeId(records.first + (number - 1)))?;
                (ty.name() == name).then_some(ty)
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

/// Shared between threads as it is, if the bytes are.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Btf<Vec<u8>>>();
    shared::<Btf<&[u8]>>();
    shared::<Type<'_>>();
};
