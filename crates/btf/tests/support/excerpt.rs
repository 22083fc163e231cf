//! Types written again by what they are, with other numbers: small pieces of large BTF.

#![allow(
    dead_code,
    reason = "each target that includes this file needs another part"
)]

use bpfsmith_btf::{Btf, Builder, NewMember, Order, Shape, Type, TypeId};
use std::collections::HashMap;

/// What a type refers to, in order.
fn references(ty: &Type<'_>) -> Vec<TypeId> {
    let mut ids: Vec<TypeId> = ty.target().into_iter().collect();
    if let Shape::Array(array) = ty.shape() {
        ids.extend([array.element, array.index]);
    }
    ids.extend(ty.members().map(|member| member.ty));
    ids.extend(ty.params().map(|param| param.ty));
    ids.extend(ty.variables().map(|variable| variable.ty));
    ids
}

/// Adds a type through the method for its kind. `id` says the new number of what it refers to.
pub(crate) fn add(b: &mut Builder, ty: &Type<'_>, id: impl Fn(TypeId) -> TypeId) -> TypeId {
    let name = ty.name().to_string();
    match ty.shape() {
        Shape::Int(int) => b.int(&name, int.size, int.encoding),
        Shape::Ptr(to) => b.pointer(id(to)),
        Shape::Array(array) => b.array(id(array.element), id(array.index), array.len),
        Shape::Struct(size, members) | Shape::Union(size, members) => {
            let names: Vec<String> = members.map(|member| member.name.to_string()).collect();
            let new = members.zip(&names).map(|(member, name)| NewMember {
                name,
                ty: id(member.ty),
                bit_offset: member.bit_offset,
                bits: member.bits,
            });
            match ty.shape() {
                Shape::Struct(..) => b.structure(&name, size, new),
                _ => b.union(&name, size, new),
            }
        }
        Shape::Enum(size, values) => {
            let values: Vec<_> = values.map(|v| (v.name.to_string(), v.value)).collect();
            let values: Vec<_> = values.iter().map(|(name, v)| (name.as_str(), *v)).collect();
            b.enumeration(&name, size, &values)
        }
        Shape::Fwd(kind) => b.forward(&name, kind),
        Shape::Typedef(to) => b.typedef(&name, id(to)),
        Shape::Volatile(to) => b.volatile(id(to)),
        Shape::Const(to) => b.constant(id(to)),
        Shape::Restrict(to) => b.restrict(id(to)),
        Shape::Func(to, linkage) => b.func(&name, id(to), linkage),
        Shape::FuncProto(result, params) => {
            let params: Vec<_> = params.map(|p| (p.name.to_string(), id(p.ty))).collect();
            let params: Vec<_> = params
                .iter()
                .map(|(name, ty)| (name.as_str(), *ty))
                .collect();
            b.func_proto(id(result), &params)
        }
        Shape::Var(to, linkage) => b.var(&name, id(to), linkage),
        Shape::DataSec(size, variables) => {
            let mut variables: Vec<_> = variables.collect();
            variables
                .iter_mut()
                .for_each(|variable| variable.ty = id(variable.ty));
            b.data_sec(&name, size, &variables)
        }
        Shape::Float(size) => b.float(&name, size),
        Shape::DeclTag(to, part) if ty.flag() => b.decl_attribute(&name, id(to), part),
        Shape::TypeTag(to) if ty.flag() => b.type_attribute(&name, id(to)),
        Shape::DeclTag(to, part) => b.decl_tag(&name, id(to), part),
        Shape::TypeTag(to) => b.type_tag(&name, id(to)),
        _ => panic!("{ty:?} cannot be written"),
    }
}

/// A type and those that it refers to, near ones first, up to a number of them; `void` stands for the
/// rest.
pub(crate) fn excerpt<B: AsRef<[u8]>>(
    btf: &Btf<B>,
    root: TypeId,
    most: usize,
    order: Order,
) -> Vec<u8> {
    let mut ids = vec![root];
    let mut new = HashMap::from([(root, TypeId(1))]);
    let mut at = 0;
    while let Some(id) = ids.get(at).copied() {
        at += 1;
        for next in references(&btf.ty(id).expect("a type")) {
            if ids.len() < most && next != TypeId::VOID && !new.contains_key(&next) {
                ids.push(next);
                new.insert(next, TypeId(u32::try_from(ids.len()).expect("a few")));
            }
        }
    }
    let mut builder = Builder::with_order(order);
    for id in ids {
        let ty = btf.ty(id).expect("a type");
        add(&mut builder, &ty, |old| {
            new.get(&old).copied().unwrap_or_default()
        });
    }
    builder.build().expect("bytes")
}
