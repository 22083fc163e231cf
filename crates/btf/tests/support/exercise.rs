//! Everything that can be asked about bytes, for tests and fuzz targets alike: any input ends with an
//! answer or an error, and answers do not contradict each other.

#![allow(
    dead_code,
    reason = "each target that includes this file asks another part"
)]

use bpfsmith_btf::{Btf, Builder, Ext, Header, Kind, Name, Order, Shape, Type, TypeId};
use std::fmt::{self, Write};
use std::sync::Arc;

/// Counts text instead of keeping it.
struct Sink(usize);

impl Write for Sink {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len();
        Ok(())
    }
}

fn written(args: fmt::Arguments<'_>) -> usize {
    let mut sink = Sink(0);
    let _ = sink.write_fmt(args);
    sink.0
}

/// Reads bytes as BTF that stands alone; some again as BTF on top of itself. Whether they are BTF.
pub(crate) fn alone(bytes: &[u8]) -> bool {
    let Ok(btf) = Btf::parse(bytes) else {
        return false;
    };
    every_type(&btf);
    // That doubles the work, and other inputs are split from the start.
    if !bytes.len().is_multiple_of(8) {
        return true;
    }
    let base = Arc::new(btf);
    if let Ok(split) = Btf::parse_split(bytes, Arc::clone(&base)) {
        every_type(&split);
    }
    true
}

/// Reads bytes as BTF on top of a base. Whether they are BTF.
pub(crate) fn split<'b>(base: &Arc<Btf<&'b [u8]>>, bytes: &'b [u8]) -> bool {
    let Ok(split) = Btf::parse_split(bytes, Arc::clone(base)) else {
        return false;
    };
    every_type(&split);
    let nested = Btf::parse_split(bytes, Arc::new(split));
    assert!(nested.is_err(), "a base of a base");
    true
}

/// Reads bytes as `.BTF.ext`. Whether they are.
pub(crate) fn ext(bytes: &[u8]) -> bool {
    let Ok(ext) = Ext::parse(bytes) else {
        return false;
    };
    let most = bytes.len() / 8;
    let (funcs, lines, relos) = (
        ext.funcs().count(),
        ext.lines().count(),
        ext.relos().count(),
    );
    assert!(funcs <= most && lines <= most && relos <= most);
    for func in ext.funcs() {
        written(format_args!("{func:?}"));
    }
    for line in ext.lines() {
        assert!(line.column < 1 << 10 && line.line < 1 << 22);
        written(format_args!("{line:?}"));
    }
    for relo in ext.relos() {
        written(format_args!("{relo:?}"));
    }
    let _ = (ext.order(), written(format_args!("{ext:?}")));
    true
}

/// Reads bytes as BTF and writes every type, and values of it, as C.
pub(crate) fn print(bytes: &[u8], value: &[u8]) -> bool {
    let Ok(btf) = Btf::parse(bytes) else {
        return false;
    };
    for ty in btf.types() {
        texts(&btf, ty.id(), value);
        exact(&btf, ty.id());
    }
    header(&btf);
    true
}

fn every_type(btf: &Btf<&[u8]>) {
    whole(btf);
    about(btf, btf.types().map(|ty| ty.id()));
    // Behind the end, and what the base has.
    let first = btf.end().0 - u32::try_from(btf.len()).expect("a count");
    let outside = [
        0,
        1,
        first.saturating_sub(1),
        btf.end().0,
        u32::MAX,
    ];
    about(btf, outside.into_iter().map(TypeId));
    header(btf);
    copies(btf);
}

/// What is asked about all of it.
fn whole(btf: &Btf<&[u8]>) {
    btf.prepare();
    assert_eq!(btf.types().len(), btf.len());
    assert_eq!(btf.types().count(), btf.len());
    assert_eq!(btf.types().rev().count(), btf.len());
    assert_eq!(btf.is_empty(), btf.types().next().is_none());
    assert!(btf.get(btf.end()).is_none() && btf.ty(btf.end()).is_err());
    assert!(btf.get(TypeId(btf.end().0 - 1)).is_some());
    let own = btf.as_bytes().len();
    let all = own + btf.base().map_or(0, |base| base.as_bytes().len());
    assert!(btf.strings_len() <= all && btf.extra_bytes() <= own * 4 + 4096);
    for at in [
        0,
        1,
        btf.strings_len().saturating_sub(1),
        btf.strings_len(),
        usize::MAX,
    ] {
        name(btf.name_at(u32::try_from(at).unwrap_or(u32::MAX)));
    }
    let _ = (btf.base().is_some(), written(format_args!("{btf:?}")));
    for missing in ["", "\0", "no such name", "a", "é"] {
        let _ = (btf.find_constant(missing), btf.find_enum(missing));
        let _ = (btf.find_struct(missing), btf.find_func(missing));
        let _ = (btf.find_typedef(missing), btf.find_var(missing));
        if let Err(error) = btf.require(missing, Kind::STRUCT) {
            written(format_args!("{error} {:?}", error.hint()));
        }
    }
    let constant = btf.types().find_map(|ty| ty.enumerators().next());
    if let Some(text) = constant.and_then(|value| value.name.to_str()) {
        assert!(btf.find_constant(text).is_some());
    }
}

fn name(name: Name<'_>) {
    assert!(!name.as_bytes().contains(&0));
    assert_eq!(name.is_empty(), name.as_bytes().is_empty());
    assert!(name.to_str().is_none_or(|text| name == text));
    written(format_args!("{name} {name:?}"));
}

/// Asks everything about these types.
pub(crate) fn about(btf: &Btf<&[u8]>, ids: impl Iterator<Item = TypeId>) {
    const VALUE: [u8; 96] = [0x81; 96];
    for id in ids {
        let Some(ty) = btf.get(id) else {
            assert!(btf.ty(id).is_err() && btf.size_of(id).is_err());
            continue;
        };
        assert_eq!(ty.id(), id);
        records(&ty);
        walks(btf, &ty);
        paths(btf, &ty);
        found(btf, &ty);
        texts(btf, id, &VALUE);
        exact(btf, id);
    }
}

/// What lies in the record itself.
fn records(ty: &Type<'_>) {
    name(ty.name());
    let (members, values) = (ty.members(), ty.enumerators());
    let (params, variables) = (ty.params(), ty.variables());
    for (said, counted) in [
        (members.len(), members.count()),
        (values.len(), values.count()),
        (params.len(), params.count()),
    ] {
        assert_eq!(said, counted, "{ty:?}");
    }
    let all = members.count() + values.count() + params.count() + variables.count();
    assert!(all == 0 || all == ty.len() as usize, "{ty:?}");
    for member in members {
        let _ = member.name.len();
        assert_eq!(member.offset().is_some(), member.bit_offset % 8 == 0);
    }
    let _ = (ty.target(), ty.own_size(), ty.is_empty(), ty.flag());
    written(format_args!("{ty:?} {:?}", ty.shape()));
}

/// Along the types that it refers to.
fn walks(btf: &Btf<&[u8]>, ty: &Type<'_>) {
    let id = ty.id();
    let _ = btf.unqualified(id).map(|end| records(&end));
    if let Ok(end) = btf.resolve(id) {
        let stays = btf.resolve(end.id()).expect("resolved");
        assert_eq!(stays.id(), end.id());
    }
    if let Ok(Some(proto)) = btf.prototype(id) {
        assert_eq!(proto.kind(), Kind::FUNC_PROTO);
    }
    if let Ok(align) = btf.align_of(id) {
        assert!(align.is_power_of_two() && align <= 16);
    }
    if let Err(error) = btf.size_of(id) {
        written(format_args!("{error} {:?}", error.hint()));
    }
}

fn paths(btf: &Btf<&[u8]>, ty: &Type<'_>) {
    let id = ty.id();
    for path in [
        "a",
        "x.y",
        "x[3].y",
        "",
        ".",
        "[",
        "a[4294967295]",
        "a[0][0]",
        "a]",
    ] {
        if let Err(error) = btf.member(id, path) {
            written(format_args!("{error}"));
        }
    }
    // More would make wide structures slow to test.
    for (member, number) in ty.members().zip(0..).take(3) {
        let Some(name) = member.name.to_str().filter(|name| !name.is_empty()) else {
            continue;
        };
        // Odd names are no paths.
        if name.contains(['.', '[']) {
            let _ = btf.member(id, name);
            continue;
        }
        let place = btf.member(id, name).expect("its own member");
        // An earlier member may have the same name.
        if place.first == number {
            assert_eq!((place.ty, place.bits), (member.ty, member.bits));
        }
        let _ = (place.offset(), btf.member(id, &format!("{name}[1].{name}")));
    }
}

/// By name: what is found has the name, and it is found.
fn found(btf: &Btf<&[u8]>, ty: &Type<'_>) {
    let Some(name) = ty.name().to_str().filter(|name| !name.is_empty()) else {
        return;
    };
    let id = btf.find(name, ty.kind()).expect("it has this name");
    let other = btf.ty(id).expect("it was found");
    assert_eq!((other.name(), other.kind()), (ty.name(), ty.kind()));
    assert_eq!(btf.require(name, ty.kind()).as_ref(), Ok(&id));
    assert!(btf.named(name).take(16).all(|other| other.name() == name));
    assert!(
        btf.own_named(name)
            .take(16)
            .all(|other| other.name() == name)
    );
    let missing = format!("{name}\u{1}");
    let _ = btf.find(&missing, ty.kind());
    if let Some((cut, _)) = name.char_indices().last() {
        let _ = btf.find(&name[..cut], ty.kind());
    }
}

fn texts(btf: &Btf<&[u8]>, id: TypeId, value: &[u8]) {
    for text in [
        btf.spell(id, "x"),
        btf.define(id),
        btf.define_with_places(id),
        btf.raw(id),
        btf.show(id, value),
    ] {
        match text {
            Ok(text) => assert!(text.len() < 1 << 26, "{} bytes of text", text.len()),
            Err(error) => {
                written(format_args!("{error} {:?}", error.hint()));
            }
        }
    }
}

/// A value of the size that the type has.
fn exact(btf: &Btf<&[u8]>, id: TypeId) {
    if let Ok(size) = btf.size_of(id)
        && size <= 512
    {
        let value: Vec<u8> = (0..size).map(|at| at.to_le_bytes()[0]).collect();
        if let Err(error) = btf.show(id, &value) {
            written(format_args!("{error}"));
        }
    }
}

/// All types as one header.
fn header(btf: &Btf<&[u8]>) {
    let mut header = Header::new(btf);
    for ty in btf.types() {
        let _ = header
            .add(ty.id())
            .map_err(|error| written(format_args!("{error}")));
        assert!(header.renamed(ty.id()).is_none_or(|name| name.len() < 256));
    }
}

/// A copy in either byte order has the same types.
fn copies(btf: &Btf<&[u8]>) {
    let orders: &[Order] = match btf.base() {
        Some(_) => &[btf.order()],
        None => &[Order::Little, Order::Big],
    };
    for order in orders {
        let mut builder = match btf.base() {
            Some(base) => Builder::on(base),
            None => Builder::with_order(*order),
        };
        for ty in btf.types() {
            builder.copy(&ty);
        }
        // Names that are not text, and kinds that are not known, are not written.
        let Ok(bytes) = builder.build() else { return };
        let again = match btf.base() {
            Some(base) => Btf::parse_split(bytes.as_slice(), Arc::clone(base)),
            None => Btf::parse(bytes.as_slice()),
        };
        let again = again.expect("what was written is read");
        assert_eq!((again.len(), again.end()), (btf.len(), btf.end()));
        assert_eq!(again.order(), *order);
        for (old, new) in btf.types().zip(again.types()) {
            same(&old, &new);
        }
    }
}

/// Fails unless two types, maybe of two blobs, are alike in all that they say.
pub(crate) fn same(old: &Type<'_>, new: &Type<'_>) {
    let facts = |ty: &Type<'_>| (ty.kind(), ty.flag(), ty.len(), ty.target(), ty.own_size());
    assert_eq!(facts(old), facts(new), "{old:?}");
    assert_eq!(old.name(), new.name(), "{old:?}");
    assert!(old.members().eq(new.members()), "{old:?}");
    assert!(old.enumerators().eq(new.enumerators()), "{old:?}");
    assert!(old.params().eq(new.params()), "{old:?}");
    assert!(old.variables().eq(new.variables()), "{old:?}");
    match (old.shape(), new.shape()) {
        (Shape::Int(a), Shape::Int(b)) => assert_eq!(a, b),
        (Shape::Array(a), Shape::Array(b)) => assert_eq!(a, b),
        (Shape::Fwd(a), Shape::Fwd(b)) => assert_eq!(a, b),
        (Shape::Func(_, a), Shape::Func(_, b)) => assert_eq!(a, b),
        (Shape::Var(_, a), Shape::Var(_, b)) => assert_eq!(a, b),
        (Shape::DeclTag(_, a), Shape::DeclTag(_, b)) => assert_eq!(a, b),
        _ => {}
    }
}
